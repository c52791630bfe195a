"""Reads optical flow that others computed and stored as pictures."""

import os
import pathlib
import re
from typing import NamedTuple

import cv2
import numpy as np

from mmvid.data import frames
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media.files import DecodeError, existing


class FlowPictures(NamedTuple):
    """Optical flow that others computed: ``x`` and ``y`` are lists of JPEG or PNG files, a picture each.

    ``y`` is empty where the pictures of ``x`` have three channels. All are ``height`` x ``width`` pixels, after
    resizing by the factor ``scale``, by which motion in pixels shrank, too.
    """

    x: list[bytes]
    y: list[bytes]
    height: int
    width: int
    scale: float


# flow_x_00001, x_1, u0001; or 000001x, as Charades has it.
_AXIS = re.compile(r"(?:flow[_-]?)?([xyuv])(?![a-z]).*|.*\d[_-]?([xyuv])", re.IGNORECASE)
_AXIS_FOLDER = re.compile(r"(?:flow[_-]?)?([xyuv])", re.IGNORECASE)


def _axis(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the axis of a picture of flow, 'x', 'y' or '' (none): from its name, or from its subfolder
    (EPIC-KITCHENS' u/ and v/)."""
    # Within u/ and v/ both planes bear the same names, so the folder alone tells.
    inside = file.parent != folder
    match = _AXIS_FOLDER.fullmatch(file.parent.name) if inside else _AXIS.fullmatch(file.stem)
    letter = next(filter(None, match.groups()), "").lower() if match else ""
    return {"u": "x", "v": "y"}.get(letter, letter)


def _flow_files(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns (x, y), each in the order of its numbers; (pictures, []) where they are not pairs of planes."""
    inside = [d for d in folder.iterdir() if d.is_dir() and _AXIS_FOLDER.fullmatch(d.name)]
    found = [file for d in inside or [folder] for file in pictures_lib.sequence(d)]
    axes = {file: _axis(file, folder) for file in found}
    x, y = ([file for file in found if axes[file] == axis] for axis in "xy")
    if not (x and y):
        return found, []
    if len(x) != len(y):
        raise DecodeError(f"{len(x)} pictures of horizontal flow, {len(y)} of vertical, in {folder.name}")
    return x, y


def _flow_bytes(path: pathlib.Path, channels: int, short_side: int) -> tuple:
    """Returns (bytes to store, their (height, width), scale): the file's own bytes where nothing changes them."""
    # Decoded even where its own bytes are kept: for its size, and to find damage now, not in training.
    picture = pictures_lib.read_image(path, cv2.IMREAD_UNCHANGED)
    if picture.dtype != np.uint8:
        raise DecodeError(f"flow is read from 8-bit pictures, this one is {picture.dtype}")
    own = path.suffix.lower() in (".png", ".jpg", ".jpeg")
    if channels == 1 and picture.ndim == 3:
        picture, own = cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2GRAY), False
    elif channels == 3 and picture.ndim == 2:
        raise DecodeError("a gray picture of flow without its pair: name them flow_x*, flow_y*")
    elif channels == 3 and picture.shape[2] != 3:
        picture, own = picture[..., :3], False
    # `fit` returns the very same object where it resizes nothing. What has changed becomes PNG, without loss.
    fitted = pictures_lib.fit(picture, short_side)
    data = path.read_bytes() if own and fitted is picture else frames.encode_png(fitted)
    return data, fitted.shape[:2], fitted.shape[0] / picture.shape[0]


def read(path: str | os.PathLike, *, short_side: int = 0) -> FlowPictures:
    """Reads flow from a folder: gray pairs named flow_x*, flow_y* (or x*, y*; u*, v*; subfolders u, v), or
    pictures of three channels (DMCL's visualised flow). Raises DecodeError."""
    folder = existing(path)
    if not folder.is_dir():
        raise DecodeError(f"flow is a folder of pictures, {folder.name} is none")
    planes, facts = _flow_files(folder), set()
    stored = []
    for files in planes:
        stored.append([])
        for file in files:
            with pictures_lib.naming(file):
                data, *fact = _flow_bytes(file, 1 if planes[1] else 3, short_side)
            stored[-1].append(data)
            facts.add(tuple(fact))
    if len(facts) > 1:
        raise DecodeError(f"pictures of flow of several sizes {sorted(f[0] for f in facts)} in {folder.name}")
    (height, width), scale = facts.pop()
    return FlowPictures(*stored, height, width, scale)
