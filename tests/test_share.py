"""One network of a run in a folder of its own: it answers as in the run, tells what it is, and leads nowhere on
this machine."""

import json
import os
import shutil
import stat
import sys
import types

import blended
import numpy as np
import pytest
import runs
import untrained
import yaml
from test_commands import ask
from test_media import pictures, write

import mmvid
from configs import common
from mmvid import files
from mmvid.commands import predict, share
from mmvid.data.media import inputs
from mmvid.report import card
from mmvid.run import predict as predict_lib
from mmvid.run import shared
from mmvid.scores import file
from mmvid.weights import files as weight_files

FILES = {"model.safetensors", "config.json", "README.md"}


@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


def scored(workdir, segment, outputs, head="verb", classes=3, clips=6):
    """Writes scores of a split as a run does: a third is right."""
    label = np.arange(clips) % classes
    logits = {o: {head: np.tile(np.float32([3, 1, 0])[:classes], (clips, 1, 1))} for o in outputs}
    present = {o: np.ones(clips, bool) for o in outputs}
    meta = dict(clips_used=clips, clips_expected=clips + 1, members=list(outputs), views=1, split="test")
    ids = np.array([f"c{i}" for i in range(clips)])
    scores = file.Scores(ids, np.arange(clips), {head: label}, present, logits, meta)
    file.save(workdir / segment / "scores" / "test.npz", scores)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of RGB and flow, of three segments; the headline is RGB. It began with a file of somebody's."""
    workdir = tmp_path_factory.mktemp("run") / "mml"
    config = runs.configured("gone", "reduced", "mml")
    config.update_from_flattened_dict({"steps.ce": "4", "steps.ml": "4", "seed": 7})
    ended = untrained.ended(config, workdir)
    segment = ended.segments[-1]
    scored(workdir, segment.name, ("rgb", "flow"))
    path = workdir / segment.name / "weights.safetensors"
    tree, metadata = weight_files.read(path)
    learnt = dict(dataset="dataset", split="train", fingerprint="f" * 12, ids="a", clips=24)
    seen = dict(trained=[learnt], splits={}, published=["/home/somebody/resnet18.pth"], unproven=[])
    weight_files.save(path, tree, metadata | {"seen": json.dumps(seen), "key": "k" * 64})
    return workdir


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write(tmp_path_factory.mktemp("film") / "a.mp4", frames=pictures(24, 48, 64), sound=2.0)


def asked(folder, film):
    """What a run, or a shared folder, says of a film, and the segment that says it."""
    whole, segment = predict.opened(folder, None, 1)
    (found,) = predict_lib.predictor(whole, segment)([inputs.item(film, hear=predict._hears(segment))])
    assert not found.reason
    return found, segment


# ---------------------------------------------------------------------------- the real thing
@pytest.mark.parametrize("named, output", [("", "rgb"), (":flow", "flow")])
def test_a_shared_network_answers_as_in_its_run(run, film, tmp_path, monkeypatch, capsys, named, output):
    """From another folder, with nothing of the run left, and by anybody."""
    home = tmp_path / "deep" / "model"
    before = os.umask(0o077)
    try:
        assert ask(monkeypatch, "share", f"{run}{named}", home) == 0
    finally:
        os.umask(before)
    out = capsys.readouterr().out
    assert f"python -m mmvid predict {home} VIDEO" in out and "its licence is yours to add" in out
    assert {path.name for path in home.iterdir()} == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o644}
    there = shutil.move(home, tmp_path / "there")
    monkeypatch.chdir(there)
    found, segment = asked(there, film)
    whole, _ = asked(run, film)
    np.testing.assert_array_equal(found.logits[output]["verb"], whole.logits[output]["verb"])
    np.testing.assert_array_equal(found.fused["verb"], whole.probabilities[output]["verb"])
    assert set(found.logits) == {output} and found.names == whole.names and found.members == (output,)
    assert [n.name for n in segment.networks] == [output] and set(segment.streams) == {output}
    assert ask(monkeypatch, "predict", ".", film, "--topk=1") == 0
    assert output in capsys.readouterr().out
    assert mmvid.load(there)(film).best(1) == found.best(1)


