"""3x3 convolutions by Winograd's tiles (Lavin and Gray 2016)."""

import jax
import jax.numpy as jnp
from jax import lax

# Bytes that a chunk of a convolution may use: one CPU's share of the last-level cache.
CACHE = 12 * 2**20


def filters_of(kernel):
    """Transforms a 3x3 kernel [3, 3, C, F] into the 4x4 matrices of Winograd's products, [16, C, F]."""
    g = jnp.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], kernel.dtype)
    return jnp.einsum("ia,jb,abcf->ijcf", g, g, kernel).reshape(16, *kernel.shape[2:])


def tiles(x, filters):
    """Convolves even maps by 3x3 (stride 1, padding 1) with Winograd's F(2x2, 3x3).

    It needs 16 products where a direct convolution needs 36 (Lavin and Gray, 2016, section 4.1).
    """
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # d[i][j]: element (i, j) of every 4x4 tile, the tiles two apart.
    d = [[x[:, i : i + height - 1 : 2, j : j + width - 1 : 2] for j in range(4)] for i in range(4)]

    # Lavin and Gray's B^T d B and A^T m A, as sums: their matrices hold 0, 1 and -1 alone.
    def into(r):
        return r[0] - r[2], r[1] + r[2], r[2] - r[1], r[1] - r[3]

    def back(r):
        return r[0] + r[1] + r[2], r[1] - r[2] - r[3]

    half = [into(row) for row in zip(*(into(column) for column in zip(*d)))]
    # Split, not indexed: the gradient is then one concatenation, not a sum of sixteen padded arrays.
    parts = iter(lax.split(filters, (1,) * 16))
    products = [[jnp.dot(v.reshape(-1, channels), next(parts)[0]) for v in row] for row in half]
    y = [back(row) for row in zip(*(back(column) for column in zip(*products)))]
    shape = (batch, height // 2, width // 2, -1)
    y = jnp.stack([jnp.stack([v.reshape(shape) for v in row], 3) for row in y], 2)
    return y.reshape(batch, height, width, -1)


def chunks_of(x, filters: int):
    """Splits ``x`` [B, H, W, C] into chunks [n, B/n, H, W, C] whose tiles stay in the cache.

    Memory fetched anew costs XLA's CPU three times what the products cost.
    """
    maps, height, width, channels = x.shape
    room = max(1, CACHE // (4 * height * width * (channels + filters) * x.dtype.itemsize))
    size = max(n for n in range(1, maps + 1) if maps % n == 0 and n <= room)
    return x.reshape(maps // size, size, height, width, channels)


@jax.custom_vjp
def winograd(x, kernel):
    """Runs `tiles` chunk by chunk.

    The gradient of the input is again such a convolution, with the kernel turned by 180 degrees and
    its channels and filters exchanged.
    """
    filters = filters_of(kernel)
    y = lax.map(lambda v: tiles(v, filters), chunks_of(x, kernel.shape[3]))
    return y.reshape(*x.shape[:3], -1)


def _winograd_backward(saved, gradient):
    x, kernel = saved
    filters, pull = jax.vjp(filters_of, kernel)
    turned = filters_of(kernel[::-1, ::-1].swapaxes(2, 3))

    def step(total, chunk):
        x, gradient = chunk
        own = jax.vjp(lambda f: tiles(x, f), filters)[1](gradient)[0]
        return total + own, tiles(gradient, turned)

    chunks = chunks_of(x, kernel.shape[3])
    gradients = gradient.reshape(*chunks.shape[:4], -1)
    total, own = lax.scan(step, jnp.zeros_like(filters), (chunks, gradients))
    return own.reshape(x.shape), pull(total)[0]


winograd.defvjp(lambda x, kernel: (winograd(x, kernel), (x, kernel)), _winograd_backward)
