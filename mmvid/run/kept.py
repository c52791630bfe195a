"""What a run keeps of its datasets, so that what it has learnt can be used where these are not."""

import pathlib

from mmvid import files, sharding
from mmvid.data import records
from mmvid.run import build, values
from mmvid.run.build import Run

_FILE = "datasets.json"


def write(run: Run) -> None:
    """Writes into the workdir what each dataset says of itself: label spaces, splits with the run's subsets among
    them, and how its clips were prepared."""
    files.write_json(run.workdir / _FILE, {name: d.info._asdict() for name, d in run.datasets.items()})


def info_of(name: str, kept) -> records.Info:
    """Makes the Info of what was kept of a dataset as plain data. Raises ValueError or TypeError where it is
    damaged."""
    if not isinstance(kept, dict):
        raise ValueError(f"{name} is no description of a dataset")
    info = records.Info(**kept)
    if not (isinstance(info.heads, dict) and info.heads and all(isinstance(h, dict) for h in info.heads.values())):
        raise ValueError(f"{name} has no heads")
    for head, spec in info.heads.items():
        names, classes, kind = spec.get("names") or [], spec.get("classes"), spec.get("kind")
        if kind not in ("single", "multi") or not isinstance(classes, int) or len(names) not in (0, classes):
            raise ValueError(f"{name} has the head {head}: {kind!r}, {classes!r} classes, {len(names)} names")
    wrong = [entry for entry in ("splits", "settings") if not isinstance(getattr(info, entry), dict)]
    if wrong:
        raise ValueError(f"{name} has no {wrong[0]}")
    return info


def _datasets(workdir: pathlib.Path) -> dict[str, records.Dataset] | None:
    """Returns the datasets that `write` described, which have no clips; None where the run is older than it."""
    found = files.read_json(workdir / _FILE)
    if found is None:
        return None
    try:
        if not (isinstance(found, dict) and "dataset" in found):
            raise ValueError("it describes no dataset")
        return {name: records.Dataset(workdir, info_of(name, kept)) for name, kept in found.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{workdir / _FILE} cannot be read ({error}): delete it, and give the command that the run was "
            "started with again"
        ) from None


def opened(workdir: pathlib.Path, config) -> Run:
    """Opens a run to predict clips of which it has not learnt. ``config`` is what is stored in ``workdir``; its
    datasets may be gone, and have no clips here.

    A run from before this was kept is opened beside its dataset. Raises ValueError, or FileNotFoundError where
    that is gone.
    """
    datasets = _datasets(workdir)
    if datasets is not None and (gone := sorted(set(config.datasets) - set(datasets))):
        raise ValueError(
            f"{workdir / _FILE} says nothing of the dataset {gone[0]}: delete it, and give the command that the "
            "run was started with again"
        )
    if datasets is None:
        try:
            return build.opened(workdir, config)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{workdir} does not say how its clips were prepared, as older runs do not, and {error}"
            ) from None
    config = build.without_beginning(config)
    with config.unlocked():
        config.stills.steps = "0"
    values.check_names(config)
    return Run(config, workdir, sharding.make_mesh(), datasets, build.planned(config, datasets), {}, {})
