"""What is cut from a clip, and the table of what networks see of each modality (data/fields.py: of what
records hold). No JAX here: the loader's workers read it."""

from collections.abc import Mapping
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
    """One input of a network, cut from a clip. Streams of one ``geometry`` group share crop and flip; those
    of '' are neither cropped nor mirrored (but by a flip that changes the label, which all streams share).

    Sound and boxes are never cropped. Boxes are mirrored when their group is, so that they show what its
    pictures show; MMD's code leaves them as they are: ''.
    """

    name: str
    modality: str
    sampling: Sampling = Sampling()
    form: str = "frames"
    geometry: str = "main"


class Form(NamedTuple):
    """How a modality is cut on the host, and what a network sees of it.

    The host array of a clip is ``dtype`` [*axes, raw], the network sees float32 [*seen, channels] (``seen``
    is ``axes`` where it is empty); 'frames' and 'side' among the axes stand for the stream's frames and the
    side of its pictures. ``cut`` names the function of data/cut.py that makes the one, ``made`` that of
    prepare.py that makes the other from it.

    Pictures: ``stack`` consecutive frames an anchor; (x / unit - mean) / std, without a ``mean`` of its own
    with the modality's; one raw channel becomes three by repetition. ``negate_x``: a horizontal flip turns
    255 - v into the first of every two stored channels. Sound: ``rate`` samples a second.
    """

    stack: int
    raw: int
    channels: int
    made: str = "pictures"
    cut: str = "pictures"
    axes: tuple = ("frames", "side", "side")
    seen: tuple = ()
    dtype: str = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: float = 255.0
    negate_x: bool = False
    rate: int = 0


class Modality(NamedTuple):
    """``field``: the row of data/fields.py that is read; ``forms``: the ways to cut it.

    ``mean`` and ``std`` are per channel after division by 255 (TSM's, MML's). ``nearest``: pixels
    are chosen where a picture is resized, never averaged. ``coloured``: colours are distorted in
    training, where that is on. ``settings``: what the dataset must tell about how it was built.
    """

    field: str
    forms: dict[str, Form]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    nearest: bool = False
    coloured: bool = False
    settings: tuple[str, ...] = ()


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# 0..255 as they are: DMCL's released code normalises nothing (rescale=False).
AS_IS = {"mean": (0.0,), "std": (1.0,), "unit": 1.0}
# Boxes of a frame, and numbers of a box: x1, y1, x2, y2, category, score, side, state (STLT).
SLOTS, BOX = 14, 8

MODALITIES = {
    "rgb": Modality(
        "rgb",
        {"frames": Form(1, 3, 3), "image255": Form(1, 3, 3, **AS_IS)},
        **IMAGENET,
        coloured=True,
    ),
    # image3: (u, v, 0), as MMD feeds it, but negated by a flip; or the record's colour pictures.
    # image255: DMCL's, whose code forgets to negate.
    "flow": Modality(
        "flow",
        {
            "stack5": Form(5, 10, 10, negate_x=True),
            "frames": Form(1, 2, 2, negate_x=True),
            "image3": Form(1, 3, 3, **IMAGENET, negate_x=True),
            "image255": Form(1, 3, 3, **AS_IS),
        },
        mean=(0.5,),
        std=(0.226,),
    ),
    # Six frames give five differences; they are formed on the device (TSM's RGBDiff).
    "diff": Modality("rgb", {"stack5": Form(6, 18, 15, "differences")}),
    # The loader's 1..255 run from near to far (fields.depth_levels), so [-2, 2] here; 0 is no
    # reading and stays just beyond near. An average of it and of a distance would be a surface
    # that is not there, hence nearest. Three channels are three copies.
    "depth": Modality(
        "depth",
        {
            "frames": Form(1, 1, 1),
            "image3": Form(1, 1, 3, **IMAGENET),
            "image255": Form(1, 1, 3, **AS_IS),
        },
        mean=(0.5,),
        std=(0.25,),
        nearest=True,
        settings=("depth_range",),
    ),
    # 100 windows of 16 ms, evenly over what the clip's frames span, become 40 mel bands each; the gain and
    # the logarithm normalise them (G-Blend's code). A span of 1.006 s has the usual hop of 10 ms.
    "audio": Modality(
        "audio",
        {"logmel": Form(1, 256, 1, "logmel", "sound", axes=(100,), seen=(100, 40), dtype="int16", rate=16_000)},
    ),
    "boxes": Modality(
        "boxes",
        {"layout": Form(1, BOX, BOX, "layouts", "layouts", axes=("frames", SLOTS), dtype="float32")},
    ),
}
# Generated images, which stand in for ImageNet, are of this modality.
STILLS = "rgb"
# The rows of data/fields.py, that is, what a clip may have or lack.
FIELDS = tuple(dict.fromkeys(row.field for row in MODALITIES.values()))


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
    """Consecutive frames read from each anchor (TSM's new_length)."""
    return form_of(stream).stack


def _sizes(axes: tuple, stream: Stream, side: int) -> tuple[int, ...]:
    named = {"frames": stream.sampling.frames, "side": side}
    return tuple(named.get(axis, axis) for axis in axes)


def host_shape(stream: Stream, side: int) -> tuple[int, ...]:
    """The shape of what the loader makes of a clip, ``side`` pixels a side; its dtype is the form's."""
    form = form_of(stream)
    return (*_sizes(form.axes, stream, side), form.raw)


def host_bytes(stream: Stream, side: int) -> int:
    """Bytes of what the loader makes of a clip."""
    return int(np.prod(host_shape(stream, side))) * np.dtype(form_of(stream).dtype).itemsize


def shape(stream: Stream, side: int) -> tuple[int, ...]:
    """The shape of what a network sees of a clip, after `prepare.prepare`: (T, side, side, channels) of
    pictures, (100, 40, 1) of log-mel, (T, 14, 8) of layouts."""
    form = form_of(stream)
    return (*_sizes(form.seen or form.axes, stream, side), form.channels)


def negated(stream: Stream, stored: int) -> bool:
    """Whether a flip negates horizontal motion in frames of ``stored`` channels. Flow that was
    stored as colour pictures has no channel of it, and is only mirrored."""
    return form_of(stream).negate_x and stored % 2 == 0


def in_channels(stream: Stream) -> int:
    """The last axis of what the network sees, after `prepare.prepare`."""
    return form_of(stream).channels


def unfit(stream: Stream, settings: Mapping) -> str:
    """Why a dataset that was built with ``settings`` does not serve a stream; '' where it does."""
    form, lacking = form_of(stream), [n for n in MODALITIES[stream.modality].settings if n not in settings]
    if lacking:
        return f"was built before its {lacking[0]} was kept"
    if form.rate and settings.get("audio_rate", form.rate) != form.rate:
        return f"keeps sound at {settings['audio_rate']} Hz, the form {stream.form!r} reads {form.rate}"
    return ""
