"""Predicts long clips window by window: which label they show from when to when."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from mmvid.data import clips
from mmvid.data.media import files as files_lib
from mmvid.data.media import windows as windows_lib
from mmvid.data.media.item import Item, Refused, printable
from mmvid.data.media.windows import Window
from mmvid.plans.segment import Segment
from mmvid.run import feed
from mmvid.run import predict as predict_lib
from mmvid.run.build import Run
from mmvid.run.predict import Prediction
from mmvid.streams import Head

# Of a head of several labels those count that are likelier than not, of one label the likeliest, however unsure.
LEAST = {"single": 0.0, "multi": 0.5}


class Span(NamedTuple):
    """The seconds of a film from ``start`` to ``end``, in which so many ``windows`` one after another have the
    ``label``, with this ``probability`` on average, by the outputs ``members``, while the modalities ``missing``
    are not there."""

    start: float
    end: float
    label: str
    probability: float
    windows: int
    members: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Timeline(NamedTuple):
    """What a run says of the clip ``id``, window by window, or in ``reason`` why it says nothing.

    ``spans`` {head: Spans} are in the order of their starts; those of several heads, 'noun and verb', as of one.
    ``windows`` is how many were looked at, ``unread`` [(start, end, reason)] what says nothing, and ``lacking``
    [(start, end, modality)] what is not there for a while. Whatever else is here is as in a Prediction: ``used``
    of any window, ``missing`` of all, ``members`` of the first that says something; each span has its own.
    """

    id: str
    reason: str = ""
    path: str = ""
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    windows: int = 0
    spans: Mapping[str, Sequence[Span]] = {}
    unread: tuple[tuple[float, float, str], ...] = ()
    lacking: tuple[tuple[float, float, str], ...] = ()


# Why the rest of a clip is unread when the user stops.
INTERRUPTED = "interrupted"


class Asked(NamedTuple):
    """Windows of ``length`` seconds, one every ``stride`` seconds. Labels under the ``threshold`` do not count;
    None stands for LEAST."""

    length: float
    stride: float
    threshold: float | None = None


# ---------------------------------------------------------------------------- from windows to spans
class Cell(NamedTuple):
    """The seconds that a window speaks for, and the ``labels`` {label: probability} that it has, by the outputs
    ``members`` without the modalities ``missing``."""

    start: float
    end: float
    labels: Mapping[str, float]
    members: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def shares(windows: Sequence[Window]) -> list[Window]:
    """Returns the seconds that each window speaks for. Two that overlap share what both see: up to its middle, it
    is the first one's."""
    middles = [(before.end + after.start) / 2 for before, after in itertools.pairwise(windows)]
    starts, ends = [windows[0].start, *middles], [*middles, windows[-1].end]
    # Where there is a gap between two, nobody speaks for it.
    return [Window(max(start, w.start), min(end, w.end)) for start, end, w in zip(starts, ends, windows)]


def joined(cells: Sequence[Cell | None]) -> list[Span]:
    """Joins neighbouring cells that have a label to spans, in the order of their starts; None stands for a window
    that says nothing. A span ends where other outputs answer, whose probabilities have no common mean."""

    def of(cell: Cell | None, label: str) -> tuple | None:
        return (cell.members, cell.missing) if cell is not None and label in cell.labels else None

    found: list[Span] = []
    for label in dict.fromkeys(label for cell in cells if cell for label in cell.labels):
        for by, run in itertools.groupby(cells, key=functools.partial(of, label=label)):
            if by is not None:
                own = list(run)
                probability = sum(cell.labels[label] for cell in own) / len(own)
                found.append(Span(own[0].start, own[-1].end, label, probability, len(own), *by))
    return sorted(found, key=lambda span: span.start)


def _labels(found: Prediction, heads: Mapping[str, Head], threshold: float | None) -> dict[str, dict[str, float]]:
    """Returns {head: {label: probability}} of what counts in a window."""
    counted: dict[str, dict[str, float]] = {}
    for head in predict_lib.heads_of(found):
        kind = heads[head].kind if head in heads else "single"
        least = LEAST[kind] if threshold is None else threshold
        # Of one label there is one answer; of several, each class is one.
        best = found.best(len(found.names[head]) if kind == "multi" else 1, head)
        counted[head] = {label: probability for label, probability in best if probability >= least}
    return counted


# ---------------------------------------------------------------------------- clip by clip
class Part(NamedTuple):
    """Some ``windows`` of an ``item``, which are read together; it is the clip of this ``number`` and has so many
    windows in the ``whole``, which reach to its ``end``; none where it is Refused."""

    number: int
    item: Item | Refused
    windows: Sequence[Window]
    whole: int
    end: float = 0.0


