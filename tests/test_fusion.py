"""Fusions: which classifiers there are, each joint classifier against its formula, parameter counts, starts."""

import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from mmvid import weights
from mmvid.models import MODELS, build_model, encoder_of, fusion, joints
from mmvid.network import Network
from mmvid.plans import starts
from mmvid.streams import Head
from mmvid.weights import trees

HEADS = {"verb": Head(5), "noun": Head(3)}
ENCODERS = {"audio": ("audio_tiny", {"width": 4, "stages": (1, 1)}),
            "rgb": ("tsm_tiny", {"width": 8, "stages": (1, 1)})}  # fmt: skip
CHANNELS = {"audio": 1, "rgb": 3}
STEP = functools.partial(jax.random.key, 0)
# What is asked of `fuse` alone, encoders that compile at once can tell; toys have no map, nor stages.
TOYS = {"audio": "toy", "rgb": "toy"}
CUT = dict.fromkeys(CHANNELS, ENCODERS["audio"])
MAPS = dict.fromkeys(CHANNELS, ("audio_tiny", {"width": 4, "stages": (1,)}))


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setitem(MODELS, "toy", toy.MODEL)


def made(encoders=ENCODERS, **options):
    options = options | ({"trunk": "rgb"} if options.get("joint") == "mid" else {})
    return build_model("fusion", heads=HEADS, in_channels=CHANNELS, encoders=encoders, **options)


def clips(rows=2):
    rng = np.random.default_rng(0)
    shapes = {"audio": (rows, 20, 8, 1), "rgb": (rows, 2, 16, 16, 3)}
    return {s: np.float32(rng.normal(size=shape)) for s, shape in shapes.items()}


def run(model, params, stats, train=False):
    return jax.jit(functools.partial(model.apply, train=train))(params, stats, clips(), key=STEP())


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# ---------------------------------------------------------------------------- which classifiers
@pytest.mark.parametrize("joint", fusion.JOINTS)
def test_a_naive_network_is_the_same_without_unimodal_classifiers(joint):
    """It has the same joint logits and statistics, and what it lacks only the others' classifiers use. Each head's
    gradient reaches its own encoder alone, the joint one's all of them."""
    encoders = {"mid": CUT, "nl": MAPS}.get(joint, TOYS)
    options = {"joint": joint} | ({"joint_width": 6} if "joint_width" in fusion.JOINTS[joint] else {})
    whole, naive = made(encoders, **options), made(encoders, **options, unimodal="none")
    # By its path and a seed: a naive network's tree is a part of the other's.
    params, stats = drawn.weights(whole.init, STEP(), clips())
    own, moments = drawn.weights(naive.init, STEP(), clips())
    lacking = set(trees.leaves(params)) - set(trees.leaves(own))
    assert lacking and all(trees.within(path, (*whole.classifiers, *whole.necks)) for path in lacking)
    assert set(whole.outputs) == {"audio", "rgb", "joint"} and set(naive.outputs) == {""}
    for path in (*naive.classifiers, *naive.first_convolutions, *naive.encoders.values()):
        assert trees.subtree(own, path)

    def loss(params, shares):
        result, new = whole.apply(params, stats, clips(), train=True, key=STEP())
        of_each = [share * (result[part]["logits"]["verb"] ** 2).sum() for part, share in shares.items()]
        return sum(of_each), (result, new)

    grad, reached = jax.jit(jax.grad(loss, has_aux=True)), {}
    for part in whole.outputs:
        grads, (found, new) = grad(params, {other: float(other == part) for other in whole.outputs})
        reached[part] = {name for name, tree in grads.items() if any(np.any(v) for v in jax.tree.leaves(tree))}
    assert reached == {"audio": {"audio"}, "rgb": {"rgb"}, "joint": {"audio", "rgb", "joint"}}
    alone, ours = run(naive, own, moments, train=True)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found["joint"], alone)
    for path, value in trees.leaves(ours).items():
        np.testing.assert_allclose(trees.leaves(new)[path], value, rtol=1e-5, atol=1e-6)


def test_a_frozen_trunk_runs_as_in_evaluation_and_learns_nothing():
    """Where the joint classifier has stages of its own, these train as ever."""
    model = made(joint="mid", unimodal="none", frozen_trunk=True)
    params, stats = drawn.weights(model.init, STEP(), clips())

    def loss(params):
        result, new = model.apply(params, stats, clips(), train=True, key=STEP())
        return (result["logits"]["verb"] ** 2).sum(), new

    grads, new = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert model.frozen == (("audio",), ("rgb",))
    for stream in CHANNELS:
        assert not any(np.any(grad) for grad in jax.tree.leaves(grads[stream]))
        jax.tree.map(np.testing.assert_array_equal, new[stream], stats[stream])
    assert all(np.any(grad) for grad in jax.tree.leaves(grads["joint"]["classifier"]["verb"]))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, new["joint"], stats["joint"])))
    with pytest.raises(ValueError, match="encoders that stay as they are have 'none'"):
        made(frozen_trunk=True)


