"""Gradient-Blending (Wang et al.): a joint network that beats its best modality.

    python -m mmvid train --config=configs/gblend.py --workdir=runs/gblend

The default makes a Tabletop dataset on first use, with 400 clips to learn from
and 200 that are held out of training. On flow and sound (verbs) it trains the
copies first, each alone: a network of sound, one of flow, and both encoders with
a joint classifier (naive joint training). What each gained on the held-out
clips, over the square of what it overfitted by, is its weight; with equal
weights, and with these, the same network then learns by the sum of its three
losses. It ends with the paper's columns: sound, flow, naive, equal weights,
G-Blend, clip and video top-1 and top-5, and with the weights and why. A variant
is given as --config=configs/gblend.py:smoke.

variant      what                                              expected time
(default)    Tabletop, flow and sound, offline                 15 min, 2 cores
smoke        the same in miniature                             2 min, 2 cores
online       the default, and weights estimated anew in each   40 min, 2 cores
             of eight super-epochs (table 2, figure 5), whose
             encoders are also compared with those of naive
             training from the same snapshot (figure 5b)
medium       the default on the larger rendering, with 1,500   15 min, 2 cores
             test clips: for claims
table        tables 2, 4 and 5 in miniature: also RGB and      60 min, 2 cores
             sound, RGB and flow, and all three; dropout,
             pre-training, early stopping, auxiliary losses
             (weights of 1/3 and of 1), learnt weights, the clamp
             of 0.5, SE and NL gates; mid-level concatenation and LMF, plain
             and with G-Blend
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
The times were not measured yet.

Weights by hand, in the order of the outputs (sound, flow, joint; kinetics_all:
RGB, flow, sound, joint), or those of an earlier run, of a smaller dataset, too
(table 7); the published ones stand in WEIGHTS, by their source:
--config.method.gblend.weights=.01,.83,.16 or =runs/gblend. Weights of error
rates: --config.method.gblend.curves=error. A softmax in place of sigmoids, for
several labels: --config.method.gblend.multi=softmax. In short runs a joint
classifier of weight .05 starves: --config.method.gblend.clamp_absolute=0.5
counts no overfitting as less than that. --config.split=train lets all networks
learn from all training clips, once those held out have weighed them (offline
alone).
Online, --config.blend.frozen_trunk='5 epochs' compares the encoders that each
super-epoch makes with those that naive training makes of the same snapshot: for
so long a new joint classifier learns on each.
"""

from ml_collections import ConfigDict

from configs import common

# Clip top-1, video top-1 / top-5. The naive network of sound and RGB has 71.4 / 89.3 in table 4, 71.7 / 89.3 in
# table 5 and 71.7 / 89.6 in table 2.
FLOW_AUDIO = (
    (
        "Kinetics, flow + sound, video top-1 / top-5 (T4, T5)",
        {"audio": "19.7 / 33.6", "flow": "62.1 / 82.6", "naive": "58.3 / 79.9", "av.joint": "66.3 / 86.0"},
    ),
    (
        "Kinetics, flow + sound, clip top-1 (T4, T5)",
        {"audio": "13.9", "flow": "49.2", "naive": "46.2", "av.joint": "54.4"},
    ),
)
RGB_ROWS = (
    (
        "Kinetics, RGB + sound, video top-1 / top-5 (T4, T5)",
        {"audio": "19.7 / 33.6", "rgb": "72.6 / 90.1", "naive_ra": "71.4 / 89.3", "ra.joint": "74.7 / 91.5"},
    ),
    (
        "Kinetics, RGB + sound, clip top-1 (T4, T5)",
        {"audio": "13.9", "rgb": "63.5", "naive_ra": "61.8", "ra.joint": "65.9"},
    ),
    (
        "Kinetics, RGB + flow, video top-1 / top-5 (T4)",
        {"rgb": "72.6 / 90.1", "flow": "62.1 / 82.6", "naive_rf": "71.3 / 89.6", "rf.joint": "73.1 / 90.8"},
    ),
    ("Kinetics, RGB + flow, clip top-1 (T4)", {"rgb": "63.5", "naive_rf": "62.2", "rf.joint": "64.3"}),
    (
        "Kinetics, RGB + flow + sound, video top-1 / top-5 (T4)",
        {"rgb": "72.6 / 90.1", "naive_rfa": "70.0 / 88.7", "rfa.joint": "74.9 / 91.8"},
    ),
    ("Kinetics, RGB + flow + sound, clip top-1 (T4)", {"rgb": "63.5", "naive_rfa": "61.0", "rfa.joint": "66.1"}),
    ("Kinetics, RGB + sound, pre-training (T5)", {"naive": "71.7 / 89.6"}),
    ("Kinetics, RGB + sound, dropout (T5)", {"dropout": "72.9 / 90.6"}),
    ("Kinetics, RGB + sound, auxiliary losses (T5)", {"av.joint": "70.8 / 88.6"}),
    ("Kinetics, RGB + sound, mid-level concatenation", {"naive_mid": "72.8", "mid.joint": "73.6"}),
    ("Kinetics, RGB + sound, LMF", {"naive_lmf": "69.3", "lmf.joint": "73.5"}),
)


