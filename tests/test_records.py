"""Records: what is packed is read back, in order, from any process."""

import concurrent.futures
import json
import pickle
import resource
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import builder
from mmvid.data import fields, records
from mmvid.data import frames as frames_lib

HEADS = {
    "verb": {"kind": "single", "names": ["push", "pull"]},
    "noun": {"kind": "multi", "names": ["cup", "box", "can"]},
}


def record(i, split="train", frames=3, **changes):
    image = frames_lib.encode_jpeg(np.full((8, 10, 3), 9 * i % 256, np.uint8))
    plane = frames_lib.encode_png(np.full((8, 10), i % 256, np.uint8))
    base = {
        "id": f"clip{i:03d}", "split": split, "num_frames": frames, "fps": 12.0,
        "times": np.arange(frames, dtype=np.float32) / 12, "height": 8, "width": 10,
        "label": {"verb": np.int64(i % 2), "noun": np.uint8([i % 2, 1, 0])},
        "rgb": [image] * frames, "rgb_video": b"", "flow_x": [plane] * (frames - 1),
        "flow_y": [plane] * (frames - 1), "flow_bound": 6.0, "depth": [], "depth_scale": 0.001,
        "audio": np.arange(i, dtype=np.int16).tobytes(), "audio_rate": 16000, "audio_start_s": 0.0,
        "boxes": np.full((i % 3, 9), i, np.float32),
    }  # fmt: skip
    return base | changes


def pack(root, made, heads=()):
    """Packs records as phase 2 does, with the metadata that reading needs; runs need ``heads``, some of HEADS."""
    (root / "prepared").mkdir(parents=True, exist_ok=True)
    files = {}
    for i, clip in enumerate(made):
        path = root / "prepared" / f"{i}.pkl"
        path.write_bytes(pickle.dumps(clip))
        files.setdefault(clip["split"], []).append((path, {}))
    rows = builder.pack(files, HEADS, root)
    counts, classes = builder.count(rows, HEADS)
    splits = {split: len(paths) for split, paths in files.items()}
    spaces = {name: HEADS[name] | {"classes": len(HEADS[name]["names"])} for name in heads}
    info = records.Info("test", records.SCHEMA, spaces, splits, splits, counts, "0" * 12, 8, 10, 12.0, {},
                        classes)  # fmt: skip
    (root / "metadata.json").write_text(json.dumps(info._asdict()))
    (root / "index.json").write_text(json.dumps({s: [r.id for r in rows if r.split == s] for s in splits}))
    return rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pack(root, [record(i) for i in range(40)] + [record(i, "val", frames=1) for i in range(3)])
    return root


def assert_equal(read, wrote):
    assert read.keys() == wrote.keys()
    for name, value in wrote.items():
        if name == "label":
            assert_equal(read[name], value)
        elif isinstance(value, float):
            assert read[name] == pytest.approx(value, rel=1e-6)
        elif isinstance(value, np.ndarray | np.integer):
            np.testing.assert_array_equal(read[name], value)
            assert read[name].dtype == value.dtype
        else:
            assert read[name] == value and type(read[name]) is type(value), name


def test_what_was_packed_is_read_in_order(root):
    source = records.open_dataset(root).split("train")
    assert len(source) == 40
    for i in (0, 1, 17, 39):
        assert_equal(source[i], record(i) | {"depth_range": (0.0, 8.0)})
    assert source.ids() == [f"clip{i:03d}" for i in range(40)] == [source[i]["id"] for i in range(40)]


def test_the_datasets_depth_range_is_every_records(tmp_path):
    pack(tmp_path, [record(i) for i in range(2)])
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"depth_range": [1, 3.5]}}))
    source = records.open_dataset(tmp_path).split("train")
    assert [source[i]["depth_range"] for i in range(2)] == [(1.0, 3.5)] * 2


def with_depth(i, *maps):
    return record(i, depth=[frames_lib.encode_png(np.asarray(m, np.uint16)) for m in maps])