def test_nothing_of_this_machine_is_told(run, tmp_path, monkeypatch):
    assert ask(monkeypatch, "share", run, tmp_path / "m") == 0
    for path in (tmp_path / "m").iterdir():
        content = path.read_bytes()
        for private in (str(tmp_path), str(run), "/home/somebody", "gone"):
            assert private.encode() not in content, (path, private)
    metadata = weight_files.metadata(tmp_path / "m" / "model.safetensors")
    assert json.loads(metadata["networks"]) == ["rgb"] and set(json.loads(metadata["layouts"])) == {"rgb"}
    assert json.loads(metadata["seen"])["published"] == ["resnet18.pth"] and metadata["key"] == "k" * 64
    # What was shared is a file to start from, as any of ours.
    assert set(weight_files.parameters(tmp_path / "m" / "model.safetensors")) == {"rgb"}


def test_a_fusion_is_shared_whole(film, tmp_path, monkeypatch):
    """By its own name or that of any of its outputs, of which that one's results are told."""
    untrained.ended(blended.configured("gone"), tmp_path / "run")
    scored(tmp_path / "run", "gblend", ("av.flow", "av.rgb", "av.joint"))
    own, _ = asked(tmp_path / "run", film)
    for name, output in (("", "av.joint"), (":av", "av.joint"), (":av.rgb", "av.rgb")):
        made = tmp_path / f"m{name}"
        assert ask(monkeypatch, "share", f"{tmp_path / 'run'}{name}", made) == 0
        assert f"Output `{output}`" in (made / "README.md").read_text()
    found, _ = asked(made, film)
    assert set(found.logits) == {"av.joint", "av.rgb", "av.flow"} and found.members == ("av.joint",)
    for output, heads in own.logits.items():
        np.testing.assert_array_equal(found.logits[output]["verb"], heads["verb"])


@pytest.mark.parametrize("heads, multi", [
    ({"many": {"classes": 3, "kind": "multi", "names": []}}, "softmax"),
    ({"verb": {"classes": 2, "kind": "single", "names": ["a", "b"]},
      "noun": {"classes": 2, "kind": "single", "names": ["x", "y"]}}, "sigmoid"),
])  # fmt: skip
def test_what_logits_mean_goes_along(film, tmp_path, monkeypatch, heads, multi):
    """Several heads, labels without names, and several labels that were learnt by a softmax."""
    config = untrained.configured(("rgb", common.network("toy", "rgb")))
    whole = untrained.ended(config, tmp_path / "run", untrained.info(heads))
    (segment,) = whole.segments
    segment = segment._replace(method=segment.method._replace(multi=multi))
    choice = shared.chosen(segment, "")
    (tmp_path / "m").mkdir()
    shared.write(whole, choice, "card", tmp_path / "m", lambda folder: share._verified(whole, choice, folder))
    _, found = predict.opened(tmp_path / "m", None, 1)
    assert found.method.multi == multi and found.heads == segment.heads
    (own,) = predict_lib.predictor(whole, segment)([inputs.item(film)])
    told, _ = asked(tmp_path / "m", film)
    for head in heads:
        np.testing.assert_array_equal(told.fused[head], own.fused[head])
    assert told.together == own.together


# ---------------------------------------------------------------------------- the card
def parted(text):
    """(the header's entries, the page) of a card."""
    _, header, page = text.split("---\n", 2)
    return yaml.safe_load(header), page


def test_the_card_tells_what_the_hub_and_people_ask(run, tmp_path, monkeypatch):
    assert ask(monkeypatch, "share", run, tmp_path / "my model") == 0
    text = (tmp_path / "my model" / "README.md").read_text()
    header, page = parted(text)
    assert header["pipeline_tag"] == "video-classification" and header["library_name"] == "mmvid"
    assert "rgb" in header["tags"] and "license" not in header and "# license:" in text
    (index,) = header["model-index"]
    (result,) = index["results"]
    assert index["name"] == "my model" and result["dataset"]["split"] == "test"
    assert result["metrics"][0] == {"type": "accuracy", "name": "top-1 (verb)", "value": pytest.approx(33.33)}
    for part in (
        "33.3 [",
        "6 of 7",
        "f" * 12,
        "24 clips of train",
        "resnet18.pth",
        "seed 7",
        "k" * 64,
        "push, pull, lift \\| drop",
        "predict FOLDER my_video.mp4",
        "16 pixels a side",
        "## Licence",
    ):
        assert part in page, part
    assert "dis" not in page.split("## What it reads")[1].split("##")[0]  # RGB alone is read
    assert ask(monkeypatch, "share", f"{run}:flow", tmp_path / "flow") == 0
    assert "flow by dis" in (tmp_path / "flow" / "README.md").read_text()


