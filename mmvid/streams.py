"""Describes what is cut from a clip, and tabulates what networks see of each modality.

The table of what records hold of each is in data/fields.py. This module imports no JAX, because the loader's
worker processes import it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Head(NamedTuple):
    """A label space of ``classes`` classes: ``kind`` 'single' (softmax) or 'multi' (one sigmoid a class)."""

    classes: int
    kind: str = "single"
    names: tuple[str, ...] = ()

    def named(self, index: int) -> str:
        """Returns the name of a class, its number where it has none."""
        return self.names[index] if index < len(self.names) else str(index)


SAMPLINGS = ("uniform", "dense", "mixed", "segments", "ranges", "strided", "clip")


class Sampling(NamedTuple):
    """Says which frames of a clip a stream reads: ``frames`` anchors, placed as ``kind`` says.

    'uniform' takes one from each of as many equal parts of the clip; 'dense' takes them at a fixed stride
    over ``dense_length`` consecutive frames (TSM's D); 'mixed' throws a coin between the two for each
    training clip (MML). 'segments' takes one from each part, too, and the same ones for every stream (DMCL).

    'ranges' and 'strided' are those of multimodal distillation (MMD), the same ones for every stream as well:
    'ranges' takes one from each of as many ranges between the first and the last frame, which share their ends
    (its FRAME_UNIFORM); 'strided' takes them at a fixed stride over ``dense_length`` frames, and repeats the
    last one that lies in the clip (its 32 frames at stride 2 of EPIC-Kitchens: frames=32, dense_length=64).

    'clip' is CMPL's: a fixed stride over ``dense_length`` frames, from one start for all streams, so that streams
    of other ``frames`` see the same stretch at other speeds (8, 16 or 32 of 64). In training, a stream with an
    ``offset`` is displaced by up to so many seconds, either way. The last frame of a shorter clip repeats.
    """

    kind: str = "uniform"
    frames: int = 8
    dense_length: int = 32
    offset: float = 0.0


# The protocol whose clips are those of all eight of MML's table 10, the single dense one, two dense and two
# uniform ones, and {protocol: which of them it takes}. One uniform clip is the first of two, one dense is neither.
ALL_OF_TABLE_10 = "T10"
OF_TABLE_10 = {
    "D0U1": (3,), "D0U2": (3, 4), "D1U0": (0,), "D2U0": (1, 2), "D1U1": (0, 3), "D2U1": (1, 2, 3),
    "D1U2": (0, 3, 4), "D2U2": (1, 2, 3, 4),
}  # fmt: skip


class Views(NamedTuple):
    """Says how the test views of a clip are cut: into clips by ``protocol`` in time, each of them into ``crops``
    in space. The rows of both are in `sampling.test_indices` and `augment.test_windows`.

    ``variant`` is the one of 'DkUm'. ``resize`` is the short side in pixels that a clip is thought of as resized
    to before a crop; 0 stands for 256/224 of the crop's side (MML's code).
    """

    protocol: str = "D0U1"
    variant: str = "code"
    crops: str = "centre"
    resize: int = 0


class Stream(NamedTuple):
    """One input of a network, cut from a clip.

    Streams of one ``geometry`` group share their crop and their flip. Streams of the group '' are not cropped
    and not mirrored; the exception is a flip that changes the label, which all streams share.

    Sound and boxes are never cropped. Boxes are mirrored when their group is, so that they show what its
    pictures show; MMD's code never mirrors them, which the group '' reproduces. Drawn as pictures (the form
    'outlines') they are cut no more than boxes are.
    """

    name: str
    modality: str
    sampling: Sampling = Sampling()
    form: str = "frames"
    geometry: str = "main"


# The axes of pictures.
PICTURES = ("frames", "side", "side")


class Form(NamedTuple):
    """How a modality is cut on the host, and what a network sees of it.

    The loader makes of a clip an array ``dtype`` [*axes, raw]; the network sees float32 [*seen, channels], where
    an empty ``seen`` means the same axes. Among the axes, 'frames' stands for the stream's number of frames and
    'side' for the side of its pictures in pixels. ``cut`` names the function of data/cut.py that makes the
    loader's array, ``made`` the function of prepare.py that turns it into what the network sees.

    Pictures: each anchor gives ``stack`` consecutive frames. They are normalised as (x / unit - mean) / std; a
    form without a ``mean`` takes the modality's mean and std. One raw channel is repeated to make three.
    With ``negate_x``, a horizontal flip replaces the value v in the first of every two stored channels by
    255 - v. Sound: the form reads ``rate`` samples a second, ``reach`` seconds of them around each frame where it
    is made frame by frame; ``silence`` is what the network sees where there is none.
    """

    stack: int
    raw: int
    channels: int
    made: str = "pictures"
    cut: str = "pictures"
    axes: tuple = PICTURES
    seen: tuple = ()
    dtype: str = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: float = 255.0
    negate_x: bool = False
    rate: int = 0
    reach: float = 0.0
    silence: float = 0.0


class Strong(NamedTuple):
    """What a strong view (randaugment.py) makes of a modality's pictures.

    With ``tones`` they are in colour, and the whole pool of operations is for them, else those that move alone.
    What lies outside of a moved picture becomes ``fill``, the square that is cut out ``cut``. With ``vectors``
    channels are motion, two by two, which turns as the picture does.
    """

    tones: bool
    fill: int
    cut: int
    vectors: bool = False


class Modality(NamedTuple):
    """A modality: ``field`` is the row of data/fields.py that it reads, ``forms`` the ways to cut it.

    ``mean`` and ``std`` are per channel, after division by 255 (TSM's and MML's numbers). With ``nearest``,
    resizing picks pixels and never averages them. With ``coloured``, the colour distortion of training applies,
    where a run switches it on. ``settings`` names the build settings that a dataset must have kept. ``strong`` is
    what a strong view does, None where it does nothing.
    """

    field: str
    forms: dict[str, Form]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    nearest: bool = False
    coloured: bool = False
    settings: tuple[str, ...] = ()
    strong: Strong | None = None


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VMZ = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
SLOWFAST = {"mean": (0.45,), "std": (0.225,)}
# 0..255 as they are: DMCL's released code normalises nothing (rescale=False).
AS_IS = {"mean": (0.0,), "std": (1.0,), "unit": 1.0}
# Pictures of the sound around each frame, normalised as MMD's code does.
AROUND = {
    **{"axes": ("frames", "side"), "seen": ("frames", "side", "side"), "dtype": "int16", "rate": 16_000},
    **{"reach": 1.116, "mean": (-28.1125,), "std": (16.5627,), "silence": (-100 + 28.1125) / 16.5627},
}
# The middle 1.279 s as 256 spectra of 256 frequencies (TBN, for EPIC-Kitchens); silence is ln(1e-6).
CENTRED = dict(axes=(256,), seen=(256, 256), dtype="int16", rate=24_000, reach=1.279, silence=-13.815511)
# [-1, 1]: Hara's networks.
HALF = {"mean": (0.5,), "std": (0.5,)}
# Boxes of a frame, and numbers of a box: x1, y1, x2, y2, category, score, side, state (STLT).
SLOTS, BOX = 14, 8
# Categories of boxes; numbers of sides and states, which count from 1, as 0 is unknown. data_prep/README.md.
OBJECT, HAND = 1, 2
SIDES, STATES = 2, 5

MODALITIES = {
    "rgb": Modality(
        "rgb",
        {
            **{"frames": Form(1, 3, 3), "image255": Form(1, 3, 3, **AS_IS), "image05": Form(1, 3, 3, **HALF)},
            "vmz": Form(1, 3, 3, **VMZ),
            "slowfast": Form(1, 3, 3, **SLOWFAST),
        },
        **IMAGENET,
        coloured=True,
        # Black and grey, as in FixMatch's code.
        strong=Strong(True, fill=0, cut=127),
    ),
    # image3: (u, v, 0), as MMD feeds it, but negated by a flip; or the record's colour pictures.
    # image255: DMCL's, whose code forgets to negate. image05: image3 as Hara's networks see it.
    "flow": Modality(
        "flow",
        {
            "stack5": Form(5, 10, 10, negate_x=True),
            "frames": Form(1, 2, 2, negate_x=True),
            "image3": Form(1, 3, 3, **IMAGENET, negate_x=True),
            "image255": Form(1, 3, 3, **AS_IS),
            "image05": Form(1, 3, 3, **HALF, negate_x=True),
        },
        mean=(0.5,),
        std=(0.226,),
        # As flow.py stores what does not move.
        strong=Strong(False, fill=128, cut=128, vectors=True),
    ),
    # Six frames give five differences; they are formed on the device (TSM's RGBDiff).
    "diff": Modality("rgb", {"stack5": Form(6, 18, 15, "differences")}, strong=Strong(True, fill=0, cut=127)),
    # The loader's 1..255 run from near to far (stored.depth_levels), so [-2, 2] here; 0 is no
    # reading and stays just beyond near. An average of it and of a distance would be a surface
    # that is not there, hence nearest. Three channels are three copies.
    "depth": Modality(
        "depth",
        {
            "frames": Form(1, 1, 1),
            "image3": Form(1, 1, 3, **IMAGENET),
            "image255": Form(1, 1, 3, **AS_IS),
            "image05": Form(1, 1, 3, **HALF),
        },
        mean=(0.5,),
        std=(0.25,),
        nearest=True,
        settings=("depth_range",),
        # No reading.
        strong=Strong(False, fill=0, cut=0),
    ),
    # logmel: 100 windows of 16 ms, evenly over what the clip's frames span, become 40 mel bands each; the gain and
    # the logarithm normalise them (G-Blend's code). A span of 1.006 s has the usual hop of 10 ms.
    # logmel_windows: a picture of the 1.116 s around each frame (MMD), in windows of 10 ms, of which the host cuts
    # those alone that the picture's columns show. Whatever reads RGB frames can read it.
    "audio": Modality(
        "audio",
        {
            "logmel": Form(1, 256, 1, "logmel", "sound", (100,), (100, 40), "int16", rate=16_000),
            "logmel_windows": Form(1, 160, 3, "decibels", "sound_around", **AROUND),
            "spectrogram": Form(1, 240, 1, "spectrogram", "sound_centred", **CENTRED),
        },
    ),
    "boxes": Modality(
        "boxes",
        # outlines: drawn on white, for networks that read pictures of several modalities (MMD's Omnivore).
        {
            "layout": Form(1, BOX, BOX, "layouts", "layouts", axes=("frames", SLOTS), dtype="float32"),
            "outlines": Form(1, 3, 3, cut="outlines", **IMAGENET),
        },
        strong=Strong(False, fill=255, cut=255),
    ),
}
# Generated images, which stand in for ImageNet, are of this modality.
STILLS = "rgb"
# The rows of data/fields.py, that is, what a clip may have or lack.
FIELDS = tuple(dict.fromkeys(row.field for row in MODALITIES.values()))


def pictured(stream: Stream) -> bool:
    """Tells whether a network sees pictures of a stream, whatever the loader makes them of."""
    form = form_of(stream)
    return (form.seen or form.axes) == PICTURES


def form_of(stream: Stream) -> Form:
    """Returns the form of a stream. Raises ValueError for an unknown modality, or a form that it lacks."""
    if stream.modality not in MODALITIES:
        raise ValueError(
            f"stream {stream.name!r} names the modality {stream.modality!r}; known are {sorted(MODALITIES)}"
        )
    forms = MODALITIES[stream.modality].forms
    if stream.form not in forms:
        raise ValueError(
            f"stream {stream.name!r}: modality {stream.modality!r} has no form {stream.form!r}; "
            f"choose one of {sorted(forms)}"
        )
    return forms[stream.form]


def stack_length(stream: Stream) -> int:
    """Returns how many consecutive frames are read from each anchor (TSM's new_length)."""
    return form_of(stream).stack


def _sizes(axes: tuple, stream: Stream, side: int) -> tuple[int, ...]:
    """Returns the lengths of a form's ``axes``, with the stream's numbers in the place of names."""
    named = {"frames": stream.sampling.frames, "side": side}
    return tuple(named.get(axis, axis) for axis in axes)


def host_shape(stream: Stream, side: int) -> tuple[int, ...]:
    """Returns the shape of the loader's array of a clip whose pictures have ``side`` pixels a side.

    Its dtype is the form's.
    """
    form = form_of(stream)
    return (*_sizes(form.axes, stream, side), form.raw)


def host_bytes(stream: Stream, side: int) -> int:
    """Returns the size in bytes of the loader's array of a clip."""
    return int(np.prod(host_shape(stream, side))) * np.dtype(form_of(stream).dtype).itemsize


def shape(stream: Stream, side: int) -> tuple[int, ...]:
    """Returns the shape of what a network sees of a clip, after `prepare.prepare`: (T, side, side, channels)
    for pictures, (100, 40, 1) for a clip's log-mel, (T, 14, 8) for layouts."""
    form = form_of(stream)
    return (*_sizes(form.seen or form.axes, stream, side), form.channels)


def negated(stream: Stream, stored: int) -> bool:
    """Tells whether a horizontal flip must also negate values in frames that are stored with so many channels.

    It must where channels alternate between horizontal and vertical motion. Flow that was stored as colour
    pictures (three channels) has no channel of horizontal motion, so it is only mirrored.
    """
    return form_of(stream).negate_x and stored % 2 == 0


def in_channels(stream: Stream) -> int:
    """Returns the length of the last axis of what the network sees, after `prepare.prepare`."""
    return form_of(stream).channels


def nearest(count: int, side: int) -> np.ndarray:
    """Returns which of ``count`` rows or columns a picture of ``side`` of them shows: the nearest, int [side].

    As torch.nn.functional.interpolate picks them, down to its arithmetic in float32.
    """
    places = np.floor(np.arange(side, dtype=np.float32) * np.float32(count / side))
    return np.minimum(places.astype(np.int64), count - 1)


def unfit(stream: Stream, settings: Mapping) -> str:
    """Returns why a dataset built with ``settings`` cannot serve a stream, as the end of a sentence about the
    dataset; '' where it can."""
    form, lacking = form_of(stream), [n for n in MODALITIES[stream.modality].settings if n not in settings]
    if lacking:
        return f"was built before its {lacking[0]} was kept"
    if form.rate and settings.get("audio_rate", form.rate) != form.rate:
        return f"keeps sound at {settings['audio_rate']} Hz, the form {stream.form!r} reads {form.rate}"
    return ""
