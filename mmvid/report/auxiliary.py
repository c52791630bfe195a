"""An auxiliary network in figures: where it helps the primary one (CMPL's figure 7), what small and large networks
know (figure 1), how many frames they need (figure 5), and what it costs."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from mmvid import files
from mmvid.data import sampling
from mmvid.report import figures
from mmvid.report.arms import Arm, Draw, arms
from mmvid.report.points import Column
from mmvid.report.rows import head_of
from mmvid.report.text import percent
from mmvid.scores import effort, file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Width of a bin of accuracies in figure 7.
BIN = 0.05
# Classes at each end of figure 1.
ENDS = 20
# Lines of one panel beyond which nobody tells them apart.
MOST_LINES = 8


# ---------------------------------------------------------------------------- classes
def by_class(arm: Arm, output: str, split: str, head: str, how: str) -> np.ndarray:
    """Computes the accuracy of an output of an arm in each class, a mean over its draws: [K], nan for a class
    without clips."""
    found = []
    for draw in arm.draws:
        scores = file.labelled(draw.column.scores[split])
        label, classes = scores.label[head], file.heads_of(scores)[head].classes
        right, counts = numbers_lib.hits(scores, output, head, 1, how), np.bincount(label, minlength=classes)
        found.append(np.where(counts > 0, np.bincount(label, right, classes) / np.maximum(counts, 1), np.nan))
    return np.mean(found, axis=0)


def _classes(arm: Arm, split: str) -> tuple[str, list[str], np.ndarray] | None:
    """The first head of single labels, the names of its classes and the number of clips of each; None where there
    is none."""
    scores = file.labelled(arm.first.scores[split])
    if not file.single_heads(scores) or not len(scores.id):
        return None
    head = file.single_heads(scores)[0]
    space = file.heads_of(scores)[head]
    names = list(space.names) or [str(i) for i in range(space.classes)]
    return head, names, np.bincount(scores.label[head], minlength=space.classes)


def _alone(alike: Iterable[Arm], output: str, method: str) -> Arm | None:
    """The first arm of a method that trains this output alone."""
    return next((arm for arm in alike if arm.method == method and arm.outputs == (output,)), None)


# ---------------------------------------------------------------------------- where it helps
def gain(alike: Sequence[Arm], split: str, how: str) -> dict[str, str]:
    """Draws what each class gains by CMPL over FixMatch against the auxiliary network's accuracy in it (figure 7):
    {'figure': SVG, 'about': text}; {} without FixMatch or an auxiliary network. The first arm is the run's own."""
    own, classes = alike[0], _classes(alike[0], split)
    primary, second = own.partners or ("", "")
    base = _alone(alike, primary, "fixmatch")
    if base is None or classes is None:
        return {}
    # As in the paper, an auxiliary network that has learnt from the labels alone; else CMPL's own.
    alone, head = _alone(alike, second, "single"), classes[0]
    accuracy = by_class(alone or own, second, split, head, how)
    gained = by_class(own, primary, split, head, how) - by_class(base, primary, split, head, how)
    x, y = (values[np.isfinite(accuracy)] for values in (accuracy, gained))
    label = f"accuracy of {figures.short(alone.title if alone else own.called(second))}, percent"
    drawn = scatter(x, y, label, f"{primary}: {own.title} over {base.title}")
    return {"figure": drawn, "about": correlated(x, y)} if drawn else {}


def correlation(x: np.ndarray, y: np.ndarray, draws: int = 1000) -> tuple[float, ...]:
    """Computes the correlation of two lists of numbers, [N] each, with its 95 % bootstrap interval over pairs: (r,
    low, high); () where either does not vary."""
    # A standard deviation of equal numbers may be a rounding above 0.
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return ()
    places = np.random.default_rng(0).integers(0, len(x), (draws, len(x)))
    a, b = (values[places] - values[places].mean(1, keepdims=True) for values in (x, y))
    scale = a.std(1) * b.std(1)
    # A draw in which one does not vary has no correlation.
    sampled = (a * b).mean(1)[scale > 1e-12] / scale[scale > 1e-12]
    return (float(np.corrcoef(x, y)[0, 1]), *metrics.middle(sampled)) if len(sampled) else ()


