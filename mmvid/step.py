"""The only jitted training code: one step that trains every network of a segment jointly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mmvid import optim, passes
from mmvid.methods.base import Method, keep_state
from mmvid.network import Streams, TrainState
from mmvid.terms import accuracy, count, reduce_terms


def _check_taught(networks, terms: dict) -> None:
    """Raises ValueError, while the step is traced, for a classifier that no term is about."""
    # Names alone decide it, so that the compiled step pays nothing for the check.
    taught = {output for term in terms.values() for output in term.outputs}
    for network in networks:
        idle = [output for output in network.outputs if output not in taught]
        if idle and not network.frozen:
            raise ValueError(
                f"the output {idle[0]!r} of network {network.name!r} would learn nothing: no term of the "
                f"method is about it ({sorted(terms)} are about {sorted(taught)}). Leave that network "
                "out, or give the method a term for it"
            )


def make_loss(networks, streams: Streams, method: Method) -> Callable:
    """Makes loss(params, state, stats, batch, key, counts=None) -> (loss, (stats, metrics, outputs)).

    The method learns nothing of the networks, nor they of it. ``counts`` are `terms.count`'s.
    ``outputs`` are those of `passes.make_forwards`, or {} if the method's state does not follow them.
    """
    forwards = passes.make_forwards(networks, streams, method)
    # Outputs hold feature maps: where no state follows them, microbatches have none to stack.
    followed = method.update is not keep_state

    def loss_fn(params, state: TrainState, stats, batch, key, counts=None):
        outputs, stats = forwards(params, state, stats, batch, key)
        batch = passes.with_presence(networks, method.passes, batch)
        # The passes have taken 0 to len - 1 (passes.py).
        term_key = jax.random.fold_in(key, len(method.passes))
        terms = method.terms(outputs, batch, state.method, term_key)
        _check_taught(networks, terms)
        loss, metrics = reduce_terms(terms, counts)
        metrics |= accuracy(outputs, batch, counts)
        return loss, (stats, metrics, outputs if followed else {})

    return loss_fn


def make_counts(networks, streams: Streams, method: Method) -> Callable:
    """Makes counts(state, batch, key): the number of examples behind each mean over ``batch``.

    Masks depend on the batch alone, so the terms are computed for outputs of zeros: no network runs, and
    XLA drops the terms' values.
    """
    forwards = passes.make_forwards(networks, streams, method)

    def counts(state: TrainState, batch, key):
        shapes, _ = jax.eval_shape(forwards, state.params, state, state.stats, batch, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        batch = passes.with_presence(networks, method.passes, batch)
        return count(method.terms(zeros, batch, state.method, key), zeros, batch)

    return counts


def _microbatches(batch, count: int):
    """Cuts a batch into microbatches: [B, ..] -> [count, B / count, ..]; numbers are repeated in each.

    Microbatch i takes every ``count``-th row from i on, so that a device's rows, which are consecutive,
    stay on that device.
    """

    def parts(x):
        if not x.ndim:
            return jnp.broadcast_to(x, (count,))
        return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(parts, batch)


def _whole(parts):
    """Undoes `_microbatches` for arrays of rows, [count, B / count, ..] -> [B, ..]."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)


def _gradients(loss_fn, counts_fn, state: TrainState, batch, key, accumulate: int):
    """Computes gradients, new statistics, metrics and outputs in ``accumulate`` microbatches.

    Every mean is over the whole batch, so that a microbatch that happens to lack a modality adds
    nothing to that modality's loss.
    """
    differentiate = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulate == 1:
        (_, found), grads = differentiate(state.params, state, state.stats, batch, key)
        return grads, *found
    # Counted first: each part divides by the whole batch's counts, so that parts simply add up.
    counts = counts_fn(state, batch, key)

    def one(carry, micro):
        grads, stats, index = carry
        micro_key = jax.random.fold_in(key, index)
        (_, (stats, metrics, outputs)), new = differentiate(state.params, state, stats, micro, micro_key, counts)
        return (jax.tree.map(jnp.add, grads, new), stats, index + 1), (metrics, outputs)

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (zeros, state.stats, jnp.zeros((), jnp.int32))
    (grads, stats, _), (metrics, outputs) = jax.lax.scan(one, start, _microbatches(batch, accumulate))
    return grads, stats, jax.tree.map(lambda m: m.sum(0), metrics), _whole(outputs)


