"""Distillation: students learn from teachers that were trained before."""

import jax
import jax.numpy as jnp

from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass, Term
from mmvid.streams import Head

# The options' defaults, those of DMCL's code.
WEIGHT, TEMPERATURE, TEMPER_STUDENT = 0.5, 2.0, True


def generalized_distillation(
    teacher_logits: jax.Array,
    logits: jax.Array,
    label: jax.Array,
    *,
    kind: str = "single",
    weight: float = WEIGHT,
    temperature: float = TEMPERATURE,
    temper_student: bool = TEMPER_STUDENT,
    present: jax.Array | None = None,
) -> jax.Array:
    """Computes (1 - w) CE + w H(softmax(teacher / T), softmax(own [/ T])): logits [.., K] twice -> [..].

    This is DMCL's equation 3 (generalized distillation, Lopez-Paz et al.), without T^2. The equation
    writes the student at temperature 1, DMCL's algorithm 1 and code at T (``temper_student``). Where
    ``present`` [..] is False, the teacher is absent and the student's loss is CE alone.
    """
    # One student is M = 1 of the parts, which are what trains.
    one = terms_lib.Answers(logits[None], label, kind)
    there = None if present is None else present[None]
    options = dict(weight=weight, temperature=temperature, temper_student=temper_student)
    parts = generalized_distillation_parts(teacher_logits, one, **options, present=there)
    return sum(parts.values())[0]


def generalized_distillation_parts(
    teacher_logits: jax.Array,
    students: terms_lib.Answers,
    *,
    weight: float,
    temperature: float,
    temper_student: bool,
    present: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Computes the two parts of ``generalized_distillation`` for M students of one teacher, in one head.

    ``teacher_logits`` are [.., K] and the students' [M, .., K]; ``present`` [M, ..] tells where teacher
    and student are both there. Returns {'ce', 'distill'}, [M, ..] each.
    """
    logits, label, kind = students
    hard = terms_lib.cross_entropy(logits, label, kind)
    # Unlike DMCL's own loss (mcl.py) not times T^2: equation 3 has no such factor.
    soft = terms_lib.soft_cross_entropy(
        teacher_logits / temperature, logits / (temperature if temper_student else 1.0), kind
    )
    there = jnp.ones(hard.shape, bool) if present is None else present
    return {
        # Without a teacher the labels count in full, not 1 - w of them.
        "ce": jnp.where(there, 1 - weight, 1) * hard,
        "distill": jnp.where(there, weight * soft, 0),
    }


def make_generalized_distillation(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teacher: str = "",
    weight: float = WEIGHT,
    temperature: float = TEMPERATURE,
    temper_student: bool = TEMPER_STUDENT,
) -> Method:
    """Makes the method by which every output learns from the output ``teacher``.

    The teacher was trained before and stays frozen, in evaluation mode. Students learn from
    cross-entropy alone in examples where it is absent. Raises ValueError if ``teacher`` is no output or
    the only one.
    """
    students = tuple(output for output in outputs if output != teacher)
    if len(students) in (0, len(outputs)):
        raise ValueError(f"teacher={teacher!r}: name one of the outputs {outputs}, beside a student")
    terms_lib.check_temperature(temperature)
    options = dict(weight=weight, temperature=temperature, temper_student=temper_student)

    def terms(results, batch, state, key):
        del state, key
        group, own = batch["main"], results["main", "train"]
        # Two masks: a student without its teacher still has a loss, and still counts in its mean.
        present = terms_lib.presence(students, group)
        there = present & terms_lib.presence((teacher,), group)
        parts = [
            generalized_distillation_parts(own[teacher]["logits"][head], asked, **options, present=there)
            for head, asked in zip(heads, terms_lib.answers(own, group, students, heads))
        ]
        ones = jnp.ones(len(students))
        return {
            name: Term(students, terms_lib.mean_over_heads([part[name] for part in parts]), present, ones)
            for name in ("ce", "distill")
        }

    return Method(
        terms,
        # Both passes are of the same view: the teacher sees the very clips that its students see.
        passes=(Pass(), Pass(weights="frozen", train=False)),
        symmetric=False,
        reason="one output is the teacher",
        teachers=(teacher,),
    )
