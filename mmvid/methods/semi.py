"""Learning from few labels: what is predicted with confidence on a weak view is the label of the strong one.

FixMatch (Sohn et al. 2020): every network labels its own clips. CMPL (Xu et al. 2022): a primary network and an
auxiliary one, which sees the clip otherwise, label each other's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass, Term
from mmvid.streams import Head

# The groups that a segment must have, and their views.
LABELLED, UNLABELLED = "labelled", "unlabelled"
TRAIN, WEAK, STRONG = "train", "weak", "strong"
# The options' defaults: CMPL's recipe for 1 % of the labels (its lambda is 5 there, 2 for 10 %).
THRESHOLD, STRENGTH = 0.9, 5.0
SCHEMES = ("cross", "self_first", "opposite_first", "maximum", "average")
# What the auxiliary network learns from (CMPL, table 6). Of its 'none', FixMatch is the row.
AUXILIARY = ("both", "supervised", "unsupervised")
# Whose predictions are labels: those of the weights as they are, or of their moving average.
TEACHERS = ("own", "ema")


# ---------------------------------------------------------------------------- labels
def pseudo_label(
    own: jax.Array, other: jax.Array, *, scheme: str = "cross", threshold: float = THRESHOLD
) -> tuple[jax.Array, jax.Array]:
    """Makes the labels of a network from its ``own`` and its partner's (``other``) probabilities [.., K] of the
    weak views: (int [..], whether they are confident, bool [..]).

    The ``scheme`` (CMPL, appendix A) chooses the probabilities c that count: 'cross' the partner's; 'self_first'
    its own where they reach the ``threshold``, else the partner's; 'opposite_first' the other way round; 'maximum'
    those with the larger maximum, its own where they are equal; 'average' the mean of both. The label is the
    most probable class, the first of equal ones, and it is confident where its probability is ``threshold`` or
    more. No gradient reaches the probabilities. Raises ValueError for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r} is unknown; choose one of {SCHEMES}")
    own, other = jax.lax.stop_gradient(own), jax.lax.stop_gradient(other)
    most, others = own.max(-1, keepdims=True), other.max(-1, keepdims=True)
    if scheme == "average":
        chosen = (own + other) / 2
    else:
        mine = {
            "cross": False,
            "self_first": most >= threshold,
            "opposite_first": others < threshold,
            "maximum": most >= others,
        }[scheme]
        chosen = jnp.where(mine, own, other)
    return chosen.argmax(-1), chosen.max(-1) >= threshold


def _fixmatch_labels(weak: jax.Array, threshold: float) -> tuple[jax.Array, jax.Array]:
    """The labels of networks that learn from themselves: [M, B, K] -> ([M, B], [M, B])."""
    return pseudo_label(weak, weak, threshold=threshold)


def _cmpl_labels(weak: jax.Array, threshold: float, scheme: str) -> tuple[jax.Array, jax.Array]:
    """The labels of (primary, auxiliary): [2, B, K] -> ([2, B], [2, B])."""
    primary = pseudo_label(*weak, scheme=scheme, threshold=threshold)
    # One label for both: where maxima are equal, it is the primary's.
    shared = scheme in ("maximum", "average")
    auxiliary = primary if shared else pseudo_label(*weak[::-1], scheme=scheme, threshold=threshold)
    return tuple(jnp.stack(pair) for pair in zip(primary, auxiliary))


# ---------------------------------------------------------------------------- terms
def _of_heads(results: dict, outputs: tuple[str, ...], view: str, heads: dict[str, Head]) -> dict[str, jax.Array]:
    """{head: logits [M, B, K]} of a view of the unlabelled clips."""
    return {head: terms_lib.stack(results[UNLABELLED, view], outputs, head) for head in heads}


def _learnt(strong: jax.Array, label: jax.Array, confident: jax.Array) -> jax.Array:
    """Computes 1[confident] CE(strong, label): [M, B, K], [M, B] twice -> [M, B]."""
    # In the values, not in the mask: the mean stays over all unlabelled clips.
    return jnp.where(confident, losses.softmax_cross_entropy(strong, label), 0.0)


def _followed(weak: dict[str, jax.Array], audit: dict, threshold: float, *, partners: bool) -> dict:
    """Says how good labels the outputs' own predictions on the weak view are: {head: [M, B, K]} -> {name: [M, B]}.

    'confident': the prediction is confident; with the hidden labels ``audit`` {head: [B]}, 'right': it is
    confident and right, and, of two ``partners``, 'beside': the other one is confident, and this one is right.
    All are averaged over the heads that have labels.
    """
    sure = {head: weak[head].max(-1) >= threshold for head in weak}
    found = {"confident": terms_lib.mean_over_heads([jnp.float32(s) for s in sure.values()])}
    if not audit:
        return found
    right = {head: weak[head].argmax(-1) == label[None] for head, label in audit.items()}
    both = {"right": [sure[head] & right[head] for head in audit]}
    if partners:
        both["beside"] = [sure[head][::-1] & right[head] for head in audit]
    return found | {name: terms_lib.mean_over_heads([jnp.float32(x) for x in own]) for name, own in both.items()}


