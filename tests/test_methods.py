"""The same properties asked of every method in METHODS, each as far as its flags claim them.

A new method is covered by its line in METHODS; options to be tried beside its defaults stand in
``options_of``. Everything is asked of three outputs and all kinds of heads, or of as much of them as the method
takes; what can depend on the number of outputs also of one, two and four, where the method takes so many.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.methods import METHODS, mml
from mmvid.streams import Head
from mmvid.terms import reduce_terms

OUTPUTS = ("a", "b", "c")
HEADS = {"verb": Head(5), "noun": Head(4), "tags": Head(6, "multi")}


def options_of(name, outputs):
    """The options to be tried; those of most methods are their defaults."""
    several = {
        "mml": [{}, {"average": "logit"}, {"multilabel_form": "bernoulli"}],
        "mars": [{"teacher": outputs[-1]}],
        "d3d": [{"teacher": outputs[-1]}, {"teacher": outputs[0], "reduce": "sum"}],
        "kd": [{"teacher": outputs[-1], "temperature": 2.0}],
        "generalized_distillation": [{"teacher": outputs[-1]}],
        "distillation": [{"teachers": outputs[1:]} | own for own in ({"weight": 0.8}, {"scheme": "per_sample"})],
        # At .9 little of what is drawn here would be confident.
        "fixmatch": [{"threshold": 0.5}],
        "cmpl": [{"threshold": 0.5}, {"threshold": 0.4, "scheme": "average", "auxiliary": "supervised"}],
    }
    return several.get(name, [{}])


def outputs_of(name):
    """As many of OUTPUTS as a method takes."""
    return OUTPUTS[:2] if name == "cmpl" else OUTPUTS


def heads_of(name, heads=HEADS):
    """The ``heads`` that a method takes: pseudo-labels are of one class."""
    single = name in ("fixmatch", "cmpl")
    return {head: spec for head, spec in heads.items() if not single or spec.kind == "single"}


# 'independent' is 'single' by another name; cmcl's version 1 is in tests/test_mcl.py.
# Those two have the terms of "single".
NAMES = [name for name in METHODS if name not in ("independent", "omnivore")]
CASES = [(name, options) for name in NAMES for options in options_of(name, outputs_of(name))]
LOTS = {"random_teacher"}  # one draw for the batch: an example's depends on its neighbours' number
IDS = ["-".join([name, *map(str, options.values())]) for name, options in CASES]
SIZE = 6
KEY = jax.random.key(0)
CLOSE = dict(rtol=1e-5, atol=1e-5)

# What a method's options change is slow: its defaults stand for them.
SLOW = [[pytest.mark.slow] if CASES[i][0] in {name for name, _ in CASES[:i]} else [] for i in range(len(CASES))]
every_method = pytest.mark.parametrize(
    "number", [pytest.param(i, marks=marks, id=name) for i, (marks, name) in enumerate(zip(SLOW, IDS))]
)
examples = functools.partial(settings, deadline=None)
SEEDS = st.integers(0, 10**6)
SCALES = st.sampled_from([0.0, 0.3, 2.0, 15.0, 50.0])
ROWS = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE).map(np.array)


@functools.cache
def method(number):
    name, options = CASES[number]
    return METHODS[name](outputs_of(name), heads_of(name), **options)


def a_batch(seed=0, size=SIZE, outputs=OUTPUTS):
    rng = np.random.default_rng(seed)
    label = {
        "verb": rng.integers(0, 5, size),
        "noun": rng.integers(0, 4, size),
        "tags": rng.integers(0, 2, (size, 6)).astype(np.float32),
    }
    present = {name: np.ones(size, bool) for name in outputs}
    audit = {head: label[head] for head in ("verb", "noun")}
    return {"label": label, "audit": audit, "mask": np.ones(size, bool), "present": present}


def a_draw(seed=1, scale=2.0, size=SIZE, outputs=OUTPUTS, heads=HEADS):
    """{output: {head: logits}}"""
    rng = np.random.default_rng(seed)
    draw = lambda k: np.float32(np.clip(rng.normal(size=(size, k)) * scale, -50, 50))  # noqa: E731
    return {o: {h: draw(spec.classes) for h, spec in heads.items()} for o in outputs}


def terms(number, values, group):
    """{name: Term} of the numbered method."""
    return terms_of(method(number), values, group)


def terms_of(made, values, group):
    """{name: Term}, every view of every group being the same, and the logits standing for features."""
    wrapped = {o: {"logits": v, "features": jnp.concatenate([*v.values()], -1)} for o, v in values.items()}
    reads = [read for pass_ in made.passes for read in pass_.of]
    groups = {name: group for name, _ in reads}
    return made.terms(dict.fromkeys(reads, wrapped), groups, made.init(), KEY)


@functools.cache
def shapes(number):
    """{name: Term} of shapes."""
    kept = {}

    def run():
        found = terms(number, a_draw(), a_batch())
        kept.update({name: term.outputs for name, term in found.items()})
        return {name: term._replace(outputs=None) for name, term in found.items()}

    return {name: term._replace(outputs=kept[name]) for name, term in jax.eval_shape(run).items()}


def taught(number):
    """{term: its outputs}"""
    return {name: term.outputs for name, term in shapes(number).items()}


@functools.cache
def compiled(number):
    """({term: values}, (loss, metrics), gradients of the loss, {term: mask}), jitted as one program."""

    def run(values, group):
        def loss(values):
            found = terms(number, values, group)
            each = {n: t.values for n, t in found.items()}, {n: t.mask for n, t in found.items()}
            total, metrics = reduce_terms(found)
            return total, (metrics, each)

        (total, (metrics, each)), gradient = jax.value_and_grad(loss, has_aux=True)(values)
        return each[0], (total, metrics), gradient, each[1]

    return jax.jit(run)


def losses(number, values, group):
    """{term: values} of the numbered method."""
    return compiled(number)(values, group)[0]


def loss(number, values, group):
    """(loss, metrics)"""
    return compiled(number)(values, group)[1]


def gradient(number, values, group):
    """{output: {head: gradients of the loss}}"""
    return compiled(number)(values, group)[2]


def masks(number, values, group):
    """{term: mask}"""
    return compiled(number)(values, group)[3]


@every_method
def test_shapes_and_flags(number):
    for term in shapes(number).values():
        chex.assert_shape([term.values, term.mask], (len(term.outputs), SIZE))
        chex.assert_shape(term.weight, (len(term.outputs),))
        assert set(term.outputs) <= set(OUTPUTS)
    assert (method(number).symmetric and method(number).disjoint) or method(number).reason


@every_method
@examples(max_examples=20)
@given(seed=SEEDS, scale=SCALES, mask=ROWS, absent=st.dictionaries(st.sampled_from(OUTPUTS), ROWS))
def test_masks_depend_on_the_batch_alone(number, seed, scale, mask, absent):
    """Padding and presence: who counts does not depend on what the networks say."""
    group = a_batch(seed)
    group |= {"mask": mask, "present": group["present"] | absent}
    zeros = jax.tree.map(np.zeros_like, a_draw())
    found, want = (masks(number, values, group) for values in (a_draw(seed, scale), zeros))
    jax.tree.map(np.testing.assert_array_equal, found, want)


@every_method
def test_teachers_do_not_train(number):
    """Neither their weights nor, in training mode, their batch statistics."""
    assert not any(pass_.train for pass_ in method(number).passes if pass_.weights != "params")


@every_method
@examples(max_examples=30)
@given(seed=SEEDS, scale=SCALES)
def test_losses_are_finite_and_not_negative(number, seed, scale):
    for values in losses(number, a_draw(seed, scale), a_batch(seed)).values():
        chex.assert_tree_all_finite(values)
        assert float(values.min()) >= -1e-4


@every_method
@examples(max_examples=30)
@given(seed=SEEDS, scale=SCALES, mask=ROWS, absent=st.sampled_from([(), ("c",), ("b", "c"), OUTPUTS]))
def test_gradients_are_finite(number, seed, scale, mask, absent):
    """Whatever is masked or absent, and at logits of +-50."""
    group = a_batch(seed)
    group |= {"mask": mask, "present": group["present"] | dict.fromkeys(absent, ~mask)}
    for values in (a_draw(seed, scale), jax.tree.map(lambda x: np.float32(np.sign(x) * 50), a_draw(seed))):
        chex.assert_tree_all_finite(gradient(number, values, group))


@every_method
@examples(max_examples=15)
@given(seed=SEEDS, pair=st.permutations(OUTPUTS))
def test_transposing_outputs_transposes_their_losses(number, seed, pair):
    if not method(number).symmetric:
        pytest.skip(f"not symmetric: {method(number).reason}")
    one, other = [output for output in pair if output in outputs_of(CASES[number][0])][:2]
    values, group = a_draw(seed), a_batch(seed)
    swap = {one: other, other: one}
    swapped = {o: values[swap.get(o, o)] for o in OUTPUTS}
    before, after = (losses(number, v, group) for v in (values, swapped))
    for name, outputs in taught(number).items():
        rows = np.array([outputs.index(swap.get(o, o)) for o in outputs])
        chex.assert_trees_all_close(after[name], before[name][rows], **CLOSE)


@functools.cache
def compiled_singly(number):
    """The values of each example alone, jitted."""

    def one(values, group):
        alone = jax.tree.map(lambda x: x[None], (values, group))
        return {n: t.values[:, 0] for n, t in terms(number, *alone).items()}

    return jax.jit(jax.vmap(one, out_axes=1))


@every_method
@examples(max_examples=10)
@given(seed=SEEDS, scale=st.sampled_from([0.3, 2.0, 15.0]))
def test_vmap_is_batched(number, seed, scale):
    """Examples do not meet: vmap over single ones equals the batched call (ties apart)."""
    if CASES[number][0] in LOTS:
        pytest.skip("draws by lot, once for a batch")
    values, group = a_draw(seed, scale), a_batch(seed)

    single = compiled_singly(number)(values, group)
    chex.assert_trees_all_close(single, losses(number, values, group), **CLOSE)


@every_method
@examples(max_examples=15)
@given(seed=SEEDS, mask=st.permutations([True] * 4 + [False] * 2).map(np.array))
def test_masked_is_sliced(number, seed, mask):
    """Loss, metrics and gradients; what stands in masked rows does not matter, not even NaN."""
    if CASES[number][0] in LOTS:
        pytest.skip("draws by lot, once for a batch")
    values, group = a_draw(seed), a_batch(seed)
    bad = jax.tree.map(lambda x: np.where(mask[:, None], x, np.nan), values)
    sliced = jax.tree.map(lambda x: x[mask], (values, group))
    chex.assert_trees_all_close(loss(number, bad, group | {"mask": mask}), loss(number, *sliced), **CLOSE)
    masked = gradient(number, values, group | {"mask": mask})
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[mask], masked), gradient(number, *sliced), **CLOSE)
    assert not any(np.any(x[~mask]) for x in jax.tree.leaves(masked))


@every_method
@examples(max_examples=15)
@given(seed=SEEDS, absent=ROWS)
def test_the_absent_lose_nothing_and_teach_nobody(number, seed, absent):
    values, group, last = a_draw(seed), a_batch(seed), outputs_of(CASES[number][0])[-1]
    group["present"][last] = ~absent
    grads = gradient(number, values, group)[last]
    assert not any(np.any(g[absent]) for g in jax.tree.leaves(grads))
    bend = lambda x: np.where(absent[:, None], x + 3 * x**2, x)  # noqa: E731
    other = values | {last: jax.tree.map(bend, values[last])}
    chex.assert_trees_all_close(loss(number, values, group), loss(number, other, group), **CLOSE)


@every_method
@examples(max_examples=10)
@given(seed=SEEDS, scale=SCALES)
def test_eager_is_jit(number, seed, scale):
    values, group = a_draw(seed, scale), a_batch(seed)
    eager = {n: t.values for n, t in terms(number, values, group).items()}
    chex.assert_trees_all_close(eager, losses(number, values, group), **CLOSE)


@every_method
def test_new_numbers_are_no_new_program(number):
    """A method decides nothing by the values of its inputs."""
    sizes = []
    for seed in range(3):
        loss(number, a_draw(seed, 10.0**seed), a_batch(seed))
        sizes.append(compiled(number)._cache_size())
    assert sizes[0] == sizes[-1] > 0


@functools.cache
def own_gradients(number):
    """{whose loss: {output: gradients}} of every output that learns, in one program."""
    learners = [o for o in outputs_of(CASES[number][0]) if o not in method(number).teachers]

    def own_losses(values, group):
        found = terms(number, values, group).values()
        losses = [[t.values[t.outputs.index(o)].sum() for t in found if o in t.outputs] for o in learners]
        return jnp.stack([sum(own) for own in losses])

    jacobian = jax.jit(jax.jacrev(own_losses))

    def gradients(values, group):
        found = jax.device_get(jacobian(values, group))
        return {o: jax.tree.map(lambda g, i=i: g[i], found) for i, o in enumerate(learners)}

    return gradients


@every_method
@examples(max_examples=10)
@given(seed=SEEDS, scale=st.sampled_from([0.3, 2.0, 15.0]))
def test_no_gradient_into_peers(number, seed, scale):
    if not method(number).disjoint:
        pytest.skip(f"not disjoint: {method(number).reason}")
    learning = []
    for output, grads in own_gradients(number)(a_draw(seed, scale), a_batch(seed)).items():
        learning.append(any(np.any(g) for g in jax.tree.leaves(grads[output])))
        for peer in set(OUTPUTS) - {output}:
            assert not any(np.any(g) for g in jax.tree.leaves(grads[peer])), (output, peer)
    # Of SMCL's networks one may win nothing.
    assert all(learning) or (any(learning) and CASES[number][0] == "smcl")


# ---------------------------------------------------------------------------- other numbers of outputs
class Case(NamedTuple):
    name: str
    options: dict
    outputs: tuple[str, ...]
    heads: dict[str, Head]

    def make(self):
        return METHODS[self.name](self.outputs, self.heads, **self.options)


def cases():
    """(those that a method takes, those that it refuses). The heads change with the number of outputs."""
    known = {1: ("verb",), 2: ("tags",), 4: ("verb", "tags")}
    taken, refused = [], []
    for count, names in known.items():
        outputs, heads = ("a", "b", "c", "d")[:count], {name: HEADS[name] for name in names}
        fit = {n: heads_of(n, heads) or {"noun": HEADS["noun"]} for n in NAMES}
        for case in [Case(n, o, outputs, fit[n]) for n in NAMES for o in options_of(n, outputs)]:
            try:
                case.make()
                taken.append(case)
            except ValueError:
                refused.append(case)
    return taken, refused


def title(case):
    return "-".join([case.name, str(len(case.outputs)), *map(str, case.options.values())])


TAKEN, REFUSED = cases()


def test_a_method_takes_what_it_wants():
    """One output has nobody to teach; more are taken by every method here, but for those of pairs."""
    alone = {(n, 1) for n in ("mml", "generalized_distillation", "distillation", "mars", "d3d", "kd")}
    assert {(case.name, len(case.outputs)) for case in REFUSED} == alone | {("cmpl", 1), ("cmpl", 4)}


@functools.cache
def probe(number):
    """(values, group, chosen [M]) -> (gradient of the chosen outputs' losses, {term: (values, mask)})."""
    case, made = TAKEN[number], TAKEN[number].make()

    def loss(values, group, chosen):
        found = terms_of(made, values, group)
        rows = {n: np.array([case.outputs.index(o) for o in t.outputs]) for n, t in found.items()}
        kept = {n: t._replace(weight=t.weight * chosen[rows[n]]) for n, t in found.items()}
        seen = {n: (t.values, t.mask) for n, t in found.items()}
        return reduce_terms(kept)[0], seen

    return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize("number", range(len(TAKEN)), ids=map(title, TAKEN))
@examples(max_examples=6)
@given(seed=SEEDS, scale=SCALES, mask=ROWS, absent=ROWS)
def test_any_number_of_outputs(number, seed, scale, mask, absent):
    """Losses and gradients are finite, nothing comes of the absent, nobody's loss reaches a peer."""
    case, made = TAKEN[number], TAKEN[number].make()
    outputs, last = case.outputs, case.outputs[-1]
    group = a_batch(seed, outputs=outputs)
    group["label"] = {head: group["label"][head] for head in case.heads}
    group["mask"], group["present"][last] = mask, ~absent
    values = a_draw(seed, scale, outputs=outputs, heads=case.heads)
    learners = [o for o in outputs if o not in made.teachers]
    alone = {o: np.float32([o == other for other in outputs]) for o in outputs}
    shown = {o: mask & group["present"][o] for o in outputs}

    found = {o: jax.device_get(probe(number)(values, group, alone[o])) for o in learners}
    for output, (grads, seen) in found.items():
        chex.assert_tree_all_finite((grads, seen))
        for losses, counted in seen.values():
            assert losses.shape == counted.shape and losses.min() >= -1e-4
            assert not counted[:, ~np.any(list(shown.values()), 0)].any()
        for other, grad in grads.items():
            still = ~shown[other] if other == output or not made.disjoint else np.ones(SIZE, bool)
            assert not any(np.any(g[still]) for g in grad.values()), (output, other)

    # Whatever the absent would have said.
    bend = lambda x: np.where(absent[:, None], x + 3 * x**2, x)  # noqa: E731
    other = values | {last: jax.tree.map(bend, values[last])}
    _, bent = probe(number)(other, group, alone[learners[0]])
    _, seen = found[learners[0]]
    for name, (losses, counted) in seen.items():
        np.testing.assert_allclose(np.where(counted, bent[name][0], 0), np.where(counted, losses, 0), **CLOSE)


@functools.cache
def compiled_mutual(**options):
    return jax.jit(functools.partial(mml.mutual, **options))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"average": "logit"}, {"form": "bernoulli"}], ids=str)
@examples(max_examples=15)
@given(seed=SEEDS, size=st.floats(0.5, 20))
def test_mutual_is_zero_exactly_for_agreement(count, options, seed, size):
    """KL = 0 iff equal: zero where all agree, more for whoever leaves the others."""
    rng = np.random.default_rng(seed)
    same = np.tile(np.float32(rng.normal(size=(1, SIZE, 5))), (count, 1, 1))
    mutual = compiled_mutual(**options)
    np.testing.assert_allclose(mutual(same), 0, atol=1e-6)
    moved = same.copy()
    moved[0, 2, rng.integers(5)] += size * rng.choice([-1, 1])
    found = np.asarray(mutual(moved))
    assert (found[:, 2] > 1e-5).all()
    np.testing.assert_allclose(np.delete(found, 2, 1), 0, atol=1e-6)


def test_one_output_cannot_teach_itself():
    with pytest.raises(ValueError, match="at least two"):
        METHODS["mml"](("rgb",), HEADS)
