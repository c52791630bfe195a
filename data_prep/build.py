"""Videos and annotations -> a dataset for mmvid.

    python -m data_prep.build --folder my_videos --out data/mine
    python -m data_prep.build --manifest clips.csv --out data/mine
    python -m data_prep.build --dataset ssv2 --annotations LABELS --videos VIDEOS --out data/ssv2

Stage 1 writes one file a clip, stage 2 packs them; a second run redoes only what is missing.
"""

import argparse
import collections
import concurrent.futures
import csv
import hashlib
import json
import multiprocessing
import os
import pathlib
import pickle
import shutil
import sys

from tqdm import tqdm

from data_prep import clips, manifest, ssv2
from data_prep.manifest import Item, Manifest
from mmvid.data import records, tabletop


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.build", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--manifest", help="CSV: id, path, label or label/<head>, split, start, end")
    what.add_argument("--folder", help="a folder of class folders")
    what.add_argument("--dataset", choices=["ssv2", "tabletop", "tabletop_stills"])
    add("--out", required=True, type=pathlib.Path, help="where the dataset goes")
    add("--annotations", help="folder of the official label files (ssv2)")
    add("--videos", help="folder of the videos (ssv2)")
    add("--size", default="small", choices=sorted(tabletop.SIZES), help="of tabletop")
    add("--view", default="verb", choices=tabletop.VIEWS, help="of tabletop")
    add("--seed", type=int, default=0, help="of tabletop")
    add("--flow", choices=["tvl1", "tvl1-fast", "dis", "none"], help="default: tvl1")
    add("--flow_bound", type=float, help="pixels that map to 0 and 255; default 20")
    add("--flow_codec", default="png", choices=["png", "jpeg"])
    add("--short_side", type=int, help="pixels, 0 keeps the size; default 256")
    add("--quality", type=int, default=95, help="of JPEG")
    add("--rgb_storage", default="jpeg", choices=["jpeg", "mp4"],
        help="mp4: a fifteenth of the bytes, five times the decoding")  # fmt: skip
    add("--workers", type=int, default=os.cpu_count(), help="processes")
    add("--strict", action="store_true", help="fail if any clip is rejected")
    add("--beam_options", help="run stage 1 on Beam, e.g. runner=DirectRunner")
    return parser.parse_args(argv)


