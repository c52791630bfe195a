"""Sweeps: grids, claims, runs that fail, are interrupted or belong to others, and the table of what there is."""

import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_commands import ask
from test_scores import made
from test_train import TINY, as_users_do
from test_train import data as data

from mmvid import commands, files, lock
from mmvid.report import sweep as report
from mmvid.scores import file
from mmvid.sweeps import claim, folder, grid, results, runner, stages
from mmvid.sweeps.folder import DONE, FAILED, UNDER_WAY, WAITING, Task
from mmvid.sweeps.grid import Cell, Grid
from mmvid.usage import WrongUse

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "configs/mml.py:smoke"


# ---------------------------------------------------------------------------- grids
TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="\"'"), min_size=1)


@given(st.lists(TEXTS.map(str.strip).filter(bool), min_size=1))
def test_values_in_quotes_are_what_stands_in_them(values):
    assert grid.values_of(",".join(f"'{value}'" for value in values)) == values
    quoted = ['"' + value + '"' for value in values]
    assert grid.values_of(f"[{', '.join(quoted)}]") == values


@pytest.mark.parametrize("text, values", [
    ("0.5,0.7", ["0.5", "0.7"]), ("a", ["a"]), ("('val',),('val', 'test')", ["('val',)", "('val', 'test')"]),
    ("[1,2]", ["1", "2"]), ("[1],[2]", ["[1]", "[2]"]), ("'1,2',3", ["1,2", "3"]), ("'',x", ["", "x"]),
    ("{'a': 1, 'b': 2},{}", ["{'a': 1, 'b': 2}", "{}"]), (" a , b ", ["a", "b"]),
])  # fmt: skip
def test_commas_within_brackets_and_quotes_divide_nothing(text, values):
    assert grid.values_of(text) == values


@pytest.mark.parametrize("text", ["", "a,,b", "a,", "'a", "(1,2", "[a"])
def test_values_that_cannot_be_meant_are_refused(text):
    with pytest.raises(WrongUse, match="quotes around a value with commas"):
        grid.asked([f"x={text}"], CONFIG, {}, None)


KEYS = st.dictionaries(
    st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3}){0,2}", fullmatch=True),
    st.lists(st.integers(0, 99).map(str), min_size=1, max_size=3, unique=True), min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=30)
@given(KEYS)
def test_several_keys_make_every_combination_once(keys):
    (found,) = grid.asked([f"config.{key}={','.join(values)}" for key, values in keys.items()], CONFIG, {}, None)
    assert [tuple(cell.values.values()) for cell in found.cells] == list(itertools.product(*keys.values()))
    assert all(list(cell.values) == list(keys) and cell.overrides == cell.values for cell in found.cells)
    # Titles and folders tell cells apart, and a title says all that a cell has of its own.
    for known in ({cell.title for cell in found.cells}, {cell.name for cell in found.cells}):
        assert len(known) == len(found.cells)
    short = grid.titles_of(list(keys))
    assert len(set(short.values())) == len(keys) and all(key.endswith(end) for key, end in short.items())
    for cell in found.cells:
        told = dict(part.split("=") for part in cell.title.split(", "))
        assert told == {short[key]: value for key, value in cell.values.items()}
        assert re.fullmatch(r"[\w.=+-]+", cell.name)


