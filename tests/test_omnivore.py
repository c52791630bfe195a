"""Omnivore: one network, a stream a step; boxes are among its pictures."""

import itertools

import jax
import numpy as np
import pytest
import toy
from test_continuation import bits, lines, trained
from test_modalities import config, dataset  # noqa: F401

from configs import common
from mmvid.data import fields
from mmvid.models import MODELS
from mmvid.plans import stills
from mmvid.run import build, feed, loop, score

STEPS = 6


def omnivore(dataset, folder, **changes):  # noqa: F811
    """A run of the plan: RGB alone for 3 steps, then a network of RGB and drawn boxes for 6."""
    c = config(dataset, **changes).unlock()
    c.streams.rgb = common.stream("rgb", frames=4)
    c.streams.boxes.form = "outlines"
    del c.streams.audio, c.networks.audio, c.networks.boxes
    c.networks.rgb = common.network("toy", "rgb")
    c.networks.omni = common.network("toy", "rgb", "boxes")
    c.plan, c.headline, c.size = "omnivore", "omni.rgb", 24
    c.log_every, c.save_every, c.evaluation.every = 1, "0", "0"
    return build.build(c.lock(), folder)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "toy", toy.MODEL)
        yield


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):  # noqa: F811
    return omnivore(dataset, tmp_path_factory.mktemp("omnivore"))


@pytest.fixture(scope="module")
def ended(run):
    """The state that the last segment ends with."""
    return trained(run, run.segments[-1:])


def decoded(monkeypatch):
    """A list that grows by the name of each field that is decoded."""
    read, real = [], fields.decode_bytes
    monkeypatch.setattr(fields, "decode_bytes", lambda r, f, i: read.append(f) or real(r, f, i))
    return read


def test_it_lasts_as_often_as_it_has_streams(run):
    ce, omni = run.segments
    assert (ce.name, ce.steps, [n.name for n in ce.networks]) == ("ce", 3, ["rgb"])
    assert (omni.name, omni.steps, omni.title) == ("omnivore", STEPS, "Omnivore")
    assert omni.networks[0].outputs == ("omni.rgb", "omni.boxes") and omni.headline == "omni.rgb"
    assert omni.seed == ce.seed and list(ce.streams) == ["rgb"]


def test_drawn_boxes_are_pictures_that_weights_of_stills_fit(run):
    config, heads = run.config.copy_and_resolve_references(), run.segments[-1].heads
    assert stills._sees_pictures(config, "omni", heads)
    with config.unlocked():
        config.streams.boxes.form, config.networks.omni.reads = "layout", (("boxes",),)
    assert not stills._sees_pictures(config, "omni", heads)


def test_a_step_decodes_and_learns_from_one_stream(run, ended, monkeypatch):
    # Nothing is made ahead, so that what is read is of the step.
    monkeypatch.setattr(feed, "_ahead", lambda run, made: (made[i] for i in range(len(made))))
    read, seen = decoded(monkeypatch), []
    batches = feed.train_batches(run, run.segments[-1], 0)
    logged = [row for row in lines(run, ["omnivore"], "metrics.jsonl") if "lr" in row]
    for row in logged:
        read.clear()
        group = next(batches)["main"]
        turn = ("rgb", "boxes")[int(group["one_of"]["omni"])]
        other = ({"rgb", "boxes"} - {turn}).pop()
        assert set(read) == {turn} and not group["inputs"]["train"][other].any()
        assert group["inputs"]["train"][turn].shape == (8, 4, 24, 24, 3)
        assert f"train/omni.{turn}/ce" in row and f"train/omni.{other}/ce" not in row
        seen.append(turn)
    batches.close()
    assert len(logged) == STEPS and set(seen) == {"rgb", "boxes"} and int(ended.step) == STEPS


def test_rgb_alone_is_scored(run, ended, monkeypatch):
    read = decoded(monkeypatch)
    segment = run.segments[-1]
    scores = score.evaluator(run, segment)(ended, "test", STEPS)
    assert set(read) == {"rgb"} and list(scores.logits) == list(scores.present) == ["omni.rgb"]
    assert score.members(segment) == ["omni.rgb"] and scores.meta["members"] == ["omni.rgb"]
    # Its numbers are those of a segment that scores all.
    both = score.evaluator(run, segment._replace(outputs=()))(ended, "test", STEPS)
    assert set(both.logits) == {"omni.boxes", "omni.rgb"}
    assert set(read) == {"rgb", "boxes"}
    np.testing.assert_array_equal(both.logits["omni.rgb"]["verb"], scores.logits["omni.rgb"]["verb"])


def test_stopped_it_goes_on_with_the_same_bits(dataset, run, ended, tmp_path, monkeypatch):  # noqa: F811
    other = omnivore(dataset, tmp_path)._replace(programs=run.programs)
    with monkeypatch.context() as patch:
        asked = itertools.count(1)
        patch.setattr(loop, "_asked_to_stop", lambda run: next(asked) == 3)
        with pytest.raises(loop.Stopped):
            trained(other, other.segments[-1:])
    again = trained(other, other.segments[-1:])
    jax.tree.map(np.testing.assert_array_equal, bits(again), bits(ended))
    assert lines(other, ["omnivore"], "ids-0.jsonl") == lines(run, ["omnivore"], "ids-0.jsonl")


@pytest.mark.parametrize("reads, match", [(("rgb",), r"here are \[\]"), (("rgb", "sound"), "different shapes")])
def test_what_cannot_be_one_is_explained(dataset, tmp_path, run, reads, match):  # noqa: F811
    c = run.config.copy_and_resolve_references().unlock()
    c.streams.sound = common.stream("audio", form="logmel")
    c.networks.omni = common.network("toy", *reads)
    c.headline = "rgb"
    with pytest.raises(ValueError, match=match):
        build.build(c.lock(), tmp_path)
