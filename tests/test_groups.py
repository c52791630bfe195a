"""Groups: clips of several datasets, sizes and views in one batch."""

import types

import fake
import jax
import numpy as np
import optax
import pytest
import toy
from drawn import weights as drawn_weights
from fake import Source
from test_configs import a_state, context, shrunken
from test_pipeline import FLOW, HEADS, RGB, Pictures, same

from mmvid import operations, sharding
from mmvid.data import fields, groups
from mmvid.data.augment import Augment
from mmvid.data.groups import Group, OneOf
from mmvid.methods import METHODS, single
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass
from mmvid.models.model import Model
from mmvid.plans import segment as segment_lib
from mmvid.plans.segment import Context
from mmvid.run import checks, feed, loop

WEAK, STRONG = Augment(scales=(1.0,)), Augment(scales=(0.75,), colour=1.0)
LABELLED = Group("train", 4, {"weak": WEAK})
UNLABELLED = Group("train", 12, {"weak": WEAK, "strong": STRONG}, labels=False, dataset="more")
BOTH = {"labelled": LABELLED, "unlabelled": UNLABELLED}


class Bare(Source):
    """Clips that nobody has labelled, of another dataset: sixteen, of pixel values of their own."""

    def __getitem__(self, row):
        return super().__getitem__(row) | {"label": {}, "id": f"bare{row}"}


def batches(made=None, streams=(RGB,), sources=None, **changes):
    sources = sources or {"labelled": Source(7), "unlabelled": Bare(16)}
    options = dict(heads=HEADS, size=32, seed=5, start=0, stop=9) | changes
    return fake.trained(sources, made or BOTH, streams, **options)


