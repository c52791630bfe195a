"""Tabulates what a record holds of each modality: its columns, how many frames there are, how to read them."""

import contextlib
import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data import pictures
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


class Measure(NamedTuple):
    """A number that tells of a clip's field without a network, in a ``unit``.

    A clip whose number is below ``least`` or above ``most`` is ``called`` so, and ``advice`` says what to do about
    it. With ``spoils`` nothing can be recognised in it, so that in a test it counts as a miss whoever is tested.
    """

    name: str
    unit: str = ""
    least: float = -np.inf
    most: float = np.inf
    called: str = ""
    advice: str = ""
    spoils: bool = False


class Field(NamedTuple):
    """How a record keeps one kind of data.

    ``columns`` of the record hold it. The field is present where one of them is not empty; emptying all hides it.
    ``count(record, columns)`` tells how many frames a stream of it may draw from. ``raw(record, indices)``
    returns what is stored at these places, [n, ..], and ``read`` returns the same as the loader takes it. Places
    are frames of the clip; for sound they are samples. ``pictures(record, count)`` makes ``count`` pictures for
    people, evenly over the clip, uint8 [count, H, W, 3]; a field without it is not shown to them. Those of a field
    that ``plays`` make a film, those of another one are parts of one picture. ``computed``: where a clip brings
    none, it can be computed from the pictures, frame by frame. ``measured(record, values)`` are the numbers of its
    ``measures``, of what ``raw`` has returned for some places; nan where one has no meaning. ``sketched(values)``
    makes of them what is nearly equal for copies of a clip, however they were encoded.
    """

    columns: tuple[str, ...]
    count: Callable
    raw: Callable
    read: Callable
    pictures: Callable | None = None
    computed: bool = False
    plays: bool = True
    measures: tuple[Measure, ...] = ()
    measured: Callable = lambda record, values: ()
    sketched: Callable | None = None


def _whole(record: dict, columns: Sequence[str]) -> int:
    """Counts all frames of the clip: for films, and for what holds throughout, however little is stored."""
    return record["num_frames"]


def _stored(record: dict, columns: Sequence[str]) -> int:
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


def _colours(record: dict, indices) -> np.ndarray:
    """Returns RGB, uint8 [n, H, W, 3]."""
    if record.get("rgb_video"):
        # A film is decoded in order, so all that is wanted comes from one pass.
        film = frames_lib.decode_mp4(record["rgb_video"], np.unique(indices))
        return _each(lambda i: film[int(i)], indices)
    return _each(lambda i: frames_lib.decode_image(record["rgb"][i], True), indices)


def _flow(record: dict, indices) -> np.ndarray:
    """Returns flow, uint8 [n, H, W, 2]; colour pictures, [n, H, W, 3], where there is no second plane."""
    if not record["flow_y"]:
        return _each(lambda i: frames_lib.decode_image(record["flow_x"][i], True), indices)
    planes = [record[name] for name in ("flow_x", "flow_y")]
    return _each(lambda i: np.concatenate([frames_lib.decode_image(p[i], False) for p in planes], -1), indices)


def _depth(record: dict, indices) -> np.ndarray:
    """Returns depth as stored, uint16 [n, H, W, 1]."""
    return _each(lambda i: frames_lib.decode_image(record["depth"][i], False), indices)


def _depth_bytes(record: dict, indices) -> np.ndarray:
    """Returns depth as uint8 [n, H, W, 1], by ``depth_levels``."""
    return depth_levels(_depth(record, indices), record["depth_scale"], record.get("depth_range", DEPTH_RANGE))


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


def _samples(record: dict, indices) -> np.ndarray:
    """Returns samples, int16 of the shape of ``indices``; where nothing is stored, they are 0 (silence)."""
    track, indices = np.frombuffer(record["audio"], "<i2"), np.asarray(indices)
    within = (indices >= 0) & (indices < len(track))
    return np.where(within, track[np.where(within, indices, 0)], 0).astype(np.int16)


def _layouts(record: dict, indices) -> np.ndarray:
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


