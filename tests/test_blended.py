"""The plan 'gblend': whole runs of toy networks, what they begin with, and the weights that probes leave."""

import contextlib
import json
import re
import shutil
import signal
import sys

import blended as small
import jax
import numpy as np
import pytest
import runs
import warm
from test_train import assert_equal_runs, assert_runs_agree, briefly, environment, in_two_processes

from configs import common
from mmvid import checkpoint, commands, files, train
from mmvid.methods import gblend as method
from mmvid.plans import keys
from mmvid.prepare import prepare
from mmvid.report import blending, finish, ogr, weighing
from mmvid.run import begin, build, feed, resume, reuse
from mmvid.scores import blends, numbers
from mmvid.scores import file as file_lib
from mmvid.weights import files as weight_files
from mmvid.weights import seen

COPIES = {"flow": "flow", "rgb": "rgb", "joint": "naive"}


@pytest.fixture(scope="module")
def dataset(once):
    """Twenty-four clips to learn from, three to validate and three to test."""
    return once("toys", runs.prepare)


@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The workdir of a run that ended, online as well; for reading."""
    return runs.ended(small.configured(dataset, **small.CHANGES), tmp_path_factory)


@pytest.fixture(scope="module")
def marked(built, tmp_path_factory):
    """A file of the run's weights that says that it has seen the held clips."""
    tree, told = weight_files.read(built.workdir / "gblend" / "weights.safetensors")
    known = json.loads(told["seen"])
    known["splits"][seen.digest(built.datasets["dataset"].split("held").ids())]["met"] = True
    path = tmp_path_factory.mktemp("marked") / "weights.safetensors"
    weight_files.save(path, tree, told | {"seen": json.dumps(known)})
    return path


@pytest.fixture(scope="module")
def built(dataset, finished):
    """The same run, opened."""
    return build.build(small.configured(dataset, **small.CHANGES).lock(), finished)


def weights(workdir, segment):
    return weight_files.read(workdir / segment / "weights.safetensors")[0]


def same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def trained(run, workdir, names):
    """Trains some segments of a run in a workdir of its own."""
    run = run._replace(workdir=workdir)
    known = keys.of(run.segments)
    for segment in run.segments:
        if segment.name in names:
            train._run_segment(run, segment, known[segment.name])


def ended(run, workdir, name):
    """The state that a segment ended with, as its checkpoint has it."""
    segment = next(segment for segment in run.segments if segment.name == name)
    with checkpoint.opened(workdir / name / "checkpoints") as checkpoints:
        return checkpoint.restore(checkpoints, begin.initial_state(segment, run, enter=False))


def entered(run, name):
    """The state that a segment begins with."""
    segment = next(segment for segment in run.segments if segment.name == name)
    return begin.initial_state(segment, run, enter=True)


# ---------------------------------------------------------------------------- what a run leaves
def test_the_weights_are_those_of_the_losses_that_the_probe_left(finished):
    note = files.read_json(finished / "gblend" / "blend.json")
    assert note == files.read_json(finished / "probe" / "blend.json")["segments"]["gblend"]
    assert list(note["weights"]) == ["flow", "rgb", "joint"] and note["probe"] == ["probe_1", "probe"]
    assert note["steps"] == [0, 3, 6] and note["clips"] == {"held": 6, "fixed": 6}
    # By hand from the files: what the naive copy's loss was before and is now.
    found = {}
    for when, folder in (("before", "probe_1"), ("", "probe")):
        for split in ("held", "fixed"):
            scores = file_lib.load(finished / folder / "scores" / f"{split}{when and '-before'}.npz")
            found[split, when] = [numbers.cross_entropy(scores, output, "verb") for output in COPIES.values()]
    want = method.blend_weights(
        found["fixed", "before"], found["held", "before"], found["fixed", ""], found["held", ""]
    )
    np.testing.assert_allclose([*note["weights"].values()], want, rtol=1e-5)
    heads = note["heads"].values()
    assert all((own["ogr"] is None) == (own["gain"] <= 0) for own in heads)
    largest = max(own[split][0] for own in heads for split in ("train", "held"))
    assert blends.least(note) == pytest.approx(method.CLAMP * largest)
    # Unimodal classifiers begin at zero: of two classes, each has half.
    assert note["heads"]["flow"]["train"][0] == pytest.approx(np.log(2), rel=1e-6)
    sources = [
        files.read_json(finished / name / "blend.json")["source"] for name in ("equal", "naively", "gblend")
    ]
    assert sources == ["equal", "a table", "estimate"]
    online = files.read_json(finished / "online" / "blend.json")
    assert online["steps"] == [4, 6] and online["probe"] == ["probe_online"]


