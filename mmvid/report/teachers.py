"""The parts of the report about an ensemble of teachers: their weights, their agreement, how many it takes."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid import files
from mmvid.report import diagrams, points
from mmvid.report.points import Column
from mmvid.scores import combine, ensembles, file, imported
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Subsets of so many teachers are all drawn: there are 2^n - 1 of them.
MOST_TEACHERS = 6


def panel(workdir: pathlib.Path, columns: Sequence[Column], split: str, how: str) -> dict:
    """Draws what there is to see of the teachers of the last column: {'weights', 'growth', 'agreement': lists of
    SVG, 'about': text}; {} where it has learnt from none."""
    shown = points.there(columns, split)
    note = files.read_note(workdir / columns[-1].segment / ensembles.NAME)
    if not note or not note.get("teachers"):
        return {}
    return {
        "about": ensembles.told(note),
        "weights": _weights(note),
        "growth": _growth(workdir, shown, note, split, how),
        "agreement": _agreement(shown, split, how),
    }


def _weights(note: Mapping) -> list[str]:
    """Draws each teacher's weight in each head; nothing where they differ from example to example, or have no
    effect."""
    heads = {head: own for head, own in note["weights"].items() if own}
    if not heads or ensembles.without_effect(note):
        return []
    teachers = list(note["teachers"])
    values = np.array([[heads[head][teacher] for head in heads] for teacher in teachers])
    return [diagrams.grid(values, teachers, list(heads), "weight of each teacher")]


# ---------------------------------------------------------------------------- how many
def _alone(workdir: pathlib.Path, note: Mapping, like: Mapping) -> dict[str, Scores]:
    """Reads the scores of each teacher, made as the meta ``like`` tells, {output: Scores}; {} where those of one
    are not there, which the tables say."""
    try:
        return {output: imported.scores_of(workdir, where, like) for output, where in note["teachers"].items()}
    except (FileNotFoundError, ValueError):
        return {}


def _ensemble(scores: Mapping[str, Scores], note: Mapping) -> Scores:
    """Adds up the scores of some teachers by weights of sum 1, which each has in proportion to its own."""
    weights = {output: {head: own[output] for head, own in note["weights"].items()} for output in scores}
    # Of sum 1 among those that are there: calibration errors depend on the logits' scale.
    sums = {head: sum(own[head] for own in weights.values()) for head in note["weights"]}
    shares = {o: {head: w / max(sums[head], 1e-12) for head, w in own.items()} for o, own in weights.items()}
    return combine.combine(scores, shares, name=ensembles.OUTPUT, share_out=True)


def _growth(workdir: pathlib.Path, columns: Sequence[Column], note: Mapping, split: str, how: str) -> list[str]:
    """Draws for each head of single labels the calibration error of every ensemble of the teachers over their
    number (figure 3 of multimodal distillation)."""
    alone = _alone(workdir, note, columns[-1].scores[split].meta)
    heads = [head for head, own in note["weights"].items() if own]
    if not heads or not 2 <= len(alone) <= MOST_TEACHERS:
        return []
    errors: dict[str, dict[int, list]] = {head: {} for head in heads}
    sizes = range(1, len(alone) + 1)
    for chosen in itertools.chain(*(itertools.combinations(alone, size) for size in sizes)):
        numbers = numbers_lib.summary(_ensemble({output: alone[output] for output in chosen}, note), how)
        for head in heads:
            error = numbers.get(ensembles.OUTPUT, {}).get(head, {}).get("ece")
            if error is not None:
                errors[head].setdefault(len(chosen), []).append(error)
    own = columns[-1]
    student = next(iter(own.scores[split].logits))
    return [
        diagrams.growth(
            values,
            {own.title: own.numbers[split][student][head]["ece"]},
            f"calibration error, {head}",
            "teachers",
        )
        for head, values in errors.items()
        if values
    ]


# ---------------------------------------------------------------------------- agreement
def _agreement(columns: Sequence[Column], split: str, how: str) -> list[str]:
    """Draws for each head of single labels how often each two outputs guess the same class, on the clips that have
    both."""
    scores = {column.title: column.scores[split] for column in columns}
    if len({tuple(own.id.tolist()) for own in scores.values()}) > 1:
        return []
    found = []
    for head in file.single_heads(next(iter(scores.values()))):
        guesses = _guesses(scores, head, how)
        values = [[_alike(a, b) for b in guesses.values()] for a in guesses.values()]
        found.append(diagrams.grid(np.array(values), list(guesses), list(guesses), f"agreement, {head}"))
    return found


def _guesses(scores: Mapping[str, Scores], head: str, how: str) -> dict[str, np.ndarray]:
    """Returns the likeliest class of each clip, -1 where there is no finite score: {name of an output: [N]}."""
    found = {}
    for title, own in scores.items():
        for output in own.logits:
            there = file.usable(own, output, head)
            guess = numbers_lib.probabilities(file.of_output(own, output, head)[0], how).argmax(1)
            found[output if len(own.logits) > 1 else title] = np.where(there, guess, -1)
    return found


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    both = (a >= 0) & (b >= 0)
    return float((a == b)[both].mean()) if both.any() else float("nan")
