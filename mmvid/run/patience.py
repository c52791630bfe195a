"""Says what is going on while there is nothing else to be seen, such as when a program is compiled for minutes."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import jax

from mmvid.logs import LOG, duration

# Seconds that pass unsaid, and those from one line to the next.
UNSAID, AGAIN = 3.0, 30.0


@contextlib.contextmanager
def saying(what: str, say: Callable[[str], None] = LOG.info) -> Iterator[None]:
    """Says ``what`` is going on where the block lasts longer than `UNSAID` seconds, and every `AGAIN` seconds from
    then on how long it has. Process 0 speaks for all."""
    done, begun = threading.Event(), time.monotonic()

    def wait() -> None:
        if done.wait(UNSAID):
            return
        say(f"{what} ...")
        while not done.wait(AGAIN):
            say(f"{what}: {duration(time.monotonic() - begun)} so far")

    if jax.process_index():
        yield
        return
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
