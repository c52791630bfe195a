"""Frame indices: the spec's exact values and properties over lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import sampling
from mmvid.streams import Sampling, Stream, stack_length

RGB, FLOW = Stream("rgb", "rgb", Sampling("uniform", 8)), Stream("flow", "flow", Sampling("uniform", 8), "stack5")
DIFF = Stream("diff", "diff", Sampling("uniform", 8), "stack5")


def test_values_of_the_spec():
    """papers.md section 8, 0-based."""
    np.testing.assert_array_equal(sampling.val_indices(40, 8, 1), [2, 7, 12, 17, 22, 27, 32, 37])
    np.testing.assert_array_equal(sampling.val_indices(39, 8, 5), [2, 6, 10, 15, 19, 24, 28, 32])
    twice = sampling.test_indices(30, RGB, "D0U2")
    np.testing.assert_array_equal(twice, [[1, 5, 9, 13, 16, 20, 24, 28], [0, 3, 7, 11, 15, 18, 22, 26]])
    dense = sampling.test_indices(60, RGB, "D1U0")
    np.testing.assert_array_equal(dense, [np.arange(14, 43, 4)])
    np.testing.assert_array_equal(sampling.test_indices(60, RGB, "D2U0")[:, 0], [0, 28])


def test_paper_variants():
    # T' = 60 - 4 * 7 = 32: one clip from 16, two from 0 and 16; uniform from the left edges.
    assert sampling.test_indices(60, RGB, "D1U0", "paper")[0, 0] == 16
    np.testing.assert_array_equal(sampling.test_indices(60, RGB, "D2U0", "paper")[:, 0], [0, 16])
    np.testing.assert_array_equal(sampling.test_indices(40, RGB, "D0U1", "paper")[0], np.arange(8) * 5)


@pytest.mark.parametrize("protocol", ["D0U1", "D0U2", "D1U0", "D2U0", "D1U1", "D2U1", "D1U2", "D2U2"])
@pytest.mark.parametrize("variant", sampling.VARIANTS)
@pytest.mark.parametrize("stream", [RGB, FLOW, DIFF], ids=lambda s: s.name)
def test_every_protocol_of_table_10(protocol, variant, stream):
    for n in (1, 3, 12, 31, 32, 33, 200):
        clips = sampling.test_indices(n, stream, protocol, variant)
        assert clips.shape == (int(protocol[1]) + int(protocol[3]), 8)
        assert clips.min() >= 0
        fields = sampling.stacked(clips, stack_length(stream), n)
        assert fields.min() >= 0 and fields.max() <= n - 1


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 300), st.sampled_from(["uniform", "dense", "mixed"]), st.integers(0, 10**6))
def test_training_anchors(n, kind, seed):
    streams = [s._replace(sampling=Sampling(kind, 8, 32)) for s in (RGB, FLOW, DIFF)]
    lengths = {"rgb": n, "flow": n - 1, "diff": n}
    found = sampling.train_indices(np.random.default_rng(seed), lengths, streams)
    again = sampling.train_indices(np.random.default_rng(seed), lengths, streams)
    for name, anchors in found.items():
        np.testing.assert_array_equal(anchors, again[name])
        assert anchors.shape == (8,) and anchors.min() >= 0 and anchors.max() < n
        # xi: the longer streams follow the shortest, none or one frame later.
        shift = np.unique(anchors - found["flow"])
        assert len(shift) == 1 and shift[0] in (0, 1)
    if kind != "dense":
        return
    steps = np.diff(found["flow"]) % (n - 1)
    assert set(steps.tolist()) <= {4 % (n - 1)}


def test_uniform_takes_one_frame_of_every_part():
    seen = np.stack([
        sampling.train_indices(np.random.default_rng(s), {"rgb": 43}, [RGB])["rgb"] for s in range(300)
    ])  # fmt: skip
    for j in range(8):
        assert set(seen[:, j]) == set(range(5 * j, 5 * j + 5))


def test_mixed_is_half_and_half():
    stream = RGB._replace(sampling=Sampling("mixed", 8, 32))
    dense = 0
    for seed in range(400):
        anchors = sampling.train_indices(np.random.default_rng(seed), {"rgb": 160}, [stream])["rgb"]
        dense += set((np.diff(anchors) % 160).tolist()) == {4}
    assert 150 < dense < 250


def test_an_absent_stream_defines_nothing():
    found = sampling.train_indices(np.random.default_rng(0), {"rgb": 40, "flow": 0}, [RGB, FLOW])
    assert not found["flow"].any() and found["rgb"].max() > 30


def test_stacks_saturate():
    np.testing.assert_array_equal(sampling.stacked(np.array([0, 5]), 3, 6), [[0, 1, 2], [5, 5, 5]])


@pytest.mark.parametrize("bad", ["D0U0", "uniform", "D1", "10x3"])
def test_unknown_protocols_are_explained(bad):
    with pytest.raises(ValueError, match="D1U2"):
        sampling.test_indices(40, RGB, bad)
