"""Layers, and the ONE place where convolutions are lowered: each shape and platform its own way."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]


# ---------------------------------------------------------------------------- convolution
def _xla(x, kernel, stride: int, padding: int):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def _windows(x, size: int, stride: int, padding: int, out: Pair):
    """The size*size shifted views that a window operation reads, each [B, out_h, out_w, C]."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + (out[0] - 1) * stride + 1, stride)
            columns = slice(j, j + (out[1] - 1) * stride + 1, stride)
            yield x[:, rows, columns]


def _out(shape, size: int, stride: int, padding: int) -> Pair:
    return tuple((n + 2 * padding - size) // stride + 1 for n in shape[1:3])


def _product(x, kernel, stride: int, padding: int):
    """Patches times kernel as ONE matrix product; for 1x1 the patches are the input itself. Two axes
    only: with four, XLA's CPU product loses a third of its speed."""
    size, _, channels, filters = kernel.shape
    out = _out(x.shape, size, stride, padding)
    patches = jnp.concatenate(list(_windows(x, size, stride, padding, out)), -1)
    patches = patches.reshape(-1, size * size * channels)
    return jnp.dot(patches, kernel.reshape(-1, filters)).reshape(x.shape[0], *out, filters)


def _prefers_product(shape, kernel_shape, stride: int) -> bool:
    """Where XLA's CPU convolution is slow, forward and backward, measured on two cores.

    1x1 always (product 66-99 GFLOP/s, convolution 44-70). Larger kernels on small deep maps: 64 x 2 x
    2 x 512 product 92 against 2; 64 x 4 x 4 x 256 with stride 2 98 against 7; elsewhere the convolution
    reaches 90-100 and spares the patches' memory (16 x 16 x 64: product 43).
    """
    size, _, channels, _ = kernel_shape
    if size == 1:
        return True
    positions = math.prod(_out(shape, size, stride, size // 2))
    if channels <= 16 and positions <= 1024:
        # A stem: its kernel's gradient alone (nobody asks for the input's) 11 ms against 29.
        return True
    return positions <= 4 or (positions <= 49 and channels >= 256)


def convolution(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """2-D convolution with odd kernels and symmetric padding, [B, H, W, C] x [k, k, C, F].

    On CPU a matrix product or XLA's convolution, by shape; GPU and TPU keep the convolution. The
    choice falls when the program is lowered, so that one program serves every platform.
    """
    padding = kernel.shape[0] // 2
    if not _prefers_product(x.shape, kernel.shape, stride):
        return _xla(x, kernel, stride, padding)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, k: _product(x, k, stride, padding),
        default=lambda x, k: _xla(x, k, stride, padding),
    )


def max_pool(x: jax.Array, size: int = 3, stride: int = 2, padding: int = 1) -> jax.Array:
    """Max pooling [B, H, W, C]; the maximum of strided slices, whose gradient costs a tenth of
    XLA's window gradient on CPU. A tie shares its gradient among the equals."""
    out = _out(x.shape, size, stride, padding)
    low = jnp.finfo(x.dtype).min
    x = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=low)
    return functools.reduce(jnp.maximum, _windows(x, size, stride, 0, out))


class Conv(nn.Module):
    """A bias-free convolution; ``kernel`` [k, k, C, F], drawn as torchvision's (He, fan out)."""

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        def draw(key, shape):
            scale = math.sqrt(2 / (shape[3] * shape[0] * shape[1]))
            return scale * jax.random.normal(key, shape)

        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", draw, shape)
        return convolution(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)


# ---------------------------------------------------------------------------- batch norm
class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    new = 0.9 old + 0.1 batch, the variance unbiased (PyTorch's). ``frozen``: running
    statistics in training too, and no gradient for scale and bias.
    """

    frozen: bool = False
    eps: float = 1e-5
    momentum: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        features = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        if self.frozen:
            scale, bias = lax.stop_gradient(scale), lax.stop_gradient(bias)
        if not train or self.frozen:
            return self._apply(x, mean.value, var.value, scale, bias)
        batch_mean, batch_var = self._moments(x)
        if not self.is_initializing():
            count = x.size // features
            unbiased = batch_var * (count / max(count - 1, 1))
            keep = 1 - self.momentum
            mean.value = keep * mean.value + self.momentum * lax.stop_gradient(batch_mean)
            var.value = keep * var.value + self.momentum * lax.stop_gradient(unbiased)
        return self._apply(x, batch_mean, batch_var, scale, bias)

    def _moments(self, x):
        # In float32 (or float64) whatever the activations are.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        return mean, jnp.square(x - mean.reshape((1,) * (x.ndim - 1) + (-1,))).mean(axes)

    def _apply(self, x, mean, var, scale, bias):
        shape = (1,) * (x.ndim - 1) + (-1,)
        factor = scale * lax.rsqrt(var + self.eps)
        offset = bias - mean * factor
        return (x * factor.reshape(shape) + offset.reshape(shape)).astype(self.dtype)


class Classifier(nn.Module):
    """One linear classifier a head: features [.., D] -> {head: logits [.., K]}, N(0, 0.001)."""

    heads: dict[str, int]

    @nn.compact
    def __call__(self, features):
        draw = nn.initializers.normal(0.001)
        return {
            name: nn.Dense(classes, kernel_init=draw, name=name)(features)
            for name, classes in sorted(self.heads.items())
        }
