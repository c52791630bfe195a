"""The device mesh: one axis, ``data``; parameters replicated, batches split. And where processes wait for
each other."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices=None) -> Mesh:
    """A mesh of all devices (of all processes) along ``data``.

    Auto axes: under Explicit ones, batch permutations and contractions over B raise.
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place(mesh: Mesh, batch):
    """This process's rows of a batch (a tree of NumPy arrays) -> global arrays, split on axis 0. A
    number, equal in all processes, goes to every device."""
    rows, number = batched(mesh), replicated(mesh)

    def put(x):
        """One leaf."""
        return jax.make_array_from_process_local_data(rows if np.ndim(x) else number, np.asarray(x))

    return jax.tree.map(put, batch)


def local(x: jax.Array) -> np.ndarray:
    """The rows of a global array, split on axis 0, that this process holds, in order."""
    if x.is_fully_addressable:
        return np.asarray(x)
    # Replicated arrays have a shard per device that covers everything: one of them is enough.
    rows = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def meet(name: str) -> None:
    """Waits until every process is here; nothing where there is one."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def on_first(action: Callable[[], object], what: str) -> None:
    """``action()`` in process 0, while the others wait. Where it raises there, all raise; the others a
    ValueError that says ``what`` failed."""
    error = None
    # An error is kept until all have met: one process that leaves alone would let the others wait for ever.
    if jax.process_index() == 0:
        try:
            action()
        except (ValueError, OSError) as raised:
            error = raised
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = multihost_utils.broadcast_one_to_all(np.asarray(error is not None))
        if failed and error is None:
            raise ValueError(f"{what} failed in process 0, which says why")
    if error is not None:
        raise error


def check_batch_size(batch_size: int, mesh: Mesh, name: str) -> int:
    """``batch_size`` if the mesh divides it. Raises ValueError with the nearest sizes that work."""
    devices = mesh.devices.size
    if batch_size % devices:
        low = batch_size // devices * devices
        sizes = " or ".join(str(n) for n in (low, low + devices) if n)
        raise ValueError(
            f"{name}={batch_size} cannot be split evenly over {devices} devices; use {sizes}"
        )
    return batch_size
