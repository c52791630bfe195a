"""Which frames of a clip each stream reads: pure functions (MML, section 3.1, appendix 1, its code)."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid.streams import Sampling, Stream, stack_length

VARIANTS = ("code", "paper")


# ---------------------------------------------------------------------------- training
def _dense(rng: np.random.Generator, n: int, s: Sampling) -> np.ndarray:
    start = 0 if n <= s.dense_length else rng.integers(0, n - s.dense_length)
    return (start + np.arange(s.frames) * (s.dense_length // s.frames)) % n


def _uniform(rng: np.random.Generator, n: int, s: Sampling, stack: int) -> np.ndarray:
    width = (n - stack + 1) // s.frames
    if width > 0:
        return np.arange(s.frames) * width + rng.integers(0, width, s.frames)
    if n > s.frames:
        return np.sort(rng.integers(0, max(n - stack, 0) + 1, s.frames))
    return np.zeros(s.frames, np.int64)


def train_indices(
    rng: np.random.Generator, lengths: Mapping[str, int], streams: Sequence[Stream]
) -> dict[str, np.ndarray]:
    """Anchors of one training clip: {stream: int [frames]}.

    ``lengths``: fields of each stream (flow has one less than frames). The shortest stream, first
    on ties, defines the anchors; each other one is shifted by its own xi ~ U{0..n_m - n}. A mixed
    clip is dense or uniform by one coin that all streams share, and streams of one modality share
    their xi, so that two networks of one modality see the same. An absent stream (length 0) gets
    zeros and defines nothing. Source: MML's code.
    """
    coin = rng.random() < 0.5
    anchors: dict[Sampling, np.ndarray] = {}
    there = [s for s in streams if lengths[s.name] > 0]
    shortest = min(there, key=lambda s: lengths[s.name], default=None)
    shifts: dict[str, int] = {}
    out = {}
    for stream in streams:
        s = stream.sampling
        if lengths[stream.name] <= 0:
            out[stream.name] = np.zeros(s.frames, np.int64)
            continue
        n = lengths[shortest.name]
        if s not in anchors:
            dense = s.kind == "dense" or (s.kind == "mixed" and coin)
            stack = stack_length(shortest)
            anchors[s] = _dense(rng, n, s) if dense else _uniform(rng, n, s, stack)
        if stream.modality not in shifts:
            shifts[stream.modality] = rng.integers(0, lengths[stream.name] - n + 1)
        out[stream.name] = anchors[s] + shifts[stream.modality]
    return out


# ---------------------------------------------------------------------------- test
def val_indices(n: int, frames: int, stack: int) -> np.ndarray:
    """Centres of equal parts, as MML's validation: int [frames]; zeros for a clip too short."""
    if n <= frames + stack - 1:
        return np.zeros(frames, np.int64)
    return _uniform_test(n, frames, stack, 0.5)


def _uniform_test(n: int, frames: int, stack: int, offset: float) -> np.ndarray:
    tick = max(n - stack + 1, 1) / frames
    return (tick * offset + tick * np.arange(frames)).astype(np.int64)


def _dense_starts(n: int, k: int, s: Sampling, variant: str) -> np.ndarray:
    if variant == "paper":
        span = max(n - s.dense_length // s.frames * (s.frames - 1), 0)
        return np.array([span // 2]) if k == 1 else np.arange(k) * span // k
    if k == 1:
        # Below 0 for a short clip, where the code goes round: frames are taken modulo n.
        return np.array([int((n - s.dense_length) / 2)])
    return np.linspace(0, max(1, 1 + n - s.dense_length) - 1, k).astype(np.int64)


def _uniform_offsets(m: int, variant: str) -> list[float]:
    # The code's two clips are the centres, then the left edges; the paper prints i / m.
    return [i / m if variant == "paper" else (0.5 + i / m) % 1 for i in range(m)]


def test_indices(n: int, stream: Stream, protocol: str = "D0U1", variant: str = "code") -> np.ndarray:
    """Anchors of every test clip of a stream of ``n`` fields: int [clips, frames].

    ``protocol`` 'DkUm': k dense clips, then m uniform ones (MML table 10); 'val' as during
    training. ``variant`` 'code' (default) or 'paper' (appendix 1; they differ). A stream is
    sampled by its own length, so that its score is the same whichever others are there.
    Raises ValueError for an unknown protocol or variant.
    """
    s, stack = stream.sampling, stack_length(stream)
    if protocol == "val":
        return val_indices(n, s.frames, stack)[None]
    match = re.fullmatch(r"D(\d+)U(\d+)", protocol)
    if not match or not any(map(int, match.groups())) or variant not in VARIANTS:
        raise ValueError(
            f"protocol={protocol!r}, variant={variant!r}: write 'DkUm' (k dense and m uniform "
            f"clips, for instance 'D1U2') or 'val', and one of {VARIANTS}"
        )
    k, m = int(match[1]), int(match[2])
    step = s.dense_length // s.frames * np.arange(s.frames)
    if n <= 0:
        return np.zeros((k + m, s.frames), np.int64)
    dense = [(start + step) % n for start in _dense_starts(n, k, s, variant)] if k else []
    uniform = [_uniform_test(n, s.frames, stack, o) for o in _uniform_offsets(m, variant)]
    return np.stack([*dense, *uniform])


# Not a pytest test, whatever its name begins with.
test_indices.__test__ = False


def stacked(anchors: np.ndarray, stack: int, n: int) -> np.ndarray:
    """Every field read: [..., frames] -> [..., frames, stack], saturating at the last of ``n``."""
    return np.minimum(anchors[..., None] + np.arange(stack), max(n - 1, 0))
