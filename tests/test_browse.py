"""The page of a dataset: every clip once, films that play, what is rejected; and what networks see of it."""

import base64
import errno
import functools
import io
import os
import pathlib
import re
import shutil

import asking
import av
import fake
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_checkup import healthy
from test_records import pack

from mmvid import files, operations
from mmvid.commands import browse as command
from mmvid.data import fields, pictures
from mmvid.data.augment import Augment
from mmvid.data.example import Train
from mmvid.data.groups import Group
from mmvid.report import browse, views
from mmvid.report.browse import Trained
from mmvid.streams import MODALITIES, Head, Sampling, Stream, host_shape

ROOT = pathlib.Path(__file__).parents[1]
ask = functools.partial(asking.ask, "browse")
HEADS = {"action": Head(5, "single", ("a", "b", "<b>", "d|", "push left"))}
RGB = Stream("rgb", "rgb", Sampling(frames=4))
FLOW = Stream("flow", "flow", Sampling(frames=4), "stack5")
REJECTED = [
    {"id": f"lost{i}", "split": "test", "path": "a <i>.mp4", "reason": f"truncated <{i % 2}>"} for i in range(3)
]


def decoded(url):
    """The pictures of a film in a page, uint8 [T, H, W, 3]."""
    with av.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def films_of(text):
    return [decoded(url) for url in re.findall(r'data-film="([^"]+)"', text)]


def written(path, how=None):
    """A page of five clips of 48x40 pixels, some without flow, sound or boxes; one has a damaged flow."""
    dataset = fake.dataset(5)
    source = fake.Source(5, absent=(2,), silent=(3,))
    records = [source[row] for row in range(5)]
    records[1] |= {"flow_x": [b"x"] * 12}
    clips = [("test" if row == 1 else "train", row, lambda row=row: records[row]) for row in range(5)]
    size = browse.write(path, dataset, clips, HEADS, REJECTED, how, "mine.py")
    text = path.read_text()
    assert size == path.stat().st_size
    return text


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return written(tmp_path_factory.mktemp("browse") / "page.html")


def test_every_clip_is_there_once_with_what_it_has(text):
    cards = re.findall(r'<figure class="clip" data-split="(\w+)" data-marks="([^"]*)">(.*?)</figure>', text, re.S)
    assert [(split, marks) for split, marks, _ in cards] == [
        ("test" if i == 1 else "train", f"action/{i}") for i in range(5)
    ]
    told = [re.findall(r"<span>(\w+)</span>", card) for *_, card in cards]
    assert told == [["rgb", "flow", "boxes", "audio"], ["rgb", "boxes", "audio"], ["rgb", "boxes", "audio"],
                    ["rgb", "flow"], ["rgb", "flow", "boxes", "audio"]]  # fmt: skip
    assert "damaged: flow" in cards[1][2] and "no flow, no depth" in cards[2][2]
    assert "no depth, no audio, no boxes" in cards[3][2] and "12 frames, 1.0 s, 48 x 40" in cards[0][2]


def test_films_show_the_modalities_beside_each_other_in_time(text):
    found = films_of(text)
    # 12, 13 and 14 frames; tiles of 48x40 pixels.
    assert [film.shape for film in found] == [
        (12, 40, 144, 3), (13, 40, 96, 3), (14, 40, 96, 3), (12, 40, 96, 3), (13, 40, 144, 3)
    ]  # fmt: skip
    # A clip's pixels tell the clip and the frame.
    for row, film in enumerate(found):
        told = film[:, 8:32, 8:40].mean((1, 2, 3))
        np.testing.assert_allclose(told, 10 * row + np.arange(len(film)), atol=6)


def test_the_page_needs_nothing_else_and_believes_nobody(text):
    assert not re.search(r"https?://|(src|href)=(?!\"data:)", text)
    assert "&lt;b&gt; (1)" in text and "truncated &lt;0&gt;" in text and "<i>" not in text and "d|" in text
    assert text.count("lost") == 3 and "all 3" in text


def test_long_and_large_clips_cost_no_more(tmp_path):
    record = fake.Source(1, frames=150, size=300)[0]
    found = browse._original(record, 12.5)
    (film,) = films_of(f'data-film="{found["film"]["url"]}"')
    assert film.shape[:2] == (browse.MOST, browse.HEIGHT) and len(found["film"]["url"]) < 60_000


# ---------------------------------------------------------------------------- which clips
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1), st.integers(1, 80))
def test_clips_are_spread_evenly_over_splits(sizes, count):
    found = command.evenly(sizes, count)
    assert sum(map(len, found.values())) == min(count, sum(sizes.values())) and list(found) == list(sizes)
    for split, rows in found.items():
        assert rows == sorted(set(rows)) and all(0 <= row < sizes[split] for row in rows)
        # Nobody has fewer than another one, unless there are no more of it.
        assert len(rows) >= max(map(len, found.values())) - 1 or len(rows) == sizes[split]


# ---------------------------------------------------------------------------- as networks see them
FORMS = [(modality, form) for modality, row in MODALITIES.items() for form in row.forms]


