"""EPIC-Kitchens-100, read from its official CSV files and the tree that its download script makes.

Its own test set has no labels. The papers' regular split is the whole validation set, and 'unseen' are those of
its segments whose cooks never train: they stand in both splits, under one id.
"""

import collections
import pathlib
import re
from collections.abc import Iterator

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import lists
from mmvid.data.media import audio, hand_objects
from mmvid.data.media.item import VIDEO_ENDINGS

LISTS = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
TEST = "EPIC_100_test_timestamps.csv"
UNSEEN = "EPIC_100_unseen_participant_ids_validation.csv"
# What that file says, for where it is not there.
UNSEEN_PARTICIPANTS = ("P18", "P32")
HEADS = ("noun", "verb")
# Of the download script; of the videos by themselves; of EPIC-Kitchens-55.
TREES = ("P[0-9]*/videos", "videos/P[0-9]*", "P[0-9]*", "videos/*/P[0-9]*")
_NEEDED = ("participant_id", "video_id", "start_timestamp", "stop_timestamp")


# ---------------------------------------------------------------------------- lists
def _rows(folder: pathlib.Path, name: str, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, {column: cell}) of an official CSV; raises what `lists.rows` does."""
    version = "100" if name.startswith("EPIC_100") else "55"
    hint = f"it is in the repository epic-kitchens-{version}-annotations"
    return lists.rows(folder / name, *needed, hint=hint)


def names(folder: pathlib.Path, name: str, number: str = "id", key: str = "key") -> list[str]:
    """Lists the classes of a class file, whose columns ``number`` and ``key`` hold ids and names, in the order of
    their ids. Raises ValueError where these are not 0 to K - 1."""
    rows = [row for _, row in _rows(folder, name, number, key)]
    if [row[number] for row in rows] != [str(i) for i in range(len(rows))]:
        raise ValueError(f"the ids of {folder / name} are not 0..{len(rows) - 1} in this order")
    return [row[key].strip() for row in rows]


def _seconds(text: str) -> float:
    """Reads '00:01:02.34' as 62.34 seconds. Raises ValueError for anything else."""
    if not (match := re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", text.strip())):
        raise ValueError(f"{text!r} is no time like 00:01:02.34")
    hours, minutes, seconds = match.groups()
    # Rounded, since 60 + 2.34 is not quite 62.34.
    return round(3600 * int(hours) + 60 * int(minutes) + float(seconds), 6)


def _interval(row: dict[str, str]) -> tuple[float, float]:
    """Reads (start, end) of a segment in seconds of its video. Raises ValueError for what is none."""
    start, end = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
    if end <= start:
        raise ValueError(f"the segment ends at {end} s, and begins at {start}")
    return start, end


def _unseen(folder: pathlib.Path) -> set[str]:
    """Returns the participants of the validation set that never train."""
    if not (folder / UNSEEN).exists():
        return set(UNSEEN_PARTICIPANTS)
    return {row["participant_id"].strip() for _, row in _rows(folder, UNSEEN, "participant_id")}


def _label(row: dict[str, str], head: str, names: list[str]) -> tuple[str, ...]:
    """Returns the class of a row; what is no class's number is kept as it is, and rejects the clip by name."""
    cell = (row[f"{head}_class"] or "").strip()
    known = cell.isdecimal() and int(cell) < len(names)
    return ((names[int(cell)] if known else cell),) if cell else ()


