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


def test_uneven_batches_are_refused_with_sizes_that_work():
    mesh = sharding.make_mesh()
    assert sharding.check_batch_size(16, mesh, "batch_size") == 16
    with pytest.raises(ValueError, match="8 or 16"):
        sharding.check_batch_size(12, mesh, "batch_size")
