"""Reads sound: mono, at one rate."""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from mmvid.data.media import files as files_lib
from mmvid.data.media import track
from mmvid.data.media.files import DecodeError, existing, listening, opened


class Sound(NamedTuple):
    """Mono sound: ``samples`` int16 [n], the first of which sounds ``start`` seconds after the clip's start."""

    samples: np.ndarray
    start: float


class Silent(DecodeError):
    """Says that a track of sound has nothing in the seconds that are asked for."""


def there(path: str | os.PathLike) -> bool:
    """Tells whether a file can be opened and has a stream of sound."""
    try:
        with listening("sound") as logs, opened(existing(path)) as container:
            # Complaints are for whoever reads the stream.
            logs.clear()
            return bool(container.streams.audio)
    except DecodeError:
        return False


# Seconds. What begins before is decoded from the file's start, for which no table is needed.
_NEAR = 10.0


def read(path: str | os.PathLike, *, rate: int = 16_000, start: float = 0.0, end: float | None = None) -> Sound:
    """Reads sound as int16 mono at ``rate`` samples a second, from ``start`` to ``end`` seconds.

    The seconds are of the container's clock, which `video` goes by, too. The samples are those that decoding the
    whole file and cutting it would give, wherever the search for ``start`` leads (see ``media.track``): what is
    resampled lies on a grid that begins with the track. Holes become silence. Raises DecodeError, for instance
    where there is no stream of sound, and of these Silent where there is no sound in the interval.
    """
    path = existing(path)
    with listening("sound") as logs:
        table = track.read(path) if start > _NEAR else None
        try:
            samples, first = _read(path, rate, (start, end), table, logs)
        except track.Lost:
            samples, first = _read(path, rate, (start, end), None, logs)
    if not len(samples):
        raise Silent(f"no sound in {path.name} between {start} s and {'the end' if end is None else end}")
    return Sound(samples, max(first - start, 0.0))


def _read(path, rate: int, wanted: tuple, table: track.Track | None, logs: list) -> tuple[np.ndarray, float]:
    """Returns (samples int16 [n] of ``wanted`` (start, end) in seconds, second of the track's first sample)."""
    # What FFmpeg complained of before, it complains of again in decoding, if the clip reaches that far.
    logs.clear()
    with opened(path) as container:
        stream = track.sound_stream(container, path.name)
        if table is None:
            frames = track.whole(container, stream)
        else:
            settled = int((wanted[0] - table.first) * table.rate) - _reach(table.rate, rate)
            frames = track.searched(container, stream, table, settled, logs)
        return _cut(frames, rate, *wanted)


def _reach(own: int, rate: int) -> int:
    """Returns within how many samples of a track, at ``own`` samples a second, a resampler to ``rate`` finds all
    that a sample of its own is made from: 32 of the slower rate, by far."""
    # Besides, the grids of the two rates meet only once in so many.
    return 64 * own // min(own, rate) + own // math.gcd(own, rate)


def _cut(frames: Iterator, rate: int, start: float, end: float | None) -> tuple[np.ndarray, float]:
    """Resamples what `track.whole` yields, and cuts it: returns (samples int16 [n] from ``start`` to ``end``, the
    second of the track's first sample).

    Raises DecodeError where the sound changes its rate or channels, or is too long.
    """
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    parts, first, begin, due, stop, kind = [], 0.0, 0, None, math.inf, None
    for place, first, frame in frames:
        own = frame.sample_rate
        if due is None:
            # Where the grids of the two rates meet; the silence up to the first frame is cut off again.
            due, kind = place - place % (own // math.gcd(own, rate)), _kind(frame)
            begin = due * rate // own
            stop = math.inf if end is None else math.ceil((end - first) * own) + _reach(own, rate)
        if _kind(frame) != kind:
            raise DecodeError(
                f"the sound changes from {kind} to {_kind(frame)}: convert it (ffmpeg -i FILE NEW.wav)"
            )
        files_lib.check_room(1, (min(place, stop) - due) * 2)
        for silence in _silences(frame, min(place, stop) - due):
            parts += resampler.resample(silence)
        if place >= stop:
            break
        parts += resampler.resample(frame)
        due = place + frame.samples
    # The resampler holds back some samples until it is told that no more come.
    parts += resampler.resample(None)
    samples = np.concatenate([f.to_ndarray()[0] for f in parts]) if parts else np.zeros(0, np.int16)
    edges = [None if t is None else max(round((t - first) * rate) - begin, 0) for t in (start, end)]
    return samples[slice(*edges)], first


def _kind(frame: av.AudioFrame) -> str:
    return f"{frame.sample_rate} Hz {frame.layout.name} {frame.format.name}"


def _silences(like: av.AudioFrame, count: int) -> Iterator[av.AudioFrame]:
    """Yields frames of silence of the kind of ``like``, ``count`` samples in all."""
    for done in range(0, count, like.sample_rate):
        frame = av.AudioFrame(like.format, like.layout, min(like.sample_rate, count - done))
        frame.sample_rate, frame.time_base = like.sample_rate, like.time_base
        for plane in frame.planes:
            # The middle of what 8 bits without a sign hold; of all other formats it is 0.
            plane.update((b"\x80" if like.format.name.startswith("u8") else b"\0") * plane.buffer_size)
        yield frame
