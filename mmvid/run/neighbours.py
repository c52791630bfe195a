"""Measures what a network knows before it has learnt, by the accuracy of nearest neighbours among features of
random weights (DMCL, figure 3). A modality whose raw structure gives labels away starts ahead, and wins early.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from mmvid import files, infer, sharding
from mmvid.data import pipeline, workers
from mmvid.data.example import Eval
from mmvid.logs import LOG
from mmvid.network import draw_weights
from mmvid.plans.segment import Segment
from mmvid.run import feed
from mmvid.run.build import Run
from mmvid.scores import evaluate, metrics
from mmvid.streams import Views

# At most so many clips, evenly spread: of a large dataset they are enough.
TRAIN_CLIPS, TEST_CLIPS = 5000, 2000


class Some:
    """A source of ``count`` rows of another one, evenly spread, or all where there are fewer. Worker processes
    can be sent one: it pickles."""

    def __init__(self, source, count: int):
        self.source = source
        self.rows = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict:
        return self.source[int(self.rows[row])]


def _features(run: Run, segment: Segment, source, describe) -> dict:
    """{'features': {output: [N, D]}, 'label': [N], 'present': {output: [N]}} of a source's N clips."""
    config = run.config
    # One vote needs one class a clip: the first head that gives one.
    head = next(name for name, spec in segment.heads.items() if spec.kind == "single")
    streams, views = feed.scored_streams(segment), Views("val", resize=config.evaluation.resize)
    spec = Eval(source, streams, segment.heads, config.size, config.evaluation.batch_size, views)
    batches = workers.iterate(pipeline.eval_dataset(spec), workers.Loader(**config.loader))
    parts = []
    try:
        for batch in batches:
            group = batch["main"]
            # The last batch is filled up; its mask says which rows are clips.
            features, keep = describe(batch), group["mask"]
            present = evaluate.presence(group, segment.needs)
            part = {"features": features, "label": group["label"][head], "present": present}
            parts.append(jax.tree.map(lambda x, keep=keep: np.asarray(x)[keep], part))
    finally:
        batches.close()
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def _accuracies(known: dict, asked: dict, ks: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """{output: {k: accuracy}} of the clips ``asked`` among the clips ``known``. Only clips that have the
    output's modalities and a label count; without any the accuracy is None."""
    found = {}
    for output in known["features"]:
        a, b = (x["present"][output] & (x["label"] >= 0) for x in (known, asked))
        neighbours = known["features"][output][a], known["label"][a]
        clips = asked["features"][output][b], asked["label"][b]
        found[output] = {str(k): metrics.knn_accuracy(*neighbours, *clips, k) for k in ks}
    return found


def _why_none(segment: Segment | None) -> str:
    """Why a segment has no nearest neighbours, as the end of a sentence; '' where it has."""
    if segment is None:
        return "no segment is scored"
    if not any(spec.kind == "single" for spec in segment.heads.values()):
        return "its label spaces are all of kind 'multi': a clip has no one class to vote for"
    if not any(group.labels for group in segment.groups.values()):
        return f"segment {segment.name!r} learns from no labelled clips, among which to look"
    return ""


def _made(run: Run, segment: Segment) -> dict:
    """The accuracies of a segment that learns from labelled clips, as `_accuracies` gives them."""
    params, stats = draw_weights(segment, run.config.size, run.config.seed)
    describe = jax.jit(infer.make_describe(segment.networks, segment.streams, tuple(segment.needs)))
    # No `enter` is called: handed-over weights would be no random ones.
    collect = functools.partial(_features, run, segment, describe=functools.partial(describe, params, stats))
    labelled = next(group for group in segment.groups.values() if group.labels)
    # The labelled clips' dataset, which need not be the main one, is also what the segment is scored on.
    dataset = run.datasets[segment.dataset]
    known = collect(Some(dataset.split(labelled.split), TRAIN_CLIPS))
    asked = collect(Some(dataset.split(segment.evaluate[0]), TEST_CLIPS))
    return _accuracies(known, asked, run.config.evaluation.neighbours)


def write(run: Run) -> None:
    """Writes ``workdir/neighbours.json``, {output: {k: accuracy}}, where ``evaluation.neighbours`` asks for a
    k that it does not hold yet.

    The features are those of the first scored segment's initial weights; clips of its first evaluated split
    look for neighbours among the labelled ones that it learns from. Every process computes all of it, so that
    none waits for another, and process 0 writes. A run that has none (`_why_none`) is told why.
    """
    ks, path = run.config.evaluation.neighbours, run.workdir / "neighbours.json"
    # Of an earlier call; a damaged file is made again.
    there = next(iter(files.read_note(path).values()), {})
    if not set(map(str, ks)) - set(there):
        return
    # The stills' segment, which comes first, is not scored.
    segment = next((s for s in run.segments if s.evaluate), None)
    if reason := _why_none(segment):
        LOG.warning("evaluation.neighbours=%s asks in vain: %s", ks, reason)
        return
    made = _made(run, segment)
    sharding.meet("neighbours")
    if jax.process_index() == 0:
        files.write_json(path, made)
        LOG.info("nearest neighbours among features of random weights: %s", path)
