"""Stage 1: one clip -> one atomic file with everything a record needs, or the reason why not."""

import hashlib
import json
import os
import pathlib
import pickle
from typing import NamedTuple

import numpy as np

from data_prep import manifest
from data_prep.manifest import Item
from mmvid.data import decode

# Changes whenever stage 1 writes something else for the same input.
VERSION = 3
FLOWS = ("tvl1", "tvl1-fast", "dis", "none")


class Settings(NamedTuple):
    """How clips are stored. ``flow``: one of FLOWS, within ``flow_bound`` pixels; ``short_side`` 0
    keeps the size; ``rgb_storage`` 'jpeg' or 'mp4' (short GOP)."""

    flow: str = "tvl1"
    flow_bound: float = 20.0
    flow_codec: str = "png"
    short_side: int = 256
    quality: int = 95
    rgb_storage: str = "jpeg"
    audio_rate: int = 16_000


def _stamp(path: pathlib.Path) -> list:
    """Size and time of a file, or of every file of a folder; [] where there is none, or none that
    can be looked at: preparing the clip will say why."""
    try:
        if path.is_dir():
            files = sorted(path.iterdir())
            return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        return []


def keys(items: list[Item], settings: Settings) -> dict[str, str]:
    """{id: the clip's file name}: another one as soon as a source or a setting changes. Labels and
    splits are put on in stage 2, so that changing them costs no decoding."""
    shared = json.dumps([VERSION, settings._asdict()], sort_keys=True)
    out = {}
    for item in items:
        stamps = [(str(path), _stamp(path)) for path in (item.path, *item.paths.values())]
        own = [item.id, item.start, item.end, stamps]
        text = shared + json.dumps(own, sort_keys=True)
        out[item.id] = hashlib.sha256(text.encode()).hexdigest()[:24]
    return out


def encode_labels(item: Item, heads: dict[str, dict]) -> dict[str, np.ndarray]:
    """{head: class id, multi-hot, or rows of spans}; -1 where a clip outside train and val has no
    label.

    Raises DecodeError for a label that is not among the head's names, or lacks its times.
    """
    out = {}
    for head, spec in heads.items():
        names = spec["names"]
        labels = item.labels.get(head, ())
        if spec["kind"] == "spans":
            out[head] = _spans(item, labels, names, head)
            continue
        if unknown := [t for t in labels if t not in names]:
            raise decode.DecodeError(f"unknown label {unknown[0]!r} for {head}")
        ids = [names.index(t) for t in labels]
        if spec["kind"] == "multi":  # none at all is an answer, too
            out[head] = np.isin(np.arange(len(names)), ids).astype(np.uint8)
        elif len(ids) > 1:
            raise decode.DecodeError(f"{len(ids)} labels for {head}, which takes one")
        elif not ids and item.split in ("train", "val"):
            raise decode.DecodeError(f"no label for {head}")
        else:
            out[head] = np.int64(ids[0] if ids else -1)
    return out


def _spans(item: Item, labels: tuple[str, ...], names: list[str], head: str) -> np.ndarray:
    """float32 [n, 3]: class, start and end in seconds of the clip; those outside of it are left out."""
    rows = []
    for label in labels:
        found = manifest.span(label)
        if found is None or not found[1] < found[2]:
            raise decode.DecodeError(f"{label!r} for {head} is not 'class@start-end' in seconds")
        if found[0] not in names:
            raise decode.DecodeError(f"unknown label {found[0]!r} for {head}")
        end = np.inf if item.end is None else item.end
        start, end = max(found[1], item.start), min(found[2], end)
        if start < end:
            rows.append((names.index(found[0]), start - item.start, end - item.start))
    return np.asarray(rows, np.float32).reshape(-1, 3)


