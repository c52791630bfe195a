"""One draw for all streams, in relative coordinates; flips negate motion and swap labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import augment
from mmvid.data.augment import Augment, Geometry

SPEC = Augment()


@settings(deadline=None, max_examples=100)
@given(st.integers(40, 400), st.integers(40, 400), st.integers(0, 10**6))
def test_windows_lie_inside(height, width, seed):
    g = augment.draw(np.random.default_rng(seed), height, width, 224, SPEC)
    assert 0 <= g.x and g.x + g.width <= 1 + 1e-9 and 0 <= g.y and g.y + g.height <= 1 + 1e-9
    assert not g.flip
    out = augment.apply(np.zeros((2, height, width, 3), np.uint8), g, 32, negate_x=False)
    assert out.shape == (2, 32, 32, 3)


def test_scales_and_positions_of_the_code():
    """Ten pairs of neighbouring scales, thirteen positions (papers.md 1.4)."""
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
    flipped = [
        augment.draw(np.random.default_rng(s), 64, 64, 48, Augment(flip=True)).flip for s in range(300)
    ]
    assert 110 < sum(flipped) < 190


@pytest.mark.parametrize("crops, count, side", [("centre", 1, 224), ("three", 3, 224), ("full_res", 1, 256)])
def test_protocols(crops, count, side):
    windows, out = augment.test_windows(256, 340, 224, 256, crops)
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
        augment.test_windows(256, 340, 224, 256, "ten")
    with pytest.raises(ValueError, match="smaller"):
        augment.test_windows(256, 340, 224, 200)
