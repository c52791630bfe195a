"""Names of a Video Swin Transformer's tensors in published checkpoints, and their places in our trees.

Its authors (mmaction) write 'backbone.layers.0.blocks.1.attn.qkv.weight', 'backbone.layers.0.downsample...'
and 'cls_head.fc_cls.weight'; multimodal distillation (Radevski et al. 2023) the same, but
'classifiers.ACTION.weight', or NOUN and VERB; torchvision 'features.0.1.attn.qkv.weight', where every
second number is a downsampling, 'mlp.0' and 'mlp.3' in place of 'mlp.fc1' and 'mlp.fc2', and 'head.weight'.
"""

import re
from collections.abc import Callable

from mmvid.weights.trees import Layout, Path, Tree

LAYOUT = Layout(first_convolutions=(("patch_embed",),), classifiers=(("classifier",),))
# {the authors' layer: ours}
_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "proj",
    "norm2": "norm2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_SINGLE = {"patch_embed.proj": "patch_embed", "patch_embed.norm": "patch_norm", "norm": "norm"}
_TORCHVISION = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
# What the blocks keep beside their layers: a table that is learnt, and where each pair looks it up.
_TABLES = {"relative_position_bias_table": "bias_table", "relative_position_index": "index"}


def owns(params: Tree) -> bool:
    """Tells if a tree of parameters is a Video Swin's."""
    return LAYOUT.first_convolutions[0][0] in params


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters."""
    return torch_key


def authors_key(key: str) -> str:
    """Rewrites a key from any of the known spellings into the authors', without 'backbone.'; returns others
    unchanged."""
    key = re.sub(r"^(module\.)?(backbone\.)?", "", key)
    if match := re.fullmatch(r"features\.(\d+)\.(.+)", key):
        number, rest = int(match[1]), match[2]
        key = f"layers.{number // 2}." + (f"downsample.{rest}" if number % 2 else f"blocks.{rest}")
        key = re.sub(r"\bmlp\.[03](?=\.)", lambda found: _TORCHVISION[found[0]], key)
    return re.sub(r"^head\.", "cls_head.fc_cls.", key)


def _layer(key: str, head: str) -> tuple[Path, str]:
    """Parses a key of the authors': (our layer, its leaf); ((), '') for a key of nothing here."""
    layer, _, leaf = key.rpartition(".")
    if layer in _SINGLE:
        return (_SINGLE[layer],), leaf
    if layer == "cls_head.fc_cls":
        return ("classifier", head), leaf
    if match := re.fullmatch(r"classifiers\.([A-Z]+)", layer):
        # ACTION stands alone: it is whatever the one head is called.
        return ("classifier", head if match[1] == "ACTION" else match[1].lower()), leaf
    if match := re.fullmatch(r"layers\.(\d+)\.blocks\.(\d+)\.(.+)", layer):
        block = f"layer{int(match[1]) + 1}_{match[2]}"
        if match[3] == "attn":
            return (block,), leaf
        return ((block, _BLOCK[match[3]]), leaf) if match[3] in _BLOCK else ((), "")
    if match := re.fullmatch(r"layers\.(\d+)\.downsample\.(norm|reduction)", layer):
        return (f"merge{int(match[1]) + 1}", match[2]), leaf
    return (), ""


def address(key: str, head: str) -> Path:
    """Returns the place of a published key in our trees: ('params', *path).

    A single classifier becomes ``head``'s; NOUN and VERB keep their names. The table of pairs, which our
    trees do not keep, gets the leaf name 'index'. Raises ValueError for a key that no Video Swin has.
    """
    layer, leaf = _layer(authors_key(key), head)
    norm = bool(layer) and "norm" in layer[-1]
    leaves = {"weight": "scale" if norm else "kernel", "bias": "bias"}
    if len(layer) == 1 and layer[0].startswith("layer"):
        leaves = _TABLES
    if layer[-1:] == ("reduction",):
        leaves = {"weight": "kernel"}
    if leaf not in leaves or not layer:
        raise ValueError(f"{key!r} is no tensor of a Video Swin Transformer")
    return ("params", *layer, leaves[leaf])


def torch_key(path: Path) -> str:
    """Returns the authors' key of a path in our params; inverts ``address``."""
    leaf = {"kernel": "weight", "scale": "weight"} | _theirs(_TABLES)
    leaf = leaf.get(path[-1], path[-1])
    if path[0] == "classifier":
        return f"cls_head.fc_cls.{leaf}"
    if match := re.fullmatch(r"layer(\d+)_(\d+)", path[0]):
        layer = _theirs(_BLOCK).get(path[1], "attn")
        return f"backbone.layers.{int(match[1]) - 1}.blocks.{match[2]}.{layer}.{leaf}"
    if match := re.fullmatch(r"merge(\d+)", path[0]):
        return f"backbone.layers.{int(match[1]) - 1}.downsample.{path[1]}.{leaf}"
    return f"backbone.{_theirs(_SINGLE)[path[0]]}.{leaf}"


def torchvision_key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names paths by torchvision's numbers, in place of the authors' names."""
    places = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}

    def key(path: Path) -> str:
        plain = torch_key(path).removeprefix("backbone.")
        plain = re.sub(r"^cls_head\.fc_cls\.", "head.", plain)
        plain = re.sub(r"\bmlp\.fc[12]\b", lambda found: places[found[0]], plain)
        if match := re.fullmatch(r"layers\.(\d+)\.(blocks|downsample)\.(.+)", plain):
            number = 2 * int(match[1]) + (match[2] == "downsample")
            return f"features.{number}.{match[3]}"
        return plain

    return key


def _theirs(names: dict[str, str]) -> dict[str, str]:
    """Turns {theirs: ours} round into {ours: theirs}."""
    return {ours: theirs for theirs, ours in names.items()}
