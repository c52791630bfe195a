"""Tabletop's world: twenty actions as poses over time, and how a frame of them is drawn.

x is left to right (-1..1), y near to far (0..1), z up; the camera looks down obliquely.
Everything is a pure function of a NumPy generator.
"""

from typing import NamedTuple

import cv2
import numpy as np

SIZE = 48
SPRITE = 24
VERBS = (
    "push left", "push right", "pull near", "push far", "lift", "drop", "tip over",
    "rotate clockwise", "rotate counterclockwise", "put behind", "put in front", "cover",
    "uncover", "collide", "bring together", "take apart", "shake", "wobble", "nothing", "pretend",
)  # fmt: skip
NOUNS = ("ball", "box", "wedge", "ring", "star", "cross", "bottle", "book")
# Shape, texture and hue make a noun; instances vary the hue and the texture's scale.
_LOOKS = (
    ("disc", "dots"), ("square", "plain"), ("triangle", "stripes"), ("ring", "plain"),
    ("star", "dots"), ("cross", "checks"), ("bottle", "stripes"), ("book", "checks"),
)  # fmt: skip


class Actor(NamedTuple):
    """An object over time: ``pose`` [T, 4] of x, y, z and angle (radians, clockwise on screen)."""

    noun: int
    pose: np.ndarray
    size: float = 1.5


class Action(NamedTuple):
    """What happens: the actors, the hand's path [T, 3] (None: no hand) and (frame, loudness)."""

    actors: list[Actor]
    hand: np.ndarray | None
    impacts: list[tuple[int, float]]


# ---------------------------------------------------------------------------- actions
def progress(frames: int, start: float, end: float) -> np.ndarray:
    """Smoothstep from 0 to 1 between the instants ``start`` and ``end`` (frames): [T]."""
    p = np.clip((np.arange(frames) - start) / max(end - start, 1), 0, 1)
    return p * p * (3 - 2 * p)


def poses(frames: int, x=0.0, y=0.5, z=0.0, angle=0.0) -> np.ndarray:
    """Poses [T, 4] (x, y, z in the scene's units, angle in radians); scalars or [T] each."""
    return np.stack([np.broadcast_to(v, frames) for v in (x, y, z, angle)], 1).astype(float)


