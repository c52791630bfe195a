"""Reads a long clip in windows of seconds: which there are, and a record of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data.media import audio, files, record
from mmvid.data.media.files import DecodeError
from mmvid.data.media.item import Item
from mmvid.data.media.record import Reads, Settings

# Seconds by which a frame may come too early for its window, as float32 holds its time.
_TICK = 1e-4
# What is left behind the last window makes the last one longer where it is no more of a window than this.
_SHORT = 0.1


class Window(NamedTuple):
    """The seconds of a film from ``start`` to before ``end``."""

    start: float
    end: float


# ---------------------------------------------------------------------------- which there are
def between(begin: float, end: float, length: float, stride: float) -> list[Window]:
    """Returns the windows of ``length`` seconds, one every ``stride`` seconds, from ``begin`` to ``end``.

    The last one ends with the film: where much of it would be left over, it is one more, and else it is longer.
    A film that is shorter than a window is one.
    """
    if end - begin <= length:
        return [Window(begin, end)]
    count = int((end - begin - length) / stride + 1e-9) + 1
    starts = begin + stride * np.arange(count)
    found = [Window(start, start + length) for start in starts.tolist()]
    if end - found[-1].end > _SHORT * length:
        return [*found, Window(end - length, end)]
    return [*found[:-1], found[-1]._replace(end=end)]


def of(item: Item, length: float, stride: float) -> list[Window]:
    """Returns the windows of a clip, in seconds of its file. Raises DecodeError where the clip cannot be read, or
    where windows are shorter or closer together than its frames."""
    times = record.seconds(item)
    within = times[(times >= item.start - _TICK) & (times < (np.inf if item.end is None else item.end) - _TICK)]
    if not len(within):
        raise DecodeError(f"no frames between {item.start} s and {'the end' if item.end is None else item.end}")
    period = float(np.ptp(times)) / (len(times) - 1) if len(times) > 1 else min(1.0, length, stride)
    if min(length, stride) < 0.999 * period:
        raise DecodeError(
            f"windows of {length:g} s, one every {stride:g} s, are shorter or closer together than its frames, of "
            f"which there is one every {period:.3g} s: take longer ones"
        )
    return between(float(within[0]), float(within[-1]) + period, length, stride)


# ---------------------------------------------------------------------------- the record of each
def _places(whole: dict, window: Window) -> tuple[int, int]:
    """Returns the frames [first, stop) of a record in a window, in seconds from the record's start."""
    first, stop = np.searchsorted(whole["times"], (window.start - _TICK, window.end - _TICK))
    return int(first), int(stop)


def cut(whole: dict, window: Window) -> dict:
    """Cuts a window, in seconds from a record's start, out of the record: what `record.prepare` makes of these
    seconds alone. Its RGB must be stored as pictures."""
    first, stop = _places(whole, window)
    # Computed flow leads from each frame to the next, of which the last one has none.
    pairs = slice(first, stop if whole.get("flow_given") else max(stop - 1, first))
    return whole | {
        "num_frames": stop - first,
        "times": whole["times"][first:stop] - np.float32(window.start),
        "rgb": whole["rgb"][first:stop],
        "flow_x": whole["flow_x"][pairs],
        "flow_y": whole["flow_y"][pairs],
        "depth": whole["depth"][first:stop],
        **_sound(whole, window),
        **_boxes(whole, first, stop),
    }


def _sound(whole: dict, window: Window) -> dict:
    if not whole["audio"]:
        return {}
    begin, rate = whole["audio_start_s"], whole["audio_rate"]
    edges = [max(round((second - begin) * rate), 0) for second in window]
    # Samples of two bytes.
    samples = whole["audio"][2 * edges[0] : 2 * edges[1]]
    return {"audio": samples, "audio_start_s": max(begin - window.start, 0.0)}


def _boxes(whole: dict, first: int, stop: int) -> dict:
    if not len(whole["boxes"]):
        return {}
    rows = whole["boxes"]
    return {"boxes": rows[(rows[:, 0] >= first) & (rows[:, 0] < stop)] - np.float32([first] + [0] * 8)}


def _read_of_all(reads: Reads, windows: Sequence[Window]) -> Reads:
    """Returns what is read of a record in any of ``windows``, in seconds from its start; ``reads`` says it of the
    record of one."""

    def read(whole: dict) -> dict[str, list[int]]:
        found: dict[str, set[int]] = {}
        for window in windows:
            first, stop = _places(whole, window)
            own = reads(cut(whole, window)) if stop > first else {}
            for field, places in own.items():
                found.setdefault(field, set()).update(first + place for place in places)
        return {field: sorted(places) for field, places in found.items()}

    return read


def records(item: Item, settings: Settings, reads: Reads, windows: Sequence[Window]) -> list[dict | str]:
    """Makes the record of each of a clip's ``windows``, which follow each other, or says why there is none. The
    clip is read once for all of them, and of its pictures that is kept which ``reads`` names of each.

    Any error costs the windows that raise it, and no others.
    """
    begin = windows[0].start
    part = item._replace(start=begin, end=windows[-1].end)
    try:
        if len(windows) == 1:
            return [_prepared(part, settings, reads)]
        # Of these all frames are held in memory, or are one film.
        if settings.rgb_storage != "mp4" and not {"flow", "depth"} & set(item.paths):
            local = [Window(window.start - begin, window.end - begin) for window in windows]
            whole = _prepared(part, settings, _read_of_all(reads, local))
            made = [cut(whole, window) for window in local]
            return [own if own["num_frames"] else "no frames" for own in made]
    except Exception as error:  # whatever it is, other windows go on
        if len(windows) == 1:
            return [files.reason(error)]
    return [own for window in windows for own in records(item, settings, reads, [window])]


def _prepared(part: Item, settings: Settings, reads: Reads) -> dict:
    """Makes the record of a part of a clip. A part in which its sound is silent lacks sound."""
    try:
        return record.prepare(part, settings, reads)
    except audio.Silent:
        paths = {name: path for name, path in part.paths.items() if name != "audio"}
        return record.prepare(part._replace(paths=paths), settings, reads)
