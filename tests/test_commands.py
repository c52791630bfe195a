"""The commands on runs that have ended: what they say, what they write, what they refuse."""

import json
import pathlib
import re
import shutil
import sys
import tomllib
import types

import numpy as np
import pytest
import setuptools
from test_build import config as configured
from test_build import dataset  # noqa: F401
from test_scores import made

from mmvid import __main__ as program
from mmvid import commands, files, logs, network
from mmvid.commands import compare, evaluate
from mmvid.commands import config as config_lib
from mmvid.report import comparison, panels
from mmvid.report.comparison import Row
from mmvid.run import build, resume, signals
from mmvid.scores import file, numbers

ROOT = pathlib.Path(__file__).parents[1]


def ask(monkeypatch, *argv):
    """What the program does with a command line: its exit code."""
    monkeypatch.setattr(sys, "argv", ["mmvid", *map(str, argv)])
    try:
        program.main()
    except SystemExit as end:
        return end.code or 0
    return 0


# ---------------------------------------------------------------------------- the program
@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_commands_are_listed_with_an_example(argv, monkeypatch, capsys):
    assert ask(monkeypatch, *argv) == 0
    text = capsys.readouterr().out
    for name in commands.COMMANDS:
        assert f"  {name} " in text and f"python -m mmvid {name} " in text


def test_every_command_is_a_file_with_a_docstring_and_an_example():
    found = {path.stem for path in (ROOT / "mmvid" / "commands").glob("*.py")}
    assert set(commands.COMMANDS) - {"train"} <= found
    for name in set(commands.COMMANDS) - {"train"}:
        module = commands.of_name(name)
        assert f"python -m mmvid {name} " in module.__doc__ and isinstance(module.CONFIG, bool)


def test_a_command_that_a_signal_has_ended_tells_which(monkeypatch, capsys):
    def execute(arguments):
        raise signals.Stopped("all is saved; the same command goes on", "SIGTERM")

    monkeypatch.setattr(commands.of_name("report"), "execute", execute)
    assert ask(monkeypatch, "report", "runs/smoke") == 143
    assert capsys.readouterr().err == "\nmmvid: all is saved; the same command goes on\n"


@pytest.mark.parametrize("argv", [
    ("compair",), ("evaluate",), ("compare", "a", "--config.seed=1"), ("evaluate", "a", "--protokol=x"),
    ("evaluate", "a", "b"), ("cost",), ("cost", "a"), ("compare",), ("compare", "a", "--across=seeds"),
    ("compare", "a", "--over"),
])  # fmt: skip
def test_wrong_use_ends_with_2(argv, monkeypatch, capsys):
    """Few lines, which name an example and where to read more."""
    assert ask(monkeypatch, *argv) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said.splitlines()) <= 4
    assert f"more: python -m mmvid {argv[0]} --help".replace("compair ", "") in said


@pytest.mark.parametrize("argv", [("evaluate",), ("predict", "a.mp4"), ("report",), ("compare",)])
def test_what_is_no_run_is_wrong_use(argv, tmp_path, monkeypatch, capsys):
    """As it is in --config.reuse."""
    name, *inputs = argv
    assert ask(monkeypatch, name, tmp_path / "none", *inputs) == 2
    assert "none is no run" in capsys.readouterr().err


def test_a_commands_help_is_its_docstring(monkeypatch, capsys):
    assert ask(monkeypatch, "evaluate", "--help") == 0
    text = capsys.readouterr().out
    assert evaluate.__doc__.strip() in text and "--protocol" in text


