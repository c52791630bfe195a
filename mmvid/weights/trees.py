"""Trees of weights: flattened, nested again, cut into parts, and fitted to other input channels."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Tree = dict
Path = tuple[str, ...]


class Layout(NamedTuple):
    """Where layers stand in a network's tree of parameters: the paths of its first convolutions, of its
    classifiers and, if it reads several streams at once, of each stream's encoder. ``necks`` are those of
    layers between the encoder and the classifiers, which a network may have and another of its kind lack.

    A `Model` has the same fields and may be given wherever a layout is asked for.
    """

    first_convolutions: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()
    encoders: Mapping[str, Path] = {}
    necks: tuple[Path, ...] = ()


def within(path: Path, layers: tuple[Path, ...]) -> bool:
    """Tells if a path leads into (or to) one of ``layers``."""
    return any(path[: len(layer)] == layer for layer in layers)


def part_of(layout, path: Path) -> Layout:
    """Returns the layout of the subtree at ``path``, with paths that start there."""

    def inside(layers):
        return tuple(layer[len(path) :] for layer in layers if within(layer, (path,)))

    # No encoders: a part reads one stream.
    return Layout(inside(layout.first_convolutions), inside(layout.classifiers), necks=inside(layout.necks))


def subtree(tree: Mapping, path: Path) -> Tree:
    """Returns the subtree at ``path``, or {} if there is none."""
    for name in path:
        tree = tree.get(name, {})
    return dict(tree)


def replaced(tree: Mapping, path: Path, new: Mapping) -> Tree:
    """Returns a copy of ``tree`` with ``new`` at ``path``."""
    if not path:
        return dict(new)
    return {**tree, path[0]: replaced(tree.get(path[0], {}), path[1:], new)}


def flatten(tree: Mapping, prefix: Path = ()) -> dict[Path, object]:
    """Flattens nested dicts into {path: leaf}; an empty dict below the top is kept as a leaf."""
    flat = {}
    for name, value in tree.items():
        path = (*prefix, name)
        # Empty dicts (a network without batch norms has empty 'stats') would else be lost in a round trip.
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, path) if inner else {path: value}
    return flat


def leaves(tree: Mapping) -> dict[Path, object]:
    """Flattens nested dicts into {path: leaf}, without empty dicts."""
    return {p: v for p, v in flatten(tree).items() if not isinstance(v, Mapping)}


def unflatten(flat: Mapping[Path, object]) -> Tree:
    """Nests {path: leaf} into dicts; inverts ``flatten``."""
    tree: Tree = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


def over_channels(kernel: np.ndarray, in_channels: int) -> np.ndarray:
    """Fits a first convolution's kernel [.., C, F] to ``in_channels`` input channels.

    The mean over the old channels is repeated (MML's code); a kernel of as many channels is returned as
    it is. Raises ValueError for fewer than one channel.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels={in_channels}: a first convolution reads at least one")
    kernel = np.asarray(kernel)
    if kernel.shape[-2] == in_channels:
        return kernel
    # No factor C / in_channels: MML hands RGB kernels to flow (10 channels) and differences (15) unscaled.
    mean = kernel.mean(-2, keepdims=True).astype(kernel.dtype)
    return np.repeat(mean, in_channels, axis=-2)
