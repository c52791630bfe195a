"""benchmarks.device in miniature, where nothing is installed but what a machine with a GPU has."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from test_train import environment

from benchmarks import scale
from benchmarks.workers import Worker
from mmvid.data import flow

ROOT = pathlib.Path(__file__).parents[1]
LACKING = ("av", "cv2", "grain", "ml_collections", "tensorflow_datasets", "tensorflow", "orbax", "torch")
# Python runs it at the start of every process, the benchmark's workers included.
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({LACKING}))"


@pytest.mark.slow
def test_tiny_runs_every_section_on_a_bare_machine(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    env = environment() | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.device", "--tiny", "--out", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["errors"] == [] and report["not_run"] == [], done.stdout
    sections = ["joint", "peaks", "single", "lowerings", "tvl1", "parity"]
    assert list(dict.fromkeys(row["section"] for row in report["rows"])) == sections
    for row in report["rows"]:
        if row["section"] in ("joint", "single"):
            assert row["ms"] > 0 and row["compile_s"] > 0 and row["conv_flops"] > 0 and np.isfinite(row["loss"])
            np.testing.assert_allclose(row["clips_per_s"] * row["ms"], 2000)
        if row["section"] == "lowerings":
            assert row["errors"] == {} and set(row["ms"]) > {"mmvid", "conv"}, row
            assert max(row["differs"].values()) < 0.05, row
        if row["section"] == "parity":
            assert 0 < row["logits_relative"] < 0.1 and row["gradient_cosine"] > 0.95, row
    assert "torch -" in done.stdout and all(f"\n{i}. " in done.stdout for i in range(1, 8))


def test_the_page_on_scale_is_what_the_constants_give():
    page = (ROOT / "docs" / "scale.md").read_text()
    for title, table in scale.TABLES.items():
        text = "\n".join(table())
        assert text in page, f"{title}: python -m benchmarks.scale prints the tables of docs/scale.md"
        assert "0.0 " not in text and "inf" not in text


@pytest.mark.slow
def test_what_preparing_costs_is_measured(tmp_path):
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.preparation", "--frames", "20", "--films", "1", "--width", "64"]
    command += ["--height", "48", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads(out.read_text())}
    ways = [f"{how} as {codec}" for how in ("dis", "tvl1-fast", "tvl1") for codec in ("png", "jpeg")]
    assert list(rows) == ["RGB as jpeg", "RGB as mp4", *ways]
    assert all(row["ms"] > 0 and row["bytes"] > 0 for row in rows.values())
    assert rows["RGB as mp4"]["bytes"] < rows["RGB as jpeg"]["bytes"]


def test_no_time_is_said(tmp_path):
    command = [sys.executable, "-m", "benchmarks.device", "--tiny", "--minutes", "0.01", "--out", "found.json"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert "not run for want of time: joint mmvid tsm_resnet18 bfloat16" in done.stdout, done.stderr
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == []


def test_a_worker_that_dies_or_hangs_is_an_answer(tmp_path):
    (tmp_path / "frail.py").write_text(
        "import os, time\nfrom benchmarks.workers import serve\n"
        "def fail():\n    raise ValueError('too large\\nfor this')\n"
        "serve({'die': lambda: os._exit(3), 'hang': lambda: time.sleep(60), 'fail': fail,\n"
        "       'add': lambda a: [a + 1]})\n"
    )
    worker = Worker("frail", {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert worker.ask({"do": "add", "a": 1}, 20) == {"rows": [2]}
    assert worker.ask({"do": "fail"}, 20) == {"error": "ValueError: too large"}
    assert "ended with 3" in worker.ask({"do": "die"}, 20)["error"]
    assert worker.ask({"do": "hang"}, 0.1)["error"].startswith("stopped after")
    assert worker.ask({"do": "add", "a": 2}, 20) == {"rows": [3]}
    worker.close()


def test_gray_is_opencvs_to_the_bit():
    frames = np.random.default_rng(0).integers(0, 256, (2, 181, 253, 3), dtype=np.uint8)
    want = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    np.testing.assert_array_equal(flow.gray(frames), want)