FILE = """
[tau]
title = "The threshold"
config = "configs/mml.py:smoke"
seeds = [0, 1]
over = "lr=0.03"
fixed = { "steps.mml" = "9" }
product = { "schedule.lr" = [0.01, 0.03] }
published = { "0.03" = 12.9 }

[rows]
config = "configs/mml.py"
[[rows.cells]]
title = "as it is"
[[rows.cells]]
title = "other splits"
published = 7.1
"evaluation.splits" = ["val", "test"]
"config.loader.order" = true
[[rows.cells]]
config = "configs/dmcl.py"
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "grids.toml"
    path.write_text(FILE)
    return path


def test_a_file_names_grids(toml):
    tau, rows = grid.asked([f"{toml}#tau", f"{toml}#rows"], "", {"batch_size": "8"}, None)
    assert (tau.title, tau.seeds, tau.over) == ("The threshold", (0, 1), "lr=0.03")
    assert [cell.published for cell in tau.cells] == [None, 12.9]
    assert tau.cells[0].overrides == {"steps.mml": "9", "schedule.lr": "0.01", "batch_size": "8"}
    assert [cell.title for cell in rows.cells] == ["as it is", "other splits", "config=configs/dmcl.py"]
    assert [cell.config for cell in rows.cells] == ["configs/mml.py"] * 2 + ["configs/dmcl.py"]
    assert rows.cells[1].values == {"evaluation.splits": "('val', 'test')", "loader.order": "true"}
    assert rows.cells[1].published == 7.1 and rows.seeds == (0,)
    # Keys beside a file: each of its cells with each of their values; --config and --seeds go before the file's.
    (both,) = grid.asked([f"{toml}#tau", "batch_size=4,8"], "mine.py", {}, "3")
    assert [cell.title for cell in both.cells][:2] == ["lr=0.01, batch_size=4", "lr=0.01, batch_size=8"]
    assert len(both.cells) == 4 and {cell.config for cell in both.cells} == {"mine.py"}
    assert both.over == "lr=0.03, batch_size=4"
    assert both.seeds == (3,)


def test_a_grid_can_be_of_seeds_alone():
    (found,) = grid.asked(["seed=3,4"], CONFIG, {}, None)
    assert found.seeds == (3, 4) and [cell.title for cell in found.cells] == ["as configured"]
    assert found.cells[0].arguments(4) == [f"--config={CONFIG}", "--config.seed=4"]


@pytest.mark.parametrize("texts, config, said", [
    (["x=1,2"], "", "--config=FILE must be given"), ([], CONFIG, "--grid KEY=A,B,C or --grid FILE#NAME"),
    (["x=1,2", "config.x=3"], CONFIG, "x is given twice"), (["x=1,1"], CONFIG, "'x=1' is given twice"),
    (["FILE"], "", "name one of its grids\n.*FILE#tau  The threshold\n"), (["FILE#no"], "", "name one of its"),
    (["gone.toml"], CONFIG, "cannot be read"), (["x"], CONFIG, "cannot be read"), (["seed=a"], CONFIG, "whole"),
    (["=1,2"], CONFIG, "before '=' is empty"), (["--config.=1,2"], CONFIG, "before '=' is empty"),
])  # fmt: skip
def test_grids_that_cannot_be_meant_are_refused(texts, config, said, toml):
    with pytest.raises(WrongUse, match=said.replace("FILE#tau", "#tau")):
        grid.asked([text.replace("FILE", str(toml)) if text.startswith("FILE") else text for text in texts],
                   config, {}, None)  # fmt: skip


@pytest.mark.parametrize("text, said", [
    ("[a]\nproduct = { x = [1] }", "names no config"), ("[a]\nconfig = 'c.py'", "has no cells"),
    ("[a]\nconfig = 'c.py'\nproducts = {}", "no entry 'products'"), ("a = 1", "'a' stands in no table"),
    ("[a", "no TOML"),
    ("[a]\nconfig = 'c.py'\nproduct = { x = [1] }\npublished = { '2' = 1.0 }", "published has '2'"),
    ("[a]\nconfig = 'c.py'\nproduct = { x = [1] }\nover = 'x=2'", "over='x=2' names no cell; the cells are x=1"),
    ("[a]\nconfig = 'c.py'\nproduct = { x = 1 }", "not iterable"),
    ("[a]\nconfig = 'c.py'\nseeds = [1, 1]\nproduct = { x = [1] }", "one is given twice"),
])  # fmt: skip
def test_files_of_grids_that_cannot_be_meant_are_refused(text, said, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(WrongUse, match=said):
        grid.asked([str(path)], "", {}, None)


def test_an_override_for_all_must_be_no_value_of_the_grid():
    with pytest.raises(WrongUse, match=r"--config\.x is one of the values"):
        grid.asked(["x=1,2"], CONFIG, {"x": "3"}, None)
    with pytest.raises(WrongUse, match="--seeds=0,1,2"):
        grid.asked(["x=1,2"], CONFIG, {"seed": "3"}, None)


# ---------------------------------------------------------------------------- claims
CLAIMANT = """
import pathlib, sys
from mmvid.sweeps import claim
sys.stdin.readline()
for name in map(str, range(40)):
    if own := claim.take(pathlib.Path(sys.argv[1]), name):
        print(name)
        if int(name) % 2:
            claim.release(own, "done")
