"""What an evaluation leaves: logits of every clip, and what is asked of them first."""

import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from mmvid import files
from mmvid.logs import LOG
from mmvid.scores import metrics
from mmvid.streams import Head


class Scores(NamedTuple):
    """A split's predictions, one row a clip: ``id`` [N] text, ``row`` [N], ``label`` {head: [N] or
    [N, K]}, ``present`` {output: [N]}, ``logits`` {output: {head: [N, V, K]}} and ``meta``
    (split, protocol, dataset, fingerprint, clips_used, clips_expected, classes, step, members...)."""

    id: np.ndarray
    row: np.ndarray
    label: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    logits: dict[str, dict[str, np.ndarray]]
    meta: dict


def say_not_finite(scores: Scores) -> None:
    """Warns of each output that has scores that are not finite, with the number of such clips."""
    for output, heads in scores.logits.items():
        # The head with most of them stands for all: a sum over heads would count one clip twice.
        count = max(not_finite(scores, output, head) for head in heads)
        if count:
            LOG.warning(
                "%s: %d of %d clips have scores of %r that are not finite; they count as misses",
                scores.meta.get("split", "scores"),
                count,
                len(scores.id),
                output,
            )


def save(path: str | os.PathLike, scores: Scores) -> None:
    """Writes a scores file, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"id": scores.id, "row": scores.row, "meta": np.asarray(json.dumps(scores.meta))}
    # An archive is flat, hence keys like paths. `load` parts them at '/', which no output or head may have in it.
    arrays |= {f"label/{k}": v for k, v in scores.label.items()}
    arrays |= {f"present/{k}": v for k, v in scores.present.items()}
    arrays |= {f"logits/{o}/{h}": v for o, heads in scores.logits.items() for h, v in heads.items()}
    with files.whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


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
    # Which of these a damaged archive raises depends on where it was cut.
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run the same command") from None

    def under(prefix):
        return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}

    logits: dict[str, dict] = {}
    for name, value in under("logits/").items():
        output, head = name.split("/")
        logits.setdefault(output, {})[head] = value
    return Scores(arrays["id"], arrays["row"], under("label/"), under("present/"), logits, meta)


def heads_of(scores: Scores) -> dict[str, Head]:
    """Returns the label spaces {head: Head} of a scores file; a head whose labels are multi-hot is of kind
    'multi'."""
    spaces = {}
    for name, label in scores.label.items():
        classes = next(iter(scores.logits.values()))[name].shape[-1]
        names = tuple(scores.meta.get("classes", {}).get(name, ()))
        spaces[name] = Head(classes, "single" if label.ndim == 1 else "multi", names)
    return spaces


def probabilities_of(scores: Scores, head: str) -> str:
    """Says how the logits of a head become probabilities: 'single' is a softmax over its classes, also of several
    labels that were learnt by one (meta 'multi', of `losses.MULTI_LABEL`), 'multi' a sigmoid of each."""
    by_sigmoids = scores.label[head].ndim > 1 and scores.meta.get("multi", "sigmoid") == "sigmoid"
    return "multi" if by_sigmoids else "single"


def single_heads(scores: Scores) -> list[str]:
    """Lists the heads of single labels."""
    return [head for head, label in scores.label.items() if label.ndim == 1]


def joint_head(scores: Scores) -> str:
    """Names all heads of single labels together, right where each of them is: 'noun and verb' (an action of
    EPIC-KITCHENS); '' where there are fewer than two. 'flow + rgb' is something else: a sum of outputs."""
    single = single_heads(scores)
    return " and ".join(single) if len(single) > 1 else ""


def heads_within(scores: Scores, head: str) -> list[str]:
    """Lists the heads that ``head`` stands for: all of single labels for the `joint_head`, else itself alone."""
    return single_heads(scores) if head == joint_head(scores) else [head]


def rows(scores: Scores, index: np.ndarray) -> Scores:
    """Returns the scores of the clips of ``index`` alone: row numbers, in that order, or a mask [N]."""
    # `meta` is set aside, as it has no rows that could be indexed.
    return jax.tree.map(lambda x: x[index], scores._replace(meta={}))._replace(meta=scores.meta)


def shown_views(scores: Scores) -> int:
    """Returns in how many views each clip was shown, to the members where scores are `combine`'s."""
    return scores.meta.get("combined_views", scores.meta.get("views", 1))


def labelled(scores: Scores) -> Scores:
    """Returns the clips that have a label in every head, which are those that can be right or wrong.

    A class id of -1 means that there is no label, and so does a multi-hot row of -1. A multi-hot row of
    zeros is a label: it says that no class is present.
    """
    has = [(v >= 0).all(axis=tuple(range(1, v.ndim))) for v in scores.label.values()]
    there = np.all(has, axis=0) if has else np.ones(len(scores.id), bool)
    return scores if there.all() else rows(scores, there)


def only(scores: Scores, output: str) -> Scores:
    """Returns the scores of one output alone. Raises ValueError where there is no such output."""
    if output not in scores.logits:
        raise ValueError(f"there are no scores of {output!r}; there are those of {list(scores.logits)}")
    return scores._replace(
        present={output: scores.present[output]},
        logits={output: scores.logits[output]},
        meta=scores.meta | {"members": [output]},
    )


def name_of(split: str, protocol: str, crops: str) -> str:
    """The name, without .npz, of a split's scores that are not its run's own: made in another way."""
    # '@': no name of the run's own scores, which are SPLIT.npz, is taken.
    return f"{split}@{protocol}-{crops}"


def members(scores: Scores) -> tuple[str, ...]:
    """Returns the outputs over which sums and oracles are formed: those that the run has named, one of each
    network (the joint one of a fusion). In an older file, which names none, these are all outputs."""
    named = scores.meta.get("members") or scores.logits
    return tuple(output for output in scores.logits if output in named)


def summed(scores: Scores, output: str) -> tuple[str, ...]:
    """Returns the outputs whose logits ``output`` adds up: all members for 'fused', the two that 'depth + rgb'
    names, or the one output of that name."""
    return members(scores) if output == "fused" else tuple(output.split(" + "))


def fused(scores: Scores, outputs: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Adds up the logits of the members, or of ``outputs`` where they are given: {head: [N, V, K]}.

    An output that is absent from a clip is left out of that clip's sum. Logits that are not finite spoil
    their clip's sum, as they would in use.
    """
    # Logits are added, not probabilities: DMCL's Sigma, as its code computes it.
    total: dict[str, np.ndarray] = {}
    for output in outputs or members(scores):
        for head, logits in scores.logits[output].items():
            own = np.where(scores.present[output][:, None, None], logits, 0).astype(np.float64)
            with np.errstate(invalid="ignore"):  # inf - inf: `not_finite` counts these clips
                total[head] = total.get(head, 0) + own
    return total


def of_output(scores: Scores, output: str, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (logits [N, V, K], present bool [N]) of an output or of a sum; a sum is present in a clip where at
    least one of its outputs is."""
    if output in scores.logits:
        return scores.logits[output][head], scores.present[output]
    own = summed(scores, output)
    return fused(scores, own)[head], np.any([scores.present[m] for m in own], axis=0)


def usable(scores: Scores, output: str, head: str) -> np.ndarray:
    """Tells which clips have ``output``, and with finite scores only: bool [N]."""
    logits, present = of_output(scores, output, head)
    return present & metrics.finite(logits)


def not_finite(scores: Scores, output: str, head: str) -> int:
    """Counts the clips that have ``output``, but with a score that is not finite: every measure takes them for
    misses."""
    logits, present = of_output(scores, output, head)
    return int((present & ~metrics.finite(logits)).sum())
