"""What the runs of a sweep have left, as a table of each grid; and its page."""

import pathlib
from collections.abc import Sequence

from mmvid import files
from mmvid.report import rows, sweep
from mmvid.report.rows import Row
from mmvid.run import build
from mmvid.scores import file
from mmvid.sweeps import claim, folder
from mmvid.sweeps.folder import DONE, FAILED, Task
from mmvid.sweeps.grid import Cell, Grid, titles_of


def _column(task: Task, grid: Grid) -> tuple[str, str]:
    """The segment of a run that has ended whose scores its cell is about, and the split of the grid."""
    found = files.read_json(task.workdir / "summary.json")
    # The last column of a run is its own method.
    last = list(found)[-1]
    return task.cell.segment or grid.segment or last, grid.split or next(iter(found[last]), "")


def _seconds(workdir: pathlib.Path) -> float:
    """How long all segments of a run were trained, those that it has taken from others, too."""
    notes = (files.read_note(path) for path in sorted(workdir.glob("*/cost.json")))
    return sum(float(note.get("seconds", 0)) for note in notes)


def _row(cell: Cell, own: Sequence[Task], column: tuple[str, str]) -> tuple[Row | None, str]:
    """The row of the seeds of a cell that have scores of a ``column`` (segment, split), and its output."""
    segment, split = column
    found = [(task, task.workdir / segment / "scores" / f"{split}.npz") for task in own]
    found = [(task, path) for task, path in found if path.exists()]
    if not found:
        return None, ""
    config = build.stored(found[0][0].workdir)
    scores = {split: [file.load(path) for _, path in found]}
    seeds, runs = (tuple(task.seed for task, _ in found), tuple(str(task.workdir) for task, _ in found))
    row = Row(cell.title, segment, seeds, runs, scores, config)
    output = rows.outputs([row], split, config["headline"])[0]
    return row, output


def _note(own: Sequence[Task], stale: float) -> str:
    states = {task.seed: folder.state(task, stale) for task in own}
    parts = {}
    for seed, state in states.items():
        parts.setdefault(state, []).append(str(seed))
    said = [f"{state}: seed{'s' * (len(s) > 1)} {', '.join(s)}" for state, s in parts.items() if state != DONE]
    return "; ".join(said)


def _entry(
    sweep_folder: pathlib.Path, grid: Grid, cell: Cell, split: str, short: dict, stale: float
) -> sweep.Entry:  # fmt: skip
    own = [Task(sweep_folder, cell, seed) for seed in grid.seeds]
    ended = [task for task in own if (task.workdir / "summary.json").exists()]
    column = (_column(ended[0], grid)[0], split) if ended else ("", split)
    row, output = _row(cell, ended, column)
    values = {short[key]: value for key, value in cell.values.items()}
    note = _note(own, stale)
    if ended and row is None:
        note = note or f"it has no scores of {column[1]!r} in the segment {column[0]!r}"
    seconds = tuple(_seconds(task.workdir) for task in ended)
    return sweep.Entry(cell.title, values, row, output, len(own), seconds, cell.published, note)


def table(sweep_folder: pathlib.Path, grid: Grid, stale: float = claim.STALE) -> sweep.Table:
    """Measures a grid's cells by what their runs have left so far."""
    every = [Task(sweep_folder, cell, seed) for cell in grid.cells for seed in grid.seeds]
    ended = [task for task in every if (task.workdir / "summary.json").exists()]
    split = _column(ended[0], grid)[1] if ended else grid.split or "test"
    short = titles_of(list(dict.fromkeys(key for cell in grid.cells for key in cell.values)))
    entries = [_entry(sweep_folder, grid, cell, split, short, stale) for cell in grid.cells]
    known = [entry.row for entry in entries if entry.row is not None]
    how = known[0].config["evaluation"]["aggregate"] if known else "logits"
    return sweep.tabled(grid.title, entries, split, how, over=grid.over, note=grid.note)


def write(sweep_folder: pathlib.Path, stale: float = claim.STALE) -> list[sweep.Table]:
    """Writes sweep.html and table.json of all grids of a folder, and returns their tables."""
    grids = folder.grids(sweep_folder)
    tables = [table(sweep_folder, grid, stale) for grid in grids]
    tasks = folder.tasks(sweep_folder, grids)
    states = [folder.state(task, stale) for task in tasks]
    failed = [(task.title, folder.last_lines(task)) for task, own in zip(tasks, states) if own == FAILED]
    command = f"python -m mmvid sweep --workdir={sweep_folder}"
    page = sweep.html(sweep_folder.resolve().name, tables, (states.count(DONE), len(tasks)), failed, command)
    folder.write_text(sweep_folder / "sweep.html", page)
    folder.write_json(sweep_folder / "table.json", [sweep.plain(own) for own in tables])
    return tables
