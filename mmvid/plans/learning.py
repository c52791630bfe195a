"""What each network of a segment learns with: its optimiser and its learning rate."""

import json
from collections.abc import Mapping
from types import SimpleNamespace

from mmvid import optim
from mmvid.network import Network
from mmvid.weights.trees import Path


def own(common: Mapping, changes: Mapping | None) -> dict:
    """A part of the configuration for one network: its own ``changes`` over what is ``common`` to all. A value
    of None changes nothing."""
    return {**common, **{name: value for name, value in (changes or {}).items() if value is not None}}


def of(config, network: Network, *, fresh: tuple[Path, ...]) -> dict:
    """What a network's optimiser and schedule are made from, as plain data.

    Classifiers at the paths ``fresh`` start from a random draw and learn five times faster where the
    optimiser has TSM's groups; MML's code does the same, and stops once the weights come from the same
    dataset.
    """
    spec = config.networks[network.name]
    # Named where there are any alone: keys of all other segments stay as they are.
    frozen = {"frozen": network.model.frozen} if network.model.frozen else {}
    # Plain data, not an optimiser: a segment's key covers it, and two equal ones share a compiled step.
    return {
        "optimizer": own(config.optimizer, spec.get("optimizer")),
        "schedule": own(config.schedule, spec.get("schedule")),
        "fresh": fresh,
        "first_convolutions": network.model.first_convolutions,
        "first_conv_lr": spec.first_conv_lr,
        **frozen,
    }


def make(learning: Mapping[str, Mapping], *, steps: int, steps_per_epoch: float) -> tuple[dict, dict]:
    """Makes ({network: optimiser}, {network: learning rate by step}) for a segment of ``steps`` steps from
    ``learning``, {network: what `of` gives}."""
    tx, lr, schedules = {}, {}, {}
    for name, spec in learning.items():
        # Paths and factors decide each leaf's rate; optim finds the leaves when it is given the weights.
        known = ("fresh", "first_convolutions", "first_conv_lr", "frozen")
        factors = {key: spec[key] for key in known if key in spec}
        tx[name] = optim.make(SimpleNamespace(**spec["optimizer"]), **factors)
        # Networks of one schedule share the function, which tells whose rates are worth a line of their own.
        written = json.dumps(spec["schedule"], sort_keys=True)
        if written not in schedules:
            schedule = SimpleNamespace(**spec["schedule"])
            schedules[written] = optim.schedule(schedule, steps=steps, steps_per_epoch=steps_per_epoch)
        lr[name] = schedules[written]
    return tx, lr
