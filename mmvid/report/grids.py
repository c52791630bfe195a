"""A paper's tables over the segments of a run of the plan 'grid', in the paper's form, and what it prints."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid.report import points
from mmvid.report.points import Column, Line
from mmvid.report.text import aligned, top
from mmvid.scores import file, members, numbers, protocols
from mmvid.scores.members import Clips, Figure, Member
from mmvid.streams import OF_TABLE_10

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
    """A table: its title, its columns, and rows (title, cells), as many cells as columns or fewer; what is in them
    (``unit``), and whether cells have ``marks``."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[Cell | None]]]
    unit: str = "top-1 / top-5"
    marks: bool = False

    @property
    def published(self) -> bool:
        """Whether the paper prints any of it."""
        return any(cell and cell.published for _, cells in self.rows for cell in cells)


def matrices(
    columns: Sequence[Column], split: str, config: Mapping, found: Sequence[Line], baseline: str = ""
) -> list[Matrix]:
    """Makes the tables of ``config``'s grid for a split whose `points.lines`, with differences to the segment
    ``baseline``, are ``found``; [] for other plans. Cells that end as many trainings as the baseline are marked.
    """
    if config.get("plan") != "grid":
        return []
    segments = [column.segment for column in points.there(columns, split)]
    grid = config["grid"]["segments"]
    unit = "mAP" if any(line.multi for line in found) else "top-1 / top-5"

    def alike(segment: str, output: str) -> bool:
        """Of other updates a difference to the baseline would be none of the method."""
        return baseline in grid and trainings(grid, segment, output) == trainings(grid, baseline, output)

    def cell(told) -> Cell | None:
        segment, output, published = told
        own = _cell(found, segments, segment, output, published) if segment else None
        return own if own is None or alike(segment, output) else own._replace(sign=0)

    def matrix(title: str, heads, rows) -> Matrix:
        made = [(name, [cell(told) for told in cells]) for name, cells in rows]
        return Matrix(title, tuple(heads), made, unit, baseline in grid)

    return [matrix(*told) for told in config["grid"]["tables"]]


def trainings(segments: Mapping[str, Mapping], segment: str, output: str) -> int:
    """Counts the trainings of the grid that ``output`` of ``segment`` has behind it, the last one included; of a
    sum, those of its network that has most."""
    starts = segments[segment].get("starts", {})

    def counted(told: str) -> int:
        source, _, network = told.partition(".")
        return 1 + (trainings(segments, source, network) if source in segments else 0)

    chosen = [starts[output]] if output in starts else starts.values()
    return max(map(counted, chosen), default=1)


def by_protocol(columns: Sequence[Column], split: str, config: Mapping) -> list[Matrix]:
    """Makes table 10 of ``config``'s grid for a split; [] for other plans, and where clips were not tested so."""
    told = config["grid"]["protocols"] if config.get("plan") == "grid" else ()
    scores = {c.segment: c.scores[split] for c in points.there(columns, split)}
    whole = all(protocols.has_all(own) and len(file.labelled(own).id) for own in scores.values())
    if not told or not whole:
        return []
    title, rows = told
    how = config["evaluation"]["aggregate"]
    made = []
    for name, segment, output, printed in rows:
        found = protocols.every(scores[segment]).values()
        heads = [next(iter(numbers.summary(own, how)[output].values())) for own in found]
        texts = [top(own["map"]) if "map" in own else top(own["top1"], own.get("top5")) for own in heads]
        made.append((name, [Cell(text, 0, paper) for text, paper in zip(texts, printed)]))
    return [Matrix(title, tuple(OF_TABLE_10), made, _unit(scores))]


def added_up(config: Mapping) -> set[str]:
    """Returns the segments of ``config``'s grid without whose scores its tables of protocols and ensembles cannot
    be made."""
    if config.get("plan") != "grid":
        return set()
    grid = config["grid"]
    found = {segment for _, rows, columns, _ in grid["pairs"] for _, segment, _ in (*rows, *columns)}
    if grid["ranks"]:
        found |= {segment for _, told, _ in grid["ranks"][1] for _, segment, _ in told}
    if grid["sums"]:
        found |= {segment for _, told, _ in grid["sums"][1] for segment, _ in told}
    return found | ({segment for _, segment, *_ in grid["protocols"][1]} if grid["protocols"] else set())


def ensembles(columns: Sequence[Column], split: str, config: Mapping) -> list[Matrix]:
    """Makes the tables of ensembles of ``config``'s grid for a split; [] for other plans."""
    if config.get("plan") != "grid":
        return []
    grid, scores = config["grid"], {c.segment: c.scores[split] for c in points.there(columns, split)}
    if not all(len(file.labelled(own).id) for own in scores.values()):
        return []
    found = [_pairs(scores, *told) for told in grid["pairs"]]
    found += [_ranks(scores, *grid["ranks"])] if grid["ranks"] else []
    return found + ([_sums(scores, *grid["sums"])] if grid["sums"] else [])


