"""Reads the configuration of a run that has ended, completes it by today's defaults, and lets a command line
change it."""

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from mmvid import usage
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
        else:
            config[name] = value


def completed(found: Mapping) -> ConfigDict:
    """A stored configuration, with today's defaults for the keys that are younger than it."""
    common = _defaults()
    config = common.get_config().unlock()
    # Streams and networks are the run's own: each is completed by the defaults of its kind.
    for name, spec in found["streams"].items():
        config.streams[name] = common.stream(spec["modality"])
    for name, spec in found["networks"].items():
        config.networks[name] = common.network(spec["model"])
    with config.ignore_type():
        _lay_over(config, found)
    return config.lock()


def overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """``config`` with the ``overrides`` '--config.NAME=VALUE', read as in training. Raises WrongUse for an
    unknown name or a value of another type."""
    # Flags of its own: the process's have been parsed already, without these.
    values, argv = flags.FlagValues(), ["mmvid", *overrides]
    try:
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return holder.value
    except flags.Error as error:
        raise usage.WrongUse(str(error).strip().splitlines()[-1].strip()) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise usage.WrongUse(usage.no_override(error)) from None


def of_run(workdir: pathlib.Path, overrides: Sequence[str]) -> ConfigDict:
    """The configuration of the run in ``workdir``, completed and overridden. Raises ValueError where there is
    no run, WrongUse as `overridden` does."""
    found = build.stored(workdir)
    if not (isinstance(found, Mapping) and {"streams", "networks"} <= set(found)):
        raise ValueError(f"{workdir}/config.json is not of a run of mmvid: name the --workdir of a training run")
    return overridden(completed(found), overrides)
