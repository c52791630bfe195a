"""`mmvid export`: tiny networks of every family say as files what they say in a run, or are refused."""

import errno
import functools
import importlib.util
import json
import operator
import os
import pathlib
import shutil
import subprocess
import sys
import types
import zipfile

import fake
import golden_recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from test_commands import ask
from test_train import data, environment, finished  # noqa: F401

from configs import common
from mmvid import files, infer, lowering, usage
from mmvid import network as network_lib
from mmvid.commands import export as command
from mmvid.data import augment, example, pipeline
from mmvid.data.groups import Group
from mmvid.methods.base import Method
from mmvid.models import build_model
from mmvid.network import Network
from mmvid.plans.segment import Segment
from mmvid.prepare import prepare
from mmvid.run import agreement, export, feed, formats, published, resize, scored
from mmvid.scores import evaluate as evaluate_lib
from mmvid.scores import file as file_lib
from mmvid.scores import numbers
from mmvid.streams import HAND, MODALITIES, SIDES, STATES, Head, Sampling, Stream, host_shape, in_channels
from mmvid.weights import files as weight_files

HEADS = {"verb": Head(3, names=("lift", "drop", "push"))}
TINY = dict(stages=(1,), width=8)
RGB = Stream("rgb", "rgb", Sampling("uniform", 4))
SOUND = Stream("audio", "audio", Sampling("uniform", 4), "logmel")
BOXES = Stream("boxes", "boxes", Sampling("uniform", 4), "layout")
ENCODERS = dict(audio="audio_tiny", rgb="tsm_resnet18")
# {name of a test: (model, its options, streams)}
FAMILIES = {
    "tsm": ("tsm_resnet18", TINY, (RGB,)),
    "tsm of flow": ("tsm_resnet18", TINY, (Stream("flow", "flow", Sampling("uniform", 4), "stack5"),)),
    "r2plus1d": ("r2plus1d_18", TINY, (RGB,)),
    "r3d": ("r3d_18", TINY, (RGB,)),
    "i3d": ("i3d_resnet50", TINY, (RGB,)),
    "csn": ("csn_ip_152", TINY, (RGB,)),
    "swin": ("swin3d_tiny", dict(stages=(2,), width=8, head_width=4, window=(2, 3, 3)), (RGB,)),
    "stlt": ("stlt", dict(width=8, layers=(1, 1), attention_heads=2), (BOXES,)),
    "audio": ("audio_tiny", TINY, (SOUND,)),
    "fusion": ("fusion", dict(encoders=ENCODERS, joint_width=8, **TINY), (SOUND, RGB)),
}


def quickly(*names):
    """All families, of which those of other ``names`` are slow tests."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in names)) for name in FAMILIES]


# A fusion has pictures, sound and an image's layers; the others are compiled by CI.
SOME = quickly("fusion")


def config_of(**evaluation):
    """What a run's configuration says of how it is scored, with pictures of 16 pixels."""
    config = common.get_config().unlock()
    config.size = 16
    config.evaluation.update(evaluation)
    return config


def _param(rng, path, x):
    """Draws a parameter so that no unit is dead, what goes through a layer stays about as large as it was, and
    probabilities are far from 0 and 1."""
    name, shape = path[-1].key, x.shape
    if len(shape) > 1:
        share = 0.1 if any(p.key == "classifier" for p in path) else 1
        return np.float32(rng.normal(0, share * np.prod(shape[:-1]) ** -0.5, shape))
    return np.float32({"scale": 1, "bias": 0.3}.get(name, 0) + rng.normal(0, 0.2, shape))


def _stat(rng, path, x):
    return np.float32(rng.uniform(0.6, 1.4, x.shape) if path[-1].key == "var" else rng.normal(0, 0.2, x.shape))


