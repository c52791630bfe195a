"""A group: a part of the batch with its own clips, its own size and its own views."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmvid.data import augment as augment_lib
from mmvid.data.augment import Augment
from mmvid.streams import Head


class Group(NamedTuple):
    """``batch_size`` clips a step (of all processes) of a dataset's ``split``, which may be a subset.

    ``views`` {name: Augment}: every view shows the same frames, cut and coloured in its own way.
    Without ``labels`` the dataset needs no label spaces and the batch holds none.
    """

    split: str
    batch_size: int
    views: Mapping[str, Augment]
    labels: bool = True
    dataset: str = "dataset"


class OneOf(NamedTuple):
    """What a group shows of networks that run one of their reads a step: ``choices`` {network: its
    reads}, and ``always``, the streams that somebody needs at every step."""

    choices: Mapping[str, tuple[tuple[str, ...], ...]]
    always: tuple[str, ...]

    def chosen(self, seed: int, step: int) -> dict[str, np.int32]:
        """{network: the index of its read at ``step``}: equal in all groups, processes and microbatches."""
        return {
            name: np.int32(np.random.default_rng([seed, step, *name.encode()]).integers(len(reads)))
            for name, reads in self.choices.items()
        }

    def streams(self, chosen: Mapping[str, int]) -> set[str]:
        """The streams that are needed at a step whose choice is ``chosen``."""
        return {*self.always, *(s for name, index in chosen.items() for s in self.choices[name][index])}


def _turns(augment: Augment) -> tuple:
    """What a flip of this view does to the label; () where it does nothing."""
    return tuple(augment.flip_labels) if augment.flip else ()


def flips_together(group: Group) -> bool:
    """Whether a flip changes the label, so that all views of a clip must be mirrored together."""
    return any(_turns(augment) for augment in group.views.values())


def flip_pairs(group: Group) -> tuple:
    """The pairs of classes that a flip exchanges, the same for every view."""
    return max(_turns(augment) for augment in group.views.values())


def check(name: str, group: Group, heads: Mapping[str, Head]) -> None:
    """Raises ValueError for a group without views, an augmentation that cannot be, or views of which a
    flip changes the label of some alone."""
    if not group.views:
        raise ValueError(f"group {name!r} has no views: give it one, views={{'train': Augment()}}")
    for augment in group.views.values():
        augment_lib.check(augment, heads)
    if len({_turns(augment) for augment in group.views.values()}) > 1:
        raise ValueError(
            f"group {name!r}: a flip changes the label, so its views {sorted(group.views)} are mirrored together: "
            "give all of them the same flip and flip_labels"
        )
