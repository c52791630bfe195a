"""Networks as data, the state of their training, and the forward of one network."""

import functools
import operator
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmvid import streams as streams_lib
from mmvid.methods.base import Method
from mmvid.models.model import Model, Needs, met


class Network(NamedTuple):
    """A model with a name, and the streams that it reads; each network has parameters of its own.

    ``reads`` has an entry for each forward: (('rgb',),) reads one stream, (('audio', 'rgb'),) reads two
    at once (a fusion), (('flow',), ('rgb',)) reads two in turn with the same weights. A ``frozen``
    network is a teacher and never trained.
    """

    name: str
    model: Model
    reads: tuple[tuple[str, ...], ...]
    frozen: bool = False

    @property
    def needs(self) -> dict[str, Needs]:
        """Maps the name of each output to what it needs of an example.

        An output is called as its network; 'network.part' if the model has several classifiers;
        'network.stream' if the network reads several streams in turn.
        """
        if len(self.reads) > 1:
            return {f"{self.name}.{read[0]}": Needs(read) for read in self.reads}
        found = {}
        for part, needs in self.model.outputs.items():
            name = f"{self.name}.{part}" if part else self.name
            found[name] = Needs(needs.streams or self.reads[0], needs.how)
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its classifiers."""
        return tuple(self.needs)

    @property
    def told(self) -> bool:
        """True if the model is told which streams are present and ignores absent rows itself."""
        return any(needs.how == "any" for needs in self.needs.values())


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    ``params``, ``stats`` and ``opt_state`` are keyed by network, ``frozen`` holds each teacher's
    {'params', 'stats'}, ``method`` the method's state. ``ema`` is the moving average, {'params',
    'stats'} by network, or empty if none is kept. ``key`` stays as it is: a step folds its number in.
    """

    step: jax.Array
    params: dict
    frozen: dict
    stats: dict
    opt_state: dict
    method: Any
    ema: dict
    key: jax.Array


class Beginning(NamedTuple):
    """What a segment begins with, in host arrays; a segment's ``enter`` takes one and returns one.

    ``params`` and ``stats`` are those of the networks that learn, ``frozen`` the teachers' {'params',
    'stats'}, each by network. Where the method's state, the optimisers' or the moving average is None,
    it begins afresh, from these weights. Of a segment that is resumed, ``enter`` gets the frozen networks
    alone (`of_frozen`): a checkpoint holds the rest.
    """

    params: dict
    stats: dict
    frozen: dict
    method: Any = None
    opt_state: dict | None = None
    ema: dict | None = None
    step: int = 0

    @property
    def networks(self) -> set[str]:
        """The names of the networks whose weights are there."""
        return {*self.params, *self.frozen}

    def of_frozen(self) -> "Beginning":
        """Returns a Beginning with the frozen networks alone: all that a resumed segment is entered for."""
        return Beginning({}, {}, self.frozen, step=self.step)

    def weights(self, network: str) -> tuple:
        """Returns the (params, stats) of a network, frozen or not."""
        own = self.frozen.get(network)
        return (own["params"], own["stats"]) if own else (self.params[network], self.stats[network])

    def with_weights(self, network: str, params, stats) -> "Beginning":
        """Returns the same Beginning with other weights for one network, frozen or not."""
        if network in self.frozen:
            return self._replace(frozen={**self.frozen, network: {"params": params, "stats": stats}})
        return self._replace(params={**self.params, network: params}, stats={**self.stats, network: stats})


Streams = Mapping[str, streams_lib.Stream]


def presence(networks, group: Mapping) -> dict[str, jax.Array]:
    """Tells for each output which examples of a ``group`` have what it needs: {output: bool [B]}.

    If a network ran only one of its reads (``group['one_of']``), its other outputs have no example.
    """
    found = {}
    for network in networks:
        choice = group.get("one_of", {}).get(network.name)
        for index, (output, needs) in enumerate(network.needs.items()):
            # Outputs of a network that reads in turn are in the order of its reads.
            there = met(needs, group["present"])
            found[output] = there if choice is None else there & (choice == index)
    return found


def _run_read(network: Network, index: int, params, stats, inputs, *, train, key, present):
    """Runs one of the reads of a network; arguments and result are `forward`'s."""
    read = network.reads[index]
    x = inputs[read[0]] if len(read) == 1 else {stream: inputs[stream] for stream in read}
    told = {"present": {stream: present[stream] for stream in read}} if network.told else {}
    # Without this two reads of one network would drop the same units.
    read_key = jax.random.fold_in(key, index)
    result, stats = network.model.apply(params, stats, x, train=train, key=read_key, **told)
    if len(network.reads) > 1 or "" in network.model.outputs:
        return {network.outputs[index]: result}, stats
    return {f"{network.name}.{part}": result[part] for part in network.model.outputs}, stats


def _alike(network: Network, inputs: dict) -> bool:
    """Tells if every read of a network is one stream, all of one shape, and it is not told who is present."""
    shapes = {inputs[stream].shape for read in network.reads for stream in read}
    return len(shapes) == 1 and all(len(read) == 1 for read in network.reads) and not network.told


