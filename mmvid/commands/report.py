"""Writes the page of a finished run again: its table and report.html, from
what it has left. Nothing is trained.

    python -m mmvid report runs/mml

Where its data have moved, --config.dataset.path=FOLDER says where they lie.
"""

import argparse

from mmvid import configuration, logs, plans, usage
from mmvid.commands import config as config_lib
from mmvid.report import finish
from mmvid.run import build

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says which run."""
    parser.add_argument("run", type=usage.a_run, metavar="RUN", help="the workdir of a run that has ended")


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, and ends it once more."""
    for path in configuration.paths(arguments.overrides):
        if not path.endswith(".path"):
            raise usage.WrongUse(
                f"--config.{path}: the page is of the run as it was; only where data lie may differ"
            )
    run = build.opened(arguments.run, config_lib.of_run(arguments.run, arguments.overrides))
    logs.setup(arguments.run)
    finish.finish(
        arguments.run,
        run.config,
        finish.shown(run.segments),
        run.datasets["dataset"],
        baseline=plans.baseline(run.segments),
    )
