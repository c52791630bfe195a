"""Reads a CSV as a manifest, whatever its encoding and separator, and refuses rows that must be mistakes."""

import codecs
import collections
import csv
import difflib
import io
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_prep import manifest
from data_prep.manifest import KINDS, Item, Manifest
from mmvid.data.media.item import FURTHER, IMAGE_ENDINGS, SPLIT_NAMES, check_split, is_control

COLUMNS = ("id", "path", "split", "start", "end", "fps", *FURTHER)
# UTF-32's mark begins with that of UTF-16.
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
          codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


# ---------------------------------------------------------------------------- text
def text_of(path: pathlib.Path) -> tuple[str, list[str]]:
    """Reads a file in UTF-8, in UTF-16 or UTF-32 with a byte order mark, or else in Windows-1252: (text, notes).

    Raises ValueError where it is in none of these, or holds NUL bytes.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text, notes = data.decode(encoding), []
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(f"{path} begins as {encoding} and is damaged ({error}): save it as UTF-8") from None
        text, notes = _windows(path, data)
    # UTF-16 of ASCII letters is valid UTF-8, too, with a NUL beside each letter.
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(
            f"{path}, line {line}: a NUL byte; this is no text, or UTF-16 without its mark: save it as UTF-8"
        )
    return text, notes


def _windows(path: pathlib.Path, data: bytes) -> tuple[str, list[str]]:
    """Reads ``data`` as Windows-1252: (text, notes); the note shows the first line that tells whether that is
    right."""
    # Some spreadsheet programs save so; but almost any bytes can be read so, hence the note.
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is neither UTF-8 nor Windows-1252 ({error}): save it as UTF-8") from None
    number, line = next((n, line) for n, line in enumerate(text.splitlines(), 1) if not line.isascii())
    return text, [
        f"{path.name} is not UTF-8 and was read as Windows-1252; line {number} became {line.strip()[:60]!r}: "
        "where that is wrong, save the file as UTF-8"
    ]


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, stripped cells) of every row that is not blank. Raises ValueError naming the line."""
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for raw in table:
            if any(cells := [cell.strip() for cell in raw]):
                yield table.line_num, cells
    except csv.Error as error:
        raise ValueError(f"line {table.line_num}: {error}; is a quote not closed?") from None


# ---------------------------------------------------------------------------- header
class _Header(NamedTuple):
    """The first line of the CSV. ``columns`` are the names of the columns as they are used here, '' where one has
    no name; ``heads`` is {column of labels: head}."""

    columns: list[str]
    heads: dict[str, str]


def _column(text: str) -> str:
    """Returns a column's name without blanks and in lower case, 'label/verb' for 'Label/ verb'; names that are
    not known here keep their case."""
    first, slash, rest = text.strip().partition("/")
    known = first.strip().casefold()
    return known + slash + rest.strip() if known in (*COLUMNS, "label") else text.strip()


