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
    ``label``, with this ``probability`` on average."""

    start: float
    end: float
    label: str
    probability: float
    windows: int


class Timeline(NamedTuple):
    """What a run says of the clip ``id``, window by window, or in ``reason`` why it says nothing.

    ``spans`` {head: Spans} are in the order of their starts; those of several heads, 'noun and verb', as of one.
    ``windows`` is how many there are, ``unread`` [(start, end, reason)] which of them say nothing. Whatever else
    is here is as in a Prediction, of all windows.
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


class Asked(NamedTuple):
    """Windows of ``length`` seconds, one every ``stride`` seconds. Labels under the ``threshold`` do not count;
    None stands for LEAST."""

    length: float
    stride: float
    threshold: float | None = None


# ---------------------------------------------------------------------------- from windows to spans
class Cell(NamedTuple):
    """The seconds that a window speaks for, and the ``labels`` {label: probability} that it has."""

    start: float
    end: float
    labels: Mapping[str, float]


def shares(windows: Sequence[Window]) -> list[Window]:
    """Returns the seconds that each window speaks for. Two that overlap share what both see: up to its middle, it
    is the first one's."""
    middles = [(before.end + after.start) / 2 for before, after in itertools.pairwise(windows)]
    starts, ends = [windows[0].start, *middles], [*middles, windows[-1].end]
    # Where there is a gap between two, nobody speaks for it.
    return [Window(max(start, w.start), min(end, w.end)) for start, end, w in zip(starts, ends, windows)]


def joined(cells: Sequence[Cell | None]) -> list[Span]:
    """Joins neighbouring cells that have a label to spans, in the order of their starts; None stands for a window
    that says nothing."""
    found: list[Span] = []
    for label in dict.fromkeys(label for cell in cells if cell for label in cell.labels):
        for has, run in itertools.groupby(cells, key=lambda cell: cell is not None and label in cell.labels):
            if has:
                own = list(run)
                probability = sum(cell.labels[label] for cell in own) / len(own)
                found.append(Span(own[0].start, own[-1].end, label, probability, len(own)))
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
    windows in the ``whole``, none where it is Refused."""

    number: int
    item: Item | Refused
    windows: Sequence[Window]
    whole: int


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
            yield Part(number, item, found[first : first + size], len(found))


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
        cells = [None if own.reason else Cell(*share, own.labels[head]) for share, own in zip(seconds, found)]
        spans[head] = joined(cells)
    used = tuple(dict.fromkeys(field for own in said for field in own.used))
    missing = tuple(field for field in said[0].missing if field not in used)
    return Timeline(item.id, "", path, used, missing, said[0].members, len(found), spans, unread)


def watcher(
    run: Run, segment: Segment, asked: Asked, *, flow: str = "as-trained", workers: int = 0, cache: str = ""
) -> Callable[[Iterable], Iterator[Timeline]]:
    """Returns watch(items), which yields a Timeline for each clip, in order; of what is Refused it holds the
    reason. However long a clip is, the pictures of a batch of windows are held, and those that workers make ahead.

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
        for _, group in itertools.groupby(read, key=lambda pair: pair[0].number):
            found: list[Said] = []
            with tqdm(unit="window", leave=False, disable=None, dynamic_ncols=True) as bar:
                for part, records in group:
                    bar.total = part.whole
                    found += answered(part, records)
                    bar.update(len(part.windows))
            yield _timeline(part.item, found)

    return watch
