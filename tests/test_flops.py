"""Counts that can be made by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from mmvid import flops
from mmvid.flops import Products
from mmvid.models import build_model
from mmvid.models.convolution import of_clips, of_images


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


CLIP = shaped(2, 4, 8, 8, 64)


def counted(run, weights, *inputs):
    return flops.count(run, weights, *inputs)


# ---------------------------------------------------------------------------- products
def test_products_with_weights_and_of_activations_stand_apart():
    x, w = shaped(2, 5, 7), shaped(7, 11)
    assert counted(lambda w, x: x @ w, w, x) == Products(linear=2 * 5 * 7 * 11)
    attend = lambda w, x: jnp.einsum("btd,bsd->bts", x @ w, x @ w)  # noqa: E731
    assert counted(attend, shaped(7, 3), x) == Products(linear=2 * 2 * 5 * 7 * 3, attention=2 * 5 * 5 * 3)
    # Made of weights alone: once for all clips. Constants are weights.
    assert counted(lambda w, x: x @ (w @ w), shaped(7, 7), x) == Products(linear=2 * 5 * 7 * 7)
    assert counted(lambda _, x: x @ jnp.ones((7, 4)), (), x) == Products(linear=2 * 5 * 7 * 4)


def test_dot_product_attention_is_two_products():
    q = shaped(2, 6, 3, 4)  # B, T, N, H
    found = counted(lambda _, q: jax.nn.dot_product_attention(q, q, q), (), q)
    assert found == Products(attention=2 * (2 * 3 * 6 * 6 * 4))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 2 * 6 * 6 * 12 * 9 * 8),
        ({"feature_group_count": 4}, 2 * 6 * 6 * 12 * 9 * 2),
        ({"window_strides": (2, 2)}, 2 * 3 * 3 * 12 * 9 * 8),
        ({"rhs_dilation": (2, 2)}, 2 * 4 * 4 * 12 * 9 * 8),
        ({"batch_group_count": 2}, 1 * 6 * 6 * 12 * 9 * 8),
        # Of a transposed one each input meets each tap once.
        ({"lhs_dilation": (2, 2), "padding": [(2, 2), (2, 2)]}, 2 * (8 * 3) ** 2 * 12 * 8),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else "",
)
def test_convolutions(options, expected):
    x = shaped(2, 8, 8, 8)
    kernel = shaped(3, 3, 8 // options.get("feature_group_count", 1), 12)
    settings = {"window_strides": (1, 1), "padding": "VALID"} | options

    def run(kernel, x):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings)

    assert counted(run, kernel, x) == Products(convolution=expected)


# ---------------------------------------------------------------------------- programs
def test_a_scan_counts_its_length_and_a_loop_of_unknown_length_is_named():
    x, w = shaped(5, 7), shaped(7, 7)
    step = lambda w, x: jnp.tanh(x @ w)  # noqa: E731
    one = 5 * 7 * 7
    assert counted(lambda w, x: lax.scan(lambda c, _: (step(w, c), None), x, length=6)[0], w, x).linear == 6 * one
    assert counted(lambda w, x: lax.fori_loop(0, 4, lambda i, c: step(w, c), x), w, x).linear == 4 * one
    found = counted(lambda w, x: lax.while_loop(lambda c: c.sum() < 9, lambda c: step(w, c), x), w, x)
    assert found.linear == one and "unknown length" in found.unknown[0]
    # The second round multiplies activations: the first alone would call it weights.
    fed = lambda w, x: lax.scan(lambda c, _: ((c[1], c[0] @ c[0]), None), (w, x), length=3)[0]  # noqa: E731
    assert counted(fed, shaped(7, 7), shaped(7, 7)) == Products(attention=3 * 7**3)


def test_of_branches_the_largest_counts():
    x, w = shaped(5, 7), shaped(7, 7)
    branches = [lambda w, x: x, lambda w, x: x @ w, lambda w, x: x @ w @ w]
    found = counted(lambda w, x: lax.switch(x.sum().astype(int), branches, w, x), w, x)
    assert found == Products(linear=2 * 5 * 7 * 7)


def of_own_gradient(run):
    wrapped = jax.custom_vjp(run)
    wrapped.defvjp(lambda *args: (run(*args), args), lambda saved, gradient: saved)
    return wrapped


def of_own_tangent(run):
    wrapped = jax.custom_jvp(run)
    wrapped.defjvp(lambda primals, tangents: (run(*primals), run(*primals)))
    return wrapped


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, of_own_gradient, of_own_tangent])
def test_what_wraps_a_function_is_entered(wrap):
    wrapped = wrap(lambda w, x: x @ w)
    found = counted(lambda w, x: wrapped(w, wrapped(w, x)), shaped(7, 7), shaped(5, 7))
    assert found == Products(linear=2 * 5 * 7 * 7)


def test_work_adds_up_and_what_is_unknown_is_named_once():
    parts = [Products(1, 2, 3, ("a",)), Products(10, 20, 30, ("b", "a")).times(2)]
    whole = flops.add(parts)
    assert whole == Products(21, 42, 63, ("a", "b"))
    assert (whole.weighted, whole.total, whole.flops) == (63, 126, 252)


# ---------------------------------------------------------------------------- networks
@pytest.mark.parametrize("size", [1, 3])
def test_what_the_cpu_lowers_in_its_own_way_counts_as_the_convolution(size):
    """Patches, Winograd's tiles and products of pixels, by shape."""
    kernel = shaped(size, size, 64, 96)
    for shape, stride in (((1, 4, 4, 64), 1), ((32, 16, 16, 64), 1), ((2, 8, 8, 64), 2)):
        found = counted(functools.partial(_convolved, stride), kernel, shaped(*shape))
        area = (shape[1] // stride) ** 2
        assert found == Products(convolution=shape[0] * area * size**2 * 64 * 96)
    clips = counted(lambda k, x: of_clips(x, k, strides=(2, 1)), shaped(3, size, size, 64, 96), CLIP)
    assert clips.total == 2 * 2 * 8 * 8 * 3 * size**2 * 64 * 96


def _convolved(stride, kernel, x):
    return of_images(x, kernel, stride=stride)


def test_the_count_is_the_same_as_on_an_accelerator(elsewhere):
    """The platforms that a program could run on are all in its jaxpr; with `elsewhere` an accelerator's alone."""
    found = counted(lambda k, x: of_clips(x, k, strides=(2, 1)), shaped(3, 3, 3, 64, 96), CLIP)
    assert elsewhere == [["cpu", "cuda"]] and found.total == 2 * 2 * 8 * 8 * 27 * 64 * 96


def of_model(name, *shape, classes=1000, **options):
    model = build_model(name, num_classes=classes, in_channels=shape[-1], **options)
    x = shaped(*shape)
    params, stats = jax.eval_shape(model.init, jax.random.key(0), x)

    def run(weights, x):
        return model.apply(*weights, x, train=False, key=jax.random.key(0))[0]["logits"]

    return counted(run, (params, stats), x), sum(leaf.size for leaf in jax.tree.leaves(params))


def resnet50(side):
    """The multiply-adds of ResNet-50's convolutions, from its table of layers."""
    side //= 2
    work, inputs = side**2 * 7 * 7 * 3 * 64, 64
    side //= 2
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            before, stride = side, 2 if stage and not block else 1
            side //= stride
            # The stride is the 3x3's (torchvision).
            work += before**2 * inputs * width + side**2 * 9 * width**2 + side**2 * width * 4 * width
            work += side**2 * inputs * 4 * width if not block else 0
            inputs = 4 * width
    return work


def test_resnet50_is_what_its_table_says():
    found, params = of_model("resnet50", 1, 224, 224, 3)
    assert found == Products(linear=2048 * 1000, convolution=resnet50(224))
    # As fvcore counts torchvision's: 4,089,184,256.
    assert found.total == 4_089_184_256 and params == 25_557_032
    clip, _ = of_model("tsm_resnet50", 1, 8, 224, 224, 3, classes=174)
    assert clip.convolution == 8 * resnet50(224) and clip.linear in (2048 * 174, 8 * 2048 * 174)
    tiny, again = (of_model("tsm_tiny", 1, 8, 48, 48, 3, remat=remat) for remat in (False, True))
    assert tiny == again


@pytest.mark.slow
def test_channels_by_themselves_count_as_the_paper_says():
    """ip-CSN-152 on a crop of 30: 108.8 GFLOPs, of multiply-adds (Wang et al., table 6)."""
    found, _ = of_model("csn_ip_152", 1, 32, 256, 256, 3, classes=400)
    assert round(found.total / 1e9, 1) == 108.8
