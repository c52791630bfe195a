"""--help is read by people; what the system calls by a number is explained."""

import errno
import os
import pathlib
import re
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from configs import common, mml
from mmvid import __main__ as program
from mmvid import main, train, usage
from mmvid.commands import compare

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ["config", "workdir"]


def test_help_lists_the_configurations():
    text = usage.text(["main", "--help"], NAMES)
    assert "--config=configs/mml.py" in text and "Mutual Modality Learning" in text
    assert "--config=configs/dmcl.py" in text and "configs/common.py  " not in text
    assert "--config.batch_size=8" in text and "--workdir" in text


@pytest.mark.parametrize(
    "argv", [["--config=configs/mml.py", "--help"], ["-h", "--config", "configs/mml.py:smoke"]]
)
def test_help_of_a_configuration_is_its_docstring(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main._parse(["main", *argv])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for part in ("variant", "ssv2_r101", "--config.seed=1", "--coordinator"):
        assert part in text, text


def test_help_of_what_is_no_configuration(tmp_path):
    text = usage.text(["main", f"--config={tmp_path}/none.py", "--help"], NAMES)
    assert "there is no such file" in text and "--config=configs/mml.py" in text
    assert "no such file" not in usage.text(["main", "--config", "--help"], NAMES)
    (tmp_path / "bad.py").write_text("def (")
    assert "says nothing" in usage.text(["main", f"--config={tmp_path}/bad.py", "--help"], NAMES)


@pytest.mark.parametrize(
    "error, text",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a"), "runs/a.*disk is full: make room"),
        (ValueError(f"OUT_OF_RANGE: {os.strerror(errno.ENOSPC)}"), "make room"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/b"), "runs/b.*another folder"),
        (ValueError("plain"), "^plain$"),
    ],
)
def test_what_the_system_says_is_explained(error, text):
    import re

    assert re.search(text, usage.explained(error))


@pytest.mark.parametrize("text", ["0,0", "a", "1.5", "-1"])
def test_seeds_are_whole_numbers_each_once(text):
    with flagsaver.flagsaver((main._SEEDS, text.split(","))), pytest.raises(flags.Error, match="--seeds=0,1,2"):
        main._seeds()


def test_a_run_without_a_workdir_is_named_after_its_configuration():
    def of(**given):
        with flagsaver.flagsaver(**given):
            return main._workdir()

    assert of(config="configs/mml.py") == str(pathlib.Path("runs/mml"))
    assert of(config="here/mine.py:smoke") == str(pathlib.Path("runs/mine-smoke"))
    assert of(config="configs/mml.py", workdir="x/y") == "x/y"
    assert of(config="configs/mml.py", seeds=["0", "1"]) == str(pathlib.Path("runs/mml-seeds"))


def test_seeds_are_runs_side_by_side_and_end_compared(tmp_path, monkeypatch):
    seen, compared = [], []
    monkeypatch.setattr(train, "train", lambda config, workdir: seen.append((config.seed, workdir)))
    monkeypatch.setattr(compare, "compare", lambda folders, out: compared.append((folders, out)))
    config = common.get_config()
    main._train(config, str(tmp_path), [0, 3])
    folders = [tmp_path / "seed0", tmp_path / "seed3"]
    assert seen == [(0, str(folders[0])), (3, str(folders[1]))] and compared == [(folders, tmp_path)]
    main._train(config, str(tmp_path / "one"), [])
    assert seen[2:] == [(3, str(tmp_path / "one"))] and len(compared) == 1
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds runs of several seeds"):
        main._train(config, str(tmp_path), [])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run itself"):
        main._train(config, str(tmp_path), [0, 1])


@pytest.mark.parametrize("line", ["readme", "--config=configs/mml.py"])
def test_the_first_command_is_the_default_run_in_its_own_folder(line, monkeypatch):
    """As the README's line gives it to `python -m mmvid`, and as `python -m mmvid.main` alone."""
    ran = []
    if line == "readme":
        written = re.search(r"<!-- run-line -->\n`(.*)`", (ROOT / "README.md").read_text(encoding="utf-8"))[1]
        start, line = written.split(" && ")[-1].split(" train ")
        assert start == "python -m mmvid"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(main, "_train", lambda *given: ran.append(given))
    with flagsaver.flagsaver():
        main.main(main._parse(["mmvid", *line.split()]))
    [(config, workdir, seeds)] = ran
    assert config.to_dict() == mml.get_config().to_dict() and not seeds
    assert pathlib.Path(workdir) == pathlib.Path("runs/mml")


# ---------------------------------------------------------------------------- wrong command lines
@pytest.fixture
def asked(monkeypatch, capsys):
    """``asked(*argv)``: (exit code, what it says) of a program that is given ``argv``, in this process."""

    def parsed_and_run(main, argv, flags_parser):
        main(flags_parser(argv))

    def ask(*argv):
        # app.run can be called once a process.
        monkeypatch.setattr(main.app, "run", parsed_and_run)
        monkeypatch.setattr(sys, "argv", ["mmvid", *map(str, argv)])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
            program.main()
        return end.value.code, capsys.readouterr().err

    return ask


MML = f"--config={ROOT}/configs/mml.py"


@pytest.mark.parametrize("argv, text", [
    ((), "--config must be given"),
    (("--workdir=",), "--config and --workdir must be given"),
    ((MML, "--workdir="), "--workdir must be given"),
    (("--workdir=x",), "--config must be given"),
    (("--config.seed=1", "--workdir=x"), "--config must be given"),
    (("--config=nope.py", "--workdir=x"), "nope.py is no file of Python; there are "),
    (("--config=", "--workdir=x"), "--config must be given"),
    (("--config", "--workdir=x"), "--config"),
    ((f"{MML}:nope", "--workdir=x"), "mml.py has no variant 'nope'; choose one of charades, "),
    ((MML, "--workdir=x", "--config.stepz.ce=5"), "did you mean --config.steps.ce?"),
    ((MML, "--workdir=x", "--config.seed=one"), "--config.seed=one: a whole number is expected"),
    ((MML, "--workdir=x", "foo"), "'foo' is no flag"),
    ((MML, "--workdir=x", "--config.seed=1", "2"), "'2' is no flag"),
    ((MML, "--wrkdir=x"), "'wrkdir'. Did you mean: workdir"),
    ((MML, f"--workdir={__file__}/run"), "test_usage.py is a file; name a folder"),
    ((MML, "--workdir=x", "--seeds=a"), "--seeds=0,1,2"),
    ((MML, "--workdir=x", "--seeds="), "--seeds=: give whole numbers"),
    ((MML, "--workdir=x", "--processes=two"), "--processes=two: a whole number is expected"),
    ((MML, "--workdir=x", "--config.seed=1", "--flagfile=nope"), "nope"),
], ids=lambda value: " ".join(value)[-30:] if isinstance(value, tuple) else "")  # fmt: skip
def test_what_cannot_be_trained_is_wrong_use(asked, argv, text):
    code, said = asked("train", *argv)
    assert code == 2 and text in said and "Traceback" not in said, said
    assert not pathlib.Path("x").exists() and len(said.splitlines()) <= 6


@pytest.mark.parametrize("text", ["import nosuchmodule", "def (", "def get_config():\n    return unknown"])
def test_a_mistake_in_a_configuration_is_no_stack_trace(asked, tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    code, said = asked("train", f"--config={path}", f"--workdir={tmp_path}/run")
    assert code == 1 and "Traceback" not in said
    assert f"the configuration {path} cannot be read" in said and "mend it" in said


# ---------------------------------------------------------------------------- pages of help
@pytest.mark.parametrize("argv", [
    ("train", "--help"), ("evaluate", "--help"), ("compare", "--help"), ("cost", "--help"), ("--help",),
    ("doctor", "--help"), ("browse", "--help"),
    ("train", "--help", MML), ("train", "--help", MML.replace("mml", "dmcl")), (),
], ids=" ".join)  # fmt: skip
def test_help_has_eighty_columns_and_an_example(monkeypatch, capsys, argv):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(main.app, "run", lambda main, argv, flags_parser: flags_parser(argv))
    monkeypatch.setattr(sys, "argv", ["mmvid", *argv])
    try:
        program.main()
    except SystemExit as end:
        assert end.code == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "  python -m mmvid " in text


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(usage.WrongUse, match=f"--out={tmp_path}/{place}: {tmp_path}/file is a file"):
        usage.check_folder("--out", tmp_path / place)
    usage.check_folder("--out", tmp_path / "none" / "yet")


def test_names_with_commas():
    assert usage.chosen("--splits", "a, b,", "abc", "splits") == ["a", "b"]
    for text, problem in (("a,x", "there is no 'x'"), ("", "it names nothing"), (",", "it names nothing")):
        with pytest.raises(usage.WrongUse, match=f"--splits={text}: {problem}; the splits are a, b, c"):
            usage.chosen("--splits", text, "abc", "splits")
