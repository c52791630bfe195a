"""Makes a clip of Tabletop in all its modalities: draws its details at random, then frames, sound and boxes."""

from typing import NamedTuple

import cv2
import numpy as np

from data_prep.tabletop import actions, detect, scene, sound
from data_prep.tabletop.actions import VERBS, Action, Actor
from data_prep.tabletop.scene import NOUNS, SIZE
from data_prep.tabletop.specs import SPLITS, Spec

INSTANCES = 4  # of each noun in train, val and test; 'unseen' has as many others
BACKGROUNDS = 20  # in train; val and test share 20 others, 'unseen' has 20 more
_FIRST_BACKGROUND = dict(train=0, val=BACKGROUNDS, test=BACKGROUNDS, unseen=2 * BACKGROUNDS)
# A clip's draws come from three generators, told apart by these numbers: another one makes other clips, and
# draws of sounds or detections, however many, leave the pictures as they are.
PICTURES, SOUNDS, DETECTIONS = 1, 2, 3


class Clip(NamedTuple):
    """A rendered clip: ``rgb`` uint8 [T, 48, 48, 3], ``depth`` uint16 [T, 48, 48] in mm, ``audio`` int16 [n] at
    16 kHz, ``boxes`` and ``detections`` float32 [n, 9].

    A row of boxes has frame, x1, y1, x2, y2 in [0, 1], category (1 object, 2 hand, as in MMD's STLT), score,
    side, and state (1: takes part in the action). A box is tight around the part of a thing that lies inside
    the image, even where other things hide it. No network may see ``boxes``: what a detector makes of them is in
    ``detections``.
    """

    rgb: np.ndarray
    depth: np.ndarray
    audio: np.ndarray
    boxes: np.ndarray
    detections: np.ndarray


# ---------------------------------------------------------------------------- what is drawn by lot
def _walk(rng, frames: int, step: float) -> np.ndarray:
    """Draws a random walk in pixels, [T, 2], whose steps have the standard deviation ``step``."""
    return np.cumsum(rng.normal(0, step, (frames, 2)), 0)


def _nouns(spec: Spec, rng) -> tuple[int, int]:
    """Returns the clip's own noun and another one, drawn for an action of two objects."""
    other = int((spec.noun + rng.integers(1, len(NOUNS))) % len(NOUNS))
    return spec.noun, other


def _action(spec: Spec, frames: int, rng) -> Action:
    """Makes the clip's verbs one after the other, each with objects of its own."""
    count = len(spec.verbs)
    parts, span = [], frames / count
    for i, verb in enumerate(spec.verbs):
        start = span * (i + rng.uniform(0, 0.2))
        end = span * (i + rng.uniform(0.7, 0.97))
        p = actions.progress(frames, start, end)
        parts.append(actions.act(VERBS[verb], p, rng, _nouns(spec, rng)))
    if count == 1:
        return parts[0]
    # The hand of whichever action is under way; none where that action has none.
    half, gone = int(span), np.array([0.5, -2.0, 0.0])
    hands = [np.broadcast_to(gone, (frames, 3)) if a.hand is None else a.hand for a in parts]
    hand = np.concatenate([hands[0][:half], hands[1][half:]])
    return Action(
        [actor for part in parts for actor in part.actors],
        hand,
        [sound for part in parts for sound in part.sounds],
    )


def _distractors(rng, frames: int, instances: int) -> list[Actor]:
    """Draws up to three objects at the border that take no part; about one in three drifts slowly."""
    found = []
    for _ in range(min(rng.poisson(0.5), 3)):
        x = rng.choice([-1, 1]) * rng.uniform(0.8, 1.0)
        drift = rng.normal(0, 0.15) if rng.random() < 0.3 else 0.0
        pose = actions.poses(frames, x + drift * np.linspace(0, 1, frames), rng.uniform(0.1, 0.95))
        found.append(Actor(int(rng.integers(len(NOUNS))), pose, 1.2))
    return found


def _idle(rng, frames: int) -> Actor:
    """Draws an object further inside that takes no part."""
    pose = actions.poses(frames, rng.choice([-1, 1]) * rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.8))
    return Actor(int(rng.integers(len(NOUNS))), pose)


def _light(rng, frames: int) -> np.ndarray:
    """Draws the gain of every frame and colour, [T, 3]: one of the clip, a slow walk, and a tint."""
    gain = 1 + rng.normal(0, 0.06) + np.cumsum(rng.normal(0, 0.006, frames))
    return gain[:, None] * (1 + rng.normal(0, 0.03, 3))


def _camera(rng, frames: int) -> np.ndarray:
    """Draws the camera's shift in every frame in pixels, [T, 2]: a walk, a shake and a pan."""
    pan = rng.normal(0, 0.05, 2) * np.arange(frames)[:, None]
    return _walk(rng, frames, 0.1) + rng.normal(0, 0.14, (frames, 2)) + pan


