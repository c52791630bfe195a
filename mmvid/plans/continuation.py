"""Segments that go on where another one ended: from its checkpoint, optimiser state included, not from its
weights alone."""

from collections.abc import Callable, Mapping

import jax

from mmvid import checkpoint, network, sharding
from mmvid.network import Beginning
from mmvid.plans.segment import Segment


def _tree(segment: Segment, beginning: Beginning, ema: bool, mesh):
    """The TrainState of a segment as shapes and types (no arrays), replicated over ``mesh``: what a
    checkpoint of it is restored into."""

    def state(beginning, key):
        return network.begin(beginning, segment.method, segment.tx, key, ema=ema)

    # None stands for a fresh state of these, which has the shapes of the one that was saved.
    fresh = beginning._replace(method=None, opt_state=None, ema=None)
    shapes = jax.eval_shape(state, fresh, jax.random.key(0))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)), shapes
    )


def from_checkpoint(previous: Segment) -> Callable:
    """Returns an ``enter`` that begins a segment with all that ``previous`` ended with: weights, batch
    statistics, the state of its method and optimisers, and the moving average.

    It reads the last checkpoint and not weights.safetensors, which may hold the moving average or the
    best step instead. Teachers are entered as ``previous`` enters them. The ``enter`` raises ValueError
    where that checkpoint is gone, damaged or of another step.
    """

    def enter(beginning: Beginning, run) -> Beginning:
        directory = run.workdir / previous.name / "checkpoints"
        frozen = _frozen(previous, beginning, run)
        # A resumed segment has a checkpoint of its own for all the rest.
        if not beginning.params:
            return beginning._replace(frozen=frozen)
        with checkpoint.opened(directory) as checkpoints:
            found = checkpoint.latest_step(checkpoints)
            if found != previous.stop:
                raise ValueError(
                    f"{directory} ends at step {found or 0}, not at {previous.stop}, where the segment "
                    f"{previous.name!r} ends and the next one begins. Delete the folder {directory.parent}: the "
                    f"same command then trains {previous.name!r} again."
                )
            like = _tree(previous, beginning, run.config.ema > 0, run.mesh)
            # A checkpoint holds no frozen weights, only their hashes, which must be those of today's.
            hashes = checkpoint.digests(frozen)
            state = checkpoint.restore(checkpoints, like._replace(frozen={}), frozen=hashes)
        return Beginning(state.params, state.stats, frozen, state.method, state.opt_state, state.ema, found)

    # `_frozen` walks back along it to the segment that starts the chain.
    enter.previous = previous
    return enter


def _frozen(previous: Segment, beginning: Beginning, run) -> dict:
    """The teachers' weights as the first segment of a chain enters them: they do not change along it, and
    no checkpoint holds them."""
    if not beginning.frozen:
        return {}
    while continued := getattr(previous.enter, "previous", None):
        previous = continued
    return previous.enter(beginning.of_frozen(), run).frozen


def after(previous: Segment, name: str, steps: int) -> Segment:
    """Returns the segment ``name``, which goes on for ``steps`` steps where ``previous`` ends, as if there
    were no boundary: networks, method, batches, keys and rates are the same, and so is the compiled step.

    A plan may replace fields of the result.
    """
    # 'program' stays as it is, and shares the compiled step; the start ties its key to that of ``previous``.
    starts = {"continued": {"segment": previous.name}}
    changed = {"steps": steps, "first_step": previous.stop, "starts": starts}
    spec = previous.spec and {**previous.spec, **changed}
    return previous._replace(
        name=name, steps=steps, first_step=previous.stop, enter=from_checkpoint(previous), spec=spec
    )


def cut(whole: Segment, pieces: Mapping[str, int]) -> list[Segment]:
    """Cuts the segment ``whole`` into ``pieces`` {name: steps}, trained one after another. The last one ends
    with the same weights as ``whole`` would, bit for bit.

    Raises ValueError where the pieces' steps do not add up to those of the whole.
    """
    if not pieces or min(pieces.values()) < 1 or sum(pieces.values()) != whole.steps:
        raise ValueError(
            f"pieces of {dict(pieces)} steps are not the {whole.steps} of segment {whole.name!r}: give each 1 or "
            "more, in all as many as the whole"
        )
    (name, steps), *rest = pieces.items()
    # `tx` and `lr` stay those of the whole: a piece's rates are of the whole's schedule.
    first = whole._replace(name=name, steps=steps, spec=whole.spec and {**whole.spec, "steps": steps})
    segments = [first]
    for name, steps in rest:
        segments.append(after(segments[-1], name, steps))
    return segments
