"""CMCL's feature sharing (Lee et al. 2017): members of an ensemble that hear each other's stems."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def share_features(features: dict, probability: float, key: jax.Array | None) -> dict:
    """Each member's features plus a random part of every other's: {member: [B, ..]} -> the same.

    h_m + sum over n != m of sigma_nm * h_n, sigma_nm ~ Bernoulli(``probability``) drawn for every
    pair and unit; without a ``key`` its expectation stands for it, as in dropout.
    """
    names, mixed = list(features), {}
    for i, own in enumerate(names):
        total = features[own]
        for j, other in enumerate(names):
            if i == j:
                continue
            heard = probability
            if key is not None:
                draw = jax.random.fold_in(key, i * len(names) + j)
                heard = jax.random.bernoulli(draw, probability, features[other].shape)
            total = total + heard * features[other]
        mixed[own] = total
    return mixed


class Shared(nn.Module):
    """``members`` networks of one architecture, each with its own stream and classifier, which share
    features after the stem. {member: [B, T, H, W, C]} -> {member: {'logits', 'features', 'map'}}."""

    members: tuple[str, ...]
    module: Any  # the architecture, with a ``part`` to be called by: 'stem' or 'rest'
    settings: dict
    probability: float

    @property
    def first_convolutions(self):
        """Of every member; see `Model`."""
        return tuple((name, *path) for name in self.members for path in self.module.first_convolutions)

    @property
    def classifiers(self):
        """Of every member; see `Model`."""
        return tuple((name, *path) for name in self.members for path in self.module.classifiers)

    @nn.compact
    def __call__(self, x: dict, *, train: bool):
        networks = {name: self.module(**self.settings, name=name) for name in self.members}
        stems = {name: net(x[name], train=train, part="stem") for name, net in networks.items()}
        key = self.make_rng("dropout") if train else None
        mixed = share_features(stems, self.probability, key)
        return {n: net(mixed[n].astype(jnp.result_type(stems[n])), train=train, part="rest")
                for n, net in networks.items()}  # fmt: skip
