"""Splits made by rule from others: so many clips of every class, a share that is held out, the rest.

Which clips follows from the rule, the ids and the labels alone, whatever the order of the records.
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
# That of `mmvid.logs`, which worker processes do not import: it brings JAX along.
LOG = logging.getLogger("mmvid")


class Rule(NamedTuple):
    """Clips of the split or subset ``of``, without those of the subset ``without``: all of them, a
    ``share``, or ``per_class`` of each class of ``head``.

    ``by`` 'class': as many of every class; 'frequency': as many as its share of the clips (CMPL,
    appendix D). Clips of several labels are drawn for the rarest class first.
    """

    of: str = "train"
    share: float | None = None
    per_class: int | None = None
    without: str | None = None
    by: str = "class"
    head: str | None = None
    seed: int = 0


class Subset:
    """Some ``rows`` of a source, named ``split``, taken by ``rule``. Picklable."""

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
        """The dataset's Info."""
        return self.source.info

    @property
    def whole(self) -> str:
        """The split that it is taken from, in the end."""
        return getattr(self.source, "whole", self.source.split)

    def ids(self) -> list[str]:
        """The id of every row."""
        ids = self.source.ids()
        return [ids[row] for row in self.rows]

    def labels(self, head: str) -> list[np.ndarray]:
        """The label of every row."""
        labels = self.source.labels(head)
        return [labels[row] for row in self.rows]


# ---------------------------------------------------------------------------- which clips
def _rank(seed: int, clip: str) -> bytes:
    """Where a clip stands in the order of a seed, on every machine."""
    return hashlib.sha256(f"{seed}/{clip}".encode()).digest()


def _evenly(counts: np.ndarray, total: int) -> np.ndarray:
    """``total`` clips over classes that have ``counts``: one after another, to whoever has got least."""
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
    """``total`` clips over classes in proportion to their ``counts``; what rounding leaves goes to the
    largest remainders."""
    exact = counts * (min(total, int(counts.sum())) / max(int(counts.sum()), 1))
    wanted = np.floor(exact).astype(counts.dtype)
    left = round(exact.sum()) - int(wanted.sum())
    wanted[np.argsort(wanted - exact, kind="stable")[:left]] += 1
    return wanted


def _wanted(shown: np.ndarray, rule: Rule) -> tuple[np.ndarray, int]:
    """(clips of every class [K], clips in all or -1) that a rule asks of ``shown`` [N, K]: who has which."""
    counts, clips = shown.sum(0), len(shown)
    if rule.per_class is not None and rule.by == "class":
        return np.minimum(counts, rule.per_class), -1
    total = round(rule.share * clips) if rule.share is not None else rule.per_class * int((counts > 0).sum())
    total = min(max(total, 1), clips)
    # Clips of several labels: the share of the labels is that of the clips.
    labels = max(round(total * counts.sum() / clips), 1)
    return (_evenly if rule.by == "class" else _proportionally)(counts, labels), total


def _drawn(shown: np.ndarray, rule: Rule) -> list[int]:
    """Rows of ``shown`` [N, K], earlier ones first: classes are served from the rarest on."""
    wanted, total = _wanted(shown, rule)
    chosen: dict[int, None] = {}
    got = np.zeros(shown.shape[1], int)
    for c in np.argsort(shown.sum(0), kind="stable"):
        for row in np.flatnonzero(shown[:, c]).tolist():
            if got[c] >= wanted[c] or len(chosen) == total:
                break
            if row not in chosen:
                chosen[row] = None
                got += shown[row]
    spare = [row for row in range(len(shown)) if row not in chosen]
    return [*chosen, *spare[: max(total - len(chosen), 0)]]


def choose(source, rule: Rule, head: Head | None, without: Collection[str] = ()) -> list[int]:
    """The rows that a rule takes of a source, ascending; clips whose ids are in ``without`` are left out.

    ``head`` is the label space that classes are of, None where the rule asks for none. Where a clip has
    one label, clips without it are never drawn.
    """
    ids = source.ids()
    rows = [row for row in range(len(ids)) if ids[row] not in without]
    if head is None or not rows:
        return rows
    rows.sort(key=lambda row: _rank(rule.seed, ids[row]))
    labels = source.labels(rule.head)
    shown = np.stack([_classes(labels[row], head) for row in rows])
    if head.kind == "single":
        rows, shown = [row for row, has in zip(rows, shown.any(1)) if has], shown[shown.any(1)]
    return sorted(rows[i] for i in _drawn(shown, rule)) if rows else []


def _classes(label: np.ndarray, head: Head) -> np.ndarray:
    """bool [K]: the classes of a label: an id, multi-hot, or spans (class, start, end)."""
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
    """A configured rule, its head filled in where there is one alone. Raises ValueError for what it
    cannot mean."""
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
    """{name: rule} of ``config.subsets``, each after those that it is made from.

    Raises ValueError for a name that a split has, a rule that cannot be, or subsets made from each other.
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
    """The dataset with the subsets of ``config.subsets`` beside its splits.

    What `write` kept at ``path`` is read again where nothing differs, so that labels are read once.
    Raises ValueError as `rules`, and for a subset without clips.
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
    return {"fingerprint": dataset.info.fingerprint, "rules": {n: rule._asdict() for n, rule in made.items()}}


def _kept(path, dataset: Dataset, made: Mapping[str, Rule]) -> dict[str, list[str]]:
    """{name: ids} of an earlier call with equal clips and rules; {} otherwise."""
    try:
        found = files.read_json(path) or {}
    except ValueError:
        return {}
    same = all(found.get(key) == value for key, value in _plain(dataset, made).items())
    return found["ids"] if same else {}


def write(path, dataset: Dataset) -> None:
    """Keeps the rules and ids of a dataset's subsets at ``path``; nothing where there are none."""
    if dataset.subsets:
        made = {name: subset.rule for name, subset in dataset.subsets.items()}
        ids = {name: subset.ids() for name, subset in dataset.subsets.items()}
        files.write_json(path, _plain(dataset, made) | {"ids": ids})
