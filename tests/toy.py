"""Toys that compile at once: networks, methods, and a run of them on small records."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid import losses
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass, Term
from mmvid.models.layers import Classifier
from mmvid.models.model import Model
from mmvid.network import Network
from mmvid.plans import learning
from mmvid.run import build

# Compiled once for all tests of a file whose toy is made of the same.
PROGRAMS: dict = {}


class Toy(nn.Module):
    """One hidden layer on the mean of whatever comes: pictures, log-mel [B, 100, 40, 1], layouts [B, T, 14, 8]."""

    heads: dict
    stages: tuple = ()
    dtype: object = None
    dropout: float = 0.0

    first_convolutions: ClassVar = (("hidden",),)
    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, x, *, train: bool):
        features = nn.Dense(8, use_bias=False, name="hidden")(x.mean(tuple(range(1, x.ndim - 1))))
        # E[x^2] - E[x]^2 would lose what processes agree in: log-mel is far from 0.
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, use_fast_variance=False, name="norm")
        features = nn.relu(norm(features))
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        return {"logits": Classifier(self.heads, name="classifier")(dropped), "features": features}


MODEL = dict(module=Toy, stages=())  # a row of MODELS


def linear(streams, classes=2):
    """A network a stream: one matrix on the mean colour, and a count of the batches that it has seen."""

    def init(key, x):
        kernel = jax.random.normal(key, (x.shape[-1], classes))
        return {"classifier": {"verb": {"kernel": kernel}}}, {"seen": jnp.zeros(())}

    def apply(params, stats, x, *, train, key):
        noise = 1 + 0.1 * jax.random.normal(key, (x.shape[0], x.shape[-1])) if train else 1.0
        logits = (x.mean((1, 2, 3)) * noise) @ params["classifier"]["verb"]["kernel"]
        return {"logits": {"verb": logits}, "features": logits}, {"seen": stats["seen"] + train}

    model = Model(init, apply, classifiers=(("classifier",),))
    return tuple(Network(name, model, ((name,),)) for name in streams)


def counting(outputs):
    """Plain cross-entropy whose weight grows with every step: a method with a state."""

    def terms(results, batch, state, key):
        views = results["main", "train"]
        group = batch["main"]
        logits = jnp.stack([jax.nn.log_softmax(views[o]["logits"]["verb"]) for o in outputs])
        values = -jnp.take_along_axis(logits, group["label"]["verb"][None, :, None], 2)[..., 0]
        mask = jnp.broadcast_to(group["mask"], values.shape)
        weight = jnp.full(len(outputs), 1.0 + state["steps"])
        return {"ce": Term(outputs, values, mask, weight)}

    return Method(
        terms, (Pass(),), init=lambda: {"steps": jnp.zeros(())},
        update=lambda state, *seen: {"steps": state["steps"] + 1},
    )  # fmt: skip


def make_pseudo(outputs, heads):
    """A toy of semi-supervised learning: the strong view learns what the weak one says."""
    (head,) = heads

    def terms(results, batch, state, key):
        del state, key
        group = batch["unlabelled"]
        strong, weak = (terms_lib.stack(results["unlabelled", view], outputs, head) for view in ("strong", "weak"))
        label = jax.lax.stop_gradient(weak).argmax(-1)
        values = losses.softmax_cross_entropy(strong, label)
        return {
            "ce": terms_lib.task_term(results["labelled", "weak"], batch["labelled"], outputs, heads),
            "pseudo": Term(outputs, values, terms_lib.presence(outputs, group), jnp.ones(len(outputs))),
        }

    return Method(terms, (Pass((("labelled", "weak"), ("unlabelled", "weak"), ("unlabelled", "strong"))),))


def a_run(config, workdir):
    """A run whose only segment, 'whole', trains two toy networks, and its spec says so."""
    run = build.build(config, workdir)
    base = run.segments[0]
    networks = linear(n.name for n in base.networks)
    own = {n.name: learning.of(config, n, fresh=()) for n in networks}
    tx, lr = learning.make(own, steps=base.steps, steps_per_epoch=base.steps_per_epoch)
    program = {**base.spec["program"], "method": "counting", "networks": "linear"}
    whole = base._replace(
        name="whole", networks=networks, method=counting(tuple(own)), tx=tx, lr=lr, evaluate=(),
        spec={**base.spec, "program": program},
    )  # fmt: skip
    return run._replace(segments=[whole], programs=PROGRAMS)
