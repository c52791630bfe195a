"""A dry run says what a run will take, and leaves nothing behind."""

import jax
import numpy as np
import pytest
import toy
from absl.testing import flagsaver
from test_build import config, dataset  # noqa: F401
from test_commands import TINY

from mmvid import main
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.methods.base import Pass
from mmvid.operations import OPERATIONS
from mmvid.run import build, dry, feed, outline
from mmvid.run.outline import Outline
from mmvid.streams import Head


@pytest.fixture
def run(dataset, tmp_path):  # noqa: F811
    return toy.a_run(config(dataset), tmp_path / "run")


def test_it_says_what_a_run_takes_and_leaves_nothing(run, capsys, monkeypatch):
    monkeypatch.setattr(dry, "STEPS", 2)
    dry.dry(Outline(run, ("all of it is made up",)), run.workdir, seeds=3)
    said = capsys.readouterr().out
    assert said.startswith("all of it is made up\n") and "flow [8, 32, 32, 10]" in said
    (own,) = (line for line in said.splitlines() if "flow [8, 32, 32, 10]" in line)
    assert own.startswith("flow ") and own.endswith("  whole")
    (row,) = (line.split() for line in said.splitlines() if line.startswith("whole  "))
    assert row[1:3] == ["flow,", "rgb"] and row[3:5] == [str(run.segments[0].steps), "8"] and float(row[5]) > 0
    assert "of training of 3 seeds on 8 devices (cpu), by 2 steps" in said and "GB free" in said
    assert "nothing was written" in said and not run.workdir.exists()


def test_a_step_that_does_not_fit_is_not_run(run, capsys, monkeypatch):
    """Nor is a run begun whose segments could not begin; of data that are not there nothing is asked."""

    def refuse(run):
        raise FileNotFoundError("its weights are gone")

    monkeypatch.setattr(dry, "_free", lambda: 10)
    monkeypatch.setattr(dry, "_timed", None)
    run = run._replace(segments=[s._replace(check=refuse) for s in run.segments])
    dry.dry(Outline(run, ("made up",)), run.workdir)
    assert "would not start" not in capsys.readouterr().out
    dry.dry(Outline(run), run.workdir)
    said = capsys.readouterr().out
    assert "It would not start here: its weights are gone" in said
    assert "does not fit" in said and "--config.accumulate" in said and "of training" not in said


def test_what_is_not_scored_leaves_no_scores(dataset, tmp_path):  # noqa: F811
    """Stills are cut in another way than the clips whose protocol the run has."""
    run = build.build(config(dataset), tmp_path)
    (segment, *_) = run.segments
    assert dry._scores(run, segment) > 0
    with run.config.unlocked():
        run.config.evaluation.protocol = "C1"
    assert dry._scores(run, segment._replace(evaluate=())) == 0


def test_segments_of_the_same_work_are_tried_once(dataset, tmp_path, monkeypatch):  # noqa: F811
    tried = []
    monkeypatch.setattr(dry, "tried", lambda run, segment: tried.append(segment.name))
    found = dry._tried(build.build(config(dataset), tmp_path))
    assert list(found) == ["ce", "ce_continued", "mml"] and tried == ["ce", "mml"]


def like(tree):
    return jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype), tree)


def test_a_made_up_batch_is_like_the_loaders(dataset, tmp_path):  # noqa: F811
    """With a view that leaves operations to the device, and a network that runs one of its reads a step."""
    run = build.build(config(dataset, **{"loader.threads": 1, "loader.prefetch": 1}), tmp_path)
    (segment, *_) = run.segments
    strong = {"weak": Augment(), "strong": Augment(device=tuple(OPERATIONS))}
    groups = {"main": Group("train", 8, strong), "more": Group("val", 2, {"weak": Augment()}, labels=False)}
    shared = segment.networks[0]._replace(name="omni", reads=(("flow",), ("rgb",)))
    method = segment.method._replace(passes=(Pass((("main", "weak"), ("main", "strong")), one_of=True),))
    segment = segment._replace(groups=groups, networks=(shared,), method=method)
    batches = feed.train_batches(run, segment, 0)
    try:
        loaded = next(iter(batches))
    finally:
        batches.close()
    made = dry.batch(segment, run.config.size)
    assert "one_of" in made["main"] and "draws" in made["main"] and "label" not in made["more"]
    assert like(made) == like(loaded)


def test_labels_of_several_classes_are_multi_hot():
    rng = np.random.default_rng(0)
    assert dry._label(Head(5, "multi"), 4, rng).shape == (4, 5)
    assert dry._label(Head(5), 4, rng).max() < 5


def test_the_flag_trains_nothing(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(main, "_train", lambda *given: pytest.fail("it trains"))
    monkeypatch.setattr(outline, "outline", lambda config, workdir: config.size)
    monkeypatch.setattr(dry, "dry", lambda *given: seen.append(given))
    with flagsaver.flagsaver():
        main.main(main._parse(["mmvid", "--config=configs/mml.py", f"--workdir={tmp_path}/run", "--dry"]))
    assert seen == [(48, tmp_path / "run", 1)] and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_plan_with_a_frozen_teacher_is_tried_from_end_to_end(dataset, tmp_path, capsys):  # noqa: F811
    """Its teacher would start from a segment that was never trained."""
    changes = TINY | {"plan": "compare", "compare": ("independent", "generalized_distillation"),
                      "method.name": "generalized_distillation",
                      "method.generalized_distillation.teacher": "flow"}  # fmt: skip
    dry.dry(outline.outline(config(dataset, **changes), tmp_path / "run"), tmp_path / "run")
    said = capsys.readouterr().out
    assert "rgb; 1 frozen" in said
    assert "by 5 steps of each segment" in said and not list(tmp_path.iterdir())
