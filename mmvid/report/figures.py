"""The report's pictures, as inline SVG or JPEG text. Lines can be told apart without their hue, too.

Names of classes, outputs and columns are users' texts, shown as they are: STYLE reads no mathematics
into '$', the reader's own fonts draw them, and long ones lose their middle (`short`). Colours are named by
what they are for (`INKS`), so that a page that is read in the dark has others.
"""

import base64
import io
import re
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from PIL import Image

from mmvid.report.points import Point

# Before pyplot is imported: a machine without a display has no other.
matplotlib.use("agg")
import matplotlib.pyplot as plt

# What is drawn in these colours takes those of the page: its stylesheet (base.html) has a variable for each.
INKS = {"#22262b": "ink", "#5f6670": "soft", "#e3e3df": "line", "#27476e": "c0", "#c8553d": "c1", "#3f7f7f": "c2",
        "#b97a1e": "c3", "#7b5e7b": "c4", "#8a8f98": "c5"}  # fmt: skip
INK, SOFT, LINE, *COLOURS = INKS
# Lines also differ in their dashes and points in their shapes, for those who see no hues and for print.
DASHES, SHAPES = ("-", "--", "-."), "osD^vP"
# The one scale of all maps of fractions: from the paper through to this colour; texts on it stay legible.
SHADE, FULL = "#2f74c0", 0.62
HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(SHADE), 0.0), (*to_rgb(SHADE), FULL)])
# Inches: the widest figure that a telephone shows whole, and the height of a row of labels.
WIDTH, ROW = 4.0, 0.2
# Lines whose legend has room among them.
FEW = 3
# The fixed salt makes ids, and so the files of equal figures, equal; text stays text, to be searched and copied.
STYLE = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": LINE, "axes.edgecolor": COLOURS[5],
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "axes.axisbelow": True, "xtick.labelsize": 8,
    "legend.frameon": False, "svg.hashsalt": "mmvid", "svg.fonttype": "none", "text.parse_math": False,
}  # fmt: skip


def svg(figure) -> str:
    """Writes the figure as an <svg> element in the page's colours, and closes it."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The fonts that measure a text here may lack its script; those of a browser draw it.
        warnings.filterwarnings("ignore", message="(?s).*(missing from|not found in) .*font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.04, transparent=True)
    plt.close(figure)
    text = buffer.getvalue()
    # What stands before, an XML declaration and a doctype, must not stand within an HTML page; nor may several
    # figures of one page have groups of one name.
    text = re.sub(r"<metadata>.*?</metadata>|(?<=<g) id=\"[^\"]*\"", "", text[text.index("<svg") :], flags=re.S)
    # The page's own font: those that measure here are rarely there.
    text = re.sub(r" font-family: [^;\"]*sans-serif;?", "", text)
    # Texts could hold such a colour, too: only what stands in a style is one.
    inks = "|".join(INKS)
    return re.sub(r'style="[^"]*"', lambda style: re.sub(inks, lambda c: f"var(--{INKS[c[0]]})", style[0]), text)


def short(name: str, length: int = 36) -> str:
    """Puts ``name`` into one line of at most ``length`` characters, leaving out its middle: what tells names
    apart stands mostly at their ends."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return name if len(name) <= length else f"{name[: length - 13]}…{name[-12:]}"


def legend(axis, lines: dict, *, outside: bool = False) -> None:
    """Draws the legend of {name: line}, below the axes where there are many lines, or where asked for."""
    # The space is for names that begin with '_', which matplotlib would leave out of a legend.
    names = [f" {short(name)}" for name in lines]
    if len(lines) <= FEW and not outside:
        axis.legend(list(lines.values()), names, fontsize=7)
        return
    # Many names would lie on the lines.
    width, height = axis.figure.get_size_inches()
    axis.figure.set_size_inches(width, height + 0.15 * len(lines))
    axis.figure.legend(list(lines.values()), names, fontsize=7, loc="outside lower left")


def percents(figure, axis, values: np.ndarray, **options) -> None:
    """Draws fractions as colours, on the scale of all maps."""
    image = axis.imshow(100 * values, cmap=HEAT, vmin=0, vmax=100, interpolation="nearest", **options)
    bar = figure.colorbar(image, ax=axis, ticks=range(0, 101, 25), format="%d %%", aspect=25)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


# ---------------------------------------------------------------------------- points
def _offsets(count: int) -> np.ndarray:
    """Places ``count`` points around the middle of a row that is 1 high."""
    return (np.arange(count) - (count - 1) / 2) * min(0.2, 0.76 / max(count, 1))


