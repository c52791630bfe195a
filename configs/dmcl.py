"""Distillation Multiple Choice Learning (Garcia et al.): teaching one another.

    python -m mmvid train --config=configs/dmcl.py --workdir=runs/dmcl

The default makes the Tabletop dataset on first use and trains RGB, depth and
flow networks together from scratch, twice on the same batches: independently,
and with DMCL, where in every example the network of least cross-entropy teaches
the others. It ends with the paper's columns: RGB, Depth, Flow, the sum of their
logits, the oracle (any of them is right); and with every subset of modalities.
A variant is given as --config=configs/dmcl.py:smoke.

variant      what                                              expected time
(default)    Tabletop small, independent and DMCL              11 min, 2 cores
smoke        the same in miniature                             2 min, 2 cores
table        + SMCL, CMCL, random teacher (tables 1, 2)        45 min, 2 cores
gd           generalised distillation from depth (eq. 3)       11 min, 2 cores
rgb_only     three RGB networks: SMCL and CMCL must not        16 min, 2 cores
             collapse here; the paper prints nothing of it
rgb_shared   the same, CMCL's feature sharing after the stem   as long
missing      a third of the clips lack depth, a third flow     11 min, 2 cores
paper        the paper's form of the loss (its own is the       11 min, 2 cores
             released code's); configs/dmcl.toml#form: lambda
             and T
r2plus1d     R(2+1)D on segments, windows, ten random clips    not measured
own          your videos with depth:                           by your data
             --config.dataset.path=data/mine
nwucla       NW-UCLA, cross-view; table 2: RGB 93.64, Depth 83.29, Flow 91.07,
             sum 93.28, oracle 97.64. Independent: 87.53 80.30 89.58 93.79
             97.86
uwa3d        UWA3DII, two views; table 2: 78.39 81.87 88.26 88.51 94.59
ntu60        NTU RGB+D 60, cross-subject; table 4 (RGB, Depth, Flow):
             83.61 80.56 85.65. Independent: 77.59 78.97 81.43
ntu120       NTU RGB+D 120, cross-subject; table 4: 84.31 82.22 86.44.
             Independent: 84.86 83.32 86.72
ntu120_mini  half of its training clips; table 4: 81.25 78.98 84.45.
             Independent: 79.66 78.67 84.21

Of each of these _table (nwucla_table) trains all methods of tables 1 and 2, and
_paper the paper's form, with its constant rate of 1e-3. Flow is TV-L1 here, or
what lies beside the recordings; the paper's is Ce Liu's. Means over the three
versions of ntu120_mini: mmvid compare RUN .. --across=dataset. Figure 3's right
half is a mean of runs over the first 10,000 steps of independent networks:
configs/dmcl.py:uwa3d --config.steps.method=10000 --seeds=0,1,2, then mmvid
compare. Other pairs of views: data_prep's --train_views, each into a folder of
its own, then mmvid sweep --grid configs/dmcl.toml#views.

``table`` and ``gd`` run on Tabletop what tables 1 and 2 and equation 3 are
about; the report prints the paper's rows of its own datasets beside them.
The times of ``rgb_only``, ``rgb_shared`` and ``missing`` follow from those of
the others (5 min for 600 steps of three networks); they were not measured.

The real datasets have the released code's recipe (its own R(2+1)D-18 of 15.4 M
parameters, 0..255 inputs, 220 epochs, scored at the checkpoint with the best
oracle on 'val'; the code also scores its last one:
--config.evaluation.checkpoint=last); days on a GPU; not run by us. How to
prepare them stands in data_prep/README.md.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common
from configs import dmcl_tables as tables

# Of tables 1 and 2.
METHODS = ("independent", "smcl", "cmcl", "random_teacher", "dmcl")
MODALITIES = (("rgb", "frames"), ("depth", "frames"), ("flow", "stack5"))


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of a variant. Raises ValueError for an unknown one."""
    return common.of_variant("configs/dmcl.py", VARIANTS, variant)


