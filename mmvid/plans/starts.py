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
from mmvid.network import Beginning, Network, TrainState, final_weights, init_params
from mmvid.streams import Head, Stream
from mmvid.weights import files, names_resnet, trees

STILLS = "stills"


class Start(NamedTuple):
    """Where a network's weights come from: ``segment`` and ``network`` of this run, or ``file``."""

    segment: str = ""
    network: str = ""
    file: str = ""


def _describe(networks, heads: dict[str, Head]) -> dict[str, str]:
    names = {name: list(head.names) or head.classes for name, head in heads.items()}
    return {"networks": json.dumps([n.name for n in networks]), "heads": json.dumps(names)}


def keep_weights(networks, heads) -> Callable:
    """A ``leave`` that writes the final weights to ``<segment>/weights.safetensors``."""

    def leave(state: TrainState, directory: pathlib.Path) -> None:
        final = jax.device_get(final_weights(state))
        tree = {n: {kind: final[kind][n] for kind in ("params", "stats")} for n in final["params"]}
        if jax.process_index() == 0:
            path = directory / "weights.safetensors"
            files.save(path, tree, _describe(networks, heads))

    return leave


def _from_segment(start: Start, params, stats, workdir: pathlib.Path, heads):
    """Weights of another segment: first convolution averaged, classifier kept for equal heads.

    Everything goes over, batch statistics too; a classifier of other classes starts afresh. Raises
    FileNotFoundError, or ValueError where the two networks are not of one architecture.
    """
    path = workdir / start.segment / "weights.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: segment {start.segment!r} must end before this one starts. "
            "Run the same command again, or give another --workdir."
        )
    tree, metadata = files.read(path)
    source = tree[start.network]
    new = trees.fit_input_channels(source["params"], params)
    if metadata["heads"] != _describe((), heads)["heads"]:
        new = _with_classifiers_of(params, new)
    _check_fit(path, start.network, (new, source["stats"]), (params, stats))
    return new, source["stats"]


def _with_classifiers_of(own: dict, params: dict) -> dict:
    """``params`` with the classifiers of ``own``; of each member where several share features."""
    if inside := names_resnet.members(own):
        return {**params, **{n: _with_classifiers_of(own[n], params.get(n, {})) for n in inside}}
    return {**params, "classifier": own["classifier"]}


def _check_fit(path: pathlib.Path, network: str, found, wanted) -> None:
    """Raises ValueError naming a tensor where two networks are not of one architecture."""
    have, want = (
        {jax.tree_util.keystr(p, simple=True, separator="/"): np.shape(x)
         for p, x in jax.tree_util.tree_leaves_with_path(tree)} for tree in (found, wanted)
    )  # fmt: skip
    for name in sorted(have | want):
        if have.get(name) != want.get(name):
            raise ValueError(
                f"{path}: network {network!r} has {name.partition('/')[2]} of shape {have.get(name)}, "
                f"the network that should start from it {want.get(name)}. Give both the same model, "
                "width and stages."
            )


def inherits(start: Start, heads) -> bool:
    """Whether a start's classifier goes over, as well as the rest: its classes are these."""
    return not start.file or files.metadata(start.file).get("heads") == _describe((), heads)["heads"]


def _from_file(start: Start, model: str, params, stats, heads):
    """Published weights, or those of another run of ours."""
    classifier = "load" if inherits(start, heads) else "skip"
    return weights.load(model, start.file, params=params, stats=stats, classifier=classifier)


def starting_from(starts: dict[str, Start], models: dict[str, str], heads) -> Callable:
    """An ``enter`` that gives each network its start; a network without one keeps its draw."""

    def enter(beginning: Beginning, run) -> Beginning:
        for name, start in starts.items():
            own = beginning.weights(name)
            if start.file:
                made = _from_file(start, models[name], *own, heads)
            else:
                made = _from_segment(start, *own, run.workdir, heads)
            beginning = beginning.with_weights(name, *made)
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


# Options that do not shape a network's tree of weights; whom it shares features with does.
_SHAPELESS = ("dropout", "dtype", "remat", "frozen_bn", "share")


def _architecture(config, name: str) -> str:
    """What two networks must agree in where weights go from one to the other, as text."""
    spec = config.networks[name]
    options = {**config.model_options, **{k: v for k, v in spec.options.items() if v is not None}}
    shape = [f"{k}={v}" for k, v in sorted(options.items()) if v is not None and k not in _SHAPELESS]
    shared = [f"shared by {' + '.join(read)}" for read in spec.reads if len(read) > 1]
    return f"({', '.join([spec.model, *shape, *shared])})"


def check_models(config, starts: dict[str, Start]) -> None:
    """Weights go from network to network only where the architecture is one. Raises ValueError."""
    for name, start in starts.items():
        own, other = (_architecture(config, n) for n in (name, start.network or name))
        if start.segment and own != other:
            raise ValueError(
                f"network {name!r} {own} cannot start from the weights of {start.network!r} {other} as plan "
                f"{config.plan!r} wants: give both the same model, width, stages and sharing, or take plan "
                "'single'"
            )


def check_files(config, networks, streams, starts: dict[str, Start], heads) -> None:
    """Files of weights are there and fit, before anything is trained. Raises as weights.load."""
    for network in networks:
        start = starts.get(network.name, Start())
        if start.file:
            draw = functools.partial(init_params, (network,), streams, 32)
            drawn = jax.eval_shape(draw, jax.random.key(0))
            params, stats = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), drawn)
            model = config.networks[network.name].model
            _from_file(start, model, params[network.name], stats[network.name], heads)


def check_starts(config, networks, streams, starts: dict[str, Start]) -> None:
    """`refuse_equals` as far as it can be seen before anything is trained."""
    for i, a in enumerate(networks):
        for b in networks[i + 1 :]:
            one, other = starts.get(a.name), starts.get(b.name)
            same = config.networks[a.name].model == config.networks[b.name].model
            if one and one == other and same and _inputs_of(a, streams) == _inputs_of(b, streams):
                raise ValueError(_EQUAL.format(a=a.name, b=b.name))
