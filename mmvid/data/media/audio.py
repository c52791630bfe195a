"""Reads sound: mono, at one rate."""

import os
from typing import NamedTuple

import av
import numpy as np

from mmvid.data.media import files as files_lib
from mmvid.data.media.files import DecodeError, existing, listening, opened


class Sound(NamedTuple):
    """Mono sound: ``samples`` int16 [n], the first of which sounds ``start`` seconds after the clip's start."""

    samples: np.ndarray
    start: float


def there(path: str | os.PathLike) -> bool:
    """Tells whether a file can be opened and has a stream of sound."""
    try:
        with listening("sound") as logs, opened(existing(path)) as container:
            # Complaints are for whoever reads the stream.
            logs.clear()
            return bool(container.streams.audio)
    except DecodeError:
        return False


# Seconds. Containers round the times of sound; a longer gap is a hole in it.
_HOLE = 0.05


def read(path: str | os.PathLike, *, rate: int = 16_000, start: float = 0.0, end: float | None = None) -> Sound:
    """Reads sound as int16 mono at ``rate`` samples a second, from ``start`` to ``end`` seconds.

    The seconds are of the container's clock, which `video` goes by, too. Holes become silence. Raises
    DecodeError, for instance where there is no stream of sound, or no sound in the interval.
    """
    path = existing(path)
    with listening("sound"), opened(path) as container:
        if not container.streams.audio:
            raise DecodeError(f"no sound stream in {path.name}")
        samples, first = _samples(container, rate)
    stop = len(samples) if end is None else max(round((end - first) * rate), 0)
    samples = samples[max(round((start - first) * rate), 0) : stop]
    if not len(samples):
        raise DecodeError(f"no sound in {path.name} between {start} s and {'the end' if end is None else end}")
    return Sound(samples, max(first - start, 0.0))


def _samples(container, rate: int) -> tuple[np.ndarray, float]:
    """Returns (samples int16 [n], the second at which the first of them sounds)."""
    origin = (container.start_time or 0) / av.time_base
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    parts, first, due = [], None, 0.0
    for frame in container.decode(audio=0):
        time = due if frame.time is None else float(frame.time) - origin
        if first is None:
            first = due = time
        if time - due > _HOLE:
            files_lib.check_room(1, round((time - first) * rate) * 2)
            parts.append(np.zeros(round((time - due) * rate), np.int16))
            due = time
        parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        due += frame.samples / frame.sample_rate
    # The resampler holds back some samples until it is told that no more come.
    parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16), first or 0.0
