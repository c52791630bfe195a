"""STLT in both forms against its PyTorch originals: layouts as our records hold them, logits, stages, gradients.

Layouts are made of the originals' inputs, so that what the networks make of a record is checked as well. The
older code pads clips to the longest of a batch and masks what it added; here each clip is run at its own length.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_recipe import checksum, direction, load, probes, weights
from test_goldens import check, precision, suffix

from mmvid import losses
from mmvid import weights as weights_lib
from mmvid.models import MODELS, build_model
from mmvid.models.stlt import VOCABULARIES
from mmvid.weights import trees

SMALL = dict(width=64, layers=(2, 2), attention_heads=4, frames=32, vocabulary="action_genome")
NETWORKS = {
    "stlt_distill": ("stlt", {}),
    "stlt_layouts_small": ("stlt_layouts", SMALL),
    "stlt_layouts_default": ("stlt_layouts", {}),
}
QUICK = "stlt_layouts_small"
NAMES = [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != QUICK)]
# {a stage of the original: ours}. In its transformers tokens come before clips.
STAGES = {
    "box_embeddings": ("box_embeddings",),
    "spatial_layer0": ("space", "layer0", "out"),
    "spatial_out": ("spatial_out",),
    "temporal_in": ("temporal_in",),
    "frames_embeddings": ("frames_embeddings",),
    "temporal_layer0": ("time", "layer0", "out"),
}
# 1e-4 is promised; twelve layers in float32 reach 1.1e-5.
LOGITS = {"float32": 2e-5, "float64": 1e-11}
GRADIENTS = {"float32": 1e-4, "float64": 1e-9}


def clips(name, case):
    """What a record would hold of each clip of a case: float32 [1, T, slots, 8]."""
    _, gold = load(name)
    given = {key.rpartition("/")[2]: gold[key] for key in gold if key.startswith(f"{case}/input/")}
    if name == "stlt_distill":
        plain = [given[key][..., None] for key in ("class_labels", "scores", "sides", "states")]
        return np.split(np.concatenate([given["bboxes"], *plain], -1, dtype=np.float32), 2)
    words = VOCABULARIES[NETWORKS[name][1].get("vocabulary", "something")]
    ours = {theirs: i for i, theirs in enumerate(words.categories)}
    made = []
    for clip, length in enumerate(given["lengths"]):
        # Without the token's box and the last frame, which the network adds.
        inside = np.s_[clip, : length - 1, 1:]
        boxes = given["boxes"][inside]
        x = np.zeros((1, *boxes.shape[:2], 8), np.float32)
        x[0, ..., :4], x[0, ..., 4] = boxes, np.vectorize(ours.get)(given["categories"][inside])
        x[0, ..., 5] = given["scores"][inside] if "scores" in given else 1.0
        made.append(x)
    return made


def settings(name, **more):
    known, options = NETWORKS[name]
    return dict(name=known, num_classes=load(name)[0]["num_classes"], in_channels=8, **options, **more)


@functools.cache
def params_of(name, dtype):
    """The golden weights through ``weights.load``."""
    model = build_model(**settings(name))
    params, stats = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 3, 8), np.float32))
    params, _ = weights_lib.load(name, weights(load(name)[0]), params=params, stats=stats, layout=model)
    return jax.tree.map(lambda v: jnp.asarray(v, dtype), params)


@functools.cache
def evaluated(name, case, dtype, clip=0):
    """(logits [n, K], {stage: map}) of a clip of a case, or of all of them where their lengths are one."""
    known, options = NETWORKS[name]
    options = MODELS[known] | options | {"dtype": jnp.dtype(dtype)}
    module = options.pop("module")(heads={"action": load(name)[0]["num_classes"]}, **options)

    @jax.jit
    def run(params, x):
        return module.apply({"params": params}, x, train=False, mutable=["intermediates"])

    result, kept = run(params_of(name, dtype), joined(name, clips(name, case))[clip].astype(dtype))
    kept = trees.leaves(kept["intermediates"])
    return np.asarray(result["logits"]["action"]), {stage: kept.get(path) for stage, path in STAGES.items()}


def joined(name, clips):
    """Clips of one length run as one."""
    return [np.concatenate(clips)] if name == "stlt_distill" else clips


def logit_error(name, case, dtype, clip=0):
    """The largest error of a logit in units of the logits' standard deviation."""
    mine, _ = evaluated(name, case, dtype, clip)
    want = load(name)[1][f"{case}/logits{suffix(dtype)}"]
    return np.abs(mine - want[clip : clip + len(mine)]).max() / want.std()


