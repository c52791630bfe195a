"""The text of --help, on all configurations or on one of them, and how a program ends that was told something
wrong."""

import argparse
import ast
import contextlib
import errno
import os
import pathlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from absl import flags

HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "--helpfull"}
WIDTH = 79
EXAMPLE = "python -m mmvid train --config=configs/mml.py:smoke --workdir=runs/smoke"
_OVERRIDES = """\
Anything in a configuration can be overridden on the command line, by its path:
  --config.seed=1 --config.batch_size=8
  --config.networks.rgb.weights=resnet50.safetensors
  --config.evaluation.splits="('val',)"   values are Python's
  --config.without=flow,depth             networks that are left out
A misspelt name is an error. All names stand, with their defaults, in
configs/common.py."""


class WrongUse(ValueError):
    """Raised for a command line that cannot be meant as it stands; the message says what can be."""


class Damaged(ValueError):
    """Raised for a file whose content is broken: whoever named it has made no mistake."""


@contextlib.contextmanager
def wrong_use() -> Iterator[None]:
    """Makes every ValueError of the block one of wrong use, but for those of a damaged file."""
    try:
        yield
    except Damaged:
        raise
    except ValueError as error:
        raise WrongUse(str(error)) from error


class Parser(argparse.ArgumentParser):
    """A parser whose --help is a docstring as it stands, and whose errors are short: what is wrong, the example
    in that docstring, and where to read more."""

    def __init__(self, program: str, about: str, **options):
        super().__init__(
            program,
            description=about,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Prints ``message`` and ends the process with exit code 2."""
        # All of argparse's own usage, on ten lines, would hide what is wrong.
        lines = (line.strip() for line in (self.description or "").splitlines())
        example = next((line for line in lines if line.startswith("python -m")), "")
        print(f"\n{self.prog}: {message}", file=sys.stderr)
        print(
            *(["for instance: " + example] if example else []),
            f"more: {self.prog.split(' --')[0]} --help",
            sep="\n",
            file=sys.stderr,
        )
        sys.exit(2)


def scheme(text: str) -> str:
    """The scheme of a path such as gs://bucket/run, 'gs'; '' for a path on a disk."""
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", text)
    return found[1] if found else ""


def on_disk(text: str) -> pathlib.Path:
    """The path that an argument names. Raises ArgumentTypeError for one in a bucket, which pathlib would take for
    a folder 'gs:' here."""
    if scheme(text):
        raise argparse.ArgumentTypeError(
            f"{text} is in a bucket, where runs, weights and what they are trained on can be, and nothing else: "
            "name a folder on a disk, or mount the bucket (gcsfuse, rclone; docs/scale.md)"
        )
    return pathlib.Path(text)


class InBucket(NamedTuple):
    """A run in a bucket as an argument names it: ``of(folder + rest)`` is what it is once the run has a copy in a
    ``folder`` of this machine."""

    url: str
    rest: str = ""
    of: Callable = pathlib.Path


def a_run(text: str) -> pathlib.Path | InBucket:
    """The run that an argument names, on a disk or in a bucket."""
    return InBucket(text) if scheme(text) else pathlib.Path(text)


def a_part(text: str) -> str | InBucket:
    """What an argument names of a run on a disk or in a bucket: RUN or RUN:OUTPUT."""
    if not scheme(text):
        return text
    url, colon, output = text.rpartition(":")
    return InBucket(url, colon + output, str) if scheme(url) else InBucket(text, of=str)


def check_on_disk(flag: str, text: str) -> None:
    """Raises WrongUse where ``text``, which ``flag`` gives, is a path in a bucket."""
    try:
        on_disk(text)
    except argparse.ArgumentTypeError as error:
        raise WrongUse(f"{flag}: {error}") from None


def check_folder(flag: str, path: pathlib.Path) -> None:
    """Raises WrongUse where ``path``, which ``flag`` names, cannot become a folder: it is a file, or lies in
    one."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise WrongUse(f"{flag}={path}: {place} is a file; name a folder, which need not exist yet")


def listed(text: str | None) -> list[str]:
    """The names of 'A,B'; [] for None or an empty text."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def chosen(flag: str, text: str, known: Iterable[str], what: str) -> list[str]:
    """The names of ``text``, 'A,B', which ``flag`` gives. Raises WrongUse where one of them is none of the
    ``known``, which are ``what``, or where there is no name at all."""
    names, known = listed(text), list(known)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        problem = f"there is no {unknown[0]!r}" if unknown else "it names nothing"
        raise WrongUse(f"{flag}={text}: {problem}; the {what} are {', '.join(known) or 'none'}")
    return names


# ---------------------------------------------------------------------------- configurations
def asked(argv: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return bool(HELP & set(argv[1:]))


def parted(text: str) -> tuple[str, str]:
    """Divides FILE:VARIANT into its two parts; the variant is '' where none is named."""
    file, _, variant = text.rpartition(":")
    # 'C:\mine.py' has a colon of its own.
    return (file, variant) if file and "/" not in variant and "\\" not in variant else (text, "")


def _config(argv: Sequence[str]) -> str:
    """The file of --config=FILE:VARIANT or --config FILE; '' where none is given."""
    for i, argument in enumerate(argv):
        name, given, value = argument.partition("=")
        if name in ("--config", "-config"):
            value = value if given else "".join(a for a in argv[i + 1 : i + 2] if a not in HELP)
            return parted(value)[0]
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


def known() -> dict[str, str]:
    """{file: the first line of its docstring} of the configurations that there are."""
    texts = {path.as_posix(): _docstring(path) for path in sorted(folder().glob("*.py"))}
    # A configuration shows how it is given to a program; the other files of the folder do not.
    return {path: text.splitlines()[0] for path, text in texts.items() if "--config=" in text}


def _flags(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        flag = flags.FLAGS[name]
        default = f" (default {flag.default!r})" if flag.default not in (None, "", []) else ""
        yield folded(f"  --{name:12s} ", f"{flag.help}{default}")


def folded(head: str, text: str) -> str:
    """``head`` and ``text`` on lines of at most `WIDTH` characters; what does not fit stands below the text."""
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


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
            "python -m mmvid train --config=FILE[:VARIANT] [--workdir=FOLDER]",
            "                      [--config.NAME=VALUE ...]",
            "",
            "Trains what a configuration describes and writes its report; the same command",
            "resumes. For example:",
            "",
            f"  {EXAMPLE}",
            "",
            "configurations (add --help to one for its variants and expected times):",
            *(line for path, about in known().items() for line in (f"  --config={path}", folded("      ", about))),
        ]
    return "\n".join([*lines, "", _OVERRIDES, "", "flags:", *_flags(names)])


def check_given(**values: str | None) -> None:
    """Raises WrongUse where one of the flags ``values`` is not given."""
    if missing := [f"--{name}" for name, value in values.items() if not value]:
        raise WrongUse(
            f"{' and '.join(missing)} must be given\nfor instance: {EXAMPLE}\n"
            f"configurations: {', '.join(known())}\nmore: python -m mmvid train --help"
        )


# ---------------------------------------------------------------------------- how a program ends
_FULL = "The disk is full"


def explained(error: Exception) -> str:
    """The message of an error, with what to do, once, where it is the system's: a full disk, a lacking right."""
    number, text = getattr(error, "errno", None), str(error)
    # Orbax hands on what the system said as text alone.
    if (number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in text) and _FULL not in text:
        return f"{text}. {_FULL}: make room, then give the same command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{text}. This user may not write there: name another folder, or have it handed over"
    return text


def of_flags(error: flags.Error) -> str:
    """Says in one line what is wrong with a flag, from the error that absl raised."""
    line = str(error).strip().splitlines()[-1].strip()
    return re.sub(r"(invalid literal for int|could not convert).*", "a whole number is expected", line)


def fail(error: BaseException, message: str, code: int) -> NoReturn:
    """Prints ``message`` and ends the process with exit code ``code``. A stack trace would hide what the message
    says to do; with MMVID_TRACE=1 the ``error`` is raised, and shows its own."""
    if os.environ.get("MMVID_TRACE"):
        raise error
    print(f"\nmmvid: {message}", file=sys.stderr)
    sys.exit(code)
