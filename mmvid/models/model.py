"""The only bridge to Flax: a model is two pure functions over plain dicts."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

Path = tuple[str, ...]  # of a layer, in a model's tree of params


class Needs(NamedTuple):
    """What an output needs of an example: 'all' or 'any' (``how``) of ``streams`` must be present.

    Without ``streams`` the output needs every stream that its network reads.
    """

    streams: tuple[str, ...] = ()
    how: str = "all"


def met(needs: Needs, present: Mapping):
    """Tells for each example if it has what an output needs: {stream: bool [B]} -> bool [B].

    Takes NumPy and JAX arrays alike.
    """
    join = operator.and_ if needs.how == "all" else operator.or_
    return functools.reduce(join, [present[stream] for stream in needs.streams])


# Where a model has one classifier, its name is the network's.
ONE = {"": Needs()}


class Model(NamedTuple):
    """An architecture as two pure functions: ``init(key, x) -> (params, stats)`` and
    ``apply(params, stats, x, *, train, key) -> (result, stats)``, where ``result`` holds
    'logits' {head: [B, K]} and 'features' [B, D].

    ``outputs`` {part: what it needs} names the model's classifiers; a model with several of them
    returns {part: result} from ``apply``. A model of several streams takes {stream: x}; if one of its
    outputs needs 'any' of them, it is also given ``present`` {stream: [B]} and must ignore absent rows.

    Six fields say where layers stand in ``params``, because only the model knows what it calls them:
    ``first_convolutions`` are the paths of the layers that read the input, ``classifiers`` those of the
    classifiers (each with all its heads), ``necks`` those of layers just before the classifiers that others of
    its kind lack, ``encoders`` {stream: path} those of the encoders of a model that reads several streams, and
    ``frozen`` those of layers that stay as they are while the others learn.
    ``stages`` are the blocks of each stage of a model that may be cut there: ``apply(.., until=s)`` returns the
    map that enters stage s (1 is the first), ``apply(.., since=s)`` and ``init(.., since=s)`` go on from it.
    """

    init: Callable
    apply: Callable
    outputs: Mapping[str, Needs] = ONE
    encoders: Mapping[str, Path] = {}
    first_convolutions: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()
    necks: tuple[Path, ...] = ()
    stages: tuple[tuple[Path, ...], ...] = ()
    frozen: tuple[Path, ...] = ()


def from_linen(module: nn.Module) -> Model:
    """Wraps a Linen module, called as ``module(x, train=..)``, as a ``Model``.

    ``stats`` is Linen's 'batch_stats'; in training mode the updated ones are returned. The module may
    name its ``first_convolutions``, ``classifiers``, ``necks`` and ``cuts`` (which become `Model.stages`) as
    attributes. A module that heeds absent rows
    takes ``present`` as well; its default must be None, which it gets while its parameters are drawn.
    """

    def init(key, x, **cut):
        # Nothing is dropped with train=False, so that the two names may share a key.
        variables = module.init({"params": key, "dropout": key}, x, train=False, **cut)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, x, *, train: bool, key: jax.Array, present=None, **cut):
        variables = {"params": params, "batch_stats": stats}
        told = cut if present is None else {"present": present, **cut}
        if not train:
            return module.apply(variables, x, train=False, **told), stats
        # 'intermediates' are not mutable here, so that what modules sow costs nothing in training.
        result, new = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"], **told
        )
        return result, new.get("batch_stats", stats)

    paths = {name: getattr(module, name, ()) for name in ("first_convolutions", "classifiers", "necks")}
    return Model(init, apply, **paths, stages=getattr(module, "cuts", ()))
