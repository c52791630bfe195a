"""Reads pictures from files: a single one, or a folder of them in order."""

import contextlib
import io
import os
import pathlib
import re
from collections.abc import Iterator

import av
import cv2
import numpy as np

from mmvid.data.media.files import DecodeError, existing, listening

# Workers are the parallelism.
cv2.setNumThreads(0)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# Pictures in a folder name no rate; those of the datasets we know come from a Kinect.
PICTURES_FPS = 30.0


def fit(image: np.ndarray, short_side: int, interpolation=cv2.INTER_AREA, aspect: float = 1.0) -> np.ndarray:
    """Shrinks an image so that its short side has ``short_side`` pixels; 0 and smaller images change nothing.

    ``aspect`` is the width of a pixel over its height: the width is scaled first, so that pixels are square.
    An image that keeps its size is returned itself, not a copy.
    """
    height, width = image.shape[:2]
    width = max(round(width * aspect), 1)
    scale = short_side / min(height, width) if 0 < short_side < min(height, width) else 1
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if size == image.shape[1::-1]:
        return image
    return cv2.resize(image, size, interpolation=interpolation)


def is_pattern(path: pathlib.Path) -> bool:
    """Tells whether the last part of ``path`` is a pattern: it holds a * or ?, and no file has that very name."""
    return ("*" in path.name or "?" in path.name) and not path.exists()


def sequence(path: str | os.PathLike, endings: tuple[str, ...] = IMAGES) -> list[pathlib.Path] | None:
    """Returns the pictures of a folder, or of a pattern within one (``clip/*_rgb.jpg``), in the order of their
    numbers; None where ``path`` is neither. Raises DecodeError where a folder or a pattern has no pictures."""
    path = pathlib.Path(path)
    if path.is_dir():
        files, where = path.iterdir(), f"the folder {path.name}"
    elif is_pattern(path):
        files, where = existing(path.parent).glob(path.name), f"{path.parent.name}/{path.name}"
    else:
        return None
    # Archives from a Mac hold a ._name beside every name.
    found = [p for p in files if p.suffix.lower() in endings and not p.name.startswith("._")]
    if not found:
        raise DecodeError(f"no frames: {where} has no {', '.join(endings)}")
    return sorted(found, key=_in_order)


def _in_order(path: pathlib.Path) -> tuple:
    """Returns a sorting key that puts frame_10 behind frame_9, whether numbers are padded or not."""
    return [int(n) for n in re.findall(r"\d+", path.stem)], path.name


def _check_image(data: bytes) -> None:
    """Raises DecodeError for a damaged image."""
    # OpenCV fills what a truncated JPEG lacks with gray and says nothing; FFmpeg complains.
    with listening("an image"), av.open(io.BytesIO(data)) as container:
        next(container.decode(video=0), None)


def imdecode(data: bytes, flags: int) -> np.ndarray | None:
    """Decodes an image file's bytes with OpenCV's ``flags``; None where it cannot."""
    # Always of bytes: neither library reads every name, and FFmpeg takes 100%d.png for a series.
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def read_image(path: pathlib.Path, flags: int) -> np.ndarray:
    """Reads an image with OpenCV's ``flags``. Raises DecodeError for one that is missing or damaged."""
    _check_image(data := existing(path).read_bytes())
    picture = imdecode(data, flags)
    if picture is None:
        raise DecodeError("not readable as an image")
    return picture


@contextlib.contextmanager
def naming(file: pathlib.Path) -> Iterator[None]:
    """Puts the file's name into a DecodeError that is raised within: of many pictures, it tells which one."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{file.name}: {error}") from None