def test_every_folder_of_code_is_installed():
    """setuptools finds each package of ours, and the page's templates are among its data."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tool, include = settings["tool"]["setuptools"], settings["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = set(setuptools.find_packages(str(ROOT), include=include))
    for top in ("mmvid", "data_prep", "configs"):
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        assert {".".join(f.relative_to(ROOT).parts) for f in folders} <= packages
    for template in (ROOT / "mmvid").rglob("*.html"):
        package = ".".join(template.relative_to(ROOT).parts[:-2])
        assert "templates/*.html" in tool["package-data"][package] and template.parent.name == "templates"
    assert settings["project"]["scripts"] == {"mmvid": "mmvid.__main__:main"}


# ---------------------------------------------------------------------------- a run that has ended
TINY = {"plan": "single", "model_options.width": 8, "batch_size": 8, "evaluation.batch_size": 8,
        "networks.rgb.options.stages": (1,), "networks.flow.options.stages": (1,),
        "streams.rgb.sampling.frames": 2, "streams.flow.sampling.frames": 2}  # fmt: skip


@pytest.fixture(scope="module")
def ended(dataset, tmp_path_factory):  # noqa: F811
    """A run of one segment as training leaves it, with the weights of its first draw."""
    workdir = tmp_path_factory.mktemp("run")
    run = build.build(configured(dataset, **TINY), workdir)
    resume.remember(run)
    (segment,) = run.segments
    (workdir / segment.name).mkdir()
    params, stats = network.draw_weights(segment, run.config.size, 0)
    state = network.TrainState(1, params, {}, stats, {}, (), {}, None)
    segment.leave(state, workdir / segment.name)
    files.write_json(workdir / segment.name / "done.json", {"steps": segment.steps})
    return workdir


@pytest.fixture
def copy(ended, tmp_path):
    return shutil.copytree(ended, tmp_path / "run")


def test_a_stored_configuration_is_the_one_that_was_stored(ended, dataset):  # noqa: F811
    found = config_lib.of_run(ended, [])
    assert found.to_dict() == configured(dataset, **TINY).to_dict()


def test_an_older_configuration_takes_todays_defaults(copy):
    found = files.read_json(copy / "config.json")
    for path in (("accumulate",), ("evaluation", "variant"), ("networks", "rgb", "first_conv_lr")):
        owner = found
        for name in path[:-1]:
            owner = owner[name]
        del owner[path[-1]]
    files.write_json(copy / "config.json", found)
    config = config_lib.of_run(copy, ["--config.evaluation.aggregate=probs"])
    assert (config.accumulate, config.evaluation.variant, config.networks.rgb.first_conv_lr) == (1, "code", 1.0)
    assert config.evaluation.aggregate == "probs" and config.networks.rgb.reads == (("rgb",),)


def test_a_finished_run_is_scored_again(copy, monkeypatch, capsys):
    """Two views where the run's own had one; what the run has scored itself stays as it is."""
    own = copy / "ce" / "scores" / "test.npz"
    own.parent.mkdir()
    own.write_bytes(b"the run's own")
    args = ("--protocol=D0U2", "--crops=centre", "--splits=test", "--config.evaluation.batch_size=4")
    monkeypatch.setattr(evaluate, "steps_of", lambda run, segment: 7)
    assert ask(monkeypatch, "evaluate", copy, *args) == 0
    text = capsys.readouterr().out
    assert "3 of 3 clips, 2 views, protocol D0U2" in text and "flow + rgb" in text
    # No paper's rows are to be held beside it: each number is said once.
    assert "test, top-1" not in text
    scores = file.load(copy / "ce" / "scores" / "test@D0U2-centre.npz")
    assert scores.logits["rgb"]["verb"].shape == (3, 2, 2)
    assert scores.meta["step"] == 7 and file.members(scores) == ("flow", "rgb")
    numbers = json.loads((copy / "ce" / "scores" / "test@D0U2-centre.json").read_text())["numbers"]
    assert 0 <= numbers["rgb"]["verb"]["top1"] <= 1
    assert own.read_bytes() == b"the run's own"
    # Its page is made of what the run has scored itself; here these are the scores that were made above.
    for split in files.read_json(copy / "config.json")["evaluation"]["splits"]:
        file.save(own.with_name(f"{split}.npz"), scores)
    assert ask(monkeypatch, "report", copy, "--config.seed=1") == 2
    # The log is this process's: what the run sets up must not outlast the test.
    for name, value in (("handlers", []), ("propagate", True), ("level", logs.LOG.level)):
        monkeypatch.setattr(logs.LOG, name, value)
    assert ask(monkeypatch, "report", copy) == 0
    for handler in logs.LOG.handlers:
        handler.close()
    *_, said, where, following = capsys.readouterr().out.splitlines()
    assert said.startswith("CE: rgb ") and where == f"report: {copy}/report.html" and "mmvid predict" in following
    page = (copy / "report.html").read_text()
    assert said.removesuffix(" (test, 3 clips)") in page and "verb: train" in page


