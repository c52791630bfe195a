"""Which frames of a clip each stream reads: pure functions (MML, section 3.1, appendix 1, its code;
DMCL's segments, its code)."""

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid.streams import Sampling, Stream, stack_length

VARIANTS = ("code", "paper")
# DMCL's converters repeat the last frame of shorter clips up to so many.
PADDED = 9


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


def _segments(rng: np.random.Generator | np.random.RandomState, n: int, frames: int) -> np.ndarray:
    """One frame of each segment [ceil(j L / k), ceil((j + 1) L / k)) of a padded clip (DMCL's code)."""
    length = max(n, PADDED, frames)
    edges = -(-np.arange(frames + 1) * length // frames)
    picked = edges[:-1] + np.floor(rng.random(frames) * np.diff(edges)).astype(np.int64)
    return np.minimum(picked, n - 1)


def check_streams(streams: Sequence[Stream]) -> bool:
    """Whether a run's streams are cut by segments. Raises ValueError where only some of them are."""
    kinds = {s.name: s.sampling.kind for s in streams}
    segments = [kind == "segments" for kind in kinds.values()]
    if any(segments) and not all(segments):
        raise ValueError(
            f"sampling.kind of the streams is {kinds}: 'segments' gives every stream the same frames, "
            "so let all of them have it, or none"
        )
    return any(segments)


def _train_segments(
    rng: np.random.Generator, lengths: Mapping[str, int], streams: Sequence[Stream]
) -> dict[str, np.ndarray]:
    n = min((lengths[s.name] for s in streams if lengths[s.name] > 0), default=0)
    picked: dict[int, np.ndarray] = {}
    out = {}
    for stream in streams:
        k = stream.sampling.frames
        if lengths[stream.name] > 0 and k not in picked:
            picked[k] = _segments(rng, n, k)
        out[stream.name] = picked[k] if lengths[stream.name] > 0 else np.zeros(k, np.int64)
    return out


def train_indices(
    rng: np.random.Generator, lengths: Mapping[str, int], streams: Sequence[Stream]
) -> dict[str, np.ndarray]:
    """Anchors of one training clip: {stream: int [frames]}.

    ``lengths``: frames of each stream (flow has one less than the clip). The shortest stream, first
    on ties, defines the anchors; each other one is shifted by its own xi ~ U{0..n_m - n}. A mixed
    clip is dense or uniform by one coin that all streams share, and streams of one modality share
    their xi, so that two networks of one modality see the same. An absent stream (length 0) gets
    zeros and defines nothing. Source: MML's code.

    Streams of the kind 'segments' read the same random frame of each segment, of the shortest one's
    length (DMCL's code). Raises ValueError where only some are of that kind.
    """
    if check_streams(streams):
        return _train_segments(rng, lengths, streams)
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


def _frozen(n: int, stream: Stream, count: int, clip: str) -> np.ndarray:
    """``count`` draws of segments that a clip keeps for ever."""
    if stream.sampling.kind != "segments":
        raise ValueError(
            f"protocol='R{count}' draws segments (DMCL), stream {stream.name!r} has sampling.kind="
            f"{stream.sampling.kind!r}: set it to 'segments', or write 'DkUm'"
        )
    # RandomState: NumPy promises its numbers for all versions to come, those of a Generator not.
    rng = np.random.RandomState(zlib.crc32(clip.encode()))
    return np.stack([_segments(rng, n, stream.sampling.frames) for _ in range(count)])


def _protocol(protocol: str, variant: str) -> tuple[int, int, int]:
    """(dense, uniform, random) clips. Raises ValueError for an unknown protocol or variant."""
    match = re.fullmatch(r"D(\d+)U(\d+)|R(\d+)", protocol)
    counts = tuple(int(text or 0) for text in match.groups()) if match else (0, 0, 0)
    if not any(counts) or variant not in VARIANTS:
        raise ValueError(
            f"protocol={protocol!r}, variant={variant!r}: write 'DkUm' (k dense and m uniform "
            f"clips, for instance 'D1U2'), 'Rn' (n random ones) or 'val', and one of {VARIANTS}"
        )
    return counts


def test_indices(
    n: int,
    stream: Stream,
    protocol: str = "D0U1",
    variant: str = "code",
    *,
    shared: int | None = None,
    clip: str = "",
) -> np.ndarray:
    """Anchors of every test clip of a stream of ``n`` frames: int [clips, frames].

    ``protocol`` 'DkUm': k dense clips, then m uniform ones (MML table 10); 'val' as during
    training. ``variant`` 'code' (default) or 'paper' (appendix 1; they differ). A stream is
    sampled by its own length, so that its score is the same whichever others are there.
    'Rn' (DMCL): n clips of random segments, frozen: they follow from the id ``clip`` and from
    ``shared``, the least length of the streams (None: ``n``), hence are the same for all of them.
    Raises ValueError for an unknown protocol or variant, or 'Rn' for a stream without segments.
    """
    s, stack = stream.sampling, stack_length(stream)
    if protocol == "val":
        return val_indices(n, s.frames, stack)[None]
    k, m, random = _protocol(protocol, variant)
    if random:
        drawn = _frozen(max(n if shared is None else shared, 1), stream, random, clip)
        return drawn if n > 0 else np.zeros_like(drawn)
    step = s.dense_length // s.frames * np.arange(s.frames)
    if n <= 0:
        return np.zeros((k + m, s.frames), np.int64)
    dense = [(start + step) % n for start in _dense_starts(n, k, s, variant)] if k else []
    uniform = [_uniform_test(n, s.frames, stack, o) for o in _uniform_offsets(m, variant)]
    return np.stack([*dense, *uniform])


# Not a pytest test, whatever its name begins with.
test_indices.__test__ = False


def stacked(anchors: np.ndarray, stack: int, n: int) -> np.ndarray:
    """Every frame read: [..., frames] -> [..., frames, stack], saturating at the last of ``n``."""
    return np.minimum(anchors[..., None] + np.arange(stack), max(n - 1, 0))
