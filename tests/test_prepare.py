"""What networks see: normalisation, differences, log-mel, layouts."""

import jax
import numpy as np
import pytest

from mmvid import operations, streams
from mmvid import prepare as prepare_lib
from mmvid.prepare import prepare
from mmvid.streams import Sampling, Stream

RGB, FLOW = Stream("rgb", "rgb"), Stream("flow", "flow", form="stack5")
DIFF, DEPTH = Stream("diff", "diff", form="stack5"), Stream("depth", "depth")


def test_values():
    x = np.full((1, 1, 1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(
        prepare(RGB, x).ravel(), (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-6
    )
    vmz = (1 - np.array([0.43216, 0.394666, 0.37645])) / [0.22803, 0.22145, 0.216989]
    np.testing.assert_allclose(prepare(RGB._replace(form="vmz"), x).ravel(), vmz, rtol=1e-6)
    x = np.full((1, 1, 1, 1, 10), 255, np.uint8)
    np.testing.assert_allclose(prepare(FLOW, x), 0.5 / 0.226, rtol=1e-6)


def test_differences_are_time_major():
    frames = np.arange(18, dtype=np.uint8) ** 2 % 251
    y = prepare(DIFF, frames.reshape(1, 1, 1, 1, 18)).ravel()
    shaped = frames.reshape(6, 3) / 255
    np.testing.assert_allclose(y, np.diff(shaped, axis=0).ravel(), atol=1e-6)


def test_a_flip_is_an_exact_negation_after_normalisation():
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 8, 2)
    plain = Stream("flow", "flow", form="frames")
    np.testing.assert_allclose(prepare(plain, 255 - x), -prepare(plain, x), atol=1e-6)


def test_depth_is_centred():
    ends = prepare(DEPTH, np.array([0, 255], np.uint8).reshape(2, 1, 1, 1, 1)).ravel()
    np.testing.assert_allclose(ends, [-2, 2], atol=1e-6)


@pytest.mark.parametrize("modality", ["rgb", "flow", "depth"])
def test_image255_is_the_pictures_as_they_are(modality):
    stream = Stream("x", modality, form="image255")
    raw = streams.form_of(stream).raw
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, raw), dtype=np.uint8)
    assert streams.in_channels(stream) == 3
    np.testing.assert_array_equal(prepare(stream, x), np.broadcast_to(x, (2, 3, 4, 4, 3)))


@pytest.mark.parametrize("modality", ["rgb", "flow", "depth"])
def test_image05_spans_minus_one_to_one(modality):
    stream = Stream("x", modality, form="image05")
    x = np.arange(256, dtype=np.uint8).repeat(streams.form_of(stream).raw).reshape(1, 1, 16, 16, -1)
    want = np.broadcast_to(np.linspace(-1, 1, 256).reshape(1, 1, 16, 16, 1), (1, 1, 16, 16, 3))
    np.testing.assert_allclose(prepare(stream, x), want, atol=1e-6)


@pytest.mark.parametrize("modality", ["flow", "depth"])
def test_image3_has_the_normalisation_of_imagenet(modality):
    """Whatever network was pretrained on pictures reads it as RGB (MMD)."""
    stream = Stream("x", modality, form="image3")
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, streams.form_of(stream).raw), dtype=np.uint8)
    as_rgb = prepare(RGB, np.broadcast_to(x, (1, 1, 8, 8, 3)))
    np.testing.assert_array_equal(prepare(stream, x), as_rgb)


@pytest.mark.parametrize("form, channels", [("frames", 1), ("image3", 3), ("image255", 3), ("image05", 3)])
def test_depth_travels_in_one_channel_whatever_is_read(form, channels):
    stream = DEPTH._replace(form=form)
    assert (streams.form_of(stream).raw, streams.in_channels(stream)) == (1, channels)
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1)
    y = jax.jit(lambda x: prepare(stream, x))(x)
    assert y.shape == (1, 1, 16, 16, channels) and y.dtype == np.float32
    np.testing.assert_allclose(y, prepare(stream, x), atol=1e-6)
    # Nearer is smaller in every form, and no reading lies beyond near.
    assert (np.diff(np.asarray(y).reshape(256, channels), axis=0) > 0).all()


FORMS = [(m, form) for m, row in streams.MODALITIES.items() for form in row.forms]


@pytest.mark.parametrize("modality, form", FORMS)
def test_every_form_has_the_shape_of_its_row(modality, form):
    stream = Stream("x", modality, Sampling(frames=2), form)
    dtype = streams.form_of(stream).dtype
    x = np.random.default_rng(0).integers(0, 256, (3, *streams.host_shape(stream, 4))).astype(dtype)
    y = jax.jit(lambda x: prepare(stream, x))(x)
    assert y.shape == (3, *streams.shape(stream, 4)) and y.dtype == np.float32
    np.testing.assert_allclose(y, prepare(stream, x), atol=1e-5)


