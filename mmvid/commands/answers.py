"""Writes what `predict` has found: for people, as JSON, as rows of a CSV, as lines below a film."""

import bisect
import csv
import functools
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data.media.captions import Line
from mmvid.report import text as text_lib
from mmvid.run import predict as predict_lib
from mmvid.run.predict import Prediction, heads_of
from mmvid.run.watch import Span, Timeline

# Lines below a film: of one head so many classes, and in all no more than these.
LINES, MOST = 3, 6

_PRODUCT = "the last table is of the action, all of its heads right: the product of their probabilities"


# ---------------------------------------------------------------------------- for people
def _title(found: Prediction | Timeline, repeated: Collection[str]) -> str:
    """The name of a clip, with its path where the name is among the ``repeated``."""
    return f"{found.id} [{found.path}]" if found.id in repeated else found.id


def _used(found: Prediction | Timeline) -> str:
    """What was used of a clip, and what it lacks."""
    missing = f"; no {', no '.join(found.missing)}" if found.missing else ""
    return f"({', '.join(found.used)}{missing})"


def _columns(found: Prediction) -> dict[str, dict[str, np.ndarray]]:
    """{output: {head: [K]}} of what is shown of a clip: first the sum, or the output that stands for it."""
    return {" + ".join(found.members): found.fused} | {
        output: heads for output, heads in found.probabilities.items() if (output,) != found.members
    }


def text(found: Prediction, repeated: Collection[str] = (), *, topk: int) -> str:
    """Writes a prediction for people: the clip, what was used of it and what it lacks, and a table a head.
    Ids that are ``repeated`` stand with the path of the clip."""
    name = _title(found, repeated)
    if found.reason:
        return f"{name}: not predicted: {found.reason}"
    parts, columns = [f"{name} {_used(found)}"], _columns(found)
    for head in heads_of(found):
        rows = [
            [found.named(head, classes), *(f"{100 * _of(own, head, classes):.1f} %" for own in columns.values())]
            for classes, _ in predict_lib.likeliest(found.fused, head, topk)
        ]
        parts.append(text_lib.aligned([[head, *columns], *rows], right=range(1, 1 + len(columns))))
    return "\n".join([*parts, *([_PRODUCT] if found.together else [])])


def _of(probabilities: Mapping[str, np.ndarray], head: str, classes: Sequence[int]) -> float:
    """The probability of the ``classes`` of a head, or of those of several, 'noun and verb': their product."""
    return float(np.prod([probabilities[own][i] for own, i in zip(head.split(" and "), classes)]))


def timeline_text(found: Timeline, repeated: Collection[str] = ()) -> str:
    """Writes a timeline for people: the clip, what was used of it, and a table of spans a head."""
    name = _title(found, repeated)
    if found.reason:
        return f"{name}: not predicted: {found.reason}"
    said = f"{name} {_used(found)}, {found.windows} window{'s' * (found.windows != 1)}"
    lost = [f"{_seconds(start, end)}: not predicted: {reason}" for start, end, reason in found.unread]
    lacks = [f"no {field} from {start:.2f} to {end:.2f}" for start, end, field in found.lacking]
    tables = [_spans(head, spans, " + ".join(found.members)) for head, spans in found.spans.items()]
    return "\n".join([said, *lacks, *tables, *lost])


def _spans(head: str, spans: Sequence[Span], of: str) -> str:
    """Writes the spans of a head, whose probabilities are those ``of`` an output or a sum; where another one
    answers for some of them, it is named beside each."""
    if not spans:
        return f"{head}: nothing reaches the threshold"
    rows = [[_seconds(own.start, own.end), own.label, f"{100 * own.probability:.1f} %"] for own in spans]
    by = [" + ".join(own.members) or of for own in spans]
    if set(by) != {of}:
        rows = [[*row, own] for row, own in zip(rows, by)]
        return text_lib.aligned([["seconds", head, "probability", "of"], *rows], right=(0, 2))
    return text_lib.aligned([["seconds", head, of], *rows], right=(0, 2))


def _seconds(start: float, end: float) -> str:
    return f"{start:.2f} - {end:.2f}"


# ---------------------------------------------------------------------------- for programs
def _classes(found: Prediction, head: str, probabilities: Mapping[str, np.ndarray], topk: int) -> list[dict]:
    return [
        {"class": found.named(head, classes), "probability": probability}
        for classes, probability in predict_lib.likeliest(probabilities, head, topk)
    ]


def _named(found: Prediction | Timeline) -> dict:
    return {
        "id": found.id,
        "path": found.path,
        "reason": found.reason,
        "used": found.used,
        "missing": found.missing,
        "sum_of": found.members,
    }


