"""Opens the dataset that a command is asked to look at, and says what is wrong with its folder."""

import csv
import os
import pathlib
from collections.abc import Sequence

from mmvid import files, usage
from mmvid.data import records
from mmvid.data.records import Dataset


def opened(root: pathlib.Path) -> Dataset:
    """Opens the dataset in ``root``. Raises WrongUse where there is none, ValueError for one that cannot be read
    or has no clips."""
    if (root / "config.json").exists() and not (root / "metadata.json").exists():
        known = files.read_note(root / "config.json")
        spec = known.get("dataset") if isinstance(known, dict) else None
        own = f", which is {spec['path']}" if isinstance(spec, dict) and spec.get("path") else ""
        raise usage.WrongUse(f"{root} is the folder of a run, not of a dataset: name the one that it read{own}")
    try:
        dataset = records.open_dataset(root)
    except FileNotFoundError as error:
        raise usage.WrongUse(str(error)) from error
    if not sum(dataset.info.splits.values()):
        raise usage.Damaged(f"{root} has no clips: build it again, from videos that can be used")
    return dataset


def check_target(
    flag: str, path: pathlib.Path, reads: Sequence[pathlib.Path], own: pathlib.Path | None = None
) -> None:
    """Raises WrongUse where a file cannot be written at ``path``, as `files.check_target`, or this user has no
    right to: before anything is looked at, which may take an hour."""
    files.check_target(flag, path, reads, own)
    there = next(place for place in path.absolute().parents if place.exists())
    if not os.access(path if path.exists() else there, os.W_OK):
        raise usage.WrongUse(f"this user may not write into {there}: name a file elsewhere, {flag}=FILE")


def splits_of(dataset: Dataset) -> list[str]:
    """The splits of a dataset, in the order in which its annotations name them."""
    return sorted(dataset.info.splits, key=[*dataset.info.expected, *dataset.info.splits].index)


def rejected(root: pathlib.Path) -> list[dict[str, str]]:
    """Reads the clips that the dataset's build could not use, as {'id', 'split', 'path', 'reason'}; [] where
    nothing tells of any. Raises Damaged for a file that is no table."""
    path = root / "rejected.csv"
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            names = ("id", "split", "path", "reason")
            return [{name: row.get(name) or "" for name in names} for row in csv.DictReader(file)]
    except (csv.Error, OSError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise usage.Damaged(f"{path} cannot be read ({what}): delete it, or build the dataset again") from None


def index_of(dataset: Dataset, splits: Sequence[str]) -> dict[str, list[str]]:
    """Reads the ids of the clips of some splits, {split: ids}. Raises Damaged where they cannot be."""
    try:
        found = {split: dataset.split(split).ids() for split in splits}
        if not all(isinstance(ids, list) and all(isinstance(own, str) for own in ids) for ids in found.values()):
            raise ValueError("it does not list ids")
    except usage.Damaged:  # it says what to do
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, KeyError | TypeError):
            what = "it does not list the clips of every split"
        raise usage.Damaged(
            f"{dataset.root / 'index.json'} cannot be read ({what}): run the command that built it again"
        ) from None
    return found
