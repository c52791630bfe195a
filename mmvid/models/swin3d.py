"""Video Swin Transformer (Liu et al. 2022, "Video Swin Transformer"): attention within shifted windows."""

import functools
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mmvid import lowering
from mmvid.models.layers import Classifier

Triple = tuple[int, int, int]  # (time, height, width)
# In tokens; half of each in the shift.
WINDOW = (8, 7, 7)
# In pixels: what becomes one token.
PATCH = (2, 4, 4)
# Added to the logits of pairs that the shift brought into one window, as in the released code: not -inf.
_APART = -100.0
# Bytes of attention weights that are computed at a time on a CPU.
_CHUNK = 2**22
# torch's trunc_normal_ cuts at -2 and 2, a hundred standard deviations away.
_DRAW = nn.initializers.normal(0.02)


# ---------------------------------------------------------------------------- windows
def fitted_window(grid: Triple, window: Triple, shifted: bool) -> tuple[Triple, Triple]:
    """Returns (window, shift) for a ``grid`` of tokens: where the grid is not larger than the window, the
    window shrinks to it and nothing shifts."""
    size = tuple(min(n, w) for n, w in zip(grid, window))
    shift = tuple(w // 2 if shifted and n > w else 0 for n, w in zip(grid, window))
    return size, shift


def partition(x, window: Triple):
    """Cuts [B, T, H, W, C], whole windows, into [B * windows, tokens of a window, C]."""
    batch, *grid, channels = x.shape
    (t, h, w), (i, j, k) = (n // size for n, size in zip(grid, window)), window
    x = x.reshape(batch, t, i, h, j, w, k, channels).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(-1, i * j * k, channels)


def joined(x, window: Triple, grid: Triple):
    """Inverts ``partition``: [B * windows, tokens, C] -> [B, *grid, C]."""
    (t, h, w), (i, j, k) = (n // size for n, size in zip(grid, window)), window
    x = x.reshape(-1, t, h, w, i, j, k, x.shape[-1]).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(-1, *grid, x.shape[-1])


def regions(grid: Triple, window: Triple, shift: Triple) -> np.ndarray:
    """Numbers the regions of a shifted grid: [windows, tokens]; tokens of one window attend to each other
    only if their numbers agree, since the others met by the shift's wrapping round."""
    number = np.zeros((1, *grid, 1), np.int32)
    for axis, (n, w, s) in enumerate(zip(grid, window, shift)):
        place = np.arange(n)
        part = (place >= n - w).astype(np.int32) + (place >= n - s) if s else np.zeros(n, np.int32)
        number = 3 * number + part.reshape(-1, *[1] * (3 - axis))
    return partition(number, window)[..., 0]


def _places(window: Triple) -> np.ndarray:
    """Numbers the tokens of a window so that the difference of two says how far apart they are: [tokens]."""
    _, height, width = (2 * n - 1 for n in window)
    times, rows, columns = np.indices(window).reshape(3, -1)
    return (times * height + rows) * width + columns


def pairs_of(window: Triple) -> np.ndarray:
    """Returns where each pair of a window's tokens looks up its bias: int64 [tokens, tokens]."""
    own = _places(window)
    return own[:, None] - own + own[-1]


def bias_of(table, window: Triple, tokens: int):
    """Looks up the relative-position bias of every pair of tokens: [heads, tokens, tokens].

    ``table`` [heads, (2t-1)(2h-1)(2w-1)] belongs to the whole ``window``. A shrunk window takes its first
    ``tokens`` (the released code's index[:N, :N]), whose offsets are right only where time alone shrank.
    """
    # The index of an offset is linear in it, hence a difference of two tokens' own indices, and the last
    # token's own is offset 0's. The table of all pairs would be a constant of 600 kB in every block.
    own = jnp.asarray(_places(window))
    pairs = own[:tokens, None] - own[None, :tokens] + own[-1]
    return jnp.asarray(table).at[:, pairs].get(mode="promise_in_bounds")


# ---------------------------------------------------------------------------- layers
def attention_heads(channels: int, head_width: int) -> int:
    """Returns how many attention heads share ``channels``: at least one. Raises ValueError if they cannot
    share them equally."""
    heads = max(1, channels // head_width)
    if channels % heads:
        raise ValueError(
            f"{heads} attention heads cannot share {channels} channels equally: choose a width that "
            f"head_width={head_width} divides, or a smaller one"
        )
    return heads


def gelu(x):
    """The exact GELU, x times the normal distribution's share below x."""
    # By erf, not by jax.nn.gelu's erfc, which costs more.
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


def _attend(q, k, v, number, bias):
    """Attends within windows; see `attend`."""
    groups, size, heads, depth = q.shape
    # One leading axis: with two, XLA's CPU product is a tenth slower.
    q, k, v = (x.transpose(0, 2, 1, 3).reshape(-1, size, depth) for x in (q, k, v))
    batched = functools.partial(lax.dot_general, preferred_element_type=jnp.promote_types(jnp.float32, q.dtype))
    scores = batched(q * depth**-0.5, k, (((2,), (2,)), ((0,), (0,)))).reshape(groups, heads, size, size)
    scores = scores + bias[None]
    if number is not None:
        # Compared by the program: as a constant, the pairs of eight clips' windows are 160 MB of it.
        number = lax.optimization_barrier(jnp.asarray(number))
        scores = jnp.where(number[:, None, :, None] == number[:, None, None], scores, scores + _APART)
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    mixed = batched(weights.reshape(-1, size, size).astype(v.dtype), v, (((2,), (1,)), ((0,), (0,))))
    # Normalised last: D numbers a token are divided, not N.
    mixed = mixed.reshape(groups, heads, size, depth) / weights.sum(-1)[..., None]
    return mixed.transpose(0, 2, 1, 3).astype(v.dtype)


def _attend_in_chunks(q, k, v, number, bias):
    """Attends as many windows at a time as the cache holds, and computes their weights anew for the gradient:
    about as fast as fetching them from memory, and none is taken for them."""
    room = max(1, _CHUNK // (bias.size * bias.dtype.itemsize))
    size = max(n for n in range(1, len(q) + 1) if len(q) % n == 0 and n <= room)
    chunks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (q, k, v, number))
    y = lax.map(jax.checkpoint(lambda chunk: _attend(*chunk, bias)), chunks)
    return y.reshape(q.shape)


def attend(q, k, v, number, bias):
    """Attends within windows: q, k and v [G, N, heads, D] -> [G, N, heads, D].

    ``bias`` [heads, N, N] is every window's. ``number`` is None or [G, N]: tokens attend to those of
    their own number alone. On two cores 128 windows of 392 tokens and 3 heads take 98 ms in chunks, 527 at
    once and 419 with jax.nn.dot_product_attention; few windows are as fast at once.
    """
    arrays = q, k, v, number, bias
    if not lowering.known(q.shape[0]) or len(q) * bias.size * bias.dtype.itemsize <= 6 * _CHUNK:
        return _attend(*arrays)
    return lowering.chosen(*arrays, cpu=_attend_in_chunks, default=_attend, portable=_attend)


def _of_all(number, clips):
    """Repeats the numbers of a clip's windows [G, N] for so many ``clips``, which may be a symbol."""
    if lowering.known(clips):
        return jnp.tile(number, (clips, 1))
    return jnp.broadcast_to(number[None], (clips, *number.shape)).reshape(-1, number.shape[1])


class Block(nn.Module):
    """A block, [B, T, H, W, C] -> the same: attention within windows of tokens, then an MLP, each after a
    norm and beside a shortcut. In training a branch is left out of an example with probability ``drop``."""

    attention_heads: int
    window: Triple
    shifted: bool
    mlp_ratio: float
    drop: float
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool):
        # One draw an example and branch (stochastic depth).
        dropped = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3, 4), deterministic=not train)
        x = x + dropped(self._attention(norm(self.dtype, "norm1")(x)))
        return x + dropped(self._mlp(norm(self.dtype, "norm2")(x)))

    def _attention(self, x):
        grid = x.shape[1:4]
        window, shift = fitted_window(grid, self.window, self.shifted)
        # Zeros after the norm: what pads is attended to, as in the released code.
        x = jnp.pad(x, ((0, 0), *((0, -n % w) for n, w in zip(grid, window)), (0, 0)))
        whole = x.shape[1:4]
        number = _of_all(regions(whole, window, shift), x.shape[0]) if any(shift) else None
        y = self._within(partition(jnp.roll(x, [-s for s in shift], (1, 2, 3)), window), number)
        y = jnp.roll(joined(y, window, whole), shift, (1, 2, 3))
        return y[:, : grid[0], : grid[1], : grid[2]]

    def _within(self, tokens, number):
        """Lets the tokens [G, N, C] of each window attend to each other; see `attend`."""
        groups, size, channels = tokens.shape
        offsets = math.prod(2 * w - 1 for w in self.window)
        table = self.param("bias_table", _DRAW, (self.attention_heads, offsets))
        qkv = linear(3 * channels, self.dtype, "qkv")(tokens.reshape(-1, channels))
        q, k, v = jnp.moveaxis(qkv.reshape(groups, size, 3, self.attention_heads, -1), 2, 0)
        y = attend(q, k, v, number, bias_of(table, self.window, size))
        return linear(channels, self.dtype, "proj")(y.reshape(-1, channels)).reshape(tokens.shape)

    def _mlp(self, x):
        hidden = gelu(linear(int(self.mlp_ratio * x.shape[-1]), self.dtype, "fc1")(x.reshape(-1, x.shape[-1])))
        return linear(x.shape[-1], self.dtype, "fc2")(hidden).reshape(x.shape)


def norm(dtype, name: str) -> nn.Module:
    """Makes a layer norm with PyTorch's eps."""
    # Not E[x^2] - E[x]^2, which cancels where the mean is large.
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


def linear(features: int, dtype, name: str, bias: bool = True) -> nn.Module:
    """Makes a linear layer, to be given rows [n, C]: with more axes XLA's CPU product is slower."""
    return nn.Dense(features, use_bias=bias, kernel_init=_DRAW, dtype=dtype, name=name)


class Embedding(nn.Module):
    """Makes tokens of patches, [B, T, H, W, C] -> [B, T/2, H/4, W/4, features]; zeros fill the last ones."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = jnp.pad(x, ((0, 0), *((0, -n % p) for n, p in zip(x.shape[1:4], PATCH)), (0, 0)))
        shape = (*PATCH, x.shape[-1], self.features)
        # PyTorch's convolutions draw both so.
        bound = math.prod(shape[:4]) ** -0.5
        draw = functools.partial(jax.random.uniform, minval=-bound, maxval=bound)
        kernel = self.param("kernel", draw, shape).astype(self.dtype)
        bias = self.param("bias", draw, shape[-1:]).astype(self.dtype)
        # Stride equals size, so that the convolution is a product of patches.
        grid = tuple(n // p for n, p in zip(x.shape[1:4], PATCH))
        patches = partition(x.astype(self.dtype), PATCH).reshape(-1, math.prod(shape[:4]))
        return (patches @ kernel.reshape(-1, self.features) + bias[None]).reshape(x.shape[0], *grid, -1)


class Merging(nn.Module):
    """Halves height and width: four neighbours [.., 4C], a norm, a linear layer to [.., 2C]."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = jnp.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2), (0, 0)))
        batch, frames, height, width, channels = x.shape
        # In the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column).
        x = x.reshape(batch, frames, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 2, 4, 5, 3, 6)
        x = norm(self.dtype, "norm")(x.reshape(-1, 4 * channels))
        x = linear(2 * channels, self.dtype, "reduction", bias=False)(x)
        return x.reshape(batch, frames, height // 2, width // 2, 2 * channels)


class Swin3D(nn.Module):
    """A Video Swin Transformer: clips [B, T, H, W, C], or images [B, H, W, C] as clips of one frame, to
    {'logits' {head: [B, K]}, 'features' [B, D], 'map' [B, T', H', W', D]}.

    ``heads`` is {name: classes}. ``stages`` are the numbers of blocks; the first stage has ``width``
    channels, each later one twice as many, and as many attention heads as ``head_width`` goes into them.
    Every second block shifts its ``window`` by half. ``drop_path`` is the last block's probability of
    leaving a branch out; it rises linearly from 0 at the first. ``dropout`` is that of the features
    before the classifier. Raises ValueError for a width that the heads cannot share.
    """

    heads: dict[str, int]
    stages: tuple[int, ...] = (2, 2, 6, 2)
    width: int = 96
    head_width: int = 32
    window: Triple = WINDOW
    mlp_ratio: float = 4.0
    drop_path: float = 0.2
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("patch_embed",),)
    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x[:, None] if x.ndim == 4 else x
        x = norm(self.dtype, "patch_norm")(Embedding(self.width, self.dtype, name="patch_embed")(x))
        self.sow("intermediates", "embedded", x)
        # ``train`` (argument 2, after self and x) decides the program and must not be traced by remat.
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        drops = iter(np.linspace(0, self.drop_path, sum(self.stages)))
        for stage, count in enumerate(self.stages):
            if stage:
                x = Merging(self.dtype, name=f"merge{stage}")(x)
                self.sow("intermediates", f"merged{stage}", x)
            for i in range(count):
                x = block(
                    attention_heads=attention_heads(self.width * 2**stage, self.head_width),
                    window=tuple(self.window),
                    shifted=i % 2 == 1,
                    mlp_ratio=self.mlp_ratio,
                    drop=float(next(drops)),
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{i}",
                )(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
        # The mean, the classifier and the losses are in float32 where the activations are bfloat16.
        x = norm(jnp.promote_types(jnp.float32, self.dtype), "norm")(x)
        pooled = x.mean((1, 2, 3))
        dropped = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        logits = Classifier(self.heads, std=0.02, name="classifier")(dropped)
        return {"logits": logits, "features": pooled, "map": x}
