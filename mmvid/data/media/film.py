"""Reads the frames of a film between two moments: exactly those that decoding all of it would show."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvid.data.media import display, timetable
from mmvid.data.media import files as files_lib
from mmvid.data.media.files import DecodeError, listening, opened

# Since PyAV 17 a conversion starts a thread a core; here workers are the parallelism.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def every(times: np.ndarray) -> np.ndarray:
    """Returns the places of all frames at ``times``: what `read` keeps where nobody says otherwise."""
    return np.arange(len(times))


def read(
    path: pathlib.Path, what: str, wanted: Callable, convert: Callable, nothing: str, keep: Callable = every
) -> tuple:
    """Reads the frames [first, stop) that ``wanted(timetable)`` names, each as ``convert(frame, its stream)``.

    All of them are decoded; of those at ``times`` [T], in seconds of the file, the ones at the places
    ``keep(times)``, which rise, are converted and kept.
    Returns (array [kept, ...], times of all frames of the file in seconds, fps, range of the numbers of the
    frames). Raises DecodeError, with the message ``nothing`` where there are no such frames.
    """
    with listening(what) as logs:
        table, array, fps = _searched(path, logs, wanted, convert, keep)
    first, stop = wanted(table)
    if table.missing and stop == len(table.times):
        raise DecodeError(f"truncated: {table.missing}")
    if first == stop:
        raise DecodeError(nothing)
    return array, table.times, fps, range(first, stop)


def _searched(path: pathlib.Path, logs: list, wanted: Callable, convert: Callable, keep: Callable) -> tuple:
    """Returns (timetable, array of the frames, fps).

    It tries places to begin from the nearest to the file's start, first with the table from the packets, then
    with the counted one, until the frames agree with the table. Raises DecodeError where they never do.
    """
    for counted in (False, True):
        table = timetable.read(path, counted=counted)
        # What FFmpeg complained of here, it complains of again in decoding, if the clip reaches that far.
        logs.clear()
        first, stop = wanted(table)
        if first == stop:
            return table, None, 0.0
        for place in table.beginnings(first):
            logs.clear()
            with contextlib.suppress(timetable.Lost):
                return table, *_filled(path, table, place, (first, stop), logs, convert, keep)
    raise DecodeError("decoding it twice gives different frames")


def _filled(
    path: pathlib.Path,
    table: timetable.Timetable,
    place: int | None,
    wanted: tuple[int, int],
    logs: list,
    convert: Callable,
    keep: Callable,
) -> tuple[np.ndarray, float]:
    """Returns (array of those of the frames with the numbers ``wanted`` [first, stop) that `read` keeps, fps),
    decoded from ``place`` on.

    Raises timetable.Lost where decoding does not give these frames, DecodeError where their sizes differ.
    """
    first, stop = wanted
    array, sizes, seen = None, set(), first
    rows = {first + int(kept): row for row, kept in enumerate(keep(table.times[first:stop]))}
    with opened(path) as container:
        stream = timetable.video_stream(container)
        numbered = _without_head(timetable.frames(container, table, place), logs, table.cut or place is not None)
        for number, frame in display.progressive(_window(numbered, first, stop)):
            if not first <= number < stop:
                continue
            seen += 1
            if number not in rows:
                continue
            shown = convert(frame, stream)
            # One array from the beginning: stacking them in the end would need the memory twice.
            if array is None:
                files_lib.check_room(len(rows), len(rows) * shown.nbytes)
                array = np.empty((len(rows), *shown.shape), shown.dtype)
            sizes.add(shown.shape[:2])
            if len(sizes) == 1:
                array[rows[number]] = shown
        fps = _rate(stream, table.times)
    if seen < stop:
        raise timetable.Lost
    if len(sizes) > 1:
        raise DecodeError(f"frames of different sizes: {sorted(sizes)}")
    return array, fps


def _rate(stream, times: np.ndarray) -> float:
    """Returns frames a second: as the container says, unless its frames are paced quite differently (raw DV)."""
    named = float(stream.average_rate or stream.guessed_rate or 25)
    seen = (len(times) - 1) / np.ptp(times) if len(times) > 1 else named
    return named if seen / 4 < named < 4 * seen else float(seen)


def _without_head(numbered: Iterator, logs: list, cut: bool) -> Iterator:
    """Yields the frames, and at the first one drops FFmpeg's complaints about frames before it.

    Those were to be predicted from frames that were not read, so these complaints tell of no damage.
    """
    for seen, frame in enumerate(numbered):
        if not seen:
            # "mmco:" complains of references that a cut left behind: any file may begin so.
            logs[:] = [] if cut else [line for line in logs if not line[2].startswith("mmco:")]
        yield frame


def _window(numbered: Iterator, first: int, stop: int) -> Iterator:
    """Yields the frames [first, stop) with a neighbour on either side, which deinterlacing needs.

    Raises timetable.Lost where the first frame is interlaced and the neighbour before it was not decoded.
    """
    alone = first > 0
    for number, frame in numbered:
        if number == first and alone and frame.interlaced_frame:
            raise timetable.Lost
        if number >= first - 1:
            alone = False
            yield number, frame
        if number >= stop:
            return


def pixels(frame: av.VideoFrame, reformatter: VideoReformatter, format: str) -> np.ndarray:
    """Converts a frame to an array in one of FFmpeg's pixel formats, such as 'rgb24' or 'gray16le'."""
    return reformatter.reformat(frame, format=format, **ONE_THREAD).to_ndarray()
