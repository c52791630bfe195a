"""Phase 1: prepares one clip into a file with everything that its record needs, or writes the reason why not."""

import functools
import hashlib
import json
import os
import pathlib
import pickle
import stat

import numpy as np

from data_prep import manifest
from data_prep.manifest import Item
from mmvid.data.media import files, pictures, record
from mmvid.data.media.files import DecodeError
from mmvid.files import whole

# Changes whenever phase 1 writes something else for the same input.
VERSION = 4


def _stamp(path: pathlib.Path) -> list:
    """Returns what changes with the content of ``path``: size and time of a file, or of every file in a folder or
    of a pattern. [] where there is none, or none that may be read: preparing the clip will say why."""
    # Not a hash of the bytes: that would read every video again before each build.
    try:
        if path.is_dir():
            return _stamps(sorted(os.scandir(path), key=lambda entry: entry.name))
        if pictures.is_pattern(path):
            return _stamps(sorted(path.parent.glob(path.name)))
        return [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        return []


def _stamps(files: list) -> list:
    """Returns name, size and time of each of ``files`` (paths or entries of a folder), and those of what folders
    among them hold."""
    rows = []
    for file in files:
        status = file.stat()
        rows.append((file.name, status.st_size, status.st_mtime_ns))
        if stat.S_ISDIR(status.st_mode):
            rows += _stamp(pathlib.Path(file))
    return rows


def keys(items: list[Item], settings: record.Settings) -> dict[str, str]:
    """Returns {id: name of the clip's file}, a hash that changes with the clip's sources and the settings."""
    # Labels and splits are no part of it: phase 2 adds them, so that changing them costs no decoding.
    shared = json.dumps([VERSION, settings._asdict()], sort_keys=True)
    # A film may hold hundreds of clips, and a file system on the network is slow to answer.
    stamp = functools.cache(_stamp)
    out = {}
    for item in items:
        stamps = [(str(path), stamp(path)) for path in (item.path, *item.paths.values()) if path]
        own = [item.id, item.start, item.end, item.fps, item.path is None, *item.paths, stamps]
        text = shared + json.dumps(own, sort_keys=True)
        out[item.id] = hashlib.sha256(text.encode()).hexdigest()[:24]
    return out


def encode_labels(item: Item, heads: dict[str, dict]) -> dict[str, np.ndarray]:
    """Returns {head: class id, multi-hot [K] or rows of spans [n, 3]}; the id is -1 where a clip outside of train
    and val has no label.

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
            raise DecodeError(f"unknown label {unknown[0]!r} for {head}")
        ids = [names.index(t) for t in labels]
        if spec["kind"] == "multi":  # none at all is an answer, too
            out[head] = np.isin(np.arange(len(names)), ids).astype(np.uint8)
        elif len(ids) > 1:
            raise DecodeError(f"{len(ids)} labels for {head}, which takes one")
        elif not ids and item.split in ("train", "val"):
            raise DecodeError(f"no label for {head}")
        else:
            out[head] = np.int64(ids[0] if ids else -1)
    return out


def _spans(item: Item, labels: tuple[str, ...], names: list[str], head: str) -> np.ndarray:
    """Returns labels 'name@start-end' as rows float32 [n, 3] of class, start and end, in seconds from the clip's
    start. They are cut to the clip, and those outside of it are left out. Raises DecodeError for others."""
    rows = []
    for label in labels:
        found = manifest.span(label)
        if found is None or not found[1] < found[2]:
            raise DecodeError(f"{label!r} for {head} is not 'class@start-end' in seconds")
        if found[0] not in names:
            raise DecodeError(f"unknown label {found[0]!r} for {head}")
        end = np.inf if item.end is None else item.end
        start, end = max(found[1], item.start), min(found[2], end)
        if start < end:
            rows.append((names.index(found[0]), start - item.start, end - item.start))
    return np.asarray(rows, np.float32).reshape(-1, 3)


def write(item: Item, name: str, settings: record.Settings, directory: pathlib.Path) -> str:
    """Prepares a clip into ``directory/<name>.pkl``, or writes into ``<name>.rejected`` why that is impossible.

    Returns the reason, '' for success. A file that is there already is not made again. Any error rejects the
    clip that raised it, and does not end the build.
    """
    target, refused = directory / f"{name}.pkl", directory / f"{name}.rejected"
    if target.exists():
        return ""
    try:
        data, path, reason = pickle.dumps(record.prepare(item, settings), protocol=5), target, ""
    except Exception as error:
        reason = files.reason(error)
        data, path = reason.encode("utf-8", "backslashreplace"), refused
    # A cluster may give one clip to two workers: each writes under a name of its own.
    with whole(path, mark=f"{os.getpid()}.tmp") as temporary:
        temporary.write_bytes(data)
    if path is target:
        refused.unlink(missing_ok=True)
    return reason
