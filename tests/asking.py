"""Asks a command of `python -m mmvid`, in this process."""

from mmvid import commands


def ask(name, *argv):
    """The exit code of the command ``name``."""
    try:
        commands.start(name, [*map(str, argv)])
    except SystemExit as end:
        return end.code
    return 0
