"""EPIC-Kitchens-100, on a miniature with the archive's true names and syntax."""

import csv
import pickle
import shutil

import av
import numpy as np
import pytest
from test_detections import detected

from data_prep import build
from data_prep.readers import epic
from mmvid.data import fields, records

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
TRAIN = """P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:00.95,8,57,open door,open,3,door,3,['door'],[3]
P01_01_1,P01,P01_01,,00:00:01.00,00:00:02.00,60,120,bin paper,throw-into,1,paper,1,"['paper', 'bin']","[1, 2]"
P01_101_0,P01,P01_101,00:00:00.5,00:00:00.50,00:00:01.50,25,75,wash cup,wash,2,cup,0,['cup'],[0]
P01_101_1,P01,P01_101,00:00:00.5,00:00:01.50,00:00:02.00,75,100,odd,odd,99,cup,0,['cup'],[0]
P01_101_2,P01,P01_101,00:00:00.5,00:00:01.60,00:00:02.00,80,100,no noun,wash,2,,,[],[]
P02_07_0,P02,P02_07,00:00:00.5,00:00:00.50,00:00:01.50,30,90,wash cup,wash,2,cup,0,['cup'],[0]
"""
VALIDATION = """P01_02_0,P01,P01_02,00:00:00.10,00:00:00.00,00:00:01.00,1,60,take cup,take,0,cup,0,['cup'],[0]
P18_01_0,P18,P18_01,00:00:00.10,00:00:00.50,00:00:01.50,30,90,take door,take,0,door,3,['door'],[3]
"""
TEST = (
    ",".join(HEADER.split(",")[:8])
    + """
P33_01_0,P33,P33_01,00:00:00.10,00:00:00.50,00:00:01.50,30,90
"""
)
VERBS = """id,key,instances,category
0,take,"['take', 'grab:up']",retrieve
1,throw,['throw'],leave
2,wash,['wash'],clean
3,open,['open'],access
"""
NOUNS = """id,key,instances,category
0,cup,"['cup', 'mug']",crockery
1,paper,['paper'],containers
2,bin,['bin'],containers
3,door,['door'],furniture
"""
RATE, SECONDS, WIDTH, HEIGHT = 30, 2, 64, 36


def film(path, *, tone=True, width=WIDTH, height=HEIGHT):
    """Two seconds, in which gray tells the frame; the tone begins after a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if tone else None
        for value in range(RATE * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 4 * value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            times = np.arange(16000 * SECONDS) / 16000
            samples = np.float32(0.5 * np.sin(2 * np.pi * 440 * times) * (times >= 1))
            for i in range(0, len(samples), 1024):
                frame = av.AudioFrame.from_ndarray(samples[None, i : i + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, i
                container.mux(sound.encode(frame))
            container.mux(sound.encode())


def hand_objects(path, rate):
    """An object in every frame, whose left side is the frame's time over ten seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [
        detected(
            objects=[(n / rate / 10, 0.25, 0.5, 1.0, 0.5)],
            hands=[(0.0, 0.5, 0.125, 0.75, 0.9, 1, 3)],
            number=n + 1,
        )
        for n in range(rate * SECONDS)
    ]
    path.write_bytes(pickle.dumps(made))


@pytest.fixture(scope="module")
def kitchens(tmp_path_factory):
    """(annotations, videos); the video of P02 lacks, that of P01_02 is silent."""
    root = tmp_path_factory.mktemp("epic")
    folder, videos = root / "epic-kitchens-100-annotations", root / "EPIC-KITCHENS"
    folder.mkdir()
    for name, text in {
        "train": f"{HEADER}\n{TRAIN}",
        "validation": f"{HEADER}\n{VALIDATION}",
        "test_timestamps": TEST,
        "verb_classes": VERBS,
        "noun_classes": NOUNS,
        "unseen_participant_ids_validation": "participant_id\nP18\nP32\n",
    }.items():
        (folder / f"EPIC_100_{name}.csv").write_text(text)
    film(videos / "P01" / "videos" / "P01_01.MP4")
    film(videos / "P01" / "videos" / "P01_101.mp4")
    film(videos / "P01" / "videos" / "P01_02.MP4", tone=False)
    film(videos / "P18" / "videos" / "P18_01.MP4")
    hand_objects(videos / "P01" / "hand-objects" / "P01_01.pkl", 60)
    hand_objects(videos / "P01" / "hand-objects" / "P01_101.pkl", 50)
    return folder, videos


