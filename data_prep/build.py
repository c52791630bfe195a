"""Videos and annotations -> a dataset for mmvid.

    python -m data_prep.build --folder my_videos --out data/mine
    python -m data_prep.build --manifest clips.csv --out data/mine
    python -m data_prep.build --dataset ssv2 --annotations LABELS --videos VIDEOS --out data/ssv2
    python -m data_prep.build --dataset nwucla --videos ROOT --out data/nwucla

Stage 1 writes one file a clip, stage 2 packs them; a second run redoes only what is missing.
"""

import argparse
import contextlib
import os
import pathlib
import sys

from data_prep import checks, clips, stages, summary
from data_prep.manifest import Manifest
from data_prep.readers import folder, ntu, nwucla, ssv2, table, uwa3d
from data_prep.tabletop import files, specs
from mmvid.data import records
from mmvid.run import lock

# By --train_views and --test_views; the others by files, subjects or a hash.
BY_VIEW = {"nwucla": nwucla, "uwa3d": uwa3d}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.build", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--manifest", help="CSV: id, path, label or label/<head>, split, depth, flow, ..")
    what.add_argument("--folder", help="a folder of class folders")
    what.add_argument("--dataset", choices=["ssv2", *summary.WITH_DEPTH, "tabletop", "tabletop_stills"])
    add("--out", required=True, type=pathlib.Path, help="where the dataset goes")
    add("--annotations", help="folder of the official label files (ssv2)")
    add("--videos", help="folder of the videos (ssv2), or that holds the archives' own trees")
    add("--train_views", type=_views, help="default 1,2 (nwucla, uwa3d); DMCL's code: 2,3 (nwucla)")
    add("--test_views", type=_views, help="default: all others (nwucla, uwa3d)")
    add("--version", type=int, default=0, choices=ntu.VERSIONS, help="of ntu120_mini")
    add("--size", default="small", choices=sorted(specs.SIZES), help="of tabletop")
    add("--view", default="verb", choices=specs.VIEWS, help="of tabletop")
    add("--seed", type=int, default=0, help="of tabletop")
    add("--flow", choices=clips.FLOWS, help="default: tvl1 (tabletop: tvl1-fast)")
    add("--flow_bound", type=float, help="pixels that map to 0 and 255; default 20 (tabletop: 6)")
    add("--flow_codec", default="png", choices=["png", "jpeg"])
    add("--short_side", type=int, help="pixels, 0 keeps the size; default 256")
    add("--quality", type=int, default=95, help="of JPEG")
    add("--rgb_storage", default="jpeg", choices=["jpeg", "mp4"],
        help="mp4: a fifteenth of the bytes, five times the decoding")  # fmt: skip
    add("--workers", type=int, default=_cores(), help="processes; default: every core")
    add("--strict", action="store_true", help="fail if any clip is rejected")
    add("--beam_options", help="run stage 1 on Beam, e.g. runner=DirectRunner")
    args = parser.parse_args(argv)
    if args.workers < 1 or not 1 <= args.quality <= 100 or (args.short_side or 0) < 0:
        parser.error("--workers is at least 1, --quality 1 to 100, --short_side 0 or more")
    if args.flow_bound is not None and args.flow_bound <= 0:
        parser.error("--flow_bound is a number of pixels greater than 0")
    if (args.train_views or args.test_views) and args.dataset not in BY_VIEW:
        parser.error(f"--train_views and --test_views are of {', '.join(BY_VIEW)}")
    if args.version and args.dataset != "ntu120_mini":
        parser.error("--version is of ntu120_mini")
    return args


def _views(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(view) for view in text.split(",")))


def _cores() -> int:
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tabletop(args) -> Manifest:
    raw = args.out.with_name(args.out.name + "-files")
    if args.dataset == "tabletop_stills":
        made = folder.read(files.write_stills(raw, seed=args.seed))
        items = [i._replace(labels={"noun": i.labels["action"]}) for i in made.items]
        return Manifest("tabletop-stills", items, {"noun": made.heads["action"]})
    # One folder for each, so that another size is not taken for what stands there.
    raw = raw / f"{args.size}-{args.view}-seed{args.seed}-v{files.VERSION}"
    path = files.write(raw, args.size, args.view, seed=args.seed, workers=args.workers)
    name = f"tabletop-{args.size}" + ("" if args.view == "verb" else f"-{args.view}")
    return table.read(path)._replace(name=name)


