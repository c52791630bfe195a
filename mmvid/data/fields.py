"""What a record holds of each modality: how many frames, and what they show."""

import functools
from collections.abc import Sequence

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data.media.files import DecodeError

# What of a record a field is kept in.
KEPT_IN = {
    "rgb": ("rgb", "rgb_video"),
    "flow": ("flow_x", "flow_y"),
    "depth": ("depth",),
    "audio": ("audio",),
    "boxes": ("boxes",),
}


# Metres, for records that name no range of their own.
DEPTH_RANGE = (0.0, 8.0)


def count_frames(record: dict, field: str) -> int:
    """Frames of ``field`` in a record, 0 where it is absent: ``num_frames`` of RGB, of the others what
    is stored, but none beyond the last frame."""
    if field == "rgb":
        return record["num_frames"] if record["rgb"] or record["rgb_video"] else 0
    # The longer plane, so that reading tells where frames of the other one are lost.
    stored = ("flow_x", "flow_y") if field == "flow" else (field,)
    return min(max(len(record[name]) for name in stored), record["num_frames"])


def _flow_picture(record: dict, i: int) -> np.ndarray:
    """Two planes, or the colour picture that stands for them where there is no second plane."""
    if not record["flow_y"]:
        return frames_lib.decode_image(record["flow_x"][i], True)
    return np.concatenate([frames_lib.decode_image(record[name][i], False) for name in ("flow_x", "flow_y")], -1)


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Frames ``indices`` of ``field`` ('rgb', 'flow', 'depth') -> [len, H, W, C]: C is 3, 2 (3 where flow
    is stored as colour pictures), 1.

    Each distinct index is decoded once. uint8 (depth uint16, raw). Raises DecodeError.
    """
    indices = np.asarray(indices)
    distinct, inverse = np.unique(indices, return_inverse=True)
    if field == "flow":
        pictures = [_flow_picture(record, i) for i in distinct]
    elif field == "rgb" and record.get("rgb_video"):
        found = frames_lib.decode_mp4(record["rgb_video"], distinct)
        pictures = [found[i] for i in distinct.tolist()]
    else:
        pictures = [frames_lib.decode_image(record[field][i], field == "rgb") for i in distinct]
    return np.stack([pictures[i] for i in inverse.reshape(-1)])


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


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """``decode_frames``, uint8 for every field: depth by ``depth_levels``. Raises DecodeError."""
    frames = decode_frames(record, field, indices)
    if field == "depth":
        return depth_levels(frames, record["depth_scale"], record.get("depth_range", DEPTH_RANGE))
    return frames


def present(record: dict, field: str) -> bool:
    """Whether a record has the modality stored in ``field`` ('rgb', 'flow', 'depth', ...)."""
    if field == "rgb":
        return bool(record["rgb"]) or bool(record["rgb_video"])
    if field == "flow":
        return len(record["flow_x"]) > 0
    return len(record[field]) > 0
