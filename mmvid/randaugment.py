"""Changes pixels as strong views ask: RandAugment's operations as PIL does them, and Cutout.

All clips of a batch go one way together, whatever each of them drew: what an operation needs is looked up by its
row in the tables of strong.py. A clip's two operations follow one another, and bytes lie between them: the tones
of the first (one look-up, one blend), one gather for what moves, the tones of the second. A tone and a move so
come in either order; two moves are one gather, for what PIL rounds between them is a place and no value.

These compute with JAX whatever arrays they are given.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mmvid import strong
from mmvid.streams import Strong
from mmvid.strong import ROW

# PIL's grey is so many parts red, green and blue of 65,536.
GREY = np.int32([19595, 38470, 7471])
VALUES = np.arange(256)


def _if_any(rows, names: tuple[str, ...], change, otherwise, *arrays):
    """Returns change(*arrays) where a clip of the batch drew, in ``rows``, one of the operations ``names``, and
    otherwise(*arrays) where none did.

    It saves work, and it has the result written down: a compiler that may fuse what reads a picture several times
    makes it anew each time, and a table for each pixel. On CPUs no barrier keeps XLA from that.
    """
    drawn = rows.reshape(-1, 1) == np.int32([[ROW[name] for name in names]])
    return lax.cond(drawn.any(), change, otherwise, *arrays)


# ---------------------------------------------------------------------------- tones
def _grey(x):
    """Returns PIL's grey of colours uint8 [.., 3]: uint8 [..]."""
    red, green, blue = (x[..., i].astype(np.int32) * GREY[i] for i in range(3))
    return ((red + green + blue + (1 << 15)) >> 16).astype(np.uint8)


def _smooth(x):
    """Returns PIL's SMOOTH of uint8 [T, H, W, S, 3]: the eight neighbours and five times the pixel, divided by 13.
    The outermost pixels stay."""
    wide = x.astype(np.int16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    nine = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = (2 * (nine + 4 * wide[:, 1:-1, 1:-1]) + 13) // 26
    return lax.dynamic_update_slice(x, inner.astype(np.uint8), (0, 1, 1, 0, 0))


def _firsts(x) -> np.ndarray:
    """Returns where each plane's row of 256 begins among those of all planes of x [T, H, W, S, 3]: int32
    [T, 1, 1, S, 3]."""
    planes = x.shape[0], 1, 1, *x.shape[3:]
    return 256 * np.arange(math.prod(planes), dtype=np.int32).reshape(planes)


def _scattered(x):
    counts = jnp.zeros(256 * _firsts(x).size, np.int32)
    return counts.at[(_firsts(x) + x).reshape(-1)].add(1, mode="promise_in_bounds").reshape(-1, 256)


def _compared(x):
    values = np.uint8(VALUES).reshape(*(1,) * x.ndim, 256)
    return (x[..., None] == values).sum((1, 2), dtype=np.int32).reshape(-1, 256)


def _counts(x):
    """Counts the values of each plane of uint8 [T, H, W, S, 3]: int32 [planes, 256], planes = T S 3."""
    # Threads that add to one number wait for each other; one of a CPU takes 100 times as long to compare.
    return lax.platform_dependent(x, cpu=_scattered, default=_compared)


def _equalized(counts):
    """Returns PIL's tables of Equalize for planes of ``counts`` [N, 256]."""
    # A sum over all before it, which is exact in float32: a CPU would take the sums one after the other.
    earlier = np.triu(np.ones((256, 256), np.float32), 1)
    below = jnp.matmul(counts.astype(np.float32), earlier, precision="highest").astype(np.int32)
    step = jnp.max(jnp.where(counts > 0, below, 0), -1, keepdims=True) // 255
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, table, VALUES[None])


def _stretched(counts):
    """Returns PIL's tables of AutoContrast for planes of ``counts`` [N, 256]."""
    low = jnp.argmax(counts > 0, -1, keepdims=True)
    width = 255 - jnp.argmax(counts[:, ::-1] > 0, -1, keepdims=True) - low
    table = jnp.clip((VALUES[None] - low) * 255 // jnp.maximum(width, 1), 0, 255)
    return jnp.where(width > 0, table, VALUES[None])


def _blend(other, x, weight):
    """Returns PIL's blend of bytes, which truncates: other + weight (x - other)."""
    other = other.astype(np.float32)
    return (other + weight * (x.astype(np.float32) - other)).astype(np.uint8)


def _contrasted(grey, weight):
    """Returns tables [T S, 256] of a blend with the mean of ``grey`` [T, H, W, S], frame by frame."""
    pixels = grey.shape[1] * grey.shape[2]
    mean = (2 * grey.sum((1, 2), dtype=np.int32) + pixels) // (2 * pixels)
    return _blend(mean.reshape(-1, 1), VALUES[None], weight)


def _plain_table(x, row, column):
    """Returns the tables of one clip [planes, 256] where an operation asks nothing of its pictures."""
    return jnp.broadcast_to(jnp.asarray(strong.tones())[row, column][None], (_firsts(x).size, 256))


def _table(x, row, column):
    """Returns the tables of one clip [planes, 256]; statistics are those of each picture."""
    counts, weight = _counts(x), jnp.asarray(strong.weights())[row, column]
    contrasted = jnp.repeat(_contrasted(_grey(x), weight), 3, 0)
    table = jnp.where(row == ROW["contrast"], contrasted, _plain_table(x, row, column))
    table = jnp.where(row == ROW["equalize"], _equalized(counts).astype(np.uint8), table)
    return jnp.where(row == ROW["auto_contrast"], _stretched(counts).astype(np.uint8), table)


def _looked_up(x, smooth, table, row, column):
    """Looks the values of one clip up, and blends them with its ``smooth`` pictures or with its grey."""
    found = table.reshape(-1).at[_firsts(x) + x].get(mode="promise_in_bounds")
    other = jnp.where(row == ROW["sharpness"], smooth, found)
    other = jnp.where(row == ROW["color"], _grey(x)[..., None], other)
    return _blend(other, found, jnp.asarray(strong.weights())[row, column])


def _toned(x, rows, columns):
    """Applies an operation to the colours of each clip of uint8 [B, T, H, W, C], where every three channels are a
    picture. What moves pictures changes nothing here."""
    colours = x.reshape(*x.shape[:4], -1, 3)
    statistical = ("auto_contrast", "contrast", "equalize")
    makers = jax.vmap(_table), jax.vmap(_plain_table)
    table = _if_any(rows, statistical, *makers, colours, rows, columns)
    smooth = _if_any(rows, ("sharpness",), jax.vmap(_smooth), lambda x: x, colours)
    return jax.vmap(_looked_up)(colours, smooth, table, rows, columns).reshape(x.shape)


# ---------------------------------------------------------------------------- moves
def _places(rows, columns, height: int, width: int):
    """Returns which pixel each pixel shows after both operations, and whether there is one: int32, bool
    [height * width]."""
    y, x = (places.astype(np.int32) for places in np.indices((height, width)))
    table, inside = jnp.asarray(strong.maps(height, width)), True
    # Backwards: from what is seen to what it was made of.
    for row, column in zip(rows[::-1], columns[::-1]):
        a, b, c, d, e, f = table[row, column]
        x, y = (a * x + b * y + c) >> strong.BITS, (d * x + e * y + f) >> strong.BITS
        inside = inside & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside, y * width + x, 0).reshape(-1), inside.reshape(-1)


