"""The loop: find the segment, restore, step, log, evaluate, save, report."""

import pathlib
import signal
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mmvid import build, checkpoint, evaluate, logs, neighbours, optim, plan, report, sharding
from mmvid import step as step_lib
from mmvid.build import Run
from mmvid.data import augment, missing, pipeline
from mmvid.logs import LOG


class Diverged(RuntimeError):
    """A loss that is not finite; the message names the output, the term and the step."""


class Stopped(Exception):
    """The run was asked to end and has saved everything; the message says how to go on."""


# ---------------------------------------------------------------------------- state
def initial_state(segment: plan.Segment, *, size: int, seed: int, ema: bool, mesh, workdir, enter):
    """The segment's first TrainState, replicated; ``enter`` False gives only the right tree."""
    replicated = sharding.replicated(mesh)
    key = jax.random.fold_in(jax.random.key(seed), segment.seed)

    def state(params, stats, key):
        return step_lib.init_state(
            segment.networks, params, stats, segment.method, segment.tx, key, ema=ema
        )

    params, stats = step_lib.draw_weights(segment, size, seed, out_shardings=replicated)
    if enter:
        params, stats = segment.enter(params, stats, workdir)
    return jax.jit(state, out_shardings=replicated)(params, stats, jax.random.fold_in(key, 1))


def make_step(segment: plan.Segment, config) -> Callable:
    """The segment's train step, not yet jitted (tests trace it, ``run`` compiles it)."""
    return step_lib.make_train_step(
        segment.networks,
        segment.streams,
        segment.method,
        segment.tx,
        accumulate=config.accumulate,
        ema=config.ema,
    )


# ---------------------------------------------------------------------------- evaluation
def _meta(run: Run, segment: plan.Segment, split: str, step: int, protocol, crops) -> dict:
    """What a score must always be read with."""
    spec, info = run.config.evaluation, run.datasets[segment.dataset].info
    return {
        "split": split, "segment": segment.name, "step": step, "protocol": protocol, "crops": crops,
        "variant": spec.variant, "dataset": info.name, "fingerprint": info.fingerprint,
        "clips_expected": info.expected.get(split, 0),
        "classes": {name: list(head.names) for name, head in segment.heads.items()},
    }  # fmt: skip


