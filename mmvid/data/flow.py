"""Computes optical flow: TV-L1 in JAX (batched, jitted, any device) and DIS through OpenCV.

This is the duality-based TV-L1 of Zach, Pock and Bischof as OpenCV's DualTVL1 runs it. The flow (u, v) is in
pixels, with frame0(x, y) ~ frame1(x + u, y + v).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class TVL1(NamedTuple):
    """Settings of TV-L1, named mostly as in OpenCV.

    ``weight`` is its lambda, ``median`` the side of the median filter's window in pixels (1: none). An
    ``epsilon`` of 0 runs all iterations, which needs no check of convergence.
    """

    tau: float = 0.25
    weight: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    outer: int = 10
    inner: int = 30
    epsilon: float = 0.01
    median: int = 5


OPENCV = TVL1()
# Fewer, coarser scales and a fixed count of iterations with two medians: measured no less accurate
# than OpenCV's settings on the golden motions (benchmarks/flow.py), at a fraction of the work.
DEFAULT = TVL1(scales=4, scale_step=0.6, warps=4, outer=2, inner=12, epsilon=0.0, median=5)
FAST = TVL1(scales=3, scale_step=0.5, warps=3, outer=1, inner=15, epsilon=0.0, median=3)
# Red, green and blue in parts of 2**15.
_LUMA = np.array([9798, 19235, 3735], np.int32)
# Pixels of which a core's cache (2 MB and more) holds the dozen arrays of an iteration.
_CACHED = 1 << 16
PRESETS = {"default": DEFAULT, "fast": FAST, "opencv": OPENCV}


# ---------------------------------------------------------------------------- finite differences
def _ahead(x, axis: int):
    """Shifts x so that position i holds the value of i + 1; the last one is repeated (difference zero)."""
    return jnp.concatenate(
        [lax.slice_in_dim(x, 1, None, axis=axis), lax.slice_in_dim(x, -1, None, axis=axis)], axis
    )


def _behind(x, axis: int):
    """Shifts x so that position i holds the value of i - 1; the first becomes zero."""
    body = lax.slice_in_dim(x, 0, -1, axis=axis)
    return jnp.concatenate([jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis)), body], axis)


def centred_gradient(image):
    """Returns (d/dx, d/dy) of [B, H, W]: half the difference of both neighbours, the edge repeated."""
    out = []
    for axis in (2, 1):
        before = jnp.concatenate(
            [lax.slice_in_dim(image, 0, 1, axis=axis), lax.slice_in_dim(image, 0, -1, axis=axis)], axis
        )
        out.append(0.5 * (_ahead(image, axis) - before))
    return tuple(out)


def forward_gradient(u):
    """Returns (d/dx, d/dy) of [B, H, W] as forward differences, zero at the far edge."""
    return _ahead(u, 2) - u, _ahead(u, 1) - u


def divergence(px, py):
    """Returns the divergence [B, H, W]: on interior points the negative adjoint of ``forward_gradient``."""
    return px - _behind(px, 2) + py - _behind(py, 1)


# ---------------------------------------------------------------------------- warping
def _cubic(t):
    """Returns the bicubic weights [..., 4] of the taps at -1, 0, 1, 2 for the fraction ``t`` in [0, 1)."""
    # OpenCV's value; that of Keys is -0.5.
    a = -0.75
    near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1  # noqa: E731
    far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a  # noqa: E731
    return jnp.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], -1)


def warp(images, u, v):
    """Samples images [B, H, W, C] at (x + u, y + v), bicubically; zero outside, as cv2.remap."""
    batch, height, width, channels = images.shape
    x = jnp.arange(width, dtype=u.dtype)[None, None] + u
    y = jnp.arange(height, dtype=u.dtype)[None, :, None] + v
    # Two pixels of zeros on each side of what a tap may touch: far away is zero anyway.
    x, y = jnp.clip(x, -3, width + 2), jnp.clip(y, -3, height + 2)
    x0, y0 = jnp.floor(x), jnp.floor(y)
    wx, wy = _cubic(x - x0), _cubic(y - y0)
    padded = jnp.pad(images, ((0, 0), (4, 5), (4, 5), (0, 0)))
    rows, columns = height + 9, width + 9
    # One flat axis of pixels: a tap is then a constant offset to the index of the first one.
    flat = padded.reshape(batch, rows * columns, channels)
    corner = (y0.astype(jnp.int32) + 3) * columns + x0.astype(jnp.int32) + 3
    corner = corner.reshape(batch, -1)
    total = 0.0
    for i in range(4):
        line = 0.0
        for j in range(4):
            index = corner + (i * columns + j)
            taps = jax.vmap(lambda image, k: image.at[k].get(mode="promise_in_bounds"))(flat, index)
            line += taps * wx[..., j].reshape(batch, -1, 1)
        total += line * wy[..., i].reshape(batch, -1, 1)
    return total.reshape(batch, height, width, channels)


def resize(image, shape: tuple[int, int], step: float | None = None):
    """Resizes [B, H, W] to [B, *shape] bilinearly: half-pixel centres, no smoothing, as cv2.resize.

    With ``step`` the grid follows that factor instead of the ratio of the (rounded) sizes.
    """
    for axis, new in zip((1, 2), shape):
        lines = _lines(image.shape[axis], new, 1 / step if step else image.shape[axis] / new)
        image = jnp.moveaxis(jnp.tensordot(image, lines, (axis, 0)), -1, axis)
    return image


def _lines(old: int, new: int, ratio: float) -> np.ndarray:
    """Returns the matrix [old, new] of linear interpolation along one axis."""
    position = np.clip((np.arange(new) + 0.5) * ratio - 0.5, 0, old - 1)
    low = np.minimum(np.floor(position).astype(int), max(old - 2, 0))
    matrix = np.zeros((old, new), np.float32)
    matrix[low, np.arange(new)] = 1 - (position - low)
    matrix[np.minimum(low + 1, old - 1), np.arange(new)] += position - low
    return matrix


def _sort2(values, i, j):
    """Puts the smaller of two values at ``i`` and the greater at ``j``."""
    values[i], values[j] = jnp.minimum(values[i], values[j]), jnp.maximum(values[i], values[j])


def median(x, size: int):
    """Returns the median over a size x size window of [B, H, W], the edge repeated. Raises ValueError for a
    size other than 3 or 5."""
    if size not in (3, 5):
        raise ValueError(f"median window {size}: choose 3 or 5 (1 for none)")
    half = size // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (half, half)), mode="edge")
    values = [padded[:, i : i + x.shape[1], j : j + x.shape[2]] for i in range(size) for j in range(size)]
    # Forgetful selection: of the first n/2 + 2 values the least and the greatest cannot be the
    # median; drop them, take one more value in, and so on.
    keep = len(values) // 2 + 2
    pool, rest = values[:keep], values[keep:]
    while True:
        for i in range(len(pool) // 2):
            _sort2(pool, i, len(pool) - 1 - i)
        for i in range(1, (len(pool) + 1) // 2):
            _sort2(pool, 0, i)
        for i in range(len(pool) // 2, len(pool) - 1):
            _sort2(pool, i, len(pool) - 1)
        pool = pool[1:-1]
        if not rest:
            return pool[0]
        pool.append(rest.pop())


# ---------------------------------------------------------------------------- the scheme
def _threshold(rho_c, ix, iy, grad, u, v, lt):
    """Solves the data term pixel by pixel (estimateV in OpenCV): a thresholding step on the residual ``rho``."""
    rho = rho_c + ix * u + iy * v
    bound = lt * grad
    # Where the image is flat there is no direction to move in; the guard also keeps the division finite.
    inside = -rho / jnp.where(grad > 1.2e-7, grad, 1) * (grad > 1.2e-7)
    factor = jnp.where(rho < -bound, lt, jnp.where(rho > bound, -lt, inside))
    return u + factor * ix, v + factor * iy


def _iterate(carry, data, s: TVL1):
    """Runs one primal-dual iteration; the carry (u, v, duals, change) ends with each pair's squared change."""
    u, v, p, _ = carry
    rho_c, ix, iy, grad = data
    a, b = _threshold(rho_c, ix, iy, grad, u, v, s.weight * s.theta)
    new_u = a + s.theta * divergence(p[0], p[1])
    new_v = b + s.theta * divergence(p[2], p[3])
    change = ((new_u - u) ** 2 + (new_v - v) ** 2).sum((1, 2))
    ratio, new_p = s.tau / s.theta, []
    for flow, duals in ((new_u, p[:2]), (new_v, p[2:])):
        gradient = forward_gradient(flow)
        norm = 1 + ratio * jnp.sqrt(gradient[0] ** 2 + gradient[1] ** 2)
        new_p += [(d + ratio * g) / norm for d, g in zip(duals, gradient)]
    return new_u, new_v, tuple(new_p), change


