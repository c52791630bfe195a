"""Makes splits from others by a rule: so many clips of every class, a share that is held out, or the rest.

The rule, the ids and the labels alone decide which clips are taken, whatever the order of the records.
"""

import graphlib
import hashlib
import heapq
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmvid import files
from mmvid.data.records import Dataset, Info
from mmvid.streams import Head

BY = ("class", "frequency")
# The logger of `mmvid.logs`, which worker processes do not import: it brings JAX along.
LOG = logging.getLogger("mmvid")


class Rule(NamedTuple):
    """Says which clips a subset takes of the split or subset ``of``, less those of the subset ``without``.

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


class Subset:
    """Some ``rows`` of a source under the name ``split``, taken by ``rule``. It can be pickled."""

    def __init__(self, source, rows: Sequence[int], split: str, rule: Rule):
        self.source, self.rows = source, tuple(map(int, rows))
        self.split, self.rule = split, rule

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict:
        # Of a subset's subset the innermost one says which row of the whole split it is.
        return {"row": self.rows[row]} | self.source[self.rows[row]]

    @property
    def info(self):
        """Returns the dataset's Info."""
        return self.source.info

    @property
    def whole(self) -> str:
        """Returns the split that it is taken from in the end, where subsets are taken from subsets."""
        return getattr(self.source, "whole", self.source.split)

    def ids(self) -> list[str]:
        """Returns the id of every row."""
        ids = self.source.ids()
        return [ids[row] for row in self.rows]

    def labels(self, head: str) -> list[np.ndarray]:
        """Returns the label of every row."""
        labels = self.source.labels(head)
        return [labels[row] for row in self.rows]


# ---------------------------------------------------------------------------- which clips
def _rank(seed: int, clip: str) -> bytes:
    """Returns the key that sorts clips into the random order of a seed, the same on every machine."""
    # A digest of the id, so that a clip keeps its place when others are added to the dataset or removed.
    return hashlib.sha256(f"{seed}/{clip}".encode()).digest()


def _evenly(counts: np.ndarray, total: int) -> np.ndarray:
    """Distributes ``total`` clips over classes that have ``counts``: each next one goes to the class with fewest.

    Ties go to the class that has fewer clips in all. Returns int [K].
    """
    wanted = np.zeros_like(counts)
    heap = [(0, int(n), c) for c, n in enumerate(counts) if n]
    heapq.heapify(heap)
    for _ in range(min(total, int(counts.sum()))):
        _, n, c = heapq.heappop(heap)
        wanted[c] += 1
        if wanted[c] < n:
            heapq.heappush(heap, (int(wanted[c]), n, c))
    return wanted


def _proportionally(counts: np.ndarray, total: int) -> np.ndarray:
    """Distributes ``total`` clips over classes in proportion to their ``counts``; what rounding down leaves goes
    to the largest remainders. Returns int [K]."""
    exact = counts * (min(total, int(counts.sum())) / max(int(counts.sum()), 1))
    wanted = np.floor(exact).astype(counts.dtype)
    left = round(exact.sum()) - int(wanted.sum())
    wanted[np.argsort(wanted - exact, kind="stable")[:left]] += 1
    return wanted


def _wanted(shown: np.ndarray, rule: Rule) -> tuple[np.ndarray, int]:
    """Returns (clips of every class [K], clips in all) that a rule asks for; -1 in all means no such limit.

    ``shown`` bool [N, K] tells which of the N clips has which of the K classes.
    """
    counts, clips = shown.sum(0), len(shown)
    if rule.per_class is not None and rule.by == "class":
        return np.minimum(counts, rule.per_class), -1
    total = round(rule.share * clips) if rule.share is not None else rule.per_class * int((counts > 0).sum())
    total = min(max(total, 1), clips)
    # A clip may have several labels, so the target is in labels: the same share of them as of the clips.
    labels = max(round(total * counts.sum() / clips), 1)
    return (_evenly if rule.by == "class" else _proportionally)(counts, labels), total


