"""What a clip is before anything of it is opened: the names of its files, and the seconds of them."""

import pathlib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_VIDEOS = """3g2 3gp 264 265 amv asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg
    mk3d mkv mov mp4 mpe mpeg mpg mts mxf nut ogm ogv qt rmvb ts vob webm wmv xvid y4m"""
VIDEO_ENDINGS = {f".{ending}" for ending in _VIDEOS.split()}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
FURTHER = ("depth", "flow", "audio", "boxes")
SPLIT_NAMES = dict(
    train="train", training="train", val="val", valid="val", validation="val", test="test", testing="test"
)
# TFDS reads it as all splits together.
RESERVED_SPLITS = ("all",)


class Item(NamedTuple):
    """One clip to prepare.

    ``path`` is where its RGB is: a file, a folder of pictures or a pattern within one; None where it has
    none. ``labels`` {head: class names, or 'name@start-end'}. ``start`` and ``end`` are seconds of the video;
    an ``end`` of None is the video's own. ``paths`` {modality of FURTHER: path}. ``fps`` is the rate of
    pictures in folders, which have none of their own. Where 'audio' is among the ``optional``, its file may have
    no sound: the clip then lacks it, and is not refused."""

    id: str
    path: pathlib.Path | None
    split: str = ""
    labels: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    start: float = 0.0
    end: float | None = None
    paths: dict[str, pathlib.Path] = {}  # noqa: RUF012
    fps: float | None = None
    optional: tuple[str, ...] = ()


class Refused(NamedTuple):
    """What was named as a clip, and in ``reason`` why it is none. ``path`` is where it was looked for."""

    id: str
    path: pathlib.Path | None
    reason: str


def check_split(name: str) -> None:
    """Raises ValueError for a name that a split cannot have."""
    if not name.isidentifier():
        raise ValueError(f"split={name!r}: letters, digits and underscores, please")
    if name.casefold() in RESERVED_SPLITS:
        raise ValueError(f"split={name!r} is reserved, it means all splits together: rename it")


# ---------------------------------------------------------------------------- names
def printable(name: str) -> str:
    r"""Returns a file's name as text that can be written anywhere: bytes that are not UTF-8, and control
    characters, are spelt out as \xe9 and \n."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if is_control(c) else c for c in text)


def is_control(character: str) -> bool:
    """Tells whether a character is a control character, such as a line break or a tab."""
    return unicodedata.category(character) == "Cc"


def few(names: Sequence[str], most: int = 3) -> str:
    """Writes ``names`` for a sentence: the first ``most`` and the number of the others, 'a', 'b', 'c' and 4
    more."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