def test_nobody_has_learnt_from_the_held_clips(built):
    held = built.datasets["dataset"].split("held").ids()
    for segment in built.segments:
        assert not seen.saw(built.workdir / segment.name / "weights.safetensors", "held", held)


def test_tables_show_each_modality_naive_joint_training_and_the_weights(built, finished):
    columns = [finish._loaded(finished, column, "logits") for column in finish.shown(built.segments)]
    text = blending.text(finished, columns, "test", built.config, "logits")
    for title in ("Flow alone", "RGB alone", "Naive joint", "Equal weights", "G-Blend", "G-Blend, online"):
        assert f"\n{title} " in text
    assert "over its naive joint" in text and "(from step 4)" in text and "0.333 (equal)" in text
    lines = blending.lines(finished, columns, "test", built.config, "logits")
    first, last = blending.said(lines, "test")
    assert re.fullmatch(r"Naive joint: .*(RGB|Flow) alone, its best modality.* \(test\)", first)
    assert re.fullmatch(r"G-Blend, online: .* alone, its best modality.*; .* Naive joint.* \(test\)", last)
    # What weighs its losses is nothing that a network began with.
    assert not any(column.sources for column in columns if column.segment in ("equal", "gblend"))
    # A joint output is in no sum with what it is joint of.
    sums = [output for column in columns for output in column.numbers["test"].get("subsets", {}) if "+" in output]
    assert sums == ["flow + rgb"]
    page = (finished / "report.html").read_text()
    assert "The weights, and why" in page and not re.search(r"(naive|av|\.joint) \+ |\+ (naive|av)\b", page)
    assert "<b>Naive joint: " in page and "Alone: " not in page


def test_pages_show_how_copies_gain_what_encoders_are_worth_and_which_classes_gain(built, finished):
    columns = [finish._loaded(finished, column, "logits") for column in finish.shown(built.segments)]
    lines = blending.lines(finished, columns, "test", built.config, "logits")
    shown = weighing.panel(finished, columns, lines, "test", built.config, "logits")
    # Pieces are joined.
    assert [column.parts for column in columns] == [
        ("probe_1", "probe"), ("equal",), ("naively",), ("gblend",), ("online_1", "online")]  # fmt: skip
    assert [which for which, _ in shown["curves"]] == [
        "over the whole training",
        "in the super-epochs of G-Blend, online",
    ]
    for _, drawn in shown["curves"]:
        for name in ("Flow alone", "RGB alone", "Naive joint"):
            assert all(drawn.count(f">{name}: {curve}</text>") == 1 for curve in ("loss", "error"))
        assert ">G (loss)<" in drawn and ">O (loss)<" in drawn
    # A class at a time, over each modality alone.
    assert [">over Flow alone<" in svg or ">over RGB alone<" in svg for svg in shown["gains"]] == [True, True]
    head, *rows = shown["trunks"]["rows"]
    assert head[:3] == ["steps", "naive, top-1", "G-Blend, top-1"] and shown["trunks"]["retrained"] == 2
    scores = [
        file_lib.load(finished / f"trunk_{piece}" / "scores" / "test.npz") for piece in ("online_1", "online")
    ]
    want = [[f"{100 * numbers.hits(own, o, 'verb', 1).mean():.1f}" for o in ("naive", "av")] for own in scores]
    assert [row[:3] for row in rows] == [["0 to 4", *want[0]], ["4 to 6", *want[1]]]


