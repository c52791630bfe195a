"""Kinetics-400, read from its official CSV files; of its videos, whatever was fetched."""

import pathlib
from collections.abc import Iterator

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import crawled, lists

# The first name is of the authors' archive, the second of CVDF's copy.
LISTS = {"train": ("train.csv",), "val": ("validate.csv", "val.csv"), "test": ("test.csv",)}


def _list(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Finds the list of a split, under the first of its names where it is not there."""
    paths = [folder / name for name in LISTS[split]]
    return next((path for path in paths if path.exists()), paths[0])


def _seconds(text: str) -> int:
    """Reads a time, '84' or '84.0'. Raises ValueError for what is none."""
    return int(float(text))


def _clips(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields (name of the clip's file, class) of a list. Raises ValueError naming a line without times."""
    columns = ("label", "youtube_id", "time_start", "time_end")
    hint = "unpack kinetics400.tar.gz there, or fetch CVDF's k400/annotations"
    for line, row in lists.rows(path, *columns, hint=hint):
        try:
            start, end = (_seconds(row[column]) for column in ("time_start", "time_end"))
        except ValueError:
            raise ValueError(f"{path}, line {line}: {row['time_start']!r} is no time in seconds") from None
        # Some copies keep the quotes around labels with blanks.
        yield f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}", row["label"].strip().strip('"')


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path) -> Manifest:
    """Makes the manifest of Kinetics-400: 'train', 'val', and 'test' where any of its videos is there.

    ``annotations`` is the folder of the CSV files; below ``videos`` lie the clips, ID_000084_000094.mp4, in
    whatever folders. Those that were not fetched are rejected. Classes are in the order of their names. Raises
    FileNotFoundError, and ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    films = crawled.films(root)
    items: list[Item] = []
    notes: tuple[str, ...] = ()
    for split in LISTS:
        path = _list(folder, split)
        if split == "test" and not path.exists():
            continue
        found = list(_clips(path))
        names = [name for name, _ in found]
        if split == "test" and not films.keys() & set(names):
            notes += (f"the {len(names)} clips of {path.name} are left out: none of their videos is there",)
            continue
        items += [crawled.item(name, films.get(name), root, split, [label]) for name, label in found]
        notes += crawled.missing(names, films, path.name)
    check_ids(items, folder)
    # In ASCII order, as in most code; some counts classes as they occur.
    classes = sorted({item.labels["action"][0] for item in items})
    return Manifest("kinetics400", items, {"action": {"kind": "single", "names": classes}}, notes)
