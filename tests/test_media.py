"""Decoding: what is right comes out, what is wrong is named."""

import fractions
import functools
import pathlib
import shutil
import struct
import tempfile
import threading
import tracemalloc
import wave

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from mmvid.data import fields as fields_lib
from mmvid.data import frames as frames_lib
from mmvid.data.media import audio, depth, flow_pictures, promise, timetable
from mmvid.data.media import files as files_lib
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media import video as video_lib

FRAMES, FPS = 30, 12


def pictures(count=FRAMES, height=64, width=80):
    """A moving texture with the frame's number in its brightness."""
    rng = np.random.default_rng(0)
    big = rng.integers(0, 90, (height + count, width + count, 3), dtype=np.uint8)
    big = cv2.GaussianBlur(big, (0, 0), 2)
    return np.stack([big[i : i + height, i : i + width] + np.uint8(4 * i) for i in range(count)])


def write(path, codec="libx264", *, frames=None, gaps=None, sound=0.0, video=True, options=(),
          pixels="yuv420p", aspect=None, late=0, rate=FPS):  # fmt: skip
    """A file with a picture, from the frame ``late`` on, and, for ``sound`` seconds, a tone; ``gaps``:
    duration of each frame; ``aspect`` of a pixel."""
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as container:
        if video:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height = frames.shape[2], frames.shape[1]
            stream.pix_fmt, stream.options = pixels, dict(options)
            stream.codec_context.sample_aspect_ratio = aspect or 1
        tone = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        if video:
            times = np.cumsum([late, *(gaps or [1] * len(frames))])
            for picture, time in zip(frames, times):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = int(time), fractions.Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        if tone:
            wave_ = np.sin(np.arange(int(16000 * sound)) / 5) * 9000
            frame = av.AudioFrame.from_ndarray(np.int16(wave_)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(tone.encode(frame))
            container.mux(tone.encode())
    return path


def damaged(source, target, *, keep=1.0, flips=0):
    """A copy with the first ``keep`` of its bytes, ``flips`` of them inverted."""
    data = bytearray(source.read_bytes())
    for i in np.random.default_rng(1).integers(len(data) // 3, len(data) * 3 // 5, flips):
        data[i] ^= 0xFF
    target.write_bytes(bytes(data[: int(len(data) * keep)]))
    return target


@pytest.mark.parametrize(
    "name, codec", [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")]
)  # fmt: skip
class TestContainers:
    def test_whole(self, tmp_path, name, codec):
        video = video_lib.of_film(write(tmp_path / name, codec))
        assert video.frames.shape == (FRAMES, 64, 80, 3) and video.frames.dtype == np.uint8
        assert np.allclose(video.times, np.arange(FRAMES) / FPS, atol=2e-3)
        assert abs(video.frames.astype(int) - pictures()).mean() < 6
        assert video.fps == pytest.approx(FPS)

    @pytest.mark.parametrize("keep", [0.5, 0.8])
    def test_truncated(self, tmp_path, name, codec, keep):
        path = damaged(write(tmp_path / name, codec), tmp_path / f"cut-{name}", keep=keep)
        with pytest.raises(files_lib.DecodeError, match=r"truncated|damaged|not readable"):
            video_lib.of_film(path)

    def test_damaged_bytes(self, tmp_path, name, codec):
        path = damaged(write(tmp_path / name, codec), tmp_path / f"hit-{name}", flips=60)
        with pytest.raises(files_lib.DecodeError, match=r"damaged: \d+|not readable|truncated"):
            video_lib.of_film(path)

    def test_interval(self, tmp_path, name, codec):
        path = write(tmp_path / name, codec)
        whole, part = video_lib.of_film(path), video_lib.of_film(path, start=1.0, end=2.0)
        assert len(part.frames) == FPS and part.times[0] == pytest.approx(0, abs=2e-3)
        np.testing.assert_array_equal(part.frames, whole.frames[12:24])


def test_header_that_promises_more(tmp_path):
    """Matroska has no count of frames: its length in seconds tells what is missing."""
    path = write(tmp_path / "a.mkv")
    data = path.read_bytes()
    assert b"00:00:02.500000000" in data
    path.write_bytes(data.replace(b"00:00:02.500000000", b"00:00:04.000000000"))
    with pytest.raises(files_lib.DecodeError, match=r"truncated: 2\.50 of 4\.00 s"):
        video_lib.of_film(path)
    assert len(video_lib.of_film(path, end=2.0).frames) == 24  # what the clip needs is there


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 99, b"\0" * 5000])
def test_no_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(files_lib.DecodeError, match=r"empty file a\.mp4|not readable as video"):
        video_lib.of_film(path)


def test_missing_and_folder_and_sound_only(tmp_path):
    with pytest.raises(files_lib.DecodeError, match=r"missing file b\.mp4"):
        video_lib.of_film(tmp_path / "b.mp4")
    with pytest.raises(files_lib.DecodeError, match="not readable"):
        video_lib.of_film(tmp_path)
    with pytest.raises(files_lib.DecodeError, match="no video stream"):
        video_lib.of_film(write(tmp_path / "c.mp4", video=False, sound=1.0))


def test_interval_outside_the_video(tmp_path):
    path = write(tmp_path / "a.mp4")
    with pytest.raises(files_lib.DecodeError, match=r"no frames between 9\.0 s and the end"):
        video_lib.of_film(path, start=9.0)


def test_search_finds_the_interval_behind_many_keyframes(tmp_path):
    path = write(tmp_path / "a.mp4", frames=pictures(60), options={"g": "6", "bf": "2"})
    part = video_lib.of_film(path, start=3.5, end=4.0)
    np.testing.assert_array_equal(part.frames, video_lib.of_film(path).frames[42:48])


def test_variable_rate_keeps_times(tmp_path):
    gaps = [1] * 15 + [4] * 15
    video = video_lib.of_film(write(tmp_path / "a.mp4", gaps=gaps))
    assert np.allclose(video.times, np.cumsum([0, *gaps])[:-1] / FPS, atol=1e-3)


def test_longer_sound_is_no_truncation(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        assert len(video_lib.of_film(write(tmp_path / name, sound=6.0)).frames) == FRAMES


def test_upright(tmp_path):
    """A telephone's file: the matrix in the track's header turns the picture."""
    path = write(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    one, minus = (0x10000).to_bytes(4, "big"), (-0x10000).to_bytes(4, "big", signed=True)
    data[place : place + 36] = (
        bytes(4) + one + bytes(4) + minus + bytes(12) + bytes(4) + b"\x40\0\0\0"
    )  # clockwise by 90 degrees
    path.write_bytes(bytes(data))
    video = video_lib.of_film(path)
    assert video.frames.shape == (FRAMES, 80, 64, 3) and video.frames.flags.c_contiguous
    assert abs(video.frames[0].astype(int) - np.rot90(pictures()[0], -1)).mean() < 6


def test_short_side(tmp_path):
    path = write(tmp_path / "a.mp4")
    assert video_lib.of_film(path, short_side=32).frames.shape[1:3] == (32, 40)
    assert video_lib.of_film(path, short_side=256).frames.shape[1:3] == (64, 80)


def test_too_long_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(files_lib, "MAX_BYTES", 100_000)
    with pytest.raises(files_lib.DecodeError, match="start and end"):
        video_lib.of_film(write(tmp_path / "a.mp4"))


def test_a_damaged_file_does_not_taint_the_next_or_its_neighbour(tmp_path):
    """Threads decode good clips while others complain: the log is one for the process."""
    good = write(tmp_path / "a.mp4")
    bad = damaged(good, tmp_path / "bad.mp4", flips=40)
    seen = []

    def work(path):
        for _ in range(4):
            try:
                seen.append((path, len(video_lib.of_film(path).frames)))
            except files_lib.DecodeError:
                seen.append((path, 0))

    threads = [threading.Thread(target=work, args=(p,)) for p in (good, bad, good, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted([(good, FRAMES)] * 8 + [(bad, 0)] * 8)


# ---------------------------------------------------------------------------- from a time to a time
OPEN = "open-gop=1:keyint=10:bframes=3:log-level=error"
RATE = 24  # MPEG-1 and MXF know only few
FILMS = {
    "mpeg2.mpg": ("mpeg2video", dict(g=9, bf=2)),
    "mpeg2.ts": ("mpeg2video", dict(g=9, bf=2)),
    "mpeg2.vob": ("mpeg2video", dict(g=9, bf=2)),
    "mpeg2.mxf": ("mpeg2video", dict(g=9, bf=2)),
    "mpeg1.mpg": ("mpeg1video", dict(g=9, bf=2)),
    "asp.avi": ("mpeg4", dict(g=9, bf=2)),
    "asp.mp4": ("mpeg4", dict(g=9, bf=2)),
    "asp.3gp": ("mpeg4", dict(g=9)),
    "open.mp4": ("libx264", {"x264-params": OPEN}),
    "open.mkv": ("libx264", {"x264-params": OPEN}),
    "open.m2ts": ("libx264", {"x264-params": OPEN}),
    "open.flv": ("libx264", {"x264-params": OPEN}),
    "refreshed.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=8:bframes=0"}),
    "fields.mp4": ("libx264", {"x264-params": "tff=1:keyint=10:bframes=2"}),
    "h264.avi": ("libx264", dict(g=10, bf=2)),
    "h264.h264": ("libx264", dict(g=10, bf=2)),
    "hevc.mp4": ("libx265", {"x265-params": OPEN}),
    "vp9.webm": ("libvpx-vp9", dict(g=10)),
    "vp8.ogv": ("libvpx", dict(g=10)),
    # Of these two every packet is called a key: one codec's decoder knows better, the other's knows none.
    "h263.avi": ("h263p", dict(g=9)),
    "apple.mov": ("rpza", {}),
    "ffv1.mkv": ("ffv1", {}),
    "jpeg.avi": ("mjpeg", {}),
    "flash.flv": ("flv", dict(g=9)),
    "windows.wmv": ("wmv2", dict(g=9)),
    "windows.asf": ("msmpeg4", dict(g=9)),
    "still.gif": ("gif", {}),
}  # fmt: skip
PIXELS = {"still.gif": "rgb8", "jpeg.avi": "yuvj420p", "apple.mov": "rgb555le"}


@functools.cache
def film(name, gaps=None):
    """(path of the film ``name`` of FILMS, all that is in it)."""
    codec, options = FILMS[name]
    options = {key: str(value) for key, value in options.items()} | {"b": "2000000"}
    path = pathlib.Path(FOLDER.name) / f"{hash(gaps)}-{name}"
    write(path, codec, gaps=gaps, options=options, pixels=PIXELS.get(name, "yuv420p"), rate=RATE)
    return path, video_lib.of_film(path)


FOLDER = tempfile.TemporaryDirectory()


def encodes(codec):
    try:
        return bool(av.codec.Codec(codec, "w"))
    except av.codec.codec.UnknownCodecError:
        return False


def assert_cut(path, whole, start, end):
    """``decode.video`` from ``start`` to ``end`` is the same as the whole file filtered by time."""
    wanted = np.flatnonzero((whole.times >= start - 1e-6) & (whole.times < end - 1e-6))
    if not len(wanted):
        with pytest.raises(files_lib.DecodeError, match="no frames between"):
            video_lib.of_film(path, start=start, end=end)
        return
    part = video_lib.of_film(path, start=start, end=end)
    np.testing.assert_array_equal(part.frames, whole.frames[wanted])
    np.testing.assert_allclose(part.times + start, whole.times[wanted], atol=1e-9)
    assert part.first == wanted[0]


@pytest.mark.parametrize("name", FILMS)
class TestFilms:
    def test_whole(self, name):
        if not encodes(FILMS[name][0]):
            pytest.skip(f"this PyAV has no encoder {FILMS[name][0]}")
        whole = film(name)[1]
        assert len(whole.frames) == FRAMES and whole.first == 0
        rate = 25 if name == "h264.h264" else RATE  # a raw stream names none
        assert np.allclose(whole.times, np.arange(FRAMES) / rate, atol=6e-3)
        assert (np.diff(whole.frames.mean((1, 2, 3))) > 0).all()

    @settings(max_examples=12)
    @given(start=st.integers(0, 65), length=st.integers(1, 40))
    def test_cut(self, name, start, length):
        """Times in fiftieths of a second: between frames, and right at them."""
        if encodes(FILMS[name][0]):
            assert_cut(*film(name), start / 50, (start + length) / 50)


def test_a_picture_film_without_its_last_byte_is_truncated(tmp_path):
    data = film("still.gif")[0].read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[:-1])
    with pytest.raises(files_lib.DecodeError, match="truncated: its end"):
        video_lib.of_film(tmp_path / "cut.gif")


@settings(max_examples=12)
@given(st.integers(0, 150), st.integers(1, 90), st.sampled_from(["open.mp4", "open.mkv", "jpeg.avi"]))
def test_cut_at_a_variable_rate(start, length, name):
    path, whole = film(name, gaps=(1,) * 15 + (4,) * 15)
    assert np.allclose(whole.times, np.cumsum([0] + [1] * 15 + [4] * 14) / RATE, atol=2e-3)
    assert_cut(path, whole, start / 50, (start + length) / 50)


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mpg", "mpeg2video"), ("a.m2ts", "libx264")])
def test_a_search_reads_no_more_than_it_must(tmp_path, name, codec):
    """Of a long film a keyframe's worth is decoded, not all that comes before."""
    options = {"g": "12", "sc_threshold": "0" if codec == "libx264" else "1000000000"}
    frames = np.concatenate([pictures()] * 8)
    path = write(tmp_path / name, codec, frames=frames, options=options, rate=RATE)
    table = timetable.read(path)
    assert table.beginnings(200) == [table.keys[16], table.keys[15], None]
    with files_lib.opened(path) as container:
        numbers = [number for number, _ in timetable.frames(container, table, table.keys[16])]
    assert numbers == list(range(192, 240))


def test_the_search_that_ends_too_late_is_seen(tmp_path):
    path = film("open.mkv")[0]
    table = timetable.read(path)
    # As if its packets had been others.
    changed = table.packets.copy()
    changed[table.keys[2] + 2, 2] += 1
    with files_lib.opened(path) as container, pytest.raises(timetable.Lost):
        list(timetable.frames(container, table._replace(packets=changed), table.keys[1]))


# ---------------------------------------------------------------------------- times that do not rise
def stream_of(rate):
    stream = type("Stream", (), {})()
    stream.average_rate, stream.time_base = fractions.Fraction(rate), fractions.Fraction(1, rate)
    return stream


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.data())
def test_swapped_stamps_are_sorted(gaps, data):
    stamps = np.cumsum(gaps)
    swapped = stamps.copy()
    for i in data.draw(st.lists(st.integers(0, max(len(gaps) - 4, 0)), max_size=5)):
        swapped[i : i + 4] = np.roll(swapped[i : i + 4], 1)
    times = timetable._repaired(swapped.tolist(), stream_of(10))
    np.testing.assert_allclose(times, stamps / 10)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.sets(st.integers(0, 29)))
