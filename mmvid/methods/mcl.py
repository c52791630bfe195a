"""Multiple choice learning: specialists, of which the best one for each example is special.

DMCL (Garcia et al., algorithm 1 and the released code): the winner of an example teaches the
losers. SMCL: only the winners learn. CMCL: the losers learn to be unsure. And what they are compared
with: a random teacher, and generalised distillation (Lopez-Paz et al.) from teachers trained before.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Term
from mmvid.streams import Head

VERSIONS = (0, 1)
_LEAST_PROB = 1e-10  # CMCL's code clips probabilities here


# ---------------------------------------------------------------------------- who wins
def winners(
    criterion: jax.Array,
    *,
    k: int = 1,
    key: jax.Array | None = None,
    present: jax.Array | None = None,
) -> jax.Array:
    """The ``k`` members of least ``criterion`` in every example: [M, ..] -> bool [M, ..].

    Exactly min(k, present members) win; the absent never do. Ties go to the lowest index (DMCL's
    code), with a ``key`` to any of the tied alike: a network whose classifier starts at zero would
    otherwise win every first example. No gradient flows. Raises ValueError for a ``k`` outside 1..M.
    """
    if not 1 <= k <= criterion.shape[0]:
        raise ValueError(f"k={k} winners of {criterion.shape[0]} networks: choose 1 to all of them")
    if present is None:
        present = jnp.ones(criterion.shape, bool)
    value = jnp.where(present, jax.lax.stop_gradient(criterion), jnp.inf)
    order = jnp.arange(len(value)).reshape(-1, *(1,) * (value.ndim - 1))
    if key is not None:
        order = jnp.argsort(jax.random.uniform(key, value.shape), axis=0)
    # Member j stands before member i where it is better, or as good and first by lot.
    better = (value[:, None] < value[None]) | (
        (value[:, None] == value[None]) & (order[:, None] < order[None])
    )
    return present & ((better & present[:, None]).sum(0) < k)


def _of_winner(logits: jax.Array, winner: jax.Array) -> jax.Array:
    """The logits of each example's one winner: [M, .., K], [M, ..] -> [.., K]."""
    return jnp.where(winner[..., None], logits, 0).sum(0)


def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """[M, .., K] and labels [..] -> [M, ..]."""
    return losses.softmax_cross_entropy(logits, terms_lib.targets(label, len(logits)))


def _taught(logits, winner, temperature: float, kind: str = "single") -> jax.Array:
    """T^2 H(sg(winner / T), own / T) of the losers, 0 of the winner: [M, .., K] -> [M, ..]."""
    target = _of_winner(logits, winner)
    soft = terms_lib.soft_cross_entropy(target / temperature, logits / temperature, kind)
    return jnp.where(winner, 0, temperature**2 * soft)


def uncertainty(logits: jax.Array, kind: str = "single") -> jax.Array:
    """KL(uniform || softmax(logits)), or to a fair coin for each class: [.., K] -> [..].

    CMCL's penalty on whoever lost, in this direction (papers' trap 17); probabilities are clipped at
    1e-10 as in its code.
    """
    if kind == "multi":
        pair = jnp.stack([jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)], -1)
        return -(jnp.maximum(pair, jnp.log(_LEAST_PROB)) + jnp.log(2.0)).mean((-1, -2))
    log_probs = jnp.maximum(jax.nn.log_softmax(logits), jnp.log(_LEAST_PROB))
    return -log_probs.mean(-1) - jnp.log(logits.shape[-1])


# ---------------------------------------------------------------------------- the losses
def _dmcl(cross_entropy, taught, winner, alpha_gt: float, alpha_distill: float) -> tuple:
    """(hard part, soft part), [M, ..] each."""
    return jnp.where(winner, 1, alpha_gt) * cross_entropy, alpha_distill * taught


