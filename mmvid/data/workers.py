"""Makes batches ahead by threads or processes, through Grain: how these start, which signals reach them, and
how they end."""

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import os
import pathlib
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

# Grain brings JAX along, so it is imported where it is used.
if TYPE_CHECKING:
    import grain


# Seconds that workers have to end by themselves.
PATIENCE = 2.0


class Loader(NamedTuple):
    """Who makes batches ahead: ``workers`` processes or, where that is 0, ``threads``; ``prefetch`` batches are
    held ready."""

    workers: int = 0
    threads: int = 4
    prefetch: int = 4


def batches_held(loader: Loader) -> int:
    """Returns how many batches `iterate` holds at most: those ready, in use, and in the making.

    One in the making counts twice: its examples, and the stack of them.
    """
    workers, threads, prefetch = loader
    if workers:
        return workers * (max(prefetch // workers, 1) + 2) + 1
    return max(prefetch, threads) + threads + 1 if threads else 3


def _begin_worker(born: str, worker: int, workers: int) -> None:
    """Runs first in every worker: leaves a file in the folder ``born``, so that the loop knows that it lives.

    It also ends the worker when the process of the loop ends.
    """
    pathlib.Path(born, str(os.getpid())).touch()
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process, a worker, when the one that started it ends: where that is killed, nobody else would."""

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Blocks Ctrl-C and SIGTERM until it ends; processes that start inside never see these signals."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start would let both signals through again, so it has to come before they are blocked.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(ahead: "grain.DatasetIterator") -> list[dict]:
    """Starts the workers, which Grain does when it is asked for the first batch. Returns that batch in a list,
    an empty one where there is none.

    A thread asks for it with both signals blocked, and the workers inherit that. The loop, which waits here,
    still receives them.
    """
    found: futures.Future = futures.Future()

    def ask() -> None:
        try:
            found.set_result(list(itertools.islice(ahead, 1)))
        except BaseException as error:
            found.set_exception(error)

    with _signals_held():
        threading.Thread(target=ask, daemon=True).start()
    return found.result()


def _from_workers(dataset: "grain.IterDataset", workers: int, prefetch: int) -> Iterator[dict]:
    """Yields the batches of ``dataset``, made by processes that start with the first batch.

    Ctrl-C reaches a whole process group, but the loop alone decides when its workers end.
    """
    import grain

    others = set(multiprocessing.active_children())
    options = grain.MultiprocessingOptions(workers, prefetch)
    with tempfile.TemporaryDirectory() as born:
        ahead = iter(dataset.mp_prefetch(options, worker_init_fn=functools.partial(_begin_worker, born)))
        try:
            yield from _start(ahead)
            yield from ahead
        finally:
            _close(ahead, set(multiprocessing.active_children()) - others, pathlib.Path(born))


def _close(ahead: "grain.DatasetIterator", workers: set, born: pathlib.Path) -> None:
    """Closes the iterator within PATIENCE seconds: workers that are not done by then are killed.

    ``workers`` are its processes, of which those that have begun have left a file in ``born``.
    """

    def kill(chosen) -> None:
        for worker in chosen:
            worker.kill()

    # One that is still being born would find its queues gone, and print a stack trace about it. It holds no
    # lock yet that somebody could wait for.
    kill(worker for worker in workers if not (born / str(worker.pid)).exists())
    # Closing alone waits for the batches in the making, however long these take.
    timer = threading.Timer(PATIENCE, kill, (workers,))
    timer.start()
    try:
        ahead.close()
    finally:
        timer.cancel()


def iterate(dataset: "grain.MapDataset", loader: Loader) -> Iterator[dict]:
    """Returns an iterator over the batches, in order, made ahead as ``loader`` says.

    Close it after use: ``close()`` ends what runs ahead. Raises ValueError for a negative number.
    """
    import grain

    if min(loader) < 0:
        raise ValueError(f"{loader}: no number of it may be negative")
    workers, threads, prefetch = loader
    if not flags.FLAGS.is_parsed():
        # Grain reads absl flags; in a notebook nobody has parsed them.
        flags.FLAGS.mark_as_parsed()
    if not workers:
        options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0
        )
        return iter(dataset.to_iter_dataset(options))
    # A worker is one thread that makes every workers-th batch.
    ahead = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    return _from_workers(ahead, workers, max(prefetch // workers, 1))
