"""The joint step: equal to separate ones bit for bit, over devices, microbatches and averages."""

import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmvid import infer, logs, passes, sharding, step
from mmvid import network as network_lib
from mmvid.methods import METHODS
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass, Term, group_without
from mmvid.models import build_model
from mmvid.models.model import Model, Needs
from mmvid.network import Network
from mmvid.streams import Head, Sampling, Stream
from mmvid.terms import accuracy, reduce_terms

HEADS = {"action": Head(5)}
STREAMS = {
    "rgb": Stream("rgb", "rgb", Sampling("uniform", 2)),
    "flow": Stream("flow", "flow", Sampling("uniform", 2), "stack5"),
}
SIZE = 16
LR = dict.fromkeys((*STREAMS, "both", "a", "b", "all", "omni"), optax.constant_schedule(0.1))


def networks(dropout=0.0, width=8):
    options = dict(heads=HEADS, width=width, stages=(1,), dropout=dropout)
    return tuple(
        Network(name, build_model("tsm_tiny", in_channels=c, **options), ((name,),))
        for name, c in (("flow", 10), ("rgb", 3))
    )


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda c: rng.integers(0, 256, (size, 2, 16, 16, c), dtype=np.uint8)  # noqa: E731
    return {
        "main": {
            "inputs": {"train": {"rgb": draw(3), "flow": draw(10)}},
            "label": {"action": rng.integers(0, 5, size).astype(np.int32)},
            "mask": np.ones(size, bool),
            "present": {name: np.ones(size, bool) for name in STREAMS},
            "id": np.arange(size, dtype=np.int32),
        }
    }


def transforms(nets, clip=1.0):
    make = lambda: optax.chain(optax.clip_by_global_norm(clip), optax.trace(0.9))  # noqa: E731
    return {n.name: make() for n in nets if not n.frozen}


def weights_of(nets):
    return drawn.weights(lambda key: network_lib.init_params(nets, STREAMS, SIZE, key), jax.random.key(0))


def start(nets, method, tx, ema=False):
    state = network_lib.init_state(nets, *weights_of(nets), method, tx, jax.random.key(3), ema=ema)
    return jax.device_put(state)


def trained(nets, method, batches, **options):
    tx = transforms(nets)
    state = start(nets, method, tx, ema=bool(options.get("ema")))
    run = jax.jit(step.make_train_step(nets, STREAMS, method, tx, LR, **options))
    for b in batches:
        state, metrics = run(state, b)
    return state, metrics


def alone(method, peers, own, whole):
    """``method`` for one network, its peers' outputs and the ``whole`` batch's presence given as constants from
    outside."""

    def terms(results, batch, state, key):
        group = {name: part | {"present": whole[name]["present"]} for name, part in batch.items()}
        merged = {read: peers[read] | outputs for read, outputs in results.items()}
        found = method.terms(merged, group, state, key)
        rows = {n: t.outputs.index(own) for n, t in found.items() if own in t.outputs}
        return {
            n: Term((own,), found[n].values[i : i + 1], found[n].mask[i : i + 1], found[n].weight[i : i + 1])
            for n, i in rows.items()
        }

    return method._replace(terms=terms)


def as_read(b, method):
    """The batch in the groups and views that a method reads, each of which shows the same clips."""
    own, read = b["main"], {of for pass_ in method.passes for of in pass_.of}
    views = {group: {view: own["inputs"]["train"] for of, view in read if of == group} for group, _ in read}
    return {group: {**own, "inputs": shown, "audit": own["label"]} for group, shown in views.items()}


