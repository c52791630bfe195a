"""`mmvid predict`: a run says of files what it has scored of the records that were made from them."""

import argparse
import csv
import functools
import json
import os
import re
import shutil
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
import runs
import untrained
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_commands import ask
from test_media import pictures, write
from test_train import data, finished  # noqa: F401

import mmvid
from configs import common
from mmvid import files, usage
from mmvid.commands import answers, predict
from mmvid.commands import config as config_lib
from mmvid.data import example, records
from mmvid.data.media import files as files_lib
from mmvid.data.media import inputs
from mmvid.data.media import record as record_lib
from mmvid.data.media import video as video_lib
from mmvid.data.media.item import Refused
from mmvid.run import kept, watch
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
    (tmp_path / "rows.csv").write_text("id,path,start,end\nbad,mine/cut.mp4,2,1\n")
    args = (f"--json={tmp_path / 'a.json'}", f"--csv={tmp_path / 'a.csv'}", "--topk=2", tmp_path / "none.mp4")
    args = (*args, tmp_path / "rows.csv", tmp_path / "none.csv")
    assert ask(monkeypatch, "predict", run, folder, *args) == 1
    out, err = capsys.readouterr()
    assert "5 of 21 clips could not be predicted" in err and "1 .txt (notes.txt)" in err
    assert "bad: not predicted: line 2: end=1.0 must be" in out and "none.csv: not predicted: missing file" in out
    assert f"{folder}/empty.mp4: not predicted: empty file empty.mp4" in out
    assert "none.mp4: not predicted: missing file" in out and "(flow, rgb)" in out
    told = files.read_json(tmp_path / "a.json")
    known = file.load(run / "mml" / "scores" / "test.npz")
    row_of = {clip: row for row, clip in enumerate(known.id.tolist())}
    fused = {h: numbers.probabilities(x, kind="single") for h, x in file.fused(known).items()}
    good = [clip for clip in told["clips"] if not clip["reason"]]
    assert len(good) == len(row_of) == 16 and told["segment"] == "mml"
    for clip in good:
        assert clip["path"] == clip["id"]
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
    assert len(rows) == 16 * 3 * 2 + 5 and {row["rank"] for row in rows} == {"1", "2", ""}


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
    with pytest.raises(ValueError, match="must be greater than start"):
        ask(clips / "rgb" / "test-00001.mp4", start=2, end=1)
    with pytest.raises(ValueError, match="folder of videos"):
        ask(clips / "rgb")
    # Depth alone is a clip, but nothing that these networks read.
    blind = inputs.item(clips, depth=clips / "depth" / "test-00001")._replace(path=None)
    (found,) = predict_lib.predictor(*predict.opened(run, None, 1))([blind])
    assert "its networks read flow and rgb, and it has depth" in found.reason


