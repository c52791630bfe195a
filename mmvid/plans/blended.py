"""What G-Blend's segments begin and end with: copies of a network's parts, and the weights that these give."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from mmvid import files, network
from mmvid.methods import gblend
from mmvid.network import Beginning, Network, TrainState
from mmvid.plans.segment import Segment
from mmvid.scores import blends
from mmvid.scores.blends import Probe
from mmvid.weights import trees

# {network: {part of it: the network that is its copy}}; a part is a stream, or the joint classifier.
Copies = Mapping[str, Mapping[str, str]]


def parts_of(made: Network) -> tuple[str, ...]:
    """Returns the names of a network's parts, each with a classifier, in the order of its outputs."""
    return tuple(output.removeprefix(f"{made.name}.") for output in made.outputs)


def _like(source: Mapping, own: Mapping, kept: Sequence[trees.Path] = (), what: str = "") -> dict:
    """Returns ``own`` with the leaves that ``source`` has at their paths, but for those of the layers ``kept``.
    Raises ValueError where it lacks one, or has it in another shape."""
    found, mine = trees.leaves(source), trees.leaves(own)
    taken = {path: leaf for path, leaf in mine.items() if trees.within(path, tuple(kept))}
    for path, leaf in mine.items():
        if path in taken:
            continue
        if path not in found or np.shape(found[path]) != np.shape(leaf):
            there = f"{np.shape(found[path])}" if path in found else "nothing"
            raise ValueError(f"{what}: {'/'.join(path)} is {np.shape(leaf)} in one and {there} in the other")
        taken[path] = found[path]
    # Empty dicts (a layer without statistics) stay as they are.
    return trees.unflatten({**trees.flatten(own), **taken})


# ---------------------------------------------------------------------------- beginnings
def _drawn(segment: Segment, run) -> Beginning:
    drawn = network.draw_weights(segment, run.config.size, run.config.seed)
    return network.beginning(segment.networks, *drawn, segment.first_step)


def alike(segment: Segment, singles: Segment, copies: Mapping[str, str]) -> Callable:
    """Returns an ``enter`` of ``segment`` by which the encoders of its fusions begin with the draws of networks of
    one stream, ``copies`` {stream: network of the segment ``singles``}; then comes its own ``enter``.

    All fusions of a run so begin with the same encoders, and the networks of one stream are copies of each one's
    parts. Classifiers keep their draws: some begin at zero.
    """

    singles = singles._replace(networks=tuple(n for n in singles.networks if n.name in copies.values()))

    def enter(beginning: Beginning, run) -> Beginning:
        if not beginning.params:
            return segment.enter(beginning, run)
        drawn = _drawn(singles, run)
        for made in segment.networks:
            for stream, path in made.model.encoders.items():
                if stream not in copies:
                    continue
                what = f"the encoder {stream!r} of {made.name!r} and its copy {copies[stream]!r} differ"
                kept = trees.part_of(made.model, path).classifiers
                pairs = zip(beginning.weights(made.name), drawn.weights(copies[stream]))
                filled = (
                    trees.replaced(own, path, _like(source, trees.subtree(own, path), kept, what))
                    for own, source in pairs
                )
                beginning = beginning.with_weights(made.name, *filled)
        return segment.enter(beginning, run)

    return enter


def copying(wholes: Mapping[str, Segment], copies: Copies) -> Callable:
    """Returns an ``enter`` that begins copies of networks with what these begin with in ``wholes`` {network: the
    segment in which it is about to train}: weights and batch statistics, and nothing else, so that optimisers
    begin afresh. Raises ValueError for a copy of two networks that do not begin alike there."""

    def enter(beginning: Beginning, run) -> Beginning:
        # A resumed segment has all of it in its checkpoint.
        if not beginning.params:
            return beginning
        begun: dict[str, tuple] = {}
        for name, parts in copies.items():
            source = wholes[name].enter(_drawn(wholes[name], run), run).weights(name)
            model = next(made.model for made in wholes[name].networks if made.name == name)
            for part, copy in parts.items():
                path, what = tuple(model.encoders.get(part, ())), f"{copy!r} is no copy of {name}.{part}"
                own = beginning.weights(copy)
                made = tuple(_like(trees.subtree(s, path), o, (), what) for s, o in zip(source, own))
                if copy in begun and not _equal(begun[copy], made):
                    raise ValueError(
                        f"{copy!r} is to be the copy of parts of several networks, {name!r} among them, which do "
                        "not begin alike: give each a copy of its own in blend.copies"
                    )
                begun[copy] = made
                beginning = beginning.with_weights(copy, *made)
        return beginning

    return enter


def _equal(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


# ---------------------------------------------------------------------------- weights
def _write(path: pathlib.Path, note: Mapping) -> None:
    if jax.process_index() == 0:
        files.write_json(path, note)


def estimating(leave: Callable, asked: Mapping[str, tuple[Probe, Mapping]]) -> Callable:
    """Returns ``leave`` followed by the weights of all segments that want some, {segment: (probe, options)}, into
    the probe's `blends.NAME`: {'segments': {segment: note}}."""

    def left(state: TrainState, directory: pathlib.Path) -> None:
        leave(state, directory)
        if jax.process_index() == 0:
            notes = {name: probe.note(directory.parent, options) for name, (probe, options) in asked.items()}
            files.write_json(directory / blends.NAME, {"segments": notes})

    return left


def _estimated(workdir: pathlib.Path, segment: str, probe: Probe, options: Mapping) -> dict:
    """The note of the weights of a segment, as its probe has left it. One that was reused from a run with other
    options is made again of the same scores."""
    path = workdir / probe.segments[-1] / blends.NAME
    note = files.read_note(path).get("segments", {}).get(segment, {})
    same = all(note.get("options", {}).get(name) == value for name, value in blends.how(options).items())
    return note if note and same and note["probe"] == list(probe.segments) else probe.note(workdir, options)


def weighing(enter: Callable, segment: str, probe: Probe, options: Mapping) -> Callable:
    """Returns ``enter`` followed by the weights that ``probe`` gives: they go into the method's state and, with
    what they follow from, into the ``segment``'s `blends.NAME`."""

    def entered(beginning: Beginning, run) -> Beginning:
        beginning = enter(beginning, run)
        # A resumed segment has its weights in its checkpoint.
        if not beginning.params:
            return beginning
        note = _estimated(run.workdir, segment, probe, options)
        _write(run.workdir / segment / blends.NAME, note)
        return beginning._replace(method={"weights": np.float32([*note["weights"].values()])})

    # Whoever follows a chain of continued segments back must find the way.
    entered.previous = getattr(enter, "previous", None)
    return entered


def keeping(leave: Callable, outputs: Sequence[str], parts: Sequence[str], source: str) -> Callable:
    """Returns ``leave`` followed by a note of weights that nothing was measured for, those of the method's last
    state: given by hand, or learnt."""

    def left(state: TrainState, directory: pathlib.Path) -> None:
        leave(state, directory)
        weights = np.asarray(jax.device_get(state.method["weights"]), np.float64)
        note = blends.by_hand(weights.tolist(), parts, source) | {"outputs": dict(zip(parts, outputs))}
        _write(directory / blends.NAME, note)

    return left


def resolved(text: str, outputs: Sequence[str], parts: Sequence[str]) -> str:
    """Returns the option `weights` with the numbers of a run in place of its folder. Raises ValueError where the
    folder has none."""
    if text == gblend.ESTIMATE or gblend.given(text, outputs) is not None:
        return text
    return ",".join(repr(weight) for weight in blends.of_run(pathlib.Path(text), parts))
