"""From a configuration to what a run is made of: datasets, segments, and everything checked that
could otherwise fail after hours."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import jax

from mmvid import plans, sharding
from mmvid import streams as streams_lib
from mmvid.data import augment, records, sampling
from mmvid.plans import segment as segment_lib
from mmvid.plans import stills
from mmvid.scores import numbers
from mmvid.streams import Head


class Run(NamedTuple):
    """What every segment shares."""

    config: Any
    workdir: pathlib.Path
    mesh: jax.sharding.Mesh
    datasets: dict[str, records.Dataset]
    segments: list[segment_lib.Segment]
    stop: dict  # `signals.listened`: {'signal': name} once the run has been asked to end


# ---------------------------------------------------------------------------- data
def _make(command: tuple[str, ...]) -> int:
    """Runs a command of ours; its exit code. What ends this process ends that one, too."""
    # A session of its own: else a terminal's Ctrl-C would reach it twice.
    child = subprocess.Popen([sys.executable, "-m", *command], start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)  # it says what is kept
        raise
    finally:
        if child.poll() is None:
            child.kill()


def _ensure(spec) -> None:
    """Makes a dataset that needs no download; process 0 does it, the others wait.

    Raises ValueError, in every process, where that fails.
    """

    def make() -> None:
        print(f"{spec.path} is not there yet: making it", file=sys.stderr, flush=True)
        if _make(spec.command):
            raise ValueError(
                f"{spec.path} could not be made, the reason stands above. Once it is cured, the same "
                "command goes on."
            )

    there = (pathlib.Path(spec.path) / "metadata.json").exists()
    # A path that the command does not make is the user's own, and perhaps misspelt.
    due = spec.path in spec.command and not there
    sharding.on_first(make if due else lambda: None, f"making {spec.path}")


def _open(config) -> dict[str, records.Dataset]:
    wanted = {"dataset": config.dataset}
    if stills.has_stills(config):
        wanted["stills"] = config.stills
    for spec in wanted.values():
        _ensure(spec)
    return {name: records.open_dataset(spec.path) for name, spec in wanted.items()}


def _spaces(info) -> dict[str, Head]:
    # Spans are read as the classes that occur in a clip.
    kinds = {"spans": "multi"}
    return {n: Head(s["classes"], kinds.get(s["kind"], s["kind"]), tuple(s.get("names", ())))
            for n, s in info.heads.items()}  # fmt: skip


def _heads(config, info) -> dict[str, Head]:
    """The label spaces: the dataset's, which must be those that the configuration names."""
    found = _spaces(info)
    for name, (classes, kind) in config.heads.items():
        have = found.get(name)
        if have is None or (have.classes, have.kind) != (classes, kind):
            raise ValueError(
                f"the configuration expects the label space {name!r} with {classes} classes "
                f"({kind}); {info.name} has {info.heads}. Change --config.heads or the dataset."
            )
    return {name: found[name] for name in config.heads} if config.heads else found


# ---------------------------------------------------------------------------- checks
def resize_of(config) -> int:
    """The short side in pixels to which frames are resized before a test crop."""
    return config.evaluation.resize or config.size * 256 // 224


def _choose(name: str, value, known) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {sorted(known)}")


def _check_names(config) -> None:
    """Names and numbers that the configuration alone decides."""
    segment_lib.headline_network(config)
    _choose("plan", config.plan, plans.PLANS)
    if config.twin or config.plan == "full":
        _choose("twin", config.twin, set(config.networks))
    _choose("evaluation.aggregate", config.evaluation.aggregate, numbers.AGGREGATES)
    _choose("evaluation.checkpoint", config.evaluation.checkpoint, ("last", "best"))
    _choose("evaluation.best_by", config.evaluation.best_by, ("headline", "sum", "oracle"))
    spec = config.evaluation
    sampling.check_streams(tuple(plans.make_streams(config).values()))
    for protocol, crops in ((spec.protocol, spec.crops), (spec.during_protocol, spec.during_crops)):
        for stream in plans.make_streams(config).values():
            sampling.test_indices(1000, stream, protocol, spec.variant)
        augment.test_windows(256, 256, config.size, resize_of(config), crops)
    if not spec.splits:
        raise ValueError("evaluation.splits=() leaves nothing to report: name at least one split")
    if not all(isinstance(k, int) and k >= 1 for k in spec.neighbours):
        raise ValueError(f"evaluation.neighbours={spec.neighbours}: numbers of neighbours, 1 or more")
    for name in ("accumulate", "batch_size", "log_every"):
        if config[name] < 1:
            raise ValueError(f"{name}={config[name]}: it must be 1 or more")
    if not 0 <= config.ema < 1:
        raise ValueError(f"ema={config.ema}: the decay of a moving average is a number from 0 (none) to below 1")
    for name, schedule in (("schedule", config.schedule), ("stills.schedule", config.stills.schedule)):
        if not 0 <= schedule.lr < float("inf"):
            raise ValueError(f"{name}.lr={schedule.lr}: a learning rate is a number, 0 or more")


