"""One example of a batch: its frames, its crops, its labels."""

import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import augment as augment_lib
from mmvid.data import colours as colours_lib
from mmvid.data import fields as fields_lib
from mmvid.data import groups as groups_lib
from mmvid.data import sampling
from mmvid.data.groups import Group, OneOf
from mmvid.data.media import files
from mmvid.data.records import Source
from mmvid.streams import MODALITIES, Head, Stream, form_of, negated, raw_channels


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


def _lengths(record: dict, streams: Sequence[Stream]) -> dict[str, int]:
    """Fields of each stream in this record; 0 where its modality is absent."""
    return {s.name: fields_lib.count_frames(record, _field(s)) for s in streams}


def _tell_short(record: dict, lengths: Mapping[str, int], streams: Sequence[Stream]) -> None:
    """Warns (once, as the text has no id) where a stream is far shorter than the clip: what is drawn for all
    streams then ends with it. Datasets that are built today have none such."""
    least = record["num_frames"] - max(record["num_frames"] // 10, 1)
    if short := sorted({_field(s) for s in streams if 0 < lengths[s.name] < least}):
        warnings.warn(
            f"some clips have fewer {' and '.join(short)} than frames, by more than a tenth, and are read no "
            "further than that: build the dataset again (python -m data_prep.build ..)",
            stacklevel=2,
        )


def _field(stream: Stream) -> str:
    return MODALITIES[stream.modality].field


def _distinct(fields: Mapping[str, np.ndarray], streams: Sequence[Stream]) -> np.ndarray:
    return np.unique(np.concatenate([fields[s.name].ravel() for s in streams]))


def _decode(record: dict, streams: Sequence[Stream], fields: Mapping[str, np.ndarray]) -> dict:
    """{field: (indices [n], frames [n, H, W, C])}: what ``streams`` read, each frame once."""
    out = {}
    for field in dict.fromkeys(map(_field, streams)):
        indices = _distinct(fields, [s for s in streams if _field(s) == field])
        try:
            out[field] = indices, fields_lib.decode_bytes(record, field, indices)
        except (files.DecodeError, IndexError) as error:
            raise ValueError(
                f"clip {record['id']!r}: {field} frames {indices.tolist()} of "
                f"{record['num_frames']} cannot be read ({error}). The prepared dataset is "
                "damaged or incomplete: run python -m data_prep.build again"
            ) from error
    return out


class _Pictures(NamedTuple):
    """What is done to frames before they are stacked; streams that agree in it share the work."""

    field: str
    geometry: str
    negate_x: bool
    nearest: bool
    colours: colours_lib.Colours | None


def _pictures(stream: Stream, stored: int, colours: Mapping) -> _Pictures:
    modality, drawn = MODALITIES[stream.modality], colours.get((stream.modality, stream.geometry))
    return _Pictures(modality.field, stream.geometry, negated(stream, stored), modality.nearest, drawn)


def _made(frames: np.ndarray, window: augment_lib.Geometry, side: int, how: _Pictures) -> np.ndarray:
    cut = augment_lib.apply(frames, window, side, negate_x=how.negate_x, nearest=how.nearest)
    return colours_lib.recolour(cut, how.colours) if how.colours else cut


def _cut(
    decoded: dict,
    streams: Sequence[Stream],
    fields: Mapping[str, np.ndarray],
    windows: Mapping[str, augment_lib.Geometry],
    side: int,
    colours: Mapping[tuple[str, str], colours_lib.Colours | None],
) -> dict[str, np.ndarray]:
    """{stream: [N, side, side, raw]} from ``fields`` {stream: int [N, stack]}, ``windows``
    {geometry group: window} and ``colours`` {(modality, geometry group): colours}. A frame is resized
    once, however many stacks it stands in."""
    out = {}
    keys = {s.name: _pictures(s, decoded[_field(s)][1].shape[-1], colours) for s in streams}
    for key in dict.fromkeys(keys.values()):
        readers = [s for s in streams if keys[s.name] == key]
        indices, frames = decoded[key.field]
        wanted = _distinct(fields, readers)
        if len(wanted) < len(indices):
            frames = frames[np.searchsorted(indices, wanted)]
        frames = _made(frames, windows[key.geometry], side, key)
        for stream in readers:
            index = np.searchsorted(wanted, fields[stream.name])
            out[stream.name] = _stacks(_widened(frames, stream), index)
    return out


def _widened(frames: np.ndarray, stream: Stream) -> np.ndarray:
    """Frames with as many channels as the stream's form reads; what is added is 0: (u, v, 0)."""
    form, stored = form_of(stream), frames.shape[-1]
    if (width := form.raw // form.stack) < stored:
        forms = MODALITIES[stream.modality].forms
        wide = sorted(name for name, f in forms.items() if f.raw // f.stack == stored)
        raise files.DecodeError(
            f"stream {stream.name!r}: {_field(stream)} is stored in pictures of {stored} channels, the form "
            f"{stream.form!r} reads {width}; choose one of {wide}, or build the dataset with another flow"
        )
    return frames if width == stored else np.pad(frames, [(0, 0)] * 3 + [(0, width - stored)])


def _stacks(frames: np.ndarray, index: np.ndarray) -> np.ndarray:
    """[n, H, W, C] and int [N, stack] -> [N, H, W, stack C], time-major: x1, y1, x2, y2, ..."""
    channels, stack = frames.shape[3], index.shape[1]
    if stack == 1:
        return frames[index[:, 0]]
    out = np.empty((len(index), *frames.shape[1:3], stack * channels), frames.dtype)
    # A channel at a time: five to ten times faster than a transposition of small items.
    for target, row in zip(out, index):
        for s, i in enumerate(row):
            for c in range(channels):
                target[..., s * channels + c] = frames[i, ..., c]
    return out


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
    first, last = np.asarray(record["times"])[list(seen)]
    return spans[(spans[:, 1] <= last) & (spans[:, 2] > first)]


def _multi_hot(spans: np.ndarray, head: Head) -> np.ndarray:
    return np.isin(np.arange(head.classes), spans[:, 0].astype(int)).astype(np.float32)


def train_example(spec: Train, name: str, position: int, shown: Collection[str]) -> dict:
    """The example at a position of group ``name``'s stream; streams that are not ``shown`` are absent."""
    source, group, salt = spec.sources[name], spec.groups[name], sorted(spec.groups).index(name)
    row = example_row(len(source), spec.seed, position, salt)
    record = source[row]
    rng = np.random.default_rng([spec.seed, position, 2 * salt + 1])
    lengths = _lengths(record, spec.streams)
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
    return sorted({s.geometry for s in streams})


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
    """A clip's views, cut from one choice of frames that is decoded once: ({view: {stream: [T, size, size,
    raw]}}, the first and the last frame that any stream reads); zeros for a stream it lacks, None
    where it lacks all."""
    there = [s for s in spec.streams if lengths[s.name] > 0]
    anchors = sampling.train_indices(rng, lengths, spec.streams)
    fields = {s.name: sampling.stacked(anchors[s.name], form_of(s).stack, lengths[s.name]) for s in there}
    decoded, absent = _decode(record, there, fields), _absent(spec, lengths)
    views = {}
    for view, augment in group.views.items():
        windows = {
            name: augment_lib.draw(rng, record["height"], record["width"], spec.size, augment, flip=flip)
            for name in _geometries(spec.streams)
        }
        colours = _draw_colours(rng, spec.streams, augment)
        views[view] = absent | _cut(decoded, there, fields, windows, spec.size, colours)
    read = _distinct(fields, there) if there else None
    return views, read if read is None else (int(read[0]), int(read[-1]))


def _absent(spec: Train, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """What is shown of the streams that a clip lacks: zeros."""
    missing = [s for s in spec.streams if not lengths[s.name]]
    return {
        s.name: np.zeros((s.sampling.frames, spec.size, spec.size, raw_channels(s)), np.uint8) for s in missing
    }


def _test_fields(spec: Eval, clip: str, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """{stream: int [clips, T, stack]}: every field that the test clips read."""
    shared = min((n for n in lengths.values() if n > 0), default=0)
    fields = {}
    for stream in spec.streams:
        n = lengths[stream.name]
        anchors = sampling.test_indices(n, stream, spec.protocol, spec.variant, shared=shared, clip=clip)
        fields[stream.name] = sampling.stacked(anchors, form_of(stream).stack, n)
    return fields


def eval_example(spec: Eval, row: int) -> dict:
    record = spec.source[row]
    windows, side = augment_lib.test_windows(
        record["height"], record["width"], spec.size, spec.resize, spec.crops
    )
    lengths = _lengths(record, spec.streams)
    there = [s for s in spec.streams if lengths[s.name] > 0]
    fields = _test_fields(spec, record["id"], lengths)
    # All clips in one read, so that a frame they share is decoded once.
    flat = {name: f.reshape(-1, f.shape[-1]) for name, f in fields.items()}
    decoded, cuts = _decode(record, there, flat), []
    for window in windows:
        same = dict.fromkeys((s.geometry for s in there), window)
        cuts.append(_cut(decoded, there, flat, same, side, {}))
    inputs = {}
    for stream in spec.streams:
        clips, frames = fields[stream.name].shape[:2]
        shape = (clips, frames, side, side, raw_channels(stream))
        views = [
            c[stream.name].reshape(shape) if stream.name in c else np.zeros(shape, np.uint8) for c in cuts
        ]
        # [clips, crops] -> V: the crops of a clip stand together.
        inputs[stream.name] = np.stack(views, 1).reshape(-1, *shape[1:])
    return {
        "inputs": {"test": inputs},
        "label": _labels(record, spec.heads),
        "mask": np.bool_(True),
        "present": {name: np.bool_(n > 0) for name, n in lengths.items()},
        "id": np.int32(row),
    }
