"""Modalities hidden on purpose: the right share of the clips, always the same ones, never all."""

import collections
import pickle

import fake
import numpy as np
import pytest
from fake import Source

from mmvid.data.augment import Augment
from mmvid.data.fields import present
from mmvid.data.groups import Group
from mmvid.data.missing import Incomplete
from mmvid.streams import Head, Sampling, Stream

FIELDS = ("rgb", "flow", "depth")


class Light:
    """Records without pictures, of which there may be thousands."""

    split = "train"

    def __init__(self, n=1500, lacks=()):
        self.n, self.lacks = n, lacks

    def __len__(self):
        return self.n

    def ids(self):
        return [f"clip{i}" for i in range(self.n)]

    def __getitem__(self, row):
        record = {
            "id": f"clip{row}", "num_frames": 2, "rgb": [], "rgb_video": b"mp4", "flow_x": [b"x"],
            "flow_y": [b"y"], "depth": [b"d", b"d"], "audio": b"pcm", "boxes": np.zeros((3, 9), np.float32),
        }  # fmt: skip
        return record | {name: record[name][:0] for name in self.lacks}


def there(source):
    """The fields that each clip has."""
    return [frozenset(f for f in FIELDS if present(source[i], f)) for i in range(len(source))]


def test_shares_come_out_right_and_independent():
    found = there(Incomplete(Light(), {"flow": 0.3, "depth": 0.5}, 0))
    lacks = {f: np.array([f not in clip for clip in found]) for f in FIELDS}
    assert not lacks["rgb"].any()
    assert lacks["flow"].mean() == pytest.approx(0.3, abs=0.04)
    assert lacks["depth"].mean() == pytest.approx(0.5, abs=0.04)
    assert (lacks["flow"] & lacks["depth"]).mean() == pytest.approx(0.15, abs=0.03)


def test_never_everything():
    for shares in ((0.6, 0.6, 0.6), (1.0, 1.0, 1.0), (1.0, 0.4, 0.9)):
        assert all(there(Incomplete(Light(400), dict(zip(FIELDS, shares)), 3, FIELDS)))
    # Where every one is to go, each stays equally often.
    counts = collections.Counter(there(Incomplete(Light(), dict.fromkeys(FIELDS, 1.0), 0, FIELDS)))
    assert set(counts) == {frozenset([f]) for f in FIELDS} and min(counts.values()) > 400


def test_what_nobody_reads_saves_nothing():
    """Boxes are in the records, but no network of the run would see them."""
    hidden = Incomplete(Light(50), {"rgb": 1.0, "flow": 1.0}, 0, ("rgb", "flow"))
    assert all(len(clip & {"rgb", "flow"}) == 1 for clip in there(hidden))
    assert all(clip == {"depth"} for clip in there(Incomplete(Light(50), {"rgb": 1.0, "flow": 1.0}, 0, FIELDS)))


def test_a_clip_with_one_modality_keeps_it():
    only = Light(50, lacks=("rgb_video", "depth"))
    assert all(clip == {"flow"} for clip in there(Incomplete(only, dict.fromkeys(FIELDS, 1.0), 0, FIELDS)))
    empty = Light(3, lacks=("rgb_video", "depth", "flow_x", "flow_y"))
    assert not any(there(Incomplete(empty, dict.fromkeys(FIELDS, 1.0), 0, FIELDS)))


def test_the_seed_and_the_clip_decide():
    """Not the order of the clips, the other shares or the process."""
    shares = {"flow": 0.3, "depth": 0.5}
    first = there(Incomplete(Light(300), shares, 0))
    assert there(pickle.loads(pickle.dumps(Incomplete(Light(300), shares, 0)))) == first
    assert there(Incomplete(Light(300), shares, 1)) != first
    alone = there(Incomplete(Light(300), {"flow": 0.3}, 0))
    assert [("flow" in a) for a in alone] == [("flow" in a) for a in first]
    # A larger share hides what a smaller one did, and more.
    more = there(Incomplete(Light(300), {"flow": 0.6}, 0))
    assert all(("flow" in a) or ("flow" not in b) for a, b in zip(alone, more, strict=True))
    # The clips themselves, as every machine must find them.
    assert [i for i, clip in enumerate(alone[:20]) if "flow" not in clip] == [1, 3, 5, 6, 8, 9, 12, 14, 15, 18]


def test_the_rest_of_a_record_is_as_it_was():
    source = Light(20)
    hidden = Incomplete(source, {"rgb": 1.0}, 0)
    assert len(hidden) == 20 and hidden.ids() == source.ids() and hidden.split == "train"
    for row in range(20):
        before, after = source[row], hidden[row]
        assert before.keys() == after.keys() and after["rgb_video"] == b"" and before["rgb_video"]
        assert all(
            after[k] is v or k == "rgb" or after[k] == v
            for k, v in before.items()
            if k not in ("rgb_video", "boxes")
        )


def test_what_cannot_be_hidden_is_explained():
    with pytest.raises(ValueError, match="'thermal'; choose from"):
        Incomplete(Light(), {"thermal": 0.5}, 0)
    with pytest.raises(ValueError, match=r"flow=1\.5.*\[0, 1\]"):
        Incomplete(Light(), {"flow": 1.5}, 0)


def test_the_loader_marks_what_is_hidden():
    streams = (Stream("rgb", "rgb", Sampling("uniform", 2)), Stream("flow", "flow", Sampling("uniform", 2)))
    hidden = Incomplete(Source(12), {"rgb": 0.5, "flow": 0.5}, 0, ("rgb", "flow"))
    dataset = fake.trained(
        {"main": hidden}, {"main": Group("train", 12, {"train": Augment()})}, streams,
        heads={"action": Head(5)}, size=16, seed=0, start=0, stop=1,
    )  # fmt: skip
    batch = dataset[0]["main"]
    for row, clip in enumerate(batch["id"]):
        for name in ("rgb", "flow"):
            assert batch["present"][name][row] == present(hidden[int(clip)], name)
            assert batch["inputs"]["train"][name][row].any() == batch["present"][name][row]
    assert (batch["present"]["rgb"] | batch["present"]["flow"]).all()
    assert not batch["present"]["rgb"].all() and not batch["present"]["flow"].all()
