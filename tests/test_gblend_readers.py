"""The readers of Gradient-Blending's datasets, on miniatures with the true names and columns of their lists."""

import csv
import pathlib
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_epic import film

from data_prep import build
from data_prep.readers import audioset, crawled, epic55, kinetics, sports1m
from mmvid import usage
from mmvid.data import fields, records

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def fetched(root, *names):
    """Files that nobody opens."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def of(made, split):
    return {item.id: item.labels["action"] for item in made.items if item.split == split}


def edited(tmp_path, name, file, old, new):
    """A copy of a fixture in which one text is another; all of it where ``old`` is None."""
    folder = shutil.copytree(FIXTURES / name, tmp_path / f"{name}-edited")
    text = (folder / file).read_text(encoding="utf-8")
    old = text if old is None else old
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


# ---------------------------------------------------------------------------- what was fetched
def test_videos_are_found_wherever_they_lie(tmp_path):
    fetched(tmp_path, "train/a.mp4", "replacement/x/a.mp4", "b/c/b.webm", "a/b.mkv", "b/readme.txt")
    found = {name: str(path.relative_to(tmp_path)) for name, path in crawled.films(tmp_path).items()}
    assert found == {"a": "replacement/x/a.mp4", "b": "a/b.mkv"}
    with pytest.raises(FileNotFoundError, match="no video lies below"):
        crawled.films(tmp_path / "none")


def test_a_draw_stays_when_others_come():
    names = [f"v{i}" for i in range(200)]
    first = crawled.shuffled(names)[:20]
    more = crawled.shuffled([*names[::-1], *(f"w{i}" for i in range(200))])
    assert [name for name in more if name in first] == first and first != names[:20]


def test_videos_of_other_names_are_told(tmp_path):
    """A name without the times, say: nothing is listed as missing by the hundred thousand."""
    root = fetched(tmp_path, "x/---QUuC4vJs_84_94.mp4")
    for read, name, first in (
        (kinetics.read, "kinetics400", "---QUuC4vJs_000084_000094.mp4"),
        (sports1m.read, "sports1m", "-aaaaaaaaa2.mp4"),
        (audioset.read, "audioset", "---1_cCGK4M.mp4"),
        (audioset.read_mini, "audioset", "---1_cCGK4M.mp4"),
    ):
        with pytest.raises(FileNotFoundError, match=f"has a name of the lists, as '{first}'"):
            read(FIXTURES / name, root)


# ---------------------------------------------------------------------------- Kinetics-400
def test_kinetics(tmp_path):
    root = fetched(
        tmp_path,
        "testifying/---QUuC4vJs_000084_000094.mp4",
        "k400/train/-4wsuPCjDBc_000005_000015.mp4",
        "k400/replacement/replacement_for_corrupted_k400/-4wsuPCjDBc_000005_000015.mp4",
        "val/__0123456-A_000001_000011.mkv",
    )
    made = kinetics.read(FIXTURES / "kinetics400", root)
    assert of(made, "train") == {
        "---QUuC4vJs_000084_000094": ("testifying",),
        "--3ouPhoy2A_000020_000030": ("eating spaghetti",),
        "-4wsuPCjDBc_000005_000015": ("massaging person's head",),
        "0wR5jVB-WPk_000417_000427": ("passing American football (in game)",),
    }
    assert made.heads["action"]["names"] == [
        "eating spaghetti",
        "massaging person's head",
        "passing American football (in game)",
        "testifying",
    ]
    there = {item.id: item.path for item in made.items if item.path.exists()}
    assert len(there) == 3 and "replacement" in str(there["-4wsuPCjDBc_000005_000015"])
    assert list(of(made, "val")) == ["__0123456-A_000001_000011", "zzzzzzzzzzz_000000_000010"]
    assert not of(made, "test")
    assert made.notes == (
        "2 of 4 videos of train.csv are not there: '--3ouPhoy2A_000020_000030', '0wR5jVB-WPk_000417_000427'",
        "1 of 2 videos of validate.csv are not there: 'zzzzzzzzzzz_000000_000010'",
        "the 1 clips of test.csv are left out: none of their videos is there",
    )
    fetched(root, "test/tttttttttt1_000003_000013.mp4")
    assert of(kinetics.read(FIXTURES / "kinetics400", root), "test") == {
        "tttttttttt1_000003_000013": ("testifying",)
    }
    # The list of the challenge has no labels.
    folder = edited(
        tmp_path, "kinetics400", "test.csv", None, "youtube_id,time_start,time_end\ntttttttttt1,3,13\n"
    )
    made = kinetics.read(folder, root)
    assert not of(made, "test")
    assert made.notes[-1] == "the 1 clips of test.csv are left out: they have no labels"


def test_kinetics_is_built_with_and_without_sound(tmp_path, serial, capsys):
    """What was not fetched is listed; a video without sound is a clip that lacks it."""
    root, out = tmp_path / "videos", tmp_path / "out"
    film(root / "---QUuC4vJs_000084_000094.mp4")
    film(root / "-4wsuPCjDBc_000005_000015.mp4", tone=False)
    film(root / "__0123456-A_000001_000011.mp4")
    command = ["--dataset", "kinetics400", "--annotations", FIXTURES / "kinetics400", "--videos", root]
    command += ["--out", out, "--flow", "none", "--workers", "1", "--audio_rate", "8000"]
    assert build.main([*map(str, command)]) == 0
    opened = records.open_dataset(out)
    assert opened.info.splits == {"train": 2, "val": 1} and opened.info.expected == {"train": 4, "val": 2}
    clips = {clip["id"]: clip for clip in map(opened.split("train").__getitem__, range(2))}
    loud, silent = clips["---QUuC4vJs_000084_000094"], clips["-4wsuPCjDBc_000005_000015"]
    assert fields.present(loud, "audio") and not fields.present(silent, "audio")
    assert loud["audio_rate"] == 8000 and len(loud["audio"]) / 2 / 8000 == pytest.approx(2, abs=0.1)
    rejected = list(csv.DictReader((out / "rejected.csv").read_text().splitlines()))
    assert {row["id"]: row["reason"] for row in rejected}["zzzzzzzzzzz_000000_000010"] == (
        "missing file zzzzzzzzzzz_000000_000010.mp4"
    )
    assert "2 of 4 videos of train.csv are not there" in capsys.readouterr().err


# ---------------------------------------------------------------------------- mini-Sports
def test_mini_sports(tmp_path):
    root = fetched(tmp_path, *(f"x/aaaaaaaaaa{i}.mp4" for i in (1, 3, 4)), "-aaaaaaaaa2.mp4", "bbbbbbbbbb1.mp4",
                   "bbbbbbbbbb2.mp4", "UDqivjS-lpI.mp4")  # fmt: skip
    made = sports1m.read(FIXTURES / "sports1m", root)
    # Of one label, and never both trained on and scored.
    assert of(made, "train") == {
        "aaaaaaaaaa1": ("boomerang",),
        "-aaaaaaaaa2": ("boxing",),
        "aaaaaaaaaa3": ("jeu provençal",),
        "aaaaaaaaaa4": ("jeu provençal",),
    }
    assert of(made, "val") == {"bbbbbbbbbb1": ("boomerang",)}
    assert made.heads["action"] == {"kind": "single", "names": ["boomerang", "boxing", "jeu provençal"]}
    few = sports1m.read(FIXTURES / "sports1m", root, clips=(2, 1), seconds=30)
    assert set(of(few, "train")) < set(of(made, "train")) and len(of(few, "train")) == 2
    assert {item.end for item in few.items} == {30} and {item.end for item in made.items} == {None}


# ---------------------------------------------------------------------------- AudioSet
def test_audioset(tmp_path):
    root = fetched(tmp_path, "--PJHxphWEs.mp4", "YY_PJHxphWE0.mp4", "---1_cCGK4M_0.000_10.000.mkv",
                   "-0DLPzsiXXE_30.000.mp4", "notes_of_me.mp4")  # fmt: skip
    made = audioset.read(FIXTURES / "audioset", root)
    assert made.heads["action"] == {
        "kind": "multi",
        "names": ["Speech", "Male speech, man speaking", "Toothbrush", "Gush"],
    }
    assert of(made, "train")["Y_PJHxphWE0"] == ("Speech", "Male speech, man speaking")
    assert len(of(made, "train")) == 6 and len(of(made, "val")) == 2
    there = {item.id: item.path.name for item in made.items if item.path.exists()}
    assert there == {
        "--PJHxphWEs": "--PJHxphWEs.mp4",
        "Y_PJHxphWE0": "YY_PJHxphWE0.mp4",
        "---1_cCGK4M": "---1_cCGK4M_0.000_10.000.mkv",
        "-0DLPzsiXXE": "-0DLPzsiXXE_30.000.mp4",
    }
    assert {(item.start, item.end) for item in made.items} == {(0.0, None)}
    whole = {
        item.id: (item.start, item.end) for item in audioset.read(FIXTURES / "audioset", root, whole=True).items
    }
    assert whole["--PJHxphWEs"] == (30, 40) and whole["Y_PJHxphWE0"] == (0, 10)


def test_mini_audioset(tmp_path):
    """Two classes of those that are there; the eval clip that bears neither is left out."""
    names = ("--PJHxphWEs", "Y_PJHxphWE0", "---1_cCGK4M", "---2_BBVHAA", "---B_v8ZoBY", "-0DLPzsiXXE")
    root = fetched(tmp_path, *(f"{name}.mp4" for name in names))
    made = audioset.read_mini(FIXTURES / "audioset", root, classes=2, clips=4)
    assert made.name == "mini-audioset"
    assert made.heads["action"]["names"] == ["Speech", "Male speech, man speaking"]
    found = of(made, "train")
    # The rarer class, of three clips, has all of them; 'Speech' has them too, and may have one more.
    assert {"Y_PJHxphWE0", "---2_BBVHAA", "---B_v8ZoBY"} <= set(found) and len(found) in (3, 4)
    assert all(set(labels) <= {"Speech", "Male speech, man speaking"} for labels in found.values())
    assert list(of(made, "val")) == ["-0DLPzsiXXE"]
    assert "1 of 6 videos of the training lists are not there: '--ZhevVpy1s'" in made.notes
    again = audioset.read_mini(FIXTURES / "audioset", root, classes=2, clips=4)
    assert again == made


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 120))
def test_balanced(seed, most):
    """Within the number, nearly as many as that, and the rarest class is not cut before the others."""
    rng = np.random.default_rng(seed)
    names = list("abcde")
    labels = [[names[min(int(rng.exponential(1.0)), 4)], *rng.choice(names[:2], rng.integers(0, 2))]
              for _ in range(100)]  # fmt: skip
    chosen = audioset.balanced(labels, names, most)
    assert chosen.sum() <= most and (most < 100 or chosen.all())
    counts = {name: sum(name in own for own in labels) for name in names}
    taken = {name: sum(name in own for own, take in zip(labels, chosen) if take) for name in names}
    cut = [taken[name] for name in names if taken[name] < counts[name]]
    # Whatever class was cut has the number that all have that were cut, or more by clips of other classes.
    if cut:
        assert all(taken[name] >= min(counts[name], min(cut)) for name in names)


# ---------------------------------------------------------------------------- EPIC-Kitchens-55
@pytest.fixture
def kitchens(tmp_path):
    return fetched(
        tmp_path / "videos", "train/P01/P01_01.MP4", "train/P26/P26_01.MP4", "test/P01/P01_11.MP4"
    ).parent


def test_epic55(kitchens):
    made = epic55.read(FIXTURES / "epic55", kitchens, validation=("P26", "P27"))
    assert {item.id: item.split for item in made.items} == {
        "0": "train", "2": "train", "40": "val", "41": "val", "1": "s1", "1924": "s1",
    }  # fmt: skip
    assert made.heads["verb"]["names"] == ["take", "put", "open"] and made.heads["noun"]["names"][0] == "Nothing"
    first = next(item for item in made.items if item.id == "2")
    assert first.labels == {"noun": ("paper",), "verb": ("put",)} and (first.start, first.end) == (1.0, 2.0)
    assert next(item for item in made.items if item.id == "1").labels == {}
    assert made.notes[:2] == (
        "the 1 segments of EPIC_test_s2_timestamps.csv are left out: none of their videos is there",
        "1 of 4 videos are not there, so that their segments are rejected: P27_01",
    )
    for validation, reason in (
        (("P26", "P40"), "no 'P40'"),
        (("P01", "P26", "P27"), "none is left"),
        ((), "names none"),
    ):
        with pytest.raises(usage.WrongUse, match=reason):
            epic55.read(FIXTURES / "epic55", kitchens, validation=validation)


def test_epic55_is_built_with_its_tests(tmp_path, serial):
    """Sound at the rate of its network; the tests have no labels."""
    root, out = tmp_path / "EPIC", tmp_path / "out"
    for path in ("train/P01/P01_01", "train/P26/P26_01", "train/P27/P27_01", "test/P01/P01_11", "test/P09/P09_01"):
        film(root / f"videos/{path}.MP4", tone=not path.endswith("P09_01"))
    command = ["--dataset", "epic55", "--annotations", FIXTURES / "epic55", "--videos", root, "--out", out]
    command += ["--val_participants", "P26,P27", "--flow", "none", "--workers", "1", "--short_side", "0"]
    assert build.main([*map(str, command)]) == 0
    opened = records.open_dataset(out)
    assert opened.info.splits == {"train": 2, "val": 2, "s1": 2, "s2": 1}
    assert opened.info.settings["audio_rate"] == 24_000
    clip = opened.split("s1")[0]
    assert clip["id"] == "1" and clip["label"] == {"noun": -1, "verb": -1} and clip["audio_rate"] == 24_000
    assert len(clip["audio"]) / 2 / 24_000 == pytest.approx(1, abs=2e-3)


# ---------------------------------------------------------------------------- lists that are wrong
def test_lists_that_are_wrong(tmp_path):
    videos = fetched(tmp_path / "videos", "a.mp4", "videos/train/P01/P01_01.MP4")
    for read, name, file, old, new, reason in (
        (kinetics.read, "kinetics400", "train.csv", "youtube_id", "id", r"lacks the column 'youtube_id'"),
        (kinetics.read, "kinetics400", "train.csv", "84", "x", r"train\.csv, line 2: 'x' is no time"),
        (kinetics.read, "kinetics400", "train.csv", "84", "-8", r"train\.csv, line 2: '-8' is no time_start"),
        (kinetics.read, "kinetics400", "train.csv", ",train", "", r"line 2: the row has fewer cells"),
        (kinetics.read, "kinetics400", "validate.csv", "eating spaghetti", "", r"line 3: the clip has no label"),
        (sports1m.read, "sports1m", "labels.txt", None, "\n", r"labels\.txt is empty"),
        (audioset.read, "audioset", "eval_segments.csv", None, "# a\n# b\n# c\n", "there is no row"),
        (epic55.read, "epic55", "EPIC_train_action_labels.csv", None, "", r"labels\.csv is empty"),
        (sports1m.read, "sports1m", "original/train_partition.txt", " 0,1", " 0,9", r"line 1: .* labels below 3"),
        (sports1m.read, "sports1m", "original/test_partition.txt", "?v=", "?w=", r"line 1: .* is no link"),
        (audioset.read, "audioset", "eval_segments.csv", "/m/09x0r", "/m/0", r"line 4: .* has no class '/m/0'"),
        (audioset.read, "audioset", "eval_segments.csv", "30.000", "x", r"eval_segments\.csv, line 4"),
        (audioset.read, "audioset", "eval_segments.csv", '09x0r"', "09x0r", r"\.csv, line 4: .* again"),
        (audioset.read, "audioset", "eval_segments.csv", "-0DLPzsiXXE", "---1_cCGK4M", "is in another list"),
        (audioset.read_mini, "audioset", "class_labels_indices.csv", "\n1,", "\n7,", r"indices of .* 0\.\.3"),
        (epic55.read, "epic55", "EPIC_verb_classes.csv", "verb_id", "id", r"lacks the column 'verb_id'"),
        (epic55.read, "epic55", "EPIC_test_s1_timestamps.csv", "00:01.00", "00:00.00", "line 2: the segment ends"),
    ):  # fmt: skip
        folder = edited(tmp_path, name, file, old, new)
        options = dict(validation=("P26",)) if read is epic55.read else {}
        with pytest.raises(ValueError, match=reason):
            read(folder, videos, **options)
        (folder / file).unlink()
        if "test_s1" not in file:
            with pytest.raises(FileNotFoundError, match=f"no {pathlib.Path(file).name} in"):
                read(folder, videos, **options)
        shutil.rmtree(folder)
