"""The plan 'distill': whole runs of toy networks, teachers of earlier runs, and the proof that none saw the held
clips."""

import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest
import taught as small
import toy
import warm
from test_network import on_one_device, same_weights, weights_of
from test_records import pack, record
from test_train import assert_equal_runs, environment

from configs import distill as distill_config
from mmvid import checkpoint, files, losses, plans, train
from mmvid.commands import compare, evaluate
from mmvid.methods import distill
from mmvid.models import MODELS
from mmvid.plans import taught
from mmvid.run import build
from mmvid.scores import ensembles
from mmvid.scores import file as file_lib
from mmvid.streams import Head
from mmvid.weights import files as weight_files

OUTPUTS = ("teacher_flow", "teacher_rgb")


@pytest.fixture(scope="module")
def dataset(once):
    """Sixteen clips to learn from, three to validate and three to test."""

    def make(folder):
        rows = [record(i) for i in range(16)] + [record(i, s) for s in ("val", "test") for i in range(3)]
        pack(folder, rows, ["verb"])

    return once("taught", make)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with pytest.MonkeyPatch.context() as patch:
        on_one_device(patch)
        patch.setitem(MODELS, "toy", toy.MODEL)
        yield


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended; for reading."""
    workdir = tmp_path_factory.mktemp("whole")
    train.train(small.configured(dataset).lock(), str(workdir))
    return workdir


def test_teachers_are_weighed_on_clips_that_none_has_seen(finished):
    note = files.read_json(finished / "distillation" / "teachers.json")
    assert (note["gamma"], note["scheme"], note["split"], note["clips"]) == (1.0, "weighted", "held", 4)
    scores = file_lib.load(finished / "teachers" / "scores" / "held.npz")
    errors = [
        losses.softmax_cross_entropy(scores.logits[o]["verb"].mean(1), scores.label["verb"]).mean() for o in OUTPUTS
    ]
    np.testing.assert_allclose([note["cross_entropy"]["verb"][o] for o in OUTPUTS], errors, rtol=1e-5)
    want = distill.ensemble_weights(np.array(errors), gamma=1.0)
    np.testing.assert_allclose([note["weights"]["verb"][o] for o in OUTPUTS], want, rtol=1e-5)
    shown = {s: {i for line in files.read_lines(finished / s / "ids-0.jsonl") for i in line["main"]}
             for s in ("teachers", "baseline", "distillation")}  # fmt: skip
    held = set(scores.row.tolist())
    assert len(held) == 4 and not held & shown["teachers"] and held <= shown["distillation"]


def test_the_student_is_the_baseline_but_for_its_teachers(finished):
    """The same clips in the same batches, as many updates, the same draw of weights; the teachers stay as they were."""
    ids = [files.read_lines(finished / s / "ids-0.jsonl") for s in ("baseline", "distillation")]
    assert ids[0] == ids[1]
    assert set(weights_of(finished, "distillation")) == set(weights_of(finished, "baseline"))
    with checkpoint.opened(finished / "distillation" / "checkpoints") as opened:
        kept = checkpoint._shapes(opened.checkpointables_metadata(opened.latest.step).metadata["state"])
    # The weights of the teachers' voices, not their networks.
    assert kept["method/weights/verb"] == (2,) and not any("teacher" in leaf for leaf in kept)


def test_tables_show_ensembles_and_weights(finished, capsys, caplog):
    caplog.set_level("INFO", "mmvid")
    train.train(build.config_of(finished) if hasattr(build, "config_of") else _stored(finished), str(finished))
    page = (finished / "report.html").read_text()
    note = files.read_json(finished / "distillation" / "teachers.json")
    for text in ("Teachers, gamma 30", "Teachers, gamma 1", "Teachers: teacher_flow", "Baseline", "Student",
                 "accuracy / calibration error", ensembles.told(note)):  # fmt: skip
        assert text in caplog.text, text
        assert text.replace("accuracy", "Accuracy") in page or text in page, text
    assert "over Baseline with the same updates" in caplog.text or "of Baseline with the same updates" in caplog.text
    numbers = files.read_json(finished / "summary.json")
    assert list(numbers) == ["teachers", "baseline", "ensemble-30", "ensemble-1", "distillation"]
    # The student's own ensemble is what it was taught: the weighted sum of its teachers' logits.
    scores = file_lib.load(finished / "teachers" / "scores" / "test.npz")
    combined = file_lib.load(finished / "ensemble-1" / "scores" / "test.npz")
    want = sum(note["weights"]["verb"][o] * scores.logits[o]["verb"].mean(1) for o in OUTPUTS)
    np.testing.assert_allclose(combined.logits["ensemble"]["verb"][:, 0], want, rtol=1e-5)
    compare.compare([finished], finished / "compared")
    said = capsys.readouterr().out
    assert "Teachers, gamma 30" in said and f"Student: {ensembles.told(note)}" in said


def _stored(workdir):
    config = small.configured("")
    with config.ignore_type():
        config.update(build.stored(workdir))
    return config.lock()
