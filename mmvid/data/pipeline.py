"""The loader: a pure function (segment, step) -> batch, run ahead by Grain.

Position p of a group's endless stream is example p mod n of epoch p // n, shuffled by (seed,
epoch); the batch of a step is B consecutive positions, of which each process takes its rows. Nothing
of the loader need be saved, and neither workers nor processes change the data.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

from mmvid.data import augment as augment_lib
from mmvid.data import decode, sampling
from mmvid.data.records import Source, present
from mmvid.streams import MODALITIES, Head, Stream, form_of, length, raw_channels


class _Train(NamedTuple):
    sources: dict[str, Source]
    streams: tuple[Stream, ...]
    sizes: dict[str, int]
    views: dict[str, tuple[str, ...]]
    heads: dict[str, Head]
    size: int
    augment: augment_lib.Augment
    seed: int
    process: tuple[int, int]


class _Eval(NamedTuple):
    source: Source
    streams: tuple[Stream, ...]
    heads: dict[str, Head]
    size: int
    protocol: str
    variant: str
    crops: str
    resize: int
    batch_size: int
    process: tuple[int, int]


# ---------------------------------------------------------------------------- one example
@functools.lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n)


def example_row(n: int, seed: int, position: int) -> int:
    """The row at a position of the endless shuffled stream of ``n`` examples."""
    return int(_order(n, seed, position // n)[position % n])


def _lengths(record: dict, streams) -> dict[str, int]:
    """Fields of each stream in this record; 0 where its modality is absent."""
    return {
        s.name: length(s, record["num_frames"]) if present(record, MODALITIES[s.modality].field) else 0
        for s in streams
    }


def _read(record: dict, streams, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Frames of every stream: {stream: [T, H, W, raw channels]}; each field decoded once.

    ``fields``: {stream: int [T, stack]}.
    """
    wanted: dict[str, list[Stream]] = {}
    for stream in streams:
        wanted.setdefault(MODALITIES[stream.modality].field, []).append(stream)
    out = {}
    for field, readers in wanted.items():
        distinct = np.unique(np.concatenate([fields[s.name].ravel() for s in readers]))
        frames = decode.decode_frames(record, field, distinct)
        for stream in readers:
            index = np.searchsorted(distinct, fields[stream.name])
            stack = frames[index]  # [T, stack, H, W, C]; time-major channels: x1, y1, x2, y2, ...
            stack = np.moveaxis(stack, 1, 3)
            out[stream.name] = stack.reshape(*stack.shape[:3], -1)
    return out


def _labels(record: dict, heads: Mapping[str, Head], flip: bool, pairs) -> dict[str, np.ndarray]:
    out = {}
    for name, head in heads.items():
        label = record["label"][name]
        label = augment_lib.flip_label(label, pairs) if flip else label
        out[name] = label.astype(np.float32 if head.kind == "multi" else np.int32)
    return out


def _train_example(plan: _Train, group: str, position: int) -> dict:
    source = plan.sources[group]
    row = example_row(len(source), plan.seed, position)
    record = source[row]
    rng = np.random.default_rng([plan.seed, position, 1])
    inputs, flip = {}, False
    lengths = _lengths(record, plan.streams)
    for view in plan.views[group]:
        inputs[view], flip = _train_view(plan, record, lengths, rng)
    return {
        "inputs": inputs,
        "label": _labels(record, plan.heads, flip, plan.augment.flip_labels),
        "mask": np.bool_(True),
        "present": {name: np.bool_(n > 0) for name, n in lengths.items()},
        "id": np.int32(row),
    }


def _train_view(plan: _Train, record: dict, lengths, rng) -> tuple[dict, bool]:
    """One view of a clip and whether its main geometry was flipped."""
    there = tuple(s for s in plan.streams if lengths[s.name] > 0)
    anchors = sampling.train_indices(rng, lengths, plan.streams)
    fields = {
        s.name: sampling.stacked(anchors[s.name], form_of(s).stack, lengths[s.name]) for s in there
    }
    geometries = {
        name: augment_lib.draw(rng, record["height"], record["width"], plan.size, plan.augment)
        for name in sorted({s.geometry for s in plan.streams})
    }
    frames = _read(record, there, fields)
    out = {}
    for stream in plan.streams:
        if stream.name in frames:
            negate = MODALITIES[stream.modality].negate_x
            geometry = geometries[stream.geometry]
            out[stream.name] = augment_lib.apply(
                frames[stream.name], geometry, plan.size, negate_x=negate
            )
        else:
            out[stream.name] = _blank(stream, plan.size)
    return out, any(g.flip for g in geometries.values())


def _blank(stream: Stream, size: int) -> np.ndarray:
    return np.zeros((stream.sampling.frames, size, size, raw_channels(stream)), np.uint8)


