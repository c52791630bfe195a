"""The readers of NW-UCLA, UWA3DII and NTU RGB+D, on miniatures with the archives' true names."""

import csv
import importlib
import pathlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from data_prep import build, summary
from data_prep.manifest import Item, Manifest
from data_prep.readers import OWN_FILES, READERS, Reader, ntu, nwucla, splits, uwa3d
from mmvid.data import fields, records
from mmvid.data.media import record as record_lib

HEIGHT, WIDTH = 24, 32


def rgb(path, value=0):
    """A picture whose gray tells which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), value, np.uint8))


def depth(path, value=1000):
    """A 16-bit map of one distance in millimetres, at half the RGB's size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((HEIGHT // 2, WIDTH // 2), value, np.uint16))


def film(path, frames=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [np.full((HEIGHT, WIDTH, 3), 40 * t, np.uint8) for t in range(frames)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (WIDTH, HEIGHT))
    for picture in made:
        writer.write(picture)
    writer.release()


@pytest.fixture
def run(serial):
    """The command, which must succeed."""

    def run(*flags, out):
        assert build.main([*map(str, flags), "--out", str(out), "--flow", "none", "--workers", "1"]) == 0
        return records.open_dataset(out)

    return run


def every(opened):
    """{id: record} of a dataset."""
    sources = [opened.split(split) for split in opened.info.splits]
    return {record["id"]: record for source in sources for record in map(source.__getitem__, range(len(source)))}


def grays(record):
    """What ``rgb`` wrote into each frame."""
    return fields.decode_frames(record, "rgb", range(record["num_frames"])).mean((1, 2, 3)).round().tolist()


def millimetres(record):
    return fields.decode_frames(record, "depth", range(len(record["depth"])))[:, 0, 0, 0].tolist()


def split_of(made):
    return {item.id: item.split for item in made.items}


# ---------------------------------------------------------------------------- splits
def test_codes_are_read_by_letter():
    assert splits.codes("a01_s03_e02_v04") == splits.codes("v04_e02_a01_s03") == {"a": 1, "s": 3, "v": 4, "e": 2}
    assert splits.codes("a28_s01_v01") == {"a": 28, "s": 1, "v": 1}


@pytest.mark.parametrize(
    "train, test, reason",
    [
        ((1, 5), None, "no view 5; the views are"),
        ((1, 2), (2, 3), "view 2 is both"),
        ((1, 2, 3, 4), None, "to test: "),
        ((), None, "to train on: "),
    ],
)
def test_views_that_cannot_be(train, test, reason):
    with pytest.raises(ValueError, match=reason):
        splits.of_views((1, 2, 3, 4), train, test)


def listed(per_class):
    return [
        Item(f"{name}{i:03d}", None, "train", {"action": (name,)}, paths={"depth": name})
        for name, count in per_class.items()
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "per_class, expected",
    [
        ({"a": 100, "b": 60}, {"a": 4, "b": 4}),  # int(160 / 2 * 0.05)
        ({"a": 39, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 1}),  # at least one, of two or more
        ({"a": 200, "b": 3}, {"a": 5, "b": 2}),  # int(5.075); one stays to learn from
    ],
)
def test_a_twentieth_is_held_out(per_class, expected):
    items, names = listed(per_class), sorted(per_class)
    held = splits.hold_out(items, names)
    val = [item.id for item in held if item.split == "val"]
    assert {name: sum(i.startswith(name) for i in val) for name in names} == expected
    assert [item.id for item in held] == [item.id for item in items]
    # Neither the order of the list nor what else is in it moves the draw.
    again = splits.hold_out([*items[::-1], Item("t", None, "test", {"action": ("a",)})], names)
    assert {item.id for item in again if item.split == "val"} == set(val)


def test_nothing_is_held_out_of_what_holds_nothing():
    """An empty sequence is rejected later; it must not be a class's whole validation."""
    items = [item._replace(paths={}) if item.id != "a007" else item for item in listed({"a": 8, "b": 2})]
    assert {item.split for item in splits.hold_out(items, ["a", "b"])} == {"train"}


def test_draws_are_those_of_yesterday():
    """Splits are published by their seeds: other numbers here are other datasets."""
    ids = [str(i) for i in range(20)]
    assert sorted(map(int, splits.drawn(ids, 4, 7))) == [3, 8, 12, 13]
    assert sorted(map(int, splits.drawn(ids, 4, 7, 2))) == [7, 13, 15, 17]


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
def test_a_draw_is_a_part_and_repeats(size, count, seed):
    ids = [str(i) for i in range(size)]
    chosen = splits.drawn(ids, count, seed, 1)
    assert chosen == splits.drawn(ids, count, seed, 1) and chosen <= set(ids)
    assert len(chosen) == min(size, count)


# ---------------------------------------------------------------------------- NW-UCLA
def frame(folder, number, tick, *, without=()):
    """The four files of a frame; RGB and depth have ticks of their own."""
    if "rgb" not in without:
        rgb(folder / f"frame_{number}_tc_{tick}_rgb.jpg", 10 * number)
    if "depth" not in without:
        depth(folder / f"frame_{number}_tc_{tick + 3}_depth.png", 1000 + number)
    rgb(folder / f"frame_{number}_tc_{tick}_depth_vis.jpg", 255)
    (folder / f"frame_{number}_tc_{tick}_skeletons.txt").write_text("")


@pytest.fixture(scope="module")
def ucla(tmp_path_factory):
    """multiview_action: three views, two subjects, the irregularities in view 1."""
    root = tmp_path_factory.mktemp("ucla")
    base = root / "multiview_action"
    for view in (1, 2, 3):
        for action in (1, 8):
            for subject in (1, 2):
                for number in (2, 9, 10):
                    folder = base / f"view_{view}" / f"a{action:02d}_s{subject:02d}_e00"
                    frame(folder, number, 90467351 + number)
    first = base / "view_1" / "a01_s01_e00"
    # As text 11 < 2 < 9; 3 lacks its depth, 4 its RGB.
    frame(first, 11, 5)
    frame(first, 3, 7, without=("depth",))
    frame(first, 4, 8, without=("rgb",))
    (first / "fileList.txt").write_text("2 90467353\n")
    rgb(first / "._frame_5_tc_1_rgb.jpg")
    (base / "view_3" / "a12_s01_e05").mkdir()
    frame(base / "view_3" / "a11_s01_e01", 0, 1, without=("rgb",))
    frame(base / "view_3" / "a07_s01_e00", 0, 1)
    (base / "view_3" / "notes").mkdir()
    return root


class TestUcla:
    def test_split_by_view(self, ucla):
        made = nwucla.read(ucla)
        assert made.name == "nwucla-train12-test3"
        found = split_of(made)
        assert {i for i, s in found.items() if s == "test"} == {
            "a01_s01_v03_e00", "a01_s02_v03_e00", "a08_s01_v03_e00", "a08_s02_v03_e00",
            "a12_s01_v03_e05", "a11_s01_v03_e01", "a07_s01_v03_e00",
        }  # fmt: skip
        rest = {i: s for i, s in found.items() if s != "test"}
        assert set(rest) == {f"a0{a}_s0{s}_v0{v}_e00" for a in (1, 8) for s in (1, 2) for v in (1, 2)}
        for action in ("a01", "a08"):
            assert sorted(s for i, s in rest.items() if i.startswith(action)) == ["train"] * 3 + ["val"]
        assert nwucla.read(ucla) == made

    def test_views_are_a_choice(self, ucla):
        made = nwucla.read(ucla, train_views=(2, 3), test_views=(1,))
        assert {i[8:11] for i, s in split_of(made).items() if s == "test"} == {"v01"}
        assert {i[8:11] for i in split_of(nwucla.read(ucla, train_views=(2,), test_views=(3,)))} == {"v02", "v03"}
        assert made.name == "nwucla-train23-test1"

    def test_classes_skip_codes(self, ucla):
        made = nwucla.read(ucla)
        names = made.heads["action"]["names"]
        labels = {item.id[:3]: item.labels["action"][0] for item in made.items}
        assert len(names) == 10 and names.index(labels["a08"]) == 6 and names.index(labels["a12"]) == 9
        assert labels["a07"] not in names

    def test_archive_of_videos(self, tmp_path, ucla):
        base = tmp_path / "multiview_action_videos"
        for name in ("a01/v01_s01_e00", "a01/v02_s01_e00", "a08/v03_s10_e05"):
            film(base / f"{name}.avi")
        for root in (tmp_path, base):
            made = nwucla.read(root)
            assert {i.id: i.path.name for i in made.items} == {
                "a01_s01_v01_e00": "v01_s01_e00.avi",
                "a01_s01_v02_e00": "v02_s01_e00.avi",
                "a08_s10_v03_e05": "v03_s10_e05.avi",
            }
            assert all(item.paths == {} for item in made.items)

    def test_a_recording_in_both_archives(self, tmp_path):
        """RGB-D wins, unless its directory is empty."""
        frame(tmp_path / "multiview_action/view_1/a01_s01_e00", 1, 1)
        (tmp_path / "multiview_action/view_3/a01_s01_e00").mkdir(parents=True)
        for view in (1, 3):
            film(tmp_path / f"multiview_action_videos/a01/v0{view}_s01_e00.avi")
        found = {item.id[8:11]: item for item in nwucla.read(tmp_path).items}
        assert found["v01"].path.name == "*_rgb.jpg" and "depth" in found["v01"].paths
        assert found["v03"].path.name == "v03_s01_e00.avi"

    def test_flow_of_dmcl_counts_classes(self, tmp_path):
        """In its tree a07 is the seventh class, whose code is 8."""
        frame(tmp_path / "view_1/a08_s01_e00", 1, 1)
        frame(tmp_path / "view_3/a09_s01_e00", 1, 1)
        rgb(tmp_path / "flow/view_1/a07/a07_s01_e00/1.jpg")
        found = {item.id: item.paths.get("flow") for item in nwucla.read(tmp_path).items}
        assert found["a08_s01_v01_e00"] == tmp_path / "flow/view_1/a07/a07_s01_e00"
        assert found["a09_s01_v03_e00"] is None

    def test_built_and_read_back(self, ucla, tmp_path, run, capsys):
        opened = run("--dataset", "nwucla", "--videos", ucla, out=tmp_path / "out")
        read = every(opened)
        assert grays(read["a01_s01_v01_e00"]) == pytest.approx([20, 90, 100, 110], abs=1)
        assert millimetres(read["a01_s01_v01_e00"]) == [1002, 1009, 1010, 1011]
        assert read["a01_s01_v01_e00"]["fps"] == 30.0
        assert (read["a01_s01_v01_e00"]["height"], read["a01_s01_v01_e00"]["width"]) == (HEIGHT, WIDTH)
        only = read["a11_s01_v03_e01"]
        assert (only["num_frames"], only["height"], only["width"]) == (1, HEIGHT // 2, WIDTH // 2)
        assert not fields.present(only, "rgb") and millimetres(only) == [1000]
        assert opened.info.modalities["test"] == {"rgb": 4, "flow": 0, "depth": 5, "audio": 0, "boxes": 0}
        said = capsys.readouterr().out
        assert "nwucla-train12-test3: 13 of 15 clips" in said and "configs/dmcl.py:nwucla" in said
        with (tmp_path / "out" / "rejected.csv").open() as file:
            reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
        assert reasons.keys() == {"a12_s01_v03_e05", "a07_s01_v03_e00"}
        assert "neither RGB nor depth nor flow" in reasons["a12_s01_v03_e05"]
        assert "unknown label 'a07'" in reasons["a07_s01_v03_e00"]
        # 1 mm apart: what the training clips' middle maps read.
        assert opened.info.settings["depth_range"] == [1.009, 1.01]
        assert read["a01_s01_v01_e00"]["depth_range"] == (1.009, 1.01)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="multiview_action/view_1/a01_s01_e00"):
            nwucla.read(tmp_path)


# ---------------------------------------------------------------------------- UWA3DII
def uwa_rgb(root, name, count=3, first=1, tree="UWA3DII_RGB/UWA3D-RGB"):
    for n in range(first, first + count):
        rgb(root / tree / name / f"{n:03d},.jpg", 10 * n)


def uwa_depth(root, name, count=3, first=1, tree="UWA3D-Depth/WholeFrames"):
    for n in range(first, first + count):
        depth(root / tree / name / f"{n:03d}.png", 2000 + n)


class TestUwa:
    def test_split_by_view_and_names_by_letter(self, tmp_path):
        for name in ("a01_s01_v01_e00", "a01_s02_e00_v02", "a30_s01_v03_e00", "a01_s01_v04_e01"):
            uwa_rgb(tmp_path, name, 1)
        made = uwa3d.read(tmp_path)
        assert {i: s == "test" for i, s in split_of(made).items()} == {
            "a01_s01_v01_e00": False,
            "a01_s02_v02_e00": False,
            "a30_s01_v03_e00": True,
            "a01_s01_v04_e01": True,
        }
        assert sorted(split_of(made).values()) == ["test", "test", "train", "val"]
        names = made.heads["action"]["names"]
        assert names == [f"a{n:02d}" for n in range(1, 31)] and made.name == "uwa3d-train12-test34"
        assert {i.id[:3]: i.labels["action"] for i in made.items} == {"a01": ("a01",), "a30": ("a30",)}
        other = split_of(uwa3d.read(tmp_path, train_views=(3, 4), test_views=(1,)))
        assert set(other) == {"a01_s01_v01_e00", "a30_s01_v03_e00", "a01_s01_v04_e01"}

    def test_last_digit_of_the_repetition(self, tmp_path):
        """Joined where there is one of each; two candidates stay alone; the tens digit must agree."""
        for action, repetition in ((1, 1), (2, 1), (2, 2), (3, 1), (4, 1)):
            uwa_rgb(tmp_path, f"a{action:02d}_s01_v01_e{repetition:02d}", 1)
        for action, repetition in ((1, 0), (2, 0), (3, 10), (4, 1), (4, 0)):
            uwa_depth(tmp_path, f"a{action:02d}_s01_v01_e{repetition:02d}", 1)
        uwa_rgb(tmp_path, "a09_s01_v03_e01", 1)  # a view to test
        items, alone = uwa3d.read(tmp_path).items, tmp_path.name
        found = {i.id: (i.path is not None, i.paths.get("depth", tmp_path).name) for i in items}
        assert found == {
            "a01_s01_v01_e01": (True, "a01_s01_v01_e00"),
            "a02_s01_v01_e01": (True, alone),
            "a02_s01_v01_e02": (True, alone),
            "a02_s01_v01_e00": (False, "a02_s01_v01_e00"),
            "a03_s01_v01_e01": (True, alone),
            "a03_s01_v01_e10": (False, "a03_s01_v01_e10"),
            "a04_s01_v01_e01": (True, "a04_s01_v01_e01"),
            "a04_s01_v01_e00": (False, "a04_s01_v01_e00"),
            "a09_s01_v03_e01": (True, alone),
        }

    @pytest.mark.parametrize("tree", uwa3d.FLOW)
    def test_ready_made_flow(self, tmp_path, tree):
        """A folder for each recording, as its RGB is called; an empty one is none."""
        for name in ("a01_s01_v01_e00", "a02_s01_v01_e00"):
            uwa_rgb(tmp_path, name, 1)
            (tmp_path / tree / name).mkdir(parents=True)
        (tmp_path / tree / "a01_s01_v01_e00" / "flow_x_00001.jpg").touch()
        found = {item.id: item.paths for item in uwa3d.read(tmp_path).items}
        assert found["a01_s01_v01_e00"] == {"flow": tmp_path / tree / "a01_s01_v01_e00"}
        assert found["a02_s01_v01_e00"] == {}

    @pytest.mark.parametrize("chosen", range(len(uwa3d.DEPTH)))
    def test_the_first_tree_with_anything_is_the_depth(self, tmp_path, chosen):
        uwa_rgb(tmp_path, "a01_s01_v01_e00", 1, tree="UWA3D-RGB")
        for tree in uwa3d.DEPTH[chosen:]:
            uwa_depth(tmp_path, "a01_s01_v01_e00", 1, tree=tree)
        (tmp_path / uwa3d.DEPTH[0] / "a02_s01_v01_e00").mkdir(parents=True, exist_ok=True)  # empty
        (item,) = uwa3d.read(tmp_path).items
        assert item.paths == {"depth": tmp_path / uwa3d.DEPTH[chosen] / "a01_s01_v01_e00"}

    def test_built_and_read_back(self, tmp_path, run):
        raw = tmp_path / "raw"
        uwa_rgb(raw, "a01_s01_v01_e01", 10)  # 1 to 10
        uwa_depth(raw, "a01_s01_v01_e00", 9, first=3)  # 3 to 11
        uwa_depth(raw, "a02_s06_v03_e01", 2)
        opened = run("--dataset", "uwa3d", "--videos", raw, out=tmp_path / "out")
        read = every(opened)
        assert grays(read["a01_s01_v01_e01"]) == pytest.approx([10.0 * n for n in range(3, 11)], abs=1)
        assert millimetres(read["a01_s01_v01_e01"]) == list(range(2003, 2011))
        assert not read["a02_s06_v03_e01"]["rgb"] and read["a02_s06_v03_e01"]["num_frames"] == 2

    def test_matlab(self, tmp_path, run):
        raw, maps = tmp_path / "raw", np.arange(4 * 6 * 5).reshape(4, 6, 5)
        uwa_rgb(raw, "a28_s01_v01_e00", 4)
        (raw / "UWA3DII_Depth/ActionsNew").mkdir(parents=True)
        for name in ("a28_s01_v01", "a28_s02_v03"):
            savemat(raw / f"UWA3DII_Depth/ActionsNew/{name}.mat", {"curFrame": maps.astype(np.float64)})
        read = every(run("--dataset", "uwa3d", "--videos", raw, out=tmp_path / "out"))
        assert read.keys() == {"a28_s01_v01_e00", "a28_s02_v03"}
        both = read["a28_s01_v01_e00"]
        assert both["num_frames"] == len(both["depth"]) == 4  # not numbered: one for each frame
        np.testing.assert_array_equal(fields.decode_frames(both, "depth", [1])[0, ..., 0], maps[..., 1])

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="UWA3D-Depth/WholeFrames"):
            uwa3d.read(tmp_path)


