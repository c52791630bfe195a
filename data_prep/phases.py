"""The two phases of a build: every clip into a file of its own, then all of them into a dataset."""

import collections
import concurrent.futures
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
from collections.abc import Iterator

from tqdm import tqdm

from data_prep import checks, clips
from data_prep.manifest import Item, Manifest
from mmvid.data import labels, records
from mmvid.data.media import record
from mmvid.data.media.files import DecodeError
from mmvid.files import write_json

# Clips that wait for each worker of the pool.
AHEAD = 64


def _start_worker(cache: str) -> None:
    """Sets up a worker of the pool before JAX starts in it: it uses one core, for the pool is the parallelism."""
    os.environ.update(NPROC="1", OMP_NUM_THREADS="1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # TV-L1 takes seconds to compile for every size of frame: once for all workers and runs.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


# ---------------------------------------------------------------------------- phase 1
def _pool(jobs: list[tuple[Item, str]], settings: record.Settings, directory: pathlib.Path, workers: int) -> None:
    """Prepares ``jobs`` (clip, file name) on ``workers`` processes. Raises ValueError where one dies."""
    context = multiprocessing.get_context("spawn")  # JAX must not be forked
    setup = (context, _start_worker, (str(directory / "jax-cache"),))
    bar = tqdm(total=len(jobs), desc="decode, flow", unit="clip", dynamic_ncols=True)
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(jobs)), *setup)
    refused = 0
    try:
        for reason in _results(pool, jobs, settings, directory, AHEAD * workers):
            refused += bool(reason)
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


def _results(pool, jobs: list, settings: record.Settings, directory: pathlib.Path, ahead: int) -> Iterator[str]:
    """Yields what becomes of every job, as they end. Only ``ahead`` of them are with the pool, which holds what
    it is given in memory."""
    waiting, rest = set(), iter(jobs)
    while True:
        more = itertools.islice(rest, ahead - len(waiting))
        waiting |= {pool.submit(clips.write, *job, settings, directory) for job in more}
        if not waiting:
            return
        done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _refused_labels(source: Manifest) -> dict[str, str]:
    """Returns {id: reason} of the clips that have a label which is no class of its head."""
    reasons = {}
    for item in source.items:
        try:
            clips.encode_labels(item, source.heads)
        except DecodeError as error:
            reasons[item.id] = str(error)
    return reasons


def prepare_clips(
    source: Manifest,
    keys: dict[str, str],
    settings: record.Settings,
    directory: pathlib.Path,
    *,
    workers: int = 2,
    beam_options: str | None = None,
) -> dict[str, str]:
    """Prepares into ``directory`` every clip that is missing there, and tries rejected ones again.

    ``keys`` are those of `clips.keys`. Returns {id: reason} of the clips that are rejected, be it for their
    files or for their labels.
    """
    reasons = _refused_labels(source)
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.tmp"):  # of workers that were killed
        stale.unlink()
    wanted = [(item, keys[item.id]) for item in source.items if item.id not in reasons]
    # One listing, as a file system on the network answers a hundred thousand questions slowly.
    there = set(os.listdir(directory))
    # By key: a clip that is in two splits is prepared once.
    jobs = list({key: (item, key) for item, key in wanted if f"{key}.pkl" not in there}.values())
    if jobs and beam_options is not None:
        from data_prep import beam  # it is not installed everywhere

        beam.prepare(jobs, settings, directory, beam_options)
    elif jobs:
        _pool(jobs, settings, directory, workers)
    there = set(os.listdir(directory))
    for item, key in wanted:
        if f"{key}.pkl" not in there:
            reasons[item.id] = (directory / f"{key}.rejected").read_text("utf-8")
    return reasons


# ---------------------------------------------------------------------------- phase 2
Files = dict[str, list[tuple[pathlib.Path, dict]]]


def _to_pack(source: Manifest, keys: dict[str, str], directory: pathlib.Path, reasons: dict[str, str]) -> Files:
    """Lists what is to be packed: {split: [(prepared clip, its split and labels)]}, splits and clips in order of
    their names."""
    files: Files = {}
    for item in sorted(source.items, key=lambda item: (item.split, item.id)):
        if item.id not in reasons:
            further = {"split": item.split, "label": clips.encode_labels(item, source.heads)}
            files.setdefault(item.split, []).append((directory / f"{keys[item.id]}.pkl", further))
    return files


