"""The text of --help, on all configurations or on one of them, and how a program ends that was told something
wrong."""

import ast
import errno
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from absl import flags

HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "--helpfull"}
_OVERRIDES = """\
Anything in a configuration can be overridden on the command line, each by its path in the file:
  --config.seed=1 --config.batch_size=8 --config.networks.rgb.weights=resnet50.safetensors
  --config.evaluation.splits="('val',)"   values are Python's; a misspelt name is an error
All of them stand, with their defaults, in configs/common.py."""


class WrongUse(ValueError):
    """Raised for a command line that cannot be meant as it stands; the message says what can be."""


def asked(argv: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return bool(HELP & set(argv[1:]))


def _config(argv: Sequence[str]) -> str:
    """The file of --config=FILE:VARIANT or --config FILE; '' where none is given."""
    for i, argument in enumerate(argv):
        name, given, value = argument.partition("=")
        if name in ("--config", "-config"):
            value = value if given else "".join(a for a in argv[i + 1 : i + 2] if a not in HELP)
            # 'C:\mine.py' has a colon of its own.
            file, _, variant = value.rpartition(":")
            return file if file and "/" not in variant and "\\" not in variant else value
    return ""


def _docstring(path: pathlib.Path) -> str:
    """The docstring of a file of Python, '' where it has none or cannot be read."""
    # Parsed, not run: a configuration that fails still has a help to show.
    try:
        return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (OSError, ValueError, SyntaxError):
        return ""


def folder() -> pathlib.Path:
    """The folder of the configurations: 'configs' in the current folder, else the one beside this package."""
    here = pathlib.Path("configs")
    return here if here.is_dir() else pathlib.Path(__file__).resolve().parents[1] / "configs"


def _known() -> Iterator[str]:
    for path in sorted(folder().glob("*.py")):
        text = _docstring(path)
        # A configuration shows how it is given to a program; the other files of the folder do not.
        if "--config=" in text:
            yield f"  --config={path.as_posix():24s} {text.splitlines()[0]}"


def _flags(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        flag = flags.FLAGS[name]
        default = f" (default {flag.default!r})" if flag.default not in (None, "") else ""
        yield f"  --{name:14s} {flag.help}{default}"


def text(argv: Sequence[str], names: Sequence[str]) -> str:
    """The text of --help: the docstring of the configuration that ``argv`` names, else a list of all; then how
    entries are overridden, and the flags ``names``."""
    file = _config(argv)
    if about := file and _docstring(pathlib.Path(file)):
        lines = [about.strip()]
    else:
        missing = [f"{file}: there is no such file, or it says nothing of itself", ""]
        lines = [
            *(missing if file else ()),
            "python -m mmvid train --config=FILE[:VARIANT] --workdir=FOLDER [--config.NAME=VALUE ...]",
            "", "Trains what a configuration describes and writes its report; the same command resumes.",
            "", "configurations (add --help to one to see its variants, commands and expected times):",
            *_known(),
        ]  # fmt: skip
    return "\n".join([*lines, "", _OVERRIDES, "", "flags:", *_flags(names)])


# ---------------------------------------------------------------------------- how a program ends
def explained(error: Exception) -> str:
    """The message of an error, with what to do where it is the system's, of a full disk or a lacking right."""
    number, text = getattr(error, "errno", None), str(error)
    # Orbax hands on what the system said as text alone.
    if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in text:
        return f"{text}. The disk is full: make room, then the same command goes on from the last checkpoint"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{text}. This user may not write there: give another --workdir, or have it handed over"
    return text


def no_override(error: Exception) -> str:
    """Says in one line what is wrong with a --config.NAME=VALUE, from the error that config_flags raised."""
    return "cannot override " + " ".join(str(error.args[0]).split("\n"))


def fail(error: BaseException, message: str, code: int) -> NoReturn:
    """Prints ``message`` and ends the process with exit code ``code``. A stack trace would hide what the message
    says to do; with MMVID_TRACE=1 the ``error`` is raised, and shows its own."""
    if os.environ.get("MMVID_TRACE"):
        raise error
    print(f"\nmmvid: {message}", file=sys.stderr)
    sys.exit(code)
