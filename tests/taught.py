"""A small run of the plan 'distill', for tests: toy networks on records of RGB and flow."""

import os

import runs

from configs import common, distill

# A configuration file as a run's command line names it.
FILE = "import taught\nget_config = taught.get_config\n"


def configured(dataset, **changes):
    """The configuration; it is not locked yet."""
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.batch_size = str(dataset), 16, 4
    c.streams.rgb = common.stream("rgb", frames=2)
    c.streams.flow = common.stream("flow", frames=2)
    for name, stream in (("rgb", "rgb"), ("teacher_rgb", "rgb"), ("teacher_flow", "flow")):
        c.networks[name] = common.network("toy", stream)
    distill.plan(c, share=0.25)
    c.method.distillation.gamma = 1.0
    c.students.alike = dict(scheme="equal", teachers=("teacher_flow",), weight=0.5, title="Alike")
    c.steps.ce = c.steps.method = "6"
    c.save_every, c.log_every, c.schedule = "2", 1, common.schedule(0.01, kind="constant")
    c.evaluation.batch_size, c.evaluation.splits, c.loader.workers, c.loader.threads = 4, ("test",), 0, 1
    c.update_from_flattened_dict(changes)
    return c


def brief(dataset):
    """The same without further students, locked."""
    c = configured(dataset)
    del c.students.alike
    return c.lock()


def get_config():
    """The brief one for the records in $TAUGHT; the run's end is not rehearsed."""
    return runs.of_a_file(brief(os.environ["TAUGHT"]))
