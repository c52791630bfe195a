"""From videos to a dataset, with the faults that videos have."""

import csv
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import wave

import cv2
import fake
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_manifest import written

from data_prep import beam, build, clips, phases
from data_prep.manifest import Item
from data_prep.readers import ssv2
from data_prep.tabletop import files as tabletop_files
from data_prep.tabletop import specs
from mmvid.data import fields, records
from mmvid.data import frames as frames_lib
from mmvid.data.media import box_rows
from mmvid.data.media import files as files_lib
from mmvid.data.media import record as record_lib
from mmvid.streams import Head, Sampling, Stream

REPOSITORY = pathlib.Path(__file__).parents[1]
SSV2 = pathlib.Path(__file__).parent / "fixtures" / "ssv2"
HEADS = {"action": {"kind": "single", "names": ["push", "pull"]}}


def frames(seed=0, count=14, height=32, width=40):
    rng = np.random.default_rng(seed)
    big = cv2.GaussianBlur(rng.integers(0, 255, (64, 128, 3), dtype=np.uint8), (0, 0), 2)
    return np.stack([big[i : i + height, 2 * i : 2 * i + width] for i in range(count)])


def video(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(frames_lib.encode_mp4(frames(seed, **options), 12.0))
    return path


def sound(path, seconds=1.5):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.int16(np.sin(np.arange(int(16000 * seconds)) / 9) * 9000).tobytes())
    return path


def run(*flags, out, flow="none"):
    return build.main([*map(str, flags), "--out", str(out), "--flow", flow, "--workers", "1"])


def rejected(root):
    with (root / "rejected.csv").open() as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


