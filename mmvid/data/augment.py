"""Crops and flips clips, and describes their augmentation.

There is one draw for each clip and geometry group, in relative coordinates, which is applied to every frame of
every stream of the group (TSM's, MML's and DMCL's code).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmvid.operations import OPERATIONS
from mmvid.streams import Head, Views

# MML's thirteen positions of a crop, in quarters of the free room (x, y).
POSITIONS = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0),
             (1, 1), (3, 1), (1, 3), (3, 3))  # fmt: skip
# Above this ratio of a window's side to the output's, pixels are averaged.
SHRINKS = 4 / 3
CROPS = ("centre", "three", "full_res", "three_full_res", "window")
TRAIN_CROPS = ("multiscale", "window", "resized", "jittered", "centre")
DISTORTIONS = ("dmcl", "jitter")
# DMCL cuts 224 of pictures of 256 x 256, whatever their shape was.
WINDOW, PICTURE = 224, 256
ROOM = (PICTURE - WINDOW) / 2


class Augment(NamedTuple):
    """How clips are augmented in training.

    ``crop`` 'multiscale' (TSM, MML) cuts a window whose sides are ``scales`` of the picture's short side.
    'window' (DMCL) cuts 224/256 of both sides, in the middle or, with probability 1/2, off it by a draw of
    U(-``jitter``, ``jitter``) / 256 of each side. DMCL's paper has ``jitter`` 16; in its code it is effectively
    8, because the operation that cuts (TensorFlow's glimpse) halves an offset. 'resized' (multimodal distillation,
    MMD) resizes the short side to int(side U(low, high)) pixels, where (low, high) = ``scales``, (1.15, 1.43) in
    MMD's code, and cuts a square of ``side`` anywhere; the aspect stays. 'jittered' (VMZ, G-Blend) does so with
    one of ``scales`` as it stands, for instance (256/224, 320/224). 'centre' (CMPL's weak view; CMPL section 3.2)
    draws nothing: it resizes the short side to ``scales[0]`` sides, (256/224,) for instance, and cuts the middle.

    CMPL's standard view is 'resized' with (256/224, 320/224) and ``flip``: 224 anywhere of pictures whose short
    side is 256 to 320. Its strong view is 'centre' and ``device`` ('strong',).

    With ``flip`` a clip is mirrored with probability 1/2; its colours are distorted with probability ``colour``,
    by the ``distortion`` 'dmcl' or 'jitter' (MMD: torchvision's), which are those of data/colours.py.
    ``flip_labels`` are pairs (a, b) of class ids that a flip exchanges (left, right), or (head, a, b) where
    there are several heads. ``device`` names rows of `operations.OPERATIONS`, which the device applies after all
    of this: 'flip' and 'brightness' to pixels, 'time_mask' and 'pitch_mask' (SpecAugment) to log-mel. 'strong'
    is RandAugment with Cutout (FixMatch), drawn once a geometry group: colours are distorted and moved, flow and
    depth are moved alone, sound stays as it is, and so does all that is in no group.
    """

    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: bool = False
    flip_labels: tuple[tuple, ...] = ()
    crop: str = "multiscale"
    jitter: float = 8.0
    colour: float = 0.0
    distortion: str = "dmcl"
    device: tuple[str, ...] = ()


class Geometry(NamedTuple):
    """A window in fractions of a picture's width and height, and whether what it shows is mirrored."""

    x: float
    y: float
    width: float
    height: float
    flip: bool = False


def _multiscale(rng: np.random.Generator, height: int, width: int, size: int, spec: Augment) -> Geometry:
    """Draws TSM's and MML's crop: its sides have equal or neighbouring scales, and it has thirteen positions.

    Sides within 3 pixels of ``size`` become ``size``, as in their code.
    """
    base = min(height, width)
    sides = [int(base * s) for s in spec.scales]
    sides = [size if abs(side - size) < 3 and size <= base else side for side in sides]
    # Scales that are further apart would distort the picture by more.
    pairs = [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_width, crop_height = pairs[rng.integers(len(pairs))]
    across, down = POSITIONS[rng.integers(len(POSITIONS))]
    x = across * ((width - crop_width) // 4)
    y = down * ((height - crop_height) // 4)
    return Geometry(x / width, y / height, crop_width / width, crop_height / height)


def _share_of_both(x: float = 0.0, y: float = 0.0) -> Geometry:
    """Returns DMCL's window, off the middle by ``x`` and ``y`` 256ths of the sides."""
    side = WINDOW / PICTURE
    return Geometry((ROOM + x) / PICTURE, (ROOM + y) / PICTURE, side, side)


def _resized(rng: np.random.Generator, height: int, width: int, size: int, spec: Augment) -> Geometry:
    """Draws MMD's crop: a square of ``size`` anywhere in the picture, whose short side is resized by a draw."""
    return _square(rng, height, width, size, int(size * rng.uniform(*spec.scales)))


def _jittered(rng: np.random.Generator, height: int, width: int, size: int, spec: Augment) -> Geometry:
    """Draws VMZ's crop: the same, where the short side is one of a few."""
    return _square(rng, height, width, size, round(size * spec.scales[rng.integers(len(spec.scales))]))


def _centre(rng: np.random.Generator, height: int, width: int, size: int, spec: Augment) -> Geometry:
    """Returns the square in the middle, of 1/``scales[0]`` of the short side. It draws nothing."""
    return _window(height, width, 1 / spec.scales[0], 0.5)


def _square(rng: np.random.Generator, height: int, width: int, size: int, short: int) -> Geometry:
    """Draws a square of ``size`` pixels anywhere in a picture whose short side is resized to ``short``."""
    # As torchvision resizes: the long side is truncated, too.
    sides = [short * side // min(height, width) for side in (width, height)]
    x, y = rng.integers(0, np.array(sides) - size + 1)
    return Geometry(x / sides[0], y / sides[1], size / sides[0], size / sides[1])


_DRAWN = {"multiscale": _multiscale, "resized": _resized, "jittered": _jittered, "centre": _centre}


def draw(
    rng: np.random.Generator,
    height: int,
    width: int,
    size: int,
    spec: Augment,
    *,
    flip: bool | None = None,
) -> Geometry:
    """Draws a window of pictures of ``height`` x ``width`` pixels, and whether it is mirrored.

    ``flip`` is a coin that was thrown already, for what must be mirrored together; None throws it here.
    """
    if spec.crop == "window":
        moved = rng.random() < 0.5
        window = _share_of_both(*rng.uniform(-spec.jitter, spec.jitter, 2)) if moved else _share_of_both()
    else:
        window = _DRAWN[spec.crop](rng, height, width, size, spec)
    if flip is None:
        flip = bool(spec.flip and rng.random() < 0.5)
    return window._replace(flip=flip)


def _window(height: int, width: int, share: float, across: float) -> Geometry:
    """Returns a square window with ``share`` of the short side; ``across`` from 0 to 1 places it along the long
    side, and across the short one it lies in the middle."""
    side = share * min(height, width)
    along_x = width >= height
    x = (width - side) * (across if along_x else 0.5)
    y = (height - side) * (0.5 if along_x else across)
    return Geometry(x / width, y / height, side / width, side / height)


def test_windows(height: int, width: int, size: int, views: Views) -> tuple[list[Geometry], int]:
    """Returns (windows, side of the output in pixels) of the crops and the resize of ``views``.

    The short side is thought of as resized to ``resize`` pixels. 'centre' then cuts a square of ``size`` in the
    middle, 'three' cuts three along the long side: one at each end and one in the middle. 'full_res' and
    'three_full_res' cut squares of ``resize`` instead (MML's test). 'window' cuts 224/256 of both sides,
    whatever ``resize`` is (DMCL's). Raises ValueError for an unknown protocol, or a ``resize`` below ``size``.
    """
    # As MML's code does: a crop of 224 from a short side of 256.
    crops, resize = views.crops, views.resize or size * PICTURE // WINDOW
    if crops not in CROPS:
        raise ValueError(f"crops={crops!r}: choose one of {CROPS}")
    if resize < size:
        raise ValueError(f"resize={resize} is smaller than the crop, size={size}")
    if crops == "window":
        return [_share_of_both()], size
    side = resize if crops.endswith("full_res") else size
    places = (0.0, 0.5, 1.0) if crops.startswith("three") else (0.5,)
    return [_window(height, width, side / resize, place) for place in places], side


# Not a pytest test, whatever its name begins with.
test_windows.__test__ = False


def pixels(geometry: Geometry, height: int, width: int) -> tuple[slice, slice]:
    """Returns the (rows, columns) that a window shows of pictures of ``height`` x ``width`` pixels."""
    w, h = max(round(geometry.width * width), 1), max(round(geometry.height * height), 1)
    x, y = min(round(geometry.x * width), width - w), min(round(geometry.y * height), height - h)
    return slice(y, y + h), slice(x, x + w)


def resizing(height: int, width: int, size: int, *, nearest: bool) -> str:
    """Returns OpenCV's name of the way in which ``height`` x ``width`` pixels become ``size`` a side."""
    if nearest:
        return "INTER_NEAREST_EXACT"
    # Bilinear alone aliases where the picture shrinks by much; averaging costs six times more.
    return "INTER_AREA" if min(height, width) > SHRINKS * size else "INTER_LINEAR"


def nearest(count: int, size: int) -> np.ndarray:
    """Returns which of ``count`` rows or columns each of ``size`` shows where pixels are picked: int [size]."""
    # OpenCV itself is asked: of two that are equally near, its rounding decides.
    places = np.arange(count, dtype=np.uint16).reshape(-1, 1)
    return cv2.resize(places, (1, size), interpolation=cv2.INTER_NEAREST_EXACT).ravel().astype(int)


def apply(
    frames: np.ndarray, geometry: Geometry, size: int, *, negate_x: bool, nearest: bool = False
) -> np.ndarray:
    """Cuts uint8 [T, H, W, C] to a window, resizes it and mirrors it: uint8 [T, size, size, C].

    With ``negate_x`` the first of every two channels is horizontal motion, stored around 127.5, so that a flip
    turns v into 255 - v (as in TSM; MMD's and DMCL's code forgets it). With ``nearest`` pixels are picked, not
    averaged.
    """
    channels = frames.shape[-1]
    rows, columns = pixels(geometry, *frames.shape[1:3])
    cut = frames[:, rows, columns]
    if cut.shape[1:3] != (size, size):
        how = getattr(cv2, resizing(*cut.shape[1:3], size, nearest=nearest))
        out = np.empty((len(frames), size, size, channels), frames.dtype)
        for source, target in zip(cut, out):
            # OpenCV drops a last axis of length 1, which the reshape puts back.
            picture = cv2.resize(source, (size, size), interpolation=how)
            target[:] = picture.reshape(size, size, channels)
        cut = out
    if geometry.flip:
        cut = cut[:, :, ::-1]
        if negate_x:
            # Without a resize this is still a view of the decoded frames, which other windows read, too.
            cut = cut.copy()
            cut[..., 0::2] = 255 - cut[..., 0::2]
    return np.ascontiguousarray(cut)


# ---------------------------------------------------------------------------- checks, labels
def _check_numbers(spec: Augment) -> None:
    if spec.crop not in TRAIN_CROPS:
        raise ValueError(f"augment.crop={spec.crop!r}: choose one of {TRAIN_CROPS}")
    if spec.crop == "resized":
        if len(spec.scales) != 2 or not 1 <= spec.scales[0] <= spec.scales[1] < float("inf"):
            raise ValueError(
                f"augment.scales={spec.scales}: the crop 'resized' takes (low, high), the least and the greatest "
                "short side in sides of the crop, for instance (1.15, 1.43)"
            )
    elif spec.crop == "jittered":
        if not spec.scales or not all(1 <= s < float("inf") for s in spec.scales):
            raise ValueError(
                f"augment.scales={spec.scales}: the crop 'jittered' takes one or more short sides in sides of the "
                "crop, for instance (256 / 224, 320 / 224)"
            )
    elif spec.crop == "centre":
        if len(spec.scales) != 1 or not 1 <= spec.scales[0] < float("inf"):
            raise ValueError(
                f"augment.scales={spec.scales}: the crop 'centre' takes one short side in sides of the crop, for "
                "instance (256 / 224,)"
            )
    elif not spec.scales or not all(0 < s <= 1 for s in spec.scales):
        raise ValueError(f"augment.scales={spec.scales}: give one or more numbers in (0, 1]")
    if spec.distortion not in DISTORTIONS:
        raise ValueError(f"augment.distortion={spec.distortion!r}: choose one of {DISTORTIONS}")
    if not 0 <= spec.jitter <= ROOM:
        raise ValueError(f"augment.jitter={spec.jitter}: a window of {WINDOW} in {PICTURE} moves by 0 to {ROOM:g}")
    if not 0 <= spec.colour <= 1:
        raise ValueError(f"augment.colour={spec.colour} is a probability: give a number in [0, 1]")


def _check_device(spec: Augment) -> None:
    if unknown := [name for name in spec.device if name not in OPERATIONS]:
        raise ValueError(f"augment.device names {unknown[0]!r}: choose from {sorted(OPERATIONS)}")
    if "flip" in spec.device and spec.flip_labels:
        raise ValueError(
            "augment.device: a flip on the device cannot exchange labels; write flip=True in its place, or "
            "flip_labels=()"
        )


def check(spec: Augment, heads: Mapping[str, Head]) -> None:
    """Raises ValueError for numbers that are out of range, for unknown crops and operations, and for a pair of
    ``flip_labels`` whose head is unclear or unknown, or whose numbers are no class ids of that head."""
    _check_numbers(spec)
    _check_device(spec)
    names = sorted(heads)
    for pair in spec.flip_labels:
        # A pair without a head is of the only one.
        whole = (names[0], *pair) if len(pair) == 2 and len(names) == 1 else pair
        if len(whole) != 3 or whole[0] not in names:
            raise ValueError(
                f"augment.flip_labels has {pair!r}: write (a, b) where there is one head, "
                f"(head, a, b) where there are several; the heads are {names}"
            )
        classes = heads[whole[0]].classes
        if not all(isinstance(i, int) and 0 <= i < classes for i in whole[1:]):
            raise ValueError(
                f"augment.flip_labels has {pair!r}: {whole[0]!r} has the class ids 0 to "
                f"{classes - 1}, in the order of names in the dataset's metadata.json"
            )


def head_pairs(pairs: Sequence[tuple], head: str, heads: int = 1) -> list[tuple[int, int]]:
    """Returns the pairs (a, b) that are of ``head``; pairs without a name are, where there is one head alone."""
    return [tuple(p[-2:]) for p in pairs if (p[0] == head if len(p) == 3 else heads == 1)]


def flip_label(label: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns a label (a class id, or multi-hot [K]) after a flip: the classes of each pair change places."""
    for a, b in pairs:
        if label.ndim:
            # A copy: the record keeps its own label.
            label = label.copy()
            label[[a, b]] = label[[b, a]]
        elif int(label) in (a, b):
            return np.asarray(b if int(label) == a else a, label.dtype)
    return label
