"""Every spelling of a checkpoint lands in the right place; whatever does not fit is named."""

import contextlib
import functools
import re
import sys
import types

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file

from mmvid import usage, weights
from mmvid.models import build_model
from mmvid.weights import files, trees
from mmvid.weights.names_resnet import address, torch_key, torch_video_key, torchvision_key

SHIFTED = re.compile(r"^(layer\d\.\d+\.conv1)\.")
quick = hypothesis.settings(max_examples=25, deadline=None)


@functools.cache
def shapes_of(name="tsm_resnet18", channels=3, classes=5, heads=("action",)):
    """(params, stats) of a narrow model, as shapes."""
    options = {"width": 4, "heads": dict.fromkeys(heads, classes)}
    model = build_model(name, in_channels=channels, **options)
    size = (1, 16, 16, channels) if name.startswith("resnet") else (1, 2, 16, 16, channels)
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(size, jnp.float32))


def drawn(shapes, seed=0):
    """The same tree, every number another."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def checkpoint(params, stats, **changes):
    """A torchvision state_dict of our trees, with its counters."""
    tensors = weights.torch_names(params, stats)
    norms = [k.rpartition(".")[0] for k in tensors if k.endswith("running_mean")]
    counters = {f"{norm}.num_batches_tracked": np.zeros((), np.int64) for norm in norms}
    return tensors | counters | changes


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def loaded(source, shapes, name="tsm_resnet18", **options):
    return weights.load(name, source, params=shapes[0], stats=shapes[1], **options)


# ---------------------------------------------------------------------------- spellings
SPELLINGS = {
    "torchvision": lambda k: k,
    "timm, old": lambda k: k.replace("fc.", "last_linear."),
    "TSM": lambda k: "base_model." + SHIFTED.sub(r"\1.net.", k),
    "data parallel": lambda k: "module." + k,
    "TSM, data parallel": lambda k: "module.base_model." + SHIFTED.sub(r"\1.net.", k),
}


VIDEO = ["r2plus1d_18", "r2plus1d_18_dmcl", "r2plus1d_101", "r3d_18", "mc3_18", "cmpl_tiny"]


@pytest.mark.parametrize("spelling", ["torchvision", "data parallel"])
@pytest.mark.parametrize("name", VIDEO)
def test_every_spelling_of_video_networks(name, spelling):
    shapes = shapes_of(name)
    made = drawn(shapes)
    source = {SPELLINGS[spelling](key): v for key, v in checkpoint(*made).items()}
    same(loaded(source, shapes, name), made)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["resnet18", "tsm_resnet18", "tsm_resnet50", "tsm_resnet101", "hara_r3d_50"])
def test_every_spelling_of_every_depth(name, spelling):
    shapes = shapes_of(name)
    made = drawn(shapes)
    source = {SPELLINGS[spelling](key): v for key, v in checkpoint(*made).items()}
    same(loaded(source, shapes, name), made)


def test_new_fc_is_the_classifier_and_counters_may_lack():
    shapes = shapes_of()
    made = drawn(shapes)
    source = {k.replace("fc.", "new_fc."): v for k, v in weights.torch_names(*made).items()}
    same(loaded(source, shapes), made)


def test_addresses_and_keys_are_inverse():
    shapes = shapes_of("tsm_resnet50")
    flat = trees.flatten({"params": shapes[0], "stats": shapes[1]})
    keys = {path: torch_key(path[1:]) for path in flat}
    assert len(set(keys.values())) == len(flat)
    assert {path: address(key, "action") for path, key in keys.items()} == {p: p for p in flat}
    assert all(torchvision_key(key) == key for key in keys.values())


@pytest.mark.parametrize("name", VIDEO)
def test_video_addresses_and_keys_are_inverse(name):
    shapes = shapes_of(name)
    flat = trees.flatten({"params": shapes[0], "stats": shapes[1]})
    keys = {path: torch_video_key(path[1:]) for path in flat}
    assert len(set(keys.values())) == len(flat)
    assert {path: address(key, "action") for path, key in keys.items()} == {p: p for p in flat}
    assert all(torchvision_key(key) == key for key in keys.values())


def test_layouts_of_clips_are_torchs():
    shapes = shapes_of("r2plus1d_18")
    tensors = weights.torch_names(*drawn(shapes))
    assert tensors["stem.0.weight"].shape == (45, 3, 1, 7, 7)
    assert tensors["layer2.0.conv1.0.3.weight"].shape[2:] == (3, 1, 1)
    assert tensors["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1, 1)
    kernel = np.arange(45 * 3 * 49).reshape(45, 3, 1, 7, 7).astype(np.float32)
    ours = loaded(tensors | {"stem.0.weight": kernel}, shapes, "r2plus1d_18")[0]["conv1"]["kernel"]
    assert ours[0, 5, 6, 2, 3] == kernel[3, 2, 0, 5, 6]


def test_layouts_are_torchs():
    shapes = shapes_of()
    tensors = weights.torch_names(*drawn(shapes))
    assert tensors["conv1.weight"].shape == (4, 3, 7, 7)
    assert tensors["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert tensors["fc.weight"].shape == (5, 32)
    assert all(v.flags.c_contiguous for v in tensors.values())
    kernel = np.arange(np.prod((4, 3, 7, 7))).reshape(4, 3, 7, 7).astype(np.float32)
    ours = loaded(tensors | {"conv1.weight": kernel}, shapes)[0]["conv1"]["kernel"]
    assert ours[5, 6, 2, 3] == kernel[3, 2, 5, 6]


def test_export_takes_the_named_head():
    made = drawn(shapes_of(heads=("noun", "verb")))
    tensors = weights.torch_names(*made, head="verb")
    np.testing.assert_array_equal(tensors["fc.weight"], made[0]["classifier"]["verb"]["kernel"].T)
    with pytest.raises(ValueError, match=r"head='action'.*noun.*verb"):
        weights.torch_names(*made)
    with pytest.raises(ValueError, match="rgb, rgb2 share features; give one"):
        weights.torch_names(*({"rgb": tree, "rgb2": tree} for tree in made))


# ---------------------------------------------------------------------------- what does not fit
@pytest.mark.parametrize("name", ["tsm_tiny", "r2plus1d_18"])
@quick
@hypothesis.given(data=st.data())
def test_a_missing_tensor_is_named(name, data):
    shapes = shapes_of(name)
    source = weights.torch_names(*drawn(shapes))
    key = data.draw(st.sampled_from(sorted(source)))
    del source[key]
    with pytest.raises(ValueError, match="1 not in the file") as error:
        loaded(source, shapes, name)
    assert "/".join(address(key, "action")) in str(error.value)


@quick
@hypothesis.given(key=st.from_regex(r"[a-z0-9_.]{1,20}", fullmatch=True))
@hypothesis.example("layer9.0.bn1.num_batches_tracked")
@hypothesis.example("layer1.7.conv1.weight")
@hypothesis.example("conv1.0.weight")
@hypothesis.example("conv1.bias")
@hypothesis.example("bn1.momentum")
@hypothesis.example("new_fc.weight")
@hypothesis.example("module.base_model.conv1.weight")
def test_a_tensor_too_many_is_named(key):
    shapes = shapes_of("tsm_tiny")
    source = checkpoint(*drawn(shapes))
    hypothesis.assume(key not in source)
    with pytest.raises(ValueError, match="1 not in the model") as error:
        loaded(source | {key: np.zeros(3, np.float32)}, shapes, "tsm_tiny")
    assert key in str(error.value)


@pytest.mark.parametrize("key", ["stem.2.weight", "stem.0.bias", "layer1.0.conv1.0.2.weight", "conv1.weight",
                                 "layer1.0.conv1.0.weight", "layer1.0.conv1.2.weight", "layer1.0.bn1.weight",
                                 "stem.weight", "layer1.0.conv1.0.0.0.weight"])  # fmt: skip
def test_a_tensor_too_many_of_a_video_network_is_named(key):
    shapes = shapes_of("r2plus1d_18")
    source = checkpoint(*drawn(shapes)) | {key: np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="1 not in the model") as error:
        loaded(source, shapes, "r2plus1d_18")
    assert key in str(error.value)


def test_an_image_network_is_no_video_network():
    image, video = shapes_of("resnet18"), shapes_of("r3d_18")
    with pytest.raises(ValueError, match="do not fit r3d_18") as error:
        loaded(checkpoint(*drawn(image)), video, "r3d_18")
    assert "conv1/kernel: (7, 7, 3, 4) in the file, (3, 7, 7, 3, 4) in the model" in str(error.value)
    assert "inflated:FILE" in str(error.value)


def test_other_shapes_are_named_with_both():
    shapes = shapes_of()
    source = checkpoint(*drawn(shapes))
    source["layer1.0.conv2.weight"] = source["layer1.0.conv2.weight"][:, :2]
    source["conv1.weight"] = source["conv1.weight"][0]
    with pytest.raises(ValueError) as error:
        loaded(source, shapes)
    message = str(error.value)
    assert "layer1_0/conv2/kernel: (3, 3, 2, 4) in the file, (3, 3, 4, 4) in the model" in message
    assert "conv1/kernel: (3, 7, 7) in the file" in message


def test_a_deeper_file_names_every_tensor_that_is_left_over():
    deep = checkpoint(*drawn(shapes_of("tsm_resnet50")))
    shapes = shapes_of()
    with pytest.raises(ValueError, match="do not fit tsm_resnet18") as error:
        loaded(deep, shapes)
    shallow = set(checkpoint(*drawn(shapes)))
    left = {key for key in deep if key not in shallow}
    assert left and all(key in str(error.value) for key in left)


# ---------------------------------------------------------------------------- classifier
def test_another_classifier_loads_only_where_it_is_skipped():
    made = drawn(shapes_of(classes=7))
    own = drawn(shapes_of(classes=5), seed=1)
    with pytest.raises(ValueError, match=r"Only the classifier differs.*classifier='skip'"):
        loaded(checkpoint(*made), own)
    params, stats = loaded(checkpoint(*made), own, classifier="skip")
    same(params["classifier"], own[0]["classifier"])
    same({k: v for k, v in params.items() if k != "classifier"},
         {k: v for k, v in made[0].items() if k != "classifier"})  # fmt: skip
    same(stats, made[1])


def test_a_file_without_classifier_loads_only_where_it_is_skipped():
    own = drawn(shapes_of())
    source = {k: v for k, v in checkpoint(*drawn(own, 1)).items() if not k.startswith("fc.")}
    with pytest.raises(ValueError, match="2 not in the file: params/classifier"):
        loaded(source, own)
    same(loaded(source, own, classifier="skip")[0]["classifier"], own[0]["classifier"])


def test_one_classifier_does_not_fill_two_heads():
    own = drawn(shapes_of(heads=("noun", "verb")))
    source = checkpoint(*drawn(shapes_of()))
    with pytest.raises(ValueError, match="classifier/verb"):
        loaded(source, own)
    same(loaded(source, own, classifier="skip")[0]["classifier"], own[0]["classifier"])


def test_skip_does_not_excuse_the_trunk():
    shapes = shapes_of()
    source = checkpoint(*drawn(shapes))
    del source["bn1.running_var"]
    with pytest.raises(ValueError, match="stats/bn1/var"):
        loaded(source, drawn(shapes), classifier="skip")


WRAPPED = {"conv1": "resnet.0", "bn1": "resnet.1", **{f"layer{i}": f"resnet.{i + 3}" for i in range(1, 5)}}


def wrapped(key):
    """A key of Hara's network in multimodal distillation's wrapper."""
    first, _, rest = key.partition(".")
    return f"{WRAPPED[first]}.{rest}" if first in WRAPPED else key.replace("fc.", "classifiers.VERB.")


def test_a_wrapped_network_of_haras_keeps_its_heads_and_its_hidden_layer():
    model = build_model("hara_r3d_18", heads={"noun": 4, "verb": 5}, width=4, hidden=6)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 16, 16, 3), jnp.float32))
    made = drawn(shapes)
    nouns = {key.replace("fc.", "classifiers.NOUN."): v
             for key, v in weights.torch_names(*made, head="noun").items() if key.startswith("fc.")}  # fmt: skip
    source = {wrapped(key): v for key, v in weights.torch_names(*made, head="verb").items()} | nouns
    assert {"resnet.4.0.bn1.running_var", "projector.0.bias", "classifiers.NOUN.weight"} <= set(source)
    same(loaded(source, shapes, "hara_r3d_18"), made)


def test_a_neck_that_only_one_side_has_goes_with_the_classifiers():
    models = [build_model("hara_r3d_18", num_classes=5, width=4, hidden=hidden) for hidden in (6, 0)]
    clip = jax.ShapeDtypeStruct((1, 2, 16, 16, 3), jnp.float32)
    deep, plain = (drawn(jax.eval_shape(m.init, jax.random.key(0), clip), i) for i, m in enumerate(models))
    with_neck, without = ({"name": "hara_r3d_18", "layout": model} for model in models)
    with pytest.raises(ValueError, match=r"hidden/kernel.*\n.*classifier='skip'"):
        loaded(weights.torch_names(*plain), deep, **with_neck)
    params, stats = loaded(weights.torch_names(*plain), deep, **with_neck, classifier="skip")
    same(params, plain[0] | {name: deep[0][name] for name in ("classifier", "hidden")})
    same(stats, plain[1])
    params, _ = loaded(weights.torch_names(*deep), plain, **without, classifier="skip")
    same(params["conv1"], deep[0]["conv1"])
    assert "hidden" not in params
    # Where both have it, it is the file's.
    params, _ = loaded(weights.torch_names(*deep), drawn(deep, 2), **with_neck, classifier="skip")
    same(params["hidden"], deep[0]["hidden"])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["stlt", "stlt_layouts"])
def test_the_names_of_both_releases_of_stlt(name, prefix):
    model = build_model(name, num_classes=5, in_channels=8, width=8, layers=(2, 2), attention_heads=2)
    made = drawn(jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 3, 8), np.float32)))
    source = {prefix + key: v for key, v in weights.torch_names(*made).items()}
    assert len(source) == len(jax.tree.leaves(made))
    same(loaded(source, made, name, layout=model), made)
    pattern = {"norm1.bias": (8,), "norm1.weight": (8,), "self_attn.in_proj_weight": (24, 8)}
    unread = {f"backbone.frames_embeddings.layout_embedding.encoder_layer.{key}": np.ones(shape)
              for key, shape in pattern.items()}  # fmt: skip
    same(loaded(source | unread, made, name, layout=model), made)
    strange = f"{prefix}backbone.transformer.layers.0.linear9.weight"
    with pytest.raises(ValueError, match="linear9"):
        loaded(source | {strange: np.ones(2)}, made, name, layout=model)


def test_unknown_classifier_choice():
    shapes = shapes_of()
    with pytest.raises(ValueError, match="classifier='reinit': choose 'load' or 'skip'"):
        loaded({}, shapes, classifier="reinit")


# ---------------------------------------------------------------------------- first convolution
@pytest.mark.parametrize(("source", "target"), [(3, 10), (3, 15), (10, 3), (15, 3), (3, 1)])
def test_first_convolution_is_the_mean_repeated(source, target):
    made = drawn(shapes_of(channels=source))
    params, _ = loaded(checkpoint(*made), shapes_of(channels=target))
    kernel = params["conv1"]["kernel"]
    assert kernel.shape == (7, 7, target, 4)
    mean = made[0]["conv1"]["kernel"].mean(2)
    for channel in range(target):
        np.testing.assert_allclose(kernel[:, :, channel], mean, rtol=1e-5, atol=1e-7)
    same(params["layer1_0"], made[0]["layer1_0"])


@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18"])
def test_first_convolution_over_time_is_the_mean_repeated(name):
    made = drawn(shapes_of(name, channels=3))
    params, stats = loaded(checkpoint(*made), shapes_of(name, channels=10), name)
    kernel, mean = params["conv1"]["kernel"], made[0]["conv1"]["kernel"].mean(3)
    assert kernel.shape == (*made[0]["conv1"]["kernel"].shape[:3], 10, kernel.shape[4])
    for channel in range(10):
        np.testing.assert_allclose(kernel[..., channel, :], mean, rtol=1e-5, atol=1e-7)
    same(stats, made[1])


def test_equal_channels_stay_and_the_kernel_given_too():
    kernel = drawn(shapes_of())[0]["conv1"]["kernel"]
    assert trees.over_channels(kernel, 3) is kernel
    before = kernel.copy()
    assert trees.over_channels(kernel, 10).dtype == np.float32
    np.testing.assert_array_equal(kernel, before)
    with pytest.raises(ValueError, match="in_channels=0"):
        trees.over_channels(kernel, 0)


# ---------------------------------------------------------------------------- files of others
def test_safetensors_file(tmp_path):
    shapes = shapes_of()
    made = drawn(shapes)
    save_file(checkpoint(*made), tmp_path / "resnet.safetensors")
    same(loaded(tmp_path / "resnet.safetensors", shapes), made)
    same(loaded(str(tmp_path / "resnet.safetensors"), shapes), made)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_precisions_become_the_models(tmp_path, dtype):
    shapes = shapes_of()
    source = {k: v if v.dtype == np.int64 else v.astype(dtype)
              for k, v in checkpoint(*drawn(shapes)).items()}  # fmt: skip
    save_file(source, tmp_path / "half.safetensors")
    params, stats = loaded(tmp_path / "half.safetensors", shapes)
    assert {v.dtype for v in jax.tree.leaves((params, stats))} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(params["bn1"]["scale"], source["bn1.weight"].astype(np.float32))


def test_bad_paths(tmp_path):
    shapes = shapes_of()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.safetensors"):
        loaded(tmp_path / "none.safetensors", shapes)
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"net\.onnx: weights are read from"):
        loaded(tmp_path / "net.onnx", shapes)
    (tmp_path / "cut.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged"):
        loaded(tmp_path / "cut.safetensors", shapes)


class Tensor(np.ndarray):
    """As much of torch.Tensor as a state_dict needs."""

    def is_floating_point(self):
        return self.dtype.kind == "f"

    def float(self):
        return self.astype(np.float32)

    def detach(self):
        return self

    def numpy(self):
        return np.asarray(self)


def fake_torch(monkeypatch, loaded):
    def load(path, map_location, weights_only):
        assert weights_only and map_location == "cpu"
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load, Tensor=Tensor))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pth_through_torch(tmp_path, monkeypatch, wrapper):
    shapes = shapes_of()
    made = drawn(shapes)
    tensors = {k: v.view(Tensor) for k, v in checkpoint(*made).items()}
    fake_torch(monkeypatch, {"epoch": 3, wrapper: tensors} if wrapper else tensors)
    (tmp_path / "net.pth").write_bytes(b"x")
    same(loaded(tmp_path / "net.pth", shapes), made)


def test_bad_pth(tmp_path, monkeypatch):
    shapes = shapes_of()
    (tmp_path / "net.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"needs PyTorch.*safetensors\.torch\.save_file"):
        loaded(tmp_path / "net.pth", shapes)
    for error, reason in (
        (RuntimeError("failed finding central directory\nmore"), "failed finding"),
        (EOFError(), "EOFError"),
        (KeyError(1785425525), "1785425525"),
    ):
        fake_torch(monkeypatch, error)
        with pytest.raises(ValueError, match=rf"damaged or holds more than tensors \({reason}"):
            loaded(tmp_path / "net.pth", shapes)
    fake_torch(monkeypatch, {"epoch": 3})
    with pytest.raises(ValueError, match=r"tensors under every key, not so under \['epoch'\]"):
        loaded(tmp_path / "net.pth", shapes)
    fake_torch(monkeypatch, [1, 2])
    with pytest.raises(ValueError, match="expected a state_dict"):
        loaded(tmp_path / "net.pth", shapes)


# ---------------------------------------------------------------------------- our own files
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
leaves = st.sampled_from(["float32", "float16", "int32", "bool", "float64"]).flatmap(
    lambda dtype: arrays.arrays(
        dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
        elements=dict(allow_nan=False, allow_infinity=False) if dtype.startswith("float") else None,
    )
)  # fmt: skip
inner = st.dictionaries(names, leaves, max_size=3) | st.just({})


@quick
@hypothesis.given(tree=st.dictionaries(names, inner, max_size=3))
@hypothesis.example({"probe/rgb": {"kernel": np.ones((2, 1)), "100%2F": np.ones(())}, "flow": {}})
def test_own_files_give_back_what_was_saved(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("own") / "weights.safetensors"
    files.save(path, tree, {"heads": '{"action": 5}'})
    back, metadata = files.read(path)
    assert metadata == {"heads": '{"action": 5}'}
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    same(back, tree)
    # Whoever may read any other file of a run may read this one.
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode
    for mine, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(tree)):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)


def test_own_files_hold_device_arrays_of_half_precision(tmp_path):
    tree = {"rgb": {"kernel": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3).T}}
    files.save(tmp_path / "w.safetensors", tree, {})
    back = files.read(tmp_path / "w.safetensors")[0]["rgb"]["kernel"]
    assert back.dtype == jnp.bfloat16
    np.testing.assert_array_equal(back, tree["rgb"]["kernel"])


def test_a_save_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    files.save(path, {"rgb": {"a": np.ones(3)}}, {})
    before = path.read_bytes()

    def broken(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", broken)
    with contextlib.suppress(OSError):
        files.save(path, {"rgb": {"a": np.zeros(3)}}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@quick
@hypothesis.given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_called_damaged(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "w.safetensors"
    files.save(path, {"rgb": {"a": np.arange(30.0)}}, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        files.read(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_numbers_that_are_not_finite_are_refused(tmp_path, monkeypatch, bad, dtype):
    """Whoever wrote the file; the message names the file and the tensor."""
    shapes = shapes_of("tsm_tiny")
    source = {k: v if v.dtype == np.int64 else v.astype(dtype) for k, v in checkpoint(*drawn(shapes)).items()}
    source["bn1.running_var"].ravel()[1] = bad
    theirs = tmp_path / "theirs.safetensors"
    save_file(source, theirs)
    with pytest.raises(ValueError, match=r"theirs\.safetensors: 'bn1\.running_var' holds numbers .* not finite"):
        loaded(theirs, shapes, "tsm_tiny")
    fake_torch(monkeypatch, {k: v.astype(np.float32).view(Tensor) for k, v in source.items()})
    (tmp_path / "net.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"net\.pth: 'bn1\.running_var'"):
        loaded(tmp_path / "net.pth", shapes, "tsm_tiny")
    ours = tmp_path / "ours.safetensors"
    files.save(ours, {"rgb": {"params": {"conv1": {"kernel": np.full((2, 2), bad, dtype)}}, "stats": {}}}, {})
    for read in (files.read, lambda path: loaded(path, shapes, "tsm_tiny")):
        with pytest.raises(ValueError, match=r"ours\.safetensors: 'rgb/params/conv1/kernel' holds"):
            read(ours)


def test_files_that_are_not_ours(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"not written by mmvid; read it with weights\.load"):
        files.read(path)
    save_file({"a": np.ones(3)}, path, metadata={"format": "mmvid", "version": "9"})
    with pytest.raises(ValueError, match="is of version 9, this mmvid reads 1"):
        files.read(path)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none.safetensors")


def test_bad_metadata(tmp_path):
    with pytest.raises(ValueError, match=r"\['version'\] belong to the file format"):
        files.save(tmp_path / "w.safetensors", {}, {"version": "2"})
    with pytest.raises(ValueError, match=r"\['step'\] hold something else"):
        files.save(tmp_path / "w.safetensors", {}, {"step": 2})
    assert not list(tmp_path.iterdir())


def run_file(tmp_path, *networks):
    """A segment's weights file: {network: (params, stats)} and its path."""
    made = {n: drawn(shapes_of(), seed) for seed, n in enumerate(networks)}
    tree = {n: {"params": p, "stats": s} for n, (p, s) in made.items()}
    files.save(tmp_path / "weights.safetensors", tree, {})
    return made, tmp_path / "weights.safetensors"


