"""Every variant of every config: the whole train step traced at true size, and one real step of a shrunken copy
of each that is a program of its own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import weights as drawn_weights

from configs import cmpl, common, distill, dmcl, dmcl_tables, gblend, mml, mml_grids
from data_prep import build
from data_prep.tabletop import files, specs
from mmvid import methods, network, plans
from mmvid.data import sampling
from mmvid.data.augment import Augment, test_windows
from mmvid.data.fields import FIELDS
from mmvid.data.workers import Loader
from mmvid.methods import METHODS, semi
from mmvid.models import FUSION, MODELS
from mmvid.plans import keys, networks
from mmvid.plans import segment as segment_lib
from mmvid.run import dry, loop, talk
from mmvid.run.evaluation import Evaluation
from mmvid.streams import Head, Sampling, Stream, Views, form_of, host_shape

# Not the default's and ssv2's but for steps and test, nor grids, which are of the same steps but for table 2's.
VARIANTS = sorted({*mml.VARIANTS} - {*mml_grids.variants(*[None] * 4)} - {"smoke", "ssv2_full_res"})
VARIANTS = ["table2", "charades", *VARIANTS]
# Those of DMCL that are another program; the datasets of one recipe differ in classes and clips.
DMCL = ("gd", "r2plus1d", "rgb_shared", "table")
DEEP = ("own", "ntu120")
# Each of the programs that no other variant has.
DISTILL = ("omnivore", "epic100_omnivore", "something_else", "r3d18")
RECIPES = ("ntu120", "ntu120_mini", "ntu60", "nwucla", "uwa3d")
CLIPS = {"dataset": {"train": 400}, "stills": {"train": 1000}}


def shallow(config):
    """A copy whose deep networks have one block in each of their stages: two say what twenty say, and the goldens
    are of networks at their true depth."""
    config = config.copy_and_resolve_references().unlock()
    for spec in config.networks.values():
        models = spec.options.encoders.values() if spec.model == FUSION else [spec.model]
        depths = {len(MODELS[model].get("stages", ())) for model in models}
        # What a fusion is told of stages goes to all of its encoders.
        if len(depths) == 1 and (depth := depths.pop()):
            spec.options.stages = (1,) * depth
    return config


def alike(state, new):
    """Whether two states have the same tree, shapes and dtypes."""
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    return jax.tree.all(jax.tree.map(same, state, new))


# The largest, and those whose program another one has.
SLOW = (
    "charades", "dmcl-gd", "dmcl-r2plus1d", "epic", "full", "multilabel", "own", "ssv2", "ssv2_r101", "table2",
)  # fmt: skip
# Two heads and several labels have a step below, and whole runs in test_train.py; at two frames R101's is ssv2's.
STEPPED = ("", "full", "own", "ssv2")


def _slow(variant):
    return [pytest.mark.slow] if variant in SLOW else []


def context(config):
    heads = {n: Head(*spec) for n, spec in config.heads.items()} or {"action": Head(20)}
    # Subsets stand beside the splits that they are of.
    clips = CLIPS | {"dataset": CLIPS["dataset"] | dict.fromkeys(config.subsets, 80)}
    return segment_lib.Context(config, heads, clips, {"noun": Head(8)})


def a_label(head, rows):
    """Class ids, or one class of several: [B, K]."""
    ids = rows % head.classes
    return ids if head.kind == "single" else np.eye(head.classes, dtype=np.float32)[ids]


def a_batch(segment, size, batch_size):
    """Zeros in the shape that the loader gives."""
    inputs = {
        name: np.zeros((batch_size, *host_shape(s, size)), form_of(s).dtype) for name, s in segment.streams.items()
    }
    rows = np.arange(batch_size, dtype=np.int32)
    turns = any(pass_.one_of for pass_ in segment.method.passes)
    chosen = {n.name: np.int32(0) for n in segment.networks if len(n.reads) > 1}
    return {"main": ({"one_of": chosen} if turns else {}) | {
        "inputs": {"train": inputs},
        "label": {name: a_label(head, rows) for name, head in segment.heads.items()},
        "mask": np.ones(batch_size, bool),
        "present": {name: np.ones(batch_size, bool) for name in segment.streams},
        "id": rows,
    }}  # fmt: skip


def a_state(segment, size, ema, weights=lambda init, key: init(key)):
    """A key's first state; its weights are ``weights(init, key)``."""

    def make(key):
        init = lambda key: network.init_params(segment.networks, segment.streams, size, key)  # noqa: E731
        params, stats = weights(init, key)
        return network.init_state(segment.networks, params, stats, segment.method, segment.tx, key, ema=ema)

    return make