def _rows_of(what: str, table: str, data: str = "Kinetics", **columns: tuple[float, float, float]) -> tuple:
    """The rows (clip top-1, video top-1 and top-5) that a table prints of a dataset, {output: the three}."""
    return (
        (
            f"{data}, {what}, video top-1 / top-5 ({table})",
            {output: f"{first} / {five}" for output, (_, first, five) in columns.items()},
        ),
        (f"{data}, {what}, clip top-1 ({table})", {output: str(clip) for output, (clip, *_) in columns.items()}),
    )


RGB_AUDIO = (
    *_rows_of("RGB + sound", "T4, T5", audio=(13.9, 19.7, 33.6), rgb=(63.5, 72.6, 90.1),
              naive=(61.8, 71.4, 89.3), **{"av.joint": (65.9, 74.7, 91.5)}),
    ("Kinetics, RGB + sound, video top-1 / top-5, naive in T2", {"naive": "71.7 / 89.6"}),
    *_rows_of("online G-Blend", "T2", **{"av.joint": (66.9, 75.8, 91.9)}),
)  # fmt: skip
BASELINES = (
    *_rows_of("pre-training", "T5", naive=(61.9, 71.7, 89.6)),
    *_rows_of("dropout", "T5", dropout=(63.8, 72.9, 90.6)),
    *_rows_of("auxiliary losses", "T5", **{"av.joint": (60.5, 70.8, 88.6)}),
)
CSN = (
    (
        "Kinetics, ip-CSN-152, video top-1 / top-5 (T6; 108.8 -> 110.1 GFLOPs, x 30)",
        {"rgb": "77.8 / 92.8", "av.joint": "79.1 / 93.9"},
    ),
    ("Kinetics, ip-CSN-152 from Sports-1M (T6)", {"rgb": "79.2 / 93.8", "av.joint": "80.4 / 94.8"}),
    ("Kinetics, ip-CSN-152 from IG-65M (T6)", {"rgb": "82.5 / 95.3", "av.joint": "83.3 / 96.0"}),
    ("Kinetics, Shift-Attention, from ImageNet (T6)", {"av.joint": "77.7 / 93.2"}),
    ("Kinetics, SlowFast (T6; 213 GFLOPs, x 30)", {"rgb": "78.9 / 93.5"}),
    ("Kinetics, SlowFast + NL (T6; 234 GFLOPs, x 30)", {"rgb": "79.8 / 93.9"}),
)
MINISPORTS = (
    *_rows_of("RGB + sound", "T5", "mini-Sports", audio=(14.7, 22.1, 35.6), rgb=(48.5, 62.7, 84.8),
              naive=(47.1, 60.2, 83.3), **{"av.joint": (49.7, 62.8, 85.5)}),
    *_rows_of("pre-training", "T5", "mini-Sports", naive=(48.3, 61.3, 84.9)),
    *_rows_of("dropout", "T5", "mini-Sports", dropout=(47.4, 61.4, 84.3)),
    *_rows_of("auxiliary losses", "T5", "mini-Sports", **{"av.joint": (48.9, 62.1, 84.0)}),
)  # fmt: skip
MINI_AUDIOSET = (
    (
        "mini-AudioSet, mAP / mAUC (T5)",
        {"audio": "29.1 / 90.4", "rgb": "22.1 / 86.1", "naive": "36.5 / 92.2", "av.joint": "37.8 / 92.2"},
    ),
    ("mini-AudioSet, pre-training, mAP / mAUC (T5)", {"naive": "37.4 / 91.7"}),
    ("mini-AudioSet, dropout, mAP / mAUC (T5)", {"dropout": "36.7 / 92.3"}),
    ("mini-AudioSet, auxiliary losses, mAP / mAUC (T5)", {"av.joint": "37.7 / 92.3"}),
)
AUDIOSET = (
    (
        "AudioSet, mAP / mAUC (T7)",
        {"audio": "32.4 / 96.1", "rgb": "18.8 / 91.8", "naive": "40.2 / 97.3", "av.joint": "41.8 / 97.5"},
    ),
    ("AudioSet, TAL-Net, mAP / mAUC (T7)", {"audio": "36.2 / 96.5"}),
    ("AudioSet, multi-level attention, mAP / mAUC (T7)", {"audio": "36.0 / 97.0"}),
)


