"""The table of modalities: shapes, normalisation, differences."""

import jax
import numpy as np
import pytest

from mmvid import streams
from mmvid.streams import Stream

RGB, FLOW = Stream("rgb", "rgb"), Stream("flow", "flow", form="stack5")
DIFF = Stream("diff", "diff", form="stack5")


@pytest.mark.parametrize("stream, raw, channels, stack", [(RGB, 3, 3, 1), (FLOW, 10, 10, 5), (DIFF, 18, 15, 6)])
def test_channels(stream, raw, channels, stack):
    found = (streams.raw_channels(stream), streams.in_channels(stream), streams.stack_length(stream))
    assert found == (raw, channels, stack)
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 6, raw), dtype=np.uint8)
    y = jax.jit(lambda x: streams.prepare(stream, x))(x)
    assert y.shape == (2, 4, 6, 6, channels) and y.dtype == np.float32
    np.testing.assert_allclose(y, streams.prepare(stream, x), atol=1e-6)


def test_values():
    x = np.full((1, 1, 1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(
        streams.prepare(RGB, x).ravel(), (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-6
    )
    x = np.full((1, 1, 1, 1, 10), 255, np.uint8)
    np.testing.assert_allclose(streams.prepare(FLOW, x), 0.5 / 0.226, rtol=1e-6)


def test_differences_are_time_major():
    frames = np.arange(18, dtype=np.uint8) ** 2 % 251
    y = streams.prepare(DIFF, frames.reshape(1, 1, 1, 1, 18)).ravel()
    shaped = frames.reshape(6, 3) / 255
    np.testing.assert_allclose(y, np.diff(shaped, axis=0).ravel(), atol=1e-6)


def test_a_flip_is_an_exact_negation_after_normalisation():
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 8, 2)
    plain = Stream("flow", "flow", form="frames")
    np.testing.assert_allclose(
        streams.prepare(plain, 255 - x), -streams.prepare(plain, x), atol=1e-6
    )


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="flow"):
        streams.form_of(Stream("x", "thermal"))
    with pytest.raises(ValueError, match="stack5"):
        streams.form_of(Stream("x", "flow", form="stack7"))


DEPTH = Stream("depth", "depth")


@pytest.mark.parametrize("form, channels", [("frames", 1), ("image3", 3), ("image255", 3)])
def test_depth_travels_in_one_channel_whatever_is_read(form, channels):
    stream = DEPTH._replace(form=form)
    assert (streams.raw_channels(stream), streams.in_channels(stream)) == (1, channels)
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1)
    y = jax.jit(lambda x: streams.prepare(stream, x))(x)
    assert y.shape == (1, 1, 16, 16, channels) and y.dtype == np.float32
    np.testing.assert_allclose(y, streams.prepare(stream, x), atol=1e-6)
    # Nearer is smaller in every form, and no reading lies beyond near.
    assert (np.diff(np.asarray(y).reshape(256, channels), axis=0) > 0).all()


def test_depth_is_centred():
    ends = streams.prepare(DEPTH, np.array([0, 255], np.uint8).reshape(2, 1, 1, 1, 1)).ravel()
    np.testing.assert_allclose(ends, [-2, 2], atol=1e-6)


@pytest.mark.parametrize("modality", ["rgb", "flow", "depth"])
def test_image255_is_the_pictures_as_they_are(modality):
    stream = Stream("x", modality, form="image255")
    raw = streams.raw_channels(stream)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, raw), dtype=np.uint8)
    assert streams.in_channels(stream) == 3
    np.testing.assert_array_equal(streams.prepare(stream, x), np.broadcast_to(x, (2, 3, 4, 4, 3)))


@pytest.mark.parametrize("modality", ["flow", "depth"])
def test_image3_has_the_normalisation_of_imagenet(modality):
    """Whatever network was pretrained on pictures reads it as RGB (MMD)."""
    stream = Stream("x", modality, form="image3")
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, streams.raw_channels(stream)), dtype=np.uint8)
    as_rgb = streams.prepare(RGB, np.broadcast_to(x, (1, 1, 8, 8, 3)))
    np.testing.assert_array_equal(streams.prepare(stream, x), as_rgb)


def test_a_flip_negates_planes_of_flow_alone():
    """DMCL's code forgets it, and colour pictures have no channel of horizontal motion."""
    found = {
        (modality, form, stored)
        for modality, row in streams.MODALITIES.items()
        for form in row.forms
        for stored in (1, 2, 3)
        if streams.negated(Stream("x", modality, form=form), stored)
    }
    assert found == {("flow", form, 2) for form in ("stack5", "frames", "image3")}
