"""One evaluator: runs a predict function over a split and keeps every view's logits. Methods are
invisible to it; every table and figure is computed from the scores files that it writes."""

import itertools
import json
import os
import pathlib
import zipfile
import zlib
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
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as raw, np.load(raw) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays["meta"]))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run the same command") from None

    def under(prefix):
        return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}

    logits: dict[str, dict] = {}
    for name, value in under("logits/").items():
        output, head = name.split("/")
        logits.setdefault(output, {})[head] = value
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


def labelled(scores: Scores) -> Scores:
    """The clips that have a label in every single-label head (-1: none): what can be counted."""
    has = [v >= 0 for v in scores.label.values() if v.ndim == 1]
    rows = np.all(has, axis=0) if has else np.ones(len(scores.id), bool)
    if rows.all():
        return scores
    return jax.tree.map(lambda x: x[rows], scores._replace(meta={}))._replace(meta=scores.meta)


def _members(scores: Scores, output: str) -> tuple[str, ...]:
    """The outputs whose logits are summed: all for 'fused', those named in 'depth + rgb', or one."""
    return tuple(scores.logits) if output == "fused" else tuple(output.split(" + "))


def fused(scores: Scores, members: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Sum of the outputs' logits, an absent output left out: {head: [N, V, K]}; ``members``: of
    these outputs alone."""
    total: dict[str, np.ndarray] = {}
    for output in members or scores.logits:
        for head, logits in scores.logits[output].items():
            own = np.where(scores.present[output][:, None, None], logits, 0).astype(np.float64)
            total[head] = total.get(head, 0) + own
    return total


def _of(scores: Scores, output: str, head: str) -> tuple[np.ndarray, np.ndarray]:
    """(logits [N, V, K], present [N]) of an output, or of a sum, which needs one of its members."""
    if output in scores.logits:
        return scores.logits[output][head], scores.present[output]
    members = _members(scores, output)
    return fused(scores, members)[head], np.any([scores.present[m] for m in members], axis=0)


def hits(scores: Scores, output: str, head: str, k: int, how: str = "logits") -> np.ndarray:
    """Hit or miss of each clip [N] for ``output``, the sum of some ('depth + rgb') or of all
    ('fused'); what is absent misses. Of the heads 'noun + verb' all must be right (an action, in
    EPIC-KITCHENS' sense)."""
    if " + " in head:
        return np.prod([hits(scores, output, h, k, how) for h in head.split(" + ")], axis=0)
    logits, present = _of(scores, output, head)
    return metrics.top_k_hits(aggregate(logits, how), scores.label[head], k) * present


def _top(hit: np.ndarray, k: int) -> dict:
    return {f"top{k}": float(hit.mean()), f"top{k}_interval": metrics.bootstrap_interval(hit)}


def _single(scores: Scores, output: str, head: str, how: str) -> dict:
    """One output, one head of single labels. An absent output is wrong, and unsure of nothing (ECE
    is over what is present); in ``top1_of_expected`` clips missing from the dataset are wrong too."""
    logits, present = _of(scores, output, head)
    labels, views, k = scores.label[head], logits.shape[1], min(5, logits.shape[-1])
    flat, repeated = logits.reshape(-1, logits.shape[-1]), np.repeat(labels, views)
    clip = [metrics.top_k_hits(flat, repeated, n) * np.repeat(present, views) for n in (1, k)]
    first = hits(scores, output, head, 1, how)
    best = hits(scores, output, head, k, how)
    probs = aggregate(logits, "probs") if how != "logits" else metrics.softmax(aggregate(logits))
    counts = np.bincount(labels, minlength=logits.shape[-1])
    right = np.bincount(labels, first, minlength=logits.shape[-1])
    return {
        "clip_top1": float(clip[0].mean()),
        "clip_top5": float(clip[1].mean()),
        **_top(first, 1),
        "top5": float(best.mean()),
        "top5_interval": metrics.bootstrap_interval(best),
        "top1_of_expected": float(first.sum() / scores.meta.get("clips_expected", len(labels))),
        "ece": metrics.expected_calibration_error(probs[present], labels[present])
        if present.any() else None,
        "per_class": [r / n if n else None for r, n in zip(right.tolist(), counts.tolist())],
        "n": len(labels),
    }  # fmt: skip


def _multi(scores: Scores, output: str, head: str, how: str) -> dict:
    logits, present = _of(scores, output, head)
    values = aggregate(logits, how, kind="multi")
    values = np.where(present[:, None], values, values.min() - 1)  # absent: ranked last
    labels = scores.label[head]
    return {
        "map": metrics.mean_average_precision(values, labels),
        "mauc": metrics.mean_auc(values, labels),
        "n": len(labels),
    }


def summary(scores: Scores, how: str = "logits") -> dict:
    """{output: {head: numbers}} for every output and, with several, 'fused'; where heads of single
    labels are several, also 'noun + verb' (all right); {'oracle': {head: fraction}}: any output is
    right. Unlabelled clips (label -1) are left out; without any labelled clip it is empty."""
    scores = labelled(scores)
    if not len(scores.id):
        return {}
    outputs = [*scores.logits, *(["fused"] if len(scores.logits) > 1 else [])]
    spaces = heads_of(scores)
    single = [head for head, space in spaces.items() if space.kind == "single"]
    result: dict = {output: {} for output in outputs}
    for output in outputs:
        for head in spaces:
            form = _single if head in single else _multi
            result[output][head] = form(scores, output, head, how)
        if len(single) > 1:
            every = hits(scores, output, " + ".join(single), 1, how)
            result[output][" + ".join(single)] = {**_top(every, 1), "n": len(every)}
    if len(outputs) > 1 and single:
        result["oracle"] = {head: float(oracle(scores, head, how).mean()) for head in single}
    return result


def oracle(scores: Scores, head: str, how: str = "logits") -> np.ndarray:
    """Whether any output is right on each clip [N] (DMCL's Phi)."""
    return np.max([hits(scores, output, head, 1, how) for output in scores.logits], axis=0)


def subsets(scores: Scores, how: str = "logits") -> dict[str, dict[str, dict]]:
    """What is left when modalities are missing: {'depth': .., 'depth + rgb': ..} -> {head: numbers}.

    Every non-empty subset of the outputs, smallest first, their logits summed. Clips that have
    nothing of a subset count as misses ('top1', or 'map'); 'covered' is the fraction that have.
    """
    scores = labelled(scores)
    if not len(scores.id):
        return {}
    names, found = list(scores.logits), {}
    sizes = range(1, len(names) + 1)
    for members in itertools.chain(*(itertools.combinations(names, size) for size in sizes)):
        found[" + ".join(members)] = {
            head: _subset(scores, " + ".join(members), head, how) for head in heads_of(scores)
        }
    return found


def _subset(scores: Scores, name: str, head: str, how: str) -> dict:
    _, present = _of(scores, name, head)
    covered = {"covered": float(present.mean()), "n": len(present)}
    if scores.label[head].ndim == 1:
        return _top(hits(scores, name, head, 1, how), 1) | covered
    return {"map": _multi(scores, name, head, how)["map"]} | covered


def headline_values(scores: Scores, how: str = "logits") -> dict[str, float]:
    """{'output/top1': .., 'oracle/top1': .., 'output/map': ..}: what is logged during training."""
    values = {}
    for output, heads in summary(scores, how).items():
        for head, numbers in heads.items():
            suffix = f"_{head.replace(' + ', '_and_')}" if len(heads) > 1 else ""
            if output == "oracle":
                values[f"oracle/top1{suffix}"] = numbers
                continue
            for name in ("top1", "map"):
                if name in numbers:
                    values[f"{output}/{name}{suffix}"] = numbers[name]
    return values
