"""Writes a film with lines of text below its pictures, as an mp4 that browsers and players show."""

import contextlib
import fractions
import functools
import heapq
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import av
import cv2
import numpy as np

from mmvid import files
from mmvid.data.media import files as files_lib
from mmvid.data.media import pictures, record, video
from mmvid.data.media.files import DecodeError
from mmvid.data.media.item import Item

# Pixels of the short side, and of the other one: smaller pictures are enlarged, as nobody could read what stands
# below them.
SMALLEST, LARGEST, LONGEST = 240, 720, 4096
# Parts of a second in which an mp4 counts; a film's frames keep their own times.
_TICKS = 90_000
# What an mp4 holds of sound as it is.
_SOUNDS = {"aac", "mp3", "ac3", "opus", "alac"}
_GROUND, _BAR, _TEXT = (27, 30, 35), (47, 111, 171), (255, 255, 255)


# (second of the new film, packets) of one of its streams.
Packets = Iterator[tuple[float, list]]


class Line(NamedTuple):
    """A ``text`` and how far its bar reaches, from 0 to 1, which stands behind it in percent."""

    text: str
    share: float


# ---------------------------------------------------------------------------- a picture
def _sized(picture: np.ndarray) -> np.ndarray:
    """Brings a picture to a size that can be looked at and has even sides, as the codec wants."""
    short, long = sorted(picture.shape[:2])
    scale = -(-SMALLEST // short) if short < SMALLEST else min(1, LARGEST / short)
    scale = min(scale, LONGEST / long)
    width, height = (max(round(scale * n), 2) for n in picture.shape[1::-1])
    if scale != 1:
        how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        picture = cv2.resize(picture, (width, height), interpolation=how)
    return picture[: height // 2 * 2, : width // 2 * 2]


@functools.cache
def _font(size: int):
    import matplotlib
    from PIL import ImageFont

    # Of all fonts it is the one that is certainly there.
    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Returns ``text``, or as much of its beginning as fits, with '…' behind it."""
    if fits(text):
        return text
    return next((short for n in range(len(text), 0, -1) if fits(short := f"{text[:n].rstrip()}…")), "")


@functools.lru_cache(maxsize=8)
def panel(lines: tuple[Line, ...], rows: int, width: int) -> np.ndarray:
    """Draws ``lines``, with room for so many ``rows``: uint8 [H, ``width``, 3], H even."""
    from PIL import Image, ImageDraw

    size = min(max(width // 24, 12), 32)
    high, edge = round(1.6 * size), size // 2
    picture = Image.new("RGB", (width, (rows * high + edge) // 2 * 2), _GROUND)
    draw, font = ImageDraw.Draw(picture), _font(size)
    for row, line in enumerate(lines[:rows]):
        top = row * high + edge // 2
        draw.rectangle((0, top, round(min(line.share, 1) * (width - 1)), top + high - 3), _BAR)
        percent = f"{100 * line.share:.0f} %"
        room = width - 3 * edge - draw.textlength(percent, font)
        text = _shortened(line.text, lambda own, room=room: draw.textlength(own, font) <= room)
        draw.text((edge, top + high // 2 - 1), text, _TEXT, font, anchor="lm")
        draw.text((width - edge, top + high // 2 - 1), percent, _TEXT, font, anchor="rm")
    return np.asarray(picture)


# ---------------------------------------------------------------------------- the film
def _stream(out: av.container.OutputContainer, height: int, width: int) -> av.VideoStream:
    stream = out.add_stream("libx264", rate=30)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = stream.time_base = fractions.Fraction(1, _TICKS)
    stream.options = {"crf": "20", "preset": "veryfast"}
    return stream


def _shown(item: Item) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (second of the file, picture) of a clip's frames, all of one size that can be looked at."""
    whole = video.shown(record.source(item), fps=item.fps or pictures.PICTURES_FPS, start=item.start, end=item.end)
    size = None
    for second, picture in whole:
        shown = _sized(picture)
        size = size or shown.shape[1::-1]
        yield second, shown if shown.shape[1::-1] == size else cv2.resize(shown, size)


def _encoded(
    stream: av.VideoStream, frames: Iterator, lines: Callable, rows: int, start: float
) -> Iterator[tuple]:
    """Yields (second of the new film, packets) of its pictures with their lines."""
    for second, picture in frames:
        below = panel(tuple(lines(second)), rows, picture.shape[1])
        frame = av.VideoFrame.from_ndarray(np.concatenate([picture, below]), format="rgb24")
        frame.pts, frame.time_base = round((second - start) * _TICKS), fractions.Fraction(1, _TICKS)
        yield second - start, stream.encode(frame)


def _sound(source: av.container.InputContainer, out: av.container.OutputContainer, item: Item) -> Iterator[tuple]:
    """Returns an iterator over (second of the new film, packets) of a clip's sound, as it is; nothing comes of a
    film without sound, or with some that an mp4 cannot hold."""
    track = next(iter(source.streams.audio), None)
    if track is None or track.codec_context is None or track.codec_context.name not in _SOUNDS:
        return iter(())
    made = out.add_stream_from_template(track)
    begin = (source.start_time or 0) / av.time_base
    shift = round((item.start + begin) / track.time_base)
    stop = None if item.end is None else round((item.end + begin) / track.time_base)

    def packets() -> Packets:
        for packet in source.demux(track):
            if stop is not None and packet.dts is not None and packet.dts >= stop:
                return
            if packet.dts is not None and packet.pts is not None and packet.dts >= shift:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, made
                yield float(packet.dts * packet.time_base), [packet]

    return packets()


@contextlib.contextmanager
def _beside(item: Item, out: av.container.OutputContainer) -> Iterator[Packets]:
    """Gives the sound of a clip's film, as `_sound` does; where the clip has none, nothing comes."""
    if item.path is None or not item.path.is_file():
        yield iter(())
        return
    with files_lib.opened(item.path) as source:
        yield _sound(source, out, item)


def write(path: str | os.PathLike, item: Item, lines: Callable[[float], Sequence[Line]], rows: int) -> None:
    """Writes the film of a clip to ``path``, whole or not at all, with the ``lines(second of its file)`` below its
    pictures, up to so many ``rows``. Sound goes along where an mp4 holds its kind. Raises DecodeError where the
    clip has no pictures, OSError where the file cannot be written."""
    frames = _shown(item)
    first = next(frames, None)
    if first is None:
        raise DecodeError("no frames")
    try:
        with files.whole(path) as temporary:
            _write(temporary, item, itertools.chain([first], frames), first[1].shape, lines, rows)
    except av.error.FFmpegError as error:
        raise OSError(f"{path}: {error.strerror or error}") from None


def _write(path: pathlib.Path, item: Item, frames: Iterator, shape: tuple, lines: Callable, rows: int) -> None:
    """Writes ``frames``, which have this ``shape``, with lines and sound, as `write` does."""
    height, width = shape[:2]
    height += panel((), rows, width).shape[0]
    # The file's own name may end in anything; its head goes first, so that browsers need not wait for the end.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = _stream(out, height, width)
        with _beside(item, out) as sound:
            shown = _encoded(stream, frames, lines, rows, item.start)
            for _, packets in heapq.merge(shown, sound, key=lambda own: own[0]):
                out.mux(packets)
        out.mux(stream.encode())
