"""All forwards that a method asks for: from a batch to the outputs of its passes."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmvid import network as network_lib
from mmvid import operations
from mmvid.methods.base import Method, Pass, group_without
from mmvid.network import Network, Streams, TrainState
from mmvid.prepare import prepare


def _fill_absent(x: jax.Array, present: jax.Array) -> jax.Array:
    """Fills rows whose stream is absent with rows that have it, in turn: x [B, ..], present [B].

    Batch norm must not count black clips. What comes out of filled rows enters no loss.
    """
    rows = jnp.arange(len(present))
    first = jnp.argsort(~present, stable=True)  # the present ones
    chosen = jnp.where(present, rows, first[rows % jnp.maximum(present.sum(), 1)])
    # Where nobody is absent, nothing is copied (nor gathered from other devices).
    return jax.lax.cond(present.all(), lambda x: x, lambda x: x[chosen], x)


def _shown(batch, pass_: Pass) -> dict:
    """Returns the batch as a pass shows it: streams that it hides are marked absent, and black."""
    if not pass_.hide:
        return batch

    # For ``present`` zeros are False.
    def black(arrays: dict) -> dict:
        return {name: jnp.zeros_like(x) if name in pass_.hide else x for name, x in arrays.items()}

    def without(group: dict) -> dict:
        views = {view: black(arrays) for view, arrays in group["inputs"].items()}
        return group | {"inputs": views, "present": black(group["present"])}

    return batch | {group: without(batch[group]) for group, _ in pass_.of}


def with_presence(networks, passes, batch) -> dict:
    """Returns the batch as a method sees it.

    ``present`` tells of outputs, no longer of streams, and a group of which a pass hides streams also
    stands under its `group_without` name.
    """
    groups = dict(batch)
    for pass_ in passes:
        shown = _shown(batch, pass_)
        groups |= {group_without(group, pass_.hide): shown[group] for group, _ in pass_.of}
    return {name: group | {"present": network_lib.presence(networks, group)} for name, group in groups.items()}


def _gathered(batch, of, streams: Streams, *, fill: bool) -> dict:
    """Joins the views of a pass into one batch of prepared inputs: {stream: [sum of B_g, T, H, W, C]}.

    Absent rows are black, or ``fill``-ed with present ones.
    """
    names = batch[of[0][0]]["inputs"][of[0][1]]

    def prepared(name, group, view):
        own = batch[group]
        x = own["inputs"][view][name]
        # Before the draws, which are of rows: a filled row is augmented in its own way.
        x = _fill_absent(x, own["present"][name]) if fill else x
        drawn = own.get("draws", {}).get(view, {})
        seen = prepare(streams[name], operations.paint(streams[name], x, drawn))
        return operations.paint(streams[name], seen, drawn, late=True)

    def joined(name):
        x = jnp.concatenate([prepared(name, *view) for view in of])
        if not fill or len({group for group, _ in of}) == 1:
            return x
        # A group that lacks the stream altogether has no row to show: it shows those of other groups.
        some = [jnp.broadcast_to(flag.any(), flag.shape) for flag in (batch[g]["present"][name] for g, _ in of)]
        return _fill_absent(x, jnp.concatenate(some))

    return {name: joined(name) for name in names}


def _joined_presence(batch, of) -> dict:
    """Joins the presence of the views of a pass: {stream: bool [sum of B_g]}."""
    names = batch[of[0][0]]["present"]
    return {name: jnp.concatenate([batch[group]["present"][name] for group, _ in of]) for name in names}


def _seen(network: Network, batch, of) -> jax.Array:
    """Tells if every stream of a network is there in some example of every group: a bool scalar.

    For a model that is told who is present, one of its streams is enough.
    """
    streams = dict.fromkeys(stream for read in network.reads for stream in read)
    found = [[batch[group]["present"][stream].any() for stream in streams] for group, _ in of]
    # In any group: batch norm's statistics are of the joint batch, in which absent rows show present ones.
    found = jnp.array(found).any(0)
    return found.any() if network.told else found.all()


def _choice(network: Network, pass_: Pass, batch) -> jax.Array | None:
    """Returns the index, on the device, of the read that a network runs in a pass, or None for all.

    Raises ValueError if the batch does not say which.
    """
    if not pass_.one_of or len(network.reads) == 1:
        return None
    drawn = batch[pass_.of[0][0]].get("one_of", {})
    if network.name not in drawn:
        raise ValueError(
            f"a pass runs one of the streams of network {network.name!r}, but its batch does not say which: the "
            f"loader draws it where Pass(one_of=True), and puts its index into batch[group]['one_of']"
        )
    return drawn[network.name]


def _split(outputs, of, sizes) -> dict:
    """Undoes the concatenation of a pass's views: {(group, view): outputs}."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return {
        view: jax.tree.map(lambda x, s=start, n=size: x[s : s + n], outputs)
        for view, start, size in zip(of, starts, sizes)
    }


