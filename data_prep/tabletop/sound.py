"""Makes a clip's sound: what is heard of its action, things that slide, and the room.

What a kind of sound is like says a verb's nature and not its name: a dull knock ends three verbs, a click begins
or ends three others. The room is different in every clip, which is what a network that hears it can memorise.
"""

from typing import NamedTuple

import numpy as np

from data_prep.tabletop.actions import Action, Actor, Sound

FPS = 12
AUDIO_RATE = 16_000


class Stroke(NamedTuple):
    """A sound that dies away within ``decay`` seconds: a tone of ``pitch`` Hz (0: the noun's own), of which
    ``noise`` is a share that is no tone."""

    pitch: float
    decay: float
    noise: float
    loudness: float


STROKES = {
    "impact": Stroke(0, 0.05, 0.0, 0.5),
    "rattle": Stroke(3000, 0.02, 0.8, 0.3),
    "knock": Stroke(800, 0.015, 0.3, 0.35),
    "dull knock": Stroke(150, 0.04, 0.2, 0.5),
    "click": Stroke(2000, 0.006, 0.3, 0.4),
    "high click": Stroke(5500, 0.006, 0.1, 0.4),
}
# The pitches in Hz between which a scraping tone moves.
SCRAPES = {"rising scrape": (400, 1600), "falling scrape": (1600, 400)}


def _stroke(t: np.ndarray, kind: Stroke, noun: int, rng) -> np.ndarray:
    """Makes a stroke that begins at time 0 of ``t`` [n], in seconds."""
    tone = np.sin(2 * np.pi * (kind.pitch or 350 + 180 * noun) * t)
    mixed = (1 - kind.noise) * tone + kind.noise * rng.normal(0, 1, len(t))
    # Times before the stroke would be large numbers, which are not used.
    return np.where(t >= 0, kind.loudness * np.exp(-np.maximum(t, 0) / kind.decay) * mixed, 0)


def _scrape(t: np.ndarray, seconds: float, low: float, high: float, rng) -> np.ndarray:
    """Makes a rough tone that lasts from time 0 of ``t`` [n] for so many ``seconds`` and goes from pitch ``low``
    to ``high`` in Hz, in even steps of pitch."""
    done = np.clip(t / seconds, 0, 1)
    # The integral of low (high / low) ** done: a pitch that is multiplied by the same factor every second.
    rate = np.log(high / low)
    turns = low * seconds * np.expm1(rate * done) / rate
    tone = np.sin(2 * np.pi * turns) + 0.5 * np.sin(4 * np.pi * turns)
    rough = 1 + 0.5 * np.repeat(rng.normal(0, 1, len(t) // 80 + 1), 80)[: len(t)]
    return 0.08 * np.sin(np.pi * done) * rough * tone


def _room(n: int, rng) -> np.ndarray:
    """Draws the clip's room tone [n]: noise whose spectrum is smooth and random, its log-gain of a standard
    deviation of 1, and a hum."""
    loudness, white = rng.uniform(0.005, 0.03), rng.normal(0, 1, n)
    pitch = np.fft.rfftfreq(n, 1 / AUDIO_RATE)
    # Gains drawn at ten pitches an equal way apart as one hears them, and lines between them.
    knots = np.geomspace(60, AUDIO_RATE / 2, 10)
    gain = np.exp(np.interp(np.log(np.maximum(pitch, 1)), np.log(knots), rng.normal(0, 1, len(knots))))
    t = np.arange(n) / AUDIO_RATE
    hum = rng.uniform(0.002, 0.02) * np.sin(2 * np.pi * rng.uniform(80, 400) * t)
    tone = np.fft.irfft(np.fft.rfft(white) * gain, n)
    return loudness * tone / tone.std() + hum


def _sliding(actors: list[Actor]) -> np.ndarray:
    """Returns how fast the objects on the table slide along it, summed over them, in units per frame: [T]."""
    pose = np.stack([actor.pose for actor in actors])
    speed = np.abs(np.diff(pose[..., :2], axis=1, prepend=pose[:, :1, :2])).sum(-1)
    return (speed * (pose[..., 2] < 0.03)).sum(0)


def _heard(sound: Sound, t: np.ndarray, noun: int, rng) -> np.ndarray:
    """Makes one sound of an action, in a loudness of its own."""
    since, loudness = t - sound.frame / FPS, sound.loudness * rng.uniform(0.7, 1.3)
    if sound.kind in STROKES:
        return loudness * _stroke(since, STROKES[sound.kind], noun, rng)
    return loudness * _scrape(since, (sound.end - sound.frame) / FPS, *SCRAPES[sound.kind], rng)


def of(action: Action, noun: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Makes the sound of ``frames`` frames of an action with a noun, int16 [n] at AUDIO_RATE.

    An impact rings at the noun's pitch, what slides hisses, and the room is the clip's own.
    """
    n = frames * AUDIO_RATE // FPS
    t = np.arange(n) / AUDIO_RATE
    hiss = np.repeat(_sliding(action.actors), AUDIO_RATE // FPS + 1)[:n]
    audio = _room(n, rng) + 0.25 * hiss * rng.normal(0, 1, n)
    audio += sum(_heard(sound, t, noun, rng) for sound in action.sounds)
    return np.int16(np.clip(audio, -1, 1) * 32767)
