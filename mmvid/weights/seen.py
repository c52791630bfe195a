"""What networks have seen: the clips that a file's weights were trained on, and whether these, or those of
anything that they started from, are among the clips of a split. So a file proves that a teacher never saw what it
is weighed on.

Clips are known by their ids, whatever the dataset: two that share an id count as one clip.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from mmvid import usage
from mmvid.weights import files


class Shown(NamedTuple):
    """The ``ids`` of a ``split`` of a dataset, whose ``fingerprint`` says in which version it was read."""

    dataset: str
    split: str
    fingerprint: str
    ids: tuple[str, ...]


def digest(ids: Iterable[str]) -> str:
    """SHA-256 of a set of ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()


def of_clips(trained: Iterable[Shown], splits: Iterable[Shown]) -> dict:
    """What a segment that is ``trained`` on these clips has seen, as plain data.

    'trained' lists them by their hash; 'splits' is {hash of ids: {'name', 'dataset', 'met'}}, where 'met' says
    whether any clip of such a split is among them.
    """
    trained = list(trained)
    known = {clip for shown in trained for clip in shown.ids}
    return {
        "trained": [shown._asdict() | {"ids": digest(shown.ids), "clips": len(shown.ids)} for shown in trained],
        "splits": {
            digest(s.ids): {"name": s.split, "dataset": s.dataset, "met": not known.isdisjoint(s.ids)}
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
