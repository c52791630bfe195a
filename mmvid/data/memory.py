"""Tells how much memory is left, for code that is about to take a lot of it."""

import os
import pathlib


def _numbers(path: str) -> dict[str, int]:
    """Reads lines such as 'MemAvailable:  123 kB' of a file: {name: bytes}."""
    lines = (line.split() for line in pathlib.Path(path).read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}


def _container() -> int | None:
    """Returns the bytes left to this container (control group, version 2); None where nothing limits it."""
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit, used = (group / f"memory.{name}" for name in ("max", "current"))
        # Pages of files count as used, although they are given back when asked for.
        files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(limit.read_text()) - int(used.read_text()) + int(files.get("inactive_file", 0))
    except (OSError, ValueError):
        # No such files outside of Linux; a limit that reads "max" is none.
        return None


def available() -> int | None:
    """Returns the bytes that may still be used on this machine; None where the system does not tell."""
    try:
        free = _numbers("/proc/meminfo")["MemAvailable"]
    except (OSError, KeyError, ValueError):
        try:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    limit = _container()
    return free if limit is None else min(free, limit)
