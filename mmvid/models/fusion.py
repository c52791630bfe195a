"""A fusion: an encoder for each stream, a classifier for each and one for all together, in one forward."""

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmvid.models import joints
from mmvid.models.model import ONE, Model, Needs, from_linen
from mmvid.weights import trees

JOINT = "joint"
# How the joint classifier reads the encoders, and the options that each way has; 'mid' is `middle`, the others are
# modules of joints.py.
JOINTS = {
    "late": ("joint_width", "joint_layers"),
    "se": ("joint_width", "joint_layers", "joint_residual"),
    "nl": ("joint_width", "joint_layers"),
    "lmf": ("joint_width", "rank"),
    "mid": ("trunk", "joint_stages"),
}
# Whether the encoders have classifiers of their own: drawn as always, starting at zero, or none.
UNIMODAL = ("drawn", "zero", "none")


def joint_of(
    kind: str, heads: dict[str, int], *, dropout=0.0, width=None, layers=2, residual=False, rank=4
) -> Model:
    """Makes a joint classifier of a ``kind`` in JOINTS other than 'mid': {stream: result} -> result.

    'late', 'se' and 'nl' have ``layers`` fully connected layers of ``width`` units (`joints.Joint`); 'lmf' has its
    own product of ``rank`` factors of ``width`` units (2048 if None) in their place. ``residual`` is of 'se'.
    """
    gather = {
        "late": joints.Concatenated(),
        "se": joints.Squeezed(residual),
        "nl": joints.Attended(),
        "lmf": joints.LowRank(width or 2048, rank),
    }[kind]
    return from_linen(joints.Joint(heads, gather, 0 if kind == "lmf" else layers, width, dropout))


# ---------------------------------------------------------------------------- mid-level concatenation
def tapped(encoder: Model, stage: int, *, whole: bool) -> Model:
    """Returns the same encoder, whose result also holds 'middle', the map that enters its ``stage``.

    Without ``whole`` it stops there and has no other result.
    """

    def init(key, x):
        return encoder.init(key, x) if whole else encoder.init(key, x, until=stage)

    def apply(params, stats, x, *, train: bool, key):
        middle, stats = encoder.apply(params, stats, x, train=train, key=key, until=stage)
        if not whole:
            return {"middle": middle}, stats
        # The statistics of the first half pass through the second, which adds its own.
        result, stats = encoder.apply(params, stats, middle, train=train, key=key, since=stage)
        return result | {"middle": middle}, stats

    return encoder._replace(init=init, apply=apply)


def middle(encoder: Model, stage: int, trunk: str) -> Model:
    """Makes the joint classifier of mid-level concatenation (Owens and Efros 2018, in G-Blend's comparison).

    The 'middle' maps of the other streams, pooled, are repeated at each place of the ``trunk``'s, and its last
    stages, those of ``encoder`` from ``stage`` on, read both.
    """

    def joined(results):
        there = results[trunk]["middle"]
        others = [result["middle"].mean((1, 2, 3)) for stream, result in results.items() if stream != trunk]
        tiled = [jnp.broadcast_to(z[:, None, None, None], (*there.shape[:-1], z.shape[-1])) for z in others]
        return jnp.concatenate([there, *(z.astype(there.dtype) for z in tiled)], -1)

    def init(key, results):
        return encoder.init(key, joined(results), since=stage)

    def apply(params, stats, results, *, train: bool, key):
        return encoder.apply(params, stats, joined(results), train=train, key=key, since=stage)

    return Model(init, apply, classifiers=encoder.classifiers)


# ---------------------------------------------------------------------------- the whole
def still(encoder: Model) -> Model:
    """Returns the same encoder, which runs as in evaluation whoever trains, and which no gradient reaches."""

    def apply(params, stats, x, *, train: bool, key, **cut):
        del train
        result, stats = encoder.apply(params, stats, x, train=False, key=key, **cut)
        return jax.lax.stop_gradient(result), stats

    return encoder._replace(apply=apply)


