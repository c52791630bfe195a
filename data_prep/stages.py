"""The two stages of a build: every clip into a file of its own, then all of them into a dataset."""

import collections
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import pathlib

from tqdm import tqdm

from data_prep import checks, clips
from data_prep.manifest import Item, Manifest
from mmvid.data import records
from mmvid.data.media.files import DecodeError
from mmvid.files import write_json


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
        except DecodeError as error:
            reasons[item.id] = str(error)
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.tmp"):
        stale.unlink()
    there = set(os.listdir(directory))
    wanted = [(i, keys[i.id]) for i in source.items if i.id not in reasons]
    jobs = [(item, key) for item, key in wanted if f"{key}.pkl" not in there]
    if jobs and beam_options is not None:
        from data_prep import beam

        beam.prepare(jobs, settings, directory, beam_options)
    elif jobs:
        _pool(jobs, settings, directory, workers)
    there = set(os.listdir(directory))
    return reasons | {
        item.id: (directory / f"{key}.rejected").read_text("utf-8")
        for item, key in wanted if f"{key}.pkl" not in there
    }  # fmt: skip


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
    further = {"inputs": inputs(source, keys)} | _depth_range(files, rows) | ({"notes": notes} if notes else {})
    info = records.Info(
        name=source.name, version=records.SCHEMA, heads=heads,
        splits={split: len(paths) for split, paths in files.items()},
        expected=dict(collections.Counter(item.split for item in source.items)),
        modalities=modalities,
        fingerprint=records.fingerprint([[r.id, r.split, r.labels, r.shape[0], r.checksum] for r in rows], stored),
        height=height, width=width, fps=fps, settings=stored | further,
        classes=classes,
    )  # fmt: skip
    write_json(root / "index.json", {s: [r.id for r in rows if r.split == s] for s in files})
    write_json(root / "metadata.json", info._asdict())
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


def inputs(source: Manifest, keys: dict[str, str]) -> str:
    """Sixteen digits that change with any clip, label, split, class or setting."""
    rows = sorted([keys[i.id], i.split, i.labels] for i in source.items)
    text = json.dumps([rows, source.heads], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
