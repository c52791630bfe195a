"""The loader is a pure function of the step, whatever workers and processes there are."""

import collections
import contextlib
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time

import fake
import jax
import numpy as np
import pytest
from fake import Source

from mmvid.data import augment, example, fields, frames, pipeline, sampling, stored
from mmvid.data import workers as workers_lib
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.data.media import files
from mmvid.data.workers import Loader
from mmvid.run import signals
from mmvid.streams import Head, Sampling, Stream, Views

RGB = Stream("rgb", "rgb", Sampling("mixed", 4, 8))
FLOW = Stream("flow", "flow", Sampling("mixed", 4, 8), "stack5")
DIFF = Stream("diff", "diff", Sampling("mixed", 4, 8), "stack5")
HEADS = {"action": Head(5)}


def train(source=None, streams=(RGB, FLOW), **changes):
    """The loader of one group, 'main', whose ``views`` are all cut by one ``augment``."""
    options = (
        dict(batch_size=4, views=("train",), augment=Augment(), heads=HEADS, size=32, seed=5, start=0, stop=12)
        | changes
    )
    views = dict.fromkeys(options.pop("views"), options.pop("augment"))
    groups = {"main": Group("train", options.pop("batch_size"), views)}
    return fake.trained({"main": Source() if source is None else source}, groups, streams, **options)


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
    ahead = workers_lib.iterate(dataset, Loader(workers, threads))
    for i in range(12):
        same(jax.tree.map(np.array, next(ahead)), dataset[i])
    ahead.close()


def test_processes_share_the_global_batch():
    whole = train()
    parts = [train(process=(i, 2)) for i in range(2)]
    for step in range(3):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *(p[step] for p in parts))
        same(joined, whole[step])


def test_resuming_is_slicing():
    whole, rest = train(), train(start=5)
    assert len(rest) == 7
    same(whole[5], rest[0])


def test_every_epoch_sees_every_clip_once_in_another_order():
    rows = [example.example_row(7, 5, p) for p in range(70)]
    epochs = [tuple(rows[i : i + 7]) for i in range(0, 70, 7)]
    assert all(sorted(e) == list(range(7)) for e in epochs) and len(set(epochs)) > 5
    ids = np.concatenate([train()[i]["main"]["id"] for i in range(7)])
    assert set(collections.Counter(ids.tolist()).values()) == {4}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_an_epoch_of_many_clips_is_shuffled_place_by_place(count, monkeypatch):
    """As what is written down: each clip once an epoch, another order for every epoch, seed and group."""
    monkeypatch.setattr(example, "LARGE", 1)
    monkeypatch.setattr(example, "_order", lambda *_: pytest.fail("an order was written down"))
    orders = [
        [example.example_row(count, seed, epoch * count + place, salt) for place in range(count)]
        for seed in (0, 5) for epoch in (0, 1, 30) for salt in (0, 1)
    ]  # fmt: skip
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 64 or len(set(map(tuple, orders))) == len(orders)


def test_orders_of_fewer_clips_stay_what_they_were():
    rows = [example.example_row(9, 3, place, 1) for place in range(9, 18)]
    assert rows == np.random.default_rng([3, 1, 2]).permutation(9).tolist()


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
            dataset = fake.tested(
                Source(), (RGB, FLOW), heads=HEADS, size=32, protocol="D1U2", crops="three", resize=36,
                batch_size=4, process=(index, count),
            )  # fmt: skip
            assert len(dataset) == 2
            for i in range(2):
                batch = dataset[i]["main"]
                assert batch["inputs"]["test"]["flow"].shape[1:] == (9, 4, 32, 32, 10)
                seen += batch["id"][batch["mask"]].tolist()
        assert sorted(seen) == list(range(7))


def test_rgb_alone_is_evaluated_as_beside_flow():
    options = dict(heads=HEADS, size=32, batch_size=4)
    alone = fake.tested(Source(), (RGB,), **options)[0]["main"]["inputs"]["test"]["rgb"]
    beside = fake.tested(Source(), (FLOW, RGB), **options)[0]["main"]["inputs"]["test"]["rgb"]
    np.testing.assert_array_equal(alone, beside)


