"""Writes files that are whole or not there at all (no other module replaces a file), and reads JSON and lines
of it."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from mmvid import usage

# The ending of a file that is being written. What has it is removed, so that it must be nobody else's: a FILE.tmp
# may be the user's.
MARK = "being-written"
# Bytes of a line, at the most: those of a step name each of its clips.
LONGEST = 1 << 24


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: pathlib.Path) -> None:
    # Without this a power cut may keep the new name and lose what it names.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _stays(path: pathlib.Path) -> bool:
    """Tells whether there is something at ``path`` that is written to and never replaced: a device, a pipe, or
    what a process has open, as /dev/stdout is."""
    place = path.parent.resolve() / path.name
    target = place.parent / os.readlink(place) if place.is_symlink() else place
    of_process = any(pathlib.Path("/proc") in own.parent.resolve().parents for own in (place, target))
    return place.exists() and (of_process or not (place.is_file() or place.is_dir()))


@contextlib.contextmanager
def _through(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `whole`, but what was written is handed to what is at ``path``, which stays."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = pathlib.Path(folder, path.name)
        yield temporary
        # To the end of it: where the terminal is a file, others have written there, too.
        with temporary.open("rb") as made, path.open("ab") as target:
            shutil.copyfileobj(made, target)


@contextlib.contextmanager
def whole(path: str | os.PathLike, mark: str = MARK) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside ``path`` to write a file or a folder under, and renames it to ``path`` at the
    end. Where the block fails, ``path`` stays as it was and what was written is removed. ``mark`` is the
    ending of the temporary name: it must differ between processes that write one path at the same time. What is no
    file and no folder, as a device or a pipe, is written to and not replaced."""
    path = pathlib.Path(path)
    if _stays(path):
        with _through(path) as temporary:
            yield temporary
        return
    # Beside it, since only within one file system is a rename a single act.
    temporary = path.with_name(f"{path.name}.{mark}")
    _remove(temporary)  # of a writer that was killed
    try:
        yield temporary
        if temporary.is_file():
            _flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C, too, must leave nothing behind
        _remove(temporary)
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes ``text`` whole or not at all. Characters that UTF-8 cannot hold, as in file names of other
    encodings, become '?'."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


# ---------------------------------------------------------------------------- where a command may write
def _kept(folder: pathlib.Path) -> str:
    """What keeps its files in ``folder``, in words: a run, a dataset, a shared network; '' where none does."""
    known = None
    with contextlib.suppress(OSError):
        known = read_note(folder / "config.json")
    if (isinstance(known, dict) and "headline" in known) or (folder / "data.json").exists():
        return "a run"
    if (folder / "metadata.json").exists() and any((folder / name).exists() for name in ("index.json", "clips")):
        return "a dataset"
    return "a shared network" if (folder / "model.safetensors").exists() else ""


def _places(path: pathlib.Path) -> set[pathlib.Path]:
    """Where a path lies, and where what it is a link to does."""
    return {path.parent.resolve() / path.name, path.resolve()}


def check_target(
    flag: str, path: pathlib.Path, reads: Iterable[pathlib.Path] = (), own: pathlib.Path | None = None
) -> None:
    """Raises WrongUse where a file cannot be written at ``path``, which ``flag`` names, or would be written over
    what others need: one that is read, or is in a folder that is (``reads``), or any that is there in the folder
    of a run, a dataset or a shared network. ``own`` is what the command writes there by itself."""
    usage.check_folder(flag, path.parent)
    if path.is_dir():
        raise usage.WrongUse(f"{flag}={path} is a folder: name a file in it")
    places = _places(path)
    if not os.path.lexists(path) or _stays(path) or (own is not None and places == _places(own)):
        return
    read = {own.resolve() for own in reads}
    if read & places:
        raise usage.WrongUse(f"{flag}={path} would be written over an input: name another file")
    for folder in sorted({folder for place in places for folder in place.parents}, reverse=True):
        if what := _kept(folder) or ("what is read" if folder in read else ""):
            raise usage.WrongUse(
                f"{flag}={path} would be written over a file that is in the folder of {what} ({folder}): name "
                "another one, or remove it where it is no part of that"
            )


# ---------------------------------------------------------------------------- JSON
def as_json(value) -> str:
    """Writes ``value`` as JSON. What JSON does not know is written as its text."""
    return json.dumps(value, indent=1, default=str)


def write_json(path: pathlib.Path, value) -> None:
    """Writes ``value`` as JSON, whole or not at all."""
    write_text(path, as_json(value))


def read_json(path: pathlib.Path):
    """Reads what `write_json` wrote; None where there is no such file. Raises ValueError that names a damaged
    one."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise usage.Damaged(
            f"{path} is damaged ({error}): delete it, and the command that this run was started with "
            "writes it again"
        ) from None


def read_note(path: pathlib.Path) -> dict:
    """Reads a JSON object that no result depends on; {} where it is gone or damaged."""
    try:
        return read_json(path) or {}
    except ValueError:
        return {}


def _row(line: str) -> dict | None:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def read_lines(path: pathlib.Path) -> list[dict]:
    """The complete JSON lines of a file, each with a 'step'. A line cut short by a kill or a full disk is left
    out; without a file there are none."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [row for line in text.splitlines() if (row := _row(line)) is not None]


def cut(path: pathlib.Path, step: int) -> None:
    """Removes the lines of steps after ``step``, which a run that is restored there writes again."""
    rows = [row for row in read_lines(path) if row["step"] <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _lines(file: BinaryIO, step: int) -> Iterator[bytes]:
    """Gives the complete lines of a file up to ``step``. Its steps rise: a line that does not fit in counts as
    damaged, and is passed over."""
    last = -1
    # What a power cut leaves may be long and have no end.
    while line := file.readline(LONGEST):
        row = _row(line.decode("utf-8", "replace")) if line.endswith(b"\n") else None
        if row is not None and row["step"] > step:
            return
        if row is not None and row["step"] > last:
            last = row["step"]
            yield line


def cut_end(path: pathlib.Path, step: int) -> None:
    """As `cut`, a line at a time, since such a file may have gigabytes, and in the file itself where no line is
    damaged. Its steps rise."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        # `tell` stands behind the line that was given last.
        kept, end = 0, 0
        for line in _lines(file, step):
            kept, end = kept + len(line), file.tell()
        if kept == end:
            file.truncate(end)
            return
    # Both are closed before one replaces the other, which Windows asks for.
    with whole(path) as temporary, path.open("rb") as file, temporary.open("wb") as copy:
        copy.writelines(_lines(file, step))
