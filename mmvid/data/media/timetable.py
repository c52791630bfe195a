"""Finds out when every frame of a video is shown, and where decoding may begin.

Decoding the whole file is the truth; a search must give the same frames. So all packets are read once without
decoding. Their time stamps, sorted, are those of the frames, and after a search each packet must be the one
that was read at its place. Where a container's stamps cannot be had that way (AVI with B frames, raw
streams, equal or missing ones) the frames are counted by decoding, and found by their number.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from mmvid.data.media import promise
from mmvid.data.media.files import DecodeError, opened

# A decoder holds back at most so many frames to put them into the order shown.
_DELAY = 16
# Codecs with packets that are never shown, or twice, so that only decoding counts their frames.
_HIDING = {"vp8"}


# Stands for a stamp that a packet lacks.
_NONE = np.iinfo(np.int64).min


class Lost(Exception):
    """Says that the frames that came are not those that decoding the whole file gives."""


class Packet(NamedTuple):
    """What is kept of a packet.

    ``pts`` and ``dts`` are its stamps of showing and of decoding in the stream's time base, None where it has
    none; ``size`` is in bytes. ``key``: decoding may begin here. ``hidden``: an edit list leaves it out.
    ``duration`` is in the time base, ``end`` the byte of the file where it ends; 0 stands for unknown in both.
    """

    pts: int | None
    dts: int | None
    size: int
    key: bool
    hidden: bool
    duration: int
    end: int


class Timetable(NamedTuple):
    """The times of all frames of a film in the order shown, and the packets that they come from.

    ``times`` [n] rise, in seconds from the file's start; ``stamps`` [n] are the container's own, and empty
    where frames can be told apart by their number alone. ``packets`` int [p, 3] holds (stamp of showing, stamp
    of decoding, bytes) in the file's order; ``keys`` are the places among them where decoding may begin.
    ``cut``: the file begins between two keys. ``missing`` says what the header promises and the file lacks,
    '' if nothing.
    """

    times: np.ndarray
    stamps: np.ndarray
    packets: np.ndarray
    keys: list[int]
    cut: bool
    missing: str

    def between(self, start: float, end: float | None) -> tuple[int, int]:
        """Returns the range [first, stop) of frames shown from ``start`` to before ``end``, in seconds."""
        first, stop = np.searchsorted(self.times, (start - 1e-6, (np.inf if end is None else end) - 1e-6))
        return int(first), int(stop)

    def beginnings(self, frame: int) -> list[int | None]:
        """Returns places in ``packets`` from where decoding may reach ``frame``, the nearest first.

        The last is None, the file's start, from where it always does.
        """
        if not len(self.stamps):
            return [None]
        # The two nearest keys alone: where both fail, the file's start is right in any case.
        before = [k for k in self.keys[1:] if self.packets[k, 0] <= self.stamps[frame]]
        return [*before[:-3:-1], None]


def video_stream(container) -> av.video.stream.VideoStream:
    """Returns the first video stream, set to decode in one thread: here processes are the parallelism.

    Raises DecodeError where there is none.
    """
    if not len(container.streams):
        raise DecodeError("not readable as video: it holds no streams; the end may be missing")
    if not container.streams.video:
        raise DecodeError("no video stream (sound only?)")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DecodeError("not readable as video: no decoder knows its pictures")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def read(path: str | os.PathLike, *, counted: bool = False) -> Timetable:
    """Returns the timetable of a file with a video stream.

    It comes from the packets; where these do not tell, or where ``counted`` asks for it, from decoding the
    whole file. The tables of the last few files are kept. Raises DecodeError where the times cannot be
    repaired, and what FFmpeg raises.
    """
    # Size and time of change are part of the key, so that a file that was replaced is read again.
    status = os.stat(path)
    return _read(os.path.abspath(path), counted, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, counted: bool, size: int, changed: int) -> Timetable:
    """Does the work of `read` for a file of ``size`` bytes, ``changed`` at so many nanoseconds."""
    with opened(path) as container:
        stream = video_stream(container)
        index = len(stream.index_entries)
        packets = list(_demuxed(container, stream))
        keys = [i for i, packet in enumerate(packets) if packet.key]
        missing = promise.missing(path, container, stream, index, packets)
        # AVI knows no time of showing; what FFmpeg makes up comes too late, or is wrong.
        delayed = container.format.name == "avi" and any(p.pts != p.dts for p in packets)
        cut, stamps = not delayed and _cut(packets, keys), _stamps(packets)
        regular = len(stamps) and not (cut or delayed or stream.codec_context.name in _HIDING)
        if counted or not regular:
            own, whole = _decoded(path)
            missing = missing or (promise.undecoded(packets, keys, own, stream) if whole else "")
            times = _ordered(packets, own, stream) if delayed else None
            times = _repaired(own, stream) if times is None else times
            rising = len(stamps) and not delayed and None not in own and (np.diff(own) > 0).all()
            stamps = np.asarray(own if rising else [], np.int64)
        else:
            times = _seconds(stamps, stream)
        times -= (container.start_time or 0) / av.time_base
        return Timetable(times, stamps, np.asarray([_row(p) for p in packets]), keys, cut, missing)


def _row(packet) -> tuple[int, int, int]:
    """Returns a packet's row in the table: (stamp of showing, of decoding, bytes)."""
    return *(_NONE if stamp is None else stamp for stamp in (packet.pts, packet.dts)), packet.size


