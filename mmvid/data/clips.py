"""Makes the records of clips that are in no dataset, in this process or by others."""

import collections
import concurrent.futures
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence

from mmvid.data import example, workers
from mmvid.data.media import files, record, windows
from mmvid.data.media.item import Item, Refused
from mmvid.data.media.windows import Window


# ---------------------------------------------------------------------------- one clip
def whole(item: Item | Refused, settings: record.Settings, spec: example.Eval) -> dict | str:
    """Returns the record of a clip, with those pictures that ``spec`` reads; or the reason why there is none."""
    if isinstance(item, Refused):
        return item.reason
    try:
        return record.prepare(item, settings, functools.partial(example.frames_read, spec))
    except Exception as error:  # whatever it is, other clips go on
        return files.reason(error)


def in_windows(
    job: tuple[Item | Refused, Sequence[Window]], settings: record.Settings, spec: example.Eval
) -> list[dict | str]:
    """Returns the same of each of some windows of a clip; what is Refused has none."""
    item, found = job
    reads = functools.partial(example.frames_read, spec)
    return [] if isinstance(item, Refused) else windows.records(item, settings, reads, found)


# ---------------------------------------------------------------------------- many
def _start_worker(cache: str) -> None:
    """Sets up a worker before JAX starts in it: it uses one core, for the workers are the parallelism."""
    # Ctrl-C reaches them, too, but the process that asks decides when they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers.end_with_parent()
    # Flow is computed by JAX: not by each of them on the one accelerator.
    os.environ.update(NPROC="1", OMP_NUM_THREADS="1", JAX_PLATFORMS="cpu")
    if cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def each(make: Callable, jobs: Iterable, count: int = 0, cache: str = "") -> Iterator:
    """Yields ``make(job)`` of each job, in order, made ahead by ``count`` processes; in this one where that is 0.

    What they compile they keep in the folder ``cache``. Raises ValueError where one of them dies.
    """
    if not count:
        yield from map(make, jobs)
        return
    context = multiprocessing.get_context("spawn")  # JAX must not be forked
    pool = concurrent.futures.ProcessPoolExecutor(count, context, _start_worker, (cache,))
    waiting: collections.deque = collections.deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(make, job))
            # No more than these are held, however many there are.
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise ValueError(
            f"a worker process died, which mostly means that memory ran out: take fewer than --workers={count}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
