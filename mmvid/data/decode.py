"""Decoding, through PyAV and OpenCV: whole files when data are prepared, single frames after.

Preparation decodes everything once and counts what FFmpeg complains about, because no decoder
raises on damaged bytes; the loader then never meets a bad clip.
"""

import contextlib
import functools
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvid.data.media import display, timetable
from mmvid.data.media.files import DecodeError, existing
from mmvid.data.media.files import listening as _listening
from mmvid.data.media.files import opened as _open

cv2.setNumThreads(0)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# Pictures in a folder name no rate; those of the datasets we know come from a Kinect.
PICTURES_FPS = 30.0
# From here on the frames of one clip would crowd a worker's memory.
MAX_BYTES = 4 << 30
# Since PyAV 17 a conversion starts a thread a core; here workers are the parallelism.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class Video(NamedTuple):
    """``frames`` uint8 [T, H, W, 3], their ``times`` [T] in seconds from the clip's start (variable
    rates kept), the average ``fps``, and how many frames of the whole video come before the ``first``."""

    frames: np.ndarray
    times: np.ndarray
    fps: float
    first: int = 0


class Maps(NamedTuple):
    """Depth: ``maps`` (uint16 [H, W] each), which are the ``numbers`` [n] (from 0) of the whole film, at
    ``times`` [n] seconds from the clip's start.

    The whole film has ``count`` maps, ``length`` seconds from the first to the last, ``fps`` on average.
    Pictures that were given no rate have no clock: ``fps`` is None, times and length are nan.
    """

    maps: list[np.ndarray]
    numbers: np.ndarray
    times: np.ndarray
    fps: float | None
    count: int
    length: float


class FlowPictures(NamedTuple):
    """Optical flow that others computed: ``x`` and ``y``, lists of JPEG or PNG; ``y`` is empty where each
    picture of ``x`` has three channels. All are ``height`` x ``width``, resized by ``scale``."""

    x: list[bytes]
    y: list[bytes]
    height: int
    width: int
    scale: float


class Sound(NamedTuple):
    """``samples`` int16 [n], mono, the first of them ``start`` seconds after the clip's start."""

    samples: np.ndarray
    start: float


def _fit(image: np.ndarray, short_side: int, interpolation=cv2.INTER_AREA, aspect: float = 1.0) -> np.ndarray:
    """Resizes so that the short side is ``short_side``; a smaller image stays as it is. Where pixels are
    ``aspect`` times as wide as high, the width is scaled first, so that they are square."""
    height, width = image.shape[:2]
    width = max(round(width * aspect), 1)
    scale = short_side / min(height, width) if 0 < short_side < min(height, width) else 1
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if size == image.shape[1::-1]:
        return image
    return cv2.resize(image, size, interpolation=interpolation)


# ---------------------------------------------------------------------------- whole files
def video(
    path: str | os.PathLike, *, start: float = 0.0, end: float | None = None, short_side: int = 0
) -> Video:
    """All frames between ``start`` and ``end`` seconds, as players show them (deinterlaced, square pixels,
    upright), resized to ``short_side`` pixels.

    They are those that decoding the whole file would show then, wherever the search for ``start`` leads
    (see ``media.timetable``). Raises DecodeError with a reason: missing, empty, not a video, no video
    stream, truncated, damaged, times that jump back, no frames in the interval.
    """
    convert = functools.partial(_rgb, VideoReformatter(), short_side)
    nothing = f"no frames between {start} s and {'the end' if end is None else end}"
    frames, times, fps, first = _film(
        existing(path), "video", lambda table: table.between(start, end), convert, nothing
    )
    return Video(frames, times[first : first + len(frames)] - start, fps, first)


def _film(path: pathlib.Path, what: str, wanted: Callable, convert: Callable, nothing: str) -> tuple:
    """(array [T, ...], times of all frames of the file, fps, number of the first) of the frames [first, stop)
    that ``wanted(timetable)`` names, each by ``convert(frame, its stream)``. Raises DecodeError, ``nothing``
    where there are none."""
    with _listening(what) as logs:
        table, array, fps = _searched(path, logs, wanted, convert)
    first, stop = wanted(table)
    if table.missing and stop == len(table.times):
        raise DecodeError(f"truncated: {table.missing}")
    if first == stop:
        raise DecodeError(nothing)
    return array, table.times, fps, first


