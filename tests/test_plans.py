"""Plans: segments, hand-over between modalities, and what must not start equal."""

import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_configs import context, shrunken

from configs import common, dmcl, mml
from mmvid import names, plans, weights
from mmvid import network as network_lib
from mmvid.methods import METHODS
from mmvid.methods.base import Method, Pass
from mmvid.models import MODELS, build_model
from mmvid.models.model import Model
from mmvid.network import Network
from mmvid.plans import method as method_lib
from mmvid.plans import networks, starts, stills
from mmvid.plans import segment as segment_lib
from mmvid.plans.starts import Start
from mmvid.streams import Head
from mmvid.weights import files, trees

RGB = (("rgb",),)


def params_of(segment):
    """Weights for its networks, for each by its name, without compiling a draw."""
    draw = lambda key: network_lib.init_params(segment.networks, segment.streams, 32, key)  # noqa: E731
    params, stats = jax.eval_shape(draw, jax.random.key(1))
    for name, tree in params.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        params[name] = jax.tree.map(lambda x, r=rng: r.normal(size=x.shape).astype(x.dtype), tree)
    return params, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stats)


def entered(segment, own, workdir):
    """(params, stats) that a segment begins with, given its own draw."""
    begun = segment.enter(network_lib.beginning(segment.networks, *own), types.SimpleNamespace(workdir=workdir))
    both = {n.name: begun.weights(n.name) for n in segment.networks}
    return {n: params for n, (params, _) in both.items()}, {n: stats for n, (_, stats) in both.items()}


def segments(variant):
    return {s.name: s for s in plans.make(context(shrunken(variant)))}


def test_reduced_and_full():
    assert list(segments("")) == ["stills", "ce", "ce_continued", "mml"]
    full = segments("full")
    assert list(full) == ["stills", "ce", "ce2", "ce_again", "ce_continued", "ml", "mml"]
    assert [n.name for n in full["ml"].networks] == ["rgb", "rgb2"]
    # CE is continued through the stages of ML and MML: as many updates, on the same batches.
    for plain, mutual in (("ce_again", "ml"), ("ce_continued", "mml")):
        assert full[plain].steps == full[mutual].steps and full[plain].seed == full[mutual].seed
    assert [s.title for s in full.values()] == ["", "CE", "", "", "CE continued", "ML", "MML"]


def test_both_arms_see_the_same_batches():
    found = segments("")
    assert found["mml"].seed == found["ce_continued"].seed != found["ce"].seed
    assert found["mml"].steps == found["ce_continued"].steps


def test_another_seed_sees_other_batches():
    config = shrunken("")
    config.seed = 1
    other = {s.name: s.seed for s in plans.make(context(config))}
    assert not {s.seed for s in segments("").values()} & set(other.values())


def left(tmp_path, segment, params, stats):
    """Writes weights as the segment's end does."""
    (tmp_path / segment.name).mkdir()
    segment.leave(network_lib.TrainState(0, params, {}, stats, {}, {}, {}, None), tmp_path / segment.name)


def hand_over(tmp_path, found, source, target):
    """Trains nothing: keeps the source's draw, with statistics of its own, and lets the target enter."""
    params, stats = params_of(found[source])
    stats = jax.tree.map(lambda x: x + 0.5, stats)
    left(tmp_path, found[source], params, stats)
    own = params_of(found[target])
    return params, own, entered(found[target], own, tmp_path)


def test_first_convolution_is_averaged_and_the_classifier_kept(tmp_path):
    source, own, (params, stats) = hand_over(tmp_path, segments(""), "ce", "mml")
    kernel = source["rgb"]["conv1"]["kernel"]
    assert params["flow"]["conv1"]["kernel"].shape[2] == 10
    for channel in range(10):
        np.testing.assert_allclose(params["flow"]["conv1"]["kernel"][:, :, channel], kernel.mean(2), rtol=1e-6)
    np.testing.assert_array_equal(params["rgb"]["conv1"]["kernel"], kernel)
    jax.tree.map(np.testing.assert_array_equal, params["flow"]["classifier"], source["rgb"]["classifier"])
    jax.tree.map(np.testing.assert_array_equal, params["flow"]["layer1_0"], source["rgb"]["layer1_0"])
    # Batch statistics go with the weights that they belong to.
    for name in ("flow", "rgb"):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 0.5), stats[name], own[1][name])


def test_a_classifier_of_other_classes_starts_afresh(tmp_path):
    source, own, (params, _) = hand_over(tmp_path, segments(""), "stills", "ce")
    assert "noun" in source["rgb"]["classifier"]
    jax.tree.map(np.testing.assert_array_equal, params["rgb"]["classifier"], own[0]["rgb"]["classifier"])
    np.testing.assert_array_equal(params["rgb"]["conv1"]["kernel"], source["rgb"]["conv1"]["kernel"])


