"""Multiple choice learning: the network that is best on an example, its winner, is treated differently.

In DMCL (Garcia et al., algorithm 1 and the released code) the winner teaches the losers; in SMCL only
the winners learn; in CMCL the losers learn to be unsure. The random teacher, with which DMCL is
compared, is DMCL with a winner drawn by lot.

Each method is written once, as ``METHOD_parts`` over all heads. ``METHOD`` adds these parts up for
plain logits of one head, and ``make_METHOD`` hands them to the step as terms.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Term
from mmvid.methods.terms import Answers
from mmvid.methods.winners import check_k, winners
from mmvid.streams import Head

Names = tuple[str, ...]
Heads = dict[str, Head]
VERSIONS = (0, 1)
# The options' defaults: those of DMCL's released code, then CMCL's.
TEMPERATURE, ALPHA_GT, ALPHA_DISTILL = 2.0, 1.0, 1.0
BETA, K, VERSION = 0.75, 1, 0
_LEAST_PROB = 1e-10  # CMCL's code clips probabilities here


class Outcome(NamedTuple):
    """What a method says of M networks: the named ``parts`` of each one's loss, {name: [M, ..]}, and
    which examples each one wins, ``winner`` bool [M, ..]."""

    parts: dict[str, Array]
    winner: Array


def _total(outcome: Outcome, present: Array | None) -> Array:
    """Adds the parts up, [M, ..]; absent members get 0."""
    values = sum(outcome.parts.values())
    return values if present is None else jnp.where(present, values, 0)


def _cross_entropy(heads: Sequence[Answers]) -> Array:
    """Returns each network's cross-entropy [M, ..], the mean over heads, which decides who wins."""
    return terms_lib.mean_over_heads([terms_lib.cross_entropy(*head) for head in heads])


def dmcl(
    logits: Array,
    label: Array,
    *,
    kind: str = "single",
    temperature: float = TEMPERATURE,
    alpha_gt: float = ALPHA_GT,
    alpha_distill: float = ALPHA_DISTILL,
    key: Array | None = None,
    present: Array | None = None,
) -> Array:
    """Computes DMCL's losses: logits [M, .., K], label [..] -> [M, ..].

    The winner's loss is its cross-entropy; a loser's is ``alpha_gt`` CE + ``alpha_distill`` T^2
    H(sg(softmax(winner / T)), softmax(own / T)). The defaults are those of the released code; the
    paper's equation 3 is (alpha_gt, alpha_distill) = (1 - lambda, lambda / T^2). Absent members get 0.
    ``kind`` 'multi' takes multi-hot labels [.., K] and sigmoids, here and below.
    """
    options = dict(temperature=temperature, alpha_gt=alpha_gt, alpha_distill=alpha_distill)
    return _total(dmcl_parts([Answers(logits, label, kind)], **options, key=key, present=present), present)


def dmcl_parts(heads: Sequence[Answers], *, key, present, **options) -> Outcome:
    """Computes ``dmcl`` over several heads; who has the least mean of their cross-entropies wins."""
    # At temperature 1 whatever the distillation's is, as in the released code.
    cross_entropy = _cross_entropy(heads)
    winner = winners(cross_entropy, key=key, present=present)
    return _taught_by(winner, heads, cross_entropy, **options)


def random_teacher(
    logits: Array, label: Array, *, key: Array, kind: str = "single", present: Array | None = None, **options
) -> Array:
    """Computes ``dmcl``, with its options, for a winner drawn by lot in every example (DMCL's table 2)."""
    outcome = random_teacher_parts([Answers(logits, label, kind)], **options, key=key, present=present)
    return _total(outcome, present)


def random_teacher_parts(heads: Sequence[Answers], *, key, present, **options) -> Outcome:
    """Computes ``random_teacher`` over several heads."""
    cross_entropy = _cross_entropy(heads)
    # All equal: ties are broken by the key, and only among those present.
    winner = winners(jnp.zeros_like(cross_entropy), key=key, present=present)
    return _taught_by(winner, heads, cross_entropy, **options)


