"""Where a segment's weights come from (files, earlier segments), where they are written at its end, and
the check that networks which learn from each other do not start equal."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from mmvid import sharding, usage, weights
from mmvid.files import read_json
from mmvid.network import Beginning, Network, TrainState, final_weights
from mmvid.streams import Head, Stream
from mmvid.weights import files, trees
from mmvid.weights.trees import Path

STILLS = "stills"


def is_stills(segment: str) -> bool:
    """Tells whether a segment learns still images: 'stills', or 'stills_2' and the like, which have learnt them
    another time."""
    return segment == STILLS or segment.startswith(f"{STILLS}_")


class Start(NamedTuple):
    """Where weights come from: the ``network`` of an earlier ``segment`` of this run (where none is named, the
    one that is called as the network that starts), or a ``file`` ('path#network').

    Where the source reads several streams at once, ``part`` names the stream whose part is taken: an
    encoder of a fusion, or a member of networks that share features. The other way round, a plan fills
    parts of a network by name: {'av.rgb': Start('ce', 'rgb'), 'av.flow': Start('ce', 'flow')} fills two
    encoders of network 'av'. A classifier goes along where both sides have one, for the same classes.
    """

    segment: str = ""
    network: str = ""
    file: str = ""
    part: str = ""


def named(starts: Mapping[str, Start]) -> dict[str, Start]:
    """Returns the starts with the network in each that comes from a segment. Raises ValueError for one that names
    both a segment and a file, or neither."""
    found = {}
    for target, start in starts.items():
        if bool(start.segment) == bool(start.file):
            raise ValueError(f"the start of {target!r}, {start}: name a segment or a file, one of the two")
        own = start.network or target.partition(".")[0]
        found[target] = start._replace(network=own) if start.segment else start
    return found


def described(config, networks, streams: Mapping[str, Stream]) -> dict[str, dict]:
    """What networks are and what they read, as plain data: {network: {'model', 'reads': [[[stream, modality,
    form], ..] of each read]}}."""
    return {
        n.name: {
            "model": config.networks[n.name].model,
            "reads": [[[s, streams[s].modality, streams[s].form] for s in read] for read in n.reads],
        }
        for n in networks
    }


def _describe(networks, heads: dict[str, Head]) -> dict[str, str]:
    # Names where there are any: as many classes of other names are another task.
    names = {name: list(head.names) or head.classes for name, head in heads.items()}
    layouts = files.describe_layouts({n.name: n.model for n in networks})
    return {"networks": json.dumps([n.name for n in networks]), "heads": json.dumps(names), "layouts": layouts}


def keep_weights(networks, heads, inputs: Mapping[str, Mapping] | None = None) -> Callable:
    """Returns a ``leave`` that writes the final weights to ``<segment>/weights.safetensors``, with the
    segment's key in its metadata, or '' where it has none, with what it has seen (`weights.seen`), and with
    ``inputs``, what `described` says of the networks."""
    told = {"inputs": json.dumps(inputs)} if inputs else {}

    def leave(state: TrainState, directory: pathlib.Path) -> None:
        # Final: the moving average where there is one.
        final = sharding.fetched(final_weights(state))
        tree = {n: {kind: final[kind][n] for kind in ("params", "stats")} for n in final["params"]}
        if jax.process_index() == 0:
            path = directory / "weights.safetensors"
            note = read_json(directory / "key.json") or {}
            seen = {"seen": json.dumps(note["seen"])} if "seen" in note else {}
            files.save(path, tree, _describe(networks, heads) | {"key": note.get("key", "")} | seen | told)

    return leave


def _file_of(start: Start, workdir: pathlib.Path) -> str:
    """The file that a start reads, as 'path#network'. Raises FileNotFoundError where it is that of a segment
    that has not ended."""
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
    """Whether a run with the same label spaces wrote the file ``source``. A published file names no label
    spaces: for it the answer is no."""
    return files.metadata(source).get("heads") == _describe((), heads)["heads"]


def place(networks, target: str) -> tuple[Network, Path]:
    """The network that ``target`` names, and the path in its trees: () for 'av', the path of its encoder for
    'av.rgb'. Raises ValueError that lists the networks, or the parts, for an unknown one."""
    known, (name, _, part) = {n.name: n for n in networks}, target.partition(".")
    if name not in known:
        raise ValueError(f"weights are given for network {name!r}; there are {sorted(known)}")
    encoders = known[name].model.encoders
    if part and part not in encoders:
        alone = "it has no parts: one encoder reads all of its streams"
        parts = f"it has {sorted(encoders)}" if encoders else alone
        raise ValueError(f"weights are given for part {part!r} of network {name!r}: {parts}")
    return known[name], tuple(encoders[part]) if part else ()


def filled(network: Network, path: Path, own: tuple, fit: Callable) -> tuple:
    """Returns ``own``, a network's (params, stats), with the subtrees at ``path`` replaced by what
    ``fit(params=.., stats=.., layout=..)`` makes of them."""
    params, stats = (trees.subtree(tree, path) for tree in own)
    layout = trees.part_of(network.model, path) if path else network.model
    made = fit(params=params, stats=stats, layout=layout)
    # An encoder without batch norm has no statistics to replace.
    return tuple(trees.replaced(tree, path, new) if new else tree for tree, new in zip(own, made))


def loading(start: Start, source: str, target: str, heads) -> Callable:
    """Returns the function that fills ``target`` from the file ``source``, a published one or a run's, as
    `filled` calls it."""
    # Of other classes a classifier would fit by its shape at best: it keeps its draw.
    classifier = "load" if same_heads(source, heads) else "skip"
    name = f"network {target!r}"
    return functools.partial(weights.load, name, source, part=start.part, classifier=classifier)


@contextlib.contextmanager
def of_option(network: str) -> Iterator[None]:
    """Begins what is wrong with a file of weights by the option that names it, where that is a ``network``'s."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if not network:
            raise
        # One of a damaged file stays one.
        kinds = (FileNotFoundError, usage.Damaged, usage.WrongUse, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"--config.networks.{network}.weights: {error}") from error