@pytest.mark.parametrize(
    "config",
    [*(pytest.param(mml.get_config(v), marks=_slow(v)) for v in VARIANTS),
     *(pytest.param(dmcl.get_config(v), marks=_slow(f"dmcl-{v}")) for v in DMCL),
     *(pytest.param(own.get_config(), marks=pytest.mark.slow) for own in (distill, gblend, cmpl)),
     *(pytest.param(dmcl.get_config(r), marks=pytest.mark.slow) for r in DEEP),
     *(pytest.param(distill.get_config(v), marks=pytest.mark.slow) for v in DISTILL),
     pytest.param(gblend.get_config("table"), marks=pytest.mark.slow),
     *(pytest.param(cmpl.get_config(v), marks=pytest.mark.slow) for v in ("cross_modal", "nouns", "table"))],
    ids=[*VARIANTS, *(f"dmcl-{v}" for v in DMCL), "distill", "gblend", "cmpl", *(f"dmcl-{v}" for v in DEEP),
         *(f"distill-{v}" for v in DISTILL), "gblend-table",
         *(f"cmpl-{v}" for v in ("cross_modal", "nouns", "table"))],
)  # fmt: skip
def test_the_step_has_its_true_shapes(config):
    """One segment of each set of networks; every method takes its step below."""
    config = shallow(config)
    kind = lambda s: str(([(n.name, n.frozen) for n in s.networks], s.heads, [*s.groups]))  # noqa: E731
    kinds = {kind(s): s for s in plans.make(context(config))}
    for segment in kinds.values():
        state = jax.eval_shape(a_state(segment, config.size, config.ema > 0), jax.random.key(0))
        batch = a_batch(segment, config.size, segment.main.batch_size)
        if len(segment.groups) > 1:
            batch = dry.batch(segment, config.size)
        traced = jax.make_jaxpr(loop.make_step(segment, config), return_shape=True)
        program, (new, metrics) = traced(state, batch)
        assert alike(state, new), segment.name
        # Large ones would be compiled into the program, for minutes.
        assert sum(np.asarray(constant).nbytes for constant in program.consts) < 4e6, segment.name
        assert segment.steps > 0 and all(m.shape == () for m in metrics.values())


def shrunken(variant, experiment=mml):
    """A variant at 32 pixels and two frames, its networks of one block."""
    config = experiment.get_config(variant).unlock()
    config.size, config.batch_size, config.stills.batch_size = 32, 2, 2
    for spec in config.networks.values():
        if "stages" in MODELS[spec.model]:
            spec.options.stages = (1,)
    for spec in config.streams.values():
        spec.sampling.frames = 2
    return config


def test_options_of_one_network_are_its_own():
    config = mml.get_config()
    config.networks.flow.options.width = 4
    assert config.networks.rgb.options.width is None is common.get_config().model_options.width


@pytest.mark.parametrize("variant", [pytest.param(v, marks=_slow(v)) for v in STEPPED])
def test_one_real_step(variant):
    config = shrunken(variant)
    seen = set()
    for segment in plans.make(context(config)):
        # Segments that differ in weights alone share a program.
        kind = (tuple(n.name for n in segment.networks), segment.method.terms.__module__)
        if kind in seen:
            continue
        seen.add(kind)
        state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
        new, metrics = jax.jit(loop.make_step(segment, config))(state, a_batch(segment, 32, 2))
        assert all(np.isfinite(m) for m in jax.tree.leaves(metrics)), metrics
        assert int(new.step) == 1 and alike(state, new)
        assert ("rgb/kl" in metrics) == (segment.name in ("ml", "mml"))
    assert "mmvid.methods.mml" in {module for _, module in seen}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["epic", "multilabel"])
