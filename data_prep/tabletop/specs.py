"""Which clips Tabletop has: sizes, splits and views, and what happens in every clip of them."""

from typing import NamedTuple

import numpy as np

from data_prep.tabletop.actions import VERBS
from data_prep.tabletop.scene import NOUNS
from data_prep.tabletop.sizes import SIZES

# The place in SPLITS seeds a split's draws: a new one goes to the end. 'unseen' has object instances and
# backgrounds that no other split has.
SPLITS = ("train", "val", "test", "unseen")
VIEWS = ("verb", "epic", "multilabel")


class Spec(NamedTuple):
    """One clip to render; equal specs give equal clips. ``verbs`` and ``noun`` are places in VERBS and NOUNS.
    Several verbs follow each other, each with objects of its own."""

    split: str
    index: int
    verbs: tuple[int, ...]
    noun: int
    seed: int = 0


def clips(size: str, split: str, view: str = "verb", seed: int = 0) -> list[Spec]:
    """Lists the specs of a split, in which all verbs are equally frequent. Raises ValueError for unknown names."""
    if size not in SIZES or split not in SPLITS or view not in VIEWS:
        raise ValueError(
            f"size={size!r}, split={split!r}, view={view!r}: choose from {sorted(SIZES)}, {SPLITS}, {VIEWS}"
        )
    rng = np.random.default_rng([seed, SPLITS.index(split), 1])
    specs = []
    for index in range(SIZES[size][split]):
        verbs = (index % len(VERBS),)
        if view == "multilabel":
            # One of the 19 other verbs, as an offset: a clip never has one verb twice.
            other = rng.integers(0, len(VERBS) - 1)
            verbs += (int((verbs[0] + 1 + other) % len(VERBS)),)
        specs.append(Spec(split, index, verbs, int(rng.integers(len(NOUNS))), seed))
    return specs
