"""Finds which samples of a clip's sound a stream hears, given the frames that it reads."""

import numpy as np

from mmvid.data.media.files import DecodeError
from mmvid.data.stored import seconds
from mmvid.streams import Form, nearest


def _check_rate(record: dict, form: Form) -> None:
    """Raises DecodeError where the sound of a record has another rate than a form reads."""
    if record["audio_rate"] != form.rate:
        raise DecodeError(f"its sound has {record['audio_rate']} samples a second, {form.rate} are read")


def over_span(record: dict, indices: np.ndarray, form: Form, side: int) -> np.ndarray:
    """Returns the places of the samples that the windows of a form read: int [.., rows, window].

    The windows lie evenly from the beginning of the first to the end of the last of the frames ``indices``
    [.., T]. Places before 0 and beyond the last sample are silent. Raises DecodeError where the sound has
    another rate than the form.
    """
    _check_rate(record, form)
    first, last = (seconds(record, end) for end in (indices.min(-1), indices.max(-1)))
    # The sound of a clip may begin after its pictures, and places count from its first sample.
    begin = (first - record["audio_start_s"]) * form.rate
    # The last frame is heard as long as it is shown.
    room = np.maximum((last - first + 1 / record["fps"]) * form.rate - form.raw, 0)
    starts = begin[..., None] + room[..., None] * np.linspace(0, 1, form.axes[0])
    return np.round(starts).astype(np.int64)[..., None] + np.arange(form.raw)


def around(record: dict, indices: np.ndarray, form: Form, side: int) -> np.ndarray:
    """Returns the places of the samples around each of the frames ``indices`` [.., T]: int [.., T, side, window].

    A frame is heard from half a ``reach`` before its moment to half a reach after it, in windows that overlap by
    half, as torch.stft centres them: they begin half a window before the segment, which its ends reflect. Of
    these windows a picture shows ``side`` (MMD, dataset_audio.py and data_utils.py). Places before 0 and beyond
    the last sample are silent. Raises DecodeError as `over_span`.
    """
    _check_rate(record, form)
    length, hop = round(form.reach * form.rate), form.raw // 2
    moments = (seconds(record, indices) - record["audio_start_s"]) * form.rate
    # Rounded down, but times that were kept in float32 may be just below what they stand for.
    begin = np.floor(moments + 0.01).astype(np.int64) - length // 2
    starts = (nearest(1 + length // hop, side) - 1) * hop
    within = np.abs(starts[:, None] + np.arange(form.raw))
    within = np.minimum(within, 2 * (length - 1) - within)
    return begin[..., None, None] + within


def centred(record: dict, indices: np.ndarray, form: Form, side: int) -> np.ndarray:
    """Returns the places of the samples around the middle of what the frames ``indices`` [.., T] span: int
    [.., rows, window].

    A ``reach`` is heard, in windows that overlap by half. The first one has its middle where the reach begins, and
    what of a window lies outside of the reach is silent, as librosa centres them (TBN's code). Places before 0 and
    beyond the last sample are silent. Raises DecodeError as `over_span`.
    """
    _check_rate(record, form)
    first, last = (seconds(record, end) for end in (indices.min(-1), indices.max(-1)))
    # The last frame is shown for a while, too.
    middle = ((first + last + 1 / record["fps"]) / 2 - record["audio_start_s"]) * form.rate
    length, hop = round(form.reach * form.rate), form.raw // 2
    begin = np.floor(middle + 0.01).astype(np.int64) - length // 2
    within = hop * np.arange(form.axes[0])[:, None] + np.arange(form.raw) - form.raw // 2
    places = begin[..., None, None] + within
    return np.where((within >= 0) & (within < length), places, -1)
