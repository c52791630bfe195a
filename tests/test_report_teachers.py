"""What the report shows of teachers, views, confidence and frequent classes, from scores files alone."""

import logging

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_scores import made

from mmvid import files
from mmvid.report import calibration, diagrams, figures, finish, page, points, teachers
from mmvid.report.points import Column
from mmvid.scores import effort, ensembles, file, imported, numbers

TEACHERS = ("teacher_a", "teacher_b", "teacher_c")
HEADS = {"verb": 5, "noun": 3}


def scores(outputs, seed=0, n=80, views=3):
    """Scores of two heads; each next output knows less."""
    rng = np.random.default_rng(seed)
    labels = {head: rng.integers(0, k, n) for head, k in HEADS.items()}
    classes = {head: list("abcde"[:k]) for head, k in HEADS.items()}
    meta = dict(split="test", step=9, protocol="D1U1", crops="centre", views=views, dataset="fake",
                fingerprint="abc", clips_expected=n, classes=classes)  # fmt: skip
    logits = {
        output: {
            head: rng.normal(size=(n, views, k)) + (2 - 0.5 * i) * np.eye(k)[labels[head]][:, None]
            for head, k in HEADS.items()
        }
        for i, output in enumerate(outputs)
    }
    first = made({o: own["verb"] for o, own in logits.items()}, labels["verb"], **meta)
    return first._replace(label=labels, logits=logits)


@pytest.fixture
def run(tmp_path):
    """A workdir with teachers, a baseline and a student: (workdir, columns, note)."""
    held = {"verb": dict(zip(TEACHERS, (1.0, 2.0, 3.0))), "noun": dict(zip(TEACHERS, (0.5, 0.4, 0.9)))}
    note = {"gamma": 1.0, "scheme": "weighted", "split": "held", "clips": 20, "cross_entropy": held,
            "weights": ensembles.weights(held, 1.0),
            "teachers": {o: {"scores": "teachers/scores", "output": o} for o in TEACHERS}}  # fmt: skip
    own = {"teachers": scores(TEACHERS, 0), "baseline": scores(("rgb",), 0), "student": scores(("rgb",), 0)}
    for name, each in own.items():
        file.save(tmp_path / name / "scores" / "test.npz", each)
    files.write_json(tmp_path / "student" / ensembles.NAME, note)
    columns = [Column(name.title(), name, {"test": each}) for name, each in own.items()]
    return tmp_path, [points.counted(column, "logits") for column in columns], note


def test_the_largest_ensemble_is_the_one_that_taught(run, monkeypatch):
    workdir, columns, columns_note = run
    seen = []
    monkeypatch.setattr(diagrams, "growth", lambda values, others, *labels: seen.append((values, others)))
    monkeypatch.setattr(diagrams, "grid", lambda values, *names: (values, *names))
    found = teachers.panel(workdir, columns, "test", "logits")
    known = set()
    likes = [columns[-1].scores["test"].meta]
    made, missing = ensembles.write(workdir, "student", likes, made=known)
    ((_, folder), *_) = made[1:]  # gamma 1, the run's own
    # A grid's students have one ensemble of each gamma together.
    again = ensembles.write(workdir, "student", likes, prefix="again ", made=known)
    assert len(known) == 2 and missing == [] and again == ([], [])
    whole = numbers.summary(file.load(workdir / folder / "scores" / "test.npz"))[ensembles.OUTPUT]
    for head, (values, others) in zip(HEADS, seen):
        assert {size: len(own) for size, own in values.items()} == {1: 3, 2: 3, 3: 1}
        assert values[3][0] == pytest.approx(whole[head]["ece"])
        assert values[1] == pytest.approx([columns[0].numbers["test"][t][head]["ece"] for t in TEACHERS])
        assert others == {"Student": columns[-1].numbers["test"]["rgb"][head]["ece"]}
    files.write_json(workdir / "student" / ensembles.NAME, columns_note | {"weight": 0})
    idle = teachers.panel(workdir, columns, "test", "logits")
    assert idle["weights"] == [] and "no effect" in idle["about"]
    (weights, rows, heads, _), = found["weights"]  # fmt: skip
    assert (rows, heads) == (list(TEACHERS), list(HEADS)) and np.allclose(weights.sum(0), 1)
    assert "gamma 1" in found["about"]


