"""Scores a finished run again, without training: under another protocol, other crops, on another split.

    python -m mmvid evaluate runs/mml --protocol=D1U2 --crops=full_res --splits=test

What is not said is as the run's configuration says; --config.NAME=VALUE changes more of it, for instance
--config.evaluation.batch_size=8 or, where the data have moved, --config.dataset.path=FOLDER. The scores are kept
as RUN/SEGMENT/scores/SPLIT@PROTOCOL-CROPS.npz, their numbers as .json beside it; the run's own stay.
"""

import argparse
import pathlib

from mmvid import files, plans, usage
from mmvid.commands import config as config_lib
from mmvid.plans.segment import Segment
from mmvid.report import finish, table
from mmvid.report.table import Column
from mmvid.run import build, cache, score
from mmvid.run.build import Run
from mmvid.scores import file

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and how it is scored."""
    parser.add_argument("run", type=pathlib.Path, metavar="RUN", help="the workdir of a run that has ended")
    parser.add_argument("--protocol", metavar="DkUm", help="k dense and m uniform clips, or Rn: n random ones")
    parser.add_argument("--crops", metavar="NAME", help="centre, three, ten, full_res, ...")
    parser.add_argument("--splits", metavar="A,B", help="the splits, with commas between them")
    parser.add_argument("--segments", metavar="A,B",
                        help="the segments; by default the columns of the run's table")  # fmt: skip


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The arguments as what they override, before what is overridden by its own name."""
    found = [f"--config.evaluation.{name}={value}" for name in ("protocol", "crops")
             if (value := getattr(arguments, name))]  # fmt: skip
    if arguments.splits:
        found.append(f"--config.evaluation.splits={tuple(arguments.splits.split(','))!r}")
    return [*found, *arguments.overrides]


def _segments(run: Run, names: str | None) -> list[Segment]:
    """The segments that are asked for. Raises WrongUse that lists those there are."""
    scored = [segment for segment in run.segments if segment.evaluate]
    if names is None:
        return [segment for segment in scored if segment.title]
    known = {segment.name: segment for segment in scored}
    if unknown := [name for name in names.split(",") if name not in known]:
        raise usage.WrongUse(f"{run.workdir} has no segment {unknown[0]!r} with scores; it has {sorted(known)}")
    return [known[name] for name in names.split(",")]


def _steps(run: Run, segment: Segment) -> int:
    """The step that a segment's final weights are of."""
    own = run.workdir / segment.name / "scores" / f"{segment.evaluate[0]}.npz"
    return file.load(own).meta["step"] if own.exists() else segment.steps


def _column(run: Run, segment: Segment) -> Column:
    """Scores a segment on every split, and keeps scores and numbers."""
    spec, weights, found = run.config.evaluation, build.weights_of(run, segment), {}
    scored, step = score.scorer(run, segment), _steps(run, segment)
    for split in spec.splits:
        found[split] = scored(weights, split, step, spec.protocol, spec.crops)
        path = run.workdir / segment.name / "scores" / f"{split}@{spec.protocol}-{spec.crops}.npz"
        file.save(path, found[split])
        numbers = finish.numbers_of(found[split], spec.aggregate)
        files.write_json(path.with_suffix(".json"), {"meta": found[split].meta, "numbers": numbers})
        print(f"{segment.name}: {path}", flush=True)
    return Column(segment.title or segment.name, segment.name, found)


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, scores it, prints its table."""
    config = config_lib.of_run(arguments.run, _overrides(arguments))
    cache.choose(arguments.run)
    run = build.opened(arguments.run, config)
    columns = [_column(run, segment) for segment in _segments(run, arguments.segments)]
    baseline, how = plans.baseline(run.segments), config.evaluation.aggregate
    for split in config.evaluation.splits:
        print("\n" + table.table(columns, split, baseline=baseline, how=how))
        if overview := table.overview_text(columns, split, config.headline, how):
            print("\n" + overview)