@pytest.mark.slow
def test_the_hub_reads_the_card(run, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="optional: pip install -r requirements-hub.txt")
    assert ask(monkeypatch, "share", run, tmp_path / "m") == 0
    found = hub.ModelCard.load(tmp_path / "m" / "README.md").data
    assert found.pipeline_tag == "video-classification" and found.model_name == "m"
    (result, *_) = found.eval_results
    assert result.dataset_split == "test" and result.metric_type == "accuracy" and result.metric_value > 33


def test_a_card_without_scores_says_so():
    facts = card.Facts("n", "rgb", "toy", 1, "rgb", [card.Input("rgb", "rgb", "frames", 2)], {"v": ["a"]}, [],
                       "d", "f", "p", [], [], {}, "cut", "0")  # fmt: skip
    header, page = parted(card.text(facts))
    assert "model-index" not in header and "It has not been scored." in page
    several = facts._replace(results=[card.Result("test", "v", {"map": 0.5, "map_interval": None}, 1, 1)])
    header, page = parted(card.text(several))
    assert header["model-index"][0]["results"][0]["metrics"] == [{"type": "mAP", "name": "mAP (v)", "value": 50.0}]
    assert "| test | 1 of 1 | v | 50.0 | - | - |" in page


# ---------------------------------------------------------------------------- what cannot be
@pytest.mark.parametrize("argv, code, match", [
    (("{run}", "{full}"), 2, "full is not empty, it holds 'a.txt': name a new folder"),
    (("{run}", "{full}/a.txt"), 2, "is a file; name a folder"),
    (("{run}:depth", "new"), 2, "trains no output 'depth'; it trains flow, rgb: name one of them, RUN:flow"),
    (("{run}:", "new"), 2, "name an output behind the colon"),
    (("{run}", "new", "--segment=nope"), 2, "has no segment 'nope'"),
    (("{full}", "new"), 2, "is no run, there is no config.json in it"),
    (("nowhere:rgb", "new"), 2, "nowhere is no run"),
    (("{run}", "new", "--upload=me"), 2, "write the owner and the name of a repository"),
    (("{run}",), 2, "arguments are required: DIR"),
    (("{run}", "new", "--config.seed=1"), 2, "takes no configuration"),
])  # fmt: skip
def test_what_cannot_be_meant_is_said(run, tmp_path, monkeypatch, capsys, argv, code, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    argv = [text.format(run=run, full=tmp_path / "full") for text in argv]
    assert ask(monkeypatch, "share", *argv) == code
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err
    assert not (tmp_path / "new").exists() and (tmp_path / "full" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("spoil, match", [
    (lambda run, own: (own / "done.json").unlink(), "has not ended: its segment"),
    (lambda run, own: (own / "weights.safetensors").unlink(), "weights.safetensors is gone"),
    (lambda run, own: (own / "weights.safetensors").write_bytes(b"cut"), "is damaged or no safetensors file"),
    (lambda run, own: (own / "scores" / "test.npz").write_bytes(b"cut"), "test.npz is damaged"),
    (lambda run, own: (run / "datasets.json").write_text("{"), "datasets.json is damaged"),
])  # fmt: skip
def test_a_run_that_lacks_something_leaves_no_folder(run, tmp_path, monkeypatch, capsys, spoil, match):
    whole = shutil.copytree(run, tmp_path / "run")
    last = max(path.parent for path in whole.glob("*/scores"))
    spoil(whole, last)
    assert ask(monkeypatch, "share", whole, tmp_path / "new") == 1
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err and not (tmp_path / "new").exists()


def test_an_earlier_segment_can_be_shared(run, tmp_path, monkeypatch, film):
    assert ask(monkeypatch, "share", run, tmp_path / "ce", "--segment=ce") == 0
    found, _ = asked(tmp_path / "ce", film)
    assert "It has not been scored." in (tmp_path / "ce" / "README.md").read_text()
    last, _ = asked(run, film)
    assert not np.array_equal(found.logits["rgb"]["verb"], last.logits["rgb"]["verb"])


def test_what_would_answer_otherwise_is_taken_back(run, tmp_path, monkeypatch, capsys):
    """An empty folder that was there stays, with nothing in it."""
    (tmp_path / "m").mkdir()
    described = shared.described
    monkeypatch.setattr(shared, "described", lambda run, choice: {**described(run, choice), "size": 20})
    monkeypatch.setattr(shared, "check", lambda *given: (_ for _ in ()).throw(ValueError("otherwise")))
    assert ask(monkeypatch, "share", run, tmp_path / "m") == 1
    assert "otherwise" in capsys.readouterr().err and not list((tmp_path / "m").iterdir())


# ---------------------------------------------------------------------------- a shared folder
@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    made = tmp_path_factory.mktemp("shared") / "m"
    with pytest.MonkeyPatch.context() as patch:
        assert ask(patch, "share", run, made) == 0
    return made


@pytest.mark.parametrize("spoil, match", [
    (lambda c: c["shared"].pop("dataset"), "config.json is damaged"),
    (lambda c: c["shared"]["dataset"].pop("heads"), "config.json is damaged"),
    (lambda c: c["shared"].update(version=99), "in form 99, and this one reads form 1: update mmvid"),
    (lambda c: c["networks"]["rgb"].update(model="nope"), "config.json is damaged"),
    (lambda c: c["networks"]["rgb"].update(model="tsm_tiny"), "does not fit the networks"),
    (lambda c: c.update(shared=3), "config.json is damaged"),
    (lambda c: c["shared"].update(version="1"), "config.json is damaged"),
    (lambda c: c["shared"].update(outputs=[]), "config.json is damaged (its outputs are"),
    (lambda c: c["shared"].update(outputs=["flow"]), "config.json is damaged (its outputs are"),
    (lambda c: c["shared"].update(multi="x"), "config.json is damaged (its losses of several labels"),
    (lambda c: c.pop("streams"), "config.json is damaged"),
])  # fmt: skip
def test_a_damaged_folder_says_so(folder, film, tmp_path, monkeypatch, capsys, spoil, match):
    copy = shutil.copytree(folder, tmp_path / "m")
    config = files.read_json(copy / "config.json")
    spoil(config)
    files.write_json(copy / "config.json", config)
    assert ask(monkeypatch, "predict", copy, film) == 1
    err = capsys.readouterr().err
    assert match in err and "Traceback" not in err


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5])
def test_weights_that_break_off(folder, film, tmp_path, monkeypatch, capsys, part):
    copy = shutil.copytree(folder, tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: int(part * len(whole))])
    assert ask(monkeypatch, "predict", copy, film) == 1
    err = capsys.readouterr().err
    assert "is damaged or no safetensors file" in err and "Traceback" not in err


