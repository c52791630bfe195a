"""Decoding, through PyAV and OpenCV: whole files when data are prepared, single frames after.

Preparation decodes everything once and counts what FFmpeg complains about, because no decoder
raises on damaged bytes; the loader then never meets a bad clip.
"""

import contextlib
import io
import os
import pathlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

cv2.setNumThreads(0)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# From here on the frames of one clip would crowd a worker's memory.
MAX_BYTES = 4 << 30
# FFmpeg's log belongs to the process, so one file is read at a time in it.
_LOG = threading.Lock()
# Since PyAV 17 a conversion starts a thread a core; here workers are the parallelism.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class DecodeError(ValueError):
    """A file that cannot be used; the message is the reason that ``rejected.csv`` keeps."""


class Video(NamedTuple):
    """``frames`` uint8 [T, H, W, 3], their ``times`` [T] in seconds from the clip's start (variable
    rates kept), and the average ``fps``."""

    frames: np.ndarray
    times: np.ndarray
    fps: float


class Sound(NamedTuple):
    """``samples`` int16 [n], mono, the first of them ``start`` seconds after the clip's start."""

    samples: np.ndarray
    start: float


def existing(path: str | os.PathLike) -> pathlib.Path:
    """``path``, if there is something in it. Raises DecodeError."""
    path = pathlib.Path(path)
    if not path.exists():
        raise DecodeError(f"missing file {path.name}")
    if path.is_file() and path.stat().st_size == 0:
        raise DecodeError(f"empty file {path.name}")
    return path


@contextlib.contextmanager
def _listening(what: str) -> Iterator[list]:
    """Reads within; raises DecodeError for what FFmpeg raises and for whatever it complains of."""
    with _LOG:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        # For good: held back repetitions would turn up in the next file's log.
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture(False) as logs:
                yield logs
        except (av.error.FFmpegError, UnicodeDecodeError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            last = f" ({logs[-1][2].strip()})" if logs else ""
            raise DecodeError(f"not readable as {what}: {reason}{last}") from None
        finally:
            av.logging.set_level(level)
    complaints = [text.strip() for severity, _, text in logs if severity <= av.logging.ERROR]
    if complaints:
        raise DecodeError(f"damaged: {len(complaints)} decoder errors, first: {complaints[0]}")


def _fit(image: np.ndarray, short_side: int, interpolation=cv2.INTER_AREA) -> np.ndarray:
    """Resizes so that the short side is ``short_side``; a smaller image stays as it is."""
    height, width = image.shape[:2]
    if not short_side or min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(image, size, interpolation=interpolation)


# ---------------------------------------------------------------------------- whole files
def video(
    path: str | os.PathLike, *, start: float = 0.0, end: float | None = None, short_side: int = 0
) -> Video:
    """All frames between ``start`` and ``end`` seconds, upright, resized to ``short_side`` pixels.

    Raises DecodeError with a reason: missing, empty, not a video, no video stream, truncated,
    damaged, no frames in the interval.
    """
    path = existing(path)
    with _listening("video") as logs, av.open(str(path)) as container:
        if not container.streams.video:
            raise DecodeError("no video stream (sound only?)")
        frames, times, fps, missing = _read_video(container, logs, start, end, short_side)
    if not frames:
        raise DecodeError(f"no frames between {start} s and {'the end' if end is None else end}")
    if missing:
        raise DecodeError(f"truncated: {missing}")
    if len(shapes := {frame.shape[:2] for frame in frames}) > 1:
        raise DecodeError(f"frames of different sizes: {sorted(shapes)}")
    return Video(np.stack(frames), np.asarray(times, np.float64), fps)


def _read_video(container, logs: list, start: float, end: float | None, short_side: int) -> tuple:
    """(frames, times from ``start``, fps, what is missing or '')."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    fps = float(stream.average_rate or stream.guessed_rate or 25)
    origin = (container.start_time or 0) / av.time_base
    if start > 0:
        container.seek(int((start + origin) * av.time_base))
    reformatter = VideoReformatter()
    frames, times, seen, size = [], [], 0, 0
    for seen, frame in enumerate(_decoded(container, stream), 1):
        if seen == 1 and start > 0:
            # What comes before the keyframe that the search found is rightly complained of.
            logs.clear()
        time = _time(frame, seen - 1, fps, start) - origin
        if time < start - 1e-6:
            continue
        if end is not None and time >= end - 1e-6:
            return frames, times, fps, ""
        frames.append(_upright(frame, reformatter, short_side))
        times.append(time - start)
        if (size := size + frames[-1].nbytes) > MAX_BYTES:
            raise DecodeError(
                f"too long: {len(frames)} frames fill {size >> 30} GiB; cut it with start and end"
            )
    last = times[-1] + start if times else 0.0
    return frames, times, fps, _missing(container, stream, 0 if start > 0 else seen, last, fps)


def _decoded(container, stream) -> Iterator:
    for packet in container.demux(stream):
        # An edit list cuts these out; they are in the header's count.
        if packet.is_discard:
            stream.codec_context.decode(packet)
        else:
            yield from packet.decode()


def _time(frame, index: int, fps: float, start: float) -> float:
    if frame.time is not None:
        return float(frame.time)
    if start > 0:
        raise DecodeError("a video without time stamps, where start cannot be found")
    return index / fps


def _upright(frame, reformatter: VideoReformatter, short_side: int) -> np.ndarray:
    picture = reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()
    fitted = _fit(picture, short_side)
    # A telephone held upright writes its frames lying down and says so.
    if turns := round(getattr(frame, "rotation", 0) / 90) % 4:
        fitted = np.rot90(fitted, turns)
    # A copy: the array may be a window into FFmpeg's larger frame.
    return picture.copy() if fitted is picture else np.ascontiguousarray(fitted)


def _missing(container, stream, count: int, last: float, fps: float) -> str:
    """What of the header's promise did not come, '' if nothing: by frames (``count``, 0 unknown) and
    by the ``last`` time. Headers are off by a frame or two, and the last frame may be long."""
    if count and stream.frames and stream.frames - count > max(2, 0.02 * stream.frames):
        return f"{count} of {stream.frames} frames"
    length = _header_length(container, stream)
    if length and length - (last + 1 / fps) > max(3 / fps, 0.02 * length):
        return f"{last + 1 / fps:.2f} of {length:.2f} s"
    return ""


def _header_length(container, stream) -> float | None:
    """Seconds of video that the header names; None where it is silent or may mean the sound."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if text := stream.metadata.get("DURATION"):
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = map(float, text.split(":"))
            return 3600 * hours + 60 * minutes + seconds
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def image(path: str | os.PathLike, *, short_side: int = 0) -> Video:
    """A still image as a clip of one frame. Raises DecodeError."""
    path = existing(path)
    # OpenCV fills what a truncated JPEG lacks with gray and says nothing; FFmpeg complains.
    with _listening("an image"), av.open(str(path)) as container:
        next(container.decode(video=0), None)
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DecodeError("not readable as an image")
    frame = _fit(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), short_side)
    return Video(frame[None], np.zeros(1), 1.0)


