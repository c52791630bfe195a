"""Makes splits from others by a rule: so many clips of every class, a share that is held out, or the rest.

The rule, the ids and the labels alone decide which clips are taken, whatever the order of the records.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mmvid import files
from mmvid.data.records import Dataset
from mmvid.data.rules import EXAMPLE, Rule, rules
from mmvid.streams import Head

# The logger of `mmvid.logs`, which worker processes do not import: it brings JAX along.
LOG = logging.getLogger("mmvid")
# Clips that are hashed at a time: of ten million all digests would be some hundred megabytes.
_SOME = 1 << 16


class Subset:
    """Some ``rows`` of a source under the name ``split``, taken by ``rule``. It can be pickled."""

    def __init__(self, source, rows: Sequence[int], split: str, rule: Rule):
        # An array: a tuple of ten million numbers would take five times the room, in each worker.
        self.source, self.rows = source, np.asarray(rows, np.int64)
        self.split, self.rule = split, rule

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict:
        # Of a subset's subset the innermost one says which row of the whole split it is.
        whole = int(self.rows[row])
        return {"row": whole} | self.source[whole]

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
        return [ids[row] for row in self.rows.tolist()]

    def labels(self, head: str) -> np.ndarray | list[np.ndarray]:
        """Returns the label of every row."""
        labels = self.source.labels(head)
        return labels[self.rows] if isinstance(labels, np.ndarray) else [labels[row] for row in self.rows.tolist()]


# ---------------------------------------------------------------------------- which clips
def _ranks(seed: int, ids: Sequence[str]) -> np.ndarray:
    """Returns the numbers [N, 2] that sort clips into the random order of a seed, the same on every machine."""
    # Of a digest of each id, so that a clip keeps its place when others are added to the dataset or removed. Half
    # of it decides: that two clips agree in 128 bits is not to be expected.
    found, begin, sha = np.empty((len(ids), 2), np.uint64), f"{seed}/".encode(), hashlib.sha256
    for start in range(0, len(ids), _SOME):
        some = ids[start : start + _SOME]
        digests = b"".join([sha(begin + clip.encode()).digest() for clip in some])
        found[start : start + len(some)] = np.frombuffer(digests, ">u8").reshape(-1, 4)[:, :2]
    return found


def _evenly(counts: np.ndarray, total: int) -> np.ndarray:
    """Distributes ``total`` clips over classes that have ``counts``: each next one goes to the class with fewest.

    Ties go to the class that has fewer clips in all. Returns int [K].
    """
    total = min(total, int(counts.sum()))
    low, high = 0, int(counts.max(initial=0))
    # As many as every class can have, if it has so many.
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(counts, level).sum() <= total else (low, level - 1)
    wanted = np.minimum(counts, low)
    # One more each for the first of those that have more, of which there are more than are left.
    more = [c for c in np.argsort(counts, kind="stable") if counts[c] > low]
    wanted[more[: total - int(wanted.sum())]] += 1
    return wanted


def _proportionally(counts: np.ndarray, total: int) -> np.ndarray:
    """Distributes ``total`` clips over classes in proportion to their ``counts``; what rounding down leaves goes
    to the largest remainders. Returns int [K]."""
    exact = counts * (min(total, int(counts.sum())) / max(int(counts.sum()), 1))
    wanted = np.floor(exact).astype(counts.dtype)
    left = round(exact.sum()) - int(wanted.sum())
    wanted[np.argsort(wanted - exact, kind="stable")[:left]] += 1
    return wanted


def _wanted(counts: np.ndarray, clips: int, rule: Rule) -> tuple[np.ndarray, int]:
    """Returns (clips of every class [K], clips in all) that a rule asks for; -1 in all means no such limit.

    Of ``clips`` in all, ``counts`` [K] are how many have each class.
    """
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
    wanted, total = _wanted(shown.sum(0), len(shown), rule)
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


def _drawn_of_one(label: np.ndarray, classes: int, rule: Rule) -> np.ndarray:
    """Does what `_drawn` does for clips of one class each, ``label`` int [N]: no clip serves two classes, so that
    all are served at once."""
    counts = np.bincount(label, minlength=classes)
    wanted, total = _wanted(counts, len(label), rule)
    # Few bits are sorted five times as fast.
    by_class = np.argsort(label.astype(np.min_scalar_type(classes)), kind="stable")
    # The place of every clip within its class, in the order of `by_class`.
    place = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.zeros(len(label), bool)
    taken[by_class[place < np.repeat(wanted, counts)]] = True
    spare = np.flatnonzero(~taken)[: max(total - int(taken.sum()), 0)]
    return np.concatenate([np.flatnonzero(taken), spare])


def _shuffled(ids: Sequence[str], rows: np.ndarray, seed: int) -> np.ndarray:
    """Returns ``rows`` in the random order of a seed (`_ranks`)."""
    first, second = _ranks(seed, ids if len(rows) == len(ids) else [ids[row] for row in rows.tolist()]).T
    order = np.argsort(first)
    # One number sorts ten times as fast as two, and hardly ever leaves a tie.
    if (np.diff(first[order]) == 0).any():
        order = np.lexsort((second, first))
    return rows[order]


def choose(source, rule: Rule, head: Head | None, without: Collection[str] = ()) -> np.ndarray:
    """Returns the rows that a rule takes of a source, ascending, less the clips whose ids are in ``without``.

    ``head`` is the label space whose classes the rule counts, None where the rule takes all clips. In a head
    of kind 'single', clips whose label is none of its classes are never drawn.
    """
    ids = source.ids()
    rows = np.asarray([row for row in range(len(ids)) if ids[row] not in without] if without else range(len(ids)))
    if head is None or not len(rows):
        return rows
    # From here on the order is the seed's, so that taking the first rows is a random draw.
    rows = _shuffled(ids, rows, rule.seed)
    labels = source.labels(rule.head)
    if head.kind == "single":
        label = np.asarray(labels, int)[rows]
        known = (label >= 0) & (label < head.classes)
        rows, label = rows[known], label[known]
        return np.sort(rows[_drawn_of_one(label, head.classes, rule)]) if len(rows) else rows
    shown = np.stack([classes_of(labels[row], head) for row in rows.tolist()])
    return np.sort(rows[_drawn(shown, rule)])


def classes_of(label: np.ndarray, head: Head) -> np.ndarray:
    """Returns bool [K], the classes of a label: an id, multi-hot [K], or spans [n, 3] (class, start, end)."""
    if label.ndim == 1:
        return label > 0
    own = label[:, 0] if label.ndim == 2 else label
    return np.isin(np.arange(head.classes), own.astype(int))


# ---------------------------------------------------------------------------- of a configuration
def _rows(
    name: str, rule: Rule, dataset: Dataset, heads: Mapping[str, Head], kept: Sequence[str] | None
) -> Sequence[int]:
    """Returns the rows that a subset takes: those of the ids ``kept`` of an earlier call, or a new choice."""
    source = dataset.split(rule.of)
    if kept is not None:
        # They were written in the order of their rows.
        wanted = set(kept)
        return [row for row, clip in enumerate(source.ids()) if clip in wanted]
    if rule.head:
        LOG.info("subset %s: reading the labels of %d clips, once", name, len(source))
    without = set(dataset.split(rule.without).ids()) if rule.without else set()
    return choose(source, rule, heads.get(rule.head), without)


def divided(
    datasets: Mapping[str, Dataset],
    configured: Mapping[str, Mapping],
    heads: Mapping[str, Mapping[str, Head]],
    path,
) -> dict[str, Dataset]:
    """Returns the ``datasets`` with the subsets of ``config.subsets`` beside their splits. Those of a further
    dataset stand beside the main one's, too, so that networks that learn from it can be scored on them.

    Where `write` has kept the ids at ``path`` and neither clips nor rules differ, it takes those, so that the
    labels are read only once. Raises ValueError as `rules` does, and for a subset without clips.
    """
    datasets = dict(datasets)
    made = rules(configured, {name: dataset.info for name, dataset in datasets.items()}, heads)
    kept = _kept(path, datasets, made)
    for name, rule in made.items():
        own = datasets[rule.dataset]
        rows = _rows(name, rule, own, heads[rule.dataset], kept.get(name))
        if not len(rows):
            raise ValueError(f"subsets.{name}: no clip of {rule.of!r} is left for it; {EXAMPLE}")
        subset = Subset(own.split(rule.of), rows, name, rule)
        for dataset in {rule.dataset, "dataset"}:
            datasets[dataset] = datasets[dataset].with_subset(name, subset)
    return datasets


def _plain(datasets: Mapping[str, Dataset], made: Mapping[str, Rule]) -> dict:
    """Returns what decides which clips the subsets have, as JSON keeps it."""
    known = {rule.dataset: datasets[rule.dataset].info.fingerprint for rule in made.values()}
    return {"fingerprints": known, "rules": {name: rule._asdict() for name, rule in made.items()}}


def _kept(path, datasets: Mapping[str, Dataset], made: Mapping[str, Rule]) -> dict[str, list[str]]:
    """Returns the {name: ids} that `write` kept for equal clips and rules; {} otherwise."""
    try:
        found = files.read_json(path) or {}
    except ValueError:
        # A damaged file costs a second reading of the labels, no more.
        return {}
    same = all(found.get(key) == value for key, value in _plain(datasets, made).items())
    return found["ids"] if same else {}


def write(path, datasets: Mapping[str, Dataset]) -> None:
    """Writes the rules and ids of the subsets of all datasets to ``path``; writes nothing where there are none."""
    # The main dataset holds those of the others, too.
    subsets = datasets["dataset"].subsets
    if subsets:
        made = {name: subset.rule for name, subset in subsets.items()}
        ids = {name: subset.ids() for name, subset in subsets.items()}
        files.write_json(path, _plain(datasets, made) | {"ids": ids})
