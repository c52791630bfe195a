"""One draw for all streams, in relative coordinates; flips negate motion and swap labels."""

import collections
import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import augment
from mmvid.data import colours as colours_lib
from mmvid.data.augment import Augment, Geometry
from mmvid.streams import Head, Views

SPEC = Augment()


@settings(deadline=None, max_examples=100)
@given(st.integers(40, 400), st.integers(40, 400), st.integers(0, 10**6))
def test_windows_lie_inside(height, width, seed):
    g = augment.draw(np.random.default_rng(seed), height, width, 224, SPEC)
    assert g.x >= 0 and g.x + g.width <= 1 + 1e-9 and g.y >= 0 and g.y + g.height <= 1 + 1e-9
    assert not g.flip
    out = augment.apply(np.zeros((2, height, width, 3), np.uint8), g, 32, negate_x=False)
    assert out.shape == (2, 32, 32, 3)


def test_scales_and_positions_of_the_code():
    """Ten pairs of neighbouring scales, thirteen positions (TSM, MML)."""
    draws = [augment.draw(np.random.default_rng(s), 256, 340, 224, SPEC) for s in range(6000)]
    sides = {(round(g.width * 340), round(g.height * 256)) for g in draws}
    kept = (256, 224, 192, 168)
    assert sides == {(w, h) for i, w in enumerate(kept) for j, h in enumerate(kept) if abs(i - j) <= 1}
    places = {(round(g.x * 340), round(g.y * 256)) for g in draws if round(g.width * 340) == 192}
    small = {(x, y) for x, y in places}
    assert len(sides) == 10 and len(small) >= 13


def test_one_window_for_modalities_of_different_size():
    """The same scene at two resolutions is cut alike."""
    scene = np.random.default_rng(0).integers(0, 256, (1, 12, 16, 3), dtype=np.uint8)
    large = scene.repeat(8, 1).repeat(8, 2)
    geometry = Geometry(0.25, 0.25, 0.5, 0.5)
    cuts = [augment.apply(x, geometry, 48, negate_x=False) for x in (scene.repeat(4, 1).repeat(4, 2), large)]
    assert np.abs(cuts[0].astype(int) - cuts[1]).mean() < 12


def test_flip_negates_horizontal_motion_only():
    flow = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 10), dtype=np.uint8)
    out = augment.apply(flow, Geometry(0, 0, 1, 1, True), 8, negate_x=True)
    np.testing.assert_array_equal(out[..., 0::2], 255 - flow[:, :, ::-1, 0::2])
    np.testing.assert_array_equal(out[..., 1::2], flow[:, :, ::-1, 1::2])
    rgb = augment.apply(flow[..., :3], Geometry(0, 0, 1, 1, True), 8, negate_x=False)
    np.testing.assert_array_equal(rgb, flow[:, :, ::-1, :3])


def test_flip_labels():
    pairs = ((0, 1),)
    assert augment.flip_label(np.int64(0), pairs) == 1 and augment.flip_label(np.int64(2), pairs) == 2
    np.testing.assert_array_equal(augment.flip_label(np.array([1, 0, 1]), pairs), [0, 1, 1])


def test_flips_are_off_by_default_and_fair_when_on():
    flipped = [augment.draw(np.random.default_rng(s), 64, 64, 48, Augment(flip=True)).flip for s in range(300)]
    assert 110 < sum(flipped) < 190


