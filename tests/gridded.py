"""A small run of the plan 'grid', for tests: toy networks on records of RGB and flow."""

import os

import runs

# A configuration file as a run's command line names it.
FILE = "import gridded\nget_config = gridded.get_config\n"
CELLS = (("ce", "rgb", "58.10 / 84.61"), ("kd", "rgb", ""), ("mml", "rgb", "60.82 / 86.75"))


def configured(dataset, **changes):
    """CE, KD from its flow network, and MML from both; it is not locked yet."""
    c = runs.configured(dataset, "grid", "mml")
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
    c.update_from_flattened_dict(changes)
    return c


def get_config():
    """That for the records in $GRIDDED; the run's end is not rehearsed."""
    return runs.of_a_file(configured(os.environ["GRIDDED"], save_every="2"))