# ---------------------------------------------------------------------------- NTU RGB+D
def ntu_id(subject, action, setup=1, camera=1):
    return f"S{setup:03d}C{camera:03d}P{subject:03d}R001A{action:03d}"


def ntu_depth(root, name, count=6, first=1, tree="nturgb+d_depth_masked"):
    letter = "MDepth" if "masked" in tree else "Depth"
    for n in range(first, first + count):
        depth(root / tree / name / f"{letter}-{n:08d}.png", 3000 + n)


def named(root, ids):
    """The videos' names: what readers look at before anything is decoded."""
    (root / "nturgb+d_rgb").mkdir(parents=True, exist_ok=True)
    for name in ids:
        (root / "nturgb+d_rgb" / f"{name}_rgb.avi").touch()


class TestNtu:
    def test_subjects(self, tmp_path):
        """The ends of the lists' runs, and 60's list within 120's."""
        train = {1, 2, 13, 19, 38, 45, 50, 52, 59, 80, 86, 91, 95, 103}
        test = {3, 12, 20, 40, 48, 51, 60, 79, 87, 90, 96, 102, 106}
        named(tmp_path, [ntu_id(s, a) for s in train | test for a in (1, 61)])
        found = split_of(ntu.read(tmp_path, "ntu120"))
        assert {int(i[9:12]) for i, s in found.items() if s in ("train", "val")} == train
        assert {int(i[9:12]) for i, s in found.items() if s == "test"} == test
        small = split_of(ntu.read(tmp_path, "ntu60"))
        assert {int(i[9:12]) for i, s in small.items() if s != "test"} == {s for s in train if s <= 40}
        assert {i[16:] for i in small} == {"A001"}
        assert [len(ntu.TRAIN_SUBJECTS[n]) for n in ("ntu60", "ntu120")] == [20, 53]
        assert ntu.TRAIN_SUBJECTS["ntu60"] == {s for s in ntu.TRAIN_SUBJECTS["ntu120"] if s <= 40}

    def test_mini_versions(self, tmp_path):
        """Of 2 x 22 training clips 2 x 1 are validation's, and 21 of 42 in two classes remain: 10 each."""
        trained = sorted(ntu.TRAIN_SUBJECTS["ntu120"])[:11]
        named(tmp_path, [ntu_id(s, a, camera=c) for s in (*trained, 3) for a in (5, 120) for c in (1, 2)])
        whole = split_of(ntu.read(tmp_path, "ntu120"))
        minis = [split_of(ntu.read(tmp_path, "ntu120_mini", version=v)) for v in (0, 1, 2)]
        parts = [{i for i, s in mini.items() if s == "train"} for mini in minis]
        for mini, part in zip(minis, parts):
            assert sorted(i[16:] for i in part) == ["A005"] * 10 + ["A120"] * 10
            assert part <= {i for i, s in whole.items() if s == "train"}
            rest = {i: s for i, s in mini.items() if s != "train"}
            assert rest == {i: s for i, s in whole.items() if s != "train"} and len(rest) == 2 + 4
        assert len(set(map(frozenset, parts))) == 3
        again = ntu.read(tmp_path, "ntu120_mini", version=1)
        assert split_of(again) == minis[1] and again.name == "ntu120_mini-1"
        with pytest.raises(ValueError, match="version=3"):
            ntu.read(tmp_path, "ntu120_mini", version=3)

    def test_trees(self, tmp_path):
        """Archives unpacked side by side; masked depth first; an empty folder is none."""
        names = [ntu_id(s, 1) for s in (1, 2, 3)]
        named(tmp_path / "nturgbd_rgb_s001", names[:1])
        named(tmp_path, names[1:2])
        (tmp_path / "nturgb+d_rgb" / "readme.txt").touch()
        for name in names:
            ntu_depth(tmp_path, name, 1, tree="nturgb+d_depth")
        plain = {i.id: i for i in ntu.read(tmp_path, "ntu60").items}
        assert plain[names[2]].path is None and plain[names[2]].paths["depth"].parent.name == "nturgb+d_depth"
        assert plain[names[0]].path.parents[1].name == "nturgbd_rgb_s001"
        ntu_depth(tmp_path / "nturgbd_depth_masked_s001", names[0], 1)
        (tmp_path / "nturgb+d_depth_masked" / names[1]).mkdir(parents=True)
        masked = {i.id: i.paths for i in ntu.read(tmp_path, "ntu60").items}
        assert masked.keys() == set(names[:2]) and masked[names[1]] == {}
        assert masked[names[0]]["depth"].parent.name == "nturgb+d_depth_masked"
        assert split_of(ntu.read(tmp_path / "nturgb+d_rgb", "ntu60")) == {names[1]: "train"}
        ntu_depth(tmp_path, names[0], 1, tree="nturgb+d_flow")
        flows = {i.id: i.paths.get("flow") for i in ntu.read(tmp_path, "ntu60").items}
        assert flows == {names[0]: tmp_path / "nturgb+d_flow" / names[0], names[1]: None}

    def test_built_and_read_back(self, tmp_path, run, capsys):
        raw, names = tmp_path / "raw", [ntu_id(s, a) for s in (1, 2, 3) for a in (1, 2)]
        for name in names[:-1]:
            film(raw / f"nturgb+d_rgb/{name}_rgb.avi")
        ntu_depth(raw, names[0], 7, first=0)
        ntu_depth(raw, names[1], 5, first=1)
        for name in names[2:4]:
            ntu_depth(raw, name)
        ntu_depth(raw, names[-1], 4)
        out = tmp_path / "out"
        opened = run("--dataset", "ntu120_mini", "--version", "2", "--videos", raw, out=out)
        read = every(opened)
        assert read.keys() <= set(names) and opened.info.splits == {"train": 2, "val": 2, "test": 2}
        assert not fields.present(read[names[-1]], "rgb") and read[names[-1]]["num_frames"] == 4
        assert millimetres(read[names[-1]]) == [3001, 3002, 3003, 3004]
        assert not fields.present(read[names[-2]], "depth") and len(read[names[-2]]["rgb"]) == 6
        # RGB and depth differ by one: a map for each of the six frames.
        assert millimetres(read[names[0]]) == [3000, 3001, 3002, 3003, 3004, 3005]
        assert millimetres(read[names[1]]) == [3001, 3002, 3003, 3004, 3005, 3005]
        said = capsys.readouterr().out
        assert "ntu120_mini-2: 6 of 6 clips" in said and "configs/dmcl.py:ntu120_mini" in said

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"S001C001P001R001A001_rgb\.avi"):
            ntu.read(tmp_path)


