"""Contracts in use together: whole runs of the plan of together.py, cut, killed, and on two processes."""

import json
import sys

import jax
import numpy as np
import pytest
import together
import warm
from test_network import on_one_device, same_weights, stopped_after, weights_of
from test_train import assert_runs_agree, briefly, environment, in_two_processes

from mmvid import files, network, train
from mmvid.run import begin, build, loop, score
from mmvid.scores import effort, metrics
from mmvid.scores import file as file_lib

# Whole runs, some started again; one of each kind is among the quick tests of test_train.py and test_blended.py.
pytestmark = pytest.mark.slow

OUTPUTS = ("av.audio", "av.joint", "av.rgb", "omni.rgb", "omni.rgb2")


@pytest.fixture(scope="session")
def data(once):
    return once("together", together.prepare)


def config(data, **changes):
    c = together.configured()
    c.dataset.path, c.datasets.more.path = (str(data / name) for name in ("main", "more"))
    c.update_from_flattened_dict(changes)
    return c.lock()


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The main stretch in one piece ('one'); and in two ('cut'), after the teacher of 'one', killed in the second
    piece and started again."""
    folder, programs = tmp_path_factory.mktemp("together"), {}
    with pytest.MonkeyPatch.context() as patch:
        for row in together.ROWS:
            patch.setitem(*row)
        on_one_device(patch)
        real = build.build
        # Compiled once for all three; one report, of rough intervals, is enough.
        patch.setattr(build, "build", lambda *given: real(*given)._replace(programs=programs))
        patch.setitem(metrics.bootstrap_interval.__kwdefaults__, "draws", 20)
        patch.setattr(train.rehearsal, "rehearse", lambda run: None)
        with pytest.MonkeyPatch.context() as brief:
            brief.setattr(train.finish, "finish", lambda *given, **more: {})
            train.train(config(data, plan="in_one"), str(folder / "one"))
        cut = config(data, reuse=str(folder / "one"))
        with pytest.MonkeyPatch.context() as kill:
            stopped_after(3, kill)
            with pytest.raises(loop.Stopped):
                train.train(cut, str(folder / "cut"))
        assert not (folder / "cut" / "second" / "done.json").exists()
        train.train(cut, str(folder / "cut"))
        yield folder


def scores_of(runs, place):
    return file_lib.load(runs / f"{place}.npz")


def same_scores(one, other):
    assert one.logits.keys() == other.logits.keys() == set(OUTPUTS)
    jax.tree.map(np.testing.assert_array_equal, (one.logits, one.present), (other.logits, other.present))


def rows(runs, names, file):
    found = [row for name in names for row in files.read_lines(runs / name / file)]
    return [{k: v for k, v in row.items() if k != "wait" and not k.startswith("val/")} for row in found]


def test_cut_killed_and_started_again_it_is_the_run_in_one_piece(runs):
    """Two datasets' clips, reads in turn, the moving average, optimisers' and method's states, the teacher."""
    same_weights(weights_of(runs / "cut", "second"), weights_of(runs / "one", "whole"))
    pieces = [f"cut/{name}" for name in together.CUT]
    for file in ("ids-0.jsonl", "metrics.jsonl"):
        assert [row for row in rows(runs, pieces, file) if len(row) > 1] == [
            row for row in rows(runs, ["one/whole"], file) if len(row) > 1] != []  # fmt: skip
    for split in ("val", "test"):
        same_scores(scores_of(runs, f"cut/second/scores/{split}"), scores_of(runs, f"one/whole/scores/{split}"))
    teacher = [weights_of(runs / name, "teacher") for name in ("one", "cut")]
    same_weights(*teacher)
    assert "reused" in json.loads((runs / "cut" / "teacher" / "key.json").read_text())


