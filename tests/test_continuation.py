"""A run cut into segments is the run: the same bits, and nothing compiled twice."""

import itertools

import jax
import numpy as np
import pytest
import toy
from test_build import config, dataset  # noqa: F401

from mmvid import checkpoint, files, train
from mmvid.plans import continuation, keys
from mmvid.run import begin, loop, resume, reuse
from mmvid.weights import files as weight_files
from mmvid.weights import seen

SETTINGS = {"steps.ce": "7", "steps.method": "7", "schedule.warmup": "2", "schedule.kind": "cosine",
            "log_every": 1, "save_every": "0", "ema": 0.5, "evaluation.every": "0",
            "loader.threads": 1}  # fmt: skip


def trained(run, segments):
    """Trains segments one after another; the state that the last one ended with, as its checkpoint has it."""
    run = run._replace(segments=segments)
    known = keys.of(segments)
    for segment in segments:
        train._run_segment(run, segment, known[segment.name])
    last = segments[-1]
    with checkpoint.opened(run.workdir / last.name / "checkpoints") as checkpoints:
        return jax.device_get(checkpoint.restore(checkpoints, begin.initial_state(last, run, enter=False)))


def bits(state):
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def lines(run, names, file):
    rows = [row for name in names for row in files.read_lines(run.workdir / name / file)]
    return [{k: v for k, v in row.items() if k != "wait"} for row in rows]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_run_cut_in_three_is_the_run_bit_for_bit(dataset, tmp_path, optimizer):  # noqa: F811
    run = toy.a_run(config(dataset, **SETTINGS, **{"optimizer.name": optimizer}), tmp_path)
    (whole,) = run.segments
    pieces = continuation.cut(whole, {"a": 3, "b": 1, "c": 3})
    assert [(s.first_step, s.stop) for s in pieces] == [(0, 3), (3, 4), (4, 7)]
    cut, one = trained(run, pieces), trained(run, [whole])
    jax.tree.map(np.testing.assert_array_equal, bits(cut), bits(one))
    assert int(one.step) == 7 and float(one.method["steps"]) == 7
    # Keys, batches and rates went on, too.
    for file in ("ids-0.jsonl", "metrics.jsonl"):
        assert lines(run, "abc", file) == lines(run, ["whole"], file) != []
    assert len({row["lr"] for row in lines(run, "abc", "metrics.jsonl")}) == 7


def test_pieces_compile_nothing_anew(dataset, tmp_path):  # noqa: F811
    run = toy.a_run(config(dataset, **SETTINGS), tmp_path)._replace(programs={})
    pieces = continuation.cut(run.segments[0], {"a": 2, "b": 2, "c": 3})
    trained(run, pieces[:1])
    trained(run, pieces[1:2])
    assert {key.split()[0] for key in run.programs} == {"draw", "begin", "step"} and len(run.programs) == 3
    heard = []
    hear = lambda name, *_, **__: heard.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        trained(run, pieces[2:])
        compiled = [name for name in heard if "backend_compile" in name]
        jax.jit(lambda x: x + len(heard))(1.0)
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    assert not compiled and any("backend_compile" in name for name in heard)


def test_a_killed_piece_goes_on(dataset, tmp_path):  # noqa: F811
    """From its own checkpoint, not from the one that it began with."""
    run = toy.a_run(config(dataset, **SETTINGS), tmp_path)
    pieces = continuation.cut(run.segments[0], {"a": 3, "b": 4})
    trained(run, pieces[:1])
    with pytest.MonkeyPatch.context() as patch:
        asked = itertools.count(4)  # after step 4 for the first time
        patch.setattr(loop, "_asked_to_stop", lambda run: next(asked) == 5)
        with pytest.raises(loop.Stopped):
            trained(run, pieces[1:])
    cut, one = trained(run, pieces), trained(run, run.segments)
    jax.tree.map(np.testing.assert_array_equal, bits(cut), bits(one))
    assert [row["step"] for row in lines(run, "b", "ids-0.jsonl")] == [4, 5, 6, 7]


def test_a_recipe_may_change_what_it_goes_on_with(dataset, tmp_path):  # noqa: F811
    """Momentum and the method's state go over; here the state is another one."""
    run = toy.a_run(config(dataset, **SETTINGS), tmp_path)
    a, b = continuation.cut(run.segments[0], {"a": 3, "b": 4})

    def enter(beginning, run):
        return b.enter(beginning, run)._replace(method={"steps": np.float32(40)})

    assert float(trained(run, [a, b._replace(enter=enter)]).method["steps"]) == 44


