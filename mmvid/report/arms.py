"""What a run that learns from few labels compares: arms, each over several draws of the labelled clips."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmvid.report.points import Column

PLAN = "semi"
# From what learns from labels alone to what learns most from the others.
METHODS = ("single", "fixmatch", "cmpl")
# What the configuration says of a segment beside the options of its method.
_ENTRIES = ("networks", "method", "title", "labelled")


class Draw(NamedTuple):
    """A segment of an arm: its ``column``, and the subset ``labelled`` whose labels it has."""

    column: Column
    labelled: str


class Arm(NamedTuple):
    """Segments that differ in nothing but which clips are labelled: their ``title``, ``method`` and its
    ``options``, the ``networks`` that they train (of CMPL the primary one first) and the rule of their
    ``labels``. Its ``draws`` begin with that of the run's own labels."""

    title: str
    method: str
    networks: tuple[str, ...]
    options: Mapping
    labels: str
    draws: tuple[Draw, ...]

    @property
    def first(self) -> Column:
        """The column of its first draw."""
        return self.draws[0].column

    @property
    def labelled(self) -> list[str]:
        """The subsets of labels of its draws."""
        return [draw.labelled for draw in self.draws]

    @property
    def outputs(self) -> list[str]:
        """The outputs that speak for its networks, the primary one first."""
        found = [output_of(self.first, network) for network in self.networks]
        return [output for output in found if output]

    def has(self, segment: str) -> bool:
        """Whether a segment is one of its draws."""
        return any(draw.column.segment == segment for draw in self.draws)


def output_of(column: Column, network: str) -> str:
    """Names the output that speaks for a network: its only one, or its joint one; '' where it is not scored."""
    known = list(next(iter(column.scores.values())).logits)
    own = [output for output in known if output == network or output.startswith(f"{network}.")]
    return own[-1] if own else ""


def _rule(config: Mapping, name: Any) -> Any:
    """What a draw of clips is a draw of: the rule of the subset ``name`` without what makes it this draw; anything
    else as it is."""
    rule = (config.get("subsets") or {}).get(name) if isinstance(name, str) else None
    return name if rule is None else {key: own for key, own in rule.items() if key not in ("seed", "without")}


def _asked(columns: Sequence[Column], config: Mapping) -> dict[str, Mapping]:
    """What the configuration says of each segment, the run's own last one among them: {segment: entries}."""
    semi = config["semi"]
    networks = semi.get("networks") or list(config["networks"])
    return {**(semi.get("arms") or {}), columns[-1].segment: {"networks": networks, **config["method"]}}


def _arm(column: Column, spec: Mapping, config: Mapping) -> Arm:
    """The arm of a single draw."""
    # In an arm's entries the method is a name, in the configuration it is named beside all methods' options.
    name = spec.get("name") or spec.get("method") or "single"
    own = {} if "name" in spec else {key: value for key, value in spec.items() if key not in _ENTRIES}
    options = {**(config["method"].get(name) or {}), **own}
    labelled = spec.get("labelled") or config["semi"]["labelled"]
    labels = json.dumps(_rule(config, labelled), sort_keys=True)
    return Arm(column.title, name, tuple(spec["networks"]), options, labels, (Draw(column, labelled),))


def arms(columns: Sequence[Column], config: Mapping) -> list[Arm]:
    """Brings together the segments that are draws of one arm, in the order of the columns. [] for a run of another
    plan than `PLAN`."""
    if config.get("plan") != PLAN:
        return []
    asked, found = _asked(columns, config), {}
    for arm in (_arm(c, asked[c.segment], config) for c in columns if c.segment in asked):
        options = {option: _rule(config, value) for option, value in arm.options.items()}
        key = json.dumps([arm.method, arm.networks, options, arm.labels], sort_keys=True)
        found.setdefault(key, []).append(arm)
    own = config["semi"]["labelled"]
    # The draw of the run's own labels comes first, and gives the arm its title.
    ordered = [sorted(parts, key=lambda arm: arm.labelled != [own]) for parts in found.values()]
    return [parts[0]._replace(draws=tuple(part.draws[0] for part in parts)) for parts in ordered]
