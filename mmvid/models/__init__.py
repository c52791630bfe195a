"""build_model: every architecture by name."""

import itertools

import jax.numpy as jnp

from mmvid.models import fusion
from mmvid.models.audio import AudioNet, VmzAudioNet
from mmvid.models.layers import Affine
from mmvid.models.model import Model, Needs, from_linen
from mmvid.models.resnet import ResNet
from mmvid.models.shared import Shared
from mmvid.models.slowfast import SlowFast
from mmvid.models.stlt import VOCABULARIES, Stlt, StltLayouts
from mmvid.models.swin3d import Swin3D
from mmvid.models.video_resnet import SEPARATED, VideoResNet
from mmvid.streams import Head

_BASIC = dict(stages=(2, 2, 2, 2), bottleneck=False)
_DEEP = dict(stages=(3, 4, 6, 3), bottleneck=True)
_DEEPER = dict(stages=(3, 4, 23, 3), bottleneck=True)
_DEEPEST = dict(stages=(3, 8, 36, 3), bottleneck=True)
_STILL = dict(module=ResNet, temporal=False)
_TSM = dict(module=ResNet, temporal=True)
_VIDEO = dict(_BASIC, module=VideoResNet)
# As their authors released them (VMZ, Caffe2): R(2+1)D, R3D and, with a pooled stem, CSN.
_CAFFE2 = dict(module=VideoResNet, eps=1e-3)
_VMZ = dict(_CAFFE2, form="factorised", middle="own")
_CSN = dict(_CAFFE2, stem_pool=True)
# No channels between the factors.
_FACTORED = dict(form="factorised", middle="equal", stem_pool=True)
# DMCL's code calls it R(2+1)D-18, with TensorFlow's padding.
_DMCL = dict(_FACTORED, padding="same", project_first=True, kernel_init="fan_in", momentum=0.003)
# Hara's: a stem of 7x7x7, and a pool that halves the frames.
_HARA = dict(module=VideoResNet, form="full", stem_frames=7, stem_pool=True, pool_frames=True)
# CMPL's (table A2): a stem of 5x7x7, and as many frames at the end as at the start.
_CMPL = dict(module=VideoResNet, form="leading", stem_frames=5, stem_pool=True, keep_frames=True)
# SlowFast's: convolutions over time where they stand in its table; trained on maps of 7x7 (224 pixels).
_SLOWFAST = dict(
    _DEEP, module=VideoResNet, form="leading", stem_pool=True, keep_frames=True, window=7, zero_last=True,
    classifier_std=0.01,
)  # fmt: skip
_I3D = dict(_SLOWFAST, stem_frames=5, halve=True)
_I3D_FRAMES = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))
_SLOW_FRAMES = ((1,) * 3, (1,) * 4, (3,) * 6, (3,) * 3)
MODELS = {
    "resnet18": dict(_BASIC, **_STILL),
    "resnet50": dict(_DEEP, **_STILL),
    "tsm_resnet18": dict(_BASIC, **_TSM),
    "tsm_resnet50": dict(_DEEP, **_TSM),
    # With 23 blocks in a stage the released code shifts every second block (TSM's code).
    "tsm_resnet101": dict(_DEEPER, **_TSM, shift_every=2),
    # For Tabletop's 48 pixels: a 5x5 stem, then one block a stage at 12, 6 and 3 pixels.
    "tsm_tiny": dict(_TSM, stages=(1, 1, 1), bottleneck=False, width=32, stem=5),
    "r3d_18": dict(_VIDEO, form="full"),
    "hara_r3d_18": dict(_BASIC, **_HARA),
    "hara_r3d_50": dict(_DEEP, **_HARA),
    "mc3_18": dict(_VIDEO, form="mixed"),
    "r2plus1d_18": dict(_VIDEO, form="factorised"),
    "r2plus1d_18_true": dict(_BASIC, **_VMZ),
    "r2plus1d_18_dmcl": dict(_VIDEO, **_DMCL),
    "r2plus1d_101": dict(_DEEPER, **_VMZ),
    "vmz_r3d_50": dict(_DEEP, **_CAFFE2, form="full"),
    "csn_ip_152": dict(_DEEPEST, **_CSN, form="preserved"),
    "csn_ir_152": dict(_DEEPEST, **_CSN, form="reduced"),
    "csn_ir_50": dict(_DEEP, **_CSN, form="reduced"),
    "cmpl_resnet50": dict(_DEEP, **_CMPL),
    "cmpl_resnet50_x1_2": dict(_DEEP, **_CMPL, width=32),
    "cmpl_resnet50_x1_4": dict(_DEEP, **_CMPL, width=16),
    "cmpl_resnet50_x1_8": dict(_DEEP, **_CMPL, width=8),
    # The paper says no more than their depths: blocks of two 3x3x3 (mmaction2's).
    "cmpl_resnet18": _CMPL | _BASIC | dict(form="full"),
    "cmpl_resnet10": _CMPL | _BASIC | dict(form="full", stages=(1, 1, 1, 1)),
    "i3d_resnet50": dict(_I3D, block_frames=_I3D_FRAMES),
    "slow_resnet50": dict(_SLOWFAST, stem_frames=1, block_frames=_SLOW_FRAMES),
    # 32 frames, of which the slow pathway sees 8 (SLOWFAST_8x8_R50 of its code).
    "slowfast_resnet50": dict(module=SlowFast, stages=(3, 4, 6, 3), window=7),
    # Sound, as Gradient-Blending's paper tells it: an image network on log-mel; and as its authors released it.
    "audio_resnet50": dict(_DEEP, **_STILL),
    "audio_resnet101": dict(_DEEPER, **_STILL),
    "audio_resnet152": dict(_DEEPEST, **_STILL),
    "vmz_audio_resnet50": dict(module=VmzAudioNet, stages=(3, 4, 6, 3)),
    "vmz_audio_resnet101": dict(module=VmzAudioNet, stages=(3, 4, 23, 3)),
    "vmz_audio_resnet152": dict(module=VmzAudioNet, stages=(3, 8, 36, 3)),
    # For Tabletop's 48 pixels and 8 frames: then 8, 4 and 2 frames of 12, 6 and 3 pixels.
    "r2plus1d_tiny": dict(_VIDEO | _FACTORED, stages=(1, 1, 1), width=32, stem=5),
    # Of CMPL's kind: all frames, of 12, 6 and 3 pixels. Its auxiliary is of a quarter of the width.
    "cmpl_tiny": dict(_CMPL, stages=(1, 1, 1), bottleneck=True, width=16, stem=5),
    # For Tabletop's sounds: log-mel of 100x40 becomes 7x3.
    "audio_tiny": dict(module=AudioNet, stages=(1, 1, 1, 1)),
    # Boxes: of the distillation paper, the same for Tabletop's few, and of the older paper.
    "stlt": dict(module=Stlt),
    "stlt_tiny": dict(module=Stlt, width=64, layers=(2, 2), attention_heads=4, expansion=2),
    "stlt_layouts": dict(module=StltLayouts),
    "swin3d_tiny": dict(module=Swin3D, stages=(2, 2, 6, 2)),
}
FUSION = "fusion"  # of several of these
# What a fusion knows beside the options of its encoders (`_fusion`).
_FUSING = ("encoders", "joint", "unimodal", "frozen_trunk", *sorted({*itertools.chain(*fusion.JOINTS.values())}))
# Options that are one of a few words.
CHOICES = {
    "frozen_bn": ("none", "all", "all_but_first"),
    "dtype": ("float32", "bfloat16", "float64"),
    "form": ("full", "factorised", "mixed", "leading", *SEPARATED),
    "middle": ("block", "own", "equal"),
    "padding": ("symmetric", "same"),
    "kernel_init": ("fan_out", "fan_in"),
    "vocabulary": tuple(VOCABULARIES),
    "joint": tuple(fusion.JOINTS),
    "unimodal": fusion.UNIMODAL,
}


