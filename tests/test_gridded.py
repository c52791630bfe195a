"""A run of the plan 'grid' from its records to its page; killed inside it, it goes on."""

import json
import signal

import gridded
import pytest
import runs
import trap
import warm
from test_train import assert_equal_runs, environment

from mmvid import train

SEGMENTS = ("ce", "kd", "mml")


@pytest.fixture(scope="module")
def dataset(once):
    return once("toys", runs.prepare)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended; for reading."""
    return runs.ended(gridded.configured(dataset), tmp_path_factory)


def test_a_run_ends_with_the_papers_table(finished):
    """What was measured, and below it what is printed; the long table is folded away."""
    page = (finished / "report.html").read_text()
    numbers = json.loads((finished / "summary.json").read_text())
    assert list(numbers) == list(SEGMENTS)
    top = {name: f"{100 * next(iter(own['test']['rgb'].values()))['top1']:.1f}" for name, own in numbers.items()}
    row = page[page.index("<h3>A table</h3>") :]
    measured, printed = row[: row.index("Printed in the paper")], row[row.index("Printed in the paper") :]
    assert all(f"<td>{value}" in measured for value in top.values())
    assert "60.82 / 86.75" in printed and "60.82" not in measured


def test_what_two_tables_share_is_trained_once(dataset, finished, tmp_path, monkeypatch):
    """Another grid takes CE from the first one, whatever else it trains."""
    config = gridded.configured(dataset, reuse=str(finished))
    config.grid.segments.mml = {**config.grid.segments.mml.to_dict(), "average": "logit"}
    trap.shorten(monkeypatch.setattr)
    train.train(config.lock(), str(tmp_path))
    reused = {name: "reused" in json.loads((tmp_path / name / "key.json").read_text()) for name in SEGMENTS}
    assert reused == {"ce": True, "kd": True, "mml": False}


@pytest.mark.slow
def test_killed_inside_a_grid_repeats_no_finished_segment(dataset, finished, tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(gridded.FILE)
    line = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/cut"]
    before: dict[str, int] = {}
    for where in (("ce", "step", 3), ("kd", "step", 1), ("kd", "save", 2), ("mml", "step", 3)):
        done = warm.run(line, environment() | {"GRIDDED": str(dataset)}, where)
        assert done.returncode == -signal.SIGKILL, (where, done.stderr[-2000:])
        written = (tmp_path / "cut").glob("*/weights.safetensors")
        ended = {path.parent.name: path.stat().st_mtime_ns for path in written}
        assert before.items() <= ended.items() and where[0] not in ended
        before = ended
    trap.shorten(monkeypatch.setattr)
    monkeypatch.setenv("GRIDDED", str(dataset))
    train.train(gridded.get_config(), str(tmp_path / "cut"))
    assert before.keys() == {"ce", "kd"}
    for name, time in before.items():
        assert (tmp_path / "cut" / name / "weights.safetensors").stat().st_mtime_ns == time
    assert_equal_runs(finished, tmp_path / "cut", SEGMENTS)
