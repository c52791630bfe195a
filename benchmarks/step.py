"""The joint training step: clips a second, and the ratio to PyTorch where torch is installed.

    python -m benchmarks.step --out step.json

Two networks (RGB and flow), cross-entropy, SGD with momentum; PyTorch steps the same two networks on the
same batch. Ratios within one run; rounds alternate, the least of each is kept. Asserts nothing.
"""

import argparse
import importlib
import importlib.util
import json
import pathlib
import time

import jax
import numpy as np
import optax

from mmvid import step
from mmvid.methods import METHODS
from mmvid.models import build_model
from mmvid.step import Network
from mmvid.streams import Head, Sampling, Stream

CASES = (
    ("tsm_tiny", 16, 8, 48),
    ("tsm_resnet18", 8, 8, 64),
    ("tsm_resnet50", 2, 8, 112),
    ("r2plus1d_tiny", 16, 8, 48),
    ("r2plus1d_18", 2, 8, 112),
)
# What is written in PyTorch here, and in which file.
REFERENCES = {
    "tsm_resnet18": "torch_tsm",
    "tsm_resnet50": "torch_tsm",
    "r2plus1d_18": "torch_r2plus1d",
}
CLASSES = 174


def batch_of(size: int, frames: int, side: int) -> dict:
    """Random uint8 clips of both streams."""
    rng = np.random.default_rng(0)
    draw = lambda c: rng.integers(0, 256, (size, frames, side, side, c), dtype=np.uint8)  # noqa: E731
    return {"main": {
        "inputs": {"train": {"rgb": draw(3), "flow": draw(10)}},
        "label": {"action": (np.arange(size) % CLASSES).astype(np.int32)},
        "mask": np.ones(size, bool),
        "present": {name: np.ones(size, bool) for name in ("rgb", "flow")},
        "id": np.arange(size, dtype=np.int32),
    }}  # fmt: skip


def ours(model: str, size: int, frames: int, side: int, dtype: str):
    """A function that makes one joint step and waits for it."""
    heads = {"action": Head(CLASSES)}
    streams = {
        "rgb": Stream("rgb", "rgb", Sampling("uniform", frames)),
        "flow": Stream("flow", "flow", Sampling("uniform", frames), "stack5"),
    }
    networks = tuple(
        Network(name, build_model(model, heads=heads, in_channels=c, dtype=dtype), ((name,),))
        for name, c in (("rgb", 3), ("flow", 10))
    )
    method = METHODS["single"](("rgb", "flow"), heads)
    tx = {n.name: optax.sgd(0.01, momentum=0.9) for n in networks}
    shapes = dict.fromkeys(streams, (frames, side, side))

    def start(key):
        params, stats = step.init_params(networks, streams, shapes, key)
        return step.init_state(networks, params, stats, method, tx, key)

    state = {"now": jax.jit(start)(jax.random.key(0))}
    run = jax.jit(step.make_train_step(networks, streams, method, tx), donate_argnums=0)
    batch = jax.device_put(batch_of(size, frames, side))

    def once():
        state["now"], _ = run(state["now"], batch)
        jax.block_until_ready(state["now"].params)

    return once


def theirs(model: str, size: int, frames: int, side: int):
    """The same in PyTorch: two networks written here (torch_*.py)."""
    reference = importlib.import_module(f"benchmarks.{REFERENCES[model]}")
    return reference.joint_step(model, size, frames, side, CLASSES)


def measure(runs: dict, rounds: int) -> dict[str, float]:
    """The least seconds of each over alternating rounds, after two to warm up."""
    for once in runs.values():
        once()
        once()
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, once in runs.items():
            start = time.perf_counter()
            once()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def main() -> None:
    """Prints the table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", default="float32", help="bfloat16 on accelerators")
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    torch = importlib.util.find_spec("torch") is not None and jax.default_backend() == "cpu"
    print(jax.devices()[0].device_kind, "" if torch else "(no PyTorch to compare with)")
    print(f"{'joint step of two':18} {'batch':>5} {'clip':>12} {'ms':>8} {'clips/s':>8} {'x PyTorch':>9}")
    results = {}
    for model, size, frames, side in CASES:
        if args.models and model not in args.models:
            continue
        runs = {"ours": ours(model, size, frames, side, args.dtype)}
        if torch and model in REFERENCES:
            runs["torch"] = theirs(model, size, frames, side)
        least = measure(runs, args.rounds)
        found = {f"{name}_seconds": seconds for name, seconds in least.items()}
        found |= {"clips_per_second": size / least["ours"], "batch_size": size, "frames": frames, "side": side}
        if "torch" in least:
            found["times_pytorch"] = least["torch"] / least["ours"]
        clip, ratio = f"{frames}x{side}x{side}", found.get("times_pytorch")
        print(f"{model:18} {size:5} {clip:>12} {1e3 * least['ours']:8.0f} "
              f"{size / least['ours']:8.1f} {f'{ratio:.2f}' if ratio else '-':>9}")  # fmt: skip
        results[model] = found
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
