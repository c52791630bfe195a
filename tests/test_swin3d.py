"""Video Swin-T against the numbers of its three PyTorch originals, and what its windows promise."""

import contextlib
import functools
import math

import drawn
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_recipe import case_input, checksum, direction, load, probes, weights
from hypothesis import given, settings

from data_prep.tabletop import render, specs
from mmvid import losses, sharding, step
from mmvid import network as network_lib
from mmvid import weights as weights_lib
from mmvid.methods import METHODS
from mmvid.models import build_model, swin3d
from mmvid.network import Network
from mmvid.streams import Head, Sampling, Stream
from mmvid.weights.names_swin3d import authors_key

NAMES = ("vswin_t", "tv_swin3d_t", "radevski_swin_t")
# Of the standard deviation: 1e-4 is promised of logits, 3e-6 reached. What PyTorch keeps of a map is float32.
LOGITS = {"float32": 1e-5, "float64": 1e-12}
STAGES = {"float32": 2e-5, "float64": 2e-6}
MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# ---------------------------------------------------------------------------- goldens
def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def clip(name, spec, case, dtype):
    """The case's input in our layout: the distillation code takes several clips of each video, and
    normalises by itself."""
    x = case_input(spec, case).astype(dtype)
    if name != "radevski_swin_t":
        return x.transpose(0, 2, 3, 4, 1)
    x = x.reshape(-1, *x.shape[2:]).transpose(0, 1, 3, 4, 2)
    return (x - np.asarray(MEAN, dtype)) / np.asarray(STD, dtype)


def params_of(name, spec, dtype):
    """The golden's whole file, its tables of pairs included, through ``weights.load``."""
    table = load("vswin_t")[1]["buffers/relative_position_index"]
    tensors = weights(spec) | dict.fromkeys(spec["recipe"]["buffers"], table)
    assert len(tensors) == spec["n_state_dict_keys"]
    params, _ = weights_lib.load("swin3d_tiny", tensors, params=shapes_of(), stats={})
    assert sum(v.size for v in jax.tree.leaves(params)) == spec["param_count"]
    return jax.tree.map(lambda v: jnp.asarray(v, dtype), params)


@functools.cache
def shapes_of(**options):
    model = build_model("swin3d_tiny", **{"num_classes": 174} | options)
    x = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), x)[0]


@functools.cache
def network(dtype):
    """A jitted evaluation: (params, x) -> (logits, {stage: map}), for all goldens of one size."""
    module = swin3d.Swin3D(heads={"action": 174}, dtype=jnp.dtype(dtype))

    def run(params, x):
        result, kept = module.apply({"params": params}, x, train=False, mutable=["intermediates"])
        maps = {k: v[0] for k, v in kept["intermediates"].items()}
        maps |= {"norm": result["map"], "pooled": result["features"][:, None, None, None]}
        return result["logits"]["action"], maps

    return jax.jit(run)


def stage_of(maps, name, stage, layout):
    """A map as the reference keeps it: the authors' stages end with the merging that follows."""
    number = stage[-1]
    merged = stage.startswith("merge") or (stage[:-1] == "stage" and name != "tv_swin3d_t" and number != "4")
    ours = {"stage": f"layer{number}", "merge": f"merged{number}", "patch_embe": "embedded"}
    value = np.asarray(maps[f"merged{number}" if merged else ours.get(stage[:-1], stage)])
    return np.moveaxis(value, -1, 1) if layout.startswith("N C T H W") else value


def check_case(name, case, dtype="float32"):
    """Logits and every stage of an evaluation."""
    spec, gold = load(name)
    case = next(c for c in spec["cases"] if c["name"] == case)
    with precision(dtype):
        x = clip(name, spec, case["name"], dtype)
        logits, maps = jax.device_get(network(dtype)(params_of(name, spec, dtype), x))
    want = gold[f"{case['name']}/logits{'_f64' if dtype == 'float64' else ''}"]
    assert np.abs(logits - want).max() / want.std() < LOGITS[dtype]
    for stage, told in case["features"].items():
        mine = stage_of(maps, name, stage, told["layout"])
        assert list(mine.shape) == told["shape"], stage
        prefix = f"{case['name']}/feat/{stage}"
        gap = max(np.abs(v - gold[f"{prefix}/{q}"]).max() for q, v in probes(mine).items())
        assert gap / gold[f"{prefix}/std"] < STAGES[dtype], stage


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_stages(name):
    spec, _ = load(name)
    assert checksum(weights(spec)) == spec["recipe"]["sha256"]
    check_case(name, "eval_8x64")


