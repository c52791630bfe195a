"""A pass over a split: batches to scores, in every process alike."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from mmvid.models.model import Needs, met
from mmvid.scores import file as file_lib
from mmvid.scores.file import Scores


def _gather(x: np.ndarray) -> np.ndarray:
    """Returns the rows of all processes, in order of process: [n, ...] -> [processes * n, ...]."""
    if jax.process_count() == 1:
        return x
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(x)
    # The gathered array has a new first axis of processes, which becomes one with the rows.
    return np.asarray(gathered).reshape(-1, *x.shape[1:])


def presence(group: Mapping, needs: Mapping[str, Needs]) -> dict[str, np.ndarray]:
    """Tells for each clip of a batch whether an output has the streams that it needs: {output: bool [B]}."""
    return {output: met(own, group["present"]) for output, own in needs.items()}


def predict_split(
    predict: Callable,
    batches: Iterable[dict],
    *,
    needs: Mapping[str, Needs],
    ids: list[str],
    meta: Mapping,
) -> Scores:
    """Predicts every batch of a split and returns its scores, without padding and in the split's order.

    ``predict(batch) -> {output: {head: [B, V, K]}}`` sees this process's rows; ``batches`` yield
    {'main': {.., 'mask' [B], 'id' [B]}}; ``needs`` is {output: the streams it needs}; ``ids`` are the names of
    all rows of the split. The result is the same for any batch size and number of processes. Raises
    RuntimeError where a row is missing or comes twice.
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
    # The last batch is filled up with rows whose mask is False, and each process has rows of its own.
    order = np.flatnonzero(whole["mask"])
    order = order[np.argsort(whole["row"][order], kind="stable")]
    whole = jax.tree.map(lambda x: x[order], whole)
    # A clip lost or counted twice would make a score that looks right and is of another split.
    if whole["row"].tolist() != list(range(len(ids))):
        raise RuntimeError(f"{len(ids)} clips were expected, {len(whole['row'])} were evaluated")
    logits = jax.tree.map(lambda x: x.astype(np.float32), whole["logits"])
    scores = Scores(
        np.asarray(ids),
        whole["row"],
        whole["label"],
        whole["present"],
        logits,
        {**meta, "clips_used": len(ids)},
    )
    file_lib.say_not_finite(scores)
    return scores
