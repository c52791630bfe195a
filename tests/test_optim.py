"""Durations, schedules, TSM's groups, and SGD as PyTorch defines it."""

import functools

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


FIRST, CLASSIFIER = (("conv1",),), (("classifier",),)
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
        steps=80,
        steps_per_epoch=10,
    )
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
    lrs, decays = optim.multipliers(PARAMS, fresh=CLASSIFIER)
    assert lrs["classifier"]["action"] == {"kernel": 5.0, "bias": 10.0}
    assert lrs["layer1_0"]["conv1"] == {"kernel": 1.0, "bias": 2.0}
    assert lrs["bn1"] == {"scale": 1.0, "bias": 1.0}
    assert decays["bn1"] == {"scale": 0.0, "bias": 0.0}
    assert decays["classifier"]["action"] == {"kernel": 1.0, "bias": 0.0}
    continued, _ = optim.multipliers(PARAMS)
    assert continued["classifier"]["action"] == {"kernel": 1.0, "bias": 2.0}


def test_sgd_is_pytorchs():
    # g += wd * p after clipping, v = mu v + g, p -= lr * multiplier * v (PyTorch's SGD).
    config = spec(weight_decay=0.1, clip=1.0)
    tx = optim.make(config, fresh=CLASSIFIER)
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
        tx = optim.make(spec(weight_decay=0.1), first_convolutions=FIRST, first_conv_lr=multiplier)
        updates.append(tx.update(jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS), PARAMS)[0])
    one, other = updates
    np.testing.assert_allclose(other["conv1"]["kernel"], factor * one["conv1"]["kernel"], rtol=1e-6)
    for name in set(PARAMS) - {"conv1"}:
        jax.tree.map(np.testing.assert_array_equal, one[name], other[name])


def test_each_member_of_a_shared_network_has_a_first_convolution():
    both = {"a": PARAMS, "b": PARAMS}
    first, classifiers = ([(name, *path) for name in both for path in paths] for paths in (FIRST, CLASSIFIER))
    tx = optim.make(spec(), fresh=tuple(classifiers), first_convolutions=tuple(first), first_conv_lr=0.0)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, both), tx.init(both), both)
    for member in updates.values():
        assert not member["conv1"]["kernel"].any() and member["layer1_0"]["conv1"]["kernel"].all()
        np.testing.assert_allclose(member["classifier"]["action"]["kernel"], 5.0, rtol=1e-6)


def test_linear_ends_at_zero():
    """torch's LambdaLR of the distillation code: up to the warm-up's end, then straight down."""
    lr = optim.schedule(common.schedule(0.3, kind="linear", warmup="10%"), steps=100, steps_per_epoch=1)
    want = [0.3 * (step / 10 if step < 10 else (100 - step) / 90) for step in range(101)]
    np.testing.assert_allclose(jax.vmap(lr)(jnp.arange(101)), want, rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------------------- PyTorch's formulas, in float64
def torch_adam(p, g, kept, t, *, lr, decay, decoupled):
    """torch.optim.Adam, or AdamW where ``decoupled``; ``kept``: both moments."""
    p, g = (p * (1 - lr * decay), g) if decoupled else (p, g + decay * p)
    m, v = 0.9 * kept[0] + 0.1 * g, 0.999 * kept[1] + 0.001 * g * g
    root = np.sqrt(v) / np.sqrt(1 - 0.999**t) + 1e-8
    return p - lr / (1 - 0.9**t) * m / root, (m, v)


def torch_adagrad(p, g, kept, t, *, lr, decay):
    """torch.optim.Adagrad: the sum starts at 0, eps stands outside the root."""
    g = g + decay * p
    total = kept[0] + g * g
    return p - lr * g / (np.sqrt(total) + 1e-10), (total,)


TORCH = {
    "adam": functools.partial(torch_adam, decoupled=False),
    "adamw": functools.partial(torch_adam, decoupled=True),
    "adagrad": torch_adagrad,
}


def test_slowfasts_decay_spares_norms_alone():
    """Biases of classifiers and convolutions decay, a norm's scale and bias do not; all rates are equal."""
    rates, decays = optim.normless_multipliers(PARAMS)
    assert set(jax.tree.leaves(rates)) == {1.0}
    assert decays["bn1"] == {"scale": 0.0, "bias": 0.0}
    assert {*jax.tree.leaves({name: own for name, own in decays.items() if name != "bn1"})} == {1.0}


@pytest.mark.parametrize("groups", ["all", "uniform"])
@pytest.mark.parametrize("name", TORCH)
def test_optimisers_are_pytorchs(name, groups):
    """Five steps with weight decay and a rate that changes; decay on kernels alone, or on everything."""
    with jax.enable_x64(True):
        check_against_pytorch(name, groups)


def check_against_pytorch(name, groups):
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape), PARAMS)
    tree["bn1"]["scale"][0] = 0.0
    flat = {
        jax.tree_util.keystr(path): (x, (np.zeros_like(x),) * 2)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }
    tx = optim.make(spec(name=name, weight_decay=0.1, groups=groups))
    params = jax.tree.map(jnp.asarray, tree)
    state = tx.init(params)
    for t, lr in enumerate((0.1, 0.05, 0.2, 0.1, 0.01), 1):
        grads = jax.tree.map(lambda x: rng.normal(size=x.shape), tree)
        grads["bn1"]["scale"][0] = 0.0  # what never had a gradient does not move, nor is it divided by 0
        updates, state = tx.update(jax.tree.map(jnp.asarray, grads), state, params)
        params = jax.tree.map(jnp.add, params, optim.scaled(updates, lr))
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            key = jax.tree_util.keystr(path)
            decay = 0.1 if groups == "all" or "kernel" in key else 0.0
            flat[key] = TORCH[name](flat[key][0], g, flat[key][1], t, lr=lr, decay=decay)
    assert params["bn1"]["scale"][0] == 0
    for path, found in jax.tree_util.tree_leaves_with_path(params):
        want = flat[jax.tree_util.keystr(path)][0]
        np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7, err_msg=jax.tree_util.keystr(path))


def test_an_optimisers_state_holds_no_place_in_a_schedule():
    """A run cut in three is one: only Adam counts, for its moments."""
    states = {name: optim.make(spec(name=name, clip=1.0)).init(PARAMS) for name in optim.OPTIMIZERS}
    counts = {name: [x for x in jax.tree.leaves(state) if x.ndim == 0] for name, state in states.items()}
    assert {name: len(found) for name, found in counts.items()} == {"sgd": 0, "adam": 1, "adamw": 1, "adagrad": 0}


@pytest.mark.parametrize("bad", [dict(name="lion"), dict(groups="mine")])
def test_unknown_names_list_the_known(bad):
    with pytest.raises(ValueError, match="choose"):
        optim.make(spec(**bad))
