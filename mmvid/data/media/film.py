"""The frames of a film between two moments, exactly those that decoding all of it would show."""

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


def read(path: pathlib.Path, what: str, wanted: Callable, convert: Callable, nothing: str) -> tuple:
    """(array [T, ...], times of all frames of the file, fps, number of the first) of the frames [first, stop)
    that ``wanted(timetable)`` names, each by ``convert(frame, its stream)``. Raises DecodeError, ``nothing``
    where there are none."""
    with listening(what) as logs:
        table, array, fps = _searched(path, logs, wanted, convert)
    first, stop = wanted(table)
    if table.missing and stop == len(table.times):
        raise DecodeError(f"truncated: {table.missing}")
    if first == stop:
        raise DecodeError(nothing)
    return array, table.times, fps, first


def _searched(path: pathlib.Path, logs: list, wanted: Callable, convert: Callable) -> tuple:
    """(timetable, array of the frames, fps): from the nearest place, and by the table, that turn out right."""
    for counted in (False, True):
        table = timetable.read(path, counted=counted)
        # What reading ahead complained of, decoding does again, if the clip reaches that far.
        logs.clear()
        first, stop = wanted(table)
        if first == stop:
            return table, None, 0.0
        for place in table.beginnings(first):
            logs.clear()
            with contextlib.suppress(timetable.Lost):
                return table, *_filled(path, table, place, (first, stop), logs, convert)
    raise DecodeError("decoding it twice gives different frames")


def _filled(path: pathlib.Path, table: timetable.Timetable, place: int | None, wanted: tuple[int, int],
            logs: list, convert: Callable) -> tuple[np.ndarray, float]:  # fmt: skip
    """(array of the frames of the numbers ``wanted``, fps), decoded from ``place`` on. Raises timetable.Lost
    where they are not those."""
    first, stop = wanted
    array, sizes, seen = None, set(), first
    with opened(path) as container:
        stream = timetable.video_stream(container)
        numbered = _without_head(timetable.frames(container, table, place), logs, table.cut or place is not None)
        for number, frame in display.progressive(_window(numbered, first, stop)):
            if not first <= number < stop:
                continue
            shown = convert(frame, stream)
            # One array from the beginning: stacking them in the end would need the memory twice.
            if array is None:
                files_lib.check_room(stop - first, (stop - first) * shown.nbytes)
                array = np.empty((stop - first, *shown.shape), shown.dtype)
            sizes.add(shown.shape[:2])
            if len(sizes) == 1:
                array[number - first] = shown
            seen += 1
        fps = _rate(stream, table.times)
    if seen < stop:
        raise timetable.Lost
    if len(sizes) > 1:
        raise DecodeError(f"frames of different sizes: {sorted(sizes)}")
    return array, fps


def _rate(stream, times: np.ndarray) -> float:
    """Frames a second: the container's word, unless its frames are paced quite differently (raw DV)."""
    named = float(stream.average_rate or stream.guessed_rate or 25)
    seen = (len(times) - 1) / np.ptp(times) if len(times) > 1 else named
    return named if seen / 4 < named < 4 * seen else float(seen)


def _without_head(numbered: Iterator, logs: list, cut: bool) -> Iterator:
    """The frames; of those before them, which lack what they are predicted from, it is rightly complained."""
    for seen, frame in enumerate(numbered):
        if not seen:
            # Of references that a cut left behind: even a file that says nothing of one may begin so.
            logs[:] = [] if cut else [line for line in logs if not line[2].startswith("mmco:")]
        yield frame


def _window(numbered: Iterator, first: int, stop: int) -> Iterator:
    """The frames [first, stop) with a neighbour on either side, which deinterlacing needs."""
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
    return reformatter.reformat(frame, format=format, **ONE_THREAD).to_ndarray()
