"""CMPL (Xu et al.) and FixMatch (Sohn et al.): learning from a few labels and many clips without.

    python -m mmvid train --config=configs/cmpl.py --workdir=runs/cmpl

The default makes a Tabletop dataset on first use, with 1,300 clips to learn from;
of 20 of them, one a verb, the label is known. On flow (verbs) it trains a
network from these 20 alone; by FixMatch, where it also learns, on strongly
augmented clips, what it is sure of (p >= .9) on the same clips as they are; and
by CMPL, where it learns what a smaller auxiliary network is sure of, which sees
twice as many frames, and the other way round. It ends with the columns
supervised (of either network), FixMatch and CMPL (the primary network, `flow`,
and the auxiliary one, `flow_fast`), and with how many pseudo-labels there were
and how many of them were right. A variant is given as --config=configs/cmpl.py:smoke.

variant      what                                              expected time
(default)    Tabletop, verbs from flow, 1 label a verb         14 min, 2 cores,
                                                               + 4 for its data
smoke        the same in miniature                             2 min, 2 cores
five         the default with 5 labels a verb, of which labels as the default
             alone teach nearly as much as all 1,300
plain        the default's CMPL alone, for sweeps              6 min, 2 cores
cross_modal  RGB and flow label each other's clips, beside     as cross_medium
             RGB that labels its own; three labelled draws.
             Of RGB alone, few labels teach no verbs
nouns        nouns from RGB, from stills: where networks are   half an hour, one
             not sure of much                                  core
medium       the default on the larger rendering, with 1,500   2 h, one core
             test clips and on three labelled draws: for claims
cross_medium cross_modal on the larger rendering               an hour, one core
table        table 1 in miniature, 1 and 5 labels a verb on    47 min, 2 cores
             three labelled draws; on the first of them tables
             A1 (whose predictions are labels), 6 (what the auxiliary learns
             from) and 2 (FixMatch with frame rates and temporal locations).
             cross_modal, of other networks, is a run of its own
ucf101_1pct ucf101_10pct  UCF-101 with 1 and 10 labels a class (table  a day, one GPU
             1): CMPL 25.1, 79.1 (FixMatch 14.8, 49.8, supervised 6.5, 32.4)
r18          ucf101_10pct with a primary network of 18        a day, one GPU
             layers (table 1): 67.6
slowfast_fixmatch  FixMatch of SlowFast-R50, 1 label a class of UCF-  a day, one GPU
             101 (table 1): 16.1; with 10 labels, 55.1:
             --config.subsets.labelled.per_class=10
             --config.method.fixmatch.strength=2
k400_1pct k400_10pct  Kinetics-400 with 6 and 60 labels a class  weeks, GPUs
             (table 1): 17.6, 58.4 (FixMatch 8.6, 46.9, supervised 4.4, 36.2)
k400_components  1 % of Kinetics-400, 50 epochs (table 2):    weeks, GPUs
             FixMatch 6.78, CMPL of two networks that see the same 12.04, frame
             rates 12.90, temporal locations 13.71
k400_ablation  the same, CMPL beside FixMatch: from it go out  days, GPUs
             tables 3 to 6, A1 and figure 4, one option a row
k400_category  the same, labelled in proportion to the classes  days, GPUs
             (table A4): 12.68 (as many of every class 12.90)
ucf101_from_k400  all labels of UCF-101, Kinetics-400 without  weeks, GPUs
             labels (table A3): CMPL 88.9, supervised 61.1
ucf101_imagenet  the same, and the control that starts from   weeks, GPUs
             ImageNet, 86.2: --config.networks.imagenet.weights=inflated:FILE

The real datasets have the paper's recipe: 3D-ResNet-50 on 8x8 frames (8, a stride
of 8) and 3D-ResNet-50 x 1/4 on 16x4, up to 10 s from there; a step of 32 labelled
and 160 unlabelled clips, 200 epochs of the latter, a rate of .1 that a cosine lets
fall to 0, tau .9, lambda 5 or 2; ten clips of three crops of 256 pixels, of the
primary network. By its FLOPs (some 120 TFLOP a step) CMPL takes some ten days of
one large GPU on Kinetics-400, FixMatch as long, and a twenty-fifth of that on
UCF-101; not run by us. Smaller GPUs: --config.accumulate=8. The paper's numbers
are means of three draws: --config.subsets.labelled.seed=1, then 2.
data_prep/README.md says how to prepare the data.

What the paper prints (top-1, 3D-ResNet-50, UCF-101 with 1 and 10 % of the labels,
Kinetics-400 with as many; table 1): supervised 6.5 32.4 4.4 36.2, FixMatch 14.8
49.8 8.6 46.9, CMPL 25.1 79.1 17.6 58.4. With 1 % of Kinetics in 50 epochs:
FixMatch 6.78, by schemes (table A1) self-first 10.80, opposite-first 11.13,
maximum 11.85, average 12.16, cross 12.90; the auxiliary trained by labels alone
10.57, by pseudo-labels alone 10.32, by both 12.90 (table 6).

On Tabletop lambda is 1, FixMatch's own: with 5, FixMatch of one label a verb was
behind labels alone there (docs/measured.md).

Other numbers of labels: --config.subsets.labelled.per_class=2; other draws:
--config.subsets.labelled.seed=1. --config.method.cmpl.threshold=.95, ..strength=1,
..scheme=average; --config.ema=.999 with ..teacher=ema lets the moving average
make the labels. Further arms, as
--config.semi.arms.own="{'networks': ('flow_fast',), 'method': 'fixmatch'}". The
arm that is called 'fixmatch' is what tables compare with.
"""

