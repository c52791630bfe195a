"""Durations, schedules, TSM's groups, and SGD as PyTorch defines it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import common
from mmvid import optim


def spec(**changes):
    base = dict(name="sgd", momentum=0.9, nesterov=False, weight_decay=0.0, clip=0.0, groups="tsm")
    return ConfigDict(base | changes)


PARAMS = {
    "conv1": {"kernel": jnp.full((2, 3), 0.5)},
    "bn1": {"scale": jnp.ones(3), "bias": jnp.ones(3)},
    "layer1_0": {"conv1": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)}},
    "classifier": {"action": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}},
}


@given(st.integers(1, 10**6))
def test_steps_are_steps(n):
    assert optim.steps_of(n, steps_per_epoch=7.0) == n == optim.steps_of(f"{n}", steps_per_epoch=3)


def test_durations():
    assert optim.steps_of("2 epochs", steps_per_epoch=12.5) == 25
    assert optim.steps_of("10%", steps_per_epoch=1, total=500) == 50
    assert optim.steps_of("1 epoch", steps_per_epoch=4) == 4


@pytest.mark.parametrize("bad", ["ten", "3 weeks", "%", "10%"])
def test_unreadable_durations_say_what_to_write(bad):
    with pytest.raises(ValueError, match="30 epochs"):
        optim.steps_of(bad, steps_per_epoch=1)


def test_step_schedule_drops_at_its_boundaries_from_the_segments_start():
    lr = optim.schedule(
        common.schedule(1.0, kind="step", boundaries=("4 epochs", "6 epochs"), warmup=5),
        steps=80, steps_per_epoch=10,
    )  # fmt: skip
    np.testing.assert_allclose([lr(5), lr(39), lr(41), lr(61)], [1, 1, 0.1, 0.01], rtol=1e-6)
    assert lr(0) == 0 and 0 < lr(2) < 1


def plain_rate(step, lr, warmup, boundaries, factor):
    """The schedule of steps in plain Python: what falls into the warm-up falls at its end."""
    if step < warmup:
        return lr * step / warmup
    return lr * factor ** sum(max(b, warmup) <= step for b in boundaries)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.lists(st.integers(0, 80), max_size=5), st.sampled_from([0.1, 0.5, 2.0]))
@example(20, [10, 20], 0.1)
@example(0, [40, 40], 0.1)
@example(5, [0, 0, 5, 6], 0.5)
def test_every_boundary_multiplies(warmup, boundaries, factor):
    texts = tuple(str(b) for b in boundaries)
    spec = common.schedule(0.3, kind="step", warmup=str(warmup), boundaries=texts, factor=factor)
    lr = optim.schedule(spec, steps=100, steps_per_epoch=10)
    want = [plain_rate(step, 0.3, warmup, boundaries, factor) for step in range(100)]
    np.testing.assert_allclose(jax.vmap(lr)(jnp.arange(100)), want, rtol=1e-5)


def test_cosine_ends_at_zero():
    lr = optim.schedule(common.schedule(0.3, warmup="10%"), steps=100, steps_per_epoch=1)
    assert lr(10) == pytest.approx(0.3) and lr(100) == pytest.approx(0.0, abs=1e-8)


def test_groups_of_tsm():
    lrs, decays = optim.multipliers(PARAMS, classifier_lr5=True)
    assert lrs["classifier"]["action"] == {"kernel": 5.0, "bias": 10.0}
    assert lrs["layer1_0"]["conv1"] == {"kernel": 1.0, "bias": 2.0}
    assert lrs["bn1"] == {"scale": 1.0, "bias": 1.0}
    assert decays["bn1"] == {"scale": 0.0, "bias": 0.0}
    assert decays["classifier"]["action"] == {"kernel": 1.0, "bias": 0.0}
    continued, _ = optim.multipliers(PARAMS, classifier_lr5=False)
    assert continued["classifier"]["action"] == {"kernel": 1.0, "bias": 2.0}


def test_sgd_is_pytorchs():
    # g += wd * p after clipping, v = mu v + g, p -= lr * multiplier * v (PyTorch's SGD).
    config = spec(weight_decay=0.1, clip=1.0)
    tx = optim.make(config, classifier_lr5=True)
    state, params = tx.init(PARAMS), PARAMS
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    norm = np.sqrt(sum(g.size for g in jax.tree.leaves(grads)))
    kernel, v = np.full((2, 3), 0.5), np.zeros((2, 3))
    bias, vb = np.ones(2), np.zeros(2)
    for lr in (0.5, 0.05):
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, optim.scaled(updates, lr))
        v = 0.9 * v + 1 / norm + 0.1 * kernel
        kernel = kernel - lr * v
        vb = 0.9 * vb + 1 / norm
        bias = bias - lr * 10 * vb
    np.testing.assert_allclose(params["conv1"]["kernel"], kernel, rtol=1e-6)
    np.testing.assert_allclose(params["classifier"]["action"]["bias"], bias, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 1.0, 5.0])
def test_the_first_convolution_has_a_factor_of_its_own(factor):
    """Tables of the papers: TSM learns flow's five times faster; 0 leaves it as handed over."""
    updates = []
    for multiplier in (1.0, factor):
        tx = optim.make(spec(weight_decay=0.1), classifier_lr5=False, first_conv_lr=multiplier)
        updates.append(tx.update(jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS), PARAMS)[0])
    one, other = updates
    np.testing.assert_allclose(other["conv1"]["kernel"], factor * one["conv1"]["kernel"], rtol=1e-6)
    for name in set(PARAMS) - {"conv1"}:
        jax.tree.map(np.testing.assert_array_equal, one[name], other[name])


def test_each_member_of_a_shared_network_has_a_first_convolution():
    both = {"a": PARAMS, "b": PARAMS}
    tx = optim.make(spec(), classifier_lr5=True, first_conv_lr=0.0)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, both), tx.init(both), both)
    for member in updates.values():
        assert not member["conv1"]["kernel"].any() and member["layer1_0"]["conv1"]["kernel"].all()
        np.testing.assert_allclose(member["classifier"]["action"]["kernel"], 5.0, rtol=1e-6)


@pytest.mark.parametrize("bad", [dict(name="lion"), dict(groups="mine")])
def test_unknown_names_list_the_known(bad):
    with pytest.raises(ValueError, match="choose"):
        optim.make(spec(**bad), classifier_lr5=False)