def grays(record):
    return fields.decode_frames(record, "rgb", range(record["num_frames"])).mean((1, 2, 3)) / 4


def test_built_from_the_official_files(kitchens, tmp_path, serial, capsys):
    folder, videos = kitchens
    out = tmp_path / "out"
    command = [
        "--dataset",
        "epic100",
        "--annotations",
        folder,
        "--videos",
        videos.parent,
        "--out",
        out,
        "--flow",
        "none",
    ]
    command = [*map(str, command), "--short_side", "0", "--workers", "1"]
    assert build.main(command) == 0
    opened = records.open_dataset(out)
    info = opened.info
    assert info.name == "epic100" and list(info.heads) == ["noun", "verb"]
    assert (
        list(info.heads["verb"]["names"]) == ["take", "throw", "wash", "open"]
        and info.heads["noun"]["names"][3] == "door"
    )
    # The regular split is the whole validation set; what its unseen cooks do is scored alone, too.
    assert info.splits == {"train": 3, "val": 2, "unseen": 1} and info.expected["train"] == 6
    assert opened.split("unseen").ids() == ["P18_01_0"] and opened.split("val").ids() == ["P01_02_0", "P18_01_0"]

    clips = {
        r["id"]: r
        for split in ("train", "val")
        for r in map(opened.split(split).__getitem__, range(info.splits[split]))
    }
    labels = {name: (int(r["label"]["noun"]), int(r["label"]["verb"])) for name, r in clips.items()}
    assert labels == {
        "P01_01_0": (3, 3),
        "P01_01_1": (1, 1),
        "P01_101_0": (0, 2),
        "P01_02_0": (0, 0),
        "P18_01_0": (3, 0),
    }
    # Times, not numbers of frames: these count 60 or 50 a second, the films have 30.
    for name, first, count in (("P01_01_0", 5, 24), ("P01_01_1", 30, 30), ("P01_101_0", 15, 30)):
        np.testing.assert_allclose(grays(clips[name]), np.arange(first, first + count), atol=0.7)
        boxes = clips[name]["boxes"]
        objects = boxes[boxes[:, 5] == 1]
        assert objects[:, 0].tolist() == list(range(count))
        np.testing.assert_allclose(
            objects[:, 1] * 10, np.arange(first, first + count) / RATE, atol=0.5 / 50 + 1e-6
        )
        assert boxes[boxes[:, 5] == 2][0, 6:].tolist() == pytest.approx([0.9, 2, 4])
    # The sound is the film's own: it begins after a second.
    for name, begins, lasts in (("P01_01_0", 0.86, 0.81), ("P01_01_1", 0.0, 1.0), ("P01_101_0", 0.5, 1.0)):
        samples = np.frombuffer(clips[name]["audio"], "<i2")
        assert len(samples) / 16000 == pytest.approx(lasts, abs=2e-3)
        loud = np.flatnonzero(abs(samples.astype(int)) > 3000)
        assert (loud[0] / 16000 if len(loud) else begins) == pytest.approx(begins, abs=0.03)
    assert not clips["P01_02_0"]["audio"] and not len(clips["P18_01_0"]["boxes"])

    reasons = {row["id"]: row["reason"] for row in csv.DictReader((out / "rejected.csv").read_text().splitlines())}
    assert reasons == {
        "P01_101_1": "unknown label '99' for verb",
        "P01_101_2": "no label for noun",
        "P02_07_0": "missing file P02_07.MP4",
    }
    said = capsys.readouterr()
    for note in (
        "the 1 segments of EPIC_100_test_timestamps.csv have no labels",
        "1 of 5 videos are not there",
        "1 of 5 videos have no sound: P01_02",
    ):
        assert note in said.err
    # The segments of 'unseen' are in 'val' by design: no alarm.
    assert "are in unseen, too" not in said.err + said.out
    assert said.err.count("which is the whole validation set") == 1
    assert "epic100: 6 of 9 clips" in said.out and "unseen" in said.out.splitlines()[2]
    assert build.main(command) == 0 and "nothing to do" in capsys.readouterr().out
    assert build.main([*command, "--strict"]) == 1


