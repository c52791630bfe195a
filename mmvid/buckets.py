"""Paths in buckets, gs:// and s3://: a dataset in gs:// is read where it lies, files of weights are fetched once.

Whole folders, such as runs, have copies on this machine's disk (`transfer`): a run adds to its files and renames
folders, which object storage cannot do.
"""

import contextlib
import errno
import functools
import os
import pathlib
import re
import shutil
import tempfile

from mmvid import files, usage

# {scheme: what pip installs to read it}
NEEDED = {"gs": "gcsfs", "s3": "s3fs"}


def scheme(path: str | os.PathLike) -> str:
    """The scheme of a path in a bucket, 'gs' or 's3'; '' for one on a disk. Raises WrongUse for another one."""
    text = os.fspath(path)
    found = usage.scheme(text)
    if found and found not in NEEDED:
        known = " and ".join(f"{name}://" for name in NEEDED)
        raise usage.WrongUse(f"{text}: paths on a disk, and in buckets of {known}, are read, and no {found}://")
    return found


@contextlib.contextmanager
def explained(text: str, act: str = "read"):
    """Turns a library that is missing, and whatever a service refuses, into a ValueError that says what to do.
    ``act`` is what is done to ``text``: it is read or written."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{text} cannot be {act} ({error}): pip install {NEEDED[scheme(text)]}") from None
    except (FileNotFoundError, usage.WrongUse):
        raise
    except Exception as error:  # each service has errors of its own
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):  # this machine's disk
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        may = {"read": "read", "written": "write into"}[act]
        raise ValueError(
            f"{text} cannot be {act} ({type(error).__name__}: {reason}): see that this machine may {may} the "
            "bucket (gcloud auth application-default login, aws configure)"
        ) from error


def located(path: str | os.PathLike):
    """A path on a disk (pathlib's) or in a bucket (etils'): both read and are joined in the same way."""
    if not scheme(path):
        return pathlib.Path(path)
    from etils import epath  # a tenth of a second, which paths on a disk need not wait for

    return epath.Path(path)


def system(text: str):
    """What reads and writes a bucket (fsspec's), and how it names ``text``."""
    import fsspec.core  # a tenth of a second, which paths on a disk need not wait for

    fs, name = fsspec.core.url_to_fs(text)
    fs.invalidate_cache()  # what another machine has written since must be seen
    return fs, name.rstrip("/")


def _time(text: str, own) -> int:
    """The time of a file in a bucket, whose status is ``own``, in seconds."""
    if own.mtime:
        return own.mtime
    fs, name = system(text)  # etils does not know how S3 calls it
    return int(fs.modified(name).timestamp())


def stamp(path) -> tuple:
    """What changes with a file: its size and its time."""
    status = path.stat()
    # etils' own, of a file in a bucket, has other names.
    return (status.st_size, status.st_mtime_ns) if hasattr(status, "st_size") else (status.length, status.mtime)


def there(path: str | os.PathLike) -> bool:
    """Whether there is such a file. Raises ValueError where nobody can tell."""
    with explained(os.fspath(path)):
        return located(path).exists()


def _cache() -> pathlib.Path:
    """Where all is kept that comes from buckets: files in its folder 'buckets', whole folders in 'folders'."""
    if own := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(own).absolute() / "mmvid"
    with contextlib.suppress(RuntimeError, KeyError):  # a container's user may have no home
        return pathlib.Path.home() / ".cache" / "mmvid"
    return pathlib.Path(tempfile.gettempdir()) / f"mmvid-{os.getuid()}"


def folders() -> pathlib.Path:
    """Where copies of whole folders are kept, each in a folder of its own."""
    # Apart from single files: a run's weights are a file of its folder, and of others' beginnings, too.
    return _cache() / "folders"


def told(text: str) -> str:
    """``text`` with the paths of copies as those that their user has given: gs://..."""
    root = re.escape(f"{_cache()}{os.sep}")
    return re.sub(rf"{root}(?:buckets|folders/[^/\s]+)/({'|'.join(NEEDED)})/", r"\1://", text)


@functools.cache
def fetched(text: str) -> pathlib.Path:
    """A copy on this machine's disk of a file in a bucket, made once for every version of it.

    Where there is no such file, the path that its copy would have: what reads it says that it is missing. Raises
    ValueError where the bucket cannot be read, and no copy is there.
    """
    copy = (_cache() / "buckets").joinpath(scheme(text), *text.partition("://")[2].strip("/").split("/"))
    try:
        with explained(text):
            own = located(text).stat()
            if own.is_directory:
                return copy
            known, time = copy.stat() if copy.is_file() else None, _time(text, own)
            if known is None or (known.st_size, int(known.st_mtime)) != (own.length, time):
                _copied(text, copy, time)
    except FileNotFoundError:
        return copy
    except ValueError:
        # A report names the weights that a run began with, perhaps long after these were readable.
        if not copy.is_file():
            raise
    return copy


def _copied(text: str, copy: pathlib.Path, time: int) -> None:
    """Copies a file, and gives the copy its time."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    # Several processes of a host may fetch it at once: each writes under a name of its own.
    with files.whole(copy, mark=f"{os.getpid()}.tmp") as temporary:
        with located(text).open("rb") as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.utime(temporary, (time, time))