def _pointed(
    rows: dict[str, list],
    styles: Sequence[tuple],
    label: str,
    *,
    zero: bool = False,
    dots: dict[str, Sequence[float]] | None = None,
    inks: dict[str, str] | None = None,
) -> str:
    """Draws {row: [(value, low, high) or None of each column]} in percent -> SVG. ``zero`` draws a line there,
    and ``dots`` small ones beside the points of a row; ``inks`` are colours of rows, before those of columns."""
    columns = len(styles)
    height = 0.8 + max(0.3, 0.18 * columns) * len(rows) + 0.19 * columns
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        if zero:
            axis.axvline(0, color=SOFT, lw=1)
        for i, ((colour, shape, title), offset) in enumerate(zip(styles, _offsets(columns))):
            # A column without any point stands in the legend, too.
            axis.plot([], [], shape, ms=4.5, color=colour, label=f" {short(title)}")
            found = [(name, y + offset, own[i]) for y, (name, own) in enumerate(rows.items()) if own[i]]
            for name, place, point in found:
                middle, low, high = 100 * np.array(point, float)
                ink = (inks or {}).get(name, colour)
                axis.plot([low, high], [place, place], lw=1.5, color=ink, solid_capstyle="butt")
                axis.plot([middle], [place], shape, ms=4.5, color=ink)
        for y, name in enumerate(rows):
            own = (dots or {}).get(name, ())
            axis.plot(100 * np.array(own), [y + 0.22] * len(own), "o", ms=3, color=SOFT, mew=0)
        axis.set_yticks(range(len(rows)), [short(name, 24) for name in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel(label)
        axis.grid(axis="y", visible=False)
        for y in range(len(rows) - 1):
            axis.axhline(y + 0.5, color=LINE, lw=0.7)
        # One column alone needs no legend, but its room: figures beside each other are as high.
        if columns > 1:
            figure.legend(loc="outside upper left", fontsize=8, borderpad=0, handletextpad=0.2)
        return svg(figure)


def column_styles(titles: Sequence[str], base: str) -> list[tuple[str, str, str]]:
    """Chooses (colour, shape, title) of each column: the last one's stands out, the baseline's is grey."""
    spare = [0, 2, 3, 4]
    found = []
    for i, title in enumerate(titles):
        if i == len(titles) - 1:
            number = 1
        elif title == base:
            number = 5
        else:
            number = spare[len(found) % 4]
        found.append((COLOURS[number], SHAPES[i % len(SHAPES)], title))
    return found


def values(
    rows: dict[str, Sequence[Point | None]],
    styles: Sequence[tuple],
    label: str,
    dots: dict[str, Sequence[float]] | None = None,
    inks: dict[str, str] | None = None,
) -> str:
    """Draws the value of every row and column with its interval: {name: points} -> SVG. ``dots`` are the values
    that a row's is the mean of, as fractions, and ``inks`` the colours of single rows."""
    drawn = {
        name: [(p.value, *(p.interval or (p.value, p.value))) if p and p.value is not None else None for p in own]
        for name, own in rows.items()
    }
    return _pointed(drawn, styles, label, dots=dots, inks=inks)


def differences(
    rows: dict[str, Sequence[Point | None]],
    styles: Sequence[tuple],
    label: str,
    base: str,
    inks: dict[str, str] | None = None,
) -> str:
    """Draws every paired difference with its interval, beside ``base`` at 0: {name: points} -> SVG; '' where there
    is none. The figure is as high as that of `values`, so that rows of the two stand beside each other."""
    if not any(p and p.over for own in rows.values() for p in own):
        return ""
    drawn = {
        name: [((0.0, 0.0, 0.0) if p.title == base else p.over) if p else () for p in own]
        for name, own in rows.items()
    }
    return _pointed(drawn, styles, label, zero=True, inks=inks)


# ---------------------------------------------------------------------------- curves
def _single(values: Sequence[float]) -> list[int]:
    """Finds the places of values that have none beside them, nan being none."""
    there = np.isfinite([np.nan, *values, np.nan])
    return np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:]).tolist()