@pytest.mark.parametrize("crops, count, side", [("centre", 1, 224), ("three", 3, 224), ("full_res", 1, 256)])
def test_protocols(crops, count, side):
    windows, out = augment.test_windows(256, 340, 224, Views(crops=crops, resize=256))
    assert len(windows) == count and out == side
    for w in windows:
        assert round(w.height * 256) == side and round(w.width * 340) == side
        assert w.y == pytest.approx((256 - side) / 2 / 256)
    middle = windows[count // 2]
    assert middle.x == pytest.approx((340 - side) / 2 / 340)
    if crops == "three":
        assert windows[0].x == 0 and windows[2].x + windows[2].width == pytest.approx(1)


def test_bad_protocols_are_explained():
    with pytest.raises(ValueError, match="full_res"):
        augment.test_windows(256, 340, 224, Views(crops="ten", resize=256))
    with pytest.raises(ValueError, match="smaller"):
        augment.test_windows(256, 340, 224, Views(resize=200))


@pytest.mark.parametrize("height, width", [(256, 340), (226, 300), (240, 427), (300, 226), (100, 90)])
def test_windows_are_the_codes_pixels(height, width):
    """Sides snap to 224 within 3 pixels; steps are whole pixels: (size - crop) // 4."""
    base = min(height, width)
    sides = [int(base * s) for s in (1, 0.875, 0.75, 0.66)]
    sides = [224 if abs(s - 224) < 3 and base >= 224 else s for s in sides]
    wanted = set()
    for i, w in enumerate(sides):
        for h in sides[max(i - 1, 0) : i + 2]:
            dx, dy = (width - w) // 4, (height - h) // 4
            places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0)]
            places += [(1, 1), (3, 1), (1, 3), (3, 3)]
            wanted |= {(dx * a, dy * b, w, h) for a, b in places}
    found = set()
    for seed in range(4000):
        g = augment.draw(np.random.default_rng(seed), height, width, 224, SPEC)
        pixels = np.array([g.x * width, g.y * height, g.width * width, g.height * height])
        np.testing.assert_allclose(pixels, pixels.round(), atol=1e-9)
        found.add(tuple(pixels.round().astype(int).tolist()))
    assert found == wanted


@pytest.mark.parametrize("crops", augment.CROPS)
def test_portrait_is_landscape_turned(crops):
    wide, side = augment.test_windows(256, 340, 224, Views(crops=crops, resize=256))
    tall, same = augment.test_windows(340, 256, 224, Views(crops=crops, resize=256))
    assert side == same
    for a, b in zip(wide, tall, strict=True):
        assert (a.x, a.y, a.width, a.height) == (b.y, b.x, b.height, b.width)


def test_full_resolution_keeps_the_short_side():
    windows, side = augment.test_windows(240, 320, 224, Views(crops="three_full_res", resize=256))
    assert side == 256 and [round(w.x * 320) for w in windows] == [0, 40, 80]
    assert all(round(w.width * 320) == round(w.height * 240) == 240 for w in windows)


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 10**6), st.integers(4, 64))
def test_channels_and_frames_are_cut_alike(height, width, seed, size):
    rng = np.random.default_rng(seed)
    geometry = augment.draw(rng, height, width, size, Augment(flip=True))
    frames = rng.integers(0, 256, (3, height, width, 4), dtype=np.uint8)
    whole = augment.apply(frames, geometry, size, negate_x=False)
    assert whole.shape == (3, size, size, 4) and whole.dtype == np.uint8
    for t in range(3):
        for c in range(4):
            one = augment.apply(frames[t : t + 1, ..., c : c + 1], geometry, size, negate_x=False)
            np.testing.assert_array_equal(one[0, ..., 0], whole[t, ..., c])


def test_a_window_of_its_own_size_is_copied_not_resampled():
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    out = augment.apply(frames, Geometry(4 / 24, 2 / 20, 16 / 24, 16 / 20), 16, negate_x=False)
    np.testing.assert_array_equal(out, frames[:, 2:18, 4:20])


def test_a_window_at_the_edge_of_a_small_picture_is_never_empty():
    small = np.full((1, 3, 3, 1), 7, np.uint8)
    out = augment.apply(small, Geometry(0.99, 0.99, 0.01, 0.01), 4, negate_x=False)
    assert (out == 7).all()


def test_a_coin_thrown_already_is_kept():
    for flip in (True, False):
        for seed in range(20):
            rng = np.random.default_rng(seed)
            assert augment.draw(rng, 64, 64, 48, Augment(flip=True), flip=flip).flip == flip


HEADS = {"noun": Head(4), "verb": Head(4)}


