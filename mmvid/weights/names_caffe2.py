"""Names of the blobs of VMZ's Caffe2 networks (R3D, R(2+1)D, CSN, audio ResNets and both together), and their
places in our trees.

A convolution is 'comp_3_conv_2_w', its norm 'comp_3_spatbn_2_s', '_b', '_rm' and '_riv', a projection
'shortcut_projection_3_w', the classifier 'last_out_L400_w'. Blocks ('comp') are counted through all stages: a
stage begins where a shortcut is projected. The first factor of a convolution, or what stands before a separated
one, is its '_middle'. In a network of pictures and sound these names begin with 'v_' and 'a_'; its joint layers
are 'av_fc1_w', 'av_fc2_w' and 'last_out_L400_w'.
"""

import re
from collections.abc import Callable, Mapping

from mmvid.weights.names_resnet import LAYOUT
from mmvid.weights.trees import Layout, Path

_NORM = {"s": ("params", "scale"), "b": ("params", "bias"), "rm": ("stats", "mean"), "riv": ("stats", "var")}
_LINEAR = {"w": ("params", "kernel"), "b": ("params", "bias")}
_COMP = re.compile(r"comp_(\d+)_(conv|spatbn)_(\d+)(_middle)?")
_PROJECTION = re.compile(r"shortcut_projection_(\d+)(_spatbn)?")
# {the prefix of its blobs: our name of the encoder}, in the order in which they are concatenated.
_ENCODERS = {"v_": "pictures", "a_": "sound"}
# An audio network's first blocks, which stand where others have a stem.
_STEM = 3


def among(tensors: Mapping) -> tuple[Layout, Callable[[str, str], Path]]:
    """Returns the layout of a file with these ``tensors``, and the `address` of its blobs: which block of which
    stage one belongs to, only all of them tell."""
    parts = {
        prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for prefix in _ENCODERS
    }
    if not all("conv1_w" in part for part in parts.values()):
        own = _addresses(tensors)
        return LAYOUT, lambda key, head: _found(own, key, head)
    places: dict[str, Path] = {}
    for prefix, part in parts.items():
        places |= {
            prefix + blob: (path[0], _ENCODERS[prefix], *path[1:]) for blob, path in _addresses(part).items()
        }
    rest = {k: v for k, v in tensors.items() if k not in places}
    places |= {blob: (path[0], "joint", *path[1:]) for blob, path in _addresses(rest).items()}
    return _together(places), lambda key, head: _found(places, key, head)


def _together(places: Mapping[str, Path]) -> Layout:
    """The layout of a network of pictures and sound: all have a joint classifier, some those of each as well."""
    told = {path[1] for path in places.values() if path[2] == "classifier"}
    inside = [name for name in (*_ENCODERS.values(), "joint") if name in told]
    return Layout(
        first_convolutions=tuple((name, "conv1") for name in _ENCODERS.values()),
        classifiers=tuple((name, "classifier") for name in inside),
        encoders={name: (name,) for name in _ENCODERS.values()},
    )


def _found(places: Mapping[str, Path], key: str, head: str) -> Path:
    """Returns the place of a blob, with the classifier as ``head``'s. Raises ValueError for an unknown one."""
    if key not in places:
        raise ValueError(f"{key!r} is no blob of a Caffe2 network of VMZ's")
    return tuple(head if name is None else name for name in places[key])


def _addresses(tensors: Mapping) -> dict[str, Path]:
    """{blob: its place} of one network's blobs that are known; None stands for the head's name."""
    blobs = {key: key.rpartition("_")[::2] for key in tensors}
    layers = {key: _layer(name, {n for n, _ in blobs.values()}, tensors) for key, (name, _) in blobs.items()}
    found = {}
    for key, (name, leaf) in blobs.items():
        known = _NORM if "spatbn" in name else _LINEAR
        if layers[key] and leaf in known:
            collection, ours = known[leaf]
            found[key] = (collection, *layers[key], ours)
    return found


def _layer(name: str, names: set[str], tensors: Mapping) -> tuple:
    """The path of the layer that a blob without its leaf belongs to; () for one of nothing here."""
    if re.fullmatch(r"last_out_L\d+", name):
        return "classifier", None
    if match := re.fullmatch(r"av_(fc[12])", name):
        return (match[1],)
    if match := re.fullmatch(r"conv1(_middle)?(_spatbn_relu)?", name):
        # In two factors the spatial one is 'middle', and it comes first.
        second = "conv1_middle" in names and not match[1]
        return (("bn" if match[2] else "conv") + ("2" if second else "1"),)
    if match := _PROJECTION.fullmatch(name):
        return _block(int(match[1]), names, tensors), "downsample_bn" if match[2] else "downsample_conv"
    if match := _COMP.fullmatch(name):
        return _block(int(match[1]), names, tensors), _within_block(match, names, tensors)
    return ()


def _block(comp: int, names: set[str], tensors: Mapping) -> str:
    """Our name of the block that is counted as ``comp``."""
    first = _STEM if "conv1_b" in tensors else 0  # audio's first convolution alone has a bias
    if comp < first:
        return f"stem_{comp}"
    projected = {int(match[1]) for match in map(_PROJECTION.fullmatch, names) if match}
    starts = sorted({first} | {i for i in projected if i > first})
    stage = sum(start <= comp for start in starts)
    return f"layer{stage}_{comp - starts[stage - 1]}"


def _within_block(match: re.Match, names: set[str], tensors: Mapping) -> str:
    """Our name of the layer within its block."""
    comp, kind, number, middle = match.groups()
    # A reduced CSN's counts go on by two where a convolution is separated: 1, 3, 4.
    numbers = sorted({int(m[3]) for m in map(_COMP.fullmatch, names) if m and m[1] == comp and m[2] == "conv"})
    own = numbers.index(int(number)) + 1 if int(number) in numbers else 0
    layer = ("conv" if kind == "conv" else "bn") + str(own)
    blob = f"comp_{comp}_conv_{number}_middle"
    if blob not in names:
        return layer
    # A middle one of 1x1x1 mixes channels for a preserved CSN; of 1x3x3 it is a factor.
    pointwise = all(size == 1 for size in tensors[f"{blob}_w"].shape[2:])
    if middle:
        return f"{layer}_{'point' if pointwise else 'spatial'}"
    return layer if pointwise or kind == "spatbn" else f"{layer}_temporal"
