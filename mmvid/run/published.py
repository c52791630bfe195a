"""All that published code asks for when it loads a network strictly: its weights under the code's own names, and
what its modules keep beside them."""

from collections.abc import Mapping

import numpy as np

from mmvid import weights as weights_lib
from mmvid.models import swin3d
from mmvid.weights.spellings import SPELLINGS


def spelling_of(model: str) -> str:
    """Returns in whose names the files of an architecture were published; '' is torchvision's, or its authors'."""
    return next((name for name, own in SPELLINGS.items() if model in own.models and own.key_of), "")


def _pairs(key: str, table: np.ndarray, window) -> np.ndarray:
    """Returns the pairs of tokens of a Swin's ``window``, which belong to a ``table`` of biases. Raises ValueError
    where the table is of another window."""
    if len(table) != np.prod([2 * n - 1 for n in window]):
        raise ValueError(
            f"{key} has {len(table)} rows, which a window of {tuple(window)} tokens has not, and the file does "
            "not tell which one it was trained with: write it by python -m mmvid export RUN --format=torch"
        )
    return swin3d.pairs_of(window)


def _beside(keys: Mapping[str, np.ndarray], options: Mapping) -> dict[str, np.ndarray]:
    """Returns what stands beside the weights of ``keys``: each block of a Swin has the pairs of tokens of its
    window; STLT's older code the numbers of places, and the layer that those in space began as copies of."""
    found = {}
    for key, value in keys.items():
        if key.endswith("relative_position_bias_table"):
            window = options.get("window") or swin3d.WINDOW
            found[key.replace("bias_table", "index")] = _pairs(key, value, window)
        elif key == "backbone.frames_embeddings.position_embeddings.weight":
            found["backbone.frames_embeddings.position_ids"] = np.arange(len(value))[None]
        elif key.startswith(first := "backbone.frames_embeddings.layout_embedding.transformer.layers.0."):
            found[key.replace(first, "backbone.frames_embeddings.layout_embedding.encoder_layer.")] = value
    return found


def named(tree: Mapping, *, head: str, spelling: str, options: Mapping) -> dict[str, np.ndarray]:
    """Returns {key: array} of a network {'params': .., 'stats': ..} with these ``options``. Of its classifiers it
    keeps that of ``head``. Raises ValueError where nobody has named such layers in that ``spelling``."""
    keys = weights_lib.torch_names(tree["params"], tree.get("stats", {}), head=head, spelling=spelling)
    return keys | _beside(keys, options)
