"""The sentence that a run comes down to, whatever the run is like."""

import numpy as np
import pytest
from test_scores import made

from mmvid.report import points, verdict
from mmvid.report.points import Column

META = dict(split="test", protocol="D1U1", crops="centre", views=1, dataset="fake", fingerprint="abc")
LABELS = np.arange(120) % 6


def right(share, seed=0):
    """Logits [120, 1, 6] whose first class is right for this share of clips: the same ones at each call."""
    hit = np.random.default_rng(seed).permutation(120) < round(120 * share)
    return np.eye(6)[np.where(hit, LABELS, (LABELS + 1) % 6)][:, None]


def column(title, segment="mml", labels=LABELS, **shares):
    logits = {output: right(share) for output, share in shares.items()}
    return Column(title, segment, {"test": made(logits, labels, **META)})


def said(*columns, baseline="base", headline="rgb"):
    return verdict.verdict(columns, "test", headline=headline, baseline=baseline)


BASE = column("CE continued", "base", rgb=0.5)


@pytest.mark.parametrize("share, text", [
    (0.6, "60.0, +10.0 [+5.0, +15.8] over CE continued with the same updates"),
    (0.4, "40.0, 10.0 [5.0, 15.8] under CE continued with the same updates"),
    (0.5, "50.0, within noise of CE continued with the same updates (+0.0 [+0.0, +0.0])"),
])  # fmt: skip
def test_a_method_wins_loses_or_does_neither(share, text):
    assert said(BASE, column("MML", rgb=share)) == f"MML: rgb {text}"


def test_a_calibration_error_that_is_lower_is_no_negative_number():
    said = lambda *over: verdict.calibrated(0.08, tuple(v / 100 for v in over), "Baseline")  # noqa: E731
    assert said(-15.1, -22.1, -6.8) == "calibration error 8.0, 15.1 [6.8, 22.1] lower than Baseline's"
    assert said(15.1, 6.8, 22.1) == "calibration error 8.0, 15.1 [6.8, 22.1] higher than Baseline's"
    assert said(-1.0, -2.0, 0.5) == "calibration error 8.0, within noise of Baseline's (-1.0 [-2.0, +0.5])"


def test_other_outputs_are_told_by_whether_they_are_beyond_noise():
    base = column("CE", "base", rgb=0.5, flow=0.5, depth=0.5)
    found = said(base, column("MML", rgb=0.6, flow=0.5, depth=0.4))
    # Sums of some members are left to the table.
    assert found == (
        "MML: rgb 60.0, +10.0 [+5.0, +15.8] over CE with the same updates; depth -10.0 [-15.8, -5.0]; flow and "
        "rgb + flow + depth within noise"
    )


def test_whoever_is_higher_is_named():
    found = said(BASE, column("Random teacher", "random", rgb=0.9), column("DMCL", rgb=0.6))
    assert found.endswith("; the highest is Random teacher's 90.0")


def test_without_a_baseline_the_best_of_the_others_is_the_measure():
    columns = column("SMCL", "smcl", rgb=0.3), column("CMCL", "cmcl", rgb=0.5), column("DMCL", rgb=0.6)
    assert said(*columns, baseline="") == "DMCL: rgb 60.0, +10.0 [+5.0, +15.8] over CMCL, the best of the others"
    # A baseline that was not scored on this split is none.
    other = BASE._replace(scores={"val": BASE.scores["test"]})
    assert said(other, columns[-1]).startswith("DMCL: rgb 60.0 [")


def test_one_column_alone_tells_its_outputs():
    found = said(column("CE", rgb=0.5, flow=0.8), baseline="")
    assert found.startswith("CE: rgb 50.0 [") and "; flow 80.0; rgb + flow " in found


def test_several_heads_are_right_together():
    columns = [column("CE", "base", rgb=0.5), column("MML", rgb=0.7)]
    for own in columns:
        scores = own.scores["test"]
        scores.label["noun"] = LABELS
        scores.logits["rgb"]["noun"] = right(0.5)
    found = said(*columns)
    assert found.startswith("MML: rgb (action and noun) 50.0, within noise of CE with the same updates")
    assert "; rgb (action) +20.0 [" in found and found.endswith("; rgb (noun) within noise")


def test_labels_of_several_classes_are_told_by_map():
    labels = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32)

    def own(title, segment, quality):
        noise = np.random.default_rng(1).normal(size=(60, 1, 4))
        return Column(title, segment, {"test": made({"rgb": noise + quality * labels[:, None]}, labels, **META)})

    found = said(own("CE", "base", 0.2), own("MML", "mml", 2.0))
    assert found.startswith("MML: rgb mAP 9") and found.endswith("] over CE with the same updates")
    line = points.lines([own("CE", "base", 0.2), own("MML", "mml", 2.0)], "test", baseline="base")[0]
    mean, low, high = line.points[1].over
    assert low < mean < high and mean == pytest.approx(line.points[1].value - line.points[0].value)
    low, high = line.points[1].interval
    assert low < line.points[1].value < high


def test_where_nothing_can_be_counted_it_says_so():
    blank = column("MML", labels=np.full(120, -1), rgb=0.5)
    assert said(blank, baseline="") == "MML: no clip of test has a label, so nothing can be counted"
    none = Column("MML", "mml", {"test": made({"rgb": np.zeros((4, 1, 3))}, np.zeros((4, 3)), **META)})
    assert said(none, baseline="") == "MML: rgb mAP -, as no class has a positive clip"


def test_what_the_baseline_lacks_is_not_paired():
    found = said(column("CE", "base", flow=0.5), column("MML", rgb=0.6))
    assert found.startswith("MML: rgb 60.0 [") and "; CE has nothing to pair it with" in found


def test_clips_that_are_not_finite_are_told():
    own = column("MML", rgb=0.6)
    own.scores["test"].logits["rgb"]["action"][:3] = np.nan
    assert said(BASE, own).endswith("; 3 clips have scores that are not finite")


def test_a_sum_of_many_is_named_by_their_number():
    shares = dict.fromkeys("abcd", 0.5)
    found = said(column("CE", "base", **shares), column("MML", **shares), headline="a")
    assert found.endswith("; b, c, d and sum of all 4 within noise")
