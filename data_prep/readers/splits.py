"""Splits of datasets that name none in files: by view, a validation part, halves of a training set."""

import re
from collections.abc import Sequence

import numpy as np

from data_prep.manifest import Item
from mmvid import usage


def codes(name: str) -> dict[str, int]:
    """Returns the numbers in a recording's name by their letters: {'a': 1, 's': 2, 'v': 3, 'e': 0} for
    'a01_s02_v03_e00'."""
    # By letter, not by place: copies of the archives differ in the order.
    return {letter: int(n) for letter, n in re.findall(r"(?<![a-z])([asve])(\d+)", name)}


def views(text: str) -> tuple[int, ...]:
    """Reads '1,2' from the command line as (1, 2), each view once. Raises ValueError for what is no number."""
    return tuple(dict.fromkeys(int(view) for view in text.split(",")))


def of_views(known: Sequence[int], train: Sequence[int], test: Sequence[int] | None = None) -> dict[int, str]:
    """Returns {view: 'train' or 'test'}; where ``test`` is None, all views that are not trained on are tested.

    Raises WrongUse for a view that does not exist or that stands on both sides, and for a side without views.
    """
    test = [view for view in known if view not in train] if test is None else test
    if unknown := sorted({*train, *test} - set(known)):
        raise usage.WrongUse(f"there is no view {unknown[0]}; the views are {', '.join(map(str, known))}")
    if both := sorted({*train} & {*test}):
        raise usage.WrongUse(f"view {both[0]} is both trained on and tested: --train_views, --test_views")
    if not (train and test):
        raise usage.WrongUse(f"views to train on: {list(train)}, to test: {list(test)}; both need one")
    return dict.fromkeys(train, "train") | dict.fromkeys(test, "test")


def said(train: Sequence[int], views: dict[int, str]) -> str:
    """Writes the views as a part of the dataset's name: 'train12-test3'."""
    test = sorted(view for view, split in views.items() if split == "test")
    return f"train{''.join(map(str, sorted(train)))}-test{''.join(map(str, test))}"


def of_classes(items: list[Item], names: Sequence[str]) -> dict[str, list[str]]:
    """Returns {class: its sorted ids} of the training clips that have anything to read, in the order of
    ``names``."""
    groups: dict[str, list[str]] = {}
    for item in items:
        if item.split == "train" and (item.path or item.paths):
            groups.setdefault(item.labels["action"][0], []).append(item.id)
    return {name: sorted(groups[name]) for name in names if name in groups}


def drawn(ids: Sequence[str], count: int, *seed: int) -> set[str]:
    """Draws ``count`` of ``ids``, or all where there are fewer; equal seeds draw equal ids."""
    order = np.random.default_rng(seed).permutation(len(ids))
    return {ids[i] for i in order[:count]}


def hold_out(items: list[Item], names: Sequence[str], share: float = 0.05) -> list[Item]:
    """Turns ``share`` of the training clips into the split 'val', as many of each class, drawn with the class
    id as seed (as for DMCL's lists). A class of two or more gives at least one and keeps at least one."""
    groups = of_classes(items, names)
    # One number for all classes, int(n / K * share), as in DMCL's script: rare classes give as many as others.
    wanted = max(int(sum(map(len, groups.values())) / max(len(groups), 1) * share), 1)
    chosen: set[str] = set()
    for name, ids in groups.items():
        chosen |= drawn(ids, min(wanted, len(ids) - 1), names.index(name))
    return [item._replace(split="val") if item.id in chosen else item for item in items]
