"""Makes what is no picture visible: motion, sound, boxes."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmvid.streams import HAND


def wheel(flow: np.ndarray) -> np.ndarray:
    """Colours displacements, float32 [T, H, W, 2] of any one unit: uint8 [T, H, W, 3].

    The hue tells the direction; the strength of the colour tells the length, as a share of the 99th percentile.
    """
    length = np.hypot(flow[..., 0], flow[..., 1])
    # The single longest one is mostly an error of the flow, and would leave the rest pale.
    longest = max(float(np.percentile(length, 99)), 1e-3)
    degrees = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360
    hsv = np.stack([degrees, np.clip(length / longest, 0, 1), np.ones_like(length)], -1).astype(np.float32)
    rgb = cv2.cvtColor(hsv.reshape(-1, flow.shape[2], 3), cv2.COLOR_HSV2RGB).reshape(hsv.shape)
    return np.uint8(np.rint(255 * rgb))


def spectrogram(windows: np.ndarray, bands: int, rate: int) -> np.ndarray:
    """Reads the power of windows of sound at ``bands`` tones, evenly in mel from 0 to ``rate`` / 2 Hz: [n, window]
    -> [n, bands], low tones first."""
    power = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[-1]))) ** 2
    # A picture needs no filters (prepare.py has them): the nearest tone of the spectrum will do.
    hertz = 700 * np.expm1(np.linspace(0, np.log1p(rate / 1400), bands))
    return power[:, np.round(hertz * windows.shape[-1] / rate).astype(int)]


def glow(levels: np.ndarray) -> np.ndarray:
    """Colours levels, uint8 [T, H, W], from black through red and yellow: uint8 [T, H, W, 3]."""
    flat = cv2.applyColorMap(levels.reshape(-1, levels.shape[-1]), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(flat[..., ::-1]).reshape(*levels.shape, 3)


def outline(picture: np.ndarray, box: np.ndarray, category: int) -> None:
    """Draws a box, (x1, y1, x2, y2) in [0, 1], into a picture, uint8 [H, W, 3], in the colour of its category."""
    size = np.array(picture.shape[1::-1] * 2) - 1
    left, top, right, bottom = (int(v) for v in np.rint(np.clip(box, 0, 1) * size))
    # 137 degrees a category: those whose numbers are close are far apart on the circle.
    hue = np.float32([[[category * 137 % 360, 0.8, 1]]])
    colour = (255 * cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]).tolist()
    cv2.rectangle(picture, (left, top), (right, bottom), colour, 1)


# The colour of hands, and that of all other boxes (MMD's paper).
BLUE, RED = (0, 0, 255), (255, 0, 0)


def outlines(layouts: np.ndarray, side: int) -> np.ndarray:
    """Draws layouts, float32 [.., 14, 8], on white: uint8 [.., side, side, 3]. Hands are blue, objects red.

    A picture shows the whole frame. Lines lie within their boxes and are 2 pixels wide where ``side`` is 224
    (MMD's paper), in proportion elsewhere, 1 pixel at least; boxes of later slots cover those of earlier ones.
    """
    out = np.full((*layouts.shape[:-2], side, side, 3), 255, np.uint8)
    line = max(round(2 * side / 224), 1)
    corners = np.rint(layouts[..., :4] * side).astype(int)
    for place in zip(*np.nonzero(layouts[..., 4] > 0)):
        left, top, right, bottom = corners[place]
        # A box of less than a pixel, or at the far edge, still has one.
        left, top = min(left, side - 1), min(top, side - 1)
        across, down = slice(left, max(right, left + 1)), slice(top, max(bottom, top + 1))
        box = out[place[:-1]][down, across]
        for edge in (box[:line], box[-line:], box[:, :line], box[:, -line:]):
            edge[:] = BLUE if layouts[place][4] == HAND else RED
    return out


def beside(films: Sequence[np.ndarray], height: int) -> np.ndarray:
    """Puts films, uint8 [T, H, W, 3] each, beside each other in tiles of one size, as high as ``height``: uint8
    [longest T, height, sum of widths, 3]. Shorter ones are shown in the same time."""
    length = max(map(len, films))
    width = max(round(height * films[0].shape[2] / films[0].shape[1]), 2)
    # What is made larger keeps its pixels, so that what there is can be told from what a filter adds.
    how = cv2.INTER_AREA if films[0].shape[1] > height else cv2.INTER_NEAREST
    tiles = [[cv2.resize(picture, (width, height), interpolation=how) for picture in film] for film in films]
    moments = [[tile[i * len(tile) // length] for tile in tiles] for i in range(length)]
    return np.stack([np.concatenate(pictures, 1) for pictures in moments])