def test_bad_batches_are_explained():
    with pytest.raises(ValueError, match="3 processes"):
        train(process=(0, 3))
    with pytest.raises(ValueError, match="no clips"):
        train(Source(0))
    with pytest.raises(ValueError, match="no clips"):
        fake.tested(Source(0), (RGB,), heads=HEADS, size=32)
    with pytest.raises(ValueError, match="negative"):
        workers_lib.iterate(train(), Loader(workers=-1))


class Pictures(Source):
    """Clips of random pictures, so that windows and flips can be told from the pixels."""

    def __getitem__(self, row):
        record = super().__getitem__(row)
        rng = np.random.default_rng(row)
        count, shape = record["num_frames"], (self.size, self.size + 8)
        self.frames_of = rng.integers(0, 256, (count, *shape, 3), dtype=np.uint8)
        record["rgb"] = [frames.encode_png(f[..., ::-1]) for f in self.frames_of]
        planes = rng.integers(0, 256, (2, count - 1, *shape), dtype=np.uint8)
        record["flow_x"], record["flow_y"] = ([frames.encode_png(p) for p in plane] for plane in planes)
        return record


def test_batches_are_cut_from_one_endless_stream():
    """The position decides, not the batch: sizes 2 and 4 give the same examples."""
    large, small = train()[3], [train(batch_size=2)[i] for i in (6, 7)]
    same(jax.tree.map(lambda *x: np.concatenate(x), *small), large)


def test_seeds_and_views_differ_and_groups_have_their_own_order():
    def inputs(dataset, group="main", view="train"):
        return dataset[0][group]["inputs"][view]["rgb"]

    options = dict(source=Pictures(20), views=("strong", "weak"))
    dataset = train(**options)
    assert not np.array_equal(inputs(dataset, view="weak"), inputs(dataset, view="strong"))
    assert not np.array_equal(inputs(dataset, view="weak"), inputs(train(**options, seed=6), view="weak"))
    sizes = {"labelled": 2, "unlabelled": 6}
    groups = {name: Group("train", size, {"weak": Augment()}) for name, size in sizes.items()}
    both = fake.trained(
        dict.fromkeys(groups, Pictures(20)), groups, (RGB,), heads=HEADS, size=32, seed=5, start=0, stop=10
    )
    rows = {g: np.concatenate([both[i][g]["id"] for i in range(10)]) for g in groups}
    assert rows["labelled"].shape == (20,) and rows["unlabelled"].shape == (60,)
    for chosen in (rows["labelled"], *rows["unlabelled"].reshape(3, 20)):
        np.testing.assert_array_equal(np.sort(chosen), np.arange(20))
    assert (rows["labelled"] != rows["unlabelled"][:20]).any()


def test_a_geometry_group_shares_its_window():
    here = [Stream(n, "rgb", Sampling("uniform", 4), geometry="a") for n in ("one", "two")]
    other = Stream("three", "rgb", Sampling("uniform", 4), geometry="b")
    dataset = train(Pictures(), (*here, other))
    equal = []
    for i in range(4):
        clips = dataset[i]["main"]["inputs"]["train"]
        np.testing.assert_array_equal(clips["one"], clips["two"])
        equal += [np.array_equal(a, b) for a, b in zip(clips["one"], clips["three"], strict=True)]
    assert sum(equal) <= 4


