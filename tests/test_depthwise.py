"""Convolutions of each channel by itself: as XLA's grouped one, forward and backward, of any shape and stride."""

import jax
import numpy as np
import pytest

from mmvid.models import depthwise


@pytest.mark.parametrize(
    "shape, strides",
    [((2, 3, 5, 4, 2), (1, 1)), ((1, 4, 6, 7, 3), (2, 2)), ((1, 1, 4, 4, 2), (2, 2)), ((1, 18, 1, 3, 1), (2, 1))],
)
def test_sums_of_taps_are_the_grouped_convolution(shape, strides):
    """The frames before and after, odd and even sizes, and one frame or row alone."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=shape), rng.normal(size=(3, 3, 3, 1, shape[-1]))
    with jax.enable_x64(True):
        ways = depthwise._xla, *(lambda x, k, s, few=few: depthwise._sums(x, k, s, few) for few in (True, False))
        gradient = rng.normal(size=(shape[0], *depthwise._out(shape, strides), shape[-1]))
        of_each = jax.jit(lambda x, k, dy: [_all(way, x, k, strides, dy) for way in ways])
        want, *found = of_each(x, kernel, gradient)
    for each in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), each, want)


def _all(way, x, kernel, strides, gradient):
    y, pull = jax.vjp(lambda x, kernel: way(x, kernel, strides), x, kernel)
    return y, *pull(gradient)