print("end", flush=True)
sys.stdin.readline()
"""


def test_of_several_programs_each_task_has_one(tmp_path):
    """What is under way nobody else gets; what is released may be taken once more."""
    options = dict(cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    several = [subprocess.Popen([sys.executable, "-c", CLAIMANT, str(tmp_path)], **options) for _ in range(3)]
    for one in several:
        one.stdin.write("go\n")
        one.stdin.flush()
    # None may end before all have asked: the claims of the dead are free.
    won = [name.strip() for one in several for name in iter(one.stdout.readline, "end\n")]
    assert all(claim.live(tmp_path, str(i)) == (i % 2 == 0) for i in range(40))
    for one in several:
        one.communicate("\n")
    assert sorted(int(name) for name in won if not int(name) % 2) == list(range(0, 40, 2))
    assert set(map(int, won)) == set(range(40))
    assert not any(claim.live(tmp_path, str(i)) for i in range(40)), "the dead hold nothing"


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def planted(path, age=0.0, **entry):
    """A claim that somebody else has left, ``age`` seconds ago."""
    (path / "x").mkdir(exist_ok=True)
    claimed = path / "x" / "0.json"
    files.write_json(claimed, {"host": "elsewhere", "pid": 1, "since": "then"} | entry)
    when = lock.file_time(claimed) - age
    os.utime(claimed, (when, when))
    return claimed


def test_a_stale_claim_expires(tmp_path, ended):
    planted(tmp_path, age=50)
    assert claim.live(tmp_path, "x", stale=60) and claim.take(tmp_path, "x", stale=60) is None
    assert not claim.live(tmp_path, "x", stale=40)
    # On this host a process that has ended tells so itself.
    planted(tmp_path, host=claim._here(), pid=ended)
    own = claim.take(tmp_path, "x", stale=60)
    assert own.path.name == "1.json" and claim.newest(tmp_path, "x")["pid"] == os.getpid()
    assert claim.take(tmp_path, "x", stale=60) is None
    claim.release(own, "interrupted", code=-9)
    assert claim.newest(tmp_path, "x") | {"since": ""} == {
        "host": claim._here(), "pid": os.getpid(), "since": "", "outcome": "interrupted", "code": -9,
    }  # fmt: skip
    assert claim.take(tmp_path, "x").path.name == "2.json"


def test_a_claim_that_is_being_written_lives(tmp_path):
    planted(tmp_path).write_text("")
    assert claim.live(tmp_path, "x") and claim.take(tmp_path, "x") is None and claim.newest(tmp_path, "x") == {}


def test_a_held_claim_stays_young_and_notices_its_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.01)
    own = claim.take(tmp_path, "x")
    os.utime(own.path, (0, 0))
    deadline = threading.Event()
    while own.path.stat().st_mtime == 0 and not deadline.wait(0.01):
        pass
    assert claim.live(tmp_path, "x", stale=60) and not claim.lost(own)
    files.write_json(tmp_path / "x" / "1.json", {"host": "elsewhere", "pid": 1})
    assert claim.lost(own)
    claim.release(own, "done")
    # Of the two the newer one counts.
    assert claim.live(tmp_path, "x", stale=60)


# ---------------------------------------------------------------------------- runs that are made up
@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(runner, "LOOK", 0.005)


def cells(count=3, key="lr"):
    values = [str(0.01 * 3**i) for i in range(count)]
    return tuple(Cell(f"{key}={v}", CONFIG, {f"schedule.{key}": v}, {f"schedule.{key}": v}) for v in values)


def swept(path, own=None, seeds=(0, 1)):
    """A sweep's folder and its runs."""
    asked = Grid("rates", own or cells(), seeds)
    folder.remember(path, [asked])
    return folder.tasks(path, folder.grids(path))


def blank(tasks, keys=lambda task: {}):
    """What a program knows of stages, where it need not read configurations."""
    return {task.name: stages.Stages(keys(task), (), (), {}) for task in tasks}


def leave(task, quality=1.0, clips=30, stages=("ce",), segment="mml", **meta):
    """What a run leaves that has ended."""
    rng = np.random.default_rng(task.seed)
    label = np.random.default_rng(0).integers(0, 4, clips)
    logits = {"rgb": rng.normal(size=(clips, 1, 4)) + quality * np.eye(4)[label][:, None]}
    note = dict(split="test", step=9, protocol="D1U1", crops="centre", views=1, dataset="fake", fingerprint="abc",
                classes={"action": list("abcd")})  # fmt: skip
    file.save(task.workdir / segment / "scores" / "test.npz", made(logits, label, **note | meta))
    config = dict(seed=task.seed, headline="rgb", evaluation={"aggregate": "logits"})
    files.write_json(task.workdir / "config.json", config)
    for name in (*stages, segment):
        (task.workdir / name).mkdir(exist_ok=True)
        files.write_json(task.workdir / name / "done.json", {"steps": 9})
        files.write_json(task.workdir / name / "cost.json", {"seconds": 30.0})
    files.write_json(task.workdir / "summary.json", {name: {"test": {}} for name in (*stages, segment)})


