"""G-Blend in tables and figures: what stands beside what, and the numbers of figures 4 and 6, by hand."""

import numpy as np
import pytest

from mmvid import files
from mmvid.methods import gblend
from mmvid.plans import arms
from mmvid.report import blending, comparison, figures, panels, rows, weighing, worth
from mmvid.report.blending import Line
from mmvid.report.points import Column
from mmvid.report.worth import Over
from mmvid.scores import blends, metrics
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
    [
        ("ra.joint", "naive_ra"),
        ("ra.rgb", None),
        ("naive", "naive"),
        ("cut", "cut"),
        ("dropout", "naive"),
        ("flow", None),
        ("sum", None),
    ],
)
def test_a_network_is_compared_with_the_copies_of_what_it_reads(output, joint):
    config = {"blend": {"copies": COPIES}, "networks": {name: {"reads": (read,)} for name, read in READS.items()}}
    assert worth.compared_with(config, output).get("joint") == joint
    assert worth.compared_with({"networks": {}}, output) == {}


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


def test_single_points_are_seen():
    """A super-epoch has one OGR: what is gained at its beginning is nothing."""
    lone = [(i, 0.5 if i % 2 else np.nan) for i in range(20)]
    line = [(i, np.nan if i == 10 else 0.5) for i in range(20)]
    single, through = (figures.curves({"OGR": {"flow": points}}) for points in (lone, line))
    # One of them stands in the legend.
    assert (single.count("<use "), through.count("<use ")) == (11, 0)
    assert figures._single([np.nan, 1, np.nan, 1, 1, np.nan, 2]) == [1, 6]


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


# ---------------------------------------------------------------------------- over seeds
def of_seeds(title, outputs, **meta):
    """A row of two seeds: ``outputs`` {output: on how many of eight clips each seed is right}."""
    label = np.arange(8) % 3
    told = {"title": title, "split": "test", "dataset": "x", "fingerprint": "y", "protocol": "D0U1", "views": 1,
            "crops": "centre", "clips_used": 8, "clips_expected": 8}  # fmt: skip
    found = []
    for seed in (0, 1):
        guesses = {name: np.where(np.arange(8) < right[seed], label, (label + 1) % 3)
                   for name, right in outputs.items()}  # fmt: skip
        own = scored({name: np.eye(3)[guess] for name, guess in guesses.items()}, label)
        found.append(own._replace(meta=told | meta))
    config = {"blend": {"copies": {"av": AV}}, "networks": {"naive": {"reads": (("audio", "flow"),)}}}
    return rows.Row(title, title.lower(), (0, 1), ("a", "b"), {"test": found}, config)


def test_seeds_are_compared_with_one_best_modality_and_with_their_naive_networks():
    """Flow is the better one by its mean, though not of the first seed."""
    probe = of_seeds("Each alone", {"audio": (5, 1), "flow": (4, 5), "naive": (2, 4)}, members=["audio", "flow"],
                     titles=arms.titles({"av": AV}))  # fmt: skip
    equal, own = (
        of_seeds(title, {"av.audio": (8, 8), "av.flow": (1, 1), "av.joint": right}, members=["av.joint"])
        for title, right in (("Equal weights", (4, 4)), ("G-Blend", (6, 7)))
    )
    found = comparison.compared([probe, equal, own], "test", "av.joint", "logits", equal)
    cells = {line["title"]: dict(zip(found["columns"], line["cells"])) for line in found["rows"]}
    # A sum is of single modalities, and says of which.
    alone = ["Audio alone", "Flow alone", "Naive joint", "Audio alone + Flow alone"]
    assert list(cells) == [*alone, "Equal weights", "G-Blend"]
    modality, naive = worth.COLUMNS
    for title, best, joint in (
        ("Naive joint", "-18.8 [", "-"), ("Equal weights", "-6.2 [", "+12.5 ["), ("G-Blend", "+25.0 [", "+43.8 ["),
    ):  # fmt: skip
        assert cells[title][modality].startswith(best) and cells[title][naive].startswith(joint), title
        assert cells[title][modality].endswith("] (Flow alone)")
    assert all(cells[title][column] == "-" for title in list(cells)[:2] for column in worth.COLUMNS)
    assert "the highest mean over seeds on test" in comparison.text(found)
    # Paired: clips of both seeds' means, drawn together.
    means = [np.mean([np.arange(8) < n for n in right], axis=0) for right in ((6, 7), (4, 5))]
    over = comparison.plain([probe, equal, own], "test", "av.joint", "logits", equal)[-1]["worth"]["av.joint"]
    assert over["modality"] == {"row": "Flow alone", "difference": metrics.paired_interval(*means)}
    assert over["naive"]["row"] == "Naive joint"
    # Runs of another configuration are compared with their own copies alone, and other methods with none.
    other = own._replace(title="Other", runs=("c", "d"))
    known = [rows.Entry("x", probe, output) for output in AV.values()]
    assert worth.of(rows.Entry("x", other, "av.joint"), known, "test", "logits") == worth.Worth()
    plainly = [row._replace(config={}) for row in (probe, own)]
    assert modality not in comparison.compared(plainly, "test", "av.joint", "logits", own)["columns"]


def test_published_weights_stand_beside_those_that_were_found_for_the_same_parts(tmp_path):
    head = {"interval": [0.1, 0.6], "gain": 1.0, "overfitting": 2.0, "ogr": 2.0, "train": [3.0], "held": [2.0]}
    given = blends.unmeasured((0.2, 0.5, 0.3), parts := ("audio", "flow", "joint"), "by hand")
    for name, note in (("equal", given), ("gblend", given | {"heads": dict.fromkeys(parts, head)})):
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / "blend.json", note)
    columns = [Column("Equal", "equal", {}), Column("G-Blend", "gblend", {})]
    printed = [("table 1", {"rgb": ".6", "joint": ".4"}), ("table 2", dict(zip(parts, (".011", ".827", ".162"))))]
    made = blending.weight_rows(tmp_path, columns, {"blend": {"published": printed}})
    paper = ["0.011 (table 2)", "0.827 (table 2)", "0.162 (table 2)"]
    assert [row[-1] for row in made] == ["in the paper", "", "", "", *paper]
    assert {row[4] for row in made[4:]} == {"+2.000"}
    for clamps in ({"clamp": 0.8, "clamp_absolute": 0.5}, {"clamp": 0.1, "clamp_absolute": 2.4}):
        clamped = given | {"heads": dict.fromkeys(parts, head), "options": clamps}
        files.write_json(tmp_path / "gblend" / "blend.json", clamped)
        assert blending.weight_rows(tmp_path, columns[1:], {})[1][4] == "+2.000 (as 2.400)"
    for other in ({"blend": {"published": printed[:1]}}, {}):
        assert {len(row) for row in blending.weight_rows(tmp_path, columns, other)} == {6}
