"""Folders in buckets and their copies on this machine's disk: what differs is fetched or sent.

Object storage neither adds to a file nor renames a folder, so that a run works in its copy. What is sent goes in
an order that leaves, wherever it is broken off, a run that another machine can go on from.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mmvid import buckets, files, usage

# In a copy: the "token" of whoever had trained the run, and the "files" {path: [as it was here, as it was there]},
# when it was last fetched or sent; the token with which it was "held" here.
NOTE = ".bucket.json"
# In the bucket: who trains the run, or did last. Its token tells whose files these are.
HOLDER = "holder.json"
# What Orbax writes last of a checkpoint. Without it in a bucket, the folder was not sent to its end.
LAST = "_CHECKPOINT_METADATA"
# Endings of what is being written, or says who uses it on this machine.
_PASSING = (f".{files.MARK}", ".lock", ".beat", ".now", ".tmp")
# Folders of a run that are none of its results: compiled programs, and its end as it was rehearsed.
_TRIED = {".cache", "rehearsal"}


def everything(path: str) -> bool:
    """Wants any file."""
    return True


def without_checkpoints(path: str) -> bool:
    """Whether a file is part of what a run hands on: all but its checkpoints."""
    return not _checkpoint(path)


class Copy(NamedTuple):
    """A folder in a bucket, as its user writes it, and where its copy lies."""

    url: str
    here: pathlib.Path


def of(url: str) -> Copy:
    """The copy of a folder in a bucket. Raises WrongUse for a bucket as a whole."""
    url = url.rstrip("/")
    if "/" not in url.partition("://")[2]:
        raise usage.WrongUse(f"{url} is a bucket: name a folder in it, which need not exist yet, as in {url}/run")
    return Copy(url, buckets.folder_of(url))


def kept(copy: Copy) -> str:
    """Says where on this machine a copy lies, in words that `buckets.told` leaves as they are."""
    root = buckets.folder_of("gs://x").parents[1]
    return f"in the folder {copy.here.relative_to(root)} of {root}"


# ---------------------------------------------------------------------------- what there is
def _checkpoint(path: str) -> str:
    """The folder of the checkpoint that a file is part of; '' for other files."""
    found = re.match(r"(?:.*/)?checkpoints/[^/]+(?=/)", path)
    return found[0] if found else ""


def _passing(path: str) -> bool:
    """Whether a file is none of the run's own: it is being written, of this machine alone, or named as no file of
    a folder can be."""
    parts = path.split("/")
    if {"", ".", ".."} & set(parts):  # 'run//etc/x' would lie outside the copy
        return True
    unfinished = (folder := _checkpoint(path)) and not folder.rpartition("/")[2].isdigit()
    own = parts[-1] in (NOTE, HOLDER) or not _TRIED.isdisjoint(parts[:-1])
    return bool(own or unfinished or any(part.endswith(_PASSING) for part in parts))


def _whole(found: dict) -> dict:
    """``found`` without the files of checkpoints that are not whole."""
    return {path: own for path, own in found.items() if not (at := _checkpoint(path)) or f"{at}/{LAST}" in found}


def _version(info: dict) -> list:
    """What changes with a file in a bucket, from what its service says of it."""
    names = ("etag", "ETag", "mtime", "LastModified", "updated", "created")
    return [info["size"], next((str(info[name]) for name in names if info.get(name)), "")]


def there(copy: Copy) -> dict[str, list]:
    """{path: version} of a folder in a bucket, {} where there is none. Raises ValueError where it cannot be
    read."""
    with buckets.explained(copy.url):
        fs, base = buckets.system(copy.url)
        listed = fs.find(base, detail=True)
    found = {name[len(base) + 1 :]: _version(info) for name, info in listed.items() if name.startswith(f"{base}/")}
    return _whole({path: own for path, own in found.items() if not _passing(path)})


def here(copy: Copy) -> dict[str, list]:
    """{path: [size, time]} of a copy."""
    found = {}
    # From the top down: what was there when a later file was written, in its folder or below, is seen with it.
    for folder, _, names in os.walk(copy.here):
        for name in names:
            path = pathlib.Path(folder, name)
            relative = path.relative_to(copy.here).as_posix()
            with contextlib.suppress(FileNotFoundError):  # removed just now
                if not _passing(relative):
                    status = path.stat()
                    found[relative] = [status.st_size, status.st_mtime_ns]
    return _whole(found)


def _noted(copy: Copy) -> dict:
    found = files.read_note(copy.here / NOTE)
    note = found if isinstance(found, dict) else {}
    known = note.get("files") if isinstance(note.get("files"), dict) else {}
    pairs = {path: own for path, own in known.items() if isinstance(own, list) and len(own) == 2}
    return {"token": note.get("token"), "held": note.get("held"), "files": pairs}


def holds(copy: Copy, token: str) -> bool:
    """Whether it is in this copy that the run was trained with a holder's ``token``."""
    return _noted(copy)["held"] == token


