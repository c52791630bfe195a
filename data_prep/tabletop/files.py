"""Tabletop, the embedded dataset: a seeded renderer whose clips are written as real files.

A hand acts on textured objects; what each modality knows differs: direction
lives in motion, nouns in appearance, near and far in depth, impacts in sound, layout in boxes.
"""

import concurrent.futures
import contextlib
import csv
import json
import multiprocessing
import os
import pathlib
import wave
from typing import NamedTuple

import av
import cv2
import numpy as np
from tqdm import tqdm

from data_prep.tabletop import scene
from data_prep.tabletop.scene import NOUNS, SIZE, VERBS
from mmvid.files import whole

# Of the files; 2: boxes are tight and follow the camera, all that slides hisses, mp4s repeat.
VERSION = 2
_DRAWS = 1  # of the random draws: a change makes other clips
FPS = 12
AUDIO_RATE = 16_000
INSTANCES = 4  # of each noun in train, val and test; 'unseen' has as many others
BACKGROUNDS = 20  # in train; val and test share 20 others, 'unseen' has 20 more
SIZES = {
    "smoke": dict(train=48, val=16, test=32, unseen=16),
    "small": dict(train=400, val=60, test=240, unseen=120),
    "medium": dict(train=1300, val=300, test=1500, unseen=500),
}
VIEWS = ("verb", "epic", "multilabel")
_SPLITS = ("train", "val", "test", "unseen")
_FIRST_BACKGROUND = dict(train=0, val=BACKGROUNDS, test=BACKGROUNDS, unseen=2 * BACKGROUNDS)


class Spec(NamedTuple):
    """One clip to render; equal specs give equal clips. ``verbs`` and ``noun`` count in VERBS and
    NOUNS; several verbs follow each other, each with objects of its own."""

    split: str
    index: int
    verbs: tuple[int, ...]
    noun: int
    seed: int = 0


class Clip(NamedTuple):
    """``rgb`` uint8 [T, 48, 48, 3], ``depth`` uint16 [T, 48, 48] in mm, ``audio`` int16 [n] at
    16 kHz, ``boxes`` float32 [n, 9]: frame, x1, y1, x2, y2 in [0, 1], category (1 object, 2 hand),
    score, side, state (1: takes part in the action). A box is tight around what lies inside the
    image, hidden parts included."""

    rgb: np.ndarray
    depth: np.ndarray
    audio: np.ndarray
    boxes: np.ndarray


def clips(size: str, split: str, view: str = "verb", seed: int = 0) -> list[Spec]:
    """The specs of a split, verbs balanced. Raises ValueError for unknown names."""
    if size not in SIZES or split not in _SPLITS or view not in VIEWS:
        raise ValueError(
            f"size={size!r}, split={split!r}, view={view!r}: choose from {sorted(SIZES)}, "
            f"{_SPLITS}, {VIEWS}"
        )
    rng = np.random.default_rng([seed, _SPLITS.index(split), 1])
    specs = []
    for index in range(SIZES[size][split]):
        verbs = (index % len(VERBS),)
        if view == "multilabel":
            other = rng.integers(0, len(VERBS) - 1)
            verbs += (int((verbs[0] + 1 + other) % len(VERBS)),)
        specs.append(Spec(split, index, verbs, int(rng.integers(len(NOUNS))), seed))
    return specs


def labelled_subset(specs: list[Spec], per_class: int) -> list[Spec]:
    """The first ``per_class`` clips of every verb: 1 stands for "1 %", 5 for "10 %" labels.

    Raises ValueError where a verb has fewer.
    """
    counts: dict[int, int] = {}
    chosen = []
    for spec in specs:
        counts[spec.verbs[0]] = counts.get(spec.verbs[0], 0) + 1
        if counts[spec.verbs[0]] <= per_class:
            chosen.append(spec)
    fewest = min((counts.get(v, 0) for v in range(len(VERBS))), default=0)
    if not 1 <= per_class <= fewest:
        raise ValueError(f"per_class={per_class}: choose 1 to {fewest}, what every verb has")
    return chosen


# ---------------------------------------------------------------------------- rendering
def _walk(rng, frames: int, step: float) -> np.ndarray:
    return np.cumsum(rng.normal(0, step, (frames, 2)), 0)


