"""Networks for sound: sizes; what audio_tiny's features hear, and that it learns to tell knocks from hums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid import losses
from mmvid.models import build_model
from mmvid.models.layers import Affine, Classifier
from mmvid.streams import Head

MODEL = build_model("audio_tiny", heads={"noun": 3, "verb": 2}, in_channels=1, dropout=0.5)


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(8, 2, shape).astype(np.float32)


@pytest.fixture(scope="module")
def drawn():
    return jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 100, 40, 1)))


def test_logits_per_head_and_few_parameters(drawn):
    params, stats = drawn
    result, same = jax.eval_shape(
        lambda x: MODEL.apply(params, stats, x, train=False, key=None), jnp.zeros((2, 100, 40, 1))
    )
    shapes = jax.tree.map(lambda x: x.shape, result)
    assert shapes["logits"] == {"noun": (2, 3), "verb": (2, 2)} and shapes["features"] == (2, 128)
    assert shapes["map"] == (2, 1, 7, 3, 128) and jax.tree.structure(same) == jax.tree.structure(stats)
    assert sum(x.size for x in jax.tree.leaves(params)) == 97_392 + 128 * 5 + 5
    for paths in (MODEL.first_convolutions, MODEL.classifiers):
        assert all(path[0] in params for path in paths)


def test_a_head_of_several_labels_may_scale_and_shift_its_logits():
    """Zero-initialised beside 1 and 0, so that it begins as without; a head of one label has none."""
    heads = {"sounds": Head(3, "multi"), "verb": Head(2)}
    model = build_model("audio_tiny", heads=heads, in_channels=1, affine=True)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 100, 40, 1)))[0]["classifier"]
    shapes = {head: {name: x.shape for name, x in own.items()} for head, own in params.items()}
    assert shapes["sounds"] == {"kernel": (128, 3), "bias": (3,), "gain": (3,), "offset": (3,)}
    assert set(shapes["verb"]) == {"kernel", "bias"}
    classifier, features = Classifier({"a": Affine(3), "b": 3}), noise(0, 4, 5)
    params = classifier.init(jax.random.key(0), features)["params"]
    params["b"] = {name: params["a"][name] for name in ("kernel", "bias")}
    same = classifier.apply({"params": params}, features)
    np.testing.assert_array_equal(same["a"], same["b"])
    params["a"] |= {"gain": jnp.array([1.0, 0, -0.5]), "offset": jnp.array([0.0, 3, 0])}
    moved = classifier.apply({"params": params}, features)
    np.testing.assert_allclose(
        moved["a"], np.asarray(moved["b"]) * np.array([2, 1, 0.5]) + np.array([0, 3, 0]), rtol=1e-6
    )


def test_windows_are_seen_one_by_one_and_silence_around_a_knock_does_not_hide_it(drawn):
    """Features of windows are the means over them; a knock stands out of the maximum wherever it is."""
    params, stats = drawn
    apply = jax.jit(lambda x: MODEL.apply(params, stats, x, train=False, key=None)[0]["features"])
    windows = noise(0, 2, 3, 100, 40, 1)
    alone = np.stack([apply(windows[:, i]) for i in range(3)], 1).mean(1)
    np.testing.assert_allclose(apply(windows), alone, rtol=1e-5, atol=1e-5)
    silence = np.zeros((2, 100, 40, 1), np.float32)
    knocks = silence.copy()
    # 16 rows are a step of the last map, so that the two knocks meet the same grid.
    knocks[0, 32:36], knocks[1, 48:52] = 9, 9
    quiet, heard = apply(silence), apply(knocks)
    np.testing.assert_allclose(heard[0], heard[1], rtol=1e-5)
    assert float(abs(heard[0] - quiet[0]).max()) > 0.3  # the mean alone would show an eighth


def test_it_learns_and_drops_in_training_alone(drawn):
    """Ten steps part a hum from a knock, dropout and all; in evaluation nothing is dropped."""
    x, label = noise(1, 8, 100, 40, 1), jnp.arange(8) % 2
    x[::2, 40:44] += 8
    x[1::2, :, 10:12] += 4

    def loss(params, stats, key):
        result, stats = MODEL.apply(params, stats, x, train=True, key=key)
        return losses.softmax_cross_entropy(result["logits"]["verb"], label).mean(), stats

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (params, stats), values = drawn, []
    for i in range(10):
        (value, stats), gradients = step(params, stats, jax.random.key(i))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
        values.append(float(value))
    assert values[-1] < 0.2 < values[0]
    first, second = (float(step(params, stats, jax.random.key(i))[0][0]) for i in (1, 2))
    assert first != second


# papers.md 6.8; the first is the plain one, golden audio_r50.
COUNTS = [
    ("audio_resnet50", 24_321_360, 819_600),
    ("vmz_audio_resnet50", 23_540_064, 0),
    pytest.param("vmz_audio_resnet101", 42_532_192, 0, marks=pytest.mark.slow),
    pytest.param("vmz_audio_resnet152", 58_175_840, 0, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name, count, classifier", COUNTS)
def test_parameters_and_maps_are_the_papers(name, count, classifier):
    """Without heads there is no classifier, as in a naive fusion."""
    x = jax.ShapeDtypeStruct((1, 100, 40, 1), jnp.float32)
    model = build_model(name, heads={"action": 400} if classifier else {}, in_channels=1)
    params, stats = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(v.size for v in jax.tree.leaves(params)) == count
    assert ("classifier" in params) == bool(classifier)
    result, _ = jax.eval_shape(lambda p, s, x: model.apply(p, s, x, train=False, key=None), params, stats, x)
    assert result["map"].shape == (1, 1, 4, 2, 2048) and result["features"].shape == (1, 2048)
