"""Temperature scaling: one number for each output and head that makes its probabilities honest.

Source: Guo et al. 2017.
"""

import numpy as np
from scipy import optimize

from mmvid.scores import file as file_lib
from mmvid.scores import metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores

# Temperatures are fitted on this split, and shown on those that share no clip with it: every segment that is
# scored is scored on it as well.
FITTED = "val"
# A classifier that is never wrong would take the temperature to 0, one that knows nothing to infinity.
LOWEST, HIGHEST = 0.05, 20.0


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float, how: str) -> float:
    """Computes the mean negative log-likelihood of the labels at a temperature: [N, V, K], [N] -> nats."""
    probs = numbers_lib.probabilities(logits / temperature, how)
    own = probs[np.arange(len(labels)), labels]
    # What has underflown is improbable, not impossible.
    return float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())


def fit(logits: np.ndarray, labels: np.ndarray, how: str = numbers_lib.HOW) -> float:
    """Finds the temperature, from `LOWEST` to `HIGHEST`, at which the labels are likeliest: [N, V, K], [N] -> T.

    Logits are divided by it before views are put together as ``how`` says. Raises ValueError for no examples.
    """
    if not len(labels):
        raise ValueError("a temperature is fitted on one example or more")
    logits = np.asarray(logits, np.float64)
    found = optimize.minimize_scalar(
        lambda log: loss(logits, labels, float(np.exp(log)), how),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
    )
    # 1 is what is used without: never exchanged for something worse, where the loss is flat.
    fitted = float(np.exp(found.x))
    return fitted if found.fun < loss(logits, labels, 1.0, how) else 1.0


def told(temperature: float) -> str:
    """Writes a temperature, '1.82'; 'at least 20' and 'at most 0.05' where the fit ended at its bounds, beyond
    which the labels would be likelier still."""
    # The search comes near to a bound, and not onto it.
    for bound, words in ((HIGHEST, "at least"), (LOWEST, "at most")):
        if abs(np.log(temperature / bound)) < 0.01:
            return f"{words} {bound:g}"
    return f"{temperature:.2f}"


def fitted(scores: Scores, how: str = numbers_lib.HOW) -> dict[str, dict[str, float]]:
    """Fits {output: {head: temperature}} for every output, and for 'fused' where there are several members, on the
    labelled clips that have it with finite scores. Heads of several labels, and outputs without such a clip, are
    left out."""
    scores, found = file_lib.labelled(scores), {}
    outputs = [*scores.logits, *(["fused"] if len(file_lib.members(scores)) > 1 else [])]
    single = [head for head, label in scores.label.items() if label.ndim == 1]
    for output in outputs:
        for head in single:
            there = file_lib.usable(scores, output, head)
            if there.any():
                logits, _ = file_lib.of_output(scores, output, head)
                found.setdefault(output, {})[head] = fit(logits[there], scores.label[head][there], how)
    return found


def scaled(scores: Scores, temperatures: dict[str, dict[str, float]], how: str = numbers_lib.HOW) -> dict:
    """Computes the calibration errors at ``temperatures`` (`fitted`, on another split): {output: {head:
    {'temperature', 'ece_scaled'}}}, over the labelled clips that have the output with finite scores."""
    scores, found = file_lib.labelled(scores), {}
    for output, heads in temperatures.items():
        # A frozen network may be absent from another split's file, and with it the sum.
        own = file_lib.summed(scores, output)
        if any(name not in scores.logits for name in own) or (output == "fused" and len(own) < 2):
            continue
        for head, temperature in heads.items():
            logits, _ = file_lib.of_output(scores, output, head)
            there = file_lib.usable(scores, output, head)
            probs = numbers_lib.probabilities(logits[there].astype(np.float64) / temperature, how)
            error = metrics.expected_calibration_error(probs, scores.label[head][there])
            found.setdefault(output, {})[head] = {"temperature": temperature, "ece_scaled": error}
    return found
