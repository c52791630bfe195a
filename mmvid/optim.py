"""Optimisers, one for each network: durations, schedules, parameter groups, clipping."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mmvid.weights.names_resnet import first_convolutions

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
    count each), 'cosine' (to 0) or 'constant'; ``warmup`` (a duration; linear from 0 to ``lr``, what
    drops within it drops at its end). TSM's and MML's schedules.
    """

    def count(duration):
        return steps_of(duration, steps_per_epoch=steps_per_epoch, total=steps)

    warmup = count(spec.warmup)
    if spec.kind == "cosine":
        main = optax.cosine_decay_schedule(spec.lr, max(steps - warmup, 1))
    elif spec.kind == "step":
        # Boundaries count from the segment's start, the joined schedule from the warm-up's end.
        drops = Counter(max(count(b) - warmup, 0) for b in spec.boundaries)
        scales = {step: spec.factor**times for step, times in drops.items()}
        main = optax.piecewise_constant_schedule(spec.lr, scales)
    elif spec.kind == "constant":
        main = optax.constant_schedule(spec.lr)
    else:
        raise ValueError(f"schedule.kind={spec.kind!r}: choose 'step', 'cosine' or 'constant'")
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, spec.lr, warmup), main], [warmup])


def _names(path) -> list[str]:
    return [str(getattr(entry, "key", entry)) for entry in path]


def multipliers(params, *, classifier_lr5: bool):
    """TSM's parameter groups: trees like ``params`` of (learning rate, weight decay) factors.

    Kernels (1, 1), biases (2, 0), batch norm (1, 0); the classifier's kernel (5, 1) and bias
    (10, 0) where ``classifier_lr5`` (a classifier that starts afresh), else (1, 1) and (2, 0).
    Source: TSM's and MML's code (get_optim_policies).
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    norms = {tuple(_names(path)[:-1]) for path, _ in leaves if _names(path)[-1] == "scale"}

    def factors(path, _):
        names = _names(path)
        if tuple(names[:-1]) in norms:
            return 1.0, 0.0
        boost = 5.0 if classifier_lr5 and "classifier" in names else 1.0
        return (boost, 1.0) if names[-1] == "kernel" else (2.0 * boost, 0.0)

    both = jax.tree_util.tree_map_with_path(factors, params)
    pair = {"is_leaf": lambda x: isinstance(x, tuple)}
    return tuple(jax.tree.map(lambda f, i=i: f[i], both, **pair) for i in range(2))


def uniform_multipliers(params, *, classifier_lr5: bool = False):
    """One group: every factor 1 but weight decay 0 for biases and batch norm."""
    del classifier_lr5
    decays = jax.tree_util.tree_map_with_path(lambda p, _: float(_names(p)[-1] == "kernel"), params)
    return jax.tree.map(lambda _: 1.0, params), decays


GROUPS = {"tsm": multipliers, "uniform": uniform_multipliers}


def scaled(updates, rate):
    """The step downhill: ``updates`` times minus the learning rate, a number."""
    return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates)


def _first_conv(rates, factor: float):
    """``rates`` with those of the first convolution (of each member) times ``factor``."""
    first = first_convolutions(rates)
    return jax.tree_util.tree_map_with_path(
        lambda path, rate: rate * factor if tuple(_names(path)[:-1]) in first else rate, rates
    )


def make(
    spec, *, classifier_lr5: bool, first_conv_lr: float = 1.0
) -> optax.GradientTransformation:
    """The optimiser of ONE network (clipping never crosses networks), but for the learning rate, by
    which `scaled` multiplies what it gives.

    ``spec``: ``name`` 'sgd' or 'adamw', ``momentum`` and ``nesterov`` (of 'sgd' alone),
    ``weight_decay``, ``clip`` (gradient norm; 0 for none), ``groups`` 'tsm' or 'uniform'. SGD as in
    PyTorch: decay joins the clipped gradient, the learning rate stays outside the momentum.
    ``first_conv_lr`` multiplies the first convolution's rate: 0 freezes it, 5 is TSM's for flow.
    Raises ValueError for an unknown name or a negative factor.
    """
    if spec.groups not in GROUPS:
        raise ValueError(f"optimizer.groups={spec.groups!r}: choose one of {sorted(GROUPS)}")
    if first_conv_lr < 0:
        raise ValueError(f"first_conv_lr={first_conv_lr}: give 0 (frozen) or more")
    choose = GROUPS[spec.groups]

    def factors(params):
        rates, decays = choose(params, classifier_lr5=classifier_lr5)
        return _first_conv(rates, first_conv_lr), decays

    def decay_mask(params):
        return jax.tree.map(bool, factors(params)[1])

    clip = [optax.clip_by_global_norm(spec.clip)] if spec.clip else []
    decay = optax.add_decayed_weights(spec.weight_decay, mask=decay_mask)
    tail = optax.stateless(lambda u, _: jax.tree.map(lambda x, f: x * f, u, factors(u)[0]))
    if spec.name == "sgd":
        return optax.chain(*clip, decay, optax.trace(spec.momentum, nesterov=spec.nesterov), tail)
    if spec.name == "adamw":
        return optax.chain(*clip, optax.scale_by_adam(), decay, tail)
    raise ValueError(f"optimizer.name={spec.name!r}: choose 'sgd' or 'adamw'")
