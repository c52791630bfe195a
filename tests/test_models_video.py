"""Video ResNets: the parameters and stage shapes of the papers, and what each form promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid.models import MODELS, build_model
from mmvid.models.video_resnet import middle_channels

CLIP = (1, 8, 112, 112, 3)
FORMS = ("r2plus1d_18", "r2plus1d_18_true", "r2plus1d_18_dmcl", "r3d_18", "mc3_18", "hara_r3d_18", "hara_r3d_50",
         "vmz_r3d_50", "csn_ir_50", "cmpl_resnet50", "cmpl_resnet10", "i3d_resnet50", "slow_resnet50",
         pytest.param("r2plus1d_101", marks=pytest.mark.slow))  # fmt: skip


@functools.cache
def shapes_of(name, clip=CLIP, **options):
    """(params, stats) as shapes."""
    model = build_model(name, **{"num_classes": 5} | options)
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(clip, jnp.float32))


def maps_of(name):
    """{stage: shape without batch} and the result of an eval forward, as shapes."""
    settings = dict(MODELS[name])
    module = settings.pop("module")(heads={"action": 5}, **settings)

    def run(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, train=False, mutable=["intermediates"])

    result, kept = jax.eval_shape(run, *shapes_of(name), jax.ShapeDtypeStruct(CLIP, jnp.float32))
    stages = {k: v[0].shape[1:] for k, v in kept["intermediates"].items() if not isinstance(v, dict)}
    return stages, result


def size(tree):
    return sum(v.size for v in jax.tree.leaves(tree))


# papers.md 6.3 and 6.8 by another name: the authors' code, counted.
COUNTS = [
    ("r2plus1d_18", 400, 31_505_325),
    ("r2plus1d_18", 60, 31_330_905),
    ("r3d_18", 60, 33_197_052),
    ("mc3_18", 60, 11_521_020),
    ("r2plus1d_18_true", 10, 33_170_769),
    ("r2plus1d_18_true", 30, 33_181_029),
    ("r2plus1d_18_true", 60, 33_196_419),
    ("r2plus1d_18_true", 120, 33_227_199),
    ("r2plus1d_18_true", 400, 33_370_839),
    ("r2plus1d_18_dmcl", 10, 15_383_882),
    ("r2plus1d_18_dmcl", 30, 15_394_142),
    ("r2plus1d_18_dmcl", 60, 15_409_532),
    ("r2plus1d_18_dmcl", 120, 15_440_312),
    ("hara_r3d_18", 700, 33_563_004),
    ("hara_r3d_50", 700, 47_633_276),
    ("vmz_r3d_50", 400, 46_980_944),
    ("csn_ir_50", 400, 13_131_152),
    # papers.md 6.7.
    ("i3d_resnet50", 400, 28_043_472),
    ("i3d_resnet50", 157, 27_545_565),
    ("slow_resnet50", 400, 32_454_096),
    ("cmpl_resnet50", 400, 33_024_208),
    ("cmpl_resnet50", 101, 32_411_557),
    ("cmpl_resnet50_x1_2", 400, 8_486_192),
    ("cmpl_resnet50_x1_2", 101, 8_179_717),
    ("cmpl_resnet50_x1_4", 400, 2_236_768),
    ("cmpl_resnet50_x1_4", 101, 2_083_381),
    ("cmpl_resnet50_x1_8", 400, 616_952),
    ("cmpl_resnet50_x1_8", 101, 540_109),
    # There 33.4M and 14.6M.
    ("cmpl_resnet18", 400, 33_390_288),
    ("cmpl_resnet10", 400, 14_585_808),
    # Tracing 152 layers takes seconds.
    pytest.param("csn_ip_152", 400, 33_016_592, marks=pytest.mark.slow),
    pytest.param("csn_ir_152", 400, 29_703_568, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name, classes, count", COUNTS)
def test_parameters_are_those_of_the_papers(name, classes, count):
    params, _ = shapes_of(name)
    features, few = params["classifier"]["action"]["kernel"].shape
    assert size(params) + (classes - few) * (features + 1) == count


WRAPPED = [("hara_r3d_18", 2048, 35_067_981), ("hara_r3d_50", 0, 47_012_429)]


@pytest.mark.parametrize("name, hidden, count", WRAPPED)
def test_parameters_of_haras_with_nouns_and_verbs(name, hidden, count):
    """Multimodal distillation's students for EPIC-Kitchens."""
    model = build_model(name, heads={"noun": 300, "verb": 97}, hidden=hidden)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(CLIP, jnp.float32))
    assert size(shapes[0]) == count


@pytest.mark.parametrize(
    "name, channels, count",
    [("vmz_r3d_50", 3, 46_161_344), ("vmz_r3d_50", 2, 46_151_936),
     pytest.param("r2plus1d_101", 3, 85_231_185, marks=pytest.mark.slow)],
)  # fmt: skip
def test_trunks_are_gradient_blendings(name, channels, count):
    params, _ = shapes_of(name, clip=(*CLIP[:4], channels), in_channels=channels)
    assert size({k: v for k, v in params.items() if k != "classifier"}) == count
    assert params["classifier"]["action"]["kernel"].shape == (2048, 5)


