"""Networks' outputs: their names, what they need, who is there; one read of several; fusion."""

import shutil

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
import trap
from test_records import pack, record

from configs import common
from mmvid import checkpoint, passes, sharding, train
from mmvid import network as network_lib
from mmvid.models import MODELS, build_model
from mmvid.models.model import ONE, Model, Needs
from mmvid.network import Network
from mmvid.run import loop
from mmvid.scores import file as file_lib
from mmvid.streams import Head, Stream
from mmvid.weights import files as files_lib
from mmvid.weights import trees

FUSED = {"audio": Needs(("audio",)), "rgb": Needs(("rgb",)), "joint": Needs()}
ANY = {"": Needs(how="any")}


def network(name, *reads, outputs=ONE):
    return Network(name, Model(None, None, outputs), reads)


@pytest.mark.parametrize(
    "made, names",
    [
        (network("rgb", ("rgb",)), ("rgb",)),
        (network("teacher_rgb", ("rgb",)), ("teacher_rgb",)),
        (network("omni", ("flow",), ("rgb",)), ("omni.flow", "omni.rgb")),
        (network("av", ("audio", "rgb"), outputs=FUSED), ("av.audio", "av.rgb", "av.joint")),
        (network("all", ("audio", "rgb"), outputs=ANY), ("all",)),
    ],
    ids=["plain", "another on that stream", "in turn", "fusion", "one joint"],
)
def test_outputs_are_named_by_their_network(made, names):
    assert made.outputs == names


def test_an_output_is_present_where_what_it_needs_is():
    there = {"audio": np.array([1, 1, 0, 0], bool), "rgb": np.array([1, 0, 1, 0], bool)}
    nets = (
        network("av", ("audio", "rgb"), outputs=FUSED),
        network("all", ("audio", "rgb"), outputs=ANY),
        network("omni", ("audio",), ("rgb",)),
    )
    found = network_lib.presence(nets, {"present": there, "one_of": {"omni": np.int32(1)}})
    want = {
        "av.audio": [1, 1, 0, 0], "av.rgb": [1, 0, 1, 0], "av.joint": [1, 0, 0, 0], "all": [1, 1, 1, 0],
        "omni.audio": [0, 0, 0, 0], "omni.rgb": [1, 0, 1, 0],
    }  # fmt: skip
    assert {name: flags.astype(int).tolist() for name, flags in found.items()} == want


def test_a_stream_that_the_batch_does_not_know_is_an_error():
    with pytest.raises(KeyError, match="rgb"):
        network_lib.presence((network("rgb", ("rgb",)),), {"present": {"flow": np.ones(2, bool)}})


def scaling():
    """Logits are the input's mean times a weight; ``stats`` count the reads."""

    def init(key, x):
        return {"w": jnp.ones(3)}, {"seen": jnp.zeros(())}

    def apply(params, stats, x, *, train, key):
        return {"logits": {"a": jnp.outer(x.mean((1, 2)), params["w"])}}, {"seen": stats["seen"] + 1}

    return Model(init, apply)


@pytest.mark.parametrize("length", [3, 5], ids=["alike", "longer"])
@pytest.mark.parametrize("choice", [0, 1])
def test_one_read_of_several_runs_alone(choice, length):
    """It is what it would be among all; the others are zeros without a gradient, also where they are longer."""
    omni = Network("omni", scaling(), (("flow",), ("rgb",)))
    inputs = {"flow": jnp.full((2, 3, 4), 2.0), "rgb": jnp.full((2, length, 4), 3.0)}
    params, stats = {"w": jnp.ones(3)}, {"seen": jnp.zeros(())}

    @jax.jit
    def run(params, choice):
        options = dict(train=True, key=jax.random.key(0), choice=choice)
        outputs, new = network_lib.forward(omni, params, stats, inputs, **options)
        return sum(o["logits"]["a"].sum() for o in outputs.values()), (outputs, new)

    (_, (outputs, new)), grads = jax.value_and_grad(run, has_aux=True)(params, jnp.int32(choice))
    values = [float(outputs[o]["logits"]["a"][0, 0]) for o in omni.outputs]
    assert values == [2.0 * (choice == 0), 3.0 * (choice == 1)] and float(new["seen"]) == 1
    np.testing.assert_allclose(grads["w"], 2 * (2.0, 3.0)[choice])