def test_a_step_of_each_view_of_tabletop(variant):
    """Two heads, and several labels a clip."""
    config = shrunken(variant)
    segment = plans.make(context(config))[-1]
    state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
    batch = a_batch(segment, 32, 2)
    new, metrics = jax.jit(loop.make_step(segment, config))(state, batch)
    assert set(batch["main"]["label"]) == set(common.TABLETOP_VIEWS[variant]) and alike(state, new)
    assert np.isfinite(metrics["rgb/kl"]) and np.isfinite(metrics["flow/kl"])


@pytest.mark.parametrize("variant, name", [
    ("table", "dmcl"),
    *(pytest.param("table", n, marks=pytest.mark.slow) for n in ("smcl", "cmcl", "random_teacher")),
    *(pytest.param(r, "dmcl", marks=pytest.mark.slow) for r in ("own", "nwucla")),
    pytest.param("gd", "generalized_distillation", marks=pytest.mark.slow),
    pytest.param("rgb_shared", "cmcl", marks=pytest.mark.slow),
    pytest.param("r2plus1d", "dmcl", marks=pytest.mark.slow),
])  # fmt: skip
def test_one_real_step_of_dmcl(variant, name):
    config = shrunken(variant, dmcl)
    segment = next(s for s in plans.make(context(config)) if s.name == name)
    state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
    new, metrics = jax.jit(loop.make_step(segment, config))(state, a_batch(segment, 32, 2))
    assert all(np.isfinite(m) for m in jax.tree.leaves(metrics)), metrics
    assert int(new.step) == 1 and alike(state, new)
    outputs = segment.method.teachers or [o for n in segment.networks for o in n.outputs]
    wins = [float(metrics[f"{o}/win"]) for o in outputs if f"{o}/win" in metrics]
    assert not wins or sum(wins) == pytest.approx(1)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, new.frozen)


@pytest.mark.slow
def test_one_real_step_of_distillation():
    """Of the teachers, and of the student that learns from all of them."""
    config = shrunken("", distill)
    for segment in (s for s in plans.make(context(config)) if s.name in ("teachers", "distillation")):
        state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
        new, metrics = jax.jit(loop.make_step(segment, config))(state, a_batch(segment, 32, 2))
        assert all(np.isfinite(m) for m in jax.tree.leaves(metrics)), metrics
        assert int(new.step) == 1 and alike(state, new)
        jax.tree.map(np.testing.assert_array_equal, state.frozen, new.frozen)
    assert {n for n in metrics if n.endswith("/distill")} == {"rgb/distill"} and len(state.frozen) == 4


def test_the_default_of_distillation():
    """What a run of it on two cores may cost, and whose optimisers are their own."""
    config = distill.get_config()
    segments = {s.name: s for s in plans.make(context(config))}
    assert list(segments) == ["stills", "teachers", "teacher_boxes", "baseline", "distillation"]
    assert segments["teacher_boxes"].main.batch_size == 64
    assert all(s.steps <= 750 for s in segments.values())
    assert segments["baseline"].seed == segments["distillation"].seed != segments["teachers"].seed
    assert segments["baseline"].lr["rgb"] is not None and "held" in segments["teachers"].scored
    learning = {n: own for s in segments.values() for n, own in s.spec["program"]["learning"].items()}
    names = [learning[f"teacher_{m}"]["optimizer"]["name"] for m in ("audio", "boxes", "flow", "rgb")]
    assert names == ["adamw", "adamw", "sgd", "sgd"]


