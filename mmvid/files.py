"""Files that are whole or not there: JSON, and lines of it."""

import json
import os
import pathlib

from mmvid import logs


def write_json(path: pathlib.Path, value) -> None:
    """Writes ``value`` whole or not at all."""
    _write(path, json.dumps(value, indent=1, default=str))


def _write(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may keep the new name of an empty file
    os.replace(temporary, path)


def read_json(path: pathlib.Path):
    """What `write_json` wrote; None where there is no such file. Raises ValueError naming a damaged one."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it, and the command that this run was started with "
            "writes it again"
        ) from None


def _row(line: str) -> dict | None:
    try:
        found = json.loads(logs.line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def read_lines(path: pathlib.Path) -> list[dict]:
    """The complete JSON lines of a file; a line cut short by a kill or a full disk is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [row for logs.line in text.splitlines() if (row := _row(logs.line)) is not None]


def cut(path: pathlib.Path, step: int) -> None:
    """Removes the lines of steps after ``step``: history that a restored run makes again."""
    rows = [row for row in read_lines(path) if row["step"] <= step]
    if not path.exists():
        return
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))
