"""The plan 'single': every network is trained alone."""

from mmvid.plans import segment, stills
from mmvid.plans.segment import Context, Segment


def make(context: Context) -> list[Segment]:
    """One segment in which every network learns alone from the labels, with cross-entropy (CE); all take
    their steps together, on the same batches."""
    networks = tuple(context.config.networks)
    first, starts = stills.beginnings(context, networks)
    steps = context.config.steps.ce
    ce = segment.make(context, "ce", networks, ("single", {}), steps, starts, batches="ce", title="CE")
    return [*first, ce]
