"""The commands of `python -m mmvid COMMAND`. Each is a file with ``add_arguments(parser)``,
``execute(arguments)``, an example in its docstring, and ``CONFIG``, which says whether it takes
--config.NAME=VALUE. 'train' alone has no file here: it is mmvid/main.py."""

import argparse
import importlib
from collections.abc import Sequence

from absl import flags

from mmvid import configuration, usage
from mmvid.run import mirror, naming, signals

# In the order of their use, with the line of --help. A command is imported when it is asked for: JAX takes
# seconds.
COMMANDS = {
    "train": "train what a configuration describes; the same command resumes",
    "evaluate": "score a finished run again, under another protocol or on another split",
    "predict": "what a run makes of your own videos: classes and probabilities",
    "share": "one network of a run in a folder of its own, with a model card; to the hub",
    "export": "write a finished run as a file that works without mmvid: JAX, ONNX, PyTorch",
    "doctor": "what of a dataset would spoil a score, and what to do about it",
    "browse": "a dataset as one page: clips in every modality, as networks see them",
    "report": "write a finished run's table and page again",
    "cost": "parameters, FLOPs, milliseconds and memory of a configuration's networks",
    "ogr": "which modality of a finished run overfits, and what to do about it",
    "submit": "the files that EPIC-Kitchens-55's challenge takes",
    "weights": "what a file of weights is, and which networks it fits",
    "compare": "one table and one page over runs and their seeds",
    "ensemble": "every pair and triple of ended runs' outputs, from their scores",
    "sweep": "every cell of a grid and one table of them; resumes, machines may share it",
}
EXAMPLES = (
    usage.EXAMPLE,
    "python -m mmvid evaluate runs/smoke --protocol=D1U2",
    "python -m mmvid predict runs/smoke my_video.mp4",
    "python -m mmvid share runs/smoke shared/smoke",
    "python -m mmvid export runs/smoke --out=exported",
    "python -m mmvid doctor data/mine",
    "python -m mmvid browse data/mine --config=configs/mml.py:own",
    "python -m mmvid report runs/smoke",
    "python -m mmvid cost --config=configs/mml.py:ssv2 --counts",
    "python -m mmvid ogr runs/dmcl",
    "python -m mmvid submit runs/epic55_verb runs/epic55_noun --out=submission.zip",
    "python -m mmvid weights --check resnet50.pth",
    "python -m mmvid compare runs/mml runs/dmcl --out=runs/compared",
    "python -m mmvid ensemble runs/mml runs/mml:flow runs/dmcl:depth",
    "python -m mmvid sweep --config=configs/mml.py --grid schedule.lr=0.01,0.03",
)


def of_name(name: str):
    """Imports the module of a command other than 'train'."""
    return importlib.import_module(f"mmvid.commands.{name}")


def listing() -> str:
    """The text of --help: every command with its line, and examples."""
    return "\n".join(
        [
            "python -m mmvid COMMAND ...",
            "",
            "commands (each has a --help of its own):",
            *(usage.folded(f"  {name:10s} ", line) for name, line in COMMANDS.items()),
            "",
            "for example:",
            *(f"  {line}" for line in EXAMPLES),
        ]
    )


def parsed(name: str, command, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with its --config.NAME=VALUE as ``overrides``. Ends the process with exit code
    2 where they are wrong."""
    # argparse would take the names of a configuration for unknown arguments.
    own, overrides = configuration.apart(argv)
    parser = usage.Parser(f"python -m mmvid {name}", command.__doc__)
    command.add_arguments(parser)
    if overrides and not command.CONFIG:
        parser.error(f"{overrides[0]}: {name} reads what runs have left and takes no configuration")
    # Options may stand between inputs, too.
    arguments = parser.parse_intermixed_args(own)
    arguments.overrides = overrides
    return arguments


def start(name: str, argv: Sequence[str]) -> None:
    """Runs a command other than 'train'. Ends the process with exit code 1 where the command fails, 2 for
    wrong use, 130 after Ctrl-C, 143 where it has saved what it made after SIGTERM."""
    command = of_name(name)
    arguments = parsed(name, command, argv)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's
    with naming.naming(argv):
        _execute(command, arguments)


def _execute(command, arguments: argparse.Namespace) -> None:
    try:
        with mirror.given(arguments):
            command.execute(arguments)
    except usage.WrongUse as error:
        usage.fail(error, str(error), 2)
    except (ValueError, OSError) as error:
        usage.fail(error, usage.explained(error), 1)
    except signals.Stopped as error:
        usage.fail(error, str(error), error.code)
    except KeyboardInterrupt as error:
        usage.fail(error, "interrupted", 130)