# Options by which networks that have learnt nothing label some clips.
SURE = {"fixmatch": {"threshold": 0.4}, "cmpl": {"threshold": 0.4}}
# Where a teacher is frozen, there is nothing joint about it.
FROZEN = ("generalized_distillation", "distillation", "mars", "d3d", "kd")
JOINT = [n for n in METHODS if n not in ("independent", *FROZEN)]
QUICK = ("mml",)
# XLA fuses the others' sums over networks in another order when one of them stands alone.
ROUNDED = ("dmcl", "smcl", "cmcl", "random_teacher")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in JOINT])
def test_joint_equals_separate_bit_for_bit(name):
    """Three updates; a separate step sees the peers' logits only as numbers."""
    nets, method = networks(), METHODS[name](("flow", "rgb"), HEADS, **SURE.get(name, {}))
    if not method.disjoint:
        pytest.skip(f"not disjoint: {method.reason}")
    tx = transforms(nets)
    joint = start(nets, method, tx)
    single = {n.name: start((n,), method, tx) for n in nets}
    run = jax.jit(step.make_train_step(nets, STREAMS, method, tx, LR))

    @functools.partial(jax.jit, static_argnums=0)
    def forward(i, state, b):
        n = nets[i]
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 0)
        weights = {n.name: {"params": state.params[n.name], "stats": state.stats[n.name]}}
        return passes._run_pass(method.passes[0], (n,), weights, b, STREAMS, key)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def own(i, state, peers, b):
        n, peers = nets[i], jax.lax.stop_gradient(peers)
        own_tx, own_method = {n.name: tx[n.name]}, alone(method, peers, n.name, b)
        return step.make_train_step((n,), STREAMS, own_method, own_tx, LR)(state, b)

    for seed in range(3):
        b = jax.tree.map(jnp.asarray, as_read(batch(seed=seed), method))
        outputs = {}
        for i, network in enumerate(nets):
            for read, result in forward(i, single[network.name], b).items():
                outputs[read] = outputs.get(read, {}) | result
        for i, network in enumerate(nets):
            single[network.name], _ = own(i, single[network.name], outputs, b)
        joint, _ = run(joint, b)
    for network in nets:
        for kind in ("params", "stats", "opt_state"):
            both = getattr(joint, kind)[network.name], getattr(single[network.name], kind)[network.name]
            same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7)
            jax.tree.map(same if name in ROUNDED else np.testing.assert_array_equal, *both)


def test_clipping_stays_inside_a_network():
    nets = networks()
    both, _ = trained(nets, METHODS["single"](("flow", "rgb"), HEADS), [batch()])
    one, _ = trained(nets[1:], METHODS["single"](("rgb",), HEADS), [batch()])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), both.params["rgb"], one.params["rgb"])


def test_eight_devices_are_one():
    nets, method = networks(), METHODS["mml"](("flow", "rgb"), HEADS)
    tx = transforms(nets)
    found = {}
    for count in (1, 8):
        mesh = sharding.make_mesh(jax.devices()[:count])
        state = jax.device_put(jax.device_get(start(nets, method, tx)), sharding.replicated(mesh))
        run = step.jit_train_step(step.make_train_step(nets, STREAMS, method, tx, LR), sharding.replicated(mesh))
        for seed in range(2):
            state, metrics = run(state, sharding.place(mesh, batch(seed=seed)))
        found[count] = jax.device_get((state.params, state.stats, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found[1], found[8])


@pytest.mark.slow
def test_devices_that_share_the_parameters_are_one():
    """Momentum and a moving average are shared out, too: a quarter of the bytes on each device."""
    nets, method = networks(width=32), METHODS["mml"](("flow", "rgb"), HEADS)
    tx = transforms(nets)
    found, shares = {}, {}
    for fsdp in (1, 4):
        mesh = sharding.make_mesh(fsdp=fsdp)
        host = jax.device_get(start(nets, method, tx, ema=True))
        state = jax.device_put(host, sharding.shared(mesh, host))
        made = step.make_train_step(nets, STREAMS, method, tx, LR, ema=0.5)
        run = step.jit_train_step(made, sharding.replicated(mesh), state)
        for seed in range(2):
            state, metrics = run(state, sharding.place(mesh, batch(seed=seed)))
        large = [x for x in jax.tree.leaves((state.params, state.opt_state, state.ema)) if x.size >= 1024]
        shares[fsdp] = sum(x.addressable_shards[0].data.nbytes for x in large) / sum(x.nbytes for x in large)
        found[fsdp] = jax.device_get((state.params, state.stats, state.opt_state, state.ema, metrics))
    assert shares == {1: 1, 4: 0.25}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found[1], found[4])


def test_the_donated_state_keeps_its_frozen_part():
    nets, method = linear(("flow",)), METHODS["single"](("rgb",), HEADS)
    tx, mesh = transforms(nets), sharding.make_mesh()
    state = jax.device_put(jax.device_get(start(nets, method, tx)), sharding.replicated(mesh))
    assert set(state.frozen) == {"flow"} and set(state.params) == {"rgb"}
    run = step.jit_train_step(step.make_train_step(nets, STREAMS, method, tx, LR), sharding.replicated(mesh))
    new, _ = run(state, sharding.place(mesh, batch()))
    assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
    jax.tree.map(np.testing.assert_array_equal, new.frozen, state.frozen)