def test_equal_and_missing_stamps_are_spread(gaps, gone):
    stamps = np.cumsum(gaps)
    own = [None if i in gone else int(stamp) for i, stamp in enumerate(stamps)]
    times = timetable._repaired(own, stream_of(10))
    assert len(times) == len(own) and (np.diff(times) > 0).all()
    # Off by as much as a program stream's stamps are, no more.
    assert all(abs(t - stamp / 10) < 0.31 for t, stamp in zip(times, own) if stamp and own.count(stamp) == 1)


def test_made_up_stamps_of_a_program_stream():
    """As FFmpeg gives them of MPEG-1 in .mpg: two pairs are equal, three frames later all is well again."""
    own = [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 9, 10, 11, 14, 15]
    np.testing.assert_allclose(timetable._repaired(own, stream_of(24)), np.arange(16) / 24)


def test_stamps_that_jump_back_are_refused(tmp_path):
    """Two recordings in one file."""
    data = film("mpeg2.ts")[0].read_bytes()
    (tmp_path / "a.ts").write_bytes(data + data)
    with pytest.raises(files_lib.DecodeError, match=r"jump back from 1\.\d+ to 0\.\d+ s; write the file anew"):
        video_lib.of_film(tmp_path / "a.ts")


# ---------------------------------------------------------------------------- whole or not
def copied(source, target, start=0.0, last=1):
    """The packets from ``start`` on, as `ffmpeg -ss START -c copy` writes them; the last of them stands
    for ``last`` frames."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        packets = [packet for packet in reading.demux(stream) if packet.size]
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
        for packet in packets[max(i for i in keys if packets[i].pts * stream.time_base <= start) :]:
            packet.pts -= round(start / stream.time_base)
            packet.dts -= round(start / stream.time_base)
            if packet is packets[-1]:
                packet.duration *= last
            packet.stream = copy
            writing.mux(packet)
    return target


@pytest.mark.parametrize("name", ["open.mp4", "asp.mp4", "hevc.mp4"])
def test_what_an_edit_list_hides_is_not_missing(tmp_path, name):
    path, whole = film(name)
    cut = video_lib.of_film(copied(path, tmp_path / "a.mp4", start=0.75))
    np.testing.assert_array_equal(cut.frames, whole.frames[18:])
    assert_cut(tmp_path / "a.mp4", cut, 0.15, 0.4)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "flv"])
def test_a_last_frame_may_stand_for_seconds(tmp_path, ending):
    path = copied(film("open.mp4")[0], tmp_path / f"a.{ending}", last=40)
    assert len(video_lib.of_film(path).frames) == FRAMES
    for keep in (0.5, 0.8, 0.97):
        with pytest.raises(files_lib.DecodeError, match=r"truncated|damaged|not readable"):
            video_lib.of_film(damaged(path, tmp_path / f"cut.{ending}", keep=keep))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "flv", "ts"])
def test_a_picture_may_begin_after_its_sound(tmp_path, ending):
    video = video_lib.of_film(write(tmp_path / f"a.{ending}", sound=5.0, late=24))
    assert np.allclose(video.times, 2 + np.arange(FRAMES) / FPS, atol=0.1)
    assert_cut(tmp_path / f"a.{ending}", video, 2.5, 3.0)


def test_a_file_that_begins_in_the_middle_of_a_group(tmp_path):
    """Recordings of broadcasts do: what lacks its references is left out, here and there the same."""
    path, whole = film("open.m2ts")
    packets = timetable.read(path)
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux(video=0) if p.size]
    data = path.read_bytes()
    (tmp_path / "a.ts").write_bytes(data[places[packets.keys[1]] // 192 * 192 :])
    cut = video_lib.of_film(tmp_path / "a.ts")
    assert 18 <= len(cut.frames) <= 20
    np.testing.assert_array_equal(cut.frames, whole.frames[-len(cut.frames) :])
    assert_cut(tmp_path / "a.ts", cut, 0.25, 0.5)


def test_lengths_in_bytes(tmp_path):
    for name, whole in (("open.mkv", promise._whole_matroska), ("open.flv", promise._whole_flv)):
        path = film(name)[0]
        assert whole(path)
        for keep in (0.001, 0.3, 0.99):
            assert not whole(damaged(path, tmp_path / name, keep=keep))


# ---------------------------------------------------------------------------- as players show it
def quarters(path, matrix):
    """Writes a, b, c, d of the display matrix into an MP4's track."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (n << 16 for n in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    "matrix, shown",
    [
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda p: p.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_mirrored_and_turned(tmp_path, matrix, shown):
    path = write(tmp_path / "a.mp4")
    plain = video_lib.of_film(path).frames
    turned = video_lib.of_film(quarters(path, matrix)).frames
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, np.stack([shown(picture) for picture in plain]))


