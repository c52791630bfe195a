"""Charades' reader, on a miniature with the true names and columns of its lists, and what is trained on it."""

import pathlib

import numpy as np
import pytest
from test_configs import context, shallow
from test_gblend_readers import edited, fetched
from test_readers import film

from configs import mml
from data_prep import build
from data_prep.readers import charades
from mmvid import plans
from mmvid.data import records, sampling
from mmvid.data.augment import Augment, test_windows
from mmvid.plans import networks
from mmvid.streams import Views

LISTS = pathlib.Path(__file__).parent / "fixtures" / "charades"
NAMES = ["Holding some clothes", "Putting clothes somewhere", "Taking some clothes from somewhere",
         "Throwing clothes somewhere"]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return fetched(tmp_path / "videos", "AAAA1.mp4", "x/CCCC3.mp4")


def test_the_lists_are_read(root):
    """Several labels a video, some twice, with times; none at all is an answer; the test list is 'val'."""
    made = charades.read(LISTS, root)
    assert made.name == "charades" and made.heads == {"action": {"kind": "spans", "names": NAMES}}
    assert {item.id: (item.split, item.labels["action"]) for item in made.items} == {
        "AAAA1": ("train", (f"{NAMES[0]}@0.10-0.30", f"{NAMES[2]}@0.00-0.60", f"{NAMES[0]}@0.50-0.70")),
        "46GP8": ("train", ()),
        # An interval that ends where it begins is none.
        "CCCC3": ("val", (f"{NAMES[3]}@0.20-9.00",)),
        "EEEE5": ("val", (f"{NAMES[1]}@0.00-0.50",)),
    }
    assert made.notes == (
        "1 of 2 videos of Charades_v1_train.csv are not there: '46GP8'",
        "1 of 2 videos of Charades_v1_test.csv are not there: 'EEEE5'",
    )


def test_pictures_go_before_videos(tmp_path):
    """As they are published: 24 a second, with flow where there is some."""
    for name in ("Charades_v1_rgb/AAAA1", "Charades_v1_rgb/46GP8", "Charades_v1_flow/AAAA1"):
        (tmp_path / name).mkdir(parents=True)
    items = {item.id: item for item in charades.read(LISTS, tmp_path).items}
    assert items["AAAA1"].path == tmp_path / "Charades_v1_rgb" / "AAAA1" and items["AAAA1"].fps == 24
    assert items["AAAA1"].paths == {"flow": tmp_path / "Charades_v1_flow" / "AAAA1"} and not items["46GP8"].paths
    assert not items["CCCC3"].path.exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("Charades_v1_classes.txt", "c001", "c007", r"line 2: 'c007 Putting .* is not 'c001 CLASS'"),
        ("Charades_v1_train.csv", "c002 0.00", "c099 0.00", r"line 2: 'c099 0.00 0.60' is not 'CODE START END'"),
        ("Charades_v1_train.csv", "c000 0.10", "c000", "is not 'CODE START END'"),
        ("Charades_v1_test.csv", "actions", "acts", "lacks the column 'actions'"),
        ("Charades_v1_train.csv", None, "", "is empty"),
    ],
)
def test_lists_that_are_wrong(tmp_path, root, file, old, new, reason):
    folder = edited(tmp_path, "charades", file, old, new)
    with pytest.raises(ValueError, match=reason):
        charades.read(folder, root)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {file} in .*: unpack Charades.zip"):
        charades.read(folder, root)


def test_the_folder_of_pictures_itself_is_refused(tmp_path):
    for name in (charades.FRAMES, charades.FLOW):
        with pytest.raises(FileNotFoundError, match=f"{name} is one of the folders of pictures: name"):
            charades.read(LISTS, tmp_path / name)


def test_it_is_built(tmp_path, serial):
    """Labels are kept with their times, so that clips bear what they show."""
    root, out = tmp_path / "videos", tmp_path / "out"
    for name in ("AAAA1", "46GP8", "CCCC3"):
        film(root / f"{name}.avi", 6)
    command = ["--dataset", "charades", "--annotations", LISTS, "--videos", root, "--out", out, "--flow", "none"]
    assert build.main([*map(str, command), "--workers", "1"]) == 0
    opened = records.open_dataset(out)
    found = {
        split: {r["id"]: np.asarray(r["label"]["action"]) for r in opened.split(split)}
        for split in ("train", "val")
    }
    np.testing.assert_allclose(found["train"]["AAAA1"][:, 0], [0, 2, 0])
    assert found["train"]["46GP8"].shape == (0, 3) and list(found["val"]) == ["CCCC3"]
    assert opened.info.heads["action"]["kind"] == "spans"


# ---------------------------------------------------------------------------- what is trained
def planned(variant):
    config = shallow(mml.get_config(variant))
    clips = {"dataset": dict(config.dataset.clips)}
    return config, {s.name: s for s in plans.make(context(config)._replace(clips=clips))}


def test_the_recipe():
    """SlowFast's for Charades and table 6's rows."""
    config, segments = planned("charades")
    assert list(segments) == ["ce", "ce_continued", "d3d_rgb_in", "d3d_rgb_rgb", "mars_rgb_in", "mars_rgb_rgb",
                              "mml_in_in", "mml"]  # fmt: skip
    own, per_epoch = segments["mml"], 7_985 / 16
    assert {s.steps for s in segments.values()} == {round(57 * per_epoch)}
    rates = [float(own.lr["rgb"](round(epoch * per_epoch))) for epoch in (2, 4, 40, 42, 50)]
    np.testing.assert_allclose(rates, [0.01875, 0.0375, 0.0375, 0.00375, 0.000375], rtol=0.01)
    assert own.heads["action"].kind == "multi" and config.optimizer.groups == "all_but_norms"
    # No other network than those of the table is trained.
    assert {n.name for s in segments.values() for n in s.networks} == {"rgb", "flow"}
    # Ten clips from end to end, three crops of 256, of which the most probable counts.
    streams = networks.make_streams(config)
    spec = config.evaluation
    views = Views(spec.protocol, crops=spec.crops, resize=spec.resize)
    clips = {name: sampling.test_indices(300, stream, views) for name, stream in streams.items()}
    np.testing.assert_array_equal(clips["rgb"][:, 0], np.round(np.arange(10) * (300 - 64) / 9))
    np.testing.assert_array_equal(clips["rgb"], clips["flow"])
    assert len(test_windows(256, 340, 224, views)[0]) == 3 and spec.aggregate == "max"
    np.testing.assert_allclose(np.multiply(224, Augment(**config.augment).scales), [256, 340])


@pytest.mark.parametrize("method", ["mars", "d3d"])
def test_the_rows_of_one_method(method):
    _, segments = planned(f"charades_{method}")
    assert list(segments) == ["ce", "ce_continued", f"{method}_rgb_in", f"{method}_rgb_rgb"]
    assert segments[f"{method}_rgb_rgb"].method.teachers == ("flow",)