def a_run(workdir, networks, streams, heads=HEADS, config=None, size=16):
    """A run whose one segment 'whole' has ended with these networks, of drawn weights."""
    segment = Segment(
        "whole", 1, tuple(networks), {s.name: s for s in streams}, heads, Method(None), {}, {},
        {"main": Group("train", 1, {})}, 1.0, None, None, 0, headline=networks[0].outputs[0],
    )  # fmt: skip
    init = functools.partial(network_lib.init_params, networks, segment.streams, size)
    shapes, rng = jax.eval_shape(init, jax.random.key(0)), np.random.default_rng(1)
    # Norms and classifiers that begin at 0 or 1 would hide what is wrong.
    params = jax.tree_util.tree_map_with_path(functools.partial(_param, rng), shapes[0])
    stats = jax.tree_util.tree_map_with_path(functools.partial(_stat, rng), shapes[1])
    tree = {n.name: {"params": params[n.name], "stats": stats[n.name]} for n in networks}
    weight_files.save(files_of(workdir) / "weights.safetensors", tree, {})
    info = types.SimpleNamespace(name="clips", height=20, width=24, settings={"depth_range": (1, 2)})
    dataset = types.SimpleNamespace(info=info)
    config = config or config_of()
    with config.unlocked():
        for n in networks:
            config.networks[n.name] = common.network("toy", *n.reads[0])
    return types.SimpleNamespace(config=config, workdir=workdir, datasets={"dataset": dataset}), segment


def files_of(workdir):
    (workdir / "whole").mkdir(parents=True, exist_ok=True)
    return workdir / "whole"


def of_family(workdir, name, config=None):
    model, options, streams = FAMILIES[name]
    channels = {s.name: in_channels(s) for s in streams}
    channels = channels if len(streams) > 1 else channels.popitem()[1]
    built = build_model(model, heads=HEADS, in_channels=channels, **options)
    network = Network("net", built, (tuple(s.name for s in streams),))
    run, segment = a_run(workdir, [network], streams, config=config)
    run.config.networks.net.model = model
    run.config.networks.net.options.update(options)
    return run, segment


# ---------------------------------------------------------------------------- pictures
@pytest.mark.parametrize(
    "height, width, size", [(48, 40, 42), (30, 34, 48), (64, 64, 32), (75, 80, 40)], ids=["", "up", "half", "mean"]
)
@pytest.mark.parametrize("nearest", [False, True])
def test_a_program_resizes_as_the_loader_does(height, width, size, nearest):
    pictures = np.random.default_rng(0).integers(0, 256, (1, height, width, 2)).astype(np.uint8)
    whole = augment.Geometry(0, 0, 1, 1)
    wanted = augment.apply(pictures, whole, size, negate_x=False, nearest=nearest)
    how = augment.resizing(height, width, size, nearest=nearest)
    found = np.asarray(resize.resize(jnp.asarray(pictures), size, how))
    if (how, height) == ("INTER_AREA", 75):
        # Of means some lie on a half, and fall to either side.
        assert np.abs(found - wanted).max() <= 1 and (found != wanted).mean() < 0.005
        return
    np.testing.assert_array_equal(found, wanted)


# ---------------------------------------------------------------------------- the function
@pytest.mark.parametrize("how", numbers.AGGREGATES)
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_probabilities_are_those_of_scores(how, kind):
    logits = np.random.default_rng(0).normal(0, 3, (2, 4, 5)).astype(np.float32)
    wanted = numbers.probabilities(logits, how, kind=kind)
    np.testing.assert_allclose(export.probabilities(jnp.asarray(logits), how, kind), wanted, atol=1e-6)


def counted(kind, part, heads):
    """A network that sees nothing but the mean of each channel, so that views and stacks must stand in order."""
    from mmvid.models.model import Model, Needs

    def init(key, x):
        classes = next(iter(heads.values())).classes
        return {"kernel": jax.random.normal(key, (x.shape[1] * x.shape[-1], classes))}, {}

    def apply(params, stats, x, *, train, key):
        means = x.mean((2, 3)).reshape(x.shape[0], -1)
        return {"logits": {h: jnp.dot(means, params["kernel"]) for h in heads}, "features": means}, stats

    return Network(kind, Model(init, apply, {"": Needs()}), ((part,),))


