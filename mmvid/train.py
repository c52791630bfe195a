"""A run from its configuration to its report: finds each segment to train, restores it, trains and scores it."""

import contextlib
import pathlib
from collections.abc import Callable

import jax

from mmvid import checkpoint, files, lock, logs, plans, sharding
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.report import finish
from mmvid.run import (
    begin,
    build,
    cache,
    counts,
    feed,
    loop,
    neighbours,
    processes,
    rehearsal,
    resume,
    reuse,
    score,
    seen,
    signals,
    talk,
)
from mmvid.run.build import Run
from mmvid.run.signals import Stopped


# ---------------------------------------------------------------------------- a segment
def _measure(run: Run, segment: Segment, state, evaluate_split) -> None:
    """Scores the splits of ``segment.measure`` before the first step, those whose scores are missing. A resumed
    segment is entered again for them, since ``state`` has learnt by now."""
    missing = resume.unmeasured(run, segment)
    if missing and int(state.step) > segment.first_step:
        state = begin.initial_state(segment, run, enter=True)
    for split in missing:
        with loop.waiting(run):
            evaluate_split(state, split, segment.first_step, when="before")


def _learnt(run: Run, segment: Segment, evaluate_split):
    """Trains a segment from its newest checkpoint or its start; returns the state that it ends with."""
    validate = evaluate_split if segment.evaluate else None
    with checkpoint.opened(run.workdir / segment.name / "checkpoints") as checkpoints:
        resumed = checkpoint.latest_step(checkpoints) is not None
        state = begin.initial_state(segment, run, enter=not resumed)
        if resumed:
            state = begin.restored(checkpoints, state)
        _measure(run, segment, state, evaluate_split)
        state = loop.train(run, segment, state, checkpoints, validate)
        # None where no validation gave a score: the last state stays.
        best = checkpoint.best_step(checkpoints)
        if segment.checkpoint == "best" and best is not None:
            state = begin.restored(checkpoints, state, best)
    return state


def _run_segment(run: Run, segment: Segment, key: str, shown: Callable | None = None) -> None:
    """Trains a segment, scores it, and keeps its weights. Returns at once where nothing is left to do. Segments of
    a run share what ``shown`` has looked at (`seen.of`)."""
    directory = run.workdir / segment.name
    if resume.finished(run, segment):
        return
    directory.mkdir(parents=True, exist_ok=True)
    resume.note_key(run, segment, key, shown)
    scored = segment.evaluate or segment.measure
    evaluate_split = score.evaluator(run, segment) if scored else None
    state = _learnt(run, segment, evaluate_split)
    # A segment that ended and lost some scores makes those again alone; else all, since weights are new.
    ended = resume.ended(run, segment)
    for split in resume.unscored(run, segment) if ended else segment.scored:
        with loop.waiting(run):
            evaluate_split(state, split, int(state.step))
    for stride in resume.unthinned(run, segment) if ended else segment.thinned:
        with loop.waiting(run):
            evaluate_split(state, segment.evaluate[0], int(state.step), thinned=stride)
    segment.leave(state, directory)
    if jax.process_index() == 0 and segment.scored:
        counts.note(run, segment)
    # Last: whoever sees this file may rely on the scores and weights beside it.
    if jax.process_index() == 0:
        files.write_json(directory / "done.json", {"steps": segment.steps})
    sharding.meet(f"{segment.name} done")


# ---------------------------------------------------------------------------- the run
def _folder(workdir: str) -> pathlib.Path:
    path = pathlib.Path(workdir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"--workdir={workdir} is a file: name a folder, it need not exist yet")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _alone(stack: contextlib.ExitStack, workdir: pathlib.Path) -> None:
    """Locks the workdir until ``stack`` ends. Process 0 does it for all processes of the run.

    Raises ValueError, in every process, where another run holds the lock, or the hosts do not share the folder.
    """

    def take() -> None:
        try:
            stack.enter_context(lock.held(workdir / lock.RUN, f"--workdir={workdir}"))
        except lock.Held as error:
            raise ValueError(f"{error}. Wait until that run ends, end it, or give another --workdir.") from None

    sharding.on_first(take, f"locking {workdir}")
    processes.check_shared(workdir)


def _prepared(config, workdir: pathlib.Path, stop: dict) -> Run:
    """Builds and checks the run: everything that comes before the first segment. A signal ends it at once,
    since nothing that was trained could be lost."""
    with signals.at_once(stop):
        reuse.check(config)
        built = build.build(config, workdir, stop)
        feed.check(built)
        # Only the report is left of a run that is done: its end need not be rehearsed.
        if not resume.all_done(built):
            sharding.on_first(lambda: rehearsal.rehearse(built), "the rehearsal of the run's end")
        resume.check_beginnings(built)
        talk.say_untrained_norms(config)
        # After all checks: a configuration that cannot work leaves the workdir free for one that can.
        resume.remember(built)
        neighbours.write(built)
    return built


def _trained(config, workdir: pathlib.Path) -> Run:
    """Builds the run and trains all of its segments. Raises Stopped after a signal."""
    with signals.listened() as stop:
        try:
            built = _prepared(config, workdir, stop)
            # Before anything is trained: keys hash the files of weights that segments start from.
            known = keys.of(built.segments)
            with signals.at_once(stop):
                reuse.take(built, known)
                # Once more: what was taken must prove what it has seen, too.
                resume.check_beginnings(built)
            shown = seen.shower(built)
            for segment in built.segments:
                _run_segment(built, segment, known[segment.name], shown)
            return built
        except signals.Interrupted:
            raise Stopped(
                f"stopped by {stop.get('signal', 'another process')}; what was made before is kept in {workdir}. "
                "The same command goes on.",
                signals.name_of(stop),
            ) from None


def train(config, workdir: str) -> dict:
    """Trains the configured plan in ``workdir`` and writes its table and report.

    The same call resumes: finished segments are skipped, and the one under way goes on from its last
    checkpoint. Returns the last segment's summary in process 0, {} in the others. Raises ValueError for a
    configuration that cannot work or a workdir that another run uses, `loop.Diverged` for a loss that is
    not finite, ``Stopped`` after a signal.
    """
    path = _folder(workdir)
    with contextlib.ExitStack() as stack:
        _alone(stack, path)
        logs.setup(path)
        talk.say_idle_accelerator()
        cache.choose(path)
        built = _trained(config, path)
        if jax.process_index():
            return {}
        shown, baseline = finish.shown(built.segments), plans.baseline(built.segments)
        return finish.finish(path, config, shown, built.datasets["dataset"], baseline=baseline)