def starting_from(starts: dict[str, Start], networks, heads) -> Callable:
    """Returns an ``enter`` that fills each network from its start; one without a start keeps its draw.

    All weights are handed over, batch statistics too (MML). A first convolution for other channels gets
    the mean over the source's input channels; a classifier of other classes keeps its draw. The ``enter``
    raises FileNotFoundError, or ValueError where the two networks differ in architecture.
    """

    def enter(beginning: Beginning, run) -> Beginning:
        for target, start in starts.items():
            network, path = place(networks, target)
            # Of a resumed segment only the frozen networks are there: no file of the others is read.
            if network.name not in beginning.networks:
                continue
            with of_option(network.name if start.file else ""):
                load = loading(start, _file_of(start, run.workdir), target, heads)
                made = filled(network, path, beginning.weights(network.name), load)
            beginning = beginning.with_weights(network.name, *made)
        return beginning

    return enter


def afresh(enter: Callable) -> Callable:
    """Returns an ``enter`` that leaves a segment that is resumed as it is: its checkpoint has all of that."""
    return lambda beginning, run: enter(beginning, run) if beginning.params else beginning


def in_turn(*enters: Callable) -> Callable:
    """Returns an ``enter`` that does all ``enters``, one after another."""

    def entered(beginning: Beginning, run) -> Beginning:
        return functools.reduce(lambda found, enter: enter(found, run), enters, beginning)

    # Whoever follows a chain of continued segments back must find the way.
    entered.previous = next((e.previous for e in enters if getattr(e, "previous", None)), None)
    return entered


_EQUAL = (
    "networks {a!r} and {b!r} start with equal parameters and read equal inputs, so their predictions "
    "agree and KL between them stays zero for ever (but for dropout): nothing mutual would be learnt. "
    "Start them from two runs with different seeds (plan 'full' does), give the two files of weights that differ, "
    "--config.networks.{b}.weights, or let them read different modalities."
)


def _inputs_of(network: Network, streams: dict[str, Stream]) -> tuple:
    # Without names: two streams that are cut alike show the same frames.
    return tuple(tuple(streams[s]._replace(name="") for s in read) for read in network.reads)


def refuse_equals(enter: Callable, networks, streams) -> Callable:
    """Returns ``enter`` followed by a check that no two networks have equal parameters and equal inputs.

    The check raises ValueError: such networks predict the same, KL(p||p) = 0 (MML, equations 1 to 3) has
    no gradient, and mutual learning would be two copies of plain training.
    """

    def checked(beginning: Beginning, run) -> Beginning:
        beginning = enter(beginning, run)
        there = [network for network in networks if network.name in beginning.networks]
        for i, a in enumerate(there):
            for b in there[i + 1 :]:
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
    """Raises the ValueError of `refuse_equals` before anything is trained, for networks that will start from
    one source; what their weights are is only known when the segment begins."""
    for i, a in enumerate(networks):
        for b in networks[i + 1 :]:
            # Without starts they are drawn by their names, and differ.
            one, other = starts.get(a.name), starts.get(b.name)
            same = config.networks[a.name].model == config.networks[b.name].model
            if one and one == other and same and _inputs_of(a, streams) == _inputs_of(b, streams):
                raise ValueError(_EQUAL.format(a=a.name, b=b.name))
