"""What a run feeds to its networks: a segment's batches and a split's, and whether they fit into memory."""

import jax

from mmvid.data import augment, memory, missing, pipeline, sampling, workers
from mmvid.logs import LOG
from mmvid.plans.segment import Segment
from mmvid.run import checks
from mmvid.run.build import Run


def _clips(run: Run, segment: Segment):
    """The split that a segment learns from, without what ``config.missing`` takes from it."""
    source = run.datasets[segment.dataset].split(segment.split)
    shares = {field: share for field, share in run.config.missing.items() if share}
    if not shares or segment.dataset != "dataset":
        return source
    return missing.Hidden(source, shares, run.config.seed, checks.fields_of(segment.streams))


def _views(segment: Segment) -> dict[str, tuple[str, ...]]:
    """The views of every group that the segment's method reads."""
    views = {view for pass_ in segment.method.passes for view in pass_.of}
    groups = sorted({group for group, _ in views})
    return {g: tuple(sorted({v for group, v in views if group == g})) for g in groups}


def _ahead(run: Run, dataset):
    loader = run.config.loader
    return workers.iterate(dataset, workers=loader.workers, threads=loader.threads, prefetch=loader.prefetch)


def train_batches(run: Run, segment: Segment, start: int):
    """The batches of the steps after ``start``, made ahead; close it after use."""
    config, source, views = run.config, _clips(run, segment), _views(segment)
    return _ahead(run, pipeline.train_dataset(
        dict.fromkeys(views, source),
        tuple(segment.streams.values()),
        batch_sizes=dict.fromkeys(views, segment.batch_size),
        views=views,
        heads=segment.heads,
        size=config.size,
        augment=augment.Augment(**config.augment),
        seed=segment.seed,
        start=start,
        stop=segment.stop,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    ))  # fmt: skip


def eval_batch_size(run: Run) -> int:
    """``evaluation.batch_size``, raised to what the devices share evenly."""
    devices = run.mesh.devices.size
    return -(-run.config.evaluation.batch_size // devices) * devices


def eval_batches(run: Run, segment: Segment, source, protocol: str, crops: str):
    """Every clip of ``source`` once, made ahead; close it after use."""
    return _ahead(run, pipeline.eval_dataset(
        source,
        tuple(segment.streams.values()),
        heads=segment.heads,
        size=run.config.size,
        protocol=protocol,
        variant=run.config.evaluation.variant,
        crops=crops,
        resize=checks.resize_of(run.config),
        batch_size=eval_batch_size(run),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    ))  # fmt: skip


# ---------------------------------------------------------------------------- does it fit
def _train_bytes(run: Run, segment: Segment) -> int:
    views = sum(map(len, _views(segment).values()))
    return pipeline.batch_bytes(segment.streams.values(), segment.batch_size, views, run.config.size)


def _eval_bytes(run: Run, segment: Segment, protocol: str, crops: str) -> int:
    spec, info = run.config.evaluation, run.datasets[segment.dataset].info
    windows, side = augment.test_windows(
        info.height, info.width, run.config.size, checks.resize_of(run.config), crops
    )
    clips = max(len(sampling.test_indices(1000, s, protocol, spec.variant)) for s in segment.streams.values())
    return pipeline.batch_bytes(segment.streams.values(), eval_batch_size(run), clips * len(windows), side)


def _check_room(run: Run, name: str, rows: int, size: int) -> None:
    """Raises ValueError where the loader alone would fill the memory with batches of ``size`` bytes."""
    loader, processes = run.config.loader, jax.process_count()
    count = workers.batches_held(loader.workers, loader.threads, loader.prefetch)
    free, needed = memory.available(), count * size // processes
    if free is not None and needed > free:
        raise ValueError(
            f"{name}={rows}: a batch is {size / processes / 1e9:.1f} GB of frames, and the loader holds up to "
            f"{count} of them, {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are free. Take a smaller "
            f"--config.{name}; --config.loader.prefetch, .threads and .workers set how many are held."
        )


def check(run: Run) -> None:
    """Says where batches hold clips several times. Raises ValueError where they do not fit into memory."""
    spec, said = run.config.evaluation, set()
    for segment in run.segments:
        name = "stills.batch_size" if segment.dataset == "stills" else "batch_size"
        clips = len(run.datasets[segment.dataset].split(segment.split))
        _check_room(run, name, segment.batch_size, _train_bytes(run, segment))
        hows = ((spec.during_protocol, spec.during_crops), (spec.protocol, spec.crops))
        for how in hows if segment.evaluate else ():
            size = _eval_bytes(run, segment, *how)
            _check_room(run, "evaluation.batch_size", eval_batch_size(run), size)
        if segment.batch_size > clips and name not in said:
            said.add(name)
            LOG.warning(
                "%s=%d with %d %s clips: every batch holds each clip about %.1f times, an epoch is less than "
                "a step; --config.%s=%d or less shows each once", name, segment.batch_size, clips,
                segment.split, segment.batch_size / clips, name, clips,
            )  # fmt: skip
