"""Tabletop as real files: mp4, depth maps, wav and boxes of every clip, and the manifest that names them."""

import concurrent.futures
import contextlib
import csv
import json
import multiprocessing
import os
import pathlib
import wave

import av
import cv2
import numpy as np
from tqdm import tqdm

from data_prep.tabletop import render, specs
from data_prep.tabletop.actions import VERBS
from data_prep.tabletop.scene import NOUNS
from data_prep.tabletop.sound import AUDIO_RATE, FPS
from data_prep.tabletop.specs import Spec
from mmvid.files import whole

# The version of the files; 2: boxes are tight and follow the camera, all that slides hisses, mp4s repeat;
# 3: most verbs sound, every clip has a room tone, boxes are detections. Pictures, depth and splits are those of 2.
VERSION = 3


def _write_video(path: pathlib.Path, rgb: np.ndarray) -> None:
    """Writes frames uint8 [T, H, W, 3] as an H.264 mp4 of FPS frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = rgb.shape[2], rgb.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        # Noise is part of the task's difficulty; a coarse quantiser would remove it, and motion.
        # At 48 pixels x264's macroblock tree reads memory it never wrote: one clip in four came out
        # different in another process. Without it equal frames give equal bytes.
        stream.options = {"crf": "12", "preset": "veryfast", "x264-params": "mbtree=0"}
        for image in rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _write_clip(spec: Spec, folder: pathlib.Path, name: str) -> None:
    """Renders a clip into one file for each modality; its depth is a folder of files."""
    clip = render.clip(spec)
    _write_video(folder / "rgb" / f"{name}.mp4", clip.rgb)
    depth = folder / "depth" / name
    depth.mkdir(parents=True)
    for t, image in enumerate(clip.depth):
        cv2.imwrite(str(depth / f"{t:04d}.png"), image)
    with wave.open(str(folder / "audio" / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(AUDIO_RATE)
        file.writeframes(clip.audio.tobytes())
    np.save(folder / "boxes" / f"{name}.npy", clip.detections)


def _row(spec: Spec, name: str, view: str) -> dict[str, str]:
    """Makes a line of the manifest. Start and end stay empty, as the whole file is the clip."""
    row = dict(id=name, path=f"rgb/{name}.mp4", split=spec.split, start="", end="")
    row |= dict(depth=f"depth/{name}", audio=f"audio/{name}.wav", boxes=f"boxes/{name}.npy")
    if view == "epic":
        return row | {"label/verb": VERBS[spec.verbs[0]], "label/noun": NOUNS[spec.noun]}
    return row | {"label/action": "|".join(VERBS[v] for v in spec.verbs)}


def _heads(view: str) -> dict[str, dict]:
    """Returns the label spaces of a view: {name: {kind, names}}."""
    verb = {"kind": "single", "names": list(VERBS)}
    if view == "epic":
        return {"verb": verb, "noun": {"kind": "single", "names": list(NOUNS)}}
    return {"action": verb | ({"kind": "multi"} if view == "multilabel" else {})}


def _write_files(jobs: list[tuple[Spec, str]], folder: pathlib.Path, workers: int) -> None:
    """Renders and writes every clip of ``jobs`` (spec, name) below ``folder``, on ``workers`` processes."""
    bar = tqdm(total=len(jobs), desc="render", unit="clip", dynamic_ncols=True)
    context = multiprocessing.get_context("spawn")  # a fork would copy whatever threads run here
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,))
    with bar, pool:
        tasks = [pool.submit(_write_clip, spec, folder, name) for spec, name in jobs]
        try:
            for task in concurrent.futures.as_completed(tasks):
                task.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _finished(root: pathlib.Path, made: dict) -> bool:
    """Tells whether ``root`` holds the files that ``made`` describes already. Raises ValueError where it holds
    anything else."""
    if not root.exists():
        return False
    with contextlib.suppress(OSError, json.JSONDecodeError):
        if json.loads((root / "tabletop.json").read_text()) == made:
            return True
    raise ValueError(f"{root} stands already and is not Tabletop {made}; choose another folder, or delete it")


def write(
    root: str | os.PathLike,
    size: str = "small",
    view: str = "verb",
    *,
    seed: int = 0,
    workers: int | None = None,
) -> pathlib.Path:
    """Renders Tabletop in one size and view into real files below ``root``; returns the path of its manifest.csv.

    Every clip has an mp4 (H.264), a folder of 16-bit depth PNGs (mm), a wav and boxes (npy); beside them are
    ``labels.json`` (heads) and ``tabletop.json`` (what was asked for). A complete folder is left as it is; a
    run that was cut short starts again. Raises ValueError for unknown names, and where ``root`` holds anything
    else.
    """
    root = pathlib.Path(root)
    made = dict(version=VERSION, size=size, view=view, seed=seed)
    jobs = [
        (spec, f"{spec.split}-{spec.index:05d}")
        for split in specs.SPLITS
        for spec in specs.clips(size, split, view, seed)
    ]
    if _finished(root, made):
        return root / "manifest.csv"
    with whole(root) as folder:
        for name in ("rgb", "audio", "boxes", "depth"):
            (folder / name).mkdir(parents=True)
        _write_files(jobs, folder, workers or os.cpu_count() or 1)
        rows = [_row(spec, name, view) for spec, name in jobs]
        with (folder / "manifest.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        (folder / "labels.json").write_text(json.dumps(_heads(view), indent=1))
        (folder / "tabletop.json").write_text(json.dumps(made))
    return root / "manifest.csv"


def write_stills(root: str | os.PathLike, n: int = 1600, *, seed: int = 0) -> pathlib.Path:
    """Writes ``n`` PNGs of single objects as ``root/<noun>/<id>.png``, which stand in for ImageNet.

    A complete folder is left as it is. Raises ValueError where ``root`` holds another number.
    """
    root = pathlib.Path(root)
    if root.exists():
        found = len(list(root.glob("*/*.png")))
        if found != n:
            raise ValueError(f"{root} holds {found} stills, not {n}; delete it or choose another")
        return root
    with whole(root) as folder:
        for noun in NOUNS:
            (folder / noun).mkdir(parents=True)
        # [seed, 99]: a stream of draws apart from those of all splits.
        rng = np.random.default_rng([seed, 99])
        for i in range(n):
            noun = i % len(NOUNS)
            path = folder / NOUNS[noun] / f"{i:05d}.png"
            cv2.imwrite(str(path), render.still(noun, rng)[..., ::-1])
    return root
