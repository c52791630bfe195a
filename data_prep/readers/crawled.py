"""Datasets that publish links: what of their videos was fetched, found by name wherever it lies."""

import hashlib
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping

from data_prep.manifest import Item
from mmvid.data.media.item import VIDEO_ENDINGS, few

# In a copy of Kinetics, videos below a folder of this name stand for damaged ones of the same name.
REPLACES = "replacement"


def films(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {name without ending: video} of all that lies below ``root``, links followed. Of two with one name
    the one in a folder 'replacement' counts, else the first. Raises FileNotFoundError where there is none."""
    found: dict[str, pathlib.Path] = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        replaces = REPLACES in pathlib.Path(folder).relative_to(root).parts
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in VIDEO_ENDINGS and (replaces or stem not in found):
                found[stem] = pathlib.Path(folder, name)
    if not found:
        raise FileNotFoundError(f"no video lies below {root}")
    return found


def check(
    films: Mapping[str, pathlib.Path], names: Collection[str], root: pathlib.Path, ending: str = ".mp4"
) -> None:
    """Raises FileNotFoundError where none of the ``films`` below ``root`` is one of those that lists name, which
    are published with this ``ending``."""
    if not films.keys() & set(names):
        raise FileNotFoundError(
            f"no video below {root} has a name of the lists, as '{min(names)}{ending}': rename what was fetched"
        )


def item(
    name: str, path: pathlib.Path | None, root: pathlib.Path, split: str, labels: Iterable[str], **times
) -> Item:
    """Makes a clip with one head, 'action', whose sound is the video's own, if it has any.

    One whose video is not there keeps its place in the list, so that it is rejected with a reason and counted.
    """
    # Whether there is sound is found out when the clip is read: it takes as long as to open every video.
    path = path or root / f"{name}.mp4"
    return Item(name, path, split, {"action": tuple(labels)}, paths={"audio": path}, optional=("audio",), **times)


def missing(names: Collection[str], there: Collection[str], what: str) -> tuple[str, ...]:
    """Makes the note on how many videos of a list are not there, () where none lacks."""
    lacking = sorted(name for name in names if name not in there)
    return (f"{len(lacking)} of {len(names)} videos of {what} are not there: {few(lacking)}",) if lacking else ()


def shuffled(names: Iterable[str]) -> list[str]:
    """Puts names into the order of their hashes, in which they stay whatever comes or goes beside them: the first
    n are a uniform draw."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
