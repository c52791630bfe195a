"""Networks as data, the state of their training, and one forward."""

import functools
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmvid import streams as streams_lib
from mmvid.methods.base import Method
from mmvid.models.model import Model


class Network(NamedTuple):
    """What has parameters. ``reads``: (('rgb',),) plain; (('audio', 'rgb'),) fusion;
    (('flow',), ('rgb',)) two streams, one at a time, with shared weights."""

    name: str
    model: Model
    reads: tuple[tuple[str, ...], ...]
    frozen: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Its classifiers' names: the streams that it reads alone, and what a joint model names."""
        joint = self.model.outputs or ("joint",)
        return tuple(o for read in self.reads for o in (read if len(read) == 1 else joint))


class TrainState(NamedTuple):
    """Everything that training carries. ``params``, ``stats``, ``opt_state`` and ``ema`` are keyed
    by network; ``frozen`` holds the teachers' {'params', 'stats'}; ``ema`` is empty when off."""

    step: jax.Array
    params: dict
    frozen: dict
    stats: dict
    opt_state: dict
    method: Any
    ema: dict
    key: jax.Array


class Beginning(NamedTuple):
    """What a segment begins with, as a segment's ``enter`` takes and gives it, on the host.

    ``params`` and ``stats`` are those of the networks that learn, ``frozen`` the teachers' {'params',
    'stats'}, each by network. What is None (the method's state, the optimisers', the moving average)
    begins afresh, from the weights that are here.
    """

    params: dict
    stats: dict
    frozen: dict
    method: Any = None
    opt_state: dict | None = None
    ema: dict | None = None
    step: int = 0

    def weights(self, network: str) -> tuple:
        """(params, stats) of a network, frozen or not."""
        own = self.frozen.get(network)
        return (own["params"], own["stats"]) if own else (self.params[network], self.stats[network])

    def with_weights(self, network: str, params, stats) -> "Beginning":
        """The same with other weights for one network."""
        if network in self.frozen:
            return self._replace(frozen={**self.frozen, network: {"params": params, "stats": stats}})
        return self._replace(
            params={**self.params, network: params}, stats={**self.stats, network: stats}
        )


Streams = Mapping[str, streams_lib.Stream]


def forward(network: Network, params, stats, inputs: dict, *, train: bool, key):
    """One network on the streams it reads -> ({output: {'logits', 'features', ..}}, stats)."""
    outputs = {}
    for index, read in enumerate(network.reads):
        x = inputs[read[0]] if len(read) == 1 else {stream: inputs[stream] for stream in read}
        read_key = jax.random.fold_in(key, index)
        result, stats = network.model.apply(params, stats, x, train=train, key=read_key)
        outputs |= {read[0]: result} if len(read) == 1 else result
    return outputs, stats


def init_params(networks, streams: Streams, size: int, key):
    """({network: params}, {network: stats}); pictures are ``size`` pixels a side.

    A network's draw depends on the key and its own name alone, not on its neighbours.
    """
    params, stats = {}, {}
    for network in networks:
        inputs = {
            stream: jnp.zeros((1, *streams_lib.shape(streams[stream], size)))
            for stream in {stream for read in network.reads for stream in read}
        }
        read = network.reads[0]
        x = inputs[read[0]] if len(read) == 1 else {stream: inputs[stream] for stream in read}
        network_key = jax.random.fold_in(key, zlib.crc32(network.name.encode()))
        params[network.name], stats[network.name] = network.model.init(network_key, x)
    return params, stats


def draw_weights(segment, size: int, seed: int, **jit_options):
    """A segment's initial (params, stats), host arrays: a draw from (``seed``, ``segment.seed``)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), segment.seed), 0)
    draw = functools.partial(init_params, segment.networks, segment.streams, size)
    return jax.device_get(jax.jit(draw, **jit_options)(key))


def beginning(networks, params: dict, stats: dict, step: int = 0) -> Beginning:
    """The Beginning with these weights and nothing else; frozen networks get their own place."""
    frozen = {n.name: {"params": params[n.name], "stats": stats[n.name]}
              for n in networks if n.frozen}  # fmt: skip
    params = {name: tree for name, tree in params.items() if name not in frozen}
    stats = {name: tree for name, tree in stats.items() if name not in frozen}
    return Beginning(params, stats, frozen, step=step)


def begin(start: Beginning, method: Method, tx: dict, key, *, ema: bool = False) -> TrainState:
    """The TrainState that begins with ``start``; ``ema``: whether a moving average is kept.

    Call it inside ``jax.jit``, so that no buffer is shared with what is donated later.
    """
    params, stats, opt_state, average = start.params, start.stats, start.opt_state, start.ema
    if opt_state is None:
        opt_state = {name: tx[name].init(params[name]) for name in params}
    if average is None:
        # A copy: the same buffer at two leaves of a donated state is an error.
        average = jax.tree.map(jnp.copy, {"params": params, "stats": stats}) if ema else {}
    return TrainState(
        step=jnp.asarray(start.step, jnp.int32),
        params=params,
        frozen=start.frozen,
        stats=stats,
        opt_state=opt_state,
        method=method.init() if start.method is None else start.method,
        ema=average,
        key=key,
    )


def init_state(networks, params: dict, stats: dict, method: Method, tx: dict, key, *, ema=False):
    """A TrainState that starts from ``params`` and ``stats`` and nothing else, as `begin`."""
    return begin(beginning(networks, params, stats), method, tx, key, ema=ema)


def final_weights(state: TrainState) -> dict:
    """{'params', 'stats'} to evaluate and hand over: the moving average where there is one."""
    return state.ema or {"params": state.params, "stats": state.stats}
