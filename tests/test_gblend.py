"""Gradient-Blending: its weights against worked numbers, their properties, and what two re-implementations get
wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmvid import methods
from mmvid.methods import gblend, single, terms
from mmvid.scores import blends, file
from mmvid.scores.file import Scores
from mmvid.streams import Head
from mmvid.terms import reduce_terms

# papers.md's example: three heads that begin at 6; G = (3.8, 1.1, 4.0), dO = (.7, 2.4, 1.1).
BEFORE = np.full(3, 6.0)
TRAIN, HELD = np.array([1.5, 2.5, 0.9]), np.array([2.2, 4.9, 2.0])
WANT = np.array([0.689228, 0.016973, 0.293799])

LOSSES = arrays.arrays(np.float64, 3, elements=st.floats(0.01, 8))


def test_the_worked_example():
    np.testing.assert_allclose(gblend.blend_weights(BEFORE, BEFORE, TRAIN, HELD), WANT, atol=1e-6)
    found = gblend.change(BEFORE, BEFORE, TRAIN, HELD)
    np.testing.assert_allclose(found.gain, [3.8, 1.1, 4.0])
    np.testing.assert_allclose(found.overfitting, [0.7, 2.4, 1.1])
    np.testing.assert_allclose(found.ratio, [0.7 / 3.8, 2.4 / 1.1, 1.1 / 4.0])


# ---------------------------------------------------------------------------- properties
@given(LOSSES, LOSSES, LOSSES, LOSSES, st.sampled_from([1e-6, 0.5, 3.0, 1e4]))
def test_weights_are_shares_whatever_the_unit(a, b, c, d, scale):
    weights = gblend.blend_weights(a, b, c, d)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        gblend.blend_weights(*(scale * x for x in (a, b, c, d))), weights, rtol=1e-6, atol=1e-9
    )
    # Which way a gap changed does not matter: dO is squared.
    found = gblend.change(a, b, c, d)
    mirrored = gblend.blend_weights(a, b, c + 2 * found.overfitting, d)
    np.testing.assert_allclose(mirrored, weights, rtol=1e-6, atol=1e-9)
    order = [2, 0, 1]
    np.testing.assert_allclose(gblend.blend_weights(*(x[order] for x in (a, b, c, d))), weights[order], rtol=1e-9)
    assert (weights[found.gain <= 0] == 0).all() or not (found.gain > 0).any()


@given(st.floats(0.1, 3), st.floats(1.01, 3), st.sampled_from(["gain", "overfitting"]))
def test_weights_grow_with_the_gain_and_shrink_with_overfitting(gap, factor, which):
    """One head's number changes; the other keeps its own."""

    def weight(gain, overfitting):
        gain, overfitting = np.array([gain, 1.0]), np.array([overfitting, 1.0])
        before = np.full(2, 20.0)
        return gblend.blend_weights(before, before, before - gain - overfitting, before - gain)[0]

    before, after = weight(gap, gap), weight(gap * factor, gap) if which == "gain" else weight(gap, gap * factor)
    assert after > before if which == "gain" else after < before


def test_rules_where_the_paper_has_none():
    one = np.ones(2)
    # No gain weighs 0; where nobody gained, all weigh alike; equal curves have equal weights.
    assert gblend.blend_weights(one, one, [0.5, 0.5], [0.8, 1.2]).tolist() == [1, 0]
    assert gblend.blend_weights(one, one, [0.5, 0.5], [1.0, 1.2]).tolist() == [0.5, 0.5]
    np.testing.assert_allclose(gblend.blend_weights(6 * one, 6 * one, one, 2 * one), 0.5)
    # The least |dO|: of the largest loss before, or absolute.
    after = (np.array([0.5, 0.4]), np.array([0.5, 0.5]))
    for options, least in (({}, 1e-3 * 6), ({"clamp_absolute": 0.05}, 0.05), ({"clamp": 0.01}, 0.06)):
        want = np.array([5.5 / least**2, 5.5 / 0.1**2])
        got = gblend.blend_weights(6 * one, 6 * one, *after, **options)
        np.testing.assert_allclose(got, want / want.sum(), rtol=1e-9)
    # A clamp that is a share scales with the losses.
    scaled = [gblend.blend_weights(s * 6 * one, s * 6 * one, s * after[0], s * after[1]) for s in (1, 1e-5, 1e5)]
    np.testing.assert_allclose(scaled[1:], [scaled[0]] * 2, rtol=1e-9)
    np.testing.assert_allclose(gblend.blend_weights(6 * one, 6 * one, *after, clamp_absolute=0.5), 0.5)
    np.testing.assert_array_equal(gblend.blend_weights(*np.zeros((4, 2))), 0.5)
    with pytest.raises(ValueError, match="one of them must be above 0"):
        gblend.blend_weights(one, one, one, one, clamp=0)
    with pytest.raises(ValueError, match="finite"):
        gblend.blend_weights(one, one, one, one, clamp_absolute=np.inf)
    with pytest.raises(ValueError, match="not finite"):
        gblend.blend_weights(one, one, one, np.array([1, np.inf]))


