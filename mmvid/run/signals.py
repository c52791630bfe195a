"""Handles SIGTERM and Ctrl-C: a signal is noted while a step is under way, and ends at once what only waits.

Of several processes any may get it, and all must leave after the same step: there JAX listens for SIGTERM, and
agrees on the step.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator

# How often this process has asked `agreed`, over all segments and seeds: JAX wants a number that never falls.
_ASKED = itertools.count(1)


class Stopped(Exception):
    """Raised when the program was asked to end and has saved everything; the message says how to go on.
    ``signal`` names the signal that asked for it, which is another process's where this one has had none."""

    def __init__(self, message: str, signal: str = "SIGTERM"):
        super().__init__(message)
        self.signal = signal

    @property
    def code(self) -> int:
        """The exit code that tells a scheduler of the signal: 143 of SIGTERM, 130 of Ctrl-C."""
        return 128 + int(signal.Signals[self.signal])


class Interrupted(BaseException):
    """Raised inside `at_once` by the first signal. It is a BaseException, so that no library that catches
    Exception swallows it."""


def name_of(stop: dict) -> str:
    """The signal that ends a run, of what `listened` gives; SIGTERM where another process has had it."""
    return stop.get("signal", "SIGTERM")


def _are_several() -> bool:
    """Whether this process has joined others."""
    import jax  # imported here: a sweep's program need not wait for it

    # In this order: to count processes is to start the devices.
    return jax.distributed.is_initialized() and jax.process_count() > 1


def agreed(stop: dict) -> bool:
    """Of several processes, whether all are to leave now, since one of them has had a signal, which ``stop`` then
    holds. JAX says True to all of them at the same question, so that each must ask equally often."""
    from jax.experimental import multihost_utils

    found = multihost_utils.reached_preemption_sync_point(next(_ASKED))
    if found:
        stop.setdefault("signal", "SIGTERM")
    return found


@contextlib.contextmanager
def listened() -> Iterator[dict]:
    """Listens for SIGTERM and SIGINT while the block runs. Gives a dict that becomes {'signal': name} with the
    first signal; the second one raises KeyboardInterrupt.

    Of several processes each listens for SIGINT alone, and hands it on to JAX, which listens for SIGTERM. Outside
    the main thread, where Python allows no handlers, the dict stays empty.
    """
    stop: dict = {}
    # A handler of ours for SIGTERM would take the place of JAX's, and `agreed` would be False for ever.
    several = _are_several()

    def handle(number, frame):
        # Whoever asks twice does not want to wait until everything is saved.
        if "signal" in stop or "handed_on" in stop:
            raise KeyboardInterrupt
        if several:
            # Not yet a signal that ends this process: all leave at the same place, where they have `agreed`.
            stop["handed_on"] = True
            os.kill(os.getpid(), signal.SIGTERM)
            return
        stop["signal"] = signal.Signals(number).name
        if stop.get("at_once"):
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
    old = {number: signal.signal(number, handle) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def at_once(stop: dict) -> Iterator[None]:
    """Inside the block the first signal raises `Interrupted`; one that came before raises it on entry."""
    # Blocks may stand in one another: the inner one must not end the outer one's.
    before = stop.get("at_once", False)
    stop["at_once"] = True
    try:
        # Looked at after the flag is set: a signal between the two is not missed.
        if "signal" in stop:
            raise Interrupted
        yield
    finally:
        stop["at_once"] = before
