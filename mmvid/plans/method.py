"""The method that a segment learns with: made by its name, and checked against the segment's groups, streams and
networks."""

from collections.abc import Mapping

from mmvid import methods
from mmvid.data.groups import Group
from mmvid.methods import METHODS
from mmvid.methods.base import WEIGHTS, Method, Pass
from mmvid.network import Network
from mmvid.streams import Stream


def make(name: str, outputs: tuple[str, ...], heads, options: Mapping) -> Method:
    """The method ``name`` for these outputs and label spaces. Raises ValueError that lists the known methods
    for an unknown name, or the method's options for an unknown option."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; choose one of {sorted(METHODS)}")
    known = methods.options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"method {name!r} has no option {unknown[0]!r}; its options: {list(known)}")
    return METHODS[name](outputs, heads, **options)


def configured(config) -> tuple[str, dict, str]:
    """The configured method's name, its options (those under its name in ``config.method``) and its title."""
    name = config.method.name
    return name, dict(config.method.get(name) or {}), config.method.title or name.upper()


def is_mutual(name: str, outputs: tuple[str, ...]) -> bool:
    """Whether the outputs learn from each other: there are several, and 'single' does not train each alone."""
    return len(outputs) > 1 and METHODS[name] is not METHODS["single"]


def check_passes(segment: str, groups: Mapping[str, Group], made: Method) -> None:
    """Raises ValueError where a method's passes read a view that no group of ``segment`` has, or where no
    pass reads one that a group has."""
    there = {(name, view) for name, group in groups.items() for view in group.views}
    read = {of for pass_ in made.passes for of in pass_.of}
    if lacking := sorted(read - there):
        raise ValueError(
            f"segment {segment!r}: its method reads view {lacking[0][1]!r} of group {lacking[0][0]!r}; its groups "
            f"have {sorted(there)}. Give the segment that group and view"
        )
    if idle := sorted(there - read):
        raise ValueError(
            f"segment {segment!r}: no pass of its method reads view {idle[0][1]!r} of group {idle[0][0]!r}, which "
            "would be decoded for nothing: leave it out"
        )


def _check_pass(segment: str, pass_: Pass, streams: Mapping[str, Stream], ema: float) -> None:
    if unknown := sorted(set(pass_.hide) - set(streams)):
        raise ValueError(
            f"segment {segment!r}: a pass of its method hides {unknown[0]!r}; there are the streams "
            f"{sorted(streams)}"
        )
    if pass_.weights not in WEIGHTS:
        raise ValueError(
            f"segment {segment!r}: a pass of its method runs with the weights {pass_.weights!r}: choose one "
            f"of {WEIGHTS}"
        )
    if pass_.weights == "ema" and not ema:
        raise ValueError(
            f"segment {segment!r}: a pass of its method runs with moving averages, and none are kept: set "
            "--config.ema, for instance to 0.999"
        )


def check_options(segment: str, made: Method, streams: Mapping[str, Stream], ema: float) -> None:
    """Raises ValueError where a pass of a method hides a stream that is not there, or runs with weights of
    which there are none."""
    for pass_ in made.passes:
        _check_pass(segment, pass_, streams, ema)


def teaches(network: Network, teachers: tuple[str, ...]) -> bool:
    """Whether a network is a frozen teacher. Raises ValueError where only some of its outputs are teachers:
    the others would learn, and a network is frozen as a whole."""
    own = [output in teachers for output in network.outputs]
    if any(own) and not all(own):
        learning = [output for output, teacher in zip(network.outputs, own) if not teacher]
        raise ValueError(
            f"network {network.name!r} cannot teach and learn, too: of its outputs {list(network.outputs)} the "
            f"method leaves {learning} to learn. Name the output of a network with one output as the teacher"
        )
    return all(own)