def _eval_batches(run: Run, segment: plan.Segment, source, batch_size: int, protocol, crops):
    spec, loader = run.config.evaluation, run.config.loader
    dataset = pipeline.eval_dataset(
        source,
        tuple(segment.streams.values()),
        heads=segment.heads,
        size=run.config.size,
        protocol=protocol,
        variant=spec.variant,
        crops=crops,
        resize=build.resize_of(run.config),
        batch_size=batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return pipeline.iterate(
        dataset, workers=loader.workers, threads=loader.threads, prefetch=loader.prefetch
    )


def _evaluator(run: Run, segment: plan.Segment) -> Callable:
    """evaluate(state, split, step) -> Scores, written to the segment's scores/<split>.npz.

    While training it is what ``evaluation.during_*`` say: one uniform clip and the centre crop, as
    MML's code does, unless changed. Compiled once for all splits.
    """
    dataset, spec = run.datasets[segment.dataset], run.config.evaluation
    devices = run.mesh.devices.size
    batch_size = -(-spec.batch_size // devices) * devices
    predict = jax.jit(
        step_lib.make_predict(segment.networks, segment.streams),
        out_shardings=sharding.batched(run.mesh),
    )
    trained = [n for n in segment.networks if not n.frozen]
    reads = {o: r for n in trained for r in n.reads for o in (r if len(r) == 1 else n.outputs)}

    def evaluate_split(state, split: str, step: int, *, during: bool = False) -> evaluate.Scores:
        weights, source = step_lib.final_weights(state), dataset.split(split)
        often = (spec.during_protocol, spec.during_crops)
        how = often if during else (spec.protocol, spec.crops)

        def outputs(batch):
            placed = sharding.place(run.mesh, batch)
            return jax.tree.map(sharding.local, predict(weights["params"], weights["stats"], placed))

        batches = _eval_batches(run, segment, source, batch_size, *how)
        try:
            scores = evaluate.run(
                outputs, batches, reads=reads, ids=source.ids(),
                meta=_meta(run, segment, split, step, *how),
            )  # fmt: skip
        finally:
            batches.close()
        scores.meta["views"] = next(iter(next(iter(scores.logits.values())).values())).shape[1]
        if jax.process_index() == 0:
            name = f"{split}-during" if during else split
            evaluate.save(run.workdir / segment.name / "scores" / f"{name}.npz", scores)
        return scores

    return evaluate_split


# ---------------------------------------------------------------------------- the loop
def _work(segment: plan.Segment) -> float:
    """Frames through networks a step: how segments compare in cost."""
    frames = sum(
        segment.streams[s].sampling.frames
        for network in segment.networks
        for read in network.reads
        for s in read
    )
    return float(frames * segment.batch_size)


def _left(run: Run, segment: plan.Segment, step: int, seconds: float) -> float:
    """Seconds to the end of the run, from this segment's seconds a step."""
    later = run.segments[run.segments.index(segment) + 1 :]
    work = (segment.steps - step) * _work(segment) + sum(s.steps * _work(s) for s in later)
    return seconds * work / _work(segment)


def _header(run: Run, segment: plan.Segment, step: int, start: int, clock: logs.Clock) -> str:
    info = run.datasets[segment.dataset].info
    clips = len(run.datasets[segment.dataset].split(segment.split))
    seconds = clock.seconds()
    resumed = f", resumed at step {start}" if start else ""
    return (
        f"{segment.name}{resumed}: {logs.machine()}; {clips} {segment.split} clips of {info.name} "
        f"(fingerprint {info.fingerprint}); {1 / seconds:.2f} steps/s, "
        f"{logs.duration(_left(run, segment, step, seconds))} left in all; "
        f"{logs.free_disk(run.workdir)}"
    )


def _check_finite(values: dict[str, float], segment: str, step: int, workdir) -> None:
    bad = [name for name, value in values.items() if not np.isfinite(value)]
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


def _clips(run: Run, segment: plan.Segment):
    """The split that a segment learns from, without what ``config.missing`` takes from it."""
    source = run.datasets[segment.dataset].split(segment.split)
    shares = {field: share for field, share in run.config.missing.items() if share}
    if not shares or segment.dataset != "dataset":
        return source
    return missing.Hidden(source, shares, run.config.seed, build.fields_of(segment.streams))


def _batches(run: Run, segment: plan.Segment, start: int):
    config, source = run.config, _clips(run, segment)
    reads = {read for pass_ in segment.method.passes for read in pass_.reads}
    groups = sorted({group for group, _ in reads})
    dataset = pipeline.train_dataset(
        dict.fromkeys(groups, source),
        tuple(segment.streams.values()),
        batch_sizes=dict.fromkeys(groups, segment.batch_size),
        views={g: tuple(sorted({v for group, v in reads if group == g})) for g in groups},
        heads=segment.heads,
        size=config.size,
        augment=augment.Augment(**config.augment),
        seed=segment.seed,
        start=start,
        stop=segment.steps,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    loader = config.loader
    return pipeline.iterate(
        dataset, workers=loader.workers, threads=loader.threads, prefetch=loader.prefetch
    )


def _asked_to_stop(run: Run, step: int) -> bool:
    """Whether a signal came; with several processes they agree every ``log_every`` steps."""
    stop = bool(run.stop)
    if jax.process_count() == 1:
        return stop
    if step % run.config.log_every:
        return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(stop)).any())


def _train(run: Run, segment: plan.Segment, state, checkpoints, evaluate_split) -> Any:
    """Steps from ``state.step`` to the segment's end. Returns the final state."""
    config, directory = run.config, run.workdir / segment.name
    start = int(state.step)
    # All at once: asking for one at a time would wait for the device.
    rates = np.asarray(jax.vmap(segment.lr)(jnp.arange(segment.steps)))
    writer = logs.Writer(directory, run.workdir / "tensorboard" / segment.name, start)
    late = logs.Late(writer, lambda v, step: _check_finite(v, segment.name, step, run.workdir))
    step_fn = step_lib.jit_train_step(make_step(segment, config), sharding.replicated(run.mesh))
    evaluations, saves = (_every(d, segment) for d in (config.evaluation.every, config.save_every))
    batches, clock = _batches(run, segment, start), logs.Clock()
    bar = tqdm(total=segment.steps, initial=start, desc=segment.name, unit="step",
               disable=jax.process_index() > 0, dynamic_ncols=True)  # fmt: skip
    try:
        for step in range(start + 1, segment.steps + 1):
            batch = clock.next(batches)
            state, values = step_fn(state, sharding.place(run.mesh, batch))
            writer.write_ids(step, {group: b["id"].tolist() for group, b in batch.items()})
            late.see(step, values)
            bar.update()
            if _due(step, config.log_every, segment.steps):
                seen = late.push({"lr": float(rates[step - 1]), "wait": clock.lap()})
                bar.set_postfix({k: f"{v:.2f}" for k, v in seen.items() if "/top1" in k})
            _announce(run, segment, step, start, clock, values)
            score = None
            if evaluate_split and _due(step, evaluations, segment.steps):
                with clock.paused():
                    score = _validate(run, state, step, evaluate_split, writer)
            stop = _asked_to_stop(run, step)
            # What was scored is saved, so that the best checkpoint is the one that the score is of.
            if _due(step, saves, segment.steps) or score is not None or stop:
                late.check_all()
                writer.flush()
                checkpoint.save(checkpoints, step, state, score=score)
            if stop:
                raise Stopped(_goodbye(run, segment, step))
        return state
    finally:
        bar.close()
        batches.close()
        writer.close()


def _every(duration, segment: plan.Segment) -> int:
    """Steps between two; for a duration of 0 it is 0: once, at the end."""
    per_epoch = segment.steps_per_epoch
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch, total=segment.steps)
    return steps if float(str(duration).split()[0].rstrip("%")) == 0 else max(steps, 1)


