"""Describes groups: a group is a part of the batch with its own clips, its own size and its own views."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmvid.data import augment as augment_lib
from mmvid.data.augment import Augment
from mmvid.streams import Head


class Group(NamedTuple):
    """A part of the batch: ``batch_size`` clips a step, over all processes, of the ``split`` of a dataset.

    ``split`` may name a subset. Every view of ``views`` {name: Augment} shows the same frames of a clip, cut
    and coloured in its own way. With ``labels`` False the batch holds no labels, and the dataset needs none; with
    ``audit`` it then holds them apart, under 'audit', for terms of weight 0 alone, which follow how right
    pseudo-labels are.
    """

    split: str
    batch_size: int
    views: Mapping[str, Augment]
    labels: bool = True
    dataset: str = "dataset"
    audit: bool = False


class OneOf(NamedTuple):
    """Which streams a group needs where some networks run only one of their reads at each step.

    A read is the streams that a network is given at once. ``choices`` {network: its reads} lists those
    networks; ``always`` are the streams that are needed at every step.
    """

    choices: Mapping[str, tuple[tuple[str, ...], ...]]
    always: tuple[str, ...]

    def chosen(self, seed: int, step: int) -> dict[str, np.int32]:
        """Draws {network: the index of its read at ``step``}, equal in all groups, processes and microbatches."""
        # The name goes into the seed, so that the networks choose independently of each other.
        return {
            name: np.int32(np.random.default_rng([seed, step, *name.encode()]).integers(len(reads)))
            for name, reads in self.choices.items()
        }

    def streams(self, chosen: Mapping[str, int]) -> set[str]:
        """Returns the names of the streams that are needed at a step with the choices ``chosen``."""
        return {*self.always, *(s for name, index in chosen.items() for s in self.choices[name][index])}


def _turns(augment: Augment) -> tuple:
    """Returns the pairs of classes that a flip of this view exchanges; () where flips leave the label alone."""
    return tuple(augment.flip_labels) if augment.flip else ()


def flips_together(group: Group) -> bool:
    """Tells whether a flip changes the label. All views of a clip must then be mirrored together."""
    return any(_turns(augment) for augment in group.views.values())


def flip_pairs(group: Group) -> tuple:
    """Returns the pairs of classes that a flip exchanges, which are the same for every view."""
    # `check` has made sure that they are; the greatest is any of them.
    return max(_turns(augment) for augment in group.views.values())


def check(name: str, group: Group, heads: Mapping[str, Head]) -> None:
    """Raises ValueError for a group without views, an invalid augmentation, or views that disagree on how a
    flip changes the label."""
    if not group.views:
        raise ValueError(f"group {name!r} has no views: give it one, views={{'train': Augment()}}")
    for augment in group.views.values():
        augment_lib.check(augment, heads)
    # The views of a clip share one label, so a flip must change it in all of them or in none.
    if len({_turns(augment) for augment in group.views.values()}) > 1:
        raise ValueError(
            f"group {name!r}: a flip changes the label, so its views {sorted(group.views)} are mirrored together: "
            "give all of them the same flip and flip_labels"
        )
