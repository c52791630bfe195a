"""Phase 2: packs prepared clips into sharded ArrayRecord files, through a TFDS builder without TensorFlow."""

import collections
import contextlib
import functools
import io
import pathlib
import pickle
import shutil
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from mmvid.data import fields, records, stored

# A file of records has so many bytes at least, and, where there would be more than MOST files, up to so many.
SHARD_BYTES, LARGEST, MOST = 256 << 20, 1 << 30, 1000
MODALITIES = tuple(fields.FIELDS)


class Facts(NamedTuple):
    """What is kept of a packed clip for metadata.json and the checks."""

    id: str
    split: str
    labels: dict[str, int | list]
    shape: tuple[int, int, int, float]  # frames, height, width, frames a second
    modalities: tuple[str, ...]
    checksum: int
    content: tuple  # `fields.content`: equal for a clip that is stored twice


def _checksum(record: dict) -> int:
    """Returns the CRC-32 of a record's frames, depth, sound and boxes, and of flow that came with it."""
    # Computed flow is left out, as it may differ in a last bit between machines.
    parts = [*record["rgb"], record["rgb_video"], *record["depth"], record["audio"], record["boxes"].tobytes()]
    if record.get("flow_given"):
        parts += [*record["flow_x"], *record["flow_y"]]
    return functools.reduce(lambda crc, part: zlib.crc32(part, crc), parts, 0)


def facts(record: dict) -> Facts:
    """Collects the facts of one prepared clip."""
    shape = (record["num_frames"], record["height"], record["width"], round(record["fps"], 3))
    have = tuple(m for m in MODALITIES if fields.present(record, m))
    labels = {name: value.tolist() for name, value in record["label"].items()}
    return Facts(record["id"], record["split"], labels, shape, have, _checksum(record), fields.content(record))


def features(heads: dict[str, dict]) -> tfds.features.FeaturesDict:
    """Makes the record's schema (data_prep/README.md)."""
    # Frames stay bytes: the loader draws indices first and decodes only the frames that it needs.
    f = tfds.features

    def label(spec):
        if spec["kind"] == "multi":
            return f.Tensor(shape=(len(spec["names"]),), dtype=np.uint8)
        if spec["kind"] == "spans":
            return f.Tensor(shape=(None, 3), dtype=np.float32)
        return f.Scalar(np.int64)

    def column(spec: stored.Column):
        if spec.kind == "frames":
            return f.Sequence(f.Text())
        if spec.kind == "reals":
            return f.Tensor(shape=spec.shape, dtype=np.float32)
        if spec.kind in ("integer", "real"):
            return f.Scalar(np.int64 if spec.kind == "integer" else np.float32)
        return f.Text()  # which holds any bytes

    columns = {name: column(spec) for name, spec in stored.COLUMNS.items()}
    labels = {name: label(spec) for name, spec in heads.items()}
    return f.FeaturesDict(columns | {"label": f.FeaturesDict(labels)})


