"""G-Blend in tables and figures: what stands beside what, and the numbers of figures 4 and 6, by hand."""

import numpy as np
import pytest

from mmvid.methods import gblend
from mmvid.plans import arms
from mmvid.report import blending, figures, panels, weighing
from mmvid.report.blending import Line, Over
from mmvid.report.points import Column
from mmvid.scores.file import Scores

AV = {"audio": "audio", "flow": "flow", "joint": "naive"}
COPIES = {"av": AV, "ra": {"audio": "audio", "rgb": "rgb", "joint": "naive_ra"}, "mid": {**AV, "joint": "cut"}}
READS = {"dropout": ("audio", "flow"), "naive": ("flow", "audio"), "cut": ("audio", "flow"), "flow": ("flow",)}


def scored(logits, label, title="Column"):
    """Scores of one output, of one view: [N, K]."""
    ids = np.array([f"c{i}" for i in range(len(label))])
    outputs = {name: {"action": np.array(values, float)[:, None]} for name, values in logits.items()}
    present = {name: np.ones(len(ids), bool) for name in logits}
    return Scores(ids, np.arange(len(ids)), {"action": np.array(label)}, present, outputs, {"title": title})


def test_readers_can_tell_copies_apart():
    assert arms.titles({"av": AV}) == {"audio": "Audio alone", "flow": "Flow alone", "naive": "Naive joint"}
    several = arms.titles(COPIES)
    assert several["rgb"] == "RGB alone" and several["naive_ra"] == "Naive joint, audio + RGB"
    assert several["cut"] == "Naive joint, audio + flow (cut)" != several["naive"]
    assert len({*several.values()}) == len(several)


@pytest.mark.parametrize(
    "output, joint",
    [("ra.joint", "naive_ra"), ("naive", "naive"), ("cut", "cut"), ("dropout", "naive"), ("flow", None)],
)
def test_a_network_is_compared_with_the_copies_of_what_it_reads(output, joint):
    config = {"blend": {"copies": COPIES}, "networks": {name: {"reads": (read,)} for name, read in READS.items()}}
    assert blending.copies_of(config, output).get("joint") == joint
    assert blending.copies_of({"networks": {}}, output) == {}


def test_what_a_run_says_of_its_last_line():
    column = Column("G-Blend", "gblend", {})
    naive = Line("Naive joint", column, "naive", {}, Over("Flow alone", (-0.1, -0.15, -0.05)))
    last = Line("G-Blend", column, "av.joint", {}, Over("Flow alone", (0.02, -0.01, 0.04)),
                Over("Naive joint", (0.1, 0.05, 0.2)))  # fmt: skip
    assert blending.said([naive, last], "test") == [
        "Naive joint: 10.0 [5.0, 15.0] under Flow alone, its best modality (test)",
        "G-Blend: within noise of Flow alone, its best modality (+2.0 [-1.0, +4.0]); 10.0 [5.0, 20.0] over Naive "
        "joint (test)",
    ]
    assert blending.said([], "test") == blending.said([last._replace(modality=Over(), naive=Over())], "test") == []


def test_moments_are_those_of_the_weights():
    """Before and after, G, O and OGR of a figure are those that weights are made of."""
    moments = weighing.Moments(np.array([0, 5, 9]), np.array([2.0, 1.0, 0.4]), np.array([2.0, 1.5, 2.5]))
    for i in (1, 2):
        change = gblend.change(2.0, 2.0, moments.train[i], moments.held[i])
        assert moments.gain[i] == pytest.approx(change.gain)
        assert moments.overfitting[i] == pytest.approx(change.overfitting)
    assert moments.ratio[1] == pytest.approx(gblend.change(2.0, 2.0, 1.0, 1.5).ratio)
    # Where nothing was gained there is no such ratio.
    assert np.isnan(moments.ratio[[0, 2]]).all()
    line = weighing._joined([(moments.steps, moments.gain), (moments.steps + 9, moments.gain)])
    assert len(line) == 7 and np.isnan(line[3][1]) and line[4] == (9, 0.0)


def test_classes_change_in_accuracy_or_in_average_precision():
    right, wrong = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 0, 2, 0]]
    after, before = scored({"a.joint": right}, [0, 1, 2, 2]), scored({"b": wrong}, [0, 1, 2, 2])
    names, change, counts = panels.class_changes(after, before, "a.joint", "b", "action", "logits")
    assert names == ["0", "1", "2"] and counts.tolist() == [1, 1, 2]
    np.testing.assert_allclose(change, [0, 1, 0.5])
    labels = np.array([[1, 0, 0], [0, 1, 0]])
    multi = (scored({"x": own}, labels) for own in (labels, 1 - labels))
    _, change, counts = panels.class_changes(*multi, "x", "x", "action", "logits")
    # Of the third class there is no clip.
    np.testing.assert_allclose(change, [0.5, 0.5, np.nan])
    assert counts.tolist() == [1, 1, 0]


def test_both_ends_of_many_classes_are_shown():
    names, change = [f"class{i}." for i in range(50)], np.linspace(-1, 1, 50)
    drawn = figures.changes(names, change, np.ones(50, int), "A\nover B", ends=10)
    assert [name for name in names if f"{name} (n=1)" in drawn] == [*names[:10], *names[-10:]]
    most = figures.changes(names, change, np.ones(50, int), "A")
    assert [name for name in names if f"{name} (n=1)" in most] == [*names[:20], *names[-20:]]
