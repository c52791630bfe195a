"""What a page begins with where rows are of several kinds: accuracy, calibration error and cost of each."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid.report import diagrams, figures
from mmvid.report.points import Column, Point
from mmvid.report.rows import (
    Entry,
    Row,
    difference,
    entries,
    error_difference,
    error_interval,
    errors,
    interval,
    of_which,
    outputs,
    said_by,
    taught_by,
    titled,
    unit,
    values,
)
from mmvid.scores import effort

CALIBRATION = "calibration error"
# Points of a figure beyond which nobody tells them apart.
MOST_POINTS = 12


def _pair(own: Sequence[Entry], made: Sequence, label: str, base: str) -> list[str]:
    """Draws the values of all lines with their intervals and seeds and, where there is a ``base``, the differences
    to it: ``made`` holds (values of the seeds, interval, difference) of each."""
    points, dots, style = {}, {}, [(figures.COLOURS[0], "o", "")]
    for entry, (found, bounds, over) in zip(own, made):
        point = Point(entry.row.title, float(np.mean(found)), bounds, over, {}) if found else None
        points[entry.title], dots[entry.title] = [point], found if len(found) > 1 else ()
    # The last row stands out, and what it is compared with is grey, as columns are elsewhere.
    inks = {own[-1].title: figures.COLOURS[1]} | {e.title: figures.COLOURS[5] for e in own if e.row.title == base}
    # A figure is as wide as a telephone: with two heads in it, a label takes two lines.
    label += ",\n" if len(label) > 24 else ", "
    drawn = [figures.values(points, style, f"{label}percent", dots, inks)]
    if base:
        drawn.append(figures.differences(points, style, f"{label}points over {base}", base, inks))
    return [figure for figure in drawn if figure]


def figures_of(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[list[str]]:
    """Draws what a split's table begins with: accuracy and calibration error, each with its difference to
    ``base`` -> a list of SVG for each."""
    own, main = entries(rows, split, headline), outputs(rows, split, headline)[0]
    against, kind = next((entry.output for entry in own if entry.row is base), main), _kind(own, split, how)
    label = f"{main}: {kind}" if all(entry.output == main for entry in own) else kind

    def made(measure, bounds, over) -> list:
        paired = [base is not None and e.row is not base for e in own]
        return [
            (measure(e.row, split, e.output, how), bounds(e.row, split, e.output, how),
             over(e.row, base, split, e.output, how, against) if pair else ())
            for e, pair in zip(own, paired)
        ]  # fmt: skip

    title = base.title if base else ""
    accuracy, calibration = made(values, interval, difference), made(errors, error_interval, error_difference)
    drawn = [_pair(own, accuracy, label, title)] if any(found for found, *_ in accuracy) else []
    if any(found for found, *_ in calibration):
        head = of_which(own[0].row.scores[split][0])
        drawn.append(_pair(own, calibration, CALIBRATION + head, title))
    return drawn


def _kind(own: Sequence[Entry], split: str, how: str) -> str:
    """Names what the values of lines are, and of which head where there are several."""
    kind = "mAP" if {unit(e.row, split, e.output, how) for e in own} == {"map"} else "top-1"
    return kind + of_which(own[0].row.scores[split][0])


# ---------------------------------------------------------------------------- cost
def costs(rows: Sequence[Row], split: str, headline: str, how: str) -> str:
    """Draws accuracy against cost (figure 5 of multimodal distillation) of every output and sum of each row, or of
    the table's lines alone where those are too many -> SVG; '' where all cost the same, or nobody has counted."""
    teachers = taught_by(scores for row in rows for scores in row.scores[split])
    every = [
        Entry(
            row.title if len(own) == 1 else titled(row.title, row.scores[split][0], output, teachers), row, output
        )
        for row in rows
        for own in [said_by(row, rows, split, headline)]
        for output in own
    ]
    chosen = every if len(every) <= MOST_POINTS else entries(rows, split, headline)
    found = {e.title: (_gflops(e, split), values(e.row, split, e.output, how), e) for e in chosen}
    known = {
        title: (cost, float(np.mean(own)), interval(e.row, split, e.output, how))
        for title, (cost, own, e) in found.items()
        if cost and own
    }
    return diagrams.costs(known, f"{_kind(chosen, split, how)}, percent")


def _gflops(entry: Entry, split: str) -> float | None:
    """What a clip takes, as the row's first run has counted it; None where it has not."""
    scores, output = entry.row.scores[split][0], "fused" if entry.output == "sum" else entry.output
    found = effort.read(pathlib.Path(entry.row.runs[0]) / entry.row.segment)
    return effort.of_clip(found, scores, output) if found else None


# ---------------------------------------------------------------------------- of one run
def taught(columns: Sequence[Column], split: str) -> bool:
    """Whether any column has learnt from teachers, which is to help its calibration as well."""
    return any("teachers" in column.scores[split].meta for column in columns if split in column.scores)


def rows_of(workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping) -> list[Row]:
    """Takes the columns of one run that have a split for rows of one seed each."""
    seeds = (config.get("seed", 0),)
    return [
        Row(column.title, column.segment, seeds, (str(workdir),), {split: [column.scores[split]]}, config)
        for column in columns
        if split in column.scores
    ]
