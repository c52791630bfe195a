"""Every lowering of a convolution is the convolution; pooling by pairs is pooling by windows; batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from mmvid.models import convolution, layers, winograd
from mmvid.models.pooling import max_pool


def with_gradients(function, *inputs):
    """(values, gradients for all inputs) under a fixed cotangent."""

    def run(*inputs):
        y, pull = jax.vjp(function, *inputs)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))

    return jax.jit(run)(*inputs)


def close(found, want, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max()),
        found,
        want,
    )


def drawn(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


# (batch, side, channels, filters, kernel, stride) and what is meant to run there.
SHAPES = [
    ((32, 12, 64, 72, 3, 1), "_winograd"),
    ((32, 8, 64, 64, 3, 1), "_winograd"),
    ((2, 12, 64, 64, 3, 1), None),  # too few tiles
    ((1, 9, 64, 64, 3, 1), None),  # odd maps have no tiles
    ((1, 8, 64, 64, 3, 2), "_product"),
    ((2, 4, 256, 16, 3, 1), "_product"),
    ((2, 14, 256, 16, 3, 1), "_product"),
    ((2, 8, 256, 16, 3, 2), "_product"),
    ((2, 2, 8, 8, 3, 1), "_product"),
    ((2, 7, 24, 16, 1, 2), "_product"),
    ((2, 16, 10, 8, 7, 2), "_product"),
    ((2, 16, 3, 8, 5, 2), "_product"),
    ((2, 16, 10, 8, 5, 1), None),
]


@pytest.mark.parametrize("shape, lowering", SHAPES, ids=lambda v: str(v).replace(" ", ""))
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-5)])
def test_every_lowering_is_the_convolution(shape, lowering, dtype, tolerance):
    batch, side, channels, filters, size, stride = shape
    with jax.enable_x64(dtype == "float64"):
        x = drawn((batch, side, side, channels), dtype)
        kernel = drawn((size, size, channels, filters), dtype, 1)
        chosen = convolution._on_cpu(x.shape, x.dtype, kernel.shape, stride)
        names = {None: None, winograd.winograd: "_winograd"}
        assert names.get(chosen, "_product") == lowering
        own = with_gradients(lambda x, k: convolution.of_images(x, k, stride=stride), x, kernel)
        reference = with_gradients(lambda x, k: convolution._xla(x, k, stride, size // 2), x, kernel)
        close(own, reference, tolerance)


@pytest.mark.parametrize("room, chunks", [(1, 6), (4 * 144 * 6 * 4 * 2, 3), (2**30, 1)])
def test_tiles_in_chunks_are_the_convolution(monkeypatch, room, chunks):
    monkeypatch.setattr(winograd, "CACHE", room)
    x, kernel = drawn((6, 12, 12, 2), "float32"), drawn((3, 3, 2, 4), "float32", 1)
    assert winograd.chunks_of(x, 4).shape[0] == chunks
    own = with_gradients(winograd.winograd, x, kernel)
    close(own, with_gradients(lambda x, k: convolution._xla(x, k, 1, 1), x, kernel), 1e-5)


def test_tiles_lose_too_much_in_bfloat16():
    assert convolution._on_cpu((32, 8, 8, 64), jnp.bfloat16, (3, 3, 64, 64), 1) is None


def test_patches_of_a_gigabyte_are_left_to_xla():
    assert convolution._on_cpu((64, 224, 224, 10), jnp.float32, (7, 7, 10, 64), 2) is None
    assert convolution._on_cpu((16, 224, 224, 3), jnp.float32, (7, 7, 3, 64), 2) is not None


# ---------------------------------------------------------------------------- clips
def check_clip(x, kernel, strides, padding, tolerance):
    """`clip_convolution` against XLA's 3-D one, whose padding is TensorFlow's by XLA's own word."""
    side = (kernel.shape[1] // 2,) * 2
    time = (kernel.shape[0] // 2,) * 2
    if padding == "same":
        steps = (1, strides[0], 1), (1, kernel.shape[0], 1)
        time = lax.padtype_to_pads((1, x.shape[1], 1), steps[1], steps[0], "SAME")[1]

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (strides[0], strides[1], strides[1]),
            [time, side, side],
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )

    own = lambda x, k: convolution.of_clips(x, k, strides=strides, padding=padding)  # noqa: E731
    close(with_gradients(own, x, kernel), with_gradients(reference, x, kernel), tolerance)


@settings(deadline=None, max_examples=8)
@given(
    frames=st.integers(1, 5),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    size=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from(["symmetric", "same"]),
    channels=st.integers(1, 3),
)
def test_convolutions_over_clips_are_three_dimensional(frames, height, width, size, strides, padding, channels):
    x = drawn((2, frames, height, width, channels), "float32")
    kernel = drawn((size[0], size[1], size[1], channels, 2), "float32", 1)
    check_clip(x, kernel, strides, padding, 1e-5)


# (clip, kernel, strides, padding): each way that a clip's convolution is lowered.
CLIPS = [
    ((2, 4, 5, 5, 6), (3, 1, 1, 6, 3), (1, 1), "symmetric"),  # a product for all taps
    ((2, 2, 3, 3, 130), (5, 1, 1, 130, 2), (1, 1), "same"),
    ((2, 6, 8, 11, 3), (5, 7, 7, 3, 4), (1, 2), "symmetric"),  # a stem
    ((1, 3, 9, 4, 2), (3, 5, 5, 2, 3), (1, 2), "same"),
    ((2, 2, 7, 6, 3), (7, 7, 7, 3, 2), (1, 2), "symmetric"),  # of fewer frames than taps
    ((2, 4, 5, 5, 128), (3, 1, 1, 128, 130), (1, 1), "symmetric"),  # a sum of products
    ((2, 4, 5, 5, 130), (3, 1, 1, 130, 3), (2, 1), "same"),
    ((2, 4, 5, 5, 6), (3, 1, 1, 6, 3), (2, 1), "same"),  # frames side by side
    ((8, 4, 8, 8, 64), (1, 3, 3, 64, 64), (1, 1), "symmetric"),  # tiles
    ((16, 2, 8, 8, 22), (3, 3, 3, 22, 64), (1, 1), "symmetric"),  # tiles, frames side by side
    ((2, 5, 9, 9, 6), (1, 1, 1, 6, 4), (2, 2), "symmetric"),  # a shortcut
    ((2, 3, 14, 14, 6), (1, 1, 1, 6, 4), (1, 1), "symmetric"),  # many rows: the kernel's gradient is turned
    ((2, 3, 9, 8, 3), (3, 7, 7, 3, 4), (1, 2), "symmetric"),  # a stem
    ((1, 4, 6, 7, 2), (5, 5, 5, 2, 3), (1, 1), "same"),
    ((1, 2, 9, 8, 3), (5, 7, 7, 3, 4), (1, 2), "symmetric"),  # of which two taps read zeros alone
    ((1, 5, 9, 8, 3), (3, 7, 7, 3, 4), (2, 2), "same"),
]


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 3), (3, 1), (1, 1), (3, 3)], ids=str)
def test_what_cuda_gets_is_three_dimensional(size, strides):
    x, kernel = drawn((2, 4, 5, 6, 3), "float32"), drawn((size[0], size[1], size[1], 3, 4), "float32", 1)
    ways = [jax.jit(way, static_argnums=(2, 3)) for way in (convolution._on_cuda, convolution._xla_clip)]
    for padding in ("symmetric", "same"):
        pads = convolution.time_padding(4, size[0], strides[0], padding)
        own, want = (way(x, kernel, strides, pads) for way in ways)
        np.testing.assert_allclose(own, want, atol=1e-5)