def test_label_pairs_belong_to_a_head():
    spec = Augment(flip=True, flip_labels=(("verb", 0, 1), ("noun", 2, 3)))
    augment.check(spec, HEADS)
    assert augment.head_pairs(spec.flip_labels, "verb", 2) == [(0, 1)]
    augment.check(Augment(flip_labels=((0, 1),)), {"action": Head(4)})
    assert augment.head_pairs(((0, 1),), "action") == [(0, 1)]
    for bad in (((0, 1),), (("adverb", 0, 1),), ((0, 1, 2),)):
        with pytest.raises(ValueError, match="several"):
            augment.check(Augment(flip_labels=bad), HEADS)
    for ids in ((0, 4), ("left", "right"), (-1, 0)):
        with pytest.raises(ValueError, match="class ids 0 to 3"):
            augment.check(Augment(flip_labels=(("verb", *ids),)), HEADS)
    for scales in ((), (1.5,), (0.0,)):
        with pytest.raises(ValueError, match="scales"):
            augment.check(Augment(scales=scales), HEADS)


def test_pictures_that_shrink_by_much_are_averaged():
    """A chequerboard of single pixels becomes grey, not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None]
    out = augment.apply(board, Geometry(0, 0, 1, 1), 32, negate_x=False)
    assert np.abs(out.astype(int) - 127).max() <= 1


# ---------------------------------------------------------------------------- DMCL's window
WINDOW = Augment(crop="window", flip=True)


@settings(deadline=None, max_examples=100)
@given(st.integers(40, 400), st.integers(40, 400), st.integers(0, 10**6), st.floats(0, 16))
def test_the_window_is_a_share_of_both_sides(height, width, seed, jitter):
    spec = WINDOW._replace(jitter=jitter)
    g = augment.draw(np.random.default_rng(seed), height, width, 224, spec)
    assert g.width == g.height == 224 / 256
    for start in (g.x, g.y):
        assert abs(start - 1 / 16) <= jitter / 256 + 1e-9
        assert start >= -1e-9 and start + 224 / 256 <= 1 + 1e-9


def test_half_of_the_windows_stay_in_the_middle():
    drawn = [augment.draw(np.random.default_rng(s), 256, 340, 224, WINDOW) for s in range(600)]
    off = 256 * np.array([(g.x - 1 / 16, g.y - 1 / 16) for g in drawn])
    moved = (off != 0).any(1)
    assert 250 < moved.sum() < 350
    # U(-8, 8) on each axis by itself.
    assert (np.abs(off) <= 8).all() and (off[moved].std(0) > 4).all()
    assert abs(np.corrcoef(off[moved].T)[0, 1]) < 0.2
    assert 250 < sum(g.flip for g in drawn) < 350


def test_the_window_of_a_square_of_256_is_224_pixels():
    frames = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 1), dtype=np.uint8)
    (window,), side = augment.test_windows(480, 640, 224, Views(crops="window", resize=256))
    out = augment.apply(frames, window, side, negate_x=False)
    np.testing.assert_array_equal(out, frames[:, 16:240, 16:240])


def test_the_window_does_not_keep_the_aspect():
    wide = augment.test_windows(100, 400, 224, Views(crops="window", resize=256))
    assert wide == augment.test_windows(400, 100, 224, Views(crops="window", resize=256))
    still = Augment(crop="window", jitter=0.0)
    assert augment.draw(np.random.default_rng(0), 100, 400, 224, still) == wide[0][0]


def test_pixels_are_chosen_where_no_average_makes_sense():
    """A resized picture has the values that were there, mirrored or not, at their places."""
    frames = np.zeros((1, 30, 30, 1), np.uint8)
    frames[:, :, 15:] = 200
    for size in (7, 13, 24, 64):
        plain = augment.apply(frames, Geometry(0, 0, 1, 1), size, negate_x=False, nearest=True)
        assert set(np.unique(plain)) == {0, 200}
        assert abs((plain == 0).mean() - 0.5) <= 0.5 / size + 1e-9
        mixed = augment.apply(frames, Geometry(0.3, 0, 0.6, 1), 32, negate_x=False)
        assert len(np.unique(mixed)) > 2
        flipped = augment.apply(frames, Geometry(0, 0, 1, 1, True), size, negate_x=False, nearest=True)
        np.testing.assert_array_equal(flipped, plain[:, :, ::-1])


# ---------------------------------------------------------------------------- MMD's crop
RESIZED = Augment(crop="resized", scales=(1.15, 1.43))


def test_the_short_side_is_resized_and_a_square_is_cut_anywhere():
    """int(224 U(1.15, 1.43)) = 257 to 320; at 256 x 340 the long side follows, truncated."""
    found, places = set(), set()
    for seed in range(3000):
        g = augment.draw(np.random.default_rng(seed), 256, 340, 224, RESIZED)
        short, long = 224 / g.height, 224 / g.width
        assert abs(short - round(short)) < 1e-9 and round(long) == int(round(short) * 340 / 256)
        x, y = g.x * long, g.y * short
        assert (
            abs(x - round(x)) < 1e-9 and 0 <= round(x) <= round(long) - 224 and 0 <= round(y) <= round(short) - 224
        )
        found.add(round(short))
        places |= {
            ("x", round(x) == 0),
            ("y", round(y) == round(short) - 224),
            ("x end", round(x) == round(long) - 224),
        }
    assert found == set(range(257, 321)) and len(places) == 6
    assert augment.draw(np.random.default_rng(0), 256, 256, 224, RESIZED._replace(scales=(1.0, 1.0))) == Geometry(
        0, 0, 1, 1
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 10**6), st.integers(8, 64))
def test_a_resized_window_is_a_square_inside(height, width, seed, size):
    g = augment.draw(np.random.default_rng(seed), height, width, size, RESIZED)
    assert g.x >= 0 and g.x + g.width <= 1 + 1e-9 and g.y >= 0 and g.y + g.height <= 1 + 1e-9
    side = g.height * height
    # But for a truncation of less than a pixel of the resized picture.
    assert abs(g.width * width - side) <= 1 + 2 * max(height, width) / size
    assert 1 / 1.44 < side / min(height, width) < 1 or size < 16


@pytest.mark.parametrize("scales", [(1.0, 0.875, 0.75, 0.66), (0.9, 1.2), (1.3, 1.2), (1.2,), (1.0, float("inf"))])
def test_a_resized_crop_needs_two_scales(scales):
    augment.check(RESIZED, HEADS)
    with pytest.raises(ValueError, match=r"augment.scales=.*\(1.15, 1.43\)"):
        augment.check(RESIZED._replace(scales=scales), HEADS)


def test_the_short_side_is_one_of_a_few():
    """VMZ's jitter: 128 or 160 for a crop of 112."""
    spec = Augment(crop="jittered", scales=(128 / 112, 160 / 112))
    drawn = [augment.draw(np.random.default_rng(seed), 240, 320, 112, spec) for seed in range(200)]
    shorts = [round(112 / g.height, 6) for g in drawn]
    assert set(shorts) == {128, 160} and 60 < shorts.count(128) < 140
    assert {round(112 / g.width) for g in drawn} == {170, 213}
    assert all(0 <= g.x <= 1 - g.width + 1e-9 and 0 <= g.y <= 1 - g.height + 1e-9 for g in drawn)
    augment.check(spec, HEADS)
    for scales in ((), (0.9, 1.2), (float("inf"),)):
        with pytest.raises(ValueError, match="'jittered' takes one or more short sides"):
            augment.check(spec._replace(scales=scales), HEADS)


