"""CMPL at the size of its paper: UCF-101 and Kinetics-400, by the recipe of section 4.1.

The variants are those of configs/cmpl.py, whose docstring lists them.
"""

from ml_collections import ConfigDict

from configs import cmpl_tables as paper
from configs import common
from mmvid.data.augment import Augment

# Clips of the official lists; Kinetics' are what CVDF's copy has of them.
CLIPS = {"ucf101": dict(train=9_537, test=3_783), "kinetics400": dict(train=240_258, val=19_881)}
HEADS = {"ucf101": dict(action=(101, "single")), "kinetics400": dict(action=(400, "single"))}
# The split that the paper scores, and the weight decay.
SCORED = {"ucf101": ("test", 1e-3), "kinetics400": ("val", 1e-4)}
# A raw clip, in frames, of which the primary network sees 8 and the auxiliary one 16.
RAW = 64
PRIMARY, AUXILIARY = "cmpl_resnet50", "cmpl_resnet50_x1_4"
SIDE, SHORT = 224, 256


# ---------------------------------------------------------------------------- parts
def stream(c: ConfigDict, name: str, frames: int, offset: float = 0.0) -> None:
    """A stream of so many frames of the raw clip, displaced by up to ``offset`` seconds."""
    c.streams[name] = common.stream("rgb", kind="clip", frames=frames, dense_length=RAW, offset=offset)


def arm(c: ConfigDict, name: str, method: str, *networks: str, title: str, **options) -> None:
    """An arm of the plan; ``options`` are those of its method."""
    c.semi.arms[name] = dict(networks=networks, method=method, title=title, **options)


def alone(c: ConfigDict) -> None:
    """The two that CMPL is compared with: the primary network by itself."""
    arm(c, "supervised", "single", "rgb", title="Supervised")
    arm(c, "fixmatch", "fixmatch", "rgb", title="FixMatch")


def _views(c: ConfigDict) -> None:
    """How clips are cut: a short side of 256 to 320 pixels for labelled ones, of 256 for the others."""
    c.size = SIDE
    c.augment.update(dict(crop="resized", scales=(SHORT / SIDE, 320 / SIDE), flip=True))
    weak = Augment(crop="centre", scales=(SHORT / SIDE,))
    c.semi.weak.update(weak._asdict())
    c.semi.strong.update(weak._replace(device=("strong",))._asdict())


def _trained(c: ConfigDict, epochs: int, decay: float) -> None:
    """The schedule: epochs of the unlabelled clips, a cosine from .1 to 0, no warm-up. What is not printed: that
    norms and biases have no weight decay, and dropout before the classifier (SlowFast's code has it, and leaves
    out norms)."""
    c.semi.update(dict(labelled_batch=32, unlabelled_batch=160))
    c.schedule = common.schedule(0.1)
    c.optimizer.update(dict(weight_decay=decay, clip=0.0, groups="uniform"))
    c.model_options.dropout = 0.5
    c.steps.method = f"{epochs} epochs"


def _scored(c: ConfigDict, split: str) -> None:
    """Ten clips of each video, three crops of 256 pixels, mean of softmax. The last weights count, so that it does
    not matter that these clips are scored while training as well."""
    c.evaluation.update(dict(protocol="E10", crops="three_full_res", resize=SHORT, aggregate="probs"))
    # Thirty views of each clip: 60 in a forward.
    c.evaluation.batch_size = 2
    c.evaluation.update(dict(splits=(split,), during=split, every="4%"))
    c.save_every = "2%"
    c.loader.workers = 16


