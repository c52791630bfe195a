"""A pass over a split: batches to scores, in every process alike."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from mmvid.models.model import Needs, met
from mmvid.scores import file as file_lib
from mmvid.scores.file import Scores


def _gather(x: np.ndarray) -> np.ndarray:
    """All processes' rows, in order of process."""
    if jax.process_count() == 1:
        return x
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(x)
    return np.asarray(gathered).reshape(-1, *x.shape[1:])


def presence(group: Mapping, needs: Mapping[str, Needs]) -> dict[str, np.ndarray]:
    """Whether each output has the streams that it needs: {output: [B]}."""
    return {output: met(own, group["present"]) for output, own in needs.items()}


def predict_split(
    predict: Callable,
    batches: Iterable[dict],
    *,
    needs: Mapping[str, Needs],
    ids: list[str],
    meta: Mapping,
) -> Scores:
    """Predicts every batch; padding goes, rows are in the split's order.

    ``predict(batch) -> {output: {head: [B, V, K]}}`` on this process's rows; ``batches`` yield
    {'main': {.., 'mask', 'id'}}; ``needs`` {output: what it needs}; ``ids`` of all rows.
    Exact on ragged last batches and several processes. Raises RuntimeError if a row is missing.
    """
    parts = []
    for batch in batches:
        group = batch["main"]
        part = {
            "logits": predict(batch),
            "label": dict(group["label"]),
            "present": presence(group, needs),
            "row": group["id"],
            "mask": group["mask"],
        }
        parts.append(jax.tree.map(lambda x: _gather(np.asarray(x)), part))
    whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    order = np.flatnonzero(whole["mask"])
    order = order[np.argsort(whole["row"][order], kind="stable")]
    whole = jax.tree.map(lambda x: x[order], whole)
    if whole["row"].tolist() != list(range(len(ids))):
        raise RuntimeError(f"{len(ids)} clips were expected, {len(whole['row'])} were evaluated")
    logits = jax.tree.map(lambda x: x.astype(np.float32), whole["logits"])
    scores = Scores(
        np.asarray(ids), whole["row"], whole["label"], whole["present"], logits,
        {**meta, "clips_used": len(ids)},
    )  # fmt: skip
    file_lib.say_not_finite(scores)
    return scores
