"""Decoding: what is right comes out, what is wrong is named."""

import fractions
import threading
import wave

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from mmvid.data import decode

FRAMES, FPS = 30, 12


def pictures(count=FRAMES, height=64, width=80):
    """A moving texture with the frame's number in its brightness."""
    rng = np.random.default_rng(0)
    big = rng.integers(0, 90, (height + count, width + count, 3), dtype=np.uint8)
    big = cv2.GaussianBlur(big, (0, 0), 2)
    return np.stack([big[i : i + height, i : i + width] + np.uint8(4 * i) for i in range(count)])


def write(path, codec="libx264", *, frames=None, gaps=None, sound=0.0, video=True, options=()):
    """A file with a picture and, for ``sound`` seconds, a tone; ``gaps``: duration of each frame."""
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as container:
        if video:
            stream = container.add_stream(codec, rate=FPS)
            stream.width, stream.height = frames.shape[2], frames.shape[1]
            stream.pix_fmt, stream.options = "yuv420p", dict(options)
        tone = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        if video:
            times = np.cumsum([0, *(gaps or [1] * len(frames))])
            for picture, time in zip(frames, times):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = int(time), fractions.Fraction(1, FPS)
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
        video = decode.video(write(tmp_path / name, codec))
        assert video.frames.shape == (FRAMES, 64, 80, 3) and video.frames.dtype == np.uint8
        assert np.allclose(video.times, np.arange(FRAMES) / FPS, atol=2e-3)
        assert abs(video.frames.astype(int) - pictures()).mean() < 6
        assert video.fps == pytest.approx(FPS)

    @pytest.mark.parametrize("keep", [0.5, 0.8])
    def test_truncated(self, tmp_path, name, codec, keep):
        path = damaged(write(tmp_path / name, codec), tmp_path / f"cut-{name}", keep=keep)
        with pytest.raises(decode.DecodeError, match=r"truncated|damaged|not readable"):
            decode.video(path)

    def test_damaged_bytes(self, tmp_path, name, codec):
        path = damaged(write(tmp_path / name, codec), tmp_path / f"hit-{name}", flips=60)
        with pytest.raises(decode.DecodeError, match=r"damaged: \d+|not readable|truncated"):
            decode.video(path)

    def test_interval(self, tmp_path, name, codec):
        path = write(tmp_path / name, codec)
        whole, part = decode.video(path), decode.video(path, start=1.0, end=2.0)
        assert len(part.frames) == FPS and part.times[0] == pytest.approx(0, abs=2e-3)
        np.testing.assert_array_equal(part.frames, whole.frames[12:24])


def test_header_that_promises_more(tmp_path):
    """Matroska has no count of frames: its length in seconds tells what is missing."""
    path = write(tmp_path / "a.mkv")
    data = path.read_bytes()
    assert b"00:00:02.500000000" in data
    path.write_bytes(data.replace(b"00:00:02.500000000", b"00:00:04.000000000"))
    with pytest.raises(decode.DecodeError, match=r"truncated: 2\.50 of 4\.00 s"):
        decode.video(path)
    assert len(decode.video(path, end=2.0).frames) == 24  # what the clip needs is there


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 99, b"\0" * 5000])
def test_no_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(decode.DecodeError, match=r"empty file a\.mp4|not readable as video"):
        decode.video(path)


def test_missing_and_folder_and_sound_only(tmp_path):
    with pytest.raises(decode.DecodeError, match=r"missing file b\.mp4"):
        decode.video(tmp_path / "b.mp4")
    with pytest.raises(decode.DecodeError, match="not readable"):
        decode.video(tmp_path)
    with pytest.raises(decode.DecodeError, match="no video stream"):
        decode.video(write(tmp_path / "c.mp4", video=False, sound=1.0))


def test_interval_outside_the_video(tmp_path):
    path = write(tmp_path / "a.mp4")
    with pytest.raises(decode.DecodeError, match=r"no frames between 9\.0 s and the end"):
        decode.video(path, start=9.0)


def test_search_finds_the_interval_behind_many_keyframes(tmp_path):
    path = write(tmp_path / "a.mp4", frames=pictures(60), options={"g": "6", "bf": "2"})
    part = decode.video(path, start=3.5, end=4.0)
    np.testing.assert_array_equal(part.frames, decode.video(path).frames[42:48])


