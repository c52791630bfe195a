"""Reads the boxes of a clip: rows in an .npy or a CSV, detections in JSON or in EPIC-Kitchens' pickles.

JSON is that of Something-Else, {id: [{name, labels: [{box2d, category}]}]}, or what layout models re-pack it into,
{id, size, frames: [{frame_objects: [box]}]} or frames: [[box]], for one video or a list of them; ``height`` may
stand for ``size``.
"""

import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mmvid.data.media import hand_objects
from mmvid.data.media import video as video_lib
from mmvid.data.media.files import DecodeError, existing
from mmvid.data.media.item import Item, few
from mmvid.streams import HAND, OBJECT, SIDES, STATES

# Files whose frames may be counted at a rate of their own (``Item.fps``), not as the video's.
CLOCKED = (".json", ".pkl")


class Detections(NamedTuple):
    """Boxes as rows float32 [n, 9] whose first column is the number of a frame in the whole video.

    Corners are shares of ``size`` (width, height), which is (1, 1) where they are in [0, 1], and None where they
    are pixels of the video itself, or of one in its shape that was ``height`` pixels high. ``count`` frames are
    spoken of; ``whole`` says that these should be all that the video has, not just those that show anything.
    """

    rows: np.ndarray
    size: tuple[float, float] | None
    count: int
    whole: bool = False
    height: float | None = None


# ---------------------------------------------------------------------------- rows
def table(path: str | os.PathLike) -> np.ndarray:
    """Reads rows of boxes, [n, 9], from an .npy or a CSV (data_prep/README.md). Raises DecodeError for others."""
    path = existing(path)
    try:
        if path.suffix == ".npy":
            rows = np.load(path)
        else:
            lines = [line for line in path.read_text().splitlines() if line.strip()]
            lines = lines[1:] if lines and lines[0].startswith("frame") else lines
            rows = np.array([line.split(",") for line in lines], np.float64)
        rows = rows.reshape(0, 9) if rows.size == 0 else rows
    except (ValueError, EOFError, OSError) as error:
        raise DecodeError(f"boxes not readable: {error}") from None
    if rows.ndim != 2 or rows.shape[1] != 9:
        raise DecodeError(f"boxes must be [n, 9], got {list(rows.shape)}")
    return rows


def in_shares(rows: np.ndarray, size: tuple[float, float] = (1, 1)) -> np.ndarray:
    """Returns rows of boxes, float32 [n, 9], with corners as shares of a picture of ``size`` (width, height).

    Raises DecodeError where something is not finite, where corners lie outside of the picture, and for a
    category, side or state that is none.
    """
    # Rounding may overstep the picture by a hair; pixels instead of shares overstep it by far.
    corners = rows[:, 1:5] if tuple(size) == (1, 1) else rows[:, 1:5] / np.float64([*size, *size])
    if not np.isfinite(rows).all() or ((corners < -0.01) | (corners > 1.01)).any():
        of = "[0, 1]" if tuple(size) == (1, 1) else f"a picture of {size[0]:g} x {size[1]:g} pixels"
        raise DecodeError(f"boxes must be finite, with x1, y1, x2, y2 in {of}")
    _check_kinds(rows)
    return np.concatenate([rows[:, :1], corners.clip(0, 1), rows[:, 5:]], 1, dtype=np.float32)


def _check_kinds(rows: np.ndarray) -> None:
    """Raises DecodeError for a category, side or state that is none: networks have no column for it."""
    kinds = ((5, "category", OBJECT, HAND), (7, "side", 0, SIDES), (8, "state", 0, STATES))
    for column, name, least, most in kinds:
        given = rows[:, column]
        if (wrong := given[~np.isin(given, np.arange(least, most + 1))]).size:
            raise DecodeError(f"boxes have the {name} {wrong[0]:g}: whole numbers from {least} to {most}, please")


