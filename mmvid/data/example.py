"""One example of a batch: its frames, its crops, its labels."""

import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import augment as augment_lib
from mmvid.data import colours as colours_lib
from mmvid.data import cut, fields, sampling
from mmvid.data import groups as groups_lib
from mmvid.data.groups import Group, OneOf
from mmvid.data.records import Source
from mmvid.streams import MODALITIES, Head, Stream, form_of


class Train(NamedTuple):
    sources: dict[str, Source]
    groups: dict[str, Group]
    streams: tuple[Stream, ...]
    heads: dict[str, Head]
    size: int
    seed: int
    process: tuple[int, int]
    one_of: dict[str, OneOf]


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


# (first, last) frame that an example reads.
Seen = tuple[int, int]


def _labels(
    record: dict, heads: Mapping[str, Head], *, flip: bool = False, pairs=(), seen: Seen | None = None
) -> dict[str, np.ndarray]:
    """{head: label}; spans as the classes of the frames ``seen``, of the whole clip for None."""
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


def _occurring(spans: np.ndarray, record: dict, seen: Seen | None) -> np.ndarray:
    """Those of the spans [n, 3] (class, start, end) that meet what is between two frames."""
    if seen is None:
        return spans
    first, last = fields.seconds(record, seen)
    return spans[(spans[:, 1] <= last) & (spans[:, 2] > first)]


def _multi_hot(spans: np.ndarray, head: Head) -> np.ndarray:
    return np.isin(np.arange(head.classes), spans[:, 0].astype(int)).astype(np.float32)


def train_example(spec: Train, name: str, position: int, shown: Collection[str]) -> dict:
    """The example at a position of group ``name``'s stream; streams that are not ``shown`` are absent."""
    source, group, salt = spec.sources[name], spec.groups[name], sorted(spec.groups).index(name)
    row = example_row(len(source), spec.seed, position, salt)
    record = source[row]
    rng = np.random.default_rng([spec.seed, position, 2 * salt + 1])
    lengths = cut.lengths(record, spec.streams)
    _tell_short(record, lengths, spec.streams)
    lengths = {stream: n if stream in shown else 0 for stream, n in lengths.items()}
    # A flip that changes the label must be the same in every view and geometry group.
    flip = bool(rng.random() < 0.5) if groups_lib.flips_together(group) else None
    views, seen = _train_views(spec, group, record, lengths, rng, flip)
    label = _labels(record, spec.heads, flip=bool(flip), pairs=groups_lib.flip_pairs(group),
                    seen=seen) if group.labels else None  # fmt: skip
    # What the device will do is drawn last, so that it changes nothing that is drawn here.
    draws = {
        view: {geometry: augment_lib.draw_device(rng, augment) for geometry in _geometries(spec.streams)}
        for view, augment in group.views.items()
        if augment.device
    }
    return {
        "inputs": views,
        **({} if label is None else {"label": label}),
        **({"draws": draws} if draws else {}),
        "mask": np.bool_(True),
        "present": {stream: np.bool_(n > 0) for stream, n in lengths.items()},
        # A subset's clips are named by their rows in the whole split.
        "id": np.int32(record.get("row", row)),
    }


def _geometries(streams: Sequence[Stream]) -> list[str]:
    """The groups that share a window; streams of '' belong to none."""
    return sorted({s.geometry for s in streams} - {""})


def _draw_colours(rng: np.random.Generator, streams: Sequence[Stream], augment: augment_lib.Augment) -> dict:
    """{(modality, geometry group): colours}. Nothing is drawn where the distortion is off, so that
    runs without it see what they saw before there was one."""
    coloured = [s for s in streams if MODALITIES[s.modality].coloured]
    keys = sorted({(s.modality, s.geometry) for s in coloured}) if augment.colour else []
    return {key: colours_lib.draw_colours(rng, augment) for key in keys}


def _train_views(
    spec: Train,
    group: Group,
    record: dict,
    lengths: Mapping[str, int],
    rng: np.random.Generator,
    flip: bool | None,
) -> tuple[dict[str, dict[str, np.ndarray]], Seen | None]:
    """A clip's views, cut from one choice of frames that is decoded once: ({view: {stream: [*host_shape]}},
    the first and the last frame that any stream reads); zeros for a stream it lacks, None where it
    lacks all."""
    there = [s for s in spec.streams if lengths[s.name] > 0]
    anchors = sampling.train_indices(rng, lengths, spec.streams)
    frames = {s.name: sampling.stacked(anchors[s.name], form_of(s).stack, lengths[s.name]) for s in there}
    decoded = cut.read(record, there, frames)
    absent = {s.name: cut.zeros(s, spec.size) for s in spec.streams if not lengths[s.name]}
    views = {}
    for view, augment in group.views.items():
        windows = {
            name: augment_lib.draw(rng, record["height"], record["width"], spec.size, augment, flip=flip)
            for name in _geometries(spec.streams)
        } | {"": cut.WHOLE._replace(flip=bool(flip))}
        how = cut.Show(windows, spec.size, _draw_colours(rng, spec.streams, augment))
        views[view] = absent | cut.cut(record, decoded, there, frames, how)
    return views, cut.span(frames, there)


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
        how = cut.Show(dict.fromkeys(_geometries(spec.streams), window), side)
        cuts.append(cut.cut(record, decoded, there, frames, how))
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
