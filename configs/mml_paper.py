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
# Solution; backbone, frames, crops x clips; the column of its validation number (a sum is of RGB and flow);
# top-1 / top-5 on validation and on test.
TABLE_9 = """
TSM            | R50 8f, 1x1         | rgb | 59.1 / 85.6   | -
bLVNet-TAM     | R50 8f, 1x1         | rgb | 59.1 / 86.0   | -
TIN            | R50 8f, 1x1         | rgb | 60.0 / 85.5   | -
TPN            | R50 8f, 1x1         | rgb | 62.0          | -
MML            | R50 8f, 1x1         | rgb | 61.87 / 87.32 | -
STM            | R50 8f, 3 crops     | rgb | 62.3 / 88.8   | 61.3 / 88.4
W3             | R50 16f, 2 clips    | rgb | 66.5 / 90.4   | -
bLVNet-TAM     | R101 32f, 1x1       | rgb | 65.2 / 90.3   | -
STM            | R50 16f, 3 crops    | rgb | 64.2 / 89.8   | 63.5 / 89.6
TPN            | R101 16f, 3x2       | rgb | -             | 67.72 / 91.28
MML            | R101 16f, 1x3       | rgb | 65.9 / 90.15  | 66.83 / 91.30
bLVNet-TAM     | R101 32+32f, 3x10   | sum | 68.5 / 91.4   | 67.1 / 91.4
TSM            | R50 16+16f          | sum | 66.0 / 90.5   | 66.55 / 91.25
anonymous      | ensemble of RGB     | rgb | -             | 68.18 / 91.26
BOE IOT AIBD   | RGB + Flow          | sum | -             | 69.26 / 91.81
ensemble of ML | R101 16+16f, 1x3    | sum | 68.16 / 91.69 | -
ensemble of ML | R101 16+16+16f, 1x3 | sum | 69.07 / 92.07 | 69.02 / 92.70
"""


def _table_9(text: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """Reads its rows (what, {column: text})."""
    found = []
    for line in text.strip().splitlines():
        solution, about, column, val, test = (cell.strip() for cell in line.split("|"))
        numbers = {column: val, "test": test}
        own = {name: number for name, number in numbers.items() if number != "-"}
        found.append((f"{solution}, {about}, SSv2 val (T9)", own))
    return tuple(found)


PUBLISHED_9 = _table_9(TABLE_9)


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
    c.published = PUBLISHED_9


def ssv2_r101(c: ConfigDict) -> None:
    """TSM-ResNet-101, 16 frames, dense 1 + uniform 2 clips of the full frame at test."""
    ssv2(c, "tsm_resnet101", 16)
    c.evaluation.update(dict(protocol="D1U2", crops="full_res"))
    c.published = PUBLISHED_9


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
