"""Mutual Modality Learning (Komkov et al.): better RGB by training with flow.

    python -m mmvid train --config=configs/mml.py --workdir=runs/mml

The default makes the Tabletop dataset on first use and trains the reduced
pipeline (the paper's figure 2 and table 3): cross-entropy per stream, then MML
with both networks from the RGB weights, and, to compare, cross-entropy
continued from the same weights on the same batches. A variant is given as
--config=configs/mml.py:smoke.

variant        what                                            expected time
(default)      Tabletop small, reduced plan                    12 min, 2 cores
smoke          the same in miniature, to see that it works     90 s, 2 cores
epic           clips of a verb and a noun, two heads (EPIC)    12 min, 2 cores
multilabel     two verbs a clip, scored by mAP (Charades)      12 min, 2 cores
full           figure 1: two CE runs, ML, MML from C(RGB)      25 min, 2 cores
table1         which weights help which modality, by CE alone  not measured
table2         MARS, D3D and KD: RGB from flow, flow from RGB  not measured
table3 table4  MML of RGB and flow from nine pairs of starts   not measured
table5         ML of two networks of one modality              not measured
table6         MARS, D3D and MML of two verbs a clip (mAP)     not measured
table7         joint training started from its own results     not measured
table8         with RGB differences, of two and of three       not measured
table10        trained dense, uniform and both: eight          not measured
               protocols of test each, from one pass. Medians:
               --seeds=0,1,2, then mmvid compare RUN/seed*
ensembles      30 models, all pairs of tables 11 and 12, and   not measured
               table 13's sums of places over 858 triples
ensemble       appendix 3.3: two launches of ML, then ML for   not measured
               each modality, and their sums (table 9)
table7_smoke   and so on: each of these in miniature           to 5 min, 2 cores
ssv2_table7    and so on: each on Something-Something v2, with the paper's
               recipe and its numbers. Weeks on 8 GPUs; not run by us.
charades       table 6 on Charades: I3D-ResNet-50 from Kinetics-400,
               --config.networks.rgb.weights=I3D_8x8_R50.pyth (also flow), of
               PyTorchVideo's zoo or SlowFast's code. mAP of CE 33.72
               (flow 15.81), MARS 34.40, D3D 35.48, MML 35.96 (29.12);
               charades_mars, charades_d3d: these rows alone. Not run by us.
own            your videos: --config.dataset.path=data/mine    by your data
ssv2           Something-Something v2, TSM-R50, 8 frames, full plan; paper's
               table 7 row 7: RGB 61.30 / 86.99, Flow 58.36 / 85.49 (224 crop,
               1 uniform clip); CE only: RGB 58.10 / 84.61 (table 1).
               Days on 8 GPUs; not run by us.
ssv2_full_res  the same, tested on the full-resolution square in the middle;
               table 9: RGB 61.87 / 87.32. As long; not run by us.
ssv2_r101      the same with TSM-R101, 16 frames; table 9: RGB 65.9 / 90.15
               (1 crop x 3 clips). Longer still; not run by us.
ssv2_ensemble_r101  appendix 3.3 with them; table 9: RGB + Flow 68.16 / 91.69,
               with Diff 69.07 / 92.07 (test 69.02 / 92.70: mmvid evaluate
               RUN --splits=test, then mmvid ensemble RUN/ml_rgb
               RUN/ml_flow:flow RUN/ml_diff:diff --split=test@D1U2-full_res
               --submit=FILE). Not run by us.

``ssv2`` starts from ImageNet weights:
--config.networks.rgb.weights=resnet50.safetensors (also flow and rgb2), a file
of torchvision's or timm's names.

Tables print the paper's form, with arrows for what is over or under CE
continued beyond noise, and the paper's own numbers below. What two of them have
in common is trained once: --config.reuse=runs/table3 takes it from there. Rows
of a second and third launch stand beside CE continued twice and three times,
of as many updates. "IN" is ImageNet, here still images; a second start from
there ("IN2") has learnt these another time. Teachers are those of the first CE.
All stages are as long as CE, and CE trains RGB, flow and RGB differences in
every table but 6, whether it prints all of them or not. With files, each of
the networks that stand for ImageNet's needs one: rgb, flow and diff (table 10
rgb_dense and rgb_uniform, too); rgb2 of tables 5, 7, 8 and the ensembles and
flow2 of table 5 a second one, since two networks that begin alike teach each
other nothing (torchvision has two of ResNet-50).
"""

import functools

from ml_collections import ConfigDict

from configs import common, mml_grids
from configs.mml_paper import ssv2, ssv2_full_res, ssv2_r101


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of a variant. Raises ValueError for an unknown one."""
    return common.of_variant("configs/mml.py", VARIANTS, variant)


def tabletop(c: ConfigDict, size: str = "small", view: str = "verb") -> None:
    """Tabletop and a small TSM network; constants of spec: 8 frames, 48 pixels, flow stacks of 5."""
    common.use_tabletop(c, size, view)
    c.stills.path = "data/tabletop-stills"
    c.stills.command = ("data_prep.build", "--out", c.stills.path, "--dataset", "tabletop_stills")
    c.stills.steps = "200"
    c.streams.rgb = common.stream("rgb", dense_length=16)
    c.streams.flow = common.stream("flow", form="stack5", dense_length=16)
    c.networks.rgb = common.network("tsm_tiny", "rgb")
    c.networks.flow = common.network("tsm_tiny", "flow")
    c.steps.update(dict(ce="900", ml="500", method="500"))


def smoke(c: ConfigDict, view: str = "verb") -> None:
    """Everything once, in miniature."""
    tabletop(c, "smoke", view)
    c.stills.steps = "10"
    c.steps.update(dict(ce="20", ml="10", method="10"))
    c.schedule.warmup = c.stills.schedule.warmup = "5"
    c.log_every = 5


def epic(c: ConfigDict) -> None:
    """The default on clips that have a verb and a noun, each with a classifier of its own."""
    tabletop(c, view="epic")


def multilabel(c: ConfigDict) -> None:
    """The default on clips in which two things happen."""
    tabletop(c, view="multilabel")


def full(c: ConfigDict) -> None:
    """Figure 1 of the paper on Tabletop."""
    tabletop(c)
    c.plan = "full"
    c.twin = "rgb2"
    c.streams.rgb2 = common.stream("rgb", dense_length=16)
    c.networks.rgb2 = common.network("tsm_tiny", "rgb2")


def own(c: ConfigDict) -> None:
    """A folder of videos prepared by data_prep.build: TSM-ResNet-18, 8 frames, 112 pixels."""
    c.dataset.path = "data/mine"
    c.streams.rgb = common.stream("rgb", kind="mixed")
    c.streams.flow = common.stream("flow", form="stack5", kind="mixed")
    for name in ("rgb", "flow"):
        c.networks[name] = common.network("tsm_resnet18", name)
    c.model_options.dropout = 0.5
    c.size = 112
    c.batch_size = 16
    c.schedule = common.schedule(0.01, warmup="1 epoch")
    c.steps.update(dict(ce="30 epochs", ml="15 epochs", method="15 epochs"))
    c.evaluation.splits = ("test",)


VARIANTS = {
    "": tabletop,
    "smoke": smoke,
    "epic": epic,
    "multilabel": multilabel,
    "full": full,
    "own": own,
    "ssv2": ssv2,
    "ssv2_full_res": ssv2_full_res,
    "ssv2_r101": ssv2_r101,
    **mml_grids.variants(tabletop, smoke, multilabel, functools.partial(smoke, view="multilabel")),
}
