"""Gradient-Blending (Wang et al.): a joint network that beats its best modality.

    python -m mmvid train --config=configs/gblend.py --workdir=runs/gblend

The default makes a Tabletop dataset on first use, with 500 clips to learn from
and 200 that are held out of training. On flow and sound (verbs) it trains the
copies first, each alone: a network of sound, one of flow, and both encoders with
a joint classifier (naive joint training). What each gained on the held-out
clips, over the square of what it overfitted by, is its weight; with equal
weights, and with these, the same network then learns by the sum of its three
losses. It ends with the paper's columns: sound, flow, naive, equal weights,
G-Blend, clip and video top-1 and top-5, and with the weights and why. A variant
is given as --config=configs/gblend.py:smoke.

variant      what                                              expected time
(default)    Tabletop, flow and sound, offline                 6 min, 2 cores
smoke        the same in miniature, and its online form, but   2 min, 2 cores
             no frozen trunks and none of table's rivals
online       the default, and weights estimated anew in each   15 min, 2 cores
             of eight super-epochs (table 2, figure 5), whose
             encoders are also compared with those of naive
             training from the same snapshot (figure 5b)
medium       the default on the larger rendering, with 1,500   15 min, 2 cores
             test clips: for claims
table        tables 2 (its online row: online), 4 and 5 in     60 min, 2 cores
             miniature: also RGB and sound, RGB and flow, and
             all three; dropout, pre-training, early stopping, auxiliary losses
             (weights of 1/3 and of 1), learnt weights, G-Blend
             without a clamp, SE and NL gates; mid-level concatenation and LMF,
             plain and with G-Blend
kinetics     Kinetics-400, RGB and sound, with table 5's       days, GPUs
             baselines; offline G-Blend 74.7 (RGB 72.6,
             naive 71.4)
kinetics_online  the same, online: 75.8
kinetics_rgb_flow kinetics_flow_audio kinetics_all  other modalities (table 4):
             73.1, 66.3, 74.9
kinetics_mid kinetics_lmf  other joint classifiers: 73.6, 73.5
kinetics_adagrad kinetics_adam  other optimisers (table 3): 71.3, 72.1
kinetics_csn152  ip-CSN-152 of 30 views (table 6): 79.1
minisports   mini-Sports (table 5): 62.8 (RGB 62.7)
mini_audioset audioset  several labels a clip (tables 5 and 7): mAP 37.8 (naive
             36.5), 41.8 (40.2)
epic55_noun epic55_verb  EPIC-Kitchens-55, noun and verb by themselves (table
             8): unseen kitchens 36.1, 59.2 (RGB 36.4, 56.6)

The real datasets have the recipe of R(2+1)D, which the paper follows: SGD, 45
epochs of a million clips (EPIC: of its clips), 16 frames of 224 pixels. By its
FLOPs a network of 50 layers takes some four days of one large GPU on Kinetics,
ip-CSN-152 some ten, and the copies, the baselines and G-Blend are five to eight
networks; not run by us. data_prep/README.md says how to prepare the data.

What the paper prints (Kinetics, video top-1, table 4): sound 19.7, flow 62.1,
naive joint 58.3, G-Blend 66.3, by the weights .011 (sound) .827 (flow) .162
(joint). Its claims: joint training is worse than the best modality alone, with
equal weights as well (70.8 against 72.6 for RGB and sound); G-Blend is better.
On Tabletop, three fresh seeds of `medium` on a rendering of its own: sound 49.3,
flow 82.7, naive joint 68.2, equal weights 79.5, G-Blend 87.6 (docs/measured.md,
with intervals).

Weights by hand, in the order of the outputs (sound, flow, joint; kinetics_all:
RGB, flow, sound, joint), or those of an earlier run, of a smaller dataset, too
(table 7); the published ones stand in configs/gblend_tables.py, by their source:
--config.method.gblend.weights=.01,.83,.16 or =runs/gblend. In runs as short as
Tabletop's a joint classifier of weight .05 starves, so that no overfitting counts
as less than 0.5 there; --config.method.gblend.clamp_absolute=0 takes it as it is.
Weights of error rates: --config.method.gblend.curves=error, with a clamp_absolute
of some 0.15 on Tabletop. A softmax in place of sigmoids, for several labels:
--config.method.gblend.multi=softmax. --config.split=whole (smoke and the real
datasets: =train) lets all networks learn from the held-out clips as well, once
these have weighed them (offline alone). Tables compare with the arm that is
called 'equal'.
Online, --config.blend.frozen_trunk='5 epochs' compares the encoders that each
super-epoch makes with those that naive training makes of the same snapshot: for
so long a new joint classifier learns on each.
"""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from configs import common
from configs import gblend_tables as paper


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of a variant. Raises ValueError for an unknown one."""
    return common.of_variant("configs/gblend.py", VARIANTS, variant)


def stream(c: ConfigDict, modality: str, **sampling) -> None:
    """A modality's stream, and the network of it alone."""
    form, model = {
        "rgb": ("frames", "tsm_tiny"),
        # As the paper's: two channels, one field of motion a frame.
        "flow": ("frames", "tsm_tiny"),
        "audio": ("logmel", "audio_tiny"),
    }[modality]
    c.streams[modality] = common.stream(modality, form=form, **sampling)
    c.networks[modality] = common.network(model, modality)


