"""The device mesh, and how processes wait for each other.

The mesh has one axis, ``data``: parameters are replicated and batches split along it.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices=None) -> Mesh:
    """Makes a mesh of all devices (of all processes) along ``data``.

    Auto axes: under Explicit ones, batch permutations and contractions over B raise.
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place(mesh: Mesh, batch):
    """Makes global arrays, split on axis 0, of this process's rows of a batch (a tree of NumPy arrays).

    A number must be equal in all processes; it goes to every device.
    """
    rows, number = batched(mesh), replicated(mesh)

    def put(x):
        """Places one leaf."""
        # No process ever holds the global batch: each has loaded its own rows alone.
        return jax.make_array_from_process_local_data(rows if np.ndim(x) else number, np.asarray(x))

    return jax.tree.map(put, batch)


def local(x: jax.Array) -> np.ndarray:
    """Returns the rows that this process holds of a global array, split on axis 0, in order."""
    if x.is_fully_addressable:
        return np.asarray(x)
    # Replicated arrays have a shard per device that covers everything: one of them is enough.
    rows = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def meet(name: str) -> None:
    """Waits until every process is here; does nothing if there is only one."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def on_first(action: Callable[[], object], what: str) -> None:
    """Runs ``action()`` in process 0, while the others wait.

    If it raises a ValueError or OSError, all processes raise: process 0 that error, the others a
    ValueError that says ``what`` failed.
    """
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
    """Returns ``batch_size`` if it splits evenly over the mesh; the setting is called ``name``.

    Raises ValueError, which gives the nearest sizes that do.
    """
    devices = mesh.devices.size
    if batch_size % devices:
        low = batch_size // devices * devices
        sizes = " or ".join(str(n) for n in (low, low + devices) if n)
        raise ValueError(f"{name}={batch_size} cannot be split evenly over {devices} devices; use {sizes}")
    return batch_size
