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
from mmvid.logs import LOG
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
    scores = Scores(
        np.asarray(ids), whole["row"], whole["label"], whole["present"], logits,
        {**meta, "clips_used": len(ids)},
    )  # fmt: skip
    _say_not_finite(scores)
    return scores


def _say_not_finite(scores: Scores) -> None:
    for output, heads in scores.logits.items():
        count = max(not_finite(scores, output, head) for head in heads)
        if count:
            LOG.warning(
                "%s: %d of %d clips have scores of %r that are not finite; they count as misses",
                scores.meta.get("split", "scores"), count, len(scores.id), output,
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
        with np.errstate(invalid="ignore"):  # +inf and -inf make NaN, which is counted as such
            return logits.astype(np.float64).mean(1)
    probs = metrics.softmax(logits) if kind == "single" else _sigmoid(logits)
    return probs.mean(1) if how == "probs" else probs.max(1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x.astype(np.float64)))


def probabilities(logits: np.ndarray, how: str = "logits") -> np.ndarray:
    """What each class of a single-label head is given: [N, V, K] -> [N, K], sums of 1, the likeliest
    class that of ``aggregate``: the softmax of mean logits, the mean of probabilities as it is, or
    their maxima over the views divided by the sum of these."""
    values = aggregate(logits, how)
    return metrics.softmax(values) if how == "logits" else values / values.sum(-1, keepdims=True)


def heads_of(scores: Scores) -> dict[str, Head]:
    """The label spaces of a scores file: multi-hot labels mean kind 'multi'."""
    spaces = {}
    for name, label in scores.label.items():
        classes = next(iter(scores.logits.values()))[name].shape[-1]
        names = tuple(scores.meta.get("classes", {}).get(name, ()))
        spaces[name] = Head(classes, "single" if label.ndim == 1 else "multi", names)
    return spaces


def labelled(scores: Scores) -> Scores:
    """The clips that have a label in every head: what can be counted. -1 is no label, and so is a
    multi-hot row of -1; one of zeros says that no class is there, which is an answer."""
    has = [(v >= 0).all(axis=tuple(range(1, v.ndim))) for v in scores.label.values()]
    rows = np.all(has, axis=0) if has else np.ones(len(scores.id), bool)
    if rows.all():
        return scores
    return jax.tree.map(lambda x: x[rows], scores._replace(meta={}))._replace(meta=scores.meta)


def _members(scores: Scores, output: str) -> tuple[str, ...]:
    """The outputs whose logits are summed: all for 'fused', those named in 'depth + rgb', or one."""
    return tuple(scores.logits) if output == "fused" else tuple(output.split(" + "))


