"""One example of a batch: its frames, its crops, its labels."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import augment as augment_lib
from mmvid.data import colours as colours_lib
from mmvid.data import cut, fields, sampling
from mmvid.data.records import Source
from mmvid.streams import MODALITIES, Head, Stream, form_of


class Train(NamedTuple):
    sources: dict[str, Source]
    streams: tuple[Stream, ...]
    sizes: dict[str, int]
    views: dict[str, tuple[str, ...]]
    heads: dict[str, Head]
    size: int
    augment: augment_lib.Augment
    seed: int
    process: tuple[int, int]


class Eval(NamedTuple):
    source: Source
    streams: tuple[Stream, ...]
    heads: dict[str, Head]
    size: int
    protocol: str
    variant: str
    crops: str
    resize: int
    batch_size: int
    process: tuple[int, int]


@functools.lru_cache(maxsize=8)
def _order(n: int, seed: int, epoch: int, salt: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 2 * salt]).permutation(n)


def example_row(n: int, seed: int, position: int, salt: int = 0) -> int:
    """The row at a position of the endless shuffled stream of ``n`` examples.

    ``salt`` tells groups apart that share a source and a seed.
    """
    return int(_order(n, seed, position // n, salt)[position % n])


def _tell_short(record: dict, lengths: Mapping[str, int], streams: Sequence[Stream]) -> None:
    """Warns (once, as the text has no id) where a stream is far shorter than the clip: what is drawn for all
    streams then ends with it. Datasets that are built today have none such."""
    least = record["num_frames"] - max(record["num_frames"] // 10, 1)
    if short := sorted({cut.field_of(s) for s in streams if 0 < lengths[s.name] < least}):
        warnings.warn(
            f"some clips have fewer {' and '.join(short)} than frames, by more than a tenth, and are read no "
            "further than that: build the dataset again (python -m data_prep.build ..)",
            stacklevel=2,
        )


# (first, last) frame that a view reads.
Seen = tuple[int, int]


def _labels(
    record: dict, heads: Mapping[str, Head], *, flip: bool = False, pairs=(), seen: Sequence[Seen] = ()
) -> dict[str, np.ndarray]:
    """{head: label}; spans as the classes of the frames ``seen``, of the whole clip where there are none."""
    out = {}
    for name, head in heads.items():
        if name not in record["label"]:
            raise ValueError(
                f"clip {record['id']!r} has no label {name!r}, it has {sorted(record['label'])}: "
                "name the dataset's heads in the config, or build the dataset with this one"
            )
        label = np.asarray(record["label"][name])
        if label.ndim == 2:
            label = _multi_hot(_occurring(label, record, seen), head)
        if flip:
            label = augment_lib.flip_label(label, augment_lib.head_pairs(pairs, name, len(heads)))
        out[name] = label.astype(np.float32 if head.kind == "multi" else np.int32)
    return out


def _occurring(spans: np.ndarray, record: dict, seen: Sequence[Seen]) -> np.ndarray:
    """Those of the spans [n, 3] (class, start, end) that a view meets between its first and its last frame."""
    times = [fields.seconds(record, ends) for ends in seen]
    met = [(spans[:, 1] <= last) & (spans[:, 2] > first) for first, last in times]
    return spans[np.any(met, axis=0)] if seen else spans


def _multi_hot(spans: np.ndarray, head: Head) -> np.ndarray:
    return np.isin(np.arange(head.classes), spans[:, 0].astype(int)).astype(np.float32)


def train_example(spec: Train, group: str, position: int) -> dict:
    source, salt = spec.sources[group], sorted(spec.sizes).index(group)
    row = example_row(len(source), spec.seed, position, salt)
    record = source[row]
    rng = np.random.default_rng([spec.seed, position, 2 * salt + 1])
    lengths = cut.lengths(record, spec.streams)
    _tell_short(record, lengths, spec.streams)
    # A flip that changes the label must be the same in every view and geometry group.
    shared = spec.augment.flip and bool(spec.augment.flip_labels)
    flip = bool(rng.random() < 0.5) if shared else None
    views = {v: _train_view(spec, record, lengths, rng, flip) for v in spec.views[group]}
    return {
        "inputs": {name: inputs for name, (inputs, _) in views.items()},
        # One label an example: spans that any of its views meets (Charades' own code: of its only one).
        "label": _labels(
            record, spec.heads, flip=bool(flip), pairs=spec.augment.flip_labels,
            seen=[seen for _, seen in views.values() if seen],
        ),
        "mask": np.bool_(True),
        "present": {name: np.bool_(n > 0) for name, n in lengths.items()},
        "id": np.int32(row),
    }


def _draw_colours(rng: np.random.Generator, spec: Train) -> dict:
    """{(modality, geometry group): colours}. Nothing is drawn where the distortion is off, so that
    runs without it see what they saw before there was one."""
    coloured = [s for s in spec.streams if MODALITIES[s.modality].coloured]
    keys = sorted({(s.modality, s.geometry) for s in coloured}) if spec.augment.colour else []
    return {key: colours_lib.draw_colours(rng, spec.augment) for key in keys}


def _train_view(
    spec: Train,
    record: dict,
    lengths: Mapping[str, int],
    rng: np.random.Generator,
    flip: bool | None,
) -> tuple[dict[str, np.ndarray], Seen | None]:
    """One view of a clip: ({stream: [*host_shape]}, the first and the last frame that any stream
    reads); zeros for a stream it lacks, None where it lacks all."""
    there = [s for s in spec.streams if lengths[s.name] > 0]
    anchors = sampling.train_indices(rng, lengths, spec.streams)
    frames = {s.name: sampling.stacked(anchors[s.name], form_of(s).stack, lengths[s.name]) for s in there}
    windows = {
        name: augment_lib.draw(rng, record["height"], record["width"], spec.size, spec.augment, flip=flip)
        for name in sorted({s.geometry for s in spec.streams} - {""})
    } | {"": cut.WHOLE._replace(flip=bool(flip))}
    view = cut.Views(windows, spec.size, _draw_colours(rng, spec))
    out = cut.cut(record, cut.read(record, there, frames), there, frames, view)
    for stream in spec.streams:
        if stream.name not in out:
            out[stream.name] = cut.zeros(stream, spec.size)
    return out, cut.span(frames, there)


def _test_frames(spec: Eval, clip: str, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """{stream: int [clips, T, stack]}: every frame that the test clips read."""
    shared = min((n for n in lengths.values() if n > 0), default=0)
    frames = {}
    for stream in spec.streams:
        n = lengths[stream.name]
        anchors = sampling.test_indices(n, stream, spec.protocol, spec.variant, shared=shared, clip=clip)
        frames[stream.name] = sampling.stacked(anchors, form_of(stream).stack, n)
    return frames


def eval_example(spec: Eval, row: int) -> dict:
    record = spec.source[row]
    windows, side = augment_lib.test_windows(
        record["height"], record["width"], spec.size, spec.resize, spec.crops
    )
    lengths = cut.lengths(record, spec.streams)
    there = [s for s in spec.streams if lengths[s.name] > 0]
    frames = _test_frames(spec, record["id"], lengths)
    # All clips in one read, so that a frame they share is decoded once.
    decoded, cuts = cut.read(record, there, frames), []
    for window in windows:
        same = dict.fromkeys((s.geometry for s in there if s.geometry), window)
        cuts.append(cut.cut(record, decoded, there, frames, cut.Views(same, side)))
    inputs = {}
    for stream in spec.streams:
        empty = cut.zeros(stream, side, len(frames[stream.name]))
        # [clips, crops] -> V: the crops of a clip stand together.
        inputs[stream.name] = np.stack([c.get(stream.name, empty) for c in cuts], 1).reshape(-1, *empty.shape[1:])
    return {
        "inputs": {"test": inputs},
        "label": _labels(record, spec.heads),
        "mask": np.bool_(True),
        "present": {name: np.bool_(n > 0) for name, n in lengths.items()},
        "id": np.int32(row),
    }
