"""Writes the page of a finished run again: its table and report.html, from what it has left. Nothing is trained.

    python -m mmvid report runs/mml

For a run of an older mmvid, or after its data have moved: --config.dataset.path=FOLDER.
"""

import argparse
import pathlib

from mmvid import logs, plans, usage
from mmvid.commands import config as config_lib
from mmvid.report import finish
from mmvid.run import build

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says which run."""
    parser.add_argument("run", type=pathlib.Path, metavar="RUN", help="the workdir of a run that has ended")


def execute(arguments: argparse.Namespace) -> None:
    """Opens the run, and ends it once more."""
    for text in arguments.overrides:
        if not text.partition("=")[0].endswith(".path"):
            raise usage.WrongUse(f"{text}: the page is of the run as it was; only where data lie may differ")
    run = build.opened(arguments.run, config_lib.of_run(arguments.run, arguments.overrides))
    logs.setup(arguments.run)
    finish.finish(
        arguments.run, run.config, finish.shown(run.segments), run.datasets["dataset"],
        baseline=plans.baseline(run.segments),
    )  # fmt: skip
