"""Runs in buckets: one holder, sent while they train, read by commands, named as their users name them."""

import argparse
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import bucketed
import jax
import numpy as np
import pytest
import warm
from absl.testing import flagsaver
from bucketed import Bucket
from test_train import ROOT, command, data, environment, finished  # noqa: F401
from test_transfer import bucket, checkpoint, files_of, write  # noqa: F401

from mmvid import commands, lock, main, transfer, usage
from mmvid.data import frames
from mmvid.logs import LOG
from mmvid.run import mirror, naming, signals
from mmvid.weights import files as weight_files
from mmvid.weights import trees

URL = "gs://b/runs/a"


@pytest.fixture
def quick(bucket, monkeypatch):  # noqa: F811
    for name, seconds in (("BEAT", 0.05), ("STALE", 0.6), ("LOOK", 0.02)):
        monkeypatch.setattr(mirror, name, seconds)
    monkeypatch.setattr(lock, "LOOK", 0.02)
    monkeypatch.setattr(mirror, "_stop", lambda: None)
    return bucket / "b/runs/a"


def note(folder, **changes):
    known = {"host": "elsewhere", "pid": 1, "start": "2026-01-01", "token": "another"} | changes
    write(folder, holder_JSON=json.dumps(known))


def held(folder):
    return json.loads((folder / "holder.json").read_text())


def until(true, seconds=5):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---------------------------------------------------------------------------- who trains it
def test_a_run_says_who_trains_it_and_that_it_is_done(quick):
    with mirror.trained(URL):
        assert held(quick)["pid"] == os.getpid() and "free" not in held(quick)
        first = (quick / "holder.json").stat().st_mtime_ns
        until(lambda: (quick / "holder.json").stat().st_mtime_ns > first)
    assert held(quick)["free"]
    with mirror.trained(URL):
        pass


def test_two_machines_do_not_train_one_run(quick, capsys):
    """The other one's note is renewed while this one looks at it."""
    note(quick)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            note(quick)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(
            ValueError, match=f"{URL} is in use by process 1 on host elsewhere, since 2026-01-01. Wait"
        ):
            mirror.trained(URL).__enter__()
    finally:
        ended.set()
        thread.join()
    assert held(quick)["token"] == "another" and "looking for up to" in capsys.readouterr().err


@pytest.mark.parametrize("age, silent", [(0, True), (3600, False)])
def test_a_holder_that_is_silent_is_taken_over(quick, age, silent, capsys):
    note(quick)
    os.utime(quick / "holder.json", (time.time() - age, time.time() - age))
    begin = time.monotonic()
    with mirror.trained(URL):
        assert held(quick)["pid"] == os.getpid() and (time.monotonic() - begin > 0.4) == silent
    assert ("looking for up to" in capsys.readouterr().err) == silent
    assert not list(quick.glob("*.now"))


@pytest.mark.parametrize("token, waited", [("its own", False), ("another", True)])
def test_a_holder_of_this_machine_that_is_dead_is_not_waited_for(quick, monkeypatch, token, waited):
    """It worked in the copy that is here, which nobody else has; one of a machine of the same name did not."""
    with mirror.trained(URL):
        own = held(quick)["token"]
    note(quick, host=lock.myself()["host"], pid=1, token=own if token == "its own" else token)
    asked = []
    monkeypatch.setattr(mirror, "_await", lambda *given: asked.append(given))
    with mirror.trained(URL):
        pass
    assert bool(asked) == waited


def test_two_processes_of_a_machine_do_not_share_a_copy(quick):
    with mirror.trained(URL), pytest.raises(ValueError, match=f"{URL} is in use by process {os.getpid()}.*Wait"):
        mirror.trained(URL).__enter__()


def test_who_was_silent_too_long_sends_nothing_more_and_ends(quick, monkeypatch, capsys):
    ended = threading.Event()
    monkeypatch.setattr(mirror, "_stop", ended.set)
    match = r"in use by process 1 on host elsewhere.*nothing more is sent.*the same command here sets"
    with pytest.raises(ValueError, match=match), mirror.trained(URL) as folder:
        note(quick)
        write(folder, b="1")
        assert ended.wait(5)
    assert not (quick / "b").exists() and held(quick)["token"] == "another"
    assert capsys.readouterr().err.count("nothing more is sent there; this run ends") == 1


