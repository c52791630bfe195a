"""A folder of class folders as a manifest: which files are clips, and which pictures make one together."""

import collections
import contextlib
import glob
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_prep import manifest
from data_prep.manifest import SPLITS, Item, Manifest
from mmvid.data.media import depth as depth_lib
from mmvid.data.media import files as files_lib
from mmvid.data.media.item import IMAGE_ENDINGS, SPLIT_NAMES, VIDEO_ENDINGS, few, printable

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


class _Folder(NamedTuple):
    """A folder and its files; ``parts`` are the names of the folders from below the root down to it."""

    path: pathlib.Path
    parts: tuple[str, ...]
    files: list[pathlib.Path]

    @property
    def split(self) -> str:
        """The split that the first folder below the root is named after; '' where it is none."""
        return SPLIT_NAMES.get(self.parts[0].lower(), "") if len(self.parts) > 1 else ""

    @property
    def below(self) -> int:
        """How many folders it lies below the folder of its class; negative above the folders of classes."""
        return len(self.parts) - (2 if self.split else 1)


class _Found(NamedTuple):
    """What was found below the root: the clips ``items`` and what is known of them.

    ``group`` is {id: name of a group}; clips of one group go into the same split. ``classes`` is {folder of a
    class: number of its clips}, ``pictures`` {how pictures were read: ids of clips}, and ``passed`` {what they
    are: names} has the files that are no clips.
    """

    items: list[Item]
    group: dict[str, str]
    classes: collections.Counter
    pictures: dict[str, list[str]]
    passed: dict[str, list[str]]


def _folders(root: pathlib.Path, passed: dict) -> Iterator[_Folder]:
    """Yields ``root`` and every folder below it. Links are followed, but never into a folder that they lie in;
    folders that are not entered are noted in ``passed``."""

    def visit(folder: pathlib.Path, parts: tuple[str, ...], above: tuple[str, ...]):
        real = os.path.realpath(folder)
        if real in above:
            passed["links back to a folder above"].append(_name(parts))
            return
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            passed["folders that may not be read"].append(_name(parts))
            return
        # A dataset may be built within the folder that it is built of.
        if parts and "build.lock" in names:
            passed["datasets made by data_prep"].append(_name(parts))
            return
        names = [name for name in names if name[0] != "." and name.casefold() not in LEFT_BEHIND]
        inside = [name for name in names if os.path.isdir(folder / name)]
        yield _Folder(folder, parts, [folder / name for name in names if name not in set(inside)])
        for name in inside:
            yield from visit(folder / name, (*parts, name), (*above, real))

    return visit(root, (), ())


def _name(parts: Sequence[str]) -> str:
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
def _series(pictures: Sequence[pathlib.Path], folder: str) -> list[pathlib.Path]:
    """Returns the pictures that are numbered in one way (frame_1.jpg, frame_2.jpg, ..), which are the frames of a
    clip; [] where fewer than half of the pictures are numbered.

    Raises ValueError where there are several such series.
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
    raise ValueError(
        f"{folder} holds several series of pictures ({few(sorted(numbered), 4)}): give each clip a "
        "folder of its own; or say in a CSV what belongs where (--manifest; path=clip/*_rgb.jpg, "
        "depth=clip/*_depth.png); pictures that are no film belong straight into their class's folder"
    )


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
def _add(found: _Found, folder: _Folder, path: pathlib.Path, parts: Sequence[str], group: str = "") -> str:
    """Adds the clip that is read from ``path`` and returns its id, which is made of ``parts``. ``group`` names
    what it shares a split with; by default it stands alone."""
    depth = 2 if folder.split else 1
    item = Item(_name(parts), path, folder.split, {"action": (printable(folder.parts[depth - 1]),)})
    found.items.append(item)
    found.group[item.id] = group or item.id
    found.classes[_name(folder.parts[:depth])] += 1
    return item.id


def _add_stills(found: _Found, folder: _Folder, pictures: Sequence[pathlib.Path]) -> None:
    """Adds each picture as a clip of one frame."""
    # What lies together below a class may be frames of one clip all the same.
    group = _name(folder.parts) if folder.below else ""
    for file in pictures:
        found.pictures["pictures are a clip of one frame each"].append(
            _add(found, folder, file, (*folder.parts, file.name), group)
        )


def _add_series(found: _Found, folder: _Folder, series: list[pathlib.Path], pictures: list[pathlib.Path]) -> None:
    """Adds the numbered ``series`` among a folder's ``pictures`` as one clip."""
    found.pictures["folders of numbered pictures are a clip each"].append(
        _add(found, folder, _pattern(series, pictures), folder.parts)
    )


def _pass_over(found: _Found, folder: _Folder, kind: str, files: Sequence[pathlib.Path]) -> None:
    """Notes that ``files`` are passed over, as they are not clips but ``kind``."""
    if files:
        found.passed[kind] += [_name((*folder.parts, file.name)) for file in files]