def _searched(path: pathlib.Path, logs: list, wanted: Callable, convert: Callable) -> tuple:
    """(timetable, array of the frames, fps): from the nearest place, and by the table, that turn out right."""
    for counted in (False, True):
        table = timetable.read(path, counted=counted)
        # What reading ahead complained of, decoding does again, if the clip reaches that far.
        logs.clear()
        first, stop = wanted(table)
        if first == stop:
            return table, None, 0.0
        for place in table.beginnings(first):
            logs.clear()
            with contextlib.suppress(timetable.Lost):
                return table, *_filled(path, table, place, (first, stop), logs, convert)
    raise DecodeError("decoding it twice gives different frames")


def _filled(path: pathlib.Path, table: timetable.Timetable, place: int | None, wanted: tuple[int, int],
            logs: list, convert: Callable) -> tuple[np.ndarray, float]:  # fmt: skip
    """(array of the frames of the numbers ``wanted``, fps), decoded from ``place`` on. Raises timetable.Lost
    where they are not those."""
    first, stop = wanted
    array, sizes, seen = None, set(), first
    with _open(path) as container:
        stream = timetable.video_stream(container)
        numbered = _without_head(timetable.frames(container, table, place), logs, table.cut or place is not None)
        for number, frame in display.progressive(_window(numbered, first, stop)):
            if not first <= number < stop:
                continue
            shown = convert(frame, stream)
            # One array from the beginning: stacking them in the end would need the memory twice.
            if array is None:
                _check_room(stop - first, (stop - first) * shown.nbytes)
                array = np.empty((stop - first, *shown.shape), shown.dtype)
            sizes.add(shown.shape[:2])
            if len(sizes) == 1:
                array[number - first] = shown
            seen += 1
        fps = _rate(stream, table.times)
    if seen < stop:
        raise timetable.Lost
    if len(sizes) > 1:
        raise DecodeError(f"frames of different sizes: {sorted(sizes)}")
    return array, fps


def _rate(stream, times: np.ndarray) -> float:
    """Frames a second: the container's word, unless its frames are paced quite differently (raw DV)."""
    named = float(stream.average_rate or stream.guessed_rate or 25)
    seen = (len(times) - 1) / np.ptp(times) if len(times) > 1 else named
    return named if seen / 4 < named < 4 * seen else float(seen)


def _without_head(numbered: Iterator, logs: list, cut: bool) -> Iterator:
    """The frames; of those before them, which lack what they are predicted from, it is rightly complained."""
    for seen, frame in enumerate(numbered):
        if not seen:
            # Of references that a cut left behind: even a file that says nothing of one may begin so.
            logs[:] = [] if cut else [line for line in logs if not line[2].startswith("mmco:")]
        yield frame


def _window(numbered: Iterator, first: int, stop: int) -> Iterator:
    """The frames [first, stop) with a neighbour on either side, which deinterlacing needs."""
    alone = first > 0
    for number, frame in numbered:
        if number == first and alone and frame.interlaced_frame:
            raise timetable.Lost
        if number >= first - 1:
            alone = False
            yield number, frame
        if number >= stop:
            return


def _check_room(count: int, size: int) -> None:
    if size > MAX_BYTES:
        raise DecodeError(f"too long: {count} frames fill {size >> 30} GiB; cut it with start and end")


def _pixels(frame: av.VideoFrame, reformatter: VideoReformatter, format: str) -> np.ndarray:
    return reformatter.reformat(frame, format=format, **_ONE_THREAD).to_ndarray()


def _rgb(reformatter: VideoReformatter, short_side: int, frame: av.VideoFrame, stream) -> np.ndarray:
    pixels = _pixels(frame, reformatter, "rgb24")
    return display.upright(_fit(pixels, short_side, aspect=float(stream.sample_aspect_ratio or 1)), frame)


