"""What is to be prepared: the clips of a dataset and its label spaces. Each file of readers/ makes a Manifest,
from a CSV (table.py), a folder of classes (folder.py) or a dataset's own annotation."""

import collections
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_VIDEOS = """3g2 3gp 264 265 amv asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg
    mk3d mkv mov mp4 mpe mpeg mpg mts mxf nut ogm ogv qt rmvb ts vob webm wmv xvid y4m"""
VIDEO_ENDINGS = {f".{ending}" for ending in _VIDEOS.split()}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SPLITS = ("train", "val", "test")
FURTHER = ("depth", "flow", "audio", "boxes")
KINDS = ("single", "multi", "spans")
SPLIT_NAMES = dict(train="train", training="train", val="val", valid="val", validation="val",
                   test="test", testing="test")  # fmt: skip
# TFDS reads it as all splits together.
RESERVED_SPLITS = ("all",)
# Fewer rows than this share do not decide for all others what a label space is.
FEW = 0.05


class Item(NamedTuple):
    """One clip to prepare.

    ``path`` is where its RGB is: a file, a folder of pictures or a pattern within one; None where it has
    none. ``labels`` {head: class names, or 'name@start-end'}. ``start`` and ``end`` are seconds of the video;
    an ``end`` of None is the video's own. ``paths`` {modality of FURTHER: path}. ``fps`` is the rate of
    pictures in folders, which have none of their own."""

    id: str
    path: pathlib.Path | None
    split: str
    labels: dict[str, tuple[str, ...]]
    start: float = 0.0
    end: float | None = None
    paths: dict[str, pathlib.Path] = {}  # noqa: RUF012
    fps: float | None = None


class Manifest(NamedTuple):
    """A dataset before anything of it is opened. ``heads`` {name: {kind, names}} are the label spaces, with
    the class names in order of their ids; ``notes`` tell the user how the files were read."""

    name: str
    items: list[Item]
    heads: dict[str, dict]
    notes: tuple[str, ...] = ()


_SPAN = re.compile(r"(?P<name>.+)@(?P<start>\d+\.?\d*)-(?P<end>\d+\.?\d*)")


def span(label: str) -> tuple[str, float, float] | None:
    """Reads 'sit@1.5-4' as ('sit', 1.5, 4.0), in seconds of the video; None for a plain name."""
    match = _SPAN.fullmatch(label)
    return match and (match["name"], float(match["start"]), float(match["end"]))


def printable(name: str) -> str:
    r"""Returns a file's name as text that can be written anywhere: bytes that are not UTF-8, and control
    characters, are spelt out as \xe9 and \n."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if is_control(c) else c for c in text)


def is_control(character: str) -> bool:
    """Tells whether a character is a control character, such as a line break or a tab."""
    return unicodedata.category(character) == "Cc"


def few(names: Sequence[str], most: int = 3) -> str:
    """Writes ``names`` for a sentence: the first ``most`` and the number of the others, 'a', 'b', 'c' and 4
    more."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


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


def check_split(name: str) -> None:
    """Raises ValueError for a name that a split cannot have."""
    if not name.isidentifier():
        raise ValueError(f"split={name!r}: letters, digits and underscores, please")
    if name.casefold() in RESERVED_SPLITS:
        raise ValueError(f"split={name!r} is reserved, it means all splits together: rename it")


def alike(names: Iterable[str]) -> list[list[str]]:
    """Returns the groups of names that differ only by case, by blanks, _ and -, or by how an accent is
    encoded."""
    # NFKC: one letter with an accent, or a letter and an accent after it, look the same on every screen.
    groups = collections.defaultdict(set)
    for name in names:
        groups[re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
