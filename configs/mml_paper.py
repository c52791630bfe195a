"""MML at the size of its paper: Something-Something v2 and Charades.

The variants are those of configs/mml.py, whose docstring lists them.
"""

from ml_collections import ConfigDict

from configs import common

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


def ssv2_r101(c: ConfigDict) -> None:
    """TSM-ResNet-101, 16 frames, dense 1 + uniform 2 clips of the full frame at test."""
    ssv2(c, "tsm_resnet101", 16)
    c.evaluation.update(dict(protocol="D1U2", crops="full_res"))
    c.published = PUBLISHED_R101


def charades(c: ConfigDict) -> None:
    """I3D-ResNet-50 on Charades by SlowFast's recipe: 8x8 frames, 157 classes, 57 epochs from Kinetics.

    Its warm-up begins at 1e-4, here at 0; its scales are uniform in 1 / size, here in size; it computes batch
    statistics anew for tests (precise BN), which is not done here. Its clips are counted from their first to their
    last frame, 57, and may begin before a video that is shorter; here they are 64, and such a video's begin with
    it."""
    c.dataset.path = "data/charades"
    c.dataset.clips.update(dict(train=7_985, val=1_863))
    c.heads.action = (157, "multi")
    for name, form in (("rgb", "slowfast"), ("flow", "stack5")):
        c.streams[name] = common.stream(name, form=form, kind="clip", frames=8, dense_length=64)
        c.networks[name] = common.network("i3d_resnet50", name)
    c.model_options.dropout = 0.5
    c.size, c.batch_size = 224, 16
    c.augment.update(dict(crop="resized", scales=(256 / 224, 340 / 224), flip=True))
    c.steps.update(dict(ce="57 epochs", ml="57 epochs", method="57 epochs"))
    c.schedule = common.schedule(0.0375, kind="step", boundaries=("41 epochs", "49 epochs"), warmup="4 epochs")
    c.optimizer.update(dict(nesterov=True, weight_decay=1e-4, clip=0.0, groups="all_but_norms"))
    c.evaluation.update(dict(protocol="E10", crops="three_full_res", resize=256, aggregate="max"))
    # Thirty views of each clip: 60 in a forward.
    c.evaluation.batch_size = 2
    c.evaluation.update(dict(splits=("val",), every="5 epochs"))
    c.save_every = "1 epoch"
    c.loader.workers = 8
