"""Shares out detections that come in few large files of JSON: a small file for each clip, made once."""

import os
import pathlib
from collections.abc import Collection, Iterator, Sequence

from tqdm import tqdm

from data_prep.manifest import Item
from mmvid.data.media import detections
from mmvid.data.media.item import few
from mmvid.files import read_note, write_json, write_text

# Frames a second that Something-Else's annotation counts; the videos may have been converted to another rate.
FPS = 12.0
# Pixels: all videos of Something-Something v2 are as high, and boxes were drawn on them before any conversion.
HEIGHT = 240
# Changes whenever the small files would be written otherwise.
VERSION = 2
FLAGS = {
    "--boxes": dict(
        nargs="+",
        metavar="JSON",
        help="bounding_box_smthsmth_part*.json or detected_*_part*.json: the files, or a folder of them",
    )
}


def beside(out: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the small files that belong to the dataset at ``out``."""
    return out.with_name(f"{out.name}-boxes")


def _sources(named: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
    """Lists the files of JSON that are named, of folders all that they hold. Raises FileNotFoundError."""
    files: list[pathlib.Path] = []
    for path in map(pathlib.Path, named):
        found = sorted(path.glob("*.json")) if path.is_dir() else [path] if path.exists() else []
        if not found:
            raise FileNotFoundError(f"--boxes {path}: there is no such file, nor a folder with files of JSON")
        files += found
    return files


def _known(folder: pathlib.Path, made: dict) -> list[str] | None:
    """Returns the ids that were shared out from equal files for equal clips before; None where they were not."""
    note = read_note(folder / "made.json")
    return note["ids"] if {key: note.get(key) for key in made} == made else None


def _written(sources: list[pathlib.Path], wanted: Collection[str], folder: pathlib.Path) -> Iterator[str]:
    """Writes the boxes of the ``wanted`` videos and yields the ids. Raises ValueError where two files know one
    video."""
    owner: dict[str, str] = {}
    for source in sources:
        for name, video in tqdm(detections.videos(source), desc=source.name, unit="video", dynamic_ncols=True):
            if name in owner:
                raise ValueError(
                    f"video {name!r} is in {owner[name]} and in {source.name}: name the parts of one annotation, "
                    "either the annotated boxes or the detected ones"
                )
            owner[name] = source.name
            if name in wanted:
                target, text = folder / f"{name}.json", detections.packed(name, video, HEIGHT)
                # What is as before keeps its time, so that its clip is not prepared again.
                if not target.exists() or target.read_text(encoding="utf-8") != text:
                    write_text(target, text)
                yield name


def _with(item: Item, path: pathlib.Path) -> Item:
    return item._replace(paths=item.paths | {"boxes": path}, fps=FPS)


def shared_out(
    items: Sequence[Item], named: Sequence[str | os.PathLike] | None, out: str | os.PathLike
) -> tuple[list[Item], tuple[str, ...]]:
    """Gives each clip its boxes: (the clips, notes).

    They are read from the files ``named``, a video at a time, and written beside the dataset at ``out``, where a
    second call finds them. Without files, clips stay as they are.

    Raises FileNotFoundError, and ValueError for what is no such JSON and for a video that is known twice.
    """
    if not named:
        return list(items), ()
    sources, folder = _sources(named), beside(pathlib.Path(out))
    stamps = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in sources]
    made = {"version": VERSION, "sources": stamps, "wanted": sorted(item.id for item in items)}
    ids = _known(folder, made)
    if ids is None:
        folder.mkdir(parents=True, exist_ok=True)
        ids = list(_written(sources, {item.id for item in items}, folder))
        write_json(folder / "made.json", made | {"ids": ids})
    if not ids:
        raise ValueError(f"{few([path.name for path in sources])}: no boxes of any clip, they know other videos")
    given = {name: folder / f"{name}.json" for name in ids}
    lacking = [item.id for item in items if item.id not in given]
    items = [_with(item, given[item.id]) if item.id in given else item for item in items]
    return items, ((f"{len(lacking)} of {len(items)} clips have no boxes: {few(lacking)}",) if lacking else ())
