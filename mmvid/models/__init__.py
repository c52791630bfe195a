"""build_model: every architecture by name."""

import jax.numpy as jnp

from mmvid.models.model import Model, from_linen
from mmvid.models.resnet import ResNet
from mmvid.streams import Head

_BASIC = dict(stages=(2, 2, 2, 2), bottleneck=False)
_DEEP = dict(stages=(3, 4, 6, 3), bottleneck=True)
MODELS = {
    "resnet18": dict(_BASIC, temporal=False),
    "resnet50": dict(_DEEP, temporal=False),
    "tsm_resnet18": dict(_BASIC, temporal=True),
    "tsm_resnet50": dict(_DEEP, temporal=True),
    # With 23 blocks in a stage the released code shifts every second block (TSM's code).
    "tsm_resnet101": dict(stages=(3, 4, 23, 3), bottleneck=True, temporal=True, shift_every=2),
    # For Tabletop's 48 pixels: a 5x5 stem, then one block a stage at 12, 6 and 3 pixels.
    "tsm_tiny": dict(stages=(1, 1, 1), bottleneck=False, temporal=True, width=32, stem=5),
}


def build_model(
    name: str,
    *,
    num_classes: int | None = None,
    heads: dict[str, Head | int] | None = None,
    in_channels: int = 3,
    **options,
) -> Model:
    """The model ``name`` for ``heads`` ({name: Head or classes}) or ``num_classes`` ('action').

    Clips [B, T, H, W, in_channels] or images [B, H, W, C], normalised float32; ``resnet*`` sees every
    frame alone (TSN), ``tsm_*`` shifts features between frames.
    Options: ``width``, ``stages``, ``dropout``, ``dtype`` ('float32', 'bfloat16' or 'float64',
    of the activations), ``remat``, ``frozen_bn`` ('none', 'all', 'all_but_first': partial BN), ``shift_div``.
    Raises ValueError for an unknown name or option, or a wrong number of channels.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; choose one of {sorted(MODELS)}")
    if heads is None:
        if not num_classes:
            raise ValueError("give num_classes=K or heads={name: Head(K)}")
        heads = {"action": num_classes}
    classes = {k: h.classes if isinstance(h, Head) else h for k, h in heads.items()}
    known = set(ResNet.__dataclass_fields__) - {"heads", "parent", "name"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"model {name!r} has no option {unknown}; it knows {sorted(known)}")
    if options.get("frozen_bn", "none") not in ("none", "all", "all_but_first"):
        raise ValueError(
            f"frozen_bn={options['frozen_bn']!r}: choose 'none', 'all' or 'all_but_first'"
        )
    settings = {"dtype": "float32"} | MODELS[name] | options
    if settings["dtype"] not in ("float32", "bfloat16", "float64"):
        raise ValueError(f"dtype={settings['dtype']!r}: choose 'float32', 'bfloat16' or 'float64'")
    settings["dtype"] = jnp.dtype(settings["dtype"])
    settings["stages"] = tuple(settings["stages"])
    return _checked(from_linen(ResNet(heads=classes, **settings)), name, in_channels)


def _checked(model: Model, name: str, in_channels: int) -> Model:
    """``model`` with an init that refuses inputs of other channels than it was built for."""

    def init(key, x):
        if x.shape[-1] != in_channels:
            raise ValueError(
                f"{name} was built for {in_channels} channels and is given {x.shape[-1]}; "
                "in_channels of the stream and of the network must agree"
            )
        return model.init(key, x)

    return Model(init, model.apply)