def _damage(copy, **changes):
    found = files.read_json(copy / "config.json")
    found.update(changes)
    files.write_json(copy / "config.json", found)


def narrow(workdir):
    """The configuration now says another width than the weights have."""
    found = files.read_json(workdir / "config.json")
    found["model_options"]["width"] = 4
    files.write_json(workdir / "config.json", found)


def gone(name):
    return lambda workdir: (workdir / name).unlink()


@pytest.mark.parametrize("spoil, match", [
    (gone("ce/done.json"), "has not ended: its segment 'ce'"),
    (gone("ce/weights.safetensors"), "weights.safetensors is gone"),
    (lambda c: files.write_json(c / "data.json", {"dataset": "fedcba987654"}), "other clips"),
    (narrow, "does not fit"),
], ids=["unfinished", "weights", "clips", "networks"])  # fmt: skip
def test_what_cannot_be_scored_is_said(copy, monkeypatch, capsys, spoil, match):
    spoil(copy)
    assert ask(monkeypatch, "evaluate", copy) == 1
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err


@pytest.mark.parametrize("argv, code, match", [
    ("--splits=tset", 2, "evaluation.splits names 'tset', and "),
    ("--splits=tset", 2, "has no such split; it has train (40 clips), val (3 clips), test (3 clips)"),
    ("--splits=", 2, "name at least one split"),
    ("--protocol=K3", 2, "protocol='K3'"),
    ("--protocol=", 2, "DkUm"),
    ("--protocol=R3", 2, "draws segments"),
    ("--crops=middle", 2, "crops='middle': choose one of ('centre', 'three', "),
    ("--segments=ce,ml", 2, "--segments=ce,ml: there is no 'ml'; the segments of "),
    ("--segments=", 2, "that have scores are ce"),
    ("--config.evaluation.batchsize=3", 2, "did you mean --config.evaluation.batch_size?"),
    ("--config.evaluation.batch_size=all", 2, "a whole number is expected"),
    ("--config.evaluation.batch_size=0", 2, "evaluation.batch_size=0: it must be 1 or more"),
    ("--config.evaluation.aggregate=prob", 2, "choose one of "),
    ("--config.headline=rbg", 2, "'rbg'"),
    ("--config.dataset.path=nowhere", 1, "no longer in nowhere: put it back"),
])  # fmt: skip
def test_a_way_to_score_that_there_is_not(copy, monkeypatch, capsys, argv, code, match):
    assert ask(monkeypatch, "evaluate", copy, argv) == code
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err, err


@pytest.mark.parametrize("text", ["model_options.width=4", "size=16", "missing.flow=0.5"])
def test_a_run_is_scored_as_it_was_trained(copy, monkeypatch, capsys, text):
    assert ask(monkeypatch, "evaluate", copy, f"--config.{text}") == 2
    assert "scored as it was trained" in capsys.readouterr().err


def test_what_differs_from_the_runs_own_way_stands_in_the_name(copy):
    config = config_lib.of_run(copy, ["--config.evaluation.variant=paper"])
    run = types.SimpleNamespace(workdir=copy, config=config)
    assert evaluate._name("test", run) == "test@D0U1-centre-variant=paper"


def test_seeds_that_were_scored_in_different_ways_have_no_mean():
    one, other = (types.SimpleNamespace(meta={"protocol": p, "crops": "centre"}) for p in ("D0U1", "D1U2"))
    compare._check_alike("test", [one, one])
    with pytest.raises(ValueError, match=r"in different ways.*python -m mmvid evaluate"):
        compare._check_alike("test", [one, other])


def test_a_folder_of_runs_names_them(tmp_path):
    files.write_json((tmp_path / "seed0").mkdir() or tmp_path / "seed0" / "config.json", {})
    with pytest.raises(ValueError, match="it holds the runs seed0"):
        build.stored(tmp_path)


