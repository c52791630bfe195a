"""Distillation: students learn from teachers that were trained before.

Generalised distillation has one teacher (DMCL, equation 3). Multimodal distillation has several, whose logits
are added up by weights that they earn on clips which none of them has seen (Radevski et al. 2023).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import TAUGHT, Method, Term
from mmvid.streams import Head

# The options' defaults, those of DMCL's code.
WEIGHT, TEMPERATURE, TEMPER_STUDENT = 0.5, 2.0, True
# Those of the main tables of multimodal distillation.
LAMBDA, TAU, GAMMA = 1.0, 10.0, 30.0
SCHEMES = ("weighted", "equal", "per_sample")
OVER_HEADS = ("mean", "sum")


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
    students = terms_lib.students_of(outputs, teacher)
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
        passes=TAUGHT,
        symmetric=False,
        reason="one output is the teacher",
        teachers=(teacher,),
    )


# ---------------------------------------------------------------------------- several teachers
def ensemble_weights(cross_entropy: jax.Array, *, gamma: float) -> jax.Array:
    """Computes softmin(cross_entropy / gamma) over M teachers, their weights: [M, ..] -> [M, ..], of sum 1.

    ``gamma`` = inf weighs all alike; the nearer it is to 0, the more the best teacher has, and 0 gives it
    everything (equal ones share). An infinite cross-entropy gets 0. Source: multimodal distillation, equation
    3, and its code. Raises ValueError for a ``gamma`` below 0.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma={gamma}: give a number of 0 or more; inf weighs all teachers alike")
    cross_entropy = jnp.asarray(cross_entropy)
    if math.isinf(gamma):
        return jnp.full_like(cross_entropy, 1 / len(cross_entropy))
    # Less the least: nothing overflows, and the best teacher's 0 is never divided by a gamma of 0.
    excess = cross_entropy - cross_entropy.min(0, keepdims=True)
    return jax.nn.softmax(-jnp.where(excess > 0, excess / gamma, 0), axis=0)


def shared_out(weights: jax.Array | np.ndarray, present: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Shares the weights of absent teachers out among those that are there, in proportion: ``weights`` [M] or
    [M, ..] and ``present`` bool [M, ..] -> [M, ..], of sum 1, or 0 where no teacher of any weight is there. Arrays
    of NumPy stay such, in their precision."""
    own = weights.reshape(weights.shape + (1,) * (present.ndim - weights.ndim)) * present
    total = own.sum(0, keepdims=True)
    return own / (total + (total == 0))


def distillation(
    teacher_logits: jax.Array,
    logits: jax.Array,
    weights: jax.Array,
    *,
    temperature: float = TAU,
    kind: str = "single",
) -> jax.Array:
    """Computes T^2 KL(softmax(sum_m w_m z_m / T) || softmax(own / T)): [M, .., K], [.., K] -> [..].

    ``weights`` are [M], or [M, ..] where each example has its own. It is the teachers' logits z_m that are
    added up, not their probabilities, as in multimodal distillation's code. T^2 keeps the gradient's scale
    whatever the temperature. In a head of ``kind`` 'multi' the KL is that of sigmoids, a mean over the classes;
    the paper has none. No gradient reaches the teachers.
    """
    weights = jnp.asarray(weights)
    own = weights.reshape(weights.shape + (1,) * (teacher_logits.ndim - weights.ndim))
    # Chosen, not multiplied by 0: what an absent teacher says may be anything.
    target = jnp.where(own > 0, own * teacher_logits, 0).sum(0)
    form = losses.kl_divergence if kind == "single" else losses.bernoulli_kl
    return temperature**2 * form(target / temperature, logits / temperature)


def make_distillation(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teachers: tuple[str, ...] = (),
    weight: float = LAMBDA,
    temperature: float = TAU,
    gamma: float = GAMMA,
    scheme: str = "weighted",
    over_heads: str = "mean",
) -> Method:
    """Makes the method by which every output learns from the outputs ``teachers`` together.

    The loss is ``weight`` (lambda) times `distillation` + (1 - ``weight``) cross-entropy, the mean over heads
    (the code) or their sum (the paper). By the ``scheme`` 'weighted' a plan puts `ensemble_weights` of ``gamma``
    into the state, {'weights': {head: [M]}}; 'equal' weighs all teachers alike; 'per_sample' takes the softmin
    of each example's own cross-entropies against its label. Absent teachers' weights are shared out
    (`shared_out`); without any teacher the labels count in full. Raises ValueError for teachers that are no
    outputs, or the only ones, and for other options that cannot be.
    """
    students = tuple(output for output in outputs if output not in teachers)
    if not teachers or not students or set(teachers) - set(outputs):
        raise ValueError(f"teachers={teachers}: name one or more of the outputs {outputs}, beside a student")
    _check(weight, temperature, scheme, over_heads)
    own_weights = _weights_of(scheme, gamma)

    def terms(results, batch, state, key):
        del key
        group, own = batch["main"], results["main", "train"]
        present, there = (terms_lib.presence(names, group) for names in (students, teachers))
        parts = []
        for head, asked in zip(heads, terms_lib.answers(own, group, students, heads)):
            taught = terms_lib.Answers(terms_lib.stack(own, teachers, head), asked.label, asked.kind)
            shares = shared_out(own_weights(state, head, taught, there), there)
            # Each student learns from the same sum: mapped over students, not over teachers.
            form = functools.partial(distillation, temperature=temperature, kind=asked.kind)
            soft = jax.vmap(form, in_axes=(None, 0, None))(taught.logits, asked.logits, shares)
            hard, has = terms_lib.cross_entropy(*asked), terms_lib.for_each_network(shares.sum(0) > 0, len(soft))
            # Without a teacher the labels count in full, not 1 - lambda of them.
            ce, kl = jnp.where(has, 1 - weight, 1) * hard, jnp.where(has, weight * soft, 0)
            parts.append({"ce": ce, "distill": kl})
        ones = jnp.ones(len(students))
        return {
            name: Term(students, _over_heads([part[name] for part in parts], over_heads), present, ones)
            for name in ("ce", "distill")
        }

    def init():
        alike = np.full(len(teachers), 1 / len(teachers), np.float32)
        return {} if scheme == "per_sample" else {"weights": dict.fromkeys(heads, alike)}

    return Method(
        terms,
        passes=TAUGHT,
        init=init,
        symmetric=False,
        reason="some outputs are teachers",
        teachers=tuple(teachers),
    )


def _check(weight: float, temperature: float, scheme: str, over_heads: str) -> None:
    """Raises ValueError for an option that cannot be."""
    terms_lib.check_temperature(temperature)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight={weight}: lambda is a number from 0 (labels alone) to 1 (teachers alone)")
    for name, value, known in (("scheme", scheme, SCHEMES), ("over_heads", over_heads, OVER_HEADS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known}")


def _weights_of(scheme: str, gamma: float) -> Callable:
    """Returns weights(state, head, teachers' Answers, present [M, B]) -> [M], or [M, B] 'per_sample'."""
    ensemble_weights(np.zeros(1), gamma=gamma)  # for its error alone

    def per_sample(state, head, taught, present):
        return ensemble_weights(jnp.where(present, terms_lib.cross_entropy(*taught), jnp.inf), gamma=gamma)

    # 'equal' is the state as it begins.
    return per_sample if scheme == "per_sample" else lambda state, head, taught, present: state["weights"][head]


def _over_heads(values: list[jax.Array], how: str) -> jax.Array:
    return terms_lib.mean_over_heads(values) if how == "mean" else sum(values)
