"""What a super-epoch has made of the encoders, by G-Blend and by naive joint training (Wang et al. 2020, figure
5b): a joint classifier is trained anew on each, alike, and the encoders do not change any more.

The paper fixes the trunk and fine-tunes the classifier of both; with what, and for how long, it does not say. Here
both classifiers begin with one draw and see the same batches at the same rates, of the clips that the probe
has learnt from, with the encoders in evaluation mode. The naive super-epoch is the probe's own joint copy: from
the same snapshot, on the same batches at the same rates; its momentum begins afresh.
"""

import pathlib
from collections.abc import Callable, Mapping

import jax

from mmvid import files
from mmvid.network import Beginning, TrainState
from mmvid.plans import segment
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start, afresh, in_turn
from mmvid.scores import blends


def asked(config) -> bool:
    """Whether ``blend.frozen_trunk`` asks for comparisons; '' and '0' do not."""
    return config.blend.frozen_trunk not in ("", "0")


def check(config) -> None:
    """Raises ValueError where comparisons are asked for and there is no super-epoch to compare."""
    blend = config.blend
    if asked(config) and not blend.super_epochs:
        raise ValueError(
            f"blend.frozen_trunk={blend.frozen_trunk!r} compares what super-epochs make of the encoders: set "
            "blend.super_epochs, or blend.frozen_trunk=''"
        )


def compared(
    context: Context, piece: Segment, probe: str, copies: Mapping[str, str], method: tuple, groups: Mapping
) -> Segment:
    """Makes the segment that compares what the super-epoch ``piece`` has made of the encoders of its network with
    what the joint copy of its ``probe`` has: both become naive networks with frozen encoders and a new classifier.
    ``copies`` {part of the network: its copy}, the joint one last; ``method`` trains each alone."""
    (owner,), (*streams, joint) = (made.name for made in piece.networks), copies
    naive, config = copies[joint], context.config.copy_and_resolve_references().unlock()
    config.networks[naive].options.frozen_trunk = True
    # One architecture, optimiser and schedule for both.
    config.networks[owner] = config.networks[naive].copy_and_resolve_references()
    # What is best by the clips of tables would be no longer alike.
    config.evaluation.checkpoint = "last"
    starts = {
        f"{network}.{stream}": Start(source, network, part=stream)
        for network, source in ((naive, probe), (owner, piece.name))
        for stream in streams
    }
    made = segment.make(
        context._replace(config=config.lock()), blends.trunk_of(piece.name), (naive, owner), method,
        config.blend.frozen_trunk, starts, batches=blends.TRUNK, title="", groups=groups,
    )  # fmt: skip
    note = {"steps": [piece.first_step, piece.stop], "retrained": made.steps, "naive": naive, "blended": owner}
    spec = {**made.spec, "classifiers": naive}
    return made._replace(
        enter=_alike(made.enter, naive, owner, streams), leave=_telling(made.leave, note), also=(), spec=spec
    )


def _alike(enter: Callable, source: str, target: str, streams: list[str]) -> Callable:
    """Returns ``enter``, after which all but the encoders of network ``target`` begins as in ``source``."""

    @afresh
    def alike(beginning: Beginning, run) -> Beginning:
        del run
        pairs = zip(beginning.weights(source), beginning.weights(target))
        filled = ({**theirs, **{stream: own[stream] for stream in streams}} for theirs, own in pairs)
        return beginning.with_weights(target, *filled)

    return in_turn(enter, alike)


def _telling(leave: Callable, note: Mapping) -> Callable:
    """Returns ``leave`` followed by a note of what is compared, for the report."""

    def left(state: TrainState, directory: pathlib.Path) -> None:
        leave(state, directory)
        if jax.process_index() == 0:
            files.write_json(directory / blends.COMPARED, note)

    return left
