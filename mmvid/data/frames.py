"""Writes and reads frames as a record keeps them: as JPEG, PNG or a film of short groups of pictures."""

import io

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvid.data.media.files import DecodeError
from mmvid.data.media.film import ONE_THREAD

# Workers are the parallelism.
cv2.setNumThreads(0)


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """Writes uint8 [H, W, 3] (RGB) or [H, W] as JPEG, colours at half size (4:2:0), as in nearly every video."""
    # OpenCV wants blue first.
    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


def encode_png(picture: np.ndarray) -> bytes:
    """Writes uint8 or uint16 [H, W] as PNG."""
    return cv2.imencode(".png", picture)[1].tobytes()


def decode_image(data: bytes, colour: bool) -> np.ndarray:
    """Reads a JPEG or PNG as uint8 [H, W, 3] (RGB) where ``colour``, else as stored, [H, W, 1].

    Raises DecodeError for bytes that are no image.
    """
    flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_UNCHANGED
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if picture is None:
        raise DecodeError("a frame of the record cannot be decoded; build the dataset again")
    return picture if colour else picture[..., None]


def encode_mp4(frames: np.ndarray, fps: float, *, crf: int = 18, gop: int = 12) -> bytes:
    """Writes uint8 [T, H, W, 3] as an H.264 film for ``rgb_video``, with key frames at most ``gop`` frames apart.

    A last row or column that makes a side odd is cut off.
    """
    buffer = io.BytesIO()
    # yuv420p has colours at half size, so its sides are even.
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


def decode_mp4(data: bytes, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Reads the frames ``wanted`` of a film that `encode_mp4` wrote: {index: uint8 [H, W, 3]}.

    Decoding ends with the last of them. Raises DecodeError where the film ends before.
    """
    found, remaining = {}, set(wanted.tolist())
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        reformatter = VideoReformatter()
        for i, frame in enumerate(container.decode(stream)):
            if i in remaining:
                picture = reformatter.reformat(frame, format="rgb24", **ONE_THREAD)
                found[i] = picture.to_ndarray().copy()
                remaining.discard(i)
            if not remaining:
                break
    if remaining:
        raise DecodeError(f"frames {sorted(remaining)} are not in the record's video")
    return found
