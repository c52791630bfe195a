"""Checks, before anything is trained, that weights will fit into the networks that start from them, and that
teachers come trained."""

import functools
import json
from collections.abc import Mapping

import jax
import numpy as np

from mmvid import weights
from mmvid.models import options_of
from mmvid.network import Network, init_params
from mmvid.plans import keys
from mmvid.plans import starts as starts_lib
from mmvid.plans.networks import make_network, make_streams
from mmvid.plans.starts import Start
from mmvid.weights import files as weight_files
from mmvid.weights import trees

# Options that do not shape what goes from one network to another; whom it shares features with does.
_SHAPELESS = ("dropout", "drop_path", "dtype", "remat", "frozen_bn", "share", "unimodal")


def _architecture(config, name: str) -> str:
    """Describes what two networks must agree in for weights to go from one to the other; the text is also
    what the error message shows."""
    spec = config.networks[name]
    known = options_of(spec.model)
    # As `networks.make_network`: options for all networks count where a model has them, its own go first.
    common = {k: v for k, v in config.model_options.items() if k in known}
    options = common | {k: v for k, v in spec.options.items() if v is not None}
    shape = [f"{k}={v}" for k, v in sorted(options.items()) if v is not None and k not in _SHAPELESS]
    # Members are alike, whatever they read; the encoders of a fusion are made for their streams.
    how = [
        f"{len(read)} that share features" if options.get("share") else f"of {' + '.join(read)}"
        for read in spec.reads
        if len(read) > 1
    ]
    return f"({', '.join([spec.model, *shape, *how])})"


def _blank(network: Network, streams) -> tuple:
    """Zeros in the shapes of a network's (params, stats)."""
    # 32 pixels a side: a forward is traced for its shapes, nothing is computed.
    drawn = jax.eval_shape(functools.partial(init_params, (network,), streams, 32), jax.random.key(0))
    return tuple(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree[network.name]) for tree in drawn)


# {what a network is made of, as text: the network and its blanks}. Plans of many segments ask for the same ones.
_MADE: dict[str, tuple[Network, tuple]] = {}


def _made(config, name: str, heads) -> tuple[Network, tuple]:
    """A network of the configuration, and its blanks."""
    parts = (config.networks[name], config.model_options, config.streams, heads)
    described = json.dumps([name, *map(keys.plain, parts)], sort_keys=True)
    if described not in _MADE:
        streams = make_streams(config)
        network = make_network(config, name, heads, streams)
        _MADE[described] = network, _blank(network, streams)
    return _MADE[described]


def _check_known(config, start: Start) -> None:
    if start.network not in config.networks:
        raise ValueError(f"no network {start.network!r} to start from; there are {sorted(config.networks)}")


def _held(config, start: Start, heads) -> weights.Found:
    """Returns what ``start``'s network, or its part, will hold at the end of its segment, with zeros in place
    of weights that are not trained yet. Raises ValueError for an unknown network or part."""
    _check_known(config, start)
    source, (params, stats) = _made(config, start.network, heads)
    name = f"segment {start.segment!r}: network {start.network!r}"
    return weights.part_of({"params": params, "stats": stats}, source.model, start.part, name)


def _check_segment(config, network: Network, target: str, start: Start, heads) -> None:
    """Raises ValueError where the weights of an earlier segment's network do not fit ``target``."""
    # Part of a network: the trees themselves are compared, since the two networks differ as wholes.
    if start.part or "." in target:
        held = _held(config, start, heads)
        part = f", part {start.part!r}" if start.part else ""
        source = f"segment {start.segment!r}, network {start.network!r}{part}"
        fit = functools.partial(weights.fitted, held, f"network {target!r}", source)
        path = starts_lib.place((network,), target)[1]
        starts_lib.filled(network, path, _made(config, network.name, heads)[1], fit)
        return
    _check_known(config, start)
    own, other = (_architecture(config, n) for n in (network.name, start.network))
    if own != other:
        raise ValueError(
            f"network {network.name!r} {own} cannot start from the weights of {start.network!r} {other} as plan "
            f"{config.plan!r} wants: give both the same model, width, stages and sharing, or take plan "
            "'single'"
        )


def check(config, networks, starts: dict[str, Start], heads) -> None:
    """Checks every start: that a file of weights is there and fits its target, and that a network of this
    run fits the one that starts from it. Raises ValueError or FileNotFoundError that names the file,
    network and part."""
    for target, start in starts.items():
        network, path = starts_lib.place(networks, target)
        if start.segment:
            _check_segment(config, network, target, start, heads)
        else:
            with starts_lib.of_option(network.name):
                load = starts_lib.loading(start, start.file, target, heads)
                starts_lib.filled(network, path, _blank(network, make_streams(config)), load)


def _inherits(config, start: Start, heads) -> bool:
    """Whether a start brings its classifier along: it has one, for the same classes as ``heads``."""
    if start.file:
        same = starts_lib.same_heads(start.file, heads)
        return same and bool(weights.found(start.file, part=start.part).layout.classifiers)
    # Stills have label spaces of their own; other segments learn those of this run.
    pictures = starts_lib.is_stills(start.segment)
    if pictures or not start.part:
        return not pictures
    return bool(_held(config, start, heads).layout.classifiers)


