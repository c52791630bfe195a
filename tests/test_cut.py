"""Sound and boxes in batches: beside pictures, of the same frames, mirrored with them, never cropped."""

import functools

import fake
import jax
import numpy as np
from fake import Source
from hypothesis import given
from hypothesis import strategies as st

from mmvid import operations, prepare
from mmvid.data import cut, pictures
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.models import build_model
from mmvid.streams import Head, Sampling, Stream, in_channels

DENSE = Sampling("dense", 4, 4)
RGB, FLOW = Stream("rgb", "rgb", DENSE), Stream("flow", "flow", DENSE, "stack5")
AUDIO, BOXES = Stream("audio", "audio", DENSE, "logmel"), Stream("boxes", "boxes", DENSE, "layout")
HEADS = {"action": Head(5)}


def batch_of(streams, source=None, views=("train",), size=4, seed=3, **augment):
    group = Group("train", size, {view: Augment(**augment) for view in views})
    source = Source(frames=30) if source is None else source
    made = fake.trained({"main": source}, {"main": group}, streams, heads=HEADS, size=24, seed=seed, stop=1)
    return made[0]["main"]


def evaluated(streams, source, **options):
    made = fake.tested(source, streams, heads=HEADS, size=24, batch_size=4, **options)
    return made[0]["main"]


def test_pictures_are_as_without_sound_and_boxes():
    alone = batch_of((RGB, FLOW))["inputs"]["train"]
    beside = batch_of((RGB, FLOW, AUDIO, BOXES))["inputs"]["train"]
    jax.tree.map(np.testing.assert_array_equal, alone, {name: beside[name] for name in alone})


def test_sparse_boxes_and_a_short_track_shorten_nobody():
    class Sparse(Source):
        def __getitem__(self, row):
            record = super().__getitem__(row)
            return record | {"boxes": record["boxes"][:2], "audio": record["audio"][:100]}

    whole, sparse = (batch_of((RGB, AUDIO, BOXES), source(frames=30)) for source in (Source, Sparse))
    np.testing.assert_array_equal(whole["inputs"]["train"]["rgb"], sparse["inputs"]["train"]["rgb"])
    assert sparse["present"]["boxes"].all() and sparse["present"]["audio"].all()


def test_shapes_types_and_absence():
    batch = batch_of((AUDIO, RGB, BOXES), Source(4, silent=(1, 3)))
    audio, boxes = (batch["inputs"]["train"][name] for name in ("audio", "boxes"))
    assert (audio.shape, audio.dtype) == ((4, 100, 256), np.int16)
    assert (boxes.shape, boxes.dtype) == ((4, 4, 14, 8), np.float32)
    there = ~np.isin(batch["id"], (1, 3))
    for name in ("audio", "boxes"):
        np.testing.assert_array_equal(batch["present"][name], there)
        assert not batch["inputs"]["train"][name][~there].any() and batch["inputs"]["train"][name][there].any()


def test_sound_and_boxes_are_of_the_frames_that_are_seen():
    """A frame's pixels, its box and its samples tell its number."""
    # All of one length, so that none is shifted against another.
    batch = batch_of((RGB, AUDIO, BOXES), scales=(1.0,))
    inputs = batch["inputs"]["train"]
    frames = inputs["rgb"][:, :, 12, 12, 0].astype(int) - 10 * batch["id"][:, None]
    np.testing.assert_allclose(inputs["boxes"][:, :, 0, 0], np.minimum(frames / 40, 47 / 48), atol=1e-6)
    first = frames[:, 0] * 16_000 / 12
    np.testing.assert_allclose(inputs["audio"][:, 0, 0], np.round(first) % 1000, atol=1)
    # 4 frames are a third of a second.
    np.testing.assert_allclose(inputs["audio"][:, -1, -1], np.round(first + 16_000 / 3 - 1) % 1000, atol=1)


def test_evaluation_gives_views_to_all():
    source = Source(4, frames=30, silent=(2,))
    streams = (RGB, AUDIO, BOXES)
    clips = evaluated(streams, source, protocol="D1U2", crops="centre")["inputs"]["test"]
    crops = evaluated(streams, source, protocol="D1U2", crops="three", resize=28)["inputs"]["test"]
    assert crops["audio"].shape == (4, 9, 100, 256) and crops["boxes"].shape == (4, 9, 4, 14, 8)
    for name in ("audio", "boxes"):  # never cropped
        np.testing.assert_array_equal(crops[name], np.repeat(clips[name], 3, 1))
        assert not crops[name][2].any() and clips[name][0].any()
    assert not np.array_equal(clips["boxes"][0, 0], clips["boxes"][0, 1])


