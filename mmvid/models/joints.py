"""Joint classifiers of a fusion: what they make of the features and maps of several encoders."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid.models.layers import Classifier

_HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def in_a_row(results: Mapping[str, dict]) -> jax.Array:
    """The pooled features of all encoders, concatenated in their order: {stream: result} -> [B, sum of D]."""
    return jnp.concatenate([result["features"] for result in results.values()], -1)


class Concatenated(nn.Module):
    """`in_a_row` as a module: late concatenation."""

    @nn.compact
    def __call__(self, results: Mapping[str, dict]):
        return in_a_row(results)


class Squeezed(nn.Module):
    """Squeeze and excitation between encoders: each channel of one is weighted by what all of them saw.

    The features of all, in a row, go through a layer of D / 8 units with a ReLU and one of D units with a
    sigmoid, D being the encoder's own width; with ``residual`` what went in is added (VMZ's audio_model.py).
    A weight of a channel passes through the pooling, so that the pooled features are weighted.
    """

    residual: bool = False

    @nn.compact
    def __call__(self, results: Mapping[str, dict]):
        everything = in_a_row(results)
        gated = []
        for stream, result in results.items():
            width = result["features"].shape[-1]
            narrow = nn.Dense(max(width // 8, 1), kernel_init=_HE, name=f"{stream}_squeeze")(everything)
            gate = nn.sigmoid(nn.Dense(width, name=f"{stream}_excite")(nn.relu(narrow)))
            gated.append((1 + gate if self.residual else gate) * result["features"])
        return jnp.concatenate(gated, -1)


class Attended(nn.Module):
    """Non-local attention between encoders (Wang et al. 2018, embedded Gaussian): queries are the places of one's
    map, keys and values those of all others', and what is heard is added to one's own features.

    Its last layer starts at 0, as theirs does, so that training begins with the features alone. The mean over
    the places of a map is linear: it is taken before that layer, which is D times cheaper.
    """

    @nn.compact
    def __call__(self, results: Mapping[str, dict]):
        places = {stream: _places(stream, result) for stream, result in results.items()}
        heard = []
        for stream, result in results.items():
            width = result["features"].shape[-1]
            half = max(width // 2, 1)
            query = nn.Dense(half, name=f"{stream}_query")(places[stream])
            keys, values = (
                jnp.concatenate(
                    [
                        nn.Dense(half, name=f"{stream}_{kind}_{other}")(seen)
                        for other, seen in places.items()
                        if other != stream
                    ],
                    1,
                )
                for kind in ("key", "value")
            )
            weights = nn.softmax(jnp.einsum("bqd,bkd->bqk", query, keys), -1)
            mean = jnp.einsum("bqk,bkd->bqd", weights, values).mean(1)
            heard.append(
                result["features"] + nn.Dense(width, kernel_init=nn.initializers.zeros, name=f"{stream}_out")(mean)
            )
        return jnp.concatenate(heard, -1)


def _places(stream: str, result: Mapping) -> jax.Array:
    """Returns the map of an encoder as [B, places, D]. Raises ValueError where it has none."""
    if "map" not in result:
        raise ValueError(
            f"joint='nl' attends to the places of a map, and the encoder of {stream!r} has none: "
            "take a convolutional one, or joint='late'"
        )
    return result["map"].reshape(result["map"].shape[0], -1, result["map"].shape[-1])


class LowRank(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018): sum_r a_r prod_m (W_m^(r) [1; z_m]) + b, [B, width].

    The factors W_m are drawn as Glorot's, as is a; b starts at 0 (the authors' code).
    """

    width: int = 2048
    rank: int = 4

    @nn.compact
    def __call__(self, results: Mapping[str, dict]):
        glorot = nn.initializers.glorot_normal(batch_axis=(0,))
        product = 1.0
        for stream, result in results.items():
            z = result["features"]
            factor = self.param(f"factor_{stream}", glorot, (self.rank, z.shape[-1] + 1, self.width))
            # [1; z] W, with the 1 written as a bias.
            product = product * (factor[:, :1] + jnp.einsum("bd,rdh->rbh", z, factor[:, 1:]))
        weights = self.param("rank", nn.initializers.glorot_normal(), (1, self.rank))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return jnp.einsum("r,rbh->bh", weights[0], product) + bias[None]


class Joint(nn.Module):
    """A joint classifier: {stream: {'features' [B, D], ..}} -> {'logits', 'features'}.

    What ``gather`` makes of the encoders' results goes, after ``dropout``, through ``layers`` fully connected
    layers with ReLUs, of ``width`` units or as many as a stream has on average (G-Blend's code: 4096 -> 2048 ->
    2048), and to the classifiers of all ``heads``. 'features' are what these read.
    """

    heads: dict[str, int]
    gather: nn.Module
    layers: int = 2
    width: int | None = None
    dropout: float = 0.0

    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, results: Mapping[str, dict], *, train: bool):
        x = self.gather(results)
        width = self.width or x.shape[-1] // len(results)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i in range(self.layers):
            x = nn.relu(nn.Dense(width, kernel_init=_HE, name=f"fc{i + 1}")(x))
        return {"logits": Classifier(self.heads, name="classifier")(x), "features": x}
