"""The only jitted training code: one step that trains every network of a segment jointly."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mmvid import network as network_lib
from mmvid import optim
from mmvid.methods.base import Method
from mmvid.network import Network, Streams, TrainState
from mmvid.prepare import prepare
from mmvid.terms import accuracy, count, reduce_terms


def _fill_absent(x: jax.Array, present: jax.Array | None) -> jax.Array:
    """Rows whose stream is absent show rows that have it, in turn: batch norm must not count black
    clips. No loss asks what comes out of them."""
    if present is None:
        return x
    rows = jnp.arange(len(present))
    first = jnp.argsort(~present, stable=True)  # the present ones
    chosen = jnp.where(present, rows, first[rows % jnp.maximum(present.sum(), 1)])
    # Where nobody is absent, nothing is copied (nor gathered from other devices).
    return jax.lax.cond(present.all(), lambda x: x, lambda x: x[chosen], x)


def _present(batch, group: str, stream: str) -> jax.Array | None:
    return batch[group].get("present", {}).get(stream)


def _gathered(batch, of, streams: Streams) -> dict:
    """The views of a pass as one batch of prepared inputs: {stream: [sum of B_g, T, H, W, C]}."""
    names = batch[of[0][0]]["inputs"][of[0][1]]

    def prepared(name, group, view):
        x = _fill_absent(batch[group]["inputs"][view][name], _present(batch, group, name))
        return prepare(streams[name], x)

    return {name: jnp.concatenate([prepared(name, *view) for view in of]) for name in names}


def _seen(network: Network, batch, of) -> jax.Array:
    """Whether every stream of a network is there in some example of every group."""
    streams = {stream for read in network.reads for stream in read}
    flags = [_present(batch, group, stream) for group, _ in of for stream in streams]
    return jnp.array([True] + [flag.any() for flag in flags if flag is not None]).all()


def _split(outputs, of, sizes) -> dict:
    """Undoes the concatenation: {(group, view): outputs}."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return {
        view: jax.tree.map(lambda x, s=start, n=size: x[s : s + n], outputs)
        for view, start, size in zip(of, starts, sizes)
    }


def _run_pass(pass_, networks, weights: dict, batch, streams, key):
    """Every network of a pass, in one forward each -> ({(group, view): outputs}, new stats)."""
    inputs = _gathered(batch, pass_.of, streams)
    sizes = [batch[group]["mask"].shape[0] for group, _ in pass_.of]
    outputs, stats = {}, {}
    for network in networks:
        network_key = jax.random.fold_in(key, zlib.crc32(network.name.encode()))
        own = weights[network.name]
        result, stats[network.name] = network_lib.forward(
            network, own["params"], own["stats"], inputs, train=pass_.train, key=network_key
        )
        outputs |= result
        # A batch without any example for this network teaches its statistics nothing either.
        seen = _seen(network, batch, pass_.of)
        stats[network.name] = jax.tree.map(
            lambda new, old, seen=seen: jnp.where(seen, new, old), stats[network.name], own["stats"]
        )
    return _split(outputs, pass_.of, sizes), stats


def _weights_of(pass_, state: TrainState, params, stats) -> dict:
    if pass_.weights == "frozen":
        return state.frozen
    if pass_.weights == "ema":
        params, stats = state.ema["params"], state.ema["stats"]
    return {name: {"params": params[name], "stats": stats[name]} for name in params}


def make_forwards(networks, streams: Streams, method: Method) -> Callable:
    """forwards(params, state, stats, batch, key) -> ({(group, view): outputs}, stats): every pass."""

    def forwards(params, state: TrainState, stats, batch, key):
        outputs: dict = {}
        for index, pass_ in enumerate(method.passes):
            chosen = [n for n in networks if n.frozen == (pass_.weights == "frozen")]
            weights = _weights_of(pass_, state, params, stats)
            pass_key = jax.random.fold_in(key, index)
            results, new_stats = _run_pass(pass_, chosen, weights, batch, streams, pass_key)
            for read, result in results.items():
                outputs[read] = outputs.get(read, {}) | result
            if pass_.train and pass_.weights == "params":
                stats = stats | new_stats
        return outputs, stats

    return forwards


