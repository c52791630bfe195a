"""Names of a ResNet's tensors in published checkpoints, and their places in our trees.

torchvision and timm write 'layer1.0.conv1.weight' and 'fc.weight'; TSM and
MML 'base_model.layer1.0.conv1.net.weight' where the shift wraps a convolution, and
'new_fc.weight'; either may carry DataParallel's 'module.'. torchvision's video networks count
instead: 'stem.0.weight', 'layer1.0.conv1.0.weight' and its norm 'layer1.0.conv1.1.weight'; where the
convolution has two factors 'conv1.0.0', norm 'conv1.0.1', and 'conv1.0.3'.

Hara's video networks have the names of images; multimodal distillation writes theirs as the children of an
nn.Sequential, 'resnet.0.weight', 'resnet.1...' and 'resnet.4...' to 'resnet.7...', with 'projector.0.weight' and
'classifiers.ACTION.weight', or NOUN and VERB.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from mmvid.weights import trees
from mmvid.weights.trees import Layout, Path, Tree

# Where a ResNet's layers stand in our trees.
LAYOUT = Layout(first_convolutions=(("conv1",),), classifiers=(("classifier",),), necks=(("hidden",),))


def layout_of(params: Mapping) -> Layout:
    """Returns the layout of a tree of parameters whose file does not say it: that of one network, or of
    several that share features."""
    if "classifier" in params:
        return LAYOUT
    inside = [n for n, tree in params.items() if isinstance(tree, Mapping) and "classifier" in tree]
    if not inside:
        return LAYOUT
    return Layout(
        first_convolutions=tuple((name, "conv1") for name in inside),
        classifiers=tuple((name, "classifier") for name in inside),
        encoders={name: (name,) for name in inside},
    )


# {a batch norm's leaf in torch: (our collection, our name)}. Our trees do not keep the counter; it is
# named here so that a checkpoint's is recognised and dropped, not reported as strange.
_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("stats", "mean"),
    "running_var": ("stats", "var"),
    "num_batches_tracked": ("stats", "count"),
}
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Layers that have names (images, TSM): 'layer1.0.conv2.weight', 'bn1.bias', 'layer2.0.downsample.0.weight'.
_LAYER = re.compile(r"(?:layer(\d+)\.(\d+)\.)?(conv\d|bn\d|downsample\.[01])\.(\w+)")
_DOWNSAMPLE = {"downsample.0": "downsample_conv", "downsample.1": "downsample_bn"}
_WRAPPED = {"0": "conv1", "1": "bn1", **{str(stage + 3): f"layer{stage}" for stage in range(1, 5)}}
_STEM = {"stem.0": "conv1", "stem.1": "bn1", "stem.3": "conv2", "stem.4": "bn2"}
# {what follows 'conv1.' in a block of a video network: our layer, with the same number}. The numbers are
# places in nn.Sequential; those left out are ReLUs, which have no weights.
_VIDEO = {
    "0": "conv{}",
    "1": "bn{}",
    "0.0": "conv{}_spatial",
    "0.1": "bn{}_spatial",
    "0.3": "conv{}_temporal",
}
_VIDEO_LAYER = re.compile(r"(stem\.\d|layer(?:\d+)\.(?:\d+)\.conv\d(?:\.\d){1,2})\.(\w+)")


def torchvision_key(key: str) -> str:
    """Rewrites a key from any of the known spellings into torchvision's; returns others unchanged."""
    key = re.sub(r"^(module\.)?(base_model\.)?", "", key)
    key = re.sub(r"\b(conv\d)\.net\.", r"\1.", key)
    key = re.sub(r"^resnet\.([014567])\.", lambda found: f"{_WRAPPED[found[1]]}.", key)
    # ACTION stands alone: it is whatever the one head is called.
    return re.sub(r"^(new_fc|last_linear|classifiers\.ACTION)\.", "fc.", key)


def _layer(key: str) -> tuple[Path, str] | None:
    """Parses a torchvision key of an image or video network: ((block, layer) or (layer,), torch's leaf).

    Returns None for a key of neither.
    """
    if match := _LAYER.fullmatch(key):
        stage, block, layer, leaf = match.groups()
        layer = _DOWNSAMPLE.get(layer, layer)
        return ((f"layer{stage}_{block}",) if stage else ()) + (layer,), leaf
    if not (match := _VIDEO_LAYER.fullmatch(key)):
        return None
    module, leaf = match.groups()
    if module.startswith("stem"):
        return ((_STEM[module],), leaf) if module in _STEM else None
    stage, block, conv, place = module.split(".", 3)
    layer = _VIDEO.get(place, "").format(conv[-1])
    return ((f"{stage}_{block}", layer), leaf) if layer else None