def _nouns(spec: Spec, rng) -> tuple[int, int]:
    other = int((spec.noun + rng.integers(1, len(NOUNS))) % len(NOUNS))
    return spec.noun, other


def _action(spec: Spec, frames: int, rng) -> scene.Action:
    """The verbs one after the other; each further verb acts on an object of its own."""
    count = len(spec.verbs)
    parts, span = [], frames / count
    for i, verb in enumerate(spec.verbs):
        start = span * (i + rng.uniform(0, 0.2))
        end = span * (i + rng.uniform(0.7, 0.97))
        p = scene.progress(frames, start, end)
        parts.append(scene.act(VERBS[verb], p, rng, _nouns(spec, rng)))
    if count == 1:
        return parts[0]
    # The hand of whichever action is under way; none where that action has none.
    half, gone = int(span), np.array([0.5, -2.0, 0.0])
    hands = [np.broadcast_to(gone, (frames, 3)) if a.hand is None else a.hand for a in parts]
    hand = np.concatenate([hands[0][:half], hands[1][half:]])
    return scene.Action(
        [actor for part in parts for actor in part.actors],
        hand,
        [impact for part in parts for impact in part.impacts],
    )


def _distractors(rng, frames: int, instances: int) -> list[scene.Actor]:
    """At most three objects at the border; one in three drifts slowly. And an idle one inside."""
    found = []
    for _ in range(min(rng.poisson(0.5), 3)):
        x = rng.choice([-1, 1]) * rng.uniform(0.8, 1.0)
        drift = rng.normal(0, 0.15) if rng.random() < 0.3 else 0.0
        pose = scene.poses(frames, x + drift * np.linspace(0, 1, frames), rng.uniform(0.1, 0.95))
        found.append(scene.Actor(int(rng.integers(len(NOUNS))), pose, 1.2))
    return found


def _idle(rng, frames: int) -> scene.Actor:
    pose = scene.poses(frames, rng.choice([-1, 1]) * rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.8))
    return scene.Actor(int(rng.integers(len(NOUNS))), pose)


def _light(rng, frames: int) -> np.ndarray:
    """Gain of every frame and colour: [T, 3]."""
    gain = 1 + rng.normal(0, 0.06) + np.cumsum(rng.normal(0, 0.006, frames))
    return gain[:, None] * (1 + rng.normal(0, 0.03, 3))


def _camera(rng, frames: int) -> np.ndarray:
    """Shift of every frame in pixels: a walk, a shake and a pan [T, 2]."""
    pan = rng.normal(0, 0.05, 2) * np.arange(frames)[:, None]
    return _walk(rng, frames, 0.1) + rng.normal(0, 0.14, (frames, 2)) + pan


def _base(spec: Spec, rng, frames: int):
    """The background's picture and its drift [T, 2]."""
    picture = scene.background(_FIRST_BACKGROUND[spec.split] + int(rng.integers(BACKGROUNDS)))
    drift = rng.normal(0, 0.12, 2) if rng.random() < 0.3 else np.zeros(2)
    return picture, drift * np.arange(frames)[:, None] + rng.uniform(-6, 6, 2)


def _box(row: int, corners, shift, category: int, state: int) -> list[list[float]]:
    """The row of a box in pixels moved by the camera's ``shift``; none where nothing shows."""
    if corners is None:
        return []
    x1, y1, x2, y2 = np.clip((np.array(corners) + np.tile(shift, 2)) / SIZE, 0, 1)
    seen = min(x2 - x1, y2 - y1) > 0.01  # half a pixel
    return [[row, x1, y1, x2, y2, category, 1.0, 0.0, state]] if seen else []