def test_equal_networks_are_refused(tmp_path):
    found = segments("full")
    for name, network in (("ce", "rgb"), ("ce2", "rgb2")):
        params, stats = params_of(found[name])
        params = {n: p for n, p in params.items() if n == network}
        (tmp_path / name).mkdir()
        state = network_lib.TrainState(0, params, {}, {network: stats[network]}, {}, {}, {}, None)
        starts.keep_weights((), found[name].heads)(state, tmp_path / name)
    entered(found["ml"], params_of(found["ml"]), tmp_path)  # different draws: fine
    tree, metadata = files.read(tmp_path / "ce" / "weights.safetensors")
    files.save(tmp_path / "ce2" / "weights.safetensors", {"rgb2": tree["rgb"]}, metadata)
    with pytest.raises(ValueError, match="zero"):
        entered(found["ml"], params_of(found["ml"]), tmp_path)


def test_weights_of_another_architecture_name_the_tensor(tmp_path):
    found = segments("")
    params, stats = params_of(found["ce"])
    params["rgb"]["layer1_0"]["conv1"]["kernel"] = np.zeros((3, 3, 2, 2), np.float32)
    left(tmp_path, found["ce"], params, stats)
    with pytest.raises(ValueError, match=r"layer1_0/conv1/kernel: \(3, 3, 2, 2\) in the file"):
        entered(found["mml"], params_of(found["mml"]), tmp_path)


def test_weights_that_diverged_are_not_handed_over(tmp_path):
    found = segments("")
    params, stats = params_of(found["ce"])
    stats["rgb"]["bn1"]["var"][0] = np.inf
    left(tmp_path, found["ce"], params, stats)
    with pytest.raises(ValueError, match=r"ce/weights\.safetensors: 'rgb/stats/bn1/var' .*not finite"):
        entered(found["mml"], params_of(found["mml"]), tmp_path)


def test_any_output_can_be_the_headline(tmp_path):
    """Stills are pictures though flow reads ten channels; networks may be called what they like."""
    config = shrunken("")
    config.headline = "flow"
    found = {s.name: s for s in plans.make(context(config))}
    _, _, (params, _) = hand_over(tmp_path, found, "stills", "ce")
    assert params["flow"]["conv1"]["kernel"].shape[2] == 10
    config = shrunken("")
    with config.unlocked():
        config.networks.pupil = config.networks.rgb
        del config.networks.rgb
        config.headline = "pupil"
    assert [n.name for n in plans.make(context(config))[0].networks] == ["pupil"]


def test_weights_of_our_own_bring_their_classifier_where_the_classes_agree(tmp_path):
    found = segments("")
    source, _, _ = hand_over(tmp_path, found, "ce", "mml")
    config = shrunken("")
    config.stills.steps = config.schedule.warmup = "0"
    config.networks.rgb.weights = f"{tmp_path}/ce/weights.safetensors#rgb"
    for classes, kept in ((20, True), (7, False)):
        other = context(config)._replace(heads={"action": Head(classes)})
        ce = plans.make(other)[0]
        own = params_of(ce)
        params, stats = entered(ce, own, tmp_path)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 0.5), stats["rgb"], own[1]["rgb"])
        assert classifier_boost(ce, "rgb") == pytest.approx(1 if kept else 5)
        want = source["rgb"] if kept else own[0]["rgb"]
        jax.tree.map(np.testing.assert_array_equal, params["rgb"]["classifier"], want["classifier"])
        np.testing.assert_array_equal(params["rgb"]["conv1"]["kernel"], source["rgb"]["conv1"]["kernel"])


def classifier_boost(segment, network, leaf="kernel"):
    """How many times faster than a kernel of the trunk a classifier's leaf learns."""
    layer = {"kernel": jnp.zeros(1), "bias": jnp.zeros(1)}
    params = {"layer1_0": {"conv1": layer}, "classifier": {"action": layer}}
    tx = segment.tx[network]
    update, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    return float(update["classifier"]["action"][leaf][0] / update["layer1_0"]["conv1"]["kernel"][0])


def test_a_fresh_classifier_learns_faster_and_one_handed_over_does_not():
    """MML's code: five and ten times, off once the weights come from the same dataset."""
    config = shrunken("")
    config.schedule.warmup = "0"
    found = {s.name: s for s in plans.make(context(config))}
    for name, factor in (("ce", 5), ("ce_continued", 1), ("mml", 1)):
        for network in ("flow", "rgb"):
            boosts = [classifier_boost(found[name], network, leaf) for leaf in ("kernel", "bias")]
            assert boosts == pytest.approx([factor, 2 * factor]), (name, network)


