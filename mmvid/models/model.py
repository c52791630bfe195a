"""The only bridge to Flax: a model is two pure functions over plain dicts."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax


class Model(NamedTuple):
    """``init(key, x) -> (params, stats)`` and
    ``apply(params, stats, x, *, train, key) -> (result, stats)`` with ``result`` holding
    'logits' {head: [B, K]} and 'features' [B, D]. A model of several streams takes {stream: x} and
    gives {output: result}; ``outputs`` names them."""

    init: Callable
    apply: Callable
    outputs: tuple[str, ...] = ()


def from_linen(module: nn.Module) -> Model:
    """A Linen module called as ``module(x, train=..)`` behind ``Model``.

    ``stats`` is Linen's 'batch_stats'; in training mode the new ones are returned.
    """

    def init(key, x):
        variables = module.init({"params": key, "dropout": key}, x, train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, x, *, train: bool, key: jax.Array):
        variables = {"params": params, "batch_stats": stats}
        if not train:
            return module.apply(variables, x, train=False), stats
        result, new = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return result, new.get("batch_stats", stats)

    return Model(init, apply)
