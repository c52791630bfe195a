"""The loop over a segment's steps: it dispatches them, logs, validates and saves."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from mmvid import checkpoint, logs, optim, sharding
from mmvid import step as step_lib
from mmvid.plans.segment import Segment
from mmvid.run import begin, cost, feed, programs, score, signals, talk
from mmvid.run.build import Run
from mmvid.run.signals import Stopped


class Diverged(RuntimeError):
    """Raised for a loss that is not finite; the message names the output, the term and the step."""


class Loop(NamedTuple):
    """What the steps of a segment share: ``step_fn`` is jitted, ``evaluate_split`` is `score.evaluator`'s or None;
    ``frozen`` are the digests of the teachers, ``rates`` the learning rates of all steps. The first step is the
    one after ``start``; every so many steps (0: at the end alone) there are ``evaluations`` and ``saves``."""

    run: Run
    segment: Segment
    checkpoints: checkpoint.Checkpointer
    evaluate_split: Callable | None
    step_fn: Callable
    start: int
    frozen: dict[str, str]
    rates: dict[str, np.ndarray]
    evaluations: int
    saves: int
    writer: logs.Writer
    late: logs.Late
    clock: logs.Clock
    meter: cost.Meter
    bar: tqdm


# ---------------------------------------------------------------------------- what is checked and when
def make_step(segment: Segment, config) -> Callable:
    """The segment's train step, not yet jitted: `train` jits it, tests trace it."""
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


def every(duration, segment: Segment) -> int:
    """The steps between two saves or two evaluations, from a duration such as '20%' or '2 epochs'. For a
    duration of 0 it is 0, which `_due` reads as: at the end alone."""
    per_epoch = segment.steps_per_epoch
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch, total=segment.steps)
    # A short segment's '20%' may round to 0, which would mean another thing: never less than a step.
    return steps if float(str(duration).split()[0].rstrip("%")) == 0 else max(steps, 1)


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)


def _asked_to_stop(run: Run) -> bool:
    """Whether a signal asked this process to end, or any of several."""
    # All must leave after the same step: one that goes on alone would wait for the others for ever.
    return "signal" in run.stop if jax.process_count() == 1 else signals.agreed(run.stop)


def waiting(run: Run):
    """A context in which a signal ends the wait at once; of several processes none may leave alone, and it
    does nothing (scores ask by themselves, `score.evaluator`)."""
    return signals.at_once(run.stop) if jax.process_count() == 1 else contextlib.nullcontext()


# ---------------------------------------------------------------------------- the steps
def _opened(run: Run, segment: Segment, state, checkpoints, evaluate_split) -> Loop:
    """The Loop that goes on from ``state``. What was logged after it is cut from the files."""
    directory, start = run.workdir / segment.name, int(state.step)
    writer = logs.Writer(directory, run.workdir / "tensorboard" / segment.name, start)
    late = logs.Late(writer, lambda values, step: _check_finite(values, segment.name, step, run.workdir))
    replicated = sharding.replicated(run.mesh)
    step_fn = programs.shared(
        run, "step", segment, lambda: step_lib.jit_train_step(make_step(segment, run.config), replicated, state)
    )
    evaluations, saves = (every(d, segment) for d in (run.config.evaluation.every, run.config.save_every))
    done, silent = start - segment.first_step, jax.process_index() > 0
    bar = tqdm(
        total=segment.steps, initial=done, desc=segment.name, unit="step", disable=silent, dynamic_ncols=True
    )
    return Loop(
        run=run,
        segment=segment,
        checkpoints=checkpoints,
        evaluate_split=evaluate_split,
        step_fn=step_fn,
        start=start,
        # Once: these weights never change, and hashing them reads all of them.
        frozen=checkpoint.digests(state.frozen),
        rates=begin.rates(segment),
        evaluations=evaluations,
        saves=saves,
        writer=writer,
        late=late,
        clock=logs.Clock(),
        meter=cost.Meter(directory),
        bar=bar,
    )


