"""Makes detections of perfect boxes: what a detector of hands and objects would find.

It misses things, the more the more they are hidden, finds things where there are none, and places what it
finds with an error; sides and states it does not know. Its scores are honest: of its boxes with a score s, a
share s lies on a thing (an overlap of half or more with one of that category). The constants were chosen once,
before any method was compared (docs/measured.md).
"""

import numpy as np

FOUND = 0.9  # the share of things in full view that are found
HIDDEN = 0.7  # how much of that is lost where a thing is hidden altogether
PLACE = 0.08  # standard deviation of the centre, in widths and heights of the box
SIZE = 0.1  # standard deviation of the logarithm of width and height
FALSE = 0.3  # boxes on nothing, a frame
# Parameters of the Beta distribution of scores; RIGHT / (RIGHT + WRONG) is the share of boxes that are right.
RIGHT, WRONG = 3.6, 0.44


def overlap(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how boxes ``one`` [n, 4] (x1, y1, x2, y2) and ``other`` [m, 4] overlap: the intersection over the
    union, and over the area of ``one``, both [n, m]."""
    one = one[:, None]
    sides = np.minimum(one, other)[..., 2:] - np.maximum(one, other)[..., :2]
    inside = np.prod(np.clip(sides, 0, None), -1)
    first, second = (np.prod(box[..., 2:] - box[..., :2], -1) for box in (one, other))
    return inside / (first + second - inside), inside / first


def _hidden(boxes: np.ndarray) -> np.ndarray:
    """Returns the share of each box [n] that the nearer thing over it, which covers most of it, hides."""
    covered = overlap(boxes[:, 1:5], boxes[:, 1:5])[1]
    # Rows of a frame stand from far to near.
    nearer = np.triu(boxes[:, None, 0] == boxes[:, 0], 1)
    return (covered * nearer).max(1, initial=0)


def _displaced(boxes: np.ndarray, rng) -> np.ndarray:
    """Places the corners [n, 4] with an error that is the larger the larger a box is."""
    centre, size = (boxes[:, 3:5] + boxes[:, 1:3]) / 2, boxes[:, 3:5] - boxes[:, 1:3]
    centre = centre + PLACE * size * rng.normal(0, 1, size.shape)
    half = size * np.exp(SIZE * rng.normal(0, 1, size.shape)) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _false(frames: int, rng) -> np.ndarray:
    """Draws boxes on nothing: rows [n, 9] of frame, corners, category and zeros."""
    frame = np.repeat(np.arange(frames), rng.poisson(FALSE, frames))
    centre, half = rng.uniform(0, 1, (len(frame), 2)), np.exp(rng.normal(np.log(0.15), 0.3, (len(frame), 2)))
    category = 1 + (rng.random(len(frame)) < 0.25)  # every fourth is a hand
    return np.column_stack([frame, centre - half, centre + half, category, np.zeros((len(frame), 3))])


def detections(boxes: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Makes detections float32 [m, 9] of perfect boxes [n, 9] (`render.Clip`) of so many frames, in each frame in
    the order of their scores; side and state are 0."""
    found = boxes[rng.random(len(boxes)) < FOUND * (1 - HIDDEN * _hidden(boxes))]
    rows = np.column_stack([found[:, 0], _displaced(found, rng), found[:, 5], np.zeros((len(found), 3))])
    rows = np.concatenate([rows, _false(frames, rng)])
    rows[:, 1:5] = np.clip(rows[:, 1:5], 0, 1)
    rows = rows[(rows[:, 3:5] - rows[:, 1:3]).min(1) > 0.01]  # half a pixel
    right = is_right(rows, boxes)
    # One more right box in RIGHT, or wrong one in WRONG: so by Bayes's rule a score is the chance of being right.
    rows[:, 6] = rng.beta(RIGHT + right, WRONG + ~right)
    return np.float32(rows[np.lexsort([-rows[:, 6], rows[:, 0]])])


def is_right(rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Tells which detections [m, 9] lie on a thing of their frame and category, by half or more: bool [m]."""
    same = (rows[:, None, [0, 5]] == boxes[:, [0, 5]]).all(-1)
    return (same & (overlap(rows[:, 1:5], boxes[:, 1:5])[0] >= 0.5)).any(1)
