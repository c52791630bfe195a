"""One build of a dataset at a time: a second one waits, and says for whom."""

import contextlib
import errno
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # not on Windows: there two builds at once must be avoided by hand
    fcntl = None


def _holder(file) -> str:
    """Who wrote the lock file; it may be about to."""
    file.seek(0)
    try:
        return "process {pid} on {host}, since {start}".format(**json.loads(file.read()))
    except (ValueError, KeyError, TypeError):
        return "another process"


def _lock(file, root: pathlib.Path) -> None:
    """Waits for the lock, which the system frees with whoever held it, kill -9 included."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            print(f"note: {root} is on a file system without locks ({error.strerror}): see to it that no other "
                  "build of it runs", file=sys.stderr)  # fmt: skip
            return
    print(f"another build of {root} is running ({_holder(file)}): waiting for it", file=sys.stderr, flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def alone(root: pathlib.Path) -> Iterator[None]:
    """Holds ``root/build.lock`` with this process's host, pid and start in it. Where another build holds
    it, waits, and so finds the work done."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "build.lock").open("a+", encoding="utf-8") as file:
        if fcntl is not None:
            _lock(file, root)
        own = {"host": platform.node(), "pid": os.getpid(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.truncate(0)
        file.write(json.dumps(own))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
