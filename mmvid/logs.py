"""The records that a run keeps: its log, its metrics as JSON lines and TensorBoard events, and the ids of the
clips of each step."""

import contextlib
import json
import logging
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from mmvid import files

LOG = logging.getLogger("mmvid")


class _Terminal(logging.Handler):
    """A handler that prints to standard output, above the progress bar that may stand on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record at once."""
        tqdm.write(self.format(record))
        sys.stdout.flush()


def setup(workdir: pathlib.Path) -> None:
    """Sends ``LOG`` to the terminal and to ``workdir/log.txt`` (process 0 only); what is for debugging, to the
    latter alone."""
    LOG.setLevel(logging.DEBUG)
    # absl has a handler of its own at the root: every line would stand there twice.
    LOG.propagate = False
    # A second run in one process (tests, several seeds) writes into its own file, not into the first one's.
    for handler in list(LOG.handlers):
        LOG.removeHandler(handler)
        handler.close()
    if jax.process_index():
        LOG.addHandler(logging.NullHandler())
        return
    terminal = _Terminal(logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    file = logging.FileHandler(workdir / "log.txt")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    LOG.addHandler(terminal)
    LOG.addHandler(file)


def line(step: int, values: dict[str, float]) -> str:
    """The line of metrics.jsonl for the metrics ``values`` of a step."""
    return json.dumps({"step": step, **values}) + "\n"


class Writer:
    """Appends metrics (JSON lines, TensorBoard) and the ids of the clips of each step to files in ``directory``
    and ``tensorboard``, from ``step`` on.

    Call `flush` before a checkpoint is saved: then no line of a step that the checkpoint covers is lost in
    a kill.
    """

    def __init__(self, directory: pathlib.Path, tensorboard: pathlib.Path, step: int):
        process = jax.process_index()
        # What an earlier call wrote beyond its last checkpoint happens again: those lines are cut.
        paths = directory / "metrics.jsonl", directory / f"ids-{process}.jsonl"
        if process == 0:
            files.cut(paths[0], step)
        files.cut_end(paths[1], step)
        self.ids = paths[1].open("a")
        self.metrics = self.board = None
        if process == 0:
            self.metrics = paths[0].open("a")
            self.board = _tensorboard(tensorboard)
            for row in files.read_lines(paths[0]):
                self._draw(row["step"], {k: v for k, v in row.items() if k != "step"})

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes a line of metrics at ``step``; nothing in processes other than 0."""
        if self.metrics is None:
            return
        # Six digits: more is noise, and doubles the file.
        rounded = {k: float(f"{v:.6g}") for k, v in values.items()}
        self.metrics.write(line(step, rounded))
        self._draw(step, rounded)

    def _draw(self, step: int, values: dict[str, float]) -> None:
        """Writes values as TensorBoard events."""
        for name, value in values.items():
            self.board.add_scalar(name, np.float32(value), step)

    def write_ids(self, step: int, ids: dict[str, list[int]]) -> None:
        """Writes the rows of their splits that the update to ``step`` has seen, {group: rows}. Every process
        writes its own."""
        self.ids.write(json.dumps({"step": step, **ids}) + "\n")

    def flush(self) -> None:
        """Hands everything to the operating system."""
        for file in (self.ids, self.metrics, self.board):
            if file is not None:
                file.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        for file in (self.ids, self.metrics, self.board):
            if file is not None:
                file.close()


def _tensorboard(directory: pathlib.Path):
    """Opens an empty event file in ``directory``, whose earlier content is removed."""
    # Imported here: it takes a second, and only process 0 writes events.
    from tensorboard.summary import Writer as EventWriter

    # Events cannot be cut: they are drawn anew from the lines that are left.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    return EventWriter(str(directory))


def duration(seconds: float) -> str:
    """A time in words: '45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def machine() -> str:
    """The devices in words: '8 devices (TPU v3), 2 processes'."""
    devices = jax.devices()
    text = f"{len(devices)} device{'s' * (len(devices) > 1)} ({devices[0].device_kind})"
    return text + (f", {jax.process_count()} processes" if jax.process_count() > 1 else "")


def free_disk(path: pathlib.Path) -> str:
    """Free space where ``path`` lies, in GB."""
    return f"{shutil.disk_usage(path).free / 1e9:.0f} GB free"


def flatten(tree: dict) -> Iterator[tuple[str, str]]:
    """The leaves of a tree of JSON values as pairs of path and JSON text: ('optimizer.clip', '5.0')."""

    def walk(prefix, value):
        """The leaves below ``value``, whose own name is ``prefix``."""
        if isinstance(value, dict):
            for name, child in value.items():
                yield from walk(f"{prefix}.{name}" if prefix else name, child)
        else:
            yield prefix, json.dumps(value)

    return walk("", tree)


class Clock:
    """Measures how long a stretch of steps takes, and how much of it waits for input; scoring is left out."""

    def __init__(self):
        self.first = 0.0  # seconds of the first step, compilation included
        self.reset()

    def reset(self) -> None:
        """Starts counting anew."""
        self.start, self.waited, self.steps = time.perf_counter(), 0.0, 0
        self._mark = 0.0, 0.0

    def next(self, batches):
        """Returns the next batch, and counts the time that this waits for it."""
        begin = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - begin
        self.steps += 1
        return batch

    @contextlib.contextmanager
    def paused(self):
        """A context whose time is not counted."""
        begin = time.perf_counter()
        yield
        # As if the clock had been started that much later.
        self.start += time.perf_counter() - begin

    def elapsed(self) -> float:
        """Seconds since the last `reset`, without pauses."""
        return time.perf_counter() - self.start

    def seconds(self) -> float:
        """Seconds that a step takes, averaged since the last `reset`."""
        return self.elapsed() / max(self.steps, 1)

    def wait(self) -> float:
        """The share of the time since the last `reset` that was spent waiting for input, from 0 to 1."""
        return self.waited / max(self.elapsed(), 1e-9)

    def lap(self) -> float:
        """As `wait`, of the time since the last lap alone."""
        now = self.elapsed(), self.waited
        elapsed, waited = (a - b for a, b in zip(now, self._mark))
        self._mark = now
        return waited / max(elapsed, 1e-9)


class Late:
    """Reads metrics off the device one log line late, so that reading never waits for the step under way.

    A log line shows the last step before it. Where that one's metrics are not finite, ``check(metrics, step)``
    is called for every step since the line before, and raises for the first bad one.
    """

    def __init__(self, writer: Writer, check: Callable):
        self.writer, self.check = writer, check
        self.recent, self.pending = [], None

    def see(self, step: int, values) -> None:
        """Keeps the metrics of a step, on the device."""
        self.recent.append((step, values))

    def push(self, extra: dict[str, float]) -> dict[str, float]:
        """Ends a log line with the step seen last and the values ``extra``. Writes the line before it, and
        returns that one's metrics."""
        before = self.flush()
        self.pending, self.recent = (self.recent, extra), []
        return before

    def flush(self) -> dict[str, float]:
        """Reads, checks and writes the line that was kept back; returns its metrics, {} where there is none."""
        if self.pending is None:
            return {}
        (seen, extra), self.pending = self.pending, None
        values = self._read(seen)
        self.writer.write(seen[-1][0], {f"train/{n}": v for n, v in values.items()} | extra)
        return values

    def check_all(self) -> None:
        """Flushes, and checks every step up to now. Call it before a save, so that only a finite state is
        kept."""
        self.flush()
        if self.recent:
            self._read(self.recent)

    def _read(self, seen: list) -> dict[str, float]:
        """The metrics of the last step seen. Where one of them is not finite, `check` is called for every step
        in turn first."""
        values = _floats(seen[-1][1])
        # What is not finite stays so: steps before are read only where the last one is bad.
        if not np.isfinite(list(values.values())).all():
            for step, earlier in seen:
                self.check(_floats(earlier), step)
        return values


def _floats(values) -> dict[str, float]:
    """Reads metrics off the device, without those of outputs that the step did not run, whose 'output/shown' is
    0."""
    # One transfer for all: a float() of each would wait for the device as often.
    read = {name: float(v) for name, v in jax.device_get(values).items()}
    shown = {name.removesuffix("/shown"): v for name, v in read.items() if name.endswith("/shown")}
    named = {name: v for name, v in read.items() if not name.endswith("/shown")}
    return {name: v for name, v in named.items() if shown.get(name.rpartition("/")[0], 1.0)}


def input_advice(clock: Clock, workers: int, threads: int) -> str:
    """Says in words what waiting for input costs, and how many worker processes would cure it."""
    wait, cores = clock.wait(), os.cpu_count() or 1
    text = f"{wait:.0%} of a step waits for input"
    # Less is not worth a change.
    if wait < 0.1:
        return text
    now = workers or min(threads, cores)
    # A batch takes 1 / (1 - wait) times as long to make as to learn from.
    enough = max(int(np.ceil(now / max(1 - wait, 0.05))), now + 1)
    if enough <= cores:
        return f"{text}; --config.loader.workers={enough} would cure it"
    return (
        f"{text}; {enough} worker processes would cure it, this machine has {cores} cores: store "
        "smaller frames (data_prep.build --short_side), or use a machine with more"
    )
