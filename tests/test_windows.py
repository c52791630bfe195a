"""A long clip in windows: which there are, that each is what it would be alone, and what damage costs."""

import functools
import os

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_media import pictures, write

from mmvid.data import clips, example
from mmvid.data.media import film, inputs, record, windows
from mmvid.data.media.files import DecodeError
from mmvid.data.media.item import Item, Refused
from mmvid.data.media.windows import Window
from mmvid.streams import Sampling, Stream, Views

RGB = Stream("rgb", "rgb", Sampling("uniform", 4))
STREAMS = (
    RGB, Stream("flow", "flow", Sampling("uniform", 2), "stack5"),
    Stream("audio", "audio", Sampling("uniform", 4), "logmel"),
    Stream("boxes", "boxes", Sampling("uniform", 4), "layout"),
)  # fmt: skip
# OpenCV's DIS does not compute the same twice of pictures of 34 pixels and less.
SETTINGS = record.Settings(flow="dis", short_side=48)


def spec(*streams):
    return example.Eval(None, streams, {}, 16, 1, Views())


def reads(*streams):
    return functools.partial(example.frames_read, spec(*streams))


# ---------------------------------------------------------------------------- which there are
@given(st.floats(0, 50), st.floats(0.1, 200), st.floats(0.5, 30), st.floats(0.2, 40))
def test_windows_are_equally_long_and_end_with_the_film(begin, lasts, length, stride):
    end = begin + lasts
    found = windows.between(begin, end, length, stride)
    assert found[0].start == begin and found[-1].end == pytest.approx(end)
    if lasts <= length:
        assert found == [Window(begin, end)]
        return
    *first, last = found
    assert all(own.end - own.start == pytest.approx(length) for own in first)
    assert length * (1 - 1e-6) <= last.end - last.start <= length * 1.1 + 1e-6
    steps = np.diff([own.start for own in found])
    np.testing.assert_allclose(steps[:-1], stride)
    # The last one may come sooner, never later.
    assert not len(steps) or 0 < steps[-1] <= stride + 1e-6


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A film of 60 frames, 12 a second, with a sound of four seconds: the last one is silent."""
    return write(tmp_path_factory.mktemp("long") / "a.mp4", frames=pictures(60, 60, 80), sound=4.0)


def test_they_are_of_the_interval_that_is_named(long):
    assert windows.of(inputs.item(long), 2, 2) == [Window(0, 2), Window(2, 4), Window(3, 5)]
    found = windows.of(inputs.item(long, start=1, end=3), 1, 1)
    np.testing.assert_allclose(found, [(1, 2), (2, 3)], atol=1e-6)
    with pytest.raises(DecodeError, match=r"no frames between 9.0 s and the end"):
        windows.of(inputs.item(long, start=9), 2, 2)
    for length, stride in ((0.01, 1), (1, 0.01)):
        with pytest.raises(DecodeError, match=r"shorter or closer together than its frames, .* 0.0833 s"):
            windows.of(inputs.item(long), length, stride)
    with pytest.raises(DecodeError, match="neither a video nor pictures of its own"):
        windows.of(Item("a", None, paths={"depth": long}), 1, 1)


def test_one_frame_is_one_window(tmp_path):
    item = inputs.item(write(tmp_path / "a.mp4", frames=pictures(1, 36, 48)))
    assert [len(windows.of(item, *own)) for own in ((0.5, 0.5), (0.5, 0.1), (4, 2))] == [1, 1, 1]


# ---------------------------------------------------------------------------- the record of each
def test_each_is_what_it_would_be_alone(long, tmp_path):
    """Pictures and flow that are read, sound, boxes and times; the last window lacks sound."""
    boxes = np.float32([[t, 0.1, 0.1, 0.2, 0.3, 1, 1, 0, 0] for t in range(0, 60, 2)])
    np.save(tmp_path / "boxes.npy", boxes)
    item = inputs.item(long, hear=True, boxes=tmp_path / "boxes.npy")
    found = [*windows.of(item, 1.5, 1.25), Window(4.25, 5.0)]
    together = windows.records(item, SETTINGS, reads(*STREAMS), found)
    for window, made in zip(found, together, strict=True):
        (alone,) = windows.records(item, SETTINGS, reads(*STREAMS), [window])
        assert set(made) == set(alone)
        read = example.frames_read(spec(*STREAMS), alone)
        for column, field in {"rgb": "rgb", "flow_x": "flow", "flow_y": "flow"}.items():
            assert len(made[column]) == len(alone[column])
            assert all(made[column][i] == alone[column][i] != b"" for i in read[field])
        for column in set(made) - {"rgb", "flow_x", "flow_y"}:
            close = functools.partial(np.testing.assert_allclose, atol=1e-5)
            same = close if column in ("times", "boxes", "audio_start_s", "fps") else np.testing.assert_array_equal
            same(made[column], alone[column], err_msg=column)
    assert together[0]["audio"] and len(together[0]["boxes"]) == 9 and not together[-1]["audio"]


@pytest.mark.parametrize("seconds", [5, 20])
def test_pictures_of_a_batch_are_held_however_long_the_film(tmp_path, monkeypatch, seconds):
    """Four frames of each window, and the first one, which tells their size."""
    held = []
    monkeypatch.setattr(film.files_lib, "check_room", lambda count, size: held.append(count))
    item = inputs.item(write(tmp_path / "a.mp4", frames=np.zeros((12 * seconds, 16, 16, 3), np.uint8)))
    found = windows.of(item, 1, 1)
    for first in range(0, len(found), 4):
        made = windows.records(item, SETTINGS._replace(flow="none"), reads(RGB), found[first : first + 4])
        assert all(own["num_frames"] == 12 for own in made)
    assert len(held) == -(-len(found) // 4) and max(held) == 17


def test_what_is_stored_as_a_film_is_read_window_by_window(long):
    settings = SETTINGS._replace(rgb_storage="mp4", flow="none")
    made = windows.records(inputs.item(long), settings, reads(RGB), [Window(0, 1), Window(1, 2)])
    assert [own["num_frames"] for own in made] == [12, 12] and all(own["rgb_video"] for own in made)


def test_damage_costs_the_windows_that_it_lies_in(tmp_path):
    """A film whose head comes first and whose end was lost; a pause in which nothing is shown is no window."""
    path = write(tmp_path / "a.mp4", frames=pictures(60, 36, 48), options={"g": "12"})
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(0.7 * len(whole))])
    item = inputs.item(tmp_path / "cut.mp4")
    made = windows.records(item, SETTINGS, reads(RGB), windows.of(item, 1, 1))
    assert isinstance(made[0], dict) and isinstance(made[-1], str) and made[-1]
    gaps = [1] * 12 + [48] + [1] * 12
    paused = inputs.item(write(tmp_path / "paused.mp4", frames=pictures(25, 36, 48), gaps=gaps))
    made = windows.records(paused, SETTINGS, reads(RGB), [Window(0, 1), Window(2, 3), Window(5, 6)])
    assert isinstance(made[0], dict) and made[1] == "no frames" and isinstance(made[2], dict)


# ---------------------------------------------------------------------------- who makes them
@pytest.mark.slow
def test_workers_make_what_this_process_makes(long, tmp_path):
    """In the order that is asked for, with the reasons of what cannot be read."""
    (tmp_path / "bad.mp4").write_text("no film")
    items = [inputs.item(long), inputs.item(tmp_path / "bad.mp4"), Refused("c", None, "why"), inputs.item(long)]
    make = functools.partial(clips.whole, settings=SETTINGS._replace(flow="none"), spec=spec(RGB))
    here, there = (list(clips.each(make, iter(items), count)) for count in (0, 2))
    assert [own if isinstance(own, str) else own["rgb"] for own in here] == [
        own if isinstance(own, str) else own["rgb"] for own in there
    ]
    assert "not readable as video" in here[1] and here[2] == "why" and len(here[0]["rgb"]) == 60


@pytest.mark.slow
def test_a_worker_that_dies_is_told():
    with pytest.raises(ValueError, match=r"a worker process died.*--workers=1"):
        list(clips.each(os._exit, [3], 1))
