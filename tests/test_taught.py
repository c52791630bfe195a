"""The plan 'distill': whole runs of toy networks, teachers of earlier runs, and the proof that none saw the held
clips."""

import argparse
import json
import re
import shutil
import signal
import types

import numpy as np
import pytest
import runs
import taught as small
import trap
import warm
from test_network import same_weights, weights_of
from test_records import pack, record
from test_train import assert_equal_runs, environment

from configs import common
from configs import distill as distill_config
from mmvid import checkpoint, commands, configuration, files, losses, train, usage
from mmvid.commands import compare, evaluate
from mmvid.commands import config as config_lib
from mmvid.methods import distill
from mmvid.plans import fit, networks, starts
from mmvid.plans import taught as taught_lib
from mmvid.run import build, resume, score
from mmvid.scores import effort, ensembles
from mmvid.scores import file as file_lib
from mmvid.streams import Head
from mmvid.weights import files as weight_files

OUTPUTS = ("teacher_flow", "teacher_rgb")


@pytest.fixture(scope="module")
def dataset(once):
    """Sixteen clips to learn from, three to validate and three to test."""

    def make(folder):
        rows = [record(i) for i in range(16)] + [record(i, "val" if i < 19 else "test") for i in range(16, 22)]
        pack(folder, rows, ["verb"])

    return once("taught", make)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended; for reading."""
    return runs.ended(small.configured(dataset), tmp_path_factory)


def test_teachers_are_weighed_on_clips_that_none_has_seen(dataset, finished):
    note = files.read_json(finished / "distillation" / "teachers.json")
    assert (note["gamma"], note["scheme"], note["split"], note["clips"]) == (1.0, "weighted", "held", 4)
    scores = file_lib.load(finished / "teachers" / "scores" / "held.npz")
    label = scores.label["verb"]
    errors = [losses.softmax_cross_entropy(scores.logits[o]["verb"].mean(1), label).mean() for o in OUTPUTS]
    np.testing.assert_allclose([note["cross_entropy"]["verb"][o] for o in OUTPUTS], errors, rtol=1e-5)
    want = distill.ensemble_weights(np.array(errors), gamma=1.0)
    np.testing.assert_allclose([note["weights"]["verb"][o] for o in OUTPUTS], want, rtol=1e-5)
    clips = files.read_json(dataset / "index.json")["train"]
    shown = {s: {clips[i] for line in files.read_lines(finished / s / "ids-0.jsonl") for i in line["main"]}
             for s in ("teachers", "distillation")}  # fmt: skip
    held = set(scores.id.tolist())
    assert len(held) == 4 and not held & shown["teachers"] and held < shown["distillation"]


def test_the_student_is_the_baseline_but_for_its_teachers(finished):
    """The same clips in the same batches, as many updates; the teachers are not saved, what they weigh is."""
    ids = [files.read_lines(finished / s / "ids-0.jsonl") for s in ("baseline", "distillation")]
    assert ids[0] == ids[1]
    one, other = (weights_of(finished, s) for s in ("baseline", "distillation"))
    assert one.keys() == other.keys() and any(np.any(one[name] != other[name]) for name in one)
    with checkpoint.opened(finished / "distillation" / "checkpoints") as opened:
        kept = checkpoint._shapes(opened.checkpointables_metadata(opened.latest.step).metadata["state"])
    assert kept["method/weights/verb"] == (2,) and not any("teacher" in leaf for leaf in kept)


def test_tables_show_ensembles_and_weights(finished, capsys, caplog, monkeypatch):
    runs.unwritten(monkeypatch.setattr)
    caplog.set_level("INFO", "mmvid")
    train.train(config_lib.of_run(finished, ()), str(finished))
    page, note = (finished / "report.html").read_text(), files.read_json(finished / "distillation/teachers.json")
    for text in ("Teachers, gamma 30", "Teachers, gamma 1", "teacher_flow", "Baseline", "Student",
                 "Alike: teachers weighed alike: verb: teacher_flow 1.000", ensembles.told(note)):  # fmt: skip
        assert text in caplog.text and text in page, text
    assert "accuracy / calibration error" in caplog.text and "Student: rgb " in caplog.text
    assert "Baseline with the same updates" in page and "Teachers: teacher" not in page + caplog.text
    who = "teacher_flow and teacher_rgb trained on 12 taught; Baseline, Alike and Student trained on 16 train"
    assert f"<dd>{who}; teachers weighed on 4 held; tested on 3 of 3 test</dd>" in page
    *columns, own = files.read_json(finished / "summary.json")
    assert columns == ["teachers", "baseline", "alike-ensemble-alike", "alike", "ensemble-30", "ensemble-1"]
    assert own == "distillation"
    scores = file_lib.load(finished / "teachers" / "scores" / "test.npz")
    combined = file_lib.load(finished / "ensemble-1" / "scores" / "test.npz")
    want = sum(note["weights"]["verb"][o] * scores.logits[o]["verb"].mean(1) for o in OUTPUTS)
    np.testing.assert_allclose(combined.logits["ensemble"]["verb"][:, 0], want, rtol=1e-5)
    taken = {folder: effort.read(finished / folder) for folder in ("teachers", "ensemble-1", "distillation")}
    assert taken["ensemble-1"]["ensemble"]["flops"] == sum(taken["teachers"][o]["flops"] for o in OUTPUTS) > 0
    assert list(taken["distillation"]) == ["rgb"] and "Accuracy and cost" in page
    compare.compare([finished], finished / "compared")
    said = capsys.readouterr().out
    assert "Teachers, gamma 30" in said and f"Student: {ensembles.told(note)}" in said


def test_ogr_compares_the_first_network_of_every_stream(finished, tmp_path, capsys):
    """One sentence for the whole run, however many segments train the same stream again."""
    run = shutil.copytree(finished, tmp_path / "run")
    commands.start("ogr", [str(run)])
    table, said = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[2:]] == [
        "Teachers",
        "teacher_rgb",
        "Baseline",
        "Alike",
        "Student",
    ]
    said = said.splitlines()
    assert said[0].startswith("teacher_flow and teacher_rgb (Teachers): ") and said[1].startswith("page: ")
    assert len(said) == 2 and (run / "ogr.html").read_text().count("<svg") == 1


def test_ogr_of_labels_of_several_classes(tmp_path, capsys):
    """A run of one segment; of such labels no clip is right or wrong."""
    pack(tmp_path / "data", [record(i, ("train", "val", "test")[i % 3]) for i in range(12)], ["noun"])
    networks = {name: common.network("toy", name) for name in ("rgb", "flow")}
    config = small.configured(tmp_path / "data", plan="single", **{"steps.ce": "2"})
    config.method.name, config.networks, config.subsets, config.students = "single", networks, {}, {}
    train.train(config.lock(), str(tmp_path / "run"))
    capsys.readouterr()
    commands.start("ogr", [str(tmp_path / "run")])
    table, said = capsys.readouterr().out.split("\n\n")
    rows = [line.split() for line in table.splitlines()[2:]]
    assert len(rows) == 2 and all(row[-1] == "-" for row in rows)
    # Each class by itself: what knows nothing loses log 2.
    train_loss, held, gain, over = (float(x) for x in re.findall(r"[+-]?\d+\.\d{3}", " ".join(rows[0]))[:4])
    assert held + gain == pytest.approx(np.log(2), abs=2e-3)
    assert held - train_loss == pytest.approx(over, abs=2e-3)
    assert re.match(r"(flow and rgb|rgb and flow) \(", said) and "top-1" not in said


# ---------------------------------------------------------------------------- teachers of earlier runs
def from_files(dataset, **sources):
    named = {f"networks.{name}.weights": str(source) for name, source in sources.items()}
    return small.configured(dataset, **named).lock()


@pytest.mark.slow
def test_a_teacher_comes_from_the_workdir_or_the_file_of_an_earlier_run(dataset, finished, tmp_path, monkeypatch):
    """With the same teachers the student is the same to the bit, and nothing of them is trained again. Lost scores
    of the held clips are made as the error says."""
    monkeypatch.setattr(train.rehearsal, "rehearse", lambda run: None)
    earlier = shutil.copytree(finished, tmp_path / "earlier")
    (earlier / "teachers" / "scores" / "held.npz").unlink()
    file = earlier / "teachers" / "weights.safetensors"
    config = from_files(dataset, teacher_rgb=earlier, teacher_flow=f"{file}#teacher_flow")
    with pytest.raises(FileNotFoundError, match=r"evaluate \S+ --splits=held --segments=teachers") as error:
        train.train(config, str(tmp_path / "run"))
    line, overrides = configuration.apart(re.search(r"mmvid evaluate (.*), or", str(error.value))[1].split())
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    evaluate.execute(parser.parse_args(line, argparse.Namespace(overrides=overrides)))
    train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "teachers").exists() and (tmp_path / "run" / "ensemble-30").exists()
    same_weights(weights_of(finished, "distillation"), weights_of(tmp_path / "run", "distillation"))
    notes = [files.read_json(w / "distillation" / "teachers.json") for w in (finished, tmp_path / "run")]
    assert notes[0]["weights"] == notes[1]["weights"]
    # Their rows are those of their own run.
    summaries = [files.read_json(w / "summary.json") for w in (finished, tmp_path / "run")]
    for output in OUTPUTS:
        assert summaries[1][f"imported-{output}"]["test"][output] == summaries[0]["teachers"]["test"][output]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>teacher_rgb</td>" in page and " trained on 12 taught; Baseline, " in page
    (earlier / "teachers" / "scores" / "test.npz").unlink()
    train.train(config, str(tmp_path / "run"))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>teacher_rgb</td>" not in page and page.count(f"mmvid evaluate {earlier} --splits=test") >= 2


def test_scores_of_other_weights_or_other_views_do_not_weigh_a_teacher(finished, tmp_path):
    """Nor do older ones of the same way win over those of these very weights."""
    run = build.opened(finished, config_lib.of_run(finished, ()))
    earlier = shutil.copytree(finished / "teachers", tmp_path / "teachers")
    teacher = taught_lib.Teacher("teacher_rgb", "teacher_rgb", file=f"{earlier}/weights.safetensors#teacher_rgb")
    own, spec = earlier / "scores" / "held.npz", run.config.evaluation
    added = own.with_name(f"held@{spec.protocol}-{spec.crops}.npz")
    scores = file_lib.load(own)
    assert scores.meta["key"] and (scores.meta["resize"], scores.meta["variant"]) == (spec.resize, spec.variant)
    met = {s.name: [score.meta(run, s, split, 1, "D1U1", "centre").get("met") for split in ("held", "taught")]
           for s in run.segments}  # fmt: skip
    assert met["teachers"] == [False, True] and met["baseline"] == met["alike"] == [True, True]
    asked = lambda: taught_lib._held_scores(run, teacher, "held", set(scores.id.tolist())).meta["which"]  # noqa: E731

    def save(path, *without, **changes):
        meta = {name: value for name, value in scores.meta.items() if name not in without}
        file_lib.save(path, scores._replace(meta=meta | {"which": path.name} | changes))

    save(own)
    for changes in ({"key": "other"}, {"resize": 99}, {"variant": "paper"}, {"protocol": "D1U1"}):
        save(added, **changes)
        assert asked() == own.name
        save(own, **changes)
        with pytest.raises(ValueError, match=r"in another way .* Score again with .*resize="):
            asked()
        save(own)
    save(added, "key", "resize", "variant")
    assert asked() == own.name
    save(own, "key", step=3)
    assert asked() == added.name
    # What cannot be read, or is of other clips, stands in nobody's way, and is named where nothing else is there.
    for broken, reason in ((b"PK", "damaged, or no file of scores"), (None, "scores of other clips than the 4 ")):
        save(added)
        own.write_bytes(broken) if broken else save(own, fingerprint="other")
        assert asked() == added.name
        added.unlink()
        with pytest.raises(ValueError, match=rf"held.npz: {reason}.* Score again with python -m mmvid evaluate "):
            asked()
    with pytest.raises(ValueError, match=rf"Delete {re.escape(str(own))}, and the same command makes it again"):
        here = run._replace(workdir=tmp_path)
        taught_lib._held_scores(
            here, teacher._replace(file="", segment="teachers"), "held", set(scores.id.tolist())
        )


def copied(finished, folder, change):
    """A copy of the teachers' segment whose metadata are ``change``-d; returns its file of weights."""
    shutil.copytree(finished / "teachers", folder / "teachers")
    path = folder / "teachers" / "weights.safetensors"
    tree, metadata = weight_files.read(path)
    weight_files.save(path, tree, change(metadata))
    return path


