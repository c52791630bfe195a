"""Trains every cell of a grid, and makes one table and one page of them.

    python -m mmvid sweep --config=configs/mml.py --grid schedule.lr=0.01,0.03
    python -m mmvid sweep --grid configs/cmpl.toml#rate --workdir=runs/rate
    python -m mmvid sweep --workdir=runs/rate

A grid is KEY=A,B,C, an entry of the configuration and its values (several such
make every combination; one that holds commas stands in quotes or brackets), or
FILE#NAME, a table of a file of TOML, such as configs/cmpl.toml. Further
--config.NAME=VALUE hold for all cells. --dry lists the cells and what they
would train. Every cell is built before the first one runs.

A cell's run of a seed is a process of `train` in WORKDIR/cells/CELL/seedN; what
it says is in WORKDIR/logs. Stages that cells have in common are trained once. A
run that fails is told of, with the end of its log, and the others go on;
--retry runs it again. Where runs have failed or are not done, it ends with an
error. The same command goes on where an earlier one was ended,
and so does --workdir alone; another grid in the same folder adds its cells.
Several machines that share the folder may give the command at the same time: a
run whose holder has not been heard of for --stale seconds is taken over.
WORKDIR/sweep.html and table.json are written whenever a run has ended.
"""

import argparse
import pathlib

import jax

