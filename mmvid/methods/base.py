"""What a method is: the forwards it needs, the terms of its loss, its state. It never sees networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

WEIGHTS = ("params", "frozen", "ema")


class Pass(NamedTuple):
    """One forward of each network over the concatenated views ``of`` ((group, view), ..).

    Batch norm therefore sees the joint batch. ``weights`` chooses the networks and their weights:
    'params' runs those that are trained, 'frozen' the teachers, 'ema' the moving averages of the trained
    ones. With ``one_of``, a network that reads several streams in turn reads only the one that the
    loader drew for this step. The streams ``hide`` are shown as absent, and the outputs are filed under
    the name that `group_without` gives.
    """

    of: tuple[tuple[str, str], ...] = (("main", "train"),)
    weights: str = "params"
    train: bool = True
    one_of: bool = False
    hide: tuple[str, ...] = ()


# Networks that learn and their frozen teachers, which see the very clips of their students, in evaluation mode.
TAUGHT = (Pass(), Pass(weights="frozen", train=False))


def group_without(group: str, hide: tuple[str, ...]) -> str:
    """Returns the name that a group has, in outputs and batch, in a pass that hides the streams ``hide`` of it.

    'main' without the stream 'audio' is called 'main-audio', read as "main minus audio". That group has the
    rows, labels and mask of 'main', and the presence that is left. A pass that hides nothing keeps the name.
    """
    return "-".join((group, *hide))


class Term(NamedTuple):
    """One named, unreduced loss of S outputs: ``values`` [S, B], ``mask`` [S, B], ``weight`` [S].

    The mask tells padding and absent streams alone. A method that heeds only confident examples
    multiplies ``values`` instead, so that the mean stays over all of them.
    """

    outputs: tuple[str, ...]
    values: jax.Array
    mask: jax.Array
    weight: jax.Array


def no_state() -> dict:
    """Returns the state of a method that keeps none."""
    return {}


def keep_state(state: Any, metrics: dict, outputs: dict, batch: dict) -> Any:
    """Returns the state unchanged: the update of a method whose state never changes."""
    del metrics, outputs, batch
    return state


class Method(NamedTuple):
    """How a segment's networks learn, as pure functions.

    ``terms(outputs, batch, method_state, key) -> {name: Term}`` makes the losses:
    ``outputs[group, view][output]`` is a network's result ({'logits': {head: [B, K]}, ..}) and
    ``batch[group]['present'][output]`` [B] says which examples it is about. ``passes`` are the forwards
    that these outputs come from. ``init() -> state`` begins the method's state and ``update(state,
    metrics, outputs, batch) -> state`` follows each step. ``gradients(grads, encoders, state, metrics)
    -> grads`` may change {network: gradients} before they are clipped; ``encoders`` is {network:
    {stream: path in its params}}, for models that read several streams.

    Two flags are claims that the tests check; one that is False comes with its ``reason``.
    ``symmetric`` claims that exchanging two outputs exchanges their losses, ``disjoint`` that no gradient
    of one output's loss reaches another output's network, so that a joint step equals separate ones.
    ``teachers`` names the outputs of networks that come trained and frozen; ``multi`` is the loss of heads of
    several labels, one of `losses.MULTI_LABEL`, which says what their logits mean.
    """

    terms: Callable
    passes: tuple[Pass, ...] = (Pass(),)
    init: Callable = no_state
    # The step compares it with keep_state: outputs are put together only for a state that follows them.
    update: Callable = keep_state
    gradients: Callable | None = None
    symmetric: bool = True
    disjoint: bool = True
    reason: str = ""
    teachers: tuple[str, ...] = ()
    multi: str = "sigmoid"
