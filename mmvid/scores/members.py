"""Ensembles of outputs of any runs' segments: their logits are added up clip by clip, and no network is run."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.scores import combine, file, metrics, numbers
from mmvid.scores.file import Scores

# Of weights that are tried for an ensemble; six members in tenths have 3,003.
MOST_WAYS = 10_000


class Member(NamedTuple):
    """What an ensemble may have: a ``title`` for readers, and the ``logits`` [N, K] of one output, a clip's mean
    over its views, with the ``present`` [N] clips that it has."""

    title: str
    logits: np.ndarray
    present: np.ndarray


class Clips(NamedTuple):
    """What all members are scored on: the ``label`` [N] of each clip, in one ``head``, its ``kind``, and the
    clips' names ``id`` [N]."""

    head: str
    label: np.ndarray
    kind: str = "single"
    id: np.ndarray = np.zeros(0, str)


class Figure(NamedTuple):
    """How an ensemble of ``members`` (indices) does: top-1 and top-5 (None of five classes or fewer), or mAP."""

    members: tuple[int, ...]
    value: float
    five: float | None
    multi: bool = False


def gathered(
    scores: Mapping[str, tuple[Scores, str]], head: str = "", *, unlabelled: bool = False
) -> tuple[list[Member], Clips]:
    """Brings {title: (scores, output)} together: the same clips in one order, those that have labels, or all with
    ``unlabelled``.

    ``head`` is needed where there are several. Raises ValueError for scores of other clips, data or classes, for
    an output that is not there, and for a head that is not.
    """
    for title, (own, output) in scores.items():
        if unknown := [name for name in file.summed(own, output) if name not in own.logits]:
            raise ValueError(f"{title} has no output {unknown[0]!r}; it has {', '.join(own.logits)}")
    alike = combine.aligned({title: own for title, (own, _) in scores.items()})
    if not unlabelled:
        alike = {title: file.labelled(own) for title, own in alike.items()}
    first = next(iter(alike.values()))
    if not len(first.id):
        raise ValueError("no clip has a label: there is nothing to score")
    head = _head(first, head)
    found = []
    for title, own in alike.items():
        logits, present = file.of_output(own, scores[title][1], head)
        found.append(Member(title, _said(own, logits, head), present & metrics.finite(logits)))
    kind = "single" if first.label[head].ndim == 1 else "multi"
    return found, Clips(head, first.label[head], kind, first.id)


def _said(scores: Scores, logits: np.ndarray, head: str) -> np.ndarray:
    """Returns what is added up: mean logits over views, and of several labels that were learnt by a softmax, where
    logits alone do not rank clips, its logarithm."""
    mean = numbers.aggregate(logits, "logits")
    several = scores.label[head].ndim > 1
    if several and file.probabilities_of(scores, head) == "single":
        return combine.log_probabilities(mean)
    return mean


def _head(scores: Scores, head: str) -> str:
    known = list(scores.label)
    if not head and len(known) > 1:
        raise ValueError(f"the clips have labels in {', '.join(known)}: name one of them, --head={known[0]}")
    if head and head not in known:
        raise ValueError(f"there are no labels {head!r}; there are {', '.join(known)}")
    return head or known[0]