def _turned(x, rows, columns):
    """Turns motion along: of uint8 [.., C] the channels two by two, a last odd one stays."""
    first, second = jnp.asarray(strong.turns())[rows, columns]
    (a, b), (c, d) = second @ first
    pairs = x.shape[-1] // 2 * 2
    across, down = (x[..., i:pairs:2].astype(np.float32) - 127.5 for i in range(2))
    both = jnp.stack([a * across + b * down, c * across + d * down], -1) + 127.5
    both = jnp.clip(jnp.round(both), 0, 255).astype(x.dtype).reshape(*x.shape[:-1], pairs)
    return jnp.concatenate([both, x[..., pairs:]], -1)


def _square(centre, height: int, width: int):
    """Tells what Cutout covers, bool [height, width]: as FixMatch's code draws it, one pixel more than half a
    side, pushed inwards at the left and upper edges, clipped at the others."""
    size, covered = min(height, width) // 2, []
    for share, side in zip(centre, (width, height)):
        begin = jnp.floor(jnp.maximum(share * side - size / 2, 0))
        place = np.arange(side, dtype=np.float32)
        covered.append((place >= begin) & (place <= begin + size))
    return covered[1][:, None] & covered[0][None]


# ---------------------------------------------------------------------------- clips
def _blanks(how: Strong, x):
    """Returns what lies outside of a moved clip [T, H, W, C] and in the square, uint8 [C] both, and whether it is
    motion that was kept as colours."""
    fill, cut = (np.full(x.shape[-1], value, np.uint8) for value in (how.fill, how.cut))
    if not how.vectors or x.shape[-1] % 2 == 0:
        return fill, cut, False
    # Of (u, v, 0) the last stays empty; in colours what rests is white.
    colours = x[..., -1].any()
    fill, cut = (jnp.where(colours, np.uint8(255), np.append(v[:-1], np.uint8(0))) for v in (fill, cut))
    return fill, cut, colours


def _moved(how: Strong, x, rows, columns):
    """Moves one clip [T, H, W, C] by both of its operations."""
    time, height, width, channels = x.shape
    fill, _, colours = _blanks(how, x)
    # No hue turns here, so that colours are shifted alone.
    rows = jnp.where(colours & (rows < ROW["translate_x"]), ROW["identity"], rows)
    index, inside = _places(rows, columns, height, width)
    moved = x.reshape(time, height * width, channels).at[:, index].get(mode="promise_in_bounds")
    moved = _turned(moved, rows, columns) if how.vectors else moved
    return jnp.where(inside[None, :, None], moved, fill[None, None]).reshape(x.shape)


def _cut(how: Strong, x, centre):
    """Cuts the square out of one clip [T, H, W, C]."""
    _, cut, _ = _blanks(how, x)
    return jnp.where(_square(centre, *x.shape[1:3])[None, :, :, None], cut[None, None, None], x)


@functools.partial(jax.jit, static_argnums=0)
def paint(how: Strong, x, drawn):
    """Returns the strong views of clips uint8 [B, T, H, W, C] by what `strong.draw` drew for them, [B, 3, 2].

    With ``how.tones`` every three channels are a picture in colour. Every frame of a clip, and every picture of a
    stack, goes through the same operations.
    """
    rows, columns = (drawn[:, :2, i].astype(np.int32) for i in range(2))
    columns = columns + (strong.LEVELS - 1)

    def tone(x, i):
        own = x, rows[:, i], columns[:, i]
        return _if_any(rows[:, i], strong.TONES, _toned, lambda x, *_: x, *own) if how.tones else x

    moved = jax.vmap(functools.partial(_moved, how))
    x = _if_any(rows, strong.MOVES, moved, lambda x, *_: x, tone(x, 0), rows, columns)
    return jax.vmap(functools.partial(_cut, how))(tone(x, 1), drawn[:, 2])
