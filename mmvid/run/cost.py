"""Keeps what a segment has cost and what made it: the time that it trained, when, where, and the commit of the
code. Nothing of it touches a result."""

import datetime
import functools
import pathlib
import subprocess
import time

import jax

import mmvid
from mmvid import files, logs

ROOT = pathlib.Path(mmvid.__file__).parents[1]


def _git(*arguments: str) -> str:
    """Asks git about the folder that this code lies in. Raises OSError or SubprocessError where it cannot tell."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


@functools.cache
def code() -> str:
    """Returns the commit of this code, '079da1a2c4be', with '+changes' where files differ from it; the version of
    mmvid where it is no clone."""
    try:
        # Of an install, a repository around it is somebody else's.
        if pathlib.Path(_git("rev-parse", "--show-toplevel")).resolve() != ROOT.resolve():
            return f"mmvid {mmvid.__version__}"
        changes = _git("status", "--porcelain", "--untracked-files=no")
        return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return f"mmvid {mmvid.__version__}"


class Meter:
    """Adds up the time that a segment trains in ``directory``/cost.json, over all calls that it takes."""

    def __init__(self, directory: pathlib.Path):
        self.path, self.code = directory / "cost.json", code()
        self.begun = time.monotonic()

    def note(self) -> None:
        """Adds the time since the last note. Call it with each save: what a kill throws away is not counted."""
        if jax.process_index():
            return
        now = time.monotonic()
        before = _known(self.path)
        files.write_json(
            self.path,
            {
                "seconds": round(before.get("seconds", 0.0) + now - self.begun, 1),
                "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
                "machine": logs.machine(),
                # A segment that went on under other code was made by all of it.
                "code": list(dict.fromkeys([*before.get("code", []), self.code])),
            },
        )
        self.begun = now


def _known(path: pathlib.Path) -> dict:
    """Reads what earlier calls noted; {} where it is gone or damaged, since no result depends on it."""
    try:
        return files.read_json(path) or {}
    except ValueError:
        return {}
