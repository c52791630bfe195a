"""Labels beside the records are those of the records, or count for nothing."""

import numpy as np
import pytest
from test_records import HEADS, pack, record

from mmvid.data import labels, records

KINDS = {"verb": "single", "tags": "multi", "times": "spans"}
SPANS = [[[0, 1.5, 2.25], [3, 0, 1]], [], [[2, 0.1, 0.3]], [[1, 2, 3]]]
KEPT = {
    "train": {"verb": [0, 3, -1, 2], "tags": [[0, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 1]], "times": SPANS},
    "val": {"verb": [1], "tags": [[1, 0, 1]], "times": [[]]},
}


@pytest.fixture
def root(tmp_path):
    labels.save(tmp_path, "f" * 12, KINDS, KEPT)
    return tmp_path


def test_what_was_kept_is_read(root):
    for split, heads in KEPT.items():
        for head, values in heads.items():
            found = labels.load(root, "f" * 12, split, head)
            assert len(found) == len(values)
            for own, value in zip(found, values):
                shape = (-1, 3) if head == "times" else np.shape(value)
                np.testing.assert_array_equal(own, np.reshape(np.float32(value), shape))
    assert [path.name for path in root.iterdir()] == ["labels.npz"]


def test_what_is_not_there_is_none(root, tmp_path):
    assert labels.load(root, "e" * 12, "train", "verb") is None  # of another build
    for split, head in (("train", "noun"), ("test", "verb")):
        assert labels.load(root, "f" * 12, split, head) is None
    assert labels.load(tmp_path / "nowhere", "f" * 12, "train", "verb") is None


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:100], lambda data: b"\xff" * 500, lambda data: data[:-30],
    lambda data: data.replace(b"NUMPY", b"numpy"),
])  # fmt: skip
def test_a_damaged_file_counts_for_nothing(root, damage):
    path = root / "labels.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert labels.load(root, "f" * 12, "train", "verb") is None


def test_of_both_the_records_read_the_same(tmp_path, monkeypatch):
    """And where labels are kept, no record is read for them."""
    pack(tmp_path, [record(i) for i in range(7)], HEADS)
    source = records.open_dataset(tmp_path).split("train")
    before = {head: np.asarray(source.labels(head)) for head in HEADS}
    kept = {head: values.tolist() for head, values in before.items()}
    labels.save(tmp_path, "0" * 12, {name: spec["kind"] for name, spec in HEADS.items()}, {"train": kept})
    monkeypatch.setattr(records.Source, "_opened", lambda self: pytest.fail("records were opened"))
    source = records.open_dataset(tmp_path).split("train")
    for head, values in before.items():
        np.testing.assert_array_equal(source.labels(head), values)


def test_labels_of_another_number_of_clips_count_for_nothing(tmp_path):
    pack(tmp_path, [record(i) for i in range(3)], HEADS)
    labels.save(tmp_path, "0" * 12, {"verb": "single"}, {"train": {"verb": [0, 0]}})
    assert [int(own) for own in records.open_dataset(tmp_path).split("train").labels("verb")] == [0, 1, 0]