def test_frames_are_those_of_the_clip():
    """RGB and flow against the arrays that were encoded, cut by the drawn window."""
    source = Pictures(frames=20)
    batch = fake.tested(source, (RGB, FLOW, DIFF), heads=HEADS, size=32, resize=40, batch_size=3)
    got = batch[0]["main"]["inputs"]["test"]
    window = augment.test_windows(40, 48, 32, Views(resize=40))[0][0]
    for row in range(3):
        record = source[row]
        n = record["num_frames"]
        cut = augment.apply(source.frames_of, window, 32, negate_x=False)
        np.testing.assert_array_equal(got["rgb"][row, 0], cut[sampling.test_indices(n, RGB, Views())[0]])
        planes = fields.decode_frames(record, "flow", range(n - 1))
        cut_flow = augment.apply(planes, window, 32, negate_x=False)
        for stream, pictures, m in ((FLOW, cut_flow, n - 1), (DIFF, cut, n)):
            for t, anchor in enumerate(sampling.test_indices(m, stream, Views())[0]):
                stack = 5 if stream is FLOW else 6
                read = [pictures[min(anchor + s, m - 1)] for s in range(stack)]
                np.testing.assert_array_equal(got[stream.name][row, 0, t], np.concatenate(read, -1))


def test_views_are_clips_times_crops():
    def views(protocol, crops, **options):
        dataset = fake.tested(
            Pictures(frames=20), (RGB, FLOW), heads=HEADS, size=32, resize=36, batch_size=2,
            protocol=protocol, crops=crops, **options,
        )  # fmt: skip
        return dataset[0]["main"]["inputs"]["test"]

    whole, clips, crops = views("D1U2", "three"), views("D1U2", "centre"), views("D1U0", "three")
    assert whole["flow"].shape == (2, 9, 4, 32, 32, 10)
    for name in ("rgb", "flow"):
        np.testing.assert_array_equal(whole[name][:, 1::3], clips[name])
        np.testing.assert_array_equal(whole[name][:, :3], crops[name])
    assert views("D0U1", "full_res")["rgb"].shape == (2, 1, 4, 36, 36, 3)


def test_flips_mirror_all_streams_and_swap_the_label():
    """Where the flip changes the label, views and geometry groups flip together."""
    source = Pictures(20)
    streams = (RGB, FLOW._replace(geometry="other"))
    options = dict(views=("strong", "weak"), batch_size=20)
    options |= dict(size=40, streams=streams)
    pairs = ((0, 1), (2, 3))
    plain = train(source, augment=Augment(scales=(1.0,)), **options)[0]["main"]
    flips = Augment(scales=(1.0,), flip=True, flip_labels=pairs)
    flipped = train(source, augment=flips, **options)[0]["main"]
    np.testing.assert_array_equal(plain["id"], flipped["id"])
    before, after = (batch["label"]["action"] for batch in (plain, flipped))
    swapped, changes = after != before, before != 4
    np.testing.assert_array_equal(after, np.where(swapped, np.array([1, 0, 3, 2, 4])[before], before))
    assert 3 < swapped.sum() < changes.sum() - 3
    for row in np.flatnonzero(changes):
        whole = source[int(flipped["id"][row])]
        for view in ("strong", "weak"):
            first = flipped["inputs"][view]["rgb"][row, 0]
            # A crop of full height has its own rows, mirrored or not.
            lines = {f[:, x : x + 40].tobytes() for f in source.frames_of for x in range(9)}
            mirrored = {f[:, x : x + 40][:, ::-1].tobytes() for f in source.frames_of for x in range(9)}
            assert (first.tobytes() in mirrored) == swapped[row]
            assert (first.tobytes() in lines) != swapped[row]
            planes = fields.decode_frames(whole, "flow", range(whole["num_frames"] - 1))
            if swapped[row]:
                planes = planes[:, :, ::-1].copy()
                planes[..., 0] = 255 - planes[..., 0]
            pair = flipped["inputs"][view]["flow"][row, 0][..., :2].tobytes()
            assert pair in {f[:, x : x + 40].tobytes() for f in planes for x in range(9)}


def test_each_frame_is_decoded_once(monkeypatch):
    read = []
    real = fields.decode_bytes

    def counted(record, field, indices):
        assert len(set(np.asarray(indices).tolist())) == len(indices)
        read.append(field)
        return real(record, field, indices)

    monkeypatch.setattr(fields, "decode_bytes", counted)
    fake.tested(Source(1), (RGB, FLOW, DIFF), heads=HEADS, size=32, protocol="D2U2", crops="three", batch_size=1)[
        0
    ]
    assert sorted(read) == ["flow", "rgb"]


