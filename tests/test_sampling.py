"""Frame indices: the spec's exact values and properties over lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data import sampling
from mmvid.streams import OF_TABLE_10, Sampling, Stream, Views, stack_length

RGB = Stream("rgb", "rgb", Sampling("uniform", 8))
FLOW = Stream("flow", "flow", Sampling("uniform", 8), "stack5")
DIFF = Stream("diff", "diff", Sampling("uniform", 8), "stack5")


def test_values_of_the_spec():
    """Worked out by hand from MML's code, 0-based."""
    np.testing.assert_array_equal(sampling.val_indices(40, 8, 1), [2, 7, 12, 17, 22, 27, 32, 37])
    np.testing.assert_array_equal(sampling.val_indices(39, 8, 5), [2, 6, 10, 15, 19, 24, 28, 32])
    twice = sampling.test_indices(30, RGB, Views("D0U2"))
    np.testing.assert_array_equal(twice, [[1, 5, 9, 13, 16, 20, 24, 28], [0, 3, 7, 11, 15, 18, 22, 26]])
    dense = sampling.test_indices(60, RGB, Views("D1U0"))
    np.testing.assert_array_equal(dense, [np.arange(14, 43, 4)])
    np.testing.assert_array_equal(sampling.test_indices(60, RGB, Views("D2U0"))[:, 0], [0, 28])


def test_paper_variants():
    # T' = 60 - 4 * 7 = 32: one clip from 16, two from 0 and 16; uniform from the left edges.
    assert sampling.test_indices(60, RGB, Views("D1U0", "paper"))[0, 0] == 16
    np.testing.assert_array_equal(sampling.test_indices(60, RGB, Views("D2U0", "paper"))[:, 0], [0, 16])
    np.testing.assert_array_equal(sampling.test_indices(40, RGB, Views("D0U1", "paper"))[0], np.arange(8) * 5)


@pytest.mark.parametrize("protocol", ["D0U1", "D0U2", "D1U0", "D2U0", "D1U1", "D2U1", "D1U2", "D2U2"])
@pytest.mark.parametrize("variant", sampling.VARIANTS)
@pytest.mark.parametrize("stream", [RGB, FLOW, DIFF], ids=lambda s: s.name)
def test_every_protocol_of_table_10(protocol, variant, stream):
    for n in (1, 3, 12, 31, 32, 33, 200):
        clips = sampling.test_indices(n, stream, Views(protocol, variant))
        assert clips.shape == (int(protocol[1]) + int(protocol[3]), 8)
        assert clips.min() >= 0
        frames = sampling.stacked(clips, stack_length(stream), n)
        assert frames.min() >= 0 and frames.max() <= n - 1


@pytest.mark.parametrize("variant", sampling.VARIANTS)
@given(n=st.integers(0, 200))
def test_one_pass_has_all_protocols_of_table_10(variant, n):
    """Each is a subset of its five clips, in the order of its own."""
    for stream in (RGB, FLOW, DIFF):
        clips = sampling.test_indices(n, stream, Views("T10", variant))
        assert clips.shape == (5, 8)
        for protocol, chosen in OF_TABLE_10.items():
            own = sampling.test_indices(n, stream, Views(protocol, variant))
            np.testing.assert_array_equal(clips[list(chosen)], own)


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
    seen = np.stack(
        [sampling.train_indices(np.random.default_rng(s), {"rgb": 43}, [RGB])["rgb"] for s in range(300)]
    )
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
        sampling.test_indices(40, RGB, Views(bad))


def draws(n, stream, count=400):
    """Anchors of ``count`` seeds for one stream alone: [count, frames]."""
    name = stream.name
    return np.stack(
        [sampling.train_indices(np.random.default_rng(s), {name: n}, [stream])[name] for s in range(count)]
    )