def test_who_has_the_note_again_after_another_has_trained_ends(quick, monkeypatch, capsys):
    """One that slept between its look at the note and its own writing of it."""
    ended = threading.Event()
    monkeypatch.setattr(mirror, "_stop", ended.set)
    with pytest.raises(ValueError, match="has trained gs://b/runs/a meanwhile"), mirror.trained(URL) as folder:
        transfer.tell(transfer.of(URL), transfer.SENDER, {"token": "another", "mark": "1"})
        write(folder, b="1")
        assert ended.wait(5)
    assert (
        not (quick / "b").exists()
        and "meanwhile: nothing more is sent there; this run ends" in capsys.readouterr().err
    )


def test_a_run_that_is_lost_is_ended_once(quick, monkeypatch, capsys):
    """Whoever renews its note sees it, and whoever sends: a second SIGTERM would leave the run unsaved."""
    stopped = []
    monkeypatch.setattr(mirror, "_stop", lambda: stopped.append(1))
    with pytest.raises(ValueError, match="nothing more is sent"), mirror.trained(URL) as folder:
        note(quick)
        write(folder, b="1")
        time.sleep(0.5)  # ten times each
    assert stopped == [1]


def test_a_command_that_made_nothing_names_no_folder(quick):
    write(quick, config_JSON="{}")
    with pytest.raises(KeyError), mirror.borrowed(URL):
        raise KeyError
    assert not list(transfer.of(URL).top.glob("not-sent-*"))


def test_a_file_that_takes_long_to_send_keeps_its_holder(quick, monkeypatch):
    def slow(act, path):
        if act == "put":
            time.sleep(1.0)  # longer than STALE

    monkeypatch.setattr(Bucket, "trouble", staticmethod(slow))
    with mirror.trained(URL) as folder:
        write(folder, b="1")
        time.sleep(0.8)
        assert transfer.told_of(transfer.of(URL), transfer.HOLDER)["pid"] == os.getpid()
        assert mirror._silent(transfer.of(URL)) < 0.4


def test_ctrl_c_that_leaves_files_here_is_no_good_end(quick, monkeypatch):
    with pytest.raises(ValueError, match=r"403 Forbidden.*kept on this machine"), mirror.trained(URL) as folder:
        write(folder, c="1")
        monkeypatch.setattr(Bucket, "trouble", deny("put"))
        raise signals.Stopped("everything is saved", "SIGINT")


# ---------------------------------------------------------------------------- training
def test_what_a_run_makes_is_there_while_it_runs_and_at_its_end(quick):
    with mirror.trained(URL) as folder:
        write(folder, b="1")
        until((quick / "b").exists)
        write(folder, c="1")
    assert (quick / "c").exists()


@pytest.mark.parametrize("error", [ValueError("diverged"), KeyboardInterrupt(), SystemExit(143)])
def test_what_a_run_has_made_is_sent_however_it_ends(quick, error, monkeypatch):
    monkeypatch.setattr(mirror, "BEAT", 60)
    with pytest.raises(type(error)), mirror.trained(URL) as folder:
        checkpoint(folder, 10)
        raise error
    assert (quick / "ce/checkpoints/10" / transfer.LAST).exists() and held(quick)["free"]


def deny(*acts):
    def trouble(act, path):
        if act in acts:
            raise PermissionError("403 Forbidden")

    return staticmethod(trouble)


def test_a_bucket_that_may_not_be_written_is_told_before_anything_runs(quick, monkeypatch):
    monkeypatch.setattr(Bucket, "trouble", deny("put", "pipe"))
    with pytest.raises(ValueError, match=r"a cannot be written \(PermissionError: 403 Forbidden\)"):
        mirror.trained(URL).__enter__()


def test_a_bucket_that_is_not_there_is_told(quick, monkeypatch):
    def missing(act, path):
        raise FileNotFoundError("404")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(missing))
    with pytest.raises(ValueError, match="there is no bucket gs://b, or none that this user sees"):
        mirror.trained(URL).__enter__()


def test_a_run_that_cannot_be_fetched_is_let_go(quick, monkeypatch):
    write(quick, a="1")
    monkeypatch.setattr(Bucket, "trouble", deny("get"))
    with pytest.raises(ValueError, match="a/a cannot be read"):
        mirror.trained(URL).__enter__()
    assert held(quick)["free"]


def test_a_bucket_that_fails_meanwhile_is_told_once_and_tried_again(quick, monkeypatch, caplog):
    LOG.propagate = True
    with caplog.at_level(logging.WARNING, "mmvid"), mirror.trained(URL) as folder:
        monkeypatch.setattr(Bucket, "trouble", deny("put"))
        write(folder, b="1")
        until(lambda: caplog.records)
        time.sleep(0.3)
        assert len(caplog.records) == 1 and "403 Forbidden" in caplog.text and "tried again every" in caplog.text
        monkeypatch.setattr(Bucket, "trouble", staticmethod(lambda *given: None))
        until((quick / "b").exists)