def fused(c: ConfigDict, name: str, *modalities: str, unimodal: str, **joint) -> None:
    """The network ``name`` of several modalities, with the encoders of the networks of each alone, and with
    'zero' or no (``unimodal`` 'none') classifiers of these; ``joint`` are options of its joint classifier."""
    encoders = {modality: c.networks[modality].model for modality in modalities}
    c.networks[name] = common.fusion(options=dict(unimodal=unimodal, **joint), **encoders)


def blended(c: ConfigDict, name: str, naive: str, *modalities: str, **joint) -> None:
    """A network for G-Blend, and the ``naive`` one, which has the joint classifier alone."""
    fused(c, name, *modalities, unimodal="zero", **joint)
    fused(c, naive, *modalities, unimodal="none", **joint)
    c.blend.copies[name] = {**{modality: modality for modality in modalities}, "joint": naive}


def held_out(c: ConfigDict, share: dict, of: str = "train", fixed: dict | None = None) -> None:
    """V: a ``share`` of the clips ``of``, drawn by class, which nobody learns from; the others are learnt from.
    T': as many of these, or ``fixed``. With --config.split=``of`` V rejoins."""
    c.subsets.held = dict(of=of, **share)
    c.subsets.taught = dict(of=of, without="held")
    c.subsets.fixed = dict(of="taught", **(fixed or share))
    c.blend.update(dict(held="held", split="taught", fixed="fixed"))
    c.split = "taught"


def printed(c: ConfigDict, source: str, *modalities: str) -> None:
    """Names published weights by their ``source`` in WEIGHTS: those of networks of these ``modalities``."""
    own = dict(zip((*modalities, "joint"), paper.WEIGHTS[source].split(",")))
    c.blend.published = (*c.blend.published, (source, own))


def _planned(c: ConfigDict) -> None:
    """The plan, whose result is the joint output of the network 'av'."""
    c.plan, c.method.name, c.headline = "gblend", "gblend", "av.joint"


