"""From a configuration to what a run is made of: datasets, segments, and everything checked that
could otherwise fail after hours."""

import json
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from mmvid import evaluate, logs, plan, sharding
from mmvid import streams as streams_lib
from mmvid.data import augment, records, sampling
from mmvid.streams import Head

# What may change when a run goes on: none of it touches a result of training.
_FREE = ("loader", "log_every", "save_every", "published", "published_neighbours", "compare",
         "evaluation.aggregate", "evaluation.neighbours", "dataset.command", "stills.command")  # fmt: skip


class Run(NamedTuple):
    """What every segment shares."""

    config: Any
    workdir: pathlib.Path
    mesh: jax.sharding.Mesh
    datasets: dict[str, records.Dataset]
    segments: list[plan.Segment]
    stop: dict  # {'signal': name} once the run has been asked to end


# ---------------------------------------------------------------------------- data
def _ensure(spec) -> None:
    """Makes a dataset that needs no download; process 0 does it, the others wait.

    Raises ValueError, in every process, where that fails.
    """
    there, failed = (pathlib.Path(spec.path) / "metadata.json").exists(), 0
    # A path that the command does not make is the user's own, and perhaps misspelt.
    if jax.process_index() == 0 and spec.path in spec.command and not there:
        print(f"{spec.path} is not there yet: making it", file=sys.stderr, flush=True)
        failed = subprocess.run([sys.executable, "-m", *spec.command]).returncode
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = int(multihost_utils.broadcast_one_to_all(np.asarray(failed)))
    if failed:
        raise ValueError(
            f"{spec.path} could not be made, the reason stands above. Once it is cured, the same "
            "command goes on."
        )


def _open(config) -> dict[str, records.Dataset]:
    wanted = {"dataset": config.dataset}
    if plan.has_stills(config):
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
    plan.headline_network(config)
    _choose("plan", config.plan, plan.PLANS)
    if config.twin or config.plan == "full":
        _choose("twin", config.twin, set(config.networks))
    _choose("evaluation.aggregate", config.evaluation.aggregate, evaluate.AGGREGATES)
    _choose("evaluation.checkpoint", config.evaluation.checkpoint, ("last", "best"))
    _choose("evaluation.best_by", config.evaluation.best_by, ("headline", "sum", "oracle"))
    spec = config.evaluation
    sampling.check_streams(tuple(plan.make_streams(config).values()))
    for protocol, crops in ((spec.protocol, spec.crops), (spec.during_protocol, spec.during_crops)):
        for stream in plan.make_streams(config).values():
            sampling.test_indices(1000, stream, protocol, spec.variant)
        augment.test_windows(256, 256, config.size, resize_of(config), crops)
    if not spec.splits:
        raise ValueError("evaluation.splits=() leaves nothing to report: name at least one split")
    if not all(isinstance(k, int) and k >= 1 for k in spec.neighbours):
        raise ValueError(f"evaluation.neighbours={spec.neighbours}: numbers of neighbours, 1 or more")
    for name in ("accumulate", "batch_size", "log_every"):
        if config[name] < 1:
            raise ValueError(f"{name}={config[name]}: it must be 1 or more")


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


def _check_splits(config, dataset: records.Dataset, streams) -> None:
    """Every split that will be read is there, and every network's modality somewhere in 'train'."""
    for split in ("train", config.evaluation.during, *config.evaluation.splits):
        dataset.split(split)
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


def _check_same_data(run: Run, now: dict[str, str]) -> None:
    """A run goes on with the clips that it began with."""
    old = logs.read_json(run.workdir / "data.json") or now
    changed = [name for name in old | now if old.get(name) != now.get(name)]
    if changed:
        raise ValueError(
            f"{run.workdir} was trained on other clips: the fingerprint of {changed[0]} was "
            f"{old.get(changed[0])}, now it is {now.get(changed[0])}. Give another --workdir."
        )


def _check_same_config(run: Run, now: dict) -> None:
    old = logs.read_json(run.workdir / "config.json") or now
    before, after = dict(logs.flatten(old)), dict(logs.flatten(now))
    changed = sorted(
        key for key in before | after
        if before.get(key) != after.get(key) and not any((key + ".").startswith(f + ".") for f in _FREE)
    )  # fmt: skip
    if changed:
        raise ValueError(
            f"{run.workdir} was started with another configuration; what differs: "
            + ", ".join(f"{k}={after.get(k)} (was {before.get(k)})" for k in changed[:6])
            + ". Give another --workdir, or the old values."
        )


def remember(run: Run) -> None:
    """Keeps what the run is made of in its workdir.

    Raises ValueError where a run with another configuration or other clips lives.
    """
    config = json.loads(run.config.to_json_best_effort(sort_keys=True))
    data = {name: dataset.info.fingerprint for name, dataset in run.datasets.items()}
    _check_same_config(run, config)
    _check_same_data(run, data)
    sharding.meet("remember")  # nobody reads a file that is being written
    if jax.process_index() == 0:
        logs.write_json(run.workdir / "config.json", config)
        logs.write_json(run.workdir / "data.json", data)


def say_random(config) -> None:
    """The papers start from ImageNet; whoever does not should know."""
    bare = [name for name, network in config.networks.items() if not network.weights]
    if bare and not plan.has_stills(config):
        logs.LOG.info(
            "%s: random weights at the start; --config.networks.%s.weights=FILE.safetensors takes "
            "ImageNet's", ", ".join(bare), bare[0],
        )  # fmt: skip


def build(config, workdir: pathlib.Path) -> Run:
    """Datasets (made where a command says how), segments, mesh; nothing is trained.

    Raises ValueError or FileNotFoundError for whatever cannot work, saying what to do.
    """
    _check_names(config)
    datasets = _open(config)
    context = plan.Context(
        config=config,
        heads=_heads(config, datasets["dataset"].info),
        clips={name: len(dataset.split("train")) for name, dataset in datasets.items()},
        stills_heads=_spaces(datasets["stills"].info) if "stills" in datasets else {},
    )
    mesh, segments = sharding.make_mesh(), plan.make(context)
    _check_batches(config, mesh, segments)
    read = {name: s for segment in segments if segment.dataset == "dataset"
            for name, s in segment.streams.items()}  # fmt: skip
    _check_splits(config, datasets["dataset"], read)
    _check_missing(config, read)
    augment.check(augment.Augment(**config.augment), context.heads)
    return Run(config, workdir, mesh, datasets, segments, {})
