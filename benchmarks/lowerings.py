"""The convolutions of a network, and the ways to lower each: those of mmvid/models/layers.py and a few
that only a GPU might like."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid.models import convolution, layers, winograd
from mmvid.models.model import Model

# Bytes of patches beyond which a product is not tried.
_MOST = 4 * 2**30


class Shape(NamedTuple):
    """One convolution: ``x`` [N, H, W, C] or [B, T, H, W, C], its ``kernel`` [.., C, F], the strides of
    time (1 for images) and space, the padding of time."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, int]
    padding: str = "symmetric"

    def __str__(self):
        kernel, strides = self.kernel[:-2], self.strides[-(len(self.kernel) - 3) :]
        return (
            f"{'x'.join(map(str, self.x))} {'x'.join(map(str, kernel))} -> {self.kernel[-1]}"
            f"{' /' + ','.join(map(str, strides)) if max(strides) > 1 else ''}"
        )


def shapes_of(model: Model, x: tuple[int, ...]) -> list[Shape]:
    """Every convolution that ``model`` applies to an input of the shape ``x``, in order."""
    found = []

    def spy(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, layers.Conv):
            found.append(
                Shape(
                    args[0].shape,
                    (module.size, module.size, args[0].shape[-1], module.features),
                    (1, module.stride),
                )
            )
        if context.method_name == "__call__" and isinstance(module, layers.ClipConv):
            taps, side = module.size
            kernel = (taps, side, side, args[0].shape[-1], module.features)
            found.append(Shape(args[0].shape, kernel, tuple(module.strides), module.padding))
        return call(*args, **kwargs)

    with nn.intercept_methods(spy):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(x, jnp.float32))
    return found


def flops(shape: Shape) -> int:
    """Of the forward convolution alone, a multiplication and an addition counted as two."""
    return 2 * math.prod(_output(shape)) * math.prod(shape.kernel[:-1])


def train_flops(shapes: list[Shape]) -> int:
    """Forward and both gradients; nobody asks for the gradient of the network's input."""
    return 3 * sum(map(flops, shapes)) - flops(shapes[0])


def _output(shape: Shape) -> tuple[int, ...]:
    x = jax.ShapeDtypeStruct(shape.x, jnp.float32)
    kernel = jax.ShapeDtypeStruct(shape.kernel, jnp.float32)
    return jax.eval_shape(candidates(shape)["mmvid"], x, kernel).shape


def candidates(shape: Shape) -> dict[str, Callable]:
    """{name: f(x, kernel)}; 'mmvid' is what layers.py chooses on the present platform."""
    return _of_images(shape) if len(shape.kernel) == 4 else _of_clips(shape)


def _of_images(shape: Shape) -> dict[str, Callable]:
    size, stride = shape.kernel[0], shape.strides[1]
    pad, out = size // 2, convolution._out(shape.x, size, stride, size // 2)
    ways = {
        "mmvid": lambda x, k: convolution.of_images(x, k, stride=stride),
        "conv": lambda x, k: convolution._xla(x, k, stride, pad),
    }
    if 2 * shape.x[0] * math.prod(out) * math.prod(shape.kernel[:3]) <= _MOST:
        ways["product"] = lambda x, k: convolution._product(x, k, stride, pad)
    if size == 3 and stride == 1 and out[0] % 2 == out[1] % 2 == 0:
        ways["winograd"] = lambda x, k: winograd.tiles(x, winograd.filters_of(k))
    return ways


def _of_clips(shape: Shape) -> dict[str, Callable]:
    strides, (taps, side) = shape.strides, shape.kernel[:2]
    pads = convolution.time_padding(shape.x[1], taps, strides[0], shape.padding)
    ways = {
        "mmvid": lambda x, k: convolution.of_clips(x, k, strides=strides, padding=shape.padding),
        "conv": lambda x, k: convolution._xla_clip(x, k, strides, pads),
        "planar": lambda x, k: convolution._planar(x, k, strides, pads),
    }
    if taps == 1:
        ways["in_space"] = lambda x, k: convolution._in_space(x, k, strides)
    elif side == 1:
        ways["in_time"] = lambda x, k: convolution._in_time(x, k, strides, pads)
        ways["by_frame"] = lambda x, k: convolution._by_frame(x, k, strides, pads)
    if taps == side == 1:
        ways["product"] = lambda x, k: x[:, :: strides[0], :: strides[1], :: strides[1]] @ k[0, 0, 0]
    return ways


def with_gradients(way: Callable) -> Callable:
    """f(x, kernel, dy) -> (y, dx, dkernel)."""

    def all_three(x, kernel, dy):
        y, pull = jax.vjp(way, x, kernel)
        return y, *pull(dy)

    return all_three


def arrays(shape: Shape, dtype: str):
    """Random (x, kernel, dy) of a convolution."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (shape.x, shape.kernel, _output(shape))
    return tuple(jax.random.normal(key, size, jnp.dtype(dtype)) for key, size in zip(keys, sizes))
