"""Mutual Modality Learning (Komkov et al.): each network also learns from its peers' predictions.

Equations 1 to 4: L_i = CE(l_i, y) + KL(sg(target_i) || p_i), temperature 1, weight 1.
"""

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Term
from mmvid.streams import Head

# The first of each is the default.
AVERAGES = ("prob", "logit")
FORMS = ("softmax", "bernoulli")


def _peers(present: jax.Array) -> jax.Array:
    """Says who teaches whom: present [M, ..] -> bool [M, M, .., 1].

    Entry (i, j) is True if member j teaches member i: if j is present and not i itself.
    """
    count = len(present)
    others = (~jnp.eye(count, dtype=bool)).reshape(count, count, *(1,) * (present.ndim - 1))
    return (others & present[None])[..., None]


def _peer_mean(values: jax.Array, present: jax.Array) -> jax.Array:
    """Averages over each member's present peers: [M, .., K] -> [M, .., K], its own value left out.

    It is written as a masked sum over all pairs, not as total minus own: the difference would lose the
    digits of a small peer beside a large own value.
    """
    peers = _peers(present)
    # where, not a product: an absent member's values may be anything, and inf times 0 is NaN.
    total = jnp.where(peers, values[None], 0).sum(1)
    return total / jnp.maximum(peers.astype(values.dtype).sum(1), 1)


def _target_logits(logits: jax.Array, present: jax.Array, average: str, form: str) -> jax.Array:
    """Returns logits [M, .., K] whose softmax (or sigmoid) is the mean of the peers.

    That is the mean of their probabilities (``average`` 'prob') or of their logits ('logit').
    """
    # The released code's target, softmax(mean of the peers' logits); equation 4 averages probabilities.
    if average == "logit":
        return _peer_mean(logits, present)
    if form == "softmax":
        return _log_mean_softmax(logits, present)
    # log(p / (1 - p)) of the mean, from the log means of both outcomes: finite at logits of 50.
    inside = _log_mean_sigmoid(logits, present)
    return inside - _log_mean_sigmoid(-logits, present)


def _log_mean_softmax(logits: jax.Array, present: jax.Array) -> jax.Array:
    """Returns the log of the present peers' mean softmax: [M, .., K] -> [M, .., K]."""
    log_probs, peers = jax.nn.log_softmax(logits), _peers(present)
    # -inf leaves a peer out of the mean; where nobody is left any target does (masked later).
    masked = jnp.where(peers, log_probs[None], -jnp.inf)
    some = peers.any(1)
    mean = jax.nn.logsumexp(jnp.where(some[:, None], masked, log_probs[None]), axis=1)
    return mean - jnp.log(jnp.maximum(peers.sum(1), 1)).astype(logits.dtype)


def _log_mean_sigmoid(logits: jax.Array, present: jax.Array) -> jax.Array:
    """Returns the log of the present peers' mean sigmoid: [M, .., K] -> [M, .., K]."""
    log_p = jax.nn.log_sigmoid(logits)
    # As logsumexp does: with the peak taken out, exp of very negative numbers does not lose them all to 0.
    peak = jax.lax.stop_gradient(log_p.max(0, keepdims=True))
    mean = _peer_mean(jnp.exp(log_p - peak), present)
    return jnp.log(jnp.maximum(mean, jnp.finfo(logits.dtype).tiny)) + peak


def mutual(
    logits: jax.Array,
    *,
    average: str = AVERAGES[0],
    form: str = FORMS[0],
    per_class: bool = False,
    present: jax.Array | None = None,
) -> jax.Array:
    """Computes the KL part of MML, KL(sg(mean of the peers) || own): logits [M, .., K] -> [M, ..].

    ``average`` 'prob' is the paper's equation 4, 'logit' its code; the two are equal for M=2. ``form``
    'bernoulli' takes sigmoids and the mean over classes; ``per_class`` divides the softmax KL by K
    (Charades). A member that is not ``present`` [M, ..] teaches nobody and gets 0. Raises ValueError
    for fewer than two members or unknown options.
    """
    if logits.ndim < 2 or logits.shape[0] < 2:
        raise ValueError(f"mutual learning needs logits [M >= 2, .., K], got {logits.shape}")
    if average not in AVERAGES or form not in FORMS:
        raise ValueError(f"average={average!r}, form={form!r}: choose from {AVERAGES}, {FORMS}")
    if present is None:
        present = jnp.ones(logits.shape[:-1], bool)
    # Gradient flows through the learner alone (the code detaches the peers); else the method would be another.
    target = jax.lax.stop_gradient(_target_logits(logits, present, average, form))
    if form == "bernoulli":
        values = losses.bernoulli_kl(target, logits)
    else:
        values = losses.kl_divergence(target, logits)
        values = values / logits.shape[-1] if per_class else values
    # Whoever is alone in an example has no target.
    taught = present & (present.sum(0, keepdims=True) > 1)
    return jnp.where(taught, values, 0)


def make(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    average: str = AVERAGES[0],
    multilabel_form: str = FORMS[0],
) -> Method:
    """Makes MML, CE plus mutual KL, for two or more outputs of one modality or of several.

    ``average`` is `mutual`'s. ``multilabel_form`` is the KL of heads of kind 'multi': 'softmax' (KL / K,
    the paper's appendix 2) or 'bernoulli'. Raises ValueError for fewer than two outputs or an unknown
    option.
    """
    if len(outputs) < 2:
        raise ValueError(f"mml needs at least two outputs that teach each other, got {outputs}")
    if average not in AVERAGES or multilabel_form not in FORMS:
        raise ValueError(
            f"average={average!r}, multilabel_form={multilabel_form!r}: choose from {AVERAGES}, {FORMS}"
        )

    forms = {"single": "softmax", "multi": multilabel_form}

    def terms(results, batch, state, key):
        del state, key
        group, own = batch["main"], results["main", "train"]
        present = terms_lib.presence(outputs, group)
        parts = [
            mutual(logits, average=average, form=forms[kind], per_class=kind == "multi", present=present)
            for logits, _, kind in terms_lib.answers(own, group, outputs, heads)
        ]
        kl = terms_lib.mean_over_heads(parts)
        # Equations 1 to 4 as two terms, so that the report shows CE and KL apart; their sum is L_i.
        return {
            "ce": terms_lib.task_term(own, group, outputs, heads),
            "kl": Term(outputs, kl, present, jnp.ones(len(outputs))),
        }

    return Method(terms)