def test_frozen_and_averaged_passes_reach_the_method():
    nets = networks()
    nets = (nets[0]._replace(frozen=True), nets[1])

    def terms(results, group, state, key):
        teacher = results["main", "train"]["flow"]["logits"]["action"]
        own = results["main", "train"]["rgb"]["logits"]["action"]
        values = ((own - jax.lax.stop_gradient(teacher)) ** 2).mean(-1)[None]
        mask = group["main"]["mask"][None]
        return {"mse": Term(("rgb",), values, mask, jnp.ones(1))}

    both = (Pass(weights="params"), Pass(weights="frozen", train=False))
    state, metrics = trained(nets, Method(terms, both), [batch(), batch(seed=1)], ema=0.5)
    assert metrics["rgb/mse"] > 0 and set(state.ema["params"]) == {"rgb"}


def linear(teachers=()):
    """Networks without batch norm, whose microbatches do not differ by design. ``stats`` counts the
    forwards in training mode; in that mode the logits are three times as large."""

    def init(key, x):
        return {"w": jax.random.normal(key, (x.shape[-1], 5))}, {"seen": jnp.zeros(())}

    def apply(params, stats, x, *, train, key):
        logits = (3 if train else 1) * x.mean((1, 2, 3)) @ params["w"]
        return {"logits": {"action": logits}, "features": x}, {"seen": stats["seen"] * 2 + train}

    return tuple(Network(n, Model(init, apply), ((n,),), n in teachers) for n in STREAMS)


def sparse(size=16):
    """A batch of which no microbatch of two or four is like another: the first of four has no flow."""
    b = batch(size)
    b["main"]["present"]["flow"] = np.isin(np.arange(size), (1, 2, 5, 6, 7, 10))
    b["main"]["present"]["rgb"] = np.arange(size) % 5 > 0
    b["main"]["mask"] = np.arange(size) != 6
    return b


# A lot drawn for a batch is another one for its parts; of features, which are inputs here, none can be another's.
@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("random_teacher", "independent", "mars")])
def test_microbatches_are_the_whole_batch(name):
    """Gradients and metrics, whichever microbatch lacks a modality."""
    several = {"teachers": ("flow",), "weight": 0.8}
    one = {student: {"teacher": "flow"} for student in ("generalized_distillation", "d3d", "kd")}
    options = (one | {"distillation": several}).get(name, {})
    method = METHODS[name](("flow", "rgb"), HEADS, **(options | SURE.get(name, {})))
    nets = linear(method.teachers)
    tx = transforms(nets)
    state = start(nets, method, tx)
    runs = [jax.jit(step.make_train_step(nets, STREAMS, method, tx, LR, accumulate=n)) for n in (1, 4)]
    for b in [as_read(made, method) for made in (batch(16), sparse(16))]:
        whole, parts = ((new.params, metrics) for new, metrics in (run(state, b) for run in runs))
        assert whole[1].keys() == parts[1].keys()
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), whole, parts)


def test_microbatches_over_eight_devices_are_the_whole_batch():
    nets, method = linear(), METHODS["mml"](("flow", "rgb"), HEADS)
    tx, mesh = transforms(nets), sharding.make_mesh()
    state = jax.device_put(jax.device_get(start(nets, method, tx)), sharding.replicated(mesh))
    parts = step.make_train_step(nets, STREAMS, method, tx, LR, accumulate=2)
    run = step.jit_train_step(parts, sharding.replicated(mesh))
    many = run(state, sharding.place(mesh, sparse()))
    one = trained(nets, method, [sparse()])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        (one[0].params, one[1]),
        (many[0].params, many[1]),
    )


def test_batch_statistics_go_from_one_microbatch_to_the_next():
    method = METHODS["single"](("flow", "rgb"), HEADS)
    state, _ = trained(linear(), method, [batch(8)], accumulate=4)
    assert float(state.stats["rgb"]["seen"]) == 0b1111


