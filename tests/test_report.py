"""The table and the page, from scores files alone."""

import json
import warnings
from types import SimpleNamespace

import fake
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_scores import made

from mmvid import files
from mmvid.report import calibration, diagrams, facts, figures, finish, panels, points, table
from mmvid.report import page as page_lib
from mmvid.report.points import Column
from mmvid.scores import file
from mmvid.scores import numbers as numbers_lib

NAMES = list("abcdef")


def column(title, segment, seed, quality):
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 6
    draw = lambda: rng.normal(size=(60, 2, 6)) + quality * np.eye(6)[labels][:, None]  # noqa: E731
    meta = dict(split="test", segment=segment, step=9, protocol="D1U1", crops="centre", views=2,
                dataset="fake", fingerprint="abc", clips_expected=64, classes={"action": NAMES})  # fmt: skip
    return Column(title, segment, {"test": made({"flow": draw(), "rgb": draw()}, labels, **meta)})


@pytest.fixture
def columns():
    return [column("CE", "ce", 0, 0.6), column("CE continued", "ce_continued", 1, 0.8),
            column("MML", "mml", 2, 1.6)]  # fmt: skip


def test_table(columns):
    text = table.table(columns, "test", baseline="ce_continued")
    head = text.splitlines()[0]
    for part in ("60 of 64 clips", "2 views", "D1U1", "fake (abc)"):
        assert part in head
    rows = table.rows(columns, "test", baseline="ce_continued")
    assert [r["output"] for r in rows[::4]] == ["flow", "rgb", "flow + rgb", "flow + rgb"]
    assert [r["measure"] for r in rows[4:8]] == ["top-1 [95 %]", "over CE continued", "top-5; calibration error",
                                                 "single views: top-1 / top-5"]  # fmt: skip
    assert rows[-1]["measure"].startswith("oracle") and "ce_continued" not in text
    difference = rows[5]["cells"]
    assert difference[1] == "" and difference[2].startswith("+") and rows[5]["signs"] == [0, 0, 1]
    # The headline comes first where it is known.
    assert table.rows(columns, "test", headline="rgb")[0]["output"] == "rgb"
    widths = {len(line.rstrip()) for line in text.splitlines()[2:3]}
    assert widths and "CE continued" in text