def _source(args) -> Manifest:
    if args.manifest:
        return manifest.from_csv(args.manifest)
    if args.folder:
        return manifest.from_folder(args.folder)
    if args.dataset == "ssv2":
        if not (args.annotations and args.videos):
            raise ValueError("--dataset ssv2 needs --annotations LABELS and --videos VIDEOS")
        return ssv2.read(args.annotations, args.videos)
    raw = args.out.with_name(args.out.name + "-files")
    if args.dataset == "tabletop":
        path = tabletop.write(raw, args.size, args.view, seed=args.seed, workers=args.workers)
        made = manifest.from_csv(path)
        return made._replace(name=f"tabletop-{args.size}")
    made = manifest.from_folder(tabletop.write_stills(raw, seed=args.seed))
    return made._replace(name="tabletop-stills", heads={"noun": made.heads["action"]}, items=[
        i._replace(labels={"noun": i.labels["action"]}) for i in made.items
    ])  # fmt: skip


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
def _one_thread() -> None:
    """A worker uses one core: the pool is the parallelism. Must run before JAX starts."""
    os.environ.update(NPROC="1", OMP_NUM_THREADS="1", JAX_PLATFORMS="cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def _pool(items: list[Item], settings, heads, directory: pathlib.Path, workers: int) -> None:
    context = multiprocessing.get_context("spawn")  # JAX must not be forked
    with concurrent.futures.ProcessPoolExecutor(workers, context, _one_thread) as pool:
        jobs = [pool.submit(clips.write, item, settings, heads, directory) for item in items]
        bar = tqdm(total=len(jobs), desc="decode, flow", unit="clip", dynamic_ncols=True)
        try:
            for job in concurrent.futures.as_completed(jobs):
                job.result()
                bar.update()
        finally:
            bar.close()
            pool.shutdown(cancel_futures=True)


def stage_one(
    source: Manifest, settings: clips.Settings, directory: pathlib.Path, *, workers: int = 2,
    beam_options: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Prepares every clip that is missing; returns {id: reason} of those rejected."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.tmp"):
        stale.unlink()
    keys = {item.id: clips.key(item, settings, source.heads) for item in source.items}
    missing = [
        item for item in source.items
        if not (directory / f"{keys[item.id]}.pkl").exists()
        and not (directory / f"{keys[item.id]}.rejected").exists()
    ]  # fmt: skip
    if missing and beam_options is not None:
        from data_prep import beam

        beam.run(missing, settings, source.heads, directory, beam_options)
    elif missing:
        _pool(missing, settings, source.heads, directory, min(workers, len(missing)))
    reasons = {}
    for item in source.items:
        refused = directory / f"{keys[item.id]}.rejected"
        if refused.exists():
            reasons[item.id] = refused.read_text()
    return reasons


# ---------------------------------------------------------------------------- stage 2
def _counts(files: dict[str, list[pathlib.Path]]) -> tuple[dict, list, collections.Counter, tuple]:
    """One pass over the prepared clips: modalities, fingerprint rows, classes, sizes."""
    modalities = {split: collections.Counter() for split in files}
    rows, classes, shapes = [], collections.Counter(), collections.Counter()
    for split, paths in files.items():
        for path in paths:
            record = pickle.loads(path.read_bytes())
            for field in ("rgb", "flow", "depth", "audio", "boxes"):
                modalities[split][field] += int(records.present(record, field))
            labels = {k: v.tolist() for k, v in record["label"].items()}
            rows.append([record["id"], split, labels, record["num_frames"]])
            for head, value in labels.items():
                ids = [value] if isinstance(value, int) else [i for i, v in enumerate(value) if v]
                classes.update((head, i) for i in ids)
            shapes[record["height"], record["width"], round(record["fps"], 3)] += 1
    return {k: dict(v) for k, v in modalities.items()}, rows, classes, shapes.most_common(1)[0][0]


def _write_json(path: pathlib.Path, value) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False))
    os.replace(temporary, path)


def stage_two(source: Manifest, settings, root: pathlib.Path, reasons: dict[str, str]):
    """Packs what is prepared; returns (Info, class counts). metadata.json comes last."""
    from data_prep import builder

    directory = root / "work"
    files: dict[str, list[pathlib.Path]] = {}
    ids: dict[str, list[str]] = {}
    for item in sorted(source.items, key=lambda item: (item.split, item.id)):
        if item.id not in reasons:
            path = directory / f"{clips.key(item, settings, source.heads)}.pkl"
            files.setdefault(item.split, []).append(path)
            ids.setdefault(item.split, []).append(item.id)
    if not files:
        raise ValueError(f"no clip could be used; the reasons are in {root / 'rejected.csv'}")
    shutil.rmtree(root / records.TFDS_NAME, ignore_errors=True)
    builder.pack(files, source.heads, root)
    modalities, rows, classes, (height, width, fps) = _counts(files)
    heads = {
        name: {"classes": len(s["names"]), "kind": s["kind"], "names": s["names"]}
        for name, s in source.heads.items()
    }
    info = records.Info(
        name=source.name, version=records.SCHEMA, heads=heads,
        splits={k: len(v) for k, v in files.items()},
        expected=dict(collections.Counter(item.split for item in source.items)),
        modalities=modalities, fingerprint=records.fingerprint(rows, settings._asdict()),
        height=height, width=width, fps=fps,
        settings=settings._asdict() | {"inputs": _inputs(source, settings)},
    )  # fmt: skip
    _write_index(root, files, ids)
    _write_json(root / "metadata.json", info._asdict())
    return info, classes


