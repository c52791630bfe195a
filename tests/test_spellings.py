"""Published names: ours are written in each and read back bit for bit; `mmvid weights` says what a file is."""

import functools
import json

import golden_recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_commands import ask

from mmvid import weights
from mmvid.models import MODELS, build_model
from mmvid.run import published
from mmvid.weights import files, sources
from mmvid.weights.spellings import SPELLINGS

# Narrow, but of their true depth: which blocks TSM shifts depends on it.
NARROW = {"stlt": dict(width=16, attention_heads=2), "stlt_layouts": dict(width=24, attention_heads=2),
          "swin3d_tiny": {}}  # fmt: skip
# Of every spelling one network that is quickly built; the deeper ones are slow.
QUICK = {"torchvision": "r3d_18", "tsm": "tsm_resnet50", "mmaction2": "csn_ir_50", "vmz": ""}
WRITTEN = [
    pytest.param(s, m, marks=[pytest.mark.slow] * (m != QUICK.get(s, own.models[0])), id=f"{s}-{m}")
    for s, own in SPELLINGS.items()
    if own.key_of
    for m in own.models
]


@functools.cache
def drawn(name):
    """(model, shapes, (params, stats) as random numbers)."""
    options = NARROW.get(name, dict(width=8))
    shape = (1, 4, 14, 8) if name.startswith("stlt") else (1, 8, 64, 64, 3)
    model = build_model(name, heads={"action": 5}, in_channels=shape[-1], **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    rng = np.random.default_rng(0)
    return model, shapes, jax.tree.map(lambda v: np.float32(rng.normal(size=v.shape)), shapes)


@pytest.mark.parametrize("spelling, name", WRITTEN)
def test_every_spelling_comes_back(spelling, name):
    """Bit for bit, and under one key each; an example of a key is one of them where the model has such a layer."""
    model, shapes, (params, stats) = drawn(name)
    names = weights.torch_names(params, stats, spelling=spelling)
    assert len(names) == len(jax.tree.leaves((params, stats)))
    loaded = weights.load(name, names, params=shapes[0], stats=shapes[1], layout=model)
    jax.tree.map(np.testing.assert_array_equal, loaded, (params, stats))


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [name for name, own in SPELLINGS.items() if own.key_of])
def test_examples_are_keys(spelling):
    own = SPELLINGS[spelling]
    keys = {key for model in own.models for key in weights.torch_names(*drawn(model)[2], spelling=spelling)}
    assert own.example in keys


def test_tsm_of_101_layers_shifts_every_second_block():
    keys = weights.torch_names(*drawn("tsm_resnet101")[2], spelling="tsm")
    inside = {
        int(key.split(".")[3]) for key in keys if key.startswith("module.base_model.layer3.") and ".net." in key
    }
    assert inside == set(range(0, 23, 2)) and "module.new_fc.weight" in keys


@pytest.mark.parametrize("name, keys", [
    ("i3d_resnet50", ("3.res_blocks.0.branch1_conv", "6.proj")),
    pytest.param("slow_resnet50", ("2.res_blocks.0.branch1_conv", "5.proj"), marks=pytest.mark.slow),
    pytest.param("slowfast_resnet50", (
        "0.multipathway_fusion.conv_fast_to_slow", "6.proj", "4.multipathway_blocks.1.res_blocks.2.branch2.norm_c",
    ), marks=pytest.mark.slow),
])  # fmt: skip
def test_pytorchvideos_numbers_count_poolings(name, keys):
    """I3D pools behind its first stage, SlowFast before its head: these have numbers, too."""
    names = weights.torch_names(*drawn(name)[2], spelling="pytorchvideo")
    assert {f"blocks.{key}.weight" for key in keys} <= set(names)
    strange = sources.found({**names, "blocks.9.res_blocks.0.branch2.conv_d.weight": np.zeros(1)}).strange
    assert strange == ("blocks.9.res_blocks.0.branch2.conv_d.weight",)


def test_all_models_named_are_there():
    assert {model for own in SPELLINGS.values() for model in own.models} <= set(MODELS)


@pytest.mark.parametrize(
    "name, spelling",
    [("r2plus1d_18", "tsm"), ("r2plus1d_18", "slowfast"), ("stlt", "slowfast"), ("swin3d_tiny", "kataoka")],
)
def test_a_spelling_that_has_no_such_layers(name, spelling):
    """Nothing is written that nobody could read."""
    with pytest.raises(ValueError, match=f"cannot be named in the spelling '{spelling}'"):
        weights.torch_names(*drawn(name)[2], spelling=spelling)


