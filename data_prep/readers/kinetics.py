"""Kinetics-400, read from its official CSV files; of its videos, whatever was fetched."""

import pathlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import crawled, lists

# The first name is of the authors' archive, the second of CVDF's copy.
LISTS = {"train": ("train.csv",), "val": ("validate.csv", "val.csv"), "test": ("test.csv",)}


def _list(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Finds the list of a split, under the first of its names where it is not there."""
    paths = [folder / name for name in LISTS[split]]
    return next((path for path in paths if path.exists()), paths[0])


def _seconds(row: Mapping[str, str], column: str) -> int:
    """Reads a time, '84' or '84.0'. Raises ValueError for what is none."""
    if not re.fullmatch(r"\d+(\.\d+)?", row[column].strip()):
        raise ValueError(f"{row[column]!r} is no {column} in seconds")
    return int(float(row[column]))


def _clips(path: pathlib.Path, *needed: str) -> Iterator[tuple[str, str]]:
    """Yields (name of the clip's file, class) of a list, in which the columns ``needed`` are filled. Raises
    ValueError naming a line without times, or without what is needed."""
    hint = "unpack kinetics400.tar.gz there, or fetch CVDF's k400/annotations"
    for line, row in lists.rows(path, "youtube_id", "time_start", "time_end", *needed, hint=hint):
        try:
            start, end = (_seconds(row, column) for column in ("time_start", "time_end"))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        # Some copies keep the quotes around labels with blanks.
        label = row.get("label", "").strip().strip('"')
        if needed and not label:
            raise ValueError(f"{path}, line {line}: the clip has no label")
        yield f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}", label


def _left_out(found: Sequence[tuple[str, str]], films: Collection[str]) -> str:
    """Tells why the test split cannot be read, '' where it can."""
    if not films & {name for name, _ in found}:
        return "none of their videos is there"
    # As in the package of the challenge.
    return "" if all(label for _, label in found) else "they have no labels"


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path) -> Manifest:
    """Makes the manifest of Kinetics-400: 'train', 'val', and 'test' where any of its videos is there.

    ``annotations`` is the folder of the CSV files; below ``videos`` lie the clips, ID_000084_000094.mp4, in
    whatever folders. Those that were not fetched are rejected. Classes are in the order of their names. Raises
    FileNotFoundError, also where no video is one of the lists', and ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    films = crawled.films(root)
    items: list[Item] = []
    notes: tuple[str, ...] = ()
    for split in LISTS:
        path = _list(folder, split)
        if split == "test" and not path.exists():
            continue
        found = list(_clips(path, *(() if split == "test" else ("label",))))
        if split == "test" and (why := _left_out(found, films.keys())):
            notes += (f"the {len(found)} clips of {path.name} are left out: {why}",)
            continue
        items += [crawled.item(name, films.get(name), root, split, [label]) for name, label in found]
        notes += crawled.missing([name for name, _ in found], films, path.name)
    crawled.check(films, [item.id for item in items], root)
    check_ids(items, folder)
    # In ASCII order, as in most code; some counts classes as they occur.
    classes = sorted({item.labels["action"][0] for item in items})
    return Manifest("kinetics400", items, {"action": {"kind": "single", "names": classes}}, notes)
