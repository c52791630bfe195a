"""A small network for sound, which it sees as a picture of log-mel: time down, pitch across."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmvid.models.layers import BatchNorm, Classifier, Conv


class AudioNet(nn.Module):
    """A plain convolutional network for log-mel [B, time, bands, C], to {'logits' {head: [B, K]},
    'features' [B, D], 'map' [B, T, time', bands', D]}; ``heads`` is {name: classes}.

    Each entry of ``stages`` is that many 3x3 convolutions with batch norm, the first of which halves time and
    pitch; channels double from stage to stage. The last map is averaged over pitch; its mean over time, for what
    sounds all along, plus its maximum, for a knock, are the features (PANNs, Kong et al. 2020, section II-A).
    Windows of sound [B, T, time, bands, C] are seen one by one; logits and features are means over them.
    """

    heads: dict[str, int]
    stages: tuple[int, ...]
    width: int = 16
    dropout: float = 0.0
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("conv1_0",),)
    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, x, *, train: bool):
        clips, windows = x.shape[0], x.shape[1] if x.ndim == 5 else 1
        x = x.reshape(-1, *x.shape[-3:])
        for stage, count in enumerate(self.stages, 1):
            for i in range(count):
                conv = Conv(self.width * 2 ** (stage - 1), 3, 1 if i else 2, self.dtype, name=f"conv{stage}_{i}")
                x = nn.relu(BatchNorm(dtype=self.dtype, name=f"bn{stage}_{i}")(conv(x), train=train))
        # Means and the classifier are in float32 where the activations are bfloat16.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        over_pitch = x.mean(2)
        features = over_pitch.mean(1) + over_pitch.max(1)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        logits = Classifier(self.heads, name="classifier")(dropped)
        mean = {name: v.reshape(clips, windows, -1).mean(1) for name, v in logits.items()}
        features = features.reshape(clips, windows, -1).mean(1)
        return {"logits": mean, "features": features, "map": x.reshape(clips, windows, *x.shape[1:])}
