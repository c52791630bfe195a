"""Who does what, where several programs on several machines share a folder: one claim a task, as files.

A task's claims are numbered, NAME/0.json, NAME/1.json, ...; only one program can create each of them, and it may
do so once the claim before is released or dead. So no claim is ever taken twice, however slow anybody is.
"""

import contextlib
import json
import os
import pathlib
import socket
import threading
from typing import NamedTuple

from mmvid import files, lock

# Seconds between two touches of a claim, and after how many without one it is dead.
BEAT, STALE = 5.0, 120.0


class Claim(NamedTuple):
    """A task that this process has: the claim's file, and what ends its heartbeat."""

    path: pathlib.Path
    ended: threading.Event


def _here() -> str:
    """The machine, and the part of it in which this process's number counts."""
    # Containers of one host share its name, but not its processes.
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _numbered(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """{number: file} of the claims of one task."""
    return {int(path.stem): path for path in folder.glob("[0-9]*.json")}


def newest(folder: pathlib.Path, name: str) -> dict:
    """What the newest claim of a task says: 'host', 'pid', 'since', and its 'outcome' once it is released; {}
    where there is none, or it is being written."""
    known = _numbered(folder / name)
    return files.read_note(known[max(known)]) if known else {}


def _dead(path: pathlib.Path, entry: dict, stale: float) -> bool:
    """Whether the holder has ended, or has not touched the claim for ``stale`` seconds."""
    if entry.get("host") == _here() and os.name == "posix" and not lock.alive(entry["pid"]):
        return True
    try:
        return lock.file_time(path) - path.stat().st_mtime > stale
    except FileNotFoundError:
        return False


def _lives(path: pathlib.Path, stale: float) -> bool:
    entry = files.read_note(path)
    return "outcome" not in entry and not _dead(path, entry, stale)


def live(folder: pathlib.Path, name: str, stale: float = STALE) -> bool:
    """Whether somebody is at a task."""
    known = _numbered(folder / name)
    return bool(known) and _lives(known[max(known)], stale)


def _beat(claim: Claim) -> None:
    """Keeps a claim young until it is released."""
    while not claim.ended.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(claim.path)


def take(folder: pathlib.Path, name: str, stale: float = STALE) -> Claim | None:
    """Claims a task; None where somebody else is at it. Raises OSError where the folder cannot be written."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    known = _numbered(folder / name)
    number = max(known, default=-1)
    if known and _lives(known[number], stale):
        return None
    path = folder / name / f"{number + 1}.json"
    start = lock.myself()["start"]
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump({"host": _here(), "pid": os.getpid(), "since": start}, file)
    except FileExistsError:
        return None
    claim = Claim(path, threading.Event())
    threading.Thread(target=_beat, args=(claim,), daemon=True, name=f"claim {name}").start()
    return claim


def lost(claim: Claim) -> bool:
    """Whether another program has taken the task over: this one slept, or was cut off, for too long."""
    return max(_numbered(claim.path.parent), default=-1) > int(claim.path.stem)


def release(claim: Claim, outcome: str, **more) -> None:
    """Ends a claim with what has become of the task."""
    claim.ended.set()
    files.write_json(claim.path, files.read_note(claim.path) | {"outcome": outcome, **more})