def _shards(files: list[tuple[pathlib.Path, dict]]) -> list[list[tuple[pathlib.Path, dict]]]:
    """Cuts ``files`` into shards, runs of about as many bytes."""
    sizes = [path.stat().st_size for path, _ in files]
    # A reader holds every shard open that it has read from; TFDS holds all examples of a shard in memory.
    most = max(SHARD_BYTES, min(sum(sizes) // MOST, LARGEST))
    shards, room = [], 0
    for file, size in zip(files, sizes):
        if not shards or size > room:
            shards.append([])
            room = most
        shards[-1].append(file)
        room -= size
    return shards


class Clips(tfds.core.ShardBasedBuilder):
    """Packs ``files`` {split: [(prepared clip, its split and labels)]} in this order; ``seen`` is called with
    every record.

    It is no GeneratorBasedBuilder, which shuffles, and above a gigabyte shuffles by way of TensorFlow.
    """

    VERSION = tfds.core.Version(f"{records.SCHEMA}.0.0")

    def __init__(
        self,
        *,
        files: dict[str, list[tuple[pathlib.Path, dict]]],
        heads: dict[str, dict],
        seen: Callable[[dict], None],
        **kwargs,
    ):
        self._files, self._heads, self._seen = files, heads, seen
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features(self._heads), disable_shuffling=True)

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return {
            split: [functools.partial(self._examples, shard) for shard in _shards(files)]
            for split, files in self._files.items()
        }

    def _examples(self, files: list[tuple[pathlib.Path, dict]]) -> Iterator[tuple[str, dict]]:
        for file, further in files:
            record = pickle.loads(file.read_bytes()) | further
            self._seen(record)
            yield file.stem, {name: record[name] for name in self.info.features}


def _write(
    files: dict[str, list[tuple[pathlib.Path, dict]]], heads: dict[str, dict], root: pathlib.Path
) -> list[Facts]:
    """Writes ``files`` as a TFDS dataset below ``root``; returns the facts of every clip, in order."""
    tfds.disable_progress_bar()
    rows: list[Facts] = []
    total = sum(map(len, files.values()))
    with tqdm(total=total, desc="pack", unit="clip", dynamic_ncols=True) as bar:

        def seen(record):
            rows.append(facts(record))
            bar.update()

        builder = Clips(files=files, heads=heads, seen=seen, data_dir=str(root))
        # The statistics of every feature would need TensorFlow.
        config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads
            builder.download_and_prepare(download_config=config)
    return rows


def pack(
    files: dict[str, list[tuple[pathlib.Path, dict]]],
    heads: dict[str, dict],
    root: pathlib.Path,
    check: Callable[[list[Facts]], None] = lambda rows: None,
) -> list[Facts]:
    """Writes ``root/clips/<schema>/`` in one stroke: an older one stays until the new one is whole and ``check``
    has raised nothing.

    The older metadata.json is removed with it; the caller writes the new one. Returns every clip's facts.
    """
    # TFDS puts a folder of the builder's name into the one that it is given, so that `files.whole`, which
    # renames the folder itself, is of no use here.
    temporary = root / "packing.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of a build that was killed
    try:
        rows = _write(files, heads, temporary)
        check(rows)
        (root / "metadata.json").unlink(missing_ok=True)
        shutil.rmtree(root / records.TFDS_NAME, ignore_errors=True)
        (temporary / records.TFDS_NAME).rename(root / records.TFDS_NAME)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return rows


def depth_range(
    files: list[pathlib.Path], *, most: int = 200, shares: tuple[float, float] = (0.005, 0.995)
) -> tuple[float, float]:
    """Measures (near, far) in metres: the 0.5 and 99.5 percentiles of all depth readings (0 is no reading), over
    the middle maps of up to ``most`` prepared clips, evenly spread."""
    # Not the extremes: a single false reading would squeeze everything else into a few grey values.
    counts, scale = np.zeros(1 << 16, np.int64), 0.001
    for i in np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)):
        record = pickle.loads(files[i].read_bytes())
        middle = fields.decode_frames(record, "depth", [len(record["depth"]) // 2])
        counts += np.bincount(middle.ravel(), minlength=1 << 16)
        scale = record["depth_scale"]
    counts[0] = 0
    if not counts.any():
        return stored.DEPTH_RANGE
    below = np.cumsum(counts) / counts.sum()
    near, far = (int(np.searchsorted(below, share)) for share in shares)
    # A wall seen straight on is at one distance, and a range needs two.
    return round(near * scale, 6), round(max(far, near + 1) * scale, 6)


def classes_of(value, kind: str) -> list[int]:
    """Lists the class ids that a clip's label of this kind names, each once."""
    if kind == "spans":
        return sorted({int(row[0]) for row in value})
    return np.flatnonzero(value).tolist() if kind == "multi" else [value] * (value >= 0)


def count(rows: list[Facts], heads: dict[str, dict]) -> tuple[dict, dict]:
    """Counts packed clips: ({split: {modality: clips}}, {head: clips of every class})."""
    modalities: dict[str, collections.Counter] = {}
    classes = {head: [0] * len(spec["names"]) for head, spec in heads.items()}
    for row in rows:
        modalities.setdefault(row.split, collections.Counter()).update(row.modalities)
        for head, value in row.labels.items():
            for i in classes_of(value, heads[head]["kind"]):
                classes[head][i] += 1
    return {split: {m: c[m] for m in MODALITIES} for split, c in modalities.items()}, classes