from ml_collections import ConfigDict

from configs import cmpl_tables as paper
from configs import common
from configs.cmpl_paper import PAPER
from mmvid.data.augment import Augment

# Of each clip that is learnt from: 16 frames, of which the primary network sees every fourth, the auxiliary one
# every second.
RAW = 16
CLIPS = dict(kind="clip", dense_length=RAW)
# The verbs that a mirror exchanges: push left and right, rotate clockwise and counterclockwise.
MIRRORED = ((0, 1), (7, 8))
STILLS = "data/tabletop-stills"


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of a variant. Raises ValueError for an unknown one."""
    return common.of_variant("configs/cmpl.py", VARIANTS, variant)


# ---------------------------------------------------------------------------- parts
def stream(c: ConfigDict, name: str, modality: str, frames: int, **sampling) -> None:
    """A stream of so many frames of the clip."""
    c.streams[name] = common.stream(modality, frames=frames, **(CLIPS | sampling))


def small(c: ConfigDict, name: str, modality: str) -> None:
    """An auxiliary network, of half the width, and its stream of twice as many frames, which is called alike."""
    stream(c, name, modality, frames=8)
    c.networks[name] = common.network("tsm_tiny", name, width=16)


def labelled(c: ConfigDict, per_class: int, draws: int = 1) -> tuple[str, ...]:
    """Makes ``draws`` subsets of so many clips of each class, whose labels are known, and returns their names.
    What none of them has is 'unlabelled'."""
    names = ("labelled", *(f"labelled_{i}" for i in range(2, draws + 1)))
    left = "train"
    for seed, name in enumerate(names):
        c.subsets[name] = dict(of="train", per_class=per_class, by="class", seed=seed)
        rest = "unlabelled" if name == names[-1] else f"rest_{seed + 1}"
        c.subsets[rest] = dict(of=left, without=name)
        left = rest
    # Of these, figures show what the networks' predictions are worth.
    c.subsets.followed = dict(of="unlabelled", share=0.25, seed=0)
    c.semi.update(dict(labelled="labelled", unlabelled="unlabelled", followed="followed"))
    return names


def drawn(place: int) -> tuple[str, str]:
    """What goes behind the name and the title of an arm of the ``place``-th labelled draw; '' of the first."""
    return (f"_{place}", f", draw {place}") if place > 1 else ("", "")


def _of(place: int, draw: str) -> dict[str, str]:
    """The entry of an arm of the ``place``-th draw. That of the first learns what ``semi.labelled`` says."""
    return {"labelled": draw} if place > 1 else {}


def _tabletop(c: ConfigDict, size: str, head: str) -> None:
    """Tabletop's verbs or nouns, and how clips are augmented and scored."""
    common.use_tabletop(c, size, "epic")
    del c.heads["noun" if head == "verb" else "verb"]
    c.plan, c.method.name = "semi", "cmpl"
    c.augment.update(dict(flip=True, flip_labels=MIRRORED if head == "verb" else ()))
    # Weakly: as it is. The picture is small, so that its whole is the centre crop.
    weak = Augment(crop="centre", scales=(1.0,))
    c.semi.weak.update(weak._asdict())
    c.semi.strong.update(weak._replace(device=("strong",))._asdict())
    # With fewer labelled clips a step, labels alone teach little in so few of them.
    c.semi.update(dict(labelled_batch=16, unlabelled_batch=12))
    # With the paper's 5 or 2, early mistakes are learnt by heart before the labels are.
    c.method.fixmatch.strength = c.method.cmpl.strength = 1.0
    c.optimizer.groups = "uniform"
    c.steps.method = "1000"
    c.evaluation.update(dict(protocol="E2", aggregate="probs", splits=("test",), every="25%"))


