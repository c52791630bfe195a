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
table1 table2  which weights help which modality, by CE alone; MARS,  15, 40 min
               D3D and KD, RGB from flow and flow from RGB
table3 table4  MML of RGB and flow from nine pairs of starts   60 min each, the
                                                               second from the first
table5         ML of two networks of one modality, and from what   45 min
table10        trained dense, uniform and both: eight protocols of   30 min
               test each, from one pass. The paper's numbers are
               medians: --seeds=0,1,2, then mmvid compare
               RUN/seed* --splits=test
table7 table8  joint training started again from its own       60, 45 min
               results; and with RGB differences, two and three at once
ensembles      the 30 models of tables 11 and 12, every pair, and   3 h
               table 13's sums of places over 858 ensembles of three
ensemble       appendix 3.3: two launches of ML, then ML for   60 min
               each modality, and their sums (table 9)
table7_smoke   and so on: each of these in miniature           5 min
ssv2_table7    and so on: each of these on Something-Something v2, with its
               recipe and its published numbers. Weeks on 8 GPUs; not run by us.
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
               with Diff 69.07 / 92.07 (test 69.02 / 92.70, of
               mmvid ensemble RUN/ml_rgb RUN/ml_flow:flow RUN/ml_diff:diff
               --split=test --submit=FILE). Not run by us.

``ssv2`` starts from ImageNet weights:
--config.networks.rgb.weights=resnet50.safetensors (also flow and rgb2), a file
of torchvision's or timm's names.

Tables print the paper's form, with arrows for what is over or under CE
continued beyond noise, and the paper's own numbers below. What two of them have
in common is trained once: --config.reuse=runs/table3 takes it from there. Rows
of a second and third launch stand beside CE continued twice and three times,
of as many updates. "IN" is ImageNet, here still images; a second start from
there ("IN2") has learnt these another time. Teachers are those of the first CE.
"""

import functools

from ml_collections import ConfigDict

from configs import common
from configs import mml_ensembles as ensembles
from configs import mml_tables as tables


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


def smoke(c: ConfigDict) -> None:
    """Everything once, in miniature."""
    tabletop(c, "smoke")
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


PUBLISHED = (
    ("MML, SSv2 val, R50 8f (T7 r7)", {"rgb": "61.30 / 86.99", "flow": "58.36 / 85.49"}),
    ("ML, two RGB networks, SSv2 val, R50 8f (T7 r5)", {"rgb": "60.54 / 86.23", "rgb2": "60.47 / 86.08"}),
    ("CE from ImageNet, SSv2 val, R50 8f (T1)", {"rgb": "58.10 / 84.61", "flow": "52.32 / 81.84"}),
    ("CE, flow from RGB, SSv2 val, R50 8f (T1)", {"flow": "55.19 / 84.14"}),
)
PUBLISHED_FULL_RES = (("MML, SSv2 val, R50 8f, 1x1 (T9)", {"rgb": "61.87 / 87.32"}),)
PUBLISHED_R101 = (
    ("MML, SSv2 val, R101 16f, 1x3 (T9)", {"rgb": "65.9 / 90.15"}),
    ("ensemble of ML's RGB and of ML's flow, not of MML's, SSv2 val, R101 16+16f, 1x3 (T9)",
     {"sum": "68.16 / 91.69"}),
)  # fmt: skip


def ssv2(c: ConfigDict, model: str = "tsm_resnet50", frames: int = 8) -> None:
    """The recipe of the paper and its code: batch 64, lr 0.025, 224 pixels, mixed sampling."""
    c.plan = "full"
    c.twin = "rgb2"
    c.dataset.path = "data/ssv2"
    c.dataset.clips.update(dict(train=168_913, val=24_777))
    c.heads.action = (174, "single")
    for name, modality in (("rgb", "rgb"), ("rgb2", "rgb"), ("flow", "flow")):
        form = "stack5" if modality == "flow" else "frames"
        c.streams[name] = common.stream(modality, form=form, frames=frames, kind="mixed")
        c.networks[name] = common.network(model, name)
    c.model_options.dropout = 0.5
    c.size = 224
    c.batch_size = 64
    # Every segment is a whole TSM training; the paper prints no length; this is TSM's own.
    c.steps.update(dict(ce="50 epochs", ml="50 epochs", method="50 epochs"))
    c.schedule = common.schedule(0.025, kind="step", boundaries=("40%", "80%"))
    c.optimizer.update(dict(momentum=0.9, weight_decay=5e-4, clip=20.0, groups="tsm"))
    c.evaluation.splits = ("val",)
    c.evaluation.checkpoint = "best"
    c.evaluation.every = c.save_every = "1 epoch"
    c.loader.workers = 8
    c.published = PUBLISHED


def ssv2_full_res(c: ConfigDict) -> None:
    """The network of ``ssv2`` under table 9's test, as we read it: full resolution, one uniform clip."""
    ssv2(c)
    c.evaluation.crops = "full_res"
    c.published = PUBLISHED_FULL_RES


def ssv2_ensemble_r101(c: ConfigDict) -> None:
    """The best ensemble at its published size: TSM-ResNet-101, 16 frames of each modality (table 9)."""
    grid(functools.partial(ssv2, model="tsm_resnet101", frames=16), ensembles.pipeline)(c)
    c.evaluation.update(dict(protocol="D1U2", crops="full_res"))


def ssv2_r101(c: ConfigDict) -> None:
    """TSM-ResNet-101, 16 frames, dense 1 + uniform 2 clips of the full frame at test."""
    ssv2(c, "tsm_resnet101", 16)
    c.evaluation.update(dict(protocol="D1U2", crops="full_res"))
    c.published = PUBLISHED_R101


def grid(setting, use):
    """Returns what makes a configuration the grid that ``use`` (config) asks for, in the ``setting`` of another
    variant."""

    def variant(c: ConfigDict) -> None:
        setting(c)
        model, sampling = c.networks.rgb.model, c.streams.rgb.sampling.to_dict()
        c.streams, c.networks, c.twin, c.published = ConfigDict(), ConfigDict(), "", ()
        use(c)
        for name in tables.networks(c):
            # 'rgb2' is a second network of RGB, cut and built like the first.
            modality = name.removesuffix("2").partition("_")[0]
            form = "frames" if modality == "rgb" else "stack5"
            c.streams[name] = common.stream(modality, form=form, **sampling)
            c.networks[name] = common.network(model, name)

    return variant


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
    "ssv2_ensemble_r101": ssv2_ensemble_r101,
}


def _table_10(setting):
    """Returns what makes a configuration the paper's table 10 in the ``setting`` of another variant."""

    def variant(c: ConfigDict) -> None:
        grid(setting, tables.protocols)(c)
        for _, network, _, kind, _ in tables.TABLE_10:
            c.streams[network].sampling.kind = kind

    return variant


GRIDS = {name: functools.partial(tables.use, table=name) for name in tables.TABLES}
GRIDS |= {"ensembles": ensembles.use, "ensemble": ensembles.pipeline}
VARIANTS |= {
    "table10": _table_10(tabletop),
    "table10_smoke": _table_10(smoke),
    "ssv2_table10": _table_10(ssv2),
}
for _name, _use in GRIDS.items():
    VARIANTS |= {
        _name: grid(tabletop, _use),
        f"{_name}_smoke": grid(smoke, _use),
        f"ssv2_{_name}": grid(ssv2, _use),
    }