def _epic_rows(*rows: tuple[str, str, str, str, str]) -> dict[str, tuple]:
    """The rows (what, output, noun, verb, action) of table 8 by head. Actions are of two runs: what is printed of
    them stands beside."""
    return {
        head: tuple(
            (f"EPIC-Kitchens-55, {row[0]}, {head} top-1 / top-5 (T8; actions {row[4]})", {row[1]: row[place]})
            for row in rows
        )
        for place, head in ((2, "noun"), (3, "verb"))
    }


EPIC55 = _epic_rows(
    ("validation, RGB", "rgb", "36.4 / 58.9", "56.6 / 84.1", "24.9 / 42.5"),
    ("validation, naive", "naive", "34.8 / 56.7", "57.4 / 83.3", "23.7 / 41.2"),
    ("validation, G-Blend", "av.joint", "36.1 / 58.5", "59.2 / 84.5", "25.6 / 43.5"),
    ("S2, RGB", "rgb", "35.8 / 59.6", "56.2 / 80.9", "25.1 / 41.2"),
    ("S2, G-Blend", "av.joint", "36.7 / 60.3", "58.3 / 81.3", "26.6 / 43.6"),
    ("S2, leaderboard", "av.joint", "38.1 / 63.8", "60.0 / 82.0", "27.4 / 45.2"),
    ("S2, Baidu-UTS", "av.joint", "34.1 / 62.4", "59.7 / 82.7", "25.1 / 46.0"),
    ("S2, TBN, single", "av.joint", "27.9 / 53.8", "52.7 / 79.9", "19.1 / 36.5"),
    ("S2, TBN, ensemble", "av.joint", "30.4 / 55.7", "54.5 / 81.2", "21.0 / 39.4"),
    ("S1, RGB", "rgb", "45.1 / 68.4", "64.5 / 88.1", "34.4 / 52.7"),
    ("S1, G-Blend", "av.joint", "48.5 / 71.4", "66.7 / 88.9", "37.1 / 56.2"),
    ("S1, Baidu-UTS", "av.joint", "52.3 / 76.7", "69.8 / 91.0", "41.4 / 63.6"),
    ("S1, TBN, single", "av.joint", "46.0 / 71.3", "64.8 / 90.7", "34.8 / 56.7"),
    ("S1, TBN, ensemble", "av.joint", "47.9 / 72.8", "66.1 / 91.2", "36.7 / 58.6"),
)


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


