"""Every TSM and torchvision ResNet against the numbers of its PyTorch original."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_recipe import case_input, direction, load, probes, weights

from mmvid import losses
from mmvid import weights as weights_lib
from mmvid.models import build_model
from mmvid.models.resnet import ResNet

MODELS = {"tsm_r18": "tsm_resnet18", "tsm_r50": "tsm_resnet50", "tsm_r101": "tsm_resnet101"}
QUICK = ["tsm_r18_rgb", "tsm_r18_flow", "tsm_r18_rgbdiff", "tv_resnet18"]
DEEP = ["tsm_r50_rgb", "tsm_r50_flow", "tsm_r50_rgbdiff", "tsm_r101_rgb", "tv_resnet50"]
NAMES = [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in DEEP)]


def model_of(name, spec, **options):
    """(model, number of input channels of a frame, frames or 0)."""
    arch = MODELS.get(name.rpartition("_")[0], name.removeprefix("tv_"))
    channels = {"rgb": 3, "flow": 10, "rgbdiff": 15}.get(name.rpartition("_")[2], 3)
    model = build_model(arch, num_classes=spec["num_classes"], in_channels=channels, **options)
    return model, channels


def clip(name, spec, case):
    """The case's input in our layout; differences are formed here, as ``streams.prepare`` does."""
    x = case_input(spec, case)
    if name.startswith("tv"):
        return x.transpose(0, 2, 3, 1)
    raw = {"rgb": 3, "flow": 10, "rgbdiff": 18}[name.rpartition("_")[2]]
    x = x.reshape(x.shape[0], -1, raw, *x.shape[2:]).transpose(0, 1, 3, 4, 2)
    return x[..., 3:] - x[..., :-3] if raw == 18 else x


def loaded(name, spec, model, x):
    shapes = jax.eval_shape(model.init, jax.random.key(0), x[:1])
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    return weights_lib.load(name, weights(spec), params=zeros[0], stats=zeros[1])


def cases(spec, mode):
    return [c["name"] for c in spec["cases"] if c["mode"] == mode]


@pytest.mark.parametrize("name", NAMES)
def test_logits(name):
    spec, gold = load(name)
    model, _ = model_of(name, spec)
    for case in cases(spec, "eval"):
        x = clip(name, spec, case)
        params, stats = loaded(name, spec, model, x)
        apply = jax.jit(lambda p, s, x, m=model: m.apply(p, s, x, train=False, key=None)[0])
        logits = apply(params, stats, x)["logits"]["action"]
        want = gold[f"{case}/logits"]
        assert np.abs(logits - want).max() <= 1e-4 * want.std(), (name, case)
    assert sum(v.size for v in jax.tree.leaves(params)) == spec["param_count"]


def torch_grads(grads, keys):
    """Our gradients under the reference's keys and layouts."""
    ours = weights_lib.torch_names(grads, {}, head="action")
    return {key: ours[weights_lib._plain(key)] for key in keys}


def train_case(name, spec, case, dtype):
    partial_bn = "partialbn" in case
    frozen = "all_but_first" if partial_bn else "none"
    model, _ = model_of(name, spec, frozen_bn=frozen, dtype=dtype)
    x = clip(name, spec, case).astype(dtype)
    params, stats = loaded(name, spec, model, x)
    params, stats = jax.tree.map(lambda v: jnp.asarray(v, dtype), (params, stats))

    def loss(params, x):
        result, new = model.apply(params, stats, x, train=True, key=jax.random.key(0))
        logits = result["logits"]["action"]
        return losses.softmax_cross_entropy(logits, jnp.arange(2)).mean(), (logits, new)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (logits, new)), (grads, grad_x) = step(params, x)
    return value, logits, new, grads, grad_x


def check_train(name, spec, gold, case, dtype, tolerance, logit_tolerance):
    value, logits, new, grads, grad_x = train_case(name, spec, case, dtype)
    want = gold[f"{case}/logits_f64"]
    assert np.abs(logits - want).max() <= logit_tolerance * want.std()
    np.testing.assert_allclose(value, gold[f"{case}/loss"], rtol=logit_tolerance * 10)
    if "rgbdiff" not in name:  # there the reference's input is the frames, ours the differences
        norm = np.sqrt((np.asarray(grad_x, np.float64) ** 2).sum())
        np.testing.assert_allclose(norm, gold[f"{case}/grad_input_norm"], rtol=tolerance)
    meta = next(c for c in spec["cases"] if c["name"] == case)
    keys = meta.get("grad_keys", spec["trainable"])
    norms, dots = gold[f"{case}/grad_norm"], gold[f"{case}/grad_dot"]
    ours = torch_grads(grads, keys)
    for key, norm, dot in zip(keys, norms, dots):
        grad = np.asarray(ours[key], np.float64)
        mine = np.sqrt((grad**2).sum())
        if np.isnan(norm):
            assert mine == 0, key
            continue
        assert abs(mine - norm) <= tolerance * norm, (key, mine, norm)
        mine = (grad * direction(key, grad.shape, spec)).sum()
        assert abs(mine - dot) <= tolerance * norm * np.sqrt(grad.size), (key, mine, dot)
    first = new["bn1"]
    for ours_, theirs in (("mean", "running_mean"), ("var", "running_var")):
        np.testing.assert_allclose(
            first[ours_], gold[f"{case}/bn_first/{theirs}"], rtol=1e-4, atol=1e-5
        )
    layers = weights_lib.torch_names({}, new)
    for theirs, label in (("running_mean", "bn_mean_norm"), ("running_var", "bn_var_norm")):
        for key, norm in zip(meta["bn_keys"], gold[f"{case}/{label}"]):
            plain = weights_lib._plain(f"{key}.{theirs}")
            np.testing.assert_allclose(np.linalg.norm(layers[plain]), norm, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_batch_norm(name):
    spec, gold = load(name)
    for case in cases(spec, "train"):
        check_train(name, spec, gold, case, "float32", 1e-2, 1e-4)


def test_float64_separates_mistakes_from_rounding():
    spec, gold = load("tsm_r18_rgb")
    with jax.enable_x64(True):
        check_train("tsm_r18_rgb", spec, gold, "train_8x64", "float64", 1e-7, 1e-9)


@pytest.mark.parametrize("name", ["tsm_r18_rgb", "tsm_r18_flow"])
def test_stages(name):
    spec, gold = load(name)
    model, _ = model_of(name, spec)
    case = cases(spec, "eval")[0]
    x = clip(name, spec, case)
    params, stats = loaded(name, spec, model, x)
    module = ResNet({"action": 174}, (2, 2, 2, 2), bottleneck=False, temporal=True)
    _, kept = module.apply(
        {"params": params, "batch_stats": stats}, x, train=False, mutable=["intermediates"]
    )
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        mine = probes(np.asarray(kept["intermediates"][stage][0]).transpose(0, 3, 1, 2))
        for quantity, value in mine.items():
            want = gold[f"{case}/feat/{stage}/{quantity}"]
            np.testing.assert_allclose(value, want, atol=2e-4, err_msg=f"{stage} {quantity}")