def _inner(carry, data, s: TVL1, bound: float):
    """Runs ``inner`` iterations, or fewer once every pair's change is below ``bound``."""
    if s.epsilon == 0:
        return lax.fori_loop(0, s.inner, lambda _, c: _iterate(c, data, s), carry)

    def step(state):
        return state[0] + 1, _iterate(state[1], data, s)

    def unfinished(state):
        return (state[0] < s.inner) & (state[1][3].max() > bound)

    return lax.while_loop(unfinished, step, (0, carry))[1]


def _one_warp(flow, images, first, s: TVL1):
    """Linearises around the present flow, then alternates the median filter with iterations."""
    u, v, p = flow
    warped = warp(images, u, v)
    image, ix, iy = warped[..., 0], warped[..., 1], warped[..., 2]
    data = image - ix * u - iy * v - first, ix, iy, ix * ix + iy * iy
    # ``epsilon`` is of one pixel, while changes are summed over the picture (OpenCV's scaledEpsilon).
    bound = s.epsilon**2 * u.shape[1] * u.shape[2]

    def outer(carry):
        if s.median > 1:
            carry = (median(carry[0], s.median), median(carry[1], s.median), *carry[2:])
        return _inner(carry, data, s, bound)

    carry = (u, v, p, jnp.full(u.shape[:1], jnp.inf, u.dtype))
    if s.epsilon == 0:
        return lax.fori_loop(0, s.outer, lambda _, c: outer(c), carry)[:3]

    def unfinished(state):
        return (state[0] < s.outer) & (state[1][3].max() > bound)

    return lax.while_loop(unfinished, lambda t: (t[0] + 1, outer(t[1])), (0, carry))[1][:3]


