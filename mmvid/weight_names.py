"""What published checkpoints call the tensors of a ResNet, against the places in our trees.

Key names are facts: torchvision and timm write 'layer1.0.conv1.weight' and 'fc.weight'; TSM and
MML 'base_model.layer1.0.conv1.net.weight' where the shift wraps a convolution, and
'new_fc.weight'; either may carry DataParallel's 'module.'.
"""

import re

import numpy as np

Path = tuple[str, ...]

# A batch norm's leaf in torch: our collection and our name. The counter has no place of ours.
_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("stats", "mean"),
    "running_var": ("stats", "var"),
    "num_batches_tracked": ("stats", "count"),
}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_LAYER = re.compile(r"(?:layer(\d+)\.(\d+)\.)?(conv\d|bn\d|downsample\.[01])\.(\w+)")
_DOWNSAMPLE = {"downsample.0": "downsample_conv", "downsample.1": "downsample_bn"}


def torchvision_key(key: str) -> str:
    """The torchvision spelling of a key in any of the known ones; others come back unchanged."""
    key = re.sub(r"^(module\.)?(base_model\.)?", "", key)
    key = re.sub(r"\b(conv\d)\.net\.", r"\1.", key)
    return re.sub(r"^(new_fc|last_linear)\.", "fc.", key)


def address(key: str, head: str) -> Path:
    """('params' or 'stats', *path in our tree) of a torch key; the classifier is ``head``'s.

    A batch norm's counter, which we do not keep, gets the leaf name 'count'. Raises ValueError for
    a key of no ResNet.
    """
    plain = torchvision_key(key)
    if match := re.fullmatch(r"fc\.(weight|bias)", plain):
        return "params", "classifier", head, "kernel" if match[1] == "weight" else "bias"
    if not (match := _LAYER.fullmatch(plain)):
        raise ValueError(f"{key!r} is no tensor of a ResNet")
    stage, block, layer, leaf = match.groups()
    layer = _DOWNSAMPLE.get(layer, layer)
    known = {"weight": ("params", "kernel")} if "conv" in layer else _NORM
    if leaf not in known:
        raise ValueError(f"{key!r} is no tensor of a ResNet")
    collection, name = known[leaf]
    return (collection, *((f"layer{stage}_{block}",) if stage else ()), layer, name)


def torch_key(path: Path) -> str:
    """The torchvision key of a path in our params or stats. Inverse of ``address``."""
    leaf = _LEAVES.get(path[-1], path[-1])
    if path[0] == "classifier":
        return f"fc.{leaf}"
    layer = {ours: theirs for theirs, ours in _DOWNSAMPLE.items()}.get(path[-2], path[-2])
    block = path[0].replace("_", ".") + "." if len(path) == 3 else ""
    return f"{block}{layer}.{leaf}"


def to_ours(value: np.ndarray) -> np.ndarray:
    """(out, in, kH, kW) -> (kH, kW, in, out); (out, in) -> (in, out); others as they are."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    return np.transpose(value, axes) if axes else value


def to_torch(value: np.ndarray) -> np.ndarray:
    """Inverse of ``to_ours``; contiguous, as safetensors wants it."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.array(np.transpose(value, axes) if axes else value, order="C")
