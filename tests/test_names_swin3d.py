"""The three spellings of a Video Swin's tensors land in the right place; whatever does not fit is named."""

import functools
import re

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid import weights
from mmvid.models import build_model
from mmvid.weights import files, trees
from mmvid.weights.names_swin3d import address, authors_key, torch_key

LAYERS = re.compile(r"^backbone\.layers\.(\d)\.(blocks|downsample)")


@functools.cache
def made(heads=("action",)):
    """The params of a narrow network of two stages, every number another."""
    options = dict(width=12, stages=(2, 1), window=(2, 3, 3))
    model = build_model("swin3d_tiny", heads=dict.fromkeys(heads, 5), **options)
    return drawn.weights(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))[0]


def checkpoint(params, **changes):
    """The authors' state_dict of our params, with the tables that their blocks keep."""
    tensors = weights.torch_names(params, {}, head=sorted(params["classifier"])[0])
    blocks = [k.rpartition(".")[0] for k in tensors if k.endswith("bias_table")]
    return (
        tensors | {f"{block}.relative_position_index": np.zeros((18, 18), np.int64) for block in blocks} | changes
    )


def torchvision(key):
    key = LAYERS.sub(lambda m: f"features.{2 * int(m[1]) + (m[2] == 'downsample')}", key)
    key = key.removeprefix("backbone.").replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
    return key.replace("cls_head.fc_cls", "head")


SPELLINGS = {
    "its authors": lambda k: k,
    "data parallel": lambda k: "module." + k,
    "distillation": lambda k: k.replace("cls_head.fc_cls", "classifiers.ACTION"),
    "torchvision": torchvision,
}


def loaded(source, params=None, **options):
    return weights.load("swin3d_tiny", source, params=params or made(), stats={}, **options)[0]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling(spelling):
    source = {SPELLINGS[spelling](k): v for k, v in checkpoint(made()).items()}
    jax.tree.map(np.testing.assert_array_equal, loaded(source), made())
    assert source.keys() & {"features.1.reduction.weight", "backbone.layers.0.downsample.reduction.weight",
                            "module.backbone.layers.0.downsample.reduction.weight"}  # fmt: skip


def test_addresses_and_keys_are_inverse():
    paths = list(trees.flatten({"params": made()}))
    keys = {path: torch_key(path[1:]) for path in paths}
    assert len(set(keys.values())) == len(paths)
    assert {path: address(key, "action") for path, key in keys.items()} == {p: p for p in paths}
    assert {authors_key(torchvision(key)) for key in keys.values()} == set(map(authors_key, keys.values()))


def test_layouts_are_torchs():
    tensors = checkpoint(made())
    assert tensors["backbone.patch_embed.proj.weight"].shape == (12, 3, 2, 4, 4)
    assert tensors["backbone.layers.0.blocks.1.attn.relative_position_bias_table"].shape == (75, 3)
    assert tensors["backbone.layers.1.blocks.0.mlp.fc1.weight"].shape == (96, 24)
    kernel = made()["layer1_0"]["qkv"]["kernel"]
    np.testing.assert_array_equal(tensors["backbone.layers.0.blocks.0.attn.qkv.weight"], kernel.T)


def test_two_heads_have_a_classifier_each():
    params = made(("noun", "verb"))
    source = {k: v for k, v in checkpoint(params).items() if "cls_head" not in k}
    for head in ("noun", "verb"):
        own = weights.torch_names(params, {}, head=head)
        source |= {k.replace("cls_head.fc_cls", f"classifiers.{head.upper()}"): own[k] for k in own if "cls_" in k}
    jax.tree.map(np.testing.assert_array_equal, loaded(source, params), params)
    with pytest.raises(ValueError, match=r"2 not in the model: classifiers\.VERB\.bias, "):
        loaded(source, made(("noun",)))


@pytest.mark.parametrize(
    "key", ["backbone.layers.0.blocks.0.attn.rel.weight", "backbone.layers.0.downsample.reduction.bias",
            "backbone.layers.0.blocks.0.mlp.fc3.weight", "backbone.norm.running_mean", "norm1.weight",
            "backbone.layers.0.blocks.0.attn.weight", "features.0.0.mlp.1.weight", "mask_token"]
)  # fmt: skip
def test_strange_tensors_are_named(key):
    with pytest.raises(ValueError, match="is no tensor of a Video Swin"):
        address(key, "action")
    with pytest.raises(ValueError, match=f"1 not in the model: {re.escape(key)}\n"):
        loaded(checkpoint(made(), **{key: np.zeros(3)}), classifier="skip")


def test_a_table_of_pairs_belongs_to_a_block():
    strange = "backbone.layers.7.blocks.0.attn.relative_position_index"
    with pytest.raises(ValueError, match=f"1 not in the model: {re.escape(strange)}\n"):
        loaded(checkpoint(made(), **{strange: np.zeros((18, 18), np.int64)}))


def test_another_window_does_not_fit():
    tables = {k: v[:45] for k, v in checkpoint(made()).items() if k.endswith("bias_table")}
    with pytest.raises(ValueError, match=r"layer1_0/bias_table: \(3, 45\) in the file, \(3, 75\) in the model"):
        loaded(checkpoint(made(), **tables))


def test_flow_starts_from_rgbs_kernels(tmp_path):
    model = build_model("swin3d_tiny", num_classes=5, in_channels=10, width=12, stages=(2, 1), window=(2, 3, 3))
    params = drawn.weights(model.init, jax.random.key(1), jnp.zeros((1, 2, 8, 8, 10)))[0]
    for source in (checkpoint(made()), tmp_path / "rgb.safetensors"):
        if isinstance(source, type(tmp_path)):
            layouts = files.describe_layouts({"rgb": model})
            files.save(source, {"rgb": {"params": made(), "stats": {}}}, {"layouts": layouts})
        found = loaded(source, params, layout=model)["patch_embed"]["kernel"]
        mean = made()["patch_embed"]["kernel"].mean(-2)
        assert found.shape == (2, 4, 4, 10, 12)
        np.testing.assert_allclose(found[..., 3, :], mean, rtol=1e-6)


def test_a_resnets_file_is_no_swins():
    resnet = build_model("resnet18", num_classes=5, width=4)
    source = weights.torch_names(*drawn.weights(resnet.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))))
    with pytest.raises(ValueError, match=r"not in the model: .*bn1\.bias"):
        loaded(source)