OTHERS = [("vswin_t", c) for c in ("eval_32x64", "eval_16x112", "eval_10x72x100", "eval_16x224")]
OTHERS += [("tv_swin3d_t", c) for c in ("eval_32x64", "eval_10x72x100")]


@pytest.mark.slow
@pytest.mark.parametrize("name, case", [*OTHERS, ("radevski_swin_t", "eval_2clips_16x64")])
def test_other_sizes(name, case):
    check_case(name, case)


@pytest.mark.slow
@pytest.mark.parametrize("name, case", [*((n, "eval_8x64") for n in NAMES), ("vswin_t", "eval_10x72x100")])
def test_float64(name, case):
    check_case(name, case, "float64")


@functools.cache
def gradient(dtype):
    """A jitted pass, forward and backward: (params, x) -> (loss, logits, gradients, the input's gradient)."""
    model = build_model("swin3d_tiny", num_classes=174, drop_path=0.0, dtype=dtype)

    def loss(params, x):
        result, _ = model.apply(params, {}, x, train=True, key=jax.random.key(0))
        logits = result["logits"]["action"]
        return losses.softmax_cross_entropy(logits, jnp.arange(2)).mean(), logits

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype, bound", [("float32", 1e-4), ("float64", 1e-10)])
@pytest.mark.parametrize("name", NAMES[:2])
def test_gradients(name, dtype, bound):
    spec, gold = load(name)
    with precision(dtype):
        x = clip(name, spec, "train_8x64", dtype)
        (value, logits), (grads, grad_x) = gradient(dtype)(params_of(name, spec, dtype), x)
        ours = {authors_key(k): np.float64(v) for k, v in weights_lib.torch_names(grads, {}).items()}
    want = {q: gold[f"train_8x64/{q}"] for q in ("loss", "logits_f64", "grad_input_norm", "grad_norm", "grad_dot")}
    np.testing.assert_allclose(value, want["loss"], rtol=bound)
    np.testing.assert_allclose(logits, want["logits_f64"], atol=bound)
    np.testing.assert_allclose(np.linalg.norm(np.float64(grad_x)), want["grad_input_norm"], rtol=bound)
    assert set(ours) == set(map(authors_key, spec["trainable"]))
    for key, size, dot in zip(spec["trainable"], want["grad_norm"], want["grad_dot"], strict=True):
        grad = ours[authors_key(key)]
        np.testing.assert_allclose(np.linalg.norm(grad), size, rtol=bound, err_msg=key)
        # The product sees a transposed gradient, which the norm does not.
        assert abs((grad * direction(key, grad.shape, spec)).sum() - dot) < 10 * bound * size, key


# ---------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    "heads, count",
    [({"noun": 300, "verb": 97}, 28_155_763), ({"action": 174}, 27_984_276), ({"action": 400}, 28_158_070)],
)
def test_parameters(heads, count):
    model = build_model("swin3d_tiny", heads=heads)
    x = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
    params, stats = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(v.size for v in jax.tree.leaves(params)) == count and stats == {}


# ---------------------------------------------------------------------------- windows
GRIDS = st.tuples(*(st.integers(1, 20) for _ in range(3)))
WINDOWS = st.tuples(*(st.integers(1, 8) for _ in range(3)))


@settings(max_examples=30)
@given(GRIDS, WINDOWS)
def test_windows_shrink_and_only_larger_grids_shift(grid, window):
    size, shift = swin3d.fitted_window(grid, window, True)
    assert swin3d.fitted_window(grid, window, False) == (size, (0, 0, 0))
    for n, w, s, moved in zip(grid, window, size, shift):
        assert (s, moved) == ((w, w // 2) if n > w else (n, 0))


@settings(max_examples=30)
@given(st.tuples(*(st.integers(1, 3) for _ in range(3))), st.tuples(*(st.integers(1, 4) for _ in range(3))))
def test_joined_inverts_partition(counts, window):
    grid = tuple(n * w for n, w in zip(counts, window))
    x = np.arange(2 * math.prod(grid) * 3).reshape(2, *grid, 3)
    cut = swin3d.partition(x, window)
    assert cut.shape == (2 * math.prod(counts), math.prod(window), 3)
    np.testing.assert_array_equal(cut[0], x[0, : window[0], : window[1], : window[2]].reshape(-1, 3))
    np.testing.assert_array_equal(swin3d.joined(cut, window, grid), x)


@settings(max_examples=20)
@given(st.tuples(*(st.integers(1, 2) for _ in range(3))), st.tuples(*(st.integers(2, 4) for _ in range(3))))
def test_tokens_meet_only_real_neighbours(counts, window):
    """Two tokens of a shifted window belong together if nothing wrapped round lies between them."""
    grid = tuple(n * w for n, w in zip(counts, window))
    _, shift = swin3d.fitted_window(grid, window, True)
    number = swin3d.regions(grid, window, shift)
    place = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), -1)[None]
    place = swin3d.partition(np.roll(place, [-s for s in shift], (1, 2, 3)), window)
    far = np.abs(place[:, :, None] - place[:, None]) >= np.asarray(window)
    np.testing.assert_array_equal(number[:, :, None] != number[:, None], far.any(-1))


