"""Measures the fields of a clip without a network: brightness, motion, loudness, and how much was cut off."""

from typing import NamedTuple

import cv2
import numpy as np

# Of 255: darker than this nobody sees much; a picture that varies by less shows nothing.
DARK, FLAT = 8.0, 2.0
# Of 255: small grey pictures of one picture, shown long and encoded by H.264 at crf 23, differ by up to 2 at any
# place (of 48 pixels by 5, mostly). Before a camera that stands still and far away they do by 6 and more.
STILL = 5.0
# Percent of a clip's pictures that may show one colour, as where it is faded in.
BLANK = 50.0
# Percent of a clip's motion that may be cut off, of its samples that may be overdriven, of depth that may lack.
CUT, OVERDRIVEN, UNREAD = 5.0, 1.0, 99.9
# Decibels below the loudest that can be kept.
SILENCE = -80.0


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


def of_colours(record: dict, frames: np.ndarray) -> tuple[float, ...]:
    """Measures how bright pictures are, how much the one that varies most varies, the percentage that shows one
    colour, and how far pictures differ from each other: the last two have no meaning where all show one colour."""
    contrast, small = frames.std((1, 2)).max(-1), _small(frames)
    found = float(frames.mean()), float(contrast.max())
    if found[1] < FLAT:
        return *found, np.nan, np.nan
    change = float(np.ptp(small, 0).max()) if len(frames) > 1 and record["num_frames"] > 1 else np.nan
    return *found, 100 * float((contrast < FLAT).mean()), change


def _small(frames: np.ndarray) -> np.ndarray:
    """Makes small grey pictures, float64 [n, 16, 16]."""
    return np.stack([cv2.resize(frame, (16, 16), interpolation=cv2.INTER_AREA) for frame in frames]).mean(-1)


def sketch(frames: np.ndarray) -> np.ndarray:
    """Makes small grey pictures, uint8 [n, 16, 16]: of so few pixels, how a film was encoded changes little."""
    return np.uint8(np.rint(_small(frames)))


def of_flow(record: dict, flow: np.ndarray) -> tuple[float, float]:
    """Measures how far pixels move, and the percentage of displacements that were cut off at the bound. Colour
    pictures tell neither."""
    if flow.shape[-1] == 3:
        return np.nan, np.nan
    # A level beside the ends, because JPEG errs by one.
    ended = ((flow <= 1) | (flow >= 254)).any(-1)
    pixels = np.hypot(*np.moveaxis((flow - np.float32(127.5)) / 127.5, -1, 0)) * record["flow_bound"]
    return float(pixels.mean()), 100 * float(ended.mean())


def of_depth(record: dict, depth: np.ndarray) -> tuple[float, float]:
    """Measures how far away things are, in metres, and the percentage of pixels without a reading."""
    read = depth[depth > 0]
    return float(np.median(read)) * record["depth_scale"] if len(read) else np.nan, 100 * float(
        (depth == 0).mean()
    )


def of_sound(record: dict, samples: np.ndarray) -> tuple[float, float]:
    """Measures the loudness of the whole sound, in decibels, and the percentage of samples that are overdriven."""
    track = np.frombuffer(record["audio"], "<i2").astype(np.float32)
    power = float(np.mean((track / (1 << 15)) ** 2))
    return 10 * float(np.log10(max(power, 1e-12))), 100 * float((np.abs(track) >= (1 << 15) - 1).mean())


def of_boxes(record: dict, layouts: np.ndarray) -> tuple[float]:
    """Counts the boxes of a frame."""
    return (len(record["boxes"]) / record["num_frames"],)


# ---------------------------------------------------------------------------- by field
_FILE = "look at the file that it was made from"
COLOURS = (
    Measure("brightness", "of 255", least=DARK, called="is dark", advice=_FILE),
    Measure("contrast", "of 255", least=FLAT, called="shows one colour all over", advice=_FILE, spoils=True),
    Measure("blank", "%", most=BLANK, called="shows one colour most of the time", advice=_FILE),
    Measure("change", "of 255", least=STILL, called="stands still", advice=_FILE),
)
FLOW = (
    Measure("motion", "px"),
    Measure(
        "at the bound",
        "%",
        most=CUT,
        called="moves further than flow is kept",
        advice="build again with a larger --flow_bound",
    ),
)
DEPTH = (
    Measure("distance", "m"),
    Measure("no reading", "%", most=UNREAD, called="has no reading anywhere", advice=_FILE, spoils=True),
)
SOUND = (
    Measure(
        "loudness", "dB", least=SILENCE, called="is silent", advice="leave its sound out, if it should have some"
    ),
    Measure("overdriven", "%", most=OVERDRIVEN, called="is overdriven", advice=_FILE),
)
BOXES = (Measure("boxes", "a frame"),)
