"""Tabulates what a strong view leaves to the device: what the loader draws for each operation, and what the step
does with it.

A painter computes with NumPy where it is given NumPy's arrays and with JAX where it is given JAX's, so that loader
and step share it; only 'strong' is always JAX's. This module imports no JAX, because the loader's worker processes
import it.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import strong
from mmvid.streams import MODALITIES, PICTURES, Stream, Strong, form_of


class Operation(NamedTuple):
    """One operation: ``draw(rng, streams)`` makes a clip's numbers for ``streams`` that share them, always of one
    shape; ``paint(stream, x, numbers [B, ..])`` changes the loader's array x [B, ..] by the numbers of its clips
    and keeps its shape and type. ``moves``: it moves what is shown, so that streams without a geometry group are
    spared. ``late``: it changes what `prepare.prepare` makes of the loader's array instead."""

    draw: Callable[[np.random.Generator, Sequence[Stream]], np.generic | np.ndarray]
    paint: Callable
    moves: bool = False
    late: bool = False


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
    "decibels": lambda x: x,
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


# ---------------------------------------------------------------------------- masks of sound
# Of the rows or columns of log-mel, a mask covers so many at most: 80 of 224 (MMD's code).
WIDEST = 80 / 224
# The axes of time and of pitch, by the function of prepare.py that makes the form.
_AXES = {"logmel": (-3, -2), "decibels": (-2, -3)}


def _mask(which: int, stream: Stream, x, drawn):
    """Silences a stretch of log-mel along its axis ``which`` of _AXES (SpecAugment, Park et al. 2019; torchaudio's
    masks): ``drawn`` [B, 2] are the width as a share of WIDEST, and the place as a share of what is left."""
    form = form_of(stream)
    if form.made not in _AXES:
        return x
    axis = _AXES[form.made][which]
    size, xp = x.shape[axis], x.__array_namespace__()
    width = drawn[:, 0] * np.float32(WIDEST * size)
    begin = xp.floor(drawn[:, 1] * (size - width))
    place = np.arange(size, dtype=np.float32).reshape(-1, *(1,) * (-1 - axis))
    place = place.reshape((1,) * (x.ndim - place.ndim) + place.shape)
    covered = (place >= _by_row(begin, x)) & (place < _by_row(begin + xp.floor(width), x))
    return xp.where(covered, np.float32(form.silence), x)


def _two(rng: np.random.Generator, streams: Sequence[Stream]) -> np.ndarray:
    return rng.random(2, np.float32)


# ---------------------------------------------------------------------------- RandAugment and Cutout
def _strength(stream: Stream) -> Strong | None:
    """Returns what a strong view does to a stream, None where it does nothing (sound). Raises ValueError for what
    would have to move along and cannot (boxes as numbers)."""
    found = MODALITIES[stream.modality].strong
    if found and form_of(stream).axes != PICTURES:
        raise ValueError(
            f"stream {stream.name!r}: the operation 'strong' moves pictures, and the form {stream.form!r} would "
            "stay behind; take it out of the geometry group (geometry=''), or 'strong' out of augment.device"
        )
    return found


def _draw_strong(rng: np.random.Generator, streams: Sequence[Stream]) -> np.ndarray:
    """Draws for streams that move together: from the whole pool where one of them is in colour, so that a tone
    leaves flow and depth beside it as they are; else from what moves, which is all that these know."""
    found = [_strength(s) for s in streams]
    return strong.draw(rng, any(how.tones for how in found if how))


def _strong(stream: Stream, x, drawn):
    """Applies the strong views ``drawn`` [B, 3, 2] to clips x [B, T, H, W, C]."""
    how = _strength(stream)
    if how is None:
        return x
    # Here, because workers draw and never paint, and load no JAX.
    from mmvid import randaugment

    return randaugment.paint(how, x, drawn)


# ---------------------------------------------------------------------------- all of them
# In the order in which they are painted.
OPERATIONS = {
    "flip": Operation(lambda rng, streams: np.bool_(rng.random() < 0.5), _flip, moves=True),
    "brightness": Operation(lambda rng, streams: np.float32(rng.uniform(0.5, 1.5)), _brightness),
    "strong": Operation(_draw_strong, _strong, moves=True),
    "time_mask": Operation(_two, functools.partial(_mask, 0), late=True),
    "pitch_mask": Operation(_two, functools.partial(_mask, 1), late=True),
}


def sharing(stream: Stream) -> str:
    """Names those that share a stream's draws: its geometry group. A stream without one draws for itself."""
    # '/' stands in no name, so that no group is called like this.
    return stream.geometry or f"/{stream.name}"


def draw(rng: np.random.Generator, names: Collection[str], streams: Collection[Stream]) -> dict[str, dict]:
    """Draws the numbers of a clip for the operations ``names``: {`sharing`: {operation: its numbers}}."""
    groups = sorted({s.geometry for s in streams} - {""})
    alone = sorted(sharing(s) for s in streams if not s.geometry)
    still = [name for name in names if not OPERATIONS[name].moves]
    chosen = dict.fromkeys(groups, names) | dict.fromkeys(alone, still)
    members = {group: [s for s in streams if sharing(s) == group] for group in chosen}
    return {
        group: {name: OPERATIONS[name].draw(rng, members[group]) for name in own} for group, own in chosen.items()
    }


def paint(stream: Stream, x, drawn: Mapping[str, Mapping], *, late: bool = False):
    """Applies to the loader's array [B, ..] of a stream what was drawn, {`sharing`: {operation: [B, ..]}}; without
    draws nothing changes. ``late``: to what `prepare.prepare` made of it, by the operations that are for this.
    Raises ValueError for an unknown operation."""
    own = drawn.get(sharing(stream), {})
    if unknown := sorted(set(own) - set(OPERATIONS)):
        raise ValueError(f"the operation {unknown[0]!r} is unknown on the device; known are {sorted(OPERATIONS)}")
    for name, operation in OPERATIONS.items():
        if name in own and operation.late == late:
            x = operation.paint(stream, x, own[name])
    return x