def _check_taught(networks, terms: dict) -> None:
    """Raises ValueError, while the step is traced, for a classifier that would learn nothing."""
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
    """loss(params, state, stats, batch, key, counts=None) -> (loss, (stats, metrics)); the method
    is never told about networks, nor the networks about the method. ``counts`` as `terms.count`."""
    forwards = make_forwards(networks, streams, method)

    def loss_fn(params, state: TrainState, stats, batch, key, counts=None):
        outputs, stats = forwards(params, state, stats, batch, key)
        term_key = jax.random.fold_in(key, len(method.passes))
        terms = method.terms(outputs, batch, state.method, term_key)
        _check_taught(networks, terms)
        loss, metrics = reduce_terms(terms, counts)
        return loss, (stats, metrics | accuracy(outputs, batch, counts))

    return loss_fn


def make_counts(networks, streams: Streams, method: Method) -> Callable:
    """counts(state, batch, key): how many examples each mean over ``batch`` is of.

    A mask depends on the batch alone, so outputs of zeros tell; no network runs, and XLA drops the
    values of the terms.
    """
    forwards = make_forwards(networks, streams, method)

    def counts(state: TrainState, batch, key):
        shapes, _ = jax.eval_shape(forwards, state.params, state, state.stats, batch, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return count(method.terms(zeros, batch, state.method, key), zeros, batch)

    return counts


def _microbatches(batch, count: int):
    """[B, ..] -> [count, B / count, ..]; rows stay on their device (the split axis is outermost)."""
    return jax.tree.map(
        lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch
    )


def _gradients(loss_fn, counts_fn, state: TrainState, batch, key, accumulate: int):
    """Gradients, new statistics and metrics, added up over ``accumulate`` microbatches.

    Every mean is over the whole batch: a microbatch that happens to lack a modality weighs nothing.
    """
    differentiate = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulate == 1:
        (_, (stats, metrics)), grads = differentiate(state.params, state, state.stats, batch, key)
        return grads, stats, metrics
    counts = counts_fn(state, batch, key)

    def one(carry, micro):
        grads, stats, index = carry
        micro_key = jax.random.fold_in(key, index)
        (_, (stats, metrics)), new = differentiate(state.params, state, stats, micro, micro_key, counts)
        return (jax.tree.map(jnp.add, grads, new), stats, index + 1), metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (zeros, state.stats, jnp.zeros((), jnp.int32))
    (grads, stats, _), metrics = jax.lax.scan(one, start, _microbatches(batch, accumulate))
    return grads, stats, jax.tree.map(lambda m: m.sum(0), metrics)


def _moving_average(ema: dict, params, stats, decay: float) -> dict:
    if not ema:
        return ema
    new = {"params": params, "stats": stats}
    return jax.tree.map(lambda e, x: decay * e + (1 - decay) * x, ema, new)


def make_train_step(
    networks, streams: Streams, method: Method, tx: dict, lr: dict, *, accumulate: int = 1, ema: float = 0.0
) -> Callable:
    """step(state, batch) -> (state, metrics), not yet jitted.

    One backward pass through the sum of all losses, then each network's own optimiser: equal to
    separate steps where the method is ``disjoint`` (its targets are stopped). ``tx``, ``lr``:
    {network: transformation without a rate}, {network: schedule}; the rate is that of
    ``state.step``, so that no optimiser's state holds a place in a schedule. ``metrics`` are
    scalars: 'output/term', 'output/top1', 'network/grad_norm'.
    """
    loss_fn = make_loss(networks, streams, method)
    counts_fn = make_counts(networks, streams, method)

    def train_step(state: TrainState, batch):
        key = jax.random.fold_in(state.key, state.step)
        grads, stats, metrics = _gradients(loss_fn, counts_fn, state, batch, key, accumulate)
        params, opt_state = {}, {}
        for name in sorted(grads):
            updates, opt_state[name] = tx[name].update(
                grads[name], state.opt_state[name], state.params[name]
            )
            updates = optim.scaled(updates, lr[name](state.step))
            params[name] = optax.apply_updates(state.params[name], updates)
            metrics[f"{name}/grad_norm"] = optax.tree.norm(grads[name])
        state = state._replace(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt_state=opt_state,
            method=method.update(state.method, metrics),
            ema=_moving_average(state.ema, params, stats, ema),
        )
        return state, metrics

    return train_step


def jit_train_step(train_step: Callable, replicated) -> Callable:
    """The compiled step: the state is donated, but for ``frozen``, which outlives every step."""

    def split(state, frozen, batch):
        state, metrics = train_step(state._replace(frozen=frozen), batch)
        return state._replace(frozen={}), metrics

    compiled = jax.jit(split, donate_argnums=0, out_shardings=(replicated, replicated))

    def step(state: TrainState, batch):
        new, metrics = compiled(state._replace(frozen={}), state.frozen, batch)
        return new._replace(frozen=state.frozen), metrics

    return step