# ---------------------------------------------------------------------------- runs compared
def left(folder, seed, fingerprint="abc", labels=None, title="MML", **config):
    """A folder as a run leaves it: two segments, flow and RGB, the second segment the better one."""
    labels = np.arange(24) % 6 if labels is None else labels
    rng = np.random.default_rng(seed)
    stored = {"seed": seed, "headline": "rgb", "log_every": seed, "evaluation": {"aggregate": "logits"}, **config}
    files.write_json((folder / "ce_continued").mkdir(parents=True) or folder / "config.json", stored)
    files.write_json(folder / "data.json", {"dataset": fingerprint})
    for segment, quality in (("ce_continued", 0.2), ("mml", 1.6)):
        draw = {o: rng.normal(size=(24, 1, 6)) + quality * np.eye(6)[labels][:, None] for o in ("flow", "rgb")}
        meta = {"title": title if segment == "mml" else "CE continued", "split": "test", "protocol": "D0U1",
                "crops": "centre", "views": 1, "dataset": "fake", "fingerprint": fingerprint}  # fmt: skip
        # Each run's clips stand in an order of its own.
        scores = file.rows(made(draw, labels, **meta), rng.permutation(24))
        file.save(folder / segment / "scores" / "test.npz", scores)
    files.write_json(folder / "summary.json", {s: {"test": {}} for s in ("ce_continued", "mml")})
    return folder


def test_seeds_are_one_row_and_differences_are_paired(tmp_path, monkeypatch, capsys):
    folders = [left(tmp_path / f"mml-seed{seed}", seed) for seed in (0, 1)]
    other = left(tmp_path / "dmcl", 0, title="DMCL", plan="compare")
    # Its own method is another segment than that of the others.
    (other / "mml").rename(other / "dmcl")
    files.write_json(other / "summary.json", {s: {"test": {}} for s in ("ce_continued", "dmcl")})
    assert ask(monkeypatch, "compare", *folders, other, f"--out={tmp_path / 'out'}") == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("mml: MML  ")]
    assert [line.split()[0] for line in lines if ": " in line[:8]][-6:-2] == ["mml:", "mml:", "dmcl:", "dmcl:"]
    own = [file.load(run / "mml" / "scores" / "test.npz") for run in folders]
    base = [file.load(run / "ce_continued" / "scores" / "test.npz") for run in folders]
    top1 = [numbers.summary(s)["rgb"]["action"]["top1"] for s in own]
    assert f" {100 * np.mean(top1):.1f} ± {100 * np.std(top1, ddof=1):.1f} " in row and row.split()[2] == "2"
    found = json.loads((tmp_path / "out" / "compare.json").read_text())["test"][1]
    assert found["seeds"] == [0, 1] and found["values"]["rgb"] == top1

    def by_clip(scores):
        order = [np.argsort(s.id) for s in scores]
        return np.mean([numbers.hits(s, "rgb", "action", 1)[o] for s, o in zip(scores, order)], axis=0)

    mean, low, high = found["over"]["rgb"]
    assert mean == pytest.approx((by_clip(own) - by_clip(base)).mean()) and low < mean < high
    assert "Δ: the difference to mml: CE continued" in lines
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "mml: MML leads in rgb with" in page and f"report: {tmp_path / 'out'}/compare.html" in lines[-1]
    runs = page.partition("<h2>Runs</h2>")[2].partition("<h2>")[0]
    assert [runs.count(f">{run}<") for run in (*folders, other)] == [1, 1, 1]
    assert "dmcl: DMCL" in page and page.count("<svg") == 4 and "viewport" in page and 'src="http' not in page