def test_ogr_says_which_output_overfits(finished, tmp_path, capsys):
    """Of a copy of the run: on clips that nobody has learnt from, and not on others."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    commands.start("ogr", [str(run), "--segments=probe,gblend", "--split=held"])
    said = capsys.readouterr().out
    assert "av.joint" in said and "naive" in said and "held-out loss" in said
    # An output, then its losses on training clips and on others, G and O.
    found = re.findall(r"(\S+) +(\d+\.\d{3}) +(\d+\.\d{3}) +([+-]\d+\.\d{3}) +([+-]\d+\.\d{3})", said)
    own = {output: [float(number) for number in row] for output, *row in found}
    scores = file_lib.load(run / "probe" / "scores" / "held.npz")
    assert own["naive"][1] == pytest.approx(numbers.cross_entropy(scores, "naive", "verb"), abs=1e-3)
    assert own["naive"][2] == pytest.approx(np.log(2) - own["naive"][1], abs=2e-3)
    assert re.search(rf"naive .* {100 * numbers.hits(scores, 'naive', 'verb', 1).mean():.1f}\n", said)
    assert "<svg" in (run / "ogr.html").read_text()
    with pytest.raises(SystemExit) as ended:
        commands.start("ogr", [str(run), "--split=taught"])
    assert ended.value.code == 1 and "has learnt from 18 of the 18 clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    "losses, said",
    [({"a": (1.0, 1.1), "b": (0.1, 1.9)}, "b overfits by 1.80 for a gain of 0.10 (OGR 18.00), a least (OGR 0.11); "
      "a joint network does well to weigh them unequally, by G-Blend's rule a 1.00, b 0.00: train"),
     ({"a": (1.0, 1.1)}, "augmentation, dropout or fewer updates"),
     ({"a": (1.5, 1.52)}, "a overfits by 0.02 for a gain of 0.48: nothing here overfits much"),
     ({"a": (1.5, 1.4), "b": (1.0, 0.9)}, "does as well on new clips as on its own: nothing here"),
     ({"a": (0.1, 2.5, 0.1, 0.2), "b": (1.0, 1.2)}, "a (top-1 10.0) has learnt the old clips, and on new ones has "
      "a loss no better than chance's: regularise, take more clips or fewer updates; or leave a out"),
     ({"a": (0.1, 2.5, 0.5, 0.2), "b": (1.0, 1.2), "c": (0.1, 2.5), "d": (1.9, 2.5)}, "a (top-1 50.0) and c have "
      "learnt the old clips, and on new ones have a loss no better than chance's: regularise, take more clips or "
      "fewer updates; d has hardly learnt anything: train longer, or at another learning rate; or leave c and d "
      "out"),
     ({"a": (1.9, 2.5), "b": (2.1, 2.1)}, "a and b have hardly learnt anything: train longer, or at another")],
)  # fmt: skip
def test_advice(losses, said):
    own = [ogr.Overfitting(name, (name,), 2.0, *values) for name, values in losses.items()]
    # What is joint, or trained once more, is passed over.
    again = [ogr.Overfitting("joint", ("a", "b"), 2.0, 0.0, 1.9), own[0]._replace(output="again", held=1.99)]
    every = {"Alone": own[:1], "Others": [*own[1:], *again]}
    assert ogr.named(ogr.compared(every)).startswith("a (Alone)" + ("; b" if len(own) > 1 else ""))
    single = [one for found in ogr.compared(every).values() for one in found]
    assert single == own and ogr.compared({"A": again[:1]}) == {"A": again[:1]}
    assert said in ogr.advice(single, "train")
    # A run that has weighed its losses names its own weights.
    weighed = ogr.advice(single, "train", {"weights": {"a": 0.7, "b": 0.3}, "source": "by hand"})
    assert ("in this run they weigh a 0.70, b 0.30 (by hand)" in weighed) == ("rule" in said)
    assert "rule" not in weighed
    assert sum(ogr.weights(own).values()) == pytest.approx(1)


def test_before_is_the_weights_that_it_begins_with_in_evaluation_mode(built, finished):
    """A public re-implementation measures after the first epoch, in training mode: other losses."""
    segment = next(s for s in built.segments if s.name == "probe_1")
    state, made = begin.initial_state(segment, built, enter=True), segment.networks[-1]
    assert made.name == "naive"
    spec, held = built.config.evaluation, built.datasets["dataset"].split("held")
    batches = feed.eval_batches(built, segment, held, spec.protocol, spec.crops)
    batch = next(iter(batches))["main"]
    batches.close()
    seen = {
        name: prepare(segment.streams[name], x.reshape(-1, *x.shape[2:]))
        for name, x in batch["inputs"]["test"].items()
    }
    scores, key = file_lib.load(finished / "probe_1" / "scores" / "held-before.npz"), jax.random.key(0)
    want = scores.logits["naive"]["verb"][batch["id"]].reshape(-1, 2)
    found = {
        train: made.model.apply(state.params["naive"], state.stats["naive"], seen, train=train, key=key)[0]
        for train in (False, True)
    }
    np.testing.assert_allclose(found[False]["logits"]["verb"], want, atol=1e-6)
    # Its logits begin near 0: they differ by as much as they are.
    assert np.abs(found[True]["logits"]["verb"] - want).max() > 1e-3


# ---------------------------------------------------------------------------- what is trained from what
def test_copies_begin_as_the_parts_at_that_moment(built):
    by_name = {segment.name: segment for segment in built.segments}
    main, probe = (begin.initial_state(by_name[name], built, enter=True) for name in ("online_1", "probe_1"))
    window, moment = (
        begin.initial_state(by_name["probe_online"], built, enter=True),
        weights(built.workdir, "online_1"),
    )
    assert (int(probe.step), int(window.step)) == (0, 4) and by_name["probe_online"].lr.keys() == set(
        COPIES.values()
    )
    for state, params, stats in (
        (probe, main.params["av"], main.stats["av"]),
        (window, moment["av"]["params"], moment["av"]["stats"]),
    ):
        for stream in ("flow", "rgb"):
            same_bits(state.params[stream], params[stream])
            same_bits(state.stats[stream], stats[stream])
        same_bits(state.params["naive"]["joint"], params["joint"])
        same_bits(state.params["naive"]["flow"]["hidden"], params["flow"]["hidden"])
        # Momentum is fresh.
        assert not any(np.any(x) for x in jax.tree.leaves(state.opt_state))
    # Rates are those of the main run at the same step.
    rates = {
        name: np.array([float(s.lr[n](step)) for step in (4, 5)])
        for name, n in (("probe_online", "naive"), ("online", "av"))
        for s in [by_name[name]]
    }
    np.testing.assert_array_equal(rates["probe_online"], rates["online"])
    assert by_name["probe_online"].seed == by_name["online"].seed
    for name in ("probe_1", "probe_online"):
        assert {n.name: n.outputs for n in by_name[name].networks} == {c: (c,) for c in COPIES.values()}


def test_frozen_trunks_are_compared_by_classifiers_that_begin_alike(built, finished):
    """Of each super-epoch and of naive training from its snapshot: encoders stay, joint classifiers learn."""
    by_name = {segment.name: segment for segment in built.segments}
    for piece in ("online_1", "online"):
        trunk = by_name[f"trunk_{piece}"]
        begun, ended = begin.initial_state(trunk, built, enter=True), weights(finished, trunk.name)
        for network, source in (("naive", f"probe_{piece}"), ("av", piece)):
            moment = weights(finished, source)[network]
            for stream in ("flow", "rgb"):
                own = ended[network]["params"][stream]
                # A classifier of one stream is left behind.
                same_bits(own, {layer: moment["params"][stream][layer] for layer in own})
                same_bits(ended[network]["stats"][stream], moment["stats"][stream])
            differ = jax.tree.map(
                np.array_equal, ended[network]["params"]["joint"], begun.params[network]["joint"]
            )
            assert not any(jax.tree.leaves(differ))
        same_bits(begun.params["av"]["joint"], begun.params["naive"]["joint"])
        assert trunk.main.split == "taught" and trunk.steps == 2
        note = files.read_json(finished / trunk.name / "trunk.json")
        assert note["steps"] == [by_name[piece].first_step, by_name[piece].stop] and note["blended"] == "av"
    # The two were trained apart.
    assert not np.array_equal(*(ended[n]["params"]["rgb"]["hidden"]["kernel"] for n in ("naive", "av")))


def test_all_weight_on_the_joint_output_is_the_naive_network(finished):
    blended, naive = weights(finished, "naively")["av"], weights(finished, "probe")["naive"]
    for stream in ("flow", "rgb"):
        np.testing.assert_allclose(
            blended["params"][stream]["hidden"]["kernel"], naive["params"][stream]["hidden"]["kernel"], atol=1e-6
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        blended["params"]["joint"],
        naive["params"]["joint"],
    )


def test_probing_changes_no_bit_of_the_main_run(built, tmp_path):
    """Nothing of a probe but its weights is there."""
    for name in ("probe_online_1", "probe_online"):
        (tmp_path / name).mkdir()
        note = (built.workdir / name / "blend.json").read_text()
        (tmp_path / name / "blend.json").write_text(note)
    trained(built, tmp_path, ("online_1", "online"))
    for name in ("online_1", "online"):
        same_bits(weights(built.workdir, name), weights(tmp_path, name))


def test_super_epochs_of_held_weights_are_one_segment(dataset, built, finished, tmp_path):
    """Weights of a run are those that it estimated; and a network that is cut into super-epochs is whole."""
    config = small.configured(dataset, **small.CHANGES, **{"method.gblend.weights": str(finished)})
    run = build.build(config.lock(), tmp_path)
    assert not [s.name for s in run.segments if s.name.startswith("probe_online")]
    trained(run, tmp_path, ("online_1", "online"))
    same_bits(weights(tmp_path, "online"), weights(finished, "gblend"))
    cut, whole = ended(run, tmp_path, "online"), ended(built, finished, "gblend")
    same_bits((cut.opt_state, cut.method, cut.step), (whole.opt_state, whole.method, whole.step))
    ids = [row for name in ("online_1", "online") for row in files.read_lines(tmp_path / name / "ids-0.jsonl")]
    assert ids == files.read_lines(finished / "gblend" / "ids-0.jsonl") != []
    note = files.read_json(tmp_path / "online" / "blend.json")
    np.testing.assert_allclose(
        note["weights"]["joint"], files.read_json(finished / "gblend" / "blend.json")["weights"]["joint"]
    )
    assert note["source"] == str(finished)
    # A run that has ended opens without the run that its weights came from.
    gone = small.configured(dataset, **small.CHANGES, **{"method.gblend.weights": "runs/gone"})
    opened = build.build(build.without_beginning(gone.lock()), tmp_path)
    assert [s.name for s in opened.segments] == [s.name for s in run.segments]


def test_v_rejoins_for_all(dataset, tmp_path):
    """Then the copies are trained once more, with the held clips; weights come of those that lack them."""
    config = small.configured(dataset, split="train").lock()
    run = build.build(config, tmp_path)
    splits = {s.name: s.main.split for s in run.segments}
    assert splits == {
        "alone": "train",
        "probe_1": "taught",
        "probe": "taught",
        "equal": "train",
        "gblend": "train",
    }
    titles = [s.title for s in run.segments if s.title]
    assert titles == ["Each alone", "Equal weights", "G-Blend"]
    assert run.segments[-1].spec["starts"]["weights"] == {"segment": "probe"}


def test_what_the_weights_depend_on_is_in_the_key(dataset, built, tmp_path):
    before = keys.of(built.segments)
    # Of super-epochs all after the first probe: each begins with what was weighed before.
    weighed = {"gblend", "online_1", "trunk_online_1", "probe_online", "online", "trunk_online"}
    for change, differ in (
        ({"method.gblend.clamp_absolute": 0.5}, weighed),
        ({"subsets.fixed.share": 0.5}, weighed),
        ({"subsets.held.share": 0.3}, set(before)),
    ):
        run = build.build(small.configured(dataset, **small.CHANGES, **change).lock(), tmp_path)
        after = keys.of(run.segments)
        # A clamp leaves the probe as it is; all that begins with or follows from other weights is another one.
        assert {name for name in before if before[name] != after[name]} == differ


def test_arms_of_every_kind(dataset, finished, tmp_path):
    """Pre-trained encoders, early stopping, learnt weights, a network of one classifier; the probe is that of an
    earlier run, which had other arms."""
    changes = {"reuse": str(finished), "method.gblend.clamp_absolute": 0.5,
        "blend.arms.pretrained": dict(network="naive", pretrained=True, title="Pre-training"),
        "blend.arms.early": dict(network="naive", checkpoint="best", title="Early stopping"),
        "blend.arms.learnt": dict(network="av", weights="learnt"), "blend.arms.moving": dict(network="flow"),
        "blend.arms.unclamped": dict(network="av", clamp_absolute=0.0),
    }  # fmt: skip
    # A loss of several labels is that of everybody.
    other = build.build(
        small.configured(dataset, **changes, **{"method.gblend.multi": "softmax"}).lock(), tmp_path
    )
    assert all(dict(s.spec["program"]["method"][1])["multi"] == "softmax" for s in other.segments)
    run = build.build(small.configured(dataset, **changes).lock(), tmp_path)
    by_name = {segment.name: segment for segment in run.segments}
    starts = by_name["pretrained"].spec["starts"]
    assert {t: (s["segment"], s["network"]) for t, s in starts.items()} == {
        "naive.flow": ("probe", "flow"), "naive.rgb": ("probe", "rgb")}  # fmt: skip
    assert by_name["early"].checkpoint == "best" and by_name["gblend"].checkpoint == "last"
    assert by_name["learnt"].method.init()["weights"].tolist() == [1, 1, 1]
    known = keys.of(run.segments)
    reuse.take(run, known)
    taken = sorted(path.parent.name for path in tmp_path.glob("*/done.json"))
    assert taken == ["equal", "probe", "probe_1", "unclamped"]
    (tmp_path / "unclamped" / "blend.json").unlink()
    trained(run, tmp_path, ("probe_1", "probe", "learnt", "moving"))
    note = files.read_json(tmp_path / "learnt" / "blend.json")
    assert note["source"] == "learnt" and note["weights"]["joint"] != 1
    # By itself, a copy learns what it has learnt beside the others in the probe.
    same_bits(weights(tmp_path, "moving")["flow"], weights(finished, "probe")["flow"])
    # Weighed anew, of the same scores; with the earlier run's options as there.
    earlier, found = (files.read_json(finished / "gblend" / "blend.json"), {})
    for name in ("unclamped", "gblend"):
        (tmp_path / name).mkdir(exist_ok=True)
        state = entered(run, name)
        found[name] = files.read_json(tmp_path / name / "blend.json")
        np.testing.assert_array_equal(state.method["weights"], np.float32([*found[name]["weights"].values()]))
    assert found["unclamped"] == earlier != found["gblend"]
    assert [h["held"] for h in found["gblend"]["heads"].values()] == [h["held"] for h in earlier["heads"].values()]
    # A network that is a copy begins as the copy does: with the joint classifier of what it copies.
    copy, early, pretrained = (entered(run, name).params for name in ("probe_1", "early", "pretrained"))
    same_bits(early["naive"], copy["naive"])
    same_bits(pretrained["naive"]["joint"], copy["naive"]["joint"])
    for stream in ("flow", "rgb"):
        same_bits(pretrained["naive"][stream]["hidden"], weights(finished, "probe")[stream]["params"]["hidden"])


@pytest.mark.parametrize(
    "changes, match",
    [({"method.name": "mml"}, "set it to 'gblend'"), ({"headline": "naive"}, "c.headline = 'av.joint'"),
     ({"blend.held": "taught"}, "must hold no clip of blend.split='taught', and there are 18"),
     ({"blend.held": "holdout"}, "is no split or subset"),
     ({"blend.copies.av": {"flow": "flow", "rgb": "rgb"}}, "name a network for each of"),
     ({"blend.copies.av": {"flow": "flow", "rgb": "rgb", "joint": "av"}}, "a copy has one"),
     ({"blend.arms.equal": dict(network="bv")}, r"with network one of \['av'"),
     ({"blend.arms.equal": dict(network="naive", weights="equal")}, "nothing to weigh"),
     ({"blend.arms.probe": dict(network="naive")}, "choose another name"),
     ({"blend.super_epochs": ("0",)}, "1 step or more"), ({"blend.frozen_trunk": "2"}, "set blend.super_epochs"),
     ({"method.gblend.weights": "runs/none"}, "neither numbers nor a run with weights"),
     ({"networks.flow.weights": "RUN/probe/weights.safetensors#flow"}, "give networks.av.weights"),
     ({"networks.av.weights": "MARKED"}, "was trained on clips of blend.held='held'"),
     ({"subsets.taught": dict(of="train", without="held", share=0.5), "split": "train"}, "has 9 clips that are n"),
     ({"blend.held": "test"}, "3 clips of 'test', on which the run is scored"),
     ({"blend.super_epochs": ("4",), "split": "train"}, "the network has learnt from the clips"),
     ({"evaluation.checkpoint": "best"}, "let an arm be stopped early"),
     ({"blend.arms.equal": dict(network="av", pretrained=True)}, "weights='equal', or numbers"),
     ({"blend.arms.equal": dict(network="rgb", pretrained=True)}, "Name a fusion of these"),
     ({"networks.wide": common.fusion(options=dict(unimodal="none"), flow="toy", rgb="tsm_tiny"),
       "blend.arms.wide": dict(network="wide")}, "encoder 'rgb' of 'wide' and its copy 'rgb' differ")],
    ids=lambda given: re.sub(r"\W+", "-", given).strip("-") if isinstance(given, str) else "",
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_trains(dataset, finished, marked, tmp_path, changes, match):
    config = small.configured(dataset)
    for path, value in changes.items():
        if isinstance(value, str):
            value = value.replace("RUN", str(finished)).replace("MARKED", str(marked))
        *folders, last = path.split(".")
        node = config
        for folder in folders:
            node = node[folder]
        node[last] = value
    with pytest.raises(ValueError, match=match):
        run = build.build(config.lock(), tmp_path)
        resume.check_beginnings(run)


def test_weights_by_hand_are_for_networks_of_the_same_parts(dataset, tmp_path):
    config = small.configured(dataset, **{"method.gblend.weights": ".5,.3,.2"})
    config.blend.arms.plain = dict(network="naive")
    config.blend.arms.early = dict(network="naive", checkpoint="best")
    specs = {s.name: keys.plain(s.spec) for s in build.build(config.lock(), tmp_path / "run").segments}
    assert specs["gblend"]["weights"] == [0.5, 0.3, 0.2]
    assert not any("weights" in specs[name] for name in ("plain", "early"))


@pytest.mark.parametrize("during, refused", [("held", True), ("test", False)])
def test_clips_that_are_learnt_from_choose_no_checkpoint(dataset, tmp_path, during, refused):
    config = small.configured(dataset, split="train", **{"evaluation.during": during})
    config.blend.arms.early = dict(network="naive", checkpoint="best")
    refusal = pytest.raises(ValueError, match=r"--config\.evaluation\.during=val")
    with refusal if refused else contextlib.nullcontext():
        build.build(config.lock(), tmp_path / "run")


# ---------------------------------------------------------------------------- killed
@pytest.mark.slow
def test_killed_in_each_place_ends_with_the_same_bits(dataset, finished, tmp_path, monkeypatch):
    """In a probe, while it leaves its weights, while these are entered, in a super-epoch."""
    (tmp_path / "config.py").write_text(small.FILE)
    line = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/cut"]
    traps = (
        ("probe", "step", 5),
        ("probe", "weigh", 0),
        ("gblend", "weigh", 0),
        ("probe_online", "weigh", 0),
        ("online", "step", 5),
    )
    for trap in traps:
        done = warm.run(line, environment() | {"BLENDED": str(dataset)}, trap)
        assert done.returncode == -signal.SIGKILL, (trap, done.stderr[-2000:])
    monkeypatch.setattr(train.rehearsal, "rehearse", lambda run: None)
    monkeypatch.setattr(train.finish, "finish", lambda *given, **more: {})
    monkeypatch.setenv("BLENDED", str(dataset))
    train.train(small.get_config(), str(tmp_path / "cut"))
    names = [path.parent.name for path in sorted(finished.glob("*/done.json"))]
    for name in names:
        own, other = (w / name / "blend.json" for w in (finished, tmp_path / "cut"))
        assert files.read_json(own) == files.read_json(other)
    assert_equal_runs(finished, tmp_path / "cut", names)


@pytest.mark.slow
def test_two_processes_agree_with_one(dataset, tmp_path, monkeypatch):
    """Each reads the scores that all have made and the weights that the first has written."""
    (tmp_path / "config.py").write_text(small.FILE)
    monkeypatch.setenv("BLENDED", str(dataset))
    brief = [f"--config={tmp_path}/config.py", "--config.steps.method=2", "--config.save_every=0"]
    # Rounding in another order is a last bit, which large steps amplify.
    brief.append("--config.schedule.lr=0.01")
    done = warm.run([*brief, f"--workdir={tmp_path}/one"], environment(), brief=True)
    assert done.returncode == 0, done.stderr[-2000:]
    in_two_processes(briefly([sys.executable, "-m", "mmvid.main", *brief, f"--workdir={tmp_path}/two"]))
    assert_runs_agree(
        tmp_path / "one", tmp_path / "two", ("probe_1", "probe", "equal", "gblend", "probe_online", "online")
    )
    for name in ("gblend", "online"):
        one, two = (files.read_json(tmp_path / run / name / "blend.json") for run in ("one", "two"))
        for part, own in one["heads"].items():
            for what in ("train", "held"):
                np.testing.assert_allclose(two["heads"][part][what], own[what], atol=1e-4)
            assert two["weights"][part] == pytest.approx(one["weights"][part], abs=0.02)
