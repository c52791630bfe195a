"""Multiple choice learning: goldens, the spec's worked values, and what each method promises."""

import functools
import inspect
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
from mmvid.methods import METHODS, mcl
from mmvid.methods import distill as distill_lib
from mmvid.streams import Head
from mmvid.terms import reduce_terms

GOLDEN = pathlib.Path(__file__).parent / "golden"
OUTPUTS = json.loads((GOLDEN / "losses.json").read_text())["cases"]["mcl"]["outputs"]
ARRAYS = np.load(GOLDEN / "losses.npz")
PRECISIONS = pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
KEY = jax.random.key(3)
LABEL = np.array([0, 1, 4, 2])

# Distinct values: no two networks tie.
LOGITS = hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-8, 8, width=32), unique=True)
MEMBERS = st.sampled_from([(0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1)])
FORMS = {
    "dmcl": mcl.dmcl,
    "dmcl_paper": functools.partial(mcl.dmcl, alpha_gt=0.5, alpha_distill=0.125),
    "smcl": mcl.smcl,
    "smcl_2": functools.partial(mcl.smcl, k=2),
    "cmcl": mcl.cmcl,
}
every_form = pytest.mark.parametrize("form", [jax.jit(f) for f in FORMS.values()], ids=FORMS)
few = settings(deadline=None, max_examples=20)


def golden(name):
    output = OUTPUTS.get(name, {})
    return output["value"] if "value" in output else ARRAYS[f"mcl/out/{name}"]


def inputs(dtype):
    logits = jnp.stack([jnp.asarray(ARRAYS[f"mcl/in/logits_{m}"], dtype) for m in ("rgb", "depth", "flow")])
    return logits, jnp.asarray(ARRAYS["mcl/in/labels"])


