"""What is heard of a clip: over the frames that are read, or around each; MMD's log-mel from its waveform."""

import json
import pathlib

import numpy as np
import pytest
from fake import Source

from mmvid import prepare as prepare_lib
from mmvid.data import cut, fields, sound
from mmvid.data.media.files import DecodeError
from mmvid.streams import Form, Sampling, Stream, form_of

RECORD = Source(1, frames=30)[0]
GOLDEN = pathlib.Path(__file__).parent / "golden" / "logmel.npz"
CASES = json.loads(GOLDEN.with_suffix(".json").read_text())["cases"]
WINDOWS = Stream("audio", "audio", Sampling(frames=4), "logmel_windows")


# ---------------------------------------------------------------------------- over the frames
def places(record, frames, rows=100, window=256):
    return sound.over_span(record, np.asarray(frames), Form(1, window, 1, axes=(rows,), rate=16_000), 48)


def test_windows_span_the_frames():
    """Frames 6 to 17 of 12 a second are from 0.5 to 1.5 s."""
    found = places(RECORD, [17, 6, 9])
    assert found.shape == (100, 256) and (np.diff(found, axis=1) == 1).all()
    assert found[0, 0] == 8000 and found[-1, -1] == 23_999
    assert set(np.diff(found[:, 0]).tolist()) == {159, 160, 158} - {158} or np.ptp(np.diff(found[:, 0])) <= 1


def test_a_span_of_a_second_has_a_hop_of_ten_milliseconds():
    record = RECORD | {"fps": 16_000 / (256 + 99 * 160)}
    assert (np.diff(places(record, [0])[:, 0]) == 160).all()


def test_a_clip_shorter_than_a_window_is_heard_again_and_again():
    assert (places(RECORD | {"fps": 100.0}, [4]) == 640 + np.arange(256)).all()


def test_the_clock_is_the_records():
    times = np.float32(np.arange(30) / 12 + (np.arange(30) > 9))  # a second without pictures
    late = places(RECORD | {"times": times}, [10, 11])
    np.testing.assert_array_equal(late, places(RECORD, [10, 11]) + 16_000)


def test_sound_that_begins_late_or_ends_early_is_silent_there():
    record = RECORD | {"audio": np.full(1000, 7, np.int16).tobytes(), "audio_start_s": 0.5}
    heard = fields.decode_bytes(record, "audio", places(record, np.arange(30)))
    assert heard.dtype == np.int16 and heard.shape == (100, 256)
    at = places(RECORD, np.arange(30))  # samples from the clip's start
    np.testing.assert_array_equal(heard != 0, (at >= 8000) & (at < 9000))


def test_another_rate_is_explained():
    with pytest.raises(DecodeError, match="8000 samples a second, 16000"):
        places(RECORD | {"audio_rate": 8000}, [0])


# ---------------------------------------------------------------------------- around each frame
@pytest.fixture(scope="module")
def gold():
    return dict(np.load(GOLDEN))


def golden_record(gold, case):
    """The golden waveform as a clip at 60 frames a second."""
    rate = CASES[case]["sample_rate"]
    waveform = gold["audio"] if rate == 24_000 else gold["resampled_16k/resampled_audio"]
    samples = np.int16(np.round(waveform * 32768))
    record = {"id": "a", "audio": samples.tobytes(), "audio_rate": rate, "audio_start_s": 0.0, "fps": 60.0}
    return record | {"num_frames": 192, "times": np.float32(np.arange(192) / 60)}, waveform


