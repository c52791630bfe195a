"""Names of STLT's tensors in the files of both of its releases, and their places in our trees.

Multimodal distillation (2023) writes 'temporal_transformer.layout_embedding.transformer.layers.0.linear1.weight'
for what works in space, 'temporal_transformer.transformer.layers.0...' for what works in time, and
'classifiers.ACTION.weight', or NOUN and VERB. The older code (2021) writes
'backbone.frames_embeddings.layout_embedding...', 'backbone.transformer.layers.0...' and
'prediction_head.fc2.weight'; a backbone's file alone lacks 'backbone.' and the head.
"""

import functools
import re
from collections.abc import Callable

from mmvid.weights.trees import Layout, Path, Tree

LAYOUT = Layout(classifiers=(("classifier",),), necks=(("hidden",), ("hidden_norm",)))
_BOXES = "layout_embedding.category_box_embeddings."
# {theirs, without the release's prefix: ours}
_SINGLE = {
    f"{_BOXES}category_embeddings": "category",
    f"{_BOXES}box_embedding": "box",
    f"{_BOXES}score_embedding": "score",
    f"{_BOXES}score_embeddings": "score",
    f"{_BOXES}side_embedding": "side",
    f"{_BOXES}state_embedding": "state",
    f"{_BOXES}layer_norm": "box_norm",
    "position_embeddings": "positions",
    "frame_type_embedding": "type",
    "layer_norm": "frame_norm",
    "prediction_head.fc1": "hidden",
    "prediction_head.layer_norm": "hidden_norm",
}
_TOKENS = {"cls_token": "time_token", "layout_embedding.cls_token": "space_token"}
_LAYER = {"self_attn.in_proj": "attention_in", "self_attn.out_proj": "attention_out"}
_WHERE = {"layout_embedding.transformer": "space", "transformer": "time"}
_TABLES = ("category", "side", "state", "positions", "type")


def _layer(name: str, head: str) -> Path:
    """Returns the path of a layer of theirs, () for one that no STLT has."""
    if name in _SINGLE:
        return (_SINGLE[name],)
    if name == "prediction_head.fc2":
        return "classifier", head
    if match := re.fullmatch(r"classifiers\.([A-Z]+)", name):
        # ACTION stands alone: it is whatever the one head is called.
        return "classifier", head if match[1] == "ACTION" else match[1].lower()
    if match := re.fullmatch(r"((?:layout_embedding\.)?transformer)\.layers\.(\d+)\.([\w.]+)", name):
        return _WHERE[match[1]], f"layer{match[2]}", _LAYER.get(match[3], match[3])
    # The pattern that the older code copies its spatial layers from and never runs.
    if match := re.fullmatch(r"layout_embedding\.encoder_layer\.([\w.]+)", name):
        return "space", "layer0", _LAYER.get(match[1], match[1])
    return ()


def address(key: str, head: str) -> Path:
    """Returns the place of a published key in our trees: ('params', *path).

    A single classifier becomes ``head``'s; NOUN and VERB keep their names. What our trees do not keep gets a
    leaf of its own: 'ids' for the numbers of the places, 'unread ..' for the layer that nothing reads. Raises
    ValueError for a key that no STLT has.
    """
    plain = re.sub(r"^(module\.)?(temporal_transformer\.|backbone\.)?(frames_embeddings\.)?", "", key)
    if plain in _TOKENS:
        return "params", _TOKENS[plain]
    if plain == "position_ids":
        return "params", "positions", "ids"
    # in_proj has no layer of its own: its leaves are called in_proj_weight and in_proj_bias.
    name, _, leaf = re.sub(r"\bin_proj_", "in_proj.", plain).rpartition(".")
    layer = _layer(name, head)
    if not layer or leaf not in ("weight", "bias"):
        raise ValueError(f"{key!r} is no tensor of an STLT")
    if leaf == "weight":
        leaf = "embedding" if layer[-1] in _TABLES else "scale" if "norm" in layer[-1] else "kernel"
    return "params", *layer, f"unread {leaf}" if ".encoder_layer." in plain else leaf


def owns(params: Tree) -> bool:
    """Tells if a tree of parameters is an STLT's."""
    return "box_norm" in params


def key_of(params: Tree) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters, as the release does that they are of."""
    return functools.partial(torch_key, older="type" in params)


def torch_key(path: Path, *, older: bool) -> str:
    """Returns the key of a path in our params in the newer or the ``older`` release; inverts ``address``."""
    leaf = path[-1] if path[-1] == "bias" else "weight"
    if path[0] == "classifier":
        return f"prediction_head.fc2.{leaf}" if older else f"classifiers.ACTION.{leaf}"
    # Of two names of one layer the last is the older release's.
    theirs = {ours: name for name, ours in (list if older else reversed)(list((_SINGLE | _TOKENS).items()))}
    if path[0] in theirs:
        name = theirs[path[0]]
        key = name if name in _TOKENS else f"{name}.{leaf}"
        if key.startswith("prediction_head"):
            return key
        return f"backbone.frames_embeddings.{key}" if older else f"temporal_transformer.{key}"
    where = {ours: name for name, ours in _WHERE.items()}[path[0]]
    name = {ours: name for name, ours in _LAYER.items()}.get(path[2], path[2])
    key = f"{where}.layers.{path[1].removeprefix('layer')}.{name}.{leaf}".replace("in_proj.", "in_proj_")
    prefix = "temporal_transformer." if not older else "backbone."
    return prefix + ("frames_embeddings." if older and path[0] == "space" else "") + key
