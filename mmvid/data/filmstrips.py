"""Draws for people what a record stores: pictures of each field, evenly over a clip."""

from collections.abc import Sequence

import numpy as np

from mmvid.data import pictures, stored


def _evenly(record: dict, columns: Sequence[str], count: int) -> np.ndarray:
    """Returns ``count`` places evenly over what is stored in ``columns``."""
    return np.linspace(0, stored.kept(record, columns) - 1, count).astype(int)


def colours(record: dict, count: int) -> np.ndarray:
    """Returns pictures as they are."""
    return stored.colours(record, np.linspace(0, record["num_frames"] - 1, count).astype(int))


def flow(record: dict, count: int) -> np.ndarray:
    """Colours flow: the hue tells its direction, the strength of the colour its length as a share of the clip's
    longest; what rests is white."""
    flow = stored.flow(record, _evenly(record, ("flow_x", "flow_y"), count))
    return flow if flow.shape[-1] == 3 else pictures.wheel((np.float32(flow) - 127.5) / 127.5)


def depth(record: dict, count: int) -> np.ndarray:
    """Draws depth in greys, near in white; where there is no reading it is black."""
    levels = stored.depth_bytes(record, _evenly(record, ("depth",), count))
    return np.repeat(np.where(levels, 256 - levels.astype(int), 0).astype(np.uint8), 3, -1)


def sound(record: dict, count: int) -> np.ndarray:
    """Draws the log-mel spectrogram of the clip, cut into ``count`` pieces; low tones are at the bottom."""
    shape = 64, max(64 * record["width"] // record["height"], 1)
    rate, steps = record["audio_rate"], count * shape[1]
    begin, length = -record["audio_start_s"] * rate, record["num_frames"] / record["fps"] * rate
    window = 512
    places = np.round(begin + length * np.arange(steps) / steps).astype(int)[:, None] + np.arange(window)
    samples = stored.samples(record, places) / (1 << 15)
    loud = np.log1p(1e6 * pictures.spectrogram(samples, shape[0], rate))
    # From the median, since steady noise would hide what happens.
    loud = np.clip(loud - np.median(loud), 0, None)
    grey = np.uint8(np.rint(255 * loud / max(loud.max(), 1e-9)))
    pieces = grey.T[::-1].reshape(shape[0], count, shape[1]).swapaxes(0, 1)
    return pictures.glow(pieces)


def boxes(record: dict, count: int) -> np.ndarray:
    """Draws the boxes of frames on the frames, or on black where there are none; a colour for each category."""
    places = np.linspace(0, record["num_frames"] - 1, count).astype(int)
    blank = np.zeros((count, record["height"], record["width"], 3), np.uint8)
    drawn = stored.colours(record, places) // 2 if record["rgb"] or record["rgb_video"] else blank
    for picture, layout in zip(drawn, stored.layouts(record, places)):
        for box in layout[layout[:, 4] > 0]:
            pictures.outline(picture, box[:4], int(box[4]))
    return drawn
