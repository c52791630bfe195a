"""The table and the page, from scores files alone."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_scores import made

from mmvid import files
from mmvid.report import figures, finish, panels, table
from mmvid.report import page as page_lib
from mmvid.report.table import Column
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
    for part in ("60 of 64 clips", "2 view(s)", "D1U1", "fake (abc)"):
        assert part in head
    rows = table.rows(columns, "test", baseline="ce_continued")
    assert [r["output"] for r in rows[::3]] == ["flow", "rgb", "flow + rgb", "flow + rgb"]
    assert rows[-1]["measure"].startswith("oracle")
    assert rows[5]["measure"] == "top-1 over CE continued" and "ce_continued" not in text
    difference = rows[5]["cells"]
    assert difference[1] == "" and difference[2].startswith("+")
    widths = {len(line.rstrip()) for line in text.splitlines()[2:3]}
    assert widths and "CE continued" in text


def test_page(columns, tmp_path):
    for c in columns:
        (tmp_path / c.segment).mkdir()
        lines = [{"step": s, "train/rgb/ce": 1 / s, "train/rgb/top1": 0.5, "val/rgb/top1": 0.4, "lr": 0.1}
                 for s in (1, 2, 3)]  # fmt: skip
        (tmp_path / c.segment / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    asked = []

    def thumbnails(split, row):
        asked.append((split, row))
        return np.full((5, 20, 30, 3), row, np.uint8)

    path = page_lib.write(
        tmp_path, columns, config='{"seed": 0, "name": "<script>"}', headline="rgb", baseline="ce_continued",
        thumbnails=thumbnails, published=[("paper T1", {"rgb": "58.10 / 84.61"})],
    )  # fmt: skip
    page = path.read_text()
    for part in ("58.10 / 84.61", "60 of 64 clips", "MML minus CE continued", "oracle top-1", "jax"):
        assert part in page, part
    assert "<script>" not in page
    # Self-contained: nothing is fetched; the only addresses are names of XML vocabularies.
    assert 'src="http' not in page and "@import" not in page and "<link" not in page
    assert len(asked) == 8 and page.count("data:image/jpeg") == 8
    assert files.read_lines(tmp_path / "mml" / "metrics.jsonl")[-1]["step"] == 3


def test_what_is_fused_is_named_by_its_members(columns):
    """ML's two RGB networks must not stand beside RGB and flow."""
    scores = columns[1].scores["test"]
    twins = {"rgb": scores.logits["rgb"], "rgb2": scores.logits["flow"]}
    other = scores._replace(logits=twins, present=dict.fromkeys(twins, scores.present["rgb"]))
    columns[0] = Column("ML", "ml", {"test": other})
    found = {(r["output"], r["measure"].split()[0]): r["cells"]
             for r in table.rows(columns, "test", baseline="ce_continued")}  # fmt: skip
    assert [cell == "-" for cell in found["flow + rgb", "video"]] == [True, False, False]
    assert [cell == "-" for cell in found["rgb + rgb2", "video"]] == [False, True, True]
    assert ("rgb + rgb2", "top-1") not in found  # the baseline has no such pair


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
    [(("make",), "run", "data_prep.build"), ((), "run", "--seeds=0,1,2"), ((), "seed3", "mmvid compare")],
)
def test_the_last_line_says_what_to_do_next(columns, tmp_path, command, folder, following):
    config = ConfigDict(dict(headline="rgb", seed=3, dataset=dict(command=command)))
    result = numbers_lib.summary(columns[-1].scores["test"])
    line = finish._last_line(config, result, "MML", "test", tmp_path / folder / "report.html")
    assert "MML, rgb, test: top-1" in line and "n=60" in line and following in line.partition("next")[2]


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


def test_missing_modalities_and_neighbours_are_on_the_page(columns, tmp_path):
    found = panels.missing_modalities(columns, "test")
    assert [row["subset"] for row in found["rows"]] == ["flow", "rgb", "flow + rgb"]
    assert found["figure"].startswith("<svg") and all(len(row["cells"]) == 3 for row in found["rows"])
    files.write_json(tmp_path / "neighbours.json", {"rgb": {"1": 0.125, "5": 0.25}, "flow": {"1": 0.5, "5": 0.5}})
    paper = [("DMCL (T2)", {"rgb": "93.64", "depth": "83.29", "sum": "93.28"})]
    page = page_lib.write(
        tmp_path, columns, config="{}", headline="rgb", baseline="ce_continued", published=paper
    ).read_text()
    for part in ("Modality by modality", "When modalities are missing", "93.28", "12.5", "random features"):
        assert part in page, part
    assert "<h2>Published" not in page
    outputs = table.published_outputs(columns, "test", "rgb", paper)
    assert outputs == ["rgb", "flow", "depth", "sum", "oracle"]


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
    [(np.zeros((4, 3)), "-", "mAP - (no class has a positive clip) (n=4)"),
     (np.tile([1, 0, 1], (4, 1)), "100.0 / -", "mAP 100.0 (n=4)")],
    ids=["no positive", "in every clip"],
)  # fmt: skip
def test_several_labels_of_which_nothing_is_defined_end_a_run(labels, cell, last, tmp_path):
    """Table, overview, page, summary.json and last line, as a run ends with them."""
    columns = multi_columns(labels)
    for column in columns:
        file.save(tmp_path / column.segment / "scores" / "test.npz", column.scores["test"])
    rows = table.rows(columns, "test", baseline="ce")
    assert {r["measure"]: r["cells"] for r in rows} == {"video mAP / mAUC": [cell, cell]}
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=(),
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    segments = [(c.title, c.segment, ("test",)) for c in columns]
    result = finish.finish(tmp_path, config, segments, None, baseline="ce")
    page = (tmp_path / "report.html").read_text()
    assert "nan" not in page.lower().replace("finance", "") and "None" not in page
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text and set(json.loads(text)) == {"ce", "mml"}
    assert last in finish._last_line(config, result, "MML", "test", tmp_path)


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
    for name in ("confusion", "reliability", "changes"):
        monkeypatch.setattr(figures, name, lambda *args, name=name: seen.setdefault(name, args))
    found = panels.class_figures(columns[-1], columns[1], "rgb", "test", how)
    numbers = numbers_lib.summary(own, how)["rgb"]["action"]
    matrix, bins = seen["confusion"][0], seen["reliability"][0]["MML"]
    assert np.trace(matrix) / 60 == pytest.approx(numbers["top1"]) and matrix.sum() == 47
    assert bins[:, 2].sum() == 47 and seen["reliability"][0]["CE continued"][:, 2].sum() == 48
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
    assert [r["measure"] for r in rows] == ["video top-1 [95 %]", "clip top-1; ECE"]
    assert "/" not in rows[0]["cells"][0] + rows[1]["cells"][0]


