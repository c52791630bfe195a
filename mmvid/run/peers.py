"""Ends all processes of a run soon after one of them has failed: the others would wait for it, for minutes or for
ever.

Whoever fails leaves a note in the store of JAX's coordination service, which process 0 keeps. A thread of every
process looks for it, since the main thread may be in a computation that never ends.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax

# Seconds between two looks; those that a process has to say what it found itself, once another one has failed; and
# those that process 0 waits for all others to leave.
LOOK, GRACE, STAY = 1.0, 3.0, 10.0
_FAILED, _LEFT, _ENDED = "mmvid/failed", "mmvid/left", "mmvid/ended"
# What computations name that have lost another process.
_LOST = ("Gloo", "NCCL")


class Peers(NamedTuple):
    """The ``count`` processes of a run, of which this is number ``index``, and the ``store`` that they share."""

    store: Any
    index: int
    count: int


def _peers() -> Peers | None:
    """The processes that this one has joined; None for one that is alone."""
    # Nothing public leads to the store, and `jax.process_index` would start the devices.
    from jax._src import distributed

    state = distributed.global_state
    return None if state.client is None else Peers(state.client, state.process_id, state.num_processes)


def _read(peers: Peers, key: str) -> str:
    """A note of the store; '' where there is none, or no store any more."""
    try:
        return peers.store.key_value_try_get(key)
    except jax.errors.JaxRuntimeError:
        return ""


def _write(peers: Peers, key: str, text: str) -> None:
    """Leaves a note, unless there is one of that name or no store any more."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        peers.store.key_value_set(key, text)


# ---------------------------------------------------------------------------- how one ends
def _end(peers: Peers, code: int) -> NoReturn:
    """Ends this process at once; process 0, with which the store ends, after all others: JAX would abort them."""
    # By sys.exit it would wait for those who wait for it. os._exit flushes nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    _write(peers, f"{_LEFT}/{peers.index}", "yes")
    last = time.monotonic() + (STAY if peers.index == 0 else 0)
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while time.monotonic() < last and len(peers.store.key_value_dir_get(_LEFT)) < peers.count:
            time.sleep(0.1)
    os._exit(code)


def _say(what: str) -> None:
    print(f"\nmmvid: {what}. The same command goes on from what is saved", file=sys.stderr)


def _say_failed(peers: Peers, process: int) -> None:
    _say(f"process {process} of this run has ended early and says why; this one, number {peers.index}, ends, too")


def _explain(error: BaseException) -> None:
    """Prints the trace of an ``error`` that nobody has foreseen; a sentence where another process is lost."""
    if isinstance(error, jax.errors.JaxRuntimeError) and any(name in str(error) for name in _LOST):
        first = (str(error).splitlines() or [""])[0]
        _say(f"another process of this run is lost: it, its host or the network between them has failed ({first})")
    else:
        traceback.print_exception(error)


def _fail(peers: Peers, error: BaseException) -> NoReturn:
    """Ends this process, and soon all others. Where another one has failed before, what is seen here is taken for
    what comes of that, unless it was explained already, as a SystemExit was."""
    known, code = _read(peers, _FAILED), _code(error)
    if not isinstance(error, SystemExit) and known:
        process, code = json.loads(known)
        _say_failed(peers, process)
    elif not isinstance(error, SystemExit):
        _explain(error)
    _write(peers, _FAILED, json.dumps([peers.index, code]))
    _end(peers, code)


def _code(error: BaseException) -> int:
    """The exit code of a program that an ``error`` ends."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else int(error.code is not None)


# ---------------------------------------------------------------------------- how others do
def _listen(peers: Peers, done: threading.Event) -> None:
    """Ends this process a moment after another one has failed, unless it is ``done`` before."""
    while not done.wait(LOOK):
        if note := _read(peers, _FAILED):
            # Where all fail for one reason, each says it, and its main thread ends it meanwhile.
            if not done.wait(GRACE):
                process, code = json.loads(note)
                _say_failed(peers, process)
                _end(peers, code)
            return


def _leave(peers: Peers | None, done: threading.Event) -> None:
    """Waits until process 0, which alone writes reports, has nothing left to do: it may fail until then."""
    if peers and peers.index == 0:
        _write(peers, _ENDED, "yes")
    while peers and not _read(peers, _ENDED):
        time.sleep(LOOK)
    done.set()


@contextlib.contextmanager
def heard(together: tuple[int, ...]) -> Iterator[Callable[[], None]]:
    """Tells the other processes of a run where the block fails in this one, and ends this one, by a signal's
    exception, too. Gives a function to be called once they have met: from then on it ends with whoever fails.

    An exit with a code ``together`` or without an error is one in which all leave at the same place. Nothing
    happens to a process that is alone.
    """
    done = threading.Event()

    def listen() -> None:
        if peers := _peers():
            threading.Thread(target=_listen, args=(peers, done), daemon=True).start()

    try:
        yield listen
    except BaseException as error:
        if (peers := _peers()) and _code(error) not in together:
            done.set()  # it says itself why it ends
            _fail(peers, error)
        _leave(peers, done)
        raise
    _leave(_peers(), done)
