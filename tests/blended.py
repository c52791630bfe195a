"""A small run of the plan 'gblend', for tests: toy networks on records of RGB and flow."""

import os

import toy

from configs import common, gblend
from mmvid import train
from mmvid.models import MODELS

# A configuration file as a run's command line names it.
FILE = "import blended\nget_config = blended.get_config\n"

# What a run has that shows everything.
CHANGES = {
    "blend.super_epochs": ("4", "2"),
    "blend.arms.naively": dict(network="av", weights="0,0,1"),
    "blend.frozen_trunk": "2",
    "blend.published": (("a table", dict(flow="0", rgb="0", joint="1")),),
}


def configured(dataset, **changes):
    """The configuration; it is not locked yet."""
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.batch_size = str(dataset), 16, 4
    c.plan, c.method.name, c.headline = "gblend", "gblend", "av.joint"
    for name in ("rgb", "flow"):
        c.streams[name] = common.stream(name, frames=2)
        c.networks[name] = common.network("toy", name)
    gblend.blended(c, "av", "naive", "flow", "rgb", joint_layers=1)
    gblend.held_out(c, dict(share=0.25), fixed=dict(share=0.33))
    c.blend.arms.equal = dict(network="av", weights="equal", title="Equal weights")
    c.steps.method, c.blend.measures = "6", 2
    c.save_every, c.log_every, c.schedule = "0", 1, common.schedule(0.1, warmup="2")
    c.evaluation.update(dict(every="50%", batch_size=4, splits=("test",)))
    c.loader.workers, c.loader.threads = 0, 1
    c.update_from_flattened_dict(changes)
    return c


def get_config():
    """That of super-epochs for the records in $BLENDED; the run's end is not rehearsed."""
    MODELS["toy"] = toy.MODEL
    train.rehearsal.rehearse = lambda run: None
    return configured(os.environ["BLENDED"], **CHANGES, save_every="2").lock()