def arm(c: ConfigDict, name: str, method: str, *networks: str, title: str, **more) -> None:
    """An arm of the plan; ``more`` are its labelled subset and options of its method."""
    c.semi.arms[name] = dict(networks=networks, method=method, title=title, **more)


def alone(c: ConfigDict, network: str, suffix: str = "", title: str = "", **more) -> None:
    """The two arms that CMPL is compared with."""
    arm(c, f"supervised{suffix}", "single", network, title=f"Supervised{title}", **more)
    arm(c, f"fixmatch{suffix}", "fixmatch", network, title=f"FixMatch{title}", **more)


# ---------------------------------------------------------------------------- variants
def tabletop(c: ConfigDict, size: str = "semi", per_class: int = 1, draws: int = 1, steps: str = "700") -> None:
    """Tabletop's verbs from flow: a network of every fourth frame, and a smaller one of every second."""
    _tabletop(c, size, "verb")
    c.steps.method = steps
    stream(c, "flow", "flow", frames=4)
    c.networks.flow = common.network("tsm_tiny", "flow")
    small(c, "flow_fast", "flow")
    c.headline, c.semi.networks, c.semi.thinned = "flow", ("flow", "flow_fast"), (2, 4)
    for place, draw in enumerate(labelled(c, per_class, draws), 1):
        suffix, title = drawn(place)
        alone(c, "flow", suffix, title, **_of(place, draw))
        # What the auxiliary network is worth by itself.
        fast = f"Supervised, auxiliary{title}"
        arm(c, f"supervised_fast{suffix}", "single", "flow_fast", title=fast, **_of(place, draw))
        if place > 1:
            arm(c, f"cmpl{suffix}", "cmpl", *c.semi.networks, title=f"CMPL{title}", labelled=draw)
    # Of Kinetics-400, whose 1 and 10 % are six and sixty clips a class.
    c.published = paper.table_1("Kinetics-400, 1 %" if per_class == 1 else "Kinetics-400, 10 %", "flow")


def smoke(c: ConfigDict) -> None:
    """The default in miniature."""
    tabletop(c, "smoke", steps="12")
    c.model_options.stages = (1, 1)
    c.schedule.warmup, c.log_every = "3", 4
    c.evaluation.update(dict(during_protocol="E2", every="50%"))


def five(c: ConfigDict) -> None:
    """The default with five labels a verb."""
    tabletop(c, per_class=5)


def plain(c: ConfigDict) -> None:
    """The default's own method alone, from which grids go out that show nothing else."""
    tabletop(c)
    c.semi.arms = ConfigDict()


def medium(c: ConfigDict) -> None:
    """The default on the larger rendering, on three labelled draws, with more updates than fit into a quarter of
    an hour."""
    tabletop(c, "medium", draws=3, steps="1000")


