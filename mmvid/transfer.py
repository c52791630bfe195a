"""Folders in buckets and their copies on this machine's disk: what is noted of both, and what is fetched.

Object storage neither adds to a file nor renames a folder, so that a run works in its copy, from which `sending`
sends. Runs that are trained and folders that are read have copies apart: the bucket always counts in a copy that
is read.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mmvid import buckets, files, lock, usage

# In the bucket: who trains the run, or did last; and which copy has last sent files of a training, with a mark
# that is another one each time.
HOLDER, SENDER = "holder.json", "sender.json"
# What Orbax writes last of a checkpoint. Without it in a bucket, the folder was not sent to its end.
LAST = "_CHECKPOINT_METADATA"
# Endings of what is being written, or says who uses it on this machine.
_PASSING = (f".{files.MARK}", ".lock", ".beat", ".now", ".tmp")
# Folders of a run that are none of its results: compiled programs, and its end as it was rehearsed.
_TRIED = {".cache", "rehearsal"}
# How often a folder that changes while it is fetched is looked at anew.
_TRIES = 3


def everything(path: str) -> bool:
    """Wants any file."""
    return True


def without_checkpoints(path: str) -> bool:
    """Whether a file is part of what a run hands on: all but its checkpoints."""
    return not checkpoint_of(path)


def say(line: str) -> None:
    """Tells the user of something that goes on."""
    print(f"mmvid: {line}", file=sys.stderr, flush=True)


class Lost(ValueError):
    """Raised where another machine trains the run by now."""


class Copy(NamedTuple):
    """A folder in a bucket, as its user writes it, and the folder of this machine that its copy lies in, beside
    what is noted of it."""

    url: str
    top: pathlib.Path

    @property
    def here(self) -> pathlib.Path:
        """Where the copy lies."""
        return self.top / self.url.replace("://", "/", 1)


def of(url: str, use: str = "read") -> Copy:
    """The copy of a folder in a bucket for one ``use`` of it. Raises WrongUse for a bucket as a whole, and for a
    path that is none."""
    name, *rest = url.partition("://")[2].rstrip("/").split("/")
    if {"", ".", ".."} & {name or "-", *rest}:
        raise usage.WrongUse(f"{url}: a part of this path is empty or dots: write it as gs://BUCKET/FOLDER")
    url = url.rstrip("/")
    if not rest:
        raise usage.WrongUse(f"{url} is a bucket: name a folder in it, which need not exist yet, as in {url}/run")
    buckets.scheme(url)
    # Each apart: a folder in a folder is not to be sent or cleared with it.
    mark = hashlib.sha256(url.encode()).hexdigest()[:12]
    return Copy(url, buckets.folders() / f"{use}-{mark}")


def kept(copy: Copy, folder: pathlib.Path | None = None) -> str:
    """Says where on this machine a copy lies, or another folder beside it, in words that `buckets.told` leaves as
    they are."""
    return f"in the folder {(folder or copy.here).relative_to(copy.top)} of {copy.top}"


# ---------------------------------------------------------------------------- what there is
def checkpoint_of(path: str) -> str:
    """The folder of the checkpoint that a file is part of; '' for other files."""
    found = re.match(r"(?:.*/)?checkpoints/[^/]+(?=/)", path)
    return found[0] if found else ""


def _passing(path: str) -> bool:
    """Whether a file is none of the run's own: it is being written, of this machine alone, or named as no file of
    a folder can be."""
    parts = path.split("/")
    if {"", ".", ".."} & set(parts):  # 'run//etc/x' would lie outside the copy
        return True
    unfinished = (folder := checkpoint_of(path)) and not folder.rpartition("/")[2].isdigit()
    own = parts[-1] in (HOLDER, SENDER) or not _TRIED.isdisjoint(parts[:-1])
    return bool(own or unfinished or any(part.endswith(_PASSING) for part in parts))


def whole(found: dict) -> dict:
    """``found`` without the files of checkpoints that are not whole."""
    return {path: own for path, own in found.items() if not (at := checkpoint_of(path)) or f"{at}/{LAST}" in found}


def _version(info: dict) -> list:
    """What changes with a file in a bucket, from what its service says of it."""
    names = ("etag", "ETag", "mtime", "LastModified", "updated", "created")
    return [info["size"], next((str(info[name]) for name in names if info.get(name)), "")]


def listed(copy: Copy) -> dict[str, list]:
    """{path: version} of a folder in a bucket, parts of checkpoints, too; {} where there is none. Raises
    ValueError where it cannot be read."""
    listed: dict = {}
    with buckets.explained(copy.url), contextlib.suppress(FileNotFoundError):  # some services say so of no folder
        fs, base = buckets.system(copy.url)
        listed = fs.find(base, detail=True)
    found = {name[len(base) + 1 :]: _version(info) for name, info in listed.items() if name.startswith(f"{base}/")}
    return {path: own for path, own in found.items() if not _passing(path)}


def here(copy: Copy) -> dict[str, list]:
    """{path: [size, time]} of a copy."""
    found = {}
    # From the top down: what was there when a later file was written, in its folder or below, is seen with it.
    for folder, _, names in os.walk(copy.here):
        for name in names:
            path = pathlib.Path(folder, name)
            relative = path.relative_to(copy.here).as_posix()
            with contextlib.suppress(FileNotFoundError):  # removed just now
                if not _passing(relative) and not path.is_symlink():
                    found[relative] = seen(path)
    return whole(found)


def seen(path: pathlib.Path) -> list:
    """What changes with a file on a disk: [size, time]. Raises FileNotFoundError."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def noted(copy: Copy) -> dict:
    """What is noted of a copy: the "files" {path: [as it was here, as it was there]} when they were last fetched
    or sent; its "own" token; the sender's mark that was "seen" when it was last fetched whole; the token with
    which the run was "held" here; what "began" here and has not ended, a 'fetch' of all or a 'command'; the files
    that were "coming" in a fetch when it was killed."""
    found = files.read_note(copy.top / "bucket.json")
    note = found if isinstance(found, dict) else {}
    known = note.get("files") if isinstance(note.get("files"), dict) else {}
    pairs = {path: own for path, own in known.items() if isinstance(own, list) and len(own) == 2}
    plain = {name: note.get(name) for name in ("seen", "held", "began")}
    coming = note.get("coming") if isinstance(note.get("coming"), list) else []
    return {"own": note.get("own") or uuid.uuid4().hex, "files": pairs, "coming": coming, **plain}


