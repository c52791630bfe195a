"""Losses on [..., K]: they are unreduced, can be vmapped, and stop the gradient of their targets."""

import jax
import jax.numpy as jnp


def _check(logits: jax.Array, *others: jax.Array) -> None:
    """Raises ValueError if logits are no floats, or if ``others`` have another number of classes."""
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    for other in others:
        if other.shape[-1:] != logits.shape[-1:]:
            raise ValueError(f"the last axes differ: {other.shape} against {logits.shape}; both hold classes")


def softmax_cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Computes -log softmax(logits)[label]: [..., K] and labels [...] (int) or [..., K] (soft) -> [...].

    No gradient reaches soft labels. Raises ValueError if the shapes do not fit.
    """
    _check(logits)
    # log_softmax, not log(softmax): the latter is -inf at logits of 50.
    log_probs = jax.nn.log_softmax(logits)
    if jnp.issubdtype(label.dtype, jnp.integer):
        if label.shape != logits.shape[:-1]:
            raise ValueError(f"integer labels {label.shape} do not fit logits {logits.shape}")
        return -jnp.take_along_axis(log_probs, label[..., None], axis=-1)[..., 0]
    _check(logits, label)
    target = jax.lax.stop_gradient(label)
    return -(target * log_probs).sum(-1)


def sigmoid_cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Computes binary cross-entropy, the mean over classes: [..., K] and multi-hot [..., K] -> [...].

    It is a mean so that, averaged over the batch, the loss is divided by B*N (MML, appendix 2).
    """
    label = jax.lax.stop_gradient(label.astype(logits.dtype))
    _check(logits, label)
    # log(1 - sigmoid(x)) is log_sigmoid(-x), which keeps its digits at large x.
    values = label * jax.nn.log_sigmoid(logits) + (1 - label) * jax.nn.log_sigmoid(-logits)
    return -values.mean(-1)


# What a head of several labels may learn by. 'softmax' is against the multi-hot vector as it stands, so that a
# clip of three labels counts three times as much as one of one (VMZ's use_softmax_loss).
MULTI_LABEL = {"sigmoid": sigmoid_cross_entropy, "softmax": softmax_cross_entropy}


def kl_divergence(target_logits: jax.Array, logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """Computes KL(softmax(target / T) || softmax(logits / T)): [..., K] twice -> [...], without T^2.

    No gradient reaches the target. It is the KL of MML's equations 1 to 4; PyTorch's 'batchmean' is its
    mean over B.
    """
    _check(logits, target_logits)
    # Both as logarithms: a probability that underflows to 0 has none to be taken of it.
    target = jax.lax.stop_gradient(jax.nn.log_softmax(target_logits / temperature))
    own = jax.nn.log_softmax(logits / temperature)
    return (jnp.exp(target) * (target - own)).sum(-1)


def bernoulli_kl(target_logits: jax.Array, logits: jax.Array) -> jax.Array:
    """Computes the mean over classes of the KL between two Bernoullis: [..., K] twice -> [...].

    No gradient reaches the target. No paper gives it: it reads MML's appendix 2 element by element.
    """
    _check(logits, target_logits)
    target = jax.lax.stop_gradient(target_logits)
    q = jax.nn.sigmoid(target)
    positive = jax.nn.log_sigmoid(target) - jax.nn.log_sigmoid(logits)
    negative = jax.nn.log_sigmoid(-target) - jax.nn.log_sigmoid(-logits)
    return (q * positive + (1 - q) * negative).mean(-1)