# ---------------------------------------------------------------------------- fusion
HEADS = {"verb": Head(5), "noun": Head(3)}
SMALL = ("tsm_tiny", {"width": 8, "stages": (1,)})
TWO = {"rgb": 3, "flow": 10}


def fusion():
    return build_model("fusion", heads=HEADS, in_channels=TWO, encoders=dict.fromkeys(TWO, SMALL))


def clips(rows=2):
    rng = np.random.default_rng(0)
    return {s: np.float32(rng.normal(size=(rows, 2, 16, 16, c))) for s, c in TWO.items()}


def test_a_fusion_is_its_encoders_and_a_joint_classifier():
    model, x = fusion(), clips()
    params, stats = drawn.weights(model.init, jax.random.key(0), x)
    found, _ = model.apply(params, stats, x, train=False, key=jax.random.key(0))
    for stream, channels in TWO.items():
        alone = build_model(SMALL[0], heads=HEADS, in_channels=channels, **SMALL[1])
        own, _ = alone.apply(params[stream], stats[stream], x[stream], train=False, key=jax.random.key(0))
        jax.tree.map(np.testing.assert_array_equal, found[stream], own)
    features = np.concatenate([found["rgb"]["features"], found["flow"]["features"]], -1)
    for name in ("fc1", "fc2"):
        layer = params["joint"][name]
        features = np.maximum(features @ layer["kernel"] + layer["bias"], 0)
    assert features.shape == (2, 8)
    np.testing.assert_allclose(found["joint"]["features"], features, rtol=1e-4, atol=1e-5)


def test_a_fusion_says_where_its_layers_are():
    model = fusion()
    params, _ = jax.eval_shape(model.init, jax.random.key(0), clips())
    for path in (*model.first_convolutions, *model.classifiers, *model.encoders.values()):
        place = params
        for name in path:
            place = place[name]
    assert model.encoders == {"rgb": ("rgb",), "flow": ("flow",)} and ("joint", "classifier") in model.classifiers


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(encoders={"rgb": "tsm_tiny"}, in_channels={"rgb": 3}), "two or more streams"),
        (dict(encoders={"rgb": "tsm_tiny"}, in_channels=TWO), r"encoders=\{'rgb'"),
        (dict(encoders=dict.fromkeys(TWO, "tsm"), in_channels=TWO), "'tsm' is unknown"),
        (dict(encoders=dict.fromkeys(TWO, SMALL), in_channels=TWO, wdth=8), "wdth"),
    ],
    ids=["one stream", "a stream without", "no such model", "no such option"],
)
def test_fusions_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        build_model("fusion", num_classes=5, **options)


# ---------------------------------------------------------------------------- whole runs
@pytest.fixture(scope="module")
def dataset(once):
    """Eight clips with RGB and flow to learn from, three to validate and three to test."""

    def make(folder):
        rows = [record(i) for i in range(8)] + [record(i, s) for s in ("val", "test") for i in range(3)]
        pack(folder, rows, ["verb"])

    return once("rgb-and-flow", make)


def config(dataset, **changes):
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.batch_size = str(dataset), 16, 8
    c.streams.rgb = common.stream("rgb", frames=2)
    c.streams.flow = common.stream("flow", form="stack5", frames=2)
    c.plan, c.steps.ce, c.save_every, c.log_every = "single", "4", "1", 1
    c.evaluation.batch_size, c.evaluation.splits, c.loader.workers, c.loader.threads = 4, ("test",), 0, 1
    c.schedule = common.schedule(0.01, kind="constant")
    c.update_from_flattened_dict(changes)
    return c


def on_one_device(patch):
    """Whole runs compile faster for one device than for the tests' eight; and the log stays pytest's."""
    mesh = sharding.make_mesh(jax.devices()[:1])
    patch.setattr(sharding, "make_mesh", lambda **given: mesh)
    patch.setattr(train.logs, "setup", lambda workdir: None)


@pytest.fixture
def one_device(monkeypatch):
    on_one_device(monkeypatch)


def stopped_after(step, monkeypatch):
    """The run is asked to end after this step of its last segment."""

    def announce(run, segment, at, *rest):
        if segment is run.segments[-1] and at == step:
            run.stop["signal"] = "SIGTERM"

    monkeypatch.setattr(loop.talk, "announce", announce)


def weights_of(workdir, segment):
    return dict(trees.flatten(files_lib.read(workdir / segment / "weights.safetensors")[0]))


