"""Crops and flips: one draw a clip and geometry group, in relative coordinates, applied to every
frame of every stream of the group (papers.md 1.4)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# MML's thirteen positions of a crop, in quarters of the free room (x, y).
POSITIONS = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0),
             (1, 1), (3, 1), (1, 3), (3, 3))  # fmt: skip
CROPS = ("centre", "three", "full_res")


class Augment(NamedTuple):
    """``scales`` of the crop's sides against the short side; ``flip`` with probability 1/2;
    ``flip_labels``: pairs of class ids that a flip exchanges (papers.md 1.4)."""

    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: bool = False
    flip_labels: tuple[tuple[int, int], ...] = ()


class Geometry(NamedTuple):
    """A window in fractions of width and height, and whether it is mirrored."""

    x: float
    y: float
    width: float
    height: float
    flip: bool = False


def draw(rng: np.random.Generator, height: int, width: int, size: int, spec: Augment) -> Geometry:
    """TSM's and MML's multi-scale crop: pairs of neighbouring scales, thirteen positions.

    Sides within 3 pixels of ``size`` become ``size``, as in the code.
    """
    base = min(height, width)
    sides = [int(base * s) for s in spec.scales]
    sides = [size if abs(side - size) < 3 and size <= base else side for side in sides]
    pairs = [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_width, crop_height = pairs[rng.integers(len(pairs))]
    across, down = POSITIONS[rng.integers(len(POSITIONS))]
    x = across * ((width - crop_width) // 4)
    y = down * ((height - crop_height) // 4)
    flip = bool(spec.flip and rng.random() < 0.5)
    return Geometry(x / width, y / height, crop_width / width, crop_height / height, flip)


def _window(height: int, width: int, share: float, across: float) -> Geometry:
    """A square of ``share`` of the short side; ``across`` 0, .5, 1 along the long side."""
    side = share * min(height, width)
    along_x = width >= height
    x = (width - side) * (across if along_x else 0.5)
    y = (height - side) * (0.5 if along_x else across)
    return Geometry(x / width, y / height, side / width, side / height)


def test_windows(
    height: int, width: int, size: int, resize: int, crops: str = "centre"
) -> tuple[list[Geometry], int]:
    """(windows, output side) of a test protocol: the short side is resized to ``resize`` and
    'centre' cuts ``size`` in the middle, 'three' cuts ``size`` left, middle and right, 'full_res'
    keeps a centre square of ``resize``. Raises ValueError for an unknown one."""
    if crops not in CROPS:
        raise ValueError(f"crops={crops!r}: choose one of {CROPS}")
    if resize < size:
        raise ValueError(f"resize={resize} is smaller than the crop, size={size}")
    if crops == "full_res":
        return [_window(height, width, 1.0, 0.5)], resize
    places = (0.0, 0.5, 1.0) if crops == "three" else (0.5,)
    return [_window(height, width, size / resize, place) for place in places], size


test_windows.__test__ = False


def apply(frames: np.ndarray, geometry: Geometry, size: int, *, negate_x: bool) -> np.ndarray:
    """Cuts, resizes and mirrors [T, H, W, C] uint8 -> [T, size, size, C].

    ``negate_x``: the first of every two channels is horizontal motion, stored around 127.5, so a
    flip turns v into 255 - v (papers.md table 0, row 19).
    """
    height, width = frames.shape[1:3]
    x, y = round(geometry.x * width), round(geometry.y * height)
    w, h = max(round(geometry.width * width), 1), max(round(geometry.height * height), 1)
    cut = frames[:, y : y + h, x : x + w]
    out = cut
    if cut.shape[1:3] != (size, size):
        # Area averaging where the picture shrinks: bilinear alone would alias.
        shrinks = min(cut.shape[1:3]) > size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        out = np.stack([_resize(f, size, how) for f in cut])
    if geometry.flip:
        out = out[:, :, ::-1]
        if negate_x:
            out = out.copy()
            out[..., 0::2] = 255 - out[..., 0::2]
    return np.ascontiguousarray(out)


def _resize(frame: np.ndarray, size: int, how: int) -> np.ndarray:
    out = cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=how)
    return out.reshape(size, size, frame.shape[-1])


def flip_label(label: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """A class id, or multi-hot [K], after a flip: the classes of each pair change places."""
    for a, b in pairs:
        if label.ndim == 0 and int(label) in (a, b):
            return np.asarray(b if int(label) == a else a, label.dtype)
        if label.ndim:
            label = label.copy()
            label[[a, b]] = label[[b, a]]
    return label
