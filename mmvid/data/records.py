"""The prepared dataset on disk: an ArrayRecord behind TFDS, and metadata.json beside it."""

import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

SCHEMA = 1
TFDS_NAME = "clips"


class Info(NamedTuple):
    """What is known of a dataset without opening its records.

    ``heads`` {name: {classes, kind, names}}; ``splits`` and ``expected`` {split: clips}: those in
    it and those that the annotations name; ``modalities`` {split: {modality: clips}}.
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


def fingerprint(rows: list, settings: dict) -> str:
    """Twelve hex digits of ids, splits, labels, lengths and settings: equal data, equal text."""
    text = json.dumps([sorted(rows), settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def present(record: dict, field: str) -> bool:
    """Whether a record has the modality stored in ``field`` ('rgb', 'flow', 'depth', ...)."""
    if field == "rgb":
        return bool(record["rgb"]) or bool(record["rgb_video"])
    if field == "flow":
        return len(record["flow_x"]) > 0
    return len(record[field]) > 0


class Source:
    """The records of a split: ``len`` and ``[row]``; frames stay encoded. Picklable."""

    def __init__(self, root: pathlib.Path, split: str, info: Info):
        self.root, self.split, self.info = root, split, info
        self._data = None

    def __len__(self) -> int:
        return self.info.splits[self.split]

    def __getstate__(self):
        return {"root": self.root, "split": self.split, "info": self.info, "_data": None}

    def __getitem__(self, row: int) -> dict:
        return _plain(self._opened()[int(row)])

    def _opened(self):
        if self._data is None:
            # Imported here: TFDS takes a second, and only whoever reads records needs it.
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(str(_tfds_directory(self.root)))
            self._data = builder.as_data_source(split=self.split)
        return self._data

    def ids(self) -> list[str]:
        """The id of every row."""
        return json.loads((self.root / "index.json").read_text())[self.split]


class Dataset(NamedTuple):
    """A prepared dataset: ``info`` and ``split(name)``."""

    root: pathlib.Path
    info: Info

    def split(self, name: str) -> Source:
        """The Source of a split. Raises ValueError listing the splits there are."""
        if name not in self.info.splits:
            raise ValueError(
                f"{self.root} has no split {name!r}; it has {self.info.splits}. "
                "Name another one in --config.evaluation, or build the dataset with it."
            )
        return Source(self.root, name, self.info)


def _tfds_directory(root: pathlib.Path) -> pathlib.Path:
    return root / TFDS_NAME / f"{SCHEMA}.0.0"


def _plain(example: dict) -> dict:
    """TFDS's NumPy scalars and object arrays as Python values; frames as lists of bytes."""
    record = {}
    for name, value in example.items():
        if name == "label":
            record[name] = {k: np.asarray(v) for k, v in value.items()}
        elif name in ("rgb", "flow_x", "flow_y", "depth"):
            record[name] = list(value)
        elif name in ("id", "split"):
            record[name] = value.decode()
        elif name in ("rgb_video", "audio"):
            record[name] = bytes(value)
        elif name == "boxes":
            record[name] = np.asarray(value, np.float32)
        else:
            record[name] = np.asarray(value).item()
    return record


def open_dataset(root: str | os.PathLike) -> Dataset:
    """The dataset at ``root``. Raises FileNotFoundError or ValueError that say how to build it."""
    root = pathlib.Path(root)
    path = root / "metadata.json"
    if not path.exists():
        raise FileNotFoundError(
            f"there is no prepared dataset at {root}. Make one from your videos with\n"
            f"  python -m data_prep.build --folder YOUR_VIDEOS --out {root}\n"
            "(a folder per class; --manifest FILE.csv for anything else, see data_prep/README.md)"
        )
    info = Info(**json.loads(path.read_text()))
    if info.version != SCHEMA:
        raise ValueError(
            f"{root} was built with schema {info.version}, this mmvid reads {SCHEMA}: build it again"
        )
    return Dataset(root, info)
