"""Where a segment's weights come from and where they go: files, other segments, and what must not
start equal."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mmvid import weights
from mmvid.files import read_json
from mmvid.network import Beginning, Network, TrainState, final_weights
from mmvid.streams import Head, Stream
from mmvid.weights import files, trees
from mmvid.weights.trees import Path

STILLS = "stills"


class Start(NamedTuple):
    """Where weights come from: ``segment`` and ``network`` of this run, or ``file`` ('path#network').

    ``part`` takes what reads one stream of a source that reads several at once: the encoder of a
    fusion, a member of networks that share features. The other way round, a start of 'av.rgb' fills
    that part of network 'av': {'av.rgb': Start('ce', 'rgb'), 'av.flow': Start('ce', 'flow')}. A
    classifier goes along where both have one and the classes agree.
    """

    segment: str = ""
    network: str = ""
    file: str = ""
    part: str = ""


def _describe(networks, heads: dict[str, Head]) -> dict[str, str]:
    names = {name: list(head.names) or head.classes for name, head in heads.items()}
    layouts = files.describe_layouts({n.name: n.model for n in networks})
    return {"networks": json.dumps([n.name for n in networks]), "heads": json.dumps(names), "layouts": layouts}


def keep_weights(networks, heads) -> Callable:
    """A ``leave`` that writes the final weights to ``<segment>/weights.safetensors``, with the segment's
    key where it has one."""

    def leave(state: TrainState, directory: pathlib.Path) -> None:
        final = jax.device_get(final_weights(state))
        tree = {n: {kind: final[kind][n] for kind in ("params", "stats")} for n in final["params"]}
        if jax.process_index() == 0:
            path = directory / "weights.safetensors"
            key = (read_json(directory / "key.json") or {}).get("key", "")
            files.save(path, tree, _describe(networks, heads) | {"key": key})

    return leave


def _file_of(start: Start, workdir: pathlib.Path) -> str:
    """The file that a start reads, as 'path#network'. Raises FileNotFoundError for a segment's that is
    not there yet."""
    if start.file:
        return start.file
    path = workdir / start.segment / "weights.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: segment {start.segment!r} must end before this one starts. "
            "Run the same command again, or give another --workdir."
        )
    return f"{path}#{start.network}"


def same_heads(source: str, heads) -> bool:
    """Whether a file of ours was written for these heads."""
    return files.metadata(source).get("heads") == _describe((), heads)["heads"]


def place(networks, target: str) -> tuple[Network, Path]:
    """The network that a start is for, and where in its trees: of 'av.rgb' the path of that part.
    Raises ValueError that lists what there is."""
    known, (name, _, part) = {n.name: n for n in networks}, target.partition(".")
    if name not in known:
        raise ValueError(f"weights are given for network {name!r}; there are {sorted(known)}")
    encoders = known[name].model.encoders
    if part and part not in encoders:
        parts = f"it has {sorted(encoders)}" if encoders else "it reads one stream and has none"
        raise ValueError(f"weights are given for part {part!r} of network {name!r}: {parts}")
    return known[name], tuple(encoders[part]) if part else ()


def filled(network: Network, path: Path, own: tuple, fit: Callable) -> tuple:
    """``own`` (params, stats) of a network with what ``fit(params=.., stats=.., layout=..)`` makes of the
    subtrees at ``path``."""
    params, stats = (trees.subtree(tree, path) for tree in own)
    layout = trees.part_of(network.model, path) if path else network.model
    made = fit(params=params, stats=stats, layout=layout)
    # An encoder without batch norm has no statistics to replace.
    return tuple(trees.replaced(tree, path, new) if new else tree for tree, new in zip(own, made))


def loading(start: Start, source: str, target: str, heads) -> Callable:
    """What fills a start's target from a file, published or ours."""
    classifier = "load" if same_heads(source, heads) else "skip"
    name = f"network {target!r}"
    return functools.partial(weights.load, name, source, part=start.part, classifier=classifier)


def starting_from(starts: dict[str, Start], networks, heads) -> Callable:
    """An ``enter`` that gives each network its start; a network without one keeps its draw.

    Everything goes over, batch statistics too; first convolutions are averaged over channels, a
    classifier of other classes starts afresh. Raises FileNotFoundError, or ValueError where the two
    networks are not of one architecture.
    """

    def enter(beginning: Beginning, run) -> Beginning:
        for target, start in starts.items():
            network, path = place(networks, target)
            load = loading(start, _file_of(start, run.workdir), target, heads)
            made = filled(network, path, beginning.weights(network.name), load)
            beginning = beginning.with_weights(network.name, *made)
        return beginning

    return enter


_EQUAL = (
    "networks {a!r} and {b!r} start with equal parameters and read equal inputs, so their predictions "
    "agree and KL between them stays zero for ever (but for dropout): nothing mutual would be learnt. "
    "Start them from two runs with different seeds (plan 'full' does), or let them read different "
    "modalities."
)


def _inputs_of(network: Network, streams: dict[str, Stream]) -> tuple:
    return tuple(tuple(streams[s]._replace(name="") for s in read) for read in network.reads)


def refuse_equals(enter: Callable, networks, streams) -> Callable:
    """``enter``, then an error if two networks would see and compute the same for ever.

    Raises ValueError: with equal parameters and inputs KL(p||p) = 0 has no gradient, so mutual
    learning would be two copies of plain training.
    """

    def checked(beginning: Beginning, run) -> Beginning:
        beginning = enter(beginning, run)
        for i, a in enumerate(networks):
            for b in networks[i + 1 :]:
                if _inputs_of(a, streams) != _inputs_of(b, streams):
                    continue
                left, right = (beginning.weights(n.name)[0] for n in (a, b))
                same = jax.tree.structure(left) == jax.tree.structure(right) and all(
                    jax.tree.leaves(jax.tree.map(np.array_equal, left, right))
                )
                if same:
                    raise ValueError(_EQUAL.format(a=a.name, b=b.name))
        return beginning

    return checked


def check_starts(config, networks, streams, starts: dict[str, Start]) -> None:
    """`refuse_equals` as far as it can be seen before anything is trained."""
    for i, a in enumerate(networks):
        for b in networks[i + 1 :]:
            one, other = starts.get(a.name), starts.get(b.name)
            same = config.networks[a.name].model == config.networks[b.name].model
            if one and one == other and same and _inputs_of(a, streams) == _inputs_of(b, streams):
                raise ValueError(_EQUAL.format(a=a.name, b=b.name))
