"""The parts of the report around its table: the figure above, curves, classes, neighbours, the hardest clips."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid import files
from mmvid.report import figures, points
from mmvid.report.points import Column, Line
from mmvid.report.text import percent
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Columns of which a figure shows every output.
MOST = 8


def _of_one(
    found: Sequence, shown: Sequence[Column], styles: Sequence[tuple], base: str
) -> tuple[dict, list, dict]:
    """Turns one output's points into rows, one a column: every output of many columns would be a figure of several
    screens, most of it empty. Returns the rows, their style, and the inks of the last column and the ``base``."""
    rows = {column.title: [point] for column, point in zip(shown, found) if point}
    marked = {base, shown[-1].title}
    inks = {column.title: ink for column, (ink, *_) in zip(shown, styles) if column.title in marked}
    return rows, [(figures.COLOURS[0], "o", "")], inks


def lead(lines: Sequence[Line], columns: Sequence[Column], split: str, baseline: str) -> dict:
    """Draws the figure that a report begins with: {'values', 'differences': SVG}, every output and the sum of all
    in every column with its interval, and the paired differences; {} where no clip has a label. Of several heads
    it shows what they say together, of more than `MOST` columns the first output, which is the headline."""
    shown, lines = points.there(columns, split), points.together(lines)
    base = next((c.title for c in shown if c.segment == baseline), "")
    own = {name: line.points for name, line in zip(points.spoken(lines), lines) if not line.part}
    if not own:
        return {}
    styles, inks = figures.column_styles([c.title for c in shown], base), {}
    unit = "mAP" if all(line.multi for line in lines) else "top-1"
    # Of several heads the name takes a line of its own: a figure is as wide as a telephone.
    unit += f" of {lines[0].head}" if lines[0].joint else ""
    gap = "\n" if lines[0].joint else " "
    if len(shown) > MOST:
        name, found = next(iter(own.items()))
        own, styles, inks = _of_one(found, shown, styles, base)
        unit = f"{name} {unit}"
    return {
        "values": figures.values(own, styles, f"{unit},{gap}percent", inks=inks),
        "differences": base and figures.differences(own, styles, f"points of {unit}{gap}over {base}", base, inks),
    }


def neighbours(workdir: pathlib.Path) -> dict:
    """Shows the accuracies of k nearest neighbours in ``workdir/neighbours.json`` (DMCL, figure 3): {'ks', 'rows':
    [(output, texts)], 'figure': SVG}; {} where there is no such file."""
    try:
        found = files.read_json(workdir / "neighbours.json")
    except ValueError:
        found = None  # a run that asks for neighbours has made a damaged file anew
    if not found:
        return {}
    ks = list(dict.fromkeys(k for accuracies in found.values() for k in accuracies))
    lines = {o: [(int(k), v) for k, v in a.items() if v is not None] for o, a in found.items()}
    lines = {o: points for o, points in lines.items() if points}
    return {
        "ks": ks,
        "rows": [(o, [percent(a.get(k)) for k in ks]) for o, a in found.items()],
        "figure": figures.curves({"accuracy of k nearest neighbours": lines}, "k") if lines else "",
    }


def _points(lines: Sequence[Mapping], name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in lines if name in line]


def _binned(points: list[tuple[int, float]], bins: int = 25) -> list[tuple[float, float]]:
    """Averages [(step, value)] over up to ``bins`` stretches of equal length."""
    parts = np.array_split(np.array(points, float), min(bins, len(points)))
    return [tuple(part.mean(0)) for part in parts]


PANELS = {"ce": "cross-entropy", "kl": "KL to the peers", "distill": "distillation",
          "win": "share of wins", "pseudo": "loss on pseudo-labels",
          "confident": "share of confident predictions", "right": "right and confident, share",
          "beside": "share right, the other confident", "top1": "top-1", "map": "mAP",
          "grad_norm": "norm of the gradient"}  # fmt: skip
# Shares of a batch: that of one batch alone says nothing.
SHARES = ("win", "confident", "right", "beside")
LABELS = {"fused": "sum", "oracle": "any of them"}


def _titled(term: str) -> str:
    """Names a term for readers: 'top1_noun_and_verb' is the top-1 of two heads together."""
    known, _, head = term.partition("_") if term.startswith(("top1_", "map_")) else (term, "", "")
    return PANELS.get(known, known) + (f" of {head.replace('_and_', ' and ')}" if head else "")


def all_curves(workdir: pathlib.Path, columns: Sequence[Column]) -> list[tuple[str, str]]:
    """Returns [(title, SVG)] of the columns' curves. Segments that go on from one another share one picture, which
    bears the title of the last."""
    parts = [c.parts or (c.segment,) for c in columns]
    # What is the beginning of a longer chain is drawn there.
    whole = [own for own in parts if not any(len(o) > len(own) and o[: len(own)] == own for o in parts)]
    return [(c.title, curves(workdir, *own)) for c, own in zip(columns, parts) if own in whole]


def curves(workdir: pathlib.Path, *segments: str) -> str:
    """Draws the curves of ``segments``, which go on from one another, over their steps -> SVG.

    There is a panel for each term, in training and in validation, with a line for every output. A thin line
    stands where the next segment begins. '' where nothing was logged.
    """
    each = [_logged(workdir / segment) for segment in segments]
    return _curves([line for own in each for line in own], [own[-1]["step"] for own in each[:-1] if own])


def mean_curves(folders: Sequence[pathlib.Path]) -> str:
    """Draws the curves of one segment, means over the runs whose ``folders`` these are, as DMCL's figure 3 -> SVG;
    of what all have logged at a step. '' where there is no such thing."""
    return _curves(averaged([_logged(folder) for folder in folders]))


def _logged(folder: pathlib.Path) -> list[dict]:
    return files.read_lines(folder / "metrics.jsonl")


def averaged(each: Sequence[Sequence[Mapping]]) -> list[dict]:
    """The mean, name by name, of the logged lines of each run, at steps and of names that all of them have."""
    # Of a run that was resumed, a step may have lines of several kinds, and some twice: what came last counts.
    merged: list[dict[int, dict]] = [{} for _ in each]
    for own, lines in zip(merged, each):
        for line in lines:
            own.setdefault(line["step"], {}).update(line)
    found = []
    for step in sorted(set.intersection(*map(set, merged))):
        lines = [own[step] for own in merged]
        names = [
            n for n in lines[0] if n != "step" and all(isinstance(line.get(n), (int, float)) for line in lines)
        ]
        found.append({"step": step, **{n: float(np.mean([line[n] for line in lines])) for n in names}})
    return found


def _curves(lines: Sequence[Mapping], ends: Sequence[int] = ()) -> str:
    names = sorted({n for line in lines for n in line if n.startswith(("train/", "val/"))})
    panels: dict[str, dict] = {}
    for name in names:
        # Logged names are when/output/term: train/rgb/ce, val/rgb/top1.
        when, output, term = name.split("/")
        title = _titled(term) + (", validation" if when == "val" else "")
        points = _points(lines, name)
        label = LABELS.get(output, output)
        panels.setdefault(title, {})[label] = _binned(points) if term in SHARES else points
    rates = sorted({n for line in lines for n in line if n == "lr" or n.startswith("lr/")})
    if rates:
        # 'lr' is the headline's, and everybody's where nothing else was logged.
        first = "all networks" if rates == ["lr"] else "the headline's network"
        panels["learning rate"] = {
            first if name == "lr" else name.removeprefix("lr/"): _points(lines, name) for name in rates
        }
    return figures.curves(panels, marks=ends) if panels else ""


def _names(scores: Scores, head: str) -> list[str]:
    """Lists the class names of a head; their numbers where the file has no names."""
    classes = file.heads_of(scores)[head]
    return list(classes.names) or [str(i) for i in range(classes.classes)]


def _shown(scores: Scores, output: str, head: str) -> str:
    """Says how many clips a figure is made of and why others are not: '235 of 240 clips (5 without rgb)'."""
    there = int(file.usable(scores, output, head).sum())
    spoilt = file.not_finite(scores, output, head)
    absent = len(scores.id) - there - spoilt
    reasons = [f"{absent} without {output}"] * (absent > 0)
    reasons += [f"{spoilt} with scores that are not finite"] * (spoilt > 0)
    return f"{there} of {len(scores.id)} clips" + (f" ({', '.join(reasons)})" if reasons else "")


def class_figures(column: Column, base: Column | None, output: str, split: str, how: str) -> list[dict]:
    """Draws, for each head of single labels, the confusion matrix and the change of each class against ``base``,
    over the clips that have ``output`` with finite scores.

    Returns [{'head', 'shown': text, 'confusion', 'changes': SVG}], with '' for 'changes' where there is no
    ``base`` on the same clips, and [] where there is no such head or output.
    """
    scores = file.labelled(column.scores[split])
    if output not in scores.logits or not len(scores.id):
        return []
    earlier = file.labelled(base.scores[split]) if base and split in base.scores else None
    paired = earlier and output in earlier.logits and earlier.id.tolist() == scores.id.tolist()
    over = f"{column.title} minus {base.title}" if paired else ""
    return [
        {
            "head": head,
            "shown": _shown(scores, output, head),
            "confusion": _confusion(scores, output, head, how),
            "changes": _changes(scores, earlier, output, head, how, f"{output} ({head}): {over}")
            if paired
            else "",
        }
        for head in file.single_heads(scores)
    ]


def _confusion(scores: Scores, output: str, head: str, how: str) -> str:
    there, labels = file.usable(scores, output, head), scores.label[head]
    probs = numbers_lib.probabilities(scores.logits[output][head], how)
    return figures.confusion(metrics.confusion_matrix(probs[there], labels[there]), _names(scores, head))


def _changes(scores: Scores, earlier: Scores, output: str, head: str, how: str, title: str) -> str:
    return figures.changes(*class_changes(scores, earlier, output, output, head, how), title)


def class_changes(
    scores: Scores, earlier: Scores, output: str, other: str, head: str, how: str
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Computes what each class has gained from the ``other`` output of ``earlier`` scores to ``output`` of
    ``scores``, of the same clips: (names, change in accuracy or, of several labels, in AP [K], clips [K])."""
    # A class's change is over clips that both have: otherwise it would be one of coverage, too.
    both = file.usable(scores, output, head) & file.usable(earlier, other, head)
    labels, names = scores.label[head][both], _names(scores, head)
    after, before = (
        numbers_lib.probabilities(own.logits[name][head], how, kind=file.probabilities_of(own, head))[both]
        for own, name in ((scores, output), (earlier, other))
    )
    if labels.ndim > 1:
        change = _average_precisions(after, labels) - _average_precisions(before, labels)
        return names, change, labels.sum(0).astype(int)
    change = metrics.per_class_accuracy(after, labels) - metrics.per_class_accuracy(before, labels)
    return names, change, np.bincount(labels, minlength=len(names))


