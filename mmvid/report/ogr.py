"""How much each output of a run overfits, in numbers, in a picture and in a sentence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from mmvid.methods import gblend
from mmvid.report import figures
from mmvid.report.text import listed, percent

# The OGR below which nobody need worry, and the share of chance's loss below which clips have been learnt.
SMALL, LEARNT = 0.1, 0.8


class Overfitting(NamedTuple):
    """The mean losses of an ``output``, which reads ``streams``: ``chance`` is that of a network that knows
    nothing, ``train`` that on training clips, ``held`` that on others. ``right`` is its top-1 on the latter,
    ``guess`` that of chance; nan where labels are of several classes."""

    output: str
    streams: tuple[str, ...]
    chance: float
    train: float
    held: float
    right: float = float("nan")
    guess: float = float("nan")

    @property
    def named(self) -> str:
        """Its name, with how often it is right."""
        return self.output + (f" (top-1 {percent(self.right)})" if np.isfinite(self.right) else "")

    @property
    def change(self) -> gblend.Change:
        """G and O, from a network that knows nothing on."""
        return gblend.change(self.chance, self.chance, self.train, self.held)

    @property
    def ratio(self) -> float:
        """OGR; inf where nothing was gained."""
        return float(self.change.ratio) if self.change.gain > 0 else float("inf")

    @property
    def signed(self) -> float:
        """O / G, below 0 where new clips are easier than those of training."""
        return float(self.change.overfitting / self.change.gain) if self.change.gain > 0 else float("inf")


def rows(found: Mapping[str, Sequence[Overfitting]]) -> list[list[str]]:
    """Makes the table of the outputs of each title: a head, then a line for each."""
    made = [["", "", "training loss", "held-out loss", "G", "O", "OGR", "held-out top-1"]]
    for title, own in found.items():
        for i, one in enumerate(own):
            ratio = f"{one.ratio:.2f}" if np.isfinite(one.ratio) else "nothing gained"
            gain, over = (f"{float(x):+.3f}" for x in one.change)
            losses, right = (f"{one.train:.3f}", f"{one.held:.3f}"), percent(one.right) if one.right >= 0 else "-"
            made.append([title if i == 0 else "", one.output, *losses, gain, over, ratio, right])
    return made


def weights(own: Sequence[Overfitting]) -> dict[str, float]:
    """Computes the weights that G-Blend would give these outputs, {output: weight}."""
    losses = np.array([(one.chance, one.chance, one.train, one.held) for one in own]).T
    return dict(zip((one.output for one in own), map(float, gblend.blend_weights(*losses))))


def compared(found: Mapping[str, Sequence[Overfitting]]) -> dict[str, list[Overfitting]]:
    """Chooses what the advice on a run compares, {title: outputs}: of each stream the first output that reads it
    alone; where none does, of all that are read together the first."""
    every = [(title, one) for title, own in found.items() for one in own]
    chosen: dict[tuple[str, ...], tuple[str, Overfitting]] = {}
    for title, one in [pair for pair in every if len(pair[1].streams) == 1] or every:
        chosen.setdefault(one.streams, (title, one))
    return {t: [one for title, one in chosen.values() if title == t] for t, _ in chosen.values()}


def named(chosen: Mapping[str, Sequence[Overfitting]]) -> str:
    """Names what is `compared`: 'audio and flow (Each alone)'."""
    return "; ".join(f"{listed([one.output for one in own])} ({title})" for title, own in chosen.items())


def advice(single: Sequence[Overfitting], blend: str, note: Mapping | None = None) -> str:
    """Says in a sentence which of the outputs that are `compared` overfits most, and what to do about it.
    ``blend`` is the command that weighs losses unequally; a run that has done so has a ``note`` of its weights."""
    if lost := [one for one in single if not one.change.gain > 0]:
        return _of_lost(lost, all_of_them=len(lost) == len(single))
    worst, best = (choose(single, key=lambda one: one.signed) for choose in (max, min))
    gain, over = map(float, worst.change)
    said = f"{worst.output} overfits by {over:.2f} for a gain of {gain:.2f}"
    if over <= 0:
        # Augmentation and dropout are in training alone: new clips may be no harder than these.
        said = f"{worst.output} does as well on new clips as on its own"
    if worst.signed < SMALL:
        return f"{said}: nothing here overfits much; train longer or take a larger network"
    if len({one.streams for one in single}) == 1:
        return f"{said}: more clips, augmentation, dropout or fewer updates would help"
    both = f"{said} (OGR {worst.ratio:.2f}), {best.output} least (OGR {best.ratio:.2f})"
    if note:
        # Of other clips and another beginning: a second set of weights would only confuse.
        held = f"estimated on {note['clips']['held']} clips of {note['splits']['held']}" if "heads" in note else ""
        own = ", ".join(f"{part} {weight:.2f}" for part, weight in note["weights"].items())
        return f"{both}; in this run they weigh {own} ({held or note['source']})"
    each = ", ".join(f"{output} {weight:.2f}" for output, weight in weights(single).items())
    return f"{both}; a joint network does well to weigh them unequally, by G-Blend's rule {each}: {blend}"


def _of_lost(lost: Sequence[Overfitting], *, all_of_them: bool) -> str:
    """What to do about outputs whose loss on new clips is no better than chance's."""
    # Those that know their own clips overfit; the others have not learnt.
    learnt = [one for one in lost if one.train < LEARNT * one.chance]
    idle, said = [one for one in lost if one not in learnt], []
    if learnt:
        has = "have" if len(learnt) > 1 else "has"
        said.append(
            f"{listed([one.named for one in learnt])} {has} learnt the old clips, and on new ones {has} a loss no "
            "better than chance's: regularise, take more clips or fewer updates"
        )
    if idle:
        has = "have" if len(idle) > 1 else "has"
        names = listed([one.named for one in idle])
        said.append(f"{names} {has} hardly learnt anything: train longer, or at another learning rate")
    # Who is often right, and too sure of it where not, is still of use.
    useless = [one.output for one in lost if not one.right > 2 * one.guess]
    if useless and not all_of_them:
        said.append(f"or leave {listed(useless)} out")
    return "; ".join(said)


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
