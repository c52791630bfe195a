"""The ONE place where convolutions are lowered: it picks a way for each shape and platform."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from mmvid import lowering
from mmvid.models import stems
from mmvid.models.winograd import winograd

Pair = tuple[int, int]
# Bytes that the patches of one convolution may take, as XLA's own convolution needs no patches at all.
_PATCHES = 2**28
# Channels of pictures and of stacks of flow.
_FEW = 16
# Axes of inputs, kernels and outputs, by their number.
_AXES = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def _convolve(x, kernel, strides: Sequence[int], pads: Sequence[Pair]):
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_AXES[x.ndim])


def _xla(x, kernel, stride: int, padding: int):
    return _convolve(x, kernel, (stride, stride), [(padding, padding)] * 2)


def _windows(x, size: int, stride: int, padding: int, out: Pair):
    """Yields the size*size shifted views that a window operation reads, each [B, out_h, out_w, C]."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + (out[0] - 1) * stride + 1, stride)
            columns = slice(j, j + (out[1] - 1) * stride + 1, stride)
            yield x[:, rows, columns]


def _out(shape, size: int, stride: int, padding: int) -> Pair:
    return tuple((n + 2 * padding - size) // stride + 1 for n in shape[1:3])


def _product(x, kernel, stride: int, padding: int):
    """Computes patches times kernel as ONE matrix product; for 1x1 the patches are the input itself.

    Both factors have two axes only: with four, XLA's CPU product loses a third of its speed.
    """
    size, _, channels, filters = kernel.shape
    out = _out(x.shape, size, stride, padding)
    patches = jnp.concatenate(list(_windows(x, size, stride, padding, out)), -1)
    patches = patches.reshape(-1, size * size * channels)
    return jnp.dot(patches, kernel.reshape(-1, filters)).reshape(x.shape[0], *out, filters)


def _on_cpu(shape, dtype, kernel_shape, stride: int) -> Callable | None:
    """Returns what beats XLA's CPU convolution, forward and both gradients together, or None.

    Measured on two cores, ms for all three. 1x1: product 66-99 GFLOP/s, convolution 44-70. Small deep
    maps: 64 x 2 x 2 x 512 product 20, convolution 1046; 64 x 4 x 4 x 256 with stride 2 10 against 136;
    few of 14 x 14 x 256 28 against 32, Winograd 64. 3x3 with stride 2: 64 x 16 x 16 x 64 to 128 15 against
    22, 16 x 56 x 56 x 64 to 230 95 against 114. Stems, kernels' gradients alone: 16 x 112 x 112 x 10 by
    7x7 47 against 123, while their patches are no burden to memory. Wide maps: 64 x 16 x 16 x 64 Winograd 27,
    convolution 47; 16 x 56 x 56 x 64 to 144 166 against 375.
    """
    size, _, channels, filters = kernel_shape
    out = _out(shape, size, stride, size // 2)
    area = math.prod(out)
    # An exported program is for any number of maps: what is best for many then does for few.
    maps = shape[0] if lowering.known(shape[0]) else math.inf
    deep = channels >= 256 and (area <= 49 or maps * area <= 1024)
    patches = maps * area * size**2 * channels * jnp.dtype(dtype).itemsize
    if size == 1 or area <= 4 or deep or (stride > 1 and patches <= _PATCHES):
        return lambda x, kernel: _product(x, kernel, stride, size // 2)
    even = stride == 1 and out[0] % 2 == out[1] % 2 == 0
    # The kernel's own transform pays with 512 tiles.
    wide = area >= 64 and 2048 <= maps * area < math.inf and min(channels, filters) >= 64
    # Tiles are sums of sums: in bfloat16 they would lose too much.
    return winograd if size == 3 and even and wide and dtype != jnp.bfloat16 else None


def of_images(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Computes a 2-D convolution with odd kernels and symmetric padding, [B, H, W, C] x [k, k, C, F].

    On CPU it is a matrix product, Winograd's tiles or XLA's convolution, by shape; GPU and TPU keep
    XLA's convolution. The choice is made when the program is lowered, so that one traced program
    serves every platform.
    """
    padding = kernel.shape[0] // 2
    on_cpu = _on_cpu(x.shape, x.dtype, kernel.shape, stride)
    if on_cpu is None:
        return _xla(x, kernel, stride, padding)

    def plainly(x, kernel):
        return _xla(x, kernel, stride, padding)

    return lowering.chosen(x, kernel, cpu=on_cpu, default=plainly, portable=plainly)


def time_padding(frames: int, taps: int, stride: int, padding: str) -> Pair:
    """Returns how many frames of zeros stand before and after a clip.

    ``padding`` 'symmetric' is half the taps on both sides. TensorFlow's 'same' is as few as give
    ceil(frames / stride) outputs; if their number is odd, the extra one stands after.
    """
    if padding == "symmetric":
        return taps // 2, taps // 2
    total = max((-(-frames // stride) - 1) * stride + taps - frames, 0)
    return total // 2, total - total // 2


def _xla_clip(x, kernel, strides: Pair, pads: Pair):
    side = kernel.shape[1] // 2
    return _convolve(x, kernel, (strides[0], strides[1], strides[1]), [pads, (side, side), (side, side)])


def _frames_on_cpu(x, kernel, stride: int):
    """Convolves frames [N, H, W, C] in the way that `_on_cpu` chooses."""
    if lowering.is_portable():
        return _xla(x, kernel, stride, kernel.shape[0] // 2)
    if kernel.shape[0] == 1:
        x = x[:, ::stride, ::stride]
        return _times(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], -1)
    lowered = _on_cpu(x.shape, x.dtype, kernel.shape, stride)
    return lowered(x, kernel) if lowered else _xla(x, kernel, stride, kernel.shape[0] // 2)


@jax.custom_vjp
def _times(x, kernel):
    """Multiplies ``x`` [N, C] by a kernel [C, F], whose gradient is computed as [F, C] where that is faster."""
    return jnp.dot(x, kernel)


def _times_backward(saved, gradient):
    x, kernel = saved
    own = jnp.dot(gradient, kernel.T)
    # One thread, 12544 x 256 and 12544 x 64: 4.0 ms as [64, 256], 8.1 as [256, 64]. With few rows to add up,
    # turning the result costs more than that saves.
    if x.shape[0] < 1024 or x.shape[1] <= gradient.shape[1]:
        return own, lax.dot_general(x, gradient, (((0,), (0,)), ((), ())))
    # Without a barrier XLA turns the product itself.
    return own, lax.optimization_barrier(lax.dot_general(gradient, x, (((0,), (0,)), ((), ())))).T


_times.defvjp(lambda x, kernel: (_times(x, kernel), (x, kernel)), _times_backward)


def _planar(x, kernel, strides: Pair, pads: Pair):
    """Computes a convolution over clips by 2-D ones over their frames, without taps that only read zeros."""
    taps, size, _, channels, filters = kernel.shape
    outputs = (x.shape[1] + sum(pads) - taps) // strides[0] + 1
    read = [i for i in range(taps) if any(0 <= o * strides[0] + i - pads[0] < x.shape[1] for o in range(outputs))]
    kernel = kernel[read[0] : read[-1] + 1]
    pads = pads[0] - read[0], pads[1] - (taps - 1 - read[-1])
    # Sums over so many products would lose too much in bfloat16.
    if size >= 5 and strides == (1, 2) and channels <= _FEW and len(read) > 1 and x.dtype != jnp.bfloat16:
        return stems.of_clips(x, kernel, pads)
    # A bottleneck's entry.
    if size == 1 and strides == (1, 1) and channels > filters and len(read) > 1:
        return _by_tap(x, kernel, pads)
    # Few channels make narrow products: 45 to 64 ones 50 ms, side by side 42.
    if size == 1 and channels >= 128 and len(read) > 1:
        return _by_frame(x, kernel, strides, pads)
    return _side_by_side(x, kernel, strides, pads)


def _longer(x, pads: Pair):
    """Adds frames of zeros before and after clips."""
    if lowering.is_portable():
        return lowering.extended(x, jnp.zeros((), x.dtype), 1, *pads)
    return jnp.pad(x, ((0, 0), pads, (0, 0), (0, 0), (0, 0)))


def _side_by_side(x, kernel, strides: Pair, pads: Pair):
    """Computes all output frames by ONE 2-D convolution: the frames that each reads become channels."""
    taps, size, _, channels, filters = kernel.shape
    x = _longer(x, pads)
    outputs = (x.shape[1] - taps) // strides[0] + 1
    last = (outputs - 1) * strides[0] + 1
    x = jnp.concatenate([x[:, i : i + last : strides[0]] for i in range(taps)], -1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(size, size, taps * channels, filters)
    y = _frames_on_cpu(x.reshape(-1, *x.shape[2:]), kernel, strides[1])
    return y.reshape(-1, outputs, *y.shape[1:])


def _by_frame(x, kernel, strides: Pair, pads: Pair):
    """Computes each output frame as a sum of products, for kernels without extent in space.

    Nothing is copied and no zero is multiplied: 2 x 4 x 28 x 28 x 288 to 128 takes 24 ms, side by
    side 38.
    """
    # Split, not indexed, for the gradient's sake (see `winograd.tiles`).
    frames = [v[:, 0] for v in lax.split(x, (1,) * x.shape[1], axis=1)]
    outputs = []
    for start in range(-pads[0], len(frames) + pads[1] - len(kernel) + 1, strides[0]):
        read = [t for t in range(start, start + len(kernel)) if 0 <= t < len(frames)]
        outputs.append(sum(_frames_on_cpu(frames[t], kernel[t - start], strides[1]) for t in read))
    return jnp.stack(outputs, 1)


def _by_tap(x, kernel, pads: Pair):
    """Multiplies all frames with all taps by ONE product and adds up what falls on one output frame, for kernels
    without extent in space or strides.

    What is copied is as wide as the output, not the input. Forward and both gradients on one core, ms, here, side
    by side and by frame: 2 x 16 x 28 x 28 x 64 to 16 10, 39 and 18; 2 x 16 x 14 x 14 x 128 to 32 6, 10 and 12; 2 x
    16 x 7 x 7 x 256 to 64 4, 6 and 7.
    """
    taps, _, _, channels, filters = kernel.shape
    wide = kernel[:, 0, 0].transpose(1, 0, 2).reshape(channels, taps * filters)
    y = jnp.dot(x.reshape(-1, channels), wide).reshape(*x.shape[:4], taps * filters)
    shifted, zero = [], jnp.zeros((), y.dtype)
    for i, own in enumerate(lax.split(y, (filters,) * taps, axis=4)):
        # Negative numbers cut: what a tap would add to an output before or after the clip.
        amounts = [(0, 0, 0)] * 5
        amounts[1] = (pads[0] - i, pads[1] - (taps - 1 - i), 0)
        shifted.append(lax.pad(own, zero, amounts))
    return sum(shifted)


def _in_space(x, kernel, strides: Pair):
    """Convolves with a kernel that has no extent in time: ONE 2-D convolution over all frames."""
    x = x[:, :: strides[0]]
    y = _xla(x.reshape(-1, *x.shape[2:]), kernel[0], strides[1], kernel.shape[1] // 2)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _in_time(x, kernel, strides: Pair, pads: Pair):
    """Convolves with a kernel that has no extent in space: a 2-D one over time and all pixels in a row."""
    x = x[:, :, :: strides[1], :: strides[1]]
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height * width, channels)
    y = _convolve(x, kernel[:, 0], (strides[0], 1), [pads, (0, 0)])
    return y.reshape(batch, -1, height, width, kernel.shape[-1])


def _on_cuda(x, kernel, strides: Pair, pads: Pair):
    """Replaces cuDNN's 3-D convolution where it is slow: for kernels without extent in time or in space.

    On an H100 in bfloat16, forward and gradients, batch 32, 8 x 56 x 56: 1x3x3 from 64 to 144 takes
    2.5 ms in cuDNN and 1.2 ms here, 3x1x1 from 144 to 64 takes 2.1 ms and 0.6 ms.
    """
    if kernel.shape[0] == 1:
        return _in_space(x, kernel, strides)
    if kernel.shape[1] == 1:
        return _in_time(x, kernel, strides, pads)
    return _xla_clip(x, kernel, strides, pads)


def of_clips(x: jax.Array, kernel: jax.Array, *, strides: Pair = (1, 1), padding: str = "symmetric") -> jax.Array:
    """Computes a convolution over clips, [B, T, H, W, C] x [t, k, k, C, F] with odd t and k.

    ``strides`` are (time, space). Time is padded as `time_padding` says, space symmetrically. A CPU
    runs 2-D convolutions over the frames, lowered by shape; an NVIDIA GPU runs one over frames or one
    over time where the kernel allows it; a TPU keeps the 3-D one.
    """
    pads = time_padding(x.shape[1], kernel.shape[0], strides[0], padding)
    return lowering.chosen(
        x,
        kernel,
        portable=lambda x, k: _side_by_side(x, k, strides, pads),
        cpu=lambda x, k: _planar(x, k, strides, pads),
        cuda=lambda x, k: _on_cuda(x, k, strides, pads),
        default=lambda x, k: _xla_clip(x, k, strides, pads),
    )