def _reach(hand: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The hand comes from the near edge before the action and leaves after it."""
    before = np.clip(np.arange(len(p)) / max(np.argmax(p > 0.02), 1), 0, 1)
    away = np.array([hand[0, 0] * 0.5 + 0.5, -0.5, 0.2])
    return away + (hand - away) * before[:, None]


def _slide(p, rng, amount, axis: int, sign: int, noun: int) -> Action:
    """Push or pull along x (axis 0) or y (axis 1), the hand on the pushing side."""
    span = amount if axis == 0 else 0.75 * amount
    centre = rng.uniform(-0.2, 0.2) if axis == 0 else 0.5
    path = centre + sign * span * (p - 0.5)
    other = rng.uniform(0.3, 0.7) if axis == 0 else rng.uniform(-0.5, 0.5)
    pose = poses(len(p), path, other) if axis == 0 else poses(len(p), other, path)
    pose[:, 3] = rng.uniform(-0.5, 0.5)
    side = np.zeros(3)
    side[axis] = -sign * (0.32 if axis == 0 else 0.2)
    return Action([Actor(noun, pose)], _reach(pose[:, :3] + side, p), [])


def _vertical(p, rng, amount, down: bool, noun: int) -> Action:
    """Lift, or drop: the hand opens at once and the object falls in a few frames."""
    height = 0.5 + 0.6 * amount
    x, y = rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.6)
    if not down:
        pose = poses(len(p), x, y, height * p, rng.uniform(-0.4, 0.4))
        return Action([Actor(noun, pose)], _reach(pose[:, :3] + [0, 0, 0.3], p), [])
    release = int(np.argmax(p > 0.5))
    fall = np.clip((np.arange(len(p)) - release) / 4, 0, 1)
    pose = poses(len(p), x, y, height * (1 - fall**2), rng.uniform(-0.4, 0.4))
    hand = poses(len(p), x, y, height + 0.3)[:, :3]
    return Action([Actor(noun, pose)], hand, [(min(release + 4, len(p) - 1), 1.0)])


def _turn(p, rng, amount, sign: int, noun: int) -> Action:
    angle = rng.uniform(-np.pi, np.pi) + sign * np.pi * (0.4 + 0.7 * amount) * p
    pose = poses(len(p), rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.7), 0, angle)
    hand = pose[:, :3] + np.stack(
        [0.3 * np.cos(angle), 0.12 * np.sin(angle), 0.1 + 0 * angle], 1
    )  # fmt: skip
    return Action([Actor(noun, pose)], _reach(hand, p), [])


def _tip(p, rng, amount, noun: int) -> Action:
    sign = rng.choice([-1, 1])
    fall = np.clip((p - 0.4) / 0.3, 0, 1) ** 2
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.65)
    pose = poses(len(p), x + sign * 0.25 * fall, y, 0.12 * np.sin(np.pi * fall), 0)
    pose[:, 3] = sign * np.pi / 2 * fall
    hand = poses(len(p), x - sign * (0.4 - 0.15 * p), y, 0.3)[:, :3]
    return Action([Actor(noun, pose)], _reach(hand, p), [(int(np.argmax(fall >= 1)), 0.8)])


def _place(p, rng, amount, behind: bool, nouns) -> Action:
    """One object goes behind or in front of another, in an arc around it."""
    x, y = rng.uniform(-0.25, 0.25), 0.45
    still = poses(len(p), x, y, 0, rng.uniform(-0.4, 0.4))
    side, sign = rng.choice([-1, 1]), 1 if behind else -1
    gap = 0.3 + 0.08 * amount
    moving = poses(len(p), x + side * 0.7 * (1 - p), y + sign * gap * p, 0.15 * np.sin(np.pi * p))
    return Action(
        [Actor(nouns[0], moving), Actor(nouns[1], still)],
        _reach(moving[:, :3] + [side * 0.25, 0, 0.1], p),
        [],
    )


def _cover(p, rng, amount, reverse: bool, nouns) -> Action:
    """A larger object is lowered over another, or taken off it."""
    q = 1 - p if reverse else p
    x, y = rng.uniform(-0.3, 0.3), rng.uniform(0.3, 0.6)
    still = poses(len(p), x, y + 0.02, 0, 0)
    side = rng.choice([-1, 1])
    lid = poses(len(p), x + side * 0.6 * (1 - q) ** 2, y - 0.02, (0.6 + 0.3 * amount) * (1 - q))
    actors = [Actor(nouns[0], still, 1.15), Actor(nouns[1], lid, 2.1)]
    return Action(actors, _reach(lid[:, :3] + [0, 0, 0.4], p), [])


def _meet(p, rng, amount, kind: str, nouns) -> Action:
    """collide: one hits the other, which goes on; bring together and take apart: both move."""
    y, sign = rng.uniform(0.3, 0.65), rng.choice([-1, 1])
    far, near = 0.45 + 0.25 * amount, 0.22
    if kind == "collide":
        hit = 0.45
        a = -far + (far - near) * np.clip(p / hit, 0, 1) + 0.08 * np.clip((p - hit) / 0.3, 0, 1)
        b = near + (0.3 + 0.4 * amount) * np.clip((p - hit) / (1 - hit), 0, 1) ** 0.7
        impacts = [(int(np.argmax(p >= hit)), 1.0)]
    else:
        q = p if kind == "bring together" else 1 - p
        a = -(far - (far - near) * q)
        b, impacts = -a, []
    first = poses(len(p), sign * a, y, 0, rng.uniform(-0.4, 0.4))
    second = poses(len(p), sign * b, y, 0, rng.uniform(-0.4, 0.4))
    hand = first[:, :3] + [-sign * 0.3, 0, 0.05]
    if kind != "collide":
        hand = poses(len(p), 0, y - 0.3, 0.25)[:, :3] + 0.1 * first[:, :3]
    return Action([Actor(nouns[0], first), Actor(nouns[1], second)], _reach(hand, p), impacts)


def _oscillate(p, rng, amount, held: bool, noun: int) -> Action:
    """shake: held in the air and moved to and fro; wobble: rocks on the table and calms down."""
    t = np.arange(len(p))
    active = (p > 0.01) & (p < 0.99)
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.6)
    wave = np.sin(2 * np.pi * t / rng.uniform(4.5, 6.5))
    if held:
        pose = poses(len(p), x + (0.12 + 0.15 * amount) * wave * active, y, 0.45)
        return Action([Actor(noun, pose)], _reach(pose[:, :3] + [0, 0, 0.3], p), [])
    pose = poses(len(p), x, y, 0, (0.25 + 0.4 * amount) * wave * active * (1 - 0.6 * p))
    hand = poses(len(p), x + 0.35 + 0.5 * p, y, 0.1)[:, :3]
    return Action([Actor(noun, pose)], _reach(hand, p), [])


def _idle(p, rng, amount, pretend: bool, noun: int) -> Action:
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.65)
    pose = poses(len(p), x, y, 0, rng.uniform(-np.pi, np.pi))
    if not pretend:
        return Action([Actor(noun, pose)], None, [])
    sign = rng.choice([-1, 1])
    hand = poses(len(p), x - sign * 0.5 + sign * (0.3 + amount) * p, y - 0.12, 0.25)[:, :3]
    return Action([Actor(noun, pose)], _reach(hand, p), [])


def act(verb: str, p: np.ndarray, rng: np.random.Generator, nouns) -> Action:
    """The poses of ``verb`` along the progress ``p`` [T] with the nouns (main, other)."""
    amount, one = rng.uniform(0.4, 0.9), nouns[0]
    slides = {"push left": (0, -1), "push right": (0, 1), "pull near": (1, -1), "push far": (1, 1)}
    if verb in slides:
        return _slide(p, rng, amount, *slides[verb], one)
    if verb in ("lift", "drop"):
        return _vertical(p, rng, amount, verb == "drop", one)
    if verb.startswith("rotate"):
        return _turn(p, rng, amount, -1 if "counter" in verb else 1, one)
    if verb == "tip over":
        return _tip(p, rng, amount, one)
    if verb.startswith("put"):
        return _place(p, rng, amount, "behind" in verb, nouns)
    if verb in ("cover", "uncover"):
        return _cover(p, rng, amount, verb == "uncover", nouns)
    if verb in ("shake", "wobble"):
        return _oscillate(p, rng, amount, verb == "shake", one)
    if verb in ("nothing", "pretend"):
        return _idle(p, rng, amount, verb == "pretend", one)
    return _meet(p, rng, amount, verb, nouns)


# ---------------------------------------------------------------------------- looks
def _hsv(h, s, v) -> np.ndarray:
    pixel = np.float32([[[(h % 1) * 360, s, v]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def _shape(kind: str) -> np.ndarray:
    """A mask [24, 24] in 0..1 of a shape, drawn large and reduced, so that edges are smooth."""
    n = SPRITE * 8
    y, x = np.mgrid[0:n, 0:n] / (n / 2) - 1 + 1 / n
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    masks = {
        "disc": r < 0.9,
        "square": np.maximum(abs(x), abs(y)) < 0.75,
        "triangle": (y < 0.75) & (y > 2.0 * abs(x) - 0.95),
        "ring": (r < 0.92) & (r > 0.45),
        "star": r < 0.55 + 0.38 * np.cos(5 * (angle + np.pi / 2)),
        "cross": (np.maximum(abs(x), abs(y)) < 0.88) & (np.minimum(abs(x), abs(y)) < 0.32),
        "bottle": ((abs(x) < 0.45) & (y > -0.3) & (y < 0.9)) | ((abs(x) < 0.18) & (abs(y) < 0.9)),
        "book": (abs(x) < 0.9) & (abs(y) < 0.55),
    }
    mask = masks[kind].astype(np.float32)
    return cv2.resize(mask, (SPRITE, SPRITE), interpolation=cv2.INTER_AREA)


def texture(kind: str, n: int, period: float, rng: np.random.Generator) -> np.ndarray:
    """A pattern [n, n] in -1..1: stripes, checks, plaid, noise, blobs, dots or plain."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:n, 0:n]
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6)
    w = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6)
    if kind in ("noise", "blobs"):
        field = rng.standard_normal((n, n)).astype(np.float32)
        if kind == "blobs":
            field = cv2.GaussianBlur(field, (0, 0), period / 3)
        return np.clip(field / (field.std() + 1e-6) / 1.5, -1, 1)
    return {
        "stripes": np.sign(np.sin(u)),
        "checks": np.sign(np.sin(u) * np.sin(w)),
        "plaid": (np.sin(u) + np.sin(w)) / 2,
        "dots": np.where((np.sin(u) > 0.3) & (np.sin(w) > 0.3), 1.0, -0.4),
        "plain": np.zeros((n, n)),
    }[kind]


