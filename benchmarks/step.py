"""The joint training step: clips a second, and the ratio to PyTorch where torch is installed.

    python -m benchmarks.step --out step.json

Two networks (RGB and flow), MML, clipped SGD with momentum; PyTorch steps the same two networks on clips of
the same shape. Then one network's logits, without gradients, where FORWARD says so; and, with --auxiliaries, what
CMPL's auxiliary costs beside its primary, a step of one network each. Ratios within one run; rounds alternate, the
least of each is kept. Asserts nothing. For a GPU there is benchmarks/device.py.
"""

import argparse
import importlib
import importlib.util
import json
import pathlib
import time

import jax

from benchmarks import jax_side

CASES = (
    ("tsm_tiny", 16, 8, 48),
    ("tsm_resnet18", 8, 8, 64),
    ("tsm_resnet50", 2, 8, 112),
    ("r2plus1d_tiny", 16, 8, 48),
    ("r2plus1d_18", 2, 8, 112),
    ("csn_ir_50", 2, 8, 112),
    ("swin3d_tiny", 2, 8, 112),
)
# As a test clip is scored.
FORWARD = (("swin3d_tiny", 1, 32, 224),)
# A quarter of the width and twice the frames, as the paper's (table 2).
AUXILIARIES = (
    (("cmpl_resnet50", 2, 8, 112), ("cmpl_resnet50_x1_4", 2, 16, 112)),
    (("cmpl_tiny", 16, 8, 48), ("cmpl_tiny", 16, 16, 48, dict(width=4))),
)
# What is written in PyTorch here.
REFERENCES = ("tsm_resnet18", "tsm_resnet50", "r2plus1d_18", "csn_ir_50", "swin3d_tiny")


def ours(spec: dict, dtype: str, streams: tuple[str, ...] = ("rgb", "flow")):
    """A function that makes one joint step and waits for it."""
    program, state, batch, *_ = jax_side.compiled_step(spec, dtype, streams)
    now = {"state": state}

    def once():
        now["state"], _ = program(now["state"], batch)
        jax.block_until_ready(now["state"].params)

    return once


def theirs(spec: dict, dtype: str):
    """The same in PyTorch: two networks written here (torch_*.py)."""
    torch_side = importlib.import_module("benchmarks.torch_side")
    return torch_side.joint_step(spec, dtype, False, "cpu")


def our_logits(spec: dict, dtype: str):
    """A function that computes the RGB network's logits and waits for them."""
    program, arguments = jax_side.compiled_logits(spec, dtype)
    return lambda: jax.block_until_ready(program(*arguments))


def their_logits(spec: dict, dtype: str):
    """The same in PyTorch."""
    return importlib.import_module("benchmarks.torch_side").logits(spec, dtype, "cpu")


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


def told(name: str, spec: dict, least: dict[str, float]) -> dict:
    """Prints a row of the table and returns it as data."""
    size, frames, side = spec["batch"], spec["frames"], spec["side"]
    found = {f"{who}_seconds": seconds for who, seconds in least.items()}
    found |= {"clips_per_second": size / least["ours"], "batch_size": size, "frames": frames, "side": side}
    if "torch" in least:
        found["times_pytorch"] = least["torch"] / least["ours"]
    clip, ratio = f"{frames}x{side}x{side}", found.get("times_pytorch")
    print(
        f"{name:21} {size:5} {clip:>12} {1e3 * least['ours']:8.0f} "
        f"{size / least['ours']:8.1f} {f'{ratio:.2f}' if ratio else '-':>9}",
        flush=True,
    )
    return found


def spec_of(model: str, batch: int, frames: int, side: int, options: dict | None = None) -> dict:
    """A case as the two sides read it."""
    return dict(model=model, options=options or {}, batch=batch, frames=frames, side=side)


def beside(pair: tuple, dtype: str, rounds: int) -> dict:
    """Prints what an auxiliary costs beside its primary, a ``pair`` of cases, and returns it as data."""
    names = ("primary", "auxiliary")
    specs = dict(zip(names, (spec_of(*case) for case in pair)))
    least = measure({name: ours(spec, dtype, ("rgb",)) for name, spec in specs.items()}, rounds)
    for name, spec in specs.items():
        told(f"{name} {spec['model']}"[:21], spec, {"ours": least[name]})
    ratio = least["auxiliary"] / least["primary"]
    print(f"the auxiliary costs {ratio:.2f} of the primary, {100 * ratio / (1 + ratio):.0f} % of a step of both")
    return {"cost_ratio": ratio} | {f"{name}_seconds": seconds for name, seconds in least.items()}


def main() -> None:
    """Prints the table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", default="float32", help="bfloat16 on accelerators")
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--auxiliaries", action="store_true", help="only what auxiliaries cost")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    torch = importlib.util.find_spec("torch") is not None and jax.default_backend() == "cpu"
    print(jax.devices()[0].device_kind, "" if torch else "(no PyTorch to compare with)")
    print(f"{'joint step of two':21} {'batch':>5} {'clip':>12} {'ms':>8} {'clips/s':>8} {'x PyTorch':>9}")
    results = {}
    kinds = (("", CASES, ours, theirs), ("logits of ", FORWARD, our_logits, their_logits))
    for kind, (model, *shape), own, other in ((k, c, o, t) for k, cases, o, t in kinds for c in cases):
        if args.auxiliaries or (args.models and model not in args.models):
            continue
        spec = spec_of(model, *shape)
        runs = {"ours": own(spec, args.dtype)}
        if torch and model in REFERENCES:
            runs["torch"] = other(spec, args.dtype)
        results[kind + model] = told(kind + model, spec, measure(runs, args.rounds))
    for pair in AUXILIARIES if args.auxiliaries else ():
        results[f"auxiliary of {pair[0][0]}"] = beside(pair, args.dtype, args.rounds)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