def two_views(size=8):
    b = batch(size)
    b["main"]["inputs"]["weak"] = batch(size, seed=9)["main"]["inputs"]["train"]
    return b


def test_every_forward_draws_its_own_noise():
    """A key of its own for every step, microbatch, pass and read, and for every network."""

    def init(key, x):
        return {"w": jax.random.normal(key, (5,))}, {"draws": jnp.zeros(16)}

    def apply(params, stats, x, *, train, key):
        logits = jnp.broadcast_to(params["w"], (len(x), 5))
        return {"logits": {"action": logits}}, {"draws": jnp.append(stats["draws"][1:], jax.random.uniform(key))}

    method = METHODS["single"](("flow", "rgb"), HEADS)
    views = (Pass((("main", "train"),)), Pass((("main", "weak"),)))
    shared = (Network("both", Model(init, apply), (("flow",), ("rgb",))),)
    over = METHODS["single"](("both.flow", "both.rgb"), HEADS)._replace(passes=views)
    state, _ = trained(shared, over, [two_views(), two_views()], accumulate=2)
    assert len(np.unique(state.stats["both"]["draws"])) == 16
    apart = tuple(Network(n, Model(init, apply), ((n,),)) for n in STREAMS)
    assert not np.array_equal(*(start(apart, method, transforms(apart)).params[n]["w"] for n in STREAMS))
    state, _ = trained(apart, method, [batch()])
    assert len({float(state.stats[n]["draws"][-1]) for n in STREAMS}) == 2


def test_the_views_of_a_pass_are_told_apart_again():
    nets, both = linear(), Pass((("main", "train"), ("main", "weak")), train=False)
    params, stats = network_lib.init_params(nets, STREAMS, SIZE, jax.random.key(0))
    weights = {n: {"params": params[n], "stats": stats[n]} for n in STREAMS}
    run = lambda pass_: passes._run_pass(pass_, nets, weights, two_views(), STREAMS, jax.random.key(1))[0]  # noqa: E731
    found = run(both)
    for view in ("train", "weak"):
        alone = run(Pass((("main", view),), train=False))["main", view]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found["main", view], alone)


def test_a_frozen_teacher_is_in_evaluation_mode():
    """Its logits are as they are there, and its statistics stay."""
    method = METHODS["generalized_distillation"](("flow", "rgb"), HEADS, teacher="flow", weight=1.0)
    nets = linear(("flow",))
    tx = transforms(nets)
    first = start(nets, method, tx)
    state, metrics = jax.jit(step.make_train_step(nets, STREAMS, method, tx, LR))(first, batch())
    inputs = batch()["main"]["inputs"]["train"]
    views = {"main": {"inputs": {"test": {n: x[:, None] for n, x in inputs.items()}}}}
    whole = {
        n: {**first.frozen, "rgb": {"params": first.params["rgb"], "stats": first.stats["rgb"]}}[n]
        for n in STREAMS
    }
    params, stats = ({n: whole[n][kind] for n in STREAMS} for kind in ("params", "stats"))
    logits = infer.make_predict(linear(), STREAMS)(params, stats, views)
    teacher, own = (logits[n]["action"][:, 0] for n in ("flow", "rgb"))
    soft = -(jax.nn.softmax(teacher / 2) * jax.nn.log_softmax(3 * own / 2)).sum(-1).mean()
    np.testing.assert_allclose(metrics["rgb/distill"], soft, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, first.frozen)


def test_moving_average():
    """Of the weights and of the batch statistics, from the first step on."""
    nets, method = linear(), METHODS["single"](("flow", "rgb"), HEADS)
    before = start(nets, method, transforms(nets), ema=True)
    after, _ = trained(nets, method, [batch()], ema=0.9)
    for kind in ("params", "stats"):
        old, new = getattr(before, kind), getattr(after, kind)
        assert not jax.tree.all(jax.tree.map(np.array_equal, old, new))
        want = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, new)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema[kind], want)
    assert network_lib.final_weights(after) is after.ema


def test_an_output_without_a_term_is_refused():
    """Its classifier would stay as it was drawn."""
    with pytest.raises(ValueError, match=r"'flow' of network 'flow' would learn nothing.*about \['rgb'\]"):
        trained(linear(), METHODS["single"](("rgb",), HEADS), [batch()])
    trained(linear(("flow",)), METHODS["single"](("rgb",), HEADS), [batch()])


