"""Sends what has changed in the copy of a folder in a bucket, in an order that leaves there, wherever it is broken
off, a run that another machine can go on from."""

import contextlib
import errno
import os
import pathlib
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator

from mmvid import buckets, transfer
from mmvid.transfer import Copy

_SENDING = threading.Lock()


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
        at, name = transfer.checkpoint_of(path), path.rpartition("/")[2]
        time = now[f"{at}/{transfer.LAST}" if at else path][1]
        end = ("done.json", "summary.json").index(name) + 1 if name in ("done.json", "summary.json") else 0
        return (not _is_added_to(path), end, time, at, name == transfer.LAST, "/d/" not in path, path)

    return sorted(now, key=place)


def superseded(now: dict[str, list], found: dict[str, list]) -> list[str]:
    """Of the files ``found`` in a bucket those of old checkpoints, of each first what says that it is whole: of
    those that are not here (``now``), where a newer one is whole both here and there."""
    newest: dict[str, int] = {}
    kept, there = ({transfer.checkpoint_of(path) for path in paths} for paths in (now, transfer.whole(found)))
    for at in kept & there - {""}:
        folder, _, step = at.rpartition("/")
        newest[folder] = max(int(step), newest.get(folder, 0))
    old = []
    for path in found:
        folder, _, step = (at := transfer.checkpoint_of(path)).rpartition("/")
        if at and at not in kept and int(step) < newest.get(folder, 0):
            old.append(path)
    return sorted(old, key=lambda path: (not path.endswith(f"/{transfer.LAST}"), path))


def _redrawn(now: dict[str, list], found: dict[str, list]) -> list[str]:
    """TensorBoard's events that a run has written anew under another name."""
    own = {path.rpartition("/")[0] for path in now if "tfevents" in path}
    return [path for path in found if "tfevents" in path and path not in now and path.rpartition("/")[0] in own]


def _keep(path: pathlib.Path, target: pathlib.Path) -> None:
    """Keeps a file as it is: under a second name, or, of one that is added to, by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _is_added_to(path.as_posix()):
        try:
            return os.link(path, target)
        except OSError as error:  # a disk without second names
            if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT):
                raise
    shutil.copyfile(path, target)


@contextlib.contextmanager
def _staged(copy: Copy, paths: Iterable[str]) -> Iterator[tuple[pathlib.Path, dict[str, list]]]:
    """Gives a folder with ``paths`` of a copy as they are now, and {path: [size, time]} of them, while a run goes
    on and removes old checkpoints. A file that has gone is left out, and with it the rest of its checkpoint."""
    folder, found, torn = copy.top / "staged", {}, set()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for path in paths:
            try:
                own = transfer.seen(copy.here / path)
                _keep(copy.here / path, folder / path)
                found[path] = own
            except FileNotFoundError:
                torn |= {transfer.checkpoint_of(path)} - {""}
        yield folder, {path: own for path, own in found.items() if transfer.checkpoint_of(path) not in torn}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(copy: Copy, paths: Iterable[str], check: Callable[[], None] = lambda: None) -> None:
    """Sends files, in this order, and notes those that went, also where one does not; calls ``check`` before each.
    Raises ValueError where the bucket cannot be written."""
    sent = {}
    with _staged(copy, paths) as (folder, found):
        try:
            with buckets.explained(copy.url, "written"):
                fs, base = buckets.system(copy.url)
                for path, own in found.items():
                    check()
                    fs.put_file(str(folder / path), f"{base}/{path}")
                    sent[path] = own
        except FileNotFoundError:
            raise transfer.no_bucket(copy) from None
        finally:
            _note_sent(copy, sent)


def _note_sent(copy: Copy, sent: dict[str, list]) -> None:
    if not sent:
        return
    versions: dict[str, list] = {}
    with contextlib.suppress(ValueError):  # what is not known is fetched again
        versions = transfer.listed(copy)
    transfer.note(
        copy, files=transfer.noted(copy)["files"] | {path: [own, versions.get(path)] for path, own in sent.items()}
    )


def _remove(copy: Copy, paths: list[str], check: Callable[[], None]) -> None:
    if not paths:
        return
    check()
    with buckets.explained(copy.url, "written"):
        fs, base = buckets.system(copy.url)
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{base}/{path}")
    transfer.note(
        copy, files={path: own for path, own in transfer.noted(copy)["files"].items() if path not in paths}
    )


def send(copy: Copy, check: Callable[[], None] = lambda: None) -> int:
    """Sends what a training has changed in its copy since it was last fetched or sent, then removes old
    checkpoints there. Returns how many files were to go.

    Raises ValueError where the bucket cannot be written, Lost where another machine has sent its own meanwhile,
    and what ``check`` raises, which is called again and again.
    """
    # A second Ctrl-C may end the wait for a thread that still sends.
    with _SENDING:
        now, known = transfer.here(copy), transfer.noted(copy)
        changed = [path for path in ordered(now) if known["files"].get(path, [None])[0] != now[path]]
        if changed or not known["files"].keys() <= now.keys():
            _send(copy, now, changed, check)
        return len(changed)


def _send(copy: Copy, now: dict[str, list], changed: list[str], check: Callable[[], None]) -> None:
    if not transfer.is_ours(copy):
        raise transfer.Lost(f"another machine has trained {copy.url} meanwhile: nothing more is sent there")
    mark = {"token": transfer.noted(copy)["own"], "mark": uuid.uuid4().hex}
    transfer.note(copy, own=mark["token"])
    transfer.tell(copy, transfer.SENDER, mark)
    _put(copy, changed, check)
    # A checkpoint that was written again, or begun by a machine that died, has other files in the bucket, too.
    again, found = {transfer.checkpoint_of(path) for path in now} - {""}, transfer.listed(copy)
    other = [path for path in found if transfer.checkpoint_of(path) in again and path not in now]
    torn = {transfer.checkpoint_of(path) for path in now if path not in found}
    _remove(copy, [path for path in other if transfer.checkpoint_of(path) not in torn], check)
    _remove(copy, superseded(now, found) + _redrawn(now, found), check)


def send_back(copy: Copy, before: dict[str, list]) -> list[str]:
    """Sends what a command has changed in a copy that was as ``before``, but for logs, which belong to whoever
    trains the run, and for files that somebody else has changed there meanwhile: these are returned. Raises
    ValueError where the bucket cannot be written."""
    now, known = transfer.here(copy), transfer.noted(copy)["files"]
    own = [path for path in ordered(now) if now[path] != before.get(path) and not _is_added_to(path)]
    found = transfer.listed(copy) if own else {}
    late = [path for path in own if found.get(path) != known.get(path, [None, None])[1]]
    _put(copy, [path for path in own if path not in late])
    return late
