"""mini-Sports: as many clips of Sports-1M as Gradient-Blending draws, from its official lists.

The paper draws uniformly, and does not say which clips. Here they are the first by the hash of their id, of those
that were fetched and have one label, for a score is of one.
"""

import pathlib
import re
from collections.abc import Sequence

from data_prep.manifest import Manifest, check_ids
from data_prep.readers import crawled, lists

LISTS = {"train": "train_partition.txt", "val": "test_partition.txt"}
# Clips that are trained on, and that are scored (Wang et al. 2020, section 3.1).
CLIPS = (240_000, 20_000)
_HINT = "it is in the repository sports-1m-dataset; unpack it where it ends in .gz"
_LINE = re.compile(r"\S*[?&]v=([\w-]+)\S*\s+(\d+(?:,\d+)*)")


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Finds a list, at the top or in the folder 'original', where the repository has it."""
    return next((path for path in (folder / name, folder / "original" / name) if path.exists()), folder / name)


def _classes(folder: pathlib.Path) -> list[str]:
    """Lists the classes, a line each, in the order of their ids."""
    return [line.strip() for line in lists.text_of(_file(folder, "labels.txt"), _HINT).splitlines()]


def _labels(path: pathlib.Path, classes: Sequence[str]) -> dict[str, list[str]]:
    """Returns {video: its classes} of a list. Raises ValueError naming a line that is no link with labels, or a
    label that is no class."""
    found = {}
    for number, line in enumerate(lists.text_of(path, _HINT).splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        ids = [int(label) for label in match[2].split(",")] if match else [len(classes)]
        if max(ids) >= len(classes):
            raise ValueError(
                f"{path}, line {number}: {line!r} is no link with labels below {len(classes)}: fetch it again"
            )
        found[match[1]] = [classes[i] for i in ids]
    return found


def read(
    annotations: str | pathlib.Path,
    videos: str | pathlib.Path,
    *,
    clips: Sequence[int] = CLIPS,
    seconds: float = 0,
) -> Manifest:
    """Makes the manifest of mini-Sports: ``clips`` (training, test) of those that were fetched, as 'train' and
    'val'.

    ``annotations`` is the folder of the official lists; below ``videos`` lie ID.mp4, in whatever folders, of which
    the first ``seconds`` are read, 0 for all. Raises FileNotFoundError, also where no video is one of the lists',
    and ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    classes, films = _classes(folder), crawled.films(root)
    listed = {split: _labels(_file(folder, name), classes) for split, name in LISTS.items()}
    crawled.check(films, {video for found in listed.values() for video in found}, root)
    items, notes = [], []
    seen: set[str] = set()
    for (split, name), count in zip(LISTS.items(), clips):
        found = listed[split]
        # The lists hold some videos twice; what trains is never scored.
        one = {video: labels[0] for video, labels in found.items() if len(labels) == 1 and video not in seen}
        chosen = crawled.shuffled(one.keys() & films.keys())[:count]
        seen |= set(chosen)
        items += [
            crawled.item(video, films[video], root, split, [one[video]], end=seconds or None) for video in chosen
        ]
        notes += crawled.missing(found, films, name)
        notes.append(f"{len(chosen)} of the {len(one)} videos of {name} with one label are drawn for '{split}'")
    check_ids(items, folder)
    return Manifest("minisports", items, {"action": {"kind": "single", "names": classes}}, tuple(notes))
