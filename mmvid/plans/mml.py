"""The plans 'reduced' and 'full': the two pipelines of MML (Komkov et al., figures 1 and 2)."""

import functools

from mmvid.plans import method, segment, stills
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start


def reduced(context: Context) -> list[Segment]:
    """MML's reduced pipeline (figure 2): cross-entropy (CE), then the method, in which every network starts
    from the CE weights of the headline network. Between them CE is continued from the same weights on the
    same batches, to compare with."""
    config = context.config
    # The twin is the second network of the same modality, which only the full pipeline trains.
    networks = tuple(n for n in config.networks if n != config.twin)
    # Not each from its own: RGB weights help flow more than flow's own do (MML, table 4).
    both = {n: Start("ce", segment.headline_network(config)) for n in networks}
    first, starts = stills.beginnings(context, networks)
    (name, options, title), steps = method.configured(config), config.steps.method
    plain = ("single", {})
    return [
        *first,
        segment.make(context, "ce", networks, plain, config.steps.ce, starts, batches="ce", title="CE"),
        segment.make(context, "ce_continued", networks, plain, steps, both, batches="2", title="CE continued"),
        segment.make(context, name, networks, (name, options), steps, both, batches="2", title=title),
    ]


def full(context: Context) -> list[Segment]:
    """MML's best single model (figure 1): two CE runs of one modality, mutual learning (ML) between the two,
    then mutual modality learning with every network from the first one's ML weights, C(RGB) in table 7.
    To compare with, CE is continued in two segments with the same batches, schedules and updates."""
    config = context.config
    lead, twin, steps = segment.headline_network(config), config.twin, config.steps
    networks = tuple(n for n in config.networks if n != twin)
    first, starts = stills.beginnings(context, (*networks, twin))
    (name, options, title), plain = method.configured(config), ("single", {})
    own = {n: s for n, s in starts.items() if n != twin}
    other = {twin: starts[twin]} if twin in starts else {}
    # ML of two equal networks would learn nothing (`starts.refuse_equals`): the two come from two runs.
    apart = {lead: Start("ce", lead), twin: Start("ce2", twin)}

    def after(segment_name, network=None):
        return {n: Start(segment_name, network or n) for n in networks}

    make = functools.partial(segment.make, context)
    # CE continued takes the batches and draws of the segment that it is the counterpart of:
    # 'ce_again' that of 'ml', 'ce_continued' that of the method.
    return [
        *first,
        make("ce", networks, plain, steps.ce, own, batches="ce", title="CE"),
        make("ce2", (twin,), plain, steps.ce, other, batches="ce2", title=""),
        make("ce_again", networks, plain, steps.ml, after("ce", lead), batches="2", title=""),
        make("ce_continued", networks, plain, steps.method, after("ce_again"), batches="3", title="CE continued"),
        make("ml", (lead, twin), (name, options), steps.ml, apart, batches="2", title="ML"),
        make(name, networks, (name, options), steps.method, after("ml", lead), batches="3", title=title),
    ]
