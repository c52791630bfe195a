"""ResNets for images (torchvision's) and for clips with temporal shift (TSM, Lin et al. 2019)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmvid.models.layers import BatchNorm, Classifier, Conv
from mmvid.models.pooling import max_pool


def temporal_shift(x, frames: int, divisor: int = 8):
    """Shifts channels between frames, [B*T, H, W, C] -> the same, padded with zeros.

    The first C // divisor channels come from the next frame, the second C // divisor from the previous
    one, and the rest stay (TSM, section 4).
    """
    if frames == 1:
        return x  # A still has no neighbours; shifting would blank a quarter of its channels.
    fold = x.shape[-1] // divisor
    x = x.reshape(-1, frames, *x.shape[1:])
    pad = ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0))
    padded = jnp.pad(x[..., : 2 * fold], pad)
    following, previous = padded[:, 2:, ..., :fold], padded[:, :-2, ..., fold:]
    shifted = jnp.concatenate([following, previous, x[..., 2 * fold :]], -1)
    return shifted.reshape(-1, *x.shape[2:])


def blocks(stages: tuple[int, ...]) -> tuple:
    """Returns the paths of the blocks of each stage of a ResNet; see `Model.stages`."""
    return tuple(tuple((f"layer{stage}_{i}",) for i in range(count)) for stage, count in enumerate(stages, 1))


def between(stages: tuple[int, ...], since: int, until: int | None) -> list[tuple[int, int]]:
    """Returns (index, blocks) of the ``stages`` from ``since`` on and before ``until``, which count from 1."""
    last = len(stages) if until is None else until - 1
    return [(i, count) for i, count in enumerate(stages[:last]) if i + 1 >= since]


class Block(nn.Module):
    """A residual block, basic or bottleneck (stride in its 3x3); the shift acts on the branch."""

    features: int
    stride: int
    bottleneck: bool
    frames: int  # 0: no temporal shift
    frozen_bn: bool
    dtype: Any
    divisor: int = 8
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x, train: bool):
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, frozen=self.frozen_bn, eps=self.eps, dtype=self.dtype)
        out = self.features * (4 if self.bottleneck else 1)
        # On the branch alone: the shortcut keeps each frame's own features (TSM's residual shift).
        y = temporal_shift(x, self.frames, self.divisor) if self.frames else x
        if self.bottleneck:
            layers = ((self.features, 1, 1), (self.features, 3, self.stride), (out, 1, 1))
        else:
            layers = ((self.features, 3, self.stride), (out, 3, 1))
        for i, (features, size, stride) in enumerate(layers, 1):
            y = conv(features, size, stride, name=f"conv{i}")(y)
            y = norm(name=f"bn{i}")(y, train=train)
            y = nn.relu(y) if i < len(layers) else y
        if self.stride > 1 or x.shape[-1] != out:
            x = conv(out, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A network for images [B, H, W, C] or clips [B, T, H, W, C], to {'logits' {head: [B, K]},
    'features' [B, D], 'frames' [B, T, D], 'map' [B, T, H', W', D]}; ``heads`` is {name: classes}.

    Frames are folded into the batch and meet only in the shift, which ``temporal`` turns on. Logits are
    the mean of the frames' logits (TSM's consensus) and features the mean of the frames' pooled ones, which
    the classifier reads; the map keeps the frames apart. ``shift_every`` 2 shifts every second block of each
    stage (TSM-R101).
    Called with ``until`` a stage (1 is the first) it stops before it and returns [B, T, H, W, C]; ``since``
    goes on from there.
    """

    heads: dict[str, int]
    stages: tuple[int, ...]
    bottleneck: bool
    temporal: bool
    width: int = 64
    stem: int = 7
    stem_pool: bool = True
    shift_every: int = 1
    shift_div: int = 8
    dropout: float = 0.0
    frozen_bn: str = "none"
    remat: bool = False
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("conv1",),)
    classifiers: ClassVar = (("classifier",),)

    def _frozen(self, first: bool) -> bool:
        return self.frozen_bn == "all" or (self.frozen_bn == "all_but_first" and not first)

    @property
    def cuts(self):
        """The paths of the blocks of each stage; see `Model.stages`."""
        return blocks(self.stages)

    @nn.compact
    def __call__(self, x, *, train: bool, since: int = 0, until: int | None = None):
        # A clip is [B, T, H, W, C], an image lacks T.
        clips, frames = x.shape[0], x.shape[1] if x.ndim == 5 else 1
        x = x.reshape(-1, *x.shape[-3:])
        x = x if since else self._stem(x, train)
        x = self._blocks(x, frames, train, since, until)
        if until is not None:
            return x.reshape(clips, frames, *x.shape[1:])
        # The mean, the classifier and the losses are in float32 where the activations are bfloat16.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        pooled = x.mean((1, 2))
        dropped = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        logits = Classifier(self.heads, name="classifier")(dropped)
        mean = {name: v.reshape(clips, frames, -1).mean(1) for name, v in logits.items()}
        pooled = pooled.reshape(clips, frames, -1)
        maps = x.reshape(clips, frames, *x.shape[1:])
        return {"logits": mean, "features": pooled.mean(1), "frames": pooled, "map": maps}

    def _stem(self, x, train: bool):
        x = Conv(self.width, self.stem, 2, dtype=self.dtype, name="conv1")(x)
        x = BatchNorm(frozen=self._frozen(True), dtype=self.dtype, name="bn1")(x, train=train)
        x = nn.relu(x)
        x = max_pool(x) if self.stem_pool else x
        self.sow("intermediates", "stem", x)
        return x

    def _blocks(self, x, frames: int, train: bool, since: int, until: int | None):
        # ``train`` (argument 2, after self and x) decides the program and must not be traced by remat.
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for stage, count in between(self.stages, since, until):
            for i in range(count):
                shifted = self.temporal and i % self.shift_every == 0
                x = block(
                    features=self.width * 2**stage,
                    stride=2 if stage and i == 0 else 1,
                    bottleneck=self.bottleneck,
                    frames=frames if shifted else 0,
                    frozen_bn=self._frozen(False),
                    dtype=self.dtype,
                    divisor=self.shift_div,
                    name=f"layer{stage + 1}_{i}",
                )(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
        return x