class Fake:
    """A process that is asked ``polls`` times before it has ended."""

    def __init__(self, task, code=0, polls=1, then=leave):
        self.task, self.code, self.polls, self.then = task, code, polls, then
        self.returncode, self.signals = None, 0

    def poll(self):
        self.polls -= 1
        if self.polls < 0 and self.returncode is None:
            if self.code == 0 and not self.signals:
                self.then(self.task)
            self.returncode = self.code
        return self.returncode

    def terminate(self):
        """As training does after a signal: it saves and says 143."""
        self.signals += 1
        self.polls, self.code = 0, 143


def worked(tasks, start=None, stop=None, keys=lambda task: {}, **options):
    """Works through the runs; returns the names of those that were begun, and what was said."""
    begun, said = [], []

    def begin(task, arguments, environ):
        begun.append(task.name)
        return (start or Fake)(task)

    pool = runner.Pool(tasks, start=begin, tell=said.append, known=blank(tasks, keys), **options)
    pool.work({} if stop is None else stop)
    return begun, said


def states(tasks):
    return [folder.state(task) for task in tasks]


def test_every_run_is_done_once_and_the_next_call_finds_nothing_to_do(tmp_path):
    tasks = swept(tmp_path)
    drawn = []
    begun, said = worked(tasks, after=lambda: drawn.append(len(results.write(tmp_path)[0].cells[0].found)))
    # A seed of every cell comes before another seed of any.
    assert begun == [task.name for task in tasks] and [task.seed for task in tasks] == [0, 0, 0, 1, 1, 1]
    assert states(tasks) == [DONE] * 6 and drawn == [1, 1, 1, 2, 2, 2]
    assert said[-1].startswith("[6/6] lr=") and said[-1].endswith(", seed 1: done")
    assert worked(tasks) == ([], [])
    page = (tmp_path / "sweep.html").read_text()
    assert "This goes on; a --grid of other cells" in page and f"--workdir={tmp_path}</code>" in page


