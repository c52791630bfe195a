"""The facts beside a verdict: on what, when, by which code, and at what cost. What a run of an older mmvid has not
kept is '-'."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files, logs
from mmvid.data import subsets
from mmvid.report.points import Column, Source
from mmvid.report.rows import lines_of, taught_by
from mmvid.report.text import listed
from mmvid.scores import ensembles, imported
from mmvid.streams import Head
from mmvid.weights import files as weight_files

# Where nobody has counted the classes of a split with more clips, it is not done here: it would mean to read all
# of its records.
COUNTED = 2000
# What readers are told of how a segment was made, as cost.json names it.
MADE = ("code", "machine", "versions")


class Cost(NamedTuple):
    """What a column has cost, in words: its title, updates, training time, when it ended, its parameters, and what
    it began with, which has cost something, too."""

    title: str
    updates: str
    time: str
    ended: str
    parameters: str
    began: str


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


def _spent(workdir: pathlib.Path, segments: Sequence[str]) -> tuple[str, str]:
    """Writes the updates and the training time of ``segments`` together."""
    steps = _total([files.read_note(workdir / name / "done.json") for name in segments], "steps")
    seconds = _total([files.read_note(workdir / name / "cost.json") for name in segments], "seconds")
    return "-" if steps is None else f"{steps:,}", "-" if seconds is None else logs.duration(seconds)


def _source(workdir: pathlib.Path, source: Source) -> str:
    """Writes what a column began with and what that has cost, as far as it is known: 'CE (150 updates, 2 min)'."""
    updates, time = _spent(workdir, [source.segment]) if source.segment else ("-", "-")
    known = [f"{updates} updates"] * (updates != "-") + [time] * (time != "-")
    return source.title + (f" ({', '.join(known)})" if known else "")


def _began(workdir: pathlib.Path, sources: Sequence[Source]) -> str:
    """Writes all that a column began with, frozen teachers apart."""
    started, teachers = (
        ", ".join(_source(workdir, own) for own in sources if own.teaches == teaches) for teaches in (False, True)
    )
    return (started or "new weights") + (f"; frozen teachers: {teachers}" if teachers else "")


def _made_of_others(column: Column) -> bool:
    """Whether this run has trained nothing for a column: an ensemble, or a teacher of an earlier run."""
    first = next(iter(column.scores.values()))
    return ensembles.is_one(first) or imported.is_one(first)


def costs(workdir: pathlib.Path, columns: Sequence[Column]) -> list[Cost]:
    """Lists what each column has cost, but for those that cost this run nothing of their own. Segments that go on
    from one another cost what they cost together."""
    return [
        Cost(
            column.title,
            *_spent(workdir, column.parts or (column.segment,)),
            files.read_note(workdir / column.segment / "cost.json").get("date", "-").replace("T", " "),
            _parameters(workdir, column.segment),
            _began(workdir, column.sources),
        )
        for column in columns
        if not _made_of_others(column)
    ]


# ---------------------------------------------------------------------------- what made it
def _entries(note: dict, name: str) -> list[str]:
    """Lists an entry of a note as texts. What several calls have made holds a value of each."""
    entry = note.get(name, [])
    values = entry if isinstance(entry, list) else [entry]
    return [", ".join(f"{k} {v}" for k, v in own.items()) if isinstance(own, dict) else own for own in values]


def _whose(titles: Mapping[str, Sequence[dict]], name: str) -> str:
    """Writes an entry of the notes of every title, each value once, and whose it is where they differ: 'abc (CE);
    def (CE, MML)'."""
    owners: dict[str, list[str]] = {}
    for title, notes in titles.items():
        for value in dict.fromkeys(value for note in notes for value in _entries(note, name) or ["-"]):
            owners.setdefault(value, []).append(title)
    if len(owners) < 2:
        return next(iter(owners), "-")
    return "; ".join(f"{value} ({', '.join(own)})" for value, own in owners.items())


def made(titles: Mapping[str, Sequence[pathlib.Path]]) -> dict[str, str]:
    """Says by which code, on which machine and with which versions the segments in these folders were trained,
    {title: folders}: each value once, with its titles where there are several."""
    notes = {title: [files.read_note(own / "cost.json") for own in found] for title, found in titles.items()}
    return {name: _whose(notes, name) for name in MADE}


def made_by(workdir: pathlib.Path, columns: Sequence[Column]) -> dict[str, str]:
    """Says the same of a run's columns, with all that each began with in this run."""
    found: dict[str, list[pathlib.Path]] = {}
    for column in columns:
        names = [*(column.parts or (column.segment,)), *(own.segment for own in column.sources if own.segment)]
        found.setdefault(column.title, []).extend(workdir / name for name in names)
    return made(found)


def facts(columns: Sequence[Column], config: Mapping, dataset) -> dict[str, str]:
    """Returns {what: words} of the data of a run, of its way of testing and its seed."""
    column = columns[-1]
    meta = next(iter(column.scores.values())).meta
    views = meta["views"]
    tested = [
        f"{own.meta['clips_used']} of {own.meta['clips_expected']} {split}" for split, own in column.scores.items()
    ]
    return {
        "dataset": f"{meta['dataset']} ({meta['fingerprint']})",
        "clips": f"{_trained(columns, config, dataset)}; tested on {', '.join(tested)}",
        "protocol": f"{meta['protocol']}, crop {meta['crops']}, {views} view{'s' * (views != 1)}",
        "seed": str(config.get("seed", "-")),
    }


def learnt_from(dataset, name: str, split: str) -> str:
    """Says how many clips of a ``split`` somebody has learnt from, '400 train'; without their number where
    ``name`` is not the main ``dataset``, or that is not at hand."""
    if dataset is None or name != "dataset":
        return split + (f" of {name}" if name not in ("", "dataset") else "")
    return f"{len(dataset.split(split))} {split}"


def _trained(columns: Sequence[Column], config: Mapping, dataset) -> str:
    """Says who has learnt from what, and on what teachers were weighed: 'trained on 400 train', or 'teacher_flow
    trained on 320 taught; Baseline and Student trained on 400 train; teachers weighed on 80 held'."""
    owners: dict[str, list[str]] = {}
    teachers = taught_by(own for column in columns for own in column.scores.values())
    for column in columns:
        if known := listed([learnt_from(dataset, *own) for own in column.learnt if own[1]] or [""]):
            first = next(iter(column.scores.values()))
            owners.setdefault(known, []).extend(lines_of(column.title, first, teachers))
    if not owners:
        return f"trained on {learnt_from(dataset, 'dataset', config.get('split', 'train'))}"
    each = [f"{listed(titles)} trained on {clips}" for clips, titles in owners.items()]
    said = each if len(each) > 1 else [f"trained on {clips}" for clips in owners]
    return "; ".join([*said, *_weighed(columns)])


def _weighed(columns: Sequence[Column]) -> list[str]:
    """Says on which clips teachers were weighed, where students have learnt from some."""
    notes = [own.meta.get("teachers", {}) for column in columns for own in column.scores.values()]
    clips = dict.fromkeys(f"{note['clips']} {note['split']}" for note in notes if note.get("split"))
    return [f"teachers weighed on {listed(list(clips))}"] if clips else []


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
