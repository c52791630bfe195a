"""Reads the boxes of a clip: rows in an .npy or a CSV, detections in JSON or in EPIC-Kitchens' pickles.

JSON is that of Something-Else, {id: [{name, labels: [{box2d, category}]}]}, or what layout models re-pack it into,
{id, size, frames: [{frame_objects: [box]}]} or frames: [[box]], for one video or a list of them; ``height`` may
stand for ``size``.
"""

import functools
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mmvid.data.media import hand_objects, json_values
from mmvid.data.media import video as video_lib
from mmvid.data.media.box_rows import COLUMNS, in_shares, real, table
from mmvid.data.media.files import DecodeError, existing
from mmvid.data.media.item import Item, few
from mmvid.streams import HAND, OBJECT

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


# ---------------------------------------------------------------------------- JSON, a video at a time
# First keys that tell a file of one video from one of {id: boxes}.
_OF_ONE = {"id", "frames", "size", "height", "template"}


def videos(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """Yields (id, what JSON says of it) for every video of a file of detections, which is never in memory whole;
    the id is '' where the file of a single video names none. Raises DecodeError for what is no such file."""
    path = existing(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            bracket, values = json_values.opened(file)
            yield from _of_array(values) if bracket == "[" else _of_object(values)
    except (ValueError, RecursionError) as error:
        known = {UnicodeDecodeError: "it is no text in UTF-8", RecursionError: "its brackets nest too deeply"}
        raise DecodeError(f"{path.name} is no JSON of boxes: {known.get(type(error), error)}") from None


def _of_array(values: Iterator) -> Iterator[tuple[str, Any]]:
    """Yields (id, what is said of it) of a list of videos. Raises ValueError for one that has no id."""
    for number, video in enumerate(values, 1):
        if not isinstance(video, dict) or not isinstance(video.get("id"), str | int):
            raise ValueError(f"video {number} of its list has no id: {{'id': .., 'frames': [..]}} is expected")
        yield str(video["id"]), video


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
    """Returns the number of a frame: of '2/0001.jpg' it is 0; its place in the list where it has no name. Raises
    DecodeError for a name that tells none."""
    if not isinstance(frame, dict) or "name" not in frame:
        return place
    # The list may lack frames.
    name = pathlib.PurePosixPath(str(frame["name"])).stem
    if not name.isdecimal() or int(name) < 1:
        raise DecodeError(
            f"boxes not readable: frame {place + 1} of the list has the name {frame['name']!r}, and not one like "
            "'2/0001.jpg', which counts from 1"
        )
    return int(name) - 1


def _box(box, where: str) -> list[float]:
    """Reads a box as x1, y1, x2, y2, category, score, side, state; annotated boxes have a score of 1. Raises
    DecodeError, which says ``where`` it stands, for what is no box."""
    corners = box.get("box2d", box) if isinstance(box, dict) else None
    if not isinstance(corners, dict) or (lacking := [name for name in COLUMNS[1:5] if name not in corners]):
        has = f"has no {lacking[0]}" if isinstance(corners, dict) else f"is {str(box)[:40]!r}"
        raise DecodeError(f"boxes not readable: {where} {has}: {{x1, y1, x2, y2, category, score}} is expected")
    x1, y1, x2, y2 = (real(corners[name], f"{name} of {where}") for name in COLUMNS[1:5])
    (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
    category = box.get("category", box.get("standard_category"))
    if not isinstance(category, str) or not category:
        raise DecodeError(f"boxes not readable: {where} has no category, such as 'hand' or 'object'")
    score = real(box.get("score", 1.0), f"score of {where}")
    return [x1, y1, x2, y2, HAND if "hand" in category else OBJECT, score, 0.0, 0.0]


def _boxes(frame, number: int) -> list:
    """Returns the boxes that are listed of a frame, in any of the forms. Raises DecodeError for another one."""
    found = frame
    if isinstance(frame, dict):
        found = frame.get("frame_objects", frame.get("labels"))
    if not isinstance(found, list):
        raise DecodeError(
            f"boxes not readable: frame {number} is {str(frame)[:40]!r}, and not a list of boxes, "
            "{'labels': [..]} or {'frame_objects': [..]}"
        )
    return found


def _pixels(about: dict) -> tuple[tuple[float, float] | None, float | None]:
    """Returns (size, height) of the pictures that boxes were drawn on, None where they are not said. Raises
    DecodeError for what is none."""
    size, height = about.get("size") or None, about.get("height") or None
    if size and (not isinstance(size, list | tuple) or len(size) != 2):
        raise DecodeError(f"boxes not readable: size is {str(size)[:40]!r}, and not [width, height]")
    size = size and (real(size[0], "the width of size"), real(size[1], "the height of size"))
    height = height and real(height, "height")
    if min((*(size or ()), height or 1)) <= 0:
        raise DecodeError(f"boxes not readable: size {size} and height {height} are to be pixels, more than 0")
    return size, height


def of_video(video) -> Detections:
    """Reads what JSON says of one video (see `videos`). Raises DecodeError, which says where, for another form."""
    about = video if isinstance(video, dict) else {"frames": video}
    frames, rows, count, scored = about.get("frames"), [], 0, set()
    if not isinstance(frames, list):
        raise DecodeError(f"boxes not readable: a list of frames is expected, not {str(frames)[:40]!r}")
    for place, frame in enumerate(frames):
        number = _number(frame, place)
        for i, box in enumerate(_boxes(frame, number), 1):
            rows.append([number, *_box(box, f"box {i} of frame {number}")])
            scored.add("score" in box)
            # Annotated boxes have none, detected ones each have theirs: one that lacks it is broken.
            if len(scored) > 1:
                raise DecodeError(f"not readable: box {i} of frame {number}: some boxes have a score, some none")
        count = max(count, number + 1)
    size, height = _pixels(about)
    return Detections(np.asarray(rows, np.float32).reshape(-1, 9), size, count, height=height)


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
            out[name] = DecodeError("it stands there twice") if name in out else of_video(video)
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
        raise DecodeError(f"video {name!r}: {found[name]}")
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
