"""Reads EPIC-Kitchens' hand-object detections: a pickle of one message of Protocol Buffers (proto3) a frame.

A message is Detections{3: hands, 4: objects}; a hand {1: box, 2: score, 3: state, 5: side}, an object {1: box,
2: score}, a box {1: left, 2: top, 3: right, 4: bottom} in [0, 1]. Numbers that are 0 are left out of it.
"""

import functools
import os
import pathlib
import pickle
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from mmvid.data.media.files import DecodeError, existing
from mmvid.streams import HAND, OBJECT, SIDES, STATES


class _Plain(pickle.Unpickler):
    """Reads lists, bytes and the like alone: whatever a pickle would import or call is refused."""

    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and plain lists of bytes need nothing")


@functools.lru_cache(maxsize=1)
def _unpickled(path: str, size: int, changed: int) -> list[bytes]:
    """Reads the messages of a file of ``size`` bytes, ``changed`` at so many nanoseconds."""
    # The clips of one video come together, so one file is kept: an hour's is about 100 MB.
    try:
        with open(path, "rb") as file:
            found = _Plain(file).load()
    # A damaged pickle raises whatever its bytes happen to ask for.
    except Exception as error:
        raise DecodeError(
            f"{os.path.basename(path)} is no pickle of a list of bytes, one a frame: {error}; fetch it again"
        ) from None
    if not isinstance(found, list) or not all(isinstance(message, bytes) for message in found):
        raise DecodeError(f"{os.path.basename(path)} is no pickle of a list of bytes, one a frame")
    return found


def messages(path: str | os.PathLike) -> list[bytes]:
    """Returns the message of every frame of a video. Raises DecodeError for a file of another kind."""
    status = os.stat(existing(path))
    return _unpickled(os.path.abspath(path), status.st_size, status.st_mtime_ns)


# ---------------------------------------------------------------------------- messages
def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Reads a number of seven bits a byte, the low ones first: (the number, the place behind it)."""
    number = shift = 0
    while data[place] & 0x80:
        number |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return number | data[place] << shift, place + 1


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yields (number of the field, value): an int, a float, or bytes. Raises ValueError or IndexError for bytes
    that are no message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        if tag & 7 == 0:
            value, place = _varint(data, place)
        elif tag & 7 == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        elif tag & 7 in (1, 5):
            size, form = (8, "<d") if tag & 7 == 1 else (4, "<f")
            value, place = struct.unpack_from(form, data, place)[0], place + size
        else:
            raise ValueError(f"a field of the unknown wire type {tag & 7}")
        if place > len(data):
            raise ValueError("a field that is longer than the message")
        yield tag >> 3, value


def _row(data: bytes, category: int) -> list[float]:
    """Reads a hand or an object as x1, y1, x2, y2, category, score, side, state. Raises ValueError."""
    found = dict(_fields(data))
    box = dict(_fields(found.get(1, b"")))
    corners = [box.get(i, 0.0) for i in (1, 2, 3, 4)]
    if not all(isinstance(value, float) for value in (*corners, found.get(2, 0.0))):
        raise ValueError("a corner or a score that is no number")
    # 0 stands for unknown in a record; the file counts from 0: sides left, right; states none, self, other person,
    # portable, stationary. An object has neither.
    side, state = (found.get(5, 0) + 1, found.get(3, 0) + 1) if category == HAND else (0, 0)
    if side > SIDES or state > STATES:
        raise ValueError(f"side {side - 1} and state {state - 1} of a hand")
    return [*corners, category, found.get(2, 0.0), float(side), float(state)]


def rows(found: Sequence[bytes], first: int, stop: int) -> np.ndarray:
    """Returns the boxes of the frames [first, stop) of a video's messages, float32 [n, 9], hands first in each.

    Raises DecodeError for damaged messages.
    """
    out = []
    for number in range(max(first, 0), min(stop, len(found))):
        try:
            parts = list(_fields(found[number]))
            boxes = [_row(part, HAND) for field, part in parts if field == 3]
            boxes += [_row(part, OBJECT) for field, part in parts if field == 4]
        except (ValueError, IndexError, TypeError, struct.error) as error:
            # Of the others Python's words would tell nobody anything.
            why = str(error) if type(error) is ValueError else "the message breaks off or is of another kind"
            raise DecodeError(f"boxes of frame {number} are no hand-object detections: {why}") from None
        out += [[number, *box] for box in boxes]
    return np.asarray(out, np.float32).reshape(-1, 9)


def path_of(folder: pathlib.Path, video: str) -> pathlib.Path:
    """Returns where a participant's ``folder`` keeps the detections of a video."""
    return folder / "hand-objects" / f"{video}.pkl"
