"""Which number decides what is best, and what stands for one that is none."""

import math

import pytest

from mmvid.models.model import ONE, Model, Needs
from mmvid.network import Network
from mmvid.plans.segment import Segment
from mmvid.run import feed, score
from mmvid.streams import Sampling, Stream

VALUES = {"rgb/top1": 0.5, "flow/top1": 0.7, "fused/top1": 0.8, "oracle/top1": 0.9}


@pytest.mark.parametrize("best_by, value", [("headline", 0.5), ("sum", 0.8), ("oracle", 0.9)])
def test_best_by(best_by, value):
    assert score.value_of(VALUES, best_by, "rgb") == value


def test_heads_are_averaged_and_one_output_is_its_own_sum():
    heads = {"rgb/top1_verb": 0.5, "rgb/map_noun": 0.3, "flow/top1_verb": 0.1}
    assert score.value_of(heads, "headline", "rgb") == pytest.approx(0.4)
    assert score.value_of({"rgb/top1": 0.5}, "oracle", "rgb") == 0.5


@pytest.mark.parametrize("values", [{}, {"rgb/map": None}, {"rgb/map": math.nan}, {"flow/top1": 0.5}])
def test_what_cannot_be_counted_is_below_every_score(values):
    assert score.value_of(values, "headline", "rgb") == score.UNDEFINED < 0


def test_what_is_undefined_in_one_head_does_not_hide_the_others():
    assert score.value_of({"rgb/top1_verb": 0.5, "rgb/map_noun": None}, "headline", "rgb") == 0.5


def network(name, *reads, outputs=ONE):
    return Network(name, Model(None, None, outputs), reads)


def segment(networks, kind="uniform", outputs=()):
    """One of these networks and of three streams; the rest is empty."""
    streams = {name: Stream(name, name, Sampling(kind), FORMS[name]) for name in FORMS}
    blank = dict.fromkeys(Segment._fields, ())
    return Segment(**blank | {"networks": tuple(networks), "streams": streams, "outputs": outputs})


FORMS = {"rgb": "frames", "flow": "stack5", "boxes": "layout"}
AUDIO_RGB = {"audio": Needs(("audio",)), "rgb": Needs(("rgb",)), "joint": Needs()}


@pytest.mark.parametrize(
    "networks, members",
    [
        ([network("rgb", ("rgb",)), network("flow", ("flow",))], ["rgb", "flow"]),
        ([network("rgb", ("rgb",)), network("flow", ("flow",))._replace(frozen=True)], ["rgb"]),
        ([network("omni", ("rgb",), ("flow",))], ["omni.rgb", "omni.flow"]),
        ([network("av", ("audio", "rgb"), outputs=AUDIO_RGB), network("flow", ("flow",))], ["av.joint", "flow"]),
    ],
    ids=["two networks", "a teacher", "one stream at a time", "a fusion"],
)
def test_sums_take_one_output_of_a_network(networks, members):
    assert score.members(segment(networks)) == members


def test_what_is_not_scored_is_neither_summed_nor_decoded():
    omni, flow = network("omni", ("rgb",), ("boxes",)), network("flow", ("flow",))
    one = segment([omni, flow], outputs=("omni.rgb",))
    assert score.members(one) == list(one.needs) == ["omni.rgb"]
    assert [s.name for s in feed.scored_streams(one)] == ["rgb"]
    # A teacher's stream is not decoded either, but that random clips are drawn from the shortest of all.
    taught = [network("rgb", ("rgb",)), flow._replace(frozen=True)]
    assert [s.name for s in feed.scored_streams(segment(taught))] == ["rgb"]
    assert [s.name for s in feed.scored_streams(segment(taught, "segments"))] == ["rgb", "flow", "boxes"]