def correlated(x: np.ndarray, y: np.ndarray) -> str:
    """Says whether the gains ``y`` of classes and the accuracies ``x`` go together."""
    found = correlation(x, y)
    if not found:
        return f"of {len(x)} classes, either all gain alike or the auxiliary is as good at all"
    r = "correlation {:+.2f} [{:+.2f}, {:+.2f}]".format(*found)
    if found[1] <= 0 <= found[2]:
        return f"no relation beyond noise: {r} over {len(x)} classes"
    better = "better" if found[0] > 0 else "worse"
    return f"classes gain more the {better} the auxiliary is at them: {r} over {len(x)} classes"


def scatter(x: np.ndarray, y: np.ndarray, label: str, title: str) -> str:
    """Draws classes as points, means over bins of `BIN` of ``x``, and the line of least squares; fractions -> SVG,
    '' for fewer than two different ``x``."""
    if len(set(x.tolist())) < 2:
        return ""
    # 3 / 20 lies in the bin that begins there, whatever its last digit.
    bins = np.minimum(np.floor(x / BIN + 1e-6), round(1 / BIN) - 1)
    means = [(100 * x[bins == own].mean(), 100 * y[bins == own].mean()) for own in np.unique(bins)]
    slope, start = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    with plt.rc_context(figures.STYLE):
        figure, axis = plt.subplots(figsize=(figures.WIDTH, 3.0), layout="constrained")
        axis.axhline(0, color=figures.SOFT, lw=0.8)
        drawn = [
            *axis.plot(100 * x, 100 * y, "o", ms=3.5, color=figures.COLOURS[5], mew=0),
            *axis.plot(*zip(*means), "D", ms=5, color=figures.COLOURS[1]),
            *axis.plot(100 * ends, 100 * (start + slope * ends), color=figures.COLOURS[0], lw=1.4),
        ]
        axis.set(xlabel=label, ylabel="points gained")
        axis.set_title(figures.short(title, 48))
        names = ["a class", f"mean of {100 * BIN:g} points", "least squares"]
        figure.legend(drawn, names, fontsize=7, loc="outside lower left", ncols=3, handletextpad=0.4)
        return figures.svg(figure)


# ---------------------------------------------------------------------------- small and large
def gap(alike: Sequence[Arm], split: str, how: str) -> dict[str, str]:
    """Draws in which classes the small network is better than the large one (figure 1), both learning from the
    labels alone, or else both of CMPL: {'figure': SVG, 'about': text}; {} where there are no two. The first arm is
    the run's own."""
    own, classes = alike[0], _classes(alike[0], split)
    if not own.partners or classes is None:
        return {}
    primary, second = own.partners
    pair = [_alone(alike, output, "single") for output in (second, primary)]
    whose = f"both as {own.title} has trained them" if None in pair else "both from the labels alone"
    both = zip([own, own] if None in pair else pair, (second, primary))
    small, large = (by_class(arm, output, split, classes[0], how) for arm, output in both)
    known = np.isfinite(small - large)
    drawn = figures.changes(classes[1], small - large, classes[2], f"{second}\nminus {primary}", ends=ENDS)
    better = f"{second} is better than {primary} in {(small > large).sum()} of {known.sum()} classes"
    return {"figure": drawn, "about": f"{better}, worse in {(small < large).sum()}; {whose}"}


