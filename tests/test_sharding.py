"""The mesh, placing and fetching, over 8 forced host devices."""

import jax
import numpy as np
import pytest

from mmvid import sharding


def test_place_and_local_are_inverse():
    mesh = sharding.make_mesh()
    assert mesh.devices.size == 8
    batch = {"x": np.arange(48.0).reshape(16, 3), "id": np.arange(16)}
    placed = sharding.place(mesh, batch)
    assert placed["x"].sharding.is_equivalent_to(sharding.batched(mesh), 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(sharding.local, placed), batch)


def bytes_a_device(tree):
    """The bytes that the first device holds of a tree of arrays, and those of the whole tree."""
    leaves = jax.tree.leaves(tree)
    own = [x.addressable_shards[0].data for x in leaves]
    return sum(x.nbytes for x in own), sum(x.nbytes for x in leaves)


def test_large_arrays_are_shared_out_and_small_ones_are_not():
    mesh = sharding.make_mesh(fsdp=4)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4}
    tree = {
        "kernel": np.zeros((3, 3, 64, 128)),  # by its channels
        "wide": np.zeros((256, 8)),
        "square": np.zeros((64, 64)),
        "odd": np.zeros((37, 53)),
        "small": np.zeros((16, 32)),
        "step": np.zeros(()),
    }
    placed = jax.device_put(tree, sharding.shared(mesh, tree))
    parts = {name: x.addressable_shards[0].data.shape for name, x in placed.items()}
    assert parts == {"kernel": (3, 3, 64, 32), "wide": (64, 8), "square": (64, 16), "odd": (37, 53),
                     "small": (16, 32), "step": ()}  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, sharding.fetched(placed), tree)
    whole = jax.tree.leaves(sharding.shared(sharding.make_mesh(), tree))
    assert all(own.is_fully_replicated for own in whole)


def test_batches_are_split_over_both_axes():
    mesh = sharding.make_mesh(fsdp=4)
    placed = sharding.place(mesh, {"x": np.arange(16), "number": np.int32(3)})
    assert {shard.data.shape for shard in placed["x"].addressable_shards} == {(2,)}
    np.testing.assert_array_equal(sharding.local(placed["x"]), np.arange(16))


@pytest.mark.parametrize("fsdp", [0, 3, 16, -1])
def test_devices_that_cannot_share_evenly_are_refused(fsdp):
    with pytest.raises(ValueError, match=rf"mesh.fsdp={fsdp} .* there are 8 in all; use one of 1, 2, 4, 8"):
        sharding.make_mesh(fsdp=fsdp)


def test_uneven_batches_are_refused_with_sizes_that_work():
    mesh = sharding.make_mesh()
    assert sharding.check_batch_size(16, mesh, "batch_size") == 16
    with pytest.raises(ValueError, match="8 or 16"):
        sharding.check_batch_size(12, mesh, "batch_size")
