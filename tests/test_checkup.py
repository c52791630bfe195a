"""What is wrong with a dataset: every fault is found where it was put, and nowhere else."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_records import HEADS, record

from mmvid.data import checkup, examine, fields
from mmvid.data import frames as frames_lib
from mmvid.report import doctor
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
        examine.look(Split(name, own), row, SPACES, 3) for name, own in splits.items() for row in range(len(own))
    ]
    sizes = expected or {name: len(own) for name, own in splits.items()}
    return checkup.problems(looked, SPACES, sizes, index or {}, rejected or {})


def test_a_healthy_dataset_has_no_problem():
    assert found_in(healthy()) == []


# ---------------------------------------------------------------------------- faults, one at a time
def anew(clip, changed=lambda picture: picture):
    """The pictures of a clip, encoded once more: other bytes."""
    return [JPEG(np.ascontiguousarray(changed(own))) for own in fields.decode_frames(clip, "rgb", range(4))]


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
    "a training clip in test, mirrored": (
        lambda clips: clips[6].update(rgb=anew(clips[0], lambda picture: picture[:, ::-1])),
        "once mirrored or made as bright", "test", True),
    "a training clip in test, brightened": (
        lambda clips: clips[6].update(rgb=anew(clips[0], lambda picture: picture + np.uint8(25))),
        "once mirrored or made as bright", "test", True),
    "depth without a reading": (
        lambda clips: clips[6].update(depth=UNREAD), "no reading anywhere", "test", True),
    "a film that stands still": (
        lambda clips: clips[4].update(rgb=clips[4]["rgb"][:1] * 4), "have rgb that stands still", "val", False),
    "a film that is black but for a picture": (
        lambda clips: clips[7].update(rgb=[*clips[7]["rgb"][:1], *BLACK[1:]]), "one colour most of the time",
        "test", False),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(name):
    plant, what, split, spoils = FAULTS[name]
    clips = healthy()
    plant(clips)
    found = found_in(clips)
    own = [problem for problem in found if what in problem.what]
    assert (
        len(own) == 1
        and own[0].spoils is spoils
        and own[0].kind in ("", *checkup.KINDS)
        and split in own[0].clips
        and own[0].advice
    )
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
    clips = [examine.look(Split(own["split"], [own]), 0, SPACES, 1) for own in healthy()]
    space = {"verb": Head(9, "single", ("push", "pull", "lift"))}
    (own,) = checkup.untrained(clips, space)
    assert own.clips == {} and not own.spoils and not checkup.spoilt(own, {}, {})
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
    clips = [examine.look(Broken("train", healthy()[:3]), row, SPACES, 2, ids[row]) for row in range(3)]
    assert [bool(clip.faults) for clip in clips] == [False, True, False] and "checksum" in clips[1].faults[0]
    problem, only_train = checkup.problems(clips, SPACES, {"train": 3}, {"train": ids}, {})
    assert "nothing can be scored" in only_train.advice
    assert problem.what == "are damaged" and problem.spoils and problem.clips["train"][0][0] == "clip001"


@given(st.integers(0, 20), st.integers(1, 20))
def test_so_much_is_tolerated_as_is_asked_for(count, size):
    problem = checkup.Problem("", {"test": [("", "")] * count, "val": []}, "", "copies")
    for tolerated in (0.0, 0.1, 1.0):
        shares = {"copies": tolerated, "ids": 1.0}
        assert checkup.spoilt(problem, {"test": size}, shares) == (count / size > tolerated)
    assert checkup.spoilt(problem, {"test": size}, {"ids": 1.0}) == (count > 0)
    assert not checkup.spoilt(problem._replace(kind=""), {"test": size}, {})
