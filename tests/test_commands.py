"""The commands on runs that have ended: what they say, what they write, what they refuse."""

import json
import pathlib
import shutil
import sys

import pytest
import setuptools
from test_build import config as configured
from test_records import pack, record

from configs import common
from mmvid import __main__ as program
from mmvid import commands, files, network, usage
from mmvid.commands import config as config_lib
from mmvid.commands import evaluate
from mmvid.run import build, resume
from mmvid.scores import file

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


@pytest.mark.parametrize("argv", [
    ("compair",), ("evaluate",), ("compare", "a", "--config.seed=1"), ("evaluate", "a", "--protokol=x"),
    ("evaluate", "a", "--config.seed"), ("train", "--confg=x"),
])  # fmt: skip
def test_wrong_use_ends_with_2(argv, monkeypatch, capsys):
    assert ask(monkeypatch, *argv) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_commands_help_is_its_docstring(monkeypatch, capsys):
    assert ask(monkeypatch, "evaluate", "--help") == 0
    text = capsys.readouterr().out
    assert evaluate.__doc__.strip() in text and "--protocol" in text


def test_every_folder_of_code_is_installed():
    """setuptools finds each package of ours, and the page's templates are among its data."""
    import tomllib

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
@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty training clips with RGB and flow, three to validate, three to test."""
    root = tmp_path_factory.mktemp("data")
    pack(root, [record(i) for i in range(40)] + [record(i, s) for s in ("val", "test") for i in range(3)])
    path = root / "metadata.json"
    info = json.loads(path.read_text())
    info["heads"] = {"verb": {"classes": 2, "kind": "single", "names": ["a", "b"]}}
    path.write_text(json.dumps(info))
    return root


TINY = {"plan": "single", "model_options.width": 8, "batch_size": 8, "evaluation.batch_size": 8,
        "networks.rgb.options.stages": (1,), "networks.flow.options.stages": (1,),
        "streams.rgb.sampling.frames": 2, "streams.flow.sampling.frames": 2}  # fmt: skip


@pytest.fixture(scope="module")
def ended(dataset, tmp_path_factory):
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


def test_a_stored_configuration_is_the_one_that_was_stored(ended, dataset):
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


@pytest.mark.parametrize("text", ["--config.evaluation.batchsize=3", "--config.batch_size=many"])
def test_what_cannot_be_overridden_is_wrong_use(text):
    with pytest.raises(usage.WrongUse, match="batch"):
        config_lib.overridden(common.get_config(), [text])


def test_a_finished_run_is_scored_again(copy, monkeypatch, capsys):
    """Two views where the run's own had one; what the run has scored itself stays as it is."""
    own = copy / "ce" / "scores" / "test.npz"
    own.parent.mkdir()
    own.write_bytes(b"the run's own")
    args = ("--protocol=D0U2", "--crops=centre", "--splits=test", "--config.evaluation.batch_size=4")
    monkeypatch.setattr(evaluate, "_steps", lambda run, segment: 7)
    assert ask(monkeypatch, "evaluate", copy, *args) == 0
    text = capsys.readouterr().out
    assert "3 of 3 clips, 2 view(s), protocol D0U2" in text and "flow + rgb" in text
    scores = file.load(copy / "ce" / "scores" / "test@D0U2-centre.npz")
    assert scores.logits["rgb"]["verb"].shape == (3, 2, 2)
    assert scores.meta["step"] == 7 and file.members(scores) == ("flow", "rgb")
    numbers = json.loads((copy / "ce" / "scores" / "test@D0U2-centre.json").read_text())["numbers"]
    assert 0 <= numbers["rgb"]["verb"]["top1"] <= 1
    assert own.read_bytes() == b"the run's own"


def _damage(copy, **changes):
    found = files.read_json(copy / "config.json")
    found.update(changes)
    files.write_json(copy / "config.json", found)


@pytest.mark.parametrize(
    "spoil, argv, match",
    [
        (lambda c: (c / "config.json").unlink(), (), "is no run"),
        (lambda c: (c / "ce" / "done.json").unlink(), (), "has not ended: its segment 'ce'"),
        (lambda c: (c / "ce" / "weights.safetensors").unlink(), (), "weights.safetensors is gone"),
        (lambda c: files.write_json(c / "data.json", {"dataset": "fedcba987654"}), (), "other clips"),
        (lambda c: None, ("--splits=tset",), "'tset'; it has"),
        (lambda c: None, ("--protocol=K3",), "DkUm"),
        (lambda c: None, ("--config.model_options.width=4",), "does not fit"),
        (lambda c: None, ("--config.dataset.path=nowhere",), "no longer in nowhere: put it back"),
    ],
    ids=["no run", "unfinished", "weights", "clips", "split", "protocol", "networks", "dataset"],
)
def test_what_cannot_be_scored_is_said(copy, monkeypatch, capsys, spoil, argv, match):
    spoil(copy)
    assert ask(monkeypatch, "evaluate", copy, *argv) == 1
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err


def test_an_unknown_segment_is_wrong_use(copy, monkeypatch, capsys):
    assert ask(monkeypatch, "evaluate", copy, "--segments=ml") == 2
    assert "no segment 'ml' with scores; it has ['ce']" in capsys.readouterr().err


def test_a_folder_of_runs_names_them(tmp_path):
    files.write_json((tmp_path / "seed0").mkdir() or tmp_path / "seed0" / "config.json", {})
    with pytest.raises(ValueError, match="it holds the runs seed0"):
        build.stored(tmp_path)