def build_model(
    name: str,
    *,
    num_classes: int | None = None,
    heads: dict[str, Head | int] | None = None,
    in_channels: int | dict[str, int] = 3,
    members: tuple[str, ...] = (),
    share: float = 0.0,
    affine: bool = False,
    **options,
) -> Model:
    """Builds the model ``name`` for ``heads`` ({name: Head or classes}) or ``num_classes`` ('action').

    It reads clips [B, T, H, W, in_channels] or images [B, H, W, C], normalised float32; an ``stlt*`` reads
    layouts [B, T, slots, 8], ``audio_*`` and ``vmz_audio_*`` log-mel as an image. A ``resnet*`` sees every frame
    alone (TSN), a ``tsm_*`` shifts features between frames, ``swin3d_tiny`` attends within windows of frames and
    pixels, the others convolve over time. ``options`` are ``width``, ``stages``, ``dropout``, ``dtype``
    ('float32', 'bfloat16' or 'float64', of the activations), ``remat``,
    ``frozen_bn`` ('none', 'all', or 'all_but_first', which is TSM's partial BN), and what else the module has
    (`ResNet`, `VideoResNet`, `Swin3D`, `Stlt`, `StltLayouts`, `AudioNet`, `VmzAudioNet`). With ``share`` > 0 there
    is one such network for each of the streams ``members``, and they share features after the stem with this
    probability (CMCL). The model 'fusion' reads {stream: x} at once: ``encoders`` {stream: model, or (model, its
    options)} read ``in_channels`` {stream: channels}, and other options go to every encoder that knows them
    (`encoder_of`). Its ``joint`` classifier is 'late' (concatenation, then ``joint_layers`` fully connected layers
    of ``joint_width`` units), 'mid' (concatenation before the last ``joint_stages`` stages, 1 by default, which
    are those of the stream ``trunk``, the first by default), 'se' or 'nl' (gates, then as 'late'; with
    ``joint_residual`` SE adds what went in) or 'lmf' (of ``rank``); see joints.py. ``unimodal`` says whether the
    encoders have classifiers of their own: 'drawn', 'zero' (which start at zero) or 'none' (a naive joint network,
    whose one output is the joint one); of such a one ``frozen_trunk`` leaves the encoders as they are. ``dropout``
    is the joint classifier's, on the concatenation, and the encoders'. With ``affine``, each class of a head of
    several labels has a scale and a bias of its own between classifier and sigmoid (VMZ).

    Raises ValueError for an unknown name, option or choice, or a wrong number of channels.
    """
    known = options_of(name)
    if heads is None:
        if not num_classes:
            raise ValueError("give num_classes=K or heads={name: Head(K)}")
        heads = {"action": num_classes}
    classes = {k: _space(h, affine) if isinstance(h, Head) else h for k, h in heads.items()}
    if name == FUSION:
        return _fusion(classes, in_channels, known, **options)
    settings = {"dtype": "float32"} | _checked_options(name, known, options)
    module = settings.pop("module")
    settings["dtype"] = jnp.dtype(settings["dtype"])
    # A configuration that was read back has lists.
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    if "by_sigmoid" in known:
        settings["by_sigmoid"] = tuple(k for k, h in heads.items() if isinstance(h, Head) and h.kind == "multi")
    if not share and not members:
        return _checked(from_linen(module(heads=classes, **settings)), name, in_channels)
    return _sharing(name, module, {"heads": classes, **settings}, members, share)