def _taught_by(
    winner, heads, cross_entropy, *, temperature=TEMPERATURE, alpha_gt=ALPHA_GT, alpha_distill=ALPHA_DISTILL
) -> Outcome:
    """Computes the losses of networks that learn from each example's ``winner``, however it was chosen."""
    soft = terms_lib.mean_over_heads([_distilled(head, winner, temperature) for head in heads])
    # In the code losers keep the full cross-entropy (alpha_gt = 1); the paper weighs it 1 - lambda.
    hard = jnp.where(winner, 1, alpha_gt) * cross_entropy
    return Outcome({"ce": hard, "distill": alpha_distill * soft}, winner)


def _distilled(head: Answers, winner: Array, temperature: float) -> Array:
    """Returns T^2 H(sg(winner / T), own / T) for the losers and 0 for the winner: [M, ..]."""
    # One winner an example, so the sum picks its logits; where nobody is present it is 0, and masked later.
    target = jnp.where(winner[..., None], head.logits, 0).sum(0)
    soft = terms_lib.soft_cross_entropy(target / temperature, head.logits / temperature, head.kind)
    return jnp.where(winner, 0, temperature**2 * soft)


def smcl(
    logits: Array,
    label: Array,
    *,
    kind: str = "single",
    k: int = K,
    key: Array | None = None,
    present: Array | None = None,
) -> Array:
    """Computes SMCL's losses: the ``k`` winners' cross-entropy, 0 for the losers: [M, .., K] -> [M, ..]."""
    return _total(smcl_parts([Answers(logits, label, kind)], k=k, key=key, present=present), present)


def smcl_parts(heads: Sequence[Answers], *, k: int, key, present) -> Outcome:
    """Computes ``smcl`` over several heads; those of the least mean of their cross-entropies win."""
    cross_entropy = _cross_entropy(heads)
    winner = winners(cross_entropy, k=k, key=key, present=present)
    return Outcome({"ce": jnp.where(winner, cross_entropy, 0)}, winner)


def cmcl(
    logits: Array,
    label: Array,
    *,
    kind: str = "single",
    beta: float = BETA,
    k: int = K,
    version: int = VERSION,
    key: Array | None = None,
    present: Array | None = None,
) -> Array:
    """Computes CMCL's losses (Lee et al. 2017, and its code): logits [M, .., K] -> [M, ..].

    The ``k`` members of least CE plus ``beta`` times the others' penalties win; a winner's loss is its
    CE, a loser's ``beta`` times its penalty. The penalty of ``version`` 0 is KL(uniform || own), that of
    1 the CE with a label drawn by lot for every member and example. Raises ValueError for another
    version, and for 1 without a ``key`` or with multi-label heads.
    """
    heads, options = [Answers(logits, label, kind)], dict(beta=beta, k=k, version=version)
    return _total(cmcl_parts(heads, **options, key=key, present=present), present)


def cmcl_parts(heads: Sequence[Answers], *, beta: float, k: int, version: int, key, present) -> Outcome:
    """Computes ``cmcl`` over several heads; cross-entropy and penalty are means over them."""
    _check_version(version, {head.kind for head in heads})
    if version == 1 and key is None:
        raise ValueError("cmcl version=1 draws labels and needs a key")
    ties, draw = (None, None) if key is None else jax.random.split(key)
    cross_entropy = _cross_entropy(heads)
    unsure = terms_lib.mean_over_heads([uncertainty(head.logits, head.kind) for head in heads])
    # CMCL's criterion, ce_m + beta * sum over n != m of u_n: who wins is spared its own penalty, but all the
    # others then pay theirs. The absent pay nothing.
    asked = unsure if present is None else jnp.where(present, unsure, 0)
    criterion = cross_entropy + beta * (asked.sum(0, keepdims=True) - asked)
    winner = winners(criterion, k=k, key=ties, present=present)
    # Both versions choose winners by the KL; version 1 only replaces what the losers then learn.
    penalty = unsure
    if version == 1:
        penalty = terms_lib.mean_over_heads([_random_labels(head.logits, draw) for head in heads])
    hard, soft = jnp.where(winner, cross_entropy, 0), jnp.where(winner, 0, beta * penalty)
    return Outcome({"ce": hard, "confidence": soft}, winner)


def _check_version(version: int, kinds: Collection[str]) -> None:
    if version not in VERSIONS or (version == 1 and "multi" in kinds):
        raise ValueError(
            f"cmcl version={version!r}: choose one of {VERSIONS}; 1 draws single labels and cannot "
            "train multi-label heads"
        )


