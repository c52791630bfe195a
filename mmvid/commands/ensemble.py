"""Every pair and triple of what ended runs have learnt, their logits added up
clip by clip from the scores that they have left; no network is run again.

    python -m mmvid ensemble runs/mml runs/mml:flow runs/dmcl:depth

RUN is the headline of a run's last segment, RUN:flow another output of it,
RUN/ce that of another segment, RUN/ce:flow both; RUN:all all outputs. Members
must be scored on the same clips of the same data. The best are printed, and
ensemble.html in --out has a map of all pairs, ensemble.json everything. With
--tune=val each printed ensemble is also weighed as it does best on those clips;
a split that numbers are reported on tunes nothing.

    python -m mmvid ensemble runs/mml:all + runs/dmcl:flow runs/dmcl:depth

has one member of each part, as MML's tables 11 to 13 have: of two parts all sums
stand in a table. Below it, how often each member is in the best ensembles: the
sum of its places, the less the better.

    python -m mmvid ensemble RUN:all --split=test --submit=ssv2.csv --tune=val

writes what Something-Something v2's test takes, of clips without labels: the
sum of all members, the five likeliest classes of each clip.
"""

import argparse
import itertools
import math
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from mmvid import files, usage
from mmvid.report import ensemble
from mmvid.run import build
from mmvid.scores import file, members
from mmvid.scores.file import Scores
from mmvid.scores.members import Clips, Figure, Member

CONFIG = False
# What --sizes may say: of more members than that there are too many ensembles.
LARGEST = 4
# Ensembles that are scored; MML's table 13 has 858.
MOST = 10_000
EVERY = "all"
# Between the members of which ensembles have one each.
APART = "+"