@pytest.mark.parametrize("modality, form", FORMS)
def test_every_form_can_be_seen(modality, form):
    stream = Stream("x", modality, Sampling(frames=2), form)
    x = np.zeros((1, *host_shape(stream, 16)), MODALITIES[modality].forms[form].dtype)
    (film,) = views.shown(stream, x, {})
    assert film.dtype == np.uint8 and film.ndim == 4 and film.shape[3] == 3
    assert len(film) % 2 == 0 or len(film) == 1


def test_what_is_drawn_is_what_was_cut():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (2, 4, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(views.shown(RGB, x, {}), x)
    # What rests is white, in each of the five fields of a stack.
    still = views.shown(FLOW, np.full((1, 4, 8, 8, 10), 128, np.uint8), {})[0]
    assert still.shape == (20, 8, 8, 3) and (still == 255).all()
    moving = np.full((1, 4, 8, 8, 10), 128, np.uint8)
    moving[..., 2] = 255  # the second field of each stack, to the right
    drawn = views.shown(FLOW, moving, {})[0].reshape(4, 5, 8, 8, 3)
    assert (drawn[:, 1] == [255, 0, 0]).all() and (drawn[:, [0, 2, 3, 4]] == 255).all()


def test_what_the_device_does_is_drawn_too():
    x = np.random.default_rng(0).integers(0, 255, (2, 4, 8, 8, 3), np.uint8)
    draws = {operations.sharing(RGB): {"flip": np.array([True, False])}}
    turned, left = views.shown(RGB, x, draws)
    np.testing.assert_array_equal(turned, x[0, :, :, ::-1])
    np.testing.assert_array_equal(left, x[1])


def how(draws=6, **augment):
    groups = {"main": Group("train", 2, {"train": Augment(**augment)})}
    return Trained(groups, (RGB, FLOW), HEADS, 32, 0, draws)


def test_draws_differ_and_their_labels_follow_flips(tmp_path):
    record = fake.Source(5)[4]
    clip = browse.clip(record, "train", HEADS, how(flip=True, flip_labels=((4, 0),)), 0)
    (film,) = films_of(f'data-film="{clip["augmented"]["film"]["url"]}"')
    assert film.shape == (20, 6 * browse.VIEW + 5 * browse.GAP, 2 * browse.VIEW, 3)
    turned = clip["augmented"]["turned"]
    assert 0 < len(turned) < 6 and all(text.endswith(": a") for text in turned)


def test_views_and_groups_are_named_and_absent_streams_left_out():
    record = fake.Source(1, absent=(0,))[0]
    twice = {"weak": Augment(), "strong": Augment(device=("brightness",))}
    spec = Train({"u": [record]}, {"u": Group("train", 2, twice, labels=False)}, (RGB, FLOW), HEADS, 16, 0)
    films, labels = views.of_clip(spec, 0, 2)
    assert list(films) == ["u, weak: rgb", "u, strong: rgb"] and labels == []
    assert all(len(own) == 2 and own[0].shape == (4, 16, 16, 3) for own in films.values())


def test_a_page_with_views(tmp_path):
    text = written(tmp_path / "page.html", how(2))
    # The views of all clips but the damaged one.
    assert len(films_of(text)) == 9 and "2 draws" in text and "mine.py" in text
    assert text.count("not learnt from: clip &#39;clip1&#39;: flow frames") == 1


def test_views_are_shown_in_the_order_of_the_clips_own_films():
    spec = how()
    turned = browse.clip(fake.Source(1)[0], "train", HEADS, spec._replace(streams=spec.streams[::-1]), 0)
    assert turned["augmented"]["titles"] == ["rgb", "flow"] == turned["original"]["titles"][:2]


def test_a_film_that_does_not_play_shows_its_first_picture(text):
    found = re.findall(r'poster="data:image/webp;base64,([^"]+)" data-film="([^"]+)"', text)
    assert len(found) == text.count("<video")
    for still, url in found:
        assert len(still) < 2000
        with Image.open(io.BytesIO(base64.b64decode(still))) as picture:
            shown, first = np.asarray(picture.convert("RGB")), decoded(url)[0]
        assert shown.shape == first.shape and np.abs(shown.astype(int) - first).mean() < 12


def test_tiles_keep_time():
    short, long = (np.arange(n, dtype=np.uint8).repeat(4 * 6 * 3).reshape(n, 4, 6, 3) for n in (3, 6))
    found = pictures.beside([short, long], 8)
    assert found.shape == (6, 8, 24, 3)
    assert found[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2] and found[:, 0, 20, 0].tolist() == [*range(6)]


def test_sound_is_one_picture():
    found = fields.films(fake.Source(1)[0], 5)
    assert {name: len(film) for name, film in found.items()} == {"rgb": 5, "flow": 5, "audio": 1, "boxes": 5}


# ---------------------------------------------------------------------------- the command
@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("browsed")
    pack(root, healthy(), ["verb"])
    return root


def test_the_command_writes_the_clips_that_are_asked_for(root, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert ask(root, f"--out={out}", "--ids=clip001,clip007") == 0
    assert "2 of 9 clips" in capsys.readouterr().out and not (root / "browse.html").exists()
    assert re.findall(r"(clip\d+) · (\w+)", out.read_text()) == [("clip001", "train"), ("clip007", "test")]
    assert ask(root, f"--out={out}", "--clips=4", "--splits=val,test") == 0
    assert re.findall(r"clip\d+ · (\w+)", out.read_text()) == ["val", "val", "test", "test"]


def test_a_configuration_shows_its_own_views(root):
    changes = ["--config.batch_size=8", "--config.size=16", "--config.evaluation.splits=('test',)"]
    found = command.trained(f"{ROOT}/configs/mml.py:smoke", root, 2, changes)
    assert {stream.name for stream in found.streams} == {"rgb", "flow"} and found.size == 16 and found.draws == 2
    assert set(found.groups) == {"main"} and "verb" in found.heads


@pytest.mark.parametrize("argv", [
    ["--clips=0"], ["--draws=0"], ["--splits=x"], ["--ids=nobody"], ["--ids="], ["--config.seed=1"],
    ["--config=nope.py"],
], ids=" ".join)  # fmt: skip
def test_wrong_use(root, argv, capsys):
    assert ask(root, *argv) == 2
    assert argv[0].split("=")[0] in capsys.readouterr().err


def test_no_dataset_and_a_folder_for_a_page_are_wrong_use(root, tmp_path):
    assert ask(tmp_path / "none") == 2 and ask(root, f"--out={tmp_path}") == 2


# ---------------------------------------------------------------------------- what may be wrong with the files
@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "data")


def test_a_clip_that_cannot_be_shown_leaves_the_others_alone(tmp_path):
    clips = fake.Source(3)

    def torn():
        raise RuntimeError("checksum <1>")

    chosen = [("train", 0, lambda: clips[0]), ("train", 1, torn), ("test", 2, lambda: clips[2] | {"fps": 0.0})]
    browse.write(tmp_path / "page.html", fake.dataset(3), chosen, HEADS, [])
    text = (tmp_path / "page.html").read_text()
    assert len(films_of(text)) == 1 and text.count('<figure class="clip"') == 3
    assert "cannot be shown: unexpected RuntimeError: checksum &lt;1&gt;</b><br>row 1 · train" in text
    assert "cannot be shown: unexpected ZeroDivisionError" in text


def test_damaged_files_are_named(copy, capsys):
    (copy / "index.json").write_text("[")
    assert ask(copy, "--ids=clip001") == 1 and f"{copy}/index.json cannot be read" in capsys.readouterr().err
    # Nobody needs it who asks for no ids.
    assert ask(copy, "--clips=1") == 0
    (path,) = copy.glob("clips/*/*-test.array_record*")
    path.write_bytes(path.read_bytes()[:-200])
    (copy / "browse.html").write_text("an older page")
    code, err = ask(copy, "--splits=test"), capsys.readouterr().err
    text = (copy / "browse.html").read_text()
    # Either all of it is refused, or every clip is.
    assert (code == 1 and "built" in err and text == "an older page") or text.count("cannot be shown: ") == 3
    (copy / "metadata.json").write_text("{")
    assert ask(copy) == 1 and "metadata.json cannot be read" in capsys.readouterr().err


def test_splits_without_clips_are_no_choice(copy, capsys):
    files.write_json(copy / "metadata.json", files.read_json(copy / "metadata.json") | {
        "splits": {"train": 3, "val": 3, "test": 0}, "expected": {"train": 3, "val": 3, "test": 3}})  # fmt: skip
    assert ask(copy, "--splits=test") == 2 and "the splits with clips are train, val" in capsys.readouterr().err
    assert ask(copy, "--clips=2") == 0
    assert re.search("<td>test</td><td>0</td><td>3</td>", (copy / "browse.html").read_text())


def test_a_run_in_the_place_of_a_dataset(tmp_path, capsys):
    files.write_json(tmp_path / "config.json", {"dataset": {"path": "data/mine"}})
    assert ask(tmp_path) == 2 and "folder of a run" in capsys.readouterr().err


def test_where_a_page_cannot_be_written(copy, tmp_path, monkeypatch, capsys):
    assert (
        ask(copy, f"--out={copy}/metadata.json") == 2 and "in the folder of a dataset" in capsys.readouterr().err
    )

    def full(path, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_text", full)
        assert ask(copy, "--clips=1") == 1 and "may not write there" in capsys.readouterr().err
    assert not (copy / "browse.html").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ask(copy) == 2
    err = capsys.readouterr().err
    assert f"may not write into {copy}" in err and "--out=FILE" in err


def test_a_configuration_that_this_dataset_cannot_serve(copy, capsys):
    """It has no depth, and no label space of that name."""
    code = ask(copy, f"--config={ROOT}/configs/mml.py:ssv2")
    assert code in (1, 2) and "verb" in capsys.readouterr().err
    assert ask(copy, f"--config={ROOT}/configs/mml.py:nope") == 2
    assert "no variant 'nope'" in capsys.readouterr().err
    assert ask(copy, f"--config={ROOT}/configs/mml.py:smoke", "--config.sizze=3") == 2
    assert "did you mean --config.size?" in capsys.readouterr().err