# Every modality, in the forms that differ in how they are cut.
STREAMS = (
    Stream("rgb", "rgb", Sampling("uniform", 4)), Stream("diff", "diff", Sampling("uniform", 2), "stack5"),
    Stream("flow", "flow", Sampling("uniform", 2), "stack5"), Stream("depth", "depth", Sampling("uniform", 3)),
    Stream("audio", "audio", Sampling("uniform", 4), "logmel"),
    Stream("around", "audio", Sampling("uniform", 3), "logmel_windows"),
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
        reads = functools.partial(example.frames_read, spec)
        made = record_lib.prepare(item, predict_lib.settings_of(info), reads)
        computed = sum(map(bool, made["flow_x"]))
        assert 0 < computed < len(made["flow_x"]) == len(source[rows[item.id]]["flow_x"])
        own = example.eval_example(spec._replace(source=records.Held([made], info)), 0)
        wanted = example.eval_example(spec, rows[item.id])
        assert all(wanted["present"].values()) and own["present"] == wanted["present"]
        for name, value in wanted["inputs"]["test"].items():
            np.testing.assert_array_equal(own["inputs"]["test"][name], value, err_msg=name)
        assert own["label"]["action"] == -1


@pytest.mark.parametrize("path", ["film", "pictures"])
def test_frames_that_nobody_reads_are_not_kept(clips, tmp_path, path):
    film = video_lib.of_film(clips / "rgb" / "test-00000.mp4")
    for i, frame in enumerate(film.frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    item = inputs.item(tmp_path if path == "pictures" else clips / "rgb" / "test-00000.mp4", start=0.2)
    settings = record_lib.Settings(flow="dis")
    whole = record_lib.prepare(item, settings)
    part = record_lib.prepare(item, settings, lambda record: {"rgb": [3], "flow": [5]})
    for column, places in {"rgb": [0, 3, 5, 6], "flow_x": [5], "flow_y": [5]}.items():
        assert [i for i, picture in enumerate(part[column]) if picture] == places
        assert len(part[column]) == len(whole[column]) and all(part[column][i] == whole[column][i] for i in places)
    np.testing.assert_array_equal(part["times"], whole["times"])
    assert part["num_frames"] == whole["num_frames"]
    # A film is stored whole, and given flow is matched to all frames.
    film = record_lib._kept(item, settings._replace(rgb_storage="mp4"), lambda record: {}, np.arange(7))
    given = record_lib._kept(item._replace(paths={"flow": tmp_path}), settings, lambda record: {}, np.arange(7))
    alone = record_lib._kept(item, settings, lambda record: {"flow": [0]}, np.arange(1))
    assert (len(film), len(given), len(alone)) == (7, 7, 1)


def test_a_film_that_memory_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr(files_lib.memory, "available", lambda: 100 << 20)
    files_lib.check_room(10, 90 << 20)
    with pytest.raises(files_lib.DecodeError, match=r"too long: 10 frames fill 200 MiB, .* 100 MiB"):
        files_lib.check_room(10, 200 << 20)


# ---------------------------------------------------------------------------- windows, films, workers
@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    """A run of a toy that reads RGB, whose answers mean nothing."""
    with runs.toys():
        workdir = tmp_path_factory.mktemp("toy") / "run"
        untrained.ended(untrained.configured(("rgb", common.network("toy", "rgb"))), workdir)
        yield workdir


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A film of three seconds, one of a quarter of one, a text, a file that breaks off, and an empty folder."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "all").mkdir()
    (folder / "none").mkdir()
    write(folder / "all" / "long.mp4", frames=pictures(36, 48, 64), sound=3.0)
    write(folder / "all" / "short.mp4", frames=pictures(3, 48, 64))
    (folder / "all" / "text.mp4").write_text("no film")
    whole = (folder / "all" / "long.mp4").read_bytes()
    (folder / "all" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


def test_a_film_is_told_from_when_to_when(toy_run, films, tmp_path, monkeypatch, capsys):
    """As text, as JSON, as a CSV and below a film, of spans that are the same in all of them."""
    out = {name: tmp_path / f"a.{name}" for name in ("json", "csv", "mp4")}
    flags = ("--window=1", "--stride=0.5", *(f"--{n}={out[n]}" for n in ("json", "csv")), f"--video={out['mp4']}")
    assert ask(monkeypatch, "predict", toy_run, films / "all" / "long.mp4", *flags) == 0
    said = capsys.readouterr().out
    told = files.read_json(out["json"])
    assert (told["window"], told["stride"], told["threshold"]) == (1.0, 0.5, None)
    (clip,) = told["clips"]
    spans = clip["timeline"]["verb"]
    assert clip["windows"] == 5 == sum(own["windows"] for own in spans) and not clip["unread"]
    assert [own["start"] for own in spans] == [0, *(own["end"] for own in spans[:-1])]
    assert spans[-1]["end"] == pytest.approx(3) and f"{films}/all/long.mp4 (rgb), 5 windows" in said
    with out["csv"].open() as table:
        rows = list(csv.DictReader(table))
    for own, row in zip(spans, rows, strict=True):
        assert f"{own['start']:.2f} - {own['end']:.2f}  {own['class']}" in said
        assert float(row["end"]) == own["end"] and row["class"] == own["class"] and row["head"] == "verb"
    with av.open(str(out["mp4"])) as film:
        assert film.streams.video[0].frames == 36 and film.streams.audio


@pytest.mark.parametrize("flags", [
    (), ("--window=1", "--video=told"),
    pytest.param(("--workers=2", "--video=told"), marks=pytest.mark.slow),
    pytest.param(("--window=1", "--workers=1"), marks=pytest.mark.slow),
], ids=str)  # fmt: skip
def test_the_others_are_answered_and_the_exit_code_is_1(toy_run, films, tmp_path, monkeypatch, capsys, flags):
    """Of a folder, by this process and by workers, as clips and in windows; with films of what can be read."""
    monkeypatch.chdir(tmp_path)
    assert ask(monkeypatch, "predict", toy_run, films / "all", *flags) == 1
    out, err = capsys.readouterr()
    assert "2 of 4 clips could not be predicted" in err and "Traceback" not in err
    assert re.search(r"cut.mp4: not predicted: not readable as video", out)
    assert "text.mp4: not predicted" in out and "long.mp4 (rgb)" in out and "short.mp4 (rgb)" in out
    films_made = {path.name for path in tmp_path.glob("told/*")}
    assert films_made == ({"long.mp4", "short.mp4"} if "--video=told" in flags else set())


@pytest.mark.slow
def test_a_second_start_compiles_nothing(toy_run, films, tmp_path):
    """What the first one has compiled, however quickly, is kept in the user's cache."""
    kept_ones = dict(XDG_CACHE_HOME=str(tmp_path), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import runs\nfrom mmvid.__main__ import main\n"
        f"sys.argv = ['mmvid', 'predict', {str(toy_run)!r}, {str(films / 'all' / 'long.mp4')!r}]\n"
        "with runs.toys():\n    main()\n"
    )
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], env=environment | kept_ones, check=True, timeout=300)
        found.append({path.name for path in tmp_path.rglob("*-cache")})
    assert found[0] and found[0] == found[1]


def test_clips_of_one_name_become_films_of_two(films):
    items = [inputs.item(films / place / "a.mp4") for place in ("x", "y")] + [inputs.item("a-2.mp4")]
    found = predict._films("out", items)
    assert [str(path) for path in found] == ["out/a.mp4", "out/a-2.mp4", "out/a-2-2.mp4"]
    with pytest.raises(usage.WrongUse, match="is one film, and these are 3 clips: name a folder"):
        predict._films("out.mp4", items)
    assert predict._films(None, items) == [None] * 3


@pytest.mark.parametrize("argv, code, match", [
    (("--window=0",), 2, "--window=0: give a number of seconds from 0.001"),
    (("--window=nan",), 2, "--window=nan: give a number"), (("--window=inf",), 2, "--window=inf: give a number"),
    (("--window=1e-9",), 2, "--window=1e-09: give a number of seconds from 0.001 to 86400"),
    (("--window=1e9",), 2, "--window=1e+09: give"), (("--window=1", "--stride=1e9"), 2, "--stride=1e+09: give"),
    (("--window=1", "--stride=0"), 2, "--stride=0: give a number of seconds from 0.001"),
    (("--window=1", "--stride=-1"), 2, "--stride=-1"), (("--window=one",), 2, "invalid float value"),
    (("--window=1", "--threshold=2"), 2, "--threshold=2: a probability is from 0 to 1"),
    (("--stride=1",), 2, "say how long these are, --window=SECONDS"), (("--workers=-1",), 2, "--workers=-1"),
    (("--video=a.avi",), 2, "films are written as .mp4"), (("--video=nowhere/a.mp4",), 2, "no folder nowhere"),
    (("--video={film}",), 2, "would be written over an input"), (("--video={film}/x",), 2, "is a file"),
    (("--window=0.01",), 1, "shorter or closer together than its frames"),
    # Nobody may write there, this user being root or not.
    (("--window=1", "--json=/proc/a.json"), 1, "/proc/a.json could not be written"),
    (("--window=1", "--video=/proc/a.mp4"), 1, "/proc/a.mp4 could not be written"),
    (("{none}",), 1, "1 of 2 clips could not be predicted"),
], ids=str)  # fmt: skip
def test_what_cannot_be_asked_is_said(toy_run, films, tmp_path, monkeypatch, capsys, argv, code, match):
    monkeypatch.chdir(tmp_path)
    film = films / "all" / "long.mp4"
    argv = [text.format(film=film, none=films / "none") for text in argv]
    assert ask(monkeypatch, "predict", toy_run, film, *argv) == code
    err = " ".join(capsys.readouterr())
    assert match in err and "Traceback" not in err and not list(tmp_path.iterdir())


def test_an_empty_folder_says_what_it_lacks(toy_run, films, monkeypatch, capsys):
    assert ask(monkeypatch, "predict", toy_run, films / "none", "--window=1") == 1
    out, err = capsys.readouterr()
    assert "holds no video and no pictures" in out and "none of 1 clip could be predicted" in err


def test_windows_that_say_nothing_are_told():
    """A timeline of which a part could not be read, and one that nothing reaches."""
    span = watch.Span(0.0, 2.0, "push", 0.5, 2)
    partly = watch.Timeline(
        "a.mp4", "", "a.mp4", ("rgb",), ("flow",), ("rgb",), 3, {"verb": [span]}, ((2, 3, "cut"),)
    )
    text = answers.timeline_text(partly)
    assert text.splitlines()[0] == "a.mp4 (rgb; no flow), 3 windows" and text.endswith(
        "2.00 - 3.00: not predicted: cut"
    )
    assert answers.timeline_plain(partly)["unread"] == [{"start": 2, "end": 3, "reason": "cut"}]
    assert "a.mp4,a.mp4,,,2,3,,,cut" in answers.timeline_table([partly]).splitlines()
    with pytest.raises(ValueError, match="of 1 of 2 clips some windows could not be predicted"):
        predict._check_found([partly, partly._replace(unread=())])
    nothing = partly._replace(spans={"verb": []}, unread=())
    assert "verb: nothing reaches the threshold" in answers.timeline_text(nothing)
    lines, rows = answers.timeline_below(partly)
    assert rows == 1 and [own.text for own in lines(1.9)] == ["push"] and lines(2.5) == [] == lines(-1)


# ---------------------------------------------------------------------------- what a run keeps
def test_an_older_run_needs_its_dataset(finished, tmp_path, monkeypatch, capsys):  # noqa: F811
    whole = finished[0]
    for name in ("config.json", "data.json"):
        shutil.copy(whole / name, tmp_path)
    shutil.copytree(whole / "mml", tmp_path / "mml", ignore=shutil.ignore_patterns("checkpoints"))
    for name in ("ce", "ce_continued", "stills"):
        (tmp_path / name).mkdir()
        shutil.copy(whole / name / "done.json", tmp_path / name)
    with_dataset, _ = predict.opened(tmp_path, None, 1)
    without, segment = predict.opened(whole, None, 1)
    assert with_dataset.datasets["dataset"].info == without.datasets["dataset"].info and segment.name == "mml"
    gone = f"--config.dataset.path={tmp_path / 'gone'}"
    assert ask(monkeypatch, "predict", tmp_path, "a.mp4", gone) == 1
    assert "does not say how its clips were prepared, as older runs do not" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"say where they lie, --config.dataset.path=FOLDER"):
        predict.opened(tmp_path, None, 1, [gone])


