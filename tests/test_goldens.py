"""Every TSM, torchvision's image and video ResNets, Hara's, CSNs, CMPL's and audio ResNets against originals.

Logits, feature maps, gradients and batch-norm updates; in float32 what the rounding allows, in
float64 far less, so that a mistake cannot pass for rounding.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_recipe import case_input, checksum, direction, load, probes, weights

from mmvid import losses
from mmvid import weights as weights_lib
from mmvid.models import MODELS, build_model
from mmvid.streams import Head
from mmvid.weights import names_resnet
from mmvid.weights.trees import leaves

ARCHITECTURES = {
    "tsm_r18": "tsm_resnet18",
    "tsm_r50": "tsm_resnet50",
    "tsm_r101": "tsm_resnet101",
    "tv_resnet18": "resnet18",
    "tv_resnet50": "resnet50",
    "tv_r2plus1d_18": "r2plus1d_18",
    "tv_r3d_18": "r3d_18",
    "tv_mc3_18": "mc3_18",
    "hara_r3d18": "hara_r3d_18",
    "hara_r3d50": "hara_r3d_50",
    "radevski_r3d18": "hara_r3d_18",
    "radevski_r3d50": "hara_r3d_50",
    "csn_ip152": "csn_ip_152",
    "csn_ir50": "csn_ir_50",
    "cmpl_r50": "cmpl_resnet50",
    "cmpl_r50_x1_4": "cmpl_resnet50_x1_4",
    "sf_i3d_r50": "i3d_resnet50",
    "sf_slow_r50": "slow_resnet50",
    "audio_r50": "audio_resnet50",
    "vmz_audio_r50": "vmz_audio_resnet50",
}
# Multimodal distillation's wrapper.
WRAPPED = {"radevski_r3d18": dict(resize=112, hidden=2048), "radevski_r3d50": dict(resize=112)}
# SlowFast's, of clips of 64 pixels: larger ones have several places, each of which is classified.
SLOWFAST = ("sf_i3d_r50", "sf_slow_r50")
OPTIONS = WRAPPED | {name: dict(window=2) for name in SLOWFAST}
QUICK = ("tsm_r18_rgb", "tsm_r18_flow", "tsm_r18_rgbdiff", "tv_resnet18")
HARA = ("hara_r3d18", "hara_r3d50", "radevski_r3d18", "radevski_r3d50")
CSN = ("csn_ir50", "csn_ip152")
CMPL = ("cmpl_r50", "cmpl_r50_x1_4")
AUDIO = ("audio_r50", "vmz_audio_r50")
VIDEO = ("tv_r2plus1d_18", "tv_r3d_18", "tv_mc3_18", *HARA, *CSN, *CMPL, *SLOWFAST)
DEEP = ("tsm_r50_rgb", "tsm_r50_flow", "tsm_r50_rgbdiff", "tsm_r101_rgb", "tv_resnet50", *VIDEO[:3])
# The wrapper is the same network: of each depth one is checked in all ways, the other by its logits.
DEEPEST = ("radevski_r3d18", "hara_r3d50", "csn_ir50", "cmpl_r50", "sf_i3d_r50", *AUDIO)
NAMES = [
    *QUICK,
    *(pytest.param(n, marks=pytest.mark.slow) for n in (*DEEP, *HARA, *CSN, *CMPL, *SLOWFAST, *AUDIO)),
]
# Float64 has the gradients of every kind of block, at bounds that are far tighter; float32 those of one network a
# kind of arithmetic: basic blocks, partial batch norm, bottlenecks, and Hara's, too slow for float64.
TRAINED = (QUICK[3], "tsm_r18_rgb", "tsm_r50_rgb", *DEEPEST)
# The first convolution's channels are proven with the shallow network, depth with RGB: not each with each.
EXACT = (*QUICK, "tsm_r50_rgb", "tv_resnet50", *VIDEO[:3], "cmpl_r50_x1_4")
LOOPS = ("tv_r3d_18", "tv_mc3_18", "cmpl_r50_x1_4")
SIZED = ("tsm_r18_rgb", "tsm_r50_rgb", "tv_resnet18", "tv_resnet50", *VIDEO)
SHALLOWER = (*QUICK[1:], *DEEP, "csn_ip152", "cmpl_r50_x1_4", "sf_slow_r50")
STAGED = [QUICK[0], *(pytest.param(n, marks=pytest.mark.slow) for n in (*SHALLOWER, *DEEPEST))]
# Sizes that the quick suite compiles, where `test_stages` does not; the slow one runs all others.
SIZES = {"tsm_r18_rgb": ("eval_8x96x128",), "tv_resnet18": ("eval_64", "eval_96x160")}
RAW_CHANNELS = {"rgb": 3, "flow": 10, "rgbdiff": 18}


def architecture(name):
    return ARCHITECTURES[name if name in ARCHITECTURES else name.rpartition("_")[0]]


def channels(name):
    return 1 if name in AUDIO else {"flow": 10, "rgbdiff": 15}.get(name.rpartition("_")[2], 3)


def clip(name, spec, case, dtype):
    """The case's input in our layout: an image, or a clip of the reference's raw channels."""
    x = case_input(spec, case).astype(dtype)
    if name in WRAPPED:
        # The wrapper folds the clips of an example into the batch.
        return x.reshape(-1, *x.shape[2:]).transpose(0, 1, 3, 4, 2)
    if name in VIDEO:
        return x.transpose(0, 2, 3, 4, 1)
    if name.startswith("tv_") or name in AUDIO:
        return x.transpose(0, 2, 3, 1)
    raw = RAW_CHANNELS[name.rpartition("_")[2]]
    return x.reshape(x.shape[0], -1, raw, *x.shape[2:]).transpose(0, 1, 3, 4, 2)


def prepared(name, x):
    """What ``prepare.prepare`` does: for 'diff', whose reference takes the six frames, and for 'image05'."""
    if name in WRAPPED:
        return (x - 0.5) / 0.5
    return x[..., 3:] - x[..., :-3] if name.endswith("rgbdiff") else x


def blob(key):
    """What VMZ's Caffe2 code calls a tensor of its audio network; '' for a counter, which it does not have.

    The golden's own names are its translator's.
    """
    leaves = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    *inside, layer, leaf = key.split(".")
    if layer in ("conv1", "fc") and not inside:
        return f"{'conv1' if layer == 'conv1' else 'last_out_L400'}_{leaf[0]}"
    starts = {"stem": 0, "layer1": 3, "layer2": 6, "layer3": 10, "layer4": 16}
    comp = starts[inside[0]] + int(inside[1])
    if layer.startswith("shortcut"):
        return f"shortcut_projection_{comp}_" + ("w" if "conv" in layer else f"spatbn_{leaves.get(leaf)}")
    kind = f"conv_{layer[-1]}_w" if "conv" in layer else f"spatbn_{layer[-1]}_{leaves.get(leaf)}"
    return "" if leaf not in leaves else f"comp_{comp}_{kind}"


@functools.lru_cache(1)
def published(name):
    """{key in the published file: golden tensor}, and {golden key: that key}; drawn once for all that asks."""
    spec, _ = load(name)
    tensors = weights(spec)
    keys = {key: blob(key) if name == "vmz_audio_r50" else key for key in tensors}
    keys = {key: theirs for key, theirs in keys.items() if theirs and not theirs.endswith("None")}
    return {theirs: tensors[key] for key, theirs in keys.items()}, keys


@functools.lru_cache(1)
def places(name):
    """{golden key: path in our trees}."""
    tensors, keys = published(name)
    paths = {theirs: path for path, theirs in weights_lib.found(tensors, head="action").keys.items()}
    return {key: paths[theirs] for key, theirs in keys.items()}


def trees(name, spec, model, x, dtype):
    """The golden weights through ``weights.load``, as arrays of ``dtype``."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), prepared(name, x[:1]))
    made = weights_lib.load(name, published(name)[0], params=shapes[0], stats=shapes[1])
    return jax.tree.map(lambda v: jnp.asarray(v, dtype), made)


