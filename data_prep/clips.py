"""Stage 1: one clip -> one atomic file with everything a record needs, or the reason why not."""

import hashlib
import json
import os
import pathlib
import pickle
from typing import NamedTuple

import numpy as np

from data_prep.manifest import Item
from mmvid.data import decode

# Changes whenever stage 1 writes something else for the same input.
VERSION = 1


class Settings(NamedTuple):
    """How clips are stored. ``flow``: 'tvl1', 'tvl1-fast', 'dis' or 'none', within ``flow_bound``
    pixels; ``short_side`` 0 keeps the size; ``rgb_storage`` 'jpeg' or 'mp4' (short GOP)."""

    flow: str = "tvl1"
    flow_bound: float = 20.0
    flow_codec: str = "png"
    short_side: int = 256
    quality: int = 95
    rgb_storage: str = "jpeg"
    audio_rate: int = 16_000


def key(item: Item, settings: Settings, heads: dict) -> str:
    """The clip's file name: another one as soon as a source, a label or a setting changes."""
    stamps = []
    for path in (item.path, *item.paths.values()):
        stat = path.stat() if path.exists() else None
        stamps.append((str(path), stat and (stat.st_size, stat.st_mtime_ns)))
    parts = [VERSION, item.id, item.split, item.labels, item.start, item.end, stamps,
             settings._asdict(), heads]  # fmt: skip
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def encode_labels(item: Item, heads: dict[str, dict]) -> dict[str, np.ndarray]:
    """{head: class id, or multi-hot}; -1 where a test clip has no label.

    Raises DecodeError for a label that is not among the head's names.
    """
    out = {}
    for head, spec in heads.items():
        names = spec["names"]
        labels = [t for t in item.labels.get(head, "").split("|") if t]
        if unknown := [t for t in labels if t not in names]:
            raise decode.DecodeError(f"unknown label {unknown[0]!r} for {head}")
        ids = [names.index(t) for t in labels]
        if spec["kind"] == "multi":
            out[head] = np.isin(np.arange(len(names)), ids).astype(np.uint8)
        elif len(ids) > 1:
            raise decode.DecodeError(f"{len(ids)} labels for {head}, which takes one")
        elif not ids and item.split in ("train", "val"):
            raise decode.DecodeError(f"no label for {head}")
        else:
            out[head] = np.int64(ids[0] if ids else -1)
    return out


def _flow(frames: np.ndarray, settings: Settings) -> dict:
    empty = {"flow_x": [], "flow_y": [], "flow_bound": float(settings.flow_bound)}
    if settings.flow == "none" or len(frames) < 2:
        return empty
    from mmvid.data import flow

    if settings.flow == "dis":
        field = flow.dis(frames)
    else:
        preset = "fast" if settings.flow == "tvl1-fast" else "default"
        field = flow.clip_flow(frames, settings=preset)
    planes = flow.quantise(field, settings.flow_bound)
    jpeg = settings.flow_codec == "jpeg"
    encode = (lambda p: decode.encode_jpeg(p, settings.quality)) if jpeg else decode.encode_png
    return empty | {
        "flow_x": [encode(np.ascontiguousarray(p)) for p in planes[..., 0]],
        "flow_y": [encode(np.ascontiguousarray(p)) for p in planes[..., 1]],
    }


def _rgb(video: decode.Video, settings: Settings) -> dict:
    if settings.rgb_storage == "mp4":
        return {"rgb": [], "rgb_video": decode.encode_mp4(video.frames, video.fps)}
    images = [decode.encode_jpeg(f, settings.quality) for f in video.frames]
    return {"rgb": images, "rgb_video": b""}


def _boxes(path: pathlib.Path) -> np.ndarray:
    decode._existing(path)
    try:
        rows = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise decode.DecodeError(f"boxes not readable: {error}") from None
    if rows.ndim != 2 or rows.shape[1] != 9:
        raise decode.DecodeError(f"boxes must be [n, 9], got {rows.shape}")
    return rows.astype(np.float32)


def _further(item: Item, settings: Settings) -> dict:
    """Depth, sound and boxes where the manifest names them; empty otherwise."""
    out = {"depth": [], "depth_scale": 0.001, "audio": b"", "audio_rate": settings.audio_rate,
           "audio_start_s": 0.0, "boxes": np.zeros((0, 9), np.float32)}  # fmt: skip
    if path := item.paths.get("depth"):
        maps = decode.depth(path, short_side=settings.short_side)
        out["depth"] = [decode.encode_png(image) for image in maps]
    if path := item.paths.get("audio"):
        sound = decode.audio(path, rate=settings.audio_rate, start=item.start, end=item.end)
        out["audio"] = sound.tobytes()
    if path := item.paths.get("boxes"):
        out["boxes"] = _boxes(path)
    return out


def prepare(item: Item, settings: Settings, heads: dict[str, dict]) -> dict:
    """The record of a clip (mmvid/data/records.py). Raises DecodeError with the reason."""
    labels = encode_labels(item, heads)
    video = decode.clip(
        item.path, start=item.start, end=item.end, short_side=settings.short_side
    )  # fmt: skip
    count, height, width, _ = video.frames.shape
    return {
        "id": item.id,
        "split": item.split,
        "num_frames": count,
        "fps": video.fps,
        "height": height,
        "width": width,
        "label": labels,
        **_rgb(video, settings),
        **_flow(video.frames, settings),
        **_further(item, settings),
    }


def write(item: Item, settings: Settings, heads: dict, directory: pathlib.Path) -> str:
    """Prepares a clip into ``directory/<key>.pkl``, or the reason into ``<key>.rejected``.

    Returns the reason, '' for success. What is there already is not made again.
    """
    name = key(item, settings, heads)
    target, refused = directory / f"{name}.pkl", directory / f"{name}.rejected"
    if target.exists():
        return ""
    if refused.exists():
        return refused.read_text()
    try:
        data, path = pickle.dumps(prepare(item, settings, heads), protocol=5), target
    except decode.DecodeError as error:
        data, path = str(error).encode(), refused
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return "" if path is target else data.decode()
