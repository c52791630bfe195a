"""Optimisers, one for each network: durations, schedules, parameter groups, clipping."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mmvid.weights.trees import Path, within

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def steps_of(duration: int | str, *, steps_per_epoch: float, total: int | None = None) -> int:
    """A duration in steps: ``900``, ``'900 steps'``, ``'30 epochs'`` or ``'10%'`` of ``total``.

    Raises ValueError where the text is none of these, or a percentage has no total.
    """
    if isinstance(duration, int) and not isinstance(duration, bool):
        return duration
    text = str(duration).strip().lower()
    try:
        if text.endswith("%"):
            if total is None:
                raise ValueError
            return round(float(text[:-1]) / 100 * total)
        number, unit = [*text.split(), "steps"][:2]
        factors = {"step": 1.0, "epoch": steps_per_epoch}
        return round(float(number) * factors[unit.rstrip("s")])
    except (ValueError, KeyError):
        raise ValueError(
            f"cannot read the duration {duration!r}: write steps (900), '30 epochs' or, "
            "inside a segment, '10%' of it"
        ) from None


def schedule(spec, *, steps: int, steps_per_epoch: float) -> Schedule:
    """The learning rate of a segment of ``steps`` as a function of its step.

    ``spec``: ``lr``; ``kind`` 'step' (times ``factor`` at each of ``boundaries``, of which equal ones
    count each), 'cosine' or 'linear' (to 0 at the segment's end) or 'constant'; ``warmup`` (a duration;
    linear from 0 to ``lr``, what drops within it drops at its end). TSM's and MML's schedules; 'linear'
    with a warm-up is multimodal distillation's (Radevski et al. 2023).
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
    return tuple(str(getattr(entry, "key", entry)) for entry in path)


def multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """TSM's parameter groups: trees like ``params`` of (learning rate, weight decay) factors.

    Kernels (1, 1), biases (2, 0), batch norm (1, 0); in ``fresh``, the classifiers that start afresh,
    kernels (5, 1) and biases (10, 0). Source: TSM's and MML's code (get_optim_policies).
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    norms = {_names(path)[:-1] for path, _ in leaves if _names(path)[-1] == "scale"}

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
    """One group: every factor 1 but weight decay 0 for biases and batch norm."""
    del fresh
    decays = jax.tree_util.tree_map_with_path(lambda p, _: float(_names(p)[-1] == "kernel"), params)
    return jax.tree.map(lambda _: 1.0, params), decays


def equal_multipliers(params, *, fresh: tuple[Path, ...] = ()):
    """PyTorch's default: one rate and one weight decay for every parameter, biases and norms too."""
    del fresh
    ones = jax.tree.map(lambda _: 1.0, params)
    return ones, ones


GROUPS = {"tsm": multipliers, "uniform": uniform_multipliers, "all": equal_multipliers}


def scaled(updates, rate):
    """The step downhill: ``updates`` times minus the learning rate, a number."""
    return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates)


def adagrad(eps: float = 1e-10) -> optax.GradientTransformation:
    """g / (sqrt(sum of all g^2 so far) + eps): torch.optim.Adagrad without its rate.

    The sum starts at 0 and ``eps`` stands outside the root; in optax.adagrad neither does.
    """

    def update(grads, total, params=None):
        total = jax.tree.map(lambda t, g: t + g * g, total, grads)
        return jax.tree.map(lambda g, t: g / (jnp.sqrt(t) + eps), grads, total), total

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad")


def _slowed(rates, layers: tuple[Path, ...], factor: float):
    """``rates`` with those of ``layers`` times ``factor``."""
    return jax.tree_util.tree_map_with_path(
        lambda path, rate: rate * factor if within(_names(path), layers) else rate, rates
    )


def make(
    spec,
    *,
    fresh: tuple[Path, ...] = (),
    first_convolutions: tuple[Path, ...] = (),
    first_conv_lr: float = 1.0,
) -> optax.GradientTransformation:
    """The optimiser of ONE network (clipping never crosses networks), but for the learning rate, by
    which `scaled` multiplies what it gives.

    ``spec``: ``name`` (one of OPTIMIZERS), ``momentum`` and ``nesterov`` (of 'sgd' alone),
    ``weight_decay``, ``clip`` (gradient norm; 0 for none), ``groups`` (one of GROUPS). As in PyTorch:
    decay joins the clipped gradient, but in 'adamw' the update; the learning rate stays outside the
    momentum. ``fresh``: the model's classifiers where they start afresh. ``first_conv_lr`` multiplies
    the rate of ``first_convolutions``: 0 freezes them, 5 is TSM's for flow. Raises ValueError for an
    unknown name or a negative factor.
    """
    if spec.name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name={spec.name!r}: choose one of {sorted(OPTIMIZERS)}")
    if spec.groups not in GROUPS:
        raise ValueError(f"optimizer.groups={spec.groups!r}: choose one of {sorted(GROUPS)}")
    if first_conv_lr < 0:
        raise ValueError(f"first_conv_lr={first_conv_lr}: give 0 (frozen) or more")

    def rates(params):
        return _slowed(GROUPS[spec.groups](params, fresh=fresh)[0], first_convolutions, first_conv_lr)

    def decayed(params):
        return jax.tree.map(bool, GROUPS[spec.groups](params, fresh=fresh)[1])

    clip = [optax.clip_by_global_norm(spec.clip)] if spec.clip else []
    decay = optax.add_decayed_weights(spec.weight_decay, mask=decayed)
    core = {
        "sgd": [decay, optax.trace(spec.momentum, nesterov=spec.nesterov)],
        "adam": [decay, optax.scale_by_adam()],
        "adamw": [optax.scale_by_adam(), decay],
        "adagrad": [decay, adagrad()],
    }[spec.name]
    grouped = optax.stateless(lambda u, _: jax.tree.map(lambda x, factor: x * factor, u, rates(u)))
    return optax.chain(*clip, *core, grouped)
