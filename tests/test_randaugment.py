"""Strong views against PIL, operation by operation and in sequence; flow turns along; all frames alike."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from mmvid import operations, randaugment, strong
from mmvid.streams import MODALITIES, Sampling, Stream, host_shape
from mmvid.strong import LEVELS, MOVES, POOL, ROW, TONES

SIDE, CLIPS, FRAMES = 24, 8, 2
RGB, FLOW = Stream("rgb", "rgb"), Stream("flow", "flow", form="stack5")
BLENDS = {"brightness": ImageEnhance.Brightness, "color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
          "sharpness": ImageEnhance.Sharpness}  # fmt: skip


def by_pil(name, level, picture):
    """FixMatch's operation on a PIL picture."""
    width, height = picture.size
    affine = lambda *numbers: picture.transform(picture.size, Image.Transform.AFFINE, numbers)  # noqa: E731
    share = level * 0.3 / 10
    if name in BLENDS:
        return BLENDS[name](picture).enhance(level * 0.9 / 10 + 0.05)
    return {
        "identity": lambda: picture,
        "auto_contrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "posterize": lambda: ImageOps.posterize(picture, int(level * 4 / 10) + 4),
        "solarize": lambda: ImageOps.solarize(picture, 256 - int(level * 256 / 10)),
        "rotate": lambda: picture.rotate(int(level * 30 / 10)),
        "shear_x": lambda: affine(1, share, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, share, 1, 0),
        "translate_x": lambda: affine(1, 0, int(share * width), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, int(share * height)),
    }[name]()


def cut_by_pil(picture, x, y):
    """FixMatch's Cutout of half a side."""
    (width, height), size = picture.size, min(picture.size) // 2
    x0, y0 = (int(max(0, share * side - size / 2)) for share, side in ((x, width), (y, height)))
    corners = x0, y0, int(min(width, x0 + size)), int(min(height, y0 + size))
    if max(x0 - width, y0 - height) > 0:
        return picture
    ImageDraw.Draw(picture).rectangle(corners, (127, 127, 127))
    return picture


def expected(pictures, drawn):
    """The strong view of uint8 [T, H, W, 3] by PIL, picture by picture."""
    out = []
    for picture in pictures:
        image = Image.fromarray(picture)
        for row, level in drawn[:2]:
            image = by_pil(POOL[int(row)], int(level), image)
        out.append(np.asarray(cut_by_pil(image.copy(), *map(float, drawn[2]))))
    return np.stack(out)


def pictures(seed, clips=CLIPS, side=SIDE):
    """Clips of noise on slopes, each channel of some range of its own: uint8 [clips, FRAMES, side, side, 3]."""
    rng = np.random.default_rng(seed)
    shape = (clips, FRAMES, side, side, 3)
    slope = np.linspace(0, 1, side).reshape(side, 1, 1) * rng.random((clips, FRAMES, 1, 1, 3))
    low, high = np.sort(rng.integers(0, 256, (2, clips, FRAMES, 1, 1, 3)), 0)
    return np.uint8(low + (high - low) * np.clip(slope + 0.3 * rng.normal(size=shape), 0, 1))


def numbers(names, levels, centre=(2.0, 2.0)):
    """Draws of one clip; by default the square lies outside of the picture."""
    return np.float32([*((ROW[n], v) for n, v in zip(names, levels)), centre])


def signed(name):
    return st.integers(1 - LEVELS, LEVELS - 1).filter(bool) if name in MOVES else st.integers(1, LEVELS - 1)


@functools.cache
def painter(stream):
    return jax.jit(functools.partial(operations._strong, stream))