def test_masked_rows_do_not_count():
    one = jnp.array([[1.0, jnp.nan, 3.0]])
    term = Term(("rgb",), one, jnp.array([[True, False, True]]), jnp.array([2.0]))
    loss, metrics = reduce_terms({"ce": term})
    assert float(loss) == 4.0 and float(metrics["rgb/ce"]) == 2.0
    both = Term(("rgb", "flow"), jnp.ones((2, 3)), jnp.ones((2, 3), bool), jnp.ones(2))
    assert float(reduce_terms({"ce": both, "kl": both})[0]) == 4.0  # a sum over outputs and terms


def test_training_accuracy_is_of_what_is_there():
    """Padding and absent streams are no examples; labels of several classes are not counted."""
    logits = {"action": jnp.eye(5)[jnp.array([0, 1, 2, 3])], "tags": jnp.ones((4, 2))}
    group = {
        "label": {"action": jnp.array([0, 1, 0, 0]), "tags": jnp.ones((4, 2))},
        "mask": jnp.array([True, True, True, False]),
        "present": {"flow": jnp.array([True, False, True, True]), "rgb": jnp.ones(4, bool)},
    }
    outputs = {("main", "train"): {n: {"logits": logits} for n in ("flow", "rgb")}}
    found = accuracy(outputs, {"main": group})
    assert found.keys() == {"flow/top1_action", "rgb/top1_action"}
    assert float(found["flow/top1_action"]) == 0.5
    np.testing.assert_allclose(found["rgb/top1_action"], 2 / 3, rtol=1e-6)


# ---------------------------------------------------------------------------- absent modalities
def lacking(rows, name="flow"):
    """A batch whose ``rows`` lack a stream: black clips, as the loader gives them."""
    b = batch()
    there = ~np.isin(np.arange(8), rows)
    b["main"]["present"][name] = there
    b["main"]["inputs"]["train"][name][~there] = 0
    return b


def test_absent_rows_show_present_ones_in_turn():
    x = jnp.arange(6)[:, None] * 10
    fill = lambda *there: passes._fill_absent(x, jnp.array(there, bool))[:, 0].tolist()  # noqa: E731
    assert fill(1, 1, 1, 1, 1, 1) == [0, 10, 20, 30, 40, 50]
    assert fill(0, 1, 0, 1, 1, 0) == [10, 10, 40, 30, 40, 40]
    assert len(fill(0, 0, 0, 0, 0, 0)) == 6  # nothing to show; nothing is asked


def test_black_clips_of_absent_streams_teach_nothing():
    """Neither weights nor batch norm know what stands in the rows that lack a stream."""
    nets, method = networks(), METHODS["dmcl"](("flow", "rgb"), HEADS)
    black, noise = lacking([1, 4, 5]), lacking([1, 4, 5])
    noise["main"]["inputs"]["train"]["flow"][[1, 4, 5]] = 201
    tx = transforms(nets)
    run, first = jax.jit(step.make_train_step(nets, STREAMS, method, tx, LR)), start(nets, method, tx)
    one, other = (run(first, b)[0] for b in (black, noise))
    for kind in ("params", "stats"):
        jax.tree.map(np.testing.assert_array_equal, getattr(one, kind), getattr(other, kind))


def test_a_batch_without_a_modality_leaves_its_network_as_it_is():
    nets, method = networks(), METHODS["dmcl"](("flow", "rgb"), HEADS)
    state, metrics = trained(nets, method, [lacking(range(8))])
    first = start(nets, method, transforms(nets))
    for kind in ("params", "stats"):
        before, after = getattr(first, kind), getattr(state, kind)
        jax.tree.map(np.testing.assert_array_equal, before["flow"], after["flow"])
        assert not jax.tree.all(jax.tree.map(np.array_equal, before["rgb"], after["rgb"]))
    assert float(metrics["flow/grad_norm"]) == 0 and float(metrics["rgb/win"]) == 1