def _recipe(
    c: ConfigDict, dataset: str, *, epochs: int = 200, strength: float = 5.0, offset: float = 10.0,
    primary: str = PRIMARY,
) -> None:  # fmt: skip
    """CMPL of RGB on a ``dataset``: a ``primary`` network of 8x8 frames, the auxiliary one of 16x4, up to
    ``offset`` seconds from there."""
    c.dataset.path = f"data/{dataset}"
    c.dataset.clips.update(CLIPS[dataset])
    c.heads.update(HEADS[dataset])
    c.plan, c.method.name, c.headline, c.semi.networks = "semi", "cmpl", "rgb", ("rgb", "rgb_fast")
    split, decay = SCORED[dataset]
    stream(c, "rgb", 8)
    stream(c, "rgb_fast", 16, offset)
    c.networks.rgb = common.network(primary, "rgb")
    # Of another depth or width: --config.networks.rgb_fast.model=cmpl_resnet10 (table 3).
    c.networks.rgb_fast = common.network(AUXILIARY, "rgb_fast")
    for name in ("cmpl", "fixmatch"):
        c.method[name].update(dict(threshold=0.9, strength=strength))
    _views(c)
    _trained(c, epochs, decay)
    _scored(c, split)


def labelled(c: ConfigDict, per_class: int, by: str = "class", followed: float = 0.02) -> None:
    """Labels ``per_class`` training clips of each class, or, ``by`` 'frequency', as many in all, in proportion to
    the classes. All others are learnt from without labels, and a share of these is ``followed``."""
    c.subsets.labelled = dict(of="train", per_class=per_class, by=by, seed=0)
    # Whether the labelled clips are among them the paper does not say; --config.semi.unlabelled=train takes all.
    c.subsets.unlabelled = dict(of="train", without="labelled")
    c.subsets.followed = dict(of="unlabelled", share=followed, by="frequency", seed=0)
    c.semi.followed = "followed"


# ---------------------------------------------------------------------------- table 1
def _ucf101(c: ConfigDict, per_class: int, strength: float, column: str, **recipe) -> None:
    """UCF-101 with so many labels a class, and table 1's ``column``."""
    _recipe(c, "ucf101", strength=strength, **recipe)
    labelled(c, per_class, followed=0.2)
    alone(c)
    c.published = paper.table_1(column)


def _kinetics(c: ConfigDict, per_class: int, strength: float, column: str) -> None:
    """Kinetics-400 with so many labels a class, and table 1's ``column``."""
    _recipe(c, "kinetics400", strength=strength)
    labelled(c, per_class)
    alone(c)
    c.published = paper.table_1(column)


def ucf101_1pct(c: ConfigDict) -> None:
    """UCF-101, one label a class."""
    _ucf101(c, 1, 5.0, "UCF-101, 1 %")


def ucf101_10pct(c: ConfigDict) -> None:
    """UCF-101, ten labels a class."""
    _ucf101(c, 10, 2.0, "UCF-101, 10 %")


def k400_1pct(c: ConfigDict) -> None:
    """Kinetics-400, six labels a class."""
    _kinetics(c, 6, 5.0, "Kinetics-400, 1 %")


def k400_10pct(c: ConfigDict) -> None:
    """Kinetics-400, sixty labels a class."""
    _kinetics(c, 60, 2.0, "Kinetics-400, 10 %")


def r18(c: ConfigDict) -> None:
    """UCF-101, ten labels a class, with a primary network of 18 layers. Its auxiliary network is not printed; here
    it is the usual one."""
    _ucf101(c, 10, 2.0, "UCF-101, 10 %", primary="cmpl_resnet18")


def slowfast_fixmatch(c: ConfigDict) -> None:
    """FixMatch of a larger network, SlowFast-R50 of 32x2 frames, on UCF-101 with one label a class."""
    _recipe(c, "ucf101")
    labelled(c, 1, followed=0.2)
    c.streams, c.networks = ConfigDict(), ConfigDict()
    stream(c, "rgb", 32)
    c.networks.rgb = common.network("slowfast_resnet50", "rgb")
    c.method.name, c.semi.networks = "fixmatch", ("rgb",)
    arm(c, "supervised", "single", "rgb", title="Supervised")
    c.published = paper.table_1("UCF-101, 1 %")


