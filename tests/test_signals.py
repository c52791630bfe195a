"""A signal is noted while work is done and heard at once while something is waited for."""

import os
import signal
import threading
import time

import pytest

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
