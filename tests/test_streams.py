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
