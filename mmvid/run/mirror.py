"""Runs in buckets: they work in a copy on this machine's disk (`transfer`), which is sent while they train.

Who trains a run says so in the bucket and says it again every half minute, so that two machines do not train one.
"""

import argparse
import contextlib
import logging
import os
import pathlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from mmvid import buckets, lock, sending, transfer, usage
from mmvid.run import signals
from mmvid.transfer import Copy

# That of `logs`, which imports JAX: commands that do without need not wait for it.
LOG = logging.getLogger("mmvid")

# Seconds between two times that a run is sent and its holder's note renewed; after how many without one the
# holder is taken for dead; between two looks at a note that may be renewed.
BEAT, STALE, LOOK = 30.0, 180.0, 5.0


# ---------------------------------------------------------------------------- who trains it
def _modified(copy: Copy, name: str):
    """The time of a file in the bucket, by its own clock; None where there is none."""
    with buckets.explained(copy.url), contextlib.suppress(FileNotFoundError):
        fs, base = buckets.system(copy.url)
        return fs.modified(f"{base}/{name}")
    return None


def _silent(copy: Copy) -> float:
    """For how many seconds the holder's note was not renewed, by the bucket's own clock."""
    probe = f"{uuid.uuid4().hex}.now"
    transfer.tell(copy, probe, {})
    with buckets.explained(copy.url, "written"):
        try:
            now, then = _modified(copy, probe), _modified(copy, transfer.HOLDER)
        finally:
            fs, base = buckets.system(copy.url)
            fs.rm_file(f"{base}/{probe}")
    return STALE if now is None or then is None else (now - then).total_seconds()


def _is_over(copy: Copy, known: dict) -> bool:
    """Whether a holder has said that it is done, or worked in this copy, which nobody else has now."""
    return not known or bool(known.get("free")) or transfer.noted(copy)["held"] == known.get("token")


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
    transfer.say(
        f"{copy.url} was in use a moment ago, by {lock.describe(known)}: looking for up to {left:.0f} s whether "
        "it still is"
    )
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(LOOK, left))
        if _modified(copy, transfer.HOLDER) != before:
            if _is_over(copy, known := transfer.told_of(copy, transfer.HOLDER)):
                return
            raise _held(copy, known)


def _check_nested(copy: Copy) -> None:
    """Raises ValueError where the folder in the bucket is a part of runs that are trained together, or holds one
    that is trained by itself: nobody could tell whose files are newer."""
    above, held = copy.url.rpartition("/")[0], {}
    with contextlib.suppress(ValueError):  # a bucket as a whole, or what this user may not read
        held = transfer.told_of(transfer.of(above), transfer.HOLDER)
    if held:
        raise ValueError(
            f"{copy.url} lies in {above}, which is trained as a whole: give that one, and its --seeds"
        )
    with buckets.explained(copy.url):
        fs, base = buckets.system(copy.url)
        if found := fs.glob(f"{base}/*/{transfer.HOLDER}"):
            name = found[0].rpartition("/")[0].rpartition("/")[2]
            raise usage.WrongUse(
                f"--workdir={copy.url} holds {name}, which is trained by itself: name another folder"
            )


def _taken(copy: Copy) -> dict:
    """Writes this process's note into the bucket and returns it. Raises ValueError where another one holds the
    run, or the bucket cannot be written."""
    _check_nested(copy)
    known = transfer.told_of(copy, transfer.HOLDER)
    if not _is_over(copy, known):
        _await(copy, known)
    own = lock.myself() | {"token": uuid.uuid4().hex}
    transfer.note(copy, held=own["token"])
    transfer.tell(copy, transfer.HOLDER, own)
    time.sleep(lock.LOOK)  # of two who take it at once, the later one has it
    if (now := transfer.told_of(copy, transfer.HOLDER)).get("token") != own["token"]:
        raise _held(copy, now)
    return own


def _check_held(copy: Copy, own: dict) -> None:
    """Raises Lost where another process holds the run by now, since this one was silent too long."""
    # Without a note, which somebody has removed to unlock it, nobody else has it.
    if (known := transfer.told_of(copy, transfer.HOLDER)).get("token", own["token"]) != own["token"]:
        raise transfer.Lost(f"{copy.url} is in use by {lock.describe(known)} by now: nothing more is sent there")


def _stop() -> None:
    """Ends this process as a scheduler would: what was made is saved first."""
    os.kill(os.getpid(), signal.SIGTERM)


def _checked(copy: Copy, own: dict) -> Callable[[], None]:
    """A function that checks who holds the run where that was not done for a while: who sends may have slept."""
    last = [time.time()]

    def check() -> None:
        # By the clock on the wall: the monotonic one stands still while a machine is suspended.
        if abs(time.time() - last[0]) > LOOK:
            _check_held(copy, own)
            last[0] = time.time()

    return check


@contextlib.contextmanager
def _again_and_again(act: Callable[[], None], share: float = 1.0) -> Iterator[None]:
    """Calls ``act`` every `BEAT` seconds, in a thread, while the block runs; less often where it would take more
    than this ``share`` of the time."""
    ended = threading.Event()

    def loop() -> None:
        pause = BEAT
        while not ended.wait(pause):
            begin = time.monotonic()
            act()
            pause = max(BEAT, (1 / share - 1) * (time.monotonic() - begin))

    thread = threading.Thread(target=loop, daemon=True, name="bucket")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ending() -> Callable[[transfer.Lost], None]:
    """A function that says that another machine has the run, and ends this process: once, whoever calls it."""
    # A second signal would end it at once, with nothing saved.
    first = threading.Lock()

    def end(error: transfer.Lost) -> None:
        if first.acquire(blocking=False):
            transfer.say(f"{error}; this run ends")
            _stop()

    return end


