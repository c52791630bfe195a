"""A signal is noted while work is done and heard at once while something is waited for."""

import os
import signal
import threading
import time

import jax
import pytest
from jax.experimental import multihost_utils

from mmvid.run import signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_noted_then_heard_then_the_end(number):
    before = signal.getsignal(number)
    with signals.listened() as stop:
        with signals.at_once(stop):
            pass
        os.kill(os.getpid(), number)
        assert stop["signal"] == signal.Signals(number).name
        with pytest.raises(signals.Interrupted), signals.at_once(stop):
            pytest.fail("what came before is heard, too")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_scheduler_learns_which_signal_has_ended_it(name, code):
    assert signals.Stopped("all is saved", name).code == code
    assert signals.Stopped("another process has had it").code == 143


class Agreed:
    """JAX as two processes have it, of which one has had SIGTERM: both are to leave at the third question."""

    def __init__(self, monkeypatch):
        self.asked = []
        monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", self.reached)

    def reached(self, number):
        self.asked.append(number)
        return len(self.asked) == 3


def test_of_several_processes_jax_hears_the_signal(monkeypatch):
    jaxs, heard = Agreed(monkeypatch), []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with signals.listened() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM] and not stop  # JAX's own handler
            assert [signals.agreed(stop) for _ in range(3)] == [False, False, True]
            assert stop == {"signal": "SIGTERM"} and jaxs.asked == sorted(set(jaxs.asked))
        with signals.listened() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == [signal.SIGTERM] * 2 and "signal" not in stop  # handed on: all end alike
            with signals.at_once(stop):
                pass  # nor does it end what this process waits for: the others would go on alone
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_waiting_ends_at_once():
    with signals.listened() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        begin = time.monotonic()
        with pytest.raises(signals.Interrupted), signals.at_once(stop), signals.at_once(stop):
            threading.Event().wait(30)
        assert time.monotonic() - begin < 5 and not stop["at_once"]


def test_nobody_listens_in_other_threads():
    found = []

    def inside():
        with signals.listened() as stop:
            found.append(stop)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [{}]