def uncertainty(logits: Array, kind: str = "single") -> Array:
    """Computes KL(uniform || softmax(logits)), CMCL's penalty on a loser: [.., K] -> [..].

    ``kind`` 'multi' takes the mean over classes of KL(fair coin || sigmoid) instead. Probabilities are
    clipped at 1e-10 as in CMCL's code.
    """
    if kind == "multi":
        pair = jnp.stack([jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)], -1)
        return -(jnp.maximum(pair, jnp.log(_LEAST_PROB)) + jnp.log(2.0)).mean((-1, -2))
    # In this direction: KL(softmax || uniform) is never above log K, however sure the loser is.
    log_probs = jnp.maximum(jax.nn.log_softmax(logits), jnp.log(_LEAST_PROB))
    return -log_probs.mean(-1) - jnp.log(logits.shape[-1])


def _random_labels(logits: Array, key: Array) -> Array:
    """Computes the cross-entropy with uniformly random labels, one for every member and example."""
    label = jax.random.randint(key, logits.shape[:-1], 0, logits.shape[-1])
    return losses.softmax_cross_entropy(logits, label)


# ---------------------------------------------------------------------------- as methods
def _method(outputs: Names, heads: Heads, losses_of: Callable, **claims) -> Method:
    """Makes the method whose terms are the parts of ``losses_of(heads, key=, present=)`` and a 'win'."""

    def terms(results, batch, state, key):
        del state
        group = batch["main"]
        asked = terms_lib.answers(results["main", "train"], group, outputs, heads)
        present = terms_lib.presence(outputs, group)
        parts, winner = losses_of(asked, key=key, present=present)
        ones = jnp.ones(len(outputs))
        found = {name: Term(outputs, values, present, ones) for name, values in parts.items()}
        return found | {"win": _wins(outputs, winner, present)}

    return Method(terms, **claims)


def _wins(outputs: Names, winner: Array, present: Array) -> Term:
    """Makes a term of weight 0 whose mean is the share of examples that an output wins, for the report.

    The share is of the examples in which any output is present.
    """
    somebody = jnp.broadcast_to(present.any(0), winner.shape)
    return Term(outputs, winner.astype(jnp.float32), somebody, jnp.zeros(len(outputs)))


def make_dmcl(
    outputs: Names,
    heads: Heads,
    *,
    temperature: float = TEMPERATURE,
    alpha_gt: float = ALPHA_GT,
    alpha_distill: float = ALPHA_DISTILL,
) -> Method:
    """Makes DMCL of `dmcl`'s options. Raises ValueError for a temperature that is not positive."""
    terms_lib.check_temperature(temperature)
    options = dict(temperature=temperature, alpha_gt=alpha_gt, alpha_distill=alpha_distill)
    return _method(outputs, heads, functools.partial(dmcl_parts, **options))


def make_random_teacher(
    outputs: Names,
    heads: Heads,
    *,
    temperature: float = TEMPERATURE,
    alpha_gt: float = ALPHA_GT,
    alpha_distill: float = ALPHA_DISTILL,
) -> Method:
    """Makes DMCL with a teacher drawn by lot. Raises ValueError as ``make_dmcl`` does."""
    terms_lib.check_temperature(temperature)
    options = dict(temperature=temperature, alpha_gt=alpha_gt, alpha_distill=alpha_distill)
    losses_of = functools.partial(random_teacher_parts, **options)
    return _method(outputs, heads, losses_of, symmetric=False, reason="who teaches is drawn by lot")


def make_smcl(outputs: Names, heads: Heads, *, k: int = K) -> Method:
    """Makes SMCL with ``k`` winners in each example. Raises ValueError for more winners than outputs."""
    check_k(k, len(outputs))
    return _method(outputs, heads, functools.partial(smcl_parts, k=k))


def make_cmcl(outputs: Names, heads: Heads, *, beta: float = BETA, k: int = K, version: int = VERSION) -> Method:
    """Makes CMCL of `cmcl`'s options. Raises ValueError for an unknown version, for version 1 with a
    multi-label head, and for more winners than outputs."""
    check_k(k, len(outputs))
    _check_version(version, {spec.kind for spec in heads.values()})
    losses_of = functools.partial(cmcl_parts, beta=beta, k=k, version=version)
    claims = dict(symmetric=False, reason="the losers' labels are drawn by lot") if version == 1 else {}
    return _method(outputs, heads, losses_of, **claims)
