"""Weights drawn by NumPy: a jitted ``init`` compiles for seconds, and most tests need any weights at all."""

import zlib

import jax
import numpy as np


def weights(init, *inputs, seed=0):
    """(params, stats) of the shapes of ``init(*inputs)``; scales are about 1, variances 1, other
    statistics 0. A tensor's numbers depend on its path and the seed alone.
    """

    def draw(path, shape):
        rng = np.random.default_rng([seed, zlib.crc32(jax.tree_util.keystr(path).encode())])
        mean = float(getattr(path[-1], "key", "") == "scale")
        return np.asarray(mean + 0.1 * rng.normal(size=shape.shape), shape.dtype)

    params, stats = jax.eval_shape(init, *inputs)
    variance = lambda path, s: np.full(s.shape, path[-1].key == "var", s.dtype)  # noqa: E731
    return jax.tree_util.tree_map_with_path(draw, params), jax.tree_util.tree_map_with_path(variance, stats)
