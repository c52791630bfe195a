"""Augmentation that runs on the device: what the loader drew for a view, painted before ``prepare``."""

import jax
import jax.numpy as jnp

from mmvid.streams import MODALITIES, Stream, form_of


def _by_row(values: jax.Array, x: jax.Array) -> jax.Array:
    """[B] beside x [B, ..]."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _flip(stream: Stream, x: jax.Array, flipped: jax.Array) -> jax.Array:
    """Mirrors the rows that are ``flipped`` [B]; horizontal motion v becomes 255 - v."""
    mirrored = x[..., ::-1, :]
    if form_of(stream).negate_x and x.shape[-1] % 2 == 0:
        mirrored = mirrored.at[..., ::2].set(255 - mirrored[..., ::2])
    return jnp.where(_by_row(flipped, x), mirrored, x)


def _brightness(stream: Stream, x: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies each row of a coloured stream by its ``factor`` [B]; 1 changes no bit."""
    if not MODALITIES[stream.modality].coloured:
        return x
    brighter = jnp.round(x.astype(jnp.float32) * _by_row(factor, x))
    return jnp.clip(brighter, 0, 255).astype(x.dtype)


# In the order in which they are painted: (stream, uint8 [B, T, H, W, C], draws [B]) -> the same shape.
OPERATIONS = {"flip": _flip, "brightness": _brightness}


def apply(stream: Stream, x: jax.Array, drawn: dict[str, jax.Array]) -> jax.Array:
    """Paints ``drawn`` {operation: [B]} on uint8 pictures [B, T, H, W, raw]; nothing drawn, nothing
    changed. Streams of one geometry are given one draw. Raises ValueError for an unknown operation."""
    if unknown := sorted(set(drawn) - set(OPERATIONS)):
        raise ValueError(f"the operation {unknown[0]!r} is unknown on the device; known are {sorted(OPERATIONS)}")
    for name, paint in OPERATIONS.items():
        if name in drawn:
            x = paint(stream, x, drawn[name])
    return x
