"""Students that imitate one trained teacher: MARS its features, D3D its logits, KD its probabilities.

MML (Komkov et al.) compares with all three (tables 2 and 6). MARS is Crasto et al. 2019, D3D Stroud et al. 2020,
KD Hinton et al. 2015. Who teaches whom is the configuration's: flow may teach RGB, and RGB flow.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import TAUGHT, Method, Term
from mmvid.streams import Head

# The options' defaults: MARS's code, D3D's paper.
FEATURE_STRENGTH, LOGIT_STRENGTH, TEMPERATURE = 50.0, 1.0, 1.0
# What MARS imitates: what the classifier reads (its code), or the map before pooling (MML's text).
FEATURES = ("pooled", "map")
# What D3D makes of its squares over the classes, which neither it nor MML says.
REDUCE = ("mean", "sum")


def mars(features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """Computes MARS's imitation, the mean of (own - teacher's)^2 over all values of a clip: [B, ..] twice -> [B].

    No gradient reaches the teacher. Raises ValueError where the two have other shapes.
    """
    _check_alike(features, teacher_features)
    return _squares(features, teacher_features).reshape(len(features), -1).mean(-1)


def d3d(logits: jax.Array, teacher_logits: jax.Array, *, reduce: str = REDUCE[0]) -> jax.Array:
    """Computes D3D's imitation, (own logit - teacher's)^2, the 'mean' or the 'sum' over classes as ``reduce``
    says: [.., K] twice -> [..].

    No gradient reaches the teacher. Raises ValueError where the two have other shapes, and for another ``reduce``.
    """
    _check_alike(logits, teacher_logits)
    if reduce not in REDUCE:
        raise ValueError(f"reduce={reduce!r} is unknown; choose one of {REDUCE}")
    squares = _squares(logits, teacher_logits)
    return squares.mean(-1) if reduce == "mean" else squares.sum(-1)


def kd(logits: jax.Array, teacher_logits: jax.Array, *, temperature: float = TEMPERATURE) -> jax.Array:
    """Computes T^2 KL(softmax(teacher / T) || softmax(own / T)): [.., K] twice -> [..]. No gradient reaches the
    teacher."""
    return temperature**2 * losses.kl_divergence(teacher_logits, logits, temperature=temperature)


def _squares(own: jax.Array, target: jax.Array) -> jax.Array:
    return (own - jax.lax.stop_gradient(target)) ** 2


def _check_alike(own: jax.Array, target: jax.Array) -> None:
    if own.shape != target.shape:
        raise ValueError(
            f"a teacher's {target.shape} cannot be imitated by {own.shape}: give both networks one model and width"
        )


def _share(head: Head) -> float:
    """What is left of a loss beside a head's own: of several labels that is a mean over the classes, so that the
    other one is divided by their number as well (MML, appendix 2)."""
    return 1 / head.classes if head.kind == "multi" else 1.0


def _make(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    teacher: str,
    strength: float,
    name: str,
    imitation: Callable,
) -> Method:
    """Makes CE + ``strength`` times the term ``name``: ``imitation(results, student)`` -> [B].

    Where the teacher is absent, students learn from the labels alone.
    """
    students = terms_lib.students_of(outputs, teacher)
    if not 0 <= strength < float("inf"):
        raise ValueError(f"strength={strength}: the weight of what is imitated is a number of 0 or more")

    def terms(results, batch, state, key):
        del state, key
        group, own = batch["main"], results["main", "train"]
        present = terms_lib.presence(students, group)
        there = present & terms_lib.presence((teacher,), group)
        values = jnp.stack([imitation(own, student) for student in students])
        return {
            "ce": terms_lib.task_term(own, group, students, heads),
            # In the values: without its teacher a clip still counts in the student's mean.
            name: Term(students, jnp.where(there, values, 0.0), present, jnp.full(len(students), strength)),
        }

    return Method(
        terms,
        passes=TAUGHT,
        symmetric=False,
        reason="one output is the teacher",
        teachers=(teacher,),
    )


def make_mars(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teacher: str = "",
    strength: float = FEATURE_STRENGTH,
    feature: str = "pooled",
) -> Method:
    """Makes MARS: CE + ``strength`` times `mars` of the features of the output ``teacher``.

    The ``feature`` 'pooled' is what the classifier reads, of a network that classifies every frame one a frame;
    'map' is the last map before pooling. In heads of several labels the loss is divided by their classes (MML,
    appendix 2). Raises ValueError for a teacher that is no output or the only one, for other options that cannot
    be, and for features of different shapes.
    """
    if feature not in FEATURES:
        raise ValueError(f"feature={feature!r} is unknown; choose one of {FEATURES}")
    # A feature knows no heads: it is divided as the mean over them would be.
    share = terms_lib.mean_over_heads([_share(head) for head in heads.values()])

    def imitation(own, student):
        return share * mars(*(_feature(own, name, feature) for name in (student, teacher)))

    return _make(outputs, heads, teacher, strength, "mars", imitation)


def _feature(results: dict, output: str, feature: str) -> jax.Array:
    result = results[output]
    if feature == "map" and "map" not in result:
        raise ValueError(f"the output {output!r} has no map: take --config.method.mars.feature=pooled")
    # Of networks that classify every frame, 'frames' are the pooled features one by one.
    return result["map"] if feature == "map" else result.get("frames", result["features"])


def make_d3d(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teacher: str = "",
    strength: float = LOGIT_STRENGTH,
    reduce: str = REDUCE[0],
) -> Method:
    """Makes D3D: CE + ``strength`` times `d3d` of the logits of the output ``teacher``.

    It is averaged over the heads; in heads of several labels it is divided by their classes, once more where it is
    a mean (MML, appendix 2). Raises ValueError as `make_mars` does.
    """
    if reduce not in REDUCE:
        raise ValueError(f"reduce={reduce!r} is unknown; choose one of {REDUCE}")
    form = functools.partial(d3d, reduce=reduce)

    def imitation(own, student):
        return _over_heads(form, own, heads, student, teacher)

    return _make(outputs, heads, teacher, strength, "d3d", imitation)


def make_kd(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    teacher: str = "",
    strength: float = 1.0,
    temperature: float = TEMPERATURE,
) -> Method:
    """Makes KD: CE + ``strength`` times `kd` of the logits of the output ``teacher``.

    It is averaged over the heads; in heads of several labels the KL is divided by their classes, as MML's own is.
    Generalised distillation (`distill`) takes weight from the labels in exchange, KD leaves them theirs. Raises
    ValueError as `make_mars` does, and for a temperature that is not above 0.
    """
    terms_lib.check_temperature(temperature)
    form = functools.partial(kd, temperature=temperature)

    def imitation(own, student):
        return _over_heads(form, own, heads, student, teacher)

    return _make(outputs, heads, teacher, strength, "kd", imitation)


def _over_heads(form: Callable, results: dict, heads: dict[str, Head], student: str, teacher: str) -> jax.Array:
    """The mean over heads of what ``form`` (own logits, teacher's) makes of each."""
    own, target = results[student]["logits"], results[teacher]["logits"]
    values = [_share(spec) * form(own[head], target[head]) for head, spec in heads.items()]
    return terms_lib.mean_over_heads(values)
