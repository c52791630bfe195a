"""Reads a clip's files into the record that a dataset keeps of it, but for its split and labels."""

import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data.media import audio, detections, flow_pictures, pictures, timeline
from mmvid.data.media import depth as depth_lib
from mmvid.data.media import video as video_lib
from mmvid.data.media.files import DecodeError
from mmvid.data.media.item import Item

FLOWS = ("tvl1", "tvl1-fast", "dis", "none")


class Settings(NamedTuple):
    """How clips are stored.

    ``flow`` says how flow is computed (FLOWS). A displacement of -``flow_bound`` pixels per frame is stored as
    0, one of +``flow_bound`` as 255; ``flow_codec`` is 'png' or 'jpeg'. ``short_side`` is in pixels, and 0 keeps
    the size. ``quality`` is that of JPEG, ``rgb_storage`` is 'jpeg' or 'mp4' (with a short GOP), and
    ``audio_rate`` is in samples per second.
    """

    flow: str = "tvl1"
    flow_bound: float = 20.0
    flow_codec: str = "png"
    short_side: int = 256
    quality: int = 95
    rgb_storage: str = "jpeg"
    audio_rate: int = 16_000


# ---------------------------------------------------------------------------- what is read
class _Sources(NamedTuple):
    """What a clip's RGB and depth are read from: each a file, a list of pictures, or None.

    Where both are pictures, only those of equal numbers are left. ``places`` then says which of the RGB's
    frames these are, as the flow is numbered by all of them.
    """

    rgb: pathlib.Path | list[pathlib.Path] | None
    depth: pathlib.Path | list[pathlib.Path] | None
    places: list[int] | None = None


def _numbered(files: list[pathlib.Path]) -> dict[tuple[int, int], int]:
    """Returns {(number, how often it occurred before): place in ``files``}, by the first number that changes from
    name to name: the 7 of frame_7_tc_90467, whose time code may differ between RGB and depth."""
    columns = list(zip(*(map(int, re.findall(r"\d+", file.stem)) for file in files)))
    numbers = next((c for c in columns if len(set(c)) > 1), columns[0] if columns else ())
    return {(n, numbers[:place].count(n)): place for place, n in enumerate(numbers)}


def _sources(item: Item) -> _Sources:
    """Finds what is to be read as the clip's RGB and depth. Raises DecodeError where nothing has frames, or where
    no picture of the RGB has the number of a depth map."""
    if item.path is None and not {"depth", "flow"} & set(item.paths):
        raise DecodeError("no frames: the clip has neither RGB nor depth nor flow")
    rgb, depth = item.path, item.paths.get("depth")
    rgb = rgb and (pictures.sequence(rgb) or rgb)
    depth = depth and (pictures.sequence(depth, (".png",)) or depth)
    if not (isinstance(rgb, list) and isinstance(depth, list)):
        return _Sources(rgb, depth)
    of_rgb, of_depth = _numbered(rgb), _numbered(depth)
    if not (of_rgb and of_depth):
        return _Sources(rgb, depth)
    both = [number for number in of_rgb if number in of_depth]
    if not both:
        raise DecodeError(f"no frame has one number in {rgb[0].name}.. and in {depth[0].name}..")
    places = [of_rgb[number] for number in both]
    return _Sources([rgb[i] for i in places], [depth[of_depth[number]] for number in both], places)


def source(item: Item) -> pathlib.Path | list[pathlib.Path]:
    """Returns what a clip's RGB is read from: a file, or a list of pictures. Raises DecodeError where it has
    none."""
    if item.path is None:
        raise DecodeError("it has neither a video nor pictures of its own, by which its seconds are counted")
    return _sources(item).rgb


def seconds(item: Item) -> np.ndarray:
    """Returns when the frames of the whole file of a clip's RGB are shown, [T] in seconds. Raises DecodeError,
    where the clip has no RGB, too."""
    return video_lib.seconds(source(item), fps=item.fps or pictures.PICTURES_FPS)


# ``reads(record)``: {field: places} that are read of a clip whose pictures need not be made yet.
Reads = Callable[[dict], Mapping[str, Sequence[int]]]


