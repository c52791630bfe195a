"""Sound and boxes from Tabletop's files through record, loader, step and evaluator, with two toy networks."""

import json
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_records import pack

from configs import common
from data_prep.manifest import Item
from data_prep.tabletop import files as tabletop
from data_prep.tabletop import specs
from mmvid import train
from mmvid.data.media import record as record_lib
from mmvid.models import MODELS
from mmvid.models.layers import Classifier
from mmvid.run import begin, build, feed, score

VERBS = {"push": 0, "pull": 1}


class Toy(nn.Module):
    """One hidden layer on whatever comes: log-mel [B, 100, 40, 1], layouts [B, T, 14, 8]."""

    heads: dict
    stages: tuple
    dtype: object = None

    first_convolutions: ClassVar = (("hidden",),)
    classifiers: ClassVar = (("classifier",),)

    @nn.compact
    def __call__(self, x, *, train: bool):
        features = nn.relu(nn.Dense(8, name="hidden")(x.reshape(len(x), -1) / x.shape[1]))
        return {"logits": Classifier(self.heads, name="classifier")(features), "features": features}


def records(folder, split, count):
    """``count`` of Tabletop's clips as data_prep prepares them; the last one lacks sound and boxes."""
    for name in ("rgb", "audio", "boxes"):
        (folder / name).mkdir(exist_ok=True)
    for i, spec in enumerate(specs.clips("smoke", "train")[:count]):
        name = f"{split}{i}"
        tabletop._write_clip(spec, folder, name)
        further = dict(audio=folder / "audio" / f"{name}.wav", boxes=folder / "boxes" / f"{name}.npy")
        item = Item(name, folder / "rgb" / f"{name}.mp4", split, {}, paths=further if i < count - 1 else {})
        yield record_lib.prepare(item, record_lib.Settings(flow="none")) | {
            "split": split, "label": {"verb": np.int64(i % 2), "noun": np.uint8([i % 2, 1, 0])},
        }  # fmt: skip


@pytest.fixture(scope="module")
def dataset(once):
    def make(folder):
        made = [r for split, n in (("train", 4), ("val", 2), ("test", 3)) for r in records(folder, split, n)]
        pack(folder, made)
        path = folder / "metadata.json"
        info = json.loads(path.read_text())
        info["heads"] = {"verb": {"classes": 2, "kind": "single", "names": list(VERBS)}}
        path.write_text(json.dumps(info))

    return once("sound-and-boxes", make)


def config(dataset, **changes):
    c = common.get_config().unlock()
    c.dataset.path, c.plan, c.headline = str(dataset), "single", "audio"
    c.streams.audio = common.stream("audio", form="logmel")
    c.streams.boxes = common.stream("boxes", form="layout", frames=4)
    for name in c.streams:
        c.networks[name] = common.network("tsm_tiny", name)
    c.batch_size, c.schedule = 8, common.schedule(0.01, kind="constant")
    c.steps.ce, c.optimizer.groups = "3", "uniform"
    c.loader = ConfigDict(dict(workers=0, threads=1, prefetch=1))
    c.evaluation.batch_size = 8
    c.update_from_flattened_dict(changes)
    return c.lock()


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "toy", dict(module=Toy, stages=()))
        yield build.build(config(dataset), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def step(run):
    return jax.jit(train.make_step(run.segments[-1], run.config))


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
    for name in ("audio", "boxes"):
        np.testing.assert_array_equal(scores.present[name], [True, True, False])
        assert scores.logits[name]["verb"].shape == (3, 1, 2) and np.isfinite(scores.logits[name]["verb"]).all()


def test_what_is_absent_teaches_nothing(run, step):
    """The fourth clip lacks both: it counts in no mean."""
    segment = run.segments[-1]
    batches = feed.train_batches(run, segment, 0)
    batch = next(batches)
    batches.close()
    there = batch["main"]["present"]["audio"]
    assert there.sum() == 6 and not batch["main"]["inputs"]["train"]["audio"][~there].any()
    spoilt = jax.tree.map(np.array, batch)
    for x in spoilt["main"]["inputs"]["train"].values():
        x[~there] = 7
    state = begin.initial_state(segment, run, enter=True)
    one, other = (jax.device_get(step(state, b)[0].params) for b in (batch, spoilt))
    jax.tree.map(np.testing.assert_array_equal, one, other)


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
