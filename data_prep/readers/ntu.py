"""NTU RGB+D 60 and 120: every fact of a clip stands in its name, S001C001P001R001A001.

S is the setup, C the camera, P the subject (person), R the repetition and A the action. The splits are the
authors' cross-subject ones; "mini" is DMCL's half of the training clips.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from data_prep.manifest import Item, Manifest
from data_prep.readers import splits
from mmvid.data.media.item import VIDEO_ENDINGS

ACTIONS = {"ntu60": 60, "ntu120": 120, "ntu120_mini": 120}
VERSIONS = (0, 1, 2)
_TRAIN_60 = (1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38)
# The subjects that train (cross-subject); all others test. In 120, those of 60 and more.
TRAIN_SUBJECTS = {
    "ntu60": frozenset(_TRAIN_60),
    "ntu120": frozenset((
        *_TRAIN_60, 45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96),
        97, 98, 100, 103,
    )),
}  # fmt: skip

RGB = "nturgb+d_rgb"
# Masked first: it is what can be downloaded whole. The two are never mixed.
DEPTH = ("nturgb+d_depth_masked", "nturgb+d_depth")
# Ready-made pictures of optical flow, FLOW/<id>/.
FLOW = ("nturgb+d_flow",)
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


def _entries(root: pathlib.Path, tree: str) -> list[os.DirEntry]:
    """Lists what lies in ``root/tree``, and in ``root/*/tree`` where archives were unpacked into folders of their
    own."""
    folders = [*root.glob(tree), *sorted(root.glob(f"*/{tree}"))]
    # The path may lead to the tree itself, too.
    folders += [root] if root.name == tree else []
    return [entry for folder in folders for entry in os.scandir(folder)]


def _films(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {id: video} of the RGB; files of other names or endings are passed over."""
    found = {}
    for entry in _entries(root, RGB):
        name, ending = os.path.splitext(entry.name)
        if _NAME.fullmatch(name.removesuffix("_rgb")) and ending.lower() in VIDEO_ENDINGS:
            found[name.removesuffix("_rgb")] = pathlib.Path(entry.path)
    return found


def _maps(root: pathlib.Path, trees: Sequence[str] = DEPTH) -> dict[str, pathlib.Path]:
    """Returns {id: folder of its maps} from the first of the ``trees`` that has any. A clip whose folder is empty
    is left out."""
    for tree in trees:
        found = {e.name: pathlib.Path(e.path) for e in _entries(root, tree) if _NAME.fullmatch(e.name)}
        if found := {name: path for name, path in found.items() if path.is_dir() and os.listdir(path)}:
            return found
    return {}


def _mini(items: list[Item], names: Sequence[str], version: int) -> list[Item]:
    """Returns ``items`` with half of the training clips, as many of each class, drawn with (class, version) as
    seed."""
    # DMCL's code takes int(n / 2 / 120) of each class and seeds by class; its table is a mean of three such sets.
    groups = splits.of_classes(items, names)
    count = max(int(sum(map(len, groups.values())) / 2 / max(len(groups), 1)), 1)
    kept: set[str] = set()
    for name, ids in groups.items():
        kept |= splits.drawn(ids, count, names.index(name), version)
    return [item for item in items if item.split != "train" or item.id in kept]


def _items(films: dict, maps: dict, flows: dict, dataset: str) -> list[Item]:
    """Makes the clips of the dataset's classes, split by subject."""
    train = TRAIN_SUBJECTS["ntu60" if dataset == "ntu60" else "ntu120"]
    items = []
    for name in sorted({*films, *maps}):
        *_, subject, _, action = map(int, _NAME.fullmatch(name).groups())
        # The 120 classes begin with the 60: the same folders serve both datasets.
        if 1 <= action <= ACTIONS[dataset]:
            split = "train" if subject in train else "test"
            further = {"depth": maps.get(name), "flow": flows.get(name)}
            paths = {modality: found for modality, found in further.items() if found}
            items.append(Item(name, films.get(name), split, {"action": (f"A{action:03d}",)}, paths=paths))
    return items


def read(videos: str | pathlib.Path, dataset: str = "ntu120", *, version: int = 0) -> Manifest:
    """Makes the manifest of ``dataset`` (ACTIONS) from what lies below ``videos``: nturgb+d_rgb/<id>_rgb.avi and
    nturgb+d_depth_masked/<id>/ (else nturgb+d_depth/<id>/), and perhaps nturgb+d_flow/<id>/, at the top or one
    folder deeper.

    A clip that only one tree has lacks the other modality. A twentieth of the training clips becomes 'val'.
    ``version`` chooses one of the three mini sets, whose val and test are those of the whole dataset.
    Raises FileNotFoundError naming the trees, ValueError for an unknown dataset or version.
    """
    if dataset not in ACTIONS or version not in VERSIONS:
        raise ValueError(f"dataset={dataset!r} is one of {list(ACTIONS)}, version={version} of {VERSIONS}")
    root = pathlib.Path(videos)
    films, maps = _films(root), _maps(root)
    if not (films or maps):
        raise FileNotFoundError(
            f"{root} holds neither {RGB}/S001C001P001R001A001_rgb.avi nor "
            f"{DEPTH[0]}/S001C001P001R001A001/: unpack the archives of NTU RGB+D there"
        )
    names = [f"A{action:03d}" for action in range(1, ACTIONS[dataset] + 1)]
    items = splits.hold_out(_items(films, maps, _maps(root, FLOW), dataset), names)
    mini = dataset == "ntu120_mini"
    return Manifest(
        f"{dataset}-{version}" if mini else dataset,
        _mini(items, names, version) if mini else items,
        {"action": {"kind": "single", "names": names}},
    )
