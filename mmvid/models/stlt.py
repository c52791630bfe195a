"""Networks that read boxes and see no pixel: STLT (Radevski et al. 2021 and 2023) in both forms released."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmvid.models.layers import Classifier
from mmvid.models.transformer import Encoder, Table, linear, norm


class Stlt(nn.Module):
    """The network of boxes of the distillation paper (2023): layouts [B, T, slots, 8] to {'logits' {head:
    [B, K]}, 'features' [B, ``width``]}.

    A slot holds x1, y1, x2, y2 in [0, 1], category, score, side and state, as `streams` has them: category
    0 is an empty slot, which nobody hears, 1 an object, 2 a hand; side 0 is unknown, 1 left, 2 right; state
    0 is unknown, 1 to 5 the kinds of contact. In each frame a token that stands before the boxes listens to
    them; the tokens of the frames, which hear those before them alone, are heard by one that follows the
    last. ``layers`` are (in space, in time). There may be fewer frames than the ``frames`` that have a
    place; more raise ValueError. ``eps`` is that of the norms of what is embedded (0.1 in MMD's code).
    """

    heads: dict[str, int]
    width: int = 768
    layers: tuple[int, int] = (6, 6)
    attention_heads: int = 8
    expansion: int = 4
    frames: int = 16
    dropout: float = 0.1
    eps: float = 0.1
    dtype: Any = jnp.float32

    # Where in its params; see `Model`. No convolution reads boxes.
    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, x, *, train: bool):
        check_frames(x.shape[1], self.frames)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = self._embedded(x)
        self.sow("intermediates", "box_embeddings", y)
        y = self._in_space(drop(y), x[..., 4] > 0, train)
        self.sow("intermediates", "spatial_out", y)
        y += Table(self.frames, self.width, padded=False, name="positions")(jnp.arange(x.shape[1])[None])
        y = norm(self.eps, self.dtype, "frame_norm")(y.astype(self.dtype))
        self.sow("intermediates", "temporal_in", y)
        features = self._in_time(drop(y), train).astype(jnp.promote_types(jnp.float32, self.dtype))
        return {"logits": Classifier(self.heads, name="classifier")(features), "features": features}

    def _embedded(self, x):
        """Embeds each slot, [B, T, slots, 8] -> [B, T, slots, C]."""
        box, score = x[..., :4].astype(self.dtype), x[..., 5:6].astype(self.dtype)
        category, side, state = (x[..., i].astype(jnp.int32) for i in (4, 6, 7))
        y = Table(3, self.width, name="category")(category)
        y += linear(4, self.width, self.dtype, "box")(box) + linear(1, self.width, self.dtype, "score")(score)
        y += Table(3, self.width, name="side")(side) + Table(6, self.width, name="state")(state)
        return norm(self.eps, self.dtype, "box_norm")(y.astype(self.dtype))

    def _in_space(self, y, there, train: bool):
        """Lets a token of each frame hear its boxes, those that are ``there`` [B, T, slots]: [B, T, C]."""
        token = self.param("space_token", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        y = jnp.concatenate([jnp.broadcast_to(token, (*y.shape[:2], 1, self.width)), y], 2)
        heard = jnp.pad(there, ((0, 0), (0, 0), (1, 0)), constant_values=True)
        clips, frames, tokens = heard.shape
        y, mask = y.reshape(-1, tokens, self.width), heard.reshape(-1, 1, tokens)
        y = self._encoder(0, "space")(y, mask, read=0, train=train)
        return y.reshape(clips, frames, self.width)

    def _in_time(self, y, train: bool):
        """Lets a token after the last frame hear all frames, [B, T, C] -> [B, C]."""
        token = self.param("time_token", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        # It has neither a place nor the frames' norm (MMD's code).
        y = jnp.concatenate([y, jnp.broadcast_to(token, (len(y), 1, self.width))], 1)
        earlier = jnp.tril(jnp.ones((y.shape[1],) * 2, bool))[None]
        return self._encoder(1, "time")(y, earlier, read=-1, train=train)

    def _encoder(self, which: int, name: str) -> Encoder:
        own = (self.attention_heads, self.expansion, self.dropout, self.dtype)
        return Encoder(self.layers[which], *own, name=name)


def check_frames(given: int, known: int) -> None:
    """Raises ValueError where a network is given more frames than it has places for."""
    if given > known:
        raise ValueError(
            f"STLT has places for {known} frames and is given {given}: set its option frames={given} (weights "
            f"published for {known} then no longer fit), or let its stream read {known}"
        )
