"""Datasets and weights in buckets, which stand in memory here; what needs a disk says so. Runs: `test_mirror`."""

import datetime
import os
import pickle
import shutil
import types

import fsspec
import numpy as np
import pytest
import tqdm
from array_record.python import array_record_data_source
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from test_records import HEADS, pack, record

from data_prep import build as data_prep
from mmvid import buckets, commands, transfer, usage, weights
from mmvid.data import labels, records
from mmvid.run import values
from mmvid.weights import files, seen


class Bucket(MemoryFileSystem):
    """What stands for Google's and Amazon's storage."""

    protocol = ("gs", "gcs", "s3")
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        path = os.fspath(path).partition("://")[2] or os.fspath(path)
        return f"/{path.strip('/')}".rstrip("/")


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """``put(folder, 'gs://bucket/place')`` copies a folder there."""
    for name in Bucket.protocol:
        monkeypatch.setitem(_registry, name, Bucket)
    monkeypatch.setenv("EPATH_USE_TF", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()
    buckets.fetched.cache_clear()
    transfer.fetched.cache_clear()
    Bucket.store.clear()

    def put(folder, place):
        for path in folder.rglob("*"):
            if path.is_file():
                Bucket().pipe_file(f"{place}/{path.relative_to(folder)}", path.read_bytes())

    yield put
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()
    buckets.fetched.cache_clear()


# ---------------------------------------------------------------------------- datasets
@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("bucket")
    pack(root, [record(i) for i in range(6)] + [record(i, "val") for i in range(2)], HEADS)
    kept = {split: {"verb": [i % 2 for i in range(n)]} for split, n in (("train", 6), ("val", 2))}
    labels.save(root, "0" * 12, {"verb": "single"}, kept)
    return root


def test_a_dataset_is_read_where_it_lies(dataset, bucket, monkeypatch):
    """All but the records themselves through etils; ArrayRecord's own reader of gs:// is C++: it gets a file."""
    bucket(dataset, "gs://videos/small")
    read = array_record_data_source._create_reader

    def create(name, *rest):
        assert str(name).startswith("gs://videos/small/clips/1.0.0/clips-train.array_record")
        return read(str(name).replace("gs://videos/small", str(dataset)), *rest)

    monkeypatch.setattr(array_record_data_source, "_create_reader", create)
    there, here = (records.open_dataset(root) for root in ("gs://videos/small", dataset))
    assert there.info == here.info and str(there.root) == "gs://videos/small"
    source, own = there.split("train"), here.split("train")
    assert source.ids() == own.ids() and source.labels("verb").tolist() == [0, 1] * 3
    # As a worker process gets it.
    assert [pickle.loads(pickle.dumps(source))[i]["id"] for i in range(6)] == own.ids()


def test_a_dataset_that_is_not_there_is_told(bucket):
    with pytest.raises(FileNotFoundError, match="no prepared dataset at gs://videos/none"):
        records.open_dataset("gs://videos/none")


def test_a_dataset_in_s3_is_fetched_once(dataset, bucket, monkeypatch):
    """ArrayRecord's reader does not know s3://. What a build has left there of clips is not fetched."""
    bucket(dataset, "s3://videos/small")
    Bucket().pipe_file("s3://videos/small/prepared/a.npz", b"a" * 1000)
    bars, bar, got, get = [], tqdm.tqdm, [], Bucket.get_file
    # CI draws none: TQDM_DISABLE is set there.
    monkeypatch.setattr(tqdm, "tqdm", lambda *given, **more: bars.append(more["desc"]) or bar(*given, **more))
    monkeypatch.setattr(
        Bucket, "get_file", lambda self, path, *rest, **more: got.append(path) or get(self, path, *rest, **more)
    )
    there, here = (records.open_dataset(root) for root in ("s3://videos/small", dataset))
    assert there.info == here.info and there.root == transfer.of("s3://videos/small").here
    assert [there.split("train")[i]["id"] for i in range(6)] == here.split("train").ids()
    files_there = [path for path in dataset.rglob("*") if path.is_file() and "prepared" not in path.parts]
    assert len(got) == len(files_there) and bars == ["fetching s3://videos/small"]
    transfer.fetched.cache_clear()  # another process
    assert records.open_dataset("s3://videos/small").info == here.info and len(got) == len(files_there)


def test_a_dataset_that_does_not_fit_is_told_before_it_is_fetched(dataset, bucket, monkeypatch):
    bucket(dataset, "s3://videos/small")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 5, 4))
    with pytest.raises(OSError, match=r"s3://videos/small has .* GB to fetch, .* has 4e-09 GB free"):
        records.open_dataset("s3://videos/small")


def test_a_dataset_in_another_service_is_refused(bucket):
    with pytest.raises(usage.WrongUse, match="and no http://"):
        records.open_dataset("http://videos/small")


def test_a_library_that_is_missing_is_named(bucket, monkeypatch):
    def missing(*args, **options):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(ValueError, match=r"gs://videos/small/metadata.json cannot be read .*: pip install gcsfs"):
        records.open_dataset("gs://videos/small")


def test_a_bucket_that_refuses_is_told(bucket, monkeypatch):
    def refuse(self, path, **options):
        raise PermissionError("403 Forbidden\nand a page of HTML")

    monkeypatch.setattr(Bucket, "info", refuse)
    monkeypatch.setattr(Bucket, "exists", refuse)
    with pytest.raises(ValueError, match=r"cannot be read \(PermissionError: 403 Forbidden\): see that"):
        records.open_dataset("gs://videos/small")


