"""Trained networks in use: logits of every view, and features."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from mmvid import network as network_lib
from mmvid.network import Streams
from mmvid.prepare import prepare


def _forward_views(networks, streams: Streams, wanted, params, stats, batch) -> tuple[dict, int]:
    """Runs every trained network in evaluation mode: (results of the outputs ``wanted``, V), with the V views
    folded into the batch. None wants all."""
    inputs = batch["main"]["inputs"]["test"]
    views = next(iter(inputs.values())).shape[1]
    folded = {name: prepare(streams[name], x.reshape(-1, *x.shape[2:])) for name, x in inputs.items()}
    trained = [network for network in networks if not network.frozen]  # a teacher's scores are its own run's
    present = {}
    if any(network.told for network in trained):
        present = {name: jnp.repeat(flag, views) for name, flag in batch["main"]["present"].items()}
    outputs = {}
    for network in trained:
        # Nothing is drawn in evaluation mode: any key does.
        own, key = (params[network.name], stats[network.name]), jax.random.key(0)
        how = dict(train=False, key=key, present=present, outputs=wanted)
        outputs |= network_lib.forward(network, *own, folded, **how)[0]
    return {name: own for name, own in outputs.items() if wanted is None or name in wanted}, views


def make_predict(networks, streams: Streams, wanted: Collection[str] | None = None) -> Callable:
    """Makes predict(params, stats, batch) -> {output: {head: logits [B, V, K]}}, in evaluation mode.

    ``batch`` has the group 'main' with the view 'test', inputs [B, V, T, H, W, C] of the streams that the
    outputs ``wanted`` need; None wants all of them. The evaluator uses nothing else of a network.
    """

    def predict(params, stats, batch):
        outputs, views = _forward_views(networks, streams, wanted, params, stats, batch)
        # Views stay apart: papers differ in averaging logits or probabilities over them.
        return {
            output: {
                head: logits.reshape(-1, views, logits.shape[-1]) for head, logits in result["logits"].items()
            }
            for output, result in outputs.items()
        }

    return predict


def make_describe(networks, streams: Streams, wanted: Collection[str] | None = None) -> Callable:
    """Makes describe(params, stats, batch) -> {output: features [B, D]}, the mean over views.

    ``batch`` and ``wanted`` are as for ``make_predict``.
    """

    def describe(params, stats, batch):
        outputs, views = _forward_views(networks, streams, wanted, params, stats, batch)
        return {
            output: result["features"].reshape(-1, views, result["features"].shape[-1]).mean(1)
            for output, result in outputs.items()
        }

    return describe
