"""Scores a segment on whole splits, while it trains and when it has ended."""

from collections.abc import Callable

import jax
import numpy as np

from mmvid import files, infer, network, sharding
from mmvid.plans.segment import Segment
from mmvid.run import feed, programs, signals
from mmvid.run.build import Run
from mmvid.scores import ensembles, file, numbers
from mmvid.scores import evaluate as evaluate_lib
from mmvid.scores.file import Scores
from mmvid.weights import seen

# Where nothing can be counted (no positives, no labels) a checkpoint is no better than any other.
UNDEFINED = -1.0


def meta(run: Run, segment: Segment, split: str, step: int, protocol: str, crops: str) -> dict:
    """The facts that a file of scores must be read with: how, on what and by whom they were made."""
    spec, dataset = run.config.evaluation, run.datasets[segment.dataset]
    # A subset may be of another dataset than what the segment learns from; clips that are predicted are of none.
    info = dataset.split(split).info if split in dataset.info.splits else dataset.info
    return {
        "split": split,
        "segment": segment.name,
        "step": step,
        "protocol": protocol,
        "crops": crops,
        "variant": spec.variant,
        "resize": spec.resize,
        "dataset": info.name,
        "fingerprint": info.fingerprint,
        "clips_expected": dataset.info.expected.get(split, 0),
        "classes": {name: list(head.names) for name, head in segment.heads.items()},
        "title": segment.title,
        "members": members(segment),
        "checkpoint": segment.checkpoint,
        # Of the weights: '' where nobody can tell them from others.
        "key": files.read_note(run.workdir / segment.name / "key.json").get("key", ""),
        # What their logits mean: a sigmoid of each class where nothing is said.
        **({"multi": segment.method.multi} if segment.method.multi != "sigmoid" else {}),
        **({"titles": dict(segment.titles)} if segment.titles else {}),
        **_taught(run, segment),
        **_met(run, segment, split),
    }


def _met(run: Run, segment: Segment, split: str) -> dict:
    """Whether the segment's networks, or anything that they started from or were taught by, learnt from any clip
    of a split; {} where nobody has noted it."""
    known = files.read_note(run.workdir / segment.name / "key.json").get("seen", {}).get("splits", {})
    if split not in run.datasets[segment.dataset].info.splits:
        return {}
    entry = known.get(seen.digest(run.datasets[segment.dataset].split(split).ids()))
    return {"met": entry["met"]} if entry else {}


def _taught(run: Run, segment: Segment) -> dict:
    """What the teachers of a segment weigh, where it learns from some."""
    note = files.read_note(run.workdir / segment.name / ensembles.NAME)
    return {"teachers": {name: own for name, own in note.items() if name != "teachers"}} if note else {}


def members(segment: Segment) -> list[str]:
    """The outputs that sums and oracles are formed over: those of each network that need the most streams.

    For a network that reads several streams together these are its joint outputs, so that no stream is
    counted twice; for others these are all of its outputs. A joint output beside networks of each of its streams
    is left out for the same reason.
    """
    wants, found = segment.needs, []
    for outputs in (n.outputs for n in segment.networks):
        own = [output for output in outputs if output in wants]
        most = max((len(wants[output].streams) for output in own), default=0)
        found += [output for output in own if len(wants[output].streams) == most]
    alone = {wants[output].streams for output in found if len(wants[output].streams) == 1}
    return [o for o in found if wants[o].streams in alone or not all((s,) in alone for s in wants[o].streams)]