# ---------------------------------------------------------------------------- against PIL
@pytest.mark.parametrize("name", POOL)
def test_an_operation_is_pils(name):
    """At every level, of many pictures: to the bit, but where PIL computes in floats."""
    x, levels = pictures(ROW[name]), np.arange(1, LEVELS)
    levels = np.concatenate([levels, -levels]) if name in MOVES else levels
    for some in np.resize(levels, (-(-len(levels) // CLIPS), CLIPS)):
        drawn = np.stack([numbers((name, "identity"), (level, 1)) for level in some])
        found = np.asarray(painter(RGB)(x, drawn)).astype(int)
        want = np.stack([expected(*clip) for clip in zip(x, drawn)])
        if name in MOVES:
            assert (found == want).all(-1).mean() >= 0.999
        else:
            assert np.abs(found - want).max() <= 1 and (found == want).mean() > 0.99


@settings(max_examples=12)
@given(st.data())
def test_two_operations_and_the_square_are_pils_in_sequence(data):
    """In any order; what is outside of a moved picture is black for what comes after."""
    drawn = []
    for _ in range(CLIPS):
        names = data.draw(st.tuples(st.sampled_from(POOL), st.sampled_from(POOL)))
        share = st.floats(0, 1, exclude_max=True, width=32)
        drawn.append(numbers(names, [data.draw(signed(n)) for n in names], data.draw(st.tuples(share, share))))
    x, drawn = pictures(data.draw(st.integers(0, 10**6))), np.stack(drawn)
    found = np.asarray(painter(RGB)(x, drawn)).astype(int)
    # PIL goes on from our first operation: a level between the two would grow where Equalize or AutoContrast come
    # second.
    first, second, nothing = drawn.copy(), drawn.copy(), (ROW["identity"], 1)
    first[:, 1:], second[:, 0] = (nothing, (2.0, 2.0)), nothing
    between = np.asarray(painter(RGB)(x, first)).astype(np.uint8)
    for clip, middle, own, last, got in zip(x, between, first, second, found):
        for ours, pils in ((middle.astype(int), expected(clip, own)), (got, expected(middle, last))):
            assert (np.abs(ours - pils) <= 1).all(-1).mean() >= 0.99, (own, last)


def test_a_picture_of_one_value_stays_whole():
    """Equalize and AutoContrast have no range to stretch."""
    x = np.full((CLIPS, FRAMES, SIDE, SIDE, 3), 77, np.uint8)
    names = ("equalize", "auto_contrast", "sharpness", "contrast", "color", "identity", "identity", "identity")
    drawn = np.stack([numbers((name, "identity"), (9, 1)) for name in names])
    np.testing.assert_array_equal(painter(RGB)(x, drawn), x)


# ---------------------------------------------------------------------------- what is shared
def test_every_operation_is_alike_on_all_frames():
    """Equal pictures stay equal, in time and in stacks; differences see none."""
    rng = np.random.default_rng(0)
    diff = Stream("d", "diff", Sampling(frames=FRAMES), "stack5")
    drawn = np.stack([strong.draw(rng, True) for _ in range(CLIPS)])
    drawn[:, :2, 0] = rng.permuted(np.resize(np.arange(1, len(POOL)), (CLIPS, 2)), axis=0)
    one = pictures(3)[:, :1]
    x = np.tile(one, (1, FRAMES, 1, 1, 6))
    found = np.asarray(painter(diff)(x, drawn)).reshape(CLIPS, FRAMES, SIDE, SIDE, 6, 3)
    assert (found == found[:, :1, :, :, :1]).all()
    np.testing.assert_array_equal(found[:, :, :, :, 0], painter(RGB)(np.tile(one, (1, FRAMES, 1, 1, 1)), drawn))


def test_streams_of_a_group_move_together():
    """Beside RGB flow and depth move as RGB does, and are left alone where RGB draws a tone."""
    rng, depth = np.random.default_rng(0), Stream("depth", "depth")
    drawn = operations.draw(rng, ("strong",), (RGB, FLOW, depth))["main"]["strong"]
    assert drawn.shape == (3, 2) and drawn.dtype == np.float32
    x = np.arange(1, SIDE * SIDE + 1).reshape(1, 1, SIDE, SIDE, 1) % 250 + 1
    rgb = np.uint8(np.tile(x, (CLIPS, FRAMES, 1, 1, 3)))
    names = [(m, t) for m in MOVES for t in ("identity",)] + [("rotate", "shear_x"), ("shear_y", "rotate")]
    drawn = np.stack([numbers(n, (7, -4)) for n in (*names, ("solarize", "posterize"))])
    near = np.asarray(painter(depth)(rgb[..., :1], drawn))
    seen = np.asarray(painter(RGB)(rgb, drawn))
    np.testing.assert_array_equal(near[:-1], seen[:-1, ..., :1])
    np.testing.assert_array_equal(near[-1], rgb[-1, ..., :1])
    alone = [operations.draw(rng, ("strong",), (FLOW, depth))["main"]["strong"] for _ in range(400)]
    rows = np.stack(alone)[:, :2, 0].astype(int).ravel()
    assert set(rows) == {ROW[name] for name in ("identity", *MOVES)} and 0.4 < (rows > 0).mean() < 0.6


def test_draws_are_fixmatchs():
    """Fourteen operations alike, each applied half of the time at levels 1 to 9; signs where a picture moves."""
    rng = np.random.default_rng(0)
    drawn = np.stack([strong.draw(rng, True) for _ in range(7000)])
    rows, levels = drawn[:, :2, 0].astype(int).ravel(), drawn[:, :2, 1].ravel()
    share = np.bincount(rows, minlength=14) / len(rows)
    np.testing.assert_allclose(share[1:], 1 / 28, atol=0.006)
    assert set(np.abs(levels)) == set(range(1, 10))
    moving = np.isin(rows, [ROW[name] for name in MOVES])
    assert 0.45 < (levels[moving] < 0).mean() < 0.55
    assert (levels[np.isin(rows, [ROW[n] for n in TONES])] > 0).all()
    assert (drawn[:, 2] >= 0).all() and (drawn[:, 2] < 1).all() and 0.48 < drawn[:, 2].mean() < 0.52


# ---------------------------------------------------------------------------- motion
def radial(name, level, side=65):
    """Flow (u, v) that is everywhere the place itself, seen from the middle, and what it becomes, float32."""
    y, x = np.indices((side, side)) - side // 2
    stored = np.uint8(np.rint(127.5 + np.stack([x, y], -1)))
    flow = Stream("f", "flow", form="frames")
    drawn = numbers((name, "identity"), (level, 1))
    found = painter(flow)(np.tile(stored, (1, 1, 1, 1, 1)), drawn[None])
    return np.float32(found)[0, 0] - 127.5, x, y


@pytest.mark.parametrize("level", [4, -7])
def test_motion_turns_with_the_picture(level):
    """Flow away from the middle stays so in a rotated picture, and in a sheared one about the corner it is off by
    what the corner's move adds, everywhere alike."""
    for name in ("rotate", "shear_x", "shear_y"):
        found, x, y = radial(name, level)
        inside = (np.abs(x) < 20) & (np.abs(y) < 20)
        off = (found - np.stack([x, y], -1))[inside]
        assert np.abs(off - np.median(off, 0)).max() <= 2, name
        assert name != "rotate" or np.abs(off).max() <= 2


def test_motion_of_a_moved_picture_is_neutral_outside():
    found, *_ = radial("translate_x", 9)
    assert (np.abs(found[:, -17:]) <= 0.5).all() and (found[:, :40] != 0.5).any()
    stack = np.full((1, 1, SIDE, SIDE, 10), 200, np.uint8)
    stack[..., 1::2] = 90
    drawn = numbers(("rotate", "shear_y"), (9, -9), (0.5, 0.5))[None]
    found = np.asarray(painter(FLOW)(stack, drawn))[0, 0]
    assert (found[6:19, 6:19] == 128).all() and len({tuple(v) for v in found.reshape(-1, 2).tolist()}) == 2
    # A turn by nothing changes no bit.
    noise = np.random.default_rng(0).integers(0, 256, stack.shape, dtype=np.uint8)
    np.testing.assert_array_equal(painter(FLOW)(noise, numbers(("identity", "solarize"), (1, 9))[None]), noise)


def test_flow_in_three_channels():
    """(u, v, 0) is flow with an empty channel; colours are shifted and neither rotated nor sheared."""
    rng = np.random.default_rng(0)
    x = np.zeros((2, 1, SIDE, SIDE, 3), np.uint8)
    x[..., :2] = rng.integers(0, 256, (2, 1, SIDE, SIDE, 2))
    colours = x + np.uint8([0, 0, 9])
    drawn = [numbers(("rotate", "shear_x"), (5, 3), (0.2, 0.2)), numbers(("shear_y", "translate_y"), (5, 5))]
    drawn = np.stack(drawn)
    plain, three = Stream("f", "flow", form="frames"), Stream("f", "flow", form="image3")
    found = np.asarray(painter(three)(x, drawn))
    np.testing.assert_array_equal(found[..., :2], painter(plain)(x[..., :2], drawn))
    assert not found[..., 2].any()
    found = np.asarray(painter(three)(colours, drawn))
    square = np.zeros((SIDE, SIDE), bool)
    square[:13, :13] = True
    np.testing.assert_array_equal(found[0, 0], np.where(square[..., None], 255, colours[0, 0]))
    np.testing.assert_array_equal(found[1, 0, :-3], colours[1, 0, 3:])
    assert (found[1, 0, -3:] == 255).all()


# ---------------------------------------------------------------------------- the rest
def test_sound_stays_and_boxes_are_refused():
    sound, boxes = Stream("a", "audio", form="logmel"), Stream("b", "boxes", form="layout")
    x = np.ones((1, 100, 256), np.int16)
    drawn = operations.draw(np.random.default_rng(0), ("strong",), (RGB, sound, boxes._replace(geometry="")))
    assert operations.paint(sound, x, {"main": drawn["main"]}) is x and not drawn["/b"]
    with pytest.raises(ValueError, match="'layout' would stay behind"):
        operations.draw(np.random.default_rng(0), ("strong",), (RGB, boxes))


FORMS = [(m, f) for m, row in MODALITIES.items() if row.strong for f in row.forms if f != "layout"]


@pytest.mark.parametrize("modality, form", FORMS)
def test_every_form_keeps_its_shape(modality, form):
    stream = Stream("x", modality, Sampling(frames=FRAMES), form)
    shape = (CLIPS, *host_shape(stream, SIDE))
    made = jax.eval_shape(functools.partial(operations._strong, stream), jax.ShapeDtypeStruct(shape, np.uint8),
                          jax.ShapeDtypeStruct((CLIPS, 3, 2), np.float32))  # fmt: skip
    assert made.shape == shape and made.dtype == np.uint8


def test_counting_by_comparing_is_counting():
    """What accelerators do in the place of scattered additions."""
    x = pictures(5)[0][:, :, :, None]
    planes = np.moveaxis(x, (1, 2), (-2, -1)).reshape(-1, SIDE * SIDE)
    want = np.stack([np.bincount(plane, minlength=256) for plane in planes])
    for count in (randaugment._scattered, randaugment._compared):
        np.testing.assert_array_equal(count(x), want)
