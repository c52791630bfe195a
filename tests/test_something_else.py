"""Something-Else's splits and boxes, and boxes for Something-Something v2, on miniatures with the true names."""

import json
import shutil

import pytest
from test_data_prep import SSV2
from test_detections import WIDTH, annotated, lefts, packed
from test_epic import film

from data_prep import build
from data_prep.readers import READERS, boxes, something_else, ssv2
from mmvid.data import records

HOLDING, FALLING = "Holding [something] next to [something]", "[Something] falling like a feather or paper"
# Numbers of this file are unrelated to SSv2's, and in no order.
LABELS = {"Something falling like a feather or paper": 7, "Holding something next to something": 3, "Tearing": 5}


def row(name, template=HOLDING):
    return {"id": name, "placeholders": ["a", "b"], "label": "holding a next to b", "template": template}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """dataset_splits/, videos/ and the parts of the annotated and the detected boxes."""
    root = tmp_path_factory.mktemp("else")
    for folder, train, validation, labels in something_else.SPLITS.values():
        path = root / "dataset_splits" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / train).write_text(json.dumps([row("78687"), row("93396", FALLING), row("4", "[Unknown]")]))
        (path / validation).write_text(json.dumps([row("2"), row("404", FALLING)]))
        (path / labels).write_text(json.dumps(LABELS))
    for name in ("78687", "93396", "4"):
        film(root / "videos" / f"{name}.webm", tone=False, height=boxes.HEIGHT)
    # Converted to a larger picture: boxes are those of the original.
    film(root / "videos" / "2.mp4", tone=False, width=2 * WIDTH, height=2 * boxes.HEIGHT)
    parts = root / "annotations"
    parts.mkdir()
    # 24 frames of two seconds; one video is in no split, one has fewer.
    first = {"78687": annotated("78687", range(24)), "1": annotated("1", range(24))}
    for i, part in enumerate((first, {"2": annotated("2", range(0, 10, 3))}, {"93396": []}, {}), 1):
        (parts / f"bounding_box_smthsmth_part{i}.json").write_text(json.dumps(part, indent=i % 2 or None))
    found = {name: packed(range(24))["frames"] for name in ("78687", "93396", "2")}
    (root / "detected_compositional_part1.json").write_text(json.dumps(found))
    return root


def command(root, out, *named, dataset="something_else", splits="dataset_splits"):
    flags = ["--dataset", dataset, "--annotations", root / splits, "--videos", root / "videos", "--out", out]
    return [*map(str, [*flags, "--flow", "none", "--workers", "1", "--boxes", *named])]


def test_built_with_annotated_boxes(root, tmp_path, serial, capsys):
    out, named = tmp_path / "out", root / "annotations"
    assert build.main(command(root, out, named)) == 0
    opened = records.open_dataset(out)
    info = opened.info
    # In the order of their names, as the official loader numbers them.
    assert list(info.heads["action"]["names"]) == sorted(LABELS) and info.name == "something-else"
    assert info.splits == {"train": 2, "val": 1} and info.expected == {"train": 3, "val": 2}
    assert "'Unknown'" in (out / "rejected.csv").read_text() and "404.webm" in (out / "rejected.csv").read_text()
    clips = {
        r["id"]: r
        for split in ("train", "val")
        for r in map(opened.split(split).__getitem__, range(info.splits[split]))
    }
    assert [int(clips[name]["label"]["action"]) for name in ("78687", "93396", "2")] == [0, 1, 0]
    # Twelve a second, whatever the film's rate: 30.
    expected = [(t, int(t / 30 * 12 + 0.5)) for t in range(60)]
    assert lefts(clips["78687"]["boxes"]) == [(t, n) for t, n in expected if n < 24]
    assert lefts(clips["2"]["boxes"]) == [(t, n) for t, n in expected if n in (0, 3, 6, 9)]
    assert info.modalities["train"]["boxes"] == 1 and not len(clips["93396"]["boxes"])
    assert "2 of 5 clips have no boxes: '4', '404'" in capsys.readouterr().err