@pytest.mark.parametrize("spelling", ["vmz-caffe2", "keras"])
def test_what_is_not_written(spelling):
    with pytest.raises(ValueError, match="ours are written in the spellings"):
        weights.torch_names(*drawn("resnet18")[2], spelling=spelling)


# ---------------------------------------------------------------------------- the command
def a_file(tmp_path, name="resnet18", spelling="torchvision", **changes):
    names = weights.torch_names(*drawn(name)[2], spelling=spelling) | changes
    path = tmp_path / "w.safetensors"
    save_file({key: value for key, value in names.items() if value is not None}, path)
    return path


def ours(tmp_path, model="tsm_resnet18"):
    """A file as a run writes it, of two networks."""
    params, stats = drawn(model)[2]
    tree = {name: {"params": params, "stats": stats} for name in ("rgb", "flow")}
    inputs = {
        name: {"model": model, "reads": [[[name, name, "frames" if name == "rgb" else "stack5"]]]} for name in tree
    }
    told = {
        "networks": json.dumps([*tree]),
        "heads": json.dumps({"action": ["a", "b", "c", "d", "e"]}),
        "key": "k1",
    }
    path = tmp_path / "weights.safetensors"
    files.save(path, tree, told | {"inputs": json.dumps(inputs), "layouts": "{}"})
    return path


def test_the_list_names_formats_and_architectures(monkeypatch, capsys):
    assert ask(monkeypatch, "weights", "--list") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*SPELLINGS, *MODELS)) and "read only" in said


@pytest.mark.parametrize(
    "name, spelling", [("resnet50", "torchvision"), ("tsm_resnet50", "tsm"), ("i3d_resnet50", "slowfast")]
)
def test_a_published_file_is_recognised(name, spelling, tmp_path, monkeypatch, capsys):
    path = a_file(tmp_path, name, spelling)
    # Its width is not the model's own here: shapes differ, names do not.
    assert ask(monkeypatch, "weights", f"--check={path}", f"--model={name}") == 0
    said = capsys.readouterr().out
    assert "names that are known" in said and f"{name}: " in said and "not in the file" not in said


def test_a_file_that_fits_is_said_how_to_be_given(tmp_path, monkeypatch, capsys):
    model = build_model("resnet18", num_classes=7)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    params, stats = jax.tree.map(lambda v: np.zeros(v.shape, np.float32), shapes)
    path = tmp_path / "own.safetensors"
    save_file(weights.torch_names(params, stats), path)
    assert ask(monkeypatch, "weights", f"--check={path}") == 0
    said = capsys.readouterr().out
    assert "102 of 102 tensors fit" in said and f"--config.networks.NAME.weights={path}" in said


def test_networks_of_the_same_tensors_are_all_named(tmp_path, monkeypatch, capsys):
    """Whether frames are shifted, no tensor tells."""
    model = build_model("tsm_resnet18", num_classes=7)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 64, 64, 3), jnp.float32))
    made = jax.tree.map(lambda v: np.zeros(v.shape, np.float32), shapes)
    path = tmp_path / "own.safetensors"
    save_file(weights.torch_names(*made, spelling="tsm"), path)
    assert ask(monkeypatch, "weights", f"--check={path}") == 0
    assert "of the model 'resnet18' or 'tsm_resnet18'; they have the same tensors" in capsys.readouterr().out


def test_what_the_architecture_lacks_is_named(tmp_path, monkeypatch, capsys):
    """A deeper network's file has all of a shallower one, and does not fit."""
    path = a_file(tmp_path, "resnet18", **{"layer1.2.conv1.weight": np.zeros((8, 8, 3, 3), np.float32)})
    assert ask(monkeypatch, "weights", f"--check={path}", "--model=resnet18") == 0
    said = capsys.readouterr().out
    assert "not in resnet18: layer1.2.conv1.weight" in said and "all of it" not in said


def test_what_does_not_fit_is_named(tmp_path, monkeypatch, capsys):
    strange = np.zeros((3, 3), np.float32)
    path = a_file(tmp_path, **{"layer1.0.conv1.weight": None, "optimizer.momentum": strange})
    assert ask(monkeypatch, "weights", f"--check={path}", "--model=resnet18") == 0
    said = capsys.readouterr().out
    assert "optimizer.momentum" in said and "params/layer1_0/conv1/kernel" in said
    assert "conv1.weight is (7, 7, 3, 8), and resnet18 has (7, 7, 3, 64)" in said


