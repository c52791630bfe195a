"""The doctor of datasets: every fault that would spoil a score is found where it was put, and nowhere else."""

import collections
import errno
import json
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_records import HEADS, pack, record

from mmvid import commands, files
from mmvid.commands import doctor
from mmvid.data import checkup, fields
from mmvid.data import frames as frames_lib
from mmvid.data.checkup import Clip
from mmvid.streams import Head

SPACES = {"verb": Head(2, "single", tuple(HEADS["verb"]["names"]))}
JPEG, PNG = frames_lib.encode_jpeg, frames_lib.encode_png


class Split(list):
    """Records of a split, as a source has them."""

    def __init__(self, split, clips):
        super().__init__(clips)
        self.split = split


def lively(i, split="train", frames=4, **changes):
    """A record of 16x20 pictures with something to see, some motion and a sound."""
    rng = np.random.default_rng(i)
    pictures = [JPEG(rng.integers(40, 200, (16, 20, 3), np.uint8)) for _ in range(frames)]
    planes = [PNG(rng.integers(100, 156, (16, 20), np.uint8)) for _ in range(frames - 1)]
    sound = rng.integers(-999, 999, 4000).astype(np.int16).tobytes()
    own = dict(rgb=pictures, flow_x=planes, flow_y=planes, height=16, width=20, audio=sound)
    own["boxes"] = np.full((1, 9), 0.5, np.float32)
    return record(i, split, frames, **own | changes)


def healthy():
    """Three clips of every split, of both classes."""
    return [lively(3 * s + i, split) for s, split in enumerate(("train", "val", "test")) for i in range(3)]


def found_in(clips, expected=None, index=None, rejected=None):
    """The problems that the doctor finds in records."""
    splits = collections.defaultdict(list)
    for clip in clips:
        splits[clip["split"]].append(clip)
    looked = [
        checkup.look(Split(name, own), row, SPACES, 3) for name, own in splits.items() for row in range(len(own))
    ]
    sizes = expected or {name: len(own) for name, own in splits.items()}
    return checkup.problems(looked, SPACES, sizes, index or {}, rejected or {})


def test_a_healthy_dataset_has_no_problem():
    assert found_in(healthy()) == []


# ---------------------------------------------------------------------------- faults, one at a time
def anew(clip):
    """The pictures of a clip, encoded once more: other bytes."""
    return [JPEG(np.ascontiguousarray(picture)) for picture in fields.decode_frames(clip, "rgb", range(4))]


def film(clip):
    """The pictures of a clip as a film of twice the size."""
    return frames_lib.encode_mp4(fields.decode_frames(clip, "rgb", range(4)).repeat(2, 1).repeat(2, 2), 12.0)


