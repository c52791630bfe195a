"""The training loop: finds the segment to train, restores it, steps, logs, evaluates, saves and reports."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from mmvid import checkpoint, files, logs, optim, plans, sharding
from mmvid import step as step_lib
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.report import finish
from mmvid.run import (
    begin,
    build,
    cache,
    feed,
    lock,
    neighbours,
    programs,
    rehearsal,
    resume,
    reuse,
    score,
    signals,
    talk,
)
from mmvid.run.build import Run


class Diverged(RuntimeError):
    """Raised for a loss that is not finite; the message names the output, the term and the step."""


class Stopped(Exception):
    """Raised when the run was asked to end and has saved everything; the message says how to go on."""


# ---------------------------------------------------------------------------- the loop
def make_step(segment: Segment, config) -> Callable:
    """The segment's train step, not yet jitted: `_train` jits it, tests trace it."""
    return step_lib.make_train_step(
        segment.networks,
        segment.streams,
        segment.method,
        segment.tx,
        segment.lr,
        accumulate=config.accumulate,
        ema=config.ema,
    )


def _check_finite(values: dict[str, float], segment: str, step: int, workdir) -> None:
    bad = [name for name, value in values.items() if not np.isfinite(value)]
    # A loss that is not finite makes its gradient so, too: the loss is the one to name.
    terms = [n for n in bad if not n.endswith("grad_norm")] or bad
    if terms:
        output, term = terms[0].rsplit("/", 1)
        raise Diverged(
            f"training diverged in segment {segment!r} at step {step}: {term!r} of {output!r} is "
            f"{values[terms[0]]}. The last checkpoint is kept in {workdir}/{segment}. Try a lower "
            "--config.schedule.lr, a longer warm-up, or --config.optimizer.clip=5, with another --workdir."
        )


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)


def _asked_to_stop(run: Run, step: int) -> bool:
    """Whether a signal asked this process to end, or any of several: these agree every ``log_every`` steps."""
    # All must leave after the same step: one that goes on alone would wait for the others for ever.
    stop = "signal" in run.stop
    if jax.process_count() == 1:
        return stop
    # Agreeing makes the host wait for the other processes, too much for every step.
    if step % run.config.log_every:
        return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(stop)).any())


def _waiting(run: Run):
    """A context in which a signal ends the wait at once; of several processes none may leave alone, and it
    does nothing."""
    return signals.at_once(run.stop) if jax.process_count() == 1 else contextlib.nullcontext()


def _train(run: Run, segment: Segment, state, checkpoints, evaluate_split) -> Any:
    """Trains from ``state.step`` to the segment's end and returns the final state.

    Raises Stopped after a signal, once everything is saved, and Diverged for a loss that is not finite.
    """
    config, directory = run.config, run.workdir / segment.name
    start = int(state.step)
    rates = begin.rates(segment)
    # Opened before the first step: what was logged after the checkpoint is cut from the files.
    writer = logs.Writer(directory, run.workdir / "tensorboard" / segment.name, start)
    late = logs.Late(writer, lambda v, step: _check_finite(v, segment.name, step, run.workdir))
    step_fn = programs.shared(run, "step", segment, lambda: step_lib.jit_train_step(
        make_step(segment, config), sharding.replicated(run.mesh)
    ))  # fmt: skip
    # Once: these weights never change, and hashing them reads all of them.
    frozen = checkpoint.digests(state.frozen)
    evaluations, saves = (_every(d, segment) for d in (config.evaluation.every, config.save_every))
    batches, clock = feed.train_batches(run, segment, start), logs.Clock()
    bar = tqdm(total=segment.steps, initial=start - segment.first_step, desc=segment.name, unit="step",
               disable=jax.process_index() > 0, dynamic_ncols=True)  # fmt: skip

    def validated(step: int) -> float | None:
        if not (evaluate_split and _due(step, evaluations, segment.stop)):
            return None
        with clock.paused(), _waiting(run):
            return score.validate(run, segment, state, step, evaluate_split, writer)

    def keep(step: int, value: float | None, *, again: bool = False) -> None:
        # In this order: no checkpoint of a diverged state, none that is ahead of its log.
        late.check_all()
        writer.flush()
        checkpoint.save(
            checkpoints, step, state._replace(frozen={}), frozen=frozen, score=value, again=again
        )

    try:
        # A signal may have come between the step and its scores.
        late_score = start > segment.first_step and not checkpoint.scored(checkpoints)
        if late_score and (value := validated(start)) is not None:
            keep(start, value, again=True)
        bar.set_postfix_str("compiling")
        # Steps are dispatched ahead of the device; what reads it (a log line, scores, a save) makes them wait.
        for step in range(start + 1, segment.stop + 1):
            # Only the wait may be broken off: a step that is dispatched is finished and saved.
            with _waiting(run):
                batch = clock.next(batches)
            state, values = step_fn(state, sharding.place(run.mesh, batch))
            writer.write_ids(step, {group: b["id"].tolist() for group, b in batch.items()})
            late.see(step, values)
            bar.update()
            if step == start + 1:
                bar.set_postfix_str("", refresh=False)
            if _due(step, config.log_every, segment.stop):
                seen = late.push(begin.rates_at(rates, step - 1 - segment.first_step) | {"wait": clock.lap()})
                bar.set_postfix({k: f"{v:.2f}" for k, v in seen.items() if "/top1" in k})
            talk.announce(run, segment, step, start, clock, values)
            value = validated(step)
            stop = _asked_to_stop(run, step)
            # What was scored is saved, so that the best checkpoint is the one that the score is of.
            if _due(step, saves, segment.stop) or value is not None or stop:
                keep(step, value)
            if stop:
                raise Stopped(talk.goodbye(run, segment, step))
        return state
    except signals.Interrupted:
        # It came while a batch or scores were waited for: `state` is whole, and may be newer than its save.
        step = int(state.step)
        if step > start:
            keep(step, None)
        raise Stopped(talk.goodbye(run, segment, step)) from None
    finally:
        bar.close()
        batches.close()
        writer.close()