def _sharing(name: str, module, settings: dict, members: tuple[str, ...], share: float) -> Model:
    """Builds one network for each of ``members``, which share features. Raises ValueError where that cannot be."""
    if module is not ResNet or len(members) < 2 or not 0 < share <= 1:
        raise ValueError(
            f"share={share}: a probability above 0 for two or more streams of a resnet or tsm_resnet; "
            f"{name!r} reads {members} at once. Without sharing, give each stream a network"
        )
    return from_linen(Shared(tuple(members), module, settings, share))._replace(
        outputs={member: Needs((member,)) for member in members},
        encoders={member: (member,) for member in members},
    )


def _space(head: Head, affine: bool) -> int | Affine:
    """Returns what `layers.Classifier` takes for a head."""
    return Affine(head.classes) if affine and head.kind == "multi" else head.classes


def options_of(name: str) -> set[str]:
    """Returns the options of the model ``name``. Raises ValueError, which lists the models, if unknown."""
    if name == FUSION:
        return {*_FUSING}.union(*map(options_of, MODELS))
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; choose one of {sorted([*MODELS, FUSION])}")
    return set(MODELS[name]["module"].__dataclass_fields__) - {"heads", "parent", "name"}


def _checked_options(name: str, known: set[str], options: dict) -> dict:
    """Returns the settings of ``name``, overridden by ``options``. Raises ValueError for an option that
    its module lacks, or a word that is not among its CHOICES."""
    settings = MODELS[name] | options
    if unknown := sorted(set(options) - known):
        raise ValueError(f"model {name!r} has no option {unknown}; it knows {sorted(known)}")
    _check_words(settings)
    return settings


def _check_words(settings: dict) -> None:
    """Raises ValueError for a word that is not among its CHOICES."""
    for option, words in CHOICES.items():
        if settings.get(option, words[0]) not in words:
            raise ValueError(f"{option}={settings[option]!r}: choose one of {words}")


def encoder_of(stream: str, encoders: dict, **options) -> tuple[str, dict]:
    """Returns (model, its options) of the encoder of one ``stream`` in a fusion with these ``options``: its own,
    and those of all that it knows. A network made of them is the fusion's unimodal part by itself."""
    named = encoders[stream]
    model, own = (named, {}) if isinstance(named, str) else named
    known = options_of(model)
    return model, {k: v for k, v in options.items() if k in known and k not in _FUSING} | dict(own)


