"""The batches that a run feeds to its networks, of a segment's groups or of a split, and a check that they
fit into memory."""

import itertools

import jax

from mmvid.data import augment, memory, missing, pipeline, sampling, workers
from mmvid.data.example import Eval, Train
from mmvid.data.groups import Group, OneOf
from mmvid.logs import LOG
from mmvid.plans.segment import Segment
from mmvid.run import checks
from mmvid.run.build import Run
from mmvid.streams import Stream, Views


def _clips(run: Run, segment: Segment, group: Group):
    """The clips that a group shows, with the modalities hidden that ``config.missing`` takes from them."""
    source = run.datasets[group.dataset].split(group.split)
    shares = {field: share for field, share in run.config.missing.items() if share}
    # What is missing is said of the main dataset; stills and further datasets stay whole.
    if not shares or group.dataset != "dataset":
        return source
    return missing.Incomplete(source, shares, run.config.seed, checks.fields_of(segment.streams))


def one_of(segment: Segment) -> dict[str, OneOf]:
    """{group: `OneOf`} of the groups in which some networks run only one of their reads a step. What is shown
    is then cut to the streams that the step needs."""
    choices: dict[str, dict] = {name: {} for name in segment.groups}
    always: dict[str, list[str]] = {name: [] for name in segment.groups}
    # A stream may be one of a network's choices in one pass and needed always in another: then it is shown.
    for pass_ in segment.method.passes:
        networks = [n for n in segment.networks if n.frozen == (pass_.weights == "frozen")]
        for group, network in itertools.product({group for group, _ in pass_.of}, networks):
            if pass_.one_of and len(network.reads) > 1:
                choices[group][network.name] = network.reads
            else:
                always[group] += [stream for read in network.reads for stream in read]
    return {group: OneOf(own, tuple(always[group])) for group, own in choices.items() if own}


def _ahead(run: Run, dataset):
    return workers.iterate(dataset, workers.Loader(**run.config.loader))


def train_batches(run: Run, segment: Segment, start: int):
    """An iterator over the batches of the steps after ``start``, made ahead of their use; close it at the end."""
    # This process's rows alone; ``start`` is counted in steps, so that a resumed run sees the same clips.
    spec = Train(
        {name: _clips(run, segment, group) for name, group in segment.groups.items()},
        segment.groups,
        tuple(segment.streams.values()),
        segment.heads,
        run.config.size,
        segment.seed,
        process=(jax.process_index(), jax.process_count()),
        one_of=one_of(segment),
    )
    return _ahead(run, pipeline.train_dataset(spec, start, segment.stop))