def predictor(run: Run, segment: Segment, before: Callable = lambda: None) -> Callable:
    """Returns predict(weights, source, meta), which gives the Scores of all clips of a source, the same in every
    process; ``meta`` says how they are cut. ``weights`` are {'params': {network: tree}, 'stats': ..}. It is
    compiled once for all sources that are cut alike. ``before`` is called before each batch."""

    def compiled():
        predict = infer.make_predict(segment.networks, segment.streams, tuple(segment.needs))
        return jax.jit(predict, out_shardings=sharding.batched(run.mesh))

    kind = " ".join(("predict", *segment.outputs))
    forward = programs.shared(run, kind, segment, compiled, programs.FORWARD)

    def predict(weights, source, meta: dict) -> Scores:
        def outputs(batch):
            before()
            placed = sharding.place(run.mesh, batch)
            # Each process reads back the rows that it has placed; `predict_split` brings all together.
            return jax.tree.map(sharding.local, forward(weights["params"], weights["stats"], placed))

        batches = feed.eval_batches(run, segment, source, meta["protocol"], meta["crops"])
        try:
            scores = evaluate_lib.predict_split(outputs, batches, needs=segment.needs, ids=source.ids(), meta=meta)
        finally:
            batches.close()
        # The number of views is the protocol's clips times its crops: logits are [N, views, classes].
        first, *_ = scores.logits.values()
        scores.meta["views"] = {logits.shape[1] for logits in first.values()}.pop()  # the same for every head
        return scores

    return predict


def scorer(run: Run, segment: Segment, before: Callable = lambda: None) -> Callable:
    """Returns score(weights, split, step, protocol, crops), which gives the Scores of a whole split, as
    `predictor` does."""
    dataset, predict = run.datasets[segment.dataset], predictor(run, segment, before)

    def score(weights, split: str, step: int, protocol: str, crops: str) -> Scores:
        return predict(weights, dataset.split(split), meta(run, segment, split, step, protocol, crops))

    return score


def _leave_together(run: Run) -> None:
    """Raises Interrupted, in all of several processes at the same batch, after a signal to any of them."""
    if jax.process_count() > 1 and signals.agreed(run.stop):
        raise signals.Interrupted


def evaluator(run: Run, segment: Segment) -> Callable:
    """Returns evaluate(state, split, step, when, thinned), which scores a split and writes the Scores to the
    segment's scores/<split>.npz, or to <split>-<when>.npz where ``when`` is 'before' (the first step) or 'during'
    (training). Where every ``thinned``-th frame alone is shown, the file is called as `evaluate` calls it.

    While training, clips are cut as ``evaluation.during_protocol`` and ``during_crops`` say: by default one
    uniform clip and the centre crop, as MML's code does.
    """
    spec, score = run.config.evaluation, scorer(run, segment, lambda: _leave_together(run))

    def evaluate_split(state, split: str, step: int, *, when: str = "", thinned: int = 1) -> Scores:
        often = (spec.during_protocol, spec.during_crops)
        how = often if when == "during" else (spec.protocol, spec.crops)
        how = (f"{how[0]}t{thinned}", how[1]) if thinned > 1 else how
        scores = score(network.final_weights(state), split, step, *how)
        if jax.process_index() == 0:
            name = f"{split}-{when}" if when else split
            name = file.name_of(split, *how) if thinned > 1 else name
            file.save(run.workdir / segment.name / "scores" / f"{name}.npz", scores)
        return scores

    return evaluate_split


def value_of(values: dict[str, float], best_by: str, headline: str) -> float:
    """The number that decides which checkpoint is best: the top-1 accuracy (or mAP), averaged over heads, of
    what ``best_by`` names: the output ``headline``, the 'sum' or the 'oracle'. `UNDEFINED` where there is
    none."""
    # `values` have names as 'rgb/top1'; the sum's is called 'fused' there (`numbers.headline_values`).
    named = {"headline": headline, "sum": "fused"}.get(best_by, best_by)
    own = [v for name, v in values.items() if name.startswith(f"{named}/")]
    # One output alone has neither a sum nor an oracle.
    own = own or [v for name, v in values.items() if name.startswith(f"{headline}/")]
    known = [v for v in own if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else UNDEFINED


def validate(run: Run, segment: Segment, state, step: int, evaluate_split, writer) -> float:
    """Scores the split ``evaluation.during``, logs the numbers, and returns `value_of` them."""
    spec = run.config.evaluation
    scores = evaluate_split(state, spec.during, step, when="during")
    values = numbers.headline_values(scores, spec.aggregate)
    known = {name: v for name, v in values.items() if v is not None and np.isfinite(v)}
    writer.write(step, {f"val/{name}": v for name, v in known.items()})
    return value_of(values, spec.best_by, segment.headline or run.config.headline)
