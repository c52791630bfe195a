"""Gradient-Blending: k unimodal classifiers and a joint one learn by a weighted sum of their losses.

The weights are what each of them, trained alone, gained on clips that it had not seen, over the square of what it
overfitted by: G / O^2 (Wang et al. 2020). A plan measures both (`plans/gblend.py`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method
from mmvid.streams import Head

# What `weights` may be beside numbers and the folder of a run.
ESTIMATE, EQUAL, LEARNT = "estimate", "equal", "learnt"
CLAMP = 1e-3
CURVES = ("loss", "error")
ENDPOINTS = ("last", "best_val")
# Step of what is learnt in the weights: there is no rate in the paper.
RATE = 0.01


# ---------------------------------------------------------------------------- what a head gained and overfitted by
class Change(NamedTuple):
    """How heads changed between two moments, [H, ..] each: ``gain`` G on held-out clips, ``overfitting`` dO, by
    which the gap between held-out and training clips grew."""

    gain: np.ndarray
    overfitting: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """OGR = |dO / G|: inf where nothing was gained, nan where nothing changed."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(self.overfitting / self.gain)


def change(train_before, val_before, train_after, val_after) -> Change:
    """Computes G = L^V_N - L^V_{N+n} and dO = (L^V - L^T)_{N+n} - (L^V - L^T)_N of heads: [H, ..] each."""
    train_before, val_before, train_after, val_after = (
        np.asarray(x, np.float64) for x in (train_before, val_before, train_after, val_after)
    )
    return Change(val_before - val_after, (val_after - train_after) - (val_before - train_before))


def blend_weights(
    train_before, val_before, train_after, val_after, *, clamp: float = CLAMP, clamp_absolute: float = 0.0
) -> np.ndarray:
    """Computes w_i = (G_i / dO_i^2) / sum_j (G_j / dO_j^2): mean losses of H heads, [H, ..] each -> [H, ..].

    A head that gained nothing weighs 0; where none gained, all weigh alike. |dO| counts as ``clamp`` times the
    largest loss before at least, which scaling all losses does not change, and as ``clamp_absolute``. The sign
    of dO does not matter. Error rates may stand for losses: like these they fall as a head learns. Sources:
    G-Blend, section 3.2 and algorithm 1, whose Z has a stray factor 2 (its weights are to be of sum 1, as its
    tables' are); the rules for G <= 0 and small |dO| are ours, the paper has none. Raises ValueError for what is
    not finite, and for a clamp that is none.
    """
    _check_clamps(clamp, clamp_absolute)
    measured = [np.asarray(x, np.float64) for x in (train_before, val_before, train_after, val_after)]
    if not all(np.isfinite(x).all() for x in measured):
        raise ValueError("losses that are not finite give no weights: a probe diverged, lower its learning rate")
    # In units of the largest loss before: squares of tiny losses would be 0.
    unit = _unit(*measured[:2])[None]
    unit = np.where(unit > 0, unit, 1.0)
    found = change(*(x / unit for x in measured))
    least = np.maximum(clamp, clamp_absolute / unit)
    raw = np.where(found.gain > 0, found.gain / np.maximum(np.abs(found.overfitting), least) ** 2, 0.0)
    total = raw.sum(0, keepdims=True)
    return np.where(total > 0, raw / np.where(total > 0, total, 1.0), 1 / len(raw))


def least_overfitting(
    train_before, val_before, *, clamp: float = CLAMP, clamp_absolute: float = 0.0
) -> np.ndarray:
    """Computes the least that |dO| counts as in `blend_weights`: mean losses of H heads before, [H, ..] twice ->
    [..], in their unit."""
    return np.maximum(clamp * _unit(train_before, val_before), clamp_absolute)


def _unit(train_before, val_before) -> np.ndarray:
    """The largest loss before, [H, ..] twice -> [..]."""
    return np.maximum(np.abs(train_before), np.abs(val_before)).max(0)


def _check_clamps(clamp: float, clamp_absolute: float) -> None:
    if clamp < 0 or clamp_absolute < 0 or not 0 < clamp + clamp_absolute < np.inf:
        raise ValueError(
            f"clamp={clamp}, clamp_absolute={clamp_absolute}: the least |dO| is a share of the largest loss "
            "before or an absolute number, finite and 0 or more; one of them must be above 0, or a head that "
            "never overfitted would have all the weight"
        )


def ends(val: np.ndarray, endpoint: str) -> np.ndarray:
    """Chooses, for each head, the moment after the first that counts as N + n: losses [P, H, ..] of P moments ->
    [H, ..], places in P. It is the 'last' one, or that of the least held-out loss ('best_val', not in the paper).
    Raises ValueError for another ``endpoint``, or without two moments."""
    if endpoint not in ENDPOINTS:
        raise ValueError(f"endpoint={endpoint!r} is unknown; choose one of {ENDPOINTS}")
    if len(val) < 2:
        raise ValueError(f"{len(val)} moments are measured: weights need one before and one after")
    return val[1:].argmin(0) + 1 if endpoint == "best_val" else np.full(val.shape[1:], len(val) - 1)


def estimate(train: np.ndarray, val: np.ndarray, *, endpoint: str = "last", **clamps) -> np.ndarray:
    """Computes `blend_weights` from the losses at P moments, the first of them before: [P, H, ..] -> [H, ..]."""
    at = ends(val, endpoint)[None]
    after = (np.take_along_axis(x, at, 0)[0] for x in (train, val))
    return blend_weights(train[0], val[0], *after, **clamps)