def _take_pictures(
    found: _Found, folder: _Folder, pictures: list[pathlib.Path], films: set[pathlib.Path], beside: bool
) -> None:
    """Adds a folder's pictures: in the folder of a class each is a clip of one frame; further down, numbered ones
    are one clip together. ``films`` are the videos found so far, without their endings; ``beside`` says that
    some of them lie in this folder."""
    # A picture with a video's name is mostly its preview, and frames beside a video would be the clip twice.
    _pass_over(found, folder, "pictures named as a video", [p for p in pictures if p.with_suffix("") in films])
    pictures = [p for p in pictures if p.with_suffix("") not in films]
    if not folder.below:
        _add_stills(found, folder, pictures)
    elif folder.path.name.lower() in NOT_RGB:
        _pass_over(found, folder, "pictures of depth, flow or masks, which a CSV can name", pictures)
    elif not (series := pictures and _series(pictures, _name(folder.parts))):
        _add_stills(found, folder, pictures)
    elif folder.path in films or beside:
        _pass_over(found, folder, "frames beside their video", pictures)
    else:
        others = sorted(set(pictures) - set(series))
        _pass_over(found, folder, "pictures beside numbered ones", others)
        _add_series(found, folder, series, pictures)


def _find(root: pathlib.Path) -> _Found:
    """Walks through ``root`` and decides of every file whether it is a clip, a part of one, or neither."""
    lists = collections.defaultdict
    found, films = _Found([], {}, collections.Counter(), lists(list), lists(list)), set()
    for folder in _folders(root, found.passed):
        kinds = collections.defaultdict(list)
        for file in folder.files:
            kinds[_kind(file) if folder.below >= 0 else "outside of a class folder"].append(file)
        for kind in kinds.keys() - {"video", "picture"}:
            _pass_over(found, folder, kind, kinds[kind])
        if folder.below == 0 and folder.parts[-1].lower() not in SPLIT_NAMES:
            # Named even if no clip follows: `_notes` tells of classes without one.
            found.classes[_name(folder.parts)] += 0
        films |= {file.with_suffix("") for file in kinds["video"]}
        for file in kinds["video"]:
            _add(found, folder, file, (*folder.parts, file.name))
        _take_pictures(found, folder, kinds["picture"], films, bool(kinds["video"]))
    return found


def _place(name: str) -> int:
    """Returns a number from 0 to 99 that depends on the name alone."""
    # Not hash(), which differs from process to process.
    return zlib.crc32(name.encode()) % 100


def _splits(names: list[str]) -> dict[str, str]:
    """Shares out names over train, val and test, 80 / 10 / 10, by a hash of each: {name: split}.

    Names that are added later move no others. Where the names are so few that a split would be empty, they are
    shared out in the order of their hashes instead.
    """
    split = {n: "train" if _place(n) < 80 else "val" if _place(n) < 90 else "test" for n in names}
    if set(split.values()) == set(SPLITS) or len(names) < 3:
        return split
    ranked = sorted(names, key=lambda n: (_place(n), n))
    part = max(len(names) // 10, 1)
    tail = dict.fromkeys(ranked[-part:], "test") | dict.fromkeys(ranked[-2 * part : -part], "val")
    return dict.fromkeys(ranked, "train") | tail


# ---------------------------------------------------------------------------- what is said of it
def _passed_over(passed: dict[str, list[str]]) -> list[str]:
    """Makes the note on files that are no clips, with an example of each kind; [] where there are none."""
    kinds = [
        f"{len(names)} {kind} ({names[0]}{', ..' if len(names) > 1 else ''})"
        for kind, names in sorted(passed.items())
    ]
    return [f"passed over: {', '.join(kinds)}"] if kinds else []


def _notes(found: _Found) -> tuple[str, ...]:
    """Makes the notes on how pictures were read, which classes have no clip, and what was passed over."""
    read = [f"{len(ids)} {how} ({ids[0]}{', ..' if len(ids) > 1 else ''})" for how, ids in found.pictures.items()]
    empty = [name for name, count in found.classes.items() if not count]
    bare = [f"folders of classes without a clip: {few(empty)}"] if empty else []
    return (*read, *bare, *_passed_over(found.passed))


def read(root: str | pathlib.Path) -> Manifest:
    """Makes the manifest of ``root/<class>/<clip>``, split 80/10/10 by a hash of the clip's name, or of
    ``root/<split>/<class>/<clip>``. A clip is a video, a picture in the folder of a class, or a folder of
    numbered pictures below that.

    Raises ValueError where no clip is found, where both layouts are mixed, or where a folder holds pictures of
    several clips, and FileNotFoundError where there is no folder ``root``.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    found = _find(root)
    if not found.items:
        expected = (
            f"{root} holds no videos in class folders: expected {root}/CLASS/clip.mp4 or "
            f"{root}/train/CLASS/clip.mp4 (and val, test)"
        )
        raise ValueError("; ".join([expected, *_passed_over(found.passed)]))
    groups = {found.group[item.id] for item in found.items if not item.split}
    drawn = _splits(sorted(groups))
    if drawn and any(item.split for item in found.items):
        inside = sorted({item.id.split("/")[0] for item in found.items if not item.split})
        raise ValueError(
            f"{root} holds both folders of splits and {inside[:3]}: put every class into a split "
            f"({', '.join(SPLIT_NAMES)}), or none"
        )
    items = [item._replace(split=item.split or drawn[found.group[item.id]]) for item in found.items]
    manifest.check_ids(items, root)
    names = sorted({item.labels["action"][0] for item in items}, key=manifest.natural)
    heads = {"action": {"kind": "single", "names": names}}
    return Manifest(printable(root.resolve().name), items, heads, _notes(found))