@pytest.mark.parametrize("model", [name for name, made in MODELS.items() if "stages" in made])
def test_every_model_hands_over_between_channels(tmp_path, model):
    """Within a run and from its file, for RGB's 3 channels, flow's 10, depth's 1; boxes have no other number."""
    options = dict(heads={"action": 3}, width=8, stages=(1,) * len(MODELS[model]["stages"]))
    full = lambda value, tree: jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), tree)  # noqa: E731
    made = {}
    for channels in (3, 10, 1):
        clip = jax.ShapeDtypeStruct((1, 2, 16, 16, channels), np.float32)
        built = build_model(model, in_channels=channels, **options)
        params, stats = jax.eval_shape(built.init, jax.random.key(0), clip)
        made[channels] = full(0.25, params), full(0.5, stats)
    (tmp_path / "ce").mkdir()
    path, heads = tmp_path / "ce" / "weights.safetensors", {"action": Head(3)}
    run = types.SimpleNamespace(workdir=tmp_path)
    for params, stats in made.values():
        files.save(path, {"rgb": {"params": params, "stats": stats}}, starts._describe((), heads))
        for own in made.values():
            blank = jax.tree.map(np.zeros_like, own)
            for start in (Start("ce", "rgb"), Start(file=str(path))):
                found = starts.starting_from({"x": start}, (Network("x", built, RGB),), heads)(
                    network_lib.Beginning({"x": blank[0]}, {"x": blank[1]}, {}), run
                )
                jax.tree.map(np.testing.assert_array_equal, found.weights("x"), own)


def test_a_missing_segment_is_named(tmp_path):
    found = segments("")
    with pytest.raises(FileNotFoundError, match="'ce'"):
        entered(found["mml"], params_of(found["mml"]), tmp_path)


# ---------------------------------------------------------------------------- several methods compared
def compared(variant, **changes):
    config = shrunken(variant, dmcl)
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return {s.name: s for s in plans.make(context(config))}


def test_methods_are_compared_from_one_draw_on_the_same_batches():
    found = compared("table")
    assert list(found) == ["independent", "smcl", "cmcl", "random_teacher", "dmcl"]
    assert len({(s.seed, s.steps, s.groups["main"].batch_size) for s in found.values()}) == 1
    first, last = (network_lib.draw_weights(found[n], 32, 0) for n in ("independent", "dmcl"))
    jax.tree.map(np.testing.assert_array_equal, first, last)
    assert plans.baseline(list(found.values())) == "independent"
    assert plans.baseline(list(segments("").values())) == "ce_continued"
    assert plans.baseline([found["dmcl"]]) == plans.baseline([found["independent"]]) == ""


def test_a_teacher_is_trained_before_and_frozen(tmp_path):
    found = compared("gd")
    students = found["generalized_distillation"]
    assert [(n.name, n.frozen) for n in students.networks] == [("depth", True), ("flow", False), ("rgb", False)]
    trained, own, (params, _) = hand_over(tmp_path, found, "independent", "generalized_distillation")
    trained = jax.tree.map(lambda x: x + 1, trained)
    state = network_lib.TrainState(0, trained, {}, params_of(found["independent"])[1], {}, {}, {}, None)
    found["independent"].leave(state, tmp_path / "independent")
    params, _ = entered(students, own, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params["depth"], trained["depth"])
    jax.tree.map(np.testing.assert_array_equal, params["rgb"], own[0]["rgb"])


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"compare": ("generalized_distillation",)}, "put 'independent' before"),
        ({"compare": ()}, "one or more"),
        ({"compare": ("dmcl", "dmcl")}, "each once"),
        ({"compare": ("independent", "dcml")}, "choose one of"),
        ({"compare": ("independent", "dmcl"), "method.dmcl.temperature": 0.0}, "greater than 0"),
        ({"compare": ("smcl",), "method.smcl.k": 4}, "1 to all"),
        ({"method.generalized_distillation.teacher": "sound"}, "beside a student"),
        ({"headline": "depth"}, "frozen teacher"),
        ({"networks.depth.reads": (("depth", "flow"),), "networks.flow.reads": ()}, "between modalities"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value)),
)
def test_comparisons_that_cannot_work(changes, match):
    with pytest.raises(ValueError, match=match):
        compared("gd", **changes)


def test_networks_that_share_features_are_one_network_of_several_outputs():
    found = compared("rgb_shared")["cmcl"]
    (network,) = found.networks
    assert network.outputs == ("shared.rgb", "shared.rgb2", "shared.rgb3")
    assert list(found.streams) == ["rgb", "rgb2", "rgb3"]
    params, _ = params_of(found)
    assert sorted(params["shared"]) == ["rgb", "rgb2", "rgb3"]
    with pytest.raises(ValueError, match="above 0"):
        compared("rgb_shared", **{"networks.shared.options.share": 0.0})


