"""What is cut from a clip, and the one table that knows modalities by name."""

from typing import NamedTuple

import numpy as np


class Head(NamedTuple):
    """A label space: ``kind`` 'single' (softmax) or 'multi' (one sigmoid a class)."""

    classes: int
    kind: str = "single"
    names: tuple[str, ...] = ()


SAMPLINGS = ("uniform", "dense", "mixed")


class Sampling(NamedTuple):
    """Which frames a stream reads: ``frames`` anchors, uniform, dense or half of each.

    ``dense_length`` is the span in frames that a dense clip covers (TSM's D).
    """

    kind: str = "uniform"
    frames: int = 8
    dense_length: int = 32


class Stream(NamedTuple):
    """One input of a network, cut from a clip. Streams of one ``geometry`` share crop and flip."""

    name: str
    modality: str
    sampling: Sampling = Sampling()
    form: str = "frames"
    geometry: str = "main"


class Form(NamedTuple):
    """How a modality is cut: ``stack`` consecutive fields an anchor, ``raw`` host channels."""

    stack: int
    raw: int
    channels: int
    difference: bool = False


class Modality(NamedTuple):
    """``field`` of the record read, ``shorter`` fields less than frames, normalisation, flips.

    ``mean`` and ``std`` are per channel after division by 255 (TSM's, MML's); ``negate_x`` says
    that a horizontal flip turns 255 - v into the first of every two channels.
    """

    field: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    forms: dict[str, Form]
    shorter: int = 0
    negate_x: bool = False


MODALITIES = {
    "rgb": Modality(
        "rgb",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        {"frames": Form(1, 3, 3)},
    ),
    "flow": Modality(
        "flow",
        (0.5,),
        (0.226,),
        {"stack5": Form(5, 10, 10), "frames": Form(1, 2, 2)},
        shorter=1,
        negate_x=True,
    ),
    # Six frames give five differences; they are formed on the device (TSM's RGBDiff).
    "diff": Modality("rgb", (0.0,), (1.0,), {"stack5": Form(6, 18, 15, difference=True)}),
}


def form_of(stream: Stream) -> Form:
    """The cut of a stream. Raises ValueError where the modality has no such form."""
    if stream.modality not in MODALITIES:
        raise ValueError(
            f"stream {stream.name!r} names the modality {stream.modality!r}; "
            f"known are {sorted(MODALITIES)}"
        )
    forms = MODALITIES[stream.modality].forms
    if stream.form not in forms:
        raise ValueError(
            f"stream {stream.name!r}: modality {stream.modality!r} has no form {stream.form!r}; "
            f"choose one of {sorted(forms)}"
        )
    return forms[stream.form]


def stack_length(stream: Stream) -> int:
    """Consecutive fields read from each anchor (TSM's new_length)."""
    return form_of(stream).stack


def raw_channels(stream: Stream) -> int:
    """Channels of the uint8 array that the loader makes."""
    return form_of(stream).raw


def in_channels(stream: Stream) -> int:
    """Channels that the network sees, after ``prepare``."""
    return form_of(stream).channels


def length(stream: Stream, num_frames: int) -> int:
    """Fields of this stream's modality in a clip of ``num_frames`` (flow has one less)."""
    return max(num_frames - MODALITIES[stream.modality].shorter, 0)


def prepare(stream: Stream, x):
    """uint8 [..., T, H, W, raw] -> normalised float32 [..., T, H, W, channels].

    Runs inside the jitted step (``x`` a JAX array) and on NumPy arrays alike; this file does not
    import JAX, so that the loader's worker processes start at once. Differences are
    f[t+1] - f[t] of images in [0, 1], concatenated time-major (TSM); the others are
    (x / 255 - mean) / std.
    """
    form, modality = form_of(stream), MODALITIES[stream.modality]
    x = x.astype(np.float32) / np.float32(255)
    if form.difference:
        colours = form.raw // form.stack
        return x[..., colours:] - x[..., :-colours]
    repeats = form.channels // len(modality.mean)
    shape = (1,) * (x.ndim - 1) + (form.channels,)
    mean = np.tile(np.asarray(modality.mean, np.float32), repeats).reshape(shape)
    std = np.tile(np.asarray(modality.std, np.float32), repeats).reshape(shape)
    return (x - mean) / std
