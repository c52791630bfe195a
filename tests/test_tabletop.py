"""The embedded dataset: pure, balanced, and real files that any decoder reads."""

import collections

import cv2
import numpy as np
import pytest

from mmvid.data import decode, tabletop
from mmvid.data import tabletop_scene as scene


def spec(verb, index=0, split="train"):
    return tabletop.Spec(split, index, (scene.VERBS.index(verb),), 0)


def test_a_clip_is_a_function_of_its_spec():
    a, b, c = (tabletop.render(s) for s in (spec("lift"), spec("lift"), spec("lift", 1)))
    for left, right in zip(a, b):
        np.testing.assert_array_equal(left, right)
    assert a.rgb.shape != c.rgb.shape or not np.array_equal(a.rgb, c.rgb)


@pytest.mark.parametrize("verb", scene.VERBS)
def test_every_modality_of_every_verb(verb):
    for index in range(3):
        clip = tabletop.render(spec(verb, index))
        frames = len(clip.rgb)
        assert 24 <= frames <= 40 and clip.rgb.shape[1:] == (48, 48, 3)
        assert clip.depth.shape == (frames, 48, 48) and clip.depth.dtype == np.uint16
        assert abs(len(clip.audio) / 16000 - frames / 12) < 0.01
        boxes = clip.boxes
        assert boxes.shape[1] == 9 and (boxes[:, 1] < boxes[:, 3]).all() and (boxes[:, 2] < boxes[:, 4]).all()
        assert boxes[:, 1:5].min() >= 0 and boxes[:, 1:5].max() <= 1
        assert set(boxes[:, 5]) <= {1.0, 2.0} and boxes[:, 0].max() < frames
        assert (verb == "nothing") == (2.0 not in set(boxes[:, 5]))


def path_of(verb, index=0):
    p = scene.progress(30, 3, 26)
    return scene.act(verb, p, np.random.default_rng(index), (0, 1))


def test_verbs_move_as_they_are_called():
    travel = lambda verb, axis: np.ptp(path_of(verb).actors[0].pose[:, axis])  # noqa: E731
    sign = lambda verb, axis: np.sign(np.diff(path_of(verb).actors[0].pose[[0, -1], axis]))[0]  # noqa: E731
    assert sign("push left", 0) < 0 < sign("push right", 0)
    assert sign("pull near", 1) < 0 < sign("push far", 1)
    assert sign("drop", 2) < 0 < sign("lift", 2)
    assert sign("rotate counterclockwise", 3) < 0 < sign("rotate clockwise", 3)
    assert travel("nothing", 0) == travel("pretend", 0) == 0 and travel("shake", 0) > 0.1
    verbs = ("bring together", "take apart")
    gaps = {v: np.abs(np.diff([a.pose[:, 0] for a in path_of(v).actors], axis=0))[0] for v in verbs}
    assert gaps["bring together"][0] > gaps["bring together"][-1]
    assert gaps["take apart"][0] < gaps["take apart"][-1]
    front, back = (path_of(v).actors for v in ("put in front", "put behind"))
    assert front[0].pose[-1, 1] < front[1].pose[-1, 1] and back[0].pose[-1, 1] > back[1].pose[-1, 1]


def test_impacts_sound():
    for verb in ("drop", "collide", "tip over"):
        assert path_of(verb).impacts
    loud = [np.abs(tabletop.render(spec("drop", i)).audio.astype(float)).max() for i in range(4)]
    quiet = [np.abs(tabletop.render(spec("nothing", i)).audio.astype(float)).max() for i in range(4)]
    assert min(loud) > max(quiet)


def test_splits_are_balanced_and_differ():
    for size, counts in tabletop.SIZES.items():
        for split, n in counts.items():
            verbs = collections.Counter(s.verbs[0] for s in tabletop.clips(size, split))
            assert (sum(verbs.values()) == n and max(verbs.values()) - min(verbs.values()) <= 1) or n < 20
    labelled = tabletop.labelled_subset(tabletop.clips("small", "train"), 5)
    assert len(labelled) == 100
    pairs = [s.verbs for s in tabletop.clips("small", "train", "multilabel")]
    assert all(a != b for a, b in pairs)
    with pytest.raises(ValueError, match="smoke"):
        tabletop.clips("tiny", "train")


def test_looks_are_told_apart_and_unseen_ones_are_new():
    sprites = [scene.sprite(n, 0) for n in range(8)]
    for i in range(8):
        for j in range(i):
            assert np.abs(sprites[i] - sprites[j]).mean() > 0.05
    train = {scene.background(i).tobytes() for i in range(20)}
    assert not train & {scene.background(i).tobytes() for i in range(20, 60)}


def test_files_hold_what_was_rendered(tmp_path, monkeypatch):
    monkeypatch.setitem(tabletop.SIZES, "two", dict(train=2, val=1, test=1, unseen=1))
    manifest = tabletop.write(tmp_path / "files", "two", workers=1)
    assert tabletop.write(tmp_path / "files", "two") == manifest  # nothing is made twice
    clip = tabletop.render(tabletop.clips("two", "train")[1])
    root, name = tmp_path / "files", "train-00001"
    video = decode.video(root / "rgb" / f"{name}.mp4")
    assert video.fps == 12 and video.frames.shape == clip.rgb.shape
    assert np.abs(video.frames.astype(int) - clip.rgb).mean() < 6
    np.testing.assert_array_equal(decode.depth(root / "depth" / name), clip.depth)
    np.testing.assert_array_equal(decode.audio(root / "audio" / f"{name}.wav").samples, clip.audio)
    np.testing.assert_array_equal(np.load(root / "boxes" / f"{name}.npy"), clip.boxes)
    stills = tabletop.write_stills(tmp_path / "stills", 16)
    files = sorted(stills.rglob("*.png"))
    assert len(files) == 16 and cv2.imread(str(files[0])).shape == (48, 48, 3)
