"""Few labels in a table: what labels alone, FixMatch and CMPL are worth over draws of the labelled clips.

Each clip's hits are averaged over the draws of an arm; two arms are compared over the draws that both have, clip
by clip.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.report import figures, points, rows, table
from mmvid.report.arms import METHODS, Arm, arms
from mmvid.report.points import Column, Point
from mmvid.report.rows import Row
from mmvid.report.text import aligned, difference, distance, percent


class Over(NamedTuple):
    """A paired difference (mean, low, high) to the arm of a ``title``, and in how many of the draws that both have
    the first one is ahead."""

    title: str
    difference: tuple[float, ...]
    ahead: int
    draws: int


class Line(NamedTuple):
    """A line of the table: an ``output`` of an ``arm``. ``values`` are those of its draws, as fractions,
    ``interval`` is that of their mean; ``over`` compares with outputs of the same stream by simpler methods that
    have as many labels, {method: Over}."""

    arm: Arm
    output: str
    row: Row
    values: tuple[float, ...]
    interval: tuple[float, ...]
    over: Mapping[str, Over] = {}

    @property
    def value(self) -> float:
        """The mean over draws."""
        return float(np.mean(self.values))

    @property
    def stream(self) -> str:
        """What it reads, by the output's name: of 'rates.flow', one of several of a network, 'flow'."""
        return self.output.rpartition(".")[2]

    @property
    def rank(self) -> int:
        """How many methods are simpler."""
        return METHODS.index(self.arm.method) if self.arm.method in METHODS else len(METHODS)


# ---------------------------------------------------------------------------- the table
def _row(workdir: pathlib.Path, arm: Arm, split: str, labelled: Sequence[str]) -> Row:
    """The scores of the draws ``labelled`` of an arm, as those of seeds are compared elsewhere."""
    own = {draw.labelled: draw.column for draw in arm.draws}
    scores, runs = [own[name].scores[split] for name in labelled], (str(workdir),) * len(labelled)
    return Row(arm.title, arm.first.segment, tuple(range(len(scores))), runs, {split: scores})


def _plain(workdir: pathlib.Path, found: Sequence[Arm], split: str, how: str) -> list[Line]:
    """Lists the lines without what they are compared with."""
    made = []
    for arm in found:
        row = _row(workdir, arm, split, arm.labelled)
        for output in arm.outputs:
            if values := rows.values(row, split, output, how):
                bounds = rows.interval(row, split, output, how)
                made.append(Line(arm, output, row, tuple(values), tuple(bounds)))
    return made


def _over(workdir: pathlib.Path, line: Line, base: Line, split: str, how: str) -> Over | None:
    """Compares a line with another one; None where they have no draw in common, or cannot be paired."""
    common = [name for name in line.arm.labelled if name in base.arm.labelled]
    if not common:
        return None
    own, other = (_row(workdir, each.arm, split, common) for each in (line, base))
    if any(scores.id.tolist() != own.scores[split][0].id.tolist() for scores in other.scores[split]):
        return None
    over = rows.difference(own, other, split, line.output, how, base.output)
    both = rows.values(own, split, line.output, how), rows.values(other, split, base.output, how)
    return Over(base.arm.title, over, sum(a > b for a, b in zip(*both)), len(common)) if over else None


def _compared(workdir: pathlib.Path, line: Line, plain: Sequence[Line], split: str, how: str) -> dict[str, Over]:
    """Compares a line with the first one of each simpler method that has the stream and as many labels."""
    alike = [other for other in plain if (other.stream, other.arm.labels) == (line.stream, line.arm.labels)]
    bases = {method: next((b for b in alike if b.arm.method == method), None) for method in METHODS[: line.rank]}
    found = {method: _over(workdir, line, base, split, how) for method, base in bases.items() if base}
    return {method: over for method, over in found.items() if over}


def lines(
    workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, headline: str, how: str
) -> list[Line]:
    """Computes the lines of the table, those of the ``headline`` first, each with what it is compared with. [] for
    a run of another plan."""
    plain = _plain(workdir, arms(points.there(columns, split), config), split, how)
    made = [line._replace(over=_compared(workdir, line, plain, split, how)) for line in plain]
    return sorted(made, key=lambda line: line.stream != _stream(headline))


def _stream(headline: str) -> str:
    return headline.rpartition(".")[2]


def unit(line: Line, split: str, how: str) -> str:
    """Names what the values of a line are: top-1, or mAP."""
    return {"top1": "top-1", "map": "mAP"}[rows.unit(line.row, split, line.output, how)]


def _bases(found: Sequence[Line]) -> dict[str, str]:
    """The methods that lines are compared with, and what the first of each is called: {method: title}."""
    titles = {method: [line.over[method].title for line in found if method in line.over] for method in METHODS}
    return {method: own[0] for method, own in titles.items() if own}


def table_rows(found: Sequence[Line], split: str, how: str) -> list[list[str]]:
    """Makes the table: a head, then a line for every output of every arm, with the mean over draws and its
    interval, each draw, and the differences to simpler methods. [] where there are no lines."""
    if not found:
        return []
    bases, several = _bases(found), any(len(line.values) > 1 for line in found)
    heads = [f"{unit(found[0], split, how)} [95 %]", *["draws"] * several, *(f"over {t}" for t in bases.values())]
    made = [["", "output", *heads]]
    for line in found:
        mean = f"{percent(line.value)} [{', '.join(map(percent, line.interval))}]"
        each = [", ".join(map(percent, line.values))] * several
        cells = [_cell(line.over.get(method), title) for method, title in bases.items()]
        made.append([line.arm.title, line.output, mean, *each, *cells])
    return made