def test_dense_starts_of_the_code():
    """0 where n <= D, else {0..n-D-1}: the last possible start is never drawn (MML's code)."""
    dense = RGB._replace(sampling=Sampling("dense", 8, 32))
    for n, starts in ((32, {0}), (33, {0}), (37, set(range(5)))):
        found = draws(n, dense)
        assert set(found[:, 0].tolist()) == starts
        np.testing.assert_array_equal(found, (found[:, :1] + 4 * np.arange(8)) % n)
    # A clip shorter than the span goes round.
    np.testing.assert_array_equal(draws(10, dense, 1)[0], [0, 4, 8, 2, 6, 0, 4, 8])


def test_short_clips_of_the_code():
    """Parts of no width: sorted draws where n > T, zeros otherwise."""
    found = draws(10, FLOW)
    assert (np.diff(found) >= 0).all() and set(found.ravel().tolist()) == set(range(6))
    assert not draws(8, FLOW, 20).any() and not draws(7, RGB, 20).any()
    # RGB has one frame an anchor: 9 frames give 9 // 8 = 1 a part, so nothing is left to chance.
    np.testing.assert_array_equal(np.unique(draws(9, RGB), axis=0), [np.arange(8)])


def test_shifts_are_inclusive_and_a_streams_own():
    lengths = {"rgb": 43, "flow": 39, "diff": 43}
    shifts = set()
    for seed in range(300):
        found = sampling.train_indices(np.random.default_rng(seed), lengths, [RGB, FLOW, DIFF])
        shifts.add((found["rgb"][0] - found["flow"][0], found["diff"][0] - found["flow"][0]))
    assert shifts == {(a, b) for a in range(5) for b in range(5)}


def test_streams_share_the_coin_and_the_first_of_equal_length_defines():
    rgb, diff = (s._replace(sampling=Sampling("mixed", 8, 16)) for s in (RGB, DIFF))
    for seed in range(100):
        for order in ((rgb, diff), (diff, rgb)):
            lengths = dict.fromkeys(("rgb", "diff"), 45)
            found = sampling.train_indices(np.random.default_rng(seed), lengths, order)
            np.testing.assert_array_equal(found["rgb"], found["diff"])
            alone = sampling.train_indices(np.random.default_rng(seed), lengths, order[:1])
            np.testing.assert_array_equal(found["rgb"], alone[order[0].name])


def test_validation_of_a_short_clip_reads_the_first_frames():
    """n <= T + stack - 1 gives zeros (MML's code)."""
    assert not sampling.val_indices(12, 8, 5).any() and sampling.val_indices(13, 8, 5).any()
    np.testing.assert_array_equal(sampling.test_indices(40, RGB, Views("val")), [sampling.val_indices(40, 8, 1)])


def test_dense_clips_come_first_and_any_number_goes():
    both = sampling.test_indices(60, RGB, Views("D2U2"))
    np.testing.assert_array_equal(both[:2], sampling.test_indices(60, RGB, Views("D2U0")))
    np.testing.assert_array_equal(both[2:], sampling.test_indices(60, RGB, Views("D0U2")))
    ten = sampling.test_indices(132, RGB, Views("D10U0"))
    np.testing.assert_array_equal(ten[:, 0], np.linspace(0, 100, 10).astype(int))
    assert not sampling.test_indices(0, FLOW, Views("D1U2")).any()


def test_unknown_variants_are_explained():
    with pytest.raises(ValueError, match="paper"):
        sampling.test_indices(40, RGB, Views("D0U1", "papers"))


# ---------------------------------------------------------------------------- segments (DMCL)
CUT = Sampling("segments", 8)
MODALITIES = [
    Stream("rgb", "rgb", CUT, "image255"),
    Stream("depth", "depth", CUT, "image255"),
    Stream("flow", "flow", CUT, "image255"),
]


def segment_draws(lengths, streams=MODALITIES, count=300):
    return [sampling.train_indices(np.random.default_rng(s), lengths, streams) for s in range(count)]


