"""G-Blend in figures: what joint training is worth, how every classifier gains and overfits, what it weighs, what
the encoders are worth by themselves, and which classes gain."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from mmvid import files
from mmvid.methods import gblend
from mmvid.report import blending, figures, panels, rows, worth
from mmvid.report.blending import Line
from mmvid.report.points import Column, Point
from mmvid.report.rows import Row
from mmvid.report.text import difference, percent
from mmvid.scores import blends, file

# Classes at each end of figure 6.
ENDS = 10


def panel(
    workdir: pathlib.Path, columns: Sequence[Column], found: Sequence[Line], split: str, config, how
) -> dict:
    """Draws what the page shows of weights: {'about': texts, 'weights': rows, 'areas' and 'gains': lists of SVG,
    'curves' and 'trunks': see there}; {} for a run in which nothing is weighed. ``found`` are the
    `blending.lines` of the ``split``."""
    every = blending.notes(workdir, columns)
    if not every:
        return {}
    titles = {column.segment: column.title for column in columns}
    measured = {titles[s]: [n for n in own if "heads" in n] for s, own in every.items()}
    return {
        "about": about({titles[s]: own for s, own in every.items()}),
        "weights": blending.weight_rows(workdir, columns, config),
        "curves": curves(workdir, {title: own for title, own in measured.items() if own}),
        "areas": [areas(title, own) for title, own in measured.items() if len(own) > 1],
        "trunks": trunks(workdir, columns, split, how),
        "gains": gains(found, split, config, how),
    }


def about(every: Mapping[str, Sequence[Mapping]]) -> list[str]:
    """Says on which clips weights were estimated, {title: notes}, and where no part has gained anything."""
    clips, lost = [], []
    for title, own in every.items():
        for note in (note for note in own if "heads" in note):
            counts, splits = note["clips"], note["splits"]
            clips.append(
                f"Estimated on {counts['held']} clips of {splits['held']}, which the copies have not learnt from, "
                f"and on {counts['fixed']} of {splits['fixed']}, which they have"
            )
            when = f" (from step {note['steps'][0]})" if len(own) > 1 else ""
            if all(head["gain"] <= 0 for head in note["heads"].values()):
                lost.append(f"{title}{when}: no part has gained on held-out clips, hence equal weights")
    return [*dict.fromkeys(clips), *lost]


def lead(found: Sequence[Line]) -> list[str]:
    """Draws what a page begins with: the value of every line of the table with its interval, and what it is worth
    over its best modality -> SVGs; [] where there is none."""
    drawn = [line for line in found if blending.value(line.numbers) is not None]
    if not drawn:
        return []
    unit = "mAP" if all("map" in line.numbers for line in drawn) else "top-1"
    made = {
        line.title: [Point(line.title, blending.value(line.numbers), tuple(line.numbers.get("top1_interval", ())),
                           line.modality.difference, {})]
        for line in drawn
    }  # fmt: skip
    style, inks = [(figures.COLOURS[0], "o", "")], {drawn[-1].title: figures.COLOURS[1]}
    both = (
        figures.values(made, style, f"{unit}, percent", inks=inks),
        figures.differences(made, style, "points over its best modality", "", inks),
    )
    return [figure for figure in both if figure]


# ---------------------------------------------------------------------------- over time
class Moments(NamedTuple):
    """How a copy is at ``steps`` [P]: the mean loss, or error, on training clips and on those held out, each
    [P]."""

    steps: np.ndarray
    train: np.ndarray
    held: np.ndarray

    @property
    def overfitting(self) -> np.ndarray:
        """O, by which held-out clips are worse."""
        return self.held - self.train

    @property
    def gain(self) -> np.ndarray:
        """G, what was gained on held-out clips since the first moment."""
        return self.held[0] - self.held

    @property
    def ratio(self) -> np.ndarray:
        """OGR since the first moment; nan where nothing was gained."""
        grown = np.abs(self.overfitting - self.overfitting[0])
        return np.where(self.gain > 0, grown / np.where(self.gain > 0, self.gain, 1), np.nan)


def _moments(workdir: pathlib.Path, note: Mapping) -> dict[str, dict[str, Moments]]:
    """Reads how the copies of a probe were, {curve: {title of the copy: moments}}: in losses and in errors from
    their scores; or as the note has it, where these are gone."""
    outputs = {part: head["output"] for part, head in note["heads"].items()}
    probe = blends.Probe(tuple(note["probe"]), outputs, note["splits"]["held"], note["splits"]["fixed"])
    own, found, titles = note["options"], {}, {}
    for curve in gblend.CURVES:
        try:
            titles = file.load(probe.paths(workdir, probe.held)[0]).meta.get("titles", {})
            measured = [probe.losses(workdir, split, curve, own["multi"]) for split in (probe.fixed, probe.held)]
            means = [np.nanmean(values, -1) for values, _ in measured]
        # Labels of several classes have no error of a clip.
        except (OSError, ValueError):
            if curve != own["curves"]:
                continue
            heads = note["heads"].values()
            means = [np.array([head[name] for head in heads], float).T for name in ("train", "held")]
        steps = np.array(note["steps"])
        found[curve] = {
            titles.get(output, output): Moments(steps, means[0][:, i], means[1][:, i])
            for i, output in enumerate(outputs.values())
        }
    return found


def _joined(pieces: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[tuple[float, float]]:
    """Joins the (steps, values) of super-epochs into one line, which is broken where copies begin anew."""
    found: list[tuple[float, float]] = []
    for steps, values in pieces:
        found += [(steps[0], np.nan)] if found else []
        found += [(step, value if np.isfinite(value) else np.nan) for step, value in zip(steps, values)]
    return found


def curves(workdir: pathlib.Path, measured: Mapping[str, Sequence[Mapping]]) -> list[tuple[str, str]]:
    """Draws the losses and the errors of every copy, on training clips and on those held out (figure 4), then O, G
    and OGR of all: [(which probes, SVGs)], those of the whole training and, on one axis, those of all
    super-epochs. ``measured`` has the notes of each column by its title; columns that were weighed by the same
    copies share their curves."""
    every: dict[str, dict[str, dict[str, list[Moments]]]] = {}
    for title, own in measured.items():
        read = [_moments(workdir, note) for note in own]
        found = every.setdefault(
            f"in the super-epochs of {title}" if len(own) > 1 else "over the whole training", {}
        )
        for curve, names in read[0].items():
            for name in names:
                pieces = [one[curve][name] for one in read if name in one.get(curve, {})]
                found.setdefault(curve, {}).setdefault(name, pieces)
    return [(which, figures.curves(_panels(found))) for which, found in every.items()]


def _panels(found: Mapping[str, Mapping[str, Sequence[Moments]]]) -> dict[str, dict]:
    """Makes the panels of copies, {curve: {copy: moments of each super-epoch}}: of each the two curves, of all
    together O, G and OGR, but for what there is nothing to see of."""
    series = {
        f"{name}: {curve}": {
            "training clips": _joined((one.steps, one.train) for one in pieces),
            "held out": _joined((one.steps, one.held) for one in pieces),
        }
        for curve, names in found.items()
        for name, pieces in names.items()
    }
    curve, names = next(iter(found.items()))
    of_all = {
        f"O ({curve})": {n: _joined((m.steps, m.overfitting) for m in own) for n, own in names.items()},
        f"G ({curve})": {n: _joined((m.steps, m.gain) for m in own) for n, own in names.items()},
        f"OGR ({curve})": {n: _joined((m.steps, m.ratio) for m in own) for n, own in names.items()},
    }
    seen = {title: np.isfinite([y for line in lines.values() for _, y in line]) for title, lines in of_all.items()}
    return series | {title: lines for title, lines in of_all.items() if seen[title].any()}


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
        axis.set_title(figures.short(f"weights of {title}"))
        # On the areas a name would not be legible.
        lines = [f" {figures.short(part)}" for part in parts]
        figure.legend(drawn, lines, fontsize=7, loc="outside lower left", ncols=len(parts))
        return figures.svg(figure)


# ---------------------------------------------------------------------------- the encoders by themselves
def trunks(workdir: pathlib.Path, columns: Sequence[Column], split: str, how: str) -> dict:
    """Shows what super-epochs have made of the encoders against naive training (figure 5b): {'rows': table,
    'retrained': steps, 'figure': SVG}; {} where nobody has compared them."""
    found = []
    for folder in (
        workdir / blends.trunk_of(part) for column in columns for part in column.parts or (column.segment,)
    ):
        note, path = files.read_note(folder / blends.COMPARED), folder / "scores" / f"{split}.npz"
        if note and path.exists():
            found.append((note, Row("", folder.name, (0,), (str(workdir),), {split: [file.load(path)]})))
    if not found:
        return {}
    unit = {"map": "mAP", "top1": "top-1"}[rows.unit(found[0][1], split, found[0][0]["naive"], how)]
    made, drawn = [["steps", f"naive, {unit}", f"G-Blend, {unit}", "difference"]], {"naive": [], "G-Blend": []}
    for note, row in found:
        both = note["naive"], note["blended"]
        values = [next(iter(rows.values(row, split, output, how)), None) for output in both]
        over = rows.difference(row, row, split, both[1], how, both[0])
        made.append(["{} to {}".format(*note["steps"]), *map(percent, values), difference(over)])
        for points_of, value in zip(drawn.values(), values):
            points_of += [] if value is None else [(note["steps"][1], 100 * value)]
    figure = figures.curves({f"encoders frozen: {unit}, percent": drawn}) if all(drawn.values()) else ""
    return {"rows": made, "retrained": found[0][0]["retrained"], "figure": figure}


# ---------------------------------------------------------------------------- classes
def gains(found: Sequence[Line], split: str, config: Mapping, how: str) -> list[str]:
    """Draws what each class gains by the last line's joint output over each modality alone, the best one first:
    the `ENDS` that gain most and those that gain least (figure 6) -> a list of SVG."""
    if not found:
        return []
    own, first = found[-1], {line.output: line for line in reversed(found)}
    singles = worth.singles(config, own.output, first)
    singles.sort(key=lambda line: -(blending.value(line.numbers) or 0.0))
    return [figure for single in singles for figure in _gains(own, single, split, how)]


def _gains(own: Line, single: Line, split: str, how: str) -> list[str]:
    after, before = (file.labelled(line.column.scores[split]) for line in (own, single))
    if after.id.tolist() != before.id.tolist() or not len(after.id):
        return []
    drawn = []
    for head, label in after.label.items():
        names, change, counts = panels.class_changes(after, before, own.output, single.output, head, how)
        # Two lines: both names tell what is compared.
        title = f"{own.title}\nover {single.title}" + (f" ({head})" if len(after.label) > 1 else "")
        unit = "points of AP" if label.ndim > 1 else "points of top-1"
        if np.isfinite(change).any():
            drawn.append(figures.changes(names, change, counts, title, ends=ENDS, label=unit))
    return drawn