def _curve(
    title: str,
    series: dict[str, list],
    order: list[str],
    axis_label: str,
    marks: Sequence[float],
    ticks: Sequence[float],
    outside: bool,
) -> str:
    """Draws one panel. The place of a label in ``order`` decides how its line looks."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(3.4, 2.3), layout="constrained")
        lines = {}
        for label, points in series.items():
            i, (steps, values) = order.index(label), zip(*points)
            # Few points are told apart; many would be a band. A single one is no line.
            marked = None if len(points) < 12 else _single(values)
            (lines[label],) = axis.plot(
                steps,
                values,
                color=COLOURS[i % len(COLOURS)],
                lw=1.4,
                marker=None if marked == [] else "o",
                markevery=marked,
                ms=3,
                ls=DASHES[i % 3],
            )
        for mark in marks:
            axis.axvline(mark, color=SOFT, lw=0.8, ls=":")
        if ticks:
            axis.set_xticks(ticks)
        axis.set_title(short(title))
        axis.set_xlabel(axis_label)
        legend(axis, lines, outside=outside)
        return svg(figure)


def curves(
    series: dict[str, dict[str, list[tuple[int, float]]]],
    axis_label: str = "step",
    marks: Sequence[float] = (),
    *,
    ticks: Sequence[float] = (),
    outside: bool = False,
) -> str:
    """Draws a panel for each title, {panel title: {line label: [(step, value)]}} -> SVGs one after another, with a
    thin line at each of ``marks``. ``ticks`` are the places that the axis names, and legends stand ``outside`` of
    the panels where lines fill these."""
    # A network looks the same in all panels.
    order = list(dict.fromkeys(label for lines in series.values() for label in lines))
    # One SVG a panel: the page sets as many beside each other as it has room for.
    drawn = (_curve(title, lines, order, axis_label, marks, ticks, outside) for title, lines in series.items())
    return "\n".join(drawn)


# ---------------------------------------------------------------------------- classes
def confusion(matrix: np.ndarray, names: list[str]) -> str:
    """Draws a confusion matrix: counts [K true, K predicted] -> SVG. Each row is shown in shares of its class."""
    shares, names = matrix / np.maximum(matrix.sum(1, keepdims=True), 1), [short(n) for n in names]
    # A cell keeps its size, and the longest name its room, until the figure is as large as a page.
    size = min(max(0.28 * len(names) + 0.06 * max(map(len, names)) + 1.2, 3.5), 10)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(size + 0.6, size), layout="constrained")
        percents(figure, axis, shares)
        # More names would not be legible at this size.
        if len(names) <= 40:
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            axis.set_yticks(range(len(names)), names, fontsize=7)
            for i, j in zip(*np.nonzero(shares >= 0.1)):
                axis.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        return svg(figure)


def changes(
    names: list[str],
    change: np.ndarray,
    counts: np.ndarray,
    title: str,
    label: str = "points of top-1",
    ends: int = 0,
) -> str:
    """Draws a bar for each class's change in accuracy (fractions, NaN where a class has no clip), sorted -> SVG.
    Of more than 40 classes, the 40 that change most are shown, or so many at both ``ends``."""
    order = np.argsort(change, kind="stable")[: np.isfinite(change).sum()]
    if 0 < 2 * ends < len(order):
        order = np.concatenate([order[:ends], order[-ends:]])
    elif len(order) > 40:
        order = order[np.sort(np.argsort(-np.abs(change[order]))[:40])]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH, ROW * len(order) + 0.9), layout="constrained")
        colours = [COLOURS[0] if v >= 0 else COLOURS[1] for v in change[order]]
        axis.barh(range(len(order)), 100 * change[order], color=colours, height=0.7)
        axis.set_yticks(range(len(order)), [f"{short(names[i])} (n={counts[i]})" for i in order], fontsize=7)
        axis.axvline(0, color=SOFT, lw=0.8)
        axis.set_xlabel(label)
        axis.set_title("\n".join(short(line, 48) for line in title.splitlines()))
        axis.grid(axis="y", visible=False)
        return svg(figure)


def counts(names: list[str], numbers: Sequence[int], title: str) -> str:
    """Draws a bar for the number of clips of each class, the most frequent first -> SVG. Of more than 40 classes,
    the 20 most and the 20 least frequent are shown."""
    order = np.argsort(-np.asarray(numbers), kind="stable")
    order = np.concatenate([order[:20], order[-20:]]) if len(order) > 40 else order
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH, ROW * len(order) + 0.9), layout="constrained")
        axis.barh(range(len(order)), [numbers[i] for i in order], color=COLOURS[0], height=0.7)
        axis.set_yticks(range(len(order)), [f"{short(names[i])} ({numbers[i]})" for i in order], fontsize=7)
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlabel("clips")
        axis.set_title(short(title, 48))
        axis.grid(axis="y", visible=False)
        return svg(figure)


def strip(frames: np.ndarray, height: int = 64) -> str:
    """Makes a film strip of pictures, uint8 [T, H, W, 3], beside each other: a data URL of a JPEG."""
    film = Image.fromarray(np.concatenate(list(frames), 1))
    film = film.resize((max(round(film.width * height / film.height), 1), height))
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