def _separator(text: str) -> str:
    """Finds what parts the columns: the separator with which the first line has the columns 'id' and 'path', else
    the one of _SEPARATORS that it holds most often."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    for separator in _SEPARATORS:
        if {"id", "path"} <= {_column(c) for c in next(csv.reader([line], delimiter=separator), [])}:
            return separator
    # None gives the needed columns: `_header` will say what lacks, and says it best with the likeliest one.
    return max(_SEPARATORS, key=line.count)


def _header(cells: list[str]) -> _Header:
    """Reads the names of the columns from the first line. Raises ValueError where one is missing or occurs
    twice."""
    columns = [_column(cell) for cell in cells]
    for column, count in collections.Counter(columns).items():
        if column and count > 1:
            places = [str(i) for i, c in enumerate(columns, 1) if c == column]
            raise ValueError(f"the column {column!r} occurs twice (columns {' and '.join(places)}): rename one")
    # A plain column 'label' is the head 'action', as in the datasets of one head.
    heads = {c: c.partition("/")[2] or "action" for c in columns if c.split("/")[0] == "label"}
    missing = [c for c in ("id", "path") if c not in columns] + ([] if heads else ["label (or label/<head>)"])
    if missing:
        near = difflib.get_close_matches(missing[0].split()[0], [c.casefold() for c in columns if c], 1, 0.5)
        hint = f"; is {near[0]!r} meant for it? Rename it" if near else ""
        raise ValueError(f"lacks the column {', '.join(missing)}; it has {columns}{hint}")
    manifest.check_heads(list(heads.values()))
    return _Header(columns, heads)


# ---------------------------------------------------------------------------- rows
def _seconds(row: dict, name: str, default):
    """Reads the number of seconds in a row's column ``name``; ``default`` where the cell is empty. Raises
    ValueError for what is no such number."""
    text = row.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # The comparison is false for NaN, which float() reads, too.
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name}={text!r} is not a number of seconds")
    return seconds


def _fps(text: str | None) -> float | None:
    """Reads a rate in frames a second; None where the cell is empty. Raises ValueError for what is no such
    number."""
    if not text:
        return None
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps={text!r} is not a number of frames a second")
    return fps


def _interval(row: dict) -> tuple[float, float | None]:
    """Reads (start, end) of a clip in seconds; an end of None is that of the video. Raises ValueError for an
    interval that is empty, and for a start other than 0 in a single picture, which has one frame."""
    start, end = _seconds(row, "start", 0.0), _seconds(row, "end", None)
    if end is not None and end <= start:
        raise ValueError(f"end={end} must be greater than start={start}")
    path = pathlib.Path(row["path"])
    if start and path.suffix.lower() in IMAGE_ENDINGS and not {"*", "?"} & set(path.name):
        raise ValueError(f"start={start} of the picture {path.name}, which has one frame: leave it empty")
    return start, end


def _split(text: str | None) -> str:
    """Reads the split that a cell means; 'train' where it is empty. Raises ValueError for a name that no split can
    have."""
    split = SPLIT_NAMES.get(text.casefold(), text) if text else "train"
    check_split(split)
    return split


def _item(row: dict[str, str], root: pathlib.Path, heads: dict[str, str]) -> Item:
    """Makes the clip of a row {column: cell}; its paths are relative to ``root``. Raises ValueError where it has
    no id or nothing to read, or a cell holds what its column cannot."""
    further = {m: root / row[m] for m in FURTHER if row.get(m)}
    if not row["id"] or not (row["path"] or further):
        raise ValueError(
            f"id={row['id']!r}, path={row['path']!r}: a clip has an id and a path, or one of {', '.join(FURTHER)}"
        )
    # Ids and classes are written into tables and lists of lines later.
    for column in ("id", *heads):
        if any(map(is_control, row[column])):
            raise ValueError(f"{column}={row[column]!r} holds a line break, a tab or the like")
    labels = {
        head: tuple(dict.fromkeys(t.strip() for t in row[column].split("|") if t.strip()))
        for column, head in heads.items()
    }
    path = root / row["path"] if row["path"] else None
    start, end = _interval(row)
    return Item(row["id"], path, _split(row.get("split")), labels, start, end, further, _fps(row.get("fps")))


def _row(cells: list[str], columns: list[str]) -> dict[str, str]:
    """Returns {column: cell}; cells that the row lacks are empty. Raises ValueError where it has too many."""
    # Empty cells behind the last column do no harm, and spreadsheet programs write them.
    if any(cells[len(columns) :]):
        raise ValueError(
            f"{len(cells)} cells for {len(columns)} columns, the first too many is {cells[len(columns)]!r}: "
            'a text that holds the separator needs "quotes" around it'
        )
    return dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))]))


def _items(
    rows: Iterator[tuple[int, list[str]]], header: _Header, root: pathlib.Path
) -> tuple[list[Item], list[int], list[str]]:
    """Reads all rows: (clips, the line of each, notes). Raises ValueError naming the line that is wrong."""
    items, lines, short, renamed = [], [], [], collections.Counter()
    for line, cells in rows:
        if len(cells) < len(header.columns):
            short.append(line)
        try:
            row = _row(cells, header.columns)
            items.append(_item(row, root, header.heads))
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None
        lines.append(line)
        if row.get("split") and row["split"] != items[-1].split:
            renamed[row["split"], items[-1].split] += 1
    notes = [f"split {old!r} was read as {new!r} ({n} clips)" for (old, new), n in sorted(renamed.items())]
    if short:
        notes.append(
            f"{len(short)} rows have fewer cells than the header, the first in line {short[0]}: "
            "what lacks was read as empty"
        )
    return items, lines, notes


# ---------------------------------------------------------------------------- labels.json
def _known_heads(path: pathlib.Path, heads: Sequence[str]) -> dict[str, dict]:
    """Reads the label spaces that labels.json fixes. Raises ValueError where the file holds something else, or its
    heads are not those of the CSV's columns."""
    try:
        known = json.loads(text_of(path)[0])
        known = {k: {"kind": v["kind"], "names": _names(v["names"])} for k, v in known.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not {{head: {{"kind": "single", "multi" or "spans", "names": [..]}}}} ({error!r})'
        ) from None
    if set(known) != set(heads):
        raise ValueError(f"{path} names {sorted(known)}, the CSV's label columns {sorted(heads)}")
    for head, spec in known.items():
        if len(set(spec["names"])) != len(spec["names"]) or spec["kind"] not in KINDS:
            raise ValueError(f"{path}: {head}: a class occurs twice, or kind is none of {KINDS}")
        if not spec["names"]:
            raise ValueError(f"{path}: {head}: there is no class")
        if odd := [name for name in spec["names"] if not _can_be_a_label(name)]:
            raise ValueError(f"{path}: {head}: no label is {odd[0]!r}, with blanks around it, | or a line break")
    return known


