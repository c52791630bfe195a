"""What is wrong with a dataset: whether anything in it would spoil a score.

    python -m mmvid doctor data/mine
    python -m mmvid doctor data/mine --tolerate=1 --json=doctor.json

Looks at every clip and prints what there is: clips of those expected, by split
and modality; lengths and frame rates; brightness, motion, loudness, as median
[least, most]. Then what is wrong with which clips, and what to do about it.
'spoils' is what would make a score false or end a training: test clips that
are training clips by their content, classes that no training clip has, clips
that are missing, damaged or show nothing. Where there is any, the exit code is
1; --tolerate=1 forgives each up to 1 % of the clips of a split. 'note' is all
else, such as clips without a modality that others have, or motion beyond what
flow keeps. Nothing is changed.

Clips are equal where their pictures are stored with the same bytes, whatever
they are called. Test clips that look like training clips in small grey pictures
of a few moments are told as copies that were encoded anew, or scaled. Those
that were cut shorter, cropped, mirrored, brightened or encoded at the lowest
qualities are not found; where training clips look like each other, as before a
camera that stands still, likeness is a note.
"""

import argparse
import collections
import concurrent.futures
import csv
import json
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from mmvid import files, usage
from mmvid.data import checkup, fields, records
from mmvid.data.checkup import Clip, Problem
from mmvid.data.records import Dataset
from mmvid.report.text import aligned
from mmvid.run import build
from mmvid.streams import Head