def fused(scores: Scores, members: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Sum of the outputs' logits, an absent output left out: {head: [N, V, K]}; ``members``: of
    these outputs alone. Logits that are not finite spoil their clip's sum, as they would in use."""
    total: dict[str, np.ndarray] = {}
    for output in members or scores.logits:
        for head, logits in scores.logits[output].items():
            own = np.where(scores.present[output][:, None, None], logits, 0).astype(np.float64)
            with np.errstate(invalid="ignore"):
                total[head] = total.get(head, 0) + own
    return total


def _of(scores: Scores, output: str, head: str) -> tuple[np.ndarray, np.ndarray]:
    """(logits [N, V, K], present [N]) of an output, or of a sum, which needs one of its members."""
    if output in scores.logits:
        return scores.logits[output][head], scores.present[output]
    members = _members(scores, output)
    return fused(scores, members)[head], np.any([scores.present[m] for m in members], axis=0)


def usable(scores: Scores, output: str, head: str) -> np.ndarray:
    """The clips [N] that ``output`` is there for and has finite scores of."""
    logits, present = _of(scores, output, head)
    return present & metrics.finite(logits)


def not_finite(scores: Scores, output: str, head: str) -> int:
    """How many clips ``output`` is there for without finite scores: misses, of every measure."""
    logits, present = _of(scores, output, head)
    return int((present & ~metrics.finite(logits)).sum())


def hits(scores: Scores, output: str, head: str, k: int, how: str = "logits") -> np.ndarray:
    """Hit or miss of each clip [N] for ``output``, the sum of some ('depth + rgb') or of all
    ('fused'); what is absent or not finite misses. Of the heads 'noun + verb' all must be right (an action, in
    EPIC-KITCHENS' sense)."""
    if " + " in head:
        return np.prod([hits(scores, output, h, k, how) for h in head.split(" + ")], axis=0)
    logits, present = _of(scores, output, head)
    return _hits(logits, present, scores.label[head], k, how)


def _hits(logits: np.ndarray, present: np.ndarray, labels: np.ndarray, k: int, how: str) -> np.ndarray:
    there = present & metrics.finite(logits)
    return metrics.top_k_hits(aggregate(logits, how), labels, k) * there


def _top(hit: np.ndarray, k: int) -> dict:
    return {f"top{k}": float(hit.mean()), f"top{k}_interval": metrics.bootstrap_interval(hit)}


def _single(scores: Scores, output: str, head: str, how: str) -> dict:
    """One output, one head of single labels. An absent output is wrong, and unsure of nothing (ECE
    is over what is present); in ``top1_of_expected`` clips missing from the dataset are wrong too.
    The five best of five classes, or of fewer, are all of them: no top-5 then."""
    logits, present = _of(scores, output, head)
    labels, classes, there = scores.label[head], logits.shape[-1], present & metrics.finite(logits)
    first, five = _hits(logits, present, labels, 1, how), classes > 5
    counts, right = np.bincount(labels, minlength=classes), np.bincount(labels, first, minlength=classes)
    return {
        "clip_top1": _clip_accuracy(logits, labels, present, 1),
        "clip_top5": _clip_accuracy(logits, labels, present, 5) if five else None,
        **_top(first, 1),
        **(_top(_hits(logits, present, labels, 5, how), 5) if five else {"top5": None, "top5_interval": None}),
        "top1_of_expected": float(first.sum() / _expected(scores)),
        "ece": metrics.expected_calibration_error(probabilities(logits[there], how), labels[there]),
        "per_class": [r / n if n else None for r, n in zip(right.tolist(), counts.tolist())],
        "not_finite": int((present & ~there).sum()),
        "n": len(labels),
    }


def _clip_accuracy(logits: np.ndarray, labels: np.ndarray, present: np.ndarray, k: int) -> float:
    """Top-k where every view counts alone: [N, V, K], [N], [N] -> fraction."""
    views = logits.shape[1]
    hit = metrics.top_k_hits(logits.reshape(-1, logits.shape[-1]), np.repeat(labels, views), k)
    return float((hit * np.repeat(present, views)).mean())


def _expected(scores: Scores) -> int:
    """How many labelled clips there should be: those that there are and those that data_prep lost."""
    there = len(scores.id)
    used = scores.meta.get("clips_used", there)
    return there + max(scores.meta.get("clips_expected", used) - used, 0)


def _multi(scores: Scores, output: str, head: str, how: str) -> dict:
    """One output, one head of several labels; what is absent or not finite is ranked last. None:
    no class has a positive ('map'), or none a positive and a negative ('mauc')."""
    (logits, present), labels = _of(scores, output, head), scores.label[head]
    there = present & metrics.finite(logits)
    values = np.where(there[:, None], aggregate(logits, how, kind="multi"), -np.inf)
    return {
        "map": metrics.mean_average_precision(values, labels),
        "mauc": metrics.mean_auc(values, labels),
        "not_finite": int((present & ~there).sum()),
        "n": len(labels),
    }


def summary(scores: Scores, how: str = "logits") -> dict:
    """{output: {head: numbers}} for every output and, with several, 'fused'; where heads of single
    labels are several, also 'noun + verb' (all right); {'oracle': {head: fraction}}: any output is
    right. Unlabelled clips (label -1) are left out; without any labelled clip it is empty. A number
    that nothing defines is None: the mAP of a split without positives, the top-5 of five classes."""
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
    """{'output/top1': .., 'oracle/top1': .., 'output/map': ..}: what is logged during training and
    decides which checkpoint is best. What is undefined is left out; of a split where nothing is
    defined it is {}."""
    values = {}
    for output, heads in summary(scores, how).items():
        for head, numbers in heads.items():
            suffix = f"_{head.replace(' + ', '_and_')}" if len(heads) > 1 else ""
            if output == "oracle":
                values[f"oracle/top1{suffix}"] = numbers
                continue
            for name in ("top1", "map"):
                if numbers.get(name) is not None:
                    values[f"{output}/{name}{suffix}"] = numbers[name]
    return values
