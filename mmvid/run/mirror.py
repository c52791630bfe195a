"""Runs in buckets: they work in a copy on this machine's disk (`transfer`), which is sent while they train.

Who trains a run says so in the bucket and says it again every half minute, so that two machines do not train one.
"""

import argparse
import contextlib
import json
import logging
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from mmvid import buckets, transfer, usage
from mmvid.run import lock
from mmvid.transfer import Copy

# That of `logs`, which imports JAX: commands that do without need not wait for it.
LOG = logging.getLogger("mmvid")

# Seconds between two times that a run is sent and its holder's note renewed; after how many without one the
# holder is taken for dead; between two looks at a note that may be renewed.
BEAT, STALE, LOOK = 30.0, 180.0, 5.0
# Guards a copy against two processes of this machine.
_LOCK = ".bucket.lock"


# ---------------------------------------------------------------------------- names
class _Told:
    """A stream that is written to with the paths of copies as their users know them."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text."""
        return self._stream.write(buckets.told(text))

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _retold(record: logging.LogRecord) -> bool:
    record.msg, record.args = buckets.told(record.getMessage()), ()
    return True


@contextlib.contextmanager
def naming(given: Sequence[str]) -> Iterator[None]:
    """While the block runs, all that is said names gs://BUCKET/RUN and not the copy that it stands for; where
    nothing that is ``given`` lies in a bucket, it does nothing."""
    if not any(f"{scheme}://" in str(text) for text in given for scheme in buckets.NEEDED):
        yield
        return
    LOG.addFilter(_retold)
    try:
        with contextlib.redirect_stdout(_Told(sys.stdout)), contextlib.redirect_stderr(_Told(sys.stderr)):
            yield
    finally:
        LOG.removeFilter(_retold)


def _say(line: str) -> None:
    print(f"mmvid: {line}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------- who trains it
def _write(copy: Copy, own: dict) -> None:
    """Writes the holder's note. Raises ValueError where the bucket cannot be written."""
    with buckets.explained(copy.url, "written"):
        fs, base = buckets.system(copy.url)
        try:
            fs.pipe_file(f"{base}/{transfer.HOLDER}", json.dumps(own).encode())
        except FileNotFoundError:
            raise transfer.no_bucket(copy) from None


def _modified(copy: Copy, name: str):
    """The time of a file in the bucket, by its own clock; None where there is none."""
    with buckets.explained(copy.url), contextlib.suppress(FileNotFoundError):
        fs, base = buckets.system(copy.url)
        return fs.modified(f"{base}/{name}")
    return None


def _silent(copy: Copy) -> float:
    """For how many seconds the holder's note was not renewed, by the bucket's own clock."""
    probe = f"{uuid.uuid4().hex}.now"
    with buckets.explained(copy.url, "written"):
        fs, base = buckets.system(copy.url)
        fs.pipe_file(f"{base}/{probe}", b"now")
        try:
            now, then = _modified(copy, probe), _modified(copy, transfer.HOLDER)
        finally:
            fs.rm_file(f"{base}/{probe}")
    return STALE if now is None or then is None else (now - then).total_seconds()


def _is_over(copy: Copy, known: dict) -> bool:
    """Whether a holder has said that it is done, or was a process of this machine that has ended."""
    if not known or known.get("free"):
        return True
    # Machines may have one name; the copy that it worked in is here alone.
    here = known.get("host") == socket.gethostname() and transfer.holds(copy, known.get("token"))
    return here and os.name == "posix" and isinstance(known.get("pid"), int) and not lock.alive(known["pid"])


def _held(copy: Copy, known: dict) -> ValueError:
    return ValueError(
        f"--workdir={copy.url} is in use by {lock.describe(known)}. Wait until that run ends, end it, or give "
        "another --workdir."
    )


def _await(copy: Copy, known: dict) -> None:
    """Waits until the holder ``known`` has been silent long enough. Raises ValueError where it is not."""
    left, before = STALE - _silent(copy), _modified(copy, transfer.HOLDER)
    if left <= 0:
        return
    _say(
        f"{copy.url} was in use a moment ago, by {lock.describe(known)}: looking for up to {left:.0f} s whether "
        "it still is"
    )
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(LOOK, left))
        if _modified(copy, transfer.HOLDER) != before:
            if _is_over(copy, known := transfer.holder(copy)):
                return
            raise _held(copy, known)


def _taken(copy: Copy) -> dict:
    """Writes this process's note into the bucket and returns it. Raises ValueError where another one holds the
    run, or the bucket cannot be written."""
    known = transfer.holder(copy)
    if not _is_over(copy, known):
        _await(copy, known)
    own = lock.myself() | {"token": uuid.uuid4().hex}
    transfer.hold(copy, known.get("token"), own["token"])
    _write(copy, own)
    time.sleep(lock.LOOK)  # of two who take it at once, the later one has it
    if (now := transfer.holder(copy)).get("token") != own["token"]:
        raise _held(copy, now)
    return own


def _renewing(copy: Copy, own: dict) -> Callable[..., None]:
    """A function that renews the holder's note where it is due, or at once. It raises ValueError where another
    process holds the run by now, since this one was silent too long."""
    last = [time.monotonic()]

    def renew(*, now: bool = False, **note) -> None:
        if not now and time.monotonic() - last[0] < BEAT:
            return
        if (known := transfer.holder(copy)).get("token") != own["token"]:
            raise ValueError(f"{copy.url} is in use by {lock.describe(known)} by now: nothing more is sent there")
        _write(copy, own | note)
        last[0] = time.monotonic()

    return renew