def same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.slow
def test_a_fusion_trains_resumes_and_is_reported(dataset, tmp_path, monkeypatch, one_device):
    c = config(dataset, headline="av.joint")
    c.networks.av = common.fusion(rgb=SMALL, flow=SMALL)
    c.lock()
    train.train(c, str(tmp_path / "whole"))
    outputs = {"av.rgb", "av.flow", "av.joint"}
    scores = file_lib.load(tmp_path / "whole" / "ce" / "scores" / "test.npz")
    assert set(scores.logits) == outputs == set(scores.present) and scores.meta["members"] == ["av.joint"]
    page = (tmp_path / "whole" / "report.html").read_text()
    assert all(output in page for output in outputs)
    logged = (tmp_path / "whole" / "ce" / "metrics.jsonl").read_text()
    assert all(name in logged for name in ("train/av.joint/ce", "train/av.rgb/top1", "train/av/grad_norm"))
    trap.shorten(monkeypatch.setattr)
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        with pytest.raises(loop.Stopped):
            train.train(c, str(tmp_path / "cut"))
    train.train(c, str(tmp_path / "cut"))
    same_weights(weights_of(tmp_path / "whole", "ce"), weights_of(tmp_path / "cut", "ce"))


@pytest.mark.slow
def test_frozen_weights_are_entered_again_not_saved(dataset, tmp_path, monkeypatch, one_device):
    """A resumed student has the teacher of before; another one is refused."""
    monkeypatch.setitem(MODELS, "toy", toy.MODEL)
    trap.shorten(monkeypatch.setattr)
    teaching = {"method.name": "generalized_distillation", "method.generalized_distillation.teacher": "flow"}
    c = config(dataset, plan="compare", compare=("independent", "generalized_distillation"), **teaching)
    c.networks.rgb, c.networks.flow = (common.network("toy", stream) for stream in ("rgb", "flow"))
    c.steps.method = "4"
    c.lock()
    train.train(c, str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        with pytest.raises(loop.Stopped):
            train.train(c, str(tmp_path / "cut"))
    saved = tmp_path / "cut" / "generalized_distillation" / "checkpoints" / "2"
    assert "frozen" in (saved / "_CHECKPOINT_METADATA").read_text()
    for name in ("whole", "cut"):
        with checkpoint.opened(tmp_path / name / "generalized_distillation" / "checkpoints") as opened:
            kept = checkpoint._shapes(opened.checkpointables_metadata(opened.latest.step).metadata["state"])
        assert any(leaf.startswith("params/rgb") for leaf in kept)
        assert not any("flow" in leaf for leaf in kept)
    copy = tmp_path / "other"
    shutil.copytree(tmp_path / "cut", copy)
    path = copy / "independent" / "weights.safetensors"
    tree, metadata = files_lib.read(path)
    changed = {n: jax.tree.map(lambda x, n=n: x + (n == "flow"), kinds) for n, kinds in tree.items()}
    files_lib.save(path, changed, metadata)
    with pytest.raises(ValueError, match=r"network 'flow'.*frozen.*Put back the file"):
        train.train(c, str(copy))
    train.train(c, str(tmp_path / "cut"))
    last = "generalized_distillation"
    same_weights(weights_of(tmp_path / "whole", last), weights_of(tmp_path / "cut", last))


def test_a_group_that_lacks_a_stream_shows_the_rows_of_others():
    """Batch norm sees no black clip, and its statistics follow the group that has the stream."""
    rows = jnp.arange(1, 5, dtype=jnp.uint8).reshape(4, 1, 1, 1, 1)
    x = jnp.broadcast_to(rows, (4, 1, 2, 2, 3))
    groups = {"labelled": (x, True), "unlabelled": (jnp.zeros_like(x), False)}
    batch = {
        name: {"inputs": {"train": {"rgb": frames}}, "present": {"rgb": jnp.full(4, there)}}
        for name, (frames, there) in groups.items()
    }
    of, streams = (("labelled", "train"), ("unlabelled", "train")), {"rgb": Stream("rgb", "rgb")}
    joined = passes._gathered(batch, of, streams, fill=True)["rgb"]
    black = passes._gathered(batch, of[1:], streams, fill=True)["rgb"][0]
    assert len(joined) == 8 and not any(np.array_equal(row, black) for row in joined)
    network = Network("rgb", Model(None, None), (("rgb",),))
    assert bool(passes._seen(network, batch, of)) and not bool(passes._seen(network, batch, of[1:]))
