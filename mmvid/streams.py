"""What is cut from a clip, and the one table that knows modalities by name."""

from typing import NamedTuple

import numpy as np


class Head(NamedTuple):
    """A label space: ``kind`` 'single' (softmax) or 'multi' (one sigmoid a class)."""

    classes: int
    kind: str = "single"
    names: tuple[str, ...] = ()


SAMPLINGS = ("uniform", "dense", "mixed", "segments")


class Sampling(NamedTuple):
    """Which frames a stream reads: ``frames`` anchors, uniform, dense or half of each (MML), or
    'segments', the same ones for every stream (DMCL).

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
    """How a modality is cut: ``stack`` consecutive fields an anchor, ``raw`` host channels.

    The network sees (x / unit - mean) / std in ``channels``; without a ``mean`` of its own, with
    the modality's. One raw channel becomes three by repetition. ``negate_x``: a horizontal flip
    turns 255 - v into the first of every two stored channels.
    """

    stack: int
    raw: int
    channels: int
    difference: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: float = 255.0
    negate_x: bool = False


class Modality(NamedTuple):
    """``field`` of the record read, ``shorter`` fields less than frames, normalisation.

    ``mean`` and ``std`` are per channel after division by 255 (TSM's, MML's). ``nearest``: pixels
    are chosen where a picture is resized, never averaged. ``coloured``: colours are distorted in
    training, where that is on. ``ranged``: the dataset must say which distances it spans.
    """

    field: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    forms: dict[str, Form]
    shorter: int = 0
    nearest: bool = False
    coloured: bool = False
    ranged: bool = False


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# 0..255 as they are: DMCL's released code normalises nothing (rescale=False).
AS_IS = {"mean": (0.0,), "std": (1.0,), "unit": 1.0}

MODALITIES = {
    "rgb": Modality(
        "rgb",
        **IMAGENET,
        forms={"frames": Form(1, 3, 3), "image255": Form(1, 3, 3, **AS_IS)},
        coloured=True,
    ),
    # image3: (u, v, 0), as MMD feeds it, but negated by a flip; or the record's colour pictures.
    # image255: DMCL's, whose code forgets to negate.
    "flow": Modality(
        "flow",
        (0.5,),
        (0.226,),
        {
            "stack5": Form(5, 10, 10, negate_x=True),
            "frames": Form(1, 2, 2, negate_x=True),
            "image3": Form(1, 3, 3, **IMAGENET, negate_x=True),
            "image255": Form(1, 3, 3, **AS_IS),
        },
        shorter=1,
    ),
    # Six frames give five differences; they are formed on the device (TSM's RGBDiff).
    "diff": Modality("rgb", (0.0,), (1.0,), {"stack5": Form(6, 18, 15, difference=True)}),
    # The loader's 1..255 run from near to far (decode.depth_levels), so [-2, 2] here; 0 is no
    # reading and stays just beyond near. An average of it and of a distance would be a surface
    # that is not there, hence nearest. Three channels are three copies.
    "depth": Modality(
        "depth",
        (0.5,),
        (0.25,),
        {
            "frames": Form(1, 1, 1),
            "image3": Form(1, 1, 3, **IMAGENET),
            "image255": Form(1, 1, 3, **AS_IS),
        },
        nearest=True,
        ranged=True,
    ),
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


def negated(stream: Stream, stored: int) -> bool:
    """Whether a flip negates horizontal motion in frames of ``stored`` channels. Flow that was
    stored as colour pictures has no channel of it, and is only mirrored."""
    return form_of(stream).negate_x and stored % 2 == 0


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
    (x / unit - mean) / std of the form, where one raw channel is repeated.
    """
    form, modality = form_of(stream), MODALITIES[stream.modality]
    x = x.astype(np.float32) / np.float32(form.unit)
    if form.difference:
        colours = form.raw // form.stack
        return x[..., colours:] - x[..., :-colours]
    mean, std = (form.mean, form.std) if form.mean else (modality.mean, modality.std)
    repeats = form.channels // len(mean)
    shape = (1,) * (x.ndim - 1) + (form.channels,)
    mean = np.tile(np.asarray(mean, np.float32), repeats).reshape(shape)
    std = np.tile(np.asarray(std, np.float32), repeats).reshape(shape)
    return (x - mean) / std
