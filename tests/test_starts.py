"""Weights that go into and out of the encoders of a fusion; toy trees tell the paths apart."""

import json
import types

import jax
import numpy as np
import pytest

from mmvid import network as network_lib
from mmvid.models.model import Model
from mmvid.network import Beginning, Network
from mmvid.plans import continuation, starts
from mmvid.plans.starts import Start
from mmvid.streams import Head, Stream
from mmvid.weights import files

HEADS = {"action": Head(5)}
ENCODERS = {"rgb": ("encoders", "rgb"), "flow": ("encoders", "flow")}
CHANNELS = {"rgb": 3, "flow": 10}


def model(**paths):
    return Model(None, None, **paths)


PLAIN = model(first_convolutions=(("stem",),), classifiers=(("top",),))
FUSION = model(
    encoders=ENCODERS, first_convolutions=tuple((*p, "stem") for p in ENCODERS.values()), classifiers=(("joint",),)
)


def encoder(stream, seed):
    rng = np.random.default_rng(seed)
    return {"stem": {"kernel": rng.normal(size=(3, 3, CHANNELS[stream], 4)).astype(np.float32)},
            "block": {"kernel": rng.normal(size=(4, 4)).astype(np.float32)}}  # fmt: skip


def classifier(seed, classes=5):
    kernel = np.random.default_rng(seed).normal(size=(4, classes)).astype(np.float32)
    return {"action": {"kernel": kernel}}


def plain(stream, seed, classes=5):
    params = encoder(stream, seed) | {"top": classifier(seed, classes)}
    return params, {"norm": {"mean": np.full(4, seed, np.float32)}}


def fusion(seed):
    params = {"encoders": {s: encoder(s, seed + i) for i, s in enumerate(ENCODERS)}, "joint": classifier(seed)}
    stats = {"encoders": {s: {"norm": {"mean": np.full(4, seed + i, np.float32)}} for i, s in enumerate(ENCODERS)}}
    return params, stats


def written(folder, **networks):
    """A segment's weights: {name: (model, (params, stats))}."""
    tree = {n: {"params": p, "stats": s} for n, (_, (p, s)) in networks.items()}
    made = [Network(n, m, (("rgb",),)) for n, (m, _) in networks.items()]
    folder.mkdir()
    files.save(folder / "weights.safetensors", tree, starts._describe(made, HEADS))
    return types.SimpleNamespace(workdir=folder.parent)


def entered(run, name, model, own, begins, heads=HEADS):
    enter = starts.starting_from(begins, (Network(name, model, (("rgb",),)),), heads)
    return enter(Beginning({name: own[0]}, {name: own[1]}, {}), run).weights(name)


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_each_encoder_of_a_fusion_starts_from_a_network_of_its_own(tmp_path):
    rgb, flow, own = plain("rgb", 1), plain("flow", 2), fusion(7)
    run = written(tmp_path / "ce", rgb=(PLAIN, rgb), flow=(PLAIN, flow))
    begins = {"av.rgb": Start("ce", "rgb"), "av.flow": Start("ce", "flow")}
    params, stats = entered(run, "av", FUSION, own, begins)
    for name, (theirs, moments) in (("rgb", rgb), ("flow", flow)):
        same(params["encoders"][name], {k: v for k, v in theirs.items() if k != "top"})
        same(stats["encoders"][name], moments)
    same(params["joint"], own[0]["joint"])
    # One network for both: averaged over channels.
    params, _ = entered(run, "av", FUSION, own, {"av.flow": Start("ce", "rgb")})
    kernel = params["encoders"]["flow"]["stem"]["kernel"]
    np.testing.assert_allclose(kernel[:, :, 9], rgb[0]["stem"]["kernel"].mean(2), rtol=1e-6)
    same(params["encoders"]["rgb"], own[0]["encoders"]["rgb"])


def test_a_network_starts_from_the_encoder_of_a_fusion(tmp_path):
    """Its classifier stays its own: an encoder has none."""
    av, own = fusion(3), plain("flow", 9)
    run = written(tmp_path / "joint", av=(FUSION, av))
    path = tmp_path / "joint" / "weights.safetensors"
    for start in (Start("joint", "av", part="flow"), Start(file=f"{path}#av", part="flow"),
                  Start(file=f"{path}#av.flow"), Start(file=str(path), part="flow")):  # fmt: skip
        params, stats = entered(run, "flow", PLAIN, own, {"flow": start})
        same({k: v for k, v in params.items() if k != "top"}, av[0]["encoders"]["flow"])
        same((params["top"], stats), (own[0]["top"], av[1]["encoders"]["flow"]))
    # And from encoder to encoder.
    other = fusion(20)
    params, _ = entered(run, "av", FUSION, other, {"av.rgb": Start("joint", "av", part="rgb")})
    same(params["encoders"]["rgb"], av[0]["encoders"]["rgb"])
    same(params["encoders"]["flow"], other[0]["encoders"]["flow"])