def test_variable_rate_keeps_times(tmp_path):
    gaps = [1] * 15 + [4] * 15
    video = decode.video(write(tmp_path / "a.mp4", gaps=gaps))
    assert np.allclose(video.times, np.cumsum([0, *gaps])[:-1] / FPS, atol=1e-3)


def test_longer_sound_is_no_truncation(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        assert len(decode.video(write(tmp_path / name, sound=6.0)).frames) == FRAMES


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
    video = decode.video(path)
    assert video.frames.shape == (FRAMES, 80, 64, 3) and video.frames.flags.c_contiguous
    assert abs(video.frames[0].astype(int) - np.rot90(pictures()[0], -1)).mean() < 6


def test_short_side(tmp_path):
    path = write(tmp_path / "a.mp4")
    assert decode.video(path, short_side=32).frames.shape[1:3] == (32, 40)
    assert decode.video(path, short_side=256).frames.shape[1:3] == (64, 80)


def test_too_long_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_BYTES", 100_000)
    with pytest.raises(decode.DecodeError, match="start and end"):
        decode.video(write(tmp_path / "a.mp4"))


def test_a_damaged_file_does_not_taint_the_next_or_its_neighbour(tmp_path):
    """Threads decode good clips while others complain: the log is one for the process."""
    good = write(tmp_path / "a.mp4")
    bad = damaged(good, tmp_path / "bad.mp4", flips=40)
    seen = []

    def work(path):
        for _ in range(4):
            try:
                seen.append((path, len(decode.video(path).frames)))
            except decode.DecodeError:
                seen.append((path, 0))

    threads = [threading.Thread(target=work, args=(p,)) for p in (good, bad, good, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted([(good, FRAMES)] * 8 + [(bad, 0)] * 8)


# ---------------------------------------------------------------------------- images, depth, sound
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_image(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    cv2.imwrite(str(path), pictures()[3][..., ::-1])
    clip = decode.clip(path, start=0.0, end=None, short_side=0)
    assert clip.frames.shape == (1, 64, 80, 3)
    assert abs(clip.frames[0].astype(int) - pictures()[3]).mean() < 4
    with pytest.raises(decode.DecodeError, match=r"damaged|not readable"):
        decode.image(damaged(path, tmp_path / f"cut{ending}", keep=0.6))
    (tmp_path / f"text{ending}").write_text("hello")
    with pytest.raises(decode.DecodeError, match=r"not readable|damaged"):
        decode.image(tmp_path / f"text{ending}")


def maps(count=12):
    return np.arange(count * 8 * 10, dtype=np.uint16).reshape(count, 8, 10) * 37


def test_depth_folder_in_the_order_of_its_numbers(tmp_path):
    for i, picture in enumerate(maps()):
        cv2.imwrite(str(tmp_path / f"d_{i}.png"), picture)
    np.testing.assert_array_equal(decode.depth(tmp_path).maps, maps())
    cv2.imwrite(str(tmp_path / "d_3.png"), maps()[0, :4])
    with pytest.raises(decode.DecodeError, match="several sizes"):
        decode.depth(tmp_path)
    (tmp_path / "d_3.png").write_bytes((tmp_path / "d_4.png").read_bytes()[:60])
    with pytest.raises(decode.DecodeError, match=r"d_3\.png"):
        decode.depth(tmp_path)


def test_depth_video(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 10, 8, "gray16le"
        for picture in maps():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray16le")))
        container.mux(stream.encode())
    np.testing.assert_array_equal(decode.depth(path).maps, maps())
    with pytest.raises(decode.DecodeError):
        decode.depth(damaged(path, tmp_path / "cut.mkv", keep=0.7))
    (tmp_path / "none").mkdir()
    with pytest.raises(decode.DecodeError, match=r"no frames: the folder none has no \.png"):
        decode.depth(tmp_path / "none")


def test_depth_of_matlab(tmp_path):
    savemat(tmp_path / "a.mat", {"curFrame": np.moveaxis(maps(), 0, -1).astype(np.float64)})
    np.testing.assert_array_equal(decode.depth(tmp_path / "a.mat").maps, maps())
    # MATLAB drops a last axis of length 1; beyond what 16 bits hold there is no distance.
    one = np.where(maps()[0] == 37, np.nan, maps()[0].astype(np.float64)) + 60000 * (maps()[0] > 2000)
    savemat(tmp_path / "b.mat", {"curFrame": one})
    expected = np.minimum(maps()[0].astype(int) + 60000 * (maps()[0] > 2000), 65535)
    (found,) = decode.depth(tmp_path / "b.mat").maps
    np.testing.assert_array_equal(found, np.where(maps()[0] == 37, 0, expected))
    savemat(tmp_path / "c.mat", {"other": np.zeros(3)})
    with pytest.raises(decode.DecodeError, match=r"no array curFrame .* it has \['other'\]"):
        decode.depth(tmp_path / "c.mat")
    with pytest.raises(decode.DecodeError, match=r"not readable as a \.mat"):
        decode.depth(damaged(tmp_path / "a.mat", tmp_path / "d.mat", keep=0.5))
    (tmp_path / "e.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(600))
    with pytest.raises(decode.DecodeError, match="save it with -v7"):
        decode.depth(tmp_path / "e.mat")


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
    video = decode.clip(path / pattern if pattern else path)
    assert abs(video.frames.astype(int) - pictures(12)).mean() < 4
    np.testing.assert_allclose(video.times, np.arange(12) / 30)
    assert video.fps == 30


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(0, 36), st.integers(1, 36), st.sampled_from([5, 12, 30]))
def test_pictures_between_two_times(count, start, length, fps):
    """Times in thirtieths of a second, so that many pictures stand right at an end."""
    start, end = fractions.Fraction(start, 30), fractions.Fraction(start + length, 30)
    wanted = [i for i in range(count) if start <= fractions.Fraction(i, fps) < end]
    options = dict(fps=float(fps), start=float(start), end=float(end))
    if not wanted:
        with pytest.raises(decode.DecodeError, match="no frames between"):
            decode.images(PICTURES[:count], **options)
        return
    video = decode.images(PICTURES[:count], **options)
    assert (video.frames[:, 0, 0, 0] // 10).tolist() == wanted
    np.testing.assert_allclose(video.times, np.asarray(wanted) / fps - float(start), atol=1e-9)


@pytest.fixture(scope="module", autouse=True)
def still(tmp_path_factory):
    """PICTURES: tiny PNGs, ten gray levels apart."""
    folder = tmp_path_factory.mktemp("still")
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((4, 4, 3), 10 * i, np.uint8))
    PICTURES[:] = decode.sequence(folder)


PICTURES = []


def test_a_file_may_bear_a_question_mark(tmp_path):
    assert decode.clip(write(tmp_path / "who? me*.mp4")).frames.shape[0] == FRAMES


def test_pictures_that_are_wrong_are_named(tmp_path):
    path = numbered(tmp_path / "clip", "{}.jpg", 3)
    with pytest.raises(decode.DecodeError, match=r"no frames: clip/\*_rgb\.jpg has no"):
        decode.clip(path / "*_rgb.jpg")
    with pytest.raises(decode.DecodeError, match="missing file gone"):
        decode.clip(tmp_path / "gone" / "*_rgb.jpg")
    cv2.imwrite(str(path / "1.jpg"), pictures(1, 32)[0])
    with pytest.raises(decode.DecodeError, match="different sizes"):
        decode.clip(path)
    for data in ((path / "2.jpg").read_bytes()[:400], b"text", b""):
        (path / "1.jpg").write_bytes(data)
        with pytest.raises(decode.DecodeError, match=r"1\.jpg: "):
            decode.clip(path)


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
    made = decode.flow_pictures(tmp_path)
    clip = {"flow_x": made.x, "flow_y": made.y}
    fields = decode.decode_frames(clip, "flow", range(12))
    assert fields[:, 0, 0].tolist() == [[10 * i, 10 * i + 1] for i in range(12)]
    assert (made.height, made.width, made.scale) == (8, 10, 1.0)
    assert made.x[3] == (tmp_path / x.format(3)).read_bytes()


def test_flow_in_colours_keeps_its_bytes(tmp_path):
    folder = numbered(tmp_path / "v01_s01_e00", "frame_{}.jpg")
    made = decode.flow_pictures(folder)
    assert made.y == [] and made.x == [(folder / f"frame_{i}.jpg").read_bytes() for i in range(12)]
    small = decode.flow_pictures(folder, short_side=32)
    assert (small.height, small.width, small.scale) == (32, 40, 0.5)
    read = decode.decode_frames({"flow_x": small.x, "flow_y": []}, "flow", [11])
    assert read.shape == (1, 32, 40, 3)
    assert abs(read[0].mean((0, 1)) - pictures(12)[11].mean((0, 1))).max() < 3


def test_gray_pairs_saved_as_colours(tmp_path):
    for axis in "xy":
        cv2.imwrite(str(tmp_path / f"{axis}_1.png"), np.repeat(plane(3, axis)[..., None], 3, -1))
    made = decode.flow_pictures(tmp_path)
    fields = decode.decode_frames({"flow_x": made.x, "flow_y": made.y}, "flow", [0])
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
    with pytest.raises(decode.DecodeError, match=reason):
        decode.flow_pictures(tmp_path / "flow")
    if names:
        with pytest.raises(decode.DecodeError, match="is none"):
            decode.flow_pictures(tmp_path / "flow" / names[0])


def test_flow_of_several_sizes(tmp_path):
    for i, size in enumerate((8, 9)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((size, 10, 3), np.uint8))
    with pytest.raises(decode.DecodeError, match="several sizes"):
        decode.flow_pictures(tmp_path)


def test_sound(tmp_path):
    path = tmp_path / "a.wav"
    tone = np.int16(np.sin(np.arange(16000) / 7) * 9000)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(tone.tobytes())
    np.testing.assert_array_equal(decode.audio(path).samples, tone)
    part = decode.audio(path, start=0.25, end=0.5)
    np.testing.assert_array_equal(part.samples, tone[4000:8000])
    assert part.start == 0
    with pytest.raises(decode.DecodeError, match=r"no sound in a\.wav between 5"):
        decode.audio(path, start=5.0)
    with pytest.raises(decode.DecodeError, match="no sound stream"):
        decode.audio(write(tmp_path / "b.mp4"))


def test_sound_of_a_video_is_resampled(tmp_path):
    sound = decode.audio(write(tmp_path / "a.mp4", sound=2.0), rate=8000)
    assert len(sound.samples) == pytest.approx(16000, abs=1200) and sound.samples.dtype == np.int16
    assert abs(sound.samples).max() > 5000


# ---------------------------------------------------------------------------- frames of records
def record(**changes):
    frames = pictures(10)
    planes = [decode.encode_png(f[..., 0]) for f in frames[:-1]]
    base = {"rgb": [decode.encode_jpeg(f) for f in frames], "rgb_video": b"", "flow_x": planes,
            "flow_y": planes[::-1], "depth": [decode.encode_png(m) for m in maps()]}  # fmt: skip
    return base | changes


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.sampled_from(["rgb", "flow", "depth"]))
def test_decode_frames_is_indexing(indices, field):
    clip = RECORD
    whole = decode.decode_frames(clip, field, range(9))
    assert whole.shape[3] == {"rgb": 3, "flow": 2, "depth": 1}[field]
    np.testing.assert_array_equal(decode.decode_frames(clip, field, indices), whole[indices])


RECORD = record()


def test_each_distinct_frame_is_decoded_once(monkeypatch):
    calls = []
    original = decode._decode_image
    monkeypatch.setattr(decode, "_decode_image", lambda *a: calls.append(a) or original(*a))
    assert len(decode.decode_frames(RECORD, "rgb", [3, 3, 1, 3])) == 4
    assert len(calls) == 2


def test_flow_channels_are_x_then_y():
    flow = decode.decode_frames(RECORD, "flow", [0])
    np.testing.assert_array_equal(flow[0, ..., 0], pictures(10)[0][..., 0])
    np.testing.assert_array_equal(flow[0, ..., 1], pictures(10)[8][..., 0])


def test_mp4_storage_gives_the_same_frames():
    frames = pictures(30)
    clip = record(rgb=[], rgb_video=decode.encode_mp4(frames, 12.0))
    chosen = decode.decode_frames(clip, "rgb", [29, 0, 13, 0])
    assert abs(chosen.astype(int) - frames[[29, 0, 13, 0]]).mean() < 6
    with pytest.raises(decode.DecodeError, match=r"\[30\] are not in"):
        decode.decode_frames(clip, "rgb", [30])


def test_damaged_frames_of_a_record():
    with pytest.raises(decode.DecodeError, match="build the dataset again"):
        decode.decode_frames(record(rgb=[b"junk"] * 10), "rgb", [0])
