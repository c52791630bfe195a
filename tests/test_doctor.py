"""The doctor of datasets: what it says, what it ends with, and what may be wrong with the files."""

import errno
import functools
import json
import os
import re
import shutil

import asking
import pytest
from test_checkup import healthy, lively
from test_records import pack

from mmvid import files
from mmvid.data import examine, fields

ask = functools.partial(asking.ask, "doctor")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A healthy dataset on the disk."""
    root = tmp_path_factory.mktemp("doctor") / "whole"
    root.mkdir()
    pack(root, healthy(), ["verb"])
    return root


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "data")


def test_the_command_of_a_healthy_dataset(whole, capsys):
    before = sorted(path.name for path in whole.rglob("*"))
    assert ask(whole) == 0
    out = capsys.readouterr().out
    assert "(000000000000): 9 of 9 clips" in out
    assert "9 clips looked at" in out and "nothing would spoil a score" in out and "spoils:" not in out
    assert "rgb, brightness (of 255)" in out and "2 of 2" in out and "flow, at the bound (%)" in out
    assert sorted(path.name for path in whole.rglob("*")) == before


def changed(root, **entries):
    path = root / "metadata.json"
    files.write_json(path, json.loads(path.read_text()) | entries)


def test_missing_clips_end_with_1_and_may_be_tolerated(copy, capsys):
    changed(copy, expected={"train": 3, "val": 3, "test": 4})
    (copy / "rejected.csv").write_text("id,split,path,reason\nlost-one,test,a.mp4,truncated\n")
    assert ask(copy) == 1
    out, err = capsys.readouterr()
    assert "spoils: 1 of 4 test clips are expected and missing (lost-one)" in out and "1 thing would spoil" in err
    assert "[missing]" in out and "(missing), see above" in err
    for enough in ("25", "missing=25", "0,missing=25", "missing=25,0", "copies=0,99"):
        assert ask(copy, f"--tolerate={enough}") == 0
        assert "note:   1 of 4 test clips" in capsys.readouterr().out
    # Each kind by itself.
    for little in ("24", "missing=24", "copies=100", "100,missing=24", "missing=24,100"):
        assert ask(copy, f"--tolerate={little}") == 1


def test_counts_are_by_modality_and_measures_by_split(tmp_path, capsys):
    clips = healthy()
    for clip in clips[:2]:
        clip.update(flow_x=[], flow_y=[], audio=b"")
    clips[8].update(lively(8, "test", 12, fps=24.0))
    pack(tmp_path, clips, ["verb"])
    target = tmp_path / "said" / "found.json"
    assert ask(tmp_path, f"--json={target}") == 0
    said = json.loads(target.read_text())
    assert not said["spoilt"] and said["splits"]["train"] == {
        "clips": 3, "expected": 3, "fields": {"rgb": 3, "flow": 1, "depth": 0, "audio": 1, "boxes": 3},
        "classes": {"verb": {"push": 2, "pull": 1}},
    }  # fmt: skip
    spreads = said["median, least, most"]
    assert spreads["frames"]["test"] == [4, 4, 12] and spreads["frames a second"]["test"] == [12, 12, 24]
    assert spreads["seconds"]["test"] == pytest.approx([1 / 3, 1 / 3, 1 / 2])
    assert len(spreads["flow, motion (px)"]["train"]) == 3 and spreads["flow, motion (px)"]["val"][0] > 0
    assert "depth, distance (m)" not in spreads and "4 [4, 12]" in capsys.readouterr().out


def test_json_on_the_terminal_is_json_alone(copy, capsys):
    changed(copy, expected={"train": 3, "val": 3, "test": 4})
    assert ask(copy, "--json=-", "--splits=val,test") == 1
    out, err = capsys.readouterr()
    (problem,) = json.loads(out)["problems"]
    assert problem["spoils"] and problem["clips"] == {"test": [{"id": "", "note": ""}]}
    assert "spoils: 1 of 4 test clips" in err and "train was not looked at" in err


def test_a_file_that_cannot_be_written_costs_no_finding(copy, monkeypatch, capsys):
    def full(path, value):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(files, "write_json", full)
    assert ask(copy, f"--json={copy}/found.json") == 1
    out, err = capsys.readouterr()
    assert "rgb, brightness" in out and "may not write there" in err and "found.json" in err


def test_files_that_were_cut_short_end_with_1(copy, capsys):
    (path,) = copy.glob("clips/*/*-test.array_record*")
    path.write_bytes(path.read_bytes()[:-200])
    assert ask(copy) == 1
    assert "built" in "".join(capsys.readouterr())


def test_an_empty_dataset_and_none_at_all(copy, tmp_path, capsys):
    (copy / "index.json").unlink()
    assert ask(copy) == 1 and "index.json" in capsys.readouterr().err
    changed(copy, splits={}, expected={"train": 3})
    assert ask(copy) == 1 and "has no clips: build it again" in capsys.readouterr().err
    assert ask(tmp_path / "none") == 2 and "no prepared dataset" in capsys.readouterr().err


HOSTILE = {
    "metadata.json": [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"name": 1}'],
    "index.json": [b"", b"[]", b"\xff", b'{"train": 1, "val": 2, "test": 3}', b'{"train": [1]}', b'{"train": []}'],
}


@pytest.mark.parametrize("name, content", [(name, own) for name, every in HOSTILE.items() for own in every])
def test_damaged_files_are_named(copy, name, content, capsys):
    (copy / name).write_bytes(content)
    assert ask(copy) == 1
    err = capsys.readouterr().err
    assert f"{copy}/{name} cannot be read" in err and len(re.findall("buil[dt].* again", err)) == 1
    assert not re.search(r"Damaged|Error\(|indices must be", err) and err.count("cannot be read") == 1


@pytest.mark.parametrize("entry, value", [
    ("splits", 3), ("splits", {"train": "3"}), ("expected", {"train": -1}), ("heads", []), ("heads", {"verb": 2}),
    ("heads", {"verb": {"classes": 2}}), ("settings", None), ("modalities", [1]),
])  # fmt: skip
def test_metadata_that_was_changed_by_hand_is_damaged(copy, entry, value, capsys):
    changed(copy, **{entry: value})
    assert ask(copy) == 1 and "metadata.json cannot be read" in capsys.readouterr().err


def test_a_list_of_rejected_clips_that_is_no_table(copy, capsys):
    (copy / "rejected.csv").write_text('id,split,path,reason\n"' + "x" * 200_000)
    assert ask(copy) == 1 and "rejected.csv cannot be read" in capsys.readouterr().err
    # Of one that lacks columns, what there is.
    (copy / "rejected.csv").write_bytes(b"id\n\xff\n")
    assert ask(copy) == 0
    (copy / "rejected.csv").unlink()
    (copy / "rejected.csv").mkdir()
    assert ask(copy) == 1
    assert "rejected.csv cannot be read (Is a directory): delete it" in capsys.readouterr().err


def test_a_split_of_which_nothing_is_left(copy, capsys):
    changed(copy, splits={"train": 3, "val": 3}, expected={"train": 3, "val": 3, "test": 5})
    index = json.loads((copy / "index.json").read_text())
    files.write_json(copy / "index.json", {split: index[split] for split in ("train", "val")})
    assert ask(copy) == 1 and "5 of 5 test clips are expected and missing" in capsys.readouterr().out
    # The same, written down as 0.
    changed(copy, splits={"train": 3, "val": 3, "test": 0})
    files.write_json(copy / "index.json", index | {"test": []})
    assert ask(copy) == 1 and "5 of 5 test clips are expected and missing" in capsys.readouterr().out


def test_a_split_whose_records_are_gone(copy, capsys):
    for path in copy.glob("clips/*/*-test.array_record*"):
        path.unlink()
    assert ask(copy) == 1
    out, err = capsys.readouterr()
    assert "built" in out + err and "Traceback" not in out + err


def test_a_run_in_the_place_of_a_dataset(tmp_path, capsys):
    files.write_json(tmp_path / "config.json", {"dataset": {"path": "data/mine"}})
    assert ask(tmp_path) == 2
    told = "folder of a run, not of a dataset: name the one that it read, which is data/mine"
    assert told in capsys.readouterr().err
    (tmp_path / "config.json").write_text("[")
    assert ask(tmp_path) == 2 and "name the one that it read\n" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_dataset(copy, capsys):
    assert ask(copy / "metadata.json") == 2 and "no prepared dataset" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "index.json", "metadata.json/x.json", "labels.npz", "clips/a.json"])
def test_what_would_be_written_over_is_refused_before_anything_is_looked_at(copy, name, monkeypatch, capsys):
    monkeypatch.setattr(examine, "look", None)
    for own in ("labels.npz", "clips/a.json"):
        (copy / own).touch()
    assert ask(copy, f"--json={copy}/{name}") == 2
    assert f"--json={copy}" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ask(copy, f"--json={copy}/new/found.json") == 2
    assert f"may not write into {copy}" in capsys.readouterr().err


def test_short_clips_are_looked_at_as_often_as_they_have_frames(whole, monkeypatch):
    asked = []
    real = fields.FIELDS["rgb"].raw
    row = fields.FIELDS["rgb"]._replace(raw=lambda record, rows: (asked.append(len(rows)), real(record, rows))[1])
    monkeypatch.setitem(fields.FIELDS, "rgb", row)
    assert ask(whole, "--frames=200") == 0 and set(asked) == {4}


@pytest.mark.parametrize(
    "flag",
    [
        "--frames=0",
        "--frames=257",
        "--splits=x",
        "--splits=",
        *(
            f"--tolerate={own}"
            for own in (
                *("-1", "", "nan", "101", "x", "copies", "copies=", "copy=1", "=1=", "1;2", "=5", "1,2", "0,0"),
                *("damaged=50,damaged=100", "1,damaged=1,damaged=1", "all kinds=1"),
            )
        ),
    ],
)
def test_wrong_use(whole, flag, capsys):
    assert ask(whole, flag) == 2
    assert flag.split("=")[0] in capsys.readouterr().err
