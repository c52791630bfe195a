"""Compiled once: segments that are made of the same things share their jitted functions."""

from collections.abc import Callable

from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run.build import Run

# What a forward is made of; a train step is made of all that a spec's 'program' holds.
FORWARD = ("networks", "streams", "heads")


def shared(run: Run, kind: str, segment: Segment, make: Callable, parts: tuple[str, ...] = ()) -> Callable:
    """``make()``, a jitted function of ``kind``; or an earlier segment's, where that agrees in these
    ``parts`` of its program (none: in all): then nothing is compiled again. A segment without a spec
    has its own."""
    if not segment.spec:
        return make()
    program = segment.spec["program"]
    key = f"{kind} {keys.digest({name: program[name] for name in parts or program})}"
    if key not in run.programs:
        run.programs[key] = make()
    return run.programs[key]