def check(form, prefix, dtype, tolerance, *, gradients=True):
    """Totals and gradients of each network; float32 is measured against the size of the number."""
    logits, label = inputs(dtype)
    value = lambda logits: form(logits, label).mean(1)  # noqa: E731
    totals, gradient = jax.jit(lambda x: (value(x), jax.grad(lambda x: value(x).sum())(x)))(logits)
    for m in range(3):
        want = golden(f"{prefix}_total_{m}")
        np.testing.assert_allclose(totals[m], want, rtol=tolerance, atol=tolerance)
        if gradients:
            np.testing.assert_allclose(gradient[m], golden(f"{prefix}_grad_{m}"), atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------- goldens
@PRECISIONS
@pytest.mark.parametrize(
    "name, temperature, distill, gt",
    [("T2_d1_g1", 2, 1, 1), ("T5_d0.5_g0.5", 5, 0.5, 0.5), ("T2_d1_g0", 2, 1, 0)],
)
def test_dmcl_goldens(name, temperature, distill, gt, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        form = functools.partial(mcl.dmcl, temperature=temperature, alpha_distill=distill, alpha_gt=gt)
        check(form, f"dmcl_{name}", dtype, tolerance)
        logits, label = inputs(dtype)
        cross_entropy = jax.jit(losses.softmax_cross_entropy)(logits, np.broadcast_to(label, logits.shape[:2]))
        np.testing.assert_allclose(cross_entropy, golden("ce"), rtol=tolerance, atol=tolerance)
        winner = mcl.winners(cross_entropy)
        assert winner.argmax(0).tolist() == golden("winner").tolist()
        taught = jax.jit(functools.partial(form, alpha_gt=0))(logits, label)
        soft = np.where(winner, 0, taught).mean(1)
        for m in range(3):
            want = golden(f"dmcl_{name}_distill_{m}")
            np.testing.assert_allclose(soft[m], want, rtol=tolerance, atol=tolerance)


@PRECISIONS
def test_the_papers_form_smcl_and_cmcl_goldens(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        paper = functools.partial(mcl.dmcl, alpha_gt=0.5, alpha_distill=0.5 / 4)
        check(paper, "dmcl_paper_l0.5_T2", dtype, tolerance, gradients=False)
        check(mcl.smcl, "smcl", dtype, tolerance)
        for beta in (0.75, 0.1):
            check(functools.partial(mcl.cmcl, beta=beta), f"cmcl_b{beta}", dtype, tolerance)
        logits, _ = inputs(dtype)
        want = golden("kl_uniform")
        np.testing.assert_allclose(mcl.uncertainty(logits), want, rtol=tolerance, atol=tolerance)


def test_worked_values():
    """Section 8 of the spec."""
    logits = jnp.array([[[2.0, 1, 0], [0, 3, 1]], [[1, 2, 0], [0, 1, 0.5]], [[0, 0, 3], [2, 0, 0]]])
    label = jnp.array([0, 1])

    @jax.jit
    def found():
        paper = mcl.dmcl(logits, label, alpha_gt=0.5, alpha_distill=0.125)
        values = mcl.dmcl(logits, label), paper, mcl.smcl(logits, label), mcl.cmcl(logits, label)
        return [value.mean(1).sum() for value in values], mcl.uncertainty(logits)

    totals, rows = found()
    np.testing.assert_allclose(totals, [14.235489, 3.423761, 0.288726, 0.986686], atol=5e-6)
    wanted = [[0.308993, 0.737900], [0.308993, 0.081657], [0.996311, 0.474266]]
    np.testing.assert_allclose(rows, wanted, atol=5e-6)


# ---------------------------------------------------------------------------- who wins
@few
@given(hnp.arrays(np.float32, (4, 6), elements=st.sampled_from([0.0, 0.5, 1.0])),
       hnp.arrays(bool, (4, 6)), st.integers(1, 4), st.booleans())  # fmt: skip
def test_exactly_k_win_and_the_absent_never(criterion, present, k, drawn):
    key = KEY if drawn else None
    winner = np.asarray(mcl.winners(criterion, k=k, key=key, present=present))
    assert not (winner & ~present).any()
    assert winner.sum(0).tolist() == np.minimum(present.sum(0), k).tolist()
    # No loser that is there is better than a winner.
    worst = np.where(winner, criterion, -np.inf).max(0)
    assert (np.where(present & ~winner, criterion, np.inf).min(0) >= worst).all()


def test_ties():
    """The lowest index without a key; with one everybody has the same chance."""
    tied = jnp.zeros((3, 3000))
    assert mcl.winners(tied)[0].all()
    shares = mcl.winners(tied, key=KEY).mean(1)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)
    fair = mcl.random_teacher(jnp.zeros((3, 3000, 2)), jnp.zeros(3000, int), key=KEY, alpha_gt=0)
    np.testing.assert_allclose((fair > 1).mean(1), 2 / 3, atol=0.04)
    with pytest.raises(ValueError, match="1 to all"):
        mcl.winners(tied, k=4)


# ---------------------------------------------------------------------------- what they promise
@every_form
@few
@given(logits=LOGITS, order=MEMBERS)
def test_permuting_networks_permutes_losses(form, logits, order):
    np.testing.assert_allclose(
        form(logits[list(order)], LABEL), form(logits, LABEL)[jnp.array(order)], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "form", [*map(jax.jit, (mcl.dmcl, mcl.smcl, mcl.cmcl, functools.partial(mcl.random_teacher, key=KEY)))]
)
@few
@given(logits=LOGITS)
def test_one_network_has_plain_cross_entropy(form, logits):
    alone = losses.softmax_cross_entropy(logits[0], LABEL)
    np.testing.assert_allclose(form(logits[:1], LABEL)[0], alone, rtol=1e-5, atol=1e-5)


def _cross_entropy(logits):
    return losses.softmax_cross_entropy(logits, jnp.broadcast_to(LABEL, logits.shape[:2]))


@pytest.mark.parametrize("k", [1, 2])
@few
@given(logits=LOGITS)
def test_smcls_losers_get_no_gradient(logits, k):
    gradient, alone, winner = _smcl_and_alone(logits, k)
    assert not np.any(gradient[~winner])
    np.testing.assert_allclose(gradient[winner], alone[winner], rtol=1e-6, atol=1e-7)


@functools.partial(jax.jit, static_argnums=1)
def _smcl_and_alone(logits, k):
    gradient = jax.grad(lambda x: mcl.smcl(x, LABEL, k=k).sum())(logits)
    alone = jax.grad(lambda x: _cross_entropy(x).sum())(logits)
    return gradient, alone, mcl.winners(_cross_entropy(logits), k=k)


@pytest.mark.parametrize("seed", range(3))
def test_dmcls_gradient_by_finite_differences(seed):
    """Of a loser: CE plus T^2 soft, the target held still; of the winner: CE alone."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        logits, way = jnp.asarray(rng.normal(size=(2, 3, 4, 5)))
        winner = jax.jit(lambda x: mcl.winners(_cross_entropy(x)))(logits)
        target = jax.nn.softmax(jnp.where(winner[..., None], logits, 0).sum(0) / 2)

        @jax.jit
        def spelt_out(x):
            soft = -(target[None] * jax.nn.log_softmax(x / 2)).sum(-1)
            return (_cross_entropy(x) + jnp.where(winner, 0, 4 * soft)).sum()

        step = 1e-5
        slope = (spelt_out(logits + step * way) - spelt_out(logits - step * way)) / (2 * step)
        gradient = jax.jit(jax.grad(lambda x: mcl.dmcl(x, LABEL).sum()))(logits)
        np.testing.assert_allclose((gradient * way).sum(), slope, rtol=1e-6, atol=1e-6)


def _with_gradient(form):
    def both(logits, present):
        value = lambda x: form(x, LABEL, present=present)  # noqa: E731
        return value(logits), jax.grad(lambda x: value(x).sum())(logits)

    return jax.jit(both)


@pytest.mark.parametrize("form", [_with_gradient(f) for f in FORMS.values()], ids=FORMS)
@few
@given(logits=LOGITS, present=hnp.arrays(bool, (3, 4)))
def test_the_absent_are_as_if_never_there(form, logits, present):
    """No loss and no gradient, and nobody notices what they would have said."""
    values, gradient = form(logits, present)
    assert not np.any(gradient[~present]) and not np.any(values[~present])
    other = np.where(present[..., None], logits, -3 * logits)
    np.testing.assert_allclose(form(other, present)[0].sum(), values.sum(), rtol=1e-6)


def test_cmcls_versions():
    logits = jnp.tile(jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 5)), jnp.float32), (1, 20000, 1))
    label = jnp.zeros(20000, int)
    kl, lot = (jax.jit(functools.partial(mcl.cmcl, version=v, key=KEY))(logits, label) for v in (0, 1))
    # CE with uniform labels is KL(U || p) + log N on average; the winner has its own CE in both.
    difference = (lot - kl).mean(1) / 0.75
    np.testing.assert_allclose(np.sort(difference), [0, np.log(5), np.log(5)], atol=0.05)
    with pytest.raises(ValueError, match="needs a key"):
        mcl.cmcl(logits, label, version=1)
    with pytest.raises(ValueError, match="version=2"):
        mcl.cmcl(logits, label, version=2)


@pytest.mark.parametrize("temper", [True, False])
def test_generalized_distillation_is_equation_3(temper):
    rng = np.random.default_rng(1)
    teacher, own = jnp.asarray(rng.normal(size=(2, 4, 5)), jnp.float32)
    form = functools.partial(distill_lib.generalized_distillation, temper_student=temper, temperature=5.0)
    found = jax.jit(functools.partial(form, weight=0.7))(teacher, own, LABEL)
    q = jax.nn.softmax(teacher / 5)
    soft = -(q * jax.nn.log_softmax(own / (5 if temper else 1))).sum(-1)
    hard = -jax.nn.log_softmax(own)[jnp.arange(4), LABEL]
    np.testing.assert_allclose(found, 0.3 * hard + 0.7 * soft, rtol=1e-5)
    assert not np.any(jax.jit(jax.grad(lambda t: form(t, own, LABEL).sum()))(teacher))


# ---------------------------------------------------------------------------- as methods
NAMES = ("rgb", "depth", "flow")


def run(name, logits, *, present=None, label=None, heads=None, **options):
    """(loss, metrics) of a method on logits [3, B, K], or {head: [3, B, K]} with labels and heads of its own."""
    if heads is None:
        logits, label, heads = {"action": logits}, {"action": LABEL}, {"action": Head(logits.shape[-1])}
    made = METHODS[name](NAMES, heads, **options)
    present = np.ones((3, len(LABEL)), bool) if present is None else present
    group = {"label": label, "mask": np.ones(len(LABEL), bool), "present": dict(zip(NAMES, present))}
    results = {n: {"logits": {h: x[m] for h, x in logits.items()}} for m, n in enumerate(NAMES)}

    @jax.jit
    def reduced(results, group):
        return reduce_terms(made.terms({("main", "train"): results}, {"main": group}, made.init(), KEY))

    return reduced(results, group)


TRAINED = {name: getattr(mcl, name) for name in ("dmcl", "random_teacher", "smcl", "cmcl")}


def of_both_kinds(seed=0):
    """One head's logits, label and spec, of each kind."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    tags = rng.integers(0, 2, (4, 5)).astype(np.float32)
    return (logits[0], LABEL, Head(5)), (logits[1], tags, Head(5, "multi"))


@pytest.mark.parametrize("name", TRAINED)
def test_what_trains_is_the_function_that_the_goldens_test(name):
    """Term by term the same numbers, of either kind of head, with somebody absent."""
    present = np.ones((3, 4), bool)
    present[0, 1] = False
    for logits, label, spec in of_both_kinds():
        form = jax.jit(functools.partial(TRAINED[name], kind=spec.kind, key=KEY))
        found = np.asarray(form(logits, label, present=present))
        _, metrics = run(name, {"x": logits}, label={"x": label}, heads={"x": spec}, present=present)
        for m, output in enumerate(NAMES):
            own = sum(metrics.get(f"{output}/{part}", 0) for part in ("ce", "distill", "confidence"))
            np.testing.assert_allclose(own, found[m].sum() / present[m].sum(), rtol=1e-6)
        np.testing.assert_allclose(sum(metrics[f"{n}/win"] for n in NAMES), 1, rtol=1e-6)


@pytest.mark.parametrize("name", [*TRAINED, "generalized_distillation"])
def test_a_default_is_one_number(name):
    """Of the function and of the method that is made of it."""
    form = TRAINED.get(name, distill_lib.generalized_distillation)
    options = {k: p.default for k, p in inspect.signature(METHODS[name]).parameters.items()}
    own = {k: p.default for k, p in inspect.signature(form).parameters.items() if k in options}
    assert all(options[k] == default for k, default in own.items())
    if name == "random_teacher":  # its function passes its options on
        logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
        named = {k: v for k, v in options.items() if k not in ("outputs", "heads")}
        both = [jax.jit(functools.partial(form, key=KEY, **more))(logits, LABEL) for more in (named, {})]
        np.testing.assert_array_equal(*both)
    else:
        assert set(options) - set(own) <= {"outputs", "heads", "teacher"}


def test_heads_share_their_winner():
    """The best on average of all heads teaches them all, even where another one is better."""
    logits = {"verb": np.zeros((3, 4, 5), np.float32), "noun": np.zeros((3, 4, 5), np.float32)}
    rows = np.arange(4)
    logits["verb"][0, rows, LABEL] = 2  # rgb is better at verbs
    logits["verb"][1, rows, LABEL] = 1
    logits["noun"][1, rows, LABEL] = 3  # and depth at nouns, by more
    both = dict(label=dict.fromkeys(logits, LABEL), heads=dict.fromkeys(logits, Head(5)))
    _, metrics = run("smcl", logits, **both)
    assert [float(metrics[f"{n}/win"]) for n in NAMES] == [0, 1, 0]
    _, metrics = run("dmcl", logits, **both)
    assert float(metrics["depth/distill"]) == 0 < float(metrics["rgb/distill"])


def test_shares_of_wins_count_only_whom_somebody_could_win():
    logits = np.zeros((3, 4, 5), np.float32)
    logits[0, :, LABEL] = 5  # rgb knows everything
    present = np.ones((3, 4), bool)
    present[0, 1] = False  # but is absent once
    present[:, 2] = False  # and there is a clip with nothing
    _, metrics = run("dmcl", logits, present=present)
    np.testing.assert_allclose(metrics["rgb/win"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["depth/win"] + metrics["flow/win"], 1 / 3, rtol=1e-6)


def test_a_student_whose_teacher_is_absent_has_plain_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    present = np.ones((3, 4), bool)
    present[1] = False
    loss, _ = run("generalized_distillation", logits, present=present, teacher="depth")
    own = [losses.softmax_cross_entropy(logits[m], LABEL).mean() for m in (0, 2)]
    np.testing.assert_allclose(loss, sum(own), rtol=1e-5)


def test_options_that_cannot_be():
    heads = {"action": Head(5)}
    with pytest.raises(ValueError, match="1 to all"):
        METHODS["smcl"](NAMES, heads, k=4)
    with pytest.raises(ValueError, match="greater than 0"):
        METHODS["dmcl"](NAMES, heads, temperature=0)
    with pytest.raises(ValueError, match="multi-label"):
        METHODS["cmcl"](NAMES, {"tags": Head(5, "multi")}, version=1)
    with pytest.raises(ValueError, match="beside a student"):
        METHODS["generalized_distillation"](NAMES, heads, teacher="audio")