def test_boxes_are_mirrored_with_their_group_and_others_never():
    streams = (RGB, BOXES, BOXES._replace(name="still", geometry=""))
    batch = batch_of(streams, Source(20, frames=30), size=16, scales=(1.0,), flip=True)
    plain = batch_of(streams, Source(20, frames=30), size=16, scales=(1.0,))["inputs"]["train"]
    inputs = batch["inputs"]["train"]
    mirrored = [not np.array_equal(a, b) for a, b in zip(inputs["boxes"], inputs["still"])]
    assert 3 < sum(mirrored) < 13
    np.testing.assert_array_equal(inputs["still"], plain["still"])
    for i in np.flatnonzero(mirrored):
        there = inputs["still"][i, :, 0]
        np.testing.assert_allclose(inputs["boxes"][i, :, 0, 0], (1 - there[:, 2]), atol=1e-6)
        np.testing.assert_array_equal(inputs["boxes"][i, ..., 1], inputs["still"][i, ..., 1])


def test_a_flip_that_changes_the_label_mirrors_all_boxes():
    streams = (BOXES, BOXES._replace(name="still", geometry=""))
    inputs = batch_of(streams, Source(20, frames=30), size=16, flip=True, flip_labels=((0, 1),))["inputs"]["train"]
    np.testing.assert_array_equal(inputs["boxes"], inputs["still"])


FLIP = jax.jit(functools.partial(operations.paint, BOXES))
share, few = st.floats(0, 1, width=32), st.integers(0, 2)
boxes = st.tuples(share, share, share, share, few, share, few)


@given(st.lists(boxes, min_size=1, max_size=5))
def test_layouts_are_sane_and_mirrored_twice_the_same(rows):
    """In order, on the picture, a pixel wide at least. In the mirror they are, bit for bit, what the device makes
    of them: a left hand is a right one there."""
    record = {"id": "a", "num_frames": 1, "width": 64, "height": 32,
              "boxes": np.float32([[0, *row, 1] for row in rows])}  # fmt: skip
    frames = {"boxes": np.zeros((1, 1), int)}

    def shown(flip):
        how = cut.Show({"main": cut.WHOLE._replace(flip=flip)}, 24)
        return cut.cut(record, {}, (BOXES,), frames, how)["boxes"][0]

    plain, mirrored = shown(False), shown(True)
    for layout, least, most in ((plain, 0, 63 / 64), (mirrored, 1 / 64, 1)):
        real = layout[layout[:, 4] > 0]
        assert len(real) == sum(row[4] > 0 for row in rows)
        assert (real[:, [0, 2]] >= least).all() and (real[:, [0, 2]] <= most).all()
        assert (real[:, [1, 3]] >= 0).all() and (real[:, [1, 3]] <= 31 / 32).all()
        assert (real[:, 2] > real[:, 0]).all() and (real[:, 3] > real[:, 1]).all()
        assert (layout[layout[:, 4] == 0] == np.float32([*cut.EMPTY, 0, 0, 0, 0])).all()
    np.testing.assert_array_equal(np.array([0, 2, 1])[plain[:, 6].astype(int)], mirrored[:, 6])
    flips = {"main": {"flip": np.array([True, False])}}
    there, here = FLIP(np.stack([plain, plain])[:, None], flips)[:, 0]
    np.testing.assert_array_equal(there, mirrored)
    np.testing.assert_array_equal(here, plain)
    np.testing.assert_allclose(operations.mirrored_boxes(mirrored), plain, atol=1e-6)


# ---------------------------------------------------------------------------- boxes as pictures
WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def drawn(boxes, side, flip=False):
    """The picture of a frame with boxes (x1, y1, x2, y2, category)."""
    record = {"id": "a", "num_frames": 1, "width": 224, "height": 224,
              "boxes": np.float32([[0, *box, 0.9, 0, 1] for box in boxes]).reshape(-1, 9)}  # fmt: skip
    stream = BOXES._replace(form="outlines", sampling=Sampling("dense", 1, 1))
    how = cut.Show({"main": cut.WHOLE._replace(flip=flip)}, side)
    return cut.cut(record, {}, (stream,), {"boxes": np.zeros((1, 1), int)}, how)["boxes"][0]


