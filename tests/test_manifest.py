"""What a CSV or a folder of classes says that there is to prepare."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import manifest
from data_prep.readers import folder, table
from mmvid.data import frames as frames_lib
from mmvid.data.media import pictures
from mmvid.data.media.item import printable


def written(path, rows):
    columns = list(dict.fromkeys(c for row in rows for c in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# ---------------------------------------------------------------------------- CSV
class TestCsv:
    def test_columns(self, tmp_path):
        rows = [
            {"id": "a", "path": "x/a.mp4", "label/verb": "push", "label/noun": "cup|box", "split": "val",
             "start": "1.5", "end": "3", "depth": "d/a", "audio": "", "boxes": "a.csv"},
            {"id": "b", "path": "b.mp4", "label/verb": "pull, hard", "label/noun": ""},
        ]  # fmt: skip
        made = table.read(written(tmp_path / "m.csv", rows))
        first, second = made.items
        assert first.path == tmp_path / "x/a.mp4" and (first.start, first.end) == (1.5, 3.0)
        assert first.paths == {"depth": tmp_path / "d/a", "boxes": tmp_path / "a.csv"}
        assert first.labels == {"verb": ("push",), "noun": ("cup", "box")}
        assert second.split == "train" and second.end is None and second.paths == {}
        assert made.heads == {
            "noun": {"kind": "multi", "names": ["box", "cup"]},
            "verb": {"kind": "single", "names": ["pull, hard", "push"]},
        }

    def test_any_modality_may_be_lacking(self, tmp_path):
        text = "id,path,depth,flow,audio,fps,label\na,,d,,,12.5,x\nb,,,f,,,x\nc,,,,c.wav,,x\n"
        (tmp_path / "m.csv").write_text(text)
        items = table.read(tmp_path / "m.csv").items
        assert [item.path for item in items] == [None] * 3 and [item.fps for item in items] == [12.5, None, None]
        assert [{k: v.name for k, v in i.paths.items()} for i in items] == [
            {"depth": "d"}, {"flow": "f"}, {"audio": "c.wav"},
        ]  # fmt: skip

    def test_byte_order_mark_and_plain_label(self, tmp_path):
        (tmp_path / "m.csv").write_bytes("\ufeffid,path,label\nü,ü.mp4,größer\n".encode())
        made = table.read(tmp_path / "m.csv")
        assert made.items[0].labels == {"action": ("größer",)}

    @pytest.mark.parametrize(
        "text, reason",
        [
            ("", "lacks the column id, path, label"),
            ("id,label\na,b\n", "lacks the column path; it has"),
            ("id,path\na,b\n", r"lacks the column label \(or label/<head>\)"),
            ("id,path,label\n", "no rows"),
            ("id,path,label\na,a.mp4,x\na,b.mp4,x\n", "the id 'a' occurs twice"),
            ("id,path,label,start\na,a.mp4,x,soon\n", "line 2: start='soon' is not a number"),
            ("id,path,label,start,end\na,a.mp4,x,4,2\n", "line 2: end=2.0 must be greater"),
            ("id,path,label\na,a.mp4,x\n,b.mp4,x\n", "line 3: id=''"),
            ("id,path,label\na\n", "line 2: .*path=''"),
            ("id,path,label,split\na,a.mp4,x,../up\n", "split='../up'"),
            ("id,path,label,depth\na,,x,d\nb,,x,\n", "line 3: .*one of depth, flow, audio, boxes"),
            ("id,path,label,fps\na,a,x,many\n", "line 2: fps='many'"),
            ("id,path,label,fps\na,a,x,0\n", "line 2: fps='0'"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, text, reason):
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(ValueError, match=reason):
            table.read(tmp_path / "m.csv")

    def test_columns_that_nobody_reads_are_named(self, tmp_path):
        path = written(tmp_path / "m.csv", [{"id": "a", "path": "a", "label": "x", "spilt": "val"}])
        assert "not used: spilt" in table.read(path).notes[0]

    @pytest.mark.parametrize(
        "text, reason",
        [
            ("[1]", "is not"),
            ('{"action": {"names": ["x"]}}', "is not"),
            ('{"verb": {"kind": "single", "names": ["x"]}}', "the CSV's label columns"),
            ('{"action": {"kind": "single", "names": ["x", "x"]}}', "occurs twice"),
        ],
    )
    def test_labels_json(self, tmp_path, text, reason):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(ValueError, match=reason):
            table.read(written(tmp_path / "m.csv", [{"id": "a", "path": "a.mp4", "label": "x"}]))


PLAIN = "id,path,label\nü,ü.mp4,größer\nb,b.mp4,x\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path, encoding, separator):
    path = tmp_path / "m.csv"
    path.write_bytes(PLAIN.replace(",", separator).encode(encoding))
    made = table.read(path)
    assert [(i.id, i.path.name, i.labels["action"]) for i in made.items] == [
        ("ü", "ü.mp4", ("größer",)), ("b", "b.mp4", ("x",)),
    ]  # fmt: skip
    said = {"cp1252": ["was read as Windows-1252; line 2 became"]}.get(encoding, [])
    said += {",": [], ";": ["parted by semicolons"], "\t": ["parted by tabs"]}[separator]
    assert len(made.notes) == len(said) and all(word in note for word, note in zip(said, made.notes))


@pytest.mark.parametrize(
    "data, reason",
    [
        (PLAIN.encode("utf-16-le"), "line 1: a NUL byte.*save it as UTF-8"),
        (b"id,path,label\na,b\0,c\n", "line 2: a NUL byte"),
        (b"\xff\xfei\0d\0,", "begins as utf-16 and is damaged"),
        (b"id,path,label\na,b,\x81\n", "neither UTF-8 nor Windows-1252"),
        (b'id,path,label\na,"b.mp4,c\nd,e,f\n', "line 3.*is a quote not closed"),
        (b'id,"path,label\n', "line 1.*is a quote not closed"),
        (b"id,path,label\na,a.mp4,push,hard\n", "line 2: 4 cells for 3 columns.*'hard'.*quotes"),
        (b"id,path,label,split,Label\na,a,x,,y\n", "column 'label' occurs twice .columns 3 and 5"),
        (b"id,path,label,label/action\na,a,x,y\n", "heads 'action' and 'action' are one"),
        (b"id,path,label/Verb,label/verb\na,a,x,y\n", "heads 'Verb' and 'verb'"),
        (b"id,path,label/verb/fine\na,a,x\n", "head 'verb/fine'.*letters, digits, _ and -"),
        (b"id,path,label/a b\na,a,x\n", "head 'a b'"),
        (b"id,path,label/v,label/n,label/n_and_v\na,a,x,y,z\n", "head 'n_and_v' bears the name"),
        (b"id,path,label,split\na,a,x,all\n", "line 2: split='all' is reserved"),
        (b"id,path,label,split\na,a,x,left out\n", "line 2: split='left out'"),
        (b"id,path,label,split\na,a,,test\n", "no row has a label for 'action'"),
        (b'id,path,label\n"a\nb",a,x\n', "line 3: id='a.nb' holds a line break"),
        (b"id,path,label\n \t ,a,x\n", "line 2: id=''"),
        (b"id,path,label,start\na,a.png,x,3\n", "line 2: start=3.0 of the picture a.png"),
        (b"id,filepath,label\na,b,c\n", "lacks the column path.*is 'filepath' meant"),
        (b"id,path,labels\na,b,c\n", "lacks the column label.*is 'labels' meant"),
    ],
)
def test_what_cannot_be_read_right_is_refused(tmp_path, data, reason):
    (tmp_path / "m.csv").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        table.read(tmp_path / "m.csv")


def test_headers_and_splits_as_people_write_them(tmp_path):
    (tmp_path / "m.csv").write_text(
        'ID, Path , Label/ Verb,SPLIT,\na, a.mp4,"x, y",Train,\n\nb,b.mp4,z,validation\n,,,,\nc,c.mp4,z,TEST,\n'
        "d,d.mp4,z,Unseen,,,\n"
    )
    made = table.read(tmp_path / "m.csv")
    assert [(i.id, i.path.name, i.split) for i in made.items] == [
        ("a", "a.mp4", "train"), ("b", "b.mp4", "val"), ("c", "c.mp4", "test"), ("d", "d.mp4", "Unseen"),
    ]  # fmt: skip
    assert made.items[0].labels == {"Verb": ("x, y",)}
    assert made.notes == (
        "split 'TEST' was read as 'test' (1 clips)",
        "split 'Train' was read as 'train' (1 clips)",
        "split 'validation' was read as 'val' (1 clips)",
        "1 rows have fewer cells than the header, the first in line 4: what lacks was read as empty",
    )


def test_classes_are_in_the_order_of_their_numbers(tmp_path):
    names = ["10", "2", "0", "1", "b", "a 10", "a 9", "Z"]
    rows = [{"id": n, "path": "x", "label": n} for n in names]
    heads = table.read(written(tmp_path / "m.csv", rows)).heads
    assert heads["action"]["names"] == ["0", "1", "2", "10", "Z", "a 9", "a 10", "b"]


@given(st.sets(st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=5)))
def test_names_without_digits_are_sorted_as_ever(names):
    assert sorted(names, key=manifest.natural) == sorted(names)


@pytest.mark.parametrize("slip, kind", [("x|y", "multi"), ("x@1-2", "spans")])
def test_a_slip_does_not_change_what_all_labels_are(tmp_path, slip, kind):
    rows = [{"id": str(i), "path": "p", "label": "xy"[i % 2]} for i in range(30)]
    rows[7]["label"] = slip
    with pytest.raises(ValueError, match=rf"line 9: .*'{kind}'.* 1 of 30 .*labels\.json"):
        table.read(written(tmp_path / "m.csv", rows))
    few = table.read(written(tmp_path / "m.csv", rows[:8]))
    assert few.heads["action"]["kind"] == kind and "1 of 8 labelled rows" in few.notes[0]
    (tmp_path / "labels.json").write_text(json.dumps({"action": {"kind": kind, "names": ["x", "y"]}}))
    meant = table.read(written(tmp_path / "m.csv", rows))
    assert meant.heads["action"]["kind"] == kind and meant.notes == ()


@pytest.mark.parametrize(
    "names, reason", [("xy", "is not"), (["x "], "no label is 'x '"), ([], "no class"), (["a|b"], "no label is")]
)
def test_classes_in_labels_json_that_no_label_can_name(tmp_path, names, reason):
    (tmp_path / "labels.json").write_text(json.dumps({"action": {"kind": "single", "names": names}}))
    with pytest.raises(ValueError, match=reason):
        table.read(written(tmp_path / "m.csv", [{"id": "a", "path": "a.mp4", "label": "x"}]))


# ---------------------------------------------------------------------------- folders
def test_folder_of_classes(tmp_path):
    for name in ("push/a.mp4", "push/b.webm", "pull/deep/c.avi", "pull/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "push/notes.txt").touch()
    made = folder.read(tmp_path)
    assert {i.id: i.labels["action"] for i in made.items} == {
        "push/a.mp4": ("push",), "push/b.webm": ("push",),
        "pull/deep/c.avi": ("pull",), "pull/d.png": ("pull",),
    }  # fmt: skip
    assert {i.split for i in made.items} == {"train", "val", "test"}
    for split in ("Train", "validation", "test"):
        (tmp_path / "split" / split / "push").mkdir(parents=True)
        (tmp_path / "split" / split / "push" / "e.mp4").touch()
    named = folder.read(tmp_path / "split").items
    assert [i.split for i in named] == ["train", "test", "val"]
    assert {i.labels["action"] for i in named} == {("push",)}
    shutil.move(tmp_path / "pull", tmp_path / "split" / "pull")
    with pytest.raises(ValueError, match=r"both folders of splits and \['pull'\]"):
        folder.read(tmp_path / "split")
    with pytest.raises(ValueError, match=r"CLASS/clip\.mp4"):
        folder.read(tmp_path / "push")


@given(st.sets(st.text("abcdefgh", min_size=3), min_size=20), st.integers(3, 20))
def test_splits_stay_when_clips_are_added(names, few):
    names = sorted(names)
    before, after = folder._splits(names[:few]), folder._splits(names)
    hashed = {0 if (p := folder._place(n)) < 80 else 1 if p < 90 else 2 for n in names[:few]}
    if hashed == {0, 1, 2}:
        assert all(after[name] == before[name] for name in before)


@given(st.sets(st.text("abcdefgh", min_size=1), min_size=3, max_size=30))
def test_no_split_is_empty(names):
    assert set(folder._splits(sorted(names)).values()) == set(manifest.SPLITS)


def found(root):
    made = folder.read(root)
    return {item.id: item.path.relative_to(root).as_posix() for item in made.items}, made.notes


@pytest.mark.parametrize("top", ["", "train/"])
def test_a_folder_of_numbered_pictures_is_one_clip(tmp_path, top):
    frames = [f"clip{k}/frame_{i:03d}.jpg" for k in range(40) for i in (1, 2, 3)]
    files(tmp_path, *(f"{top}run/{name}" for name in frames), *(f"{top}walk/ann/c/{i}.png" for i in range(12)))
    files(tmp_path, *(f"{top}walk/{name}.jpg" for name in ("a_1", "a_2")))
    paths, notes = found(tmp_path)
    assert paths == {
        name: name
        for name in [f"{top}run/clip{k}" for k in range(40)]
        + [f"{top}walk/ann/c", f"{top}walk/a_1.jpg", f"{top}walk/a_2.jpg"]
    }
    assert "2 pictures are a clip of one frame each" in notes[0] + notes[1]
    assert "41 folders of numbered pictures are a clip each" in notes[0] + notes[1]


def test_of_a_mixed_folder_what_is_a_clip_is_taken(tmp_path):
    files(tmp_path, "run/a/f_1.jpg", "run/a/f_2.jpg", "run/a/f_3.jpg", "run/a/cover.jpg")
    files(tmp_path, "run/b/film.mp4", "run/b/f_1.jpg", "run/b/f_2.jpg")
    files(tmp_path, "run/c.mp4", "run/c.jpg", "run/c/1.jpg", "run/c/2.jpg", "run/d.png")
    files(tmp_path, "run/e/rgb/1.jpg", "run/e/rgb/2.jpg", "run/e/depth/1.png", "run/e/depth/2.png")
    files(tmp_path, "run/one/frame_001.jpg", "run/one/.hidden.mp4", "run/one/._frame_001.jpg")
    paths, notes = found(tmp_path)
    assert paths == {
        "run/a": "run/a/f_[0-9]*.jpg", "run/b/film.mp4": "run/b/film.mp4", "run/c.mp4": "run/c.mp4",
        "run/d.png": "run/d.png", "run/e/rgb": "run/e/rgb", "run/one": "run/one",
    }  # fmt: skip
    pattern = tmp_path / paths["run/a"]
    assert [p.name for p in pictures.sequence(pattern)] == ["f_1.jpg", "f_2.jpg", "f_3.jpg"]
    for said in (
        "4 frames beside their video (run/b/f_1.jpg, ..)", "1 pictures named as a video (run/c.jpg)",
        "1 pictures beside numbered ones (run/a/cover.jpg)",
        "2 pictures of depth, flow or masks, which a CSV can name (run/e/depth/1.png, ..)",
    ):  # fmt: skip
        assert said in notes[-1]


@pytest.mark.parametrize(
    "names", [("1_rgb.jpg", "2_rgb.jpg", "1_depth.png", "2_depth.png"),
              ("clip1_1.jpg", "clip1_2.jpg", "clip2_1.jpg", "clip2_2.jpg")]
)  # fmt: skip
def test_pictures_of_several_clips_in_one_folder_are_refused(tmp_path, names):
    files(tmp_path, *(f"run/a/{name}" for name in names))
    with pytest.raises(ValueError, match=r"run/a holds several series of pictures.*--manifest"):
        folder.read(tmp_path)


def test_pictures_without_numbers_below_a_class_stay_together(tmp_path):
    names = [f"{'ab'[k % 2]}{'xyz'[i]}" for k in range(40) for i in range(3)]
    files(tmp_path, *(f"run/p{k}/{'xyz'[i]}{names[i]}.jpg" for k in range(40) for i in range(3)))
    splits = {}
    for item in folder.read(tmp_path).items:
        splits.setdefault(item.path.parent, set()).add(item.split)
    assert len(splits) == 40 and all(len(s) == 1 for s in splits.values())
    assert set.union(*splits.values()) == set(manifest.SPLITS)


def test_links_are_followed_and_loops_are_not(tmp_path):
    files(tmp_path / "disk", "jump/a.mp4", "jump/deep/b.mp4")
    root = files(tmp_path / "set", "run/c.mp4")
    (root / "jump").symlink_to(tmp_path / "disk" / "jump")
    (root / "run" / "again").symlink_to(root)
    (root / "run" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    made = folder.read(root)
    assert {i.id for i in made.items} == {"jump/a.mp4", "jump/deep/b.mp4", "run/c.mp4", "run/gone.mp4"}
    assert made.heads["action"]["names"] == ["jump", "run"]
    assert made.notes == ("passed over: 1 links back to a folder above (run/again)",)


def test_what_was_built_within_the_folder_is_not_read(tmp_path):
    files(tmp_path, "run/a.mp4", "out/build.lock", "out/prepared/b.mp4")
    made = folder.read(tmp_path)
    assert [i.id for i in made.items] == ["run/a.mp4"]
    assert made.notes == ("passed over: 1 datasets made by data_prep (out)",)


def test_whatever_is_a_video_is_found_and_the_rest_is_named(tmp_path):
    endings = ["ogv", "ts", "3gp", "MTS", "gif", "m2ts", "vob", "mpg", "asf", "divx", "MP4"]
    root = files(tmp_path, *(f"run/{i}.{e}" for i, e in enumerate(endings)))
    files(root, "run/a.txt", "run/b.txt", "run/c.wav", "run/d.foo", "run/e", "f.mp4", "empty/g.csv")
    files(root, "run/Thumbs.db", "run/.DS_Store", "run/._1.ts", "__MACOSX/run/h.mp4")
    (root / "run" / "film.odd").write_bytes(frames_lib.encode_mp4(np.zeros((3, 32, 32, 3), np.uint8), 10.0))
    made = folder.read(root)
    assert {i.path.name for i in made.items} == {*(f"{i}.{e}" for i, e in enumerate(endings)), "film.odd"}
    assert made.notes == (
        "folders of classes without a clip: 'empty'",
        "passed over: 1 .csv (empty/g.csv), 1 .foo (run/d.foo), 2 .txt (run/a.txt, ..), 1 .wav (run/c.wav), "
        "1 outside of a class folder (f.mp4), 1 without an ending (run/e)",
    )


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are POSIX's")
def test_names_that_are_not_utf8_become_printable_ids(tmp_path):
    (tmp_path / "run").mkdir()
    raw = os.fsencode(tmp_path / "run") + b"/caf\xe9.mp4"
    try:
        os.close(os.open(raw, os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    (item,) = folder.read(tmp_path).items
    assert item.id == r"run/caf\xe9.mp4" and os.fsencode(item.path) == raw
    assert printable("a\nb\tü") == r"a\nb\tü"
