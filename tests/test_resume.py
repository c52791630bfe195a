"""What got lost of a segment that has ended is made again, or the message says what to do."""

import json
import pathlib
import shutil
import types

import fake
import numpy as np
import pytest
from test_configs import context

from configs import mml
from mmvid import files as json_files
from mmvid import plans
from mmvid.report import finish
from mmvid.run import resume
from mmvid.weights import files

SEGMENTS = [types.SimpleNamespace(name=name, evaluate=("test",), scored=("test",), measure=(), thinned=())
            for name in ("ce", "mml")]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Two segments that have ended, whole, with a checkpoint each."""
    for segment in SEGMENTS:
        directory = tmp_path / segment.name
        for folder in ("scores", "checkpoints/6"):
            (directory / folder).mkdir(parents=True)
        np.savez_compressed(directory / "scores" / "test.npz", id=np.arange(3))
        files.save(directory / "weights.safetensors", {"rgb": {"params": {"a": np.zeros(9)}}}, {})
        (directory / "done.json").write_text('{"steps": 6}')
    return types.SimpleNamespace(workdir=tmp_path, segments=SEGMENTS)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_what_is_whole_is_finished(run):
    assert all(resume.finished(run, segment) for segment in SEGMENTS) and resume.all_done(run)
    (run.workdir / "mml" / "done.json").unlink()
    assert resume.finished(run, SEGMENTS[0]) and not resume.finished(run, SEGMENTS[1])
    assert not resume.all_done(run)


@pytest.mark.parametrize("name", ["scores/test.npz", "weights.safetensors"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()],
                         ids=["cut", "empty", "gone"])  # fmt: skip
def test_what_is_lost_is_made_again_from_the_checkpoint(run, name, damage):
    damage(run.workdir / "ce" / name)
    assert not resume.finished(run, SEGMENTS[0]) and resume.ended(run, SEGMENTS[0])
    assert resume.unscored(run, SEGMENTS[0]) == (["test"] if "scores" in name else [])


def test_val_which_older_runs_lack_is_scored_where_that_can_be_done(run):
    segment = types.SimpleNamespace(**vars(SEGMENTS[0]) | {"scored": ("test", "val")})
    assert resume.unscored(run, segment) == ["val"] and not resume.finished(run, segment)
    shutil.rmtree(run.workdir / "ce" / "checkpoints")
    assert resume.unscored(run, segment) == [] and resume.finished(run, segment)


def test_scores_of_fewer_frames_are_made_where_a_checkpoint_can(run):
    """A segment that was reused has none where it was scored in another way."""
    segment = types.SimpleNamespace(**vars(SEGMENTS[0]) | {"thinned": (2, 4)})
    run.config = types.SimpleNamespace(evaluation=types.SimpleNamespace(protocol="E2", crops="centre"))
    np.savez_compressed(run.workdir / "ce" / "scores" / "test@E2t2-centre.npz", id=np.arange(3))
    assert resume.unthinned(run, segment) == [4] and not resume.finished(run, segment)
    shutil.rmtree(run.workdir / "ce" / "checkpoints")
    assert resume.unthinned(run, segment) == [] and resume.finished(run, segment)


def test_scores_damaged_in_their_middle_are_made_again(run):
    path = run.workdir / "ce" / "scores" / "test.npz"
    np.savez_compressed(path, id=np.random.default_rng(0).integers(0, 99, 5000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    assert resume.unscored(run, SEGMENTS[0]) == ["test"]


def test_done_is_done_whatever_the_file_holds(run):
    (run.workdir / "ce" / "done.json").write_bytes(b"")
    assert resume.finished(run, SEGMENTS[0])


@pytest.mark.parametrize("name", ["scores/test.npz", "weights.safetensors"])
def test_without_a_checkpoint_the_message_says_what_works(run, name):
    (run.workdir / "ce" / name).unlink()
    (run.workdir / "ce" / "checkpoints" / "6").rmdir()
    if name == "weights.safetensors":
        assert resume.finished(run, SEGMENTS[0])  # nobody needs them any more
        (run.workdir / "mml" / "done.json").unlink()
    with pytest.raises(ValueError, match=rf"ce has ended, but its {name}.*delete the folder .*/ce"):
        resume.finished(run, SEGMENTS[0])


# ---------------------------------------------------------------------------- a run of November 2026
OLD = pathlib.Path(__file__).parent / "fixtures" / "run"


@pytest.fixture
def old(tmp_path):
    """configs/mml.py:smoke, finished before segments had keys; without its weights and checkpoints."""
    shutil.copytree(OLD, tmp_path / "run")
    config = mml.get_config("smoke")
    return types.SimpleNamespace(workdir=tmp_path / "run", config=config, segments=plans.make(context(config)))


def as_json(config):
    return json.loads(config.to_json_best_effort(sort_keys=True))


def test_an_old_run_is_no_other_configuration(old):
    """What its configuration lacks takes today's default: who adds an entry adds it to resume.SINCE."""
    resume._check_same_config(old, as_json(old.config))
    assert resume.all_done(old) and all(resume.finished(old, segment) for segment in old.segments)


@pytest.mark.parametrize(
    "change",
    [{"split": "val"}, {"missing.audio": 0.5}, {"networks.rgb.schedule.lr": 0.1}, {"method.mml.average": "logit"},
     {"seed": 1}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_newer_entry_that_says_something_is_a_difference(old, change):
    config = mml.get_config("smoke").unlock()
    config.update_from_flattened_dict(change)
    old.config = config
    with pytest.raises(ValueError, match=f"another configuration; what differs: {next(iter(change))}="):
        resume._check_same_config(old, as_json(config))


def test_the_options_of_a_method_that_is_not_used_are_no_difference(old):
    config = mml.get_config("smoke").unlock()
    config.method.dmcl.temperature = 9.0
    other, used = resume.entries(as_json(config)), resume.entries(as_json(old.config))
    assert other == used and "method.mml.average" in used
    resume._check_same_config(old, as_json(config))
    config.method.name = "dmcl"
    assert resume.entries(as_json(config))["method.dmcl.temperature"] == "9.0"


def test_an_old_runs_report_is_made_again(old):
    before = json_files.read_json(old.workdir / "summary.json")
    (old.workdir / "summary.json").unlink()
    columns = [(s.title, s.name, ("test",)) for s in old.segments[-2:]]
    finish.finish(old.workdir, old.config, columns, fake.dataset(40), baseline=plans.baseline(old.segments))
    after = json_files.read_json(old.workdir / "summary.json")
    assert list(after) == ["ce_continued", "mml"] == list(before)[1:]
    for segment, splits in after.items():
        for output in ("rgb", "flow", "fused"):
            for name, value in before[segment]["test"][output]["action"].items():
                assert splits["test"][output]["action"][name] == pytest.approx(value), (segment, name)
    page = (old.workdir / "report.html").read_text()
    assert "CE continued" in page and "<svg" in page
