"""Weights: published checkpoints converted into our trees and back, and files of our own.

Our files are safetensors of a tree {network: {'params': .., 'stats': ..}} whose keys are joined by '/'.
``names_*`` know what published files call their tensors.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmvid import usage
from mmvid.weights import files, names_caffe2, names_csn, names_resnet, names_stlt, names_swin3d, trees
from mmvid.weights.names_resnet import LAYOUT
from mmvid.weights.trees import Layout, Path, Tree, within

__all__ = ["Found", "fitted", "found", "load", "torch_names"]

Source = str | os.PathLike | Mapping[str, np.ndarray]
_FORMATS = (names_resnet, names_swin3d, names_stlt, names_csn)
# Those that are read and never written.
_READ_ONLY = (names_caffe2,)
_LISTED = ("first_convolutions", "classifiers", "necks")
# {a published tensor that our trees do not keep: the leaf beside it that they have in its place}
_UNREAD = {f"unread {leaf}": leaf for leaf in ("kernel", "bias", "scale")}
_IMPLIED = {"count": "mean", "index": "bias_table", "ids": "embedding", **_UNREAD}


class Found(NamedTuple):
    """What a source of weights holds.

    ``placed`` is {('params' or 'stats', *path): array in our layout}, ``layout`` says where its layers
    stand, ``keys`` is {path: its key in a published file}, and ``strange`` lists the keys of the file
    that have no place in our trees.
    """

    placed: dict[Path, np.ndarray]
    layout: Layout
    keys: Mapping[Path, str]
    strange: tuple[str, ...]


# ---------------------------------------------------------------------------- what a source holds
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


def _published(source: Source, head: str) -> Found:
    """Reads a published checkpoint, whose classifier becomes ``head``'s.

    Its format is the one that knows the most of its keys.
    """
    tensors = dict(source) if isinstance(source, Mapping) else files.read_file(pathlib.Path(source))
    formats = [_addresses(names, tensors, head) for names in (*_FORMATS, *_READ_ONLY)]
    layout, addresses = max(formats, key=lambda found: sum(path is not None for path in found[1].values()))
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
    wrote ('path#network', 'path#network.part'). Raises ValueError for a part that it does not have or a
    damaged file, FileNotFoundError for a missing one.
    """
    own = None if isinstance(source, Mapping) else _own(source, part)
    if not own and not isinstance(source, Mapping):
        _check_unnamed(source)
    if not own and part:
        raise ValueError(f"{source} was not written by mmvid and has no part {part!r}: leave the part out")
    return own or _published(source, head)


# ---------------------------------------------------------------------------- into a model's trees
def _misfits(have: Found, wanted) -> list[str]:
    """Says what does not fit: a line for each shape that differs, one for all missing leaves, one for
    all leaves that the model lacks."""
    placed = have.placed
    lines = [
        f"  {'/'.join(p)}: {placed[p].shape} in the file, {wanted[p].shape} in the model"
        for p in sorted(set(placed) & set(wanted))
        if placed[p].shape != wanted[p].shape
    ]
    if missing := sorted("/".join(p) for p in set(wanted) - set(placed)):
        lines.append(f"  {len(missing)} not in the file: {', '.join(missing)}")
    extra = [have.keys.get(p, "/".join(p)) for p in set(placed) - set(wanted)]
    if extra := sorted([*extra, *have.strange]):
        lines.append(f"  {len(extra)} not in the model: {', '.join(extra)}")
    return lines


def _renamed(have: Found, layout: Layout) -> Found:
    """Renames the parts of one network as those of another, in their order.

    Networks that share features may go on with other streams (RGB to flow, say), under other names.
    """
    theirs, ours = list(have.layout.encoders.values()), list(layout.encoders.values())
    if len(theirs) != len(ours) or set(theirs) == set(ours):
        return have
    names = dict(zip(theirs, ours))

    def path_of(path: Path) -> Path:
        own = next((t for t in theirs if within(path, (t,))), None)
        return path if own is None else (*names[own], *path[len(own) :])

    paths = {kind: tuple(map(path_of, getattr(have.layout, kind))) for kind in _LISTED}
    # p[0] is the collection; layouts know nothing of it.
    placed = {(p[0], *path_of(p[1:])): v for p, v in have.placed.items()}
    keys = {(p[0], *path_of(p[1:])): key for p, key in have.keys.items()}
    return have._replace(placed=placed, keys=keys, layout=Layout(**paths, encoders=layout.encoders))