def _every(duration, segment: Segment) -> int:
    """The steps between two saves or two evaluations, from a duration such as '20%' or '2 epochs'. For a
    duration of 0 it is 0, which `_due` reads as: at the end alone."""
    per_epoch = segment.steps_per_epoch
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch, total=segment.steps)
    # A short segment's '20%' may round to 0, which would mean another thing: never less than a step.
    return steps if float(str(duration).split()[0].rstrip("%")) == 0 else max(steps, 1)


def _measure(run: Run, segment: Segment, state, evaluate_split) -> None:
    """Scores the splits of ``segment.measure`` before the first step, those whose scores are missing. A resumed
    segment is entered again for them, since ``state`` has learnt by now."""
    missing = resume.unmeasured(run, segment)
    if missing and int(state.step) > segment.first_step:
        state = begin.initial_state(segment, run, enter=True)
    for split in missing:
        with _waiting(run):
            evaluate_split(state, split, segment.first_step, when="before")


def _run_segment(run: Run, segment: Segment, key: str) -> None:
    """Trains a segment from its newest checkpoint or its start, scores it, and keeps its weights. Returns at
    once where nothing is left to do."""
    directory = run.workdir / segment.name
    if resume.finished(run, segment):
        return
    directory.mkdir(parents=True, exist_ok=True)
    resume.note_key(run, segment, key)
    scored = segment.evaluate or segment.measure
    evaluate_split = score.evaluator(run, segment) if scored else None
    with checkpoint.opened(directory / "checkpoints") as checkpoints:
        resumed = checkpoint.latest_step(checkpoints) is not None
        state = begin.initial_state(segment, run, enter=not resumed)
        if resumed:
            state = begin.restored(checkpoints, state)
        _measure(run, segment, state, evaluate_split)
        state = _train(run, segment, state, checkpoints, evaluate_split if segment.evaluate else None)
        # None where no validation gave a score: the last state stays.
        best = checkpoint.best_step(checkpoints)
        if segment.checkpoint == "best" and best is not None:
            state = begin.restored(checkpoints, state, best)
    # A segment that ended and lost some scores makes those again alone; else all, since weights are new.
    ended = resume.ended(run, segment)
    for split in resume.unscored(run, segment) if ended else segment.evaluate:
        with _waiting(run):
            evaluate_split(state, split, int(state.step))
    segment.leave(state, directory)
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

    Raises ValueError, in every process, where another run holds the lock.
    """

    def take() -> None:
        try:
            stack.enter_context(lock.held(workdir / "run.lock", f"--workdir={workdir}"))
        except lock.Held as error:
            raise ValueError(f"{error}. Wait until that run ends, end it, or give another --workdir.") from None

    sharding.on_first(take, f"locking {workdir}")


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
            for segment in built.segments:
                _run_segment(built, segment, known[segment.name])
            return built
        except signals.Interrupted:
            raise Stopped(
                f"stopped by {stop['signal']}; what was made before is kept in {workdir}. The same command "
                "goes on."
            ) from None


def train(config, workdir: str) -> dict:
    """Trains the configured plan in ``workdir`` and writes its table and report.

    The same call resumes: finished segments are skipped, and the one under way goes on from its last
    checkpoint. Returns the last segment's summary in process 0, {} in the others. Raises ValueError for a
    configuration that cannot work or a workdir that another run uses, ``Diverged`` for a loss that is
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
