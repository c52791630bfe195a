"""What stands in for the ImageNet weights that the papers start from: generated stills, a file of weights,
or a random draw."""

from mmvid import optim
from mmvid import streams as streams_lib
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.network import Network
from mmvid.plans import epochs, learning, method, segment
from mmvid.plans.networks import make_network, make_streams
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import STILLS, Start
from mmvid.streams import Stream


def has_stills(config) -> bool:
    """Whether the run begins with a segment that learns from generated images."""
    # Only whether it is more than nothing: the length of an epoch is not known before data are open.
    return optim.steps_of(config.stills.steps, steps_per_epoch=1.0) > 0


def _of_pictures(config, network: str, heads) -> tuple[Network, dict[str, Stream]]:
    """``network`` as it reads stills, and the stream of these.

    Raises ValueError for a network with several members: all would start from it, and be equal.
    """
    if shared := [read for read in config.networks[network].reads if len(read) > 1]:
        raise ValueError(
            f"network {network!r} cannot start from still images: its members {shared[0]} would be equal. Write "
            "--config.stills.steps=0"
        )
    # Pictures, whatever the network will read later: its first convolution is averaged then.
    one = streams_lib.Sampling("uniform", 1, 1)
    pictures = {read[0]: Stream(read[0], streams_lib.STILLS, one) for read in config.networks[network].reads}
    name = next(iter(pictures))
    built = make_network(config, network, heads, pictures)._replace(reads=((name,),))
    return built, {name: pictures[name]}


def make(context: Context, network: str, name: str = STILLS) -> Segment:
    """The segment that trains ``network`` to classify generated still images: Tabletop's stand-in for ImageNet
    weights. Of another ``name`` it draws other weights and batches. Raises ValueError for a network that cannot
    start from them."""
    config, heads = context.config, context.stills_heads
    spec = config.stills
    built, streams = _of_pictures(config, network, heads)
    groups = {epochs.MAIN: Group("train", spec.batch_size, {"train": Augment(**config.augment)}, dataset="stills")}
    steps = optim.steps_of(spec.steps, steps_per_epoch=epochs.steps(context, groups))
    # The optimiser is the network's own, the schedule the stills'; no first convolution was handed over.
    own = learning.of(config, built, fresh=built.model.classifiers)
    learnt = {network: own | {"schedule": dict(spec.schedule), "first_conv_lr": 1.0}}
    made = method.make("single", built.outputs, heads, {})
    return segment.assembled(
        context,
        name,
        (built,),
        ("single", {}),
        made,
        batches=name,
        streams=streams,
        heads=heads,
        groups=groups,
        learnt=learnt,
        steps=steps,
        data={},
        spec={"checkpoint": {"rule": "last"}},
        enter=lambda beginning, run: beginning,
        headline=built.outputs[0],
    )


def _files(config, network: str) -> dict[str, Start]:
    """{target: Start} of the files of weights that a network, or each of its parts, is given."""
    files = config.networks[network].weights
    if isinstance(files, str):
        return {network: Start(file=files)} if files else {}
    return {f"{network}.{part}": Start(file=file) for part, file in files.items()}


def given(config, networks) -> dict[str, Start]:
    """{target: Start} of the files of weights that the configuration gives ``networks``, or parts of them."""
    return {target: start for name in networks for target, start in _files(config, name).items()}


def _sees_pictures(config, name: str, heads) -> bool:
    """Whether a network's first convolutions read pictures alone, so that weights learnt from stills fit them.
    Those of sound see another plane, and boxes that are not drawn are no picture at all."""
    network = make_network(config, name, heads, made := make_streams(config))
    seen = [streams_lib.pictured(made[stream]) for read in network.reads for stream in read]
    return bool(network.model.first_convolutions) and all(seen)


def learners(context: Context, networks) -> tuple[list[str], str]:
    """Returns those of ``networks`` that can start from stills, and the one that learns these for all, as one
    ImageNet file would serve all: that of the headline where it sees pictures. [] and '' where there are none."""
    config = context.config
    seeing = [n for n in networks if has_stills(config) and _sees_pictures(config, n, context.heads)]
    if not seeing:
        return [], ""
    main = segment.headline_network(config)
    return seeing, main if _sees_pictures(config, main, context.heads) else seeing[0]


def beginnings(context: Context, networks) -> tuple[list[Segment], dict[str, Start]]:
    """Returns the segments that come before a plan's own (that of the stills, or none), and the starts that
    stand in for ImageNet weights. A file goes before stills; a network with neither, such as one of sound or
    boxes, has no start and keeps its random draw."""
    files = given(context.config, networks)
    seeing, learner = learners(context, networks)
    if not seeing:
        return [], files
    begun = {target.partition(".")[0] for target in files}
    return [make(context, learner)], {n: Start(STILLS, learner) for n in seeing if n not in begun} | files
