"""Rows of boxes, [n, 9]: frame, corners, category, score, side, state. They are read from an .npy or a CSV, and
brought to what a record holds."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from mmvid.data.media.files import DecodeError, existing
from mmvid.streams import HAND, OBJECT, SIDES, STATES

COLUMNS = ("frame", "x1", "y1", "x2", "y2", "category", "score", "side", "state")


def table(path: str | os.PathLike) -> np.ndarray:
    """Reads rows of boxes, [n, 9], from an .npy or a CSV (data_prep/README.md). Raises DecodeError for others."""
    path = existing(path)
    rows = _of_npy(path) if path.suffix == ".npy" else np.array(list(_of_csv(path)), np.float64)
    rows = rows.reshape(0, 9) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 9:
        raise DecodeError(f"boxes must be [n, 9], got {list(rows.shape)}")
    return rows


def _of_npy(path: pathlib.Path) -> np.ndarray:
    try:
        rows = np.load(path)
    except (ValueError, EOFError, OSError):
        rows = None
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iuf":
        raise DecodeError(f"boxes not readable: {path.name} is no .npy of numbers [n, 9]")
    return rows


def _of_csv(path: pathlib.Path) -> Iterator[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DecodeError(f"boxes not readable: {path.name} is no text in UTF-8") from None
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in filled[1:] if filled and filled[0][1].startswith("frame") else filled:
        cells = line.split(",")
        if len(cells) != len(COLUMNS):
            raise DecodeError(f"line {number} has {len(cells)} cells, and not 9: {', '.join(COLUMNS)}")
        yield [real(cell, f"line {number}, {name}") for name, cell in zip(COLUMNS, cells)]


def real(value, what: str) -> float:
    """Reads a number, which may be written as text. Raises DecodeError, which calls it ``what``, for others."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise DecodeError(f"boxes not readable: {what} is {str(value)[:40]!r}, a number is expected") from None


def in_shares(rows: np.ndarray, size: tuple[float, float] = (1, 1)) -> np.ndarray:
    """Returns rows of boxes, float32 [n, 9], with corners as shares of a picture of ``size`` (width, height).

    Raises DecodeError where something is not finite, where corners lie outside of the picture, and for a
    category, side or state that is none.
    """
    # Rounding may overstep the picture by a hair; pixels instead of shares overstep it by far.
    with np.errstate(divide="ignore", invalid="ignore"):  # what a size of 0 makes is refused below
        corners = rows[:, 1:5] if tuple(size) == (1, 1) else rows[:, 1:5] / np.float64([*size, *size])
    outside = ~np.isfinite(rows).all(1) | ((corners < -0.01) | (corners > 1.01)).any(1)
    if outside.any():
        of = "[0, 1]" if tuple(size) == (1, 1) else f"a picture of {size[0]:g} x {size[1]:g} pixels"
        frame, *found = rows[outside.argmax()]
        raise DecodeError(
            f"boxes must be finite, with x1, y1, x2, y2 in {of}: one of frame {frame:g} has "
            f"{', '.join(f'{x:g}' for x in found[:4])}"
        )
    _check_kinds(rows)
    return np.concatenate([rows[:, :1], corners.clip(0, 1), rows[:, 5:]], 1, dtype=np.float32)


def _check_kinds(rows: np.ndarray) -> None:
    """Raises DecodeError for a score that is none, and for a frame, category, side or state that is no whole
    number or none that there is: networks have no column for it."""
    kinds = ((5, "category", OBJECT, HAND), (7, "side", 0, SIDES), (8, "state", 0, STATES))
    for column, name, least, most in kinds:
        given = rows[:, column]
        if (wrong := ~np.isin(given, np.arange(least, most + 1))).any():
            raise DecodeError(
                f"boxes have the {name} {given[wrong][0]:g} in frame {rows[wrong][0, 0]:g}: whole numbers from "
                f"{least} to {most}, please"
            )
    # Of float32 a share may come out a hair above 1.
    if (wrong := (rows[:, 6] < 0) | (rows[:, 6] > 1.001)).any():
        frame, score = rows[wrong][0, [0, 6]]
        raise DecodeError(f"boxes have the score {score:g} in frame {frame:g}: numbers from 0 to 1, please")
    if (wrong := rows[:, 0] % 1 != 0).any():
        raise DecodeError(f"boxes have the frame {rows[wrong][0, 0]:g}: whole numbers from 0, please")