def _base(spec: Spec, rng, frames: int):
    """Draws the background: its picture [64, 64, 3] and its place in every frame in pixels [T, 2]."""
    picture = scene.background(_FIRST_BACKGROUND[spec.split] + int(rng.integers(BACKGROUNDS)))
    drift = rng.normal(0, 0.12, 2) if rng.random() < 0.3 else np.zeros(2)
    return picture, drift * np.arange(frames)[:, None] + rng.uniform(-6, 6, 2)


def _box(row: int, corners, shift, category: int, state: int) -> list[list[float]]:
    """Makes the row of a clip's boxes for ``corners`` in pixels, moved by the camera's ``shift``: [row], or []
    where nothing of the thing shows."""
    if corners is None:
        return []
    x1, y1, x2, y2 = np.clip((np.array(corners) + np.tile(shift, 2)) / SIZE, 0, 1)
    seen = min(x2 - x1, y2 - y1) > 0.01  # half a pixel
    return [[row, x1, y1, x2, y2, category, 1.0, 0.0, state]] if seen else []


def _frame(t: int, actors, main: int, hand, skin_hand, base, shift) -> tuple:
    """Draws frame t before light and noise: (image, depth, boxes).

    The first ``main`` of ``actors`` take part in the action; ``base`` is the background's picture and its place
    in every frame. Far things are drawn first, so that near ones hide them.
    """
    picture, drift = base
    matrix = np.float32([[1, 0, drift[t, 0] - 8], [0, 1, drift[t, 1] - 8]])
    frame = cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
    # How far away the table is in every row of the image: `scene.project` the other way round, at z = 0.
    rows = np.clip((43 - np.arange(SIZE)) / 30, -0.2, 1.2)
    depth = np.repeat(scene.distance(rows)[:, None], SIZE, 1).astype(np.float32)
    boxes = []
    things = [(actor.pose[t, 1], i) for i, (actor, _) in enumerate(actors)]
    if hand is not None:
        things.append((hand[t, 1] - 0.02, -1))  # a little nearer than what it holds; -1 stands for the hand
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


def _cast(spec: Spec, action: Action, rng, frames: int) -> list[tuple]:
    """Draws a picture for every object in the scene, those that act first: [(actor, picture)]."""
    # 'unseen' shows instances that no other split has.
    first = INSTANCES if spec.split == "unseen" else 0
    extras = _distractors(rng, frames, first)
    # Otherwise counting objects would tell the verbs of one object from those of two.
    if len(action.actors) == 1 and rng.random() < 0.35:
        extras.append(_idle(rng, frames))
    return [
        (actor, scene.sprite(actor.noun, first + int(rng.integers(INSTANCES))))
        for actor in [*action.actors, *extras]
    ]


def clip(spec: Spec) -> Clip:
    """Renders the clip of a spec in all modalities, as a pure function of it.

    Raises ValueError for an unknown split, IndexError for a verb or noun out of range.
    """
    place = [spec.seed, SPLITS.index(spec.split), spec.index]
    rng, sounds, detections = (np.random.default_rng([*place, n]) for n in (PICTURES, SOUNDS, DETECTIONS))
    frames = int(rng.integers(24, 41))
    action = _action(spec, frames, rng)
    actors = _cast(spec, action, rng, frames)
    base, shift, light = _base(spec, rng, frames), _camera(rng, frames), _light(rng, frames)
    skin_hand = scene.hand_picture(np.float32([0.8, 0.6, 0.5]) * rng.uniform(0.5, 1.1))
    drawn = [_frame(t, actors, len(action.actors), action.hand, skin_hand, base, shift) for t in range(frames)]
    rgb = np.stack([d[0] for d in drawn]) * light[:, None, None]
    rgb = np.clip(rgb + rng.normal(0, 0.01, rgb.shape), 0, 1)
    depth = np.stack([d[1] for d in drawn]) + rng.normal(0, 4, (frames, SIZE, SIZE))
    boxes = np.array([b for d in drawn for b in d[2]], np.float32).reshape(-1, 9)
    return Clip(
        np.uint8(rgb * 255 + 0.5),
        np.uint16(np.clip(depth, 0, 65535)),
        sound.of(action, spec.noun, frames, sounds),
        boxes,
        detect.detections(boxes, frames, detections),
    )


def still(noun: int, rng: np.random.Generator) -> np.ndarray:
    """Renders a picture uint8 [48, 48, 3] of one object of a noun, with an instance and a background that no split
    has."""
    picture = scene.background(int(rng.integers(1000, 1200)))
    frame = picture[8 : 8 + SIZE, 8 : 8 + SIZE].copy()
    depth = np.zeros((SIZE, SIZE), np.float32)
    image = scene.sprite(noun, int(rng.integers(100, 160)))
    pose = (rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.8), 0.3 * rng.random(), rng.uniform(-3, 3))
    scene.draw_object(frame, depth, image, pose, rng.uniform(1.2, 2.0))
    frame = frame * (1 + rng.normal(0, 0.06)) + rng.normal(0, 0.01, frame.shape)
    return np.uint8(np.clip(frame, 0, 1) * 255 + 0.5)