@pytest.mark.parametrize(
    "aspect, short_side, size",
    [((4, 3), 0, (64, 107)), ((1, 2), 0, (64, 40)), ((4, 3), 32, (32, 54)), ((1, 2), 20, (32, 20))],
)
def test_pixels_become_square(tmp_path, aspect, short_side, size):
    path = write(tmp_path / "a.mp4", aspect=fractions.Fraction(*aspect))
    frames = video_lib.of_film(path, short_side=short_side).frames
    assert frames.shape[1:3] == size
    expected = cv2.resize(pictures()[9], size[::-1], interpolation=cv2.INTER_AREA)
    assert abs(frames[9].astype(int) - expected).mean() < 6


def test_fields_become_frames(tmp_path):
    """A bar that moves between the two fields of a frame combs; deinterlaced it does not."""
    frames = np.full((12, 64, 80, 3), 40, np.uint8)
    for i in range(12):
        for field in range(2):
            frames[i, field::2, 4 * i + 2 * field : 4 * i + 2 * field + 16] = 210
    combs = {}
    for fields in ("tff=1", "bframes=2"):
        path = write(tmp_path / "a.mp4", frames=frames, options={"x264-params": fields})
        video = video_lib.of_film(path)
        assert np.allclose(video.times, np.arange(12) / FPS)
        combs[fields] = abs(np.diff(video.frames.astype(int), axis=1)).mean()
    assert combs["tff=1"] < combs["bframes=2"] / 3


