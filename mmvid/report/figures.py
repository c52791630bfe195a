"""The report's pictures, as inline SVG or JPEG text. Lines can be told apart without their hue, too.

Names of classes, outputs and columns are users' texts, shown as they are: STYLE reads no mathematics
into '$', the reader's own fonts draw them, and long ones lose their middle (`_short`).
"""

import base64
import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

# Before pyplot is imported: a machine without a display has no other.
matplotlib.use("agg")
import matplotlib.pyplot as plt

# Lines also differ in how they are dashed (`curves`), for those who see no hues and for print.
COLOURS = ("#27476e", "#c8553d", "#588b8b", "#e0a458", "#7b5e7b", "#8a8f98")
# The fixed salt makes ids, and so the files of equal figures, equal; text stays text, to be searched and copied.
STYLE = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e3", "axes.edgecolor": "#999",
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "legend.frameon": False, "svg.hashsalt": "mmvid", "svg.fonttype": "none", "text.parse_math": False,
}  # fmt: skip


def _svg(figure) -> str:
    """Writes the figure as an <svg> element and closes it."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The fonts that measure a text here may lack its script; those of a browser draw it.
        warnings.filterwarnings("ignore", message="(?s).*(missing from|not found in) .*font")
        figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    # What stands before, an XML declaration and a doctype, must not stand within an HTML page.
    return text[text.index("<svg") :]


def _short(name: str, length: int = 36) -> str:
    """Puts ``name`` into one line of at most ``length`` characters, leaving out its middle: what tells names
    apart stands mostly at their ends."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return name if len(name) <= length else f"{name[: length - 13]}…{name[-12:]}"


def _legend(axis, lines: dict) -> None:
    """Draws the legend of {name: line}."""
    # The space is for names that begin with '_', which matplotlib would leave out of a legend.
    axis.legend(list(lines.values()), [f" {_short(name)}" for name in lines], fontsize=7)


def _percents(figure, axis, values: np.ndarray, **options) -> None:
    """Draws fractions as colours, on one scale in every figure: white is 0 %, the darkest blue 100 %."""
    image = axis.imshow(100 * values, cmap="Blues", vmin=0, vmax=100, **options)
    bar = figure.colorbar(image, ax=axis, ticks=range(0, 101, 25), format="%d %%", aspect=25)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


def _ink(value: float) -> str:
    """Chooses the colour of a text that can be read on the colour that `_percents` gives a fraction."""
    return "white" if value > 0.55 else "#333"


def curves(
    series: dict[str, dict[str, list[tuple[int, float]]]], columns: int = 3, axis_label: str = "step",
    marks: Sequence[float] = (),
) -> str:  # fmt: skip
    """Draws small multiples: {panel title: {line label: [(step, value)]}} -> SVG, with a thin line at each of
    ``marks``."""
    titles = list(series)
    rows = -(-len(titles) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(3.4 * columns, 2.3 * rows), squeeze=False, layout="constrained"
        )
        for axis in axes.flat[len(titles) :]:
            axis.set_visible(False)
        for axis, title in zip(axes.flat, titles):
            lines = {}
            for i, (label, points) in enumerate(series[title].items()):
                steps, values = zip(*points)
                # Few points are told apart; many would be a band.
                marker = "o" if len(points) < 12 else None
                (lines[label],) = axis.plot(
                    steps, values, color=COLOURS[i % len(COLOURS)], lw=1.4,
                    marker=marker, ms=3, ls=("-", "--", "-.")[i % 3],
                )  # fmt: skip
            for mark in marks:
                axis.axvline(mark, color="#999", lw=0.8, ls=":")
            axis.set_title(_short(title))
            axis.set_xlabel(axis_label)
            _legend(axis, lines)
        return _svg(figure)


def confusion(matrix: np.ndarray, names: list[str]) -> str:
    """Draws a confusion matrix: counts [K true, K predicted] -> SVG. Each row is shown in shares of its class."""
    shares, names = matrix / np.maximum(matrix.sum(1, keepdims=True), 1), [_short(n) for n in names]
    # A cell keeps its size, and the longest name its room, until the figure is as large as a page.
    size = min(max(0.28 * len(names) + 0.06 * max(map(len, names)) + 1.2, 3.5), 10)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(size + 0.6, size), layout="constrained")
        _percents(figure, axis, shares)
        # More names would not be legible at this size.
        if len(names) <= 40:
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            axis.set_yticks(range(len(names)), names, fontsize=7)
            for i, j in zip(*np.nonzero(shares >= 0.1)):
                axis.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center",
                          fontsize=6, color=_ink(shares[i, j]))  # fmt: skip
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        return _svg(figure)


