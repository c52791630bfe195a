"""Chooses the frames of a clip that each stream reads, by pure functions.

Sources: MML's section 3.1, its appendix 1 and its code. The kinds that give all streams the same stretch of a clip
are in data/spans.py.
"""

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid.data import spans
from mmvid.streams import ALL_OF_TABLE_10, Sampling, Stream, Views, stack_length

VARIANTS = ("code", "paper")
# The kinds of which a stream's test clips are 'Cn'; those at a fixed stride have 'En', too.
STRIDED = ("strided", "clip")
OWN = ("ranges", *STRIDED)


# ---------------------------------------------------------------------------- training
def _dense(rng: np.random.Generator, n: int, s: Sampling) -> np.ndarray:
    """Returns a random dense clip, int [frames]: a fixed stride, modulo ``n`` where the clip is shorter."""
    # The upper end is exclusive: as in MML's code, the last possible start is never drawn.
    start = 0 if n <= s.dense_length else rng.integers(0, n - s.dense_length)
    return (start + np.arange(s.frames) * (s.dense_length // s.frames)) % n


def _uniform(rng: np.random.Generator, n: int, s: Sampling, stack: int) -> np.ndarray:
    """Returns a random frame of each of equal parts, int [frames]; a whole stack fits behind each of them."""
    width = (n - stack + 1) // s.frames
    if width > 0:
        return np.arange(s.frames) * width + rng.integers(0, width, s.frames)
    # Parts of less than a frame: MML's code draws at random then, and the first frame where even that fails.
    if n > s.frames:
        return np.sort(rng.integers(0, max(n - stack, 0) + 1, s.frames))
    return np.zeros(s.frames, np.int64)


def check_streams(streams: Sequence[Stream]) -> str:
    """Returns the kind by which all of a run's streams read the same stretch of a clip; '' where there is none.

    Raises ValueError where only some streams are of such a kind, or two of different ones; for strided frames
    whose stride would be none; for clips of unequal lengths, or that their frames do not divide evenly; for an
    offset of another kind.
    """
    kinds = {s.name: s.sampling.kind for s in streams}
    shared = sorted(set(kinds.values()) & set(spans.KINDS))
    if shared and len(set(kinds.values())) > 1:
        raise ValueError(
            f"sampling.kind of the streams is {kinds}: {shared[0]!r} gives every stream the same frames, "
            "so let all of them have it, or none"
        )
    for stream in streams:
        spans.check(stream.name, stream.sampling)
    lengths = {s.name: s.sampling.dense_length for s in streams if s.sampling.kind == "clip"}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"sampling.dense_length of the streams is {lengths}: streams of sampling.kind='clip' last equally "
            "long, so give them one dense_length, and their speeds by sampling.frames"
        )
    return shared[0] if shared else ""


def _train_shared(
    rng: np.random.Generator, lengths: Mapping[str, int], streams: Sequence[Stream], kind: str, fps: float
) -> dict[str, np.ndarray]:
    """Returns {stream: int [frames]}: one draw from the shortest stream, whose stretch all streams read."""
    there = [s for s in streams if lengths[s.name] > 0]
    n = min((lengths[s.name] for s in there), default=0)
    picked = spans.KINDS[kind](rng, n, [s.sampling for s in there], fps) if there else {}
    return {s.name: picked[s.sampling] if s in there else np.zeros(s.sampling.frames, np.int64) for s in streams}


def train_indices(
    rng: np.random.Generator, lengths: Mapping[str, int], streams: Sequence[Stream], fps: float = 1.0
) -> dict[str, np.ndarray]:
    """Draws the anchors of one training clip of ``fps`` frames a second: {stream: int [frames]}.

    ``lengths`` gives the frames of each stream (flow has one less than the clip). The shortest stream, the
    first one on ties, defines the anchors; those of modality m are shifted by a draw xi_m ~ U{0..n_m - n},
    where n is the shortest length. All streams share the coin that makes a mixed clip dense or uniform, and
    streams of one modality share their xi_m, so that two networks of one modality see the same. An absent
    stream (length 0) gets zeros and defines nothing. Source: MML's code.

    Streams of the kinds 'segments' (DMCL's code), 'ranges' and 'strided' (MMD's) all read the same frames of the
    shortest stream, without a shift; those of the kind 'clip' (CMPL) read the same stretch of it, each at a stride
    and an offset of its own. Raises ValueError as `check_streams` does.
    """
    if kind := check_streams(streams):
        return _train_shared(rng, lengths, streams, kind, fps)
    # As in MML's code, all modalities of a clip share one coin.
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
        # Streams of equal sampling share one draw, whatever their modality.
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
    """Returns the centres of equal parts, int [frames], as MML's validation does; zeros for a clip too short."""
    if n <= frames + stack - 1:
        return np.zeros(frames, np.int64)
    return _uniform_test(n, frames, stack, 0.5)


def _uniform_test(n: int, frames: int, stack: int, offset: float) -> np.ndarray:
    """Returns the point at ``offset`` (0: left edge, 1/2: centre) of each of equal parts: int [frames]."""
    tick = max(n - stack + 1, 1) / frames
    return (tick * offset + tick * np.arange(frames)).astype(np.int64)


def _dense_starts(n: int, k: int, s: Sampling, variant: str) -> np.ndarray:
    """Returns the first frames of ``k`` dense test clips, int [k] (MML, appendix 1, or its code)."""
    if variant == "paper":
        # Appendix 1: T' = T - tau (N - 1), starts i T' / k; the code leaves T - tau N, and takes both ends.
        span = max(n - s.dense_length // s.frames * (s.frames - 1), 0)
        return np.array([span // 2]) if k == 1 else np.arange(k) * span // k
    if k == 1:
        # Below 0 for a short clip, where the code goes round: frames are taken modulo n.
        return np.array([int((n - s.dense_length) / 2)])
    return np.linspace(0, max(1, 1 + n - s.dense_length) - 1, k).astype(np.int64)


def _uniform_offsets(m: int, variant: str) -> list[float]:
    """Returns for each of ``m`` uniform test clips where in each part of the clip its frame lies, from 0 to 1."""
    # The code's two clips are the centres, then the left edges; the paper prints i / m.
    return [i / m if variant == "paper" else (0.5 + i / m) % 1 for i in range(m)]


def _frozen(n: int, stream: Stream, count: int, clip: str) -> np.ndarray:
    """Draws segments ``count`` times, at every call the same ones for a ``clip``: int [count, frames]."""
    if stream.sampling.kind != "segments":
        raise ValueError(
            f"protocol='R{count}' draws segments (DMCL), stream {stream.name!r} has sampling.kind="
            f"{stream.sampling.kind!r}: set it to 'segments', or write 'DkUm'"
        )
    # RandomState: NumPy promises its numbers for all versions to come, those of a Generator not.
    rng = np.random.RandomState(zlib.crc32(clip.encode()))
    return np.stack([spans.segments(rng, n, stream.sampling.frames) for _ in range(count)])


def _own(n: int, stream: Stream, count: int, letter: str = "C") -> np.ndarray:
    """Returns ``count`` test clips of the stream's own kind: int [count, frames].

    Of 'ranges' they are the middles of so many times as many ranges, so that clip k is the k-th part of the whole
    clip. Of 'strided' and 'clip' they begin at the middles of as many equal parts of the possible starts (both
    MMD's code); by the ``letter`` 'E', evenly from the first to the last possible start. An offset is of training.
    """
    s, kinds = stream.sampling, OWN if letter == "C" else STRIDED
    if s.kind not in kinds:
        raise ValueError(
            f"protocol='{letter}{count}' takes clips of the kinds {kinds}, stream {stream.name!r} has "
            f"sampling.kind={s.kind!r}: set it to one of them, or write 'DkUm'"
        )
    if n <= 0:
        return np.zeros((count, s.frames), np.int64)
    if s.kind == "ranges":
        return spans.middles(n, count * s.frames).reshape(count, s.frames)
    if letter == "E":
        places = np.arange(count) / (count - 1) if count > 1 else np.array([0.5])
        return spans.strides(np.round(places * max(n - s.dense_length, 0)).astype(np.int64), n, s)
    room = max(n - s.dense_length + 1, 0)
    return spans.strides((np.arange(count) * room / count + room / (2 * count)).astype(np.int64), n, s)


def thinning(protocol: str) -> tuple[str, int]:
    """Parts a protocol from how its clips are thinned: 'C10t4' -> ('C10', 4); 1 where every frame is shown."""
    match = re.fullmatch(r"(.+)t([1-9]\d*)", protocol)
    return (match[1], int(match[2])) if match else (protocol, 1)


def _protocol(protocol: str, variant: str) -> tuple[int, int, int, int]:
    """Parses a protocol into (dense, uniform, random, own) counts of clips. Raises ValueError for an unknown one,
    or for an unknown variant."""
    match = re.fullmatch(r"D(\d+)U(\d+)|R(\d+)|[CE](\d+)", protocol)
    counts = tuple(int(text or 0) for text in match.groups()) if match else (0, 0, 0, 0)
    if not any(counts) or variant not in VARIANTS:
        raise ValueError(
            f"protocol={protocol!r}, variant={variant!r}: write 'DkUm' (k dense and m uniform clips, such as "
            f"'D1U2'), 'Rn' (n random), 'Cn' (n of {OWN}), 'En' (n of {STRIDED}), '{ALL_OF_TABLE_10}' (all of "
            f"MML's table 10) or 'val', behind any 'tK' to show every K-th frame alone, and one of {VARIANTS}"
        )
    return counts


def test_indices(n: int, stream: Stream, views: Views, *, shared: int | None = None, clip: str = "") -> np.ndarray:
    """Returns the anchors of every test clip of a stream of ``n`` frames: int [clips, frames].

    ``views`` give the protocol and its variant. 'DkUm' takes k dense clips, then m uniform ones (MML, table 10);
    'val' takes the one clip of the validation during training. The variant is 'code' or 'paper' (MML, appendix
    1), which differ. A stream is sampled by its own length, so its score does not depend on the other streams.

    'Rn' (DMCL) takes n clips of random segments, which never change: they follow from the id ``clip`` and from
    ``shared``, the least length of the streams (None: ``n``), and so are the same for all streams. Raises
    ValueError for an unknown protocol or variant, or one that does not go with the stream's kind of sampling.

    'Cn' (MMD) takes n clips of the kinds 'ranges', 'strided' or 'clip', 'En' (G-Blend, by SlowFast's formula) n of
    the last two from end to end; streams of these kinds take no others, and one of them for 'val'.

    'T10' takes five: those of 'D1U0', 'D2U0' and 'D0U2', of which all eight protocols of MML's table 10 are made
    (`streams.OF_TABLE_10`).

    Behind any of these, 'tK' thins the clips (CMPL, figure 5): every K-th anchor is shown, and each of them stands
    in for those left out behind it, so that a clip stays as long as it was.
    """
    protocol, stride = thinning(views.protocol)
    if protocol != views.protocol:
        anchors = test_indices(n, stream, views._replace(protocol=protocol), shared=shared, clip=clip)
        return anchors[:, np.arange(anchors.shape[1]) // stride * stride]
    if protocol == ALL_OF_TABLE_10:
        parts = [views._replace(protocol=part) for part in ("D1U0", "D2U0", "D0U2")]
        return np.concatenate([test_indices(n, stream, part, shared=shared, clip=clip) for part in parts])
    s, stack = stream.sampling, stack_length(stream)
    if views.protocol == "val":
        return _own(n, stream, 1) if s.kind in OWN else val_indices(n, s.frames, stack)[None]
    k, m, random, own = _protocol(views.protocol, views.variant)
    if own:
        return _own(n, stream, own, views.protocol[0])
    if s.kind in OWN:
        raise ValueError(
            f"protocol={views.protocol!r} does not go with stream {stream.name!r} of sampling.kind={s.kind!r}, "
            "whose test clips are 'Cn': write 'C1' for one"
        )
    if random:
        drawn = _frozen(max(n if shared is None else shared, 1), stream, random, clip)
        return drawn if n > 0 else np.zeros_like(drawn)
    step = s.dense_length // s.frames * np.arange(s.frames)
    if n <= 0:
        return np.zeros((k + m, s.frames), np.int64)
    dense = [(start + step) % n for start in _dense_starts(n, k, s, views.variant)] if k else []
    uniform = [_uniform_test(n, s.frames, stack, o) for o in _uniform_offsets(m, views.variant)]
    return np.stack([*dense, *uniform])


# Not a pytest test, whatever its name begins with.
test_indices.__test__ = False


def stacked(anchors: np.ndarray, stack: int, n: int) -> np.ndarray:
    """Returns every frame that is read, int [..., frames, stack], from the anchors [..., frames].

    Each anchor is followed by the next frames; beyond the last of ``n`` frames, the last one repeats.
    """
    return np.minimum(anchors[..., None] + np.arange(stack), max(n - 1, 0))
