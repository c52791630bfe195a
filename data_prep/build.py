"""Videos and annotations -> a dataset for mmvid.

    python -m data_prep.build --folder my_videos --out data/mine
    python -m data_prep.build --manifest clips.csv --out data/mine
    python -m data_prep.build --dataset ssv2 --annotations LABELS --videos VIDEOS --out data/ssv2
    python -m data_prep.build --dataset nwucla --videos ROOT --out data/nwucla

Stage 1 writes one file a clip, stage 2 packs them; a second run redoes only what is missing.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import pathlib
import sys

from tqdm import tqdm

from data_prep import checks, clips, folder, ntu, nwucla, ssv2, summary, table, uwa3d
from data_prep.manifest import Item, Manifest
from mmvid import lock
from mmvid.data import decode, records, tabletop

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
    add("--size", default="small", choices=sorted(tabletop.SIZES), help="of tabletop")
    add("--view", default="verb", choices=tabletop.VIEWS, help="of tabletop")
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
        made = folder.read(tabletop.write_stills(raw, seed=args.seed))
        items = [i._replace(labels={"noun": i.labels["action"]}) for i in made.items]
        return Manifest("tabletop-stills", items, {"noun": made.heads["action"]})
    # One folder for each, so that another size is not taken for what stands there.
    raw = raw / f"{args.size}-{args.view}-seed{args.seed}-v{tabletop.VERSION}"
    path = tabletop.write(raw, args.size, args.view, seed=args.seed, workers=args.workers)
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


# ---------------------------------------------------------------------------- stage 1
def _start_worker(cache: str) -> None:
    """A worker uses one core: the pool is the parallelism. Must run before JAX starts."""
    os.environ.update(NPROC="1", OMP_NUM_THREADS="1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # TV-L1 takes seconds to compile for every size of frame: once for all workers and runs.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def _pool(
    jobs: list[tuple[Item, str]], settings, directory: pathlib.Path, workers: int
) -> None:
    context = multiprocessing.get_context("spawn")  # JAX must not be forked
    setup = (context, _start_worker, (str(directory / "jax-cache"),))
    bar = tqdm(total=len(jobs), desc="decode, flow", unit="clip", dynamic_ncols=True)
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(jobs)), *setup)
    refused = 0
    try:
        futures = [pool.submit(clips.write, *job, settings, directory) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            refused += bool(future.result())
            bar.set_postfix(rejected=refused, refresh=False)
            bar.update()
    except concurrent.futures.process.BrokenProcessPool:
        raise ValueError(
            "a worker process died, which mostly means that memory ran out. What is prepared is "
            f"kept: run the same command with --workers {max(workers // 2, 1)}"
        ) from None
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)


def stage_one(
    source: Manifest, keys: dict[str, str], settings: clips.Settings, directory: pathlib.Path, *,
    workers: int = 2, beam_options: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Prepares every clip that is missing into ``directory``, and tries again what was rejected;
    returns {id: reason} of those rejected, for their labels too. ``keys`` from clips.keys."""
    reasons = {}
    for item in source.items:
        try:
            clips.encode_labels(item, source.heads)
        except decode.DecodeError as error:
            reasons[item.id] = str(error)
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.tmp"):
        stale.unlink()
    there = set(os.listdir(directory))
    wanted = [(i, keys[i.id]) for i in source.items if i.id not in reasons]
    jobs = [(item, key) for item, key in wanted if f"{key}.pkl" not in there]
    if jobs and beam_options is not None:
        from data_prep import beam

        beam.run(jobs, settings, directory, beam_options)
    elif jobs:
        _pool(jobs, settings, directory, workers)
    there = set(os.listdir(directory))
    return reasons | {
        item.id: (directory / f"{key}.rejected").read_text("utf-8")
        for item, key in wanted if f"{key}.pkl" not in there
    }  # fmt: skip


# ---------------------------------------------------------------------------- stage 2
def _write_json(path: pathlib.Path, value) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, path)


