"""Trees of weights: flat and nested, and input channels changed."""

from collections.abc import Mapping

import numpy as np

from mmvid.weights.names_resnet import Path, first_convolutions, members

Tree = dict


def flatten(tree: Mapping, prefix: Path = ()) -> dict[Path, object]:
    """Nested dicts -> {path: leaf}; an empty dict below the top stays, as a leaf."""
    flat = {}
    for name, value in tree.items():
        path = (*prefix, name)
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, path) if inner else {path: value}
    return flat


def leaves(tree: Mapping) -> dict[Path, object]:
    return {p: v for p, v in flatten(tree).items() if not isinstance(v, Mapping)}


def unflatten(flat: Mapping[Path, object]) -> Tree:
    """{path: leaf} -> nested dicts."""
    tree: Tree = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


def change_input_channels(params: Tree, in_channels: int) -> Tree:
    """``params`` whose first convolution reads ``in_channels``: the mean over the old ones,
    repeated, no rescaling (MML's code). Unchanged where they agree; of each member where several
    networks share features.

    Raises ValueError for less than one channel, or a tree without 'conv1'.
    """
    if inside := members(params):
        return {**params, **{n: change_input_channels(params[n], in_channels) for n in inside}}
    if in_channels < 1:
        raise ValueError(f"in_channels={in_channels}: a first convolution reads at least one")
    if "conv1" not in params:
        raise ValueError(f"expected a first convolution 'conv1', the tree has {sorted(params)}")
    kernel = np.asarray(params["conv1"]["kernel"])
    if kernel.shape[-2] == in_channels:
        return params
    mean = kernel.mean(-2, keepdims=True).astype(kernel.dtype)
    return {**params, "conv1": {**params["conv1"], "kernel": np.repeat(mean, in_channels, axis=-2)}}


def fit_input_channels(params: Tree, like: Tree) -> Tree:
    """``params`` whose first convolutions read as many channels as those of ``like``; as they are
    where one of the two has no such layer."""
    found, wanted = (
        [flatten(tree).get((*path, "kernel")) for path in first_convolutions(tree)] for tree in (params, like)
    )
    if any(kernel is None for kernel in (*found, *wanted)):
        return params
    return change_input_channels(params, wanted[0].shape[-2])