def _can_be_a_label(name: str) -> bool:
    """Tells whether a cell could hold this class name, given that cells are stripped and parted at |."""
    return bool(name) and name == name.strip() and "|" not in name and not any(map(is_control, name))


def _names(names) -> list[str]:
    """Returns class names as texts. Raises TypeError where they are no list."""
    # A text would pass as a list of its letters.
    if not isinstance(names, list):
        raise TypeError("names is no list")
    return [str(name) for name in names]


# ---------------------------------------------------------------------------- the file
def read(path: str | pathlib.Path) -> Manifest:
    """Makes the manifest of a CSV with the columns id, path, and label or label/<head>, and optional ones: split,
    start, end (seconds), fps, depth, flow, audio, boxes.

    Paths are relative to the CSV's folder; an empty one means that the clip lacks the modality. A
    ``labels.json`` beside the CSV ({head: {kind, names}}) fixes the classes; otherwise they are those that
    occur, in natural order. Semicolons or tabs may part the columns, too, and the columns' names may have
    blanks around them and any case. Raises ValueError naming the line or the missing column, and
    FileNotFoundError.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}")
    text, notes = text_of(path)
    separator = _separator(text)
    if separator != ",":
        notes.append(f"the columns of {path.name} are parted by {_SEPARATORS[separator]}")
    rows = _rows(text, separator)
    try:
        header = _header(next(rows, (0, []))[1])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if unused := [c for c in header.columns if c and c not in COLUMNS and c not in header.heads]:
        notes.append(f"columns of {path.name} that are not used: {', '.join(unused)}")
    labels, known = path.with_name("labels.json"), None
    if labels.exists():
        known = _known_heads(labels, list(header.heads.values()))
    try:
        items, lines, further = _items(rows, header, path.parent)
        if not items:
            raise ValueError("a header and no rows")
        heads, said = (known, []) if known else manifest.label_spaces(items, lines)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    manifest.check_ids(items, path)
    return Manifest(path.parent.resolve().name or "manifest", items, heads, (*notes, *further, *said))