def sharing(**changes):
    """Three RGB networks that share features, in the plan that hands over; nothing is made from it yet."""
    config = shrunken("rgb_shared", dmcl)
    with config.unlocked():
        config.plan, config.method.name = "reduced", "cmcl"
        config.update_from_flattened_dict(changes)
    return config


def test_networks_that_share_features_hand_over(tmp_path):
    """From segment to segment with their classifiers, and from a file whose classes may be others."""
    config = sharing()
    found = {s.name: s for s in plans.make(context(config))}
    source, own, (params, stats) = hand_over(tmp_path, found, "ce", "cmcl")
    jax.tree.map(np.testing.assert_array_equal, params, source)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 0.5), stats, own[1])
    config = sharing(**{"networks.shared.weights": f"{tmp_path}/ce/weights.safetensors"})
    for classes, kept in ((20, True), (7, False)):
        ce = plans.make(context(config)._replace(heads={"action": Head(classes)}))[0]
        own = params_of(ce)
        params, _ = entered(ce, own, tmp_path)
        for name in ("rgb", "rgb2", "rgb3"):
            mine, theirs, drawn = (tree["shared"][name] for tree in (params, source, own[0]))
            np.testing.assert_array_equal(mine["conv1"]["kernel"], theirs["conv1"]["kernel"])
            want = theirs if kept else drawn
            jax.tree.map(np.testing.assert_array_equal, mine["classifier"], want["classifier"])


def test_networks_that_share_features_hand_over_to_others_of_other_streams(tmp_path):
    """Member by member, in their order, first convolutions averaged; it is known before anything trains."""
    config = sharing()
    with config.unlocked():
        for name in ("flow", "flow2", "flow3"):
            config.streams[name] = common.stream("flow", form="stack5", frames=2)
        config.networks.others = common.shared("tsm_tiny", "flow", "flow2", "flow3", **shapes_of(config))
    found = {s.name: s for s in plans.make(context(config))}
    source, _, (params, _) = hand_over(tmp_path, found, "ce", "cmcl")
    for theirs, ours in (("rgb", "flow"), ("rgb2", "flow2"), ("rgb3", "flow3")):
        given, got = source["shared"][theirs], params["others"][ours]
        kernel = got["conv1"]["kernel"]
        assert kernel.shape[2] == 10
        np.testing.assert_allclose(kernel[:, :, 7], given["conv1"]["kernel"].mean(2), rtol=1e-5, atol=1e-7)
        for layer in set(given) - {"conv1"}:
            jax.tree.map(np.testing.assert_array_equal, got[layer], given[layer])
    with config.unlocked():
        config.networks.others.reads = (("flow", "flow2"),)
        del config.streams.flow3
    with pytest.raises(ValueError, match=r"'others' .*2 that share.*cannot start.*3 that share"):
        plans.make(context(config))


def shapes_of(config):
    """The options of the shared network that shape its weights."""
    return {k: v for k, v in config.networks.shared.options.items() if k in ("width", "stages") and v is not None}


def test_a_factor_of_0_freezes_the_first_convolutions_of_a_shared_network():
    """All else moves."""
    last = plans.make(context(sharing(**{"networks.shared.first_conv_lr": 0.0})))[-1]
    # One number stands for each leaf: no group depends on shapes.
    params = jax.tree.map(lambda x: np.ones(1, np.float32), params_of(last)[0]["shared"])
    updates, _ = last.tx["shared"].update(params, last.tx["shared"].init(params), params)
    still = {path for path, update in trees.flatten(updates).items() if not np.any(update)}
    assert still == {(member, "conv1", "kernel") for member in ("rgb", "rgb2", "rgb3")}


