"""One holder at a time, named to the others; whoever dies lets go."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from mmvid import lock

ROOT = pathlib.Path(__file__).parents[1]
# Holds the lock until its standard input ends.
HOLDER = """
import sys
from mmvid import lock
{how}
with lock.held(sys.argv[1], "the workdir"):
    print("held", flush=True)
    sys.stdin.read()
"""
HEARTBEAT = "lock.fcntl = None"


def holder(path, how=""):
    code = HOLDER.format(how=how)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(params=["flock", "heartbeat"])
def how(request, monkeypatch):
    if request.param == "flock":
        if lock.fcntl is None:
            pytest.skip("this system has no flock")
        return ""
    monkeypatch.setattr(lock, "fcntl", None)
    return HEARTBEAT


def test_the_second_is_refused_with_the_firsts_name(tmp_path, how):
    path = tmp_path / "run.lock"
    with holder(path, how) as first:
        with pytest.raises(lock.Held, match=rf"workdir is in use by process {first.pid} on host \S+, since 20"):
            lock.held(path, "the workdir").__enter__()
        first.communicate("")
    with lock.held(path, "the workdir"), pytest.raises(lock.Held, match=f"process {os.getpid()} "):
        lock.held(path, "the workdir").__enter__()


def test_kill_frees_it_at_once(tmp_path, how):
    path = tmp_path / "run.lock"
    with holder(path, how) as first:
        first.kill()
    begin = time.monotonic()
    with lock.held(path, "the workdir"):
        assert time.monotonic() - begin < 5


def test_who_waits_is_told_once_and_gets_it(tmp_path, how, monkeypatch):
    monkeypatch.setattr(lock, "LOOK", 0.05)
    path, told = tmp_path / "run.lock", []
    with holder(path, how) as first:
        threading.Timer(0.3, first.stdin.close).start()
        with lock.held(path, "data/mine", wait=told.append):
            assert len(told) == 1 and f"data/mine is in use by process {first.pid} " in told[0]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    for name, seconds in (("BEAT", 0.05), ("STALE", 0.6), ("LOOK", 0.05)):
        monkeypatch.setattr(lock, name, seconds)
    monkeypatch.setattr(lock, "alive", lambda pid: True)  # as of a holder on another host


def test_a_heart_that_beats_is_left_alone(tmp_path, quick):
    path = tmp_path / "run.lock"
    with lock.held(path, "it"):
        time.sleep(1.0)
        with pytest.raises(lock.Held):
            lock.held(path, "it").__enter__()
    assert not list(tmp_path.iterdir())


def test_a_heart_that_stopped_is_taken_over(tmp_path, quick):
    path = tmp_path / "run.lock.beat"
    path.write_text('{"host": "elsewhere", "pid": 1, "start": "2026-01-01"}')
    with pytest.raises(lock.Held, match="process 1 on host elsewhere"):
        lock.held(tmp_path / "run.lock", "it").__enter__()
    os.utime(path, (time.time() - 1, time.time() - 1))
    with lock.held(tmp_path / "run.lock", "it"):
        assert lock._holder(path)["pid"] == os.getpid()
    path.write_text("")  # what a flock leaves behind, or a machine that died in between
    os.utime(path, (time.time() - 1, time.time() - 1))
    with lock.held(tmp_path / "run.lock", "it"):
        pass


def test_who_slept_leaves_the_lock_of_whoever_took_over(tmp_path, quick):
    path = tmp_path / "run.lock.beat"
    with lock.held(tmp_path / "run.lock", "it"):
        path.write_text('{"host": "elsewhere", "pid": 1, "start": "2026-01-01"}')
        os.utime(path, (1, 1))
        time.sleep(0.2)
        assert path.stat().st_mtime == 1
    assert path.exists()


def test_a_file_system_without_locks_gets_a_heartbeat(tmp_path, quick, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(file, how):
            raise OSError(lock.errno.ENOLCK, "no locks available")

    monkeypatch.setattr(lock, "fcntl", NoLocks)
    with lock.held(tmp_path / "run.lock", "it"), pytest.raises(lock.Held):
        lock.held(tmp_path / "run.lock", "it").__enter__()
