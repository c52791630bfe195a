"""More of the report's pictures: reliability, cost against accuracy, ensembles, maps of two lists of names."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mmvid.report.figures import COLOURS, SHAPES, SOFT, STYLE, WIDTH, legend, percents, short, svg

# Clips of a bin below which the reliability diagram leaves it out: the accuracy of one clip is 0 or 1.
FEWEST = 5
# What readers of a figure of costs have to know.
COSTS = (
    "Twice the multiply-adds of all views of a clip, counted from the program; of an ensemble, those of all its "
    "networks. Computing optical flow is not in them."
)


def reliability(bins: Mapping[str, np.ndarray], title: str = "") -> str:
    """Draws accuracy against confidence: {label: [bins, 3] of confidence, accuracy, count}, the run's own column
    first, the baseline second -> SVG. A calibrated network lies on the diagonal. Bins of fewer than `FEWEST`
    clips are left out."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
        axis.plot([0, 1], [0, 1], color=SOFT, lw=0.8)
        lines = {}
        inks = (COLOURS[1], COLOURS[5], *COLOURS)
        for i, (label, rows) in enumerate(bins.items()):
            full = rows[rows[:, 2] >= FEWEST]
            (lines[label],) = axis.plot(full[:, 0], full[:, 1], marker=SHAPES[i % 6], ms=3, color=inks[i % 8])
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        axis.set_title(short(title))
        legend(axis, lines)
        return svg(figure)


def costs(points: Mapping[str, tuple[float, float, tuple[float, ...]]], label: str) -> str:
    """Draws accuracy against cost, {name: (GFLOPs of a clip, accuracy as a fraction, its interval or ())} -> SVG,
    '' where all cost the same. The cost's axis is logarithmic, as costs differ by factors."""
    if len({cost for cost, *_ in points.values()}) < 2:
        return ""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH, 2.6 + 0.19 * len(points)), layout="constrained")
        lines = {}
        for i, (name, (cost, value, bounds)) in enumerate(points.items()):
            # Another shape for the same colour, next time.
            ink, shape = COLOURS[i % len(COLOURS)], SHAPES[(i + i // len(COLOURS)) % len(SHAPES)]
            if bounds:
                axis.plot([cost, cost], [100 * bound for bound in bounds], lw=1, color=ink, alpha=0.45)
            (lines[name],) = axis.plot([cost], [100 * value], shape, ms=6, color=ink)
        axis.set_xscale("log")
        # Costs may be so near to each other that powers of ten alone would not mark them.
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel="GFLOPs a clip", ylabel=label)
        axis.margins(0.12)
        names = [f" {short(name)}" for name in lines]
        figure.legend(list(lines.values()), names, loc="outside upper left", fontsize=8, borderpad=0)
        return svg(figure)


def growth(values: Mapping[int, Sequence[float]], others: Mapping[str, float], label: str, axis_label: str) -> str:
    """Draws how a number changes with the size of an ensemble: {size: the values of all ensembles of that size}
    as points, their mean as a line, and ``others`` {name: value} as lines across -> SVG. Values are fractions."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(3.4, 2.8), layout="constrained")
        for size, own in values.items():
            axis.plot([size] * len(own), 100 * np.array(own), "o", ms=3.5, color=COLOURS[5], mew=0)
        means = [100 * np.mean(own) for own in values.values()]
        (mean,) = axis.plot(list(values), means, color=COLOURS[0], lw=1.4)
        lines = {"mean": mean}
        for i, (name, value) in enumerate(others.items()):
            lines[name] = axis.axhline(100 * value, color=COLOURS[1 + i], lw=1.2, ls=("--", "-.")[i % 2])
        axis.set_xticks(list(values))
        axis.set(xlabel=axis_label, ylabel=label)
        axis.set_ylim(bottom=0)
        legend(axis, lines)
        return svg(figure)


def grid(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> str:
    """Draws fractions [rows, columns] as a map with each number in its cell; NaN stays empty -> SVG."""
    rows, columns = ([short(name, 24) for name in names] for names in (rows, columns))
    width = 1.4 + 0.42 * len(columns) + 0.055 * max(map(len, rows))
    height = 0.9 + 0.3 * len(rows) + 0.055 * max(map(len, columns))
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(max(width, 2.6), max(height, 1.9)), layout="constrained")
        percents(figure, axis, values, aspect="auto")
        axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
        axis.set_yticks(range(len(rows)), rows, fontsize=7)
        for i, j in zip(*np.nonzero(np.isfinite(values))):
            axis.text(j, i, f"{100 * values[i, j]:.0f}", ha="center", va="center", fontsize=7)
        axis.set_title(short(title, 40))
        return svg(figure)