def _frame(t: int, actors, main: int, hand, skin_hand, base, shift) -> tuple:
    """Frame t before light and noise: (image, depth, boxes). Far things are drawn first."""
    picture, drift = base
    matrix = np.float32([[1, 0, drift[t, 0] - 8], [0, 1, drift[t, 1] - 8]])
    frame = cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
    rows = np.clip((43 - np.arange(SIZE)) / 30, -0.2, 1.2)
    depth = np.repeat(scene.distance(rows)[:, None], SIZE, 1).astype(np.float32)
    boxes = []
    things = [(actor.pose[t, 1], i) for i, (actor, _) in enumerate(actors)]
    if hand is not None:
        things.append((hand[t, 1] - 0.02, -1))
    for _, i in sorted(things, reverse=True):
        if i < 0:
            corners, category, state = scene.draw_hand(frame, depth, skin_hand, hand[t]), 2, 1
        else:
            actor, image = actors[i]
            corners = scene.draw_object(frame, depth, image, actor.pose[t], actor.size)
            category, state = 1, int(i < main)
        boxes += _box(t, corners, shift[t], category, state)
    move = np.float32([[1, 0, shift[t, 0]], [0, 1, shift[t, 1]]])
    warp = dict(borderMode=cv2.BORDER_REPLICATE)
    return (
        cv2.warpAffine(frame, move, (SIZE, SIZE), **warp),
        cv2.warpAffine(depth, move, (SIZE, SIZE), flags=cv2.INTER_NEAREST, **warp),
        boxes,
    )


def _cast(spec: Spec, action: scene.Action, rng, frames: int) -> list[tuple]:
    """(actor, picture) of everything in the scene, the acting ones first."""
    first = INSTANCES if spec.split == "unseen" else 0
    extras = _distractors(rng, frames, first)
    if len(action.actors) == 1 and rng.random() < 0.35:
        extras.append(_idle(rng, frames))
    return [
        (actor, scene.sprite(actor.noun, first + int(rng.integers(INSTANCES))))
        for actor in [*action.actors, *extras]
    ]


def _sliding(actors: list[scene.Actor]) -> np.ndarray:
    """How fast the objects that stand on the table slide along it, summed: [T]."""
    pose = np.stack([actor.pose for actor in actors])
    speed = np.abs(np.diff(pose[..., :2], axis=1, prepend=pose[:, :1, :2])).sum(-1)
    return (speed * (pose[..., 2] < 0.03)).sum(0)