def dmcl(
    logits: jax.Array,
    label: jax.Array,
    *,
    temperature: float = 2.0,
    alpha_gt: float = 1.0,
    alpha_distill: float = 1.0,
    key: jax.Array | None = None,
    present: jax.Array | None = None,
) -> jax.Array:
    """DMCL: logits [M, .., K], label [..] -> losses [M, ..].

    The winner has its cross-entropy; a loser ``alpha_gt`` CE + ``alpha_distill`` T^2
    H(sg(softmax(winner / T)), softmax(own / T)). Defaults are the released code; the paper's equation
    3 is (alpha_gt, alpha_distill) = (1 - lambda, lambda / T^2). Absent members have 0.
    """
    cross_entropy = _cross_entropy(logits, label)
    winner = winners(cross_entropy, key=key, present=present)
    taught = _taught(logits, winner, temperature)
    values = sum(_dmcl(cross_entropy, taught, winner, alpha_gt, alpha_distill))
    return values if present is None else jnp.where(present, values, 0)


def random_teacher(
    logits: jax.Array,
    label: jax.Array,
    *,
    key: jax.Array,
    temperature: float = 2.0,
    alpha_gt: float = 1.0,
    alpha_distill: float = 1.0,
    present: jax.Array | None = None,
) -> jax.Array:
    """DMCL with a winner drawn by lot for every example (the paper's table 2): [M, ..]."""
    cross_entropy = _cross_entropy(logits, label)
    winner = winners(jnp.zeros_like(cross_entropy), key=key, present=present)
    taught = _taught(logits, winner, temperature)
    values = sum(_dmcl(cross_entropy, taught, winner, alpha_gt, alpha_distill))
    return values if present is None else jnp.where(present, values, 0)


def smcl(
    logits: jax.Array,
    label: jax.Array,
    *,
    k: int = 1,
    key: jax.Array | None = None,
    present: jax.Array | None = None,
) -> jax.Array:
    """SMCL: the ``k`` winners' cross-entropy, 0 for the losers: [M, .., K] -> [M, ..]."""
    cross_entropy = _cross_entropy(logits, label)
    return jnp.where(winners(cross_entropy, k=k, key=key, present=present), cross_entropy, 0)


def _confident(cross_entropy, unsure, beta: float, k: int, key, present):
    """CMCL's winners: least CE + beta * the others' uncertainty, which they would be asked for."""
    others = unsure if present is None else jnp.where(present, unsure, 0)
    criterion = cross_entropy + beta * (others.sum(0, keepdims=True) - others)
    return winners(criterion, k=k, key=key, present=present)


def cmcl(
    logits: jax.Array,
    label: jax.Array,
    *,
    beta: float = 0.75,
    k: int = 1,
    version: int = 0,
    key: jax.Array | None = None,
    present: jax.Array | None = None,
) -> jax.Array:
    """CMCL: winners (by CE plus the others' penalties) their CE, losers ``beta`` times a penalty.

    [M, .., K] -> [M, ..]. ``version`` 0: KL(uniform || own); 1: CE with a label drawn by lot for
    every member and example (needs a ``key``). Raises ValueError for another version.
    """
    if version not in VERSIONS or (version == 1 and key is None):
        raise ValueError(f"cmcl version={version!r}: choose one of {VERSIONS}; 1 needs a key")
    cross_entropy, unsure = _cross_entropy(logits, label), uncertainty(logits)
    ties, draw = (None, None) if key is None else jax.random.split(key)
    winner = _confident(cross_entropy, unsure, beta, k, ties, present)
    penalty = unsure if version == 0 else _random_labels(logits, draw)
    values = jnp.where(winner, cross_entropy, beta * penalty)
    return values if present is None else jnp.where(present, values, 0)


