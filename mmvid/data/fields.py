"""Tabulates what a record holds of each modality: its columns, how many frames there are, how to read them."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data import pictures
from mmvid.data.media.files import DecodeError
from mmvid.streams import BOX, SLOTS


class Column(NamedTuple):
    """How a column of a record is stored: by ``kind``, and for 'reals' in a ``shape`` whose None is any length.

    'text' and 'bytes' are one string, 'frames' is a list of encoded pictures, 'integer' and 'real' are numbers,
    'reals' an array of float32.
    """

    kind: str
    shape: tuple[int | None, ...] = ()


# All columns but the label, whose heads each dataset has of its own.
COLUMNS = {
    "id": Column("text"),
    "split": Column("text"),
    "num_frames": Column("integer"),
    "height": Column("integer"),
    "width": Column("integer"),
    "fps": Column("real"),
    "times": Column("reals", (None,)),
    "rgb": Column("frames"),
    "rgb_video": Column("bytes"),
    "flow_x": Column("frames"),
    "flow_y": Column("frames"),
    "flow_bound": Column("real"),
    "depth": Column("frames"),
    "depth_scale": Column("real"),
    "audio": Column("bytes"),
    "audio_rate": Column("integer"),
    "audio_start_s": Column("real"),
    "boxes": Column("reals", (None, BOX + 1)),
}
# What TFDS gives of each kind becomes a plain value.
_PLAIN: dict[str, Callable] = {
    "text": lambda value: value.decode(),
    "bytes": bytes,
    "frames": list,
    "integer": int,
    "real": float,
    "reals": lambda value: np.asarray(value, np.float32),
}


def plain(name: str, value):
    """Turns what TFDS gives of the column ``name`` into Python's values, or into an array where it is one."""
    return _PLAIN[COLUMNS[name].kind](value)


# Metres, for records that name no range of their own.
DEPTH_RANGE = (0.0, 8.0)


class Field(NamedTuple):
    """How a record keeps one kind of data.

    ``columns`` of the record hold it. The field is present where one of them is not empty; emptying all hides it.
    ``count(record, columns)`` tells how many frames a stream of it may draw from. ``raw(record, indices)``
    returns what is stored at these places, [n, ..], and ``read`` returns the same as the loader takes it. Places
    are frames of the clip; for sound they are samples. ``pictures(record, count)`` makes ``count`` pictures for
    people, evenly over the clip, uint8 [count, H, W, 3]; a field without it is not shown to them. ``computed``:
    where a clip brings none, it can be computed from the pictures, frame by frame.
    """

    columns: tuple[str, ...]
    count: Callable
    raw: Callable
    read: Callable
    pictures: Callable | None = None
    computed: bool = False


def _whole(record: dict, columns: Sequence[str]) -> int:
    """Counts all frames of the clip: for films, and for what holds throughout, however little is stored."""
    return record["num_frames"]


def _stored(record: dict, columns: Sequence[str]) -> int:
    """Counts the pictures stored, but none beyond the clip's last frame.

    Of flow the longer plane counts, so that reading raises where pictures of the other one are lost.
    """
    return min(max(len(record[name]) for name in columns), record["num_frames"])


def with_settings(record: dict, settings: Mapping) -> dict:
    """Returns a record with what its fields need to know of the ``settings`` of the dataset's build.

    This is ``depth_range``: (near, far) in metres, which the loader maps linearly to 1..255 (0 stays "no
    reading").
    """
    # Datasets that were built before the range was kept have the default one.
    near, far = settings.get("depth_range", DEPTH_RANGE)
    return record | {"depth_range": (float(near), float(far))}


# ---------------------------------------------------------------------------- pictures
def _each(decode: Callable, indices) -> np.ndarray:
    """Returns ``decode(index)`` of each index, [n, ..], and decodes each distinct index once."""
    distinct, inverse = np.unique(np.asarray(indices), return_inverse=True)
    pictures = [decode(i) for i in distinct]
    return np.stack([pictures[i] for i in inverse.reshape(-1)])


def _colours(record: dict, indices) -> np.ndarray:
    """Returns RGB, uint8 [n, H, W, 3]."""
    if record.get("rgb_video"):
        # A film is decoded in order, so all that is wanted comes from one pass.
        film = frames_lib.decode_mp4(record["rgb_video"], np.unique(indices))
        return _each(lambda i: film[int(i)], indices)
    return _each(lambda i: frames_lib.decode_image(record["rgb"][i], True), indices)


