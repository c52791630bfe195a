"""Losses against the goldens, the worked values of the spec, and their properties."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmvid import losses
from mmvid.methods import mml

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "losses.npz")

L1, L2, L3 = ([[2.0, 1, 0], [0, 3, 1]], [[1.0, 2, 0], [0, 1, 0.5]], [[0.0, 0, 3], [2, 0, 0]])
LOGITS = hnp.arrays(np.float32, (3, 5), elements=st.floats(-20, 20, width=32))


def golden(case, name):
    """A value of a case: scalars stand in the JSON, arrays in the NPZ."""
    output = CASES[case]["outputs"].get(name, {})
    return output["value"] if "value" in output else ARRAYS[f"{case}/out/{name}"]


def test_worked_values():
    y = jnp.array([0, 1])
    l1, l2, l3 = (jnp.array(x) for x in (L1, L2, L3))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)  # noqa: E731
    close(losses.softmax_cross_entropy(l1, y).mean(), 0.288726)
    close(losses.softmax_cross_entropy(l2, y).mean(), 1.043938)
    close(mml.mutual(jnp.stack([l1, l2])).mean(1), [0.371765, 0.337812])
    three = jnp.stack([l1, l2, l3])
    close(mml.mutual(three, average="logit").mean(1)[0], 0.863400)
    close(mml.mutual(three, average="prob").mean(1)[0], 0.886327)
    close(mml.mutual(jnp.stack([l1, l2]), per_class=True).mean(1)[0], 0.123922)
    close(mml.mutual(jnp.stack([l1, l2]), form="bernoulli").mean(1)[0], 0.075150)
    kd = losses.kl_divergence(l2, l1, temperature=10.0).mean() * 100
    close(kd, 0.360026)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-6), ("float32", 1e-5)])
@pytest.mark.parametrize("case", ["ml2", "ml3", "ml2_plain", "ml3_plain"])
def test_mml_goldens(case, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        count = int(case[2])
        label = jnp.asarray(ARRAYS[f"{case}/in/labels"])
        logits = jnp.stack([jnp.asarray(ARRAYS[f"{case}/in/logits_{m}"], dtype) for m in range(count)])
        averages = {"kl": "logit"} | ({"paper_kl": "prob"} if count > 2 else {})
        for name, average in averages.items():

            def total(logits, average=average):
                labels = jnp.broadcast_to(label, logits.shape[:2])
                ce = losses.softmax_cross_entropy(logits, labels).mean(1)
                kl = mml.mutual(logits, average=average).mean(1)
                return (ce + kl).sum(), (ce, kl)

            grad, (ce, kl) = jax.grad(total, has_aux=True)(logits)
            prefix = name.removesuffix("kl")
            for m in range(count):
                scale = max(abs(float(golden(case, f"{name}_{m}"))), 1)
                assert abs(ce[m] - golden(case, f"ce_{m}")) < tolerance * 30
                assert abs(kl[m] - golden(case, f"{name}_{m}")) < tolerance * scale
                np.testing.assert_allclose(
                    grad[m], golden(case, f"{prefix}grad_{m}"), atol=tolerance
                )


@pytest.mark.parametrize("case", ["ml2_multilabel", "ml3_multilabel"])
def test_multilabel_goldens(case):
    with jax.enable_x64(True):
        count = int(case[2])
        label = jnp.asarray(ARRAYS[f"{case}/in/labels"])
        logits = jnp.stack([jnp.asarray(ARRAYS[f"{case}/in/logits_{m}"]) for m in range(count)])
        kl = mml.mutual(logits, average="logit", per_class=True).mean(1)
        for m in range(count):
            bce = losses.sigmoid_cross_entropy(logits[m], label).mean()
            assert abs(bce - golden(case, f"bce_{m}")) < 1e-9
            assert abs(kl[m] - golden(case, f"kl_{m}")) < 1e-9


@settings(deadline=None, max_examples=50)
@given(LOGITS, LOGITS)
def test_divergences_are_not_negative_and_zero_for_equals(p, q):
    for form in (losses.kl_divergence, losses.bernoulli_kl):
        assert float(form(p, q).min()) >= -1e-5
        np.testing.assert_allclose(form(p, p), 0, atol=1e-5)
    shifted = losses.kl_divergence(p + 1, p)
    np.testing.assert_allclose(shifted, 0, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(LOGITS)
def test_soft_labels_that_are_hard_agree(logits):
    label = np.array([0, 3, 4])
    hard = losses.softmax_cross_entropy(logits, label)
    soft = losses.softmax_cross_entropy(logits, np.eye(5, dtype=np.float32)[label])
    np.testing.assert_allclose(hard, soft, rtol=1e-5, atol=1e-5)


def test_no_gradient_reaches_a_target():
    p, q = jnp.array(L1), jnp.array(L2)
    for form in (losses.kl_divergence, losses.bernoulli_kl):
        assert not np.any(jax.grad(lambda t, f=form: f(t, q).sum())(p))
    soft = jax.nn.softmax(p)
    assert not np.any(jax.grad(lambda t: losses.softmax_cross_entropy(q, t).sum())(soft))


def test_misfits_are_explained():
    with pytest.raises(ValueError, match="do not fit"):
        losses.softmax_cross_entropy(jnp.zeros((4, 3)), jnp.zeros(5, int))
    with pytest.raises(ValueError, match="classes"):
        losses.kl_divergence(jnp.zeros((4, 3)), jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="floating"):
        losses.softmax_cross_entropy(jnp.zeros((4, 3), int), jnp.zeros(4, int))
    with pytest.raises(ValueError, match="M >= 2"):
        mml.mutual(jnp.zeros((1, 4, 3)))