def test_a_damaged_description_says_what_to_do(run, tmp_path):
    files.write_json(tmp_path / "datasets.json", {"dataset": {"nom": 1}})
    with pytest.raises(ValueError, match=r"cannot be read.*delete it"):
        kept._datasets(tmp_path)
    files.write_json(tmp_path / "datasets.json", {})
    info = kept._datasets(run)["dataset"].info
    with pytest.raises(ValueError, match="does not say how its clips were prepared"):
        predict_lib.settings_of(info._replace(settings={}))
    assert predict_lib.settings_of(info).flow == "dis" and predict_lib.settings_of(info, "skip").flow == "none"
    run, segment = predict.opened(run, None, 1)
    given = info._replace(settings=info.settings | {"flow": "none"})
    assert "--flow=dis" in predict_lib.note(segment, given, "as-trained")
    assert not predict_lib.note(segment, given, "dis") and not predict_lib.note(segment, info, "as-trained")


@pytest.mark.parametrize("change", [
    lambda own: [], lambda own: {}, lambda own: {"stills": own}, lambda own: {"dataset": []},
    lambda own: {"dataset": own | {"heads": {}}}, lambda own: {"dataset": own | {"splits": 3}},
    lambda own: {"dataset": own | {"heads": {"action": {"classes": 3, "kind": "single", "names": ["a"]}}}},
])  # fmt: skip
def test_a_description_that_says_too_little_is_damaged(run, tmp_path, change):
    files.write_json(tmp_path / "datasets.json", change(files.read_json(run / "datasets.json")["dataset"]))
    with pytest.raises(ValueError, match=r"datasets.json cannot be read.*delete it"):
        kept._datasets(tmp_path)


