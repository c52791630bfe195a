"""Whole runs as a user starts them: from files to a report, killed, restarted, over processes."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import warm

from mmvid import commands, files, lock
from mmvid.scores import file as file_lib
from mmvid.weights import files as files_lib
from mmvid.weights import trees

ROOT = pathlib.Path(__file__).parents[1]
TINY = [
    "--config.stills.steps=3", "--config.steps.ce=6", "--config.steps.method=6",
    "--config.schedule.warmup=0", "--config.stills.schedule.warmup=0", "--config.log_every=2",
    "--config.model_options.width=8",
    "--config.stills.batch_size=8", "--config.batch_size=8",
    # A forward is of whole batches, however few the clips, and three looks at 'val' show what six do.
    "--config.evaluation.batch_size=8", "--config.evaluation.every=34%",
]  # fmt: skip


# The real command, but for the numbers of clips and stills.
BUILD = """
import functools, sys
from data_prep import build
from data_prep.tabletop import files, specs
specs.SIZES["smoke"] = dict(zip(specs.SPLITS, map(int, sys.argv.pop(1).split())))
files.write_stills = functools.partial(files.write_stills, n=160)
sys.exit(build.main(sys.argv[1:]))
"""


def build(folder, *flags, sizes="48 16 32 16"):
    """Builds a dataset with as many clips of train, val, test and unseen as ``sizes`` says."""
    # TV-L1 is computed by what is compiled: with LLVM's passes.
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, "-c", BUILD, sizes, "--out", folder, "--dataset", *flags]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, env=env)


@pytest.fixture(scope="session")
def data(once):
    """Tabletop, half of the smoke size, built once; TV-L1 would take ten times as long as DIS."""

    def make(root):
        build(root / "clips", "tabletop", "--size", "smoke", "--flow", "dis", sizes="24 8 16 8")
        build(root / "stills", "tabletop_stills")

    return once("tabletop", make)


def environment(devices=1):
    # Configurations of the tests import toys that lie beside them.
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    kept = [flag for flag in env["XLA_FLAGS"].split() if "device_count" not in flag]
    env["XLA_FLAGS"] = " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"])
    return env


# A block a network: what is compiled is most of what these tests cost.
NETWORKS = {"mml": ("rgb", "flow"), "dmcl": ("rgb", "depth", "flow")}


def command(data, workdir, *flags, config="mml"):
    small = [f"--config.networks.{name}.options.stages=(1,)" for name in NETWORKS[config]]
    return [
        sys.executable, "-m", "mmvid.main", f"--config={ROOT}/configs/{config}.py:smoke",
        f"--workdir={workdir}", f"--config.dataset.path={data}/clips",
        f"--config.stills.path={data}/stills", *TINY, *small, *flags,
    ]  # fmt: skip


def run(data, workdir, *flags, devices=1, check=True, config="mml", trap=None, brief=False):
    line = command(data, workdir, *flags, config=config)
    done = warm.run(line[3:], environment(devices), trap, brief)
    assert not (check and done.returncode), done.stderr[-3000:]
    return done


def as_users_do(line):
    """In a process of its own."""
    return subprocess.run(line, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True)


@pytest.fixture(scope="session")
def finished(data, once, tmp_path_factory):
    """A run that ended, in a folder of this process's own, and how it did."""

    def make(folder):
        (folder / "stdout").write_text(as_users_do(command(data, folder / "run")).stdout)

    whole = once("finished", make)
    workdir = shutil.copytree(whole / "run", tmp_path_factory.mktemp("finished"), dirs_exist_ok=True)
    return workdir, subprocess.CompletedProcess([], 0, (whole / "stdout").read_text(), "")


def test_one_sentence_says_which_output_overfits(finished, capsys):
    """Though CE, its continuation and MML each train both networks."""
    workdir, _ = finished
    commands.start("ogr", [str(workdir)])
    table, said = capsys.readouterr().out.split("\n\n")
    assert len(table.splitlines()) == 2 + 2 * 3 and re.match(r"(rgb and flow|flow and rgb) \(CE\): ", said)
    assert len(said.splitlines()) == 2 and (workdir / "ogr.html").read_text().count("<svg") == 1


