"""MARS, D3D and KD: goldens, and what their options mean."""

import functools
import json
import pathlib

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid import losses
from mmvid.methods import METHODS, mimic
from mmvid.models import build_model
from mmvid.streams import Head
from mmvid.terms import reduce_terms

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "losses.npz")
PRECISIONS = pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
OUTPUTS = ("student", "teacher")


def golden(case, name):
    output = CASES[case]["outputs"][name]
    return output["value"] if "value" in output else ARRAYS[f"{case}/out/{name}"]


def inputs(case, dtype):
    return {
        name: jnp.asarray(ARRAYS[f"{case}/in/{name}"], dtype if "labels" not in name else None)
        for name in CASES[case]["inputs"]
    }


def loss_of(name, results, label, head, **options):
    """(loss, metrics) of a student and its teacher; ``results`` {output: result}."""
    made = METHODS[name](OUTPUTS, {"class": head}, teacher="teacher", **options)
    there = np.ones(len(label), bool)
    group = {"label": {"class": label}, "mask": there, "present": dict.fromkeys(OUTPUTS, there)}
    terms = made.terms({("main", "train"): results}, {"main": group}, {}, jax.random.key(0))
    return reduce_terms(terms)


@PRECISIONS
def test_mars_is_the_golden(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        x = inputs("mars", dtype)

        def total(feature):
            student = {"logits": {"class": x["logits"]}, "features": feature}
            teacher = {"logits": {"class": x["logits"]}, "features": x["feat_teacher"]}
            return loss_of("mars", {"student": student, "teacher": teacher}, x["labels"], Head(51))

        value, metrics = total(x["feat_student"])
        np.testing.assert_allclose(value, golden("mars", "total"), rtol=tolerance)
        np.testing.assert_allclose(metrics["student/mars"], golden("mars", "mse"), rtol=tolerance)
        grad = jax.grad(lambda feature: total(feature)[0])(x["feat_student"])
        np.testing.assert_allclose(grad, golden("mars", "grad_feat"), rtol=0, atol=tolerance)


@PRECISIONS
@pytest.mark.parametrize("reduce", mimic.REDUCE)
def test_d3d_is_the_golden(dtype, tolerance, reduce):
    """Neither paper says which of the two it is; the golden has both."""
    with jax.enable_x64(dtype == "float64"):
        x = inputs("d3d", dtype)

        def total(student):
            results = {"student": {"logits": {"class": student}}, "teacher": {"logits": {"class": x["teacher"]}}}
            return loss_of("d3d", results, x["labels"], Head(174), reduce=reduce)

        value, metrics = total(x["student"])
        np.testing.assert_allclose(value, golden("d3d", f"total_single_label_{reduce}"), rtol=tolerance)
        name = {"mean": "l2_mean", "sum": "l2_sum_batchmean"}[reduce]
        np.testing.assert_allclose(metrics["student/d3d"], golden("d3d", name), rtol=tolerance)
        own = jax.grad(lambda student: total(student)[1]["student/d3d"])(x["student"])
        np.testing.assert_allclose(own, golden("d3d", f"grad_l2_{reduce}"), rtol=tolerance, atol=tolerance)


@PRECISIONS
def test_several_labels_divide_by_the_classes(dtype, tolerance):
    """MML's appendix 2: D3D's sum over classes, and MARS's MSE, by K."""
    with jax.enable_x64(dtype == "float64"):
        x = inputs("d3d", dtype)
        results = {name: {"logits": {"class": x[name]}} for name in OUTPUTS}
        value, _ = loss_of("d3d", results, x["labels_multi"], Head(174, "multi"), reduce="sum")
        np.testing.assert_allclose(value, golden("d3d", "total_multi_label"), rtol=tolerance)
        x = inputs("mars", dtype)
        multi = jax.nn.one_hot(x["labels"], 51, dtype=x["logits"].dtype)
        results = {name: {"logits": {"class": x["logits"]}, "features": x[f"feat_{name}"]} for name in OUTPUTS}
        value, metrics = loss_of("mars", results, multi, Head(51, "multi"))
        want = golden("mars", "mse_term_multi_label")
        np.testing.assert_allclose(50 * metrics["student/mars"], want, rtol=tolerance)
        bce = losses.sigmoid_cross_entropy(x["logits"], multi).mean()
        np.testing.assert_allclose(value, want + bce, rtol=tolerance)


@PRECISIONS
@pytest.mark.parametrize("case, temperature", [("kd_tau1", 1.0), ("kd_tau10_plain", 10.0)])
def test_kd_is_the_golden(dtype, tolerance, case, temperature):
    with jax.enable_x64(dtype == "float64"):
        x = inputs(case, dtype)
        results = {name: {"logits": {"class": x[f"{name}_ACTION"]}} for name in OUTPUTS}
        head = Head(x["student_ACTION"].shape[-1])
        value, metrics = loss_of("kd", results, x["labels_ACTION"], head, temperature=temperature)
        np.testing.assert_allclose(metrics["student/kd"], golden(case, "kl"), rtol=tolerance * 10)
        np.testing.assert_allclose(value, golden(case, "gt") + golden(case, "kl"), rtol=tolerance * 10)


def clip_of(model, seed):
    """What a small network says of two clips of four frames."""
    x = np.float32(np.random.default_rng(seed).normal(size=(2, 4, 32, 32, 3)))
    made = build_model(model, heads={"class": 5}, in_channels=3)
    params, stats = drawn.weights(made.init, jax.random.key(0), x, seed=seed)
    return jax.jit(functools.partial(made.apply, train=False, key=None))(params, stats, x)[0]


def mars_of(student, teacher, feature):
    results = {"student": student, "teacher": teacher}
    _, metrics = loss_of("mars", results, np.array([0, 1]), Head(5), feature=feature)
    return float(metrics["student/mars"])


def test_networks_of_frames_are_imitated_frame_by_frame():
    """TSM's classifier reads every frame: frames in another order have the same mean, and are another feature."""
    student = clip_of("tsm_tiny", 0)
    teacher = student | {name: jnp.flip(student[name], 1) for name in ("frames", "map")}
    for feature in mimic.FEATURES:
        assert mars_of(student, teacher, feature) > 0
    np.testing.assert_allclose(student["frames"].mean(1), student["features"], rtol=1e-5)
    np.testing.assert_allclose(student["map"].mean((2, 3)), student["frames"], rtol=1e-4, atol=1e-6)


def test_the_map_is_not_what_the_classifier_reads():
    """Of maps whose pixels are exchanged the pooled features are equal."""
    student = clip_of("tsm_tiny", 0)
    teacher = student | {"map": jnp.flip(student["map"], 3)}
    found = {feature: mars_of(student, teacher, feature) for feature in mimic.FEATURES}
    assert found["pooled"] == 0 < found["map"]


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("mars", {"teacher": "flow"}, "name one of the outputs"),
        ("d3d", {"teacher": ""}, "name one of the outputs"),
        ("kd", {"teacher": "teacher", "temperature": 0.0}, "temperature=0.0"),
        ("mars", {"teacher": "teacher", "feature": "conv1"}, "choose one of"),
        ("d3d", {"teacher": "teacher", "reduce": "max"}, "choose one of"),
        ("mars", {"teacher": "teacher", "strength": -1.0}, "strength=-1.0"),
        ("kd", {"teacher": "teacher", "strength": float("nan")}, "strength=nan"),
    ],
)
def test_options_that_cannot_be(name, options, words):
    with pytest.raises(ValueError, match=words):
        METHODS[name](OUTPUTS, {"class": Head(3)}, **options)


def test_features_of_other_shapes():
    with pytest.raises(ValueError, match="cannot be imitated"):
        mimic.mars(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="cannot be imitated"):
        mimic.d3d(jnp.zeros((2, 3)), jnp.zeros((1, 3)))


def test_an_absent_teacher_leaves_the_labels():
    x = inputs("mars", "float32")
    results = {name: {"logits": {"class": x["logits"]}, "features": x[f"feat_{name}"]} for name in OUTPUTS}
    made = METHODS["mars"](OUTPUTS, {"class": Head(51)}, teacher="teacher")
    there = np.arange(6) < 3
    everyone = np.ones(6, bool)
    group = {
        "label": {"class": x["labels"]}, "mask": everyone, "present": {"student": everyone, "teacher": there},
    }  # fmt: skip
    terms = made.terms({("main", "train"): results}, {"main": group}, {}, jax.random.key(0))
    # Its clips still count in the student's mean.
    want = np.where(there, ((x["feat_student"] - x["feat_teacher"]) ** 2).mean(-1), 0).mean()
    np.testing.assert_allclose(reduce_terms(terms)[1]["student/mars"], want, rtol=1e-5)