def _gathered(scores: Mapping, told: Sequence) -> tuple[list[Member], Clips]:
    """The members (title, segment, output), and the clips that all are scored on, in their first head."""
    head = next(iter(next(iter(scores.values())).label))
    # Members of two parts may be called alike.
    named = {str(i): (scores[segment], output) for i, (_, segment, output) in enumerate(told)}
    return members.gathered(named, head)


def _pairs(scores: Mapping, title: str, rows, columns, published) -> Matrix:
    """Tables 11 and 12."""
    own, clips = _gathered(scores, [*rows, *columns])
    names = [[name for name, *_ in part] for part in (rows, columns)]
    figures = members.product(own, clips, members.in_turn([len(rows), len(columns)]))
    return pairs(title, figures, *names, _unit(scores), published)


def pairs(
    title: str, figures: Sequence[Figure], rows: Sequence[str], columns: Sequence[str], unit: str, published=None
) -> Matrix:
    """Makes the table of all sums of a row's member and a column's, ``figures`` row by row, as MML's tables 11
    and 12."""
    made = []
    for i, row in enumerate(rows):
        own = figures[i * len(columns) : (i + 1) * len(columns)]
        texts = published[i] if published else [""] * len(columns)
        made.append((row, [Cell(top(f.value, f.five), 0, text) for f, text in zip(own, texts)]))
    return Matrix(title, tuple(columns), made, unit)


def _ranks(scores: Mapping, title: str, parts) -> Matrix:
    """Table 13."""
    own, clips = _gathered(scores, [member for _, told, _ in parts for member in told])
    indices = members.in_turn([len(told) for _, told, _ in parts])
    names = [name for _, told, _ in parts for name, *_ in told]
    heads, published = zip(*((part, printed) for part, _, printed in parts))
    return ranks(title, members.product(own, clips, indices), names, dict(zip(heads, indices)), published)


def ranks(
    title: str, figures: Sequence[Figure], names: Sequence[str], parts: Mapping[str, Sequence[int]], published=None
) -> Matrix:
    """Makes the table of the sums of places in ensembles, ``figures``, as MML's table 13: of each of ``parts``
    {title: members} the members, the best first, and beside them what is ``published``."""
    sums = members.rank_sums(figures)
    lists = [sorted((sums[i], names[i]) for i in part if i in sums) for part in parts.values()]
    made = []
    for place in range(max(map(len, lists))):
        cells = []
        for found, printed in zip(lists, published or [()] * len(lists)):
            value, name = found[place] if place < len(found) else ("", "")
            paper, paper_sum = printed[place] if place < len(printed) else ("", "")
            cells += [Cell(name, 0, paper), Cell(str(value), 0, paper_sum)]
        made.append((str(place + 1), cells))
    heads = [text for part in parts for text in (part, "sum")]
    return Matrix(title, tuple(heads), made, "the smaller a sum, the better")


def _sums(scores: Mapping, title: str, rows) -> Matrix:
    """Ensembles that are named one by one, as table 9 does."""
    made = []
    for name, told, published in rows:
        own, clips = _gathered(scores, [("", *member) for member in told])
        found = members.figure(own, clips, range(len(own)))
        made.append((name, [Cell(top(found.value, found.five), 0, published)]))
    return Matrix(title, ("sum of logits",), made, _unit(scores))


def _unit(scores: Mapping) -> str:
    """What cells are, of the first head of the scores."""
    first = next(iter(scores.values()))
    head = next(iter(first.label))
    return ("mAP" if numbers.is_multi(first, head) else "top-1 / top-5") + (
        f", {head}" if len(first.label) > 1 else ""
    )


def _cell(found: Sequence[Line], segments: Sequence[str], segment: str, output: str, published: str) -> Cell:
    own = [line for line in found if line.output == output]
    line = points.main_line(own, output) if own else None
    point = line.points[segments.index(segment)] if line and segment in segments else None
    if point is None:
        return Cell("-", 0, published)
    return Cell(top(point.value, point.more.get("top5")), points.sign(point.over), published)


def every(
    columns: Sequence[Column], split: str, config: Mapping, found: Sequence[Line], baseline: str
) -> list[Matrix]:
    """Makes all tables of ``config``'s grid for a split, as `matrices` does; [] for other plans."""
    own = matrices(columns, split, config, found, baseline) + by_protocol(columns, split, config)
    return own + ensembles(columns, split, config)


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
        marks = (
            f"; {MARKS[1]} {MARKS[-1]} over, under {baseline} beyond noise" if baseline and matrix.marks else ""
        )
        parts.append(f"{matrix.title} ({split}, {matrix.unit}{marks})\n{aligned(rows_of(matrix))}")
        if matrix.published:
            parts.append(f"printed in the paper, for its own dataset\n{aligned(rows_of(matrix, published=True))}")
    return "\n\n".join(parts)