AUDIO = Stream("audio", "audio", form="logmel")


def reference(x):
    """G-Blend's front end by its formulas, in float64: windows [256] -> [40]."""
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    n = np.arange(256)
    samples = x / 32768 * (0.5 - 0.5 * np.cos(2 * np.pi * n / 255))
    power = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(129), n) / 256) @ samples) ** 2
    edges = np.linspace(0, mel(8000), 42)
    out = []
    for low, centre, high in zip(edges, edges[1:], edges[2:]):
        weights = np.interp(mel(np.arange(129) * 62.5), [low, centre, high], [0, 1, 0])
        out.append(1.0807e9 * (weights / weights.sum()) @ power)
    return np.array([np.log(p) if p > np.e else p / np.e for p in out])


def test_logmel_is_that_of_its_formulas():
    rng = np.random.default_rng(0)
    x = np.int16([3000 * np.sin(np.arange(256) / 4), rng.normal(0, 500, 256), rng.integers(-1, 2, 256) * 0.6])
    rows = np.zeros((1, 100, 256), np.int16)
    rows[0, :3] = x
    found = np.asarray(prepare(AUDIO, rows))[0, ..., 0]
    np.testing.assert_allclose(found[:3], [reference(row) for row in x], atol=2e-3)
    assert not found[3:].any()  # silence


def test_a_tone_is_loudest_in_its_band():
    tones = np.array([200, 800, 3000])
    x = np.int16(8000 * np.sin(2 * np.pi * tones[:, None] * np.arange(256) / 16_000))
    rows = np.concatenate([x, np.zeros((97, 256), np.int16)])[None]
    loudest = np.asarray(prepare(AUDIO, rows))[0, :3, :, 0].argmax(-1)
    centres = 700 * (np.exp(np.linspace(0, 1127 * np.log1p(8000 / 700), 42)[1:-1] / 1127) - 1)
    assert (np.abs(centres[loudest] - tones) <= 0.1 * tones + 32).all()
    filters = prepare_lib.mel_filters(256, 40, 16_000)
    np.testing.assert_allclose(filters.sum(0), 1, rtol=1e-5)


def test_layouts_are_as_the_loader_made_them():
    boxes = np.random.default_rng(0).random((2, 3, 14, 8), np.float32)
    np.testing.assert_array_equal(prepare(Stream("b", "boxes", form="layout"), boxes), boxes)


# ---------------------------------------------------------------------------- masks of sound
@pytest.mark.parametrize("form, time, pitch", [("logmel", 1, 2), ("logmel_windows", 3, 2)])
def test_masks_silence_a_stretch_of_time_or_pitch(form, time, pitch):
    """As torchaudio's TimeMasking and FrequencyMasking of 80 in 224; every frame of a clip alike."""
    stream = Stream("x", "audio", Sampling(frames=2), form)
    seen = np.random.default_rng(0).normal(size=(3, *streams.shape(stream, 56))).astype(np.float32)
    draws = np.random.default_rng(1).random((2, 3, 2), np.float32)
    drawn = {"main": {"time_mask": draws[0], "pitch_mask": draws[1]}}
    found = np.asarray(jax.jit(lambda x, d: operations.paint(stream, x, d, late=True))(seen, drawn))
    want, silence = seen.copy(), np.float32(streams.form_of(stream).silence)
    for axis, numbers in ((time, draws[0]), (pitch, draws[1])):
        for clip, (width, place) in zip(want, numbers):
            value = width * 80 / 224 * seen.shape[axis]
            start = int(place * (seen.shape[axis] - value))
            np.moveaxis(clip, axis - 1, 0)[start : start + int(value)] = silence
    np.testing.assert_array_equal(found, want)
    assert 0.1 < (found == silence).mean() < 0.6
    # What silence is to the network is what silent samples become.
    blank = np.zeros((1, *streams.host_shape(stream, 8)), np.int16)
    np.testing.assert_allclose(prepare(stream, blank), silence, atol=1e-6)


def test_masks_are_of_sound_alone_and_of_what_the_network_sees():
    drawn = {"main": {name: np.float32([[1, 0.5]]) for name in ("time_mask", "pitch_mask")}}
    for stream in (RGB, DEPTH, Stream("b", "boxes", form="layout")):
        x = np.ones((1, *streams.shape(stream, 8)), np.float32)
        assert operations.paint(stream, x, drawn, late=True) is x
    x = np.ones((1, 100, 256), np.int16)
    assert operations.paint(AUDIO, x, drawn) is x
    brighter = {"main": {"brightness": np.float32([0.5])}}
    pictures = np.full((1, 1, 4, 4, 3), 9.0, np.float32)
    assert operations.paint(RGB, pictures, brighter, late=True) is pictures
