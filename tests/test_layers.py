"""Every lowering of a convolution is the convolution; pooling by pairs is pooling by windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from mmvid.models import layers


def with_gradients(function, *inputs):
    """(values, gradients for all inputs) under a fixed cotangent."""

    def run(*inputs):
        y, pull = jax.vjp(function, *inputs)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))

    return jax.jit(run)(*inputs)


def close(found, want, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(b).max())),
                 found, want)  # fmt: skip


# (batch, side, channels, filters, kernel, stride) and what is meant to run there.
SHAPES = [
    ((2, 12, 64, 72, 3, 1), "_winograd"),
    ((2, 8, 64, 64, 3, 1), "_winograd"),
    ((1, 9, 64, 64, 3, 1), None),  # odd maps have no tiles
    ((1, 8, 64, 64, 3, 2), None),
    ((2, 4, 256, 16, 3, 1), "_product"),
    ((2, 8, 256, 16, 3, 2), "_product"),
    ((2, 2, 8, 8, 3, 1), "_product"),
    ((2, 7, 24, 16, 1, 2), "_product"),
    ((2, 16, 10, 8, 7, 2), None),
    ((2, 16, 3, 8, 5, 2), None),
]


@pytest.mark.parametrize("shape, lowering", SHAPES, ids=lambda v: str(v).replace(" ", ""))
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-5)])
def test_every_lowering_is_the_convolution(shape, lowering, dtype, tolerance):
    batch, side, channels, filters, size, stride = shape
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(batch, side, side, channels)), dtype)
        kernel = jnp.asarray(rng.normal(size=(size, size, channels, filters)), dtype)
        chosen = layers._on_cpu(x.shape, x.dtype, kernel.shape, stride)
        names = {None: None, layers._winograd: "_winograd"}
        assert names.get(chosen, "_product") == lowering
        own = with_gradients(lambda x, k: layers.convolution(x, k, stride=stride), x, kernel)
        reference = with_gradients(lambda x, k: layers._xla(x, k, stride, size // 2), x, kernel)
        close(own, reference, tolerance)


def test_tiles_lose_too_much_in_bfloat16():
    assert layers._on_cpu((2, 8, 8, 64), jnp.bfloat16, (3, 3, 64, 64), 1) is None


def windows(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 999))
def test_pooling_by_pairs_is_pooling_by_windows(height, width, seed):
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(2, height, width, 3)), jnp.float32)
    close(with_gradients(layers.max_pool, x), with_gradients(windows, x), 1e-6)


def test_a_tie_shares_its_gradient():
    gradient = jax.grad(lambda x: layers.max_pool(x).sum())(jnp.ones((1, 4, 4, 1)))
    assert float(gradient.sum()) == 4.0 and float(gradient.min()) > 0
