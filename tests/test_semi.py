"""FixMatch and CMPL: whose predictions are labels, when they count, and who learns from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmvid.methods import METHODS, semi
from mmvid.methods.base import Pass
from mmvid.streams import Head
from mmvid.terms import reduce_terms

HEADS = {"verb": Head(3)}
PAIR, SIZE = ("primary", "auxiliary"), 6
SEEDS = st.integers(0, 10**6)
LOGITS = arrays.arrays(np.float32, (2, SIZE, 3), elements=st.floats(-6, 6, width=32))
brief = functools.partial(settings, deadline=None)


def probabilities(logits):
    return np.asarray(jax.nn.softmax(jnp.asarray(logits)))


# ---------------------------------------------------------------------------- whose predictions
# Probabilities of three classes; the label and whether it is confident at .75, by scheme: 'none' of them is.
SURE, OTHER, UNSURE, FLAT = [0.0, 0.125, 0.875], [0.75, 0.25, 0.0], [0.25, 0.5, 0.25], [0.375, 0.375, 0.25]
TABLE = [
    # own, other: cross, self_first, opposite_first, maximum, average
    (SURE, OTHER, (0, True), (2, True), (0, True), (2, True), (2, False)),
    (OTHER, SURE, (2, True), (0, True), (2, True), (2, True), (2, False)),
    (SURE, UNSURE, (1, False), (2, True), (2, True), (2, True), (2, False)),
    (UNSURE, SURE, (2, True), (2, True), (2, True), (2, True), (2, False)),
    (UNSURE, FLAT, (0, False), (0, False), (1, False), (1, False), (1, False)),
    (SURE, SURE, (2, True), (2, True), (2, True), (2, True), (2, True)),
    # A tie goes to the own one; of equal classes the first is the label.
    ([0, 0.75, 0.25], OTHER, (0, True), (1, True), (0, True), (1, True), (1, False)),
]


@pytest.mark.parametrize("place, scheme", [*enumerate(semi.SCHEMES)])
def test_schemes_choose_as_the_table_says(place, scheme):
    """CMPL, appendix A, by hand."""
    own, other, *want = map(np.array, zip(*TABLE))
    label, confident = semi.pseudo_label(np.float32(own), np.float32(other), scheme=scheme, threshold=0.75)
    np.testing.assert_array_equal(label, want[place][:, 0])
    np.testing.assert_array_equal(confident, want[place][:, 1])


def chosen(own, other, scheme, threshold):
    """The probabilities that count, one clip after the other (appendix A in NumPy)."""
    most, others = own.max(), other.max()
    return {
        "cross": other,
        "self_first": own if most >= threshold else other,
        "opposite_first": other if others >= threshold else own,
        "maximum": own if most >= others else other,
        "average": (own + other) / 2,
    }[scheme]


@brief(max_examples=40)
@given(LOGITS, st.sampled_from(semi.SCHEMES), st.sampled_from([0.0, 0.4, 0.9, 1.0]))
def test_schemes_are_those_of_numpy(logits, scheme, threshold):
    own, other = probabilities(logits)
    want = [chosen(a, b, scheme, np.float32(threshold)) for a, b in zip(own, other)]
    label, confident = semi.pseudo_label(own, other, scheme=scheme, threshold=threshold)
    np.testing.assert_array_equal(label, [c.argmax() for c in want])
    np.testing.assert_array_equal(confident, [c.max() >= np.float32(threshold) for c in want])


def test_a_tie_at_the_threshold_is_confident():
    just = np.float32([[0.9, 0.1], [np.nextafter(np.float32(0.9), np.float32(0)), 0.1]])
    assert semi.pseudo_label(just, just, threshold=0.9)[1].tolist() == [True, False]


def test_no_gradient_reaches_what_labels_are_made_of():
    def total(own, other, scheme):
        label, confident = semi.pseudo_label(own, other, scheme=scheme, threshold=0.1)
        return (label + confident).astype(jnp.float32).sum()

    one = jnp.full((2, 3), 1 / 3)
    for scheme in semi.SCHEMES:
        for grad in jax.grad(total, argnums=(0, 1))(one, one, scheme):
            assert not grad.any()


# ---------------------------------------------------------------------------- a step's losses
def a_draw(seed, outputs=PAIR, scale=3.0, heads=HEADS):
    """{view: {output: {head: logits}}} of labelled clips in view train, unlabelled ones in weak and strong."""
    rng = np.random.default_rng(seed)
    draw = lambda k: np.float32(rng.normal(size=(SIZE, k)) * scale)  # noqa: E731
    return {view: {o: {h: draw(s.classes) for h, s in heads.items()} for o in outputs}
            for view in ("train", "weak", "strong")}  # fmt: skip


def a_batch(seed=0, outputs=PAIR, heads=HEADS):
    rng = np.random.default_rng(seed)
    draw = lambda: {h: rng.integers(0, s.classes, SIZE) for h, s in heads.items()}  # noqa: E731
    group = {"mask": np.ones(SIZE, bool), "present": {o: np.ones(SIZE, bool) for o in outputs}}
    return {"labelled": group | {"label": draw()}, "unlabelled": group | {"audit": draw()}}


def terms(made, values, batch):
    """{name: Term} of views {view: {output: {head: logits}}}."""
    wrapped = {view: {o: {"logits": own} for o, own in outputs.items()} for view, outputs in values.items()}
    views = {("labelled", "train"): wrapped["train"]}
    views |= {("unlabelled", view): wrapped[view] for view in ("weak", "strong")}
    return made.terms(views, batch, made.init(), None)


@functools.cache
def compiled(name, outputs=PAIR, **options):
    """(values, batch) -> ((loss, ({name: values}, metrics)), gradient), jitted."""
    made = METHODS[name](outputs, HEADS, **options)

    def loss(values, batch):
        found = terms(made, values, batch)
        total, metrics = reduce_terms(found)
        return total, ({n: t.values for n, t in found.items()}, metrics)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("name", ["fixmatch", "cmpl"])
def test_nothing_confident_teaches_nothing(name):
    """Loss and gradient of the unlabelled clips are zero, exactly."""
    values, batch = a_draw(0, scale=0.1), a_batch()
    (_, (found, metrics)), grads = compiled(name)(values, batch)
    assert not found["pseudo"].any() and not found["confident"].any() and not found["right"].any()
    assert not any(g.any() for view in ("weak", "strong") for g in jax.tree.leaves(grads[view]))
    assert all(g.any() for g in jax.tree.leaves(grads["train"]))
    assert metrics["primary/ce"] > 0 and metrics["primary/pseudo"] == 0


@brief(max_examples=15)
@given(SEEDS)
def test_cross_labels_come_from_the_partner_alone(seed):
    """The primary's own weak view changes nothing of what it learns, and no gradient flows through any."""
    values, batch = a_draw(seed), a_batch(seed)
    (_, (found, _)), grads = compiled("cmpl")(values, batch)
    assert not any(g.any() for g in jax.tree.leaves(grads["weak"]))
    weak = values["weak"] | {"primary": a_draw(seed + 1)["weak"]["primary"]}
    (_, (other, _)), _ = compiled("cmpl")(values | {"weak": weak}, batch)
    np.testing.assert_array_equal(found["pseudo"][0], other["pseudo"][0])
    # By hand: what the auxiliary says, where it is sure.
    said = probabilities(values["weak"]["auxiliary"]["verb"])
    own = np.log(probabilities(values["strong"]["primary"]["verb"]))
    want = np.where(said.max(-1) >= np.float32(0.9), -own[np.arange(SIZE), said.argmax(-1)], 0)
    np.testing.assert_allclose(found["pseudo"][0], want, rtol=1e-4, atol=1e-5)


