"""UCF-101's reader, on a miniature with the true names and lines of its lists."""

import csv
import pathlib
import shlex

import pytest
from test_checks import commands, info
from test_gblend_readers import edited, fetched, of
from test_readers import film

from data_prep import build, summary
from data_prep.readers import READERS, ucf101
from mmvid.data import records

LISTS = pathlib.Path(__file__).parent / "fixtures" / "ucf101"
CLASSES = ["ApplyEyeMakeup", "HammerThrow", "HandstandPushups", "YoYo"]


@pytest.fixture
def root(tmp_path):
    return fetched(tmp_path / "UCF-101", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "x/v_YoYo_g25_c04.avi",
                   "HandstandPushups/v_HandStandPushups_g01_c01.avi")  # fmt: skip


def test_ucf101(root):
    """Ids are numbers less one; the class is the folder's, whose files may be written otherwise."""
    made = ucf101.read(LISTS, root)
    assert made.name == "ucf101" and made.heads == {"action": {"kind": "single", "names": CLASSES}}
    assert of(made, "train") == {
        "v_ApplyEyeMakeup_g08_c01": ("ApplyEyeMakeup",),
        "v_ApplyEyeMakeup_g08_c02": ("ApplyEyeMakeup",),
        "v_HammerThrow_g09_c01": ("HammerThrow",),
        "v_HandStandPushups_g08_c01": ("HandstandPushups",),
        "v_YoYo_g25_c04": ("YoYo",),
    }
    assert of(made, "test")["v_HandStandPushups_g01_c01"] == ("HandstandPushups",)
    there = {item.id: item.path for item in made.items if item.path.exists()}
    assert len(there) == 3 and there["v_YoYo_g25_c04"].parent.name == "x"
    lost = next(item for item in made.items if item.id == "v_HammerThrow_g09_c01")
    assert lost.path == root / "HammerThrow/v_HammerThrow_g09_c01.avi"
    assert made.notes[1] == (
        "2 of 3 videos of testlist01.txt are not there: 'v_ApplyEyeMakeup_g01_c01', 'v_YoYo_g01_c01'"
    )


@pytest.mark.parametrize("split", ucf101.SPLITS)
def test_the_three_splits_are_others(root, split):
    made = ucf101.read(LISTS, root, split=split)
    films = {part: {name.rpartition("_")[0] for name in of(made, part)} for part in ("train", "test")}
    assert films["train"] and films["test"] and not films["train"] & films["test"]
    others = [ucf101.read(LISTS, root, split=other) for other in ucf101.SPLITS if other != split]
    assert all(of(made, "train") != of(other, "train") and made.name != other.name for other in others)


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("classInd.txt", "2 Ham", "3 Ham", r"line 2: '3 HammerThrow' is not '2 CLASS'"),
        ("classInd.txt", None, "", r"classInd\.txt is empty"),
        ("trainlist01.txt", "c01.avi 1", "c01.avi 2", r"line 1: .* is not CLASS/v_CLASS_g01_c01.avi NUMBER"),
        ("trainlist01.txt", "HammerThrow/", "Hammering/", r"line 3: .* of classInd.txt"),
        ("trainlist01.txt", "c04.avi 4", "c04.av", r"line 5: .* fetch it again"),
        ("testlist01.txt", "g01_c01.avi", "g01_c01.avi 1", r"testlist01\.txt, line 1"),
        ("testlist01.txt", "Makeup_g01_c01", "Makeup_g08_c07", r"'v_ApplyEyeMakeup_g08' are in both lists"),
    ],
)
def test_lists_that_are_wrong(tmp_path, root, file, old, new, reason):
    folder = edited(tmp_path, "ucf101", file, old, new)
    with pytest.raises(ValueError, match=reason):
        ucf101.read(folder, root)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {file} in .*: unpack UCF101TrainTestSplits"):
        ucf101.read(folder, root)


def test_videos_of_other_names_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"as 'v_ApplyEyeMakeup_g01_c01\.avi': rename"):
        ucf101.read(LISTS, fetched(tmp_path, "ApplyEyeMakeup_g01_c01.avi"))


def test_ucf101_is_built(tmp_path, serial, capsys):
    root, out = tmp_path / "UCF-101", tmp_path / "out"
    names = ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01",
             "YoYo/v_YoYo_g01_c01")  # fmt: skip
    for name in names:
        film((root / name).with_suffix(".avi"), 6)
    command = ["--dataset", "ucf101", "--annotations", LISTS, "--videos", root, "--out", out, "--split", "2"]
    assert build.main([*map(str, command), "--flow", "none", "--workers", "1"]) == 0
    opened = records.open_dataset(out)
    assert opened.info.name == "ucf101-2" and opened.info.expected == {"train": 4, "test": 2}
    assert opened.info.splits == {"train": 1, "test": 1} and opened.split("train")[0]["label"] == {"action": 0}
    rejected = list(csv.DictReader((out / "rejected.csv").read_text().splitlines()))
    assert {row["reason"] for row in rejected if row["id"] == "v_HammerThrow_g01_c01"} == {
        "missing file v_HammerThrow_g01_c01.avi"
    }
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert shlex.split(line)[5:7] == ["--config=configs/cmpl.py:ucf101_10pct", f"--config.dataset.path={out}"]


def test_kinetics_offers_its_training_with_few_labels():
    said = summary.of(info(("rgb",), "kinetics400", train=1, val=1), pathlib.Path("out"), READERS["kinetics400"])
    assert [command[4] for command in commands(said)] == ["--config=configs/cmpl.py:k400_10pct"]
