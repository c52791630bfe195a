"""Trains: python -m mmvid train --config=configs/mml.py --workdir=runs/mml, or python -m mmvid.main ..."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging

from mmvid import configuration, transfer, usage

_CONFIG = flags.DEFINE_string("config", None, "the experiment, FILE[:VARIANT], e.g. configs/mml.py:smoke")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go, by default runs/NAME-VARIANT; the same resumes")
_SEEDS = flags.DEFINE_list("seeds", [], "0,1,2: the run of each seed, in WORKDIR/seed0, ..., and their comparison")
_DRY = flags.DEFINE_bool("dry", False, "print what it will take (memory, hours, disk) and train nothing")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, where nothing else tells")
_PROCESSES = flags.DEFINE_integer("processes", 0, "number of processes; 0: ask the cluster; 1: alone")
_PROCESS = flags.DEFINE_integer("process", -1, "this process's index; -1: ask the cluster")


def _workdir() -> str:
    """--workdir; where it is not given, the folder of runs/ that has the configuration's name: runs/mml-smoke, and
    runs/mml-smoke-seeds for several seeds."""
    if _WORKDIR.value is not None:
        return _WORKDIR.value
    file, variant = usage.parted(_CONFIG.value)
    name = (pathlib.Path(file).stem, variant, "seeds" if _SEEDS.value else "")
    return str(pathlib.Path("runs", "-".join(filter(None, name))))


def _seeds() -> list[int]:
    """The numbers of --seeds. Raises flags.Error for a text that is no whole number, for a number given twice, and
    where there is none."""
    texts = _SEEDS.value
    whole = all(text.strip().isdecimal() for text in texts) and bool(texts or not _SEEDS.present)
    if not whole or len(set(map(int, texts))) < len(texts):
        raise flags.Error(f"--seeds={','.join(texts)}: give whole numbers, each once, for instance --seeds=0,1,2")
    return [int(text) for text in texts]


def _check_processes() -> None:
    """Raises WrongUse for a number of processes, or a number of one, that there cannot be."""
    count, index = _PROCESSES.value, _PROCESS.value
    if count < 0:
        raise usage.WrongUse(f"--processes={count}: say how many train together; 1 is this one alone")
    if index < -1 or 0 < count <= index:
        last = f"from 0 to {count - 1}" if count else "from 0 on"
        raise usage.WrongUse(f"--process={index}: the processes are numbered {last}")


def _parse(argv: list[str]) -> list[str]:
    """Parses the command line as absl flags and returns its program and its --config.NAME=VALUE. Prints the help
    that is asked for. Ends the process with exit code 2 where a flag is missing or wrong, or an argument is
    none."""
    if usage.asked(argv):
        print(usage.text(argv, ["config", "workdir", "seeds", "dry", "coordinator", "processes", "process"]))
        sys.exit(0)
    try:
        own, overrides = configuration.apart(flags.FLAGS.read_flags_from_files(argv, force_gnu=False))
        program, *stray = flags.FLAGS(own)
        if stray:
            raise usage.WrongUse(f"{stray[0]!r} is no flag; flags look like --workdir=FOLDER --config.seed=1")
        usage.check_given(config=_CONFIG.value, workdir="runs" if _WORKDIR.value is None else _WORKDIR.value)
        if usage.scheme(_workdir()):
            transfer.of(_workdir())
        else:
            usage.check_folder("--workdir", pathlib.Path(_workdir()))
        _check_processes()
        _seeds()
        return [program, *overrides]
    except flags.Error as error:
        usage.fail(error, usage.of_flags(error), 2)
    except (usage.WrongUse, OSError) as error:
        usage.fail(error, str(error), 2)


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for threads that still make a batch, perhaps for minutes."""
    # os._exit flushes nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    # Of several, each takes leave of the others (`run.peers`).
    if not jax.distributed.is_initialized():
        os._exit(code)
    sys.exit(code)


