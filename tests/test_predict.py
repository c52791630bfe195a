"""`mmvid predict`: a run says of files what it has scored of the records that were made from them."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from test_commands import ask
from test_train import data, finished  # noqa: F401

import mmvid
from mmvid import files
from mmvid.commands import predict
from mmvid.data import example, records
from mmvid.data.media import files as files_lib
from mmvid.data.media import inputs
from mmvid.data.media import record as record_lib
from mmvid.run import kept
from mmvid.run import predict as predict_lib
from mmvid.run.predict import Prediction
from mmvid.scores import file, numbers
from mmvid.streams import Head, Sampling, Stream, Views


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):  # noqa: F811
    """What a run leaves that predicting needs; the dataset that it names is gone."""
    whole, workdir = finished[0], tmp_path_factory.mktemp("predict") / "run"
    shutil.copytree(whole, workdir, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "*.html"))
    config = files.read_json(workdir / "config.json")
    config["dataset"]["path"] = config["stills"]["path"] = str(workdir / "gone")
    files.write_json(workdir / "config.json", config)
    return workdir


@pytest.fixture(scope="module")
def clips(data):  # noqa: F811
    """The folder of the files that the dataset was made from."""
    (folder,) = (data / "clips-files").iterdir()
    return folder


# ---------------------------------------------------------------------------- the real thing
def test_files_get_the_scores_of_their_records(run, clips, tmp_path, monkeypatch, capsys):
    """All test clips as mp4s in one folder, and three files that are no videos: flow is computed again."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for film in (clips / "rgb").glob("test-*.mp4"):
        (folder / film.name).symlink_to(film)
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes((clips / "rgb" / "test-00000.mp4").read_bytes()[:900])
    (folder / "notes.txt").write_text("no clip")
    args = (f"--json={tmp_path / 'a.json'}", f"--csv={tmp_path / 'a.csv'}", "--topk=2", tmp_path / "none.mp4")
    assert ask(monkeypatch, "predict", run, folder, *args) == 0
    out, err = capsys.readouterr()
    assert "3 of 35 clips could not be predicted" in err and "1 .txt (notes.txt)" in err
    assert f"{folder}/empty.mp4: not predicted: empty file empty.mp4" in out
    assert "none.mp4: not predicted: missing file" in out and "(flow, rgb)" in out
    told = files.read_json(tmp_path / "a.json")
    known = file.load(run / "mml" / "scores" / "test.npz")
    row_of = {clip: row for row, clip in enumerate(known.id.tolist())}
    fused = {h: numbers.probabilities(x, kind="single") for h, x in file.fused(known).items()}
    good = [clip for clip in told["clips"] if not clip["reason"]]
    assert len(good) == len(row_of) == 32 and told["segment"] == "mml"
    for clip in good:
        row = row_of[clip["id"].rpartition("/")[2].removesuffix(".mp4")]
        for output in ("rgb", "flow"):
            own = np.asarray(clip["logits"][output]["action"])
            np.testing.assert_allclose(own, known.logits[output]["action"][row], atol=1e-5)
        best = clip["top"]["flow + rgb"]["action"][0]
        assert best["class"] == told["classes"]["action"][fused["action"][row].argmax()]
        assert best["probability"] == pytest.approx(fused["action"][row].max(), abs=1e-5)
        assert f"{best['class']} " in out and f"{100 * best['probability']:.1f} %" in out
    with (tmp_path / "a.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 32 * 3 * 2 + 3 and {row["rank"] for row in rows} == {"1", "2", ""}


def test_in_python_and_without_flow(run, clips):
    ask = mmvid.load(run, flow="skip")
    found = ask(clips / "rgb" / "test-00001.mp4")
    assert found.used == ("rgb",) and found.missing == ("flow",) and found.members == ("rgb",)
    np.testing.assert_array_equal(found.fused["action"], found.probabilities["rgb"]["action"])
    known = file.load(run / "mml" / "scores" / "test.npz")
    row = known.id.tolist().index("test-00001")
    np.testing.assert_allclose(found.logits["rgb"]["action"], known.logits["rgb"]["action"][row], atol=1e-5)
    best = found.best(3)
    assert [p for _, p in best] == sorted((p for _, p in best), reverse=True) and len(best) == 3
    with pytest.raises(ValueError, match="missing file"):
        ask(clips / "none.mp4")
    # Depth alone is a clip, but nothing that these networks read.
    blind = inputs.item(clips, depth=clips / "depth" / "test-00001")._replace(path=None)
    (found,) = predict_lib.predictor(*predict._opened(run, None, 1))([blind])
    assert "its networks read flow and rgb, and it has depth" in found.reason


# Every modality, in the forms that differ in how they are cut.
STREAMS = (
    Stream("rgb", "rgb", Sampling("uniform", 4)), Stream("diff", "diff", Sampling("uniform", 2), "stack5"),
    Stream("flow", "flow", Sampling("uniform", 2), "stack5"), Stream("depth", "depth", Sampling("uniform", 3)),
    Stream("audio", "audio", Sampling("uniform", 4), "logmel"),
    Stream("boxes", "boxes", Sampling("uniform", 4), "layout"),
)  # fmt: skip


def test_what_is_prepared_is_cut_to_the_bytes_of_the_dataset(data, clips):  # noqa: F811
    """Of a CSV: RGB, flow for some pairs alone, depth, sound and boxes are those that training sees."""
    dataset = records.open_dataset(data / "clips")
    source, info = dataset.split("test"), dataset.info
    items, _ = inputs.items(clips / "manifest.csv")
    rows = {clip: row for row, clip in enumerate(source.ids())}
    head = {"action": Head(info.heads["action"]["classes"])}
    spec = example.Eval(source, STREAMS, head, 40, 1, Views("D1U1", "code", "centre", 48))
    for item in [item for item in items if item.id in rows][:2]:
        made = record_lib.prepare(item, predict_lib.settings_of(info), lambda r: example.computed_frames(spec, r))
        computed = sum(map(bool, made["flow_x"]))
        assert 0 < computed < len(made["flow_x"]) == len(source[rows[item.id]]["flow_x"])
        own = example.eval_example(spec._replace(source=records.Held([made], info)), 0)
        wanted = example.eval_example(spec, rows[item.id])
        assert all(wanted["present"].values()) and own["present"] == wanted["present"]
        for name, value in wanted["inputs"]["test"].items():
            np.testing.assert_array_equal(own["inputs"]["test"][name], value, err_msg=name)
        assert own["label"]["action"] == -1


# ---------------------------------------------------------------------------- what a run keeps
def test_an_older_run_needs_its_dataset(finished, tmp_path, monkeypatch, capsys):  # noqa: F811
    whole = finished[0]
    for name in ("config.json", "data.json"):
        shutil.copy(whole / name, tmp_path)
    shutil.copytree(whole / "mml", tmp_path / "mml", ignore=shutil.ignore_patterns("checkpoints"))
    for name in ("ce", "ce_continued", "stills"):
        (tmp_path / name).mkdir()
        shutil.copy(whole / name / "done.json", tmp_path / name)
    with_dataset, _ = predict._opened(tmp_path, None, 1)
    without, segment = predict._opened(whole, None, 1)
    assert with_dataset.datasets["dataset"].info == without.datasets["dataset"].info and segment.name == "mml"
    gone = f"--config.dataset.path={tmp_path / 'gone'}"
    assert ask(monkeypatch, "predict", tmp_path, "a.mp4", gone) == 1
    assert "does not say how its clips were prepared, as older runs do not" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"say where they lie, --config.dataset.path=FOLDER"):
        predict._opened(tmp_path, None, 1, [gone])


