"""What stands in for the ImageNet weights that the papers start from: generated stills, a file of weights,
or a random draw."""

import zlib

from mmvid import optim
from mmvid import streams as streams_lib
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.plans import keys, learning, segment
from mmvid.plans import starts as starts_lib
from mmvid.plans.networks import make_network
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import STILLS, Start
from mmvid.streams import Stream


def has_stills(config) -> bool:
    """Whether the run begins with a segment that learns from generated images."""
    # Only whether it is more than nothing: the length of an epoch is not known before data are open.
    return optim.steps_of(config.stills.steps, steps_per_epoch=1.0) > 0


def make(context: Context, network: str) -> Segment:
    """The segment that trains ``network`` to classify generated still images: Tabletop's stand-in for ImageNet
    weights.

    Raises ValueError for a network with several members: all would start from it, and be equal.
    """
    config, heads = context.config, context.stills_heads
    spec = config.stills
    if shared := [read for read in config.networks[network].reads if len(read) > 1]:
        raise ValueError(
            f"network {network!r} cannot start from still images: its members {shared[0]} would be equal. Write "
            "--config.stills.steps=0"
        )
    # Pictures, whatever the network will read later: its first convolution is averaged then.
    one = streams_lib.Sampling("uniform", 1, 1)
    streams = {read[0]: Stream(read[0], streams_lib.STILLS, one) for read in config.networks[network].reads}
    name = next(iter(streams))
    built = make_network(config, network, heads, streams)._replace(reads=((name,),))
    groups = {"main": Group("train", spec.batch_size, {"train": Augment(**config.augment)}, dataset="stills")}
    per_epoch = segment.epoch_steps(context, groups)
    steps = optim.steps_of(spec.steps, steps_per_epoch=per_epoch)
    # The optimiser is the network's own, the schedule the stills'; no first convolution was handed over.
    own = learning.of(config, built, fresh=built.model.classifiers)
    learnt = {network: own | {"schedule": dict(spec.schedule), "first_conv_lr": 1.0}}
    tx, lr = learning.make(learnt, steps=steps, steps_per_epoch=per_epoch)
    seed = zlib.crc32(f"{config.seed}/stills".encode())
    return Segment(
        name=STILLS,
        steps=steps,
        networks=(built,),
        streams={name: streams[name]},
        heads=heads,
        method=segment.make_method("single", built.outputs, heads, {}),
        tx=tx,
        lr=lr,
        groups=groups,
        steps_per_epoch=per_epoch,
        enter=lambda beginning, run: beginning,
        leave=starts_lib.keep_weights((built,), heads),
        seed=seed,
        headline=built.outputs[0],
        spec=keys.spec(
            config, (built,),
            program={"streams": streams, "heads": heads, "method": ("single", {}), "learning": learnt,
                     "schedule_steps": steps, "steps_per_epoch": per_epoch},
            data={"salt": seed, **keys.of_groups(config, groups, context.fingerprints)},
            steps=steps, first_step=0, checkpoint={"rule": "last"},
        ),
    )  # fmt: skip


def _files(config, network: str) -> dict[str, Start]:
    """{target: Start} of the files of weights that a network, or each of its parts, is given."""
    given = config.networks[network].weights
    if isinstance(given, str):
        return {network: Start(file=given)} if given else {}
    return {f"{network}.{part}": Start(file=file) for part, file in given.items()}


def beginnings(context: Context, networks) -> tuple[list[Segment], dict[str, Start]]:
    """Returns the segments that come before a plan's own (that of the stills, or none), and the starts that
    stand in for ImageNet weights. A file goes before stills; a network with neither has no start and keeps
    its random draw."""
    config = context.config
    files = {target: start for n in networks for target, start in _files(config, n).items()}
    if not has_stills(config):
        return [], files
    head, given = segment.headline_network(config), {target.partition(".")[0] for target in files}
    # One network learns the stills for all, as one ImageNet file would serve all.
    return [make(context, head)], {n: Start(STILLS, head) for n in networks if n not in given} | files