def note(copy: Copy, **changes) -> None:
    """Notes something more of a copy."""
    copy.top.mkdir(parents=True, exist_ok=True)
    files.write_json(copy.top / "bucket.json", noted(copy) | changes)


def no_bucket(copy: Copy) -> usage.WrongUse:
    """The error of a bucket that is not there."""
    name = "/".join(copy.url.split("/")[:3])
    return usage.WrongUse(f"{copy.url} cannot be written: there is no bucket {name}, or none that this user sees")


def told_of(copy: Copy, name: str) -> dict:
    """What stands in `HOLDER` or `SENDER` of a folder in a bucket; {} where there is none."""
    with buckets.explained(copy.url):
        fs, base = buckets.system(copy.url)
        try:
            content = fs.cat_file(f"{base}/{name}")
        except FileNotFoundError:
            return {}
    with contextlib.suppress(ValueError):
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return {}


def tell(copy: Copy, name: str, content: dict) -> None:
    """Writes `HOLDER` or `SENDER`. Raises ValueError where the bucket cannot be written."""
    with buckets.explained(copy.url, "written"):
        fs, base = buckets.system(copy.url)
        try:
            fs.pipe_file(f"{base}/{name}", json.dumps(content).encode())
        except FileNotFoundError:
            raise no_bucket(copy) from None


# ---------------------------------------------------------------------------- fetching
def planned(now_here: dict, now_there: dict, known: dict, ours: bool) -> tuple[list[str], list[str]]:
    """Compares a copy with its folder in the bucket, by what was ``known`` of both when they were last equal;
    returns which files are to be fetched, and which removed here.

    The bucket's files count. Only where they are ``ours``, nobody having trained there but in this copy, what
    changed here stays, to be sent: it is what a killed run has left.
    """
    fetch, remove, complete = [], [], whole(now_there)
    for path in sorted(now_here | complete):
        own, other, was = now_here.get(path), complete.get(path), known.get(path, [None, None])
        # A checkpoint of which a part has come there is still to be sent.
        if ours and own and (own != was[0] or (other is None and path in now_there)):
            continue
        if other is None:
            remove.append(path)
        elif own is None or [own, other] != was:
            fetch.append(path)
    return fetch, remove


