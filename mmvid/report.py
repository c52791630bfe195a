"""The run's table and its report.html, made from scores files and metrics alone."""

import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jinja2
import numpy as np

from mmvid import figures, files, logs
from mmvid.data import fields, records
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av",
            "opencv-contrib-python-headless")  # fmt: skip


class Column(NamedTuple):
    """A column of the table: a title and its scores by split."""

    title: str
    segment: str
    scores: dict[str, Scores]


# ---------------------------------------------------------------------------- the table
def _percent(value: float | None) -> str:
    """'62.1'; '-' for what is undefined."""
    return "-" if value is None else f"{100 * value:.1f}"


def _both(*values: float | None) -> str:
    """'62.1 / 91.3'; '-' where all are undefined."""
    return " / ".join(map(_percent, values)) if any(v is not None for v in values) else "-"


def _cell(numbers: dict | None) -> str:
    """'62.1 [59.0, 65.2] / 91.3' for single labels, mAP and mAUC for several; '-' where there is none."""
    if numbers is None:
        return "-"
    if "map" in numbers:
        return _both(numbers["map"], numbers["mauc"])
    low, high = numbers["top1_interval"]
    text = f"{_percent(numbers['top1'])} [{_percent(low)}, {_percent(high)}]"
    return text + (f" / {_percent(numbers['top5'])}" if numbers.get("top5") is not None else "")


def _clip_cell(numbers: dict | None) -> str:
    if numbers is None or "clip_top1" not in numbers:
        return "-"
    five = "" if numbers["clip_top5"] is None else f" / {_percent(numbers['clip_top5'])}"
    return f"{_percent(numbers['clip_top1'])}{five}; {_percent(numbers['ece'])}"


def _lost_cell(numbers: dict | None) -> str:
    count = (numbers or {}).get("not_finite", 0)
    return f"{count} of {numbers['n']}" if count else "-"


def _measures(numbers: Sequence[dict | None]) -> dict[str, list[str]]:
    """{measure: a cell a column} of one output and head. Of five classes or fewer there is no top-5."""
    five = " / top-5" if any(n and n.get("top5") is not None for n in numbers) else ""
    if any(n and "map" in n for n in numbers):
        forms = {"video mAP / mAUC": _cell}
    else:
        forms = {f"video top-1 [95 %]{five}": _cell, f"clip top-1{five}; ECE": _clip_cell}
    forms["misses: scores not finite"] = _lost_cell
    return {name: [form(n) for n in numbers] for name, form in forms.items()}


def _difference(scores: Scores, base: Scores, output: str, head: str, how: str) -> str:
    """'+2.5 [-0.4, 5.4]': top-1 against the baseline on the same labelled clips."""
    scores, base = file.labelled(scores), file.labelled(base)
    alike = list(scores.logits) == list(base.logits) if output == "fused" else output in base.logits
    if not alike or scores.id.tolist() != base.id.tolist():
        return "-"
    if " + " not in head and scores.label[head].ndim > 1:
        return "-"
    pair = (numbers_lib.hits(s, output, head, 1, how) for s in (scores, base))
    mean, low, high = metrics.paired_interval(*pair)
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _key(scores: Scores, name: str) -> str:
    """A row's output in this column: 'flow + rgb' is 'fused' where those are its members."""
    return "fused" if name == " + ".join(scores.logits) and len(scores.logits) > 1 else name