def test_a_process_with_nothing_but_padding_has_its_batch():
    parts = [fake.tested(Source(5), (RGB,), heads=HEADS, size=32, batch_size=4, process=(i, 2)) for i in range(2)]
    assert [len(p) for p in parts] == [2, 2]
    last = [p[1]["main"] for p in parts]
    np.testing.assert_array_equal(last[0]["mask"], [True, False])
    np.testing.assert_array_equal(last[1]["mask"], [False, False])
    assert last[1]["inputs"]["test"]["rgb"].shape == last[0]["inputs"]["test"]["rgb"].shape
    assert parts[0][0]["main"]["mask"].all() and parts[1][0]["main"]["mask"].all()


class Multi(Source):
    """Clips with several labels, and a second head."""

    def __getitem__(self, row):
        label = {"action": np.eye(5)[[row % 5, (row + 1) % 5]].max(0), "noun": np.asarray(row % 3)}
        return super().__getitem__(row) | {"label": label}


def test_several_heads_and_labels():
    heads = {"action": Head(5, "multi"), "noun": Head(3)}
    label = train(Multi(), heads=heads)[0]["main"]["label"]
    assert label["action"].shape == (4, 5) and label["action"].dtype == np.float32
    assert (label["action"].sum(-1) == 2).all() and label["noun"].dtype == np.int32
    with pytest.raises(ValueError, match="'verb'"):
        train(Multi(), heads={"verb": Head(5)})[0]
    with pytest.raises(ValueError, match="several; the heads"):
        train(Multi(), heads=heads, augment=Augment(flip=True, flip_labels=((0, 1),)))


class Damaged(Source):
    """A dataset with one clip whose frames are no pictures, and one with frames missing."""

    def __getitem__(self, row):
        record = super().__getitem__(row)
        if row == 3:
            record["rgb"] = [b"no picture"] * len(record["rgb"])
        if row == 4:
            record["flow_x"] = record["flow_x"][:1]
        return record


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_damaged_records_are_named(workers):
    ahead = workers_lib.iterate(train(Damaged()), Loader(workers, threads=2))
    with pytest.raises((ValueError, RuntimeError), match=r"clip 'clip[34]'.*data_prep"):
        for _ in ahead:
            pass
    ahead.close()


def test_video_bytes_may_stand_for_frames():
    class Video(Pictures):
        def __getitem__(self, row):
            record = super().__getitem__(row)
            smooth = np.stack([np.full_like(f, 20 * t) for t, f in enumerate(self.frames_of)])
            return record | {"rgb": [], "rgb_video": frames.encode_mp4(smooth, 12.0)}

    batch = train(Video(frames=10), (RGB, FLOW))[0]["main"]
    assert batch["present"]["rgb"].all()
    values = batch["inputs"]["train"]["rgb"].mean((2, 3, 4))
    assert np.abs(values - 20 * np.round(values / 20)).max() < 3


def test_iterators_end_and_close():
    before = threading.active_count()
    ahead = workers_lib.iterate(train(stop=3), Loader(threads=2))
    assert len(list(ahead)) == 3
    ahead.close()
    early = workers_lib.iterate(train(), Loader(threads=2))
    next(early)
    early.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(10)
    assert threading.active_count() <= before
    assert len(list(workers_lib.iterate(train(stop=2), Loader(threads=0)))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5])
def test_more_workers_than_steps(steps):
    ahead = workers_lib.iterate(train(stop=steps), Loader(workers=3, prefetch=2))
    got = [jax.tree.map(np.array, b) for b in ahead]
    ahead.close()
    assert len(got) == steps
    same(got[-1], train()[steps - 1])


