"""Finds in a dataset what would spoil a score: clips that are in two splits, classes that nobody learns, what is
missing, damaged or shows nothing. It looks at every clip, decodes a few places of each, and needs no network."""

import collections
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import copies, fields
from mmvid.data.copies import LEARNT
from mmvid.data.examine import Clip
from mmvid.streams import Head

# A clip is measured against others of its split: so many times faster or slower than the median is said.
PACE = 2.0
# Classes that a line names.
NAMED = 5

# What would make a score false or end a training, by kind: those that a user may tolerate one by one.
KINDS = ("copies", "ids", "classes", "missing", "index", "damaged", "empty", "unlabelled")

# (id, what is to be said of this clip); the id is '' where nobody knows it.
Named = tuple[str, str]
NOBODY = "", ""


class Problem(NamedTuple):
    """Something that is wrong with ``clips`` {split: which}, or with none in particular, and what to do. What has
    a ``kind``, one of KINDS, would make a score false, or end a training."""

    what: str
    clips: Mapping[str, Sequence[Named]]
    advice: str
    kind: str = ""

    @property
    def spoils(self) -> bool:
        """Whether it would make a score false, or end a training."""
        return bool(self.kind)


# ---------------------------------------------------------------------------- all clips
def _by_split(clips: Iterable[tuple[str, str, str]]) -> dict[str, list[Named]]:
    """Sorts clips, (split, id, what is to be said of it), by their splits."""
    found = collections.defaultdict(list)
    for split, name, note in clips:
        found[split].append((name, note))
    return dict(found)


def _read(clip: Clip) -> bool:
    """Tells whether the record of a clip could be read at all."""
    return clip.content is not None


def _of(clips: Iterable[Clip], wanted: Callable[[Clip], object]) -> dict[str, list[Named]]:
    """Names the clips that are ``wanted``, by split."""
    return _by_split((clip.split, clip.id, "") for clip in clips if wanted(clip))


def _problem(what: str, clips: Mapping[str, Sequence[Named]], advice: str, kind: str = "") -> list[Problem]:
    return [Problem(what, clips, advice, kind)] if clips else []


