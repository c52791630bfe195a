"""Accuracy, calibration and cost of rows over their seeds, from scores alone."""

import numpy as np
import pytest
from test_report_teachers import TEACHERS, scores

from mmvid import files
from mmvid.report import comparison, diagrams, overview, rows
from mmvid.report.rows import Row
from mmvid.scores import combine, effort, ensembles, numbers

SEEDS = (0, 1, 2)
HOW = "logits"


def row(name, quality=1.0, sharp=1.0, outputs=("rgb",), folder="", **meta):
    """A row of three seeds on the same clips, whose logits are ``sharp`` times as large as they should be."""
    found = []
    for seed in SEEDS:
        own, other = scores(outputs, 0, views=1), scores(outputs, seed + 1, views=1)
        logits = {
            o: {
                head: sharp * (quality * 2 * np.eye(x.shape[-1])[own.label[head]][:, None]
                               + (x - 2 * np.eye(x.shape[-1])[other.label[head]][:, None]))
                for head, x in other.logits[o].items()
            }
            for o in outputs
        }  # fmt: skip
        found.append(own._replace(logits=logits, meta=own.meta | meta))
    return Row(name, name.lower(), SEEDS, (folder,) * 3, {"test": found})


@pytest.fixture(scope="module")
def both():
    note = {"scheme": "equal", "weights": {}, "outputs": TEACHERS}
    return [row("Baseline", 0.6, sharp=8.0), row("Student", 1.0, sharp=2.0, teachers=note)]


def test_calibration_errors_are_those_of_each_seed_and_their_difference_is_paired(both):
    base, student = both
    own = [numbers.summary(s)["rgb"]["verb and noun"]["ece"] for s in student.scores["test"]]
    assert rows.errors(student, "test", "rgb", HOW) == own
    mean, low, high = rows.error_difference(student, base, "test", "rgb", HOW)
    assert mean == pytest.approx(np.mean(own) - np.mean(rows.errors(base, "test", "rgb", HOW)))
    assert low < mean < high < 0
    turned = rows.error_difference(base, student, "test", "rgb", HOW)
    assert turned == pytest.approx((-mean, -high, -low))
    # The same clips in every sample: a row does not differ from itself.
    assert rows.error_difference(base, base, "test", "rgb", HOW) == (0, 0, 0)
    low, high = rows.error_interval(student, "test", "rgb", HOW)
    assert 0 <= low < np.mean(own) < high
    assert rows.errors(student, "test", "oracle", HOW) == rows.errors(student, "test", "flow", HOW) == []
    assert rows.error_difference(student, base, "test", "flow", HOW) == ()


def test_a_student_and_its_teachers_stand_in_one_short_table(both):
    base, student = both
    teachers = row("Teachers", outputs=TEACHERS, title="Teachers", met=True)
    found = comparison.compared([teachers, base, student], "test", "rgb", HOW, base)
    first = "top-1 (verb and noun)"
    assert found["columns"] == [first, f"Δ {first}", "calibration error", "Δ calibration error"]
    assert "numbers are of verb and noun: right where each of them is" in found["about"]
    titles = [line["title"] for line in found["rows"]]
    assert titles == [*TEACHERS, "Baseline", "Student"]
    known = "teacher_a, teacher_b and teacher_c learnt from clips of test: these numbers are no test of that"
    assert known in found["about"]
    two_runs = comparison.compared([teachers._replace(title="a: Teachers"), student], "test", "rgb", HOW, None)
    assert two_runs["rows"][0]["title"] == "a: teacher_a"
    # Teachers are held against the baseline's only output; itself it is not.
    cells = {line["title"]: line["cells"] for line in found["rows"]}
    assert all(" [" in cells[title][i] for title in titles if title != "Baseline" for i in (1, 3))
    assert (cells["Baseline"][1], cells["Baseline"][3]) == ("-", "-")
    error = rows.error_difference(student, base, "test", "rgb", HOW)
    assert "Student leads in rgb (verb and noun) with" in found["verdict"]
    said = found["verdict"].split("; its calibration error ")[1]
    assert said.endswith(" lower than Baseline's") and f"{-100 * error[0]:.1f} [{-100 * error[2]:.1f}, " in said
    # Each head alone, as if there were no other.
    alone = [rows.of_head(own, "test", "noun") for own in both]
    assert list(found["heads"]) == ["verb", "noun"]
    noun = found["heads"]["noun"]["rows"][-1]
    assert noun == comparison.compared(alone, "test", "rgb", HOW, alone[0])["rows"][-1]
    error = np.mean([numbers.summary(s)["rgb"]["noun"]["ece"] for s in student.scores["test"]])
    assert noun["cells"][2].startswith(f"{100 * error:.1f} ± ")
    text = comparison.text(found)
    assert f"noun: {found['heads']['noun']['verdict']}" in text.splitlines()
    error = rows.error_difference(student, base, "test", "rgb", HOW)
    (plain,) = [own for own in comparison.plain(both, "test", "rgb", HOW, base) if "over" in own]
    assert plain["calibration_error_over"]["rgb"] == error and len(plain["calibration_error"]["rgb"]) == 3
    assert plain["head"] == "verb and noun"


