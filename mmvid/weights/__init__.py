"""Weights: published checkpoints converted into our trees and back, and files of our own.

Our files are safetensors of a tree {network: {'params': .., 'stats': ..}} whose keys are joined by '/'.
``names_*`` know what published files call their tensors.
"""

import os
from collections.abc import Mapping

import numpy as np

from mmvid.weights import inflation, names_resnet, spellings, trees
from mmvid.weights.names_resnet import LAYOUT
from mmvid.weights.sources import FORMATS, Found, Source, found, part_of, recognised
from mmvid.weights.trees import Layout, Path, Tree, within

__all__ = ["Found", "fitted", "found", "load", "part_of", "torch_names"]

_LISTED = ("first_convolutions", "classifiers", "necks")
# {a published tensor that our trees do not keep: the leaf beside it that they have in its place}
_UNREAD = {f"unread {leaf}": leaf for leaf in ("kernel", "bias", "scale")}
_IMPLIED = {"count": "mean", "index": "bias_table", "ids": "embedding", **_UNREAD}


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

    Counters of batch norms and what else no tree keeps is dropped. Classifiers that are skipped, or that only one
    of two fusions has, are replaced by the model's own, and with them the necks that only one of the two has.
    First convolutions are averaged to the model's input channels.
    """
    placed = {p: v for p, v in have.placed.items() if (*p[:-1], _IMPLIED.get(p[-1])) not in wanted}
    theirs, ours = set(have.layout.classifiers), set(layout.classifiers)
    afresh = classifier == "skip" or not ours
    if afresh or layout.encoders:
        # Of two fusions one may have unimodal classifiers, and the other the joint one alone.
        dropped, kept = (theirs | ours, ours) if afresh else (theirs - ours, ours - theirs)
        placed = {p: v for p, v in placed.items() if not within(p[1:], tuple(dropped))}
        placed |= {p: v for p, v in wanted.items() if within(p[1:], tuple(kept))}
        necks = (*have.layout.necks, *layout.necks)
        placed = {p: v for p, v in placed.items() if p in wanted or not within(p[1:], necks)}
        placed = {p: v for p, v in wanted.items() if within(p[1:], layout.necks)} | placed
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
    have = inflation.over_time(have, wanted, source) if have.inflated else have
    have = have._replace(placed=_adapted(have, wanted, layout, classifier))
    if lines := _misfits(have, wanted):
        skipped = (*layout.classifiers, *layout.necks)
        only = all(within(p[1:], skipped) for p in _differing(have, wanted))
        alone = only and not have.strange
        advice = _advice(alone, heads_of(params, layout), bool(inflation.flat(have.placed, wanted)))
        raise ValueError("\n".join([f"{source}: these weights do not fit {name}:", *lines, advice]))
    # The model's precision: a checkpoint in half precision must not make its parameters half.
    tree = trees.unflatten({p: np.asarray(have.placed[p]).astype(v.dtype) for p, v in wanted.items()})
    return tree.get("params", {}), tree.get("stats", {})


def _differing(have: Found, wanted) -> set[Path]:
    both = set(have.placed) & set(wanted)
    return (set(have.placed) ^ set(wanted)) | {p for p in both if have.placed[p].shape != wanted[p].shape}


def _advice(classifier_alone: bool, heads: list[str], flat: bool) -> str:
    if classifier_alone:
        several = f" to one of the heads {heads}" if len(heads) > 1 else ""
        return (
            f"Only the classifier differs, and a checkpoint's fits{several} alone if the classes "
            "agree: classifier='skip' leaves it out and starts afresh."
        )
    if flat:
        return "Kernels of an image network are repeated over time where its file is given as 'inflated:FILE'."
    return "Name the model (and its options) that the file was saved from, or give another file."


def torch_names(params: Tree, stats: Tree, *, head: str = "action", spelling: str = "") -> dict[str, np.ndarray]:
    """Converts our trees into {published key: array in torch's layout}; inverts `load`.

    The keys are those of a ``spelling`` (`spellings.SPELLINGS`), by default torchvision's; of a Video Swin, an
    STLT or a SlowFast its authors'. ``head``'s classifier becomes the file's; those of other heads are left out.
    Raises ValueError for an unknown head or spelling, or for several networks in one tree.
    """
    own = next((names for names in FORMATS[1:] if names.owns(params)), names_resnet)
    if not spelling:
        return names_resnet.torch_names(params, stats, own.key_of(params), head=head)
    key_of = spellings.key_of(params, spelling)
    try:
        names = names_resnet.torch_names(params, stats, key_of, head=head)
    # Whatever a writer stumbles over, in layers that it does not know.
    except (AttributeError, KeyError, IndexError, TypeError):
        names = {}
    # Classifiers of other heads are left out.
    kept = {
        path
        for path in trees.leaves({"params": params, "stats": stats})
        if not within(path[1:], LAYOUT.classifiers) or path[2] == head
    }
    if set(recognised(names, head)[1].placed) != kept:
        raise ValueError(
            f"such a network cannot be named in the spelling {spelling!r}: its code has no layer of the kind"
        )
    return names


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
    where none are kept. Of 'inflated:path', an image network's file, kernels are repeated over time as the model
    needs them. Its classifiers are, where the ``classifier`` is 'skip'. ``layout`` is the `Model`, or
    says where its layers stand. First convolutions are averaged to the model's input channels (MML). Every tensor
    of the source is either used or named in the error. Raises ValueError (what does not fit, leaf by leaf),
    FileNotFoundError.
    """
    have = found(source, part=part, head="".join(heads_of(params, layout)[:1]))
    shown = "the given tensors" if isinstance(source, Mapping) else os.fspath(source)
    return fitted(have, name, shown, params=params, stats=stats, classifier=classifier, layout=layout)