def _drawn(shown: np.ndarray, rule: Rule) -> list[int]:
    """Returns the rows of ``shown`` bool [N, K] that a rule takes, earlier rows first within a class.

    Classes are served from the rarest on, which have the fewest clips to choose from.
    """
    wanted, total = _wanted(shown, rule)
    chosen: dict[int, None] = {}
    got = np.zeros(shown.shape[1], int)
    for c in np.argsort(shown.sum(0), kind="stable"):
        for row in np.flatnonzero(shown[:, c]).tolist():
            if got[c] >= wanted[c] or len(chosen) == total:
                break
            if row not in chosen:
                # A clip counts for all of its labels, so later classes may be served already.
                chosen[row] = None
                got += shown[row]
    # Clips of several labels fill the classes with fewer clips than were asked for: others make up the number.
    spare = [row for row in range(len(shown)) if row not in chosen]
    return [*chosen, *spare[: max(total - len(chosen), 0)]]


def choose(source, rule: Rule, head: Head | None, without: Collection[str] = ()) -> list[int]:
    """Returns the rows that a rule takes of a source, ascending, less the clips whose ids are in ``without``.

    ``head`` is the label space whose classes the rule counts, None where the rule takes all clips. In a head
    of kind 'single', clips whose label is none of its classes are never drawn.
    """
    ids = source.ids()
    rows = [row for row in range(len(ids)) if ids[row] not in without]
    if head is None or not rows:
        return rows
    # From here on the order is the seed's, so that taking the first rows is a random draw.
    rows.sort(key=lambda row: _rank(rule.seed, ids[row]))
    labels = source.labels(rule.head)
    shown = np.stack([classes_of(labels[row], head) for row in rows])
    if head.kind == "single":
        rows, shown = [row for row, has in zip(rows, shown.any(1)) if has], shown[shown.any(1)]
    return sorted(rows[i] for i in _drawn(shown, rule)) if rows else []


def classes_of(label: np.ndarray, head: Head) -> np.ndarray:
    """Returns bool [K], the classes of a label: an id, multi-hot [K], or spans [n, 3] (class, start, end)."""
    if label.ndim == 1:
        return label > 0
    own = label[:, 0] if label.ndim == 2 else label
    return np.isin(np.arange(head.classes), own.astype(int))


# ---------------------------------------------------------------------------- of a configuration
_EXAMPLE = "write for instance c.subsets.held = dict(of='train', share=.08)"


def _check_numbers(name: str, rule: Rule) -> None:
    if rule.share is not None and rule.per_class is not None:
        raise ValueError(f"subsets.{name} has both share and per_class: {_EXAMPLE}")
    if rule.share is None and rule.per_class is None and rule.without is None:
        raise ValueError(f"subsets.{name} names no share, no per_class and no without, so it is all: {_EXAMPLE}")
    if rule.share is not None and not 0 < rule.share < 1:
        raise ValueError(f"subsets.{name}.share={rule.share}: a share of the clips is a number between 0 and 1")
    if rule.per_class is not None and (not isinstance(rule.per_class, int) or rule.per_class < 1):
        raise ValueError(f"subsets.{name}.per_class={rule.per_class}: clips a class are a whole number, 1 or more")
    if rule.by not in BY:
        raise ValueError(f"subsets.{name}.by={rule.by!r}: choose one of {BY}")


def _rule(name: str, spec: Mapping[str, Any], heads: Mapping[str, Head]) -> Rule:
    """Returns a configured rule; where there is a single head, an omitted ``head`` means that one.

    Raises ValueError for unknown options and for numbers that make no sense.
    """
    if unknown := sorted(set(spec) - set(Rule._fields)):
        raise ValueError(f"subsets.{name} has no option {unknown[0]!r}; its options: {list(Rule._fields)}")
    rule = Rule(**spec)
    _check_numbers(name, rule)
    if rule.share is None and rule.per_class is None:
        return rule._replace(head=None)
    if rule.head is None and len(heads) == 1:
        (only,) = heads
        return rule._replace(head=only)
    if rule.head not in heads:
        raise ValueError(
            f"subsets.{name}.head={rule.head!r}: its clips are drawn by class, so name one of the label spaces "
            f"{sorted(heads)}, for instance head={sorted(heads)[0]!r}"
        )
    return rule


