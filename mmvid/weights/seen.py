"""What networks have seen: the clips that a file's weights were trained on, and whether these, or those of
anything that they started from, are among the clips of a split. So a file proves that a teacher never saw what it
is weighed on.

Clips are known by their ids, whatever the dataset: two that share an id count as one clip.
"""

import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from mmvid import usage
from mmvid.weights import files


class Clips(NamedTuple):
    """What is kept of a set of ids, which may be millions: their `digest`, how many there were, and a number of 64
    bits for each, which it has in this process alone."""

    digest: str
    count: int
    numbers: np.ndarray


class Shown(NamedTuple):
    """The ``clips`` of a ``split`` of a dataset, whose ``fingerprint`` says in which version it was read."""

    dataset: str
    split: str
    fingerprint: str
    clips: Clips


def digest(ids: Iterable[str]) -> str:
    """SHA-256 of a set of ids, whatever their order: of the sorted ids, with line breaks between them."""
    found, ordered = hashlib.sha256(), [clip for clip, _ in itertools.groupby(sorted(ids))]
    # Some at a time: the text of all of them may be as long as all else in memory.
    for start in range(0, len(ordered), 1 << 16):
        found.update(("\n" * (start > 0) + "\n".join(ordered[start : start + (1 << 16)])).encode())
    return found.hexdigest()


def clips(ids: Collection[str]) -> Clips:
    """What is kept of ``ids``."""
    return Clips(digest(ids), len(ids), np.fromiter(map(hash, ids), np.int64, len(ids)))


def of_clips(trained: Iterable[Shown], splits: Iterable[Shown]) -> dict:
    """What a segment that is ``trained`` on these clips has seen, as plain data.

    'trained' lists them by their hash; 'splits' is {hash of ids: {'name', 'dataset', 'met'}}, where 'met' says
    whether any clip of such a split is among them.
    """
    trained = list(trained)
    # Two ids of one number are not to be expected; where there are any, a split counts as met that is not.
    known = np.concatenate([np.zeros(0, np.int64), *(shown.clips.numbers for shown in trained)])
    return {
        "trained": [
            {
                "dataset": s.dataset,
                "split": s.split,
                "fingerprint": s.fingerprint,
                "ids": s.clips.digest,
                "clips": s.clips.count,
            }
            for s in trained
        ],
        "splits": {
            s.clips.digest: {
                "name": s.split,
                "dataset": s.dataset,
                "met": bool(np.isin(s.clips.numbers, known).any()),
            }
            for s in splits
        },
        "published": [],
        "unproven": [],
    }


def unproven(what: str) -> dict:
    """What networks have seen that started from ``what``, of which nothing is proven."""
    return of_clips((), ()) | {"unproven": [what]}


def of_file(source: str | os.PathLike) -> dict:
    """What the networks of a file have seen, as `of_clips` says it. Of a 'published' file nothing is known, and of
    an older one of ours, or of one that is gone, nothing is proven: each then stands in the list of that name."""
    path, _ = files.split(source)
    known = files.metadata(source)
    if known.get("seen"):
        own = files.told(known, "seen", path, "{}")
        if lacking := [entry for entry in of_clips((), ()) if entry not in own]:
            raise usage.Damaged(
                f"{path} is damaged: the entry 'seen' of its metadata, on the clips that it was trained on, lacks "
                f"{lacking[0]!r}. Put back the file that the run has written, or give other weights"
            )
        return own
    # Nobody can vouch for what is gone: it may have been ours.
    if known or not path.is_file():
        return unproven(str(path))
    return of_clips((), ()) | {"published": [str(path)]}


def joined(own: Mapping, before: Iterable[Mapping]) -> dict:
    """What networks have seen that saw ``own`` and started from weights that saw ``before``. A split counts as
    unmet only where each of them says so."""
    before = list(before)
    every = [own, *before]
    # Files that say nothing are named in 'published' and 'unproven' instead.
    telling = [seen for seen in every if seen["trained"]]
    splits = {}
    for key, entry in {key: entry for seen in every for key, entry in seen["splits"].items()}.items():
        met = any(seen["splits"].get(key, {}).get("met") for seen in every)
        if met or all(key in seen["splits"] for seen in telling):
            splits[key] = {**entry, "met": met}

    def listed(name: str) -> list:
        found: list = []
        for seen in every:
            found += [entry for entry in seen[name] if entry not in found]
        return found

    return {"splits": splits, **{name: listed(name) for name in ("trained", "published", "unproven")}}


def saw(source: str | os.PathLike, name: str, ids: Collection[str], *, published: bool = False) -> bool:
    """Whether the networks of a file of ours, or anything that they started from, were trained on one of the clips
    ``ids`` of the split or subset ``name``.

    With ``published`` the caller vouches for published files, such as ImageNet's, among what they started
    from. Raises FileNotFoundError, and ValueError where the file cannot prove the answer.
    """
    path, _ = files.split(source)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: give the weights.safetensors of a run")
    found, again = of_file(source), f"train it again, in a run that has the same split or subset {name!r}"
    entry = found["splits"].get(digest(ids))
    if entry and entry["met"]:
        return True
    if str(path) in found["published"]:
        raise ValueError(
            f"{path} is no file of ours and does not say which clips it was trained on: give the "
            "weights.safetensors of a run"
        )
    if found["unproven"]:
        older = found["unproven"][0]
        also = "" if older == str(path) else ", and then what started from it"
        raise ValueError(
            f"{path} cannot prove that it never saw {name!r}: {older} does not say which clips its networks saw "
            f"(it is of an older run, or was gone when that was noted): {again}{also}"
        )
    if entry is None:
        raise ValueError(
            f"{path} cannot prove that it never saw the {len(ids)} clips of {name!r}: it, or what it started "
            f"from, comes from a run that had no split of just these clips. {again[0].upper()}{again[1:]}, "
            "without --config.reuse"
        )
    if found["published"] and not published:
        raise ValueError(
            f"{path} cannot prove that it never saw {name!r}: it started from {found['published'][0]}, of which "
            "nothing is known. Vouch for that file with published=True, or start from other weights"
        )
    return False
