"""Which number decides what is best, and what stands for one that is none."""

import math
from types import SimpleNamespace

import pytest

from mmvid.models.model import ONE, Model, Needs
from mmvid.network import Network
from mmvid.run import score

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
    segment = SimpleNamespace(networks=networks)
    assert score.members(segment) == members