@pytest.mark.slow
def test_workers_outlive_the_signals_of_their_group():
    """Ctrl-C reaches every process of the terminal; the loop must still get its batches to save."""
    heard, children, ended = [], set(), threading.Event()
    hear = lambda number, frame: heard.append(number)  # noqa: E731
    old = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}

    def shoot():  # from their birth on
        while not ended.wait(0.005):
            for child in multiprocessing.active_children():
                children.add(child)
                with contextlib.suppress(ProcessLookupError):  # it ended since it was listed
                    os.kill(child.pid, signal.SIGINT)
                    os.kill(child.pid, signal.SIGTERM)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    ahead = workers_lib.iterate(train(stop=30), Loader(workers=2, prefetch=2))
    try:
        next(ahead)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(old) == set()
        os.kill(os.getpid(), signal.SIGINT)
        assert len([1 for _ in ahead]) == 29 and heard == [signal.SIGINT] and len(children) >= 2
    finally:
        ended.set()
        shooter.join()
        for number, handler in old.items():
            signal.signal(number, handler)
    ahead.close()
    for child in children:
        child.join(10)
        assert not child.is_alive()


LOOP = """
import multiprocessing, os, pathlib, sys, time
import test_pipeline
if __name__ == "__main__":
    ahead = test_pipeline.workers_lib.iterate(test_pipeline.train(stop=10**6), test_pipeline.Loader(workers=2))
    next(ahead)
    workers = [child.pid for child in multiprocessing.active_children()]
    pathlib.Path(sys.argv[1]).write_text(" ".join(map(str, workers)))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_loop(tmp_path):
    script, told = tmp_path / "loop.py", tmp_path / "workers"
    script.write_text(LOOP)
    here = pathlib.Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    subprocess.run([sys.executable, str(script), str(told)], env=env)
    workers = [int(pid) for pid in told.read_text().split()]
    assert len(workers) >= 2
    end = time.time() + 20
    while time.time() < end and any(map(running, workers)):
        time.sleep(0.1)
    assert not any(map(running, workers))


def running(pid):
    """Whether a process lives; one that nobody has waited for yet does not."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_datasets_pickle():
    copy = pickle.loads(pickle.dumps(train()))
    same(copy[2], train()[2])


# ---------------------------------------------------------------------------- depth, pictures of flow, DMCL
CUT = Sampling("segments", 4)
DMCL = tuple(Stream(name, name, CUT, "image255") for name in ("rgb", "depth", "flow"))


class Deep(Pictures):
    """Records as Tabletop's: depth in millimetres as 16-bit PNGs, with holes."""

    def __init__(self, *args, maps=None, **options):
        super().__init__(*args, **options)
        self.maps = maps

    def depth_of(self, row, count):
        rng = np.random.default_rng([row, 1])
        raw = rng.integers(300, 2500, (count, self.size, self.size + 8), dtype=np.uint16)
        return np.where(rng.random(raw.shape) < 0.2, 0, raw).astype(np.uint16)

    def __getitem__(self, row):
        record = super().__getitem__(row)
        maps = self.depth_of(row, self.maps or record["num_frames"])
        depth = [frames.encode_png(m) for m in maps]
        return record | {"depth": depth, "depth_scale": 0.001, "depth_range": (0.5, 2.0)}


def levels(raw):
    metres = np.clip((raw / 1000 - 0.5) / 1.5, 0, 1)
    return np.where(raw == 0, 0, np.round(1 + 254 * metres)).astype(np.uint8)


def test_depth_levels():
    """near to far is 1..255, what lies outside its ends, 0 no reading."""
    raw = np.array([0, 1, 500, 1000, 1250, 2000, 65535], np.uint16)
    np.testing.assert_array_equal(stored.depth_levels(raw, 0.001, (0.5, 2.0)), [0, 1, 1, 86, 128, 255, 255])
    # Without a range of its own a record's depth is read from 0 to 8 m.
    record = {"depth": [frames.encode_png(np.full((2, 2), 4000, np.uint16))], "depth_scale": 0.001}
    assert (fields.decode_bytes(record, "depth", [0]) == 128).all()
    for scale, near, far in ((0.001, 2.0, 2.0), (0.001, 3.0, 2.0), (0.0, 0.5, 2.0)):
        with pytest.raises(files.DecodeError, match="depth_range"):
            stored.depth_levels(raw, scale, (near, far))


