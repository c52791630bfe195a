"""The first state of a segment, fresh or restored, and the learning rates of its steps."""

import jax
import jax.numpy as jnp
import numpy as np

from mmvid import checkpoint, network, sharding
from mmvid.plans.segment import Segment
from mmvid.run import programs
from mmvid.run.build import Run


def initial_state(segment: Segment, run: Run, *, enter: bool):
    """The segment's first TrainState, in the shardings that it trains in (`sharding.shared`); teachers are
    replicated over the devices.

    Without ``enter`` it is a template that a checkpoint is restored into: its tree is right, but only its
    frozen networks hold the values that they train with.
    """
    config, replicated = run.config, sharding.replicated(run.mesh)
    draw = programs.shared(
        run,
        "draw",
        segment,
        lambda: jax.jit(network.make_draw(segment, config.size), out_shardings=replicated),
        programs.FORWARD,
    )
    drawn = network.draw_weights(segment, config.size, config.seed, draw)
    beginning = network.beginning(segment.networks, *drawn, segment.first_step)
    if enter:
        beginning = segment.enter(beginning, run)
    # Teachers are entered even where the rest is restored: no checkpoint holds their weights.
    elif beginning.frozen:
        entered = segment.enter(beginning.of_frozen(), run)
        beginning = beginning._replace(frozen=entered.frozen)

    def state(beginning, key):
        return network.begin(beginning, segment.method, segment.tx, key, ema=config.ema > 0)

    # 0 is the key of the draw of weights (`network.draw_weights`), 1 that of training.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), segment.seed), 1)

    def jitted():
        shapes = jax.eval_shape(state, beginning, key)
        return jax.jit(state, out_shardings=sharding.shared(run.mesh, shapes)._replace(frozen=replicated))

    return programs.shared(run, "begin", segment, jitted)(beginning, key)


def restored(checkpoints, state, step: int | None = None):
    """Returns ``state`` with the values of the newest checkpoint, or of the one saved as ``step``.

    Frozen networks are not in it and stay as they are in ``state``. Raises ValueError where they are not
    those that the checkpoint was trained beside, and for whatever `checkpoint.restore` refuses.
    """
    frozen = checkpoint.digests(state.frozen)
    found = checkpoint.restore(checkpoints, state._replace(frozen={}), step, frozen=frozen)
    return found._replace(frozen=state.frozen)


def rates(segment: Segment) -> dict[str, np.ndarray]:
    """The learning rates of all steps under the names that they are logged by, each an array of one number a
    step: 'lr' of the network that has the headline, and 'lr/<network>' of each that has another schedule."""
    steps = jnp.arange(segment.first_step, segment.stop)
    # All at once: asking for one at a time would wait for the device.
    own = {n.name: np.asarray(jax.vmap(segment.lr[n.name])(steps)) for n in segment.networks if not n.frozen}
    leading = [n.name for n in segment.networks if segment.headline in n.outputs and not n.frozen]
    first = [*leading, *own][0]
    # By their functions: a short piece of two schedules may be the same.
    others = {f"lr/{name}": lr for name, lr in own.items() if segment.lr[name] is not segment.lr[first]}
    return {"lr": own[first]} | others


def rates_at(rates: dict[str, np.ndarray], index: int) -> dict[str, float]:
    """The rates of one step; ``index`` is 0 for the segment's first."""
    return {name: float(lr[index]) for name, lr in rates.items()}
