"""Where a run kills itself (-9) or stands still, the same place every time; and a run without its report."""

import os
import random
import signal
import sys
import threading
import time

import mmvid.files
from mmvid import train
from mmvid.run import begin, talk
from mmvid.weights import files


def shorten(replace=setattr):
    """Leaves out the rehearsal of a run's end, its tables and its report, which are like any other run's;
    ``replace`` may be a monkeypatch's ``setattr``."""
    replace(train.rehearsal, "rehearse", lambda run: None)
    replace(train.finish, "finish", lambda *given, **more: {})


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _hang():
    time.sleep(600)


def _in_enter(segment):
    """With the weights just read that the segment starts from."""
    initial, read = begin.initial_state, files.read

    def entered(of, *args, **options):
        if of.name == segment:
            files.read = lambda path: (read(path), _die())
        return initial(of, *args, **options)

    begin.initial_state = entered


def _after(segment, step, act):
    announce = talk.announce

    def announced(run, of, at, *args):
        announce(run, of, at, *args)
        if (of.name, at) == (segment, step):
            act()

    talk.announce = announced


def _die_once_made(folder, seconds):
    """Dies ``seconds`` after the folder is there: what announces it comes before it."""
    while not os.path.isdir(folder):
        time.sleep(0.0005)
    time.sleep(seconds)
    _die()


def _in_save(segment, step):
    """While the step's checkpoint is written: a folder that is made, filled by threads, and renamed."""
    folder = f"{segment}/checkpoints/{step}."

    def heard(event, args):
        if event == "os.mkdir" and folder in str(args[0]):
            threading.Thread(target=_die_once_made, args=(args[0], random.uniform(0, 0.02))).start()
        elif event == "os.rename" and folder in str(args[0]):
            _hang()  # the timer ends it

    sys.addaudithook(heard)


def _in_writing(path):
    """With the file not yet there whose path ends so."""
    write = mmvid.files.write_json

    def written(at, content):
        if str(at).endswith(path):
            _die()
        write(at, content)

    mmvid.files.write_json = written


def spring(segment, point, step=0):
    """Sets the trap in ``segment``: the run dies at the ``point`` 'enter', 'weigh' (while it writes its weights of
    G-Blend), 'save' or 'step', or waits at 'hold', after the step, for who kills it."""
    if point == "enter":
        _in_enter(segment)
    elif point == "weigh":
        _in_writing(f"/{segment}/blend.json")
    elif point == "save":
        _in_save(segment, step)
    else:
        _after(segment, step, {"step": _die, "hold": _hang}[point])
