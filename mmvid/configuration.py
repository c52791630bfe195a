"""Reads a configuration from its file, and lets --config.NAME=VALUE of a command line change it."""

import ast
import difflib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mmvid import usage

# What an entry takes, by the type of its default.
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text",
          tuple: "a tuple of Python's", ConfigDict: "a dict of Python's"}  # fmt: skip

# The parts whose entries are named by whoever writes the configuration: others have the entries that they have.
_OPEN = (
    "blend.arms", "dataset.clips", "datasets", "heads", "networks", "semi.arms", "streams", "students", "subsets",
    "teachers.alone",
)  # fmt: skip
# Of these, those whose entries are dicts that a command line may add whole: --config.students.x="{'weight': 1.0}".
_ADDED = ("blend.arms", "datasets", "semi.arms", "students", "subsets", "teachers.alone")


# ---------------------------------------------------------------------------- the file
def _module(file: str):
    """Runs a configuration's file and returns its module."""
    spec = importlib.util.spec_from_file_location("mmvid_configuration", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module that they stand in
    spec.loader.exec_module(module)
    return module


def read(text: str) -> ConfigDict:
    """The configuration of FILE[:VARIANT], locked. Raises WrongUse for a file or a variant that there is not,
    ValueError where the configuration's own code fails."""
    file, variant = usage.parted(text)
    if not file.endswith(".py") or not pathlib.Path(file).is_file():
        raise usage.WrongUse(f"--config={text}: {file} is no file of Python; there are {', '.join(usage.known())}")
    try:
        module = _module(file)
        with usage.wrong_use():  # how a file says which variants it has
            found = module.get_config(*([variant] if variant else []))
        if not isinstance(found, ConfigDict):
            raise TypeError(f"get_config() gives a {type(found).__name__}, not a ConfigDict")
        return found.lock()
    except usage.WrongUse as error:
        raise usage.WrongUse(f"--config={text}: {error}") from error
    except Exception as error:  # whatever the configuration's own code raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"the configuration {file} cannot be read ({reason}): mend it; MMVID_TRACE=1 shows where"
        ) from error


# ---------------------------------------------------------------------------- what is left out
def _of(network: str, output: str) -> bool:
    """Whether an output is one of a network's."""
    return output.partition(".")[0] == network


def _without_teacher(config: ConfigDict, name: str) -> None:
    """Takes a network's outputs off the lists of teachers; a further student of a list on which one stands would
    be another one without it, and goes with it. Raises WrongUse for a list of which nothing would be left."""
    for student in [own for own, spec in config.students.items() if hasattr(spec, "items")]:
        if any(_of(name, output) for output in config.students[student].get("teachers", ())):
            del config.students[student]
    for method, options in config.method.items():
        if isinstance(options, ConfigDict) and (known := options.get("teachers")):
            left = tuple(output for output in known if not _of(name, output))
            if not left:
                raise usage.WrongUse(
                    f"--config.without={name}: it is all of --config.method.{method}.teachers; name others there"
                )
            options.teachers = left


def _left_out(config: ConfigDict) -> ConfigDict:
    """``config`` without the networks of ``config.without``, the streams that only they read, and what is said of
    them elsewhere; that entry is empty then, as if they had never stood in the file. Raises WrongUse for an
    unknown network, and for the one of the headline."""
    if not config.without:
        return config
    names = usage.chosen("--config.without", config.without, config.networks, "networks")
    if any(_of(name, config.headline) for name in names):
        raise usage.WrongUse(
            f"--config.without={config.without}: the run's headline {config.headline!r} is one of its outputs; "
            "name another --config.headline, or leave out others"
        )
    with config.unlocked():
        for name in dict.fromkeys(names):
            read = {stream for together in config.networks[name].reads for stream in together}
            del config.networks[name]
            others = {stream for spec in config.networks.values() for own in spec.reads for stream in own}
            for stream in read - others:
                del config.streams[stream]
            if name in config.teachers.alone:
                del config.teachers.alone[name]
            _without_teacher(config, name)
            config.twin = "" if config.twin == name else config.twin
        config.without = ""
    return config


