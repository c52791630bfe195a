"""The labels of every clip, kept beside the records: a rule that counts classes would else have to read all of
them, a terabyte for some datasets.

They belong to one build, whose fingerprint stands in the file: beside records of another one they count for
nothing.
"""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid import files

_NAME = "labels.npz"


def _packed(values: Sequence, kind: str) -> dict[str, np.ndarray]:
    """The arrays that stand for the labels of all clips of a split, by the ending of their name."""
    if kind == "single":
        return {"": np.asarray(values, np.int32)}
    if kind == "multi":
        shown = np.asarray(values, np.uint8).reshape(len(values), -1)
        return {"": np.packbits(shown, axis=1), ".classes": np.int64(shown.shape[1])}
    rows = [np.asarray(value, np.float32).reshape(-1, 3) for value in values]
    return {"": np.concatenate([np.zeros((0, 3), np.float32), *rows]), ".ends": np.cumsum([len(r) for r in rows])}


def save(root: pathlib.Path, fingerprint: str, kinds: Mapping[str, str], labels: Mapping[str, Mapping]) -> None:
    """Writes the ``labels`` {split: {head: [label of each clip]}} of the dataset at ``root``. ``kinds`` are those
    of the heads: 'single' ids, 'multi' rows of 0 and 1, or 'spans' [n, 3]."""
    arrays = {"fingerprint": np.asarray(fingerprint)}
    for split, heads in labels.items():
        for head, values in heads.items():
            arrays |= {f"{split}/{head}{end}": array for end, array in _packed(values, kinds[head]).items()}
    with files.whole(root / _NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load(root: pathlib.Path, fingerprint: str, split: str, head: str) -> np.ndarray | list[np.ndarray] | None:
    """The label of every clip of a split: ids int [N], rows of 0 and 1 [N, K], or a list of spans [n, 3].

    None where the dataset is older than this file, or it is damaged or of another build: the records know them,
    too.
    """
    try:
        with (root / _NAME).open("rb") as file, np.load(file, allow_pickle=False) as found:
            name = f"{split}/{head}"
            if str(found["fingerprint"]) != fingerprint or name not in found:
                return None
            if f"{name}.classes" in found:
                return np.unpackbits(found[name], axis=1, count=int(found[f"{name}.classes"]))
            if f"{name}.ends" in found:
                return np.split(found[name], found[f"{name}.ends"][:-1])
            return found[name]
    # zipfile raises the last two for a damaged header.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