def test_a_member_starts_another_network_and_its_classifier_goes_along(tmp_path):
    """`Start.part`, through the checks, the optimiser's groups and `enter`."""
    config = sharing()
    with config.unlocked():
        config.streams.flow = common.stream("flow", form="stack5", frames=2)
        config.networks.flow = common.network("tsm_tiny", "flow", **shapes_of(config))

    def made(start):
        return segment_lib.make(context(config), "next", ("flow",), ("single", {}), "3", {"flow": start},
                                batches="2", title="")  # fmt: skip

    found = {s.name: s for s in plans.make(context(sharing()))}
    source, _, _ = hand_over(tmp_path, found, "ce", "cmcl")
    run, path = types.SimpleNamespace(workdir=tmp_path), tmp_path / "ce" / "weights.safetensors"
    for start in (
        Start("ce", "shared", part="rgb2"),
        Start(file=f"{path}#shared", part="rgb2"),
        Start(file=f"{path}#shared.rgb2"),
    ):
        segment = made(start)
        assert classifier_boost(segment, "flow") == pytest.approx(1)
        begun = segment.enter(network_lib.Beginning(*params_of(segment), {}), run).params["flow"]
        given = source["shared"]["rgb2"]
        jax.tree.map(np.testing.assert_array_equal, begun["classifier"], given["classifier"])
        np.testing.assert_allclose(begun["conv1"]["kernel"][:, :, 4], given["conv1"]["kernel"].mean(2), rtol=1e-5)
    for start, match in (
        (Start("ce", "shared", part="rbg"), r"segment 'ce': network 'shared' has no part 'rbg': .*'rgb2'"),
        (Start("ce", "flow", part="rgb"), r"network 'flow' has no part 'rgb': it has no parts"),
        (Start("ce", "flwo", part="rgb"), r"no network 'flwo' to start from; there are \['flow', 'shared'\]"),
        (Start(file=f"{path}#shared", part="rbg"), r"weights\.safetensors: network 'shared' has no part 'rbg'"),
        (Start(file=f"{path}#shared"), "do not fit network 'flow'"),
    ):
        with pytest.raises(ValueError, match=match):
            made(start)


def test_each_stream_of_a_network_may_have_a_file_of_its_own(tmp_path):
    """A classifier that comes along is not fresh, the others are."""
    found = segments("")
    source, _, _ = hand_over(tmp_path, found, "ce", "mml")
    config = sharing(**{"schedule.warmup": "0"})
    with config.unlocked():
        given = {"rgb2": f"{tmp_path}/ce/weights.safetensors#rgb"}
        config.networks.shared = common.shared(
            "tsm_tiny", "rgb", "rgb2", "rgb3", weights=given, **shapes_of(config)
        )
    ce = plans.make(context(config))[0]
    own = params_of(ce)
    run = types.SimpleNamespace(workdir=tmp_path)
    begun = ce.enter(network_lib.Beginning(*own, {}), run).params["shared"]
    jax.tree.map(np.testing.assert_array_equal, begun["rgb2"], source["rgb"])
    jax.tree.map(np.testing.assert_array_equal, begun["rgb"], own[0]["shared"]["rgb"])
    ones = jax.tree.map(np.ones_like, own[0]["shared"])
    updates, _ = ce.tx["shared"].update(ones, ce.tx["shared"].init(ones), own[0]["shared"])
    boosts = {n: u["classifier"]["action"]["bias"][0] / u["bn1"]["scale"][0] for n, u in updates.items()}
    assert boosts == pytest.approx({"rgb": 10, "rgb2": 2, "rgb3": 10})


def test_the_encoders_of_a_fusion_start_from_networks_and_networks_from_them(tmp_path):
    """Checked by their shapes before anything trains; an encoder's classifier is its stream's."""
    config = shrunken("")
    with config.unlocked():
        tiny = ("tsm_tiny", {"stages": (1,)})
        files_of = {s: f"{tmp_path}/ce/weights.safetensors#{s}" for s in ("rgb", "flow")}
        config.networks.av = common.fusion(flow=tiny, rgb=tiny)
        config.networks.given = common.fusion(flow=tiny, rgb=tiny, weights=files_of)

    def made(name, begins, *networks):
        method = ("single", {})
        return segment_lib.make(context(config), name, networks, method, "3", begins, batches="2", title="")

    found = {
        "ce": made("ce", {}, "flow", "rgb"),
        "joint": made("joint", {f"av.{s}": Start("ce", s) for s in ("rgb", "flow")}, "av"),
    }
    source, own, (params, _) = hand_over(tmp_path, found, "ce", "joint")
    for stream in ("flow", "rgb"):
        jax.tree.map(np.testing.assert_array_equal, params["av"][stream], source[stream])
    jax.tree.map(np.testing.assert_array_equal, params["av"]["joint"], own[0]["av"]["joint"])
    found["rgb"] = made("back", {"rgb": Start("joint", "av", part="flow")}, "rgb")
    source, _, (params, _) = hand_over(tmp_path, found, "joint", "rgb")
    kernel = source["av"]["flow"]["conv1"]["kernel"].mean(2)
    np.testing.assert_allclose(params["rgb"]["conv1"]["kernel"][:, :, 1], kernel, rtol=1e-5, atol=1e-7)
    # From files, as the configuration names them.
    _, begins = stills.beginnings(context(config), ("given",))
    assert set(begins) == {"given.flow", "given.rgb"}
    made("files", begins, "given")
    with config.unlocked():
        config.networks.rgb.options.stages = (2,)
    with pytest.raises(ValueError, match=r"'ce', network 'rgb': these .* network 'av\.rgb':\n.*layer1_1"):
        made("joint", {"av.rgb": Start("ce", "rgb")}, "av")