def heads_of(spec):
    """The one head: I3D's is that of Charades, of several labels."""
    multi = spec.get("config", {}).get("HEAD_ACT") == "sigmoid"
    return {"action": Head(spec["num_classes"], "multi" if multi else "single")}


def trained_on(spec, case):
    """The window of SlowFast's head: the map of a clip as large as those that it was built for."""
    build = next(c for c in spec["cases"] if c["name"] == case).get("build", {})
    return {"window": build["crop"] // 32} if "crop" in build else {}


def answered(spec, gold, case, logits, dtype):
    """(what a network says, what its reference says): logits, or of several places the mean of probabilities."""
    if f"{case}/logits" in gold:
        return logits, gold[f"{case}/logits{suffix(dtype)}"]
    form = jax.nn.sigmoid if heads_of(spec)["action"].kind == "multi" else jax.nn.softmax
    return np.asarray(form(logits)), gold[f"{case}/output"]


def cases(spec, mode):
    return [c for c in spec["cases"] if c["mode"] == mode]


def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def compiled(function, name, dtype):
    """Jitted. Convolutions of LOOPS in float64 are plain loops, which LLVM's first passes make ten times as fast:
    R3D-18's step compiles for 19 s in place of 4 and runs for 5 in place of 46. Others are matrix products."""
    passes = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": False}
    return jax.jit(function, compiler_options=passes if dtype == "float64" and name in LOOPS else None)


def suffix(dtype):
    return "_f64" if dtype == "float64" else ""


# ---------------------------------------------------------------------------- what is measured
def logit_errors(name, dtype="float32", only=()):
    """{case: largest error of a logit in units of the logits' standard deviation}."""
    spec, gold = load(name)
    options = {"heads": heads_of(spec), "in_channels": channels(name), "dtype": dtype}
    errors = {}
    for case in [c["name"] for c in cases(spec, "eval") if not only or c["name"] in only]:
        model = build_model(architecture(name), **options, **OPTIONS.get(name, {}) | trained_on(spec, case))
        apply = compiled(
            lambda p, s, x, m=model: m.apply(p, s, x, train=False, key=None)[0]["logits"], name, dtype
        )
        x = clip(name, spec, case, dtype)
        params, stats = trees(name, spec, model, x, dtype)
        logits = np.asarray(apply(params, stats, prepared(name, x))["action"])
        said, want = answered(spec, gold, case, logits, dtype)
        errors[case] = np.abs(said - want).max() / want.std()
    assert sum(v.size for v in jax.tree.leaves(params)) == spec["param_count"]
    return errors


def stages_of(name, spec, case, dtype):
    """{stage: map in our layout} of one run, and the classifier's weights."""
    options = dict(MODELS[architecture(name)], **OPTIONS.get(name, {}), dtype=jnp.dtype(dtype))
    module = options.pop("module")(heads={"action": spec["num_classes"]}, **options)
    model = build_model(architecture(name), num_classes=spec["num_classes"], in_channels=channels(name),
                        **OPTIONS.get(name, {}))  # fmt: skip
    x = clip(name, spec, case, dtype)
    params, stats = trees(name, spec, model, x, dtype)
    assert sum(v.size for v in jax.tree.leaves(params)) == spec["param_count"]

    @jax.jit
    def run(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, train=False, mutable=["intermediates"])

    result, kept = run(params, stats, prepared(name, x))
    maps = {k: np.asarray(v[0]) for k, v in kept["intermediates"].items() if k != "classifier"}
    maps["layer4"] = np.asarray(result["map"])
    return maps, result, params["classifier"]["action"]


def pooled_stages(maps, result, linear, frames):
    """``maps`` with those of the frames, which a TSM's reference folds into the batch, and the means."""
    if frames:
        maps["layer4"] = maps["layer4"].reshape(-1, *result["map"].shape[2:])
    axes = tuple(range(1, maps["layer4"].ndim - 1))
    # VMZ's audio network begins with a layer without a norm, and ends in a maximum.
    pool = np.max if "first" in maps else np.mean
    maps |= {"conv1": maps.get("first"), "pooled": pool(maps["layer4"], axes, keepdims=True)}
    if "neck" in maps:
        np.testing.assert_array_equal(result["features"], maps["neck"])
        return maps | {"projector": maps["neck"]}
    means = maps["pooled"].reshape(result["features"].shape[0], -1, result["features"].shape[-1])
    np.testing.assert_allclose(result["features"], means.mean(1), rtol=1e-5, atol=1e-6)
    flat = maps["pooled"].reshape(-1, means.shape[-1])
    return maps | {"frame_logits": flat @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])}


