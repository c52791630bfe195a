"""Image networks' weights in networks that convolve over time."""

import drawn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from mmvid import weights
from mmvid.models import build_model
from mmvid.plans import keys
from mmvid.run import values
from mmvid.weights import files, inflation

# All kinds of blocks: with a shortcut that projects, without, and with a stride.
SMALL = {"num_classes": 5, "width": 4, "stages": (2, 1)}
PAIRS = [("resnet50", "cmpl_resnet50"), ("resnet18", "cmpl_resnet18")]


def checkpoint(tmp_path, name, channels=3):
    """(model, (params, stats), file) of an image network in torchvision's names."""
    model = build_model(name, in_channels=channels, **SMALL)
    own = drawn.weights(model.init, jax.random.key(0), np.zeros((1, 16, 16, channels), np.float32))
    save_file(weights.torch_names(*own), tmp_path / f"{name}.safetensors")
    return model, own, f"inflated:{tmp_path / name}.safetensors"


def inflated(name, source, channels=3, **options):
    """(model, (params, stats)) of a network over time that starts from an image network's file."""
    model = build_model(name, in_channels=channels, **SMALL | options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 16, 16, channels), np.float32))
    return model, weights.load(name, source, params=shapes[0], stats=shapes[1], layout=model)


def map_of(model, own, x):
    return np.asarray(jax.jit(lambda x: model.apply(*own, x, train=False, key=None)[0]["map"])(x))


@pytest.mark.parametrize("image, video", PAIRS)
def test_equal_frames_give_what_one_gave(tmp_path, image, video):
    """Of as many frames from an end of the clip as zeros reach to: 2 in the stem, 1 in each convolution of 3."""
    still, own, source = checkpoint(tmp_path, image)
    model, made = inflated(video, source)
    reach = 2 + 3 * (1 if image == "resnet50" else 2)
    frame = np.random.default_rng(0).normal(size=(1, 18, 20, 3)).astype(np.float32)
    clip = np.repeat(frame[:, None], 2 * reach + 2, axis=1)
    want, found = map_of(still, own, frame), map_of(model, made, clip)
    want = want.reshape(1, 1, *want.shape[-3:])
    inner = found[:, reach:-reach]
    assert inner.shape[1] == 2
    want = np.broadcast_to(want, inner.shape)
    np.testing.assert_allclose(inner, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    # At the ends zeros are seen: as in the reference, nothing is repeated there.
    assert np.abs(found[:, 0] - want[:, 0]).max() > 0.01 * np.abs(want).max()


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_a_kernel_is_shared_out_over_time(taps):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
    made = inflation.inflated(kernel, taps)
    assert made.shape == (taps, 3, 3, 2, 4) and made.dtype == kernel.dtype
    np.testing.assert_array_equal(made, np.broadcast_to(made[:1], made.shape))
    np.testing.assert_allclose(made.sum(0), kernel, rtol=1e-6)


def test_channels_are_averaged_as_well(tmp_path):
    _, own, source = checkpoint(tmp_path, "resnet50")
    _, (params, _) = inflated("cmpl_resnet50", source, channels=10)
    kernel = np.asarray(own[0]["conv1"]["kernel"])
    want = np.broadcast_to(kernel.mean(-2, keepdims=True) / 5, (5, 7, 7, 10, 4))
    np.testing.assert_allclose(params["conv1"]["kernel"], want, rtol=1e-4)


def test_what_is_left_over_is_named(tmp_path):
    _, _, source = checkpoint(tmp_path, "resnet50")
    with pytest.raises(ValueError, match="not in the model") as error:
        inflated("cmpl_resnet50", source, stages=(1, 1))
    assert "layer1.1.conv2.weight" in str(error.value)
    # R(2+1)D's factors have no place for a 3x3.
    with pytest.raises(ValueError, match="layer1_0/conv1_temporal/kernel"):
        inflated("r2plus1d_18", source)


def test_what_cannot_be_inflated_is_said(tmp_path):
    model, own, source = checkpoint(tmp_path, "resnet50")
    with pytest.raises(ValueError, match="nothing to inflate"):
        weights.load("resnet50", source, params=own[0], stats=own[1], layout=model)
    with pytest.raises(ValueError, match=r"'inflated:resnet50\.pth'"):
        files.split("inflated:")
    with pytest.raises(FileNotFoundError, match=r"no weights at gone\.pth"):
        inflated("cmpl_resnet50", "inflated:gone.pth")


def test_a_control_without_a_file_does_not_begin():
    config = ConfigDict(dict(networks=dict(rgb=dict(weights="inflated:"))))
    with pytest.raises(ValueError, match=r"config\.networks\.rgb\.weights: 'inflated:' names no file: fetch"):
        values.check_weights(config)
    config.networks.rgb.weights = "inflated:gone.pth"
    with pytest.raises(ValueError, match=r"weights=inflated:gone\.pth: there is no gone\.pth"):
        values.check_weights(config)


def test_inflated_is_another_start(tmp_path):
    *_, source = checkpoint(tmp_path, "resnet18")
    plain = source.removeprefix("inflated:")
    assert files.split(source) == files.split(plain)
    assert keys._of_file(source) == "inflated:" + keys._of_file(plain)
