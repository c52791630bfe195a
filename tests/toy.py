"""A run of toy networks on small records: what a loop does, without what a network costs to compile."""

import jax
import jax.numpy as jnp

from mmvid.methods.base import Method, Pass, Term
from mmvid.models.model import Model
from mmvid.network import Network
from mmvid.plans import learning
from mmvid.run import build

# Compiled once for all tests of a file whose toy is made of the same.
PROGRAMS: dict = {}


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
