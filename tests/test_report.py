"""The table and the page, from scores files alone."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_evaluate import made

from mmvid import evaluate, logs, report
from mmvid.report import Column

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
    text = report.table(columns, "test", baseline="ce_continued")
    head = text.splitlines()[0]
    for part in ("60 of 64 clips", "2 view(s)", "D1U1", "fake (abc)"):
        assert part in head
    rows = report.rows(columns, "test", baseline="ce_continued")
    assert [r["output"] for r in rows[::3]] == ["flow", "rgb", "flow + rgb", "flow + rgb"]
    assert rows[-1]["measure"].startswith("oracle")
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

    path = report.write(
        tmp_path, columns, config='{"seed": 0, "name": "<script>"}', baseline="ce_continued",
        thumbnails=thumbnails, published=[("paper T1", {"rgb": "58.10 / 84.61"})],
    )  # fmt: skip
    page = path.read_text()
    for part in ("58.10 / 84.61", "60 of 64 clips", "MML minus CE continued", "oracle top-1", "jax"):
        assert part in page, part
    assert "<script>" not in page
    # Self-contained: nothing is fetched; the only addresses are names of XML vocabularies.
    assert 'src="http' not in page and "@import" not in page and "<link" not in page
    assert len(asked) == 8 and page.count("data:image/jpeg") == 8
    assert logs.read_lines(tmp_path / "mml" / "metrics.jsonl")[-1]["step"] == 3


def test_what_is_fused_is_named_by_its_members(columns):
    """ML's two RGB networks must not stand beside RGB and flow."""
    scores = columns[1].scores["test"]
    twins = {"rgb": scores.logits["rgb"], "rgb2": scores.logits["flow"]}
    other = scores._replace(logits=twins, present=dict.fromkeys(twins, scores.present["rgb"]))
    columns[0] = Column("ML", "ml", {"test": other})
    found = {(r["output"], r["measure"].split()[0]): r["cells"]
             for r in report.rows(columns, "test", baseline="ce_continued")}  # fmt: skip
    assert [cell == "-" for cell in found["flow + rgb", "video"]] == [True, False, False]
    assert [cell == "-" for cell in found["rgb + rgb2", "video"]] == [False, True, True]
    assert ("rgb + rgb2", "top-1") not in found  # the baseline has no such pair


def test_unlabelled_clips_are_left_out(columns, tmp_path):
    for c in columns:
        c.scores["test"].label["action"][::2] = -1
    text = report.table(columns, "test", baseline="ce_continued")
    rows = report.rows(columns, "test", baseline="ce_continued")
    assert "nan" not in text and rows
    assert report.write(tmp_path, columns, config="{}", baseline="ce_continued").exists()
    for c in columns:
        c.scores["test"].label["action"][:] = -1
    assert report.rows(columns, "test", baseline="ce_continued") == []
    assert report.write(tmp_path, columns, config="{}", baseline="ce_continued").exists()


def test_hardest_are_the_least_probable(columns):
    scores = columns[-1].scores["test"]
    found = report.hardest(scores, "rgb", 5)
    probs = [float(clip["prob"]) for clip in found]
    assert probs == sorted(probs) and all(clip["label"] in NAMES for clip in found)


@pytest.mark.parametrize("command, following", [(("make",), "data_prep.build"), ((), "--config.seed=4")])
def test_the_last_line_says_what_to_do_next(columns, tmp_path, command, following):
    config = ConfigDict(dict(headline="rgb", seed=3, dataset=dict(command=command)))
    result = evaluate.summary(columns[-1].scores["test"])
    line = report._last_line(config, result, "MML", "test", tmp_path / "report.html")
    assert "MML, rgb, test: top-1" in line and "n=60" in line and following in line.partition("next")[2]


def test_the_papers_columns(columns):
    """The headline first, then the others, the sum and the oracle; a row a method."""
    found = report.overview(columns, "test", "rgb")
    assert [row["title"] for row in found] == ["CE", "CE continued", "MML"]
    assert list(found[0]["cells"]) == ["rgb", "flow", "sum", "oracle"]
    numbers = evaluate.summary(columns[2].scores["test"])
    want = [numbers["rgb"]["action"]["top1"], numbers["flow"]["action"]["top1"],
            numbers["fused"]["action"]["top1"], numbers["oracle"]["action"]]  # fmt: skip
    assert list(found[2]["cells"].values()) == [f"{100 * v:.1f}" for v in want]
    text = report.overview_text(columns, "test", "rgb").splitlines()
    assert text[1].split() == ["rgb", "flow", "sum", "oracle"] and len(text) == 6
    alone = [c._replace(scores={"test": made({"rgb": np.zeros((4, 1, 6))}, [0] * 4)}) for c in columns]
    assert report.overview(alone, "test", "rgb") == [] and report.overview_text(alone, "test", "rgb") == ""


def test_missing_modalities_and_neighbours_are_on_the_page(columns, tmp_path):
    found = report.missing_modalities(columns, "test")
    assert [row["subset"] for row in found["rows"]] == ["flow", "rgb", "flow + rgb"]
    assert found["figure"].startswith("<svg") and all(len(row["cells"]) == 3 for row in found["rows"])
    logs.write_json(tmp_path / "neighbours.json", {"rgb": {"1": 0.125, "5": 0.25}, "flow": {"1": 0.5, "5": 0.5}})
    paper = [("DMCL (T2)", {"rgb": "93.64", "depth": "83.29", "sum": "93.28"})]
    page = report.write(tmp_path, columns, config="{}", baseline="ce_continued", published=paper).read_text()
    for part in ("Modality by modality", "When modalities are missing", "93.28", "12.5", "random features"):
        assert part in page, part
    assert "<h2>Published" not in page
    outputs = report._published_outputs(columns, "test", "rgb", paper)
    assert outputs == ["rgb", "flow", "depth", "sum", "oracle"]


def test_nothing_to_report():
    with pytest.raises(ValueError, match="column"):
        report.write("x", [], config="{}")
