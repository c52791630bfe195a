"""Reads the prepared dataset on disk: an ArrayRecord behind TFDS, and metadata.json beside it."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shlex
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmvid import buckets, transfer, usage
from mmvid.data import labels as labels_lib
from mmvid.data.stored import plain, with_settings

SCHEMA = 1
TFDS_NAME = "clips"
# The ids of so many clips may stay in memory.
KEPT = 1_000_000
# How many files a process may have open beside those of records.
SPARE = 512


class Info(NamedTuple):
    """What metadata.json tells of a dataset, without opening its records.

    ``heads`` is {name: {classes, kind, names}}. ``splits`` {split: clips} counts the clips that are there,
    ``expected`` those that the annotations name; ``modalities`` is {split: {modality: clips}}.
    """

    name: str
    version: int
    heads: dict[str, dict]
    splits: dict[str, int]
    expected: dict[str, int]
    modalities: dict[str, dict[str, int]]
    fingerprint: str
    height: int
    width: int
    fps: float
    settings: dict[str, Any]
    # Clips of every class, {head: [count]}, over all splits.
    classes: dict[str, list[int]] = {}  # noqa: RUF012
    # The same of each split, {split: {head: [count]}}; {} in datasets that were built before it was kept.
    split_classes: dict[str, dict[str, list[int]]] = {}  # noqa: RUF012


def fingerprint(rows: list, settings: dict) -> str:
    """Returns twelve hex digits that are equal for equal data: of facts (ids, splits, labels, contents) in
    ``rows``, and of the build settings."""
    # Sorted, since the order in which clips were built is no part of the data.
    text = json.dumps([sorted(rows), settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# Held while a split is opened and read first: TFDS imports more of itself then, and threads that import at the
# same time may wait for each other for ever.
_OPENING = threading.Lock()


# How many files of records each split has that this process has opened.
_OPENED: list[int] = []


def _let_open(count: int, root: pathlib.Path, held: int = 0) -> None:
    """Allows this process to have ``count`` files open, beside its own and the ``held`` ones of other splits: each
    file of records that was read stays open. Raises ValueError where the system does not allow ``count``."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, unlimited = count + SPARE, resource.RLIM_INFINITY
    if hard != unlimited and hard < wanted:
        raise ValueError(
            f"{root} has {count} files of records, and this system lets a process open {hard}: raise the hard "
            f"limit (ulimit -Hn {wanted}; LimitNOFILE of a service, --ulimit nofile of a container)"
        )
    # Whether those of other splits are still open is not known: for their sake nothing is refused.
    wanted = wanted + held if hard == unlimited else min(wanted + held, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@functools.lru_cache(maxsize=16)
def _ids(path: pathlib.Path, stamp: tuple, split: str) -> tuple[str, ...]:
    """Reads the ids of a split, which the build wrote beside the records. ``stamp`` changes with the file."""
    del stamp
    found = json.loads(path.read_bytes())[split]
    if not isinstance(found, list):
        raise usage.Damaged(
            f"{path} cannot be read (it does not list the clips of {split}): run the command that built it again"
        )
    return tuple(found)


class Source:
    """The records of a split, by ``len`` and ``[row]``. Frames stay encoded; a Source can be pickled.

    Each record is given what its fields need to know of the dataset's build settings
    (`stored.with_settings`).
    """

    def __init__(self, root: pathlib.Path, split: str, info: Info):
        self.root, self.split, self.info = root, split, info
        self._data = None

    def __len__(self) -> int:
        return self.info.splits[self.split]

    def __getstate__(self):
        # Open files do not go to worker processes: each opens its own at the first record it reads.
        return {"root": self.root, "split": self.split, "info": self.info, "_data": None}

    def __getitem__(self, row: int) -> dict:
        """Reads the record of a row. Raises IndexError beyond the last one."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of the {len(self)} clips of {self.root}/{self.split}")
        return with_settings(_plain(self._opened()[int(row)]), self.info.settings)

    def _opened(self):
        """Returns TFDS's data source, opened at the first call. Raises ValueError where clips are missing."""
        if self._data is None:
            with _OPENING:
                if self._data is None:  # no other thread has opened it meanwhile
                    self._data = self._open()
        return self._data

    def _open(self):
        # Imported here: TFDS takes a second, and only whoever reads records needs it.
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(directory(self.root)))
        shards = builder.info.splits[self.split].num_shards
        _let_open(shards, self.root, sum(_OPENED))
        _OPENED.append(shards)
        data = builder.as_data_source(split=self.split)
        if len(data) != len(self):
            raise usage.Damaged(
                f"{self.root} holds {len(data)} clips of {self.split}, its metadata.json says "
                f"{len(self)}: run the command that built it again"
            )
        # What is wrong with the first record is told to whoever asks for it.
        with contextlib.suppress(Exception):
            data[0]
        return data

    def open(self) -> None:
        """Opens the split. What reads it by threads does so before they start, since TFDS imports more of itself
        then."""
        if len(self):
            self._opened()

    def labels(self, head: str) -> np.ndarray | list[np.ndarray]:
        """Returns the label of every row. Of a dataset that was built before labels were kept beside the records
        it reads all of these, but decodes no frame."""
        known = labels_lib.load(self.root, self.info.fingerprint, self.split, head)
        if known is not None and len(known) == len(self):
            return known
        data = self._opened()
        return [np.asarray(data[row]["label"][head]) for row in range(len(self))]

    def ids(self) -> list[str]:
        """Returns the id of every row."""
        # Those of a small split are asked for again and again, and the file may hold a large one, too.
        read = _ids if len(self) <= KEPT else _ids.__wrapped__
        path = self.root / "index.json"
        return list(read(path, buckets.stamp(path), self.split))


