"""The table, the picture and the page of a sweep: one number a cell, over its seeds, beside that of one cell."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from mmvid import logs
from mmvid.report import comparison, facts, figures, page
from mmvid.report import table as table_lib
from mmvid.report import text as text_lib
from mmvid.report.points import Point
from mmvid.report.rows import Row, difference, interval, of_which, unit, values
from mmvid.report.text import percent
from mmvid.scores import combine

# Values of which the largest is so many times the least stand on a logarithmic axis.
WIDE = 10


class Entry(NamedTuple):
    """A cell of a sweep: the ``values`` that tell it from others, {name: text}, the ``row`` of those seeds that
    have ended (None before the first one has), its ``output``, how many seeds were ``wanted``, the ``seconds`` of
    training of each, a ``published`` number in percent, and a ``note`` on what is not there."""

    title: str
    values: dict[str, str]
    row: Row | None
    output: str = ""
    wanted: int = 1
    seconds: tuple[float, ...] = ()
    published: float | None = None
    note: str = ""


class Measured(NamedTuple):
    """What a cell is worth: ``found`` holds the value of each seed, as fractions, ``bounds`` a 95 % interval over
    clips of their mean, ``over`` (mean, low, high) the paired difference to the cell that the others are compared
    with, of the ``common`` seeds."""

    entry: Entry
    found: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()
    over: tuple[float, ...] = ()
    common: tuple[int, ...] = ()
    unit: str = ""

    @property
    def mean(self) -> float:
        """The mean over seeds; nan before one has ended."""
        return float(np.mean(self.found)) if self.found else float("nan")


class Table(NamedTuple):
    """A grid's cells, measured on a ``split``; ``base`` is the place of the cell that they are compared with."""

    title: str
    note: str
    split: str
    about: str
    base: int
    cells: tuple[Measured, ...]


# ---------------------------------------------------------------------------- numbers
def _alike(rows: Sequence[Row], split: str) -> list[Row] | None:
    """The rows with all clips in one order; None where they are of different clips."""
    every = {f"{i} {seed}": own for i, row in enumerate(rows) for seed, own in zip(row.seeds, row.scores[split])}
    try:
        found = combine.aligned(every)
    except ValueError:
        return None
    return [row._replace(scores={split: [found[f"{i} {s}"] for s in row.seeds]}) for i, row in enumerate(rows)]


def _of_seeds(row: Row, seeds: Sequence[int], split: str) -> Row:
    kept = [row.seeds.index(seed) for seed in seeds]
    return row._replace(
        seeds=tuple(seeds),
        runs=tuple(row.runs[i] for i in kept),
        scores={split: [row.scores[split][i] for i in kept]},
    )


