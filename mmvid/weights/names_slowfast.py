"""Names of SlowFast's code (PySlowFast) for I3D, Slow and SlowFast ResNets, and their places in our trees.

A stage is 's2' to 's5', its blocks 'pathway0_res0' and on; their convolutions are 'branch2.a', 'b' and 'c' with
norms 'a_bn' and so on, a projection is 'branch1'. The stem is 's1.pathway0_stem', the classifier
'head.projection'.
SlowFast's fast pathway is 'pathway1', and what leads from it to the slow one 's1_fuse.conv_f2s' to 's4_fuse'.
"""

import re
from collections.abc import Callable

from mmvid.weights import names_resnet
from mmvid.weights.names_resnet import LAYOUT as LAYOUT
from mmvid.weights.trees import Path, Tree

_BLOCK = re.compile(r"s([2-5])\.pathway0_res(\d+)\.(branch1|branch2\.[abc])(_bn)?\.(\w+)")
_STEM = re.compile(r"s1\.pathway0_stem\.(conv|bn)\.(\w+)")
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
    """Tells if a tree of parameters is written by these names: of no network, as torchvision's hold the same."""
    return False


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters."""
    return torch_key


def address(key: str, head: str) -> Path:
    """Returns the place of a published key in our trees: ('params' or 'stats', *path).

    The classifier becomes ``head``'s. Raises ValueError for a key that no such network has.
    """
    plain = torchvision_key(key)
    if plain == key:
        raise ValueError(f"{key!r} is no tensor of a network of SlowFast's code")
    return names_resnet.address(plain, head)


def torch_key(path: Path) -> str:
    """Returns SlowFast's key of a path in the trees of a network of one pathway; inverts `address`."""
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
