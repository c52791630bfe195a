"""The device mesh, and how processes wait for each other.

The mesh has two axes. Batches are split along both; parameters, and what optimisers keep of them, along ``fsdp``,
which has one device unless a configuration says otherwise: then every device holds all of them.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")
# Arrays with fewer elements are not worth the messages that it takes to bring their parts together.
LEAST = 1024


def make_mesh(devices=None, fsdp: int = 1) -> Mesh:
    """Makes a mesh of all devices (of all processes), of which ``fsdp`` at a time share the parameters.

    Auto axes: under Explicit ones, batch permutations and contractions over B raise. Raises ValueError where the
    devices are no multiple of ``fsdp``.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        fitting = ", ".join(str(n) for n in range(1, len(devices) + 1) if len(devices) % n == 0)
        raise ValueError(
            f"mesh.fsdp={fsdp} devices cannot share the parameters evenly: there are {len(devices)} in all; use "
            f"one of {fitting}"
        )
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def shared(mesh: Mesh, tree):
    """Returns the sharding of each array (or shape) of a tree of parameters: its largest axis that divides is
    split over the devices of ``fsdp``. Small arrays, and all where that is one device, are replicated."""

    def of(x) -> NamedSharding:
        """The sharding of one leaf."""
        count = mesh.shape["fsdp"]
        fitting = [axis for axis, size in enumerate(x.shape) if size % count == 0]
        if count == 1 or math.prod(x.shape) < LEAST or not fitting:
            return replicated(mesh)
        # The last of equals: a kernel's channels.
        axis = max(fitting, key=lambda axis: (x.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "fsdp"))

    return jax.tree.map(of, tree)


def fetched(tree):
    """Returns a tree of global arrays as host arrays, whole in every process. All processes must ask."""

    def whole(x):
        """One leaf, which this process may hold a part of."""
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(x, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


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
