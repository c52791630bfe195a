"""Splits of datasets that name none in files: by view, a validation part, halves of a training set."""

import re
from collections.abc import Sequence

import numpy as np

from data_prep.manifest import Item


def codes(name: str) -> dict[str, int]:
    """The numbers in a recording's name by their letters, {'a': 1, 's': 2, 'v': 3, 'e': 0} of 'a01_s02_v03_e00':
    copies of the archives differ in the order."""
    return {letter: int(n) for letter, n in re.findall(r"(?<![a-z])([asve])(\d+)", name)}


def views(text: str) -> tuple[int, ...]:
    """'1,2' of the command line as (1, 2), each once. Raises ValueError for what is no number."""
    return tuple(dict.fromkeys(int(view) for view in text.split(",")))


def of_views(known: Sequence[int], train: Sequence[int], test: Sequence[int] | None = None) -> dict[int, str]:
    """{view: 'train' or 'test'}; where ``test`` is None, all views that are not trained on are tested.

    Raises ValueError for a view that there is not, or that stands on both sides.
    """
    test = [view for view in known if view not in train] if test is None else test
    if unknown := sorted({*train, *test} - set(known)):
        raise ValueError(f"there is no view {unknown[0]}; the views are {list(known)}")
    if both := sorted({*train} & {*test}):
        raise ValueError(f"view {both[0]} is both trained on and tested: --train_views, --test_views")
    if not (train and test):
        raise ValueError(f"views to train on: {list(train)}, to test: {list(test)}; both need one")
    return dict.fromkeys(train, "train") | dict.fromkeys(test, "test")


def said(train: Sequence[int], views: dict[int, str]) -> str:
    """What a dataset's name says of the views: 'train12-test3'."""
    test = sorted(view for view, split in views.items() if split == "test")
    return f"train{''.join(map(str, sorted(train)))}-test{''.join(map(str, test))}"


def of_classes(items: list[Item], names: Sequence[str]) -> dict[str, list[str]]:
    """{class: its sorted ids} of the training clips that have anything to read, in the order of ``names``."""
    groups: dict[str, list[str]] = {}
    for item in items:
        if item.split == "train" and (item.path or item.paths):
            groups.setdefault(item.labels["action"][0], []).append(item.id)
    return {name: sorted(groups[name]) for name in names if name in groups}


def drawn(ids: Sequence[str], count: int, *seed: int) -> set[str]:
    """``count`` of ``ids``, or all; equal seeds draw equal ids."""
    order = np.random.default_rng(seed).permutation(len(ids))
    return {ids[i] for i in order[:count]}


def hold_out(items: list[Item], names: Sequence[str], share: float = 0.05) -> list[Item]:
    """Makes ``share`` of the training clips the split 'val', as many of each class, drawn with the class
    id as seed (DMCL's lists). A class of two or more gives at least one and keeps at least one."""
    groups = of_classes(items, names)
    wanted = max(int(sum(map(len, groups.values())) / max(len(groups), 1) * share), 1)
    chosen: set[str] = set()
    for name, ids in groups.items():
        chosen |= drawn(ids, min(wanted, len(ids) - 1), names.index(name))
    return [item._replace(split="val") if item.id in chosen else item for item in items]
