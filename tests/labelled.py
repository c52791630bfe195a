"""A small run of the plan 'semi', for tests: toy networks on records of RGB and flow."""

import os

import runs

# A configuration file as a run's command line names it.
FILE = "import labelled\nget_config = labelled.get_config\n"


def configured(dataset, **changes):
    """The configuration; it is not locked yet."""
    c = runs.configured(dataset, "semi", "cmpl")
    c.subsets.labelled = dict(of="train", per_class=2)
    c.subsets.unlabelled = dict(of="train", without="labelled")
    c.subsets.followed = dict(of="unlabelled", share=0.2)
    # Of two classes, a toy is sure of something soon.
    c.method.cmpl.threshold = c.method.fixmatch.threshold = 0.5
    c.semi.strong.device = ("brightness",)
    c.semi.update(dict(labelled_batch=2, unlabelled_batch=4, followed="followed"))
    c.semi.arms.supervised = dict(networks=("rgb",), method="single", title="Supervised")
    c.semi.arms.fixmatch = dict(networks=("rgb",), method="fixmatch", title="FixMatch")
    c.update_from_flattened_dict(changes)
    return c


def get_config():
    """That for the records in $LABELLED; the run's end is not rehearsed."""
    return runs.of_a_file(configured(os.environ["LABELLED"], save_every="2"))