def fetch(copy: Copy, wanted: Callable[[str], bool] = everything, ours: bool = False) -> None:
    """Makes a copy like its folder in the bucket (`planned`), as far as files are ``wanted``.

    Raises ValueError where the bucket cannot be read, OSError where the disk has no room.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _fetch(copy, wanted, ours)
        except FileNotFoundError as error:  # whoever trains it has removed an old checkpoint meanwhile
            if not left:
                raise ValueError(f"{copy.url} changes while it is fetched ({error}): try again") from error


def _fetch(copy: Copy, wanted: Callable[[str], bool], ours: bool) -> None:
    now_there, before = listed(copy), noted(copy)
    known, coming = before["files"], set(before["coming"])
    copy.here.mkdir(parents=True, exist_ok=True)
    _clear_halves(copy)
    for path, own in here(copy).items():
        if path in coming and known.get(path, [None])[0] != own:
            _unlink(copy, path)  # the bucket's, of a fetch that was killed: no training has made it
    now = ({path: own for path, own in found.items() if wanted(path)} for found in (here(copy), now_there))
    paths, remove = planned(*now, known, ours)
    _check_room(copy, sum(now_there[path][0] for path in paths))
    for path in remove:
        _unlink(copy, path)
        known.pop(path, None)
    note(copy, files=known, coming=paths)
    try:
        for path in _fetching(copy, paths, now_there):
            known[path] = [seen(copy.here / path), now_there[path]]
    finally:
        note(copy, files=known)
    note(copy, coming=[])


def _unlink(copy: Copy, path: str) -> None:
    """Removes a file of a copy, and the folders that it leaves empty: Orbax would take one for a checkpoint."""
    (copy.here / path).unlink(missing_ok=True)
    for folder in (copy.here / path).parents:
        if folder == copy.here or any(folder.iterdir()):
            return
        folder.rmdir()


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
            with buckets.explained(f"{copy.url}/{path}"), files.whole(target) as temporary:
                fs.get_file(f"{base}/{path}", str(temporary))
            yield path
            bar.update(sizes[path][0])


@contextlib.contextmanager
def guarded(copy: Copy) -> Iterator[None]:
    """Keeps other processes of this machine from a copy while the block runs; tells of one that it waits for."""
    copy.top.mkdir(parents=True, exist_ok=True)
    with lock.held(copy.top / "copy.lock", copy.url, wait=lambda line: say(f"{line}: waiting for it")):
        yield


@functools.cache
def fetched(url: str, wanted: Callable[[str], bool] = everything) -> pathlib.Path:
    """A copy of a folder in a bucket, or of the files that are ``wanted``, to read from; it is looked at once in
    a process, and what is here already is not fetched again. Raises ValueError where the bucket cannot be read,
    OSError where there is no room."""
    copy = of(url)
    with guarded(copy):
        set_aside_left(copy)
        fetch(copy, wanted)
    return copy.here


def set_aside_left(copy: Copy) -> None:
    """Sets aside what a command that was killed has left in a copy, and says where."""
    if noted(copy)["began"] == "command" and (paths := _unsent(copy)):
        aside = kept(copy, set_aside(copy, paths))
        say(f"a command on {copy.url} was ended early: what it had made is kept, {aside}")
    note(copy, began=None)


# ---------------------------------------------------------------------------- what this machine has trained
def is_ours(copy: Copy) -> bool:
    """Whether nobody has sent files of a training since this copy was fetched, or sent its own."""
    known, sender = noted(copy), told_of(copy, SENDER)
    return sender.get("token") == known["own"] or sender.get("mark", "") == known["seen"]


def _unsent(copy: Copy) -> list[str]:
    known = noted(copy)["files"]
    return [path for path, own in here(copy).items() if known.get(path, [None])[0] != own]


def set_aside(copy: Copy, paths: Iterable[str]) -> pathlib.Path:
    """Moves files of a copy to a folder beside it, and returns that."""
    folder = copy.top / f"not-sent-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(copy.here / path, folder / path)
        _unlink(copy, path)
    return folder


def fetch_to_train(copy: Copy) -> pathlib.Path | None:
    """Makes a copy like its folder in the bucket, but for what a training here has not sent yet. Where another
    machine has trained the run since, the bucket counts; what was not sent is set aside, and its folder told and
    returned."""
    ours, mark, aside = is_ours(copy), told_of(copy, SENDER).get("mark", ""), None
    if not ours and noted(copy)["began"] != "fetch" and _unsent(copy):
        aside = set_aside(copy, here(copy))
        say(
            f"another machine has trained {copy.url} since this one did: what this one had not sent is set aside, "
            f"{kept(copy, aside)}"
        )
    if not ours:  # until all of it is here, none of it passes for what a training has left
        note(copy, seen=None, began="fetch")
    fetch(copy, ours=ours)
    note(copy, seen=mark, began=None)
    return aside