def plain(found: Prediction, topk: int) -> dict:
    """A prediction as JSON holds it: the ``topk`` classes of every output, with the action 'noun and verb' of
    several heads as one more, and the logits of all classes."""
    said = {} if found.reason else _columns(found)
    return {
        **_named(found),
        "top": {
            output: {head: _classes(found, head, heads, topk) for head in heads_of(found)}
            for output, heads in said.items()
        },
        "logits": {
            output: {head: own.tolist() for head, own in heads.items()} for output, heads in found.logits.items()
        },
    }


def timeline_plain(found: Timeline) -> dict:
    """A timeline as JSON holds it: the spans of every head, in seconds of the clip's file."""
    return {
        **_named(found),
        "windows": found.windows,
        "unread": [dict(zip(("start", "end", "reason"), own)) for own in found.unread],
        "lacking": [dict(zip(("start", "end", "modality"), own)) for own in found.lacking],
        "timeline": {
            head: [
                {
                    "start": own.start,
                    "end": own.end,
                    "class": own.label,
                    "probability": own.probability,
                    "windows": own.windows,
                    "sum_of": own.members or found.members,
                    "missing": own.missing,
                }
                for own in spans
            ]
            for head, spans in found.spans.items()
        },
    }


def _written(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([header, *rows])
    return written.getvalue()


def table(found: Sequence[Prediction], topk: int) -> str:
    """The CSV: a row for each clip, head, output and class, the sum's classes first."""
    rows: list[list] = []
    for one in map(functools.partial(plain, topk=topk), found):
        if one["reason"]:
            rows.append([one["id"], one["path"], "", "", "", "", "", one["reason"]])
        for output, heads in one["top"].items():
            for head, classes in heads.items():
                for rank, own in enumerate(classes, 1):
                    known = [one["id"], one["path"], head, output]
                    rows.append([*known, rank, own["class"], own["probability"], ""])
    return _written(["id", "path", "head", "output", "rank", "class", "probability", "reason"], rows)


def timeline_table(found: Sequence[Timeline]) -> str:
    """The CSV of timelines: a row for each clip, head and span, with the output or the sum that answers, and for
    what says nothing."""
    rows: list[list] = []
    for one in found:
        lost = one.unread if not one.reason else [("", "", one.reason)]
        rows += [[one.id, one.path, "", "", start, end, "", "", reason] for start, end, reason in lost]
        for head, spans in one.spans.items():
            for own in spans:
                output = " + ".join(own.members or one.members)
                rows.append([one.id, one.path, head, output, *own[:4], ""])
    return _written(["id", "path", "head", "output", "start", "end", "class", "probability", "reason"], rows)


# ---------------------------------------------------------------------------- below a film
class Form(NamedTuple):
    """How answers of a kind are written: one for people, ``text(found, repeated)``, one as JSON holds it,
    ``plain(found)``, all as a CSV, ``table(list)``, and what stands ``below(found)`` a film."""

    text: Callable
    plain: Callable
    table: Callable
    below: Callable


def of_clips(topk: int) -> Form:
    """The form of Predictions, with so many classes of each."""
    how = dict(topk=topk)
    return Form(*(functools.partial(write, **how) for write in (text, plain, table)), below)


class Below(NamedTuple):
    """What stands below a film: the ``lines(second of its file)``, and for how many there is room."""

    lines: Callable[[float], Sequence[Line]]
    rows: int


def _line(head: str, heads: Sequence[str], label: str, share: float) -> Line:
    return Line(label if len(heads) == 1 else f"{head}: {label}", share)


def below(found: Prediction) -> Below:
    """Makes what stands below a film all the time: the likeliest classes of a head, of several heads the likeliest
    of each."""
    heads = heads_of(found)
    count = LINES if len(heads) == 1 else 1
    made = [_line(head, heads, *own) for head in heads for own in found.best(count, head)]
    return Below(lambda second: made, len(made))


def timeline_below(found: Timeline) -> Below:
    """Makes what stands below a film at each second: the spans that it lies in."""
    heads = list(found.spans)
    edges = sorted({edge for spans in found.spans.values() for own in spans for edge in (own.start, own.end)})
    made: list[list[Line]] = [[] for _ in edges]
    for head, spans in found.spans.items():
        for own in spans:
            for place in range(bisect.bisect_left(edges, own.start), bisect.bisect_left(edges, own.end)):
                made[place].append(_line(head, heads, own.label, own.probability))

    def lines(second: float) -> list[Line]:
        place = bisect.bisect_right(edges, second) - 1
        return made[place] if place >= 0 else []

    return Below(lines, min(max([1, *map(len, made)]), MOST))


# The form of Timelines.
OF_TIMELINES = Form(timeline_text, timeline_plain, timeline_table, timeline_below)
