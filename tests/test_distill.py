"""Multimodal distillation: its array functions and their goldens, and its method."""

import functools
import json
import pathlib
import types

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake import Source, trained
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmvid import losses, passes
from mmvid.data.augment import Augment
from mmvid.data.frames import encode_png
from mmvid.data.groups import Group
from mmvid.methods import METHODS, distill
from mmvid.models.model import Model
from mmvid.network import Network
from mmvid.streams import MODALITIES, Head, Sampling, Stream, form_of
from mmvid.terms import reduce_terms

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "losses.npz")
PRECISIONS = pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
ERRORS = hnp.arrays(np.float32, (3, 2), elements=st.floats(0, 20, width=32))
weights_of_errors = jax.jit(distill.ensemble_weights, static_argnames="gamma")


def golden(case, name):
    output = CASES[case]["outputs"].get(name, {})
    return output["value"] if "value" in output else ARRAYS[f"{case}/out/{name}"]


# ---------------------------------------------------------------------------- what teachers weigh
@pytest.mark.parametrize(
    "gamma, want",
    [
        (0.33, (0.951806, 0.045973, 0.002221)),
        (1.0, (0.665241, 0.244728, 0.090031)),
        (3.0, (0.448441, 0.321322, 0.230237)),
        (30.0, (0.344504, 0.333210, 0.322286)),
    ],
)
def test_worked_weights(gamma, want):
    np.testing.assert_allclose(weights_of_errors(jnp.array([1.0, 2, 3]), gamma=gamma), want, atol=1e-6)


@PRECISIONS
def test_weights_are_the_goldens(dtype, tolerance):
    """Of the mean cross-entropies, of every example's own, and the logits that they make."""
    with jax.enable_x64(dtype == "float64"):
        logits = jnp.asarray(np.moveaxis(ARRAYS["teacher_weights/in/teacher_logits"], 1, 0), dtype)
        label = jnp.broadcast_to(ARRAYS["teacher_weights/in/labels"], logits.shape[:2])
        errors = losses.softmax_cross_entropy(logits, label)
        close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
        close(errors.mean(1), golden("teacher_weights", "cross_entropy"))
        for gamma in (30.0, 3.0, 1.0, 0.33):
            found = distill.ensemble_weights(errors.mean(1), gamma=gamma)
            close(found, golden("teacher_weights", f"weights_gamma_{gamma}"))
            each = distill.ensemble_weights(errors, gamma=gamma)
            # Of differences as large as 40 float32 keeps fewer digits behind a small gamma.
            np.testing.assert_allclose(
                each.T, golden("teacher_weights", f"per_sample_weights_gamma_{gamma}"), atol=tolerance * 10
            )
            close((found[:, None, None] * logits).sum(0),
                  golden("teacher_weights", f"ensemble_logits_gamma_{gamma}"))  # fmt: skip


@given(ERRORS, st.sampled_from([0.0, 1e-30, 0.33, 1.0, 30.0, 1e30, float("inf")]))
def test_weights_are_shares_whatever_the_gamma(errors, gamma):
    """Finite, of sum 1 in every head, and a better teacher never weighs less."""
    found = np.asarray(weights_of_errors(errors, gamma=gamma))
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)
    for head in range(errors.shape[1]):
        order = np.argsort(errors[:, head])
        assert (np.diff(found[order, head]) <= 1e-7).all()
    if gamma >= 1e30:
        np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)
    if gamma == 0:
        # JAX takes differences that are subnormal for 0.
        best = errors - errors.min(0) < np.finfo(np.float32).tiny
        np.testing.assert_allclose(found, best / best.sum(0), rtol=1e-6)


def test_a_hopeless_teacher_weighs_nothing_and_a_negative_gamma_is_refused():
    np.testing.assert_allclose(distill.ensemble_weights(jnp.array([1.0, jnp.inf]), gamma=1.0), [1, 0])
    for gamma in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            distill.ensemble_weights(np.ones(2), gamma=gamma)


