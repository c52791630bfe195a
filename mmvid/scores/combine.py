"""Scores of several runs or segments added up, clip by clip."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from mmvid import names
from mmvid.methods import distill
from mmvid.scores import file, numbers
from mmvid.scores.file import Scores

FORMS = ("logits", "log_probs")


def log_probabilities(logits: np.ndarray, kind: str = "single") -> np.ndarray:
    """Returns the logarithm of each class's probability: logits [..., K] -> [..., K], in float64.

    Kind 'single' takes the log-softmax over the K classes; kind 'multi' takes the log-sigmoid of each
    class alone, which is the log-probability that the class is present.
    """
    logits = np.asarray(logits, np.float64)
    if kind == "multi":
        # log sigmoid(x) = -log(1 + exp(-x)); logaddexp does not overflow where x is far below 0.
        return -np.logaddexp(0, -logits)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _differences(one: Scores, other: Scores) -> list[str]:
    """Lists in words what shows that two files are not of the same clips and classes; [] where nothing does."""
    # Outputs, steps and numbers of views may differ: a sum needs only the same clips and the same classes.
    found = [
        f"{name} {one.meta.get(name)!r} and {other.meta.get(name)!r}"
        for name in ("fingerprint", "split")
        if one.meta.get(name) != other.meta.get(name)
    ]
    spaces = file.heads_of(one), file.heads_of(other)
    if spaces[0] != spaces[1]:
        found.append(f"label spaces {sorted(spaces[0])} and {sorted(spaces[1])}, or other classes in them")
    if missing := set(one.id.tolist()) ^ set(other.id.tolist()):
        found.append(f"{len(missing)} clips that only one has, {min(missing)!r} among them")
    return found


def _relabelled(one: Scores, other: Scores) -> list[str]:
    """Lists in words the label spaces in which two files, with their clips in one order, differ in labels."""
    found = []
    for head, label in one.label.items():
        differs = (label != other.label[head]).reshape(len(label), -1).any(1)
        if changed := one.id[differs].tolist():
            found.append(f"labels {head!r} of {len(changed)} clips, {changed[0]!r} among them")
    return found


def aligned(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Returns the same scores with the rows of all in the order of the first one's.

    Raises ValueError where two are not of the same clips (dataset's fingerprint, split, ids, labels) and
    classes, saying which and how they differ.
    """
    first, *_ = scores
    found = {}

    def check(name: str, differences: list[str]) -> None:
        if differences:
            raise ValueError(f"{first} and {name} are not of the same data: {'; '.join(differences)}")

    for name, own in scores.items():
        check(name, _differences(scores[first], own))
        # The sets of ids are equal here, but nothing says that their order is.
        place = {clip: row for row, clip in enumerate(own.id.tolist())}
        found[name] = file.rows(own, np.array([place[clip] for clip in scores[first].id.tolist()], int))
        check(name, _relabelled(found[first], found[name]))
    return found


def _said_of_all(scores: Sequence[Scores]) -> dict:
    """What the meta of all say. Texts in which they differ, such as titles, are joined to 'CE + MML'; whatever
    else differs, such as the step, is true of no sum and left out."""
    found = {}
    for name, value in scores[0].meta.items():
        values = [own.meta.get(name) for own in scores]
        if all(other == value for other in values):
            found[name] = value
        elif all(isinstance(other, str) for other in values):
            found[name] = " + ".join(dict.fromkeys(filter(None, values)))
    return found


def _views_together(logits: np.ndarray, form: str, kind: str) -> np.ndarray:
    """Averages logits over the views, [N, V, K] -> [N, 1, K]; the form 'log_probs' makes log-probabilities
    of that mean."""
    mean = numbers.aggregate(logits, "logits")
    with np.errstate(invalid="ignore"):  # what is not finite stays so, and is counted as such
        return (mean if form == "logits" else log_probabilities(mean, kind))[:, None]


