"""STLT, which reads boxes: what it heeds and what it does not."""

import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid.data.cut import EMPTY
from mmvid.models import build_model

FRAMES, SLOTS = 4, 6


def layouts(seed=0, clips=2, there=3):
    """Random layouts, [clips, FRAMES, SLOTS, 8], with objects and hands in the first slots of each frame."""
    draws = np.random.default_rng(seed)
    x = np.zeros((clips, FRAMES, SLOTS, 8), np.float32)
    x[..., :4] = EMPTY
    corners = np.sort(draws.uniform(size=(clips, FRAMES, there, 2, 2)), -2)
    x[:, :, :there, :4] = corners.reshape(clips, FRAMES, there, 4)
    x[:, :, :there, 4] = draws.integers(1, 3, (*x.shape[:2], there))
    x[:, :, :there, 5] = draws.uniform(0.5, 1, (*x.shape[:2], there))
    return x


@functools.cache
def network(name="stlt_tiny"):
    model = build_model(name, heads={"noun": 3, "verb": 5}, in_channels=8, frames=FRAMES + 1)
    return model, *drawn.weights(model.init, jax.random.key(0), layouts()[:1])


@functools.cache
def evaluated(name="stlt_tiny"):
    model, params, stats = network(name)
    return jax.jit(lambda x: model.apply(params, stats, x, train=False, key=None)[0])


def test_it_classifies_boxes_for_every_head():
    out = evaluated()(layouts())
    assert {head: v.shape for head, v in out["logits"].items()} == {"noun": (2, 3), "verb": (2, 5)}
    assert out["features"].shape == (2, 64) and out["features"].dtype == jnp.float32


def test_empty_slots_and_the_order_of_slots_are_not_seen():
    x, order = layouts(), [4, 2, 0, 5, 1, 3]
    want = evaluated()(x)["features"]
    np.testing.assert_allclose(evaluated()(x[:, :, order])["features"], want, atol=1e-5)
    other = x.copy()
    other[:, :, 3:, [0, 1, 2, 3, 5, 6, 7]] = 1.0
    np.testing.assert_allclose(evaluated()(other)["features"], want, atol=1e-6)


@pytest.mark.parametrize("number", range(8))
def test_every_number_of_a_box_and_its_frame_are_seen(number):
    x = layouts()
    want, other = evaluated()(x)["features"], x.copy()
    other[:, 1, 0, number] = 3 - other[:, 1, 0, number] if number == 4 else 1 - other[:, 1, 0, number]
    assert np.abs(evaluated()(other)["features"] - want).max() > 1e-4
    assert np.abs(evaluated()(x[:, ::-1])["features"] - want).max() > 1e-4


def test_more_frames_than_it_has_places_for_are_refused():
    model, params, stats = network()
    x = np.concatenate([layouts()] * 2, 1)
    with pytest.raises(ValueError, match="places for 5 frames and is given 8: set its option frames=8"):
        model.apply(params, stats, x, train=False, key=None)
