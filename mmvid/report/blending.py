"""G-Blend in tables and figures: what joint training is worth against each modality, the weights, and why."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt

from mmvid import files
from mmvid.report import figures, points, rows, table
from mmvid.report.overview import rows_of
from mmvid.report.points import Column
from mmvid.report.rows import Row
from mmvid.report.text import aligned, difference, percent
from mmvid.scores import blends, file

JOINT = "joint"


def notes(workdir: pathlib.Path, columns: Sequence[Column]) -> dict[str, list[dict]]:
    """Reads the notes of the weights of each column, {segment: those of its parts, the first one first}; {} for a
    run in which nothing is weighed."""
    found = {}
    for column in columns:
        own = [files.read_note(workdir / name / blends.NAME) for name in column.parts or (column.segment,)]
        if known := [note for note in own if "weights" in note]:
            found[column.segment] = known
    return found


def copies_of(config: Mapping, output: str, headline: str) -> dict[str, str]:
    """Returns {part: the output of its copy} of the network that an output is of, or is the naive copy of, or else
    of that of the ``headline``; {} where there is none."""
    every = (config.get("blend") or {}).get("copies") or {}
    for network, parts in every.items():
        if output.rpartition(".")[0] == network or output == parts.get(JOINT):
            return dict(parts)
    return dict(every.get(headline.rpartition(".")[0]) or {})


# ---------------------------------------------------------------------------- the table
def _lines(columns: Sequence[Column], split: str) -> list[tuple[str, Column, str]]:
    """Lists (title, column, output) of each line: of a fusion its joint output alone, of networks beside each
    other every one."""
    found = []
    for column in points.there(columns, split):
        scores = column.scores[split]
        outputs = file.members(scores)
        # A naive network beside those of its modalities is no member of their sum, and yet a line.
        outputs = outputs if any("." in output for output in scores.logits) else tuple(scores.logits)
        several = len(outputs) > 1
        found += [(f"{column.title}: {output}" if several else column.title, column, output) for output in outputs]
    return found


def _best(lines: Sequence, copies: Mapping[str, str], split: str, head: str) -> str:
    """Names the copy of a single modality that scores best; '' where there is none."""
    single = {output for part, output in copies.items() if part != JOINT}
    known = {
        output: column.numbers[split][output][head]
        for _, column, output in lines
        if output in single and head in column.numbers[split].get(output, {})
    }
    return max(known, key=lambda output: _share(known[output]), default="")


def _share(numbers: Mapping) -> float:
    return numbers.get("top1", numbers.get("map")) or 0.0


def _over(lines: Sequence, own: Mapping[str, Row], line: tuple, base: str, split: str, how: str) -> str:
    """Writes the paired difference of a line to the output ``base``, with its name; '' in its own."""
    rival = next((column.segment for _, column, output in lines if output == base), "")
    _, column, output = line
    if not rival or (output == base and column.segment == rival):
        return ""
    said = difference(rows.difference(own[column.segment], own[rival], split, output, how, base))
    return f"{said} ({base})"


def table_rows(
    workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, headline: str, how: str
) -> list[list[str]]:
    """Makes the table as the paper prints it: a head, then a line for each network, with clip and video top-1,
    top-5, and what it is worth over the best modality and over naive joint training, clip by clip. [] for a run
    in which nothing is weighed."""
    shown = [points.counted(column, how) for column in points.there(columns, split)]
    if not notes(workdir, shown):
        return []
    lines = _lines(shown, split)
    own = {row.segment: row for row in rows_of(workdir, shown, split, config)}
    head = rows.head_of(shown[-1].scores[split])
    multi = " + " not in head and shown[-1].scores[split].label[head].ndim > 1
    measures = ["mAP", "mAUC"] if multi else ["clip top-1", "top-1 [95 %]", "top-5"]
    found = [["", *measures, "over its best modality", "over naive"]]
    for line in lines:
        title, column, output = line
        copies = copies_of(config, output, headline)
        rivals = _best(lines, copies, split, head), copies.get(JOINT, "")
        numbers = column.numbers[split][output].get(head)
        if numbers is None:
            continue
        over = [_over(lines, own, line, base, split, how) for base in rivals]
        found.append([title, *_measured(numbers), *over])
    return found


def _measured(numbers: Mapping) -> list[str]:
    """Writes clip top-1, top-1 with its interval and top-5, or mAP and mAUC."""
    if "map" in numbers:
        return [percent(numbers["map"]), percent(numbers["mauc"])]
    bounds = f" [{', '.join(map(percent, numbers['top1_interval']))}]" if "top1_interval" in numbers else ""
    # Of one view, a clip is the video.
    clip = numbers.get("clip_top1", numbers["top1"])
    return [percent(clip), percent(numbers["top1"]) + bounds, percent(numbers.get("top5"))]


def weight_rows(workdir: pathlib.Path, columns: Sequence[Column]) -> list[list[str]]:
    """Makes the table of weights: a head, then a line for each part of each column, with G, dO and OGR where these
    were measured. Of several super-epochs each has its lines."""
    found = [["weights", "", "weight [95 %]", "G", "dO", "OGR"]]
    titles = {column.segment: column.title for column in columns}
    for segment, own in notes(workdir, columns).items():
        for note in own:
            steps = note.get("steps", [])
            when = f" (from step {steps[0]})" if len(own) > 1 and steps else ""
            found += [[f"{titles[segment]}{when}", part, *cells] for part, cells in _cells(note).items()]
    # A title stands once above its lines.
    for line, above in reversed([*zip(found[1:], found)]):
        line[0] = "" if line[0] == above[0] else line[0]
    return found if len(found) > 1 else []


def _cells(note: Mapping) -> dict[str, list[str]]:
    heads = note.get("heads", {})
    cells = {}
    for part, weight in note["weights"].items():
        own = heads.get(part)
        if own is None:
            cells[part] = [f"{weight:.3f} ({note['source']})", "", "", ""]
            continue
        low, high = own["interval"]
        ogr = "-" if own["ogr"] is None else f"{own['ogr']:.3f}"
        cells[part] = [
            f"{weight:.3f} [{low:.3f}, {high:.3f}]",
            f"{own['gain']:+.3f}",
            f"{own['overfitting']:+.3f}",
            ogr,
        ]
    return cells


def text(
    workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, headline: str, how: str
) -> str:
    """Writes both tables as aligned text, below the line of `table.denominators`; '' for a run in which nothing is
    weighed."""
    found = table_rows(workdir, columns, split, config, headline, how)
    if not found:
        return ""
    about = table.denominators(points.there(columns, split)[-1].scores[split])
    return "\n\n".join([f"{about}\n{aligned(found)}", aligned(weight_rows(workdir, columns))])


def said(
    workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, headline: str, how: str
) -> list[str]:
    """Says what the last column is worth against each modality alone and naive joint training: the line below a
    run's verdict; [] for a run in which nothing is weighed, or without such networks to compare with."""
    found = table_rows(workdir, columns, split, config, headline, how)
    if not found or not all(found[-1][-2:]):
        return []
    title, (best, naive) = found[-1][0], found[-1][-2:]
    return [f"{title}: {best} over its best modality, {naive} over naive joint training ({split})"]


