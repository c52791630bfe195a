"""Reads the clips that a CSV names, whatever its encoding and separator; refuses rows that must be mistakes."""

import codecs
import collections
import csv
import difflib
import io
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from mmvid.data.media.item import FURTHER, IMAGE_ENDINGS, SPLIT_NAMES, Item, check_split, is_control

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
class Header(NamedTuple):
    """The first line of the CSV. ``columns`` are the names of the columns as they are used here, '' where one has
    no name; ``heads`` is {column of labels: head}."""

    columns: list[str]
    heads: dict[str, str]


class Table(NamedTuple):
    """A CSV whose first line was read: its ``header``, its ``rows`` (line, cells) and the notes on how it is
    read."""

    header: Header
    rows: Iterator[tuple[int, list[str]]]
    notes: list[str]


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


def _header(cells: list[str], *, labelled: bool = True) -> Header:
    """Reads the names of the columns from the first line. Raises ValueError where one is missing (one of labels,
    too, where the clips are to be ``labelled``) or occurs twice."""
    columns = [_column(cell) for cell in cells]
    for column, count in collections.Counter(columns).items():
        if column and count > 1:
            places = [str(i) for i, c in enumerate(columns, 1) if c == column]
            raise ValueError(f"the column {column!r} occurs twice (columns {' and '.join(places)}): rename one")
    # A plain column 'label' is the head 'action', as in the datasets of one head.
    heads = {c: c.partition("/")[2] or "action" for c in columns if c.split("/")[0] == "label"}
    missing = [c for c in ("id", "path") if c not in columns]
    if labelled and not heads:
        missing.append("label (or label/<head>)")
    if missing:
        near = difflib.get_close_matches(missing[0].split()[0], [c.casefold() for c in columns if c], 1, 0.5)
        hint = f"; is {near[0]!r} meant for it? Rename it" if near else ""
        raise ValueError(f"lacks the column {', '.join(missing)}; it has {columns}{hint}")
    return Header(columns, heads)


def opened(path: pathlib.Path, *, labelled: bool = True) -> Table:
    """Opens the CSV of clips at ``path``. Raises FileNotFoundError, and ValueError where it is no text or lacks a
    column that it needs."""
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}")
    text, notes = text_of(path)
    separator = _separator(text)
    if separator != ",":
        notes.append(f"the columns of {path.name} are parted by {_SEPARATORS[separator]}")
    lines = _rows(text, separator)
    try:
        found = _header(next(lines, (0, []))[1], labelled=labelled)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if unused := [c for c in found.columns if c and c not in COLUMNS and c not in found.heads]:
        notes.append(f"columns of {path.name} that are not used: {', '.join(unused)}")
    return Table(found, lines, notes)


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


def rate(text: str | None) -> float | None:
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


def interval(row: dict) -> tuple[float, float | None]:
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
    start, end = interval(row)
    return Item(row["id"], path, _split(row.get("split")), labels, start, end, further, rate(row.get("fps")))


def _row(cells: list[str], columns: list[str]) -> dict[str, str]:
    """Returns {column: cell}; cells that the row lacks are empty. Raises ValueError where it has too many."""
    # Empty cells behind the last column do no harm, and spreadsheet programs write them.
    if any(cells[len(columns) :]):
        raise ValueError(
            f"{len(cells)} cells for {len(columns)} columns, the first too many is {cells[len(columns)]!r}: "
            'a text that holds the separator needs "quotes" around it'
        )
    return dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))]))


def each(found: Table, root: pathlib.Path) -> Iterator[tuple[int, list[str], Item | ValueError]]:
    """Yields (line, cells, the clip, or what is wrong with the row) of all rows; paths are relative to
    ``root``. Raises ValueError naming the line from which on nothing can be read."""
    for line, cells in found.rows:
        try:
            made = _item(_row(cells, found.header.columns), root, found.header.heads)
        except ValueError as error:
            made = ValueError(f"line {line}: {error}")
        yield line, cells, made


def items(found: Table, root: pathlib.Path) -> tuple[list[Item], list[int], list[str]]:
    """Reads all rows: (clips, the line of each, notes); their paths are relative to ``root``. Raises ValueError
    naming the line that is wrong, or that there is none."""
    clips, lines, short, renamed = [], [], [], collections.Counter()
    for line, cells, clip in each(found, root):
        if isinstance(clip, ValueError):
            raise clip
        if len(cells) < len(found.header.columns):
            short.append(line)
        clips.append(clip)
        lines.append(line)
        split = dict(zip(found.header.columns, cells)).get("split")
        if split and split != clip.split:
            renamed[split, clip.split] += 1
    if not clips:
        raise ValueError("a header and no rows")
    notes = [f"split {old!r} was read as {new!r} ({n} clips)" for (old, new), n in sorted(renamed.items())]
    if short:
        notes.append(
            f"{len(short)} rows have fewer cells than the header, the first in line {short[0]}: "
            "what lacks was read as empty"
        )
    return clips, lines, notes