def _flow_and_sound(c: ConfigDict, size: str) -> None:
    """Tabletop's flow and sound, G-Blend and equal weights."""
    common.use_tabletop(c, size, "epic")
    # Verbs alone: nouns are neither heard nor seen in motion.
    del c.heads["noun"]
    _planned(c)
    stream(c, "audio")
    # Of more frames, flow alone is right so often that there is little room above it.
    stream(c, "flow", frames=2)
    blended(c, "av", "naive", "audio", "flow")
    printed(c, "table 4, flow + sound", "audio", "flow")
    c.blend.arms.equal = dict(network="av", weights="equal", title="Equal weights")
    c.model_options.dropout = 0.0
    c.optimizer.groups = "uniform"
    # In so few steps a joint classifier of weight .1, to which |dO| as it is would lead, learns too little.
    c.method.gblend.clamp_absolute = 0.5
    c.steps.method, c.blend.measures = "1000", 3
    # Three clips of each video, of which the mean of probabilities counts, as the paper's ten. Each spans the
    # video, as those that are learnt from: losses of other clips would say nothing of overfitting.
    c.evaluation.update(dict(protocol="D0U3", aggregate="probs", splits=("test",)))
    c.published = paper.FLOW_AUDIO


def tabletop(c: ConfigDict, size: str = "blend") -> None:
    """Tabletop's flow and sound, 500 clips to learn from and 200 held out."""
    _flow_and_sound(c, size)
    # Sound memorises so few; of many more it does not, and joint training loses nothing.
    c.subsets.whole = dict(of="train", per_class=35)
    held_out(c, dict(per_class=10), of="whole")


def smoke(c: ConfigDict) -> None:
    """The default and its online form, in miniature; without `table`'s rivals and without frozen trunks."""
    _flow_and_sound(c, "smoke")
    # 48 clips of 20 verbs.
    held_out(c, dict(share=0.25), fixed=dict(share=0.33))
    # Compiling takes most of its time, and grows with the depth.
    c.model_options.stages = (1, 1)
    c.steps.method = "20"
    c.schedule.warmup = "5"
    c.log_every = 5
    # Cut alike while training and at the end, clips need one compiled forward.
    c.evaluation.update(dict(protocol="D0U2", during_protocol="D0U2", every="50%"))
    c.blend.measures = 2
    c.blend.super_epochs = ("10",)


def online(c: ConfigDict) -> None:
    """The default, and super-epochs of 10, then 5 of 45 epochs, as the paper's; in steps."""
    tabletop(c)
    c.blend.super_epochs = ("223", "111")
    c.blend.frozen_trunk = "100"


def medium(c: ConfigDict) -> None:
    """The default on the larger rendering."""
    tabletop(c, "medium")


# {segment: what trains in it} of `table`, beside equal weights and G-Blend.
RIVALS = dict(
    ones=dict(network="av", weights="1,1,1", title="Weights of 1"),
    starved=dict(network="av", clamp_absolute=0.0, title="G-Blend, |dO| as it is"),
    learnt=dict(network="av", weights="learnt", title="Learnt weights"),
    dropout=dict(network="dropout", title="Dropout"),
    pretrained=dict(network="naive", pretrained=True, title="Pre-training"),
    early=dict(network="naive", checkpoint="best", title="Early stopping"),
    se=dict(network="se", title="SE gate"),
    nl=dict(network="nl", title="NL gate"),
    mid=dict(network="mid", title="Mid-concatenation, G-Blend"),
    lmf=dict(network="lmf", title="LMF, G-Blend"),
    ra=dict(network="ra", title="RGB + sound, G-Blend"),
    rf=dict(network="rf", title="RGB + flow, G-Blend"),
    rfa=dict(network="rfa", title="RGB + flow + sound, G-Blend"),
)


def table(c: ConfigDict) -> None:
    """The rows of tables 2, 4 and 5, on flow and sound where the paper has RGB and sound: RGB learns Tabletop's
    verbs slowly. All copies are trained together, once. Table 2's online row is `online`'s."""
    tabletop(c)
    c.steps.method = "500"
    stream(c, "rgb")
    blended(c, "ra", "naive_ra", "audio", "rgb")
    blended(c, "rf", "naive_rf", "rgb", "flow")
    blended(c, "rfa", "naive_rfa", "rgb", "flow", "audio")
    blended(c, "mid", "naive_mid", "audio", "flow", joint="mid", trunk="flow")
    blended(c, "lmf", "naive_lmf", "audio", "flow", joint="lmf", joint_width=64)
    fused(c, "dropout", "audio", "flow", unimodal="none", dropout=0.5)
    for gate in ("se", "nl"):
        fused(c, gate, "audio", "flow", unimodal="none", joint=gate)
    c.blend.arms.update(RIVALS)
    printed(c, "table 4, RGB + sound", "audio", "rgb")
    printed(c, "table 4, RGB + flow", "rgb", "flow")
    printed(c, "table 4, RGB + flow + sound", "rgb", "flow", "audio")
    c.published = paper.FLOW_AUDIO + paper.RGB_ROWS


