"""What G-Blend's segments begin and end with: copies of a network's parts, and the weights that these give."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from mmvid import files, network, sharding, transfer, usage
from mmvid.methods import gblend
from mmvid.network import Beginning, Network, TrainState
from mmvid.plans.segment import Segment
from mmvid.plans.starts import afresh, in_turn
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
def drawing(segment: Segment) -> Callable:
    """Returns ``drawn(config) -> Beginning``, the draws of a segment's networks: compiled once, however many
    segments begin with them."""
    compiled = functools.cache(lambda size: jax.jit(network.make_draw(segment, size)))

    def drawn(config) -> Beginning:
        weights = network.draw_weights(segment, config.size, config.seed, compiled(config.size))
        return network.beginning(segment.networks, *weights, segment.first_step)

    return drawn


def _shapes(segment: Segment, config) -> Beginning:
    """The draws of a segment's networks in shapes and types alone: nothing is computed."""
    return network.beginning(
        segment.networks, *jax.eval_shape(network.make_draw(segment, config.size), jax.random.key(0))
    )


def _with_encoders(beginning: Beginning, drawn: Beginning, networks: Sequence[Network], copies) -> Beginning:
    """Returns ``beginning`` with the encoders of its ``networks`` as they are ``drawn`` in ``copies`` {stream:
    network}. Classifiers keep their own draws: some begin at zero."""
    for made in networks:
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
    return beginning


def alike(segment: Segment, singles: Segment, drawn: Callable, copies: Mapping[str, str]) -> Segment:
    """Returns ``segment`` with an ``enter`` by which the encoders of its fusions begin with the draws of networks
    of one stream, ``copies`` {stream: network of ``singles``}, as ``drawn`` gives them; then comes its own one.

    All fusions of a run so begin with the same encoders, and the networks of one stream are copies of each one's
    parts. Its ``check`` raises ValueError for an encoder that is made in another way than such a network.
    """

    def drawing_alike(beginning: Beginning, run) -> Beginning:
        return _with_encoders(beginning, drawn(run.config), segment.networks, copies)

    def check(run) -> None:
        own, others = (_shapes(made, run.config) for made in (segment, singles))
        _with_encoders(own, others, segment.networks, copies)

    if not copies:
        return segment
    return segment._replace(enter=in_turn(afresh(drawing_alike), segment.enter), check=check)


def copying(wholes: Mapping[str, Segment], copies: Copies, then: Callable) -> Callable:
    """Returns an ``enter`` that begins copies of networks with what these begin with in ``wholes`` {network: the
    segment in which it is about to train}: weights and batch statistics, and nothing else, so that optimisers
    begin afresh; ``then`` is the ``enter`` that follows. Raises ValueError for a copy of two networks that do not
    begin alike there."""

    @afresh
    def copied(beginning: Beginning, run) -> Beginning:
        begun: dict[str, tuple] = {}
        for copy, part, source in _parts(wholes, copies, run):
            pairs, what = zip(source, beginning.weights(copy)), f"{copy!r} is no copy of {part}"
            made = tuple(_like(theirs, own, (), what) for theirs, own in pairs)
            if not _equal(begun.setdefault(copy, made), made):
                raise ValueError(
                    f"{copy!r} is to be the copy of several parts, {part} among them, which do not begin alike: "
                    "give each a copy of its own in blend.copies"
                )
            beginning = beginning.with_weights(copy, *made)
        return beginning

    return in_turn(copied, then)


def _parts(wholes: Mapping[str, Segment], copies: Copies, run) -> Iterator[tuple]:
    """Yields each copy, the name of the part that it copies, and what this begins with, (params, stats)."""
    for name, parts in copies.items():
        whole = wholes[name]
        source = whole.enter(drawing(whole)(run.config), run).weights(name)
        model = next(made.model for made in whole.networks if made.name == name)
        for part, copy in parts.items():
            path = tuple(model.encoders.get(part, ()))
            yield copy, f"{name}.{part}", tuple(trees.subtree(tree, path) for tree in source)


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

        def write() -> None:
            notes = {name: probe.note(directory.parent, options) for name, (probe, options) in asked.items()}
            files.write_json(directory / blends.NAME, {"segments": notes})

        # What cannot be weighed ends all processes: one alone would let the others wait.
        sharding.on_first(write, f"weighing what {directory} has measured")

    return left


def _estimated(workdir: pathlib.Path, segment: str, probe: Probe, options: Mapping) -> dict:
    """The note of the weights of a segment, as its probe has left it. One that was reused from a run with other
    options is made again of the same scores."""
    path = workdir / probe.segments[-1] / blends.NAME
    note = files.read_note(path).get("segments", {}).get(segment, {})
    same = all(note.get(name) == value for name, value in probe.basis(options).items())
    return note if same else probe.note(workdir, options)


def weighing(enter: Callable, segment: str, probe: Probe, options: Mapping) -> Callable:
    """Returns ``enter`` followed by the weights that ``probe`` gives: they go into the method's state and, with
    what they follow from, into the ``segment``'s `blends.NAME`."""

    @afresh
    def weighed(beginning: Beginning, run) -> Beginning:
        note = _estimated(run.workdir, segment, probe, options)
        _write(run.workdir / segment / blends.NAME, note)
        return _by(beginning, [note["weights"][part] for part in probe.outputs])

    return in_turn(enter, weighed)


def given(enter: Callable, weights: Sequence[float]) -> Callable:
    """Returns ``enter`` followed by ``weights`` that nothing was measured for: they go into the method's state."""
    return in_turn(enter, afresh(lambda beginning, run: _by(beginning, weights)))


def _by(beginning: Beginning, weights: Sequence[float]) -> Beginning:
    return beginning._replace(method={"weights": np.float32(weights)})


def keeping(leave: Callable, outputs: Sequence[str], parts: Sequence[str], source: str) -> Callable:
    """Returns ``leave`` followed by a note of weights that nothing was measured for, those of the method's last
    state: given, or learnt; ``source`` says whose they are."""

    def left(state: TrainState, directory: pathlib.Path) -> None:
        leave(state, directory)
        weights = np.asarray(jax.device_get(state.method["weights"]), np.float64)
        note = blends.unmeasured(weights.tolist(), parts, source) | {"outputs": dict(zip(parts, outputs))}
        _write(directory / blends.NAME, note)

    return left


def resolved(text: str, outputs: Sequence[str], parts: Sequence[str]) -> str:
    """Returns the option `weights` with the numbers of a run in place of its folder. Raises ValueError where the
    folder has none."""
    if text == gblend.ESTIMATE or gblend.given(text, outputs) is not None:
        return text
    folder = transfer.fetched(text, transfer.without_checkpoints) if usage.scheme(text) else pathlib.Path(text)
    return ",".join(repr(weight) for weight in blends.of_run(folder, parts))


def forget_gone(config) -> None:
    """Puts equal weights in place of folders of runs that are gone, in the configuration of a run that has ended:
    its own weights stand in its checkpoints."""
    for spec in (config.method.gblend, *config.blend.arms.values()):
        text = spec.get("weights", gblend.EQUAL)
        if gblend.is_folder(text) and not pathlib.Path(text).exists():
            spec.weights = gblend.EQUAL
