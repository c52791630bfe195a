"""CMPL's variants at the size of the paper: what section 4.1 prints, and the published rows."""

import re

import numpy as np
import pytest
from test_configs import check_published, context, shallow

from configs import cmpl, cmpl_tables
from configs.cmpl_paper import CLIPS, PAPER
from mmvid import plans
from mmvid.data import sampling
from mmvid.data.augment import Augment, test_windows
from mmvid.plans import networks
from mmvid.streams import Views

# {variant: (clips that have labels, lambda)}.
LABELS = {
    "ucf101_1pct": (101, 5),
    "ucf101_10pct": (1010, 2),
    "r18": (1010, 2),
    "slowfast_fixmatch": (101, 5),
    "k400_1pct": (2_400, 5),
    "k400_10pct": (24_000, 2),
    "ucf101_from_k400": (9_537, 2),
    "ucf101_imagenet": (9_537, 2),
} | dict.fromkeys(("k400_components", "k400_ablation", "k400_category"), (2_400, 5))


def planned(variant):
    """(configuration, {name: segment}) with as many clips as are published."""
    config = shallow(cmpl.get_config(variant))
    # As if the control's file were there.
    config.networks.get("imagenet", config.networks.rgb).weights = ""
    clips, few = dict(config.dataset.clips), LABELS[variant][0]
    rules = dict.fromkeys(config.subsets, 100) | {"labelled": few, "unlabelled": clips["train"] - few}
    known = {"dataset": clips | rules, "kinetics": dict(CLIPS["kinetics400"])}
    made = plans.make(context(config)._replace(clips=known))
    return config, {segment.name: segment for segment in made}


@pytest.mark.parametrize("variant", PAPER)
def test_the_recipe_of_cmpl(variant):
    config, segments = planned(variant)
    main, ucf = segments["method"], variant.startswith(("ucf", "r18", "slowfast"))
    few, strength = LABELS[variant]
    left = CLIPS["kinetics400"]["train"] if "labelled" not in config.subsets else (
        CLIPS["ucf101" if ucf else "kinetics400"]["train"] - few)  # fmt: skip
    epochs = 200 if variant in ("r18", "k400_1pct", "k400_10pct") or ucf else 50
    assert {s.steps for s in segments.values()} == {main.steps}
    assert main.steps == pytest.approx(epochs * left / 160, rel=1e-3)
    assert {name: group.batch_size for name, group in main.groups.items()} == {"labelled": 32, "unlabelled": 160}
    # From .1 along half a cosine to 0, for every network.
    for lr in main.lr.values():
        rates = [float(lr(round(main.steps * share))) for share in (0, 0.5, 1)]
        np.testing.assert_allclose(rates, [0.1, 0.05, 0], atol=1e-4)
    assert config.optimizer.weight_decay == (1e-3 if ucf else 1e-4) and config.optimizer.momentum == 0.9
    assert config.method.cmpl.threshold == config.method.fixmatch.threshold == 0.9
    assert config.method.cmpl.strength == config.method.fixmatch.strength == strength
    if "labelled" in config.subsets:
        rule, classes = config.subsets.labelled, config.heads.action[0]
        assert rule["per_class"] * classes == few
        assert rule["by"] == ("frequency" if variant == "k400_category" else "class")
    check_published(config, segments.values())


@pytest.mark.parametrize("variant", ["", "five", "medium", "cross_modal"])
def test_the_arms_of_the_first_draw_learn_what_the_run_is_told_to(variant):
    """--config.semi.labelled is of all whom CMPL is compared with, not of CMPL alone."""
    config = cmpl.get_config(variant).unlock()
    config.semi.labelled = "train"
    segments = plans.make(
        context(config)._replace(clips={"dataset": dict.fromkeys((*config.subsets, "train"), 100)})
    )
    # Of those who learn from labels alone there is one group.
    learnt = {s.name: s.groups.get("labelled", next(iter(s.groups.values()))).split for s in segments}
    first = {name: split for name, split in learnt.items() if not re.search(r"_\d$", name)}
    assert len(first) > 2 and set(first.values()) == {"train"}, learnt