def rows(
    columns: Sequence[Column], split: str, *, baseline: str = "", how: str = "logits"
) -> list[dict]:
    """The table of a split: a dict a row: output, head, measure, cells (one text a column).

    Measures: video top-1 with its 95 % interval and top-5, or mAP and mAUC; clip top-1, top-5 and the
    calibration error; clips whose scores are not finite; the paired difference of top-1 to the column
    whose segment is ``baseline``; and for what is fused, by its members, how often any member is right.
    """
    there = [c.scores[split] for c in columns if split in c.scores]
    segments = [c.segment for c in columns if split in c.scores]
    summaries = [numbers_lib.summary(s, how) for s in there]
    single = list(dict.fromkeys(o for s in there for o in s.logits))
    fused = list(dict.fromkeys(" + ".join(s.logits) for s in there if len(s.logits) > 1))
    base = next((s for s, name in zip(there, segments) if name == baseline), None)
    over = next((f"top-1 over {c.title}" for c in columns if c.segment == baseline), "")
    table = []
    for output in single + fused:
        keys = [_key(s, output) for s in there]
        found = [summary.get(key, {}) for summary, key in zip(summaries, keys)]
        heads = list(dict.fromkeys(head for numbers in found for head in numbers))
        for head in heads:
            numbers = [n.get(head) for n in found]
            measures = _measures(numbers)
            first = next(iter(measures))
            if base is not None:
                measures[over] = [
                    "" if n is None or name == baseline
                    else _difference(s, base, key, head, how)
                    for s, name, key, n in zip(there, segments, keys, numbers)
                ]  # fmt: skip
            if output in fused:
                measures["oracle top-1 (any of them)"] = [
                    _percent(s["oracle"][head]) if key == "fused" and head in s.get("oracle", {}) else "-"
                    for s, key in zip(summaries, keys)
                ]
            name = output + (f" ({head})" if len(heads) > 1 else "")
            table += [
                {"output": name, "measure": m, "cells": c}
                for m, c in measures.items() if m == first or set(c) - {"-", ""}
            ]  # fmt: skip
    return table


# ---------------------------------------------------------------------------- modality by modality
def _outputs(columns: Sequence[Column], split: str, headline: str) -> list[str]:
    """Every column's outputs, the headline first."""
    found = {o for c in columns if split in c.scores for o in c.scores[split].logits}
    return sorted(found, key=lambda o: (o != headline, o))


def _value(numbers: dict | None) -> str:
    if numbers is None:
        return "-"
    if "top1" in numbers:
        return _percent(numbers["top1"])
    return "-" if numbers["map"] is None else f"mAP {_percent(numbers['map'])}"


def overview(columns: Sequence[Column], split: str, headline: str, how: str = "logits") -> list[dict]:
    """The table as multimodal papers print it: {'title', 'cells' {output, 'sum' or 'oracle': text}},
    a row a column of the run; [] where no column has several outputs. Of several heads the first,
    or all together ('noun + verb').
    """
    found, widest = [], max((len(c.scores[split].logits) for c in columns if split in c.scores), default=0)
    for column in columns:
        scores = column.scores.get(split)
        if scores is None or len(scores.logits) < 2:
            continue
        numbers = numbers_lib.summary(scores, how)
        heads = list(next(iter(numbers.values()), {"": None}))
        head = heads[-1] if " + " in heads[-1] else heads[0]
        cells = {o: _value(numbers.get(o, {}).get(head)) for o in _outputs([column], split, headline)}
        # Where a frozen teacher has no scores, a sum would be one of other members.
        whole = len(scores.logits) == widest
        cells["sum"] = _value(numbers.get("fused", {}).get(head) if whole else None)
        if head in numbers.get("oracle", {}):
            cells["oracle"] = _percent(numbers["oracle"][head]) if whole else "-"
        found.append({"title": column.title, "cells": cells})
    return found


def overview_text(columns: Sequence[Column], split: str, headline: str, how: str = "logits") -> str:
    """``overview`` as aligned text; '' where it is empty."""
    found = overview(columns, split, headline, how)
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found for name in row["cells"]))
    body = [["", *names]] + [[r["title"], *(r["cells"].get(n, "-") for n in names)] for r in found]
    several = any(text.startswith("mAP") for row in found for text in row["cells"].values())
    return f"{split}, {'mAP' if several else 'top-1'}\n" + _aligned(body)


