"""What to prepare: clips and label spaces, from a CSV, a folder of classes, or an annotation."""

import collections
import csv
import json
import pathlib
import re
import sys
import zlib
from typing import NamedTuple

VIDEO_ENDINGS = {".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SPLITS = ("train", "val", "test")
FURTHER = ("depth", "flow", "audio", "boxes")
COLUMNS = ("id", "path", "split", "start", "end", "fps", *FURTHER)
KINDS = ("single", "multi", "spans")
SPLIT_FOLDERS = dict(train="train", training="train", val="val", valid="val", validation="val",
                     test="test", testing="test")  # fmt: skip


class Item(NamedTuple):
    """One clip to prepare. ``path`` of its RGB: a file, a folder of pictures or a pattern within one, or
    None where it has none; ``labels`` {head: class names, or 'name@start-end'}; ``start`` and ``end``
    in seconds; ``paths`` of further modalities by name (FURTHER); ``fps`` of pictures in folders."""

    id: str
    path: pathlib.Path | None
    split: str
    labels: dict[str, tuple[str, ...]]
    start: float = 0.0
    end: float | None = None
    paths: dict[str, pathlib.Path] = {}  # noqa: RUF012
    fps: float | None = None


class Manifest(NamedTuple):
    """``heads`` {name: {kind, names}}: the label spaces, class names in order of their ids."""

    name: str
    items: list[Item]
    heads: dict[str, dict]


_SPAN = re.compile(r"(?P<name>.+)@(?P<start>\d+\.?\d*)-(?P<end>\d+\.?\d*)")


def span(label: str) -> tuple[str, float, float] | None:
    """'sit@1.5-4' as ('sit', 1.5, 4.0), seconds of the video; None for a plain name."""
    match = _SPAN.fullmatch(label)
    return match and (match["name"], float(match["start"]), float(match["end"]))


def _heads(items: list[Item]) -> dict[str, dict]:
    """Label spaces from what occurs: names sorted; several labels in one row make it 'multi', times
    'spans'."""
    heads = {}
    for head in sorted({name for item in items for name in item.labels}):
        rows = [item.labels.get(head, ()) for item in items]
        labels = {label for row in rows for label in row}
        spans = {label: found for label in labels if (found := span(label))}
        kind = "spans" if spans else "multi" if any(len(row) > 1 for row in rows) else "single"
        names = sorted({spans[label][0] if label in spans else label for label in labels})
        heads[head] = {"kind": kind, "names": names}
    return heads


def _seconds(row: dict, name: str, line: int, default):
    text = (row.get(name) or "").strip()
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"line {line}: {name}={text!r} is not a number of seconds")
    return seconds


def _item(row: dict, line: int, root: pathlib.Path, heads: list[tuple[str, str]]) -> Item:
    text = {k: (v or "").strip() for k, v in row.items() if isinstance(k, str) and not isinstance(v, list)}
    further = {m: root / text[m] for m in FURTHER if text.get(m)}
    if not text["id"] or not (text["path"] or further):
        raise ValueError(
            f"line {line}: id={text['id']!r}, path={text['path']!r}: a clip has an id and a path, or one of "
            f"{', '.join(FURTHER)}"
        )
    labels = {
        head: tuple(dict.fromkeys(t.strip() for t in text[column].split("|") if t.strip()))
        for head, column in heads
    }
    start, end = _seconds(row, "start", line, 0.0), _seconds(row, "end", line, None)
    if end is not None and end <= start:
        raise ValueError(f"line {line}: end={end} must be greater than start={start}")
    split = text.get("split") or "train"
    if not split.isidentifier():
        raise ValueError(f"line {line}: split={split!r}: letters, digits and underscores, please")
    path = root / text["path"] if text["path"] else None
    return Item(text["id"], path, split, labels, start, end, further, _fps(text.get("fps"), line))


def _fps(text: str | None, line: int) -> float | None:
    if not text:
        return None
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise ValueError(f"line {line}: fps={text!r} is not a number of frames a second")
    return fps