def test_depth_of_a_clip_from_record_to_batch():
    source = Deep(frames=20)
    depth = Stream("depth", "depth", Sampling("uniform", 4))
    batch = fake.tested(source, (RGB, depth), heads=HEADS, size=40, resize=40, batch_size=3)[0]["main"]
    got = batch["inputs"]["test"]["depth"]
    assert got.shape == (3, 1, 4, 40, 40, 1) and got.dtype == np.uint8
    for row in range(3):
        n = source[row]["num_frames"]
        # The middle square of 40 x 48 pixels is not resampled.
        expected = levels(source.depth_of(row, n))[sampling.test_indices(n, depth, Views())[0], :, 4:44]
        np.testing.assert_array_equal(got[row, 0, ..., 0], expected)


def test_holes_of_depth_do_not_bleed():
    """Resized, cut and mirrored, a reading is one that was there or none."""

    class Plane(Deep):
        def depth_of(self, row, count):
            return np.where(super().depth_of(row, count) > 0, 1250, 0).astype(np.uint16)

    batch = train(Plane(), DMCL, augment=Augment(flip=True, scales=(1.0, 0.75)), size=24)[0]["main"]
    depth = batch["inputs"]["train"]["depth"]
    assert set(np.unique(depth)) == {0, 128} and 0.1 < (depth == 0).mean() < 0.3


def test_streams_have_as_many_fields_as_are_stored():
    record = Deep(maps=8)[0]
    assert [fields.count_frames(record, f) for f in ("rgb", "depth", "flow")] == [12, 8, 11]
    record |= {"depth": record["depth"] * 3, "flow_x": [], "flow_y": []}
    assert [fields.count_frames(record, f) for f in ("rgb", "depth", "flow")] == [12, 12, 0]
    # Segments, and so what is read of every stream, end with the shortest.
    with pytest.warns(UserWarning, match="fewer depth than frames, by more than a tenth"):
        batch = train(Deep(maps=8), DMCL)[0]["main"]
    assert all(batch["present"][s.name].all() for s in DMCL)


def test_flips_leave_the_values_of_depth_and_of_the_released_codes_flow():
    source, size = Deep(20), 40
    streams = (*DMCL, Stream("image3", "flow", CUT, "image3"), Stream("planes", "flow", CUT))
    options = dict(streams=streams, size=size, batch_size=12)
    plain = train(source, augment=Augment(scales=(1.0,)), **options)[0]["main"]["inputs"]["train"]
    flips = Augment(scales=(1.0,), flip=True)
    flipped = train(source, augment=flips, **options)[0]["main"]["inputs"]["train"]
    mirrored = [not np.array_equal(a, b) for a, b in zip(plain["rgb"], flipped["rgb"], strict=True)]
    assert 2 < sum(mirrored) < 10
    for row in np.flatnonzero(mirrored):
        for name in ("rgb", "depth", "flow"):
            np.testing.assert_array_equal(flipped[name][row], plain[name][row][:, :, ::-1])
        for name in ("image3", "planes"):
            np.testing.assert_array_equal(flipped[name][row][..., 0], 255 - plain[name][row][:, :, ::-1, 0])
            np.testing.assert_array_equal(flipped[name][row][..., 1:], plain[name][row][:, :, ::-1, 1:])
    for inputs in (plain, flipped):
        np.testing.assert_array_equal(inputs["image3"][..., :2], inputs["planes"])
        assert not inputs["image3"][..., 2].any() and not inputs["flow"][..., 2].any()


class Coloured(Deep):
    """Flow stored as colour pictures."""

    def __getitem__(self, row):
        record = super().__getitem__(row)
        self.pictures_of = np.random.default_rng([row, 2]).integers(
            0, 256, (record["num_frames"], self.size, self.size + 8, 3), dtype=np.uint8
        )
        return record | {"flow_x": [frames.encode_png(p[..., ::-1]) for p in self.pictures_of], "flow_y": []}