def test_views_stacks_sums_and_heads_are_the_runs(tmp_path):
    """Two networks, five clips of three crops each, stacks of flow, depth by the nearest pixel."""
    streams = (
        Stream("flow", "flow", Sampling("uniform", 2), "stack5"),
        Stream("depth", "depth", Sampling("uniform", 3), "image3"),
    )
    heads = {"verb": Head(3), "noun": Head(3, "multi")}
    networks = [counted(s.name, s.name, heads) for s in streams]
    config = config_of(protocol="T10", crops="three", aggregate="max")
    run, segment = a_run(tmp_path, networks, streams, heads, config)
    made = export.of_run(run, segment)
    assert made.inputs == {"flow": ((50, 20, 24, 2), "uint8"), "depth": ((15, 20, 24, 1), "uint8")}
    clips = agreement.drawn(made.inputs, 2)
    own, found = made.own(clips), jax.jit(made.function)(clips)
    assert set(own) == {f"{o}/{h}" for o in ("flow", "depth", "flow + depth") for h in heads}
    for name, rows in own.items():
        np.testing.assert_allclose(found[name], rows, atol=1e-5, err_msg=name)
    assert made.about["inputs"]["depth"]["depth_range"] == (1, 2) and made.about["clips"] == 5
    # Clips in another order are another clip: the check would see it.
    turned = made.own({name: x[:, ::-1] for name, x in clips.items()})
    assert max(np.abs(turned[name] - own[name]).max() for name in own) > 1e-3


def scored_run(tmp_path, monkeypatch):
    """A run of networks of flow and RGB whose loader has scored four clips, of which the first lacks flow."""
    streams, heads = (Stream("flow", "flow", Sampling("uniform", 2), "stack5"), RGB), {"action": Head(5)}
    config = config_of(protocol="T10", crops="three")
    networks = [counted(s.name, s.name, heads) for s in streams]
    run, segment = a_run(tmp_path, networks, streams, heads, config)
    segment = segment._replace(evaluate=("test",))
    source = fake.Source(4, absent=(0,))
    dataset = fake.dataset(4)._replace(subsets={"test": source})
    run.datasets["dataset"] = dataset
    monkeypatch.setattr(scored.records, "open_dataset", lambda path: dataset)
    spec = example.Eval(source, streams, heads, 16, 4, feed.views(run, "T10", "three"))
    weights = export.build.weights_of(run, segment)
    predict = jax.jit(infer.make_predict(segment.networks, segment.streams))
    own = config.evaluation
    found = evaluate_lib.predict_split(
        lambda batch: predict(weights["params"], weights["stats"], batch),
        pipeline.eval_dataset(spec),
        needs=segment.needs,
        ids=source.ids(),
        meta={"protocol": "T10", "crops": "three", "variant": own.variant, "resize": own.resize,
              "fingerprint": dataset.info.fingerprint, "split": "test"},
    )  # fmt: skip
    file_lib.save(run.workdir / "whole" / "scores" / "test.npz", found)
    return run, segment, found


def test_clips_that_the_run_has_scored_are_read_as_its_loader_shows_them(tmp_path, monkeypatch):
    run, segment, found = scored_run(tmp_path, monkeypatch)
    made = export.of_run(run, segment)
    known = made.scored
    assert known.split == "test" and {n: (x.shape[1:], x.dtype) for n, x in known.inputs.items()} == made.inputs
    for output in ("flow", "rgb"):
        # The first clip lacks flow.
        wanted = numbers.probabilities(found.logits[output]["action"][1:3])
        np.testing.assert_allclose(known.probabilities[f"{output}/action"], wanted, atol=1e-6)
    for name, rows in made.own(known.inputs).items():
        np.testing.assert_allclose(rows, known.probabilities[name], atol=1e-5, err_msg=name)
    assert agreement.check(made, jax.jit(made.function))["scored"]["clips"] == 2


