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
from mmvid.methods import mml, terms

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
    two, three = jnp.stack([l1, l2]), jnp.stack([l1, l2, l3])

    @jax.jit
    def found():
        return (
            losses.softmax_cross_entropy(l1, y).mean(),
            losses.softmax_cross_entropy(l2, y).mean(),
            mml.mutual(two).mean(1),
            mml.mutual(three, average="logit").mean(1)[0],
            mml.mutual(three, average="prob").mean(1)[0],
            mml.mutual(two, per_class=True).mean(1)[0],
            mml.mutual(two, form="bernoulli").mean(1)[0],
        )

    wanted = (0.288726, 1.043938, [0.371765, 0.337812], 0.863400, 0.886327, 0.123922, 0.075150)
    for value, want in zip(found(), wanted, strict=True):
        np.testing.assert_allclose(value, want, atol=2e-6)
    kd = losses.kl_divergence(l2, l1, temperature=10.0).mean() * 100
    np.testing.assert_allclose(kd, 0.360026, atol=2e-6)


def objective(logits, label, multi, **options):
    """(sum of all networks' losses, (task [M], KL [M], task + KL [M]))"""
    labels = jnp.broadcast_to(label, (len(logits), *label.shape))
    task = (losses.sigmoid_cross_entropy if multi else losses.softmax_cross_entropy)(logits, labels).mean(1)
    kl = mml.mutual(logits, per_class=multi, **options).mean(1)
    return (task + kl).sum(), (task, kl, task + kl)


taught = jax.jit(jax.grad(objective, has_aux=True), static_argnums=2, static_argnames="average")


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize("case", ["ml2", "ml3", "ml2_plain", "ml3_plain", "ml2_multilabel", "ml3_multilabel"])
def test_mml_goldens(case, dtype, tolerance):
    """Every value and gradient that the files hold; the code's mean of logits, the paper's of
    probabilities."""
    count, multi = int(case[2]), "multilabel" in case
    forms = {"": "logit"} | ({"paper_": "prob"} if f"paper_kl_{0}" in CASES[case]["outputs"] else {})
    with jax.enable_x64(dtype == "float64"):
        label = jnp.asarray(ARRAYS[f"{case}/in/labels"])
        logits = jnp.stack([jnp.asarray(ARRAYS[f"{case}/in/logits_{m}"], dtype) for m in range(count)])
        for prefix, average in forms.items():
            gradient, found = taught(logits, label, multi, average=average)
            for name, values in zip(("bce" if multi else "ce", f"{prefix}kl", f"{prefix}total"), found):
                want = [golden(case, f"{name}_{m}") for m in range(count)]
                np.testing.assert_allclose(values, want, atol=tolerance, rtol=0, err_msg=name)
            for m in range(count):
                want = golden(case, f"{prefix}grad_{m}")
                np.testing.assert_allclose(gradient[m], want, atol=tolerance, rtol=0)


def test_bernoulli_goldens():
    case = "ml2_multilabel"
    with jax.enable_x64(True):
        logits = jnp.stack([jnp.asarray(ARRAYS[f"{case}/in/logits_{m}"]) for m in range(2)])
        found = jax.jit(lambda x: mml.mutual(x, form="bernoulli").mean(1))(logits)
        want = [golden(case, f"alt_bernoulli_kl_{m}") for m in range(2)]
        np.testing.assert_allclose(found, want, atol=1e-9)


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
        assert not np.any(jax.jit(jax.grad(lambda t, f=form: f(t, q).sum()))(p))
    soft = jax.nn.softmax(p)
    assert not np.any(jax.jit(jax.grad(lambda t: losses.softmax_cross_entropy(q, t).sum()))(soft))


def test_several_labels_count_by_sigmoids_or_by_a_softmax():
    """VMZ's two losses of multi-hot labels; the second adds up the labels."""
    logits, label = jnp.array([[2.0, 1, 0], [0, 3, 1]]), jnp.array([[1.0, 1, 0], [0, 0, 0]])
    log_probs = jax.nn.log_softmax(logits)
    found = {name: terms.cross_entropy(logits[None], label, "multi", name)[0] for name in losses.MULTI_LABEL}
    np.testing.assert_allclose(found["softmax"], [-(log_probs[0, 0] + log_probs[0, 1]), 0], rtol=1e-6)
    np.testing.assert_array_equal(found["sigmoid"], terms.cross_entropy(logits[None], label, "multi")[0])


def test_misfits_are_explained():
    with pytest.raises(ValueError, match="do not fit"):
        losses.softmax_cross_entropy(jnp.zeros((4, 3)), jnp.zeros(5, int))
    with pytest.raises(ValueError, match="classes"):
        losses.kl_divergence(jnp.zeros((4, 3)), jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="floating"):
        losses.softmax_cross_entropy(jnp.zeros((4, 3), int), jnp.zeros(4, int))
    with pytest.raises(ValueError, match="M >= 2"):
        mml.mutual(jnp.zeros((1, 4, 3)))
