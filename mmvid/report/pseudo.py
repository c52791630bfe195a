"""Pseudo-labels in figures: how many there were and how right (CMPL's figure 2), and whose are the best (6)."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files
from mmvid.report import auxiliary, figures, points
from mmvid.report.arms import Arm, arms
from mmvid.report.points import Column, Point
from mmvid.report.rows import head_of
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Stretches of training over which single batches are averaged, and the fewest log lines of one.
WINDOWS, FEWEST = 20, 3
CONFIDENT, RIGHT = "confident, % of unlabelled clips", "and right, % of unlabelled clips"
PRECISION = "right, % of the confident"


def panel(workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, how: str) -> dict:
    """Draws what the page shows of a run that learns from few labels: {'ratio': SVGs, 'sources', 'gain', 'gap',
    'thinned': see there}; {} for a run of another plan."""
    found = arms(points.there(columns, split), config)
    if not found:
        return {}
    own = next(arm for arm in found if arm.has(columns[-1].segment))
    # The run's own comes first, and only arms that have as many labels: there is not room for all.
    alike = [own, *(arm for arm in found if arm.labels == own.labels and arm is not own)]
    return {
        "ratio": figures.curves(ratios(workdir, alike), outside=True),
        "sources": sources(workdir, alike, config, how),
        "gain": auxiliary.gain(alike, split, how),
        "gap": auxiliary.gap(alike, split, how),
        "thinned": auxiliary.thinned(workdir, alike, split, how),
    }


# ---------------------------------------------------------------------------- what was logged
class Shares(NamedTuple):
    """Shares of the unlabelled clips at ``steps`` [P], each [P]: of those that an output was ``confident`` of, of
    those it was also ``right`` about, and of those that it is right about and the other output is confident of
    (``beside``; nan where nobody has counted)."""

    steps: np.ndarray
    confident: np.ndarray
    right: np.ndarray
    beside: np.ndarray


def _logged(workdir: pathlib.Path, column: Column, output: str) -> Shares | None:
    """Reads what was logged of an output in training, over all parts of its column; None where nothing was."""
    parts = column.parts or (column.segment,)
    lines = [line for part in parts for line in files.read_lines(workdir / part / "metrics.jsonl")]
    lines = [line for line in lines if f"train/{output}/confident" in line]
    if not lines:
        return None
    names = ("confident", "right", "beside")
    read = [[line.get(f"train/{output}/{name}", np.nan) for line in lines] for name in names]
    return Shares(np.array([line["step"] for line in lines]), *np.array(read, float))


def _windows(own: Sequence[Shares]) -> Shares:
    """Averages draws of one arm, and neighbouring log lines, until single batches do not show."""
    least = min(len(one.steps) for one in own)
    parts = np.array_split(np.arange(least), min(WINDOWS, max(least // FEWEST, 1)))
    means = ([np.mean([one[i][part] for one in own]) for part in parts] for i in range(len(Shares._fields)))
    return Shares(*map(np.array, means))


def shares(workdir: pathlib.Path, arm: Arm, output: str) -> Shares | None:
    """Reads the windows of an output of an arm; None where nothing was logged."""
    read = [_logged(workdir, draw.column, output) for draw in arm.draws]
    known = [own for own in read if own is not None]
    return _windows(known) if known else None


def _percent(steps: np.ndarray, part: np.ndarray, whole: np.ndarray | float = 1.0) -> list[tuple[float, float]]:
    """Makes a line of shares in percent; nan where the whole is nothing, which is a gap."""
    whole = np.broadcast_to(whole, part.shape)
    values = np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
    return list(zip(steps.tolist(), (100 * values).tolist()))


def ratios(workdir: pathlib.Path, found: Sequence[Arm]) -> dict[str, dict[str, list]]:
    """Computes how many pseudo-labels each output gave, and how right they were (figure 2): {panel: {line: [(step,
    percent)]}}, {} where nothing was logged. Where nothing is confident, a line has a gap."""
    every = ((arm.called(output), shares(workdir, arm, output)) for arm in found for output in arm.outputs)
    known = dict(itertools.islice(((name, own) for name, own in every if own), auxiliary.MOST_LINES))
    panels = {
        CONFIDENT: {name: _percent(own.steps, own.confident) for name, own in known.items()},
        RIGHT: {name: _percent(own.steps, own.right) for name, own in known.items()},
        PRECISION: {name: _percent(own.steps, own.right, own.confident) for name, own in known.items()},
    }
    # Without labels to look at, nobody knows what is right.
    seen = {title: [y for line in lines.values() for _, y in line] for title, lines in panels.items()}
    return {title: lines for title, lines in panels.items() if np.isfinite(seen[title]).any()}


# ---------------------------------------------------------------------------- three sources of labels
def sources(workdir: pathlib.Path, alike: Sequence[Arm], config: Mapping, how: str) -> dict:
    """Shows how right three sources of labels are on the clips that the auxiliary network is sure of (figure 6):
    {'curves': SVG of it and of the primary network over training, 'figure': SVG of these two and of FixMatch at
    the end, 'about': text}; {} for a run without an auxiliary network. The first arm is the run's own."""
    own, *others = alike
    if not own.partners:
        return {}
    over = _over_training(workdir, own)
    curves = figures.curves({"right, % where the auxiliary is sure": over}, outside=True) if over else ""
    return {"curves": curves, **_at_the_end(workdir, own, others, config, how)}