def _source(args) -> Manifest:
    if args.manifest:
        return table.read(args.manifest)
    if args.folder:
        return folder.read(args.folder)
    if args.dataset == "ssv2":
        if not (args.annotations and args.videos):
            raise ValueError("--dataset ssv2 needs --annotations LABELS and --videos VIDEOS")
        return ssv2.read(args.annotations, args.videos)
    if args.dataset in summary.WITH_DEPTH:
        return _with_depth(args)
    return _tabletop(args)


def _with_depth(args) -> Manifest:
    if not args.videos:
        raise ValueError(f"--dataset {args.dataset} needs --videos ROOT, the folder of the unpacked archives")
    if args.dataset in BY_VIEW:
        train = args.train_views or (1, 2)
        return BY_VIEW[args.dataset].read(args.videos, train_views=train, test_views=args.test_views)
    return ntu.read(args.videos, args.dataset, version=args.version)


def _settings(args) -> clips.Settings:
    # Tabletop is 48 pixels and moves little: a coarser solver and a tighter bound serve it.
    small = args.dataset in ("tabletop", "tabletop_stills")
    default = ("tvl1-fast", 6.0) if small else ("tvl1", 20.0)
    return clips.Settings(
        flow=args.flow or default[0],
        flow_bound=args.flow_bound or default[1],
        flow_codec=args.flow_codec,
        short_side=256 if args.short_side is None else args.short_side,
        quality=args.quality,
        rgb_storage=args.rgb_storage,
    )


# ---------------------------------------------------------------------------- the command
def _packed(root: pathlib.Path, inputs: str) -> records.Info | None:
    """The dataset at ``root`` where it was made from these very inputs."""
    try:
        info = records.open_dataset(root).info
    except (FileNotFoundError, ValueError):
        return None
    # An older mmvid did not ask how far depth reads.
    whole = info.classes and ("depth_range" in info.settings or not summary.has_depth(info))
    return info if info.settings.get("inputs") == inputs and whole else None


def build(args: argparse.Namespace) -> int:
    """Both stages, as far as they are due; prints the summary. Returns the exit code.

    Raises ValueError or FileNotFoundError where there is nothing to build from.
    """
    source, settings = _source(args), _settings(args)
    if args.dataset and any("flow" in item.paths for item in source.items):
        # Beside flow that came with a dataset, computed flow would be another language.
        settings = settings._replace(flow="none")
    notes = [*source.notes, *checks.of_manifest(source)]
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    keys = clips.keys(source.items, settings)
    info, prepared = _packed(args.out, stages.inputs(source, keys)), args.out / "prepared"
    rejected = 0 if info is None else len(source.items) - sum(info.splits.values())
    # Where the prepared clips are gone, retrying the rejected would mean to begin at the beginning.
    if info is None or (rejected and prepared.exists()):
        reasons = stages.stage_one(
            source, keys, settings, prepared, workers=args.workers, beam_options=args.beam_options
        )
        summary.write_rejected(args.out, source, reasons)
        if reasons and args.strict:
            name, reason = next(iter(reasons.items()))
            print(f"data_prep: --strict: {len(reasons)} of {len(source.items)} clips rejected, first "
                  f"{name}: {reason}; all in {args.out / 'rejected.csv'}", file=sys.stderr)  # fmt: skip
            return 1
        if info is None or len(reasons) != rejected:
            info, rejected = stages.stage_two(source, keys, settings, args.out, reasons), len(reasons)
            print(summary.of(info, args.out, notes))
            return 0
    print(summary.of(info, args.out, notes))
    print(f"{args.out} is up to date: nothing to do")
    return 1 if rejected and args.strict else 0


def alone(root: pathlib.Path) -> contextlib.AbstractContextManager:
    """Holds ``root/build.lock``. Where another build holds it, names that one and waits, and so finds the
    work done."""
    root.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        print(f"{line}: waiting for it", file=sys.stderr, flush=True)

    return lock.held(root / "build.lock", str(root), wait=say)


def main(argv: list[str] | None = None) -> int:
    """0 when a dataset is there, 1 when not (or with --strict when a clip is rejected), 130 when
    interrupted."""
    args = parse(argv)
    for stream in (sys.stdout, sys.stderr):
        # What cannot be said in the terminal's alphabet, or in any, must not end the build.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    try:
        with alone(args.out):
            return build(args)
    except (ValueError, OSError) as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is prepared is kept, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
