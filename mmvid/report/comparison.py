"""Runs side by side, over seeds: the table, the verdict and the page."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from mmvid import buckets, files
from mmvid.report import diagrams, facts, overview, page, panels, table, verdict, worth
from mmvid.report import text as text_lib
from mmvid.report.overview import CALIBRATION
from mmvid.report.points import Line, Point
from mmvid.report.rows import (
    Entry,
    Row,
    difference,
    entries,
    error_difference,
    error_interval,
    errors,
    head_of,
    heads,
    interval,
    of_head,
    outputs,
    unit,
    values,
)
from mmvid.report.text import percent
from mmvid.scores import ensembles, file


def cell(found: Sequence[float], bounds: tuple[float, ...]) -> str:
    """Writes the values of all seeds as '62.1 ± 0.9' (mean and standard deviation over seeds), as '62.1 [59.0,
    65.2]' (one seed, with its ``bounds``, a 95 % interval over clips), or as '-' where there is none."""
    if not found:
        return "-"
    mean = percent(float(np.mean(found)))
    if len(found) > 1:
        # ddof=1: seeds are a sample, and a few of them would look too much alike otherwise.
        return f"{mean} ± {percent(float(np.std(found, ddof=1)))}"
    return f"{mean} [{', '.join(map(percent, bounds))}]"


def _value_cell(row: Row, split: str, output: str, how: str) -> str:
    return cell(values(row, split, output, how), interval(row, split, output, how))


def _error_cell(row: Row, split: str, output: str, how: str) -> str:
    return cell(errors(row, split, output, how), error_interval(row, split, output, how))


