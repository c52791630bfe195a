"""Stages that runs of a sweep share: segments with equal keys, of which one run trains what others then copy
(--config.reuse)."""

import contextlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mmvid import configuration, usage
from mmvid.plans import keys
from mmvid.run import outline, reuse
from mmvid.run.build import wanted
from mmvid.sweeps.folder import Task


def configured(task: Task):
    """The configuration of a run. Raises WrongUse for an entry that there is not or a value that does not fit, and
    ValueError where the file fails; both name the cell."""
    file, *overrides = task.cell.arguments(task.seed)
    try:
        return configuration.overridden(configuration.read(file.partition("=")[2]), overrides)
    except usage.WrongUse as error:
        raise usage.WrongUse(f"cell {task.cell.title!r}: {error}") from error


def _there(paths: Iterable[pathlib.Path]) -> tuple[bool, ...]:
    """Which of the datasets have been made."""
    return tuple((path / "metadata.json").exists() for path in paths)


def _paths(config) -> tuple[pathlib.Path, ...]:
    return tuple(pathlib.Path(spec.path) for spec in wanted(config).values())


def outlined(task: Task, config=None) -> outline.Outline | None:
    """The run as its configuration describes it; None where only data that are not there yet could tell. Raises
    WrongUse or ValueError, with the name of the cell, for what cannot work."""
    config = configured(task) if config is None else config
    if not config.heads and not all(_there(_paths(config))):
        return None
    try:
        return outline.outline(config, task.workdir)
    except usage.WrongUse as error:
        raise usage.WrongUse(f"cell {task.cell.title!r}: {error}") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"cell {task.cell.title!r}: {error}") from error


class Stages(NamedTuple):
    """The ``keys`` of a run's segments, {segment: key}, {} where nobody can tell them; of which ``paths`` of data
    they depend on, which were ``there``. ``steps`` are those of each segment."""

    keys: Mapping[str, str]
    paths: tuple[pathlib.Path, ...]
    there: tuple[bool, ...]
    steps: Mapping[str, int]


def of(task: Task, known: dict[str, Stages]) -> Stages:
    """The stages of a run, looked up in ``known`` {task: stages} or added to it."""
    old = known.get(task.name)
    # Keys cover the data: those that are made meanwhile change them.
    if old is None or _there(old.paths) != old.there:
        config = configured(task)
        found = outlined(task, config)
        segments = found.run.segments if found else []
        own = {name: key for name, key in keys.of(segments).items() if key}
        steps = {segment.name: segment.steps for segment in segments}
        known[task.name] = Stages(own, _paths(config), _there(_paths(config)), steps)
    return known[task.name]


def _has_ended(task: Task, segment: str) -> bool:
    return (task.workdir / segment / "done.json").exists()


def under_way(task: Task, busy: Sequence[Task], known: dict[str, Stages]) -> bool:
    """Whether a run needs a stage that one of the ``busy`` ones is about to train, so that it had better wait."""
    own = {key for name, key in of(task, known).keys.items() if not _has_ended(task, name)}
    return any(
        key in own and not _has_ended(other, name)
        for other in busy
        if other.name != task.name
        for name, key in of(other, known).keys.items()
    )


def to_reuse(task: Task, others: Iterable[Task], known: dict[str, Stages]) -> list[pathlib.Path]:
    """The workdirs of ``others`` that have trained a stage which a run lacks: for each such stage the first."""
    lacking = {key for name, key in of(task, known).keys.items() if not (task.workdir / name).exists()}
    found = []
    for other in others:
        if not lacking or other.name == task.name or not (other.workdir / "config.json").exists():
            continue
        # What is damaged there must not keep others from running.
        with contextlib.suppress(usage.Damaged):
            if own := lacking & set(reuse.all_ended(other.workdir)):
                found.append(other.workdir)
                lacking -= own
    return found
