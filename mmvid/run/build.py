"""Builds a run, its datasets and its segments, from a configuration or from the workdir of a run that has
ended, and checks whatever could otherwise fail after hours."""

import contextlib
import functools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from mmvid import files, network, plans, sharding, usage
from mmvid.data import records, subsets
from mmvid.plans import blended, stills
from mmvid.plans import segment as segment_lib
from mmvid.plans.segment import Segment
from mmvid.run import checks, values
from mmvid.streams import Head
from mmvid.weights import files as weight_files

# The entry of config.json by which a shared folder is told from a run (`run.shared`), and its file of weights.
SHARED, MODEL = "shared", "model.safetensors"


class Run(NamedTuple):
    """What all segments of a run share."""

    config: Any
    workdir: pathlib.Path
    mesh: jax.sharding.Mesh
    datasets: dict[str, records.Dataset]
    segments: list[Segment]
    stop: dict  # `signals.listened`: {'signal': name} once the run has been asked to end
    programs: dict  # `programs.shared`: jitted functions by what they are made of; `counts`: their FLOPs


# ---------------------------------------------------------------------------- data
def _make(command: tuple[str, ...]) -> int:
    """Runs ``python -m`` with ``command`` and returns its exit code. What interrupts this process ends the
    command, too."""
    # A session of its own: else a terminal's Ctrl-C would reach it twice.
    child = subprocess.Popen([sys.executable, "-m", *command], start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        # As Ctrl-C would, so that the command ends in its own way; Windows cannot send a child that signal.
        child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)  # it says what is kept
        raise
    finally:
        if child.poll() is None:
            child.kill()


def _ensure(spec) -> None:
    """Makes the dataset ``spec`` by its command where it is not there yet. Process 0 does it while the others
    wait.

    Raises ValueError, in every process, where the command fails.
    """

    def make() -> None:
        print(f"{spec.path} is not there yet: making it", file=sys.stderr, flush=True)
        if _make(spec.command):
            raise ValueError(
                f"{spec.path} could not be made, the reason stands above. Once it is cured, the same "
                "command goes on."
            )

    there = records.is_at(spec.path)
    # A path that the command does not make is the user's own, and perhaps misspelt.
    due = spec.path in spec.command and not there
    sharding.on_first(make if due else lambda: None, f"making {spec.path}")


def wanted(config) -> dict:
    """{name: its part of the configuration} of every dataset that a run reads."""
    own = {"dataset": config.dataset} | dict(config.datasets.items())
    return own | ({"stills": config.stills} if stills.has_stills(config) else {})


def open_dataset(spec) -> records.Dataset:
    """Opens the dataset ``spec``. Raises WrongUse where there is none, ValueError for one that cannot be read;
    both say how to build it."""
    try:
        return records.open_dataset(spec.path, checks.made_by(spec), checks.made_at(spec, spec.path))
    except FileNotFoundError as error:
        raise usage.WrongUse(str(error)) from error


def _open(config) -> dict[str, records.Dataset]:
    specs = wanted(config)
    for spec in specs.values():
        _ensure(spec)
    return {name: open_dataset(spec) for name, spec in specs.items()}


def label_spaces(info) -> dict[str, Head]:
    """The label spaces of a dataset, from its Info."""
    # Spans are read as the classes that occur in a clip.
    kinds = {"spans": "multi"}
    return {
        name: Head(space["classes"], kinds.get(space["kind"], space["kind"]), tuple(space.get("names", ())))
        for name, space in info.heads.items()
    }


def _heads(config, info) -> dict[str, Head]:
    """The label spaces that the configuration names, or all of the dataset's where it names none. Raises
    WrongUse for one that the dataset lacks or has in another form."""
    found = label_spaces(info)
    for name, (classes, kind) in config.heads.items():
        have = found.get(name)
        if have is None or (have.classes, have.kind) != (classes, kind):
            there = " and ".join(f"{own!r} with {head.classes} ({head.kind})" for own, head in found.items())
            raise usage.WrongUse(
                f"the configuration expects the label space {name!r} with {classes} classes ({kind}); {info.name} "
                f"in {config.dataset.path} has {there}. {_other_labels(config.dataset)}"
            )
    return {name: found[name] for name in config.heads} if config.heads else found


def _other_labels(spec) -> str:
    """What to type where a dataset has other label spaces than its configuration expects."""
    if not spec.command:
        return "Name another dataset, --config.dataset.path=FOLDER, or its own label spaces in --config.heads"
    own = spec.command[spec.command.index("--out") + 1] if "--out" in spec.command[:-1] else spec.path
    return (
        f"The dataset that it is written for is made by\n  python -m {shlex.join(spec.command)}\n"
        f"and named by --config.dataset.path={own}; for this one, change --config.heads"
    )


