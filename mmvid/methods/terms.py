"""Terms that several methods have: cross-entropy, its targets, means over heads."""

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods.base import Term
from mmvid.streams import Head


def stack(outputs: dict, names: tuple[str, ...], head: str) -> jax.Array:
    """The logits of several outputs as [M, B, K]."""
    return jnp.stack([outputs[name]["logits"][head] for name in names])


def presence(names: tuple[str, ...], group: dict) -> jax.Array:
    """Which outputs have a real example: [M, B]; padding and absent streams are False."""
    return jnp.stack([group["mask"] & group["present"][name] for name in names])


def cross_entropy(logits: jax.Array, label: jax.Array, kind: str) -> jax.Array:
    """The task's loss of one head: logits [M, B, K], label [B] or [B, K] -> [M, B]."""
    label = jnp.broadcast_to(label, (logits.shape[0], *label.shape))
    form = losses.softmax_cross_entropy if kind == "single" else losses.sigmoid_cross_entropy
    return form(logits, label)


def task_term(outputs: dict, group: dict, names: tuple[str, ...], heads: dict[str, Head]) -> Term:
    """Cross-entropy of ``names``, averaged over the heads, as a Term of weight 1."""
    values = [
        cross_entropy(stack(outputs, names, head), group["label"][head], spec.kind)
        for head, spec in heads.items()
    ]
    mean = sum(values) / len(values)
    return Term(names, mean, presence(names, group), jnp.ones(len(names)))


def targets(label: jax.Array, count: int) -> jax.Array:
    return jnp.broadcast_to(label, (count, *label.shape))


def soft_cross_entropy(target: jax.Array, logits: jax.Array, kind: str) -> jax.Array:
    """H(sg(softmax(target)), softmax(logits)), or of sigmoids: [.., K], [M, .., K] -> [M, ..]."""
    if kind == "single":
        return losses.softmax_cross_entropy(logits, targets(jax.nn.softmax(target), len(logits)))
    return losses.sigmoid_cross_entropy(logits, targets(jax.nn.sigmoid(target), len(logits)))


def mean(values: list[jax.Array]) -> jax.Array:
    """Mean over heads."""
    return sum(values) / len(values)


def check_temperature(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: give a number greater than 0")
