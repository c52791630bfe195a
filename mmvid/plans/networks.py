"""From the configuration to streams and networks, and what must not stand in it."""

from mmvid import streams as streams_lib
from mmvid.models import build_model, options_of
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
        streams_lib.form_of(made[name])
    return made


def make_network(
    config, name: str, heads: dict[str, Head], streams: dict[str, Stream], **overrides
) -> Network:
    """The configured network ``name`` for ``streams``, with classifiers for ``heads``.

    Raises ValueError where it reads nothing, in a way that no model has, or streams that are not
    there or differ in channels, or an option of its own is one that its model lacks.
    """
    spec = config.networks[name]
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
    channels = streams_lib.in_channels(streams[reads[0][0]])
    own = {k: v for k, v in spec.options.items() if v is not None}
    # What is said of all networks is left out where a model has no such thing.
    known = options_of(spec.model)
    common = {k: v for k, v in config.model_options.items() if v is not None and k in known}
    options = {**common, **own, **overrides}
    if len(reads[0]) > 1:
        options["members"] = reads[0]
        if len({streams[s].modality for s in reads[0]}) > 1:
            raise ValueError(f"network {name!r} shares features between modalities, {reads[0]}: give one")
    model = build_model(spec.model, heads=heads, in_channels=channels, **options)
    return Network(name, model, reads)


def check_outputs(config) -> None:
    """Raises ValueError for a stream that is read twice: two outputs would have one name."""
    owners: dict[str, str] = {}
    for name, spec in config.networks.items():
        for stream in [stream for read in spec.reads for stream in read]:
            if stream in owners:
                both = " and ".join(map(repr, dict.fromkeys((owners[stream], name))))
                raise ValueError(
                    f"the stream {stream!r} is read twice, by {both}: their outputs would have one name, and all "
                    "but the last learn nothing. Give each a stream of its own, which may be cut alike: "
                    f"c.streams.{stream}2 = common.stream(..), for one of the two to read"
                )
            owners[stream] = name


def check_streams(config) -> None:
    """Raises ValueError for a stream that nobody reads: what was to learn from it would be missed."""
    read = {stream for spec in config.networks.values() for group in spec.reads for stream in group}
    if idle := sorted(set(config.streams) - read):
        raise ValueError(
            f"the stream {idle[0]!r} is read by no network: give it one, c.networks.{idle[0]} = "
            f"common.network(MODEL, {idle[0]!r}), or take it out of c.streams"
        )