# ---------------------------------------------------------------------------- the paper's datasets
# Clips of training and of the split that the paper scores on; AudioSet's numbers are those of its lists. EPIC's
# training and validation are guessed, for outlines alone: of its 28,472 segments, nobody has printed how many are
# of the kitchens of validation.
CLIPS = {
    "kinetics400": dict(train=240_258, val=19_881),
    "minisports": dict(train=240_000, val=20_000),
    "mini_audioset": dict(train=243_000, val=20_371),
    "audioset": dict(train=2_063_949, val=20_371),
    "epic55": dict(train=23_472, val=5_000, s1=8_047, s2=2_929),
}
HEADS = {
    "kinetics400": dict(action=(400, "single")),
    "minisports": dict(action=(487, "single")),
    "mini_audioset": dict(action=(418, "multi")),
    "audioset": dict(action=(527, "multi")),
}
# Encoders, {modality: (form of its stream, network of it alone)}.
LARGE = {"rgb": ("vmz", "vmz_r3d_50"), "flow": ("frames", "vmz_r3d_50"), "audio": ("logmel", "audio_resnet50")}
CSN152 = {"rgb": ("vmz", "csn_ip_152"), "audio": ("logmel", "audio_resnet152")}
LAYERS_101 = {"rgb": ("vmz", "r2plus1d_101"), "audio": ("logmel", "audio_resnet101")}
# As TBN hears.
EPIC152 = CSN152 | {"audio": ("spectrogram", "audio_resnet152")}


def _epochs(dataset: str, count: int, share: float, clips: int = 1_000_000) -> str:
    """The duration of ``count`` epochs of ``clips`` each (VMZ's scripts), in passes over what is left of the
    training clips without a ``share``; 0 ``clips`` are a pass."""
    passes = clips / (CLIPS[dataset]["train"] * (1 - share)) if clips else 1
    return f"{round(count * passes, 2):g} epochs"


def _trained(c: ConfigDict, epochs: Callable[[int], str]) -> None:
    """The recipe of R(2+1)D: SGD with Nesterov's momentum, 45 epochs, of which 10 warm up, a tenth of the rate
    after 20, 30 and 40; ``epochs`` gives the duration of so many."""
    # The paper's rate is .01 for each of its GPUs; how many clips one takes it does not say. Here: eight.
    c.size, c.batch_size = 224, 64
    c.schedule = common.schedule(
        0.08, kind="step", warmup=epochs(10), boundaries=tuple(map(epochs, (20, 30, 40))), factor=0.1
    )
    c.optimizer.update(dict(nesterov=True, weight_decay=1e-4, clip=0.0, groups="uniform"))
    c.steps.method = epochs(45)
    # A short side anywhere in [256, 320], as the papers of R(2+1)D and CSN say; VMZ's code lists sides to choose
    # from, and which ones were in its lists, nobody has printed.
    c.augment.update(dict(crop="resized", scales=(256 / 224, 320 / 224), flip=True))