def test_absent_teachers_share_out_their_weights():
    present = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    found = distill.shared_out(np.float32([0.5, 0.3, 0.2]), present)
    want = np.array([[0.5, 0, 5 / 7, 0], [0.3, 0.6, 0, 0], [0.2, 0.4, 2 / 7, 0]])
    np.testing.assert_allclose(found, want, rtol=1e-6)
    found = distill.shared_out(jnp.array([0.5, 0.3, 0.2]), jnp.asarray(present))
    np.testing.assert_allclose(found, want, rtol=1e-6)
    # The scores of ensembles are added up in this precision.
    assert distill.shared_out(np.array([0.5, 0.3, 0.2]), present).dtype == np.float64


# ---------------------------------------------------------------------------- the loss
@PRECISIONS
@pytest.mark.parametrize("case", ["kd_tau10_action", "kd_tau10_noun_verb", "kd_tau1", "kd_tau10_plain"])
def test_distillation_is_the_golden(case, dtype, tolerance):
    """KL and its gradient, labels and totals: the mean over heads, as the code has it."""
    args = CASES[case]["args"]
    with jax.enable_x64(dtype == "float64"):
        own = {h: jnp.asarray(ARRAYS[f"{case}/in/student_{h}"], dtype) for h in args["heads"]}
        teacher = {h: jnp.asarray(ARRAYS[f"{case}/in/teacher_{h}"], dtype) for h in own}

        @jax.jit
        def kl(own):
            form = functools.partial(distill.distillation, weights=np.ones(1, dtype), temperature=args["tau"])
            return sum(form(teacher[h][None], own[h]).mean() for h in own) / len(own)

        labels = {h: ARRAYS[f"{case}/in/labels_{h}"] for h in own}
        hard = sum(losses.softmax_cross_entropy(own[h], labels[h]).mean() for h in own) / len(own)
        value, gradient = jax.value_and_grad(kl)(own)
        np.testing.assert_allclose(value, golden(case, "kl"), rtol=tolerance)
        for weight in args["lambdas"]:
            total = weight * value + (1 - weight) * hard
            np.testing.assert_allclose(total, golden(case, f"total_lambda_{weight}"), rtol=tolerance)
        for head, found in gradient.items():
            want = golden(case, f"grad_kl_{head}")
            np.testing.assert_allclose(found, want, rtol=tolerance * 10, atol=tolerance * np.abs(want).max())


def test_worked_distillation():
    own, teacher = np.float32([[2, 1, 0], [0, 3, 1]]), np.float32([[[1, 2, 0], [0, 1, 0.5]]])
    np.testing.assert_allclose(distill.distillation(teacher, own, np.ones(1)).mean(), 0.360026, atol=2e-6)


def draws(*shape, seed=0, scale=2.0):
    return np.float32(np.random.default_rng(seed).normal(size=shape) * scale)


def test_the_temperature_keeps_the_gradients_scale():
    """T^2 KL tends to half of the squared difference of centred logits, so that its gradient stays."""
    teacher, own = draws(1, 4, 5), draws(4, 5, seed=1)
    at = lambda t: jax.grad(lambda x: distill.distillation(teacher, x, np.ones(1), temperature=t).sum())(own)  # noqa: E731
    norms = [float(jnp.linalg.norm(at(t))) for t in (10.0, 100.0)]
    centred = (own - own.mean(-1, keepdims=True)) - (teacher[0] - teacher[0].mean(-1, keepdims=True))
    np.testing.assert_allclose(norms, np.linalg.norm(centred) / 5, rtol=0.1)
    np.testing.assert_allclose(at(100.0), centred / 5, atol=0.05)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_teacher_of_weight_0_changes_nothing(kind):
    """Not even where what it says is no number; and nobody's gradient reaches a teacher."""
    teachers, own = draws(3, 4, 5), draws(4, 5, seed=1)
    form = functools.partial(distill.distillation, kind=kind)
    shares = np.float32([0.75, 0.25, 0])
    two = form(teachers[:2], own, shares[:2])
    teachers[2] = np.nan
    np.testing.assert_array_equal(form(teachers, own, shares), two)
    assert not np.any(jax.grad(lambda t: form(t, own, shares).sum())(teachers)[:2])
    np.testing.assert_allclose(form(own[None], own, np.ones(1)), 0, atol=1e-5)


# ---------------------------------------------------------------------------- the method
NAMES, HEADS = ("flow", "rgb", "boxes"), {"verb": Head(5), "noun": Head(4), "tags": Head(6, "multi")}
TEACHERS = ("flow", "boxes")


