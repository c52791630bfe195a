"""Reads a CSV as a manifest: its clips, and the label spaces that it or a labels.json beside it names."""

import json
import pathlib
from collections.abc import Sequence

from data_prep import manifest
from data_prep.manifest import KINDS, Manifest
from mmvid.data.media import table
from mmvid.data.media.item import is_control


# ---------------------------------------------------------------------------- labels.json
def _known_heads(path: pathlib.Path, heads: Sequence[str]) -> dict[str, dict]:
    """Reads the label spaces that labels.json fixes. Raises ValueError where the file holds something else, or its
    heads are not those of the CSV's columns."""
    try:
        known = json.loads(table.text_of(path)[0])
        known = {k: {"kind": v["kind"], "names": _names(v["names"])} for k, v in known.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not {{head: {{"kind": "single", "multi" or "spans", "names": [..]}}}} ({error!r})'
        ) from None
    if set(known) != set(heads):
        raise ValueError(f"{path} names {sorted(known)}, the CSV's label columns {sorted(heads)}")
    for head, spec in known.items():
        if len(set(spec["names"])) != len(spec["names"]) or spec["kind"] not in KINDS:
            raise ValueError(f"{path}: {head}: a class occurs twice, or kind is none of {KINDS}")
        if not spec["names"]:
            raise ValueError(f"{path}: {head}: there is no class")
        if odd := [name for name in spec["names"] if not _can_be_a_label(name)]:
            raise ValueError(f"{path}: {head}: no label is {odd[0]!r}, with blanks around it, | or a line break")
    return known


def _can_be_a_label(name: str) -> bool:
    """Tells whether a cell could hold this class name, given that cells are stripped and parted at |."""
    return bool(name) and name == name.strip() and "|" not in name and not any(map(is_control, name))


def _names(names) -> list[str]:
    """Returns class names as texts. Raises TypeError where they are no list."""
    # A text would pass as a list of its letters.
    if not isinstance(names, list):
        raise TypeError("names is no list")
    return [str(name) for name in names]


# ---------------------------------------------------------------------------- the file
def read(path: str | pathlib.Path) -> Manifest:
    """Makes the manifest of a CSV with the columns id, path, and label or label/<head>, and optional ones: split,
    start, end (seconds), fps, depth, flow, audio, boxes.

    Paths are relative to the CSV's folder; an empty one means that the clip lacks the modality. A
    ``labels.json`` beside the CSV ({head: {kind, names}}) fixes the classes; otherwise they are those that
    occur, in natural order. Semicolons or tabs may part the columns, too, and the columns' names may have
    blanks around them and any case. Raises ValueError naming the line or the missing column, and
    FileNotFoundError.
    """
    path = pathlib.Path(path)
    found = table.opened(path)
    heads = list(found.header.heads.values())
    try:
        manifest.check_heads(heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    labels = path.with_name("labels.json")
    known = _known_heads(labels, heads) if labels.exists() else None
    try:
        items, lines, further = table.items(found, path.parent)
        spaces, said = (known, []) if known else manifest.label_spaces(items, lines)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    manifest.check_ids(items, path)
    return Manifest(path.parent.resolve().name or "manifest", items, spaces, (*found.notes, *further, *said))
