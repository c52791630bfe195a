"""What stands for Google's and Amazon's storage: a folder of this machine that several processes share, in which a
file is whole or not there, and where tests let things go wrong."""

import os
import pathlib
import re
import shutil
import signal
import threading

from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

# Where the buckets lie, for programs that tests start.
PLACE = "MMVID_TEST_BUCKETS"
KILL = "MMVID_TEST_KILL"
SCHEMES = ("gs", "gcs", "s3")


class Bucket(LocalFileSystem):
    """A file gs://a/b is the file a/b of the folder in the environment."""

    protocol = SCHEMES
    cachable = False
    # ``trouble(act, path)`` is called before each 'put', 'pipe', 'get' and 'rm'; it may raise.
    trouble = staticmethod(lambda act, path: None)

    @classmethod
    def _strip_protocol(cls, path):
        path, root = os.fspath(path), os.environ[PLACE]
        if path.startswith(root):
            return path.rstrip("/")
        return os.path.join(root, path.partition("://")[2].strip("/") if "://" in path else path.strip("/"))

    def _stored(self, path, write):
        path = pathlib.Path(self._strip_protocol(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside all buckets: nobody lists what is not whole.
        temporary = pathlib.Path(f"{os.environ[PLACE]}.coming.{os.getpid()}.{threading.get_ident()}")
        write(temporary)
        os.replace(temporary, path)

    def put_file(self, lpath, rpath, **more):
        self.trouble("put", self._strip_protocol(rpath))
        self._stored(rpath, lambda at: shutil.copyfile(lpath, at))

    def pipe_file(self, path, value, **more):
        self.trouble("pipe", self._strip_protocol(path))
        self._stored(path, lambda at: at.write_bytes(value))

    def get_file(self, rpath, lpath, **more):
        self.trouble("get", self._strip_protocol(rpath))
        shutil.copyfile(self._strip_protocol(rpath), lpath)

    def rm_file(self, path):
        self.trouble("rm", self._strip_protocol(path))
        os.unlink(self._strip_protocol(path))


def register(replace=_registry.__setitem__):
    """Puts this in the place of what reads gs:// and s3://."""
    for scheme in SCHEMES:
        replace(scheme, Bucket)


def prepare():
    """What a program needs that a test starts: runs are sent at every moment. Where the environment says so, the
    program kills itself before the first file goes whose path ends as a pattern says."""
    from mmvid.run import mirror

    register()
    mirror.BEAT = 0.2
    if pattern := os.environ.get(KILL):

        def trouble(act, path):
            if act == "put" and re.search(pattern, path):
                os.kill(os.getpid(), signal.SIGKILL)

        Bucket.trouble = staticmethod(trouble)