@brief(max_examples=15)
@given(SEEDS, st.sampled_from(semi.SCHEMES))
def test_exchanging_streams_exchanges_losses(seed, scheme):
    values, batch = a_draw(seed), a_batch(seed)
    swapped = {view: dict(zip(PAIR, [own[o] for o in PAIR[::-1]])) for view, own in values.items()}
    (loss, (found, _)), _ = compiled("cmpl", scheme=scheme, threshold=0.6)(values, batch)
    (other, (after, _)), _ = compiled("cmpl", scheme=scheme, threshold=0.6)(swapped, batch)
    for name, own in found.items():
        np.testing.assert_allclose(own, after[name][::-1], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, other, rtol=1e-6)


@brief(max_examples=15)
@given(SEEDS, st.sampled_from(semi.SCHEMES))
def test_fixmatch_is_cmpl_with_shared_parameters(seed, scheme):
    """Two outputs that say the same on every view: whatever the scheme, each learns as by FixMatch."""
    values, batch = a_draw(seed), a_batch(seed)
    same = {view: dict.fromkeys(PAIR, own["primary"]) for view, own in values.items()}
    (_, (found, _)), grads = compiled("cmpl", scheme=scheme, threshold=0.6)(same, batch)
    (_, (want, _)), wanted = compiled("fixmatch", threshold=0.6)(same, batch)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for name, own in want.items():
        close(found[name], own)
    jax.tree.map(close, grads, wanted)


@brief(max_examples=15)
@given(SEEDS, st.lists(st.booleans(), min_size=SIZE, max_size=SIZE).filter(any).map(np.array))
def test_means_are_over_the_whole_group(seed, mask):
    """Over all clips that are there, not over the confident ones; of a pair, over those that show both."""
    values, batch = a_draw(seed), a_batch(seed)
    batch["unlabelled"] = batch["unlabelled"] | {"mask": mask}
    batch["unlabelled"]["present"] = {"primary": np.arange(SIZE) != 2, "auxiliary": np.ones(SIZE, bool)}
    (_, (found, metrics)), _ = compiled("cmpl", threshold=0.6)(values, batch)
    both = mask & batch["unlabelled"]["present"]["primary"]
    for i, output in enumerate(PAIR):
        want = (found["pseudo"][i] * both).sum() / max(both.sum(), 1)
        np.testing.assert_allclose(metrics[f"{output}/pseudo"], want, rtol=1e-5, atol=1e-6)
    (_, (found, metrics)), _ = compiled("fixmatch", threshold=0.6)(values, batch)
    for i, (output, there) in enumerate(zip(PAIR, (both, mask))):
        want = (found["pseudo"][i] * there).sum() / max(there.sum(), 1)
        np.testing.assert_allclose(metrics[f"{output}/pseudo"], want, rtol=1e-5, atol=1e-6)