def stage_errors(name, case, dtype):
    """{stage: largest error of a kept number in units of the stage's standard deviation}."""
    spec, gold = load(name)
    _, maps = evaluated(name, case, dtype)
    errors = {}
    for stage in set(STAGES) & set(spec["cases"][0]["features"]):
        mine = np.asarray(maps[stage][0])
        numbers = probes(mine.swapaxes(0, 1) if "layer0" in stage else mine)
        # Of a batch of clips of several lengths, one clip tells the first numbers only.
        whole = name == "stlt_distill"
        known = numbers if whole else {"first32": numbers["first32"]}
        gaps = [np.abs(v - gold[f"{case}/feat/{stage}/{q}"]).max() for q, v in known.items()]
        errors[stage] = max(gaps) / gold[f"{case}/feat/{stage}/std"]
    return errors


def train_errors(name, case, dtype):
    """{quantity: largest error} of a step without dropout: loss, and gradients in units of their norms."""
    spec, gold = load(name)
    model, params = build_model(**settings(name, dtype=dtype, dropout=0.0)), params_of(name, dtype)

    @jax.jit
    def step(params, x, label):
        def loss(params):
            logits = model.apply(params, {}, x, train=True, key=jax.random.key(0))[0]["logits"]["action"]
            return losses.softmax_cross_entropy(logits, label).sum() / 2

        return jax.value_and_grad(loss)(params)

    given = joined(name, clips(name, case))
    labels = [np.array([0, 1])] if len(given) == 1 else [np.array([0]), np.array([1])]
    steps = [step(params, x.astype(dtype), label) for x, label in zip(given, labels)]
    value, grads = functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), steps)
    errors = {"loss": abs(float(value) / gold[f"{case}/loss"] - 1), "grad_norm": 0.0, "grad_dot": 0.0}
    ours = weights_lib.torch_names(grads, {})
    for key, norm, dot in zip(spec["trainable"], gold[f"{case}/grad_norm"], gold[f"{case}/grad_dot"], strict=True):
        grad = np.asarray(ours.pop(key, 0.0), np.float64)
        if not norm > 0:
            assert not grad.any(), f"{key} has a gradient"
            continue
        errors["grad_norm"] = max(errors["grad_norm"], abs(np.linalg.norm(grad) - norm) / norm)
        product = (grad * direction(key, grad.shape, spec)).sum()
        errors["grad_dot"] = max(errors["grad_dot"], abs(product - dot) / norm)
    assert not ours
    return errors


def cases(name, mode):
    return [case["name"] for case in load(name)[0]["cases"] if case["mode"] == mode]


# ---------------------------------------------------------------------------- tests
@pytest.mark.parametrize("name", NAMES)
def test_weights_and_their_number(name):
    spec, _ = load(name)
    given = weights(spec)
    assert checksum(given) == spec["recipe"]["sha256"]
    # The layer that nothing reads.
    unread = sum(v.size for key, v in given.items() if ".encoder_layer." in key)
    mine = sum(v.size for v in jax.tree.leaves(params_of(name, "float32")))
    assert mine + unread == spec["param_count"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_stages(name):
    case = cases(name, "eval")[0]
    assert logit_error(name, case, "float32") < LOGITS["float32"]
    errors = stage_errors(name, case, "float32")
    check(errors, dict.fromkeys(errors, 2e-5))
    assert len(errors) == 5


def check_gradients(name, dtype):
    with precision(dtype):
        errors = train_errors(name, cases(name, "train")[0], dtype)
    check(errors, {"loss": LOGITS[dtype], "grad_norm": GRADIENTS[dtype], "grad_dot": 10 * GRADIENTS[dtype]})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float64(name):
    check_gradients(name, "float64")


@pytest.mark.slow
def test_gradients():
    check_gradients(QUICK, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_every_clip_and_in_float64(name):
    for case in cases(name, "eval"):
        for clip in range(len(joined(name, clips(name, case)))):
            assert logit_error(name, case, "float32", clip) < LOGITS["float32"]
    with precision("float64"):
        assert logit_error(name, cases(name, "eval")[0], "float64") < LOGITS["float64"]
