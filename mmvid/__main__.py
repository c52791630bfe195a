"""python -m mmvid COMMAND ...: the same as the console script `mmvid`."""

import sys

from mmvid import commands, usage


def main() -> None:
    """Hands the rest of the command line to the command. Exit codes: 0, 1 (failed), 2 (wrong use)."""
    name, rest = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in usage.HELP:
        print(commands.listing())
    elif name not in commands.COMMANDS:
        known = ", ".join(commands.COMMANDS)
        print(f"mmvid: there is no command {name!r}; there are {known}", file=sys.stderr)
        print("more: python -m mmvid --help", file=sys.stderr)
        sys.exit(2)
    elif name == "train":
        from mmvid import main as training

        training.start([f"{sys.argv[0]} train", *rest])
    else:
        commands.start(name, rest)


if __name__ == "__main__":
    main()
