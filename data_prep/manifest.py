"""What is to be prepared: the clips of a dataset and its label spaces. Each file of readers/ makes a Manifest,
from a CSV (table.py), a folder of classes (folder.py) or a dataset's own annotation."""

import collections
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmvid.data.media.item import Item

SPLITS = ("train", "val", "test")
KINDS = ("single", "multi", "spans")
# Fewer rows than this share do not decide for all others what a label space is.
FEW = 0.05


class Manifest(NamedTuple):
    """A dataset before anything of it is opened. ``heads`` {name: {kind, names}} are the label spaces, with
    the class names in order of their ids; ``notes`` tell the user how the files were read. ``edition`` numbers the
    versions of a dataset that is made here, which may differ in what a field means; 0 where there is one only."""

    name: str
    items: list[Item]
    heads: dict[str, dict]
    notes: tuple[str, ...] = ()
    edition: int = 0


_SPAN = re.compile(r"(?P<name>.+)@(?P<start>\d+\.?\d*)-(?P<end>\d+\.?\d*)")


def span(label: str) -> tuple[str, float, float] | None:
    """Reads 'sit@1.5-4' as ('sit', 1.5, 4.0), in seconds of the video; None for a plain name."""
    match = _SPAN.fullmatch(label)
    return match and (match["name"], float(match["start"]), float(match["end"]))


# ---------------------------------------------------------------------------- label spaces
def natural(name: str) -> tuple:
    """Returns the key that sorts '2' before '10': digits count as numbers, and names without digits as text."""
    # Texts and numbers take turns, so that equal places of two keys can always be compared.
    parts = re.split(r"(\d+)", name)
    return [(text, int(digits)) for text, digits in zip(parts[::2], [*parts[1::2], "0"])], name


def label_spaces(items: Sequence[Item], lines: Sequence[int] = ()) -> tuple[dict[str, dict], list[str]]:
    """Finds the label spaces from the labels that occur: ({head: {kind, names}}, notes), names in natural order.

    Several labels in one row make a head 'multi', labels with times make it 'spans'. ``lines`` are the lines
    of the items in their file, for messages. Raises ValueError where no row has a label for a head, or where
    so FEW rows would change the kind for all that they look like mistakes.
    """
    heads, notes = {}, []
    for head in sorted({name for item in items for name in item.labels}):
        rows = [item.labels.get(head, ()) for item in items]
        labels = {label for row in rows for label in row}
        if not labels:
            raise ValueError(f"no row has a label for {head!r}: the column is empty")
        spans = {label: found for label in labels if (found := span(label))}
        kind = "spans" if spans else "multi" if any(len(row) > 1 for row in rows) else "single"
        if kind != "single":
            decided = [i for i, row in enumerate(rows) if any(t in spans for t in row) or len(row) > 1]
            notes.append(_decided(head, kind, decided, rows, lines or range(1, len(items) + 1)))
        names = {spans[label][0] if label in spans else label for label in labels}
        heads[head] = {"kind": kind, "names": sorted(names, key=natural)}
    return heads, notes


def _decided(head: str, kind: str, decided: list[int], rows: list[tuple], lines: Sequence[int]) -> str:
    """Makes the note that the rows at the places ``decided`` turn a head into 'multi' or 'spans'. Raises
    ValueError where they are too few to decide for all others."""
    labelled, first = sum(map(bool, rows)), decided[0]
    what = {"multi": "several classes, joined by |", "spans": "a class with times, class@start-end"}[kind]
    said = (
        f"line {lines[first]}: {'|'.join(rows[first])!r} is {what}, and makes the head {head!r} {kind!r} "
        f"for all clips; {len(decided)} of {labelled} labelled rows have such"
    )
    if len(decided) < FEW * labelled:
        raise ValueError(
            f"{said}. So few look like a slip: correct them, or, where it is meant, write a labels.json "
            f'beside the CSV: {{"{head}": {{"kind": "{kind}", "names": [..]}}}}'
        )
    return said


# ---------------------------------------------------------------------------- names
def check_ids(items: list[Item], path: pathlib.Path) -> None:
    """Raises ValueError where an id occurs twice."""
    counts = collections.Counter(item.id for item in items)
    if doubled := sorted(k for k, n in counts.items() if n > 1):
        raise ValueError(f"{path}: the id {doubled[0]!r} occurs twice ({len(doubled)} such ids)")


def check_heads(names: Sequence[str]) -> None:
    """Raises ValueError for names of heads that cannot be told apart, or that cannot stand in scores, tables
    and records, where they are parts of keys that are joined by '/', ' + ' and '_and_'."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"the head {name!r} (column label/{name}): letters, digits, _ and -, please")
        if "_and_" in name and set(name.split("_and_")) <= set(names):
            raise ValueError(f"the head {name!r} bears the name of what is scored for both: rename it")
    doubled = [[name, name] for name, count in collections.Counter(names).items() if count > 1]
    if same := doubled + alike(names):
        raise ValueError(
            f"the heads {' and '.join(map(repr, same[0]))} are one, or differ too little (label is label/action): "
            "rename a column"
        )


def alike(names: Iterable[str]) -> list[list[str]]:
    """Returns the groups of names that differ only by case, by blanks, _ and -, or by how an accent is
    encoded."""
    # NFKC: one letter with an accent, or a letter and an accent after it, look the same on every screen.
    groups = collections.defaultdict(set)
    for name in names:
        groups[re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