def without_proof(metadata):
    return {name: text for name, text in metadata.items() if name != "seen"}


def refused(dataset, tmp_path, match, **sources):
    """Before anything is trained."""
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        train.train(from_files(dataset, **sources), str(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("*/metrics.jsonl"))


def test_a_teacher_that_saw_the_held_clips_is_refused(dataset, finished, tmp_path):
    """And one that cannot prove that it did not, or is not there."""
    saw = f"{finished}/baseline/weights.safetensors#rgb"
    refused(dataset, tmp_path, r"teacher_rgb, \S+baseline\S+, was trained on clips of 'held'", teacher_rgb=saw)
    path = copied(finished, tmp_path, without_proof)
    refused(dataset, tmp_path, r"cannot prove that it never saw 'held'", teacher_rgb=path)
    refused(
        dataset,
        tmp_path,
        r"no network 'teacher_rgb'; there are \S+weights.safetensors#rgb: name one",
        teacher_rgb=finished / "baseline",
    )


def test_what_a_teacher_starts_from_must_not_have_seen_them_either(dataset, finished, tmp_path):
    """A run's weights for other classes, which are no teacher yet, and of which nothing is known."""
    other = lambda metadata: metadata | {"heads": '{"noun": 3}'}  # noqa: E731
    shutil.copytree(finished / "baseline", tmp_path / "baseline")
    path = tmp_path / "baseline" / "weights.safetensors"
    tree, metadata = weight_files.read(path)
    weight_files.save(path, tree, other(metadata))
    refused(dataset, tmp_path, "what teacher_rgb starts from.*on clips of 'held'", teacher_rgb=f"{path}#rgb")
    weight_files.save(path, tree, other(without_proof(metadata)))
    refused(dataset, tmp_path, "cannot prove", teacher_rgb=f"{path}#rgb")
    # Nor is a file of ours excused that began with a published one.
    seen = json.loads(metadata["seen"]) | {"published": ["imagenet.pth"]}
    weight_files.save(path, tree, other(metadata | {"seen": json.dumps(seen)}))
    refused(dataset, tmp_path, "what teacher_rgb starts from.*on clips of 'held'", teacher_rgb=f"{path}#rgb")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"teachers.split": "train"}, "has 4 of the 4 clips of 'held'"),
        ({"teachers.held": "hold"}, r"teachers\.held='hold' is no split or subset"),
        ({"method.name": "mml"}, "'distillation'"),
        ({"method.distillation.teachers": ("teacher_rgb", "rgb")}, "'rgb' cannot teach 'rgb'"),
        ({"method.distillation.scheme": "best"}, "choose one of"),
        ({"students.distillation": {"weight": 1.0}}, "the run's own student"),
        ({"method.distillation.gamma": -1.0}, "gamma=-1"),
        ({"students.x": 0.5}, r"students\.x=0\.5: write dict"),
        ({"students.x": {"teachers": ("teacher_rgb", "teacher_rgb")}}, "each teacher once"),
        ({"students.x": {"teachers": "teacher_rgb"}}, "write a tuple"),
        ({"teachers.alone.teacher_rgb": 5}, r"teachers\.alone\.teacher_rgb=5: write dict"),
        ({"teachers.alone.teacher_rgb": {"batch_size": "x"}}, r"batch_size='x': it must be 1 or more"),
        ({"students.x": {"weight": "a"}}, r"students\.x\.weight='a': give a number"),
        ({"students.x": {"gamma": None}}, r"students\.x\.gamma=None: give a number"),
        ({"subsets.few": {"of": "train", "share": "x"}}, r"share='x': a share"),
        ({"evaluation.every": "inf epochs"}, "cannot read the duration 'inf epochs'"),
        ({"networks.teacher_rgb.options.width": -3}, "width=-3: give a number 1 or more"),
    ],
    ids=str,
)
def test_plans_that_cannot_be(dataset, tmp_path, changes, match):
    with pytest.raises(usage.WrongUse, match=match):  # exit code 2
        train.train(small.configured(dataset, **changes).lock(), str(tmp_path))
    assert not list(tmp_path.glob("*/metrics.jsonl"))