def test_a_run_ends_with_its_table_and_report(finished):
    workdir, done = finished
    for text in ("CE continued", "top-1 [95 %]", "over CE continued", "flow + rgb", "16 of 16 clips"):
        assert text in done.stdout, text
    lines = (workdir / "log.txt").read_text().strip().splitlines()
    # Where it takes long, compiling is told before.
    first, *_, said, where, seen, last = (line for line in lines if "compiling" not in line)
    for part in ("1 device", "clips of", "fingerprint", "steps/s", "left", "GB"):
        assert part in first, first
    assert re.search(r"MML: rgb [\d.]+, .* CE continued with the same updates.*\(test, 16 clips\)", said)
    assert where.startswith("report: ") and where.endswith("report.html") and "mmvid predict" in seen
    assert last.startswith("next, ")
    page = (workdir / "report.html").read_text()
    cost = files.read_json(workdir / "mml" / "cost.json")
    (versions,) = cost["versions"]
    told = (*cost["code"], *cost["machine"], *versions.values())
    assert cost["seconds"] > 0 and all(text in page for text in told)
    assert page.count("<svg") >= 5 and "data:image/jpeg" in page and len(page) < 4e6
    scores = file_lib.load(workdir / "mml" / "scores" / "test.npz")
    assert scores.logits["rgb"]["action"].shape == (16, 1, 20)
    assert scores.meta["clips_used"] == scores.meta["clips_expected"] == 16
    # 'val' is scored, and shown nowhere.
    assert file_lib.load(workdir / "ce" / "scores" / "val.npz").meta["split"] == "val"
    assert "val" not in files.read_json(workdir / "summary.json")["mml"] and "val: " not in done.stdout
    lines = files.read_lines(workdir / "mml" / "metrics.jsonl")
    assert {"train/rgb/ce", "train/rgb/kl", "train/flow/kl", "lr", "wait"} <= set(lines[-1])
    assert any("val/rgb/top1" in line for line in lines)
    assert list((workdir / "tensorboard" / "mml").glob("events*"))


def test_both_arms_started_alike_and_saw_the_same(finished):
    workdir, _ = finished
    ids = [files.read_lines(workdir / s / "ids-0.jsonl") for s in ("mml", "ce_continued")]
    assert ids[0] == ids[1] and len(ids[0]) == 6
    assert [line["step"] for line in ids[0]] == [1, 2, 3, 4, 5, 6]


def test_the_same_command_again_only_reports(finished, data):
    workdir, _ = finished
    before = (workdir / "mml" / "weights.safetensors").stat().st_mtime_ns
    again = run(data, workdir)
    assert "top-1 [95 %]" in again.stdout
    assert (workdir / "mml" / "weights.safetensors").stat().st_mtime_ns == before


def test_another_configuration_in_the_same_workdir_is_refused(finished, data):
    done = run(data, finished[0], "--config.batch_size=4", check=False)
    assert done.returncode == 2
    assert "batch_size=4 (was 8)" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--config.optimiser.clip=1"], "optimizer"),
        (["--config.dataset.path=nowhere", "--config.dataset.command=()"], "data_prep.build"),
        (["--config.plan=reducd"], "reduced"),
        (["--config.evaluation.splits=('tset',)"], "tset"),
        (["--config.networks.rgb.weights=nowhere.safetensors"], "there is no nowhere"),
        (["--workdir=README.md"], "README.md"),
        (["--coordinator=127.0.0.1:1"], "process"),
    ],
    ids=["misspelt", "no data", "plan", "split", "weights", "workdir", "processes"],
)
def test_mistakes_are_explained_before_anything_runs(data, tmp_path, flags, text):
    done = run(data, tmp_path, *flags, check=False)
    assert done.returncode != 0 and text in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*/"))


