"""TV-L1 in JAX against OpenCV's DualTVL1 and DIS: milliseconds a pair, and accuracy.

    python -m benchmarks.flow --out flow.json

Ratios within one run; rounds alternate, the least of each is kept. Prints a table, asserts nothing.
"""

import argparse
import itertools
import json
import pathlib
import time

import cv2
import jax
import numpy as np

from mmvid.data import flow

SIZES = ((48, 48), (64, 64), (128, 171))


def moving_texture(height: int, width: int, frames: int) -> np.ndarray:
    """A smooth random scene under a slow pan: uint8 [frames, H, W]."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.uniform(0, 255, (height + 80, width + 80)).astype(np.float32), (0, 0), 2)
    scene = np.uint8(cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX))
    return np.stack([scene[i : i + height, 40 - i // 2 : 40 - i // 2 + width] for i in range(frames)])


def opencv(frames: np.ndarray) -> np.ndarray:
    """OpenCV's TV-L1 with its default settings."""
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    return np.stack([solver.calc(a, b, None) for a, b in itertools.pairwise(frames)])


def measure(frames: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """{solver: {ms, epe}}: least milliseconds a pair over the rounds, mean end-point error."""
    few = frames[:4]
    solvers = {
        "opencv": lambda: opencv(few),
        "dis": lambda: flow.dis(frames),
        "default": lambda: flow.clip_flow(frames),
        "fast": lambda: flow.clip_flow(frames, settings="fast"),
    }
    pairs = {name: (len(few) if name == "opencv" else len(frames)) - 1 for name in solvers}
    truth = np.array([[(i + 1) // 2 - i // 2, -1.0] for i in range(len(frames) - 1)])
    found = {name: {"ms": float("inf")} for name in solvers}
    for name, solve in solvers.items():
        field = solve()[:, 8:-8, 8:-8]
        away = np.linalg.norm(field - truth[: len(field), None, None], axis=-1)
        found[name]["epe"] = float(away.mean())
    for _ in range(rounds):
        for name, solve in solvers.items():
            start = time.perf_counter()
            solve()
            took = 1e3 * (time.perf_counter() - start) / pairs[name]
            found[name]["ms"] = min(found[name]["ms"], took)
    return found


def main() -> None:
    """Prints the table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = {}
    print(f"{jax.devices()[0].device_kind}; OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads")
    print(f"{'size':>9}  {'solver':8} {'ms a pair':>9} {'x OpenCV':>8} {'EPE px':>7}")
    for height, width in SIZES:
        found = measure(moving_texture(height, width, 33), args.rounds)
        results[f"{height}x{width}"] = found
        for name, row in found.items():
            ratio = found["opencv"]["ms"] / row["ms"]
            print(f"{height:>5}x{width:<3}  {name:8} {row['ms']:9.2f} {ratio:8.1f} {row['epe']:7.3f}")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
