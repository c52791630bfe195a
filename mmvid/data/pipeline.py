"""The loader: a pure function from a description and a step to a batch, which Grain runs ahead.

Position p of a group's endless stream is example p mod n of epoch p // n, where each epoch is shuffled by (seed,
epoch). The batch of a step is B consecutive positions, of which each process takes its rows. No state of the
loader need be saved, and the numbers of workers and processes do not change the data.
"""

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvid.data import example, sampling
from mmvid.data import groups as groups_lib
from mmvid.data.example import Eval, Train
from mmvid.data.records import Source
from mmvid.streams import Stream, host_bytes

# Grain brings JAX along, so it is imported where it is used.
if TYPE_CHECKING:
    import grain


# ---------------------------------------------------------------------------- batches
def _stack(examples: list[dict]) -> Any:
    """Stacks the arrays of nested dictionaries along a new first axis."""
    first = examples[0]
    if isinstance(first, dict):
        return {name: _stack([e[name] for e in examples]) for name in first}
    return np.stack(examples)


def _rows(batch_size: int, process: tuple[int, int]) -> range:
    """Returns the rows of a batch that a process (its index, their count) takes: consecutive ones."""
    index, count = process
    local = batch_size // count
    return range(index * local, (index + 1) * local)


def _train_group(spec: Train, name: str, step: int) -> dict:
    """Makes this process's rows of one group of the batch of ``step``."""
    size, one_of = spec.groups[name].batch_size, spec.one_of.get(name)
    chosen = one_of.chosen(spec.seed, step) if one_of else {}
    shown = one_of.streams(chosen) if one_of else {s.name for s in spec.streams}
    rows = _rows(size, spec.process)
    # Positions go on from step to step, so that clips that do not fill a batch wait for the next epoch's.
    examples = [example.train_example(spec, name, step * size + row, shown) for row in rows]
    # One choice for the batch, not one a row: the step runs one read of a network for all of its rows.
    return _stack(examples) | ({"one_of": chosen} if chosen else {})


def _train_batch(spec: Train, step: int) -> dict:
    """Makes this process's rows of the batch of ``step``, {group: rows}."""
    return {name: _train_group(spec, name, step) for name in spec.groups}


def _eval_batch(spec: Eval, index: int) -> dict:
    """Makes this process's rows of the batch ``index``; rows beyond the last clip have ``mask`` False."""
    n = len(spec.source)
    rows = [index * spec.batch_size + r for r in _rows(spec.batch_size, spec.process)]
    examples = [example.eval_example(spec, row) for row in rows if row < n]
    # A process whose rows are all padding still needs arrays of the right shapes.
    padding = (examples or [example.eval_example(spec, n - 1)])[-1] | {"mask": np.bool_(False)}
    return {"main": _stack(examples + [padding] * (len(rows) - len(examples)))}


def batch_bytes(streams: Iterable[Stream], rows: int, views: int, side: int) -> int:
    """Returns the bytes of ``rows`` clips, each in ``views`` views, whose pictures have ``side`` pixels a side."""
    return rows * views * sum(host_bytes(s, side) for s in streams)


def _check(name: str, source: Source, batch_size: int, process_count: int) -> None:
    """Raises ValueError for an empty source, or a batch that the processes cannot share evenly."""
    if len(source) == 0:
        raise ValueError(f"{name} has no clips: build the dataset with some, or name another split")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"{name}: batch_size={batch_size} cannot be split over {process_count} processes; "
            "choose a multiple of their number"
        )


def train_dataset(spec: Train, start: int, stop: int) -> "grain.MapDataset":
    """Returns a dataset whose element i is this process's rows of the batch of step ``start`` + i < ``stop``.

    A batch is {group: {'inputs': {view: {stream: [B, *streams.host_shape]}}, ..}}. A stream that a record lacks
    is zeros, and its ``present`` is False. Raises ValueError for a batch that the processes cannot share evenly,
    an empty split, streams of which only some are cut by segments, or an invalid augmentation.
    """
    import grain

    for name, group in spec.groups.items():
        _check(f"group {name!r}", spec.sources[name], group.batch_size, spec.process[1])
        groups_lib.check(name, group, spec.heads)
    sampling.check_streams(spec.streams)
    return grain.MapDataset.range(start, stop).map(functools.partial(_train_batch, spec))


def eval_dataset(spec: Eval) -> "grain.MapDataset":
    """Returns a dataset of batches with every row of a split once, in order.

    Their inputs are {'test': {stream: [B, V, *streams.host_shape]}}, with V = clips x crops. The last batch is
    filled up with rows whose ``mask`` is False, and every process has equally many batches. Raises ValueError
    for an empty split or a batch that the processes cannot share evenly; reading a batch raises it for an
    unknown protocol or crop.
    """
    import grain

    _check("the split", spec.source, spec.batch_size, spec.process[1])
    batches = -(-len(spec.source) // spec.batch_size)
    return grain.MapDataset.range(batches).map(functools.partial(_eval_batch, spec))
