"""Batches made ahead by threads or processes, through Grain: how these begin, what they hear, how they end."""

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


class Loader(NamedTuple):
    """Batches are made ahead by ``workers`` processes or, where there are none, by ``threads``;
    ``prefetch`` of them are held ready."""

    workers: int = 0
    threads: int = 4
    prefetch: int = 4


def batches_held(loader: Loader) -> int:
    """How many batches `iterate` holds at most: those ready, in use, and in the making (twice: their
    examples and the stack of them)."""
    workers, threads, prefetch = loader
    if workers:
        return workers * (max(prefetch // workers, 1) + 2) + 1
    return max(prefetch, threads) + threads + 1 if threads else 3


def _begin_worker(born: str, worker: int, workers: int) -> None:
    """The first that a worker does: it says in the folder ``born`` that it lives, and it follows the loop,
    for where the loop is killed, nobody else would end its workers."""
    pathlib.Path(born, str(os.getpid())).touch()

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until this ends; processes begun inside never see them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # When it starts, it lets both signals through again.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first(ahead: "grain.DatasetIterator") -> list[dict]:
    """The first batch, if there is one. A thread asks for it, and what it starts is deaf to those
    signals; whoever waits here hears them."""
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
    """``dataset``, made by processes that start with the first batch. Those signals reach a whole process
    group, but the loop alone decides when its workers end."""
    import grain

    others = set(multiprocessing.active_children())
    options = grain.MultiprocessingOptions(workers, prefetch)
    with tempfile.TemporaryDirectory() as born:
        ahead = iter(dataset.mp_prefetch(options, worker_init_fn=functools.partial(_begin_worker, born)))
        try:
            yield from _first(ahead)
            yield from ahead
        finally:
            _close_soon(ahead, set(multiprocessing.active_children()) - others, pathlib.Path(born))


def _close_soon(ahead: "grain.DatasetIterator", workers: set, born: pathlib.Path) -> None:
    """Closing waits for the batches in the making, each as long as it likes; here for two seconds."""

    def end() -> None:
        for worker in workers:
            worker.kill()

    for worker in workers:
        # One that is still being born finds its queues gone, and prints a stack trace about it. It holds no
        # lock yet that somebody could wait for.
        if not (born / str(worker.pid)).exists():
            worker.kill()
    timer = threading.Timer(2.0, end)
    timer.start()
    try:
        ahead.close()
    finally:
        timer.cancel()


def iterate(dataset: "grain.MapDataset", loader: Loader) -> Iterator[dict]:
    """Batches in order, made ahead as ``loader`` says.

    Close the iterator after use: ``close()`` ends what runs ahead. Raises ValueError for a negative
    number.
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