def _make(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    labels: Callable,
    *,
    threshold: float,
    strength: float,
    teacher: str,
    weights: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    partners: bool = False,
) -> Method:
    """Makes the method of ``labels`` (weak probabilities [M, B, K]) -> (labels, confident), [M, B] each.

    ``weights`` are those of the labelled and of the unlabelled loss, one an output; None are ones. Of
    ``partners`` a clip teaches none where it lacks what one of them reads.
    """
    _check(heads, threshold, strength, teacher)
    supervised, unsupervised = weights or ((1.0,) * len(outputs),) * 2

    def terms(results, batch, state, key):
        del state, key
        group = batch[UNLABELLED]
        strong = _of_heads(results, outputs, STRONG, heads)
        weak = {head: jax.nn.softmax(x) for head, x in _of_heads(results, outputs, WEAK, heads).items()}
        weak = jax.lax.stop_gradient(weak)
        there = terms_lib.presence(outputs, group)
        if partners:
            there = jnp.broadcast_to(there.all(0), there.shape)
        values = terms_lib.mean_over_heads([_learnt(strong[head], *labels(weak[head])) for head in heads])
        task = terms_lib.task_term(results[LABELLED, TRAIN], batch[LABELLED], outputs, heads)
        audit = {head: label for head, label in group.get("audit", {}).items() if head in heads}
        followed = _followed(weak, audit, threshold, partners=partners)
        return {
            "ce": task._replace(weight=jnp.float32(supervised)),
            "pseudo": Term(outputs, values, there, strength * jnp.float32(unsupervised)),
            **{name: Term(outputs, own, there, jnp.zeros(len(outputs))) for name, own in followed.items()},
        }

    return Method(terms, passes=_passes(teacher))


def _passes(teacher: str) -> tuple[Pass, ...]:
    """The forwards: batch norm sees labelled, weak and strong clips together (FixMatch's code). A moving average
    looks at the weak view by itself."""
    weak = (UNLABELLED, WEAK)
    if teacher == "ema":
        return (
            Pass(((LABELLED, TRAIN), (UNLABELLED, STRONG))),
            Pass((weak,), weights="ema", train=False),
        )
    return (Pass(((LABELLED, TRAIN), weak, (UNLABELLED, STRONG))),)


def _check(heads: dict[str, Head], threshold: float, strength: float, teacher: str) -> None:
    """Raises ValueError for options that cannot be, and for heads of several labels."""
    if several := [name for name, head in heads.items() if head.kind != "single"]:
        raise ValueError(
            f"head {several[0]!r} has several labels a clip, and a pseudo-label is one class: name heads of one "
            "label, c.heads = {'verb': (20, 'single')}"
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}: the confidence of a label is a number from 0 to 1")
    if not 0 <= strength < float("inf"):
        raise ValueError(f"strength={strength}: the weight of the unlabelled loss is a number of 0 or more")
    if teacher not in TEACHERS:
        raise ValueError(f"teacher={teacher!r} is unknown; choose one of {TEACHERS}")


# ---------------------------------------------------------------------------- methods
def make_fixmatch(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    threshold: float = THRESHOLD,
    strength: float = STRENGTH,
    teacher: str = "own",
) -> Method:
    """Makes FixMatch: every output learns CE(labelled) + ``strength`` mean_i 1[max p_i >= ``threshold``]
    CE(argmax p_i, strong_i), with p its own probabilities on the weak view of the unlabelled clip i.

    The mean is over all unlabelled clips that the output can see. Of ``teacher`` 'ema' p is that of the moving
    average of the weights (--config.ema). Source: CMPL, equation 1. FixMatch itself has threshold .95 and strength
    1; the defaults are CMPL's.
    Raises ValueError for heads of several labels, and for options that cannot be.
    """

    def labels(weak):
        return _fixmatch_labels(weak, threshold)

    return _make(outputs, heads, labels, threshold=threshold, strength=strength, teacher=teacher)


def make_cmpl(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    threshold: float = THRESHOLD,
    strength: float = STRENGTH,
    scheme: str = "cross",
    auxiliary: str = "both",
    teacher: str = "own",
) -> Method:
    """Makes CMPL: as FixMatch, but of two outputs, the primary and then the auxiliary one, each learns from the
    labels that `pseudo_label` makes by the ``scheme`` of both (CMPL, equations 2 to 5).

    ``auxiliary`` says which of its losses the auxiliary output learns from (table 6): 'both', 'supervised' or
    'unsupervised' alone. Outputs of one network, which reads two streams in turn, give FixMatch with several
    frame rates (table 2). Raises ValueError without exactly two outputs, for heads of several labels, and for
    options that cannot be.
    """
    if len(outputs) != 2:
        raise ValueError(
            f"cmpl takes two outputs, the primary and the auxiliary one, and there are {len(outputs)}: "
            f"{', '.join(outputs)}. Name two networks, or one that reads two streams in turn"
        )
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r} is unknown; choose one of {SCHEMES}")
    if auxiliary not in AUXILIARY:
        raise ValueError(f"auxiliary={auxiliary!r} is unknown; choose one of {AUXILIARY}")

    def labels(weak):
        return _cmpl_labels(weak, threshold, scheme)

    weights = ((1.0, float(auxiliary != "unsupervised")), (1.0, float(auxiliary != "supervised")))
    made = _make(
        outputs, heads, labels, threshold=threshold, strength=strength, teacher=teacher, weights=weights,
        partners=True,
    )  # fmt: skip
    alike = auxiliary == "both"
    return made._replace(symmetric=alike, reason="" if alike else "the auxiliary output learns from less")
