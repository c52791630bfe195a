"""Every number that a table or a figure shows, computed from scores alone."""

import itertools

import numpy as np

from mmvid.scores import file as file_lib
from mmvid.scores import metrics
from mmvid.scores.file import Scores

AGGREGATES = ("logits", "probs", "max")
# How the views of a clip are put together where nothing is said.
HOW = AGGREGATES[0]


def aggregate(logits: np.ndarray, how: str = HOW, *, kind: str = "single") -> np.ndarray:
    """Makes one score per clip of its V views: [N, V, K] -> [N, K], in float64.

    ``how`` 'logits' is their mean (MML, DMCL and MMD test so), 'probs' the mean of probabilities (G-Blend,
    CMPL), 'max' their maximum (SlowFast's test on Charades). Those are a softmax, or, of ``kind``
    'multi', sigmoids (`file.probabilities_of`). Raises ValueError for another ``how``.
    """
    if how not in AGGREGATES:
        raise ValueError(f"aggregate={how!r}: choose one of {AGGREGATES}")
    if how == "logits":
        with np.errstate(invalid="ignore"):  # +inf and -inf make NaN, which is counted as such
            return logits.astype(np.float64).mean(1)
    probs = metrics.softmax(logits) if kind == "single" else _sigmoid(logits)
    return probs.mean(1) if how == "probs" else probs.max(1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # By way of tanh, as exp(-x) overflows where x is far below 0.
    return 0.5 * (1 + np.tanh(0.5 * x.astype(np.float64)))


def probabilities(logits: np.ndarray, how: str = HOW, *, kind: str = "single") -> np.ndarray:
    """Returns the probabilities of the classes of a head: [N, V, K] -> [N, K].

    They are the softmax of mean logits, the mean of probabilities, or the maxima over the views divided by
    their sum; the likeliest class is always that of `aggregate`. In a head of ``kind`` 'multi' each class has
    a probability of its own, by a sigmoid in place of the softmax; in a 'single' one the rows have sum 1.
    """
    values = aggregate(logits, how, kind=kind)
    if kind == "multi":
        return _sigmoid(values) if how == "logits" else values
    return metrics.softmax(values) if how == "logits" else values / values.sum(-1, keepdims=True)


def hits(scores: Scores, output: str, head: str, k: int, how: str = HOW) -> np.ndarray:
    """Returns 1 for each clip whose label is among the k best classes, else 0: [N].

    ``output`` is an output, a sum ('depth + rgb') or 'fused', the sum of all members. A clip that lacks it, or
    whose scores are not finite, is a miss. ``head`` is a head of single labels; of the joint one, 'noun and verb',
    all must be right, as for an action of EPIC-KITCHENS (MMD).
    """
    if head == file_lib.joint_head(scores):
        return np.prod([hits(scores, output, h, k, how) for h in file_lib.single_heads(scores)], axis=0)
    logits, present = file_lib.of_output(scores, output, head)
    return _hits(logits, present, scores.label[head], k, how)


def _hits(logits: np.ndarray, present: np.ndarray, labels: np.ndarray, k: int, how: str) -> np.ndarray:
    # Whatever stands in the row of an absent output must not count as a hit.
    there = present & metrics.finite(logits)
    return metrics.top_k_hits(aggregate(logits, how), labels, k) * there


def _top(hit: np.ndarray, k: int) -> dict:
    return {f"top{k}": float(hit.mean()), f"top{k}_interval": metrics.bootstrap_interval(hit)}


def _single(scores: Scores, output: str, head: str, how: str) -> dict:
    """Returns the numbers of one output and one head of single labels.

    A clip that lacks the output counts as wrong, but not in the calibration error ('ece'), which is over the
    clips that have it. In 'top1_of_expected' the clips that data_prep lost count as wrong, too. Top-5 is None
    for five classes or fewer, where it could not be wrong.
    """
    logits, present = file_lib.of_output(scores, output, head)
    labels, classes, there = scores.label[head], logits.shape[-1], present & metrics.finite(logits)
    first, five = _hits(logits, present, labels, 1, how), classes > 5
    counts, right = np.bincount(labels, minlength=classes), np.bincount(labels, first, minlength=classes)
    return {
        "clip_top1": _clip_accuracy(logits, labels, present, 1),
        "clip_top5": _clip_accuracy(logits, labels, present, 5) if five else None,
        **_top(first, 1),
        **(_top(_hits(logits, present, labels, 5, how), 5) if five else {"top5": None, "top5_interval": None}),
        "top1_of_expected": float(first.sum() / _expected(scores)),
        "ece": calibration_error(scores, output, head, how),
        "per_class": [r / n if n else None for r, n in zip(right.tolist(), counts.tolist())],
        "not_finite": int((present & ~there).sum()),
        "n": len(labels),
    }


def confidence(scores: Scores, output: str, head: str, how: str = HOW) -> tuple[np.ndarray, ...]:
    """Returns (how sure an output is of its guess, whether that is right, whether it has one, with finite scores),
    each [N]. Of the joint head, 'noun and verb', the confidence is the product of theirs; all must be right."""
    heads = file_lib.heads_within(scores, head)
    sure, right = np.ones(len(scores.id)), np.ones(len(scores.id), bool)
    for own in heads:
        probs = probabilities(file_lib.of_output(scores, output, own)[0], how)
        sure, right = sure * probs.max(1), right & (probs.argmax(1) == scores.label[own])
    return sure, right, np.all([file_lib.usable(scores, output, own) for own in heads], axis=0)


def calibration_error(scores: Scores, output: str, head: str, how: str = HOW) -> float | None:
    """Computes the calibration error over the clips that have an output, with finite scores; None for no clip."""
    sure, right, there = confidence(scores, output, head, how)
    return metrics.calibration_error(sure[there], right[there])


def cross_entropy(scores: Scores, output: str, head: str) -> float | None:
    """Computes the mean cross-entropy of an output over the labelled clips that have it with finite scores, the
    logits of its views averaged; None where no clip has."""
    scores = file_lib.labelled(scores)
    there = file_lib.usable(scores, output, head)
    if not there.any():
        return None
    # Logits, however probabilities are put together: a teacher's are what its student learns from.
    values = aggregate(file_lib.of_output(scores, output, head)[0][there], "logits")
    return float(metrics.cross_entropy(values, scores.label[head][there]).mean())


def _clip_accuracy(logits: np.ndarray, labels: np.ndarray, present: np.ndarray, k: int) -> float:
    """Computes top-k accuracy over single views, before any averaging: [N, V, K], [N], [N] -> fraction."""
    views = logits.shape[1]
    hit = metrics.top_k_hits(logits.reshape(-1, logits.shape[-1]), np.repeat(labels, views), k)
    return float((hit * np.repeat(present, views)).mean())


def _expected(scores: Scores) -> int:
    """Counts the clips that there should be: the labelled ones that there are, and those that data_prep lost."""
    # A file that does not say how many were expected is taken to lack none.
    there = len(scores.id)
    used = scores.meta.get("clips_used", there)
    return there + max(scores.meta.get("clips_expected", used) - used, 0)


def _multi(scores: Scores, output: str, head: str, how: str) -> dict:
    """Returns the numbers of one output and one head of several labels. A clip that lacks the output, or whose
    scores are not finite, is ranked last. 'map' is None where no class has a positive, 'mauc' where none has
    both a positive and a negative."""
    values, labels = _ranked(scores, output, head, how), scores.label[head]
    return {
        "map": metrics.mean_average_precision(values, labels),
        "mauc": metrics.mean_auc(values, labels),
        "not_finite": file_lib.not_finite(scores, output, head),
        "n": len(labels),
    }


def _ranked(scores: Scores, output: str, head: str, how: str) -> np.ndarray:
    """Returns what ranks the clips of each class of a head of several labels, [N, K]."""
    logits, present = file_lib.of_output(scores, output, head)
    there, kind = present & metrics.finite(logits), file_lib.probabilities_of(scores, head)
    values = aggregate(np.where(there[:, None, None], logits, 0), how, kind=kind)
    # A sigmoid keeps the order of a class's logits; a softmax, over all classes of each clip, does not.
    values = metrics.softmax(values) if kind == "single" and how == "logits" else values
    # Left out, these clips would make the ranking of the others look better than it is.
    return np.where(there[:, None], values, -np.inf)


# ---------------------------------------------------------------------------- how sure
def is_multi(scores: Scores, head: str) -> bool:
    """Tells whether the labels of a head are of several classes; those of 'noun and verb' are not."""
    return head != file_lib.joint_head(scores) and scores.label[head].ndim > 1


def sampled_map(scores: Scores, output: str, head: str, how: str = HOW) -> np.ndarray:
    """Computes the mAP of an output in bootstrap samples of the labelled clips: [D]. Files of the same clips in
    the same order are sampled alike, so that their differences are paired."""
    scores = file_lib.labelled(scores)
    return metrics.sampled_map(_ranked(scores, output, head, how), scores.label[head])


def around(value: float, samples: np.ndarray) -> tuple[float, float]:
    """Returns the middle 95 % of bootstrap samples of a mAP (or of a difference), moved so that their mean is
    ``value``."""
    # A clip that a sample holds twice ranks beside itself, so that samples have a higher mAP than the clips.
    return metrics.middle(samples - (np.nanmean(samples) - value))


def interval(scores: Scores, output: str, head: str, how: str = HOW) -> tuple[float, ...]:
    """Computes the 95 % bootstrap interval over labelled clips of an output's top-1, or of its mAP where labels
    are of several classes: (low, high) as fractions, () where it is undefined."""
    scores = file_lib.labelled(scores)
    if not len(scores.id):
        return ()
    if not is_multi(scores, head):
        return metrics.bootstrap_interval(hits(scores, output, head, 1, how))
    value = mean_ap(scores, output, head, how)
    return () if value is None else around(value, sampled_map(scores, output, head, how))


def difference(scores: Scores, base: Scores, output: str, head: str, how: str = HOW) -> tuple[float, ...]:
    """Computes top-1 (or mAP) of ``scores`` minus that of ``base``, paired clip by clip over the labelled ones:
    (mean, low, high) as fractions, with a 95 % bootstrap interval.

    It is () where the two cannot be paired: other clips, no such output, an undefined mAP, or sums over
    different outputs, though both are called 'fused'.
    """
    scores, base = file_lib.labelled(scores), file_lib.labelled(base)
    own, other = (file_lib.summed(s, output) for s in (scores, base))
    there = all(o in s.logits for s, outputs in ((scores, own), (base, other)) for o in outputs)
    if not there or own != other or not len(scores.id) or scores.id.tolist() != base.id.tolist():
        return ()
    if not is_multi(scores, head):
        return metrics.paired_interval(*(hits(s, output, head, 1, how) for s in (scores, base)))
    values = [mean_ap(s, output, head, how) for s in (scores, base)]
    if None in values:
        return ()
    samples = np.subtract(*(sampled_map(s, output, head, how) for s in (scores, base)))
    return (values[0] - values[1], *around(values[0] - values[1], samples))


def mean_ap(scores: Scores, output: str, head: str, how: str = HOW) -> float | None:
    """Computes the mAP of a head of several labels, over labelled clips; None where no class has a positive."""
    return _multi(scores, output, head, how)["map"] if len(scores.id) else None


def summary(scores: Scores, how: str = HOW) -> dict:
    """Computes all numbers of a split: {output: {head: numbers}} of every output.

    Where there are several members, 'fused' is one more output, and 'oracle' {head: fraction} says how often
    any of them is right. Where several heads have single labels, 'noun and verb' is one more head, right where
    all of them are. Clips without a label (-1) are left out; without any labelled clip the result is {}. A
    number that is undefined is None: the mAP of a split without positives, the top-5 of five classes.
    """
    scores = file_lib.labelled(scores)
    if not len(scores.id):
        return {}
    several = len(file_lib.members(scores)) > 1
    outputs = [*scores.logits, *(["fused"] if several else [])]
    spaces = file_lib.heads_of(scores)
    single = [head for head, space in spaces.items() if space.kind == "single"]
    result: dict = {output: {} for output in outputs}
    for output in outputs:
        for head in spaces:
            form = _single if head in single else _multi
            result[output][head] = form(scores, output, head, how)
        if joint := file_lib.joint_head(scores):
            every, error = hits(scores, output, joint, 1, how), calibration_error(scores, output, joint, how)
            result[output][joint] = {**_top(every, 1), "ece": error, "n": len(every)}
    if several and single:
        result["oracle"] = {head: float(oracle(scores, head, how).mean()) for head in single}
    return result


def oracle(scores: Scores, head: str, how: str = HOW) -> np.ndarray:
    """Returns 1 for each clip on which at least one member is right, else 0: [N] (DMCL's Phi)."""
    return np.max([hits(scores, output, head, 1, how) for output in file_lib.members(scores)], axis=0)


def subsets(scores: Scores, how: str = HOW) -> dict[str, dict[str, dict]]:
    """Computes what is left when modalities are missing: {'depth': .., 'depth + rgb': ..} -> {head: numbers}.

    There is an entry for every non-empty subset of the members, smallest first, whose logits are summed. A
    clip that has none of a subset's outputs counts as a miss in 'top1' or 'map'; 'covered' is the fraction of
    clips that have at least one.
    """
    scores = file_lib.labelled(scores)
    if not len(scores.id):
        return {}
    names, found = file_lib.members(scores), {}
    sizes = range(1, len(names) + 1)
    for subset in itertools.chain(*(itertools.combinations(names, size) for size in sizes)):
        found[" + ".join(subset)] = {
            head: _subset(scores, " + ".join(subset), head, how) for head in file_lib.heads_of(scores)
        }
    return found


def _subset(scores: Scores, name: str, head: str, how: str) -> dict:
    _, present = file_lib.of_output(scores, name, head)
    covered = {"covered": float(present.mean()), "n": len(present)}
    # Class ids [N] are single labels, multi-hot rows [N, K] are several.
    if scores.label[head].ndim == 1:
        return _top(hits(scores, name, head, 1, how), 1) | covered
    return {"map": mean_ap(scores, name, head, how)} | covered


def headline_values(scores: Scores, how: str = HOW) -> dict[str, float]:
    """Returns {'output/top1': .., 'oracle/top1': .., 'output/map': ..}, the numbers that are logged during
    training and that decide which checkpoint is best. Undefined ones are left out, so that the result may
    be {}."""
    values = {}
    for output, heads in summary(scores, how).items():
        for head, numbers in heads.items():
            # One head needs no suffix. data_prep refuses a head that is named like two others joined by '_and_'.
            suffix = f"_{'_and_'.join(file_lib.heads_within(scores, head))}" if len(heads) > 1 else ""
            if output == "oracle":
                values[f"oracle/top1{suffix}"] = numbers
                continue
            for name in ("top1", "map"):
                if numbers.get(name) is not None:
                    values[f"{output}/{name}{suffix}"] = numbers[name]
    return values
