"""python -m mmvid.main --config=configs/mml.py --workdir=runs/mml"""

import errno
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


def _fail(error: Exception, message: str, code: int) -> NoReturn:
    """The message says what to do; a stack trace would hide it. MMVID_TRACE=1 shows it."""
    if os.environ.get("MMVID_TRACE"):
        raise error
    print(f"\nmmvid: {message}", file=sys.stderr)
    sys.exit(code)


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
        _fail(error, str(error).strip().splitlines()[-1].strip(), 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(error, f"cannot override {error.args[0]}", 2)


def _explained(error: Exception) -> str:
    """The message, and what to do where the system's own names nothing but a number."""
    number, text = getattr(error, "errno", None), str(error)
    # Orbax hands on what the system said as text alone.
    if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in text:
        return f"{text}. The disk is full: make room, then the same command goes on from the last checkpoint"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{text}. This user may not write there: give another --workdir, or have it handed over"
    return text


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
        _fail(error, _explained(error), 1)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)