# ---------------------------------------------------------------------------- training
def _fetch(copy: Copy, wanted: Callable[[str], bool] = transfer.everything) -> None:
    if count := transfer.fetch(copy, wanted):
        _say(
            f"another machine has trained {copy.url} since this one did: the files that this one had not sent "
            f"({count}) are set aside, {transfer.kept(transfer.aside(copy))}"
        )


def _sending(copy: Copy, renew: Callable[..., None], ended: threading.Event) -> None:
    """Sends what has changed, again and again. What goes wrong is told once, until it goes well again."""
    told = False
    while not ended.wait(BEAT):
        try:
            renew(now=True)
            transfer.send(copy, between=renew)
            told = False
        except Exception as error:  # whatever it is, the training goes on
            if not told:
                LOG.warning("%s; what is done here goes on, and it is tried again every %.0f s", error, BEAT)
            told = True


@contextlib.contextmanager
def _finally(copy: Copy, finish: Callable[[], None]) -> Iterator[None]:
    """Calls ``finish`` after the block, however that ends. Raises ValueError with what to do where it fails; where
    the block has failed, too, its own error says more, and the other is told."""

    def finished() -> None:
        try:
            finish()
        except Exception as error:
            raise ValueError(
                f"{error}. What was made is kept on this machine, {transfer.kept(copy)}: the next command on it "
                "here sends it"
            ) from error

    try:
        yield
    except BaseException:
        try:
            finished()
        except ValueError as error:
            _say(str(error))
        raise
    finished()


@contextlib.contextmanager
def trained(url: str) -> Iterator[pathlib.Path]:
    """Gives the folder on this machine in which a run of a bucket is trained, like the bucket's own; while the
    block runs, and at its end however it ends, what changes is sent there.

    Raises ValueError where another process trains the run, and where the bucket cannot be read or written; what
    fails while the block runs is told, and tried again.
    """
    copy = transfer.of(url)
    copy.here.mkdir(parents=True, exist_ok=True)
    try:
        guard = lock.held(copy.here / _LOCK, f"--workdir={url}")
        with guard, _sent(copy):
            yield copy.here
    except lock.Held as error:
        raise ValueError(f"{error}. Wait until that run ends, end it, or give another --workdir.") from None


@contextlib.contextmanager
def _sent(copy: Copy) -> Iterator[None]:
    """Holds a run in its bucket, fetches it, and sends what changes while the block runs and at its end."""
    renew, ended = _renewing(copy, _taken(copy)), threading.Event()
    try:
        _fetch(copy)
    except BaseException:
        with contextlib.suppress(Exception):
            renew(now=True, free=True)
        raise
    thread = threading.Thread(target=_sending, args=(copy, renew, ended), daemon=True, name="bucket")

    def finish() -> None:
        ended.set()
        thread.join()
        renew(now=True)
        transfer.send(copy, between=renew)
        renew(now=True, free=True)

    thread.start()
    with _finally(copy, finish):
        yield


# ---------------------------------------------------------------------------- reading
@contextlib.contextmanager
def _guarded(copy: Copy) -> Iterator[None]:
    copy.here.mkdir(parents=True, exist_ok=True)
    with lock.held(copy.here / _LOCK, copy.url, wait=lambda line: _say(f"{line}: waiting for it")):
        yield


def fetched(url: str, wanted: Callable[[str], bool] = transfer.everything) -> pathlib.Path:
    """The copy of a run, or of the files that are ``wanted``, to read from. Raises ValueError where it cannot be
    fetched."""
    copy = transfer.of(url)
    with _guarded(copy):
        _fetch(copy, wanted)
    return copy.here


@contextlib.contextmanager
def borrowed(url: str) -> Iterator[pathlib.Path]:
    """Gives the copy of a run without its checkpoints; what the block writes into it is sent at its end."""
    copy, wanted = transfer.of(url), transfer.without_checkpoints
    with _guarded(copy):
        _fetch(copy, wanted)

    def finish() -> None:
        with _guarded(copy):
            transfer.send(copy, wanted)

    with _finally(copy, finish):
        yield copy.here


def _run_of(url: str) -> str:
    """The run that ``url`` is, or is a segment of."""
    above = url.rstrip("/").rpartition("/")[0]
    for folder in (url.rstrip("/"), above):
        if "/" in folder.partition("://")[2] and buckets.there(f"{folder}/config.json"):
            return folder
    return url.rstrip("/")


@contextlib.contextmanager
def given(arguments: argparse.Namespace) -> Iterator[None]:
    """Puts copies in the place of the runs in buckets that a command was given, while it runs."""
    with contextlib.ExitStack() as stack:
        places: dict[str, pathlib.Path] = {}

        def local(value):
            if isinstance(value, list):
                return [local(own) for own in value]
            if not isinstance(value, usage.InBucket):
                return value
            if (run := _run_of(value.url)) not in places:
                places[run] = stack.enter_context(borrowed(run))
            return value.of(f"{places[run]}{value.url.rstrip('/').removeprefix(run)}{value.rest}")

        for name, value in vars(arguments).items():
            setattr(arguments, name, local(value))
        yield
