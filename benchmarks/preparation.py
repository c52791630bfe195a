"""What preparing a clip costs: seconds of one core and bytes, by what is kept of it.

    python -m benchmarks.preparation [--frames 300] [--width 340 --height 256] [--out found.json]

It makes videos with a photograph's spectrum (benchmarks/loader.py), prepares them as phase 1 does, and packs
nothing. Flow is computed of few pairs, and told of one: each takes as long as any other.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

# One core: the pool of a build is one process a core, too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
os.environ.update(NPROC="1", OMP_NUM_THREADS="1")

import cv2
import numpy as np

from benchmarks.loader import video
from data_prep.manifest import Item
from mmvid.data import frames as frames_lib
from mmvid.data.media import record

# Pairs whose flow is computed, after some that are not counted: the first ones compile.
PAIRS = 16


def films(folder: pathlib.Path, count: int, frames: int, size: tuple[int, int], rate: float) -> list[pathlib.Path]:
    """Makes ``count`` videos of ``frames`` frames of ``size`` (width, height)."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        pictures = np.stack([cv2.resize(frame, size) for frame in video(rng, frames)])
        paths.append(folder / f"{i}.mp4")
        paths[-1].write_bytes(frames_lib.encode_mp4(pictures, rate))
    return paths


def prepared(path: pathlib.Path, **settings) -> tuple[dict, float]:
    """A film's record, and the seconds of this process's CPU time that it took."""
    begun = time.process_time()
    made = record.prepare(Item(path.stem, path, "train", {}), record.Settings(**settings))
    return made, time.process_time() - begun


def _row(what: str, seconds: float, size: int, of: str) -> dict:
    print(f"{what:28s} {1e3 * seconds:9.2f} ms {size:9,d} bytes a {of}", flush=True)
    return {"what": what, "ms": 1e3 * seconds, "bytes": size, "of": of}


def stored(paths: list[pathlib.Path]) -> list[dict]:
    """What frames cost without flow, as JPEG and as mp4; the least of all films."""
    rows = []
    for storage in ("jpeg", "mp4"):
        made = [prepared(path, flow="none", rgb_storage=storage) for path in paths]
        frames = made[0][0]["num_frames"]
        size = sum(len(part) for own, _ in made for part in (*own["rgb"], own["rgb_video"]))
        seconds = min(seconds for _, seconds in made) / frames
        rows.append(_row(f"RGB as {storage}", seconds, size // (frames * len(paths)), "frame"))
    return rows


def flows(folder: pathlib.Path, size: tuple[int, int], rate: float) -> list[dict]:
    """What a pair's flow costs, beside its frames, by how it is computed and kept."""
    (path,) = films(folder, 1, PAIRS + 1, size, rate)
    _, plain = prepared(path, flow="none")
    rows = []
    for how in ("dis", "tvl1-fast", "tvl1"):
        for codec in ("png", "jpeg"):
            prepared(path, flow=how, flow_codec=codec)  # it compiles
            made, seconds = prepared(path, flow=how, flow_codec=codec)
            kept = sum(map(len, (*made["flow_x"], *made["flow_y"]))) // PAIRS
            rows.append(_row(f"{how} as {codec}", (seconds - plain) / PAIRS, kept, "pair"))
    return rows


def main() -> None:
    """Prints the table; --out writes it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preparation", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=300, help="of a clip; 300 are ten seconds of Kinetics")
    parser.add_argument("--width", type=int, default=340)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file")
    args = parser.parse_args()
    size = args.width, args.height
    with tempfile.TemporaryDirectory() as folder:
        found = stored(films(pathlib.Path(folder), args.films, args.frames, size, 30.0))
        found += flows(pathlib.Path(folder), size, 30.0)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
