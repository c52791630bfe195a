"""Measurements in processes of their own: one that dies, hangs or holds memory costs only its own row.

A worker reads a task a line ({'do': name, ..}) and answers each with a line of JSON.
"""

import contextlib
import json
import os
import pathlib
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping

ROOT = pathlib.Path(__file__).parents[1]


def serve(handlers: Mapping[str, Callable[..., list[dict]]]) -> None:
    """The worker's side: answers tasks from stdin until it ends; an exception is an answer too."""
    # What libraries print must not reach the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = {"rows": handlers[task.pop("do")](**task)}
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


def one_line(error: Exception) -> str:
    """The class and the first line that says something, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:240]


def median_ms(once: Callable[[], None], wait: Callable[[], None], *, seconds: float) -> float:
    """Milliseconds of ``once``: the median over blocks of five, each waited for, ``seconds`` in all.

    A block keeps the device's queue filled, as training does.
    """
    for _ in range(2):
        once()
    wait()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 50):
        start = time.perf_counter()
        for _ in range(5):
            once()
        wait()
        times.append(1e3 * (time.perf_counter() - start) / 5)
    return statistics.median(times)


class Worker:
    """A process that runs ``python -m module``, started by the first task."""

    def __init__(self, module: str, env: Mapping[str, str]):
        self.module, self.env, self.process = module, dict(env), None

    def ask(self, task: dict, timeout: float) -> dict:
        """{'rows': [..]} or {'error': one line}; a worker that died or was stopped starts anew later."""
        if self.process is None:
            self._start()
        try:
            print(json.dumps(task), file=self.process.stdin, flush=True)
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            self.close()
            return {"error": f"stopped after {timeout:.0f} s"}
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            said = self._last_words()
            self.close()
            return {"error": f"its process ended with {code}: {said}"}
        return json.loads(line)

    def close(self) -> None:
        """Ends the process with its children, which gives the device's memory back."""
        if self.process is None:
            return
        # The compilers that PyTorch starts are in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.pump.join(5)
        self.errors.close()
        self.process = None

    def _start(self) -> None:
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env=os.environ | self.env,
            start_new_session=True,
        )
        self.lines = queue.Queue()
        self.pump = threading.Thread(target=_pump, args=(self.process.stdout, self.lines), daemon=True)
        self.pump.start()

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read()[-4000:].splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"


def _pump(stream, lines: queue.Queue) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")
