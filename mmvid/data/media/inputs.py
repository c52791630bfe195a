"""Finds the clips in what a user names: a video, a picture, a folder, a pattern, or a CSV of clips."""

import os
import pathlib

from mmvid.data.media import audio, folder, table
from mmvid.data.media.item import FURTHER, Item, printable

TABLES = (".csv", ".tsv")


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
    video that has sound brings its own. Raises ValueError for a name that is none of these.
    """
    if unknown := sorted(set(further) - set(FURTHER)):
        raise ValueError(f"{unknown[0]!r} is nothing that a clip can have beside its RGB: {', '.join(FURTHER)}")
    path, paths = pathlib.Path(path), {name: pathlib.Path(file) for name, file in further.items()}
    if hear and "audio" not in paths and path.is_file() and audio.there(path):
        paths["audio"] = path
    return Item(printable(str(path)), path, start=start, end=end, paths=paths, fps=fps)


def _of_folder(root: pathlib.Path, hear: bool) -> tuple[list[Item], list[str]]:
    """Finds the clips below ``root``, wherever they lie: (clips, notes). Raises ValueError where there is none."""
    # Nothing is a class here: numbered pictures are one clip together, in the root, too.
    found = folder.find(root, lambda parts: 1)
    notes = [
        f"passed over in {root}: {len(names)} {kind} ({names[0]}{', ..' if len(names) > 1 else ''})"
        for kind, names in sorted(found.passed.items())
    ]
    if not found.clips:
        raise ValueError("; ".join([f"{root} holds no video and no pictures", *notes]))
    return [item(c.path, hear=hear)._replace(id=printable(str(root / c.id))) for c in found.clips], notes


def _of_table(path: pathlib.Path) -> tuple[list[Item], list[str]]:
    """Reads a CSV with the columns of data_prep's, of which labels and splits are not needed: (clips, notes).
    Raises ValueError naming the line."""
    found = table.opened(path, labelled=False)
    try:
        items, _, notes = table.items(found, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    return items, [*found.notes, *notes]


def items(path: str | os.PathLike, *, hear: bool = False) -> tuple[list[Item], list[str]]:
    """Finds the clips that ``path`` stands for: (clips, notes on what was passed over).

    They are the rows of a CSV, all clips below a folder, or the one that a file or a pattern is; whether that can
    be read is seen when it is. Raises ValueError or FileNotFoundError for a CSV that cannot be read and a folder
    without a clip.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in TABLES:
        return _of_table(path)
    return _of_folder(path, hear) if path.is_dir() else ([item(path, hear=hear)], [])
