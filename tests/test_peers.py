"""Where one of a run's processes fails or is interrupted, the others end soon, and say why."""

import json
import re
import signal
import sys
import threading
import time
import types

import jax
import paired
import pytest
import runs
from test_train import ROOT, two_processes, wait_for

from mmvid import files
from mmvid.run import peers
from mmvid.run.peers import Peers


class Store:
    """JAX's coordination service, in this process."""

    def __init__(self):
        self.notes = {}

    def key_value_try_get(self, key):
        if key not in self.notes:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.notes[key]

    def key_value_set(self, key, text):
        if key in self.notes:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.notes[key] = text

    def key_value_dir_get(self, key):
        return [own for own in self.notes.items() if own[0].startswith(f"{key}/")]


class Left(BaseException):
    """In place of a process's end."""


@pytest.fixture
def two(monkeypatch):
    """``two(index)``: this process plays one of two; both have one store, and no patience."""
    store, state = Store(), types.SimpleNamespace(index=0)

    def leave(code):
        raise Left(code)

    for name, seconds in (("LOOK", 0.01), ("GRACE", 0.05), ("STAY", 0.05)):
        monkeypatch.setattr(peers, name, seconds)
    monkeypatch.setattr(peers, "_peers", lambda: Peers(store, state.index, 2))
    monkeypatch.setattr(peers.os, "_exit", leave)

    def play(index):
        state.index = index
        return store.notes

    return play


def ended(error, together=(0, 143)):
    """The exit code of a process whose block raises ``error``; None where it ends as usual."""
    try:
        with peers.heard(together) as listen:
            listen()
            if error is not None:
                raise error
    except Left as left:
        return left.args[0]
    except SystemExit as end:
        return end.code
    return None


@pytest.mark.parametrize("error, code, said", [
    (SystemExit(1), 1, ""), (SystemExit(130), 130, ""), (SystemExit("why"), 1, ""),
    (RuntimeError("odd"), 1, "odd"), (KeyboardInterrupt(), 1, "KeyboardInterrupt"),
], ids=str)  # fmt: skip
def test_whoever_fails_leaves_a_note_with_its_code(two, capsys, error, code, said):
    notes = two(1)
    assert ended(error) == code and json.loads(notes["mmvid/failed"]) == [1, code]
    err = capsys.readouterr().err
    assert said in err and ("Traceback" in err) == bool(said)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("end", [None, SystemExit(0), SystemExit(143)], ids=str)
def test_all_who_leave_together_wait_for_the_first(two, index, end):
    notes = two(index)
    if index:
        threading.Timer(0.1, notes.setdefault, ("mmvid/ended", "yes")).start()
    assert ended(end) == (end and end.code) and set(notes) == {"mmvid/ended"}


def test_what_comes_of_anothers_end_is_said_in_a_sentence(two, capsys):
    notes = two(0)
    lost = jax.errors.JaxRuntimeError("INTERNAL: Gloo all-reduce failed: Connection closed by peer\nat once")
    assert ended(lost) == 1
    err = capsys.readouterr().err
    assert "another process of this run is lost" in err and "closed by peer)" in err and "Traceback" not in err
    notes.clear()
    notes["mmvid/failed"] = json.dumps([1, 130])
    assert ended(RuntimeError("whatever")) == 130 and json.loads(notes["mmvid/failed"]) == [1, 130]
    err = capsys.readouterr().err
    assert "process 1 of this run has ended early" in err and "Traceback" not in err


def test_a_process_that_computes_hears_of_it(two, monkeypatch, capsys):
    """With the others' code; and not where it leaves by itself meanwhile."""
    notes, left, done = two(0), [], threading.Event()
    monkeypatch.setattr(peers, "_end", lambda own, code: left.append(code))
    notes["mmvid/failed"] = json.dumps([1, 2])
    peers._listen(peers._peers(), done)
    assert left == [2] and "process 1 of this run has ended" in capsys.readouterr().err
    threading.Timer(0.03, done.set).start()
    peers._listen(peers._peers(), done)
    assert left == [2] and not capsys.readouterr().err


def test_the_first_one_leaves_when_all_have_left(two, monkeypatch):
    notes = two(0)
    monkeypatch.setattr(peers, "STAY", 5)
    threading.Timer(0.2, notes.setdefault, ("mmvid/left/1", "yes")).start()
    begin = time.monotonic()
    assert ended(SystemExit(1)) == 1 and 0.1 < time.monotonic() - begin < 3


def test_alone_nothing_is_changed():
    with pytest.raises(ZeroDivisionError), peers.heard((0,)) as listen:
        listen()
        raise ZeroDivisionError
    with pytest.raises(SystemExit), peers.heard((0,)):
        sys.exit(3)