def test_page(columns, tmp_path):
    for c in columns:
        (tmp_path / c.segment).mkdir()
        lines = [{"step": s, "train/rgb/ce": 1 / s, "train/rgb/top1": 0.5, "val/fused/top1": 0.4, "lr": 0.1}
                 for s in (1, 2, 3)]  # fmt: skip
        (tmp_path / c.segment / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    path = page_lib.write(
        tmp_path, columns, config='{"seed": 0, "name": "<script>"}', headline="rgb", baseline="ce_continued",
        dataset=fake.dataset(60), published=[("paper T1", {"rgb": "58.10 / 84.61"})],
    )  # fmt: skip
    page = path.read_text()
    for part in ("58.10 / 84.61", "60 of 64 clips", "MML minus CE continued", "oracle top-1", "fewer than 5 clips",
                 "all networks", "trained on 60 train; tested on 60 of 64 test", "d (12)"):  # fmt: skip
        assert part in page, part
    assert "<script>" not in page
    # Each number once: a cell's value and interval stand in one table.
    (cell,) = {r["cells"][2] for r in table.rows(columns, "test") if r["output"] == "rgb" and "shares" in r}
    assert page.count(f">{cell}<") == 1
    # No names of files, segments or code.
    assert not [name for name in ("ce_continued", ">fused<", "top1", "grad_norm") if name in page]
    # Self-contained: nothing is fetched; the only addresses are names of XML vocabularies.
    assert 'src="http' not in page and "@import" not in page and '<link rel="icon" href="data:,">' in page
    assert page.count("<link") == 1 and page.count("data:image/jpeg") == 8 * len(("rgb", "flow", "audio", "boxes"))
    assert files.read_lines(tmp_path / "mml" / "metrics.jsonl")[-1]["step"] == 3


def test_what_a_run_has_kept_and_what_an_older_one_lacks(columns, tmp_path):
    own = columns[-1]._replace(parts=("first", "mml"))
    (without,) = facts.costs(tmp_path, [own])
    assert without == ("MML", "-", "-", "-", "-", "new weights")
    assert facts.made_by(tmp_path, [own]) == {"code": "-", "machine": "-", "versions": "-"}
    for segment, seconds in (("first", 60.0), ("mml", 240.0)):
        (tmp_path / segment).mkdir()
        files.write_json(tmp_path / segment / "done.json", {"steps": 600})
        note = {"seconds": seconds, "code": ["abc"], "machine": "1 device (cpu)", "date": "2026-11-26T10:00+01:00"}
        files.write_json(tmp_path / segment / "cost.json", note)
    tensors = {"rgb": {"params": {"conv": np.zeros((3, 500))}, "stats": {"mean": np.zeros(9)}}}
    facts.weight_files.save(tmp_path / "mml" / "weights.safetensors", tensors, {})
    ended = "2026-11-26 10:00+01:00"
    assert facts.costs(tmp_path, [own]) == [("MML", "1,200", "5 min", ended, "rgb 2 k", "new weights")]
    assert facts.facts([own], {"seed": 3}, None)["seed"] == "3"
    assert facts.made_by(tmp_path, [own])["code"] == "abc"
    (tmp_path / "mml" / "cost.json").write_text("{")
    assert facts.costs(tmp_path, [own])[0].time == "-"


def test_what_made_each_column_is_said_once(columns, tmp_path):
    """Every code, machine and set of versions, and whose it is; that of the one who makes the page is none."""
    for segment, code, jax in (("ce", ["abc"], "1"), ("before", ["def"], "1"), ("mml", ["abc", "def"], "2")):
        (tmp_path / segment).mkdir()
        note = {"code": code, "machine": ["1 device (cpu)"], "versions": [{"python": "3", "jax": jax}]}
        files.write_json(tmp_path / segment / "cost.json", note)
    columns[2] = columns[2]._replace(sources=(points.Source("CE", "ce"), points.Source("a.npz")))
    assert facts.made_by(tmp_path, columns[::2]) == {
        "code": "abc (CE, MML); def (MML)", "machine": "1 device (cpu)",
        "versions": "python 3, jax 1 (CE, MML); python 3, jax 2 (MML)"}  # fmt: skip
    found = facts.made_by(tmp_path, columns)
    assert found["machine"] == "1 device (cpu) (CE, MML); - (CE continued)"
    options = dict(config="{}", headline="rgb", baseline="ce_continued")
    page = page_lib.write(tmp_path, columns, **options).read_text()
    assert all(text in page for text in found.values())


def test_what_a_column_began_with_stands_beside_its_cost(columns, tmp_path):
    for segment, steps, seconds in (("ce", 1500, 120.0), ("mml", 80, 180.0)):
        (tmp_path / segment).mkdir()
        files.write_json(tmp_path / segment / "done.json", {"steps": steps})
        files.write_json(tmp_path / segment / "cost.json", {"seconds": seconds})
    sources = [points.Source("CE", "ce"), points.Source("a.npz")]
    began = lambda *own: facts.costs(tmp_path, [columns[2]._replace(sources=own)])[0]  # noqa: E731
    assert began(*sources)[:3] == ("MML", "80", "3 min")
    assert began(*sources).began == "CE (1,500 updates, 2 min), a.npz"
    taught = began(sources[0]._replace(teaches=True))
    assert taught.began == "new weights; frozen teachers: CE (1,500 updates, 2 min)"
    assert began(points.Source("none", "none")).began == "none"
    (tmp_path / "ce" / "cost.json").unlink()
    assert began(sources[0]).began == "CE (1,500 updates)"


def test_bins_of_few_clips_are_left_out(monkeypatch):
    monkeypatch.setattr(diagrams, "svg", lambda figure: figure)
    figure = diagrams.reliability({"MML": np.array([[0.1, 1, 1], [0.3, 0.2, 5], [0.5, 0, 4], [0.7, 0.8, 60]])})
    assert figure.axes[0].lines[1].get_xydata().tolist() == [[0.3, 0.2], [0.7, 0.8]]
    figures.plt.close(figure)


def test_classes_are_counted_in_the_training_split(monkeypatch):
    ((what, names, numbers),) = facts.class_counts(fake.dataset(7), "train")
    assert (what, names, numbers) == ("action: train", list("abcde"), [2, 2, 1, 1, 1])
    # Of a large split they would cost the reading of all of its records.
    monkeypatch.setattr(facts, "COUNTED", 3)
    dataset = fake.dataset(7)
    known = dataset._replace(info=dataset.info._replace(classes={"action": [1, 2, 3, 4, 5]}))
    assert facts.class_counts(known, "train")[0][::2] == ("action: all splits", [1, 2, 3, 4, 5])
    known = dataset._replace(info=known.info._replace(split_classes={"train": {"action": [3, 2, 1, 1, 0]}}))
    assert facts.class_counts(known, "train")[0][::2] == ("action: train", [3, 2, 1, 1, 0])
    assert facts.class_counts(dataset, "train") == facts.class_counts(None, "train") == []


def test_what_is_fused_is_named_by_its_members(columns):
    """ML's two RGB networks must not stand beside RGB and flow."""
    scores = columns[1].scores["test"]
    twins = {"rgb": scores.logits["rgb"], "rgb2": scores.logits["flow"]}
    other = scores._replace(logits=twins, present=dict.fromkeys(twins, scores.present["rgb"]))
    columns[0] = Column("ML", "ml", {"test": other})
    found = {(r["output"], r["measure"].split()[0]): r["cells"]
             for r in table.rows(columns, "test", baseline="ce_continued")}  # fmt: skip
    assert [cell == "-" for cell in found["flow + rgb", "top-1"]] == [True, False, False]
    assert [cell == "-" for cell in found["rgb + rgb2", "top-1"]] == [False, True, True]
    assert ("rgb + rgb2", "over") not in found  # the baseline has no such pair


def test_unlabelled_clips_are_left_out(columns, tmp_path):
    for c in columns:
        c.scores["test"].label["action"][::2] = -1
    text = table.table(columns, "test", baseline="ce_continued")
    rows = table.rows(columns, "test", baseline="ce_continued")
    assert "nan" not in text and rows
    assert page_lib.write(tmp_path, columns, config="{}", headline="rgb", baseline="ce_continued").exists()
    for c in columns:
        c.scores["test"].label["action"][:] = -1
    assert table.rows(columns, "test", baseline="ce_continued") == []
    assert page_lib.write(tmp_path, columns, config="{}", headline="rgb", baseline="ce_continued").exists()


def test_hardest_are_the_least_probable(columns):
    scores = columns[-1].scores["test"]
    found = panels.hardest(scores, "rgb", 5)
    probs = [float(clip["prob"]) for clip in found]
    assert probs == sorted(probs) and all(clip["label"] in NAMES for clip in found)


@pytest.mark.parametrize(
    "command, folder, following",
    [(("make",), "run", ["mmvid predict ", "data_prep.build"]), ((), "my run", ["mmvid predict '"]),
     (("make",), "seed3", ["mmvid predict ", "mmvid compare"])],
)  # fmt: skip
def test_the_last_lines_say_what_to_do_next(tmp_path, command, folder, following):
    config = ConfigDict(dict(headline="rgb", seed=3, dataset=dict(command=command)))
    lines = finish.last_lines(config, ["MML: rgb 62.9"], tmp_path / folder / "report.html").splitlines()
    assert lines[0] == "MML: rgb 62.9" and lines[1] == f"report: {tmp_path / folder}/report.html"
    assert len(lines) == 2 + len(following)
    assert all(line.startswith("next, ") and text in line for line, text in zip(lines[2:], following))


def test_the_papers_columns(columns):
    """The headline first, then the others, the sum and the oracle; a row a method."""
    found = table.overview(columns, "test", "rgb")
    assert [row["title"] for row in found] == ["CE", "CE continued", "MML"]
    assert list(found[0]["cells"]) == ["rgb", "flow", "sum", "oracle"]
    numbers = numbers_lib.summary(columns[2].scores["test"])
    want = [numbers["rgb"]["action"]["top1"], numbers["flow"]["action"]["top1"],
            numbers["fused"]["action"]["top1"], numbers["oracle"]["action"]]  # fmt: skip
    assert list(found[2]["cells"].values()) == [f"{100 * v:.1f}" for v in want]
    text = table.overview_text(columns, "test", "rgb").splitlines()
    assert text[1].split() == ["rgb", "flow", "sum", "oracle"] and len(text) == 6
    alone = [c._replace(scores={"test": made({"rgb": np.zeros((4, 1, 6))}, [0] * 4)}) for c in columns]
    assert table.overview(alone, "test", "rgb") == [] and table.overview_text(alone, "test", "rgb") == ""


def test_subsets_and_neighbours_are_on_the_page(columns, tmp_path):
    third = columns[2].scores["test"]
    logits = third.logits | {"depth": third.logits["rgb"]}
    columns[2] = columns[2]._replace(scores={"test": third._replace(
        logits=logits, present=third.present | {"depth": np.arange(60) < 30})})  # fmt: skip
    rows = table.rows(columns, "test", baseline="ce_continued", parts=True)
    assert list(dict.fromkeys(r["output"] for r in rows)) == [
        "flow", "rgb", "depth", "flow + depth", "rgb + depth", "flow + rgb", "flow + rgb + depth"]  # fmt: skip
    whole = [r["output"] for r in table.rows(columns, "test")]
    assert "rgb + depth" not in whole and "flow + rgb + depth" in whole
    # The sum of both is the subset of one column and all that others have.
    (both,) = [r["cells"] for r in rows if r["output"] == "flow + rgb" and "shares" in r]
    assert "-" not in both
    assert [r["cells"] for r in rows if r["measure"].startswith("clips that")] == [["-", "-", "50.0 %"]]
    files.write_json(tmp_path / "neighbours.json", {"rgb": {"1": 0.125, "5": 0.25}, "flow": {"1": 0.5, "5": 0.5}})
    paper = [("DMCL (T2)", {"sum": "93.28", "oracle": "97.6", "rgb": "93.64", "depth": "83.29"})]
    page = page_lib.write(
        tmp_path, columns, config="{}", headline="rgb", baseline="ce_continued", published=paper
    ).read_text()
    for part in ("<b>rgb + depth</b>", "Printed in the paper", "93.28", "12.5", "random features"):
        assert part in page, part
    assert page_lib._printed(paper) == ["rgb", "depth", "sum", "oracle"]
    rival = ("a rival (T3)", {"flow": "90.1", "trained on": "RGB, D", "tested on": "F"})
    assert page_lib._printed([*paper, rival])[:3] == ["trained on", "tested on", "rgb"]


def test_nothing_to_report():
    with pytest.raises(ValueError, match="column"):
        page_lib.write("x", [], config="{}", headline="rgb")


META = dict(split="test", protocol="D1U1", crops="centre", views=1, dataset="fake", fingerprint="abc")


def multi_columns(labels, **splits):
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(size=(*labels.shape[:1], 1, labels.shape[1]))  # noqa: E731
    score = lambda: made({"flow": draw(), "rgb": draw()}, labels.astype(np.float32), **META)  # noqa: E731
    return [Column("CE", "ce", {"test": score()}), Column("MML", "mml", {"test": score(), **splits})]


@pytest.mark.parametrize(
    "labels, cell, last",
    [(np.zeros((4, 3)), "-", "MML: rgb mAP -, as no class has a positive clip (test, 4 clips)"),
     (np.tile([1, 0, 1], (4, 1)), "100.0 [100.0, 100.0]",
      "MML: rgb mAP 100.0, within noise of CE with the same updates (+0.0 [+0.0, +0.0])")],
    ids=["no positive", "in every clip"],
)  # fmt: skip
def test_several_labels_of_which_nothing_is_defined_end_a_run(labels, cell, last, tmp_path, caplog, monkeypatch):
    """Table, overview, page, summary.json and last line, as a run ends with them."""
    columns = multi_columns(labels)
    for column in columns:
        file.save(tmp_path / column.segment / "scores" / "test.npz", column.scores["test"])
    rows = table.rows(columns, "test", baseline="ce")
    assert {r["measure"]: r["cells"] for r in rows if r["output"] != "x"}["mAP [95 %]"] == [cell, cell]
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=(),
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    segments = [(c.title, c.segment, ("test",)) for c in columns]
    monkeypatch.setattr(finish.logs.LOG, "propagate", True)
    with caplog.at_level("INFO"):
        finish.finish(tmp_path, config, segments, None, baseline="ce")
    page = (tmp_path / "report.html").read_text()
    assert "nan" not in page.lower().replace("finance", "") and "None" not in page
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text and set(json.loads(text)) == {"ce", "mml"}
    assert last in caplog.records[-1].getMessage()


def test_heads_of_both_kinds_and_a_split_that_the_baseline_lacks(columns, tmp_path):
    for c in columns:
        scores = c.scores["test"]
        scores.label["parts"] = np.zeros((60, 3), np.float32)
        for heads in scores.logits.values():
            heads["parts"] = np.zeros((60, 1, 3), np.float32)
    columns[-1] = columns[-1]._replace(scores={"unseen": columns[-1].scores["test"]})
    path = page_lib.write(tmp_path, columns, config="{}", headline="rgb", baseline="ce_continued")
    assert path.exists()
    assert table.rows(columns, "unseen")[0]["output"] == "flow (action)"
    assert table.overview(columns, "unseen", "rgb")[0]["cells"]["rgb"] != "-"


@pytest.mark.parametrize("how", numbers_lib.AGGREGATES)
def test_figures_and_table_count_the_same(columns, how, monkeypatch):
    """Probabilities as they are, over the clips that the headline is there for."""
    own, base = columns[-1].scores["test"], columns[1].scores["test"]
    absent = np.arange(60) % 5 == 0
    for scores in (own, base):
        scores.present["rgb"][absent] = False
        scores.logits["rgb"]["action"][absent] = 50 * np.eye(6)[0]
    own.logits["rgb"]["action"][1, 0, 3] = np.nan
    seen = {}
    for room, name in ((figures, "confusion"), (figures, "changes")):
        monkeypatch.setattr(room, name, lambda *args, name=name: seen.setdefault(name, args))
    monkeypatch.setattr(diagrams, "reliability", lambda bins, title: seen.setdefault(title, bins))
    (found,) = panels.class_figures(columns[-1], columns[1], "rgb", "test", how)
    numbers = numbers_lib.summary(own, how)["rgb"]["action"]
    calibration.reliabilities(columns, "test", "ce_continued", how)
    own_bins, base_bins, *_ = seen["rgb"].values()
    assert next(iter(seen["rgb"])) == f"MML: {100 * numbers['ece']:.1f}"
    matrix, bins = seen["confusion"][0], own_bins
    assert np.trace(matrix) / 60 == pytest.approx(numbers["top1"]) and matrix.sum() == 47
    assert bins[:, 2].sum() == 47 and base_bins[:, 2].sum() == 48
    gap = np.abs(bins[:, 0] - bins[:, 1]) @ bins[:, 2] / 47
    assert gap == pytest.approx(numbers["ece"], abs=1e-6)
    _, change, counts, _ = seen["changes"]
    both = ~absent & (np.arange(60) != 1)
    want = [numbers_lib.hits(s, "rgb", "action", 1, how)[both].sum() for s in (own, base)]
    assert change @ counts == pytest.approx(want[0] - want[1]) and counts.sum() == 47
    assert found["shown"] == "47 of 60 clips (12 without rgb, 1 with scores that are not finite)"
    hardest = panels.hardest(own, "rgb", 60, how)
    assert len(hardest) == 47 and not {"c0", "c1", "c5"} & {clip["id"] for clip in hardest}
    rows = {r["measure"]: r["cells"] for r in table.rows(columns, "test", how=how) if r["output"] == "rgb"}
    assert rows["misses: scores not finite"] == ["-", "-", "1 of 60"]


def test_five_classes_have_no_top_5():
    column = Column("CE", "ce", {"test": made({"rgb": np.eye(5)[[0, 1, 2]][:, None]}, [0, 1, 0], **META)})
    rows = table.rows([column], "test")
    assert [r["measure"] for r in rows] == ["top-1 [95 %]", "calibration error"]
    assert ";" not in rows[0]["cells"][0] + rows[1]["cells"][0]


NASTY = ["a$b$", "$", r"\$x^2_3$", "_hidden", "a_b^c", "<script>", "a & b", "跳ぶ", "قفز", "é\nb", "😀", "x" * 300,
         "Pushing something from left to right " * 3, "", " ", "%d {}"]  # fmt: skip


POINT = points.Point("MML", 0.5, (0.4, 0.6), (0.1, -0.1, 0.3), {"top1": 0.5})


@pytest.mark.parametrize("draw", [
    lambda n: figures.confusion(np.ones((len(n), len(n)), int), n),
    lambda n: figures.values({name: [POINT] * len(n) for name in n}, figures.column_styles(n, n[0]), n[0]),
    lambda n: figures.counts(n, range(len(n)), n[0]),
    lambda n: figures.changes(n, np.linspace(-1, 1, len(n)), np.ones(len(n), int), n[0]),
    lambda n: diagrams.reliability({name: np.array([[0.2, 0.3, 4]]) for name in n}),
    lambda n: figures.curves({name: {other: [(1, 0.1), (2, 0.3)] for other in n} for name in n[:3]}),
], ids=["confusion", "values", "counts", "changes", "reliability", "curves"])  # fmt: skip
def test_names_are_shown_as_they_are_written(draw):
    """Every warning is an error here, as in a run of somebody who set PYTHONWARNINGS so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = draw(NASTY)
    for text in ("a$b$", r"\$x^2_3$", "_hidden", "a_b^c", "&lt;script&gt;", "a &amp; b", "跳ぶ", "é b", "😀", "…"):
        assert text in page, text
    assert "<script>" not in page and "x" * 40 not in page


def test_titles_of_curves_are_shown_whole():
    assert all(figures.short(title) == title for title in panels.PANELS.values())


def test_long_names_are_told_apart_by_their_ends():
    left, right = (figures.short(f"Pushing something so that it moves from {a} to {b}") for a, b in ("lr", "rl"))
    assert left != right and len(left) == 36


def test_all_maps_have_one_scale_and_its_bar(monkeypatch):
    """That of figures is the page's: from the paper to the same share of the same colour."""
    monkeypatch.setattr(figures, "svg", lambda figure: figure)
    figure = figures.confusion(np.eye(3, dtype=int), NAMES[:3])
    main, bar = figure.axes
    assert main.images[0].get_clim() == (0, 100) and bar.get_ylim() == (0, 100)
    assert [t.get_text() for t in bar.get_yticklabels()] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert main.images[0].cmap is figures.HEAT and figures.HEAT(0)[3] == 0
    figures.plt.close(figure)
    style = page_lib.template("report.html").environment.loader.get_source(None, "base.html")[0]
    assert style.count("--heat:") == 1 and f"--heat: {figures.SHADE};" in style
    assert f"calc(var(--p) * .{100 * figures.FULL:.0f})" in style


def test_figures_take_the_pages_colours():
    style = page_lib.template("report.html").environment.loader.get_source(None, "base.html")[0]
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")
    for colour, name in figures.INKS.items():
        assert f"--{name}: {colour};" in light and f"--{name}: #" in dark, name
    page = figures.values({"#27476e": [POINT]}, figures.column_styles(["MML"], ""), "top-1")
    assert "var(--c1)" in page and "var(--ink)" in page and page.count("#27476e") == 1


def test_figures_beside_each_other_have_equal_rows(columns):
    found = panels.lead(points.lines(columns, "test", baseline="ce_continued"), columns, "test", "ce_continued")
    heights = {svg.partition('height="')[2].partition("pt")[0] for svg in found.values()}
    low, high = min(map(float, heights)), max(map(float, heights))
    assert high - low < 2
    assert panels.lead([], columns, "test", "") == {}
    alone = panels.lead(points.lines(columns, "test"), columns, "test", "")
    assert alone["differences"] == "" and "CE continued" in alone["values"]


def test_many_columns_are_rows_of_the_first_figure(columns, monkeypatch):
    lines = points.lines(columns, "test", headline="rgb", baseline="ce_continued")
    monkeypatch.setattr(panels, "MOST", len(columns))
    every = panels.lead(lines, columns, "test", "ce_continued")
    monkeypatch.setattr(panels, "MOST", len(columns) - 1)
    one = panels.lead(lines, columns, "test", "ce_continued")
    assert one.keys() == every.keys() and "flow" in every["values"]
    for svg in one.values():
        assert "rgb top-1" in svg and "flow" not in svg
        assert all(column.title in svg for column in columns)


def test_published_rows_do_not_look_like_the_runs_own(columns, tmp_path):
    workdir = tmp_path / "run\udce9"  # file names need not be UTF-8
    workdir.mkdir()
    files.write_json(workdir / "neighbours.json", {"rgb": {"1": None, "5": None}, "flow": {"1": 0.5, "5": None}})
    paper = dict(published=[("DMCL (T2)", {"rgb": "93.64"})],
                 published_neighbours=[("flow (figure 3)", {"1": "23.23"})])  # fmt: skip
    for some in (columns, [c._replace(scores={"test": made({"rgb": np.eye(6)[:, None]}, range(6), **META)})
                           for c in columns]):  # fmt: skip
        options = dict(config="{}", headline="rgb", baseline="ce_continued")
        page = page_lib.write(workdir, some, **options, **paper).read_text()
        for text in ("DMCL (T2)", "flow (figure 3)"):
            before = page.partition(f'<tr class="paper"><td>{text}</td>')[0]
            assert before != page and before.rpartition("<aside>")[2].count("</aside>") == 0
    assert panels.neighbours(workdir)["rows"] == [("rgb", ["-", "-"]), ("flow", ["50.0", "-"])]
    files.write_json(workdir / "neighbours.json", {"rgb": {"1": None}})
    assert panels.neighbours(workdir)["figure"] == ""


def segment(name, first=0, stop=4, title="", previous=None, headline="rgb", frozen=(), **starts):
    steps = dict(first_step=first, stop=stop, enter=SimpleNamespace(previous=previous))
    networks = [SimpleNamespace(name=own, frozen=own in frozen) for own in ("rgb", "flow")]
    groups = {"main": SimpleNamespace(dataset="dataset", split="train")}
    more = dict(groups=groups, networks=networks, spec={"starts": starts} if starts else {})
    return SimpleNamespace(name=name, title=title, evaluate=("test",), headline=headline, **steps, **more)


def test_segments_that_go_on_from_one_another_are_known():
    """Two probes begin where the main run's second part begins, too, and end elsewhere or at the same step."""
    first = segment("a", title="A")
    probe, other = segment("probe", 4, 6, "probe", first), segment("other", 4, 8, "other", first)
    second = segment("b", 4, 8, previous=first)
    last = segment("c", 8, 12, "C", second, headline="flow")
    alone = segment("mml", title="MML")
    found = finish.shown([first, probe, other, second, last, alone])
    assert [(c.segment, c.parts) for c in found] == [
        ("a", ("a",)), ("probe", ("a", "probe")), ("other", ("a", "other")), ("c", ("a", "b", "c")),
        ("mml", ("mml",)),
    ]  # fmt: skip
    assert found[-2].headline == "flow"


def test_what_segments_began_with_is_known():
    """Chains of starts, files, parts that go on from one another, and teachers, which may be starts as well."""
    stills = segment("stills", rgb={"file": "weights/a.safetensors#rgb"})
    ce = segment("ce", title="CE", **{"rgb": {"segment": "stills"}, "flow.left": {"segment": "stills"}})
    both = dict(rgb={"segment": "ce", "network": "rgb"}, flow={"segment": "ce", "network": "flow"})
    mml = segment("mml", **both)
    further = segment("mml2", 4, 8, "MML", mml, continued={"segment": "mml"})
    gd = segment("gd", title="GD", frozen=("flow",), flow={"segment": "ce"})
    mixed = segment("mixed", title="both", frozen=("flow",), **both)
    found = {c.segment: c.sources for c in finish.shown([stills, ce, mml, further, gd, mixed])}
    assert found["ce"] == (("stills", "stills", False), ("a.safetensors", "", False))
    assert found["mml2"] == found["mixed"] == (("CE", "ce", False), *found["ce"])
    assert found["gd"] == (("CE", "ce", True), ("stills", "stills", True), ("a.safetensors", "", True))


@pytest.mark.parametrize("published, times", [((), 0), ([("paper", {"rgb": "58.1"})], 1)])
def test_numbers_are_said_twice_only_beside_a_papers(published, times, columns, tmp_path, caplog, monkeypatch):
    for c in columns:
        file.save(tmp_path / c.segment / "scores" / "test.npz", c.scores["test"])
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=published,
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    monkeypatch.setattr(finish.logs.LOG, "propagate", True)
    monkeypatch.setattr(finish.page_lib, "write", lambda workdir, *args, **options: workdir / "report.html")
    with caplog.at_level("INFO"):
        finish.finish(tmp_path, config, [(c.title, c.segment, ("test",)) for c in columns], None, baseline="ce")
    assert caplog.text.count("test, top-1") == times and caplog.text.count("test: 60 of 64") == 1
    assert "MML: rgb " in caplog.text and "(test, 60 clips)" in caplog.text


def test_their_curves_share_an_axis(columns, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(figures, "curves", lambda panels, marks=(): seen.append((panels, marks)) or "<svg>")
    for number, name in enumerate("abc"):
        lines = [{"step": 4 * number + s, "train/rgb/ce": 1.0, "lr": 0.1, "lr/rgb": 0.2} for s in (1, 4)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    parts = {"a": (), "b": ("a", "b"), "c": ("a", "b", "c")}
    chain = [columns[0]._replace(segment=name, title=name.upper(), parts=own) for name, own in parts.items()]
    found = panels.all_curves(tmp_path, [*chain[::2], columns[1]._replace(parts=("none",))])
    assert [title for title, _ in found] == ["C", "CE continued"]
    (drawn, marks), *_ = seen
    assert [step for step, _ in drawn["cross-entropy"]["rgb"]] == [1, 4, 5, 8, 9, 12] and marks == [4, 8]
    assert set(drawn["learning rate"]) == {"the headline's network", "rgb"}


def test_the_last_columns_headline_and_checkpoint_are_the_pages(columns, tmp_path):
    for c in columns:
        c.scores["test"].meta.update(checkpoint="best", step=700)
        file.save(tmp_path / c.segment / "scores" / "test.npz", c.scores["test"])
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=(),
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    shown = [finish.Shown(c.title, c.segment, ("test",), headline="flow") for c in columns]
    finish.finish(tmp_path, config, shown, fake.dataset(60), baseline="ce")
    page = (tmp_path / "report.html").read_text()
    assert "Confusions of flow" in page and "best checkpoint (step 700)" in page