@pytest.mark.parametrize("form", ["image3", "image255"])
def test_flow_in_colour_is_read_as_it_is_and_only_mirrored(form):
    source, stream = Coloured(), Stream("flow", "flow", CUT, form)
    options = dict(streams=(stream,), size=40, batch_size=7)
    batch = train(source, augment=Augment(scales=(1.0,), flip=True), **options)[0]["main"]
    flips = 0
    for row, clip in zip(batch["id"], batch["inputs"]["train"]["flow"], strict=True):
        source[int(row)]
        lines = {f[:, x : x + 40].tobytes() for f in source.pictures_of for x in range(9)}
        plain, turned = ({f[:, :, ::o].tobytes() for f in clip[:, None]} <= lines for o in (1, -1))
        assert plain != turned
        flips += turned
    assert 0 < flips < 7


@pytest.mark.parametrize("form", ["stack5", "frames"])
def test_flow_in_colour_has_no_planes(form):
    message = r"3 channels.*reads 2; choose one of \['image05', 'image255', 'image3'\]"
    with pytest.raises(files.DecodeError, match=message):
        train(Coloured(), (Stream("flow", "flow", CUT, form),))[0]


def test_all_streams_read_the_same_frames_by_segments():
    class Told(Deep):
        """Every pixel is the number of the frame."""

        def __getitem__(self, row):
            record, blank = super().__getitem__(row), np.ones((40, 48), np.uint8)
            count = record["num_frames"]
            planes = [frames.encode_png(blank * t) for t in range(count - 1)]
            return record | {
                "rgb": [frames.encode_png(np.dstack([blank * t] * 3)) for t in range(count)],
                "depth": [frames.encode_png(blank.astype(np.uint16) * t) for t in range(count)],
                "depth_scale": 1.0,
                "depth_range": (1.0, 255.0),
                "flow_x": planes,
                "flow_y": planes,
            }

    source = Told(frames=20)
    trained = train(source, DMCL, augment=Augment(crop="window"))[0]["main"]["inputs"]["train"]
    options = dict(heads=HEADS, size=32, protocol="R3", crops="window", batch_size=4)
    tested = fake.tested(source, DMCL, **options)[0]["main"]["inputs"]["test"]
    for inputs, shape in ((trained, (4, 4)), (tested, (4, 3, 4))):
        read = [inputs[s.name][..., 0, 0, 0] for s in DMCL]
        assert read[0].shape == shape and (np.diff(read[0], axis=-1) > 0).all()
        for other in read[1:]:
            np.testing.assert_array_equal(other, read[0])
    # The ten clips are drawn once: another loader, another batch, another order of rows.
    again = fake.tested(source, DMCL[::-1], **options | dict(batch_size=2))[1]["main"]["inputs"]["test"]
    for name, clips in again.items():
        np.testing.assert_array_equal(clips, tested[name][2:])


def test_some_segments_are_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="all of them have it, or none"):
        train(None, (DMCL[0], FLOW))


COLOUR = Augment(crop="window", colour=1.0)


def test_colours_are_shared_by_a_modality_and_geometry_and_touch_rgb_alone():
    here = (Stream("one", "rgb", CUT), Stream("two", "rgb", CUT, "image255"))
    other = Stream("three", "rgb", CUT, geometry="b")
    streams = (*here, other, DMCL[1], DMCL[2], Stream("diff", "diff", CUT, "stack5"))
    still = COLOUR._replace(jitter=0.0)
    batch = train(Deep(), streams, augment=still)[0]["main"]["inputs"]["train"]
    plain = train(Deep(), streams, augment=still._replace(colour=0.0))[0]["main"]["inputs"]["train"]
    np.testing.assert_array_equal(batch["one"], batch["two"])
    for row in range(4):
        assert (batch["one"][row] != plain["one"][row]).any() and (batch["one"][row] != batch["three"][row]).any()
    for name in ("depth", "flow", "diff"):
        np.testing.assert_array_equal(batch[name], plain[name])