# ---------------------------------------------------------------------------- two processes
@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    runs.prepare(folder)
    return folder


def line(data, workdir, code=""):
    """The command of one of two processes, which runs ``code`` before."""
    start = [sys.executable, "-c", f"{code}\nimport mmvid.main; mmvid.main.start()"]
    made = f"--config.dataset.command=('paired', '{data}')"
    return [*start, f"--config={ROOT}/tests/paired.py", f"--config.dataset.path={data}", made,
            f"--workdir={workdir}"]  # fmt: skip


def told(started):
    """What both processes say, and the seconds between their ends."""
    said, ends = [None, None], [None, None]

    def wait(i):
        said[i] = started[i].communicate()[1]
        ends[i] = time.monotonic()

    threads = [threading.Thread(target=wait, args=(i,), daemon=True) for i in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(400)
    finally:
        for process in started:
            process.kill()
    assert None not in said, "a process has not ended"
    return said, abs(ends[0] - ends[1])


FAILS = """
from mmvid import logs
def write_ids(self, step, ids):
    if step == 3:
        raise {error}
logs.Writer.write_ids = write_ids
"""
FULL = "OSError(28, 'No space left on device', 'ids.jsonl')"


@pytest.mark.slow
@pytest.mark.parametrize("which, error, says", [
    (1, FULL, "The disk is full"), (0, FULL, "The disk is full"), (1, "RuntimeError('odd')", "RuntimeError: odd"),
])  # fmt: skip
def test_one_that_fails_ends_the_other_in_seconds(data, tmp_path, which, error, says):
    """The other one is in a step that it cannot end alone; before, it waited for up to five minutes."""
    lines = [line(data, tmp_path, FAILS.format(error=error) if i == which else "") for i in range(2)]
    started = two_processes(*lines)
    said, apart = told(started)
    print(f"{apart:.1f} s apart")
    assert [process.returncode for process in started] == [1, 1], said
    assert says in said[which] and "ended early" not in said[which]
    other = said[1 - which]
    assert f"process {which} of this run has ended early" in other and "Traceback" not in other, other
    assert apart < 20


@pytest.mark.slow
def test_one_that_dies_unheard_is_lost_to_the_other(data, tmp_path):
    """Which sees it in the step that both compute."""
    killed = FAILS.format(error="SystemExit(__import__('os').kill(__import__('os').getpid(), 9))")
    started = two_processes(line(data, tmp_path), line(data, tmp_path, killed))
    said, apart = told(started)
    print(f"{apart:.1f} s apart")
    assert [process.returncode for process in started] == [1, -9], said
    assert "another process of this run is lost" in said[0] and "Traceback" not in said[0] and apart < 20


INTERRUPTED = """
import os, signal
from mmvid.run import cache
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
cache.choose = lambda path: os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.slow
def test_ctrl_c_to_one_before_the_first_step_ends_both_with_a_sentence(data, tmp_path):
    """Which does not listen yet; the other one waits for it, in Gloo."""
    started = two_processes(line(data, tmp_path), line(data, tmp_path, INTERRUPTED))
    said, apart = told(started)
    print(f"{apart:.1f} s apart")
    assert [process.returncode for process in started] == [130, 130], said
    assert "interrupted; the same command goes on" in said[1]
    assert "process 1 of this run has ended early" in said[0] and apart < 20
    assert not any("Traceback" in text or "Gloo" in text.replace("[Gloo] Rank", "") for text in said), said


@pytest.mark.slow
@pytest.mark.parametrize("times, code", [(1, 143), (2, 130)])
def test_ctrl_c_to_one_while_it_makes_the_data(tmp_path, times, code):
    """Once: it is made, and both leave after the same step, which is saved. Twice: both end at once."""
    data, ce = tmp_path / "data", tmp_path / "run" / "ce"
    started = two_processes(line(data, tmp_path / "run"))
    assert wait_for(data, started[0])
    for _ in range(times):
        time.sleep(paired.SLOWLY / 6)
        started[0].send_signal(signal.SIGINT)
    said, apart = told(started)
    print(f"{apart:.1f} s apart")
    assert [process.returncode for process in started] == [code] * 2, said
    assert not any("Traceback" in text for text in said) and apart < 20, said
    if times == 2:
        assert "interrupted; the same command goes on" in said[0] and not (data / "metadata.json").exists()
        return
    steps = {int(re.search(r"stopped by SIGTERM at step (\d+) of ce", text)[1]) for text in said}
    (step,) = steps
    assert step < 40 and files.read_lines(ce / "ids-1.jsonl")[-1]["step"] == step
    assert (ce / "checkpoints" / str(step) / "_CHECKPOINT_METADATA").exists()
