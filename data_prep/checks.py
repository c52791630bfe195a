"""Finds what would make a score false or a label odd: clips that are in training and evaluation at once,
classes that nothing trains, names that look alike. A manifest is checked before the work, the prepared clips
after it."""

import collections
import itertools
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from data_prep import manifest
from data_prep.manifest import Item
from mmvid.data.media.item import few

# At most this share of an evaluation's clips may be training clips: by so much its score may be false.
SHARED = 0.01
# A split of fewer clips is a trial, whose score nobody relies on: what is wrong with it is said, not refused.
TRIAL = 10


class Row(NamedTuple):
    """What the checks need to know of a clip: ``classes`` is {head: names}, and ``content`` is equal for clips
    that are equal."""

    id: str
    split: str
    classes: dict[str, tuple[str, ...]]
    content: Hashable


def of_items(items: Iterable[Item]) -> list[Row]:
    """Makes the rows of a manifest, in which clips are equal where their paths and times are."""
    return [
        Row(item.id, item.split, {h: _classes(labels) for h, labels in item.labels.items()}, _source(item))
        for item in items
    ]


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the class names of labels, without the times that some bear."""
    return tuple(found[0] if (found := manifest.span(label)) else label for label in labels)


def _source(item: Item) -> tuple:
    # Two clips of one film may be told apart by what comes with it only where they have no RGB.
    paths = [item.path] if item.path else item.paths.values()
    return (*map(os.path.normpath, paths), item.start, item.end)


# ---------------------------------------------------------------------------- clips in two places
def doubles(rows: Sequence[Row]) -> list[str]:
    """Makes notes on clips that occur twice: in two splits, or in one split under different labels.

    Raises ValueError where an evaluation split of TRIAL clips or more consists to more than the share SHARED of
    training clips.
    """
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row.content].append(row)
    pairs = collections.defaultdict(list)
    for group in groups.values():
        for first, second in _pairs(group):
            pairs[first.split, second.split].append((first.id, second.id))
    sizes = collections.Counter(row.split for row in rows)
    return [_said(splits, found, sizes) for splits, found in sorted(pairs.items())]


def _pairs(group: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Yields the pairs in a ``group`` of equal clips that should not be equal: the first clip ('train' before
    other splits) with each clip of another split, unless it is the very same one, and with one of its own split
    that bears other labels."""
    # A training clip leads: what it is equal to in an evaluation makes a score false.
    first, *others = sorted(group, key=lambda row: (row.split != "train", row.split, row.id))
    for row in others:
        # One id in both is meant: EPIC's 'unseen' is a part of its 'val'.
        meant = row.id == first.id and "unseen" in (first.split, row.split) and first.split != "train"
        if row.split != first.split and not meant:
            yield first, row
    unlike = (row for row in others if row.split == first.split and row.classes != first.classes)
    # One of them: a clip that occurs a hundred times is one fault, not a hundred.
    yield from ((first, row) for row in itertools.islice(unlike, 1))


def _said(splits: tuple[str, str], found: list[tuple[str, str]], sizes: dict[str, int]) -> str:
    """Makes the note on the pairs of ids ``found`` in two ``splits``, or twice in one; ``sizes`` is {split: number
    of clips}. Raises ValueError where a score would be false."""
    first, second = splits
    shown = ", ".join(f"'{a}' and '{b}'" for a, b in found[:3]) + (", .." if len(found) > 3 else "")
    if first == second:
        return f"equal clips of {first} bear different labels, {len(found)} times: {shown}"
    said = f"{len(found)} of {sizes[second]} clips of {second} are in {first}, too: {shown}"
    if first == "train" and sizes[second] >= TRIAL and len(found) > SHARED * sizes[second]:
        raise ValueError(
            f"{said}. The score of {second!r} would be false: put equal clips into one split, or leave one of "
            "them out, and run the same command again; what is prepared is kept"
        )
    return said


