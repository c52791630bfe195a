"""Networks for sound, which they see as a picture of log-mel: time down, pitch across."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid.models.layers import BatchNorm, Classifier, Conv
from mmvid.models.resnet import Block, between, blocks


def _largest(x: jax.Array) -> jax.Array:
    """Returns the maximum over all places of maps, [B, H, W, C] -> [B, C].

    Its gradient goes to the first place where it stands, as PyTorch's. That of `jnp.max` goes to all places that
    equal the maximum: where XLA computes them anew (a ReLU of a norm) and rounds otherwise, it goes nowhere.
    """
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(x, x.argmax(1, keepdims=True), 1)[:, 0]


class AudioNet(nn.Module):
    """A plain convolutional network for log-mel [B, time, bands, C], to {'logits' {head: [B, K]},
    'features' [B, D], 'map' [B, T, time', bands', D]}; ``heads`` is {name: classes}.

    Each entry of ``stages`` is that many 3x3 convolutions with batch norm, the first of which halves time and
    pitch; channels double from stage to stage. The last map is averaged over pitch; its mean over time, for what
    sounds all along, plus its maximum, for a knock, are the features (PANNs, Kong et al. 2020, section II-A).
    Windows of sound [B, T, time, bands, C] are seen one by one; logits and features are means over them.
    Called with ``until`` a stage (1 is the first) it stops before it and returns [B, T, time', bands', C];
    ``since`` goes on from there.
    """

    heads: dict[str, int]
    stages: tuple[int, ...]
    width: int = 16
    dropout: float = 0.0
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("conv1_0",),)
    classifiers: ClassVar = (("classifier",),)

    @property
    def cuts(self):
        """The paths of the layers of each stage; see `Model.stages`."""
        names = [[f"{stage}_{i}" for i in range(count)] for stage, count in enumerate(self.stages, 1)]
        return tuple(tuple((kind + name,) for name in own for kind in ("conv", "bn")) for own in names)

    @nn.compact
    def __call__(self, x, *, train: bool, since: int = 0, until: int | None = None):
        clips, windows = x.shape[0], x.shape[1] if x.ndim == 5 else 1
        x = x.reshape(-1, *x.shape[-3:])
        for before, count in between(self.stages, since, until):
            stage = before + 1
            for i in range(count):
                conv = Conv(self.width * 2 ** (stage - 1), 3, 1 if i else 2, self.dtype, name=f"conv{stage}_{i}")
                x = nn.relu(BatchNorm(dtype=self.dtype, name=f"bn{stage}_{i}")(conv(x), train=train))
        if until is not None:
            return x.reshape(clips, windows, *x.shape[1:])
        # Means and the classifier are in float32 where the activations are bfloat16.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        over_pitch = x.mean(2)
        # A maximum of sums, which XLA does not compute anew (see `_largest`).
        features = over_pitch.mean(1) + over_pitch.max(1)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        logits = Classifier(self.heads, name="classifier")(dropped)
        mean = {name: v.reshape(clips, windows, -1).mean(1) for name, v in logits.items()}
        features = features.reshape(clips, windows, -1).mean(1)
        return {"logits": mean, "features": features, "map": x.reshape(clips, windows, *x.shape[1:])}


class VmzAudioNet(nn.Module):
    """The audio ResNet that Gradient-Blending's authors released, for log-mel as `AudioNet` reads it.

    A 3x3 convolution with a bias, then neither norm nor ReLU, and three basic blocks stand where a ResNet has its
    stem; all four stages halve time and pitch, the first one too; the last map is pooled by its maximum (VMZ,
    c2/lib/models/audio_visual_model.py, create_acoustic_resnet).
    Called with ``until`` a stage (1 is the first) it stops before it and returns [B, T, time', bands', C];
    ``since`` goes on from there.
    """

    heads: dict[str, int]
    stages: tuple[int, ...]
    width: int = 64
    dropout: float = 0.0
    frozen_bn: str = "none"
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("conv1",),)
    classifiers: ClassVar = (("classifier",),)

    @property
    def cuts(self):
        """The paths of the blocks of each stage; see `Model.stages`."""
        return blocks(self.stages)

    @nn.compact
    def __call__(self, x, *, train: bool, since: int = 0, until: int | None = None):
        clips, windows = x.shape[0], x.shape[1] if x.ndim == 5 else 1
        x = x.reshape(-1, *x.shape[-3:])
        x = x if since else self._stem(x, train)
        for stage, count in between(self.stages, since, until):
            for i in range(count):
                x = self._block(self.width * 2**stage, i, True, f"layer{stage + 1}_{i}")(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
        if until is not None:
            return x.reshape(clips, windows, *x.shape[1:])
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        pooled = _largest(x)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        logits = Classifier(self.heads, name="classifier")(dropped)
        mean = {name: v.reshape(clips, windows, -1).mean(1) for name, v in logits.items()}
        features = pooled.reshape(clips, windows, -1).mean(1)
        return {"logits": mean, "features": features, "map": x.reshape(clips, windows, *x.shape[1:])}

    def _stem(self, x, train: bool):
        x = Conv(self.width // 4, 3, dtype=self.dtype, bias=True, name="conv1")(x)
        self.sow("intermediates", "first", x)  # 'conv1' is the layer's own name
        for i in range(3):
            x = self._block(self.width // 2, i, False, f"stem_{i}", first=i == 0)(x, train)
        self.sow("intermediates", "stem", x)
        return x

    def _block(self, features: int, i: int, bottleneck: bool, name: str, first: bool = False):
        frozen = self.frozen_bn == "all" or (self.frozen_bn == "all_but_first" and not first)
        stride = 1 if i else 2
        return Block(features, stride, bottleneck, 0, frozen, self.dtype, eps=1e-3, name=name)