def _write_index(root: pathlib.Path, files: dict, ids: dict) -> None:
    """index.json: {split: [id of every row]}, read back, since TFDS shuffles what it packs."""
    import tensorflow_datasets as tfds

    built = tfds.builder_from_directory(str(records._tfds_directory(root)))
    index = {}
    for split in files:
        source = built.as_data_source(split=split)
        index[split] = [source[i]["id"].decode() for i in range(len(source))]
        assert sorted(index[split]) == sorted(ids[split])
    _write_json(root / "index.json", index)


def _inputs(source: Manifest, settings) -> str:
    keys = sorted(clips.key(item, settings, source.heads) for item in source.items)
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------- what it says
def _write_rejected(root: pathlib.Path, source: Manifest, reasons: dict[str, str]) -> None:
    with (root / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "split", "path", "reason"])
        for item in source.items:
            if item.id in reasons:
                table.writerow([item.id, item.split, item.path, reasons[item.id]])


def summary(info: records.Info, classes: collections.Counter, root: pathlib.Path) -> str:
    """N of M clips, per split and modality, a class histogram, and what to run next."""
    used, expected = sum(info.splits.values()), sum(info.expected.values())
    lines = [f"{info.name}: {used} of {expected} clips (fingerprint {info.fingerprint})"]
    for split in sorted(info.expected):
        n = info.splits.get(split, 0)
        have = info.modalities.get(split, {})
        parts = ", ".join(f"{m} {c} of {n}" for m, c in have.items() if c)
        lines.append(f"  {split:8s} {n} of {info.expected[split]}: {parts}")
    for head, spec in info.heads.items():
        counts = [(classes[head, i], name) for i, name in enumerate(spec["names"])]
        top = max(max(c for c, _ in counts), 1)
        lines.append(f"  {head}: {spec['classes']} classes")
        for count, name in counts[:40]:
            lines.append(f"    {name[:32]:32s} {'#' * round(30 * count / top):30s} {count}")
        if len(counts) > 40:
            lines.append(f"    ... and {len(counts) - 40} more; the rarest has {min(counts)[0]}")
    if used < expected:
        lines.append(f"  {expected - used} rejected, reasons in {root / 'rejected.csv'}")
    variant = "" if info.name.startswith("tabletop") else ":ssv2" if info.name == "ssv2" else ":own"
    lines.append(
        f"next: python -m mmvid.main --config=configs/mml.py{variant} "
        f"--config.dataset.path={root} --workdir=runs/{root.name}"
    )
    return "\n".join(lines)


def _up_to_date(root: pathlib.Path, source: Manifest, settings) -> bool:
    path = root / "metadata.json"
    if not path.exists():
        return False
    return json.loads(path.read_text())["settings"].get("inputs") == _inputs(source, settings)


def main(argv: list[str] | None = None) -> int:
    """Builds; 0 when a dataset is there, 1 when not (or with --strict when a clip is rejected)."""
    args = parse(argv)
    try:
        source, settings = _source(args), _settings(args)
        args.out.mkdir(parents=True, exist_ok=True)
        if _up_to_date(args.out, source, settings):
            print(f"{args.out} is up to date: nothing to do")
            return 0
        reasons = stage_one(
            source, settings, args.out / "work", workers=args.workers,
            beam_options=args.beam_options,
        )  # fmt: skip
        _write_rejected(args.out, source, reasons)
        if reasons and args.strict:
            first = next(iter(reasons.items()))
            print(f"--strict: {len(reasons)} clips rejected, first {first[0]}: {first[1]}; "
                  f"all in {args.out / 'rejected.csv'}", file=sys.stderr)  # fmt: skip
            return 1
        info, classes = stage_two(source, settings, args.out, reasons)
    except (ValueError, FileNotFoundError) as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 1
    print(summary(info, classes, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
