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
from mmvid.data import records, subsets
from mmvid.plans import segment as segment_lib
from mmvid.plans import stills
from mmvid.plans.segment import Segment
from mmvid.run import checks
from mmvid.streams import Head


class Run(NamedTuple):
    """What every segment shares."""

    config: Any
    workdir: pathlib.Path
    mesh: jax.sharding.Mesh
    datasets: dict[str, records.Dataset]
    segments: list[Segment]
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
    wanted = {"dataset": config.dataset} | dict(config.datasets.items())
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


# ---------------------------------------------------------------------------- the run
def build(config, workdir: pathlib.Path, stop: dict | None = None) -> Run:
    """Datasets (made where a command says how), segments, mesh; nothing is trained. ``stop``: of
    `signals.listened`.

    Raises ValueError or FileNotFoundError for whatever cannot work, saying what to do.
    """
    checks.check_names(config)
    datasets = _open(config)
    heads = _heads(config, datasets["dataset"].info)
    datasets["dataset"] = subsets.divided(
        datasets["dataset"], config.subsets, heads, workdir / "subsets.json"
    )
    context = segment_lib.Context(
        config=config,
        heads=heads,
        clips={name: dataset.info.splits for name, dataset in datasets.items()},
        stills_heads=_spaces(datasets["stills"].info) if "stills" in datasets else {},
    )
    mesh, segments = sharding.make_mesh(), plans.make(context)
    checks.check_batches(config, mesh, segments)
    checks.check_groups(segments, datasets, _spaces)
    read = {name: s for segment in segments if segment.dataset == "dataset"
            for name, s in segment.streams.items()}  # fmt: skip
    checks.check_splits(config, datasets["dataset"], read)
    checks.check_missing(config, read)
    return Run(config, workdir, mesh, datasets, segments, {} if stop is None else stop)
