"""Finds the clips in a folder: which files are clips, which pictures make one together, and what is neither."""

import collections
import contextlib
import glob
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mmvid.data.media import depth as depth_lib
from mmvid.data.media import files as files_lib
from mmvid.data.media.item import IMAGE_ENDINGS, VIDEO_ENDINGS, few, printable

# Endings of files that are never opened to see whether they are videos: pictures that nothing here reads, sound
# (whose cover, a picture, would pass for a video), and other files that are often met.
_OTHERS = """avif dng exr heic heif hdr ico jfif jp2 jpe pbm pgm ppm svg tga tif tiff
    aac aif aiff flac m4a mka mp3 oga opus wav wma  srt sub vtt  csv htm html ini json jsonl log md pdf py rst tsv
    txt xml yaml yml  7z bz2 gz rar tar tgz xz zip  bin db h5 hdf5 mat npy npz part pickle pkl pt pth tmp"""
OTHER_ENDINGS = {f".{ending}" for ending in _OTHERS.split()}
# What systems leave behind, beside all names that begin with a dot.
LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}
# Subfolders of a clip that hold no RGB.
NOT_RGB = {"depth", "flow", "flow_x", "flow_y", "u", "v", "mask", "masks"}


class Folder(NamedTuple):
    """A folder and its files; ``parts`` are the names of the folders from below the root down to it."""

    path: pathlib.Path
    parts: tuple[str, ...]
    files: list[pathlib.Path]


class Clip(NamedTuple):
    """A clip that is read from ``path`` and lies in the folder of these ``parts``. Clips of one ``group`` belong
    together: they may be frames of one clip."""

    id: str
    path: pathlib.Path
    parts: tuple[str, ...]
    group: str


class Found(NamedTuple):
    """What was found below a root: its ``clips``, the parts of all ``folders``, {how pictures were read: ids of
    clips} in ``pictures``, {what they are: names} of the files that are no clips in ``passed``, and in ``mixed``
    (parts, what it holds) of each folder with pictures of several clips, which are left out."""

    clips: list[Clip]
    folders: list[tuple[str, ...]]
    pictures: dict[str, list[str]]
    passed: dict[str, list[str]]
    mixed: list[tuple[tuple[str, ...], str]]


# ``below(parts)``: how many folders a folder lies below that of its class; negative above the folders of classes.
Below = Callable[[tuple[str, ...]], int]


def _folders(root: pathlib.Path, passed: dict) -> Iterator[Folder]:
    """Yields ``root`` and every folder below it. Links are followed, but never into a folder that they lie in;
    folders that are not entered are noted in ``passed``."""

    def visit(folder: pathlib.Path, parts: tuple[str, ...], above: tuple[str, ...]):
        real = os.path.realpath(folder)
        if real in above:
            passed["links back to a folder above"].append(name_of(parts))
            return
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            passed["folders that may not be read"].append(name_of(parts))
            return
        # A dataset may be built within the folder that it is built of.
        if parts and "build.lock" in names:
            passed["datasets made by data_prep"].append(name_of(parts))
            return
        names = [name for name in names if name[0] != "." and name.casefold() not in LEFT_BEHIND]
        inside = [name for name in names if os.path.isdir(folder / name)]
        yield Folder(folder, parts, [folder / name for name in names if name not in set(inside)])
        for name in inside:
            yield from visit(folder / name, (*parts, name), (*above, real))

    return visit(root, (), ())


def name_of(parts: Sequence[str]) -> str:
    """Joins the names of folders into one text that can be an id."""
    return printable("/".join(parts))


# ---------------------------------------------------------------------------- what a file is
def _kind(file: pathlib.Path) -> str:
    """Returns 'video', 'picture', or the ending of a file that is neither. A file of unknown ending is opened to
    see whether it is a video."""
    ending = file.suffix.lower()
    if not (file.is_file() or file.is_symlink()):
        return "neither file nor folder"
    if ending in VIDEO_ENDINGS | IMAGE_ENDINGS:
        return "video" if ending in VIDEO_ENDINGS else "picture"
    if ending not in OTHER_ENDINGS:
        with contextlib.suppress(files_lib.DecodeError):
            if depth_lib.extent(file)[0]:
                return "video"
    return ending or "without an ending"


# ---------------------------------------------------------------------------- pictures that make a clip
class _Mixed(ValueError):
    """Says that pictures are of several clips; the message names them."""