def test_a_folder_without_its_weights(folder, film, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(folder, tmp_path / "m")
    (copy / "model.safetensors").unlink()
    assert ask(monkeypatch, "predict", copy, film) == 1
    assert "model.safetensors is gone: have the model shared again" in capsys.readouterr().err


@pytest.mark.parametrize("argv, match", [
    (("evaluate", "{folder}"), "is a network that was shared, without its run"),
    (("predict", "{folder}", "{film}", "--segment=mml"), "is one network that was shared, without segments"),
    (("share", "{folder}", "new"), "is shared already: copy the folder, or send it"),
])  # fmt: skip
def test_what_only_a_run_can_do(folder, film, tmp_path, monkeypatch, capsys, argv, match):
    monkeypatch.chdir(tmp_path)
    assert ask(monkeypatch, *(text.format(folder=folder, film=film) for text in argv)) == 2
    assert match in capsys.readouterr().err


# ---------------------------------------------------------------------------- the hub
def test_the_hub_needs_its_library(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert ask(monkeypatch, "share", run, tmp_path / "m", "--upload=me/model") == 2
    assert "pip install -r requirements-hub.txt" in capsys.readouterr().err and not (tmp_path / "m").exists()


def test_a_folder_is_sent_whole(run, tmp_path, monkeypatch, capsys):
    """Into a new private repository, which gives the card its name; what fails there leaves the folder."""
    sent = []

    def create_repo(name, private):
        if len(sent) > 1:
            raise RuntimeError("409 it exists\nalready")
        sent.append((name, private))

    def upload_folder(repo_id, folder_path, commit_message):
        sent.append((repo_id, {path.name for path in folder_path.iterdir()}))

    hub = types.SimpleNamespace(create_repo=create_repo, upload_folder=upload_folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert ask(monkeypatch, "share", run, tmp_path / "m", "--upload=me/the-model") == 0
    assert sent == [("me/the-model", True), ("me/the-model", FILES)]
    header, _ = parted((tmp_path / "m" / "README.md").read_text())
    assert header["model-index"][0]["name"] == "the-model"
    assert ask(monkeypatch, "share", run, tmp_path / "n", "--upload=me/the-model") == 1
    err = capsys.readouterr().err
    assert "could not be sent to me/the-model (409 it exists already)" in err and "hf upload me/the-model" in err
    assert {path.name for path in (tmp_path / "n").iterdir()} == FILES
