"""Finds the clips in what a user names: a video, a picture, a folder, a pattern, or a CSV of clips."""

import fnmatch
import os
import pathlib
from collections.abc import Iterator

from mmvid.data.media import audio, folder, table
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media.item import FURTHER, IMAGE_ENDINGS, VIDEO_ENDINGS, Item, Refused, few, printable

TABLES = (".csv", ".tsv")


# ---------------------------------------------------------------------------- one clip
def _heard(found: Item) -> Item:
    """Gives a clip whose video has sound this as its own, unless it is given another."""
    if found.path is None or "audio" in found.paths or not (found.path.is_file() and audio.there(found.path)):
        return found
    return found._replace(paths=found.paths | {"audio": found.path})


def _films(path: pathlib.Path) -> list[str]:
    """Returns the names of the videos of a folder that has no pictures to be a clip itself; [] for all else."""
    if not path.is_dir():
        return []
    endings = {name: pathlib.Path(name).suffix.lower() for name in sorted(os.listdir(path))}
    if set(endings.values()) & IMAGE_ENDINGS:
        return []
    return [name for name, ending in endings.items() if ending in VIDEO_ENDINGS]


def _checked(found: Item) -> Item:
    """Returns the clip. Raises ValueError where its path is a folder of videos, which are clips each."""
    if films := found.path is not None and _films(found.path):
        raise ValueError(
            f"{found.path} is a folder of videos ({few(films)}), this is to be one clip: name one of them"
        )
    return found


def item(
    path: str | os.PathLike,
    *,
    hear: bool = False,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    **further: str | os.PathLike,
) -> Item:
    """Makes the clip that is read from ``path``: a video, a picture, a pattern or a folder of pictures.

    ``further`` names files beside it, as the columns of a CSV do (depth, flow, audio, boxes). With ``hear``, a
    video that has sound brings its own. Raises ValueError for a name that is none of these, and for what a row of
    a CSV would be refused for: no path, times that are none, an interval that is empty.
    """
    if unknown := sorted(set(further) - set(FURTHER)):
        raise ValueError(f"{unknown[0]!r} is nothing that a clip can have beside its RGB: {', '.join(FURTHER)}")
    if not os.fspath(path):
        raise ValueError("path='': name a video, a picture or a folder of pictures")
    # As text, so that the cells of a CSV and the arguments of a call are checked alike.
    cells = {name: "" if value is None else str(value) for name, value in (("start", start), ("end", end))}
    start, end = table.interval({"path": os.fspath(path), **cells})
    fps = table.rate("" if fps is None else str(fps))
    path, paths = pathlib.Path(path), {name: pathlib.Path(file) for name, file in further.items() if file}
    found = _checked(Item(printable(str(path)), path, start=start, end=end, paths=paths, fps=fps))
    return _heard(found) if hear else found


# ---------------------------------------------------------------------------- many clips
# Clips, and what was to be some, in their order; and notes on what was passed over.
Found = tuple[list[Item | Refused], list[str]]


def _of_folder(root: pathlib.Path, hear: bool) -> Found:
    """Finds the clips below ``root``, wherever they lie. Raises ValueError where there is none."""
    # Nothing is a class here: numbered pictures are one clip together, in the root, too.
    found = folder.find(root, lambda parts: 1)
    notes = [
        f"passed over in {root}: {len(names)} {kind} ({names[0]}{', ..' if len(names) > 1 else ''})"
        for kind, names in sorted(found.passed.items())
    ]
    if not (found.clips or found.mixed):
        raise ValueError("; ".join([f"{root} holds no video and no pictures", *notes]))
    clips = [item(c.path, hear=hear)._replace(id=printable(str(root / c.id))) for c in found.clips]
    for path, what in [(root.joinpath(*parts), what) for parts, what in found.mixed]:
        why = f"it holds {what}: name each in a CSV by a pattern (path=clip/*_rgb.jpg, depth=clip/*_depth.png)"
        clips.append(Refused(printable(str(path)), path, why))
    return clips, notes


def _rows(path: pathlib.Path, found: table.Table, hear: bool) -> Iterator[Item | Refused]:
    """Yields the clip of each row of a CSV, or why the row has none."""
    try:
        for line, cells, clip in table.each(found, path.parent):
            try:
                if isinstance(clip, ValueError):
                    raise clip
                yield _heard(_checked(clip)) if hear else _checked(clip)
            except (ValueError, OSError) as error:
                row = dict(zip(found.header.columns, cells))
                where = path.parent / row["path"] if row.get("path") else None
                yield Refused(printable(row.get("id") or f"{path}, line {line}"), where, printable(str(error)))
    except ValueError as error:
        yield Refused(printable(str(path)), path, f"from here on: {error}")


def _of_table(path: pathlib.Path, hear: bool) -> Found:
    """Reads a CSV with the columns of data_prep's, of which labels and splits are not needed. Raises ValueError
    where it is none."""
    if path.exists() and not path.is_file():
        raise ValueError("it is neither a file nor a folder")
    if not path.exists():
        raise ValueError(f"missing file {path.name}")
    found = table.opened(path, labelled=False)
    clips = list(_rows(path, found, hear))
    if not clips:
        raise ValueError("a header and no rows")
    return clips, found.notes


def items(path: str | os.PathLike, *, hear: bool = False) -> Found:
    """Finds the clips that ``path`` stands for: (clips, notes on what was passed over).

    They are the rows of a CSV, all clips below a folder, or the one that a file or a pattern is; whether that can
    be read is seen when it is. What is no clip, as a row that is wrong or a folder without one, is Refused.
    """
    named = pathlib.Path(path)
    try:
        if named.is_dir() and os.fspath(path):
            return _of_folder(named, hear)
        return _of_table(named, hear) if named.suffix.lower() in TABLES else ([item(path, hear=hear)], [])
    except (ValueError, OSError) as error:
        return [Refused(printable(str(path)) or "''", named, printable(str(error)))], []


# ---------------------------------------------------------------------------- what a path stands for
def same(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Tells whether two paths are of one file, which may be missing yet."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def holds(read: pathlib.Path, target: pathlib.Path) -> bool:
    """Tells whether the file ``target`` is one that a clip's path ``read`` stands for: itself, or a picture of a
    folder or of a pattern."""
    if pictures_lib.is_pattern(read):
        return target.exists() and same(read.parent, target.parent) and fnmatch.fnmatch(target.name, read.name)
    if not read.is_dir():
        return same(read, target)
    # Of a folder, pictures alone are read: what else is in it may have been written by an earlier call.
    picture = target.suffix.lower() in IMAGE_ENDINGS and target.exists()
    return picture and any(same(read, above) for above in target.resolve().parents)
