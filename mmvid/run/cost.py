"""Keeps what a segment has cost and what made it: the time that it trained, when, where, the commit of the
code and the versions of its packages. Nothing of it touches a result."""

import datetime
import functools
import importlib.metadata
import pathlib
import platform
import subprocess
import time
from typing import Any

import jax

import mmvid
from mmvid import files, logs

ROOT = pathlib.Path(mmvid.__file__).parents[1]
# Those that numbers depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av",
            "opencv-contrib-python-headless")  # fmt: skip


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


def versions() -> dict[str, str]:
    """Returns the versions of Python, of the platform and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a package that is not here cannot have changed a number
    return found


class Meter:
    """Adds up the time that a segment trains in ``directory``/cost.json, over all calls that it takes."""

    def __init__(self, directory: pathlib.Path):
        self.path, self.begun = directory / "cost.json", time.monotonic()
        self.made = {"machine": logs.machine(), "code": code(), "versions": versions()}

    def note(self) -> None:
        """Adds the time since the last note. Call it with each save: what a kill throws away is not counted."""
        if jax.process_index():
            return
        now = time.monotonic()
        before = files.read_note(self.path)
        files.write_json(
            self.path,
            {
                "seconds": round(before.get("seconds", 0.0) + now - self.begun, 1),
                "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
                **{name: _with(before.get(name, []), own) for name, own in self.made.items()},
            },
        )
        self.begun = now


def _with(earlier: Any, own: Any) -> list:
    """Adds what this call is made by to what earlier ones were: a segment that went on elsewhere, or under other
    code, was made by all of it."""
    # A note of an older mmvid holds one machine, by itself.
    found = earlier if isinstance(earlier, list) else [earlier]
    return found if own in found else [*found, own]
