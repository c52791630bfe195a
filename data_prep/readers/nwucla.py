"""Northwestern-UCLA: ten actions before three cameras, trained on two views and tested on the third.

No list file ships: class, view, subject and repetition stand in the names.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from data_prep.manifest import Item, Manifest, check_ids
from data_prep.readers import splits
from mmvid.data.media.item import VIDEO_ENDINGS

VIEWS = (1, 2, 3)
# The recordings skip the codes 7 and 10; class ids count on without them (DMCL).
ACTIONS = {
    1: "pick up with one hand", 2: "pick up with two hands", 3: "drop trash", 4: "walk around",
    5: "sit down", 6: "stand up", 8: "donning", 9: "doffing", 11: "throw", 12: "carry",
}  # fmt: skip

_SEQUENCE = re.compile(r"a\d+_s\d+_e\d+")
_VIDEO = re.compile(r"v\d+_s\d+_e\d+")


def _id(code: dict[str, int]) -> str:
    """Names a recording by its action, subject, view and repetition."""
    return "a{a:02d}_s{s:02d}_v{v:02d}_e{e:02d}".format(**code)


def _item(code: dict[str, int], path, paths: dict) -> Item:
    # A code that is no class of the dataset becomes a label that no head has: the clip is rejected by name.
    label = ACTIONS.get(code["a"], f"a{code['a']:02d}")
    return Item(_id(code), path, "", {"action": (label,)}, paths=paths)


def _sequences(root: pathlib.Path) -> dict[str, Item]:
    """Returns {id: clip} of the RGB-D archive, where view_V/aAA_sSS_eEE/ holds all pictures of a sequence. Some of
    these folders hold nothing."""
    items = {}
    for base in (root, root / "multiview_action"):
        for folder in sorted(base.glob("view_[123]/a*_s*_e*")):
            if not (_SEQUENCE.fullmatch(folder.name) and folder.is_dir()):
                continue
            code = splits.codes(folder.name) | {"v": int(folder.parent.name[-1])}
            names = [name for name in os.listdir(folder) if not name.startswith(".")]
            # Patterns, because previews (..depth_vis.jpg) lie among the frames.
            rgb, depth = (
                folder / f"*{ending}" if any(name.endswith(ending) for name in names) else None
                for ending in ("_rgb.jpg", "_depth.png")
            )
            items[_id(code)] = _item(code, rgb, {"depth": depth} if depth else {})
    return items


def _videos(root: pathlib.Path) -> dict[str, Item]:
    """Returns {id: clip} of the archive of RGB alone, aAA/vVV_sSS_eEE.avi, where the class stands in the folder's
    name."""
    items = {}
    for base in (root, root / "multiview_action_videos"):
        for path in sorted(base.glob("a[0-9]*/v*_s*_e*")):
            if _VIDEO.fullmatch(path.stem) and path.suffix.lower() in VIDEO_ENDINGS:
                code = splits.codes(path.parent.name) | splits.codes(path.stem)
                items[_id(code)] = _item(code, path, {})
    return items


def _recordings(root: pathlib.Path) -> dict[str, Item]:
    """Returns {id: clip} of both archives together."""
    films, sequences = _videos(root), _sequences(root)
    # A sequence without pictures gives way to the video, where there is one.
    full = {name: item for name, item in sequences.items() if item.path or item.paths}
    return sequences | films | full


def _flows(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {id: folder} of DMCL's own flow, flow/view_V/aKK/aKK_sSS_eEE/."""
    # Here KK counts the classes from 1 to 10, and is not the code (1 to 12) that the recordings bear.
    raw = dict(enumerate(ACTIONS, 1))
    found = {}
    for folder in root.glob("flow/view_[123]/a*/a*_s*_e*"):
        code = splits.codes(folder.name) | {"v": int(folder.parent.parent.name[-1])}
        if _SEQUENCE.fullmatch(folder.name) and code["a"] in raw and any(folder.iterdir()):
            found[_id(code | {"a": raw[code["a"]]})] = folder
    return found


def read(
    videos: str | pathlib.Path,
    *,
    train_views: Sequence[int] = (1, 2),
    test_views: Sequence[int] | None = None,
) -> Manifest:
    """Makes the manifest of NW-UCLA from what lies below ``videos``: multiview_action/ (RGB and depth) or
    multiview_action_videos/ (RGB), the first where a recording is in both.

    ``train_views`` (1, 2) is the literature's usual choice; DMCL's code trains on 2 and 3. ``test_views`` are
    by default all others. A twentieth of the training clips becomes 'val'. A sequence without frames stays in
    the list, so that it is rejected with a reason. Raises FileNotFoundError naming the trees that were looked
    for, ValueError for views that do not exist or overlap.
    """
    root = pathlib.Path(videos)
    views = splits.of_views(VIEWS, train_views, test_views)
    found, flows = _recordings(root), _flows(root)
    if not found:
        raise FileNotFoundError(
            f"{root} holds neither multiview_action/view_1/a01_s01_e00/ nor "
            "multiview_action_videos/a01/v01_s01_e00.avi: unpack an archive of NW-UCLA there"
        )
    items = []
    for name, item in sorted(found.items()):
        if split := views.get(splits.codes(name)["v"]):
            flow = {"flow": flows[name]} if name in flows else {}
            items.append(item._replace(split=split, paths=item.paths | flow))
    check_ids(items, root)
    names = list(ACTIONS.values())
    return Manifest(
        f"nwucla-{splits.said(train_views, views)}",
        splits.hold_out(items, names),
        {"action": {"kind": "single", "names": names}},
    )