def test_the_end_is_the_last_moment_or_each_heads_best():
    train = np.array([[6, 6], [3, 3], [1, 0.5]])
    held = np.array([[6, 6], [4, 3.5], [3, 5.0]])
    last = gblend.blend_weights(train[0], held[0], train[2], held[2])
    best = gblend.blend_weights(train[0], held[0], [1, 3], [3, 3.5])
    np.testing.assert_array_equal(gblend.estimate(train, held), last)
    np.testing.assert_array_equal(gblend.estimate(train, held, endpoint="best_val"), best)
    assert best[1] > last[1]
    for wrong, match in ((dict(endpoint="first"), "choose one of"), (dict(), "one before and one after")):
        with pytest.raises(ValueError, match=match):
            gblend.estimate(train[: 3 if wrong else 1], held[: 3 if wrong else 1], **wrong)


def test_intervals_hold_the_weights_and_narrow_with_the_clips():
    rng = np.random.default_rng(0)
    widths = {}
    for n in (30, 3000):
        clips = np.stack([np.full((3, n), 6.0), HELD[:, None] + rng.normal(0, 1, (3, n))])
        train = np.stack([BEFORE, TRAIN])
        found = gblend.intervals(train, clips, draws=200)
        weights = gblend.estimate(train, clips.mean(-1))
        assert ((found[:, 0] <= weights) & (weights <= found[:, 1])).all()
        widths[n] = found[0, 1] - found[0, 0]
    assert widths[3000] < widths[30] / 3
    # Clips that are all alike leave nothing to chance.
    alike = np.broadcast_to(clips.mean(-1, keepdims=True), clips.shape)
    np.testing.assert_allclose(np.ptp(gblend.intervals(train, alike, draws=20), 1), 0, atol=1e-9)
    clips[:, 1, 5:] = np.nan  # a head that few clips have
    assert np.isfinite(gblend.intervals(train, clips, draws=50)).all()


# ---------------------------------------------------------------------------- others' mistakes
def test_losses_summed_over_batches_of_unequal_number_give_other_weights():
    """A public re-implementation sums them: with four training batches for each one that is held out."""
    summed = gblend.blend_weights(4 * BEFORE, BEFORE, 4 * TRAIN, HELD)
    np.testing.assert_allclose(summed, [0.467, 0.164, 0.369], atol=5e-4)
    assert np.abs(summed - WANT).max() > 0.1


def test_the_size_of_the_gain_rewards_a_head_that_got_worse():
    """The same: |G|. A head whose held-out loss rose much is weighed most."""
    held = np.array([5.0, 9.0])
    before, train = np.full(2, 6.0), np.array([4.0, 6.0])
    found = gblend.change(before, before, train, held)
    wrong = np.abs(found.gain) / found.overfitting**2
    assert (wrong / wrong.sum())[1] > 0.2 and gblend.blend_weights(before, before, train, held).tolist() == [1, 0]


def test_the_loss_itself_is_no_gain():
    """Another one takes held-out losses for their decrease: the worst head then gains most."""
    found = gblend.change(BEFORE, BEFORE, TRAIN, HELD)
    wrong = HELD / found.overfitting**2
    assert np.abs(wrong / wrong.sum() - gblend.blend_weights(BEFORE, BEFORE, TRAIN, HELD)).max() > 0.05


