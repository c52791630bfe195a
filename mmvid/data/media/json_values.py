"""Reads what stands in the outermost brackets of a JSON file, a value at a time: it is never in memory whole."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 1 << 20
# One value has a few megabytes at most; a file that is damaged shall not be read into memory whole.
_MOST = 256 << 20
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_CLOSING = {"[": "]", "{": "}"}
_END = object()


def opened(file: IO[str]) -> tuple[str, Iterator]:
    """Returns ('[', the values) of an array, ('{', keys and values in turn) of an object. Raises ValueError for
    what is neither; so do the values, where the file breaks off, is damaged, or goes on behind its end."""
    text, before = "", 0
    while not text and (more := file.read(CHUNK)):
        text = more.lstrip()
        before += len(more) - len(text)
    if text[:1] not in _CLOSING:
        raise ValueError("it is neither an object nor an array")
    return text[0], _values(file, text, before)


def _values(file: IO[str], text: str, before: int) -> Iterator:
    """Yields the values of ``text``, which begins with the first bracket, and of what follows it in the file;
    ``before`` characters of the file stand in front of it."""
    closing, place, mark = _CLOSING[text[0]], 1, ""
    marks = itertools.cycle(":," if closing == "}" else ",")
    while True:
        value, end, wrong = _next(text, place, mark, closing)
        if value is _END:
            _check_rest(file, text[end:])
            return
        # What ends with the text may go on in the file. Ever more is read, so that retrying costs little.
        if end == len(text):
            more = file.read(max(CHUNK, len(text) - place))
            if not more or len(text) > _MOST:
                raise ValueError(f"it breaks off or is damaged: {wrong or 'the last bracket lacks'}")
            text, place, before = text[place:] + more, 0, before + place
            continue
        if wrong:
            raise ValueError(f"it is damaged: {wrong}, {_near(text, end)} (character {before + end + 1})")
        yield value
        place, mark = end, next(marks)


def _next(text: str, place: int, mark: str, closing: str) -> tuple[Any, int, str]:
    """Reads from ``place`` the ``mark`` (',' or ':') that has to stand before a value, and the value: (the value,
    or _END for the bracket that is ``closing``, the place behind it, what is wrong there)."""
    place = _BLANK.match(text, place).end()
    if text[place : place + 1] == closing and mark != ":":
        return _END, place + 1, ""
    if mark and place < len(text):
        if text[place] != mark:
            return None, place, f"{mark!r} is expected"
        place = _BLANK.match(text, place + 1).end()
    try:
        value, end = _DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        # Perhaps only its end is not read yet.
        return None, len(text), f"{error.msg}, {_near(text, error.pos)}"
    if closing == "}" and mark != ":" and not isinstance(value, str):
        return None, place, "a name in quotes is expected"
    return value, end, ""


def _near(text: str, place: int) -> str:
    return f"before {text[place : place + 20]!r}" if text[place:].strip() else "at its end"


def _check_rest(file: IO[str], rest: str) -> None:
    """Raises ValueError where more than blanks stand behind the last bracket."""
    while not rest.strip():
        rest = file.read(CHUNK)
        if not rest:
            return
    raise ValueError(f"it goes on behind its last bracket, with {rest.strip()[:20]!r}")