def shared(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips that are in two splits, by their content."""
    learnt, others = [], []
    for clip, first in copies.same(filter(_read, clips)):
        found = clip.split, clip.id, f"= {first.id} of {first.split}"
        (learnt if first.split == LEARNT else others).append(found)
    once = "keep them in one split alone, and build again"
    return _problem("are training clips, too, by content", _by_split(learnt), once, "copies") + _problem(
        "are in another split of evaluation, too, by content", _by_split(others), once
    )


def alike(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips of evaluation that look like a training clip whose content is another one: as they are,
    mirrored, or with its brightness."""
    sure, changed, other, doubtful, told = [], [], [], [], set()
    for clip, first, alone in copies.alike(clips):
        kind = (other if copies.contradict(clip, first) else sure) if alone else doubtful
        kind.append((clip.split, clip.id, f"= {first.id} of {LEARNT}"))
        told.add((clip.split, clip.id))
    for clip, first, way in copies.altered(clips):
        if (clip.split, clip.id) not in told:
            kind = other if copies.contradict(clip, first) else changed
            kind.append((clip.split, clip.id, f"= {first.id} of {LEARNT}, {way}"))
    advice = "look at both; if they show the same, keep one of them, and build again"
    look = "they may be copies: look at some of them"
    fixed = "look like a training clip that looks like others, as before a camera that stands still"
    place = "look like a training clip of another label, as films of one place do"
    return [
        *_problem("look like training clips that were encoded anew", _by_split(sure), advice, "copies"),
        *_problem(
            "look like training clips once mirrored or made as bright", _by_split(changed), advice, "copies"
        ),
        *_problem(fixed, _by_split(doubtful), look),
        *_problem(place, _by_split(other), look),
    ]


def contradicted(clips: Sequence[Clip]) -> list[Problem]:
    """Finds equal clips of one split that bear different labels."""
    first, found = {}, []
    for clip in filter(_read, clips):
        known = first.setdefault((clip.split, clip.content), clip)
        if known.classes != clip.classes:
            found.append((clip.split, clip.id, f"= {known.id}"))
    what = "are equal to another clip of their split that has another label"
    return _problem(what, _by_split(found), "keep the one whose label is right, and build again")


def doubled(clips: Sequence[Clip]) -> list[Problem]:
    """Finds ids that several clips of a split have: scores are matched by them."""
    counts = collections.Counter((clip.split, clip.id) for clip in clips)
    found = _by_split((split, name, f"{n} times") for (split, name), n in counts.items() if n > 1)
    advice = "give each clip an id of its own, and build again"
    return _problem("have an id that others have", found, advice, "ids")


def untrained(clips: Sequence[Clip], heads: Mapping[str, Head]) -> list[Problem]:
    """Finds clips of evaluation that show a class which no training clip has, and classes that no clip has."""
    found = []
    # A dataset for evaluation alone trains nothing.
    for name, head in heads.items() if any(clip.split == LEARNT for clip in clips) else ():
        own = [clip for clip in clips if name in clip.classes]
        known = {k for clip in own if clip.split == LEARNT for k in clip.classes[name]}
        asked = {k for clip in own for k in clip.classes[name]} - known
        few = _of(own, lambda clip, name=name, asked=asked: asked & set(clip.classes[name]))
        found += _problem(
            f"show a class of {name!r} that no training clip has: {_few(head, asked)}",
            few,
            "they can only be missed: add training clips, or leave them out",
            "classes",
        )
        # What a clip shows that cannot be read, nobody knows.
        if (spare := set(range(head.classes)) - known - asked) and all(map(_read, clips)):
            what = f"{len(spare)} of {head.classes} classes of {name!r} are shown by no clip: {_few(head, spare)}"
            found.append(Problem(what, {}, "nothing learns them: add clips, or build without these names"))
    return found


def _few(head: Head, classes: Collection[int]) -> str:
    """Names up to five classes of a head."""
    names = [repr(head.named(k)) for k in sorted(classes)[:NAMED]]
    return ", ".join(names) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")


def unlabelled(clips: Sequence[Clip], heads: Mapping[str, Head]) -> list[Problem]:
    """Finds clips that have no label in a head of single ones: no score counts them, and a training would take
    the last class for it."""
    found = []
    for name in (name for name, head in heads.items() if head.kind == "single"):
        own = _of(clips, lambda clip, name=name: _read(clip) and not clip.faults and not clip.classes[name])
        learnt = {split: ids for split, ids in own.items() if split == LEARNT}
        others = {split: ids for split, ids in own.items() if split != LEARNT}
        what, advice = f"have no label in {name!r}", "label them, or leave them out"
        found += _problem(what, learnt, f"the last class would be learnt from them: {advice}", "unlabelled")
        found += _problem(what, others, f"no score counts them: {advice}")
    return found


def missing(
    clips: Sequence[Clip], expected: Mapping[str, int], rejected: Mapping[str, Sequence[str]]
) -> list[Problem]:
    """Finds clips that are ``expected`` {split: how many} and not there, or there and not expected: a score is of
    those expected. ``rejected`` {split: ids} names those that a build could not use."""
    there = collections.Counter(clip.split for clip in clips)
    short = {split: n - there[split] for split, n in expected.items() if n > there[split]}
    beyond = {split: n - expected.get(split, 0) for split, n in there.items() if n > expected.get(split, 0)}
    lost = {}
    for split, n in short.items():
        known = [(name, "") for name in rejected.get(split, ())][:n]
        lost[split] = known + [NOBODY] * (n - len(known))
    advice = "mend what rejected.csv names and build again, or say with every score that it is of fewer clips"
    found = []
    for spoils in (True, False):
        # Fewer clips to learn from make no score false, but none at all leave nothing to train.
        own = {split: ids for split, ids in lost.items() if (split != LEARNT or not there[split]) == spoils}
        found += _problem("are expected and missing", own, advice, "missing" * spoils)
    more = {split: [NOBODY] * n for split, n in beyond.items()}
    what = "are more than metadata.json expects"
    return found + _problem(what, more, "run the command that built the dataset again", "index")


def lacking(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips without a field that training clips have, as a film without sound: valid, and each a miss."""
    # What one frame lacks is said by itself: it has no motion.
    read = [clip for clip in clips if _read(clip) and not clip.faults and clip.frames > 1]
    learnt, found = [clip for clip in read if clip.split == LEARNT], []
    for field in fields.FIELDS:
        if any(field in clip.fields for clip in learnt):
            own = _of(read, lambda clip, field=field: field not in clip.fields)
            tests = {split: ids for split, ids in own.items() if split != LEARNT}
            short = {LEARNT: own[LEARNT]} if LEARNT in own else {}
            advice = "each is a miss of whatever reads it"
            found += _problem(f"have no {field}, which training clips have", tests, advice)
            found += _problem(f"have no {field}, which others have", short, "it is learnt from fewer clips")
    return found


def misplaced(clips: Sequence[Clip], index: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Finds clips that the ``index`` {split: ids} does not name, or names at another place: subsets and scores are
    told by it which clip is which."""
    found = []
    for split, ids in index.items():
        own = [clip for clip in clips if clip.split == split]
        for clip, name in itertools.zip_longest(own, ids):
            if clip is None:
                found.append((split, name, "has no record"))
            elif _read(clip) and clip.id != name:
                found.append((split, clip.id, "is not named" if name is None else f"is called {name}"))
    what = "are not what index.json says"
    return _problem(what, _by_split(found), "run the command that built the dataset again", "index")


def damaged(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips that cannot be read: a training ends at the first of them."""
    found = _by_split((clip.split, clip.id, "; ".join(clip.faults)) for clip in clips if clip.faults)
    return _problem("are damaged", found, "run the command that built the dataset again", "damaged")


def suspect(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips that one of their measures is beyond its limit of (`measures.Measure`)."""
    found = []
    for field, row in fields.FIELDS.items():
        for measure in row.measures:
            key = field, measure.name

            def beyond(clip, key=key, measure=measure):
                number = clip.numbers.get(key)
                return number is not None and not measure.least <= number <= measure.most

            own, what = _of(clips, beyond), f"have {field} that {measure.called}"
            tests = {split: ids for split, ids in own.items() if split != LEARNT}
            if measure.spoils and tests:
                found += _problem(f"{what}, and can only be missed", tests, measure.advice, "empty")
                own = {split: ids for split, ids in own.items() if split == LEARNT}
            found += _problem(what, own, measure.advice)
    return found


def uneven(clips: Sequence[Clip]) -> list[Problem]:
    """Finds clips of a single frame, of which a field ends too early, or whose rate is far from the usual one."""
    rates = [clip.rate for clip in clips if not math.isnan(clip.rate)]
    usual = float(np.median(rates)) if rates else math.nan
    single = _of(clips, lambda clip: clip.frames == 1)
    if all(clip.frames <= 1 for clip in clips):  # a dataset of pictures
        single = {}
    found = _problem("have one frame", single, "nothing moves in them: leave them out")
    for field in fields.FIELDS:
        short = _of(clips, lambda c, field=field: 0 < c.fields.get(field, 0) < fields.least(c.frames))
        found += _problem(f"have {field} that ends more than a tenth too early", short, "build again")
    paced = _of(clips, lambda clip: clip.rate < usual / PACE or clip.rate > usual * PACE)
    advice = "what is sampled by frames moves faster or slower in them: convert them to one rate"
    return found + _problem(
        f"have more than {PACE:g} times more or fewer frames a second than most", paced, advice
    )


# ---------------------------------------------------------------------------- the verdict
def unscored(clips: Sequence[Clip]) -> list[Problem]:
    """Finds that there is no clip to score anything on."""
    if any(clip.split != LEARNT for clip in clips) or not clips:
        return []
    return [Problem(f"all clips are of {LEARNT!r}", {}, "nothing can be scored: give some to 'val' and 'test'")]


def problems(
    clips: Sequence[Clip],
    heads: Mapping[str, Head],
    expected: Mapping[str, int],
    index: Mapping[str, Sequence[str]],
    rejected: Mapping[str, Sequence[str]],
) -> list[Problem]:
    """Finds all that is wrong with the ``clips`` of a dataset, what spoils a score first."""
    found = [
        *shared(clips),
        *alike(clips),
        *doubled(clips),
        *untrained(clips, heads),
        *missing(clips, expected, rejected),
        *lacking(clips),
        *misplaced(clips, index),
        *damaged(clips),
        *suspect(clips),
        *contradicted(clips),
        *unlabelled(clips, heads),
        *uneven(clips),
        *unscored(clips),
    ]
    return sorted(found, key=lambda problem: not problem.spoils)


def spoilt(problem: Problem, sizes: Mapping[str, int], tolerated: Mapping[str, float]) -> bool:
    """Tells whether a problem spoils the score of a split: one of more than the share ``tolerated`` of its kind of
    the clips of a split, of as many as ``sizes``."""
    shares = [len(ids) / max(sizes.get(split, 0), 1) for split, ids in problem.clips.items()]
    return problem.spoils and max(shares, default=1.0) > tolerated.get(problem.kind, 0.0)
