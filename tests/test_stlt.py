"""STLT, which reads boxes: what it heeds and what it does not."""

import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid.data.cut import EMPTY
from mmvid.models import build_model
from mmvid.models.stlt import VOCABULARIES, as_the_code_has_them

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


# With 174 classes; the older code counts 7,087,872 more, of a layer that nothing reads.
@pytest.mark.parametrize("name, count", [("stlt", 85_219_758), ("stlt_layouts", 93_080_238 - 7_087_872)])
def test_parameters_are_those_of_the_papers(name, count):
    model = build_model(name, num_classes=174, in_channels=8)
    params, stats = jax.eval_shape(model.init, jax.random.key(0), layouts())
    assert sum(v.size for v in jax.tree.leaves(params)) == count and not stats


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


def test_a_layout_as_the_older_code_has_it():
    """A hand, an object of a low score, a frame of that object alone, a frame without boxes."""
    hand, faint = [0.1, 0.2, 0.3, 0.4, 2, 0.5, 1, 3], [0.5, 0.5, 0.6, 0.6, 1, 0.49, 0, 0]
    x = np.zeros((1, 3, 2, 8), np.float32)
    x[..., :4] = EMPTY
    x[0, 0], x[0, 1, 0] = [faint, hand], faint
    boxes, categories, scores, types = as_the_code_has_them(x, VOCABULARIES["something"], 0.5)
    whole, none = [0, 0, 1, 1], [0, 0, 0, 0]
    want = [[whole, none, hand[:4]], *[[whole, none, none]] * 3]
    np.testing.assert_array_equal(boxes[0], np.float32(want))
    np.testing.assert_array_equal(categories[0], [[3, 0, 1], [3, 0, 0], [3, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(scores[0, ..., 0], np.float32([[1, 0, 0.5], [1, 0, 0], [1, 0, 0], [1, 0, 0]]))
    np.testing.assert_array_equal(types[0], [2, 2, 3, 4])
    # Action Genome's persons and objects come after its token.
    assert as_the_code_has_them(x, VOCABULARIES["action_genome"], 0.5)[1][0, 0].tolist() == [1, 0, 3]


def test_a_category_that_no_network_knows_is_no_number():
    x = layouts()
    x[0, 1, 0, 4] = 3
    assert np.isnan(evaluated()(x)["features"][0]).all() and np.isfinite(evaluated()(x)["features"][1]).all()


def test_more_frames_than_it_has_places_for_are_refused():
    model, params, stats = network()
    x = np.concatenate([layouts()] * 2, 1)
    with pytest.raises(ValueError, match="places for 5 frames and is given 8: set its option frames=8"):
        model.apply(params, stats, x, train=False, key=None)