@pytest.mark.parametrize("change, match", [
    ({"streams": ["rgb"]}, "streams=.* no group"), ({"networks": "rgb"}, "networks='rgb' is no group"),
    ({"networks": {"rgb": 3}}, "networks.rgb=3 is no group"), ({"streams": {"rgb": {}}}, "streams.rgb lacks 'mod"),
    ({"evaluation": 3}, "evaluation=3 is no group"),
])  # fmt: skip
def test_a_damaged_configuration_is_said_in_a_line(run, tmp_path, change, match):
    files.write_json(tmp_path / "config.json", files.read_json(run / "config.json") | change)
    with pytest.raises(ValueError, match=rf"config.json is damaged \({match}") as error:
        config_lib.of_run(tmp_path, [])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argv, code, match", [
    (("--segment=mlm",), 2, r"has no segment 'mlm'; it has ['ce', 'ce_continued', 'mml']"),
    (("--topk=0",), 2, "1 or more"), (("--json=-", "--csv=-"), 2, "mixed"),
    (("--json=nowhere/a.json",), 2, "no folder nowhere"), (("--config.size=9",), 2, "scored as it was trained"),
    ((), 1, "none of 1 clip could be predicted"), (("--json=.",), 2, "is a folder"),
    (("--json=b.json", "--csv=./b.json"), 2, "name two files"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_said(run, tmp_path, monkeypatch, capsys, argv, code, match):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert ask(monkeypatch, "predict", run, tmp_path / "a.mp4", *argv) == code
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err


# ---------------------------------------------------------------------------- what is named
def refused(path):
    """Why nothing of what ``path`` names is a clip."""
    ((found,), _) = inputs.items(path)
    assert isinstance(found, Refused)
    return found.reason


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
    assert re.search(r"holds no video and no pictures; .*1 .txt", refused(tmp_path / "c"))
    (tmp_path / "a.csv").write_text("id,path,depth,start\none,a/2.mov,d,1.5\n")
    ((row,), _) = inputs.items(tmp_path / "a.csv")
    assert (row.id, row.start, row.paths) == ("one", 1.5, {"depth": tmp_path / "d"})
    (tmp_path / "a.csv").write_text("id,video\none,a/2.mov\n")
    assert "lacks the column path" in refused(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="'sound' is nothing that a clip can have"):
        inputs.item("a.mp4", sound="a.wav")


def test_a_video_brings_its_own_sound(clips, tmp_path):
    sound = clips / "audio" / "test-00000.wav"
    assert inputs.item(sound, hear=True).paths == {"audio": sound} and not inputs.item(sound).paths
    assert not inputs.item(clips / "rgb" / "test-00000.mp4", hear=True).paths
    named = inputs.item(sound, hear=True, audio=clips / "other.wav")
    assert named.paths == {"audio": clips / "other.wav"}
    table = tmp_path / "a.csv"
    table.write_text(f"id,path,audio\nown,{sound},\nnamed,{sound},{clips / 'other.wav'}\n")
    assert [row.paths["audio"] for row in inputs.items(table, hear=True)[0]] == [sound, clips / "other.wav"]


def test_one_bad_input_leaves_the_others(tmp_path):
    """A bad row costs itself alone, a folder of two series too; whatever is no clip says why."""
    for name in ("two/x_rgb1.png", "two/x_rgb2.png", "two/y_d1.png", "two/y_d2.png", "two/ok.mp4", "c.csv/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    good, mixed = inputs.items(tmp_path / "two")[0]
    assert good.path == tmp_path / "two/ok.mp4" and mixed.path == tmp_path / "two"
    assert mixed.reason.startswith("it holds several series of pictures ('x_rgb#.png', 'y_d#.png'): name")
    table = tmp_path / "a.csv"
    table.write_text("id,path,start,end\na,a.mp4,0,1\nb,a.mp4,2,1\n,a.mp4\nd,two,,\ne,a.mp4,,\n")
    rows, _ = inputs.items(table)
    assert [row.id for row in rows] == ["a", "b", f"{table}, line 4", "d", "e"]
    assert [isinstance(row, Refused) for row in rows] == [False, True, True, False, False]
    assert rows[1].reason == "line 3: end=1.0 must be greater than start=2.0"
    assert rows[1].path == tmp_path / "a.mp4"
    table.write_text('id,path\na,a.mp4\nb,c.csv\nc,"a.mp4\n')
    good, films, rest = inputs.items(table)[0]
    assert good.id == "a" and "folder of videos ('a.mp4')" in films.reason and "from here on: line" in rest.reason
    ((inside,), _) = inputs.items(tmp_path / "c.csv")
    assert inside.path == tmp_path / "c.csv/a.mp4"
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.csv")
    assert refused(tmp_path / "none.csv") == "missing file none.csv" and "path=''" in refused("")
    assert refused(tmp_path / "pipe.csv") == "it is neither a file nor a folder"
    ((pipe,), _) = inputs.items(tmp_path / "pipe.mp4", hear=True)
    with pytest.raises(files_lib.DecodeError, match=r"pipe.mp4 is neither a file nor a folder"):
        record_lib.prepare(pipe, record_lib.Settings())


@pytest.mark.parametrize("given, match", [
    (dict(start=-1), "start='-1' is not a number of seconds"), (dict(start=2, end=1), "must be greater"),
    (dict(end=0), "end=0.0 must be greater"), (dict(fps=0), "fps='0' is not"),
    (dict(end=float("nan")), "end='nan'"),
])  # fmt: skip
def test_a_call_is_checked_as_a_row(given, match):
    with pytest.raises(ValueError, match=match):
        inputs.item("a.mp4", **given)


# ---------------------------------------------------------------------------- what is written
@pytest.mark.parametrize("named, target", [
    ("a.mp4", "a.mp4"), ("mine", "mine/b.mp4"), ("a.csv", "a.csv"), ("a.csv", "a.wav"), ("mine", "link.json"),
    ("mine", "mine/frames/1.png"), ("mine/frames/*.png", "mine/frames/2.png"), ("a.mp4", "run/config.json"),
    ("a.mp4", "run/mml/weights.safetensors"), ("a.mp4", "other/mml/weights.safetensors"),
])  # fmt: skip
def test_no_input_is_written_over(tmp_path, monkeypatch, named, target):
    monkeypatch.chdir(tmp_path)
    weights = ("run/mml/weights.safetensors", "other/mml/weights.safetensors", "other/data.json")
    pictures = ("mine/frames/1.png", "mine/frames/2.png")
    for name in ("a.mp4", "mine/b.mp4", *pictures, "a.wav", "run/config.json", *weights):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "link.json").symlink_to(tmp_path / "mine/b.mp4")
    (tmp_path / "a.csv").write_text("id,path,audio\na,a.mp4,a.wav\n")
    (tmp_path / "mine/said.json").write_text("{}")
    items, _ = inputs.items(named)
    for which in ("json", "csv"):
        arguments = argparse.Namespace(run=tmp_path / "run", inputs=[named], json=None, csv=None, video=None)
        setattr(arguments, which, target)
        with pytest.raises(usage.WrongUse, match=r"written over (an input|a file that is in the folder of)"):
            predict._check_targets(arguments, items)
        setattr(arguments, which, "mine/said.json")  # of an earlier call
        predict._check_targets(arguments, items)


def test_a_file_that_cannot_be_written_leaves_the_other(tmp_path):
    arguments = argparse.Namespace(json=str(tmp_path / "gone" / "a.json"), csv=str(tmp_path / "a.csv"))
    answered = [(Refused("a", None, "odd"), None, Prediction("a", "odd", path="x/a.mp4"))]
    with pytest.raises(OSError, match=r"a.json could not be written"):
        predict._said(answered, arguments, {}, answers.of_clips(1), {"a"})
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "a,x/a.mp4,,,,,,odd"


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


def test_an_auxiliary_network_has_no_say_where_the_primary_one_can_speak():
    scores = scored({"flow": True, "rgb": True}, {"verb": Head(3)}, ["flow", "rgb"])
    assert predict_lib._members(scores, "rgb") == ("flow", "rgb")
    assert predict_lib._members(scores, "rgb", alone=True) == ("rgb",)
    scores.present["rgb"][:] = False
    assert predict_lib._members(scores, "rgb", alone=True) == ("flow",)


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
    lines = answers.text(found, topk=2).splitlines()
    assert lines[0] == "my.mp4 (rgb; no depth)" and lines[1].split() == ["verb", "rgb"]
    assert lines[3].split() == ["b", "70.0", "%"] and lines[-1].split() == ["y", "80.0", "%"] and len(lines) == 9
    plain = json.loads(json.dumps(answers.plain(found, 1)))
    assert plain["top"] == {"rgb": {"verb": [{"class": "b", "probability": 0.7}],
                                    "noun": [{"class": "x", "probability": 0.9}]}}  # fmt: skip
    both = found._replace(together=("verb", "noun"))
    lines = answers.text(both, topk=2).splitlines()
    assert lines[9].split() == ["verb", "and", "noun", "rgb"] and lines[11].split() == ["b,", "x", "63.0", "%"]
    assert lines[12].split() == ["b,", "y", "56.0", "%"] and "the product of their probabilities" in lines[13]
    assert answers.plain(both, 1)["top"]["rgb"]["verb and noun"] == [{"class": "b, x", "probability": 0.9 * 0.7}]
    assert both.best(1, "verb and noun") == [("b, x", 0.9 * 0.7)]
    lost = Prediction("bad.mp4", "truncated: half of it")
    assert answers.text(lost, topk=2) == "bad.mp4: not predicted: truncated: half of it"
    assert answers.table([lost], 2).splitlines()[1] == "bad.mp4,,,,,,,truncated: half of it"
    twice = found._replace(path="x/my.mp4")
    assert answers.text(twice, {"my.mp4"}, topk=2).startswith("my.mp4 [x/my.mp4] (rgb;")
    assert answers.plain(twice, 1)["path"] == "x/my.mp4"


@given(arrays(float, (3, 6), elements=st.integers(0, 4).map(float)), st.integers(1, 8))
def test_the_likeliest_actions_are_those_of_all_combinations(values, k):
    """Though not all are looked at: [3 heads, 6 classes], many of them equally likely."""
    heads = dict(zip("abc", values))
    found = predict_lib.likeliest(heads, "a and b and c", k)
    every = np.einsum("i,j,k->ijk", *values)
    assert [p for _, p in found] == sorted(every.ravel().tolist(), reverse=True)[:k]
    assert all(every[classes] == p for classes, p in found) and len({c for c, _ in found}) == k
    assert predict_lib.likeliest(heads, "b", 1) == [((int(values[1].argmax()),), float(values[1].max()))]


def test_one_clip_that_cannot_be_cut_leaves_the_others():
    def score_of(prepared):
        if any(record["id"] == "odd" for record in prepared):
            raise files_lib.DecodeError("of three channels")
        return file.Scores(np.asarray([r["id"] for r in prepared]), np.arange(len(prepared)), {}, {}, {}, {})

    found = predict_lib._each(score_of, [{"id": "a"}, {"id": "odd"}, {"id": "b"}])
    assert [f if isinstance(f, str) else f.id.tolist() for f in found] == [["a"], "of three channels", ["b"]]
    assert [len(b) for b in predict_lib._batches(range(5), 2)] == [2, 2, 1]