def _flow(frames: np.ndarray, settings: Settings) -> dict:
    empty = {"flow_x": [], "flow_y": [], "flow_bound": float(settings.flow_bound)}
    if settings.flow == "none" or len(frames) < 2:
        return empty
    from mmvid.data import flow

    if settings.flow == "dis":
        field = flow.dis(frames)
    else:
        preset = "fast" if settings.flow == "tvl1-fast" else "default"
        # Measured on a core: no slower a pair than larger batches, and little is padded.
        field = flow.clip_flow(frames, settings=preset, batch_size=8)
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
    decode.existing(path)
    try:
        if path.suffix == ".npy":
            rows = np.load(path)
        else:
            lines = [line for line in path.read_text().splitlines() if line.strip()]
            lines = lines[1:] if lines and lines[0].startswith("frame") else lines
            rows = np.array([line.split(",") for line in lines], np.float64)
        rows = rows.reshape(0, 9) if rows.size == 0 else rows
    except (ValueError, EOFError, OSError) as error:
        raise decode.DecodeError(f"boxes not readable: {error}") from None
    if rows.ndim != 2 or rows.shape[1] != 9:
        raise decode.DecodeError(f"boxes must be [n, 9], got {list(rows.shape)}")
    # Rounding may overstep the picture by a hair; pixels instead of shares overstep it by far.
    corners = rows[:, 1:5]
    if not np.isfinite(rows).all() or ((corners < -0.01) | (corners > 1.01)).any():
        raise decode.DecodeError("boxes must be finite, with x1, y1, x2, y2 in [0, 1]")
    return np.concatenate([rows[:, :1], corners.clip(0, 1), rows[:, 5:]], 1, dtype=np.float32)


def _further(item: Item, settings: Settings, fps: float, count: int) -> dict:
    """Depth, sound and boxes where the manifest names them; empty otherwise."""
    out = {"depth": [], "depth_scale": 0.001, "audio": b"", "audio_rate": settings.audio_rate,
           "audio_start_s": 0.0, "boxes": np.zeros((0, 9), np.float32)}  # fmt: skip
    # Depth and boxes count frames of the whole video, the record those of the clip.
    first = round(item.start * fps)
    if path := item.paths.get("depth"):
        maps = decode.depth(path, short_side=settings.short_side)
        maps = maps[first:] if item.end is None else maps[first : first + count]
        if not len(maps):
            raise decode.DecodeError(f"no depth maps between {item.start} s and {item.end} s")
        out["depth"] = [decode.encode_png(image) for image in maps]
    if path := item.paths.get("audio"):
        sound = decode.audio(path, rate=settings.audio_rate, start=item.start, end=item.end)
        out |= {"audio": sound.samples.tobytes(), "audio_start_s": sound.start}
    if path := item.paths.get("boxes"):
        rows = _boxes(path) - np.float32([first] + [0] * 8)
        out["boxes"] = rows[(rows[:, 0] >= 0) & (rows[:, 0] < count)]
    return out


def prepare(item: Item, settings: Settings) -> dict:
    """The record of a clip (data_prep/README.md) but for split and labels. Raises DecodeError."""
    video = decode.clip(
        item.path, start=item.start, end=item.end, short_side=settings.short_side
    )  # fmt: skip
    if settings.rgb_storage == "mp4":
        # The codec wants even sides; every modality gets the same picture.
        height, width = (n // 2 * 2 for n in video.frames.shape[1:3])
        video = video._replace(frames=video.frames[:, :height, :width])
    count, height, width, _ = video.frames.shape
    return {
        "id": item.id,
        "num_frames": count,
        "fps": video.fps,
        "times": video.times.astype(np.float32),
        "height": height,
        "width": width,
        **_rgb(video, settings),
        **_flow(video.frames, settings),
        **_further(item, settings, video.fps, count),
    }


def write(item: Item, name: str, settings: Settings, directory: pathlib.Path) -> str:
    """Prepares a clip into ``directory/<name>.pkl``, or the reason into ``<name>.rejected``.

    Returns the reason, '' for success. What is there already is not made again. Nothing that a
    clip may hold ends the build: the unexpected is a reason like any other.
    """
    target, refused = directory / f"{name}.pkl", directory / f"{name}.rejected"
    if target.exists():
        return ""
    try:
        data, path, reason = pickle.dumps(prepare(item, settings), protocol=5), target, ""
    except Exception as error:
        expected = isinstance(error, decode.DecodeError)
        reason = " ".join(f"{'' if expected else f'unexpected {type(error).__name__}: '}{error}".split())
        data, path = reason.encode(), refused
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    if path is target:
        refused.unlink(missing_ok=True)
    return reason
