"""Draws the stretch of a clip that all streams read together: segments, ranges, strided frames, and clips.

Sources: DMCL's code for segments; for ranges and strided frames the code of multimodal distillation (MMD); for
clips CMPL's section 3.3, which leaves open how a start is displaced: see `clips`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mmvid.streams import Sampling

# DMCL's converters repeat the last frame of shorter clips up to so many.
PADDED = 9


def segments(rng: np.random.Generator | np.random.RandomState, n: int, frames: int) -> np.ndarray:
    """Draws one frame of each segment [ceil(j L / k), ceil((j + 1) L / k)), j < k = ``frames``, of a clip that is
    padded to L frames by its last one (DMCL's code): int [frames]."""
    length = max(n, PADDED, frames)
    edges = -(-np.arange(frames + 1) * length // frames)
    picked = edges[:-1] + np.floor(rng.random(frames) * np.diff(edges)).astype(np.int64)
    return np.minimum(picked, n - 1)


# ---------------------------------------------------------------------------- ranges
def _ends(n: int, ranges: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (first, last) frames of ``ranges`` equal ranges from the first to the last frame of a clip.

    Both belong to a range, so that neighbours share one (MMD's code; it rounds halves to even, as NumPy does).
    """
    edges = np.round((n - 1) / ranges * np.arange(ranges + 1)).astype(np.int64)
    return edges[:-1], edges[1:]


def middles(n: int, ranges: int) -> np.ndarray:
    """Returns the middle frame of each of ``ranges`` ranges, int [ranges] (MMD's code)."""
    first, last = _ends(n, ranges)
    return (first + last) // 2


def _ranges(rng: np.random.Generator, n: int, frames: int) -> np.ndarray:
    """Draws one frame of each range (MMD's code): int [frames]."""
    first, last = _ends(n, frames)
    return rng.integers(first, last + 1)


# ---------------------------------------------------------------------------- at a fixed stride
def strides(start: np.ndarray, n: int, s: Sampling) -> np.ndarray:
    """Returns the frames at a fixed stride from ``start`` [..], int [.., frames].

    Beyond the end of a clip, 'clip' repeats the clip's last frame; 'strided' the last one within it that the
    stride meets, which is not always the clip's last one (MMD's code).
    """
    stride, start = s.dense_length // s.frames, start[..., None]
    steps, room = stride * np.arange(s.frames), n - 1 - start
    return start + np.minimum(steps, room if s.kind == "clip" else room // stride * stride)


def _strided(rng: np.random.Generator, n: int, s: Sampling) -> np.ndarray:
    """Draws a strided clip; unlike in a dense one, the last possible start is drawn, too: int [frames]."""
    return strides(np.asarray(rng.integers(max(n - s.dense_length + 1, 1))), n, s)


def clips(
    rng: np.random.Generator, n: int, samplings: Sequence[Sampling], fps: float
) -> dict[Sampling, np.ndarray]:
    """Draws CMPL's clips of a video of ``n`` frames: {sampling: int [frames]}.

    All of them last ``dense_length`` frames and have one start, any at which so many fit. With an ``offset`` of t
    seconds, the start moves by U{-t fps .. t fps} frames, and stays within the possible ones. The paper does not
    say how it is displaced.
    """
    # Equal for all samplings (`sampling.check_streams`).
    last = max(n - samplings[0].dense_length, 0)
    shared, out = rng.integers(last + 1), {}
    # Streams of equal sampling share one draw, whatever their modality.
    for s in dict.fromkeys(samplings):
        reach = round(s.offset * fps)
        moved = shared + rng.integers(-reach, reach + 1) if reach else shared
        out[s] = strides(np.clip(moved, 0, last), n, s)
    return out


# ---------------------------------------------------------------------------- by kind
def _drawn_by(draw: Callable, key: Callable) -> Callable:
    """Makes a kind that draws frames with ``draw(rng, n, sampling)``; samplings of equal ``key`` share a draw."""

    def drawn(rng: np.random.Generator, n: int, samplings: Sequence[Sampling], fps: float) -> dict:
        picked: dict = {}
        for s in samplings:
            if key(s) not in picked:
                picked[key(s)] = draw(rng, n, s)
        return {s: picked[key(s)] for s in samplings}

    return drawn


# {kind: draw(rng, n, samplings, fps) -> {sampling: int [frames]}} of a clip of n frames.
KINDS: Mapping[str, Callable] = {
    "segments": _drawn_by(lambda rng, n, s: segments(rng, n, s.frames), lambda s: s.frames),
    "ranges": _drawn_by(lambda rng, n, s: _ranges(rng, n, s.frames), lambda s: s.frames),
    "strided": _drawn_by(_strided, lambda s: (s.frames, s.dense_length)),
    "clip": clips,
}


def check(stream: str, s: Sampling) -> None:
    """Raises ValueError for a ``stream`` whose sampling has no stride, an uneven one, or an offset that its kind
    does not know."""
    if s.kind in ("strided", "clip") and s.dense_length < s.frames:
        raise ValueError(
            f"stream {stream!r} takes {s.frames} frames from sampling.dense_length={s.dense_length}: "
            f"give it {s.frames} (a stride of 1) or a multiple"
        )
    if s.kind == "clip" and s.dense_length % s.frames:
        raise ValueError(
            f"stream {stream!r} takes {s.frames} frames from sampling.dense_length={s.dense_length}, which are "
            "not a multiple: choose frames that divide it, so that all streams last equally long"
        )
    if not 0 <= s.offset < float("inf"):
        raise ValueError(f"stream {stream!r}: sampling.offset={s.offset}: give a number of seconds, 0 or more")
    if s.offset and s.kind != "clip":
        raise ValueError(
            f"stream {stream!r}: sampling.offset={s.offset} is of sampling.kind='clip', not of {s.kind!r}: set it "
            "to 0, or change the kind"
        )
