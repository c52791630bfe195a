"""What a run keeps of its datasets, so that what it has learnt can be used where these are not."""

import pathlib

from mmvid import files, sharding
from mmvid.data import records
from mmvid.run import build, checks
from mmvid.run.build import Run

_FILE = "datasets.json"


def write(run: Run) -> None:
    """Writes into the workdir what each dataset says of itself: label spaces, splits with the run's subsets among
    them, and how its clips were prepared."""
    files.write_json(run.workdir / _FILE, {name: d.info._asdict() for name, d in run.datasets.items()})


def _datasets(workdir: pathlib.Path) -> dict[str, records.Dataset] | None:
    """Returns the datasets that `write` described, which have no clips; None where the run is older than it."""
    found = files.read_json(workdir / _FILE)
    try:
        return found and {name: records.Dataset(workdir, records.Info(**info)) for name, info in found.items()}
    except TypeError as error:
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
    checks.check_names(config)
    return Run(config, workdir, sharding.make_mesh(), datasets, build.planned(config, datasets), {}, {})
