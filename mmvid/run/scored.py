"""Clips of a run's dataset as an `Export` takes them, beside what the run's own file of scores says of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmvid.data import augment, cut, example, records
from mmvid.plans.segment import Segment
from mmvid.run import feed
from mmvid.run.build import Run
from mmvid.scores import file
from mmvid.scores.file import Scores
from mmvid.streams import Stream, form_of


class Scored(NamedTuple):
    """Clips of ``split``: ``inputs`` {stream: [n, *shape]} and ``logits`` {output: {head: [n, V, K]}}."""

    split: str
    inputs: dict[str, np.ndarray]
    logits: dict[str, dict[str, np.ndarray]]


def _split(run: Run, segment: Segment) -> tuple[str, records.Source, Scores] | None:
    """The first split that was scored in the way that is exported, its clips and scores; or None."""
    own, path = run.config.evaluation, run.config.dataset.path
    if segment.dataset != "dataset":
        path = run.config.datasets[segment.dataset].path
    dataset = records.open_dataset(path)
    # Subsets are made anew by a run that trains, and are no splits of the files.
    for split in (split for split in segment.scored if split in dataset.info.splits):
        scores = file.load(run.workdir / segment.name / "scores" / f"{split}.npz")
        alike = all(scores.meta.get(name) == own[name] for name in ("protocol", "crops", "variant", "resize"))
        if alike and scores.meta.get("fingerprint") == dataset.info.fingerprint:
            return split, dataset.split(split), scores
    return None


def _pictures(stream: Stream, decoded: Mapping, frames: np.ndarray) -> np.ndarray:
    """Lists the pictures that a stream reads, one after another: uint8 [clips * T * stack, H, W, C]."""
    index, pictures = decoded[cut.field_of(stream)]
    return cut.widened(pictures, stream)[np.searchsorted(index, frames.ravel())]


def _inputs(record: dict, spec: example.Eval) -> dict[str, np.ndarray]:
    """What an export takes of a clip that lacks nothing: {stream: [*shape]}."""
    frames = example.test_frames(spec, record["id"], cut.lengths(record, spec.streams))
    decoded = cut.read(record, spec.streams, frames)
    pictured = [s for s in spec.streams if form_of(s).cut == "pictures"]
    others = [s for s in spec.streams if s not in pictured]
    _, side = augment.test_windows(record["height"], record["width"], spec.size, spec.views)
    made = cut.cut(record, {}, others, frames, cut.Show({}, side))
    return {s.name: _pictures(s, decoded, frames[s.name]) for s in pictured} | {
        name: x.reshape(-1, *x.shape[2:]) for name, x in made.items()
    }


def _read(run: Run, segment: Segment, shapes: Mapping, count: int) -> Scored | None:
    found = _split(run, segment)
    if found is None:
        return None
    split, source, scores = found
    views = feed.views(run, run.config.evaluation.protocol, run.config.evaluation.crops)
    spec = example.Eval(source, feed.scored_streams(segment), segment.heads, run.config.size, 1, views)
    present = [scores.present[output] for output in segment.needs]
    rows, taken = np.flatnonzero(np.all(present, axis=0)), {}
    # Where pictures have many sizes not every clip is looked at.
    for row in rows[: 10 * count]:
        own = _inputs(source[int(scores.row[row])], spec)
        if all(own[name].shape == shape for name, shape in shapes.items()):
            taken[int(row)] = own
        if len(taken) == count:
            break
    if not taken:
        return None
    inputs = {name: np.stack([own[name] for own in taken.values()]) for name in shapes}
    return Scored(split, inputs, file.rows(scores, np.array(list(taken))).logits)


def clips(run: Run, segment: Segment, shapes: Mapping[str, tuple[int, ...]], count: int) -> Scored | None:
    """Reads the first ``count`` scored clips that lack nothing and have the ``shapes`` of an export's streams.

    None where there is none of them: the dataset has gone since, or is damaged, or was scored in another way.
    """
    try:
        return _read(run, segment, shapes, count)
    except (OSError, ValueError):
        # An export needs no dataset: it only says more of itself where there is one.
        return None