# ---------------------------------------------------------------------------- JSON, a video at a time
_CHUNK = 1 << 20
# One video has a few megabytes at most; a file that is damaged shall not be read into memory whole.
_MOST = 256 << 20
_BETWEEN = re.compile(r"[\s,:]*")
_DECODER = json.JSONDecoder()
# First keys that tell a file of one video from one of {id: boxes}.
_OF_ONE = {"id", "frames", "size", "height", "template"}


def _values(file, text: str) -> Iterator:
    """Yields what stands in the outermost brackets of JSON, of an object its keys and values in turn. ``text`` is
    what was read of the file behind the opening bracket. Raises ValueError where it is damaged."""
    place, closed = 0, False
    while True:
        place = _BETWEEN.match(text, place).end()
        closed = text[place : place + 1] in ("]", "}") if place < len(text) else closed
        if closed:
            return
        wrong = "the last bracket lacks"
        try:
            value, end = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            value, end, wrong = None, len(text), error
        # What ends with the text may go on in the file. Ever more is read, so that retrying costs little.
        if end == len(text):
            more = file.read(max(_CHUNK, len(text) - place))
            if not more or len(text) > _MOST:
                raise ValueError(f"it breaks off or is damaged: {wrong}")
            text, place = text[place:] + more, 0
            continue
        place = end
        yield value