def _over_training(workdir: pathlib.Path, own: Arm) -> dict[str, list]:
    """The two networks' accuracy on the unlabelled clips that the auxiliary is sure of, as it was logged."""
    first, second = (shares(workdir, own, output) for output in own.partners)
    if first is None or second is None:
        return {}
    lines = {
        own.called(output): _percent(second.steps, part, second.confident)
        for output, part in zip(own.partners, (first.beside, second.right))
    }
    return {name: line for name, line in lines.items() if np.isfinite([y for _, y in line]).any()}


def _followed(workdir: pathlib.Path, arm: Arm, labelled: str, config: Mapping) -> Scores | None:
    """Reads the scores of the unlabelled clips that arms are followed on, of the draw ``labelled`` of an arm; None
    where there are none."""
    segment = next((draw.column.segment for draw in arm.draws if draw.labelled == labelled), "")
    path = workdir / segment / "scores" / f"{config['semi'].get('followed')}.npz"
    return file.labelled(file.load(path)) if segment and path.exists() else None


def _at_the_end(workdir: pathlib.Path, own: Arm, others: Sequence[Arm], config: Mapping, how: str) -> dict:
    """Draws how right the three sources are at the end on followed clips that the auxiliary is sure of: {'figure':
    SVG, 'about': text}, with '' for what there is not."""
    labelled, (primary, second) = own.labelled[0], own.partners
    scores = _followed(workdir, own, labelled, config)
    if scores is None or not len(scores.id):
        return {"figure": "", "about": ""}
    head, threshold = head_of(scores), own.options["threshold"]
    sure, _, usable = numbers_lib.confidence(scores, second, head, how)
    chosen = usable & (sure >= threshold)
    about = f"{second} is sure (p ≥ {threshold:g}) of {chosen.sum()} of {len(chosen)} {scores.meta['split']} clips"
    made = {f"{second} (auxiliary)": (scores, second), f"{primary} (primary)": (scores, primary)}
    for arm in (arm for arm in others if arm.method == "fixmatch" and primary in arm.outputs):
        found = _followed(workdir, arm, labelled, config)
        if found is not None and found.id.tolist() == scores.id.tolist():
            made[arm.called(primary)] = (found, primary)
    hits = {name: numbers_lib.hits(each, output, head, 1, how)[chosen] for name, (each, output) in made.items()}
    rows = {name: [Point(name, float(hit.mean()), metrics.bootstrap_interval(hit), (), {})]
            for name, hit in hits.items() if len(hit)}  # fmt: skip
    style = [(figures.COLOURS[0], "o", "")]
    return {"figure": figures.values(rows, style, "right, percent of these clips") if rows else "", "about": about}