# Frames, pixels and channels of stem and stages for 8 frames of 112 pixels.
STAGES = {
    "r2plus1d_18": [(8, 56, 64), (8, 56, 64), (4, 28, 128), (2, 14, 256), (1, 7, 512)],
    "r2plus1d_18_true": [(8, 56, 64), (8, 56, 64), (4, 28, 128), (2, 14, 256), (1, 7, 512)],
    "r2plus1d_18_dmcl": [(8, 28, 64), (8, 28, 64), (4, 14, 128), (2, 7, 256), (1, 4, 512)],
    "r2plus1d_101": [(8, 56, 64), (8, 56, 256), (4, 28, 512), (2, 14, 1024), (1, 7, 2048)],
    "r3d_18": [(8, 56, 64), (8, 56, 64), (4, 28, 128), (2, 14, 256), (1, 7, 512)],
    "hara_r3d_18": [(4, 28, 64), (4, 28, 64), (2, 14, 128), (1, 7, 256), (1, 4, 512)],
    "hara_r3d_50": [(4, 28, 64), (4, 28, 256), (2, 14, 512), (1, 7, 1024), (1, 4, 2048)],
    "vmz_r3d_50": [(8, 56, 64), (8, 56, 256), (4, 28, 512), (2, 14, 1024), (1, 7, 2048)],
    "i3d_resnet50": [(8, 28, 64), (8, 28, 256), (4, 14, 512), (4, 7, 1024), (4, 4, 2048)],
    "slow_resnet50": [(8, 28, 64), (8, 28, 256), (8, 14, 512), (8, 7, 1024), (8, 4, 2048)],
    "cmpl_resnet50": [(8, 28, 64), (8, 28, 256), (8, 14, 512), (8, 7, 1024), (8, 4, 2048)],
    "cmpl_resnet10": [(8, 28, 64), (8, 28, 64), (8, 14, 128), (8, 7, 256), (8, 4, 512)],
    "csn_ir_50": [(8, 28, 64), (8, 28, 256), (4, 14, 512), (2, 7, 1024), (1, 4, 2048)],
    "mc3_18": [(8, 56, 64), (8, 56, 64), (8, 28, 128), (8, 14, 256), (8, 7, 512)],
}


@pytest.mark.parametrize("name", FORMS)
def test_stages_are_those_of_the_papers(name):
    stages, result = maps_of(name)
    want = [(t, s, s, c) for t, s, c in STAGES[name]]
    assert [stages[k] for k in ("stem", "layer1", "layer2", "layer3", "layer4")] == want
    assert result["map"].shape[1:] == want[-1] and result["features"].shape == (1, want[-1][-1])


def test_middle_channels_are_the_papers():
    pairs = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    assert [middle_channels(*p) for p in pairs] == [144, 230, 288, 460, 576, 921, 1152]


def test_forms_differ_in_the_second_convolution_of_a_first_block():
    kernels = [
        shapes_of(n)[0]["layer2_0"]["conv2_spatial"]["kernel"].shape
        for n in ("r2plus1d_18", "r2plus1d_18_true", "r2plus1d_18_dmcl")
    ]
    assert kernels == [(1, 3, 3, 128, 230), (1, 3, 3, 128, 288), (1, 3, 3, 128, 128)]


def test_only_dmcl_projects_in_its_first_block():
    assert "downsample_conv" in shapes_of("r2plus1d_18_dmcl")[0]["layer1_0"]
    assert "downsample_conv" not in shapes_of("r2plus1d_18_dmcl")[0]["layer1_1"]
    assert "downsample_conv" not in shapes_of("r2plus1d_18")[0]["layer1_0"]


# ---------------------------------------------------------------------------- small networks that run
SMALL = {"width": 4, "stages": (1,), "num_classes": 5}


def made(name, clip, **options):
    """(model, x, params, stats), drawn here: a jitted init compiles for seconds."""
    model = build_model(name, **SMALL | {"in_channels": clip[-1]} | options)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=clip), jnp.float32)
    shapes, stats = jax.eval_shape(model.init, jax.random.key(0), x)
    params = jax.tree.map(lambda s: np.float32(0.5 * rng.normal(size=s.shape)), shapes)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, s: np.full(s.shape, path[-1].key == "var", np.float32), stats
    )
    return model, x, params, stats


