"""Segments of other runs are copied by key alone, whole, or not at all."""

import shutil
import types

import numpy as np
import pytest
from test_scores import made

from mmvid import files, train, usage
from mmvid.plans import keys
from mmvid.run import resume, reuse
from mmvid.scores import file
from mmvid.weights import files as weight_files
from mmvid.weights import seen
from mmvid.weights.seen import Shown

KEY = "a" * 64


@pytest.fixture
def other(tmp_path):
    """Another run's workdir with one segment that has ended, and settings for a run that may want it."""
    evaluation = dict(protocol="D0U1", variant="code", crops="centre", resize=0)
    settings = types.SimpleNamespace(
        evaluation=evaluation, size=32, subsets={}, reuse=f"{tmp_path}/none-of-it,{tmp_path}/other"
    )
    ended = tmp_path / "other" / "teacher"
    for folder in (ended / "scores", ended / "checkpoints" / "6", tmp_path / "none-of-it", tmp_path / "mine"):
        folder.mkdir(parents=True)
    for run in ("other", "none-of-it"):
        (tmp_path / run / "config.json").write_text("{}")
    scores = made({"rgb": np.zeros((3, 1, 2))}, [0, 1, 0], segment="teacher", title="Teacher", protocol="D0U1")
    file.save(ended / "scores" / "test.npz", scores)
    file.save(ended / "scores" / "test@D1U2-centre.npz", scores)
    files.write_json(ended / "scores" / "test@D1U2-centre.json", {"meta": scores.meta, "numbers": {}})
    weight_files.save(ended / "weights.safetensors", {"rgb": {"params": {"a": np.ones(9)}}}, {})
    files.write_json(ended / "done.json", {"steps": 6})
    files.write_json(ended / "key.json", {"key": KEY, "scores": keys.of_scores(settings)})
    what = dict(evaluate=("test",), scored=("test",), measure=())
    segments = [types.SimpleNamespace(name=name, title=name.upper(), **what) for name in ("ce", "mml")]
    return types.SimpleNamespace(workdir=tmp_path / "mine", config=settings, segments=segments)


def taken(run):
    reuse.take(run, {"ce": KEY, "mml": "b" * 64})
    return sorted(str(p.relative_to(run.workdir)) for p in run.workdir.rglob("*") if p.is_file())


def test_a_segment_is_copied_under_the_name_that_it_has_here(other, caplog):
    reuse.LOG.propagate = True
    caplog.set_level("INFO", logger=reuse.LOG.name)
    scores = [f"ce/scores/test{end}" for end in (".npz", "@D1U2-centre.json", "@D1U2-centre.npz")]
    names = ["ce/done.json", "ce/key.json", *scores, "ce/weights.safetensors"]
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


def test_scores_of_other_clips_of_a_further_dataset_are_not(other):
    """Those of the main one are in the segment's key."""
    other.config.subsets = {"few": {"dataset": "more", "share": 0.5}}

    def key(fingerprint):
        other.datasets = {"more": types.SimpleNamespace(info=types.SimpleNamespace(fingerprint=fingerprint))}
        return resume.scores_key(other)

    assert key("a") == key("a") != key("b")


def test_nor_is_what_could_not_be_scored_anew(other):
    other.config.evaluation["protocol"] = "D0U3"
    (other.workdir.parent / "other" / "teacher" / "checkpoints" / "6").rmdir()
    assert taken(other) == []


def test_its_scores_name_the_segment_that_they_are_of_here(other):
    taken(other)
    folder, old = other.workdir / "ce" / "scores", other.workdir.parent / "other" / "teacher" / "scores"
    before, now = (file.load(path / "test.npz") for path in (old, folder))
    assert (now.meta["segment"], now.meta["title"]) == ("ce", "CE")
    assert now.meta | {"segment": "teacher", "title": "Teacher"} == before.meta
    assert np.array_equal(now.logits["rgb"]["action"], before.logits["rgb"]["action"])
    assert files.read_json(folder / "test@D1U2-centre.json")["meta"] == now.meta