# ---------------------------------------------------------------------------- figures
def panel(workdir: pathlib.Path, columns: Sequence[Column]) -> dict:
    """Draws what the page shows of weights: {'about': texts, 'weights': rows, 'curves': SVG, 'areas': list of
    SVG}; {} for a run in which nothing is weighed."""
    every = notes(workdir, columns)
    if not every:
        return {}
    titles = {column.segment: column.title for column in columns}
    measured = {titles[s]: [n for n in own if "heads" in n] for s, own in every.items()}
    return {
        "about": [f"{titles[s]}: {blends.told(note)}" for s, own in every.items() for note in own],
        "weights": weight_rows(workdir, columns),
        "curves": _curves({title: own for title, own in measured.items() if own}),
        "areas": [areas(title, own) for title, own in measured.items() if len(own) > 1],
    }


def _curves(measured: Mapping[str, Sequence[Mapping]]) -> str:
    """Draws the losses (or errors) of every part over time, of training clips and of those held out (figure 4),
    and how far apart they are: O. Probes of one kind stand once, whichever columns they weighed."""
    series: dict[str, dict] = {}
    known = set()
    for title, own in measured.items():
        probes = tuple(name for note in own for name in note["probe"])
        if probes in known:
            continue
        known.add(probes)
        for part in own[0]["heads"]:
            lines = {"training clips": [], "held out": [], "O, their difference": []}
            for note in own:
                found = note["heads"][part]
                for step, train, held in zip(note["steps"], found["train"], found["held"]):
                    for line, number in zip(lines.values(), (train, held, held - train)):
                        line.append((step, number))
            curve = own[0]["options"]["curves"]
            series[f"{part}: {curve}" + (f", {title}" if len(measured) > 1 else "")] = lines
    return figures.curves(series)


def areas(title: str, own: Sequence[Mapping]) -> str:
    """Draws the weights of every part over super-epochs, as areas that add up to 1 (figure 5a) -> SVG."""
    parts = list(own[0]["weights"])
    # Weights stay as they are until the next super-epoch begins.
    edges = [step for note in own for step in (note["steps"][0], note["steps"][-1])]
    heights = [[note["weights"][part] for note in own for _ in range(2)] for part in parts]
    with plt.rc_context(figures.STYLE):
        figure, axis = plt.subplots(figsize=(figures.WIDTH, 2.4), layout="constrained")
        drawn = axis.stackplot(edges, heights, colors=figures.COLOURS[: len(parts)], alpha=0.8, lw=0)
        axis.set(xlabel="step", ylabel="weight", xlim=(edges[0], edges[-1]), ylim=(0, 1))
        axis.set_title(figures.short(title))
        figures.legend(axis, dict(zip(parts, drawn)))
        return figures.svg(figure)
