"""What networks of tokens are made of: tables of what is learnt for each number, and an encoder."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mmvid.models.layers import linear


def norm(eps: float, dtype, name: str) -> nn.LayerNorm:
    """Makes a layer norm that keeps its digits where the mean is large against the spread."""
    return nn.LayerNorm(eps, dtype=dtype, use_fast_variance=False, name=name)


class Table(nn.Module):
    """A learnt column for each of ``rows`` numbers: int [..] -> [.., ``features``].

    With ``padded``, number 0 stands for what is not there: its column starts at zero and gets no gradient
    (PyTorch's padding_idx). A number beyond the table gives NaN, so that training stops.
    """

    rows: int
    features: int
    padded: bool = True

    @nn.compact
    def __call__(self, numbers):
        def draw(key, shape):
            drawn = jax.random.normal(key, shape)
            return drawn.at[:, 0].set(0.0) if self.padded else drawn

        # Lying, as importers turn every matrix of PyTorch's.
        table = self.param("embedding", draw, (self.features, self.rows))
        if self.padded:
            table = jnp.concatenate([lax.stop_gradient(table[:, :1]), table[:, 1:]], 1)
        return jnp.take(table.T, numbers, axis=0)


class Asked(nn.Module):
    """Queries of the tokens ``asking`` [N, Q, C], keys and values of the tokens ``x`` [N, L, C], from one kernel
    [C, 3 C] that holds all three in this order (PyTorch's in_proj): each [N, Q or L, heads, C / heads]."""

    attention_heads: int
    dtype: Any

    @nn.compact
    def __call__(self, asking, x):
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), (width, 3 * width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (3 * width,)).astype(self.dtype)[None, None]
        # Two products: keys and values are wanted of all tokens, queries perhaps of one.
        query = asking @ kernel[:, :width] + bias[..., :width]
        both = x @ kernel[:, width:] + bias[..., width:]
        query, both = (v.reshape(*v.shape[:2], -1, width // self.attention_heads) for v in (query, both))
        return query, *jnp.split(both, 2, axis=2)


class Layer(nn.Module):
    """A layer of an encoder, as PyTorch's nn.TransformerEncoderLayer: norms after the sums, GELU, the same
    dropout. [N, L, C] -> the same, or [N, 1, C] where only the token ``read`` is asked for."""

    attention_heads: int
    expansion: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x, mask, read: int | None, train: bool):
        width, drop = x.shape[-1], nn.Dropout(self.dropout, deterministic=not train)
        asking = x if read is None else x[:, read][:, None]
        heard = self._attention(asking, x, mask if read is None else mask[:, :, read][:, :, None], train)
        x = norm(1e-5, self.dtype, "norm1")(asking + drop(heard))
        y = linear(width, self.expansion * width, self.dtype, "linear1")(x)
        y = linear(self.expansion * width, width, self.dtype, "linear2")(drop(nn.gelu(y, approximate=False)))
        out = norm(1e-5, self.dtype, "norm2")(x + drop(y))
        self.sow("intermediates", "out", out)
        return out

    def _attention(self, asking, x, mask, train: bool):
        query, key, value = Asked(self.attention_heads, self.dtype, name="attention_in")(asking, x)
        dropped = train and self.dropout > 0
        heard = nn.dot_product_attention(
            query, key, value, mask=mask, broadcast_dropout=False, dropout_rate=self.dropout,
            dropout_rng=self.make_rng("dropout") if dropped else None, deterministic=not dropped, dtype=self.dtype,
        )  # fmt: skip
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="attention_out")(heard.reshape(asking.shape))


class Encoder(nn.Module):
    """A transformer's encoder of ``layers`` layers, of which one token is ``read``: [N, L, C] -> [N, C].

    ``mask`` bool [N or 1, L or 1, L] tells which tokens (last axis) each token hears.
    """

    layers: int
    attention_heads: int
    expansion: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x, mask, *, read: int, train: bool):
        mask = jnp.broadcast_to(mask, (mask.shape[0], x.shape[1], x.shape[1]))[:, None]
        for i in range(self.layers):
            # What other tokens become in the last layer nobody hears: in small networks half of the work.
            own = (self.attention_heads, self.expansion, self.dropout, self.dtype)
            asked = read if i == self.layers - 1 else None
            x = Layer(*own, name=f"layer{i}")(x, mask, asked, train)
        return x[:, 0]
