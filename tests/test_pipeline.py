"""The loader is a pure function of the step, whatever workers and processes there are."""

import collections

import jax
import numpy as np
import pytest
from fake import Source

from mmvid.data import pipeline
from mmvid.data.augment import Augment
from mmvid.streams import Head, Sampling, Stream

RGB = Stream("rgb", "rgb", Sampling("mixed", 4, 8))
FLOW = Stream("flow", "flow", Sampling("mixed", 4, 8), "stack5")
DIFF = Stream("diff", "diff", Sampling("mixed", 4, 8), "stack5")
HEADS = {"action": Head(5)}


def train(source=None, streams=(RGB, FLOW), **changes):
    options = dict(
        batch_sizes={"main": 4}, views={"main": ("train",)}, heads=HEADS, size=32,
        augment=Augment(), seed=5, start=0, stop=12,
    ) | changes  # fmt: skip
    return pipeline.train_dataset({"main": Source() if source is None else source}, streams, **options)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_shapes_and_types():
    batch = train(streams=(RGB, FLOW, DIFF))[0]["main"]
    shapes = {name: x.shape for name, x in batch["inputs"]["train"].items()}
    assert shapes == {"rgb": (4, 4, 32, 32, 3), "flow": (4, 4, 32, 32, 10), "diff": (4, 4, 32, 32, 18)}
    assert all(x.dtype == np.uint8 for x in batch["inputs"]["train"].values())
    assert batch["label"]["action"].dtype == np.int32 and batch["mask"].all()
    np.testing.assert_array_equal(batch["label"]["action"], batch["id"] % 5)


@pytest.mark.parametrize("threads, workers", [(1, 0), (3, 0), pytest.param(0, 2, marks=pytest.mark.slow)])
def test_workers_do_not_change_the_data(threads, workers):
    dataset = train()
    ahead = pipeline.iterate(dataset, workers=workers, threads=threads)
    for i in range(12):
        same(jax.tree.map(np.array, next(ahead)), dataset[i])
    ahead.close()


def test_processes_share_the_global_batch():
    whole = train()
    parts = [train(process_index=i, process_count=2) for i in range(2)]
    for step in range(3):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *(p[step] for p in parts))
        same(joined, whole[step])


def test_resuming_is_slicing():
    whole, rest = train(), train(start=5)
    assert len(rest) == 7
    same(whole[5], rest[0])


def test_every_epoch_sees_every_clip_once_in_another_order():
    rows = [pipeline.example_row(7, 5, p) for p in range(70)]
    epochs = [tuple(rows[i : i + 7]) for i in range(0, 70, 7)]
    assert all(sorted(e) == list(range(7)) for e in epochs) and len(set(epochs)) > 5
    seen = collections.Counter(np.concatenate([b["main"]["id"] for b in (train()[i] for i in range(7))]).tolist())
    assert set(seen.values()) == {4}


def test_frames_of_streams_agree():
    """Flow of frame t stands beside frame t: the same anchors, shifted by xi in {0, 1}."""
    batch = train(augment=Augment(scales=(1.0,)))[0]["main"]["inputs"]["train"]
    rgb, flow = (batch[n][..., 0].mean((2, 3)) for n in ("rgb", "flow"))
    shift = np.round(rgb - flow)
    assert set(np.unique(shift)) <= {0, 1} and (np.ptp(shift, axis=1) == 0).all()


def test_stack_channels_are_x1_y1_x2_y2():
    batch = train(augment=Augment(scales=(1.0,)))[0]["main"]["inputs"]["train"]["flow"]
    first = batch[:, 0].mean((1, 2))
    np.testing.assert_allclose(first[:, 0::2], first[:, 1::2])
    assert (np.diff(first[:, 0::2], axis=1) >= 0).all() and np.ptp(first) > 0


def test_a_missing_modality_is_zeros_and_marked():
    source = Source(absent=(2,))
    dataset = train(source)
    for i in range(4):
        batch = dataset[i]["main"]
        missing = batch["id"] == 2
        np.testing.assert_array_equal(batch["present"]["flow"], ~missing)
        assert batch["present"]["rgb"].all()
        assert not batch["inputs"]["train"]["flow"][missing].any()


def test_evaluation_covers_every_row_once():
    for count in (1, 2):
        seen = []
        for index in range(count):
            dataset = pipeline.eval_dataset(
                Source(), (RGB, FLOW), heads=HEADS, size=32, protocol="D1U2", crops="three", resize=36,
                batch_size=4, process_index=index, process_count=count,
            )  # fmt: skip
            assert len(dataset) == 2
            for i in range(2):
                batch = dataset[i]["main"]
                assert batch["inputs"]["test"]["flow"].shape[1:] == (9, 4, 32, 32, 10)
                seen += batch["id"][batch["mask"]].tolist()
        assert sorted(seen) == list(range(7))


def test_rgb_alone_is_evaluated_as_beside_flow():
    options = dict(heads=HEADS, size=32, batch_size=4)
    alone = pipeline.eval_dataset(Source(), (RGB,), **options)[0]["main"]["inputs"]["test"]["rgb"]
    beside = pipeline.eval_dataset(Source(), (FLOW, RGB), **options)[0]["main"]["inputs"]["test"]["rgb"]
    np.testing.assert_array_equal(alone, beside)


def test_bad_batches_are_explained():
    with pytest.raises(ValueError, match="3 processes"):
        train(process_count=3)
    with pytest.raises(ValueError, match="no clips"):
        train(Source(0))