class Held:
    """Records that are held in memory, as `media.record.prepare` makes them, by ``len`` and ``[row]``.

    They are read as if they stood in the dataset of ``info``, but have no label.
    """

    split = ""

    def __init__(self, records: Sequence[dict], info: Info):
        self.info = info
        self._records = [with_settings(_as_kept(record), info.settings) | _unlabelled(info) for record in records]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict:
        return self._records[row]

    def ids(self) -> list[str]:
        """Returns the id of every row."""
        return [record["id"] for record in self._records]


def _as_kept(record: dict) -> dict:
    """Returns a record whose numbers are rounded as in a dataset's files."""
    return {name: float(np.float32(v)) if isinstance(v, float) else v for name, v in record.items()}


def _unlabelled(info: Info) -> dict:
    """Returns the column of labels of a clip that has none: -1 for an id, and for each class where several may
    be right."""
    single = {name: spec["kind"] == "single" for name, spec in info.heads.items()}
    return {
        "label": {
            name: np.asarray(-1) if one else np.full(info.heads[name]["classes"], -1)
            for name, one in single.items()
        }
    }


class Dataset(NamedTuple):
    """A prepared dataset. Its ``info`` counts the ``subsets`` {name: source} as splits, too."""

    root: pathlib.Path
    info: Info
    subsets: dict[str, Any] = {}  # noqa: RUF012

    def with_subset(self, name: str, source) -> "Dataset":
        """Returns the dataset with one more split, ``source``, which was made from the others."""
        counts = {name: len(source)}
        info = self.info._replace(splits=self.info.splits | counts, expected=self.info.expected | counts)
        return self._replace(info=info, subsets=self.subsets | {name: source})

    def whole(self, name: str) -> str:
        """Returns the split that a subset is taken from in the end (subsets nest); for a split, its own name."""
        return self.subsets[name].whole if name in self.subsets else name

    def split(self, name: str) -> Source:
        """Returns the Source of a split or subset. Raises ValueError, which lists the splits there are."""
        if name in self.subsets:
            return self.subsets[name]
        if name not in self.info.splits:
            raise ValueError(
                f"{self.root} has no split {name!r}; it has {self.info.splits}. "
                "Name another one in --config.split or --config.evaluation, make a subset of that name in "
                "config.subsets, or build the dataset with it."
            )
        return Source(self.root, name, self.info)


def directory(root: pathlib.Path) -> pathlib.Path:
    """Returns the folder where TFDS keeps the records of the dataset at ``root``."""
    return root / TFDS_NAME / f"{SCHEMA}.0.0"


