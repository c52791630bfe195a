"""Metrics of whole splits (NumPy, fractions); ties go to the lowest class index.

An example with any score that is not finite is a miss, ranks last and has no confidence. A number that is
undefined, as the mAP of a split without positives, is None.
"""

from collections.abc import Sequence

import numpy as np


def finite(scores: np.ndarray) -> np.ndarray:
    """Tells whether all scores of an example are finite: [N, ...] -> bool [N]."""
    return np.isfinite(scores).all(axis=tuple(range(1, np.ndim(scores))))


def _hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Tells whether the label is among the k highest scores: [N, K], [N] -> bool [N]. Raises ValueError for
    other shapes."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores [N, K] and labels [N] expected, got {scores.shape}, {labels.shape}")
    own = np.take_along_axis(scores, labels[:, None], 1)
    # Counted, not sorted: a tie goes to the lowest index whatever a sort would do.
    earlier = np.arange(scores.shape[1])[None] < labels[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    # NaN is ahead of nothing: the label would seem to win against it.
    return (ahead.sum(1) < k) & finite(scores)


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Returns 1. for each example whose label is among the k highest scores, else 0.: [N, K], [N] -> [N]."""
    return _hits(scores, labels, k).astype(np.float64)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Returns the fraction of examples whose label is among the k highest scores: [N, K], [N] -> fraction."""
    return float(_hits(scores, labels, k).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the softmax over the last axis, in float64; a row with a logit of NaN or +inf becomes NaN."""
    logits = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)


def _confidence(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (top-1 probability [n], whether top-1 is right [n]) of the examples whose probabilities are
    finite."""
    probs, labels = np.asarray(probs), np.asarray(labels)
    sure = finite(probs)
    probs, labels = probs[sure], labels[sure]
    return probs.max(1), probs.argmax(1) == labels


def expected_calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float | None:
    """Computes the ECE over equal bins (lo, hi] of the top-1 confidence: [N, K], [N] -> fraction; None where no
    example has finite probabilities.

    Source: Guo et al. 2017; bin edges as float32 linspace, as in MMD's code.
    """
    return calibration_error(*_confidence(probs, labels), bins)


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Returns the bin of every confidence: [N] -> int [N]."""
    edges = np.linspace(0, 1, bins + 1).astype(np.float32).astype(np.float64)
    # side="left" puts a confidence that equals an edge into the lower bin: (lo, hi].
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> float | None:
    """Computes the same from the confidence of each prediction and whether it is right: [N], [N] -> fraction."""
    if not len(hits):
        return None
    index = _bins(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    # |B| / N * |acc - conf| of a bin is |sum of conf - sum of hits| / N: the bin's size cancels.
    gaps = np.bincount(index, confidence, bins) - np.bincount(index, hits, bins)
    return float(np.abs(gaps[counts > 0]).sum() / len(hits))


def sampled_calibration_error(
    confidence: np.ndarray, hits: np.ndarray, there: np.ndarray, seed: int = 0, *, bins: int = 15, draws: int = 500
) -> np.ndarray:
    """Computes `calibration_error` of ``draws`` bootstrap samples of all N examples, of which those that are
    ``there`` count: [N] thrice -> [draws], NaN where a sample has none. Equal seeds draw the same examples."""
    rng, n = np.random.default_rng(seed), len(hits)
    gaps = np.zeros((n, bins))
    gaps[there, _bins(confidence[there], bins)] = confidence[there] - hits[there]
    found = []
    # In blocks: the samples of a large split at once would not fit into memory.
    for block in np.array_split(np.arange(draws), -(-draws * n // 2**22)):
        weights = rng.multinomial(n, np.full(n, 1 / n), len(block))
        counts = weights @ there
        found.append(np.where(counts > 0, np.abs(weights @ gaps).sum(1) / np.maximum(counts, 1), np.nan))
    return np.concatenate(found)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes each example's cross-entropy: logits [N, K] and class ids [N] -> [N]; of multi-hot labels [N, K] it
    is that of sigmoids, a mean over the classes."""
    if labels.ndim > 1:
        # log(1 + e^x) - y x, which does not overflow.
        return (np.logaddexp(0, logits) - labels * logits).mean(-1)
    peak = logits.max(-1, keepdims=True)
    log_sum = peak[:, 0] + np.log(np.exp(logits - peak).sum(-1))
    return log_sum - logits[np.arange(len(labels)), labels]


def reliability(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """Returns mean confidence, accuracy and number of examples of every bin of `expected_calibration_error`:
    [N, K], [N] -> [bins, 3]; empty bins are zero."""
    confidence, hits = _confidence(probs, labels)
    index = _bins(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, values, bins) for values in (confidence, hits)]
    return np.stack([s / np.maximum(counts, 1) for s in sums] + [counts], 1)


def _average_precisions(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Computes the average precision of one class in each of D samples of the examples: scores [N], positives
    bool [N] and how often a sample holds each example, [D, N] -> [D], NaN where a sample has no positive.

    It is the sum of (R_k - R_{k-1}) P_k over distinct thresholds, where R is recall and P precision.
    """
    # A step function without interpolation, as scikit-learn's, with which the papers' codes report mAP.
    order = np.argsort(-scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[:, order]
    # Tied scores are one threshold, or the order of the examples would change the result.
    last = np.append(scores[1:] != scores[:-1], True)
    true = np.cumsum(weights * positive, 1)[:, last]
    precision = true / np.maximum(np.cumsum(weights, 1)[:, last], 1)
    total = np.where(true[:, -1] > 0, true[:, -1], np.nan)
    return (np.diff(true, axis=1, prepend=0) * precision).sum(1) / total


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Computes the average precision of one class from scores [N] and positives bool [N]."""
    return float(_average_precisions(scores, positive, np.ones((1, len(scores)), int))[0])


def _per_class(scores, multilabels, keep, form) -> float | None:
    """Averages ``form(scores [N], positive [N])`` over the classes that ``keep(positive [N, K])`` -> bool [K]
    chooses; None where it chooses none. Raises ValueError where the shapes differ."""
    scores, positive = np.asarray(scores, np.float64), np.asarray(multilabels).astype(bool)
    if scores.shape != positive.shape:
        raise ValueError(f"scores {scores.shape} and labels {positive.shape} must agree")
    kept = np.flatnonzero(keep(positive))
    if not len(kept):
        return None
    # A lost example stays in the ranking, at its end: left out, it would flatter the rest.
    scores = np.where(finite(scores)[:, None], scores, -np.inf)
    return float(np.mean([form(scores[:, k], positive[:, k]) for k in kept]))


def mean_average_precision(scores: np.ndarray, multilabels: np.ndarray) -> float | None:
    """Averages the AP over the classes that have a positive: scores and labels [N, K] -> fraction, None where no
    class has one. MML reports it on Charades, G-Blend on AudioSet."""
    return _per_class(scores, multilabels, lambda p: p.any(0), _average_precision)


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Computes the ROC-AUC of one class, the share of (positive, negative) pairs in which the positive scores
    higher, from the sum of the positives' ranks (Mann-Whitney's U)."""
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    # Tied scores share their mean rank: a tie is half a pair in order.
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    n = positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def mean_auc(scores: np.ndarray, multilabels: np.ndarray) -> float | None:
    """Averages the ROC-AUC over the classes that have both positives and negatives: scores and labels [N, K] ->
    fraction, None where there is no such class. G-Blend reports it on AudioSet."""
    return _per_class(scores, multilabels, lambda p: p.any(0) & ~p.all(0), _auc)


def sampled_map(scores: np.ndarray, multilabels: np.ndarray, seed: int = 0, *, draws: int = 500) -> np.ndarray:
    """Computes the mAP of ``draws`` bootstrap samples of the examples: scores and labels [N, K] -> [draws].

    Equal seeds draw the same examples, so that samples of two networks are paired. A sample is NaN where no
    class has a positive in it.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(multilabels).astype(bool)
    scores = np.where(finite(scores)[:, None], scores, -np.inf)
    n = len(scores)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
    kept = np.flatnonzero(positive.any(0))
    each = [_average_precisions(scores[:, k], positive[:, k], weights) for k in kept]
    known = np.isfinite(each) if each else np.zeros((1, draws), bool)
    sums = np.where(known, each, 0).sum(0) if each else np.zeros(draws)
    return np.where(known.any(0), sums / np.maximum(known.sum(0), 1), np.nan)


def middle(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the bounds that the middle ``level`` of bootstrap samples lies within, samples of NaN left out: [D]
    -> (low, high)."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def oracle_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of examples that at least one of M outputs gets right: [M, N, K], [N] (DMCL's Phi)."""
    return float(np.any([_hits(own, labels, 1) for own in scores], axis=0).mean())


def sum_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the top-1 accuracy of the summed logits of M outputs: [M, N, K], [N] (DMCL's Sigma)."""
    return top_k_accuracy(np.asarray(scores, np.float64).sum(0), labels, 1)


def knn_accuracy(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray, k: int
) -> float | None:
    """Classifies each test feature by the majority of its ``k`` nearest training features and returns the
    accuracy: [N, D], [N], [n, D], [n] -> fraction, None where either side has no finite features.

    Distances are Euclidean, between features standardised over the training set. A tied vote goes to the class
    whose nearest member is nearer. Features that are not finite take no part. DMCL, figure 3.
    """
    features, test_features = np.asarray(features, np.float64), np.asarray(test_features, np.float64)
    known, asked = finite(features), finite(test_features)
    if not known.any() or not len(asked):
        return None
    features, labels = features[known], np.asarray(labels)[known]
    test_features, test_labels = test_features[asked], np.asarray(test_labels)[asked]
    mean, std = features.mean(0), features.std(0) + 1e-12
    a, b = (features - mean) / std, (test_features - mean) / std
    # |a - b|^2 without |b|^2, which is the same for all neighbours of b.
    length, right = (a**2).sum(1)[None], 0
    # In blocks: all distances of a large dataset at once would not fit into memory.
    for block in np.array_split(np.arange(len(b)), max(-(-len(b) // 256), 1)):
        order = np.argsort(length - 2 * b[block] @ a.T, 1, kind="stable")[:, : min(k, len(a))]
        nearest = labels[order]
        # Each neighbour counts those of its class; argmax takes the first, thus the nearest, of equal counts.
        votes = (nearest[:, :, None] == nearest[:, None, :]).sum(2)
        guesses = nearest[np.arange(len(nearest)), votes.argmax(1)]
        right += int((guesses == test_labels[block]).sum())
    return right / len(asked)


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts examples by class: [N, K], [N] -> [K true, K predicted]. An example whose scores are not finite
    predicts no class and is not counted."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    classes, sure = scores.shape[1], finite(scores)
    index = labels[sure] * classes + scores[sure].argmax(1)
    return np.bincount(index, minlength=classes**2).reshape(classes, classes)


def per_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the recall of every class: [N, K], [N] -> [K]; NaN where a class has no example."""
    classes, labels = np.shape(scores)[1], np.asarray(labels)
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(labels, _hits(scores, labels, 1), minlength=classes)
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)


def _resample(values: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """Returns the means of ``draws`` samples with replacement: [N] -> [draws]."""
    rng, n = np.random.default_rng(seed), len(values)
    # In blocks: all together would be N * draws numbers, one by one they take many times as long.
    sizes = [len(block) for block in np.array_split(np.arange(draws), -(-draws * n // 2**16))]
    return np.concatenate([values[rng.integers(0, n, (size, n))].mean(1) for size in sizes])


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, *, level: float = 0.95, draws: int = 2000
) -> tuple[float, float]:
    """Computes the percentile bootstrap interval of the mean of per-example values: [N] -> (low, high), NaN where
    there are none."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return float("nan"), float("nan")
    return middle(_resample(values, seed, draws), level)


def interval_of_means(
    each: Sequence[np.ndarray], seed: int = 0, *, level: float = 0.95, draws: int = 2000
) -> tuple[float, float]:
    """Computes the percentile bootstrap interval of the mean of several means, of per-example values of sets that
    have no examples in common: [N] each -> (low, high). Each set is sampled by itself."""
    samples = [_resample(np.asarray(own, np.float64), seed + i, draws) for i, own in enumerate(each)]
    return middle(np.mean(samples, axis=0), level)


def paired_interval(
    a: np.ndarray, b: np.ndarray, seed: int = 0, *, level: float = 0.95
) -> tuple[float, float, float]:
    """Computes the mean of a - b over the same examples with its bootstrap interval: [N] twice -> (mean, low,
    high). Pairing takes out what makes an example hard for both.

    Raises ValueError where the examples differ in number.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values need the same examples, got {a.shape} and {b.shape}")
    return (float((a - b).mean()), *bootstrap_interval(a - b, seed, level=level))
