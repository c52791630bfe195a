"""AudioSet, whose clips bear several labels, and mini-AudioSet, a balanced part of it.

Gradient-Blending's mini-AudioSet removes tiny classes and subsamples the rest to 418 classes and 243k videos, by
a rule that was not published. Ours: the 418 classes with the most clips that were fetched; then from the rarest
class on, clips are added in the order of the hashes of their ids until each class has a number of them, as large
as keeps all to 243,000.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import crawled, lists

LISTS = {
    "train": ("balanced_train_segments.csv", "unbalanced_train_segments.csv"),
    "val": ("eval_segments.csv",),
}
COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
CLASSES, CLIPS = 418, 243_000
_HINT = "it is on AudioSet's page (research.google.com/audioset/download.html)"
# What crawlers call a clip: its id, a Y before it, its start and end in any form behind it.
_FILE = re.compile(r"Y?([\w-]{11})(?:_[\d._]+)?")


class Clip(NamedTuple):
    """A segment of a list: the seconds of its video, and its labels."""

    start: float
    end: float
    labels: tuple[str, ...]


def _classes(folder: pathlib.Path) -> dict[str, str]:
    """Returns {code: name} of the classes, in the order of their ids. Raises ValueError where these are not 0 to
    K - 1."""
    path = folder / "class_labels_indices.csv"
    rows = [row for _, row in lists.rows(path, "index", "mid", "display_name", hint=_HINT)]
    if [row["index"] for row in rows] != [str(i) for i in range(len(rows))]:
        raise ValueError(f"the indices of {path} are not 0..{len(rows) - 1} in this order")
    return {row["mid"]: row["display_name"] for row in rows}


def _clips(path: pathlib.Path, classes: Mapping[str, str]) -> dict[str, Clip]:
    """Returns {id: clip} of a list. Raises ValueError naming a line of another form."""
    found = {}
    for line, row in lists.rows(path, hint=_HINT, columns=COLUMNS):
        codes = row["positive_labels"].split(",")
        try:
            labels = tuple(classes[code] for code in codes)
            found[row["YTID"]] = Clip(float(row["start_seconds"]), float(row["end_seconds"]), labels)
        except KeyError as error:
            raise ValueError(f"{path}, line {line}: class_labels_indices.csv has no class {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}; the file is damaged: fetch it again") from None
    return found


def _films(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {id: video} of what lies below ``root``."""
    films = crawled.films(root).items()
    return {match[1]: path for name, path in films if (match := _FILE.fullmatch(name))}


def _all(
    folder: pathlib.Path, classes: Mapping[str, str], films: Mapping[str, pathlib.Path], root: pathlib.Path
) -> dict[str, dict[str, Clip]]:
    """Returns {split: {id: clip}} of all lists. Raises ValueError for an id in two of them,
    FileNotFoundError where none of the ``films`` below ``root`` is one of theirs."""
    found: dict[str, dict[str, Clip]] = {}
    for split, names in LISTS.items():
        for name in names:
            own = _clips(folder / name, classes)
            if both := own.keys() & {i for clips in found.values() for i in clips}:
                raise ValueError(f"{folder / name}: {min(both)!r} is in another list, too: fetch them again")
            found.setdefault(split, {}).update(own)
    crawled.check(films, {video for clips in found.values() for video in clips}, root)
    return found


# ---------------------------------------------------------------------------- a balanced part
def frequent(labels: Sequence[Sequence[str]], names: Sequence[str], count: int) -> list[str]:
    """Returns the ``count`` of ``names`` that most clips bear, in the order of ``names``."""
    numbers = dict.fromkeys(names, 0)
    for own in labels:
        for name in own:
            numbers[name] += 1
    kept = set(sorted(names, key=lambda name: -numbers[name])[:count])
    return [name for name in names if name in kept]


def balanced(labels: Sequence[Sequence[str]], names: Sequence[str], most: int) -> np.ndarray:
    """Chooses at most ``most`` clips: a mask, bool [N], of clips with ``labels``, which come in the order in which
    they are drawn. From the rarest class on, clips are added until each class of ``names`` has a number of them,
    the largest that keeps to ``most``."""
    places: dict[str, list[int]] = {name: [] for name in names}
    for place, own in enumerate(labels):
        for name in own:
            if name in places:
                places[name].append(place)
    rising = sorted(map(np.array, filter(None, places.values())), key=len)

    def of(number: int) -> np.ndarray:
        chosen = np.zeros(len(labels), bool)
        for own in rising:
            free = own[~chosen[own]]
            chosen[free[: max(number - (len(own) - len(free)), 0)]] = True
        return chosen

    low, high = 0, max(map(len, rising), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if of(middle).sum() <= most else (low, middle - 1)
    return of(low)


# ---------------------------------------------------------------------------- the manifest
def _manifest(name: str, found: Mapping[str, Mapping[str, Clip]], films, root, names, *, whole: bool) -> Manifest:
    """Makes the manifest of clips {split: {id: clip}}; labels that are none of ``names`` are dropped."""
    items: list[Item] = []
    notes: tuple[str, ...] = ()
    kept = set(names)
    for split, clips in found.items():
        for video, clip in clips.items():
            times = dict(start=clip.start, end=clip.end) if whole else {}
            labels = [label for label in clip.labels if label in kept]
            items.append(crawled.item(video, films.get(video), root, split, labels, **times))
        notes += crawled.missing(clips, films, f"the split '{split}'")
    check_ids(items, root)
    return Manifest(name, items, {"action": {"kind": "multi", "names": list(names)}}, notes)


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path, *, whole: bool = False) -> Manifest:
    """Makes the manifest of AudioSet: 'train', the balanced and the unbalanced list, and 'val', the one of eval.

    ``annotations`` is the folder of the CSV files; below ``videos`` lie ID.mp4 (or YID.mp4, ID_30.000.mp4 and the
    like), cut to ten seconds by who fetched them, or ``whole``. Raises FileNotFoundError, also where no video is
    one of the lists', and ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    classes, films = _classes(folder), _films(root)
    found = _all(folder, classes, films, root)
    return _manifest("audioset", found, films, root, classes.values(), whole=whole)


def read_mini(
    annotations: str | pathlib.Path,
    videos: str | pathlib.Path,
    *,
    whole: bool = False,
    classes: int = CLASSES,
    clips: int = CLIPS,
) -> Manifest:
    """Makes the manifest of mini-AudioSet: of the training clips that were fetched at most ``clips``, drawn for
    balance; of the others all that bear one of the same ``classes``. The rest is as in `read`."""
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    known, films = _classes(folder), _films(root)
    found = _all(folder, known, films, root)
    there = crawled.shuffled(found["train"].keys() & films.keys())
    labels = [found["train"][video].labels for video in there]
    names = frequent(labels, list(known.values()), classes)
    chosen = balanced(labels, names, clips)
    kept = {
        "train": {video: found["train"][video] for video, take in zip(there, chosen) if take},
        "val": {video: clip for video, clip in found["val"].items() if set(clip.labels) & set(names)},
    }
    made = _manifest("mini-audioset", kept, films, root, names, whole=whole)
    drawn = f"{len(kept['train'])} of {len(there)} training clips are drawn, with {len(names)} classes"
    return made._replace(notes=(*crawled.missing(found["train"], films, "the training lists"), drawn, *made.notes))