# ---------------------------------------------------------------------------- the command
# ---------------------------------------------------------------------------- the command line
@pytest.mark.parametrize("flags, said", [
    ("--dataset ntu60 --videos x --train_views 1", "--train_views is of --dataset nwucla, uwa3d"),
    ("--dataset ntu60 --videos x --test_views=1", "--test_views is of --dataset nwucla, uwa3d"),
    ("--dataset ntu120 --videos x --version 1", "--version is of --dataset ntu120_mini"),
    ("--folder x --size small", "--size is of --dataset tabletop"),
    ("--dataset nwucla --videos x --train_views one", "--train_views: 'one': give the numbers"),
    ("--dataset ntu120_mini --videos x --version 3", "--version: invalid choice"),
    ("--dataset nwucla", "required: --videos"),
    ("--dataset ssv2 --videos x", "required: --annotations"),
    ("--folder x --fast", "unrecognized arguments: --fast"),
])  # fmt: skip
def test_flags_that_a_dataset_lacks_or_needs(flags, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        build.parse([*flags.split(), "--out", "y"])
    assert said in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path, capsys):
    for flags, code, reason in (
        (["--videos", str(tmp_path)], 1, "unpack an archive"),
        (["--videos", str(tmp_path), "--train_views", "1,4"], 2, "no view 4"),
    ):
        assert build.main(["--dataset", "nwucla", "--out", str(tmp_path / "out"), *flags]) == code
        assert reason in capsys.readouterr().err