def test_the_centre_is_cut_without_a_draw():
    """CMPL's weak view: 224 in the middle of a short side of 256, as a test crop is."""
    spec, rng = Augment(crop="centre", scales=(256 / 224,)), np.random.default_rng(0)
    (want,), _ = augment.test_windows(240, 320, 224, Views(resize=256))
    assert augment.draw(rng, 240, 320, 224, spec, flip=False) == pytest.approx(want)
    assert rng.random() == np.random.default_rng(0).random()
    # One coin for all views of a clip mirrors this one, too.
    assert augment.draw(rng, 240, 320, 224, spec, flip=True).flip
    augment.check(spec, HEADS)
    for scales in ((), (0.9,), (1.1, 1.2), (float("inf"),)):
        with pytest.raises(ValueError, match="'centre' takes one short side"):
            augment.check(spec._replace(scales=scales), HEADS)


def test_thirty_views_are_ten_clips_in_three_crops():
    """SlowFast's: 256 pixels of a short side of 256, left, middle and right."""
    windows, side = augment.test_windows(256, 340, 224, Views("E10", crops="three_full_res", resize=256))
    assert side == 256 and [round(w.x * 340) for w in windows] == [0, 42, 84]
    assert all((w.y, w.height) == (0, 1) for w in windows)


def test_the_short_side_is_all_of_a_test_crop():
    """MMD's test: the short side is 224, and so is the crop; three lie left, in the middle and right."""
    windows, side = augment.test_windows(256, 340, 224, Views(crops="three", resize=224))
    assert side == 224 and [round(w.x * 340) for w in windows] == [0, 42, 84]
    assert all(round(w.width * 340) == 256 and (w.y, w.height) == (0, 1) for w in windows)
    assert augment.test_windows(256, 340, 224, Views(resize=224)) == (windows[1:2], 224)


