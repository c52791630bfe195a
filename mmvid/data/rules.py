"""The rules under ``config.subsets``, read and checked: which clips make a named split out of others."""

import graphlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mmvid.data.records import Info
from mmvid.streams import Head

BY = ("class", "frequency")
EXAMPLE = "write for instance c.subsets.held = dict(of='train', share=.08)"


class Rule(NamedTuple):
    """Says which clips a subset takes of the split or subset ``of``, less those of the subset ``without``, all of
    one ``dataset``: the main one, or a further one of the run.

    It takes a ``share`` of them, or ``per_class`` clips of each class of ``head``, or all where both are None.
    ``by`` 'class' takes equally many of every class, 'frequency' in proportion to the clips that each class
    has (CMPL, appendix D). Clips with several labels are drawn for the rarest class first.
    """

    of: str = "train"
    share: float | None = None
    per_class: int | None = None
    without: str | None = None
    by: str = "class"
    head: str | None = None
    seed: int = 0
    dataset: str = "dataset"


def _check_numbers(name: str, rule: Rule) -> None:
    if rule.share is not None and rule.per_class is not None:
        raise ValueError(f"subsets.{name} has both share and per_class: {EXAMPLE}")
    if rule.share is None and rule.per_class is None and rule.without is None:
        raise ValueError(f"subsets.{name} names no share, no per_class and no without, so it is all: {EXAMPLE}")
    if rule.share is not None and not (isinstance(rule.share, int | float) and 0 < rule.share < 1):
        raise ValueError(f"subsets.{name}.share={rule.share!r}: a share of the clips is a number between 0 and 1")
    if rule.per_class is not None and (not isinstance(rule.per_class, int) or rule.per_class < 1):
        raise ValueError(f"subsets.{name}.per_class={rule.per_class}: clips a class are a whole number, 1 or more")
    if rule.by not in BY:
        raise ValueError(f"subsets.{name}.by={rule.by!r}: choose one of {BY}")


def _rule(name: str, spec: Mapping[str, Any], heads: Mapping[str, Mapping[str, Head]]) -> Rule:
    """Returns a configured rule; where its dataset has a single head, an omitted ``head`` means that one.

    Raises ValueError for unknown options or datasets, and for numbers that make no sense.
    """
    if unknown := sorted(set(spec) - set(Rule._fields)):
        raise ValueError(f"subsets.{name} has no option {unknown[0]!r}; its options: {list(Rule._fields)}")
    rule = Rule(**spec)
    if rule.dataset not in heads:
        raise ValueError(
            f"subsets.{name}.dataset={rule.dataset!r}: choose one of {sorted(heads)}, or write "
            f"c.datasets.{rule.dataset} = dict(path='data/..', command=())"
        )
    _check_numbers(name, rule)
    if rule.share is None and rule.per_class is None:
        return rule._replace(head=None)
    own = heads[rule.dataset]
    if rule.head is None and len(own) == 1:
        (only,) = own
        return rule._replace(head=only)
    if rule.head not in own:
        raise ValueError(
            f"subsets.{name}.head={rule.head!r}: its clips are drawn by class, so name one of the label spaces "
            f"{sorted(own)}, for instance head={sorted(own)[0]!r}"
        )
    return rule


def _check_sources(name: str, rule: Rule, made: Mapping[str, Rule], infos: Mapping[str, Info]) -> None:
    """Raises ValueError for a rule whose name is taken, or that takes its clips from what its dataset lacks."""
    # Scores of a subset of any dataset may stand beside those of the main one's splits.
    for info in (infos[rule.dataset], infos["dataset"]):
        if name in info.splits:
            raise ValueError(f"subsets.{name}: {info.name} has a split of that name; choose another one")
    own, splits = [other for other in made if made[other].dataset == rule.dataset], infos[rule.dataset].splits
    where = "" if rule.dataset == "dataset" else f" of {rule.dataset!r}"
    if rule.of not in splits and rule.of not in own:
        raise ValueError(
            f"subsets.{name}.of={rule.of!r}: choose one of the splits {sorted(splits)}{where} or another subset"
        )
    if rule.without is not None and rule.without not in own:
        raise ValueError(f"subsets.{name}.without={rule.without!r} is no subset{where}; there are {sorted(own)}")


def rules(
    configured: Mapping[str, Mapping], infos: Mapping[str, Info], heads: Mapping[str, Mapping[str, Head]]
) -> dict[str, Rule]:
    """Returns {name: rule} of ``config.subsets``, ordered so that each comes after those that it is made from.

    ``infos`` and ``heads`` are {dataset: its Info, its label spaces}. Raises ValueError for the name of a
    split, an invalid rule, or subsets that are made from each other.
    """
    made = {name: _rule(name, spec, heads) for name, spec in configured.items()}
    for name, rule in made.items():
        _check_sources(name, rule, made, infos)
    needs = {name: {source for source in (rule.of, rule.without) if source in made} for name, rule in made.items()}
    try:
        return {name: made[name] for name in graphlib.TopologicalSorter(needs).static_order()}
    except graphlib.CycleError as error:
        raise ValueError(f"subsets are made from each other: {' <- '.join(error.args[1])}") from None
