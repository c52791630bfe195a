"""UWA3D Multiview Activity II: thirty actions before four cameras (1 front, 2 left, 3 right, 4 top).

No list file ships, and copies of the archive differ: names are read by letter, and RGB and depth
of one recording may differ in the last digit of eEE.
"""

import os
import pathlib
from collections.abc import Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import splits
from mmvid.data.media.item import IMAGE_ENDINGS

VIEWS = (1, 2, 3, 4)
NAMES = [f"a{action:02d}" for action in range(1, 31)]

RGB = ("UWA3DII_RGB/UWA3D-RGB", "UWA3D-RGB", "UWA3DII_RGB")
# Whole maps before those cut to the person, which do not lie over the RGB; values before
# pictures made from them.
DEPTH = (
    "UWA3D-Depth/WholeFrames",
    "UWA3DII_Depth/ActionsNew",
    "ActionsNew",
    "UWA3DII_Depth/Actions_images",
    "Actions_images",
    "UWA3DII_Depth_ROI/UWA3D-Depth",
    "UWA3D-Depth",
)

# Ready-made pictures of optical flow, a folder for each recording of RGB.
FLOW = ("flow", "UWA3DII_flow", "UWA3D-flow")

# Action, subject, view and repetition (a, s, v, e); e is -1 where the name has none.
Key = tuple[int, int, int, int]


def _key(path: pathlib.Path) -> Key | None:
    """Reads from a name which recording it is; None where the name is not that of a recording."""
    code = splits.codes(path.stem)
    return (code["a"], code["s"], code["v"], code.get("e", -1)) if {"a", "s", "v"} <= set(code) else None


def _has(folder: pathlib.Path, endings: set[str]) -> bool:
    return any(pathlib.Path(name).suffix.lower() in endings for name in os.listdir(folder))


def _recordings(folder: pathlib.Path, endings: set[str]) -> dict[Key, pathlib.Path]:
    """Returns {key: folder of pictures, or .mat file} of a tree; a folder without pictures is left out."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        usable = _has(path, endings) if path.is_dir() else path.suffix == ".mat"
        if (key := _key(path)) and usable:
            found[key] = path
    return found


def _first(root: pathlib.Path, trees: tuple[str, ...], endings: set[str]) -> dict[Key, pathlib.Path]:
    """Returns the recordings of the first tree that has any."""
    # Trees are not mixed, as each has its recordings in another form.
    for tree in trees:
        if found := _recordings(root / tree, endings):
            return found
    return {}


def _paired(rgb: set[Key], depth: set[Key]) -> dict[Key, Key]:
    """Pairs recordings of RGB and depth: {key of the RGB: key of its depth}.

    Equal keys are a pair. What is left is paired where the keys differ only in the last digit of eEE, or one
    has no eEE, and only if neither could belong to another.
    """
    pairs = {key: key for key in rgb & depth}
    spare_rgb, spare_depth = rgb - depth, depth - rgb

    def near(first: Key, second: Key) -> bool:
        # eEE without its last digit; -1, no eEE at all, is also -1 after the division.
        tens = {first[3] // 10, second[3] // 10} - {-1}
        return first[:3] == second[:3] and len(tens) < 2

    for key in spare_rgb:
        candidates = [other for other in spare_depth if near(key, other)]
        if len(candidates) == 1 and sum(near(other, candidates[0]) for other in spare_rgb) == 1:
            pairs[key] = candidates[0]
    return pairs


def _item(key: Key, path, further: dict[str, pathlib.Path | None], split: str) -> Item:
    name = "a{:02d}_s{:02d}_v{:02d}".format(*key) + (f"_e{key[3]:02d}" if key[3] >= 0 else "")
    paths = {modality: found for modality, found in further.items() if found}
    return Item(name, path, split, {"action": (f"a{key[0]:02d}",)}, paths=paths)


def read(
    videos: str | pathlib.Path,
    *,
    train_views: Sequence[int] = (1, 2),
    test_views: Sequence[int] | None = None,
) -> Manifest:
    """Makes the manifest of UWA3DII from what lies below ``videos``: one of the trees RGB and one of DEPTH, and
    perhaps one of FLOW.

    ``test_views`` are by default all that are not trained on. A recording of one modality is a clip that
    lacks the other. A twentieth of the training clips becomes 'val'. Raises FileNotFoundError naming the trees
    that were looked for, ValueError for views that do not exist or overlap.
    """
    root = pathlib.Path(videos)
    views = splits.of_views(VIEWS, train_views, test_views)
    rgb, depth = _first(root, RGB, IMAGE_ENDINGS), _first(root, DEPTH, {".png"})
    if not (rgb or depth):
        raise FileNotFoundError(
            f"{root} holds recordings like a01_s01_v01_e00 in none of {', '.join(RGB + DEPTH)}: unpack "
            "an archive of UWA3DII there"
        )
    pairs = _paired(set(rgb), set(depth))
    alone = set(depth) - set(pairs.values())
    flow = _first(root, FLOW, IMAGE_ENDINGS)
    items = [
        _item(key, rgb.get(key), {"depth": depth.get(pairs.get(key, key)), "flow": flow.get(key)}, views[key[2]])
        for key in sorted({*rgb, *alone})
        if key[2] in views
    ]
    check_ids(items, root)
    return Manifest(
        f"uwa3d-{splits.said(train_views, views)}",
        splits.hold_out(items, NAMES),
        {"action": {"kind": "single", "names": NAMES}},
    )
