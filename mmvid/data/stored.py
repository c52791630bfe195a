"""What a record stores: its columns, and what is read from them at some places of a clip."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import frames as frames_lib
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


def whole(record: dict, columns: Sequence[str]) -> int:
    """Counts all frames of the clip: for films, and for what holds throughout, however little is stored."""
    return record["num_frames"]


def kept(record: dict, columns: Sequence[str]) -> int:
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


def colours(record: dict, indices) -> np.ndarray:
    """Returns RGB, uint8 [n, H, W, 3]."""
    if record.get("rgb_video"):
        # A film is decoded in order, so all that is wanted comes from one pass.
        film = frames_lib.decode_mp4(record["rgb_video"], np.unique(indices))
        return _each(lambda i: film[int(i)], indices)
    return _each(lambda i: frames_lib.decode_image(record["rgb"][i], True), indices)


def flow(record: dict, indices) -> np.ndarray:
    """Returns flow, uint8 [n, H, W, 2]; colour pictures, [n, H, W, 3], where there is no second plane."""
    if not record["flow_y"]:
        return _each(lambda i: frames_lib.decode_image(record["flow_x"][i], True), indices)
    planes = [record[name] for name in ("flow_x", "flow_y")]
    return _each(lambda i: np.concatenate([frames_lib.decode_image(p[i], False) for p in planes], -1), indices)


def depth(record: dict, indices) -> np.ndarray:
    """Returns depth as stored, uint16 [n, H, W, 1]."""
    return _each(lambda i: frames_lib.decode_image(record["depth"][i], False), indices)


def depth_bytes(record: dict, indices) -> np.ndarray:
    """Returns depth as uint8 [n, H, W, 1], by ``depth_levels``."""
    return depth_levels(depth(record, indices), record["depth_scale"], record.get("depth_range", DEPTH_RANGE))


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


def samples(record: dict, indices) -> np.ndarray:
    """Returns samples, int16 of the shape of ``indices``; where nothing is stored, they are 0 (silence)."""
    track, indices = np.frombuffer(record["audio"], "<i2"), np.asarray(indices)
    within = (indices >= 0) & (indices < len(track))
    return np.where(within, track[np.where(within, indices, 0)], 0).astype(np.int16)


def layouts(record: dict, indices) -> np.ndarray:
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