def address(key: str, head: str) -> Path:
    """Returns the place of a torch key in our trees: ('params' or 'stats', *path).

    The classifier 'fc' becomes ``head``'s; NOUN and VERB keep their names. A batch norm's counter, which our
    trees do not keep, gets the leaf name 'count'. Raises ValueError for a key that no ResNet has.
    """
    plain = torchvision_key(key)
    if match := re.fullmatch(r"(fc|projector\.0|classifiers\.(?:NOUN|VERB))\.(weight|bias)", plain):
        layer = {"fc": ("classifier", head), "projector.0": ("hidden",)}.get(match[1])
        layer = layer or ("classifier", match[1].rpartition(".")[2].lower())
        return "params", *layer, "kernel" if match[2] == "weight" else "bias"
    layers, leaf = _layer(plain) or (("",), "")
    # 'weight' is a kernel in a convolution and a scale in a batch norm; convolutions have no bias.
    known = {"weight": ("params", "kernel")} if "conv" in layers[-1] else _NORM
    if leaf not in known:
        raise ValueError(f"{key!r} is no tensor of a ResNet")
    collection, name = known[leaf]
    return (collection, *layers, name)


def torch_key(path: Path) -> str:
    """Returns the torchvision key of a path in the params or stats of an image network, a TSM or Hara's.

    It inverts ``address``.
    """
    leaf = LEAVES.get(path[-1], path[-1])
    if path[0] == "classifier":
        return f"fc.{leaf}"
    if path[0] == "hidden":
        return f"projector.0.{leaf}"
    layer = _theirs(_DOWNSAMPLE).get(path[-2], path[-2])
    block = path[0].replace("_", ".") + "." if len(path) == 3 else ""
    return f"{block}{layer}.{leaf}"


def torch_video_key(path: Path) -> str:
    """Returns the torchvision key of a path in a video network, whose layers torchvision numbers.

    It inverts ``address``.
    """
    if path[0] == "classifier" or path[-2] in _DOWNSAMPLE.values():
        return torch_key(path)
    leaf = LEAVES.get(path[-1], path[-1])
    if len(path) == 2:
        return f"{_theirs(_STEM)[path[0]]}.{leaf}"
    # 'conv2_spatial' says which convolution of the block it is (2) and which place within that.
    number = re.search(r"\d", path[1])[0]
    place = _theirs(_VIDEO)[path[1].replace(number, "{}")]
    return f"{path[0].replace('_', '.')}.conv{number}.{place}.{leaf}"


def _theirs(names: dict[str, str]) -> dict[str, str]:
    """Turns {theirs: ours} round into {ours: theirs}."""
    return {ours: theirs for theirs, ours in names.items()}


def to_ours(value: np.ndarray) -> np.ndarray:
    """Transposes a tensor of torch's: (out, in, [kT,] kH, kW) -> ([kT,] kH, kW, in, out) and (out, in) ->
    (in, out); others stay as they are."""
    axes = {5: (2, 3, 4, 1, 0), 4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    return np.transpose(value, axes) if axes else value


def to_torch(value: np.ndarray) -> np.ndarray:
    """Inverts ``to_ours``; the result is contiguous, as safetensors wants it."""
    axes = {5: (4, 3, 0, 1, 2), 4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.array(np.transpose(value, axes) if axes else value, order="C")


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters: a network whose first convolution
    reaches over time has the keys of torchvision's video networks, over 7 frames Hara's, those of images."""
    shape = np.shape(params.get("conv1", {}).get("kernel"))
    return torch_video_key if len(shape) == 5 and shape[0] < 7 else torch_key


def tsm_key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names paths as TSM's and MML's code does, trained on several GPUs: whatever is
    shifted stands in a 'net' of its own."""
    # With 23 blocks in a stage every second block is shifted (TSM's code).
    every = 2 if "layer3_22" in params else 1

    def key(path: Path) -> str:
        plain = torch_key(path)
        if match := re.fullmatch(r"(layer\d\.(\d+)\.conv1)(\..+)", plain):
            inside = ".net" if int(match[2]) % every == 0 else ""
            plain = match[1] + inside + match[3]
        return "module." + (f"new_{plain}" if plain.startswith("fc.") else f"base_model.{plain}")

    return key


def timm_key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names paths as timm's and pretrainedmodels' older files do."""
    return lambda path: re.sub(r"^fc\.", "last_linear.", torch_key(path))


def parallel_key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names paths as a network on several GPUs is saved (Hara's, Kataoka's)."""
    return lambda path: f"module.{torch_key(path)}"


def torch_names(params: Tree, stats: Tree, name: Callable[[Path], str], *, head: str) -> dict[str, np.ndarray]:
    """Converts our trees into {``name(path)``: array in torch's layout}.

    ``head``'s classifier becomes the file's; those of other heads are left out. Raises ValueError for an
    unknown head, or for several networks in one tree.
    """
    if inside := list(layout_of(params).encoders):
        raise ValueError(f"{', '.join(inside)} share features; give one of them: params[{inside[0]!r}]")
    heads = sorted(params.get("classifier", ()))
    if heads and head not in heads:
        raise ValueError(f"head={head!r}: these weights have the heads {heads}; choose one")
    return {
        name(path): to_torch(np.asarray(value))
        for path, value in (trees.flatten(params) | trees.flatten(stats)).items()
        if path[0] != "classifier" or path[1] == head
    }
