"""The page that shows a dataset: its counts, clips in every modality, and what a build could not use."""

import base64
import collections
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmvid import files, usage
from mmvid.data import fields, frames, pictures, stored, subsets
from mmvid.data.example import Train
from mmvid.data.groups import Group
from mmvid.data.media.files import reason
from mmvid.data.records import Dataset
from mmvid.report import figures, page, views
from mmvid.streams import Head, Stream

# A film has no more frames than this, and is no higher, in pixels; its views are this high, with a gap between.
MOST, HEIGHT, VIEW, GAP = 48, 96, 64, 4
# Of H.264: the eye hardly sees it at this size, and a film is a third of what records keep.
QUALITY = 34
# Of WebP, for the picture that stands in the place of a film that does not play: a hundredth of the page each.
STILL = 25
# Rejected clips that are listed.
LISTED = 200


class Trained(NamedTuple):
    """How a configuration shows training clips: the ``groups`` and ``streams`` of a segment, its label spaces, the
    ``size`` of pictures, and how many ``draws`` of each clip are made from ``seed``."""

    groups: Mapping[str, Group]
    streams: tuple[Stream, ...]
    heads: Mapping[str, Head]
    size: int
    seed: int
    draws: int


# ---------------------------------------------------------------------------- a clip
def _film(moments: np.ndarray, seconds: float) -> dict:
    """Encodes a film, uint8 [T, H, W, 3], that lasts about so many ``seconds``, for the page, and its first
    picture."""
    film = frames.encode_mp4(moments, max(len(moments) / seconds, 1), crf=QUALITY, gop=len(moments))
    still = io.BytesIO()
    Image.fromarray(moments[0]).save(still, "webp", quality=STILL, method=6)
    height, width = moments.shape[1:3]
    url, poster = (base64.b64encode(own).decode() for own in (film, still.getvalue()))
    return {
        "url": f"data:video/mp4;base64,{url}",
        "poster": f"data:image/webp;base64,{poster}",
        "width": width,
        "height": height,
    }