def hold(copy: Copy, known: str | None, token: str) -> None:
    """Notes in a copy that the run is trained there with ``token``, where whoever did last had the ``known`` one.
    A copy that was like the bucket then still counts as that."""
    noted = _noted(copy)
    same = {"token": token} if noted["token"] == known else {}
    copy.here.mkdir(parents=True, exist_ok=True)
    files.write_json(copy.here / NOTE, noted | {"held": token} | same)


def holder(copy: Copy) -> dict:
    """Who trains the run in a bucket, or did last; {} where nobody has."""
    with buckets.explained(copy.url):
        fs, base = buckets.system(copy.url)
        try:
            content = fs.cat_file(f"{base}/{HOLDER}")
        except FileNotFoundError:
            return {}
    with contextlib.suppress(ValueError):
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return {}


# ---------------------------------------------------------------------------- fetching
class _Plan(NamedTuple):
    """What is to be done here: paths to ``fetch``, to ``remove``, and to set ``aside``."""

    fetch: list[str]
    remove: list[str]
    aside: list[str]


def planned(now_here: dict, now_there: dict, noted: dict, ours: bool) -> _Plan:
    """Compares a copy with its folder in the bucket, by what was ``noted`` of both when they were last equal.

    Where nobody else has trained there since (``ours``), what changed here stays, to be sent: it is what a killed
    run has left. Else the bucket's files count, and what changed here is set aside.
    """
    plan = _Plan([], [], [])
    for path in sorted(now_here | now_there):
        was_here, was_there = noted.get(path, (None, None))
        same_there = now_there.get(path) == was_there
        # Of what was never noted, both have changed.
        if path not in now_here:
            plan.fetch.append(path)
        elif now_here[path] == was_here:
            if path not in now_there:
                plan.remove.append(path)
            elif not same_there:
                plan.fetch.append(path)
        elif not ours:
            plan.aside.append(path)
            if path in now_there:
                plan.fetch.append(path)
    return plan


def fetch(copy: Copy, wanted: Callable[[str], bool] = everything) -> int:
    """Makes a copy like its folder in the bucket (`planned`), as far as files are ``wanted``. Returns how many
    were set aside, beside the copy.

    Raises ValueError where the bucket cannot be read, OSError where the disk has no room.
    """
    now_there, holder_there = there(copy), holder(copy)
    copy.here.mkdir(parents=True, exist_ok=True)
    _clear_halves(copy)
    noted, now_here = _noted(copy), here(copy)
    chosen = [{path: own for path, own in now.items() if wanted(path)} for now in (now_here, now_there)]
    plan = planned(*chosen, noted["files"], noted["token"] == holder_there.get("token"))
    _check_room(copy, sum(now_there[path][0] for path in plan.fetch))
    for path in plan.aside:
        _set_aside(copy, path)
    for path in plan.remove:
        (copy.here / path).unlink(missing_ok=True)
    known = {path: own for path, own in noted["files"].items() if path not in plan.remove}
    try:
        for path in _fetching(copy, plan.fetch, now_there):
            known[path] = [_seen(copy.here / path), now_there[path]]
    finally:
        files.write_json(copy.here / NOTE, noted | {"token": holder_there.get("token"), "files": known})
    return len(plan.aside)


