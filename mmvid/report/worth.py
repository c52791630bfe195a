"""What a joint network is worth: over the best of its modalities alone, and over naive joint training of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.models.fusion import JOINT
from mmvid.report.rows import Entry, difference, values
from mmvid.report.text import difference as written

# The columns of tables.
COLUMNS = ("over its best modality", "over its naive joint")


class Over(NamedTuple):
    """A paired difference to the line of a ``title``: (mean, low, high), or () where there is none."""

    title: str = ""
    difference: tuple[float, ...] = ()


class Worth(NamedTuple):
    """What a joint output is worth over the best ``modality`` alone and over ``naive`` joint training."""

    modality: Over = Over()
    naive: Over = Over()

    @property
    def cells(self) -> tuple[str, str]:
        """The texts of `COLUMNS`, '' where there is nothing to compare with."""
        best, naive = (written(over.difference) if over.title else "" for over in self)
        return best + (f" ({self.modality.title})" if best else ""), naive


def compared_with(config: Mapping, output: str) -> dict[str, str]:
    """Returns {part: the output of its copy} of the network that a joint output is of, or is the naive copy of, or
    else of one that reads the same streams; {} where there is none, and for an output of one stream."""
    every = (config.get("blend") or {}).get("copies") or {}
    owner, _, part = output.rpartition(".")
    if owner and part != JOINT:
        return {}
    owner = owner or output
    if owner in every:
        return dict(every[owner])
    reads = ((config.get("networks") or {}).get(owner) or {}).get("reads", ())
    streams = {stream for read in reads for stream in read}
    alike = [parts for parts in every.values() if len(streams) > 1 and set(parts) - {JOINT} == streams]
    alike.sort(key=lambda parts: parts.get(JOINT) != output)
    return dict(alike[0]) if alike else {}


def singles(config: Mapping, output: str, known: Mapping) -> list:
    """Lists those of the lines ``known`` {output: line} that are a modality alone of what a joint output reads."""
    copies = compared_with(config, output)
    return [known[copy] for part, copy in copies.items() if part != JOINT and copy in known]


def of(own: Entry, entries: Sequence[Entry], split: str, how: str) -> Worth:
    """Compares a line with those of the ``entries`` that are of the same runs, clip by clip, after averaging over
    seeds. The best modality is the one with the highest mean over seeds on the same ``split``: one for all seeds.
    """
    # A network may be trained several times: its copy comes first.
    first = {entry.output: entry for entry in reversed(entries) if entry.row.runs == own.row.runs}
    best = max(singles(own.row.config, own.output, first), key=lambda one: _mean(one, split, how), default=None)
    naive = first.get(compared_with(own.row.config, own.output).get(JOINT, ""))

    def over(base: Entry | None) -> Over:
        if base is None or base is own:
            return Over()
        return Over(base.title, difference(own.row, base.row, split, own.output, how, base.output))

    return Worth(over(best), over(naive))


def _mean(entry: Entry, split: str, how: str) -> float:
    found = values(entry.row, split, entry.output, how)
    return float(np.mean(found)) if found else 0.0