def extent(
    path: str | os.PathLike | list[pathlib.Path], *, fps: float | None = PICTURES_FPS
) -> tuple[int, float]:
    """(frames, seconds from the first to the last) of a whole video or depth film, of which nothing need be
    kept. Pictures (a list, or one) and arrays have ``fps``; with None the seconds are nan. Raises DecodeError."""
    if isinstance(path, list):
        count = len(path)
    elif (ending := existing(path).suffix.lower()) in IMAGES:
        count = 1
    elif ending == ".mat":
        count = len(_depth_matlab(pathlib.Path(path)))
    else:
        with _listening("video") as logs:
            times = timetable.read(path).times
            # Damage that the clip does not reach is none of the clip.
            logs.clear()
        return len(times), float(np.ptp(times)) if len(times) else 0.0
    return count, (count - 1) / fps if fps else np.nan


# ---------------------------------------------------------------------------- pictures
def is_pattern(path: pathlib.Path) -> bool:
    """Whether the last part of ``path`` stands for several files: it has a * or ?, and no file bears it."""
    return ("*" in path.name or "?" in path.name) and not path.exists()


def sequence(
    path: str | os.PathLike, endings: tuple[str, ...] = IMAGES
) -> list[pathlib.Path] | None:
    """The pictures that a folder holds, or those of a pattern within one (``clip/*_rgb.jpg``), in the
    order of their numbers; None where ``path`` is a file, or nothing. Raises DecodeError where a
    folder or a pattern has none."""
    path = pathlib.Path(path)
    if path.is_dir():
        files, where = path.iterdir(), f"the folder {path.name}"
    elif is_pattern(path):
        files, where = existing(path.parent).glob(path.name), f"{path.parent.name}/{path.name}"
    else:
        return None
    # Archives from a Mac hold a ._name beside every name.
    found = [p for p in files if p.suffix.lower() in endings and not p.name.startswith("._")]
    if not found:
        raise DecodeError(f"no frames: {where} has no {', '.join(endings)}")
    return sorted(found, key=_in_order)


def _in_order(path: pathlib.Path) -> tuple:
    """Sorts frame_10 behind frame_9, padded or not."""
    return [int(n) for n in re.findall(r"\d+", path.stem)], path.name


def _check_image(data: bytes) -> None:
    # OpenCV fills what a truncated JPEG lacks with gray and says nothing; FFmpeg complains.
    with _listening("an image"), av.open(io.BytesIO(data)) as container:
        next(container.decode(video=0), None)


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    # Always of bytes: neither library reads every name, and FFmpeg takes 100%d.png for a series.
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _read_image(path: pathlib.Path, flags: int) -> np.ndarray:
    _check_image(data := existing(path).read_bytes())
    picture = _imdecode(data, flags)
    if picture is None:
        raise DecodeError("not readable as an image")
    return picture


def image(path: str | os.PathLike, *, short_side: int = 0) -> Video:
    """A still image as a clip of one frame. Raises DecodeError."""
    picture = _read_image(pathlib.Path(path), cv2.IMREAD_COLOR)
    frame = _fit(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), short_side)
    return Video(frame[None], np.zeros(1), 1.0)