def _info(source: Manifest, settings: record.Settings, rows: list, further: dict) -> records.Info:
    """Makes what metadata.json says of the packed clips ``rows``. The entries of ``further`` stand among its
    settings, but are no part of the fingerprint."""
    from data_prep import builder

    modalities, classes = builder.count(rows, source.heads)
    heads = {
        name: {"classes": len(spec["names"]), "kind": spec["kind"], "names": spec["names"]}
        for name, spec in source.heads.items()
    }
    # Of the clips, what most of them have.
    height, width, fps = collections.Counter(row.shape[1:] for row in rows).most_common(1)[0][0]
    stored = settings._asdict()
    facts = [[row.id, row.split, row.labels, row.shape[0], row.checksum] for row in rows]
    return records.Info(
        name=source.name,
        version=records.SCHEMA,
        heads=heads,
        splits=dict(collections.Counter(row.split for row in rows)),
        expected=dict(collections.Counter(item.split for item in source.items)),
        modalities=modalities,
        fingerprint=records.fingerprint(facts, stored),
        height=height,
        width=width,
        fps=fps,
        settings=stored | further,
        classes=classes,
        split_classes={
            name: builder.count([row for row in rows if row.split == name], source.heads)[1] for name in modalities
        },
    )


def pack_dataset(
    source: Manifest,
    keys: dict[str, str],
    settings: record.Settings,
    root: pathlib.Path,
    reasons: dict[str, str],
) -> records.Info:
    """Packs the prepared clips into ``root`` and writes metadata.json last: without it there is no dataset.

    Raises ValueError where no clip is left, or where the packed clips would make a score false.
    """
    from data_prep import builder  # TFDS takes seconds to import, and a build that is up to date needs none

    files = _to_pack(source, keys, root / "prepared", reasons)
    if not files:
        raise ValueError(f"no clip could be used; the reasons are in {root / 'rejected.csv'}")
    notes: list[str] = []
    rows = builder.pack(files, source.heads, root, lambda rows: notes.extend(_found_in(rows, source.heads)))
    further = {"inputs": inputs(source, keys)} | _depth_range(files, rows)
    if notes:
        further["notes"] = notes
    if source.edition:
        further["edition"] = source.edition
    info = _info(source, settings, rows, further)
    write_json(root / "index.json", {split: [r.id for r in rows if r.split == split] for split in files})
    kept = {
        split: {head: [row.labels[head] for row in rows if row.split == split] for head in source.heads}
        for split in files
    }
    labels.save(root, info.fingerprint, {name: spec["kind"] for name, spec in source.heads.items()}, kept)
    write_json(root / "metadata.json", info._asdict())
    return info


def _found_in(facts: list, heads: dict[str, dict]) -> list[str]:
    """Makes notes on the labels and splits of packed clips. Raises ValueError where a score would be false."""
    from data_prep import builder

    def classes(head, value):
        spec = heads[head]
        return tuple(spec["names"][i] for i in builder.classes_of(value, spec["kind"]))

    rows = [checks.Row(f.id, f.split, {h: classes(h, v) for h, v in f.labels.items()}, f.content) for f in facts]
    return checks.of_clips(rows, heads)


def _depth_range(files: dict[str, list], rows: list) -> dict[str, list[float]]:
    """Measures {'depth_range': [near, far]} in metres, the range that the loader maps to 1..255, over the training
    clips, or over all where none of these has depth. {} where there is no depth."""
    from data_prep import builder

    with_depth: dict[str, list[pathlib.Path]] = {}
    # Clips were packed in the order of ``files``.
    paths = [path for split in files for path, _ in files[split]]
    for path, row in zip(paths, rows, strict=True):
        if "depth" in row.modalities:
            with_depth.setdefault(row.split, []).append(path)
    chosen = with_depth.get("train") or [path for paths in with_depth.values() for path in paths]
    return {"depth_range": list(builder.depth_range(chosen))} if chosen else {}


# ---------------------------------------------------------------------------- is it done already
def inputs(source: Manifest, keys: dict[str, str]) -> str:
    """Returns sixteen digits that change with any clip, label, split, class or setting."""
    rows = sorted([keys[i.id], i.split, i.labels] for i in source.items)
    text = json.dumps([rows, source.heads], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def packed(root: pathlib.Path, inputs: str) -> records.Info | None:
    """Reads what metadata.json says of the dataset at ``root``; None where there is no dataset, or one that was
    made from other ``inputs``."""
    try:
        info = records.open_dataset(root).info
    except (FileNotFoundError, ValueError):
        return None
    # Datasets of an older mmvid lack the clips of every class, or how far depth reads.
    has_depth = any(have.get("depth") for have in info.modalities.values())
    complete = info.classes and ("depth_range" in info.settings or not has_depth)
    return info if complete and info.settings.get("inputs") == inputs else None