def together(
    members: Sequence[Member], chosen: Iterable[int], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Adds up the logits of the ``chosen`` members, by ``weights`` where they are given: [N, K].

    A member that lacks a clip is left out of that clip's sum (MML's test code adds logits; its models lack none).
    """
    total, chosen = 0.0, [*chosen]
    for index, weight in zip(chosen, [1.0] * len(chosen) if weights is None else weights):
        own = members[index]
        total = total + weight * np.where(own.present[:, None], own.logits, 0)
    return total


def submission(members: Sequence[Member], clips: Clips, chosen: Iterable[int], weights=None) -> str:
    """Writes the sum of the ``chosen`` members as Something-Something v2's test takes it: a line for each clip,
    its name and the five likeliest class ids, with semicolons between.

    Raises ValueError for a clip that no member has, and for labels of other kinds or of fewer than five classes.
    """
    chosen = tuple(chosen)
    sums = together(members, chosen, weights)
    there = np.any([members[index].present for index in chosen], axis=0)
    if clips.kind != "single" or sums.shape[-1] < 5:
        raise ValueError(
            f"{clips.head!r} is no head of one label of five classes or more: it has no five likeliest"
        )
    if not there.all():
        lacking = clips.id[~there].tolist()
        raise ValueError(f"{len(lacking)} clips have no scores of any member, {lacking[0]!r} among them")
    best = np.argsort(-sums, axis=-1, kind="stable")[:, :5]
    return "".join(f"{name};{';'.join(map(str, row))}\n" for name, row in zip(clips.id.tolist(), best.tolist()))


def figure(members: Sequence[Member], clips: Clips, chosen: Iterable[int], weights=None) -> Figure:
    """Scores the sum of the ``chosen`` members; a clip that none of them has is a miss."""
    chosen = tuple(chosen)
    sums = together(members, chosen, weights)
    there = np.any([members[index].present for index in chosen], axis=0)
    if clips.kind == "multi":
        # Last of all, as in the tables of runs.
        sums = np.where(there[:, None], sums, -np.inf)
        return Figure(chosen, metrics.mean_average_precision(sums, clips.label) or 0.0, None, True)
    top = lambda k: float((metrics.top_k_hits(sums, clips.label, k) * there).mean())  # noqa: E731
    return Figure(chosen, top(1), top(5) if sums.shape[-1] > 5 else None)


def combinations(members: Sequence[Member], clips: Clips, sizes: Iterable[int] = (1, 2, 3)) -> list[Figure]:
    """Scores every ensemble of so many of the members: all singles, pairs and triples."""
    return [
        figure(members, clips, chosen)
        for size in sizes
        for chosen in itertools.combinations(range(len(members)), size)
    ]


def product(members: Sequence[Member], clips: Clips, parts: Sequence[Sequence[int]]) -> list[Figure]:
    """Scores every ensemble of one member of each part: MML's tables 11 (RGB and flow), 12 and 13 (with Diff)."""
    return [figure(members, clips, chosen) for chosen in itertools.product(*parts)]


def in_turn(counts: Sequence[int]) -> list[range]:
    """The members of each part where one part comes after the other, of so many each."""
    ends = list(itertools.accumulate(counts))
    return [range(end - count, end) for end, count in zip(ends, counts)]


def rank_sums(figures: Sequence[Figure]) -> dict[int, int]:
    """Sums, for each member, the places of the ensembles that it is in: {member: sum}; less is better.

    Places count from 0, the best top-1 first, equal ones by top-5 and then in the order that they come in. MML's
    table 13 shows that rule: of its 858 ensembles RGB's sums add up to 858 x 857 / 2.
    """
    order = sorted(range(len(figures)), key=lambda i: (-figures[i].value, -(figures[i].five or 0), i))
    found: dict[int, int] = {}
    for place, index in enumerate(order):
        for member in figures[index].members:
            found[member] = found.get(member, 0) + place
    return found


def tuned(members: Sequence[Member], clips: Clips, chosen: Sequence[int], step: float = 0.1) -> tuple[float, ...]:
    """Finds the weights, multiples of ``step`` of sum 1, by which the ``chosen`` members do best on these clips;
    of equal ones the nearest to equal weights. Give it clips that nothing is reported on. Raises ValueError for
    members that can be weighed in more ways than MOST_WAYS."""
    parts = round(1 / step)
    if (ways := math.comb(parts + len(chosen) - 1, parts)) > MOST_WAYS:
        raise ValueError(
            f"{len(chosen)} members have {ways:,} ways to be weighed in steps of {step:g}: weigh fewer of them"
        )
    even = 1 / len(chosen)

    def rated(counts: tuple[int, ...]) -> tuple[float, float]:
        own = tuple(count / parts for count in counts)
        return -figure(members, clips, chosen, own).value, sum((weight - even) ** 2 for weight in own)

    best = min(_shares(parts, len(chosen)), key=rated)
    return tuple(count / parts for count in best)


def _shares(whole: int, count: int) -> Iterable[tuple[int, ...]]:
    """All ways to share ``whole`` out among so many."""
    if count == 1:
        yield (whole,)
        return
    for own in range(whole + 1):
        for rest in _shares(whole - own, count - 1):
            yield (own, *rest)