@given(arrays.arrays(np.float64, 3, elements=st.floats(0, 4)))
def test_a_gap_that_was_there_before_is_no_overfitting(brought):
    """Gaps in place of their changes count what the network brought along."""
    moved = gblend.blend_weights(BEFORE - brought, BEFORE, TRAIN - brought, HELD)
    np.testing.assert_allclose(moved, WANT, atol=1e-6)
    if np.ptp(brought) > 1:
        gap = gblend.blend_weights(BEFORE, BEFORE, TRAIN - brought, HELD)
        assert np.abs(gap - moved).max() > 1e-3


# ---------------------------------------------------------------------------- what a scores file gives
def test_losses_of_clips_are_those_that_training_has():
    rng = np.random.default_rng(0)
    logits = {"verb": rng.normal(size=(5, 2, 4)).astype(np.float32), "tags": rng.normal(size=(5, 2, 3))}
    label = {"verb": np.array([0, 3, 1, 2, -1]), "tags": rng.integers(0, 2, (5, 3))}
    present = {"a": np.array([True, True, False, True, True])}
    scores = Scores(np.arange(5), np.arange(5), label, present, {"a": logits}, {})
    found = blends.of_clips(scores, "a")
    assert np.isnan(found).tolist() == [False, False, True, False, True]
    task = single.make(("a",), {"verb": Head(4), "tags": Head(3, "multi")})
    for clip in (0, 1, 3):
        views = {"a": {"logits": {h: jnp.asarray(v[clip], jnp.float32) for h, v in logits.items()}}}
        batch = {"main": {"label": {h: np.repeat(v[clip][None], 2, 0) for h, v in label.items()},
                          "mask": np.ones(2, bool), "present": {"a": np.ones(2, bool)}}}  # fmt: skip
        want, _ = reduce_terms(task.terms({("main", "train"): views}, batch, {}, None))
        assert found[clip] == pytest.approx(float(want), rel=1e-5)
    alone = scores._replace(label={"verb": label["verb"]}, logits={"a": {"verb": logits["verb"]}})
    errors = blends.of_clips(alone, "a", "error")
    assert errors[0] == (logits["verb"][0].argmax(-1) != 0).mean()
    with pytest.raises(ValueError, match="no error rate of a clip"):
        blends.of_clips(scores, "a", "error")
    tags = scores._replace(label={"tags": label["tags"]}, logits={"a": {"tags": logits["tags"]}})
    each = np.float32(label["tags"][0][None].repeat(2, 0))
    want = terms.cross_entropy(jnp.asarray(logits["tags"][:1], jnp.float32), each, "multi", "softmax")
    assert blends.of_clips(tags, "a", multi="softmax")[0] == pytest.approx(float(want.mean()), rel=1e-5)
    logits["verb"][0] = np.nan
    assert np.isinf(blends.of_clips(scores, "a")[0])


def test_a_copy_that_diverged_or_saw_nothing_gives_no_weights(tmp_path):
    """And the error says which, on which clips; a clip that lacks what a copy reads is left out."""
    probe = blends.Probe(("probe",), {"audio": "a", "joint": "j"}, "held", "fixed")
    options = methods.options("gblend")

    def measured(present=(True, True, False), worst=0.0, first=0):
        for name, scale in (("held-before", 0), ("fixed-before", 0), ("held", 1), ("fixed", 1)):
            logits = {"verb": np.float32(scale * np.eye(3, 4)[:, None])}
            logits["verb"][1, 0, 3] = worst
            there = {"a": np.array(present), "j": np.ones(3, bool)}
            ids = np.arange(3) + first * (name == "held")
            scores = Scores(ids, np.arange(3), {"verb": np.arange(3)}, there,
                            {"a": logits, "j": logits}, {"step": 4 * (scale > 0)})  # fmt: skip
            file.save(tmp_path / "probe" / "scores" / f"{name}.npz", scores)
        return probe.note(tmp_path, options)

    note = measured()
    assert note["weights"] == {"audio": pytest.approx(0.5), "joint": pytest.approx(0.5)}
    assert note["steps"] == [0, 4] and note["heads"]["audio"]["ogr"] == 0
    with pytest.raises(ValueError, match="'audio' cannot be weighed: no clip of 'fixed' has what it reads"):
        measured(present=(False,) * 3)
    with pytest.raises(ValueError, match=r"held\.npz is of other clips than the moment before it"):
        measured(first=1)
    for worst in (np.inf, np.nan):
        with pytest.raises(ValueError, match="its copy 'a' diverged, its scores of 'fixed' are not finite"):
            measured(worst=worst)


