"""MML's table 10 of runs that were scored by the protocol of which its eight are subsets."""

from collections.abc import Sequence

from mmvid.report.text import aligned, percent
from mmvid.scores import file, numbers, protocols
from mmvid.scores.file import Scores
from mmvid.streams import OF_TABLE_10


def text(rows: Sequence[tuple[str, Sequence[Scores]]], split: str, how: str) -> str:
    """Writes a row for every output of every row (title, scores of each seed), a column for each protocol: top-1 /
    top-5, over several seeds their medians, as the paper prints. '' where no row was scored by that protocol."""
    there = [
        (title, own) for title, own in rows if all(protocols.has_all(s) and len(file.labelled(s).id) for s in own)
    ]
    if not there:
        return ""
    made = [["", "output", *OF_TABLE_10]]
    for title, seeds in there:
        found = [protocols.every(scores) for scores in seeds]
        for output in seeds[0].logits:
            cells = [_cell([own[protocol] for own in found], output, how) for protocol in OF_TABLE_10]
            made.append([title, output, *cells])
    several = ", medians over seeds" if any(len(own) > 1 for _, own in there) else ""
    unit = (
        "mAP" if any(numbers.is_multi(s, h) for _, own in there for s in own for h in s.label) else "top-1 / top-5"
    )
    return f"{split}, k dense and m uniform clips (DkUm), {unit}{several}\n{aligned(made)}"


def _cell(seeds: Sequence[Scores], output: str, how: str) -> str:
    own = [next(iter(numbers.summary(scores, how)[output].values())) for scores in seeds]
    names = ("map",) if "map" in own[0] else tuple(n for n in ("top1", "top5") if own[0].get(n) is not None)
    return " / ".join(map(percent, protocols.medians([[each[name] for name in names] for each in own])))
