"""Reads a clip's RGB from a film, from pictures, or from a single picture."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvid.data.media import display, film, timetable
from mmvid.data.media import files as files_lib
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media.files import DecodeError, existing
from mmvid.data.media.pictures import IMAGES, PICTURES_FPS


class Video(NamedTuple):
    """A clip of T frames at ``times`` [T] in seconds from its start. ``frames``, uint8 [kept, H, W, 3], are those
    at ``places`` [kept], which rise: all of them, unless a reader is told to keep fewer.

    Times keep a variable rate; ``fps`` is the average one. ``first`` is the number of the first frame in the
    whole video, from 0.
    """

    frames: np.ndarray
    times: np.ndarray
    fps: float
    first: int
    places: np.ndarray


# ``keep(times)``: the places that are kept of a clip's frames at ``times`` [T], in seconds from its start.
Keep = Callable[[np.ndarray], np.ndarray]


def of_film(
    path: str | os.PathLike,
    *,
    start: float = 0.0,
    end: float | None = None,
    short_side: int = 0,
    keep: Keep = film.every,
) -> Video:
    """Reads all frames between ``start`` and ``end`` seconds as players show them (deinterlaced, in square pixels,
    upright), shrunk to a short side of ``short_side`` pixels.

    They are the frames that decoding the whole file would show in this time, wherever the search for ``start``
    leads (see ``media.timetable``). Raises DecodeError with a reason: missing, empty, not a video, no video
    stream, truncated, damaged, times that jump back, no frames in the interval.
    """
    convert = functools.partial(_rgb, VideoReformatter(), short_side)
    nothing = f"no frames between {start} s and {'the end' if end is None else end}"
    frames, times, fps, own = film.read(
        existing(path),
        "video",
        lambda table: table.between(start, end),
        convert,
        nothing,
        lambda seconds: keep(seconds - start),
    )
    times = times[own.start : own.stop] - start
    return Video(frames, times, fps, own.start, keep(times))


def _rgb(reformatter: VideoReformatter, short_side: int, frame: av.VideoFrame, stream) -> np.ndarray:
    """Converts a frame to the picture that a player shows, uint8 [H, W, 3]."""
    pixels = film.pixels(frame, reformatter, "rgb24")
    # Before it is turned: the shape of a pixel is told of the picture as it is stored.
    square = pictures_lib.fit(pixels, short_side, aspect=float(stream.sample_aspect_ratio or 1))
    return display.upright(square, frame)


def image(path: str | os.PathLike, *, short_side: int = 0) -> Video:
    """Reads a still image as a clip of one frame. Raises DecodeError."""
    picture = pictures_lib.read_image(pathlib.Path(path), cv2.IMREAD_COLOR)
    frame = pictures_lib.fit(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), short_side)
    return Video(frame[None], np.zeros(1), 1.0, 0, np.arange(1))


def images(
    files: Sequence[pathlib.Path],
    *,
    fps: float = PICTURES_FPS,
    start: float = 0.0,
    end: float | None = None,
    short_side: int = 0,
    keep: Keep = film.every,
) -> Video:
    """Reads pictures, ``fps`` a second, as a video from ``start`` to ``end`` seconds. Raises DecodeError."""
    times = np.arange(len(files)) / fps
    # A microsecond of slack: i / fps and an interval's end are rounded differently.
    wanted = np.flatnonzero((times >= start - 1e-6) & (times < (np.inf if end is None else end) - 1e-6))
    if not len(wanted):
        raise DecodeError(f"no frames between {start} s and {'the end' if end is None else end}")
    times, first = times[wanted] - start, int(wanted[0])
    frames, places = None, keep(times)
    for row, i in enumerate(wanted[places]):
        with pictures_lib.naming(files[i]):
            frame = image(files[i], short_side=short_side).frames[0]
        # One array, filled in place: stacking at the end would need the memory twice.
        if frames is None:
            files_lib.check_room(len(places), len(places) * frame.nbytes)
            frames = np.empty((len(places), *frame.shape), np.uint8)
        if frame.shape != frames.shape[1:]:
            raise DecodeError(f"frames of different sizes: {sorted({frame.shape[:2], frames.shape[1:3]})}")
        frames[row] = frame
    return Video(frames, times, fps, first, places)


def read(path: str | os.PathLike | list[pathlib.Path], *, fps: float = PICTURES_FPS, **options) -> Video:
    """Reads RGB from whatever ``path`` is: a folder of images, a pattern (see ``sequence``) or a list, by
    ``images`` at ``fps``; a file with an image's ending, by ``image``; any other file, by ``of_film``. Raises
    DecodeError."""
    files = path if isinstance(path, list) else pictures_lib.sequence(path)
    if files is not None:
        return images(files, fps=fps, **options)
    if pathlib.Path(path).suffix.lower() in IMAGES:
        return image(path, short_side=options.get("short_side", 0))
    return of_film(path, **options)


def shown(
    path: str | os.PathLike | list[pathlib.Path],
    *,
    fps: float = PICTURES_FPS,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (second of the file, picture uint8 [H, W, 3]) of the frames that `read` reads of it, one by one.

    A film that cannot be decoded to its end ends there. Raises DecodeError where it cannot be read at all.
    """
    times = seconds(path, fps=fps)
    first, stop = np.searchsorted(times, (start - 1e-6, (np.inf if end is None else end) - 1e-6))
    if isinstance(path, list) or pathlib.Path(path).suffix.lower() in IMAGES:
        files = path if isinstance(path, list) else [pathlib.Path(path)]
        for place in range(first, stop):
            yield float(times[place]), image(files[place]).frames[0]
        return
    reformatter = VideoReformatter()
    with files_lib.opened(path) as container, contextlib.suppress(av.error.FFmpegError):
        stream = timetable.video_stream(container)
        for number, frame in display.progressive(enumerate(container.decode(stream))):
            if number >= stop:
                return
            if number >= first:
                yield float(times[number]), _rgb(reformatter, 0, frame, stream)


def seconds(path: str | os.PathLike | list[pathlib.Path], *, fps: float = PICTURES_FPS) -> np.ndarray:
    """Returns when the frames that `read` gives of all of ``path`` are shown, [T] in seconds of the file; none of
    them is kept. Raises DecodeError."""
    if not isinstance(path, list) and pathlib.Path(path).suffix.lower() not in IMAGES:
        with files_lib.listening("video") as logs:
            times = timetable.read(existing(path)).times
            # A clip may end before the damage, so reading the clip itself decides about that.
            logs.clear()
        return times
    count = len(path) if isinstance(path, list) else 1
    return np.arange(count) / fps


def size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (width, height) of the RGB that `read` gives of ``path``, before it is made smaller. Raises
    DecodeError."""
    files = pictures_lib.sequence(path) or [pathlib.Path(path)]
    if files[0].suffix.lower() in IMAGES:
        shape = image(files[0]).frames.shape[1:]
    else:
        with files_lib.listening("video") as logs, files_lib.opened(existing(path)) as container:
            stream = timetable.video_stream(container)
            shape = _rgb(VideoReformatter(), 0, next(container.decode(stream)), stream).shape
            # Complaints are for whoever reads the film.
            logs.clear()
    return shape[1], shape[0]
