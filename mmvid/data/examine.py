"""Looks at one clip of a dataset: what it has, what can be measured of it, and what is damaged."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mmvid import usage
from mmvid.data import fields, stored, subsets
from mmvid.data.media.files import reason
from mmvid.streams import Head

# Of 255: sketches of copies of one clip differ by up to this at any place. Tabletop's clips of 48 pixels, encoded
# anew by H.264 at crf 23 or scaled, do by up to 16, and those of different scenes by 45 and more.
LIKE = 16


class Clip(NamedTuple):
    """What was found of a clip: ``classes`` {head: ids}, ``fields`` {field: its frames} that it has, ``numbers``
    {(field, measure): number}. ``content`` is equal for equal clips; ``sketch``, uint8 [n, 16, 16], is nearly so
    for copies that were encoded in unlike ways, and None where nothing is to be seen. ``faults`` are reasons why
    the clip cannot be used; where its record cannot be read at all, ``content`` is None and the rest is empty."""

    id: str
    split: str
    classes: Mapping[str, tuple[int, ...]] = {}
    frames: int = 0
    rate: float = math.nan
    size: tuple[int, int] = (0, 0)
    fields: Mapping[str, int] = {}
    content: object = None
    sketch: np.ndarray | None = None
    numbers: Mapping[tuple[str, str], float] = {}
    faults: tuple[str, ...] = ()


def look(source, row: int, heads: Mapping[str, Head], count: int, name: str = "") -> Clip:
    """Looks at ``count`` places of the clip in a row of a source, and at the ends of all of its pictures; ``name``
    is what a clip is called whose record cannot be read. Raises Damaged where the source as a whole cannot be."""
    try:
        return _looked(source[row], source.split, heads, count)
    except usage.Damaged:
        raise
    except Exception as error:  # whatever the reader of the files raises: others go on
        return Clip(name or f"row {row}", source.split, faults=(f"cannot be read: {reason(error)}",))


def _looked(record: dict, split: str, heads: Mapping[str, Head], count: int) -> Clip:
    rate = stored.rate(record)
    numbers, sketch, faults = {}, None, [*_impossible(record, rate), *_mislabelled(record, heads)]
    for field in (name for name in fields.FIELDS if fields.present(record, name)):
        try:
            values = fields.sampled(record, field, count)
            own = fields.measured(record, field, values)
            numbers |= {(field, name): number for name, number in own.items() if not math.isnan(number)}
            sketch = _lively(fields.sketch(field, values, count)) if sketch is None else sketch
        except Exception as error:  # as above
            faults.append(f"its {field} cannot be read: {reason(error)}")
    return Clip(
        record["id"],
        split,
        {name: _classes(record["label"].get(name), head) for name, head in heads.items()},
        record["num_frames"],
        rate if 0 < rate < math.inf else math.nan,
        (record["width"], record["height"]),
        {field: n for field in fields.FIELDS if (n := fields.count_frames(record, field))},
        fields.content(record),
        sketch,
        numbers,
        tuple(faults),
    )


def _lively(sketch: np.ndarray | None) -> np.ndarray | None:
    """Leaves out a sketch that shows next to nothing: it would be like those of all other dark or empty clips."""
    return None if sketch is None or np.ptp(sketch.astype(int), axis=(1, 2)).max() <= LIKE else sketch


def _impossible(record: dict, rate: float) -> Iterator[str]:
    """Says what of a clip's length and rate cannot be."""
    if record["num_frames"] < 1:
        yield f"it has {record['num_frames']} frames"
    if not 0 < rate < math.inf:
        yield f"it has {rate:g} frames a second"


def _mislabelled(record: dict, heads: Mapping[str, Head]) -> Iterator[str]:
    """Says which labels name a class that there is not: a loss would take another one for it."""
    for name, head in heads.items():
        label = np.asarray(record["label"].get(name, -1))
        if label.ndim == 1:
            if len(label) != head.classes:
                yield f"its label in {name!r} is of {len(label)} classes, there are {head.classes}"
        else:
            ids = label[:, 0] if label.ndim == 2 else label.reshape(1)
            # -1 says that there is no label.
            if len(beyond := ids[(ids < -1) | (ids >= head.classes)]):
                yield f"its label in {name!r} is class {int(beyond[0])}, there are {head.classes}"


def _classes(label, head: Head) -> tuple[int, ...]:
    """Lists the classes of a label that is kept in any way; () where there is none."""
    return () if label is None else tuple(np.flatnonzero(subsets.classes_of(np.asarray(label), head)).tolist())
