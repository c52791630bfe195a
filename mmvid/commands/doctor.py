"""What is wrong with a dataset: whether anything in it would spoil a score.

    python -m mmvid doctor data/mine

Looks at every clip and prints what there is: clips of those expected, by split
and modality; lengths and frame rates; brightness, motion, loudness, as median
[least, most]. Then what is wrong with which clips, and what to do about it.
'spoils' is what would make a score false or end a training: test clips that
are training clips by their content, classes that no training clip has, clips
that are missing, damaged or show nothing. Where there is any, the exit code is
1; --tolerate=1 forgives each up to 1 % of the clips of a split. 'note' is all
else, such as motion beyond what flow keeps. Nothing is changed.
"""

import argparse
import collections
import concurrent.futures
import csv
import pathlib
import shlex
import time
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from mmvid import usage
from mmvid.data import checkup, fields, records
from mmvid.data.checkup import Clip, Problem
from mmvid.data.records import Dataset
from mmvid.report.text import aligned
from mmvid.run import build
from mmvid.streams import Head

CONFIG = False
# Clips that a line names, and those that it asks to look at.
NAMED, LOOKED_AT = 3, 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which dataset is looked at, and how closely."""
    parser.add_argument(
        "data", type=pathlib.Path, metavar="DATA", help="the folder of a dataset (--out of data_prep)"
    )
    parser.add_argument("--splits", metavar="A,B", help="the splits that are looked at; by default all")
    parser.add_argument(
        "--frames", type=int, default=4, metavar="N", help="pictures of each clip and modality; default 4"
    )
    parser.add_argument(
        "--tolerate", type=float, default=0.0, metavar="PERCENT", help="of the clips of a split; default 0"
    )


# ---------------------------------------------------------------------------- what there is
def opened(root: pathlib.Path) -> Dataset:
    """Opens the dataset in ``root``. Raises WrongUse where there is none, ValueError for one that cannot be read
    or has no clips."""
    try:
        dataset = records.open_dataset(root)
    except FileNotFoundError as error:
        raise usage.WrongUse(str(error)) from error
    if not sum(dataset.info.splits.values()):
        raise usage.Damaged(f"{root} has no clips: build it again, from videos that can be used")
    return dataset


def splits_of(dataset: Dataset) -> list[str]:
    """The splits of a dataset, in the order in which its annotations name them."""
    return sorted(dataset.info.splits, key=[*dataset.info.expected, *dataset.info.splits].index)


def rejected(root: pathlib.Path) -> list[dict[str, str]]:
    """Reads the clips that the dataset's build could not use, as {'id', 'split', 'path', 'reason'}; [] where
    nothing tells of any."""
    path = root / "rejected.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        names = ("id", "split", "path", "reason")
        return [{name: row.get(name) or "" for name in names} for row in csv.DictReader(file)]


def _index(dataset: Dataset, splits: Sequence[str]) -> dict[str, list[str]]:
    try:
        return {split: dataset.split(split).ids() for split in splits}
    except (OSError, ValueError, KeyError) as error:
        raise usage.Damaged(
            f"{dataset.root / 'index.json'} cannot be read ({error!r}): run the command that built it again"
        ) from None


def look(dataset: Dataset, splits: Sequence[str], heads: Mapping[str, Head], count: int) -> list[Clip]:
    """Looks at all clips of the ``splits``, in order."""
    places = [(dataset.split(split), row) for split in splits for row in range(dataset.info.splits[split])]
    sources = {source.split: source for source, _ in places}
    # Decoders leave Python's lock alone, so that threads share the cores.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(lambda place: checkup.look(sources[place[0].split], place[1], heads, count), places)
        return list(tqdm(found, total=len(places), unit="clip", dynamic_ncols=True, leave=False))


# ---------------------------------------------------------------------------- in words
def _spread(numbers: Sequence[float]) -> str:
    """Writes numbers as 'median [least, most]'."""
    if not len(numbers):
        return "-"
    # A negative zero would look like a mistake.
    middle, low, high = (round(float(f(numbers)), 1) + 0.0 for f in (np.median, np.min, np.max))
    return f"{middle:g} [{low:g}, {high:g}]"


def counts(clips: Sequence[Clip], expected: Mapping[str, int], heads: Mapping[str, Head]) -> str:
    """Makes the table of how many clips there are: by split, of those expected, and by field, class and head."""
    rows = [["", "clips", "expected", *fields.FIELDS, *(f"classes of {name}" for name in heads)]]
    for split, wanted in expected.items():
        own = [clip for clip in clips if clip.split == split]
        seen = {name: {k for clip in own for k in clip.classes.get(name, ())} for name in heads}
        having = [str(sum(field in clip.fields for clip in own)) for field in fields.FIELDS]
        classes = [f"{len(seen[name])} of {head.classes}" for name, head in heads.items()]
        rows.append([split, str(len(own)), str(wanted), *having, *classes])
    return aligned(rows, right=range(1, len(rows[0])))


def measures(clips: Sequence[Clip], splits: Sequence[str]) -> str:
    """Makes the table of lengths, rates and sizes, and of the measures of every field that any clip has."""
    read = {split: [clip for clip in clips if clip.split == split and clip.frames] for split in splits}
    rows = [["median [least, most]", *splits]]
    of_clips = {
        "frames": lambda clip: clip.frames,
        "seconds": lambda clip: clip.frames / clip.rate,
        "frames a second": lambda clip: clip.rate,
        "width, px": lambda clip: clip.size[0],
        "height, px": lambda clip: clip.size[1],
    }
    for name, number in of_clips.items():
        rows.append([name, *(_spread([number(clip) for clip in read[split]]) for split in splits)])
    for field, row in fields.FIELDS.items():
        for measure in row.measures:
            key = field, measure.name
            known = [[clip.numbers[key] for clip in read[split] if key in clip.numbers] for split in splits]
            name = measure.name if measure.name == field else f"{field}, {measure.name}"
            unit = f" ({measure.unit})" if measure.unit else ""
            if any(known):
                rows.append([f"{name}{unit}", *map(_spread, known)])
    return aligned(rows)


def _named(clip: checkup.Named) -> str:
    return " ".join(filter(None, clip))


def said(problem: Problem, sizes: Mapping[str, int], *, spoils: bool) -> str:
    """Writes a problem: of how many clips it is, what it is, some of them, and what to do."""
    numbers = ", ".join(
        f"{len(own)} of {sizes.get(split, 0)} {split} clips" for split, own in problem.clips.items()
    )
    every = [_named(clip) for own in problem.clips.values() for clip in own if clip[0]]
    some = f" ({', '.join(every[:NAMED])}{', ..' * (len(every) > NAMED)})" if every else ""
    head = "spoils: " if spoils else "note:   "
    lines = (
        usage.folded(head, f"{numbers} {problem.what}{some}"),
        usage.folded(" " * len(head), f"-> {problem.advice}"),
    )
    return "\n".join(lines)


def _to_see(root: pathlib.Path, found: Sequence[Problem], clips: Sequence[Clip]) -> list[str]:
    """The command that shows some clips that anything was ``found`` of."""
    there = {clip.id for clip in clips if clip.content is not None}
    named = [name for problem in found for own in problem.clips.values() for name, _ in own if name in there]
    chosen = [name for name in dict.fromkeys(named) if "," not in name][:LOOKED_AT]
    ids = shlex.quote(",".join(chosen))
    return [f"to see some: python -m mmvid browse {shlex.quote(str(root))} --ids={ids}"] if chosen else []


# ---------------------------------------------------------------------------- the command
def _checked(arguments: argparse.Namespace, dataset: Dataset) -> list[str]:
    """The splits that are to be looked at. Raises WrongUse for one that there is not, and for a wrong number."""
    if arguments.frames < 1 or not 0 <= arguments.tolerate <= 100:
        raise usage.WrongUse("--frames is 1 or more, --tolerate a percentage from 0 to 100")
    known = splits_of(dataset)
    return known if arguments.splits is None else usage.chosen("--splits", arguments.splits, known, "splits")


def execute(arguments: argparse.Namespace) -> None:
    """Looks at the dataset and says what is wrong with it. Raises ValueError where a score would be spoilt."""
    dataset = opened(arguments.data)
    splits, info, began = _checked(arguments, dataset), dataset.info, time.monotonic()
    # A split of which nothing is left is expected still.
    every = arguments.splits is None
    expected = {split: n for split, n in info.expected.items() if every or split in splits}
    heads, index = build.label_spaces(info), _index(dataset, splits)
    clips = look(dataset, splits, heads, arguments.frames)
    refused = collections.defaultdict(list)
    for row in rejected(dataset.root):
        refused[row["split"]].append(row["id"])
    found = checkup.problems(clips, heads, expected, index, refused)
    bad = [one for one in found if checkup.spoilt(one, expected, arguments.tolerate / 100)]
    print(f"{info.name} ({info.fingerprint}): {len(clips)} of {sum(expected.values())} clips\n")
    print(counts(clips, expected, heads), measures(clips, splits), sep="\n\n", end="\n\n")
    for problem in found:
        print(said(problem, expected, spoils=problem in bad))
    print(*_to_see(dataset.root, found, clips), sep="\n", end="\n" if found else "")
    took = f"{len(clips)} clips looked at in {time.monotonic() - began:.0f} s"
    if bad:
        raise ValueError(f"{took}: {len(bad)} thing{'s' * (len(bad) > 1)} would spoil a score, see above")
    print(f"{took}: nothing would spoil a score{', see the notes' if found else ''}")