def _specialists(c: ConfigDict, model: str, **sampling) -> None:
    for name, form in MODALITIES:
        c.streams[name] = common.stream(name, form=form, **sampling)
        c.networks[name] = common.network(model, name)


def _compare(c: ConfigDict, *methods: str) -> None:
    c.plan, c.compare = "compare", methods
    c.method.name = methods[-1]


def tabletop(c: ConfigDict, size: str = "small") -> None:
    """Tabletop and small TSM networks from scratch."""
    common.use_tabletop(c, size)
    _specialists(c, "tsm_tiny", dense_length=16)
    _compare(c, "independent", "dmcl")
    c.steps.method = "600"
    c.evaluation.neighbours = (1, 5, 10, 50, 120)
    c.published, c.published_neighbours = tables.TABLE_1_AND_2, tables.FIGURE_3


def smoke(c: ConfigDict) -> None:
    """Everything once, in miniature."""
    tabletop(c, "smoke")
    c.steps.method = "20"
    c.schedule.warmup = "5"
    c.log_every = 5
    c.evaluation.neighbours = (1, 5)


def table(c: ConfigDict) -> None:
    """Tables 1 and 2 of the paper: every method on the same batches."""
    tabletop(c)
    _compare(c, *METHODS)
    c.steps.method = "900"


def gd(c: ConfigDict) -> None:
    """Three sequential steps: teachers, frozen; then the students learn from depth."""
    tabletop(c)
    _compare(c, "independent", "generalized_distillation")


def rgb_only(c: ConfigDict) -> None:
    """Networks of one modality, which is what SMCL and CMCL were made for."""
    tabletop(c)
    for name in ("depth", "flow"):
        del c.streams[name], c.networks[name]
    for name in ("rgb2", "rgb3"):
        c.streams[name] = common.stream("rgb", dense_length=16)
        c.networks[name] = common.network("tsm_tiny", name)
    _compare(c, "independent", "smcl", "cmcl")
    c.published = c.published_neighbours = ()  # the paper prints nothing of RGB alone


def rgb_shared(c: ConfigDict) -> None:
    """The same, and the networks share features after the stem, as CMCL's do."""
    rgb_only(c)
    streams = tuple(c.networks)
    for name in streams:
        del c.networks[name]
    c.networks.shared = common.shared("tsm_tiny", *streams)
    c.headline = "shared.rgb"


def missing(c: ConfigDict) -> None:
    """Clips that lack a modality teach the networks of the others."""
    tabletop(c)
    c.missing.update(dict(depth=1 / 3, flow=1 / 3))


def paper(c: ConfigDict) -> None:
    """The paper's form of the loss, with lambda .5 and T 2; configs/dmcl.toml#form has all four."""
    tabletop(c)
    _paper_form(c)


def _paper_form(c: ConfigDict) -> None:
    """Losers learn (1 - lambda) CE + lambda H without T^2: alpha_gt = 1 - lambda, alpha_distill = lambda / T^2."""
    c.method.dmcl.update(dict(alpha_gt=0.5, alpha_distill=0.125, temperature=2.0))


def r2plus1d(c: ConfigDict) -> None:
    """The paper's own stack in miniature: R(2+1)D on segments, cut to windows, ten random clips at test."""
    tabletop(c)
    _specialists(c, "r2plus1d_tiny", kind="segments")
    c.augment.crop = "window"
    c.evaluation.update(dict(protocol="R10", crops="window", during_protocol="R10", during_crops="window"))


def own(c: ConfigDict) -> None:
    """Your videos with depth, prepared by data_prep.build: TSM-ResNet-18, 8 frames, 112 pixels."""
    c.dataset.path = "data/mine"
    _specialists(c, "tsm_resnet18", kind="mixed")
    _compare(c, "independent", "dmcl")
    c.model_options.dropout = 0.5
    c.size = 112
    c.schedule = common.schedule(0.01, warmup="1 epoch")
    c.steps.method = "60 epochs"
    c.evaluation.splits = ("test",)