# ---------------------------------------------------------------------------- weights
def saved(path, value):
    files.save(path, {"rgb": {"params": {"w": np.full(2, value, np.float32)}, "stats": {}}}, {"key": ""})
    return path


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_weights_are_fetched_once_and_again_when_they_change(scheme, bucket, tmp_path, monkeypatch):
    place = f"{scheme}://models/a/weights.safetensors"
    saved(tmp_path / "weights.safetensors", 1)
    (tmp_path / "in").mkdir()
    shutil.move(tmp_path / "weights.safetensors", tmp_path / "in")
    bucket(tmp_path / "in", f"{scheme}://models/a")
    read, opened = [], Bucket.open

    def noted(self, path, mode="rb", **more):
        read.extend([path] * (mode == "rb"))
        return opened(self, path, mode, **more)

    monkeypatch.setattr(Bucket, "open", noted)
    for _ in range(2):
        buckets.fetched.cache_clear()  # another process
        path, network = files.split(f"{place}#rgb")
        assert network == "rgb" and path.parts[-4:] == (scheme, "models", "a", "weights.safetensors")
        assert files.metadata(place) and len(read) == 1
    assert files.split(f"inflated:{place}")[0] == path
    assert weights.found(f"{place}#rgb").placed["params", "w"].tolist() == [1, 1]
    assert seen.of_file(f"{place}#rgb")["unproven"] == [str(path)]
    saved(tmp_path / "in" / "weights.safetensors", 2)
    os.utime(tmp_path / "in" / "weights.safetensors")
    Bucket.store.clear()
    bucket(tmp_path / "in", f"{scheme}://models/a")
    monkeypatch.setattr(Bucket, "info", later(Bucket.info))
    buckets.fetched.cache_clear()
    assert weights.found(f"{place}#rgb").placed["params", "w"].tolist() == [2, 2] and len(read) == 2


def later(info):
    """``info`` of files that are an hour younger: those of one second would pass for each other."""

    def changed(self, path, **options):
        found = info(self, path, **options)
        return found | {"mtime": 3600 + getattr(found.get("created"), "timestamp", lambda: 0)()}

    return changed


def test_what_changes_at_the_same_size_is_fetched_again(bucket, monkeypatch):
    """S3's status of a file has its time under a name that etils does not know."""
    Bucket().pipe_file("s3://models/w.bin", b"1")
    assert "mtime" not in Bucket().info("s3://models/w.bin")
    assert buckets.fetched("s3://models/w.bin").read_bytes() == b"1"
    Bucket().pipe_file("s3://models/w.bin", b"2")
    modified = Bucket.modified
    monkeypatch.setattr(Bucket, "modified", lambda *given: modified(*given) + datetime.timedelta(hours=1))
    buckets.fetched.cache_clear()
    assert buckets.fetched("s3://models/w.bin").read_bytes() == b"2"


def test_a_copy_serves_where_the_bucket_is_out_of_reach(bucket, tmp_path, monkeypatch):
    """A report names the weights that a run began with."""
    place = "gs://models/a/weights.safetensors"
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in" / "weights.safetensors", 1)
    bucket(tmp_path / "in", "gs://models/a")
    path, _ = files.split(place)
    buckets.fetched.cache_clear()
    monkeypatch.setattr(Bucket, "info", lambda *a, **k: 1 / 0)
    assert files.split(place)[0] == path and path.is_file()
    path.unlink()
    buckets.fetched.cache_clear()
    with pytest.raises(ValueError, match=r"cannot be read \(ZeroDivisionError"):
        files.split(place)


@pytest.mark.parametrize("name", ["none.safetensors", "folder"])
def test_weights_that_are_not_there_are_told_before_anything_runs(name, bucket, tmp_path):
    (tmp_path / "in" / "folder").mkdir(parents=True)
    (tmp_path / "in" / "folder" / "a").write_text("a")
    bucket(tmp_path / "in", "gs://models")
    spec = types.SimpleNamespace(weights=f"gs://models/{name}")
    with pytest.raises(
        ValueError, match=f"networks.rgb.weights=gs://models/{name}: there is no gs://models/{name}"
    ):
        values.check_weights(types.SimpleNamespace(networks={"rgb": spec}))


# ---------------------------------------------------------------------------- what needs a disk
@pytest.mark.parametrize("argv", [
    ("compare", "runs/a", "runs/b", "--out=gs://runs/c"), ("share", "runs/a", "gs://shared/a"),
    ("export", "runs/a", "--out=gs://a/b"), ("browse", "gs://data/a"), ("doctor", "s3://data/a"),
    ("sweep", "--workdir=gs://runs/a", "--config=configs/mml.py", "--grid", "seed=0,1"),
    ("weights", "--check=a.pth", "--write=gs://a/b.safetensors"),
])  # fmt: skip
def test_what_commands_write_elsewhere_is_on_a_disk(argv, capsys):
    with pytest.raises(SystemExit) as end:
        commands.start(argv[0], argv[1:])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "is in a bucket" in said and "mount the bucket" in said, said


@pytest.mark.parametrize("argv", [
    ("--folder", "gs://videos", "--out", "data/a"), ("--folder", "videos", "--out", "gs://data/a"),
    ("--manifest", "s3://videos/clips.csv", "--out", "data/a"),
])  # fmt: skip
def test_preparation_reads_and_writes_disks(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = data_prep.main(list(argv))
    except SystemExit as end:
        code = end.code
    assert code == 2 and "is in a bucket" in capsys.readouterr().err and not list(tmp_path.glob("gs*"))


@pytest.mark.parametrize("text, scheme", [
    ("runs/a", ""), ("/gs/a", ""), ("C:\\runs", ""), ("gs:/a", ""), ("", ""), ("gs://a", "gs"), ("s3://a/b", "s3"),
])  # fmt: skip
def test_what_has_no_scheme_is_on_a_disk(text, scheme):
    assert usage.scheme(text) == scheme
