"""Works through the runs of a sweep: a process each, several at once, beside other programs on other machines."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mmvid.run import signals
from mmvid.sweeps import claim, folder, stages
from mmvid.sweeps.claim import Claim
from mmvid.sweeps.folder import DONE, FAILED, UNDER_WAY, WAITING, Task

# Seconds between two looks, and how often in a row a run is begun again that something has ended from outside.
LOOK, TRIES = 1.0, 3
INTERRUPTED = "interrupted"
# Signals that somebody sends; by others, as SIGSEGV, a process ends for a reason of its own.
_FROM_OUTSIDE = ("SIGTERM", "SIGINT", "SIGKILL", "SIGHUP", "SIGQUIT", "SIGXCPU")


class Child(NamedTuple):
    """A run under way: its process, its claim, its place among those at a time, and when it began."""

    task: Task
    process: Any
    claim: Claim
    place: int
    began: float


# ---------------------------------------------------------------------------- a process
def _own_devices(place: int, jobs: int) -> dict[str, str]:
    """The share of CUDA_VISIBLE_DEVICES of one of several runs at a time; {} where there is nothing to share."""
    devices = [own for own in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if own]
    if jobs < 2 or len(devices) < jobs:
        return {}
    count = len(devices) // jobs
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[place * count : (place + 1) * count])}


def command(task: Task, reused: Sequence[pathlib.Path] = ()) -> list[str]:
    """The arguments of `python -m mmvid` for a run, with the workdirs whose stages it takes."""
    own = task.cell.overrides.get("reuse", "")
    paths = [*filter(None, [own]), *map(str, reused)]
    reuse = [f"--config.reuse={','.join(paths)}"] if reused else []
    return ["train", *task.cell.arguments(task.seed), f"--workdir={task.workdir}", *reuse]


def launch(task: Task, arguments: Sequence[str], environ: dict[str, str]) -> subprocess.Popen:
    """Starts a run; what it says goes to the end of its log."""
    # Bars of progress would fill the log. A run is one process: sweeps that srun has started share the runs out,
    # and their runs must not take each other for parts of one.
    environ = {"TQDM_DISABLE": "1"} | dict(os.environ) | {"JAX_NUM_PROCESSES": "1"} | environ
    with task.log.open("ab") as log:
        # A session of its own: else a terminal's Ctrl-C would reach it twice, and the second one saves nothing.
        return subprocess.Popen(
            [sys.executable, "-m", "mmvid", *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def outcome(task: Task, code: int) -> str:
    """What has become of a run whose process has ended with an exit ``code``, below 0 for a signal."""
    if (task.workdir / "summary.json").exists() and code == 0:
        return DONE
    # A shell says 128 and the signal's number, and so does training that has saved all after SIGTERM; after Ctrl-C
    # it says 0.
    number = -code if code < 0 else code - 128
    from_outside = any(number == getattr(signal, name, None) for name in _FROM_OUTSIDE)
    return INTERRUPTED if code == 0 or from_outside else FAILED


# ---------------------------------------------------------------------------- which one
class Pool:
    """The runs of a sweep as one program sees them. ``tell`` takes lines for people, ``after`` is called when runs
    have ended; ``start`` starts a process (`launch`)."""

    def __init__(
        self, tasks: Sequence[Task], *, jobs: int = 1, stale: float = claim.STALE, retry: bool = False,
        tell: Callable[[str], None] = print, after: Callable[[], None] = lambda: None,
        start: Callable | None = None, known: dict | None = None,
    ):  # fmt: skip
        self.tasks, self.jobs, self.stale, self.start = list(tasks), jobs, stale, start or launch
        self.tell, self.after, self.known = tell, after, {} if known is None else known
        self.children: list[Child] = []
        self.tried: dict[str, int] = {}
        self.ousted: set[str] = set()
        # Those that have failed before, which are to be run once more.
        self.again = {task.name for task in self.tasks if retry and self._state(task) == FAILED}

    def _state(self, task: Task) -> str:
        return folder.state(task, self.stale)

    def _open(self) -> list[Task]:
        """The runs that somebody has to begin, in their order."""
        own = [child.task.name for child in self.children]
        states = [(task, self._state(task)) for task in self.tasks if task.name not in own]
        return [
            task
            for task, state in states
            if (state == WAITING or (state == FAILED and task.name in self.again))
            and self.tried.get(task.name, 0) < TRIES
        ]

    def _begun(self) -> bool:
        """Begins the first run that can be; False where there is none at this moment."""
        busy = [task for task in self.tasks if self._state(task) == UNDER_WAY]
        for task in self._open():
            if stages.under_way(task, busy, self.known) or self._is_taken(task):
                continue
            own = claim.take(task.claims, task.name, self.stale)
            # Meanwhile it may have been begun, and ended, by another program.
            if own is not None and not (task.workdir / "summary.json").exists():
                self._begin(task, own)
                return True
            if own is not None:
                claim.release(own, DONE)
        return False

    def _is_taken(self, task: Task) -> bool:
        """Whether another program is at a run, or a process that nobody claims."""
        # In this order: to ask for the process is to lock the workdir for a moment, and the run that another
        # program has just begun would not find it free.
        return claim.live(task.claims, task.name, self.stale) or folder.is_busy(task)

    def _begin(self, task: Task, own: Claim) -> None:
        self.again.discard(task.name)
        place = min(set(range(self.jobs)) - {child.place for child in self.children})
        reused = stages.to_reuse(task, self.tasks, self.known)
        try:
            process = self.start(task, command(task, reused), _own_devices(place, self.jobs))
        except BaseException:
            claim.release(own, INTERRUPTED)
            raise
        self.tried[task.name] = self.tried.get(task.name, 0) + 1
        self.children.append(Child(task, process, own, place, time.monotonic()))
        taken = f", with stages of {len(reused)} other run{'s' * (len(reused) > 1)}" if reused else ""
        self._say(f"{task.title}: begun{taken} ({task.log})")

    # ------------------------------------------------------------------------ what became of it
    def _say(self, line: str) -> None:
        done = sum((task.workdir / "summary.json").exists() for task in self.tasks)
        self.tell(f"[{done}/{len(self.tasks)}] {line}")

    def _reaped(self) -> bool:
        """Notes what has become of runs that have ended; whether there was any."""
        ended = [child for child in self.children if child.process.poll() is not None]
        for child in ended:
            self.children.remove(child)
            task, code = child.task, child.process.returncode
            found, seconds = outcome(task, code), time.monotonic() - child.began
            claim.release(child.claim, found, code=code, seconds=round(seconds, 1))
            self._say(f"{task.title}: {found}" + (f" (exit code {code})" if found != DONE else ""))
            if found == FAILED:
                self.tell("\n".join(f"    {line}" for line in folder.last_lines(task)))
            if found == INTERRUPTED and self.tried[task.name] == TRIES:
                self._say(f"{task.title}: ended from outside {TRIES} times (out of memory?), left for later")
        for child in self.children:
            # Another program has it. A second signal would hurry it too much.
            if child.task.name not in self.ousted and claim.lost(child.claim):
                self.ousted.add(child.task.name)
                child.process.terminate()
        if ended:
            self.after()
        return bool(ended)

    def stop(self) -> None:
        """Asks the runs under way to save and end, and waits until they have. A second Ctrl-C hastens them."""
        for child in self.children:
            child.process.terminate()
        try:
            self._wait()
        except KeyboardInterrupt:
            for child in self.children:
                child.process.terminate()
            self._wait()

    def _wait(self) -> None:
        while self.children:
            self._reaped()
            time.sleep(LOOK if self.children else 0)

    def _is_held_up(self) -> bool:
        """Whether a run that nobody is at has to wait for others' stages, or for a process that nobody claims."""
        return bool(self._open())

    def work(self, stop: dict) -> None:
        """Runs what is there to run, until nothing is left that this program could begin, or ``stop`` holds a
        signal (`signals.listened`)."""
        waited = False
        try:
            while not stop:
                self._reaped()
                while len(self.children) < self.jobs and self._begun():
                    waited = False
                if not self.children and not self._is_held_up():
                    return
                if not self.children and not waited:
                    self._say("waiting for runs that other programs are at")
                    waited = True
                time.sleep(LOOK)
        finally:
            self.stop()


def work(tasks: Sequence[Task], **options) -> str:
    """Works through the runs of a sweep (`Pool`). Returns the name of the signal that has ended it, or ''."""
    with signals.listened() as stop:
        Pool(tasks, **options).work(stop)
        return stop.get("signal", "")