def test_one_network_of_several_asks_for_its_own_streams_alone(tmp_path, monkeypatch):
    run, segment, found = scored_run(tmp_path, monkeypatch)
    made, whole = export.of_run(run, segment, outputs=("rgb",)), export.of_run(run, segment)
    assert list(made.inputs) == ["rgb"] and set(made.scored.probabilities) == {"rgb/action"}
    # The first clip lacks flow, which nobody reads now.
    wanted = numbers.probabilities(found.logits["rgb"]["action"][:2])
    np.testing.assert_allclose(made.scored.probabilities["rgb/action"], wanted, atol=1e-6)
    clips = agreement.drawn(whole.inputs, 2)
    rows = jax.jit(made.function)({"rgb": clips["rgb"]})
    np.testing.assert_allclose(rows["rgb/action"], whole.own(clips)["rgb/action"], atol=1e-6)
    with pytest.raises(usage.WrongUse, match="no 'depth'; the outputs of whole are flow, rgb"):
        command._outputs("rgb,depth", segment)
    assert command._outputs("rgb,flow", segment) == ("flow", "rgb")


@pytest.mark.parametrize("what", ["protocol", "fingerprint", "gone", "damaged", "size"])
def test_clips_that_were_scored_otherwise_are_not_compared(tmp_path, monkeypatch, what):
    run, segment, found = scored_run(tmp_path, monkeypatch)
    path = run.workdir / "whole" / "scores" / "test.npz"
    if what in ("protocol", "fingerprint"):
        file_lib.save(path, found._replace(meta=found.meta | {what: "another"}))
    elif what == "gone":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    assert export.of_run(run, segment, (30, 40) if what == "size" else None).scored is None


def test_drawn_boxes_are_there_and_in_the_tables():
    boxes = agreement.drawn({"boxes": ((4, 14, 8), "float32")}, 3)["boxes"]
    assert [len(np.unique(boxes[..., i])) for i in (4, 6, 7)] == [1 + n for n in (HAND, SIDES, STATES)]


