"""The plan 'gblend': whole runs of toy networks, what they begin with, and the weights that probes leave."""

import json
import signal

import blended as small
import jax
import numpy as np
import pytest
import toy
import warm
from test_network import on_one_device
from test_records import pack, record
from test_train import assert_equal_runs, environment

from mmvid import files, plans, train
from mmvid.methods import gblend as method
from mmvid.models import MODELS
from mmvid.plans import gblend, keys
from mmvid.run import build, score
from mmvid.scores import blends
from mmvid.weights import files as weight_files

COPIES = {"flow": "flow", "rgb": "rgb", "joint": "naive"}


@pytest.fixture(scope="module")
def dataset(once):
    """Twenty-four clips to learn from, three to validate and three to test."""

    def make(folder):
        rows = [record(i) for i in range(24)] + [record(i, s) for s in ("val", "test") for i in range(3)]
        pack(folder, rows, ["verb"])

    return once("blended", make)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with pytest.MonkeyPatch.context() as patch:
        on_one_device(patch)
        patch.setitem(MODELS, "toy", toy.MODEL)
        yield


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended, online as well; for reading."""
    workdir = tmp_path_factory.mktemp("whole")
    config = small.configured(dataset, **{"blend.super_epochs": ("4", "2")})
    train.train(config.lock(), str(workdir))
    return workdir


def test_try(finished):
    print(sorted(p.name for p in finished.iterdir()))
    for name in ("probe", "equal", "gblend", "online"):
        print(name, (finished / name / "blend.json").read_text())