def test_what_could_not_be_sent_is_kept_and_sent_by_the_next_command(quick, monkeypatch):
    match = r"403 Forbidden.*kept on this machine, in the folder gs/b/runs/a of .*the same command here sends"
    with pytest.raises(ValueError, match=match), mirror.trained(URL) as folder:
        write(folder, b="1")
        monkeypatch.setattr(Bucket, "trouble", deny("put"))
        write(folder, c="1")
    assert (folder / "c").exists() and not (quick / "c").exists()
    monkeypatch.setattr(Bucket, "trouble", staticmethod(lambda *given: None))
    with mirror.trained(URL):
        pass
    assert (quick / "c").exists()


def test_the_error_that_ended_a_run_is_told_where_the_bucket_fails_too(quick, monkeypatch, capsys):
    with pytest.raises(KeyError), mirror.trained(URL) as folder:
        monkeypatch.setattr(Bucket, "trouble", deny("put", "pipe"))
        write(folder, c="1")
        raise KeyError
    assert "mmvid: gs://b/runs/a cannot be written" in capsys.readouterr().err


def test_files_set_aside_are_told(quick, capsys, monkeypatch):
    with mirror.trained(URL) as folder:
        write(folder, a="1")
    write(folder, b="1")
    transfer.tell(transfer.of(URL), transfer.SENDER, {"token": "another", "mark": "1"})
    with mirror.trained(URL):
        assert not (folder / "b").exists() and (folder / "a").exists()
    said = capsys.readouterr().err
    assert (
        "another machine has trained gs://b/runs/a since" in said
        and "is set aside, in the folder not-sent-" in said
    )


# ---------------------------------------------------------------------------- names
def test_copies_are_called_as_their_user_calls_them(quick, capsys):
    LOG.setLevel(logging.INFO)
    LOG.addHandler(handler := logging.StreamHandler(sys.stdout))
    folder = transfer.of(URL).here
    with naming.naming(["--workdir=gs://b/runs/a"]):
        handler.setStream(sys.stdout)
        print(f"report: {folder}/report.html")
        print(f"{folder}: no", file=sys.stderr)
        LOG.info("see %s", folder)
        assert sys.stdout.isatty() is False
    said = capsys.readouterr()
    assert said.out == f"report: {URL}/report.html\nsee {URL}\n" and said.err == f"{URL}: no\n"
    with naming.naming(["--workdir=runs/a"]):
        print(folder)
    assert capsys.readouterr().out == f"{folder}\n"


# ---------------------------------------------------------------------------- commands
def test_runs_are_given_to_commands_as_copies(quick, bucket):  # noqa: F811
    for name in ("a", "c"):
        write(bucket / "b/runs" / name, config_JSON="{}", ce__done_JSON="{}")
    here = transfer.of(URL).here
    given = argparse.Namespace(
        run=usage.a_run(URL),
        runs=[usage.a_run("gs://b/runs/c/"), usage.a_run("runs/d")],
        members=[usage.a_part(f"{URL}/ce:flow"), "+", usage.a_part(f"{URL}:all")],
    )
    with mirror.given(given):
        assert given.run == here and given.runs == [transfer.of("gs://b/runs/c").here, usage.a_run("runs/d")]
        assert given.members == [f"{here}/ce:flow", "+", f"{here}:all"] and (here / "config.json").exists()
        write(here, report="1")
    assert (bucket / "b/runs/a/report").read_text() == "1"


def test_a_run_that_may_only_be_read_is_read(quick, monkeypatch):
    write(quick, config_JSON="{}")
    monkeypatch.setattr(Bucket, "trouble", deny("put", "pipe", "rm"))
    with mirror.borrowed(URL) as folder:
        assert (folder / "config.json").exists()
    with pytest.raises(ValueError, match=r"403 Forbidden.*kept on this machine"), mirror.borrowed(URL) as folder:
        write(folder, report="1")


def test_what_a_command_could_not_put_back_is_set_aside(quick, monkeypatch):
    write(quick, config_JSON="{}")
    with (
        pytest.raises(ValueError, match=r"403 Forbidden.*in the folder not-sent-"),
        mirror.borrowed(URL) as folder,
    ):
        write(folder, report__html="1")
        monkeypatch.setattr(Bucket, "trouble", deny("put"))
    assert (next(transfer.of(URL).top.glob("not-sent-*")) / "report/html").exists()


