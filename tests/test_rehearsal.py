"""What would fail after all training fails before it, and leaves nothing behind."""

import errno
import json

import pytest
import runs
from test_build import config, dataset  # noqa: F401

from configs import mml
from mmvid import logs
from mmvid.report import grids, page, table
from mmvid.run import build, feed, rehearsal, resume


@pytest.fixture
def run(dataset, tmp_path):  # noqa: F811
    return build.build(config(dataset, **{"evaluation.neighbours": (1, 3)}), tmp_path)


def test_a_run_that_works_is_rehearsed_without_a_trace(run, capsys):
    rehearsal.rehearse(run)
    assert not list(run.workdir.iterdir()) and not logs.LOG.disabled
    assert "top-1" not in capsys.readouterr().out


# How many segments' scores the tables of a grid add up. One that has sums, and one that has protocols, are quick.
GRIDS = {"ensemble_smoke": 4, "table10_smoke": 3}
MORE_GRIDS = {"ensembles_smoke": 17, "table7_smoke": 0}


@pytest.mark.parametrize(
    "variant, adds",
    [*GRIDS.items(), *(pytest.param(*grid, marks=pytest.mark.slow) for grid in MORE_GRIDS.items())],
)
def test_grids_that_add_up_scores_can_begin(variant, adds, dataset, tmp_path, monkeypatch):  # noqa: F811
    runs.unwritten(monkeypatch.setattr)
    c = mml.get_config(variant)
    c.dataset.path, c.stills.steps = str(dataset), "0"
    run = build.build(c.lock(), tmp_path / "run")
    rehearsal.rehearse(run)
    assert not list(run.workdir.iterdir())
    named = grids.added_up(run.config.to_dict())
    assert len(named) == adds and named <= {s.name for s in run.segments if s.title and s.evaluate}


def test_a_plan_without_tables_of_its_own_adds_nothing_up():
    assert grids.added_up(mml.get_config("smoke").to_dict()) == set()
    assert len(grids.added_up(mml.get_config("ensembles_smoke").to_dict())) == MORE_GRIDS["ensembles_smoke"]


@pytest.mark.parametrize("room, place", [(page, "write"), (table, "table")])
def test_what_would_fail_at_the_end_fails_now(run, monkeypatch, room, place):
    def fail(*args, **kwargs):
        raise KeyError("conv1")

    monkeypatch.setattr(room, place, fail)
    with pytest.raises(ValueError, match=r"nothing was trained.*KeyError: 'conv1' \(test_rehearsal.py"):
        rehearsal.rehearse(run)
    assert not list(run.workdir.iterdir()) and not logs.LOG.disabled


def test_what_the_system_says_stays_what_it_is(run, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rehearsal.file_lib, "save", full)
    with pytest.raises(OSError, match="No space left"):
        rehearsal.rehearse(run)


# ---------------------------------------------------------------------------- what else is said early
def test_more_clips_in_a_batch_than_there_are(dataset, tmp_path, caplog):  # noqa: F811
    logs.LOG.propagate = True
    feed.check(build.build(config(dataset, batch_size=40), tmp_path))
    assert not caplog.records
    feed.check(build.build(config(dataset, batch_size=80), tmp_path))
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1 and "batch_size=80 with 40 train clips" in said[0] and "2.0 times" in said[0]


@pytest.mark.parametrize("name", ["batch_size", "evaluation.batch_size"])
def test_batches_that_do_not_fit_are_refused_with_numbers(dataset, tmp_path, name, monkeypatch):  # noqa: F811
    monkeypatch.setattr(feed.memory, "available", lambda: 10**9)
    run = build.build(config(dataset, **{name: 80000, "steps.ce": "9", "steps.method": "9"}), tmp_path)
    with pytest.raises(ValueError, match=rf"{name}=80000.*8\.5 GB.*holds up to 9.*1\.0 GB of memory are free"):
        feed.check(run)
    monkeypatch.setattr(feed.memory, "available", lambda: None)
    feed.check(run)


def test_a_split_without_the_headlines_modality(dataset, tmp_path):  # noqa: F811
    path = dataset / "metadata.json"
    text = path.read_text()
    info = json.loads(text)
    info["modalities"]["test"]["rgb"] = 0
    try:
        path.write_text(json.dumps(info))
        with pytest.raises(ValueError, match=r"headline='rgb'.*no clip of \S+/test has.*there is flow"):
            build.build(config(dataset), tmp_path)
        info["splits"]["test"] = 0
        path.write_text(json.dumps(info))
        with pytest.raises(ValueError, match=r"'test' of .* has no clips"):
            build.build(config(dataset), tmp_path)
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_damaged_note_is_named(run, name):
    resume.remember(run)
    path = run.workdir / name
    path.write_text(path.read_text()[:9])
    with pytest.raises(ValueError, match=rf"{name} is damaged.*delete it"):
        resume.remember(run)
    path.unlink()
    resume.remember(run)