@pytest.mark.parametrize("variant, frames", [("epic100", 32), ("ssv2", 16), ("something_else", 16), ("r3d18", 32)])
def test_the_recipe_of_distillation(variant, frames):
    """The paper's implementation details; boxes are neither cropped nor mirrored, and only EPIC is mirrored."""
    config = distill.get_config(variant)
    spec = config.optimizer
    assert (spec.name, spec.weight_decay, spec.clip, spec.groups) == ("adamw", 0.05, 5.0, "all")
    assert config.augment.flip == (frames == 32) and config.augment.crop == "resized"
    streams = networks.make_streams(config)
    assert sampling.check_streams(tuple(streams.values()))
    assert {s.sampling.frames for s in streams.values()} == {frames}
    *alone, teachers, baseline, student = plans.make(context(config))
    assert [(s.name, s.main.batch_size) for s in alone] == ([("teacher_boxes", 128)] if frames == 16 else [])
    rate = student.lr["rgb"]
    peak = max(range(0, student.steps + 1, 15), key=rate)
    assert peak == pytest.approx(0.05 * student.steps, abs=15)
    assert float(rate(peak)) == pytest.approx(1e-4, rel=0.02)
    assert float(rate(student.steps // 2)) == pytest.approx(1e-4 * 0.5 / 0.95, rel=0.01)
    # 400 clips, 16 a step, 60 epochs; 80 of them teach no teacher.
    assert (baseline.steps, student.steps, teachers.steps) == (1500, 1500, 300)
    clips = round(config.subsets.held.share * config.dataset.clips.train)
    assert clips == 1000 and streams.get("boxes", Stream("", "rgb", geometry="")).geometry == ""


def test_the_table_of_distillation():
    """Students have batches, updates and weights to begin with in common; what differs is what the table is of."""
    config = distill.get_config("table")
    segments = {s.name: s for s in plans.make(context(config))}
    students = {n: s for n, s in segments.items() if s.method.teachers}
    assert len(students) == 11 and list(segments)[-1] == "distillation"
    # Figure 6 leaves views out; the 'val' of training has one.
    assert config.evaluation.protocol == "C3" and config.evaluation.during_protocol == "val"
    rates = {n: s.spec["program"]["learning"][n]["schedule"]["lr"] for s in segments.values()
             for n in ("omni", "rgb") if n in s.spec["program"]["learning"]}  # fmt: skip
    assert rates == {"omni": 0.2, "rgb": 0.2}
    assert {(s.steps, s.seed) for s in students.values()} == {(300, segments["baseline"].seed)}
    assert segments["omnivore_omni"].steps == 4 * 300 and segments["omnivore_omni"].outputs == ("omni.rgb",)
    sets = {frozenset(s.method.teachers) for s in students.values()}
    assert len(sets) == 6 and all("teacher_rgb" in own for own in sets)
    assert len(set(keys.of(list(segments.values())).values())) == len(segments)


# The order of the streams, in which weights are given by hand, where it is not sound and RGB.
ORDERS = {
    "kinetics_rgb_flow": ("rgb", "flow"),
    "kinetics_flow_audio": ("audio", "flow"),
    "kinetics_all": ("rgb", "flow", "audio"),
}
DEEP_RGB = dict.fromkeys(("kinetics_csn152", "epic55_noun", "epic55_verb"), "csn_ip_152")
DEEP_RGB |= {"audioset": "r2plus1d_101"}
REAL = [variant for variant in gblend.VARIANTS if "tabletop" not in gblend.get_config(variant).dataset.path]


@pytest.mark.parametrize("variant", REAL)
def test_the_datasets_of_gradient_blending(variant):
    """R(2+1)D's recipe, 45 epochs of a million clips; ten or 30 views; what each network sees."""
    config = shallow(gblend.get_config(variant))
    clips, share = dict(config.dataset.clips), config.subsets.held.share
    held = round(clips["train"] * share)
    clips |= {"held": held, "fixed": held, "taught": clips["train"] - held}
    segments = {s.name: s for s in plans.make(context(config)._replace(clips={"dataset": clips}))}
    main = segments["gblend"]
    assert {s.main.split for s in segments.values()} == {"taught" if "probe" in segments else "train"}
    # Taken of every class alike, all clips of rare ones would be held out.
    assert {config.subsets[name].by for name in ("held", "fixed")} == {"frequency"}
    passes = 45 if variant.startswith("epic55") else 45e6 / clips[main.main.split]
    assert main.stop == pytest.approx(passes * clips[main.main.split] / config.batch_size, rel=2e-3)
    if config.schedule.kind == "step":
        rates = [float(main.lr["av"](round(main.stop * epoch / 45))) for epoch in (5, 15, 25, 35, 44)]
        assert rates == pytest.approx(config.schedule.lr * np.array([0.5, 1, 0.1, 0.01, 0.001]), rel=0.01)
    known = {"rgb": "vmz", "flow": "frames", "audio": "spectrogram" if "epic" in variant else "logmel"}
    assert {s.modality: s.form for s in main.streams.values()}.items() <= known.items()
    views = Views(config.evaluation.protocol, crops=config.evaluation.crops, resize=config.evaluation.resize)
    for stream in main.streams.values():
        assert sampling.test_indices(300, stream, views).shape == (10, stream.sampling.frames)
    assert len(test_windows(256, 340, config.size, views)[0]) == (3 if variant.endswith("csn152") else 1)
    # Section 4: both backbones have 152 layers on Kinetics and EPIC-Kitchens, 101 on AudioSet.
    if deep := DEEP_RGB.get(variant):
        found = config.networks.audio.model, config.networks.rgb.model
        assert found == (f"audio_resnet{deep[-3:]}", deep)
    # Weights that are given are of all classifiers, and several labels are scaled in every network.
    streams = ORDERS.get(variant, ("audio", "rgb"))
    outputs = [output for made in main.networks for output in made.outputs]
    assert outputs == [f"av.{part}" for part in (*streams, "joint")]
    if config.method.gblend.weights != "estimate":
        assert len(config.method.gblend.weights.split(",")) == len(outputs)
    multi = any(kind == "multi" for _, kind in config.heads.values())
    assert {bool(n.options.get("affine")) for n in config.networks.values()} == {multi}
    check_published(config, segments.values())


def test_the_default_and_the_table_of_gradient_blending():
    """What is compared sees the same clips in the same batches; super-epochs are of 10, then 5, of 45 epochs."""
    for variant in ("", "online", "table"):
        config = gblend.get_config(variant)
        segments = {s.name: s for s in plans.make(context(config))}
        # Classifiers on frozen encoders see batches of their own.
        assert len({s.seed for name, s in segments.items() if not name.startswith("trunk")}) == 1
        assert {s.main.split for s in segments.values()} == {"taught"} and "held" in segments["probe"].measure
        titled = [s for s in segments.values() if s.title]
        assert len({(s.stop, s.spec["program"]["schedule_steps"]) for s in titled}) == 1
        keys_of = keys.of(list(segments.values()))
        assert "" not in keys_of.values() and len(set(keys_of.values())) == len(segments)
        lengths = [s.steps for name, s in segments.items() if name.startswith("online")]
        assert lengths == ([223, *[111] * 7] if variant == "online" else [])
        assert sum(lengths) in (0, segments["gblend"].steps)
    # Of the table: a network of every kind of joint classifier, and the copies of all in one probe.
    outputs = {s.name: [o for n in s.networks for o in n.outputs] for s in segments.values()}
    assert set(outputs["probe"]) >= {"audio", "flow", "rgb", "naive", "naive_rfa", "naive_mid", "naive_lmf"}
    assert outputs["rfa"] == ["rfa.rgb", "rfa.flow", "rfa.audio", "rfa.joint"] and len(segments) == 18


@pytest.mark.parametrize("variant", ["", "five", "cross_modal", "cross_medium", "medium", "nouns", "table"])
def test_few_labels_on_tabletop(variant):
    """What is compared learns from the same clips for as long; no draw has an unlabelled clip."""
    config = cmpl.get_config(variant)
    made = plans.make(context(config))
    assert len(set(keys.of(made).values())) == len(made)
    segments = {s.name: s for s in made if s.name != "stills"}
    assert len({(s.seed, s.steps, s.steps_per_epoch) for s in segments.values()}) == 1
    assert {s.groups["unlabelled"].split for s in segments.values() if "unlabelled" in s.groups} == {"unlabelled"}
    own = segments["method"]
    assert own.headline == own.networks[0].outputs[0] == config.headline and len(own.networks) == 2
    assert own.groups["unlabelled"].batch_size <= 12 and config.evaluation.protocol == "E2"
    # Whoever has no labels in one of the draws has some in no other.
    rule, left = config.subsets.unlabelled, set()
    while rule:
        left.add(rule["without"])
        rule = config.subsets.get(rule["of"])
    draws = {name for name in config.subsets if name.startswith("labelled")}
    assert left == draws and len(draws) == (1 if variant in ("", "five", "nouns") else 3)
    if variant == "table":
        schemes = {s.spec["program"]["method"][1].get("scheme") for s in segments.values()}
        assert schemes >= set(semi.SCHEMES) and len(segments) == 3 * 6 + len(cmpl.RIVALS) + 2
        assert segments["rates"].networks[0].outputs == ("rates.flow", "rates.flow_fast")


@pytest.mark.parametrize("variant", RECIPES)
def test_dmcls_recipe(variant):
    """The released code: dmcl.py and its parsers; the published numbers are among the rows."""
    config = dmcl.get_config(variant)
    assert (config.batch_size, config.schedule.lr, config.size) == (8, 1.28e-3, 224)
    assert config.evaluation.best_by == "oracle" and config.evaluation.protocol == "R10"
    assert config.evaluation.batch_size * 10 <= 64  # clips in one forward
    streams = networks.make_streams(config)
    sampling.check_streams(tuple(streams.values()))
    assert {s.form for s in streams.values()} == {"image255"}
    segment = plans.make(context(config))[-1]
    assert segment.steps == 220 * 50  # 400 clips, 8 a step
    want = {0: 0, 5: 1.28e-3, 99: 1.28e-3, 100: 1.28e-4, 150: 1.28e-5, 180: 1.28e-6, 200: 1.28e-7}
    for lr in segment.lr.values():
        assert {epoch: float(lr(epoch * 50)) for epoch in want} == pytest.approx(want, rel=1e-5)
    assert any("DMCL" in what for what, _ in config.published)


def test_dmcls_rows_of_tables_3_and_4_say_what_was_trained_and_tested_on():
    """A row a set of modalities, as the paper has them, in the column of what is tested."""
    uwa, mini = dmcl.get_config("uwa3d").published, dmcl.get_config("ntu120_mini").published
    own = {"trained on": "RGB, D", "tested on": "RGB+", "rgb": "66.67"}
    assert ("Hoffman et al., UWA3DII (T3)", own) in uwa
    own = {"trained on": "RGB, D, F", "tested on": "RGB, D, F", "sum": "86.57"}
    assert ("Independent, sum, NTU120-mini (T4)", own) in mini
    counts = {name: sum("tested on" in row for _, row in rows) for name, rows in dmcl_tables.ROWS.items()}
    assert counts == {
        "NW-UCLA": 14, "UWA3DII": 13, "NTU60": 11, "NTU120-mini": 10, "NTU120": 12}  # fmt: skip


def test_dmcls_tables_repeat_their_numbers():
    """All but four of the paper's, which guards those that were typed here."""
    found = {}
    for what, row in (own for rows in dmcl_tables.ROWS.values() for own in rows):
        method, dataset = what.partition(" (")[0].replace(", sum", "").split(", ")
        for column, text in row.items():
            if column not in ("trained on", "tested on"):
                found.setdefault((method, dataset, column), set()).add(text)
    other = {key: texts for key, texts in found.items() if len(texts) > 1}
    assert other == {
        ("Independent", "NW-UCLA", "rgb"): {"87.53", "87.52"},
        ("Independent", "NW-UCLA", "sum"): {"93.79", "93.9"},
        ("DMCL", "UWA3DII", "sum"): {"89.50", "88.51"},
        ("DMCL", "UWA3DII", "oracle"): {"94.96", "94.59"},
        # VGG of two sets of modalities.
        ("VGG", "NTU120", "sum"): {"61.9", "64.0"},
    }


@pytest.mark.parametrize("name", dmcl.DATASETS)
def test_dmcls_tables_and_the_papers_form(name):
    """Tables 1 and 2 train all methods; the paper's form has its own weights of the loss and a constant rate."""
    every, form = dmcl.get_config(f"{name}_table"), dmcl.get_config(f"{name}_paper")
    assert [s.name for s in plans.make(context(every))] == list(dmcl.METHODS)
    assert every.published == form.published == dmcl.get_config(name).published
    loss = form.method.dmcl
    # lambda .5 and T 2: equation 3 has no T^2.
    assert (loss.alpha_gt, loss.alpha_distill * loss.temperature**2, loss.temperature) == (0.5, 0.5, 2.0)
    segment = plans.make(context(form))[-1]
    rates = [float(segment.lr["rgb"](step)) for step in (0, segment.steps // 2, segment.steps)]
    assert rates == pytest.approx([1e-3] * 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [dict(accumulate=2), dict(ema=0.9), dict(dtype="bfloat16"), dict(remat=True), dict(frozen_bn="all_but_first")],
    ids=lambda c: next(iter(c)),
)
def test_options_train(change):
    config = shrunken("own")
    for name, value in change.items():
        if name in config:
            config[name] = value
        else:
            config.model_options[name] = value
    config.batch_size = 4
    segment = plans.make(context(config))[-1]
    state = a_state(segment, 32, config.ema > 0, drawn_weights)(jax.random.key(0))
    new, metrics = jax.jit(loop.make_step(segment, config))(state, a_batch(segment, 32, 4))
    assert all(np.isfinite(m) for m in jax.tree.leaves(metrics))
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(new.params))
    if "frozen_bn" in change:
        before, after = (s.params["rgb"]["layer1_0"]["bn1"]["scale"] for s in (state, new))
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_remat_and_plain_agree():
    """Rematerialisation changes memory, not numbers."""
    found = []
    for remat in (False, True):
        config = shrunken("own")
        config.model_options.remat = remat
        segment = plans.make(context(config))[0]
        state = a_state(segment, 32, False, drawn_weights)(jax.random.key(0))
        found.append(jax.jit(loop.make_step(segment, config))(state, a_batch(segment, 32, 2))[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *found)


@pytest.mark.parametrize("view", common.TABLETOP_VIEWS)
def test_each_view_of_tabletop_has_its_folder_and_its_label_spaces(view):
    config = common.get_config().unlock()
    common.use_tabletop(config, "smoke", view)
    spec = build.parse([*config.dataset.command[1:]])
    assert (spec.dataset, spec.size, spec.view, str(spec.out)) == ("tabletop", "smoke", view, config.dataset.path)
    assert config.dataset.path == "data/tabletop-smoke" + ("" if view == "verb" else f"-{view}")
    spaces = {name: (len(head["names"]), head["kind"]) for name, head in files._heads(view).items()}
    assert config.dataset.clips.to_dict() == specs.SIZES["smoke"]
    assert dict(config.heads) in ({}, spaces) and (view == "verb") == (not config.heads)
    with pytest.raises(ValueError, match=r"'nouns'.*epic"):
        common.use_tabletop(config, view="nouns")


def test_what_may_be_missing_are_the_fields_of_records():
    assert dict(common.get_config().missing) == dict.fromkeys(FIELDS, 0.0)


EVERY = [
    pytest.param(m.get_config(v), id=f"{m.__name__}:{v}")
    for m in (mml, dmcl, distill, gblend, cmpl)
    for v in m.VARIANTS
]


@pytest.mark.parametrize("config", EVERY)
def test_options_are_the_fields_of_their_specs(config):
    """A configuration states no default again, and names no option that nobody reads."""
    usual = common.get_config()
    for name, spec in (("augment", Augment), ("evaluation", Evaluation), ("loader", Loader)):
        assert spec(**usual[name]) == spec() and set(config[name]) == set(spec._fields)
        spec(**config[name])
    assert all(set(config.semi[view]) == set(Augment._fields) for view in ("weak", "strong"))
    for stream in config.streams.values():
        assert set(stream) == set(Stream._fields) - {"name"} and set(stream.sampling) == set(Sampling._fields)
    for name in METHODS:
        own = methods.options(name)
        named = {"teacher": "depth"} if name == "generalized_distillation" else {}
        assert dict(usual.method.get(name, {})) == own | named
        assert set(config.method.get(name, {})) == set(own)


def test_unknown_variants_list_the_known():
    with pytest.raises(ValueError, match="smoke"):
        mml.get_config("smok")


def test_published_recipe():
    """MML, section 3 and its released code."""
    config = mml.get_config("ssv2")
    assert (config.batch_size, config.schedule.lr, config.size) == (64, 0.025, 224)
    assert config.streams.rgb.sampling.kind == "mixed" and config.streams.rgb.sampling.dense_length == 32
    assert config.optimizer.clip == 20 and config.optimizer.weight_decay == 5e-4
    rgb = networks.make_streams(config)["rgb"]
    sampling.test_indices(40, rgb, Views(mml.get_config("ssv2_r101").evaluation.protocol))


def check_published(config, segments):
    """The rows of the paper have the columns of the segments' outputs, and numbers in them."""
    outputs = {o for s in segments for n in s.networks for o in n.outputs}
    # Multimodal distillation prints its tables by heads, and of all heads together.
    heads = {*config.heads, " and ".join(sorted(config.heads))}
    # Of one method there is a row for each set of modalities that it was tested on.
    names = [(what, row.get("tested on")) for what, row in config.published]
    assert len(set(names)) == len(names)
    for what, row in config.published:
        numbers = {name: text.lstrip("~") for name, text in row.items() if name not in ("trained on", "tested on")}
        # Of table 9 also what a server has said of clips without labels.
        assert numbers and set(numbers) <= outputs | heads | {"sum", "oracle", "test"}, what
        for text in numbers.values():
            assert re.fullmatch(r"\d\d?\.\d\d?( / \d\d?\.\d\d?)?", text), (what, text)
            assert all(0 < float(number) < 100 for number in text.split(" / "))
    for what, own in config.blend.published:
        assert set(own) in [set(parts) for parts in config.blend.copies.values()], what
        assert sum(map(float, own.values())) == pytest.approx(1, abs=2e-3)
    for what, accuracies in config.published_neighbours:
        assert set(accuracies) == set(map(str, (1, 5, 10, 50, 120))) and "NW-UCLA" in what
        assert all(0 < float(text) < 100 for text in accuracies.values())


# Those of real datasets of Gradient-Blending and CMPL stand where these are planned.
@pytest.mark.parametrize("config", [p for p in EVERY if p.id.rpartition(":")[2] not in {*REAL, *cmpl.PAPER}])
def test_published_rows_have_the_columns_of_their_configuration(config):
    check_published(config, plans.make(context(shallow(config))))


def test_published_rows_hang_where_they_belong():
    """Figure 3 is of NW-UCLA alone; table 9's ResNet-50 was tested at full resolution."""
    for variant in RECIPES:
        config = dmcl.get_config(variant)
        assert bool(config.published_neighbours) == (variant == "nwucla")
        name = {"nwucla": "NW-UCLA", "uwa3d": "UWA3DII", "ntu60": "NTU60", "ntu120": "NTU120",
                "ntu120_mini": "NTU120-mini"}[variant]  # fmt: skip
        assert all(f", {name} (" in what for what, _ in config.published)
    full, centre = mml.get_config("ssv2_full_res"), mml.get_config("ssv2")
    assert (
        full.evaluation.crops == "full_res"
        and ("MML, R50 8f, 1x1, SSv2 val (T9)", {"rgb": "61.87 / 87.32"}) in full.published
    )
    assert centre.evaluation.crops == "centre" and "61.87 / 87.32" not in str(centre.published)


def test_the_advice_on_weights_names_a_network_that_takes_some(caplog):
    """G-Blend's plan refuses weights of copies, and a fusion takes a file for each of its encoders."""
    caplog.set_level("INFO")
    talk.say_random(gblend.get_config())
    talk.say_random(mml.get_config("own"))
    talk.say_random(mml.get_config())
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("av: random weights at the start; networks.av.weights = {stream: 'FILE")
    assert said[1].startswith("flow, rgb: random weights at the start; --config.networks.flow.weights=FILE")


def test_frozen_norms_without_weights_are_told(caplog):
    """The ResNet3D student: its norms would stay as they are drawn."""
    config = distill.get_config("r3d18")
    talk.say_untrained_norms(config)
    assert "--config.networks.rgb.weights=FILE" in caplog.text and len(caplog.records) == 1
    caplog.clear()
    with config.unlocked():
        config.networks.rgb.weights = "kinetics.pth"
    talk.say_untrained_norms(config)
    talk.say_untrained_norms(distill.get_config())
    assert not caplog.records