def test_a_command_reads_what_is_there_of_a_run_that_is_trained_here(quick):
    """And does not wait for its end, nor takes anything from it."""
    with mirror.trained(URL) as folder:
        write(folder, config_JSON="{}", ce__done_JSON="{}")
        until((quick / "ce/done.json").exists)
        with mirror.borrowed(URL) as copy:
            assert files_of(copy) == {"config.json": "{}", "ce/done.json": "{}"}
            write(copy, report="1")
        write(folder, mml="2")
    assert (quick / "report").exists() and (quick / "mml").exists()
    with mirror.trained(URL) as folder:
        assert (folder / "report").exists()


def test_a_second_command_on_a_run_waits_for_the_first(quick, capsys):
    entered = threading.Event()

    def borrow():
        with mirror.borrowed(URL):
            entered.set()

    with mirror.borrowed(URL):
        thread = threading.Thread(target=borrow)
        thread.start()
        assert not entered.wait(0.3)
    thread.join()
    assert entered.is_set() and f"{URL} is in use by process {os.getpid()}" in capsys.readouterr().err


def test_what_is_no_run_is_told_by_its_users_name(quick, capsys):
    with pytest.raises(SystemExit) as end:
        commands.start("report", [URL])
    assert end.value.code == 2 and f"mmvid: {URL} is no run, there is no config.json" in capsys.readouterr().err


def test_several_processes_are_refused(monkeypatch, bucket):  # noqa: F811
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(usage.WrongUse, match="of these 2 processes all write checkpoints: mount the bucket"):
        main._placed(URL)