def test_segments_of_the_spec():
    """L = 30: every frame of every part, and none beside it (DMCL's code)."""
    seen = np.stack([d["rgb"] for d in segment_draws({"rgb": 31, "depth": 31, "flow": 30})])
    edges = [0, 4, 8, 12, 15, 19, 23, 27, 30]
    for j in range(8):
        assert set(seen[:, j].tolist()) == set(range(edges[j], edges[j + 1]))
        counts = np.bincount(seen[:, j])[edges[j] :]
        assert counts.min() > 0.6 * 300 / len(counts)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(1, 20), st.integers(0, 10**6))
def test_segments_are_the_same_for_every_stream(rgb, depth, flow, frames, seed):
    streams = [s._replace(sampling=Sampling("segments", frames)) for s in MODALITIES]
    lengths, n = {"rgb": rgb, "depth": depth, "flow": flow}, min(rgb, depth, flow)
    found = sampling.train_indices(np.random.default_rng(seed), lengths, streams)
    for anchors in found.values():
        np.testing.assert_array_equal(anchors, found["rgb"])
    padded = max(n, 9, frames)
    for j, i in enumerate(found["rgb"]):
        part = range(-(-j * padded // frames), -(-(j + 1) * padded // frames))
        assert i in {min(p, n - 1) for p in part}


def test_short_clips_repeat_their_last_frame():
    """Below 9 frames as if there were 9: [0, 2), then one frame each; 5 stands for 5 to 8."""
    seen = np.stack([d["rgb"] for d in segment_draws(dict.fromkeys(("rgb", "depth", "flow"), 6), count=60)])
    assert set(seen[:, 0].tolist()) == {0, 1}
    np.testing.assert_array_equal(np.unique(seen[:, 1:], axis=0), [[2, 3, 4, 5, 5, 5, 5]])
    one = sampling.train_indices(np.random.default_rng(0), {"rgb": 1}, MODALITIES[:1])["rgb"]
    assert not one.any()


def test_an_absent_stream_does_not_shorten_the_segments():
    for draw in segment_draws({"rgb": 80, "depth": 0, "flow": 79}, count=20):
        assert not draw["depth"].any() and draw["rgb"][-1] >= 70
    nothing = sampling.train_indices(np.random.default_rng(0), {"rgb": 0}, MODALITIES[:1])
    assert not nothing["rgb"].any() and nothing["rgb"].shape == (8,)


def test_frozen_clips_depend_on_the_clip_alone():
    first = sampling.test_indices(31, MODALITIES[0], Views("R10"), shared=30, clip="a001")
    assert first.shape == (10, 8) and len(np.unique(first, axis=0)) == 10
    for stream, n in zip(MODALITIES, (31, 35, 30), strict=True):
        again = sampling.test_indices(n, stream, Views("R10"), shared=30, clip="a001")
        np.testing.assert_array_equal(again, first)
    other = sampling.test_indices(31, MODALITIES[0], Views("R10"), shared=30, clip="a002")
    assert (first != other).any()
    edges = np.array([0, 4, 8, 12, 15, 19, 23, 27, 30])
    assert (first >= edges[:-1]).all() and (first < edges[1:]).all()
    # More clips begin with the same ones; a stream that is not there has zeros.
    np.testing.assert_array_equal(
        sampling.test_indices(31, MODALITIES[0], Views("R12"), shared=30, clip="a001")[:10], first
    )
    assert not sampling.test_indices(0, MODALITIES[1], Views("R10"), shared=30, clip="a001").any()


def test_frozen_clips_stay_what_they_are():
    """The numbers themselves: papers' tables would change with them."""
    found = sampling.test_indices(40, MODALITIES[0], Views("R2"), clip="S001C001P001R001A001")
    np.testing.assert_array_equal(found, [[1, 5, 13, 19, 21, 26, 30, 39], [4, 6, 12, 18, 20, 26, 31, 35]])


def test_random_protocols_need_segments():
    with pytest.raises(ValueError, match="'segments'"):
        sampling.test_indices(1000, RGB, Views("R10"))
    for bad in ("R0", "R", "R-1", "10"):
        with pytest.raises(ValueError, match="'Rn'"):
            sampling.test_indices(1000, MODALITIES[0], Views(bad))
    assert sampling.test_indices(1000, MODALITIES[0], Views("R10", "code")).shape == (10, 8)


def test_segments_go_with_segments_only():
    with pytest.raises(ValueError, match="all of them have it, or none"):
        sampling.train_indices(np.random.default_rng(0), {"rgb": 40, "flow": 39}, [MODALITIES[0], FLOW])
    assert sampling.check_streams(MODALITIES) and not sampling.check_streams([RGB, FLOW])


# ---------------------------------------------------------------------------- ranges, strided (MMD)
def mmd(kind, *names, frames=16, dense_length=64):
    sampling = Sampling(kind, frames, dense_length)
    return [Stream(name, name, sampling, "layout" if name == "boxes" else "frames") for name in names]


def test_ranges_of_the_spec():
    """Worked out by hand from MMD's code: halves to even, ends inclusive."""
    (rgb,) = mmd("ranges", "rgb")
    wanted = {
        40: [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 25, 28, 30, 33, 35, 38],
        10: [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8],
    }
    for n, frames in wanted.items():
        np.testing.assert_array_equal(sampling.test_indices(n, rgb, Views("C1")), [frames])
        np.testing.assert_array_equal(sampling.test_indices(n, rgb, Views("val")), [frames])
    # Clip k is the k-th part of the whole clip.
    three = sampling.test_indices(100, rgb, Views("C3"))
    whole = sampling.test_indices(100, rgb._replace(sampling=Sampling("ranges", 48)), Views("C1"))
    np.testing.assert_array_equal(three, whole.reshape(3, 16))
    # Five frames in two ranges: [0, 2] and [2, 4]; of six, 2.5 is rounded to 2.
    (two,) = mmd("ranges", "rgb", frames=2)
    for n, ends in ((5, ((0, 2), (2, 4))), (6, ((0, 2), (2, 5)))):
        seen = draws(n, two, 200)
        assert [(own.min(), own.max()) for own in seen.T] == list(ends)
        assert all(len(set(own.tolist())) == high - low + 1 for own, (low, high) in zip(seen.T, ends))


def test_strided_clips_of_the_spec():
    (rgb,) = mmd("strided", "rgb", frames=32)
    clip = lambda n, views="C1": sampling.test_indices(n, rgb, Views(views))  # noqa: E731
    np.testing.assert_array_equal(clip(100), [np.arange(18, 81, 2)])
    # 38 is the last even frame of the clip; 39 is none of the sequence.
    np.testing.assert_array_equal(clip(40), [[*range(0, 39, 2), *[38] * 12]])
    np.testing.assert_array_equal(clip(40, "val"), clip(40))
    # int(k avg / K + avg / 2K) with avg = 100 - 63.
    np.testing.assert_array_equal(clip(100, "C3")[:, 0], [6, 18, 30])
    np.testing.assert_array_equal(clip(40, "C2"), [clip(40)[0]] * 2)
    assert not clip(0, "C2").any() and clip(0, "C2").shape == (2, 32)
    # Unlike in MML's dense clips, the last possible start is drawn.
    assert set(draws(67, rgb)[:, 0].tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(draws(64, rgb, 1), [np.arange(0, 64, 2)])
    np.testing.assert_array_equal(draws(41, rgb, 1), [[*range(0, 41, 2), *[40] * 11]])


@pytest.mark.parametrize("kind", ["ranges", "strided"])
@settings(deadline=None, max_examples=60)
@given(st.integers(2, 200), st.integers(0, 10**6))
def test_every_stream_reads_the_frames_of_the_shortest(kind, n, seed):
    """No stream is shifted, and an absent one shortens nobody (MMD's code; there flow is the shortest)."""
    streams = mmd(kind, "rgb", "flow", "boxes", "audio")
    lengths = {"rgb": n, "flow": n - 1, "boxes": n, "audio": 0}
    found = sampling.train_indices(np.random.default_rng(seed), lengths, streams)
    alone = sampling.train_indices(np.random.default_rng(seed), lengths, streams[1:2])
    for name in ("rgb", "flow", "boxes"):
        np.testing.assert_array_equal(found[name], alone["flow"])
    assert not found["audio"].any() and found["rgb"].min() >= 0 and found["rgb"].max() <= n - 2
    assert (np.diff(found["rgb"]) >= 0).all()
    for clips in (1, 3):
        tested = sampling.test_indices(n, streams[0], Views(f"C{clips}"))
        assert tested.shape == (clips, 16) and tested.min() >= 0 and tested.max() <= n - 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 12))
def test_strided_clips_from_end_to_end(n, count):
    """G-Blend's ten: clip k of K begins at round(k max(L - len, 0) / (K - 1)), one alone in the middle."""
    stream = Stream("rgb", "rgb", Sampling("strided", 16, 16))
    found = sampling.test_indices(n, stream, Views(f"E{count}"))
    starts = [round(k * max(n - 16, 0) / (count - 1)) for k in range(count)] if count > 1 else [
        round(max(n - 16, 0) / 2)]  # fmt: skip
    np.testing.assert_array_equal(found[:, 0], starts)
    np.testing.assert_array_equal(found, np.minimum(found[:, :1] + np.arange(16), n - 1))


def test_own_clips_go_with_their_kinds_alone():
    (ranges,), (strided,) = mmd("ranges", "rgb"), mmd("strided", "flow")
    with pytest.raises(ValueError, match=r"'C2' takes clips of .*'ranges'.*'uniform'"):
        sampling.test_indices(40, RGB, Views("C2"))
    with pytest.raises(ValueError, match=r"'E2' takes clips of .*'strided'.*'ranges'"):
        sampling.test_indices(40, ranges, Views("E2"))
    for views in (Views(), Views("D1U2"), Views("R10")):
        with pytest.raises(ValueError, match="write 'C1'"):
            sampling.test_indices(40, ranges, views)
    for pair in ((ranges, strided), (ranges, RGB._replace(name="other"))):
        with pytest.raises(ValueError, match="all of them have it, or none"):
            sampling.check_streams(pair)
    short = strided._replace(sampling=Sampling("strided", 32, 16))
    with pytest.raises(ValueError, match=r"'flow' takes 32 frames from sampling.dense_length=16"):
        sampling.check_streams([short])
    assert sampling.check_streams([ranges]) == "ranges" and sampling.check_streams([RGB, FLOW]) == ""


# ---------------------------------------------------------------------------- fewer frames (CMPL)
@pytest.mark.parametrize("protocol, stream", [("D1U2", RGB), ("val", FLOW), ("R2", MODALITIES[0]), ("C2", None)])
@given(st.integers(0, 60), st.integers(1, 12))
def test_thinned_clips_show_every_kth_frame_in_the_place_of_those_left_out(protocol, stream, n, stride):
    stream = stream or mmd("strided", "rgb", frames=8, dense_length=16)[0]
    both = (protocol, f"{protocol}t{stride}")
    whole, thinned = (sampling.test_indices(n, stream, Views(own), clip="a") for own in both)
    for place in range(whole.shape[1]):
        np.testing.assert_array_equal(thinned[:, place], whole[:, place // stride * stride])


def test_protocols_are_parted_from_their_strides():
    assert sampling.thinning("C10t4") == ("C10", 4) and sampling.thinning("D0U2") == ("D0U2", 1)
    for bad in ("C10t0", "C10t", "t4", "C10t-1"):
        with pytest.raises(ValueError, match="'tK'"):
            sampling.test_indices(40, RGB, Views(bad))