def test_depth_range_is_of_what_the_middle_maps_read(tmp_path):
    """1000 readings from 501 to 1500 mm, so 505 and 1495 are the percentiles; 0 is no reading, and the
    first and last map are not asked."""
    middle = np.zeros((2, 1000), np.uint16)
    middle[0] = np.arange(501, 1501)
    far = np.full((2, 1000), 9000)
    pack(tmp_path, [with_depth(0, far, middle, far)])
    paths = [tmp_path / "prepared" / "0.pkl"]
    assert builder.depth_range(paths) == (0.505, 1.495)
    pack(tmp_path, [with_depth(0, np.zeros((4, 4))), with_depth(1, np.full((4, 4), 700))])
    empty, wall = (tmp_path / "prepared" / f"{i}.pkl" for i in (0, 1))
    assert builder.depth_range([empty]) == (0.0, 8.0)
    assert builder.depth_range([empty, wall]) == (0.7, 0.701)


def test_depth_range_reads_few_clips_evenly_spread(tmp_path):
    pack(tmp_path, [with_depth(i, np.full((2, 2), 1000 + i)) for i in range(9)])
    paths = [tmp_path / "prepared" / f"{i}.pkl" for i in range(9)]
    for i in (1, 2, 3, 5, 6, 7):
        paths[i].unlink()
    assert builder.depth_range(paths, most=3) == (1.0, 1.008)


def test_empty_modalities(root):
    clip = records.open_dataset(root).split("val")[0]
    have = {field: fields.present(clip, field) for field in builder.MODALITIES}
    assert have == {"rgb": True, "flow": False, "depth": False, "audio": False, "boxes": False}


def test_counts(root):
    info = records.open_dataset(root).info
    assert info.modalities["train"] == {"rgb": 40, "flow": 40, "depth": 0, "audio": 39, "boxes": 26}
    assert info.modalities["val"]["flow"] == 0
    assert info.classes == {"verb": [22, 21], "noun": [21, 43, 0]}


def test_pickled_before_and_after_reading(root):
    source = records.open_dataset(root).split("train")
    before = pickle.dumps(source)
    source[3]
    after = pickle.dumps(source)
    assert len(after) < 5000
    for data in (before, after):
        assert pickle.loads(data)[3]["id"] == "clip003"


@pytest.mark.parametrize("row", [-1, 40])
def test_rows_outside(root, row):
    with pytest.raises(IndexError, match="of the 40 clips"):
        records.open_dataset(root).split("train")[row]


def test_unknown_split_names_those_there_are(root):
    with pytest.raises(ValueError, match=r"no split 'test'; it has .*'train': 40"):
        records.open_dataset(root).split("test")


def test_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_prep\.build --folder"):
        records.open_dataset(tmp_path)


@pytest.mark.parametrize(
    "text, reason",
    [("{", "cannot be read"), ('{"name": 1}', "cannot be read"), ("", "cannot be read")],
)
def test_broken_metadata(tmp_path, text, reason):
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        records.open_dataset(tmp_path)


def test_other_schema_missing_records_and_wrong_counts(tmp_path):
    pack(tmp_path, [record(0), record(1)])
    path = tmp_path / "metadata.json"
    good = json.loads(path.read_text())
    # Of another schema the other entries differ, too.
    for version, more in ((0, {"fps": None, "rate": 12}), (99, {})):
        path.write_text(json.dumps({**good, "version": version, **more}))
        update = "update mmvid, or " if version else ""
        said = rf"(?s)schema {version}, .* reads 1: {update}build.*\.\.\. --out \S+$"
        with pytest.raises(ValueError, match=said):
            records.open_dataset(tmp_path)
        with pytest.raises(ValueError, match=r"built it\n  python -m data_prep.build --size small$"):
            records.open_dataset(tmp_path, "python -m data_prep.build --size small")
    path.write_text(json.dumps(good | {"splits": {"train": 5}}))
    with pytest.raises(ValueError, match="holds 2 clips of train"):
        records.open_dataset(tmp_path).split("train")[0]
    path.write_text(json.dumps(good))
    (records.directory(tmp_path) / "dataset_info.json").unlink()
    with pytest.raises(ValueError, match="no records"):
        records.open_dataset(tmp_path)