def cross_modal(c: ConfigDict, size: str = "semi") -> None:
    """RGB and flow label each other's clips; three labelled draws."""
    _tabletop(c, size, "verb")
    for modality in ("rgb", "flow"):
        stream(c, modality, modality, frames=4)
        c.networks[modality] = common.network("tsm_tiny", modality)
    # Flow's strong views are its own: of RGB's pool it could follow the moves alone.
    c.streams.flow.geometry = "flow"
    c.headline, c.semi.networks = "rgb", ("rgb", "flow")
    c.method.title = "RGB + flow"
    for place, draw in enumerate(labelled(c, 5, draws=3), 1):
        suffix, title = drawn(place)
        alone(c, "rgb", suffix, title, **_of(place, draw))
        if place > 1:
            arm(c, f"cmpl{suffix}", "cmpl", "rgb", "flow", title=f"RGB + flow{title}", labelled=draw)


def cross_medium(c: ConfigDict) -> None:
    """The same on the larger rendering."""
    cross_modal(c, "medium")


def nouns(c: ConfigDict) -> None:
    """Nouns from RGB; all networks start from a classifier of generated stills."""
    _tabletop(c, "semi", "noun")
    c.stills.path = STILLS
    c.stills.command = ("data_prep.build", "--out", STILLS, "--dataset", "tabletop_stills")
    c.stills.steps = "200"
    for name, frames in (("rgb", 4), ("rgb_fast", 8)):
        stream(c, name, "rgb", frames=frames)
        # Alike, so that both can start from the stills.
        c.networks[name] = common.network("tsm_tiny", name)
    c.headline, c.semi.networks = "rgb", ("rgb", "rgb_fast")
    # As many clips as five of each of the twenty verbs.
    labelled(c, 12)
    alone(c, "rgb")


# {segment: (title, options of CMPL)} of `table`, beside the run's own: tables A1 and 6.
RIVALS = dict(
    self_first=("CMPL, self-first", dict(scheme="self_first")),
    opposite_first=("CMPL, opposite-first", dict(scheme="opposite_first")),
    maximum=("CMPL, maximum", dict(scheme="maximum")),
    average=("CMPL, average", dict(scheme="average")),
    supervised_auxiliary=("CMPL, auxiliary from labels alone", dict(auxiliary="supervised")),
    unsupervised_auxiliary=("CMPL, auxiliary from pseudo-labels alone", dict(auxiliary="unsupervised")),
)


def table(c: ConfigDict) -> None:
    """Table 1 in miniature, 1 and 5 labels on three labelled draws; tables A1, 6 and 2 on the first of them."""
    tabletop(c, steps="250")
    c.semi.arms, c.semi.thinned, c.evaluation.every = ConfigDict(), (), "50%"
    # Of both frame rates, with the same weights: FixMatch whose labels are made at another rate, and elsewhere in
    # the video (table 2).
    stream(c, "flow_far", "flow", frames=8, offset=1.0)
    c.networks.rates = common.network("tsm_tiny", "flow", "flow_fast")
    c.networks.located = common.network("tsm_tiny", "flow", "flow_far")
    pair = ("flow", "flow_fast")
    for place, five in enumerate(labelled(c, 5, draws=3), 1):
        suffix, title = drawn(place)
        one = five.replace("labelled", "one")
        c.subsets[one] = dict(of=five, per_class=1, seed=place - 1)
        alone(c, "flow", f"_five{suffix}", f", 5 labels{title}", labelled=five)
        arm(c, f"cmpl_five{suffix}", "cmpl", *pair, title=f"CMPL, 5 labels{title}", labelled=five)
        alone(c, "flow", suffix, title, **_of(place, one))
        if place > 1:
            arm(c, f"cmpl{suffix}", "cmpl", *pair, title=f"CMPL{title}", labelled=one)
    c.semi.labelled = "one"
    for name, (called, options) in RIVALS.items():
        arm(c, name, "cmpl", *pair, title=called, **options)
    arm(c, "rates", "cmpl", "rates", title="FixMatch, frame rates")
    arm(c, "located", "cmpl", "located", title="FixMatch, frame rates, temporal locations")


VARIANTS = {
    "": tabletop,
    "smoke": smoke,
    "five": five,
    "plain": plain,
    "cross_modal": cross_modal,
    "cross_medium": cross_medium,
    "nouns": nouns,
    "medium": medium,
    "table": table,
    **PAPER,
}
