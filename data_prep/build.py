"""Videos and annotations -> a dataset for mmvid.

    python -m data_prep.build --folder my_videos --out data/mine
    python -m data_prep.build --manifest clips.csv --out data/mine
    python -m data_prep.build --dataset nwucla --videos ROOT --out data/nwucla

Every --dataset has flags of its own, which stand at the end. Phase 1 writes one
file a clip, phase 2 packs them; a second run redoes only what is missing.
"""

import argparse
import contextlib
import os
import pathlib
import sys

from data_prep import checks, clips, phases, readers, summary
from data_prep.manifest import Manifest
from data_prep.readers import OWN_FILES, READERS, Reader
from mmvid import lock, usage
from mmvid.data.media import record

PROGRAM = "python -m data_prep.build"


# ---------------------------------------------------------------------------- the command line
def _listed() -> str:
    """Lists for --help every dataset with its line, the flags that are its own and its defaults."""
    lines = ["datasets, and the flags that are theirs alone:"]
    for name, row in READERS.items():
        lines.append(usage.folded(f"  {name:16s} ", row.about))
        for flag, options in row.flags.items():
            choices = f" ({', '.join(map(str, options['choices']))})" if "choices" in options else ""
            default = f"; default {options['default']}" if "default" in options else ""
            lines.append(usage.folded(f"    {flag:15s}  ", f"{options['help']}{choices}{default}"))
        if row.stored:
            told = " ".join(f"--{field} {value}" for field, value in row.stored.items())
            lines.append(usage.folded("    by default       ", told))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    """Makes the parser of the flags that every dataset has."""
    # No field of `record.Settings` has a default here, so that `_settings` can tell which ones were given.
    usual = record.Settings()
    which = " | ".join([*(f"--{name} PATH" for name in OWN_FILES), "--dataset NAME"])
    line = f"{PROGRAM} --out OUT\n  ({which}) [FLAG ...]"
    parser = usage.Parser(PROGRAM, __doc__, epilog=_listed(), usage=line)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    for name, row in OWN_FILES.items():
        what.add_argument(f"--{name}", metavar="PATH", help=row.about)
    what.add_argument("--dataset", choices=READERS, metavar="NAME", help="one of those below")
    add("--out", required=True, type=usage.on_disk, help="where the dataset goes")
    add("--flow", choices=record.FLOWS, help=f"default {usual.flow}")
    add("--flow_bound", type=float, help=f"pixels that map to 0 and 255; default {usual.flow_bound:g}")
    add("--flow_codec", choices=["png", "jpeg"], help=f"default {usual.flow_codec}")
    add("--short_side", type=int, help=f"pixels, 0 keeps the size; default {usual.short_side}")
    add("--quality", type=int, help=f"of JPEG; default {usual.quality}")
    add(
        "--rgb_storage",
        choices=["jpeg", "mp4"],
        help=f"mp4: a fifteenth of the bytes, five times the decoding; default {usual.rgb_storage}",
    )
    add("--audio_rate", type=int, metavar="HZ", help=f"samples a second; default {usual.audio_rate}")
    add("--workers", type=int, default=_cores(), help="processes; default: every core")
    add("--strict", action="store_true", help="fail if any clip is rejected")
    add("--beam_options", help="run phase 1 on Beam, e.g. runner=DirectRunner")
    return parser


def _check_numbers(args: argparse.Namespace) -> None:
    """Raises WrongUse for a number that is out of range."""
    if args.workers < 1 or (args.short_side or 0) < 0 or not (args.quality is None or 1 <= args.quality <= 100):
        raise usage.WrongUse("--workers is at least 1, --quality 1 to 100, --short_side 0 or more")
    if args.flow_bound is not None and not 0 < args.flow_bound < float("inf"):
        raise usage.WrongUse("--flow_bound is a number of pixels greater than 0")
    if args.audio_rate is not None and args.audio_rate < 1:
        raise usage.WrongUse("--audio_rate is a number of samples a second, 16000 or 24000")


def _check_inputs(args: argparse.Namespace) -> None:
    """Raises WrongUse where a flag names a file or folder to read that is not there."""
    for flag in ("manifest", "folder", "videos", "annotations"):
        path, what = getattr(args, flag, None), "file" if flag == "manifest" else "folder"
        usage.check_on_disk(f"--{flag}", str(path or ""))
        there = path is None or (pathlib.Path(path).is_dir() if what == "folder" else pathlib.Path(path).exists())
        if not there:
            raise usage.WrongUse(f"--{flag} {path}: there is no such {what}")