def clip(path: str | os.PathLike, **options) -> Video:
    """``video``, or ``image`` for a file with an image's ending."""
    if pathlib.Path(path).suffix.lower() in IMAGES:
        return image(path, short_side=options.get("short_side", 0))
    return video(path, **options)


def _in_order(path: pathlib.Path) -> tuple:
    """Sorts frame_10 behind frame_9, padded or not."""
    return [int(n) for n in re.findall(r"\d+", path.stem)], path.name


def depth(path: str | os.PathLike, *, short_side: int = 0) -> np.ndarray:
    """Depth as uint16 [T, H, W]: a folder of 16-bit PNGs (in the order of their numbers), one PNG,
    or a gray video (mkv with FFV1). Raises DecodeError."""
    path = existing(path)
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if p.suffix.lower() == ".png"), key=_in_order)
        if not files:
            raise DecodeError(f"no PNG in the depth folder {path.name}")
        maps = [_depth_image(existing(p)) for p in files]
    elif path.suffix.lower() == ".png":
        maps = [_depth_image(path)]
    else:
        maps = _depth_video(path)
    if len(shapes := {m.shape for m in maps}) > 1:
        raise DecodeError(f"depth maps of several sizes {sorted(shapes)} in {path.name}")
    return np.stack([_fit(m, short_side, cv2.INTER_NEAREST) for m in maps])


def _depth_video(path: pathlib.Path) -> list[np.ndarray]:
    with _listening("depth"), av.open(str(path)) as container:
        if not container.streams.video:
            raise DecodeError(f"no video stream in {path.name}")
        stream, reformatter = container.streams.video[0], VideoReformatter()
        fps = float(stream.average_rate or 25)
        maps = []
        for frame in container.decode(stream):
            gray = reformatter.reformat(frame, format="gray16le", **_ONE_THREAD)
            maps.append(gray.to_ndarray().copy())
        missing = _missing(container, stream, len(maps), (len(maps) - 1) / fps, fps)
    if not maps or missing:
        raise DecodeError(f"depth truncated: {missing}" if maps else "no depth frames")
    return maps


def _depth_image(path: pathlib.Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2:
        raise DecodeError(f"depth image {path.name} is not a one-channel PNG, or damaged")
    return picture.astype(np.uint16)


def audio(path: str | os.PathLike, *, rate: int = 16_000, start: float = 0.0,
          end: float | None = None) -> Sound:  # fmt: skip
    """Sound as int16 mono at ``rate``, from ``start`` to ``end`` seconds. Raises DecodeError (no
    sound stream, or none in the interval, among others)."""
    path = existing(path)
    with _listening("sound"), av.open(str(path)) as container:
        if not container.streams.audio:
            raise DecodeError(f"no sound stream in {path.name}")
        origin = (container.start_time or 0) / av.time_base
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        parts, first = [], None
        for frame in container.decode(audio=0):
            if first is None:
                first = (float(frame.time) if frame.time is not None else origin) - origin
            parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    first = first or 0.0
    stop = len(samples) if end is None else max(round((end - first) * rate), 0)
    samples = samples[max(round((start - first) * rate), 0) : stop]
    if not len(samples):
        raise DecodeError(f"no sound in {path.name} between {start} s and {end or 'the end'}")
    return Sound(samples, max(first - start, 0.0))


# ---------------------------------------------------------------------------- frames in records
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


def decode_frames(record: dict, field: str, indices: Sequence[int]) -> np.ndarray:
    """Frames ``indices`` of ``field`` ('rgb', 'flow', 'depth') -> [len, H, W, C] (C 3, 2, 1).

    Each distinct index is decoded once. uint8 (depth uint16). Raises DecodeError.
    """
    indices = np.asarray(indices)
    distinct, inverse = np.unique(indices, return_inverse=True)
    if field == "flow":
        planes = [
            [_decode_image(record[name][i], False) for i in distinct] for name in ("flow_x", "flow_y")
        ]
        pictures = [np.concatenate(pair, -1) for pair in zip(*planes)]
    elif field == "rgb" and record.get("rgb_video"):
        found = _decode_mp4(record["rgb_video"], distinct)
        pictures = [found[i] for i in distinct.tolist()]
    else:
        pictures = [_decode_image(record[field][i], field == "rgb") for i in distinct]
    return np.stack([pictures[i] for i in inverse.reshape(-1)])
