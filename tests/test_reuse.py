"""Segments of other runs are copied by key alone, whole, or not at all."""

import types

import numpy as np
import pytest

from mmvid import files
from mmvid.plans import keys
from mmvid.run import resume, reuse
from mmvid.weights import files as weight_files

KEY = "a" * 64


@pytest.fixture
def other(tmp_path):
    """Another run's workdir with one segment that has ended, and settings for a run that may want it."""
    evaluation = dict(protocol="D0U1", variant="code", crops="centre", resize=0)
    settings = types.SimpleNamespace(
        evaluation=evaluation, size=32, subsets={}, reuse=f"{tmp_path}/none-of-it,{tmp_path}/other"
    )
    stage = tmp_path / "other" / "teacher"
    for folder in (stage / "scores", stage / "checkpoints" / "6", tmp_path / "none-of-it", tmp_path / "mine"):
        folder.mkdir(parents=True)
    for run in ("other", "none-of-it"):
        (tmp_path / run / "config.json").write_text("{}")
    np.savez_compressed(stage / "scores" / "test.npz", id=np.arange(3))
    weight_files.save(stage / "weights.safetensors", {"rgb": {"params": {"a": np.ones(9)}}}, {})
    files.write_json(stage / "done.json", {"steps": 6})
    files.write_json(stage / "key.json", {"key": KEY, "scores": keys.of_scores(settings)})
    segments = [types.SimpleNamespace(name=name, evaluate=("test",), measure=()) for name in ("ce", "mml")]
    return types.SimpleNamespace(workdir=tmp_path / "mine", config=settings, segments=segments)


def taken(run):
    reuse.take(run, {"ce": KEY, "mml": "b" * 64})
    return sorted(str(p.relative_to(run.workdir)) for p in run.workdir.rglob("*") if p.is_file())


def test_a_stage_is_copied_under_the_name_that_it_has_here(other, caplog):
    reuse.LOG.propagate = True
    caplog.set_level("INFO", logger=reuse.LOG.name)
    names = ["ce/done.json", "ce/key.json", "ce/scores/test.npz", "ce/weights.safetensors"]
    assert taken(other) == names
    note = files.read_json(other.workdir / "ce" / "key.json")
    assert note["key"] == KEY and note["reused"].endswith("other/teacher")
    assert "ce: reused from" in caplog.text and "teacher" in caplog.text
    (other.workdir / "ce" / "done.json").unlink()  # what is here already stays
    assert taken(other) == [name for name in names if "done" not in name]


def test_scores_made_in_another_way_are_not(other):
    other.config.evaluation["protocol"] = "D0U3"
    (other.workdir.parent / "other" / "teacher" / "checkpoints" / "6" / "state").write_text("..")
    assert taken(other) == ["ce/checkpoints/6/state", "ce/done.json", "ce/key.json", "ce/weights.safetensors"]


def test_nor_is_what_could_not_be_scored_anew(other):
    other.config.evaluation["protocol"] = "D0U3"
    (other.workdir.parent / "other" / "teacher" / "checkpoints" / "6").rmdir()
    assert taken(other) == []


@pytest.mark.parametrize("how", ["another split", "scores cut short", "no checkpoint"])
def test_what_lacks_a_score_and_a_checkpoint_is_trained_here(other, how):
    """Copied, it could neither be scored nor trained again."""
    stage = other.workdir.parent / "other" / "teacher"
    if how == "another split":
        other.segments[0].evaluate = ("test", "unseen")
    elif how == "scores cut short":
        path = stage / "scores" / "test.npz"
        path.write_bytes(path.read_bytes()[:-9])
    (stage / "checkpoints" / "6").rmdir()
    assert bool(taken(other)) == (how == "no checkpoint")


@pytest.mark.parametrize("name", ["done.json", "weights.safetensors", "key.json"])
def test_a_stage_that_is_not_whole_is_left(other, name):
    (other.workdir.parent / "other" / "teacher" / name).unlink()
    assert taken(other) == []


def test_a_copy_that_fails_leaves_nothing(other, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(reuse.files, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        taken(other)
    assert list(other.workdir.iterdir()) == []


def test_a_path_that_is_no_run_is_refused(other):
    (other.workdir.parent / "other" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"other is no run \(it has no config.json\): name the --workdir"):
        taken(other)


def test_a_segment_that_went_on_under_another_key_has_none(other):
    segment = other.segments[0]
    (other.workdir / "ce").mkdir()
    for key, kept in ((KEY, KEY), (KEY, KEY), ("b" * 64, ""), ("b" * 64, "")):
        resume.note_key(other, segment, key)
        assert files.read_json(other.workdir / "ce" / "key.json")["key"] == kept
