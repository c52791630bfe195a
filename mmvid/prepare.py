"""Turns the loader's arrays into what networks see, inside the jitted step: one function for each kind of form."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from mmvid import lowering
from mmvid.streams import MODALITIES, Form, Modality, Stream, form_of, nearest


def _last(values, x) -> np.ndarray:
    """Returns ``values`` along the last of as many axes as ``x`` has: the tests forbid JAX to promote ranks."""
    values = np.asarray(values, np.float32)
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def _pictures(form: Form, modality: Modality, x):
    """Normalises uint8 [.., raw] to float32 (x / unit - mean) / std, [.., channels].

    Mean and std are repeated to fill the channels; one raw channel becomes several by broadcasting.
    """
    x = x.astype(np.float32) / np.float32(form.unit)
    mean, std = (form.mean, form.std) if form.mean else (modality.mean, modality.std)
    repeats = form.channels // len(mean)
    return (x - _last(mean * repeats, x)) / _last(std * repeats, x)


def _differences(form: Form, modality: Modality, x):
    """Turns stacked frames uint8 [.., stack C] into the differences f[t+1] - f[t] of images in [0, 1].

    The result is time-major, float32 [.., (stack - 1) C] (TSM's RGBDiff).
    """
    x = x.astype(np.float32) / np.float32(form.unit)
    colours = form.raw // form.stack
    return x[..., colours:] - x[..., :-colours]


# ---------------------------------------------------------------------------- sound
# The power of samples in [-1, 1] times this goes into the logarithm (VMZ's LogMels).
GAIN = 1.0807e9


def _mel(hertz):
    """Converts hertz to mel, 1127 ln(1 + f / 700)."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


@functools.lru_cache(maxsize=8)
def mel_filters(window: int, bands: int, rate: int) -> np.ndarray:
    """Returns the mel filters, float32 [window // 2 + 1, bands]: triangles of equal width in mel, which cover
    0 to ``rate`` / 2 Hz and sum to 1 each."""
    edges = np.linspace(0, _mel(rate / 2), bands + 2)
    bins = _mel(np.arange(window // 2 + 1) * rate / window)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0)
    return np.float32(filters / filters.sum(0))


def _waves(samples: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a Fourier transform of ``length`` as cosines and sines: float32 [samples, length // 2 + 1]."""
    angles = 2 * np.pi / length * np.outer(np.arange(samples), np.arange(length // 2 + 1))
    return np.float32(np.cos(angles)), np.float32(np.sin(angles))


def _product(x, matrix: np.ndarray):
    """Multiplies by a ``matrix`` without rounding of the factors, as accelerators would to 10 bits or fewer."""
    return jnp.matmul(x, matrix, precision="highest")


def _power(x, window: np.ndarray, length: int):
    """Returns the power spectra of pieces of sound int16 [.., n], float32 [.., length // 2 + 1], each shaped by a
    ``window`` [n] and filled up with zeros to ``length``."""
    samples = x.astype(np.float32) / np.float32(1 << 15)
    shaped = samples * _last(window, x)
    if lowering.is_portable():
        # What jax2onnx makes of a Fourier transform onnxruntime refuses.
        cosines, sines = _waves(x.shape[-1], length)
        return _product(shaped, cosines) ** 2 + _product(shaped, sines) ** 2
    spectrum = jnp.fft.rfft(shaped, length)
    return spectrum.real**2 + spectrum.imag**2


def _logmel(form: Form, modality: Modality, x):
    """Turns windows of sound, int16 [.., rows, window], into log-mel [.., rows, bands, 1] (G-Blend; VMZ's code).

    Each window goes through a symmetric Hann window, the power spectrum, the mel filters and the gain. The
    power p becomes ln(p) above e and p / e below; the two meet at e, and silence is 0 rather than -inf.
    """
    power = _power(x, np.hanning(form.raw), form.raw)
    power = GAIN * _product(power, mel_filters(form.raw, form.seen[-1], form.rate))
    # The inner `where` keeps the logarithm of 0 out of the branch that is not taken.
    loud = power > math.e
    return jnp.where(loud, jnp.log(jnp.where(loud, power, 1.0)), power / math.e)[..., None]


# What the released code of MMD leaves at torchaudio's defaults, and the length of its Fourier transform.
FFT, BANDS = 1024, 128


@functools.lru_cache(maxsize=8)
def htk_filters(rate: int) -> np.ndarray:
    """Returns torchaudio's mel filters, float32 [513, 128]: triangles over frequency, of height 1, whose corners
    are evenly spaced by HTK's formula, mel = 2595 log10(1 + f / 700), from 0 to ``rate`` / 2 Hz."""
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, FFT // 2 + 1)[:, None]
    rising = (hertz - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - hertz) / np.diff(corners)[1:]
    return np.float32(np.maximum(np.minimum(rising, falling), 0))


def _decibels(form: Form, modality: Modality, x):
    """Turns windows of sound, int16 [.., side, window], into pictures of log-mel, [.., side, side, channels]: low
    tones come first along the height, time runs along the width (MMD's code).

    Each window goes through a periodic Hann window, the power spectrum and the mel filters; bands are picked like
    columns (`streams.nearest`) before the logarithm. Channels are copies. The Fourier transform is faster than
    two products with cosines and sines, 369 against 512 ms for 57,344 windows on two CPU cores.
    """
    power = _power(x, np.hanning(form.raw + 1)[:-1], FFT)
    # Each band that is shown is computed once, however many rows show it.
    bands, rows = np.unique(nearest(BANDS, x.shape[-2]), return_inverse=True)
    # The rate is that of the code, whatever the sound's is.
    power = _product(power, htk_filters(16_000)[:, bands])
    levels = (10 * jnp.log10(jnp.maximum(power, 1e-10)) - form.mean[0]) / form.std[0]
    pictures = jnp.swapaxes(levels[..., rows], -1, -2)[..., None]
    return jnp.broadcast_to(pictures, (*pictures.shape[:-1], form.channels))


# An odd length has one spectrum's frequency for each of 256 rows.
SPECTRUM, FLOOR = 511, 1e-6


def _spectrogram(form: Form, modality: Modality, x):
    """Turns windows of sound, int16 [.., rows, window], into ln(power + 1e-6), [.., rows, 256, 1]: time down,
    frequency across (TBN's code; the audio of G-Blend's EPIC-Kitchens).

    Each window goes through a periodic Hann window and a Fourier transform of 511 samples, no mel filters.
    """
    power = _power(x, np.hanning(form.raw + 1)[:-1], SPECTRUM)
    return jnp.log(power + FLOOR)[..., None]


# ---------------------------------------------------------------------------- boxes
def _layouts(form: Form, modality: Modality, x):
    """Leaves boxes as they are, in float32: the loader has made them valid (`cut._sane`)."""
    return x.astype(np.float32)


# ---------------------------------------------------------------------------- what networks see
_MADE = {
    "pictures": _pictures,
    "differences": _differences,
    "logmel": _logmel,
    "decibels": _decibels,
    "spectrogram": _spectrogram,
    "layouts": _layouts,
}


def prepare(stream: Stream, x):
    """Turns the loader's array of a stream, [.., *streams.host_shape], into float32 [.., *streams.shape].

    It runs inside the jitted step. Given NumPy arrays, it returns NumPy arrays, but for sound.
    """
    form = form_of(stream)
    return _MADE[form.made](form, MODALITIES[stream.modality], x)