CONFIG = False
# Clips that a line names, and those that it asks to look at.
NAMED, LOOKED_AT = 3, 6
# What a build has written and later commands read.
OWN = ("metadata.json", "index.json", "rejected.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which dataset is looked at, and how closely."""
    add = parser.add_argument
    add("data", type=usage.on_disk, metavar="DATA", help="the folder of a dataset (--out of data_prep)")
    add("--splits", metavar="A,B", help="the splits that are looked at; by default all")
    add("--frames", type=int, default=4, metavar="N", help="pictures of each clip and modality; default 4")
    add("--tolerate", type=float, default=0.0, metavar="PERCENT", help="of the clips of a split; default 0")
    add("--json", metavar="FILE", help="also write everything as JSON; - is the terminal")


# ---------------------------------------------------------------------------- what is named
def opened(root: pathlib.Path) -> Dataset:
    """Opens the dataset in ``root``. Raises WrongUse where there is none, ValueError for one that cannot be read
    or has no clips."""
    if (root / "config.json").exists() and not (root / "metadata.json").exists():
        known = files.read_note(root / "config.json")
        spec = known.get("dataset") if isinstance(known, dict) else None
        own = f", which is {spec['path']}" if isinstance(spec, dict) and spec.get("path") else ""
        raise usage.WrongUse(f"{root} is the folder of a run, not of a dataset: name the one that it read{own}")
    try:
        dataset = records.open_dataset(root)
    except FileNotFoundError as error:
        raise usage.WrongUse(str(error)) from error
    if not sum(dataset.info.splits.values()):
        raise usage.Damaged(f"{root} has no clips: build it again, from videos that can be used")
    return dataset


def check_target(flag: str, path: pathlib.Path, root: pathlib.Path) -> None:
    """Raises WrongUse where a file cannot be written at ``path``, which ``flag`` names, or would be written over
    one of the dataset at ``root``: before anything is looked at, which may take an hour."""
    usage.check_folder(flag, path.parent)
    if path.is_dir():
        raise usage.WrongUse(f"{flag}={path} is a folder: name a file in it")
    if path.name in OWN and path.resolve().parent == root.resolve():
        raise usage.WrongUse(f"{flag}={path} would be written over a file of the dataset: name another one")
    there = next(place for place in path.absolute().parents if place.exists())
    if not os.access(there, os.W_OK):
        raise usage.WrongUse(f"this user may not write into {there}: name a file elsewhere, {flag}=FILE")


def splits_of(dataset: Dataset) -> list[str]:
    """The splits of a dataset, in the order in which its annotations name them."""
    return sorted(dataset.info.splits, key=[*dataset.info.expected, *dataset.info.splits].index)


def rejected(root: pathlib.Path) -> list[dict[str, str]]:
    """Reads the clips that the dataset's build could not use, as {'id', 'split', 'path', 'reason'}; [] where
    nothing tells of any. Raises Damaged for a file that is no table."""
    path = root / "rejected.csv"
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            names = ("id", "split", "path", "reason")
            return [{name: row.get(name) or "" for name in names} for row in csv.DictReader(file)]
    except csv.Error as error:
        raise usage.Damaged(f"{path} cannot be read ({error}): delete it, or build the dataset again") from None


def index_of(dataset: Dataset, splits: Sequence[str]) -> dict[str, list[str]]:
    """Reads the ids of the clips of some splits, {split: ids}. Raises Damaged where they cannot be."""
    try:
        found = {split: dataset.split(split).ids() for split in splits}
        if not all(isinstance(ids, list) and all(isinstance(own, str) for own in ids) for ids in found.values()):
            raise ValueError("it does not list ids")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise usage.Damaged(
            f"{dataset.root / 'index.json'} cannot be read ({error!r}): run the command that built it again"
        ) from None
    return found


# ---------------------------------------------------------------------------- what there is
class Examined(NamedTuple):
    """What was found of a dataset: all ``clips`` of its splits, {split: how many are ``expected``}, and the
    ``problems``, of which ``bad`` would spoil a score."""

    dataset: Dataset
    heads: Mapping[str, Head]
    expected: Mapping[str, int]
    clips: Sequence[Clip]
    problems: Sequence[Problem]
    bad: Sequence[Problem]

    @property
    def sizes(self) -> dict[str, int]:
        """Of how many clips a problem of some is told: {split: those expected, or there where none are}."""
        there = collections.Counter(clip.split for clip in self.clips)
        return {split: n or there[split] for split, n in self.expected.items()}


def look(
    dataset: Dataset, index: Mapping[str, Sequence[str]], heads: Mapping[str, Head], count: int
) -> list[Clip]:
    """Looks at all clips of the splits of ``index`` {split: ids}, in order."""
    sources = {split: dataset.split(split) for split in index}
    places = [(split, row) for split in index for row in range(dataset.info.splits[split])]

    def one(place):
        split, row = place
        name = index[split][row] if row < len(index[split]) else ""
        return checkup.look(sources[split], row, heads, count, name)

    # Before there are threads: TFDS and the bar import when they are first used, and threads that import at the
    # same time may wait for each other for ever.
    for source in sources.values():
        source.open()
    tqdm.get_lock()
    # Decoders leave Python's lock alone, so that threads share the cores.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(one, places)
        return list(tqdm(found, total=len(places), unit="clip", dynamic_ncols=True, leave=False))


def examined(dataset: Dataset, splits: Sequence[str], count: int, tolerated: float) -> Examined:
    """Looks at ``count`` places of all clips of some splits; a problem of a share of at most ``tolerated`` of the
    clips of a split spoils nothing."""
    info, heads, refused = dataset.info, build.label_spaces(dataset.info), collections.defaultdict(list)
    for row in rejected(dataset.root):
        refused[row["split"]].append(row["id"])
    # A split of which nothing is left is expected still.
    lost = [split for split in info.expected if split not in info.splits and len(splits) == len(info.splits)]
    expected = {split: info.expected.get(split, 0) for split in (*splits, *lost)}
    index = index_of(dataset, splits)
    clips = look(dataset, index, heads, count)
    found = Examined(dataset, heads, expected, clips, checkup.problems(clips, heads, expected, index, refused), ())
    bad = [problem for problem in found.problems if checkup.spoilt(problem, found.sizes, tolerated)]
    return found._replace(bad=bad)


# ---------------------------------------------------------------------------- in numbers
def counts(found: Examined) -> dict[str, dict]:
    """Counts clips by split: {split: 'clips', 'expected', 'fields' {field: clips}, 'classes' {head: {class:
    clips}}}."""
    counted = {}
    for split, expected in found.expected.items():
        own = [clip for clip in found.clips if clip.split == split]
        shown = {name: collections.Counter(k for clip in own for k in clip.classes.get(name, ()))
                 for name in found.heads}  # fmt: skip
        counted[split] = {
            "clips": len(own),
            "expected": expected,
            "fields": {field: sum(field in clip.fields for clip in own) for field in fields.FIELDS},
            "classes": {
                name: {head.named(k): shown[name][k] for k in range(head.classes)}
                for name, head in found.heads.items()
            },
        }
    return counted


def _of_field(field: str, measure: str) -> Callable[[Clip], float]:
    return lambda clip: clip.numbers.get((field, measure), np.nan)


def _measures() -> dict[str, Callable[[Clip], float]]:
    """Names what is measured of a clip: its length, rate and size, and the measures of every field."""
    found = {
        "frames": lambda clip: clip.frames or np.nan,
        "seconds": lambda clip: clip.frames / clip.rate if clip.frames else np.nan,
        "frames a second": lambda clip: clip.rate,
        "width, px": lambda clip: clip.size[0] or np.nan,
        "height, px": lambda clip: clip.size[1] or np.nan,
    }
    for field, row in fields.FIELDS.items():
        for measure in row.measures:
            name = measure.name if measure.name == field else f"{field}, {measure.name}"
            unit = f" ({measure.unit})" if measure.unit else ""
            found[name + unit] = _of_field(field, measure.name)
    return found


def measured(found: Examined) -> dict[str, dict[str, list[float]]]:
    """Measures the clips: {measure that any clip has: {split: a number of each clip that has it}}."""
    collected = {}
    for name, of in _measures().items():
        every = {split: [of(clip) for clip in found.clips if clip.split == split] for split in found.expected}
        known = {split: [float(n) for n in own if not np.isnan(n)] for split, own in every.items()}
        if any(known.values()):
            collected[name] = known
    return collected


def _spread(numbers: Sequence[float]) -> list[float]:
    """Returns [median, least, most]; [] of no numbers."""
    return [float(f(numbers)) for f in (np.median, np.min, np.max)] if numbers else []


def plain(found: Examined) -> dict:
    """What was found as JSON holds it."""
    info = found.dataset.info
    return {
        "dataset": info.name,
        "path": str(found.dataset.root),
        "fingerprint": info.fingerprint,
        "spoilt": bool(found.bad),
        "splits": counts(found),
        "median, least, most": {
            name: {split: _spread(own) for split, own in every.items()} for name, every in measured(found).items()
        },
        "problems": [
            {
                "what": problem.what,
                "spoils": problem in found.bad,
                "advice": problem.advice,
                "clips": {
                    split: [{"id": name, "note": note} for name, note in own]
                    for split, own in problem.clips.items()
                },
            }
            for problem in found.problems
        ],
    }


# ---------------------------------------------------------------------------- in words
def _counted(found: Examined) -> str:
    rows = [["", "clips", "expected", *fields.FIELDS, *(f"classes of {name}" for name in found.heads)]]
    for split, own in counts(found).items():
        classes = [f"{sum(map(bool, n.values()))} of {len(n)}" for n in own["classes"].values()]
        rows.append([split, str(own["clips"]), str(own["expected"]), *map(str, own["fields"].values()), *classes])
    return aligned(rows, right=range(1, len(rows[0])))


def _measured(found: Examined) -> str:
    rows = [["median [least, most]", *found.expected]]
    for name, every in measured(found).items():
        # A negative zero would look like a mistake.
        spreads = [[round(n, 1) + 0.0 for n in _spread(own)] for own in every.values()]
        rows.append([name, *("{:g} [{:g}, {:g}]".format(*own) if own else "-" for own in spreads)])
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
        usage.folded(head, f"{numbers} {problem.what}{some}".strip()),
        usage.folded(" " * len(head), f"-> {problem.advice}"),
    )
    return "\n".join(lines)


