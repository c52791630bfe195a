"""Handles SIGTERM and Ctrl-C: a signal is noted while a step is under way, and ends at once what only waits."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(BaseException):
    """Raised inside `at_once` by the first signal. It is a BaseException, so that no library that catches
    Exception swallows it."""


@contextlib.contextmanager
def listened() -> Iterator[dict]:
    """Listens for SIGTERM and SIGINT while the block runs. Gives a dict that becomes {'signal': name} with the
    first signal; the second one raises KeyboardInterrupt.

    Outside the main thread, where Python allows no handlers, the dict stays empty.
    """
    stop: dict = {}

    def handle(number, frame):
        # Whoever asks twice does not want to wait until everything is saved.
        if "signal" in stop:
            raise KeyboardInterrupt
        stop["signal"] = signal.Signals(number).name
        if stop.get("at_once"):
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
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
