"""The only bridge to Flax: a model is two pure functions over plain dicts."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

Path = tuple[str, ...]  # of a layer, in a model's tree of params


class Model(NamedTuple):
    """``init(key, x) -> (params, stats)`` and
    ``apply(params, stats, x, *, train, key) -> (result, stats)`` with ``result`` holding
    'logits' {head: [B, K]} and 'features' [B, D]. A model of several streams takes {stream: x} and
    gives {output: result}; ``outputs`` names them.

    ``first_convolutions`` are the paths of the layers that read the input, ``classifiers`` those of the
    classifiers (of all heads), ``encoders`` {stream: path} where a model of several streams reads each:
    nobody else knows what an architecture calls its layers.
    """

    init: Callable
    apply: Callable
    outputs: tuple[str, ...] = ()
    encoders: Mapping[str, Path] = {}
    first_convolutions: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()


def from_linen(module: nn.Module) -> Model:
    """A Linen module called as ``module(x, train=..)`` behind ``Model``.

    ``stats`` is Linen's 'batch_stats'; in training mode the new ones are returned. The module says
    which its ``first_convolutions`` and ``classifiers`` are.
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

    paths = {"first_convolutions": module.first_convolutions, "classifiers": module.classifiers}
    return Model(init, apply, **paths)