def _released(c: ConfigDict, path: str, classes: int, *published) -> None:
    """The recipe of DMCL's released code; ``published``: the paper's rows of this dataset."""
    c.dataset.path = path
    c.heads.action = (classes, "single")
    for name, _ in MODALITIES:
        c.streams[name] = common.stream(name, form="image255", kind="segments")
        c.networks[name] = common.network("r2plus1d_18_dmcl", name)
    _compare(c, "independent", "dmcl")
    c.size, c.batch_size = 224, 8
    c.augment.update(dict(crop="window", flip=True, colour=0.5))
    c.steps.method = "220 epochs"
    boundaries = ("100 epochs", "150 epochs", "180 epochs", "200 epochs")
    c.schedule = common.schedule(1.28e-3, kind="step", warmup="5 epochs", boundaries=boundaries)
    c.optimizer.update(dict(momentum=0.9, weight_decay=1e-4, clip=0.0, groups="uniform"))
    c.evaluation.update(
        # Ten clips of each: 40 in a forward.
        dict(
            batch_size=4,
            protocol="R10",
            crops="window",
            during_protocol="R10",
            during_crops="window",
            splits=("test",),
            every="5 epochs",
            checkpoint="best",
            best_by="oracle",
            neighbours=(1, 5, 10, 50, 120),
        )
    )
    c.save_every = "5 epochs"
    c.loader.workers = 8
    c.published = published


def nwucla(c: ConfigDict) -> None:
    """NW-UCLA; which two views are trained on is data_prep's --train_views."""
    _released(c, "data/nwucla", 10, *tables.ROWS["NW-UCLA"])
    c.published_neighbours = tables.FIGURE_3


def uwa3d(c: ConfigDict) -> None:
    """UWA3DII; views as for NW-UCLA."""
    _released(c, "data/uwa3d", 30, *tables.ROWS["UWA3DII"])


def ntu60(c: ConfigDict) -> None:
    """NTU RGB+D 60, cross-subject."""
    _released(c, "data/ntu60", 60, *tables.ROWS["NTU60"])


def ntu120(c: ConfigDict) -> None:
    """NTU RGB+D 120, cross-subject."""
    _released(c, "data/ntu120", 120, *tables.ROWS["NTU120"])


def ntu120_mini(c: ConfigDict) -> None:
    """One of the three versions (data_prep's --version 0, 1, 2); the paper averages them."""
    _released(c, "data/ntu120_mini", 120, *tables.ROWS["NTU120-mini"])


def _all_methods(setting) -> Callable:
    """Returns what makes a configuration tables 1 and 2, all methods, in a ``setting``."""

    def variant(c: ConfigDict) -> None:
        setting(c)
        _compare(c, *METHODS)

    return variant


def _papers(setting) -> Callable:
    """Returns what makes a configuration the paper's form in a ``setting``: its loss, and its rate, which is 1e-3
    and, for all that is printed, constant."""

    def variant(c: ConfigDict) -> None:
        setting(c)
        _paper_form(c)
        c.schedule = common.schedule(1e-3, kind="constant")

    return variant


DATASETS = {"nwucla": nwucla, "uwa3d": uwa3d, "ntu60": ntu60, "ntu120": ntu120, "ntu120_mini": ntu120_mini}
VARIANTS = {
    "": tabletop,
    "smoke": smoke,
    "table": table,
    "gd": gd,
    "rgb_only": rgb_only,
    "rgb_shared": rgb_shared,
    "missing": missing,
    "paper": paper,
    "r2plus1d": r2plus1d,
    "own": own,
    **DATASETS,
    **{f"{name}_table": _all_methods(setting) for name, setting in DATASETS.items()},
    **{f"{name}_paper": _papers(setting) for name, setting in DATASETS.items()},
}
