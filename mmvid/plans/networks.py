"""Makes streams and networks from the configuration, and refuses what cannot work."""

from collections.abc import Iterable

from mmvid import streams as streams_lib
from mmvid.models import FUSION, build_model, options_of
from mmvid.network import Network
from mmvid.streams import Head, Stream


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


def make_network(
    config, name: str, heads: dict[str, Head], streams: dict[str, Stream], **overrides
) -> Network:
    """The configured network ``name`` for ``streams``, with classifiers for ``heads``. ``overrides`` are
    options of its model that go before those of the configuration.

    Raises ValueError where it reads nothing, reads streams that do not exist or differ in channels, mixes
    two ways of reading, or has an option of its own that its model lacks.
    """
    spec = config.networks[name]
    # Either streams in turn or several at once: no model does both.
    reads = tuple(tuple(read) for read in spec.reads)
    if not reads or not all(reads) or (len(reads) > 1 and any(len(read) > 1 for read in reads)):
        raise ValueError(
            f"network {name!r}: reads={reads}; write (('rgb',),) for one stream, (('flow',), ('rgb',)) for two "
            "in turn with the same weights, (('rgb', 'rgb2'),) for two at once"
        )
    if unknown := [s for read in reads for s in read if s not in streams]:
        raise ValueError(f"network {name!r} reads the stream {unknown[0]!r}; there are {sorted(streams)}")
    widths = {read[0]: streams_lib.in_channels(streams[read[0]]) for read in reads if len(read) == 1}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"network {name!r} shares its weights between streams of different channels, {widths}: "
            "give them one form, or a network each"
        )
    # All reads have as many channels as the first: it stands for them.
    channels = {stream: streams_lib.in_channels(streams[stream]) for stream in reads[0]}
    own = {k: v for k, v in spec.options.items() if v is not None}
    # What is said of all networks is left out where a model has no such thing.
    known = options_of(spec.model)
    common = {k: v for k, v in config.model_options.items() if v is not None and k in known}
    options = {**common, **own, **overrides}
    # A fusion has an encoder for each stream; every other model has one first convolution.
    if spec.model != FUSION:
        channels = channels[reads[0][0]]
    if spec.model != FUSION and len(reads[0]) > 1:
        options["members"] = reads[0]
        if len({streams[s].modality for s in reads[0]}) > 1:
            raise ValueError(f"network {name!r} shares features between modalities, {reads[0]}: give one")
    model = build_model(spec.model, heads=heads, in_channels=channels, **options)
    return Network(name, model, reads)


def configured(config) -> dict[str, Network]:
    """{output: the network that it belongs to} of all configured networks. Their classifiers are for a
    stand-in label space: use them for names and needs alone."""
    streams, heads = make_streams(config), {"any": Head(2)}
    made = [make_network(config, name, heads, streams) for name in config.networks]
    return {output: network for network in made for output in network.outputs}


# What scores hold beside the outputs themselves.
TAKEN = ("fused", "oracle", "subsets")


def check_name(kind: str, name: str) -> None:
    """Raises ValueError for a name with '.', '/' or ' + ', which separate names in 'network.part', 'output/term',
    paths and sums, and for a network called as those. ``kind`` says what is named."""
    if "." in name or "/" in name or " + " in name:
        raise ValueError(f"{kind} {name!r}: rename it; '.', '/' and ' + ' stand between names, none may hold them")
    if kind == "network" and name in TAKEN:
        raise ValueError(f"network {name!r}: rename it; tables call sums and best choices of outputs so")


def check_outputs(config, heads: Iterable[str]) -> None:
    """Raises ValueError where two outputs could have one name: a name of a network, stream or head has '.' or
    '/' in it, or a network reads a stream twice."""
    for kind, names in (("network", config.networks), ("stream", config.streams), ("head", heads)):
        for name in names:
            check_name(kind, name)
    for name, spec in config.networks.items():
        read = [stream for group in spec.reads for stream in group]
        if twice := [stream for stream in read if read.count(stream) > 1]:
            raise ValueError(
                f"network {name!r} reads the stream {twice[0]!r} twice: two of its outputs would have one name. "
                f"Give it another stream, which may be cut alike: c.streams.{twice[0]}2 = common.stream(..); a "
                "second network may well read the same one"
            )


def check_streams(config) -> None:
    """Raises ValueError for a stream that no network reads: the run would miss what was to learn from it."""
    read = {stream for spec in config.networks.values() for group in spec.reads for stream in group}
    if idle := sorted(set(config.streams) - read):
        raise ValueError(
            f"the stream {idle[0]!r} is read by no network: give it one, c.networks.{idle[0]} = "
            f"common.network(MODEL, {idle[0]!r}), or take it out of c.streams"
        )
