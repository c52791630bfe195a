"""The parts of the report about confidence, views and frequent classes, from scores alone."""

import pathlib
from collections.abc import Sequence

import numpy as np

from mmvid.data import sampling
from mmvid.report import diagrams, figures, points
from mmvid.report.points import Column, Point
from mmvid.report.rows import head_of, taught_by, titled
from mmvid.report.text import percent
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Lines of one diagram beyond which nobody tells them apart.
MOST_LINES = 4
# Classes of figure 4 of multimodal distillation.
MOST_FREQUENT = 20


def reliabilities(columns: Sequence[Column], split: str, base: str, how: str) -> list[str]:
    """Draws a reliability diagram of every output and head of single labels, with a line for each column that has
    it: the last one first, then that of segment ``base`` -> SVGs, the last column's own outputs first."""
    shown = points.there(columns, split)
    # The last one and the baseline first: there may be more columns than a diagram has lines.
    shown = sorted(shown, key=lambda column: (column is not shown[-1], column.segment != base))
    labelled = {column.segment: file.labelled(column.scores[split]) for column in shown}
    found, teachers = [], taught_by(labelled.values())
    for output in dict.fromkeys(output for scores in labelled.values() for output in scores.logits):
        own = [column for column in shown if output in labelled[column.segment].logits][:MOST_LINES]
        heads = file.single_heads(labelled[own[0].segment])
        for head in heads:
            named = [(_named(column.title, labelled[column.segment], output, teachers), column) for column in own]
            bins = dict(_bins(name, labelled[column.segment], output, head, how) for name, column in named)
            title = f"{output} ({head})" if len(heads) > 1 else output
            found.append(diagrams.reliability(bins, title))
    return found


def _named(title: str, scores: Scores, output: str, teachers: set[str]) -> str:
    return titled(title, scores, output, teachers) if output in teachers and len(scores.logits) > 1 else title


def _bins(title: str, scores: Scores, output: str, head: str, how: str) -> tuple[str, np.ndarray]:
    """Returns the label of a line, with its calibration error, and the bins it is drawn from."""
    there = file.usable(scores, output, head)
    probs = numbers_lib.probabilities(file.of_output(scores, output, head)[0][there], how)
    labels = scores.label[head][there]
    error = metrics.expected_calibration_error(probs, labels)
    return f"{title}: {percent(error)}", metrics.reliability(probs, labels)


# ---------------------------------------------------------------------------- fewer views
def fewer(views: int, kept: int) -> np.ndarray:
    """Chooses ``kept`` of ``views`` views, evenly: the middles of as many equal parts."""
    return (2 * np.arange(kept) + 1) * views // (2 * kept)


def _evaluated(workdir: pathlib.Path, column: Column, split: str, how: str = "*") -> dict[str, Scores]:
    """Reads the scores of a split that the command 'evaluate' has left of a column, {``how`` they were made:
    Scores}; not those of other weights or clips than the column's."""
    own, found = column.scores[split], {}
    for path in sorted((workdir / column.segment / "scores").glob(f"{split}@{how}.npz")):
        scores = file.load(path)
        # Of thinned clips: they are not what a network sees in use.
        thinned = sampling.thinning(scores.meta.get("protocol", ""))[1] > 1
        if not thinned and all(scores.meta.get(name) == own.meta.get(name) for name in ("fingerprint", "step")):
            found[path.stem.removeprefix(f"{split}@")] = scores
    return found


def with_views(workdir: pathlib.Path, columns: Sequence[Column], split: str) -> list[Column]:
    """Returns the columns with scores from several views of a clip: their own, or, where the last column's are of
    one view, those that `evaluate` has made of the most views of it, and of the same of the others."""
    shown = points.there(columns, split)
    if file.shown_views(shown[-1].scores[split]) > 1:
        return shown
    made = _evaluated(workdir, shown[-1], split)
    most = max(made, key=lambda how: file.shown_views(made[how]), default="")
    each = [_evaluated(workdir, column, split, most) for column in shown] if most else []
    return [c._replace(scores={split: own[most]}) for c, own in zip(shown, each) if most in own]