@pytest.mark.parametrize("clip, kernel, strides, padding", CLIPS, ids=lambda v: str(v).replace(" ", ""))
def test_every_lowering_of_clips_is_the_convolution(clip, kernel, strides, padding):
    with jax.enable_x64(True):
        x, kernel = drawn(clip, "float64"), drawn(kernel, "float64", 1)
        check_clip(x, kernel, strides, padding, 1e-13)


def test_padding_of_even_lengths_is_one_sided_where_same():
    assert convolution.time_padding(8, 3, 2, "same") == (0, 1)
    assert convolution.time_padding(5, 3, 2, "same") == (1, 1)
    assert convolution.time_padding(1, 3, 2, "same") == (1, 1)
    assert convolution.time_padding(8, 3, 2, "symmetric") == (1, 1)


def test_a_tpu_keeps_the_convolution(elsewhere):
    check_clip(drawn((2, 4, 5, 5, 6), "float32"), drawn((3, 3, 3, 6, 3), "float32", 1), (2, 2), "same", 1e-5)
    assert elsewhere == [["cpu", "cuda"]]


# ---------------------------------------------------------------------------- pooling
def windows(x, padding):
    pads = ((0, 0), (1, 1), (1, 1), (0, 0)) if padding == "symmetric" else "SAME"
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 999),
       padding=st.sampled_from(["symmetric", "same"]))  # fmt: skip
