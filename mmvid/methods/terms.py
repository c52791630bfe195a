"""What several methods share: answers of networks, the task's cross-entropy, means over heads."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods.base import Term
from mmvid.streams import Head


class Answers(NamedTuple):
    """The ``logits`` [M, .., K] of M networks in one head, and the right answer ``label``: class indices
    [..], or multi-hot [.., K] if ``kind`` is 'multi'."""

    logits: jax.Array
    label: jax.Array
    kind: str = "single"


def answers(outputs: dict, group: dict, names: tuple[str, ...], heads: dict[str, Head]) -> list[Answers]:
    """Collects the answers of the outputs ``names`` in every head, in the order of ``heads``."""
    return [Answers(stack(outputs, names, head), group["label"][head], spec.kind) for head, spec in heads.items()]


def students_of(outputs: tuple[str, ...], teacher: str) -> tuple[str, ...]:
    """Returns all ``outputs`` but the ``teacher``. Raises ValueError if that is no output, or the only one."""
    students = tuple(output for output in outputs if output != teacher)
    if len(students) in (0, len(outputs)):
        raise ValueError(f"teacher={teacher!r}: name one of the outputs {outputs}, beside a student")
    return students


def stack(outputs: dict, names: tuple[str, ...], head: str) -> jax.Array:
    """Stacks the logits of several outputs in one head as [M, B, K]."""
    return jnp.stack([outputs[name]["logits"][head] for name in names])


def presence(names: tuple[str, ...], group: dict) -> jax.Array:
    """Tells which outputs have a real example: bool [M, B], False for padding and absent streams."""
    return jnp.stack([group["mask"] & group["present"][name] for name in names])


def cross_entropy(logits: jax.Array, label: jax.Array, kind: str = "single", multi: str = "sigmoid") -> jax.Array:
    """Computes the task's loss in one head: logits [M, .., K], label [..] or [.., K] -> [M, ..]. ``multi`` names
    that of several labels, one of `losses.MULTI_LABEL`."""
    form = losses.softmax_cross_entropy if kind == "single" else losses.MULTI_LABEL[multi]
    return form(logits, for_each_network(label, len(logits)))


def task_term(
    outputs: dict, group: dict, names: tuple[str, ...], heads: dict[str, Head], multi: str = "sigmoid"
) -> Term:
    """Makes a Term of weight 1: the cross-entropy of ``names``, averaged over the heads. ``multi`` is as for
    `cross_entropy`."""
    values = mean_over_heads([cross_entropy(*head, multi) for head in answers(outputs, group, names, heads)])
    return Term(names, values, presence(names, group), jnp.ones(len(names)))


def for_each_network(target: jax.Array, count: int) -> jax.Array:
    """Repeats a label or target for each of ``count`` networks: [..] -> [count, ..]."""
    return jnp.broadcast_to(target, (count, *target.shape))


def soft_cross_entropy(target_logits: jax.Array, logits: jax.Array, kind: str = "single") -> jax.Array:
    """Computes H(sg(softmax(target)), softmax(own)), or that of sigmoids if ``kind`` is 'multi'.

    ``target_logits`` [.., K] teach every network of ``logits`` [M, .., K]; returns [M, ..].
    """
    # The losses stop the gradient of soft targets (losses.py). H differs from the KL by the target's
    # entropy, which no gradient sees.
    if kind == "single":
        target = for_each_network(jax.nn.softmax(target_logits), len(logits))
        return losses.softmax_cross_entropy(logits, target)
    target = for_each_network(jax.nn.sigmoid(target_logits), len(logits))
    return losses.sigmoid_cross_entropy(logits, target)


def mean_over_heads(values: Sequence[jax.Array]) -> jax.Array:
    """Averages one array for each head.

    The paper of multimodal distillation (Radevski et al. 2023) adds its heads up, its code averages
    them; the code is followed.
    """
    return sum(values) / len(values)


def check_temperature(temperature: float) -> None:
    """Raises ValueError for a ``temperature`` that is not greater than 0."""
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: give a number greater than 0")