def _flow(record: dict, indices) -> np.ndarray:
    """Returns flow, uint8 [n, H, W, 2]; colour pictures, [n, H, W, 3], where there is no second plane."""
    if not record["flow_y"]:
        return _each(lambda i: frames_lib.decode_image(record["flow_x"][i], True), indices)
    planes = [record[name] for name in ("flow_x", "flow_y")]
    return _each(lambda i: np.concatenate([frames_lib.decode_image(p[i], False) for p in planes], -1), indices)


def _depth(record: dict, indices) -> np.ndarray:
    """Returns depth as stored, uint16 [n, H, W, 1]."""
    return _each(lambda i: frames_lib.decode_image(record["depth"][i], False), indices)


def _depth_bytes(record: dict, indices) -> np.ndarray:
    """Returns depth as uint8 [n, H, W, 1], by ``depth_levels``."""
    return depth_levels(_depth(record, indices), record["depth_scale"], record.get("depth_range", DEPTH_RANGE))


@functools.lru_cache(maxsize=64)
def _levels(scale: float, near: float, far: float) -> np.ndarray:
    """Returns the level of every stored depth, uint8 [65536]. Raises DecodeError for a wrong scale or range."""
    if not (scale > 0 and far > near):
        raise DecodeError(f"depth_scale={scale} is positive, depth_range={near, far} rises: correct them")
    # A table of all stored values, so that a pixel costs a look-up alone.
    shares = np.clip((np.arange(1 << 16) * scale - near) / (far - near), 0, 1)
    levels = np.round(1 + 254 * shares).astype(np.uint8)
    # "No reading" must stay apart from what is near.
    levels[0] = 0
    return levels


def depth_levels(raw: np.ndarray, scale: float, depth_range: tuple[float, float]) -> np.ndarray:
    """Maps depth to the levels that the loader hands over: uint8 of the shape of ``raw``.

    ``raw`` times ``scale`` is in metres. ``depth_range`` (near, far) is mapped linearly to 1..255, and what lies
    outside to its ends. 0 means no reading and stays 0. Raises DecodeError for a scale that is not positive, or
    a range that does not rise.
    """
    return _levels(float(scale), *map(float, depth_range))[raw]


# ---------------------------------------------------------------------------- time, sound, boxes
def rate(record: dict) -> float:
    """Returns how many frames a clip has a second, on average."""
    return record["fps"]


def seconds(record: dict, indices) -> np.ndarray:
    """Returns when the frames ``indices`` of a clip begin, in seconds from its start."""
    indices = np.asarray(indices)
    if (times := record.get("times")) is not None and len(times):
        return np.asarray(times, np.float64)[indices]
    return indices / record["fps"]


def _samples(record: dict, indices) -> np.ndarray:
    """Returns samples, int16 of the shape of ``indices``; where nothing is stored, they are 0 (silence)."""
    track, indices = np.frombuffer(record["audio"], "<i2"), np.asarray(indices)
    within = (indices >= 0) & (indices < len(track))
    return np.where(within, track[np.where(within, indices, 0)], 0).astype(np.int16)


def _layouts(record: dict, indices) -> np.ndarray:
    """Returns the boxes of each frame, float32 [n, 14, 8], in the order of their rows.

    Where a frame has more than 14, those with the highest scores are kept. Slots that are left are 0.
    """
    out = np.zeros((len(indices), SLOTS, BOX), np.float32)
    for target, index in zip(out, indices):
        rows = record["boxes"][record["boxes"][:, 0] == index, 1:]
        if len(rows) > SLOTS:
            rows = rows[np.sort(np.argsort(-rows[:, 5], kind="stable")[:SLOTS])]
        target[: len(rows)] = rows
    return out


# ---------------------------------------------------------------------------- for people
def _evenly(record: dict, columns: Sequence[str], count: int) -> np.ndarray:
    """Returns ``count`` places evenly over what is stored in ``columns``."""
    return np.linspace(0, _stored(record, columns) - 1, count).astype(int)


def _colour_pictures(record: dict, count: int) -> np.ndarray:
    return _colours(record, np.linspace(0, record["num_frames"] - 1, count).astype(int))


def _flow_pictures(record: dict, count: int) -> np.ndarray:
    """Colours flow: the hue tells its direction, the strength of the colour its length as a share of the clip's
    longest; what rests is white."""
    flow = _flow(record, _evenly(record, ("flow_x", "flow_y"), count))
    return flow if flow.shape[-1] == 3 else pictures.wheel((np.float32(flow) - 127.5) / 127.5)


