"""A method: which forwards it needs, its terms, its state. Pure functions, no networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Pass(NamedTuple):
    """One forward per network over the concatenated ``of`` (batch norm sees the joint batch).

    ``weights``: 'params' (trained), 'frozen' (teachers) or 'ema'. ``one_of``: a network that reads
    several streams in turn reads one of them, which the loader drew for this step. ``hide``: streams
    that are shown as absent; what comes of it stands under the group's name of `hidden`.
    """

    of: tuple[tuple[str, str], ...] = (("main", "train"),)
    weights: str = "params"
    train: bool = True
    one_of: bool = False
    hide: tuple[str, ...] = ()


def hidden(group: str, hide: tuple[str, ...]) -> str:
    """What a group is called, in outputs and batch, as a pass shows it that hides streams:
    'main-audio', with the rows, labels and mask of 'main', and the presence that is left."""
    return "-".join((group, *hide))


class Term(NamedTuple):
    """One named, unreduced loss of S outputs: ``values`` [S, B], ``mask`` [S, B] (padding and
    presence only; confidence belongs into values), ``weight`` [S]."""

    outputs: tuple[str, ...]
    values: jax.Array
    mask: jax.Array
    weight: jax.Array


def no_state() -> dict:
    """The state of a method that has none."""
    return {}


def keep_state(state: Any, metrics: dict, outputs: dict, batch: dict) -> Any:
    """The update of a method whose state never changes."""
    del metrics, outputs, batch
    return state


class Method(NamedTuple):
    """``terms(outputs, batch, method_state, key) -> {name: Term}``.

    ``outputs[group, view][output]`` is a network's result ({'logits': {head: [B, K]}, ..});
    ``batch[group]['present'][output]`` [B] says where it has an example. ``update(state, metrics,
    outputs, batch) -> state`` follows each step. ``gradients(grads, encoders, state, metrics) ->
    grads``, where there is one, changes {network: gradients} before they are clipped; ``encoders``
    {network: {stream: path in its params}} are those of models that read several streams.
    ``symmetric``: exchanging two outputs exchanges their losses. ``disjoint``: no gradient of one
    output's loss reaches another output's network, so that a joint step equals separate ones. A
    flag that is False must come with its ``reason``. ``teachers``: outputs of networks that come
    trained and frozen.
    """

    terms: Callable
    passes: tuple[Pass, ...] = (Pass(),)
    init: Callable = no_state
    update: Callable = keep_state
    gradients: Callable | None = None
    symmetric: bool = True
    disjoint: bool = True
    reason: str = ""
    teachers: tuple[str, ...] = ()
