"""Draws what networks see of training clips, so that people see it: one function for each kind of form."""

from collections.abc import Mapping

import jax
import numpy as np

from mmvid import operations
from mmvid.data import example, fields, pictures
from mmvid.data.example import Train
from mmvid.prepare import prepare
from mmvid.streams import MODALITIES, Stream, form_of

# Pixels of a side of the pictures that boxes are drawn in.
SIDE = 112


def _pictures(x: np.ndarray) -> np.ndarray:
    """Colours the loader's pictures, uint8 [T, H, W, raw]: a grey or coloured one a frame, and one for each field
    of motion in a stack. They are not normalised yet, which shifts and scales all of them alike."""
    if x.shape[-1] % 2:
        return np.broadcast_to(x, (*x.shape[:3], 3))
    motions = x.reshape(*x.shape[:3], -1, 2).transpose(0, 3, 1, 2, 4)
    # What rests lies between two levels, and is kept as the upper one.
    return pictures.wheel(np.trunc(motions.reshape(-1, *motions.shape[2:]) - np.float32(127.5)))


def _differences(x: np.ndarray) -> np.ndarray:
    """Draws differences in [-1, 1], float32 [T, H, W, n 3], around a middle grey, each by itself."""
    each = x.reshape(*x.shape[:3], -1, 3).transpose(0, 3, 1, 2, 4)
    return np.uint8(np.rint(127.5 + 127.5 * np.clip(each, -1, 1))).reshape(-1, *each.shape[2:])


def _sound(x: np.ndarray) -> np.ndarray:
    """Draws one spectrogram, float32 [time, tones, 1], with low tones at the bottom."""
    return _glowing(x[None, :, ::-1, 0].swapaxes(1, 2))


def _sounds(x: np.ndarray) -> np.ndarray:
    """Draws the spectrograms around frames, float32 [T, tones, time, channels], the same in all channels."""
    return _glowing(x[:, ::-1, :, 0])


def _glowing(levels: np.ndarray) -> np.ndarray:
    low, high = float(levels.min()), float(levels.max())
    return pictures.glow(np.ascontiguousarray(np.uint8(np.rint(255 * (levels - low) / max(high - low, 1e-9)))))


def _layouts(x: np.ndarray) -> np.ndarray:
    return pictures.outlines(x, SIDE)


# By the function of prepare.py that makes the form. 'pictures' are drawn from the loader's array.
_DRAWN = {
    "pictures": _pictures,
    "differences": _differences,
    "logmel": _sound,
    "decibels": _sounds,
    "spectrogram": _sound,
    "layouts": _layouts,
}


def shown(stream: Stream, x: np.ndarray, draws: Mapping) -> list[np.ndarray]:
    """Draws the loader's array [B, ..] of a stream after all that the device does to it, by the ``draws`` of a
    batch: a film, uint8 [T, H, W, 3], for each row."""
    made, seen = form_of(stream).made, operations.paint(stream, x, draws)
    if made != "pictures":
        seen = operations.paint(stream, prepare(stream, seen), draws, late=True)
    return [_DRAWN[made](np.asarray(row)) for row in seen]


def of_clip(spec: Train, first: int, count: int) -> tuple[dict[str, list[np.ndarray]], list[dict]]:
    """Makes ``count`` training examples, from the one at ``first`` on, of the single clip that every source of
    ``spec`` holds: ({title: a film for each example} of every group, view and stream that the clip has, their
    labels {head: label}, as flips have left them)."""
    films, labels, names = {}, [], {stream.name for stream in spec.streams}
    # In the order in which the clip itself is shown.
    streams = sorted(spec.streams, key=lambda stream: [*fields.FIELDS].index(MODALITIES[stream.modality].field))
    several = sum(len(group.views) for group in spec.groups.values()) > 1
    for name, group in spec.groups.items():
        made = [example.train_example(spec, name, first + i, names) for i in range(count)]
        labels = labels or [own["label"] for own in made if "label" in own]
        for view in group.views:
            draws = jax.tree.map(lambda *own: np.stack(own), *(own.get("draws", {}).get(view, {}) for own in made))
            for stream in (stream for stream in streams if made[0]["present"][stream.name]):
                x = np.stack([own["inputs"][view][stream.name] for own in made])
                title = f"{name}, {view}: {stream.name}" if several else stream.name
                films[title] = shown(stream, x, draws)
    return films, labels