def _recipe(
    c: ConfigDict, dataset: str, *modalities: str, encoders: Mapping = LARGE, frames: int = 16, stride: int = 1,
    share: float = 0.08, weights: str = "", epoch: int = 1_000_000, **joint,
) -> None:  # fmt: skip
    """A network of several ``modalities`` by R(2+1)D's recipe: `_trained`, in epochs of ``epoch`` clips. A
    ``share`` of the training clips is held out; where ``weights`` names published ones, nothing is estimated and
    all clips are learnt from. ``joint`` are options of the joint classifier."""
    c.dataset.path = f"data/{dataset}"
    c.dataset.clips.update(CLIPS[dataset])
    c.heads.update(HEADS.get(dataset, {}))
    _planned(c)
    for modality in modalities:
        form, model = encoders[modality]
        sampling = dict(kind="strided", frames=frames, dense_length=frames * stride)
        c.streams[modality] = common.stream(modality, form=form, **sampling)
        c.networks[modality] = common.network(model, modality)
    blended(c, "av", "naive", *modalities, **joint)
    _trained(c, lambda count: _epochs(dataset, count, 0 if weights else share, epoch))
    (head,) = c.heads
    # Of every class alike, rare ones would be held out whole.
    held_out(c, dict(share=share, head=head, by="frequency"))
    c.blend.measures = 9
    if weights:
        c.split, c.method.gblend.weights = "train", paper.WEIGHTS[weights]
        printed(c, weights, *modalities)
    # Ten clips of each video, centre crop, mean of probabilities.
    c.evaluation.update(dict(protocol="E10", resize=256, aggregate="probs", splits=("val",), every="4%"))
    c.evaluation.batch_size = 8
    # What stops early must not be chosen by the clips that it is judged on.
    c.evaluation.during = "val" if weights else "held"
    c.save_every = "2%"
    c.loader.workers = 16


def _regularised(c: ConfigDict) -> None:
    """The baselines of table 5, of RGB and sound."""
    fused(c, "dropout", "audio", "rgb", unimodal="none", dropout=0.5)
    c.blend.arms.equal = dict(network="av", weights="equal", title="Auxiliary losses, weights of 1/3")
    c.blend.arms.dropout = dict(network="dropout", title="Dropout")
    c.blend.arms.pretrained = dict(network="naive", pretrained=True, title="Pre-training")


