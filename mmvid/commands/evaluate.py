"""Scores a finished run again without training: under another protocol, with
other crops, or on another split.

    python -m mmvid evaluate runs/mml --protocol=D1U2 --crops=full_res

Whatever the command line does not say is taken from the run's configuration.
--config.NAME=VALUE changes more of it: --config.evaluation.batch_size=8 or,
where the data have moved, --config.dataset.path=FOLDER. The scores are written
to RUN/SEGMENT/scores/SPLIT@PROTOCOL-CROPS.npz, their numbers to a .json beside
it; the run's own scores stay as they are. Where these are of one view, the page
that 'python -m mmvid report RUN' writes draws its fewer views from those of the
most, as --protocol=C10 makes. --protocol=T10 shows five views of a clip, and
prints all eight protocols of MML's table 10.
"""

import argparse
from collections.abc import Sequence

from mmvid import configuration, files, plans, usage
from mmvid.commands import config as config_lib
from mmvid.data import augment
from mmvid.plans.segment import Segment
from mmvid.report import points, protocols, table
from mmvid.report.points import Column
from mmvid.run import build, cache, feed, score, talk
from mmvid.run.build import Run
from mmvid.scores import file

CONFIG = True
# What may differ from training: entries by the beginning of their path.
FREE = ("evaluation.", "loader.", "headline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run is scored, and how."""
    parser.add_argument("run", type=usage.a_run, metavar="RUN", help="the workdir of a run that has ended")
    parser.add_argument(
        "--protocol",
        metavar="DkUm",
        help="k dense and m uniform clips, Rn: n random, Cn: n of the streams' own kind, En: n from end to end; "
        "T10: all eight of MML's table 10, behind any tK: every K-th frame alone",
    )
    parser.add_argument("--crops", metavar="NAME", help=f"one of {', '.join(augment.CROPS)}")
    parser.add_argument("--splits", metavar="A,B", help="the splits, with commas between them")
    parser.add_argument(
        "--segments", metavar="A,B", help="the segments; by default the columns of the run's table"
    )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """Writes --protocol, --crops and --splits as --config.NAME=VALUE, and adds those that were given so.

    Where an entry is given in both ways, the last one counts: the one given by its path.
    """
    found = []
    if arguments.protocol is not None:
        found.append(f"--config.evaluation.protocol={arguments.protocol}")
    if arguments.crops is not None:
        found.append(f"--config.evaluation.crops={arguments.crops}")
    if arguments.splits is not None:
        found.append(f"--config.evaluation.splits={tuple(usage.listed(arguments.splits))!r}")
    return [*found, *arguments.overrides]


def segments_of(run: Run, names: str | None) -> list[Segment]:
    """The segments that are asked for, by default those with a title. Raises WrongUse for an unknown one, with
    a list of those that have scores."""
    scored = [segment for segment in run.segments if segment.evaluate]
    if names is None:
        return [segment for segment in scored if segment.title]
    known = {segment.name: segment for segment in scored}
    chosen = usage.chosen("--segments", names, known, f"segments of {run.workdir} that have scores")
    return [known[name] for name in chosen]


def steps_of(run: Run, segment: Segment) -> int:
    """The step at which a segment's final weights were kept."""
    # Not always the last one: the best checkpoint is of an earlier step, which its scores tell.
    own = run.workdir / segment.name / "scores" / f"{segment.evaluate[0]}.npz"
    return file.load(own).meta["step"] if own.exists() else segment.steps


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises WrongUse for an entry that would make other inputs or networks than those that the run was trained
    with."""
    for path in configuration.paths(overrides):
        # Data may lie elsewhere; that they are the same clips is checked when they are opened.
        if not path.startswith(FREE) and not path.endswith(".path"):
            raise usage.WrongUse(
                f"--config.{path}: a run is scored as it was trained; here only evaluation.*, loader.*, headline "
                "and where data lie (dataset.path) may differ"
            )


def _name(split: str, run: Run) -> str:
    """The name of a file of scores: what differs from the run's own way to score stands in it."""
    spec, own = run.config.evaluation, build.stored(run.workdir)["evaluation"]
    differs = [name for name in ("variant", "resize") if spec[name] != own.get(name, spec[name])]
    further = [f"-{name}={spec[name]}" for name in differs]
    return f"{file.name_of(split, spec.protocol, spec.crops)}{''.join(further)}"


def _column(run: Run, segment: Segment) -> Column:
    """Scores a segment on every split, writes scores and numbers, and returns its column of the table."""
    spec, weights, found = run.config.evaluation, build.weights_of(run, segment), {}
    scored, step = score.scorer(run, segment), steps_of(run, segment)
    for split in spec.splits:
        found[split] = scored(weights, split, step, spec.protocol, spec.crops)
        path = run.workdir / segment.name / "scores" / f"{_name(split, run)}.npz"
        file.save(path, found[split])
        own = points.numbers_of(found[split], spec.aggregate)
        files.write_json(path.with_suffix(".json"), {"meta": found[split].meta, "numbers": own})
        print(f"{segment.name}: {path}", flush=True)
    return Column(segment.title or segment.name, segment.name, found)


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, scores it, and prints its table of every split."""
    check_overrides(arguments.overrides)
    config = config_lib.of_run(arguments.run, _overrides(arguments))
    talk.say_idle_accelerator()
    cache.choose(arguments.run)
    run = build.opened(arguments.run, config)
    segments = segments_of(run, arguments.segments)
    for segment in segments:
        feed.check_evaluation(run, segment)
    columns = [_column(run, segment) for segment in segments]
    baseline, how = plans.baseline(run.segments), config.evaluation.aggregate
    for split in config.evaluation.splits:
        print("\n" + table.table(columns, split, headline=config.headline, baseline=baseline, how=how))
        rows = [(column.title, [column.scores[split]]) for column in points.there(columns, split)]
        if eight := protocols.text(rows, split, how):
            print("\n" + eight)
        # As a run's end does: only where a paper's rows are to be held beside it.
        if config.published and (overview := table.overview_text(columns, split, config.headline, how)):
            print("\n" + overview)