def _aligned(body: list[list[str]]) -> str:
    """Rows of text in columns, a line under the first."""
    widths = [max(len(line[i]) for line in body) for i in range(len(body[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in body]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def missing_modalities(columns: Sequence[Column], split: str, how: str = "logits") -> dict:
    """What is left of each column when modalities are missing: {'rows': [{'subset', 'covered',
    'cells'}], 'figure': SVG}; {} where no column has several outputs."""
    there = [c for c in columns if split in c.scores and len(c.scores[split].logits) > 1]
    found = [numbers_lib.subsets(c.scores[split], how) for c in there]
    names = list(dict.fromkeys(name for subsets in found for name in subsets))
    names.sort(key=lambda name: (name.count(" + "), name))
    if not names:
        return {}
    head = next(head for subsets in found for heads in subsets.values() for head in heads)
    numbers = [[subsets.get(name, {}).get(head) for subsets in found] for name in names]
    rows = [
        {"subset": name, "cells": [_subset_cell(n) for n in row],
         "covered": next(f"{_percent(n['covered'])} %" for n in row if n)}
        for name, row in zip(names, numbers)
    ]  # fmt: skip
    values = np.array([[_fraction(n) for n in row] for row in numbers])
    titles = [c.title for c in there]
    picture = figures.heat(values, names, titles, f"{split}: what is there at test time")
    return {"rows": rows, "titles": titles, "figure": picture}


def _fraction(numbers: dict | None) -> float:
    """Top-1 or mAP; NaN, which no figure shows, where it is undefined."""
    value = (numbers or {}).get("top1", (numbers or {}).get("map"))
    return np.nan if value is None else value


def _subset_cell(numbers: dict | None) -> str:
    if numbers is None or "top1" not in numbers:
        return _value(numbers)
    low, high = numbers["top1_interval"]
    return f"{_percent(numbers['top1'])} [{_percent(low)}, {_percent(high)}]"


def _neighbours(workdir: pathlib.Path) -> dict:
    """Of ``neighbours.json``: {'ks', 'rows': [(output, texts)], 'figure': SVG}; {} without one."""
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
        "rows": [(o, [_percent(a.get(k)) for k in ks]) for o, a in found.items()],
        "figure": figures.curves({"accuracy of k nearest neighbours": lines}, 1, "k") if lines else "",
    }


def _denominators(scores: Scores) -> str:
    meta = scores.meta
    return (
        f"{meta['split']}: {meta['clips_used']} of {meta['clips_expected']} clips, "
        f"{meta['views']} view(s), protocol {meta['protocol']}, crop {meta['crops']}, "
        f"{meta['dataset']} ({meta['fingerprint']})"
    )


def table(
    columns: Sequence[Column], split: str, *, baseline: str = "", how: str = "logits"
) -> str:
    """``rows`` as aligned text, with the denominators above it."""
    there = [c for c in columns if split in c.scores]
    body = [["", ""] + [c.title for c in there]]
    last = None
    for row in rows(columns, split, baseline=baseline, how=how):
        name = row["output"] if row["output"] != last else ""
        last = row["output"]
        body.append([name, row["measure"], *row["cells"]])
    return _denominators(there[-1].scores[split]) + "\n" + _aligned(body)


# ---------------------------------------------------------------------------- figures
def _points(lines: list[dict], name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in lines if name in line]


def _binned(points: list[tuple[int, float]], bins: int = 25) -> list[tuple[float, float]]:
    """Means over stretches: a share of a batch says little alone."""
    parts = np.array_split(np.array(points, float), min(bins, len(points)))
    return [tuple(part.mean(0)) for part in parts]


PANELS = {"ce": "cross-entropy", "kl": "KL to the peers", "distill": "distillation",
          "win": "share of wins", "top1": "top-1", "grad_norm": "norm of the gradient"}  # fmt: skip


def _curves(workdir: pathlib.Path, segment: str) -> str:
    """One panel a term, for training and for validation: every output's line."""
    lines = files.read_lines(workdir / segment / "metrics.jsonl")
    names = sorted({n for line in lines for n in line if n.startswith(("train/", "val/"))})
    panels: dict[str, dict] = {}
    for name in names:
        phase, output, term = name.split("/")
        title = PANELS.get(term, term) + (", validation" if phase == "val" else "")
        points = _points(lines, name)
        panels.setdefault(title, {})[output] = _binned(points) if term == "win" else points
    if any("lr" in line for line in lines):
        panels["learning rate"] = {"lr": _points(lines, "lr")}
    return figures.curves(panels) if panels else ""


def _names(scores: Scores, head: str) -> list[str]:
    classes = file.heads_of(scores)[head]
    return list(classes.names) or [str(i) for i in range(classes.classes)]


def _first_single(scores: Scores) -> str | None:
    """The first head of single labels, which figures are of."""
    return next((head for head, label in scores.label.items() if label.ndim == 1), None)


def _shown(scores: Scores, output: str, head: str) -> str:
    """'235 of 240 clips (5 without rgb)': what a figure is made of."""
    there = int(file.usable(scores, output, head).sum())
    spoilt = file.not_finite(scores, output, head)
    absent = len(scores.id) - there - spoilt
    reasons = [f"{absent} without {output}"] * (absent > 0)
    reasons += [f"{spoilt} with scores that are not finite"] * (spoilt > 0)
    return f"{there} of {len(scores.id)} clips" + (f" ({', '.join(reasons)})" if reasons else "")


def _class_figures(column: Column, base: Column | None, output: str, split: str, how: str) -> dict:
    """Confusion, reliability, and change per class of the headline's first single-label head, over
    the clips that have the headline: {'confusion', 'changes', 'reliability': SVG, 'shown': text}."""
    scores = file.labelled(column.scores[split])
    head = _first_single(scores)
    if head is None or output not in scores.logits or not len(scores.id):
        return {}
    there, labels, names = file.usable(scores, output, head), scores.label[head], _names(scores, head)
    probs = numbers_lib.probabilities(scores.logits[output][head], how)
    bins = {column.title: metrics.reliability(probs[there], labels[there])}
    found = {
        "confusion": figures.confusion(metrics.confusion_matrix(probs[there], labels[there]), names),
        "shown": _shown(scores, output, head),
    }
    earlier = file.labelled(base.scores[split]) if base and split in base.scores else None
    if earlier and output in earlier.logits and earlier.id.tolist() == scores.id.tolist():
        before = numbers_lib.probabilities(earlier.logits[output][head], how)
        old = file.usable(earlier, output, head)
        bins[base.title] = metrics.reliability(before[old], labels[old])
        both = there & old
        change = np.subtract(*(metrics.per_class_accuracy(p[both], labels[both]) for p in (probs, before)))
        counts = np.bincount(labels[both], minlength=probs.shape[1])
        title = f"{output}: {column.title} minus {base.title}"
        found["changes"] = figures.changes(names, change, counts, title)
    return found | {"reliability": figures.reliability(bins)}


def hardest(scores: Scores, output: str, count: int, how: str = "logits") -> list[dict]:
    """The clips whose true class ``output`` finds least probable, of those that have it: row, id,
    label, guess, prob."""
    scores = file.labelled(scores)
    head = _first_single(scores)
    if head is None or output not in scores.logits or not len(scores.id):
        return []
    probs = numbers_lib.probabilities(scores.logits[output][head], how)
    own = probs[np.arange(len(probs)), scores.label[head]]
    there = np.flatnonzero(file.usable(scores, output, head))
    names = _names(scores, head)
    return [
        {"row": int(scores.row[i]), "id": str(scores.id[i]), "label": names[scores.label[head][i]],
         "guess": names[probs[i].argmax()], "prob": f"{own[i]:.3f}"}
        for i in there[np.argsort(own[there])][:count]
    ]  # fmt: skip


def versions() -> dict[str, str]:
    """Python, platform, devices and the packages that numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    found["devices"] = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# ---------------------------------------------------------------------------- the page
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("mmvid", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html")


def write(
    workdir: str | pathlib.Path,
    columns: Sequence[Column],
    *,
    config: str,
    baseline: str = "",
    headline: str = "rgb",
    how: str = "logits",
    thumbnails: Callable[[str, int], np.ndarray] | None = None,
    published: Sequence[tuple[str, dict]] = (),
    published_neighbours: Sequence[tuple[str, dict]] = (),
) -> pathlib.Path:
    """Writes ``workdir/report.html``, one self-contained page; returns its path.

    The last column is the method, ``baseline`` the segment it is compared with; ``thumbnails``
    (split, row) -> uint8 [T, H, W, 3]; ``published``: (what, {output: text}) rows of a
    paper, ``published_neighbours``: (what, {k: text}).
    Raises ValueError without any column.
    """
    if not columns:
        raise ValueError("a report needs at least one column of scores")
    workdir, own = pathlib.Path(workdir), columns[-1]
    splits = list(own.scores)
    base = next((c for c in columns if c.segment == baseline), None)
    clips = hardest(own.scores[splits[0]], headline, 8, how)
    for clip in clips if thumbnails else ():
        pictures = thumbnails(splits[0], clip["row"])
        clip["strip"] = figures.strip(pictures) if len(pictures) else ""
    tables = [
        {"split": split, "about": _denominators(own.scores[split]),
         "titles": [c.title for c in columns if split in c.scores],
         "rows": rows(columns, split, baseline=baseline, how=how)}
        for split in splits
    ]  # fmt: skip
    page = _template().render(
        name=workdir.name, title=own.title, headline=headline, baseline=base and base.title,
        overviews=[(s, overview(columns, s, headline, how)) for s in splits],
        outputs=_published_outputs(columns, splits[0], headline, published),
        missing=[(s, found) for s in splits if (found := missing_modalities(columns, s, how))],
        neighbours=_neighbours(workdir), published_neighbours=list(published_neighbours),
        tables=tables, published=list(published), clips=clips, versions=versions(),
        curves=[(c.title, _curves(workdir, c.segment)) for c in columns],
        figures=_class_figures(own, base, headline, splits[0], how),
        config=json.dumps(json.loads(config), indent=1, sort_keys=True),
    )  # fmt: skip
    path = workdir / "report.html"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page, encoding="utf-8", errors="replace")  # file names need not be UTF-8
    temporary.replace(path)
    return path


def _published_outputs(columns, split: str, headline: str, published) -> list[str]:
    """The columns of the overview: the run's outputs, then what the paper prints beside them."""
    printed = [name for _, numbers in published for name in numbers]
    last = {"sum": 1, "oracle": 2}
    names = dict.fromkeys([*_outputs(columns, split, headline), *printed, "sum", "oracle"])
    return sorted(names, key=lambda name: last.get(name, 0))


# ---------------------------------------------------------------------------- the end of a run
def _last_line(config, result: dict, title: str, split: str, path: pathlib.Path) -> str:
    """The score, its interval, the report's path, the next command."""
    numbers = next(iter(result.get(config.headline, next(iter(result.values()), {})).values()), None)
    if numbers is None:
        score, numbers = "no clip has a label", {"n": 0}
    elif "map" in numbers and numbers["map"] is None:
        score = "mAP - (no class has a positive clip)"
    elif "map" in numbers:
        score = f"mAP {_percent(numbers['map'])}"
    else:
        low, high = numbers["top1_interval"]
        score = f"top-1 {_percent(numbers['top1'])} [{_percent(low)}, {_percent(high)}]"
    lost = numbers.get("not_finite", 0)
    spoilt = f", {lost} clips have scores that are not finite" if lost else ""
    following = (
        "your own videos: python -m data_prep.build --folder YOUR_VIDEOS --out data/mine"
        if config.dataset.command
        else f"the spread over seeds: the same command with --config.seed={config.seed + 1} "
        f"--workdir={path.parent}-seed{config.seed + 1}"
    )
    return (
        f"{title}, {config.headline}, {split}: {score} (n={numbers['n']}{spoilt}); report: {path}; "
        f"next, {following}"
    )


def _numbers(scores: Scores, how: str) -> dict:
    """What summary.json keeps: every output's numbers, and those of every subset of several."""
    found = numbers_lib.summary(scores, how)
    return found | ({"subsets": numbers_lib.subsets(scores, how)} if len(scores.logits) > 1 else {})


def finish(
    workdir: pathlib.Path, config, columns: Sequence[tuple], dataset, *, baseline: str = ""
) -> dict:
    """Logs the tables, writes report.html and summary.json (every number of every column), logs what
    to do next; returns the last column's summary.

    ``columns``: (title, segment, splits) in order; their scores files must be there, or
    FileNotFoundError is raised.
    """
    loaded = [
        Column(title, segment, {
            split: file.load(workdir / segment / "scores" / f"{split}.npz") for split in splits
        })
        for title, segment, splits in columns
    ]  # fmt: skip
    how, own = config.evaluation.aggregate, loaded[-1]

    def thumbnail(split: str, row: int) -> np.ndarray:
        record = dataset.split(split)[row]
        if not records.present(record, "rgb"):
            return np.zeros((0, 1, 1, 3), np.uint8)
        index = np.linspace(0, record["num_frames"] - 1, 6).astype(int)
        return fields.decode_frames(record, "rgb", index)

    for split in own.scores:
        logs.LOG.info("\n%s\n", table(loaded, split, baseline=baseline, how=how))
    for split in own.scores:
        if text := overview_text(loaded, split, config.headline, how):
            logs.LOG.info("%s\n", text)
    path = write(
        workdir, loaded, config=config.to_json_best_effort(), baseline=baseline,
        headline=config.headline, how=how, thumbnails=thumbnail, published=config.published,
        published_neighbours=config.published_neighbours,
    )  # fmt: skip
    numbers = {c.segment: {split: _numbers(s, how) for split, s in c.scores.items()}
               for c in loaded}  # fmt: skip
    files.write_json(workdir / "summary.json", numbers)
    split = next(iter(own.scores))
    result = numbers[own.segment][split]
    logs.LOG.info(_last_line(config, result, own.title, split, path))
    return result