def test_further_outputs_are_columns_of_rows_that_have_the_main_one():
    pair = [row(name, outputs=("rgb", "flow")) for name in ("a", "b")]
    first, *others = comparison.compared(pair, "test", "rgb", HOW, pair[0])["columns"]
    assert first == "rgb (verb and noun)"
    assert others == [f"Δ {first}", "calibration error", "Δ calibration error", "flow", "sum", "Δ sum", "oracle"]
    assert f"Δ {first}" not in comparison.compared(pair, "test", "rgb", HOW, None)["columns"]


# ---------------------------------------------------------------------------- cost
def test_ensembles_take_what_all_of_their_teachers_take(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(diagrams, "costs", lambda points, label: drawn.append(points) or "")
    taken = {name: {"network": name, "reads": [name], "flops": 10**9 * 4**i, "parameters": i + 1}
             for i, name in enumerate(TEACHERS)}  # fmt: skip
    for folder in ("teachers", "ensemble"):
        (tmp_path / folder).mkdir()
    files.write_json(tmp_path / "teachers" / effort.NAME, taken)
    note = {"teachers": {name: {"scores": "teachers/scores", "output": name} for name in TEACHERS}}
    files.write_json(tmp_path / "ensemble" / effort.NAME, ensembles._effort(tmp_path, note))
    where, equal = str(tmp_path), {"scheme": "equal", "weights": {}}
    own = [
        row("Teachers", outputs=TEACHERS, folder=where),
        row("Ensemble", outputs=("ensemble",), folder=where, teachers=equal),
        row("Student", folder=where),
    ]
    overview.costs(own, "test", "rgb", HOW)
    (points,) = drawn
    # Of the student nobody has counted anything, as of runs of before.
    assert {name: point[0] for name, point in points.items()} == {
        "Teachers: teacher_a": 1, "Teachers: teacher_b": 4, "Teachers: teacher_c": 16, "Ensemble": 21,
    }  # fmt: skip
    assert points["Ensemble"][1] == np.mean(rows.values(own[1], "test", "ensemble", HOW))
    assert ensembles._effort(tmp_path, {"teachers": {"x": {"scores": "gone/scores", "output": "x"}}}) == {}


def test_a_network_counts_once_for_all_that_it_says_at_once():
    joint = [{"network": "fusion", "reads": ["rgb", "flow"], "flops": 5, "parameters": 2}] * 2
    turns = [{"network": "omni", "reads": [s], "flops": f, "parameters": 3} for s, f in (("rgb", 7), ("flow", 9))]
    assert effort.together(joint) == {"flops": 5, "parameters": 2}
    assert effort.together(turns) == {"flops": 16, "parameters": 3}
    assert effort.together([*turns, None]) is effort.together([]) is None
    own = scores(("rgb", "flow"), views=3)
    found = {"rgb": turns[0], "flow": turns[1]}
    assert effort.of_clip(found, own, "rgb") == pytest.approx(21e-9)  # of all three views
    assert effort.of_clip(found, own, "fused") == effort.of_clip(found, own, "flow + rgb") == pytest.approx(48e-9)
    assert effort.of_clip({}, own, "rgb") is None
    # Of an ensemble one view is left, but each of its teachers was shown all three.
    whole = combine.combine({"a": own, "b": own}, output="rgb", name="ensemble", share_out=True)
    assert whole.meta["views"] == 1
    assert effort.of_clip({"ensemble": turns[0]}, whole, "ensemble") == pytest.approx(21e-9)


def test_costs_are_drawn_where_they_differ():
    assert diagrams.costs({"a": (1.0, 0.5, ()), "b": (1.0, 0.6, ())}, "top-1") == diagrams.costs({}, "top-1") == ""
    for other in (3.0, 3000.0):
        drawn = diagrams.costs({"a": (1.0, 0.5, (0.4, 0.6)), "b": (other, 0.6, ())}, "top-1")
        assert "GFLOPs a clip" in drawn and drawn.count("<svg") == 1


def test_the_same_clips_in_another_order_are_brought_together():
    """Versions of a dataset that share their test are paired by clip; those that do not are sampled apart."""
    rng = np.random.default_rng(0)
    ids, hits = np.arange(60).astype(str), rng.integers(0, 2, (2, 60))
    order = rng.permutation(60)
    # In the order of the ids, since that is what another order is brought into.
    place = np.argsort(ids)
    want = rows._interval_of_hits([own[place] for own in hits], [ids[place]] * 2)
    assert rows._interval_of_hits([hits[0], hits[1][order]], [ids, ids[order]]) == want
    other = np.char.add("x", ids)
    apart = rows._interval_of_hits([hits[0], hits[0]], [ids, other])
    # Two sets tell more than one of them twice.
    together = rows._interval_of_hits([hits[0], hits[0]], [ids, ids])
    assert apart[1] - apart[0] < 0.9 * (together[1] - together[0])
