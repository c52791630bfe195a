"""A method: which forwards it needs, its terms, its state. Pure functions, no networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Pass(NamedTuple):
    """One forward per network over the concatenated ``of`` (batch norm sees the joint batch).

    ``weights``: 'params' (trained), 'frozen' (teachers) or 'ema'. ``one_of``: a network with several
    reads runs one of them a step.
    """

    of: tuple[tuple[str, str], ...] = (("main", "train"),)
    weights: str = "params"
    train: bool = True
    one_of: bool = False


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


def keep_state(state: Any, metrics: dict) -> Any:
    """The update of a method whose state never changes."""
    del metrics
    return state


class Method(NamedTuple):
    """``terms(outputs, batch, method_state, key) -> {name: Term}``.

    ``outputs[group, view][output]`` is a network's result ({'logits': {head: [B, K]}, ..}).
    ``symmetric``: exchanging two outputs exchanges their losses. ``disjoint``: no gradient of one
    output's loss reaches another output's network, so that a joint step equals separate ones. A
    flag that is False must come with its ``reason``. ``teachers``: outputs of networks that come
    trained and frozen.
    """

    terms: Callable
    passes: tuple[Pass, ...] = (Pass(),)
    init: Callable = no_state
    update: Callable = keep_state
    symmetric: bool = True
    disjoint: bool = True
    reason: str = ""
    teachers: tuple[str, ...] = ()