@contextlib.contextmanager
def _naming(file: pathlib.Path) -> Iterator[None]:
    """Of many pictures, which one it was."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{file.name}: {error}") from None


def images(
    files: Sequence[pathlib.Path], *, fps: float = PICTURES_FPS, start: float = 0.0,
    end: float | None = None, short_side: int = 0,
) -> Video:  # fmt: skip
    """Pictures, ``fps`` a second, as a video from ``start`` to ``end`` seconds. Raises DecodeError."""
    times = np.arange(len(files)) / fps
    wanted = np.flatnonzero((times >= start - 1e-6) & (times < (np.inf if end is None else end) - 1e-6))
    if not len(wanted):
        raise DecodeError(f"no frames between {start} s and {'the end' if end is None else end}")
    frames = None
    for row, i in enumerate(wanted):
        with _naming(files[i]):
            frame = image(files[i], short_side=short_side).frames[0]
        if frames is None:
            _check_room(len(wanted), len(wanted) * frame.nbytes)
            frames = np.empty((len(wanted), *frame.shape), np.uint8)
        if frame.shape != frames.shape[1:]:
            raise DecodeError(f"frames of different sizes: {sorted({frame.shape[:2], frames.shape[1:3]})}")
        frames[row] = frame
    return Video(frames, times[wanted] - start, fps, int(wanted[0]))


def clip(
    path: str | os.PathLike | list[pathlib.Path], *, fps: float = PICTURES_FPS, **options
) -> Video:
    """``video``; ``image`` for a file with an image's ending; ``images`` at ``fps`` for a folder of
    them, a pattern (see ``sequence``) or a list. Raises DecodeError."""
    files = path if isinstance(path, list) else sequence(path)
    if files is not None:
        return images(files, fps=fps, **options)
    if pathlib.Path(path).suffix.lower() in IMAGES:
        return image(path, short_side=options.get("short_side", 0))
    return video(path, **options)


# ---------------------------------------------------------------------------- depth
# Matroska, which holds most depth, rounds times to milliseconds.
_TICK = 6e-4


def depth(
    path: str | os.PathLike | list[pathlib.Path], *, fps: float | None = PICTURES_FPS, start: float = 0.0,
    end: float | None = None, frames: range | None = None, short_side: int = 0,
) -> Maps:  # fmt: skip
    """Depth from 16-bit PNGs (a folder, a pattern or a list, see ``sequence``), one PNG, a gray video
    (mkv with FFV1), or MATLAB's ``curFrame`` [H, W, T] (UWA3DII).

    These are the maps from ``start`` to ``end`` seconds of their own clock; with ``frames`` those whose number
    in the whole film is among them, as far as there are any. ``fps`` is the rate of pictures and arrays; None
    where they have no clock. Raises DecodeError, also where no map is left.
    """
    files = path if isinstance(path, list) else sequence(path, (".png",))
    wanted = functools.partial(_wanted, start=start, end=end, frames=frames)
    where = f"between {start} s and {'the end' if end is None else end}"
    nothing = "no depth maps " + (f"from number {frames.start} to {frames.stop - 1}" if frames else where)
    if files is None and existing(path).suffix.lower() not in (".png", ".mat"):
        maps, times, rate, first = _depth_video(pathlib.Path(path), wanted, short_side, nothing)
    else:
        readers = _depth_readers(files, path)
        times, rate = (np.arange(len(readers)) / fps if fps else np.full(len(readers), np.nan)), fps
        first, stop = wanted(times)
        if first == stop:
            raise DecodeError(f"{nothing}: there are {len(times)}")
        maps = _depth_maps(readers[first:stop], short_side)
    numbers = first + np.arange(len(maps))
    if len(shapes := {m.shape for m in maps}) > 1:
        raise DecodeError(f"depth maps of several sizes {sorted(shapes)} in {_name(path)}")
    return Maps(list(maps), numbers, times[numbers] - start, rate, len(times), float(np.ptp(times)))


def _wanted(times: np.ndarray, start: float, end: float | None, frames: range | None) -> tuple[int, int]:
    """The maps [first, stop) of those at ``times``; all where they have none."""
    if frames is not None:
        return min(frames.start, len(times)), min(frames.stop, len(times))
    if np.isnan(times).any():
        return 0, len(times)
    first, stop = np.searchsorted(times, (start - _TICK, (np.inf if end is None else end) - _TICK))
    return int(first), int(stop)


def _name(path: str | os.PathLike | list[pathlib.Path]) -> str:
    return path[0].parent.name if isinstance(path, list) else pathlib.Path(path).name


def _depth_readers(files: list[pathlib.Path] | None, path: str | os.PathLike) -> list[Callable]:
    """Of each map a function that reads it."""
    if files is None and pathlib.Path(path).suffix.lower() == ".mat":
        return [functools.partial(_depth_array, plane) for plane in _depth_matlab(pathlib.Path(path))]
    return [functools.partial(_depth_image, file) for file in files or [pathlib.Path(path)]]


def _depth_maps(readers: list[Callable], short_side: int) -> list[np.ndarray]:
    maps, size = [], 0
    for read in readers:
        maps.append(_fit(read(), short_side, cv2.INTER_NEAREST))
        size += maps[-1].nbytes
        _check_room(len(maps), size)
    return maps


def _depth_matlab(path: pathlib.Path) -> np.ndarray:
    """[T, H, W] of any type."""
    # Imported here: whoever reads records needs no MATLAB.
    from scipy.io import loadmat

    try:
        found = loadmat(path)
    except NotImplementedError:
        raise DecodeError(f"{path.name} is MATLAB 7.3: save it with -v7") from None
    except Exception as error:  # its reader raises whatever damaged bytes lead it to
        raise DecodeError(f"not readable as a .mat file: {error}") from None
    array = found.get("curFrame")
    if array is None or array.ndim not in (2, 3) or not array.size:
        names = sorted(name for name in found if not name.startswith("_"))
        raise DecodeError(f"{path.name} has no array curFrame [H, W, T]; it has {names}")
    # MATLAB drops a last axis of length 1.
    return np.moveaxis(array if array.ndim == 3 else array[..., None], -1, 0)


def _depth_array(plane: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(plane), 0, 65535).astype(np.uint16, order="C")


def _depth_video(path: pathlib.Path, wanted: Callable, short_side: int, nothing: str) -> tuple:
    """(maps, times of all of the film, fps, number of the first)."""
    reformatter = VideoReformatter()

    def convert(frame: av.VideoFrame, _) -> np.ndarray:
        return _fit(_pixels(frame, reformatter, "gray16le"), short_side, cv2.INTER_NEAREST)

    with _naming(path):
        return _film(path, "depth", lambda table: wanted(table.times), convert, nothing)


def _depth_image(path: pathlib.Path) -> np.ndarray:
    picture = _imdecode(existing(path).read_bytes(), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2:
        raise DecodeError(f"depth image {path.name} is not a one-channel PNG, or damaged")
    return picture.astype(np.uint16)


# ---------------------------------------------------------------------------- flow in pictures
# flow_x_00001, x_1, u0001; or 000001x, as Charades has it.
_AXIS = re.compile(r"(?:flow[_-]?)?([xyuv])(?![a-z]).*|.*\d[_-]?([xyuv])", re.IGNORECASE)
_AXIS_FOLDER = re.compile(r"(?:flow[_-]?)?([xyuv])", re.IGNORECASE)


def _axis(file: pathlib.Path, folder: pathlib.Path) -> str:
    """'x', 'y' or '': by the name, or by the subfolder (EPIC-KITCHENS' u/ and v/)."""
    inside = file.parent != folder
    match = _AXIS_FOLDER.fullmatch(file.parent.name) if inside else _AXIS.fullmatch(file.stem)
    letter = next(filter(None, match.groups()), "").lower() if match else ""
    return {"u": "x", "v": "y"}.get(letter, letter)


def _flow_files(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """(x, y) in the order of their numbers; (pictures, []) where they are not pairs."""
    inside = [d for d in folder.iterdir() if d.is_dir() and _AXIS_FOLDER.fullmatch(d.name)]
    found = [file for d in inside or [folder] for file in sequence(d)]
    axes = {file: _axis(file, folder) for file in found}
    x, y = ([file for file in found if axes[file] == axis] for axis in "xy")
    if not (x and y):
        return found, []
    if len(x) != len(y):
        raise DecodeError(f"{len(x)} pictures of horizontal flow, {len(y)} of vertical, in {folder.name}")
    return x, y


def _flow_bytes(path: pathlib.Path, channels: int, short_side: int) -> tuple:
    """(bytes, (height, width) stored, scale); the file's own bytes where nothing changes them."""
    picture = _read_image(path, cv2.IMREAD_UNCHANGED)
    if picture.dtype != np.uint8:
        raise DecodeError(f"flow is read from 8-bit pictures, this one is {picture.dtype}")
    own = path.suffix.lower() in (".png", ".jpg", ".jpeg")
    if channels == 1 and picture.ndim == 3:
        picture, own = cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2GRAY), False
    elif channels == 3 and picture.ndim == 2:
        raise DecodeError("a gray picture of flow without its pair: name them flow_x*, flow_y*")
    elif channels == 3 and picture.shape[2] != 3:
        picture, own = picture[..., :3], False
    fitted = _fit(picture, short_side)
    data = path.read_bytes() if own and fitted is picture else encode_png(fitted)
    return data, fitted.shape[:2], fitted.shape[0] / picture.shape[0]


def flow_pictures(path: str | os.PathLike, *, short_side: int = 0) -> FlowPictures:
    """Flow from a folder: gray pairs named flow_x*, flow_y* (or x*, y*; u*, v*; subfolders u, v), or
    pictures of three channels (DMCL's visualised flow). Raises DecodeError."""
    folder = existing(path)
    if not folder.is_dir():
        raise DecodeError(f"flow is a folder of pictures, {folder.name} is none")
    planes, facts = _flow_files(folder), set()
    stored = []
    for files in planes:
        stored.append([])
        for file in files:
            with _naming(file):
                data, *fact = _flow_bytes(file, 1 if planes[1] else 3, short_side)
            stored[-1].append(data)
            facts.add(tuple(fact))
    if len(facts) > 1:
        raise DecodeError(f"pictures of flow of several sizes {sorted(f[0] for f in facts)} in {folder.name}")
    (height, width), scale = facts.pop()
    return FlowPictures(*stored, height, width, scale)


# ---------------------------------------------------------------------------- sound
# Containers round the times of sound; what is longer is a hole in it.
_HOLE = 0.05


def audio(path: str | os.PathLike, *, rate: int = 16_000, start: float = 0.0,
          end: float | None = None) -> Sound:  # fmt: skip
    """Sound as int16 mono at ``rate``, from ``start`` to ``end`` seconds of the container's clock, which
    is that of ``video``, too; holes are silence. Raises DecodeError (no sound stream, or none in the
    interval, among others)."""
    path = existing(path)
    with _listening("sound"), _open(path) as container:
        if not container.streams.audio:
            raise DecodeError(f"no sound stream in {path.name}")
        samples, first = _samples(container, rate)
    stop = len(samples) if end is None else max(round((end - first) * rate), 0)
    samples = samples[max(round((start - first) * rate), 0) : stop]
    if not len(samples):
        raise DecodeError(f"no sound in {path.name} between {start} s and {'the end' if end is None else end}")
    return Sound(samples, max(first - start, 0.0))


def _samples(container, rate: int) -> tuple[np.ndarray, float]:
    """(int16 [n], when the first sounds)."""
    origin = (container.start_time or 0) / av.time_base
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    parts, first, due = [], None, 0.0
    for frame in container.decode(audio=0):
        time = due if frame.time is None else float(frame.time) - origin
        if first is None:
            first = due = time
        if time - due > _HOLE:
            _check_room(1, round((time - first) * rate) * 2)
            parts.append(np.zeros(round((time - due) * rate), np.int16))
            due = time
        parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        due += frame.samples / frame.sample_rate
    parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16), first or 0.0