def test_what_cannot_be_shown_of_teachers_is_said_with_its_reason(run):
    """Weights example by example; teachers of earlier runs, whose scores are there, of another way, or nowhere."""
    workdir, columns, note = run
    own, likes = workdir / "student" / ensembles.NAME, [columns[-1].scores["test"].meta]
    files.write_json(own, note | {"scheme": "per_sample", "weights": {}, "cross_entropy": {}})
    made, (line,) = ensembles.write(workdir, "student", likes)
    assert made == [] and line.startswith("student has no row for its teachers together: with scheme=per_sample")
    earlier = workdir / "earlier" / "rgb" / "scores"
    where = {"teacher_a": {"scores": str(earlier), "output": "rgb"}}
    files.write_json(own, note | {"teachers": where, "weights": {h: {"teacher_a": 1.0} for h in HEADS}})
    rows, (line,) = imported.write(workdir, where, likes)
    assert rows == [] and line.startswith("teacher_a has no row: ") and line.endswith("nothing can be scored")
    earlier.mkdir(parents=True)
    files.write_json(earlier.parents[1] / "config.json", {})
    file.save(earlier / "test.npz", scores(("rgb",))._replace(meta=likes[0] | {"protocol": "D9U9"}))
    for _, (line,) in (imported.write(workdir, where, likes), ensembles.write(workdir, "student", likes)):
        assert f"mmvid evaluate {earlier.parents[1]} --splits=test --segments=rgb --protocol=D1U1" in line
    file.save(earlier / "test@D1U1-centre.npz", scores(("rgb",)))
    ((title, folder, _),), missing = imported.write(workdir, where, likes)
    assert (title, folder, missing) == ("teacher_a", "imported-teacher_a", [])
    found = file.load(workdir / folder / "scores" / "test.npz")
    assert list(found.logits) == list(file.members(found)) == ["teacher_a"] and imported.is_one(found)
    assert ensembles.write(workdir, "student", likes) == ([("Teachers, gamma 30", "ensemble-30"),
                                                          ("Teachers, gamma 1", "ensemble-1")], [])  # fmt: skip


def test_agreement_is_over_clips_that_both_have(run, monkeypatch):
    workdir, columns, _ = run
    monkeypatch.setattr(diagrams, "grid", lambda values, *names: (values, *names))
    columns[-1].scores["test"].present["rgb"][:70] = False
    other = columns[1].scores["test"].logits["rgb"]["verb"]
    columns[-1].scores["test"].logits["rgb"]["verb"][70:] = other[70:]
    values, names, _, title = teachers.panel(workdir, columns, "test", "logits")["agreement"][0]
    assert names == [*TEACHERS, "Baseline", "Student"] and title == "agreement, verb"
    assert np.allclose(np.diag(values), 1) and np.allclose(values, values.T)
    assert values[names.index("Baseline"), names.index("Student")] == 1


def test_who_learns_from_nobody_has_no_panel(run):
    workdir, columns, _ = run
    assert teachers.panel(workdir, columns[:-1], "test", "logits") == {}


