"""Sound and boxes from Tabletop's files through record, loader, step and evaluator, with two toy networks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from ml_collections import ConfigDict
from test_records import pack

from configs import common
from data_prep.manifest import Item
from data_prep.tabletop import files as tabletop
from data_prep.tabletop import specs
from mmvid import network as network_lib
from mmvid.data.media import record as record_lib
from mmvid.models import MODELS
from mmvid.models.model import Model, Needs
from mmvid.network import Network, TrainState
from mmvid.run import begin, build, feed, loop, score

LACKING = {"test1": "boxes", "test2": "audio"}


def records(folder, split, count):
    """``count`` of Tabletop's clips as data_prep prepares them; the last one lacks sound and boxes,
    and LACKING one of them."""
    for name in ("rgb", "audio", "boxes"):
        (folder / name).mkdir(exist_ok=True)
    for i, spec in enumerate(specs.clips("smoke", "train")[:count]):
        name = f"{split}{i}"
        tabletop._write_clip(spec, folder, name)
        further = dict(audio=folder / "audio" / f"{name}.wav", boxes=folder / "boxes" / f"{name}.npy")
        further.pop(LACKING.get(name), None)
        item = Item(name, folder / "rgb" / f"{name}.mp4", split, {}, paths=further if i < count - 1 else {})
        yield record_lib.prepare(item, record_lib.Settings(flow="none")) | {
            "split": split,
            "label": {"verb": np.int64(i % 2), "noun": np.uint8([i % 2, 1, 0])},
        }


@pytest.fixture(scope="module")
def dataset(once):
    def make(folder):
        made = [r for split, n in (("train", 4), ("val", 2), ("test", 4)) for r in records(folder, split, n)]
        pack(folder, made, ["verb"])

    return once("sound-and-boxes", make)


def config(dataset, **changes):
    c = common.get_config().unlock()
    c.dataset.path, c.plan, c.headline = str(dataset), "single", "audio"
    c.streams.audio = common.stream("audio", form="logmel")
    c.streams.boxes = common.stream("boxes", form="layout", frames=4)
    for name in c.streams:
        c.networks[name] = common.network("toy", name)
    c.batch_size, c.schedule = 8, common.schedule(0.01, kind="constant")
    c.steps.ce, c.optimizer.groups = "3", "uniform"
    c.loader = ConfigDict(dict(workers=0, threads=1, prefetch=1))
    c.evaluation.batch_size = 8
    c.update_from_flattened_dict(changes)
    return c.lock()


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "toy", toy.MODEL)
        yield build.build(config(dataset), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("made, refused", [("data/test", True), ("data/other", False)])
def test_sound_and_boxes_of_an_older_edition_are_refused(dataset, tmp_path, monkeypatch, made, refused):
    """If the dataset is the one that the configuration's command makes; anybody else's has no editions."""
    monkeypatch.setitem(MODELS, "toy", toy.MODEL)
    c = config(dataset).unlock()
    c.dataset.command, c.dataset.since.boxes = ("data_prep.build", "--out", made, "--size", "smoke"), 3
    if not refused:
        assert build.build(c, tmp_path).segments
        return
    with pytest.raises(ValueError, match="'boxes' was something else") as error:
        build.build(c, tmp_path)
    assert str(error.value).endswith(f"python -m data_prep.build --out {dataset} --size smoke")


@pytest.fixture(scope="module")
def step(run):
    return jax.jit(loop.make_step(run.segments[-1], run.config))


def test_both_learn_and_are_scored(run, step):
    segment = run.segments[-1]
    state = begin.initial_state(segment, run, enter=True)
    batches = feed.train_batches(run, segment, 0)
    first = jax.device_get(state.params)
    for _ in range(3):
        state, metrics = step(state, next(batches))
    batches.close()
    for name in ("audio", "boxes"):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first[name], jax.device_get(state.params[name]))
        assert max(jax.tree.leaves(moved)) > 0 and np.isfinite(metrics[f"{name}/ce"])
    scores = score.evaluator(run, segment)(state, "test", 3)
    for name, there in (("audio", [1, 1, 0, 0]), ("boxes", [1, 0, 1, 0])):
        np.testing.assert_array_equal(scores.present[name], there)
        assert scores.logits[name]["verb"].shape == (4, 1, 2) and np.isfinite(scores.logits[name]["verb"]).all()


def first_batch(run):
    batches = feed.train_batches(run, run.segments[-1], 0)
    batch = next(batches)
    batches.close()
    return batch


def test_what_is_absent_teaches_nothing(run, step):
    """The fourth clip lacks both: it counts in no mean."""
    segment, batch = run.segments[-1], first_batch(run)
    there = batch["main"]["present"]["audio"]
    assert there.sum() == 6 and not batch["main"]["inputs"]["train"]["audio"][~there].any()
    spoilt = jax.tree.map(np.array, batch)
    for x in spoilt["main"]["inputs"]["train"].values():
        x[~there] = 7
    state = begin.initial_state(segment, run, enter=True)
    one, other = (jax.device_get(step(state, b)[0].params) for b in (batch, spoilt))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def mirrored(layouts, rows):
    """Boxes [B, T, 14, 8] of some rows seen in a mirror, where a left hand (side 1) is a right one (2)."""
    layouts, (x1, x2, side) = layouts.copy(), np.moveaxis(layouts, -1, 0)[[0, 2, 6]]
    there = rows[:, None, None] & (layouts[..., 4] > 0)
    layouts[..., 0], layouts[..., 2] = np.where(there, 1 - x2, x1), np.where(there, 1 - x1, x2)
    layouts[..., 6] = np.where(there & np.isin(side, (1, 2)), 3 - side, side)
    return layouts


def test_what_is_drawn_for_the_device_moves_boxes(dataset, run, step, tmp_path):
    """From the configuration through loader and step: mirrored boxes teach what they would if the loader had
    mirrored them; a draw of nothing changes no bit, and sound has no sides."""
    batch = first_batch(build.build(config(dataset, **{"augment.device": ("flip", "brightness")}), tmp_path))
    draws, plain = batch["main"].pop("draws")["train"]["main"], first_batch(run)
    jax.tree.map(np.testing.assert_array_equal, batch, plain)
    # Of clips that are there: a row that stands in for an absent one is mirrored by a draw of its own.
    there = np.resize(np.flatnonzero(plain["main"]["present"]["boxes"]), 8)
    plain = jax.tree.map(lambda x: x[there], plain)
    state, flips = begin.initial_state(run.segments[-1], run, enter=True), draws["flip"]
    assert 0 < flips.sum() < 8 and (draws["brightness"] != 1).all()

    def learnt(inputs, **drawn):
        group = {**plain["main"], "inputs": {"train": {**plain["main"]["inputs"]["train"], **inputs}}}
        group |= {"draws": {"train": {"main": drawn}}} if drawn else {}
        return jax.device_get(step(state, {"main": group})[0].params)

    boxes = plain["main"]["inputs"]["train"]["boxes"]
    as_it_is, on_the_device, by_hand = learnt({}), learnt({}, **draws), learnt({"boxes": mirrored(boxes, flips)})
    nothing = learnt({}, flip=np.zeros_like(flips), brightness=np.ones_like(draws["brightness"]))
    jax.tree.map(np.testing.assert_array_equal, (on_the_device, nothing), (by_hand, as_it_is))
    changed = jax.tree.map(lambda a, b: (a != b).any(), on_the_device, as_it_is)
    assert changed["boxes"]["hidden"]["kernel"] and not any(jax.tree.leaves(changed["audio"]))


def attentive():
    """One network of both streams, whose logits are the sum over those that are there."""

    def init(key, x):
        return {name: jax.random.normal(key, (x[name].shape[-1], 2)) for name in x}, {}

    def apply(params, stats, x, *, train, key, present):
        shown = {name: x[name].mean(tuple(range(1, x[name].ndim - 1))) @ params[name] for name in x}
        logits = sum(jnp.where(present[name][:, None], shown[name], 0) for name in sorted(x))
        return {"logits": {"verb": logits}, "features": logits}, stats

    return Network("both", Model(init, apply, {"": Needs(how="any")}), (("audio", "boxes"),))


def test_a_model_of_any_streams_is_scored_on_what_is_there(run, monkeypatch):
    """It knows the clips with one stream, and nothing that stands in place of the other reaches it."""
    segment = run.segments[-1]._replace(networks=(attentive(),), spec={})
    weights = network_lib.init_params(segment.networks, segment.streams, run.config.size, jax.random.key(0))
    state = TrainState(0, weights[0], {}, weights[1], {}, {}, {}, None)
    real, evaluate = feed.eval_batches, score.evaluator(run, segment)

    def scored(where):
        """The scores where the numbers of some streams are replaced: ``where(present)`` says of which clips."""

        def batches(*given):
            for batch in real(*given):
                for name, x in batch["main"]["inputs"]["test"].items():
                    x[where(batch["main"]["present"][name])] = 77
                yield batch

        monkeypatch.setattr(feed, "eval_batches", batches)
        return evaluate(state, "test", 0)

    whole, spoilt, other = (scored(where) for where in (np.zeros_like, np.logical_not, np.array))
    np.testing.assert_array_equal(whole.present["both"], [True, True, True, False])
    logits = whole.logits["both"]["verb"]
    np.testing.assert_array_equal(logits, spoilt.logits["both"]["verb"])
    assert (logits != other.logits["both"]["verb"]).any((1, 2)).tolist() == [True, True, True, False]
    assert not logits[3].any() and score.members(segment) == ["both"]


def test_sound_of_another_rate_is_found_before_anything_trains(dataset, tmp_path, run):
    for path in dataset.iterdir():
        (tmp_path / path.name).symlink_to(path)
    info = json.loads((dataset / "metadata.json").read_text())
    (tmp_path / "metadata.json").unlink()
    (tmp_path / "metadata.json").write_text(json.dumps(info | {"settings": {"audio_rate": 8000}}))
    with pytest.raises(ValueError, match=r"'audio'.*8000 Hz.*reads 16000.*built it again"):
        build.build(config(tmp_path), tmp_path / "run")


def test_sound_and_boxes_can_be_hidden(run, dataset):
    hidden = build.build(config(dataset, **{"missing.audio": 0.5, "missing.boxes": 0.5}), run.workdir)
    source = feed._clips(hidden, hidden.segments[-1], hidden.segments[-1].groups["main"])
    lacks = [(not source[i]["audio"], not len(source[i]["boxes"])) for i in range(3)]
    assert any(any(clip) for clip in lacks) and not any(all(clip) for clip in lacks)