def test_a_damaged_description_says_what_to_do(run, tmp_path):
    files.write_json(tmp_path / "datasets.json", {"dataset": {"nom": 1}})
    with pytest.raises(ValueError, match=r"cannot be read.*delete it"):
        kept._datasets(tmp_path)
    files.write_json(tmp_path / "datasets.json", {})
    info = kept._datasets(run)["dataset"].info
    with pytest.raises(ValueError, match="does not say how its clips were prepared"):
        predict_lib.settings_of(info._replace(settings={}))
    assert predict_lib.settings_of(info).flow == "dis" and predict_lib.settings_of(info, "skip").flow == "none"
    run, segment = predict._opened(run, None, 1)
    given = info._replace(settings=info.settings | {"flow": "none"})
    assert "--flow=dis" in predict_lib.note(segment, given, "as-trained")
    assert not predict_lib.note(segment, given, "dis") and not predict_lib.note(segment, info, "as-trained")


@pytest.mark.parametrize("argv, code, match", [
    (("--segment=mlm",), 2, r"has no segment 'mlm'; it has ['ce', 'ce_continued', 'mml']"),
    (("--topk=0",), 2, "1 or more"), (("--json=-", "--csv=-"), 2, "mixed"),
    (("--json=nowhere/a.json",), 2, "no folder nowhere"), (("--config.size=9",), 2, "scored as it was trained"),
    ((), 1, "none of 1 clip could be predicted"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_said(run, tmp_path, monkeypatch, capsys, argv, code, match):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert ask(monkeypatch, "predict", run, tmp_path / "a.mp4", *argv) == code
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err


# ---------------------------------------------------------------------------- what is named
def test_inputs(tmp_path):
    """Videos lie anywhere below a folder; numbered pictures are one clip, in the folder itself, too."""
    grey = np.zeros((8, 8, 3), np.uint8)
    for name in ("a/x/1.mp4", "a/2.mov", "a/frames/f_1.png", "a/frames/f_2.png", "b/1.png", "b/2.png", "c/n.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), grey) if name.endswith("png") else (tmp_path / name).touch()
    found, notes = inputs.items(tmp_path / "a")
    assert [item.id.removeprefix(f"{tmp_path}/a/") for item in found] == ["2.mov", "frames", "x/1.mp4"]
    assert not notes
    ((one,), _) = inputs.items(tmp_path / "b")
    assert one.path == tmp_path / "b" and one.id == str(tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds no video and no pictures; .*1 .txt"):
        inputs.items(tmp_path / "c")
    (tmp_path / "a.csv").write_text("id,path,depth,start\none,a/2.mov,d,1.5\n")
    ((row,), _) = inputs.items(tmp_path / "a.csv")
    assert (row.id, row.start, row.paths) == ("one", 1.5, {"depth": tmp_path / "d"})
    (tmp_path / "a.csv").write_text("id,video\none,a/2.mov\n")
    with pytest.raises(ValueError, match="lacks the column path"):
        inputs.items(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="'sound' is nothing that a clip can have"):
        inputs.item("a.mp4", sound="a.wav")


def test_a_video_brings_its_own_sound(clips):
    sound = clips / "audio" / "test-00000.wav"
    assert inputs.item(sound, hear=True).paths == {"audio": sound} and not inputs.item(sound).paths
    assert not inputs.item(clips / "rgb" / "test-00000.mp4", hear=True).paths
    named = inputs.item(sound, hear=True, audio=clips / "other.wav")
    assert named.paths == {"audio": clips / "other.wav"}


# ---------------------------------------------------------------------------- what is said
def scored(present, heads, members):
    """Scores of one clip with the outputs ``present``, and the segment that goes with them."""
    logits = {o: {h: np.random.default_rng(i).normal(size=(1, 2, space.classes)) for h, space in heads.items()}
              for i, o in enumerate(present)}  # fmt: skip
    label = {h: np.asarray([-1]) if space.kind == "single" else -np.ones((1, 3)) for h, space in heads.items()}
    there = {output: np.asarray([has]) for output, has in present.items()}
    return file.Scores(np.asarray(["a"]), np.asarray([0]), label, there, logits, {"members": members})


def test_a_fusion_that_lacks_a_stream_speaks_by_a_part_that_it_has():
    present = {"av": False, "av.audio": False, "av.rgb": True}
    scores = scored(present, {"verb": Head(3)}, ["av"])
    assert predict_lib._members(scores, "av") == ("av.rgb",)
    scores.present["av"][:] = True
    assert predict_lib._members(scores, "av") == ("av",)


def test_each_class_of_several_has_a_probability_of_its_own():
    logits = np.float32([[[-1, 0, 3], [1, 0, 5]]])
    for how in numbers.AGGREGATES:
        own = numbers.probabilities(logits, how, kind="multi")[0]
        assert 0.4 < own[0] < 0.8 and own[1] == 0.5 and own[2] > 0.95
    np.testing.assert_allclose(numbers.probabilities(logits, kind="multi")[0, 2], 1 / (1 + np.exp(-4)), atol=1e-6)


def test_a_prediction_is_written_for_people_and_for_machines():
    fused = {"verb": np.array([0.2, 0.7, 0.1]), "noun": np.array([0.9, 0.8])}
    found = Prediction(
        "my.mp4", "", ("rgb",), ("depth",), {"verb": ("a", "b", "c"), "noun": ("x", "y")},
        {"rgb": {h: p[None] for h, p in fused.items()}}, {"rgb": fused}, ("rgb",), fused,
    )  # fmt: skip
    lines = predict.text(found, 2).splitlines()
    assert lines[0] == "my.mp4 (rgb; no depth)" and lines[1].split() == ["verb", "rgb"]
    assert lines[3].split() == ["b", "70.0", "%"] and lines[-1].split() == ["y", "80.0", "%"] and len(lines) == 9
    plain = json.loads(json.dumps(predict.plain(found, 1)))
    assert plain["top"] == {"rgb": {"verb": [{"class": "b", "probability": 0.7}],
                                    "noun": [{"class": "x", "probability": 0.9}]}}  # fmt: skip
    lost = Prediction("bad.mp4", "truncated: half of it")
    assert predict.text(lost, 2) == "bad.mp4: not predicted: truncated: half of it"
    assert predict._rows([lost], 2).splitlines()[1] == "bad.mp4,,,,,,truncated: half of it"


def test_one_clip_that_cannot_be_cut_leaves_the_others():
    def score_of(prepared):
        if any(record["id"] == "odd" for record in prepared):
            raise files_lib.DecodeError("of three channels")
        return file.Scores(np.asarray([r["id"] for r in prepared]), np.arange(len(prepared)), {}, {}, {}, {})

    found = predict_lib._each(score_of, [{"id": "a"}, {"id": "odd"}, {"id": "b"}])
    assert [f if isinstance(f, str) else f.id.tolist() for f in found] == [["a"], "of three channels", ["b"]]
    assert [len(b) for b in predict_lib._batches(range(5), 2)] == [2, 2, 1]
