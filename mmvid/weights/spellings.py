"""Whose files are read, by which names they call their tensors, and in which of these ours can be written."""

from collections.abc import Callable
from typing import NamedTuple

from mmvid.weights import (
    names_csn,
    names_pytorchvideo,
    names_resnet,
    names_slowfast,
    names_stlt,
    names_swin3d,
)
from mmvid.weights.trees import Path, Tree

_IMAGES = ("resnet18", "resnet50")
_TSM = ("tsm_resnet18", "tsm_resnet50", "tsm_resnet101")
_VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18")
_SLOWFAST = ("i3d_resnet50", "slow_resnet50", "slowfast_resnet50")
_CSN = ("csn_ip_152", "csn_ir_152", "csn_ir_50")


class Spelling(NamedTuple):
    """A way to name tensors: whose it is (``about``), an ``example`` of a key, the ``models`` whose published
    files come in it, and ``key_of(params)``, the function that names paths so, or None where it is only read."""

    about: str
    example: str
    models: tuple[str, ...]
    key_of: Callable[[Tree], Callable[[Path], str]] | None


SPELLINGS = {
    "torchvision": Spelling(
        "torchvision, and timm's ResNets of today", "layer1.0.conv1.weight", (*_IMAGES, *_VIDEO),
        names_resnet.key_of,
    ),
    "torchvision-swin": Spelling(
        "torchvision's Video Swin", "features.0.0.attn.qkv.weight", ("swin3d_tiny",),
        names_swin3d.torchvision_key_of,
    ),
    "timm": Spelling(
        "timm's and pretrainedmodels' older ResNets", "last_linear.weight", _IMAGES,
        names_resnet.timm_key_of,
    ),
    "tsm": Spelling(
        "TSM's and MML's code", "module.base_model.layer1.0.conv1.net.weight", _TSM, names_resnet.tsm_key_of
    ),
    "slowfast": Spelling(
        "SlowFast's code (.pyth; its zoo's Caffe2 files, of BGR, are not read)",
        "s2.pathway0_res0.branch2.a.weight", _SLOWFAST, names_slowfast.key_of,
    ),
    "pytorchvideo": Spelling(
        "PyTorchVideo's zoo (I3D_8x8_R50.pyth, SLOW_8x8_R50.pyth, ..)",
        "blocks.1.res_blocks.0.branch2.conv_a.weight", _SLOWFAST, names_pytorchvideo.key_of,
    ),
    "mmaction2": Spelling(
        "mmaction2's video ResNets", "backbone.layer1.0.conv2.0.conv.weight", (*_CSN, "cmpl_resnet50"),
        names_csn.mmaction2_key_of,
    ),
    "video-swin": Spelling(
        "Video Swin's authors (and mmaction2)", "backbone.layers.0.blocks.0.attn.qkv.weight", ("swin3d_tiny",),
        names_swin3d.key_of,
    ),
    "kataoka": Spelling(
        "Hara's and Kataoka's 3D ResNets", "module.layer1.0.conv1.weight", ("hara_r3d_18", "hara_r3d_50"),
        names_resnet.parallel_key_of,
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