def _is_finite(weight) -> bool:
    if isinstance(weight, Mapping):
        return bool(weight) and all(map(_is_finite, weight.values()))
    return isinstance(weight, Real) and bool(np.isfinite(weight))


def _in_head(weight, head: str) -> float:
    """The weight in a head, of one that is the same in all or one for each. Raises ValueError for a head that
    has none."""
    if not isinstance(weight, Mapping):
        return weight
    if head not in weight:
        raise ValueError(f"a weight is given for {list(weight)}, and none for {head!r}: give one for each head")
    return weight[head]


def _of_sum(scores: Mapping[str, Scores], weights: Mapping, output: str) -> dict:
    """Makes the meta of a sum of ``scores``: what all have in common, and how it was made."""
    # One view is left, as the sum is one of means over views.
    found = {**_said_of_all(list(scores.values())), "views": 1}
    # A sum knows the clips that any of its members has learnt from.
    if any(own.meta.get("met") for own in scores.values()):
        found["met"] = True
    found["combined_views"] = max(file.shown_views(own) for own in scores.values())
    found["combined"] = {
        key: {"weight": weights[key], "segment": own.meta.get("segment", ""), "output": output}
        for key, own in scores.items()
    }
    return found


def combine(
    scores: Mapping[str, Scores],
    weights: Mapping[str, float | Mapping[str, float]] | None = None,
    *,
    output: str = "fused",
    form: str = "logits",
    name: str = "combined",
    share_out: bool = False,
) -> Scores:
    """Makes one column of several: adds up, clip by clip, the weighted ``output`` of each, as the output ``name``.

    ``scores`` is {what messages call it: Scores}; ``weights`` has the same names, and is 1 for each where it is
    None; a weight may also be {head: weight}. ``output`` is an output's name, a sum such as 'flow + rgb', or
    'fused' for the sum of all members. ``form`` says what is added: 'logits' (their mean over views) or
    'log_probs' (of that mean). An output that is absent from a clip is left out of that clip's sum; with
    ``share_out`` the others take over its weight, in proportion to theirs. The meta of the result is what all
    have in common (`_said_of_all`), and the 'combined_views' that a clip was shown in, those of the member with
    the most. Raises ValueError for scores of other data, an output that is not there or named twice, weights that
    are no finite numbers, or a ``name`` that no output can have.
    """
    weights = dict.fromkeys(scores, 1.0) if weights is None else weights
    names.check("output", name)
    if form not in FORMS:
        raise ValueError(f"form={form!r}: choose one of {FORMS}")
    if not scores or set(weights) != set(scores) or not all(map(_is_finite, weights.values())):
        raise ValueError(f"weights={weights}: give each of {list(scores)} a number")
    for key, own in scores.items():
        added = file.summed(own, output)
        if unknown := [o for o in added if o not in own.logits]:
            raise ValueError(f"{key} has no output {unknown[0]!r}; it has {list(own.logits)}")
        if len(set(added)) < len(added):
            raise ValueError(f"output={output!r} names one twice: a weight says how much each run counts")
    alike = aligned(scores)
    first = next(iter(alike.values()))
    present, logits = np.zeros(len(first.id), bool), {}
    for head, space in file.heads_of(first).items():
        found = [file.of_output(own, output, head) for own in alike.values()]
        kinds = [file.probabilities_of(own, head) for own in alike.values()]
        there = np.stack([own for _, own in found])
        weight = np.array([_in_head(weights[key], head) for key in alike], np.float64)
        shares = weight.sum() * distill.shared_out(weight, there) if share_out else weight[:, None] * there
        total = np.zeros((len(first.id), 1, space.classes))
        for (values, here), share, kind in zip(found, shares, kinds):
            # Chosen, not multiplied by 0: NaN in the row of an absent output would stay NaN.
            part = np.where(here[:, None, None], _views_together(values, form, kind), 0)
            total += share[:, None, None] * part
        present |= there.any(0)
        logits[head] = total
    meta = _of_sum(alike, weights, output)
    return first._replace(present={name: present}, logits={name: logits}, meta=meta | {"members": [name]})