def stage_errors(name, dtype="float32"):
    """{stage: largest error of a kept number in units of the stage's standard deviation}, and of the logits."""
    spec, gold = load(name)
    case = cases(spec, "eval")[0]
    found, result, linear = stages_of(name, spec, case["name"], dtype)
    maps = pooled_stages(found, result, linear, frames=name not in VIDEO)
    want = gold[f"{case['name']}/logits{suffix(dtype)}"]
    errors = {"logits": np.abs(result["logits"]["action"] - want).max() / want.std()}
    for stage in case["features"]:
        # SlowFast's code counts the stem as its first stage; what a place's classifier says are the logits above.
        if stage == "projection":
            continue
        if stage[0] == "s" and stage[1:].isdigit():
            maps[stage] = maps[f"layer{int(stage[1:]) - 1}"]
        mine = np.moveaxis(maps[stage], -1, 1) if maps[stage].ndim > 2 else maps[stage]
        prefix = f"{case['name']}/feat/{stage}"
        assert stage == "frame_logits" or list(mine.shape) == case["features"][stage]["shape"]
        gaps = [np.abs(v - gold[f"{prefix}/{q}"]).max() for q, v in probes(mine).items()]
        errors[stage] = max(gaps) / gold[f"{prefix}/std"]
    return errors