def _series(pictures: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the pictures that are numbered in one way (frame_1.jpg, frame_2.jpg, ..), which are the frames of a
    clip; [] where fewer than half of the pictures are numbered.

    Raises _Mixed where there are several such series.
    """
    masks = collections.defaultdict(list)
    for picture in pictures:
        masks[re.sub("[0-9]+", "#", picture.name)].append(picture)
    if len(pictures) == 1:
        return list(pictures) if re.search("[0-9]", pictures[0].name) else []
    numbered = {mask: files for mask, files in masks.items() if "#" in mask and len(files) > 1}
    if 2 * sum(map(len, numbered.values())) < len(pictures):
        return []
    if len(numbered) == 1:
        [files] = numbered.values()
        if not _several(files):
            return files
    raise _Mixed(f"several series of pictures ({few(sorted(numbered), 4)})")


def _several(files: Sequence[pathlib.Path]) -> bool:
    """Tells whether ``files``, which are numbered in one way, are frames of several clips, as clip1_1, clip1_2
    and clip2_1 are."""
    # In one clip the first number that changes counts the frames; if it mostly repeats, it counts clips.
    numbers = zip(*(re.findall("[0-9]+", file.stem) for file in files))
    changing = next(column for column in numbers if len(set(column)) > 1)
    return 2 * len(set(changing)) <= len(changing)


def _pattern(files: Sequence[pathlib.Path], everything: Sequence[pathlib.Path]) -> pathlib.Path:
    """Returns the path by which an Item names ``files``: their folder, or a pattern where the folder holds other
    pictures, too."""
    folder, name = files[0].parent, glob.escape(files[0].name)
    return folder if len(files) == len(everything) else folder / re.sub("[0-9]+", "[0-9]*", name)


# ---------------------------------------------------------------------------- clips
def _add(found: Found, folder: Folder, path: pathlib.Path, parts: Sequence[str], group: str = "") -> str:
    """Adds the clip that is read from ``path`` and returns its id, which is made of ``parts``. ``group`` names
    what it belongs together with; by default it stands alone."""
    clip = name_of(parts)
    found.clips.append(Clip(clip, path, folder.parts, group or clip))
    return clip


def _add_stills(found: Found, folder: Folder, pictures: Sequence[pathlib.Path], below: int) -> None:
    """Adds each picture as a clip of one frame."""
    # What lies together below a class may be frames of one clip all the same.
    group = name_of(folder.parts) if below else ""
    for file in pictures:
        found.pictures["pictures are a clip of one frame each"].append(
            _add(found, folder, file, (*folder.parts, file.name), group)
        )


def _add_series(found: Found, folder: Folder, series: list[pathlib.Path], pictures: list[pathlib.Path]) -> None:
    """Adds the numbered ``series`` among a folder's ``pictures`` as one clip."""
    found.pictures["folders of numbered pictures are a clip each"].append(
        _add(found, folder, _pattern(series, pictures), folder.parts)
    )


def _pass_over(found: Found, folder: Folder, kind: str, files: Sequence[pathlib.Path]) -> None:
    """Notes that ``files`` are passed over, as they are not clips but ``kind``."""
    if files:
        found.passed[kind] += [name_of((*folder.parts, file.name)) for file in files]


def _take_pictures(
    found: Found, folder: Folder, pictures: list[pathlib.Path], films: set[pathlib.Path], beside: bool, below: int
) -> None:
    """Adds a folder's pictures: in the folder of a class each is a clip of one frame; further down, numbered ones
    are one clip together. ``films`` are the videos found so far, without their endings; ``beside`` says that
    some of them lie in this folder."""
    # A picture with a video's name is mostly its preview, and frames beside a video would be the clip twice.
    _pass_over(found, folder, "pictures named as a video", [p for p in pictures if p.with_suffix("") in films])
    pictures = [p for p in pictures if p.with_suffix("") not in films]
    if not below:
        _add_stills(found, folder, pictures, below)
    elif folder.path.name.lower() in NOT_RGB:
        _pass_over(found, folder, "pictures of depth, flow or masks, which a CSV can name", pictures)
    elif not (series := pictures and _series(pictures)):
        _add_stills(found, folder, pictures, below)
    elif folder.path in films or beside:
        _pass_over(found, folder, "frames beside their video", pictures)
    else:
        others = sorted(set(pictures) - set(series))
        _pass_over(found, folder, "pictures beside numbered ones", others)
        _add_series(found, folder, series, pictures)


def find(root: pathlib.Path, below: Below) -> Found:
    """Walks through ``root`` and decides of every file whether it is a clip, a part of one, or neither.

    In the folder of a class (``below`` is 0) each picture is a clip of one frame; further down, numbered ones are
    one clip together.
    """
    lists = collections.defaultdict
    found, films = Found([], [], lists(list), lists(list), []), set()
    for folder in _folders(root, found.passed):
        level, kinds = below(folder.parts), collections.defaultdict(list)
        found.folders.append(folder.parts)
        for file in folder.files:
            kinds[_kind(file) if level >= 0 else "outside of a class folder"].append(file)
        for kind in kinds.keys() - {"video", "picture"}:
            _pass_over(found, folder, kind, kinds[kind])
        films |= {file.with_suffix("") for file in kinds["video"]}
        for file in kinds["video"]:
            _add(found, folder, file, (*folder.parts, file.name))
        try:
            _take_pictures(found, folder, kinds["picture"], films, bool(kinds["video"]), level)
        except _Mixed as error:
            found.mixed.append((folder.parts, str(error)))
    return found
