"""build_model: every architecture by name."""

import jax.numpy as jnp

from mmvid.models.audio import AudioNet
from mmvid.models.fusion import fuse
from mmvid.models.layers import Affine
from mmvid.models.model import Model, Needs, from_linen
from mmvid.models.resnet import ResNet
from mmvid.models.shared import Shared
from mmvid.models.stlt import VOCABULARIES, Stlt, StltLayouts
from mmvid.models.swin3d import Swin3D
from mmvid.models.video_resnet import VideoResNet
from mmvid.streams import Head

_BASIC = dict(stages=(2, 2, 2, 2), bottleneck=False)
_DEEP = dict(stages=(3, 4, 6, 3), bottleneck=True)
_STILL = dict(module=ResNet, temporal=False)
_TSM = dict(module=ResNet, temporal=True)
_VIDEO = dict(_BASIC, module=VideoResNet)
# R(2+1)D as its authors released it (VMZ, Caffe2).
_VMZ = dict(module=VideoResNet, form="factorised", middle="own", eps=1e-3)
# No channels between the factors.
_FACTORED = dict(form="factorised", middle="equal", stem_pool=True)
# DMCL's code calls it R(2+1)D-18, with TensorFlow's padding.
_DMCL = dict(_FACTORED, padding="same", project_first=True, kernel_init="fan_in", momentum=0.003)
# Hara's: a stem of 7x7x7, and a pool that halves the frames.
_HARA = dict(module=VideoResNet, form="full", stem_frames=7, stem_pool=True, pool_frames=True)
MODELS = {
    "resnet18": dict(_BASIC, **_STILL),
    "resnet50": dict(_DEEP, **_STILL),
    "tsm_resnet18": dict(_BASIC, **_TSM),
    "tsm_resnet50": dict(_DEEP, **_TSM),
    # With 23 blocks in a stage the released code shifts every second block (TSM's code).
    "tsm_resnet101": dict(_TSM, stages=(3, 4, 23, 3), bottleneck=True, shift_every=2),
    # For Tabletop's 48 pixels: a 5x5 stem, then one block a stage at 12, 6 and 3 pixels.
    "tsm_tiny": dict(_TSM, stages=(1, 1, 1), bottleneck=False, width=32, stem=5),
    "r3d_18": dict(_VIDEO, form="full"),
    "hara_r3d_18": dict(_BASIC, **_HARA),
    "hara_r3d_50": dict(_DEEP, **_HARA),
    "mc3_18": dict(_VIDEO, form="mixed"),
    "r2plus1d_18": dict(_VIDEO, form="factorised"),
    "r2plus1d_18_true": dict(_BASIC, **_VMZ),
    "r2plus1d_18_dmcl": dict(_VIDEO, **_DMCL),
    "r2plus1d_101": dict(_VMZ, stages=(3, 4, 23, 3), bottleneck=True),
    # For Tabletop's 48 pixels and 8 frames: then 8, 4 and 2 frames of 12, 6 and 3 pixels.
    "r2plus1d_tiny": dict(_VIDEO | _FACTORED, stages=(1, 1, 1), width=32, stem=5),
    # For Tabletop's sounds: log-mel of 100x40 becomes 7x3.
    "audio_tiny": dict(module=AudioNet, stages=(1, 1, 1, 1)),
    # Boxes: of the distillation paper, the same for Tabletop's few, and of the older paper.
    "stlt": dict(module=Stlt),
    "stlt_tiny": dict(module=Stlt, width=64, layers=(2, 2), attention_heads=4, expansion=2),
    "stlt_layouts": dict(module=StltLayouts),
    "swin3d_tiny": dict(module=Swin3D, stages=(2, 2, 6, 2)),
}
FUSION = "fusion"  # of several of these
# Options that are one of a few words.
CHOICES = {
    "frozen_bn": ("none", "all", "all_but_first"),
    "dtype": ("float32", "bfloat16", "float64"),
    "form": ("full", "factorised", "mixed"),
    "middle": ("block", "own", "equal"),
    "padding": ("symmetric", "same"),
    "kernel_init": ("fan_out", "fan_in"),
    "vocabulary": tuple(VOCABULARIES),
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
    layouts [B, T, slots, 8], an ``audio_*`` log-mel as an image. A ``resnet*`` sees every frame alone (TSN), a
    ``tsm_*`` shifts features between frames, ``swin3d_tiny`` attends within windows of frames and pixels, the
    others convolve over time. ``options`` are ``width``,
    ``stages``, ``dropout``, ``dtype`` ('float32', 'bfloat16' or 'float64', of the activations), ``remat``,
    ``frozen_bn`` ('none', 'all', or 'all_but_first', which is TSM's partial BN), and what else the module has
    (`ResNet`, `VideoResNet`, `Swin3D`, `Stlt`, `StltLayouts`, `AudioNet`). With ``share`` > 0 there is one such
    network for each of the streams ``members``, and they share features after the stem with this probability
    (CMCL). The model 'fusion' reads {stream: x} at once: ``encoders`` {stream: model, or (model, its options)}
    read ``in_channels`` {stream: channels}, and other options go to every encoder that knows them (`fuse`).
    With ``affine``, each class of a head of several labels has a scale and a bias of its own between classifier
    and sigmoid (VMZ). Raises ValueError for an unknown name, option or choice, or a wrong number of channels.
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
    if not share and not members:
        return _checked(from_linen(module(heads=classes, **settings)), name, in_channels)
    if module is not ResNet or len(members) < 2 or not 0 < share <= 1:
        raise ValueError(
            f"share={share}: a probability above 0 for two or more streams of a resnet or tsm_resnet; "
            f"{name!r} reads {members} at once. Without sharing, give each stream a network"
        )
    shared = Shared(tuple(members), module, {"heads": classes, **settings}, share)
    return from_linen(shared)._replace(
        outputs={member: Needs((member,)) for member in members},
        encoders={member: (member,) for member in members},
    )


def _space(head: Head, affine: bool) -> int | Affine:
    """Returns what `layers.Classifier` takes for a head."""
    return Affine(head.classes) if affine and head.kind == "multi" else head.classes


def options_of(name: str) -> set[str]:
    """Returns the options of the model ``name``. Raises ValueError, which lists the models, if unknown."""
    if name == FUSION:
        return {"encoders"}.union(*map(options_of, MODELS))
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; choose one of {sorted([*MODELS, FUSION])}")
    return set(MODELS[name]["module"].__dataclass_fields__) - {"heads", "parent", "name"}


def _checked_options(name: str, known: set[str], options: dict) -> dict:
    """Returns the settings of ``name``, overridden by ``options``. Raises ValueError for an option that
    its module lacks, or a word that is not among its CHOICES."""
    settings = MODELS[name] | options
    if unknown := sorted(set(options) - known):
        raise ValueError(f"model {name!r} has no option {unknown}; it knows {sorted(known)}")
    for option, words in CHOICES.items():
        if settings.get(option, words[0]) not in words:
            raise ValueError(f"{option}={settings[option]!r}: choose one of {words}")
    return settings


def _fusion(classes: dict, in_channels, known: set[str], *, encoders=(), **options) -> Model:
    """Builds encoders by name and fuses them; each gets those of the ``options`` that it knows.

    Raises ValueError for an option that no model knows, or encoders that do not match the streams.
    """
    if unknown := sorted(set(options) - known):
        raise ValueError(f"no encoder of a fusion has an option {unknown}; they know {sorted(known)}")
    if not isinstance(in_channels, dict) or len(in_channels) < 2 or set(encoders) != set(in_channels):
        raise ValueError(
            f"a fusion reads two or more streams at once, each by an encoder: encoders={dict(encoders)} for "
            f"streams of in_channels={in_channels}. Write reads=(('audio', 'rgb'),) and "
            "encoders=dict(audio=MODEL, rgb=MODEL)"
        )
    made = {}
    for stream, channels in in_channels.items():
        named = encoders[stream]
        model, own = (named, {}) if isinstance(named, str) else named
        common = {k: v for k, v in options.items() if k in options_of(model)}
        made[stream] = build_model(model, heads=classes, in_channels=channels, **{**common, **own})
    return fuse(made, classes, options.get("dropout", 0.0))


def _checked(model: Model, name: str, in_channels: int) -> Model:
    """Returns ``model`` with an init that raises ValueError for inputs of another number of channels."""

    def init(key, x):
        if x.shape[-1] != in_channels:
            raise ValueError(
                f"{name} was built for {in_channels} channels and is given {x.shape[-1]}; "
                "in_channels of the stream and of the network must agree"
            )
        return model.init(key, x)

    return model._replace(init=init)