class Said(NamedTuple):
    """What is kept of a window's Prediction: ``labels`` {head: {label: probability}}, and the rest as there."""

    window: Window
    reason: str
    labels: Mapping[str, Mapping[str, float]]
    used: tuple[str, ...]
    missing: tuple[str, ...]
    members: tuple[str, ...]


def _parts(items: Iterable[Item | Refused], asked: Asked, size: int) -> Iterator[Part]:
    """Yields the windows of each clip, up to ``size`` of them at a time."""
    for number, item in enumerate(items):
        try:
            found = [] if isinstance(item, Refused) else windows_lib.of(item, asked.length, asked.stride)
        except Exception as error:  # whatever it is, other clips go on
            item, found = Refused(item.id, item.path, files_lib.reason(error)), []
        for first in range(0, len(found) or 1, size):
            yield Part(number, item, found[first : first + size], len(found), found[-1].end if found else 0.0)


def _said(window: Window, found: Prediction, heads: Mapping[str, Head], threshold: float | None) -> Said:
    labels = {} if found.reason else _labels(found, heads, threshold)
    return Said(window, found.reason, labels, found.used, found.missing, found.members)


def _timeline(item: Item | Refused, found: Sequence[Said]) -> Timeline:
    """Puts together what is said of a clip's windows."""
    path = printable(str(item.path or ""))
    if isinstance(item, Refused):
        return Timeline(item.id, item.reason, path)
    said = [own for own in found if not own.reason]
    unread = tuple((*own.window, own.reason) for own in found if own.reason)
    if not said:
        return Timeline(item.id, unread[0][2], path, windows=len(found), unread=unread)
    seconds = shares([own.window for own in found])
    spans = {}
    for head in said[0].labels:
        spans[head] = joined([
            None if own.reason else Cell(*share, own.labels[head], own.members, own.missing)
            for share, own in zip(seconds, found)
        ])  # fmt: skip
    used = tuple(dict.fromkeys(field for own in said for field in own.used))
    missing = tuple(field for field in said[0].missing if field not in used)
    lacking = _lacking(seconds, found, used)
    return Timeline(item.id, "", path, used, missing, said[0].members, len(found), spans, unread, lacking)


def _lacking(
    seconds: Sequence[Window], found: Sequence[Said], used: Sequence[str]
) -> tuple[tuple[float, float, str], ...]:
    """Returns [(start, end, modality)] of those ``used`` that some windows, which speak for ``seconds``, lack."""
    lacks = [Cell(*share, dict.fromkeys(own.missing, 1.0)) for share, own in zip(seconds, found)]
    return tuple((own.start, own.end, own.label) for own in joined(lacks) if own.label in used)


def _broken(part: Part, found: Sequence[Said]) -> Timeline:
    """Puts together what is said of a clip, of which a ``part`` is the last one read, when the user stops."""
    if not found:
        return Timeline(part.item.id, INTERRUPTED, printable(str(part.item.path or "")))
    told = _timeline(part.item, found)
    return told._replace(unread=(*told.unread, (found[-1].window.end, part.end, INTERRUPTED)))


def watcher(
    run: Run, segment: Segment, asked: Asked, *, flow: str = "as-trained", workers: int = 0, cache: str = ""
) -> Callable[[Iterable], Iterator[Timeline]]:
    """Returns watch(items), which yields a Timeline for each clip, in order; of what is Refused it holds the
    reason. Where it is interrupted, what is known of a clip comes before the KeyboardInterrupt. However long a
    clip is, the pictures of a batch of windows are held, and those that workers make ahead.

    Arguments and errors are those of `predict.predictor`.
    """
    answer, size = predict_lib.answering(run, segment), feed.eval_batch_size(run)
    make = functools.partial(clips.in_windows, **predict_lib.preparing(run, segment, flow))

    def answered(part: Part, records: Sequence[dict | str]) -> Iterator[Said]:
        predictions = answer([part.item] * len(records), records)
        for window, found in zip(part.windows, predictions):
            yield _said(window, found, segment.heads, asked.threshold)

    def watch(items: Iterable[Item | Refused]) -> Iterator[Timeline]:
        own, theirs = itertools.tee(_parts(items, asked, size))
        # Plain jobs: a worker that is handed a Part would import JAX to know it.
        read = zip(own, clips.each(make, ((p.item, p.windows) for p in theirs), workers, cache))
        for part, group in itertools.groupby(read, key=lambda pair: pair[0]._replace(windows=())):
            found: list[Said] = []
            try:
                with tqdm(total=part.whole, unit="window", leave=False, disable=None, dynamic_ncols=True) as bar:
                    for own_part, records in group:
                        found += answered(own_part, records)
                        bar.update(len(own_part.windows))
            except KeyboardInterrupt:
                yield _broken(part, found)
                raise
            yield _timeline(part.item, found)

    return watch