def _plain(example: dict) -> dict:
    """Turns TFDS's NumPy scalars and object arrays into Python values, and frames into lists of bytes."""
    label = {head: np.asarray(value) for head, value in example["label"].items()}
    return {name: plain(name, value) for name, value in example.items() if name != "label"} | {"label": label}


def _check_version(root: pathlib.Path, found: dict, command: str) -> None:
    """Raises ValueError for records of another schema, with the ``command`` that makes them anew."""
    version = found.get("version", SCHEMA)
    if version != SCHEMA:
        again = command or f"python -m data_prep.build ... --out {shlex.quote(str(root))}"
        newer = isinstance(version, int) and version > SCHEMA
        how = "update mmvid, or build it again" if newer else "build it again"
        raise ValueError(
            f"{root} was built with schema {version}, this mmvid reads {SCHEMA}: {how} with the command that "
            f"built it\n  {again}"
        )


def is_at(root: str | os.PathLike) -> bool:
    """Whether there is a prepared dataset at ``root``, on a disk or in a bucket."""
    return buckets.there(buckets.located(root) / "metadata.json")


def _check_there(root: pathlib.Path, example: str) -> None:
    """Raises FileNotFoundError where no dataset was built at ``root``, with the command ``example`` where one is
    known that would build there what is wanted."""
    if is_at(root):
        return
    own = f"python -m data_prep.build --folder YOUR_VIDEOS --out {shlex.quote(str(root))}"
    known = f"The one that this configuration is written for is made there by\n  {example}\n"
    raise FileNotFoundError(
        f"there is no prepared dataset at {root}. {known if example else ''}"
        f"{'and one of your own videos by' if example else 'Make one from your videos with'}\n  {own}\n"
        "(a folder per class; --manifest FILE.csv or --dataset NAME for anything else, see data_prep/README.md)"
    )


def _check_kinds(info: Info) -> None:
    """Raises TypeError where an entry is of another kind than `Info` says: its file was changed by hand, or
    damaged."""
    for name in ("heads", "splits", "expected", "modalities", "settings", "classes", "split_classes"):
        if not isinstance(getattr(info, name), dict):
            raise TypeError(f"{name!r} is no object")
    for name in ("splits", "expected"):
        if not all(isinstance(n, int) and n >= 0 for n in getattr(info, name).values()):
            raise TypeError(f"{name!r} does not count clips")
    for name, head in info.heads.items():
        if not (isinstance(head, dict) and isinstance(head.get("classes"), int) and "kind" in head):
            raise TypeError(f"the label space {name!r} has no classes or no kind")


def _is_read(path: str) -> bool:
    """Whether a file of a dataset's folder is read in training: a build may have left its prepared clips there."""
    return not path.startswith("prepared/")


def _near(root: str | os.PathLike):
    """Where the dataset at ``root`` is read: of one in an s3:// bucket, which ArrayRecord's reader does not know,
    it is a copy on this machine, which is made once. Raises ValueError or OSError where it cannot be made."""
    return transfer.fetched(os.fspath(root), _is_read) if buckets.scheme(root) == "s3" else buckets.located(root)


def open_dataset(root: str | os.PathLike, command: str = "", example: str = "") -> Dataset:
    """Opens the dataset at ``root``, which ``command`` makes where one is known; ``example`` would make there what
    is wanted. Raises FileNotFoundError or ValueError, which say how to build it."""
    _check_there(buckets.located(root), example)
    root = _near(root)
    path = root / "metadata.json"
    try:
        found = json.loads(path.read_bytes())
        # First: of another schema the other entries may differ, too.
        _check_version(root, found, command)
        info = Info(**found)
        _check_kinds(info)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise usage.Damaged(f"{path} cannot be read ({error}): build the dataset again") from None
    # A build writes metadata.json last, so the records were there once and have been lost since.
    if not (directory(root) / "dataset_info.json").exists():
        raise ValueError(
            f"{root} has metadata.json but no records in {directory(root)}: run the command that "
            "built it again; what stands in its prepared/ is not made anew"
        )
    return Dataset(root, info)