# ---------------------------------------------------------------------------- annotations
class TestSsv2:
    def test_both_namings(self, tmp_path):
        videos = tmp_path / "videos"
        videos.mkdir()
        (videos / "36585.mp4").touch()
        new = tmp_path / "new" / "labels"
        new.mkdir(parents=True)
        for file in SSV2.iterdir():
            shutil.copy(file, new / file.name.removeprefix("something-something-v2-"))
        made = [ssv2.read(folder, videos) for folder in (SSV2, tmp_path / "new")]
        assert made[0] == made[1]
        items = {i.id: i for i in made[0].items}
        assert items["78687"].labels["action"] == ("Holding something next to something",)
        assert items["93396"].labels["action"] == ("Something falling like a feather or paper",)
        assert items["4718"].labels["action"] == ("Stacking number of something",)
        assert items["78687"].path == videos / "78687.webm" and items["36585"].path.suffix == ".mp4"
        assert items["1420"].labels["action"] == ("Throwing something",)
        assert items["77"].labels["action"] == () and items["77"].split == "test"
        assert [i.split for i in made[0].items] == ["train"] * 3 + ["val"] + ["test"] * 3
        names = made[0].heads["action"]["names"]
        assert names == sorted(names) and names[5] == "Throwing something"

    def test_without_answers_test_has_no_labels(self, tmp_path):
        """Its scores go to the challenge's server; without its list there is none."""
        folder = tmp_path / "labels"
        shutil.copytree(SSV2, folder)
        (folder / "test-answers.csv").unlink()
        made = ssv2.read(folder, tmp_path)
        assert {i.labels["action"] for i in made.items if i.split == "test"} == {()}
        assert any("3 clips of test have no labels" in note for note in made.notes)
        (folder / "something-something-v2-test.json").rename(tmp_path / "away.json")
        assert {i.split for i in ssv2.read(folder, tmp_path).items} == {"train", "val"}
        (tmp_path / "away.json").rename(folder / "something-something-v2-test.json")
        (folder / "test-answers.csv").write_text("1;Throwing something\n\n2")
        with pytest.raises(ValueError, match=r"test-answers\.csv, line 3: '2' is no id;class: unpack"):
            ssv2.read(folder, tmp_path)

    def test_what_is_wrong_is_named(self, tmp_path):
        folder = tmp_path / "labels"
        shutil.copytree(SSV2, folder)
        with pytest.raises(FileNotFoundError, match="no folder of videos"):
            ssv2.read(folder, tmp_path / "none")
        for row in ("null", '{"id": "1", "template": null}'):
            (folder / "something-something-v2-train.json").write_text(f"[{row}]")
            with pytest.raises(ValueError, match="row 0 lacks"):
                ssv2.read(folder, tmp_path)
        (folder / "something-something-v2-train.json").write_text('[{"id": "1", "label": "x"}]')
        with pytest.raises(ValueError, match="row 0 lacks 'template'"):
            ssv2.read(folder, tmp_path)
        (folder / "something-something-v2-train.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"nor train\.json"):
            ssv2.read(folder, tmp_path)
        (folder / "something-something-v2-labels.json").write_text('{"a": "0", "b": "2"}')
        with pytest.raises(ValueError, match=r"not 0\.\.1"):
            ssv2.read(folder, tmp_path)

    def test_a_class_that_is_not_listed_is_that_clips_error(self, tmp_path):
        heads = {"action": {"kind": "single", "names": ["Throwing something"]}}
        with pytest.raises(files_lib.DecodeError, match="unknown label 'Spinning'"):
            clips.encode_labels(Item("1", tmp_path, "train", {"action": ("Spinning",)}), heads)


# ---------------------------------------------------------------------------- one clip
def test_labels():
    heads = HEADS | {"noun": {"kind": "multi", "names": ["cup", "box", "can"]}}
    item = Item("a", pathlib.Path("a.mp4"), "train", {"action": ("pull",), "noun": ("can", "cup")})
    out = clips.encode_labels(item, heads)
    assert out["action"] == 1 and out["noun"].tolist() == [1, 0, 1]
    unlabelled = item._replace(labels={}, split="test")
    assert clips.encode_labels(unlabelled, heads)["action"] == -1
    assert clips.encode_labels(unlabelled, heads)["noun"].tolist() == [0, 0, 0]
    with pytest.raises(files_lib.DecodeError, match="no label for action"):
        clips.encode_labels(item._replace(labels={}), heads)
    with pytest.raises(files_lib.DecodeError, match="2 labels for action"):
        clips.encode_labels(item._replace(labels={"action": ("push", "pull")}), heads)


def item(path, **paths):
    return Item("a", path, "train", {"action": ("push",)}, paths=paths)


def every_modality(folder):
    """A clip with depth, sound and boxes beside it."""
    path = video(folder / "a.mp4")
    (folder / "depth").mkdir()
    for t in range(14):
        cv2.imwrite(str(folder / "depth" / f"{t}.png"), np.full((32, 40), 1000 + t, np.uint16))
    rows = [[t, 0.1, 0.1, 0.5, 1.004, 1, 1, 0, 0] for t in range(14)]
    np.savetxt(folder / "boxes.csv", rows, delimiter=",")
    return item(path, depth=folder / "depth", audio=sound(folder / "a.wav"), boxes=folder / "boxes.csv")


@pytest.mark.parametrize("flow", ["dis", "tvl1-fast"])
def test_record_of_a_clip(tmp_path, flow):
    record = record_lib.prepare(every_modality(tmp_path), record_lib.Settings(flow=flow, flow_bound=8.0))
    assert record["num_frames"] == len(record["rgb"]) == len(record["depth"]) == 14
    assert len(record["flow_x"]) == len(record["flow_y"]) == 13
    assert np.allclose(record["times"], np.arange(14) / 12, atol=1e-3)
    rgb = fields.decode_frames(record, "rgb", range(14))
    assert abs(rgb.astype(int) - frames()).mean() < 12
    # The window moves by (2, 1) over the picture: the picture by (-2, -1) within it.
    planes = fields.decode_frames(record, "flow", range(13)).astype(np.float32)
    pixels = (planes / 127.5 - 1) * record["flow_bound"]
    assert np.allclose(np.median(pixels, (0, 1, 2)), [-2, -1], atol=0.3)
    assert fields.decode_frames(record, "depth", [3])[0, 0, 0, 0] == 1003
    assert len(np.frombuffer(record["audio"], np.int16)) == 24000
    assert record["boxes"].shape == (14, 9) and record["boxes"][:, 4].max() == 1.0


def test_an_interval_cuts_every_modality_alike(tmp_path):
    whole = every_modality(tmp_path)
    part = whole._replace(start=0.5, end=1.0)
    record = record_lib.prepare(part, record_lib.Settings(flow="none"))
    assert record["num_frames"] == len(record["depth"]) == 6 and record["times"][0] == 0
    assert fields.decode_frames(record, "depth", [0])[0, 0, 0, 0] == 1006
    assert len(record["audio"]) == 2 * 8000
    assert record["boxes"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_mp4_storage_has_even_sides_everywhere(tmp_path):
    path = tmp_path / "odd.png"
    cv2.imwrite(str(path), frames(height=31, width=37)[0])
    record = record_lib.prepare(item(path), record_lib.Settings(flow="none", rgb_storage="mp4"))
    assert (record["height"], record["width"]) == (30, 36) and not record["rgb"]
    assert fields.decode_frames(record, "rgb", [0]).shape == (1, 30, 36, 3)


def test_an_image_is_a_clip_of_one_frame(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), frames()[0])
    record = record_lib.prepare(item(tmp_path / "a.png"), record_lib.Settings())
    assert record["num_frames"] == 1 and record["flow_x"] == []


# ---------------------------------------------------------------------------- pictures, what is lacking
def numbered_pictures(folder, numbers, template="frame_{}_rgb.jpg"):
    """RGB pictures whose gray is ten times their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        cv2.imwrite(str(folder / template.format(n)), np.full((32, 40, 3), 10 * n, np.uint8))
    return folder / re.sub("{.*}", "*", template)


def numbered_maps(folder, numbers, template="frame_{}_depth.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        cv2.imwrite(str(folder / template.format(n)), np.full((16, 20), 1000 + n, np.uint16))
    return folder / re.sub("{.*}", "*", template)


def numbered_flow(folder, count):
    folder.mkdir(parents=True)
    for n in range(count):
        for axis, more in (("x", 0), ("y", 1)):
            cv2.imwrite(str(folder / f"flow_{axis}_{n}.png"), np.full((32, 40), 10 * n + more, np.uint8))
    return folder


NO_FLOW = record_lib.Settings(flow="none")


def contents(record):
    """(tens of RGB's gray, depth over 1000 mm, horizontal flow's tens) of every frame."""
    length = {"rgb": record["num_frames"] * bool(record["rgb"]), "depth": len(record["depth"]),
              "flow": len(record["flow_x"])}  # fmt: skip
    read = {
        field: fields.decode_frames(record, field, range(n))[:, 0, 0, 0].astype(int).tolist() if n else []
        for field, n in length.items()
    }
    return [round(v / 10) for v in read["rgb"]], [v - 1000 for v in read["depth"]], [v // 10 for v in read["flow"]]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 24), min_size=1, max_size=8), st.sets(st.integers(0, 24), min_size=1, max_size=8))
def test_pictures_are_paired_by_number(first, second):
    rgb = [pathlib.Path(f"frame_{n}_tc_{90000 - n}_rgb.jpg") for n in sorted(first)]
    depth = [pathlib.Path(f"{n:08d}.png") for n in sorted(second)]
    numbered = [record_lib._numbered(files) for files in (rgb, depth)]
    assert [sorted(number for number, _ in found) for found in numbered] == [sorted(first), sorted(second)]
    assert all(found[number, 0] == place for found, numbers in zip(numbered, (first, second))
               for place, number in enumerate(sorted(numbers)))  # fmt: skip


def test_frames_that_a_side_lacks_are_left_out(tmp_path):
    rgb = numbered_pictures(tmp_path / "a", [2, 3, 9, 10, 11])
    numbered_maps(tmp_path / "b", [3, 4, 9, 11, 20], "map {:08d}.png")
    clip = item(rgb, depth=tmp_path / "b", flow=numbered_flow(tmp_path / "f", 4))
    record = record_lib.prepare(clip, NO_FLOW)
    # Flow's fields count the RGB's frames, not their numbers.
    assert contents(record) == ([3, 9, 11], [3, 9, 11], [1, 2])
    assert record["num_frames"] == 3 and record["fps"] == 30.0
    with pytest.raises(files_lib.DecodeError, match="no frame has one number in"):
        record_lib.prepare(item(rgb, depth=numbered_maps(tmp_path / "c", [5, 6])), NO_FLOW)


def test_numbers_that_occur_twice_are_paired_in_turn():
    files = [pathlib.Path(f"frame_{n}_tc_{t}_rgb.jpg") for n, t in ((1, 5), (2, 6), (2, 7), (3, 8))]
    assert record_lib._numbered(files) == {(1, 0): 0, (2, 0): 1, (2, 1): 2, (3, 0): 3}
    assert record_lib._numbered([pathlib.Path(f"cam1_{n}.jpg") for n in (4, 5)]) == {(4, 0): 0, (5, 0): 1}
    assert record_lib._numbered([pathlib.Path("one.jpg"), pathlib.Path("two.jpg")]) == {}


def test_pictures_beside_a_video_belong_to_its_frames_in_turn(tmp_path):
    numbered_maps(tmp_path / "d", range(1, 16), "MDepth-{:08d}.png")
    record = record_lib.prepare(item(video(tmp_path / "a.mp4"), depth=tmp_path / "d"), NO_FLOW)
    assert record["num_frames"] == 14 and contents(record)[1] == list(range(1, 15))


@pytest.mark.parametrize("fps", [None, 10.0])
def test_pictures_are_cut_by_time(tmp_path, fps):
    """From 0.25 to 0.5 s: at 30 a second 8 to 14, at ten a second 3 and 4, everywhere alike."""
    clip = item(
        numbered_pictures(tmp_path / "a", range(20)), depth=numbered_maps(tmp_path / "a", range(20)),
        flow=numbered_flow(tmp_path / "f", 19),
    )._replace(start=0.25, end=0.5, fps=fps)  # fmt: skip
    wanted = [3, 4] if fps else list(range(8, 15))
    record = record_lib.prepare(clip, NO_FLOW)
    assert contents(record) == (wanted, wanted, wanted)
    assert record["times"][0] == pytest.approx(wanted[0] / (fps or 30) - 0.25)
    blind = clip._replace(path=None)
    assert contents(record_lib.prepare(blind, NO_FLOW)) == ([], wanted, wanted)


def test_without_rgb_depth_and_then_flow_say_how_long_and_large(tmp_path):
    depth, flow = numbered_maps(tmp_path / "d", range(5)), numbered_flow(tmp_path / "f", 5)
    blind = item(None, depth=depth, flow=flow)
    record = record_lib.prepare(blind, record_lib.Settings())  # no TV-L1 either
    assert [record[k] for k in ("num_frames", "height", "width", "fps")] == [5, 16, 20, 30.0]
    assert contents(record) == ([], list(range(5)), list(range(5))) and record["rgb_video"] == b""
    np.testing.assert_allclose(record["times"], np.arange(5) / 30, atol=1e-6)
    record = record_lib.prepare(blind._replace(paths={"flow": flow}, fps=15.0), record_lib.Settings())
    assert [record[k] for k in ("num_frames", "height", "width", "fps")] == [6, 32, 40, 15.0]
    with pytest.raises(files_lib.DecodeError, match="neither RGB nor depth nor flow"):
        record_lib.prepare(blind._replace(paths={"audio": sound(tmp_path / "a.wav")}), NO_FLOW)


@pytest.mark.parametrize("missing", ["path", "depth", "flow"])
def test_what_is_named_must_be_there(tmp_path, missing):
    paths = {"path": video(tmp_path / "a.mp4"), "depth": numbered_maps(tmp_path / "d", range(14)),
             "flow": numbered_flow(tmp_path / "f", 14), missing: tmp_path / "gone"}  # fmt: skip
    with pytest.raises(files_lib.DecodeError, match="missing file gone"):
        record_lib.prepare(item(paths.pop("path"), **paths), NO_FLOW)


@pytest.mark.parametrize("count, good", [(12, False), (13, True), (14, True), (15, False)])
def test_given_flow_is_as_long_as_the_clip_or_one_less(tmp_path, monkeypatch, count, good):
    monkeypatch.setattr(record_lib, "_flow", lambda *_: pytest.fail("computed all the same"))
    clip = item(video(tmp_path / "a.mp4"), flow=numbered_flow(tmp_path / "f", count))
    if not good:
        with pytest.raises(files_lib.DecodeError, match=f"{count} pictures of flow for 14 frames in 1.17 s"):
            record_lib.prepare(clip, record_lib.Settings())
        return
    record = record_lib.prepare(clip, record_lib.Settings(short_side=16))
    assert len(record["flow_x"]) == len(record["flow_y"]) == count
    assert record["flow_bound"] == 10.0  # half the size, half the pixels


def test_flow_in_colours_has_no_second_plane(tmp_path):
    numbered_pictures(tmp_path / "f", range(13), "{}.jpg")
    record = record_lib.prepare(item(video(tmp_path / "a.mp4"), flow=tmp_path / "f"), record_lib.Settings())
    assert record["flow_y"] == [] and len(record["flow_x"]) == 13 and record["flow_bound"] == 0
    assert record["flow_x"][3] == (tmp_path / "f" / "3.jpg").read_bytes()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("0,1\n0,1\n", "line 1 has 2 cells, and not 9: frame, x1, "),
        ("frame,x1\n\n0,0,0,1,1,1,1,0,0\n0,0,0,1,1,a,1,0,0\n", "readable: line 4, category is 'a', a number"),
        ("0,0,0,1,1,1,7,0,0\n", "the score 7 in frame 0: numbers from 0 to 1"),
        ("0.5,0,0,1,1,1,1,0,0\n", "the frame 0.5: whole numbers"),
        ("", "empty file"),
        ("0,10,10,200,150,1,1,0,0\n", r"in \[0, 1\]"),
        ("0,nan,0,1,1,1,1,0,0\n", "finite"),
        ("4,0,0,1,1,3,1,0,0\n", "the category 3 in frame 4: whole numbers from 1 to 2"),
        ("0,0,0,1,1,0,1,0,0\n", "the category 0"),
        ("0,0,0,1,1,1.5,1,0,0\n", "the category 1.5"),
        ("0,0,0,1,1,2,1,3,0\n", "the side 3 in frame 0: whole numbers from 0 to 2"),
        ("0,0,0,1,1,2,1,0,-1\n", "the state -1 in frame 0: whole numbers from 0 to 5"),
    ],
)
def test_boxes_that_are_wrong(tmp_path, text, reason):
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(files_lib.DecodeError, match=reason):
        box_rows.in_shares(box_rows.table(tmp_path / "b.csv"))


def test_boxes_with_a_header_and_none_at_all(tmp_path):
    (tmp_path / "b.csv").write_text("frame,x1,y1,x2,y2,category,score,side,state\n0,0,0,1,1,1,1,0,0\n")
    assert box_rows.in_shares(box_rows.table(tmp_path / "b.csv")).shape == (1, 9)
    (tmp_path / "b.csv").write_text("frame,x1\n")
    assert box_rows.in_shares(box_rows.table(tmp_path / "b.csv")).shape == (0, 9)


def test_key_follows_sources_and_settings(tmp_path):
    clip, settings = every_modality(tmp_path), record_lib.Settings()

    def key(clip=clip, settings=settings):
        return clips.keys([clip], settings)["a"]

    keys = [key(), key(clip._replace(end=1.0)), key(settings=settings._replace(quality=90))]
    assert key(clip._replace(labels={"action": ("pull",)}, split="val")) == keys[0]
    assert key() == keys[0]
    os.utime(tmp_path / "depth" / "3.png", ns=(1, 1))
    keys.append(key())
    video(tmp_path / "a.mp4", seed=5)
    keys.append(key())
    # The same files in other columns, at another rate; a picture that a pattern names.
    blind = clip._replace(path=None, paths={"depth": tmp_path / "depth"})
    keys += [key(blind), key(blind._replace(paths={"flow": tmp_path / "depth"})), key(blind._replace(fps=5.0))]
    keys.append(key(blind._replace(paths={"depth": tmp_path / "depth" / "*.png"})))
    os.utime(tmp_path / "depth" / "3.png", ns=(2, 2))
    keys.append(key(blind._replace(paths={"depth": tmp_path / "depth" / "*.png"})))
    (tmp_path / "depth" / "u").mkdir()
    keys.append(key())
    (tmp_path / "depth" / "u" / "1.png").touch()
    os.utime(tmp_path / "depth" / "u", ns=(3, 3))
    keys.append(key())
    os.utime(tmp_path / "depth" / "u" / "1.png", ns=(4, 4))
    keys.append(key())
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------------------- the command
@pytest.fixture
def faulty(tmp_path):
    """Good clips, and one of every fault. Returns the manifest and {id: reason}."""
    rows = []

    def add(name, path, **more):
        rows.append({"id": name, "path": path, "label": "push", "split": "train"} | more)

    for i in range(3):
        video(tmp_path / f"good{i}.mp4", seed=i)
        add(f"good{i}", f"good{i}.mp4", split=("train", "val", "test")[i])
    data = (tmp_path / "good0.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    hit = bytearray(data)
    for i in range(len(hit) // 2, len(hit) * 3 // 4, 40):
        hit[i] ^= 0xFF
    (tmp_path / "hit.mp4").write_bytes(bytes(hit))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video")
    sound(tmp_path / "only.wav")
    for name in ("cut", "hit", "empty", "text", "gone"):
        add(name, f"{name}.mp4")
    add("deaf", "only.wav")
    add("unlabelled", "good0.mp4", label="")
    add("unknown", "good0.mp4", label="dance")
    add("nodepth", "good0.mp4", depth="nowhere")
    add("late", "good0.mp4", start="9", end="10")
    labels = {"action": {"kind": "single", "names": ["push", "pull"]}}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return written(tmp_path / "clips.csv", rows), {
        "cut": "not readable", "hit": "damaged|not readable", "empty": "empty file",
        "text": "not readable", "gone": "missing file gone.mp4", "deaf": "no video stream",
        "unlabelled": "no label for action", "unknown": "unknown label 'dance'",
        "nodepth": "missing file nowhere", "late": "no frames between",
    }  # fmt: skip


def test_faults_are_recorded_and_the_rest_is_built(faulty, tmp_path, capsys):
    path, reasons = faulty
    out = tmp_path / "out"
    assert run("--manifest", path, out=out) == 0
    assert rejected(out).keys() == reasons.keys()
    for name, reason in rejected(out).items():
        assert re.search(reasons[name], reason), (name, reason)
    said = capsys.readouterr().out
    assert "3 of 13 clips" in said and "10 rejected" in said
    assert "train    1 of 11: rgb 1 of 1" in said
    assert "push" in said and "learns from RGB and optical flow" in said
    info = records.open_dataset(out).info
    assert info.splits == {"test": 1, "train": 1, "val": 1} and info.expected["train"] == 11
    # Nothing changed: nothing is made again, and the faulty are tried again.
    before = {p.name: p.stat().st_mtime_ns for p in (out / "prepared").glob("*.pkl")}
    assert run("--manifest", path, out=out) == 0
    assert "up to date" in capsys.readouterr().out
    assert before == {p.name: p.stat().st_mtime_ns for p in (out / "prepared").glob("*.pkl")}
    assert run("--manifest", path, "--strict", out=out) == 1
    assert "10 of 13 clips rejected" in capsys.readouterr().err
    # A repaired file comes in; what was there is kept.
    shutil.copy(tmp_path / "good1.mp4", tmp_path / "gone.mp4")
    assert run("--manifest", path, out=out) == 0
    assert "4 of 13 clips" in capsys.readouterr().out
    after = {p.name: p.stat().st_mtime_ns for p in (out / "prepared").glob("*.pkl")}
    assert before.items() < after.items() and len(after) == 4
    assert sorted(records.open_dataset(out).split("train").ids()) == ["gone", "good0"]


def test_strict_builds_nothing(faulty, tmp_path, capsys):
    path, reasons = faulty
    assert run("--manifest", path, "--strict", out=tmp_path / "out") == 1
    assert "--strict: 10 of 13" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metadata.json").exists()
    assert rejected(tmp_path / "out").keys() == reasons.keys()


def test_nothing_usable(tmp_path, capsys):
    (tmp_path / "in" / "push").mkdir(parents=True)
    (tmp_path / "in" / "push" / "a.mp4").touch()
    assert run("--folder", tmp_path / "in", out=tmp_path / "out") == 1
    assert "no clip could be used" in capsys.readouterr().err
    named = (("--folder",), ("--manifest",), ("--dataset", "nwucla", "--videos"))
    for *flags, flag in named:
        assert run(*flags, flag, tmp_path / "nowhere", out=tmp_path / "none") == 2
        assert f"{flag} {tmp_path}/nowhere: there is no such" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


NWUCLA = ("--dataset", "nwucla", "--videos", ".")


@pytest.mark.parametrize("flags, text", [
    (("--folder", "x", "--workers", "0"), "--workers is at least 1"),
    (("--folder", "x", "--quality", "0"), "--quality 1 to 100"),
    (("--folder", "x", "--flow_bound", "0"), "greater than 0"),
    (("--folder", "x", "--flow_bound", "nan"), "greater than 0"),
    (("--folder", "x", "--flow", "magic"), "magic"),
    (("--folder", "x", "--out", __file__), "test_data_prep.py is a file; name a folder"),
    (("--folder", "x", "--manifest", "y"), "not allowed with"),
    (("--folder", "x", "--train_views", "1"), "--train_views is of --dataset nwucla, uwa3d"),
    (("--folder", "x", "--speed", "1"), "unrecognized arguments: --speed 1"),
    ((), "--manifest --folder --dataset is required"),
    (("--dataset", "kinetics"), "'kinetics'"),
    (NWUCLA[:2], "arguments are required: --videos"),
    (NWUCLA[:2], "for instance: python -m data_prep.build --dataset nwucla --videos ROOT --out data/nwucla"),
    ((*NWUCLA, "--train_views", "x"), "--train_views: 'x': give the numbers of cameras"),
    ((*NWUCLA, "--train_views", "1,"), "'1,': give the numbers of cameras"),
    ((*NWUCLA, "--train_views", "9"), "there is no view 9; the views are 1, 2, 3"),
    ((*NWUCLA, "--train_views", "1", "--test_views", "1"), "view 1 is both"),
    ((*NWUCLA, "--train_views", "1,2,3"), "both need one"),
], ids=lambda value: " ".join(value)[-24:] if isinstance(value, tuple) else "")  # fmt: skip
def test_a_wrong_command_line_ends_with_2(flags, text, tmp_path, capsys):
    """Few lines, before any work."""
    out = [] if "--out" in flags else ["--out", str(tmp_path / "out")]
    try:
        code = build.main([*flags, *out])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and text in said and len(said.splitlines()) <= 4, said
    assert not (tmp_path / "out" / "metadata.json").exists()


def test_help_has_eighty_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        build.main(["--help"])
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "  python -m data_prep.build --folder" in text and "--train_views" in text


def test_folder_of_videos_becomes_a_dataset(tmp_path, capsys):
    """With flow, in spawned workers; prepared clips that are gone are not missed."""
    for i in range(6):
        video(tmp_path / "in" / ("push", "pull")[i % 2] / f"{i}.mp4", seed=i)
    flags = ["--folder", tmp_path / "in", "--short_side", "24"]
    assert run(*flags, out=tmp_path / "out", flow="dis") == 0
    dataset = records.open_dataset(tmp_path / "out")
    assert dataset.info.heads["action"]["names"] == ["pull", "push"]
    assert sum(dataset.info.splits.values()) == 6
    assert (dataset.info.height, dataset.info.width, dataset.info.fps) == (24, 30, 12.0)
    clip = dataset.split("train")[0]
    assert fields.decode_frames(clip, "flow", [0]).shape == (1, 24, 30, 2)
    shutil.rmtree(tmp_path / "out" / "prepared")
    capsys.readouterr()
    assert run(*flags, out=tmp_path / "out", flow="dis") == 0
    assert "up to date" in capsys.readouterr().out
    assert run(*flags, out=tmp_path / "out", flow="none") == 0
    assert records.open_dataset(tmp_path / "out").info.modalities["train"]["flow"] == 0


def test_new_labels_cost_no_decoding(tmp_path, monkeypatch):
    for i in range(3):
        video(tmp_path / f"{i}.mp4", seed=i)
    rows = [{"id": str(i), "path": f"{i}.mp4", "label": "push", "split": s}
            for i, s in enumerate(("train", "val", "test"))]  # fmt: skip
    assert run("--manifest", written(tmp_path / "m.csv", rows), out=tmp_path / "out") == 0
    rows[0]["label"] = "pull"
    monkeypatch.setattr(phases, "_pool", lambda *args: pytest.fail("decoded again"))
    assert run("--manifest", written(tmp_path / "m.csv", rows), out=tmp_path / "out") == 0
    info = records.open_dataset(tmp_path / "out").info
    assert info.heads["action"]["names"] == ["pull", "push"] and info.classes == {"action": [1, 2]}
    by_split = [counts["action"] for counts in info.split_classes.values()]
    assert np.sum(by_split, axis=0).tolist() == [1, 2] and set(info.split_classes) == set(info.splits)


def test_the_unexpected_rejects_a_clip_and_not_the_build(tmp_path, monkeypatch):
    video(tmp_path / "a.mp4")
    monkeypatch.setattr(record_lib, "prepare", lambda *args: 1 / 0)
    reason = clips.write(item(tmp_path / "a.mp4"), "a", record_lib.Settings(), tmp_path)
    assert reason.startswith("unexpected ZeroDivisionError") and (tmp_path / "a.rejected").exists()


def test_other_pictures_are_another_dataset(tmp_path):
    """The same names, labels and lengths: the fingerprint tells what was seen."""
    found = []
    for n, seed in enumerate((0, 0, 1)):
        for i in range(6):
            video(tmp_path / f"in{n}" / ("push", "pull")[i % 2] / f"{i}.mp4", seed=i + 10 * seed)
        assert run("--folder", tmp_path / f"in{n}", out=tmp_path / f"out{n}", flow="none") == 0
        info = records.open_dataset(tmp_path / f"out{n}").info
        assert sum(info.splits.values()) == 6, (tmp_path / f"out{n}" / "rejected.csv").read_text()
        found.append(info.fingerprint)
    assert found[0] == found[1] != found[2]


def test_what_a_clip_lacks_is_no_error(tmp_path, serial, capsys):
    """One clip of every kind; given flow counts for the fingerprint, and depth's range is written."""
    video(tmp_path / "a.mp4")
    numbered_maps(tmp_path / "d", range(14))
    numbered_flow(tmp_path / "f", 13)
    rows = [
        {"id": "all", "path": "a.mp4", "depth": "d", "flow": "f", "label": "x"},
        {"id": "depth", "path": "", "depth": "d/*_depth.png", "flow": "", "label": "x"},
        {"id": "flow", "path": "", "depth": "", "flow": "f", "label": "x"},
        {"id": "gone", "path": "", "depth": "nowhere", "flow": "", "label": "x"},
    ]
    path, found = written(tmp_path / "m.csv", rows), []
    for name in ("first", "second"):
        assert run("--manifest", path, out=tmp_path / name) == 0
        assert set(rejected(tmp_path / name)) == {"gone"}
        found.append(records.open_dataset(tmp_path / name))
        cv2.imwrite(str(tmp_path / "f" / "flow_y_3.png"), np.full((32, 40), 77, np.uint8))
    source = found[0].split("train")
    read = [source[i] for i in range(3)]
    have = [{m for m in ("rgb", "flow", "depth") if fields.present(r, m)} for r in read]
    assert have == [{"rgb", "flow", "depth"}, {"depth"}, {"flow"}]
    assert found[0].info.settings["depth_range"] == [1.007, 1.008]
    assert found[0].info.fingerprint != found[1].info.fingerprint
    assert "rgb 1 of 3, flow 2 of 3, depth 2 of 3" in capsys.readouterr().out


def test_a_dataset_from_before_depth_had_a_range_is_packed_again(tmp_path, serial, monkeypatch):
    video(tmp_path / "a.mp4")
    numbered_maps(tmp_path / "d", range(14))
    path = written(tmp_path / "m.csv", [{"id": "a", "path": "a.mp4", "depth": "d", "label": "x"}])
    assert run("--manifest", path, out=tmp_path / "out") == 0
    metadata = tmp_path / "out" / "metadata.json"
    new = json.loads(metadata.read_text())
    old = new | {"settings": {k: v for k, v in new["settings"].items() if k != "depth_range"}}
    metadata.write_text(json.dumps(old))
    monkeypatch.setattr(phases, "_pool", lambda *_: pytest.fail("decoded again"))
    assert run("--manifest", path, out=tmp_path / "out") == 0
    assert json.loads(metadata.read_text()) == new


def test_an_interrupted_packing_leaves_no_half_dataset(tmp_path, monkeypatch):
    for i in range(3):
        video(tmp_path / "in" / "push" / f"{i}.mp4", seed=i)
    out = tmp_path / "out"

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(phases, "write_json", fail)
        assert run("--folder", tmp_path / "in", out=out) == 1
    with pytest.raises(FileNotFoundError):
        records.open_dataset(out)
    assert run("--folder", tmp_path / "in", out=out) == 0
    assert sum(records.open_dataset(out).info.splits.values()) == 3


def test_tabletop(tmp_path, monkeypatch):
    """Of each size's clips (test_tabletop.py) a few."""
    sizes = {"train": 5, "val": 2, "test": 3, "unseen": 2}
    monkeypatch.setitem(specs.SIZES, "smoke", sizes)
    flags = ["--dataset", "tabletop", "--size", "smoke", "--view", "epic"]
    assert run(*flags, out=tmp_path / "t", flow="none") == 0
    info = records.open_dataset(tmp_path / "t").info
    assert info.name == "tabletop-smoke-epic" and set(info.heads) == {"noun", "verb"}
    assert info.settings["edition"] == tabletop_files.VERSION
    assert info.splits == info.expected == sizes
    assert all(n == info.splits[s] for s, have in info.modalities.items()
               for m, n in have.items() if m != "flow")  # fmt: skip


@pytest.mark.slow
def test_killed_and_run_again(tmp_path):
    """kill -9 of the whole group, by how far it came: the same command ends with the same records."""
    for i in range(24):
        video(tmp_path / "in" / ("push", "pull")[i % 2] / f"{i}.mp4", seed=i, count=30)
    flags = ["--folder", tmp_path / "in", "--flow", "dis", "--workers", "2"]
    prepared = tmp_path / "out" / "prepared"

    def command(out):
        return [sys.executable, "-m", "data_prep.build", *map(str, flags), "--out", str(out)]

    subprocess.run(command(tmp_path / "whole"), check=True, cwd=REPOSITORY, capture_output=True)
    for done in (1, 5, 12, 20, 24):
        process = subprocess.Popen(command(tmp_path / "out"), cwd=REPOSITORY, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        while process.poll() is None and len(list(prepared.glob("*.pkl"))) < done:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out" / "metadata.json").exists()
    subprocess.run(command(tmp_path / "out"), check=True, cwd=REPOSITORY, capture_output=True)
    assert not list(prepared.glob("*.tmp"))
    whole, again = (records.open_dataset(tmp_path / name) for name in ("whole", "out"))
    assert whole.info == again.info
    for split in whole.info.splits:
        for i in range(len(whole.split(split))):
            first, second = (pickle.dumps(d.split(split)[i]) for d in (whole, again))
            assert first == second


def test_spans_are_kept_and_read_as_the_classes_of_the_clip(tmp_path):
    rows = []
    for name, label, cut in (
        ("a", "sit@0-0.5|walk@0.4-9", {}),
        ("b", "sit@0-0.5|walk@0.4-9|sit@0.9-1", {"start": "0.6", "end": "0.8"}),
        ("c", "", {}),
        ("d", "sit", {}),
        ("e", "sit@2-1", {}),
    ):
        video(tmp_path / f"{name}.mp4", count=24)
        rows.append({"id": name, "path": f"{name}.mp4", "label": label, **cut})
    assert run("--manifest", written(tmp_path / "m.csv", rows), out=tmp_path / "out") == 0
    assert set(rejected(tmp_path / "out")) == {"d", "e"}
    opened = records.open_dataset(tmp_path / "out")
    assert opened.info.heads["action"]["kind"] == "spans" and opened.info.classes["action"] == [1, 2]
    source = opened.split("train")
    np.testing.assert_allclose(source[0]["label"]["action"], [[0, 0, 0.5], [1, 0.4, 9]])
    np.testing.assert_allclose(source[1]["label"]["action"], [[1, 0, 0.2]], atol=1e-6)
    assert source[2]["label"]["action"].shape == (0, 3)
    stream = Stream("rgb", "rgb", Sampling("uniform", 2))
    heads = {"action": Head(2, "multi")}
    batch = fake.tested(source, (stream,), heads=heads, size=16, batch_size=3)[0]["main"]
    np.testing.assert_array_equal(batch["label"]["action"], [[1, 1], [0, 1], [0, 0]])


def test_a_path_that_cannot_be_looked_at_is_one_clips_trouble(tmp_path):
    good, folder = video(tmp_path / "good.mp4"), tmp_path / "depth"
    folder.mkdir()
    (folder / "0001.png").symlink_to(tmp_path / "gone.png")
    rows = [
        {"id": "a", "path": good.name, "label": "x", "depth": ""},
        {"id": "b", "path": "n" * 300 + ".mp4", "label": "x", "depth": ""},
        {"id": "c", "path": good.name, "label": "x", "depth": "depth"},
    ]
    assert run("--manifest", written(tmp_path / "m.csv", rows), out=tmp_path / "out") == 0
    assert set(rejected(tmp_path / "out")) == {"b", "c"}


def test_beam_missing_names_the_line_that_installs_it(faulty, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert run("--manifest", faulty[0], "--beam_options", "runner=DirectRunner", out=tmp_path / "o") == 1
    assert "pip install -r requirements-beam.txt" in capsys.readouterr().err


@pytest.mark.slow
def test_beam_knows_the_options_of_the_recipes():
    pytest.importorskip("apache_beam", reason="optional: pip install -r requirements-beam.txt")
    from apache_beam.options.pipeline_options import PipelineOptions

    page = (REPOSITORY / "docs" / "scale.md").read_text()
    runners = set()
    for text in re.findall(r"--beam_options=(\S+)", page):
        given = dict(option.split("=", 1) for option in text.split(","))
        known = PipelineOptions(beam.flags(text)).get_all_options(drop_default=True)
        assert {name: str(known.get(name)) for name in given} == given
        runners.add(given["runner"])
    assert runners == {"DirectRunner", "FlinkRunner", "DataflowRunner"}


@pytest.mark.slow
def test_beam_direct_runner_equals_the_pool(faulty, tmp_path):
    pytest.importorskip("apache_beam", reason="optional: pip install -r requirements-beam.txt")
    command = [sys.executable, "-m", "data_prep.build", "--manifest", str(faulty[0]), "--flow", "none"]
    ways = {"pool": []}
    for mode, workers in (("in_memory", 1), ("multi_threading", 2), ("multi_processing", 2)):
        options = f"runner=DirectRunner,direct_running_mode={mode},direct_num_workers={workers}"
        ways[mode] = ["--beam_options", options]
    for name, more in ways.items():
        subprocess.run([*command, "--out", str(tmp_path / name), *more], check=True, cwd=REPOSITORY)
    pool = records.open_dataset(tmp_path / "pool")
    for mode in list(ways)[1:]:
        assert pool.info == records.open_dataset(tmp_path / mode).info, mode
        assert rejected(tmp_path / "pool") == rejected(tmp_path / mode), mode
