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


def _pointwise(x, kernel, stride: int, padding: int):
    """1x1 as a matrix product: a third faster than the convolution on CPU."""
    del padding
    x = x[:, ::stride, ::stride]
    return jnp.dot(x, kernel[0, 0])


def _windows(x, size: int, stride: int, padding: int, out: Pair):
    """The size*size shifted views that a convolution reads, each [B, out_h, out_w, C]."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + (out[0] - 1) * stride + 1, stride)
            columns = slice(j, j + (out[1] - 1) * stride + 1, stride)
            yield x[:, rows, columns]


def _out(x, size: int, stride: int, padding: int) -> Pair:
    return tuple((n + 2 * padding - size) // stride + 1 for n in x.shape[1:3])


def _patches(x, size: int, stride: int, padding: int):
    out = _out(x, size, stride, padding)
    return jnp.concatenate(list(_windows(x, size, stride, padding, out)), -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _patch_conv(x, kernel, stride: int, padding: int):
    """A convolution as patches times kernel: what XLA's own CPU code is slow at, small deep maps."""
    size, _, channels, filters = kernel.shape
    patches = _patches(x, size, stride, padding)
    return jnp.dot(patches, kernel.reshape(size * size * channels, filters))


def _patch_forward(x, kernel, stride, padding):
    return _patch_conv(x, kernel, stride, padding), (x, kernel)


def _patch_backward(stride, padding, saved, grad):
    """Kernel: patches^T times gradient (patches are made again, not kept). Input: for stride 1 the
    convolution of the gradient with the flipped kernel, again by patches; else scattered."""
    x, kernel = saved
    size, _, channels, filters = kernel.shape
    patches = _patches(x, size, stride, padding).reshape(-1, size * size * channels)
    kernel_grad = (patches.T @ grad.reshape(-1, filters)).reshape(kernel.shape)
    if stride > 1:
        grad = _spread(grad, x.shape[1:3], size, stride, padding)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return _patch_conv(grad, flipped, 1, size - 1 - padding), kernel_grad


def _spread(grad, shape: Pair, size: int, stride: int, padding: int):
    """Zeros between the gradient's rows and columns, so that a stride-1 pass covers the input."""
    config = [(0, 0, 0)]
    for n, out in zip(shape, grad.shape[1:3]):
        covered = (out - 1) * stride + 1
        config.append((0, n + 2 * padding - size + 1 - covered, stride - 1))
    return lax.pad(grad, jnp.zeros((), grad.dtype), [*config, (0, 0, 0)])


_patch_conv.defvjp(_patch_forward, _patch_backward)


def convolution(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """2-D convolution with odd kernels and symmetric padding, [B, H, W, C] x [k, k, C, F].

    On CPU, 1x1 becomes a product and larger kernels patches times kernel; GPU and TPU keep XLA's
    convolution. Decided at lowering, so that one program serves every platform.
    """
    size = kernel.shape[0]
    padding = size // 2
    cpu = _pointwise if size == 1 else _patch_conv
    if _prefers_xla(x.shape, kernel.shape):
        cpu = _xla
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, k: cpu(x, k, stride, padding),
        default=lambda x, k: _xla(x, k, stride, padding),
    )


def _prefers_xla(shape, kernel_shape) -> bool:
    """Where even on CPU the patches would outweigh what they save: wide maps of few channels."""
    size, _, channels, _ = kernel_shape
    return size > 3 and channels * shape[1] * shape[2] > 64 * 64 * 4


def max_pool(x: jax.Array, size: int = 3, stride: int = 2, padding: int = 1) -> jax.Array:
    """Max pooling [B, H, W, C]; the maximum of strided slices, whose gradient costs a tenth of
    XLA's window gradient on CPU. A tie hands its gradient to all who share it, in equal parts."""
    out = _out(x, size, stride, padding)
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

    new = 0.9 old + 0.1 batch, the variance unbiased (papers.md 7b). ``frozen``: running
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
