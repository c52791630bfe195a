"""Chooses how one thing is computed: by the platform, or in the way that other programs' formats can hold."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax.numpy as jnp
from jax import lax

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Makes what is traced in the block free of choices by platform, and of operations that ONNX lacks."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Tells whether a `portable` program is being traced."""
    return _PORTABLE.get()


def chosen(*arrays, portable: Callable, default: Callable, **platforms: Callable):
    """Calls the function of the platform, as `lax.platform_dependent`, or in a portable program ``portable``."""
    if is_portable():
        return portable(*arrays)
    return lax.platform_dependent(*arrays, default=default, **platforms)


def known(size) -> bool:
    """Tells whether a size is a number; in a program that is exported for any batch it may be none yet."""
    return isinstance(size, int)


def extended(x, value, axis: int, before: int, after: int):
    """Adds ``before`` and ``after`` copies of ``value`` along ``axis``; negative numbers cut instead."""
    if not is_portable():
        amounts = [(0, 0, 0)] * x.ndim
        amounts[axis] = (before, after, 0)
        return lax.pad(x, value, amounts)
    # Joined, not padded: of an array whose batch is folded with its frames jax2onnx pads nothing.
    x = lax.slice_in_dim(x, max(-before, 0), x.shape[axis] - max(-after, 0), axis=axis)
    around = [(*x.shape[:axis], max(count, 0), *x.shape[axis + 1 :]) for count in (before, after)]
    parts = [jnp.broadcast_to(value, around[0]), x, jnp.broadcast_to(value, around[1])]
    return jnp.concatenate([part for part in parts if part.shape[axis]], axis)
