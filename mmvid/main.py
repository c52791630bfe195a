"""python -m mmvid.main --config=configs/mml.py --workdir=runs/mml"""

import os
import sys
from typing import NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mmvid import usage

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment, e.g. configs/mml.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go; the same one resumes")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, for several hosts")
_PROCESSES = flags.DEFINE_integer("processes", 0, "number of processes; 0: ask the cluster")
_PROCESS = flags.DEFINE_integer("process", -1, "this process's index; -1: ask the cluster")


def _start_processes() -> None:
    """Joins the other processes where there are any; on a TPU pod everything is found by itself."""
    if _COORDINATOR.value:
        process = _PROCESS.value if _PROCESS.value >= 0 else None
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value or None, process)
    elif _PROCESSES.value > 1 or os.environ.get("TPU_WORKER_HOSTNAMES", "").count(","):
        jax.distributed.initialize()


def _parse(argv: list[str]) -> list[str]:
    """absl's flags. A configuration that cannot be read or overridden so is a mistake of usage."""
    if usage.asked(argv):
        print(usage.text(argv, ["config", "workdir", "coordinator", "processes", "process"]))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        dict(_CONFIG.value)  # a file that is missing is noticed only when it is used
        return rest
    except (flags.Error, OSError) as error:
        usage.fail(error, str(error).strip().splitlines()[-1].strip(), 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        usage.fail(error, usage.no_override(error), 2)


def _leave(code: int) -> NoReturn:
    """Ends the process. Threads that still make a batch, for minutes perhaps, are not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_count() == 1:
        os._exit(code)
    sys.exit(code)


def main(argv: list[str]) -> None:
    """Parses nothing but flags; everything else is ``train.train``."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; overrides look like --config.seed=1")
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax and TFDS narrate every step of theirs
    from mmvid import train

    try:
        _start_processes()
        train.train(_CONFIG.value, _WORKDIR.value)
    except train.Stopped as stopped:
        print(f"\nmmvid: {stopped}", file=sys.stderr)
        _leave(0)
    except KeyboardInterrupt:
        print("\nmmvid: interrupted; the same command goes on from what is saved", file=sys.stderr)
        _leave(130)
    except (ValueError, OSError, train.Diverged) as error:
        usage.fail(error, usage.explained(error), 1)


def start(argv: list[str] | None = None) -> None:
    """Runs ``main`` on a command line, this process's own where none is given."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, argv=argv, flags_parser=_parse)


if __name__ == "__main__":
    start()