def test_without_its_checkpoint_nothing_goes_on(dataset, tmp_path):  # noqa: F811
    run = toy.a_run(config(dataset, **SETTINGS), tmp_path)
    a, b = continuation.cut(run.segments[0], {"a": 3, "b": 4})
    with pytest.raises(ValueError, match=r"a/checkpoints ends at step 0, not at 3.*Delete the folder \S+/a:"):
        trained(run, [b])
    with pytest.raises(ValueError, match="not the 7 of segment 'whole'"):
        continuation.cut(run.segments[0], {"a": 3, "b": 3})
    assert keys.of([a, b])["b"] != keys.of([a._replace(spec={}), b])["b"] == ""


def test_splits_are_measured_before_the_first_step_and_once(dataset, tmp_path, monkeypatch):  # noqa: F811
    run = toy.a_run(config(dataset, **SETTINGS), tmp_path)
    segment = run.segments[0]._replace(measure=("val", "test"))
    seen = []

    def evaluator(run, segment):
        def evaluate(state, split, step, *, when=""):
            seen.append((split, step, when, jax.device_get(state.params["rgb"]["classifier"]["verb"]["kernel"])))
            path = run.workdir / segment.name / "scores" / f"{split}-{when}.npz"
            path.parent.mkdir(exist_ok=True)
            np.savez(path, id=np.arange(3))

        return evaluate

    monkeypatch.setattr(train.score, "evaluator", evaluator)
    trained(run, [segment])
    assert [row[:3] for row in seen] == [("val", 0, "before"), ("test", 0, "before")]
    (tmp_path / "whole" / "done.json").unlink()
    assert resume.unmeasured(run, segment) == []
    trained(run, [segment])
    assert len(seen) == 2
    (tmp_path / "whole" / "scores" / "val-before.npz").unlink()  # lost: made again of the same weights
    trained(run, [segment])
    assert seen[2][:3] == seen[0][:3] and np.array_equal(seen[2][3], seen[0][3])


def test_a_network_has_its_own_optimiser_and_schedule(dataset, tmp_path):  # noqa: F811
    own = {"networks.flow.schedule.lr": 0.5, "networks.flow.schedule.warmup": "0",
           "networks.flow.optimizer.name": "adamw"}  # fmt: skip
    (segment,) = toy.a_run(config(dataset, **SETTINGS, **own), tmp_path).segments
    params = {"classifier": {"verb": {"kernel": np.zeros((3, 2), np.float32)}}}
    kinds = {name: str(jax.tree.structure(tx.init(params))) for name, tx in segment.tx.items()}
    assert "ScaleByAdamState" in kinds["flow"] and "TraceState" in kinds["rgb"]
    rates = begin.rates(segment)
    assert list(rates) == ["lr", "lr/flow"] and begin.rates_at(rates, 0) == {"lr": 0, "lr/flow": 0.5}
    (plain,) = toy.a_run(config(dataset, **SETTINGS), tmp_path).segments
    assert list(begin.rates(plain)) == ["lr"]
    assert begin.rates(plain._replace(headline="flow"))["lr"][1] == np.float32(0.005)


def test_what_is_trained_on_a_reused_segment_is_the_same(dataset, tmp_path):  # noqa: F811
    """A run whose first half comes from another workdir ends as that one did."""
    from mmvid.plans import continuation

    first = toy.a_run(config(dataset, **SETTINGS), tmp_path / "first")
    pieces = continuation.cut(first.segments[0], {"a": 4, "b": 3})
    one = trained(first, pieces)
    (first.workdir / "config.json").write_text("{}")
    second = toy.a_run(config(dataset, **SETTINGS, reuse=str(first.workdir)), tmp_path / "second")
    pieces = [pieces[0]._replace(name="begun"), *pieces[1:]]
    pieces[1] = continuation.after(pieces[0], "ended", 3)
    known = keys.of(pieces)
    assert list(known.values()) == list(keys.of(continuation.cut(first.segments[0], {"a": 4, "b": 3})).values())
    reuse.take(second._replace(segments=pieces[:1]), known)
    when = (second.workdir / "begun" / "weights.safetensors").stat().st_mtime_ns
    two = trained(second, pieces)
    assert when == (second.workdir / "begun" / "weights.safetensors").stat().st_mtime_ns
    jax.tree.map(np.testing.assert_array_equal, bits(two), bits(one))
    for name in ("begun", "ended"):
        path = second.workdir / name / "weights.safetensors"
        assert weight_files.metadata(path)["key"] == known[name]
        assert seen.saw(path, "train", second.datasets["dataset"].split("train").ids())
        with pytest.raises(ValueError, match="no split of just these clips"):
            seen.saw(path, "held", ["clip999"])
