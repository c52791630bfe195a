"""One network of a run in a folder by itself, for others to use: what it is written from, and how it is opened."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

import mmvid
from mmvid import files, losses, sharding, usage
from mmvid.data import records
from mmvid.network import Network
from mmvid.plans import learning
from mmvid.plans.segment import Segment
from mmvid.run import build, kept, values
from mmvid.run.build import Run
from mmvid.weights import files as weight_files

# Of what a shared folder says of itself. Raise it whenever an older mmvid would misread it.
VERSION = 1
# How clips are cut and their views put together.
_SHOWN = ("protocol", "variant", "crops", "resize", "aggregate")
# What the build of a dataset notes for its own sake.
_OWN = ("inputs", "notes")
CONFIG = "config.json"
# Anybody may read what is shared, whatever this user's files are like.
_MODE = 0o644


class Choice(NamedTuple):
    """What is shared of a run: a ``network`` of a ``segment``, whole, with its ``outputs``, of which the first one
    speaks for it."""

    segment: Segment
    network: Network
    outputs: tuple[str, ...]


def chosen(segment: Segment, output: str) -> Choice:
    """Returns the network of a segment that has an ``output``, '' for the segment's headline; it may also be named
    itself. Raises WrongUse, which lists the outputs, for one that is not trained there."""
    learners = [network for network in segment.networks if not network.frozen]
    owners = {own: network for network in learners for own in network.outputs if own in segment.needs}
    name = output or segment.headline
    network = owners.get(name) or {network.name: network for network in learners}.get(name)
    if network is None:
        raise usage.WrongUse(
            f"segment {segment.name!r} trains no output {name!r}; it trains {', '.join(owners)}: name one of "
            f"them, RUN:{next(iter(owners))}"
        )
    own = [one for one in network.outputs if one in segment.needs]
    first = name if name in own else segment.headline
    return Choice(segment, network, tuple(sorted(own, key=lambda one: one != first)))


# ---------------------------------------------------------------------------- what it is written from
def _info(run: Run, segment: Segment) -> dict:
    """What a shared folder says of the dataset: label spaces and how clips are prepared, but nothing of clips."""
    info = run.datasets[segment.dataset].info
    settings = {name: value for name, value in info.settings.items() if name not in _OWN}
    return info._replace(settings=settings, classes={}, split_classes={})._asdict()


def _split(segment: Segment, info: Mapping) -> str:
    """A split that has clips, the one that was learnt from where that is known: a plan wants one."""
    return next(name for name in (segment.main.split, *info["splits"]) if info["splits"].get(name))


def described(run: Run, choice: Choice) -> dict:
    """Makes the config.json of a shared folder: what decides an answer, in the entries of a run's configuration,
    and nothing of where files lay on this machine."""
    config, (segment, network, outputs), info = run.config, choice, _info(run, choice.segment)
    read = [stream for together in network.reads for stream in together]
    spec = config.networks[network.name]
    return {
        build.SHARED: {
            "version": VERSION,
            "mmvid": mmvid.__version__,
            "segment": segment.name,
            "title": segment.title,
            "outputs": outputs,
            "multi": segment.method.multi,
            "dataset": info,
        },
        "plan": "single",
        "headline": outputs[0],
        "split": _split(segment, info),
        "size": config.size,
        # As there: where it names none, they are the dataset's, in the dataset's order.
        "heads": config.heads.to_dict(),
        "streams": {name: config.streams[name].to_dict() for name in read},
        "networks": {
            network.name: {
                "model": spec.model,
                "reads": network.reads,
                "options": learning.own({}, spec.options.to_dict()),
            }
        },
        "model_options": learning.own({}, config.model_options.to_dict()),
        "evaluation": {name: config.evaluation[name] for name in _SHOWN},
    }


def _of_one(metadata: Mapping[str, str], network: str, path: pathlib.Path) -> dict[str, str]:
    """What the metadata of a file of weights say of one ``network`` of it. Of files that it began with, the name
    is told, but not where they lay."""
    found = dict(metadata) | {"networks": json.dumps([network])}
    for entry in ("layouts", "inputs"):
        own = weight_files.told(metadata, entry, path, "{}")
        found |= {entry: json.dumps({network: own[network]})} if network in own else {}
    if seen := weight_files.told(metadata, "seen", path, "{}"):
        for entry in ("published", "unproven"):
            seen[entry] = [pathlib.PurePath(name).name for name in seen.get(entry, ())]
        found["seen"] = json.dumps(seen)
    return found


def _weights(run: Run, choice: Choice) -> tuple[dict, dict[str, str]]:
    """The weights of a shared network, and the metadata of their file. Raises FileNotFoundError or ValueError
    where they are gone or damaged."""
    build.weights_of(run, choice.segment)
    path = build.weights_path(run, choice.segment)
    tree, metadata = weight_files.read(path)
    name = choice.network.name
    return {name: tree[name]}, _of_one(metadata, name, path)


def write(
    run: Run, choice: Choice, card: str, folder: pathlib.Path, verify: Callable[[pathlib.Path], None]
) -> list[pathlib.Path]:
    """Writes model.safetensors, config.json and README.md (the ``card``) into a ``folder`` that has none of them,
    and returns them; ``verify(folder)`` raises where they are not right. Raises FileNotFoundError or ValueError
    where the weights are gone or damaged. Where anything is raised, nothing of it is left."""
    tree, metadata = _weights(run, choice)
    made = [folder / name for name in (build.MODEL, CONFIG, "README.md")]
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        weight_files.save(made[0], tree, metadata)
        files.write_json(made[1], described(run, choice))
        files.write_text(made[2], card)
        for path in made:
            path.chmod(_MODE)
        verify(folder)
    except BaseException:  # Ctrl-C, too
        for path in made:
            path.unlink(missing_ok=True)
        for place in new:
            place.rmdir()
        raise
    return made


def check(run: Run, choice: Choice, found: Run, segment: Segment) -> None:
    """Raises ValueError where a shared folder, opened as ``found``, would answer otherwise than the run: with
    other weights, of other streams, or with other classes."""
    name, mine = choice.network.name, choice.segment
    ours, theirs = build.weights_of(run, mine), build.weights_of(found, segment)
    own = [{kind: weights[kind][name] for kind in ("params", "stats")} for weights in (ours, theirs)]
    same = all(jax.tree.leaves(jax.tree.map(np.array_equal, *own)))
    streams = all(mine.streams[stream] == one for stream, one in segment.streams.items())
    shown = all(run.config.evaluation[entry] == found.config.evaluation[entry] for entry in _SHOWN)
    if not (same and streams and shown and segment.heads == mine.heads):
        raise ValueError(f"what was written into {found.workdir} would answer otherwise than the run: tell us")


# ---------------------------------------------------------------------------- how it is opened
def note_of(folder: pathlib.Path) -> dict | None:
    """What a shared folder says of itself; None for any other. Raises ValueError where it is damaged, or of a
    later mmvid."""
    found = files.read_json(folder / CONFIG)
    note = found.get(build.SHARED) if isinstance(found, dict) else None
    if note is None:
        return None
    if not isinstance(note, dict) or type(note.get("version")) is not int:
        raise _damaged(folder)
    if note["version"] != VERSION:
        raise ValueError(
            f"{folder} was shared by mmvid {note.get('mmvid')}, in form {note['version']}, and this one reads "
            f"form {VERSION}: update mmvid"
        )
    return note


def _damaged(folder: pathlib.Path, reason: str = "") -> usage.Damaged:
    return usage.Damaged(f"{folder / CONFIG} is damaged{reason and f' ({reason})'}: have the model shared again")


def _check_note(note: Mapping, segment: Segment) -> None:
    """Raises ValueError where what a shared folder says of itself cannot be of its ``segment``."""
    if lacking := {"segment", "outputs", "multi", "dataset"} - set(note):
        raise ValueError(f"it does not say its {sorted(lacking)[0]}")
    outputs = note["outputs"]
    if not (isinstance(outputs, list) and outputs and set(map(str, outputs)) <= set(segment.needs)):
        raise ValueError(f"its outputs are {outputs!r}, of {', '.join(segment.needs)}")
    if note["multi"] not in losses.MULTI_LABEL:
        raise ValueError(f"its losses of several labels are {note['multi']!r}, of {', '.join(losses.MULTI_LABEL)}")


def opened(folder: pathlib.Path, config) -> tuple[Run, Segment]:
    """Opens a shared folder, whose config.json is ``config``, to predict clips: its network, alone in a segment.
    Raises FileNotFoundError or ValueError where something of it is gone or damaged."""
    note = note_of(folder)
    if not (folder / build.MODEL).exists():
        raise FileNotFoundError(f"{folder / build.MODEL} is gone: have the model shared again")
    try:
        datasets = {"dataset": records.Dataset(folder, kept.info_of("dataset", note.get("dataset")))}
        values.check_names(config)
        (segment,) = build.planned(config, datasets)
        _check_note(note, segment)
    except (TypeError, ValueError) as error:
        raise _damaged(folder, str(error)) from None
    run = Run(config, folder, sharding.make_mesh(), datasets, [segment], {}, {})
    method = segment.method._replace(multi=note["multi"])
    own = dict(
        name=str(note["segment"]), outputs=tuple(note["outputs"]), headline=note["outputs"][0],
        title=note.get("title", ""),
    )  # fmt: skip
    return run, segment._replace(method=method, **own)
