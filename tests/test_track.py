"""Sound out of long tracks: a search decodes little and gives what decoding the whole gives."""

import contextlib
import fractions

import av
import numpy as np
import pytest
import test_media as media
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvid.data.media import audio, files, inputs, track
from mmvid.data.media import record as record_lib

# Noise that a decoder draws itself (AAC's noise substitution) is not the same from another beginning on.
KINDS = {
    "a.wav": ("pcm_s16le", 16000, {}),
    "a.mka": ("pcm_s16le", 11025, {}),
    "a.mp4": ("aac", 44100, {"aac_pns": "0"}),
    "b.mka": ("aac", 48000, {"aac_pns": "0"}),
    "a.aac": ("aac", 22050, {"aac_pns": "0"}),
    "a.mp3": ("libmp3lame", 24000, {"q": "6", "write_xing": "0"}),
    "a.ogg": ("libopus", 48000, {}),
    "a.flac": ("flac", 16000, {}),
    "a.ts": ("mp2", 48000, {}),
}


def sound(seconds, rate, seed=0):
    """A tone that wanders, and noise: no two moments are alike."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 700, len(time))
    return np.int16(6000 * np.sin(2 * np.pi * (300 * time + 40 * np.sin(0.7 * time + seed))) + noise)


def opened(container, codec, rate, options):
    stream = container.add_stream(codec, rate=rate, layout="mono")
    stream.bit_rate, stream.options = 32000, {k: v for k, v in options.items() if not k.startswith("write")}
    return stream


def encoded(context, samples, rate):
    """The packets of samples; ``context`` is a stream or a codec."""
    size = getattr(context, "codec_context", context).frame_size or 1024
    resampler = av.AudioResampler(format=context.format, layout="mono", rate=rate, frame_size=size)
    frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
    frame.sample_rate, frame.pts = rate, 0
    frames = [*resampler.resample(frame), *resampler.resample(None), None]
    return [packet for f in frames for packet in context.encode(f)]


def written(path, codec, rate, options, seconds=20.0):
    muxing = {k: v for k, v in options.items() if k.startswith("write")}
    with av.open(str(path), "w", options=muxing) as container:
        stream = opened(container, codec, rate, options)
        container.mux(encoded(stream, sound(seconds, rate), rate))
    return path


def repeated(path, codec, rate, options, seconds, jitter=0):
    """A long track that costs little: pieces of six seconds, encoded once, follow each other in a drawn order.
    Stamps are off by up to ``jitter`` samples, as those of telephones are."""
    with av.open(str(path), "w") as container:
        stream = opened(container, codec, rate, options)
        pieces = [[bytes(p) for p in encoded(stream, sound(6, rate, 0), rate)]]
        for seed in (1, 2, 3):
            context = av.CodecContext.create(codec, "w")
            context.sample_rate, context.layout, context.format = rate, "mono", stream.format
            context.time_base, context.bit_rate, context.options = (
                fractions.Fraction(1, rate),
                24000,
                stream.options,
            )
            pieces.append([bytes(p) for p in encoded(context, sound(6, rate, seed), rate)])
        size = stream.codec_context.frame_size or 1024
        order = np.random.default_rng(0).integers(0, 4, round(seconds / 6))
        for i, data in enumerate(data for piece in order for data in pieces[piece]):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, fractions.Fraction(1, rate)
            packet.pts = packet.dts = i * size + int(np.random.default_rng(i).integers(jitter + 1))
            packet.duration, packet.is_keyframe = size, True
            container.mux(packet)
    return path


def whole(path, rate):
    """All samples, and the second of the first."""
    with files.listening("sound") as logs:
        return audio._read(path, rate, (0.0, None), None, logs)


def cut(samples, first, rate, start, end):
    return samples[max(round((start - first) * rate), 0) : max(round((end - first) * rate), 0)]


@contextlib.contextmanager
def counting(monkeypatch):
    """What is decoded: bytes of packets."""
    seen, decode = [], track._decoded
    with monkeypatch.context() as patch:
        patch.setattr(track, "_decoded", lambda packet: seen.append(packet.size) or decode(packet))
        yield seen


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("a.wav", "a.mp3", "b.mka")]


@pytest.mark.parametrize("name", ["a.mp4", *SLOW])
def test_of_half_an_hour_only_the_clip_is_decoded(tmp_path, monkeypatch, name):
    """And the few seconds before it; packets are read once for all clips, and samples are those of the whole."""
    codec, _, options = KINDS[name]
    path = repeated(tmp_path / name, codec, 8000, options, 1800)
    with counting(monkeypatch) as everything:
        samples, first = whole(path, 8000)
    assert len(samples) > 1795 * 8000
    tables, read = [], track._demuxed
    monkeypatch.setattr(track, "_demuxed", lambda *args: tables.append(1) or read(*args))
    for start in (1790.123, 17.3, 903.5):
        with counting(monkeypatch) as seen:
            heard = audio.read(path, rate=8000, start=start, end=start + 1.5)
        np.testing.assert_array_equal(heard.samples, cut(samples, first, 8000, start, start + 1.5))
        assert len(heard.samples) == 12000 and heard.start == 0
        share = (track.PREROLL + 1.5) / 1800
        assert len(seen) <= share * len(everything) + 12 and sum(seen) <= 2 * share * sum(everything)
    assert len(tables) == 1
    # To the end of the track, and from before the seconds that need no search.
    np.testing.assert_array_equal(
        audio.read(path, rate=8000, start=1795).samples, samples[round((1795 - first) * 8000) :]
    )
    with counting(monkeypatch) as seen:
        np.testing.assert_array_equal(
            audio.read(path, rate=8000, start=2, end=3).samples, cut(samples, first, 8000, 2, 3)
        )
    assert len(seen) < 0.004 * len(everything)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """{name: (path, {rate: (samples, first)})}"""
    folder = tmp_path_factory.mktemp("tracks")
    found = {name: written(folder / name, *kind) for name, kind in KINDS.items()}
    return {name: (path, {rate: whole(path, rate) for rate in (16000, 11025)}) for name, path in found.items()}


@settings(max_examples=50)
@given(st.sampled_from(sorted(KINDS)), st.floats(0, 19.9), st.floats(0.01, 3), st.sampled_from([16000, 11025]))
def test_a_part_is_cut_from_the_whole(tracks, name, start, length, rate):
    """Whatever the codec, the container, the rates and the moment: to the sample, and to the bit."""
    path, wholes = tracks[name]
    want = cut(*wholes[rate], rate, start, start + length)
    if len(want):
        np.testing.assert_array_equal(audio.read(path, rate=rate, start=start, end=start + length).samples, want)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_searched(tracks, name):
    path, _ = tracks[name]
    table = track.read(path)
    assert table is not None and table.rate == KINDS[name][1]
    with files.listening("sound") as logs:
        audio._read(path, 16000, (17.0, 18.0), table, logs)  # Lost is not raised


@pytest.mark.parametrize("wrong", ["sizes", "stamps", "samples"])
@pytest.mark.parametrize("begin", [0, 12])
@pytest.mark.parametrize("name", ["a.mp4", "a.ogg"])
def test_what_differs_from_the_table_is_never_heard(tracks, monkeypatch, name, wrong, begin):
    """From the first packet on, or from one behind the search: the track is decoded from its start instead."""
    path, wholes = tracks[name]
    table = track.read(path)
    changed = table._replace(**{wrong: getattr(table, wrong) + (table.places > begin * table.rate)})
    with files.listening("sound") as logs, pytest.raises(track.Lost):
        audio._read(path, 16000, (15.0, 16.0), changed, logs)
    monkeypatch.setattr(track, "read", lambda path: changed)
    heard = audio.read(path, start=15.0, end=16.0).samples
    np.testing.assert_array_equal(heard, cut(*wholes[16000], 16000, 15.0, 16.0))


def test_codecs_that_never_forget_and_stamps_that_tell_nothing_are_decoded_whole(tmp_path):
    path = written(tmp_path / "a.wav", "adpcm_ima_wav", 16000, {}, 16.0)
    assert track.read(path) is None
    np.testing.assert_array_equal(
        audio.read(path, start=12, end=13).samples, cut(*whole(path, 16000), 16000, 12, 13)
    )


# ---------------------------------------------------------------------------- stamps
def stamped(path, begins, size=160, rate=16000):
    """PCM whose packets, ``size`` samples each, begin at ``begins`` (samples); each sample tells its number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for i, begin in enumerate(begins):
            data = np.arange(i * size, (i + 1) * size) % 20000 + 1
            frame = av.AudioFrame.from_ndarray(np.int16(data)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, int(begin), fractions.Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@settings(max_examples=8)
@given(
    holes=st.lists(st.tuples(st.integers(1, 1999), st.integers(1, 3000)), max_size=5),
    late=st.sampled_from([0, 40_000]),
    start=st.floats(11, 24),
    name=st.sampled_from(["a.mka", "a.mov"]),
)
def test_holes_drifts_and_late_beginnings_are_those_of_the_whole(tmp_path_factory, holes, late, start, name):
    """Short holes, which are no silence until together they are long, and long ones, before and in the clip."""
    gaps = np.zeros(2000, int)
    for place, length in holes:
        gaps[place] += length
    path = stamped(tmp_path_factory.mktemp("a") / name, late + np.arange(2000) * 160 + np.cumsum(gaps))
    samples, first = whole(path, 8000)
    heard = []
    with contextlib.suppress(files.DecodeError):
        heard = audio.read(path, rate=8000, start=start, end=start + 2).samples
    np.testing.assert_array_equal(heard, cut(samples, first, 8000, start, start + 2))


def test_stamps_that_jitter_move_no_sample(tmp_path):
    path = repeated(tmp_path / "a.mp4", "aac", 16000, KINDS["a.mp4"][2], 40, jitter=300)
    table = track.read(path)
    assert np.ptp(np.diff(table.stamps)) > 100 and set(np.diff(table.places).tolist()) == {1024}
    heard = audio.read(path, start=31.7, end=33).samples
    np.testing.assert_array_equal(heard, cut(*whole(path, 16000), 16000, 31.7, 33))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_track_that_ended_long_before(tmp_path, count):
    path = stamped(tmp_path / "a.mka", 160 * np.arange(count))
    with pytest.raises(files.DecodeError, match=r"no sound in a\.mka between 11 s"):
        audio.read(path, start=11)


def test_sound_that_ends_before_the_video_is_as_long_as_it_is(tracks):
    path, wholes = tracks["a.mp4"]
    heard = audio.read(path, start=19.5, end=30).samples
    np.testing.assert_array_equal(heard, wholes[16000][0][round((19.5 - wholes[16000][1]) * 16000) :])
    with pytest.raises(files.DecodeError, match=r"no sound in a\.mp4 between 25 s and 30"):
        audio.read(path, start=25, end=30)


def test_a_clip_of_ones_own_film_brings_the_sound_of_its_seconds(tmp_path, monkeypatch):
    """As data_prep and predict read it; little of the sound is decoded."""
    path = media.write(tmp_path / "a.mp4", frames=np.zeros((360, 16, 16, 3), np.uint8), sound=30.0)
    samples, first = whole(path, 16000)
    clip, settings = inputs.item(path, hear=True, start=20.0, end=21.5), record_lib.Settings(flow="none")
    with counting(monkeypatch) as seen:
        record = record_lib.prepare(clip, settings)
    assert len(seen) < 8.5 / 30 * len(samples) / 1024 and record["num_frames"] == 18
    heard = np.frombuffer(record["audio"], np.int16)
    np.testing.assert_array_equal(heard, cut(samples, first, 16000, 20.0, 21.5))
    assert record["audio_start_s"] == 0 and len(heard) == 24_000 and abs(heard).max() > 5000


# ---------------------------------------------------------------------------- damage
def test_damage_elsewhere_costs_nothing_and_in_the_clip_is_told(tmp_path):
    path = repeated(tmp_path / "a.mp4", "aac", 8000, {"aac_pns": "0"}, 60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\xff" * 3000
    damaged = tmp_path / "b.mp4"
    damaged.write_bytes(data)
    for begin, end in ((2, 3), (55, 56)):
        np.testing.assert_array_equal(
            audio.read(damaged, start=begin, end=end).samples, audio.read(path, start=begin, end=end).samples
        )
    with pytest.raises(files.DecodeError, match=r"damaged|not readable as sound"):
        audio.read(damaged, start=25, end=35)


def test_a_rate_that_changes_midway_is_named(tmp_path):
    parts = [written(tmp_path / f"{rate}.aac", "aac", rate, {}, 1.0).read_bytes() for rate in (16000, 22050)]
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    with pytest.raises(files.DecodeError, match="changes from 16000 Hz mono fltp to 22050 Hz"):
        audio.read(tmp_path / "a.aac")