# ---------------------------------------------------------------------------- names, memory
@pytest.mark.parametrize(
    "name", ["12:30.mp4", "-a.mp4", "100%d.mp4", "caf\udce9.mp4", "file:x.mp4", "pipe:0.mp4", "a?b#c .mp4"]
)
def test_a_file_may_be_called_anything(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(film("asp.mp4")[0], name)
    assert len(video_lib.of_film(name, start=0.25).frames) == 24
    assert depth.extent(name) == (30, pytest.approx(29 / RATE))
    with pytest.raises(files_lib.DecodeError, match="no sound stream in"):
        audio.read(name)


@pytest.mark.parametrize("name", ["12:30.png", "-a.bmp", "100%d.jpg", "caf\udce9.png", "a.webp"])
def test_a_picture_may_be_called_anything(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data = cv2.imencode(pathlib.Path(name).suffix, pictures()[3])[1]
    pathlib.Path(name).write_bytes(data.tobytes())
    assert video_lib.image(name).frames.shape == (1, 64, 80, 3)


def test_reasons_can_be_written_anywhere(tmp_path):
    with pytest.raises(files_lib.DecodeError, match=r"missing file caf\\udce9\.mp4") as caught:
        video_lib.of_film(tmp_path / "caf\udce9.mp4")
    str(caught.value).encode()


def peak(make):
    """(bytes of the frames that ``make`` gives, bytes at most in use meanwhile)."""
    tracemalloc.start()
    try:
        return make().frames.nbytes, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_frames_are_in_memory_once(tmp_path):
    path = write(tmp_path / "a.mp4", frames=pictures(60, 240, 320))
    size, most = peak(lambda: video_lib.of_film(path))
    assert size == 60 * 240 * 320 * 3 and most < 1.2 * size
    folder = numbered(tmp_path / "clip", "{}.jpg", 12)
    files = pictures_lib.sequence(folder) * 10
    size, most = peak(lambda: video_lib.images(files))
    assert most < 1.3 * size


def test_too_long_is_told_before_it_is_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", "ffv1")
    monkeypatch.setattr(files_lib, "MAX_BYTES", 100_000)
    for read in (video_lib.of_film, depth.read):
        with pytest.raises(files_lib.DecodeError, match=f"too long: {FRAMES} frames"):
            read(path)


# ---------------------------------------------------------------------------- images, depth, sound
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_image(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    cv2.imwrite(str(path), pictures()[3][..., ::-1])
    clip = video_lib.read(path, start=0.0, end=None, short_side=0)
    assert clip.frames.shape == (1, 64, 80, 3)
    assert abs(clip.frames[0].astype(int) - pictures()[3]).mean() < 4
    with pytest.raises(files_lib.DecodeError, match=r"damaged|not readable"):
        video_lib.image(damaged(path, tmp_path / f"cut{ending}", keep=0.6))
    (tmp_path / f"text{ending}").write_text("hello")
    with pytest.raises(files_lib.DecodeError, match=r"not readable|damaged"):
        video_lib.image(tmp_path / f"text{ending}")


def maps(count=12):
    return np.arange(count * 8 * 10, dtype=np.uint16).reshape(count, 8, 10) * 37


def test_depth_folder_in_the_order_of_its_numbers(tmp_path):
    for i, picture in enumerate(maps()):
        cv2.imwrite(str(tmp_path / f"d_{i}.png"), picture)
    np.testing.assert_array_equal(depth.read(tmp_path).maps, maps())
    cv2.imwrite(str(tmp_path / "d_3.png"), maps()[0, :4])
    with pytest.raises(files_lib.DecodeError, match="several sizes"):
        depth.read(tmp_path)
    (tmp_path / "d_3.png").write_bytes((tmp_path / "d_4.png").read_bytes()[:60])
    with pytest.raises(files_lib.DecodeError, match=r"d_3\.png"):
        depth.read(tmp_path)


def test_depth_video(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 10, 8, "gray16le"
        for picture in maps():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray16le")))
        container.mux(stream.encode())
    np.testing.assert_array_equal(depth.read(path).maps, maps())
    with pytest.raises(files_lib.DecodeError):
        depth.read(damaged(path, tmp_path / "cut.mkv", keep=0.7))
    (tmp_path / "none").mkdir()
    with pytest.raises(files_lib.DecodeError, match=r"no frames: the folder none has no \.png"):
        depth.read(tmp_path / "none")


def test_depth_of_matlab(tmp_path):
    savemat(tmp_path / "a.mat", {"curFrame": np.moveaxis(maps(), 0, -1).astype(np.float64)})
    np.testing.assert_array_equal(depth.read(tmp_path / "a.mat").maps, maps())
    # MATLAB drops a last axis of length 1; beyond what 16 bits hold there is no distance.
    one = np.where(maps()[0] == 37, np.nan, maps()[0].astype(np.float64)) + 60000 * (maps()[0] > 2000)
    savemat(tmp_path / "b.mat", {"curFrame": one})
    expected = np.minimum(maps()[0].astype(int) + 60000 * (maps()[0] > 2000), 65535)
    (found,) = depth.read(tmp_path / "b.mat").maps
    np.testing.assert_array_equal(found, np.where(maps()[0] == 37, 0, expected))
    savemat(tmp_path / "c.mat", {"other": np.zeros(3)})
    with pytest.raises(files_lib.DecodeError, match=r"no array curFrame .* it has \['other'\]"):
        depth.read(tmp_path / "c.mat")
    with pytest.raises(files_lib.DecodeError, match=r"not readable as a \.mat"):
        depth.read(damaged(tmp_path / "a.mat", tmp_path / "d.mat", keep=0.5))
    (tmp_path / "e.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(600))
    with pytest.raises(files_lib.DecodeError, match="save it with -v7"):
        depth.read(tmp_path / "e.mat")


# ---------------------------------------------------------------------------- folders of pictures
def numbered(folder, template, count=12):
    """JPEGs of ``pictures``, named by ``template``."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures(count)):
        cv2.imwrite(str(folder / template.format(i)), picture[..., ::-1])
    return folder


@pytest.mark.parametrize(
    "template, pattern",
    [("{}.png", ""), ("frame_{}_tc_907_rgb.jpg", "*_rgb.jpg"), ("{:03d},.jpg", ""), ("g{}.jpg", "g?*.jpg")],
)
def test_pictures_in_the_order_of_their_numbers(tmp_path, template, pattern):
    path = numbered(tmp_path / "clip", template)
    for other in ("notes.txt", "._7.jpg", "._7_rgb.jpg"):
        (path / other).write_text("x")
    if pattern:
        cv2.imwrite(str(path / "frame_3_tc_907_depth_vis.jpg"), pictures(1)[0])
    video = video_lib.read(path / pattern if pattern else path)
    assert abs(video.frames.astype(int) - pictures(12)).mean() < 4
    np.testing.assert_allclose(video.times, np.arange(12) / 30)
    assert video.first == 0 and video.fps == 30


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(0, 36), st.integers(1, 36), st.sampled_from([5, 12, 30]))
def test_pictures_between_two_times(count, start, length, fps):
    """Times in thirtieths of a second, so that many pictures stand right at an end."""
    start, end = fractions.Fraction(start, 30), fractions.Fraction(start + length, 30)
    wanted = [i for i in range(count) if start <= fractions.Fraction(i, fps) < end]
    options = dict(fps=float(fps), start=float(start), end=float(end))
    if not wanted:
        with pytest.raises(files_lib.DecodeError, match="no frames between"):
            video_lib.images(PICTURES[:count], **options)
        return
    video = video_lib.images(PICTURES[:count], **options)
    assert (video.frames[:, 0, 0, 0] // 10).tolist() == wanted and video.first == wanted[0]
    np.testing.assert_allclose(video.times, np.asarray(wanted) / fps - float(start), atol=1e-9)


@pytest.fixture(scope="module", autouse=True)
def still(tmp_path_factory):
    """PICTURES: tiny PNGs, ten gray levels apart."""
    folder = tmp_path_factory.mktemp("still")
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((4, 4, 3), 10 * i, np.uint8))
    PICTURES[:] = pictures_lib.sequence(folder)


PICTURES = []


def test_a_file_may_bear_a_question_mark(tmp_path):
    assert video_lib.read(write(tmp_path / "who? me*.mp4")).frames.shape[0] == FRAMES


def test_pictures_that_are_wrong_are_named(tmp_path):
    path = numbered(tmp_path / "clip", "{}.jpg", 3)
    with pytest.raises(files_lib.DecodeError, match=r"no frames: clip/\*_rgb\.jpg has no"):
        video_lib.read(path / "*_rgb.jpg")
    with pytest.raises(files_lib.DecodeError, match="missing file gone"):
        video_lib.read(tmp_path / "gone" / "*_rgb.jpg")
    cv2.imwrite(str(path / "1.jpg"), pictures(1, 32)[0])
    with pytest.raises(files_lib.DecodeError, match="different sizes"):
        video_lib.read(path)
    for data in ((path / "2.jpg").read_bytes()[:400], b"text", b""):
        (path / "1.jpg").write_bytes(data)
        with pytest.raises(files_lib.DecodeError, match=r"1\.jpg: "):
            video_lib.read(path)


# ---------------------------------------------------------------------------- flow in pictures
def plane(i, axis):
    return np.full((8, 10), 10 * i + (axis == "y"), np.uint8)


@pytest.mark.parametrize(
    "x, y",
    [("flow_x_{}.png", "flow_y_{}.png"), ("x_{:05d}.png", "y_{:05d}.png"), ("u/{}.png", "v/{}.png"),
     ("clip-{:06d}x.png", "clip-{:06d}y.png"), ("u{}.png", "v{}.png"), ("flow_x/a_{}.png", "flow_y/a_{}.png")],
)  # fmt: skip
def test_flow_in_pairs(tmp_path, x, y):
    for axis, template in (("x", x), ("y", y)):
        for i in range(12):
            path = tmp_path / template.format(i)
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), plane(i, axis))
    made = flow_pictures.read(tmp_path)
    clip = {"flow_x": made.x, "flow_y": made.y}
    fields = fields_lib.decode_frames(clip, "flow", range(12))
    assert fields[:, 0, 0].tolist() == [[10 * i, 10 * i + 1] for i in range(12)]
    assert (made.height, made.width, made.scale) == (8, 10, 1.0)
    assert made.x[3] == (tmp_path / x.format(3)).read_bytes()


def test_flow_in_colours_keeps_its_bytes(tmp_path):
    folder = numbered(tmp_path / "v01_s01_e00", "frame_{}.jpg")
    made = flow_pictures.read(folder)
    assert made.y == [] and made.x == [(folder / f"frame_{i}.jpg").read_bytes() for i in range(12)]
    small = flow_pictures.read(folder, short_side=32)
    assert (small.height, small.width, small.scale) == (32, 40, 0.5)
    read = fields_lib.decode_frames({"flow_x": small.x, "flow_y": []}, "flow", [11])
    assert read.shape == (1, 32, 40, 3)
    assert abs(read[0].mean((0, 1)) - pictures(12)[11].mean((0, 1))).max() < 3


def test_gray_pairs_saved_as_colours(tmp_path):
    for axis in "xy":
        cv2.imwrite(str(tmp_path / f"{axis}_1.png"), np.repeat(plane(3, axis)[..., None], 3, -1))
    made = flow_pictures.read(tmp_path)
    fields = fields_lib.decode_frames({"flow_x": made.x, "flow_y": made.y}, "flow", [0])
    assert fields[0, 0, 0].tolist() == [30, 31]


@pytest.mark.parametrize(
    "names, value, reason",
    [
        ((), 0, "no frames: the folder flow has no"),
        (("x_1.png", "x_2.png", "y_1.png"), plane(1, "x"), "2 pictures of horizontal flow, 1 of vertical"),
        (("1.png",), plane(1, "x"), r"1\.png: a gray picture of flow without its pair"),
        (("x_1.png", "y_1.png"), plane(1, "x").astype(np.uint16), r"x_1\.png: .*8-bit pictures, .*uint16"),
    ],
)
def test_flow_that_is_wrong(tmp_path, names, value, reason):
    (tmp_path / "flow").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "flow" / name), value)
    with pytest.raises(files_lib.DecodeError, match=reason):
        flow_pictures.read(tmp_path / "flow")
    if names:
        with pytest.raises(files_lib.DecodeError, match="is none"):
            flow_pictures.read(tmp_path / "flow" / names[0])


def test_flow_of_several_sizes(tmp_path):
    for i, size in enumerate((8, 9)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((size, 10, 3), np.uint8))
    with pytest.raises(files_lib.DecodeError, match="several sizes"):
        flow_pictures.read(tmp_path)


def test_sound(tmp_path):
    path = tmp_path / "a.wav"
    tone = np.int16(np.sin(np.arange(16000) / 7) * 9000)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(tone.tobytes())
    np.testing.assert_array_equal(audio.read(path).samples, tone)
    part = audio.read(path, start=0.25, end=0.5)
    np.testing.assert_array_equal(part.samples, tone[4000:8000])
    assert part.start == 0
    with pytest.raises(files_lib.DecodeError, match=r"no sound in a\.wav between 5"):
        audio.read(path, start=5.0)
    with pytest.raises(files_lib.DecodeError, match="no sound stream"):
        audio.read(write(tmp_path / "b.mp4"))


def test_sound_of_a_video_is_resampled(tmp_path):
    sound = audio.read(write(tmp_path / "a.mp4", sound=2.0), rate=8000)
    assert len(sound.samples) == pytest.approx(16000, abs=1200) and sound.samples.dtype == np.int16
    assert abs(sound.samples).max() > 5000


# ---------------------------------------------------------------------------- frames of records
def record(**changes):
    frames = pictures(10)
    planes = [frames_lib.encode_png(f[..., 0]) for f in frames[:-1]]
    base = {"rgb": [frames_lib.encode_jpeg(f) for f in frames], "rgb_video": b"", "flow_x": planes,
            "flow_y": planes[::-1], "depth": [frames_lib.encode_png(m) for m in maps()]}  # fmt: skip
    return base | changes


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.sampled_from(["rgb", "flow", "depth"]))
def test_decode_frames_is_indexing(indices, field):
    clip = RECORD
    whole = fields_lib.decode_frames(clip, field, range(9))
    assert whole.shape[3] == {"rgb": 3, "flow": 2, "depth": 1}[field]
    np.testing.assert_array_equal(fields_lib.decode_frames(clip, field, indices), whole[indices])


RECORD = record()


def test_each_distinct_frame_is_decoded_once(monkeypatch):
    calls = []
    original = frames_lib.decode_image
    monkeypatch.setattr(frames_lib, "decode_image", lambda *a: calls.append(a) or original(*a))
    assert len(fields_lib.decode_frames(RECORD, "rgb", [3, 3, 1, 3])) == 4
    assert len(calls) == 2


def test_flow_channels_are_x_then_y():
    flow = fields_lib.decode_frames(RECORD, "flow", [0])
    np.testing.assert_array_equal(flow[0, ..., 0], pictures(10)[0][..., 0])
    np.testing.assert_array_equal(flow[0, ..., 1], pictures(10)[8][..., 0])


def test_mp4_storage_gives_the_same_frames():
    frames = pictures(30)
    clip = record(rgb=[], rgb_video=frames_lib.encode_mp4(frames, 12.0))
    chosen = fields_lib.decode_frames(clip, "rgb", [29, 0, 13, 0])
    assert abs(chosen.astype(int) - frames[[29, 0, 13, 0]]).mean() < 6
    with pytest.raises(files_lib.DecodeError, match=r"\[30\] are not in"):
        fields_lib.decode_frames(clip, "rgb", [30])


def test_damaged_frames_of_a_record():
    with pytest.raises(files_lib.DecodeError, match="build the dataset again"):
        fields_lib.decode_frames(record(rgb=[b"junk"] * 10), "rgb", [0])