def _announce(run: Run, segment: plan.Segment, step: int, start: int, clock, values) -> None:
    """The segment's first log line once its speed is known; later what waiting costs."""
    warm, shown = start + 2, min(start + 7, segment.steps)
    if step in (warm, shown):
        # Steps are dispatched ahead of the device: without waiting, dispatch would be timed.
        jax.block_until_ready(values)
    if step == warm:
        clock.reset()
    if step == shown:
        LOG.info(_header(run, segment, step, start, clock))
        if segment is run.segments[0]:
            build.say_random(run.config)
    if step == min(start + 60, segment.steps):
        loader = run.config.loader
        advice = logs.input_advice(clock, loader.workers, loader.threads)
        LOG.info("%s: %s", segment.name, advice)


def _validate(run: Run, state, step: int, evaluate_split, writer) -> float:
    """Scores on the split kept for this; the top-1 (or mAP) of the output that
    ``evaluation.best_by`` names, a mean over heads, decides which checkpoint is best."""
    spec = run.config.evaluation
    values = evaluate.headline_values(evaluate_split(state, spec.during, step, during=True))
    writer.write(step, {f"val/{name}": v for name, v in values.items()})
    chosen = {"headline": run.config.headline, "sum": "fused"}.get(spec.best_by, spec.best_by)
    own = [v for name, v in values.items() if name.startswith(f"{chosen}/")]
    return float(np.mean(own or list(values.values())))


def _goodbye(run: Run, segment: plan.Segment, step: int) -> str:
    return (
        f"stopped by {run.stop.get('signal', 'another process')} at step {step} of "
        f"{segment.name}; everything is saved in {run.workdir}. The same command goes on."
    )


def _run_segment(run: Run, segment: plan.Segment) -> None:
    """Trains a segment from its newest checkpoint or its start, scores it, keeps its weights."""
    config, directory = run.config, run.workdir / segment.name
    kept = [directory / "scores" / f"{split}.npz" for split in segment.evaluate]
    if all(path.exists() for path in (directory / "done.json", *kept)):
        return
    directory.mkdir(parents=True, exist_ok=True)
    evaluate_split = _evaluator(run, segment) if segment.evaluate else None
    settings = dict(size=config.size, seed=config.seed, ema=config.ema > 0, mesh=run.mesh)
    with checkpoint.opened(directory / "checkpoints") as checkpoints:
        resumed = checkpoint.latest_step(checkpoints) is not None
        state = initial_state(segment, **settings, workdir=run.workdir, enter=not resumed)
        if resumed:
            state = checkpoint.restore(checkpoints, state)
        state = _train(run, segment, state, checkpoints, evaluate_split)
        best = checkpoint.best_step(checkpoints)
        if config.evaluation.checkpoint == "best" and best is not None:
            state = checkpoint.restore(checkpoints, state, best)
    for split in segment.evaluate:
        evaluate_split(state, split, int(state.step))
    segment.leave(state, directory)
    if jax.process_index() == 0:
        logs.write_json(directory / "done.json", {"steps": segment.steps})
    sharding.meet(f"{segment.name} done")


# ---------------------------------------------------------------------------- the run
def _on_signals(stop: dict) -> Callable:
    """SIGTERM and SIGINT ask the loop to save and leave; a second one ends at once."""

    def handle(number, frame):
        if stop:
            raise KeyboardInterrupt
        stop["signal"] = signal.Signals(number).name

    old = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    return lambda: [signal.signal(s, h) for s, h in old.items()]


def run(config, workdir: str) -> dict:
    """Trains the configured plan in ``workdir`` and writes its table and report.

    The same call resumes: finished segments are skipped, the one under way goes on from its last
    checkpoint. Returns the last segment's summary, {} on processes but 0. Raises ValueError for a
    configuration that cannot work, ``Diverged`` for a loss that is not finite, ``Stopped`` after a signal.
    """
    path = pathlib.Path(workdir)
    path.mkdir(parents=True, exist_ok=True)
    cache = pathlib.Path.home() / ".cache" / "mmvid" / "jax"
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
    logs.setup(path)
    built = build.build(config, path)
    build.remember(built)
    neighbours.write(built)
    restore_signals = _on_signals(built.stop)
    try:
        for segment in built.segments:
            _run_segment(built, segment)
    finally:
        restore_signals()
    if jax.process_index():
        return {}
    columns = [(s.title, s.name, s.evaluate) for s in built.segments if s.title]
    baseline = plan.baseline(built.segments)
    return report.finish(path, config, columns, built.datasets["dataset"], baseline=baseline)