def test_a_failed_run_stops_no_other_and_is_told_with_the_end_of_its_log(tmp_path):
    tasks = swept(tmp_path)

    def start(task):
        if task is not tasks[1]:
            return Fake(task)
        task.log.write_text("".join(f"line {i}\n" for i in range(50)) + "10 %\r20 %\nmmvid: no room\n\n")
        return Fake(task, code=1)

    begun, said = worked(tasks, start)
    assert len(begun) == 6 and states(tasks) == [DONE, FAILED, *[DONE] * 4]
    told = "\n".join(said)
    assert f"{tasks[1].title}: failed (exit code 1)" in told
    assert "    line 49\n    20 %\n    mmvid: no room" in told and "line 39" not in told
    (table,) = results.write(tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert f"{tasks[1].title} failed" in page and "mmvid: no room" in page
    assert "1 of 2" in report.text(table) and "failed: seed 0" in page
    # Nobody runs it again unasked.
    assert worked(tasks)[0] == []
    assert worked(tasks, retry=True)[0] == [tasks[1].name] and states(tasks) == [DONE] * 6


@pytest.mark.parametrize("code", [0, -signal.SIGTERM, -signal.SIGKILL, 130, 143])
def test_an_interrupted_run_has_not_failed_and_is_run_again(code, tmp_path):
    """Training says 143 after SIGTERM, 0 after Ctrl-C."""
    tasks, often = swept(tmp_path, seeds=(0,)), []

    def start(task):
        often.append(task)
        return Fake(task, code, then=lambda task: None) if len(often) == 1 else Fake(task)

    begun, said = worked(tasks, start)
    assert begun == [tasks[0].name, *(task.name for task in tasks)] and states(tasks) == [DONE] * 3
    assert any(f"{tasks[0].title}: interrupted (exit code {code})" in line for line in said)


@pytest.mark.parametrize("code", [1, 2, -signal.SIGSEGV, -signal.SIGABRT])
def test_what_ends_by_itself_has_failed(code, tmp_path):
    (task,) = swept(tmp_path, cells(1), seeds=(0,))
    assert runner.outcome(task, code) == FAILED


def test_what_is_ended_again_and_again_waits_for_another_call(tmp_path):
    tasks = swept(tmp_path, cells(1), seeds=(0,))
    begun, said = worked(tasks, lambda task: Fake(task, -9))
    assert len(begun) == runner.TRIES and "out of memory?" in said[-1] and states(tasks) == [WAITING]
    assert len(worked(tasks)[0]) == 1


def test_after_a_signal_runs_save_and_the_next_call_goes_on(tmp_path):
    tasks, stop, several = swept(tmp_path), {}, []

    def start(task):
        several.append(Fake(task, polls=3 if len(several) < 2 else 10**9))
        if len(several) == 4:
            stop["signal"] = "SIGTERM"
        return several[-1]

    begun, _ = worked(tasks, start, stop, jobs=2)
    assert [one.signals for one in several] == [0, 0, 1, 1] and len(begun) == 4
    assert states(tasks) == [DONE, DONE, *[WAITING] * 4]
    assert worked(tasks)[0] == [task.name for task in tasks[2:]]


def test_two_sweepers_never_run_one_run_twice(tmp_path):
    tasks, begun, peak, now = swept(tmp_path, cells(6), seeds=(0, 1)), [], [], []

    def begin(task, arguments, environ):
        begun.append(task.name)
        now.append(task.name)
        peak.append(len(now))
        return Fake(task, polls=4, then=lambda task: (now.remove(task.name), leave(task)))

    def work():
        runner.work(tasks, jobs=2, start=begin, tell=lambda line: None, known=blank(tasks))

    several = [threading.Thread(target=work) for _ in range(3)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert sorted(begun) == sorted(task.name for task in tasks) and max(peak) > 2
    assert states(tasks) == [DONE] * 12


def test_runs_that_others_are_at_are_left_to_them(tmp_path):
    tasks = swept(tmp_path, seeds=(0,))
    own = claim.take(tasks[0].claims, tasks[0].name)
    assert worked(tasks)[0] == [task.name for task in tasks[1:]]
    assert states(tasks) == [UNDER_WAY, DONE, DONE]
    claim.release(own, "interrupted")
    # A process without a claim, whose sweeper was killed: it is waited for.
    tasks[0].workdir.mkdir(parents=True)
    with lock.held(tasks[0].workdir / "run.lock", "the workdir"):
        threading.Timer(0.1, leave, [tasks[0]]).start()
        begun, said = worked(tasks)
    assert begun == [] and states(tasks) == [DONE] * 3 and "waiting for runs" in said[0]


def test_a_workdir_is_not_locked_that_another_program_has_just_claimed(tmp_path, monkeypatch):
    """Its process may be starting, and would find the workdir in use."""
    first, second = swept(tmp_path, cells(2), seeds=(0,))
    taken, asked, real = [], [], folder.is_busy

    def under_way(task, *rest):
        # Between this program's look at all claims and its own claim.
        if task.name == first.name and not taken:
            taken.append(claim.take(task.claims, task.name))
        return False

    monkeypatch.setattr(stages, "under_way", under_way)
    monkeypatch.setattr(folder, "is_busy", lambda task: asked.append(task.name) or real(task))
    assert worked([first, second])[0] == [second.name] == asked
    claim.release(taken[0], "interrupted")


def test_gpus_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [runner._own_devices(i, 2) for i in (0, 1)] == [{"CUDA_VISIBLE_DEVICES": own} for own in ("4,5", "6,7")]
    assert runner._own_devices(0, 1) == runner._own_devices(0, 5) == {}


# ---------------------------------------------------------------------------- shared stages
def test_a_shared_stage_is_waited_for_and_taken(tmp_path, monkeypatch):
    """Of three runs with one beginning, the first trains it alone; then the others may."""
    tasks, arguments, order = swept(tmp_path, seeds=(0,)), {}, []

    def all_ended(path):
        return {"shared": [path / "ce"]} if (path / "ce" / "done.json").exists() else {}

    monkeypatch.setattr(stages.reuse, "all_ended", all_ended)
    one = {task.name: {"ce": "shared", "mml": task.name} for task in tasks}

    def begin(task, line, environ):
        arguments[task.name] = line
        order.append(task.name)
        return Half(task)

    class Half(Fake):
        """It trains its first stage, then it waits until another run has begun."""

        looks = 0

        def poll(self):
            self.looks += 1
            if self.task is tasks[0] and self.looks < 4:
                assert len(order) == 1
            if self.looks == 4:
                files.write_json(self.task.workdir / "config.json", {})
                (self.task.workdir / "ce").mkdir()
                files.write_json(self.task.workdir / "ce" / "done.json", {})
            self.polls = 0 if self.looks > 4 and len(order) > 1 else 9
            return super().poll()

    known = blank(tasks, lambda task: one[task.name])
    for task in tasks:
        task.workdir.mkdir(parents=True)
    runner.Pool(tasks, jobs=3, start=begin, tell=lambda line: None, known=known).work({})
    first = tasks[0].workdir
    assert order == [task.name for task in tasks] and states(tasks) == [DONE] * 3
    assert not any("reuse" in word for word in arguments[tasks[0].name])
    assert all(arguments[task.name][-1] == f"--config.reuse={first}" for task in tasks[1:])


def test_what_a_user_names_to_reuse_comes_first(tmp_path):
    task = Task(tmp_path, Cell("x", CONFIG, {"reuse": "runs/old"}, {}), 0)
    assert runner.command(task, [tmp_path / "a"])[-1] == f"--config.reuse=runs/old,{tmp_path / 'a'}"
    assert "--config.reuse=runs/old" in runner.command(task)
    assert runner.command(task)[-1] == f"--workdir={task.workdir}"


# ---------------------------------------------------------------------------- the folder
def test_another_grid_adds_its_cells_and_the_same_one_its_seeds(tmp_path):
    swept(tmp_path)
    assert len(swept(tmp_path, seeds=(0, 2))) == 9
    (found,) = folder.grids(tmp_path)
    assert found == Grid("rates", cells(), (0, 1, 2))
    folder.remember(tmp_path, [Grid("more", (*cells(1), *cells(1, "warmup")), (0,))])
    tasks = folder.tasks(tmp_path, folder.grids(tmp_path))
    assert len(tasks) == 10, "a cell of two grids has one run a seed"
    assert [own.title for own in folder.grids(tmp_path)] == ["rates", "more"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WrongUse, match="is a run itself"):
        folder.remember(tmp_path, [])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sweep.json").write_text('{"grids": [{"name": 1}]}')
    with pytest.raises(ValueError, match="damaged"):
        folder.grids(tmp_path / "a")


# ---------------------------------------------------------------------------- the table
def test_differences_are_paired_over_the_seeds_that_both_have(tmp_path):
    tasks = swept(tmp_path, seeds=(0, 1, 2))
    for task in tasks:
        place = [cell.title for cell in cells()].index(task.cell.title)
        if (place, task.seed) not in ((1, 0), (2, 1), (2, 2)):
            leave(task, quality=0.3 + 0.6 * place)
    (table,) = results.write(tmp_path)
    base, one, two = table.cells
    assert [own.entry.row.seeds for own in table.cells] == [(0, 1, 2), (1, 2), (0,)]
    assert (one.common, two.common) == ((1, 2), (0,)) and base.over == ()
    assert one.over[0] == pytest.approx(np.mean(one.found) - np.mean(base.found[1:]))
    assert two.over[0] == pytest.approx(two.found[0] - base.found[0])
    assert one.over[1] < one.over[0] < one.over[2]
    text = report.text(table)
    assert re.search(rf"{one.entry.title} +2 of 3 +[\d.]+ ± [\d.]+ +\+[\d.]+ \[", text)
    assert "test: 30 of 30 clips, 1 view" in text and "Δ: the difference to lr=0.01" in text
    assert report.verdict(table).startswith(f"{two.entry.title} has the highest number on test, ")
    found = files.read_json(tmp_path / "table.json")
    assert found[0]["cells"][1]["over"] == pytest.approx(one.over) and found[0]["base"] == "lr=0.01"
    assert "1m" in text or "60 s" in text or "1 min" in text, "both stages took half a minute"


def test_cells_of_other_clips_have_means_and_no_difference(tmp_path):
    tasks = swept(tmp_path, seeds=(0,))
    for task, clips in zip(tasks, (30, 30, 20)):
        leave(task, clips=clips)
    (table,) = results.write(tmp_path)
    assert [bool(own.over) for own in table.cells] == [False, True, False]
    assert all(own.found for own in table.cells)


def test_before_anything_has_ended_there_is_a_page(tmp_path):
    swept(tmp_path)
    (table,) = results.write(tmp_path)
    assert "no run has ended yet" in (tmp_path / "sweep.html").read_text() and report.pictures(table) == []


def entry(title, values, mean=0.5):
    """A cell that was measured."""
    own = report.Entry(title, values, types.SimpleNamespace(seeds=(0, 1), runs=("a", "b")), "rgb", 2)
    return report.Measured(own, (mean - 0.01, mean + 0.01), (mean - 0.03, mean + 0.03), (), (), "top1")


@pytest.mark.parametrize("values, kind", [
    ([{"a": "0.1"}, {"a": "1"}, {"a": "10"}], "_line"), ([{"a": "0.1"}, {"a": "1"}], "_points"),
    ([{}, {"a": "1"}, {"a": "2"}, {"a": "3"}], "_line"), ([{"a": "x"}, {"a": "y"}, {"a": "z"}], "_points"),
    ([{"a": x, "b": y} for x in "12" for y in "123"], "_map"),
    ([{}, *({"a": x, "b": y} for x in "12" for y in "12")], "_map"),
    ([{"a": "1", "b": "1"}, {"a": "2", "b": "2"}], "_points"),
])  # fmt: skip
def test_the_picture_is_what_the_cells_differ_in(values, kind, monkeypatch):
    drawn = []
    for name in ("_line", "_map", "_points"):
        whole = getattr(report, name)
        monkeypatch.setattr(report, name, lambda *args, n=name, f=whole: drawn.append(n) or f(*args))
    made_up = [entry(f"cell {i}", own, 0.4 + 0.02 * i) for i, own in enumerate(values)]
    pictures = report.pictures(report.Table("t", "", "test", "", 0, tuple(made_up)))
    assert drawn == [kind] and all(picture.startswith("<svg") for picture in pictures)


# ---------------------------------------------------------------------------- the command
@pytest.fixture
def planned(monkeypatch):
    """The command without JAX's platform and without plans: configurations are read, nothing is built."""
    monkeypatch.setattr("mmvid.commands.sweep.jax.config.update", lambda *args: None)
    monkeypatch.setattr(stages, "outlined", lambda task, config=None: None)


def test_a_misspelt_entry_of_any_cell_is_told_before_anything_runs(tmp_path, planned, monkeypatch, capsys):
    monkeypatch.setattr(runner, "launch", None)
    line = ["sweep", f"--config={CONFIG}", f"--workdir={tmp_path / 's'}", "--grid"]
    assert ask(monkeypatch, *line, "schedule.lr=0.1,0.2", "schedul.warmup=1") == 2
    said = capsys.readouterr().err
    assert "cell 'lr=0.1, warmup=1'" in said and "did you mean --config.schedule" in said
    assert ask(monkeypatch, *line, "schedule.lr=0.1,fast") == 2
    assert "cell 'lr=fast'" in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_a_dry_sweep_lists_runs_and_writes_nothing(tmp_path, planned, monkeypatch, capsys):
    line = ["sweep", f"--config={CONFIG}", "--grid", "schedule.lr=0.1,0.2", "--seeds=0,1", "--dry"]
    assert ask(monkeypatch, *line, f"--workdir={tmp_path / 's'}", "--config.batch_size=4") == 0
    said = capsys.readouterr().out
    assert said.count("waiting") == 4 and "4 runs" in said and not (tmp_path / "s").exists()


def test_the_command_sweeps_fails_and_goes_on(tmp_path, planned, monkeypatch, capsys):
    code = {"lr=0.2": 1}
    monkeypatch.setattr(runner, "launch", lambda task, *rest: Fake(task, code.get(task.cell.title, 0)))
    line = ["sweep", f"--workdir={tmp_path / 's'}"]
    assert ask(monkeypatch, *line, f"--config={CONFIG}", "--grid", "schedule.lr=0.1,0.2") == 1
    told = capsys.readouterr()
    assert "1 of 2 runs failed: lr=0.2, seed 0" in told.err and "--retry" in told.err
    assert re.search(r"lr=0.1 +1 ", told.out) and "sweep.html" in told.out
    code.clear()
    assert ask(monkeypatch, *line, "--retry") == 0 and ask(monkeypatch, *line) == 0
    assert [own.title for own in folder.grids(tmp_path / "s")] == ["lr"]
    assert ask(monkeypatch, *line, "--config.seed=1") == 2 and ask(monkeypatch, *line, "--jobs=0") == 2


def test_runs_that_something_ends_from_outside_are_told_with_an_error(tmp_path, planned, monkeypatch, capsys):
    code = {"lr=0.2": -signal.SIGKILL}
    monkeypatch.setattr(runner, "launch", lambda task, *rest: Fake(task, code.get(task.cell.title, 0)))
    line = ["sweep", f"--workdir={tmp_path / 's'}"]
    assert ask(monkeypatch, *line, f"--config={CONFIG}", "--grid", "schedule.lr=0.1,0.2,0.3") == 1
    told = capsys.readouterr().err
    assert "1 of 3 runs are not done: lr=0.2, seed 0." in told and "the same command goes on" in told
    code["lr=0.2"] = 0
    assert ask(monkeypatch, *line) == 0


def test_a_cell_of_a_segment_that_its_run_lacks_is_refused(tmp_path, planned, monkeypatch, capsys):
    """At once: it would be found out when everything has been trained."""
    toml = tmp_path / "a.toml"
    toml.write_text(f'[t]\ntitle = "t"\nconfig = "{CONFIG}"\n[[t.cells]]\ntitle = "own"\n[[t.cells]]\n'
                    'title = "other"\nsegment = "nowhere"\n')  # fmt: skip
    monkeypatch.setattr(stages, "of", lambda task, known: stages.Stages({}, (), (), {"ce": 4, "mml": 4}))
    assert ask(monkeypatch, "sweep", f"--workdir={tmp_path / 's'}", "--grid", f"{toml}#t", "--dry") == 2
    assert "cell 'other' is the segment 'nowhere' of its run, which has ce, mml" in capsys.readouterr().err


def test_a_workdir_without_a_sweep_is_refused(tmp_path, planned, monkeypatch, capsys):
    assert ask(monkeypatch, "sweep", f"--workdir={tmp_path}") == 2 == ask(monkeypatch, "sweep")
    assert "holds none" in capsys.readouterr().err


@pytest.mark.parametrize("argv, name", [
    (["--grid", "configs/a.toml#T4", "x=1"], "runs/a-T4"), (["--workdir=here"], "here"),
    (["--config=configs/mml.py:smoke"], "runs/mml-smoke-sweep"),
])  # fmt: skip
def test_a_sweep_has_a_folder_of_its_own(argv, name):
    command = commands.of_name("sweep")
    assert command._workdir(commands.parsed("sweep", command, argv)) == pathlib.Path(name)


GRIDS = sorted((ROOT / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_grid_beside_a_configuration_can_be_read(path, monkeypatch):
    """Every cell names entries that its configuration has, with values that they take."""
    monkeypatch.chdir(ROOT)
    for name, table in grid.tables(path).items():
        (found,) = grid.asked([f"{path}#{name}"], "", {}, None)
        assert table.get("title") and found.cells
        for cell in found.cells:
            stages.configured(Task(pathlib.Path("x"), cell, 0))


# ---------------------------------------------------------------------------- a real one
@pytest.mark.slow
def test_two_cells_with_a_stage_in_common(data, tmp_path):
    """As a user starts it: the second run takes what the first one has trained, and the table has both."""
    mml = f"{ROOT}/configs/mml.py:smoke"
    line = [sys.executable, "-m", "mmvid", "sweep", f"--config={mml}", f"--workdir={tmp_path}",
            f"--config.dataset.path={data}/clips", f"--config.stills.path={data}/stills", *TINY,
            "--config.networks.rgb.options.stages=(1,)", "--config.networks.flow.options.stages=(1,)",
            "--grid", "method.mml.average=prob,logit"]  # fmt: skip
    listed = as_users_do([*line, "--dry"]).stdout
    assert "(ce)" in listed.splitlines()[3] and "(mml)" not in listed
    done = as_users_do(line).stdout
    assert "with stages of 1 other run" in done
    first, second = (task.workdir for task in folder.tasks(tmp_path, folder.grids(tmp_path)))
    assert files.read_json(second / "ce" / "key.json")["reused"] == str(first / "ce")
    assert "reused" not in files.read_json(second / "mml" / "key.json")
    assert re.search(r"average=prob +1 ", done) and re.search(r"average=logit +1 .*\[", done)
    assert (tmp_path / "sweep.html").read_text().count("<svg") == 2
    before = (first / "mml" / "weights.safetensors").stat().st_mtime_ns
    again = as_users_do([*line[:4], f"--workdir={tmp_path}"]).stdout
    assert (first / "mml" / "weights.safetensors").stat().st_mtime_ns == before and "begun" not in again
