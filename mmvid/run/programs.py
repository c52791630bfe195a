"""Lets segments that are made of the same things share their jitted functions, so that each is compiled
once."""

from collections.abc import Callable

from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run.build import Run

# The entries of a spec's 'program' that a forward is made of; a train step is made of all of them.
FORWARD = ("networks", "streams", "heads")


def shared(run: Run, kind: str, segment: Segment, make: Callable, parts: tuple[str, ...] = ()) -> Callable:
    """Returns a segment's jitted function of a ``kind`` ('step', 'predict', ..). It is a new one, ``make()``, for
    the first segment alone; others that are made of the same things get the same function.

    Two segments are made of the same things where their specs have an equal 'program', or are equal in those
    entries of it that are named ``parts``. A segment without a spec always gets a function of its own: nobody
    knows what it is made of.
    """
    if not segment.spec:
        return make()
    program = segment.spec["program"]
    key = f"{kind} {keys.digest({name: program[name] for name in parts or program})}"
    if key not in run.programs:
        run.programs[key] = make()
    return run.programs[key]
