"""Copies of clips: those of the same bytes, and those that look alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_checkup import lively

from mmvid.data import checkup, copies, fields
from mmvid.data.examine import LIKE, Clip

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


@pytest.mark.parametrize("apart", [0, LIKE, LIKE + 1])
def test_sketches_are_alike_up_to_a_limit_at_every_place(apart):
    rng = np.random.default_rng(0)
    clips = [sketched(f"c{i}", ("train", "val", "test")[i % 3], 0, rng) for i in range(60)]
    assert checkup.alike(clips) == [] and checkup.alike([c for c in clips if c.split != "train"]) == []
    copied = clips[30].sketch.copy()
    copied[1, 7, 11] += apart
    found = checkup.alike([*clips, Clip("copy", "test", content="copy", sketch=copied)])
    assert [problem.clips for problem in found] == [{"test": [("copy", "= c30 of train")]}] * (apart <= LIKE)
    # Where another training clip looks much like that one, too, likeness proves nothing.
    still = Clip("still", "train", content="still", sketch=np.uint8(clips[30].sketch + 2 * LIKE))
    found = checkup.alike([*clips, still, Clip("copy", "test", content="copy", sketch=copied)])
    assert [problem.spoils for problem in found] == [False] * (apart <= LIKE)
    # What has the very bytes of a training clip is told elsewhere.
    assert checkup.alike([*clips, Clip("copy", "test", content="c30", sketch=copied)]) == []


@pytest.mark.parametrize("way", ["as it is", "mirrored"])
def test_likeness_of_another_label_is_a_note(way):
    rng = np.random.default_rng(0)
    clips = [sketched(f"c{i}", "train", 0, rng)._replace(classes={"verb": (0,)}) for i in range(60)]
    turned = clips[30].sketch[:, :, ::-1] if way == "mirrored" else clips[30].sketch
    copied = Clip("copy", "test", content="copy", sketch=np.uint8(turned + 1))
    # What has no label, or that one among others, contradicts nothing.
    for classes, spoils in (({"verb": (1,)}, False), ({"verb": (0, 1)}, True), ({"verb": ()}, True), ({}, True)):
        (problem,) = checkup.alike([*clips, copied._replace(classes=classes)])
        assert problem.spoils == spoils and ("another label" in problem.what) != spoils
        assert [name for name, _ in problem.clips["test"]] == ["copy"]


WAYS = {
    "brightness": lambda sketch: sketch * 0.7 + 40,
    "mirrored": lambda sketch: sketch[:, :, ::-1],
    "mirrored and darker": lambda sketch: sketch[:, :, ::-1] * 0.8,
}


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_found_mirrored_and_in_another_brightness(way):
    rng = np.random.default_rng(1)
    clips = [sketched(f"c{i}", ("train", "val", "test")[i % 3], 0, rng) for i in range(60)]
    assert list(copies.altered(clips)) == []
    noise = rng.integers(-3, 4, (3, 16, 16))
    copied = Clip("copy", "test", content="copy", sketch=np.uint8(WAYS[way](clips[30].sketch) + 4 + noise))
    ((clip, first, told),) = copies.altered([*clips, copied])
    assert (clip.id, first.id) == ("copy", "c30") and way.startswith(told)
    # Neither where other training clips look like that one, nor where there is next to no contrast.
    still = Clip("still", "train", content="still", sketch=np.uint8(clips[30].sketch + LIKE))
    assert list(copies.altered([*clips, still, copied])) == []
    faint = [clip._replace(sketch=np.uint8(100 + clip.sketch * 0.1)) for clip in (*clips, copied)]
    assert list(copies.altered(faint)) == []
    # What has the very bytes of a training clip is told elsewhere.
    assert list(copies.altered([*clips, copied._replace(content="c30")])) == []


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
