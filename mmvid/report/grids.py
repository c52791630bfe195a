"""A paper's tables over the segments of a run of the plan 'grid', in the paper's form, and what it prints."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid.report import points
from mmvid.report.points import Column, Line
from mmvid.report.text import aligned, percent

# Of a difference to the baseline whose interval does not hold 0.
MARKS = {1: "↑", 0: "", -1: "↓"}


class Cell(NamedTuple):
    """What a run has measured ('61.2 / 93.3', top-1 and top-5; '-' where it has not), whether that is over or
    under the baseline beyond noise (1, -1, else 0), and what the paper prints."""

    text: str
    sign: int
    published: str

    @property
    def marked(self) -> str:
        """The text with its mark."""
        return " ".join(filter(None, (self.text, MARKS[self.sign])))


class Matrix(NamedTuple):
    """A table: its title, its columns, and rows (title, cells), as many cells as columns or fewer."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[Cell | None]]]

    @property
    def published(self) -> bool:
        """Whether the paper prints any of it."""
        return any(cell and cell.published for _, cells in self.rows for cell in cells)


def matrices(columns: Sequence[Column], split: str, config: Mapping, found: Sequence[Line]) -> list[Matrix]:
    """Makes the tables of ``config``'s grid for a split whose `points.lines` are ``found``; [] for other plans."""
    if config.get("plan") != "grid":
        return []
    segments = [column.segment for column in points.there(columns, split)]

    def cell(told) -> Cell | None:
        segment, output, published = told
        return _cell(found, segments, segment, output, published) if segment else None

    return [
        Matrix(title, tuple(heads), [(name, [cell(told) for told in cells]) for name, cells in rows])
        for title, heads, rows in config["grid"]["tables"]
    ]


def _cell(found: Sequence[Line], segments: Sequence[str], segment: str, output: str, published: str) -> Cell:
    own = [line for line in found if line.output == output]
    line = points.main_line(own, output) if own else None
    point = line.points[segments.index(segment)] if line and segment in segments else None
    if point is None:
        return Cell("-", 0, published)
    five = point.more.get("top5")
    text = percent(point.value) + ("" if five is None else f" / {percent(five)}")
    return Cell(text, points.sign(point.over), published)


def rows_of(matrix: Matrix, *, published: bool = False) -> list[list[str]]:
    """Lists the rows of a table, its head first, as texts: what was measured, or what is ``published``."""
    made = [["", *matrix.columns]]
    for name, cells in matrix.rows:
        texts = ["" if cell is None else (cell.published if published else cell.marked) for cell in cells]
        if any(texts):
            made.append([name, *texts, *[""] * (len(matrix.columns) - len(texts))])
    return made


def text(found: Sequence[Matrix], split: str, baseline: str) -> str:
    """Writes the tables as aligned text, each above what the paper prints; '' where there are none.

    ``baseline`` is the title of the column that marks are about, '' where there is none.
    """
    parts = []
    for matrix in found:
        marks = f"; {MARKS[1]} {MARKS[-1]} over, under {baseline} beyond noise" if baseline else ""
        parts.append(f"{matrix.title} ({split}, top-1 / top-5{marks})\n{aligned(rows_of(matrix))}")
        if matrix.published:
            parts.append(f"printed in the paper, for its own dataset\n{aligned(rows_of(matrix, published=True))}")
    return "\n\n".join(parts)