def test_without_its_file_the_unseen_cooks_are_those_of_the_paper(kitchens, tmp_path):
    folder = shutil.copytree(kitchens[0], tmp_path / "lists")
    (folder / "EPIC_100_unseen_participant_ids_validation.csv").unlink()
    (folder / "EPIC_100_test_timestamps.csv").unlink()
    made = epic.read(folder, kitchens[1])
    assert made.items == epic.read(*kitchens).items and not any("test" in note for note in made.notes)


@pytest.mark.parametrize(
    "name, old, new, reason",
    [
        ("train", "noun_class", "nouns", r"lacks the column 'noun_class'"),
        ("train", "00:00:00.14", "0.14", r"train\.csv, line 2: '0\.14' is no time"),
        ("validation", "00:00:01.50", "00:00:00.50", r"validation\.csv, line 3: the segment ends at 0\.5 s"),
        ("validation", "P18_01_0", "P01_01_0", "'P01_01_0' occurs twice"),
        ("verb_classes", "\n1,throw", "\n7,throw", r"verb_classes\.csv are not 0\.\.3"),
    ],
)
def test_lists_that_are_wrong(kitchens, tmp_path, name, old, new, reason):
    folder = shutil.copytree(kitchens[0], tmp_path / "lists")
    path = folder / f"EPIC_100_{name}.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=reason):
        epic.read(folder, kitchens[1])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"no EPIC_100_{name}.csv in"):
        epic.read(folder, kitchens[1])


@pytest.mark.parametrize("name", ["train", "validation", "test_timestamps", "verb_classes", "noun_classes"])
@pytest.mark.parametrize("ending", ["P01_01_9", 'P01_01_9,"P01', "1,2,3" + 20 * ",4", "\u00e9"])
def test_lists_that_broke_off(kitchens, tmp_path, name, ending):
    """Wherever a download ends, within the first cell, a quote or a letter: the file and the line are named."""
    folder = shutil.copytree(kitchens[0], tmp_path / "lists")
    path = folder / f"EPIC_100_{name}.csv"
    lines = path.read_text().count("\n")
    path.write_bytes(path.read_bytes() + (ending.encode()[:-1] if ending == "\u00e9" else ending.encode()))
    where = " is not UTF-8" if ending == "\u00e9" else f", line {lines + 1}: "
    with pytest.raises(ValueError, match=rf"EPIC_100_{name}\.csv{where}.* fetch it again"):
        epic.read(folder, kitchens[1])


@pytest.mark.parametrize("tree", ["videos/P01", "P01", "videos/train/P01"])
def test_other_trees_and_none(kitchens, tmp_path, tree):
    path = tmp_path / "x" / tree / "P01_01.mp4"
    film(path, tone=False)
    items = epic.read(kitchens[0], tmp_path / "x").items
    assert next(item.path for item in items if item.id == "P01_01_0") == path
    frames = tmp_path / "y" / "P01" / "rgb_frames"
    frames.mkdir(parents=True)
    (frames / "P01_01.tar").touch()
    with pytest.raises(FileNotFoundError, match="the tars of rgb_frames are not read"):
        epic.read(kitchens[0], tmp_path / "y")
