"""Opens files of any name, and catches what FFmpeg complains of while they are read."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

import av

from mmvid.data import memory

# FFmpeg's log belongs to the process, so one file is read at a time in it.
_LOG = threading.Lock()


class DecodeError(ValueError):
    """Says that a file cannot be used. The message is the reason that ``rejected.csv`` keeps.

    Names that are not UTF-8 are escaped in it, so that it can be written anywhere.
    """

    def __init__(self, reason: str):
        super().__init__(reason.encode("utf-8", "backslashreplace").decode())


def reason(error: Exception) -> str:
    """Writes in one line why a clip cannot be used; an ``error`` that no reader foresaw is named as such."""
    expected = isinstance(error, DecodeError)
    return " ".join(f"{'' if expected else f'unexpected {type(error).__name__}: '}{error}".split())


def existing(path: str | os.PathLike) -> pathlib.Path:
    """Returns ``path``. Raises DecodeError where it is missing, an empty file, or neither file nor folder."""
    path = pathlib.Path(path)
    if not path.exists():
        raise DecodeError(f"missing file {path.name}")
    # A pipe would be waited for without end.
    if not (path.is_file() or path.is_dir()):
        raise DecodeError(f"{path.name} is neither a file nor a folder")
    if path.is_file() and path.stat().st_size == 0:
        raise DecodeError(f"empty file {path.name}")
    return path


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Opens a container, whatever the file's name is. Raises what FFmpeg raises.

    By itself, FFmpeg takes ``12:30.mp4`` for a protocol, and reads only names in UTF-8.
    """
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        with open(name, "rb") as file, av.open(file) as container:
            yield container
    else:
        with av.open(f"file:{name}") as container:
            yield container


@contextlib.contextmanager
def listening(what: str) -> Iterator[list]:
    """Yields the list to which FFmpeg's complaints about the ``what`` that is read within are added.

    Raises DecodeError for what FFmpeg raises and, at the end, for complaints that are left in the list: readers
    remove those that do not matter to them.
    """
    with _LOG:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        # For good: held back repetitions would turn up in the next file's log.
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture(False) as logs:
                yield logs
        except (av.error.FFmpegError, UnicodeDecodeError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            last = f" ({logs[-1][2].strip()})" if logs else ""
            raise DecodeError(f"not readable as {what}: {reason}{last}") from None
        finally:
            av.logging.set_level(level)
    complaints = [text.strip() for severity, _, text in logs if severity <= av.logging.ERROR]
    if complaints:
        raise DecodeError(f"damaged: {len(complaints)} decoder errors, first: {complaints[0]}")


# Bytes. More than this of one clip would crowd a worker's memory.
MAX_BYTES = 4 << 30
_MUCH = 128 << 20


def check_room(count: int, size: int) -> None:
    """Raises DecodeError where ``count`` frames, ``size`` bytes in all, are too many, or do not fit in memory."""
    if size > MAX_BYTES:
        raise DecodeError(f"too long: {count} frames fill {size >> 30} GiB; cut it with start and end")
    # Asked only where it may matter: of depth, each map asks here.
    free = memory.available() if size > _MUCH else None
    if free is not None and size > free:
        raise DecodeError(
            f"too long: {count} frames fill {size >> 20} MiB, of memory {free >> 20} MiB are free; cut it with "
            "start and end"
        )
