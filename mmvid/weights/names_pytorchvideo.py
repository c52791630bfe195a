"""Names of PyTorchVideo for I3D, Slow and SlowFast ResNets, told by those of SlowFast's code.

'blocks.0' is the stem and each further number a stage, but for a pooling behind I3D's first one and before
SlowFast's head. Of SlowFast's, pathways are 'multipathway_blocks.0' and '.1', and what leads from the fast to the
slow one is 'multipathway_fusion'. Facts from its models/resnet.py and models/slowfast.py.
"""

import re
from collections.abc import Callable, Mapping

from mmvid.weights import names_slowfast
from mmvid.weights.trees import Layout, Path, Tree

_PATHWAY = r"(?:multipathway_blocks\.(?P<pathway>[01])\.)?"
_STEM = re.compile(rf"blocks\.0\.{_PATHWAY}(?P<layer>conv|norm)\.(?P<leaf>\w+)")
_BLOCK = re.compile(
    rf"blocks\.(?P<number>\d+)\.{_PATHWAY}res_blocks\.(?P<block>\d+)\."
    r"(?:branch1_(?P<skip>conv|norm)|branch2\.(?P<layer>conv|norm)_(?P<which>[abc]))\.(?P<leaf>\w+)"
)
_FUSE = re.compile(
    r"blocks\.(?P<number>\d+)\.multipathway_fusion\.(?P<layer>conv_fast_to_slow|norm)\.(?P<leaf>\w+)"
)
_HEAD = re.compile(r"blocks\.\d+\.proj\.(?P<leaf>\w+)")


def slowfast_key(key: str, stages: Mapping[int, int]) -> str:
    """Rewrites a key as SlowFast's code would call it, with ``stages`` {number of a block: its stage}. Raises
    ValueError for a key that no such network has."""
    key = re.sub(r"^(module\.)?", "", key)
    if own := _HEAD.fullmatch(key):
        return f"head.projection.{own['leaf']}"
    if own := _STEM.fullmatch(key):
        return f"s1.pathway{own['pathway'] or 0}_stem.{'bn' if own['layer'] == 'norm' else 'conv'}.{own['leaf']}"
    found = _FUSE.fullmatch(key) or _BLOCK.fullmatch(key)
    if not found or int(found["number"]) not in stages:
        raise ValueError(f"{key!r} is no tensor of a network of PyTorchVideo's")
    stage, leaf = f"s{stages[int(found['number'])]}", found["leaf"]
    if "block" not in found.groupdict():
        return f"{stage}_fuse.{'bn' if found['layer'] == 'norm' else 'conv_f2s'}.{leaf}"
    norm = "_bn" if "norm" in (found["skip"], found["layer"]) else ""
    layer = "branch1" if found["skip"] else f"branch2.{found['which']}"
    return f"{stage}.pathway{found['pathway'] or 0}_res{found['block']}.{layer}{norm}.{leaf}"


def among(tensors: Mapping) -> tuple[Layout, Callable[[str, str], Path]]:
    """Returns the layout of a file with these ``tensors``, and the `address` of its keys: which numbers are stages
    all keys together tell."""
    found = (_BLOCK.fullmatch(re.sub(r"^(module\.)?", "", key)) for key in tensors)
    numbers = sorted({int(own["number"]) for own in found if own})
    stages = {0: 1} | {number: stage for stage, number in enumerate(numbers, 2)}
    two = any(".multipathway_" in key for key in tensors)

    def address(key: str, head: str) -> Path:
        return names_slowfast.address(slowfast_key(key, stages), head, two=two)

    return names_slowfast.layout_of(two), address


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters."""
    two = names_slowfast.owns(params)
    # I3D's first convolution lasts several frames, Slow's one.
    pooled = not two and params["conv1"]["kernel"].shape[0] > 1
    numbers = {1: 0, 2: 1} | {stage: stage - 1 + pooled for stage in (3, 4, 5)}
    head = numbers[5] + 1 + two

    def key(path: Path) -> str:
        return _key(names_slowfast.torch_key(path), numbers, head, two)

    return key


def _key(told: str, numbers: Mapping[int, int], head: int, two: bool) -> str:
    """Rewrites a key of SlowFast's code; inverts `slowfast_key`."""
    first, *_, leaf = told.split(".")
    if first == "head":
        return f"blocks.{head}.proj.{leaf}"
    number, layer = numbers[int(first[1])], "norm" if "bn." in told else "conv"
    if first.endswith("_fuse"):
        return f"blocks.{number}.multipathway_fusion.{'norm' if layer == 'norm' else 'conv_fast_to_slow'}.{leaf}"
    pathway = f"multipathway_blocks.{re.search(r'pathway(.)', told)[1]}." if two else ""
    if number == 0:
        return f"blocks.0.{pathway}{layer}.{leaf}"
    block, which = re.search(r"_res(\d+)\.(branch1|branch2\.[abc])", told).groups()
    inner = f"branch1_{layer}" if which == "branch1" else f"branch2.{layer}_{which[-1]}"
    return f"blocks.{number}.{pathway}res_blocks.{block}.{inner}.{leaf}"
