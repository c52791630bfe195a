"""The only bridge to Flax: a model is two pure functions over plain dicts."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

Path = tuple[str, ...]  # of a layer, in a model's tree of params


class Needs(NamedTuple):
    """The streams without which an output has nothing to say: ``how`` 'all' or 'any' of them. No
    streams named: all that are read with it."""

    streams: tuple[str, ...] = ()
    how: str = "all"


def met(needs: Needs, present: Mapping):
    """Whether each example has what an output needs: {stream: [B]} -> [B], of NumPy or JAX."""
    join = operator.and_ if needs.how == "all" else operator.or_
    return functools.reduce(join, [present[stream] for stream in needs.streams])


# Where a model has one classifier, its name is the network's.
ONE = {"": Needs()}


class Model(NamedTuple):
    """``init(key, x) -> (params, stats)`` and
    ``apply(params, stats, x, *, train, key) -> (result, stats)`` with ``result`` holding
    'logits' {head: [B, K]} and 'features' [B, D].

    ``outputs`` {part: what it needs} names its classifiers; where there are several, ``apply`` gives
    {part: result}. A model of several streams takes {stream: x}; one with an output that needs 'any'
    of them is also given ``present`` {stream: [B]}, and must ignore the rows that are absent.

    ``first_convolutions`` are the paths of the layers that read the input, ``classifiers`` those of the
    classifiers (of all heads), ``encoders`` {stream: path} where a model of several streams reads each:
    nobody else knows what an architecture calls its layers.
    """

    init: Callable
    apply: Callable
    outputs: Mapping[str, Needs] = ONE
    encoders: Mapping[str, Path] = {}
    first_convolutions: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()


def from_linen(module: nn.Module) -> Model:
    """A Linen module called as ``module(x, train=..)`` behind ``Model``.

    ``stats`` is Linen's 'batch_stats'; in training mode the new ones are returned. The module may
    say which its ``first_convolutions`` and ``classifiers`` are; one that heeds who is present takes
    ``present``, None by default (while its parameters are drawn).
    """

    def init(key, x):
        variables = module.init({"params": key, "dropout": key}, x, train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, x, *, train: bool, key: jax.Array, present=None):
        variables = {"params": params, "batch_stats": stats}
        told = {} if present is None else {"present": present}
        if not train:
            return module.apply(variables, x, train=False, **told), stats
        result, new = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"], **told
        )
        return result, new.get("batch_stats", stats)

    paths = {name: getattr(module, name, ()) for name in ("first_convolutions", "classifiers")}
    return Model(init, apply, **paths)
