"""CMPL's clips: one stretch of a video for all streams, each at a speed and an offset of its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import sampling
from mmvid.streams import Sampling, Stream, Views


def clips(*frames, length=64, offset=0.0, modality="rgb"):
    """Streams of so many frames; all but the first have the offset."""
    made = [Sampling("clip", count, length, offset if i else 0.0) for i, count in enumerate(frames)]
    return [Stream(f"s{i}", modality, s) for i, s in enumerate(made)]


def drawn(streams, n, seed=0, fps=1.0):
    return sampling.train_indices(np.random.default_rng(seed), {s.name: n for s in streams}, streams, fps)


def test_clips_of_the_spec():
    """8x8, 16x4 and 32x2 of one stretch (CMPL, section 3.3): index start + stride j."""
    found = drawn(clips(8, 16, 32), 300)
    start = found["s0"][0]
    for frames, anchors in zip((8, 16, 32), found.values(), strict=True):
        np.testing.assert_array_equal(anchors, start + 64 // frames * np.arange(frames))
    # Every start at which a whole stretch fits, the last one too.
    assert {int(drawn(clips(8), 67, seed)["s0"][0]) for seed in range(60)} == {0, 1, 2, 3}
    # No wrap-around: the last frame repeats, whatever the stride meets.
    np.testing.assert_array_equal(drawn(clips(8), 30)["s0"], [0, 8, 16, 24, 29, 29, 29, 29])


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 200),
    st.sampled_from([(8, 16), (16, 8, 32), (4, 64), (1, 2)]),
    st.sampled_from([0.0, 0.5, 2.0, 10.0]),
    st.sampled_from([12.0, 29.97]),
    st.integers(0, 10**6),
)
def test_streams_share_a_start_and_keep_to_the_video(n, frames, offset, fps, seed):
    streams = clips(*frames, offset=offset)
    found, again = drawn(streams, n, seed, fps), drawn(streams, n, seed, fps)
    last, shared = max(n - 64, 0), found["s0"][0]
    for stream in streams:
        anchors, s = found[stream.name], stream.sampling
        np.testing.assert_array_equal(anchors, again[stream.name])
        start = anchors[0]
        np.testing.assert_array_equal(anchors, np.minimum(start + 64 // s.frames * np.arange(s.frames), n - 1))
        assert 0 <= start <= last and abs(start - shared) <= round(s.offset * fps)
    # The offset of others moves nobody's start.
    assert drawn(clips(*frames), n, seed, fps)["s0"][0] == shared


def test_an_offset_goes_both_ways_and_is_clamped():
    starts = [[found[0] for found in drawn(clips(8, 16, offset=1.0), 70, s, 12.0).values()] for s in range(400)]
    first, second = np.transpose(starts)
    assert set(first.tolist()) == set(second.tolist()) == set(range(7))
    # Of 25 displacements from within seven starts, most go beyond an end.
    assert np.isin(second, (0, 6)).mean() > 0.6 and (second != first).mean() > 0.6
    wide = np.array([np.subtract(*(f[0] for f in drawn(clips(8, 16, offset=0.5), 999, s, 4.0).values()))
                     for s in range(200)])  # fmt: skip
    assert set(wide.tolist()) == {-2, -1, 0, 1, 2}


def test_modalities_stay_aligned_and_equal_samplings_share_an_offset():
    """Flow has a frame less, and decides; a stream that is absent decides nothing."""
    own = Sampling("clip", 4, 16, 1.0)
    streams = [Stream(name, name, own) for name in ("rgb", "flow", "depth")]
    lengths = {"rgb": 30, "flow": 29, "depth": 0}
    for seed in range(40):
        found = sampling.train_indices(np.random.default_rng(seed), lengths, streams, 12.0)
        np.testing.assert_array_equal(found["rgb"], found["flow"])
        assert found["flow"].max() <= 28 and not found["depth"].any()
    nothing = sampling.train_indices(np.random.default_rng(0), dict.fromkeys(lengths, 0), streams, 12.0)
    assert not any(anchors.any() for anchors in nothing.values()) and nothing["rgb"].shape == (4,)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 12), st.sampled_from("CE"))
def test_uniform_test_clips(n, count, letter):
    """Streams of other speeds show the same stretches, whatever their offset; so many over the whole video."""
    slow, fast = clips(8, 16, offset=10.0)
    found = sampling.test_indices(n, slow, Views(f"{letter}{count}"))
    other = sampling.test_indices(n, fast, Views(f"{letter}{count}"))
    np.testing.assert_array_equal(found, other[:, ::2])
    np.testing.assert_array_equal(found, np.minimum(found[:, :1] + 8 * np.arange(8), n - 1))
    starts, last = found[:, 0], max(n - 64, 0)
    assert (np.diff(starts) >= 0).all() and starts[0] >= 0 and starts[-1] <= last
    if letter == "E" and count > 1:
        assert starts[0] == 0 and starts[-1] == last
    # Evenly: between neighbours, distances differ by the rounding alone.
    assert count < 3 or np.ptp(np.diff(starts)) <= 1
    validation = sampling.test_indices(n, slow, Views("val"))
    np.testing.assert_array_equal(validation, sampling.test_indices(n, slow, Views("C1")))
    assert not sampling.test_indices(0, slow, Views(f"{letter}{count}")).any()


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (clips(8, 12), r"'s1' takes 12 frames from sampling.dense_length=64, which are not a multiple"),
        (clips(128), r"'s0' takes 128 frames from sampling.dense_length=64: give it 128"),
        ([*clips(8), Stream("other", "rgb", Sampling("clip", 8, 32))], "give them one dense_length"),
        ([*clips(8), Stream("other", "rgb", Sampling("uniform", 8))], "all of them have it, or none"),
        (clips(8, 8, offset=-1.0), r"'s1': sampling.offset=-1.0: give a number of seconds"),
        (clips(8, 8, offset=float("nan")), "offset=nan: give a number of seconds"),
        (clips(8, 8, offset=float("inf")), "offset=inf: give a number of seconds"),
        ([Stream("rgb", "rgb", Sampling("dense", 8, 64, 1.0))], r"of sampling.kind='clip', not of 'dense'"),
    ],
)
def test_what_cannot_be_cut_is_explained(streams, message):
    with pytest.raises(ValueError, match=message):
        sampling.check_streams(streams)


def test_clips_have_protocols_of_their_own():
    (stream,) = clips(8)
    assert sampling.check_streams([stream]) == "clip"
    for views in (Views(), Views("D1U2"), Views("R10")):
        with pytest.raises(ValueError, match="write 'C1'"):
            sampling.test_indices(300, stream, views)