def _one_scale(first, second, u, v, s: TVL1):
    """Refines the flow (u, v) [B, H, W] at one scale of the pyramid."""
    # The gradients are warped beside the image itself, which costs one gather for all three.
    images = jnp.stack([second, *centred_gradient(second)], -1)
    zero = jnp.zeros_like(u)
    start = u, v, (zero, zero, zero, zero)
    return lax.fori_loop(0, s.warps, lambda _, f: _one_warp(f, images, first, s), start)[:2]


def _shapes(height: int, width: int, s: TVL1) -> list[tuple[int, int]]:
    """Returns the sizes of the pyramid from fine to coarse; scales below 16 pixels are left out."""
    shapes = [(height, width)]
    for _ in range(s.scales - 1):
        shape = tuple(int(np.rint(n * s.scale_step)) for n in shapes[-1])
        if min(shape) < 16:
            break
        shapes.append(shape)
    return shapes


@functools.partial(jax.jit, static_argnames="settings")
def tvl1(frame0: jax.Array, frame1: jax.Array, *, settings: TVL1 = DEFAULT) -> jax.Array:
    """Computes the flow [B, H, W, 2] (u along x, v along y, pixels) between gray frames [B, H, W] in 0..255."""
    pyramid = [(frame0.astype(jnp.float32), frame1.astype(jnp.float32))]
    shapes = _shapes(*frame0.shape[1:], settings)
    for shape in shapes[1:]:
        step = settings.scale_step
        pyramid.append(tuple(resize(image, shape, step) for image in pyramid[-1]))
    u = v = jnp.zeros_like(pyramid[-1][0])
    for level, (first, second) in reversed(list(enumerate(pyramid))):
        if u.shape != first.shape:
            # A displacement in pixels grows with the picture.
            factor = 1 / settings.scale_step
            u, v = (resize(f, shapes[level]) * factor for f in (u, v))
        u, v = _one_scale(first, second, u, v, settings)
    return jnp.stack([u, v], -1)


