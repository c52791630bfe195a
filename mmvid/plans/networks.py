"""Makes streams and networks from the configuration, and refuses what cannot work."""

from collections.abc import Iterable

import jax
import numpy as np

from mmvid import names as names_lib
from mmvid import streams as streams_lib
from mmvid.models import FUSION, MODELS, build_model, options_of
from mmvid.models.model import Model
from mmvid.network import Network
from mmvid.streams import Head, Stream

# Pixels a side that are one of the last map's.
STRIDE = 32


def make_streams(config) -> dict[str, Stream]:
    """The configured streams by name. Raises ValueError for an unknown modality, form or sampling."""
    made = {}
    for name, spec in config.streams.items():
        if spec.sampling.kind not in streams_lib.SAMPLINGS or spec.sampling.frames < 1:
            raise ValueError(
                f"streams.{name}.sampling: kind={spec.sampling.kind!r} is one of {streams_lib.SAMPLINGS}, "
                f"frames={spec.sampling.frames} is 1 or more"
            )
        sampling = streams_lib.Sampling(**spec.sampling)
        made[name] = Stream(name, spec.modality, sampling, spec.form, spec.geometry)
        # Asked for its error alone, which names a modality or form that does not exist.
        streams_lib.form_of(made[name])
    return made


def _check_reads(name: str, reads: tuple, streams: dict[str, Stream]) -> None:
    """Raises ValueError for a network that reads nothing, mixes two ways of reading, or reads streams that do not
    exist."""
    # Either streams in turn or several at once: no model does both.
    if not reads or not all(reads) or (len(reads) > 1 and any(len(read) > 1 for read in reads)):
        raise ValueError(
            f"network {name!r}: reads={reads}; write (('rgb',),) for one stream, (('flow',), ('rgb',)) for two "
            "in turn with the same weights, (('rgb', 'rgb2'),) for two at once"
        )
    if unknown := [s for read in reads for s in read if s not in streams]:
        raise ValueError(f"network {name!r} reads the stream {unknown[0]!r}; there are {sorted(streams)}")


def _check_in_turn(config, name: str, reads: tuple, streams: dict[str, Stream], model: Model) -> None:
    """Raises ValueError where a network reads streams in turn that cannot share its weights: their shapes differ
    in more than time, or in time where the model has weights for each moment."""
    seen = [streams[read[0]] for read in reads]
    shapes = {stream.name: streams_lib.shape(stream, config.size) for stream in seen}
    moment = [stream._replace(sampling=stream.sampling._replace(frames=1)) for stream in seen]
    alike = len({streams_lib.shape(stream, config.size) for stream in moment}) == 1
    if alike and len(set(shapes.values())) > 1:
        clips = [jax.ShapeDtypeStruct((1, *shape), np.float32) for shape in shapes.values()]
        trees = [jax.eval_shape(model.init, jax.random.key(0), clip) for clip in clips]
        alike = all(tree == trees[0] for tree in trees)
    if not alike:
        raise ValueError(
            f"network {name!r} shares its weights between streams of different shapes, {shapes}: give them one "
            "form and as many frames, or a network each"
        )


def _options(config, spec, overrides: dict) -> dict:
    """The options of a network's model: those of the run that the model knows, its own, and ``overrides``."""
    own = {k: v for k, v in spec.options.items() if v is not None}
    # What is said of all networks is left out where a model has no such thing.
    known = options_of(spec.model)
    common = {k: v for k, v in config.model_options.items() if v is not None and k in known}
    # Larger maps than those of training are classified window by window (SlowFast's head).
    window = {"window": -(-config.size // STRIDE)} if "window" in MODELS.get(spec.model, {}) else {}
    return {**window, **common, **own, **overrides}


def make_network(config, name: str, heads: dict[str, Head], streams: dict[str, Stream], **overrides) -> Network:
    """The configured network ``name`` for ``streams``, with classifiers for ``heads``. ``overrides`` are
    options of its model that go before those of the configuration.

    Raises ValueError where it reads nothing, reads streams that do not exist or whose shapes differ, mixes
    two ways of reading, or has an option of its own that its model lacks.
    """
    spec = config.networks[name]
    reads = tuple(tuple(read) for read in spec.reads)
    _check_reads(name, reads, streams)
    # All reads have as many channels as the first (or are refused below): it stands for them.
    channels = {stream: streams_lib.in_channels(streams[stream]) for stream in reads[0]}
    options = _options(config, spec, overrides)
    # A fusion has an encoder for each stream; every other model has one first convolution.
    if spec.model != FUSION:
        channels = channels[reads[0][0]]
    if spec.model != FUSION and len(reads[0]) > 1:
        options["members"] = reads[0]
        if len({streams[s].modality for s in reads[0]}) > 1:
            raise ValueError(f"network {name!r} shares features between modalities, {reads[0]}: give one")
    model = build_model(spec.model, heads=heads, in_channels=channels, **options)
    if len(reads) > 1:
        _check_in_turn(config, name, reads, streams, model)
    return Network(name, model, reads)


def configured(config) -> dict[str, Network]:
    """{output: the network that it belongs to} of all configured networks. Their classifiers are for a
    stand-in label space: use them for names and needs alone."""
    streams, heads = make_streams(config), {"any": Head(2)}
    made = [make_network(config, name, heads, streams) for name in config.networks]
    return {output: network for network in made for output in network.outputs}


def check_outputs(config, heads: Iterable[str]) -> None:
    """Raises ValueError where two outputs could have one name: that of a network, stream or head is none
    (`names.check`), or a network reads a stream twice."""
    for kind, names in (("network", config.networks), ("stream", config.streams), ("head", heads)):
        for name in names:
            names_lib.check(kind, name)
    for name, spec in config.networks.items():
        read = [stream for together in spec.reads for stream in together]
        if twice := [stream for stream in read if read.count(stream) > 1]:
            raise ValueError(
                f"network {name!r} reads the stream {twice[0]!r} twice: two of its outputs would have one name. "
                f"Give it another stream, which may be cut alike: c.streams.{twice[0]}2 = common.stream(..); a "
                "second network may well read the same one"
            )


def check_streams(config) -> None:
    """Raises ValueError for a stream that no network reads: the run would miss what was to learn from it."""
    read = {stream for spec in config.networks.values() for together in spec.reads for stream in together}
    if idle := sorted(set(config.streams) - read):
        raise ValueError(
            f"the stream {idle[0]!r} is read by no network: give it one, c.networks.{idle[0]} = "
            f"common.network(MODEL, {idle[0]!r}), or take it out of c.streams"
        )
