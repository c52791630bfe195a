"""Networks that read boxes and see no pixel: STLT (Radevski et al. 2021 and 2023) in both forms released.

A layout is what `streams` calls one, [T, slots, 8]: a slot holds x1, y1, x2, y2 in [0, 1], category, score, side
and state. Category 0 is an empty slot, which nobody hears, 1 an object, 2 a hand; side 0 is unknown, 1 left, 2
right; state 0 is unknown, 1 to 5 are no contact, itself, another person, a portable and a stationary object.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmvid.models.layers import Classifier, linear
from mmvid.models.transformer import Encoder, Table, norm
from mmvid.streams import HAND, SIDES, STATES

# How many there are, with 0.
_CATEGORIES, _SIDES, _STATES = HAND + 1, SIDES + 1, STATES + 1


def _check_frames(given: int, known: int) -> None:
    """Raises ValueError where a network is given more frames than it has places for."""
    if given > known:
        raise ValueError(
            f"STLT has places for {known} frames and is given {given}: set its option frames={given} (weights "
            f"published for {known} then no longer fit), or let its stream read {known}"
        )


def _by_frame(encoder: Encoder, y, heard, train: bool):
    """Encodes the tokens of each frame, [B, T, L, C], and reads the first: [B, T, C]. ``heard`` is bool
    [B, T, L]."""
    clips, frames, tokens, width = y.shape
    y = encoder(y.reshape(-1, tokens, width), heard.reshape(-1, 1, tokens), read=0, train=train)
    return y.reshape(clips, frames, width)


def _earlier(tokens: int):
    """Returns the mask with which each token hears itself and those before it, [1, tokens, tokens]."""
    return np.tril(np.ones((1, tokens, tokens), bool))


# ---------------------------------------------------------------------------- the distillation paper
class Stlt(nn.Module):
    """The network of boxes of the distillation paper (2023): layouts [B, T, slots, 8] to {'logits' {head:
    [B, K]}, 'features' [B, ``width``]}.

    In each frame a token that stands before the boxes listens to them; the tokens of the frames, which hear
    those before them alone, are heard by one that follows the last. ``layers`` are (in space, in time), each
    with ``attention_heads`` and a hidden layer ``expansion`` times as wide. There may be fewer frames than
    the ``frames`` that have a place; more raise ValueError. ``eps`` is that of the norms of what is embedded
    (0.1 in MMD's code). Scores have no threshold.
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
        _check_frames(x.shape[1], self.frames)
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
        y = Table(_CATEGORIES, self.width, name="category")(category)
        y += linear(4, self.width, self.dtype, "box")(box) + linear(1, self.width, self.dtype, "score")(score)
        y += Table(_SIDES, self.width, name="side")(side) + Table(_STATES, self.width, name="state")(state)
        return norm(self.eps, self.dtype, "box_norm")(y.astype(self.dtype))

    def _in_space(self, y, there, train: bool):
        """Lets a token of each frame hear its boxes, those that are ``there`` [B, T, slots]: [B, T, C]."""
        token = self.param("space_token", nn.initializers.zeros, (1, 1, self.width)).astype(self.dtype)
        y = jnp.concatenate([jnp.broadcast_to(token[None], (*y.shape[:2], 1, self.width)), y], 2)
        heard = jnp.pad(there, ((0, 0), (0, 0), (1, 0)), constant_values=True)
        return _by_frame(self._encoder(0, "space"), y, heard, train)

    def _in_time(self, y, train: bool):
        """Lets a token after the last frame hear all frames, [B, T, C] -> [B, C]."""
        token = self.param("time_token", nn.initializers.zeros, (1, 1, self.width)).astype(self.dtype)
        # It has neither a place nor the frames' norm (MMD's code).
        y = jnp.concatenate([y, jnp.broadcast_to(token, (y.shape[0], 1, self.width))], 1)
        return self._encoder(1, "time")(y, _earlier(y.shape[1]), read=-1, train=train)

    def _encoder(self, which: int, name: str) -> Encoder:
        own = (self.attention_heads, self.expansion, self.dropout, self.dtype)
        return Encoder(self.layers[which], *own, name=name)


# ---------------------------------------------------------------------------- the older paper
class Vocabulary(NamedTuple):
    """What numbers the older code gives to what it embeds: ``categories`` are its own in the order of ours,
    ``token`` its category of the token that listens. Frames are ``regular``, or ``empty`` if they have no box;
    the last one, which stands for the clip, is to ``extract``. ``scores`` tells if it reads scores."""

    categories: tuple[int, ...]
    token: int
    regular: int
    empty: int
    extract: int
    scores: bool


VOCABULARIES = {
    # Pad, object, hand: the code has the hand first.
    "something": Vocabulary((0, 2, 1), token=3, regular=2, empty=3, extract=4, scores=False),
    # Pad, a person, 35 kinds of object.
    "action_genome": Vocabulary((0, *range(2, 38)), token=1, regular=1, extract=2, empty=3, scores=True),
}
_FRAME_TYPES = 5


class StltLayouts(nn.Module):
    """The network of the paper that introduced STLT (2021): layouts [B, T, slots, 8] to {'logits' {head:
    [B, K]}, 'features' [B, ``width``]}.

    Boxes whose score is below ``threshold`` are not heard. The token that listens to a frame's boxes is
    a box itself, the whole picture of a category of its own; after the last frame comes one without
    other boxes, whose token is classified, by a layer with GELU and a norm before the heads. Sides and
    states are not read. ``vocabulary`` is one of VOCABULARIES. The remaining fields are as in `Stlt`;
    there are places for ``frames`` - 1 frames of a clip. ``eps`` is 1e-12 in the code, a hundred times
    smaller than a float32 can tell from 0 beside 1.

    The code's weights hold one more layer, the pattern of the spatial ones, that nothing reads. It is left
    out here: 85,992,366 parameters with 174 classes are 93,080,238 there.
    """

    heads: dict[str, int]
    width: int = 768
    layers: tuple[int, int] = (4, 8)
    attention_heads: int = 12
    expansion: int = 4
    frames: int = 256
    vocabulary: str = "something"
    threshold: float = 0.5
    dropout: float = 0.1
    eps: float = 1e-12
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    classifiers: ClassVar = (("classifier",),)
    necks: ClassVar = (("hidden",), ("hidden_norm",))

    @nn.compact
    def __call__(self, x, *, train: bool):
        _check_frames(x.shape[1] + 1, self.frames)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        words = VOCABULARIES[self.vocabulary]
        boxes, categories, scores, types = as_the_code_has_them(x, words, self.threshold)
        y = self._embedded(boxes, categories, scores if words.scores else None)
        self.sow("intermediates", "box_embeddings", y)
        own = (self.attention_heads, self.expansion, self.dropout, self.dtype)
        y = _by_frame(Encoder(self.layers[0], *own, name="space"), drop(y), categories > 0, train)
        self.sow("intermediates", "spatial_out", y)
        y += Table(self.frames, self.width, padded=False, name="positions")(jnp.arange(y.shape[1])[None])
        y += Table(_FRAME_TYPES, self.width, name="type")(types)
        y = norm(self.eps, self.dtype, "frame_norm")(y.astype(self.dtype))
        self.sow("intermediates", "frames_embeddings", y)
        y = Encoder(self.layers[1], *own, name="time")(drop(y), _earlier(y.shape[1]), read=-1, train=train)
        y = linear(self.width, self.width, self.dtype, "hidden")(y)
        features = norm(self.eps, self.dtype, "hidden_norm")(nn.gelu(y, approximate=False))
        features = features.astype(jnp.promote_types(jnp.float32, self.dtype))
        return {"logits": Classifier(self.heads, name="classifier")(features), "features": features}

    def _embedded(self, boxes, categories, scores):
        """Embeds each box, [B, T, slots, 4] -> [B, T, slots, C]."""
        words = VOCABULARIES[self.vocabulary]
        y = Table(max(*words.categories, words.token) + 1, self.width, name="category")(categories)
        y += linear(4, self.width, self.dtype, "box")(boxes.astype(self.dtype))
        # Its weights are there though nothing reads them: published files hold them always.
        score = linear(1, self.width, self.dtype, "score")(boxes[..., :1] if scores is None else scores)
        y = y if scores is None else y + score
        return norm(self.eps, self.dtype, "box_norm")(y.astype(self.dtype))


def as_the_code_has_them(x, words: Vocabulary, threshold: float):
    """Turns layouts [B, T, slots, 8] into the older code's boxes [B, T + 1, 1 + slots, 4], categories
    [B, T + 1, 1 + slots], scores [B, T + 1, 1 + slots, 1] and types of frames [B, T + 1], of `StltLayouts`.

    A frame all of whose boxes are below ``threshold`` is regular: the code asks before it drops them.
    """
    kept = (x[..., 4] > 0) & (x[..., 5] >= threshold)
    types = jnp.where((x[..., 4] > 0).any(-1), words.regular, words.empty)
    types = jnp.pad(types, ((0, 0), (0, 1)), constant_values=words.extract)
    ours = jnp.where(kept, x[..., 4], 0).astype(jnp.int32)
    # What has no number there gets one that `Table` lacks.
    categories = jnp.take(np.array(words.categories), ours, fill_value=len(words.categories) + 1)
    # The last frame holds no box but the token's, and padding is 0 everywhere.
    before = ((0, 0), (0, 1), (1, 0))
    categories = jnp.pad(categories, before).at[:, :, 0].set(words.token)
    boxes = jnp.where(kept[..., None], x[..., :4], 0)
    boxes = jnp.pad(boxes, (*before, (0, 0))).at[:, :, 0].set(np.array([0, 0, 1, 1], np.float32))
    scores = jnp.pad(jnp.where(kept, x[..., 5], 0), before).at[:, :, 0].set(1.0)
    return boxes, categories, scores[..., None], types
