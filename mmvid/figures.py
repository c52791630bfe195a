"""The report's pictures, as inline SVG or PNG text. Colours are told apart without hue, too."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("agg")
import matplotlib.pyplot as plt

COLOURS = ("#27476e", "#c8553d", "#588b8b", "#e0a458", "#7b5e7b", "#8a8f98")
STYLE = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e3", "axes.edgecolor": "#999",
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "legend.frameon": False, "svg.hashsalt": "mmvid",
}  # fmt: skip


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def curves(
    series: dict[str, dict[str, list[tuple[int, float]]]], columns: int = 3, axis_label: str = "step"
) -> str:
    """Small multiples: {panel title: {line label: [(step, value)]}} -> SVG."""
    titles = list(series)
    rows = -(-len(titles) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(3.4 * columns, 2.3 * rows), squeeze=False, layout="constrained"
        )
        for axis in axes.flat[len(titles) :]:
            axis.set_visible(False)
        for axis, title in zip(axes.flat, titles):
            for i, (label, points) in enumerate(series[title].items()):
                steps, values = zip(*points)
                marker = "o" if len(points) < 12 else None
                axis.plot(steps, values, label=label, color=COLOURS[i % len(COLOURS)], lw=1.4,
                          marker=marker, ms=3, ls=("-", "--", "-.")[i % 3])  # fmt: skip
            axis.set_title(title)
            axis.set_xlabel(axis_label)
            axis.legend(fontsize=7)
        return _svg(figure)


def confusion(matrix: np.ndarray, names: list[str]) -> str:
    """Rows are true classes, in shares of each: [K, K] counts -> SVG."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = min(max(0.28 * len(names) + 1.5, 3.5), 9)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(size, size), layout="constrained")
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(names) <= 40:
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            axis.set_yticks(range(len(names)), names, fontsize=7)
            for i, j in zip(*np.nonzero(shares >= 0.1)):
                colour = "white" if shares[i, j] > 0.5 else "#333"
                axis.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center",
                          fontsize=6, color=colour)  # fmt: skip
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        return _svg(figure)


def heat(values: np.ndarray, rows: list[str], columns: list[str], label: str) -> str:
    """Fractions as a map of percent: [rows, columns], NaN where there is none -> SVG."""
    size = (1.1 * len(columns) + 2.6, 0.34 * len(rows) + 1.2)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        low, high = np.nanmin(values), np.nanmax(values)
        axis.imshow(values, cmap="Blues", vmin=low - 0.05, vmax=high + 0.05, aspect="auto")
        axis.set_xticks(range(len(columns)), columns, fontsize=8)
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        for i, j in zip(*np.nonzero(np.isfinite(values))):
            colour = "white" if values[i, j] > (low + high) / 2 + 0.1 * (high - low) else "#333"
            axis.text(j, i, f"{100 * values[i, j]:.1f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_title(label)
        return _svg(figure)


def changes(names: list[str], change: np.ndarray, counts: np.ndarray, title: str) -> str:
    """Bars of each class's change in accuracy (fractions), sorted; the widest 40 -> SVG."""
    known = np.flatnonzero(np.isfinite(change))
    if len(known) > 40:
        known = known[np.argsort(-np.abs(change[known]))[:40]]
    order = known[np.argsort(change[known], kind="stable")]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 0.2 * len(order) + 0.9), layout="constrained")
        colours = [COLOURS[0] if v >= 0 else COLOURS[1] for v in change[order]]
        axis.barh(range(len(order)), 100 * change[order], color=colours, height=0.7)
        labels = [f"{names[i]} (n={counts[i]})" for i in order]
        axis.set_yticks(range(len(order)), labels, fontsize=7)
        axis.axvline(0, color="#555", lw=0.8)
        axis.set_xlabel("points of top-1")
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        return _svg(figure)


def reliability(bins: dict[str, np.ndarray]) -> str:
    """Accuracy against confidence: {label: [bins, 3] of confidence, accuracy, count} -> SVG."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
        axis.plot([0, 1], [0, 1], color="#999", lw=0.8)
        for i, (label, rows) in enumerate(bins.items()):
            full = rows[rows[:, 2] > 0]
            axis.plot(full[:, 0], full[:, 1], marker="o", ms=3, label=label,
                      color=COLOURS[i % len(COLOURS)])  # fmt: skip
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        axis.legend(fontsize=7)
        return _svg(figure)


def strip(frames: np.ndarray, count: int = 6, height: int = 72) -> str:
    """A film strip of a clip: uint8 [T, H, W, 3] -> an inline JPEG."""
    index = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    film = Image.fromarray(np.concatenate(list(frames[index]), 1))
    film = film.resize((round(film.width * height / film.height), height))
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