def _average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes the AP of each class: [N, K] each -> [K], nan where a class has no positive."""
    found = [metrics.mean_average_precision(scores[:, [k]], labels[:, [k]]) for k in range(scores.shape[1])]
    return np.array([np.nan if ap is None else ap for ap in found])


def hardest(scores: Scores, output: str, count: int, how: str = numbers_lib.HOW) -> list[dict]:
    """Lists the ``count`` clips whose true class ``output`` finds least probable, among those that have it, as
    dicts of row, id, label, guess and prob; of several heads of single labels, what all say together."""
    scores = file.labelled(scores)
    heads = file.single_heads(scores)
    if not heads or output not in scores.logits or not len(scores.id):
        return []
    probs = {head: numbers_lib.probabilities(scores.logits[output][head], how) for head in heads}
    own = np.prod([probs[head][np.arange(len(scores.id)), scores.label[head]] for head in heads], axis=0)
    # NaN would sort last, and an absent output is no mistake: both are left out.
    there = np.flatnonzero(np.all([file.usable(scores, output, head) for head in heads], axis=0))

    def named(classes: dict[str, int]) -> str:
        return ", ".join(_names(scores, head)[classes[head]] for head in heads)

    return [
        {
            "row": int(scores.row[i]),
            "id": str(scores.id[i]),
            "label": named({head: scores.label[head][i] for head in heads}),
            "guess": named({head: probs[head][i].argmax() for head in heads}),
            "prob": f"{own[i]:.3f}",
        }
        for i in there[np.argsort(own[there])][:count]
    ]