def _seen(path: pathlib.Path) -> list:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _clear_halves(copy: Copy) -> None:
    """Removes checkpoints of which an end that came before has left a part: no run could read them."""
    for folder in copy.here.glob("**/checkpoints/*"):
        if folder.name.isdigit() and not (folder / LAST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(copy: Copy, needed: int) -> None:
    free = shutil.disk_usage(copy.here).free
    if needed > free:
        raise OSError(
            f"{copy.url} has {needed / 1e9:.3g} GB to fetch, and the disk of its copy has {free / 1e9:.3g} GB "
            f"free ({kept(copy)}): make room, or name a folder on another disk in XDG_CACHE_HOME"
        )


def aside(copy: Copy) -> Copy:
    """Where files of a copy go that are not its bucket's."""
    return copy._replace(here=copy.here.with_name(f"{copy.here.name}.not-sent"))


def _set_aside(copy: Copy, path: str) -> None:
    target = aside(copy).here / path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(copy.here / path, target)


def _fetching(copy: Copy, paths: list[str], sizes: dict) -> Iterable[str]:
    """Fetches files, the last ones of checkpoints after all others, and yields each once it is whole."""
    if not paths:
        return
    from tqdm import tqdm

    fs, base = buckets.system(copy.url)
    total = sum(sizes[path][0] for path in paths)
    with tqdm(total=total, desc=f"fetching {copy.url}", unit="B", unit_scale=True, leave=False) as bar:
        for path in sorted(paths, key=lambda path: path.endswith(f"/{LAST}")):
            target = copy.here / path
            target.parent.mkdir(parents=True, exist_ok=True)
            # Several processes of a host may fetch it at once: each writes under a name of its own.
            whole = files.whole(target, mark=f"{os.getpid()}.tmp")
            with buckets.explained(f"{copy.url}/{path}"), whole as temporary:
                fs.get_file(f"{base}/{path}", str(temporary))
            yield path
            bar.update(sizes[path][0])


# ---------------------------------------------------------------------------- sending
def no_bucket(copy: Copy) -> usage.WrongUse:
    """The error of a bucket that is not there."""
    name = "/".join(copy.url.split("/")[:3])
    return usage.WrongUse(f"{copy.url} cannot be written: there is no bucket {name}, or none that this user sees")


def _is_added_to(path: str) -> bool:
    """Whether a run adds to a file, step by step."""
    return path.endswith((".jsonl", "/log.txt")) or path == "log.txt" or "tfevents" in path


def ordered(now: dict[str, list]) -> list[str]:
    """The order in which files are sent, so that what is there at any moment can be gone on from.

    First what is added to: ``now`` is from before it is read, so that no checkpoint is ahead of its log. Then all
    others by their time, a checkpoint as a whole, what it is made of before what says so. Files that say that a
    segment, and a run, have ended come last.
    """

    def place(path: str) -> tuple:
        at, name = _checkpoint(path), path.rpartition("/")[2]
        time = now[f"{at}/{LAST}" if at else path][1]
        end = ("done.json", "summary.json").index(name) + 1 if name in ("done.json", "summary.json") else 0
        return (not _is_added_to(path), end, time, at, name == LAST, "/d/" not in path, path)

    return sorted(now, key=place)


def gone(now: dict[str, list], noted: dict[str, list]) -> list[str]:
    """What a run has removed here and is to be removed there: old checkpoints, of each first what says that it is
    whole, and TensorBoard's events, which are drawn anew. Nothing else: a copy that somebody clears must not
    empty the bucket."""
    old = [
        path for path in noted
        if path not in now
        and ("tfevents" in path or ((at := _checkpoint(path)) and f"{at}/{LAST}" not in now))
    ]  # fmt: skip
    return sorted(old, key=lambda path: (not path.endswith(f"/{LAST}"), path))


def _put(copy: Copy, paths: list[str], between: Callable) -> dict[str, list]:
    """Sends files; returns what each was like just before. A file that has gone meanwhile is left out, and with it
    the rest of its checkpoint."""
    fs, base = buckets.system(copy.url)
    sent, torn = {}, set()
    for path in paths:
        if (at := _checkpoint(path)) in torn:
            continue
        try:
            before = _seen(copy.here / path)
            fs.put_file(str(copy.here / path), f"{base}/{path}")
            sent[path] = before
        except FileNotFoundError:
            if (copy.here / path).exists():
                raise no_bucket(copy) from None
            torn |= {at} - {""}
        between()
    return sent


def _remove(copy: Copy, paths: list[str]) -> None:
    fs, base = buckets.system(copy.url)
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{base}/{path}")


def send(copy: Copy, wanted: Callable[[str], bool] = everything, between: Callable = lambda: None) -> int:
    """Sends what has changed in a copy since it was last fetched or sent, and removes what is `gone`; calls
    ``between`` after each file. Returns how many files went. Raises ValueError where the bucket cannot be
    written."""
    now, noted = here(copy), _noted(copy)
    if not (copy.here / NOTE).exists():
        raise ValueError(f"the copy of {copy.url} was removed, {kept(copy)}: nothing more of it can be sent")
    known = noted["files"]
    changed = [path for path in ordered(now) if wanted(path) and known.get(path, [None])[0] != now[path]]
    old = [path for path in gone(now, known) if wanted(path)]
    with buckets.explained(copy.url, "written"):
        sent = _put(copy, changed, between)
        _remove(copy, old)
    if sent or old:
        versions = there(copy)
        known |= {path: [own, versions[path]] for path, own in sent.items() if path in versions}
        left = {path: own for path, own in known.items() if path not in old}
        files.write_json(copy.here / NOTE, noted | {"files": left})
    return len(sent)


# ---------------------------------------------------------------------------- what is only read
@functools.cache
def fetched(url: str, wanted: Callable[[str], bool] = everything) -> pathlib.Path:
    """A copy of a folder in a bucket that nobody writes into; it is looked at once in a process, and what is here
    already is not fetched again. Raises ValueError where the bucket cannot be read, OSError where there is no
    room."""
    copy = of(url)
    fetch(copy, wanted)
    return copy.here
