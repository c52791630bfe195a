"""What is wrong with a dataset: whether anything in it would spoil a score.

    python -m mmvid doctor data/mine
    python -m mmvid doctor data/mine --tolerate=1 --json=doctor.json

Looks at every clip and prints what there is: clips of those expected, by split
and modality; lengths and frame rates; brightness, motion, loudness, as median
[least, most]. Then what is wrong with which clips, and what to do about it.
'spoils' is what would make a score false or end a training: test clips that
are training clips by their content, classes that no training clip has, clips
that are missing, damaged or show nothing. Where there is any, the exit code is
1. --tolerate=1 forgives each up to 1 % of the clips of a split,
--tolerate=missing=5,copies=1 some kinds alone: copies, ids, classes, missing,
index, damaged, empty, unlabelled; the kind stands in brackets. 'note' is all
else, such as clips without a modality that others have, films that stand still,
or motion beyond what flow keeps. Nothing is changed.

Clips are equal where their pictures are stored with the same bytes, whatever
they are called. Test clips that look like training clips in small grey pictures
of a few moments are told as copies that were encoded anew, scaled, mirrored or
mildly brightened (by up to 20 of 255, or a gamma of 0.8 to 1.3). Mostly not
found are much brighter ones, those cut shorter by more than a frame or two,
cropped, overlaid, letterboxed, flipped upside down, reversed or encoded at the
lowest qualities, nor labels whose order differs between splits, nor films that
stand still but for their beginning. Where training clips look like each other,
as before a camera that stands still, or have another label, as films of one
place do, likeness is a note; of what was mirrored or brightened and looks like
several training clips nothing is said.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from mmvid import files, usage
from mmvid.commands import datasets
from mmvid.data import checkup, examine
from mmvid.data.examine import Clip
from mmvid.data.records import Dataset
from mmvid.report import doctor as report
from mmvid.report.doctor import Examined
from mmvid.run import build
from mmvid.streams import Head

CONFIG = False
# Pictures of a clip that are decoded at once; more would take the memory that a training has.
MOST = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which dataset is looked at, and how closely."""
    add = parser.add_argument
    add("data", type=usage.on_disk, metavar="DATA", help="the folder of a dataset (--out of data_prep)")
    add("--splits", metavar="A,B", help="the splits that are looked at; by default all")
    add("--frames", type=int, default=4, metavar="N", help="pictures of each clip and modality; default 4")
    add("--tolerate", default="0", metavar="[KIND=]PERCENT,..", help="of the clips of a split; default 0")
    add("--json", metavar="FILE", help="also write everything as JSON; - is the terminal")


# ---------------------------------------------------------------------------- what there is
def look(
    dataset: Dataset, index: Mapping[str, Sequence[str]], heads: Mapping[str, Head], count: int
) -> list[Clip]:
    """Looks at all clips of the splits of ``index`` {split: ids}, in order."""
    sources = {split: dataset.split(split) for split in index}
    places = [(split, row) for split in index for row in range(dataset.info.splits[split])]

    def one(place):
        split, row = place
        name = index[split][row] if row < len(index[split]) else ""
        return examine.look(sources[split], row, heads, count, name)

    # Before there are threads: TFDS and the bar import when they are first used, and threads that import at the
    # same time may wait for each other for ever.
    for source in sources.values():
        source.open()
    tqdm.get_lock()
    # Decoders leave Python's lock alone, so that threads share the cores.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(one, places)
        return list(tqdm(found, total=len(places), unit="clip", dynamic_ncols=True, leave=False))


def examined(dataset: Dataset, splits: Sequence[str], count: int, tolerated: Mapping[str, float]) -> Examined:
    """Looks at ``count`` places of all clips of some splits; a problem of a share of at most ``tolerated`` {kind:
    share} of the clips of a split spoils nothing."""
    info, heads, refused = dataset.info, build.label_spaces(dataset.info), collections.defaultdict(list)
    for row in datasets.rejected(dataset.root):
        refused[row["split"]].append(row["id"])
    # A split of which nothing is left is expected still.
    lost = [split for split in info.expected if split not in info.splits and len(splits) == len(info.splits)]
    expected = {split: info.expected.get(split, 0) for split in (*splits, *lost)}
    index = datasets.index_of(dataset, splits)
    clips = look(dataset, index, heads, count)
    found = Examined(dataset, heads, expected, clips, checkup.problems(clips, heads, expected, index, refused), ())
    bad = [problem for problem in found.problems if checkup.spoilt(problem, found.sizes, tolerated)]
    return found._replace(bad=bad)


# ---------------------------------------------------------------------------- the command
def tolerated(text: str) -> dict[str, float]:
    """Reads '1', 'copies=5' or '1,copies=5,missing=2', percentages of all kinds of problems or of some: {kind:
    share}. Raises WrongUse for a kind that there is not, and for what is no percentage."""
    # None stands for all kinds.
    own: dict[str | None, float] = {}
    entries = usage.listed(text)
    for kind, given, percent in (entry.rpartition("=") for entry in entries):
        try:
            share = float(percent) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise usage.WrongUse(f"--tolerate={text}: {percent!r} is no percentage from 0 to 100")
        name = kind if given else None
        if name in own:
            raise usage.WrongUse(f"--tolerate={text}: of {name or 'all kinds'} it gives two percentages; give one")
        own[name] = share
    if not entries or not own.keys() <= {None, *checkup.KINDS}:
        raise usage.WrongUse(f"--tolerate={text}: write PERCENT, or KIND=PERCENT of {', '.join(checkup.KINDS)}")
    return dict.fromkeys(checkup.KINDS, own.pop(None, 0.0)) | own


def _checked(arguments: argparse.Namespace, dataset: Dataset) -> list[str]:
    """The splits that are to be looked at. Raises WrongUse for one that there is not, for a wrong number, and for
    a file that cannot be written."""
    if not 1 <= arguments.frames <= MOST:
        raise usage.WrongUse(f"--frames={arguments.frames}: look at 1 to {MOST} pictures of each clip")
    if arguments.json is not None and arguments.json != "-":
        datasets.check_target("--json", pathlib.Path(arguments.json), [dataset.root])
    known = datasets.splits_of(dataset)
    return known if arguments.splits is None else usage.chosen("--splits", arguments.splits, known, "splits")


def _write(target: str, found: Examined) -> None:
    if target == "-":
        print(json.dumps(report.plain(found), indent=1))
    else:
        pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
        files.write_json(pathlib.Path(target), report.plain(found))


def execute(arguments: argparse.Namespace) -> None:
    """Looks at the dataset and says what is wrong with it. Raises ValueError where a score would be spoilt."""
    dataset = datasets.opened(arguments.data)
    splits, shares, began = _checked(arguments, dataset), tolerated(arguments.tolerate), time.monotonic()
    found = examined(dataset, splits, arguments.frames, shares)
    out = sys.stderr if arguments.json == "-" else sys.stdout
    print(report.text(found), file=out, flush=True)
    # After the text, so that it is not lost where the file cannot be written.
    if arguments.json is not None:
        _write(arguments.json, found)
    took, bad = f"{len(found.clips)} clips looked at in {time.monotonic() - began:.0f} s", len(found.bad)
    if bad:
        kinds = ", ".join(dict.fromkeys(problem.kind for problem in found.bad))
        raise ValueError(f"{took}: {bad} thing{'s' * (bad > 1)} would spoil a score ({kinds}), see above")
    print(f"{took}: nothing would spoil a score{', see the notes' if found.problems else ''}", file=out)