# ---------------------------------------------------------------------------- clips
def gray(frames: np.ndarray) -> np.ndarray:
    """Turns uint8 [T, H, W, 3] into gray uint8 [T, H, W], and leaves gray frames alone.

    It is OpenCV's luma to the bit: 0.299 R + 0.587 G + 0.114 B in fixed point.
    """
    if frames.ndim == 3:
        return frames
    return np.stack([((f @ _LUMA + (1 << 14)) >> 15).astype(np.uint8) for f in frames])


def _pairs(frames: np.ndarray, pairs: Sequence[int] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the two gray frames [H, W] of each of the ``pairs`` that are wanted, of every pair for None."""
    wanted = range(len(frames) - 1) if pairs is None else pairs
    # Most frames are in two pairs: each is made gray once.
    made = {i: gray(frames[i : i + 1])[0] for i in sorted({i + k for i in wanted for k in (0, 1)})}
    return [(made[i], made[i + 1]) for i in wanted]


def _together(height: int, width: int) -> int:
    """Returns how many pairs of such frames are computed at once where nobody says."""
    # Of eight little is padded. On a CPU what an iteration goes through is to stay in a core's cache: eight pairs
    # of 340x256 at once cost a quarter more than one by one.
    return 8 if jax.default_backend() != "cpu" else min(max(_CACHED // (height * width), 1), 8)


def clip_flow(
    frames: np.ndarray,
    *,
    settings: TVL1 | str = DEFAULT,
    batch_size: int | None = None,
    pairs: Sequence[int] | None = None,
) -> np.ndarray:
    """Computes the TV-L1 flow of a clip: uint8 [T, H, W(, 3)] -> float32 [T-1, H, W, 2].

    Where ``pairs`` names some, it is the flow from these frames to the ones after them, [n, H, W, 2]. Pairs
    are processed ``batch_size`` at a time (by default `_together`), the last batch padded, so that clips of
    every length share one compiled program. Raises ValueError for an unknown preset.
    """
    settings, frames, flows = _settings(settings), np.asarray(frames), []
    wanted, batch_size = _pairs(frames, pairs), batch_size or _together(*frames.shape[1:3])
    for start in range(0, len(wanted), batch_size):
        part = wanted[start : start + batch_size]
        first, second = (np.stack(side) for side in zip(*part, *part[-1:] * (batch_size - len(part))))
        flows.append(tvl1(first, second, settings=settings))
    blank = np.zeros((0, *frames.shape[1:3], 2), np.float32)
    return np.concatenate([np.asarray(f) for f in flows] or [blank])[: len(wanted)]


def _settings(settings: TVL1 | str) -> TVL1:
    """Returns the settings that a preset's name stands for. Raises ValueError for an unknown name."""
    if isinstance(settings, str):
        if settings not in PRESETS:
            raise ValueError(f"TV-L1 preset {settings!r}: choose one of {sorted(PRESETS)}")
        return PRESETS[settings]
    return settings


def dis(frames: np.ndarray, *, pairs: Sequence[int] | None = None) -> np.ndarray:
    """Computes the DIS flow (preset medium) of a clip by OpenCV, the quick option: shapes as ``clip_flow``."""
    # TV-L1 must run where OpenCV is not installed.
    import cv2

    frames = np.asarray(frames)
    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [solver.calc(*pair, None) for pair in _pairs(frames, pairs)]
    return np.stack(flows) if flows else np.zeros((0, *frames.shape[1:3], 2), np.float32)


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Clips flow v in pixels to +-``bound`` and stores it as uint8: round((v / bound + 1) * 127.5).

    No motion lies at 127.5, between two levels (it is stored as 128), so that 255 - s is
    exactly the negated flow of a stored value s.
    """
    return np.uint8(np.rint((np.clip(flow / bound, -1, 1) + 1) * 127.5))