def _demuxed(container, stream) -> Iterator[Packet]:
    """Yields what is kept of each packet that holds anything."""
    # Where reading fails, decoding fails, too, and raises it if the clip reaches that far.
    with contextlib.suppress(av.error.FFmpegError):
        for p in container.demux(stream):
            if p.size:
                end = 0 if p.pos is None else p.pos + p.size
                yield Packet(p.pts, p.dts, p.size, p.is_keyframe, p.is_discard, p.duration or 0, end)


def _stamps(packets: list[Packet]) -> np.ndarray:
    """Returns the stamps of the frames in the order shown; empty where packets lack stamps or share them."""
    shown = [packet.pts for packet in packets if not packet.hidden]
    stamps = np.unique(np.asarray([] if None in shown else shown, np.int64))
    return stamps if len(stamps) == len(shown) else stamps[:0]


def _cut(packets: list[Packet], keys: list[int]) -> bool:
    """Tells whether some frames shown are predicted from frames before the file's start, which it lacks."""
    if not keys or packets[keys[0]].pts is None:
        return False
    begin = packets[keys[0]].pts
    return any(not p.hidden and (p.pts or 0) < begin for p in packets if p.pts is not None) or keys[0] > 0


def _seconds(stamps: np.ndarray, stream) -> np.ndarray:
    """Converts stamps in the stream's time base to seconds."""
    # As PyAV does, so that a frame's time is the same number here and there.
    return stamps.astype(np.float64) * stream.time_base.numerator / stream.time_base.denominator


def _decoded(path: str) -> tuple[list[int | None], bool]:
    """Decodes the whole file. Returns (stamps of all frames in the order shown, whether none is interlaced)."""
    own = []
    with opened(path) as container:
        try:
            for frame in _frames_of(container.demux(video_stream(container))):
                own.append((frame.pts, frame.interlaced_frame))
        except av.error.FFmpegError:
            # The frames before the damage count; a file that gives none cannot be read at all.
            if not own:
                raise
    return [stamp for stamp, _ in own], not any(fields for _, fields in own)


def _ordered(packets: list[Packet], own: list, stream) -> np.ndarray | None:
    """Returns times in seconds where the container stamps packets only in the order of decoding (AVI).

    Frames are shown at the pace of these stamps, one by one. Returns None where frames and packets do not match.
    """
    stamps = [packet.dts for packet in packets if not packet.hidden]
    if len(stamps) != len(own) or None in stamps or not (np.diff(stamps) > 0).all():
        return None
    return _seconds(np.asarray(stamps, np.int64), stream)