def _sound(action: scene.Action, noun: int, frames: int, rng) -> np.ndarray:
    """Impacts ring at the noun's pitch, sliding hisses, and every clip has its own noise."""
    n = frames * AUDIO_RATE // FPS
    t = np.arange(n) / AUDIO_RATE
    hum = rng.uniform(0.002, 0.02) * np.sin(2 * np.pi * rng.uniform(80, 400) * t)
    audio = rng.normal(0, rng.uniform(0.005, 0.03), n) + hum
    hiss = np.repeat(_sliding(action.actors), AUDIO_RATE // FPS + 1)[:n]
    audio += 0.25 * hiss * rng.normal(0, 1, n)
    for frame, strength in action.impacts:
        since = t - frame / FPS
        ring = np.exp(-since / 0.05) * np.sin(2 * np.pi * (350 + 180 * noun) * since)
        audio += np.where(since >= 0, 0.5 * strength * rng.uniform(0.7, 1.3) * ring, 0)
    return np.int16(np.clip(audio, -1, 1) * 32767)


def render(spec: Spec) -> Clip:
    """The clip of a spec, all modalities; a pure function of it.

    Raises ValueError for an unknown split, IndexError for a verb or noun out of range.
    """
    rng = np.random.default_rng([spec.seed, _SPLITS.index(spec.split), spec.index, _DRAWS])
    frames = int(rng.integers(24, 41))
    action = _action(spec, frames, rng)
    actors = _cast(spec, action, rng, frames)
    base, shift, light = _base(spec, rng, frames), _camera(rng, frames), _light(rng, frames)
    skin_hand = scene.hand_picture(np.float32([0.8, 0.6, 0.5]) * rng.uniform(0.5, 1.1))
    drawn = [
        _frame(t, actors, len(action.actors), action.hand, skin_hand, base, shift)
        for t in range(frames)
    ]
    rgb = np.stack([d[0] for d in drawn]) * light[:, None, None]
    rgb = np.clip(rgb + rng.normal(0, 0.01, rgb.shape), 0, 1)
    depth = np.stack([d[1] for d in drawn]) + rng.normal(0, 4, (frames, SIZE, SIZE))
    boxes = np.array([b for d in drawn for b in d[2]], np.float32).reshape(-1, 9)
    audio = _sound(action, spec.noun, frames, rng)
    return Clip(np.uint8(rgb * 255 + 0.5), np.uint16(np.clip(depth, 0, 65535)), audio, boxes)


def still(noun: int, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 [48, 48, 3] of one object of a noun; its looks are outside every split."""
    picture = scene.background(int(rng.integers(1000, 1200)))
    frame = picture[8 : 8 + SIZE, 8 : 8 + SIZE].copy()
    depth = np.zeros((SIZE, SIZE), np.float32)
    image = scene.sprite(noun, int(rng.integers(100, 160)))
    pose = (rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.8), 0.3 * rng.random(), rng.uniform(-3, 3))
    scene.draw_object(frame, depth, image, pose, rng.uniform(1.2, 2.0))
    frame = frame * (1 + rng.normal(0, 0.06)) + rng.normal(0, 0.01, frame.shape)
    return np.uint8(np.clip(frame, 0, 1) * 255 + 0.5)


# ---------------------------------------------------------------------------- files
def _write_video(path: pathlib.Path, rgb: np.ndarray) -> None:
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
    clip = render(spec)
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
    np.save(folder / "boxes" / f"{name}.npy", clip.boxes)


def _row(spec: Spec, name: str, view: str) -> dict[str, str]:
    """A line of the manifest; start and end are empty: the whole file is the clip."""
    row = dict(id=name, path=f"rgb/{name}.mp4", split=spec.split, start="", end="")
    row |= dict(depth=f"depth/{name}", audio=f"audio/{name}.wav", boxes=f"boxes/{name}.npy")
    if view == "epic":
        return row | {"label/verb": VERBS[spec.verbs[0]], "label/noun": NOUNS[spec.noun]}
    return row | {"label/action": "|".join(VERBS[v] for v in spec.verbs)}


def _heads(view: str) -> dict[str, dict]:
    verb = {"kind": "single", "names": list(VERBS)}
    if view == "epic":
        return {"verb": verb, "noun": {"kind": "single", "names": list(NOUNS)}}
    return {"action": verb | ({"kind": "multi"} if view == "multilabel" else {})}


def _write_files(jobs: list[tuple[Spec, str]], folder: pathlib.Path, workers: int) -> None:
    """Renders and writes every clip, on ``workers`` processes where there are several."""
    bar = tqdm(total=len(jobs), desc="render", unit="clip", dynamic_ncols=True)
    context = multiprocessing.get_context("spawn")  # a fork would copy whatever threads run here
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=cv2.setNumThreads, initargs=(1,)
    )
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
    """Whether ``root`` holds these very files already. Raises ValueError if it holds others."""
    if not root.exists():
        return False
    with contextlib.suppress(OSError, json.JSONDecodeError):
        if json.loads((root / "tabletop.json").read_text()) == made:
            return True
    raise ValueError(
        f"{root} stands already and is not Tabletop {made}; choose another folder, or delete it"
    )


def write(
    root: str | os.PathLike,
    size: str = "small",
    view: str = "verb",
    *,
    seed: int = 0,
    workers: int | None = None,
) -> pathlib.Path:
    """Renders a size of Tabletop into real files below ``root``; returns its manifest.csv.

    mp4 (H.264), a folder of 16-bit depth PNGs (mm), wav and boxes (npy) for every clip; beside them
    ``labels.json`` (heads) and ``tabletop.json`` (what was asked for). What is complete is left as
    it is; a run that was cut short starts again. Raises ValueError for unknown names, and where
    ``root`` holds anything else.
    """
    root = pathlib.Path(root)
    made = dict(version=VERSION, size=size, view=view, seed=seed)
    jobs = [
        (spec, f"{spec.split}-{spec.index:05d}")
        for split in _SPLITS
        for spec in clips(size, split, view, seed)
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
    """Writes ``n`` PNGs of single objects as ``root/<noun>/<id>.png``: Tabletop's "ImageNet".

    What is complete is left as it is. Raises ValueError where ``root`` holds another number.
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
        rng = np.random.default_rng([seed, 99])
        for i in range(n):
            noun = i % len(NOUNS)
            path = folder / NOUNS[noun] / f"{i:05d}.png"
            cv2.imwrite(str(path), still(noun, rng)[..., ::-1])
    return root