# ---------------------------------------------------------------------------- for people
def _evenly(record: dict, columns: Sequence[str], count: int) -> np.ndarray:
    """Returns ``count`` places evenly over what is stored in ``columns``."""
    return np.linspace(0, _stored(record, columns) - 1, count).astype(int)


def _colour_pictures(record: dict, count: int) -> np.ndarray:
    return _colours(record, np.linspace(0, record["num_frames"] - 1, count).astype(int))


def _flow_pictures(record: dict, count: int) -> np.ndarray:
    """Colours flow: the hue tells its direction, the strength of the colour its length as a share of the clip's
    longest; what rests is white."""
    flow = _flow(record, _evenly(record, ("flow_x", "flow_y"), count))
    return flow if flow.shape[-1] == 3 else pictures.wheel((np.float32(flow) - 127.5) / 127.5)


def _depth_pictures(record: dict, count: int) -> np.ndarray:
    """Draws depth in greys, near in white; where there is no reading it is black."""
    levels = _depth_bytes(record, _evenly(record, ("depth",), count))
    return np.repeat(np.where(levels, 256 - levels.astype(int), 0).astype(np.uint8), 3, -1)


def _sound_pictures(record: dict, count: int) -> np.ndarray:
    """Draws the log-mel spectrogram of the clip, cut into ``count`` pieces; low tones are at the bottom."""
    shape = 64, max(64 * record["width"] // record["height"], 1)
    rate, steps = record["audio_rate"], count * shape[1]
    begin, length = -record["audio_start_s"] * rate, record["num_frames"] / record["fps"] * rate
    window = 512
    places = np.round(begin + length * np.arange(steps) / steps).astype(int)[:, None] + np.arange(window)
    samples = _samples(record, places) / (1 << 15)
    loud = np.log1p(1e6 * pictures.spectrogram(samples, shape[0], rate))
    # From the median, since steady noise would hide what happens.
    loud = np.clip(loud - np.median(loud), 0, None)
    grey = np.uint8(np.rint(255 * loud / max(loud.max(), 1e-9)))
    pieces = grey.T[::-1].reshape(shape[0], count, shape[1]).swapaxes(0, 1)
    return pictures.glow(pieces)


def _boxes_pictures(record: dict, count: int) -> np.ndarray:
    """Draws the boxes of frames on the frames, or on black where there are none; a colour for each category."""
    places = np.linspace(0, record["num_frames"] - 1, count).astype(int)
    blank = np.zeros((count, record["height"], record["width"], 3), np.uint8)
    drawn = _colours(record, places) // 2 if present(record, "rgb") else blank
    for picture, layout in zip(drawn, _layouts(record, places)):
        for box in layout[layout[:, 4] > 0]:
            pictures.outline(picture, box[:4], int(box[4]))
    return drawn


# ---------------------------------------------------------------------------- in numbers
# Of 255: darker than this nobody sees much; a picture that varies by less shows nothing.
DARK, FLAT = 8.0, 2.0
# Percent of a clip's motion that may be cut off, of its samples that may be overdriven, of depth that may lack.
CUT, OVERDRIVEN, UNREAD = 5.0, 1.0, 99.9
# Decibels below the loudest that can be kept.
SILENCE = -80.0


def _colour_numbers(record: dict, frames: np.ndarray) -> tuple[float, float]:
    """Measures how bright pictures are, and how much the one that varies most varies."""
    return float(frames.mean()), float(frames.std((1, 2)).max())


def _sketch(frames: np.ndarray) -> np.ndarray:
    """Makes small grey pictures, uint8 [n, 16, 16]: of so few pixels, how a film was encoded changes little."""
    small = [cv2.resize(frame, (16, 16), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.uint8(np.rint(np.stack(small).mean(-1)))


def _flow_numbers(record: dict, flow: np.ndarray) -> tuple[float, float]:
    """Measures how far pixels move, and the percentage of displacements that were cut off at the bound. Colour
    pictures tell neither."""
    if flow.shape[-1] == 3:
        return np.nan, np.nan
    # A level beside the ends, because JPEG errs by one.
    ended = ((flow <= 1) | (flow >= 254)).any(-1)
    pixels = np.hypot(*np.moveaxis((flow - np.float32(127.5)) / 127.5, -1, 0)) * record["flow_bound"]
    return float(pixels.mean()), 100 * float(ended.mean())


def _depth_numbers(record: dict, depth: np.ndarray) -> tuple[float, float]:
    """Measures how far away things are, in metres, and the percentage of pixels without a reading."""
    read = depth[depth > 0]
    return float(np.median(read)) * record["depth_scale"] if len(read) else np.nan, 100 * float(
        (depth == 0).mean()
    )


def _sound_numbers(record: dict, samples: np.ndarray) -> tuple[float, float]:
    """Measures the loudness of the whole sound, in decibels, and the percentage of samples that are overdriven."""
    track = np.frombuffer(record["audio"], "<i2").astype(np.float32)
    power = float(np.mean((track / (1 << 15)) ** 2))
    return 10 * float(np.log10(max(power, 1e-12))), 100 * float((np.abs(track) >= (1 << 15) - 1).mean())


def _box_numbers(record: dict, layouts: np.ndarray) -> tuple[float]:
    """Counts the boxes of a frame."""
    return (len(record["boxes"]) / record["num_frames"],)


_FILE = "look at the file that it was made from"
_OF_COLOURS = (
    Measure("brightness", "of 255", least=DARK, called="is dark", advice=_FILE),
    Measure("contrast", "of 255", least=FLAT, called="shows one colour all over", advice=_FILE, spoils=True),
)
_OF_FLOW = (
    Measure("motion", "px"),
    Measure(
        "at the bound",
        "%",
        most=CUT,
        called="moves further than flow is kept",
        advice="build again with a larger --flow_bound",
    ),
)
_OF_DEPTH = (
    Measure("distance", "m"),
    Measure("no reading", "%", most=UNREAD, called="has no reading anywhere", advice=_FILE, spoils=True),
)
_OF_SOUND = (
    Measure(
        "loudness", "dB", least=SILENCE, called="is silent", advice="leave its sound out, if it should have some"
    ),
    Measure("overdriven", "%", most=OVERDRIVEN, called="is overdriven", advice=_FILE),
)
_OF_BOXES = (Measure("boxes", "a frame"),)

FIELDS = {
    "rgb": Field(
        ("rgb", "rgb_video"),
        _whole,
        _colours,
        _colours,
        _colour_pictures,
        measures=_OF_COLOURS,
        measured=_colour_numbers,
        sketched=_sketch,
    ),
    "flow": Field(
        ("flow_x", "flow_y"),
        _stored,
        _flow,
        _flow,
        _flow_pictures,
        computed=True,
        measures=_OF_FLOW,
        measured=_flow_numbers,
    ),
    "depth": Field(
        ("depth",), _stored, _depth, _depth_bytes, _depth_pictures, measures=_OF_DEPTH, measured=_depth_numbers
    ),
    "audio": Field(
        ("audio",),
        _whole,
        _samples,
        _samples,
        _sound_pictures,
        plays=False,
        measures=_OF_SOUND,
        measured=_sound_numbers,
    ),
    "boxes": Field(
        ("boxes",), _whole, _layouts, _layouts, _boxes_pictures, measures=_OF_BOXES, measured=_box_numbers
    ),
}


# ---------------------------------------------------------------------------- by name
def present(record: dict, field: str) -> bool:
    """Tells whether a record has a field."""
    return any(len(record[name]) > 0 for name in FIELDS[field].columns)


def count_frames(record: dict, field: str) -> int:
    """Returns how many frames a stream of ``field`` may draw from; 0 where it is absent."""
    row = FIELDS[field]
    return row.count(record, row.columns) if present(record, field) else 0


def least(frames: int) -> int:
    """Returns how many frames a field of a clip of so many ``frames`` has, if it does not end too early."""
    return frames - max(frames // 10, 1)


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns what is stored at ``indices`` of ``field``.

    RGB is uint8 [n, H, W, 3], flow uint8 [n, H, W, 2] (or 3 channels, where it was stored as colour pictures),
    depth uint16 [n, H, W, 1], sound int16 [n], boxes float32 [n, 14, 8]. Each distinct picture is decoded once.
    Raises DecodeError.
    """
    return FIELDS[field].raw(record, indices)


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Returns the same as ``decode_frames``, but depth as uint8, by ``depth_levels``. Raises DecodeError."""
    return FIELDS[field].read(record, indices)


def without(record: dict, names: Sequence[str]) -> dict:
    """Returns a copy of a record without the fields ``names``: their columns are empty."""
    columns = [column for name in names for column in FIELDS[name].columns]
    return record | {column: record[column][:0] for column in columns}


def filmstrips(record: dict, count: int) -> dict[str, np.ndarray]:
    """Returns pictures of a clip for people, ``count`` of each field that it has: {field: uint8 [count, H, W, 3]}.

    A field that cannot be decoded is left out.
    """
    return _for_people(record, dict.fromkeys(FIELDS, count))


def films(record: dict, most: int) -> dict[str, np.ndarray]:
    """Returns a clip for people: {field: uint8 [T, H, W, 3]}, with T of up to ``most`` frames of what plays,
    evenly over the clip, and 1 of what is one picture. A field that cannot be decoded is left out."""
    count = min(record["num_frames"], most)
    return _for_people(record, {name: count if row.plays else 1 for name, row in FIELDS.items()})


def _for_people(record: dict, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    found = {}
    for name, row in FIELDS.items():
        if row.pictures and count_frames(record, name):
            # Damage costs the picture, not the page that it was to stand on.
            with contextlib.suppress(DecodeError, IndexError):
                found[name] = row.pictures(record, counts[name])
    return found


# ---------------------------------------------------------------------------- what is wrong with a clip
# How a whole JPEG and a whole PNG end: decoders fill up in grey what is missing, and say nothing.
_ENDS = b"\xff\xd9", b"IEND\xaeB`\x82"


def sampled(record: dict, field: str, count: int) -> np.ndarray:
    """Returns what is stored at ``count`` places of a field that a record has, evenly over it. Raises ValueError
    or IndexError for what cannot be read there, DecodeError where any of its pictures is cut short."""
    row = FIELDS[field]
    for column in row.columns:
        if COLUMNS[column].kind == "frames":
            cut = [i for i, data in enumerate(record[column]) if not any(end in data[-64:] for end in _ENDS)]
            if cut:
                raise DecodeError(f"picture {cut[0]} of {len(record[column])} ends too early")
    return row.raw(record, np.linspace(0, count_frames(record, field) - 1, count).astype(int))


def measured(record: dict, field: str, values: np.ndarray) -> dict[str, float]:
    """Returns {measure: number} of a field of which ``values`` were read."""
    row = FIELDS[field]
    return dict(zip((measure.name for measure in row.measures), row.measured(record, values)))


def sketch(field: str, values: np.ndarray) -> np.ndarray | None:
    """Returns what is nearly equal, uint8 [n, ..], for copies of a clip that were encoded in unlike ways, of the
    ``values`` of a field; None where a field tells nothing of that."""
    return FIELDS[field].sketched and FIELDS[field].sketched(values)


def content(record: dict) -> Hashable:
    """Returns a key that is equal for clips that are stored twice: where the pictures in colour are equal and,
    for clips without, where all fields are."""
    fields = ["rgb"] if present(record, "rgb") else FIELDS
    values = [record[column] for field in fields for column in FIELDS[field].columns]
    parts = [part for value in values for part in (value if isinstance(value, list) else [bytes(value)]) if part]
    crc = functools.reduce(lambda crc, part: zlib.crc32(part, crc), parts, 0)
    # Sizes stand beside the CRC, as among 100,000 clips some of equal CRC are to be expected.
    return record["num_frames"], record["height"], record["width"], sum(map(len, parts)), crc