def test_predict_folds_views():
    nets = networks()
    state = start(nets, METHODS["single"](("flow", "rgb"), HEADS), transforms(nets))
    predict = jax.jit(infer.make_predict(nets, STREAMS))
    inputs = batch(6)["main"]["inputs"]["train"]
    views = {name: x.reshape(2, 3, *x.shape[1:]) for name, x in inputs.items()}
    found = predict(state.params, state.stats, {"main": {"inputs": {"test": views}}})
    flat = {name: x[:, None] for name, x in inputs.items()}
    want = predict(state.params, state.stats, {"main": {"inputs": {"test": flat}}})
    assert found["rgb"]["action"].shape == (2, 3, 5)
    np.testing.assert_allclose(found["rgb"]["action"].reshape(6, 5), want["rgb"]["action"][:, 0], atol=1e-5)


def test_describe_is_the_mean_over_views():
    nets = networks()
    params, stats = weights_of(nets)
    views = {n: np.stack([x, x[:, ::-1]], 1) for n, x in batch()["main"]["inputs"]["train"].items()}
    describe = jax.jit(infer.make_describe(nets, STREAMS))
    ask = lambda x: describe(params, stats, {"main": {"inputs": {"test": x}}})  # noqa: E731
    both = ask(views)
    each = [ask({n: x[:, v : v + 1] for n, x in views.items()}) for v in range(2)]
    for name in STREAMS:
        assert both[name].shape[0] == 8
        np.testing.assert_allclose(both[name], (each[0][name] + each[1][name]) / 2, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------- outputs, openings
def test_two_networks_on_one_stream_both_learn():
    one, other = (n._replace(reads=(("rgb",),)) for n in linear())
    nets = (one._replace(name="a"), other._replace(name="b"))
    method = METHODS["mml"](("a", "b"), HEADS)
    state, metrics = trained(nets, method, [batch()])
    first = start(nets, method, transforms(nets))
    for name in "ab":
        assert not np.array_equal(state.params[name]["w"], first.params[name]["w"])
        assert metrics[f"{name}/grad_norm"] > 0 and f"{name}/ce" in metrics


def single(*outputs, group="main"):
    """Cross-entropy of ``outputs`` as a group shows them."""

    def terms(results, batch, state, key):
        return {"ce": terms_lib.task_term(results[group, "train"], batch[group], outputs, HEADS)}

    return Method(terms)


def attentive():
    """One classifier for every subset of the streams: the mean of a linear map of those that are there."""

    def init(key, x):
        return {s: jnp.outer(jnp.ones(x[s].shape[-1]), jnp.arange(1.0, 6)) for s in x}, {}

    def apply(params, stats, x, *, train, key, present):
        there = {s: present[s].astype(jnp.float32)[:, None] for s in x}
        total = sum(there[s] * (x[s].mean((1, 2, 3)) @ params[s]) for s in sorted(x))
        return {"logits": {"action": total / jnp.maximum(sum(there.values()), 1)}}, stats

    return (Network("all", Model(init, apply, {"": Needs(how="any")}), (("flow", "rgb"),)),)


def test_a_model_of_any_streams_is_told_who_is_there():
    """A clip counts where one of its streams is there; what stands in place of the other says nothing."""
    nets, b = attentive(), lacking([1, 4])
    b["main"]["present"]["rgb"] = ~np.isin(np.arange(8), [4, 5])
    spoilt = jax.tree.map(np.array, b)
    spoilt["main"]["inputs"]["train"]["flow"][[1, 4]] = 201
    spoilt["main"]["inputs"]["train"]["rgb"][[4, 5]] = 99
    method = single("all")
    counted = step.make_counts(nets, STREAMS, method)(start(nets, method, transforms(nets)), b, jax.random.key(0))
    assert int(counted["ce"][0]) == 7  # the fifth clip has nothing
    (one, seen), (other, same) = (trained(nets, method, [b]) for b in (b, spoilt))
    jax.tree.map(np.testing.assert_array_equal, (one.params, seen["all/ce"]), (other.params, same["all/ce"]))
    views = {n: x[:, None] for n, x in b["main"]["inputs"]["train"].items()}
    test = {"main": {"inputs": {"test": views}, "present": b["main"]["present"]}}
    scores = jax.jit(infer.make_predict(nets, STREAMS))(one.params, one.stats, test)["all"]["action"]
    assert scores.shape == (8, 1, 5) and np.any(scores, (1, 2)).tolist() == [True] * 4 + [False] + [True] * 3


def test_a_pass_hides_streams():
    """What it hides is absent, and what stands there reaches nothing; the whole group stands beside it."""
    nets, passed = attentive(), (Pass(), Pass(hide=("rgb",)))
    assert group_without("main", ("rgb",)) == "main-rgb"
    method = single("all", group="main-rgb")._replace(passes=passed)
    b = lacking([1, 4])
    other = jax.tree.map(np.array, b)
    other["main"]["inputs"]["train"]["rgb"][:] = 3
    one, two = (trained(nets, method, [b])[0].params["all"] for b in (b, other))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    first = start(nets, method, transforms(nets)).params["all"]
    np.testing.assert_array_equal(one["rgb"], first["rgb"])
    assert not np.array_equal(one["flow"], first["flow"])
    counted = step.make_counts(nets, STREAMS, method)(start(nets, method, transforms(nets)), b, jax.random.key(0))
    assert int(counted["ce"][0]) == 6 and int(counted["all/top1"]) == 8


def test_two_passes_that_hide_each_other_are_refused():
    method = single("flow", "rgb")._replace(passes=(Pass(), Pass(weights="ema", train=False)))
    with pytest.raises(ValueError, match=r"two passes give the output 'flow'.*of another view"):
        trained(linear(), method, [batch()], ema=0.5)


STILL = {n: s._replace(form="frames", modality="rgb") for n, s in STREAMS.items()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_of_several_streams_a_step(accumulate):
    """The step equals that of a network of the chosen stream alone; nothing is logged of the other."""
    rgb, still = linear()[0], lambda: batch()["main"]["inputs"]["train"]["rgb"]
    omni = (Network("omni", rgb.model, (("flow",), ("rgb",))),)
    b = batch()
    b["main"]["inputs"]["train"] = {"flow": 255 - still(), "rgb": still()}
    method = single("omni.flow", "omni.rgb")._replace(passes=(Pass(one_of=True),))
    tx = transforms(omni)
    params, stats = drawn.weights(rgb.model.init, jax.random.key(0), jnp.zeros((1, 2, 16, 16, 3)))
    make = lambda nets, method: network_lib.begin(network_lib.beginning(  # noqa: E731
        nets, {"omni": params}, {"omni": stats}), method, tx, jax.random.key(3))  # fmt: skip
    run = jax.jit(step.make_train_step(omni, STILL, method, tx, LR, accumulate=accumulate))
    state = jax.device_put(make(omni, method))
    with pytest.raises(ValueError, match="does not say which"):
        run(state, b)
    for index, stream in enumerate(("flow", "rgb")):
        there = {n: np.full(8, n == stream) for n in STREAMS}
        drawn_batch = {"main": b["main"] | {"one_of": {"omni": np.int32(index)}, "present": there}}
        new, metrics = run(state, drawn_batch)
        alone = (Network("omni", rgb.model, ((stream,),)),)
        own = step.make_train_step(alone, STILL, single("omni"), tx, LR, accumulate=accumulate)
        want, _ = jax.jit(own)(jax.device_put(make(alone, single("omni"))), b)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new.params, want.params)
        # Batch statistics are those of the first read, not a mixture.
        known = want.stats if index == 0 else state.stats
        jax.tree.map(np.testing.assert_array_equal, new.stats, known)
        logged = logs._floats(metrics)
        assert f"omni.{stream}/ce" in logged and {n for n in logged if n.startswith("omni.")} == {
            f"omni.{stream}/ce",
            f"omni.{stream}/top1",
        }


def test_a_number_of_a_batch_goes_to_every_device():
    mesh = sharding.make_mesh()
    placed = sharding.place(mesh, {"x": np.arange(8), "choice": np.int32(1)})
    assert placed["choice"].sharding.is_fully_replicated and int(placed["choice"]) == 1
    assert not placed["x"].sharding.is_fully_replicated


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_state_of_a_method_follows_the_outputs(accumulate):
    """Prototypes: the mean logits of every class, of the whole batch."""

    def follow(state, metrics, outputs, batch):
        del metrics
        group, own = batch["main"], outputs["main", "train"]["rgb"]["logits"]["action"]
        of = jax.nn.one_hot(group["label"]["action"], 5) * (group["mask"] & group["present"]["rgb"])[:, None]
        return {"sum": state["sum"] + of.T @ own}

    method = METHODS["single"](("flow", "rgb"), HEADS)
    method = method._replace(init=lambda: {"sum": jnp.zeros((5, 5))}, update=follow)
    nets, b = linear(), sparse()
    state, _ = trained(nets, method, [b], accumulate=accumulate)
    inputs = {n: x[:, None] for n, x in b["main"]["inputs"]["train"].items()}
    first = start(nets, method, transforms(nets))
    predict = jax.jit(infer.make_predict(nets, STREAMS))
    logits = 3 * predict(first.params, first.stats, {"main": {"inputs": {"test": inputs}}})["rgb"]["action"][:, 0]
    rows = b["main"]["mask"] & b["main"]["present"]["rgb"]
    want = np.eye(5)[b["main"]["label"]["action"]].T @ (np.asarray(logits) * rows[:, None])
    np.testing.assert_allclose(state.method["sum"], want, rtol=1e-4, atol=1e-5)


def test_a_method_changes_gradients_before_they_are_clipped():
    """An encoder that is ahead is slowed down, as OGM-GE does; what comes after sees the new gradients."""

    def slow(grads, encoders, state, metrics):
        assert encoders == {"flow": {}, "rgb": {"rgb": ("w",)}}
        (name,) = encoders["rgb"]["rgb"]
        return grads | {"rgb": {name: grads["rgb"][name] * 0 * metrics["rgb/ce"]}}

    rgb, flow = linear()
    nets = (flow, rgb._replace(model=rgb.model._replace(encoders={"rgb": ("w",)})))
    plain = METHODS["single"](("flow", "rgb"), HEADS)
    (slowed, metrics), (free, _) = (trained(nets, m, [batch()]) for m in (plain._replace(gradients=slow), plain))
    first = start(nets, plain, transforms(nets))
    np.testing.assert_array_equal(slowed.params["rgb"]["w"], first.params["rgb"]["w"])
    np.testing.assert_array_equal(slowed.params["flow"]["w"], free.params["flow"]["w"])
    assert float(metrics["rgb/grad_norm"]) == 0


def test_openings_that_nobody_uses_cost_nothing():
    """A method that uses none of them compiles to the same program, whether they are spelt out or not."""
    nets, method = linear(), METHODS["mml"](("flow", "rgb"), HEADS)
    tx = transforms(nets)
    lower = lambda m: jax.jit(step.make_train_step(nets, STREAMS, m, tx, LR)).lower(  # noqa: E731
        start(nets, m, tx), batch()).as_text()  # fmt: skip
    plain = lower(method)
    # Each network has one read, so that one of them is all of them.
    assert plain == lower(method._replace(passes=(Pass(one_of=True, hide=()),), gradients=None))
    followed = method._replace(update=lambda state, metrics, outputs, batch: state)
    programs = [jax.jit(step.make_train_step(nets, STREAMS, m, tx, LR)) for m in (method, followed)]
    one, other = (run(start(nets, method, tx), batch())[0].params for run in programs)
    jax.tree.map(np.testing.assert_array_equal, one, other)


# ---------------------------------------------------------------------------- augmentation on the device
def test_drawn_operations_are_painted_in_the_step():
    """An identity changes no bit; a flip is what a flipped clip would have been, its motion negated."""
    nets, method = linear(), METHODS["single"](("flow", "rgb"), HEADS)
    plain, _ = trained(nets, method, [batch()])

    def drawn_batch(flip, brightness):
        b = batch()
        draws = {"flip": np.full(8, flip), "brightness": np.full(8, brightness, np.float32)}
        return {"main": b["main"] | {"draws": {"train": {"main": draws}}}}

    same, _ = trained(nets, method, [drawn_batch(False, 1.0)])
    jax.tree.map(np.testing.assert_array_equal, plain.params, same.params)
    flipped, _ = trained(nets, method, [drawn_batch(True, 0.5)])
    by_hand = batch()
    inputs = by_hand["main"]["inputs"]["train"]
    inputs["rgb"] = np.round(inputs["rgb"][..., ::-1, :] * 0.5).astype(np.uint8)
    inputs["flow"] = inputs["flow"][..., ::-1, :].copy()
    inputs["flow"][..., ::2] = 255 - inputs["flow"][..., ::2]
    want, _ = trained(nets, method, [by_hand])
    jax.tree.map(np.testing.assert_array_equal, flipped.params, want.params)
