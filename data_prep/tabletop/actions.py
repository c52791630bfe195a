"""Tabletop's twenty actions, as poses of objects and of a hand over time.

x runs from left to right (-1..1), y from near to far (0..1), z upwards from the table (0); `scene.project` maps
them to pixels. Everything is a pure function of a NumPy generator: the order of its draws is part of the dataset,
and a change of it makes other clips (`render.PICTURES`).
"""

from typing import NamedTuple

import numpy as np

# In the order of their class ids.
VERBS = (
    "push left", "push right", "pull near", "push far", "lift", "drop", "tip over",
    "rotate clockwise", "rotate counterclockwise", "put behind", "put in front", "cover",
    "uncover", "collide", "bring together", "take apart", "shake", "wobble", "nothing", "pretend",
)  # fmt: skip


class Actor(NamedTuple):
    """An object over time: ``noun`` is its place in NOUNS, ``pose`` [T, 4] has x, y, z and angle (radians,
    clockwise on screen), and ``size`` is a factor on its picture."""

    noun: int
    pose: np.ndarray
    size: float = 1.5


class Sound(NamedTuple):
    """What is heard of an action: a ``kind`` of sound.py, which begins at ``frame`` (a fraction where it falls
    between two) and, if it is no stroke, lasts until ``end``."""

    kind: str
    frame: float
    loudness: float = 1.0
    end: float = 0.0


class Action(NamedTuple):
    """What happens in a clip: the actors, the hand's path [T, 3] (None where there is no hand), and what is heard
    of it besides things that slide."""

    actors: list[Actor]
    hand: np.ndarray | None
    sounds: list[Sound]


def progress(frames: int, start: float, end: float) -> np.ndarray:
    """Returns how far an action has got in each frame: a smoothstep from 0 at ``start`` to 1 at ``end`` (in
    frames): [T]."""
    p = np.clip((np.arange(frames) - start) / max(end - start, 1), 0, 1)
    return p * p * (3 - 2 * p)


def poses(frames: int, x=0.0, y=0.5, z=0.0, angle=0.0) -> np.ndarray:
    """Makes poses [T, 4] of x, y, z (in the scene's units) and angle (radians), each a scalar or [T]."""
    return np.stack([np.broadcast_to(v, frames) for v in (x, y, z, angle)], 1).astype(float)


def _start(p: np.ndarray) -> int:
    """Returns the first frame in which an action is under way."""
    return int(np.argmax(p > 0.02))


def _end(p: np.ndarray) -> int:
    """Returns the first frame in which an action is done."""
    return int(np.argmax(p > 0.98))


