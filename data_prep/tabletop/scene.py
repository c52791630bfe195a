"""Makes the looks of Tabletop's objects, backgrounds and hand, and draws them into a frame.

The camera looks down obliquely on the table; actions.py says where things are on it.
"""

import cv2
import numpy as np

SIZE = 48
SPRITE = 24
NOUNS = ("ball", "box", "wedge", "ring", "star", "cross", "bottle", "book")
# Shape, texture and hue make a noun; instances vary the hue and the texture's scale.
_LOOKS = (
    ("disc", "dots"), ("square", "plain"), ("triangle", "stripes"), ("ring", "plain"),
    ("star", "dots"), ("cross", "checks"), ("bottle", "stripes"), ("book", "checks"),
)  # fmt: skip


# ---------------------------------------------------------------------------- looks
def _hsv(h, s, v) -> np.ndarray:
    """Converts hue, saturation and value to RGB [3], all in 0..1."""
    pixel = np.float32([[[(h % 1) * 360, s, v]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def _shape(kind: str) -> np.ndarray:
    """Makes the mask [24, 24] of a shape, in 0..1; it is drawn large and reduced, so that its edges are smooth."""
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
    """Draws a pattern [n, n] in -1..1 with ``period`` in pixels: stripes, checks, plaid, noise, blobs, dots or
    plain."""
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
    """Makes the picture [24, 24, 4] of one instance of a noun: colour times mask, and the mask, in 0..1."""
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
    """Makes background number ``index`` [64, 64, 3] in 0..1."""
    # Brightness and contrast were chosen such that motion is hard to see in RGB alone.
    rng = np.random.default_rng([11, index])
    kinds = ("stripes", "checks", "plaid", "noise", "blobs")
    base = rng.uniform(0.15, 0.55) + rng.uniform(-0.12, 0.12, 3)
    pattern = texture(kinds[index % 5], 64, rng.uniform(5, 14), rng)
    tint = 0.1 * rng.uniform(0.6, 1.4, 3)
    return np.clip(base + pattern[..., None] * tint, 0.02, 0.95).astype(np.float32)


# ---------------------------------------------------------------------------- drawing
def project(x, y, z) -> tuple:
    """Projects a point of the scene to (column, row, scale) in the 48-pixel image: far things are small and
    high."""
    scale = 1.2 - 0.5 * y
    return SIZE / 2 + 22 * scale * x, 43 - 30 * y - 17 * scale * z, scale


def _warp(image: np.ndarray, u, v, zoom, angle) -> np.ndarray:
    """Turns and zooms a sprite's picture [24, 24, c] and puts its centre at column ``u``, row ``v``: [48, 48,
    c]."""
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    h = (SPRITE - 1) / 2
    matrix = np.float32([[c, -s, u - c * h + s * h], [s, c, v - s * h - c * h]])
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)


def _layer(frame, depth, layer, mask, distance) -> None:
    """Lays ``layer`` over ``frame`` where ``mask`` is, in place, and writes ``distance`` into ``depth`` there."""
    # Colours mix at an edge, but a distance between two things would be one at which there is nothing.
    frame += (layer - frame) * mask[..., None]
    depth[mask > 0.5] = distance


def _extent(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Returns the box (x1, y1, x2, y2) in pixels around a mask [48, 48]; None where nothing shows."""
    x, y, width, height = cv2.boundingRect(np.uint8(mask > 0.3))
    return (x, y, x + width, y + height) if width else None


def distance(y, z=0.0):
    """Returns the millimetres from the camera to a point of the scene."""
    return 700 + 900 * y - 150 * z


def hand_picture(skin: np.ndarray) -> np.ndarray:
    """Draws a hand from above, [24, 24, 4] as `sprite`: a palm and three fingers; the arm is `draw_hand`'s."""
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
    # OpenCV takes sixteenths of a pixel (shift 4), so that a slow hand does not jump.
    start = (int(u * 16), int(v * 16))
    end = (int((0.5 * u + 24) * 16), 60 * 16)
    cv2.line(mask, start, end, 1.0, max(int(4 * scale), 2), cv2.LINE_AA, 4)
    _layer(frame, depth, picture[9, 12, :3], mask, distance(position[1]))
    warped = _warp(picture, u, v, 0.55 * scale, 0.0)
    colour = warped[..., :3] / np.maximum(warped[..., 3:], 1e-3)
    # The back of the hand is 30 mm nearer than what it holds.
    _layer(frame, depth, colour, warped[..., 3], distance(position[1], position[2]) - 30)
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
    # A sprite holds colour times mask, as warping must not mix in the black around it.
    colour = warped[..., :3] / np.maximum(warped[..., 3:], 1e-3)
    _layer(frame, depth, colour, warped[..., 3], distance(y, z))
    return _extent(warped[..., 3])
