"""TV-L1 against OpenCV's numbers and against known motions."""

import json
import pathlib

import cv2
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import flow
from mmvid.data.flow import TVL1

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "tvl1.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "tvl1.npz")
SHORT = ("one_iteration", "ten_iterations", "two_warps", "median_two_outer", "two_scales")


@pytest.fixture(scope="module", autouse=True)
def optimised():
    """OpenCV's last bits are those of fused products; many iterations make them visible."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def run(case, settings):
    frames = ARRAYS["frame0"][None], ARRAYS[f"{case}/frame1"][None]
    return np.asarray(flow.tvl1(*frames, settings=settings))[0]


def of_opencv(p):
    return TVL1(
        p["Tau"], p["Lambda"], p["Theta"], p["ScalesNumber"], p["ScaleStep"], p["WarpingsNumber"],
        p["OuterIterations"], p["InnerIterations"], p["Epsilon"], p["MedianFiltering"],
    )  # fmt: skip


def error(field, case, inside=0):
    away = np.linalg.norm(field - ARRAYS[f"{case}/true_flow"], axis=-1)
    return away[inside : -inside or None, inside : -inside or None].mean()


@pytest.mark.parametrize("case", ["shift", "rotate"])
@pytest.mark.parametrize("name", SHORT)
def test_short_runs_equal_opencv(case, name):
    found = run(case, of_opencv(CASES[case]["runs"][name]["parameters"]))
    np.testing.assert_allclose(found, ARRAYS[f"{case}/{name}"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["shift", "rotate"])
def test_the_full_scheme_equals_opencv(case):
    """Chaotic at motion borders: the mean is what can be compared (golden/README.md: 0.03)."""
    found = run(case, of_opencv(CASES[case]["runs"]["full_fixed"]["parameters"]))
    assert np.abs(found - ARRAYS[f"{case}/full_fixed"]).mean() < 0.01


@pytest.mark.parametrize("case", ["shift", "rotate", "large", "zoom"])
def test_the_default_is_no_worse_than_opencv(case):
    found, reference = run(case, flow.DEFAULT), ARRAYS[f"{case}/default"]
    for inside in (0, 8):
        assert error(found, case, inside) <= error(reference, case, inside) * 1.005


def texture(height, width, seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.uint8(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX))


@settings(deadline=None, max_examples=8)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 100))
def test_known_shifts(dx, dy, seed):
    scene = texture(112, 144, seed)  # of the goldens' size, whose program it shares
    clip = np.stack([scene[8:104, 8:136], scene[8 - dy : 104 - dy, 8 - dx : 136 - dx]])
    for preset in ("default", "fast"):
        found = flow.clip_flow(clip, settings=preset, batch_size=1)[0, 8:-8, 8:-8]
        assert np.linalg.norm(found - [dx, dy], axis=-1).mean() < 0.25


@pytest.mark.parametrize("side, count", [(48, 8), (112, 5), (256, 1), (1080, 1)])
def test_fewer_pairs_together_of_larger_frames(side, count, monkeypatch):
    assert flow._together(side, side) == count
    monkeypatch.setattr(flow.jax, "default_backend", lambda: "gpu")
    assert flow._together(side, side) == 8


def test_a_clip_is_its_pairs():
    scene = texture(60, 80)
    frames = np.stack([scene[i : i + 48, i : i + 48] for i in range(6)])
    whole = flow.clip_flow(frames, settings="fast", batch_size=4)
    assert whole.shape == (5, 48, 48, 2)
    one = flow.clip_flow(frames[2:4], settings="fast", batch_size=4)
    np.testing.assert_allclose(whole[2], one[0], atol=1e-4)
    assert flow.clip_flow(frames[:1]).shape == (0, 48, 48, 2)
    some = flow.clip_flow(frames, settings="fast", batch_size=4, pairs=[1, 4])
    np.testing.assert_allclose(some, whole[[1, 4]], atol=1e-4)
    np.testing.assert_array_equal(flow.dis(frames, pairs=[3]), flow.dis(frames)[[3]])
    np.testing.assert_allclose(flow.clip_flow(frames, settings="fast"), whole, atol=1e-4)
    colour = np.repeat(frames[..., None], 3, -1)
    np.testing.assert_allclose(flow.clip_flow(colour, settings="fast", batch_size=4), whole, atol=0.05)


def test_median_is_a_median():
    x = np.random.default_rng(0).normal(size=(2, 9, 11)).astype(np.float32)
    for size in (3, 5):
        half = size // 2
        padded = np.pad(x, ((0, 0), (half, half), (half, half)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
        np.testing.assert_array_equal(flow.median(x, size), np.median(windows, axis=(-2, -1)))


@given(st.floats(-30, 30), st.sampled_from([6.0, 20.0]))
def test_quantising_loses_half_a_step(v, bound):
    planes = flow.quantise(np.float32([v]), bound)
    back = (planes[0] / 127.5 - 1) * bound
    assert abs(back - np.clip(v, -bound, bound)) <= bound / 255 + 1e-5
    np.testing.assert_array_equal(flow.quantise(np.float32([-v]), bound) + planes.astype(int) <= 256, True)


def test_dis_and_bad_names():
    scene = texture(80, 80)
    found = flow.dis(np.stack([scene[8:72, 8:72], scene[8:72, 6:70]]))
    assert abs(found[0, 16:-16, 16:-16, 0].mean() - 2) < 0.3
    with pytest.raises(ValueError, match="fast"):
        flow.clip_flow(np.zeros((2, 32, 32), np.uint8), settings="quick")
    with pytest.raises(ValueError, match="median"):
        flow.median(np.zeros((1, 8, 8), np.float32), 4)
