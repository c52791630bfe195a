"""Whole runs of toy networks on records of RGB and flow: what the runs of several plans have in common."""

import contextlib

import pytest
import toy
from test_network import on_one_device
from test_records import pack, record

from configs import common
from mmvid import train
from mmvid.models import MODELS
from mmvid.report import figures
from mmvid.run import build
from mmvid.scores import metrics


def prepare(folder, clips=24):
    """Writes so many clips to learn from, three to validate and three to test."""
    rows = [record(i) for i in range(clips)]
    pack(folder, rows + [record(i, s) for s, i in zip(["val", "test"] * 3, range(24, 30))], ["verb"])


def configured(dataset, plan, method):
    """A configuration to go on from: a toy for RGB and one for flow, four steps, and no worker."""
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.plan, c.method.name = str(dataset), 16, plan, method
    for name in ("rgb", "flow"):
        c.streams[name] = common.stream(name, frames=2)
        c.networks[name] = common.network("toy", name)
    c.batch_size, c.steps.method = 4, "4"
    c.save_every, c.log_every, c.schedule = "0", 1, common.schedule(0.1, warmup="1")
    c.evaluation.update(dict(every="50%", batch_size=4, splits=("test",)))
    c.loader.workers, c.loader.threads = 0, 1
    return c


def of_a_file(config):
    """Locks what a configuration file gives to a program of its own, where the run's end is not rehearsed."""
    MODELS["toy"] = toy.MODEL
    train.rehearsal.rehearse = lambda run: None
    return config.lock()


@contextlib.contextmanager
def toys():
    """What the tests of a file run in: programs are compiled once for all; intervals of a report may be rough."""
    with pytest.MonkeyPatch.context() as patch:
        on_one_device(patch)
        patch.setitem(MODELS, "toy", toy.MODEL)
        real, programs = build.build, {}
        patch.setattr(build, "build", lambda *given: real(*given)._replace(programs=programs))
        patch.setitem(metrics.bootstrap_interval.__kwdefaults__, "draws", 20)
        yield


def unwritten(replace):
    """Figures are drawn; to write them takes longer than all the training. ``replace`` is a monkeypatch's
    ``setattr``."""
    replace(figures, "svg", lambda figure: (figures.plt.close(figure), "<svg></svg>")[1])


def ended(config, tmp_path_factory):
    """Trains a run to its end; returns its workdir, for reading."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        unwritten(patch.setattr)
        train.train(config.lock(), str(workdir))
    return workdir
