"""Lets segments that are made of the same things share their jitted functions, so that each is compiled
once."""

from collections.abc import Callable

from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run.build import Run

# The entries of a spec's 'program' that a forward is made of; a train step is made of all of them.
FORWARD = ("networks", "streams", "heads")


def shared(run: Run, kind: str, segment: Segment, make: Callable, parts: tuple[str, ...] = ()) -> Callable:
    """Returns ``make()``, a jitted function, or the one that ``run`` already has of this ``kind`` for a segment
    whose spec agrees in the entries ``parts`` of its program (all of them, where none are named).

    A segment without a spec always gets a new one: nobody knows what it is made of.
    """
    if not segment.spec:
        return make()
    program = segment.spec["program"]
    key = f"{kind} {keys.digest({name: program[name] for name in parts or program})}"
    if key not in run.programs:
        run.programs[key] = make()
    return run.programs[key]
