"""The table, the map and the page of ensembles."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files
from mmvid.report import diagrams, facts, grids, page, table
from mmvid.report.text import aligned, top
from mmvid.scores.file import Scores
from mmvid.scores.members import Clips, Figure, Member

# Members beyond which nobody reads a map.
MOST = 24


class Told(NamedTuple):
    """What a page is made from: all ``figures`` of ensembles of ``members`` on the ``clips`` of a ``split``, the
    ``best`` of them, and the ``weights`` {members: (shares, figure)} that were ``tuned_on`` another one.
    ``scores`` are one member's, for how all were scored; ``folders`` {member: its segment's} for who made them.
    ``parts`` are the members, by index, of which ensembles have one each; of a single part they have any."""

    members: Sequence[Member]
    clips: Clips
    figures: Sequence[Figure]
    best: Sequence[Figure]
    weights: Mapping[tuple[int, ...], tuple[tuple[float, ...], Figure]]
    split: str
    tuned_on: str
    scores: Scores
    folders: Mapping[str, pathlib.Path]
    parts: Sequence[Sequence[int]] = ()

    @property
    def unit(self) -> str:
        """What values are."""
        return "mAP" if self.clips.kind == "multi" else "top-1 / top-5"


def best(figures: Sequence[Figure], count: int) -> list[Figure]:
    """All single members and the ``count`` best ensembles, each the best first."""
    ranked = sorted(figures, key=lambda own: (-own.value, -(own.five or 0), len(own.members)))
    single = [own for own in ranked if len(own.members) == 1]
    return [*single, *[own for own in ranked if len(own.members) > 1][:count]]


def name(told: Told, figure: Figure) -> str:
    """Names an ensemble by its members."""
    return " + ".join(told.members[index].title for index in figure.members)


def value(figure: Figure) -> str:
    """Writes '62.1 / 91.3'."""
    return top(figure.value, figure.five)


def rows(told: Told) -> list[list[str]]:
    """Lists the rows of the table, its head first: single members, then the best ensembles."""
    tuned = [f"weights tuned on {told.tuned_on}", told.unit] if told.tuned_on else []
    made = [["members", told.unit, *tuned]]
    for own in told.best:
        cells = [""] * len(tuned)
        if own.members in told.weights:
            shares, figure = told.weights[own.members]
            cells = [", ".join(f"{share:g}" for share in shares), value(figure)]
        made.append([name(told, own), value(own), *cells])
    return made


def about(told: Told) -> str:
    """Says what the numbers are of, and of how many ensembles these are the best."""
    several = sum(len(own.members) > 1 for own in told.figures)
    shown = sum(len(own.members) > 1 for own in told.best)
    most = f"all {several} ensembles" if shown == several else f"the {shown} best of {several} ensembles"
    return f"{table.denominators(told.scores)}; {told.clips.head}; single members, then {most}"


def tables(told: Told) -> list[grids.Matrix]:
    """Makes the tables in the form of MML's: of two parts all sums (tables 11 and 12), and for every member the
    sum of its places in the ensembles of most members (table 13)."""
    titles = [member.title for member in told.members]
    size = max(len(own.members) for own in told.figures)
    largest = [own for own in told.figures if len(own.members) == size]
    made = []
    if len(told.parts) == 2:
        names = [[titles[i] for i in part] for part in told.parts]
        made.append(grids.pairs("sums", largest, *names, told.unit))
    if size > 1 and len(largest) > 1:
        parts = {f"part {i}": part for i, part in enumerate(told.parts, 1)}
        of = parts if len(parts) > 1 else {"members": range(len(titles))}
        what = f"sums of places, from 0, in {len(largest)} ensembles of {size}"
        made.append(grids.ranks(what, largest, titles, of))
    return made


def text(told: Told) -> str:
    """Writes the table as aligned text, below a line that says what it is of, and the tables in MML's form."""
    made = grids.text(tables(told), told.split, "")
    return "\n\n".join(filter(None, (f"{about(told)}\n{aligned(rows(told))}", made)))


def plain(told: Told) -> dict:
    """Everything as plain data."""
    return {
        "split": told.split,
        "head": told.clips.head,
        "members": [member.title for member in told.members],
        "ensembles": [
            {"members": list(own.members), "value": own.value, "top5": own.five} for own in told.figures
        ],
        "parts": [list(part) for part in told.parts],
        "tuned_on": told.tuned_on,
        "weights": [
            {"members": list(members), "weights": list(shares), "value": own.value, "top5": own.five}
            for members, (shares, own) in told.weights.items()
        ],
    }


def pairs(told: Told) -> str:
    """Draws all pairs as a map -> SVG: of two parts one beside the other, else with single members on its
    diagonal; '' of no pairs, and of more members than a map has room for."""
    titles = [member.title for member in told.members]
    title = f"{told.split}: pairs, {told.unit.partition(' ')[0]}"
    values = np.full((len(titles), len(titles)), np.nan)
    for own in told.figures:
        if len(own.members) < 3:
            first, last = own.members[0], own.members[-1]
            values[first, last] = values[last, first] = own.value
    if not any(len(own.members) == 2 for own in told.figures):
        return ""
    if len(told.parts) == 2:
        down, across = ([*part] for part in told.parts)
        return diagrams.grid(
            values[np.ix_(down, across)], *([titles[i] for i in p] for p in (down, across)), title
        )
    return diagrams.grid(values, titles, titles, title) if len(titles) <= MOST else ""


def write(path: pathlib.Path, told: Told) -> pathlib.Path:
    """Writes the page; returns its path."""
    made = page.template("ensemble.html").render(
        rows=rows(told), about=about(told), figure=pairs(told), best=_headline(told), tuned=told.tuned_on,
        matrices=[(own.title, own.unit, grids.rows_of(own)) for own in tables(told)],
        made=facts.made({title: [folder] for title, folder in told.folders.items()}),
    )  # fmt: skip
    files.write_text(path, made)
    return path


def _headline(told: Told) -> str:
    """Says which ensemble is the best, and how far it is above its best member."""
    several = [own for own in told.best if len(own.members) > 1]
    alone = [own for own in told.figures if len(own.members) == 1]
    if not several:
        single = max(alone, key=lambda own: own.value)
        return f"{name(told, single)}: {value(single)}"
    single = max((own for own in alone if own.members[0] in several[0].members), key=lambda own: own.value)
    gain = 100 * (several[0].value - single.value)
    return f"{name(told, several[0])}: {value(several[0])}, {gain:+.1f} over {name(told, single)} alone"