def fresh(config, network: Network, starts: dict[str, Start], heads) -> tuple[trees.Path, ...]:
    """Paths, in a network's tree, of the classifiers that start from a random draw because no start brings
    them. They learn at another rate (`learning.of`)."""
    kept = tuple(
        starts_lib.place((network,), target)[1]
        for target, start in starts.items()
        if target.partition(".")[0] == network.name and _inherits(config, start, heads)
    )
    return tuple(path for path in network.model.classifiers if not trees.within(path, kept))


# ---------------------------------------------------------------------------- teachers
def _inputs(config, name: str, part: str) -> list[tuple]:
    """What a network, or its ``part``, reads: of each stream the modality and the form. Two networks that agree
    in it see the same kind of thing, whatever their streams are called."""
    reads = ((part,),) if part else config.networks[name].reads
    return [tuple((config.streams[s].modality, config.streams[s].form) for s in read) for read in reads]


def _told(start: Start) -> tuple[str, list[tuple]] | None:
    """What a file says of its network: (model, what it reads, as `_inputs`); None for a file from before that was
    written. Of a part the model is ''."""
    _, name = weight_files.split(start.file)
    known = weight_files.told(weight_files.metadata(start.file), "inputs", start.file, "{}")
    name = name or "".join(known if len(known) == 1 else ())
    whole, part = (name, start.part) if name in known else (name.rpartition(".")[0], name.rpartition(".")[2])
    if whole not in known:
        return None
    reads = known[whole]["reads"]
    if part:
        reads = [[seen for seen in read if seen[0] == part] for read in reads]
    inputs = [tuple((modality, form) for _, modality, form in read) for read in reads]
    return "" if part else known[whole]["model"], inputs


def _first_channels(params: Mapping, firsts) -> list[int]:
    return [trees.subtree(params, first)["kernel"].shape[-2] for first in firsts]


def _misread(config, network: Network, target: str, start: Start) -> str:
    """Why the weights of a file do not know what a network reads, as the end of a sentence about the network; ''
    where they do."""
    part, told = target.partition(".")[2], _told(start)
    model = "" if part or (told and not told[0]) else config.networks[network.name].model
    own = model, _inputs(config, network.name, part)
    if told and (told[0] if model else "", told[1]) != own:
        return f"{start.file} was trained as {_written(*told)}, and {target!r} is {_written(*own)}"
    have, path = weights.found(start.file, part=start.part), starts_lib.place((network,), target)[1]
    ours = trees.part_of(network.model, path) if path else network.model
    params = trees.subtree(_blank(network, make_streams(config))[0], path)
    theirs = trees.unflatten({p[1:]: value for p, value in have.placed.items() if p[0] == "params"})
    channels = [
        _first_channels(tree, of.first_convolutions) for tree, of in ((theirs, have.layout), (params, ours))
    ]
    # Averaged over its channels, a network starts well; it does not know what it was trained to know.
    if channels[0] != channels[1]:
        return f"{start.file} reads inputs of {channels[0]} channels, and {target!r} of {channels[1]}"
    return ""


def _written(model: str, inputs: list[tuple]) -> str:
    read = " and ".join(" + ".join(f"{modality} ({form})" for modality, form in read) for read in inputs)
    return f"{model} on {read}".removeprefix(" on ")


def _untaught(config, network: Network, starts: Mapping[str, Start]) -> str:
    """Why the weights that a network starts from cannot teach, as the end of a sentence about the network; ''
    where they can."""
    for target, start in starts.items():
        part, source = target.partition(".")[2], start.network
        # What files were trained to read, these say (`_misread`).
        if start.segment and _inputs(config, network.name, part) != _inputs(config, source, start.part):
            return f"starts from {source!r} of segment {start.segment!r}, which reads something else"
    return ""


def check_teachers(config, networks, starts: dict[str, Start], heads) -> None:
    """Raises ValueError for a frozen network that does not start with weights and classifiers trained for these
    classes and for what it reads."""
    for network in (n for n in networks if n.frozen):
        own = {target: start for target, start in starts.items() if target.partition(".")[0] == network.name}
        files = [start.file for start in own.values() if start.file]
        lacking = not own or bool(fresh(config, network, starts, heads))
        if lacking and files:
            raise ValueError(
                f"network {network.name!r} is a frozen teacher, but {files[0]} brings no classifier for "
                f"{sorted(heads)}: name a weights.safetensors of a run with these classes"
            )
        for target, start in own.items():
            if start.file and (why := _misread(config, network, target, start)):
                raise ValueError(
                    f"network {network.name!r} is a frozen teacher, but {why}: name the weights.safetensors of a "
                    "run that trained such a network"
                )
        why = "starts from no weights that were trained for these classes" if lacking else ""
        if why := why or _untaught(config, network, own):
            raise ValueError(
                f"network {network.name!r} is a frozen teacher, but {why} in plan {config.plan!r}: take "
                "--config.plan=compare, with 'independent' before the method in --config.compare, or, in place of "
                f"it, a run's weights.safetensors in --config.networks.{network.name}.weights"
            )