def _known_heads(path: pathlib.Path, heads: list[str]) -> dict[str, dict]:
    """labels.json, checked against the CSV's columns."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        known = {k: {"kind": v["kind"], "names": [str(n) for n in v["names"]]} for k, v in known.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not {{head: {{"kind": "single", "multi" or "spans", "names": [..]}}}} ({error!r})'
        ) from None
    if set(known) != set(heads):
        raise ValueError(f"{path} names {sorted(known)}, the CSV's label columns {sorted(heads)}")
    for head, spec in known.items():
        if len(set(spec["names"])) != len(spec["names"]) or spec["kind"] not in KINDS:
            raise ValueError(f"{path}: {head}: a class occurs twice, or kind is none of {KINDS}")
    return known


def from_csv(path: str | pathlib.Path) -> Manifest:
    """A CSV with the columns id, path, and label or label/<head>; optional split, start, end
    (seconds), fps, depth, flow, audio, boxes. Paths count from the CSV's folder; an empty one is a
    modality that the clip lacks. A ``labels.json`` beside it ({head: {kind, names}}) fixes the
    classes; otherwise they are those that occur, sorted.

    Raises ValueError naming the line or the missing column, FileNotFoundError.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = table.fieldnames or []
        heads = [(c.partition("/")[2] or "action", c) for c in columns if c.split("/")[0] == "label"]
        if unused := [c for c in columns if c not in COLUMNS and c.split("/")[0] != "label"]:
            print(f"{path}: columns that are not used: {', '.join(unused)}", file=sys.stderr)
        missing = [c for c in ("id", "path") if c not in columns]
        if missing or not heads:
            missing += [] if heads else ["label (or label/<head>)"]
            raise ValueError(f"{path} lacks the column {', '.join(missing)}; it has {columns}")
        try:
            items = [_item(row, table.line_num, path.parent, heads) for row in table]
        except ValueError as error:
            raise ValueError(f"{path}, {error}") from None
    if not items:
        raise ValueError(f"{path} has a header and no rows")
    check_ids(items, path)
    labels = path.with_name("labels.json")
    known = _known_heads(labels, [h for h, _ in heads]) if labels.exists() else _heads(items)
    return Manifest(path.parent.resolve().name or "manifest", items, known)


def check_ids(items: list[Item], path: pathlib.Path) -> None:
    """Raises ValueError where an id occurs twice."""
    counts = collections.Counter(item.id for item in items)
    if doubled := sorted(k for k, n in counts.items() if n > 1):
        raise ValueError(f"{path}: the id {doubled[0]!r} occurs twice ({len(doubled)} such ids)")


def _place(name: str) -> int:
    return zlib.crc32(name.encode()) % 100


def _splits(names: list[str]) -> dict[str, str]:
    """80 / 10 / 10 by a hash of the name: what is added later moves nothing. Where too few clips
    leave a part empty, the order of the hashes shares them out."""
    split = {n: "train" if _place(n) < 80 else "val" if _place(n) < 90 else "test" for n in names}
    if set(split.values()) == set(SPLITS) or len(names) < 3:
        return split
    ranked = sorted(names, key=lambda n: (_place(n), n))
    part = max(len(names) // 10, 1)
    tail = dict.fromkeys(ranked[-part:], "test") | dict.fromkeys(ranked[-2 * part : -part], "val")
    return dict.fromkeys(ranked, "train") | tail


def from_folder(root: str | pathlib.Path) -> Manifest:
    """``root/<class>/<clip>`` (split 80/10/10 by a hash of the name) or ``root/<split>/<class>/..``.

    Raises ValueError where no video is found, or both ways are mixed; FileNotFoundError.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    endings = VIDEO_ENDINGS | IMAGE_ENDINGS
    items = []
    for file in sorted(p for p in root.rglob("*") if p.suffix.lower() in endings):
        parts = file.relative_to(root).parts
        split = SPLIT_FOLDERS.get(parts[0].lower(), "") if len(parts) > 2 else ""
        if len(parts) >= (3 if split else 2):
            label = parts[1] if split else parts[0]
            items.append(Item("/".join(parts), file, split, {"action": (label,)}))
    if not items:
        raise ValueError(
            f"{root} holds no videos in class folders: expected {root}/CLASS/clip.mp4 or "
            f"{root}/train/CLASS/clip.mp4 (and val, test)"
        )
    drawn = _splits([item.id for item in items if not item.split])
    if 0 < len(drawn) < len(items):
        inside = sorted({item.id.split("/")[0] for item in items if not item.split})
        raise ValueError(
            f"{root} holds both folders of splits and {inside[:3]}: put every class into a split "
            f"({', '.join(SPLIT_FOLDERS)}), or none"
        )
    items = [item._replace(split=item.split or drawn[item.id]) for item in items]
    return Manifest(root.resolve().name, items, _heads(items))
