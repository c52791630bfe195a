"""Tries a run without training it: what it is made of, whether its steps fit and how long they take, on made-up
batches. Nothing is written."""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mmvid import logs, network, operations, sharding, streams
from mmvid import step as step_lib
from mmvid.data import memory
from mmvid.data.groups import Group
from mmvid.logs import duration
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.report import text
from mmvid.run import begin, checks, feed, inference, loop, patience, resume
from mmvid.run.build import Run
from mmvid.run.outline import Outline
from mmvid.streams import Head
from mmvid.usage import folded

# Steps that are timed, after a first one that is not; where they are slow, as many as fit into so many seconds.
STEPS, PATIENCE = 5, 120.0


class Tried(NamedTuple):
    """What a segment's step takes, in bytes and seconds.

    ``peak`` are the bytes that it uses at once, of which ``free`` are there (None where nobody tells).
    ``seconds`` are those of each step that was timed, none where it does not fit. A checkpoint holds
    ``state``, and ``weights`` are left at the end.
    """

    peak: int | None
    free: int | None
    seconds: tuple[float, ...]
    state: int
    weights: int

    @property
    def mean(self) -> float | None:
        """The seconds of a step; None where none was timed."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else None


# ---------------------------------------------------------------------------- a batch
def _label(head: Head, rows: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(0, head.classes, rows)
    if head.kind == "multi":
        return np.eye(head.classes, dtype=np.float32)[drawn]
    return drawn.astype(np.int32)


def _labels(segment: Segment, group: Group, rows: int, rng: np.random.Generator) -> dict:
    """The labels that the loader gives to a group, under their names there."""
    if not (group.labels or group.audit):
        return {}
    found = {name: _label(head, rows, rng) for name, head in segment.heads.items()}
    return {"label" if group.labels else "audit": found}


def _cut(stream: streams.Stream, rows: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise in the place of what the loader cuts: [rows, *host_shape]."""
    shape, dtype = (rows, *streams.host_shape(stream, side)), np.dtype(streams.form_of(stream).dtype)
    if dtype.kind == "f":
        return rng.random(shape, dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _draws(segment: Segment, group: Group, count: int, rng: np.random.Generator) -> dict:
    """What the loader would draw for the operations that views leave to the device, {view: draws [rows]}."""
    found = {}
    for view, augment in group.views.items():
        if augment.device:
            rows = [operations.draw(rng, augment.device, segment.streams.values()) for _ in range(count)]
            found[view] = jax.tree.map(lambda *own: np.stack(own), *rows)
    return {"draws": found} if found else {}


def batch(segment: Segment, side: int) -> dict:
    """Makes up this process's rows of a batch of a segment, in the shapes of the loader's; every clip has every
    modality, and a network that runs one of its reads a step runs the first."""
    rng, made, choices = np.random.default_rng(0), {}, feed.one_of(segment)
    for name, group in segment.groups.items():
        rows, own = group.batch_size // jax.process_count(), segment.streams.values()
        chosen = {network: np.int32(0) for network in choices[name].choices} if name in choices else {}
        made[name] = {
            "inputs": {view: {s.name: _cut(s, rows, side, rng) for s in own} for view in group.views},
            **_labels(segment, group, rows, rng),
            **_draws(segment, group, rows, rng),
            "mask": np.ones(rows, bool),
            "present": {s.name: np.ones(rows, bool) for s in own},
            "id": np.arange(rows, dtype=np.int32),
            **({"one_of": chosen} if chosen else {}),
        }
    return made


# ---------------------------------------------------------------------------- a segment
def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _free() -> int | None:
    """The bytes that a program may use on a device; None where nobody tells."""
    stats = jax.devices()[0].memory_stats() or {}
    # Several processes must decide alike, and each sees another number of free bytes of its own host.
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return stats.get("bytes_limit")
    free = memory.available()
    # What is called a device here is a share of one machine.
    return free and free // len(jax.local_devices())


def _timed(program: Callable, state, placed) -> tuple[float, ...]:
    """The seconds of each of some steps."""
    # Several processes must take equally many.
    patience = PATIENCE if jax.process_count() == 1 else float("inf")
    taken, end = [], time.perf_counter() + patience
    state, values = program(state, placed)
    jax.block_until_ready(values)
    while len(taken) < STEPS and (not taken or time.perf_counter() < end):
        begun = time.perf_counter()
        state, values = program(state, placed)
        jax.block_until_ready((state, values))
        taken.append(time.perf_counter() - begun)
    return tuple(taken)


def tried(run: Run, segment: Segment) -> Tried:
    """Compiles a segment's step, for drawn weights in place of those that it will start from, and times it where
    it fits into memory."""
    # Nothing that it would start from is there: no earlier segment was trained.
    segment = segment._replace(enter=lambda beginning, run: beginning)
    with patience.saying(f"{segment.name}: drawing its weights", _say):
        state = begin.initial_state(segment, run, enter=False)
    placed = sharding.place(run.mesh, batch(segment, run.config.size))
    step = step_lib.jit_train_step(loop.make_step(segment, run.config), sharding.replicated(run.mesh), state)
    state_bytes, weights = _bytes(state._replace(frozen={}, key=())), _bytes(network.final_weights(state))
    found = Tried(None, _free(), (), state_bytes, weights)
    try:
        # Once more around the trainer's jit: only what is lowered by hand tells its memory.
        with patience.saying(f"{segment.name}: compiling its step", _say):
            program = jax.jit(step, donate_argnums=0).lower(state, placed).compile()
        found = found._replace(peak=inference.peak(program))
        known = found.peak is not None and found.free is not None
        if known and found.peak > found.free:
            return found
        with patience.saying(f"{segment.name}: timing {STEPS} steps", _say):
            return found._replace(seconds=_timed(program, state, placed))
    except jax.errors.JaxRuntimeError as error:
        # An accelerator that is too small says so when it compiles or when it runs.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return found


def _alike(segment: Segment) -> str:
    """A text that is the same for segments whose steps do the same work: they are tried once."""
    if not segment.spec:
        return segment.name
    program, groups = segment.spec["program"], segment.spec["data"]["groups"]
    parts = ("networks", "streams", "heads", "method", "accumulate", "ema")
    optimizers = {name: own["optimizer"] for name, own in program["learning"].items()}
    return keys.digest([{name: program[name] for name in parts}, optimizers, groups])


# ---------------------------------------------------------------------------- what is left on the disk
def _scores(run: Run, segment: Segment) -> int:
    """The bytes of a segment's scores: the logits of every view of every clip, in float32."""
    if not (segment.scored or segment.measure):
        return 0  # its streams need not go with the protocol of those that are
    classes = sum(head.classes for head in segment.heads.values())
    dataset, views = run.datasets[segment.dataset], inference.shown(run, segment)[1]
    splits = (*segment.scored, *segment.measure, *segment.evaluate[:1] * len(segment.thinned))
    clips = sum(dataset.info.splits.get(split, 0) for split in splits)
    outputs = sum(len(own.outputs) for own in segment.networks if not own.frozen)
    return 4 * clips * views * outputs * classes


def _disk(run: Run, segment: Segment, found: Tried) -> int:
    """The bytes that a segment leaves: its last checkpoint and its best one, its weights, its scores."""
    return (1 + bool(segment.evaluate)) * found.state + found.weights + _scores(run, segment)


# ---------------------------------------------------------------------------- in words
def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _networks(run: Run) -> list[tuple[str, ...]]:
    """A row for each network, once: its model, what it reads in which shape, its parameters, and the segments that
    it is in, which tell apart those of one name."""
    found: dict[tuple, tuple] = {}
    segments: dict[tuple, list[str]] = {}
    for segment in run.segments:
        for own in segment.networks:
            draw = inference.drawn(own, segment.streams, run.config.size)
            params, _ = jax.eval_shape(draw, jax.random.key(0))
            read = [segment.streams[s] for together in own.reads for s in together]
            shapes = [f"{s.name} {list(streams.shape(s, run.config.size))}" for s in read]
            row = (own.name, run.config.networks[own.name].model, ", ".join(shapes))
            found.setdefault(row, f"{inference.parameters(params):,}")
            segments.setdefault(row, []).append(segment.name)
    rows = ((*row, count, ", ".join(segments[row])) for row, count in found.items())
    return [("network", "model", "reads", "parameters", "segments"), *rows]


def _row(run: Run, segment: Segment, found: Tried) -> tuple[str, ...]:
    # ' + ' is a sum of outputs; these only learn at one time.
    learners = ", ".join(own.name for own in segment.networks if not own.frozen)
    frozen = sum(own.frozen for own in segment.networks)
    sizes = "+".join(str(group.batch_size) for group in segment.groups.values())
    mean = found.mean
    return (
        segment.name,
        f"{learners}; {frozen} frozen" if frozen else learners,
        f"{segment.steps:,}",
        sizes,
        "does not fit" if mean is None else f"{mean:.3g}",
        "-" if mean is None else duration(mean * segment.steps),
        "-" if found.peak is None else _size(found.peak),
        _size(_disk(run, segment, found)),
    )


HEADER = ("segment", "networks", "steps", "batch", "s a step", "in all", "memory", "disk")


def _time(run: Run, known: dict[str, Tried], of: str, seeds: int) -> str:
    """How long it takes, from the steps that were timed; '' where none was."""
    timed = [(segment.steps, known[segment.name]) for segment in run.segments if known[segment.name].seconds]
    if not timed:
        return ""
    whole = seeds * sum(steps * found.mean for steps, found in timed)
    least = min(len(found.seconds) for _, found in timed)
    return (
        f"{duration(whole)} of training{of} on {logs.machine()}, by {least} steps of each segment; compiling, "
        "scoring and a loader that is slower come on top."
    )


def _too_large(run: Run, known: dict[str, Tried]) -> str:
    """Which segments do not fit into memory, and what to do; '' where all do."""
    large = {name: found for name, found in known.items() if not found.seconds}
    if not large:
        return ""
    peaks, free = ([own for own in column if own is not None] for column in zip(*(f[:2] for f in large.values())))
    sizes = {
        f"--config.{checks.setting_of(run.config, name, group)}": None
        for segment in run.segments
        if segment.name in large
        for name, group in segment.groups.items()
    }
    needs = f"up to {_size(max(peaks))}" if peaks else "more than there is"
    return (
        f"{text.listed(list(large))} will not fit into memory: a step needs {needs}"
        f"{f', and {_size(min(free))} are free' if free else ''}. Take a smaller {' or '.join(sizes)}, a larger "
        "--config.accumulate, or --config.model_options.remat=True."
    )


def _closing(outline: Outline, known: dict[str, Tried], workdir: pathlib.Path, seeds: int) -> list[str]:
    """What it comes to, and what is not in it, in sentences."""
    run, of = outline.run, f" of {seeds} seeds" if seeds > 1 else ""
    disk = seeds * sum(_disk(run, segment, known[segment.name]) for segment in run.segments)
    place = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    guess = " of a number of clips that is a guess" if outline.guessed else ""
    return [
        *filter(None, [_time(run, known, of, seeds), _too_large(run, known)]),
        f"{_size(disk)} on the disk{of}: checkpoints, weights, and scores{guess}; {logs.free_disk(place)}.",
        "A dry run: nothing was trained, nothing was written.",
    ]


def _tried(run: Run) -> dict[str, Tried]:
    """{segment: what its step takes}; segments whose steps do the same work are tried once."""
    by_work: dict[str, Tried] = {}
    known = {}
    for segment in run.segments:
        key = _alike(segment)
        if key not in by_work:
            _say(f"{segment.name}: trying a step ...")
            by_work[key] = tried(run, segment)
        known[segment.name] = by_work[key]
    return known


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line, flush=True)


def dry(outline: Outline, workdir: pathlib.Path, seeds: int = 1) -> None:
    """Prints what a run is made of, what its steps take and what it will come to, with ``seeds`` such runs in
    ``workdir``. Raises ValueError for what cannot be trained."""
    run = outline.run
    for line in outline.assumed:
        _say(folded("", line))
    _say("\n" + text.aligned(_networks(run), right=(3,)) + "\n")
    try:
        feed.check(run)
        # What is assumed to be there cannot be asked.
        if not outline.assumed:
            resume.check_beginnings(run)
    except (ValueError, OSError) as error:  # the rest is worth knowing all the same
        _say(folded("", f"It would not start here: {error}"))
    known = _tried(run)
    rows = [_row(run, segment, known[segment.name]) for segment in run.segments]
    _say("\n" + text.aligned([HEADER, *rows], right=range(2, 8)) + "\n")
    for line in _closing(outline, known, workdir, seeds):
        _say(folded("", line))
