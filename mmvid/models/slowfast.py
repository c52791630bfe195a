"""SlowFast (Feichtenhofer et al. 2019): one network that looks at few frames with many channels and at many frames
with few, joined after every stage."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmvid.models.layers import BatchNorm, Classifier, ClipConv
from mmvid.models.pooling import max_pool
from mmvid.models.video_resnet import Block, classified

SLOW, FAST = "slow", "fast"
# Frames that the first convolution of each block reads, by stage.
_FRAMES = {SLOW: (1, 1, 3, 3), FAST: (3, 3, 3, 3)}
_STEM_FRAMES = {SLOW: 1, FAST: 5}


def every(frames: int, alpha: int) -> np.ndarray:
    """Returns which of so many frames the slow pathway sees: a number of ``frames`` / ``alpha``, from the first to
    the last, as SlowFast's code chooses them."""
    return np.linspace(0, frames - 1, max(frames // alpha, 1)).astype(int)


class SlowFast(nn.Module):
    """A network of two pathways: clips [B, T, H, W, C] to {'logits' {head: [B, K]}, 'features' [B, D], 'map'
    [B, T, H', W', D']}, the map that of the fast pathway.

    The fast pathway sees all T frames with ``width`` / ``beta`` channels, the slow one every ``alpha``-th with
    ``width``. After the stem and each stage but the last, a convolution over ``lateral`` frames with a stride of
    ``alpha`` brings the fast one's channels, twice as many, to the slow one. Both are averaged at the end and
    classified together. ``window`` and ``by_sigmoid`` are as in `VideoResNet`.
    """

    heads: dict[str, int]
    stages: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    alpha: int = 4
    beta: int = 8
    lateral: int = 7
    window: int = 7
    by_sigmoid: tuple[str, ...] = ()
    dropout: float = 0.0
    frozen_bn: str = "none"
    remat: bool = False
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = ((f"{SLOW}_conv1",), (f"{FAST}_conv1",))
    classifiers: ClassVar = (("classifier",),)

    def _conv(self):
        return functools.partial(ClipConv, dtype=self.dtype)

    def _norm(self, first: bool = False):
        frozen = self.frozen_bn == "all" or (self.frozen_bn == "all_but_first" and not first)
        return functools.partial(BatchNorm, frozen=frozen, dtype=self.dtype)

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x[:, None] if x.ndim == 4 else x
        maps = {SLOW: x[:, every(x.shape[1], self.alpha)], FAST: x}
        maps = {name: self._stem(name, own, train) for name, own in maps.items()}
        maps = self._fused(maps, 1, train)
        for stage, count in enumerate(self.stages):
            maps = {name: self._stage(name, own, stage, count, train) for name, own in maps.items()}
            if stage + 1 < len(self.stages):
                maps = self._fused(maps, stage + 2, train)
        return self._answered(maps, train)

    def _stem(self, name: str, x, train: bool):
        width = self.width if name == SLOW else self.width // self.beta
        x = self._conv()(width, (_STEM_FRAMES[name], 7), (1, 2), name=f"{name}_conv1")(x)
        x = max_pool(nn.relu(self._norm(first=True)(name=f"{name}_bn1")(x, train=train)))
        self.sow("intermediates", f"{name}_stem", x)
        return x

    def _stage(self, name: str, x, stage: int, count: int, train: bool):
        # ``train`` (argument 2, after self and x) decides the program and must not be traced by remat.
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        width = self.width if name == SLOW else self.width // self.beta
        for i in range(count):
            x = block(
                features=width * 2**stage,
                stride=2 if stage and i == 0 else 1,
                bottleneck=True,
                form="leading",
                middle="block",
                project=False,
                keep_frames=True,
                conv=self._conv(),
                norm=self._norm(),
                frames=_FRAMES[name][stage],
                zero_last=True,
                name=f"{name}_layer{stage + 1}_{i}",
            )(x, train)
        self.sow("intermediates", f"{name}_layer{stage + 1}", x)
        return x

    def _fused(self, maps: dict, number: int, train: bool) -> dict:
        """Brings the fast pathway's channels to the slow one."""
        fast = maps[FAST]
        conv = self._conv()(2 * fast.shape[-1], (self.lateral, 1), (self.alpha, 1), name=f"fuse{number}_conv")
        led = nn.relu(self._norm()(name=f"fuse{number}_bn")(conv(fast), train=train))
        # Of a clip whose frames are no multiple of alpha the stride finds one more than the slow pathway sees.
        return {SLOW: jnp.concatenate([maps[SLOW], led[:, : maps[SLOW].shape[1]]], -1), FAST: fast}

    def _answered(self, maps: dict, train: bool) -> dict:
        # The mean, the classifier and the losses are in float32 where the activations are bfloat16.
        maps = {name: x.astype(jnp.promote_types(jnp.float32, x.dtype)) for name, x in maps.items()}
        frames = jnp.concatenate([maps[name].mean(1) for name in (SLOW, FAST)], -1)
        pooled = frames.mean((1, 2))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        classify = Classifier(self.heads, 0.01, name="classifier")
        window = 0 if train else self.window
        logits = classified(lambda seen: classify(drop(seen)), pooled, frames, window, self.by_sigmoid)
        return {"logits": logits, "features": pooled, "map": maps[FAST]}
