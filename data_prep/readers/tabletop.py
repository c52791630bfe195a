"""Tabletop: rendered into files beside the dataset, then read as anybody's CSV or folder."""

import pathlib

from data_prep.manifest import Manifest
from data_prep.readers import folder, table
from data_prep.tabletop import files


def _beside(out: pathlib.Path) -> pathlib.Path:
    """Returns the folder of rendered files that belongs to the dataset at ``out``."""
    return out.with_name(f"{out.name}-files")


def read(out: pathlib.Path, size: str, view: str, *, seed: int, workers: int) -> Manifest:
    """Makes the manifest of Tabletop, which is rendered into a folder beside ``out`` if it is not there yet.

    Raises ValueError for an unknown size or view, and where that folder holds anything else.
    """
    # One folder for each, so that another size is not taken for what stands there.
    root = _beside(out) / f"{size}-{view}-seed{seed}-v{files.VERSION}"
    path = files.write(root, size, view, seed=seed, workers=workers)
    name = f"tabletop-{size}" if view == "verb" else f"tabletop-{size}-{view}"
    return table.read(path)._replace(name=name, edition=files.VERSION)


def read_stills(out: pathlib.Path, *, seed: int) -> Manifest:
    """Makes the manifest of Tabletop's pictures of single objects, whose one head is 'noun'."""
    made = folder.read(files.write_stills(_beside(out), seed=seed))
    items = [item._replace(labels={"noun": item.labels["action"]}) for item in made.items]
    return Manifest("tabletop-stills", items, {"noun": made.heads["action"]})