# ---------------------------------------------------------------------------- frames in records
# Metres, for records that name no range of their own.
DEPTH_RANGE = (0.0, 8.0)


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """uint8 [H, W, 3] or [H, W] -> JPEG; colours at half size (4:2:0), as in nearly every video."""
    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality,
             cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]  # fmt: skip
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 or uint16 [H, W] -> PNG."""
    return cv2.imencode(".png", picture)[1].tobytes()


def _decode_image(data: bytes, colour: bool) -> np.ndarray:
    flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_UNCHANGED
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if picture is None:
        raise DecodeError("a frame of the record cannot be decoded; build the dataset again")
    return picture if colour else picture[..., None]


def encode_mp4(frames: np.ndarray, fps: float, *, crf: int = 18, gop: int = 12) -> bytes:
    """uint8 [T, H, W, 3] -> a short-GOP H.264 file (even sides), for ``rgb_video``."""
    buffer = io.BytesIO()
    height, width = (n // 2 * 2 for n in frames.shape[1:3])
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=max(round(fps), 1))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "g": str(gop), "bf": "0"}
        for frame in frames[:, :height, :width]:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def _decode_mp4(data: bytes, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """The frames ``wanted`` of a short-GOP file, read up to the last of them."""
    found, remaining = {}, set(wanted.tolist())
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        reformatter = VideoReformatter()
        for i, frame in enumerate(container.decode(stream)):
            if i in remaining:
                picture = reformatter.reformat(frame, format="rgb24", **_ONE_THREAD)
                found[i] = picture.to_ndarray().copy()
                remaining.discard(i)
            if not remaining:
                break
    if remaining:
        raise DecodeError(f"frames {sorted(remaining)} are not in the record's video")
    return found


def count_frames(record: dict, field: str) -> int:
    """Frames of ``field`` in a record, 0 where it is absent: ``num_frames`` of RGB, of the others what
    is stored, but none beyond the last frame."""
    if field == "rgb":
        return record["num_frames"] if record["rgb"] or record["rgb_video"] else 0
    # The longer plane, so that reading tells where frames of the other one are lost.
    stored = ("flow_x", "flow_y") if field == "flow" else (field,)
    return min(max(len(record[name]) for name in stored), record["num_frames"])


def _flow_picture(record: dict, i: int) -> np.ndarray:
    """Two planes, or the colour picture that stands for them where there is no second plane."""
    if not record["flow_y"]:
        return _decode_image(record["flow_x"][i], True)
    return np.concatenate([_decode_image(record[name][i], False) for name in ("flow_x", "flow_y")], -1)


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Frames ``indices`` of ``field`` ('rgb', 'flow', 'depth') -> [len, H, W, C]: C is 3, 2 (3 where flow
    is stored as colour pictures), 1.

    Each distinct index is decoded once. uint8 (depth uint16, raw). Raises DecodeError.
    """
    indices = np.asarray(indices)
    distinct, inverse = np.unique(indices, return_inverse=True)
    if field == "flow":
        pictures = [_flow_picture(record, i) for i in distinct]
    elif field == "rgb" and record.get("rgb_video"):
        found = _decode_mp4(record["rgb_video"], distinct)
        pictures = [found[i] for i in distinct.tolist()]
    else:
        pictures = [_decode_image(record[field][i], field == "rgb") for i in distinct]
    return np.stack([pictures[i] for i in inverse.reshape(-1)])


