"""A small run of the plan 'grid', for tests: toy networks on records of RGB and flow."""

import os

import toy

from configs import common
from mmvid import train
from mmvid.models import MODELS

# A configuration file as a run's command line names it.
FILE = "import gridded\nget_config = gridded.get_config\n"
CELLS = (("ce", "rgb", "58.10 / 84.61"), ("kd", "rgb", ""), ("mml", "rgb", "60.82 / 86.75"))


def configured(dataset, **changes):
    """CE, KD from its flow network, and MML from both; it is not locked yet."""
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.plan, c.method.name = str(dataset), 16, "grid", "mml"
    for name in ("rgb", "flow"):
        c.streams[name] = common.stream(name, frames=2)
        c.networks[name] = common.network("toy", name)
    both = ("rgb", "flow")
    c.grid.segments.ce = dict(networks=both, title="CE", batches="1")
    c.grid.segments.kd = dict(
        networks=both,
        method="kd",
        teacher="flow",
        starts=dict(rgb="ce.rgb", flow="ce.flow"),
        title="KD",
        batches="2",
    )
    c.grid.segments.mml = dict(
        networks=both, method="mml", starts=dict(rgb="ce.rgb", flow="ce.flow"), title="MML", batches="2"
    )
    c.grid.last = "mml"
    c.grid.tables = (("A table", ("CE", "KD", "MML"), (("RGB", CELLS),)),)
    c.steps.method = "4"
    c.batch_size = 4
    c.save_every, c.log_every, c.schedule = "0", 1, common.schedule(0.1, warmup="1")
    c.evaluation.update(dict(every="50%", batch_size=4, splits=("test",)))
    c.loader.workers, c.loader.threads = 0, 1
    c.update_from_flattened_dict(changes)
    return c


def get_config():
    """That for the records in $GRIDDED; the run's end is not rehearsed."""
    MODELS["toy"] = toy.MODEL
    train.rehearsal.rehearse = lambda run: None
    return configured(os.environ["GRIDDED"], save_every="2").lock()