def test_one_colour_a_clip():
    """Frames that are equal stay equal, those of another clip do not change alike."""

    class Still(Source):
        def __getitem__(self, row):
            record = super().__getitem__(row)
            picture = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            return record | {"rgb": [frames.encode_png(picture)] * record["num_frames"]}

    clips = train(Still(), DMCL[:1], augment=COLOUR._replace(jitter=0.0))[0]["main"]["inputs"]["train"]["rgb"]
    for clip in clips:
        np.testing.assert_array_equal(clip, np.broadcast_to(clip[:1], clip.shape))
    assert len({clip.tobytes() for clip in clips}) == 4


def test_evaluation_distorts_nothing():
    source = Deep()
    batch = fake.tested(source, DMCL, heads=HEADS, size=35, protocol="R1", crops="window", batch_size=1)
    got = batch[0]["main"]["inputs"]["test"]["rgb"][0, 0]
    source[0]
    # Seven eighths of 40 pixels are 35.
    window = augment.test_windows(40, 48, 35, Views(crops="window", resize=40))[0][0]
    cut = augment.apply(source.frames_of, window, 35, negate_x=False)
    n = source[0]["num_frames"] - 1
    np.testing.assert_array_equal(got, cut[sampling.test_indices(n, DMCL[0], Views("R1"), clip="clip0")[0]])


def test_a_run_of_dmcl_goes_on_without_depth():
    class Shallow(Deep):
        def __getitem__(self, row):
            return super().__getitem__(row) | ({"depth": []} if row == 2 else {})

    dataset = train(Shallow(), DMCL, augment=COLOUR)
    absent = 0
    for i in range(4):
        batch = dataset[i]["main"]
        missing = batch["id"] == 2
        np.testing.assert_array_equal(batch["present"]["depth"], ~missing)
        assert not batch["inputs"]["train"]["depth"][missing].any()
        assert batch["inputs"]["train"]["flow"][missing].any() == missing.any()
        absent += missing.sum()
    assert absent >= 2


class Slow(Source):
    """A source that takes long for a clip, from the fourth on."""

    def __getitem__(self, row):
        if row >= 3:
            time.sleep(8)
        return super().__getitem__(row)


@pytest.mark.parametrize("threads, workers", [(0, 0), (2, 0), pytest.param(0, 1, marks=pytest.mark.slow)])
def test_a_signal_is_heard_while_a_batch_is_made(threads, workers):
    ahead = workers_lib.iterate(train(Slow(), batch_size=7), Loader(workers, threads))
    with signals.listened() as stop:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        begin = time.monotonic()
        with pytest.raises(signals.Interrupted), signals.at_once(stop):
            next(ahead)
        ahead.close()
        assert time.monotonic() - begin < 6


def test_bytes_of_a_batch():
    made = train(streams=(RGB, FLOW))[0]["main"]["inputs"]["train"]
    assert pipeline.batch_bytes((RGB, FLOW), 4, 1, 32) == sum(x.nbytes for x in made.values())
    assert [workers_lib.batches_held(Loader(*how)) for how in ((0, 0, 4), (0, 4, 4), (2, 0, 4))] == [3, 9, 9]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["jpeg", "mp4"])
def test_a_thousand_reads_keep_no_memory(storage):
    """One picture that were kept of each, 52 kB, would be 40 MB."""
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell how much memory a process holds")
    source = Source(3, size=128)
    records = [source[row] for row in range(3)]
    if storage == "mp4":
        for record in records:
            pictures = fields.decode_frames(record, "rgb", range(record["num_frames"]))
            record.update(rgb=[], rgb_video=frames.encode_mp4(pictures, 12.0))
    spec = example.Train(
        {"main": records}, {"main": Group("train", 2, {"train": Augment()})}, (RGB, FLOW), HEADS, 64, 0
    )

    def held(first, last):
        for position in range(first, last):
            example.train_example(spec, "main", position, {"rgb", "flow"})
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = held(0, 200)
    assert held(200, 1000) - before < 4 << 20
