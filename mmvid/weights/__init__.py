"""Published checkpoints into our trees and back, and the files that hand weights over.

Ours are safetensors files of a tree {network: {'params': .., 'stats': ..}}, keys joined by '/';
what published files call their tensors stands in ``names_resnet``.
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from mmvid.weights import files, trees
from mmvid.weights.names_resnet import (
    Path,
    address,
    first_convolutions,
    members,
    to_ours,
    to_torch,
    torch_key,
    torch_video_key,
)
from mmvid.weights.trees import Tree

Source = str | os.PathLike | Mapping[str, np.ndarray]


def _own_network(source: str | os.PathLike) -> dict[Path, np.ndarray] | None:
    """{(collection, *path): array} of one network of a file that ``save`` wrote, which is named
    as 'path#network' where the file holds several; None if the file is not ours."""
    path, network = files.split(source)
    if not files.metadata(source):
        return None
    tree = files.read(path)[0]
    if network not in tree and (network or len(tree) != 1):
        given = f"has no network {network!r}" if network else "holds several networks"
        raise ValueError(f"{path} {given}; give it as '{path}#NAME', NAME one of {sorted(tree)}")
    return trees.leaves(tree[network or next(iter(tree))])


def _published(source: Source, head: str) -> tuple[dict[Path, np.ndarray], dict[Path, str], list]:
    """Of a published checkpoint: {(collection, *path): array in our layout}, {path: its key}, and
    a line on each key that is nobody's."""
    ours = isinstance(source, Mapping)
    tensors = dict(source) if ours else files.read_file(pathlib.Path(source))
    placed, keys, strange = {}, {}, []
    for key, value in tensors.items():
        try:
            path = address(key, head)
        except ValueError:
            strange.append(key)
            continue
        if path in placed:
            strange.append(f"{key} (beside {keys[path]})")
            continue
        placed[path], keys[path] = to_ours(np.asarray(value)), key
    return placed, keys, strange


# ---------------------------------------------------------------------------- loading
def _misfits(placed, keys, strange, wanted) -> list[str]:
    """One line a shape that differs, one for all that is missing, one for all that is too much."""
    lines = [
        f"  {'/'.join(p)}: {placed[p].shape} in the file, {wanted[p].shape} in the model"
        for p in sorted(set(placed) & set(wanted))
        if placed[p].shape != wanted[p].shape
    ]
    if missing := sorted("/".join(p) for p in set(wanted) - set(placed)):
        lines.append(f"  {len(missing)} not in the file: {', '.join(missing)}")
    extra = [keys.get(p, "/".join(p)) for p in set(placed) - set(wanted)]
    if extra := sorted(extra + strange):
        lines.append(f"  {len(extra)} not in the model: {', '.join(extra)}")
    return lines


def _adapted(placed: dict[Path, np.ndarray], wanted, params: Tree, classifier: str) -> dict[Path, np.ndarray]:
    """What may differ made equal: no counters of batch norms, the model's own classifier where it
    is skipped, the first convolution over the model's channels."""
    placed = {p: v for p, v in placed.items() if p[-1] != "count" or (*p[:-1], "mean") not in wanted}
    if classifier == "skip":
        placed = {p: v for p, v in placed.items() if not _head(p, params)}
        placed |= {p: v for p, v in wanted.items() if _head(p, params)}
    for first in first_convolutions(params):
        path = ("params", *first, "kernel")
        if np.ndim(placed.get(path, 0)) in (4, 5) and path in wanted:
            one = {"conv1": {"kernel": placed[path]}}
            placed[path] = trees.change_input_channels(one, wanted[path].shape[-2])["conv1"]["kernel"]
    return placed


def _head(path: Path, params: Tree) -> str:
    """The head of a classifier's leaf; '' of all others. ``params``: the model's own."""
    inside = path[2:] if len(path) > 2 and path[1] in members(params) else path[1:]
    return inside[1] if inside[0] == "classifier" else ""


def load(
    name: str,
    source: Source,
    *,
    params: Tree,
    stats: Tree,
    classifier: str = "load",
) -> tuple[Tree, Tree]:
    """Weights of ``source`` in the trees of model ``name``: new (params, stats).

    ``source``: a .safetensors or .pth file, {key: array} in torch's layout, or a file that
    ``save`` wrote ('path#network' where it holds several). ``params``, ``stats``: the model's own
    (shapes suffice to 'load'). Every tensor is used or named in the error. The first convolution is
    averaged to the model's input channels (MML); ``classifier`` 'skip' keeps ``params``'.
    Raises ValueError (what does not fit, leaf by leaf), FileNotFoundError.
    """
    if classifier not in ("load", "skip"):
        raise ValueError(f"classifier={classifier!r}: choose 'load' or 'skip'")
    wanted = trees.leaves({"params": params, "stats": stats})
    heads = sorted({head for path in wanted if (head := _head(path, params))})
    own = None if isinstance(source, Mapping) else _own_network(source)
    if not own and members(params):
        raise ValueError(
            f"{name} for {', '.join(members(params))}, which share features, starts from a file of such a "
            "network ('path#NAME' of another run) alone: from one published network all would start equal"
        )
    placed, keys, strange = (own, {}, []) if own else _published(source, "".join(heads[:1]))
    placed = _adapted(placed, wanted, params, classifier)
    if lines := _misfits(placed, keys, strange, wanted):
        raise ValueError("\n".join([f"these weights do not fit {name}:", *lines, _advice(lines, heads)]))
    tree = trees.unflatten({p: np.asarray(placed[p]).astype(v.dtype) for p, v in wanted.items()})
    return tree.get("params", {}), tree.get("stats", {})


def _advice(lines: list[str], heads: list[str]) -> str:
    if all("classifier/" in line for line in lines):
        several = f" to one of the heads {heads}" if len(heads) > 1 else ""
        return (
            f"Only the classifier differs, and a checkpoint's fits{several} alone if the classes "
            "agree: classifier='skip' leaves it out and starts afresh."
        )
    return "Name the model (and its options) that the file was saved from, or give another file."


def torch_names(params: Tree, stats: Tree, *, head: str = "action") -> dict[str, np.ndarray]:
    """Our trees as {torchvision key: array in torch's layout}; ``head``'s classifier becomes 'fc',
    others stay behind. A first convolution over time tells a video network, whose keys are others.
    Inverse of ``load``. Raises ValueError for an unknown head, or for several networks in one tree."""
    if inside := members(params):
        raise ValueError(f"{', '.join(inside)} share features; give one of them: params[{inside[0]!r}]")
    heads = sorted(params.get("classifier", ()))
    if heads and head not in heads:
        raise ValueError(f"head={head!r}: these weights have the heads {heads}; choose one")
    name = torch_video_key if np.ndim(params.get("conv1", {}).get("kernel")) == 5 else torch_key
    return {
        name(path): to_torch(np.asarray(value))
        for path, value in (trees.flatten(params) | trees.flatten(stats)).items()
        if path[0] != "classifier" or path[1] == head
    }
