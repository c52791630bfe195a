"""The plan 'semi': whole runs of toy networks, who sees which clips, and what hidden labels may change."""

import re
import signal
import sys
import types

import jax
import labelled as small
import numpy as np
import pytest
import runs
import warm
from test_train import assert_equal_runs, assert_runs_agree, briefly, environment, in_two_processes

from configs import common
from mmvid import files, train
from mmvid.data import example
from mmvid.data import groups as groups_lib
from mmvid.plans import keys
from mmvid.run import build, checks, dry, feed, resume
from mmvid.weights import files as weight_files

ARMS = ("supervised", "fixmatch", "method")


@pytest.fixture(scope="module")
def dataset(once):
    """Twenty-four clips to learn from, three to validate and three to test."""
    return once("toys", runs.prepare)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


@pytest.fixture(scope="module")
def built(dataset, tmp_path_factory):
    return build.build(small.configured(dataset).lock(), tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended; for reading."""
    return runs.ended(small.configured(dataset), tmp_path_factory)


def by_name(run):
    return {segment.name: segment for segment in run.segments}


def trained(run, workdir, names):
    """Trains some segments of a run in a workdir of its own."""
    run, known = run._replace(workdir=workdir), keys.of(run.segments)
    for segment in run.segments:
        if segment.name in names:
            train._run_segment(run, segment, known[segment.name])


def assert_same_weights(one, other, segment):
    found = [weight_files.read(w / segment / "weights.safetensors")[0] for w in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *found)


# ---------------------------------------------------------------------------- the segments
def test_arms_have_their_groups_steps_and_methods(built):
    own = by_name(built)
    assert tuple(own) == ARMS and [s.title for s in own.values()] == ["Supervised", "FixMatch", "CMPL"]
    assert {s.steps for s in own.values()} == {4} and len({s.seed for s in own.values()}) == 1
    # An epoch is one of the 20 unlabelled clips, for all.
    assert {s.steps_per_epoch for s in own.values()} == {5.0}
    groups = {n: {g: (x.split, x.batch_size) for g, x in s.groups.items()} for n, s in own.items()}
    assert groups.pop("supervised") == {"main": ("labelled", 2)}
    both = {"labelled": ("labelled", 2), "unlabelled": ("unlabelled", 4)}
    assert groups == {"fixmatch": both, "method": both}
    assert [n.name for n in own["method"].networks] == ["rgb", "flow"]  # the headline's before the others
    assert all("followed" in s.also and "followed" not in s.evaluate for s in own.values())
    assert own["method"].dataset == "dataset" and own["method"].groups["unlabelled"].audit
    assert len(set(keys.of(built.segments).values())) == 3


def test_arms_see_the_same_labelled_clips(built):
    """From the labels alone, too: what is compared differs in what is learnt from the others."""
    own, rows = by_name(built), {}
    for name, group in (("supervised", "main"), ("fixmatch", "labelled")):
        stream = feed.train_batches(built, own[name], 0)
        batches = [next(stream)[group] for _ in range(2)]
        stream.close()
        rows[name] = [np.concatenate([b["id"] for b in batches]),
                      np.concatenate([b["inputs"]["train"]["rgb"] for b in batches])]  # fmt: skip
    for one, other in zip(*rows.values()):
        np.testing.assert_array_equal(one, other)


def test_an_option_of_an_arm_and_its_labelled_clips_are_its_own(dataset, tmp_path):
    config = small.configured(dataset)
    config.subsets.few = dict(of="labelled", per_class=1)
    config.semi.arms.shared = dict(networks="both", method="cmpl", labelled="few", scheme="average")
    config.networks.both = common.network("toy", "rgb", "rgb2")
    config.streams.rgb2 = common.stream("rgb", frames=2)
    config.semi.networks = ("rgb", "flow")
    own = by_name(build.build(config.lock(), tmp_path))
    assert tuple(own) == ("supervised", "fixmatch", "shared", "method")
    assert own["shared"].groups["labelled"].split == "few" and own["shared"].title == "shared"
    assert own["shared"].spec["program"]["method"][1]["scheme"] == "average"
    assert own["method"].spec["program"]["method"][1]["scheme"] == "cross"
    # FixMatch of two frame rates: two outputs of one network label each other's clips.
    assert own["shared"].networks[0].outputs == ("both.rgb", "both.rgb2")
    # Which labels are known is in the key.
    few = keys.plain(own["shared"].spec["data"]["subsets"])
    assert few["few"]["of"] == "labelled" and few["unlabelled"]["without"] == "labelled"


def test_who_is_the_primary_network_is_in_the_key(dataset, tmp_path):
    """Of an auxiliary network that learns from less, the order decides which of two it is."""
    config = small.configured(dataset)
    for name, pair in (("ab", ("rgb", "flow")), ("ba", ("flow", "rgb"))):
        config.semi.arms[name] = dict(networks=pair, method="cmpl", auxiliary="supervised")
    own = keys.of(build.build(config.lock(), tmp_path).segments)
    assert own["ab"] != own["ba"]


def test_views_of_unlabelled_clips_are_mirrored_together_with_their_labels(dataset, tmp_path):
    config = small.configured(dataset)
    config.augment.flip_labels, config.semi.weak.flip, config.semi.strong.flip = ((0, 1),), True, True
    (own,) = (s for s in build.build(config.lock(), tmp_path).segments if s.name == "method")
    group = own.groups["unlabelled"]
    assert groups_lib.flips_together(group) and groups_lib.flip_pairs(group) == ((0, 1),)


def test_what_changes_weights_changes_the_keys(dataset, built, tmp_path):
    before = keys.of(built.segments)
    for change, differ in (
        ({"semi.strong.device": ()}, {"fixmatch", "method"}),
        ({"semi.unlabelled_batch": 8}, set(ARMS)),  # an epoch is another one
        ({"subsets.labelled.seed": 3}, set(ARMS)),
        ({"method.fixmatch.strength": 1.0}, {"fixmatch"}),
        ({"method.cmpl.auxiliary": "supervised"}, {"method"}),
        ({"semi.followed": ""}, set()),
    ):
        after = keys.of(build.build(small.configured(dataset, **change).lock(), tmp_path).segments)
        assert {name for name in before if before[name] != after[name]} == differ, change


# ---------------------------------------------------------------------------- runs
def test_a_run_leaves_what_it_is_asked_about(finished):
    for name in ARMS:
        assert {path.stem for path in (finished / name / "scores").glob("*.npz")} >= {"test", "followed", "val"}
    lines = files.read_lines(finished / "method" / "metrics.jsonl")
    shares = {key.removeprefix("train/"): [line[key] for line in lines if key in line] for key in lines[-1]}
    for output in ("rgb", "flow"):
        assert set(shares) >= {f"{output}/{term}" for term in ("ce", "pseudo", "confident", "right", "beside")}
        assert max(shares[f"{output}/confident"]) > 0
        assert all(r <= c for r, c in zip(shares[f"{output}/right"], shares[f"{output}/confident"]))
    assert not any(key.endswith("beside") for key in files.read_lines(finished / "fixmatch" / "metrics.jsonl")[-1])
    page = (finished / "report.html").read_text()
    assert all(title in page for title in ("Supervised", "FixMatch", "CMPL"))


def test_hidden_labels_change_curves_and_not_one_bit_of_a_weight(dataset, finished, tmp_path, monkeypatch):
    """The unlabelled clips' labels are exchanged; so are those of clips in a network's way to its weights."""
    labels = example._labels

    def exchanged(record, heads, **how):
        found = labels(record, heads, **how)
        hidden = not any(record["id"] == clip for clip in known)
        return {head: np.int32(1 - label) if hidden else label for head, label in found.items()}

    run = build.build(small.configured(dataset).lock(), tmp_path)
    known = run.datasets["dataset"].split("labelled").ids()
    monkeypatch.setattr(example, "_labels", exchanged)
    trained(run, tmp_path, ("fixmatch", "method"))
    for name in ("fixmatch", "method"):
        assert_same_weights(finished, tmp_path, name)
        found = [files.read_lines(w / name / "metrics.jsonl") for w in (finished, tmp_path)]
        differ = {key for one, other in zip(*found) for key in one if one[key] != other[key]}
        differ = {key for key in differ if key.startswith("train/")}
        assert differ and {key.rpartition("/")[2] for key in differ} <= {"right", "beside"}


def test_without_hidden_labels_there_is_less_to_see_and_the_same_weights(dataset, finished, built, tmp_path):
    own = by_name(built)["method"]
    bare = own._replace(groups={name: group._replace(audit=False) for name, group in own.groups.items()})
    trained(built._replace(segments=[bare]), tmp_path, ("method",))
    assert_same_weights(finished, tmp_path, "method")
    seen = files.read_lines(tmp_path / "method" / "metrics.jsonl")[-1]
    assert "train/rgb/confident" in seen and "train/rgb/right" not in seen


def test_a_made_up_batch_is_like_the_loaders(built):
    own = by_name(built)["method"]
    stream = feed.train_batches(built, own, 0)
    batch = next(stream)
    stream.close()
    shapes = lambda tree: jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype), tree)  # noqa: E731
    assert shapes(dry.batch(own, 16)) == shapes(batch)


def test_unlabelled_clips_of_another_dataset(tmp_path):
    """Their labels are followed, being of the same label space; their names may be those of test clips."""
    for name, clips in (("main", 24), ("more", 30)):
        runs.prepare(tmp_path / name, clips)
    told = tmp_path / "more" / "metadata.json"
    told.write_text(told.read_text().replace("0" * 12, "1" * 12))
    changes = {"semi.dataset": "more", "semi.unlabelled": "train", "semi.followed": "test"}
    config = small.configured(tmp_path / "main", **changes)
    config.datasets.more = dict(path=str(tmp_path / "more"), command=())
    run = build.build(config.lock(), tmp_path / "run")
    own = by_name(run)["method"]
    assert own.dataset == "dataset" and own.steps_per_epoch == 30 / 4
    group = own.groups["unlabelled"]
    assert (group.dataset, group.split, group.audit) == ("more", "train", True)
    resume.check_beginnings(run)
    stream = feed.train_batches(run, own, 0)
    assert set(next(stream)["unlabelled"]) >= {"audit"}
    stream.close()


@pytest.mark.slow
def test_a_moving_average_may_make_the_labels(dataset, tmp_path):
    changes = {"ema": 0.9, "method.cmpl.teacher": "ema", "steps.method": "2"}
    run = build.build(small.configured(dataset, **changes).lock(), tmp_path)
    trained(run, tmp_path, ("method",))
    seen = files.read_lines(tmp_path / "method" / "metrics.jsonl")[-1]
    assert np.isfinite(seen["train/rgb/pseudo"]) and "train/flow/right" in seen


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"method.name": "mml"}, "'mml' learns nothing from unlabelled clips: plan 'semi' takes 'fixmatch' or"),
        ({"method.name": "single"}, "'single' learns nothing"),
        ({"semi.networks": ("rgb",)}, "cmpl takes two outputs.*there are 1: rgb"),
        ({"semi.networks": ("rgb", "sound")}, r"with networks of \['flow', 'rgb'\]"),
        ({"semi.labelled": "some"}, "semi.labelled='some' is no split or subset"),
        ({"semi.unlabelled": "rest"}, "semi.unlabelled='rest' is no split or subset"),
        ({"semi.followed": "rest"}, "semi.followed='rest'"),
        ({"semi.dataset": "more"}, r"semi.dataset='more' is unknown; there are \['dataset'\]"),
        ({"method.cmpl.teacher": "ema"}, "set --config.ema"),
        ({"semi.unlabelled_batch": 3, "accumulate": 2}, "accumulate=2 does not divide the batch of 3"),
        ({"semi.labelled_batch": 0}, "semi.labelled_batch=0: it must be 1 or more"),
        ({"semi.thinned": (2, 1)}, r"semi.thinned=\(2, 1\): numbers k of 'every k-th frame', 2 or more"),
        ({"semi.arms.supervised": dict(networks=("sound",), method="single")}, "arms.supervised=.*networks of"),
        ({"semi.arms.supervised": dict(networks=("rgb",), method="mml")}, "a method of"),
        ({"semi.arms.supervised": dict(networks=("rgb",), method="single", scheme="cross")}, "this one has none"),
        ({"semi.arms.fixmatch": dict(networks=("rgb",), method="fixmatch", labelled="al")}, "labelled='al'"),
        ({"semi.arms.fixmatch": dict(networks=("rgb",), method="cmpl")}, "there are 1: rgb"),
        ({"semi.arms.method": dict(networks=("rgb",), method="single")}, "the run's own segment"),
        ({"semi.unlabelled": "test", "semi.followed": ""}, "the unlabelled clips 'test' have 3 of 'test', on"),
        ({"semi.labelled": "test"}, "the labelled clips 'test' have 3 of 'test', on which"),
        ({"augment.flip_labels": ((0, 1),), "semi.weak.flip": True}, "mirrored together"),
        ({"augment.flip_labels": ((0, 1),), "semi.strong.device": ("flip",)}, "cannot exchange labels"),
    ],
    ids=lambda given: re.sub(r"\W+", "-", given).strip("-") if isinstance(given, str) else "",
)
def test_what_cannot_be_is_said_before_anything_trains(dataset, tmp_path, changes, match):
    config = small.configured(dataset)
    for path, value in changes.items():
        *folders, last = path.split(".")
        node = config
        for folder in folders:
            node = node[folder]
        node[last] = value
    with pytest.raises(ValueError, match=match):
        resume.check_beginnings(build.build(config.lock(), tmp_path))


def test_batches_that_devices_cannot_share_are_named_by_their_settings(built):
    mesh = types.SimpleNamespace(devices=np.zeros(4))
    for name, match in (("supervised", r"semi\.labelled_batch .*group 'main'"), ("method", "group 'labelled'")):
        with pytest.raises(ValueError, match=match):
            checks.check_batches(built.config, mesh, [by_name(built)[name]])


def test_a_dry_run_that_does_not_fit_names_the_settings_of_its_batches(built):
    known = {name: dry.Tried(9, 1, (), 0, 0) for name in by_name(built)}
    both = "Take a smaller --config.semi.labelled_batch or --config.semi.unlabelled_batch, a larger"
    assert both in dry._too_large(built, known)
    fits = known["method"]._replace(seconds=(1.0,))
    said = dry._too_large(built, known | {"fixmatch": fits, "method": fits})
    assert "Take a smaller --config.semi.labelled_batch, a larger" in said


# ---------------------------------------------------------------------------- killed
@pytest.mark.slow
def test_killed_in_each_place_ends_with_the_same_bits(dataset, finished, tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(small.FILE)
    line = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/cut"]
    traps = (("supervised", "step", 3), ("fixmatch", "save", 2), ("method", "step", 1), ("method", "step", 3))
    for trap in traps:
        done = warm.run(line, environment() | {"LABELLED": str(dataset)}, trap)
        assert done.returncode == -signal.SIGKILL, (trap, done.stderr[-2000:])
    monkeypatch.setattr(train.rehearsal, "rehearse", lambda run: None)
    monkeypatch.setattr(train.finish, "finish", lambda *given, **more: {})
    monkeypatch.setenv("LABELLED", str(dataset))
    train.train(small.get_config(), str(tmp_path / "cut"))
    assert_equal_runs(finished, tmp_path / "cut", ARMS)


# ---------------------------------------------------------------------------- shared
def shares_in(line):
    """What a logged line says of pseudo-labels."""
    return {name: value for name, value in line.items() if name.endswith(("/confident", "/right", "/beside"))}


@pytest.mark.slow
def test_two_processes_agree_with_one(dataset, tmp_path, monkeypatch):
    """Each has its share of the labelled and of the unlabelled clips; denominators and statistics are of all."""
    (tmp_path / "config.py").write_text(small.FILE)
    monkeypatch.setenv("LABELLED", str(dataset))
    brief = [f"--config={tmp_path}/config.py", "--config.steps.method=2", "--config.save_every=0"]
    brief += ["--config.semi.labelled_batch=4", "--config.semi.unlabelled_batch=8"]
    # Rounding in another order is a last bit, which large steps amplify.
    brief.append("--config.schedule.lr=0.01")
    done = warm.run([*brief, f"--workdir={tmp_path}/one"], environment(), brief=True)
    assert done.returncode == 0, done.stderr[-2000:]
    in_two_processes(briefly([sys.executable, "-m", "mmvid.main", *brief, f"--workdir={tmp_path}/two"]))
    assert_runs_agree(tmp_path / "one", tmp_path / "two", ARMS)
    for name in ("fixmatch", "method"):
        one, two = ([shares_in(line) for line in files.read_lines(tmp_path / run / name / "metrics.jsonl")]
                    for run in ("one", "two"))  # fmt: skip
        assert one == two and any(one)