def a_group(present=None):
    rng = np.random.default_rng(3)
    label = {"verb": rng.integers(0, 5, 4), "noun": rng.integers(0, 4, 4),
             "tags": np.float32(rng.integers(0, 2, (4, 6)))}  # fmt: skip
    there = dict.fromkeys(NAMES, np.ones(4, bool)) | (present or {})
    return {"label": label, "mask": np.ones(4, bool), "present": there}


def said(seed=0):
    return {
        n: {"logits": {h: draws(4, s.classes, seed=seed + 10 * i) for h, s in HEADS.items()}}
        for i, n in enumerate(NAMES)
    }


def found(results, group=None, state=None, heads=HEADS, **options):
    """{term: values [S, B]} of the method."""
    made = METHODS["distillation"](NAMES, heads, teachers=TEACHERS, **options)
    state = made.init() if state is None else state
    terms = made.terms({("main", "train"): results}, {"main": group or a_group()}, state, None)
    assert all(term.outputs == ("rgb",) for term in terms.values())
    return {name: term.values for name, term in terms.items()}, terms


def test_what_trains_is_the_function_that_the_goldens_test():
    """Weighed by the state, head by head."""
    results, group = said(), a_group()
    state = {"weights": {h: np.float32(w) for h, w in zip(HEADS, ([0.9, 0.1], [0.2, 0.8], [0.5, 0.5]))}}
    values, _ = found(results, group, state, weight=0.8, temperature=4.0)
    soft = [
        distill.distillation(
            np.stack([results[n]["logits"][h] for n in TEACHERS]), results["rgb"]["logits"][h],
            state["weights"][h], temperature=4.0, kind=spec.kind,
        )
        for h, spec in HEADS.items()
    ]  # fmt: skip
    np.testing.assert_allclose(values["distill"][0], 0.8 * sum(soft) / 3, rtol=1e-5)


@pytest.mark.parametrize("scheme", distill.SCHEMES)
def test_several_heads_are_the_sum_of_single_ones(scheme):
    """Where they are added up; the mean is a third of it."""
    results, options = said(), {"scheme": scheme, "weight": 0.7, "gamma": 1.0}
    total, _ = found(results, over_heads="sum", **options)
    mean, _ = found(results, **options)
    single = [found(results, heads={h: spec}, **options)[0] for h, spec in HEADS.items()]
    for name in ("ce", "distill"):
        np.testing.assert_allclose(total[name], sum(own[name] for own in single), rtol=1e-5)
        np.testing.assert_allclose(mean[name] * 3, total[name], rtol=1e-5)


def test_lambda_0_is_cross_entropy_to_the_bit():
    """The loss and every gradient, whatever the teachers say."""
    plain, group = METHODS["single"](("rgb",), HEADS), a_group()

    @jax.jit
    def both(logits, teachers):
        def loss(terms):
            return reduce_terms(terms)[0]

        def taught(logits):
            return loss(found(teachers | {"rgb": {"logits": logits}}, group, weight=0.0)[1])

        def alone(logits):
            results = {("main", "train"): {"rgb": {"logits": logits}}}
            return loss(plain.terms(results, {"main": group}, {}, None))

        return jax.value_and_grad(taught)(logits), jax.value_and_grad(alone)(logits)

    results = said()
    one, other = both(results.pop("rgb")["logits"], results)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_clip_without_a_teacher_is_taught_by_the_others_or_by_its_label():
    results, lacking = said(), np.array([1, 1, 0, 0], bool)
    group = a_group({"flow": lacking, "boxes": np.array([1, 0, 1, 0], bool)})
    values, terms = found(results, group, weight=0.6)
    whole, _ = found(results, weight=0.6)
    boxes = results | {"flow": results["boxes"]}
    only, _ = found(boxes, weight=0.6)
    np.testing.assert_allclose(values["distill"][0, 0], whole["distill"][0, 0], rtol=1e-5)
    np.testing.assert_allclose(values["distill"][0, 2], only["distill"][0, 2], rtol=1e-5)
    assert values["distill"][0, 3] == 0
    np.testing.assert_allclose(values["ce"][0, 3], whole["ce"][0, 3] / 0.4, rtol=1e-5)
    np.testing.assert_allclose(values["ce"][0, :3], whole["ce"][0, :3], rtol=1e-6)
    assert terms["ce"].mask.all()  # a student counts with or without its teachers