def _check_split_names(config, dataset: records.Dataset) -> None:
    """Raises WrongUse for a split that the configuration names and the dataset does not have."""
    spec, known = config.evaluation, dataset.info.splits
    named = [("split", config.split), ("evaluation.during", spec.during)]
    for entry, split in named + [("evaluation.splits", split) for split in spec.splits]:
        if split not in known:
            there = ", ".join(f"{name} ({count} clips)" for name, count in known.items())
            raise usage.WrongUse(
                f"{entry} names {split!r}, and {dataset.root} has no such split; it has {there}. Name one of "
                "them, make a subset of that name in config.subsets, or build the dataset with it"
            )


# ---------------------------------------------------------------------------- the run
def planned(config, datasets: dict[str, records.Dataset]) -> list[Segment]:
    """Makes the segments of the configured plan. Of the datasets it needs what their Info says, and no clip.
    Raises WrongUse for whatever the configuration says and cannot mean."""
    context = segment_lib.Context(
        config=config,
        heads=_heads(config, datasets["dataset"].info),
        clips={name: dataset.info.splits for name, dataset in datasets.items()},
        stills_heads=label_spaces(datasets["stills"].info) if "stills" in datasets else {},
        fingerprints={name: dataset.info.fingerprint for name, dataset in datasets.items()},
        further={name: label_spaces(datasets[name].info) for name in config.datasets},
    )
    with usage.wrong_use():
        return plans.make(context)


def check_alone(config, workdir: pathlib.Path) -> None:
    """Checks what a configuration says by itself, and that the weights are there that a new run starts from.
    Raises WrongUse."""
    with usage.wrong_use():
        values.check_names(config)
        # A run that goes on has read them.
        if not (workdir / "config.json").exists():
            values.check_weights(config)


def build(config, workdir: pathlib.Path, stop: dict | None = None) -> Run:
    """Opens the datasets (a missing one is made where its command says how), makes segments and mesh, and
    checks them; nothing is trained. ``stop`` is what `signals.listened` gives.

    Raises WrongUse for what the configuration says and cannot mean, by itself or of these datasets, ValueError for
    a dataset that cannot be made or files that are damaged; the message says what to do.
    """
    # Before data are opened, which may mean to make them for minutes.
    check_alone(config, workdir)
    datasets = _open(config)
    with usage.wrong_use():
        datasets, segments, mesh = _fitted(config, datasets, workdir)
    return Run(config, workdir, mesh, datasets, segments, {} if stop is None else stop, {})


def _fitted(config, datasets: dict[str, records.Dataset], workdir: pathlib.Path) -> tuple:
    """Checks a configuration against its datasets: (these with their subsets, the segments, the mesh). Raises
    ValueError for whatever does not fit."""
    heads = _heads(config, datasets["dataset"].info)
    spaces = {name: label_spaces(dataset.info) for name, dataset in datasets.items()} | {"dataset": heads}
    datasets = subsets.divided(datasets, config.subsets, spaces, workdir / "subsets.json")
    _check_split_names(config, datasets["dataset"])
    mesh, segments = sharding.make_mesh(fsdp=config.mesh.fsdp), planned(config, datasets)
    checks.check_batches(config, mesh, segments)
    checks.check_groups(segments, datasets, label_spaces)
    # The main dataset need not have what only a segment on another one reads (stills, for one).
    own = [segment.streams for segment in segments if segment.dataset == "dataset"]
    read = {name: stream for streams in own for name, stream in streams.items()}
    checks.check_splits(config, datasets["dataset"], read)
    checks.check_missing(config, read)
    checks.check_data(segments, datasets, label_spaces)
    return datasets, segments, mesh


# ---------------------------------------------------------------------------- a run that has ended
def stored(workdir: pathlib.Path) -> dict:
    """The configuration that a run was trained with, as its workdir keeps it, with tuples for JSON's lists.

    Raises WrongUse where the folder is not a run's workdir.
    """
    found = files.read_json(workdir / "config.json")
    if found is None:
        inside = sorted(path.parent.name for path in workdir.glob("*/config.json"))
        there = f"it holds the runs {', '.join(inside)}: name one of them"
        hint = there if inside else "name the --workdir of a training run"
        raise usage.WrongUse(f"{workdir} is no run, there is no config.json in it: {hint}")
    return _with_tuples(found)