def test_packing_again_replaces(tmp_path):
    pack(tmp_path, [record(i) for i in range(5)])
    pack(tmp_path, [record(i) for i in range(2)])
    assert len(records.open_dataset(tmp_path).split("train")) == 2
    assert not (tmp_path / "packing.tmp").exists()


@settings(max_examples=25)
@given(st.permutations(range(6)), st.floats(0.5, 99))
def test_fingerprint_knows_no_order_but_every_fact(order, bound):
    rows = [[f"clip{i}", "train", {"verb": i}, 30] for i in range(6)]
    first = records.fingerprint(rows, {"bound": 20.0})
    assert records.fingerprint([rows[i] for i in order], {"bound": 20.0}) == first
    assert (records.fingerprint(rows, {"bound": bound}) == first) == (bound == 20.0)
    assert records.fingerprint([*rows[:5], ["clip5", "val", {"verb": 5}, 30]], {"bound": 20.0}) != first


@pytest.mark.parametrize("limits, wanted", [
    ((1024, 4096), (1512, 4096)), ((1024, -1), (1512, -1)), ((2000, 4096), None), ((-1, -1), None),
    ((512, 1024), 1),
])  # fmt: skip
def test_as_many_files_may_be_open_as_there_are(limits, wanted, monkeypatch):
    """Some systems allow 1,024 unless asked; where they refuse, training does not begin."""
    if -1 in limits:
        limits = tuple(resource.RLIM_INFINITY if own == -1 else own for own in limits)
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda what, own: asked.append(own))
    if wanted == 1:
        with pytest.raises(ValueError, match=r"1000 files of records, .* lets a process open 1024: .* -Hn 1512"):
            records._let_open(1000, "data/k400")
    else:
        records._let_open(1000, "data/k400")
    assert asked == ([(1512, limits[1])] if isinstance(wanted, tuple) else [])
    if wanted == (1512, 4096):  # beside those of other splits, as far as the system goes
        records._let_open(1000, "data/k400", held=2000)
        records._let_open(1000, "data/k400", held=9000)
        assert asked[1:] == [(3512, 4096), (4096, 4096)]


def test_shards_grow_with_the_dataset(tmp_path, monkeypatch):
    """Else ten million clips would be forty thousand files."""
    for name, value in (("SHARD_BYTES", 100), ("LARGEST", 400), ("MOST", 5)):
        monkeypatch.setattr(builder, name, value)
    files = []
    for i in range(40):
        (tmp_path / str(i)).write_bytes(b"x" * 20)
        files.append((tmp_path / str(i), {}))
    counts = [[len(shard) for shard in builder._shards(files[:n])] for n in (10, 40)]
    assert counts == [[5, 5], [8] * 5]  # 100 bytes; a fifth of 800
    monkeypatch.setattr(builder, "MOST", 1)
    assert [len(shard) for shard in builder._shards(files)] == [20, 20]  # 400 at most
    assert [file for shard in builder._shards(files) for file in shard] == files


def test_many_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_BYTES", 6000)
    pack(tmp_path, [record(i) for i in range(30)])
    source = records.open_dataset(tmp_path).split("train")
    assert len(list(records.directory(tmp_path).glob("*.array_record-*"))) > 3
    assert [source[i]["id"] for i in range(30)] == source.ids() == [f"clip{i:03d}" for i in range(30)]


def test_threads_open_one_after_another(root, monkeypatch):
    """TFDS imports as it opens and first reads; two threads that did would wait for each other for ever."""
    import tensorflow_datasets as tfds

    alone, crowded, opened = threading.Lock(), [], tfds.builder_from_directory

    def slowly(path):
        if not alone.acquire(blocking=False):
            crowded.append(path)
            return opened(path)
        time.sleep(0.05)
        alone.release()
        return opened(path)

    monkeypatch.setattr(tfds, "builder_from_directory", slowly)
    sources = [records.open_dataset(root).split(name) for name in ("train", "val", "train")]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda i: sources[i % 3][0]["id"], range(24))]
    assert not crowded and found == [sources[i % 3][0]["id"] for i in range(24)]
