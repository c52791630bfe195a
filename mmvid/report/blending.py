"""G-Blend in tables: what joint training is worth against each modality alone, the weights, and why."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid import files
from mmvid.report import points, rows, table, worth
from mmvid.report.overview import rows_of
from mmvid.report.points import Column
from mmvid.report.text import aligned, difference, distance, percent
from mmvid.report.worth import Over, Worth
from mmvid.scores import blends, file


class Line(NamedTuple):
    """A line of the table: an ``output`` of a ``column``, its ``title`` and ``numbers``. Of a joint output,
    ``modality`` and ``naive`` compare it with the best of its modalities alone, and with naive joint training of
    the same network."""

    title: str
    column: Column
    output: str
    numbers: Mapping
    modality: Over = Over()
    naive: Over = Over()


def notes(workdir: pathlib.Path, columns: Sequence[Column]) -> dict[str, list[dict]]:
    """Reads the notes of the weights of each column, {segment: those of its parts, the first one first}; {} for a
    run in which nothing is weighed."""
    found = {}
    for column in columns:
        own = [files.read_note(workdir / name / blends.NAME) for name in column.parts or (column.segment,)]
        if known := [note for note in own if "weights" in note]:
            found[column.segment] = known
    return found


# ---------------------------------------------------------------------------- the table
def titled(column: Column, scores: file.Scores, output: str) -> str:
    """Titles the line of an output: by what its segment calls it, or by its column."""
    return rows.titled(column.title, scores, output, ()) if len(scores.logits) > 1 else column.title


def _plain(columns: Sequence[Column], split: str) -> list[Line]:
    """Lists the lines without what they are compared with: of a fusion its joint output alone, of networks beside
    each other every one."""
    head, found = rows.head_of(columns[-1].scores[split]), []
    for column in columns:
        scores, numbers = column.scores[split], column.numbers[split]
        fused = any("." in output for output in scores.logits)
        # A naive network beside those of its modalities is no member of their sum, and yet a line.
        outputs = file.members(scores) if fused else tuple(scores.logits)
        several = len(outputs) > 1
        found += [
            Line(
                titled(column, scores, output) if several else column.title, column, output, numbers[output][head]
            )
            for output in outputs
            if head in numbers.get(output, {})
        ]
    return found


def value(numbers: Mapping) -> float | None:
    """Returns top-1 or mAP as a fraction; None where it is undefined."""
    return numbers.get("top1", numbers.get("map"))


def lines(workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, how: str) -> list[Line]:
    """Computes the lines of the table, each paired clip by clip with what it is to beat. [] for a run in which
    nothing is weighed."""
    shown = [points.counted(column, how) for column in points.there(columns, split)]
    if not notes(workdir, shown):
        return []
    own = {row.segment: row for row in rows_of(workdir, shown, split, config)}
    plain = _plain(shown, split)
    every = [rows.Entry(line.title, own[line.column.segment], line.output) for line in plain]
    return [line._replace(**worth.of(entry, every, split, how)._asdict()) for line, entry in zip(plain, every)]


def table_rows(found: Sequence[Line]) -> list[list[str]]:
    """Makes the table as the paper prints it: a head, then a line for each network, with clip and video top-1 and
    top-5 (or mAP and mAUC), and what it is worth over the best modality and over naive joint training. [] where
    there are no lines."""
    if not found:
        return []
    multi = all("map" in line.numbers for line in found)
    measures = ["mAP", "mAUC"] if multi else ["clip top-1", "clip top-5", "top-1 [95 %]", "top-5"]
    made = [["", *measures, *worth.COLUMNS]]
    return made + [
        [line.title, *_measured(line.numbers), *Worth(line.modality, line.naive).cells] for line in found
    ]


def _measured(numbers: Mapping) -> list[str]:
    """Writes clip top-1 and top-5, top-1 with its interval and top-5, or mAP and mAUC."""
    if "map" in numbers:
        return [percent(numbers["map"]), percent(numbers.get("mauc"))]
    bounds = f" [{', '.join(map(percent, numbers['top1_interval']))}]" if numbers.get("top1_interval") else ""
    # Of several heads together nobody has counted more than their top-1.
    first, five, whole = (percent(numbers.get(name)) for name in ("clip_top1", "clip_top5", "top5"))
    return [first, five, percent(numbers["top1"]) + bounds, whole]


def said(found: Sequence[Line], split: str) -> list[str]:
    """Says what naive joint training and the last column are worth, against the best modality alone and against
    each other: lines below a run's verdict; [] without such networks to compare with."""
    if not found:
        return []
    naive = next((line for line in found if line.title == found[-1].naive.title), None)
    told = [naive, found[-1]] if naive else [found[-1]]
    return [f"{line.title}: {'; '.join(own)} ({split})" for line in told if (own := _worth(line))]


