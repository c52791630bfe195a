"""What is said of runs in buckets names them as their users do, and not the copies that they are worked on in."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from mmvid import buckets

# That of `logs`, which imports JAX: commands that do without need not wait for it.
LOG = logging.getLogger("mmvid")


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
