"""How much each output of a run overfits, in numbers, in a picture and in a sentence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from mmvid.methods import gblend
from mmvid.report import figures
from mmvid.report.text import listed


class Overfitting(NamedTuple):
    """The mean losses of an ``output``, which reads ``streams``: ``chance`` is that of a network that knows
    nothing, ``train`` that on training clips, ``held`` that on others."""

    output: str
    streams: tuple[str, ...]
    chance: float
    train: float
    held: float

    @property
    def change(self) -> gblend.Change:
        """G and O, from a network that knows nothing on."""
        return gblend.change(self.chance, self.chance, self.train, self.held)

    @property
    def ratio(self) -> float:
        """OGR; inf where nothing was gained."""
        return float(self.change.ratio) if self.change.gain > 0 else float("inf")


def rows(found: Mapping[str, Sequence[Overfitting]]) -> list[list[str]]:
    """Makes the table of the outputs of each title: a head, then a line for each."""
    made = [["", "", "training loss", "held-out loss", "G", "O", "OGR"]]
    for title, own in found.items():
        for i, one in enumerate(own):
            ratio = f"{one.ratio:.2f}" if np.isfinite(one.ratio) else "nothing gained"
            gain, over = (f"{float(x):+.3f}" for x in one.change)
            made.append(
                [title if i == 0 else "", one.output, f"{one.train:.3f}", f"{one.held:.3f}", gain, over, ratio]
            )
    return made


def weights(own: Sequence[Overfitting]) -> dict[str, float]:
    """Computes the weights that G-Blend would give these outputs, {output: weight}."""
    losses = np.array([(one.chance, one.chance, one.train, one.held) for one in own]).T
    return dict(zip((one.output for one in own), map(float, gblend.blend_weights(*losses))))


def advice(own: Sequence[Overfitting]) -> str:
    """Says in a sentence which output overfits most, and what to do about it. Joint outputs are passed over where
    there are those of single streams."""
    single = [one for one in own if len(one.streams) == 1] or list(own)
    lost = [one.output for one in single if one.change.gain <= 0]
    if len(lost) == len(single):
        return (
            f"{listed(lost)} know{'s' * (len(lost) == 1)} no more of new clips than chance does: train longer, or "
            "regularise"
        )
    if lost:
        return f"leave {listed(lost)} out, or regularise: it knows no more of new clips than chance does"
    worst = max(single, key=lambda one: one.ratio)
    gain, over = map(float, worst.change)
    said = f"{worst.output} overfits by {over:.2f} for a gain of {gain:.2f}"
    if worst.ratio < 0.1:
        return f"{said}: nothing here overfits much; train longer or take a larger network"
    if len(single) == 1:
        return f"{said}: more clips, augmentation, dropout or fewer updates would help"
    best = min(single, key=lambda one: one.ratio)
    each = ", ".join(f"{output} {weight:.2f}" for output, weight in weights(single).items())
    return (
        f"{said} (OGR {worst.ratio:.2f}), {best.output} least (OGR {best.ratio:.2f}); a joint network does well "
        f"to weigh them unequally, by G-Blend {each}: python -m mmvid train --config=configs/gblend.py"
    )


def figure(title: str, own: Sequence[Overfitting]) -> str:
    """Draws G and O of every output as bars beside each other -> SVG."""
    names = [figures.short(one.output, 24) for one in own]
    with plt.rc_context(figures.STYLE):
        drawn, axis = plt.subplots(figsize=(figures.WIDTH, 0.45 * len(own) + 1.0), layout="constrained")
        places = np.arange(len(own))
        bars = {
            name: axis.barh(places + offset, [float(one.change[i]) for one in own], 0.36, color=figures.COLOURS[i])
            for i, (name, offset) in enumerate((("G, gained on new clips", -0.19), ("O, overfitted by", 0.19)))
        }
        axis.axvline(0, color=figures.SOFT, lw=0.8)
        axis.set_yticks(places, names)
        axis.set_ylim(len(own) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("loss")
        axis.set_title(figures.short(title))
        drawn.legend(list(bars.values()), list(bars), fontsize=7, loc="outside lower left")
        return figures.svg(drawn)