@pytest.mark.slow
def test_what_got_lost_is_made_again(finished, data):
    """Scores cut by a full disk, weights that are gone: made again from the checkpoint, bit for bit."""
    workdir, first = finished
    scores, kept = (workdir / "mml" / name for name in ("scores/test.npz", "weights.safetensors"))
    whole = tensors(workdir, "mml")
    scores.write_bytes(scores.read_bytes()[:1000])
    kept.unlink()
    again = run(data, workdir)
    tables = [done.stdout.partition("test: 16 of")[2].rpartition("report: ")[0] for done in (again, first)]
    assert tables[0] == tables[1] != ""
    assert "mml: scores/test.npz, weights.safetensors, gone or damaged, is made again" in again.stdout
    found = tensors(workdir, "mml")
    assert found.keys() == whole.keys() and len(files.read_lines(workdir / "mml" / "ids-0.jsonl")) == 6
    assert all(np.array_equal(value, whole[name]) for name, value in found.items())
    assert not (workdir / "rehearsal").exists()


def test_a_second_run_in_the_workdir_is_refused(finished, data):
    workdir, _ = finished
    with lock.held(workdir / "run.lock", "it"):
        done = run(data, workdir, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"in use by process {os.getpid()} on host" in done.stderr and "another --workdir" in done.stderr


@pytest.mark.slow
def test_segments_of_another_run_are_reused(finished, data, tmp_path):
    """Another form of the method: what comes before it is the other run's, the method is trained."""
    flags = [f"--config.reuse={finished[0]}", "--config.method.mml.average=logit"]
    done = run(data, tmp_path, *flags)
    assert [name for name in MML if f"{name}: reused from {finished[0]}/{name}" in done.stdout] == [*MML[:3]]
    same = {}
    for segment in MML:
        own, other = tensors(tmp_path, segment), tensors(finished[0], segment)
        same[segment] = all(np.array_equal(value, other[name]) for name, value in own.items())
    assert same == {"stills": True, "ce": True, "ce_continued": True, "mml": False}
    assert "CE continued" in done.stdout and (tmp_path / "report.html").exists()


SLOW = """
import sys, time, mmvid.main, trap
from mmvid.data import example
trap.shorten()
made, begun = example.train_example, []
def slow(spec, group, position, shown):
    if position >= 16:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    return made(spec, group, position, shown)
example.train_example = slow
from absl import app
app.run(mmvid.main.main, flags_parser=mmvid.main._parse)
"""


@pytest.mark.slow
def test_a_signal_while_a_batch_is_made_is_heard_and_loses_nothing(data, tmp_path):
    """The third batch takes minutes: what two steps have learnt is saved, and the process ends soon."""
    line = command(data, tmp_path, "--config.loader.threads=1", "--config.stills.steps=0")
    process = subprocess.Popen([sys.executable, "-c", SLOW, *line[3:]], cwd=ROOT, env=environment(),
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    wait_for(tmp_path / "ce" / "ids-0.jsonl", process)
    while process.poll() is None and "waiting" not in process.stderr.readline():
        pass
    time.sleep(3)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "stopped by SIGTERM at step" in err, err[-500:]
    assert time.monotonic() - begin < 30
    assert not (tmp_path / "ce" / "done.json").exists()


@pytest.mark.parametrize("duration, steps", [("0", 0), ("0%", 0), ("0 epochs", 0), ("20%", 20), ("0.1%", 1)])
def test_zero_is_once_at_the_end(duration, steps):
    from mmvid.run import loop

    class Segment:
        steps, steps_per_epoch = 100, 7.0

    assert loop.every(duration, Segment) == steps


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    done = run(data, tmp_path, "--config.stills.steps=0", "--config.schedule.lr=1e30", check=False, brief=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"segment 'ce' at step \d+: '\w+' of '\w+' is (nan|inf)", done.stderr), done.stderr[-500:]


def signalled(data, workdir, number, once):
    """What a run says that ``number`` ends in its second segment, when the file ``once`` is there; it is sent to
    the loader's worker processes too, as a terminal's Ctrl-C and a scheduler do."""
    process = subprocess.Popen(
        command(data, workdir, "--config.loader.workers=2"), cwd=ROOT, env=environment(),
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(workdir / "ce" / once, process)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert (
        process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 0}[number] and "same command goes on" in err
    ), err[-500:]
    # A worker that is still being born may print multiprocessing's own trace; the run must not.
    assert not re.search(r"Traceback.*mmvid/(main|train|feed)\.py", err, re.DOTALL), err[-2000:]
    return err


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on(data, tmp_path, finished):
    """It comes while the workers are born; the run goes on with threads in their place."""
    signalled(data, tmp_path, signal.SIGTERM, "ids-0.jsonl")
    run(data, tmp_path, brief=True)
    assert_equal_runs(finished[0], tmp_path)


@pytest.mark.slow
def test_ctrl_c_saves_as_well(data, tmp_path):
    """After some steps: the last one is in a checkpoint, from which a run goes on as after any other end."""
    said = signalled(data, tmp_path, signal.SIGINT, "cost.json")
    step = re.search(r"stopped by SIGINT at step (\d+) of ce", said)
    assert step and (tmp_path / "ce" / "checkpoints" / step[1] / "_CHECKPOINT_METADATA").exists(), said[-500:]
    assert len(files.read_lines(tmp_path / "ce" / "ids-0.jsonl")) == int(step[1]) > 0


OWN_CONFIG = """
from configs import common, mml

def get_config():
    c = mml.get_config("smoke").unlock()
    c.streams.diff = common.stream("diff", form="stack5", dense_length=16)
    c.networks.diff = common.network("tsm_tiny", "diff", stages=(1,))
    c.evaluation.checkpoint = "best"
    return c.lock()
"""


@pytest.mark.slow
@pytest.mark.parametrize("view", ["epic", "multilabel"])
def test_three_modalities_and_other_label_spaces(data, tmp_path, view):
    """A user's own configuration file: M = 3, several heads or several labels, the best checkpoint."""
    flow = [] if view == "epic" else ["--flow", "dis"]
    build(tmp_path / "clips", "tabletop", "--size", "smoke", "--view", view, *flow, sizes="8 4 4 2")
    (tmp_path / "mine.py").write_text(OWN_CONFIG)
    short = ["--config.stills.steps=0", "--config.steps.ce=1", "--config.evaluation.splits=('test',)"]
    line = command(data, tmp_path / "run", f"--config.dataset.path={tmp_path}/clips", *short)
    done = warm.run([f"--config={tmp_path}/mine.py", *line[4:]], environment())
    assert done.returncode == 0, done.stderr[-2000:]
    last = files.read_lines(tmp_path / "run" / "mml" / "metrics.jsonl")
    assert {f"train/{o}/kl" for o in ("rgb", "flow", "diff")} <= {k for line in last for k in line}
    assert "diff + flow + rgb" in done.stdout
    for text in ("(noun)", "(verb)", "(noun and verb)") if view == "epic" else ("mAP",):
        assert text in done.stdout, done.stdout
    if view == "multilabel":
        return
    # 'best': what was scored stands at the step with the best validation score, the last of equals.
    scores = file_lib.load(tmp_path / "run" / "mml" / "scores" / "test.npz")
    found = {r["step"]: np.mean([v for k, v in r.items() if k.startswith("val/rgb/top1")])
             for r in last if any(k.startswith("val/rgb/top1") for k in r)}  # fmt: skip
    assert len(found) >= 3
    assert scores.meta["step"] == max(s for s, v in found.items() if v == max(found.values()))


# ---------------------------------------------------------------------------- kills and processes
def wait_for(path, process, seconds=120.0):
    end = time.time() + seconds
    while time.time() < end and process.poll() is None:
        if path.exists():
            return True
        time.sleep(0.01)
    return path.exists()


def tensors(workdir, segment):
    tree, _ = files_lib.read(workdir / segment / "weights.safetensors")
    return {"/".join(k): v for k, v in trees.flatten(tree).items()}


MML = ("stills", "ce", "ce_continued", "mml")


def assert_equal_runs(a, b, segments=MML):
    """Bit-identical weights, and ids exact over the surviving history."""
    for segment in segments:
        left, right = tensors(a, segment), tensors(b, segment)
        assert set(left) == set(right)
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name], err_msg=f"{segment} {name}")
        ids = [files.read_lines(w / segment / "ids-0.jsonl") for w in (a, b)]
        assert ids[0] == ids[1], segment
        rows = [[line | {"wait": 0} for line in files.read_lines(w / segment / "metrics.jsonl")] for w in (a, b)]
        assert rows[0] == rows[1], segment