def test_pooling_by_pairs_is_pooling_by_windows(height, width, seed, padding):
    x = drawn((2, height, width, 3), "float32", seed)
    own = with_gradients(lambda x: max_pool(x, padding), x)
    close(own, with_gradients(lambda x: windows(x, padding), x), 1e-6)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_clips_are_pooled_frame_by_frame(padding):
    x = drawn((2, 3, 6, 5, 4), "float32")
    frames = jnp.stack([max_pool(x[:, t], padding) for t in range(3)], 1)
    np.testing.assert_array_equal(max_pool(x, padding), frames)


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_pooling_in_time_too_is_pooling_by_cubes(frames):
    x = drawn((2, frames, 6, 5, 4), "float32")
    pads = ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0))
    want = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 3, 1), (1, 2, 2, 2, 1), pads)
    np.testing.assert_array_equal(max_pool(x, time=True), want)


def test_a_tie_shares_its_gradient():
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 4, 4, 1)))
    assert float(gradient.sum()) == 4.0 and float(gradient.min()) > 0


# ---------------------------------------------------------------------------- batch norm
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_of_clips_has_the_gradient_of_that_of_frames(frozen):
    """Clips get the gradient in closed form, frames that of automatic differentiation."""
    with jax.enable_x64(True):
        x, scale, bias = drawn((2, 3, 4, 5, 6), "float64") + 3, drawn(6, "float64", 1), drawn(6, "float64", 2)
        stats = {"mean": drawn(6, "float64", 3), "var": jnp.ones(6)}
        norm = layers.BatchNorm(frozen=frozen, dtype=jnp.float64)

        def run(x, scale, bias):
            variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
            return norm.apply(variables, x, train=True, mutable="batch_stats")

        of_frames = lambda x, *rest: run(x.reshape(-1, *x.shape[2:]), *rest)  # noqa: E731
        own = with_gradients(lambda *v: run(*v)[0], x, scale, bias)
        want = with_gradients(lambda *v: of_frames(*v)[0].reshape(x.shape), x, scale, bias)
        close(own[0], want[0], 1e-13)
        for found, gradient in zip(own[1], want[1]):
            np.testing.assert_allclose(found, gradient, rtol=1e-11, atol=1e-11)
        close(run(x, scale, bias)[1], of_frames(x, scale, bias)[1], 1e-13)


def test_batch_norm_of_clips_sums_in_float32():
    x = (drawn((2, 4, 8, 8, 3), "float32") + 30).astype(jnp.bfloat16)
    vectors = drawn(3, "float32", 1), drawn(3, "float32", 2)

    def run(dtype):
        norm = lambda x: layers._normalised(x, *vectors, 1e-5, dtype)[0].astype(jnp.float32)  # noqa: E731
        return with_gradients(norm, x.astype(dtype))

    wide, own = run(jnp.float32), run(jnp.bfloat16)
    assert own[1][0].dtype == jnp.bfloat16
    close([v.astype(jnp.float32) for v in (own[0], own[1][0])], [wide[0], wide[1][0]], 0.02)


def test_elsewhere_batch_norm_of_clips_is_differentiated_automatically(elsewhere):
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 2, 3)), train=False)
    norm.apply(variables, jnp.ones((1, 2, 2, 2, 3)), train=True, mutable="batch_stats")
    assert elsewhere == [["cpu"]]
    norm.apply(variables, jnp.ones((2, 2, 2, 3)), train=True, mutable="batch_stats")
    assert elsewhere == [["cpu"]]