def _cell(over: Over | None, title: str) -> str:
    """Writes a difference, what it is to where that is not the ``title`` of its column, and of how many draws."""
    if over is None:
        return ""
    to = "" if over.title == title else f" ({over.title})"
    return difference(over.difference) + to + (f"; {over.ahead} of {over.draws}" if over.draws > 1 else "")


def text(found: Sequence[Line], columns: Sequence[Column], split: str, how: str) -> str:
    """Writes the table as aligned text, below the line of `table.denominators`; '' where there are no lines."""
    if not found:
        return ""
    about = table.denominators(points.there(columns, split)[-1].scores[split])
    return f"{about}\n{aligned(table_rows(found, split, how))}"


# ---------------------------------------------------------------------------- in words
def chain(found: Sequence[Line], headline: str, segment: str) -> list[Line]:
    """Lists what a run is about: the ``headline`` by labels alone, by FixMatch, and by the arm of the run's own
    ``segment``, all with as many labels; without those that there are not."""
    last = next((line for line in found if line.output == headline and line.arm.has(segment)), None)
    if last is None:
        return []
    alike = [line for line in found if (line.stream, line.arm.labels) == (last.stream, last.arm.labels)]
    simpler = [next((line for line in alike if line.arm.method == m), None) for m in METHODS[: last.rank]]
    return [*filter(None, simpler), last]


def verdict(found: Sequence[Line], headline: str, segment: str, split: str, how: str) -> str:
    """Says in a line who is ahead of whom: 'Over 3 labelled draws, flow top-1: Supervised 50.1 < FixMatch 60.2 ≈
    CMPL 61.0', where ≈ is within noise; '' where there are not two to compare."""
    steps = chain(found, headline, segment)
    if len(steps) < 2:
        return ""
    said = f"{steps[0].arm.title} {percent(steps[0].value)}"
    for before, line in itertools.pairwise(steps):
        over = line.over.get(before.arm.method)
        beside = {1: "<", 0: "≈", -1: ">"}[points.sign(over.difference)] if over else "|"
        said += f" {beside} {line.arm.title} {percent(line.value)}"
    draws = min(len(line.values) for line in steps)
    which = f"Over {draws} labelled draws" if draws > 1 else "Of one labelled draw"
    return f"{which}, {headline} {unit(steps[-1], split, how)}: {said}"


def said(found: Sequence[Line], headline: str, segment: str, split: str) -> list[str]:
    """Says by how much each of the `chain` is ahead of the one before, and the other outputs of the run's own arm
    of the same by the next simpler method, in words that say whether that is beyond noise."""
    steps = chain(found, headline, segment)
    pairs = [(line, line.over.get(before.arm.method)) for before, line in itertools.pairwise(steps)]
    others = [line for line in found if line.output != headline and line.arm.has(segment)]
    pairs += [(line, [*line.over.values()][-1]) for line in others if line.over]
    return [f"{line.arm.title}: {line.output} {_beside(over)} ({split})" for line, over in pairs if over]


def told(found: Sequence[Line], headline: str, segment: str, split: str, how: str) -> list[str]:
    """Lists the lines that end a run: its `verdict`, and what is `said` below it; [] where there is none."""
    first = verdict(found, headline, segment, split, how)
    below = [f"  {line}" for line in said(found, headline, segment, split)]
    return [f"{first} ({split})", *below] if first else []


def _beside(over: Over) -> str:
    draws = f", ahead in {over.ahead} of {over.draws} draws" if over.draws > 1 else ""
    if not points.sign(over.difference):
        return f"within noise of {over.title} ({difference(over.difference)}){draws}"
    # With its sign it would be a double negative.
    side = "over" if over.difference[0] > 0 else "under"
    return f"{distance(over.difference)} {side} {over.title}{draws}"


ABOUT = (
    "Values are means over draws of the labelled clips (dots), differences those over the draws that both have; "
    "what another draw would change is in no interval, hence the count of draws in which a line is ahead"
)


def about(found: Sequence[Line]) -> str:
    """Says how draws were averaged; '' where no line has several."""
    return ABOUT if any(len(line.values) > 1 for line in found) else ""


# ---------------------------------------------------------------------------- the figure
def lead(found: Sequence[Line], headline: str, segment: str, split: str, how: str) -> list[str]:
    """Draws what a page begins with: the ``headline`` of every arm, its draws as dots, and the differences to
    FixMatch, or to labels alone where there is none -> SVGs; [] where no arm has the headline."""
    shown = [line for line in found if line.stream == _stream(headline)]
    if not shown:
        return []
    base, title = next(reversed(_bases(shown).items()), ("", ""))
    below = next((line.over for line in shown if line.arm.title == title), {})
    made, dots, inks = {}, {}, {}
    for line in shown:
        name = line.arm.title if line.arm.title not in made else f"{line.arm.title} ({len(made)})"
        over, under = line.over.get(base), below.get(line.arm.method)
        # Differences to others, of arms with other labels, stand in the table.
        beyond = over.difference if over and over.title == title else ()
        if under and under.title == line.arm.title:
            beyond = tuple(-value for value in (under.difference[0], *under.difference[:0:-1]))
        made[name] = [Point(line.arm.title, line.value, line.interval, beyond, {})]
        dots[name] = line.values if len(line.values) > 1 else ()
        # The run's own stands out, and what it is compared with is grey, as columns are elsewhere.
        inks |= {name: figures.COLOURS[1]} if line.arm.has(segment) else {}
        inks |= {name: figures.COLOURS[5]} if name == title else {}
    style, label = [(figures.COLOURS[0], "o", "")], f"{headline}: {unit(shown[0], split, how)}"
    both = [figures.values(made, style, f"{label}, percent", dots, inks)]
    both += [figures.differences(made, style, f"{label}, points over {title}", title, inks)] if title else []
    return [figure for figure in both if figure]
