"""Trains: python -m mmvid train --config=configs/mml.py --workdir=runs/mml, or python -m mmvid.main ..."""

import os
import pathlib
import sys
from typing import NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mmvid import usage

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment, e.g. configs/mml.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go; the same one resumes")
_SEEDS = flags.DEFINE_list("seeds", [], "0,1,2: the run of each seed, in WORKDIR/seed0, ..., and their comparison")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, for several hosts")
_PROCESSES = flags.DEFINE_integer("processes", 0, "number of processes; 0: ask the cluster")
_PROCESS = flags.DEFINE_integer("process", -1, "this process's index; -1: ask the cluster")


def _start_processes() -> None:
    """Joins the other processes where there are any. On a TPU pod no flags are needed: JAX finds the others by
    itself."""
    if _COORDINATOR.value:
        process = _PROCESS.value if _PROCESS.value >= 0 else None
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value or None, process)
    # A TPU host names its peers here: a comma between names means that there is more than one.
    elif _PROCESSES.value > 1 or os.environ.get("TPU_WORKER_HOSTNAMES", "").count(","):
        jax.distributed.initialize()


def _seeds() -> list[int]:
    """The numbers of --seeds. Raises flags.Error for a text that is no whole number, and for a number given
    twice."""
    texts = _SEEDS.value
    if not all(text.strip().isdecimal() for text in texts) or len(set(map(int, texts))) < len(texts):
        raise flags.Error(f"--seeds={','.join(texts)}: give whole numbers, each once, for instance --seeds=0,1,2")
    return [int(text) for text in texts]


def _parse(argv: list[str]) -> list[str]:
    """Parses the command line as absl flags and returns what is left of it. Prints the help that is asked for.
    Ends the process with exit code 2 where a flag is wrong, or a configuration cannot be read or overridden
    as it says."""
    if usage.asked(argv):
        print(usage.text(argv, ["config", "workdir", "seeds", "coordinator", "processes", "process"]))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        dict(_CONFIG.value)  # a file that is missing is noticed only when it is used
        _seeds()
        return rest
    except (flags.Error, OSError) as error:
        usage.fail(error, str(error).strip().splitlines()[-1].strip(), 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        usage.fail(error, usage.no_override(error), 2)
    except Exception as error:  # whatever the configuration's own code raises
        reason = f"{type(error).__name__}: {error}"
        usage.fail(error, f"the configuration cannot be read ({reason}): mend it; MMVID_TRACE=1 shows where", 1)


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for threads that still make a batch, perhaps for minutes."""
    # os._exit flushes nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    # Of several, each takes leave of the others as it exits, which os._exit would skip.
    if jax.process_count() == 1:
        os._exit(code)
    sys.exit(code)


def _train(config, workdir: str, seeds: list[int]) -> None:
    """Trains the run, or one run for each seed, followed by their comparison. The same call resumes."""
    # Imported here: --help need not wait for them.
    from mmvid import train
    from mmvid.commands import compare

    if not seeds:
        train.train(config, workdir)
        return
    if (pathlib.Path(workdir) / "config.json").exists():
        raise ValueError(f"--workdir={workdir} is a run itself; give --seeds another one, where none is yet")
    folders = [pathlib.Path(workdir) / f"seed{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders):
        with config.unlocked():
            config.seed = seed
        train.train(config, str(folder))
    if jax.process_index() == 0:
        compare.compare(folders, pathlib.Path(workdir))


def main(argv: list[str]) -> None:
    """Trains what the flags say. Ends the process with exit code 0 after a signal, 130 after a second one (or
    Ctrl-C before the run listens), 1 where the run fails. Raises UsageError for arguments that are no flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; overrides look like --config.seed=1")
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax and TFDS narrate every step of theirs
    from mmvid.run import loop

    try:
        _start_processes()
        _train(_CONFIG.value, _WORKDIR.value, _seeds())
    except loop.Stopped as stopped:
        print(f"\nmmvid: {stopped}", file=sys.stderr)
        _leave(0)
    except KeyboardInterrupt:
        print("\nmmvid: interrupted; the same command goes on from what is saved", file=sys.stderr)
        _leave(130)
    except (ValueError, OSError, loop.Diverged) as error:
        usage.fail(error, usage.explained(error), 1)


def start(argv: list[str] | None = None) -> None:
    """Runs `main` on the command line ``argv``, by default this process's own."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, argv=argv, flags_parser=_parse)


if __name__ == "__main__":
    start()