# ---------------------------------------------------------------------------- formats
@pytest.mark.parametrize("name", SOME)
def test_every_family_as_a_file_of_jax(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    made = export.of_run(run, segment)
    first, second = made.own(agreement.drawn(made.inputs, 2))["net/verb" if name != "fusion" else "net.joint/verb"]
    assert np.abs(first - second).max() > 1e-4 and max(first.max(), second.max()) < 0.9999, "nothing is told apart"
    about = command.write(run, segment, "jax", tmp_path / "out")
    assert about["largest_difference"] <= 1e-5 and about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["largest_difference_of_logits"] <= 1e-3 and about["scored"] is None
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as file:
        assert json.loads(file.read("about.json")) == about
    assert about["classes"] == {"verb": ["lift", "drop", "push"]} and about["readable_until"] > about["made"]


# Their names are published, or they are refused.
REFUSED = {"fusion": "reads several streams at once", "audio": "nobody has published names"}


@pytest.mark.parametrize("name", SOME)
def test_every_family_under_published_names(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            command.write(run, segment, "torch", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    about = command.write(run, segment, "torch", tmp_path / "out")
    with safe_open(tmp_path / "out" / "net.safetensors", "np") as file:
        assert json.loads(file.metadata()["about"])["jax"] == jax.__version__ and about["spellings"]["net"]


# {a file of golden numbers, which lists its original's tensors: our network}
ORIGINALS = {"tsm_r18_rgb": "tsm_resnet18", "tv_r3d_18": "r3d_18", "tv_r2plus1d_18": "r2plus1d_18",
             "sf_i3d_r50": "i3d_resnet50", "csn_ir50": "csn_ir_50", "cmpl_r50": "cmpl_resnet50",
             "stlt_distill": "stlt", "stlt_layouts_default": "stlt_layouts",
             "tv_swin3d_t": "swin3d_tiny"}  # fmt: skip


@pytest.mark.parametrize(
    "golden", [pytest.param(name, marks=[pytest.mark.slow] * (name != "tsm_r18_rgb")) for name in ORIGINALS]
)
def test_names_and_shapes_are_the_originals(golden):
    """What torch's strict loading compares, of the networks of which no package has the code."""
    spec = json.loads((golden_recipe.GOLDEN / f"{golden}.json").read_text())
    # Of which torch's strict loading does not mind that it is missing.
    wanted = {key: tuple(shape) for key, shape, _ in spec["state_dict"] if not key.endswith("num_batches_tracked")}
    name = ORIGINALS[golden]
    shape = (1, 4, 7, 8) if name.startswith("stlt") else (1, 8, 64, 64, 3)
    built = build_model(name, heads={"verb": spec["num_classes"]}, in_channels=shape[-1])
    shapes = jax.eval_shape(built.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, np.float32))
    params, stats = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    tree, spelling = {"params": params, "stats": stats}, published.spelling_of(name)
    names = published.named(tree, head="verb", spelling=spelling, options={})
    # The golden of TSM is of the network inside DataParallel.
    assert {key.removeprefix("module."): x.shape for key, x in names.items()} == wanted


THEIRS = {"resnet18": "resnet18", "r3d_18": "video.r3d_18", "mc3_18": "video.mc3_18",
          "r2plus1d_18": "video.r2plus1d_18", "swin3d_tiny": "video.swin3d_t"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", THEIRS)
def test_torch_loads_them_strictly_and_says_the_same(name, tmp_path):
    models = pytest.importorskip(
        "torchvision.models", reason="torchvision is not installed: pip install torchvision"
    )
    import torch
    from safetensors.torch import load_file

    built = build_model(name, heads=HEADS, in_channels=3)
    run, segment = a_run(tmp_path / "run", [Network("net", built, (("rgb",),))], (RGB,), size=64)
    run.config.networks.net.model = name
    command.write(run, segment, "torch", tmp_path / "out")
    theirs = operator.attrgetter(THEIRS[name])(models)(num_classes=3).eval()
    theirs.load_state_dict(load_file(tmp_path / "out" / "net.safetensors"), strict=True)
    x = np.random.default_rng(0).normal(size=(1, 1 if name == "resnet18" else 8, 64, 64, 3)).astype(np.float32)
    tree, _ = weight_files.read(run.workdir / "whole" / "weights.safetensors")
    own, _ = jax.jit(functools.partial(built.apply, train=False, key=None))(*tree["net"].values(), x)
    order = (0, 3, 1, 2) if name == "resnet18" else (0, 4, 1, 2, 3)
    with torch.no_grad():
        y = x[0] if name == "resnet18" else x
        found = theirs(torch.from_numpy(y.transpose(order).copy())).numpy()
    np.testing.assert_allclose(found, own["logits"]["verb"], atol=1e-4 * found.std())


HAVE_ONNX = all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnx", "onnxruntime"))


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_ONNX, reason="optional: pip install --no-deps -r requirements-onnx.txt")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_as_onnx(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    about = command.write(run, segment, "onnx", tmp_path / "out")
    assert about["largest_difference"] <= 1e-5 and (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("name", quickly("tsm", "r2plus1d", "fusion"))
def test_a_portable_program_has_no_choice_by_platform_and_no_clip_convolution(name, tmp_path):
    run, segment = of_family(tmp_path, name)
    made = export.of_run(run, segment)
    # What was traced before in the usual way must not be met again. Few windows are attended to in one way.
    usual = str(jax.make_jaxpr(made.function)(agreement.drawn(made.inputs, 1)))
    assert "platform_index" in usual or name in ("stlt", "swin")
    with lowering.portable():
        # JAX remembers how it has traced a function: another one is asked, as in `formats`.
        text = str(jax.make_jaxpr(lambda clips: made.function(clips))(agreement.drawn(made.inputs, 1)))
    assert "platform_index" not in text and "spatial_dims=(0, 1, 2" not in text
    assert not lowering.is_portable()


@pytest.mark.parametrize("form", [name for name, form in MODALITIES["audio"].forms.items() if form.rate])
def test_a_portable_program_hears_the_same(form):
    """Its Fourier transform is a product."""
    stream = Stream("audio", "audio", Sampling("uniform", 2), form)
    x = np.random.default_rng(0).normal(0, 3000, (1, *host_shape(stream, 32))).astype(np.int16)
    usual = np.asarray(prepare(stream, x))
    with lowering.portable():
        found = np.asarray(jax.jit(lambda x: prepare(stream, x))(x))
    # Logarithms of next to nothing.
    np.testing.assert_allclose(found, usual, atol=1e-3 * usual.std())
    assert usual.std() > 0


# ---------------------------------------------------------------------------- what goes wrong
def test_what_says_something_else_is_not_written(tmp_path, monkeypatch):
    run, segment = a_run(tmp_path / "run", [counted("rgb", "rgb", HEADS)], (RGB,))
    real = export.probabilities
    monkeypatch.setattr(export, "probabilities", lambda *given: real(*given) + 1e-4)
    with pytest.raises(ValueError, match=r"does not say what the run says: probabilities differ by up to 0\.0001"):
        command.write(run, segment, "jax", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("out*"))


def made_of(own, **further):
    """An Export that holds nothing but the run's answer ``own`` and what is given."""
    given = dict(function=None, inputs={"x": ((1,), "uint8")}, scored=None, about={}, allowed=export.TOLERANCE)
    return export.Export(**given | further, own=own, segment=None, weights={})


P = np.array([[0.7, 0.3 - 1e-7, 1e-7]])


@pytest.mark.parametrize(
    "found, text",
    [
        (P, None),
        (P + np.array([[4e-6, -4e-6, 0]]), None),
        (P + np.array([[2e-5, -2e-5, 0]]), "probabilities differ by up to 2e-05, and 1e-05 is allowed"),
        # Of a probability near 0 only the logit tells.
        (P * [[1, 1, 1.1]], "logits differ, as a share of their spread, by up to 0.0"),
        (P * [[1, 1, 0]], "logits differ, as a share of their spread, by up to inf"),
        (P * np.nan, "differ by up to nan"),
    ],
    ids=["equal", "rounded", "other", "small", "none", "nan"],
)
def test_what_an_export_may_differ_by(found, text):
    made = made_of(lambda clips: {"rgb/verb": P})
    if text is None:
        checked = agreement.check(made, lambda clips: {"rgb/verb": np.float32(found)})
        assert checked["largest_difference"] < 1e-5 and checked["scored"] is None
        return
    with pytest.raises(ValueError, match=text):
        agreement.check(made, lambda clips: {"rgb/verb": np.float32(found)})


def test_a_run_that_diverged_is_not_exported():
    made = made_of(lambda clips: {"rgb/verb": P * np.nan})
    with pytest.raises(ValueError, match="the run's own probabilities are not finite"):
        agreement.check(made, lambda clips: {"rgb/verb": P})


@pytest.mark.parametrize("stored, fits", [(P + np.array([[0.01, -0.01, 0]]), True), (P[:, ::-1], False)])
def test_what_the_run_has_scored_is_compared_as_roughly_as_devices_differ(stored, fits):
    known = export.Known("test", {"x": np.zeros((1, 1), np.uint8)}, {"rgb/verb": stored})
    made = made_of(lambda clips: {"rgb/verb": P}, scored=known)
    if fits:
        said = agreement.check(made, lambda clips: {"rgb/verb": P})["scored"]
        assert said == {"split": "test", "clips": 1, "largest_difference": pytest.approx(0.01)}
        return
    with pytest.raises(ValueError, match=r"what the run has scored: of 1 clips of 'test' .* up to 0\.7"):
        agreement.check(made, lambda clips: {"rgb/verb": P})


@pytest.mark.parametrize("dtype, rough", [(None, False), ("float32", False), ("bfloat16", True)])
def test_of_bfloat16_less_is_asked(tmp_path, dtype, rough):
    run, segment = of_family(tmp_path, "stlt")
    with run.config.unlocked():
        run.config.networks.net.options.dtype = dtype
    assert export.of_run(run, segment).allowed == (export.ROUGH if rough else export.TOLERANCE)


def test_without_the_converter_it_says_how_to_install_it(tmp_path, monkeypatch):
    run, segment = of_family(tmp_path / "run", "stlt")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(usage.WrongUse, match="pip install --no-deps -r requirements-onnx"):
        command.write(run, segment, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_serialiser_it_says_how_to_install_it(tmp_path, monkeypatch):
    run, segment = of_family(tmp_path / "run", "stlt")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(usage.WrongUse, match="pip install flatbuffers"):
        command.write(run, segment, "jax", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_what_cannot_be_written_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    def refuse(path, *given, **named):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    monkeypatch.setattr(export, "of_run", lambda *given, **named: pytest.fail("too late"))
    with pytest.raises(PermissionError):
        command.write(None, None, "jax", tmp_path / "out")


def test_an_empty_folder_is_filled_and_one_beside_it_stays(tmp_path):
    run, segment = a_run(tmp_path / "run", [counted("rgb", "rgb", HEADS)], (RGB,))
    for name in ("out", "out.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "out.tmp" / "mine").touch()
    command.write(run, segment, "jax", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"about.json", "model.zip"}
    assert (tmp_path / "out.tmp" / "mine").exists()


def test_what_cannot_be_converted_says_why(tmp_path):
    run, segment = of_family(tmp_path, "stlt")

    def convert(*given, **named):
        raise NotImplementedError("no plugin\nfor it")

    with pytest.raises(ValueError, match=r"cannot be converted \(NotImplementedError: no plugin for it\)"):
        formats._converted(export.of_run(run, segment), convert)


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["{run}", "--out={new}", "--format=tflite"], 2, "choose one of jax, onnx, torch"),
        (["{run}", "--out={new}", "--frame=240"], 2, "such as 240x320"),
        (["{run}", "--out={run}"], 2, "is not empty: name a new folder"),
        (["{run}", "--out={done}"], 2, "holds an export already"),
        (["{run}", "--out={done}/about.json"], 2, "is a file; name a folder"),
        (["{new}", "--out={new}"], 2, "is no run, there is no config.json"),
        (["{run}"], 2, "the following arguments are required: --out"),
    ],
)
def test_what_cannot_be_meant(tmp_path, monkeypatch, capsys, arguments, code, text):
    for folder, name in (("done", "about.json"), ("run", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")
    places = {"run": tmp_path / "run", "new": tmp_path / "new", "done": tmp_path / "done"}
    assert ask(monkeypatch, "export", *(a.format(**places) for a in arguments)) == code
    assert text in capsys.readouterr().err and not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------- a whole run
@pytest.mark.slow
def test_a_run_is_reloaded_without_mmvid_and_says_what_it_scored(finished, tmp_path, monkeypatch, capsys):  # noqa: F811
    """The printed script in a process that cannot import mmvid; then the test clips of the run's dataset."""
    workdir, out = finished[0], tmp_path / "out"
    assert ask(monkeypatch, "export", workdir, f"--out={out}") == 0
    printed = capsys.readouterr().out
    script = printed[printed.index("import json, zipfile") :]
    assert len(script.strip().splitlines()) <= 10
    # It may be installed here: whoever imports it fails.
    (tmp_path / "script.py").write_text(f"import sys\nsys.modules['mmvid'] = None\n{script}")
    line = [sys.executable, "-I", "script.py"]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "flow + rgb/action" in done.stdout
    about = files.read_json(out / "about.json")
    assert about["scored"]["clips"] == 2 and about["scored"]["largest_difference"] <= 1e-5
    # Without the dataset it is written all the same, and says so.
    gone = [f"--out={tmp_path / 'other'}", f"--config.dataset.path={tmp_path / 'nowhere'}"]
    assert ask(monkeypatch, "export", workdir, *gone) == 0
    assert "none of the run's own clips were compared" in capsys.readouterr().out
    assert ask(monkeypatch, "export", workdir, f"--out={tmp_path / 'rgb'}", "--outputs=rgb") == 0
    with zipfile.ZipFile(tmp_path / "rgb" / "model.zip") as file:
        assert list(json.loads(file.read("about.json"))["inputs"]) == ["rgb"]
    capsys.readouterr()
    assert ask(monkeypatch, "export", workdir, f"--out={tmp_path / 'depth'}", "--outputs=depth") == 2
    assert "there is no 'depth'" in capsys.readouterr().err
    unfinished = shutil.copytree(workdir, tmp_path / "unfinished")
    for done in unfinished.glob("*/done.json"):
        done.unlink()
    assert ask(monkeypatch, "export", unfinished, f"--out={tmp_path / 'depth'}") == 1
    assert "has not ended" in capsys.readouterr().err and not (tmp_path / "depth").exists()