def sprite(noun: int, instance: int) -> np.ndarray:
    """The picture [24, 24, 4] of one instance of a noun: colour times mask, and mask, in 0..1."""
    rng = np.random.default_rng([7, noun, instance])
    shape, kind = _LOOKS[noun]
    colour = _hsv(noun / len(NOUNS) + rng.normal(0, 0.06), rng.uniform(0.5, 0.8), 0.85)
    pattern = texture(kind, SPRITE, rng.uniform(5, 8), rng)
    image = colour * (1 + 0.25 * pattern[..., None])
    # A dark quadrant, so that a turn shows even on a disc.
    image[: SPRITE // 2, : SPRITE // 2] *= 0.55
    mask = _shape(shape)
    return np.dstack([np.clip(image, 0, 1) * mask[..., None], mask]).astype(np.float32)


def background(index: int) -> np.ndarray:
    """Background ``index`` [64, 64, 3] in 0..1: busy enough that RGB alone
    finds motion hard to see."""
    rng = np.random.default_rng([11, index])
    kinds = ("stripes", "checks", "plaid", "noise", "blobs")
    base = rng.uniform(0.15, 0.55) + rng.uniform(-0.12, 0.12, 3)
    pattern = texture(kinds[index % 5], 64, rng.uniform(5, 14), rng)
    tint = 0.1 * rng.uniform(0.6, 1.4, 3)
    return np.clip(base + pattern[..., None] * tint, 0.02, 0.95).astype(np.float32)


# ---------------------------------------------------------------------------- drawing
def project(x, y, z) -> tuple:
    """Scene -> (column, row, scale) of the 48-pixel image."""
    scale = 1.2 - 0.5 * y
    return SIZE / 2 + 22 * scale * x, 43 - 30 * y - 17 * scale * z, scale


def _warp(image: np.ndarray, u, v, zoom, angle) -> np.ndarray:
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    h = (SPRITE - 1) / 2
    matrix = np.float32([[c, -s, u - c * h + s * h], [s, c, v - s * h - c * h]])
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)