def _moving_average(ema: dict, params, stats, decay: float) -> dict:
    """Returns ``decay`` old + (1 - ``decay``) new, or {} if no average is kept."""
    # Statistics are averaged along: averaged weights do not go with the last weights' statistics.
    if not ema:
        return ema
    new = {"params": params, "stats": stats}
    return jax.tree.map(lambda e, x: decay * e + (1 - decay) * x, ema, new)


def make_train_step(
    networks, streams: Streams, method: Method, tx: dict, lr: dict, *, accumulate: int = 1, ema: float = 0.0
) -> Callable:
    """Makes step(state, batch) -> (state, metrics), not yet jitted.

    A step is one backward pass through the sum of all losses, then each network's own optimiser. It
    equals separate steps of the networks if the method is ``disjoint`` (its targets are stopped).
    ``tx`` {network: transformation without a rate} and ``lr`` {network: schedule} are `optim`'s; the
    rate is that of ``state.step``, so that no optimiser's state holds a place in a schedule.
    ``accumulate`` is the number of microbatches, ``ema`` the moving average's decay. ``metrics`` are
    scalars: 'output/term', 'output/top1', 'network/grad_norm', and 'output/shown' of a network that ran
    one of its reads, where 0 says that nothing of that output is to be logged.
    """
    loss_fn = make_loss(networks, streams, method)
    counts_fn = make_counts(networks, streams, method)
    encoders = {n.name: n.model.encoders for n in networks if not n.frozen}

    def train_step(state: TrainState, batch):
        # A step's key depends on its number alone: a run that is resumed draws what it would have drawn.
        key = jax.random.fold_in(state.key, state.step)
        grads, stats, metrics, outputs = _gradients(loss_fn, counts_fn, state, batch, key, accumulate)
        if method.gradients is not None:
            grads = method.gradients(grads, encoders, state.method, metrics)
        params, opt_state = {}, {}
        for name in sorted(grads):
            updates, opt_state[name] = tx[name].update(grads[name], state.opt_state[name], state.params[name])
            updates = optim.scaled(updates, lr[name](state.step))
            params[name] = optax.apply_updates(state.params[name], updates)
            # The norm before clipping, which tx does.
            metrics[f"{name}/grad_norm"] = optax.tree.norm(grads[name])
        metrics |= passes.which_ran(networks, method.passes, batch)
        seen = passes.with_presence(networks, method.passes, batch)
        state = state._replace(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt_state=opt_state,
            method=method.update(state.method, metrics, outputs, seen),
            ema=_moving_average(state.ema, params, stats, ema),
        )
        return state, metrics

    return train_step


def jit_train_step(train_step: Callable, replicated, state=None) -> Callable:
    """Compiles the step. It donates the state, except ``frozen``, which outlives every step.

    ``replicated`` is the sharding of the metrics, and of the new state where the ``state`` that it will be given
    is not known; else that one's shardings are kept.
    """
    kept = replicated if state is None else jax.tree.map(lambda x: x.sharding, state._replace(frozen={}))

    # Teachers are an argument of their own, as jit donates whole arguments only.
    def split(state, frozen, batch):
        state, metrics = train_step(state._replace(frozen=frozen), batch)
        return state._replace(frozen={}), metrics

    compiled = jax.jit(split, donate_argnums=0, out_shardings=(kept, replicated))

    def step(state: TrainState, batch):
        new, metrics = compiled(state._replace(frozen={}), state.frozen, batch)
        return new._replace(frozen=state.frozen), metrics

    return step
