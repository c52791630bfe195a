"""--help is read by people; what the system calls by a number is explained."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from configs import common
from mmvid import main, train, usage
from mmvid.commands import compare

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
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/b"), "runs/b.*another --workdir"),
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
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run itself"):
        main._train(config, str(tmp_path), [0, 1])


@pytest.mark.parametrize("text", ["import nosuchmodule", "def (", "def get_config():\n    return unknown"])
def test_a_mistake_in_a_configuration_is_no_stack_trace(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    command = [sys.executable, "-m", "mmvid", "train", f"--config={path}", f"--workdir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1])
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the configuration cannot be read" in done.stderr and "mend it" in done.stderr
