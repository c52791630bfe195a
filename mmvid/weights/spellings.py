"""Whose files are read, by which names they call their tensors, and in which of these ours can be written."""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mmvid.weights import names_csn, names_resnet, names_slowfast, names_stlt, names_swin3d
from mmvid.weights.trees import Path, Tree

_IMAGES = ("resnet18", "resnet50")
_TSM = ("tsm_resnet18", "tsm_resnet50", "tsm_resnet101")
_VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18")
_CSN = ("csn_ip_152", "csn_ir_152", "csn_ir_50")


class Spelling(NamedTuple):
    """A way to name tensors: whose it is (``about``), an ``example`` of a key, the ``models`` whose published
    files come in it, and ``key_of(params)``, the function that names paths so, or None where it is only read."""

    about: str
    example: str
    models: tuple[str, ...]
    key_of: Callable[[Tree], Callable[[Path], str]] | None


# ---------------------------------------------------------------------------- how ours are written
def _prefixed(prefix: str) -> Callable:
    return lambda params: lambda path: prefix + names_resnet.torch_key(path)


def _tsm(params: Tree) -> Callable[[Path], str]:
    """TSM's and MML's, trained on several GPUs: whatever is shifted stands in a 'net' of its own."""
    # With 23 blocks in a stage every second block is shifted (TSM's code).
    every = 2 if "layer3_22" in params else 1

    def key(path: Path) -> str:
        plain = names_resnet.torch_key(path)
        if match := re.fullmatch(r"(layer\d\.(\d+)\.conv1)(\..+)", plain):
            inside = ".net" if int(match[2]) % every == 0 else ""
            plain = match[1] + inside + match[3]
        return "module." + (f"new_{plain}" if plain.startswith("fc.") else f"base_model.{plain}")

    return key


def _mmaction2(params: Tree) -> Callable[[Path], str]:
    """mmaction2's: a convolution and its norm stand together, those of a separated one in places of a list."""
    preserved = names_csn.owns(params)
    kernel = np.shape(params.get("layer1_0", {}).get("conv2", {}).get("kernel"))
    separated = preserved or (len(kernel) == 5 and kernel[-2] == 1 and kernel[-1] > 1)

    def key(path: Path) -> str:
        leaf = names_resnet.LEAVES.get(path[-1], path[-1])
        if path[0] == "classifier":
            return f"cls_head.fc_cls.{leaf}"
        layer = path[-2]
        kind = "bn" if layer.startswith("bn") or layer == "downsample_bn" else "conv"
        block = path[0].replace("_", ".") + "." if len(path) == 3 else ""
        if layer.startswith("downsample"):
            return f"backbone.{block}downsample.{kind}.{leaf}"
        number = re.search(r"\d", layer)[0]
        place = ""
        if separated and block and number == "2":
            place = "0." if "point" in layer or not preserved else "1."
        return f"backbone.{block}conv{number}.{place}{kind}.{leaf}"

    return key


def _torchvision_swin(params: Tree) -> Callable[[Path], str]:
    """torchvision's numbers for a Video Swin, in place of its authors' names."""
    places = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}

    def key(path: Path) -> str:
        plain = names_swin3d.torch_key(path).removeprefix("backbone.")
        plain = re.sub(r"^cls_head\.fc_cls\.", "head.", plain)
        plain = re.sub(r"\bmlp\.fc[12]\b", lambda found: places[found[0]], plain)
        if match := re.fullmatch(r"layers\.(\d+)\.(blocks|downsample)\.(.+)", plain):
            number = 2 * int(match[1]) + (match[2] == "downsample")
            return f"features.{number}.{match[3]}"
        return plain

    return key


SPELLINGS = {
    "torchvision": Spelling(
        "torchvision, and timm's ResNets of today", "layer1.0.conv1.weight", (*_IMAGES, *_VIDEO),
        lambda params: names_resnet.key_of(params),
    ),
    "torchvision-swin": Spelling(
        "torchvision's Video Swin", "features.0.0.attn.qkv.weight", ("swin3d_tiny",), _torchvision_swin
    ),
    "timm": Spelling(
        "timm's and pretrainedmodels' older ResNets", "last_linear.weight", _IMAGES,
        lambda params: lambda path: re.sub(r"^fc\.", "last_linear.", names_resnet.torch_key(path)),
    ),
    "tsm": Spelling("TSM's and MML's code", "module.base_model.layer1.0.conv1.net.weight", _TSM, _tsm),
    "slowfast": Spelling(
        "SlowFast's code", "s2.pathway0_res0.branch2.a.weight",
        ("i3d_resnet50", "slow_resnet50", "slowfast_resnet50"), names_slowfast.key_of,
    ),
    "mmaction2": Spelling(
        "mmaction2's video ResNets", "backbone.layer1.0.conv2.0.conv.weight", (*_CSN, "cmpl_resnet50"), _mmaction2
    ),
    "video-swin": Spelling(
        "Video Swin's authors (and mmaction2)", "backbone.layers.0.blocks.0.attn.qkv.weight", ("swin3d_tiny",),
        names_swin3d.key_of,
    ),
    "kataoka": Spelling(
        "Hara's and Kataoka's 3D ResNets", "module.layer1.0.conv1.weight", ("hara_r3d_18", "hara_r3d_50"),
        _prefixed("module."),
    ),
    "vmz": Spelling("VMZ's PyTorch code", "layer1.0.conv2.0.0.weight", ("csn_ip_152",), names_csn.key_of),
    "vmz-caffe2": Spelling(
        "VMZ's Caffe2 files (.pkl)", "comp_0_conv_1_w",
        ("r2plus1d_18_true", "r2plus1d_101", "vmz_r3d_50", *_CSN, "vmz_audio_resnet50"), None,
    ),
    "stlt": Spelling(
        "STLT's, in both its releases", "temporal_transformer.transformer.layers.0.linear1.weight",
        ("stlt", "stlt_layouts"), names_stlt.key_of,
    ),
}  # fmt: skip


def key_of(params: Tree, spelling: str) -> Callable[[Path], str]:
    """Returns the function that names the paths of these parameters in a ``spelling``. Raises ValueError for an
    unknown one, and for one that is only read."""
    writable = [name for name, own in SPELLINGS.items() if own.key_of]
    if spelling not in writable:
        raise ValueError(f"ours are written in the spellings {', '.join(writable)}, and not in {spelling!r}")
    return SPELLINGS[spelling].key_of(params)
