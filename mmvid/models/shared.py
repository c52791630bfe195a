"""CMCL's feature sharing (Lee et al. 2017): the members of an ensemble read each other's stems."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def share_features(features: dict, probability: float, key: jax.Array | None) -> dict:
    """Adds a random part of every other member's features to each one's: {member: [B, ..]} -> the same.

    Member m gets h_m + sum over n != m of sigma_nm * h_n, where sigma_nm ~ Bernoulli(``probability``)
    is drawn for every pair and unit. Without a ``key`` (in evaluation) the expectation ``probability``
    replaces the draw, as in dropout.
    """
    names, mixed = list(features), {}
    for i, own in enumerate(names):
        total = features[own]
        for j, other in enumerate(names):
            if i == j:
                continue
            heard = probability
            if key is not None:
                # A key of its own for each ordered pair: what m takes of n says nothing of what n takes of m.
                draw = jax.random.fold_in(key, i * len(names) + j)
                heard = jax.random.bernoulli(draw, probability, features[other].shape)
            total = total + heard * features[other]
        mixed[own] = total
    return mixed


class Shared(nn.Module):
    """Networks of one architecture, one a member, that share features after the stem.

    Each has its own stream and classifier: {member: [B, T, H, W, C]} -> {member: {'logits',
    'features', 'map'}}.
    """

    members: tuple[str, ...]
    module: Any  # the architecture, which can be cut after the stem (`Model.stages`)
    settings: dict
    probability: float

    @property
    def first_convolutions(self):
        """The paths of all members' first convolutions; see `Model`."""
        return tuple((name, *path) for name in self.members for path in self.module.first_convolutions)

    @property
    def classifiers(self):
        """The paths of all members' classifiers; see `Model`."""
        return tuple((name, *path) for name in self.members for path in self.module.classifiers)

    @nn.compact
    def __call__(self, x: dict, *, train: bool):
        networks = {name: self.module(**self.settings, name=name) for name in self.members}
        stems = {name: net(x[name], train=train, until=1) for name, net in networks.items()}
        # What is shared is drawn from dropout's stream of keys, as it is a kind of dropout.
        key = self.make_rng("dropout") if train else None
        mixed = share_features(stems, self.probability, key)
        # Sharing computes in float32, whatever the activations' type is.
        mixed = {name: x.astype(jnp.result_type(stems[name])) for name, x in mixed.items()}
        return {name: net(mixed[name], train=train, since=1) for name, net in networks.items()}