def _adapted(have: Found, wanted, layout: Layout, classifier: str) -> dict[Path, np.ndarray]:
    """Evens out what may differ between a source and a model.

    Counters of batch norms and what else no tree keeps is dropped, classifiers that are skipped are replaced by
    the model's own, with them the necks that only one of the two has; of two fusions also the classifiers that
    only one has. First convolutions are averaged to the model's input channels.
    """
    placed = {p: v for p, v in have.placed.items() if (*p[:-1], _IMPLIED.get(p[-1])) not in wanted}
    if classifier == "skip" or not layout.classifiers:
        # Both layouts: a classifier of theirs may stand where the model has none.
        theirs = (*have.layout.classifiers, *layout.classifiers)
        placed = {p: v for p, v in placed.items() if not within(p[1:], theirs)}
        placed |= {p: v for p, v in wanted.items() if within(p[1:], layout.classifiers)}
        placed = {p: v for p, v in placed.items() if p in wanted or not within(p[1:], have.layout.necks)}
        placed = {p: v for p, v in wanted.items() if within(p[1:], layout.necks)} | placed
    elif layout.encoders:
        # Of two fusions one may have unimodal classifiers, and the other the joint one alone.
        theirs, ours = ({*side.classifiers, *side.necks} for side in (have.layout, layout))
        placed = {p: v for p, v in placed.items() if not within(p[1:], tuple(theirs - ours))}
        placed |= {p: v for p, v in wanted.items() if within(p[1:], tuple(ours - theirs))}
    for first in layout.first_convolutions:
        path = ("params", *first, "kernel")
        # What is no convolution has no channels to average.
        if np.ndim(placed.get(path, 0)) in (4, 5) and path in wanted:
            placed[path] = trees.over_channels(placed[path], wanted[path].shape[-2])
    return placed


def heads_of(params: Tree, layout: Layout) -> list[str]:
    """Returns the names of all heads of a network's classifiers, sorted."""
    return sorted({head for path in layout.classifiers for head in trees.subtree(params, path)})


def fitted(
    have: Found,
    name: str,
    source: str,
    *,
    params: Tree,
    stats: Tree,
    classifier: str = "load",
    layout: Layout = LAYOUT,
) -> tuple[Tree, Tree]:
    """Puts what ``source`` holds into the trees of a model, as `load` explains: new (params, stats).

    If the source's layout has no classifier, the model keeps its own.
    """
    if classifier not in ("load", "skip"):
        raise ValueError(f"classifier={classifier!r}: choose 'load' or 'skip'")
    if layout.encoders and not have.layout.encoders:
        raise ValueError(
            f"{source}: {name} reads {', '.join(layout.encoders)} at once and starts from a file of such a "
            "network ('path#NAME' of another run) alone: from one published network all would start equal. "
            f"Or give each its own: weights={{{next(iter(layout.encoders))!r}: FILE, ..}}"
        )
    classifier = classifier if have.layout.classifiers else "skip"
    wanted = trees.leaves({"params": params, "stats": stats})
    # Names first: what is adapted is looked for under the model's own paths.
    have = _renamed(have, layout)
    have = have._replace(placed=_adapted(have, wanted, layout, classifier))
    if lines := _misfits(have, wanted):
        skipped = (*layout.classifiers, *layout.necks)
        only = all(within(p[1:], skipped) for p in _differing(have, wanted))
        advice = _advice(only and not have.strange, heads_of(params, layout))
        raise ValueError("\n".join([f"{source}: these weights do not fit {name}:", *lines, advice]))
    # The model's precision: a checkpoint in half precision must not make its parameters half.
    tree = trees.unflatten({p: np.asarray(have.placed[p]).astype(v.dtype) for p, v in wanted.items()})
    return tree.get("params", {}), tree.get("stats", {})


def _differing(have: Found, wanted) -> set[Path]:
    both = set(have.placed) & set(wanted)
    return (set(have.placed) ^ set(wanted)) | {p for p in both if have.placed[p].shape != wanted[p].shape}


def _advice(classifier_alone: bool, heads: list[str]) -> str:
    if classifier_alone:
        several = f" to one of the heads {heads}" if len(heads) > 1 else ""
        return (
            f"Only the classifier differs, and a checkpoint's fits{several} alone if the classes "
            "agree: classifier='skip' leaves it out and starts afresh."
        )
    return "Name the model (and its options) that the file was saved from, or give another file."


def torch_names(params: Tree, stats: Tree, *, head: str = "action") -> dict[str, np.ndarray]:
    """Converts our trees into {published key: array in torch's layout}; inverts `load`.

    The keys are torchvision's; those of a Video Swin or an STLT are its authors'. ``head``'s classifier
    becomes the file's; those of other heads are left out. Raises ValueError for an unknown head, or for
    several networks in one tree.
    """
    own = next((names for names in _FORMATS[1:] if names.owns(params)), names_resnet)
    return names_resnet.torch_names(params, stats, own.key_of(params), head=head)


def load(
    name: str,
    source: Source,
    *,
    params: Tree,
    stats: Tree,
    classifier: str = "load",
    part: str = "",
    layout: Layout = LAYOUT,
) -> tuple[Tree, Tree]:
    """Loads the weights of ``source`` into the trees of the model ``name``: new (params, stats).

    ``source`` is a .safetensors, .pth or Caffe2's .pkl file, {key: array} in torch's layout, or a file that
    ``save`` wrote: 'path#network' if it holds several networks, 'path#network.part' (or ``part``) for the encoder
    of one stream of a network that reads several. ``params`` and ``stats`` are the model's own; shapes suffice
    where none are kept. Its classifiers are, where the ``classifier`` is 'skip'. ``layout`` is the `Model`, or
    says where its layers stand. First convolutions are averaged to the model's input channels (MML). Every tensor
    of the source is either used or named in the error. Raises ValueError (what does not fit, leaf by leaf),
    FileNotFoundError.
    """
    have = found(source, part=part, head="".join(heads_of(params, layout)[:1]))
    shown = "the given tensors" if isinstance(source, Mapping) else os.fspath(source)
    return fitted(have, name, shown, params=params, stats=stats, classifier=classifier, layout=layout)
