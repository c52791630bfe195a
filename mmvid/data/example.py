"""Makes one example of a batch: chooses its frames, draws its crops, reads its labels."""

import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import operations
from mmvid.data import augment as augment_lib
from mmvid.data import colours as colours_lib
from mmvid.data import cut, fields, sampling, stored
from mmvid.data import groups as groups_lib
from mmvid.data.groups import Group, OneOf
from mmvid.data.records import Source
from mmvid.streams import MODALITIES, Head, Stream, Views, form_of


class Train(NamedTuple):
    """What training examples follow from; it can be pickled.

    ``groups`` show the clips of ``sources`` {group: records} in pictures of ``size`` pixels a side. ``process``
    is (index, count). ``one_of`` {group: OneOf} describes networks that are shown one of their reads at each
    step.
    """

    sources: Mapping[str, Source]
    groups: Mapping[str, Group]
    streams: tuple[Stream, ...]
    heads: Mapping[str, Head]
    size: int
    seed: int
    process: tuple[int, int] = (0, 1)
    one_of: Mapping[str, OneOf] = {}


class Eval(NamedTuple):
    """What test examples follow from; it can be pickled.

    ``size`` is the side of a crop in pixels, ``batch_size`` counts the clips of all processes, ``process`` is
    (index, count).
    """

    source: Source
    streams: tuple[Stream, ...]
    heads: Mapping[str, Head]
    size: int
    batch_size: int
    views: Views = Views()
    process: tuple[int, int] = (0, 1)


# From so many examples on an order is computed place by place: written down, it would take a gigabyte for ten
# million clips on a dozen worker processes.
LARGE = 1 << 20


def _sequence(seed: int, epoch: int, salt: int) -> np.random.SeedSequence:
    """Returns what an epoch's order is drawn from."""
    # An even number here, an odd one for what is drawn of a clip: the two must not share random numbers.
    return np.random.SeedSequence([seed, epoch, 2 * salt])


@functools.lru_cache(maxsize=8)
def _number(seed: int, epoch: int, salt: int) -> int:
    """Returns the 32 bits that a large epoch is shuffled by."""
    return int(_sequence(seed, epoch, salt).generate_state(1)[0])


@functools.lru_cache(maxsize=8)
def _order(n: int, seed: int, epoch: int, salt: int) -> np.ndarray:
    """Returns the order of an epoch's ``n`` rows. The cache saves a permutation for every example."""
    return np.random.default_rng(_sequence(seed, epoch, salt)).permutation(n)


def example_row(n: int, seed: int, position: int, salt: int = 0) -> int:
    """Returns the row at a position of the endless shuffled stream of ``n`` examples.

    ``salt`` gives groups that share a source and a seed different orders.
    """
    epoch, place = divmod(position, n)
    if n < LARGE:
        return int(_order(n, seed, epoch, salt)[place])
    from grain.experimental import index_shuffle  # Grain brings JAX along

    return int(index_shuffle(place, max_index=n - 1, seed=_number(seed, epoch, salt), rounds=4))


def _tell_short(record: dict, lengths: Mapping[str, int], streams: Sequence[Stream]) -> None:
    """Warns where a stream is far shorter than the clip: no stream is then read beyond its end.

    Python shows a warning once for equal texts, hence no id in it. Datasets that are built today need none.
    """
    least = fields.least(record["num_frames"])
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
    """Returns {head: label}: int32 class ids or float32 multi-hot [K].

    Labels kept as spans become the classes that occur between the frames ``seen``, or in the whole clip for
    None. ``flip`` exchanges the classes of ``pairs``. Raises ValueError where a clip lacks the label of a head.
    """
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
    """Returns those of the spans [n, 3] (class, start, end), in seconds, that overlap the frames ``seen``.

    A training clip is labelled by what its sampled frames span (as in SlowFast's code for Charades).
    """
    if seen is None:
        return spans
    first, last = stored.seconds(record, seen)
    return spans[(spans[:, 1] <= last) & (spans[:, 2] > first)]


def _multi_hot(spans: np.ndarray, head: Head) -> np.ndarray:
    """Returns float32 [K], 1 for the classes of ``spans`` [n, 3]."""
    return np.isin(np.arange(head.classes), spans[:, 0].astype(int)).astype(np.float32)