@pytest.mark.parametrize("views", [1, 2, 3, 10])
def test_views_are_left_out_evenly(views):
    for kept in range(1, views + 1):
        chosen = calibration.fewer(views, kept)
        assert len(set(chosen)) == kept and (chosen == views - 1 - chosen[::-1])[: (kept == views) * kept].all()
        assert chosen.min() >= 0 and chosen.max() < views
    assert calibration.fewer(views, 1) == [views // 2]


def test_all_views_are_the_tables_number(run, monkeypatch):
    _, columns, _ = run
    monkeypatch.setattr(figures, "curves", lambda panels, label: panels)
    (lines,) = calibration.as_views_shrink(columns, "test", "rgb", "logits").values()
    assert list(lines) == ["Baseline", "Student"] and [n for n, _ in lines["Student"]] == [1, 2, 3]
    assert lines["Student"][-1][1] == columns[-1].numbers["test"]["rgb"]["verb and noun"]["top1"]


def test_the_most_views_that_were_evaluated_are_drawn_where_the_run_has_one(run):
    workdir, columns, _ = run
    own = lambda found: {c.segment: c.scores["test"].meta["views"] for c in found}  # noqa: E731
    assert own(calibration.with_views(workdir, columns, "test")) == {c.segment: 3 for c in columns}
    columns = [c._replace(scores={"test": scores(("rgb",), views=1)}, numbers={}) for c in columns]
    assert not calibration.with_views(workdir, columns, "test")
    left = [("student", "C10", 10, 9), ("student", "C3", 3, 9), ("student", "C99", 12, 8)]
    for name, protocol, views, step in (*left, ("baseline", "C10", 10, 9), ("teachers", "C3", 3, 9)):
        made = scores(("rgb",), views=views)
        made.meta["step"] = step
        file.save(workdir / name / "scores" / f"test@{protocol}-centre.npz", made)
    # What was scored with other weights, at another step, is of another run.
    assert own(calibration.with_views(workdir, columns, "test")) == {"baseline": 10, "student": 10}
    assert "Fewer views" in page.write(workdir, columns, config="{}", headline="rgb").read_text()


def test_a_terminal_shows_the_short_table_and_two_lines_a_split(run, caplog, monkeypatch):
    workdir, columns, note = run
    for column in columns:
        own, taught = column.scores["test"], {"teachers": note} if column.segment == "student" else {}
        for split in ("test", "unseen"):
            known = {"clips_used": 80, "split": split} | taught
            file.save(workdir / column.segment / "scores" / f"{split}.npz", own._replace(meta=own.meta | known))
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=(),
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    monkeypatch.setattr(finish.logs.LOG, "propagate", True)
    monkeypatch.setattr(finish.page_lib, "write", lambda workdir, *args, **options: workdir / "report.html")
    with caplog.at_level("DEBUG", logger="mmvid"):
        shown = [(c.title, c.segment, ("test", "unseen")) for c in columns]
        finish.finish(workdir, config, shown, None, baseline="baseline")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert sum("accuracy / calibration error" in text for text in said) == 2
    assert not any("top-1 [95 %]" in text for text in said) and caplog.text.count("top-1 [95 %]") >= 2
    assert f"Teachers, gamma 1 and Student: {ensembles.told(note)}" in said[0]
    lines = said[-1].splitlines()
    for split, (accuracy, error) in zip(("test", "unseen"), (lines[:2], lines[2:4])):
        assert accuracy.startswith("Student: rgb (verb and noun) ") and accuracy.endswith(f"({split}, 80 clips)")
        assert error.startswith("  calibration error ") and "of Baseline's (" in error
    assert lines[4].startswith("report: ")


def test_the_most_frequent_actions_are_pairs_with_their_clips(run, monkeypatch):
    _, columns, _ = run
    monkeypatch.setattr(figures, "values", lambda rows, styles, label: rows)
    rows = calibration.frequent(columns, "test", "rgb", "baseline", "logits")
    counts = [int(name.split("(")[1][:-1]) for name in rows]
    assert len(rows) == 15 and counts == sorted(counts, reverse=True) and sum(counts) == 80
    share = sum(n * own[-1].value for n, own in zip(counts, rows.values())) / 80
    assert share == pytest.approx(columns[-1].numbers["test"]["rgb"]["verb and noun"]["top1"])
    assert [point.title for point in next(iter(rows.values()))] == ["Baseline", "Student"]


def test_the_page_shows_them(run):
    workdir, columns, _ = run
    for i, (folder, outputs) in enumerate((("teachers", TEACHERS), ("student", ("rgb",)))):
        taken = {o: {"network": o, "reads": [o], "flops": 10 ** (9 + i), "parameters": 1} for o in outputs}
        files.write_json(workdir / folder / effort.NAME, taken)
    columns[-1].scores["test"].meta["teachers"] = {"scheme": "equal", "weights": {}}
    columns[0].scores["test"].meta["met"] = True
    options = dict(config="{}", headline="rgb", baseline="baseline", missing=["x"])
    text = page.write(workdir, columns, **options).read_text()
    for part in ("Teachers learnt from clips of test", "Not shown: x.", "Confusions of rgb: verb",
                 "Confusions of rgb: noun", "gives the true verb and noun", "top-1 of verb and noun"):  # fmt: skip
        assert part in text, part
    for part in ("The teachers", "agreement, noun", "weight of each teacher", "Fewer views", "Reliability"):
        assert part in text, part
    # The first screen: accuracy and calibration error, by value and by difference.
    first = text[text.index("<h1>") : text.index("<dl>")]
    assert "; calibration error " in first[: first.index("</h1>")] and first.count("<svg") == 4
    assert "Accuracy and cost" in text
    for folder in ("teachers", "student"):
        (workdir / folder / effort.NAME).unlink()
    (workdir / "student" / ensembles.NAME).unlink()
    text = page.write(workdir, columns, config="{}", headline="rgb").read_text()
    assert "The teachers" not in text and "Accuracy and cost" not in text