@contextlib.contextmanager
def _holding(copy: Copy, end: Callable[[transfer.Lost], None]) -> Iterator[dict]:
    """Holds a run in its bucket while the block runs, which gets the holder's note. Calls ``end`` where another
    process takes the run."""
    own = _taken(copy)

    def renew() -> None:
        with contextlib.suppress(ValueError):  # who sends will say that the bucket fails
            try:
                _check_held(copy, own)
            except transfer.Lost as error:
                return end(error)
            transfer.tell(copy, transfer.HOLDER, own)

    try:
        with _again_and_again(renew):
            yield own
    finally:
        with contextlib.suppress(ValueError):
            _check_held(copy, own)
            transfer.tell(copy, transfer.HOLDER, own | {"free": True})


# ---------------------------------------------------------------------------- training
def _sending(copy: Copy, own: dict, end: Callable[[transfer.Lost], None]) -> Callable[[], None]:
    """A function that sends what has changed, and calls ``end`` where another process has the run. What else goes
    wrong is told once, until it goes well again."""
    told = []

    def send() -> None:
        try:
            _check_held(copy, own)
            sending.send(copy, _checked(copy, own))
            told.clear()
        except transfer.Lost as error:
            end(error)
        except Exception as error:  # whatever it is, the training goes on
            if not told:
                LOG.warning("%s; what is done here goes on, and it is tried again every %.0f s", error, BEAT)
            told.append(error)

    return send


@contextlib.contextmanager
def _finally(finish: Callable[[], None], what_now: Callable[[BaseException], str]) -> Iterator[None]:
    """Calls ``finish`` after the block, however that ends. Raises ValueError with what to do where it fails; where
    the block has failed, too, its own error says more, and the other is told."""
    try:
        yield
    except BaseException as error:
        try:
            finish()
        except BaseException as further:
            # Ctrl-C ends a run well, and this is none.
            if isinstance(error, signals.Stopped) and error.signal != "SIGTERM":
                raise ValueError(what_now(further)) from further
            transfer.say(what_now(further))
        raise
    try:
        finish()
    except Exception as error:
        raise ValueError(what_now(error)) from error
    except BaseException as error:  # Ctrl-C
        transfer.say(what_now(error))
        raise


@contextlib.contextmanager
def trained(url: str) -> Iterator[pathlib.Path]:
    """Gives the folder on this machine in which a run of a bucket is trained, like the bucket's own; while the
    block runs, and at its end however it ends, what changes is sent there.

    Raises ValueError where another process trains the run, and where the bucket cannot be read or written; what
    fails while the block runs is told, and tried again.
    """
    copy, end = transfer.of(url, "trained"), _ending()
    copy.here.mkdir(parents=True, exist_ok=True)
    try:
        with lock.held(copy.top / "run.lock", f"--workdir={url}"), _holding(copy, end) as own:
            transfer.fetch_to_train(copy)
            with _sent(copy, own, end):
                yield copy.here
    except lock.Held as error:
        raise ValueError(f"{error}. Wait until that run ends, end it, or give another --workdir.") from None


def _sent(copy: Copy, own: dict, end: Callable[[transfer.Lost], None]) -> contextlib.ExitStack:
    """A context while and after which what changes in a copy is sent."""

    def finish() -> None:
        _check_held(copy, own)
        sending.send(copy, _checked(copy, own))

    def what_now(error: BaseException) -> str:
        next_time = "sets it aside" if isinstance(error, transfer.Lost) else "sends it"
        return (
            f"{error or 'interrupted'}. What was made is kept on this machine, {transfer.kept(copy)}: the same "
            f"command here {next_time}"
        )

    stack = contextlib.ExitStack()
    stack.enter_context(_finally(finish, what_now))
    stack.enter_context(_again_and_again(_sending(copy, own, end), share=0.2))
    return stack


# ---------------------------------------------------------------------------- reading
@contextlib.contextmanager
def borrowed(url: str) -> Iterator[pathlib.Path]:
    """Gives a copy of a run without its checkpoints; what the block writes into it is sent at its end."""
    copy = transfer.of(url)
    with transfer.guarded(copy):
        transfer.set_aside_left(copy)
        transfer.fetch(copy, transfer.without_checkpoints)
        before = transfer.here(copy)
        transfer.note(copy, began="command")

        def finish() -> None:
            if late := sending.send_back(copy, before):
                raise ValueError(f"somebody has changed {', '.join(late)} in {copy.url} meanwhile: not sent")
            transfer.note(copy, began=None)

        def what_now(error: BaseException) -> str:
            made = [path for path, own in transfer.here(copy).items() if own != before.get(path)]
            aside = transfer.set_aside(copy, made) if made else None
            transfer.note(copy, began=None)
            kept = f". What was made is kept on this machine, {transfer.kept(copy, aside)}" if aside else ""
            return f"{error or 'interrupted'}{kept}"

        with _finally(finish, what_now):
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

    def inside(value) -> Iterator[usage.InBucket]:
        for own in value if isinstance(value, list) else [value]:
            if isinstance(own, usage.InBucket):
                yield own

    runs = {own.url: _run_of(own.url) for value in vars(arguments).values() for own in inside(value)}
    with contextlib.ExitStack() as stack:
        # In one order: of two commands none waits for what the other one has.
        places = {run: stack.enter_context(borrowed(run)) for run in sorted(set(runs.values()))}

        def local(value):
            if isinstance(value, list):
                return [local(own) for own in value]
            if not isinstance(value, usage.InBucket):
                return value
            run = runs[value.url]
            return value.of(f"{places[run]}{value.url.rstrip('/').removeprefix(run)}{value.rest}")

        for name, value in vars(arguments).items():
            setattr(arguments, name, local(value))
        yield
