"""What cannot work is said before anything is trained; what may change between calls may."""

import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_records import pack, record

from configs import distill, mml
from mmvid import files, train, usage
from mmvid.data import records
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.plans import epochs
from mmvid.plans import segment as segment_lib
from mmvid.run import build, checks, feed, rehearsal, resume, score, seen, signals


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty training clips with RGB and flow, three to validate, three to test."""
    root = tmp_path_factory.mktemp("data")
    clips = [record(i) for i in range(40)] + [record(i, s) for s in ("val", "test") for i in range(3)]
    pack(root, clips, ["verb"])
    return root


def config(dataset, **changes):
    c = mml.get_config("own").unlock()
    c.dataset.path = str(dataset)
    c.size, c.batch_size = 32, 8
    c.update_from_flattened_dict(changes)
    return c.lock()


def test_a_run_is_built(dataset, tmp_path):
    run = build.build(config(dataset), tmp_path)
    assert [s.name for s in run.segments] == ["ce", "ce_continued", "mml"]
    assert run.segments[0].heads["verb"].names == ("push", "pull") and not run.stop


def test_records_of_another_schema_name_the_command_that_makes_them(dataset, tmp_path):
    root = shutil.copytree(dataset, tmp_path / "old")
    info = json.loads((root / "metadata.json").read_text())
    (root / "metadata.json").write_text(json.dumps(info | {"version": 0}))
    made = ("data_prep.build", "--dataset", "tabletop", "--out", str(root))
    with pytest.raises(ValueError, match=r"was built with schema 0.*\n  python -m data_prep\.build --dataset tab"):
        build.build(config(root, **{"dataset.command": made}), tmp_path / "run")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"headline": "rbg"}, r"'rbg'.*\['flow', 'rgb'\]"),
        ({"plan": "fulll"}, "reduced"),
        ({"plan": "full"}, "twin"),
        ({"evaluation.splits": ("tset",)}, "tset"),
        ({"evaluation.splits": ()}, "at least one split"),
        ({"evaluation.during": "validation"}, "validation"),
        ({"evaluation.protocol": "K3"}, "DkUm"),
        ({"evaluation.variant": "papr"}, "paper"),
        ({"evaluation.crops": "center"}, "centre"),
        ({"evaluation.aggregate": "prob"}, "probs"),
        ({"evaluation.checkpoint": "Best"}, "best"),
        ({"evaluation.resize": 16}, "smaller than the crop"),
        ({"accumulate": 3}, "does not divide"),
        ({"accumulate": 0}, "1 or more"),
        ({"ema": 1.5}, "from 0 .none. to below 1"),
        ({"schedule.lr": float("nan")}, "learning rate is a number"),
        ({"augment.scales": ()}, "scales"),
        ({"augment.flip_labels": ((0, 7),)}, "class ids 0 to 1"),
        ({"model_options.dtype": "float8"}, "float8"),
        ({"model_options.frozen_bn": "some"}, "all_but_first"),
        ({"streams.flow.modality": "thermal"}, r"'thermal'.*known are"),
        ({"networks.rgb.model": "resnet19"}, "resnet18"),
        ({"heads": {"verb": (3, "single")}}, "3 classes"),
        ({"heads": {"verb": 3}}, "heads.verb=3: write .classes"),
        ({"subsets": {"held": 3}}, "subsets.held=3: write a rule"),
        ({"subsets": {"val-during": {"share": 0.5}}}, "subset 'val-during': rename it"),
        ({"evaluation.splits": ("val", "val")}, "name each split once"),
        ({"size": 0}, "1 or more"),
        ({"method.mml.average": "mean"}, "average='mean'"),
        ({"steps.ce": "soon"}, "soon"),
        ({"save_every": "often"}, "save_every: cannot read the duration 'often'"),
        ({"stills.batch_size": 0}, "stills.batch_size=0: it must be 1 or more"),
        ({"optimizer.weight_decay": -1.0}, "optimizer.weight_decay=-1.0: give a number 0 or more"),
        ({"networks.rgb.options.dropout": 1.0}, "networks.rgb.options.dropout=1.0: .* from 0 to below 1"),
        ({"subsets": {"few": {"share": 2.0}}}, "subsets.few.share=2"),
        ({"networks.rgb.weights": "nope.pth"}, "--config.networks.rgb.weights=nope.pth: there is no nope.pth"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_found_before_anything_trains(dataset, tmp_path, changes, match):
    with pytest.raises(ValueError, match=match) as error:
        build.build(config(dataset, **changes), tmp_path)
    # What the configuration says and cannot mean is wrong use: exit code 2.
    assert isinstance(error.value, usage.WrongUse)
    assert not list(tmp_path.glob("*/"))


def test_a_modality_that_no_clip_has(tmp_path):
    pack(tmp_path, [record(i, s, flow_x=[], flow_y=[]) for s in ("train", "val", "test") for i in range(9)])
    with pytest.raises(ValueError, match=r"'flow', which no training clip.*there is rgb"):
        build.build(config(tmp_path), tmp_path / "run")
    # What could be left out is said where enough would be left.
    c = distill.get_config("omnivore")
    assert checks._without(c, {"boxes", "audio"}).endswith("--config.without=omni,teacher_audio,teacher_boxes")
    assert checks._without(c, {"rgb"}) == checks._without(mml.get_config(), {"flow"}) == ""


def test_the_dataset_that_is_meant_is_named_with_its_command(dataset, tmp_path):
    """Where there is none, and where there is one with other labels."""
    told = r"at {0}.* made there by\n  python -m data_prep\.build --out {0} --dataset tabletop"
    c = distill.get_config("smoke").unlock()
    c.dataset.path = path = str(tmp_path / "nope")
    with pytest.raises(usage.WrongUse, match=told.format(path) + " --size smoke --view epic"):
        build.open_dataset(c.dataset)
    c.stills.path = path
    with pytest.raises(usage.WrongUse, match=told.format(path) + "_stills"):
        build.open_dataset(c.stills)
    c.dataset.path, c.stills.steps = str(dataset), "0"
    with pytest.raises(usage.WrongUse) as error:
        build.build(c.lock(), tmp_path / "run")
    assert "has 'verb' with 2 (single)" in str(error.value) and "push" not in str(error.value)
    assert "--size smoke --view epic\nand named by --config.dataset.path=data/tabletop-smoke-epic" in str(
        error.value
    )


def test_other_clips_are_another_run(dataset, tmp_path):
    run = build.build(config(dataset), tmp_path)
    resume.remember(run)
    files.write_json(tmp_path / "data.json", {"dataset": "fedcba987654"})
    with pytest.raises(ValueError, match="trained on other clips"):
        resume.remember(run)


def test_what_does_not_touch_results_may_change(dataset, tmp_path):
    run = build.build(config(dataset), tmp_path)
    resume.remember(run)
    free = {"loader.workers": 3, "log_every": 5, "save_every": "5%", "evaluation.aggregate": "probs"}
    resume.remember(run._replace(config=config(dataset, **free)))
    with pytest.raises(ValueError, match=r"batch_size=4 \(was 8\).*--workdir"):
        resume.remember(run._replace(config=config(dataset, batch_size=4)))


def test_how_views_are_put_together_decides_what_is_best(dataset, tmp_path):
    best = {"evaluation.checkpoint": "best"}
    run = build.build(config(dataset, **best), tmp_path)
    resume.remember(run)
    with pytest.raises(ValueError, match="aggregate"):
        resume.remember(run._replace(config=config(dataset, **best, **{"evaluation.aggregate": "max"})))


def test_the_command_that_makes_a_dataset_ends_with_us(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(
        "import pathlib, sys, time\n"
        "try:\n    pathlib.Path(sys.argv[1]).write_text('begun')\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path(sys.argv[1]).write_text('kept')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    note = tmp_path / "note"

    def when_begun():
        while not (note.exists() and note.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    with signals.listened() as stop, pytest.raises(signals.Interrupted), signals.at_once(stop):
        threading.Thread(target=when_begun, daemon=True).start()
        build._make(("slow", str(note)))
    assert note.read_text() == "kept"


def test_a_dataset_that_cannot_be_made_is_no_stack_trace(dataset, tmp_path, capfd):
    path = str(tmp_path / "none")
    command = ("data_prep.build", "--folder", "nowhere", "--out", path)
    with pytest.raises(ValueError, match="the reason stands above"):
        build.build(config(dataset, **{"dataset.path": path, "dataset.command": command}), tmp_path)
    assert "nowhere: there is no such folder" in capfd.readouterr().err
    # A path that the command does not make is the user's own.
    with pytest.raises(usage.WrongUse, match=r"data_prep\.build --folder"):
        build.build(config(dataset, **{"dataset.path": "mine", "dataset.command": command}), tmp_path)


def test_the_dataset_is_a_dataset(dataset):
    assert len(records.open_dataset(dataset).split("train")) == 40


# ---------------------------------------------------------------------------- subsets, further datasets
SUBSETS = {"held": {"share": 0.2}, "rest": {"without": "held"}}


def divided(dataset, subsets=SUBSETS, **changes):
    c = config(dataset, split="rest", **{"evaluation.splits": ("test", "held")} | changes).unlock()
    c.subsets = subsets
    return c.lock()


def test_a_subset_stands_where_a_split_may(dataset, tmp_path):
    """Trained on, scored, logged; its ids are kept and must stay."""
    run = build.build(divided(dataset), tmp_path)
    resume.remember(run)
    kept = json.loads((tmp_path / "subsets.json").read_text())["ids"]
    assert (len(kept["held"]), len(kept["rest"])) == (8, 32) and not {*kept["held"]} & {*kept["rest"]}
    source = run.datasets["dataset"].split("held")
    # Clips 0, 2, .. are of one class, the others of the other.
    assert sorted(int(label) for label in source.labels("verb")) == [0] * 4 + [1] * 4
    segment = run.segments[0]
    assert segment.main.split == "rest" and segment.steps_per_epoch == 32 / 8
    assert segment.evaluate == ("test", "held") and run.datasets["dataset"].info.expected["held"] == 8
    feed.check(run)
    again = build.build(divided(dataset), tmp_path)
    assert again.datasets["dataset"].split("held").rows.tolist() == source.rows.tolist()
    other = build.build(divided(dataset, {"held": {"share": 0.5}, "rest": {"without": "held"}}), tmp_path)
    with pytest.raises(ValueError, match=r"another configuration.*share"):
        resume.remember(other)


def test_a_subset_is_no_split(dataset, tmp_path):
    with pytest.raises(ValueError, match="a split of that name"):
        build.build(divided(dataset, {"val": {"share": 0.5}}), tmp_path)
    with pytest.raises(ValueError, match=r"split names 'rest', .* \(40 clips\).*config\.subsets"):
        build.build(divided(dataset, {"held": {"share": 0.5}}), tmp_path)


def test_further_datasets_are_opened_and_stay_the_same(dataset, tmp_path):
    more = tmp_path / "more"
    pack(more, [record(i) for i in range(5)])

    def wanted(**spec):
        c = config(dataset).unlock()
        c.datasets = {"more": {"path": str(more), "command": ()} | spec}
        return c.lock()

    run = build.build(wanted(), tmp_path / "run")
    assert len(run.datasets["more"].split("train")) == 5
    (tmp_path / "run").mkdir()
    resume.remember(run)
    # Another command to make it is no other run; other clips are.
    resume.remember(build.build(wanted(command=("data_prep.build",)), tmp_path / "run"))
    path = more / "metadata.json"
    path.write_text(path.read_text().replace("0" * 12, "1" * 12))
    with pytest.raises(ValueError, match="other clips: the fingerprint of more was 000000000000"):
        resume.remember(build.build(wanted(), tmp_path / "run"))
    with pytest.raises(ValueError, match=r"datasets\.more=.*dict\(path="):
        build.build(wanted(path=""), tmp_path)
    c = config(dataset).unlock()
    c.datasets = {"stills": {"path": str(more), "command": ()}}
    with pytest.raises(ValueError, match=r"config\.stills's"):
        build.build(c.lock(), tmp_path)


def labelled(root, fingerprint, count, names=("push", "pull")):
    """A dataset of ``count`` clips a split, whose label space is like that of `dataset`."""
    splits = ("train", "val", "test")
    pack(root, [record(i, split, id=f"{root.name} {split}{i}") for split in splits for i in range(count)])
    path = root / "metadata.json"
    info = json.loads(path.read_text())
    info["heads"] = {"verb": {"classes": len(names), "kind": "single", "names": list(names)}}
    path.write_text(json.dumps(info | {"name": root.name, "fingerprint": fingerprint}))
    return root


def test_a_subset_of_a_further_dataset_is_learnt_from_and_scored(dataset, tmp_path):
    more = labelled(tmp_path / "more", "e" * 12, 6)
    rules = {"few": {"dataset": "more", "per_class": 2}, "others": {"dataset": "more", "without": "few"}}

    def wanted(**changes):
        c = config(dataset, **{"evaluation.splits": ("few", "test")}, **changes).unlock()
        c.datasets, c.subsets = {"more": {"path": str(more), "command": ()}}, rules
        return c.lock()

    run = build.build(wanted(), tmp_path)
    few = run.datasets["more"].split("few")
    assert len(few) == 4 and run.datasets["dataset"].split("few") is few
    meta = score.meta(run, run.segments[-1], "few", 1, "D0U1", "centre")
    assert (meta["dataset"], meta["fingerprint"], meta["clips_expected"]) == ("more", "e" * 12, 4)
    assert score.meta(run, run.segments[-1], "test", 1, "D0U1", "centre")["fingerprint"] == "0" * 12
    feed.check(run)
    rehearsal.rehearse(run)
    resume.remember(run)
    kept = json.loads((tmp_path / "subsets.json").read_text())
    assert kept["ids"]["few"] == few.ids() and kept["fingerprints"] == {"more": "e" * 12}
    assert build.build(wanted(), tmp_path).datasets["more"].split("few").rows.tolist() == few.rows.tolist()
    group = Group("few", 2, {"train": Augment()}, dataset="more")
    clips = {name: data.info.splits for name, data in run.datasets.items()}
    context = segment_lib.Context(run.config, run.segments[0].heads, clips, {})
    assert epochs.steps(context, {"main": group}) == 2
    with pytest.raises(ValueError, match=r"the subset 'few' of 'dataset', but it is one of 'more': give .*'more'"):
        build.build(wanted(split="few"), tmp_path)
    # What the weights will tell: clips of the other dataset were never seen.
    told = seen.of(run, run.segments[0])
    met = {(entry["dataset"], entry["name"]): entry["met"] for entry in told["splits"].values()}
    assert met["dataset", "train"] and not met["more", "few"] and [t["clips"] for t in told["trained"]] == [40]
    # The weights of a segment before are ours: nobody vouches for what lies in their place.
    path, (*_, last) = tmp_path / "ce" / "weights.safetensors", run.segments
    path.parent.mkdir()
    for write in (lambda: None, lambda: path.write_text("cut"), lambda: save_file({"w": np.zeros(1)}, path)):
        write()
        told = seen.of(run, last)
        assert (told["published"], told["unproven"]) == ([], [str(path)])
    labelled(more, "e" * 12, 6, names=("pull", "push"))
    with pytest.raises(ValueError, match=r"split 'few' of segment 'ce' shows labelled clips of more, whose label"):
        build.build(wanted(), tmp_path / "again")


def test_the_ids_of_a_split_are_looked_at_once_a_run(dataset, tmp_path, monkeypatch):
    """However many segments note what they see."""
    wanted = config(dataset).unlock()
    wanted.subsets = {"few": {"per_class": 2}}
    run = build.build(wanted.lock(), tmp_path)
    asked, clips = [], seen.seen_lib.clips
    monkeypatch.setattr(seen.seen_lib, "clips", lambda ids: asked.append(len(ids)) or clips(ids))
    monkeypatch.setattr(train, "_prepared", lambda *_: run)
    monkeypatch.setattr(train, "_run_segment", resume.note_key)
    for segment in run.segments:
        (tmp_path / segment.name).mkdir()
    train._trained(run.config, tmp_path)
    assert len(run.segments) > 1 and len(asked) == len(run.datasets["dataset"].info.splits) == 4
    told = [json.loads((tmp_path / segment.name / "key.json").read_text())["seen"] for segment in run.segments]
    assert told[0] == seen.of(run, run.segments[0])