def _try(config, workdir: str, seeds: list[int]) -> None:
    """Prints what the run would take, of one seed or of several. Nothing is trained or written."""
    from mmvid.run import dry, outline

    folder = pathlib.Path(workdir)
    dry.dry(outline.outline(config, folder), folder, max(len(seeds), 1))


def _placed(workdir: str):
    """A context that gives the folder on this machine in which a workdir is worked on; of one in a bucket it is a
    copy, which is sent unless the run is only tried. Raises WrongUse for a bucket and several processes."""
    if not usage.scheme(workdir):
        return contextlib.nullcontext(workdir)
    if jax.process_count() > 1:
        raise usage.WrongUse(
            f"--workdir={workdir} is in a bucket, of which each host would have a copy, and of these "
            f"{jax.process_count()} processes all write checkpoints: mount the bucket on all hosts (gcsfuse, "
            "rclone; docs/scale.md), or name a folder that they share"
        )
    if _DRY.value:
        return contextlib.nullcontext(transfer.fetched(workdir, transfer.without_checkpoints))
    from mmvid.run import mirror

    return mirror.trained(workdir)


def _train(config, workdir: str, seeds: list[int]) -> None:
    """Trains the run, or one run for each seed, followed by their comparison. The same call resumes."""
    # Imported here: --help need not wait for them.
    from mmvid import train
    from mmvid.commands import compare

    if not seeds:
        if sorted(pathlib.Path(workdir).glob("seed*/config.json")):
            raise usage.WrongUse(
                f"--workdir={workdir} holds runs of several seeds: give --seeds, or another folder"
            )
        train.train(config, workdir)
        return
    if (pathlib.Path(workdir) / "config.json").exists():
        raise usage.WrongUse(f"--workdir={workdir} is a run itself; give --seeds another one, where none is yet")
    folders = [pathlib.Path(workdir) / f"seed{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders):
        with config.unlocked():
            config.seed = seed
        train.train(config, str(folder))
    if jax.process_index() == 0:
        compare.compare(folders, pathlib.Path(workdir))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Says why the block ends early, and ends the process with the code that `main` tells."""
    # Imported here: --help need not wait for them.
    from mmvid.run import loop, signals

    try:
        yield
    except signals.Stopped as stopped:
        print(f"\nmmvid: {stopped}", file=sys.stderr)
        # A scheduler would take 0 for done, and not start the run again; a person has seen that all is saved.
        _leave(stopped.code if stopped.signal == "SIGTERM" else 0)
    except KeyboardInterrupt:
        print("\nmmvid: interrupted; the same command goes on from what is saved", file=sys.stderr)
        _leave(130)
    except usage.WrongUse as error:
        usage.fail(error, str(error), 2)
    except (ValueError, OSError, loop.Diverged) as error:
        usage.fail(error, usage.explained(error), 1)


def main(argv: list[str]) -> None:
    """Trains what the flags and the overrides, ``argv[1:]``, say. Ends the process with exit code 143 after
    SIGTERM, 0 after Ctrl-C, 130 after a second signal (or Ctrl-C before the run listens), 1 where the run fails,
    2 for wrong use. Where one of several processes fails, all end with its code."""
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax and TFDS narrate every step of theirs
    from mmvid.run import naming, peers, processes

    # After SIGTERM all leave at the same step.
    with peers.heard(together=(0, 143)) as listen, naming.naming([_workdir(), *argv]), _explained():
        config = configuration.overridden(configuration.read(_CONFIG.value), argv[1:])
        processes.join(coordinator=_COORDINATOR.value, count=_PROCESSES.value, index=_PROCESS.value)
        listen()
        with _placed(_workdir()) as workdir:
            (_try if _DRY.value else _train)(config, str(workdir), _seeds())


def start(argv: list[str] | None = None) -> None:
    """Runs `main` on the command line ``argv``, by default this process's own."""
    app.run(main, argv=argv, flags_parser=_parse)


if __name__ == "__main__":
    start()