def test_biases_are_looked_up_as_the_reference_does():
    """Also where the window shrank, in which the offsets are not the right ones."""
    index = load("vswin_t")[1]["buffers/relative_position_index"]
    table = jnp.arange(2535)[None]
    for tokens in (392, 64):
        found = jax.jit(lambda table, n=tokens: swin3d.bias_of(table, swin3d.WINDOW, n))(table)
        np.testing.assert_array_equal(found[0], index[:tokens, :tokens])


@pytest.mark.parametrize("numbered", [False, True])
def test_chunks_of_windows_are_all_at_once(monkeypatch, numbered):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 36, 6, 2, 4)).astype(np.float32)
    bias, number = rng.standard_normal((2, 6, 6)).astype(np.float32), rng.integers(0, 2, (36, 6))
    number = number if numbered else None

    def both(function):
        def total(q, k, v, bias):
            y = function(q, k, v, number, bias)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True))(q, k, v, bias)

    # Five windows fit, and 4 divides 36.
    monkeypatch.setattr(swin3d, "_CHUNK", 5 * bias.nbytes)
    assert "scan" in str(jax.make_jaxpr(swin3d.attend)(q, k, v, number, bias))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, both(swin3d.attend), both(swin3d._attend))
    scores = np.einsum("gnhd,gmhd->ghnm", q, k) / 2 + bias
    if numbered:
        scores = scores - 100 * (number[:, None, :, None] != number[:, None, None])
    want = np.einsum("ghnm,gmhd->gnhd", np.asarray(jax.nn.softmax(scores)), v)
    close(both(swin3d.attend)[0][1], want)


# ---------------------------------------------------------------------------- options
SMALL = dict(width=12, head_width=4, stages=(1, 1, 1, 1), window=(2, 3, 3))


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_no_constant_of_the_program_grows_with_the_batch(platform):
    """As constants, the masks of eight clips of 224 pixels made a program of 460 MB."""
    model = swin3d.Swin3D({"action": 5}, **SMALL | {"stages": (2,)})
    x = jax.ShapeDtypeStruct((64, 8, 24, 24, 3), np.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    run = jax.jit(lambda v, x: model.apply(v, x, train=False))
    program = run.trace(variables, x).lower(lowering_platforms=(platform,)).as_text()
    assert max(len(line) for line in program.splitlines() if "constant" in line) < 8_000


@functools.cache
def small(**options):
    """A narrow network of few blocks, an input of 4x48x48, and weights of scale 0.1."""
    model = build_model("swin3d_tiny", num_classes=5, **SMALL | options)
    x = np.random.default_rng(0).standard_normal((2, 4, 48, 48, 3)).astype(np.float32)
    return model, x, drawn.weights(model.init, jax.random.key(0), x[:1])[0]


def features(model, train=True):
    """A jitted (params, x, key) -> features."""
    return jax.jit(lambda params, x, key: model.apply(params, {}, x, train=train, key=key)[0]["features"])


def test_whole_branches_are_dropped():
    """The first block's never are; the last's are with the full probability, example by example."""
    model, x, params = small(stages=(2,), drop_path=0.5)
    run = features(model)
    seen = np.stack([run(params, x, jax.random.key(i)) for i in range(8)])
    # Each of the second block's two branches is doubled or left out: four outcomes.
    outcomes = [{row.tobytes() for row in seen[:, example]} for example in range(2)]
    assert all(2 <= len(found) <= 4 for found in outcomes)
    same = (seen == seen[:1]).all(-1)
    assert (same[:, 0] != same[:, 1]).any()
    still = small(stages=(2,), drop_path=0.0)[0]
    drawing = [str(jax.make_jaxpr(features(m))(params, x, jax.random.key(0))) for m in (model, still)]
    assert ["random_bits" in text for text in drawing] == [True, False]


def test_bfloat16_rounds():
    exact, half = (small(stages=(1,), dtype=dtype) for dtype in ("float32", "bfloat16"))
    want, found = (features(model, train=False)(params, x, None) for model, x, params in (exact, half))
    assert found.dtype == jnp.float32 and 0 < np.abs(found - want).max() < 0.1 * want.std()


@pytest.mark.slow
def test_recomputing_changes_nothing():
    def gradients(**options):
        model, x, params = small(stages=(2,), drop_path=0.0, **options)
        run = features(model)
        return jax.jit(jax.grad(lambda params: jnp.sin(run(params, x, jax.random.key(0))).sum()))(params)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, gradients(remat=True), gradients())