def as_views_shrink(columns: Sequence[Column], split: str, output: str, how: str) -> str:
    """Draws the top-1 of an output over how many views a clip is scored from, a line for each column (figure 6 of
    multimodal distillation) -> SVG; '' where there are fewer than two views, or no single labels."""
    lines, title = {}, f"{output}, top-1"
    for column in points.there(columns, split):
        scores = file.labelled(column.scores[split])
        heads = file.single_heads(scores)
        if output in scores.logits and heads and len(scores.id):
            title = f"{output}, top-1 of {head_of(scores)}"
            views = scores.logits[output][heads[0]].shape[1]
            chosen = {count: fewer(views, count) for count in range(1, views + 1)}
            lines[column.title] = [(n, _top1(scores, output, own, how)) for n, own in chosen.items()]
    lines = {title: line for title, line in lines.items() if len(line) > 1}
    return figures.curves({title: lines}, "views of a clip") if lines else ""


def _top1(scores: Scores, output: str, views: np.ndarray, how: str) -> float:
    """Computes the top-1 of an output, right in all heads of single labels, from some of its ``views`` alone."""
    logits = {output: {head: scores.logits[output][head][:, views] for head in file.single_heads(scores)}}
    return float(numbers_lib.hits(scores._replace(logits=logits), output, head_of(scores), 1, how).mean())


# ---------------------------------------------------------------------------- frequent classes
def frequent(columns: Sequence[Column], split: str, output: str, base: str, how: str) -> str:
    """Draws the top-1 of an output on the `MOST_FREQUENT` classes of which the split has most clips, the last
    column's beside that of segment ``base`` (figure 4 of multimodal distillation) -> SVG; '' where there are
    fewer than two classes of single labels. Where there are several heads, a class is what all say together."""
    shown = points.there(columns, split)
    shown = [c for c in shown if c is shown[-1] or c.segment == base]
    shown = [c for c in shown if output in c.scores[split].logits]
    if not shown:
        return ""
    scores = [file.labelled(column.scores[split]) for column in shown]
    heads = file.single_heads(scores[-1])
    if not heads or not len(scores[-1].id):
        return ""
    rows = _frequent_rows([c.title for c in shown], scores, heads, output, how)
    styles = figures.column_styles([c.title for c in shown], _title(shown, base))
    return figures.values(rows, styles, f"top-1 of {head_of(scores[-1])}, percent") if len(rows) > 1 else ""


def _title(columns: Sequence[Column], segment: str) -> str:
    return next((column.title for column in columns if column.segment == segment), "")


def _frequent_rows(titles, scores: Sequence[Scores], heads: list[str], output: str, how: str) -> dict[str, list]:
    """Makes {name (clips): a Point for each column} of the most frequent classes, the most frequent first."""
    classes, counts = np.unique(np.stack([scores[-1].label[h] for h in heads], 1), axis=0, return_counts=True)
    spaces, rows = file.heads_of(scores[-1]), {}
    for place in np.argsort(-counts, kind="stable")[:MOST_FREQUENT]:
        names = [spaces[head].names[i] if spaces[head].names else str(i) for head, i in zip(heads, classes[place])]
        own = []
        for title, each in zip(titles, scores):
            chosen = np.all([each.label[h] == i for h, i in zip(heads, classes[place])], axis=0)
            hits = numbers_lib.hits(each, output, head_of(each), 1, how)[chosen]
            value = float(hits.mean()) if len(hits) else None
            interval = metrics.bootstrap_interval(hits) if len(hits) else ()
            own.append(Point(title, value, tuple(interval), (), {}))
        rows[f"{' '.join(names)} ({counts[place]})"] = own
    return rows
