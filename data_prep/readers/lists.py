"""Reads the CSV files that datasets publish, so that a download that broke off is named with its line."""

import csv
import io
import pathlib
from collections.abc import Iterator, Sequence

_AGAIN = "the file broke off or is damaged: fetch it again"


def text_of(path: pathlib.Path, hint: str) -> str:
    """Reads a list as text. Raises FileNotFoundError, which ends with the ``hint`` where it is to be had, and
    ValueError for one that is empty or not UTF-8."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: {hint}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); {_AGAIN}") from None
    if not text.strip():
        raise ValueError(f"{path} is empty; {_AGAIN}")
    return text


def rows(
    path: pathlib.Path, *needed: str, hint: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, {column: cell}) of a CSV. Where ``columns`` name its columns it has no header, lines that
    begin with # are passed over, and blanks may follow the commas (AudioSet's form).

    Raises FileNotFoundError, and ValueError for one that lacks any of the columns ``needed``, has no row or is
    damaged, as by a download that broke off.
    """
    text = text_of(path, hint)
    if columns:
        # Emptied, not dropped: lines are counted.
        text = "\n".join("" if line.startswith("#") else line for line in text.splitlines())
    file = io.StringIO(text, newline="")
    table, whole = csv.DictReader(file, columns, strict=True, skipinitialspace=columns is not None), 0
    try:
        if lacking := [column for column in needed if column not in (table.fieldnames or ())]:
            raise ValueError(f"{path} lacks the column {lacking[0]!r}; it has {table.fieldnames}")
        # The header's line, or those of the remarks.
        above = whole = table.line_num or len(text) - len(text.lstrip("\n"))
        for row in table:
            # Cells that a row lacks are None; those that it has too many stand under None.
            if None in row or None in row.values():
                count = "more" if None in row else "fewer"
                than = "columns" if columns else "header's"
                raise csv.Error(f"the row has {count} cells than the {than} {len(table.fieldnames)}")
            whole = table.line_num
            yield whole, row
        if whole == above:
            raise csv.Error("there is no row")
    except csv.Error as error:
        # A quote that is not closed swallows the lines behind it: the row begins where the last whole one ended.
        raise ValueError(f"{path}, line {whole + 1}: {error}; {_AGAIN}") from None