class Chosen(NamedTuple):
    """A member: the ``scores`` that have it, its ``output``, and the ``folder`` of its segment."""

    scores: Scores
    output: str
    folder: pathlib.Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say who the members are, and how they are put together."""
    parser.add_argument(
        "members",
        type=usage.a_part,
        nargs="+",
        metavar="RUN[/SEGMENT][:OUTPUT]",
        help="what ensembles are made of; + between parts",
    )
    parser.add_argument(
        "--out", type=usage.on_disk, default=pathlib.Path(), metavar="DIR", help="where the page goes"
    )
    parser.add_argument("--split", metavar="NAME", help="the clips; by default the first split of the first run")
    parser.add_argument("--head", default="", metavar="NAME", help="the labels, where clips have several")
    parser.add_argument("--sizes", metavar="A,B", help="how many members an ensemble has; 2,3 if not given")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="how many ensembles are printed")
    parser.add_argument("--tune", metavar="SPLIT", help="clips to find weights on, such as val")
    parser.add_argument("--submit", type=usage.on_disk, metavar="FILE", help="the sum of all, five classes a clip")


# ---------------------------------------------------------------------------- who the members are
def _apart(text: str) -> tuple[pathlib.Path, str, str]:
    """Reads RUN[/SEGMENT][:OUTPUT] as (folder of the run, segment or '', output or ''). Raises WrongUse for a
    folder that is no run that has ended."""
    path, _, output = text.partition(":")
    folder = pathlib.Path(path)
    for run, segment in ((folder, ""), (folder.parent, folder.name)):
        if files.read_json(run / "summary.json"):
            return run, segment, output
    seeds = sorted(folder.glob("seed*/summary.json"))
    hint = f"name one of its seeds, {seeds[0].parent}" if seeds else "name a --workdir, or WORKDIR/ce"
    raise usage.WrongUse(f"{path} is no run that has ended, nor a segment of one: {hint}")


def _columns(run: pathlib.Path, segment: str) -> tuple[str, list[str]]:
    """The segment that is meant, the last one of the table where none is named, and its splits."""
    numbers = files.read_json(run / "summary.json")
    if segment and not (run / segment / "scores").is_dir():
        raise usage.WrongUse(f"{run} has no scores of a segment {segment!r}; there are {', '.join(numbers)}")
    chosen = segment or list(numbers)[-1]
    return chosen, list(numbers.get(chosen, {}))


def _named(text: str, split: str) -> dict[str, Chosen]:
    """{title: member} of one argument. Raises WrongUse where it names nothing that is there."""
    run, segment, output = _apart(text)
    segment, _ = _columns(run, segment)
    scores = file.load(run / segment / "scores" / f"{split}.npz")
    headline = build.stored(run)["headline"]
    outputs = list(scores.logits) if output == EVERY else [output or _main(scores, headline)]
    if unknown := [name for name in outputs if name not in scores.logits]:
        raise usage.WrongUse(f"{text}: {unknown[0]!r} is no output; there are {', '.join(scores.logits)}")
    own = scores.meta.get("title") or segment
    # --seeds makes WORKDIR/seed0, ..: the workdir has the name that tells runs apart.
    called = f"{run.parent.name}/{run.name}" if re.fullmatch(r"seed[-_]?\d+", run.name) else run.name
    return {f"{called} {own}: {name}": Chosen(scores, name, run / segment) for name in outputs}


def _main(scores: Scores, headline: str) -> str:
    return headline if headline in scores.logits else next(iter(scores.logits))


def _gathered(texts: list[str], split: str) -> tuple[dict[str, Chosen], list[range]]:
    """{title: member} of all arguments, and the members, by index, of each part. Raises WrongUse for a member that
    is named twice, and for a part without any."""
    found: dict[str, Chosen] = {}
    counts = [0]
    for text in texts:
        if text == APART:
            counts.append(len(found))
            continue
        for title, own in _named(text, split).items():
            if any(own.output == o.output and own.folder.resolve() == o.folder.resolve() for o in found.values()):
                raise usage.WrongUse(f"{text}: {title} is a member already; name each once")
            # Runs of one name in two places.
            found[f"{own.folder}: {own.output}" if title in found else title] = own
    counts.append(len(found))
    sizes = [last - first for first, last in itertools.pairwise(counts)]
    if 0 in sizes:
        raise usage.WrongUse(f"there is no member before or behind a {APART}: it stands between two parts")
    return found, members.in_turn(sizes)


def _together(found: Mapping[str, Chosen], head: str, **options) -> tuple[list[Member], Clips]:
    return members.gathered({title: (own.scores, own.output) for title, own in found.items()}, head, **options)


def _check_apart(tuned_on: str, held: Clips, split: str, clips: Clips) -> None:
    """Raises WrongUse where weights would be tuned on clips that are reported."""
    if both := set(held.id.tolist()) & set(clips.id.tolist()):
        raise usage.WrongUse(
            f"--tune={tuned_on} has {len(both)} clips of {split}, which is reported: weights found there prove "
            "nothing"
        )


def _submit(arguments: argparse.Namespace, found: Mapping[str, Chosen]) -> None:
    """Writes the sum of all members of clips that need no labels. Raises ValueError as `members.submission`."""
    own, clips = _together(found, arguments.head, unlabelled=True)
    every, shares = range(len(own)), None
    if arguments.tune:
        held, held_clips = _together(_gathered(arguments.members, arguments.tune)[0], arguments.head)
        _check_apart(arguments.tune, held_clips, arguments.split or "the test", clips)
        shares = members.tuned(held, held_clips, [*every])
    text = members.submission(own, clips, every, shares)
    arguments.submit.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(arguments.submit, text)
    told = "" if shares is None else f", weights {', '.join(f'{share:g}' for share in shares)} ({arguments.tune})"
    print(f"{arguments.submit}: {len(clips.id)} clips, the sum of {len(own)}{told}")


def _figures(own: list[Member], clips: Clips, parts: list[range], sizes: str | None) -> list[Figure]:
    """Scores all single members, and all ensembles that are meant. Raises WrongUse for --sizes that cannot be."""
    if len(parts) == 1:
        asked = sorted({1, *_sizes("2,3" if sizes is None else sizes, len(own))})
        _check_count(sum(math.comb(len(own), size) for size in asked))
        return members.combinations(own, clips, asked)
    if sizes is not None:
        raise usage.WrongUse(f"--sizes={sizes}: with {APART} an ensemble has one member of each part")
    _check_count(math.prod(map(len, parts)))
    return members.combinations(own, clips, [1]) + members.product(own, clips, parts)


def _check_count(count: int) -> None:
    """Raises WrongUse for more ensembles than anybody waits for."""
    if count > MOST:
        raise usage.WrongUse(f"these are {count:,} ensembles, and {MOST:,} are the most: name fewer members")


def _sizes(text: str, count: int) -> list[int]:
    """Reads --sizes. Raises WrongUse for what is no number of members, or more than there are of any use."""
    sizes = usage.listed(text)
    if not sizes or not all(size.isdigit() and 1 <= int(size) <= LARGEST for size in sizes):
        raise usage.WrongUse(f"--sizes={text}: give numbers of members from 1 to {LARGEST}, as in 2,3")
    return [size for size in sorted({int(size) for size in sizes}) if size <= count]


# ---------------------------------------------------------------------------- the command
def execute(arguments: argparse.Namespace) -> None:
    """Scores the ensembles of the command line.

    Raises WrongUse for a folder that is no run, a member that is not there or named twice, and flags that cannot
    be; ValueError for scores of other clips; FileNotFoundError for a split that is not scored.
    """
    usage.check_folder("--out", arguments.out)
    if arguments.submit:
        files.check_target("--submit", arguments.submit)
    named = [text for text in arguments.members if text != APART]
    if not named:
        raise usage.WrongUse(f"a {APART} stands between members: name some, as in RUN:rgb RUN:flow")
    run, segment, _ = _apart(named[0])
    split = arguments.split or (_columns(run, segment)[1] or ["test"])[0]
    if arguments.tune == split:
        raise usage.WrongUse(f"--tune={split} are the clips that are reported: weights found there prove nothing")
    found, parts = _gathered(arguments.members, split)
    if arguments.submit:
        if len(parts) > 1:
            raise usage.WrongUse(f"--submit writes the sum of all members: leave out the {APART}")
        _submit(arguments, found)
        return
    if len(found) < 2:
        raise usage.WrongUse("an ensemble has two members or more: name another one, or RUN:all")
    own, clips = _together(found, arguments.head)
    if arguments.top < 1:
        raise usage.WrongUse(f"--top={arguments.top}: print one ensemble or more")
    figures = _figures(own, clips, parts, arguments.sizes)
    best = ensemble.best(figures, arguments.top)
    weights = {}
    if arguments.tune:
        held, held_clips = _together(_gathered(arguments.members, arguments.tune)[0], arguments.head)
        _check_apart(arguments.tune, held_clips, split, clips)
        for figure in (figure for figure in best if len(figure.members) > 1):
            shares = members.tuned(held, held_clips, figure.members)
            weights[figure.members] = shares, members.figure(own, clips, figure.members, shares)
    told = ensemble.Told(
        own, clips, figures, best, weights, split, arguments.tune or "", next(iter(found.values())).scores,
        {title: own.folder for title, own in found.items()}, parts,
    )  # fmt: skip
    print("\n" + ensemble.text(told))
    arguments.out.mkdir(parents=True, exist_ok=True)
    files.write_json(arguments.out / "ensemble.json", ensemble.plain(told))
    print(f"\nreport: {ensemble.write(arguments.out / 'ensemble.html', told)}")
