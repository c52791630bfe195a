"""UCF-101, read from its official lists: 101 classes, and three splits into training and test."""

import pathlib
import re
from collections.abc import Iterator, Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import crawled, lists

SPLITS = (1, 2, 3)
LISTS = {"train": "trainlist{:02d}.txt", "test": "testlist{:02d}.txt"}
_HINT = "unpack UCF101TrainTestSplits-RecognitionTask.zip, and name its folder ucfTrainTestlist"
# HandstandPushups/v_HandStandPushups_g01_c01.avi 37: lists of training end a line with the class's number.
_CLIP = re.compile(r"(?P<class>\w+)/(?P<name>v_\w+_g\d+_c\d+)\.avi(?:\s+(?P<number>\d+))?")


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of a list, blank lines left out."""
    for number, line in enumerate(lists.text_of(path, _HINT).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _classes(path: pathlib.Path) -> list[str]:
    """Returns the names of the classes, that of number 1 first. Raises ValueError where numbers do not count
    from 1."""
    names = []
    for line, text in _lines(path):
        number, _, name = text.partition(" ")
        if number != str(len(names) + 1) or not name.strip():
            raise ValueError(f"{path}, line {line}: {text!r} is not '{len(names) + 1} CLASS': fetch it again")
        names.append(name.strip())
    return names


def _clips(path: pathlib.Path, classes: Sequence[str], *, numbered: bool) -> list[tuple[str, str]]:
    """Returns (name, class) of the clips of a list. Raises ValueError naming a line that is no clip of the
    ``classes``, or, where lines are ``numbered``, has not its class's number."""
    found = []
    for line, text in _lines(path):
        match = _CLIP.fullmatch(text)
        # By the folder: the files of HandstandPushups are written otherwise.
        label = match["class"] if match else None
        right = label in classes and match["number"] == (str(classes.index(label) + 1) if numbered else None)
        if not right:
            wanted = "CLASS/v_CLASS_g01_c01.avi" + (" NUMBER" if numbered else "")
            raise ValueError(f"{path}, line {line}: {text!r} is not {wanted} of classInd.txt: fetch it again")
        found.append((match["name"], label))
    return found


def _check_groups(listed: dict[str, list[tuple[str, str]]], folder: pathlib.Path) -> None:
    """Raises ValueError where clips that were cut from one film are both learnt from and tested."""
    groups = {split: {name.rpartition("_")[0] for name, _ in found} for split, found in listed.items()}
    if both := sorted(groups["train"] & groups["test"]):
        raise ValueError(f"{folder}: clips of {both[0]!r} are in both lists of a split: fetch them again")


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path, *, split: int = 1) -> Manifest:
    """Makes the manifest of UCF-101, 'train' and 'test' of one of its three official splits.

    ``annotations`` is the folder of classInd.txt and the lists; below ``videos`` lie the clips, as
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi, in whatever folders. Those that are not there are rejected. A
    class's id is its number less one. Raises FileNotFoundError, also where no video is one of the lists', and
    ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    classes, films = _classes(folder / "classInd.txt"), crawled.films(root)
    files = {part: name.format(split) for part, name in LISTS.items()}
    listed = {part: _clips(folder / name, classes, numbered=part == "train") for part, name in files.items()}
    _check_groups(listed, folder)
    items: list[Item] = []
    notes: tuple[str, ...] = ()
    for part, found in listed.items():
        for name, label in found:
            # Where it is missing, the reason names it as it is published.
            path = films.get(name, root / label / f"{name}.avi")
            items.append(crawled.item(name, path, root, part, [label]))
        notes += crawled.missing([name for name, _ in found], films, files[part])
    crawled.check(films, [item.id for item in items], root, ".avi")
    check_ids(items, folder)
    heads = {"action": {"kind": "single", "names": classes}}
    return Manifest("ucf101" if split == 1 else f"ucf101-{split}", items, heads, notes)