def train_step(name, spec, case, dtype):
    """One forward and backward pass: loss, logits, new statistics, gradients, input gradient."""
    frozen = "all_but_first" if case.get("partial_bn") else "none"
    model = build_model(architecture(name), num_classes=spec["num_classes"], frozen_bn=frozen,
                        in_channels=channels(name), dtype=dtype, **OPTIONS.get(name, {}))  # fmt: skip
    x = clip(name, spec, case["name"], dtype)
    params, stats = trees(name, spec, model, x, dtype)

    def loss(params, x):
        inputs = prepared(name, x)
        result, new = model.apply(params, stats, inputs, train=True, key=jax.random.key(0))
        logits = result["logits"]["action"]
        return losses.softmax_cross_entropy(logits, jnp.arange(2)).mean(), (logits, new)

    step = compiled(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), name, dtype)
    (value, (logits, new)), (grads, grad_x) = step(params, x)
    return value, logits, new, grads, grad_x


def gradient_errors(name, spec, gold, case, grads):
    """Errors of every parameter's gradient in units of its norm: of norms, and of the products
    with a random direction (which see a transposed gradient, as norms do not)."""
    keys = case.get("grad_keys") or spec["trainable"]
    ours = {path[1:]: names_resnet.to_torch(np.asarray(v)) for path, v in leaves({"params": grads}).items()}
    place = {key: path[1:] for key, path in places(name).items()}
    norms, dots = (gold[f"{case['name']}/grad_{q}"] for q in ("norm", "dot"))
    by_norm, by_dot = [], []
    for key, norm, dot in zip(keys, norms, dots, strict=True):
        grad = np.asarray(ours[place[key]], np.float64)
        by_norm.append(abs(np.linalg.norm(grad) - norm) / norm)
        by_dot.append(abs((grad * direction(key, grad.shape, spec)).sum() - dot) / norm)
    frozen = set(ours) - {place[key] for key in keys}
    assert all(not ours[path].any() for path in frozen), "a frozen parameter has a gradient"
    return {
        "grad_norm": max(by_norm),
        "grad_norm_median": float(np.median(by_norm)),
        "grad_dot": max(by_dot),
    }


def mistaken(tree):
    """What a wrong name map would do: the last two axes of square kernels exchanged, the taps of
    other convolutions in reverse."""

    def wrong(v):
        if v.ndim > 1 and v.shape[-1] == v.shape[-2]:
            return np.swapaxes(v, -1, -2)
        return np.flip(v, range(v.ndim - 2)) if v.ndim > 2 else v

    return jax.tree.map(wrong, tree)


def norm_errors(name, spec, gold, case, new):
    """Errors of the running statistics after the step: the first layer's, and all norms."""
    prefix, errors = case["name"], {}
    layers, place = leaves({"stats": new}), places(name)
    for theirs, kept in (("running_mean", "bn_mean_norm"), ("running_var", "bn_var_norm")):
        want = gold[f"{prefix}/bn_first/{theirs}"]
        keys = [place[f"{key}.{theirs}"] for key in case["bn_keys"]]
        errors[f"bn_first_{theirs}"] = np.abs(layers[keys[0]] - want).max() / want.std()
        mine = np.array([np.linalg.norm(layers[key]) for key in keys])
        errors[kept] = np.abs(mine / gold[f"{prefix}/{kept}"] - 1).max()
    return errors


def train_errors(name, case, dtype="float32"):
    """{quantity: relative error} of one training step."""
    spec, gold = load(name)
    value, logits, new, grads, grad_x = train_step(name, spec, case, dtype)
    prefix, value = case["name"], float(value)
    want = gold[f"{prefix}/logits_f64"]
    norm = np.linalg.norm(np.asarray(grad_x, np.float64))
    return {
        "logits": np.abs(np.asarray(logits) - want).max() / want.std(),
        "loss": abs(value / gold[f"{prefix}/loss"] - 1),
        "grad_input": abs(norm / gold[f"{prefix}/grad_input_norm"] - 1),
        **gradient_errors(name, spec, gold, case, grads),
        "mistaken": gradient_errors(name, spec, gold, case, mistaken(grads))["grad_dot"],
        **norm_errors(name, spec, gold, case, new),
    }