def _has_learnt(network: Network, batch, of, choice) -> jax.Array:
    """Tells if a pass has shown a network anything that its batch statistics may follow: a bool scalar.

    Those of a network that runs one of its reads a step follow the first, which is the one that is scored.
    """
    if choice is None:
        return _seen(network, batch, of)
    # A mean over modalities would be that of none: with it, a batch norm that had learnt from pictures of each
    # alone recognised nothing in evaluation.
    return (choice == 0) & _seen(network._replace(reads=network.reads[:1]), batch, of)


def _run_pass(pass_: Pass, networks, weights: dict, batch, streams, key):
    """Runs every network of a pass, in one forward each -> ({(group, view): outputs}, new stats)."""
    batch, told = _shown(batch, pass_), any(network.told for network in networks)
    # Made once for all networks: those that read one stream share its prepared clips.
    filled = _gathered(batch, pass_.of, streams, fill=True)
    as_it_is = _gathered(batch, pass_.of, streams, fill=False) if told else {}
    present = _joined_presence(batch, pass_.of) if told else {}
    outputs, stats = {}, {}
    for network in networks:
        own, choice = weights[network.name], _choice(network, pass_, batch)
        result, new = network_lib.forward(
            network,
            own["params"],
            own["stats"],
            as_it_is if network.told else filled,
            train=pass_.train,
            # By the name, so that a network draws the same whichever others there are.
            key=jax.random.fold_in(key, zlib.crc32(network.name.encode())),
            present=present,
            choice=choice,
        )
        outputs |= result
        # A batch without any example for this network teaches its statistics nothing either.
        seen = _has_learnt(network, batch, pass_.of, choice)
        stats[network.name] = jax.tree.map(
            lambda new, old, seen=seen: jnp.where(seen, new, old), new, own["stats"]
        )
    of = [(group_without(group, pass_.hide), view) for group, view in pass_.of]
    return _split(outputs, of, [batch[group]["mask"].shape[0] for group, _ in pass_.of]), stats


def _networks_of(pass_: Pass, networks) -> list[Network]:
    """Returns the teachers for a pass of 'frozen' weights, the networks that learn for any other."""
    return [n for n in networks if n.frozen == (pass_.weights == "frozen")]


def _weights_of(pass_, state: TrainState, params, stats) -> dict:
    """Returns the weights that a pass asks for: {network: {'params', 'stats'}}."""
    if pass_.weights == "frozen":
        return state.frozen
    if pass_.weights == "ema":
        params, stats = state.ema["params"], state.ema["stats"]
    return {name: {"params": params[name], "stats": stats[name]} for name in params}


def _merged(read: tuple[str, str], one: dict, other: dict) -> dict:
    """Joins the outputs of two passes. Raises ValueError, while the step is traced, if both give one name."""
    if twice := sorted(set(one) & set(other)):
        raise ValueError(
            f"two passes give the output {twice[0]!r} of {read}, and a method could not tell them apart: let "
            "one of them be of another view"
        )
    return one | other


def make_forwards(networks, streams: Streams, method: Method) -> Callable:
    """Makes forwards(params, state, stats, batch, key) -> ({(group, view): outputs}, stats).

    They run all passes of the method, one after another. ``params`` stand beside ``state`` because the
    loss is differentiated by them.
    """

    def forwards(params, state: TrainState, stats, batch, key):
        outputs: dict = {}
        for index, pass_ in enumerate(method.passes):
            chosen = _networks_of(pass_, networks)
            weights = _weights_of(pass_, state, params, stats)
            pass_key = jax.random.fold_in(key, index)
            results, new_stats = _run_pass(pass_, chosen, weights, batch, streams, pass_key)
            for read, result in results.items():
                outputs[read] = _merged(read, outputs.get(read, {}), result)
            # Teachers and moving averages keep their statistics, whatever mode they run in.
            if pass_.train and pass_.weights == "params":
                stats = stats | new_stats
        return outputs, stats

    return forwards


def which_ran(networks, passes, batch) -> dict:
    """Tells the log which read ran: {'output/shown': 1 or 0} for networks that ran one of several."""
    metrics = {}
    for pass_ in passes:
        for network in _networks_of(pass_, networks):
            choice = _choice(network, pass_, batch)
            if choice is not None:
                for index, output in enumerate(network.outputs):
                    metrics[f"{output}/shown"] = jnp.float32(choice == index)
    return metrics
