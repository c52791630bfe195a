"""The facts beside a verdict: on what, when, by which code, and at what cost. What a run of an older mmvid has not
kept is '-'."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files, logs
from mmvid.data import subsets
from mmvid.report.points import Column
from mmvid.streams import Head
from mmvid.weights import files as weight_files

# Where nobody has counted the classes of a split with more clips, it is not done here: it would mean to read all
# of its records.
COUNTED = 2000


class Cost(NamedTuple):
    """What a column has cost, in words: its title, updates, training time and parameters."""

    title: str
    updates: str
    time: str
    parameters: str


def _note(workdir: pathlib.Path, segment: str, name: str) -> dict:
    try:
        return files.read_json(workdir / segment / name) or {}
    except ValueError:  # a damaged note costs a fact, not the page
        return {}


def _total(notes: Sequence[dict], name: str) -> float | None:
    """Adds up an entry of the parts of a column; None where any of them has not kept it."""
    found = [note.get(name) for note in notes]
    return None if None in found else sum(found)


def _size(count: int) -> str:
    """Writes a number of parameters: '285 k', '11.2 M'."""
    if count < 1000:
        return str(count)
    return f"{count / 1e3:.0f} k" if count < 1e6 else f"{count / 1e6:.1f} M"


def _parameters(workdir: pathlib.Path, segment: str) -> str:
    path = workdir / segment / "weights.safetensors"
    # Weights may have been removed to save room.
    found = weight_files.parameters(path) if path.exists() else {}
    return ", ".join(f"{network} {_size(count)}" for network, count in found.items()) or "-"


def costs(workdir: pathlib.Path, columns: Sequence[Column]) -> list[Cost]:
    """Lists what each column has cost. Segments that go on from one another cost what they cost together."""
    found = []
    for column in columns:
        parts = column.parts or (column.segment,)
        steps = _total([_note(workdir, part, "done.json") for part in parts], "steps")
        seconds = _total([_note(workdir, part, "cost.json") for part in parts], "seconds")
        found.append(
            Cost(
                column.title,
                "-" if steps is None else f"{steps:,}",
                "-" if seconds is None else logs.duration(seconds),
                _parameters(workdir, column.segment),
            )
        )
    return found


def facts(workdir: pathlib.Path, column: Column, config: Mapping, trained: str) -> dict[str, str]:
    """Returns {what: words} of a run's data, its way of testing, its seed, its date, machine and code.
    ``trained`` says how many clips it has learnt from."""
    cost, meta = _note(workdir, column.segment, "cost.json"), next(iter(column.scores.values())).meta
    views = meta["views"]
    tested = [
        f"{own.meta['clips_used']} of {own.meta['clips_expected']} {split}" for split, own in column.scores.items()
    ]
    return {
        "dataset": f"{meta['dataset']} ({meta['fingerprint']})",
        "clips": f"trained on {trained}; tested on {', '.join(tested)}",
        "protocol": f"{meta['protocol']}, crop {meta['crops']}, {views} view{'s' * (views != 1)}",
        "seed": str(config.get("seed", "-")),
        "ended": cost.get("date", "-").replace("T", " "),
        "machine": cost.get("machine", "-"),
        "code": ", ".join(cost.get("code", ["-"])),
    }


def trained_on(dataset, split: str) -> str:
    """Says how many clips a run has learnt from, '400 train'; '-' where the dataset is not at hand."""
    return "-" if dataset is None else f"{len(dataset.split(split))} {split}"


def class_counts(dataset, split: str) -> list[tuple[str, list[str], list[int]]]:
    """Counts the clips of each class: [(which head and split, class names, numbers)], a head each.

    They are those of the training ``split``, or of the whole dataset where those are not known and the split has
    many clips; [] where neither is known.
    """
    if dataset is None:
        return []
    found = []
    for head, spec in dataset.info.heads.items():
        names = [*spec.get("names", ())] or [str(i) for i in range(spec["classes"])]
        numbers, what = _counted(dataset, split, head, spec["classes"]), f"{head}: {split}"
        if numbers is None:
            numbers, what = dataset.info.classes.get(head), f"{head}: all splits"
        found += [(what, names, numbers)] if numbers else []
    return found


def _counted(dataset, split: str, head: str, classes: int) -> list[int] | None:
    """Counts the clips of each class in a split; None where that would take long."""
    if known := dataset.info.split_classes.get(split, {}).get(head):
        return known
    # A subset reads all records of the split that it is of.
    if dataset.info.splits[dataset.whole(split)] > COUNTED:
        return None
    own = [subsets.classes_of(label, Head(classes)) for label in dataset.split(split).labels(head)]
    return np.sum(own, axis=0).tolist()
