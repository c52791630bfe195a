"""What it takes to let a trained network say something of a clip: parameters, multiply-adds, time and memory; and
what has to be computed of the pictures for it."""

import functools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmvid import flops
from mmvid import network as network_lib
from mmvid import streams as streams_lib
from mmvid.data import augment, fields, sampling
from mmvid.data.media import record
from mmvid.flops import Products
from mmvid.network import Network, Streams
from mmvid.plans.segment import Segment
from mmvid.run import feed
from mmvid.run.build import Run

# Seconds that are spent on timing one network.
SECONDS = 3.0
# Pairs of frames that are timed in place of all: they are computed so many at a time.
SOME = 8
# Frames of a clip that is long enough for streams to read no frame twice.
_LONG = 1000


class Effort(NamedTuple):
    """What a network takes for one view of a clip; ``milliseconds`` and ``peak``, the bytes of memory in use at
    once, are None where nothing was run."""

    name: str
    reads: tuple[str, ...]
    parameters: int
    products: Products
    milliseconds: float | None = None
    peak: int | None = None


class Computed(NamedTuple):
    """What is computed from pictures before networks see a view of a clip: ``pairs`` of frames of ``height`` x
    ``width`` pixels, by the method ``how``, in ``milliseconds`` (None where nothing was run)."""

    how: str
    pairs: int
    height: int
    width: int
    milliseconds: float | None = None


class Pipeline(NamedTuple):
    """Networks that run one after another on a view of a clip, and what has to be ``computed`` for them."""

    name: str
    efforts: tuple[Effort, ...]
    computed: Computed | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The streams that its networks read, each once."""
        return tuple(dict.fromkeys(stream for effort in self.efforts for stream in effort.reads))

    @property
    def parameters(self) -> int:
        """The parameters of all of its networks."""
        return sum(effort.parameters for effort in self.efforts)

    @property
    def products(self) -> Products:
        """The multiply-adds of its networks; what is computed for them is no network's."""
        return flops.add(effort.products for effort in self.efforts)

    @property
    def milliseconds(self) -> float | None:
        """The time of all that it does; None where nothing was run."""
        parts = [part.milliseconds for part in (*self.efforts, self.computed) if part]
        return None if None in parts else sum(parts)

    @property
    def peak(self) -> int | None:
        """The bytes of the network that takes the most; None where nothing was run."""
        parts = [effort.peak for effort in self.efforts]
        return None if None in parts else max(parts)


def shown(run: Run, segment: Segment) -> tuple[streams_lib.Views, int, int]:
    """How a segment's clips are cut at test, into how many views, and the side of their pictures."""
    spec, info = run.config.evaluation, run.datasets[segment.dataset].info
    views = feed.views(run, spec.protocol, spec.crops)
    clips = max(len(sampling.test_indices(_LONG, stream, views)) for stream in segment.streams.values())
    windows, side = augment.test_windows(info.height, info.width, run.config.size, views)
    return views, clips * len(windows), side


# ---------------------------------------------------------------------------- networks
def parameters(tree) -> int:
    """The number of parameters in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(network: Network, streams: Streams, side: int) -> Callable:
    """Returns draw(key) -> a network's (params, stats), for pictures of ``side`` pixels a side."""

    def draw(key):
        params, stats = network_lib.init_params((network,), streams, side, key)
        return params[network.name], stats[network.name]

    return draw


def _inputs(network: Network, streams: Streams, side: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of one view of a clip, as a network sees it: {stream: [1, ..]}."""
    read = dict.fromkeys(stream for together in network.reads for stream in together)
    return {s: jax.ShapeDtypeStruct((1, *streams_lib.shape(streams[s], side)), jnp.float32) for s in read}


def _logits(network: Network) -> Callable:
    """Returns run((params, stats), inputs) -> the logits of every output, in evaluation mode."""

    def run(weights, inputs):
        present = {stream: jnp.ones(len(x), bool) for stream, x in inputs.items()}
        key = jax.random.key(0)
        outputs, _ = network_lib.forward(network, *weights, inputs, train=False, key=key, present=present)
        return {name: result["logits"] for name, result in outputs.items()}

    return run


def counted(network: Network, streams: Streams, side: int) -> Effort:
    """Counts a network's parameters and multiply-adds for one view, of ``side`` pixels a side. Nothing is
    allocated: the shapes of its weights are enough."""
    weights = jax.eval_shape(drawn(network, streams, side), jax.random.key(0))
    inputs = _inputs(network, streams, side)
    products = flops.count(_logits(network), weights, inputs)
    return Effort(network.name, tuple(inputs), parameters(weights[0]), products)


def measured(network: Network, streams: Streams, side: int) -> Effort:
    """Counts as `counted` does, and runs the network, with drawn weights, on one view at a time."""
    weights = jax.jit(drawn(network, streams, side))(jax.random.key(0))
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _inputs(network, streams, side))
    program = jax.jit(_logits(network)).lower(weights, inputs).compile()
    taken = milliseconds(lambda: jax.block_until_ready(program(weights, inputs)))
    return counted(network, streams, side)._replace(milliseconds=taken, peak=peak(program))


def peak(program) -> int | None:
    """The bytes that a compiled program has in use at once: arguments, results and what lies between, by the
    compiler's own account; None where it gives none."""
    memory = program.memory_analysis()
    if memory is None:
        return None
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return used - memory.alias_size_in_bytes


def milliseconds(once: Callable[[], object]) -> float:
    """The median time of ``once()``, which waits for its result; of `SECONDS` in all, and at least three calls."""
    once()  # what is made at the first call alone does not count
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 50):
        begun = time.perf_counter()
        once()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def shares(efforts: Sequence[Effort]) -> dict[str, float]:
    """{network: its share of the multiply-adds of all}. A backward pass costs each network twice the forward one:
    these are its shares of a training step as well, where all see equally many clips."""
    whole = sum(effort.products.total for effort in efforts)
    return {effort.name: effort.products.total / whole for effort in efforts}


def said(shared: dict[str, float]) -> str:
    """Shares in words: 'rgb 80.1 %, fast 19.9 %'."""
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shared.items())


# ---------------------------------------------------------------------------- what they are given
def _pairs(streams: Iterable[streams_lib.Stream], views: streams_lib.Views) -> int:
    """The pairs of frames of which one view of a clip needs something computed: those that any of the ``streams``
    reads."""
    read: set[int] = set()
    for stream in streams:
        anchors = sampling.test_indices(_LONG, stream, views)[0]
        read.update(sampling.stacked(anchors, streams_lib.stack_length(stream), _LONG).ravel().tolist())
    return len(read)


def computed(
    networks: Sequence[Network], streams: Streams, views: streams_lib.Views, info, *, run: bool
) -> Computed | None:
    """What has to be computed of a view, as the dataset of ``info`` did it, for ``networks`` to read it; None
    where they read nothing that is computed. Where ``run``, it is computed of pictures of noise, and timed."""
    read = {stream for network in networks for together in network.reads for stream in together}
    own = [s for s in streams.values() if s.name in read and _is_computed(s)]
    if not own:
        return None
    made = Computed(record.how_computed(info.settings), _pairs(own, views), info.height, info.width)
    if not run:
        return made
    some = min(made.pairs, SOME)
    frames = np.random.default_rng(0).integers(0, 256, (some + 1, made.height, made.width, 3), dtype=np.uint8)
    taken = milliseconds(functools.partial(record.computed, frames, made.how))
    return made._replace(milliseconds=taken * made.pairs / some)


def _is_computed(stream: streams_lib.Stream) -> bool:
    return fields.FIELDS[streams_lib.MODALITIES[stream.modality].field].computed