def test_networks_that_share_features_start_neither_from_one_nor_from_others(tmp_path):
    config = sharing(**{"stills.steps": "3"})
    with pytest.raises(ValueError, match=r"would be equal. Write --config\.stills\.steps=0"):
        plans.make(context(config))
    config = sharing()
    with config.unlocked():
        config.streams.flow = common.stream("flow", form="stack5", frames=2)
        config.networks.flow = common.network("tsm_tiny", "flow", stages=(1, 1, 1))
    with pytest.raises(ValueError, match=r"'flow' .*cannot start.*'shared' .*3 that share features"):
        plans.make(context(config))
    config.headline = "flow"
    with pytest.raises(ValueError, match=r"'shared' .*cannot start from the weights of 'flow'"):
        plans.make(context(config))
    tiny = build_model("tsm_tiny", heads={"action": 20}, stages=(1, 1, 1))
    x = jax.ShapeDtypeStruct((1, 2, 16, 16, 3), np.float32)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape), jax.eval_shape(tiny.init, jax.random.key(0), x))
    save_file(weights.torch_names(*zeros), tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="rgb, rgb2, rgb3 at once and starts from a file of such a network"):
        plans.make(context(sharing(**{"networks.shared.weights": f"{tmp_path}/one.safetensors"})))


@pytest.mark.parametrize(
    "variant, experiment, changes, match",
    [
        ("", mml, {"networks.rgb.reads": RGB * 2}, "'rgb' reads the stream 'rgb' twice"),
        (
            "rgb_shared",
            dmcl,
            {"networks.shared.reads": (("rgb", "rgb"),), "streams.rgb2": None, "streams.rgb3": None},
            "'shared' reads the stream 'rgb' twice",
        ),
        ("", mml, {"streams": {"r/g": common.stream("rgb")}}, "stream 'r/g': rename it"),
        ("", mml, {"streams.diff": common.stream("diff", form="stack5")}, "'diff' is read by no network"),
        ("", mml, {"networks.flow.reads": (), "streams.flow": None}, "for one stream"),
        (
            "",
            mml,
            {"networks.flow.reads": (("rgb",), ("flow", "flow2")), "networks.rgb": None, "stills.steps": "0"},
            "two in turn",
        ),
    ],
    ids=["itself", "members", "slash", "idle stream", "nothing", "mixed"],
)
def test_what_cannot_be_trained_or_named_is_refused(variant, experiment, changes, match):
    config = shrunken(variant, experiment)
    with config.unlocked():
        for name, value in changes.items():
            *where, key = name.split(".")
            place = config
            for part in where:
                place = place[part]
            if value is None:
                del place[key]
            else:
                place[key] = value
    with pytest.raises(ValueError, match=match):
        plans.make(context(config))


def taught(starts, **changes):
    """A segment in which 'rgb' learns from the frozen 'teacher', which begins with ``starts``."""
    config = shrunken("")
    with config.unlocked():
        config.networks.teacher = config.networks.rgb.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
    options = {"teacher": "teacher"}
    return segment_lib.make(context(config), "gd", ("teacher", "rgb"), ("generalized_distillation", options), "3",
                            starts, batches="gd", title="")  # fmt: skip


def test_a_teacher_is_another_network_of_an_earlier_segment(tmp_path):
    """By another name; its student may begin with the same weights, which labels then change."""
    found = segments("") | {"gd": taught({"teacher": Start("ce", "rgb"), "rgb": Start("ce", "rgb")})}
    assert [(n.name, n.frozen) for n in found["gd"].networks] == [("teacher", True), ("rgb", False)]
    source, _, (params, stats) = hand_over(tmp_path, found, "ce", "gd")
    jax.tree.map(np.testing.assert_array_equal, params["teacher"], source["rgb"])
    assert np.all(stats["teacher"]["bn1"]["mean"] == 0.5)
    # From its file it may be called anything, too.
    path = f"{tmp_path}/ce/weights.safetensors#rgb"
    assert taught({"teacher": Start(file=path)}).networks[0].frozen
    # The plan that a refused teacher is sent to takes the file as well.
    config = shrunken("")
    with config.unlocked():
        config.networks.flow.weights = path.replace("#rgb", "#flow")
        config.plan, config.compare, config.twin = "compare", ("generalized_distillation",), ""
        config.method.name, config.method.generalized_distillation.teacher = config.compare[0], "flow"
    *_, made = plans.make(context(config))
    assert [n.frozen for n in made.networks if n.name == "flow"] == [True]
    assert made.spec["starts"]["flow"]["file"] == path.replace("#rgb", "#flow")