def videos(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """Yields (id, what JSON says of it) for every video of a file of detections, which is never in memory whole;
    the id is '' where the file of a single video names none. Raises DecodeError for what is no such file."""
    path = existing(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.read(_CHUNK).lstrip()
            values = _values(file, head[1:])
            if head[:1] == "[":
                yield from ((str(video["id"]), video) for video in values)
            elif head[:1] == "{":
                yield from _of_object(values)
            else:
                raise ValueError("it is neither an object nor an array")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DecodeError(f"{path.name} is no JSON of boxes: {error}") from None


def _of_object(values: Iterator) -> Iterator[tuple[str, Any]]:
    """Yields (id, what is said of it) of the keys and values of the outermost object."""
    pairs = zip(values, values)
    first = next(pairs, None)
    if first and first[0] in _OF_ONE:
        video = dict([first, *pairs])
        yield str(video.get("id", "")), video
    elif first:
        yield first
        yield from pairs


# ---------------------------------------------------------------------------- one video of JSON
def _number(frame, place: int) -> int:
    """Returns the number of a frame: of '2/0001.jpg' it is 0; its place in the list where it has no name."""
    if not isinstance(frame, dict) or "name" not in frame:
        return place
    # The list may lack frames.
    return int(pathlib.PurePosixPath(frame["name"]).stem) - 1


def _box(box: dict) -> list[float]:
    """Reads a box as x1, y1, x2, y2, category, score, side, state; annotated boxes have a score of 1."""
    corners = box.get("box2d", box)
    (x1, x2), (y1, y2) = (sorted((float(corners[a]), float(corners[b]))) for a, b in (("x1", "x2"), ("y1", "y2")))
    category = box["category"] if "category" in box else box["standard_category"]
    return [x1, y1, x2, y2, HAND if "hand" in category else OBJECT, float(box.get("score", 1.0)), 0.0, 0.0]


def _boxes(frame) -> list[dict]:
    """Returns the boxes that are listed of a frame, in any of the forms."""
    if isinstance(frame, list):
        return frame
    return frame["frame_objects"] if "frame_objects" in frame else frame["labels"]


def of_video(video) -> Detections:
    """Reads what JSON says of one video (see `videos`). Raises DecodeError where it is of another form."""
    try:
        about = video if isinstance(video, dict) else {"frames": video}
        frames, size, height = about["frames"], about.get("size"), about.get("height")
        rows, count = [], 0
        for place, frame in enumerate(frames):
            number = _number(frame, place)
            rows += [[number, *_box(box)] for box in _boxes(frame)]
            count = max(count, number + 1)
        size, height = size and (float(size[0]), float(size[1])), height and float(height)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DecodeError(f"boxes not readable: {type(error).__name__} {error} in the JSON of the video") from None
    rows = np.asarray(rows, np.float32).reshape(-1, 9)
    return Detections(rows, size or None, count, height=height or None)


def packed(name: str, video, height: float | None = None) -> str:
    """Writes one video of JSON as short as `read` takes it: {id, size, frames: [[box]]}, with the ``height`` of
    the pictures where it says nothing of their size; what it cannot read is kept as it is, so that reading it says
    why."""
    try:
        found = of_video(video)
        if not np.isfinite(found.rows).all() or (found.rows[:, 0] < 0).any():
            raise DecodeError("numbers that are none")
    except DecodeError:
        return json.dumps({name: video})
    frames: list[list] = [[] for _ in range(found.count)]
    for number, *corners, category, score, _, _ in found.rows.astype(np.float64).round(3).tolist():
        kind = "hand" if category == HAND else "object"
        frames[int(number)].append(dict(zip(("x1", "y1", "x2", "y2"), corners), category=kind, score=score))
    height = found.height or height
    drawn_on = {"size": found.size} if found.size else {"height": height} if height else {}
    return json.dumps({"id": name, "frames": frames} | drawn_on)


@functools.lru_cache(maxsize=1)
def _parsed(path: str, size: int, changed: int) -> dict[str, Detections | DecodeError]:
    """Reads all videos of a file of ``size`` bytes, ``changed`` at so many nanoseconds, 36 bytes a box."""
    out: dict[str, Detections | DecodeError] = {}
    for name, video in videos(path):
        # One that is wrong must not cost the others their boxes.
        try:
            out[name] = of_video(video)
        except DecodeError as error:
            out[name] = error
    return out


def _of_json(path: pathlib.Path, item: Item) -> Detections:
    """Finds the boxes of a clip in a file of JSON: by the clip's id or its video's name, where it holds several
    videos. Raises DecodeError where they are not there."""
    status = os.stat(existing(path))
    found = _parsed(os.path.abspath(path), status.st_size, status.st_mtime_ns)
    names = [item.id, *([item.path.name, item.path.stem] if item.path else [])]
    name = next((name for name in names if name in found), next(iter(found), "") if len(found) == 1 else None)
    if name is None or not found:
        raise DecodeError(
            f"{path.name} has no boxes of {item.id!r}: it knows {few(list(found)) if found else 'no video'}"
        )
    if isinstance(found[name], DecodeError):
        raise found[name]
    return found[name]


# ---------------------------------------------------------------------------- of a clip
def read(path: str | os.PathLike, item: Item, first: int, stop: int) -> Detections:
    """Reads the boxes of a clip from a file of any form, with corners in [0, 1]; of EPIC-Kitchens' only those of
    the frames [first, stop) of the video. Raises DecodeError for what is no such file."""
    path = pathlib.Path(path)
    if path.suffix == ".pkl":
        messages = hand_objects.messages(path)
        rows = in_shares(hand_objects.rows(messages, first, stop))
        return Detections(rows, (1, 1), len(messages), whole=True)
    if path.suffix == ".json":
        found = _of_json(path, item)
        return found._replace(rows=in_shares(found.rows, found.size or _size(item, found.height)), size=(1, 1))
    rows = in_shares(table(path))
    return Detections(rows, (1, 1), int(rows[:, 0].max(initial=-1)) + 1)


def _size(item: Item, height: float | None) -> tuple[float, float]:
    """Returns (width, height) of the pictures that a clip's boxes were drawn on: those of its video, before it was
    made larger or smaller if they had another ``height``. Raises DecodeError where it has none."""
    if item.path is None:
        raise DecodeError("boxes in pixels of a video that is not there: add its size, [width, height]")
    width, own = video_lib.size(item.path)
    return (width * height / own, height) if height else (width, own)