def _repaired(own: list[int | None], stream) -> np.ndarray:
    """Returns rising times in seconds of frames in the order shown, made from their ``own`` stamps.

    Swapped stamps are sorted; equal and missing ones are replaced by what the rate, or the neighbours, suggest.
    Raises DecodeError where stamps jump back.
    """
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    known = [i for i, stamp in enumerate(own) if stamp is not None]
    if not known:
        return np.arange(len(own)) / rate
    stamps = np.asarray([own[i] for i in known], np.int64)
    order = np.argsort(stamps, kind="stable")
    if abs(order - np.arange(len(order))).max() > _DELAY:
        back = int(np.argmax(stamps[:-1] - stamps[1:]))
        here, there = _seconds(stamps[back : back + 2], stream)
        raise DecodeError(
            f"time stamps jump back from {here:.2f} to {there:.2f} s; write the file anew (ffmpeg -i FILE NEW.mp4)"
        )
    known, times = np.asarray(known), _seconds(stamps[order], stream)
    if len(known) == len(own) and (np.diff(times) > 0).all():
        return times
    # An MPEG program stream stamps only the first frame of each of its packs; what FFmpeg makes up for the
    # others is off by a few, and some are equal.
    even = times[0] + (np.arange(len(own)) - known[0]) / rate
    if abs(even[known] - times).max() <= 3 / rate:
        return even
    return _spread(known, times, len(own), rate)


def _spread(known: np.ndarray, times: np.ndarray, count: int, rate: float) -> np.ndarray:
    """Returns the times of ``count`` frames, of which those at the places ``known`` have the ``times`` given.

    Frames without a time, or with an equal one, are put evenly between the neighbours whose times differ.
    """
    times, first = np.unique(times, return_index=True)
    places = known[first]
    # One more frame, behind the last one, gives those that share the last stamp a neighbour.
    places, times = np.append(places, count), np.append(times, times[-1] + (count - places[-1]) / rate)
    before = times[0] - (places[0] - np.arange(places[0])) / rate
    return np.concatenate([before, np.interp(np.arange(places[0], count), places, times)])


# ---------------------------------------------------------------------------- reading
def frames(container, table: Timetable, place: int | None) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yields (number, frame) from ``place`` in the packets on; None stands for the file's start.

    Raises Lost as soon as something differs from what decoding the whole file gives.
    """
    stream = video_stream(container)
    packets = container.demux(stream) if place is None else _found(container, stream, table, place)
    decoded = _frames_of(packets)
    if not len(table.stamps):
        yield from enumerate(decoded)
        return
    begin = table.stamps[0] if place is None else table.packets[place, 0]
    number = before = int(np.searchsorted(table.stamps, begin))
    for frame in decoded:
        # Shown before the keyframe, decoded after it: predicted from what was not read.
        if place is not None and frame.pts is not None and frame.pts < begin:
            continue
        # Some containers call every packet a key (H.263, QuickTime's old codecs); the decoder knows better.
        lies = place is not None and number == before and not frame.key_frame
        if lies or number >= len(table.stamps) or frame.pts != table.stamps[number]:
            raise Lost
        yield number, frame
        number += 1


def _frames_of(packets: Iterator) -> Iterator[av.VideoFrame]:
    """Yields the frames that ``packets`` decode to.

    Empty packets repeat the frame before (Theora) and hold nothing to decode. The last one, empty and without a
    stamp, asks the decoder for the frames that it holds back.
    """
    for packet in packets:
        if packet.size or packet.pts is None:
            yield from packet.decode()


def _found(container, stream, table: Timetable, place: int) -> Iterator:
    """Yields the packets from ``place`` on, after a search. Raises Lost where they differ from the table's."""
    # Right after a search a program stream gives pieces, so the second one goes some seconds further back.
    packets = _searched(container, stream, table.packets[place], 0) or _searched(
        container, stream, table.packets[place], 3
    )
    if packets is None:
        raise Lost
    for at, packet in enumerate(packets, place):
        if packet.size and (at >= len(table.packets) or _row(packet)[::2] != tuple(table.packets[at, ::2])):
            raise Lost
        yield packet


def _searched(container, stream, wanted: np.ndarray, seconds: float) -> Iterator | None:
    """Returns the packets from the row ``wanted`` on, after a search for ``seconds`` before it; None where
    reading begins behind it, or never comes to it."""
    shown, decoded, size = wanted.tolist()
    stamp = shown if decoded == _NONE else decoded
    try:
        container.seek(stamp - round(seconds / stream.time_base), stream=stream)
    except av.error.FFmpegError:
        return None
    packets = container.demux(stream)
    for packet in packets:
        if (packet.pts, packet.size) == (shown, size):
            return itertools.chain([packet], packets)
        here = packet.pts if packet.dts is None else packet.dts
        if here is not None and here > stamp:
            return None
    return None
