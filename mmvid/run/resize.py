"""Resizes pictures inside a program as OpenCV does on the host, to the same bytes."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from mmvid.data import augment

# OpenCV's bilinear weights are whole numbers of so many parts.
_PARTS = 2048


def _chosen(index, count: int) -> np.ndarray:
    """Returns the matrix [n, ``count``] that picks the rows ``index`` [n]."""
    return np.eye(count, dtype=np.float32)[index]


def _neighbours(count: int, size: int, clamp: bool) -> tuple[np.ndarray, ...]:
    """Returns for each of ``size`` places the two of ``count`` pixels that it lies between, and their weights.

    With ``clamp`` a place beyond the last pixel is that pixel alone; without it both are, each with its weight.
    """
    # OpenCV divides twice, and then rounds to float32.
    place = ((np.arange(size) + 0.5) * (1 / (size / count)) - 0.5).astype(np.float32)
    first = np.floor(place).astype(int)
    share = place - first.astype(np.float32)
    if clamp:
        share = np.where((first < 0) | (first >= count - 1), np.float32(0), share)
    weights = (np.rint(part * np.float32(_PARTS)).astype(int) for part in (np.float32(1) - share, share))
    return first.clip(0, count - 1), (first + 1).clip(0, count - 1), *weights


def _product(x, matrix: np.ndarray, axis: int):
    """Multiplies an axis of ``x`` by a ``matrix`` [new, old], without rounding of the factors."""
    x = jnp.moveaxis(x, axis, -1)
    return jnp.moveaxis(jnp.matmul(x, matrix.T, precision="highest"), -1, axis)


def _linear(x, size: int):
    """Resizes [N, H, W, C], whole numbers in float32, bilinearly: along the width, then along the height."""
    height, width = x.shape[1:3]
    left, right, *weights = _neighbours(width, size, clamp=True)
    across = sum(_chosen(i, width) * w[:, None] for i, w in zip((left, right), weights)).astype(np.float32)
    # Whole numbers below 2^24 are exact in float32, in whatever order they are added.
    rows = jnp.floor(_product(x, across, 2) / 16)
    top, bottom, *weights = _neighbours(height, size, clamp=False)
    total = np.int32(2)
    for index, weight in zip((top, bottom), weights):
        picked = _product(rows, _chosen(index, height), 1).astype(np.int32)
        total = total + lax.div(picked * np.int32(weight).reshape(1, -1, 1, 1), _full(picked, 1 << 16))
    return lax.div(total, _full(total, 4)).astype(np.float32)


def _full(like, value: int):
    return jnp.full_like(like, value)


def _shares(count: int, size: int) -> np.ndarray:
    """Returns how much each of ``count`` pixels adds to each of ``size`` means over equal parts: [size, count]."""
    part = count / size
    low = np.arange(size)[:, None] * part
    high, pixel = np.minimum(low + part, count), np.arange(count)[None]
    shares = np.maximum(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0)
    # OpenCV leaves out slivers.
    return np.float32(np.where(shares < 1e-3, 0, shares) / np.minimum(part, count - low))


def _area(x, size: int):
    """Resizes [N, H, W, C] by means over equal parts."""
    height, width = x.shape[1:3]
    y = _product(_product(x, _shares(width, size), 2), _shares(height, size), 1)
    # OpenCV has a way of its own for four pixels of so many channels, which rounds halves up, not to even.
    quick = (height, width) == (2 * size, 2 * size) and x.shape[-1] in (1, 3, 4)
    return jnp.floor(y + 0.5) if quick else jnp.round(y)


def _nearest(x, size: int):
    """Resizes [N, H, W, C] by the nearest pixel."""
    for axis in (1, 2):
        count = x.shape[axis]
        x = _product(x, _chosen(augment.nearest(count, size), count), axis)
    return x


_WAYS = {"INTER_LINEAR": _linear, "INTER_AREA": _area, "INTER_NEAREST_EXACT": _nearest}


def resize(x, size: int, how: str):
    """Resizes uint8 [.., H, W, C] to ``size`` pixels a side in the way that `augment.resizing` names: float32
    [.., size, size, C] of whole numbers. It is exact for bilinear and nearest; a mean may round otherwise where it
    lies within float32's error of a half."""
    y = x.astype(np.float32)
    if x.shape[-3:-1] == (size, size):
        return y
    y = _WAYS[how](y.reshape(-1, *x.shape[-3:]), size)
    return y.reshape(*x.shape[:-3], *y.shape[1:])
