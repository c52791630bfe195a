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
    """One row of the comparison: a segment of several runs that share everything but their seed.

    ``runs`` are the folders of the runs and ``scores`` is {split: [Scores of each seed]}; all of these have
    their clips in the same order.
    """

    title: str
    segment: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    scores: dict[str, list[Scores]]


def _head(scores: Scores) -> str:
    """Names the head that is compared: all heads of single labels together ('noun + verb'; the one alone where
    there is one), or the first head where none has single labels."""
    spaces = file.heads_of(scores)
    single = [name for name, space in spaces.items() if space.kind == "single"]
    first, *_ = spaces
    return " + ".join(single) if single else first


def _outputs(rows: Sequence[Row], split: str, headline: str) -> list[str]:
    """Lists every output of the rows, the headline first, then 'sum' and 'oracle' where a row has several
    members."""
    every = [scores for row in rows for scores in row.scores[split]]
    found = sorted({o for s in every for o in s.logits}, key=lambda o: (o != headline, o))
    several = any(len(file.members(s)) > 1 for s in every)
    # An oracle asks whether some output is right, which labels of several classes do not answer by yes or no.
    multi = all(s.label[h].ndim > 1 for s in every for h in s.label)
    return [*found, *(["sum"] if several else []), *(["oracle"] if several and not multi else [])]


def _key(scores: Scores, output: str) -> str | None:
    """Names the output by which the column ``output`` is found in a scores file; None where it has no such."""
    several = len(file.members(scores)) > 1
    # A network may itself be named "sum" or "oracle": then the column is its own.
    if output in ("sum", "oracle") and output not in scores.logits:
        return {"sum": "fused", "oracle": "oracle"}[output] if several else None
    return output if output in scores.logits else None


def _hits(scores: Scores, output: str, how: str) -> np.ndarray | None:
    """Returns 1 or 0, hit or miss, for each labelled clip [N]; None where labels are of several classes, or where
    the file has no such ``output``."""
    scores, head = file.labelled(scores), _head(scores)
    key = _key(scores, output)
    if key is None or (" + " not in head and scores.label[head].ndim > 1):
        return None
    if key == "oracle":
        return numbers_lib.oracle(scores, head, how)
    return numbers_lib.hits(scores, key, head, 1, how)


def _value(scores: Scores, output: str, how: str) -> float | None:
    """Returns top-1, or mAP where labels are of several classes, as a fraction; None where it is undefined."""
    hits = _hits(scores, output, how)
    if hits is not None:
        return float(hits.mean()) if len(hits) else None
    scores, key = file.labelled(scores), _key(scores, output)
    return None if key in (None, "oracle") else numbers_lib.mean_ap(scores, key, _head(scores), how)


def values(row: Row, split: str, output: str, how: str) -> list[float]:
    """Returns the value of each seed (top-1 or mAP, fractions); [] where that of any seed is undefined."""
    found = [_value(scores, output, how) for scores in row.scores[split]]
    # A mean over the other seeds would look like one over all.
    return [] if any(v is None for v in found) else found


def _mean_hits(row: Row, split: str, output: str, how: str) -> np.ndarray | None:
    """Returns the share of seeds that are right on each clip: [N]; None where a seed has no hits to count."""
    found = [_hits(scores, output, how) for scores in row.scores[split]]
    return None if any(h is None or not len(h) for h in found) else np.mean(found, axis=0)


def difference(row: Row, base: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """Returns ``row`` minus ``base`` as (mean, low, high), with a 95 % bootstrap interval over clips.

    Each clip's hits are averaged over seeds first, and the two rows are paired clip by clip. For mAP, which no
    single clip has, the result is (mean,) alone. It is () where either row lacks the number, or where the two
    are sums or oracles over different outputs.
    """
    if output in ("sum", "oracle") and len({file.members(r.scores[split][0]) for r in (row, base)}) > 1:
        return ()
    pair = [_mean_hits(r, split, output, how) for r in (row, base)]
    if all(hits is not None for hits in pair):
        return metrics.paired_interval(*pair)
    # mAP ranks all clips together, so that there is nothing to pair.
    means = [values(r, split, output, how) for r in (row, base)]
    return (float(np.mean(means[0]) - np.mean(means[1])),) if all(means) else ()


def _cell(row: Row, split: str, output: str, how: str) -> str:
    """Writes a value as '62.1 ± 0.9' (mean and standard deviation over seeds), as '62.1 [59.0, 65.2]' (one seed,
    with a 95 % interval over clips), or as '-' where there is none."""
    found = values(row, split, output, how)
    if not found:
        return "-"
    mean = table.percent(float(np.mean(found)))
    if len(found) > 1:
        # ddof=1: seeds are a sample, and a few of them would look too much alike otherwise.
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
    """Makes the table of a split as texts: {'split', 'about', 'columns', 'rows': [{'title', 'seeds', 'cells'}]}.
    Where there is a ``base``, the columns of the headline and of the sum are each followed by 'Δ', the paired
    difference to it."""
    columns: dict[str, list[str]] = {}
    for output in _outputs(rows, split, headline):
        columns[output] = [_cell(row, split, output, how) for row in rows]
        if base is not None and output in (headline, "sum"):
            found = [() if row is base else difference(row, base, split, output, how) for row in rows]
            columns[f"Δ {output}"] = [_difference_cell(own) for own in found]
    lines = [{"title": row.title, "seeds": str(len(row.seeds)), "cells": [cells[i] for cells in columns.values()]}
             for i, row in enumerate(rows)]  # fmt: skip
    # Rows on the same data say the same of it; each different line is said once.
    about = list(dict.fromkeys(table.denominators(row.scores[split][0]) for row in rows))
    about += [f"Δ: the difference to {base.title}"] if base is not None else []
    return {"split": split, "about": about, "columns": list(columns), "rows": lines}


def text(found: dict) -> str:
    """Writes the result of `compared` as aligned text, below the lines that say which clips it is of."""
    body = [["", "seeds", *found["columns"]]]
    body += [[line["title"], line["seeds"], *line["cells"]] for line in found["rows"]]
    return "\n".join([*found["about"], table.aligned(body, right=1)])


def plain(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[dict]:
    """Returns the numbers of a split for other programs: a dict for each row, with values as fractions."""
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
    """Writes ``tables``, which `compared` made, as one HTML file that needs no other; returns its ``path``."""
    pictures = {}
    for split in (found["split"] for found in tables):
        points = {row.title: values(row, split, headline, how) for row in rows}
        pictures[split] = figures.spread(points, f"{headline}: {split}")
    # Rows of one group of runs have the same folders: one segment of each group lists them all once.
    runs = [(row.title, row.runs) for row in rows if row.segment == rows[-1].segment]
    files.write_text(path, page.template("compare.html").render(
        tables=tables, figures=pictures, headline=headline, base=base and base.title, across=across, runs=runs,
        versions=page.versions(), several=any(len(row.seeds) > 1 for row in rows),
    ))  # fmt: skip
    return path