def overlaps(items: Iterable[Item]) -> list[str]:
    """Makes a note where training clips and clips of evaluation are cut from the same seconds of a film."""
    films = collections.defaultdict(list)
    for item in items:
        if item.path:
            films[os.path.normpath(item.path)].append(item)
    pairs = [pair for film in films.values() if len(film) > 1 for pair in _overlapping(film)]
    if not pairs:
        return []
    first, second = pairs[0]
    return [
        f"{len(pairs)} clips outside of train share seconds of a film with training clips: "
        f"'{second.id}' ({second.split}) and '{first.id}'{', ..' if len(pairs) > 1 else ''}"
    ]


def _overlapping(film: list[Item]) -> Iterator[tuple[Item, Item]]:
    """Yields (training clip, clip of another split) of one film that overlap: for each of the latter the first
    training clip that it shares seconds with. Clips of equal times are left to `doubles`."""
    train = [item for item in film if item.split == "train"]
    others = [item for item in film if item.split != "train"]
    for item in others:
        for trained in train:
            shared = _before(trained.start, item.end) and _before(item.start, trained.end)
            if shared and (trained.start, trained.end) != (item.start, item.end):
                yield trained, item
                break


def _before(start: float, end: float | None) -> bool:
    """Tells whether ``start`` lies before ``end``, where None is the end of the film."""
    return end is None or start < end


# ---------------------------------------------------------------------------- classes
def untrained(rows: Sequence[Row], heads: Iterable[str]) -> list[str]:
    """Makes a note for every head with classes that occur in evaluation and that no training clip has.

    Raises ValueError where 'val' or 'test' has TRIAL labels or more, but none of them is a class that a
    training clip has.
    """
    notes = []
    # A dataset for evaluation alone trains nothing, and must not be refused for it.
    for head in heads if any(row.split == "train" for row in rows) else ():
        seen = collections.defaultdict(collections.Counter)
        for row in rows:
            seen[row.split].update(row.classes.get(head, ()))
        trained = seen.pop("train", {})
        for split in ("val", "test"):
            if seen[split].total() >= TRIAL and not seen[split].keys() & trained.keys():
                raise ValueError(
                    f"{split} has no class of {head!r} in common with train, so that its score could only be 0: "
                    f"{few(sorted(seen[split]))} beside {few(sorted(trained)) or 'none'}"
                )
        lacking = {name for counts in seen.values() for name in counts} - trained.keys()
        if lacking:
            numbers = {split: sum(counts[name] for name in lacking) for split, counts in sorted(seen.items())}
            clips = ", ".join(f"{number} of {split}" for split, number in numbers.items() if number)
            names = few(sorted(lacking, key=manifest.natural))
            notes.append(f"{head}: no training clip shows {names}, which clips of evaluation do ({clips})")
    return notes


def names(items: Sequence[Item], heads: dict[str, dict]) -> list[str]:
    """Makes notes on classes, splits and ids that look alike, and on heads that have a single class."""
    kinds = {f"classes of {head!r}": spec["names"] for head, spec in heads.items()}
    kinds |= {"splits": [item.split for item in items], "ids": [item.id for item in items]}
    notes = [
        f"{what} that differ by little and are held apart: {_together(found)}"
        for what, known in kinds.items()
        if (found := manifest.alike(known))
    ]
    # Of a single multi-label class it can still be asked whether it occurs.
    one = [head for head, spec in heads.items() if len(spec["names"]) == 1 and spec["kind"] == "single"]
    return notes + [f"{head} has one class: whatever is said is right" for head in one]


def _together(groups: list[list[str]]) -> str:
    """Writes groups of names for a sentence, at most three of them."""
    shown = "; ".join(" and ".join(f"'{name}'" for name in group) for group in groups[:3])
    return shown + (f" and {len(groups) - 3} more" if len(groups) > 3 else "")


def of_manifest(source: manifest.Manifest) -> list[str]:
    """Makes the notes that a manifest allows before any clip is opened. Raises ValueError where a score would be
    false."""
    # These two are called for what they raise. Their notes are made later, from the clips that can be used.
    rows = of_items(source.items)
    untrained(rows, source.heads)
    doubles(rows)
    return names(source.items, source.heads) + overlaps(source.items)


def of_clips(rows: Sequence[Row], heads: Iterable[str]) -> list[str]:
    """Makes the notes that the prepared clips allow. Raises ValueError where a score would be false."""
    return untrained(rows, heads) + doubles(rows)
