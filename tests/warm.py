"""The program in a fork of a process that has imported everything: a run without the seconds of its imports.

A test that is about a process of its own (signals, several at once, as a user types it) starts one.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]


@functools.cache
def _server():
    """The process that is forked. It ends with the one that started it, whose end closes its stdin."""
    process = subprocess.Popen([sys.executable, __file__], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    atexit.register(process.communicate)
    return process


def run(argv, env, trap=None, brief=False):
    """Like ``subprocess.run`` of ``argv`` after "python -m mmvid.main", in the repository, its texts captured;
    ``trap`` are arguments of `trap.spring`; where it is to be ``brief`` there is no report (`trap.shorten`)."""
    with tempfile.TemporaryDirectory() as folder:
        said = [pathlib.Path(folder) / name for name in ("stdout", "stderr")]
        job = {"argv": list(map(str, argv)), "env": env, "said": list(map(str, said))}
        _server().stdin.write(json.dumps(job | {"trap": trap, "brief": brief}) + "\n")
        _server().stdin.flush()
        code = int(_server().stdout.readline())
        return subprocess.CompletedProcess(argv, code, *(path.read_text() for path in said))


def _begin(argv, env, said, trap, brief):
    """What the fork does; it ends as the program does."""
    for number, path in enumerate((os.devnull, *said)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    if "MMVID_TEST_BUCKETS" in env:
        importlib.import_module("bucketed").prepare()
    if trap:
        importlib.import_module("trap").spring(*trap)
    if brief:
        importlib.import_module("trap").shorten()
    sys.argv = ["mmvid.main", *argv]
    importlib.import_module("mmvid.main").start()


def _serve():
    """Forks for each line of stdin and answers with the exit code, once it is known."""
    # JAX starts its threads with its first array: until then a fork is safe.
    for name in ("mmvid.main", "mmvid.train", "mmvid.commands.compare", "configs.mml", "configs.dmcl"):
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _begin(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