def test_a_start_without_a_network_is_from_the_one_of_that_name():
    by_name = taught({"teacher": Start("ce", "rgb"), "rgb": Start("ce")})
    assert by_name.spec["starts"]["rgb"]["network"] == "rgb"
    for wrong in (Start(), Start("ce", "rgb", file="x")):
        with pytest.raises(ValueError, match=r"'rgb'.*name a segment or a file"):
            taught({"teacher": Start("ce", "rgb"), "rgb": wrong})


def test_a_network_of_several_outputs_is_no_teacher():
    network = types.SimpleNamespace(name="av", outputs=("av.joint", "av.rgb"))
    with pytest.raises(ValueError, match=r"'av' cannot teach and learn.*leaves \['av.joint'\] to learn\. Name"):
        method_lib.teaches(network, ("av.rgb",))


@pytest.mark.parametrize(
    "starts, match",
    [
        ({}, "starts from no weights that were trained for these classes"),
        ({"teacher": Start("stills", "rgb")}, "starts from no weights that were trained for these classes"),
        ({"teacher": Start("ce", "flow")}, "starts from 'flow' of segment 'ce', which reads something else"),
        ({"teacher": Start("ce", "rbg")}, r"no network 'rbg' to start from; there are \['flow', 'rgb', 't"),
    ],
    ids=["nothing", "stills", "another modality", "nobody"],
)
def test_a_random_teacher_is_refused_before_anything_trains(starts, match):
    with pytest.raises(ValueError, match=match):
        taught(starts)


def test_a_frozen_teacher_that_nobody_trains_is_refused():
    """In this plan a depth network starts from RGB's weights: it would teach noise."""
    config = shrunken("gd", dmcl)
    config.plan, config.method.name = "reduced", "generalized_distillation"
    with pytest.raises(ValueError, match=r"'depth' is a frozen teacher.*--config\.plan=compare"):
        plans.make(context(config))


@pytest.mark.parametrize("change, match", [(("plan", "fulll"), "reduced"), (("method.name", "mm"), "single")])
def test_unknown_names(change, match):
    config = shrunken("")
    with config.unlocked():
        config.update_from_flattened_dict({change[0]: change[1]})
    with pytest.raises(ValueError, match=match):
        plans.make(context(config))


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"streams.flow.modality": "rgb", "streams.flow.form": "frames"}, "nothing mutual"),
        ({"networks.flow.model": "tsm_resnet18"}, "same model"),
        ({"networks.flow.options.width": 4}, "same model, width"),
        ({"networks.flow.first_conv_lr": -1.0}, "0 \\(frozen\\)"),
        ({"method.mml.average": "logits"}, "'prob', 'logit'"),
        ({"streams.rgb.sampling.kind": "unifrom"}, "uniform"),
        ({"steps.ce": "0 epochs"}, "1 or more"),
        ({"networks.flow.weights": "/nowhere/resnet18.safetensors"}, "no weights at /nowhere"),
        ({"networks.flow.reads": (("rgb",), ("flow",)), "networks.rgb.reads": ()}, r"shapes, .'rgb': .* 3., 'fl"),
        ({"networks.flow.reads": (("flwo",),)}, "'flwo'.*flow"),
        ({"headline": "rbg"}, r"\['flow', 'rgb'\]"),
        ({"schedule.warmup": "10 parsecs"}, "epochs"),
    ],
    ids=[
        "equals",
        "models",
        "widths",
        "first_conv_lr",
        "option",
        "sampling",
        "steps",
        "weights",
        "shared",
        "stream",
        "headline",
        "duration",
    ],
)
def test_what_cannot_work_is_said_before_anything_trains(changes, match):
    config = shrunken("")
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        plans.make(context(config))


def test_a_method_is_given_its_own_options_alone(monkeypatch):
    def pull(outputs, heads, *, strength=1.0):
        return METHODS["single"](outputs, heads)

    monkeypatch.setitem(METHODS, "pull", pull)
    config = shrunken("")
    config.method.name = "pull"
    last = plans.make(context(config))[-1]
    assert (last.name, last.title) == ("pull", "PULL")
    with pytest.raises(ValueError, match=r"no option 'stength'; its options: \['strength'\]"):
        method_lib.make("pull", ("rgb",), {}, {"stength": 2.0})


def test_common_options_that_a_model_lacks_are_left_out_and_its_own_are_not():
    config = shrunken("")
    with config.unlocked():
        config.stills.steps = "0"
        config.networks.flow = common.network("r2plus1d_tiny", "flow", width=4)
        config.model_options.shift_div = 4  # of a TSM alone
        config.plan = "single"
    plans.make(context(config))
    with config.unlocked():
        config.networks.flow.options.shift_div = 4
    with pytest.raises(ValueError, match=r"'r2plus1d_tiny' has no option \['shift_div'\]; it knows .*'stem'"):
        plans.make(context(config))


def test_epochs_are_epochs():
    config = shrunken("own")
    assert [s.steps_per_epoch for s in plans.make(context(config))] == [200.0] * 3