def printed(c: ConfigDict, source: str, *modalities: str) -> None:
    """Shows published weights, those of WEIGHTS by their ``source``, beside the ones found for a network of the
    same ``modalities``."""
    own = dict(zip((*modalities, "joint"), WEIGHTS[source].split(",")))
    c.blend.published = (*c.blend.published, (source.partition(",")[0], own))


def held_out(c: ConfigDict, **share) -> None:
    """V: a part of the training clips, drawn by class, which nobody learns from; T': as many of the others."""
    c.subsets.held = dict(of="train", **share)
    c.subsets.rest = dict(of="train", without="held")
    c.subsets.fixed = dict(of="taught", **share)
    c.blend.update(dict(held="held", split="taught", fixed="fixed"))
    c.split = "taught"


def tabletop(c: ConfigDict, size: str = "blend") -> None:
    """Tabletop's flow and sound, 400 clips to learn from and 200 held out."""
    common.use_tabletop(c, size, "epic")
    # Verbs alone: nouns are neither heard nor seen in motion.
    del c.heads["noun"]
    c.plan, c.method.name, c.headline = "gblend", "gblend", "av.joint"
    stream(c, "audio")
    # Of eight frames, flow alone is right so often that there is no room above it.
    stream(c, "flow", frames=4)
    blended(c, "av", "naive", "audio", "flow")
    printed(c, "table 4, flow + sound", "audio", "flow")
    held_out(c, per_class=10)
    # Sound memorises so few; of 600 it does not, and joint training loses nothing.
    c.subsets.taught = dict(of="rest", per_class=20)
    c.blend.arms.equal = dict(network="av", weights="equal", title="Equal weights")
    c.model_options.dropout = 0.0
    c.optimizer.groups = "uniform"
    c.steps.method, c.blend.measures = "800", 3
    # Three clips of each video, of which the mean of probabilities counts, as the paper's ten. Each spans the
    # video, as those that are learnt from: losses of other clips would say nothing of overfitting.
    c.evaluation.update(dict(protocol="D0U3", aggregate="probs", splits=("test",)))
    c.published = FLOW_AUDIO


def smoke(c: ConfigDict) -> None:
    """Everything once, in miniature, online as well."""
    tabletop(c, "smoke")
    # 48 clips of 20 verbs.
    held_out(c, share=0.25)
    c.subsets.fixed.share = 0.33
    c.subsets.taught = dict(of="train", without="held")
    del c.subsets["rest"]
    c.steps.method = "20"
    c.schedule.warmup = "5"
    c.log_every = 5
    c.evaluation.update(dict(protocol="D0U2", every="50%"))
    c.blend.measures = 2
    c.blend.super_epochs = ("10",)


def online(c: ConfigDict) -> None:
    """The default, and super-epochs of 10, then 5 of 45 epochs, as the paper's; in steps."""
    tabletop(c)
    c.blend.super_epochs = ("178", "89")
    c.blend.frozen_trunk = "100"


def medium(c: ConfigDict) -> None:
    """The default on the larger rendering."""
    tabletop(c, "medium")


