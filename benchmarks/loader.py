"""The loader against a folder of JPEGs: clips a second of one core, in one process.

    python -m benchmarks.loader [--out loader.json]
    python -m benchmarks.loader --root data/tabletop-small --size 48 --dense_length 16

Without --root it makes 320 x 240 videos and prepares them twice, with a short side of 128 pixels
(for crops of 112) and at their own size (for crops of 224). The folder holds every frame and flow
plane of the videos' own size as a JPEG file of the same quality; it is read as TSM's loader reads it: each
field of each stack opened by PIL, cropped, resized. Both draw the same frames and windows.
"""

import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from PIL import Image

from mmvid.data import augment, example, pipeline, records, sampling
from mmvid.data import fields as fields_lib
from mmvid.data import frames as frames_lib
from mmvid.data.groups import Group
from mmvid.streams import Head, Sampling, Stream, form_of

BATCH = 8
QUALITY = 95
SEED = 0


def video(rng: np.random.Generator, frames: int = 48) -> np.ndarray:
    """A camera that wanders over a picture with a photograph's spectrum, and a part that goes its
    own way: [T, 240, 320, 3]."""
    side = 512
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    noise = np.fft.rfft2(rng.normal(size=(3, side, side))) / np.maximum(frequency, 1 / side) ** 1.1
    light, red, blue = (x / x.std() for x in np.fft.irfft2(noise, s=(side, side)))
    # Photographs carry far more detail in their light than in their colours.
    scene = np.stack([light + 0.25 * red, light - 0.12 * (red + blue), light + 0.25 * blue], -1)
    scene = (45 * scene + 128).clip(0, 255).astype(np.uint8)
    paths = np.cumsum(rng.normal(size=(2, frames, 2)), 1)
    cuts = []
    for camera, own in zip(*paths):
        cut = _shifted(scene, camera)
        cut[80:160, 110:210] = _shifted(scene, 40 + camera + own)[80:160, 110:210]
        cuts.append(cut)
    return np.stack(cuts)


def _shifted(scene: np.ndarray, where: np.ndarray) -> np.ndarray:
    matrix = np.float32([[1, 0, -96 - where[0]], [0, 1, -136 - where[1]]])
    return cv2.warpAffine(scene, matrix, (320, 240), borderMode=cv2.BORDER_WRAP)


def prepare(folder: pathlib.Path, clips: int) -> dict[int, pathlib.Path]:
    """Videos, and the datasets built from them: {short side: root}."""
    rng = np.random.default_rng(SEED)
    (folder / "videos").mkdir()
    with (folder / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "path", "label", "split"])
        for i in range(clips):
            name = f"videos/{i}.mp4"
            (folder / name).write_bytes(frames_lib.encode_mp4(video(rng), 12.0))
            table.writerow([f"clip{i}", name, f"class{i % 2}", "train"])
    roots = {}
    for side in (128, 240):
        roots[side] = folder / f"records-{side}"
        command = [sys.executable, "-m", "data_prep.build", "--manifest", str(folder / "clips.csv")]
        command += ["--out", str(roots[side]), "--flow", "dis", "--short_side", str(side), "--strict"]
        command += ["--flow_codec", "jpeg", "--quality", str(QUALITY)]
        subprocess.run(command, check=True, capture_output=True)
    return roots


def write_folder(source: records.Source, folder: pathlib.Path, clips: int) -> None:
    """Every frame and flow plane of the first ``clips`` rows as files: row/rgb_00001.jpg, ..."""
    for row in range(clips):
        record, place = source[row], folder / str(row)
        place.mkdir(parents=True)
        frames = {"rgb": fields_lib.decode_frames(record, "rgb", range(record["num_frames"]))}
        flow = fields_lib.decode_frames(record, "flow", range(record["num_frames"] - 1))
        frames |= {"flow_x": flow[..., 0], "flow_y": flow[..., 1]}
        for name, pictures in frames.items():
            for t, picture in enumerate(pictures):
                Image.fromarray(picture).save(place / f"{name}_{t + 1:05d}.jpg", quality=QUALITY)


def _picture(path: pathlib.Path, mode: str, window: augment.Geometry, size: int) -> np.ndarray:
    picture = Image.open(path).convert(mode)
    x, y = round(window.x * picture.width), round(window.y * picture.height)
    w, h = round(window.width * picture.width), round(window.height * picture.height)
    return np.asarray(picture.crop((x, y, x + w, y + h)).resize((size, size), Image.BILINEAR))