def _random_labels(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Cross-entropy with uniformly random labels, one for every member and example."""
    label = jax.random.randint(key, logits.shape[:-1], 0, logits.shape[-1])
    return losses.softmax_cross_entropy(logits, label)


# ---------------------------------------------------------------------------- the methods
def _wins(outputs, winner, present) -> Term:
    """The share of examples that each output wins, as a term of no weight: a curve of the report."""
    somebody = jnp.broadcast_to(present.any(0), winner.shape)
    return Term(outputs, winner.astype(jnp.float32), somebody, jnp.zeros(len(outputs)))


def _taught_by(outputs, heads, choose: Callable, temperature, alpha_gt, alpha_distill) -> Method:
    """DMCL's terms, whoever ``choose(cross_entropy, key, present)`` makes the teacher."""

    def terms(results, batch, state, key):
        del state
        group, own = batch["main"], results["main", "train"]
        task = terms_lib.task_term(own, group, outputs, heads)
        winner = choose(task.values, key, task.mask)
        taught = terms_lib.mean([
            _taught(terms_lib.stack(own, outputs, head), winner, temperature, spec.kind)
            for head, spec in heads.items()
        ])
        hard, soft = _dmcl(task.values, taught, winner, alpha_gt, alpha_distill)
        ones = jnp.ones(len(outputs))
        return {
            "ce": Term(outputs, hard, task.mask, ones),
            "distill": Term(outputs, soft, task.mask, ones),
            "win": _wins(outputs, winner, task.mask),
        }  # fmt: skip

    return Method(terms)


def make_dmcl(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    temperature: float = 2.0,
    alpha_gt: float = 1.0,
    alpha_distill: float = 1.0,
) -> Method:
    """DMCL; the winner has the least mean over heads of the train-mode cross-entropy.

    Raises ValueError for a temperature that is not positive.
    """
    terms_lib.check_temperature(temperature)

    def best(cross_entropy, key, present):
        return winners(cross_entropy, key=key, present=present)

    return _taught_by(outputs, heads, best, temperature, alpha_gt, alpha_distill)


def make_random_teacher(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    temperature: float = 2.0,
    alpha_gt: float = 1.0,
    alpha_distill: float = 1.0,
) -> Method:
    """DMCL with a teacher drawn by lot. Raises ValueError as ``make_dmcl``."""
    terms_lib.check_temperature(temperature)

    def anyone(cross_entropy, key, present):
        return winners(jnp.zeros_like(cross_entropy), key=key, present=present)

    made = _taught_by(outputs, heads, anyone, temperature, alpha_gt, alpha_distill)
    return made._replace(symmetric=False, reason="who teaches is drawn by lot")


def make_smcl(outputs: tuple[str, ...], heads: dict[str, Head], *, k: int = 1) -> Method:
    """SMCL with ``k`` winners an example. Raises ValueError for more winners than outputs."""
    winners(jnp.zeros((len(outputs), 1)), k=k)

    def terms(results, batch, state, key):
        del state
        group = batch["main"]
        task = terms_lib.task_term(results["main", "train"], group, outputs, heads)
        winner = winners(task.values, k=k, key=key, present=task.mask)
        own = task._replace(values=jnp.where(winner, task.values, 0))
        return {"ce": own, "win": _wins(outputs, winner, task.mask)}

    return Method(terms)


def make_cmcl(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    beta: float = 0.75,
    k: int = 1,
    version: int = 0,
) -> Method:
    """CMCL, version 0 or 1 (see ``cmcl``); criterion and penalty are means over the heads.

    Raises ValueError for unknown versions, version 1 with a multi-label head, too many winners.
    """
    winners(jnp.zeros((len(outputs), 1)), k=k)
    multi = [name for name, spec in heads.items() if spec.kind == "multi"]
    if version not in VERSIONS or (version and multi):
        raise ValueError(
            f"cmcl version={version!r}: choose one of {VERSIONS}; 1 draws single labels, and {multi} "
            "are multi-label heads"
        )

    def terms(results, batch, state, key):
        del state
        group, own = batch["main"], results["main", "train"]
        task = terms_lib.task_term(own, group, outputs, heads)
        logits = {head: terms_lib.stack(own, outputs, head) for head in heads}
        unsure = terms_lib.mean([uncertainty(logits[h], spec.kind) for h, spec in heads.items()])
        ties, draw = jax.random.split(key)
        winner = _confident(task.values, unsure, beta, k, ties, task.mask)
        penalty = unsure if version == 0 else terms_lib.mean([_random_labels(v, draw) for v in logits.values()])
        hard, soft = jnp.where(winner, task.values, 0), jnp.where(winner, 0, beta * penalty)
        return {
            "ce": task._replace(values=hard),
            "confidence": task._replace(values=soft),
            "win": _wins(outputs, winner, task.mask),
        }  # fmt: skip

    lot = "the losers' labels are drawn by lot"
    return Method(terms) if version == 0 else Method(terms, symmetric=False, reason=lot)
