"""MML's table 10: eight test protocols from one pass over five views of a clip."""

from collections.abc import Sequence

import numpy as np

from mmvid.scores.file import Scores
from mmvid.streams import ALL_OF_TABLE_10, OF_TABLE_10

# Clips of a pass by that protocol.
CLIPS = 5


def has_all(scores: Scores) -> bool:
    """Tells whether scores were made by the protocol of which the eight are subsets."""
    return scores.meta.get("protocol") == ALL_OF_TABLE_10


def subset(scores: Scores, protocol: str) -> Scores:
    """Returns the scores that ``protocol`` would have given: its views alone.

    Raises ValueError for scores of another pass, and for another protocol than those of table 10.
    """
    if not has_all(scores) or protocol not in OF_TABLE_10:
        raise ValueError(
            f"scores of protocol {scores.meta.get('protocol')!r} hold no {protocol!r}: score the run by "
            f"--protocol={ALL_OF_TABLE_10}, of which {', '.join(OF_TABLE_10)} are subsets"
        )
    # The crops of a clip stand together.
    crops = scores.meta["views"] // CLIPS
    rows = np.concatenate([np.arange(clip * crops, (clip + 1) * crops) for clip in OF_TABLE_10[protocol]])
    logits = {
        output: {head: own[:, rows] for head, own in heads.items()} for output, heads in scores.logits.items()
    }
    return scores._replace(logits=logits, meta=scores.meta | {"protocol": protocol, "views": len(rows)})


def every(scores: Scores) -> dict[str, Scores]:
    """Returns {protocol: its scores} of all eight."""
    return {protocol: subset(scores, protocol) for protocol in OF_TABLE_10}


def medians(values: Sequence[Sequence[float]]) -> list[float]:
    """The median of each column over runs, as the paper prints: [runs, ..] -> [..]."""
    return np.median(np.asarray(values, np.float64), axis=0).tolist()
