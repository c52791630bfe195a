"""Which modality of a finished run overfits: for every output its loss on
training clips and on clips that it has not learnt from, and what follows.

    python -m mmvid ogr runs/dmcl

Both are measured in evaluation mode, on as many training clips as there are
held-out ones. From a network that knows nothing (all classes alike), G is what
the held-out loss has fallen by, O how far it is above the training loss, and
OGR = O / G, the overfitting-to-generalisation ratio of Gradient-Blending (Wang
et al. 2020). The table is printed; RUN/ogr.html has it with a picture, and one
sentence of advice. --split names other clips than 'val', --segments other
segments than the columns of the run's table. Where the data have moved,
--config.dataset.path=FOLDER says where they lie.
"""

import argparse
import pathlib

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
from mmvid.scores import blends
from mmvid.scores.file import Scores

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run is looked at, and on which clips."""
    parser.add_argument("run", type=pathlib.Path, metavar="RUN", help="the workdir of a run that has ended")
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


def measured(run: Run, segment: Segment, split: str) -> list[ogr.Overfitting]:
    """Measures every output of a segment, on clips that it has learnt from and on a ``split``. Raises ValueError
    where the two have clips in common."""
    dataset, weights = run.datasets[segment.dataset], build.weights_of(run, segment)
    learnt, held = (dataset.split(name) for name in (segment.main.split, split))
    if both := set(learnt.ids()) & set(held.ids()):
        raise ValueError(
            f"segment {segment.name!r} has learnt from {len(both)} of the {len(held)} clips of {split!r}: name "
            "others, --split=test"
        )
    scores = [
        _scored(run, segment, weights, source, name)
        for source, name in ((_some(learnt, len(held), segment.main.split), segment.main.split), (held, split))
    ]
    # What knows nothing gives every class of a head the same probability; of several labels, each one half.
    chance = np.mean([np.log(h.classes) if h.kind == "single" else np.log(2) for h in segment.heads.values()])
    found = []
    for output, needs in segment.needs.items():
        train, val = (np.nanmean(blends.of_clips(own, output)) for own in scores)
        found.append(ogr.Overfitting(output, needs.streams, float(chance), float(train), float(val)))
    return found


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, measures its segments, prints the table and the advice, and writes the page."""
    evaluate.check_overrides(arguments.overrides)
    config = config_lib.of_run(arguments.run, arguments.overrides)
    talk.say_idle_accelerator()
    cache.choose(arguments.run)
    run = build.opened(arguments.run, config)
    if arguments.split not in run.datasets["dataset"].info.splits:
        known = ", ".join(run.datasets["dataset"].info.splits)
        raise usage.WrongUse(f"--split={arguments.split}: there is no such split; there are {known}")
    found, folders = {}, {}
    for segment in evaluate.segments_of(run, arguments.segments):
        feed.check_evaluation(run, segment)
        title = segment.title or segment.name
        found[title], folders[title] = measured(run, segment, arguments.split), [run.workdir / segment.name]
    advice = {title: ogr.advice(own) for title, own in found.items()}
    print(aligned(ogr.rows(found)))
    print("\n" + "\n".join(f"{title}: {said}" for title, said in advice.items()))
    path = arguments.run / "ogr.html"
    figures = [ogr.figure(title, own) for title, own in found.items()]
    made = page.template("ogr.html").render(
        name=arguments.run.name,
        split=arguments.split,
        rows=ogr.rows(found),
        advice=advice,
        figures=figures,
        made=facts.made(folders),
    )
    files.write_text(path, made)
    print(f"page: {path}")