# ---------------------------------------------------------------------------- videos
def films_of(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {video id: video} of the first of TREES that has any, below ``root`` or its folder EPIC-KITCHENS."""
    for base in (root, root / "EPIC-KITCHENS"):
        for tree in TREES:
            files = [file for folder in sorted(base.glob(tree)) if folder.is_dir() for file in folder.iterdir()]
            found = {
                file.stem: file
                for file in files
                if re.fullmatch(r"P\d+_\d+", file.stem) and file.suffix.lower() in VIDEO_ENDINGS
            }
            if found:
                return found
    tars = any(root.glob("**/rgb_frames/*.tar"))
    hint = "; the tars of rgb_frames are not read: fetch the videos (epic_downloader.py --videos)" if tars else ""
    raise FileNotFoundError(f"{root} holds no videos like P01/videos/P01_01.MP4{hint}")


def rate(video: str) -> float:
    """Returns how many of a video's frames EPIC-Kitchens counts a second, in detections, too: 60, or 50 in the
    videos of 2020 (three digits)."""
    return 50.0 if re.fullmatch(r"P\d+_1\d\d", video) else 60.0


def _beside(film: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns what a video has beside its pictures: {'audio': itself, if it has sound, 'boxes': its
    detections}."""
    out = {"audio": film} if audio.there(film) else {}
    # The folder of the participant, below whose videos it lies or beside them.
    for folder in (film.parent.parent, film.parent):
        path = hand_objects.path_of(folder, film.stem)
        if path.exists():
            return out | {"boxes": path}
    return out


def _with(item: Item, beside: dict[str, pathlib.Path]) -> Item:
    """Returns the segment with what its video has beside its pictures."""
    return item._replace(paths=beside, fps=rate(item.path.stem) if "boxes" in beside else None)


# ---------------------------------------------------------------------------- the manifest
def segments(
    folder: pathlib.Path,
    name: str,
    split: str,
    names: dict[str, list[str]],
    films: dict[str, pathlib.Path],
    missing: pathlib.Path,
    key: str = "narration_id",
) -> Iterator[Item]:
    """Yields the segments of a list, without what their videos have beside them. ``key`` is the column of their
    ids, ``names`` {head: classes}, {} for a list without labels. Raises ValueError naming the line of a segment
    without its times."""
    columns = [f"{head}_class" for head in names]
    for line, row in _rows(folder, name, key, *_NEEDED, *columns):
        try:
            start, end = _interval(row)
        except ValueError as error:
            raise ValueError(f"{folder / name}, line {line}: {error}") from None
        video = row["video_id"].strip()
        # A video that lacks keeps its segments in the list, so that they are rejected with a reason.
        path = films.get(video, missing / row["participant_id"].strip() / "videos" / f"{video}.MP4")
        labels = {head: _label(row, head, names[head]) for head in names}
        yield Item(row[key].strip(), path, split, labels, start, end)


def participant(item: Item) -> str:
    """Returns the cook of a segment."""
    return item.path.stem.split("_")[0]


def complete(items: list[Item], films: dict[str, pathlib.Path]) -> tuple[list[Item], list[str]]:
    """Gives the segments what their videos have beside the pictures: (segments, notes on what videos lack)."""
    used = {item.path.stem for item in items}
    beside: dict[str, dict] = collections.defaultdict(dict)
    beside |= {video: _beside(films[video]) for video in used & films.keys()}
    notes = []
    for what, lack in (
        ("are not there, so that their segments are rejected", used - films.keys()),
        ("have no sound", {video for video in used & films.keys() if "audio" not in beside[video]}),
    ):
        if lack:
            notes.append(f"{len(lack)} of {len(used)} videos {what}: {', '.join(sorted(lack)[:3])}")
    return [_with(item, beside[item.path.stem]) for item in items], notes


def _left_out(folder: pathlib.Path) -> list[str]:
    """Makes the note on the test segments, which have no labels."""
    if not (folder / TEST).exists():
        return []
    return [f"the {sum(1 for _ in _rows(folder, TEST))} segments of {TEST} have no labels and are left out"]


def by_film(items: list[Item]) -> list[Item]:
    """Puts the segments of a video together: what a worker knows of it serves the next one."""
    return sorted(items, key=lambda item: (item.path.stem, item.start, item.id))


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path) -> Manifest:
    """Makes EPIC-Kitchens-100's manifest: 'train', 'val' and 'unseen', those of 'val' whose cooks never train.

    ``annotations`` is the folder of the official CSV files, ``videos`` that of Pxx/videos/Pxx_yy.MP4 and, where
    they are there, of Pxx/hand-objects/Pxx_yy.pkl. Sound is the videos' own. Raises FileNotFoundError naming the
    missing file, ValueError for lists of another form.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    known = {head: names(folder, f"EPIC_100_{head}_classes.csv") for head in HEADS}
    films, unseen = films_of(root), _unseen(folder)
    items = [item for split, name in LISTS.items() for item in segments(folder, name, split, known, films, root)]
    check_ids(items, folder)
    items, notes = complete(items, films)
    notes = [*_left_out(folder), *notes]
    notes.append("the segments of 'unseen' are those of its cooks in 'val', which is the whole validation set")
    of_unseen = (item for item in items if item.split == "val" and participant(item) in unseen)
    items = by_film([*items, *(item._replace(split="unseen") for item in of_unseen)])
    heads = {head: {"kind": "single", "names": known[head]} for head in HEADS}
    return Manifest("epic100", items, heads, tuple(notes))