# ---------------------------------------------------------------------------- the method
OUTPUTS = ("av.audio", "av.rgb", "av.joint")
HEADS = {"verb": Head(4), "tags": Head(3, "multi")}


@functools.cache
def compiled(make, of):
    """loss(logits by output, state, group) -> (loss, gradients by output) of a method for the outputs ``of``."""
    made = make(of, HEADS)

    def loss(values, state, group):
        wrapped = {o: {"logits": own} for o, own in values.items()}
        return reduce_terms(made.terms({("main", "train"): wrapped}, {"main": group}, state, None))[0]

    return jax.jit(jax.value_and_grad(loss))


def a_loss(weights="estimate", make=gblend.make, of=OUTPUTS):
    """(loss, gradients by output) of a method on random logits; ``weights`` are G-Blend's option, which stand in
    the state, as a plan's do."""
    rng = np.random.default_rng(0)
    values = {o: {h: np.float32(rng.normal(size=(6, s.classes))) for h, s in HEADS.items()} for o in OUTPUTS}
    group = {
        "label": {"verb": rng.integers(0, 4, 6), "tags": rng.integers(0, 2, (6, 3))},
        "mask": np.ones(6, bool),
        "present": {o: np.ones(6, bool) for o in OUTPUTS},
    }
    state = make(of, HEADS, weights=weights).init() if make is gblend.make else {}
    return jax.device_get(compiled(make, of)(values, state, group))


def test_the_loss_is_the_weighted_sum_of_the_outputs():
    each = [a_loss(text)[0] for text in ("1,0,0", "0,1,0", "0,0,1")]
    assert a_loss(".38,.24,.38")[0] == pytest.approx(np.dot([0.38, 0.24, 0.38], each), rel=1e-5)
    assert a_loss("equal")[0] == pytest.approx(np.mean(each), rel=1e-5)


def test_all_weight_on_the_joint_output_is_naive_and_one_output_is_single():
    loss, grads = a_loss("0,0,1")
    naive = a_loss(make=single.make, of=OUTPUTS[2:])
    assert loss == naive[0]
    jax.tree.map(np.testing.assert_array_equal, grads["av.joint"], naive[1]["av.joint"])
    assert not any(np.any(g) for o in OUTPUTS[:2] for g in jax.tree.leaves(grads[o]))
    both = [a_loss("1", of=OUTPUTS[:1]), a_loss(make=single.make, of=OUTPUTS[:1])]
    jax.tree.map(np.testing.assert_array_equal, *both)
    # One modality alone may get no weight at all.
    assert not any(np.any(g) for g in jax.tree.leaves(a_loss("0,.4,.6")[1]["av.audio"]))


def test_learnt_weights_go_to_what_makes_the_loss_least():
    """Kendall's s^2 = 2 L, where exp(-v) L + v / 2 has its minimum."""
    made = gblend.make(OUTPUTS, HEADS, weights="learnt")
    state, losses = made.init(), np.array([0.3, 1.0, 2.5])
    metrics = {f"{output}/ce": jnp.float32(loss) for output, loss in zip(OUTPUTS, losses)}
    step = jax.jit(lambda state: made.update(state, metrics, {}, {}))
    for _ in range(3000):
        state = step(state)
    np.testing.assert_allclose(state["weights"], 1 / (2 * losses), rtol=0.02)


@pytest.mark.parametrize(
    "options, match",
    [({"weights": ".5,.5"}, r"3 numbers, 0 or more and one .* for av.audio, av.rgb, av.joint in this order"),
     ({"weights": "1,-1,1"}, "0 or more"), ({"weights": "0,0,0"}, "one of them above 0"),
     ({"curves": "top1"}, "choose one of"),
     ({"endpoint": "best"}, "choose one of"), ({"multi": "hinge"}, "choose one of"),
     ({"clamp": -1.0}, "must be above 0")],
)  # fmt: skip
def test_options_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        gblend.make(OUTPUTS, HEADS, **options)
