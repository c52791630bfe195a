"""What would make a score false is refused, what is odd is said; one build at a time, and what it says."""

import os
import pathlib
import pickle
import platform
import shlex
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_records import record

from data_prep import build, builder, checks, manifest, summary
from data_prep.manifest import Item
from data_prep.readers import OWN_FILES, READERS
from mmvid import configuration
from mmvid.data import frames as frames_lib
from mmvid.data import records
from mmvid.data.media.item import check_split


def row(name, split="train", label="x", content=None):
    return checks.Row(name, split, {"action": (label,)}, content or name)


def rows(split, count, **more):
    return [row(f"{split}{i}", split, **more) for i in range(count)]


# ---------------------------------------------------------------------------- clips in two places
@pytest.mark.parametrize("size, shared, refused", [(200, 3, True), (200, 2, False), (10, 1, True), (9, 9, False)])
def test_clips_of_training_in_an_evaluation_split(size, shared, refused):
    test = [r._replace(content=f"train{i}") if i < shared else r for i, r in enumerate(rows("test", size))]
    made = rows("train", 10) + test
    said = rf"{shared} of {size} clips of test are in train, too: 'train0' and 'test0'"
    if refused:
        with pytest.raises(ValueError, match=said + ".*score of 'test' would be false.*what is prepared is kept"):
            checks.doubles(made)
    else:
        (note,) = checks.doubles(made)
        assert note.startswith(said)


def test_other_doubles_are_said():
    same = dict(content="film")
    made = rows("val", 40) + rows("test", 40) + [row("v", "val", **same), row("t", "test", **same)]
    assert checks.doubles(made) == ["1 of 41 clips of val are in test, too: 't' and 'v'"]
    # The same clip in two of them, as in EPIC's 'val' and 'unseen', is meant; in train and val it is not.
    assert checks.doubles([row("v", "val", **same), row("v", "unseen", **same)]) == []
    assert "of val are in train, too" in checks.doubles([row("v", "val", **same), row("v", **same)])[0]
    made = [row("a", **same), row("b", **same), row("c", label="y", **same), row("d", label="y", **same)]
    assert checks.doubles(made) == ["equal clips of train bear different labels, 1 times: 'a' and 'c'"]
    assert checks.doubles(made[:2]) == []


times = st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(1, 5)))


@given(st.lists(times, max_size=5), st.lists(times, max_size=5))
def test_overlaps_are_what_shares_seconds(train, test):
    """Compared with sets of tenths of seconds; equal intervals are doubles, and told as such."""

    def items(split, cuts):
        return [
            Item(f"{split}{i}", pathlib.Path("film.mp4"), split, {}, float(s), None if n is None else float(s + n))
            for i, (s, n) in enumerate(cuts)
        ]

    def tenths(cut):
        start, length = cut
        return set(range(10 * start, 1000 if length is None else 10 * (start + length)))

    expected = sum(any(tenths(a) & tenths(b) and a != b for a in train) for b in test)
    found = checks.overlaps(items("train", train) + items("test", test))
    assert [int(note.split()[0]) for note in found] == [expected] * bool(expected)


def test_equal_paths_are_doubles_and_other_times_of_one_film_are_none():
    def item(name, split, path="a.mp4", **more):
        return Item(name, pathlib.Path(path), split, {"action": ("x",)}, **more)

    def said(*items):
        return checks.doubles(checks.of_items(items))

    assert said(item("a", "train"), item("b", "test", "./sub/../a.mp4"))
    assert not said(item("a", "train", end=1.0), item("b", "test", start=1.0, end=2.0))
    blind = Item("c", None, "test", {}, paths={"depth": pathlib.Path("d")})
    assert said(blind, blind._replace(id="d", split="train")) and not said(item("a", "train"), blind)


# ---------------------------------------------------------------------------- classes and names
def test_classes_that_nothing_trains():
    made = rows("train", 3) + rows("test", 9, label="10") + [row("t", "test"), row("v", "val", label="2")]
    assert checks.untrained(made, ["action"]) == [
        "action: no training clip shows '2', '10', which clips of evaluation do (9 of test, 1 of val)"
    ]
    assert checks.untrained(made[3:], ["action"]) == []  # no training at all
    with pytest.raises(ValueError, match=r"test has no class of 'action' in common with train.*'10' beside 'x'"):
        checks.untrained(rows("train", 3) + rows("test", 10, label="10"), ["action"])