BLACK = [JPEG(np.zeros((16, 20, 3), np.uint8))] * 4
DARK = [JPEG(np.uint8(np.arange(960).reshape(16, 20, 3) // 480 * 10))] * 4
FAST = [PNG(np.uint8(np.arange(320).reshape(16, 20) % 4 * 85))] * 3
UNREAD = [PNG(np.zeros((16, 20), np.uint16))] * 4
FAULTS = {
    "a training clip in test": (
        lambda clips: clips[6].update(rgb=clips[0]["rgb"]), "are training clips, too", "test", True),
    "a clip of val in test": (
        lambda clips: clips[6].update(rgb=clips[3]["rgb"]), "are in another split of evaluation", "val", False),
    "a class without training clips": (
        lambda clips: [clip.update(label={"verb": np.int64(0)}) for clip in clips[:3]],
        "show a class of 'verb' that no training clip has: 'pull'", "val", True),
    "a black clip to test on": (
        lambda clips: clips[7].update(rgb=BLACK), "one colour all over, and can only be missed", "test", True),
    "a black clip to learn from": (
        lambda clips: clips[1].update(rgb=BLACK), "have rgb that shows one colour all over", "train", False),
    "a dark clip": (lambda clips: clips[7].update(rgb=DARK), "have rgb that is dark", "test", False),
    "a clip of one frame": (
        lambda clips: clips[3].update(lively(3, "val", 1)), "have one frame", "val", False),
    "flow at the bound": (
        lambda clips: clips[2].update(flow_x=FAST, flow_y=FAST), "have flow that moves further", "train", False),
    "a picture cut short": (
        lambda clips: clips[8]["rgb"].__setitem__(2, clips[8]["rgb"][2][:-9]), "are damaged", "test", True),
    "a picture that is none": (
        lambda clips: clips[8]["flow_x"].__setitem__(0, b"x" * 9 + b"\xff\xd9"), "are damaged", "test", True),
    "frames that were lost": (lambda clips: clips[0].update(num_frames=9), "are damaged", "train", True),
    "one id twice": (lambda clips: clips[4].update(id=clips[3]["id"]), "have an id that others have", "val", True),
    "no label": (
        lambda clips: clips[5].update(label={"verb": np.int64(-1)}), "have no label in 'verb'", "val", False),
    "no label to learn from": (
        lambda clips: clips[0].update(label={"verb": np.int64(-1)}), "have no label in 'verb'", "train", True),
    "a label of a class that there is not": (
        lambda clips: clips[8].update(label={"verb": np.int64(2)}), "are damaged", "test", True),
    "spans of a class that there is not": (
        lambda clips: clips[8].update(label={"verb": np.float32([[0, 0, 1], [7, 0, 1]])}),
        "are damaged", "test", True),
    "a label of too many classes": (
        lambda clips: clips[0].update(label={"verb": np.uint8([1, 0, 0])}), "are damaged", "train", True),
    "no frame rate": (lambda clips: clips[6].update(fps=0.0), "are damaged", "test", True),
    "a frame rate that is no number": (
        lambda clips: clips[6].update(fps=float("nan")), "are damaged", "test", True),
    "no frames": (lambda clips: clips[6].update(num_frames=0), "are damaged", "test", True),
    "sound of half a sample": (lambda clips: clips[6].update(audio=bytes(99)), "are damaged", "test", True),
    "equal clips, unlike labels": (
        lambda clips: clips[1].update(rgb=clips[0]["rgb"]), "are equal to another clip", "train", False),
    "a silent clip": (lambda clips: clips[1].update(audio=bytes(1000)), "audio that is silent", "train", False),
    "sound beyond its range": (
        lambda clips: clips[1].update(audio=np.full(99, 32767, "<i2").tobytes()), "overdriven", "train", False),
    "flow that ends early": (
        lambda clips: clips[1].update(lively(1, frames=30, flow_x=FAST[:1] * 9, flow_y=FAST[:1] * 9)),
        "ends more than a tenth too early", "train", False),
    "another frame rate": (lambda clips: clips[2].update(fps=60.0), "frames a second than most", "train", False),
    "a clip without flow to test on": (
        lambda clips: clips[7].update(flow_x=[], flow_y=[]),
        "have no flow, which training clips have", "test", False),
    "a clip without sound to learn from": (
        lambda clips: clips[1].update(audio=b""), "have no audio, which others have", "train", False),
    "a split without sound": (
        lambda clips: [clip.update(audio=b"") for clip in clips[3:6]],
        "have no audio, which training clips have", "val", False),
    "a training clip in test, encoded anew": (
        lambda clips: clips[6].update(rgb=anew(clips[0])), "look like training clips", "test", True),
    "a training clip in test, scaled and as a film": (
        lambda clips: clips[6].update(rgb=[], rgb_video=film(clips[0]), height=32, width=40),
        "look like training clips", "test", True),
    "depth without a reading": (
        lambda clips: clips[6].update(depth=UNREAD), "no reading anywhere", "test", True),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(name):
    plant, what, split, spoils = FAULTS[name]
    clips = healthy()
    plant(clips)
    found = found_in(clips)
    own = [problem for problem in found if what in problem.what]
    assert len(own) == 1 and own[0].spoils is spoils and split in own[0].clips and own[0].advice
    # Nothing else is said to spoil a score.
    assert not any(problem.spoils for problem in found if problem is not own[0])


def test_what_is_expected_and_missing_is_counted_and_named():
    expected = {"train": 4, "val": 3, "test": 5}
    found = found_in(healthy(), expected, rejected={"test": ["lost"], "train": ["gone"]})
    # A clip to learn from that is missing makes no score false.
    assert [problem.spoils for problem in found] == [True, False]
    assert found[0].clips == {"test": [("lost", ""), ("", "")]} and found[1].clips == {"train": [("gone", "")]}


def test_what_is_there_and_not_expected_is_counted():
    (own,) = found_in(healthy(), {"train": 3, "val": 1}, rejected={"val": ["lost"]})
    assert own.spoils and "more than metadata.json expects" in own.what
    assert {split: len(ids) for split, ids in own.clips.items()} == {"val": 2, "test": 3}


def test_a_dataset_of_which_no_training_clip_is_left_cannot_be_trained_on():
    (own,) = found_in(healthy()[3:], {"train": 2, "val": 3, "test": 3})
    assert own.spoils and own.clips == {"train": [("", "")] * 2}
    # One for evaluation alone expects none.
    assert found_in(healthy()[3:], {"val": 3, "test": 3}) == []


@pytest.mark.parametrize(
    "ids, told",
    [
        (["clip003", "clip004", "clip005", "clip999"], [("clip999", "has no record")]),
        (["clip003", "clip004"], [("clip005", "is not named")]),
        (["clip003", "clip005", "clip004"],
         [("clip004", "is called clip005"), ("clip005", "is called clip004")]),
    ],
)  # fmt: skip
def test_an_index_that_is_not_the_records_own_is_found(ids, told):
    (own,) = found_in(healthy(), index={"val": ids})
    assert own.clips == {"val": told} and own.spoils and "index.json" in own.what


def test_classes_that_no_clip_shows_are_named_and_spoil_nothing():
    clips = [checkup.look(Split(own["split"], [own]), 0, SPACES, 1) for own in healthy()]
    space = {"verb": Head(9, "single", ("push", "pull", "lift"))}
    (own,) = checkup.untrained(clips, space)
    assert own.clips == {} and not own.spoils and not checkup.spoilt(own, {})
    assert own.what == "7 of 9 classes of 'verb' are shown by no clip: 'lift', '3', '4', '5', '6' and 2 more"
    assert doctor.said(own, {}, spoils=False).startswith("note:   7 of 9 classes of 'verb'")


def test_one_id_of_unseen_in_val_is_meant():
    both = [lively(0), lively(1), lively(9, "val"), lively(9, "unseen")]
    assert found_in(both) == []
    (problem,) = found_in([*both, lively(9)])
    assert set(problem.clips) == {"val", "unseen"} and problem.spoils


def test_a_record_that_cannot_be_read_leaves_the_others_alone():
    class Broken(Split):
        def __getitem__(self, row):
            if row == 1:
                raise RuntimeError("checksum")
            return super().__getitem__(row)

    ids = ["clip000", "clip001", "clip002"]
    clips = [checkup.look(Broken("train", healthy()[:3]), row, SPACES, 2, ids[row]) for row in range(3)]
    assert [bool(clip.faults) for clip in clips] == [False, True, False] and "checksum" in clips[1].faults[0]
    problem, only_train = checkup.problems(clips, SPACES, {"train": 3}, {"train": ids}, {})
    assert "nothing can be scored" in only_train.advice
    assert problem.what == "are damaged" and problem.spoils and problem.clips["train"][0][0] == "clip001"


# ---------------------------------------------------------------------------- properties
SPLITS = st.sampled_from(("train", "val", "test"))


@given(st.lists(st.tuples(SPLITS, st.integers(1, 6)), max_size=12))
def test_shared_clips_are_those_whose_content_is_in_train(pairs):
    clips = [Clip(f"c{i}", split, content=content) for i, (split, content) in enumerate(pairs)]
    learnt = {content for split, content in pairs if split == "train"}
    wanted = {clip.id for clip in clips if clip.split != "train" and clip.content in learnt}
    for order in (clips, clips[::-1]):
        spoilt = [problem for problem in checkup.shared(order) if problem.spoils]
        assert {name for one in spoilt for own in one.clips.values() for name, _ in own} == wanted


def sketched(name, split, level, rng):
    """A clip of a scene of its own; ``level`` is added to its noise."""
    noise = rng.integers(0, 200, (3, 16, 16))
    return Clip(name, split, content=name, sketch=np.uint8(noise + level))


@pytest.mark.parametrize("apart", [0, checkup.LIKE, checkup.LIKE + 1])
def test_sketches_are_alike_up_to_a_limit_at_every_place(apart):
    rng = np.random.default_rng(0)
    clips = [sketched(f"c{i}", ("train", "val", "test")[i % 3], 0, rng) for i in range(60)]
    assert checkup.alike(clips) == [] and checkup.alike([c for c in clips if c.split != "train"]) == []
    copied = clips[30].sketch.copy()
    copied[1, 7, 11] += apart
    found = checkup.alike([*clips, Clip("copy", "test", content="copy", sketch=copied)])
    assert [problem.clips for problem in found] == [{"test": [("copy", "= c30 of train")]}] * (
        apart <= checkup.LIKE
    )
    # Where another training clip looks much like that one, too, likeness proves nothing.
    still = Clip("still", "train", content="still", sketch=np.uint8(clips[30].sketch + 2 * checkup.LIKE))
    found = checkup.alike([*clips, still, Clip("copy", "test", content="copy", sketch=copied)])
    assert [problem.spoils for problem in found] == [False] * (apart <= checkup.LIKE)
    # What has the very bytes of a training clip is told elsewhere.
    assert checkup.alike([*clips, Clip("copy", "test", content="c30", sketch=copied)]) == []


@given(st.integers(0, 20), st.integers(1, 20))
def test_so_much_is_tolerated_as_is_asked_for(count, size):
    problem = checkup.Problem("", {"test": [("", "")] * count, "val": []}, "", True)
    for tolerated in (0.0, 0.1, 1.0):
        assert checkup.spoilt(problem, {"test": size}, tolerated) == (count / size > tolerated)
    assert not checkup.spoilt(problem._replace(spoils=False), {"test": size})


@given(st.integers(0, 255))
def test_brightness_is_that_of_the_pictures(level):
    clip = lively(0, rgb=[JPEG(np.full((16, 20, 3), level, np.uint8))] * 4)
    found = fields.measured(clip, "rgb", fields.sampled(clip, "rgb", 2))
    assert found["brightness"] == pytest.approx(level, abs=1) and found["contrast"] < 1


@given(st.integers(0, 320))
def test_flow_at_the_bound_is_the_share_of_pixels_that_were_cut_off(count):
    plane = np.full(320, 128, np.uint8)
    plane[:count] = 255
    clip = lively(0, flow_x=[PNG(plane.reshape(16, 20))] * 3, flow_y=[PNG(np.full((16, 20), 128, np.uint8))] * 3)
    found = fields.measured(clip, "flow", fields.sampled(clip, "flow", 2))
    assert found["at the bound"] == pytest.approx(100 * count / 320)
    # Half a level is what lies between the two that stand for rest.
    assert found["motion"] == pytest.approx(6 * count / 320, abs=0.05)


def test_content_is_of_the_pictures_not_of_names_or_labels():
    clip = lively(0)
    same = clip | {"id": "other", "split": "test", "label": {}, "audio": b"", "fps": 25.0}
    assert fields.content(clip) == fields.content(same)
    assert fields.content(clip) != fields.content(clip | {"rgb": lively(1)["rgb"]})
    blind = fields.without(clip, ["rgb"])
    assert (
        fields.content(blind)
        != fields.content(blind | {"audio": b"ab"})
        == fields.content(blind | {"audio": b"ab"})
    )


# ---------------------------------------------------------------------------- the command
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


def ask(*argv):
    """The exit code of the command."""
    try:
        commands.start("doctor", [*map(str, argv)])
    except SystemExit as end:
        return end.code
    return 0


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
    assert ask(copy, "--tolerate=25") == 0
    assert "note:   1 of 4 test clips" in capsys.readouterr().out


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
    assert f"{copy}/{name} cannot be read" in err and re.search("buil[dt].* again", err)


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


@pytest.mark.parametrize("name", ["", "index.json", "metadata.json/x.json"])
def test_what_would_be_written_over_is_refused_before_anything_is_looked_at(copy, name, monkeypatch, capsys):
    monkeypatch.setattr(checkup, "look", None)
    assert ask(copy, f"--json={copy}/{name}") == 2
    assert f"--json={copy}" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ask(copy, f"--json={copy}/new/found.json") == 2
    assert f"may not write into {copy}" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--frames=0", "--tolerate=-1", "--splits=x", "--splits="])
def test_wrong_use(whole, flag, capsys):
    assert ask(whole, flag) == 2
    assert flag.split("=")[0] in capsys.readouterr().err
