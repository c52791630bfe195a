"""What data_prep says of a dataset: counts, a histogram, what was rejected, what to run next."""

import csv
import pathlib
from collections.abc import Iterator

from data_prep import ntu
from data_prep.manifest import Manifest
from mmvid.data import records

# Those that configs/dmcl.py has a variant for.
WITH_DEPTH = ("nwucla", "uwa3d", *ntu.ACTIONS)


def write_rejected(root: pathlib.Path, source: Manifest, reasons: dict[str, str]) -> None:
    """Writes ``root/rejected.csv``: id, split, path and reason of every clip that cannot be used."""
    with (root / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "split", "path", "reason"])
        for item in source.items:
            if item.id in reasons:
                table.writerow([item.id, item.split, item.path, reasons[item.id]])


def _histogram(info: records.Info) -> Iterator[str]:
    for head, spec in info.heads.items():
        counts = list(zip(info.classes[head], spec["names"]))
        top = max([c for c, _ in counts], default=1) or 1
        yield f"  {head}: {spec['classes']} classes"
        for count, name in counts[:40]:
            yield f"    {name[:32]:32s} {'#' * round(30 * count / top):30s} {count}"
        if len(counts) > 40:
            yield f"    ... and {len(counts) - 40} more; the rarest has {min(counts)[0]}"


def _variant(info: records.Info) -> str:
    """Of configs/dmcl.py: 'ntu120_mini' of 'ntu120_mini-1', '' of Tabletop."""
    dataset = info.name.split("-")[0]
    return f":{dataset}" if dataset in WITH_DEPTH else "" if dataset == "tabletop" else ":own"


def has_depth(info: records.Info) -> bool:
    """Whether any clip has depth."""
    return any(have.get("depth") for have in info.modalities.values())


def _next(info: records.Info, root: pathlib.Path) -> Iterator[str]:
    if "train" not in info.splits or "val" not in info.splits:
        yield f"note: training reads the splits 'train' and 'val'; there are {sorted(info.splits)}"
    if not info.modalities.get("train", {}).get("flow") and info.name != "tabletop-stills":
        yield "note: configs/mml.py learns from optical flow, and there is none: build without --flow none"
    own = "" if info.name.startswith("tabletop") else ":own"
    variant = ":ssv2" if info.name == "ssv2" else own
    if info.name != "tabletop-stills":
        yield (
            f"next: python -m mmvid.main --config=configs/mml.py{variant} "
            f"--config.dataset.path={root} --workdir=runs/{root.name}"
            + ("" if "test" in info.splits or info.name == "ssv2" else " --config.evaluation.splits=\"('val',)\"")
        )
    if has_depth(info):
        yield (
            f"  or: python -m mmvid.main --config=configs/dmcl.py{_variant(info)} "
            f"--config.dataset.path={root} --workdir=runs/{root.name}-dmcl"
        )


def of(info: records.Info, root: pathlib.Path) -> str:
    """N of M clips, per split and modality, a class histogram, and what to run next."""
    used, expected = sum(info.splits.values()), sum(info.expected.values())
    lines = [f"{info.name}: {used} of {expected} clips (fingerprint {info.fingerprint})"]
    for split in sorted(info.expected):
        n = info.splits.get(split, 0)
        have = info.modalities.get(split, {})
        parts = ", ".join(f"{m} {c} of {n}" for m, c in have.items() if c)
        lines.append(f"  {split:8s} {n} of {info.expected[split]}: {parts or 'nothing'}")
    lines += _histogram(info)
    if used < expected:
        lines.append(f"  {expected - used} rejected, reasons in {root / 'rejected.csv'}")
    return "\n".join([*lines, *_next(info, root)])