def segments_of(gold, case, waveform):
    """Those in the file, or where it has none, what it says that they are."""
    length = CASES[case]["segment_samples"]
    padded = np.pad(waveform, length)
    made = np.stack([padded[i + length - length // 2 :][:length] for i in CASES[case]["audio_indices"]])
    np.testing.assert_array_equal(made, gold.get(f"{case}/segments", made))
    return made


@pytest.mark.parametrize("case", CASES)
def test_windows_around_frames_are_the_segments_of_the_released_code(gold, case):
    """Places and log-mel, from the waveform to what the network sees."""
    (record, waveform), form = (
        golden_record(gold, case),
        form_of(WINDOWS)._replace(rate=CASES[case]["sample_rate"]),
    )
    frames = gold["video_indices"]
    places = sound.around(record, frames, form, 224)
    assert places.shape == (4, 224, 160)
    within = (places >= 0) & (places < len(waveform))
    heard = np.where(within, waveform[np.where(within, places, 0)], 0)
    # What torch.stft sees of the golden segments: reflected, in windows in the middle of 1024 samples.
    segments = np.pad(segments_of(gold, case, waveform), ((0, 0), (512, 512)), "reflect")
    shown = (np.arange(224) * (CASES[case]["frames"] / 224)).astype(int)
    windows = segments[:, shown[:, None] * 80 + 432 + np.arange(160)]
    np.testing.assert_array_equal(heard, windows)
    seen = np.asarray(prepare_lib._decibels(form, None, heard * np.float32(32768)))
    assert seen.shape == (4, 224, 224, 3) and seen.dtype == np.float32
    np.testing.assert_allclose(seen[:2, ..., 0], gold[f"{case}/model_input"], atol=3e-4)
    np.testing.assert_array_equal(seen[..., 0], seen[..., 2])


def test_mel_filters_are_those_of_torchaudio(gold):
    np.testing.assert_allclose(prepare_lib.htk_filters(16_000), gold["mel_filterbank"], atol=2e-5)
    np.testing.assert_allclose(np.hanning(161)[:-1], gold["window"], atol=2e-7)


def test_from_a_record_to_what_the_network_sees(gold):
    """Through the loader's cut and the device: 16 bits change nothing of what can be heard."""
    record, _ = golden_record(gold, "resampled_16k")
    frames = {"audio": gold["video_indices"][:, None]}
    shown = cut.cut(record, {}, (WINDOWS,), frames, cut.Show({}, 224))["audio"]
    assert shown.shape == (4, 224, 160) and shown.dtype == np.int16
    seen, want = np.asarray(prepare_lib.prepare(WINDOWS, shown))[:2, ..., 0], gold["resampled_16k/model_input"]
    silence = form_of(WINDOWS).silence
    audible = want > (-20 + 28.1125) / 16.5627  # louder than -20 dB, where rounding is at -50
    assert audible.mean() > 0.1
    np.testing.assert_allclose(seen[audible], want[audible], atol=0.02)
    assert (seen >= silence - 1e-6).all() and np.isclose(seen, silence).any() == np.isclose(want, silence).any()


def test_a_smaller_picture_shows_some_of_the_windows_and_bands(gold):
    record, _ = golden_record(gold, "resampled_16k")
    large, small = (
        np.asarray(prepare_lib.prepare(WINDOWS, fields.decode_bytes(record, "audio", places)))
        for places in (sound.around(record, [60], form_of(WINDOWS), side) for side in (224, 56))
    )
    rows = (np.arange(56) * (128 / 56)).astype(int)
    picked = np.floor(np.arange(224) * 128 / 224).astype(int)
    first = [int(np.flatnonzero(picked == row)[0]) for row in rows]
    np.testing.assert_allclose(small[0], large[0][first][:, ::4], atol=1e-5)


# ---------------------------------------------------------------------------- around the middle
def reference(samples):
    """ln(|STFT|^2 + 1e-6) of a segment in [-1, 1]: windows of 10 ms in the middle of 511 samples, every 5 ms, with
    zeros on both sides; [time, frequency]."""
    window = np.zeros(511)
    window[135:375] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(240) / 240)
    padded = np.pad(samples, 255)
    frames = [padded[120 * i :][:511] * window for i in range(1 + len(samples) // 120)]
    return np.log(np.abs(np.fft.rfft(frames, axis=1)) ** 2 + 1e-6)


@pytest.mark.parametrize("first, last", [(10, 13), (0, 1)])
def test_a_spectrogram_of_what_is_around_the_middle(first, last):
    """From 10 s of sound to what the network sees; where the sound has not begun, silence."""
    rng, stream = np.random.default_rng(0), Stream("audio", "audio", Sampling(frames=4), "spectrogram")
    samples = np.int16(rng.normal(size=240_000) * 3000)
    record = {"id": "a", "audio": samples.tobytes(), "audio_rate": 24_000, "audio_start_s": 0.25, "fps": 3.0}
    record |= {"num_frames": 30, "times": np.float32(np.arange(30) / 3)}
    frames = {"audio": np.array([[last], [first], [first], [last]])}
    shown = cut.cut(record, {}, (stream,), frames, cut.Show({}, 224))["audio"]
    assert shown.shape == (256, 240) and shown.dtype == np.int16
    # Both frames and the one between them are shown: the middle is that of the time that they take.
    begin = round(((first + last + 1) / 6 - 0.25) * 24_000) - 15_348
    heard = np.pad(samples, (24_000, 0))[begin + 24_000 :][:30_696] / 32_768
    seen = np.asarray(prepare_lib.prepare(stream, shown))
    assert seen.shape == (256, 256, 1) and seen.dtype == np.float32
    np.testing.assert_allclose(seen[..., 0], reference(heard), atol=2e-3)
    silent = np.asarray(prepare_lib.prepare(stream, np.zeros_like(shown)))
    np.testing.assert_allclose(silent, form_of(stream).silence, atol=1e-6)
    with pytest.raises(ValueError, match="16000 samples a second, 24000"):
        cut.cut(record | {"audio_rate": 16_000}, {}, (stream,), frames, cut.Show({}, 224))


def test_outside_of_the_clips_own_sound_is_silence():
    record = RECORD | {"audio": np.full(8000, 7, np.int16).tobytes(), "audio_start_s": 0.25}
    form = form_of(WINDOWS)
    places = sound.around(record, np.array([[0, 12]]), form, 224)
    heard = fields.decode_bytes(record, "audio", places)
    # Frame 12 is at 1 s, 0.558 s to either side of it are heard, and the sound begins at 0.25 s.
    assert (places[0, 1].min(), places[0, 1].max()) == (16_000 - 8928 - 4000, 16_000 + 8927 - 4000)
    at = places + 4000  # samples from the clip's start
    np.testing.assert_array_equal(heard == 7, (at >= 4000) & (at < 12_000))
    assert 0 < (heard[0, 0] == 7).mean() < 0.6 and (heard[0, 1] == 7).mean() < 0.5
    with pytest.raises(DecodeError, match="8000 samples a second, 16000"):
        sound.around(RECORD | {"audio_rate": 8000}, np.array([0]), form, 4)