def test_large_files_are_read_once(root, tmp_path, monkeypatch):
    """A clip's boxes lie in a file of its own; what did not change keeps its time, so that no clip is redone."""
    annotations, out = shutil.copytree(root / "annotations", tmp_path / "parts"), tmp_path / "out"

    def read():
        splits, videos = root / "dataset_splits", root / "videos"
        return something_else.read(splits, videos, out, named=[annotations]).items

    items = read()
    folder = boxes.beside(out)
    assert sorted(path.name for path in folder.iterdir()) == ["2.json", "78687.json", "93396.json", "made.json"]
    assert {item.id: item.fps for item in items if "boxes" in item.paths} == dict.fromkeys(
        ["78687", "93396", "2"], 12.0
    )
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(boxes.detections, "videos", None)
        assert read() == items
    part = annotations / "bounding_box_smthsmth_part2.json"
    part.write_text(json.dumps({"2": annotated("2", [1])}))
    assert read() == items
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"2.json", "made.json"}


def test_two_annotations_are_not_mixed(root, tmp_path):
    detected, parts = root / "detected_compositional_part1.json", root / "annotations"
    arguments = root / "dataset_splits", root / "videos", tmp_path / "out"
    with pytest.raises(ValueError, match=r"'78687' is in bounding_box_smthsmth_part1.json and in detected_comp"):
        something_else.read(*arguments, named=[parts, detected])
    with pytest.raises(FileNotFoundError, match=r"--boxes .*none: there is no such file"):
        something_else.read(*arguments, named=[tmp_path / "none"])
    (tmp_path / "other.json").write_text(json.dumps({"5": annotated("5", [0])}))
    with pytest.raises(ValueError, match=r"'other.json': no boxes of any clip"):
        something_else.read(*arguments, named=[tmp_path / "other.json"])
    (tmp_path / "broken.json").write_text(json.dumps({"2": annotated("2", [0])})[:-9])
    with pytest.raises(ValueError, match=r"broken.json is no JSON of boxes: it breaks off"):
        something_else.read(*arguments, named=[tmp_path / "broken.json"])


@pytest.mark.parametrize("split", something_else.SPLITS)
@pytest.mark.parametrize("whole", [True, False])
def test_every_split(root, tmp_path, split, whole):
    folder = root / "dataset_splits" / ("" if whole else something_else.SPLITS[split][0])
    made = something_else.read(folder, root / "videos", tmp_path / "out", split=split)
    assert [item.split for item in made.items] == ["train"] * 3 + ["val"] * 2 and not made.notes
    assert made.name == (
        "something-else" if split == "compositional" else f"something-else-{split.replace('_', '-')}"
    )
    assert not any(item.paths or item.fps for item in made.items) and not boxes.beside(tmp_path / "out").exists()


def test_splits_that_are_wrong(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no fewshot/base_training_set.json in .*code/dataset_splits"):
        something_else.read(tmp_path, root / "videos", tmp_path / "out", split="fewshot_base")
    splits = shutil.copytree(root / "dataset_splits", tmp_path / "splits")
    for text, reason in (("[{}]", "row 0 lacks"), ("{}", "holds no list of clips"), ("[", "is not JSON")):
        (splits / "compositional" / "validation.json").write_text(text)
        with pytest.raises(ValueError, match=rf"validation\.json.*{reason}"):
            something_else.read(splits, root / "videos", tmp_path / "out")


def test_something_something_with_detected_boxes(root, tmp_path, serial):
    """Without boxes it is what it was; with them its clips have those of the file that know them."""
    assert build.main(command(root, tmp_path / "out", root / "detected_compositional_part1.json",
                              dataset="ssv2", splits=SSV2)) == 0  # fmt: skip
    opened = records.open_dataset(tmp_path / "out")
    assert opened.info.modalities["train"]["boxes"] == 2 and opened.info.name == "ssv2"
    boxes_ = opened.split("train")[0]["boxes"]
    assert set(boxes_[:, 5]) == {1} and set(boxes_[:, 6]) == {0.5} and lefts(boxes_)[-1][1] == 23
    plain = ssv2.read(SSV2, root / "videos").items
    assert not any(item.paths or item.fps for item in plain)
    assert READERS["ssv2"].flags["--boxes"] == READERS["something_else"].flags["--boxes"]