def test_unimodal_classifiers_may_start_at_zero():
    """The rest is drawn as always; so is all that a naive network has."""
    models = [made(TOYS, joint_layers=0, unimodal=how) for how in ("zero", "drawn", "none")]
    zeros, always, naive = jax.jit(lambda key: [model.init(key, clips()) for model in models])(STEP())
    drawn_as_always = trees.leaves(always[0])
    for path, value in trees.leaves(naive[0]).items():
        np.testing.assert_array_equal(value, drawn_as_always[path])
    for path, value in trees.leaves(zeros[0]).items():
        zero = path[0] != "joint" and "classifier" in path
        np.testing.assert_array_equal(value, 0 * value if zero else drawn_as_always[path])
    found, _ = run(models[0], *zeros)
    assert not np.any(found["rgb"]["logits"]["noun"]) and np.any(found["joint"]["logits"]["noun"])


def test_an_encoder_alone_is_the_fusions_part():
    """With the options of all that it knows, unless its own say otherwise."""
    encoders, options = {"audio": ENCODERS["audio"], "rgb": "toy"}, dict(dropout=0.25, stages=(1,), joint="se")
    model, own = encoder_of("audio", encoders, **options)
    assert (model, own) == ("audio_tiny", {"dropout": 0.25, "stages": (1, 1), "width": 4})
    alone, fused = build_model(model, heads=HEADS, in_channels=1, **own), made(encoders, **options)
    params, stats = drawn.weights(fused.init, STEP(), clips())
    apply = jax.jit(functools.partial(alone.apply, train=False))
    result, _ = apply(params["audio"], stats["audio"], clips()["audio"], key=STEP())
    jax.tree.map(np.testing.assert_array_equal, result, run(fused, params, stats)[0]["audio"])


# ---------------------------------------------------------------------------- joint classifiers
def features(widths=(("a", 6), ("b", 4)), batch=3):
    rng = np.random.default_rng(1)
    maps = {s: np.float32(rng.normal(size=(batch, 2, 3, 1, width))) for s, width in widths}
    return {s: {"features": m.mean((1, 2, 3)), "map": m} for s, m in maps.items()}


def gathered(module, results):
    params = jax.tree.map(
        lambda v: np.float32(np.random.default_rng(v.size).normal(size=v.shape)),
        jax.eval_shape(module.init, STEP(), results).get("params", {}),
    )
    return params, np.asarray(jax.jit(module.apply)({"params": params}, results))