def eval_batch_size(run: Run) -> int:
    """``evaluation.batch_size``, raised to the next multiple of the number of devices."""
    devices = run.mesh.devices.size
    return -(-run.config.evaluation.batch_size // devices) * devices


def views(run: Run, protocol: str, crops: str) -> Views:
    """How clips are cut for a test: by this protocol, with these crops."""
    return Views(protocol, run.config.evaluation.variant, crops, run.config.evaluation.resize)


def scored_streams(segment: Segment) -> tuple[Stream, ...]:
    """The streams that a segment's scored outputs read: of the others nothing is decoded."""
    wanted = {stream for needs in segment.needs.values() for stream in needs.streams}
    streams = tuple(segment.streams.values())
    # Random clips are drawn from the shortest stream: without one of them they might be others.
    if sampling.check_streams(streams) == "segments":
        return streams
    return tuple(stream for stream in streams if stream.name in wanted)


def eval_batches(run: Run, segment: Segment, source, protocol: str, crops: str):
    """An iterator over batches that show every clip of ``source`` once, made ahead of their use; close it at
    the end."""
    spec = Eval(
        source,
        scored_streams(segment),
        segment.heads,
        run.config.size,
        eval_batch_size(run),
        views(run, protocol, crops),
        process=(jax.process_index(), jax.process_count()),
    )
    return _ahead(run, pipeline.eval_dataset(spec))


def count_views(run: Run, segment: Segment, picture: tuple[int, int], how: Views) -> tuple[int, int]:
    """Returns how many views a test makes of a clip whose pictures are (height, width), and the side of these."""
    # Of a clip of 1000 frames: how many clips a protocol cuts is asked for, not where.
    clips = max(len(sampling.test_indices(1000, s, how)) for s in scored_streams(segment))
    windows, side = augment.test_windows(*picture, run.config.size, how)
    return clips * len(windows), side


# ---------------------------------------------------------------------------- does it fit
def _train_bytes(run: Run, segment: Segment) -> int:
    streams, size = segment.streams.values(), run.config.size
    return sum(pipeline.batch_bytes(streams, g.batch_size, len(g.views), size) for g in segment.groups.values())


def _eval_bytes(run: Run, segment: Segment, protocol: str, crops: str) -> int:
    streams, how = scored_streams(segment), views(run, protocol, crops)
    # Subsets may be of further datasets, whose pictures have another size.
    dataset = run.datasets[segment.dataset]
    sizes = {(info.height, info.width) for info in (dataset.split(split).info for split in segment.scored)}
    found = []
    for height, width in sizes:
        count, side = count_views(run, segment, (height, width), how)
        found.append(pipeline.batch_bytes(streams, eval_batch_size(run), count, side))
    return max(found)


def _check_room(run: Run, what: str, setting: str, size: int) -> None:
    """Raises ValueError where the batches that the loader holds would not fit into the free memory. ``size``
    is the bytes of one batch of all processes; ``what`` and ``setting`` name it in the message."""
    # Of several processes each holds its share, and is taken to have a host of its own.
    processes, count = jax.process_count(), workers.batches_held(workers.Loader(**run.config.loader))
    free, needed = memory.available(), count * size // processes
    # Where the free memory is unknown the run is tried.
    if free is not None and needed > free:
        raise ValueError(
            f"{what}: a batch is {size / processes / 1e9:.1f} GB of frames, and the loader holds up to "
            f"{count} of them, {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are free. Take a smaller "
            f"--config.{setting}; --config.loader.prefetch, .threads and .workers set how many are held."
        )


def _say_repeats(run: Run, name: str, group: Group) -> None:
    """Warns where a batch of a group is larger than its split, so that it holds clips several times."""
    clips = len(run.datasets[group.dataset].split(group.split))
    setting = checks.setting_of(run.config, name, group)
    if group.batch_size > clips:
        of = "" if name == "main" else f" (group {name!r})"
        LOG.warning(
            f"{setting}={group.batch_size} with {clips} {group.split} clips{of}: every batch holds each clip "
            f"about {group.batch_size / clips:.1f} times, an epoch is less than a step; "
            f"--config.{setting}={clips} or less shows each once"
        )


def _check_training(run: Run, segment: Segment) -> None:
    groups = segment.groups
    sizes = "+".join(str(group.batch_size) for group in groups.values())
    setting = checks.setting_of(run.config, segment.epoch_of, segment.main)
    of = f" (groups {', '.join(groups)}; a clip once a view)" if len(groups) > 1 else ""
    _check_room(run, f"{setting}={sizes}{of}", setting, _train_bytes(run, segment))


def check_evaluation(run: Run, segment: Segment) -> None:
    """Raises ValueError where a batch of the clips that a segment is scored on does not fit into memory."""
    spec, rows = run.config.evaluation, eval_batch_size(run)
    for how in ((spec.during_protocol, spec.during_crops), (spec.protocol, spec.crops)):
        name = "evaluation.batch_size"
        _check_room(run, f"{name}={rows}", name, _eval_bytes(run, segment, *how))


def check(run: Run) -> None:
    """Warns where batches hold clips several times. Raises ValueError where batches do not fit into memory."""
    # Segments mostly show the same groups: one line for each is enough.
    said = set()
    for segment in run.segments:
        _check_training(run, segment)
        if segment.evaluate:
            check_evaluation(run, segment)
        for name, group in segment.groups.items():
            if (key := (name, group.dataset, group.split, group.batch_size)) not in said:
                said.add(key)
                _say_repeats(run, name, group)
