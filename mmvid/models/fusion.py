"""Late fusion: an encoder for each stream, a classifier for each, and one for all of them together."""

import zlib
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid.models.layers import Classifier
from mmvid.models.model import Model, Needs, from_linen

JOINT = "joint"


class Joint(nn.Module):
    """The joint classifier: pooled features of all streams [B, sum of D] -> {'logits', 'features'}."""

    heads: dict[str, int]
    dropout: float = 0.0
    first_convolutions = ()
    classifiers = (("classifier",),)

    @nn.compact
    def __call__(self, features, *, train: bool):
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        return {"logits": Classifier(self.heads, name="classifier")(dropped), "features": features}


def _concatenated(results: Mapping[str, dict]) -> jax.Array:
    return jnp.concatenate([result["features"] for result in results.values()], -1)


def fuse(encoders: Mapping[str, Model], heads: dict[str, int], dropout: float = 0.0) -> Model:
    """Makes one model of ``encoders`` {stream: model}: {stream: x} -> {stream or 'joint': result}.

    Each stream is classified by its encoder's own classifier. The joint classifier reads the pooled
    features of all encoders, concatenated in the order of ``encoders``, after ``dropout``.
    ``params`` hold each encoder's whole tree under its stream's name, and the joint classifier's
    under 'joint'. This is the late fusion of Gradient-Blending (Wang et al. 2020), with one linear
    layer as the joint classifier.
    """
    joint = from_linen(Joint(heads, dropout))

    def encoded(params, stats, x, train, key):
        results, new = {}, {}
        for stream, encoder in encoders.items():
            # crc32, not hash(): Python salts the hashes of strings anew in every process.
            own = jax.random.fold_in(key, zlib.crc32(stream.encode()))
            results[stream], new[stream] = encoder.apply(
                params[stream], stats[stream], x[stream], train=train, key=own
            )
        return results, new

    def init(key, x):
        params, stats = {}, {}
        for stream, encoder in encoders.items():
            own = jax.random.fold_in(key, zlib.crc32(stream.encode()))
            params[stream], stats[stream] = encoder.init(own, x[stream])
        # Only a forward tells how wide each encoder's features are.
        results, _ = encoded(params, stats, x, False, key)
        params[JOINT], _ = joint.init(jax.random.fold_in(key, zlib.crc32(JOINT.encode())), _concatenated(results))
        return params, stats

    def apply(params, stats, x, *, train: bool, key: jax.Array):
        results, stats = encoded(params, stats, x, train, key)
        joint_key = jax.random.fold_in(key, zlib.crc32(JOINT.encode()))
        # No stop_gradient: the joint loss trains every encoder, as in G-Blend. And no statistics: the joint
        # classifier has no batch norm.
        result, _ = joint.apply(params[JOINT], {}, _concatenated(results), train=train, key=joint_key)
        return results | {JOINT: result}, stats

    return Model(
        init,
        apply,
        outputs={stream: Needs((stream,)) for stream in encoders} | {JOINT: Needs(tuple(encoders))},
        encoders={stream: (stream,) for stream in encoders},
        first_convolutions=_under(encoders, "first_convolutions"),
        classifiers=(*_under(encoders, "classifiers"), (JOINT, "classifier")),
        necks=_under(encoders, "necks"),
    )


def _under(encoders: Mapping[str, Model], kind: str) -> tuple:
    """Returns the encoders' paths of one ``kind`` (a field of `Model`) as paths in the fused tree."""
    return tuple((stream, *path) for stream, encoder in encoders.items() for path in getattr(encoder, kind))
