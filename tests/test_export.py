"""`mmvid export`: tiny networks of every family say as files what they say in a run, or are refused."""

import importlib.util
import json
import os
import subprocess
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_commands import ask
from test_train import data, finished  # noqa: F401

from configs import common
from mmvid import lowering, usage
from mmvid import network as network_lib
from mmvid.commands import export as command
from mmvid.data import augment, example
from mmvid.data.groups import Group
from mmvid.methods.base import Method
from mmvid.models import build_model
from mmvid.network import Network
from mmvid.plans.segment import Segment
from mmvid.run import export, feed, formats, resize
from mmvid.scores import file as file_lib
from mmvid.scores import numbers
from mmvid.streams import Head, Sampling, Stream, in_channels
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


def config_of(**evaluation):
    """What a run's configuration says of how it is scored, with pictures of 16 pixels."""
    config = common.get_config().unlock()
    config.size = 16
    config.evaluation.update(evaluation)
    return config


def a_run(workdir, networks, streams, heads=HEADS, config=None):
    """A run whose one segment 'whole' has ended with these networks, of drawn weights."""
    segment = Segment(
        "whole", 1, tuple(networks), {s.name: s for s in streams}, heads, Method(None), {}, {},
        {"main": Group("train", 1, {})}, 1.0, None, None, 0, headline=networks[0].outputs[0],
    )  # fmt: skip
    drawn = network_lib.init_params(networks, segment.streams, 16, jax.random.key(0))
    rng = np.random.default_rng(1)
    # Norms and classifiers that begin at 0 or 1 would hide what is wrong.
    params = jax.tree.map(lambda x: np.float32(x + rng.normal(0, 0.2, x.shape)), drawn[0])
    stats = jax.tree.map(lambda x: np.float32(abs(x) + rng.uniform(0.1, 0.4, x.shape)), drawn[1])
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
        return {"kernel": jax.random.normal(key, (x.shape[1] * x.shape[-1], 3))}, {}

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
    clips = export.drawn(made.inputs, 2)
    own, found = made.own(clips), jax.jit(made.function)(clips)
    assert set(own) == {f"{o}/{h}" for o in ("flow", "depth", "flow + depth") for h in heads}
    for name, rows in own.items():
        np.testing.assert_allclose(found[name], rows, atol=1e-5, err_msg=name)
    assert made.about["inputs"]["depth"]["depth_range"] == (1, 2) and made.about["clips"] == 5
    # Clips in another order are another clip: the check would see it.
    turned = made.own({name: x[:, ::-1] for name, x in clips.items()})
    assert max(np.abs(turned[name] - own[name]).max() for name in own) > 1e-3


