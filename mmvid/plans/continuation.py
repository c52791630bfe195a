"""A segment that goes on where another one ended: with its checkpoint, not with its weights alone."""

from collections.abc import Callable, Mapping

import jax

from mmvid import checkpoint, network, sharding
from mmvid.network import Beginning
from mmvid.plans.segment import Segment


def _tree(segment: Segment, beginning: Beginning, ema: bool, mesh):
    """The shapes of a segment's state, replicated over ``mesh``."""

    def state(beginning, key):
        return network.begin(beginning, segment.method, segment.tx, key, ema=ema)

    fresh = beginning._replace(method=None, opt_state=None, ema=None)
    shapes = jax.eval_shape(state, fresh, jax.random.key(0))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)), shapes
    )


def from_checkpoint(previous: Segment) -> Callable:
    """An ``enter`` that gives what ``previous`` ended with: the last checkpoint's weights, statistics,
    method's state, optimisers' and average, never the file of weights, which may be of the average or
    the best step. Teachers are entered as ``previous`` enters them.

    It raises ValueError where that checkpoint is gone, damaged or of another step.
    """

    def enter(beginning: Beginning, run) -> Beginning:
        directory = run.workdir / previous.name / "checkpoints"
        frozen = _frozen(previous, beginning, run)
        with checkpoint.opened(directory) as checkpoints:
            found = checkpoint.latest_step(checkpoints)
            if found != previous.stop:
                raise ValueError(
                    f"{directory} ends at step {found or 0}, not at {previous.stop}, where the segment "
                    f"{previous.name!r} ends and the next one begins. Delete the folder {directory.parent}: the "
                    f"same command then trains {previous.name!r} again."
                )
            like = _tree(previous, beginning, run.config.ema > 0, run.mesh)
            hashes = checkpoint.digests(frozen)
            state = checkpoint.restore(checkpoints, like._replace(frozen={}), frozen=hashes)
        return Beginning(state.params, state.stats, frozen, state.method, state.opt_state, state.ema, found)

    enter.previous = previous
    return enter


def _frozen(previous: Segment, beginning: Beginning, run) -> dict:
    """The teachers of a chain of segments, as its first one enters them."""
    if not beginning.frozen:
        return {}
    while continued := getattr(previous.enter, "previous", None):
        previous = continued
    return previous.enter(beginning, run).frozen


def after(previous: Segment, name: str, steps: int) -> Segment:
    """The segment ``name`` that goes on for ``steps`` where ``previous`` ends: on the same networks, with
    the same method, batches, keys and rates, as if there were no boundary; a plan may replace what it
    likes. Its compiled step is that of ``previous``."""
    spec = previous.spec and {
        **previous.spec, "steps": steps, "first_step": previous.stop,
        "starts": {"continued": {"segment": previous.name}},
    }  # fmt: skip
    return previous._replace(
        name=name, steps=steps, first_step=previous.stop, enter=from_checkpoint(previous), spec=spec
    )


def cut(whole: Segment, pieces: Mapping[str, int]) -> list[Segment]:
    """``whole`` in ``pieces`` {name: steps}, one after another, which end as it would, bit for bit.

    Raises ValueError where their steps are not those of the whole.
    """
    if not pieces or min(pieces.values()) < 1 or sum(pieces.values()) != whole.steps:
        raise ValueError(
            f"pieces of {dict(pieces)} steps are not the {whole.steps} of segment {whole.name!r}: give each 1 or "
            "more, in all as many as the whole"
        )
    (name, steps), *rest = pieces.items()
    first = whole._replace(name=name, steps=steps, spec=whole.spec and {**whole.spec, "steps": steps})
    segments = [first]
    for name, steps in rest:
        segments.append(after(segments[-1], name, steps))
    return segments