def _kept(item: Item, settings: Settings, reads: Reads | None, times: np.ndarray) -> np.ndarray:
    """Returns the places, rising, of those frames of a clip's RGB, at ``times`` [T], that must be kept for what
    ``reads`` names, and for the pairs whose flow it names; all for None."""
    count = len(times)
    # A film is encoded from all frames, and what flow was given is known only when it is matched to the frames.
    if reads is None or settings.rgb_storage == "mp4" or "flow" in item.paths:
        return np.arange(count)
    blank = {"id": item.id, "num_frames": count, "times": times.astype(np.float32), **_flow(count, settings)}
    blank |= {"rgb": [b""] * count, "rgb_video": b""}
    # What else the clip has is as long as its RGB, so it changes nothing of what is read of RGB and flow.
    wanted = reads(blank | {"depth": [], "audio": b"", "boxes": ()})
    pairs = wanted.get("flow", ()) if blank["flow_x"] else ()
    # The first one is always kept, as it tells the size of all.
    return np.array(sorted({0, *wanted.get("rgb", ()), *pairs, *(pair + 1 for pair in pairs)}))


def _video(
    rgb: pathlib.Path | list | None, item: Item, settings: Settings, reads: Reads | None
) -> video_lib.Video | None:
    """Decodes the frames of a clip's RGB at the size at which they are stored; None where it has no RGB."""
    if rgb is None:
        return None
    options = dict(start=item.start, end=item.end, short_side=settings.short_side)
    keep = functools.partial(_kept, item, settings, reads)
    video = video_lib.read(rgb, fps=item.fps or pictures.PICTURES_FPS, keep=keep, **options)
    if settings.rgb_storage == "mp4":
        # The codec wants even sides; every modality gets the same picture.
        height, width = (n // 2 * 2 for n in video.frames.shape[1:3])
        video = video._replace(frames=video.frames[:, :height, :width])
    return video


def _rgb(video: video_lib.Video | None, settings: Settings) -> dict:
    """Makes the record's RGB: a JPEG per frame, b'' for one that was not kept; or one mp4."""
    if video is None:
        return {"rgb": [], "rgb_video": b""}
    if settings.rgb_storage == "mp4":
        return {"rgb": [], "rgb_video": frames_lib.encode_mp4(video.frames, video.fps)}
    images = [b""] * len(video.times)
    for place, frame in zip(video.places, video.frames):
        images[place] = frames_lib.encode_jpeg(frame, settings.quality)
    return {"rgb": images, "rgb_video": b""}


# ---------------------------------------------------------------------------- flow
def _flow(count: int, settings: Settings) -> dict:
    """Makes the record's flow as it is before any of it is computed: b'' for each pair of ``count`` frames. It is
    empty where these are fewer than two, or no flow is wanted."""
    pairs = 0 if settings.flow == "none" else max(count - 1, 0)
    return {"flow_x": [b""] * pairs, "flow_y": [b""] * pairs, "flow_bound": float(settings.flow_bound)}


def how_computed(settings: Mapping) -> str:
    """Returns how a dataset that was built with ``settings`` has flow computed, 'tvl1', 'tvl1-fast' or 'dis'; the
    default where its clips brought their own."""
    how = settings.get("flow", "none")
    return "tvl1" if how == "none" else how


def computed(frames: np.ndarray, how: str, pairs: Sequence[int] | None = None) -> np.ndarray:
    """Computes the flow of ``pairs`` of ``frames``, by default of all: float32 [n, H, W, 2] in pixels. ``how`` is
    'dis', 'tvl1' or 'tvl1-fast'."""
    from mmvid.data import flow  # it imports JAX, which a worker needs for nothing else

    if how == "dis":
        return flow.dis(frames, pairs=pairs)
    preset = "fast" if how == "tvl1-fast" else "default"
    return flow.clip_flow(frames, settings=preset, pairs=pairs)


def _fill_flow(record: dict, video: video_lib.Video, settings: Settings, pairs: Sequence[int]) -> None:
    """Computes the flow of ``pairs`` of a video, which kept both frames of each, and puts it into the record, as
    pictures of two planes."""
    from mmvid.data import flow

    jpeg = settings.flow_codec == "jpeg"
    encode = (lambda p: frames_lib.encode_jpeg(p, settings.quality)) if jpeg else frames_lib.encode_png
    # Places rise, so that the two frames of a pair stand side by side among those kept, too.
    rows = np.searchsorted(video.places, pairs)
    planes = flow.quantise(computed(video.frames, settings.flow, rows), settings.flow_bound)
    for i, pair in zip(pairs, planes):
        record["flow_x"][i], record["flow_y"][i] = (encode(np.ascontiguousarray(pair[..., k])) for k in (0, 1))


def _flow_fields(made: flow_pictures.FlowPictures, settings: Settings) -> dict:
    """Makes the record's flow from pictures that came with the dataset."""
    # A picture made smaller moves by fewer pixels; colours have no bound.
    bound = settings.flow_bound * made.scale if made.y else 0.0
    return {"flow_x": made.x, "flow_y": made.y, "flow_bound": float(bound), "flow_given": True}


# ---------------------------------------------------------------------------- sound and boxes
def _further(item: Item, settings: Settings, frames: timeline.Frames) -> dict:
    """Makes the record's sound and boxes, empty where the manifest names none."""
    out = {
        "audio": b"",
        "audio_rate": settings.audio_rate,
        "audio_start_s": 0.0,
        "boxes": np.zeros((0, 9), np.float32),
    }
    path = item.paths.get("audio")
    if path and ("audio" not in item.optional or audio.there(path)):
        sound = audio.read(path, rate=settings.audio_rate, start=item.start, end=item.end)
        out |= {"audio": sound.samples.tobytes(), "audio_start_s": sound.start}
    if path := item.paths.get("boxes"):
        out["boxes"] = _boxes(pathlib.Path(path), item, frames)
    return out


def _boxes(path: pathlib.Path, item: Item, frames: timeline.Frames) -> np.ndarray:
    """Reads the boxes of a clip. Raises DecodeError, which names the file."""
    rate = item.fps if path.suffix in detections.CLOCKED else None
    numbers = timeline.numbers(item, frames, rate)
    try:
        found = detections.read(path, item, int(numbers[0]), int(numbers[-1]) + 1)
        return timeline.boxes(found, numbers, frames, rate)
    except DecodeError as error:
        named = path.name in str(error)
        raise DecodeError(str(error) if named else f"{path.name}: {error}") from None


# ---------------------------------------------------------------------------- the clip
class _Read(NamedTuple):
    """What was read of a clip: its RGB ``video``, its depth ``maps`` and the flow ``given`` with it, None for what
    it lacks. ``frames`` are those of the first of the three that it has."""

    video: video_lib.Video | None
    maps: depth_lib.Maps | None
    given: flow_pictures.FlowPictures | None
    frames: timeline.Frames


def _read(item: Item, settings: Settings, reads: Reads | None) -> _Read:
    """Reads RGB, depth and flow of a clip, in this order: what comes later is matched to the frames of what was
    read before it."""
    rgb, depth, places = _sources(item)
    video, maps, given = _video(rgb, item, settings, reads), None, None
    frames = timeline.of_video(video, rgb) if video else None
    if depth:
        maps = timeline.depth(
            depth, item, frames, short_side=settings.short_side, beside_pictures=isinstance(rgb, list)
        )
        frames = frames or timeline.of_depth(maps)
    if path := item.paths.get("flow"):
        given = flow_pictures.read(path, short_side=settings.short_side)
        given = timeline.flow(given, item, frames, places)
        frames = frames or timeline.of_flow(len(given.x), item)
    return _Read(video, maps, given, frames)


def _size(read: _Read) -> tuple[int, int]:
    """Returns (height, width) of the RGB, else of the depth, else of the flow."""
    if read.video:
        return read.video.frames.shape[1:3]
    return read.maps.maps[0].shape if read.maps else (read.given.height, read.given.width)


def _maps(maps: depth_lib.Maps | None) -> list[bytes]:
    """Makes the record's depth, a PNG for each frame."""
    # A map that serves several frames stays one object, which is encoded once and which pickle writes once.
    if maps is None:
        return []
    made = dict(zip(maps.numbers.tolist(), maps.maps))
    made = {number: frames_lib.encode_png(image) for number, image in made.items()}
    return [made[number] for number in maps.numbers.tolist()]


def prepare(item: Item, settings: Settings, reads: Reads | None = None) -> dict:
    """Makes the record of a clip (data_prep/README.md), which lacks split and labels. Raises DecodeError where
    anything of it cannot be read.

    ``reads(record)`` may say which places alone of RGB and of computed flow are made; it is shown a record with
    b'' for pictures, which those that it does not name may stay. A long film then needs no more memory than what
    is read of it.
    """
    read = _read(item, settings, reads)
    video, frames, (height, width) = read.video, read.frames, _size(read)
    flow = _flow_fields(read.given, settings) if read.given else _flow(frames.number if video else 0, settings)
    record = {
        "id": item.id,
        "num_frames": frames.number,
        "fps": frames.fps,
        "times": frames.times.astype(np.float32),
        "height": height,
        "width": width,
        **_rgb(video, settings),
        **flow,
        "depth": _maps(read.maps),
        "depth_scale": 0.001,
        **_further(item, settings, frames),
    }
    if video and flow["flow_x"] and not read.given:
        pairs = range(len(flow["flow_x"])) if reads is None else reads(record).get("flow", ())
        _fill_flow(record, video, settings, pairs)
    return record