def fuse(
    encoders: Mapping[str, Model],
    joint: Model,
    unimodal: str = "drawn",
    late: tuple = (),
    *,
    frozen_trunk: bool = False,
) -> Model:
    """Makes one model of ``encoders`` {stream: model} and a ``joint`` classifier {stream: result} -> result.

    It reads {stream: x}. With ``unimodal`` classifiers the encoders' own classify each stream, and the model
    returns {stream or 'joint': result}; 'zero' starts them at zero, so that at first they all say the same.
    With 'none' (a naive joint network, whose encoders were made without) the joint result is the only one.
    ``late`` are paths of layers that only the unimodal classifiers need. ``params`` hold each encoder's
    tree under its stream's name, and the joint classifier's under 'joint' (Wang et al. 2020, section 3). With a
    ``frozen_trunk`` the encoders stay as they are, and the joint classifier alone learns (figure 5b).
    Raises ValueError for a frozen trunk with unimodal classifiers.
    """
    alone = unimodal == "none"
    if frozen_trunk and not alone:
        raise ValueError(f"frozen_trunk with unimodal={unimodal!r}: encoders that stay as they are have 'none'")
    encoders = {s: still(encoder) for s, encoder in encoders.items()} if frozen_trunk else encoders

    def init(key, x):
        return _drawn(encoders, joint, unimodal, key, x)

    def apply(params, stats, x, *, train: bool, key: jax.Array):
        # Nothing is dropped in evaluation, where there may be no key.
        key = jax.random.key(0) if key is None else key
        results, new = _encoded(encoders, params, stats, x, train, key)
        # No stop_gradient: the joint loss trains every encoder, as in G-Blend.
        result, new[JOINT] = joint.apply(
            params[JOINT], stats[JOINT], results, train=train, key=_own_key(key, JOINT)
        )
        return (result if alone else results | {JOINT: result}), new

    several = {stream: Needs((stream,)) for stream in encoders} | {JOINT: Needs(tuple(encoders))}
    return Model(
        init,
        apply,
        outputs=ONE if alone else several,
        encoders={stream: (stream,) for stream in encoders},
        first_convolutions=_under(encoders, "first_convolutions"),
        classifiers=(*(() if alone else _under(encoders, "classifiers")), *_under({JOINT: joint}, "classifiers")),
        necks=(*_under(encoders, "necks"), *late),
        frozen=tuple((stream,) for stream in encoders) if frozen_trunk else (),
    )


def _encoded(encoders: Mapping[str, Model], params, stats, x, train: bool, key) -> tuple[dict, dict]:
    """What every encoder makes of its stream, and the new statistics, each {stream: ..}."""
    results, new = {}, {}
    for stream, encoder in encoders.items():
        results[stream], new[stream] = encoder.apply(
            params[stream], stats[stream], x[stream], train=train, key=_own_key(key, stream)
        )
    return results, new


def _drawn(encoders: Mapping[str, Model], joint: Model, unimodal: str, key, x) -> tuple[dict, dict]:
    """The first params and statistics of a fusion that reads ``x``."""
    params, stats = {}, {}
    for stream, encoder in encoders.items():
        params[stream], stats[stream] = encoder.init(_own_key(key, stream), x[stream])
    if unimodal == "zero":
        params = {s: _zeroed(params[s], encoder.classifiers) for s, encoder in encoders.items()}
    # Only a forward tells how wide each encoder's features are.
    results, _ = _encoded(encoders, params, stats, x, False, key)
    params[JOINT], stats[JOINT] = joint.init(_own_key(key, JOINT), results)
    return params, stats


def _own_key(key, name: str):
    # crc32, not hash(): Python salts the hashes of strings anew in every process.
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _zeroed(params, layers):
    for path in layers:
        params = trees.replaced(params, path, jax.tree.map(jnp.zeros_like, trees.subtree(params, path)))
    return params


def _under(models: Mapping[str, Model], kind: str) -> tuple:
    """Returns the models' paths of one ``kind`` (a field of `Model`) as paths in the fused tree."""
    return tuple((name, *path) for name, model in models.items() for path in getattr(model, kind))