def _validated(loop: Loop, state, step: int) -> float | None:
    """Scores ``state`` where that is due after ``step``: the number that decides which checkpoint is best."""
    if not (loop.evaluate_split and _due(step, loop.evaluations, loop.segment.stop)):
        return None
    with loop.clock.paused(), waiting(loop.run):
        return score.validate(loop.run, loop.segment, state, step, loop.evaluate_split, loop.writer)


def _keep(loop: Loop, state, step: int, value: float | None, *, again: bool = False) -> None:
    """Saves ``state`` with its score."""
    # In this order: no checkpoint of a diverged state, none that is ahead of its log.
    loop.late.check_all()
    loop.writer.flush()
    bare = state._replace(frozen={})
    checkpoint.save(loop.checkpoints, step, bare, frozen=loop.frozen, score=value, again=again)
    loop.meter.note()


def _score_late(loop: Loop, state) -> None:
    """Scores a restored state that lacks its score: a signal may have come between the step and its scores."""
    if loop.start == loop.segment.first_step or checkpoint.scored(loop.checkpoints):
        return
    if (value := _validated(loop, state, loop.start)) is not None:
        _keep(loop, state, loop.start, value, again=True)


def _log(loop: Loop, step: int, batch: dict, values) -> None:
    """Notes what a step has seen and measured; every ``log_every`` steps it is written."""
    loop.writer.write_ids(step, {group: b["id"].tolist() for group, b in batch.items()})
    loop.late.see(step, values)
    loop.bar.update()
    if step == loop.start + 1:
        loop.bar.set_postfix_str("", refresh=False)
    if _due(step, loop.run.config.log_every, loop.segment.stop):
        rates = begin.rates_at(loop.rates, step - 1 - loop.segment.first_step)
        seen = loop.late.push(rates | {"wait": loop.clock.lap()})
        loop.bar.set_postfix({k: f"{v:.2f}" for k, v in seen.items() if "/top1" in k})
    talk.announce(loop.run, loop.segment, step, loop.start, loop.clock, values)


def _after(loop: Loop, state, step: int) -> None:
    """Validates and saves where that is due after ``step``. Raises Stopped where the run was asked to end."""
    value, stop = _validated(loop, state, step), _asked_to_stop(loop.run)
    # What was scored is saved, so that the best checkpoint is the one that the score is of.
    if _due(step, loop.saves, loop.segment.stop) or value is not None or stop:
        _keep(loop, state, step, value)
    if stop:
        raise Stopped(talk.goodbye(loop.run, loop.segment, step), signals.name_of(loop.run.stop))


def train(run: Run, segment: Segment, state, checkpoints, evaluate_split) -> Any:
    """Trains from ``state.step`` to the segment's end and returns the final state.

    Raises Stopped after a signal, once everything is saved, and Diverged for a loss that is not finite.
    """
    loop = _opened(run, segment, state, checkpoints, evaluate_split)
    batches = feed.train_batches(run, segment, loop.start)
    try:
        _score_late(loop, state)
        loop.bar.set_postfix_str("compiling")
        # Steps are dispatched ahead of the device; what reads it (a log line, scores, a save) makes them wait.
        for step in range(loop.start + 1, segment.stop + 1):
            # Only the wait may be broken off: a step that is dispatched is finished and saved.
            with waiting(run):
                batch = loop.clock.next(batches)
            state, values = loop.step_fn(state, sharding.place(run.mesh, batch))
            _log(loop, step, batch, values)
            _after(loop, state, step)
        return state
    except signals.Interrupted:
        # It came while a batch or scores were waited for: `state` is whole, and may be newer than its save.
        step = int(state.step)
        if step > loop.start:
            _keep(loop, state, step, None)
        raise Stopped(talk.goodbye(run, segment, step), signals.name_of(run.stop)) from None
    finally:
        loop.bar.close()
        batches.close()
        loop.writer.close()