def rules(configured: Mapping[str, Mapping], info: Info, heads: Mapping[str, Head]) -> dict[str, Rule]:
    """Returns {name: rule} of ``config.subsets``, ordered so that each comes after those that it is made from.

    Raises ValueError for the name of a split, an invalid rule, or subsets that are made from each other.
    """
    made = {name: _rule(name, spec, heads) for name, spec in configured.items()}
    if taken := sorted(set(made) & set(info.splits)):
        raise ValueError(f"subsets.{taken[0]}: {info.name} has a split of that name; choose another one")
    for name, rule in made.items():
        if rule.of not in info.splits and rule.of not in made:
            raise ValueError(
                f"subsets.{name}.of={rule.of!r}: choose one of the splits {sorted(info.splits)} or another subset"
            )
        if rule.without is not None and rule.without not in made:
            raise ValueError(f"subsets.{name}.without={rule.without!r} is no subset; there are {sorted(made)}")
    needs = {name: {source for source in (rule.of, rule.without) if source in made} for name, rule in made.items()}
    try:
        return {name: made[name] for name in graphlib.TopologicalSorter(needs).static_order()}
    except graphlib.CycleError as error:
        raise ValueError(f"subsets are made from each other: {' <- '.join(error.args[1])}") from None


def divided(dataset: Dataset, configured: Mapping[str, Mapping], heads: Mapping[str, Head], path) -> Dataset:
    """Returns the dataset with the subsets of ``config.subsets`` beside its splits.

    Where `write` has kept the ids at ``path`` and neither clips nor rules differ, it takes those, so that the
    labels are read only once. Raises ValueError as `rules` does, and for a subset without clips.
    """
    made = rules(configured, dataset.info, heads)
    kept = _kept(path, dataset, made)
    for name, rule in made.items():
        source = dataset.split(rule.of)
        without = set(dataset.split(rule.without).ids()) if rule.without else set()
        if name in kept:
            row_of = {clip: row for row, clip in enumerate(source.ids())}
            rows = [row_of[clip] for clip in kept[name]]
        else:
            if rule.head:
                LOG.info("subset %s: reading the labels of %d clips, once", name, len(source))
            rows = choose(source, rule, heads.get(rule.head), without)
        if not rows:
            raise ValueError(f"subsets.{name}: no clip of {rule.of!r} is left for it; {_EXAMPLE}")
        dataset = dataset.with_subset(name, Subset(source, rows, name, rule))
    return dataset


def _plain(dataset: Dataset, made: Mapping[str, Rule]) -> dict:
    """Returns what decides which clips the subsets have, as JSON keeps it."""
    return {"fingerprint": dataset.info.fingerprint, "rules": {n: rule._asdict() for n, rule in made.items()}}


def _kept(path, dataset: Dataset, made: Mapping[str, Rule]) -> dict[str, list[str]]:
    """Returns the {name: ids} that `write` kept for equal clips and rules; {} otherwise."""
    try:
        found = files.read_json(path) or {}
    except ValueError:
        # A damaged file costs a second reading of the labels, no more.
        return {}
    same = all(found.get(key) == value for key, value in _plain(dataset, made).items())
    return found["ids"] if same else {}


def write(path, dataset: Dataset) -> None:
    """Writes the rules and ids of a dataset's subsets to ``path``; writes nothing where there are none."""
    if dataset.subsets:
        made = {name: subset.rule for name, subset in dataset.subsets.items()}
        ids = {name: subset.ids() for name, subset in dataset.subsets.items()}
        files.write_json(path, _plain(dataset, made) | {"ids": ids})