def _depth_pictures(record: dict, count: int) -> np.ndarray:
    """Draws depth in greys, near in white; where there is no reading it is black."""
    levels = _depth_bytes(record, _evenly(record, ("depth",), count))
    return np.repeat(np.where(levels, 256 - levels.astype(int), 0).astype(np.uint8), 3, -1)


def _sound_pictures(record: dict, count: int) -> np.ndarray:
    """Draws the log-mel spectrogram of the clip, cut into ``count`` pieces; low tones are at the bottom."""
    shape = 64, max(64 * record["width"] // record["height"], 1)
    rate, steps = record["audio_rate"], count * shape[1]
    begin, length = -record["audio_start_s"] * rate, record["num_frames"] / record["fps"] * rate
    window = 512
    places = np.round(begin + length * np.arange(steps) / steps).astype(int)[:, None] + np.arange(window)
    samples = _samples(record, places) / (1 << 15)
    loud = np.log1p(1e6 * pictures.spectrogram(samples, shape[0], rate))
    # From the median, since steady noise would hide what happens.
    loud = np.clip(loud - np.median(loud), 0, None)
    grey = np.uint8(np.rint(255 * loud / max(loud.max(), 1e-9)))
    pieces = grey.T[::-1].reshape(shape[0], count, shape[1]).swapaxes(0, 1)
    return pictures.glow(pieces)


def _boxes_pictures(record: dict, count: int) -> np.ndarray:
    """Draws the boxes of frames on the frames, or on black where there are none; a colour for each category."""
    places = np.linspace(0, record["num_frames"] - 1, count).astype(int)
    blank = np.zeros((count, record["height"], record["width"], 3), np.uint8)
    drawn = _colours(record, places) // 2 if present(record, "rgb") else blank
    for picture, layout in zip(drawn, _layouts(record, places)):
        for box in layout[layout[:, 4] > 0]:
            pictures.outline(picture, box[:4], int(box[4]))
    return drawn


FIELDS = {
    "rgb": Field(("rgb", "rgb_video"), _whole, _colours, _colours, _colour_pictures),
    "flow": Field(("flow_x", "flow_y"), _stored, _flow, _flow, _flow_pictures, computed=True),
    "depth": Field(("depth",), _stored, _depth, _depth_bytes, _depth_pictures),
    "audio": Field(("audio",), _whole, _samples, _samples, _sound_pictures),
    "boxes": Field(("boxes",), _whole, _layouts, _layouts, _boxes_pictures),
}


# ---------------------------------------------------------------------------- by name
def present(record: dict, field: str) -> bool:
    """Tells whether a record has a field."""
    return any(len(record[name]) > 0 for name in FIELDS[field].columns)


def count_frames(record: dict, field: str) -> int:
    """Returns how many frames a stream of ``field`` may draw from; 0 where it is absent."""
    row = FIELDS[field]
    return row.count(record, row.columns) if present(record, field) else 0


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns what is stored at ``indices`` of ``field``.

    RGB is uint8 [n, H, W, 3], flow uint8 [n, H, W, 2] (or 3 channels, where it was stored as colour pictures),
    depth uint16 [n, H, W, 1], sound int16 [n], boxes float32 [n, 14, 8]. Each distinct picture is decoded once.
    Raises DecodeError.
    """
    return FIELDS[field].raw(record, indices)


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns the same as ``decode_frames``, but depth as uint8, by ``depth_levels``. Raises DecodeError."""
    return FIELDS[field].read(record, indices)


def without(record: dict, names: Sequence[str]) -> dict:
    """Returns a copy of a record without the fields ``names``: their columns are empty."""
    columns = [column for name in names for column in FIELDS[name].columns]
    return record | {column: record[column][:0] for column in columns}


def filmstrips(record: dict, count: int) -> dict[str, np.ndarray]:
    """Returns pictures of a clip for people, ``count`` of each field that it has: {field: uint8 [count, H, W, 3]}.

    A field that cannot be decoded is left out.
    """
    found = {}
    for name, row in FIELDS.items():
        if row.pictures and count_frames(record, name):
            # Damage costs the picture, not the page that it was to stand on.
            with contextlib.suppress(DecodeError):
                found[name] = row.pictures(record, count)
    return found