# ---------------------------------------------------------------------------- fewer frames
def _thinned(workdir: pathlib.Path, draw: Draw, split: str) -> dict[int, Scores]:
    """Reads the scores of a draw from clips of which every k-th frame is shown, {k: scores}; not those that were
    made in another way than the run's own otherwise."""
    own = draw.column.scores[split]
    same = ("fingerprint", "step", "crops", "variant", "resize")
    found = {1: own}
    for path in sorted((workdir / draw.column.segment / "scores").glob(f"{split}@*.npz")):
        scores = file.load(path)
        protocol, stride = sampling.thinning(scores.meta.get("protocol", ""))
        alike = all(scores.meta.get(name) == own.meta.get(name) for name in same)
        if stride > 1 and protocol == own.meta.get("protocol") and alike:
            found[stride] = scores
    return found


def _lines(workdir: pathlib.Path, arm: Arm, split: str, how: str) -> dict[str, dict[int, float]]:
    """{line: {k: accuracy}} of the outputs of an arm, a mean over the draws that were scored with fewer frames."""
    read = [own for draw in arm.draws if len(own := _thinned(workdir, draw, split)) > 1]
    strides = sorted(set.intersection(*map(set, read))) if read else []
    if not strides or not file.single_heads(arm.first.scores[split]):
        return {}
    return {
        arm.called(output): {k: float(np.mean([_accuracy(own[k], output, how) for own in read])) for k in strides}
        for output in arm.outputs
    }


def _accuracy(scores: Scores, output: str, how: str) -> float:
    scores = file.labelled(scores)
    return float(numbers_lib.hits(scores, output, head_of(scores), 1, how).mean())


def thinned(workdir: pathlib.Path, alike: Sequence[Arm], split: str, how: str) -> str:
    """Draws the accuracy of every output as fewer frames of each clip are shown, and the share of it that is lost
    (figure 5) -> SVGs, '' where nobody has scored that."""
    lines: dict[str, dict[int, float]] = {}
    for arm in alike:
        lines |= _lines(workdir, arm, split, how)
    known = dict(list(lines.items())[:MOST_LINES])
    panels = {
        "top-1, percent": {name: [(k, 100 * v) for k, v in own.items()] for name, own in known.items()},
        "of this, lost, percent": {
            name: [(k, 100 * (1 - v / own[1])) for k, v in own.items()] for name, own in known.items() if own[1]
        },
    }
    shown = {title: own for title, own in panels.items() if own}
    ticks = sorted({k for own in known.values() for k in own})
    return figures.curves(shown, "every k-th frame is shown", ticks=ticks, outside=True)


# ---------------------------------------------------------------------------- what it costs
def costs(workdir: pathlib.Path, columns: Sequence[Column], config: Mapping) -> dict[str, str]:
    """Says what an auxiliary network costs, {'auxiliary': words}: its share of the work of both networks, and the
    training time beside FixMatch's; {} for a run without one, or where nobody has counted."""
    found = arms(columns, config)
    own = next((arm for arm in found if arm.has(columns[-1].segment)), None)
    if own is None or not own.partners:
        return {}
    counted, (primary, second) = effort.read(workdir / columns[-1].segment), own.partners
    work, whole = (effort.together(map(counted.get, outputs)) for outputs in ([second], own.partners))
    if work is None or whole is None or not whole["flops"]:
        return {}
    share = percent(work["flops"] / whole["flops"])
    said = f"{second} takes {work['flops'] / 1e9:.3g} GFLOPs a view, {share} % of both networks'"
    base = _alone([arm for arm in found if arm.labels == own.labels], primary, "fixmatch")
    seconds = [_seconds(workdir, arm.first) for arm in (own, base) if arm]
    if len(seconds) > 1 and all(seconds):
        said += f"; training took {seconds[0] / seconds[1]:.2f} times as long as {base.title}"
    return {"auxiliary": f"{said}; to test {primary} it is not needed"}


def _seconds(workdir: pathlib.Path, column: Column) -> float:
    """The training time of a column; 0 where it is not known."""
    notes = [files.read_note(workdir / part / "cost.json") for part in column.parts or (column.segment,)]
    found = [note.get("seconds") for note in notes]
    return 0.0 if None in found else sum(found)
