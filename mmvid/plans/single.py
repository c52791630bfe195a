"""Every network alone."""

from mmvid.plans import segment, stills
from mmvid.plans.segment import Context, Segment


def make(context: Context) -> list[Segment]:
    """Every network alone with cross-entropy, stepped together."""
    networks = tuple(context.config.networks)
    first, starts = stills.beginnings(context, networks)
    steps = context.config.steps.ce
    ce = segment.make(context, "ce", networks, ("single", {}), steps, starts, stage="ce", title="CE")
    return [*first, ce]