def _own_parser(args: argparse.Namespace) -> usage.Parser:
    """Makes the parser of the flags that only the named dataset has."""
    flags = readers.chosen(args).flags
    named = {flag: options.get("metavar", "VALUE") for flag, options in flags.items() if options.get("required")}
    needed = [f"{flag} {value}" for flag, value in named.items()]
    program = f"{PROGRAM} --dataset {args.dataset}"
    own = usage.Parser(program, " ".join([program, *needed, f"--out data/{args.dataset}"]), add_help=False)
    for flag, options in flags.items():
        own.add_argument(flag, **options)
    return own


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line: first the flags that every dataset has, then those of the one that is named. Ends
    the process with exit code 2 where it is wrong."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    try:
        _check_numbers(args)
        usage.check_folder("--out", args.out)
    except usage.WrongUse as error:
        parser.error(str(error))
    args, unknown = _own_parser(args).parse_known_args(rest, args)
    # A flag of another dataset is a likelier mistake than one that there is not: it is named with its owners.
    for word in unknown:
        flag = word.partition("=")[0]
        if owners := [name for name, row in READERS.items() if flag in row.flags]:
            parser.error(f"{flag} is of --dataset {', '.join(owners)}")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _cores() -> int:
    """Counts the cores that this process may use."""
    # A container or a scheduler often allows fewer than the machine has; not every system tells.
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings(args: argparse.Namespace, reader: Reader, source: Manifest) -> record.Settings:
    """Decides how clips are stored: as the command line says, else the dataset's row, else `record.Settings`."""
    given = {name: getattr(args, name, None) for name in record.Settings._fields}
    given = {name: value for name, value in given.items() if value is not None}
    settings = record.Settings(**reader.stored | given)
    if args.dataset and any("flow" in item.paths for item in source.items):
        # Beside flow that came with a dataset, computed flow would be another language.
        return settings._replace(flow="none")
    return settings


# ---------------------------------------------------------------------------- the command
def build(args: argparse.Namespace) -> int:
    """Runs both phases as far as they are due, and prints the summary. Returns the exit code.

    Raises ValueError or FileNotFoundError where there is nothing to build from.
    """
    reader = readers.chosen(args)
    source = reader.read(args)
    settings = _settings(args, reader, source)
    notes = [*source.notes, *checks.of_manifest(source)]
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    keys = clips.keys(source.items, settings)
    info, prepared = phases.packed(args.out, phases.inputs(source, keys)), args.out / "prepared"
    rejected = 0 if info is None else len(source.items) - sum(info.splits.values())
    # Where the prepared clips are gone, retrying the rejected would mean to begin at the beginning.
    if info is None or (rejected and prepared.exists()):
        reasons = phases.prepare_clips(
            source, keys, settings, prepared, workers=args.workers, beam_options=args.beam_options
        )
        summary.write_rejected(args.out, source, reasons)
        # A clip may be in two splits.
        refused = sum(item.id in reasons for item in source.items)
        if reasons and args.strict:
            first = next(iter(reasons))
            print(
                f"data_prep: --strict: {refused} of {len(source.items)} clips rejected, first "
                f"{first}: {reasons[first]}; all in {args.out / 'rejected.csv'}",
                file=sys.stderr,
            )
            return 1
        # As many rejected as before: the retry changed nothing, and what is packed stays.
        if info is None or refused != rejected:
            info = phases.pack_dataset(source, keys, settings, args.out, reasons)
            print(summary.of(info, args.out, reader, notes))
            return 0
    print(summary.of(info, args.out, reader, notes))
    print(f"{args.out} is up to date: nothing to do")
    return 1 if rejected and args.strict else 0


def alone(root: pathlib.Path) -> contextlib.AbstractContextManager:
    """Holds ``root/build.lock``, so that one build at a time writes into ``root``. Where another one holds it,
    this one says so and waits, and then finds the work done."""
    root.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        print(f"{line}: waiting for it", file=sys.stderr, flush=True)

    return lock.held(root / "build.lock", str(root), wait=say)


def main(argv: list[str] | None = None) -> int:
    """Builds what the command line asks for. Returns 0 when the dataset is there, 1 when it is not (with --strict
    also when a clip is rejected), 2 when the command line is wrong, and 130 when interrupted."""
    args = parse(argv)
    for stream in (sys.stdout, sys.stderr):
        # What cannot be said in the terminal's alphabet, or in any, must not end the build.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_inputs(args)
        with alone(args.out):
            return build(args)
    except (ValueError, OSError) as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 2 if isinstance(error, usage.WrongUse) else 1
    except KeyboardInterrupt:
        print("interrupted: what is prepared is kept, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