def test_the_only_network_of_a_run_loads(tmp_path):
    made, path = run_file(tmp_path, "rgb")
    same(loaded(path, shapes_of()), made["rgb"])
    params, stats = loaded(path, shapes_of(channels=10))
    assert params["conv1"]["kernel"].shape == (7, 7, 10, 4)
    same(stats, made["rgb"][1])


def test_one_network_of_several_is_named(tmp_path):
    made, path = run_file(tmp_path, "rgb", "probe/flow")
    same(loaded(f"{path}#rgb", shapes_of()), made["rgb"])
    same(loaded(f"{path}#probe/flow", shapes_of()), made["probe/flow"])
    with pytest.raises(ValueError, match=r"holds several networks; .*probe/flow.*rgb"):
        loaded(path, shapes_of())
    with pytest.raises(ValueError, match=r"has no network 'depth'; .*probe/flow.*rgb"):
        loaded(f"{path}#depth", shapes_of())
    tree, _ = files.read(path)
    files.save(path, tree, {"layouts": "{"})
    with pytest.raises(usage.Damaged, match=r"weights\.safetensors is damaged: the entry 'layouts' of "):
        loaded(f"{path}#rgb", shapes_of())


def test_only_our_own_files_name_networks(tmp_path):
    """A file that has lost its metadata says so; one of others has no names."""
    _, path = run_file(tmp_path, "rgb", "flow")
    save_file(load_file(path), path)
    with pytest.raises(usage.Damaged, match=r"weights\.safetensors holds networks .* flow, rgb, but has lost"):
        loaded(f"{path}#rgb", shapes_of())
    save_file({"conv1.weight": np.ones(3)}, path)
    with pytest.raises(ValueError, match="not written by mmvid and holds one network: leave out '#rgb'"):
        loaded(f"{path}#rgb", shapes_of())
    with pytest.raises(FileNotFoundError, match="no weights at"):
        loaded(f"{tmp_path}/none.safetensors#rgb", shapes_of())


def test_another_model_in_a_run_is_named(tmp_path):
    _, path = run_file(tmp_path, "rgb")
    with pytest.raises(ValueError, match=r"do not fit tsm_resnet50.*"):
        loaded(path, shapes_of("tsm_resnet50"), "tsm_resnet50")
