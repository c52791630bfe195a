"""What the loader hands over becomes what networks see: a function a kind of form, inside the jitted step."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from mmvid.streams import MODALITIES, Form, Modality, Stream, form_of


def _last(values, x) -> np.ndarray:
    """Values along the last axis of ``x``, with as many axes: JAX is told to promote no ranks."""
    values = np.asarray(values, np.float32)
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def _pictures(form: Form, modality: Modality, x):
    """uint8 [.., raw] -> (x / unit - mean) / std, [.., channels], where one raw channel is repeated."""
    x = x.astype(np.float32) / np.float32(form.unit)
    mean, std = (form.mean, form.std) if form.mean else (modality.mean, modality.std)
    repeats = form.channels // len(mean)
    return (x - _last(mean * repeats, x)) / _last(std * repeats, x)


def _differences(form: Form, modality: Modality, x):
    """uint8 [.., stack C] -> f[t+1] - f[t] of images in [0, 1], time-major: [.., (stack - 1) C] (TSM)."""
    x = x.astype(np.float32) / np.float32(form.unit)
    colours = form.raw // form.stack
    return x[..., colours:] - x[..., :-colours]


# ---------------------------------------------------------------------------- sound
# The power of samples in [-1, 1] times this goes into the logarithm (VMZ's LogMels).
GAIN = 1.0807e9


def _mel(hertz):
    return 1127 * np.log1p(np.asarray(hertz) / 700)


@functools.lru_cache(maxsize=8)
def mel_filters(window: int, bands: int, rate: int) -> np.ndarray:
    """float32 [window // 2 + 1, bands]: triangles of equal width in mel from 0 to rate / 2, each of sum 1."""
    edges = np.linspace(0, _mel(rate / 2), bands + 2)
    bins = _mel(np.arange(window // 2 + 1) * rate / window)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0)
    return np.float32(filters / filters.sum(0))


def _logmel(form: Form, modality: Modality, x):
    """int16 windows of sound [.., rows, window] -> [.., rows, bands, 1] (G-Blend; VMZ's front end).

    Symmetric Hann window, power spectrum, mel filters, gain; then ln(p) above e and p / e below, which meet
    there, so that silence is 0.
    """
    samples = x.astype(np.float32) / np.float32(1 << 15)
    samples = samples * _last(np.hanning(form.raw), x)
    spectrum = jnp.fft.rfft(samples)
    power = spectrum.real**2 + spectrum.imag**2
    # Accelerators would round the factors of a product to 10 bits or fewer.
    filters = mel_filters(form.raw, form.seen[-1], form.rate)
    power = GAIN * jnp.matmul(power, filters, precision="highest")
    loud = power > math.e
    return jnp.where(loud, jnp.log(jnp.where(loud, power, 1.0)), power / math.e)[..., None]


# ---------------------------------------------------------------------------- boxes
def _layouts(form: Form, modality: Modality, x):
    """float32 boxes as they are: the loader made them sane (data/cut.py)."""
    return x.astype(np.float32)


# ---------------------------------------------------------------------------- augmentation
def _by_row(values, x):
    """[B] beside x [B, ..]."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _mirrored_boxes(x):
    """Layouts [.., 8] as a mirrored picture has them: a left hand (side 1) is a right one (2); empty places
    stay as they are."""
    sided = (x[..., 6] == 1) | (x[..., 6] == 2)
    side = jnp.where(sided, 3 - x[..., 6], x[..., 6])
    columns = [1 - x[..., 2], x[..., 1], 1 - x[..., 0], x[..., 3], x[..., 4], x[..., 5], side, x[..., 7]]
    return jnp.where(x[..., 4:5] > 0, jnp.stack(columns, -1), x)


def _mirrored_pictures(x):
    return x[..., ::-1, :]


_MIRRORED = {"pictures": _mirrored_pictures, "differences": _mirrored_pictures, "layouts": _mirrored_boxes,
             "logmel": lambda x: x}  # fmt: skip


def _flip(stream: Stream, x, flipped):
    """Mirrors the rows that are ``flipped`` [B]; horizontal motion v becomes 255 - v. Sound has no sides."""
    form = form_of(stream)
    mirrored = _MIRRORED[form.made](x)
    if form.negate_x and x.shape[-1] % 2 == 0:
        mirrored = mirrored.at[..., ::2].set(255 - mirrored[..., ::2])
    return jnp.where(_by_row(flipped, x), mirrored, x)


def _brightness(stream: Stream, x, factor):
    """Multiplies each row of a coloured stream by its ``factor`` [B]; 1 changes no bit."""
    if not MODALITIES[stream.modality].coloured:
        return x
    brighter = jnp.round(x.astype(jnp.float32) * _by_row(factor, x))
    return jnp.clip(brighter, 0, 255).astype(x.dtype)


# In the order in which they are painted: (stream, host array [B, ..], draws [B]) -> the same shape.
OPERATIONS = {"flip": _flip, "brightness": _brightness}


def apply_draws(stream: Stream, x, drawn: dict):
    """What the loader drew, {operation: [B]}, done to its array [B, ..]: nothing drawn, nothing changed.
    Streams of one geometry are given one draw. Raises ValueError for an unknown operation."""
    if unknown := sorted(set(drawn) - set(OPERATIONS)):
        raise ValueError(f"the operation {unknown[0]!r} is unknown on the device; known are {sorted(OPERATIONS)}")
    for name, paint in OPERATIONS.items():
        if name in drawn:
            x = paint(stream, x, drawn[name])
    return x


# ---------------------------------------------------------------------------- what networks see
_MADE = {"pictures": _pictures, "differences": _differences, "logmel": _logmel, "layouts": _layouts}


def prepare(stream: Stream, x):
    """The loader's array of a stream, [.., *streams.host_shape] -> float32 [.., *streams.shape].

    Runs inside the jitted step; pictures and their differences are made of NumPy arrays alike.
    """
    form = form_of(stream)
    return _MADE[form.made](form, MODALITIES[stream.modality], x)
