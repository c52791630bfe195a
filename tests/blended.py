"""A small run of the plan 'gblend', for tests: toy networks on records of RGB and flow."""

import os

import runs

from configs import common, gblend

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
    c = runs.configured(dataset, "gblend", "gblend")
    c.headline = "av.joint"
    gblend.blended(c, "av", "naive", "flow", "rgb", joint_layers=1)
    gblend.held_out(c, dict(share=0.25), fixed=dict(share=0.33))
    c.blend.arms.equal = dict(network="av", weights="equal", title="Equal weights")
    c.steps.method, c.blend.measures = "6", 2
    c.schedule = common.schedule(0.1, warmup="2")
    c.update_from_flattened_dict(changes)
    return c


def get_config():
    """That of super-epochs for the records in $BLENDED; the run's end is not rehearsed."""
    return runs.of_a_file(configured(os.environ["BLENDED"], **CHANGES, save_every="2"))
