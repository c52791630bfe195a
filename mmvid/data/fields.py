"""Tabulates what a record holds of each modality: its columns, how many frames there are, how to read them."""

import contextlib
import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import filmstrips as strips
from mmvid.data import measures as numbers
from mmvid.data import stored
from mmvid.data.measures import Measure
from mmvid.data.media.files import DecodeError


class Field(NamedTuple):
    """How a record keeps one kind of data.

    ``columns`` of the record hold it. The field is present where one of them is not empty; emptying all hides it.
    ``count(record, columns)`` tells how many frames a stream of it may draw from. ``raw(record, indices)``
    returns what is stored at these places, [n, ..], and ``read`` returns the same as the loader takes it. Places
    are frames of the clip; for sound they are samples. ``pictures(record, count)`` makes ``count`` pictures for
    people, evenly over the clip, uint8 [count, H, W, 3]; a field without it is not shown to them. Those of a field
    that ``plays`` make a film, those of another one are parts of one picture. ``computed``: where a clip brings
    none, it can be computed from the pictures, frame by frame. ``measured(record, values)`` are the numbers of its
    ``measures``, of what ``raw`` has returned for some places; nan where one has no meaning. ``sketched(values)``
    makes of them what is nearly equal for copies of a clip, however they were encoded.
    """

    columns: tuple[str, ...]
    count: Callable
    raw: Callable
    read: Callable
    pictures: Callable | None = None
    computed: bool = False
    plays: bool = True
    measures: tuple[Measure, ...] = ()
    measured: Callable = lambda record, values: ()
    sketched: Callable | None = None


FIELDS = {
    "rgb": Field(
        ("rgb", "rgb_video"),
        stored.whole,
        stored.colours,
        stored.colours,
        strips.colours,
        measures=numbers.COLOURS,
        measured=numbers.of_colours,
        sketched=numbers.sketch,
    ),
    "flow": Field(
        ("flow_x", "flow_y"),
        stored.kept,
        stored.flow,
        stored.flow,
        strips.flow,
        computed=True,
        measures=numbers.FLOW,
        measured=numbers.of_flow,
    ),
    "depth": Field(
        ("depth",),
        stored.kept,
        stored.depth,
        stored.depth_bytes,
        strips.depth,
        measures=numbers.DEPTH,
        measured=numbers.of_depth,
    ),
    "audio": Field(
        ("audio",),
        stored.whole,
        stored.samples,
        stored.samples,
        strips.sound,
        plays=False,
        measures=numbers.SOUND,
        measured=numbers.of_sound,
    ),
    "boxes": Field(
        ("boxes",),
        stored.whole,
        stored.layouts,
        stored.layouts,
        strips.boxes,
        measures=numbers.BOXES,
        measured=numbers.of_boxes,
    ),
}


# ---------------------------------------------------------------------------- by name
def present(record: dict, field: str) -> bool:
    """Tells whether a record has a field."""
    return any(len(record[name]) > 0 for name in FIELDS[field].columns)


def count_frames(record: dict, field: str) -> int:
    """Returns how many frames a stream of ``field`` may draw from; 0 where it is absent."""
    row = FIELDS[field]
    return row.count(record, row.columns) if present(record, field) else 0


def least(frames: int) -> int:
    """Returns how many frames a field of a clip of so many ``frames`` has, if it does not end too early."""
    return frames - max(frames // 10, 1)


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns what is stored at ``indices`` of ``field``.

    RGB is uint8 [n, H, W, 3], flow uint8 [n, H, W, 2] (or 3 channels, where it was stored as colour pictures),
    depth uint16 [n, H, W, 1], sound int16 [n], boxes float32 [n, 14, 8]. Each distinct picture is decoded once.
    Raises DecodeError.
    """
    return FIELDS[field].raw(record, indices)


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns the same as ``decode_frames``, but depth as `stored.depth_levels` makes it. Raises DecodeError."""
    return FIELDS[field].read(record, indices)


def without(record: dict, names: Sequence[str]) -> dict:
    """Returns a copy of a record without the fields ``names``: their columns are empty."""
    columns = [column for name in names for column in FIELDS[name].columns]
    return record | {column: record[column][:0] for column in columns}


def filmstrips(record: dict, count: int) -> dict[str, np.ndarray]:
    """Returns pictures of a clip for people, ``count`` of each field that it has: {field: uint8 [count, H, W, 3]}.

    A field that cannot be decoded is left out.
    """
    return _for_people(record, dict.fromkeys(FIELDS, count))


def films(record: dict, most: int) -> dict[str, np.ndarray]:
    """Returns a clip for people: {field: uint8 [T, H, W, 3]}, with T of up to ``most`` frames of what plays,
    evenly over the clip, and 1 of what is one picture. A field that cannot be decoded is left out."""
    count = min(record["num_frames"], most)
    return _for_people(record, {name: count if row.plays else 1 for name, row in FIELDS.items()})


def _for_people(record: dict, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    found = {}
    for name, row in FIELDS.items():
        if row.pictures and count_frames(record, name):
            # Damage costs the picture, not the page that it was to stand on.
            with contextlib.suppress(DecodeError, IndexError):
                found[name] = row.pictures(record, counts[name])
    return found


# ---------------------------------------------------------------------------- what is wrong with a clip
# How a whole JPEG and a whole PNG end: decoders fill up in grey what is missing, and say nothing.
_ENDS = b"\xff\xd9", b"IEND\xaeB`\x82"


def sampled(record: dict, field: str, count: int) -> np.ndarray:
    """Returns what is stored at ``count`` places of a field that a record has, evenly over it, or at all where it
    has fewer. Raises ValueError or IndexError for what cannot be read there, DecodeError where any of its pictures
    is cut short."""
    row = FIELDS[field]
    for column in row.columns:
        if stored.COLUMNS[column].kind == "frames":
            cut = [i for i, data in enumerate(record[column]) if not any(end in data[-64:] for end in _ENDS)]
            if cut:
                raise DecodeError(f"picture {cut[0]} of {len(record[column])} ends too early")
    frames = count_frames(record, field)
    return row.raw(record, np.linspace(0, frames - 1, min(count, max(frames, 1))).astype(int))


def measured(record: dict, field: str, values: np.ndarray) -> dict[str, float]:
    """Returns {measure: number} of a field of which ``values`` were read."""
    row = FIELDS[field]
    return dict(zip((measure.name for measure in row.measures), row.measured(record, values)))


def sketch(field: str, values: np.ndarray, count: int) -> np.ndarray | None:
    """Returns what is nearly equal, uint8 [count, ..], for copies of a clip that were encoded in unlike ways, of
    the ``values`` of a field, of which short clips have fewer; None where a field tells nothing of that."""
    if FIELDS[field].sketched is None:
        return None
    return FIELDS[field].sketched(values)[np.linspace(0, len(values) - 1, count).astype(int)]


def content(record: dict) -> Hashable:
    """Returns a key that is equal for clips that are stored twice: where the pictures in colour are equal and,
    for clips without, where all fields are."""
    fields = ["rgb"] if present(record, "rgb") else FIELDS
    values = [record[column] for field in fields for column in FIELDS[field].columns]
    parts = [part for value in values for part in (value if isinstance(value, list) else [bytes(value)]) if part]
    crc = functools.reduce(lambda crc, part: zlib.crc32(part, crc), parts, 0)
    # Sizes stand beside the CRC, as among 100,000 clips some of equal CRC are to be expected.
    return record["num_frames"], record["height"], record["width"], sum(map(len, parts)), crc