def test_segments_are_called_differently_and_start_from_earlier_ones():
    segments = plans.make(context(mml.get_config("smoke")))
    plans.check_order(segments)
    with pytest.raises(ValueError, match="two segments of the plan are called 'ce'"):
        plans.check_order([segments[0], segments[1], segments[1]])
    with pytest.raises(ValueError, match=r"'mml': .* starts from the segment 'ce', which does not come before it"):
        plans.check_order([segments[0], segments[-1], segments[1]])
    ce = segments[1]._replace(networks=segments[1].networks[:1])
    with pytest.raises(ValueError, match=r"'flow' starts from 'rgb' of the segment 'ce', which trains \['flow'\]"):
        plans.check_order([segments[0], ce, segments[-1]])


def test_val_is_scored_beside_what_is_shown():
    """Where there is such a split, and not twice."""
    config = shrunken("")
    clips = {"dataset": {"train": 400, "val": 9}, "stills": {"train": 1000, "val": 5}}

    def scored(**replaced):
        made = plans.make(context(config)._replace(**replaced))
        return {(s.name, s.scored) for s in made if s.title or s.name == "stills"}

    config.evaluation.splits, names = ("test",), ("ce", "ce_continued", "mml")
    assert scored() == {("stills", ()), *((name, ("test",)) for name in names)}
    assert scored(clips=clips) == {("stills", ()), *((name, ("test", "val")) for name in names)}
    config.evaluation.splits = ("val", "test")
    assert scored(clips=clips) == {("stills", ()), *((name, ("val", "test")) for name in names)}


def test_stills_are_for_networks_that_see_pictures():
    """A network of sound keeps its draw, and is not the one that learns the stills."""
    config = shrunken("")
    with config.unlocked():
        config.streams.audio = common.stream("audio", form="logmel")
        config.networks.audio = common.network("resnet18", "audio", width=8)
        config.streams.boxes = common.stream("boxes", form="layout")
        config.networks.boxes = common.network("resnet18", "boxes", width=8)
        config.headline = "audio"
    first, starts = stills.beginnings(context(config), ("audio", "boxes", "flow", "rgb"))
    assert [n.name for s in first for n in s.networks] == ["flow"]
    assert starts == {"flow": Start("stills", "flow"), "rgb": Start("stills", "flow")}
    assert stills.beginnings(context(config), ("audio", "boxes")) == ([], {})


def test_streams_in_turn_may_differ_in_time_where_no_weight_depends_on_it(monkeypatch):
    def made(frames, model="tsm_tiny"):
        config = shrunken("own")
        with config.unlocked():
            config.streams.rgb2 = common.stream("rgb", frames=frames)
            config.networks.omni = common.network(model, "rgb", "rgb2", stages=(1, 1))
        return networks.make_network(config, "omni", {"action": Head(5)}, networks.make_streams(config))

    assert made(3).outputs == ("omni.rgb", "omni.rgb2")

    def flat(name, heads, **options):
        return Model(lambda key, x: ({"w": jnp.zeros(x.size)}, {}), None)

    monkeypatch.setattr(networks, "build_model", flat)
    frames = shrunken("own").streams.rgb.sampling.frames
    made(frames)
    with pytest.raises(ValueError, match=rf"'omni' shares .* 'rgb2': \({frames + 1}, .*as many frames"):
        made(frames + 1)


@pytest.mark.parametrize(
    "pass_, match",
    [
        (Pass(hide=("nosuch",)), "hides 'nosuch'; there are the streams"),
        (Pass(weights="parms"), "the weights 'parms': choose one of"),
        (Pass(weights="ema"), "none are kept: set --config.ema"),
    ],
)
def test_the_options_of_a_pass_are_checked(pass_, match):
    made = Method(lambda *_: {}, (pass_,))
    with pytest.raises(ValueError, match=match):
        method_lib.check_options("x", made, {"rgb": None}, 0.0)


@pytest.mark.parametrize("kind, refused", [
    ("network", ["fused", "oracle", "subsets", "a + b", "a.b", "a/b", "a,b", "", " a"]),
    ("segment", ["x/y", "a.b", ""]),
    ("subset", ["a/b", "val-during", "val-before", "test@D1U2-centre", ""]),
])  # fmt: skip
def test_names_that_tables_and_files_use_are_refused(kind, refused):
    for name in refused:
        with pytest.raises(ValueError, match=f"{kind} .*rename it"):
            names.check(kind, name)
    names.check(kind, "val-during2")


def test_the_names_of_segments_are_checked():
    stills_, whole, *_ = segments("").values()
    with pytest.raises(ValueError, match=r"segment 'x/y': rename it"):
        plans.check_order([stills_, whole, whole._replace(name="x/y")])
