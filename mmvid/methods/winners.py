"""The rule for who wins an example, which the methods of multiple choice learning share."""

import jax
import jax.numpy as jnp


def winners(
    criterion: jax.Array,
    *,
    k: int = 1,
    key: jax.Array | None = None,
    present: jax.Array | None = None,
) -> jax.Array:
    """Finds the ``k`` members of least ``criterion`` in every example: [M, ..] -> bool [M, ..].

    Exactly min(k, present members) win, and absent members never do. Ties go to the lowest index (DMCL's
    code); with a ``key`` every tied member is as likely to win. Otherwise the first of networks whose
    classifiers start at zero would win every example at first. No gradient flows. Raises ValueError for
    a ``k`` outside 1..M.
    """
    check_k(k, criterion.shape[0])
    if present is None:
        present = jnp.ones(criterion.shape, bool)
    # The choice carries no gradient, as in DMCL's code; the absent are worse than any number.
    value = jnp.where(present, jax.lax.stop_gradient(criterion), jnp.inf)
    order = jnp.arange(len(value)).reshape(-1, *(1,) * (value.ndim - 1))
    if key is not None:
        order = jnp.argsort(jax.random.uniform(key, value.shape), axis=0)
    # Member j stands before member i where it is better, or as good and first by lot.
    less, tied = value[:, None] < value[None], value[:, None] == value[None]
    better = less | (tied & (order[:, None] < order[None]))
    return present & ((better & present[:, None]).sum(0) < k)


def check_k(k: int, count: int) -> None:
    """Raises ValueError if ``count`` networks cannot have ``k`` winners."""
    if not 1 <= k <= count:
        raise ValueError(f"k={k} winners of {count} networks: choose 1 to all of them")