def table(c: ConfigDict) -> None:
    """The rows of tables 2, 4 and 5, on flow and sound where the paper has RGB and sound: RGB learns Tabletop's
    verbs slowly. All copies are trained together, once."""
    tabletop(c)
    c.steps.method = "500"
    stream(c, "rgb")
    blended(c, "ra", "naive_ra", "audio", "rgb")
    blended(c, "rf", "naive_rf", "rgb", "flow")
    blended(c, "rfa", "naive_rfa", "rgb", "flow", "audio")
    printed(c, "table 4, RGB + sound", "audio", "rgb")
    printed(c, "table 4, RGB + flow", "rgb", "flow")
    printed(c, "table 4, RGB + flow + sound", "rgb", "flow", "audio")
    blended(c, "mid", "naive_mid", "audio", "flow", joint="mid", trunk="flow")
    blended(c, "lmf", "naive_lmf", "audio", "flow", joint="lmf", joint_width=64)
    fused(c, "dropout", "audio", "flow", unimodal="none", dropout=0.5)
    for gate in ("se", "nl"):
        fused(c, gate, "audio", "flow", unimodal="none", joint=gate)
    c.blend.arms.update(
        dict(
            ones=dict(network="av", weights="1,1,1", title="Weights of 1"),
            clamped=dict(network="av", clamp_absolute=0.5, title="G-Blend, |dO| 0.5 at least"),
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
    )
    c.published = FLOW_AUDIO + RGB_ROWS


# ---------------------------------------------------------------------------- the paper's datasets
# Clips of training and of the split that the paper scores on. How many of EPIC's 28,472 segments are of the
# kitchens of validation, nobody has printed; AudioSet's numbers are those of its lists.
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
# Weights that are published, by their source, in the order of the outputs here: sound, RGB or flow, joint; without
# sound RGB, flow, joint; of all three RGB, flow, sound, joint. Table 5's of Kinetics are table 4's, rounded.
WEIGHTS = {
    "table 4, RGB + sound": ".014,.630,.356",
    "table 4, RGB + flow": ".309,.495,.196",
    "table 4, flow + sound": ".011,.827,.162",
    "table 4, RGB + flow + sound": ".33,.53,.01,.13",
    "table 5, mini-Sports": ".06,.65,.29",
    "table 5, mini-AudioSet": ".24,.38,.38",
    "VMZ's tutorial, Kinetics, ip-CSN-152": ".009,.485,.506",
    "VMZ's tutorial, Kinetics, ip-CSN-152 from IG-65M": ".070,.485,.445",
    "VMZ's tutorial, AudioSet": ".239,.384,.377",
    "VMZ's tutorial, EPIC nouns": ".175,.460,.364",
    "VMZ's tutorial, EPIC verbs": ".524,.247,.229",
}
# {modality: (form, network of it alone)}.
LARGE = {"rgb": ("vmz", "vmz_r3d_50"), "flow": ("frames", "vmz_r3d_50"), "audio": ("logmel", "audio_resnet50")}


def _recipe(
    c: ConfigDict, dataset: str, *, share: float = 0.08, weights: str = "", epoch: int | None = 1_000_000
) -> None:
    """The recipe of R(2+1)D: SGD with Nesterov's momentum, 45 epochs, of which 10 warm up, a tenth of the rate
    after 20, 30 and 40. A ``share`` of the training clips is held out, unless ``weights`` names those that are
    given: then all are learnt from. An ``epoch`` is a number of clips (VMZ's scripts), or a pass."""
    c.dataset.path = f"data/{dataset}"
    c.dataset.clips.update(CLIPS[dataset])
    c.heads.update(HEADS.get(dataset, {}))
    c.plan, c.method.name, c.headline = "gblend", "gblend", "av.joint"
    learnt = CLIPS[dataset]["train"] * (1 if weights else 1 - share)
    passes = epoch / learnt if epoch else 1

    def epochs(count: int) -> str:
        return f"{round(count * passes, 2):g} epochs"

    # The paper's rate is .01 for each of its GPUs; how many clips one takes it does not say. Here: eight.
    c.size, c.batch_size = 224, 64
    c.schedule = common.schedule(
        0.08, kind="step", warmup=epochs(10), boundaries=tuple(map(epochs, (20, 30, 40))), factor=0.1
    )
    c.optimizer.update(dict(nesterov=True, weight_decay=1e-4, clip=0.0, groups="uniform"))
    c.steps.method = epochs(45)
    c.augment.update(dict(crop="jittered", scales=(256 / 224, 320 / 224), flip=True))
    (head,) = c.heads
    c.subsets.held = dict(of="train", share=share, head=head)
    c.subsets.taught = dict(of="train", without="held")
    c.subsets.fixed = dict(of="taught", share=share, head=head)
    c.blend.update(dict(held="held", split="taught", fixed="fixed", measures=9))
    c.split = "train" if weights else "taught"
    c.method.gblend.weights = WEIGHTS[weights] if weights else "estimate"
    # Ten clips of each video, centre crop, mean of probabilities.
    c.evaluation.update(dict(protocol="E10", resize=256, aggregate="probs", splits=("val",), every="4%"))
    # What stops early must not be chosen by the clips that it is judged on.
    c.evaluation.during = "val" if weights else "held"
    c.save_every = "2%"
    c.loader.workers = 16


def _network(
    c: ConfigDict, modality: str, model: str = "", form: str = "", frames: int = 16, stride: int = 1
) -> None:
    """A modality's stream, and the network of it alone."""
    usual = LARGE[modality]
    sampling = dict(kind="strided", frames=frames, dense_length=frames * stride)
    c.streams[modality] = common.stream(modality, form=form or usual[0], **sampling)
    c.networks[modality] = common.network(model or usual[1], modality)


def _regularised(c: ConfigDict) -> None:
    """The baselines of table 5, of RGB and sound."""
    fused(c, "dropout", "audio", "rgb", unimodal="none", dropout=0.5)
    c.blend.arms.equal = dict(network="av", weights="equal", title="Auxiliary losses, weights of 1/3")
    c.blend.arms.dropout = dict(network="dropout", title="Dropout")
    c.blend.arms.pretrained = dict(network="naive", pretrained=True, title="Pre-training")


def _kinetics(c: ConfigDict, *modalities: str, **joint) -> None:
    """Kinetics-400 with an encoder for each modality."""
    _recipe(c, "kinetics400")
    for modality in modalities:
        _network(c, modality)
    blended(c, "av", "naive", *modalities, **joint)


def kinetics(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound."""
    _kinetics(c, "audio", "rgb")
    printed(c, "table 4, RGB + sound", "audio", "rgb")
    _regularised(c)
    c.blend.arms.early = dict(network="naive", checkpoint="best", title="Early stopping")
    c.published = RGB_AUDIO + BASELINES


def kinetics_online(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, weights estimated anew in each super-epoch."""
    _kinetics(c, "audio", "rgb")
    passes = 1_000_000 / (CLIPS["kinetics400"]["train"] * 0.92)
    c.blend.super_epochs = tuple(f"{round(count * passes, 2):g} epochs" for count in (10, 5))
    c.published = RGB_AUDIO


def kinetics_rgb_flow(c: ConfigDict) -> None:
    """Kinetics-400, RGB and flow."""
    _kinetics(c, "rgb", "flow")
    printed(c, "table 4, RGB + flow", "rgb", "flow")
    c.published = _rows_of("RGB + flow", "T4", rgb=(63.5, 72.6, 90.1), naive=(62.2, 71.3, 89.6), **{
        "av.joint": (64.3, 73.1, 90.8)})  # fmt: skip


def kinetics_flow_audio(c: ConfigDict) -> None:
    """Kinetics-400, flow and sound."""
    _kinetics(c, "audio", "flow")
    printed(c, "table 4, flow + sound", "audio", "flow")
    c.published = FLOW_AUDIO


def kinetics_all(c: ConfigDict) -> None:
    """Kinetics-400, RGB, flow and sound."""
    _kinetics(c, "rgb", "flow", "audio")
    printed(c, "table 4, RGB + flow + sound", "rgb", "flow", "audio")
    c.published = _rows_of("RGB + flow + sound", "T4", rgb=(63.5, 72.6, 90.1), naive=(61.0, 70.0, 88.7), **{
        "av.joint": (66.1, 74.9, 91.8)})  # fmt: skip


def kinetics_mid(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, concatenated before the last stage of RGB's network."""
    _kinetics(c, "audio", "rgb", joint="mid", trunk="rgb")
    c.published = (("Kinetics, mid-level concatenation, video top-1", {"naive": "72.8", "av.joint": "73.6"}),)


def kinetics_lmf(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, low-rank fusion."""
    _kinetics(c, "audio", "rgb", joint="lmf")
    c.published = (("Kinetics, LMF, video top-1", {"naive": "69.3", "av.joint": "73.5"}),)


def kinetics_adagrad(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, by AdaGrad; the paper does not say the rate."""
    _kinetics(c, "audio", "rgb")
    c.optimizer.name, c.schedule.lr = "adagrad", 0.01
    c.published = _rows_of("AdaGrad", "T3", rgb=(60.0, 68.9, 88.4), naive=(56.4, 65.2, 86.5), **{
        "av.joint": (62.1, 71.3, 89.8)})  # fmt: skip


def kinetics_adam(c: ConfigDict) -> None:
    """Kinetics-400, RGB and sound, by Adam; the paper does not say the rate."""
    _kinetics(c, "audio", "rgb")
    c.optimizer.name, c.schedule.lr = "adam", 1e-3
    c.published = _rows_of("Adam", "T3", rgb=(60.1, 69.3, 88.7), naive=(57.9, 66.4, 86.8), **{
        "av.joint": (63.0, 72.1, 90.5)})  # fmt: skip


def kinetics_csn152(c: ConfigDict) -> None:
    """Kinetics-400, ip-CSN-152 of 32 frames at stride 2 and sound, by VMZ's weights; 30 views of 256 pixels."""
    _recipe(c, "kinetics400", weights="VMZ's tutorial, Kinetics, ip-CSN-152")
    _network(c, "audio", "audio_resnet152", frames=32, stride=2)
    _network(c, "rgb", "csn_ip_152", frames=32, stride=2)
    blended(c, "av", "naive", "audio", "rgb")
    c.schedule.kind = "cosine"
    c.evaluation.crops = "three_full_res"
    c.published = CSN


def minisports(c: ConfigDict) -> None:
    """mini-Sports, RGB and sound."""
    _recipe(c, "minisports")
    for modality in ("audio", "rgb"):
        _network(c, modality)
    blended(c, "av", "naive", "audio", "rgb")
    _regularised(c)
    printed(c, "table 5, mini-Sports", "audio", "rgb")
    c.published = MINISPORTS


def _several_labels(c: ConfigDict) -> None:
    """A scale and a bias of each class between classifier and sigmoid, in every network."""
    for spec in c.networks.values():
        spec.options.affine = True


def mini_audioset(c: ConfigDict) -> None:
    """mini-AudioSet, RGB and sound, several labels a clip."""
    _recipe(c, "mini_audioset", share=0.13)
    for modality in ("audio", "rgb"):
        _network(c, modality)
    blended(c, "av", "naive", "audio", "rgb")
    _regularised(c)
    _several_labels(c)
    printed(c, "table 5, mini-AudioSet", "audio", "rgb")
    c.published = MINI_AUDIOSET


def audioset(c: ConfigDict) -> None:
    """AudioSet, R(2+1)D-101 and a ResNet-101 of sound, by VMZ's weights."""
    _recipe(c, "audioset", weights="VMZ's tutorial, AudioSet")
    _network(c, "audio", "audio_resnet101")
    _network(c, "rgb", "r2plus1d_101")
    blended(c, "av", "naive", "audio", "rgb")
    _several_labels(c)
    c.published = AUDIOSET


def _epic55(c: ConfigDict, head: str, classes: int, weights: str) -> None:
    """EPIC-Kitchens-55, one of its heads: ip-CSN-152 of 32 frames at stride 2, and a ResNet-152 of sound as TBN
    sees it. The paper's visual network begins with IG-65M's weights: networks.av.weights = {"rgb": FILE}."""
    c.heads[head] = (classes, "single")
    _recipe(c, "epic55", weights=weights, epoch=None)
    _network(c, "audio", "audio_resnet152", form="spectrogram", frames=32, stride=2)
    _network(c, "rgb", "csn_ip_152", frames=32, stride=2)
    blended(c, "av", "naive", "audio", "rgb")
    c.published = EPIC55[head]


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
