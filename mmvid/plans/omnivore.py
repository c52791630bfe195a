"""Omnivore: a network that reads several streams in turn, beside networks of one stream. Source: the baseline of
multimodal distillation (Radevski et al. 2023), whose code is not published."""

from collections.abc import Mapping

from mmvid import optim
from mmvid.data.groups import Group
from mmvid.plans import epochs, segment, stills
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start


def of(
    context: Context,
    network: str,
    duration,
    starts: Mapping[str, Start],
    *,
    batches: str,
    name: str = "omnivore",
    title: str = "Omnivore",
    groups: Mapping[str, Group] | None = None,
) -> Segment:
    """The segment ``name`` that trains ``network`` on one of its streams a step, for M times ``duration`` where it
    reads M: each modality has as many updates, on average, as a network of its own has in ``duration``.

    Only the output of its first read is scored (in the paper that of RGB), only that stream is decoded then, and
    batch statistics are of it alone. ``starts`` are those of all networks. Raises ValueError for a network that
    reads no streams in turn, or reads another one than the run's headline first.
    """
    config = context.config
    reads = len(config.networks[network].reads)
    if reads < 2:
        raise ValueError(
            f"network {network!r} cannot be an Omnivore: it reads {config.networks[network].reads}. Let it read "
            f"streams of one shape in turn, c.networks.{network} = common.network(MODEL, 'rgb', 'flow')"
        )
    groups = dict(groups or epochs.default_groups(config))
    per_epoch = epochs.steps(context, groups)
    steps = reads * optim.steps_of(duration, steps_per_epoch=per_epoch)
    own = {target: start for target, start in starts.items() if target.partition(".")[0] == network}
    chosen = ("omnivore", {})
    made = segment.make(
        context, name, (network,), chosen, str(steps), own, batches=batches, title=title, groups=groups
    )
    first = made.networks[0].outputs[0]
    if made.headline != first:
        raise ValueError(
            f"headline={made.headline!r}: an Omnivore is scored by what it reads first, {first!r}; put that "
            f"stream first in c.networks.{network} = common.network(MODEL, ..)"
        )
    # The others are in no table of the paper, and would be decoded for nothing.
    return made._replace(outputs=(made.headline,))


def make(context: Context) -> list[Segment]:
    """Cross-entropy (CE) for every network of one read, to compare with, then Omnivore: the network that reads
    streams in turn. Raises ValueError where there is not one such network."""
    config = context.config
    turns = [name for name, spec in config.networks.items() if len(spec.reads) > 1]
    if len(turns) != 1:
        raise ValueError(
            f"plan 'omnivore' trains one network that reads several streams in turn, here are {turns}: write "
            "c.networks.omni = common.network(MODEL, 'rgb', 'flow')"
        )
    others = tuple(name for name in config.networks if name not in turns)
    first, starts = stills.beginnings(context, tuple(config.networks))
    steps, segments = config.steps.ce, []
    if others:
        own = {target: start for target, start in starts.items() if target.partition(".")[0] in others}
        plain = ("single", {})
        segments = [segment.make(context, "ce", others, plain, steps, own, batches="ce", title="CE")]
    return [*first, *segments, of(context, turns[0], steps, starts, batches="ce")]
