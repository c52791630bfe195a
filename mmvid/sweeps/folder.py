"""The folder of a sweep: what it was asked for, its runs, and how far they are.

sweep.json            the grids
cells/CELL/seedN/     a run: the workdir of `python -m mmvid train`
logs/CELL.seedN.log   what that said
claims/               who does which run, and what has become of it
sweep.html, table.json
"""

import os
import pathlib
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmvid import files, lock, usage
from mmvid.sweeps import claim
from mmvid.sweeps.grid import Cell, Grid

# What a run can be: nobody has begun it, or somebody ended before it was done; somebody is at it; it has ended.
WAITING, UNDER_WAY, DONE, FAILED = "waiting", "under way", "done", "failed"


class Task(NamedTuple):
    """One run of a sweep: a cell and a seed, in the sweep's ``folder``."""

    folder: pathlib.Path
    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """The name of its claim and its log."""
        return f"{self.cell.name}.seed{self.seed}"

    @property
    def title(self) -> str:
        """What people know it by."""
        return f"{self.cell.title}, seed {self.seed}"

    @property
    def workdir(self) -> pathlib.Path:
        """The workdir of its run."""
        return self.folder / "cells" / self.cell.name / f"seed{self.seed}"

    @property
    def log(self) -> pathlib.Path:
        """Where everything stands that its processes have said."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def claims(self) -> pathlib.Path:
        """The folder of claims."""
        return self.folder / "claims"


def tasks(folder: pathlib.Path, grids: Iterable[Grid]) -> list[Task]:
    """Every run of the grids once: all cells of one seed, then those of the next."""
    # So a table has all of its rows early.
    every = [
        Task(folder, cell, grid.seeds[place])
        for grid in grids
        for place in range(len(grid.seeds))
        for cell in grid.cells
    ]
    found: dict[str, Task] = {}
    for task in every:
        # Of cells that are segments of one run, the one of its own method names it.
        if task.name not in found or not task.cell.segment:
            found[task.name] = task
    return list(found.values())


# ---------------------------------------------------------------------------- how far they are
def is_busy(task: Task) -> bool:
    """Whether a process works in a task's workdir, whoever has started it. This locks the workdir for a moment:
    ask where nobody claims the task."""
    if not task.workdir.is_dir():
        return False
    try:
        with lock.held(task.workdir / lock.RUN, ""):
            return False
    except lock.Held:
        return True


def state(task: Task, stale: float = claim.STALE) -> str:
    """What a run is. One that was interrupted is waiting, as if it had not begun."""
    # The summary is written last.
    if (task.workdir / "summary.json").exists():
        return DONE
    if claim.live(task.claims, task.name, stale):
        return UNDER_WAY
    return FAILED if claim.newest(task.claims, task.name).get("outcome") == FAILED else WAITING


def last_lines(task: Task, count: int = 12) -> list[str]:
    """The end of a run's log."""
    if not task.log.exists():
        return []
    with task.log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 20_000, 0))
        text = file.read().decode("utf-8", "replace")
    # A bar of progress draws itself anew on one line.
    lines = [line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-count:]


# ---------------------------------------------------------------------------- what was asked
def _read_grid(found: dict) -> Grid:
    cells = tuple(Cell(**cell | {"follow": tuple(cell["follow"])}) for cell in found["cells"])
    return Grid(**{**found, "cells": cells, "seeds": tuple(found["seeds"])})


def grids(folder: pathlib.Path) -> list[Grid]:
    """The grids that a sweep's folder holds; [] where it is none yet. Raises ValueError for a damaged one."""
    found = files.read_json(folder / "sweep.json")
    if found is None:
        return []
    try:
        return [_read_grid(own) for own in found["grids"]]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}/sweep.json is damaged ({error!r}): delete it and give the command with its --grid again; "
            "runs are kept"
        ) from None


def _identity(grid: Grid) -> tuple:
    """What makes two grids one, which may have other seeds."""
    return (grid.over, grid.split, grid.segment, *((c.name, c.segment) for c in grid.cells))


def _added(known: Sequence[Grid], grid: Grid) -> list[Grid]:
    """The grids with one more; the seeds of one that is there already are added to it."""
    found = {_identity(own): own for own in known}
    seeds = (*(found[_identity(grid)].seeds if _identity(grid) in found else ()), *grid.seeds)
    found[_identity(grid)] = grid._replace(seeds=tuple(dict.fromkeys(seeds)))
    return list(found.values())


def remember(folder: pathlib.Path, asked: Iterable[Grid]) -> None:
    """Adds grids to the sweep in a folder, which is made where there is none. Raises WrongUse for a folder that
    holds something else."""
    usage.check_folder("--workdir", folder)
    if (folder / "config.json").exists():
        raise usage.WrongUse(f"--workdir={folder} is a run itself; give the sweep another folder")
    for name in ("cells", "logs", "claims"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with lock.held(folder / "sweep.lock", f"{folder}/sweep.json", wait=lambda line: None):
        known = grids(folder)
        for grid in asked:
            known = _added(known, grid)
        write_json(folder / "sweep.json", {"grids": [_plain(grid) for grid in known]})


def _plain(grid: Grid) -> dict:
    return grid._asdict() | {"cells": [cell._asdict() for cell in grid.cells]}


# ---------------------------------------------------------------------------- files of several writers
def _mark() -> str:
    """An ending for temporary files that no other writer has."""
    return f"{socket.gethostname()}.{os.getpid()}.tmp"


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text whole or not at all, also where several programs do so at a time."""
    with files.whole(path, mark=_mark()) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: pathlib.Path, value) -> None:
    """Writes ``value`` as JSON in that way."""
    write_text(path, files.as_json(value))
