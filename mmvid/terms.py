"""Reduces unreduced terms to one loss and the numbers that are logged.

They are masked means over a batch; or, where the counts of a larger batch are given, one part's share
of that batch's means.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp


def _mean(values: jax.Array, mask: jax.Array, count: jax.Array) -> jax.Array:
    # where, not a product: a masked inf times 0 is NaN.
    return jnp.where(mask, values, 0.0).sum(-1) / jnp.maximum(count, 1)


def reduce_terms(terms: dict, counts: dict | None = None) -> tuple[jax.Array, dict]:
    """Reduces {name: Term} to (loss, {'output/term': mean}); the loss is the weighted sum of the means.

    A sum over outputs, not a mean, leaves each network's learning rate alone when another one joins.
    With the ``counts`` of a larger batch (see ``count``) the parts' losses and means add up to the
    whole's.
    """
    loss, metrics = jnp.zeros(()), {}
    for name, term in sorted(terms.items()):
        means = _mean(term.values, term.mask, counts[name] if counts else term.mask.sum(-1))
        loss = loss + (term.weight * means).sum()
        metrics |= {f"{output}/{name}": means[i] for i, output in enumerate(term.outputs)}
    return loss, metrics


def _graded(outputs: dict, batch: dict) -> Iterator[tuple[str, jax.Array, jax.Array, jax.Array]]:
    """Yields (metric's name, logits, labels, mask) for every output whose group carries integer labels."""
    # In one order always: of two groups with one output's name the first is kept, here and in `count`.
    for (group, _), results in sorted(outputs.items()):
        labels = batch[group].get("label", {})
        for output, result in results.items():
            mask = batch[group]["mask"] & batch[group]["present"][output]
            for head, logits in result["logits"].items():
                if head in labels and labels[head].ndim == 1:
                    name = "top1" if len(result["logits"]) == 1 else f"top1_{head}"
                    yield f"{output}/{name}", logits, labels[head], mask


def accuracy(outputs: dict, batch: dict, counts: dict | None = None) -> dict:
    """Computes the training top-1 of every output whose group carries integer labels.

    Returns {'output/top1': share}, or 'output/top1_head' if there are several heads.
    """
    metrics: dict = {}
    for name, logits, labels, mask in _graded(outputs, batch):
        hits = (logits.argmax(-1) == labels) & mask
        total = counts[name] if counts else mask.sum()
        metrics.setdefault(name, hits.sum() / jnp.maximum(total, 1))
    return metrics


def count(terms: dict, outputs: dict, batch: dict) -> dict:
    """Counts the examples behind each mean of ``reduce_terms`` and ``accuracy``: {name: number or [S]}."""
    rows: dict = {}
    for name, _, _, mask in _graded(outputs, batch):
        rows.setdefault(name, mask.sum())
    return {name: term.mask.sum(-1) for name, term in terms.items()} | rows
