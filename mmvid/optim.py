"""Optimisers, one for each network, with their durations, schedules, parameter groups and clipping."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mmvid.weights.trees import Path, within

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def steps_of(duration: int | str, *, steps_per_epoch: float, total: int | None = None) -> int:
    """Reads a duration as steps: ``900``, ``'900 steps'``, ``'30 epochs'`` or ``'10%'`` of ``total``.

    Raises ValueError if the text is none of these, or a percentage has no total.
    """
    # True is an int to Python.
    if isinstance(duration, int) and not isinstance(duration, bool):
        return duration
    text = str(duration).strip().lower()
    try:
        if text.endswith("%"):
            if total is None:
                raise ValueError
            return round(float(text[:-1]) / 100 * total)
        # '900' alone means steps: the unit is the appended word where the text has none.
        number, unit = [*text.split(), "steps"][:2]
        factors = {"step": 1.0, "epoch": steps_per_epoch}
        return round(float(number) * factors[unit.rstrip("s")])
    except (ValueError, KeyError, OverflowError):
        raise ValueError(
            f"cannot read the duration {duration!r}: write steps (900), '30 epochs' or, "
            "inside a segment, '10%' of it"
        ) from None


def schedule(spec, *, steps: int, steps_per_epoch: float) -> Schedule:
    """Makes the learning rate of a segment of ``steps`` as a function of its step.

    ``spec`` has ``lr``, ``kind``, ``warmup`` and, for 'step', ``boundaries`` and ``factor``. The kind
    'step' multiplies by ``factor`` at each boundary (twice where two are equal); 'cosine' and 'linear'
    fall to 0 at the segment's end; 'constant' stays. ``warmup`` is a duration in which the rate rises
    linearly from 0 to ``lr``; a boundary within it takes effect at its end. 'step' and 'cosine' are
    TSM's and MML's schedules, 'linear' with a warm-up that of multimodal distillation (Radevski et al.
    2023). Raises ValueError for an unknown kind or a duration that cannot be read.
    """

    def count(duration):
        return steps_of(duration, steps_per_epoch=steps_per_epoch, total=steps)

    warmup = count(spec.warmup)
    if spec.kind == "cosine":
        main = optax.cosine_decay_schedule(spec.lr, max(steps - warmup, 1))
    elif spec.kind == "linear":
        main = optax.linear_schedule(spec.lr, 0.0, max(steps - warmup, 1))
    elif spec.kind == "step":
        # Boundaries count from the segment's start, the joined schedule from the warm-up's end.
        drops = Counter(max(count(b) - warmup, 0) for b in spec.boundaries)
        scales = {step: spec.factor**times for step, times in drops.items()}
        main = optax.piecewise_constant_schedule(spec.lr, scales)
    elif spec.kind == "constant":
        main = optax.constant_schedule(spec.lr)
    else:
        raise ValueError(f"schedule.kind={spec.kind!r}: choose 'step', 'cosine', 'linear' or 'constant'")
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, spec.lr, warmup), main], [warmup])


def _names(path) -> Path:
    """Turns JAX's path of a leaf into a path of names."""
    return tuple(str(getattr(entry, "key", entry)) for entry in path)


def _norms(leaves) -> set[Path]:
    """The paths of the norms among the layers of these leaves."""
    # A layer with a 'scale' is a norm; its 'bias' is called as a classifier's and must be told apart.
    return {_names(path)[:-1] for path, _ in leaves if _names(path)[-1] == "scale"}


def multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """Returns TSM's parameter groups: two trees like ``params``, factors of the learning rate and of the
    weight decay.

    Kernels have (1, 1), biases (2, 0), batch norm (1, 0). In ``fresh``, the classifiers that start
    afresh, kernels have (5, 1) and biases (10, 0). Source: TSM's and MML's code (get_optim_policies).
    """
    norms = _norms(jax.tree_util.tree_leaves_with_path(params))

    def factors(path, _):
        names = _names(path)
        if names[:-1] in norms:
            return 1.0, 0.0
        boost = 5.0 if within(names, fresh) else 1.0
        return (boost, 1.0) if names[-1] == "kernel" else (2.0 * boost, 0.0)

    both = jax.tree_util.tree_map_with_path(factors, params)
    pair = {"is_leaf": lambda x: isinstance(x, tuple)}
    return tuple(jax.tree.map(lambda f, i=i: f[i], both, **pair) for i in range(2))


def uniform_multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """Returns factors that are all 1, except weight decay 0 for biases and batch norm."""
    del fresh
    decays = jax.tree_util.tree_map_with_path(lambda p, _: float(_names(p)[-1] == "kernel"), params)
    return jax.tree.map(lambda _: 1.0, params), decays


