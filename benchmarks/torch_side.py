"""The worker of benchmarks.device that steps the same two networks in PyTorch, and does the same work:
uint8 clips normalised, cross-entropy plus mutual KL, clipped SGD in TSM's parameter groups."""

import contextlib
import gc
import time

import torch
from torch import nn

from benchmarks import torch_csn, torch_r2plus1d, torch_swin3d, torch_tsm
from benchmarks.workers import median_ms, serve

CLASSES = 174
# Mean and standard deviation of each channel; flow is a stack of five fields.
NORMALISATION = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "flow": ((0.5,) * 10, (0.226,) * 10),
}


def build(spec: dict, channels: int) -> nn.Module:
    """The twin of mmvid's model ``spec['model']``. Raises ValueError where none is written."""
    if spec["model"] in torch_tsm.STAGES:
        return torch_tsm.TSM(spec["model"], channels, spec["frames"], CLASSES, **spec["options"])
    if spec["model"] == "r2plus1d_18":
        return torch_r2plus1d.R2Plus1D(channels, CLASSES, **spec["options"])
    if spec["model"] == "csn_ir_50":
        return torch_csn.Csn(channels, CLASSES, **spec["options"])
    if spec["model"] == "swin3d_tiny":
        return torch_swin3d.Swin3D(channels, CLASSES, **spec["options"])
    raise ValueError(f"{spec['model']}: no twin is written in PyTorch")


def optimiser(network: nn.Module) -> torch.optim.SGD:
    """SGD in TSM's groups: kernels; biases at twice the rate; norms; the classifier at 5 and 10 times."""
    groups = {}
    for module in network.modules():
        norm = isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm)
        for name, parameter in module.named_parameters(recurse=False):
            boost = 5.0 if module is network.fc else 1.0
            key = (1.0, 0.0) if norm else (boost, 5e-4) if name == "weight" else (2 * boost, 0.0)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.SGD(
        [{"params": found, "lr": 0.01 * rate, "weight_decay": decay} for (rate, decay), found in groups.items()],
        lr=0.01,
        momentum=0.9,
    )


def joint_step(spec: dict, dtype: str, compiled: bool, device: str):
    """A function that makes one joint step and returns the loss."""
    torch.manual_seed(0)
    networks = {
        name: build(spec, len(mean)).to(device).to(memory_format=_format(spec))
        for name, (mean, _) in NORMALISATION.items()
    }
    tx = [optimiser(network) for network in networks.values()]
    calls = {name: torch.compile(network) if compiled else network for name, network in networks.items()}
    shape = (spec["batch"], spec["frames"], spec["side"], spec["side"])
    batch, scales = {}, {}
    for name, (mean, std) in NORMALISATION.items():
        batch[name] = torch.randint(0, 256, (*shape, len(mean)), dtype=torch.uint8, device=device)
        scales[name] = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    labels = (torch.arange(spec["batch"]) % CLASSES).to(device)
    half = dtype == "bfloat16"

    def logits_of(name):
        mean, std = scales[name]
        x = (batch[name].float() / 255 - mean) / std
        with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
            return calls[name](x).float()

    def once():
        logits = {name: logits_of(name) for name in networks}
        loss = mutual_loss(*logits.values(), labels)
        for optim in tx:
            optim.zero_grad(set_to_none=True)
        loss.backward()
        for network, optim in zip(networks.values(), tx):
            nn.utils.clip_grad_norm_(network.parameters(), 20.0)
            optim.step()
        return loss.detach()

    return once


def logits(spec: dict, dtype: str, device: str):
    """A function that computes the RGB network's logits, without gradients."""
    torch.manual_seed(0)
    network = build(spec, 3).to(device).to(memory_format=_format(spec)).eval()
    x = torch.randn(spec["batch"], spec["frames"], spec["side"], spec["side"], 3, device=device)

    def once():
        half = torch.autocast(device, torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
        with torch.inference_mode(), half:
            return network(x)

    return once


def _format(spec: dict) -> torch.memory_format:
    if spec["model"].startswith("swin3d"):
        return torch.contiguous_format  # it keeps the channels last by itself
    return torch.channels_last_3d if spec["model"].startswith(("r2plus1d", "csn")) else torch.channels_last


def mutual_loss(a, b, labels):
    """CE of both, and KL of each from the other's stopped prediction (Komkov et al., equation 3)."""
    loss = nn.functional.cross_entropy(a, labels) + nn.functional.cross_entropy(b, labels)
    for own, peer in ((a, b), (b, a)):
        target = peer.detach().log_softmax(-1)
        loss = loss + nn.functional.kl_div(own.log_softmax(-1), target, reduction="batchmean", log_target=True)
    return loss


def joint(spec: dict, dtype: str, compiled: bool, seconds: float) -> list[dict]:
    """Time and memory of the joint step; ``first_s`` is the first step's, compilation included."""
    cuda = torch.cuda.is_available()
    wait = torch.cuda.synchronize if cuda else lambda: None
    gc.collect()  # the networks of the row before
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if compiled:
        torch._dynamo.reset()
    once = joint_step(spec, dtype, compiled, "cuda" if cuda else "cpu")
    began = time.perf_counter()
    once()
    wait()
    first = time.perf_counter() - began
    ms = median_ms(once, wait, seconds=seconds)
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    return [
        {
            "ms": ms,
            "clips_per_s": 1e3 * spec["batch"] / ms,
            "peak_gb": peak,
            "first_s": first,
            "loss": once().item(),
        }
    ]


def about() -> list[dict]:
    """Versions, and how float32 products are made."""
    return [
        {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "float32": torch.get_float32_matmul_precision(),
            "device": _device(),
        }
    ]


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    # TF32, as JAX's default precision on such a device; algorithms tried, as XLA tries them.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    serve({"joint": joint, "about": about})
