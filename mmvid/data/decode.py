"""Decoding, through PyAV and OpenCV: whole files when data are prepared, single frames after.

Preparation decodes everything once and counts what FFmpeg complains about, because no decoder
raises on damaged bytes (spec/features.md 3.1); the loader then never meets a bad clip.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import av
import cv2
import numpy as np

cv2.setNumThreads(0)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class DecodeError(ValueError):
    """A file that cannot be used; the message is the reason that ``rejected.csv`` keeps."""


class Video(NamedTuple):
    """``frames`` uint8 [T, H, W, 3] and their ``times`` in seconds [T] (variable rates kept)."""

    frames: np.ndarray
    times: np.ndarray
    fps: float


def _existing(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.exists():
        raise DecodeError(f"missing file {path.name}")
    if path.is_file() and path.stat().st_size == 0:
        raise DecodeError(f"empty file {path.name}")
    return path


def _complaints(logs) -> list[str]:
    return [text.strip() for level, _, text in logs if level <= av.logging.ERROR]


def _fit(image: np.ndarray, short_side: int, interpolation=cv2.INTER_AREA) -> np.ndarray:
    """Resizes so that the short side is ``short_side``; a smaller image stays as it is."""
    height, width = image.shape[:2]
    if not short_side or min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(image, size, interpolation=interpolation)


def video(
    path: str | os.PathLike, *, start: float = 0.0, end: float | None = None, short_side: int = 0
) -> Video:
    """All frames between ``start`` and ``end`` seconds, resized to ``short_side`` pixels.

    Raises DecodeError with a reason: missing, empty, not a video, no video stream, truncated,
    damaged, no frames in the interval.
    """
    path = _existing(path)
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture(False) as logs:
        try:
            frames, times, fps, expected = _read_video(path, start, end, short_side)
        except (av.error.FFmpegError, IndexError, UnicodeDecodeError) as error:
            raise DecodeError(f"not readable as video: {error}") from None
    if complaints := _complaints(logs):
        raise DecodeError(f"damaged: {len(complaints)} decoder errors, first: {complaints[0]}")
    if not frames:
        raise DecodeError("no frames" + (f" between {start} s and {end} s" if end else ""))
    if expected and len(frames) < expected:
        raise DecodeError(f"truncated: {len(frames)} of {expected} frames")
    return Video(np.stack(frames), np.asarray(times, np.float64), fps)


def _read_video(path, start, end, short_side):
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise DecodeError("no video stream (sound only?)")
        stream = container.streams.video[0]
        # One thread: workers are the parallelism (features.md 3.1).
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        whole = start <= 0 and end is None
        frames, times = [], []
        for i, frame in enumerate(container.decode(stream)):
            time = float(frame.time) if frame.time is not None else i / fps
            if time < start - 1e-6:
                continue
            if end is not None and time >= end - 1e-6:
                break
            frames.append(_fit(frame.to_ndarray(format="rgb24"), short_side))
            times.append(time)
        return frames, times, fps, stream.frames if whole else 0


def image(path: str | os.PathLike, *, short_side: int = 0) -> Video:
    """A still image as a clip of one frame. Raises DecodeError."""
    path = _existing(path)
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DecodeError("not readable as an image")
    return Video(_fit(picture[..., ::-1], short_side)[None].copy(), np.zeros(1), 1.0)


def clip(path: str | os.PathLike, **options) -> Video:
    """``video``, or ``image`` for a file with an image's ending."""
    if pathlib.Path(path).suffix.lower() in IMAGES:
        return image(path, short_side=options.get("short_side", 0))
    return video(path, **options)


def depth(path: str | os.PathLike, *, short_side: int = 0) -> np.ndarray:
    """Depth as uint16 [T, H, W]: a folder of 16-bit PNGs (sorted by name), one PNG, or a gray
    video (mkv with FFV1). Raises DecodeError."""
    path = _existing(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png")
        if not files:
            raise DecodeError(f"no PNG in the depth folder {path.name}")
        return np.stack([_depth_image(p, short_side) for p in files])
    if path.suffix.lower() == ".png":
        return _depth_image(path, short_side)[None]
    try:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="gray16le") for f in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError) as error:
        raise DecodeError(f"depth not readable: {error}") from None
    if not frames:
        raise DecodeError("no depth frames")
    return np.stack([_fit(f, short_side, cv2.INTER_NEAREST) for f in frames])


def _depth_image(path: pathlib.Path, short_side: int) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2:
        raise DecodeError(f"depth image {path.name} is not a one-channel PNG")
    return _fit(picture.astype(np.uint16), short_side, cv2.INTER_NEAREST)


def audio(path: str | os.PathLike, *, rate: int = 16_000, start: float = 0.0,
          end: float | None = None) -> np.ndarray:  # fmt: skip
    """Sound as int16 mono [n] at ``rate``. Raises DecodeError (no sound stream among others)."""
    path = _existing(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise DecodeError("no sound stream")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
            parts = []
            for frame in container.decode(audio=0):
                parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
            parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    except av.error.FFmpegError as error:
        raise DecodeError(f"sound not readable: {error}") from None
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    stop = None if end is None else round(end * rate)
    return samples[round(start * rate) : stop]


# ---------------------------------------------------------------------------- frames in records
def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """uint8 [H, W, 3] or [H, W] -> JPEG, colours not subsampled (4:4:4)."""
    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality,
             cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 or uint16 [H, W] -> PNG."""
    return cv2.imencode(".png", picture)[1].tobytes()


def _decode_image(data: bytes, colour: bool) -> np.ndarray:
    flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_UNCHANGED
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if picture is None:
        raise DecodeError("a frame of the record cannot be decoded; build the dataset again")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if colour else picture[..., None]


def encode_mp4(frames: np.ndarray, fps: float, *, crf: int = 18, gop: int = 12) -> bytes:
    """uint8 [T, H, W, 3] -> a short-GOP H.264 file (even sides), for ``rgb_video``."""
    import io

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
    import io

    found, remaining = {}, set(wanted.tolist())
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for i, frame in enumerate(container.decode(stream)):
            if i in remaining:
                found[i] = frame.to_ndarray(format="rgb24")
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
    return np.stack(pictures)[inverse.reshape(-1)]