def equal_multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """Returns factors that are all 1: PyTorch's default, which decays biases and norms too."""
    del fresh
    ones = jax.tree.map(lambda _: 1.0, params)
    return ones, ones


def normless_multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """Returns factors that are all 1, except weight decay 0 for batch norm: SlowFast's code, which decays
    biases."""
    del fresh
    norms = _norms(jax.tree_util.tree_leaves_with_path(params))
    decays = jax.tree_util.tree_map_with_path(lambda p, _: float(_names(p)[:-1] not in norms), params)
    return jax.tree.map(lambda _: 1.0, params), decays


GROUPS = {
    "tsm": multipliers,
    "uniform": uniform_multipliers,
    "all": equal_multipliers,
    "all_but_norms": normless_multipliers,
}


def scaled(updates, rate):
    """Returns ``updates`` times minus the learning rate, a number: the step downhill."""
    # In the update's type: a float32 rate would make bfloat16 updates float32.
    return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates)


def adagrad(eps: float = 1e-10) -> optax.GradientTransformation:
    """Makes the update g / (sqrt(sum of all g^2 so far) + eps): torch.optim.Adagrad without its rate.

    The sum starts at 0 and ``eps`` stands outside the root; optax.adagrad does neither.
    """

    def update(grads, total, params=None):
        total = jax.tree.map(lambda t, g: t + g * g, total, grads)
        return jax.tree.map(lambda g, t: g / (jnp.sqrt(t) + eps), grads, total), total

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad")


def _slowed(rates, layers: tuple[Path, ...], factor: float):
    """Returns ``rates`` with those of ``layers`` multiplied by ``factor``."""
    return jax.tree_util.tree_map_with_path(
        lambda path, rate: rate * factor if within(_names(path), layers) else rate, rates
    )


def make(
    spec,
    *,
    fresh: tuple[Path, ...] = (),
    first_convolutions: tuple[Path, ...] = (),
    first_conv_lr: float = 1.0,
    frozen: tuple[Path, ...] = (),
) -> optax.GradientTransformation:
    """Makes the optimiser of ONE network, so that clipping never crosses networks.

    Its updates lack the learning rate, which `scaled` multiplies in. ``spec`` has ``name`` (one of
    OPTIMIZERS), ``momentum`` and ``nesterov`` (of 'sgd' alone), ``weight_decay``, ``clip`` (the largest
    gradient norm; 0 for none) and ``groups`` (one of GROUPS). As in PyTorch, weight decay is added to
    the clipped gradient, or in 'adamw' to the update, and the learning rate stays outside the momentum.
    ``fresh`` are the model's classifiers if they start afresh. ``first_conv_lr`` multiplies the rate of
    ``first_convolutions``: 0 freezes them, 5 is TSM's for flow. The layers ``frozen`` have no rate, nor
    decay. Raises ValueError for an unknown name or a negative factor.
    """
    if spec.name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name={spec.name!r}: choose one of {sorted(OPTIMIZERS)}")
    if spec.groups not in GROUPS:
        raise ValueError(f"optimizer.groups={spec.groups!r}: choose one of {sorted(GROUPS)}")
    if first_conv_lr < 0:
        raise ValueError(f"first_conv_lr={first_conv_lr}: give 0 (frozen) or more")

    def rates(params):
        found = _slowed(GROUPS[spec.groups](params, fresh=fresh)[0], first_convolutions, first_conv_lr)
        return _slowed(found, frozen, 0.0)

    def decayed(params):
        return jax.tree.map(bool, GROUPS[spec.groups](params, fresh=fresh)[1])

    # The order is PyTorch's: the norm that is clipped is the loss's alone, without the decay.
    clip = [optax.clip_by_global_norm(spec.clip)] if spec.clip else []
    decay = optax.add_decayed_weights(spec.weight_decay, mask=decayed)
    core = {
        "sgd": [decay, optax.trace(spec.momentum, nesterov=spec.nesterov)],
        "adam": [decay, optax.scale_by_adam()],
        # Decay past Adam's denominators, so that all parameters shrink at one rate (decoupled decay).
        "adamw": [optax.scale_by_adam(), decay],
        "adagrad": [decay, adagrad()],
    }[spec.name]
    # Last: the groups' factors belong to the rate, and torch's rate multiplies momentum and decay alike.
    grouped = optax.stateless(lambda u, _: jax.tree.map(lambda x, factor: x * factor, u, rates(u)))
    return optax.chain(*clip, *core, grouped)