def test_what_each_step_shows_and_learns(runs):
    ids, logged = (rows(runs, ["one/whole"], file) for file in ("ids-0.jsonl", "metrics.jsonl"))
    few = files.read_json(runs / "one" / "subsets.json")["ids"]["few"]
    clips = {f"clip{i:03d}" for row in ids for i in row["labelled"]}
    assert clips <= set(few) and len({i for row in ids for i in row["unlabelled"]}) == 24
    steps = [row for row in logged if "train/av.joint/ce" in row]
    assert len(steps) == 4
    for row in steps:
        taught = {name.split("/")[1] for name in row if name.endswith("/distill")}
        assert taught in ({*OUTPUTS} - {"omni.rgb"}, {*OUTPUTS} - {"omni.rgb2"})
        assert (row["train/av.audio/pseudo"], row["train/av.audio/ce"] > 0) == (0, True)  # 'more' is silent
    assert len({frozenset(row) for row in steps}) == 2


def test_a_fusion_with_sound_is_scored_and_reported(runs):
    scores = scores_of(runs, "one/whole/scores/test")
    heard = np.arange(5) % 4 != 3
    for output in OUTPUTS:
        needed = heard if output in ("av.audio", "av.joint") else np.ones(5, bool)
        np.testing.assert_array_equal(scores.present[output], needed)
        assert scores.logits[output]["verb"].shape == (5, 1, 2)
    assert scores.meta["members"] == ["av.joint", "omni.rgb", "omni.rgb2"]
    start, end = (weights_of(runs / "cut", name) for name in ("first", "second"))
    # A joint classifier without batch norms has no statistics.
    same = {path: np.array_equal(value, start[path]) for path, value in end.items()}
    learnt = {"/".join(path[:3]) for path, alike in same.items() if not alike}
    assert {"av/params/audio", "av/params/rgb", "av/params/joint", "omni/params/hidden"} <= learnt
    page = (runs / "cut" / "report.html").read_text()
    summary = files.read_json(runs / "cut" / "summary.json")
    assert all(output in page and output in summary["second"]["test"] for output in OUTPUTS)
    assert "boxes" not in summary["second"]["test"]


def test_what_is_measured_first_is_what_the_weights_before_give(runs, data):
    same_scores(scores_of(runs, "cut/second/scores/val-before"), scores_of(runs, "cut/first/scores/val"))
    measured = scores_of(runs, "one/whole/scores/val-before")
    run = build.build(config(data, plan="in_one"), runs / "one")
    whole = run.segments[-1]
    first, spec = begin.initial_state(whole, run, enter=True), run.config.evaluation
    weights = network.final_weights(first)
    same_scores(measured, score.scorer(run, whole)(weights, "val", 0, spec.protocol, spec.crops))
    steps = [scores_of(runs, f"{place}/scores/val-before").meta["step"] for place in ("one/whole", "cut/second")]
    assert steps == [0, 1] and (measured.logits["av.joint"]["verb"] != scores_of(
        runs, "one/whole/scores/val").logits["av.joint"]["verb"]).any()  # fmt: skip


def test_two_processes_agree_with_one(data, tmp_path):
    """From the configuration file, two as a user starts them. Each reads the scores of held clips that both have
    made; the first one writes what the teachers weigh, and what networks cost."""
    paths = [f"--config.dataset.path={data}/main", f"--config.datasets.more.path={data}/more"]
    line = [sys.executable, "-m", "mmvid.main", f"--config={together.__file__}", "--config.plan=taught", *paths]
    one = warm.run([*line[3:], f"--workdir={tmp_path}/one"], environment(), brief=True)
    assert one.returncode == 0, one.stderr[-2000:]
    in_two_processes(briefly([*line, f"--workdir={tmp_path}/two"]))
    segments = ("teacher", *together.CUT, "pupil", "omnivore")
    assert_runs_agree(tmp_path / "one", tmp_path / "two", segments)
    assert (tmp_path / "two" / "second" / "scores" / "val-before.npz").exists()
    alone, shared = (files.read_json(tmp_path / name / "pupil" / "teachers.json") for name in ("one", "two"))
    weights = shared["weights"]["verb"]
    assert shared["clips"] == 12 and abs(weights["boxes"] - 0.5) > 0.01
    assert weights == pytest.approx(alone["weights"]["verb"], abs=1e-4)
    assert effort.read(tmp_path / "two" / "omnivore").keys() == {"omni.rgb"}
    for name in segments:
        assert effort.read(tmp_path / "two" / name) == effort.read(tmp_path / "one" / name) != {}
    assert scores_of(tmp_path, "two/omnivore/scores/test").logits.keys() == {"omni.rgb"}
