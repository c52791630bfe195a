"""What to prepare: clips and label spaces, from a CSV, a folder of classes, or an annotation."""

import csv
import json
import pathlib
import zlib
from typing import NamedTuple

VIDEO_ENDINGS = {".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SPLITS = ("train", "val", "test")


class Item(NamedTuple):
    """One clip to prepare. ``labels`` {head: text}, several labels joined by '|'; paths of further
    modalities by name ('depth', 'audio', 'boxes')."""

    id: str
    path: pathlib.Path
    split: str
    labels: dict[str, str]
    start: float = 0.0
    end: float | None = None
    paths: dict[str, pathlib.Path] = {}  # noqa: RUF012


class Manifest(NamedTuple):
    """``heads`` {name: {kind, names}}: the label spaces, class names in order of their ids."""

    name: str
    items: list[Item]
    heads: dict[str, dict]


def _heads(items: list[Item]) -> dict[str, dict]:
    """Label spaces from what occurs: names sorted; several labels in one row make it 'multi'."""
    heads = {}
    for head in sorted({name for item in items for name in item.labels}):
        texts = [item.labels[head] for item in items if item.labels.get(head)]
        names = sorted({label for text in texts for label in text.split("|")})
        kind = "multi" if any("|" in text for text in texts) else "single"
        heads[head] = {"kind": kind, "names": names}
    return heads


def _number(row: dict, name: str, line: int, default):
    text = (row.get(name) or "").strip()
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"line {line}: {name}={text!r} is not a number of seconds") from None


def _item(row: dict, line: int, root: pathlib.Path, heads: list[str]) -> Item:
    labels = {name: (row.get(column) or "").strip() for name, column in heads}
    further = {m: root / row[m].strip() for m in ("depth", "audio", "boxes") if row.get(m)}
    return Item(
        id=row["id"].strip(),
        path=root / row["path"].strip(),
        split=(row.get("split") or "train").strip(),
        labels={k: v for k, v in labels.items() if v},
        start=_number(row, "start", line, 0.0),
        end=_number(row, "end", line, None),
        paths=further,
    )


def from_csv(path: str | pathlib.Path) -> Manifest:
    """A CSV with the columns id, path, and label or label/<head>; optional split, start, end
    (seconds), depth, audio, boxes. Paths count from the CSV's folder. A ``labels.json`` beside it
    ({head: {kind, names}}) fixes the classes; otherwise they are those that occur, sorted.

    Raises ValueError naming the line or the missing column.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = table.fieldnames or []
        heads = [(c.partition("/")[2] or "action", c) for c in columns if c.split("/")[0] == "label"]
        missing = [c for c in ("id", "path") if c not in columns]
        if missing or not heads:
            missing += [] if heads else ["label (or label/<head>)"]
            raise ValueError(f"{path} lacks the column {', '.join(missing)}; it has {columns}")
        items = [_item(row, i, path.parent, heads) for i, row in enumerate(table, 2)]
    seen: dict[str, int] = {}
    for item in items:
        seen[item.id] = seen.get(item.id, 0) + 1
    if doubled := sorted(k for k, n in seen.items() if n > 1):
        raise ValueError(f"{path}: the id {doubled[0]!r} occurs twice ({len(doubled)} such ids)")
    labels = path.with_name("labels.json")
    known = json.loads(labels.read_text(encoding="utf-8")) if labels.exists() else _heads(items)
    return Manifest(path.parent.name or "manifest", items, known)


def _split_of(name: str) -> str:
    """80 / 10 / 10 by a hash of the name: stable when clips are added."""
    place = zlib.crc32(name.encode()) % 100
    return "train" if place < 80 else "val" if place < 90 else "test"


def from_folder(root: str | pathlib.Path) -> Manifest:
    """``root/<class>/<clip>`` (split 80/10/10 by a hash of the name) or ``root/<split>/<class>/..``.

    Raises ValueError where no video is found.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    endings = VIDEO_ENDINGS | IMAGE_ENDINGS
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in endings)
    items = []
    for file in files:
        parts = file.relative_to(root).parts
        split = parts[0] if parts[0] in SPLITS and len(parts) > 2 else None
        if len(parts) < (3 if split else 2):
            continue
        label = parts[1] if split else parts[0]
        name = "/".join(parts)
        items.append(Item(name, file, split or _split_of(name), {"action": label}))
    if not items:
        raise ValueError(
            f"{root} holds no videos in class folders: expected {root}/CLASS/clip.mp4 or "
            f"{root}/train/CLASS/clip.mp4 (and val, test)"
        )
    return Manifest(root.name, items, _heads(items))
