"""Whether what was exported of a run says what the run says: of drawn clips, and of clips that it has scored."""

from collections.abc import Callable, Mapping

import numpy as np

from mmvid.run.export import Export, Known
from mmvid.streams import HAND, SIDES, STATES

# What an export may differ by from what the run has scored, perhaps on another device, whose products are rounded
# otherwise.
STORED = 0.05


def drawn(inputs: Mapping[str, tuple], count: int) -> dict[str, np.ndarray]:
    """Draws ``count`` clips for the ``inputs`` of an `Export`, always the same ones: {stream: [count, *shape]}."""
    rng = np.random.default_rng(0)
    made = {}
    for name, (shape, dtype) in inputs.items():
        low, high = {"uint8": (0, 256), "int16": (-3000, 3000)}.get(dtype, (0, 1))
        # Each clip has a brightness of its own.
        values = rng.uniform(low, high, (count, *shape)) * rng.uniform(0.3, 1, (count, *(1,) * len(shape)))
        made[name] = values.astype(dtype)
        if dtype == "float32":
            # Boxes: of what, on which side and in which state are numbers of rows in tables; 0 is no box.
            made[name][..., [4, 6, 7]] = rng.integers(
                0, 1 + np.array([HAND, SIDES, STATES]), (count, *shape[:-1], 3)
            )
    return made


def _apart(found: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """How far two answers [B, K] are apart: (as probabilities, as a share of how far the logits are spread)."""
    if not np.isfinite(own).all():
        raise ValueError("the run's own probabilities are not finite: its training diverged; train it again")
    # Smaller ones are beyond float32.
    there = own > 1e-30
    own_logs = np.log(own, where=there, out=np.zeros_like(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(found, where=there, out=np.zeros_like(own))
    # Of networks that say nearly the same of every class float32's own error would be a large share.
    spread = max(own_logs[there].std(), 0.1)
    return np.abs(found - own).max(), np.abs(logs - own_logs).max() / spread


def _worst(answer: Callable, clips: Mapping, own: Mapping) -> np.ndarray:
    """The largest of what `_apart` says of each output and head: [2]."""
    found = answer(clips)
    # Not Python's max, to which 0 is more than NaN.
    return np.max([_apart(np.float64(found[name]), own[name]) for name in own], axis=0)


def check(export: Export, answer: Callable) -> dict:
    """Compares ``answer`` with the run: of drawn clips, a batch of two and one of one, and of clips that it has
    scored. Returns what a file says of that. Raises ValueError where they are further apart than is allowed."""
    batches = [drawn(export.inputs, count) for count in (2, 1)]
    worst = np.max([_worst(answer, clips, export.own(clips)) for clips in batches], axis=0)
    kinds = ("probabilities differ by up to", "logits differ, as a share of their spread, by up to")
    for kind, found, allowed in zip(kinds, worst, export.allowed):
        if not found <= allowed:
            raise ValueError(
                f"the export does not say what the run says: {kind} {found:.2g}, and {allowed:g} is allowed. "
                "Nothing was written; take another --format"
            )
    return {
        "largest_difference": float(worst[0]),
        "largest_difference_of_logits": float(worst[1]),
        "scored": export.scored and _check_scored(export.scored, answer),
    }


def _check_scored(known: Known, answer: Callable) -> dict:
    """Compares ``answer`` with what the run's files say of clips of its dataset; what a file says of that."""
    worst = float(_worst(answer, known.inputs, known.probabilities)[0])
    count = len(next(iter(known.inputs.values())))
    if not worst <= STORED:
        raise ValueError(
            f"the export does not say what the run has scored: of {count} clips of {known.split!r} probabilities "
            f"differ by up to {worst:.2g}. Nothing was written; score the run again: python -m mmvid evaluate"
        )
    return {"split": known.split, "clips": count, "largest_difference": worst}
