"""A folder of class folders as a manifest: classes and splits are the names of folders."""

import pathlib
import zlib
from collections.abc import Sequence

from data_prep import manifest
from data_prep.manifest import SPLITS, Item, Manifest
from mmvid.data.media import folder
from mmvid.data.media.item import SPLIT_NAMES, few, printable


def _split(parts: Sequence[str]) -> str:
    """Returns the split that the first folder below the root is named after; '' where it is none."""
    return SPLIT_NAMES.get(parts[0].lower(), "") if len(parts) > 1 else ""


def _below(parts: Sequence[str]) -> int:
    """Returns how many folders a folder lies below that of its class."""
    return len(parts) - (2 if _split(parts) else 1)


def _class(parts: Sequence[str]) -> Sequence[str]:
    """Returns the parts of the folder of the class that a folder lies in."""
    return parts[: 2 if _split(parts) else 1]


def _item(clip: folder.Clip) -> Item:
    """Makes the item of a clip: the folder of its class is its label."""
    return Item(clip.id, clip.path, _split(clip.parts), {"action": (printable(_class(clip.parts)[-1]),)})


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


def _empty(found: folder.Found) -> list[str]:
    """Lists the folders of classes that have no clip."""
    classes = (parts for parts in found.folders if _below(parts) == 0 and parts[-1].lower() not in SPLIT_NAMES)
    filled = {_class(clip.parts) for clip in found.clips}
    return [folder.name_of(parts) for parts in classes if parts not in filled]


def _notes(found: folder.Found) -> tuple[str, ...]:
    """Makes the notes on how pictures were read, which classes have no clip, and what was passed over."""
    read = [f"{len(ids)} {how} ({ids[0]}{', ..' if len(ids) > 1 else ''})" for how, ids in found.pictures.items()]
    empty = _empty(found)
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
    found = folder.find(root, _below)
    for parts, what in found.mixed[:1]:
        raise ValueError(
            f"{folder.name_of(parts)} holds {what}: give each clip a folder of its own; or say in a CSV what "
            "belongs where (--manifest; path=clip/*_rgb.jpg, depth=clip/*_depth.png); pictures that are no film "
            "belong straight into their class's folder"
        )
    if not found.clips:
        expected = (
            f"{root} holds no videos in class folders: expected {root}/CLASS/clip.mp4 or "
            f"{root}/train/CLASS/clip.mp4 (and val, test)"
        )
        raise ValueError("; ".join([expected, *_passed_over(found.passed)]))
    items = [_item(clip) for clip in found.clips]
    group = {clip.id: clip.group for clip in found.clips}
    drawn = _splits(sorted({group[item.id] for item in items if not item.split}))
    if drawn and any(item.split for item in items):
        inside = sorted({item.id.split("/")[0] for item in items if not item.split})
        raise ValueError(
            f"{root} holds both folders of splits and {inside[:3]}: put every class into a split "
            f"({', '.join(SPLIT_NAMES)}), or none"
        )
    items = [item._replace(split=item.split or drawn[group[item.id]]) for item in items]
    manifest.check_ids(items, root)
    names = sorted({item.labels["action"][0] for item in items}, key=manifest.natural)
    heads = {"action": {"kind": "single", "names": names}}
    return Manifest(printable(root.resolve().name), items, heads, _notes(found))
