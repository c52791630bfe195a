"""SIGTERM and Ctrl-C: noted while a step is under way, heard at once where something is waited for."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(BaseException):
    """Raised in the middle of waiting by the signal that asks to end. No library that catches
    Exception keeps it."""


@contextlib.contextmanager
def listened() -> Iterator[dict]:
    """{'signal': name} once the first signal came; the second one raises KeyboardInterrupt.

    Outside the main thread, where nobody may listen, it stays empty.
    """
    stop: dict = {}

    def handle(number, frame):
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
    """Inside, the first signal raises `Interrupted`; so does one that came before."""
    before = stop.get("at_once", False)
    stop["at_once"] = True
    try:
        if "signal" in stop:
            raise Interrupted
        yield
    finally:
        stop["at_once"] = before