from mmvid import configuration, usage
from mmvid.report import sweep as report
from mmvid.report.text import aligned
from mmvid.run.signals import Stopped
from mmvid.sweeps import claim, folder, results, runner, stages
from mmvid.sweeps import grid as grid_lib
from mmvid.sweeps.folder import FAILED, UNDER_WAY, WAITING, Task
from mmvid.sweeps.grid import Grid

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what is swept, where, and how."""
    parser.add_argument("--config", default="", metavar="FILE[:VARIANT]", help="what the cells change")
    parser.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="GRID", help="KEY=A,B,C or FILE.toml#NAME"
    )
    parser.add_argument("--seeds", metavar="0,1,2", help="the seeds of every cell; by default the grid's, or 0")
    parser.add_argument(
        "--follow", nargs="+", action="extend", default=[], metavar="KEY", help="entries that are the seed, too"
    )
    parser.add_argument("--workdir", type=usage.on_disk, metavar="DIR", help="where it goes, by default runs/NAME")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, which share the GPUs")
    parser.add_argument("--stale", type=float, default=claim.STALE, metavar="S", help="see above")
    parser.add_argument("--retry", action="store_true", help="run once more what has failed")
    parser.add_argument("--dry", action="store_true", help="list the cells and what they train, and run nothing")


def _workdir(arguments: argparse.Namespace) -> pathlib.Path:
    """--workdir, or runs/FILE-NAME of the first grid or configuration."""
    if arguments.workdir is not None:
        return arguments.workdir
    first = next((text for text in arguments.grid if ".toml" in text), "")
    file, _, name = first.partition("#")
    if not first:
        file, name = usage.parted(arguments.config)
    words = [pathlib.Path(file).stem, name, *([] if first else ["sweep"])]
    return pathlib.Path("runs", "-".join(filter(None, words)))


def _asked(arguments: argparse.Namespace, workdir: pathlib.Path) -> list[Grid]:
    """The grids of the command line, or those that the workdir holds. Raises WrongUse."""
    if arguments.grid or arguments.config:
        overrides = configuration.given(arguments.overrides)
        return grid_lib.asked(arguments.grid, arguments.config, overrides, arguments.seeds, arguments.follow)
    known = folder.grids(workdir) if arguments.workdir else []
    if not known:
        raise usage.WrongUse(
            "give --config=FILE --grid KEY=A,B,C, or --grid FILE#NAME; --workdir alone goes on with a sweep, and "
            f"{workdir} holds none"
        )
    if arguments.overrides or arguments.seeds or arguments.follow:
        raise usage.WrongUse(
            "--workdir alone goes on with what was asked before: give --grid, too, to ask for something else"
        )
    return known


def _check_segments(grids: list[Grid], tasks: list[Task], known: dict[str, stages.Stages]) -> None:
    """Raises WrongUse for a cell that is a segment which its run does not have: nothing would be found of it."""
    steps_of = {task.cell.name: stages.of(task, known).steps for task in tasks}
    for grid in grids:
        for cell in grid.cells:
            segment, there = cell.segment or grid.segment, steps_of[cell.name]
            if segment and there and segment not in there:
                raise usage.WrongUse(
                    f"cell {cell.title!r} is the segment {segment!r} of its run, which has {', '.join(there)}"
                )


# ---------------------------------------------------------------------------- a list of what there is
def _planned(task: Task, known: dict, seen: set[str]) -> tuple[str, int]:
    """What a run trains, in words, and its steps; stages that are in ``seen`` are others' already. ('', 0) where
    only data that are not there yet could tell."""
    own = stages.of(task, known)
    said, steps = [], 0
    for name, count in own.steps.items():
        shared = own.keys.get(name) in seen
        said.append(f"({name})" if shared else f"{name} {count:,}")
        steps += 0 if shared else count
    seen |= set(own.keys.values())
    return ", ".join(said), steps


def _listed(tasks: list[Task], known: dict, stale: float) -> str:
    """A line for each run: how far it is, and its segments with their steps, those in brackets from other runs."""
    seen: set[str] = set()
    lines, total = [["run", "state", "steps", "segments"]], 0
    for task in tasks:
        said, steps = _planned(task, known, seen)
        told = (f"{steps:,}", said) if said else ("-", "not known before its data are made")
        lines.append([task.title, folder.state(task, stale), *told])
        total += steps
    steps = f", {total:,} steps" if total else ""
    shared = "; in brackets: what a run above trains" if any("(" in line[3] for line in lines) else ""
    return f"{aligned(lines, right=(2,))}\n\n{len(tasks)} run{'s' * (len(tasks) > 1)}{steps}{shared}"


# ---------------------------------------------------------------------------- what it came to
def _drawn(workdir: pathlib.Path, stale: float) -> list[report.Table]:
    """Writes the page. What cannot be read of a run must not end the others: it is told."""
    try:
        return results.write(workdir, stale)
    except (ValueError, OSError) as error:
        print(f"the page of {workdir} cannot be written now: {error}", flush=True)
        return []


def _wrong(states: list[tuple[str, str]], logs: pathlib.Path) -> list[str]:
    """What is to be said of (title, state) of runs that have failed, and of those that nobody is at."""
    failed, waiting = ([title for title, own in states if own == state] for state in (FAILED, WAITING))
    said = []
    if failed:
        said.append(
            f"{len(failed)} of {len(states)} runs failed: {'; '.join(failed)}. Their logs are in {logs}; once the "
            "reason is cured, the same command with --retry runs them again"
        )
    # Something has ended them, more often than a sweep begins them.
    if waiting:
        said.append(
            f"{len(waiting)} of {len(states)} runs are not done: {'; '.join(waiting)}. They were ended from "
            f"outside, see their logs in {logs}; the same command goes on"
        )
    return said


def _close(workdir: pathlib.Path, tasks: list[Task], stale: float) -> None:
    """Prints the tables, and what is missing of them. Raises ValueError where runs have failed, or were left
    undone."""
    for table in _drawn(workdir, stale):
        print(f"\n{report.text(table)}")
    print(f"\nreport: {workdir / 'sweep.html'}")
    states = [(task.title, folder.state(task, stale)) for task in tasks]
    if busy := sum(state == UNDER_WAY for _, state in states):
        print(f"under way elsewhere: {busy} of {len(tasks)} runs; who ends last writes the whole table")
    if wrong := _wrong(states, workdir / "logs"):
        raise ValueError(". ".join(wrong))


def execute(arguments: argparse.Namespace) -> None:
    """Lists the cells (--dry), or trains them and writes their table. Raises WrongUse for a cell that cannot be
    meant, before anything has run; ValueError where a run has failed or is not done; Stopped after a signal."""
    if arguments.jobs < 1 or arguments.stale <= 0:
        raise usage.WrongUse("--jobs and --stale are numbers above 0")
    # Only the runs compute: an accelerator is theirs.
    jax.config.update("jax_platforms", "cpu")
    workdir = _workdir(arguments)
    grids = _asked(arguments, workdir)
    tasks, known = folder.tasks(workdir, grids), {}
    # Before anything runs: a misspelt entry of the last cell is told at once.
    for task in tasks:
        stages.of(task, known)
    _check_segments(grids, tasks, known)
    print(_listed(tasks, known, arguments.stale), flush=True)
    if arguments.dry:
        print("A dry run: nothing was trained, nothing was written.")
        return
    folder.remember(workdir, grids)
    signal = runner.work(
        tasks, jobs=arguments.jobs, stale=arguments.stale, retry=arguments.retry, known=known,
        tell=lambda line: print(line, flush=True), after=lambda: _drawn(workdir, arguments.stale) and None,
    )  # fmt: skip
    if signal:
        raise Stopped(f"stopped by {signal}; the same command goes on", signal)
    _close(workdir, tasks, arguments.stale)