# ---------------------------------------------------------------------------- what a command line changes
def apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divides arguments into (all others, those that override a configuration). '--config.NAME VALUE' in two
    words stays together."""
    own, overrides, waits = [], [], False
    for word in argv:
        if re.match(r"--?(no)?config\.", word):
            overrides.append(word)
            # '--noconfig.NAME' says false and takes no value.
            waits = "=" not in word and not word.lstrip("-").startswith("no")
        elif waits and not re.match(r"--?[a-zA-Z]", word):
            overrides.append(word)
            waits = False
        else:
            own.append(word)
            waits = False
    return own, overrides


def _grouped(overrides: Sequence[str]) -> list[tuple[str, list[str]]]:
    """[(entry, its words)] of the arguments that `apart` found."""
    found: list[tuple[str, list[str]]] = []
    for word in overrides:
        if match := re.match(r"--?(?:no)?config\.([^=]*)", word):
            found.append((match[1], [word]))
        else:
            found[-1][1].append(word)
    return found


def paths(overrides: Sequence[str]) -> list[str]:
    """The entries that ``overrides`` change, by their paths: 'evaluation.batch_size'."""
    return [path for path, _ in _grouped(overrides)]


def given(overrides: Sequence[str]) -> dict[str, str]:
    """{entry: text of its value} of ``overrides``."""
    found = {}
    for path, words in _grouped(overrides):
        bare = "false" if words[0].lstrip("-").startswith("no") else "true"
        text = words[1] if len(words) > 1 else words[0].partition("=")[2]
        found[path] = text if len(words) > 1 or "=" in words[0] else bare
    return found


def _entries(config: ConfigDict, above: str = "") -> Iterator[str]:
    """Every entry of a configuration by its path, 'schedule.lr'; a part that has entries comes before them."""
    for name in config:
        yield f"{above}{name}"
        if isinstance(config[name], ConfigDict):
            yield from _entries(config[name], f"{above}{name}.")


def _nearest(config: ConfigDict, path: str, depth: int) -> str:
    """The entry that is likely meant by a ``path`` of which no part from ``depth`` on is known; '' where none is
    near."""
    every, parts = list(_entries(config)), path.split(".")
    above, rest = ".".join(parts[:depth]), "".join(f".{part}" for part in parts[depth + 1 :])
    beside = difflib.get_close_matches(parts[depth], config[above] if above else config, 3, 0.7)
    near = [f"{above}.{name}".lstrip(".") for name in beside]
    # A right name in a wrong place: 'lr' is schedule.lr.
    elsewhere = [known for known in every if known.rpartition(".")[2] == parts[-1]]
    whole = [f"{name}{rest}" for name in near if f"{name}{rest}" in every]
    return [*whole, *difflib.get_close_matches(path, elsewhere, 1, 0), *near, ""][0]


def _check_name(config: ConfigDict, path: str) -> None:
    """Raises WrongUse for an entry that the configuration does not have, with the one that is likely meant."""
    holder: Any = config
    parts = path.split(".")
    for depth, part in enumerate(parts):
        where = ".".join(["config", *parts[:depth]])
        # What stands in brackets, as steps['ce'], is ml_collections' own way to write a path.
        if "[" in part:
            return
        if not isinstance(holder, ConfigDict):
            raise usage.WrongUse(f"--config.{path}: {where} is {holder!r}, it has no entries of its own")
        if part not in holder:
            near = _nearest(config, path, depth)
            told = f"did you mean --config.{near}?" if near else f"it has {', '.join(holder) or 'none yet'}"
            raise usage.WrongUse(f"--config.{path}: {where} has no entry {part!r}; {told}")
        holder = holder[part]


def _adds(config: ConfigDict, path: str) -> bool:
    """Whether ``path`` is a new entry of a part that may get some."""
    above, _, name = path.rpartition(".")
    return above in _ADDED and above in set(_entries(config)) and name not in config[above]


def _added(config: ConfigDict, overrides: Sequence[str]) -> list[str]:
    """Adds the entries that are new to ``config``, and returns the other ``overrides``. Raises WrongUse for one
    that is no dict."""
    rest: list[str] = []
    for path, words in _grouped(overrides):
        if not _adds(config, path):
            rest += words
            continue
        above, _, name = path.rpartition(".")
        text = words[1] if len(words) > 1 else words[0].partition("=")[2]
        try:
            value = ConfigDict(ast.literal_eval(text))
        except (AttributeError, SyntaxError, TypeError, ValueError):
            line = f"--config.{path}=\"{{'name': value}}\""
            raise usage.WrongUse(f"{' '.join(words)}: a dict of Python's is expected, as in {line}") from None
        with config.unlocked():
            config[above][name] = value
    return rest


def _applied(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    # Flags of its own: the process's have been parsed already, without these.
    values, argv = flags.FlagValues(), ["mmvid", *overrides]
    holder = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    if rest := values(argv)[1:]:
        raise usage.WrongUse(f"{rest[0]}: write --config.NAME=VALUE, with nothing between them")
    return holder.value


def _expected(config: ConfigDict, path: str, words: Sequence[str]) -> str:
    """Says what an entry takes, by the type and the value that it has."""
    if "[" in path:
        return f"{' '.join(words)} cannot be read: write its path with dots, as in --config.steps.ce=900"
    above, _, name = path.rpartition(".")
    holder = config[above] if above else config
    said = f"{' '.join(words)}: {_KINDS.get(holder.get_type(name), 'another value')} is expected"
    now = holder[name]
    if now is None or isinstance(now, ConfigDict):
        return said
    plain = re.fullmatch(r"[\w.,:/%-]+", str(now))
    example = f"--config.{path}={now}" if plain else f'--config.{path}="{now}"'
    return f"{said}, for instance {example}"


def _parts(config: ConfigDict, overrides: Sequence[str]) -> dict[str, set[str]]:
    """{part: its entries} of the parts that ``overrides`` replace as a whole, but for those that are open."""
    paths_of = [path for path in paths(overrides) if "[" not in path and path not in _OPEN]
    return {path: set(_entries(config[path])) for path in paths_of if isinstance(config[path], ConfigDict)}


def overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """``config`` with the ``overrides`` '--config.NAME=VALUE', and without the networks of --config.without.
    Raises WrongUse for an entry or a network that there is not, or a value of another type."""
    wrong = (flags.Error, AttributeError, IndexError, KeyError, TypeError, ValueError)
    overrides = _added(config, overrides)
    for path in paths(overrides):
        _check_name(config, path)
    before = _parts(config, overrides)
    try:
        found = _applied(config, overrides)
    except usage.WrongUse:
        raise
    except wrong as error:
        # One at a time, to learn which one it was.
        for path, words in _grouped(overrides):
            try:
                _applied(config, words)
            except wrong:
                raise usage.WrongUse(_expected(config, path, words)) from error
        raise usage.WrongUse(usage.of_flags(error)) from error
    for part, entries in _parts(found, overrides).items():
        if lost := sorted(before[part] - entries):
            raise usage.WrongUse(
                f"--config.{part} as a whole would leave out {lost[0]!r}: change its entries one by one, as in "
                f"--config.{part}.{lost[0]}=VALUE"
            )
    return _left_out(found)