def _run_chosen(network: Network, choice: jax.Array, params, stats, inputs, *, train, key):
    """Runs a network once, on the ``choice``-th of its reads, which are `_alike`; see `_run_one`."""
    x = jax.lax.select_n(choice, *(inputs[read[0]] for read in network.reads))
    result, stats = network.model.apply(params, stats, x, train=train, key=jax.random.fold_in(key, choice))

    def given(index):
        return jax.tree.map(lambda x: jnp.where(choice == index, x, jnp.zeros_like(x)), result)

    return {output: given(index) for index, output in enumerate(network.outputs)}, stats


def _run_one(runs, choice: jax.Array, params, stats):
    """Runs the ``choice``-th of ``runs``, each (params, stats) -> (outputs, stats).

    The outputs of the others are zeros, and no gradient flows through them.
    """
    shapes = [jax.eval_shape(run, params, stats)[0] for run in runs]

    # A switch's branches must return one structure: each fills in the outputs that it does not compute.
    def branch(run):
        def chosen(params, stats):
            zeros = [jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape) for shape in shapes]
            outputs, stats = run(params, stats)
            return functools.reduce(operator.or_, zeros) | outputs, stats

        return chosen

    # On the device, so that one compiled step serves whatever the loader draws.
    return jax.lax.switch(choice, [branch(run) for run in runs], params, stats)


def forward(
    network: Network, params, stats, inputs: dict, *, train: bool, key, present=None, choice=None, outputs=None
):
    """Runs one network on the streams it reads -> ({output: {'logits', 'features', ..}}, stats).

    ``inputs`` {stream: [B, ..]} are prepared. Only a network that is ``told`` needs ``present`` {stream:
    [B]}. ``choice`` is the index, on the device, of the one read that runs; without it all run, one
    after another, or of a network that reads in turn those that give some of ``outputs``.
    """
    # A CPU's convolutions take five times as long in a switch's branches.
    if choice is not None and _alike(network, inputs):
        return _run_chosen(network, choice, params, stats, inputs, train=train, key=key)
    alone = len(network.reads) == 1 or outputs is None
    runs = [
        functools.partial(_run_read, network, index, inputs=inputs, train=train, key=key, present=present)
        for index in range(len(network.reads))
        if alone or network.outputs[index] in outputs
    ]
    if choice is not None:
        return _run_one(runs, choice, params, stats)
    outputs = {}
    # The statistics pass through all reads, as if they were batches that follow each other.
    for run in runs:
        result, stats = run(params, stats)
        outputs |= result
    return outputs, stats


def init_params(networks, streams: Streams, size: int, key):
    """Draws weights: ({network: params}, {network: stats}), for pictures of ``size`` pixels a side.

    A network's draw depends on the key and its own name alone, not on the networks beside it.
    """
    params, stats = {}, {}
    for network in networks:
        inputs = {
            stream: jnp.zeros((1, *streams_lib.shape(streams[stream], size)))
            for stream in {stream for read in network.reads for stream in read}
        }
        # All reads share the weights, so that the first is enough to draw them.
        read = network.reads[0]
        x = inputs[read[0]] if len(read) == 1 else {stream: inputs[stream] for stream in read}
        # crc32, not hash(): Python salts the hashes of strings anew in every process.
        network_key = jax.random.fold_in(key, zlib.crc32(network.name.encode()))
        params[network.name], stats[network.name] = network.model.init(network_key, x)
    return params, stats


def make_draw(segment, size: int) -> Callable:
    """Makes draw(key) -> a segment's (params, stats) for frames of ``size`` pixels; it is not yet jitted."""
    return functools.partial(init_params, segment.networks, segment.streams, size)


def draw_weights(segment, size: int, seed: int, draw: Callable | None = None):
    """Draws a segment's initial (params, stats), as host arrays, from (``seed``, ``segment.seed``).

    ``draw`` is a jitted `make_draw`, if there is one already.
    """
    # Both seeds: segments of one run draw apart, and another run's seed changes all of them.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), segment.seed), 0)
    return jax.device_get((draw or jax.jit(make_draw(segment, size)))(key))


def beginning(networks, params: dict, stats: dict, step: int = 0) -> Beginning:
    """Makes the Beginning with these weights and nothing else; those of frozen networks are set apart."""
    frozen = {n.name: {"params": params[n.name], "stats": stats[n.name]} for n in networks if n.frozen}
    params = {name: tree for name, tree in params.items() if name not in frozen}
    stats = {name: tree for name, tree in stats.items() if name not in frozen}
    return Beginning(params, stats, frozen, step=step)


def begin(start: Beginning, method: Method, tx: dict, key, *, ema: bool = False) -> TrainState:
    """Makes the TrainState that begins with ``start``; ``ema`` asks for a moving average.

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
    """Makes the TrainState that starts from ``params`` and ``stats`` and nothing else; see `begin`."""
    return begin(beginning(networks, params, stats), method, tx, key, ema=ema)


def final_weights(state: TrainState) -> dict:
    """Returns the {'params', 'stats'} to evaluate and hand over: the moving average if one is kept."""
    return state.ema or {"params": state.params, "stats": state.stats}