def test_per_sample_weights_follow_each_examples_own_label():
    """With a gamma of 0 the teacher that is right about a clip teaches it alone."""
    results, group = said(), a_group()
    heads = {"verb": HEADS["verb"]}
    values, _ = found(results, group, heads=heads, scheme="per_sample", gamma=0.0)
    logits = np.stack([results[n]["logits"]["verb"] for n in TEACHERS])
    label = np.broadcast_to(group["label"]["verb"], (2, 4))
    best = np.asarray(losses.softmax_cross_entropy(logits, label)).argmin(0)
    assert len(set(best)) == 2
    want = distill.distillation(logits[best, np.arange(4)][None], results["rgb"]["logits"]["verb"], np.ones(1))
    np.testing.assert_allclose(values["distill"][0], want, rtol=1e-5)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"teachers": ()}, "beside a student"),
        ({"teachers": ("sound",)}, "beside a student"),
        ({"teachers": NAMES}, "beside a student"),
        ({"temperature": 0}, "greater than 0"),
        ({"weight": 1.5}, "from 0"),
        ({"scheme": "best"}, "choose one of"),
        ({"over_heads": "max"}, "choose one of"),
        ({"gamma": -1}, "0 or more"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        METHODS["distillation"](NAMES, HEADS, **({"teachers": TEACHERS} | options))


# ---------------------------------------------------------------------------- the same clips
class Placed(Source):
    """Pictures of which one channel tells the clip and the frame, the others the place, column and row."""

    def __getitem__(self, row):
        record = super().__getitem__(row)
        place = np.add.outer(2 * np.arange(self.size), 3 * np.arange(self.size + 8)).astype(np.uint8)
        frames = [np.full_like(place, 10 * row + t) for t in range(record["num_frames"])]
        colour = [cv2.imencode(".png", np.dstack([place, place, frame]))[1].tobytes() for frame in frames]
        flow = {"flow_x": record["flow_x"], "flow_y": [encode_png(place)] * (len(frames) - 1)}
        return record | flow | {"rgb": colour}


def shown(kind, **augment):
    """Three batches of all streams that teachers and students read: [(ids, {stream: its clips}, batch)]."""
    forms = {"rgb": "frames", "rgb05": "image05", "flow": "frames", "boxes": "layout", "audio": "logmel"}
    streams = {name: Stream(name, name.removesuffix("05"), Sampling(kind, 3), f) for name, f in forms.items()}
    groups = {"main": Group("train", 8, {"train": Augment(scales=(1.0, 0.8, 0.7), flip=True, **augment)})}
    how = dict(heads={"action": Head(5)}, size=24, seed=0)
    loader = trained({"main": Placed()}, groups, tuple(streams.values()), **how)
    batches = [jax.tree.map(np.asarray, batch) for _, batch in zip(range(3), loader)]
    return streams, [(b["main"]["id"], b["main"]["inputs"]["train"], b) for b in batches]


def mirrored(pictures):
    """Whether clips [B, T, H, W] of the place are; it rises to the right."""
    return pictures[:, 0, 0, -1] < pictures[:, 0, 0, 0]


def frames_of(pictures, ids):
    """The frames [B, T] that pictures [B, T, H, W] of one value tell."""
    value = pictures[:, :, :1, :1]
    np.testing.assert_array_equal(pictures, np.broadcast_to(value, pictures.shape))
    return value[..., 0, 0].astype(int) - 10 * ids[:, None]


def heard(first, last):
    """The first and the last sample of the sound from the beginning of one frame to the end of another."""
    rate = 16_000 / 12
    return np.round([first * rate, (last + 1) * rate - 1]).astype(int) % 1000


@pytest.mark.parametrize("kind", ["ranges", "uniform"])
def test_teachers_see_the_frames_crop_and_flip_of_their_student(kind):
    """Boxes and sound are of the same frames, and never cropped. Uniform sampling (MML's) may shift a whole
    modality by the frame that flow lacks; two streams of one modality move together."""
    flips, windows, shifts = set(), set(), set()
    for ids, seen, _ in shown(kind)[1]:
        place, flow = seen["rgb"][..., 1], seen["flow"]
        np.testing.assert_array_equal(seen["rgb"], seen["rgb05"])
        np.testing.assert_array_equal(flow[..., 1], place)
        flip = mirrored(place)
        across = flip[:, None, None, None]
        frames = {
            "rgb": frames_of(seen["rgb"][..., 0], ids),
            "flow": frames_of(np.where(across, 255 - flow[..., 0], flow[..., 0]), ids),
        }
        box = seen["boxes"][:, :, 0]
        left = np.where(flip[:, None], 1 - box[..., 2], box[..., 0])
        frames["boxes"] = np.rint(40 * left).astype(int)
        np.testing.assert_allclose(left, frames["boxes"] / 40, atol=1e-6)
        np.testing.assert_allclose(box[..., 2] - box[..., 0], 0.25, atol=1e-6)
        first, last = frames["rgb"][:, 0], frames["rgb"][:, -1]
        ends = seen["audio"][:, [0, -1], [0, -1]].T
        # A shift of three frames would sound alike.
        sound = [np.abs(ends - heard(first + by, last + by)).max(0) <= 1 for by in (-1, 0, 1)]
        assert np.sum(sound, 0).tolist() == [1] * len(ids)
        frames["audio"] = frames["rgb"] + np.argmax(sound, 0)[:, None] - 1
        for name in ("rgb", "boxes", "audio"):
            shift = frames[name] - frames["flow"]
            np.testing.assert_array_equal(shift, np.broadcast_to(shift[:, :1], shift.shape), err_msg=name)
            shifts |= set(shift.ravel().tolist())
        flips |= set(flip.tolist())
        windows |= {picture.tobytes() for picture in place[:, 0]}
    assert shifts == ({0} if kind == "ranges" else {0, 1})
    assert flips == {False, True} and len(windows) > 5


def echoing():
    """A network whose features are what it sees."""
    init = lambda key, x: ({"w": jnp.zeros(())}, {})  # noqa: E731

    def apply(params, stats, x, *, train, key):
        return {"logits": {"action": jnp.zeros((len(x), 5)) + params["w"]}, "features": x}, stats

    return Model(init, apply)


def test_teacher_and_student_see_the_same_colours():
    """One jitter a clip, of RGB alone, also where the student reads another form of the pictures than its RGB
    teacher; and what the loader made is what each network is shown, normalised in its own way."""
    streams, jittered = shown("ranges", colour=1.0, distortion="jitter")
    reads = {"rgb": "rgb05", "teacher_rgb": "rgb", "teacher_flow": "flow"}
    nets = tuple(Network(name, echoing(), ((read,),), name != "rgb") for name, read in reads.items())
    method = METHODS["distillation"](tuple(reads), {"action": Head(5)}, teachers=("teacher_rgb", "teacher_flow"))
    own = {n.name: {"params": {"w": jnp.zeros(())}, "stats": {}} for n in nets}
    state = types.SimpleNamespace(frozen={n: own[n] for n in own if n != "rgb"})
    forwards = jax.jit(
        lambda batch: passes.make_forwards(nets, streams, method)(
            {"rgb": own["rgb"]["params"]}, state, {"rgb": {}}, batch, jax.random.key(0)
        )[0]["main", "train"]
    )
    for (_, seen, batch), (_, plain, _) in zip(jittered, shown("ranges")[1], strict=True):
        np.testing.assert_array_equal(seen["rgb"], seen["rgb05"])
        assert (seen["rgb"] != plain["rgb"]).any((1, 2, 3, 4)).all()
        for name in ("flow", "boxes", "audio"):
            np.testing.assert_array_equal(seen[name], plain[name])
        outputs = forwards(batch)
        for name, read in reads.items():
            modality, form = MODALITIES[streams[read].modality], form_of(streams[read])
            mean, std = (np.float32(getattr(form, part) or getattr(modality, part)) for part in ("mean", "std"))
            features = np.rint(255 * (np.asarray(outputs[name]["features"]) * std + mean))
            np.testing.assert_array_equal(features, seen[read], err_msg=name)
