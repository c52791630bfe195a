"""Runs side by side, over seeds: values, differences on the same clips, the table and the page."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files
from mmvid.report import figures, page, table
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


class Row(NamedTuple):
    """One segment of runs that share everything but their seed; ``scores``: {split: [Scores of each seed]}, all
    with their clips in one order."""

    title: str
    segment: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    scores: dict[str, list[Scores]]


def _head(scores: Scores) -> str:
    """What is compared: the one head, all heads of single labels together ('noun + verb'), or the first."""
    spaces = file.heads_of(scores)
    single = [name for name, space in spaces.items() if space.kind == "single"]
    first, *_ = spaces
    return " + ".join(single) if single else first


def _outputs(rows: Sequence[Row], split: str, headline: str) -> list[str]:
    """Every output of the rows, the headline first; then, where somebody has several members, sum and oracle."""
    every = [scores for row in rows for scores in row.scores[split]]
    found = sorted({o for s in every for o in s.logits}, key=lambda o: (o != headline, o))
    several = any(len(file.members(s)) > 1 for s in every)
    multi = all(s.label[h].ndim > 1 for s in every for h in s.label)
    return [*found, *(["sum"] if several else []), *(["oracle"] if several and not multi else [])]


def _key(scores: Scores, output: str) -> str | None:
    """What a column is called in a file; None where it has no such output."""
    several = len(file.members(scores)) > 1
    if output in ("sum", "oracle") and output not in scores.logits:
        return {"sum": "fused", "oracle": "oracle"}[output] if several else None
    return output if output in scores.logits else None


def _hits(scores: Scores, output: str, how: str) -> np.ndarray | None:
    """Hit or miss of each labelled clip [N]; None for labels of several classes or without ``output``."""
    scores, head = file.labelled(scores), _head(scores)
    key = _key(scores, output)
    if key is None or (" + " not in head and scores.label[head].ndim > 1):
        return None
    if key == "oracle":
        return numbers_lib.oracle(scores, head, how)
    return numbers_lib.hits(scores, key, head, 1, how)


def _value(scores: Scores, output: str, how: str) -> float | None:
    """Top-1, or the mAP of labels of several classes, as a fraction; None where there is none."""
    hits = _hits(scores, output, how)
    if hits is not None:
        return float(hits.mean()) if len(hits) else None
    scores, key = file.labelled(scores), _key(scores, output)
    return None if key in (None, "oracle") else numbers_lib.mean_ap(scores, key, _head(scores), how)


def values(row: Row, split: str, output: str, how: str) -> list[float]:
    """The value of each seed: top-1 or mAP, fractions; [] where any is undefined."""
    found = [_value(scores, output, how) for scores in row.scores[split]]
    return [] if any(v is None for v in found) else found


def _mean_hits(row: Row, split: str, output: str, how: str) -> np.ndarray | None:
    """Hits of each clip [N], a mean over seeds."""
    found = [_hits(scores, output, how) for scores in row.scores[split]]
    return None if any(h is None or not len(h) for h in found) else np.mean(found, axis=0)


def difference(row: Row, base: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """(mean, low, high) of ``row`` minus ``base``: each clip's hits, a mean over seeds, paired by clip; (mean,)
    alone for mAP; () where either has no such number, or the two are sums of other outputs."""
    if output in ("sum", "oracle") and len({file.members(r.scores[split][0]) for r in (row, base)}) > 1:
        return ()
    pair = [_mean_hits(r, split, output, how) for r in (row, base)]
    if all(hits is not None for hits in pair):
        return metrics.paired_interval(*pair)
    means = [values(r, split, output, how) for r in (row, base)]
    return (float(np.mean(means[0]) - np.mean(means[1])),) if all(means) else ()


def _cell(row: Row, split: str, output: str, how: str) -> str:
    """'62.1 ± 0.9' over seeds; '62.1 [59.0, 65.2]' of one seed, over clips; '-'."""
    found = values(row, split, output, how)
    if not found:
        return "-"
    mean = table.percent(float(np.mean(found)))
    if len(found) > 1:
        return f"{mean} ± {table.percent(float(np.std(found, ddof=1)))}"
    hits = _mean_hits(row, split, output, how)
    if hits is None:
        return mean
    low, high = metrics.bootstrap_interval(hits)
    return f"{mean} [{table.percent(low)}, {table.percent(high)}]"


def _difference_cell(found: tuple[float, ...]) -> str:
    if not found:
        return "-"
    mean, *interval = (f"{100 * value:+.1f}" for value in found)
    return f"{mean} [{', '.join(interval)}]" if interval else mean


def compared(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> dict:
    """The table of a split: {'split', 'about', 'columns', 'rows': [{'title', 'seeds', 'cells'}]}, texts. With a
    ``base``, the headline and the sum are followed by 'Δ', the paired difference to it."""
    columns: dict[str, list[str]] = {}
    for output in _outputs(rows, split, headline):
        columns[output] = [_cell(row, split, output, how) for row in rows]
        if base is not None and output in (headline, "sum"):
            found = [() if row is base else difference(row, base, split, output, how) for row in rows]
            columns[f"Δ {output}"] = [_difference_cell(own) for own in found]
    lines = [{"title": row.title, "seeds": str(len(row.seeds)), "cells": [cells[i] for cells in columns.values()]}
             for i, row in enumerate(rows)]  # fmt: skip
    about = list(dict.fromkeys(table.denominators(row.scores[split][0]) for row in rows))
    about += [f"Δ: to {base.title}"] if base is not None else []
    return {"split": split, "about": about, "columns": list(columns), "rows": lines}


def text(found: dict) -> str:
    """`compared` as aligned text, what it is of above it."""
    body = [["", "seeds", *found["columns"]]]
    body += [[line["title"], line["seeds"], *line["cells"]] for line in found["rows"]]
    return "\n".join([*found["about"], table.aligned(body, right=1)])


def plain(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[dict]:
    """The numbers of a split, for other programs: fractions, a dict a row."""
    outputs, found = _outputs(rows, split, headline), []
    for row in rows:
        line = {"title": row.title, "segment": row.segment, "seeds": row.seeds, "runs": row.runs}
        line["values"] = {o: values(row, split, o, how) for o in outputs}
        if base is not None and row is not base:
            line["over"] = {"row": base.title, **{o: difference(row, base, split, o, how) for o in outputs}}
        found.append(line)
    return found


def write(path: pathlib.Path, tables: Sequence[dict], rows: Sequence[Row], headline: str, how: str, *,
          base: Row | None, across: str = "") -> pathlib.Path:  # fmt: skip
    """Writes the page of ``tables`` (of `compared`), one file that needs no other; returns its path."""
    pictures = {}
    for split in (found["split"] for found in tables):
        points = {row.title: values(row, split, headline, how) for row in rows}
        pictures[split] = figures.spread(points, f"{headline}: {split}")
    runs = [(row.title, row.runs) for row in rows if row.segment == rows[-1].segment]
    files.write_text(path, page.template("compare.html").render(
        tables=tables, figures=pictures, headline=headline, base=base and base.title, across=across, runs=runs,
        versions=page.versions(), several=any(len(row.seeds) > 1 for row in rows),
    ))  # fmt: skip
    return path
