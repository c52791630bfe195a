"""Runs side by side, over seeds: values, differences on the same clips, the table and the page."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files
from mmvid.report import facts, figures, page, table, verdict
from mmvid.report import text as text_lib
from mmvid.report.points import Line, Point
from mmvid.report.text import percent
from mmvid.scores import ensembles, file, metrics
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


def _sampled(row: Row, split: str, output: str, how: str) -> np.ndarray:
    """Returns the mAP of bootstrap samples of the clips, averaged over seeds: [D]."""
    return np.mean(
        [
            numbers_lib.sampled_map(scores, _key(scores, output), _head(scores), how)
            for scores in row.scores[split]
        ],
        axis=0,
    )


def interval(row: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """Returns the 95 % bootstrap interval over clips of a row's mean over seeds: (low, high), or () where there
    is no such number."""
    hits, found = _mean_hits(row, split, output, how), values(row, split, output, how)
    if hits is not None:
        return metrics.bootstrap_interval(hits)
    return numbers_lib.around(float(np.mean(found)), _sampled(row, split, output, how)) if found else ()


def difference(row: Row, base: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """Returns ``row`` minus ``base`` as (mean, low, high), with a 95 % bootstrap interval over clips.

    Each clip's hits (or the mAP of each sample of clips) are averaged over seeds first, and the two rows are
    paired. It is () where either row lacks the number, or where the two are sums or oracles over different
    outputs.
    """
    if output in ("sum", "oracle") and len({file.members(r.scores[split][0]) for r in (row, base)}) > 1:
        return ()
    pair = [_mean_hits(r, split, output, how) for r in (row, base)]
    if all(hits is not None for hits in pair):
        return metrics.paired_interval(*pair)
    means = [values(r, split, output, how) for r in (row, base)]
    if not all(means):
        return ()
    mean = float(np.mean(means[0]) - np.mean(means[1]))
    return (mean, *numbers_lib.around(mean, np.subtract(*(_sampled(r, split, output, how) for r in (row, base)))))


def _cell(row: Row, split: str, output: str, how: str) -> str:
    """Writes a value as '62.1 ± 0.9' (mean and standard deviation over seeds), as '62.1 [59.0, 65.2]' (one seed,
    with a 95 % interval over clips), or as '-' where there is none."""
    found = values(row, split, output, how)
    if not found:
        return "-"
    mean = percent(float(np.mean(found)))
    if len(found) > 1:
        # ddof=1: seeds are a sample, and a few of them would look too much alike otherwise.
        return f"{mean} ± {percent(float(np.std(found, ddof=1)))}"
    return f"{mean} [{', '.join(map(percent, interval(row, split, output, how)))}]"


def _lines(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> list[Line]:
    """Makes the lines that verdict and figures are made from: every output and the sum, with a point a row."""
    found = []
    for output in (o for o in _outputs(rows, split, headline) if o != "oracle"):
        points = []
        for row in rows:
            own = values(row, split, output, how)
            unit = "map" if _mean_hits(row, split, output, how) is None else "top1"
            over = () if base in (None, row) else difference(row, base, split, output, how)
            points.append(
                Point(
                    row.title, mean := float(np.mean(own)), interval(row, split, output, how), over, {unit: mean}
                )
                if own
                else None
            )
        if any(points):
            found.append(Line(output, "", tuple(points)))
    return found


def _verdict(lines: Sequence[Line], rows: Sequence[Row], base: Row | None) -> str:
    """Writes which row leads in the first output, by how much, and what the other outputs make of it; or which
    ones tie there, as far as the table shows it."""
    main = lines[0] if lines else None
    known = [i for i, row in enumerate(rows) if row is not base and main and main.points[i]]
    if not known:
        return "no row has a number to compare"
    highest = max(p.value for p in main.points if p)
    leaders = [p for p in main.points if p and percent(p.value) == percent(highest)]
    if len(leaders) > 1:
        return verdict.tie(main, leaders, base.title if base else "")
    best = max(known, key=lambda i: main.points[i].value)
    own, title = main.points[best], base.title if base else ""
    opening = f"{leaders[0].title} leads in {main.output} with"
    if leaders[0] is not own:
        second = [p.title for p in main.points if p and percent(p.value) == percent(own.value)]
        after = f"next are {text_lib.listed(second)}:" if len(second) > 1 else "next is"
        opening += f" {text_lib.value(leaders[0].more)}; {after} {own.title} with"
    # Of the others, what the page shows: differences of the sum alone.
    told = [line for line in lines if base is None or line is main or line.output == "sum"]
    return verdict.told(told, main, best, title, title, others=base is not None, opening=opening)


def compared(rows: Sequence[Row], split: str, headline: str, how: str, base: Row | None) -> dict:
    """Makes the table of a split as texts: {'split', 'about', 'columns', 'rows': [{'title', 'seeds', 'cells'}],
    'verdict'}, and the 'lines' that it is of. Where there is a ``base``, the columns of the first output and of
    the sum are each followed by 'Δ', the paired difference to it."""
    columns: dict[str, list[str]] = {}
    for output in (outputs := _outputs(rows, split, headline)):
        columns[output] = [_cell(row, split, output, how) for row in rows]
        if base is not None and output in (outputs[0], "sum"):
            found = [() if row is base else difference(row, base, split, output, how) for row in rows]
            columns[f"Δ {output}"] = [text_lib.difference(own) for own in found]
    cells = [
        {"title": row.title, "seeds": str(len(row.seeds)), "cells": [own[i] for own in columns.values()]}
        for i, row in enumerate(rows)
    ]
    # Rows on the same data say the same of it; each different line is said once.
    about = list(dict.fromkeys(table.denominators(row.scores[split][0]) for row in rows))
    about += [f"{row.title}: {text}" for row in rows for text in ensembles.of_all(row.scores[split])]
    about += [f"Δ: the difference to {base.title}"] if base is not None else []
    lines = _lines(rows, split, headline, how, base)
    return {
        "split": split,
        "about": about,
        "columns": list(columns),
        "rows": cells,
        "lines": lines,
        "verdict": _verdict(lines, rows, base),
    }


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


def _figures(found: dict, rows: Sequence[Row], headline: str, how: str, base: Row | None) -> list[str]:
    """Draws a split's first output: every row with its interval and its seeds, and its difference to ``base``."""
    if not found["lines"]:
        return []
    main, split = found["lines"][0], found["split"]
    points = {row.title: [point] for row, point in zip(rows, main.points)}
    dots = {row.title: values(row, split, main.output, how) for row in rows if len(row.seeds) > 1}
    style, unit = [(figures.COLOURS[0], "o", "")], "mAP" if main.multi else "top-1"
    drawn = [figures.values(points, style, f"{main.output}: {unit}, percent", dots)]
    if base is not None:
        drawn.append(figures.differences(points, style, f"points over {base.title}", base.title))
    return [figure for figure in drawn if figure]


def _folders(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Lists every run's folder once, with the titles of its rows: {folder: titles}."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for folder in row.runs:
            found.setdefault(folder, []).append(row.title)
    return found


def _segments(rows: Sequence[Row]) -> dict[str, list[pathlib.Path]]:
    """Lists the folders of each row's segments, {title: folders}."""
    return {row.title: [pathlib.Path(folder) / row.segment for folder in row.runs] for row in rows}


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
    pictures = {found["split"]: _figures(found, rows, headline, how, base) for found in tables}
    # Of the rows of the same runs, the last is their own method: it names them.
    names = {row.runs: row.title for row in rows}.values()
    files.write_text(
        path,
        page.template("compare.html").render(
            tables=tables,
            figures=pictures,
            headline=headline,
            base=base and base.title,
            across=across,
            runs=_folders(rows),
            names=list(names),
            made=facts.made(_segments(rows)),
            several=any(len(row.seeds) > 1 for row in rows),
        ),
    )
    return path