@pytest.mark.parametrize("how", ["another split", "split not shown", "scores cut short", "no checkpoint"])
def test_what_lacks_a_score_and_a_checkpoint_is_trained_here(other, how):
    """Copied, it could neither be scored nor trained again."""
    ended = other.workdir.parent / "other" / "teacher"
    if how == "another split":
        other.segments[0].evaluate = other.segments[0].scored = ("test", "unseen")
    elif how == "split not shown":
        other.segments[0].scored = ("test", "val")
    elif how == "scores cut short":
        path = ended / "scores" / "test.npz"
        path.write_bytes(path.read_bytes()[:-9])
    (ended / "checkpoints" / "6").rmdir()
    assert bool(taken(other)) == (how == "no checkpoint")


def test_the_first_that_can_be_used_is_taken(other, caplog):
    """And what stands before it is told of."""
    reuse.LOG.propagate = True
    whole = other.workdir.parent / "other"
    for name in ("first", "third"):
        shutil.copytree(whole, whole.parent / name)
    ended = whole.parent / "first" / "teacher"
    (ended / "scores" / "test.npz").unlink()
    (ended / "checkpoints" / "6").rmdir()
    other.config.reuse = ",".join(str(whole.parent / name) for name in ("first", "other", "third"))
    taken(other)
    assert files.read_json(other.workdir / "ce" / "key.json")["reused"] == str(whole / "teacher")
    said = [r.getMessage() for r in caplog.records if "not taken" in r.getMessage()]
    assert len(said) == 1 and f"{ended} is made of the same as ce, but not taken: it has neither" in said[0]


@pytest.mark.parametrize("name", ["done.json", "weights.safetensors", "key.json"])
def test_a_segment_that_is_not_whole_is_left(other, name):
    (other.workdir.parent / "other" / "teacher" / name).unlink()
    assert taken(other) == []


def test_a_copy_that_fails_leaves_nothing(other, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(reuse.files, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        taken(other)
    assert list(other.workdir.iterdir()) == []


@pytest.mark.parametrize("name, match", [
    ("other", None), ("none-of-it", "has no segment that was trained to its end .*or leave it out here"),
    ("mine", r"mine is no run \(it has no config.json\): name the --workdir"),
    ("nowhere", r"nowhere is no run \(there is no such folder\)"),
])  # fmt: skip
def test_paths_are_looked_at_before_anything_is_built(other, monkeypatch, name, match):
    root = other.workdir.parent
    config = types.SimpleNamespace(reuse=f"{root}/other, {root}/{name}")
    begun = []
    monkeypatch.setattr(train.build, "build", lambda *args: begun.append(args) or 1 / 0)
    with pytest.raises(usage.WrongUse if match else ZeroDivisionError, match=match):
        train._prepared(config, other.workdir, {})
    assert bool(begun) == (not match)


def test_a_run_that_has_nothing_for_this_one_is_said(other, caplog):
    reuse.LOG.propagate = True
    taken(other)
    assert "no segment of" in caplog.text and "none-of-it is made of the same as one here" in caplog.text


def test_a_segment_that_went_on_under_another_key_has_none(other, monkeypatch):
    """And what it has seen is what it saw under each; under one key that is noted once."""
    segment, clips = other.segments[0], iter("abcd")
    now = lambda *_: seen.of_clips([Shown("dataset", next(clips), "", seen.clips(["x"]))], [])  # noqa: E731
    monkeypatch.setattr(resume.seen, "of", now)
    (other.workdir / "ce").mkdir()
    for key, kept in ((KEY, KEY), (KEY, KEY), ("b" * 64, ""), ("b" * 64, "")):
        resume.note_key(other, segment, key)
        note = files.read_json(other.workdir / "ce" / "key.json")
        assert note["key"] == kept
    assert [shown["split"] for shown in note["seen"]["trained"]] == ["c", "b", "a"]


def test_where_a_segment_was_copied_from_stays_noted(other, monkeypatch):
    """While it goes on from that one's checkpoint; trained from its start, it is nobody else's."""
    other.config.evaluation["protocol"] = "D0U3"
    (other.workdir.parent / "other" / "teacher" / "checkpoints" / "6" / "state").write_text("..")
    taken(other)
    monkeypatch.setattr(resume.seen, "of", lambda *_: seen.of_clips([], []))
    for goes_on in (True, True, False):
        if not goes_on:
            shutil.rmtree(other.workdir / "ce" / "checkpoints")
        resume.note_key(other, other.segments[0], KEY)
        note = files.read_json(other.workdir / "ce" / "key.json")
        assert note["key"] == KEY and str(note.get("reused")).endswith("other/teacher") == goes_on
