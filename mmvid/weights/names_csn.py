"""Names of mmaction2's video ResNets in published checkpoints: channel-separated ones (CSN) and CMPL's kind; and
their places in our trees.

mmaction2 writes 'backbone.layer1.0.conv1.conv.weight' and its norm '...conv1.bn.weight'; where a network is
separated, 'layer1.0.conv2.0.conv.weight' and its norm '...conv2.0.bn.weight', and an interaction-preserved one has
'...conv2.1.conv.weight', the channels' own convolution, beside it. VMZ's PyTorch code writes torchvision's
numbers: 'stem.0.weight', 'layer1.0.conv2.0.weight', or, preserved, 'layer1.0.conv2.0.0.weight' to 'conv2.0.2' for
the two convolutions and the norm between.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from mmvid.weights import names_resnet
from mmvid.weights.names_resnet import LAYOUT
from mmvid.weights.trees import Layout, Path, Tree

# {what follows 'conv2.' in VMZ's code, of a preserved block: our layer}
_PRESERVED = {"0.0": "conv2_point", "0.1": "bn2_point", "0.2": "conv2"}
# {mmaction2's: VMZ's}, of a reduced and of a preserved block.
_REDUCED_PLACES = {"0.conv": "0", "0.bn": "1"}
_PRESERVED_PLACES = {"0.conv": "0.0", "0.bn": "0.1", "1.conv": "0.2", "1.bn": "1"}


def owns(params: Tree) -> bool:
    """Tells if a tree of parameters is a preserved network's; a reduced one's has torchvision's names."""
    return "conv2_point" in params.get("layer1_0", {})


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters."""
    return torch_key


def vmz_key(key: str, preserved: bool) -> str:
    """Rewrites a key of mmaction2's into VMZ's; returns others unchanged."""
    key = re.sub(r"^(module\.)?(backbone\.)?", "", key)
    key = re.sub(r"^cls_head\.fc_cls\.", "fc.", key)
    key = re.sub(r"^conv1\.(conv|bn)\.", lambda found: f"stem.{'01'[found[1] == 'bn']}.", key)
    places = _PRESERVED_PLACES if preserved else _REDUCED_PLACES
    key = re.sub(r"\bconv2\.([01]\.(?:conv|bn))\.", lambda found: f"conv2.{places.get(found[1], found[1])}.", key)
    return re.sub(r"\b(conv[123]|downsample)\.(conv|bn)\.", lambda f: f"{f[1]}.{'01'[f[2] == 'bn']}.", key)


def among(tensors: Mapping) -> tuple[Layout, Callable[[str, str], Path]]:
    """Returns the layout of a file with these ``tensors``, and the `address` of its keys: what 'conv2.0.conv' is,
    depends on whether a 'conv2.1.conv' is beside it."""
    preserved = any(".conv2.1.conv." in key for key in tensors)
    return LAYOUT, lambda key, head: address(key, head, preserved=preserved)


def address(key: str, head: str, *, preserved: bool) -> Path:
    """Returns the place of a published key in our trees: ('params' or 'stats', *path).

    The classifier becomes ``head``'s. Raises ValueError for a key that no CSN has.
    """
    plain = vmz_key(key, preserved)
    if match := re.fullmatch(r"layer(\d+)\.(\d+)\.conv2\.(0\.[012])\.(\w+)", plain):
        stage, block, place, leaf = match.groups()
        # A norm's leaves or a convolution's, as in a block that torchvision names.
        kind = "bn1" if place == "0.1" else "conv1"
        collection, *_, name = names_resnet.address(f"layer1.0.{kind}.{leaf}", head)
        return collection, f"layer{stage}_{block}", _PRESERVED[place], name
    return names_resnet.address(plain, head)


def torch_key(path: Path) -> str:
    """Returns VMZ's key of a path in the trees of a preserved network; inverts `address`."""
    place = next((place for place, ours in _PRESERVED.items() if len(path) == 3 and ours == path[1]), None)
    if place is None or path[0] == "classifier":
        return names_resnet.torch_video_key(path)
    leaf = names_resnet.LEAVES.get(path[-1], path[-1])
    return f"{path[0].replace('_', '.')}.conv2.{place}.{leaf}"


def mmaction2_key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names paths as mmaction2 does: a convolution and its norm stand together, those of
    a separated one in places of a list."""
    preserved = owns(params)
    kernel = np.shape(params.get("layer1_0", {}).get("conv2", {}).get("kernel"))
    separated = preserved or (len(kernel) == 5 and kernel[-2] == 1 and kernel[-1] > 1)

    def key(path: Path) -> str:
        leaf = names_resnet.LEAVES.get(path[-1], path[-1])
        if path[0] == "classifier":
            return f"cls_head.fc_cls.{leaf}"
        layer = path[-2]
        kind = "bn" if layer.startswith("bn") or layer == "downsample_bn" else "conv"
        block = path[0].replace("_", ".") + "." if len(path) == 3 else ""
        if layer.startswith("downsample"):
            return f"backbone.{block}downsample.{kind}.{leaf}"
        number = re.search(r"\d", layer)[0]
        place = ""
        if separated and block and number == "2":
            place = "0." if "point" in layer or not preserved else "1."
        return f"backbone.{block}conv{number}.{place}{kind}.{leaf}"

    return key
