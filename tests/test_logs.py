"""Metrics and ids by step; what a restored run makes again is cut off first."""

import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmvid import files, logs


def test_cut_and_half_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 3, "a": 2}\n{"step": 2, "b": 1}\n{"step": 4, "a"')
    files.cut(path, 2)
    assert files.read_lines(path) == [{"step": 1, "a": 1}, {"step": 2, "b": 1}]
    files.cut(tmp_path / "none.jsonl", 2)


@pytest.mark.parametrize("end", [b"", b'{"step": 4, "ma', b"\xff\n", b'{"lr": 3}\n{"step": 1}\n'])
@pytest.mark.parametrize("step, kept", [(0, 0), (2, 2), (3, 3), (99, 3)])
def test_the_end_of_a_long_file_is_cut_in_place(tmp_path, step, kept, end):
    path, lines = tmp_path / "ids-0.jsonl", [b'{"step": %d, "main": [%d]}\n' % (i, 7 * i) for i in (1, 2, 3)]
    path.write_bytes(b"".join(lines) + end)
    files.cut_end(path, step)
    assert path.read_bytes() == b"".join(lines[:kept])
    files.cut_end(path, step)
    assert path.read_bytes() == b"".join(lines[:kept])
    files.cut_end(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


DAMAGE = [b"\x00" * 50 + b"\n", b"\x00" * 50, b'{"step": 2, "ma\n', b'{"step": 1}\n', b"\xff\n\n3\n"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("longest", [40, 1 << 24])
def test_what_a_power_cut_damaged_costs_no_other_line(tmp_path, damage, longest, monkeypatch):
    """But for the one that it runs into; and a block without an end is never held whole."""
    monkeypatch.setattr(files, "LONGEST", longest)
    path, lines = tmp_path / "ids-0.jsonl", [b'{"step": %d, "main": [%d]}\n' % (i, 7 * i) for i in range(1, 8)]
    path.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]) + b'{"step": 8')
    files.cut_end(path, 6)
    own = lines if damage.endswith(b"\n") else [*lines[:2], *lines[3:]]
    assert path.read_bytes() == b"".join(own[: own.index(lines[5]) + 1])
    files.cut_end(path, 2)
    assert path.read_bytes() == b"".join(lines[:2]) and list(tmp_path.iterdir()) == [path]


def test_a_file_of_whole_lines_is_cut_where_it_lies(tmp_path):
    """A copy of gigabytes would want as much room again."""
    path = tmp_path / "ids-0.jsonl"
    path.write_text("".join(f'{{"step": {i}}}\n' for i in range(9)) + '{"step": 9')
    before = path.stat().st_ino
    files.cut_end(path, 5)
    assert path.stat().st_ino == before and len(path.read_text().splitlines()) == 6


def test_what_a_full_disk_left_behind_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\x00\n3\n{"lr": 1}\n{"step": "2"}\n[1]\n{"step": 2}\n')
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}]
    files.cut(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "data.json"
    assert files.read_json(path) is None
    files.write_json(path, {"a": 1})
    assert files.read_json(path) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["data.json"]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is damaged .*delete it"):
        files.read_json(path)


def test_writer_goes_on_where_the_checkpoint_is(tmp_path):
    for start in (0, 2):
        writer = logs.Writer(tmp_path, tmp_path / "board", start)
        for step in range(start + 1, start + 4):
            writer.write_ids(step, {"main": [step]})
            writer.write(step, {"train/rgb/ce": 1 / 3})
        writer.close()
    steps = [line["step"] for line in files.read_lines(tmp_path / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5]
    assert [line["main"] for line in files.read_lines(tmp_path / "ids-0.jsonl")] == [[1], [2], [3], [4], [5]]
    assert files.read_lines(tmp_path / "metrics.jsonl")[0]["train/rgb/ce"] == pytest.approx(1 / 3, rel=1e-5)
    # The second writer drew what is left of the first one's lines anew, and none of it twice.
    accumulator = EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [event.step for event in accumulator.Tensors("train/rgb/ce")] == [1, 2, 3, 4, 5]


def test_late_metrics_are_read_one_line_later(tmp_path):
    writer = logs.Writer(tmp_path, tmp_path / "board", 0)
    late = logs.Late(writer, lambda values, step: pytest.fail("all is finite"))
    late.see(1, {"rgb/ce": 1.0})
    late.see(2, {"rgb/ce": 2.0})
    assert late.push({"lr": 0.1}) == {} and not files.read_lines(tmp_path / "metrics.jsonl")
    late.see(3, {"rgb/ce": 3.0})
    assert late.push({"lr": 0.1}) == {"rgb/ce": 2.0}
    assert late.flush() == {"rgb/ce": 3.0} and late.flush() == {}
    writer.close()
    assert [line["step"] for line in files.read_lines(tmp_path / "metrics.jsonl")] == [2, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_that_is_not_finite_is_named(tmp_path, bad):
    """Also where it lies between two log lines, and before what it spoilt is saved."""
    for way in ("push", "check_all"):
        writer, told = logs.Writer(tmp_path, tmp_path / "board", 0), []

        def check(values, step, told=told):
            told.extend([step] * (not np.isfinite(values["rgb/ce"])))

        late = logs.Late(writer, check)
        for step in range(1, 11):
            late.see(step, {"rgb/ce": bad if step >= 7 else 1.0})
        if way == "push":
            late.push({})
            assert not told
            late.flush()
        else:
            late.check_all()
        assert told[0] == 7
        writer.close()


def test_durations_and_advice(monkeypatch):
    assert [logs.duration(s) for s in (5, 300, 7200)] == ["5 s", "5 min", "2.0 h"]
    monkeypatch.setattr(logs.os, "cpu_count", lambda: 16)
    clock = logs.Clock()
    clock.start -= 10
    clock.waited, clock.steps = 7.5, 10
    text = logs.input_advice(clock, 2, 4)
    assert "75%" in text and "workers=8" in text
    assert "workers=16" in logs.input_advice(clock, 0, 4)  # four threads are too few already
    assert "16 cores" in logs.input_advice(clock, 8, 4)
    clock.waited = 0.1
    assert "workers" not in logs.input_advice(clock, 2, 4)


def test_scoring_is_no_time_of_a_step():
    clock = logs.Clock()
    clock.start -= 10
    clock.waited = 5.0
    before = clock.lap()
    with clock.paused():
        time.sleep(0.2)
    assert before == pytest.approx(0.5, rel=0.01)
    assert clock.elapsed() < 10.2 and clock.lap() < 0.01


def test_nobody_elses_file_is_removed(tmp_path):
    """A user may have a said.json.tmp, or a folder of that name, beside what is written."""
    (tmp_path / "said.json.tmp").mkdir()
    (tmp_path / "said.json.tmp" / "mine").touch()
    with files.whole(tmp_path / "said.json") as temporary:
        temporary.write_text("{}")
    assert (tmp_path / "said.json.tmp" / "mine").exists() and (tmp_path / "said.json").read_text() == "{}"