def _check_batches(config, mesh, segments) -> None:
    for segment in segments:
        if segment.batch_size % config.accumulate:
            raise ValueError(
                f"accumulate={config.accumulate} does not divide the batch of {segment.batch_size} "
                f"of segment {segment.name!r}"
            )
        sharding.check_batch_size(segment.batch_size // config.accumulate, mesh, "batch_size")


def _made_by(config) -> str:
    command = config.dataset.command
    return f" (python -m {' '.join(command)})" if config.dataset.path in command else ""


def fields_of(streams) -> tuple[str, ...]:
    """The fields of a record that ``streams`` read, each once."""
    return tuple(dict.fromkeys(streams_lib.MODALITIES[s.modality].field for s in streams.values()))


def _check_missing(config, streams) -> None:
    """What is to be hidden is read by somebody, and the shares are shares."""
    for field, share in config.missing.items():
        if not share:
            continue
        _choose("missing", field, fields_of(streams))
        if not 0 <= share <= 1:
            raise ValueError(f"missing.{field}={share}: a share of the clips is a number from 0 to 1")


def _check_headline(config, dataset: records.Dataset, streams) -> None:
    """The run is named by an output that can be scored."""
    if config.headline not in streams:
        return
    field = streams_lib.MODALITIES[streams[config.headline].modality].field
    for split in (config.evaluation.during, *config.evaluation.splits):
        have = dataset.info.modalities.get(split)
        if have is not None and not have.get(field):
            raise ValueError(
                f"headline={config.headline!r} reads {field!r}, which no clip of {dataset.root}/{split} has: "
                f"there is {', '.join(k for k, n in have.items() if n) or 'nothing'}. Name another "
                "--config.headline or --config.evaluation.splits, or build the dataset with it."
            )


def _check_splits(config, dataset: records.Dataset, streams) -> None:
    """Every split that will be read is there, and every network's modality somewhere in 'train'."""
    for split in ("train", config.evaluation.during, *config.evaluation.splits):
        if not len(dataset.split(split)):
            raise ValueError(f"the split {split!r} of {dataset.root} has no clips: name another, or fill it")
    _check_headline(config, dataset, streams)
    have = dataset.info.modalities.get("train", {})
    for stream in streams.values():
        field = streams_lib.MODALITIES[stream.modality].field
        if not have.get(field):
            raise ValueError(
                f"stream {stream.name!r} reads {field!r}, which no training clip of {dataset.root} "
                f"has; there is {', '.join(k for k, n in have.items() if n)}. Build the dataset with "
                "it (data_prep/README.md), or leave that network out of the configuration."
            )
        ranged = streams_lib.MODALITIES[stream.modality].ranged
        if ranged and "depth_range" not in dataset.info.settings:
            raise ValueError(
                f"{dataset.root} was built before the range of its depth was kept: run the command that "
                f"built it again{_made_by(config)}"
            )


def build(config, workdir: pathlib.Path, stop: dict | None = None) -> Run:
    """Datasets (made where a command says how), segments, mesh; nothing is trained. ``stop``: of
    `signals.listened`.

    Raises ValueError or FileNotFoundError for whatever cannot work, saying what to do.
    """
    _check_names(config)
    datasets = _open(config)
    context = segment_lib.Context(
        config=config,
        heads=_heads(config, datasets["dataset"].info),
        clips={name: len(dataset.split("train")) for name, dataset in datasets.items()},
        stills_heads=_spaces(datasets["stills"].info) if "stills" in datasets else {},
    )
    mesh, segments = sharding.make_mesh(), plans.make(context)
    _check_batches(config, mesh, segments)
    read = {name: s for segment in segments if segment.dataset == "dataset"
            for name, s in segment.streams.items()}  # fmt: skip
    _check_splits(config, datasets["dataset"], read)
    _check_missing(config, read)
    augment.check(augment.Augment(**config.augment), context.heads)
    return Run(config, workdir, mesh, datasets, segments, {} if stop is None else stop)
