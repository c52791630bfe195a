"""Distorts the colours of frames: draws a distortion for a clip, and applies it (DMCL's code)."""

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


def draw_colours(rng: np.random.Generator, spec: Augment) -> Colours | None:
    """Draws a distortion from DMCL's ranges and orders; with probability 1 - ``colour`` it returns None, which
    leaves the clip as it is."""
    if rng.random() >= spec.colour:
        return None
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


def recolour(frames: np.ndarray, colours: Colours) -> np.ndarray:
    """Distorts the colours of uint8 [T, H, W, 3], and returns uint8 of the same shape.

    All frames are distorted alike, but contrast is scaled around the means of each frame's own channels. Source:
    DMCL's code. The loader colours what it has cut, so these are the means of a window.
    """
    operations = {
        "b": lambda x: x + np.float32(colours.brightness),
        "s": lambda x: _saturate(x, np.float32(colours.saturation)),
        "h": lambda x: _turn_hue(x, colours.hue),
        "c": lambda x: _contrast(x, colours.contrast),
    }
    x = frames.astype(np.float32) / np.float32(255)
    for initial in colours.order:
        x = operations[initial](x)
    return np.clip(np.rint(x * 255), 0, 255).astype(np.uint8)