def test_names_that_look_alike():
    items = [Item(name, None, split, {}) for name, split in (("a", "train"), ("A", "Unseen"), ("b", "unseen"))]
    heads = {
        "verb": {"kind": "single", "names": ["Run", "run", "gro\u00df", "u\u0308", "\u00fc", "walk"]},
        "noun": {"kind": "single", "names": ["cup"]},
    }
    assert checks.names(items, heads) == [
        "classes of 'verb' that differ by little and are held apart: 'Run' and 'run'; 'u\u0308' and '\u00fc'",
        "splits that differ by little and are held apart: 'Unseen' and 'unseen'",
        "ids that differ by little and are held apart: 'A' and 'a'",
        "noun has one class: whatever is said is right",
    ]


@pytest.mark.parametrize("split", ["train", "unseen", "tést", "_x", "train_2", "None", "test_all", "a" * 60])
def test_splits_and_heads_that_are_let_through_can_be_read(tmp_path, split):
    heads = {name: {"kind": "single", "names": ["x", "y"]} for name in ("verb-fine", "1", "Noun_2", "id", "split")}
    check_split(split)
    manifest.check_heads(list(heads))
    path = tmp_path / "a.pkl"
    label = {name: np.int64(1) for name in heads}
    path.write_bytes(pickle.dumps(record(1, split, label=label)))
    made = builder.pack({split: [(path, {})]}, heads, tmp_path)
    info = records.Info("n", records.SCHEMA, {}, {split: 1}, {split: 1}, {}, "", 8, 10, 12.0, {})
    read = records.Source(tmp_path, split, info)[0]
    assert {k: int(v) for k, v in read["label"].items()} == dict.fromkeys(heads, 1) and made[0].split == split