NASTY = ["a$b$", "$", r"\$x^2_3$", "_hidden", "a_b^c", "<script>", "a & b", "跳ぶ", "قفز", "é\nb", "😀", "x" * 300,
         "Pushing something from left to right " * 3, "", " ", "%d {}"]  # fmt: skip


@pytest.mark.parametrize("draw", [
    lambda n: figures.confusion(np.ones((len(n), len(n)), int), n),
    lambda n: figures.heat(np.full((len(n), len(n)), 0.3), n, n, n[0]),
    lambda n: figures.changes(n, np.linspace(-1, 1, len(n)), np.ones(len(n), int), n[0]),
    lambda n: figures.reliability({name: np.array([[0.2, 0.3, 4]]) for name in n}),
    lambda n: figures.curves({name: {other: [(1, 0.1), (2, 0.3)] for other in n} for name in n[:3]}),
], ids=["confusion", "heat", "changes", "reliability", "curves"])  # fmt: skip
def test_names_are_shown_as_they_are_written(draw):
    """Every warning is an error here, as in a run of somebody who set PYTHONWARNINGS so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = draw(NASTY)
    for text in ("a$b$", r"\$x^2_3$", "_hidden", "a_b^c", "&lt;script&gt;", "a &amp; b", "跳ぶ", "é b", "😀", "…"):
        assert text in page, text
    assert "<script>" not in page and "x" * 40 not in page


def test_long_names_are_told_apart_by_their_ends():
    left, right = (figures._short(f"Pushing something so that it moves from {a} to {b}") for a, b in ("lr", "rl"))
    assert left != right and len(left) == 36


def test_all_maps_have_one_scale_and_its_bar(monkeypatch):
    monkeypatch.setattr(figures, "_svg", lambda figure: figure)
    low = figures.heat(np.array([[0.07, np.nan]]), ["rgb"], ["CE", "MML"], "")
    for figure in (low, figures.heat(np.full((1, 1), np.nan), ["rgb"], ["CE"], ""),
                   figures.confusion(np.eye(3, dtype=int), NAMES[:3])):  # fmt: skip
        main, bar = figure.axes
        assert main.images[0].get_clim() == (0, 100) and bar.get_ylim() == (0, 100)
        assert [t.get_text() for t in bar.get_yticklabels()] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
        figures.plt.close(figure)


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
            assert f'<tr class="paper"><td>{text}</td>' in page
    assert panels.neighbours(workdir)["rows"] == [("rgb", ["-", "-"]), ("flow", ["50.0", "-"])]
    files.write_json(workdir / "neighbours.json", {"rgb": {"1": None}})
    assert panels.neighbours(workdir)["figure"] == ""


def segment(name, first=0, stop=4, title="", previous=None, headline="rgb"):
    steps = dict(first_step=first, stop=stop, enter=SimpleNamespace(previous=previous))
    return SimpleNamespace(name=name, title=title, evaluate=("test",), headline=headline, **steps)


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
    assert set(drawn["learning rate"]) == {"lr", "rgb"}


def test_the_last_columns_headline_and_checkpoint_are_the_pages(columns, tmp_path, monkeypatch):
    monkeypatch.setattr(finish.fields, "thumbnails", lambda record, count: np.zeros((0, 1, 1, 3), np.uint8))
    for c in columns:
        c.scores["test"].meta.update(checkpoint="best", step=700)
        file.save(tmp_path / c.segment / "scores" / "test.npz", c.scores["test"])
    config = ConfigDict(dict(headline="rgb", seed=0, dataset=dict(command=()), published=(),
                             published_neighbours=(), evaluation=dict(aggregate="logits")))  # fmt: skip
    shown = [finish.Shown(c.title, c.segment, ("test",), headline="flow") for c in columns]
    finish.finish(tmp_path, config, shown, SimpleNamespace(split=lambda name: range(60)), baseline="ce")
    page = (tmp_path / "report.html").read_text()
    assert "Confusions of flow" in page and "best checkpoint (step 700)" in page