def test_fixmatch_of_slowfast_has_one_network():
    """Table 1's larger network learns from its own labels alone, of 32x2 frames."""
    config, segments = planned("slowfast_fixmatch")
    assert list(segments) == ["supervised", "method"] and config.method.name == "fixmatch"
    (network,) = segments["method"].networks
    sampling_of = networks.make_streams(config)["rgb"].sampling
    assert config.networks.rgb.model == "slowfast_resnet50" and network.outputs == ("rgb",)
    assert (sampling_of.frames, sampling_of.dense_length, sampling_of.offset) == (32, 64, 0)
    assert ("UCF-101, 1 %, FixMatch, SlowFast-R50 (T1)", {"rgb": "16.1"}) in config.published


@pytest.mark.parametrize("variant", sorted(set(PAPER) - {"slowfast_fixmatch"}))
def test_what_cmpl_sees(variant):
    """8x8 and 16x4 of one raw clip of 64 frames; ten clips of three crops of 256."""
    config = cmpl.get_config(variant)
    streams = networks.make_streams(config)
    assert sampling.check_streams(tuple(streams.values())) == "clip"
    primary, auxiliary = (streams[config.networks[name].reads[0][0]].sampling for name in config.semi.networks)
    assert (primary.frames, auxiliary.frames, primary.dense_length, primary.offset) == (8, 16, 64, 0)
    assert auxiliary.offset == (1 if variant in ("k400_ablation", "k400_category") else 10)
    views = Views(config.evaluation.protocol, crops=config.evaluation.crops, resize=config.evaluation.resize)
    assert sampling.test_indices(300, streams["rgb"], views).shape == (10, 8)
    windows, side = test_windows(256, 340, config.size, views)
    assert (len(windows), side, config.size, config.headline) == (3, 256, 224, "rgb")
    labelled, weak, strong = (Augment(**own) for own in (config.augment, config.semi.weak, config.semi.strong))
    np.testing.assert_allclose(np.multiply(224, labelled.scales), [256, 320])
    assert labelled.flip and not weak.flip and strong == weak._replace(device=("strong",))


def test_what_is_compared_with_cmpl():
    """Table 2's FixMatch is one network that sees two clips; table A3's controls learn from labels alone."""
    _, segments = planned("k400_components")
    outputs = {name: [o for n in s.networks for o in n.outputs] for name, s in segments.items()}
    assert outputs["rates"] == ["rates.rgb", "rates.rgb_near"] and outputs["near"] == ["rgb", "rgb_near"]
    assert outputs["locations"] == ["locations.rgb", "locations.rgb_fast"] and outputs["alike"] == ["rgb", "alike"]
    assert outputs["method"] == ["rgb", "rgb_fast"] and outputs["fixmatch"] == ["rgb"]
    _, segments = planned("ucf101_imagenet")
    groups = segments["method"].groups
    assert {name: (g.dataset, g.split, g.labels) for name, g in groups.items()} == {
        "labelled": ("dataset", "train", True), "unlabelled": ("kinetics", "train", False),
    }  # fmt: skip
    assert [g.split for g in segments["imagenet"].groups.values()] == ["train"]
    # Without a file it does not begin.
    made = cmpl.get_config("ucf101_imagenet").networks
    assert made.imagenet.weights == "inflated:" and not made.rgb.weights


def test_table_1_has_its_columns():
    rows = [dict(cmpl_tables.table_1(column)) for column in cmpl_tables.COLUMNS]
    assert [len(own) for own in rows] == [6, 8, 7, 6]
    assert [list(own.values())[-1]["rgb"] for own in rows] == ["25.1", "79.1", "17.6", "58.4"]
    others = [what for own in rows for what in own if re.search("S4L|VideoSSL|TCL|MvPL", what)]
    assert len(others) == 7 and all("quoted" in what for what in others)