def intervals(
    train: np.ndarray, val: np.ndarray, *, draws: int = 1000, level: float = 0.95, seed: int = 0, **how
) -> np.ndarray:
    """Computes the percentile bootstrap interval of each weight over the held-out clips: [H, 2], (low, high).

    ``train`` [P, H] are mean losses, ``val`` [P, H, N] those of each clip, nan where a clip lacks what the head
    reads. The same clips are drawn for all heads and moments; ``how`` are `estimate`'s options.
    """
    rng, n = np.random.default_rng(seed), val.shape[-1]
    # How often each clip is drawn: a product in place of an array of all draws' losses.
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    there = np.isfinite(val)
    seen = there.astype(np.float64) @ counts.T
    # A draw without any clip of a head says nothing of it: that of all clips stands in.
    mean = np.nanmean(val, -1)[..., None]
    means = np.where(seen > 0, (np.where(there, val, 0) @ counts.T) / np.maximum(seen, 1), mean)
    found = estimate(np.broadcast_to(train[..., None], means.shape), means, **how)
    return np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=-1).T


# ---------------------------------------------------------------------------- the method
def _numbers(text: str) -> list[float] | None:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        return None


def is_folder(text: str) -> bool:
    """Whether the option `weights` names the folder of a run: it is no word that says where weights come from, and
    no numbers."""
    return text not in (ESTIMATE, EQUAL, LEARNT) and _numbers(text) is None


def given(text: str, outputs: Sequence[str]) -> list[float] | None:
    """Reads the option `weights`: the numbers that it gives the ``outputs``, in their order; None where it gives
    none: they are to be estimated, or to come from a run. Numbers are taken as they are, whatever their sum.

    Raises ValueError for as many numbers as there are no outputs, for negative ones, and for zeros alone.
    """
    if text in (EQUAL, LEARNT):
        return [1 / len(outputs)] * len(outputs)
    if (found := _numbers(text)) is None:
        return None
    if len(found) != len(outputs) or not all(0 <= w < float("inf") for w in found) or not any(found):
        raise ValueError(
            f"weights={text!r}: write {ESTIMATE}, {EQUAL}, {LEARNT}, the folder of a run, or {len(outputs)} "
            f"numbers, 0 or more and one of them above 0, for {', '.join(outputs)} in this order"
        )
    return found


def check(outputs: Sequence[str], *, weights: str, clamp: float, clamp_absolute: float, **words: str) -> None:
    """Raises ValueError for options of `make` that cannot be; ``words`` are those that are one of a few."""
    known = {"curves": CURVES, "endpoint": ENDPOINTS, "multi": tuple(losses.MULTI_LABEL)}
    for name, value in words.items():
        if value not in known[name]:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known[name]}")
    _check_clamps(clamp, clamp_absolute)
    given(weights, outputs)


def make(
    outputs: tuple[str, ...],
    heads: dict[str, Head],
    *,
    weights: str = ESTIMATE,
    clamp: float = CLAMP,
    clamp_absolute: float = 0.0,
    curves: str = "loss",
    endpoint: str = "last",
    multi: str = "sigmoid",
) -> Method:
    """Makes G-Blend's method: the loss is sum_i w_i L_i over ``outputs``, with L the cross-entropy, averaged over
    heads; ``multi`` names that of several labels (`losses.MULTI_LABEL`). No gradient is stopped.

    The weights are the state, {'weights': [H]}: ``weights`` is 'estimate', in which case a plan puts those of
    `estimate` there, by the other options; 'equal'; 'learnt' (Kendall et al. 2018: L / s^2 + log s, the paper's
    "learned weights"); numbers, as '.38,.24,.38'; or the folder of a run whose weights a plan takes. Raises
    ValueError for options that cannot be.
    """
    check(
        outputs, weights=weights, clamp=clamp, clamp_absolute=clamp_absolute, curves=curves, endpoint=endpoint,
        multi=multi,
    )  # fmt: skip
    first = given(weights, outputs) or [1 / len(outputs)] * len(outputs)

    def terms(results, batch, state, key):
        del key
        term = terms_lib.task_term(results["main", "train"], batch["main"], outputs, heads, multi)
        return {"ce": term._replace(weight=jnp.asarray(state["weights"], jnp.float32))}

    if weights == LEARNT:
        return Method(terms, init=lambda: _uncertain(len(outputs)), update=_learning(outputs), multi=multi)
    return Method(terms, init=lambda: {"weights": np.float32(first)}, multi=multi)


# ---------------------------------------------------------------------------- learnt weights
def _uncertain(outputs: int) -> dict:
    """s = 1, which weighs all alike."""
    return {"weights": np.ones(outputs, np.float32), "log_variance": np.zeros(outputs, np.float32)}


def _learning(outputs: Sequence[str]) -> Callable:
    """The update of a method whose weights follow the gradient of exp(-v) L + v / 2, with v = log s^2."""

    def learn(state, metrics, results, batch):
        del results, batch
        found = jnp.stack([metrics[f"{output}/ce"] for output in outputs])
        log_variance = state["log_variance"] - RATE * (0.5 - state["weights"] * found)
        return {"weights": jnp.exp(-log_variance), "log_variance": log_variance}

    return learn