def test_boxes_are_drawn_in_the_colours_of_their_categories():
    """Two pixels wide on white at 224, objects red, hands blue, inside and outside white."""
    picture = drawn([(0.25, 0.5, 0.5, 0.75, 1), (0.75, 0.25, 1, 0.5, 2)], 224)
    expected = np.full((224, 224, 3), 255, np.uint8)
    expected[112:168, 56:112] = RED
    expected[114:166, 58:110] = WHITE
    # The loader ends boxes a pixel before the picture does (`_sane`).
    expected[56:112, 168:223] = BLUE
    expected[58:110, 170:221] = WHITE
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(
        drawn([(0.25, 0.5, 0.5, 0.75, 1)], 224, flip=True), drawn([(0.5, 0.5, 0.75, 0.75, 1)], 224)
    )
    # A quarter of the side: half a pixel would be nothing.
    small = drawn([(0.25, 0.5, 0.5, 0.75, 1)], 48)
    expected = np.full((48, 48, 3), 255, np.uint8)
    expected[24:36, 12:24] = RED
    expected[25:35, 13:23] = WHITE
    np.testing.assert_array_equal(small, expected)


def test_what_is_no_box_is_not_drawn_and_what_is_small_is():
    assert (drawn([(0.1, 0.1, 0.9, 0.9, 0)], 48) == 255).all() and (drawn([], 48) == 255).all()
    point = drawn([(1, 1, 1, 1, 2)], 48)
    assert (point[47, 47] == BLUE).all() and (point == 255).all(-1).sum() == 48 * 48 - 1
    # The later one is on top.
    over = drawn([(0.25, 0.25, 0.75, 0.75, 1), (0.25, 0.25, 0.75, 0.75, 2)], 48)
    assert not (over == RED).all(-1).any() and (over == BLUE).all(-1).sum() == 4 * 23


def test_pictures_of_boxes_go_beside_others():
    """Never cropped, of the frames of their stream, black where they are absent, mirrored with their group."""
    outlines = BOXES._replace(name="outlines", form="outlines")
    source, streams = Source(20, frames=30, silent=(2,)), (RGB, BOXES, outlines)
    batch = batch_of(streams, source, size=20, flip=True)
    shown, layouts = (batch["inputs"]["train"][name] for name in ("outlines", "boxes"))
    assert shown.shape == (20, 4, 24, 24, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown.any((1, 2, 3, 4)), batch["present"]["outlines"])
    there = batch["present"]["outlines"]
    np.testing.assert_array_equal(shown[there], pictures.outlines(layouts[there], 24))
    alone = batch_of((RGB, BOXES), source, size=20, flip=True)["inputs"]["train"]
    jax.tree.map(np.testing.assert_array_equal, alone, {name: batch["inputs"]["train"][name] for name in alone})
    crops = evaluated((outlines,), Source(4, frames=30), crops="three", resize=28)["inputs"]["test"]["outlines"]
    assert crops.shape == (4, 3, 4, 24, 24, 3)
    np.testing.assert_array_equal(crops[:, 0], crops[:, 2])


# ---------------------------------------------------------------------------- flow in 2 and 3 channels
def test_flow_in_two_or_three_channels_is_one_flow():
    """(u, v) and (u, v, 0), cut, mirrored and negated alike; both fit a 3-D network."""
    two, three = (FLOW._replace(name=form, form=form) for form in ("frames", "image3"))
    inputs = batch_of((two, three), Source(8, frames=30), size=8, flip=True)["inputs"]["train"]
    assert inputs["frames"].shape == (8, 4, 24, 24, 2) and inputs["image3"].shape == (8, 4, 24, 24, 3)
    np.testing.assert_array_equal(inputs["frames"], inputs["image3"][..., :2])
    assert not inputs["image3"][..., 2].any()
    # On the device a flip is what it is in the loader; colour pictures of flow are mirrored alone.
    flips = {"main": {"flip": np.arange(8) % 2 == 0}}
    flipped = {s.name: operations.paint(s, inputs[s.name], flips) for s in (two, three)}
    np.testing.assert_array_equal(flipped["frames"], flipped["image3"][..., :2])
    np.testing.assert_array_equal(flipped["frames"][::2, ..., 0], 255 - inputs["frames"][::2, :, :, ::-1, 0])
    assert not flipped["image3"][..., 2].any()
    colours = inputs["image3"] + np.uint8(1)
    np.testing.assert_array_equal(operations.paint(three, colours, flips)[::2], colours[::2, :, :, ::-1])
    for stream in (two, three):
        seen = prepare.prepare(stream, inputs[stream.name])
        model = build_model("r3d_18", heads=HEADS, in_channels=in_channels(stream), stages=(1, 1, 1, 1), width=4)
        out = jax.eval_shape(
            lambda x, m=model: m.apply(*m.init(jax.random.key(0), x), x, train=False, key=None)[0], seen
        )
        assert out["logits"]["action"].shape == (8, 5)