def folder_clip(place: pathlib.Path, frames: int, shape: tuple[int, int], streams, size: int, rng) -> dict:
    """One training clip from the folder of JPEGs: {stream: [T, size, size, raw]}."""
    # A flow field lies between two frames.
    lengths = {s.name: frames - (s.modality == "flow") for s in streams}
    anchors = sampling.train_indices(rng, lengths, streams)
    window = augment.draw(rng, *shape, size, augment.Augment())
    out = {}
    for stream in streams:
        names = (("rgb", "RGB"),) if stream.modality == "rgb" else (("flow_x", "L"), ("flow_y", "L"))
        fields = sampling.stacked(anchors[stream.name], form_of(stream).stack, lengths[stream.name])
        out[stream.name] = np.stack(
            [
                np.dstack(
                    [
                        _picture(place / f"{name}_{t + 1:05d}.jpg", mode, window, size)
                        for t in stack
                        for name, mode in names
                    ]
                )
                for stack in fields
            ]
        )
    return out


def _clips_per_second(make, seconds: float) -> float:
    """Clips a second of this process's CPU time; ``make(i)`` gives BATCH clips."""
    start, done = time.process_time(), 0
    while time.process_time() - start < seconds:
        make(done)
        done += 1
    return done * BATCH / (time.process_time() - start)


def measure(source, folder: pathlib.Path, clips: int, streams, size: int, seconds: float) -> dict:
    """Both loaders in turns, the median of five: clips/s of one core and their ratio."""
    sizes = [(r["num_frames"], (r["height"], r["width"])) for r in map(source.__getitem__, range(clips))]
    group = Group("train", BATCH, {"train": augment.Augment()})
    heads = {name: Head(h["classes"], h["kind"]) for name, h in source.info.heads.items()}
    spec = example.Train({"main": source}, {"main": group}, streams, heads, size, SEED)
    dataset = pipeline.train_dataset(spec, 0, 10**6)

    def from_folder(i):
        examples = []
        for position in range(i * BATCH, (i + 1) * BATCH):
            row = example.example_row(clips, SEED, position)
            rng = np.random.default_rng([SEED, position, 1])
            examples.append(folder_clip(folder / str(row), *sizes[row], streams, size, rng))
        return {s.name: np.stack([e[s.name] for e in examples]) for s in streams}

    dataset[0], from_folder(0)
    ours, theirs = [], []
    for _ in range(5):
        ours.append(_clips_per_second(dataset.__getitem__, seconds))
        theirs.append(_clips_per_second(from_folder, seconds))
    ratios = [a / b for a, b in zip(ours, theirs)]
    return {
        "clips/s": statistics.median(ours),
        "folder clips/s": statistics.median(theirs),
        "ratio": statistics.median(ratios),
    }


def run(args: argparse.Namespace, scratch: pathlib.Path) -> list[dict]:
    """Every row of the table."""
    if args.root:
        settings = [(args.root, args.size)]
    else:
        roots = prepare(scratch, args.clips)
        settings = [(roots[128], 112), (roots[240], 224)]
    sampled = Sampling("mixed", 8, args.dense_length)
    rgb, flow = Stream("rgb", "rgb", sampled), Stream("flow", "flow", sampled, "stack5")
    own = records.open_dataset(settings[-1][0]).split("train")
    clips = min(args.clips, len(own))
    write_folder(own, scratch / "folder", clips)
    rows = []
    for root, size in settings:
        dataset = records.open_dataset(root)
        for streams in ((rgb,), (flow,), (rgb, flow)):
            numbers = measure(dataset.split("train"), scratch / "folder", clips, streams, size, args.seconds)
            stored = f"{dataset.info.width}x{dataset.info.height}"
            title = "+".join(s.name for s in streams)
            rows.append({"streams": title, "stored": stored, "size": size} | numbers)
            print(
                "{streams:9s} {stored:>9s} {size:5d} {clips/s:9.1f} {folder clips/s:9.1f} {ratio:6.2f}x".format(
                    **rows[-1]
                ),
                flush=True,
            )
    return rows


def main() -> None:
    """Prints the table; --out writes it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=pathlib.Path, help="a prepared dataset with rgb and flow")
    parser.add_argument("--size", type=int, default=48, help="pixels of a crop, with --root")
    parser.add_argument("--dense_length", type=int, default=32)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of one reading")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file")
    args = parser.parse_args()
    print("streams      stored  size   clips/s    folder  ratio   (8 frames, one core)")
    with tempfile.TemporaryDirectory() as scratch:
        rows = run(args, pathlib.Path(scratch))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