# A clip of one frame, an image, and flow of odd length: what a plan or a start may give any network.
@pytest.mark.parametrize(
    "name, clip",
    [("r2plus1d_18_dmcl", (1, 1, 9, 12, 3)), ("mc3_18", (1, 9, 12, 3)), ("r2plus1d_18_dmcl", (2, 3, 10, 10, 10))],
)
def test_any_length_size_and_channels(name, clip):
    model, x, params, stats = made(name, clip, stages=(1, 1))
    result, same = jax.jit(lambda p, s: model.apply(p, s, x, train=False, key=None))(params, stats)
    assert params["conv1"]["kernel"].shape[-2] == clip[-1]
    assert result["logits"]["action"].shape == (clip[0], 5) and jnp.isfinite(result["features"]).all()
    assert jax.tree.structure(same) == jax.tree.structure(stats)
    np.testing.assert_allclose(result["map"].mean((1, 2, 3)), result["features"], rtol=1e-5, atol=1e-6)


def training(model):
    """(params, stats, x) -> (features, new stats) of a training forward."""

    def run(params, stats, x):
        result, new = model.apply(params, stats, x, train=True, key=jax.random.key(0))
        return result["features"], new

    return jax.jit(run)


@pytest.mark.parametrize(
    "name, share", [("r2plus1d_18", 0.1), ("r2plus1d_18_dmcl", 0.003), ("r2plus1d_18_true", 0.1)]
)
def test_running_statistics_move_by_each_codes_share(name, share):
    model, x, params, stats = made(name, (2, 1, 8, 8, 3))
    run = training(model)
    once, twice = (run(params, jax.tree.map(lambda v, k=k: k + 0 * v, stats), x)[1] for k in (1.0, 2.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b - a, 1 - share, rtol=1e-5), once, twice)


@pytest.mark.parametrize(
    "name, eps", [("r2plus1d_18", 1e-5), ("r2plus1d_18_dmcl", 1e-5), ("r2plus1d_18_true", 1e-3)]
)
def test_variances_and_eps_are_added(name, eps):
    """Only their sum counts, hence the same network of another eps and other variances."""

    def features(offset, **options):
        model, x, params, stats = made(name, (2, 1, 8, 8, 3), **options)
        stats = jax.tree.map(lambda v: np.where(v == 1, v - offset, v), stats)
        return jax.jit(lambda p: model.apply(p, stats, x, train=False, key=None)[0]["features"])(params)

    np.testing.assert_allclose(features(eps), features(0.5, eps=0.5), rtol=2e-5, atol=1e-6)


def test_kernels_are_drawn_as_each_code_does():
    options = {"width": 64, "stages": ()}

    def stem(name):
        model = build_model(name, num_classes=5, **options)
        draw = jax.jit(lambda key: model.init(key, jnp.zeros((1, 1, 8, 8, 3)))[0]["conv1"]["kernel"])
        return np.asarray(draw(jax.random.key(0)))

    kernel = stem("r2plus1d_18_dmcl")
    np.testing.assert_allclose(kernel.std(), (1 / 147) ** 0.5, rtol=0.05)
    assert np.abs(kernel).max() < 2.5 * kernel.std(), "a truncated normal has no tails"
    np.testing.assert_allclose(stem("r3d_18").std(), (2 / (64 * 147)) ** 0.5, rtol=0.05)


@pytest.mark.parametrize(
    "frozen, moving", [("all", set()), ("all_but_first", {"bn1"}), ("none", {"bn1", "bn2", "layer1_0"})]
)
def test_frozen_norms_stay_but_the_first_where_asked(frozen, moving):
    model, x, params, stats = made("r2plus1d_18", (2, 1, 8, 8, 3), frozen_bn=frozen)
    new = training(model)(params, stats, x)[1]
    leaf = lambda tree, k: np.asarray(jax.tree.leaves(tree[k])[0])  # noqa: E731
    assert {k for k in stats if not np.array_equal(leaf(new, k), leaf(stats, k))} == moving


def test_recomputing_changes_nothing():
    def gradients(**options):
        model, x, params, stats = made("r2plus1d_18", (2, 2, 8, 8, 3), **options)
        return jax.jit(jax.grad(lambda p: jnp.sin(training(model)(p, stats, x)[0]).sum()))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradients(remat=True), gradients()
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"form": "flat"}, r"form='flat': choose one of \('full'"),
        ({"middle": "all"}, "middle='all'"),
        ({"padding": "valid"}, "padding='valid'"),
        ({"kernel_init": "zeros"}, "kernel_init='zeros'"),
        ({"shift_div": 8}, r"no option \['shift_div'\]; it knows .*'form'"),
        ({"module": None}, r"no option \['module'\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("r2plus1d_18", num_classes=5, **options)


@pytest.mark.parametrize("form", ["leading", "reduced"])
def test_forms_of_bottlenecks_need_them(form):
    with pytest.raises(ValueError, match=f"form='{form}' .* as bottlenecks alone allow"):
        shapes_of("cmpl_resnet10", form=form, stages=(1,))


def test_an_option_of_another_module_is_refused():
    with pytest.raises(ValueError, match=r"'tsm_resnet18' has no option \['form'\]"):
        build_model("tsm_resnet18", num_classes=5, form="full")