def _over(entry: Entry, base: Entry, split: str, how: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The difference to the base over the seeds that both have, and these; () where there are none, or the two are
    of different clips."""
    common = tuple(seed for seed in entry.row.seeds if seed in base.row.seeds)
    pair = common and _alike([_of_seeds(own.row, common, split) for own in (entry, base)], split)
    if not pair:
        return (), ()
    return difference(*pair, split, entry.output, how, base.output), common


def measured(entries: Sequence[Entry], split: str, how: str, base: int) -> list[Measured]:
    """Measures every cell; those that lack a row have no numbers."""
    made = []
    for place, entry in enumerate(entries):
        if entry.row is None:
            made.append(Measured(entry))
            continue
        one = _alike([entry.row], split)
        found = tuple(values(entry.row, split, entry.output, how))
        bounds = interval(one[0], split, entry.output, how) if one else ()
        pairs = place != base and entries[base].row is not None
        over, common = _over(entry, entries[base], split, how) if pairs else ((), ())
        made.append(Measured(entry, found, bounds, over, common, unit(entry.row, split, entry.output, how)))
    return made


def tabled(title: str, entries: Sequence[Entry], split: str, how: str, *, over: str = "", note: str = "") -> Table:
    """Measures a grid's cells; ``over`` is the title of the cell that they are compared with, by default the
    first."""
    base = next((i for i, entry in enumerate(entries) if entry.title == over), 0)
    rows = [entry.row for entry in entries if entry.row is not None]
    about = ""
    if rows:
        first = rows[0].scores[split][0]
        about = f"{table_lib.denominators(first)}; numbers{of_which(first)} are in percent"
    return Table(title, note, split, about, base, tuple(measured(entries, split, how, base)))


# ---------------------------------------------------------------------------- words
def _time(entry: Entry) -> str:
    return logs.duration(float(np.mean(entry.seconds))) if entry.seconds else "-"


def columns(table: Table) -> list[str]:
    """The head of a table."""
    kind = "mAP" if any(own.unit == "map" for own in table.cells) else "top-1"
    paper = ["published"] if any(own.entry.published is not None for own in table.cells) else []
    return ["", "seeds", kind, f"Δ {kind}", "training a run", *paper]


def rows(table: Table) -> list[list[str]]:
    """The lines of a table, a text for each of its `columns`."""
    made = []
    for place, own in enumerate(table.cells):
        done = len(own.found)
        bounds = own.bounds or (own.mean, own.mean)
        value = comparison.cell(own.found, bounds)
        over = "" if place == table.base else text_lib.difference(own.over)
        if own.over and len(own.common) < done:
            over += f" ({len(own.common)} seed{'s' * (len(own.common) > 1)})"
        seeds = f"{done}" if done == own.entry.wanted else f"{done} of {own.entry.wanted}"
        line = [own.entry.title, seeds, value, over, _time(own.entry)]
        if "published" in columns(table):
            line.append("-" if own.entry.published is None else f"{own.entry.published:g}")
        made.append(line)
    return made


def verdict(table: Table) -> str:
    """Says which cell is best, and by how much; or which ones are, where the table shows them alike."""
    known = [own for own in table.cells if own.found]
    if not known:
        return "no run has ended yet"
    best, base = max(known, key=lambda own: own.mean), table.cells[table.base]
    leaders = [own.entry.title for own in known if percent(own.mean) == percent(best.mean)]
    if len(leaders) > 1:
        return f"{text_lib.listed(leaders)} have the highest number on {table.split}, {percent(best.mean)}"
    said = f"{best.entry.title} has the highest number on {table.split}, {percent(best.mean)}"
    if best is base:
        others = [own for own in known if own is not base and own.over]
        second = max(others, key=lambda own: own.mean, default=None)
        return said + (f"; next is {second.entry.title}, {text_lib.difference(second.over)}" if second else "")
    if best.over:
        noise = " (within noise)" if best.over[1] <= 0 <= best.over[2] else ""
        said += f", {text_lib.difference(best.over)} over {base.entry.title}{noise}"
    return said


def text(table: Table) -> str:
    """Writes a table as aligned text."""
    above = [table.title, *filter(None, [table.about]), f"Δ: the difference to {_base(table)}, on the same clips"]
    body = [columns(table), *rows(table)]
    return "\n".join([*above, text_lib.aligned(body, right=range(1, len(body[0]))), verdict(table)])


def _base(table: Table) -> str:
    return table.cells[table.base].entry.title


def plain(table: Table) -> dict:
    """The numbers of a table for other programs, values as fractions."""
    cells = [
        {
            "title": own.entry.title, "values": own.entry.values, "output": own.entry.output,
            "seeds": own.entry.row.seeds if own.entry.row else (),
            "runs": own.entry.row.runs if own.entry.row else (),
            "wanted": own.entry.wanted, "found": own.found, "unit": own.unit, "interval": own.bounds,
            "over": own.over, "over_seeds": own.common, "seconds": own.entry.seconds,
            "published": own.entry.published, "note": own.entry.note,
        }
        for own in table.cells
    ]  # fmt: skip
    return {"title": table.title, "split": table.split, "base": _base(table), "cells": cells}


# ---------------------------------------------------------------------------- pictures
def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _axis(cells: Sequence[Measured]) -> tuple[str, list[Measured]]:
    """The one name over whose numbers a line can be drawn, and the cells on that line; ('', []) where there is
    none. At most two others stand beside it."""
    names = dict.fromkeys(name for own in cells for name in own.entry.values)
    for name in names:
        alone = [own for own in cells if set(own.entry.values) == {name}]
        on = [own for own in alone if _number(own.entry.values[name]) is not None]
        if len(on) > 2 and len(cells) - len(on) < 3:
            return name, sorted(on, key=lambda own: _number(own.entry.values[name]))
    return "", []


def _plane(cells: Sequence[Measured]) -> tuple[list[str], list[Measured]]:
    """The two names over whose values a map can be drawn, and the cells on it, one for every pair of values;
    ([], []) where there are none. At most two others stand beside it."""
    pairs = [list(own.entry.values) for own in cells if len(own.entry.values) == 2]
    names = pairs[0] if pairs else []
    on = [own for own in cells if names and set(own.entry.values) == set(names)]
    counts = [len({own.entry.values[name] for own in on}) for name in names]
    whole = min(counts, default=0) > 1 and np.prod(counts) == len(on) and len(cells) - len(on) < 3
    return (names, on) if whole else ([], [])


def _line(name: str, on: Sequence[Measured], beside: Sequence[Measured], label: str) -> str:
    """Draws values over numbers, with intervals and the values of seeds, and cells that lack the number as lines
    across -> SVG."""
    on = [own for own in on if own.found]
    places = [_number(own.entry.values[name]) for own in on]
    with plt.rc_context(figures.STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
        ink = figures.COLOURS[0]
        for place, own in zip(places, on):
            low, high = own.bounds or (own.mean, own.mean)
            axis.plot([place, place], [100 * low, 100 * high], lw=1.5, color=ink, solid_capstyle="butt")
            if len(own.found) > 1:
                seeds = 100 * np.array(own.found)
                axis.plot([place] * len(seeds), seeds, "o", ms=3, color=figures.SOFT, mew=0, zorder=3)
        axis.plot(places, [100 * own.mean for own in on], "o-", ms=4.5, lw=1.4, color=ink)
        lines = {}
        for i, own in enumerate(one for one in beside if one.found):
            style = dict(color=figures.COLOURS[1 + i], ls=figures.DASHES[1 + i % 2], lw=1.2)
            lines[own.entry.title] = axis.axhline(100 * own.mean, **style)
        if min(places, default=0) > 0 and max(places) / min(places) >= WIDE:
            axis.set_xscale("log")
        axis.set_xticks(places, [own.entry.values[name] for own in on])
        axis.minorticks_off()
        axis.set_xlabel(figures.short(name))
        axis.set_ylabel(label)
        if lines:
            figures.legend(axis, lines)
        return figures.svg(figure)


def _map(names: Sequence[str], cells: Sequence[Measured], beside: Sequence[Measured], label: str) -> str:
    """Draws values over two names as colours, with the numbers in them, and names those of other cells -> SVG."""
    down, across = (list(dict.fromkeys(own.entry.values[name] for own in cells)) for name in names)
    grid = np.full((len(down), len(across)), np.nan)
    for own in cells:
        grid[down.index(own.entry.values[names[0]]), across.index(own.entry.values[names[1]])] = 100 * own.mean
    with plt.rc_context(figures.STYLE | {"axes.grid": False}):
        size = (1.6 + 0.62 * len(across), 1.1 + 0.42 * len(down))
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        # Their own scale: what cells differ by is small beside 100.
        axis.imshow(grid, cmap=figures.HEAT, interpolation="nearest", aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            axis.text(j, i, "-" if np.isnan(value) else f"{value:.1f}", ha="center", va="center", fontsize=8)
        axis.set_xticks(range(len(across)), [figures.short(one, 14) for one in across])
        axis.set_yticks(range(len(down)), [figures.short(one, 20) for one in down])
        axis.set_xlabel(figures.short(names[1]))
        axis.set_ylabel(figures.short(names[0], 24))
        others = [f"{figures.short(own.entry.title, 24)}: {percent(own.mean)}" for own in beside if own.found]
        axis.set_title("\n".join([label, *others]), fontsize=9, fontweight="normal")
        return figures.svg(figure)


def _points(table: Table, label: str) -> list[str]:
    """Draws the cells below each other: values, and differences -> SVGs."""
    known = [own for own in table.cells if own.found]
    points = {o.entry.title: [Point(o.entry.title, o.mean, o.bounds, o.over, {})] for o in known}
    dots = {own.entry.title: own.found if len(own.found) > 1 else () for own in known}
    base = _base(table)
    style, inks = [(figures.COLOURS[0], "o", "")], {base: figures.COLOURS[5]}
    drawn = [figures.values(points, style, label, dots, inks)]
    if table.cells[table.base].found:
        drawn.append(figures.differences(points, style, f"points over {figures.short(base)}", base, inks))
    return [own for own in drawn if own]


def pictures(table: Table) -> list[str]:
    """Draws a table: a line over the numbers of one entry, a map over two entries, or its cells below each other;
    [] before a run has ended."""
    if not any(own.found for own in table.cells):
        return []
    label = f"{columns(table)[2]} on {table.split}, percent"
    name, on = _axis(table.cells)
    if name and sum(bool(own.found) for own in on) > 1:
        return [_line(name, on, [own for own in table.cells if own not in on], label)]
    names, on = _plane(table.cells)
    if names:
        return [_map(names, on, [own for own in table.cells if own not in on], label)]
    return _points(table, label)


# ---------------------------------------------------------------------------- the page
def html(
    name: str, tables: Sequence[Table], counts: tuple[int, int], problems: Sequence[tuple[str, Sequence[str]]],
    command: str,
) -> str:  # fmt: skip
    """Writes the page of a sweep: how many of its runs have ended, and of how many (``counts``), its ``tables``,
    then the ``problems``, (which run has failed, the last lines of its log), and the ``command`` that goes on."""
    notes = {(own.entry.title, own.entry.note): None for table in tables for own in table.cells if own.entry.note}
    shown = [
        {
            "title": table.title, "note": table.note, "about": table.about, "base": _base(table),
            "verdict": verdict(table), "columns": columns(table), "rows": rows(table), "figures": pictures(table),
        }
        for table in tables
    ]  # fmt: skip
    several = any(own.entry.wanted > 1 for table in tables for own in table.cells)
    every = {own.entry.title: own.entry.row for table in tables for own in table.cells}
    there = {title: row for title, row in every.items() if row is not None}
    segments = {title: [pathlib.Path(run) / row.segment for run in row.runs] for title, row in there.items()}
    return page.template("sweep.html").render(
        name=name, tables=shown, problems=problems, command=command, notes=list(notes), several=several,
        done=counts[0], wanted=counts[1],
        runs={title: row.runs for title, row in there.items()}, made=facts.made(segments),
    )  # fmt: skip