def _worth(line: Line) -> list[str]:
    beside = ((line.modality, f"{line.modality.title}, its best modality"), (line.naive, line.naive.title))
    return [_beside(over.difference, name) for over, name in beside if over.difference]


def _beside(over: tuple[float, ...], name: str) -> str:
    """Writes a difference to what ``name`` says, in words that say whether it is beyond noise."""
    if not points.sign(over):
        return f"within noise of {name} ({difference(over)})"
    # With its sign it would be a double negative.
    return f"{distance(over)} {'over' if over[0] > 0 else 'under'} {name}"


# ---------------------------------------------------------------------------- the weights
def weight_rows(workdir: pathlib.Path, columns: Sequence[Column], config: Mapping) -> list[list[str]]:
    """Makes the table of weights: a head, then a line for each part of each column, with G, dO and OGR where these
    were measured, and what ``config.blend.published`` has of networks of the same parts. Of several super-epochs
    each has its lines."""
    found = [["weights", "", "weight [95 %]", "G", "dO", "OGR", "in the paper"]]
    published = (config.get("blend") or {}).get("published") or ()
    titles = {column.segment: column.title for column in columns}
    for segment, own in notes(workdir, columns).items():
        for note in own:
            steps = note.get("steps", [])
            when = f" (from step {steps[0]})" if len(own) > 1 and steps else ""
            paper = _published(published, note)
            found += [
                [f"{titles[segment]}{when}", part, *cells, paper.get(part, "")]
                for part, cells in _cells(note).items()
            ]
    if not any(line[-1] for line in found[1:]):
        found = [line[:-1] for line in found]
    # A title stands once above its lines.
    for line, above in reversed([*zip(found[1:], found)]):
        line[0] = "" if line[0] == above[0] else line[0]
    return found if len(found) > 1 else []


def _published(published: Sequence[tuple[str, Mapping]], note: Mapping) -> dict[str, str]:
    """The published weights of a network of the same parts as a note's, {part: text}; {} where there are none, and
    for weights that nobody has found: those that were given."""
    alike = [(what, own) for what, own in published if "heads" in note and set(own) == set(note["weights"])]
    # What they are of stands in the rows of the table.
    named = [(what.partition(",")[0], own) for what, own in alike]
    return {part: f"{float(own[part]):.3f} ({table})" for table, own in named[:1] for part in own}


def _cells(note: Mapping) -> dict[str, list[str]]:
    heads = note.get("heads", {})
    least = blends.least(note) if heads else 0.0
    cells = {}
    for part, weight in note["weights"].items():
        own = heads.get(part)
        if own is None:
            # Whose they are stands once: a source may be long.
            source = "" if cells else f" ({note['source']})"
            cells[part] = [f"{weight:.3f}{source}", "", "", ""]
            continue
        low, high = own["interval"]
        # How much was overfitted for what was gained: for nothing, or less, there is no such ratio.
        ogr = "-" if own["ogr"] is None or own["gain"] <= 0 else f"{own['ogr']:.3f}"
        cells[part] = [
            f"{weight:.3f} [{low:.3f}, {high:.3f}]",
            f"{own['gain']:+.3f}",
            f"{own['overfitting']:+.3f}" + (f" (as {least:.3f})" if abs(own["overfitting"]) < least else ""),
            ogr,
        ]
    return cells


def text(workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, how: str) -> str:
    """Writes both tables as aligned text, below the line of `table.denominators`; '' for a run in which nothing is
    weighed."""
    found = table_rows(lines(workdir, columns, split, config, how))
    if not found:
        return ""
    about = table.denominators(points.there(columns, split)[-1].scores[split])
    return "\n\n".join([f"{about}\n{aligned(found)}", aligned(weight_rows(workdir, columns, config))])