def test_losses_weigh_as_the_options_say():
    """Table 6: the auxiliary learns from both, or from one of them."""
    values, batch = a_draw(3), a_batch(3)
    weights = {}
    for auxiliary in semi.AUXILIARY:
        found = terms(METHODS["cmpl"](PAIR, HEADS, strength=2.0, auxiliary=auxiliary), values, batch)
        weights[auxiliary] = [found[name].weight.tolist() for name in ("ce", "pseudo")]
        assert not any(found[name].weight.any() for name in ("confident", "right", "beside"))
    assert weights == {"both": [[1, 1], [2, 2]], "supervised": [[1, 1], [2, 0]], "unsupervised": [[1, 0], [2, 2]]}


def test_hidden_labels_are_followed_and_teach_nothing():
    """Another permutation of them: the same loss and gradients, other shares of right labels."""
    values, batch = a_draw(5, scale=6.0), a_batch(5)
    (loss, (found, _)), grads = compiled("cmpl")(values, batch)
    hidden = batch["unlabelled"]["audit"]["verb"]
    batch["unlabelled"] = batch["unlabelled"] | {"audit": {"verb": (hidden + 1) % 3}}
    (other, (after, _)), others = compiled("cmpl")(values, batch)
    assert loss == other and not np.array_equal(found["right"], after["right"])
    jax.tree.map(np.testing.assert_array_equal, grads, others)
    for name in ("ce", "pseudo", "confident"):
        np.testing.assert_array_equal(found[name], after[name])
    said = np.stack([probabilities(values["weak"][o]["verb"]) for o in PAIR])
    sure, right = said.max(-1) >= 0.9, said.argmax(-1) == hidden
    np.testing.assert_array_equal(found["confident"], sure)
    np.testing.assert_array_equal(found["right"], sure & right)
    np.testing.assert_array_equal(found["beside"], sure[::-1] & right)
    # Clips of which nobody knows the labels are still counted where they are confident.
    del batch["unlabelled"]["audit"]
    assert set(terms(METHODS["cmpl"](PAIR, HEADS), values, batch)) == {"ce", "pseudo", "confident"}


def test_heads_are_averaged():
    heads = HEADS | {"noun": Head(4)}
    values, batch = a_draw(1, heads=heads), a_batch(1, heads=heads)
    del batch["unlabelled"]["audit"]["noun"]
    found = terms(METHODS["fixmatch"](PAIR, heads, threshold=0.5), values, batch)
    each = []
    for head, spec in heads.items():
        of = lambda tree, head=head: {v: {o: {head: own[o][head]} for o in own} for v, own in tree.items()}  # noqa: E731
        each.append(terms(METHODS["fixmatch"](PAIR, {head: spec}, threshold=0.5), of(values), batch))
    for name in ("ce", "pseudo", "confident"):
        want = (each[0][name].values + each[1][name].values) / 2
        np.testing.assert_allclose(found[name].values, want, rtol=1e-6)
    # Of the heads that have hidden labels.
    np.testing.assert_array_equal(found["right"].values, each[0]["right"].values)


def test_batch_norm_sees_all_views_together_and_a_moving_average_the_weak_one_alone():
    of = (("labelled", "train"), ("unlabelled", "weak"), ("unlabelled", "strong"))
    assert METHODS["cmpl"](PAIR, HEADS).passes == (Pass(of),)
    first, last = METHODS["fixmatch"](PAIR, HEADS, teacher="ema").passes
    assert first == Pass((of[0], of[2])) and last == Pass((of[1],), weights="ema", train=False)


@pytest.mark.parametrize(
    "name, outputs, options, match",
    [
        ("cmpl", ("a",), {}, "cmpl takes two outputs.*there are 1: a"),
        ("cmpl", ("a", "b", "c"), {}, "there are 3"),
        ("cmpl", PAIR, {"scheme": "either"}, "'either' is unknown; choose one of"),
        ("cmpl", PAIR, {"auxiliary": "none"}, "choose one of"),
        ("fixmatch", PAIR, {"teacher": "mean"}, "choose one of"),
        ("fixmatch", PAIR, {"threshold": 1.5}, "from 0 to 1"),
        ("fixmatch", PAIR, {"strength": -1}, "0 or more"),
    ],
)
def test_options_that_cannot_be(name, outputs, options, match):
    with pytest.raises(ValueError, match=match):
        METHODS[name](outputs, HEADS, **options)


def test_several_labels_a_clip_are_no_pseudo_label():
    with pytest.raises(ValueError, match="head 'tags' has several labels a clip"):
        METHODS["fixmatch"](PAIR, HEADS | {"tags": Head(5, "multi")})
    with pytest.raises(ValueError, match="choose one of"):
        semi.pseudo_label(np.eye(3), np.eye(3), scheme="either")
