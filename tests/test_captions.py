"""A film with lines below its pictures: times, sizes and sound are the film's own."""

import av
import numpy as np
import pytest
from test_media import pictures, write

from mmvid.data.media import captions, inputs
from mmvid.data.media.captions import Line
from mmvid.data.media.files import DecodeError

LINES = (Line("push", 0.8), Line("pull", 0.1))


def read(path):
    """(pictures [T, H, W, 3], seconds [T], seconds of sound or None) of a film."""
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format="rgb24"), f.time) for f in container.decode(video=0)]
        shown, times = zip(*frames)
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        sound = sum(f.samples / f.sample_rate for f in container.decode(tracks[0])) if tracks else None
    return np.stack(shown), np.array(times), sound


def test_the_pictures_stand_above_their_lines(tmp_path):
    """At their own times, of a variable rate; from the middle on there is another line, and the first one's bar
    reaches further."""
    gaps = [1, 1, 3, 1, 2, 1, 1, 1]
    film = inputs.item(write(tmp_path / "a.mp4", frames=pictures(8, 60, 80), gaps=gaps))
    captions.write(tmp_path / "b.mp4", film, lambda second: LINES if second > 0.4 else LINES[1:], 2)
    shown, times, sound = read(tmp_path / "b.mp4")
    np.testing.assert_allclose(times, np.cumsum([0, *gaps[:-1]]) / 12, atol=1e-3)
    # Small pictures are enlarged, four times here, so that what stands below can be read.
    assert shown.shape[1] > 240 and shown.shape[1] % 2 == 0 and shown.shape[2] == 320 and sound is None
    above = shown[:, :240].reshape(8, 60, 4, 80, 4, 3).mean((2, 4))
    assert np.abs(above - pictures(8, 60, 80)).mean() < 8
    blue = shown[:, 240:, :, 2].astype(int) - shown[:, 240:, :, 0] > 60
    bars = blue.any(1).sum(1)
    assert (bars[times < 0.4] < 60).all() and (bars[times > 0.4] > 220).all()


def test_sound_goes_along_from_the_start_that_is_asked_for(tmp_path):
    film = write(tmp_path / "a.mp4", frames=pictures(36, 36, 48), sound=3.0)
    for start, lasts in ((0, 3.0), (1, 2.0)):
        captions.write(tmp_path / "b.mp4", inputs.item(film, start=start), lambda second: LINES, 2)
        _, times, sound = read(tmp_path / "b.mp4")
        assert times[0] == 0 and len(times) == 12 * lasts and sound == pytest.approx(lasts, abs=0.15)


def test_sound_ends_where_the_pictures_do(tmp_path):
    film = write(tmp_path / "a.mp4", frames=pictures(48, 36, 48), sound=4.0)
    captions.write(tmp_path / "b.mp4", inputs.item(film, start=1, end=2), lambda second: LINES, 2)
    _, times, sound = read(tmp_path / "b.mp4")
    assert len(times) == 12 and sound == pytest.approx(1, abs=0.15)


def test_a_film_of_pictures_and_one_that_breaks_off(tmp_path):
    for i, picture in enumerate(pictures(4, 36, 48)):
        av.VideoFrame.from_ndarray(picture, format="rgb24").to_image().save(tmp_path / f"{i}.png")
    captions.write(tmp_path / "b.mp4", inputs.item(tmp_path, fps=2.0), lambda second: LINES, 2)
    _, times, _ = read(tmp_path / "b.mp4")
    np.testing.assert_allclose(times, [0, 0.5, 1, 1.5], atol=1e-3)


def test_a_panel_holds_any_text():
    """As much of it as fits, in letters of any kind, and no more lines than there are rows."""
    empty = captions.panel((), 2, 240)
    assert empty.shape[1] == 240 and empty.shape[0] % 2 == 0 and (empty == empty[0, 0]).all()
    names = ("x", "x" * 300, "Öffnen é 手", "")
    drawn = [captions.panel((Line(name, 0.0),), 2, 240) for name in names]
    assert all(own.shape == empty.shape for own in drawn)
    ink = [(own != empty).any(2).sum() for own in drawn]
    assert ink[1] > ink[2] > ink[0] > ink[3] > 0
    three = captions.panel((*LINES, Line("third", 0.3)), 2, 240)
    np.testing.assert_array_equal(three, captions.panel(LINES, 2, 240))
    assert captions._shortened("abcdef", lambda own: len(own) <= 4) == "abc…"


@pytest.mark.parametrize("size, shown", [
    ((48, 48), (240, 240)), ((36, 48), (252, 336)), ((256, 341), (256, 340)), ((1080, 1920), (720, 1280)),
    ((1, 1), (240, 240)), ((8, 3000), (10, 4096)), ((2000, 2000), (720, 720)), ((241, 301), (240, 300)),
])  # fmt: skip
def test_pictures_can_be_looked_at(size, shown):
    """Their sides are even, small ones are enlarged, large ones are made smaller."""
    found = captions._sized(np.zeros((*size, 3), np.uint8))
    assert found.shape[:2] == shown


def test_what_goes_wrong_leaves_the_old_file(tmp_path):
    film = inputs.item(write(tmp_path / "a.mp4", frames=pictures(8, 36, 48)))
    (tmp_path / "b.mp4").write_text("old")

    def lines(second):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        captions.write(tmp_path / "b.mp4", film, lines, 1)
    with pytest.raises(OSError):
        captions.write(tmp_path / "none" / "b.mp4", film, lambda second: LINES, 1)
    with pytest.raises(DecodeError, match="neither a video nor pictures"):
        captions.write(tmp_path / "b.mp4", film._replace(path=None), lambda second: LINES, 1)
    assert (tmp_path / "b.mp4").read_text() == "old" and {p.name for p in tmp_path.iterdir()} == {"a.mp4", "b.mp4"}