def test_every_row_is_told_of_and_offers_what_there_is(capsys):
    """Flags and lines stand in --help; each variant is one of its configuration's."""
    with pytest.raises(SystemExit, match="0"):
        build.parse(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    known = {training.config for training in summary.TRAININGS}
    for name, row in (READERS | OWN_FILES).items():
        assert name in told and row.about in told, name
        assert set(row.variants) <= known and set(row.stored) <= set(record_lib.Settings._fields)
        assert all(flag in told and options["help"] in told for flag, options in row.flags.items())
        for config, variant in row.variants.items():
            variants = importlib.import_module(config.removesuffix(".py").replace("/", ".")).VARIANTS
            assert variant in variants, (name, config)


def read_toy(labels, extra, clips_of):
    """A dataset as they come: labels in files of its own, a split in each, clips in a third place."""
    items = []
    for split, file in (("train", labels / "train.txt"), ("val", labels / "val.txt"), ("test", extra)):
        for line in file.read_text().splitlines():
            name, _, label = line.partition(" ")
            items.append(Item(name, clips_of / f"{name}.avi", split, {"action": (label,)}))
    return Manifest("toy", items, {"action": {"kind": "single", "names": ["pull", "push"]}})


TOY = Reader(
    "a toy",
    lambda args: read_toy(args.labels, args.answers, args.clips),
    flags={
        "--labels": dict(required=True, type=pathlib.Path, help="folder of train.txt and val.txt"),
        "--answers": dict(required=True, type=pathlib.Path, help="of the split 'test'"),
        "--clips": dict(default=".", type=pathlib.Path, help="folder of the films"),
    },
    stored=dict(flow="dis", short_side=16, flow_bound=7.0),
    variants={summary.MML: "smoke"},
)


def test_a_new_dataset_is_a_row(tmp_path, monkeypatch, serial, capsys):
    """A function that reads it and a row are all: flags, defaults, phases and the next command follow."""
    monkeypatch.setitem(READERS, "toy", TOY)
    for name in ("a", "b", "c", "d"):
        film(tmp_path / "films" / f"{name}.avi", 4 + ord(name) % 4)
    for name, text in (("train", "a push\nb pull"), ("val", "c push"), ("answers", "d pull")):
        (tmp_path / f"{name}.txt").write_text(text)
    flags = ["--dataset", "toy", "--labels", tmp_path, "--answers", tmp_path / "answers.txt"]
    flags += ["--clips", tmp_path / "films", "--out", tmp_path / "out", "--workers", "1", "--flow_bound", "9"]
    assert build.main([*map(str, flags)]) == 0
    opened = records.open_dataset(tmp_path / "out")
    assert opened.info.splits == {"test": 1, "train": 2, "val": 1} and opened.info.name == "toy"
    stored = opened.info.settings
    assert (stored["flow"], stored["short_side"], stored["flow_bound"], stored["quality"]) == ("dis", 16, 9.0, 95)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[5] for line in said if line.startswith(("next:", "  or:"))] == [
        "--config=configs/mml.py:smoke"
    ]
    with pytest.raises(SystemExit, match="2"):
        build.parse(["--dataset", "ntu60", "--videos", "x", "--out", "y", "--labels", "z"])
    assert "--labels is of --dataset toy" in capsys.readouterr().err
