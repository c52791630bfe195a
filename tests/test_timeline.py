"""One timeline in seconds: what stands beside a frame is of the same moment, whatever its own clock."""

import fractions

import av
import cv2
import fake
import numpy as np
import pytest
from fake import Source
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from data_prep.manifest import Item
from mmvid.data import fields, sampling
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.data.media import audio, files, timeline
from mmvid.data.media import depth as depth_lib
from mmvid.data.media import record as record_lib
from mmvid.streams import Head, Sampling, Stream

NO_FLOW = record_lib.Settings(flow="none")
TICKS = 600
# Two seconds at 30 and at 15 a second; and first 30, then 10 a second, as a telephone in the dark.
STEADY, SLOW = np.arange(60) / 30, np.arange(30) / 15
UNEVEN = np.concatenate([np.arange(30) / 30, 1 + np.arange(30) / 10])


def film(path, times, *, depth=False, first=0, tone=None):
    """A video whose frame i shows its number: in gray (RGB, 4 i), or as 1000 + i mm (depth). ``tone``: the
    second at which a sound of two seconds clicks."""
    rate = 30 if len(times) == 1 else fractions.Fraction((len(times) - 1) / np.ptp(times)).limit_denominator(99)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if depth else "libx264", rate=rate)
        stream.width, stream.height = 32, 24
        stream.pix_fmt = "gray16le" if depth else "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, TICKS)
        if not depth:
            stream.options = {"crf": "4", "bf": "2", "g": "12", "preset": "ultrafast"}
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono") if tone is not None else None
        for i, time in enumerate(times):
            plane = np.full((24, 32), 1000 + i if depth else 4 * i % 256, np.uint16 if depth else np.uint8)
            frame = av.VideoFrame.from_ndarray(
                plane if depth else np.dstack([plane] * 3), format="gray16le" if depth else "rgb24"
            )
            frame.pts, frame.time_base = round(time * TICKS), fractions.Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            samples = np.zeros(32000, np.int16)
            samples[round(tone * 16000) :][:160] = 20000
            for begin in range(0, 32000, 800):
                frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 800], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, begin, fractions.Fraction(1, 16000)
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def maps(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.full((24, 32), 1000 + i, np.uint16))
    return folder


