"""What a run that learns from few labels compares: arms, each over several draws of the labelled clips."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmvid.report.points import Column
from mmvid.scores import file

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
    ``options``, the ``outputs`` that they train (of CMPL the primary one first) and the rule of their ``labels``.
    Its ``draws`` begin with that of the run's own labels."""

    title: str
    method: str
    outputs: tuple[str, ...]
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
    def partners(self) -> tuple[str, ...]:
        """The primary and the auxiliary output, where there are these two."""
        return self.outputs if self.method == "cmpl" and len(self.outputs) == 2 else ()

    def has(self, segment: str) -> bool:
        """Whether a segment is one of its draws."""
        return any(draw.column.segment == segment for draw in self.draws)

    def called(self, output: str) -> str:
        """Titles one of its outputs: 'CMPL: flow (primary)', or the arm alone where it has one."""
        if len(self.outputs) < 2:
            return self.title
        role = dict(zip(self.partners, ("primary", "auxiliary"))).get(output)
        return f"{self.title}: {output}" + (f" ({role})" if role else "")


def _outputs(column: Column, networks: Sequence[str]) -> tuple[str, ...]:
    """The outputs that speak for networks, in the networks' order: of a fusion its joint one."""
    known = file.members(next(iter(column.scores.values())))
    return tuple(o for network in networks for o in known if o == network or o.startswith(f"{network}."))


def _rule(config: Mapping, name: Any) -> Any:
    """What a draw of clips is a draw of: the rule of the subset ``name`` without what makes it this draw; anything
    else as it is."""
    rule = (config.get("subsets") or {}).get(name) if isinstance(name, str) else None
    if rule is None:
        return name
    alike = {key: own for key, own in rule.items() if key not in ("seed", "without")}
    return alike | {"of": _rule(config, rule.get("of"))}


def _asked(columns: Sequence[Column], config: Mapping) -> dict[str, Mapping]:
    """What the configuration says of each segment, the run's own last one among them: {segment: entries}."""
    semi, main = config["semi"], config["headline"].partition(".")[0]
    networks = semi.get("networks") or sorted(config["networks"], key=lambda name: name != main)
    own = {"networks": networks, "method": config["method"]["name"]}
    return {**(semi.get("arms") or {}), columns[-1].segment: own}


def _arm(column: Column, spec: Mapping, config: Mapping) -> Arm:
    """The arm of a single draw."""
    networks, method = spec["networks"], spec.get("method") or METHODS[0]
    options = {key: value for key, value in spec.items() if key not in _ENTRIES}
    labelled = spec.get("labelled") or config["semi"]["labelled"]
    return Arm(
        column.title,
        method,
        _outputs(column, [networks] if isinstance(networks, str) else networks),
        {**(config["method"].get(method) or {}), **options},
        json.dumps(_rule(config, labelled), sort_keys=True),
        (Draw(column, labelled),),
    )


def arms(columns: Sequence[Column], config: Mapping) -> list[Arm]:
    """Brings together the segments that are draws of one arm, in the order of their columns, the run's own last;
    [] for a run of another plan than `PLAN`."""
    if config.get("plan") != PLAN:
        return []
    asked, found = _asked(columns, config), {}
    for arm in (_arm(c, asked[c.segment], config) for c in columns if c.segment in asked):
        key = json.dumps([arm.method, arm.outputs, arm.options, arm.labels], sort_keys=True)
        found.setdefault(key, []).append(arm)
    own = config["semi"]["labelled"]
    # The draw of the run's own labels comes first, and gives the arm its title.
    ordered = [sorted(parts, key=lambda arm: arm.labelled != [own]) for parts in found.values()]
    made = [parts[0]._replace(draws=tuple(part.draws[0] for part in parts)) for parts in ordered]
    return sorted(made, key=lambda arm: arm.has(columns[-1].segment))
