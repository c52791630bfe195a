"""Trees of weights: flat and nested, and input channels changed."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Tree = dict
Path = tuple[str, ...]


class Layout(NamedTuple):
    """Where a network's tree of parameters holds its first convolutions, its classifiers and, if it
    reads several streams at once, the encoder of each. A `Model` has these fields, too, and goes
    wherever a layout is asked for."""

    first_convolutions: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()
    encoders: Mapping[str, Path] = {}


def within(path: Path, layers: tuple[Path, ...]) -> bool:
    """Whether a path leads into one of ``layers``."""
    return any(path[: len(layer)] == layer for layer in layers)


def part_of(layout, path: Path) -> Layout:
    """The layout of the subtree at ``path``."""

    def inside(layers):
        return tuple(layer[len(path) :] for layer in layers if within(layer, (path,)))

    return Layout(inside(layout.first_convolutions), inside(layout.classifiers))


def subtree(tree: Mapping, path: Path) -> Tree:
    """What stands at ``path``; {} where nothing does."""
    for name in path:
        tree = tree.get(name, {})
    return dict(tree)


def replaced(tree: Mapping, path: Path, new: Mapping) -> Tree:
    """``tree`` with ``new`` at ``path``."""
    if not path:
        return dict(new)
    return {**tree, path[0]: replaced(tree.get(path[0], {}), path[1:], new)}


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


def over_channels(kernel: np.ndarray, in_channels: int) -> np.ndarray:
    """A first convolution's kernel [.., C, F] for ``in_channels``: the mean over the old channels,
    repeated, no rescaling (MML's code). Itself where they agree. Raises ValueError for less than one."""
    if in_channels < 1:
        raise ValueError(f"in_channels={in_channels}: a first convolution reads at least one")
    kernel = np.asarray(kernel)
    if kernel.shape[-2] == in_channels:
        return kernel
    mean = kernel.mean(-2, keepdims=True).astype(kernel.dtype)
    return np.repeat(mean, in_channels, axis=-2)
