"""The plan 'grid': a paper's table as segments that start from each other. What several need is trained once.

``config.grid.segments`` says what each trains, by which method and from which weights; their order follows from
that. Tables over them (``config.grid.tables``) are the report's.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mmvid import methods
from mmvid.plans import segment, stills
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start, is_stills

# What an entry of grid.segments may say beside options of its method.
_OF_SEGMENTS = ("networks", "method", "starts", "steps", "batches", "title")


class Cell(NamedTuple):
    """A segment: ``networks`` learn by ``method`` (name, options) for ``steps`` from ``starts`` {network: Start}.
    Cells of equal ``batches`` see the same batches."""

    name: str
    networks: tuple[str, ...]
    method: tuple[str, dict]
    starts: dict[str, Start]
    steps: str
    batches: str
    title: str

    @property
    def after(self) -> set[str]:
        """The segments that must come before."""
        return {start.segment for start in self.starts.values() if start.segment}


def make(context: Context) -> list[Segment]:
    """The segments of ``config.grid``, each after those that it starts from, the run's own (``grid.last``) last.

    Where some start from still images, the segments that learn these come first: one for 'stills', another one
    for 'stills_2'. Of a network that is given a file of weights, this stands for both; without files and stills
    it keeps its draw. Raises ValueError for a segment that says what none can, or starts from one that is not
    there or, over others, from itself.
    """
    config = context.config
    cells = {name: _cell(config, name, dict(spec)) for name, spec in config.grid.segments.items()}
    last = config.grid.last
    if last not in cells:
        raise ValueError(
            f"grid.last={last!r} is none of grid.segments ({', '.join(cells) or 'there are none'}): it names the "
            "run's own, with which others are compared"
        )
    ordered = _ordered(cells, last)
    _check_files(context, ordered)
    ordered = [cell._replace(starts=_begun(context, cell)) for cell in ordered]
    learnt = {start.segment: start.network for cell in ordered for start in cell.starts.values()}
    pictures = [stills.make(context, learnt[name], name) for name in sorted(filter(is_stills, learnt))]
    return [*pictures, *(_segment(context, cell) for cell in ordered)]


# ---------------------------------------------------------------------------- what is asked
def _cell(config, name: str, spec: Mapping) -> Cell:
    """Reads an entry of ``grid.segments``. Raises ValueError for what it cannot say."""
    networks = spec.get("networks", ())
    networks = (networks,) if isinstance(networks, str) else tuple(networks)
    method = spec.get("method", "single")
    known = methods.options(method) if method in methods.METHODS else None
    unknown = set(networks) - set(config.networks)
    if known is None or not networks or unknown or set(spec) - {*_OF_SEGMENTS, *known}:
        raise ValueError(
            f"grid.segments.{name}={dict(spec)}: write dict(networks=(NAME, ..), method='single', "
            f"starts={{NAME: 'SEGMENT.NETWORK'}}), with networks of {sorted(config.networks)}, a method of "
            f"{sorted(methods.METHODS)}, and perhaps {', '.join(_OF_SEGMENTS[3:])}, and options of the method: "
            f"{', '.join(known or {}) or 'this one has none'}"
        )
    options = known | dict(config.method.get(method) or {}) | {k: v for k, v in spec.items() if k in known}
    starts = {target: _start(name, target, told) for target, told in dict(spec.get("starts", {})).items()}
    steps = spec.get("steps", "method")
    steps = config.steps.get(steps, steps)
    return Cell(
        name, networks, (method, options), starts, steps, spec.get("batches", name), spec.get("title", name)
    )


def _start(name: str, target: str, told: str) -> Start:
    """Reads 'SEGMENT.NETWORK', or 'stills' and 'stills_2', another draw of the same. Raises ValueError."""
    source, _, network = told.partition(".")
    if is_stills(source) == bool(network) or not source:
        raise ValueError(
            f"grid.segments.{name}.starts.{target}={told!r}: write 'SEGMENT.NETWORK', or 'stills', or 'stills_2' "
            "for stills learnt another time"
        )
    return Start(source, network)


def _ordered(cells: Mapping[str, Cell], last: str) -> list[Cell]:
    """The cells, each after those that it starts from, as they stand in the configuration where that leaves a
    choice, and ``last`` at the end. Raises ValueError where there is no such order."""
    names = [name for name in cells if name != last]
    found: list[Cell] = []
    there: set[str] = set()
    while names:
        ready = next((name for name in names if _others(cells[name]) <= there), None)
        if ready is None:
            _refuse(cells, names, there, last)
        found.append(cells[ready])
        there.add(ready)
        names.remove(ready)
    if lacking := _others(cells[last]) - there:
        raise ValueError(f"grid.segments.{last} starts from {min(lacking)!r}, which is no segment of the grid")
    return [*found, cells[last]]


def _others(cell: Cell) -> set[str]:
    return {name for name in cell.after if not is_stills(name)}


def _refuse(cells: Mapping[str, Cell], names: Iterable[str], there: set[str], last: str) -> None:
    """Raises the ValueError of segments of which none can be the next."""
    waiting = {name: sorted(_others(cells[name]) - there) for name in names}
    for name, lacking in waiting.items():
        if strange := [source for source in lacking if source not in cells or source == last]:
            why = "is the run's own, the last one" if strange[0] == last else "is no segment of the grid"
            raise ValueError(f"grid.segments.{name} starts from {strange[0]!r}, which {why}")
    raise ValueError(f"grid.segments: {', '.join(waiting)} start from each other; none of them can be the first")


# ---------------------------------------------------------------------------- segments
def _check_files(context: Context, cells: Iterable[Cell]) -> None:
    """Raises ValueError where some of the networks that stand for ImageNet's have a file of weights, and others
    have neither a file nor stills: they would begin at random beside them."""
    config = context.config
    asked = {
        target.partition(".")[0]: None
        for cell in cells
        for target, start in cell.starts.items()
        if is_stills(start.segment)
    }
    given = [name for name in asked if stills.given(config, (name,))]
    lacking = [name for name in asked if name not in given]
    if given and lacking and not stills.has_stills(config):
        raise ValueError(
            f"{', '.join(given)} start from files, and {', '.join(lacking)} would start at random beside them: "
            + ", ".join(f"--config.networks.{name}.weights=FILE" for name in lacking)
        )


def _begun(context: Context, cell: Cell) -> dict[str, Start]:
    """The starts of a cell, with what stands in for ImageNet: a network's file, stills, or nothing."""
    seeing, learner = stills.learners(context, tuple(context.config.networks))
    found = {}
    for target, start in cell.starts.items():
        name = target.partition(".")[0]
        if not is_stills(start.segment):
            found[target] = start
        elif files := stills.given(context.config, (name,)):
            found |= files
        elif name in seeing:
            found[target] = start._replace(network=learner)
    return found


def _segment(context: Context, cell: Cell) -> Segment:
    return segment.make(
        context, cell.name, cell.networks, cell.method, cell.steps, cell.starts, batches=cell.batches,
        title=cell.title,
    )  # fmt: skip