# ---------------------------------------------------------------------------- tables 2 to 6, A1, A4: 50 epochs
def _few(c: ConfigDict, offset: float, by: str = "class") -> None:
    """Six labels a class of Kinetics-400 for 50 epochs."""
    _recipe(c, "kinetics400", epochs=50, offset=offset)
    labelled(c, 6, by)


def k400_components(c: ConfigDict) -> None:
    """Table 2: FixMatch and CMPL, with frame rates, and with temporal locations as well."""
    _few(c, 10.0)
    alone(c)
    # An offset of a second is the row without temporal locations: table 5 prints the same number for it.
    stream(c, "rgb_near", 16, 1.0)
    # FixMatch that sees two clips: one network, whose prediction of either is the other one's label.
    c.networks.rates = common.network(PRIMARY, "rgb", "rgb_near")
    c.networks.locations = common.network(PRIMARY, "rgb", "rgb_fast")
    c.networks.alike = common.network(AUXILIARY, "rgb")
    c.networks.rgb_near = common.network(AUXILIARY, "rgb_near")
    arm(c, "rates", "cmpl", "rates", title="FixMatch, frame rates")
    arm(c, "locations", "cmpl", "locations", title="FixMatch, frame rates and locations")
    arm(c, "alike", "cmpl", "rgb", "alike", title="CMPL, both 8x8")
    arm(c, "near", "cmpl", "rgb", "rgb_near", title="CMPL, frame rates")
    c.published = paper.COMPONENTS


def k400_ablation(c: ConfigDict) -> None:
    """CMPL beside FixMatch, from which the grids of configs/cmpl.toml go out: tables 3 to 6 and A1, figure 4."""
    _few(c, 1.0)
    arm(c, "fixmatch", "fixmatch", "rgb", title="FixMatch")
    c.published = paper.ABLATIONS


def k400_category(c: ConfigDict) -> None:
    """Table A4: the labelled clips in proportion to the classes. k400_ablation has as many of every class."""
    _few(c, 1.0, by="frequency")
    c.published = paper.CATEGORIES


# ---------------------------------------------------------------------------- table A3
def ucf101_from_k400(c: ConfigDict) -> None:
    """All labels of UCF-101, and Kinetics-400 without labels. The paper prints neither the strength nor the weight
    decay of this: here they are those of 10 % of the labels, and of UCF-101."""
    _recipe(c, "ucf101", strength=2.0)
    c.datasets.kinetics = dict(path="data/kinetics400", command=(), clips=CLIPS["kinetics400"])
    c.semi.update(dict(labelled="train", dataset="kinetics", unlabelled="train"))
    alone(c)
    c.published = paper.FROM_KINETICS


def ucf101_imagenet(c: ConfigDict) -> None:
    """The same beside the control that starts from ImageNet, whose file must be named."""
    ucf101_from_k400(c)
    c.networks.imagenet = common.network(PRIMARY, "rgb", weights="inflated:")
    arm(c, "imagenet", "single", "imagenet", title="Supervised, from ImageNet")
    printed = {what: numbers for what, numbers in paper.FROM_KINETICS if "from ImageNet" in what}
    others = tuple(row for row in paper.FROM_KINETICS if row[0] not in printed)
    c.published = others + tuple((what, {"imagenet": own["rgb"]}) for what, own in printed.items())


PAPER = {
    "ucf101_1pct": ucf101_1pct,
    "ucf101_10pct": ucf101_10pct,
    "k400_1pct": k400_1pct,
    "k400_10pct": k400_10pct,
    "r18": r18,
    "slowfast_fixmatch": slowfast_fixmatch,
    "k400_components": k400_components,
    "k400_ablation": k400_ablation,
    "k400_category": k400_category,
    "ucf101_from_k400": ucf101_from_k400,
    "ucf101_imagenet": ucf101_imagenet,
}
