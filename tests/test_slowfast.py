"""SlowFast: its size and shapes, which frames its slow pathway sees, windows, and published names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import weights as weights_of

from mmvid import weights
from mmvid.models import MODELS, build_model
from mmvid.models.slowfast import every
from mmvid.models.video_resnet import averaged, halved, windows
from mmvid.streams import Head
from mmvid.weights import names_slowfast

SMALL = dict(stages=(1, 1, 1, 1), width=16, window=2)


@functools.cache
def drawn(name="slowfast_resnet50", **options):
    model = build_model(name, heads={"verb": Head(5), "tags": Head(3, "multi")}, **options)
    x = np.float32(np.random.default_rng(0).normal(size=(2, 8, 64, 64, 3)))
    return model, *weights_of(model.init, jax.random.key(0), x), x


@functools.cache
def applied(train):
    """A jitted (params, stats, x) -> results of the small network."""
    model, *_ = drawn(**SMALL)
    return jax.jit(lambda *given: model.apply(*given, train=train, key=jax.random.key(0))[0])


def test_its_size_is_that_of_its_code():
    """34.57 M with 400 classes, as the model zoo of its code says of SLOWFAST_8x8_R50."""
    model = build_model("slowfast_resnet50", num_classes=400)
    shape = jax.ShapeDtypeStruct((1, 32, 224, 224, 3), jnp.float32)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), shape)
    assert sum(v.size for v in jax.tree.leaves(params)) == 34_566_488


def test_the_shapes_of_its_stages():
    """Table 1 of the paper: 8 and 32 frames, the slow channels joined by twice the fast ones."""
    settings = dict(MODELS["slowfast_resnet50"])
    module = settings.pop("module")(heads={"verb": 5}, **settings)
    shape = jax.ShapeDtypeStruct((1, 32, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), shape)
    _, kept = jax.eval_shape(
        lambda v, x: module.apply(v, x, train=False, mutable=["intermediates"]), variables, shape
    )
    shapes = {name: own[0].shape[1:] for name, own in kept["intermediates"].items() if not isinstance(own, dict)}
    assert shapes == {
        "slow_stem": (8, 56, 56, 64), "fast_stem": (32, 56, 56, 8),
        "slow_layer1": (8, 56, 56, 256), "fast_layer1": (32, 56, 56, 32),
        "slow_layer2": (8, 28, 28, 512), "fast_layer2": (32, 28, 28, 64),
        "slow_layer3": (8, 14, 14, 1024), "fast_layer3": (32, 14, 14, 128),
        "slow_layer4": (8, 7, 7, 2048), "fast_layer4": (32, 7, 7, 256),
    }  # fmt: skip
    kernels = variables["params"]
    assert kernels["slow_layer1_0"]["conv1"]["kernel"].shape[-2:] == (64 + 16, 64)
    assert kernels["fuse4_conv"]["kernel"].shape[-2:] == (128, 256)
    assert kernels["classifier"]["verb"]["kernel"].shape == (2048 + 256, 5)


def test_frames_of_the_slow_pathway():
    """As torch.linspace(0, 31, 8).long() chooses them: the last one is among them."""
    assert every(32, 4).tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert every(8, 8).tolist() == [0] and every(3, 4).tolist() == [0]


@pytest.mark.slow
def test_the_slow_pathway_sees_no_other_frame():
    """But for what the fast one, here silenced, brings it."""
    _, params, stats, x = drawn(**SMALL)
    silent = {
        name: jax.tree.map(jnp.zeros_like, own) if name.startswith("fuse") else own for name, own in params.items()
    }
    kept = every(8, 4)
    other = x.copy()
    other[:, [i for i in range(8) if i not in kept]] += 1.0
    said = [applied(train=False)(silent, stats, clip)["features"] for clip in (x, other)]
    slow = said[0].shape[-1] * 8 // 9
    np.testing.assert_allclose(said[0][:, :slow], said[1][:, :slow], rtol=1e-5, atol=1e-6)
    assert not np.allclose(said[0][:, slow:], said[1][:, slow:])


@pytest.mark.slow
def test_every_parameter_learns():
    model, params, stats, x = drawn(**SMALL)

    def loss(params):
        result, _ = model.apply(params, stats, x, train=True, key=jax.random.key(1))
        return sum((own**2).sum() for own in result["logits"].values())

    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_published_names_come_back():
    model, params, stats, _ = drawn(**SMALL)
    names = weights.torch_names(params, stats, head="verb")
    keys = [
        "s1.pathway1_stem.conv.weight", "s1_fuse.conv_f2s.weight", "s4_fuse.bn.running_var",
        "head.projection.weight",
        "s5.pathway0_res0.branch2.b_bn.bias", "s2.pathway1_res0.branch1_bn.weight",
    ]  # fmt: skip
    for key in keys:
        assert key in names
    found = weights.found(names, head="verb")
    assert not found.strange and found.layout.first_convolutions == model.first_convolutions
    for path, value in found.placed.items():
        own = {"params": params, "stats": stats}
        for part in path:
            own = own[part]
        np.testing.assert_array_equal(value, own)


@pytest.mark.parametrize("name", ["i3d_resnet50", "slow_resnet50"])
def test_names_of_one_pathway(name):
    """Its code's names and ours, there and back; they are not taken for another format's."""
    model = build_model(name, num_classes=4, stages=(3, 4, 6, 3), width=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 4, 32, 32, 3), jnp.float32))
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(lambda v: np.float32(rng.normal(size=v.shape)), shapes)
    from mmvid.weights import names_resnet

    names = names_resnet.torch_names(params, stats, names_slowfast.torch_key, head="action")
    assert "s3.pathway0_res0.branch1_bn.running_mean" in names and "s1.pathway0_stem.bn.weight" in names
    loaded = weights.load(name, names, params=shapes[0], stats=shapes[1], layout=model)
    jax.tree.map(np.testing.assert_array_equal, loaded, (params, stats))


# ---------------------------------------------------------------------------- larger maps
@pytest.mark.parametrize("by_sigmoid", [False, True])
def test_probabilities_of_places_are_averaged(by_sigmoid):
    rng = np.random.default_rng(0)
    logits = np.float32(rng.normal(size=(3, 2, 4, 6)) * 3)
    form = jax.nn.sigmoid if by_sigmoid else jax.nn.softmax
    want = form(logits).mean((1, 2))
    np.testing.assert_allclose(form(averaged(jnp.asarray(logits), by_sigmoid)), want, rtol=1e-5)
    far = averaged(jnp.asarray(np.float32([[[[50.0, -50.0]], [[-50.0, 50.0]]]])), by_sigmoid)
    assert np.isfinite(far).all()


def test_windows_are_means():
    x = np.float32(np.random.default_rng(0).normal(size=(1, 4, 5, 2)))
    found = windows(jnp.asarray(x), 3)
    assert found.shape == (1, 2, 3, 2)
    np.testing.assert_allclose(found[0, 1, 2], x[0, 1:4, 2:5].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(windows(jnp.asarray(x), 7)[:, 0, 0], x.mean((1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_larger_maps_are_classified_by_places_in_evaluation_alone():
    _, params, stats, x = drawn(**SMALL)
    large = np.concatenate([x, x], 2)
    told, trained = (applied(train)(params, stats, large) for train in (False, True))
    for own in told["logits"].values():
        assert np.isfinite(own).all()
    # Of a softmax these are logarithms of probabilities.
    np.testing.assert_allclose(jnp.exp(told["logits"]["verb"]).sum(-1), 1, rtol=1e-5)
    assert not np.allclose(jnp.exp(trained["logits"]["verb"]).sum(-1), 1)


def test_two_frames_become_their_maximum():
    x = np.float32(np.random.default_rng(0).normal(size=(1, 5, 2, 2, 3)))
    found = halved(jnp.asarray(x))
    np.testing.assert_array_equal(found, np.maximum(x[:, [0, 2]], x[:, [1, 3]]))
    np.testing.assert_array_equal(halved(jnp.asarray(x[:, :1])), x[:, :1])
