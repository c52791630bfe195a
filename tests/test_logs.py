"""Metrics and ids by step; what a restored run makes again is cut off first."""

import pytest

from mmvid import logs


def test_cut_and_half_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 3, "a": 2}\n{"step": 2, "b": 1}\n{"step": 4, "a"')
    logs.cut(path, 2)
    assert logs.read_lines(path) == [{"step": 1, "a": 1}, {"step": 2, "b": 1}]
    logs.cut(tmp_path / "none.jsonl", 2)


def test_writer_goes_on_where_the_checkpoint_is(tmp_path):
    for start in (0, 2):
        writer = logs.Writer(tmp_path, tmp_path / "board", start)
        for step in range(start + 1, start + 4):
            writer.write_ids(step, {"main": [step]})
            writer.write(step, {"train/rgb/ce": 1 / 3})
        writer.close()
    steps = [line["step"] for line in logs.read_lines(tmp_path / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5]
    assert [line["main"] for line in logs.read_lines(tmp_path / "ids-0.jsonl")] == [[1], [2], [3], [4], [5]]
    assert logs.read_lines(tmp_path / "metrics.jsonl")[0]["train/rgb/ce"] == pytest.approx(1 / 3, rel=1e-5)
    assert len(list((tmp_path / "board").iterdir())) == 2


def test_late_metrics_are_read_one_step_later(tmp_path):
    writer = logs.Writer(tmp_path, tmp_path / "board", 0)
    checked = []
    late = logs.Late(writer, lambda values, step: checked.append(step))
    late.push(1, {"rgb/ce": 1.0}, {"lr": 0.1})
    assert not checked
    late.push(2, {"rgb/ce": 2.0}, {"lr": 0.1})
    assert checked == [1]
    assert late.flush() == {"rgb/ce": 2.0} and late.flush() == {}
    writer.close()


def test_durations_and_advice():
    assert [logs.duration(s) for s in (5, 300, 7200)] == ["5 s", "5 min", "2.0 h"]
    clock = logs.Clock()
    clock.start -= 10
    clock.waited, clock.steps = 7.5, 10
    assert "75%" in logs.input_advice(clock, 2) and "workers=8" in logs.input_advice(clock, 2)
    clock.waited = 0.1
    assert "workers" not in logs.input_advice(clock, 2)
