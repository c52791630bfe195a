"""Something-Else: splits of Something-Something v2 by the objects that are seen in training, with boxes."""

import json
import os
import pathlib
from collections.abc import Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import boxes, ssv2

# {name: (folder, training, validation, classes)}; the names are as uneven as this.
SPLITS = {
    "compositional": ("compositional", "train.json", "validation.json", "labels.json"),
    "compositional_shuffled": ("compositional_shuffled", "train.json", "validation.json", "labels.json"),
    "compositional_oneobject": ("compositional_oneobject", "train.json", "validation.json", "labels.json"),
    "fewshot_base": ("fewshot", "base_training_set.json", "base_validation_set.json", "base_labels.json"),
    "fewshot_5shot": (
        "fewshot", "finetune_5shot_training.json", "finetune_5shot_validation.json", "finetune_labels.json",
    ),
    "fewshot_10shot": (
        "fewshot", "finetune_10shot_train.json", "finetune_10shot_validation.json", "finetune_labels.json",
    ),
}  # fmt: skip


def _folder(root: pathlib.Path, split: str) -> pathlib.Path:
    """Finds the folder of a split: it, the folder of all splits, or the repository may be named. Raises
    FileNotFoundError."""
    folder, train, *_ = SPLITS[split]
    # Several splits have files of these names, so the folder's own name goes before what lies in it.
    for path in (root / folder, root / "dataset_splits" / folder, root / "code" / "dataset_splits" / folder, root):
        if (path / train).exists():
            return path
    raise FileNotFoundError(
        f"no {folder}/{train} in {root}: it is in code/dataset_splits of the repository something_else"
    )


def _loaded(path: pathlib.Path, kind: type):
    """Reads a file of JSON. Raises FileNotFoundError or ValueError naming it."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: fetch the splits of Something-Else again")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): fetch the splits of Something-Else again") from None
    if not isinstance(found, kind):
        raise ValueError(f"{path} holds no {'list of clips' if kind is list else 'classes'}")
    return found


def read(
    annotations: str | os.PathLike,
    videos: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str = "compositional",
    named: Sequence[str | os.PathLike] | None = None,
) -> Manifest:
    """Makes the manifest of a ``split`` of Something-Else: 'train' and 'val'.

    ``annotations`` holds the folders of the splits, ``videos`` the videos of Something-Something v2, ``named`` are
    files of boxes (see `boxes.shared_out`, which writes beside ``out``). Raises FileNotFoundError naming the
    missing file, ValueError for rows of another form.
    """
    folder = _folder(pathlib.Path(annotations), split)
    _, *lists, labels = SPLITS[split]
    # The official loader numbers classes in the order of their names, whatever numbers this file gives them; all
    # 174 then stand as in Something-Something v2.
    names = sorted(_loaded(folder / labels, dict))
    path_of = ssv2.paths(pathlib.Path(videos))
    items = []
    for name, file in zip(("train", "val"), lists):
        for number, row in enumerate(_loaded(folder / file, list)):
            ssv2.check_row(f"{folder / file}: row {number}", row, ("id", "template"))
            label = ssv2.class_of(row["template"])
            items.append(Item(str(row["id"]), path_of(str(row["id"])), name, {"action": (label,)}))
    check_ids(items, folder)
    items, notes = boxes.shared_out(items, named, out)
    name = "something-else" + ("" if split == "compositional" else f"-{split.replace('_', '-')}")
    return Manifest(name, items, {"action": {"kind": "single", "names": names}}, notes)