# ---------------------------------------------------------------------------- bounds
# Of the logits' standard deviation: 1e-4 is promised, 6e-6 reached.
LOGITS = {"float32": 1e-5, "float64": 1e-12}
# What PyTorch keeps of a map is float32 (mean and std apart), hence no less in float64.
STAGES = {"float32": 2e-5, "float64": 2e-6}


def gradient_bound(case, dtype):
    """Largest error allowed of one gradient, by its norm. In float32 a value beside zero may fall
    on the other side of a ReLU: PyTorch's own runs in both precisions are as far apart."""
    if dtype == "float64":
        return 1e-10
    return max(2e-3, 4 * case["grad_norm_rel_diff_f32_f64"]["max"])


def train_bounds(case, dtype):
    small = 1e-11 if dtype == "float64" else 1e-5
    bound = gradient_bound(case, dtype)
    own = 0.0 if dtype == "float64" else 4 * case["max_abs_diff_f32_f64"]
    return {
        "logits": max(small, own),
        "loss": small,
        "grad_input": bound,
        "grad_norm": bound,
        "grad_norm_median": bound / 4,
        # An error of relative size r moves the product by r times a standard normal.
        "grad_dot": 10 * bound,
        "bn_first_running_mean": small,
        "bn_first_running_var": small,
        "bn_mean_norm": small,
        "bn_var_norm": small,
    }


def check(errors, bounds):
    failed = {k: (float(v), bounds[k]) for k, v in errors.items() if not v <= bounds[k]}
    assert not failed, f"error and bound: {failed}"


def check_logits(name, dtype, only=()):
    with precision(dtype):
        errors = logit_errors(name, dtype, only)
    gold = load(name)[1]
    # Probabilities are further from their deviation than logits: most are nearly 0.
    check(errors, {case: LOGITS[dtype] * (1 if f"{case}/logits" in gold else 5) for case in errors})


def check_stages(name, dtype):
    with precision(dtype):
        errors = stage_errors(name, dtype)
    check(errors, dict.fromkeys(errors, STAGES[dtype]) | {"logits": LOGITS[dtype]})


def check_training(name, case, dtype):
    with precision(dtype):
        errors = train_errors(name, case, dtype)
    bounds = train_bounds(case, dtype)
    assert errors.pop("mistaken") > 2 * bounds["grad_dot"], "this check would see no wrong kernel"
    check(errors, bounds)


# ---------------------------------------------------------------------------- tests
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_reference(name):
    spec, _ = load(name)
    assert checksum(weights(spec)) == spec["recipe"]["sha256"]


@pytest.mark.parametrize("name", SIZES)
def test_logits(name):
    check_logits(name, "float32", SIZES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZED)
def test_logits_of_other_sizes(name):
    """Those that neither the quick suite nor `test_stages` runs, which has the first one's logits."""
    sizes = [case["name"] for case in cases(load(name)[0], "eval")[1:]]
    others = [size for size in sizes if size not in SIZES.get(name, ())]
    assert others
    check_logits(name, "float32", others)


@pytest.mark.parametrize("name", STAGED)
def test_stages(name):
    check_stages(name, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_batch_norm(name):
    for case in cases(load(name)[0], "train"):
        check_training(name, case, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_float64(name):
    spec, _ = load(name)
    check_logits(name, "float64", only=[cases(spec, "eval")[0]["name"]])
    for case in cases(spec, "train"):
        check_training(name, case, "float64")


# Steps of 16 frames of 112 pixels would take minutes in float64.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, case",
    [("radevski_r3d18", "eval_2clips_8x64"), ("hara_r3d50", "eval_8x64"), *((n, "eval_8x32") for n in CSN),
     *((n, "eval_100x40") for n in AUDIO)],
)  # fmt: skip
def test_logits_of_others_in_float64(name, case):
    check_logits(name, "float64", only=[case])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tsm_r18_rgb", "tsm_r50_rgb"])
def test_as_gpu_and_tpu_lower_it(name, elsewhere):
    """The branch that no CPU takes by itself."""
    spec, _ = load(name)
    check_logits(name, "float32", only=["eval_8x64"])
    check_training(name, cases(spec, "train")[0], "float32")
    assert elsewhere