def stage_two(
    source: Manifest, keys: dict[str, str], settings: clips.Settings, root: pathlib.Path,
    reasons: dict[str, str],
) -> records.Info:  # fmt: skip
    """Packs what is prepared into ``root``. metadata.json comes last: without it there is no dataset.

    Raises ValueError where no clip is left.
    """
    from data_prep import builder

    files: dict[str, list[tuple[pathlib.Path, dict]]] = {}
    for item in sorted(source.items, key=lambda item: (item.split, item.id)):
        if item.id not in reasons:
            path = root / "prepared" / f"{keys[item.id]}.pkl"
            labels = clips.encode_labels(item, source.heads)
            files.setdefault(item.split, []).append((path, {"split": item.split, "label": labels}))
    if not files:
        raise ValueError(f"no clip could be used; the reasons are in {root / 'rejected.csv'}")
    notes: list[str] = []
    rows = builder.pack(files, source.heads, root, lambda rows: notes.extend(_found_in(rows, source.heads)))
    modalities, classes = builder.count(rows, source.heads)
    heads = {
        name: {"classes": len(s["names"]), "kind": s["kind"], "names": s["names"]}
        for name, s in source.heads.items()
    }
    _, height, width, fps = collections.Counter((0, *row.shape[1:]) for row in rows).most_common(1)[0][0]
    stored = settings._asdict()
    further = {"inputs": _inputs(source, keys)} | _depth_range(files, rows) | ({"notes": notes} if notes else {})
    info = records.Info(
        name=source.name, version=records.SCHEMA, heads=heads,
        splits={split: len(paths) for split, paths in files.items()},
        expected=dict(collections.Counter(item.split for item in source.items)),
        modalities=modalities,
        fingerprint=records.fingerprint([[r.id, r.split, r.labels, r.shape[0], r.checksum] for r in rows], stored),
        height=height, width=width, fps=fps, settings=stored | further,
        classes=classes,
    )  # fmt: skip
    _write_json(root / "index.json", {s: [r.id for r in rows if r.split == s] for s in files})
    _write_json(root / "metadata.json", info._asdict())
    return info


def _found_in(facts: list, heads: dict[str, dict]) -> list[str]:
    """What the packed clips tell of their labels and splits. Raises ValueError where a score would be false."""
    from data_prep import builder

    def classes(head, value):
        spec = heads[head]
        return tuple(spec["names"][i] for i in builder.classes_of(value, spec["kind"]))

    rows = [
        checks.Row(f.id, f.split, {h: classes(h, v) for h, v in f.labels.items()}, f.content) for f in facts
    ]
    return checks.of_clips(rows, heads)


def _depth_range(files: dict[str, list], rows: list) -> dict[str, list[float]]:
    """What the loader maps to 1..255, from training clips (any, where none is called so); {} where
    there is no depth."""
    from data_prep import builder

    having = {row.id for row in rows if "depth" in row.modalities}
    ids = {split: [row.id for row in rows if row.split == split] for split in files}
    with_depth = {
        split: [path for (path, _), name in zip(files[split], ids[split]) if name in having]
        for split in files
    }  # fmt: skip
    chosen = with_depth.get("train") or [path for paths in with_depth.values() for path in paths]
    return {"depth_range": list(builder.depth_range(chosen))} if chosen else {}


def _inputs(source: Manifest, keys: dict[str, str]) -> str:
    """Sixteen digits that change with any clip, label, split, class or setting."""
    rows = sorted([keys[i.id], i.split, i.labels] for i in source.items)
    text = json.dumps([rows, source.heads], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    info, prepared = _packed(args.out, _inputs(source, keys)), args.out / "prepared"
    rejected = 0 if info is None else len(source.items) - sum(info.splits.values())
    # Where the prepared clips are gone, retrying the rejected would mean to begin at the beginning.
    if info is None or (rejected and prepared.exists()):
        reasons = stage_one(
            source, keys, settings, prepared, workers=args.workers, beam_options=args.beam_options
        )
        summary.write_rejected(args.out, source, reasons)
        if reasons and args.strict:
            name, reason = next(iter(reasons.items()))
            print(f"data_prep: --strict: {len(reasons)} of {len(source.items)} clips rejected, first "
                  f"{name}: {reason}; all in {args.out / 'rejected.csv'}", file=sys.stderr)  # fmt: skip
            return 1
        if info is None or len(reasons) != rejected:
            info, rejected = stage_two(source, keys, settings, args.out, reasons), len(reasons)
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