def test_a_file_of_nothing_here(tmp_path, monkeypatch, capsys):
    path = tmp_path / "w.safetensors"
    save_file({"embedding.table": np.zeros((3, 3), np.float32)}, path)
    assert ask(monkeypatch, "weights", f"--check={path}") == 0
    assert "no architecture here has such tensors" in capsys.readouterr().out


def test_a_file_of_ours_is_told(tmp_path, monkeypatch, capsys):
    path = ours(tmp_path)
    assert ask(monkeypatch, "weights", f"--check={path}") == 0
    said = capsys.readouterr().out
    assert "written by mmvid, key k1" in said and "tsm_resnet18" in said and "5 classes" in said
    assert "flow (stack5)" in said


@pytest.mark.parametrize("spelling", ["tsm", "torchvision", "timm"])
def test_a_network_is_written_under_published_names(spelling, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sub" / "out.safetensors"
    assert (
        ask(monkeypatch, "weights", f"--check={ours(tmp_path)}#rgb", f"--write={out}", f"--spelling={spelling}")
        == 0
    )
    model, shapes, made = drawn("tsm_resnet18")
    loaded = weights.load("x", load_file(out), params=shapes[0], stats=shapes[1], layout=model)
    jax.tree.map(np.testing.assert_array_equal, loaded, made)


# {our network: the golden numbers of its original, which list all that torch's strict loading asks for}
STRICT = {"swin3d_tiny": "tv_swin3d_t", "stlt_layouts": "stlt_layouts_default", "stlt": "stlt_distill"}


@pytest.mark.parametrize("model", STRICT)
def test_what_is_written_is_all_that_the_original_has(model, tmp_path, monkeypatch):
    """What it keeps beside its weights, too, as `export --format=torch` writes it."""
    out, spelling = tmp_path / "out.safetensors", published.spelling_of(model)
    line = (f"--check={ours(tmp_path, model)}#rgb", f"--write={out}", f"--spelling={spelling}")
    assert ask(monkeypatch, "weights", *line) == 0
    golden = json.loads((golden_recipe.GOLDEN / f"{STRICT[model]}.json").read_text())
    wanted = {key for key, *_ in golden["state_dict"] if not key.endswith("num_batches_tracked")}
    assert set(load_file(out)) == wanted
    tree = dict(zip(("params", "stats"), drawn(model)[2]))
    assert set(published.named(tree, head="action", spelling=spelling, options={})) == wanted


def test_a_window_that_no_file_tells_is_not_guessed():
    shape, options = (1, 4, 32, 32, 3), {"window": (2, 4, 4), "stages": (1, 1, 1, 1)}
    model = build_model("swin3d_tiny", heads={"action": 2}, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    params, stats = jax.tree.map(lambda v: np.zeros(v.shape, np.float32), shapes)
    tree, how = {"params": params, "stats": stats}, dict(head="action", spelling="video-swin")
    keys = published.named(tree, options=options, **how)
    assert keys["backbone.layers.0.blocks.0.attn.relative_position_index"].shape == (32, 32)
    with pytest.raises(ValueError, match=r"has 147 rows.*mmvid export RUN --format=torch"):
        published.named(tree, options={}, **how)


@pytest.mark.parametrize(
    "argv, code, words",
    [
        ((), 2, "--check=FILE"),
        (("--check={tmp}/none.pth",), 1, "no weights at"),
        (("--check={ours}", "--write={tmp}/o.safetensors"), 2, "holds several networks"),
        (("--check={ours}#rgb", "--write={tmp}/o.safetensors", "--spelling=keras"), 2, "--spelling=keras"),
        (("--check={ours}#rgb", "--write={tmp}/o.safetensors", "--head=noun"), 2, "head='noun'"),
        (("--check={file}", "--write={tmp}/o.safetensors"), 2, "published names already"),
        (("--check={ours}#rgb", "--write={ours}"), 2, "would be written over an input"),
        (("--check={file}", "--model=resnet19"), 2, "no such architecture"),
    ],
)
def test_what_the_command_refuses(argv, code, words, tmp_path, monkeypatch, capsys):
    places = {"tmp": tmp_path, "ours": ours(tmp_path), "file": a_file(tmp_path)}
    assert ask(monkeypatch, "weights", *(text.format(**places) for text in argv)) == code
    assert words in capsys.readouterr().err


def test_whose_names_are_known_of_every_module():
    assert set(sources.WHOSE) == {*sources.FORMATS, *sources._ALSO}
