"""Table 10's eight protocols from one pass: which views they take, what is printed, what is refused."""

import numpy as np
import pytest

from mmvid.report import protocols as report
from mmvid.scores import numbers, protocols
from mmvid.scores.file import Scores
from mmvid.streams import OF_TABLE_10


def a_pass(crops=1, clips=20, classes=6, protocol="T10", seed=0):
    """Scores of the five views of a clip, each cut into so many crops."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, clips)
    logits = rng.normal(size=(clips, 5 * crops, classes)) + np.eye(classes)[label][:, None]
    meta = dict(protocol=protocol, views=5 * crops, split="val", clips_used=clips, clips_expected=clips)
    there = {"rgb": np.ones(clips, bool)}
    ids = np.arange(clips).astype(str)
    return Scores(ids, np.arange(clips), {"verb": label}, there, {"rgb": {"verb": logits}}, meta)


@pytest.mark.parametrize("crops", [1, 3])
def test_a_protocol_is_its_views(crops):
    scores = a_pass(crops)
    by_clip = scores.logits["rgb"]["verb"].reshape(20, 5, crops, 6)
    found = protocols.every(scores)
    assert list(found) == list(OF_TABLE_10) and len(found) == 8
    for protocol, own in found.items():
        dense, uniform = int(protocol[1]), int(protocol[3])
        assert own.meta["views"] == (dense + uniform) * crops and own.meta["protocol"] == protocol
        want = by_clip[:, list(OF_TABLE_10[protocol])].mean((1, 2))
        np.testing.assert_allclose(own.logits["rgb"]["verb"].mean(1), want)
    # Two dense clips are not the single one and another.
    assert 0 not in OF_TABLE_10["D2U0"] and OF_TABLE_10["D1U0"] == (0,)


def test_the_table_is_printed_for_such_a_pass_alone():
    scores = a_pass()
    text = report.text([("MML", [scores])], "val", "logits")
    assert all(protocol in text.splitlines()[1] for protocol in OF_TABLE_10)
    one = numbers.summary(protocols.subset(scores, "D1U2"), "logits")["rgb"]["verb"]["top1"]
    assert f"{100 * one:.1f}" in text.splitlines()[-1]
    other = a_pass(protocol="D2U2")
    assert report.text([("MML", [other])], "val", "logits") == ""


def test_what_holds_no_subset():
    with pytest.raises(ValueError, match="--protocol=T10"):
        protocols.subset(a_pass(protocol="D2U2"), "D1U2")
    with pytest.raises(ValueError, match="--protocol=T10"):
        protocols.subset(a_pass(), "D3U0")


def test_medians_over_seeds():
    """Of three seeds the middle one counts, however far the best one is."""
    assert protocols.medians([[1, 5], [2, 9], [30, 6]]) == [2.0, 6.0]
    seeds = [a_pass(seed=seed) for seed in range(3)]
    text = report.text([("MML", seeds)], "val", "logits")
    each = [numbers.summary(protocols.subset(own, "D2U2"), "logits")["rgb"]["verb"]["top1"] for own in seeds]
    assert "medians over seeds" in text and f"{100 * sorted(each)[1]:.1f} / " in text.splitlines()[-1]
