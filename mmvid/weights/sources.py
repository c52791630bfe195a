"""What a source of weights holds, in our layout: a file of ours, a published one, or arrays by published names."""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmvid import usage
from mmvid.weights import (
    files,
    names_caffe2,
    names_csn,
    names_pytorchvideo,
    names_resnet,
    names_slowfast,
    names_stlt,
    names_swin3d,
    trees,
)
from mmvid.weights.trees import Layout, Path, Tree

Source = str | os.PathLike | Mapping[str, np.ndarray]
# What is read, and by which networks are written where no spelling is asked for.
FORMATS = (names_resnet, names_swin3d, names_stlt, names_csn, names_slowfast)
# What is also read.
_ALSO = (names_caffe2, names_pytorchvideo)
# Whose names a module knows, for people.
WHOSE = {
    names_resnet: "torchvision's, timm's, TSM's or Kataoka's ResNets",
    names_swin3d: "Video Swin's authors' or torchvision's",
    names_stlt: "STLT's",
    names_csn: "mmaction2's or VMZ's video ResNets",
    names_slowfast: "SlowFast's code",
    names_pytorchvideo: "PyTorchVideo's ResNets",
    names_caffe2: "VMZ's Caffe2 blobs",
}


class Found(NamedTuple):
    """What a source of weights holds.

    ``placed`` is {('params' or 'stats', *path): array in our layout}, ``layout`` says where its layers
    stand, ``keys`` is {path: its key in a published file}, and ``strange`` lists the keys of the file
    that have no place in our trees. Where it is to be ``inflated``, kernels of pictures become those of clips.
    """

    placed: dict[Path, np.ndarray]
    layout: Layout
    keys: Mapping[Path, str]
    strange: tuple[str, ...]
    inflated: bool = False


def _chosen(path: pathlib.Path, tree: Tree, network: str, part: str) -> tuple[str, str]:
    """Returns the (network, part) that ``network`` and ``part`` mean in a file of ours.

    'av.rgb' is the part 'rgb' of the network 'av'. Raises ValueError, which lists the networks.
    """
    if not network and len(tree) == 1:
        return next(iter(tree)), part
    # A network of this very name comes first; only otherwise does a '.' set a part off.
    if network in tree:
        return network, part
    whole, _, inside = network.rpartition(".")
    if whole in tree and not part:
        return whole, inside
    given = f"has no network {network!r}" if network else "holds several networks"
    raise ValueError(f"{path} {given}; give it as '{path}#NAME', NAME one of {sorted(tree)}")


def part_of(tree: Tree, layout: Layout, part: str, name: str) -> Found:
    """Returns what a network {'params', 'stats'} holds, or only its encoder of the stream ``part``.

    Raises ValueError, which lists the parts, for an unknown one; the message calls the network ``name``.
    """
    if part and part not in layout.encoders:
        alone = "it has no parts: one encoder reads all of its streams"
        known = f"it has {sorted(layout.encoders)}" if layout.encoders else alone
        raise ValueError(f"{name} has no part {part!r}: {known}")
    if not part:
        return Found(trees.leaves(tree), layout, {}, ())
    path = layout.encoders[part]
    inside = {kind: trees.subtree(values, path) for kind, values in tree.items()}
    return Found(trees.leaves(inside), trees.part_of(layout, path), {}, ())


def _own(source: str | os.PathLike, part: str) -> Found | None:
    """Reads a file that ``save`` wrote; returns None if the file is not ours.

    ``source`` is 'path#network' if the file holds several networks.
    """
    path, network = files.split(source)
    if not files.metadata(source):
        return None
    tree, metadata = files.read(path)
    network, part = _chosen(path, tree, network, part)
    layout = files.layout(metadata, network, tree[network].get("params", {}), path)
    return part_of(tree[network], layout, part, f"{path}: network {network!r}")


def _check_unnamed(source: str | os.PathLike) -> None:
    """Raises ValueError for 'path#network' of a file that is not ours, or is no longer: only what our metadata say
    tells networks apart."""
    path, network = files.split(source)
    if not network or not path.is_file():
        return
    if files.parameters(path):
        raise usage.Damaged(
            f"{path} holds networks as mmvid writes them, {', '.join(files.parameters(path))}, but has lost its "
            "metadata (saved again by another program, perhaps): give the weights.safetensors that the run wrote"
        )
    raise ValueError(
        f"{path} was not written by mmvid and holds one network: leave out '#{network}', or give RUN/SEGMENT/"
        "weights.safetensors#NETWORK of a run"
    )


def _addresses(names, tensors: Mapping, head: str) -> tuple[Layout, dict[str, Path | None]]:
    """Returns the layout and the place of each key in the format ``names``; None where it is not known."""
    # What a key means may depend on all that are there.
    layout, address = names.among(tensors) if hasattr(names, "among") else (names.LAYOUT, names.address)

    def place(key):
        try:
            return address(key, head)
        except ValueError:
            return None

    return layout, {key: place(key) for key in tensors}


def recognised(tensors: Mapping[str, np.ndarray], head: str) -> tuple[str, Found]:
    """Returns whose names the ``tensors`` of a published checkpoint have, by the module that knows the most of
    them, and what they hold, the classifier as ``head``'s."""
    formats = [(names, *_addresses(names, tensors, head)) for names in (*FORMATS, *_ALSO)]
    names, layout, addresses = max(formats, key=lambda own: sum(path is not None for path in own[2].values()))
    return WHOSE[names], _placed(tensors, layout, addresses)


def _published(source: Source, head: str) -> Found:
    """Reads a published checkpoint, whose classifier becomes ``head``'s."""
    tensors = dict(source) if isinstance(source, Mapping) else files.read_file(files.split(source)[0])
    return recognised(tensors, head)[1]


def _placed(tensors: Mapping, layout: Layout, addresses: Mapping[str, Path | None]) -> Found:
    """What ``tensors`` hold, each at its address."""
    placed, keys, strange = {}, {}, []
    for key, value in tensors.items():
        path = addresses[key]
        if path is None:
            # Kept, not raised: one error later names everything that does not fit.
            strange.append(key)
            continue
        # Two spellings of one tensor: which of them is meant cannot be known.
        if path in placed:
            strange.append(f"{key} (beside {keys[path]})")
            continue
        placed[path], keys[path] = names_resnet.to_ours(np.asarray(value)), key
    return Found(placed, layout, keys, tuple(strange))


def found(source: Source, *, part: str = "", head: str = "") -> Found:
    """Reads a source of weights, without asking what model they fit.

    ``source`` is a .safetensors or .pth file, {key: array} in torch's layout, or a file that ``save``
    wrote ('path#network', 'path#network.part'); a file may be 'inflated:path'. Raises ValueError for a part that
    it does not have or a damaged file, FileNotFoundError for a missing one.
    """
    own = None if isinstance(source, Mapping) else _own(source, part)
    if not own and not isinstance(source, Mapping):
        _check_unnamed(source)
    if not own and part:
        raise ValueError(f"{source} was not written by mmvid and has no part {part!r}: leave the part out")
    inflated = not isinstance(source, Mapping) and files.inflated(source)
    return (own or _published(source, head))._replace(inflated=inflated)
