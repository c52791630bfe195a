"""Which modality of a finished run overfits: for every output its loss on
training clips and on clips that it has not learnt from, and what follows.

    python -m mmvid ogr runs/dmcl

Both are measured in evaluation mode, on as many training clips as there are
held-out ones. From a network that knows nothing (all classes alike), G is what
the held-out loss has fallen by, O how far it is above the training loss, and
OGR = |O / G|, the overfitting-to-generalisation ratio of Gradient-Blending (Wang
et al. 2020). The table is printed; RUN/ogr.html has it with a picture, and one
sentence of advice, on the first network of each stream that reads it alone.
--split names other clips than 'val', --segments other segments than the columns
of the run's table. Where the data have moved, --config.dataset.path=FOLDER says
where they lie.
"""

import argparse
import pathlib

import jax
import numpy as np

from mmvid import files, usage
from mmvid.commands import config as config_lib
from mmvid.commands import evaluate
from mmvid.data import subsets
from mmvid.data.rules import Rule
from mmvid.plans.segment import Segment
from mmvid.report import facts, ogr, page
from mmvid.report.text import aligned
from mmvid.run import build, cache, feed, score, talk
from mmvid.run.build import Run
from mmvid.scores import blends, file, numbers
from mmvid.scores.file import Scores

CONFIG = True
# What weighs the losses of a joint network unequally.
COMMAND = "python -m mmvid train --config=configs/gblend.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run is looked at, and on which clips."""
    parser.add_argument("run", type=usage.a_run, metavar="RUN", help="the workdir of a run that has ended")
    parser.add_argument("--split", metavar="NAME", default="val", help="clips that nobody has learnt from")
    parser.add_argument(
        "--segments", metavar="A,B", help="the segments; by default the columns of the run's table"
    )


def _some(source, count: int, name: str):
    """As many clips of a source as ``count``, evenly from its first to its last."""
    rows = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int))
    return subsets.Subset(source, rows, name, Rule())


def _scored(run: Run, segment: Segment, weights, source, split: str) -> Scores:
    spec = run.config.evaluation
    meta = score.meta(run, segment, split, evaluate.steps_of(run, segment), spec.protocol, spec.crops)
    return score.predictor(run, segment)(weights, source, meta)


def _split_of(segment: Segment) -> str:
    """The clips whose labels a segment learns."""
    groups = [segment.main, *segment.groups.values()]
    return next(group.split for group in groups if group.labels and group.dataset == segment.dataset)


def measured(run: Run, segment: Segment, split: str) -> list[ogr.Overfitting]:
    """Measures the outputs of a segment that have any labelled clip, on clips that it has learnt from and on a
    ``split``. Raises ValueError where the two have clips in common, and for a split that the segment's dataset
    lacks."""
    dataset, weights, taught = run.datasets[segment.dataset], build.weights_of(run, segment), _split_of(segment)
    learnt, held = (dataset.split(name) for name in (taught, split))
    if both := set(learnt.ids()) & set(held.ids()):
        raise ValueError(
            f"segment {segment.name!r} has learnt from {len(both)} of the {len(held)} clips of {split!r}: name "
            "others, --split=test"
        )
    scores = [
        _scored(run, segment, weights, source, name)
        for source, name in ((_some(learnt, len(held), taught), taught), (held, split))
    ]
    multi, found = segment.method.multi, []
    for output, needs in segment.needs.items():
        train, val = (blends.of_clips(own, output, multi=multi) for own in scores)
        # What knows nothing gives all classes alike.
        chance = blends.of_clips(_ignorant(scores[1]), output, multi=multi)
        if all(np.isfinite(own).any() | np.isinf(own).any() for own in (train, val)):
            means = (float(np.nanmean(own)) for own in (chance, train, val))
            right = _right(scores[1], output, run.config.evaluation.aggregate)
            found.append(ogr.Overfitting(output, needs.streams, *means, *right))
    return found


def _right(scores: Scores, output: str, how: str) -> tuple[float, float]:
    """The top-1 of an output in all heads of single labels, and that of chance; nan where there is none."""
    scores = file.labelled(scores)
    scores = file.rows(scores, scores.present[output])
    heads = file.single_heads(scores)
    if not heads or not len(scores.id):
        return float("nan"), float("nan")
    right = numbers.hits(scores, output, file.joint_head(scores) or heads[0], 1, how).mean()
    return float(right), float(np.prod([1 / scores.logits[output][head].shape[-1] for head in heads]))


def _ignorant(scores: Scores) -> Scores:
    return scores._replace(logits=jax.tree.map(np.zeros_like, scores.logits))


def _checked(run: Run, split: str) -> None:
    """Raises WrongUse for a split that there is not, or that has no clips."""
    info = run.datasets["dataset"].info
    if split not in info.splits or not len(run.datasets["dataset"].split(split)):
        known = ", ".join(name for name in info.splits if len(run.datasets["dataset"].split(name)))
        raise usage.WrongUse(f"--split={split}: there is no such split with clips; there are {known}")


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, measures its segments, prints the table and the advice, and writes the page."""
    evaluate.check_overrides(arguments.overrides)
    config = config_lib.of_run(arguments.run, arguments.overrides)
    talk.say_idle_accelerator()
    cache.choose(arguments.run)
    run = build.opened(arguments.run, config)
    _checked(run, arguments.split)
    found, folders = {}, {}
    for segment in evaluate.segments_of(run, arguments.segments):
        feed.check_evaluation(run, segment)
        title = segment.title or segment.name
        if own := measured(run, segment, arguments.split):
            found[title], folders[title] = own, [run.workdir / segment.name]
    if not found:
        raise ValueError(f"no clip of {arguments.split!r} has a label and what any output reads: name other clips")
    _tell(arguments.run, arguments.split, found, folders)


def _tell(workdir: pathlib.Path, split: str, found, folders) -> None:
    """Prints what was ``found`` in the segments of each title and one sentence of advice, and writes the page."""
    chosen = ogr.compared(found)
    single, which = [one for own in chosen.values() for one in own], ogr.named(chosen)
    said = ogr.advice(single, COMMAND, blends.offline(workdir))
    print(aligned(ogr.rows(found)))
    print(f"\n{which}: {said}")
    path = workdir / "ogr.html"
    made = page.template("ogr.html").render(
        name=workdir.resolve().name,
        split=split,
        rows=ogr.rows(found),
        which=which,
        advice=said,
        figure=ogr.figure(which, single),
        made=facts.made(folders),
    )
    files.write_text(path, made)
    print(f"page: {path}")