def flow(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        for axis in "xy":
            cv2.imwrite(str(folder / f"{axis}_{i}.png"), np.full((24, 32), i, np.uint8))
    return folder


def boxes(path, frames):
    np.savetxt(path, [[i, 0, 0, 1, 1, 1, 1, 0, 0] for i in frames], delimiter=",")
    return path


def item(path, start=0.0, end=None, fps=None, **paths):
    return Item("a", path, "train", {"action": ("x",)}, start, end, paths, fps)


def numbers(record):
    """The whole video's numbers of the record's frames, depth maps and pictures of flow."""

    def corner(field, count):
        return fields.decode_frames(record, field, range(count))[:, 0, 0, 0].astype(int) if count else np.zeros(0)

    count = record["num_frames"] if record["rgb"] else 0
    return (
        np.round(corner("rgb", count) / 4).astype(int).tolist(),
        (corner("depth", len(record["depth"])) - 1000).astype(int).tolist(),
        corner("flow", len(record["flow_x"])).astype(int).tolist(),
    )


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """{name: path}: RGB and depth by the three clocks."""
    root, clocks = tmp_path_factory.mktemp("films"), dict(steady=STEADY, slow=SLOW, uneven=UNEVEN)
    made = {name: film(root / f"{name}.mp4", times) for name, times in clocks.items()}
    return made | {f"{name} depth": film(root / f"{name}.mkv", t, depth=True) for name, t in clocks.items()}


# ---------------------------------------------------------------------------- depth
@pytest.mark.parametrize("start, end", [(0.0, None), (0.5, 1.5), (0.3, 1.234), (1.1, None), (16 / 30, 1.0)])
@pytest.mark.parametrize("rgb, depth", [(STEADY, SLOW), (SLOW, STEADY)])
def test_a_frame_has_the_map_nearest_in_time(films, rgb, depth, start, end):
    names = {len(STEADY): "steady", len(SLOW): "slow"}
    clip = item(films[names[len(rgb)]], start, end, depth=films[f"{names[len(depth)]} depth"])
    record = record_lib.prepare(clip, NO_FLOW)
    shown, beside, _ = numbers(record)
    stop = np.inf if end is None else end
    inside = np.flatnonzero((depth >= start - 1e-6) & (depth < stop - 1e-6))
    assert shown == np.flatnonzero((rgb >= start - 1e-6) & (rgb < stop - 1e-6)).tolist()
    assert len(beside) == record["num_frames"]
    for frame, number in zip(shown, beside, strict=True):
        assert abs(depth[number] - rgb[frame]) == pytest.approx(abs(depth[inside] - rgb[frame]).min(), abs=2e-3)


@given(st.sets(st.integers(0, 400), min_size=1, max_size=20), st.lists(st.integers(-20, 420), max_size=20))
def test_nearest(times, wanted):
    times, wanted = np.array(sorted(times)) / 10, np.array(wanted) / 10
    found = timeline._nearest(times, wanted)
    distance = abs(times[:, None] - wanted)
    np.testing.assert_allclose(distance[found, np.arange(len(wanted))], distance.min(0), atol=1e-9)
    np.testing.assert_array_equal(found, np.argmin(np.round(distance, 6), 0))


@pytest.mark.parametrize("kind", ["film", "another clock", "pictures", "matlab"])
def test_of_a_variable_rate_everything_is_cut_by_frames_or_seconds_alike(tmp_path, films, kind):
    """At 1.5 s the 36th frame is shown; by the average rate it would be the 22nd."""
    if kind == "matlab":
        planes = np.ones((24, 32, 60)) * (1000 + np.arange(60))
        savemat(tmp_path / "d.mat", {"curFrame": planes.astype(np.uint16)})
    depth = {
        "film": lambda: films["uneven depth"], "pictures": lambda: maps(tmp_path / "d", 60),
        "matlab": lambda: tmp_path / "d.mat",
        # As many maps as frames: one for each, though its header only knows the average rate.
        "another clock": lambda: film(tmp_path / "d.mkv", np.arange(60) * UNEVEN[-1] / 59, depth=True),
    }[kind]()  # fmt: skip
    clip = item(films["uneven"], 1.5, 2.45, depth=depth, flow=flow(tmp_path / "f", 59),
                boxes=boxes(tmp_path / "b.csv", range(60)))  # fmt: skip
    record = record_lib.prepare(clip, NO_FLOW)
    assert numbers(record) == (list(range(35, 45)),) * 3
    assert record["boxes"][:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(record["times"], np.arange(10) / 10, atol=2e-3)


@pytest.mark.parametrize("start, end", [(0.0, None), (0.5, 1.2), (1.2, 3.0)])
@pytest.mark.parametrize("kind", ["uneven depth", "slow depth", "pictures"])
def test_without_rgb_depth_has_its_own_times(tmp_path, films, kind, start, end):
    clock = {"uneven depth": UNEVEN, "slow depth": SLOW, "pictures": np.arange(30) / 12}[kind]
    clip = item(None, start, end, fps=12.0, depth=films.get(kind) or maps(tmp_path / "d", 30))
    record = record_lib.prepare(clip, NO_FLOW)
    inside = (clock >= start) & (clock < (end or 9) - 1e-6)
    assert numbers(record)[1] == np.flatnonzero(inside).tolist() and record["num_frames"] == inside.sum()
    np.testing.assert_allclose(record["times"], clock[inside] - start, atol=2e-3)


def test_pictures_have_a_clock_where_their_rate_is_named(tmp_path, films):
    clip = item(films["steady"], 0.5, 1.5, depth=maps(tmp_path / "d", 30))
    shown, beside, _ = numbers(record_lib.prepare(clip._replace(fps=15.0), NO_FLOW))
    assert shown == list(range(15, 45)) and beside[-1] == 22
    assert all(abs(2 * map_ - frame) <= 1 for frame, map_ in zip(shown, beside))
    with pytest.raises(files.DecodeError, match=r"30 depth maps for 60 frames in 2\.00 s, of which .* 15 to 44"):
        record_lib.prepare(clip, NO_FLOW)


@pytest.mark.parametrize(
    "made, reason",
    [
        (lambda folder: maps(folder, 1) / "0000.png", r"1 depth map for 60 frames in 2\.00 s"),
        (lambda folder: maps(folder, 53), "53 depth maps for 60 frames"),
        (lambda folder: maps(folder, 67), "67 depth maps for 60 frames"),
        (lambda folder: STEADY[:30], r"30 depth maps in 1\.00 s for 60 frames in 2\.00 s"),
        (lambda folder: STEADY[:1], r"1 depth map in 0\.00 s for 60 frames"),
        (lambda folder: SLOW[:20], r"20 depth maps in 1\.33 s for 60 frames"),
        (lambda folder: np.arange(80) / 30, r"80 depth maps in 2\.67 s for 60 frames in 2\.00 s"),
        (lambda folder: np.arange(60) / 25, r"60 depth maps in 2\.40 s for 60 frames in 2\.00 s.*clocks"),
    ],
)
@pytest.mark.parametrize("end", [None, 1.9])
def test_lengths_a_tenth_apart_are_rejected_with_both(tmp_path, films, made, reason, end):
    depth = made(tmp_path / "d")
    if isinstance(depth, np.ndarray):
        times, depth = depth, film(tmp_path / "d.mkv", depth, depth=True)
        if end and len(times) > 60:
            return  # What is beyond the clip's end is none of the clip.
    with pytest.raises(files.DecodeError, match=reason):
        record_lib.prepare(item(films["steady"], 0.0, end, depth=depth), NO_FLOW)


@pytest.mark.parametrize("count", [54, 59, 60, 61, 66])
def test_a_few_maps_more_or_less_leave_the_rgb_whole(tmp_path, films, count):
    record = record_lib.prepare(item(films["steady"], depth=maps(tmp_path / "d", count)), NO_FLOW)
    assert numbers(record)[1] == [min(i, count - 1) for i in range(60)]
    # What a joint run reads of the RGB does not end with the depth.
    streams = [Stream(name, name, Sampling("uniform", 8)) for name in ("rgb", "depth")]
    lengths = {s.name: fields.count_frames(record, s.name) for s in streams}
    drawn = [sampling.train_indices(np.random.default_rng(i), lengths, streams) for i in range(50)]
    assert lengths == {"rgb": 60, "depth": 60}
    assert max(d["rgb"].max() for d in drawn) > 53 and all((d["rgb"] == d["depth"]).all() for d in drawn)


def test_a_depth_film_keeps_what_the_clip_needs(monkeypatch, films):
    size = 24 * 32 * 2
    path = films["slow depth"]
    monkeypatch.setattr(files, "MAX_BYTES", 12 * size)
    with pytest.raises(files.DecodeError, match=r"too long: \d+ frames .*cut it with start and end"):
        depth_lib.read(path)
    for options, expected in (
        (dict(start=0.5, end=1.0), range(8, 15)), (dict(frames=range(20, 40), start=1.0), range(20, 30)),
    ):  # fmt: skip
        made = depth_lib.read(path, **options)
        assert made.numbers.tolist() == list(expected) and made.count == 30 and made.fps == 15
        np.testing.assert_allclose(made.times, made.numbers / 15 - options["start"], atol=1e-3)
        assert [int(m[0, 0]) for m in made.maps] == [1000 + n for n in expected]
    with pytest.raises(files.DecodeError, match=r"no depth maps between 2\.0 s and the end"):
        depth_lib.read(path, start=2.0)
    with pytest.raises(files.DecodeError, match="no depth maps from number 30 to 39"):
        depth_lib.read(path, frames=range(30, 40))


def test_a_map_of_several_frames_is_stored_once(films):
    record = record_lib.prepare(item(films["steady"], depth=films["slow depth"]), NO_FLOW)
    assert len({id(data) for data in record["depth"]}) == 30


@pytest.mark.parametrize("name", ["steady", "uneven", "slow depth"])
def test_extent_is_what_decoding_finds(films, name):
    times = UNEVEN if name == "uneven" else SLOW if "slow" in name else STEADY
    count, length = depth_lib.extent(films[name])
    assert count == len(times) and length == pytest.approx(np.ptp(times), abs=2e-3)
    assert depth_lib.extent([None] * 31, fps=10.0) == (31, 3.0)


# ---------------------------------------------------------------------------- flow and boxes
@pytest.mark.parametrize("count", [54, 55, 59, 60])
def test_given_flow_that_lacks_a_few_is_filled_up(tmp_path, films, count):
    record = record_lib.prepare(item(films["steady"], flow=flow(tmp_path / "f", count)), record_lib.Settings())
    assert numbers(record)[2] == [min(i, count - 1) for i in range(max(count, 59))]


@pytest.mark.parametrize("count", [53, 61])
@pytest.mark.parametrize("end", [None, 1.0])
def test_flow_of_another_length_is_rejected(tmp_path, films, count, end):
    """Of a cut as well: what holds more or less than the video counts something else."""
    with pytest.raises(files.DecodeError, match=rf"{count} pictures of flow for 60 frames in 2\.00 s"):
        record_lib.prepare(item(films["steady"], 0.0, end, flow=flow(tmp_path / "f", count)), NO_FLOW)


def test_boxes_of_frames_that_are_not_there(tmp_path, films):
    clip = item(films["steady"], 0.5, 1.0, boxes=boxes(tmp_path / "b.csv", [3, 15, 29, 61]))
    assert record_lib.prepare(clip, NO_FLOW)["boxes"][:, 0].tolist() == [0, 14]
    for frames, said in (([3, 119], "3 to 119"), ([-1, 4], "-1 to 4")):
        boxes(tmp_path / "b.csv", frames)
        with pytest.raises(files.DecodeError, match=f"frames {said} of a video that has 60"):
            record_lib.prepare(clip, NO_FLOW)


# ---------------------------------------------------------------------------- sound
@pytest.mark.parametrize("late", [0.0, 0.4])
@pytest.mark.parametrize("start", [0.0, 0.6])
@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
def test_sound_of_the_video_itself_has_its_clock(tmp_path, name, late, start):
    """The click at 1 s is heard while the picture of that moment is shown, also where pictures start late."""
    path = film(tmp_path / name, UNEVEN[:40] + late, tone=1.0)
    record = record_lib.prepare(item(path, start, audio=path), NO_FLOW)
    samples = np.frombuffer(record["audio"], np.int16)
    click = record["audio_start_s"] + np.argmax(samples > 9000) / 16000
    assert click == pytest.approx(1.0 - start, abs=2e-3)
    shown = numbers(record)[0]
    np.testing.assert_allclose(record["times"] + start, UNEVEN[shown] + late, atol=2e-3)


def test_a_hole_in_the_sound_is_silence(tmp_path):
    path, samples = tmp_path / "a.mkv", np.full((1, 1600), 9000, np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in (0, 1600, 12800):
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, begin, fractions.Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    heard = audio.read(path).samples
    assert len(heard) == 14400 and not heard[3200:12800].any() and (heard[12800:] == 9000).all()
    assert len(audio.read(path, start=0.7, end=0.85).samples) == 2400
    with pytest.raises(files.DecodeError, match=r"no sound in a\.mkv between 1"):
        audio.read(path, start=1.0)


# ---------------------------------------------------------------------------- labels
class Spans(Source):
    """Twelve frames a second; class c from c to c + 1 tenths of a second."""

    def __getitem__(self, row):
        spans = [[c, c / 10, (c + 1) / 10] for c in range(20)]
        record = super().__getitem__(row)
        times = np.float32(np.arange(record["num_frames"]) / 12)
        return record | {"times": times, "label": {"action": np.float32(spans)}}


HEADS = {"action": Head(20, "multi")}
RGB = Stream("rgb", "rgb", Sampling("dense", 4, 8))
FLOW = Stream("flow", "flow", Sampling("dense", 4, 8), "stack5")


def batch_of(source, heads, views=("one",), streams=(RGB,)):
    made = fake.trained(
        {"main": source}, {"main": Group("train", 8, dict.fromkeys(views, Augment(scales=(1.0,))))}, streams,
        heads=heads, size=40, seed=3, start=0, stop=1,
    )  # fmt: skip
    return made[0]["main"]


def occurring(first, last):
    """The classes between two frames."""
    return [c / 10 <= np.float32(last / 12) and (c + 1) / 10 > np.float32(first / 12) for c in range(20)]


def frames_read(batch, view, row):
    """Each pixel of RGB tells ten times the clip and the frame."""
    shown = batch["inputs"][view]["rgb"][row][:, 20, 20, 0].astype(int)
    return shown - 10 * int(batch["id"][row])


@pytest.mark.parametrize("views", [("one",), ("one", "two")])
def test_spans_are_those_of_the_frames_that_a_view_reads(views):
    batch = batch_of(Spans(n=6, frames=18), HEADS, views)
    assert (batch["label"]["action"].sum(1) < 19).any()
    for row, label in enumerate(batch["label"]["action"]):
        read = [frames_read(batch, view, row) for view in views]
        # JPEG may be off by one.
        near = [[occurring(r.min() + d, r.max() + e) for d in (-1, 0, 1) for e in (-1, 0, 1)] for r in read]
        some = np.any([options[0] for options in near], 0)
        assert (label <= np.any([np.any(options, 0) for options in near], 0)).all()
        assert (label >= np.any([np.all(options, 0) for options in near], 0)).all() and some.any()


def test_spans_exactly(monkeypatch):
    """Frames 3 to 9, flow's five fields included, in both views."""
    drawn = {"rgb": np.array([6, 5, 4, 3]), "flow": np.array([4, 5, 5, 5])}
    monkeypatch.setattr(sampling, "train_indices", lambda *_: drawn)
    label = batch_of(Spans(n=1, frames=30), HEADS, ("one", "two"), (RGB, FLOW))["label"]["action"]
    np.testing.assert_array_equal(label, np.tile(occurring(3, 9), (8, 1)))


def test_spans_change_nothing_else_and_evaluation_has_them_all():
    source, plain = Spans(n=6, frames=18), Source(n=6, frames=18)
    first, second = batch_of(source, HEADS), batch_of(plain, {"action": Head(5)})
    np.testing.assert_array_equal(first["inputs"]["one"]["rgb"], second["inputs"]["one"]["rgb"])
    np.testing.assert_array_equal(second["label"]["action"], second["id"] % 5)
    tested = fake.tested(source, (RGB,), heads=HEADS, size=40, batch_size=6)[0]["main"]
    assert tested["label"]["action"].all()
