"""Charades, read from its official lists: 157 classes, several a video, each with its times."""

import pathlib
import re
from collections.abc import Mapping

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import crawled, lists

# The test list is what papers validate on, and report.
LISTS = {"train": "Charades_v1_train.csv", "val": "Charades_v1_test.csv"}
CLASSES = "Charades_v1_classes.txt"
# Pictures as they are published, beside the videos: 24 a second, flow of 20 pixels at most.
FRAMES, FLOW, RATE = "Charades_v1_rgb", "Charades_v1_flow", 24.0
_HINT = "unpack Charades.zip (prior.allenai.org/projects/charades), and name its folder"
_CLASS = re.compile(r"(c\d{3}) (.+)")
# c092 11.90 21.20
_ACTION = re.compile(r"(?P<code>c\d{3}) (?P<start>\d+\.?\d*) (?P<end>\d+\.?\d*)")


def _classes(path: pathlib.Path) -> dict[str, str]:
    """Returns {code: name} of the classes in the order of their codes. Raises ValueError where these do not count
    from c000."""
    found: dict[str, str] = {}
    for number, line in enumerate(lists.text_of(path, _HINT).splitlines()):
        match = _CLASS.fullmatch(line.strip())
        if not match or match[1] != f"c{number:03d}":
            raise ValueError(f"{path}, line {number + 1}: {line!r} is not 'c{number:03d} CLASS': fetch it again")
        found[match[1]] = match[2]
    return found


def _labels(cell: str, classes: Mapping[str, str], where: str) -> tuple[str, ...]:
    """Returns a video's labels as 'CLASS@start-end'; () for a video in which nothing of it is done.

    Intervals that end before they begin, of which there are some, are left out. Raises ValueError for a cell of
    another form, naming ``where`` it stands.
    """
    found = []
    for text in filter(None, (part.strip() for part in cell.split(";"))):
        match = _ACTION.fullmatch(text)
        if not match or match["code"] not in classes:
            raise ValueError(f"{where}: {text!r} is not 'CODE START END' of {CLASSES}: fetch it again")
        if float(match["start"]) < float(match["end"]):
            found.append(f"{classes[match['code']]}@{match['start']}-{match['end']}")
    return tuple(found)


def _folders(root: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    """Returns {video: folder of its pictures} below ``root``/``name``; {} where there are none."""
    return {folder.name: folder for folder in sorted((root / name).glob("*/"))}


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path) -> Manifest:
    """Makes the manifest of Charades, 'train' and 'val' (its test list).

    ``annotations`` is the folder of the lists. ``videos`` holds the published pictures, Charades_v1_rgb/ID/ and
    perhaps Charades_v1_flow/ID/, or the videos, ID.mp4, in whatever folders. What is not there is rejected with
    its reason. Raises FileNotFoundError, also where nothing is one of the lists', and ValueError for lists of
    another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    if root.name in (FRAMES, FLOW):
        raise FileNotFoundError(f"{root} is one of the folders of pictures: name what it lies in, {root.parent}")
    classes = _classes(folder / CLASSES)
    pictures, flow = _folders(root, FRAMES), _folders(root, FLOW)
    films = pictures or crawled.films(root)
    items: list[Item] = []
    notes: tuple[str, ...] = ()
    for split, file in LISTS.items():
        ids = []
        for line, row in lists.rows(folder / file, "id", "actions", hint=_HINT):
            labels = _labels(row["actions"], classes, f"{folder / file}, line {line}")
            ids.append(row["id"])
            items.append(_item(row["id"], films, flow, root, split, labels, drawn=bool(pictures)))
        notes += crawled.missing(ids, films, file)
    crawled.check(films, [item.id for item in items], root)
    check_ids(items, folder)
    return Manifest("charades", items, {"action": {"kind": "spans", "names": [*classes.values()]}}, notes)


def _item(
    name: str,
    films: Mapping,
    flow: Mapping,
    root: pathlib.Path,
    split: str,
    labels: tuple[str, ...],
    *,
    drawn: bool,
) -> Item:
    """Makes a clip of a video, or, ``drawn``, of its pictures; one that is not there keeps its place."""
    paths = {"flow": flow[name]} if name in flow else {}
    if drawn:
        return Item(name, films.get(name, root / FRAMES / name), split, {"action": labels}, paths=paths, fps=RATE)
    return crawled.item(name, films.get(name), root, split, labels)
