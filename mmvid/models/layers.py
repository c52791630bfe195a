"""The layers that all networks share; convolution.py and depthwise.py decide how a convolution is computed."""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mmvid import lowering
from mmvid.models import convolution, depthwise
from mmvid.models.convolution import Pair


class Conv(nn.Module):
    """A 2-D convolution, without a bias unless asked for: [B, H, W, C] -> [B, H', W', F].

    ``kernel`` [k, k, C, F] is drawn as torchvision draws it (He's rule by the outputs); a bias starts at 0.
    """

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    bias: bool = False

    @nn.compact
    def __call__(self, x):
        def draw(key, shape):
            scale = math.sqrt(2 / (shape[3] * shape[0] * shape[1]))
            return scale * jax.random.normal(key, shape)

        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", draw, shape)
        # ``dtype`` is the arithmetic's; parameters keep their own, so that small updates are not lost.
        y = convolution.of_images(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)
        if not self.bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


# He's rule by the outputs (torchvision, Caffe2) or TensorFlow's variance scaling (DMCL's code).
INITS = {
    "fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "fan_in": nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
}


class ClipConv(nn.Module):
    """A bias-free convolution over clips, [B, T, H, W, C] -> [B, T', H', W', F].

    ``size`` and ``strides`` are (time, space); ``kernel`` [t, k, k, C, F] is drawn by
    ``kernel_init``, a name in INITS.
    """

    features: int
    size: Pair
    strides: Pair = (1, 1)
    padding: str = "symmetric"
    kernel_init: str = "fan_out"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        taps, side = self.size
        shape = (taps, side, side, x.shape[-1], self.features)
        kernel = self.param("kernel", INITS[self.kernel_init], shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return convolution.of_clips(x, kernel, strides=self.strides, padding=self.padding)


class ChannelConv(nn.Module):
    """A bias-free 3x3x3 convolution of each channel by itself, [B, T, H, W, C] -> [B, T', H', W', C].

    ``strides`` are (time, space); ``kernel`` [3, 3, 3, 1, C] is drawn by He's rule.
    """

    strides: Pair = (1, 1)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        draw = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        kernel = self.param("kernel", draw, (3, 3, 3, 1, x.shape[-1]))
        return depthwise.of_clips(x.astype(self.dtype), kernel.astype(self.dtype), strides=self.strides)


# ---------------------------------------------------------------------------- batch norm
class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    They follow new = (1 - ``momentum``) old + ``momentum`` batch, with the unbiased variance. A
    ``frozen`` one uses its running statistics in training too and gives scale and bias no gradient.
    """

    frozen: bool = False
    eps: float = 1e-5
    momentum: float = 0.1  # PyTorch's: 1 - momentum in Flax's own BatchNorm
    dtype: jnp.dtype = jnp.float32
    zero: bool = False  # whether the scale begins at 0

    @nn.compact
    def __call__(self, x, *, train: bool):
        features = x.shape[-1]
        scale = self.param("scale", nn.initializers.zeros if self.zero else nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        if self.frozen:
            scale, bias = lax.stop_gradient(scale), lax.stop_gradient(bias)
        if not train or self.frozen:
            return self._apply(x, mean.value, var.value, scale, bias)
        # Clips alone have the gradient in closed form: networks of images keep the bits of their earlier runs.
        y, batch_mean, batch_var = self._clips(x, scale, bias) if x.ndim == 5 else (None, *_moments(x))
        if not self.is_initializing():
            # PyTorch normalises by the biased variance, but stores the unbiased one.
            count = x.size // features
            unbiased = batch_var * (count / max(count - 1, 1))
            keep = 1 - self.momentum
            mean.value = keep * mean.value + self.momentum * lax.stop_gradient(batch_mean)
            var.value = keep * var.value + self.momentum * lax.stop_gradient(unbiased)
        return self._apply(x, batch_mean, batch_var, scale, bias) if y is None else y

    def _clips(self, x, scale, bias):
        """Normalises clips by their own moments: (y, mean, variance)."""

        def plainly(x, scale, bias):
            mean, var = _moments(x)
            return self._apply(x, mean, var, scale, bias), mean, var

        def closed(x, scale, bias):
            return _normalised(x, scale, bias, self.eps, self.dtype)

        return lowering.chosen(x, scale, bias, cpu=closed, default=plainly, portable=plainly)

    def _apply(self, x, mean, var, scale, bias):
        return _applied(x, mean, var, scale, bias, self.eps, self.dtype)


def _rows(vector, ndim: int):
    return vector.reshape((1,) * (ndim - 1) + (-1,))


def _moments(x):
    # In float32 (or float64) whatever the activations are: bfloat16 cannot hold a sum of so many.
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    # Squared differences: E[x^2] - E[x]^2 would cancel where the mean is large.
    return mean, jnp.square(x - _rows(mean, x.ndim)).mean(axes)


def _applied(x, mean, var, scale, bias, eps: float, dtype):
    factor = scale * lax.rsqrt(var + eps)
    offset = bias - mean * factor
    return (x * _rows(factor, x.ndim) + _rows(offset, x.ndim)).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalised(x, scale, bias, eps: float, dtype):
    """Normalises ``x`` by its own moments: (y, mean, variance); the moments carry no gradient.

    The gradient is the closed form (Ioffe and Szegedy 2015, section 3). It keeps ``x`` itself; automatic
    differentiation also writes and reads the differences to the mean.
    """
    mean, var = _moments(x)
    return _applied(x, mean, var, scale, bias, eps, dtype), mean, var


def _forward(x, scale, bias, eps: float, dtype):
    y, mean, var = _normalised(x, scale, bias, eps, dtype)
    return (y, mean, var), (x, scale, mean, var)


def _backward(eps: float, dtype, saved, gradients):
    x, scale, mean, var = saved
    wide = jnp.promote_types(jnp.float32, x.dtype)
    gradient, axes, inverse = gradients[0].astype(wide), tuple(range(x.ndim - 1)), lax.rsqrt(var + eps)
    differences = x.astype(wide) - _rows(mean, x.ndim)
    of_bias = gradient.sum(axes)
    of_scale = (gradient * differences).sum(axes) * inverse
    count, factor = x.size // x.shape[-1], scale * inverse
    slope, level = factor * inverse * of_scale / count, factor * of_bias / count
    own = gradient * _rows(factor, x.ndim) - differences * _rows(slope, x.ndim) - _rows(level, x.ndim)
    return own.astype(x.dtype), of_scale.astype(scale.dtype), of_bias.astype(scale.dtype)


_normalised.defvjp(_forward, _backward)


def linear(inputs: int, features: int, dtype, name: str) -> nn.Dense:
    """Makes a linear layer that is drawn as PyTorch draws it: kernel and bias within 1 / sqrt(``inputs``)."""

    def draw(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return nn.Dense(features, dtype=dtype, kernel_init=draw, bias_init=draw, name=name)


class Affine(NamedTuple):
    """A head of so many ``classes``, each of whose logits is scaled and shifted by numbers that are learnt."""

    classes: int


class AffineDense(nn.Dense):
    """A linear layer, then (1 + ``gain``) x + ``offset`` for each feature; both start at 0 (VMZ's code)."""

    @nn.compact
    def __call__(self, x):
        x = super().__call__(x)
        # Gains are counted from 1, so that a classifier that starts at zero still learns.
        gain = self.param("gain", nn.initializers.zeros, (self.features,))
        offset = self.param("offset", nn.initializers.zeros, (self.features,))
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x * (1 + gain).reshape(shape) + offset.reshape(shape)


class Classifier(nn.Module):
    """One linear classifier for each head: features [.., D] -> {head: logits [.., K]}.

    ``heads`` is {name: classes, or Affine(classes)}. Kernels are drawn from N(0, ``std``) and biases start at 0;
    0.001 is TSM's and MML's code.
    """

    heads: dict[str, int | Affine]
    std: float = 0.001

    @nn.compact
    def __call__(self, features):
        draw, logits = nn.initializers.normal(self.std), {}
        for name, space in sorted(self.heads.items()):
            layer, classes = (AffineDense, space.classes) if isinstance(space, Affine) else (nn.Dense, space)
            logits[name] = layer(classes, kernel_init=draw, name=name)(features)
        return logits