def _to_see(found: Examined) -> list[str]:
    """The command that shows some clips that a problem is of."""
    there = {clip.id for clip in found.clips if clip.content is not None}
    every = [name for problem in found.problems for own in problem.clips.values() for name, _ in own]
    chosen = [name for name in dict.fromkeys(every) if name in there and "," not in name][:LOOKED_AT]
    root, ids = shlex.quote(str(found.dataset.root)), shlex.quote(",".join(chosen))
    return [f"to see some: python -m mmvid browse {root} --ids={ids}"] if chosen else []


def text(found: Examined) -> str:
    """Writes what was found for people: what there is, then what is wrong with it."""
    info, sizes = found.dataset.info, found.sizes
    expected = sum(found.expected.values())
    tables = f"{_counted(found)}\n\n{_measured(found)}\n"
    lines = [f"{info.name} ({info.fingerprint}): {len(found.clips)} of {expected} clips\n", tables]
    lines += [said(problem, sizes, spoils=problem in found.bad) for problem in found.problems]
    if checkup.LEARNT in info.splits and checkup.LEARNT not in found.expected:
        lines.append(f"note:   {checkup.LEARNT} was not looked at: nobody knows whether its clips are here, too")
    return "\n".join([*lines, *_to_see(found)])


# ---------------------------------------------------------------------------- the command
def _checked(arguments: argparse.Namespace, dataset: Dataset) -> list[str]:
    """The splits that are to be looked at. Raises WrongUse for one that there is not, for a wrong number, and for
    a file that cannot be written."""
    if arguments.frames < 1 or not 0 <= arguments.tolerate <= 100:
        raise usage.WrongUse("--frames is 1 or more, --tolerate a percentage from 0 to 100")
    if arguments.json is not None and arguments.json != "-":
        check_target("--json", pathlib.Path(arguments.json), dataset.root)
    known = splits_of(dataset)
    return known if arguments.splits is None else usage.chosen("--splits", arguments.splits, known, "splits")


def _write(target: str, found: Examined) -> None:
    if target == "-":
        print(json.dumps(plain(found), indent=1))
    else:
        pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
        files.write_json(pathlib.Path(target), plain(found))


def execute(arguments: argparse.Namespace) -> None:
    """Looks at the dataset and says what is wrong with it. Raises ValueError where a score would be spoilt."""
    dataset = opened(arguments.data)
    splits, began = _checked(arguments, dataset), time.monotonic()
    found = examined(dataset, splits, arguments.frames, arguments.tolerate / 100)
    out = sys.stderr if arguments.json == "-" else sys.stdout
    print(text(found), file=out, flush=True)
    # After the text, so that it is not lost where the file cannot be written.
    if arguments.json is not None:
        _write(arguments.json, found)
    took, bad = f"{len(found.clips)} clips looked at in {time.monotonic() - began:.0f} s", len(found.bad)
    if bad:
        raise ValueError(f"{took}: {bad} thing{'s' * (bad > 1)} would spoil a score, see above")
    print(f"{took}: nothing would spoil a score{', see the notes' if found.problems else ''}", file=out)