# ---------------------------------------------------------------------------- the command
def film(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    path.write_bytes(frames_lib.encode_mp4(frames, 12.0))
    return path


def run(*flags, out):
    return build.main([*map(str, flags), "--out", str(out), "--flow", "none", "--workers", "1"])


def test_a_copy_of_a_training_clip_is_found_by_its_pictures_and_nothing_is_lost(tmp_path, serial, capsys):
    """Under another name, cut the same way: the prepared clips and the dataset before stay."""
    for i in range(12):
        film(tmp_path / "f" / f"{i}.mp4", i)
    lines = [f"{i},f/{i}.mp4,{'xy'[i % 2]},{'train' if i < 2 else 'test'}" for i in range(12)]
    path, out = tmp_path / "m.csv", tmp_path / "out"
    path.write_text("\n".join(["id,path,label,split", *lines]))
    assert run("--manifest", path, out=out) == 0
    before = records.open_dataset(out).info
    (tmp_path / "f" / "5.mp4").write_bytes((tmp_path / "f" / "1.mp4").read_bytes())
    capsys.readouterr()
    assert run("--manifest", path, out=out) == 1
    said = capsys.readouterr().err
    assert "1 of 10 clips of test are in train, too: '1' and '5'" in said and "what is prepared is kept" in said
    assert records.open_dataset(out).info == before and not (out / "packing.tmp").exists()
    # Known from the paths alone, it is said before a clip is opened.
    path.write_text(path.read_text().replace("f/5.mp4", "f/0.mp4"))
    assert run("--manifest", path, out=tmp_path / "none") == 1
    assert not (tmp_path / "none" / "prepared").exists()


def test_what_is_odd_is_said_in_every_summary(tmp_path, serial, capsys):
    for i, name in enumerate(("run/0", "Run/1", "run/2")):
        film(tmp_path / "in" / f"{name}.mp4", i % 2)
    (tmp_path / "in" / "run" / "notes.txt").touch()
    for _ in range(2):
        assert run("--folder", tmp_path / "in", out=tmp_path / "out") == 0
        said = capsys.readouterr().out
        assert said.count("passed over: 1 .txt (run/notes.txt)") == 1
        assert "classes of 'action' that differ by little and are held apart: 'Run' and 'run'" in said
        assert "no training clip shows" in said or "are in" in said or "different labels" in said


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are POSIX's")
def test_names_that_are_not_utf8_do_not_end_a_build(tmp_path, serial, capsys):
    root = tmp_path / "in" / "run"
    for i in range(3):
        film(root / f"{i}.mp4", i)
    try:
        os.rename(root / "0.mp4", os.fsencode(root) + b"/caf\xe9.mp4")
        os.close(os.open(os.fsencode(root) + b"/b\xe9.mp4", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert run("--folder", tmp_path / "in", out=tmp_path / "out") == 0
    dataset = records.open_dataset(tmp_path / "out")
    ids = [name for split in dataset.info.splits for name in dataset.split(split).ids()]
    assert sorted(ids) == ["run/1.mp4", "run/2.mp4", r"run/caf\xe9.mp4"]
    assert "caf\\xe9.mp4" not in (tmp_path / "out" / "rejected.csv").read_text()
    assert "b\\xe9.mp4" in (tmp_path / "out" / "rejected.csv").read_text()


# ---------------------------------------------------------------------------- what comes next
def info(have, name="mine", **splits):
    modalities = {split: dict.fromkeys(have, 1) for split in splits}
    heads = {"action": {"classes": 1, "kind": "single", "names": ["x"]}}
    return records.Info(name, 1, heads, splits, splits, modalities, "0" * 12, 8, 8, 12.0, {}, {"action": [1]})


OWN = OWN_FILES["folder"]


def commands(said):
    found = [line for line in said.splitlines() if line.startswith(("next:", "  or:"))]
    return [shlex.split(line.split(":", 1)[1]) for line in found]


def test_the_next_command_is_one_that_runs():
    root = pathlib.Path("my data/it's mine")
    said = summary.of(info(("rgb", "flow", "depth"), train=1, val=1, test=1), root, OWN)
    mml, dmcl = commands(said)
    assert mml == ["python", "-m", "mmvid", "train", "--config=configs/mml.py:own",
                   "--config.dataset.path=my data/it's mine", "--workdir=runs/it's mine"]  # fmt: skip
    assert dmcl[4:] == ["--config=configs/dmcl.py:own", mml[5], "--workdir=runs/it's mine-dmcl"]
    for command in commands(summary.of(info(("rgb", "flow", "depth"), train=1, val=1), root, OWN)):
        assert command[-1] == "--config.evaluation.splits=('val',)"
    ssv2 = summary.of(info(("rgb", "flow"), "ssv2", train=1, val=1), root, READERS["ssv2"])
    assert commands(ssv2)[0][4:] == ["--config=configs/mml.py:ssv2", *mml[5:]]
    (bare,) = commands(summary.of(info(("rgb", "depth"), train=1, val=1), root, OWN))
    assert bare[4] == dmcl[4] and bare[7] == "--config.without=flow"
    assert ssv2.count("distill.py:ssv2") == 1 and commands(ssv2)[1][7] == "--config.without=teacher_boxes"


@pytest.mark.parametrize(
    "name, have, heads, offered",
    [
        ("tabletop", "rgb flow depth audio boxes", "verb noun", {"mml": "", "dmcl": "", "distill": ""}),
        ("tabletop", "rgb flow depth audio boxes", "action", {"mml": "", "dmcl": ""}),
        ("tabletop", "rgb depth audio", "verb noun", {"dmcl": "flow", "distill": "teacher_flow,teacher_boxes"}),
        ("tabletop", "rgb", "verb noun", {}),
        ("epic100", "rgb audio boxes", "noun verb", {"distill": "teacher_flow"}),
        ("epic100", "rgb flow", "noun verb", {"mml": "", "distill": "teacher_audio"}),
        ("something_else", "rgb flow boxes", "action", {"mml": "", "distill": ""}),
    ],
)
def test_what_is_offered_reads_what_is_there(name, have, heads, offered):
    """The commands, read as a run reads them: each network left reads what training clips have."""
    known = info(have.split(), name, train=1, val=1, test=1, unseen=1)
    known = known._replace(heads=dict.fromkeys(heads.split(), known.heads["action"]))
    known = known._replace(classes={head: [1] for head in known.heads})
    found = {}
    for command in commands(summary.of(known, pathlib.Path("out"), READERS[name])):
        own, overrides = configuration.apart(command[4:])
        file = next(word.partition("=")[2] for word in own if word.startswith("--config="))
        without = [word.partition("=")[2] for word in overrides if word.startswith("--config.without=")]
        config = configuration.overridden(configuration.read(file), overrides)
        assert {spec.modality for spec in config.streams.values()} <= set(have.split())
        assert not config.heads or set(config.heads) == set(known.heads)
        found[pathlib.Path(file.partition(":")[0]).stem] = "".join(without)
    assert found == offered


@pytest.mark.parametrize(
    "splits, lacks", [(dict(val=1, test=1), "there is no train (only test, val)"),
                      (dict(train=1, test=1), "there is no val (only"), (dict(test=1), "no train and no val")]
)  # fmt: skip
def test_without_a_split_that_training_reads_nothing_is_offered(splits, lacks):
    said = summary.of(info(("rgb", "flow"), **splits), pathlib.Path("out"), OWN)
    assert lacks in said and not commands(said)


# ---------------------------------------------------------------------------- one build at a time
def test_a_second_build_waits_for_the_first_by_name(tmp_path, capsys):
    held = build.alone(tmp_path / "out")
    held.__enter__()
    second = threading.Thread(target=lambda: build.alone(tmp_path / "out").__enter__())
    second.start()
    said = ""
    while "waiting for it" not in said:
        said += capsys.readouterr().err
        time.sleep(0.05)
    assert second.is_alive()
    assert f"out is in use by process {os.getpid()} on host {platform.node()}, since 2" in said
    held.__exit__(None, None, None)
    second.join(10)
    assert not second.is_alive()
