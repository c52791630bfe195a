"""Something-Something v2, read from the official label files under their old and new names."""

import json
import os
import pathlib
from collections.abc import Callable, Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import boxes

# The label files were published under long names first and under short ones later.
_PREFIXES = ("something-something-v2-", "")
_ENDINGS = (".webm", ".mp4", ".mkv", ".avi")


def _file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Finds a label file, in ``folder`` or its subfolder labels; None where it is not there."""
    for directory in (folder, folder / "labels"):
        for prefix in _PREFIXES:
            if (path := directory / f"{prefix}{name}").exists():
                return path
    return None


def _load(folder: pathlib.Path, name: str):
    """Reads a label file as JSON. Raises FileNotFoundError or ValueError naming it."""
    path = _file(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"neither something-something-v2-{name} nor {name} in {folder} (or {folder}/labels); "
            "unpack the official label archive there"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    # Bytes that are no text are no JSONDecodeError.
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): unpack the archive again") from None


def _names(folder: pathlib.Path) -> list[str]:
    """Lists the classes in the order of their numbers, which the file keeps as text. Raises ValueError where the
    numbers are not 0 to K - 1, each once."""
    # Class ids are these numbers and no others: published weights and tables count so.
    classes = {name: int(number) for name, number in _load(folder, "labels.json").items()}
    if sorted(classes.values()) != list(range(len(classes))):
        raise ValueError(f"the class numbers of {folder} are not 0..{len(classes) - 1}, each once")
    return sorted(classes, key=classes.__getitem__)


def _rows(folder: pathlib.Path, name: str, *wanted: str) -> list[dict]:
    """Reads the rows of a label file. Raises ValueError for a row that lacks any of the fields ``wanted``."""
    rows = _load(folder, name)
    for number, row in enumerate(rows):
        check_row(f"{name}: row {number}", row, wanted)
    return rows


def check_row(where: str, row, wanted: Sequence[str]) -> None:
    """Raises ValueError, saying ``where``, for a row in which any of the fields ``wanted`` lacks or is null."""
    known = row if isinstance(row, dict) else {}
    if missing := [field for field in wanted if known.get(field) is None]:
        raise ValueError(f"{where} lacks {missing[0]!r}: {row}")


def class_of(template: str) -> str:
    """Returns the class that a clip's template names: 'Pushing something' for 'Pushing [something]'."""
    # Only the brackets go: case, commas and repeated words belong to the class's name.
    return template.replace("[", "").replace("]", "")


def _answers(folder: pathlib.Path) -> dict[str, str]:
    """Returns {id: class} of the test clips; {} where the file of the answers is not there. Raises ValueError
    naming the line that lacks either."""
    path, answers = _file(folder, "test-answers.csv"), {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []
    for number, line in enumerate(lines, 1):
        name, _, text = map(str.strip, line.partition(";"))
        if line.strip():
            if not (name and text):
                raise ValueError(f"{path}, line {number}: {line!r} is no id;class: unpack the archive again")
            answers[name] = text
    return answers


def paths(videos: pathlib.Path) -> Callable[[str], pathlib.Path]:
    """Returns the function from an id to its video in the folder ``videos``, <id>.webm or another ending, if
    converted. Raises FileNotFoundError where there is no folder."""
    if not videos.is_dir():
        raise FileNotFoundError(f"no folder of videos at {videos}")
    there = {p.stem: p for p in videos.iterdir() if p.suffix.lower() in _ENDINGS}
    # A video that lacks keeps its place in the list, so that it is rejected with a reason and counted.
    return lambda name: there.get(name, videos / f"{name}.webm")


def read(
    annotations: str | pathlib.Path,
    videos: str | pathlib.Path,
    *,
    named: Sequence[str | os.PathLike] | None = None,
    out: str | os.PathLike = "",
) -> Manifest:
    """Makes the manifest of SSv2: train and val, and test where its list is there, with labels where its answers
    are, too.

    ``videos``: the folder of <id>.webm (or another ending, if converted). ``named`` are files of boxes in JSON
    (see `boxes.shared_out`, which writes beside ``out``). Raises FileNotFoundError naming the missing file,
    ValueError for rows of another form.
    """
    folder, path_of = pathlib.Path(annotations), paths(pathlib.Path(videos))
    names = _names(folder)

    def item(row: dict, split: str, label: str | None) -> Item:
        name = str(row["id"])
        return Item(name, path_of(name), split, {"action": (label,) if label else ()})

    items = []
    for split, file in (("train", "train.json"), ("val", "validation.json")):
        rows = _rows(folder, file, "id", "template")
        items += [item(row, split, class_of(row["template"])) for row in rows]
    answers, untold = _answers(folder), ()
    if answers or _file(folder, "test.json"):
        rows = _rows(folder, "test.json", "id")
        items += [item(row, "test", answers.get(str(row["id"]))) for row in rows]
        if not answers:
            untold = (f"{len(rows)} clips of test have no labels (no test-answers.csv): what a run says of them "
                      "goes into mmvid ensemble --submit",)  # fmt: skip
    check_ids(items, folder)
    items, notes = boxes.shared_out(items, named, out)
    return Manifest("ssv2", items, {"action": {"kind": "single", "names": names}}, (*notes, *untold))
