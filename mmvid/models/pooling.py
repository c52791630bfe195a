"""How maps are pooled."""

import jax
import jax.numpy as jnp
from jax import lax

from mmvid.lowering import extended


def max_pool(x: jax.Array, padding: str = "symmetric", *, time: bool = False) -> jax.Array:
    """Pools 3x3 windows of [.., H, W, C], with ``time`` 3x3x3 ones, with stride 2 by their maximum, axis by axis.

    Each output is the maximum of an even row, the odd row after it and the odd row before it; TensorFlow's 'same'
    padding takes the even row that follows instead of the odd one before where the size is even. On CPU the
    gradient costs a tenth of that of XLA's windows. Equal maxima share it.
    """
    low = jnp.asarray(jnp.finfo(x.dtype).min, x.dtype)
    for axis in range(x.ndim - (4 if time else 3), x.ndim - 1):
        # An odd length gets a last row that never wins.
        odd_length = x.shape[axis] % 2
        x = extended(x, low, axis, 0, odd_length)
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in range(2))
        following = padding == "same" and not odd_length
        third = extended(even, low, axis, -1, 1) if following else extended(odd, low, axis, 1, -1)
        x = jnp.maximum(jnp.maximum(even, odd), third)
    return x
