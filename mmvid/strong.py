"""Draws strong views, and tabulates what their operations are: FixMatch's RandAugment (n = 2, m = 10) and Cutout.

The loader draws, randaugment.py changes pixels. Values are those of FixMatch's code, for PIL 10 and later. This
module imports no JAX, because the loader's worker processes import it.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

# So many operations a clip; levels are below so many.
OPERATIONS, LEVELS = 2, 10
# FixMatch's pool. What moves a picture has a sign, drawn as often plus as minus.
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
TONES = ("auto_contrast", "brightness", "color", "contrast", "equalize", "posterize", "sharpness", "solarize")
POOL = ("identity", *TONES, *MOVES)
ROW = {name: row for row, name in enumerate(POOL)}
# Columns of the tables by level: from -(LEVELS - 1) to LEVELS - 1.
SIGNED = range(1 - LEVELS, LEVELS)
# Of PIL's fixed point, behind the point.
BITS = 16


def draw(rng: np.random.Generator, tones: bool) -> np.ndarray:
    """Draws a clip's strong view: float32 [3, 2], (row of POOL, level) of each of two operations in their order,
    then where Cutout's square is centred, in shares of the width and of the height.

    Operations are drawn from POOL, without ``tones`` from MOVES alone, each one apart; with probability 1/2 the
    identity takes its place.
    """
    names, drawn = POOL if tones else MOVES, []
    for _ in range(OPERATIONS):
        name, level = names[rng.integers(len(names))], rng.integers(1, LEVELS)
        # Thrown in any case, so that what comes after does not depend on it.
        applied, negative = rng.random(2) < 0.5
        level = -level if negative and name in MOVES else level
        drawn.append((ROW[name] if applied else ROW["identity"], level))
    return np.float32([*drawn, rng.random(OPERATIONS)])


def _weight(level: int) -> float:
    """The weight of the picture in blends: .05 + .9 level / 10."""
    return abs(level) * 0.9 / LEVELS + 0.05


@functools.cache
def weights() -> np.ndarray:
    """Returns the weight of a picture against what it is blended with: float32 [row, level], 1 without a blend."""
    table = np.ones((len(POOL), len(SIGNED)), np.float32)
    table[[ROW[name] for name in ("color", "contrast", "sharpness")]] = [_weight(level) for level in SIGNED]
    return table


@functools.cache
def tones() -> np.ndarray:
    """Returns what becomes of each value, by operations that ask nothing else: uint8 [row, level, 256]."""
    values = np.arange(256)
    table = np.broadcast_to(values, (len(POOL), len(SIGNED), 256)).astype(np.uint8)
    for column, level in enumerate(map(abs, SIGNED)):
        table[ROW["brightness"], column] = np.float32(_weight(level)) * values.astype(np.float32)
        bits = int(level * 4 / LEVELS) + 4
        table[ROW["posterize"], column] = values & ~((1 << 8 - bits) - 1)
        threshold = 256 - int(level * 256 / LEVELS)
        table[ROW["solarize"], column] = np.where(values < threshold, values, 255 - values)
    return table


def _rotation(degrees: float, height: int, width: int) -> Sequence[float]:
    """The map of a turn around the middle, as PIL's Image.rotate makes it."""
    angle = -math.radians(degrees)
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    return a, b, x - a * x - b * y, -b, a, y + b * x - a * y


def _inverse(name: str, level: int, height: int, width: int) -> Sequence[float]:
    """The map (a, b, c, d, e, f) from a place (x, y) of what an operation makes to the place that it shows:
    (a x + b y + c, d x + e y + f)."""
    share = level * 0.3 / LEVELS
    return {
        "rotate": _rotation(int(level * 30 / LEVELS), height, width),
        "shear_x": (1, share, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, share, 1, 0),
        "translate_x": (1, 0, int(share * width), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, int(share * height)),
    }[name]


@functools.cache
def maps(height: int, width: int) -> np.ndarray:
    """Returns the maps from pixels of what operations make to pixels that they show, in PIL's fixed point: int32
    [row, level, (a, b, c, d, e, f)]. The column (a x + b y + c) >> BITS is shown, in the row of (d, e, f)."""
    table = np.zeros((len(POOL), len(SIGNED), 6), np.int32)
    table[:] = np.array([1, 0, 0, 0, 1, 0]) << BITS
    for name in MOVES:
        for column, level in enumerate(SIGNED):
            a, b, c, d, e, f = _inverse(name, level, height, width)
            # Pixels are where their middles are.
            steps = np.array([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2]) * (1 << BITS)
            table[ROW[name], column] = np.floor(steps + 0.5)
    return table


@functools.cache
def turns() -> np.ndarray:
    """Returns how a vector (x, y) that moves along with a picture changes: float32 [row, level, 2, 2]."""
    table = np.broadcast_to(np.eye(2, dtype=np.float32), (len(POOL), len(SIGNED), 2, 2)).copy()
    for name in MOVES:
        for column, level in enumerate(SIGNED):
            a, b, _, d, e, _ = _inverse(name, level, 1, 1)
            table[ROW[name], column] = np.linalg.inv([[a, b], [d, e]])
    return table
