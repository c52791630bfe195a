"""What several methods share: the answers of the networks, the task's cross-entropy, means over heads."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods.base import Term
from mmvid.streams import Head


class Answers(NamedTuple):
    """What M networks answer in one head, ``logits`` [M, .., K], and what is right: ``label`` [..],
    or [.., K] where ``kind`` is 'multi'."""

    logits: jax.Array
    label: jax.Array
    kind: str = "single"


def answers(outputs: dict, group: dict, names: tuple[str, ...], heads: dict[str, Head]) -> list[Answers]:
    """The answers of the outputs ``names`` in every head, in the order of ``heads``."""
    return [
        Answers(stack(outputs, names, head), group["label"][head], spec.kind)
        for head, spec in heads.items()
    ]


def stack(outputs: dict, names: tuple[str, ...], head: str) -> jax.Array:
    """The logits of several outputs as [M, B, K]."""
    return jnp.stack([outputs[name]["logits"][head] for name in names])


def presence(names: tuple[str, ...], group: dict) -> jax.Array:
    """Which outputs have a real example: [M, B]; padding and absent streams are False."""
    return jnp.stack([group["mask"] & group["present"][name] for name in names])


def cross_entropy(logits: jax.Array, label: jax.Array, kind: str = "single") -> jax.Array:
    """The task's loss of one head: logits [M, .., K], label [..] or [.., K] -> [M, ..]."""
    form = losses.softmax_cross_entropy if kind == "single" else losses.sigmoid_cross_entropy
    return form(logits, for_each_network(label, len(logits)))


def task_term(outputs: dict, group: dict, names: tuple[str, ...], heads: dict[str, Head]) -> Term:
    """Cross-entropy of ``names``, averaged over the heads, as a Term of weight 1."""
    values = mean_over_heads([cross_entropy(*head) for head in answers(outputs, group, names, heads)])
    return Term(names, values, presence(names, group), jnp.ones(len(names)))


def for_each_network(target: jax.Array, count: int) -> jax.Array:
    """The same label or target for each of ``count`` networks: [..] -> [count, ..]."""
    return jnp.broadcast_to(target, (count, *target.shape))


def soft_cross_entropy(target_logits: jax.Array, logits: jax.Array, kind: str = "single") -> jax.Array:
    """H(sg(softmax(target)), softmax(own)), or of sigmoids where ``kind`` is 'multi'.

    ``target_logits`` [.., K] teach every network of ``logits`` [M, .., K]; returns [M, ..].
    """
    if kind == "single":
        target = for_each_network(jax.nn.softmax(target_logits), len(logits))
        return losses.softmax_cross_entropy(logits, target)
    target = for_each_network(jax.nn.sigmoid(target_logits), len(logits))
    return losses.sigmoid_cross_entropy(logits, target)


def mean_over_heads(values: Sequence[jax.Array]) -> jax.Array:
    """The mean of one array a head (MMD's code averages heads, it does not add them)."""
    return sum(values) / len(values)


def check_temperature(temperature: float) -> None:
    """Raises ValueError for a ``temperature`` that nothing can be divided by."""
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: give a number greater than 0")
