"""The strong view of a batch's clips, and its share of the training step that they are for.

    python -m benchmarks.strong --out strong.json

FixMatch of few labels: 2 labelled clips, 10 weak and 10 strong views go through one network in one step;
RandAugment and Cutout are of the last 10. Rounds alternate, the least of each is kept. Asserts nothing; the strong
view is meant to take less than a tenth.
"""

import argparse
import json
import pathlib

import jax
import numpy as np

from benchmarks import jax_side
from benchmarks.step import measure
from mmvid import operations
from mmvid.streams import Sampling, Stream, host_shape

LABELLED, UNLABELLED = 2, 10
MODELS = ("tsm_resnet18", "r3d_18")


def view(stream: Stream, side: int):
    """A function that makes the strong views of UNLABELLED clips of a stream and waits for them."""
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (UNLABELLED, *host_shape(stream, side)), np.uint8)
    rows = [operations.draw(rng, ("strong",), (stream,)) for _ in range(UNLABELLED)]
    drawn = jax.tree.map(lambda *own: np.stack(own), *rows)
    program = jax.jit(lambda x, drawn: operations.paint(stream, x, drawn))
    arguments = jax.device_put((clips, drawn))
    return lambda: jax.block_until_ready(program(*arguments))


def step(model: str, frames: int, side: int, dtype: str):
    """A function that makes one training step of an RGB network and waits for it."""
    spec = dict(model=model, options={}, batch=LABELLED + 2 * UNLABELLED, frames=frames, side=side)
    program, state, batch, *_ = jax_side.compiled_step(spec, dtype, ("rgb",))
    now = {"state": state}

    def once():
        now["state"], _ = program(now["state"], batch)
        jax.block_until_ready(now["state"].params)

    return once


def main() -> None:
    """Prints the table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--dtype", default="float32", help="bfloat16 on accelerators")
    parser.add_argument("--models", nargs="*", default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    sampling = Sampling(frames=args.frames)
    streams = [Stream("rgb", "rgb", sampling), Stream("flow", "flow", sampling, "stack5")]
    print(f"{jax.devices()[0].device_kind}; {UNLABELLED} clips of {args.frames}x{args.side}x{args.side}")
    print(f"{'step':14} {'ms':>7} {'strong RGB':>11} {'share':>6} {'strong flow':>12}")
    results = {}
    for model in args.models:
        runs = {s.name: view(s, args.side) for s in streams}
        least = measure(runs | {"step": step(model, args.frames, args.side, args.dtype)}, args.rounds)
        results[model] = {f"{name}_seconds": seconds for name, seconds in least.items()}
        results[model]["share"] = least["rgb"] / least["step"]
        ms = {name: 1e3 * seconds for name, seconds in least.items()}
        share = f"{results[model]['share']:.1%}"
        print(f"{model:14} {ms['step']:7.0f} {ms['rgb']:11.1f} {share:>6} {ms['flow']:12.1f}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
