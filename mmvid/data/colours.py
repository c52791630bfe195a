"""Distorts the colours of frames: draws a distortion for a clip, and applies it.

There are two: DMCL's, and torchvision's colour jitter, which multimodal distillation (MMD) uses.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from mmvid.data.augment import Augment

# The four orders of DMCL's distortion, the initials of its operations, and the two of the fast mode.
_ORDERS = ("bshc", "sbch", "chbs", "hscb")
_FAST_ORDERS = ("bs", "sb")


class Colours(NamedTuple):
    """One distortion; ``order`` holds the initials of its operations in the order in which they run.

    ``brightness`` is added to colours in [0, 1], ``hue`` is in turns of the colour circle, ``saturation`` and
    ``contrast`` are factors.
    """

    order: str
    brightness: float
    saturation: float
    hue: float
    contrast: float


class Jitter(NamedTuple):
    """One colour jitter; ``order`` holds the initials of its operations in the order in which they run.

    ``brightness``, ``contrast`` and ``saturation`` are factors, ``hue`` is in turns of the colour circle.
    """

    order: str
    brightness: float
    contrast: float
    saturation: float
    hue: float


def draw_colours(rng: np.random.Generator, spec: Augment) -> Colours | Jitter | None:
    """Draws a clip's distortion, or, with probability 1 - ``colour``, None, which leaves the clip as it is."""
    if rng.random() >= spec.colour:
        return None
    return _draw_jitter(rng) if spec.distortion == "jitter" else _draw_dmcl(rng)


def _draw_jitter(rng: np.random.Generator) -> Jitter:
    """Draws a colour jitter from MMD's ranges, in any order."""
    order = "".join(rng.permutation(list("bcsh")))
    return Jitter(order, *rng.uniform((0.75, 0.75, 0.75, -0.1), (1.25, 1.25, 1.25, 0.1)).tolist())


def _draw_dmcl(rng: np.random.Generator) -> Colours:
    """Draws a distortion from DMCL's ranges and orders."""
    orders = _FAST_ORDERS if rng.random() < 0.5 else _ORDERS
    order = orders[rng.integers(len(orders))]
    least, most = (-32 / 255, 0.5, -0.2, 0.5), (32 / 255, 1.5, 0.2, 1.5)
    return Colours(order, *rng.uniform(least, most).tolist())


def _extreme(function: np.ufunc, x: np.ndarray) -> np.ndarray:
    # Channel by channel: a reduction over a short last axis takes ten times as long.
    return function(function(x[..., 0], x[..., 1]), x[..., 2])[..., None]


def _saturate(x: np.ndarray, factor: float) -> np.ndarray:
    """Scales the saturation of HSV, to 1 at most; hue and the largest channel stay as they are."""
    top = _extreme(np.maximum, x)
    # The factor that takes the smallest channel to 0; where all are black or less it is none.
    full = top / np.maximum(top - _extreme(np.minimum, x), np.float32(1e-12))
    return top - (top - x) * np.clip(full, 0, factor)


def _turn_hue(x: np.ndarray, turns: float) -> np.ndarray:
    """Turns the hue of HSV. Pixels that are black or below have no hue, and become grey."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-2], 3)
    hsv = cv2.cvtColor(rows, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turns)) % 360
    top = _extreme(np.maximum, x)
    return np.where(top > 0, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(x.shape), top)


def _contrast(x: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance of each channel from its mean over the frame."""
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * np.float32(factor) + mean


def _operations(colours: Colours) -> dict[str, Callable]:
    return {
        "b": lambda x: x + np.float32(colours.brightness),
        "s": lambda x: _saturate(x, np.float32(colours.saturation)),
        "h": lambda x: _turn_hue(x, colours.hue),
        "c": lambda x: _contrast(x, colours.contrast),
    }


def _grey(x: np.ndarray) -> np.ndarray:
    """Returns torchvision's grey of [.., 3]: [.., 1]."""
    return (x @ np.float32([0.2989, 0.587, 0.114]))[..., None]


def _blend(x: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """Returns factor x + (1 - factor) other, cut to [0, 1] as torchvision does after each operation."""
    factor = np.float32(factor)
    return np.clip(factor * x + (1 - factor) * other, 0, 1)


def _jitter_operations(jitter: Jitter) -> dict[str, Callable]:
    return {
        "b": lambda x: _blend(x, np.float32(0), jitter.brightness),
        "c": lambda x: _blend(x, _grey(x).mean((1, 2), keepdims=True), jitter.contrast),
        "s": lambda x: _blend(x, _grey(x), jitter.saturation),
        "h": lambda x: _turn_hue(x, jitter.hue),
    }


def recolour(frames: np.ndarray, colours: Colours | Jitter) -> np.ndarray:
    """Distorts the colours of uint8 [T, H, W, 3], and returns uint8 of the same shape.

    All frames are distorted alike, but contrast is scaled around the mean of each frame: of its channels, one by
    one (DMCL's code), or of its grey (torchvision's). The loader colours what it has cut, so these are means of a
    window. A jitter is what torchvision makes of images of floats: its operations on bytes truncate after each
    of the four, here is one rounding at the end.
    """
    operations = _jitter_operations(colours) if isinstance(colours, Jitter) else _operations(colours)
    x = frames.astype(np.float32) / np.float32(255)
    for initial in colours.order:
        x = operations[initial](x)
    return np.clip(np.rint(x * 255), 0, 255).astype(np.uint8)