def _layer(frame, depth, layer, mask, distance) -> None:
    frame += (layer - frame) * mask[..., None]
    depth[mask > 0.5] = distance


def _extent(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box (x1, y1, x2, y2) in pixels around a mask [48, 48]; None where nothing shows."""
    x, y, width, height = cv2.boundingRect(np.uint8(mask > 0.3))
    return (x, y, x + width, y + height) if width else None


def distance(y, z=0.0):
    """Millimetres from the camera to a point of the scene."""
    return 700 + 900 * y - 150 * z


def hand_picture(skin: np.ndarray) -> np.ndarray:
    """A hand from above [24, 24, 4]: a palm whose arm reaches below the picture's lower edge."""
    canvas = np.zeros((SPRITE, SPRITE, 4), np.float32)
    canvas[..., :3] = skin
    mask = np.zeros((SPRITE, SPRITE), np.float32)
    cv2.ellipse(mask, (12, 9), (7, 6), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    for column in (8, 12, 16):
        cv2.line(mask, (column, 6), (column, 1), 1.0, 2, cv2.LINE_AA)
    canvas[4:8, 8:17, :3] *= 0.8
    canvas[..., 3] = mask
    canvas[..., :3] *= mask[..., None]
    return canvas


def draw_hand(frame, depth, picture, position) -> tuple[int, int, int, int] | None:
    """Draws hand and arm into ``frame`` [48, 48, 3] and ``depth`` [48, 48] (mm), in place.

    Returns the hand's box in pixels without the arm (x1, y1, x2, y2), None where it is outside.
    """
    u, v, scale = project(*position)
    mask = np.zeros((SIZE, SIZE), np.float32)
    start = (int(u * 16), int(v * 16))
    end = (int((0.5 * u + 24) * 16), 60 * 16)
    cv2.line(mask, start, end, 1.0, max(int(4 * scale), 2), cv2.LINE_AA, 4)
    _layer(frame, depth, picture[9, 12, :3], mask, distance(position[1]))
    warped = _warp(picture, u, v, 0.55 * scale, 0.0)
    _layer(frame, depth, warped[..., :3] / np.maximum(warped[..., 3:], 1e-3), warped[..., 3],
           distance(position[1], position[2]) - 30)  # fmt: skip
    return _extent(warped[..., 3])


def draw_object(frame, depth, picture, pose, size: float) -> tuple[int, int, int, int] | None:
    """Draws an object and its shadow into ``frame`` and ``depth`` (see `draw_hand`), in place.

    Returns its box in pixels, hidden parts included, None where it is outside the image.
    """
    x, y, z, angle = pose
    u, v, scale = project(x, y, z)
    zoom = scale * size * 0.46
    ground_u, ground_v, _ = project(x, y, 0)
    shadow = np.zeros((SIZE, SIZE), np.float32)
    axes = (max(int(8.5 * zoom * 16), 16), max(int(3 * zoom * 16), 16))
    centre = (int(ground_u * 16), int((ground_v + 6 * zoom) * 16))
    cv2.ellipse(shadow, centre, axes, 0, 0, 360, 0.35, -1, cv2.LINE_AA, 4)
    frame *= 1 - shadow[..., None]
    warped = _warp(picture, u, v, zoom, angle)
    colour = warped[..., :3] / np.maximum(warped[..., 3:], 1e-3)
    _layer(frame, depth, colour, warped[..., 3], distance(y, z))
    return _extent(warped[..., 3])