def _reach(hand: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Lets the hand come from beyond the near edge to its path before the action begins: [T, 3] -> [T, 3]."""
    # It starts out of sight: y = -0.5 lies below the image's lower edge.
    before = np.clip(np.arange(len(p)) / max(_start(p), 1), 0, 1)
    away = np.array([hand[0, 0] * 0.5 + 0.5, -0.5, 0.2])
    return away + (hand - away) * before[:, None]


def _slide(p, rng, amount, axis: int, sign: int, noun: int) -> Action:
    """Pushes or pulls along x (axis 0) or y (axis 1) in direction ``sign``, with the hand on the pushing side."""
    # In depth a shorter way: y spans 1 from near to far, x spans 2 from left to right.
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
    """Lifts an object, or drops it (``down``): the hand lets go and the object falls within four frames."""
    height = 0.5 + 0.6 * amount
    x, y = rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.6)
    if not down:
        pose = poses(len(p), x, y, height * p, rng.uniform(-0.4, 0.4))
        return Action([Actor(noun, pose)], _reach(pose[:, :3] + [0, 0, 0.3], p), [Sound("high click", _start(p))])
    release = int(np.argmax(p > 0.5))
    # Height goes with the square of time, as in free fall.
    fall = np.clip((np.arange(len(p)) - release) / 4, 0, 1)
    pose = poses(len(p), x, y, height * (1 - fall**2), rng.uniform(-0.4, 0.4))
    hand = poses(len(p), x, y, height + 0.3)[:, :3]
    return Action([Actor(noun, pose)], hand, [Sound("impact", min(release + 4, len(p) - 1))])


def _turn(p, rng, amount, sign: int, noun: int) -> Action:
    """Rotates an object on the spot, clockwise (``sign`` 1) or counterclockwise (-1), and the hand with it."""
    # The first angle is drawn from the whole circle: only the motion tells the two senses apart.
    angle = rng.uniform(-np.pi, np.pi) + sign * np.pi * (0.4 + 0.7 * amount) * p
    pose = poses(len(p), rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.7), 0, angle)
    hand = pose[:, :3] + np.stack([0.3 * np.cos(angle), 0.12 * np.sin(angle), 0.1 + 0 * angle], 1)
    scrape = Sound("rising scrape" if sign > 0 else "falling scrape", _start(p), end=_end(p))
    return Action([Actor(noun, pose)], _reach(hand, p), [scrape])


def _tip(p, rng, amount, noun: int) -> Action:
    """Tips an object over: the hand pushes at its top, and it falls on its side and strikes the table."""
    sign = rng.choice([-1, 1])
    fall = np.clip((p - 0.4) / 0.3, 0, 1) ** 2
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.65)
    pose = poses(len(p), x + sign * 0.25 * fall, y, 0.12 * np.sin(np.pi * fall), 0)
    pose[:, 3] = sign * np.pi / 2 * fall
    hand = poses(len(p), x - sign * (0.4 - 0.15 * p), y, 0.3)[:, :3]
    return Action([Actor(noun, pose)], _reach(hand, p), [Sound("impact", int(np.argmax(fall >= 1)), 0.8)])


def _place(p, rng, amount, behind: bool, nouns) -> Action:
    """Puts one object behind or in front of another, which stands still; it comes from one side, in an arc."""
    # Both verbs may come from either side, and differ in the depth of where they end.
    x, y = rng.uniform(-0.25, 0.25), 0.45
    still = poses(len(p), x, y, 0, rng.uniform(-0.4, 0.4))
    side, sign = rng.choice([-1, 1]), 1 if behind else -1
    gap = 0.3 + 0.08 * amount
    moving = poses(len(p), x + side * 0.7 * (1 - p), y + sign * gap * p, 0.15 * np.sin(np.pi * p))
    return Action(
        [Actor(nouns[0], moving), Actor(nouns[1], still)],
        _reach(moving[:, :3] + [side * 0.25, 0, 0.1], p),
        [Sound("dull knock", _end(p))],
    )


def _cover(p, rng, amount, reverse: bool, nouns) -> Action:
    """Covers an object by a larger one, which is lowered over it, or uncovers it again (``reverse``)."""
    # The objects take one path, which is run through in either direction.
    q = 1 - p if reverse else p
    x, y = rng.uniform(-0.3, 0.3), rng.uniform(0.3, 0.6)
    still = poses(len(p), x, y + 0.02, 0, 0)
    side = rng.choice([-1, 1])
    lid = poses(len(p), x + side * 0.6 * (1 - q) ** 2, y - 0.02, (0.6 + 0.3 * amount) * (1 - q))
    actors = [Actor(nouns[0], still, 1.15), Actor(nouns[1], lid, 2.1)]
    sound = Sound("click", _start(p)) if reverse else Sound("dull knock", _end(p))
    return Action(actors, _reach(lid[:, :3] + [0, 0, 0.4], p), [sound])


def _meet(p, rng, amount, kind: str, nouns) -> Action:
    """Lets one object hit another, which moves on ("collide"), or brings two together, or takes them apart."""
    # Positions are mirrored at random, so that no verb has a side.
    y, sign = rng.uniform(0.3, 0.65), rng.choice([-1, 1])
    far, near = 0.45 + 0.25 * amount, 0.22
    if kind == "collide":
        hit = 0.45
        a = -far + (far - near) * np.clip(p / hit, 0, 1) + 0.08 * np.clip((p - hit) / 0.3, 0, 1)
        b = near + (0.3 + 0.4 * amount) * np.clip((p - hit) / (1 - hit), 0, 1) ** 0.7
        sound = Sound("impact", int(np.argmax(p >= hit)))
    else:
        q = p if kind == "bring together" else 1 - p
        a = -(far - (far - near) * q)
        b = -a
        sound = Sound("click", _end(p) if kind == "bring together" else _start(p))
    first = poses(len(p), sign * a, y, 0, rng.uniform(-0.4, 0.4))
    second = poses(len(p), sign * b, y, 0, rng.uniform(-0.4, 0.4))
    hand = first[:, :3] + [-sign * 0.3, 0, 0.05]
    if kind != "collide":
        hand = poses(len(p), 0, y - 0.3, 0.25)[:, :3] + 0.1 * first[:, :3]
    return Action([Actor(nouns[0], first), Actor(nouns[1], second)], _reach(hand, p), [sound])


def _oscillate(p, rng, amount, held: bool, noun: int) -> Action:
    """Shakes an object in the air (``held``), or lets it wobble: it rocks on the table and calms down."""
    t = np.arange(len(p))
    active = (p > 0.01) & (p < 0.99)
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.6)
    # About two swings a second, at 12 frames a second.
    period = rng.uniform(4.5, 6.5)
    wave = np.sin(2 * np.pi * t / period)
    # The wave is 0, upright, at whole halves of a period, and the swing ends a quarter later.
    halves = period * (np.arange(len(p) // 2 + 1) / 2 + (0.25 if held else 0))
    heard = [h for h in halves if h < len(p) and active[int(h)]]
    if held:
        pose = poses(len(p), x + (0.12 + 0.15 * amount) * wave * active, y, 0.45)
        rattles = [Sound("rattle", h) for h in heard]
        return Action([Actor(noun, pose)], _reach(pose[:, :3] + [0, 0, 0.3], p), rattles)
    pose = poses(len(p), x, y, 0, (0.25 + 0.4 * amount) * wave * active * (1 - 0.6 * p))
    hand = poses(len(p), x + 0.35 + 0.5 * p, y, 0.1)[:, :3]
    knocks = [Sound("knock", h, 1 - 0.6 * p[int(h)]) for h in heard]
    return Action([Actor(noun, pose)], _reach(hand, p), knocks)


def _idle(p, rng, amount, pretend: bool, noun: int) -> Action:
    """Lets an object lie there, without a hand, or with one that passes without touching it (``pretend``)."""
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(0.25, 0.65)
    pose = poses(len(p), x, y, 0, rng.uniform(-np.pi, np.pi))
    if not pretend:
        return Action([Actor(noun, pose)], None, [])
    sign = rng.choice([-1, 1])
    hand = poses(len(p), x - sign * 0.5 + sign * (0.3 + amount) * p, y - 0.12, 0.25)[:, :3]
    return Action([Actor(noun, pose)], _reach(hand, p), [])


def act(verb: str, p: np.ndarray, rng: np.random.Generator, nouns) -> Action:
    """Makes the action ``verb`` along the progress ``p`` [T], with the ``nouns`` (main, other)."""
    # How far, how high or how fast: an action must not be told by its size.
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
