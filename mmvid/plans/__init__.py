"""Plans: a run is a list of segments; this file holds the few ways to make such a list."""

from mmvid import names
from mmvid.plans import compare, distill, gblend, grid, mml, omnivore, semi, single
from mmvid.plans.networks import check_outputs, check_streams
from mmvid.plans.segment import Context, Segment

PLANS = {
    "single": single.make,
    "reduced": mml.reduced,
    "full": mml.full,
    "compare": compare.make,
    "distill": distill.make,
    "omnivore": omnivore.make,
    "gblend": gblend.make,
    "semi": semi.make,
    "grid": grid.make,
}
# Segments that train the same networks without the method, as long as it does: of each plan that has one.
BASELINES = ("ce_continued", "independent", distill.BASELINE, gblend.BASELINE, semi.BASELINE)


def baseline(segments: list[Segment]) -> str:
    """The name of the segment that the last one is compared with in tables; '' where the plan has none."""
    return next((s.name for s in segments[:-1] if s.name in BASELINES and s.title), "")


def make(context: Context) -> list[Segment]:
    """The segments of the configured plan, in the order in which they are trained.

    Raises ValueError for an unknown plan, for names of networks, streams or heads of which outputs cannot
    be named, for a headline that nobody trains at the end, and for a stream that no network reads.
    """
    name = context.config.plan
    if name not in PLANS:
        raise ValueError(f"plan={name!r} is unknown; choose one of {sorted(PLANS)}")
    check_outputs(context.config, [*context.heads, *context.stills_heads])
    segments = PLANS[name](context)
    _check_headline(context.config.headline, segments[-1])
    check_streams(context.config)
    check_order(segments)
    return segments


def _check_headline(headline: str, last: Segment) -> None:
    """Raises ValueError where the output that names the run is a teacher of its ``last`` segment: teachers are not
    scored."""
    if any(headline in network.outputs for network in last.networks if network.frozen):
        raise ValueError(f"headline={headline!r} is the frozen teacher: name one of its students")


def check_order(segments: list[Segment]) -> None:
    """Raises ValueError for two segments of one name, of which the second would be taken for done, for a name
    that no folder of a run can have, and for a start from a segment that does not come before, or that does
    not train the network."""
    before: dict[str, list[str]] = {}
    for segment in segments:
        names.check("segment", segment.name)
        if segment.name in before:
            raise ValueError(f"two segments of the plan are called {segment.name!r}: each needs a name of its own")
        for network, start in segment.spec.get("starts", {}).items():
            _check_start(segment.name, network, start, before)
        before[segment.name] = [n.name for n in segment.networks if not n.frozen]


def _check_start(segment: str, target: str, start: dict, before: dict[str, list[str]]) -> None:
    """Raises ValueError where the weights that ``target`` starts from will not be there; ``before`` is {segment:
    the networks that it trains} of the earlier ones."""
    source = start["segment"]
    if source and source not in before:
        raise ValueError(
            f"segment {segment!r}: {target!r} starts from the segment {source!r}, which does not come before it; "
            f"there are {sorted(before)}"
        )
    # A continuation names no network: it goes on with all of them.
    network = start.get("network") if source else ""
    if network and network not in before[source]:
        raise ValueError(
            f"segment {segment!r}: {target!r} starts from {network!r} of the segment {source!r}, which trains "
            f"{before[source]}"
        )