def test_a_teacher_that_read_something_else_is_refused(dataset, finished, tmp_path):
    """Both are named; a file from before that was written is taken at its word."""
    told = json.loads(weight_files.metadata(finished / "teachers" / "weights.safetensors")["inputs"])
    assert told["teacher_rgb"] == {"model": "toy", "reads": [[["rgb", "rgb", "frames"]]]}
    others = {"toy on flow": told["teacher_flow"], "tsm on rgb": {**told["teacher_rgb"], "model": "tsm"}}
    for text, own in others.items():
        changed = {"inputs": json.dumps({**told, "teacher_rgb": own})}
        path = copied(finished, tmp_path / text, lambda metadata, changed=changed: metadata | changed)
        match = rf"weights.safetensors\S* was trained as {text} \(frames\), and 'teacher_rgb' is toy on rgb"
        refused(dataset, tmp_path, match, teacher_rgb=path)
    without = lambda metadata: {name: text for name, text in metadata.items() if name != "inputs"}  # noqa: E731
    path = copied(finished, tmp_path / "old", without)
    assert fit._told(starts.Start(file=f"{path}#teacher_rgb")) is None


def test_a_student_that_goes_on_is_not_asked_again(tmp_path):
    """Its checkpoint has what it began with; the earlier run's scores may be gone."""

    def check(run):
        raise FileNotFoundError("no scores")

    run = types.SimpleNamespace(workdir=tmp_path, segments=[types.SimpleNamespace(name="own", check=check)])
    with pytest.raises(FileNotFoundError):
        resume.check_beginnings(run)
    (tmp_path / "own" / "checkpoints" / "3").mkdir(parents=True)
    resume.check_beginnings(run)