def test_a_whole_fusion_goes_over_and_other_classes_start_afresh(tmp_path):
    av, own = fusion(3), fusion(8)
    run = written(tmp_path / "joint", av=(FUSION, av))
    same(entered(run, "av", FUSION, own, {"av": Start("joint", "av")}), av)
    others = {"action": Head(5, names=tuple("abcde"))}
    params, _ = entered(run, "av", FUSION, own, {"av": Start("joint", "av")}, others)
    same(params["joint"], own[0]["joint"])
    same(params["encoders"], av[0]["encoders"])


def test_parts_that_do_not_fit_are_named(tmp_path):
    rgb, own = plain("rgb", 1), fusion(7)
    rgb[0]["block"]["kernel"] = np.zeros((2, 4), np.float32)
    run = written(tmp_path / "ce", rgb=(PLAIN, rgb), av=(FUSION, fusion(1)))
    parts = r"it has \['flow', 'rgb'\]"
    for begins, match in (
        ({"av.rgb": Start("ce", "rgb")}, r"ce/weights\.safetensors#rgb: .*'av\.rgb':\n.*block/kernel: \(2, 4\)"),
        ({"av.depth": Start("ce", "rgb")}, rf"part 'depth' of network 'av': {parts}"),
        ({"av.rgb": Start("ce", "av", part="depth")}, rf"network 'av' has no part 'depth': {parts}"),
        ({"av.rgb": Start("ce", "rgb", part="rgb")}, r"network 'rgb' has no part 'rgb': it has no parts"),
        ({"va": Start("ce", "rgb")}, r"network 'va'; there are \['av'\]"),
        ({"av": Start("ce", "rgb")}, r"rgb, flow at once and starts from a file of such a network"),
    ):
        with pytest.raises(ValueError, match=match):
            entered(run, "av", FUSION, own, begins)


def test_files_of_before_say_nothing_of_layers_and_open(tmp_path):
    """Plain networks, and those that share features, by what their layers are called."""
    layers = {"conv1": {"kernel": np.ones((3, 3, 3, 4), np.float32)}, "classifier": classifier(0)}
    tree = {"rgb": {"params": layers, "stats": {}}, "both": {"params": {"a": layers, "b": layers}, "stats": {}}}
    heads = {"heads": json.dumps({"action": 5}), "networks": json.dumps(["rgb", "both"])}
    files.save(tmp_path / "w.safetensors", tree, heads)
    plain_model = model(first_convolutions=(("conv1",),), classifiers=(("classifier",),))
    own = jax.tree.map(np.zeros_like, layers)
    run = types.SimpleNamespace(workdir=tmp_path)
    for source in ("#rgb", "#both.a"):
        start = Start(file=f"{tmp_path}/w.safetensors{source}")
        same(entered(run, "rgb", plain_model, (own, {}), {"rgb": start})[0], layers)


def test_a_resumed_segment_enters_its_teachers_alone(tmp_path):
    """The files of those that learn are not read: they may be gone."""
    teacher, own = plain("rgb", 1), plain("rgb", 5)
    run = written(tmp_path / "ce", rgb=(PLAIN, teacher))
    made = (Network("old", PLAIN, (("rgb",),), frozen=True), Network("new", PLAIN, (("rgb",),)))
    begins = {"old": Start("ce", "rgb"), "new": Start(file=f"{tmp_path}/gone.safetensors")}
    enter = starts.refuse_equals(starts.starting_from(begins, made, HEADS), made, {"rgb": Stream("rgb", "rgb")})
    beginning = network_lib.beginning(made, *({"old": tree, "new": tree} for tree in own), step=3)
    found = enter(beginning.of_frozen(), run)
    same(found.frozen["old"], {"params": teacher[0], "stats": teacher[1]})
    assert (found.params, found.stats, found.step) == ({}, {}, 3)
    with pytest.raises(FileNotFoundError, match="gone"):
        enter(beginning, run)
    # A continuation opens no checkpoint for it.
    previous = types.SimpleNamespace(name="none", enter=enter)
    assert continuation.from_checkpoint(previous)(beginning.of_frozen(), run).frozen.keys() == {"old"}
