"""EPIC-Kitchens-55, read from its official CSV files: the validation set is whole kitchens, and two tests have no
labels.

There is no official validation set. Gradient-Blending's ablation keeps the kitchens of some participants out of
training, as Baradel et al. (2018) do; which ones, only the latter say. What is predicted for the tests S1 (seen
kitchens) and S2 (unseen ones) is what `python -m mmvid submit` writes down for the challenge.
"""

import pathlib
from collections.abc import Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import epic
from mmvid import usage

TRAIN = "EPIC_train_action_labels.csv"
TESTS = {"s1": "EPIC_test_s1_timestamps.csv", "s2": "EPIC_test_s2_timestamps.csv"}
VALIDATION = ("P26", "P27", "P28", "P29", "P30", "P31")


def _tests(folder: pathlib.Path, films: dict[str, pathlib.Path], root: pathlib.Path) -> tuple[list, list[str]]:
    """Reads the segments of the tests whose lists are there: (segments, notes). Where no video of a test is there,
    it is left out."""
    items: list[Item] = []
    notes = []
    for split, name in TESTS.items():
        if not (folder / name).exists():
            continue
        found = list(epic.segments(folder, name, split, {}, films, root, key="uid"))
        if any(item.path.stem in films for item in found):
            items += found
        else:
            notes.append(f"the {len(found)} segments of {name} are left out: none of their videos is there")
    return items, notes


def read(
    annotations: str | pathlib.Path, videos: str | pathlib.Path, *, validation: Sequence[str] = VALIDATION
) -> Manifest:
    """Makes EPIC-Kitchens-55's manifest: 'train', 'val', which is all that the participants ``validation`` do, and
    's1' and 's2', the tests without labels.

    ``annotations`` is the folder of the official CSV files, ``videos`` that of videos/train/P01/P01_01.MP4 and
    its like. Sound is the videos' own. Raises FileNotFoundError naming the missing file, ValueError for lists of
    another form, WrongUse for participants who are not in the list, for none and for all of them.
    """
    folder, root = pathlib.Path(annotations), pathlib.Path(videos)
    names = {
        head: epic.names(folder, f"EPIC_{head}_classes.csv", f"{head}_id", "class_key") for head in epic.HEADS
    }
    films = epic.films_of(root)
    items = list(epic.segments(folder, TRAIN, "train", names, films, root, key="uid"))
    cooks = sorted({epic.participant(item) for item in items})
    if unknown := [name for name in validation if name not in cooks]:
        raise usage.WrongUse(f"--val_participants: {TRAIN} has no {unknown[0]!r}; it has {', '.join(cooks)}")
    if not validation or set(validation) == set(cooks):
        what = "all of them: none is left to train on" if validation else "none: whose clips are to be 'val'?"
        raise usage.WrongUse(f"--val_participants names {what}")
    items = [item._replace(split="val") if epic.participant(item) in validation else item for item in items]
    tests, left_out = _tests(folder, films, root)
    items, notes = epic.complete([*items, *tests], films)
    check_ids(items, folder)
    heads = {head: {"kind": "single", "names": names[head]} for head in epic.HEADS}
    return Manifest("epic55", epic.by_film(items), heads, (*left_out, *notes))
