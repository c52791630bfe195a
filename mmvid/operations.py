"""Tabulates what a strong view leaves to the device: what the loader draws for each operation, and what the step
does with it.

A painter computes with NumPy where it is given NumPy's arrays and with JAX where it is given JAX's, so that loader
and step share it. This module imports no JAX, because the loader's worker processes import it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from mmvid.streams import MODALITIES, Stream, form_of


class Operation(NamedTuple):
    """One operation: ``draw(rng)`` makes a clip's number, ``paint(stream, x, numbers [B])`` changes the loader's
    array x [B, ..] by the numbers of its clips and keeps its shape and type. ``moves``: it moves what is shown,
    so that streams without a geometry group are spared."""

    draw: Callable[[np.random.Generator], np.generic]
    paint: Callable
    moves: bool = False


def _by_row(values, x):
    """Reshapes ``values`` [B] so that they broadcast over ``x`` [B, ..], row by row."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


# ---------------------------------------------------------------------------- flip
def mirrored_boxes(x):
    """Mirrors layouts [.., 8] horizontally: a left hand (side 1) becomes a right one (2).

    Empty slots, those of category 0, stay as they are.
    """
    xp = x.__array_namespace__()
    sided = (x[..., 6] == 1) | (x[..., 6] == 2)
    side = xp.where(sided, 3 - x[..., 6], x[..., 6])
    columns = [1 - x[..., 2], x[..., 1], 1 - x[..., 0], x[..., 3], x[..., 4], x[..., 5], side, x[..., 7]]
    # Mirrored, empty slots would lie at the right edge.
    return xp.where(x[..., 4:5] > 0, xp.stack(columns, -1), x)


def _mirrored_pictures(x):
    return x[..., ::-1, :]


# By the function of prepare.py that makes the form. Sound has no sides.
_MIRRORED = {
    "pictures": _mirrored_pictures,
    "differences": _mirrored_pictures,
    "layouts": mirrored_boxes,
    "logmel": lambda x: x,
}


def _horizontal(x):
    """Tells which values of flow [B, .., C] are horizontal motion, as an array that broadcasts over it: the first
    of every two channels, and of (u, v, 0) the first. Flow that was kept as colour pictures has none."""
    channels = x.shape[-1]
    index = np.arange(channels)
    first = (index % 2 == 0) & (index < channels // 2 * 2)
    first = first.reshape((1,) * (x.ndim - 1) + (channels,))
    if channels % 2 == 0:
        return first
    # In colours nothing that moves or rests is without blue everywhere.
    return first & _by_row(~x[..., -1].any(tuple(range(1, x.ndim - 1))), x)


def _flip(stream: Stream, x, flipped):
    """Mirrors the rows that are ``flipped``; horizontal motion v becomes 255 - v."""
    xp, form = x.__array_namespace__(), form_of(stream)
    mirrored = _MIRRORED[form.made](x)
    if form.negate_x:
        mirrored = xp.where(_horizontal(x), 255 - mirrored, mirrored)
    return xp.where(_by_row(flipped, x), mirrored, x)


# ---------------------------------------------------------------------------- brightness
def _brightness(stream: Stream, x, factors):
    """Multiplies each row of a coloured stream by its factor; 1 changes no bit."""
    if not MODALITIES[stream.modality].coloured:
        return x
    xp = x.__array_namespace__()
    brighter = xp.round(x.astype(np.float32) * _by_row(factors, x))
    return xp.clip(brighter, 0, 255).astype(x.dtype)


# ---------------------------------------------------------------------------- all of them
# In the order in which they are painted.
OPERATIONS = {
    "flip": Operation(lambda rng: np.bool_(rng.random() < 0.5), _flip, moves=True),
    "brightness": Operation(lambda rng: np.float32(rng.uniform(0.5, 1.5)), _brightness),
}


def sharing(stream: Stream) -> str:
    """Names those that share a stream's draws: its geometry group. A stream without one draws for itself."""
    # '/' stands in no name, so that no group is called like this.
    return stream.geometry or f"/{stream.name}"


def draw(rng: np.random.Generator, names: Collection[str], streams: Collection[Stream]) -> dict[str, dict]:
    """Draws the numbers of a clip for the operations ``names``: {`sharing`: {operation: number}}."""
    groups = sorted({s.geometry for s in streams} - {""})
    alone = sorted(sharing(s) for s in streams if not s.geometry)
    still = [name for name in names if not OPERATIONS[name].moves]
    chosen = dict.fromkeys(groups, names) | dict.fromkeys(alone, still)
    return {group: {name: OPERATIONS[name].draw(rng) for name in own} for group, own in chosen.items()}


def paint(stream: Stream, x, drawn: Mapping[str, Mapping]):
    """Applies to the loader's array [B, ..] of a stream what was drawn, {`sharing`: {operation: [B]}}; without
    draws nothing changes. Raises ValueError for an unknown operation."""
    own = drawn.get(sharing(stream), {})
    if unknown := sorted(set(own) - set(OPERATIONS)):
        raise ValueError(f"the operation {unknown[0]!r} is unknown on the device; known are {sorted(OPERATIONS)}")
    for name, operation in OPERATIONS.items():
        if name in own:
            x = operation.paint(stream, x, own[name])
    return x