def dense(params, x):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def test_late_concatenation_and_two_layers():
    results = features()
    module = joints.Joint({"verb": 3}, joints.Concatenated(), dropout=0.5)
    drawn_params = jax.jit(functools.partial(module.init, train=False))(STEP(), results)["params"]
    row = np.concatenate([r["features"] for r in results.values()], -1)
    found = module.apply({"params": drawn_params}, results, train=False)
    hidden = np.maximum(dense(drawn_params["fc1"], row), 0)
    hidden = np.maximum(dense(drawn_params["fc2"], hidden), 0)
    assert hidden.shape == (3, 5)  # half of ten
    np.testing.assert_allclose(found["features"], hidden, rtol=1e-5, atol=1e-6)
    last = drawn_params["classifier"]["verb"]
    np.testing.assert_allclose(found["logits"]["verb"], dense(last, hidden), rtol=1e-4, atol=1e-6)
    # Dropped is the concatenation: with the first layer the identity, halves of it are zero and others doubled.
    drawn_params["fc1"] = {"kernel": np.eye(10, 5, dtype=np.float32), "bias": np.zeros(5, np.float32)}
    drawn_params["fc2"] = {"kernel": np.eye(5, dtype=np.float32), "bias": np.zeros(5, np.float32)}
    dropped = module.apply({"params": drawn_params}, results, train=True, rngs={"dropout": STEP()})["features"]
    share = np.asarray(dropped)[row[:, :5] > 0] / row[:, :5][row[:, :5] > 0]
    assert set(np.round(share).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("residual", [False, True])
def test_squeeze_and_excitation_weights_channels_by_all_streams(residual):
    results = features()
    params, found = gathered(joints.Squeezed(residual), results)
    row = np.concatenate([r["features"] for r in results.values()], -1)
    want = []
    for stream, result in results.items():
        narrow = np.maximum(dense(params[f"{stream}_squeeze"], row), 0)
        gate = 1 / (1 + np.exp(-dense(params[f"{stream}_excite"], narrow)))
        want.append(gate * result["features"] + residual * result["features"])
    np.testing.assert_allclose(found, np.concatenate(want, -1), rtol=1e-5)


def test_attention_reads_the_other_streams_places():
    results = features((("a", 6), ("b", 4), ("c", 2)))
    params, found = gathered(joints.Attended(), results)
    flat = {s: r["map"].reshape(3, -1, r["map"].shape[-1]) for s, r in results.items()}
    want = []
    for stream, result in results.items():
        others = [s for s in flat if s != stream]
        key, value = (
            np.concatenate([dense(params[f"{stream}_{kind}_{s}"], flat[s]) for s in others], 1)
            for kind in ("key", "value")
        )
        scores = dense(params[f"{stream}_query"], flat[stream]) @ key.transpose(0, 2, 1)
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        # Added at every place of the map, then pooled.
        places = flat[stream] + dense(params[f"{stream}_out"], weight @ value)
        want.append(places.mean(1))
        assert result["features"].shape == want[-1].shape
    np.testing.assert_allclose(found, np.concatenate(want, -1), rtol=1e-4, atol=1e-4)
    # It starts with the features alone.
    started = {k: jax.tree.map(np.zeros_like, v) if k.endswith("out") else v for k, v in params.items()}
    same = jax.jit(joints.Attended().apply)({"params": started}, results)
    np.testing.assert_array_equal(same, np.concatenate([r["features"] for r in results.values()], -1))
    inits = jax.jit(joints.Attended().init)(STEP(), features((("a", 2), ("b", 2)), batch=1))["params"]
    assert not np.any(inits["a_out"]["kernel"]) and np.any(inits["a_query"]["kernel"])
    with pytest.raises(ValueError, match=r"joint='nl' attends .* the encoder of 'a' has none"):
        joints.Attended().init(STEP(), {"a": {"features": np.zeros((1, 2))}})


def test_low_rank_fusion_is_a_sum_of_products():
    """Equal to the full tensor that its factors make, sum_r a_r W_1^(r) x W_2^(r), of [1; z1] x [1; z2]."""
    results = features()
    params, found = gathered(joints.LowRank(width=5, rank=3), results)
    tensor = np.einsum("r,rih,rjh->ijh", params["rank"][0], params["factor_a"], params["factor_b"])
    ones = {s: np.concatenate([np.ones((3, 1)), r["features"]], -1) for s, r in results.items()}
    want = np.einsum("bi,bj,ijh->bh", ones["a"], ones["b"], tensor) + params["bias"]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_the_middle_joins_before_the_trunks_last_stage():
    """The trunk's own classifier sees nothing of it; the joint stage reads the map and the other's features."""
    model = made(joint="mid")
    params, stats = drawn.weights(model.init, STEP(), clips())
    found, _ = run(model, params, stats)
    assert found["rgb"]["middle"].shape == (2, 2, 4, 4, 8)
    first = params["joint"]["layer2_0"]["conv1"]["kernel"]
    assert first.shape[2] == 8 + 4 and set(params["joint"]) == {"layer2_0", "classifier"}
    heard = found["audio"]["middle"].mean((1, 2, 3))[:, None, None, None]
    tiled = jnp.broadcast_to(heard, (2, 2, 4, 4, heard.shape[-1]))
    joint = build_model("tsm_tiny", heads=HEADS, **ENCODERS["rgb"][1])
    last = jax.jit(lambda *trees: joint.apply(*trees, train=False, key=None, since=2)[0])
    want = last(params["joint"], stats["joint"], jnp.concatenate([found["rgb"]["middle"], tiled], -1))
    np.testing.assert_allclose(found["joint"]["logits"]["verb"], want["logits"]["verb"], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------- the paper's sizes
SHAPES = {"audio": (1, 100, 40, 1), "rgb": (1, 16, 224, 224, 3)}
DEEP = {"audio": "vmz_audio_resnet50", "rgb": "vmz_r3d_50"}


def counted(**options):
    """{part: number of parameters} of the paper's network of sound and RGB for Kinetics-400, and of unimodal
    classifiers."""
    x = {s: jax.ShapeDtypeStruct(shape, jnp.float32) for s, shape in SHAPES.items()}
    channels = {s: shape[-1] for s, shape in SHAPES.items()}
    model = build_model("fusion", heads={"action": 400}, in_channels=channels, encoders=DEEP, **options)
    params, _ = jax.eval_shape(model.init, STEP(), x)
    parts = {part: size(tree) for part, tree in params.items()}
    return parts, sum(size(trees.subtree(params, path)) for path in model.classifiers if path[0] != "joint")


def counted_joint(kind, streams):
    """The number of parameters of a joint classifier of so many streams of 2048 features."""
    results = {str(i): {"features": jax.ShapeDtypeStruct((1, 2048), jnp.float32)} for i in range(streams)}
    return size(jax.eval_shape(fusion.joint_of(kind, {"action": 400}).init, STEP(), results)[0])


def test_parameters_are_the_papers():
    """papers.md 6.8: 4096 -> 2048 -> 2048 -> 400; with three streams 6144 -> 2048."""
    parts, alone = counted()
    assert parts == {"audio": 24_359_664, "rgb": 46_980_944, "joint": 13_406_608}
    assert (sum(parts.values()), sum(parts.values()) - alone) == (84_747_216, 83_108_016)
    assert counted_joint("late", 2) == 13_406_608 and counted_joint("late", 3) == 13_406_608 + 2048 * 2048
    assert counted_joint("lmf", 2) == 2 * 4 * 2049 * 2048 + 4 + 2048 + 2049 * 400


@pytest.mark.slow
@pytest.mark.parametrize("stages, millions", [(1, 58), (2, 49)])
def test_parameters_of_mid_level_concatenation(stages, millions):
    """Before res5 and before res4, with one layer as the classifier (papers.md 4.2)."""
    parts, _ = counted(joint="mid", trunk="rgb", joint_stages=stages, unimodal="none")
    assert round(sum(parts.values()) / 1e6) == millions


# ---------------------------------------------------------------------------- starts
@pytest.mark.parametrize("joint", ["late", "mid"])
def test_a_naive_network_starts_from_a_fusion_and_back(joint):
    whole, naive = made(joint=joint), made(joint=joint, unimodal="none")
    made_of = [
        dict(zip(("params", "stats"), drawn.weights(m.init, STEP(), clips(), seed=i)))
        for i, m in enumerate((whole, naive))
    ]
    for source, target, (theirs, own) in ((whole, naive, made_of), (naive, whole, made_of[::-1])):
        have = weights.part_of(theirs, source, "", "av")
        params, stats = weights.fitted(have, "naive", "av", **own, layout=target)
        given, kept = trees.leaves(theirs), trees.leaves(own)
        for path, value in trees.leaves({"params": params, "stats": stats}).items():
            np.testing.assert_array_equal(value, given.get(path, kept.get(path)), err_msg=str(path))


@pytest.mark.parametrize("joint, unimodal", [("late", "none"), ("mid", "drawn"), ("mid", "none")])
def test_encoders_start_from_networks_of_one_stream(joint, unimodal):
    """Pre-training: an encoder gets all that it has of theirs, and nothing else changes."""
    model, (name, own) = made(joint=joint, unimodal=unimodal), encoder_of("rgb", ENCODERS)
    alone = build_model(name, heads=HEADS, **own)
    params, stats = drawn.weights(model.init, STEP(), clips())
    theirs = dict(zip(("params", "stats"), drawn.weights(alone.init, STEP(), clips()["rgb"], seed=1)))
    have = weights.part_of(theirs, alone, "", "rgb")

    def filled(have):
        fit = functools.partial(weights.fitted, have, "network 'av.rgb'", "rgb")
        return starts.filled(Network("av", model, (("audio", "rgb"),)), ("rgb",), (params, stats), fit)

    found, given = filled(have), trees.leaves(theirs)
    for kind, old, new in zip(("params", "stats"), (params, stats), found):
        for path, value in trees.leaves(new).items():
            want = given[kind, *path[1:]] if path[0] == "rgb" else trees.leaves(old)[path]
            np.testing.assert_array_equal(value, want, err_msg=str(path))
    # Only what the cut leaves out: another network does not fit.
    strange = have._replace(placed=have.placed | {("params", "layer3_0", "conv1", "kernel"): np.zeros(1)})
    with pytest.raises(ValueError, match="1 not in the model: params/layer3_0"):
        filled(strange)


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(joint="sum"), r"joint='sum': choose one of \('late'"),
        (dict(unimodal="no"), "unimodal='no'"),
        (dict(joint="mid", trunk="depth"), r"trunk='depth': .*\['audio', 'rgb'\]"),
        (dict(trunk="rgb", rank=2), r"joint='late' has no option \['rank', 'trunk'\]; it knows \['joint_width'"),
        (dict(joint="nl", joint_residual=True), r"joint='nl' has no option \['joint_residual'\]"),
        (dict(joint="mid", joint_stages=3), "joint_stages=3 last stages, and that of 'audio' has 2"),
    ],
)
def test_joints_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        build_model("fusion", heads=HEADS, in_channels=CHANNELS, encoders=ENCODERS, **options)
