"""Something-Something v2: the official label files (spec: formats.md 1, both naming schemes)."""

import csv
import json
import pathlib

from data_prep.manifest import Item, Manifest

_PREFIXES = ("something-something-v2-", "")


def _file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    for directory in (folder, folder / "labels"):
        for prefix in _PREFIXES:
            if (path := directory / f"{prefix}{name}").exists():
                return path
    return None


def _load(folder: pathlib.Path, name: str):
    path = _file(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"neither something-something-v2-{name} nor {name} in {folder} (or {folder}/labels); "
            "unpack the official label archive there"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _class(template: str) -> str:
    # Only the brackets go: case, commas and repeated words belong to the class's name.
    return template.replace("[", "").replace("]", "")


def _answers(folder: pathlib.Path) -> dict[str, str]:
    path = _file(folder, "test-answers.csv")
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row[0]: row[1] for row in csv.reader(file, delimiter=";") if row}


def read(annotations: str | pathlib.Path, videos: str | pathlib.Path) -> Manifest:
    """The manifest of SSv2: train and val, and test where its answers are there.

    ``videos``: the folder of <id>.webm. Raises FileNotFoundError naming the missing file.
    """
    folder, videos = pathlib.Path(annotations), pathlib.Path(videos)
    classes = _load(folder, "labels.json")
    names = sorted(classes, key=lambda name: int(classes[name]))
    items = []
    for split, file in (("train", "train.json"), ("val", "validation.json")):
        for row in _load(folder, file):
            label = _class(row["template"])
            items.append(Item(row["id"], videos / f"{row['id']}.webm", split, {"action": label}))
    answers = _answers(folder)
    for row in _load(folder, "test.json") if answers else []:
        labels = {"action": answers[row["id"]]} if row["id"] in answers else {}
        items.append(Item(row["id"], videos / f"{row['id']}.webm", "test", labels))
    return Manifest("ssv2", items, {"action": {"kind": "single", "names": names}})
