"""Batches made ahead by threads or processes, through Grain: how these begin, what they hear, how they end."""

import contextlib
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures

import grain
from absl import flags


def batches_held(workers: int, threads: int, prefetch: int) -> int:
    """How many batches `iterate` holds at most: those ready, in use, and in the making (twice: their
    examples and the stack of them)."""
    if workers:
        return workers * (max(prefetch // workers, 1) + 2) + 1
    return max(prefetch, threads) + threads + 1 if threads else 3


def _die_with_the_loop(worker: int, workers: int) -> None:
    """Where the loop is killed, nobody else would end its workers."""

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


def _first(ahead: grain.DatasetIterator) -> list[dict]:
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


def _from_workers(ahead: grain.DatasetIterator) -> Iterator[dict]:
    """``ahead``, whose workers start with the first batch. Those signals reach a whole process group,
    but the loop alone decides when its workers end."""
    others = set(multiprocessing.active_children())
    try:
        yield from _first(ahead)
        yield from ahead
    finally:
        _close_soon(ahead, set(multiprocessing.active_children()) - others)


def _close_soon(ahead: grain.DatasetIterator, workers: set) -> None:
    """Closing waits for the batches in the making, each as long as it likes; here for two seconds."""

    def end() -> None:
        for worker in workers:
            worker.kill()

    timer = threading.Timer(2.0, end)
    timer.start()
    try:
        ahead.close()
    finally:
        timer.cancel()


def iterate(
    dataset: grain.MapDataset, *, workers: int = 0, threads: int = 2, prefetch: int = 4
) -> Iterator[dict]:
    """Batches in order, made ahead by ``threads``, or by ``workers`` processes where not 0.

    ``prefetch``: batches held ready. Close the iterator after use: ``close()`` ends what runs
    ahead. Raises ValueError for a negative number.
    """
    if min(workers, threads, prefetch) < 0:
        raise ValueError(f"workers={workers}, threads={threads}, prefetch={prefetch}: none may be negative")
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
    options = grain.MultiprocessingOptions(workers, max(prefetch // workers, 1))
    return _from_workers(iter(ahead.mp_prefetch(options, worker_init_fn=_die_with_the_loop)))
