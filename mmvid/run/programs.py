"""Lets segments that are made of the same things share their jitted functions, so that each is compiled
once."""

from collections.abc import Callable

from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run import patience
from mmvid.run.build import Run

# The entries of a spec's 'program' that a forward is made of; a train step is made of all of them.
FORWARD = ("networks", "streams", "heads")
# What is compiled of a segment, in words.
_WORDS = {"step": "its step", "draw": "the draw of its weights", "begin": "its beginning"}


def _announced(program: Callable, what: str) -> Callable:
    """Returns ``program``, whose first call compiles it, which is said where it takes long."""
    compiled = False

    def called(*given):
        nonlocal compiled
        if compiled:
            return program(*given)
        with patience.saying(what):
            found = program(*given)
        compiled = True
        return found

    return called


def shared(run: Run, kind: str, segment: Segment, make: Callable, parts: tuple[str, ...] = ()) -> Callable:
    """Returns a segment's jitted function of a ``kind`` ('step', 'predict', ..). It is a new one, ``make()``, for
    the first segment alone; others that are made of the same things get the same function.

    Two segments are made of the same things where their specs have an equal 'program', or are equal in those
    entries of it that are named ``parts``. A segment without a spec always gets a function of its own: nobody
    knows what it is made of.
    """
    what = f"{segment.name}: compiling {_WORDS.get(kind, 'what scores it')}"
    if not segment.spec:
        return _announced(make(), what)
    program = segment.spec["program"]
    key = f"{kind} {keys.digest({name: program[name] for name in parts or program})}"
    if key not in run.programs:
        run.programs[key] = _announced(make(), what)
    return run.programs[key]
