"""A lock for one process at a time: a file that names its holder, and that is free once the holder is dead.

The operating system's lock (flock) where there is one. Some network file systems have none, nor has
Windows: there the holder makes a file and touches it every few seconds, and one that nobody has
touched for a while is taken over.
"""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from mmvid import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# The lock of a run, in its workdir.
RUN = "run.lock"
# Seconds between two touches, after how many without one a holder is dead, between two looks.
BEAT, STALE, LOOK = 5.0, 40.0, 0.5
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Held(ValueError):
    """Raised where another process holds the lock; the message says what is in use, by which process, since
    when."""


def myself() -> dict:
    """The entry that a lock file has of this process."""
    start = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "start": start}


def _holder(path: pathlib.Path) -> dict:
    """The entry of a lock file's holder; {} where there is no file or nothing is written in it yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def describe(holder: dict) -> str:
    """A holder in words: 'process 123 on host worker-2, since 2026-11-26 09:00:00+00:00'."""
    if not {"pid", "host", "start"} <= set(holder):
        return "another process"
    return f"process {holder['pid']} on host {holder['host']}, since {holder['start']}"


# ---------------------------------------------------------------------------- the system's lock
def _flocked(path: pathlib.Path) -> Callable | None:
    """Takes the system's lock. Returns a function that releases it; None where somebody holds it.

    Raises OSError with one of ``_NO_LOCKS`` as its number where the file system has no locks.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    file.truncate(0)
    file.write(json.dumps(myself()))
    file.flush()

    def release() -> None:
        """Empties and unlocks the file."""
        # The file stays: whoever waits has it open, and would lock what nobody else can see.
        file.truncate(0)
        file.close()

    return release


# ---------------------------------------------------------------------------- a heartbeat
def file_time(path: pathlib.Path) -> float:
    """The time now by the clock that also dates the lock file: the hosts' clocks may disagree, but they share
    the file server's."""
    probe = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.now")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether a process ``pid`` runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _dead(path: pathlib.Path) -> bool:
    """Whether the holder has not touched the file for ``STALE`` seconds, or was a process of this machine that
    has ended."""
    holder = _holder(path)
    if holder.get("host") == socket.gethostname() and os.name == "posix" and not alive(holder["pid"]):
        return True
    try:
        return file_time(path) - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return False  # released just now: the next look will find it free


def _beating(path: pathlib.Path) -> Callable | None:
    """Takes the lock with a file that its holder touches every ``BEAT`` seconds. Returns a function that
    releases it; None where somebody holds it."""
    own = myself()
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(own, file)
    except FileExistsError:
        # An empty file is being written this moment, or its writer died in that moment.
        if not (_dead(path) if _holder(path) else file_time(path) - path.stat().st_mtime > LOOK):
            return None
        with files.whole(path, mark=f"{own['host']}.{own['pid']}") as temporary:
            temporary.write_text(json.dumps(own), encoding="utf-8")
        time.sleep(LOOK)  # of two who take over at once, the later one has it
        if _holder(path) != own:
            return None
    ended = threading.Event()

    def beat() -> None:
        """Keeps the file young until it is released."""
        # A machine that slept may find that another has taken over: that file is left alone.
        while not ended.wait(BEAT) and _holder(path) == own:
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=beat, daemon=True, name="lock").start()

    def release() -> None:
        """Ends the beat and removes the file, unless another process has it by now."""
        ended.set()
        if _holder(path) == own:
            path.unlink(missing_ok=True)

    return release


# ---------------------------------------------------------------------------- either
def holder(path: pathlib.Path) -> dict:
    """The entry of whoever holds, or held last, the lock file ``path``; {} where there is none."""
    return _holder(path) or _holder(_beat_file(path))


def _beat_file(path: pathlib.Path) -> pathlib.Path:
    """The file that the holder touches where the file system has no locks."""
    # A name of its own: trying flock leaves an empty file behind.
    return path.with_name(path.name + ".beat")


def _taken(path: pathlib.Path) -> Callable | None:
    """Takes the lock in whichever way works here. Returns a function that releases it; None where somebody
    holds it."""
    if fcntl is not None:
        try:
            return _flocked(path)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return _beating(_beat_file(path))


@contextlib.contextmanager
def held(path: str | os.PathLike, what: str, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the lock file ``path`` (its folder must exist), which guards ``what``, while the block runs.

    Where another process holds it, this raises `Held`; or, with ``wait``, calls it once with a line that
    names the holder and waits until the lock is free. The lock becomes free when the block ends or the
    process dies, however it dies; without flock that takes up to ``STALE`` seconds. Raises OSError where
    the file cannot be written.
    """
    path, told = pathlib.Path(path), False
    while (release := _taken(path)) is None:
        line = f"{what} is in use by {describe(holder(path))}"
        if wait is None:
            raise Held(line)
        if not told:
            wait(line)
            told = True
        time.sleep(LOOK)
    try:
        yield
    finally:
        release()
