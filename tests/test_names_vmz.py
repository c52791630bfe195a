"""Names of VMZ's networks, in Caffe2 and in PyTorch, and mmaction2's of CSNs: each in its place, none left."""

import pickle

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_recipe import load, weights

from mmvid import weights as weights_lib
from mmvid.models import build_model
from mmvid.weights import names_resnet, trees

# {our layer: number in its block, and '_middle' for what stands before}, as VMZ's builders count.
DEEP = {"conv1": "1", "conv2": "2", "conv3": "3"}
BLOCKS = {
    "vmz_r3d_50": DEEP,
    "csn_ir_50": {"conv1": "1", "conv2": "3", "conv3": "4"},
    "csn_ip_152": {**DEEP, "conv2_point": "2_middle"},
    "r2plus1d_18_true": {"conv1_spatial": "1_middle", "conv1_temporal": "1", "conv2_spatial": "2_middle",
                         "conv2_temporal": "2"},
    "vmz_audio_resnet50": DEEP,
}  # fmt: skip
LEAVES = {"scale": "s", "bias": "b", "mean": "rm", "var": "riv", "kernel": "w"}
STAGES = (1, 2, 1)


def norm_of(conv):
    return conv.replace("conv", "bn").removesuffix("_temporal")


def blob(path, layers, first=0):
    """The blob of one of our paths; ``first`` counts the blocks before the stages."""
    *inside, layer, leaf = path
    leaf = LEAVES[leaf]
    if layer == "action":
        return f"last_out_L7_{leaf}"
    if not inside:
        two = "conv1_spatial" in layers
        name = "conv1_middle" if two and layer[-1] == "1" else "conv1"
        return f"{name}_{leaf}" if layer.startswith("conv") else f"{name}_spatbn_relu_{leaf}"
    block = inside[0]
    stage, number = block.removeprefix("layer").split("_")
    comp = int(number) if stage == "stem" else first + sum(STAGES[: int(stage) - 1]) + int(number)
    if layer.startswith("downsample"):
        return f"shortcut_projection_{comp}_" + (f"spatbn_{leaf}" if layer.endswith("bn") else leaf)
    convs = {norm_of(conv): number for conv, number in layers.items()}
    kind, place = ("conv", layers[layer]) if layer.startswith("conv") else ("spatbn", convs[layer])
    return f"comp_{comp}_{kind}_{place}_{leaf}"


def network(name, channels=3):
    model = build_model(name, num_classes=7, in_channels=channels, width=8, stages=STAGES)
    x = jnp.zeros((1, 20, 16, 1)) if channels == 1 else jnp.zeros((1, 2, 16, 16, channels))
    return model, drawn.weights(model.init, jax.random.key(0), x)


def blobs_of(name, own, prefix=""):
    flat = trees.leaves(own[0]) | trees.leaves(own[1])
    first = 3 if "audio" in name else 0
    made = {prefix + blob(path, BLOCKS[name], first): names_resnet.to_torch(value) for path, value in flat.items()}
    assert len(made) == len(flat)
    return made


def zeros(own):
    params, stats = (jax.tree.map(np.zeros_like, tree) for tree in own)
    return {"params": params, "stats": stats}


def same(found, want):
    jax.tree.map(np.testing.assert_array_equal, tuple(found), tuple(want))


@pytest.mark.parametrize("name", BLOCKS)
def test_blobs_of_caffe2_find_their_places(name, tmp_path):
    """From its file too: a pickle, of which nothing but arrays is read."""
    model, own = network(name, 1 if "audio" in name else 3)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs_of(name, own)}, protocol=2))
    same(weights_lib.load(name, path, **zeros(own), layout=model), own)
    spoilt = blobs_of(name, own) | {"comp_0_conv_9_x": np.zeros(3)}
    with pytest.raises(ValueError, match="1 not in the model: comp_0_conv_9_x"):
        weights_lib.load(name, spoilt, **zeros(own), layout=model)


@pytest.mark.parametrize("heads", [True, False])
def test_blobs_of_pictures_and_sound_fill_a_fusion(heads):
    """Pictures first, as they are concatenated; without unimodal classifiers these keep their draw."""
    names = {"rgb": "csn_ip_152", "audio": "vmz_audio_resnet50"}
    own = {stream: network(name, {"rgb": 3, "audio": 1}[stream])[1] for stream, name in names.items()}
    model = build_model(
        "fusion", num_classes=7, in_channels={"rgb": 3, "audio": 1}, encoders=names, width=8, stages=STAGES
    )
    x = {"rgb": jnp.zeros((1, 2, 16, 16, 3)), "audio": jnp.zeros((1, 20, 16, 1))}
    params, stats = drawn.weights(model.init, jax.random.key(0), x, seed=1)
    blobs = blobs_of("csn_ip_152", own["rgb"], "v_") | blobs_of("vmz_audio_resnet50", own["audio"], "a_")
    if not heads:
        blobs = {key: value for key, value in blobs.items() if "last_out" not in key}
    joint = {"fc1": "av_fc1", "fc2": "av_fc2"}
    for path, value in trees.leaves(params["joint"]).items():
        name = joint.get(path[0], "last_out_L7")
        blobs[f"{name}_{LEAVES[path[-1]]}"] = names_resnet.to_torch(value + 1)
    found, moments = weights_lib.load("av", blobs, params=params, stats=stats, layout=model)
    for stream, (theirs, their_moments) in own.items():
        want = theirs if heads else theirs | {"classifier": params[stream]["classifier"]}
        same((found[stream], moments[stream]), (want, their_moments))
    same((found["joint"],), (jax.tree.map(lambda v: v + 1, params["joint"]),))


def test_a_pickle_that_could_run_code_is_refused(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": pytest.approx}}))
    with pytest.raises(ValueError, match=r"model\.pkl is damaged or holds more than arrays .*approx"):
        weights_lib.found(path)


# What 'same_as' of the golden says of VMZ's names.
VMZ = {
    "backbone.conv1.conv": "stem.0", "backbone.conv1.bn": "stem.1", "cls_head.fc_cls": "fc",
    "backbone.": "", "conv2.0.conv": "conv2.0.0", "conv2.0.bn": "conv2.0.1", "conv2.1.conv": "conv2.0.2",
    "conv2.1.bn": "conv2.1", "conv1.conv": "conv1.0", "conv1.bn": "conv1.1", "conv3.conv": "conv3.0",
    "conv3.bn": "conv3.1", "downsample.conv": "downsample.0", "downsample.bn": "downsample.1",
}  # fmt: skip


def test_both_names_of_a_preserved_network_are_one():
    spec, _ = load("csn_ip152")
    few = {key: value for key, value in weights(spec).items() if ".layer3" not in key and ".layer4" not in key}
    renamed = {}
    for key, value in few.items():
        layer, _, leaf = key.rpartition(".")
        for theirs, vmz in VMZ.items():
            layer = layer.replace(theirs, vmz)
        renamed[f"{layer}.{leaf}"] = value
    first, second = (weights_lib.found(tensors, head="action") for tensors in (few, renamed))
    assert not first.strange and not second.strange
    same((dict(first.placed),), (dict(second.placed),))


@pytest.mark.parametrize("name", ["csn_ip_152", "csn_ir_50"])
def test_weights_are_written_under_vmzs_names(name):
    model, own = network(name)
    written = weights_lib.torch_names(*own)
    assert ("layer1.0.conv2.0.2.weight" in written) == (name == "csn_ip_152")
    same(weights_lib.load(name, written, **zeros(own), layout=model), own)