def test_a_frozen_teacher_is_not_averaged_to_other_channels(tmp_path):
    """An RGB network would teach flow, and be weighed by its scores of RGB."""
    config = distill_config.get_config("smoke").unlock()
    heads = {"verb": Head(20), "noun": Head(8)}
    streams = networks.make_streams(config)
    rgb = networks.make_network(config, "teacher_rgb", heads, streams)
    params, stats = fit._blank(rgb, streams)
    path = tmp_path / "weights.safetensors"
    weight_files.save(path, {"teacher_rgb": {"params": params, "stats": stats}}, starts._describe((rgb,), heads))
    for name, match in (("teacher_rgb", None), ("teacher_flow", r"channels, and 'teacher_flow' of \[10\]")):
        network = networks.make_network(config, name, heads, streams)._replace(frozen=True)
        begin = {name: starts.Start(file=str(path))}
        if match is None:
            fit.check_teachers(config, (network,), begin, heads)
            continue
        with pytest.raises(ValueError, match=match):
            fit.check_teachers(config, (network,), begin, heads)


# ---------------------------------------------------------------------------- killed
@pytest.mark.slow
def test_killed_thrice_ends_with_the_same_bits(dataset, finished, tmp_path, monkeypatch):
    """While teachers are trained, while they are weighed, and while the student learns from them."""
    (tmp_path / "config.py").write_text(small.FILE)
    line = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/cut"]
    for place in (("teachers", "step", 3), ("distillation", "enter", 0), ("distillation", "step", 5)):
        done = warm.run(line, environment() | {"TAUGHT": str(dataset)}, place)
        assert done.returncode == -signal.SIGKILL, (place, done.stderr[-2000:])
    # The last stretch needs no process of its own, and its report is like that of any other run.
    trap.shorten(monkeypatch.setattr)
    train.train(small.brief(dataset), str(tmp_path / "cut"))
    notes = [files.read_json(w / "distillation" / "teachers.json") for w in (finished, tmp_path / "cut")]
    assert notes[0] == notes[1]
    assert_equal_runs(finished, tmp_path / "cut", ("teachers", "baseline", "distillation"))
