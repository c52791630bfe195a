"""The commands of `python -m mmvid COMMAND`. Each is a file with ``add_arguments(parser)``,
``execute(arguments)``, an example in its docstring, and ``CONFIG``, which says whether it takes
--config.NAME=VALUE. 'train' alone has no file here: it is mmvid/main.py."""

import argparse
import importlib
from collections.abc import Sequence

from absl import flags

from mmvid import usage

# In the order of their use, with the line of --help. A command is imported when it is asked for: JAX takes
# seconds.
COMMANDS = {
    "train": "train what a configuration describes; the same command resumes",
    "evaluate": "score a finished run again, under another protocol or on another split",
    "report": "write a finished run's table and page again",
    "compare": "one table and one page over runs and their seeds",
}
EXAMPLES = (
    "python -m mmvid train --config=configs/mml.py:smoke --workdir=runs/smoke",
    "python -m mmvid evaluate runs/smoke --protocol=D1U2",
    "python -m mmvid report runs/smoke",
    "python -m mmvid compare runs/mml runs/dmcl --out=runs/compared",
)


def of_name(name: str):
    """Imports the module of a command other than 'train'."""
    return importlib.import_module(f"mmvid.commands.{name}")


def listing() -> str:
    """The text of --help: every command with its line, and examples."""
    return "\n".join([
        "python -m mmvid COMMAND ...", "", "commands (each has a --help of its own):",
        *(f"  {name:10s} {line}" for name, line in COMMANDS.items()), "", "for example:",
        *(f"  {line}" for line in EXAMPLES),
    ])  # fmt: skip


def _apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divides arguments into (the command's own, those that override a configuration)."""
    # argparse would take the names of a configuration for unknown arguments.
    overrides = [a for a in argv if a.lstrip("-").partition("=")[0].startswith("config.") and a.startswith("-")]
    return [a for a in argv if a not in overrides], overrides


def _parsed(name: str, command, argv: Sequence[str]) -> argparse.Namespace:
    own, overrides = _apart(argv)
    parser = argparse.ArgumentParser(
        f"python -m mmvid {name}", description=command.__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_arguments(parser)
    if overrides and not command.CONFIG:
        parser.error(f"{overrides[0]}: {name} reads what runs have left and takes no configuration")
    # 'NAME VALUE' in two words would leave VALUE among the command's own arguments.
    if unfinished := [text for text in overrides if "=" not in text]:
        parser.error(f"{unfinished[0]}: write {unfinished[0]}=VALUE")
    arguments = parser.parse_args(own)
    arguments.overrides = overrides
    return arguments


def start(name: str, argv: Sequence[str]) -> None:
    """Runs a command other than 'train'. Ends the process with exit code 1 where the command fails, 2 for
    wrong use, 130 after Ctrl-C."""
    command = of_name(name)
    arguments = _parsed(name, command, argv)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's
    try:
        command.execute(arguments)
    except usage.WrongUse as error:
        usage.fail(error, str(error), 2)
    except (ValueError, OSError) as error:
        usage.fail(error, usage.explained(error), 1)
    except KeyboardInterrupt as error:
        usage.fail(error, "interrupted", 130)