def _eval_example(plan: _Eval, row: int, real: bool) -> dict:
    record = plan.source[row]
    windows, side = augment_lib.test_windows(
        record["height"], record["width"], plan.size, plan.resize, plan.crops
    )
    lengths = _lengths(record, plan.streams)
    there = tuple(s for s in plan.streams if lengths[s.name] > 0)
    fields, inputs = {}, {}
    for stream in plan.streams:
        n = lengths[stream.name]
        clips = sampling.test_indices(n, stream, plan.protocol, plan.variant)
        fields[stream.name] = sampling.stacked(clips, form_of(stream).stack, n)
    # All clips in one read, so that a frame they share is decoded once.
    flat = {name: f.reshape(-1, f.shape[-1]) for name, f in fields.items()}
    frames = _read(record, there, flat)
    for stream in plan.streams:
        views = [len(fields[stream.name]), len(windows)]
        shape = (*views, stream.sampling.frames, side, side, raw_channels(stream))
        out = np.zeros(shape, np.uint8)
        for w, window in enumerate(windows if stream.name in frames else ()):
            cut = augment_lib.apply(frames[stream.name], window, side, negate_x=False)
            out[:, w] = cut.reshape(shape[0], *shape[2:])
        inputs[stream.name] = out.reshape(-1, *shape[2:])
    return {
        "inputs": {"test": inputs},
        "label": _labels(record, plan.heads, False, ()),
        "mask": np.bool_(real),
        "present": {name: np.bool_(n > 0) for name, n in lengths.items()},
        "id": np.int32(row),
    }


# ---------------------------------------------------------------------------- batches
def _stack(examples: list[dict]) -> Any:
    first = examples[0]
    if isinstance(first, dict):
        return {name: _stack([e[name] for e in examples]) for name in first}
    return np.stack(examples)


def _rows(batch_size: int, process: tuple[int, int]) -> range:
    index, count = process
    local = batch_size // count
    return range(index * local, (index + 1) * local)


def _train_batch(plan: _Train, step: int) -> dict:
    return {
        group: _stack([
            _train_example(plan, group, step * size + row) for row in _rows(size, plan.process)
        ])
        for group, size in plan.sizes.items()
    }  # fmt: skip


def _eval_batch(plan: _Eval, index: int) -> dict:
    n = len(plan.source)
    rows = [index * plan.batch_size + r for r in _rows(plan.batch_size, plan.process)]
    return {"main": _stack([_eval_example(plan, min(r, n - 1), r < n) for r in rows])}


def _check(batch_size: int, process_count: int) -> None:
    if batch_size % process_count:
        raise ValueError(f"batch_size={batch_size} cannot be split over {process_count} processes")


def train_dataset(
    sources: Mapping[str, Source],
    streams: tuple[Stream, ...],
    *,
    batch_sizes: Mapping[str, int],
    views: Mapping[str, tuple[str, ...]],
    heads: Mapping[str, Head],
    size: int,
    augment: augment_lib.Augment,
    seed: int,
    start: int,
    stop: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Element i is this process's rows of the batch of step ``start`` + i (DESIGN section 4).

    ``batch_sizes`` are global. uint8 inputs {view: {stream: [B, T, size, size, raw]}}; a stream that
    a record lacks is zeros with ``present`` False. Raises ValueError for a batch that the processes
    cannot share, or an empty split.
    """
    for group, batch_size in batch_sizes.items():
        _check(batch_size, process_count)
        if not len(sources[group]):
            raise ValueError(f"group {group!r} has no clips to train on")
    plan = _Train(dict(sources), tuple(streams), dict(batch_sizes), dict(views), dict(heads), size,
                  augment, seed, (process_index, process_count))  # fmt: skip
    return grain.MapDataset.range(start, stop).map(functools.partial(_train_batch, plan))


def eval_dataset(
    source: Source,
    streams: tuple[Stream, ...],
    *,
    heads: Mapping[str, Head],
    size: int,
    protocol: str = "D0U1",
    variant: str = "code",
    crops: str = "centre",
    resize: int = 0,
    batch_size: int = 32,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Every row once, in order; inputs {'test': {stream: [B, V, T, H, W, raw]}}, V = clips x crops.

    The last batch is filled with rows whose ``mask`` is False; every process has as many batches.
    Raises ValueError for a batch that the processes cannot share.
    """
    _check(batch_size, process_count)
    plan = _Eval(source, tuple(streams), dict(heads), size, protocol, variant, crops,
                 resize or size, batch_size, (process_index, process_count))  # fmt: skip
    batches = -(-len(source) // batch_size)
    return grain.MapDataset.range(batches).map(functools.partial(_eval_batch, plan))


class _Ahead:
    """A closable iterator; Grain's own closes only where it has worker processes."""

    def __init__(self, iterator):
        self._iterator = iterator

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._iterator)

    def close(self) -> None:
        """Stops what runs ahead."""
        close = getattr(self._iterator, "close", None)
        if close:
            close()


def iterate(
    dataset: grain.MapDataset, *, workers: int = 0, threads: int = 2, prefetch: int = 4
) -> _Ahead:
    """Batches in order, made ahead by ``threads``, or by ``workers`` processes where not 0."""
    if not flags.FLAGS.is_parsed():
        # Grain reads absl flags; in a notebook nobody has parsed them (style.md 2.4).
        flags.FLAGS.mark_as_parsed()
    threads, prefetch = (0, 0) if workers else (threads, max(prefetch, threads))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    ahead = dataset.to_iter_dataset(options)
    if workers:
        ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return _Ahead(iter(ahead))
