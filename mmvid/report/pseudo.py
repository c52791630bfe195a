"""CMPL in figures: how many pseudo-labels there were and how right (its figure 2), whose are the best (6), where the
auxiliary network helps (7), what small and large networks know (1), and how many frames they need (5)."""

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from mmvid import files
from mmvid.data import sampling
from mmvid.report import figures
from mmvid.report.arms import Arm, Draw, arms
from mmvid.report.points import Column, Point, there
from mmvid.report.rows import head_of
from mmvid.report.text import percent
from mmvid.scores import effort, file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Stretches of training over which single batches are averaged, and the fewest log lines of one.
WINDOWS, FEWEST = 20, 3
# Width of a bin of accuracies in figure 7.
BIN = 0.05
# Classes at each end of figure 1.
ENDS = 20
# Lines of one panel beyond which nobody tells them apart.
MOST_LINES = 8


def panel(workdir: pathlib.Path, columns: Sequence[Column], split: str, config: Mapping, how: str) -> dict:
    """Draws what the page shows of pseudo-labels: {'ratio': SVGs, 'sources', 'gain', 'gap', 'thinned': see there};
    {} for a run of another plan."""
    found = arms(there(columns, split), config)
    if not found:
        return {}
    own = next(arm for arm in found if arm.has(columns[-1].segment))
    # What is nearest to the run's own arm comes first: there may be more than a figure has room for.
    alike = [arm for arm in found if arm.labels == own.labels]
    return {
        "ratio": figures.curves(ratios(workdir, [own, *(arm for arm in alike if arm is not own)])),
        "sources": sources(workdir, own, alike, config, how),
        "gain": gain(own, alike, split, how),
        "gap": gap(own, alike, split, how),
        "thinned": thinned(alike, workdir, split, how),
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


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides shares; nan where there is nothing, which is a gap in a line."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _percent(steps: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(steps.tolist(), (100 * values).tolist()))


def titled(arm: Arm, output: str) -> str:
    """Titles a line of a figure: 'CMPL: flow (primary)', or the arm alone where it has one output."""
    outputs = arm.outputs
    if len(outputs) < 2:
        return arm.title
    roles = ("primary", "auxiliary") if arm.method == "cmpl" else ()
    role = dict(zip(outputs, roles)).get(output)
    return f"{arm.title}: {output}" + (f" ({role})" if role else "")


CONFIDENT, RIGHT, PRECISION = "confident, % of unlabelled", "confident and right, % of unlabelled", "right, % of confident"


def ratios(workdir: pathlib.Path, found: Sequence[Arm]) -> dict[str, dict[str, list]]:
    """Computes how many pseudo-labels each output gave, and how right they were (figure 2): {panel: {line: [(step,
    percent)]}}, {} where nothing was logged. Where nothing is confident, a line has a gap."""
    every = [(arm, output) for arm in found for output in arm.outputs]
    read = {titled(arm, output): shares(workdir, arm, output) for arm, output in every}
    known = dict(itertools.islice(((n, own) for n, own in read.items() if own is not None), MOST_LINES))
    panels = {
        CONFIDENT: {name: _percent(own.steps, own.confident) for name, own in known.items()},
        RIGHT: {name: _percent(own.steps, own.right) for name, own in known.items()},
        PRECISION: {name: _percent(own.steps, _divided(own.right, own.confident)) for name, own in known.items()},
    }
    return panels if known else {}


# ---------------------------------------------------------------------------- three sources of labels
def sources(workdir: pathlib.Path, own: Arm, alike: Sequence[Arm], config: Mapping, how: str) -> dict:
    """Shows how right labels are on the clips that the auxiliary network is sure of (figure 6): {'curves': SVGs of
    its own and the primary network's over training, 'figure': SVG of these and of FixMatch at the end, 'about':
    text}; {} for a run without an auxiliary network."""
    if own.method != "cmpl" or len(own.outputs) < 2:
        return {}
    drawn, said = _at_the_end(workdir, own, alike, config, how)
    over = _over_training(workdir, own)
    curves = figures.curves({"right, % of what the auxiliary is sure of": over}) if over else ""
    return {"curves": curves, "figure": drawn, "about": said} if curves or drawn else {}


def _over_training(workdir: pathlib.Path, own: Arm) -> dict[str, list]:
    """The two networks' accuracy on the unlabelled clips that the auxiliary is sure of, as it was logged."""
    primary, auxiliary = own.outputs[:2]
    first, second = (shares(workdir, own, output) for output in (primary, auxiliary))
    if first is None or second is None:
        return {}
    values = {primary: first.beside, auxiliary: second.right}
    lines = {titled(own, name): _divided(part, second.confident) for name, part in values.items()}
    return {name: _percent(second.steps, line) for name, line in lines.items() if np.isfinite(line).any()}


def _followed(workdir: pathlib.Path, draw: Draw, config: Mapping) -> Scores | None:
    """Reads the scores of the unlabelled clips that arms are followed on; None where there are none."""
    name = (config.get("semi") or {}).get("followed")
    path = workdir / draw.column.segment / "scores" / f"{name}.npz"
    return file.labelled(file.load(path)) if name and path.exists() else None


def _at_the_end(workdir: pathlib.Path, own: Arm, alike: Sequence[Arm], config: Mapping, how: str) -> tuple[str, str]:
    """Draws the three sources' accuracy on the followed clips that the auxiliary is sure of at the end: (SVG,
    text), ('', '') where nothing is followed."""
    primary, auxiliary = own.outputs[:2]
    draw = own.draws[0]
    scores = _followed(workdir, draw, config)
    if scores is None or not file.single_heads(scores):
        return "", ""
    head, threshold = head_of(scores), own.options.get("threshold", 0.9)
    sure, _, usable = numbers_lib.confidence(scores, auxiliary, head, how)
    chosen = usable & (sure >= threshold)
    where = f"{chosen.sum()} of {len(chosen)} clips of {scores.meta['split']}"
    said = f"{auxiliary} is sure (p ≥ {threshold:g}) of {where}"
    if not chosen.any():
        return "", said
    made = {titled(own, output): numbers_lib.hits(scores, output, head, 1, how) for output in (auxiliary, primary)}
    for arm in alike:
        other = next((d for d in arm.draws if d.labelled == draw.labelled), None) if arm.method == "fixmatch" else None
        found = _followed(workdir, other, config) if other and primary in arm.outputs else None
        if found is not None and found.id.tolist() == scores.id.tolist():
            made[titled(arm, primary)] = numbers_lib.hits(found, primary, head, 1, how)
    rows = {
        name: [Point(name, float(hit[chosen].mean()), metrics.bootstrap_interval(hit[chosen]), (), {})]
        for name, hit in made.items()
    }
    style = [(figures.COLOURS[0], "o", "")]
    return figures.values(rows, style, "right, percent of these clips"), said


# ---------------------------------------------------------------------------- classes
def by_class(arm: Arm, output: str, split: str, head: str, how: str) -> np.ndarray:
    """Computes the accuracy of an output of an arm in each class, a mean over its draws: [K], nan for a class
    without clips."""
    found = []
    for draw in arm.draws:
        scores = file.labelled(draw.column.scores[split])
        probs = numbers_lib.probabilities(scores.logits[output][head], how)
        # A clip that lacks the output is a miss: no class has the probability -1.
        probs = np.where(file.usable(scores, output, head)[:, None], probs, 0)
        label = scores.label[head]
        right = (probs.argmax(1) == label) & (probs.max(1) > 0)
        count = np.bincount(label, minlength=probs.shape[1])
        found.append(_divided(np.bincount(label, right, minlength=len(count)), count))
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
    """The first arm of a method that has the output as its primary one."""
    return next((arm for arm in alike if arm.method == method and arm.outputs[:1] == [output]), None)


def gain(own: Arm, alike: Sequence[Arm], split: str, how: str) -> dict:
    """Draws what each class gains by CMPL over FixMatch against the auxiliary network's accuracy in it (figure 7):
    {'figure': SVG, 'about': text}; {} without FixMatch or an auxiliary network."""
    primary, auxiliary = (own.outputs + ["", ""])[:2]
    base, classes = _alone(alike, primary, "fixmatch"), _classes(own, split)
    if own.method != "cmpl" or not auxiliary or base is None or classes is None:
        return {}
    # As in the paper, an auxiliary network that has learnt from the labels alone; else CMPL's own.
    alone = _alone(alike, auxiliary, "single")
    accuracy = by_class(alone or own, auxiliary, split, classes[0], how)
    gained = by_class(own, primary, split, classes[0], how) - by_class(base, primary, split, classes[0], how)
    known = np.isfinite(accuracy) & np.isfinite(gained)
    whose = alone.title if alone else f"{auxiliary} in {own.title}"
    drawn = scatter(accuracy[known], gained[known], f"accuracy of {whose}, percent",
                    f"{primary}: {own.title} over {base.title}")  # fmt: skip
    return {"figure": drawn, "about": correlated(accuracy[known], gained[known])} if drawn else {}


def correlation(x: np.ndarray, y: np.ndarray, draws: int = 1000) -> tuple[float, ...]:
    """Computes the correlation of two lists of numbers, [N] each, with its 95 % bootstrap interval: (r, low, high);
    () where either does not vary."""
    if len(x) < 3 or not x.std() or not y.std():
        return ()
    places = np.random.default_rng(0).integers(0, len(x), (draws, len(x)))
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (values[places] - values[places].mean(1, keepdims=True) for values in (x, y))
        sampled = (a * b).mean(1) / (a.std(1) * b.std(1))
    return float(np.corrcoef(x, y)[0, 1]), *np.nanquantile(sampled, (0.025, 0.975)).tolist()


def correlated(x: np.ndarray, y: np.ndarray) -> str:
    """Says whether gain and accuracy go together."""
    found = correlation(x, y)
    if not found:
        return f"{len(x)} classes, in which one of the two does not vary"
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
    bins = np.minimum((x + 1e-9) // BIN, round(1 / BIN) - 1)
    means = [(100 * x[bins == own].mean(), 100 * y[bins == own].mean()) for own in np.unique(bins)]
    slope, start = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    with plt.rc_context(figures.STYLE):
        figure, axis = plt.subplots(figsize=(figures.WIDTH, 3.0), layout="constrained")
        axis.axhline(0, color=figures.SOFT, lw=0.8)
        (classes,) = axis.plot(100 * x, 100 * y, "o", ms=3, color=figures.COLOURS[5], mew=0)
        (binned,) = axis.plot(*zip(*means), "D", ms=5, color=figures.COLOURS[1])
        (line,) = axis.plot(100 * ends, 100 * (start + slope * ends), color=figures.COLOURS[0], lw=1.4)
        axis.set(xlabel=label, ylabel="points gained")
        axis.set_title(figures.short(title, 48))
        lines = [classes, binned, line]
        names = ["class", f"mean of {100 * BIN:g} %", "least squares"]
        figure.legend(lines, names, fontsize=7, loc="outside lower left", ncols=3, handletextpad=0.4)
        return figures.svg(figure)


def gap(own: Arm, alike: Sequence[Arm], split: str, how: str) -> dict:
    """Draws in which classes the small network is better than the large one (figure 1), both learning from the
    labels alone, or else both of CMPL: {'figure': SVG, 'about': text}; {} where there are no two."""
    primary, auxiliary = (own.outputs + ["", ""])[:2]
    classes = _classes(own, split)
    if not auxiliary or classes is None:
        return {}
    pair = [_alone(alike, output, "single") for output in (auxiliary, primary)]
    both = [own, own] if None in pair else pair
    small, large = (by_class(a, o, split, classes[0], how) for a, o in zip(both, (auxiliary, primary)))
    if not np.isfinite(small - large).any():
        return {}
    better = int((small > large).sum())
    known = int(np.isfinite(small - large).sum())
    whose = f"both in {own.title}" if None in pair else "both from the labels alone"
    title = f"{auxiliary}\nminus {primary}"
    return {
        "figure": figures.changes(classes[1], small - large, classes[2], title, ends=ENDS),
        "about": f"{auxiliary} is better than {primary} in {better} of {known} classes, {whose}",
    }


# ---------------------------------------------------------------------------- fewer frames
def _thinned(workdir: pathlib.Path, draw: Draw, split: str) -> dict[int, Scores]:
    """Reads the scores of a draw from clips of which every k-th frame is shown, {k: scores}; not those that were
    made in another way than the run's own otherwise."""
    own = draw.column.scores[split]
    same = ("fingerprint", "step", "crops")
    found = {1: own}
    for path in sorted((workdir / draw.column.segment / "scores").glob(f"{split}@*.npz")):
        scores = file.load(path)
        protocol, stride = sampling.thinning(scores.meta["protocol"])
        alike = all(scores.meta.get(name) == own.meta.get(name) for name in same)
        if stride > 1 and protocol == own.meta["protocol"] and alike:
            found[stride] = scores
    return found


def _accuracy(scores: Scores, output: str, how: str) -> float:
    scores = file.labelled(scores)
    return float(numbers_lib.hits(scores, output, head_of(scores), 1, how).mean())


def thinned(found: Sequence[Arm], workdir: pathlib.Path, split: str, how: str) -> str:
    """Draws the accuracy of every output as fewer frames of each clip are shown, and the share of it that is lost
    (figure 5) -> SVGs, '' where nobody has scored that."""
    lines: dict[str, list] = {}
    for arm in found:
        read = [_thinned(workdir, draw, split) for draw in arm.draws]
        # Draws that were scored so: of others there is but the whole.
        read = [own for own in read if len(own) > 1]
        strides = sorted(set.intersection(*map(set, read))) if read else []
        for output in arm.outputs if file.single_heads(arm.first.scores[split]) else ():
            values = [(k, np.mean([_accuracy(own[k], output, how) for own in read])) for k in strides]
            if len(values) > 1 and len(lines) < MOST_LINES:
                lines[titled(arm, output)] = values
    if not lines:
        return ""
    lost = {name: [(k, 1 - v / own[0][1]) for k, v in own if own[0][1]] for name, own in lines.items()}
    panels = {"top-1, percent": lines, "share of it that is lost, percent": {n: own for n, own in lost.items() if own}}
    panels = {title: {n: [(k, 100 * v) for k, v in own] for n, own in each.items()} for title, each in panels.items()}
    return figures.curves(panels, "every k-th frame is shown")


# ---------------------------------------------------------------------------- what it costs
def costs(workdir: pathlib.Path, columns: Sequence[Column], config: Mapping) -> dict[str, str]:
    """Says what an auxiliary network costs, {'auxiliary': words}: its share of the work of a view of both networks,
    and the training time beside FixMatch's; {} for a run without one, or where nobody has counted."""
    found = arms(columns, config)
    own = next((arm for arm in found if arm.has(columns[-1].segment)), None)
    if own is None or own.method != "cmpl" or len(own.outputs) < 2:
        return {}
    counted = effort.read(workdir / columns[-1].segment)
    flops = [effort.together([counted.get(output)]) for output in own.outputs[:2]]
    if None in flops:
        return {}
    primary, auxiliary = own.outputs[:2]
    work, whole = flops[1]["flops"], sum(each["flops"] for each in flops)
    said = f"{auxiliary} takes {work / 1e9:.3g} GFLOPs a view, {percent(work / max(whole, 1))} % of both networks'"
    base = _alone([arm for arm in found if arm.labels == own.labels], primary, "fixmatch")
    seconds = [_seconds(workdir, arm.first) for arm in (own, base) if arm]
    longer = f"; training took {seconds[0] / seconds[1]:.2g} times as long as {base.title}" if len(seconds) > 1 and all(seconds) else ""
    return {"auxiliary": f"{said}{longer}; {primary} alone is tested as without it"}


def _seconds(workdir: pathlib.Path, column: Column) -> float:
    """The training time of a column; 0 where it is not known."""
    notes = [files.read_note(workdir / part / "cost.json") for part in column.parts or (column.segment,)]
    found = [note.get("seconds") for note in notes]
    return 0.0 if None in found else sum(found)
