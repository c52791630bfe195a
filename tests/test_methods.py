"""The same properties asked of every method in METHODS, each as far as its flags claim them.

A new method is covered by its line in METHODS; what it needs beyond outputs and heads stands in
``EXTRA``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.methods import METHODS, mml
from mmvid.step import reduce_terms
from mmvid.streams import Head

OUTPUTS = ("a", "b", "c")
HEADS = {"verb": Head(5), "noun": Head(4), "tags": Head(6, "multi")}
EXTRA = {"mml": [{}, {"average": "logit"}, {"multilabel_form": "bernoulli"}]}
CASES = [(name, options) for name in METHODS for options in EXTRA.get(name, [{}])]


def batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    label = {
        "verb": rng.integers(0, 5, size),
        "noun": rng.integers(0, 4, size),
        "tags": rng.integers(0, 2, (size, 6)).astype(np.float32),
    }
    present = {name: np.ones(size, bool) for name in OUTPUTS}
    return {"label": label, "mask": np.ones(size, bool), "present": present}


def logits(size=6, seed=1, scale=2.0):
    rng = np.random.default_rng(seed)
    draw = lambda k: jnp.asarray(rng.normal(size=(size, k)), jnp.float32) * scale  # noqa: E731
    return {o: {h: draw(spec.classes) for h, spec in HEADS.items()} for o in OUTPUTS}


def results(method, values):
    wrapped = {o: {"logits": v} for o, v in values.items()}
    return {read: wrapped for pass_ in method.passes for read in pass_.reads}


def groups(method, group):
    return {name: group for pass_ in method.passes for name, _ in pass_.reads}


def terms(method, values, group):
    found = method.terms(results(method, values), groups(method, group), method.init(), KEY)
    return {name: term._replace(values=jnp.asarray(term.values)) for name, term in found.items()}


KEY = jax.random.key(0)


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def method(request):
    name, options = request.param
    return METHODS[name](OUTPUTS, HEADS, **options)


def test_shapes_and_flags(method):
    for term in terms(method, logits(), batch()).values():
        outputs = len(term.outputs)
        assert term.values.shape == term.mask.shape == (outputs, 6)
        assert term.weight.shape == (outputs,)
    assert (method.symmetric and method.disjoint) or method.reason


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 50.0]))
@pytest.mark.parametrize("name, options", CASES)
def test_values_are_finite_and_not_negative(name, options, seed, scale):
    made = METHODS[name](OUTPUTS, HEADS, **options)
    for term in terms(made, logits(seed=seed, scale=scale), batch(seed=seed)).values():
        assert np.isfinite(term.values).all() and float(term.values.min()) >= -1e-4


def test_gradients_are_finite_at_extremes(method):
    values = jax.tree.map(lambda x: jnp.where(x > 0, 50.0, -50.0), logits())
    loss = lambda v: reduce_terms(terms(method, v, batch()))[0]  # noqa: E731
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(jax.grad(loss)(values)))


def test_transposing_two_outputs_transposes_their_losses(method):
    if not method.symmetric:
        pytest.skip(f"not symmetric: {method.reason}")
    values = logits()
    swapped = values | {"a": values["b"], "b": values["a"]}
    before, after = terms(method, values, batch()), terms(method, swapped, batch())
    for name, term in before.items():
        rows = [term.outputs.index(o) for o in ("b", "a", "c")]
        np.testing.assert_allclose(after[name].values, term.values[jnp.array(rows)], rtol=1e-5, atol=1e-6)


def test_examples_do_not_meet(method):
    """vmap over single examples equals the batched call."""
    values, group = logits(), batch()

    def one(values, group):
        alone = jax.tree.map(lambda x: x[None], (values, group))
        return {n: t.values[:, 0] for n, t in terms(method, *alone).items()}

    single = jax.vmap(one, out_axes=1)(values, jax.tree.map(jnp.asarray, group))
    for name, term in terms(method, values, group).items():
        np.testing.assert_allclose(single[name], term.values, rtol=1e-5, atol=1e-6)


def test_masked_equals_sliced(method):
    values, group = logits(), batch()
    masked = group | {"mask": np.array([1, 1, 1, 1, 0, 0], bool)}
    bad = jax.tree.map(lambda x: x.at[4:].set(jnp.nan), values)
    sliced = jax.tree.map(lambda x: x[:4], (values, group))
    want = reduce_terms(terms(method, *sliced))
    got = reduce_terms(terms(method, bad, masked))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)


def test_absent_outputs_lose_nothing_and_teach_nobody(method):
    values, group = logits(), batch()
    group["present"]["c"] = np.zeros(6, bool)
    loss = lambda v: reduce_terms(terms(method, v, group))[0]  # noqa: E731
    grads = jax.grad(loss)(values)
    assert not any(np.any(g) for g in jax.tree.leaves(grads["c"]))
    other = values | {"c": jax.tree.map(lambda x: x + 3 * x**2, values["c"])}
    np.testing.assert_allclose(loss(values), loss(other), rtol=1e-6)


def test_eager_equals_jit(method):
    values, group = logits(), batch()
    loss = lambda v: reduce_terms(terms(method, v, group))  # noqa: E731
    want, got = loss(values), jax.jit(loss)(values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)


def test_no_gradient_into_peers(method):
    if not method.disjoint:
        pytest.skip(f"not disjoint: {method.reason}")
    values, group = logits(), batch()

    def own_loss(values, output):
        found = terms(method, values, group).values()
        return sum((t.values[t.outputs.index(output)]).sum() for t in found if output in t.outputs)

    for output in OUTPUTS:
        grads = jax.grad(own_loss)(values, output)
        for peer in set(OUTPUTS) - {output}:
            assert not any(np.any(g) for g in jax.tree.leaves(grads[peer])), (output, peer)


def test_mutual_is_zero_only_for_agreement():
    same = jnp.tile(jnp.array([[1.0, 2, 3]]), (3, 4, 1))
    for options in ({}, {"average": "logit"}, {"form": "bernoulli"}):
        np.testing.assert_allclose(mml.mutual(same, **options), 0, atol=1e-6)
        assert float(mml.mutual(same.at[0, 0, 0].add(1), **options)[0, 0]) > 1e-3


def test_one_output_cannot_teach_itself():
    with pytest.raises(ValueError, match="at least two"):
        METHODS["mml"](("rgb",), HEADS)
