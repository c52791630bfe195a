"""Reads the configuration of a run that has ended and completes it by today's defaults."""

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from mmvid import configuration, usage
from mmvid.run import build


def _defaults():
    """The module configs/common.py, where all defaults stand."""
    # By its path, as --config loads a file: the current folder's configs go before those beside mmvid.
    path = usage.folder() / "common.py"
    spec = importlib.util.spec_from_file_location("mmvid_defaults", path)
    if not path.exists():
        raise ValueError(f"{path} is missing, with the defaults of all configurations: install mmvid again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lay_over(config: ConfigDict, values: Mapping) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(config.get(name), ConfigDict):
            _lay_over(config[name], value)
        elif isinstance(config.get(name), ConfigDict):
            _group(name, value)
        else:
            config[name] = value


def _group(name: str, value) -> Mapping:
    """Returns the entries ``value``. Raises ValueError where it is no group of entries."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r} is no group of entries")
    return value


def completed(found: Mapping) -> ConfigDict:
    """A stored configuration, with today's defaults for the keys that are younger than it. Raises ValueError where
    an entry is no group of entries, and has to be."""
    common = _defaults()
    config = common.get_config().unlock()
    # Streams and networks are the run's own: each is completed by the defaults of its kind.
    kinds = {"streams": ("modality", common.stream), "networks": ("model", common.network)}
    for group, (kind, default) in kinds.items():
        for name, spec in _group(group, found[group]).items():
            if kind not in _group(f"{group}.{name}", spec):
                raise ValueError(f"{group}.{name} lacks {kind!r}")
            config[group][name] = default(spec[kind])
    with config.ignore_type():
        _lay_over(config, found)
    return config.lock()


def of_run(workdir: pathlib.Path, overrides: Sequence[str]) -> ConfigDict:
    """The configuration of the run in ``workdir``, completed and overridden. Raises WrongUse where there is
    no run, and as `configuration.overridden` does."""
    found = build.stored(workdir)
    if isinstance(found, Mapping) and build.SHARED in found and not {"streams", "networks"} <= set(found):
        raise ValueError(f"{workdir}/config.json is damaged: have the model shared again")
    if not (isinstance(found, Mapping) and {"streams", "networks"} <= set(found)):
        raise usage.WrongUse(
            f"{workdir}/config.json is not of a run of mmvid: name the --workdir of a training run"
        )
    try:
        whole = completed({name: own for name, own in found.items() if name != build.SHARED})
    except ValueError as error:
        raise ValueError(
            f"{workdir}/config.json is damaged ({error}): put back the one that the run was trained with"
        ) from None
    return configuration.overridden(whole, overrides)