# ---------------------------------------------------------------------------- the loader
def test_two_datasets_have_their_own_sizes_epochs_and_views():
    made = batches()
    rows = {name: np.concatenate([made[i][name]["id"] for i in range(7)]) for name in BOTH}
    for name, clips in (("labelled", 7), ("unlabelled", 16)):
        whole = rows[name][: len(rows[name]) // clips * clips].reshape(-1, clips)
        assert len(whole) >= 4 and (np.sort(whole) == np.arange(clips)).all()
    batch = made[0]
    shapes = {g: {v: x["rgb"].shape for v, x in b["inputs"].items()} for g, b in batch.items()}
    assert shapes == {
        "labelled": {"weak": (4, 4, 32, 32, 3)},
        "unlabelled": {"weak": (12, 4, 32, 32, 3), "strong": (12, 4, 32, 32, 3)},
    }
    assert "label" not in batch["unlabelled"] and batch["labelled"]["label"]["action"].shape == (4,)
    with pytest.raises(ValueError, match=r"'bare.*has no label 'action'"):
        batches({"a": LABELLED}, sources={"a": Bare(16)})[0]


def test_the_middle_of_a_run_and_the_parts_of_a_batch():
    """What a resumed run sees, and what two processes see together."""
    device = {"strong": STRONG._replace(device=("flip",)), "weak": WEAK}
    made = {"labelled": LABELLED, "unlabelled": UNLABELLED._replace(views=device)}
    turns = dict.fromkeys(made, OneOf({"omni": (("rgb",), ("flow",))}, ()))
    options = dict(streams=(RGB, FLOW), one_of=turns)
    whole = batches(made, **options)
    same(whole[5], batches(made, start=5, **options)[0])
    parts = [batches(made, process=(i, 2), **options)[2] for i in range(2)]
    # A number is everybody's; rows are joined.
    joined = jax.tree.map(lambda *x: np.concatenate(x) if x[0].ndim else x[0], *parts)
    same(joined, whole[2])
    same(parts[0]["labelled"]["one_of"], parts[1]["labelled"]["one_of"])


def test_views_show_the_same_frames_decoded_once(monkeypatch):
    read = []
    real = fields.decode_bytes
    monkeypatch.setattr(fields, "decode_bytes", lambda r, f, i: read.append((r["id"], f)) or real(r, f, i))
    group = Group("train", 7, {"weak": WEAK, "strong": WEAK._replace(scales=(0.75,))})
    shown = batches({"a": group}, (RGB, FLOW), {"a": Source()})[0]["a"]["inputs"]
    assert sorted(read) == sorted((f"clip{i}", f) for i in range(7) for f in ("rgb", "flow"))
    # Each frame is of one value, which tells the frame.
    for name in ("rgb", "flow"):
        np.testing.assert_array_equal(shown["weak"][name], shown["strong"][name])


def test_views_differ_in_crops_and_colours_alone_and_the_first_is_as_ever():
    one = Group("train", 4, {"first": WEAK})
    two = one._replace(views={"first": WEAK, "second": STRONG})
    alone, beside = (batches({"a": g}, sources={"a": Pictures(20)})[1]["a"]["inputs"] for g in (one, two))
    np.testing.assert_array_equal(alone["first"]["rgb"], beside["first"]["rgb"])
    assert all((a != b).any() for a, b in zip(beside["first"]["rgb"], beside["second"]["rgb"]))


def test_what_the_device_does_is_drawn_last():
    plain = Group("train", 8, {"weak": WEAK, "strong": STRONG})
    drawn = plain._replace(views={"weak": WEAK, "strong": STRONG._replace(device=("flip", "brightness"))})
    streams = (RGB, FLOW._replace(geometry="other"), *(RGB._replace(name=n, geometry="") for n in ("b", "c")))
    before, after = (batches({"a": g}, streams, {"a": Pictures(20)})[0]["a"] for g in (plain, drawn))
    draws = after.pop("draws")
    same(before, after)
    assert draws.keys() == {"strong"} and draws["strong"].keys() == {"main", "other", "/b", "/c"}
    flips, factors = draws["strong"]["main"]["flip"], draws["strong"]["main"]["brightness"]
    assert flips.shape == factors.shape == (8,) and flips.dtype == bool and factors.dtype == np.float32
    assert 0 < flips.sum() < 8 and len(set(factors.tolist())) == 8 and (np.abs(factors - 1) <= 0.5).all()
    # A stream without a geometry group has draws of its own, but is never mirrored.
    assert draws["strong"]["/b"].keys() == {"brightness"}
    for other in ("other", "/b", "/c"):
        assert (draws["strong"][other]["brightness"] != factors).all()
    assert (draws["strong"]["/b"]["brightness"] != draws["strong"]["/c"]["brightness"]).all()
    shown = after["inputs"]["strong"]["b"]
    brighter = np.round(shown * draws["strong"]["/b"]["brightness"].reshape(8, 1, 1, 1, 1)).clip(0, 255)
    np.testing.assert_array_equal(operations.paint(streams[2], shown, draws["strong"]), brighter)


def test_one_read_a_step_is_decoded(monkeypatch):
    read = []
    real = fields.decode_bytes
    monkeypatch.setattr(fields, "decode_bytes", lambda r, f, i: read.append(f) or real(r, f, i))
    turns = {name: OneOf({"omni": (("rgb",), ("flow",))}, ()) for name in BOTH}
    made = batches(streams=(RGB, FLOW), one_of=turns, stop=20)
    seen = []
    for step in range(8):
        read.clear()
        batch = made[step]
        index = {int(batch[name]["one_of"]["omni"]) for name in BOTH}
        assert len(index) == 1 and batch["labelled"]["one_of"]["omni"].ndim == 0
        seen.append(index.pop())
        name, other = ("rgb", "flow") if seen[-1] == 0 else ("flow", "rgb")
        assert set(read) == {name} and batch["labelled"]["present"][name].all()
        assert not batch["unlabelled"]["present"][other].any()
        assert not batch["unlabelled"]["inputs"]["strong"][other].any()
    assert set(seen) == {0, 1}
    # What somebody needs at every step is there at every step.
    both = batches(streams=(RGB, FLOW), one_of={n: o._replace(always=("rgb",)) for n, o in turns.items()})
    assert all(both[step]["labelled"]["present"]["rgb"].all() for step in range(8))


def test_hidden_labels_are_those_that_would_teach():
    """Turned by the one flip of a clip and of all its views; nothing else of a batch is another one."""
    views = {"weak": WEAK._replace(flip=True, flip_labels=((0, 1), (2, 3)))}
    views["strong"] = views["weak"]._replace(device=("brightness",))
    group, source = Group("train", 16, views), {"a": Pictures(20)}
    told, hidden, bare = (
        batches({"a": group._replace(labels=labels, audit=audit)}, (RGB, FLOW), source)[0]["a"]
        for labels, audit in ((True, False), (False, True), (False, False))
    )
    same(told.pop("label"), turned := hidden.pop("audit"))
    same(told, hidden)
    same(told, bare)
    assert (turned["action"] != told["id"] % 5).any()


@pytest.mark.parametrize(
    "views, match",
    [
        ({}, "has no views"),
        ({"weak": Augment(device=("blur",))}, r"'blur': choose from \['brightness', 'flip', 'pitch_mask', "),
        ({"weak": Augment(device=("flip",), flip_labels=((0, 1),))}, "flip on the device cannot exchange"),
        ({"weak": Augment(), "strong": Augment(flip=True, flip_labels=((0, 1),))}, "same flip and flip_labels"),
        ({"weak": Augment(scales=())}, "scales"),
    ],
    ids=str,
)
def test_views_that_cannot_be(views, match):
    with pytest.raises(ValueError, match=match):
        groups.check("main", Group("train", 4, views), HEADS)


def test_a_draw_is_of_the_operations_that_are_named():
    rng = np.random.default_rng(0)
    assert operations.draw(rng, (), (RGB,)) == {"main": {}} and rng.random() == np.random.default_rng(0).random()


# ---------------------------------------------------------------------------- the segment
def a_segment(monkeypatch, made=None, method="pseudo", **options):
    monkeypatch.setitem(METHODS, "pseudo", toy.make_pseudo)
    config = shrunken("own")
    with config.unlocked():
        config.heads.action, config.loader.threads = (5, "single"), 0
    known = context(config)
    known = Context(config, HEADS, {"dataset": {"train": 7}, "more": {"train": 16}}, known.stills_heads)
    segment = segment_lib.make(
        known, "semi", ("rgb",), (method, {}), options.pop("duration", "3 epochs"), {}, batches="semi",
        title="Semi", groups=made or BOTH, **({"epoch_of": "unlabelled"} | options),
    )  # fmt: skip
    return config, segment


def a_run(config):
    datasets = {
        "dataset": types.SimpleNamespace(split=lambda name: Source(7)),
        "more": types.SimpleNamespace(split=lambda name: Bare(16)),
    }
    return types.SimpleNamespace(config=config, datasets=datasets)


def linear(network):
    """The network with a model that compiles at once."""

    def init(key, x):
        return {"w": jax.random.normal(key, (x.shape[-1], 5))}, {}

    def apply(params, stats, x, *, train, key):
        del train, key
        return {"logits": {"action": x.mean((1, 2, 3)) @ params["w"]}, "features": x.mean((1, 2, 3))}, stats

    return network._replace(model=Model(init, apply))


def test_a_plan_of_two_datasets_learns(monkeypatch):
    """Labelled 4 and unlabelled 12 through the loader and the step that trains, on four devices; the
    strong view's brightness is the device's."""
    views = UNLABELLED.views | {"strong": STRONG._replace(device=("brightness",))}
    config, segment = a_segment(monkeypatch, {**BOTH, "unlabelled": UNLABELLED._replace(views=views)})
    assert segment.steps == 4 and segment.main.batch_size == 12 and segment.dataset == "dataset"
    segment = segment._replace(networks=tuple(map(linear, segment.networks)), tx={"rgb": optax.identity()})
    mesh = sharding.make_mesh(jax.devices()[:4])
    step = jax.jit(loop.make_step(segment, config))
    state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
    first, stream = state.params["rgb"]["w"], feed.train_batches(a_run(config), segment, 0)
    for _ in range(2):
        state, metrics = step(state, sharding.place(mesh, next(stream)))
    stream.close()
    assert int(state.step) == 2 and np.isfinite(metrics["rgb/pseudo"]) and np.isfinite(metrics["rgb/ce"])
    assert (np.asarray(first) != state.params["rgb"]["w"]).all()


def test_a_network_learns_from_the_read_whose_turn_it_is(monkeypatch):
    config, segment = a_segment(monkeypatch)
    streams = {name: segment.streams["rgb"]._replace(name=name) for name in ("one", "two")}
    omni = linear(segment.networks[0])._replace(name="omni", reads=(("one",), ("two",)))

    def terms(results, batch, state, key):
        del state, key
        return {"ce": terms_lib.task_term(results["labelled", "weak"], batch["labelled"], omni.outputs, HEADS)}

    segment = segment._replace(
        networks=(omni,), streams=streams, method=Method(terms, (Pass((("labelled", "weak"),), one_of=True),)),
        groups={"labelled": LABELLED}, epoch_of="labelled", tx={"omni": optax.identity()},
        lr={"omni": segment.lr["rgb"]},
    )  # fmt: skip
    mesh, step = sharding.make_mesh(jax.devices()[:4]), jax.jit(loop.make_step(segment, config))
    state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
    for batch in feed.train_batches(a_run(config), segment, 0):
        turn = int(batch["labelled"]["one_of"]["omni"])
        state, metrics = step(state, sharding.place(mesh, batch))
        learnt = [float(metrics.get(f"omni.{name}/ce", 0)) > 0 for name in ("one", "two")]
        assert learnt == [turn == 0, turn == 1]
    assert int(state.step) == segment.steps


@pytest.mark.parametrize(
    "made, method, match",
    [
        (BOTH, "single", "reads view 'train' of group 'main'; its groups have"),
        ({**BOTH, "unlabelled": LABELLED}, "pseudo", "reads view 'strong' of group 'unlabelled'"),
        ({**BOTH, "labelled": LABELLED._replace(views=UNLABELLED.views)}, "pseudo", "decoded for nothing"),
        ({**BOTH, "unlabelled": UNLABELLED._replace(split="al")}, "pseudo", "split 'al' of 'more'.*subset"),
        ({**BOTH, "labelled": LABELLED._replace(dataset="x")}, "pseudo", r"'x'; there are .*c\.datasets\.x"),
    ],
    ids=["view", "group", "idle", "split", "dataset"],
)
def test_groups_and_passes_must_agree(monkeypatch, made, method, match):
    with pytest.raises(ValueError, match=match):
        a_segment(monkeypatch, made, method)


def test_each_group_divides(monkeypatch):
    config, segment = a_segment(monkeypatch)
    mesh = sharding.make_mesh(jax.devices()[:4])
    checks.check_batches(config, mesh, [segment])
    with pytest.raises(ValueError, match=r"group 'unlabelled'.*=12 cannot be split evenly over 8 devices"):
        uneven = segment._replace(groups={"labelled": LABELLED._replace(batch_size=8), "unlabelled": UNLABELLED})
        checks.check_batches(config, sharding.make_mesh(), [uneven])
    with config.unlocked():
        config.accumulate = 8
    with pytest.raises(ValueError, match="accumulate=8 does not divide the batch of 4 of group 'labelled'"):
        checks.check_batches(config, mesh, [segment])


def test_reads_in_turn_are_those_of_the_passes(monkeypatch):
    _, segment = a_segment(monkeypatch)
    rgb = segment.networks[0]
    omni, teacher = (rgb._replace(name=n, reads=(("rgb",), ("flow",))) for n in ("omni", "teacher"))
    passes = (
        Pass((("labelled", "weak"),), one_of=True),
        Pass((("unlabelled", "weak"),), train=False),
        Pass((("unlabelled", "strong"),), one_of=True),
        Pass((("labelled", "weak"),), weights="frozen"),
    )
    several = segment._replace(
        networks=(rgb, omni, teacher._replace(frozen=True)), method=segment.method._replace(passes=passes)
    )
    turns = feed.one_of(several)
    assert set(turns) == {"labelled", "unlabelled"}
    assert turns["labelled"].choices == {"omni": omni.reads} == turns["unlabelled"].choices
    assert set(turns["labelled"].always) == {"rgb", "flow"} == set(turns["unlabelled"].always)
    assert feed.one_of(segment) == {}
    assert single.make(("rgb",), HEADS).passes == (Pass(),)


def test_every_group_and_view_counts_in_memory(monkeypatch):
    config, segment = a_segment(monkeypatch)
    run = types.SimpleNamespace(config=config)
    batch = batches(streams=tuple(segment.streams.values()))
    made = sum(x.nbytes for group in batch[0].values() for x in jax.tree.leaves(group["inputs"]))
    assert feed._train_bytes(run, segment) == made
    monkeypatch.setattr(feed.memory, "available", lambda: 1000)
    with pytest.raises(ValueError, match=r"batch_size=4\+12 \(groups labelled, unlabelled; a clip once a view\)"):
        feed._check_training(run, segment)


def test_a_labelled_group_has_the_segments_labels(monkeypatch):
    _, segment = a_segment(monkeypatch)

    def there(heads):
        return {"dataset": types.SimpleNamespace(root="data/x", info=heads)}

    checks.check_groups([segment], there(HEADS), lambda info: info)  # the unlabelled one needs none
    for heads, match in (
        ({}, r"\[\] have no 'action' of the same 5 classes.*labels=False"),
        ({"action": HEADS["action"]._replace(classes=6)}, "no 'action' of the same"),
        ({"action": HEADS["action"]._replace(kind="multi")}, "no 'action' of the same"),
    ):
        with pytest.raises(ValueError, match=match):
            checks.check_groups([segment], there(heads), lambda info: info)