def train_example(spec: Train, name: str, position: int, shown: Collection[str]) -> dict:
    """Makes the example at a position of the stream of group ``name``; streams not in ``shown`` are absent."""
    source, group = spec.sources[name], spec.groups[name]
    # Sorted: in which order a plan names its groups changes no draw.
    salt = sorted(spec.groups).index(name)
    row = example_row(len(source), spec.seed, position, salt)
    record = source[row]
    # By the position, so that an example is the same whichever process or worker makes it.
    rng = np.random.default_rng([spec.seed, position, 2 * salt + 1])
    lengths = cut.lengths(record, spec.streams)
    _tell_short(record, lengths, spec.streams)
    lengths = {stream: n if stream in shown else 0 for stream, n in lengths.items()}
    # A flip that changes the label must be the same in every view and geometry group.
    flip = bool(rng.random() < 0.5) if groups_lib.flips_together(group) else None
    views, seen = _train_views(spec, group, record, lengths, rng, flip)
    label = {}
    if group.labels or group.audit:
        pairs = groups_lib.flip_pairs(group)
        # A flip turns hidden labels as well: else mirrored clips would count as mistaken.
        found = _labels(record, spec.heads, flip=bool(flip), pairs=pairs, seen=seen)
        label["label" if group.labels else "audit"] = found
    # What the device will do is drawn last, so that it changes nothing that is drawn here.
    draws = {
        view: operations.draw(rng, augment.device, spec.streams)
        for view, augment in group.views.items()
        if augment.device
    }
    return {
        "inputs": views,
        **label,
        **({"draws": draws} if draws else {}),
        "mask": np.bool_(True),
        "present": {stream: np.bool_(n > 0) for stream, n in lengths.items()},
        # A subset's clips are named by their rows in the whole split.
        "id": np.int32(record.get("row", row)),
    }


def _geometries(streams: Sequence[Stream]) -> list[str]:
    """Returns the geometry groups of ``streams``; streams of the group '' belong to none."""
    return sorted({s.geometry for s in streams} - {""})


def _draw_colours(rng: np.random.Generator, streams: Sequence[Stream], augment: augment_lib.Augment) -> dict:
    """Draws {(modality, geometry group): colours}.

    Nothing is drawn where the distortion is off, so that it does not shift the random numbers of such runs.
    """
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
    """Cuts a clip's views, all from one choice of frames, which are decoded once.

    Returns ({view: {stream: [*host_shape]}}, (first, last) frame that any stream reads). A stream that the clip
    lacks is zeros; where it lacks all of them, the pair of frames is None.
    """
    there = [s for s in spec.streams if lengths[s.name] > 0]
    anchors = sampling.train_indices(rng, lengths, spec.streams, stored.rate(record))
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


def frames_read(spec: Eval, record: dict) -> dict[str, list[int]]:
    """Returns what the test clips of a record read of each field: {field: places, rising, each once}."""
    frames = test_frames(spec, record["id"], cut.lengths(record, spec.streams))
    places: dict[str, set[int]] = {}
    for stream in spec.streams:
        places.setdefault(cut.field_of(stream), set()).update(frames[stream.name].ravel().tolist())
    return {field: sorted(own) for field, own in places.items()}


def test_frames(spec: Eval, clip: str, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Returns every frame that the test clips read: {stream: int [clips, T, stack]}."""
    shared = min((n for n in lengths.values() if n > 0), default=0)
    frames = {}
    for stream in spec.streams:
        n = lengths[stream.name]
        anchors = sampling.test_indices(n, stream, spec.views, shared=shared, clip=clip)
        frames[stream.name] = sampling.stacked(anchors, form_of(stream).stack, n)
    return frames


def eval_example(spec: Eval, row: int) -> dict:
    """Makes the test example of a row, with all of its clips and crops: {stream: [V, *host_shape]}."""
    record = spec.source[row]
    windows, side = augment_lib.test_windows(record["height"], record["width"], spec.size, spec.views)
    lengths = cut.lengths(record, spec.streams)
    there = [s for s in spec.streams if lengths[s.name] > 0]
    frames = test_frames(spec, record["id"], lengths)
    # All clips in one read, so that a frame they share is decoded once.
    decoded, cuts = cut.read(record, there, frames), []
    for window in windows:
        # All geometry groups show the same window, and no colours are distorted: a test draws nothing.
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
