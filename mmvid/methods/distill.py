"""Distillation: students that learn from teachers trained before."""

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass
from mmvid.streams import Head


def generalized_distillation(
    teacher_logits: jax.Array,
    logits: jax.Array,
    label: jax.Array,
    *,
    weight: float = 0.5,
    temperature: float = 2.0,
    temper_student: bool = True,
) -> jax.Array:
    """(1 - w) CE + w H(softmax(teacher / T), softmax(own [/ T])): [.., K] twice -> [..].

    DMCL's equation 3, without T^2; it writes the student at temperature 1, algorithm 1 and the code
    at T (``temper_student``).
    """
    target = jax.nn.softmax(teacher_logits / temperature)
    soft = losses.softmax_cross_entropy(logits / (temperature if temper_student else 1.0), target)
    return (1 - weight) * losses.softmax_cross_entropy(logits, label) + weight * soft


def make_generalized_distillation(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teacher: str = "",
    weight: float = 0.5,
    temperature: float = 2.0,
    temper_student: bool = True,
) -> Method:
    """Every output but ``teacher`` learns from it; it was trained before and stays as it is, in
    evaluation mode. Where it is absent, cross-entropy alone is left.

    Raises ValueError where ``teacher`` is no output, or the only one.
    """
    students = tuple(output for output in outputs if output != teacher)
    if len(students) in (0, len(outputs)):
        raise ValueError(f"teacher={teacher!r}: name one of the outputs {outputs}, beside a student")
    terms_lib.check_temperature(temperature)
    heat = temperature if temper_student else 1.0

    def terms(results, batch, state, key):
        del state, key
        group, own = batch["main"], results["main", "train"]
        task = terms_lib.task_term(own, group, students, heads)
        soft = terms_lib.mean([
            terms_lib.soft_cross_entropy(
                own[teacher]["logits"][head] / temperature,
                terms_lib.stack(own, students, head) / heat, spec.kind,
            )
            for head, spec in heads.items()
        ])  # fmt: skip
        there = task.mask & terms_lib.presence((teacher,), group)
        hard = jnp.where(there, 1 - weight, 1) * task.values
        return {
            "ce": task._replace(values=hard),
            "distill": task._replace(values=jnp.where(there, weight * soft, 0)),
        }

    return Method(
        terms,
        passes=(Pass(), Pass(weights="frozen", train=False)),
        symmetric=False,
        reason="one output is the teacher",
        teachers=(teacher,),
    )