# Each in the folder that the one before left. From outside: the run stands still, or was on its way there.
KILLS = [
    ("stills", "step", 2), ("ce", "enter", 0), ("ce", "save", 2), ("ce", "hold", 4), ("ce", "step", 5),
    ("ce_continued", "enter", 0), ("ce_continued", "save", 4), ("mml", "enter", 0), ("mml", "save", 2),
    ("mml", "save", 4), ("mml", "hold", 5), ("mml", "step", 6),
]  # fmt: skip
TRAPPED = "import sys, trap; trap.spring(*eval(sys.argv.pop(1))); import mmvid.main; mmvid.main.start()"


def killed_from_outside(data, workdir, trap, rng):
    """The exit code of a process that is killed (-9) at a moment while it imports, compiles or trains."""
    line = [sys.executable, "-c", TRAPPED, repr(trap), *command(data, workdir)[3:]]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(line, cwd=ROOT, env=environment() | {"PYTHONPATH": paths}, timeout=rng.uniform(1, 8),
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def half_saved(workdir):
    """Checkpoints that are not whole."""
    return list(workdir.glob("*/checkpoints/*tmp*"))


@pytest.mark.slow
def test_killed_twelve_times_ends_with_the_same_bits(data, tmp_path, finished):
    rng = random.Random(0)
    for trap in KILLS:
        segment, point, _ = trap
        if point == "hold":
            killed_from_outside(data, tmp_path, trap, rng)
        else:
            done = run(data, tmp_path, check=False, trap=trap, brief=trap != KILLS[0])
            assert done.returncode == -signal.SIGKILL, (trap, done.stderr[-2000:])
        assert point != "save" or half_saved(tmp_path), trap
        assert not (tmp_path / segment / "done.json").exists(), trap  # something was left to do each time
        for file in tmp_path.glob("*/metrics.jsonl"):
            with file.open("a") as text:  # what a cut write leaves behind
                text.write('{"step": 1, "tra')
    run(data, tmp_path)
    assert not half_saved(tmp_path)
    assert_equal_runs(finished[0], tmp_path)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def by_flags(port, i):
    """How process i of two is told of the other one: (flags, environment)."""
    return [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={i}"], {}


def by_names(port, i):
    """As a script does it under a launcher that nobody knows."""
    return [], {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)}


def by_job(port, i):
    """As a Job or JobSet does it."""
    environ = by_names(port, i)[1] | {"KUBERNETES_SERVICE_HOST": "10.1.0.1", "JOB_COMPLETION_INDEX": str(i)}
    return [], {name: value for name, value in environ.items() if name != "JAX_PROCESS_ID"}


def by_sky(port, i):
    """As SkyPilot does it."""
    return [], {"SKYPILOT_NODE_RANK": str(i), "SKYPILOT_NUM_NODES": "2",
                "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1", "JAX_COORDINATOR_PORT": str(port)}  # fmt: skip


def by_srun(port, i):
    """As `srun -n 2` does it on one host; JAX finds the coordinator."""
    own = {"JOB_ID": "7", "STEP_NODELIST": "127.0.0.1", "NTASKS": "2", "NODEID": "0", "STEP_TASKS_PER_NODE": "2",
           "PROCID": str(i), "LOCALID": str(i)}  # fmt: skip
    return [], {f"SLURM_{name}": value for name, value in own.items()} | {"JAX_COORDINATOR_PORT": str(port)}


def two_processes(*lines, told=by_flags):
    """Starts a command, or two, as two processes with two devices each."""
    port, started = free_port(), []
    for i in range(2):
        flags, environ = told(port, i)
        line = [*lines[i % len(lines)], *flags]
        started.append(subprocess.Popen(line, cwd=ROOT, env=environment(2) | environ, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True))  # fmt: skip
    return started


BRIEF = "import trap; trap.shorten(); import mmvid.main; mmvid.main.start()"


def briefly(line):
    """The command without rehearsal, tables and report, which of two processes one test has."""
    return [sys.executable, "-c", BRIEF, *line[3:]]


def in_two_processes(line, told=by_flags):
    """Runs a command as two processes of a run, to its end."""
    started = two_processes(line, told=told)
    try:
        for process in started:
            _, err = process.communicate(timeout=500)
            assert process.returncode == 0, err[-2000:]
    finally:
        for process in started:
            process.kill()


def assert_close(one, many, where, atol=1e-5):
    """The arrays of two dicts are the same to ``atol``."""
    assert one.keys() == many.keys(), where
    for name, value in one.items():
        if isinstance(value, dict):  # of a part without statistics
            assert value == many[name] == {}
            continue
        np.testing.assert_allclose(many[name], value, atol=atol, err_msg=f"{where} {name}")


def numbers_of(scores):
    logits = {f"{o} {head}": x for o, heads in scores.logits.items() for head, x in heads.items()}
    return logits | {f"{o} is there": x for o, x in scores.present.items()}


def assert_runs_agree(one, many, segments):
    """Final weights, logged losses and accuracies, and scores of two runs are the same to 1e-5."""
    for segment in segments:
        for rows in zip(*(files.read_lines(w / segment / "metrics.jsonl") for w in (one, many)), strict=True):
            logged = ({k: v for k, v in row.items() if not k.endswith(("wait", "/grad_norm"))} for row in rows)
            assert_close(*logged, segment, atol=1.1e-5)  # they are rounded
        assert_close(*(tensors(workdir, segment) for workdir in (one, many)), segment)
        for path in (one / segment / "scores").glob("*.npz"):
            a, b = (file_lib.load(workdir / segment / "scores" / path.name) for workdir in (one, many))
            np.testing.assert_array_equal(a.id, b.id)
            assert_close(numbers_of(a), numbers_of(b), f"{segment} {path.name}")


# Few updates: rounding in another order is a last bit, which training amplifies step by step.
FEW = ["--config.stills.steps=1", "--config.steps.ce=1", "--config.steps.method=1", "--config.save_every=0",
       "--config.evaluation.splits=('test',)"]  # fmt: skip


@pytest.mark.slow
def test_more_devices_and_processes_agree_with_one(data, tmp_path):
    """Two processes of two devices each, by a plain `srun -n 2`: one run, not two in a workdir. The run of
    specialists below is one process of eight."""
    one, many = tmp_path / "one", tmp_path / "many"
    run(data, one, *FEW, brief=True)
    in_two_processes(command(data, many, *FEW), told=by_srun)
    assert_runs_agree(one, many, MML)
    assert json.loads((many / "mml" / "done.json").read_text())


@pytest.mark.slow
def test_devices_that_share_the_parameters_agree_with_those_that_do_not(data, tmp_path):
    """Eight devices, of which four at a time hold a network between them. Killed, the run goes on from the same
    checkpoint with devices that share nothing, and killed again, in two processes of two devices each, of which
    neither holds a whole network."""
    wide = [*FEW, "--config.plan=single", "--config.stills.steps=0", "--config.model_options.width=32",
            "--config.steps.ce=6", "--config.ema=0.5", "--config.schedule.lr=0.01"]  # fmt: skip
    run(data, tmp_path / "whole", *wide, devices=8, brief=True)
    shared, often = [*wide, "--config.mesh.fsdp=4"], "--config.save_every=1"
    for step, flags in ((3, shared), (6, wide)):
        options = dict(devices=8, check=False, trap=("ce", "step", step), brief=True)
        assert run(data, tmp_path / "cut", *flags, often, **options).returncode == -signal.SIGKILL
        # The last but one is waited for before the next one is saved.
        saved = [path.name for path in (tmp_path / "cut" / "ce" / "checkpoints").iterdir()]
        assert max(int(name) for name in saved if name.isdigit()) >= step - 2
    in_two_processes(briefly(command(data, tmp_path / "cut", *shared, often)), told=by_sky)
    assert_runs_agree(tmp_path / "whole", tmp_path / "cut", ("ce",))


@pytest.mark.slow
def test_two_processes_leave_together_after_a_signal_to_one(data, tmp_path):
    """Both after the same step, which is saved; the same command goes on, and no step is lost or done twice."""
    # What is logged is waited for: of many steps on their way XLA's CPU devices wait for each other for ever.
    long = ["--config.plan=single", "--config.stills.steps=0", "--config.steps.ce=40", "--config.save_every=10",
            "--config.evaluation.every=0", "--config.evaluation.splits=('test',)",
            "--config.log_every=5"]  # fmt: skip
    line, ce = briefly(command(data, tmp_path, *long)), tmp_path / "ce"
    started = two_processes(line, told=by_job)
    try:
        assert wait_for(ce / "checkpoints" / "10", started[0])
        started[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=200)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [143, 143], said
    steps = [int(re.search(r"stopped by SIGTERM at step (\d+) of ce", text)[1]) for text in said]
    assert 10 <= steps[0] == steps[1] < 40 and not (ce / "done.json").exists()
    assert (ce / "checkpoints" / str(steps[0]) / "_CHECKPOINT_METADATA").exists()
    in_two_processes(line, told=by_names)
    assert (ce / "done.json").exists()
    for i in range(2):
        assert [row["step"] for row in files.read_lines(ce / f"ids-{i}.jsonl")] == [*range(1, 41)]


IMPATIENT = "from mmvid.run import processes; processes.SHOWN = 1; import mmvid.main; mmvid.main.start()"


@pytest.mark.slow
def test_two_hosts_without_a_common_folder_are_told(data, tmp_path):
    lines = [[sys.executable, "-c", IMPATIENT, *command(data, tmp_path / name, *FEW)[3:]] for name in "ab"]
    for process in two_processes(*lines):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1 and "another folder for process 1 than for process 0" in err, err[-2000:]


# ---------------------------------------------------------------------------- specialists
# Clips lack modalities; the best checkpoint is the oracle's.
LACKING = ["--config.missing.depth=0.5", "--config.missing.flow=0.25", "--config.stills.steps=0",
           "--config.evaluation.checkpoint=best", "--config.evaluation.best_by=oracle"]  # fmt: skip
COMPARED = ("independent", "dmcl")


@pytest.mark.slow
def test_specialists_with_missing_modalities_killed_and_restarted(data, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    students = "--config.compare=('independent', 'generalized_distillation', 'dmcl')"
    done = run(data, whole, *LACKING, students, config="dmcl")
    for text in ("Independent +GD +DMCL", "rgb +depth +flow +sum +oracle"):
        assert re.search(text, done.stdout), done.stdout
    scores = file_lib.load(whole / "generalized_distillation" / "scores" / "test.npz")
    assert sorted(scores.logits) == ["flow", "rgb"]  # students of a frozen teacher
    lines = files.read_lines(whole / "dmcl" / "metrics.jsonl")
    shares = [{k: v for k, v in line.items() if k.endswith("/win")} for line in lines]
    wins = [sum(share.values()) for share in shares if share]
    assert wins
    np.testing.assert_allclose(wins, 1, atol=1e-5)
    assert any("val/oracle/top1" in line for line in lines)
    numbers = files.read_json(whole / "summary.json")["dmcl"]["test"]
    assert len(numbers["subsets"]) == 7
    assert set(files.read_json(whole / "neighbours.json")) == {"rgb", "depth", "flow"}
    page = (whole / "report.html").read_text()
    for text in ("depth + flow", "share of wins", "random features", "93.64"):
        assert text in page, text
    # Weights are compared: what is scored of them is like the whole run's.
    few = [*LACKING, "--config.evaluation.splits=('test',)", "--config.evaluation.neighbours=()"]
    killed = run(data, cut, *few, config="dmcl", check=False, trap=("dmcl", "step", 3), brief=True)
    assert killed.returncode == -signal.SIGKILL
    run(data, cut, *few, config="dmcl", brief=True)
    assert_equal_runs(whole, cut, COMPARED)


@pytest.mark.slow
def test_dmcls_own_stack_is_scored_on_ten_random_windows(data, tmp_path):
    """R(2+1)D on segments, cut to windows: training, validation, test and report, of one segment."""
    # Ten clips of each are scored, of three networks: most of what this costs.
    few = ["--config.compare=('dmcl',)", "--config.stills.steps=0", "--config.steps.method=3",
           "--config.evaluation.every=100%", "--config.evaluation.splits=('test',)",
           "--config.evaluation.neighbours=()", "--config.evaluation.batch_size=4"]  # fmt: skip
    line = command(data, tmp_path / "run", *few, config="dmcl")
    done = warm.run([flag.replace("dmcl.py:smoke", "dmcl.py:r2plus1d") for flag in line[3:]], environment())
    assert not done.returncode, done.stderr[-3000:]
    scores = file_lib.load(tmp_path / "run" / "dmcl" / "scores" / "test.npz")
    assert (scores.meta["protocol"], scores.meta["crops"]) == ("R10", "window")
    assert {logits.shape[:2] for heads in scores.logits.values() for logits in heads.values()} == {(16, 10)}
    # Each clip is another draw of frames and window.
    assert all(np.ptp(logits, axis=1).max() > 0 for heads in scores.logits.values() for logits in heads.values())
    assert "oracle top-1 (any of them)" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_specialists_on_eight_devices_agree_with_one(data, tmp_path):
    few = [*LACKING, "--config.steps.method=1", "--config.save_every=0", "--config.evaluation.neighbours=()",
           "--config.evaluation.splits=('test',)"]  # fmt: skip
    for devices in (1, 8):
        run(data, tmp_path / str(devices), *few, config="dmcl", devices=devices, brief=True)
    assert_runs_agree(tmp_path / "1", tmp_path / "8", COMPARED)


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--config.missing.depth=1.5"], "from 0 to 1"),
        (["--config.compare=('generalized_distillation',)"], "put 'independent' before"),
        (["--config.evaluation.best_by=sumn"], "oracle"),
        (["--config.evaluation.neighbours=(0,)"], "1 or more"),
    ],
    ids=["share", "teacher", "best_by", "neighbours"],
)
def test_mistakes_with_specialists_are_explained(data, tmp_path, flags, text):
    done = run(data, tmp_path, *flags, config="dmcl", check=False)
    assert done.returncode == 2
    assert text in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_several_seeds_of_a_plan_end_in_one_table(data, tmp_path, finished):
    """As a user starts them, one being there already; the same command again trains nothing and compares again."""
    shutil.copytree(finished[0], tmp_path / "runs" / "seed0")
    weights = [tmp_path / "runs" / f"seed{seed}" / "mml" / "weights.safetensors" for seed in (0, 1)]
    argv = command(data, tmp_path / "runs", "--seeds=0,1")
    argv[argv.index("mmvid.main")] = "mmvid"
    argv.insert(argv.index("mmvid") + 1, "train")
    for again in (False, True):
        before = [path.exists() and path.stat().st_mtime_ns for path in weights]
        done = as_users_do(argv)
        assert [path.stat().st_mtime_ns == old for path, old in zip(weights, before)] == [True, again]
        lines = [x for x in done.stdout.splitlines() if re.match(r"MML +2 ", x)]  # one a split
        assert lines and all("±" in line for line in lines)
        assert (tmp_path / "runs" / "compare.html").exists()
        assert [(tmp_path / "runs" / f"seed{seed}" / "report.html").exists() for seed in (0, 1)] == [True, True]
