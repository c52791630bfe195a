"""Writes scores as EPIC-Kitchens-55's action recognition challenge takes them (version 0.1 of its JSON)."""

from collections.abc import Mapping

import numpy as np

from mmvid.scores import file, numbers
from mmvid.scores.file import Scores

DATASET = "epic55"
# The file of each test: kitchens that are trained in, and others.
FILES = {"s1": "seen.json", "s2": "unseen.json"}
HEADS = ("verb", "noun")


def check(name: str, scores: Scores) -> None:
    """Raises ValueError for scores of another dataset, which ``name`` calls by their run."""
    if scores.meta.get("dataset") != DATASET:
        raise ValueError(
            f"{name} has scores of {scores.meta.get('dataset')!r}: the challenge takes those of the tests of "
            f"EPIC-Kitchens-55, which python -m data_prep.build --dataset {DATASET} makes"
        )


def of_head(scores: Scores, output: str, head: str, how: str) -> dict[str, dict[str, float]]:
    """Returns {uid: {class id: log-probability}} of every segment. Raises ValueError where one lacks the output,
    or has scores that are not finite."""
    logits, _ = file.of_output(scores, output, head)
    lacking = scores.id[~file.usable(scores, output, head)].tolist()
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(scores.id)} segments have no scores of {output!r}, as the uid {lacking[0]}: "
            "name an output that needs less with --output"
        )
    # The challenge takes the softmax of what it is given: that of log-probabilities are the probabilities.
    found = np.log(np.maximum(numbers.probabilities(logits, how), 1e-30))
    return {
        uid: {str(k): float(f"{value:.5g}") for k, value in enumerate(row)}
        for uid, row in zip(scores.id.tolist(), found.tolist())
    }


def submission(heads: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict:
    """Returns the contents of one file: ``heads`` {'verb' or 'noun': {uid: {class id: score}}}, of equal uids.

    Scores of actions are left out: the challenge multiplies the probabilities of verb and noun. Raises ValueError
    where the two heads are not of the same segments.
    """
    verb, noun = (heads[name] for name in HEADS)
    if odd := verb.keys() ^ noun.keys():
        raise ValueError(f"verbs and nouns are of other segments, {len(odd)} uids differ: {min(odd)} is one")
    results = {uid: {"verb": verb[uid], "noun": noun[uid]} for uid in sorted(verb, key=int)}
    return {"version": "0.1", "challenge": "action_recognition", "results": results}