def kinetics(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound."""
    _recipe(c, "kinetics400", "audio", "rgb")
    printed(c, "table 4, RGB + sound", "audio", "rgb")
    _regularised(c)
    c.blend.arms.early = dict(network="naive", checkpoint="best", title="Early stopping")
    c.published = paper.RGB_AUDIO + paper.BASELINES


def kinetics_online(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, weights estimated anew in each super-epoch."""
    _recipe(c, "kinetics400", "audio", "rgb")
    c.blend.super_epochs = tuple(_epochs("kinetics400", count, 0.08) for count in (10, 5))
    c.published = paper.RGB_AUDIO


def kinetics_rgb_flow(c: ConfigDict) -> None:
    """Kinetics-400, RGB and flow."""
    _recipe(c, "kinetics400", "rgb", "flow")
    printed(c, "table 4, RGB + flow", "rgb", "flow")
    c.published = paper.RGB_FLOW


def kinetics_flow_audio(c: ConfigDict) -> None:
    """Kinetics-400, flow and sound."""
    _recipe(c, "kinetics400", "audio", "flow")
    printed(c, "table 4, flow + sound", "audio", "flow")
    c.published = paper.FLOW_AUDIO


def kinetics_all(c: ConfigDict) -> None:
    """Kinetics-400, RGB, flow and sound."""
    _recipe(c, "kinetics400", "rgb", "flow", "audio")
    printed(c, "table 4, RGB + flow + sound", "rgb", "flow", "audio")
    c.published = paper.RGB_FLOW_AUDIO


def kinetics_mid(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, concatenated before the last stage of RGB's network."""
    _recipe(c, "kinetics400", "audio", "rgb", joint="mid", trunk="rgb")
    c.published = paper.MID


def kinetics_lmf(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, low-rank fusion."""
    _recipe(c, "kinetics400", "audio", "rgb", joint="lmf")
    c.published = paper.LMF


def kinetics_adagrad(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, by AdaGrad; the paper does not say the rate."""
    _recipe(c, "kinetics400", "audio", "rgb")
    c.optimizer.name, c.schedule.lr = "adagrad", 0.01
    c.published = paper.ADAGRAD


def kinetics_adam(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, by Adam; the paper does not say the rate."""
    _recipe(c, "kinetics400", "audio", "rgb")
    c.optimizer.name, c.schedule.lr = "adam", 1e-3
    c.published = paper.ADAM


def kinetics_csn152(c: ConfigDict) -> None:
    """Kinetics-400, ip-CSN-152 of 32 frames at stride 2 and sound, by VMZ's weights; 30 views of 256 pixels."""
    source = "VMZ's tutorial, Kinetics, ip-CSN-152"
    _recipe(c, "kinetics400", "audio", "rgb", encoders=CSN152, frames=32, stride=2, weights=source)
    c.schedule.kind = "cosine"
    c.evaluation.crops = "three_full_res"
    c.published = paper.CSN


def minisports(c: ConfigDict) -> None:
    """mini-Sports, RGB and sound."""
    _recipe(c, "minisports", "audio", "rgb")
    _regularised(c)
    printed(c, "table 5, mini-Sports", "audio", "rgb")
    c.published = paper.MINISPORTS


def _several_labels(c: ConfigDict) -> None:
    """A scale and a bias of each class between classifier and sigmoid, in every network."""
    for spec in c.networks.values():
        spec.options.affine = True


def mini_audioset(c: ConfigDict) -> None:
    """mini-AudioSet, RGB and sound, several labels a clip."""
    _recipe(c, "mini_audioset", "audio", "rgb", share=0.13)
    _regularised(c)
    _several_labels(c)
    printed(c, "table 5, mini-AudioSet", "audio", "rgb")
    c.published = paper.MINI_AUDIOSET


def audioset(c: ConfigDict) -> None:
    """AudioSet, R(2+1)D-101 and a ResNet-101 of sound, by VMZ's weights."""
    _recipe(c, "audioset", "audio", "rgb", encoders=LAYERS_101, weights="VMZ's tutorial, AudioSet")
    _several_labels(c)
    c.published = paper.AUDIOSET


def _epic55(c: ConfigDict, head: str, classes: int, weights: str) -> None:
    """EPIC-Kitchens-55, one of its heads: ip-CSN-152 of 32 frames at stride 2, and a ResNet-152 of sound as TBN
    sees it. The paper's visual network begins with IG-65M's weights: networks.av.weights = {"rgb": FILE}."""
    c.heads[head] = (classes, "single")
    _recipe(c, "epic55", "audio", "rgb", encoders=EPIC152, frames=32, stride=2, weights=weights, epoch=0)
    c.published = paper.EPIC55[head]


def epic55_noun(c: ConfigDict) -> None:
    """EPIC-Kitchens-55's nouns."""
    _epic55(c, "noun", 352, "VMZ's tutorial, EPIC nouns")


def epic55_verb(c: ConfigDict) -> None:
    """EPIC-Kitchens-55's verbs."""
    _epic55(c, "verb", 125, "VMZ's tutorial, EPIC verbs")


VARIANTS = {
    "": tabletop,
    "smoke": smoke,
    "online": online,
    "medium": medium,
    "table": table,
    "kinetics": kinetics,
    "kinetics_online": kinetics_online,
    "kinetics_rgb_flow": kinetics_rgb_flow,
    "kinetics_flow_audio": kinetics_flow_audio,
    "kinetics_all": kinetics_all,
    "kinetics_mid": kinetics_mid,
    "kinetics_lmf": kinetics_lmf,
    "kinetics_adagrad": kinetics_adagrad,
    "kinetics_adam": kinetics_adam,
    "kinetics_csn152": kinetics_csn152,
    "minisports": minisports,
    "mini_audioset": mini_audioset,
    "audioset": audioset,
    "epic55_noun": epic55_noun,
    "epic55_verb": epic55_verb,
}