# ---------------------------------------------------------------------------- formats
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_as_a_file_of_jax(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    made = export.of_run(run, segment)
    first, second = made.own(export.drawn(made.inputs, 2))["net/verb" if name != "fusion" else "net.joint/verb"]
    assert np.abs(first - second).max() > 1e-4 and max(first.max(), second.max()) < 0.9999, "nothing is told apart"
    about = command.write(run, segment, "jax", None, tmp_path / "out")
    assert about["largest_difference"] <= 1e-5 and about["platforms"] == ["cpu", "cuda", "tpu"]
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as file:
        assert json.loads(file.read("about.json")) == about
    assert about["classes"] == {"verb": ["lift", "drop", "push"]} and about["readable_until"] > about["made"]


# Their names are published, or they are refused.
REFUSED = {"fusion": "reads several streams at once", "audio": "nobody has published names"}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_under_published_names(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            command.write(run, segment, "torch", None, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    about = command.write(run, segment, "torch", None, tmp_path / "out")
    assert (tmp_path / "out" / "net.safetensors").exists() and about["spellings"]["net"]


def test_torch_loads_them_strictly(tmp_path):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    import torch
    from safetensors.torch import load_file

    built = build_model("resnet18", heads=HEADS)
    run, segment = a_run(tmp_path / "run", [Network("net", built, (("rgb",),))], (RGB,))
    run.config.networks.net.model = "resnet18"
    command.write(run, segment, "torch", None, tmp_path / "out")
    theirs = models.resnet18(num_classes=3).eval()
    theirs.load_state_dict(load_file(tmp_path / "out" / "net.safetensors"), strict=True)
    x = np.random.default_rng(0).normal(size=(1, 1, 64, 64, 3)).astype(np.float32)
    tree, _ = weight_files.read(run.workdir / "whole" / "weights.safetensors")
    own, _ = built.apply(tree["net"]["params"], tree["net"]["stats"], x, train=False, key=None)
    with torch.no_grad():
        found = theirs(torch.from_numpy(x[0].transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(found, own["logits"]["verb"], rtol=1e-4, atol=1e-4 * found.std())


HAVE_ONNX = all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnx", "onnxruntime"))


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_ONNX, reason="optional: pip install --no-deps -r requirements-onnx.txt")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_as_onnx(name, tmp_path):
    run, segment = of_family(tmp_path / "run", name)
    about = command.write(run, segment, "onnx", None, tmp_path / "out")
    assert about["largest_difference"] <= 1e-5 and (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_portable_program_has_no_choice_by_platform_and_no_clip_convolution(name, tmp_path):
    run, segment = of_family(tmp_path, name)
    made = export.of_run(run, segment)
    with lowering.portable():
        text = str(jax.make_jaxpr(made.function)(export.drawn(made.inputs, 1)))
    assert "platform_index" not in text and "spatial_dims=(0, 1, 2" not in text
    assert not lowering.is_portable()


# ---------------------------------------------------------------------------- what goes wrong
def test_what_says_something_else_is_not_written(tmp_path, monkeypatch):
    run, segment = of_family(tmp_path / "run", "stlt")
    real = export.probabilities
    monkeypatch.setattr(export, "probabilities", lambda *given: real(*given) + 1e-4)
    with pytest.raises(ValueError, match=r"does not say what the run says: probabilities differ by up to 0\.0001"):
        command.write(run, segment, "jax", None, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("out*"))


def test_not_a_number_is_no_answer(tmp_path):
    run, segment = of_family(tmp_path, "stlt")
    made = export.of_run(run, segment)
    with pytest.raises(ValueError, match="differ by up to nan"):
        export.difference(made, lambda clips: {n: np.nan * x for n, x in made.own(clips).items()})


def test_without_the_converter_it_says_how_to_install_it(tmp_path, monkeypatch):
    run, segment = of_family(tmp_path / "run", "stlt")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(usage.WrongUse, match="pip install --no-deps -r requirements-onnx"):
        command.write(run, segment, "onnx", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
    (tmp_path / "script.py").write_text(script)
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-I", "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "flow + rgb/action" in done.stdout
    _check_against_scores(workdir, out)


def _check_against_scores(workdir, out):
    from mmvid.commands import predict

    run, segment = predict._opened(workdir, None, 1, [])
    with zipfile.ZipFile(out / "model.zip") as file:
        program = jax.export.deserialize(bytearray(file.read("program.bin")))
    known = file_lib.load(workdir / segment.name / "scores" / "test.npz")
    from mmvid.data import cut, records

    source = records.open_dataset(run.config.dataset.path).split("test")
    streams = tuple(segment.streams.values())
    views = feed.views(run, run.config.evaluation.protocol, run.config.evaluation.crops)
    spec = example.Eval(source, streams, segment.heads, run.config.size, 1, views)
    clips = {name: [] for name in segment.streams}
    rows = range(4)
    for row in rows:
        record = source[row]
        frames = example._test_frames(spec, record["id"], cut.lengths(record, spec.streams))
        decoded = cut.read(record, spec.streams, frames)
        for s in spec.streams:
            index, pictures = decoded[cut.field_of(s)]
            clips[s.name].append(pictures[np.searchsorted(index, frames[s.name].ravel())])
    found = program.call({name: np.stack(x) for name, x in clips.items()})
    places = [known.id.tolist().index(source[row]["id"]) for row in rows]
    for output in ("rgb", "flow"):
        wanted = numbers.probabilities(known.logits[output]["action"][places])
        np.testing.assert_allclose(found[f"{output}/action"], wanted, atol=1e-5)
    wanted = numbers.probabilities(file_lib.fused(known)["action"][places])
    np.testing.assert_allclose(found["flow + rgb/action"], wanted, atol=1e-5)