def test_a_bucket_as_a_whole_is_no_workdir(capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
        main._parse(["mmvid", "--config=a.py", "--workdir=gs://runs"])
    assert end.value.code == 2 and "gs://runs is a bucket: name a folder in it" in capsys.readouterr().err


# ---------------------------------------------------------------------------- whole runs
def env(tmp_path, machine, **further):
    return environment() | {
        "XDG_CACHE_HOME": str(tmp_path / machine), bucketed.PLACE: str(tmp_path / "buckets"), "EPATH_USE_TF": "0",
        **further,
    }  # fmt: skip


def train(data, tmp_path, machine, *flags, brief=True, **further):  # noqa: F811
    line = command(data, URL, *flags)[3:]
    return warm.run(line, env(tmp_path, machine, **further), brief=brief)


def same_weights(one, other):
    for path in sorted(one.glob("*/weights.safetensors")):
        a, b = (trees.flatten(weight_files.read(at)[0]) for at in (path, other / path.parent.name / path.name))
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture
def machines(tmp_path):
    (tmp_path / "buckets/b").mkdir(parents=True)
    return tmp_path


@pytest.mark.slow
def test_a_whole_run_in_a_bucket_is_one_on_a_disk(data, finished, machines, monkeypatch, capsys):  # noqa: F811
    done = train(data, machines, "one", brief=False)
    assert not done.returncode, done.stderr[-3000:]
    there = machines / "buckets/b/runs/a"
    same_weights(finished[0], there)
    # All but what is of this machine, or new at each start.
    left = {re.sub(r"tfevents\S+", "", p) for p in names_of(finished[0])} - {"run.lock"}
    found = {re.sub(r"tfevents\S+", "", p) for p in names_of(there)} - {"holder.json", "sender.json"}
    assert {re.sub("[0-9a-f]{32}", "", p) for p in left} == {re.sub("[0-9a-f]{32}", "", p) for p in found}
    assert f"report: {URL}/report.html" in done.stdout and str(machines / "one") not in done.stdout + done.stderr
    assert f"report: {URL}/report.html" in (there / "log.txt").read_text()
    # Nothing is left to do, on another machine, too.
    again = train(data, machines, "two")
    assert not again.returncode, again.stderr[-3000:]
    same_weights(finished[0], there)


@pytest.fixture
def ended(finished, machines, monkeypatch):  # noqa: F811
    """A run that has ended, in a bucket, which this process reads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machines / "cache"))
    monkeypatch.setenv(bucketed.PLACE, str(machines / "buckets"))
    bucketed.register(lambda name, own: monkeypatch.setitem(bucketed._registry, name, own))
    return pathlib.Path(shutil.copytree(finished[0], machines / "buckets/b/runs/a"))


@pytest.mark.slow
def test_commands_read_a_run_in_a_bucket_and_leave_there_what_they_write(ended, tmp_path, capsys):
    commands.start("evaluate", [URL, "--protocol=D1U2", "--splits=test", "--segments=mml"])
    assert f"mml: {URL}/mml/scores/test@D1U2-centre.npz" in capsys.readouterr().out
    assert (ended / "mml/scores/test@D1U2-centre.npz").exists()
    assert not list((tmp_path / "cache/mmvid/folders").rglob("checkpoints"))
    pictures = np.random.default_rng(0).integers(0, 255, (16, 48, 64, 3), dtype=np.uint8)
    (tmp_path / "a.mp4").write_bytes(frames.encode_mp4(pictures, 12.0))
    commands.start("predict", [URL, str(tmp_path / "a.mp4"), "--json=-", "--flow=dis"])
    assert json.loads(capsys.readouterr().out)["run"] == URL
    commands.start("ogr", [URL])
    assert f"page: {URL}/ogr.html" in capsys.readouterr().out and (ended / "ogr.html").exists()
    commands.start("report", [URL])
    assert f"report: {URL}/report.html" in capsys.readouterr().out
    commands.start("ensemble", [f"{URL}:all", f"--out={tmp_path}/sums"])
    commands.start("compare", [URL, f"--out={tmp_path}/compared"])
    assert URL in (tmp_path / "compared/compare.json").read_text()
    assert str(tmp_path / "cache") not in (tmp_path / "compared/compare.html").read_text()
    commands.start("share", [f"{URL}:flow", str(tmp_path / "shared")])
    commands.start("export", [URL, f"--out={tmp_path}/exported", "--format=torch"])
    assert (tmp_path / "shared/model.safetensors").exists() and list((tmp_path / "exported").iterdir())


def names_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("where", [
    r"ce/checkpoints/\d+/state/_METADATA", "mml/done.json",
])  # fmt: skip
def test_a_killed_run_goes_on_on_another_machine(data, finished, machines, where):  # noqa: F811
    killed = train(data, machines, "one", "--config.save_every=1", **{bucketed.KILL: where})
    assert killed.returncode == -9, killed.stderr[-3000:]
    there = machines / "buckets/b/runs/a"
    note_of = held(there)
    shutil.rmtree(machines / "one")
    # As on another machine, where nobody can tell that its process is dead; it has been silent for long.
    write(there, holder_JSON=json.dumps(note_of | {"host": "elsewhere"}))
    os.utime(there / "holder.json", (1, 1))
    done = train(data, machines, "two", "--config.save_every=1")
    assert not done.returncode, done.stderr[-3000:]
    same_weights(finished[0], there)


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_sends_all_and_says_so(data, finished, machines):  # noqa: F811
    line = [sys.executable, "-c", "import bucketed; bucketed.prepare(); from mmvid import main; main.start()",
            *command(data, URL, "--config.save_every=1")[3:]]  # fmt: skip
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    there = machines / "buckets/b/runs/a"
    with subprocess.Popen(line, cwd=ROOT, env=env(machines, "one"), **pipes) as process:
        until(lambda: list(there.glob("ce/checkpoints/*")), 100)
        process.terminate()
        said = process.communicate()[1]
    assert process.returncode == 143 and held(there)["free"], said[-3000:]
    assert f"everything is saved in {URL}. The same command goes on" in said
    here = next((machines / "one/mmvid/folders").glob("trained-*")) / "gs/b/runs/a"
    assert names_of(here / "ce") == names_of(there / "ce")
    done = train(data, machines, "two", "--config.save_every=1")
    assert not done.returncode, done.stderr[-3000:]
    same_weights(finished[0], there)


@pytest.mark.slow
def test_seeds_and_a_dry_run_in_a_bucket(data, machines):  # noqa: F811
    dry = train(data, machines, "one", "--dry")
    assert not dry.returncode and "nothing was written" in dry.stdout, dry.stderr[-3000:]
    assert not files_of(machines / "buckets")
    done = train(data, machines, "one", "--seeds=1", brief=False)
    assert not done.returncode, done.stderr[-3000:]
    there = machines / "buckets/b/runs/a"
    assert (there / "compare.html").exists() and (there / "seed1/mml/done.json").exists()
    reused = train(data, machines, "two", f"--config.reuse={URL}/seed1", "--config.seed=1")
    # The bucket's folder holds runs itself.
    assert reused.returncode == 2 and "runs of several seeds" in reused.stderr
    line = command(data, "gs://b/runs/c", f"--config.reuse={URL}/seed1", "--config.seed=1")[3:]
    reused = warm.run(line, env(machines, "two"), brief=True)
    assert not reused.returncode, reused.stderr[-3000:]
    same_weights(there / "seed1", machines / "buckets/b/runs/c")
    assert f'"reused": "{URL}/seed1/mml"' in (machines / "buckets/b/runs/c/mml/key.json").read_text()
