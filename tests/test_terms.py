"""Parts of a batch add up to the whole, whatever the groups."""

import jax
import jax.numpy as jnp
import numpy as np

from mmvid import terms


def test_counts_are_of_the_group_that_is_graded():
    """Two groups have one output's name; a traced dictionary comes back in another order than a made one."""
    right = {"rgb": {"logits": {"action": jnp.eye(4)}}}
    batch = {
        group: {
            "label": {"action": jnp.arange(4)},
            "mask": jnp.arange(4) < rows,
            "present": {"rgb": jnp.ones(4, bool)},
        }
        for group, rows in (("main", 4), ("aux", 1))
    }
    outputs = {("main", "train"): right, ("aux", "train"): right}
    traced = jax.tree.map(jnp.asarray, outputs)  # sorted, as whatever went through JAX is
    counts = terms.count({}, traced, batch)
    np.testing.assert_allclose(terms.accuracy(outputs, batch, counts)["rgb/top1"], 1.0)
    np.testing.assert_allclose(terms.accuracy(outputs, batch)["rgb/top1"], 1.0)