def heat(values: np.ndarray, rows: list[str], columns: list[str], label: str) -> str:
    """Draws fractions [rows, columns] as a map of colours with their percent; NaN leaves a cell empty -> SVG."""
    rows, columns = [_short(name) for name in rows], [_short(name, 28) for name in columns]
    wide = max(1.1, 0.07 * max(map(len, columns)))
    size = (wide * len(columns) + 0.07 * max(map(len, rows)) + 1.8, 0.34 * len(rows) + 1.2)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        _percents(figure, axis, values, aspect="auto")
        axis.set_xticks(range(len(columns)), columns, fontsize=8)
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        for i, j in zip(*np.nonzero(np.isfinite(values))):
            axis.text(j, i, f"{100 * values[i, j]:.1f}", ha="center", va="center", fontsize=8,
                      color=_ink(values[i, j]))  # fmt: skip
        axis.set_title(_short(label, 60))
        return _svg(figure)


def changes(names: list[str], change: np.ndarray, counts: np.ndarray, title: str) -> str:
    """Draws a bar for each class's change in accuracy (fractions, NaN where a class has no clip), sorted -> SVG.
    Of more than 40 classes, the 40 that change most are shown."""
    known = np.flatnonzero(np.isfinite(change))
    if len(known) > 40:
        known = known[np.argsort(-np.abs(change[known]))[:40]]
    order = known[np.argsort(change[known], kind="stable")]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 0.2 * len(order) + 0.9), layout="constrained")
        colours = [COLOURS[0] if v >= 0 else COLOURS[1] for v in change[order]]
        axis.barh(range(len(order)), 100 * change[order], color=colours, height=0.7)
        labels = [f"{_short(names[i])} (n={counts[i]})" for i in order]
        axis.set_yticks(range(len(order)), labels, fontsize=7)
        axis.axvline(0, color="#555", lw=0.8)
        axis.set_xlabel("points of top-1")
        axis.set_title(_short(title, 60))
        axis.grid(axis="y", visible=False)
        return _svg(figure)


def reliability(bins: dict[str, np.ndarray]) -> str:
    """Draws accuracy against confidence: {label: [bins, 3] of confidence, accuracy, count} -> SVG. A calibrated
    network lies on the diagonal."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
        axis.plot([0, 1], [0, 1], color="#999", lw=0.8)
        lines = {}
        for i, (label, rows) in enumerate(bins.items()):
            full = rows[rows[:, 2] > 0]
            (lines[label],) = axis.plot(
                full[:, 0], full[:, 1], marker="o", ms=3, color=COLOURS[i % len(COLOURS)]
            )
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        _legend(axis, lines)
        return _svg(figure)


def spread(values: dict[str, list[float]], label: str) -> str:
    """Draws a dot for each value and a line at their mean: {row: fractions} -> SVG, with the first row on top."""
    names = [_short(name, 28) for name in values]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 0.34 * len(names) + 1.0), layout="constrained")
        for row, own in enumerate(values.values()):
            axis.plot(100 * np.array(own), [row] * len(own), "o", ms=5, color=COLOURS[0], alpha=0.7, mew=0)
            if own:
                axis.plot(2 * [100 * np.mean(own)], [row - 0.28, row + 0.28], color=COLOURS[1], lw=1.6)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlabel("percent")
        axis.set_title(_short(label, 60))
        axis.grid(axis="y", visible=False)
        return _svg(figure)


def strip(frames: np.ndarray, count: int = 6, height: int = 72) -> str:
    """Makes a film strip of a clip: uint8 [T, H, W, 3] -> a data URL of a JPEG with up to ``count`` frames."""
    index = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    film = Image.fromarray(np.concatenate(list(frames[index]), 1))
    film = film.resize((round(film.width * height / film.height), height))
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