def _lines(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[Line]:
    """Makes the lines that verdict and figures are made from: every output and the sum, with a point a row."""
    first, found = rows[0].scores[split][0], []
    head, joint = head_of(first), bool(file.joint_head(first))
    for output in (o for o in outputs(rows, split, headline) if o != "oracle"):
        points = []
        for row in rows:
            own = values(row, split, output, how)
            kind = unit(row, split, output, how)
            over = () if base in (None, row) else difference(row, base, split, output, how)
            points.append(
                Point(
                    row.title, mean := float(np.mean(own)), interval(row, split, output, how), over, {kind: mean}
                )
                if own
                else None
            )
        if any(points):
            found.append(Line(output, head, tuple(points), joint=joint))
    return found


def _best(lines: Sequence[Line], rows: Sequence[Row], base: Row | None) -> int | None:
    """Finds the row with the highest value of the first output, the ``base`` apart; None where several look alike
    in the table and are the highest of all, or where there is none."""
    main = lines[0] if lines else None
    known = [i for i, row in enumerate(rows) if row is not base and main and main.points[i]]
    if not known or len(_leaders(main)) > 1:
        return None
    return max(known, key=lambda i: main.points[i].value)


def _leaders(main: Line) -> list[Point]:
    """The points that have the highest value, as far as the table shows it."""
    highest = max(p.value for p in main.points if p)
    return [p for p in main.points if p and percent(p.value) == percent(highest)]


def _verdict(lines: Sequence[Line], rows: Sequence[Row], base: Row | None) -> str:
    """Writes which row leads in the first output, by how much, and what the other outputs make of it; or which
    ones tie there, as far as the table shows it."""
    main, best = (lines[0] if lines else None), _best(lines, rows, base)
    if best is None:
        if not main or not any(p for p, row in zip(main.points, rows) if row is not base):
            return "no row has a number to compare"
        return verdict.tie(main, _leaders(main), base.title if base else "")
    own, title, leaders = main.points[best], base.title if base else "", _leaders(main)
    opening = f"{leaders[0].title} leads in {verdict.named(main)} with"
    if leaders[0] is not own:
        second = [p.title for p in main.points if p and percent(p.value) == percent(own.value)]
        after = f"next are {text_lib.listed(second)}:" if len(second) > 1 else "next is"
        opening += f" {text_lib.value(leaders[0].more)}; {after} {own.title} with"
    # Of the others, what the page shows: differences of the sum alone.
    told = [line for line in lines if base is None or line is main or line.output == "sum"]
    return verdict.told(told, main, best, title, title, others=base is not None, opening=opening)


def _columns(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> tuple[list, dict]:
    """Makes the table: its lines (`entries`), and {column: a text for each of them}."""
    own, main = entries(rows, split, headline), outputs(rows, split, headline)[0]
    against = next((entry.output for entry in own if entry.row is base), main)
    alone = all(entry.output == main for entry in own)
    first = main if alone else "mAP" if unit(own[0].row, split, own[0].output, how) == "map" else "top-1"
    if len(heads(rows, split)) > 1:
        first += f" ({head_of(rows[0].scores[split][0])})"
    columns: dict[str, list[str]] = {}

    def add(name: str, cell, over, of: Sequence[Entry], other: str = "") -> None:
        columns[name] = [cell(e.row, split, e.output, how) for e in of]
        if base is not None and over:
            found = [() if e.row is base else over(e.row, base, split, e.output, how, other) for e in of]
            columns[f"Δ {name}"] = [text_lib.difference(one) for one in found]

    add(first, _value_cell, difference, own, against)
    columns |= _worth(own, split, how) if base is not None else {}
    add(CALIBRATION, _error_cell, error_difference, own, against)
    if all(text == "-" for text in columns[CALIBRATION]):
        columns = {name: cells for name, cells in columns.items() if CALIBRATION not in name}
    # Of rows that lack the main output, each output has a line of its own.
    of_main = [entry.row for entry in own if entry.output == main]
    for output in outputs(of_main, split, headline)[1:] if of_main else ():
        of = [entry._replace(output=output if entry.output == main else "") for entry in own]
        add(output, _value_cell, difference if output == "sum" else None, of)
    return own, columns


def _worth(own: Sequence[Entry], split: str, how: str) -> dict[str, list[str]]:
    """Makes the columns of what joint networks are worth beside the copies of their parts; {} where there are no
    such lines."""
    cells = [worth.of(entry, own, split, how).cells for entry in own]
    if not any(text for pair in cells for text in pair):
        return {}
    return {name: [text or "-" for text in column] for name, column in zip(worth.COLUMNS, zip(*cells))}


def compared(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> dict:
    """Makes the table of a split as texts: {'split', 'about', 'columns', 'rows': [{'title', 'seeds', 'cells'}],
    'counted': what ``seeds`` are, 'verdict'}, the 'lines' that it is of and, where there are several 'heads', the
    same of each alone.

    Where there is a ``base``, the columns of the first output, of its calibration error and of the sum are each
    followed by 'Δ', the paired difference to it."""
    found = _told(rows, split, headline, how, base)
    # Rows on the same data say the same of it; each different line is said once.
    about = list(dict.fromkeys(table.denominators(scores) for row in rows for scores in row.scores[split]))
    if len(heads(rows, split)) > 1:
        about.append(f"numbers are of {head_of(rows[0].scores[split][0])}: right where each of them is")
    about += table.known(((row.title, row.scores[split]) for row in rows), split)
    about += [f"Δ: the difference to {base.title}"] if base is not None else []
    if worth.COLUMNS[0] in found["columns"]:
        about.append(
            f"its best modality: of those alone the one with the highest mean over seeds on {split}, the same for "
            "every seed; chosen by these numbers, it seems a little better than it is"
        )
    return {
        **found,
        "split": split,
        "counted": _counted(rows),
        "heads": {head: _of_head(rows, split, head, headline, how, base) for head in heads(rows, split)},
        "about": about,
        "weights": table.weights(_weighed(rows, split)),
    }


def _counted(rows: Sequence[Row]) -> str:
    """What means are over: seeds, or runs, where versions of a dataset share a seed."""
    return "runs" if any(len(set(row.seeds)) < len(row.seeds) for row in rows) else "seeds"


def _weighed(rows: Sequence[Row], split: str) -> Iterator[tuple[str, list]]:
    """Yields (title, scores) of each row, or of each of its seeds where their teachers weigh differently."""
    for row in rows:
        own = row.scores[split]
        if len(ensembles.of_all(own)) < 2:
            yield row.title, own
        else:
            yield from ((f"{row.title} (seed {seed})", [each]) for seed, each in zip(row.seeds, own))


def _told(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> dict:
    own, columns = _columns(rows, split, headline, how, base)
    cells = [
        {"title": e.title, "seeds": str(len(e.row.seeds)), "cells": [each[i] for each in columns.values()]}
        for i, e in enumerate(own)
    ]
    lines = _lines(rows, split, headline, how, base)
    said = _verdict(lines, rows, base) + _calibrated(lines, rows, split, how, base)
    return {"columns": list(columns), "rows": cells, "lines": lines, "verdict": said}


def _of_head(rows: Sequence[Row], split: str, head: str, headline: str, how: str, base: Row | None) -> dict:
    """Makes the table of one head alone."""
    own = [of_head(row, split, head) for row in rows]
    return _told(own, split, headline, how, next((o for o, row in zip(own, rows) if row is base), None))


def _calibrated(lines: Sequence[Line], rows: Sequence[Row], split: str, how: str, base: Row | None) -> str:
    """Goes on from the verdict with the calibration error of the rows that it is about, the ``base`` apart; ''
    where it is about none or too many, or has nothing to pair them with."""
    if base is None or not lines or not any(lines[0].points):
        return ""
    best, tied = _best(lines, rows, base), [point.title for point in _leaders(lines[0])]
    chosen = [row for row in rows if row.title in tied and row is not base] if best is None else [rows[best]]
    said = ""
    for row in chosen if len(chosen) < 3 else ():
        found = errors(row, split, lines[0].output, how)
        over = error_difference(row, base, split, lines[0].output, how)
        # Where another row leads, 'its' could be that one's.
        whose = "its" if best is not None and tied == [row.title] else f"{row.title}'s"
        said += f"; {whose} {verdict.calibrated(float(np.mean(found)), over, base.title)}" if over else ""
    return said


def text(found: dict) -> str:
    """Writes the result of `compared` as aligned text, below the lines that say which clips it is of."""
    body = [["", found["counted"], *found["columns"]]]
    body += [[line["title"], line["seeds"], *line["cells"]] for line in found["rows"]]
    alone = [f"{head}: {own['verdict']}" for head, own in found["heads"].items()]
    made = text_lib.aligned(body, right=range(1, len(body[0])))
    return "\n".join([*found["about"], *found["weights"], made, *alone])


def plain(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[dict]:
    """Returns the numbers of a split for other programs: a dict for each row, with values as fractions."""
    known, found, own = outputs(rows, split, headline), [], entries(rows, split, headline)
    for row in rows:
        line = {"title": row.title, "segment": row.segment, "seeds": row.seeds}
        line["runs"] = tuple(map(buckets.told, row.runs))
        line["head"] = head_of(row.scores[split][0])
        line["values"] = {o: values(row, split, o, how) for o in known}
        line["calibration_error"] = {o: errors(row, split, o, how) for o in known}
        if base is not None and row is not base:
            line["over"] = {"row": base.title, **{o: difference(row, base, split, o, how) for o in known}}
            line["calibration_error_over"] = {o: error_difference(row, base, split, o, how) for o in known}
        if base is not None:
            told = {e.output: _plain_worth(e, own, split, how) for e in own if e.row is row}
            line["worth"] = {output: each for output, each in told.items() if each}
        found.append(line)
    return found


def _plain_worth(entry: Entry, own: Sequence[Entry], split: str, how: str) -> dict:
    found = worth.of(entry, own, split, how)._asdict().items()
    return {name: {"row": over.title, "difference": over.difference} for name, over in found if over.title}


def _folders(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Lists every run's folder once, with the titles of its rows: {folder: titles}."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for folder in row.runs:
            found.setdefault(buckets.told(folder), []).append(row.title)
    return found


def _segments(rows: Sequence[Row]) -> dict[str, list[pathlib.Path]]:
    """Lists the folders of each row's segments, {title: folders}."""
    return {row.title: [pathlib.Path(folder) / row.segment for folder in row.runs] for row in rows}


def _mean_curves(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Draws the mean curves of each row of several seeds: [(title, SVG)]."""
    several = {row.title for row in rows if len(row.seeds) > 1}
    drawn = [(title, panels.mean_curves(own)) for title, own in _segments(rows).items() if title in several]
    return [(title, figure) for title, figure in drawn if figure]


def write(
    path: pathlib.Path,
    tables: Sequence[dict],
    rows: Sequence[Row],
    headline: str,
    how: str,
    *,
    base: Row | None,
    across: str = "",
) -> pathlib.Path:
    """Writes ``tables``, which `compared` made, as one HTML file that needs no other; returns its ``path``."""
    splits = [found["split"] for found in tables]
    pictures = {split: overview.figures_of(rows, split, headline, how, base) for split in splits}
    costs = {split: overview.costs(rows, split, headline, how) for split in splits}
    # Of the rows of the same runs, the last is their own method: it names them.
    names = {row.runs: row.title for row in rows}.values()
    files.write_text(
        path,
        page.template("compare.html").render(
            tables=tables,
            figures=pictures,
            headline=headline,
            costs=costs,
            counted=diagrams.COSTS,
            base=base and base.title,
            across=across,
            runs=_folders(rows),
            names=list(names),
            made=facts.made(_segments(rows)),
            curves=_mean_curves(rows),
            several=any(len(row.seeds) > 1 for row in rows),
            counted_over=_counted(rows),
        ),
    )
    return path
