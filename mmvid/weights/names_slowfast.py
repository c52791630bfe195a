"""Names of SlowFast's code (PySlowFast) for I3D, Slow and SlowFast ResNets, and their places in our trees.

A stage is 's2' to 's5', its blocks 'pathway0_res0' and on; their convolutions are 'branch2.a', 'b' and 'c' with
norms 'a_bn' and so on, a projection is 'branch1'. The stem is 's1.pathway0_stem', the classifier
'head.projection'.
SlowFast's fast pathway is 'pathway1', and what leads from it to the slow one 's1_fuse.conv_f2s' to 's4_fuse'.
"""

import re
from collections.abc import Callable, Mapping

from mmvid.weights import names_resnet
from mmvid.weights.names_resnet import LAYOUT
from mmvid.weights.trees import Layout, Path, Tree

_BLOCK = re.compile(r"s([2-5])\.pathway0_res(\d+)\.(branch1|branch2\.[abc])(_bn)?\.(\w+)")
_STEM = re.compile(r"s1\.pathway0_stem\.(conv|bn)\.(\w+)")
_FUSE = re.compile(r"(?:module\.)?s([1-4])_fuse\.(conv_f2s|bn)\.(\w+)")
_PATHWAYS = {"pathway0": "slow_", "pathway1": "fast_"}
_TWO = Layout(first_convolutions=(("slow_conv1",), ("fast_conv1",)), classifiers=(("classifier",),))
_CONVOLUTIONS = {"branch2.a": "1", "branch2.b": "2", "branch2.c": "3"}


def torchvision_key(key: str) -> str:
    """Rewrites a key of a network of one pathway into what torchvision's code would call it; returns others
    unchanged."""
    key = re.sub(r"^(module\.)?", "", key)
    if match := _STEM.fullmatch(key):
        return f"{match[1]}1.{match[2]}"
    if not (match := _BLOCK.fullmatch(key)):
        return re.sub(r"^head\.projection\.", "fc.", key)
    stage, block, layer, norm, leaf = match.groups()
    if layer == "branch1":
        return f"layer{int(stage) - 1}.{block}.downsample.{int(bool(norm))}.{leaf}"
    return f"layer{int(stage) - 1}.{block}.{'bn' if norm else 'conv'}{_CONVOLUTIONS[layer]}.{leaf}"


def owns(params: Tree) -> bool:
    """Tells if a tree of parameters is SlowFast's; one of a single pathway has torchvision's names."""
    return "fast_conv1" in params


def layout_of(two: bool) -> Layout:
    """Returns the layout of a network of ``two`` pathways, or of one, whose layers lack the pathway's name."""
    return _TWO if two else LAYOUT


def among(tensors: Mapping) -> tuple[Layout, Callable[[str, str], Path]]:
    """Returns the layout of a file with these ``tensors``, and the `address` of its keys: a network of one pathway
    has layers without the pathway's name."""
    two = any(".pathway1_" in key for key in tensors)
    return layout_of(two), lambda key, head: address(key, head, two=two)


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters."""
    return torch_key


def address(key: str, head: str, *, two: bool = False) -> Path:
    """Returns the place of a published key in our trees: ('params' or 'stats', *path).

    The classifier becomes ``head``'s; ``two`` says whether there are two pathways. Raises ValueError for a key
    that no such network has.
    """
    if two and (match := _FUSE.fullmatch(key)):
        number, layer, leaf = match.groups()
        collection, *_, name = names_resnet.address(f"{'bn' if layer == 'bn' else 'conv'}1.{leaf}", head)
        return collection, f"fuse{number}_{'bn' if layer == 'bn' else 'conv'}", name
    which = next((name for name in _PATHWAYS if f".{name}_" in key), "")
    plain = torchvision_key(key.replace("pathway1", "pathway0") if two else key)
    if plain == key:
        raise ValueError(f"{key!r} is no tensor of a network of SlowFast's code")
    collection, first, *rest = names_resnet.address(plain, head)
    return (collection, _PATHWAYS[which] + first if two and which else first, *rest)


def torch_key(path: Path) -> str:
    """Returns SlowFast's key of a path in our trees; inverts `address`."""
    if match := re.fullmatch(r"fuse(\d)_(conv|bn)", path[0]):
        leaf = names_resnet.LEAVES.get(path[-1], path[-1])
        return f"s{match[1]}_fuse.{'conv_f2s' if match[2] == 'conv' else 'bn'}.{leaf}"
    for pathway, prefix in _PATHWAYS.items():
        if path[0].startswith(prefix):
            inner = torch_key((path[0].removeprefix(prefix), *path[1:]))
            return inner.replace("pathway0", pathway)
    plain = names_resnet.torch_key(path)
    if plain.startswith("fc."):
        return plain.replace("fc.", "head.projection.", 1)
    if match := re.fullmatch(r"(conv|bn)1\.(\w+)", plain):
        return f"s1.pathway0_stem.{match[1]}.{match[2]}"
    stage, block, layer, leaf = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)\.(\w+)", plain).groups()
    norm = "_bn" if layer.startswith("bn") or layer == "downsample.1" else ""
    numbers = {number: name for name, number in _CONVOLUTIONS.items()}
    name = "branch1" if layer.startswith("downsample") else numbers[layer[-1]]
    return f"s{int(stage) + 1}.pathway0_res{block}.{name}{norm}.{leaf}"
