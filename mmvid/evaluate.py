"""One evaluator: runs a predict function over a split and keeps every view's logits. Methods are
invisible to it; every table and figure is computed from the scores files that it writes."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from mmvid import metrics
from mmvid.streams import Head

AGGREGATES = ("logits", "probs", "max")


class Scores(NamedTuple):
    """A split's predictions, one row a clip: ``id`` [N] text, ``row`` [N], ``label`` {head: [N] or
    [N, K]}, ``present`` {output: [N]}, ``logits`` {output: {head: [N, V, K]}} and ``meta``
    (split, protocol, dataset, fingerprint, clips_used, clips_expected, classes, step...)."""

    id: np.ndarray
    row: np.ndarray
    label: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    logits: dict[str, dict[str, np.ndarray]]
    meta: dict


# ---------------------------------------------------------------------------- running
def _gather(x: np.ndarray) -> np.ndarray:
    """All processes' rows, in order of process."""
    if jax.process_count() == 1:
        return x
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(x)
    return np.asarray(gathered).reshape(-1, *x.shape[1:])


def _presence(group: Mapping, reads: Mapping[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """Whether an output has all the streams it reads: {output: [B]}."""
    return {
        output: np.all([group["present"][stream] for stream in streams], axis=0)
        for output, streams in reads.items()
    }


def run(
    predict: Callable,
    batches: Iterable[dict],
    *,
    reads: Mapping[str, tuple[str, ...]],
    ids: list[str],
    meta: Mapping,
) -> Scores:
    """Predicts every batch; padding goes, rows are in the split's order.

    ``predict(batch) -> {output: {head: [B, V, K]}}`` on this process's rows; ``batches`` yield
    {'main': {.., 'mask', 'id'}}; ``reads`` {output: streams it needs}; ``ids`` of all rows.
    Exact on ragged last batches and several processes. Raises RuntimeError if a row is missing.
    """
    parts = []
    for batch in batches:
        group = batch["main"]
        part = {
            "logits": predict(batch),
            "label": dict(group["label"]),
            "present": _presence(group, reads),
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
    return Scores(
        np.asarray(ids), whole["row"], whole["label"], whole["present"], logits,
        {**meta, "clips_used": len(ids)},
    )  # fmt: skip


# ---------------------------------------------------------------------------- files
def save(path: str | os.PathLike, scores: Scores) -> None:
    """Writes a scores file, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"id": scores.id, "row": scores.row, "meta": np.asarray(json.dumps(scores.meta))}
    arrays |= {f"label/{k}": v for k, v in scores.label.items()}
    arrays |= {f"present/{k}": v for k, v in scores.present.items()}
    arrays |= {f"logits/{o}/{h}": v for o, heads in scores.logits.items() for h, v in heads.items()}
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, path)


def load(path: str | os.PathLike) -> Scores:
    """Reads a scores file. Raises FileNotFoundError or ValueError naming it."""
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no scores at {path}: the run has not evaluated this split yet")
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run the same command") from None

    def under(prefix):
        return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}

    logits: dict[str, dict] = {}
    for name, value in under("logits/").items():
        output, head = name.split("/")
        logits.setdefault(output, {})[head] = value
    meta = json.loads(str(arrays["meta"]))
    return Scores(arrays["id"], arrays["row"], under("label/"), under("present/"), logits, meta)


# ---------------------------------------------------------------------------- numbers
def aggregate(logits: np.ndarray, how: str = "logits", *, kind: str = "single") -> np.ndarray:
    """Views -> one score a clip: [N, V, K] -> [N, K]; mean of logits, mean or maximum of
    probabilities. Raises ValueError for another ``how``."""
    if how not in AGGREGATES:
        raise ValueError(f"aggregate={how!r}: choose one of {AGGREGATES}")
    if how == "logits":
        return logits.astype(np.float64).mean(1)
    probs = metrics.softmax(logits) if kind == "single" else _sigmoid(logits)
    return probs.mean(1) if how == "probs" else probs.max(1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x.astype(np.float64)))


def heads_of(scores: Scores) -> dict[str, Head]:
    """The label spaces of a scores file: multi-hot labels mean kind 'multi'."""
    spaces = {}
    for name, label in scores.label.items():
        classes = next(iter(scores.logits.values()))[name].shape[-1]
        names = tuple(scores.meta.get("classes", {}).get(name, ()))
        spaces[name] = Head(classes, "single" if label.ndim == 1 else "multi", names)
    return spaces


def fused(scores: Scores) -> dict[str, np.ndarray]:
    """Sum of the outputs' logits, an absent output left out: {head: [N, V, K]}."""
    total: dict[str, np.ndarray] = {}
    for output, heads in scores.logits.items():
        for head, logits in heads.items():
            own = np.where(scores.present[output][:, None, None], logits, 0).astype(np.float64)
            total[head] = total.get(head, 0) + own
    return total


def hits(scores: Scores, output: str, head: str, k: int, how: str = "logits") -> np.ndarray:
    """Hit or miss of each clip [N] for ``output`` (or 'fused'); an absent output misses."""
    logits = fused(scores)[head] if output == "fused" else scores.logits[output][head]
    found = metrics.top_k_hits(aggregate(logits, how), scores.label[head], k)
    return found if output == "fused" else found * scores.present[output]


def _single(scores: Scores, output: str, head: str, how: str) -> dict:
    """One output, one head of single labels. Clips that are missing count as wrong in
    ``top1_of_expected``."""
    logits = fused(scores)[head] if output == "fused" else scores.logits[output][head]
    labels, views = scores.label[head], logits.shape[1]
    k = min(5, logits.shape[-1])
    flat, repeated = logits.reshape(-1, logits.shape[-1]), np.repeat(labels, views)
    video = {n: hits(scores, output, head, n, how) for n in (1, k)}
    probs = aggregate(logits, "probs") if how != "logits" else metrics.softmax(aggregate(logits))
    used = len(labels)
    return {
        "clip_top1": metrics.top_k_accuracy(flat, repeated, 1),
        "clip_top5": metrics.top_k_accuracy(flat, repeated, k),
        "top1": float(video[1].mean()),
        "top5": float(video[k].mean()),
        "top1_interval": metrics.bootstrap_interval(video[1]),
        "top5_interval": metrics.bootstrap_interval(video[k]),
        "top1_of_expected": float(video[1].sum() / scores.meta.get("clips_expected", used)),
        "ece": metrics.expected_calibration_error(probs, labels),
        "per_class": metrics.per_class_accuracy(aggregate(logits, how), labels).tolist(),
        "n": used,
    }


def _multi(scores: Scores, output: str, head: str, how: str) -> dict:
    logits = fused(scores)[head] if output == "fused" else scores.logits[output][head]
    values = aggregate(logits, how, kind="multi")
    labels = scores.label[head]
    return {
        "map": metrics.mean_average_precision(values, labels),
        "mauc": metrics.mean_auc(values, labels),
        "n": len(labels),
    }


def summary(scores: Scores, how: str = "logits") -> dict:
    """{output: {head: numbers}} for every output and, with several, 'fused'; and for single-label
    heads {'oracle': {head: fraction}}. Unlabelled clips (label -1) are left out."""
    labelled = np.all([v >= 0 if v.ndim == 1 else np.ones(len(v), bool)
                       for v in scores.label.values()], axis=0)  # fmt: skip
    if not labelled.all():
        meta = scores.meta
        scores = jax.tree.map(lambda x: x[labelled], scores._replace(meta={}))._replace(meta=meta)
    outputs = [*scores.logits, *(["fused"] if len(scores.logits) > 1 else [])]
    result: dict = {output: {} for output in outputs}
    for head, space in heads_of(scores).items():
        form = _single if space.kind == "single" else _multi
        for output in outputs:
            result[output][head] = form(scores, output, head, how)
        if space.kind == "single" and len(outputs) > 1:
            every = [hits(scores, output, head, 1, how) for output in scores.logits]
            result.setdefault("oracle", {})[head] = float(np.max(every, axis=0).mean())
    return result


def headline_values(scores: Scores, how: str = "logits") -> dict[str, float]:
    """{'output/top1': .., 'output/map': ..}: what is logged during training."""
    values = {}
    for output, heads in summary(scores, how).items():
        for head, numbers in heads.items() if output != "oracle" else ():
            suffix = f"_{head}" if len(heads) > 1 else ""
            for name in ("top1", "map"):
                if name in numbers:
                    values[f"{output}/{name}{suffix}"] = numbers[name]
    return values