def test_curves_of_seeds_are_averaged(tmp_path, monkeypatch):
    """Figure 3 of DMCL: at steps that all have logged, of what all have logged there; of one seed nothing."""
    folders = [left(tmp_path / f"seed{seed}", seed) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        lines = [{"step": step, "train/rgb/ce": 4.0 * seed + step, "train/flow/ce": 1.0} for step in (5, 10)]
        lines += [{"step": 10, "val/rgb/top1": 0.5}] if seed else []
        lines += [{"step": 15 + seed, "train/rgb/ce": 0.0}]
        files.write_text(folder / "mml" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    logged = [files.read_lines(folder / "mml" / "metrics.jsonl") for folder in folders]
    assert panels.averaged(logged) == [
        {"step": 5, "train/rgb/ce": 7.0, "train/flow/ce": 1.0},
        {"step": 10, "train/rgb/ce": 12.0, "train/flow/ce": 1.0},
    ]
    assert ask(monkeypatch, "compare", *folders, f"--out={tmp_path}") == 0
    page = (tmp_path / "compare.html").read_text()
    assert "Means over seeds" in page and "cross-entropy" in page and page.count("<summary>MML</summary>") == 1
    assert ask(monkeypatch, "compare", folders[0], f"--out={tmp_path}") == 0
    assert "Means over seeds" not in (tmp_path / "compare.html").read_text()


def test_versions_of_a_dataset_are_compared_by_their_means_alone(tmp_path, monkeypatch, capsys):
    runs = [left(tmp_path / "old", 0), left(tmp_path / "new", 0, "xyz", labels=np.arange(24) % 5)]
    out = f"--out={tmp_path}"
    assert ask(monkeypatch, "compare", *runs, out) == 1
    text = capsys.readouterr().err
    assert "fingerprint 'abc' and 'xyz'" in text and "--across=dataset" in text
    assert not (tmp_path / "compare.html").exists()
    # Others train on clips of the same names: these versions share their test.
    runs += [left(tmp_path / "third", 0, "uvw"), left(tmp_path / "third-seed1", 1, "uvw")]
    assert ask(monkeypatch, "compare", *runs, out, "--across=dataset") == 0
    text = capsys.readouterr().out
    assert all(f"({name})" in text for name in ("abc", "xyz", "uvw")) and "Δ" not in text
    # One row a segment: the mean over the three versions, and over the seeds of one.
    own = [file.load(run / "mml" / "scores" / "test.npz") for run in runs]
    top1 = [numbers.summary(scores)["rgb"]["action"]["top1"] for scores in own]
    (row,) = [line for line in text.splitlines() if line.startswith("MML  ")]
    assert row.split()[1] == "4" and f" {100 * np.mean(top1):.1f} ± {100 * np.std(top1, ddof=1):.1f} " in row
    assert [line.split() for line in text.splitlines() if "runs" in line.split()[:1]]
    assert ask(monkeypatch, "compare", *runs, runs[0], out, "--across=dataset") == 2
    assert "leave one out" in capsys.readouterr().err


def test_a_run_of_before_opens_and_is_compared(tmp_path, monkeypatch, capsys):
    """Its scores name neither titles nor members, its configuration lacks what has come since."""
    run = ROOT / "tests" / "fixtures" / "run"
    config = config_lib.of_run(run, [])
    assert config.split == "train" and config.networks.rgb.optimizer.name is None
    assert ask(monkeypatch, "compare", run, f"--out={tmp_path}") == 0
    text = capsys.readouterr().out
    assert "oracle" in text and "ce_continued" in text and (tmp_path / "compare.html").exists()


def test_what_cannot_be_compared_is_said(tmp_path, monkeypatch, capsys):
    run, other = left(tmp_path / "a", 0), left(tmp_path / "b", 0, plan="compare")
    out = f"--out={tmp_path / 'out'}"
    for argv, code, match in [
        ((run, run), 2, "one seed, 0"), ((tmp_path / "none",), 2, "is no run"),
        ((run, "--over=foo"), 2, "no such row; the rows are CE continued, MML"),
        ((run, "--segments=foo"), 2, "there is no 'foo'; the segments of these runs are ce_continued, mml"),
        ((run, "--segments=mml,nope"), 2, "--segments=mml,nope: there is no 'nope'"),
        ((run, "--over=nope", "--segments=mml"), 2, "no such row; the rows are MML"),
        ((run, "--segments=,"), 2, "--segments=, names nothing"),
        ((run, "--splits="), 2, "--splits= names nothing"),
        ((run, "--splits=val"), 2, "there is no 'val'; the splits on which"),
        ((run, other, "--splits=test,val"), 2, "is scored (python -m mmvid evaluate makes others) are test"),
        ((run, "--over=mml", "--across=dataset"), 2, "--over=mml names what differences are taken to, and"),
        ((run, f"--out={__file__}"), 2, "test_commands.py is a file; name a folder"),
    ]:  # fmt: skip
        assert ask(monkeypatch, "compare", out, *argv) == code
        assert match in capsys.readouterr().err
    (run / "mml" / "scores" / "test.npz").unlink()
    assert ask(monkeypatch, "compare", run) == 1 and "no scores at" in capsys.readouterr().err
    (run / "summary.json").unlink()
    assert ask(monkeypatch, "compare", run) == 1 and "has not ended" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_several_labels_are_compared_by_map(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (24, 6)).astype(np.float32)
    draw = {o: np.random.default_rng(1).normal(size=(24, 1, 6)) + labels[:, None] for o in ("flow", "rgb")}
    meta = dict(split="test", protocol="D0U1", crops="centre", views=1, dataset="fake", fingerprint="abc")
    scores = made(draw, labels, **meta)
    rows = [Row(name, name, (0,), (name,), {"test": [scores]}) for name in ("a", "b")]
    found = comparison.compared(rows, "test", "rgb", "logits", rows[0])
    assert found["columns"] == ["rgb", "Δ rgb", "flow", "sum", "Δ sum"]
    want = numbers.summary(scores)["rgb"]["action"]["map"]
    low, high = (f"{100 * v:.1f}" for v in numbers.interval(scores, "rgb", "action"))
    assert float(low) < 100 * want < float(high)
    assert found["rows"][1]["cells"][:2] == [f"{100 * want:.1f} [{low}, {high}]", "+0.0 [+0.0, +0.0]"]


def _rows(**shares):
    """A row for each name, whose RGB and flow networks are right for this share of the same 40 clips."""
    labels = np.arange(40) % 4
    meta = dict(split="test", protocol="D0U1", crops="centre", views=1, dataset="fake", fingerprint="abc")
    found = []
    for name, (rgb, flow) in shares.items():
        right = lambda share: np.eye(4)[(labels + (np.arange(40) >= 40 * share)) % 4][:, None]  # noqa: E731
        scores = made({"rgb": right(rgb), "flow": right(flow)}, labels, **meta)
        found.append(Row(name, name, (0,), (name,), {"test": [scores]}))
    return found


def test_the_verdict_claims_what_the_page_shows_and_no_winner_of_a_tie():
    def said(rows, base=None):
        return comparison.compared(rows, "test", "rgb", "logits", base)["verdict"]

    rows = _rows(a=(0.5, 0.5), b=(0.8, 0.5), c=(0.8, 0.9))
    # With a base: differences of the first output and of the sum alone.
    assert re.fullmatch(r"b leads in rgb with 80.0, \+30.0 \[.*\] over a; sum .*", said(rows[:2], rows[0]))
    assert "flow" not in said(rows[:2], rows[0]) and "; flow 50.0; " in said(rows[:2])
    assert said(rows[1:]) == "no row leads in rgb: b and c tie at 80.0"
    found = said(rows, rows[0])
    tie = r"no row leads in rgb: b and c tie at 80.0, \+30.0 \[.*\] and \+30.0 \[.*\] over a; b's .* than a's"
    assert re.fullmatch(tie, found)
    tied = said(rows[1:]) + "; c's calibration error 32.5, within noise of b's (+0.0 [+0.0, +0.0])"
    assert said(rows[1:], rows[1]) == tied
    many = _rows(**dict.fromkeys("abcdef", (0.25, 0.25)))
    assert said(many, many[0]) == "no row leads in rgb: 6 rows tie at 25.0"
    highest = _rows(a=(0.9, 0.5), b=(0.5, 0.5), c=(0.5, 0.5))
    assert said(highest, highest[0]).startswith("a leads in rgb with 90.0; next are b and c: b with 50.0, 40.0 [")


def test_somebody_elses_folder_is_no_run(tmp_path):
    files.write_json(tmp_path / "config.json", {"a": 1})
    with pytest.raises(ValueError, match=r"config.json is not of a run of mmvid: name the --workdir"):
        config_lib.of_run(tmp_path, [])
    files.write_json(tmp_path / "summary.json", {"mml": {}})
    with pytest.raises(ValueError, match=r"config.json is not of a run of mmvid: name the --workdir"):
        compare.compare([tmp_path], tmp_path)
