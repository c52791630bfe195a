"""Tells what was found of a dataset: what there is and what is wrong with it, in words and as JSON holds it."""

import collections
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import usage
from mmvid.data import checkup, fields
from mmvid.data.checkup import Problem
from mmvid.data.copies import LEARNT
from mmvid.data.examine import Clip
from mmvid.data.records import Dataset
from mmvid.report.text import aligned
from mmvid.streams import Head

# Clips that a line names, and those that it asks to look at.
NAMED, LOOKED_AT = 3, 6


class Examined(NamedTuple):
    """What was found of a dataset: all ``clips`` of its splits, {split: how many are ``expected``}, and the
    ``problems``, of which ``bad`` would spoil a score."""

    dataset: Dataset
    heads: Mapping[str, Head]
    expected: Mapping[str, int]
    clips: Sequence[Clip]
    problems: Sequence[Problem]
    bad: Sequence[Problem]

    @property
    def sizes(self) -> dict[str, int]:
        """Of how many clips a problem of some is told: {split: those expected, or there where none are}."""
        there = collections.Counter(clip.split for clip in self.clips)
        return {split: n or there[split] for split, n in self.expected.items()}


# ---------------------------------------------------------------------------- in numbers
def counts(found: Examined) -> dict[str, dict]:
    """Counts clips by split: {split: 'clips', 'expected', 'fields' {field: clips}, 'classes' {head: {class:
    clips}}}."""
    counted = {}
    for split, expected in found.expected.items():
        own = [clip for clip in found.clips if clip.split == split]
        shown = {name: collections.Counter(k for clip in own for k in clip.classes.get(name, ()))
                 for name in found.heads}  # fmt: skip
        counted[split] = {
            "clips": len(own),
            "expected": expected,
            "fields": {field: sum(field in clip.fields for clip in own) for field in fields.FIELDS},
            "classes": {
                name: {head.named(k): shown[name][k] for k in range(head.classes)}
                for name, head in found.heads.items()
            },
        }
    return counted


def _of_field(field: str, measure: str) -> Callable[[Clip], float]:
    return lambda clip: clip.numbers.get((field, measure), np.nan)


def _measures() -> dict[str, Callable[[Clip], float]]:
    """Names what is measured of a clip: its length, rate and size, and the measures of every field."""
    found = {
        "frames": lambda clip: clip.frames or np.nan,
        "seconds": lambda clip: clip.frames / clip.rate if clip.frames else np.nan,
        "frames a second": lambda clip: clip.rate,
        "width, px": lambda clip: clip.size[0] or np.nan,
        "height, px": lambda clip: clip.size[1] or np.nan,
    }
    for field, row in fields.FIELDS.items():
        for measure in row.measures:
            name = measure.name if measure.name == field else f"{field}, {measure.name}"
            unit = f" ({measure.unit})" if measure.unit else ""
            found[name + unit] = _of_field(field, measure.name)
    return found


def measured(found: Examined) -> dict[str, dict[str, list[float]]]:
    """Measures the clips: {measure that any clip has: {split: a number of each clip that has it}}."""
    collected = {}
    for name, of in _measures().items():
        every = {split: [of(clip) for clip in found.clips if clip.split == split] for split in found.expected}
        known = {split: [float(n) for n in own if not np.isnan(n)] for split, own in every.items()}
        if any(known.values()):
            collected[name] = known
    return collected


def _spread(numbers: Sequence[float]) -> list[float]:
    """Returns [median, least, most]; [] of no numbers."""
    return [float(f(numbers)) for f in (np.median, np.min, np.max)] if numbers else []


def plain(found: Examined) -> dict:
    """What was found as JSON holds it."""
    info = found.dataset.info
    return {
        "dataset": info.name,
        "path": str(found.dataset.root),
        "fingerprint": info.fingerprint,
        "spoilt": bool(found.bad),
        "splits": counts(found),
        "median, least, most": {
            name: {split: _spread(own) for split, own in every.items()} for name, every in measured(found).items()
        },
        "problems": [
            {
                "what": problem.what,
                "kind": problem.kind,
                "spoils": problem in found.bad,
                "advice": problem.advice,
                "clips": {
                    split: [{"id": name, "note": note} for name, note in own]
                    for split, own in problem.clips.items()
                },
            }
            for problem in found.problems
        ],
    }


# ---------------------------------------------------------------------------- in words
def _counted(found: Examined) -> str:
    rows = [["", "clips", "expected", *fields.FIELDS, *(f"classes of {name}" for name in found.heads)]]
    for split, own in counts(found).items():
        classes = [f"{sum(map(bool, n.values()))} of {len(n)}" for n in own["classes"].values()]
        rows.append([split, str(own["clips"]), str(own["expected"]), *map(str, own["fields"].values()), *classes])
    return aligned(rows, right=range(1, len(rows[0])))


def _measured(found: Examined) -> str:
    rows = [["median [least, most]", *found.expected]]
    for name, every in measured(found).items():
        # A negative zero would look like a mistake.
        spreads = [[round(n, 1) + 0.0 for n in _spread(own)] for own in every.values()]
        rows.append([name, *("{:g} [{:g}, {:g}]".format(*own) if own else "-" for own in spreads)])
    return aligned(rows)


def _named(clip: checkup.Named) -> str:
    return " ".join(filter(None, clip))


def said(problem: Problem, sizes: Mapping[str, int], *, spoils: bool) -> str:
    """Writes a problem: of how many clips it is, what it is, some of them, and what to do."""
    numbers = ", ".join(
        f"{len(own)} of {sizes.get(split, 0)} {split} clips" for split, own in problem.clips.items()
    )
    every = [_named(clip) for own in problem.clips.values() for clip in own if clip[0]]
    some = f" ({', '.join(every[:NAMED])}{', ..' * (len(every) > NAMED)})" if every else ""
    some += f" [{problem.kind}]" * problem.spoils
    head = "spoils: " if spoils else "note:   "
    lines = (
        usage.folded(head, f"{numbers} {problem.what}{some}".strip()),
        usage.folded(" " * len(head), f"-> {problem.advice}"),
    )
    return "\n".join(lines)


def _to_see(found: Examined) -> list[str]:
    """The command that shows some clips that a problem is of."""
    there = {clip.id for clip in found.clips if clip.content is not None}
    every = [name for problem in found.problems for own in problem.clips.values() for name, _ in own]
    chosen = [name for name in dict.fromkeys(every) if name in there and "," not in name][:LOOKED_AT]
    root, ids = shlex.quote(str(found.dataset.root)), shlex.quote(",".join(chosen))
    return [f"to see some: python -m mmvid browse {root} --ids={ids}"] if chosen else []


def text(found: Examined) -> str:
    """Writes what was found for people: what there is, then what is wrong with it."""
    info, sizes = found.dataset.info, found.sizes
    expected = sum(found.expected.values())
    tables = f"{_counted(found)}\n\n{_measured(found)}\n"
    lines = [f"{info.name} ({info.fingerprint}): {len(found.clips)} of {expected} clips\n", tables]
    lines += [said(problem, sizes, spoils=problem in found.bad) for problem in found.problems]
    if LEARNT in info.splits and LEARNT not in found.expected:
        lines.append(f"note:   {LEARNT} was not looked at: nobody knows whether its clips are here, too")
    return "\n".join([*lines, *_to_see(found)])