def _with_tuples(value):
    if isinstance(value, dict):
        return {name: _with_tuples(own) for name, own in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _place(name: str) -> str:
    """The argument of a command line that says where the dataset ``name`` lies."""
    return f"--config.{name if name in ('dataset', 'stills') else f'datasets.{name}'}.path=FOLDER"


def _check_still_there(config, workdir: pathlib.Path) -> None:
    """Raises FileNotFoundError for a dataset that is gone. `build` would make it anew, perhaps with other clips
    than those that the run has learnt from."""
    for name, spec in wanted(config).items():
        if not records.is_at(spec.path):
            own = spec.path in spec.command
            again = f"make it again (python -m {' '.join(spec.command)})" if own else "put it back"
            raise FileNotFoundError(
                f"the clips that {workdir} was trained on are no longer in {spec.path}: {again}, or say where "
                f"they lie, {_place(name)}"
            )


def _check_same_clips(run: Run) -> None:
    known = files.read_json(run.workdir / "data.json") or {}
    # A dataset that the file does not know passes: there is nothing to hold against it.
    for name, dataset in run.datasets.items():
        if known.get(name, dataset.info.fingerprint) != dataset.info.fingerprint:
            raise ValueError(
                f"{run.workdir} was trained on other clips than {dataset.root} holds now: the fingerprint was "
                f"{known[name]}, now it is {dataset.info.fingerprint}. Say where its own lie, "
                f"{_place(name)}"
            )


def _check_ended(run: Run) -> None:
    for segment in run.segments:
        if not (run.workdir / segment.name / "done.json").exists():
            raise ValueError(
                f"{run.workdir} has not ended: its segment {segment.name!r} is not done. Give the command that "
                "it was started with again, it goes on"
            )


def opened(workdir: pathlib.Path, config) -> Run:
    """Opens a run that has ended, to score, describe or hand on what it has learnt. ``config`` is what is
    `stored` in ``workdir``, perhaps with other ways to evaluate or another place of its data.

    Raises ValueError or FileNotFoundError where the run has not ended, or its data are gone or hold other
    clips.
    """
    if SHARED in stored(workdir):
        raise usage.WrongUse(
            f"{workdir} is a network that was shared, without its run: python -m mmvid predict {workdir} VIDEO"
        )
    config = without_beginning(config)
    _check_still_there(config, workdir)
    run = build(config, workdir)
    _check_same_clips(run)
    _check_ended(run)
    return run


def without_beginning(config):
    """Returns a configuration without the stills and files of weights that are gone: a run that has ended needs
    nothing of its beginning, nor the devices that it was trained on."""
    config = config.copy_and_resolve_references().unlock()
    config.mesh.fsdp = 1
    if not records.is_at(config.stills.path):
        config.stills.steps = "0"
    for spec in config.networks.values():
        named = [spec.weights] if isinstance(spec.weights, str) else spec.weights.values()
        if not all(weight_files.split(file)[0].exists() for file in named):
            with spec.ignore_type():  # a file a stream, or one for all
                spec.weights = ""
    if config.plan == "gblend":
        blended.forget_gone(config)
    return config.lock()


def weights_path(run: Run, segment: Segment) -> pathlib.Path:
    """The file of a segment's final weights. In a shared folder there is one of one network, at the top."""
    if SHARED in files.read_note(run.workdir / "config.json"):
        return run.workdir / MODEL
    return run.workdir / segment.name / "weights.safetensors"


def weights_of(run: Run, segment: Segment) -> dict:
    """The final weights of a segment as its workdir keeps them: {'params': {network: tree}, 'stats': ..}.

    Raises FileNotFoundError where they are gone, ValueError where they are damaged or of other networks.
    """
    path = weights_path(run, segment)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is gone; where {segment.name!r} has checkpoints, the run's own command writes it again"
        )
    tree, _ = weight_files.read(path)
    found = {kind: {name: own[kind] for name, own in tree.items()} for kind in ("params", "stats")}
    trained = [n for n in segment.networks if not n.frozen]
    draw = functools.partial(network.init_params, trained, segment.streams, run.config.size)
    wanted = dict(zip(("params", "stats"), jax.eval_shape(draw, jax.random.key(0))))
    # A name or a shape that differs would fail inside the model, in words that say nothing of the cause.
    if jax.tree.map(np.shape, found) != jax.tree.map(np.shape, wanted):
        raise ValueError(
            f"{path} does not fit the networks that {run.workdir}/config.json describes: leave models, their "
            "options and the label spaces as they were trained"
        )
    # As jnp.asarray, which compiles a program for each shape.
    return jax.device_put(found)
