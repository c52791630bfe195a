"""Layers, and the ONE place where convolutions are lowered: each shape and platform its own way."""

import math
from collections.abc import Callable

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


def _tiles(x, kernel):
    """3x3, stride 1, padding 1 on even maps by Winograd's F(2x2, 3x3): 16 products where 36 would be
    (Lavin and Gray, 2016, section 4.1)."""
    batch, height, width, channels = x.shape
    g = jnp.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], x.dtype)
    filters = jnp.einsum("ia,jb,abcf->ijcf", g, g, kernel)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # d[i][j]: element (i, j) of every 4x4 tile, the tiles two apart.
    d = [[x[:, i : i + height - 1 : 2, j : j + width - 1 : 2] for j in range(4)] for i in range(4)]

    def into(r):
        return r[0] - r[2], r[1] + r[2], r[2] - r[1], r[1] - r[3]

    def back(r):
        return r[0] + r[1] + r[2], r[1] - r[2] - r[3]

    half = [into(row) for row in zip(*(into(column) for column in zip(*d)))]
    products = [[jnp.dot(v.reshape(-1, channels), filters[i, j]) for j, v in enumerate(row)]
                for i, row in enumerate(half)]  # fmt: skip
    y = [back(row) for row in zip(*(back(column) for column in zip(*products)))]
    shape = (batch, height // 2, width // 2, -1)
    y = jnp.stack([jnp.stack([v.reshape(shape) for v in row], 3) for row in y], 2)
    return y.reshape(batch, height, width, -1)


@jax.custom_vjp
def _winograd(x, kernel):
    """`_tiles`; the gradient of the input is such a convolution again, with the kernel turned."""
    return _tiles(x, kernel)


def _winograd_backward(saved, gradient):
    x, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _tiles(gradient, turned), jax.vjp(lambda k: _tiles(x, k), kernel)[1](gradient)[0]


_winograd.defvjp(lambda x, kernel: (_tiles(x, kernel), (x, kernel)), _winograd_backward)


def _on_cpu(shape, dtype, kernel_shape, stride: int) -> Callable | None:
    """What beats XLA's CPU convolution, forward and both gradients together; None: nothing does.

    Measured on two cores, ms for all three. 1x1: product 66-99 GFLOP/s, convolution 44-70. Small deep
    maps: 64 x 2 x 2 x 512 product 20, convolution 1046; 64 x 4 x 4 x 256 with stride 2 10 against 136.
    Wide maps: 64 x 16 x 16 x 64 Winograd 26, convolution 37; 16 x 28 x 28 x 64 13 against 27.
    Stems stay convolutions (10 channels, 5x5: 29 against 119).
    """
    size, _, channels, filters = kernel_shape
    out = _out(shape, size, stride, size // 2)
    if size == 1 or math.prod(out) <= 4 or (math.prod(out) <= 49 and channels >= 256):
        return lambda x, kernel: _product(x, kernel, stride, size // 2)
    even = stride == 1 and out[0] % 2 == out[1] % 2 == 0
    wide = math.prod(out) >= 64 and min(channels, filters) >= 64
    # Tiles are sums of sums: in bfloat16 they would lose too much.
    return _winograd if size == 3 and even and wide and dtype != jnp.bfloat16 else None


def convolution(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """2-D convolution with odd kernels and symmetric padding, [B, H, W, C] x [k, k, C, F].

    On CPU a matrix product, Winograd's tiles or XLA's convolution, by shape; GPU and TPU keep the
    convolution. The choice falls when the program is lowered, so that one program serves every
    platform.
    """
    padding = kernel.shape[0] // 2
    on_cpu = _on_cpu(x.shape, x.dtype, kernel.shape, stride)
    if on_cpu is None:
        return _xla(x, kernel, stride, padding)
    return lax.platform_dependent(
        x, kernel, cpu=on_cpu, default=lambda x, k: _xla(x, k, stride, padding)
    )


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 max pooling with stride 2 and padding 1, [B, H, W, C]; an axis at a time, each output the
    maximum of an even row, the odd one after and the odd one before. Its gradient costs a tenth of
    that of XLA's windows on CPU. A tie shares its gradient among the equals."""
    low = jnp.asarray(jnp.finfo(x.dtype).min, x.dtype)
    for axis in (1, 2):
        before = [(0, 0, 0)] * 4
        # An odd length gets a last row that never wins.
        before[axis] = (0, x.shape[axis] % 2, 0)
        x = lax.pad(x, low, before)
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in range(2))
        before[axis] = (1, -1, 0)
        x = jnp.maximum(jnp.maximum(even, odd), lax.pad(odd, low, before))
    return x


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