def _rows(films: Sequence[np.ndarray]) -> np.ndarray:
    """Puts films of one size, uint8 [T, H, W, 3] each, below each other; what lies between, the page covers."""
    # Their edges go on there: the covers are not exact to a pixel.
    wide = [np.pad(film, ((0, 0), (GAP // 2, GAP // 2), (0, 0), (0, 0)), "edge") for film in films]
    return np.concatenate(wide, 1)[:, GAP // 2 : -GAP // 2]


def _original(record: dict, seconds: float) -> dict:
    """Shows all that a record holds: what plays in one film, with its 'titles', and 'stills' {field: data URL}."""
    found = fields.films(record, MOST)
    playing = {name: film for name, film in found.items() if fields.FIELDS[name].plays}
    # One film for all: they keep time, and browsers play some 75 films of a page at most.
    height = min(record["height"], HEIGHT)
    film = _film(pictures.beside([*playing.values()], height), seconds) if playing else None
    has = [name for name in fields.FIELDS if fields.present(record, name)]
    return {
        "film": film,
        "titles": [*playing],
        "stills": {name: figures.strip(film, height) for name, film in found.items() if name not in playing},
        "absent": [name for name in fields.FIELDS if name not in has],
        "damaged": [name for name in has if name not in found],
    }


def _augmented(record: dict, seconds: float, how: Trained, heads: Mapping[str, Head], number: int) -> dict:
    """Shows what networks see of a clip in training: a film of a row for each draw and a column for each of its
    'titles', in 'turned' the labels that flips have changed, and in 'reason' why a training would end there."""
    spec = Train({name: [record] for name in how.groups}, how.groups, how.streams, how.heads, how.size, how.seed)
    try:
        # Every clip has draws of its own.
        films, labels = views.of_clip(spec, number * how.draws, how.draws)
    except Exception as error:  # whatever is wrong with it costs its views, not the page
        told = str(error) if isinstance(error, ValueError) else reason(error)
        return {"film": None, "titles": [], "turned": [], "reason": told}
    rows = [pictures.beside([own[i] for own in films.values()], VIEW) for i in range(how.draws)] if films else []
    own = named({name: np.asarray(record["label"][name]) for name in how.heads}, heads)
    told = [named(label, heads) for label in labels]
    return {
        "film": _film(_rows(rows), seconds) if rows else None,
        "titles": [*films],
        "turned": [f"draw {i}: {text_of(label)}" for i, label in enumerate(told, 1) if label != own],
        "reason": "",
    }


def named(label: Mapping[str, np.ndarray], heads: Mapping[str, Head]) -> dict[str, list[str]]:
    """Names the classes of a label that is kept in any way: {head: names}."""
    found = {name: np.flatnonzero(subsets.classes_of(own, heads[name])) for name, own in label.items()}
    return {name: [heads[name].named(k) for k in own] for name, own in found.items()}


def text_of(label: Mapping[str, Sequence[str]]) -> str:
    """Writes the classes of every head."""
    return " · ".join(", ".join(names) or "no label" for names in label.values())


# (split, row, what reads its record) of a clip.
Chosen = tuple[str, int, Callable[[], dict]]


def card(chosen: Chosen, heads: Mapping[str, Head], how: Trained | None, number: int) -> dict:
    """Makes what the page shows of a clip, the ``number``-th: of one that cannot be shown, the reason in 'unread'.
    Raises Damaged where none of its split can be read."""
    split, row, read = chosen
    try:
        return clip(read(), split, heads, how, number)
    except usage.Damaged:
        raise
    except Exception as error:  # whatever the reader of the files raises: others are shown
        return {"id": f"row {row}", "split": split, "label": "", "marks": "", "unread": reason(error)}


def clip(record: dict, split: str, heads: Mapping[str, Head], how: Trained | None, number: int) -> dict:
    """Makes what the page shows of a clip, the ``number``-th, that can be read."""
    seconds = record["num_frames"] / stored.rate(record)
    label = {name: np.asarray(own) for name, own in record["label"].items() if name in heads}
    classes = {name: np.flatnonzero(subsets.classes_of(own, heads[name])) for name, own in label.items()}
    frames_said = f"{record['num_frames']} frame{'s' * (record['num_frames'] > 1)}"
    return {
        "id": record["id"],
        "split": split,
        "label": text_of(named(label, heads)),
        "marks": " ".join(f"{name}/{k}" for name, own in classes.items() for k in own),
        "about": f"{frames_said}, {seconds:.1f} s, {record['width']} x {record['height']}",
        "unread": "",
        "original": _original(record, seconds),
        "augmented": None if how is None else _augmented(record, seconds, how, heads, number),
    }


# ---------------------------------------------------------------------------- the dataset
def _counts(dataset: Dataset) -> list[list[str]]:
    """Makes the table of clips: a head, then by split how many there are, are expected, and have each field."""
    info = dataset.info
    rows = [["", "clips", "expected", *fields.FIELDS]]
    for split in dict.fromkeys((*info.expected, *info.splits)):
        have, expected = info.modalities.get(split, {}), info.expected.get(split, 0)
        rows.append([split, info.splits.get(split, 0), expected, *(have.get(field, 0) for field in fields.FIELDS)])
    return [[str(cell) for cell in row] for row in rows]


def _classes(dataset: Dataset, heads: Mapping[str, Head]) -> list[dict]:
    """Counts the clips of every class of a head, by split where a dataset knows that."""
    known, found = dataset.info.split_classes, []
    for name, head in heads.items():
        columns = {split: own.get(name, []) for split, own in known.items()}
        columns = columns or {"all": dataset.info.classes.get(name, [])}
        # Older datasets do not know it at all.
        if most := max((n for own in columns.values() for n in own), default=0):
            each = [dict(enumerate(own)) for own in columns.values()]
            rows = [(head.named(k), [own.get(k, 0) for own in each]) for k in range(head.classes)]
            found.append({"head": name, "columns": [*columns], "rows": rows, "most": most})
    return found


def _options(clips: Iterable[dict], heads: Mapping[str, Head]) -> dict[str, list[tuple[str, str, int]]]:
    """Lists the classes that any of the clips shows, to choose from: {head: [(mark, name, clips)]}."""
    counted = collections.Counter(mark for clip in clips for mark in clip["marks"].split())
    found = {name: [(f"{name}/{k}", head.named(k)) for k in range(head.classes)] for name, head in heads.items()}
    return {name: [(m, text, counted[m]) for m, text in own if counted[m]] for name, own in found.items()}


def write(
    path: pathlib.Path,
    dataset: Dataset,
    chosen: Iterable[Chosen],
    heads: Mapping[str, Head],
    rejected: Sequence[Mapping[str, str]],
    how: Trained | None = None,
    config: str = "",
) -> int:
    """Writes the page of a dataset with the clips ``chosen`` and the ``rejected`` ones. ``how`` shows them as the
    configuration ``config`` does in training, too. Returns the page's bytes. Raises Damaged where a split cannot
    be read."""
    clips = [card(one, heads, how, number) for number, one in enumerate(chosen)]
    text = page.template("browse.html").render(
        info=dataset.info,
        there=sum(dataset.info.splits.values()),
        expected=sum(dataset.info.expected.values()),
        counts=_counts(dataset),
        classes=_classes(dataset, heads),
        clips=clips,
        splits=list(dict.fromkeys(one["split"] for one in clips)),
        options=_options(clips, heads),
        reasons=collections.Counter(row["reason"] for row in rejected).most_common(20),
        rejected=rejected[:LISTED],
        refused=len(rejected),
        draws=how.draws if how else 0,
        view=VIEW,
        gap=GAP,
        config=config,
    )
    files.write_text(path, text)
    return len(text.encode(errors="replace"))
