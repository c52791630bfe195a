"""What a record holds of each modality: the table of its columns, how many frames there are, how they are read."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data.media.files import DecodeError
from mmvid.streams import BOX, SLOTS

# Metres, for records that name no range of their own.
DEPTH_RANGE = (0.0, 8.0)


class Field(NamedTuple):
    """``columns``: where in a record it is kept, and what is emptied to hide it; present where one of them
    is not empty.

    ``count(record)``: how many frames a stream of it may draw from. ``raw(record, indices) -> [n, ..]``: what
    is stored at these places, and ``read`` that as the loader takes it. The places are frames of the clip,
    but samples of sound. ``shown``: people can look at it.
    """

    columns: tuple[str, ...]
    count: Callable
    raw: Callable
    read: Callable
    shown: bool = False


def _whole(record: dict, columns: Sequence[str]) -> int:
    """As many frames as the clip has: a film, and what lasts as long however little of it is stored."""
    return record["num_frames"]


def _stored(record: dict, columns: Sequence[str]) -> int:
    """A picture a frame, but none beyond the last frame. The longer plane of flow, so that reading tells
    where pictures of the other one are lost."""
    return min(max(len(record[name]) for name in columns), record["num_frames"])


# ---------------------------------------------------------------------------- pictures
def _each(decode: Callable, indices) -> np.ndarray:
    """[n, ..] of ``decode(index)``, each distinct index decoded once."""
    distinct, inverse = np.unique(np.asarray(indices), return_inverse=True)
    pictures = [decode(i) for i in distinct]
    return np.stack([pictures[i] for i in inverse.reshape(-1)])


def _colours(record: dict, indices) -> np.ndarray:
    """uint8 [n, H, W, 3]."""
    if record.get("rgb_video"):
        film = frames_lib.decode_mp4(record["rgb_video"], np.unique(indices))
        return _each(lambda i: film[int(i)], indices)
    return _each(lambda i: frames_lib.decode_image(record["rgb"][i], True), indices)


def _flow(record: dict, indices) -> np.ndarray:
    """uint8 [n, H, W, 2]; colour pictures, 3 channels, where there is no second plane."""
    if not record["flow_y"]:
        return _each(lambda i: frames_lib.decode_image(record["flow_x"][i], True), indices)
    planes = [record[name] for name in ("flow_x", "flow_y")]
    return _each(lambda i: np.concatenate([frames_lib.decode_image(p[i], False) for p in planes], -1), indices)


def _depth(record: dict, indices) -> np.ndarray:
    """uint16 [n, H, W, 1], raw."""
    return _each(lambda i: frames_lib.decode_image(record["depth"][i], False), indices)


def _depth_bytes(record: dict, indices) -> np.ndarray:
    """uint8 [n, H, W, 1], by ``depth_levels``."""
    return depth_levels(
        _depth(record, indices), record["depth_scale"], record.get("depth_range", DEPTH_RANGE)
    )


@functools.lru_cache(maxsize=64)
def _levels(scale: float, near: float, far: float) -> np.ndarray:
    """The uint8 of every uint16 depth."""
    if not (scale > 0 and far > near):
        raise DecodeError(f"depth_scale={scale} is positive, depth_range={near, far} rises: correct them")
    shares = np.clip((np.arange(1 << 16) * scale - near) / (far - near), 0, 1)
    levels = np.round(1 + 254 * shares).astype(np.uint8)
    levels[0] = 0
    return levels


def depth_levels(raw: np.ndarray, scale: float, depth_range: tuple[float, float]) -> np.ndarray:
    """Depth as the networks read it: uint8 of ``raw``'s shape.

    ``raw`` times ``scale`` is metres; ``depth_range`` (near, far) goes linearly onto 1..255, what
    lies outside onto its ends. 0 is no reading and stays 0. Raises DecodeError for a range or a
    scale that is none.
    """
    return _levels(float(scale), *map(float, depth_range))[raw]


# ---------------------------------------------------------------------------- sound, boxes
def seconds(record: dict, indices) -> np.ndarray:
    """When the frames ``indices`` of a clip begin, in seconds from its start."""
    indices = np.asarray(indices)
    if (times := record.get("times")) is not None and len(times):
        return np.asarray(times, np.float64)[indices]
    return indices / record["fps"]


def sound_places(record: dict, indices: np.ndarray, rows: int, window: int, rate: int) -> np.ndarray:
    """The samples that ``rows`` windows of ``window`` samples read, evenly from the beginning of the first to
    the end of the last of the frames ``indices`` [.., T]: int [.., rows, window]. Places before 0 and beyond
    the last sample are silent. Raises DecodeError where the sound has another rate."""
    if record["audio_rate"] != rate:
        raise DecodeError(f"its sound has {record['audio_rate']} samples a second, {rate} are read")
    first, last = (seconds(record, end) for end in (indices.min(-1), indices.max(-1)))
    begin = (first - record["audio_start_s"]) * rate
    room = np.maximum((last - first + 1 / record["fps"]) * rate - window, 0)
    starts = begin[..., None] + room[..., None] * np.linspace(0, 1, rows)
    return np.round(starts).astype(np.int64)[..., None] + np.arange(window)


def _samples(record: dict, indices) -> np.ndarray:
    """int16, 0 where nothing is stored: a track shorter than the clip is silent for the rest of it."""
    track, indices = np.frombuffer(record["audio"], "<i2"), np.asarray(indices)
    within = (indices >= 0) & (indices < len(track))
    return np.where(within, track[np.where(within, indices, 0)], 0).astype(np.int16)


def _layouts(record: dict, indices) -> np.ndarray:
    """float32 [n, 14, 8]: the boxes of each frame in the order of their rows, those of the highest scores
    where there are more; the slots that are left, and frames without a row, are 0."""
    out = np.zeros((len(indices), SLOTS, BOX), np.float32)
    for target, index in zip(out, indices):
        rows = record["boxes"][record["boxes"][:, 0] == index, 1:]
        if len(rows) > SLOTS:
            rows = rows[np.sort(np.argsort(-rows[:, 5], kind="stable")[:SLOTS])]
        target[: len(rows)] = rows
    return out


FIELDS = {
    "rgb": Field(("rgb", "rgb_video"), _whole, _colours, _colours, shown=True),
    "flow": Field(("flow_x", "flow_y"), _stored, _flow, _flow),
    "depth": Field(("depth",), _stored, _depth, _depth_bytes),
    "audio": Field(("audio",), _whole, _samples, _samples),
    "boxes": Field(("boxes",), _whole, _layouts, _layouts),
}


# ---------------------------------------------------------------------------- by name
def present(record: dict, field: str) -> bool:
    """Whether a record has a field."""
    return any(len(record[name]) > 0 for name in FIELDS[field].columns)


def count_frames(record: dict, field: str) -> int:
    """Frames that a stream of ``field`` may draw from, 0 where it is absent."""
    row = FIELDS[field]
    return row.count(record, row.columns) if present(record, field) else 0


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """What is stored at ``indices`` of ``field``: pictures uint8 [n, H, W, C] (C is 3 of colours and of flow
    that is stored so, 2 of flow), depth uint16 [n, H, W, 1], samples int16 [n], layouts float32 [n, 14, 8].
    Each distinct picture is decoded once. Raises DecodeError."""
    return FIELDS[field].raw(record, indices)


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """``decode_frames`` as the loader takes it: uint8 for depth, too, by ``depth_levels``. Raises DecodeError."""
    return FIELDS[field].read(record, indices)


def hidden(record: dict, names: Sequence[str]) -> dict:
    """A record without the fields ``names``: their columns are empty."""
    columns = [column for name in names for column in FIELDS[name].columns]
    return record | {column: record[column][:0] for column in columns}


def thumbnails(record: dict, count: int) -> np.ndarray:
    """uint8 [count, H, W, 3]: pictures of a clip for people, evenly over it; none where it has no such."""
    for name, row in FIELDS.items():
        if row.shown and present(record, name):
            return row.raw(record, np.linspace(0, record["num_frames"] - 1, count).astype(int))
    return np.zeros((0, 1, 1, 3), np.uint8)