@functools.lru_cache(maxsize=64)
def _levels(scale: float, near: float, far: float) -> np.ndarray:
    """The uint8 of every uint16 depth."""
    if not (scale > 0 and far > near):
        raise DecodeError(f"depth_scale={scale} is positive, depth_range={near, far} rises: correct them")
    shares = np.clip((np.arange(1 << 16) * scale - near) / (far - near), 0, 1)
    levels = np.round(1 + 254 * shares).astype(np.uint8)
    levels[0] = 0
    return levels


def depth_levels(raw: np.ndarray, scale: float, depth_range: tuple[float, float]) -> np.ndarray:
    """Depth as the networks read it: uint8 of ``raw``'s shape.

    ``raw`` times ``scale`` is metres; ``depth_range`` (near, far) goes linearly onto 1..255, what
    lies outside onto its ends. 0 is no reading and stays 0. Raises DecodeError for a range or a
    scale that is none.
    """
    return _levels(float(scale), *map(float, depth_range))[raw]


def decode_bytes(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """``decode_frames``, uint8 for every field: depth by ``depth_levels``. Raises DecodeError."""
    frames = decode_frames(record, field, indices)
    if field == "depth":
        return depth_levels(frames, record["depth_scale"], record.get("depth_range", DEPTH_RANGE))
    return frames