# ---------------------------------------------------------------------------- colours
def pictures(seed=0, shape=(3, 12, 10, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("order", ["b", "s", "h", "c", "bshc", "sbch", "chbs", "hscb", "bs", "sb"])
def test_nothing_changes_what_is_distorted_by_nothing(order):
    frames = pictures()
    frames[0, :4] = 0, 0, 0
    frames[0, 4:8] = 255, 255, 255
    frames[0, 8:] = 7, 7, 7
    plain = colours_lib.Colours(order, 0.0, 1.0, 0.0, 1.0)
    np.testing.assert_array_equal(colours_lib.recolour(frames, plain), frames)


def reference(picture, colours):
    """One pixel after another, by the standard library."""
    x = picture.astype(float) / 255
    for initial in colours.order:
        mean = x.mean((0, 1))
        for place in np.ndindex(x.shape[:2]):
            if initial == "b":
                x[place] += colours.brightness
            elif initial == "c":
                x[place] = (x[place] - mean) * colours.contrast + mean
            else:
                h, s, v = colorsys.rgb_to_hsv(*x[place]) if x[place].max() > 0 else (0, 0, x[place].max())
                s = min(s * colours.saturation, 1) if initial == "s" else s
                x[place] = colorsys.hsv_to_rgb((h + colours.hue) % 1 if initial == "h" else h, s, v)
    return np.clip(np.round(x * 255), 0, 255)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_colours_are_those_of_the_standard_library(seed):
    frames = pictures(seed, (2, 4, 5, 3))
    drawn = colours_lib.draw_colours(np.random.default_rng(seed), Augment(colour=1.0))
    out = colours_lib.recolour(frames, drawn)
    assert out.dtype == np.uint8 and out.shape == frames.shape
    expected = np.stack([reference(f, drawn) for f in frames])
    assert np.abs(out - expected).max() <= 1


def test_a_third_of_the_circle_exchanges_the_channels():
    turned = colours_lib.recolour(pictures(), colours_lib.Colours("h", 0.0, 1.0, 1 / 3, 1.0))
    np.testing.assert_array_equal(turned, pictures()[..., [2, 0, 1]])


def test_black_pixels_have_no_colour_to_distort():
    """Darkened beyond black, where hue and saturation mean nothing."""
    dark = pictures() // 16
    for order in ("bshc", "hscb", "chbs"):
        out = colours_lib.recolour(dark, colours_lib.Colours(order, -32 / 255, 1.5, 0.2, 1.0))
        assert not out.any()


def test_ranges_and_orders_of_the_code():
    drawn = [colours_lib.draw_colours(np.random.default_rng(s), Augment(colour=0.5)) for s in range(4000)]
    there = [d for d in drawn if d is not None]
    assert 1880 < len(there) < 2120
    counts = collections.Counter(d.order for d in there)
    fast = counts["bs"] + counts["sb"]
    assert 0.45 < fast / len(there) < 0.55 and len(counts) == 6
    full = [order for order in counts if len(order) == 4]
    assert all(sorted(order) == list("bchs") for order in full)
    assert all(0.2 < counts[order] / (len(there) - fast) < 0.3 for order in full)
    assert all(0.4 < counts[order] / fast < 0.6 for order in ("bs", "sb"))
    values = np.array([d[1:] for d in there])
    least, most = np.array([-32 / 255, 0.5, -0.2, 0.5]), np.array([32 / 255, 1.5, 0.2, 1.5])
    assert (values >= least).all() and (values <= most).all()
    np.testing.assert_allclose(values.min(0), least, atol=0.02)
    np.testing.assert_allclose(values.max(0), most, atol=0.02)
    assert not any(colours_lib.draw_colours(np.random.default_rng(s), Augment()) for s in range(20))


# ---------------------------------------------------------------------------- torchvision's jitter
def jittered(pixels, order, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    """Rows of pixels (R, G, B), one picture, as they come out."""
    jitter = colours_lib.Jitter(order, brightness, contrast, saturation, hue)
    return colours_lib.recolour(np.uint8(pixels)[None, None], jitter)[0, 0].tolist()


def test_the_jitter_is_torchvisions():
    """Worked out by hand from its formulas; grey is .2989 R + .587 G + .114 B."""
    # 200 x 1.25 = 250, 220 x 1.25 = 275 is cut; 3 x .5 = 1.5 is rounded to even.
    assert jittered([[200, 220, 3]], "b", brightness=1.25) == [[250, 255, 4]]
    assert jittered([[3, 5, 200]], "b", brightness=0.5) == [[2, 2, 100]]
    # Grey of (100, 0, 0) is 29.89: .75 x 100 + .25 x 29.89 = 82.47, .25 x 29.89 = 7.47.
    assert jittered([[100, 0, 0]], "s", saturation=0.75) == [[82, 7, 7]]
    # 1.25 x 100 - .25 x 29.89 = 117.53; what would be below 0 is 0.
    assert jittered([[100, 0, 0]], "s", saturation=1.25) == [[118, 0, 0]]
    # The mean of the greys 200 and 100 (their weights sum to .9999) is 149.985.
    assert jittered([[200] * 3, [100] * 3], "c", contrast=0.5) == [[175] * 3, [125] * 3]
    assert jittered([[240] * 3, [40] * 3], "c", contrast=1.25) == [[255] * 3, [15] * 3]
    # A tenth of a turn from red, 36 degrees: .6 of the way to yellow.
    assert jittered([[200, 0, 0]], "h", hue=0.1) == [[200, 120, 0]]
    assert jittered([[200, 0, 0]], "h", hue=-0.1) == [[200, 0, 120]]
    # Each operation is cut before the next: (250, 250, 250) does not come back.
    assert jittered([[250] * 3, [0] * 3], "bc", brightness=1.25, contrast=0.0) == [[127] * 3] * 2
    assert jittered([[250] * 3, [0] * 3], "cb", brightness=1.25, contrast=0.0) == [[156] * 3] * 2


def test_a_jitter_of_nothing_changes_nothing():
    frames = pictures()
    frames[0, :4], frames[0, 4:8], frames[0, 8:] = 0, 255, 7
    np.testing.assert_array_equal(
        colours_lib.recolour(frames, colours_lib.Jitter("hscb", 1.0, 1.0, 1.0, 0.0)), frames
    )


def test_ranges_and_orders_of_the_jitter():
    spec = Augment(colour=1.0, distortion="jitter")
    drawn = [colours_lib.draw_colours(np.random.default_rng(s), spec) for s in range(2000)]
    counts = collections.Counter(d.order for d in drawn)
    assert len(counts) == 24 and min(counts.values()) > 50
    values = np.array([d[1:] for d in drawn])
    least, most = np.array([0.75, 0.75, 0.75, -0.1]), np.array([1.25, 1.25, 1.25, 0.1])
    assert (values >= least).all() and (values <= most).all()
    np.testing.assert_allclose(values.min(0), least, atol=0.01)
    np.testing.assert_allclose(values.max(0), most, atol=0.01)


@pytest.mark.parametrize("name, value", [("crop", "middle"), ("distortion", "grey"), ("jitter", 17.0),
                                         ("jitter", -1.0), ("jitter", float("nan")), ("colour", 1.1),
                                         ("colour", -0.1)])  # fmt: skip
def test_augmentations_that_cannot_be_are_explained(name, value):
    augment.check(Augment(crop="window", jitter=16.0, colour=1.0), HEADS)
    with pytest.raises(ValueError, match=f"augment.{name}="):
        augment.check(Augment(**{name: value}), HEADS)
