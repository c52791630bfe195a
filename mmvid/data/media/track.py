"""Finds where in a track of sound decoding may begin, and which sample of the whole track comes first then.

Decoding the whole track is the truth: sample n of it is the nth that comes out, where holes count as silence. A
search must give the same samples. So all packets are read once without decoding; their lengths and stamps tell
how many samples lie before each of them, and after a search each packet must be the one that was read at its
place. Where that cannot be told (stamps are lacking, lengths vary but are rounded, the codec remembers all that
came before), there is no table, and the track is decoded from its start.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from mmvid.data.media.files import DecodeError, opened

# What tells FFmpeg to pass over a stream. PyAV did not always name it.
_PASS_OVER = getattr(av.stream, "Discard", None)
# Seconds. Containers round the times of sound; a longer gap is a hole in it.
HOLE = 0.05
# Seconds that are decoded before what is wanted. Overlaps, bit reservoirs and the headers of spectral band
# replication reach back for less than one; what Opus remembers has faded from 16 bits after two or three.
PREROLL = 6.0
# Codecs whose sound depends on the packets of the last PREROLL seconds alone, but for noise that decoders draw
# themselves where the encoder only said how loud it was (AAC's noise substitution, AC-3's dither).
_FORGETFUL = {"aac", "ac3", "eac3", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis"}
_FORGETFUL |= {"flac", "alac"}


class Lost(Exception):
    """Says that the packets or frames that came are not those that the table names."""


class Track(NamedTuple):
    """The packets of a track: their ``stamps`` [p], rising, in the time base, their ``sizes`` [p] in bytes, and
    the ``places`` [p] and numbers of ``samples`` [p] that they are decoded to.

    A place counts samples, at the track's own ``rate``, from the first one, which sounds at ``first`` seconds. The
    first packet here is one behind the track's beginning, where codecs and containers cut.
    """

    stamps: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    samples: np.ndarray
    rate: int
    first: float

    def row(self, place: float) -> int:
        """Returns the row of the packet in which ``place`` lies, or of the last before it; -1 without one."""
        return int(np.searchsorted(self.places, place, "right")) - 1


def sound_stream(container, name: str) -> av.audio.stream.AudioStream:
    """Returns the first stream of sound; packets of all others are passed over. Raises DecodeError without one."""
    if not container.streams.audio:
        raise DecodeError(f"no sound stream in {name}")
    stream = container.streams.audio[0]
    for other in container.streams:
        # An hour of video is then not even read, where the container has an index.
        if _PASS_OVER and other.index != stream.index:
            other.discard = _PASS_OVER.all
    return stream


def _decoded(packet: av.Packet) -> list[av.AudioFrame]:
    """Decodes a packet. The last one, empty, asks the decoder for the frames that it holds back."""
    return packet.decode()


def whole(container, stream) -> Iterator[tuple[int, float, av.AudioFrame]]:
    """Yields (place, second at which the track's first sample sounds, frame) of a track from its beginning."""
    first, due = None, 0
    for frame in itertools.chain.from_iterable(map(_decoded, container.demux(stream))):
        if first is None:
            first = 0.0 if frame.pts is None else seconds(frame.pts, stream, container)
        if frame.pts is not None:
            due = _behind_hole(due, seconds(frame.pts, stream, container) - first, frame.sample_rate)
        yield due, first, frame
        due += frame.samples


def seconds(stamp: int, stream, container) -> float:
    """Converts a stamp to seconds from the file's start."""
    return float(stamp * stream.time_base) - (container.start_time or 0) / av.time_base


def _behind_hole(due: int, time: float, rate: int) -> int:
    """Returns the place of what is to sound ``time`` seconds after the first sample, where ``due`` samples came
    before: behind a hole it is later."""
    return round(time * rate) if time - due / rate > HOLE else due


# ---------------------------------------------------------------------------- the table
def read(path: str | os.PathLike) -> Track | None:
    """Returns the table of a file's sound, or None where it cannot be made. Those of the last few files are kept.

    Raises DecodeError where there is no stream of sound, and what FFmpeg raises.
    """
    # Size and time of change are part of the key, so that a file that was replaced is read again.
    status = os.stat(path)
    return _read(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, size: int, changed: int) -> Track | None:
    """Does the work of `read` for a file of ``size`` bytes, ``changed`` at so many nanoseconds."""
    with opened(path) as container:
        stream = sound_stream(container, os.path.basename(path))
        codec = stream.codec_context.name
        if codec not in _FORGETFUL and not codec.startswith("pcm_"):
            return None
        head = list(itertools.islice(whole(container, stream), 4))
    # The last one of the head: what is cut at the beginning of a track is behind it.
    if len(head) < 4 or head[-1][2].pts is None:
        return None
    with opened(path) as container:
        stream = sound_stream(container, os.path.basename(path))
        packets = _demuxed(container, stream)
        return _table(packets, head[-1], container, stream)


def _demuxed(container, stream) -> list[tuple]:
    """Returns (stamp, bytes, duration) of each packet that holds anything."""
    found = []
    # Where reading fails, decoding fails, too, and raises it if the clip reaches that far.
    with contextlib.suppress(av.error.FFmpegError):
        found += ((p.pts, p.size, p.duration) for p in container.demux(stream) if p.size)
    return found


def _table(packets: list[tuple], anchor: tuple, container, stream) -> Track | None:
    """Makes the table from the packet on that the frame of ``anchor`` (place, first, frame) was decoded from."""
    place, first, frame = anchor
    begin = next((i for i, packet in enumerate(packets) if packet[0] == frame.pts), None)
    if begin is None or any(packet[0] is None for packet in packets[begin:]):
        return None
    stamps, sizes, durations = np.asarray(packets[begin:], np.int64).T
    samples = _samples(durations, frame, stream)
    if samples is None or not (np.diff(stamps) > 0).all():
        return None
    places, due = [], place
    for stamp, count in zip(stamps.tolist(), samples.tolist()):
        due = _behind_hole(due, seconds(stamp, stream, container) - first, frame.sample_rate)
        places.append(due)
        due += count
    return Track(stamps, sizes, np.asarray(places), samples, frame.sample_rate, first)


def _samples(durations: np.ndarray, frame: av.AudioFrame, stream) -> np.ndarray | None:
    """Returns how many samples packets of these ``durations`` are decoded to; None where it cannot be told.

    ``frame`` is what the first of them is decoded to; the last packet may be cut.
    """
    if np.ptp(durations[:-1]) <= 1 and durations[:-1].min() > 0:
        return np.full(len(durations), frame.samples)
    ticks = float(stream.time_base * frame.sample_rate)
    # Coarser ticks would be rounded to a wrong number of samples.
    return np.round(durations * ticks).astype(np.int64) if ticks <= 0.5 or ticks == 1 else None


# ---------------------------------------------------------------------------- reading
def searched(
    container, stream, table: Track, place: int, logs: list
) -> Iterator[tuple[int, float, av.AudioFrame]]:
    """Yields what `whole` yields, from the frame in which ``place`` lies on, after a search.

    FFmpeg's complaints of frames before it are dropped from ``logs``: they were cut from what they build on.
    Raises Lost where anything differs from the table.
    """
    wanted, begin = table.row(place), table.row(place - PREROLL * table.rate)
    if begin < 0:
        raise Lost
    packets = _found(container, stream, table, begin)
    for row, frame in _settled(packets, table, wanted, logs):
        if row >= len(table.stamps) or frame.pts != table.stamps[row]:
            raise Lost
        if frame.samples != table.samples[row] and row < len(table.stamps) - 1:
            raise Lost
        yield int(table.places[row]), table.first, frame


def _settled(packets: Iterator, table: Track, wanted: int, logs: list) -> Iterator[tuple[int, av.AudioFrame]]:
    """Yields (row, frame) from the frame of the row ``wanted`` on."""
    row = None
    for packet in packets:
        try:
            frames = _decoded(packet)
        except av.error.FFmpegError:
            if row is not None:
                raise
            continue
        for frame in frames:
            if row is None and (frame.pts is None or frame.pts < table.stamps[wanted]):
                continue
            if row is None:
                row = wanted
                logs.clear()
            yield row, frame
            row += 1
    if row is None:
        raise Lost


def _found(container, stream, table: Track, row: int) -> Iterator:
    """Yields the packets from ``row`` on, after a search. Raises Lost where they differ from the table's."""
    # Some containers jump behind the place that is asked for: then further back.
    packets = _sought(container, stream, table, row, 0) or _sought(container, stream, table, row, 5)
    if packets is None:
        raise Lost
    for at, packet in enumerate(packets, row):
        if packet.size and (at >= len(table.stamps) or (packet.pts, packet.size) != _key(table, at)):
            raise Lost
        yield packet


def _key(table: Track, row: int) -> tuple[int, int]:
    return int(table.stamps[row]), int(table.sizes[row])


def _sought(container, stream, table: Track, row: int, back: float) -> Iterator | None:
    """Returns the packets from ``row`` on, after a search for ``back`` seconds before it; None where reading
    begins behind it, or never comes to it."""
    stamp, size = _key(table, row)
    try:
        container.seek(stamp - round(back / stream.time_base), stream=stream)
    except av.error.FFmpegError:
        return None
    packets = container.demux(stream)
    for packet in packets:
        if (packet.pts, packet.size) == (stamp, size):
            return itertools.chain([packet], packets)
        if packet.pts is not None and packet.pts > stamp:
            return None
    return None