def test_weights_are_drawn_as_torchvision_does():
    module = build_model("swin3d_tiny", num_classes=50, stages=(1,))
    params = jax.jit(lambda key: module.init(key, jnp.zeros((1, 2, 8, 8, 3)))[0])(jax.random.key(0))
    block = params["layer1_0"]
    for kernel in (*(block[n]["kernel"] for n in ("qkv", "proj", "fc1", "fc2")), block["bias_table"]):
        np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.05)
    np.testing.assert_allclose(params["classifier"]["action"]["kernel"].std(), 0.02, rtol=0.05)
    bound = 96**-0.5  # 2 x 4 x 4 x 3 inputs
    assert 0.99 < np.abs(params["patch_embed"]["kernel"]).max() / bound <= 1
    assert not any(np.any(block[n]["bias"]) for n in ("qkv", "proj", "fc1", "fc2"))


def test_images_are_clips_of_one_frame():
    model, x, params = small(stages=(1,))
    run = jax.jit(lambda x: model.apply(params, {}, x, train=False, key=None)[0]["logits"]["action"])
    np.testing.assert_array_equal(run(x[:, 0]), run(x[:, :1]))


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match=r"'swin3d_tiny' has no option \['frozen_bn'\]; it knows .*'drop_path'"):
        build_model("swin3d_tiny", num_classes=5, frozen_bn="all")


def test_attention_heads_share_the_channels():
    assert [swin3d.attention_heads(96 * 2**stage, 32) for stage in range(4)] == [3, 6, 12, 24]
    assert swin3d.attention_heads(8, 32) == 1
    with pytest.raises(ValueError, match="3 attention heads cannot share 112 channels equally: choose a width"):
        swin3d.attention_heads(112, 32)


@pytest.mark.slow
def test_a_step_on_tabletops_frames():
    """Three updates of AdamW on one batch, in the trainer's step."""
    clips = [render.clip(specs.Spec("train", i, (verb,), i)).rgb[:8:2] for i, verb in enumerate((0, 5))]
    stream, heads = Stream("rgb", "rgb", Sampling("uniform", 4)), {"verb": Head(20), "noun": Head(8)}
    model = build_model("swin3d_tiny", heads=heads, **SMALL)
    nets, method = (Network("rgb", model, (("rgb",),)),), METHODS["single"](("rgb",), heads)
    tx, lr = {"rgb": optax.scale_by_adam()}, {"rgb": optax.constant_schedule(1e-3)}
    batch = {
        "inputs": {"train": {"rgb": np.stack(clips)}},
        "label": {"verb": np.int32([0, 5]), "noun": np.int32([0, 1])},
        "mask": np.ones(2, bool),
        "present": {"rgb": np.ones(2, bool)},
        "id": np.arange(2, dtype=np.int32),
    }
    made = drawn.weights(lambda key: network_lib.init_params(nets, {"rgb": stream}, 48, key), jax.random.key(0))
    state = network_lib.init_state(nets, *made, method, tx, jax.random.key(3))
    mesh = sharding.make_mesh(jax.devices()[:1])
    run = step.make_train_step(nets, {"rgb": stream}, method, tx, lr)
    run = step.jit_train_step(run, sharding.replicated(mesh))
    before, found = jax.tree.map(np.array, state.params), []
    for _ in range(3):
        state, metrics = run(state, {"main": batch})
        found.append(float(sum(v for k, v in metrics.items() if k.endswith("/ce"))))
    assert np.isfinite(found).all() and found[-1] < found[0], found
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, jax.device_get(state.params))
    assert all(jax.tree.leaves(moved))