def _fusion(classes: dict, in_channels, known: set[str], *, encoders=(), **options) -> Model:
    """Builds encoders by name and fuses them.

    Raises ValueError for an option that no model knows, encoders that do not match the streams, or a joint
    classifier that they do not allow.
    """
    if unknown := sorted(set(options) - known):
        raise ValueError(f"no encoder of a fusion has an option {unknown}; they know {sorted(known)}")
    _check_words(options)
    joint, of_joint = _joint_options(**options)
    _check_encoders(encoders, in_channels)

    def encoder(stream: str, heads: dict) -> Model:
        model, own = encoder_of(stream, encoders, **options)
        return build_model(model, heads=heads, in_channels=in_channels[stream], **own)

    unimodal, frozen = options.get("unimodal", "drawn"), bool(options.get("frozen_trunk"))
    made = {stream: encoder(stream, {} if unimodal == "none" else classes) for stream in in_channels}
    if joint == "mid":
        trunk = of_joint.get("trunk") or next(iter(in_channels))
        if trunk not in made:
            raise ValueError(f"trunk={trunk!r}: name one of the streams {sorted(made)}")
        # The trunk's last stages have a classifier, whether its encoder has one or not.
        return _mid(made, encoder(trunk, classes), trunk, unimodal, of_joint.get("stages") or 1, frozen)
    dropout = options.get("dropout", 0.0)
    made_of_all = fusion.joint_of(joint, classes, dropout=dropout, **of_joint)
    return fusion.fuse(made, made_of_all, unimodal, frozen_trunk=frozen)


def _check_encoders(encoders, in_channels) -> None:
    """Raises ValueError for encoders that are not one for each of several streams."""
    if not isinstance(in_channels, dict) or len(in_channels) < 2 or set(encoders) != set(in_channels):
        raise ValueError(
            f"a fusion reads two or more streams at once, each by an encoder: encoders={dict(encoders)} for "
            f"streams of in_channels={in_channels}. Write reads=(('audio', 'rgb'),) and "
            "encoders=dict(audio=MODEL, rgb=MODEL)"
        )
    if fusion.JOINT in in_channels:
        raise ValueError(f"a fusion calls its own classifier {fusion.JOINT!r}: give the stream another name")


def _joint_options(joint: str = "late", **options) -> tuple[str, dict]:
    """Returns the kind of the ``joint`` classifier and those of a fusion's ``options`` that are its, without their
    'joint_'. Raises ValueError for one of another kind."""
    own = fusion.JOINTS[joint]
    if strange := sorted(set(options) & {*_FUSING} - {"encoders", "unimodal", "frozen_trunk", *own}):
        raise ValueError(f"joint={joint!r} has no option {strange}; it knows {list(own)}")
    return joint, {name.removeprefix("joint_"): options[name] for name in own if name in options}


def _mid(encoders: dict, last: Model, trunk: str, unimodal: str, late: int, frozen: bool) -> Model:
    """Fuses ``encoders`` before their ``late`` last stages; the ``trunk``'s architecture, ``last``, goes on alone.

    Raises ValueError for an encoder that cannot be cut there.
    """
    whole, cut, necks = unimodal != "none", {}, []
    for stream, encoder in encoders.items():
        if not 1 <= late <= len(encoder.stages):
            raise ValueError(
                f"joint='mid' cuts encoders before their joint_stages={late} last stages, and that of {stream!r} "
                f"has {len(encoder.stages)}: take a ResNet or an AudioNet there, or fewer stages"
            )
        cut[stream] = fusion.tapped(encoder, len(encoder.stages) + 1 - late, whole=whole)
        # A naive network has no second halves: a start may bring them along or lack them.
        necks += [(stream, *path) for blocks in encoder.stages[-late:] for path in blocks]
    joint = fusion.middle(last, len(last.stages) + 1 - late, trunk)
    return fusion.fuse(cut, joint, unimodal, tuple(necks), frozen_trunk=frozen)


def _checked(model: Model, name: str, in_channels: int) -> Model:
    """Returns ``model`` with an init that raises ValueError for inputs of another number of channels."""

    def init(key, x, **cut):
        # Whoever goes on from the middle of it reads a map, of any number of channels.
        if "since" not in cut and x.shape[-1] != in_channels:
            raise ValueError(
                f"{name} was built for {in_channels} channels and is given {x.shape[-1]}; "
                "in_channels of the stream and of the network must agree"
            )
        return model.init(key, x, **cut)

    return model._replace(init=init)
