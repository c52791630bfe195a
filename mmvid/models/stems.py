"""How a CPU computes a stem over clips: a large kernel with stride 2 in space, over few channels."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]


def _forward(x, kernel, pads: Pair):
    """XLA's 2-D convolution, of frames whose channels are those of all frames that they read."""
    taps, size, _, channels, filters = kernel.shape
    x = jnp.pad(x, ((0, 0), pads, (0, 0), (0, 0), (0, 0)))
    outputs = x.shape[1] - taps + 1
    x = jnp.concatenate([x[:, i : i + outputs] for i in range(taps)], -1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(size, size, taps * channels, filters)
    half = [(size // 2, size // 2)] * 2
    axes = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x.reshape(-1, *x.shape[2:]), kernel, (2, 2), half, dimension_numbers=axes)
    return y.reshape(-1, outputs, *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def of_clips(x, kernel, pads: Pair):
    """Computes a convolution with stride 2 in space, [B, T, H, W, C] x [t, k, k, C, F] with odd k, ``pads`` frames
    of zeros before and after.

    Forward and the kernel's gradient on one busy core, ms: 2 x 16 x 112 x 112 x 3 by 5x7x7 to 16 165 (XLA's
    convolution 264), 2 x 8 frames to 64 221 (a product of patches 515).
    """
    return _forward(x, kernel, pads)


def _backward(pads: Pair, saved, gradient):
    x, kernel = saved
    # Nobody asks for an input's gradient but a test: unused, it is never computed.
    own = jax.vjp(lambda x: _forward(x, kernel, pads), x)[1](gradient)[0]
    return own, _of_kernel(x, gradient, kernel.shape, pads)


of_clips.defvjp(lambda x, kernel, pads: (_forward(x, kernel, pads), (x, kernel)), _backward)


def _squares(x, size: int, out: Pair):
    """Lays squares of 2x2 pixels of frames [N, H, W, C] into channels, [N, H', W', 4C]: a kernel of ``size`` with
    stride 2 becomes one of half that size with stride 1, whose first row and column are zeros."""
    before = size // 2 + 1
    after = [2 * (n + size // 2) - side - before for n, side in zip(out, x.shape[1:3])]
    # Where the last row of an odd picture is read by nobody it is cut.
    amounts = [(0, 0, 0), *((before, extra, 0) for extra in after), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), amounts)
    number, height, width, channels = x.shape
    x = x.reshape(number, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(number, height // 2, width // 2, 4 * channels)


def _of_kernel(x, gradient, shape, pads: Pair):
    """Computes the kernel's gradient: for each frame, what a window reads of it times the gradients of all output
    frames that read it. One frame's windows stay in the cache, all together would not."""
    taps, size, _, channels, filters = shape
    batch, frames = x.shape[:2]
    height, width = out = gradient.shape[2:4]
    half = (size + 1) // 2
    squares = _squares(x.reshape(-1, *x.shape[2:]), size, out)
    around = (taps - 1 - pads[0], taps - 1 - pads[1])
    gradient = jnp.pad(gradient, ((0, 0), around, (0, 0), (0, 0), (0, 0)))

    def add(total, one):
        number, frame = one
        read = (1, taps, height, width, filters)
        outputs = lax.dynamic_slice(gradient, (number // frames, number % frames, 0, 0, 0), read)[0]
        wide = jnp.concatenate([outputs[taps - 1 - i] for i in range(taps)], -1).reshape(-1, taps * filters)
        windows = jnp.concatenate([frame[:, j : j + width] for j in range(half)], -1)
        rows = (windows[i : i + height].reshape(height * width, -1) for i in range(half))
        return total + jnp.concatenate([jnp.dot(row.T, wide) for row in rows]), None

    zeros = jnp.zeros((half * half * 4 * channels, taps * filters), x.dtype)
    total, _ = lax.scan(add, zeros, (jnp.arange(batch * frames), squares))
    total = total.reshape(half, half, 2, 2, channels, taps, filters).transpose(5, 0, 2, 1, 3, 4, 6)
    return total.reshape(taps, 2 * half, 2 * half, channels, filters)[:, 1:, 1:]
